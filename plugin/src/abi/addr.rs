//! `usk_addr_t` and the addresses of `std::net`.

use crate::sys::usk_addr_t;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

pub(crate) const NONE: usk_addr_t = usk_addr_t { family: 0, port: 0, scope_id: 0, addr: [0; 16] };

pub(crate) fn to_c(addr: SocketAddr) -> usk_addr_t {
    let mut bytes = [0; 16];
    match addr {
        SocketAddr::V4(a) => {
            bytes[..4].copy_from_slice(&a.ip().octets());
            usk_addr_t { family: AF_INET, port: a.port(), scope_id: 0, addr: bytes }
        }
        SocketAddr::V6(a) => {
            usk_addr_t { family: AF_INET6, port: a.port(), scope_id: a.scope_id(), addr: a.ip().octets() }
        }
    }
}

/// None: family 0, or one that is not IP.
pub(crate) fn from_c(addr: &usk_addr_t) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = addr.addr;
    match addr.family {
        AF_INET => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), addr.port)),
        AF_INET6 => Some(SocketAddrV6::new(Ipv6Addr::from(addr.addr), addr.port, 0, addr.scope_id).into()),
        _ => None,
    }
}

/// Of an address that the library always gives; the unspecified one if it did not.
pub(crate) fn given(addr: &usk_addr_t) -> SocketAddr {
    from_c(addr).unwrap_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["10.0.0.1:80", "0.0.0.0:0", "[2001:db8::1]:65535", "[fe80::1%7]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(from_c(&to_c(addr)), Some(addr), "{text}");
        }
        assert_eq!(from_c(&NONE), None);
        assert_eq!(to_c("10.0.0.1:80".parse().unwrap()).addr[..5], [10, 0, 0, 1, 0]);
    }
}
