//! Sending again: one segment of the retransmit queue, cut or merged to the present MSS, and the loop that resends what
//! is marked lost. Above: `recovery`, `timer`, `probe`. Below: `segment`. Linux: __tcp_retransmit_skb,
//! tcp_retransmit_skb, tcp_xmit_retransmit_queue, tcp_retrans_try_collapse. RFC 9293 §3.8.1, RFC 6675 §5, RFC 6937
//! (quota).

use super::mtu::current_mss;
use super::output::{self, SYN, adjust_wmem, in_cwnd_reduction, packets_in_flight, wnd_end};
use super::queue::Pos;
use super::segment::{route, transmit_skb, urg_mode};
use super::tcb::{CaState, Cx, XmitTimer};
use super::timer::{micros, reset_xmit_timer};
use super::xmit::{adjust_pcount, fragment, pacing_check, set_tso_segs, small_queue_check, tso_segs};
use super::{connect, ecn, mtu_probe, sock_ops, tfb};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::skb::{MAX_SKB_FRAGS, Skb, sacked};
use crate::sock::state::State;
use crate::sock::tsq;
use crate::sock::tstamp::TxStamp;
use crate::trace::{Event, Resend};
use crate::wire::seq::SeqNum;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// Whether the first copy of this packet has not left the machine yet, so that retransmitting it is useless. Estimated
/// from the bytes that the device holds of this sock: the packet and all that was sent after it. Linux:
/// skb_still_in_host_queue.
pub(super) fn still_in_host_queue(cx: &mut Cx<'_>, skb_at: Pos) -> bool {
    let Some(skb) = cx.tp.rtx_queue.get(skb_at) else { return false };
    let behind = if skb.tcp.sacked & sacked::EVER_RETRANS != 0 {
        // It was sent out of order: only the last of the queue can be judged.
        if skb.tcp.mstamp < cx.tp.wstamp {
            return false;
        }
        0
    } else {
        cx.tp.snd_nxt.since(skb.tcp.end_seq)
    };
    let least = skb.truesize.saturating_add(behind);
    if cx.sock.wmem_alloc.load(Ordering::Acquire) < least {
        return false;
    }
    cx.sock.tsq_flags.fetch_or(tsq::THROTTLED, Ordering::AcqRel);
    if cx.sock.wmem_alloc.load(Ordering::SeqCst) < least {
        return false;
    }
    cx.stack.mib.inc(Mib::TcpExtTCPSpuriousRtxHostQueues);
    true
}

/// Removes acknowledged bytes from the front of a packet, and recomputes its segment count.
fn trim_acked(cx: &mut Cx<'_>, at: Pos, n: u32) {
    output::trim_head(cx, at, n);
    let Some(skb) = cx.tp.rtx_queue.get_mut(at) else { return };
    if skb.tcp.gso_segs > 1 {
        let (mss, old, tags) = (u32::from(skb.tcp.gso_size), i32::from(skb.tcp.gso_segs), skb.tcp.sacked);
        let new = set_tso_segs(skb, mss) as i32;
        if old != new {
            adjust_pcount(cx.tp, tags, old - new);
        }
    }
}

/// Fills a small packet at `at` with those behind it, to `space` bytes: small segments are retransmitted as one
/// (tcp_retrans_try_collapse).
fn try_collapse(cx: &mut Cx<'_>, at: Pos, space: u32) {
    if !cx.stack.sysctl.tcp_retrans_collapse() {
        return;
    }
    loop {
        let end = wnd_end(cx.tp);
        let behind = cx.tp.rtx_queue.next(at);
        let (Some(to), Some(next)) = (cx.tp.rtx_queue.get(at), cx.tp.rtx_queue.get(behind)) else { return };
        let fits = to.len() + next.len() <= space as usize
            && to.tcp.flags & SYN == 0
            && !to.tcp.eor
            && to.tcp.gso_segs <= 1
            && next.tcp.gso_segs <= 1
            && next.tcp.sacked & sacked::SACKED_ACKED == 0
            && to.may_take_from(next)
            && to.frags().len() + next.frags().len() <= MAX_SKB_FRAGS
            && !next.tcp.end_seq.after(end);
        if !fits {
            return;
        }
        let Some(mut next) = cx.tp.rtx_queue.remove(behind) else { return };
        let tags = next.tcp.sacked;
        let segs = i32::from(next.tcp.gso_segs.max(1));
        let Some(to) = cx.tp.rtx_queue.get_mut(at) else { return };
        let before = to.truesize as i32 + next.truesize as i32;
        to.append_frags(&mut next);
        to.tcp.end_seq = next.tcp.end_seq;
        to.tcp.flags |= next.tcp.flags;
        to.tcp.eor = next.tcp.eor;
        to.tx_stamp = TxStamp::joined(to.tx_stamp.take(), next.tx_stamp.take());
        to.tcp.sacked |= tags & sacked::EVER_RETRANS;
        to.tcp.retrans = to.tcp.retrans.max(next.tcp.retrans);
        let delta = to.truesize as i32 - before;
        let seq = to.tcp.seq;
        if cx.tp.retransmit_hint == Some(next.tcp.seq) {
            cx.tp.cold_mut().retransmit_hint = Some(seq);
        }
        adjust_pcount(cx.tp, tags, segs);
        adjust_wmem(cx, delta);
    }
}

/// Sends the packet at `at` of the retransmit queue again, at most `segs` segments of it; the rest, if cut, is behind
/// it. `at` is then where the packet is. Marks it as ever retransmitted, but not as a retransmission in flight: for
/// loss probes. Errors: EBUSY the first copy is still in the device; EAGAIN beyond the peer's window; EHOSTUNREACH;
/// ENOBUFS local congestion; ENOMEM. `why` is for the trace. Linux: __tcp_retransmit_skb.
pub(crate) fn retransmit_skb_quiet(cx: &mut Cx<'_>, at: &mut Pos, segs: u32, why: Resend) -> Result<()> {
    mtu_probe::inconclusive(cx);
    // Departure: each segment has its own distance to the urgent byte, which a super-packet that is cut later has not
    // (Linux 6.18 sends one with the distance of its first segment).
    let segs = if urg_mode(cx) { 1 } else { segs.max(1) };
    let i = *at;
    if still_in_host_queue(cx, i) {
        return Err(Error::Busy);
    }
    cut_acked(cx, i)?;
    if cx.state() == State::SynSent {
        connect::reselect_saddr(cx).map_err(|_| Error::HostUnreach)?;
    }
    route(cx).map_err(|_| Error::HostUnreach)?;
    *at = fit(cx, i, segs)?;
    send_again(cx, *at, why)
}

/// What was acknowledged of a packet since it was sent is not sent again. EINVAL: all of it was.
fn cut_acked(cx: &mut Cx<'_>, i: Pos) -> Result<()> {
    let una = cx.tp.snd_una;
    let Some(skb) = cx.tp.rtx_queue.get_mut(i) else { return Err(Error::Inval) };
    if skb.tcp.seq.before(una) && skb.tcp.flags & SYN != 0 {
        // The SYN of a SYN with data was acknowledged.
        skb.tcp.flags &= !SYN;
        cx.tp.rtx_queue.advance_seq(i, 1);
    }
    let Some(skb) = cx.tp.rtx_queue.get(i) else { return Err(Error::Inval) };
    if skb.tcp.seq.before(una) {
        if skb.tcp.end_seq.before(una) {
            return Err(Error::Inval);
        }
        let n = una.since(skb.tcp.seq).min(skb.len() as u32);
        trim_acked(cx, i, n);
    }
    Ok(())
}

/// Cuts a packet to `segs` segments of the present MSS within the peer's window, or joins the next ones to a small one.
/// Returns where it is now. EAGAIN: it lies beyond the window.
fn fit(cx: &mut Cx<'_>, i: Pos, segs: u32) -> Result<Pos> {
    let mss = current_mss(cx);
    let (end, una) = (wnd_end(cx.tp), cx.tp.snd_una);
    let Some(skb) = cx.tp.rtx_queue.get_mut(i) else { return Err(Error::Inval) };
    let mut avail = end - skb.tcp.seq;
    if avail <= 0 {
        // The peer shrank its window below this segment. Only the first unacknowledged one is sent, as a probe.
        if skb.tcp.seq != una {
            return Err(Error::Again);
        }
        avail = mss as i32;
    }
    let avail = avail as u32;
    let mut len = mss.saturating_mul(segs);
    if len > avail {
        len = avail - avail % mss;
        if len == 0 {
            len = avail;
        }
    }
    if skb.len() as u32 > len {
        return fragment(cx, true, i, len, mss);
    }
    let (old, tags) = (i32::from(skb.tcp.gso_segs), skb.tcp.sacked);
    let new = set_tso_segs(skb, mss) as i32;
    let small = (skb.len() as u32) < avail.min(mss);
    if old != new {
        adjust_pcount(cx.tp, tags, old - new);
    }
    if small {
        try_collapse(cx, i, avail.min(mss));
    }
    Ok(i)
}

/// Sends a packet of the retransmit queue as it is, counts it, and tells who watches.
fn send_again(cx: &mut Cx<'_>, i: Pos, why: Resend) -> Result<()> {
    let asks_again = ecn::asks_again(cx.tp);
    let Some(slot) = cx.tp.rtx_queue.get_mut(i) else { return Err(Error::Inval) };
    if !asks_again {
        ecn::clear_syn(cx.stack, slot);
    }
    let n = u32::from(slot.tcp.gso_segs.max(1));
    let (is_syn, bytes, seq) = (slot.tcp.flags & SYN != 0, slot.len() as u64, slot.tcp.seq);
    cx.stack.mib.add(Mib::TcpRetransSegs, u64::from(n));
    if is_syn {
        cx.stack.mib.inc(Mib::TcpExtTCPSynRetrans);
    }
    // The packet is taken out of the queue for the call, during which the connection is borrowed mutably.
    let mut skb: Skb = std::mem::take(slot);
    let cold = cx.tp.cold_mut();
    cold.total_retrans = cold.total_retrans.wrapping_add(n);
    cold.rare.bytes_retrans += bytes;
    skb.tcp.sacked |= sacked::EVER_RETRANS;
    skb.tcp.retrans = skb.tcp.retrans.saturating_add(1);
    let r = transmit_skb(cx, &mut skb);
    // A tail loss probe (RFC 8985 §7.3) sends the last packet, even one that has been selectively acknowledged since
    // the timer was set: that one stays off the list, as there is no loss of it to detect.
    let is_sacked = skb.tcp.sacked & sacked::SACKED_ACKED != 0;
    if let Some(slot) = cx.tp.rtx_queue.get_mut(i) {
        *slot = skb;
    }
    if r.is_ok() && !is_sacked {
        cx.tp.rtx_queue.sent_again(i);
    }
    sock_ops::retrans(cx, seq, n, r);
    trace(cx, seq, bytes as u32, if is_syn { syn_or_synack(cx) } else { why }, r);
    if r.is_err() {
        cx.stack.mib.add(Mib::TcpExtTCPRetransFail, u64::from(n));
    }
    r
}

/// Which segment with SYN a connection sends again: the answer to one, where SYNs have crossed.
fn syn_or_synack(cx: &Cx<'_>) -> Resend {
    if cx.state() == State::SynRecv { Resend::SynAck } else { Resend::Syn }
}

fn trace(cx: &Cx<'_>, seq: SeqNum, len: u32, why: Resend, sent: Result<()>) {
    cx.stack.mib.trace.point(|| Event::Retransmit {
        local: cx.sk.local(),
        peer: SocketAddr::new(cx.sk.daddr, cx.sk.dport),
        state: cx.state() as u8,
        seq: seq.since(cx.tp.snt_isn),
        len,
        why,
        err: sent.err(),
    });
}

/// As [`retransmit_skb_quiet`], and counts it as a retransmission in flight (tcp_retransmit_skb).
pub(crate) fn retransmit_skb(cx: &mut Cx<'_>, mut at: Pos, segs: u32, why: Resend) -> Result<()> {
    let r = retransmit_skb_quiet(cx, &mut at, segs, why);
    let Some(skb) = cx.tp.rtx_queue.get_mut(at) else { return r };
    let n = u32::from(skb.tcp.gso_segs.max(1));
    let stamp = skb.tcp.mstamp;
    if r.is_ok() {
        // One whose first copy is still believed to be in flight (its loss mark was undone, then the timer came) counts
        // once.
        let counted = skb.tcp.sacked & sacked::SACKED_RETRANS != 0;
        skb.tcp.sacked |= sacked::SACKED_RETRANS | sacked::EVER_RETRANS;
        if !counted {
            cx.tp.retrans_out += n;
        }
    }
    if cx.tp.retrans_stamp == crate::base::env::Instant::ZERO {
        // Zero means none, so a segment sent at time zero is noted one nanosecond later.
        cx.tp.retrans_stamp = stamp.max(crate::base::env::Instant::from_nanos(1));
    }
    cx.tp.cold_mut().undo_retrans = cx.tp.undo_retrans.max(0).saturating_add(n as i32);
    r
}

/// Whether pacing lets nothing be sent again now.
pub(super) fn paced(cx: &mut Cx<'_>) -> bool {
    pacing_check(cx)
}

/// Whether so much of this sock waits in the device that nothing is sent again now.
pub(super) fn queued(cx: &mut Cx<'_>, truesize: u32) -> bool {
    small_queue_check(cx, truesize, 1)
}

/// Resends what is marked lost, in order, as far as the congestion window (which PRR governs in recovery) allows. New
/// data goes after it, through `write_xmit`. Linux: tcp_xmit_retransmit_queue.
pub(crate) fn xmit_retransmit_queue(cx: &mut Cx<'_>) {
    if cx.tp.packets_out == 0 || tfb::output(cx, cx.tp.nonagle).is_some() {
        return;
    }
    let mss = current_mss(cx);
    let max_segs = tso_segs(cx, mss);
    let mut at = cx.tp.retransmit_hint.map_or(Pos::FRONT, |seq| cx.tp.rtx_queue.find_start(seq));
    if cx.tp.rtx_queue.get(at).is_none() {
        at = Pos::FRONT;
    }
    let mut hole = false;
    let mut rearm = false;
    let why = if cx.tp.ca_state == CaState::Loss { Resend::SlowStart } else { Resend::FastRetransmit };
    while let Some(skb) = cx.tp.rtx_queue.get(at) {
        let (cb, truesize) = (&skb.tcp, skb.truesize);
        let (seq, last_seq, tags) = (cb.seq, cb.end_seq - 1, cb.sacked);
        if paced(cx) {
            break;
        }
        if !hole {
            cx.tp.cold_mut().retransmit_hint = Some(seq);
        }
        let quota = cx.tp.snd_cwnd.saturating_sub(packets_in_flight(cx.tp));
        if quota == 0 || cx.tp.retrans_out >= cx.tp.lost_out {
            break;
        }
        if tags & sacked::LOST == 0 {
            if tags & (sacked::SACKED_RETRANS | sacked::SACKED_ACKED) == 0 {
                hole = true;
            }
            at = cx.tp.rtx_queue.next(at);
            continue;
        }
        if tags & (sacked::SACKED_ACKED | sacked::SACKED_RETRANS) != 0 {
            at = cx.tp.rtx_queue.next(at);
            continue;
        }
        if queued(cx, truesize) || retransmit_skb(cx, at, quota.min(max_segs), why).is_err() {
            break;
        }
        // It may have lost its acknowledged front, been cut or been filled with the next ones: only the first of these
        // moves where it starts.
        at = cx.tp.rtx_queue.find(seq.later(cx.tp.snd_una).earlier(last_seq));
        let n = cx.tp.rtx_queue.get(at).map_or(1, |s| u32::from(s.tcp.gso_segs.max(1)));
        let mib =
            if cx.tp.ca_state == CaState::Loss { Mib::TcpExtTCPSlowStartRetrans } else { Mib::TcpExtTCPFastRetrans };
        cx.stack.mib.add(mib, u64::from(n));
        if in_cwnd_reduction(cx.tp) {
            cx.tp.cold_mut().prr_out += n;
        }
        if at == Pos::FRONT && cx.tp.pending != XmitTimer::ReoTimeout {
            rearm = true;
        }
        at = cx.tp.rtx_queue.next(at);
    }
    if rearm {
        let rto = micros(cx.tp.rto_us);
        reset_xmit_timer(cx, XmitTimer::Retrans, rto, true);
    }
}
