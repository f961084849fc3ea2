//! UDP output: from the program's bytes to a datagram, or to a super-packet of several (UDP_SEGMENT). Above: `sendmsg`.
//! Below: `ip::output`. Linux: udp_sendmsg, udp_push_pending_frames, udp_send_skb, udp_tunnel_xmit_skb.

use super::{HEADER, private};
use crate::base::error::{Error, Result};
use crate::base::hash::{Tuple, addr128};
use crate::counters::Mib;
use crate::ip::cork::Cork;
use crate::ip::flowlabel;
use crate::ip::plan::{self, Plan};
use crate::ip::txcontrol;
use crate::ip::{datagram, errors, kind};
use crate::sock::addr::{AF_INET, AF_UNSPEC, unmap};
use crate::sock::msg::{Control, MSG_PROBE, SendMsg};
use crate::sock::proto::{SendSeveral, SockRef};
use crate::sock::skb::{Csum, GsoType, Skb};
use crate::sock::state::State;
use crate::sock::zerocopy::ZeroCopy;
use crate::sock::{SockGuard, flag};
use crate::wire::{ip, ipv6, proto, udp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

/// Most datagrams in one super-packet (UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: usize = 128;
/// Longest payload that the length field allows, over IPv4 and IPv6.
const MAX_PAYLOAD: (usize, usize) = (65_535 - ip::HEADER_LEN - HEADER, 65_535 - HEADER);

/// A corked datagram.
pub(super) struct Pending {
    plan: Plan,
    payload: Skb,
    /// Its memory, which is charged to the socket while it waits.
    cork: Cork,
}

/// Takes what waits, and its charge off the socket.
pub(super) fn take(g: &mut SockGuard<'_>) -> Result<Option<Pending>> {
    let pending = private(g)?.pending.take();
    if let Some(p) = &pending {
        p.cork.uncharge(g.sock);
    }
    Ok(pending)
}

/// Lets a datagram wait for more.
fn put(g: &mut SockGuard<'_>, pending: Pending) -> Result<()> {
    // A call that waited for room may find another's datagram there.
    take(g)?;
    pending.cork.charge(g.sock);
    private(g)?.pending = Some(pending);
    Ok(())
}

/// The way of a message, which the next one of the same call takes as well if it has the same name and no control data:
/// as long as the call owns the sock, nothing that decides it changes but the routes.
pub(super) struct Way {
    name: Option<SocketAddr>,
    plan: Plan,
    hash: u32,
}

/// A message that has to be looked at alone.
const ALONE: i32 = libc::MSG_MORE | MSG_PROBE | libc::MSG_ZEROCOPY | libc::MSG_DONTROUTE | libc::MSG_CONFIRM;

/// sendmsg(2): returns the length of the datagram, which is always taken whole. Errors: EOPNOTSUPP (MSG_OOB), EMSGSIZE,
/// EDESTADDRREQ, EINVAL (port 0, control data, segment size), EACCES, EPIPE, EAGAIN, EINTR, the pending error, and
/// those of the route lookup.
pub(super) fn sendmsg(sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    send_one(&mut sk.lock(), msg)
}

/// The messages of sendmmsg(2).
pub(super) fn send_several(sk: SockRef<'_>, all: &mut SendSeveral<'_>) {
    let mut g = sk.lock();
    let mut way = None;
    all(&mut |msg| send_next(&mut g, msg, &mut way));
}

/// As [`send_one`], by the way of the message before it if that is the same. `way`: None at first.
fn send_next(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>, way: &mut Option<Way>) -> Result<usize> {
    if msg.flags & ALONE != 0 || !msg.control.is_empty() || msg.odd_name.is_some() {
        *way = None;
        return send_one(g, msg);
    }
    if g.sock.family == AF_INET {
        datagram::send_len(msg)?;
    }
    let me = private(g)?;
    if me.cork || me.pending.is_some() || me.segment != 0 {
        *way = None;
        return send_one(g, msg);
    }
    let mut here = match way.take().filter(|way| way.name == msg.name && way.plan.dst.check(g.stack)) {
        Some(here) => here,
        None => {
            let to = destination(g, msg)?;
            let plan = plan::plan(g, to, &[], msg.flags)?;
            Way { name: msg.name, hash: flow_hash(g, &plan), plan }
        }
    };
    let len = msg.remaining();
    let v4 = here.plan.to.is_ipv4();
    if !Cork::new(g, &here.plan, false).is_one(HEADER + len) {
        // Longer than its path, or than any datagram.
        return send_one(g, msg);
    }
    let slept = datagram::wait_for_room(g, v4, msg.dontwait())?;
    if len > 0 {
        msg.readable()?;
    }
    let payload = taken(msg, Skb::new())?;
    transmit(g, &mut here.plan, here.hash, payload, None)?;
    if !slept {
        *way = Some(here);
    }
    Ok(len)
}

fn send_one(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    let len = msg.remaining();
    if g.sock.family == AF_INET {
        datagram::send_len(msg)?;
    }
    let me = private(g)?;
    let more = me.cork || msg.flags & libc::MSG_MORE != 0;
    if let Some(family) = me.pending.as_ref().map(|p| p.plan.to.is_ipv4()) {
        check_corked(g, msg, family)?;
    }
    let (plan, waiting) = match take(g)? {
        Some(p) => (p.plan, Some((p.payload, p.cork))),
        None => {
            let to = destination(g, msg)?;
            let mut plan = plan::plan(g, to, &msg.control, msg.flags)?;
            // Of a corked datagram the first call decides it.
            plan.segment = plan.segment.or(Some(private(g)?.segment));
            (plan, None)
        }
    };
    if msg.flags & MSG_PROBE != 0 {
        // Only the way was asked for: no byte is taken, and what waits is as before (ip_append_data, ip_make_skb).
        match waiting {
            Some((payload, cork)) if more => put(g, Pending { plan, payload, cork })?,
            Some((payload, _)) => send(g, plan, payload)?,
            None => {}
        }
        return Ok(len);
    }
    let (payload, cork) = waiting.map_or_else(|| (Skb::new(), None), |(payload, cork)| (payload, Some(cork)));
    let corked = cork.is_some();
    let max = if plan.to.is_ipv4() { MAX_PAYLOAD.0 } else { MAX_PAYLOAD.1 - plan.headers_share() };
    if payload.len() + len > max {
        errors::local_too_long(g, plan.to, plan.dst.mtu);
        return Err(Error::MsgSize);
    }
    let zerocopy = match msg.flags & libc::MSG_ZEROCOPY != 0 && g.common.zerocopy {
        true => Some(ZeroCopy::begin(g.sock, len, payload.zerocopy.as_ref())?),
        false => None,
    };
    let sent = append(g, msg, (plan, payload, cork), more, zerocopy.as_ref());
    if corked && sent.is_err() {
        // What waited is lost (udp_flush_pending_frames): its memory is free.
        g.sock.tx_completed(0);
    }
    match (sent, zerocopy) {
        (Err((e, true)), Some(zc)) => {
            zc.abort(g.sock);
            Err(e)
        }
        (Err((e, _)), _) => Err(e),
        (Ok(()), _) => Ok(len),
    }
}

/// The call's bytes join the datagram, which leaves unless it is corked. Err: why not, and whether no byte was taken.
fn append(
    g: &mut SockGuard<'_>,
    msg: &mut SendMsg<'_>,
    (plan, payload, cork): (Plan, Skb, Option<Cork>),
    more: bool,
    zerocopy: Option<&ZeroCopy>,
) -> std::result::Result<(), (Error, bool)> {
    let (len, v4) = (msg.remaining(), plan.to.is_ipv4());
    let corked = cork.is_some();
    // The first packet waits for room, the others do not.
    if !corked {
        datagram::wait_for_room(g, v4, msg.dontwait()).map_err(|e| (e, true))?;
    }
    let mut cork = cork.unwrap_or_else(|| Cork::new(g, &plan, plan.segment.is_some_and(|n| n > 0)));
    if (more || corked || !cork.is_one(HEADER + len))
        && let Err(e) = cork.append(g, len, HEADER)
    {
        if e == Error::NoBufs {
            g.stack.mib.inc(if v4 { Mib::UdpSndbufErrors } else { Mib::Udp6SndbufErrors });
        }
        return Err((e, true));
    }
    if len > 0 {
        msg.readable().map_err(|e| (e, true))?;
    }
    let mut payload = taken(msg, payload).map_err(|e| (e, true))?;
    if let Some(zc) = zerocopy {
        payload.zerocopy = Some(zc.clone());
    }
    if more {
        return put(g, Pending { plan, payload, cork }).map_err(|e| (e, false));
    }
    // What is too long for its path is refused before bytes are taken, as Linux does it.
    send(g, plan, payload).map_err(|e| (e, e == Error::MsgSize))
}

/// A packet with the message's bytes behind its own. EFAULT.
fn taken(msg: &mut SendMsg<'_>, mut payload: Skb) -> Result<Skb> {
    while msg.remaining() > 0 {
        let c = msg.chunk(usize::MAX);
        if c.is_empty() {
            return Err(Error::Fault);
        }
        payload.append(c, msg.remaining());
        msg.advance(c.len());
    }
    Ok(payload)
}

/// Sends the datagram that MSG_MORE held back, unless UDP_CORK is set (udp_splice_eof). There is no caller to return an
/// error to.
pub(super) fn splice_eof(sk: SockRef<'_>) {
    let mut g = sk.lock();
    // What a socket of IPv6 holds back waits for more (inet6_dgram_ops has no splice_eof).
    if g.sock.family != AF_INET {
        return;
    }
    if private(&mut g).is_ok_and(|me| !me.cork) {
        let _ = push_pending(&mut g);
    }
}

/// The name that a call gives, unmapped. A socket of IPv6 takes one of AF_UNSPEC for none, one of IPv4 for an address
/// (udpv6_sendmsg, udp_sendmsg).
fn name(g: &SockGuard<'_>, msg: &SendMsg<'_>) -> Result<Option<SocketAddr>> {
    let v6 = g.sock.family != AF_INET;
    match (msg.name, msg.odd_name) {
        (Some(to), _) if to.is_ipv6() && !v6 => Err(Error::AfNoSupport),
        (name, None) => Ok(name.map(unmap)),
        (_, Some(odd)) if v6 && odd.len >= 2 && odd.family == AF_UNSPEC => Ok(None),
        (_, Some(odd)) if v6 && odd.len >= 2 && odd.family == AF_INET && g.common.flag(flag::V6ONLY) => {
            Err(Error::NetUnreach)
        }
        (_, Some(odd)) if v6 || odd.len < size_of::<libc::sockaddr_in>() => Err(Error::Inval),
        (_, Some(odd)) if odd.family == AF_UNSPEC => Ok(Some(odd.inet.into())),
        _ => Err(Error::AfNoSupport),
    }
}

/// Under a cork the first call says where to, in which family (`v4`); of the later ones' names a socket of IPv4 sees
/// nothing, one of IPv6 the family.
fn check_corked(g: &SockGuard<'_>, msg: &SendMsg<'_>, v4: bool) -> Result<()> {
    if g.sock.family == AF_INET {
        return Ok(());
    }
    // One of AF_INET is left to IPv4, which does not look at it.
    if v4 && msg.odd_name.is_some_and(|odd| odd.len >= 2 && odd.family == AF_INET) && !g.common.flag(flag::V6ONLY) {
        return datagram::send_len(msg).map(drop);
    }
    match name(g, msg)? {
        Some(to) if to.is_ipv4() && g.common.flag(flag::V6ONLY) => Err(Error::NetUnreach),
        Some(to) if to.is_ipv4() => {
            datagram::send_len(msg)?;
            if v4 { Ok(()) } else { Err(Error::Inval) }
        }
        _ if v4 => datagram::send_len(msg).map(|_| ()),
        _ => Ok(()),
    }
}

/// Where a datagram goes: the call's name, or the peer, whose port may be 0 in the socket's own family.
fn destination(g: &SockGuard<'_>, msg: &SendMsg<'_>) -> Result<SocketAddr> {
    let name = name(g, msg)?;
    let to = match name {
        Some(to) => flowlabel::of_name(&g.common, to),
        None if g.sock.state() != State::Established => return Err(Error::DestAddrReq),
        None => {
            let peer = kind::name_of(g.common.daddr, g.common.dport, g.common.bound_dev_if);
            flowlabel::of_peer(&g.common, peer)
        }
    };
    // `::` from a v4-mapped address is IPv4's loopback.
    let to = match to.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() && g.common.saddr.is_ipv4() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port())
        }
        _ => to,
    };
    // A name of AF_UNSPEC leaves a v4-mapped peer to IPv6, which has no route to it.
    let mapped_peer = name.is_none() && msg.odd_name.is_some() && to.is_ipv4();
    if mapped_peer {
        txcontrol::check_control_to(g, false, to, &msg.control)?;
    }
    if mapped_peer || to.is_ipv4() && g.common.flag(flag::V6ONLY) {
        return Err(Error::NetUnreach);
    }
    if to.is_ipv4() {
        datagram::send_len(msg)?;
    }
    // A v4-mapped peer is handed to IPv4 as a name.
    let named = name.is_some() || g.sock.family != AF_INET && to.is_ipv4();
    if named && to.port() == 0 { Err(Error::Inval) } else { Ok(to) }
}

/// The cork is drawn: sends what waits, if anything.
pub(super) fn push_pending(g: &mut SockGuard<'_>) -> Result<()> {
    match take(g)? {
        Some(Pending { plan, payload, .. }) => send(g, plan, payload),
        None => Ok(()),
    }
}

/// How a protocol that has the port wants a datagram to leave.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct AsTold {
    /// It is not fragmented, here or on its way.
    pub uncut: bool,
    /// Its flow label; None: as the flow's others.
    pub flow_label: Option<u32>,
}

/// Bytes that a datagram to `to` may have without being fragmented.
pub fn mtu(g: &mut SockGuard<'_>, to: SocketAddr) -> Result<usize> {
    let plan = plan::plan(g, to, &[], 0)?;
    let headers = HEADER + plan.headers_len() + if plan.to.is_ipv4() { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
    Ok((plan.dst.mtu as usize).saturating_sub(headers))
}

/// Sends a packet as a datagram from the sock's port, for a protocol that has it; never waits. EINVAL: port 0;
/// EMSGSIZE; ENOBUFS: the send buffer or the device's queue is full; and those of the route. Linux:
/// udp_tunnel_xmit_skb.
pub fn send_skb(g: &mut SockGuard<'_>, to: SocketAddr, control: &[Control], told: AsTold, skb: Skb) -> Result<()> {
    if to.port() == 0 {
        return Err(Error::Inval);
    }
    let mut plan = plan::plan(g, to, control, 0)?;
    let v4 = plan.to.is_ipv4();
    let max = if v4 { MAX_PAYLOAD.0 } else { MAX_PAYLOAD.1 - plan.headers_share() };
    let headers = HEADER + plan.headers_len() + if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
    if skb.len() > max || told.uncut && headers + skb.len() > plan.dst.mtu as usize {
        return Err(Error::MsgSize);
    }
    if g.sock.wmem_alloc.load(Ordering::Relaxed) as i32 >= g.sock.sndbuf.load(Ordering::Relaxed) {
        g.stack.mib.inc(if v4 { Mib::UdpSndbufErrors } else { Mib::Udp6SndbufErrors });
        return Err(Error::NoBufs);
    }
    let hash = flow_hash(g, &plan);
    transmit(g, &mut plan, hash, skb, Some(told))
}

fn send(g: &mut SockGuard<'_>, mut plan: Plan, skb: Skb) -> Result<()> {
    let hash = flow_hash(g, &plan);
    transmit(g, &mut plan, hash, skb, None)
}

/// The hash of the datagram's flow.
fn flow_hash(g: &SockGuard<'_>, plan: &Plan) -> u32 {
    g.stack.keys.ehash(&Tuple {
        saddr: addr128(plan.src),
        sport: g.common.sport,
        daddr: addr128(plan.to.ip()),
        dport: plan.to.port(),
    })
}

/// `hash`: of its flow. `told`: what the protocol wants that has the port; None: it is a program's.
fn transmit(g: &mut SockGuard<'_>, plan: &mut Plan, hash: u32, mut skb: Skb, told: Option<AsTold>) -> Result<()> {
    let v4 = plan.to.is_ipv4();
    let me = private(g)?;
    let segment = usize::from(plan.segment.unwrap_or(0));
    let no_checksum = !v4 && me.no_check6_tx || v4 && g.common.flag(flag::NO_CHECK_TX);
    let network = plan.headers_len() + if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
    let len = skb.len();
    let segmented = segment > 0 && len > segment;
    let longest = network + HEADER + if segmented { segment } else { len };
    if segment > 0 && (no_checksum || len > segment * MAX_SEGMENTS) {
        return Err(Error::Inval);
    }
    if segmented && longest > plan.dst.mtu as usize {
        return Err(Error::Inval);
    }
    let df = plan.fit(g, longest)? || told.is_some_and(|t| t.uncut);
    let (src, dst) = (plan.src, plan.to.ip());
    let Some(h) = skb.push(HEADER) else { return Err(Error::NoBufs) };
    udp::emit_header(h, g.common.sport, plan.to.port(), len);
    if !no_checksum {
        udp::fill_partial_checksum(h, src, dst, (HEADER + len) as u32);
        skb.csum = Csum::Partial { start: 0, offset: udp::CHECKSUM_OFFSET as u16 };
    }
    if segmented {
        skb.gso_size = segment as u16;
        skb.gso_type = GsoType::Udp;
    }
    skb.hash = hash;
    let flow_label = told.and_then(|t| t.flow_label).unwrap_or_else(|| plan.flow_label(g, || skb.hash));
    let sent = plan.xmit(g, skb, proto::UDP, flow_label, df);
    let (ok, full) = match v4 {
        true => (Mib::UdpOutDatagrams, Mib::UdpSndbufErrors),
        false => (Mib::Udp6OutDatagrams, Mib::Udp6SndbufErrors),
    };
    match sent {
        Ok(()) => g.stack.mib.inc(ok),
        Err(Error::NoBufs) => {
            g.stack.mib.inc(full);
            // A datagram lost in a full device queue is no error, unless the socket asked for errors (IP_RECVERR).
            if told.is_some() || crate::ip::sockopt::wants_errors(g, v4) {
                return Err(Error::NoBufs);
            }
            g.stack.mib.inc(ok);
        }
        Err(e) => return Err(e),
    }
    Ok(())
}
