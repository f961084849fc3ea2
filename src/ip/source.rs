//! The source address of a datagram to where the socket sends all the time: known without asking the routes again.
//! Above: protocols that are plugged in, whose checksum needs it before the packet is sent. Beside: `plan::plan`,
//! which decides it, and decides again when the packet is sent. Linux: the route that a connected sock caches
//! (sk_dst_check).

use super::plan::Plan;
use crate::sock::SockGuard;
use crate::sock::state::State;
use std::net::{IpAddr, SocketAddr};

/// What `plan` decided for the last destination, and all that it decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSource {
    to: IpAddr,
    own: IpAddr,
    dev_if: u32,
    generation: u64,
    src: IpAddr,
}

impl LastSource {
    /// Keeps what was decided for `to`, of a call without control messages. None: it depends on more than a
    /// destination (a group, an address of a link, options that few sockets have).
    pub fn of(g: &SockGuard<'_>, to: SocketAddr, plan: &Plan) -> Option<LastSource> {
        let scoped = matches!(to, SocketAddr::V6(a) if a.scope_id() != 0);
        let c = &g.common;
        if to.ip().is_multicast() || scoped || c.ip_more.is_some() {
            return None;
        }
        let generation = plan.dst.generation;
        Some(LastSource { to: to.ip(), own: c.saddr, dev_if: c.bound_dev_if, generation, src: plan.src })
    }
}

/// The source of a datagram to `to`, of a call without control messages. None: it is not known, and is `plan`'s.
#[inline]
pub fn known(g: &SockGuard<'_>, to: SocketAddr, last: Option<&LastSource>) -> Option<IpAddr> {
    let (c, ip) = (&g.common, to.ip());
    if g.sock.state() == State::Established && c.daddr == ip {
        let usable = |a: &IpAddr| a.is_ipv4() == ip.is_ipv4() && !a.is_unspecified() && !a.is_multicast();
        let cached = c.dst.as_ref().is_some_and(|d| d.check(g.stack));
        return Some(c.saddr).filter(|own| cached && usable(own));
    }
    let last = last?;
    let same = last.to == ip
        && last.own == c.saddr
        && last.dev_if == c.bound_dev_if
        && last.generation == g.stack.rt_genid()
        && c.ip_more.is_none();
    same.then_some(last.src)
}
