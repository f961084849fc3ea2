//! Active open: route, source address, port, initial numbers. Also bind's choice of a port, and the tables a sock
//! enters and leaves. Above: `proto` (connect, get_port). Below: `ip::route`, `lookup`, `tcp::control::connect`. Called
//! in process context with the sock owned. RFC 9293 §3.10.1; RFC 6056 §3.3.4 (ports), RFC 6528 (ISN), RFC 6191
//! (time-wait ports). Linux: tcp_v4_connect, __inet_hash_connect, inet_csk_get_port, tcp_twsk_unique.

use super::bhash::{Bound, Holder};
use super::lookup::{Entry, hash_of_sock, tuple_of_sock};
use super::tcb::{Cx, MSS_DEFAULT};
use super::timewait::{self, Taken, TimeWait};
use super::{close, control, fastopen, listener, metrics, segment, set_state};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::ip;
use crate::ip::sockopt::own::{has_port_range, port_range};
use crate::sock::addr::AF_INET6;
use crate::sock::addr::unspecified;
use crate::sock::dst::DstKind;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{flag, ip_flag};
use crate::stack::Stack;
use crate::wire::addr::is_link_local_v6;
use crate::wire::seq::SeqNum;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// MSS assumed of an IPv6 peer that names none: 1280 less headers (RFC 9293 §3.7.1).
pub(super) const MSS_DEFAULT_V6: u16 = 1220;

/// The MSS a peer of this family is taken to have until it says more.
pub(super) fn default_mss(peer: IpAddr) -> u16 {
    if peer.is_ipv6() { MSS_DEFAULT_V6 } else { MSS_DEFAULT }
}

/// Starts a connection to `addr` (family checked, v4-mapped undone). Errors: ENETUNREACH, EADDRNOTAVAIL (no port left,
/// or the 4-tuple is taken), EINVAL (a link-local address without its link), and what sending the SYN says.
pub fn connect(cx: &mut Cx<'_>, addr: SocketAddr) -> Result<()> {
    let bound = (!cx.sk.saddr.is_unspecified()).then_some(cx.sk.saddr);
    // An address of IPv6 does not stand in the way of a connection over IPv4, which has a variable of its own in Linux;
    // the other way round is refused below.
    let bound = bound.filter(|own| own.is_ipv4() || addr.is_ipv6());
    let own = bound.filter(|own| own.is_ipv4() == addr.is_ipv4());
    let flowinfo = ip::flowlabel::of_stream(cx.stack, cx.sk, cx.now, addr)?;
    let peer = ip::route::this_host(cx.stack, addr.ip(), own, cx.sk.bound_dev_if);
    scope(cx, addr)?;
    if peer.is_ipv4() && cx.sock.family == AF_INET6 && cx.sk.flag(flag::V6ONLY) {
        return Err(Error::NetUnreach);
    }
    if own.is_some_and(|own| matches!(own, IpAddr::V4(a) if a.is_multicast() || a.is_broadcast() || a.octets()[0] == 0))
    {
        // A source that no packet may have; only a v4-mapped one comes as far (ip_route_output_key).
        return Err(Error::Inval);
    }
    if own.is_some_and(|own| own.is_ipv4() && !ip::route::is_local(cx.stack, own)) && !ip::kind::any_source(cx.sk) {
        // Bound by IP_FREEBIND to an address that is not this host's (ip_route_output_key).
        return Err(Error::NetUnreach);
    }
    let dst = segment::route_to(cx, peer, own)?;
    if cx.sock.family == AF_INET6 && cx.sk.rcv_saddr.is_ipv4() && peer.is_ipv6() {
        // A v4-mapped source to a peer of IPv6 (ip6_dst_lookup_tail).
        return Err(Error::AfNoSupport);
    }
    if peer.is_multicast() || matches!(dst.kind, DstKind::Broadcast | DstKind::Multicast) {
        return Err(Error::NetUnreach);
    }
    if bound.is_none() {
        cx.sk.saddr = dst.src;
        if cx.sk.rcv_saddr != dst.src {
            // Bound to any address, or to a broadcast one, it has this one now: others of the port are free
            // (inet_bhash2_update_saddr).
            cx.sk.rcv_saddr = dst.src;
            rehold(cx);
        }
    }
    if cx.tp.rx_opt.ts_recent_stamp != 0 && cx.sk.daddr != peer {
        // The peer is another one: TS.Recent of the last connection does not apply.
        cx.tp.rx_opt.ts_recent = 0;
        cx.tp.rx_opt.ts_recent_stamp = 0;
        if !cx.tp.repair {
            cx.tp.write_seq = SeqNum(0);
        }
    }
    cx.sk.daddr = peer;
    cx.sk.dport = addr.port();
    cx.sk.flow_label = flowinfo;
    cx.sk.dst = Some(dst);
    ip::socket_headers::settle_room(cx.sk);
    cx.tp.rx_opt.mss_clamp = default_mss(peer);
    let r = hash_connect(cx).and_then(|()| {
        let tuple = tuple_of_sock(cx.sk);
        if !cx.tp.repair {
            if cx.tp.write_seq == SeqNum(0) {
                cx.tp.write_seq = SeqNum(cx.stack.keys.isn(cx.now, &tuple));
            }
            cx.tp.tsoffset = ts_offset(cx.stack, || metrics::pair_of(cx).ts_offset);
        }
        segment::set_txhash(cx);
        if fastopen::client::defer_connect(cx) { Ok(()) } else { control::connect(cx, None) }
    });
    if r.is_err() {
        unconnect(cx);
    }
    r
}

/// Undoes [`connect`], which failed, now or when the SYN that it had deferred was to leave.
pub(super) fn unconnect(cx: &mut Cx<'_>) {
    // Setting the state also removes the sock from the tables and releases a chosen port.
    set_state(cx, State::Close);
    reset_saddr(cx);
    cx.sk.dport = 0;
    cx.sk.daddr = unspecified(cx.sock.family);
    cx.sk.dst = None;
}

/// A SYN is not sent again from an address that this host does not have any more (ip_route_output_key). Where
/// `ip_dynaddr` says so it takes the one that it has now, if the program did not bind it (inet_sk_reselect_saddr).
/// Errors: ENETUNREACH, and those of [`segment::route_to`].
pub(super) fn reselect_saddr(cx: &mut Cx<'_>) -> Result<()> {
    let old = cx.sk.saddr;
    if !old.is_ipv4() || ip::kind::any_source(cx.sk) || ip::route::is_local(cx.stack, old) {
        return Ok(());
    }
    if cx.stack.sysctl.ip_dynaddr() == 0 || cx.sk.flag(flag::BINDADDR_LOCK) {
        return Err(Error::NetUnreach);
    }
    let dst = segment::route_to(cx, cx.sk.daddr, None)?;
    let move_to = |cx: &mut Cx<'_>, own: IpAddr| {
        let sock = cx.sock.clone();
        let mine = |e: &Entry| matches!(e, Entry::Sock(s, _) if Arc::ptr_eq(s, &sock));
        drop(cx.tp.net.hashinfo.remove(hash_of_sock(cx.stack, cx.sk), mine));
        (cx.sk.saddr, cx.sk.rcv_saddr) = (own, own);
        cx.tp.peer_hash = 0;
        let entry = Entry::Sock(cx.sock.clone(), cx.sk.bound_dev_if);
        cx.tp.net.hashinfo.insert(hash_of_sock(cx.stack, cx.sk), entry, |_| false)
    };
    // Linux does not look whether another connection has the 4-tuple, and counts on luck.
    if !move_to(cx, dst.src) {
        move_to(cx, old);
        return Err(Error::NetUnreach);
    }
    segment::reset_dst(cx);
    cx.sk.dst = Some(dst);
    rehold(cx);
    Ok(())
}

/// A link-local peer is meaningful on a link only (RFC 4007 §6).
fn scope(cx: &mut Cx<'_>, addr: SocketAddr) -> Result<()> {
    let SocketAddr::V6(v6) = addr else { return Ok(()) };
    if !is_link_local_v6(*v6.ip()) {
        return Ok(());
    }
    match (v6.scope_id(), cx.sk.bound_dev_if) {
        (0, 0) => Err(Error::Inval),
        (0, _) => Ok(()),
        (s, b) if b != 0 && b != s => Err(Error::Inval),
        (s, _) => {
            cx.sk.bound_dev_if = s;
            Ok(())
        }
    }
}

/// Offset of the timestamp clock towards a peer: none where `tcp_timestamps` is 2 (RFC 7323 §5.4).
pub(super) fn ts_offset(stack: &Stack, of_pair: impl FnOnce() -> u32) -> u32 {
    if stack.sysctl.tcp_timestamps() != 1 { 0 } else { of_pair() }
}

/// Enters the tables as SYN_SENT, choosing a port if none is bound (__inet_hash_connect).
fn hash_connect(cx: &mut Cx<'_>) -> Result<()> {
    set_state(cx, State::SynSent);
    cx.tp.peer_hash = 0;
    if cx.sk.num() != 0 {
        let hash = hash_of_sock(cx.stack, cx.sk);
        return if try_tuple(cx, hash, true) { Ok(()) } else { Err(Error::AddrNotAvail) };
    }
    let stack = cx.stack;
    let Some(dst) = &cx.sk.dst else { return Err(Error::NetUnreach) };
    let secret = dst.port_offset(&stack.keys, cx.sk.saddr, cx.sk.daddr, cx.sk.dport);
    let holder = Holder::of(cx.sk, false, true);
    let left = cx.sk.sport;
    let (range, every) = (port_range(stack, cx.sk), has_port_range(cx.sk));
    let free = |port| {
        // A search may pass over thousands of ports: one whose 4-tuple is taken costs a look-up and no hold.
        let hash = cx.stack.keys.ehash64_of((cx.sk.saddr, port), (cx.sk.daddr, cx.sk.dport));
        if is_taken(cx, hash) {
            return false;
        }
        let Some(bound) = cx.tp.net.hashinfo.bhash.bind_for_connect(port, holder) else { return false };
        cx.sk.sport = port;
        if try_tuple(cx, hash, false) {
            hold(cx, bound);
            return true;
        }
        // Another thread was faster.
        cx.sk.sport = left;
        cx.tp.net.hashinfo.bhash.unbind(&bound);
        false
    };
    ip::ports::for_connect(stack, secret, range, every, free).map(|_| ()).ok_or(Error::AddrNotAvail)
}

/// The time-wait record whose place the sock's 4-tuple may take, and what it takes over. `bound`: the program chose the
/// port.
fn replaceable<'e>(cx: &Cx<'_>, entry: &'e Entry, bound: bool) -> Option<(&'e Arc<TimeWait>, Taken)> {
    let Entry::TimeWait(tw) = entry else { return None };
    let loopback = cx.sk.saddr.is_loopback() || cx.sk.daddr.is_loopback();
    Some((tw, tw.reusable(cx.stack, cx.now, loopback, bound)?))
}

/// Whether the 4-tuple of this hash is taken (__inet_check_established with rcu_lookup).
fn is_taken(cx: &Cx<'_>, hash: u64) -> bool {
    cx.tp.net.hashinfo.is_taken(hash, |e| replaceable(cx, e, false).is_some())
}

/// Enters the sock's 4-tuple by its hash, taking a time-wait record's place where that is safe. `bound`: the program
/// chose the port.
fn try_tuple(cx: &mut Cx<'_>, hash: u64, bound: bool) -> bool {
    let mut old = None;
    let entry = Entry::Sock(cx.sock.clone(), cx.sk.bound_dev_if);
    let done = cx.tp.net.hashinfo.insert(hash, entry, |e| {
        old = replaceable(cx, e, bound).map(|(tw, taken)| (tw.clone(), taken));
        old.is_some()
    });
    if let Some((tw, taken)) = old {
        if !cx.tp.repair {
            cx.tp.write_seq = taken.write_seq;
            cx.tp.rx_opt.ts_recent = taken.ts_recent;
            cx.tp.rx_opt.ts_recent_stamp = taken.ts_recent_stamp;
        }
        cx.stack.mib.inc(Mib::TcpExtTWRecycled);
        timewait::forget(&cx.tp.net, &tw);
    }
    done
}

/// Binds to `port`, or to one of the local range for 0; the address is in the sock already. EADDRINUSE.
pub fn get_port(cx: &mut Cx<'_>, port: u16) -> Result<()> {
    let holder = Holder::of(cx.sk, false, false);
    let bound = match port {
        0 => open_port(cx, holder),
        p => cx.tp.net.hashinfo.bhash.bind(p, holder),
    };
    hold(cx, bound.ok_or(Error::AddrInUse)?);
    Ok(())
}

/// The sock has a port.
pub(super) fn hold(cx: &mut Cx<'_>, bound: Bound) {
    cx.sk.sport = bound.port();
    cx.sk.ip_flags &= !ip_flag::PORT_LEFT;
    cx.tp.bound = Some(bound);
}

/// What others' conflicts with this sock's port depend on has changed: its options, its address, whether it listens.
/// Once in a SO_REUSEPORT group it stays there, as in Linux.
pub(super) fn rehold(cx: &mut Cx<'_>) {
    let Some(bound) = &cx.tp.bound else { return };
    let old = cx.tp.net.hashinfo.bhash.holder(bound);
    let mut holder = Holder::of(cx.sk, cx.state() == State::Listen, old.by_connect);
    holder.reuseport |= old.reuseport;
    if holder != old {
        cx.tp.bound = Some(cx.tp.net.hashinfo.bhash.rehold(bound, holder));
    }
}

/// Forgets an address that the program did not bind; the port is held on any address again (inet_bhash2_reset_saddr).
pub(super) fn reset_saddr(cx: &mut Cx<'_>) {
    if !cx.sk.flag(flag::BINDADDR_LOCK) {
        cx.sk.saddr = unspecified(cx.sock.family);
        cx.sk.rcv_saddr = unspecified(cx.sock.family);
        rehold(cx);
    }
}

/// Any free port (inet_csk_find_open_port); with SO_REUSEADDR the lower half of the range is searched first, which
/// leaves the upper one to socks that need a port of their own.
fn open_port(cx: &Cx<'_>, holder: Holder) -> Option<Bound> {
    let stack = cx.stack;
    let (low, high) = port_range(stack, cx.sk);
    let width = u32::from(high.saturating_sub(low)) + 1;
    let half = low.saturating_add(((width >> 2) << 1) as u16);
    let halves = holder.reuse && width >= 4;
    let last = if halves { (half, high) } else { (low, high) };
    let lower = halves.then_some((low, half - 1));
    let ports = &cx.tp.net.hashinfo.bhash;
    let find = |range, take: &dyn Fn(u16) -> Option<Bound>| {
        let mut bound = None;
        ip::ports::for_bind(stack, range, |p| {
            bound = take(p);
            bound.is_some()
        });
        bound
    };
    let alone = |p| ports.bind_unshared(p, holder);
    let free = lower.and_then(|range| find(range, &alone)).or_else(|| find(last, &alone));
    // Connections from one port may still go to different peers.
    free.or_else(|| match stack.sysctl.ip_autobind_reuse() {
        true => find(last, &|p| ports.bind_reused(p, holder)),
        false => None,
    })
}

/// Gives the local port back (inet_put_port). The number stays in the sock for getsockname and for a last RST.
pub fn put_port(cx: &mut Cx<'_>) {
    if let Some(b) = cx.tp.bound.take() {
        cx.tp.net.hashinfo.bhash.unbind(&b);
        cx.sk.ip_flags |= ip_flag::PORT_LEFT;
    }
}

/// Takes the sock out of the tables it is in. A time-wait record that has replaced it there stays (inet_unhash).
pub fn unhash(cx: &mut Cx<'_>) {
    match cx.state() {
        State::Close => {}
        State::Listen => {
            let group = cx.tp.net.hashinfo.unlisten(cx.sock, cx.sk.sport);
            if let Some(l) = cx.tp.listener_mut().filter(|_| cx.stack.sysctl.tcp_migrate_req()) {
                l.heirs = group.or(l.heirs.take());
            }
        }
        _ => {
            let mine = |e: &Entry| matches!(e, Entry::Sock(s, _) if Arc::ptr_eq(s, cx.sock));
            let gone = cx.tp.net.hashinfo.remove(hash_of_sock(cx.stack, cx.sk), mine);
            drop(gone);
        }
    }
}

/// Aborts the connection, so that the sock can be used again: connect(2) with AF_UNSPEC, SO_LINGER 0 (tcp_disconnect).
/// The pending error is ECONNRESET where the connection was not closed by both ends.
pub fn disconnect(cx: &mut Cx<'_>) -> Result<()> {
    let old = cx.state();
    let unsent = cx.tp.snd_nxt != cx.tp.write_seq;
    // The reset needs the connection's sequence numbers and addresses, which closing does not change.
    if old != State::Close {
        set_state(cx, State::Close);
    }
    let err = match old {
        State::Listen => {
            listener::stop(cx);
            0
        }
        // A program that takes the connection out ends it here alone.
        _ if cx.tp.repair => libc::ECONNABORTED,
        s if close::need_reset(s) || (unsent && matches!(s, State::Closing | State::LastAck)) => {
            control::send_active_reset(cx);
            libc::ECONNRESET
        }
        State::SynSent => libc::ECONNRESET,
        _ => 0,
    };
    close::reset_connection(cx);
    if err != 0 {
        cx.sock.err.store(err, Ordering::Relaxed);
    }
    // Also without an error (sk_error_report): the events of a connection, or of a listener, are over.
    cx.sock.wait.wake(Events::ALL);
    Ok(())
}
