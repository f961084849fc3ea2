//! UDP output: from the program's bytes to a datagram, or to a super-packet of several (UDP_SEGMENT). Above: `sendmsg`.
//! Below: `ip::output`. Linux: udp_sendmsg, udp_push_pending_frames, udp_send_skb.

use super::{input::HEADER, private};
use crate::base::error::{Error, Result};
use crate::base::hash::addr128;
use crate::counters::Mib;
use crate::ip::datagram::{self, Plan};
use crate::ip::sockopt::flow_label;
use crate::sock::msg::SendMsg;
use crate::sock::proto::SockRef;
use crate::sock::skb::{Csum, GsoType, Skb};
use crate::sock::state::State;
use crate::sock::{SockGuard, flag};
use crate::wire::{ip, ipv6, proto, udp};
use std::net::SocketAddr;

/// Most datagrams in one super-packet (UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: usize = 128;
/// Longest payload that the length field allows, over IPv4 and IPv6.
const MAX_PAYLOAD: (usize, usize) = (65_535 - ip::HEADER_LEN - HEADER, 65_535 - HEADER);

/// A corked datagram.
pub(super) struct Pending {
    plan: Plan,
    payload: Skb,
}

/// sendmsg(2): returns the length of the datagram, which is always taken whole. Errors: EOPNOTSUPP (MSG_OOB), EMSGSIZE,
/// EDESTADDRREQ, EINVAL (port 0, control data, segment size), EACCES, EPIPE, EAGAIN, EINTR, the pending error, and
/// those of the route lookup.
pub(super) fn sendmsg(sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    let len = datagram::send_len(msg)?;
    let mut g = sk.lock();
    let me = private(&mut g)?;
    let more = me.cork || msg.flags & libc::MSG_MORE != 0;
    let taken = me.pending.take();
    // While corked, the first call sets the destination; later ones are ignored.
    let (plan, mut payload) = match taken {
        Some(p) => (p.plan, p.payload),
        None => {
            let to = destination(&g, msg.name)?;
            (datagram::plan(&mut g, to, &msg.control, msg.flags)?, Skb::new())
        }
    };
    let max = if plan.to.is_ipv4() { MAX_PAYLOAD.0 } else { MAX_PAYLOAD.1 };
    if payload.len() + len > max {
        datagram::local_too_long(&mut g, plan.to, plan.dst.mtu);
        return Err(Error::MsgSize);
    }
    if let Err(e) = datagram::wait_for_room(&mut g, msg.dontwait()) {
        // The corked part is kept, for another attempt.
        if !payload.is_empty() {
            private(&mut g)?.pending = Some(Pending { plan, payload });
        }
        return Err(e);
    }
    while msg.remaining() > 0 {
        let c = msg.chunk(usize::MAX);
        if c.is_empty() {
            return Err(Error::Fault);
        }
        payload.append(c, msg.remaining());
        msg.advance(c.len());
    }
    let pending = Pending { plan, payload };
    if more {
        private(&mut g)?.pending = Some(pending);
    } else {
        send(&mut g, pending)?;
    }
    Ok(len)
}

/// Sends the datagram that MSG_MORE held back, unless UDP_CORK is set (udp_splice_eof). There is no caller to return an
/// error to.
pub(super) fn splice_eof(sk: SockRef<'_>) {
    let mut g = sk.lock();
    let Ok(me) = private(&mut g) else { return };
    if !me.cork
        && let Some(pending) = me.pending.take()
    {
        let _ = send(&mut g, pending);
    }
}

fn destination(g: &SockGuard<'_>, name: Option<SocketAddr>) -> Result<SocketAddr> {
    match name {
        Some(to) if to.port() == 0 => Err(Error::Inval),
        Some(to) => Ok(to),
        None if g.sock.state() != State::Established => Err(Error::DestAddrReq),
        None => {
            let peer = SocketAddr::new(g.common.daddr, g.common.dport);
            if peer.port() == 0 {
                return Err(Error::Inval);
            }
            Ok(datagram::name_of(peer.ip(), peer.port(), g.common.bound_dev_if))
        }
    }
}

/// The socket was uncorked: sends the pending datagram, if any.
pub(super) fn push_pending(g: &mut SockGuard<'_>) -> Result<()> {
    match private(g)?.pending.take() {
        Some(p) => send(g, p),
        None => Ok(()),
    }
}

fn send(g: &mut SockGuard<'_>, pending: Pending) -> Result<()> {
    let Pending { mut plan, payload: mut skb } = pending;
    let v4 = plan.to.is_ipv4();
    let me = private(g)?;
    let segment = usize::from(plan.segment.unwrap_or(me.segment));
    let no_checksum = !v4 && me.no_check6_tx || v4 && g.common.flag(flag::NO_CHECK_TX);
    let network = if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
    let len = skb.len();
    let segmented = segment > 0 && len > segment;
    let longest = network + HEADER + if segmented { segment } else { len };
    if segment > 0 && (no_checksum || len > segment * MAX_SEGMENTS) {
        return Err(Error::Inval);
    }
    if segmented && longest > plan.dst.mtu as usize {
        return Err(Error::Inval);
    }
    let df = plan.fit(g, longest)?;
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
    let tuple = crate::base::hash::Tuple {
        saddr: addr128(src),
        sport: g.common.sport,
        daddr: addr128(dst),
        dport: plan.to.port(),
    };
    skb.hash = g.stack.keys.ehash(&tuple);
    let flow_label = if v4 { 0 } else { flow_label(g.stack, &g.common, || skb.hash) };
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
            if crate::ip::sockopt::wants_errors(g, v4) {
                return Err(Error::NoBufs);
            }
            g.stack.mib.inc(ok);
        }
        Err(e) => return Err(e),
    }
    Ok(())
}
