//! bind(2) of raw sockets: an address alone, as often as the program likes while there is no peer. Linux: raw_bind,
//! rawv6_bind.

use crate::base::error::{Error, Result};
use crate::ip::bind::{may_be_foreign, take_scope};
use crate::ip::{net, route};
use crate::sock::SockGuard;
use crate::sock::state::State;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV6};

/// Errors: EINVAL (connected), EADDRNOTAVAIL.
pub(super) fn v4(g: &mut SockGuard<'_>, addr: Ipv4Addr) -> Result<()> {
    if g.sock.state() != State::Close {
        return Err(Error::Inval);
    }
    let ip = IpAddr::V4(addr);
    let group = addr.is_multicast() || net(g.stack).routes.is_broadcast(ip);
    if !addr.is_unspecified() && !group && !may_be_foreign(g, ip) && !route::is_local(g.stack, ip) {
        return Err(Error::AddrNotAvail);
    }
    // A group is no source.
    take(g, ip, Some(if group { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { ip }));
    Ok(())
}

/// Errors: EADDRNOTAVAIL (also for a v4-mapped address), EINVAL (connected; an address of a link without its link),
/// ENODEV.
pub(super) fn v6(g: &mut SockGuard<'_>, addr: SocketAddrV6) -> Result<()> {
    let ip = *addr.ip();
    if ip.to_ipv4_mapped().is_some() {
        return Err(Error::AddrNotAvail);
    }
    if g.sock.state() != State::Close {
        return Err(Error::Inval);
    }
    take_scope(g, addr, false)?;
    let foreign = may_be_foreign(g, ip.into());
    if !ip.is_unspecified() && !ip.is_multicast() && !foreign && !route::is_local(g.stack, ip.into()) {
        return Err(Error::AddrNotAvail);
    }
    // Of a group the source stays what it was.
    take(g, ip.into(), Some(ip.into()).filter(|_| !ip.is_multicast()));
    Ok(())
}

fn take(g: &mut SockGuard<'_>, rcv_saddr: IpAddr, saddr: Option<IpAddr>) {
    g.common.rcv_saddr = rcv_saddr;
    g.common.saddr = saddr.unwrap_or(g.common.saddr);
    g.common.dst = None;
}
