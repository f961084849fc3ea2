//! Address families, and v4-mapped addresses on AF_INET6 sockets. Above: everything that passes an address to or from a
//! program. Linux: ipv6_addr_set_v4mapped, ipv6_mapped_addr_any.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// AF_UNSPEC as a name's family.
pub(crate) const AF_UNSPEC: u16 = libc::AF_UNSPEC as u16;
/// AF_INET as the sock stores it.
pub const AF_INET: u16 = libc::AF_INET as u16;
/// AF_INET6.
pub const AF_INET6: u16 = libc::AF_INET6 as u16;

/// Least length of a name of AF_INET6, bytes: one without scope.
pub const SIN6_LEN_RFC2133: usize = 24;

/// `a` with a v4-mapped IPv6 address converted to IPv4.
pub fn unmap(a: SocketAddr) -> SocketAddr {
    match a {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => a,
        },
        SocketAddr::V4(_) => a,
    }
}

/// `a` as a socket of `family` reports it: an AF_INET6 socket reports IPv4 addresses v4-mapped.
pub(crate) fn to_family(a: SocketAddr, family: u16) -> SocketAddr {
    match a {
        SocketAddr::V4(v4) if family == AF_INET6 => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        _ => a,
    }
}

/// The wildcard address of a family.
pub(crate) fn unspecified(family: u16) -> IpAddr {
    if family == AF_INET6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}
