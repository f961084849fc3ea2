//! bind(2): which address and port a socket has. Above: `Proto::bind` of protocols with addresses and ports.
//! Below: the protocol's `get_port`. Linux: inet_bind, __inet6_bind.

use super::route;
use crate::base::error::{Error, Result};
use crate::sock::addr::{AF_INET6, unmap, unspecified};
use crate::sock::state::State;
use crate::sock::{SockGuard, flag};
use crate::stack::Stack;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

/// Whether the socket may be bound to an address that is not this host's (inet_can_nonlocal_bind,
/// ipv6_can_nonlocal_bind).
pub(crate) fn may_be_foreign(g: &SockGuard<'_>, ip: IpAddr) -> bool {
    g.common.flag(flag::FREEBIND)
        || g.common.flag(flag::TRANSPARENT)
        || match ip {
            IpAddr::V4(_) => g.stack.sysctl.ip_nonlocal_bind(),
            IpAddr::V6(_) => g.stack.sysctl.ip6_nonlocal_bind(),
        }
}

/// Whether who calls may not bind this port (inet_port_requires_bind_service, CAP_NET_BIND_SERVICE).
fn is_privileged(stack: &Stack, port: u16) -> bool {
    port != 0 && i32::from(port) < stack.sysctl.ip_unprivileged_port_start() && !stack.net_bind_service()
}

/// Whether the socket may be bound to this port. Errors: EACCES (`ip_unprivileged_port_start`), EINVAL (it is bound
/// already, or connected).
fn may_take(g: &SockGuard<'_>, port: u16) -> Result<()> {
    let raw = g.sock.ty == libc::SOCK_RAW as u16;
    // An identifier of ping is no port (ping_bind).
    if is_privileged(g.stack, port) && !raw && !super::kind::is_ping(g.sock) {
        return Err(Error::Acces);
    }
    if g.sock.state() != State::Close || (g.common.num() != 0 && !raw) {
        return Err(Error::Inval);
    }
    Ok(())
}

/// The interface that an address given to a socket of IPv6 is on: one of a link needs its link (RFC 4007 §6). `mapped`:
/// it is a v4-mapped one, which is of no link. Errors: EINVAL (a link's address without it), ENODEV.
pub(crate) fn take_scope(g: &mut SockGuard<'_>, addr: SocketAddrV6, mapped: bool) -> Result<()> {
    if !mapped && addr.ip().is_unspecified() {
        return Ok(());
    }
    if !mapped && super::kind::needs_scope(*addr.ip()) {
        if addr.scope_id() != 0 {
            g.common.bound_dev_if = addr.scope_id();
        }
        if g.common.bound_dev_if == 0 {
            return Err(Error::Inval);
        }
    }
    if g.common.bound_dev_if != 0 {
        g.stack.netdevs.by_index(g.common.bound_dev_if).ok_or(Error::NoDev)?;
    }
    Ok(())
}

/// What bind(2) is for protocols with addresses and ports (inet_bind). The address is of the sock's family. Process
/// context, owned. Errors: EINVAL (already bound, or v4-mapped on a v6-only socket), EADDRNOTAVAIL (not an address of
/// this stack), EACCES (`ip_unprivileged_port_start`), EADDRINUSE.
pub fn bind(g: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
    let (sock, stack) = (g.sock, g.stack);
    let local = unmap(addr);
    let mapped = local.is_ipv4() && addr.is_ipv6();
    if mapped && g.common.flag(flag::V6ONLY) {
        return Err(Error::Inval);
    }
    let mut ip = local.ip();
    if ip.is_multicast() && ip.is_ipv6() && sock.ty == libc::SOCK_STREAM as u16 {
        return Err(Error::Inval);
    }
    // A socket of IPv6 is told of the port, and that it is bound already, whatever the address is, one of IPv4 only for
    // a good one.
    if let SocketAddr::V6(v6) = addr {
        may_take(g, local.port())?;
        take_scope(g, v6, mapped)?;
    }
    let nonlocal = may_be_foreign(g, ip);
    let is_group = ip.is_multicast() || super::net(stack).routes.is_broadcast(ip);
    if !ip.is_unspecified() && !nonlocal && !is_group && !route::is_local(stack, ip) {
        return Err(Error::AddrNotAvail);
    }
    may_take(g, local.port())?;
    if mapped && ip.is_unspecified() {
        // ::ffff:0.0.0.0 is any IPv4 address.
        ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    }
    let v6only = g.common.flag(flag::V6ONLY);
    g.common.rcv_saddr = ip;
    // A group is no source; a v4-mapped one fails when it comes to send (__inet6_bind).
    g.common.saddr = if is_group && !mapped { unspecified(sock.family) } else { ip };
    if ip.is_ipv6() && !ip.is_unspecified() {
        // Bound to an address of IPv6 it is of that family alone (__inet6_bind).
        g.common.set_flag(flag::V6ONLY, true);
    }
    let proto = sock.proto();
    // IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, where more of them are free.
    let now = local.port() != 0 || !g.common.flag(flag::BIND_NO_PORT) || super::kind::is_ping(sock);
    if now
        && sock.ty != libc::SOCK_RAW as u16
        && let Err(e) = proto.get_port(g, local.port())
    {
        // Also an address that an ended connection left (inet_reset_saddr).
        (g.common.rcv_saddr, g.common.saddr) = (unspecified(sock.family), unspecified(sock.family));
        g.common.set_flag(flag::V6ONLY, v6only);
        return Err(e);
    }
    // None is left of an ended connection.
    g.common.sport = g.common.num();
    // Any address of IPv4 is one of IPv6's that the program named.
    if !addr.ip().is_unspecified() {
        g.common.set_flag(flag::BINDADDR_LOCK, true);
    }
    if local.port() != 0 {
        g.common.set_flag(flag::BINDPORT_LOCK, true);
    }
    g.common.daddr = unspecified(sock.family);
    g.common.dport = 0;
    if sock.family != AF_INET6 {
        // A sock of IPv6 shows the path of its last connection on (IPV6_MTU).
        g.common.dst = None;
    }
    Ok(())
}
