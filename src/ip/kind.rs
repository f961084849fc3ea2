//! Predicates that IP's files and the datagram protocols share: which kind of socket this is, and which kind of address
//! a name is. Linux:
//! __ipv6_addr_needs_scope_id, sk_mc_loop.

use crate::sock::{Sock, SockCommon, flag, ip_flag};
use crate::wire::addr::is_link_local_v6;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Whether it is a socket of UDP.
pub(super) fn is_udp(sock: &Sock) -> bool {
    sock.ty == libc::SOCK_DGRAM as u16 && sock.protocol == libc::IPPROTO_UDP as u16
}

/// Whether it is an ICMP echo socket.
pub(super) fn is_ping(sock: &Sock) -> bool {
    let icmp = [libc::IPPROTO_ICMP as u16, libc::IPPROTO_ICMPV6 as u16];
    sock.ty == libc::SOCK_DGRAM as u16 && icmp.contains(&sock.protocol)
}

/// An end of a packet or a socket as a name: an address of a link carries its interface.
pub fn name_of(ip: IpAddr, port: u16, ifindex: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(a) if needs_scope(a) => SocketAddr::V6(SocketAddrV6::new(a, port, 0, ifindex)),
        _ => SocketAddr::new(ip, port),
    }
}

/// Whether this host gets what the socket sends to a group (sk_mc_loop).
pub(crate) fn loops(c: &SockCommon, v4: bool) -> bool {
    if v4 { c.flag(flag::MULTICAST_LOOP) } else { c.ip_flags & ip_flag::NOT_MULTICAST_LOOP6 == 0 }
}

/// Whether a socket of IPv4 sends from any address: IP_FREEBIND lets one be bound, but not sent from
/// (inet_sk_flowi_flags).
pub(crate) fn any_source(c: &SockCommon) -> bool {
    c.flag(flag::TRANSPARENT | flag::HDRINCL)
}

/// The interface that a link-local address names; 0: none.
pub(super) fn scope_of(to: SocketAddr) -> u32 {
    match to {
        SocketAddr::V6(a) if needs_scope(*a.ip()) => a.scope_id(),
        _ => 0,
    }
}

/// Link-local, or a group of the link or of the interface (__ipv6_addr_needs_scope_id).
pub fn needs_scope(a: Ipv6Addr) -> bool {
    is_link_local_v6(a) || a.is_multicast() && matches!(a.segments()[0] & 0xf, 1 | 2)
}
