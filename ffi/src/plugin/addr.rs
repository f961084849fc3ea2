//! `usk_addr_t`: an address and a port, as plug-ins see them. The library itself uses the types of `std::net`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use usersock::error::{Error, Result};

/// An address and a port: `family` is AF_INET with the first 4 bytes of `addr`, or AF_INET6 with all 16, both in
/// network order; `port` is in host order; `scope_id` is the interface of a link-local address.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct usk_addr_t {
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// Host order.
    pub port: u16,
    /// Interface of a link-local address, else 0.
    pub scope_id: u32,
    /// Network order; an IPv4 address is the first 4 bytes, the others are 0.
    pub addr: [u8; 16],
}

impl From<SocketAddr> for usk_addr_t {
    fn from(a: SocketAddr) -> usk_addr_t {
        let mut addr = [0; 16];
        let (family, scope_id) = match a {
            SocketAddr::V4(v4) => {
                addr[..4].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, 0)
            }
            SocketAddr::V6(v6) => {
                addr = v6.ip().octets();
                (libc::AF_INET6, v6.scope_id())
            }
        };
        usk_addr_t { family: family as u16, port: a.port(), scope_id, addr }
    }
}

impl usk_addr_t {
    pub(crate) fn of(ip: IpAddr, port: u16) -> usk_addr_t {
        SocketAddr::new(ip, port).into()
    }

    /// EAFNOSUPPORT for another family.
    pub(crate) fn to_socket_addr(self) -> Result<SocketAddr> {
        let a = self.addr;
        match i32::from(self.family) {
            libc::AF_INET => Ok(SocketAddr::new(Ipv4Addr::new(a[0], a[1], a[2], a[3]).into(), self.port)),
            libc::AF_INET6 => Ok(SocketAddrV6::new(Ipv6Addr::from(a), self.port, 0, self.scope_id).into()),
            _ => Err(Error::AfNoSupport),
        }
    }
}
