//! What an alternative may do to its connection: look at the retransmit queue, mark losses, send, set its timers. Each
//! keeps the scoreboard and its counts whole, whatever it is asked, and refuses what is outside of the queue. Above: an
//! alternative's operations. Below: `rack` (marks), `retransmit`, `xmit`, `timer`.

use super::super::mtu::current_mss;
use super::super::queue::Pos;
use super::super::rack::mark_skb_lost;
use super::super::retransmit::{paced, queued, retransmit_skb, retransmit_skb_quiet};
use super::super::sack::is_sack;
use super::super::tcb::{CaState, Cx, XmitTimer};
use super::super::timer::{micros, reset_xmit_timer};
use super::super::xmit::{Push, write_xmit};
use super::super::{output, recovery, rtt};
use super::TIMERS;
use super::conn::{self, Running};
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::skb::sacked;
use crate::trace::Resend;
use crate::wire::seq::SeqNum;

/// Least RTO that an alternative may set: less than a tick of Linux.
const RTO_LEAST_US: u32 = 1_000;
/// Least time for which a timer is armed: time passes between two of its firings.
const TIMER_LEAST: Duration = Duration::from_micros(1);

/// A packet of the retransmit queue.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Sent {
    /// Its first sequence number.
    pub seq: SeqNum,
    /// One past its last.
    pub end_seq: SeqNum,
    /// Its segments.
    pub segs: u32,
    /// When it was sent, the last time.
    pub sent_at: Instant,
    /// How often it was sent again, 255 at most.
    pub retrans: u8,
    /// Selectively acknowledged.
    pub is_sacked: bool,
    /// Marked lost.
    pub is_lost: bool,
    /// Sent again since it was marked, and that copy is thought to be in flight.
    pub is_retrans: bool,
}

/// The packet of the retransmit queue that contains `seq`, or the next one. None: there is none.
pub fn sent(cx: &Cx<'_>, seq: SeqNum) -> Option<Sent> {
    // Outside of the queue the search has no order to go by.
    let seq = if seq.before(cx.tp.snd_una) { cx.tp.snd_una } else { seq };
    if !seq.before(cx.tp.snd_nxt) {
        return None;
    }
    let cb = &cx.tp.rtx_queue.get(cx.tp.rtx_queue.find(seq))?.tcp;
    Some(Sent {
        seq: cb.seq,
        end_seq: cb.end_seq,
        segs: u32::from(cb.gso_segs.max(1)),
        sent_at: cb.mstamp,
        retrans: cb.retrans,
        is_sacked: cb.sacked & sacked::SACKED_ACKED != 0,
        is_lost: cb.sacked & sacked::LOST != 0,
        is_retrans: cb.sacked & sacked::SACKED_RETRANS != 0,
    })
}

fn running(cx: &mut Cx<'_>) -> Result<Running> {
    conn::of_mut(cx.tp).map(|t| t.running).filter(|r| *r != Running::No).ok_or(Error::Inval)
}

/// EPERM: in `output`, where what is marked would be sent again, and that marked, without end and without time passing.
fn may_mark(cx: &mut Cx<'_>) -> Result<()> {
    if matches!(running(cx)?, Running::Output(_)) { Err(Error::Perm) } else { Ok(()) }
}

/// EINVAL: the range is empty or not in the retransmit queue.
fn in_queue(cx: &Cx<'_>, seq: SeqNum, end: SeqNum) -> Result<()> {
    let bad = !seq.before(end) || seq.before(cx.tp.snd_una) || end.after(cx.tp.snd_nxt);
    if bad { Err(Error::Inval) } else { Ok(()) }
}

/// Cuts the packet at `at` where `seq` lies in it, at a boundary of its segments: at or before `seq`. Returns where the
/// packet is that contains `seq`. If it cannot be cut, that is the whole.
fn cut_before(cx: &mut Cx<'_>, at: Pos, seq: SeqNum) -> Pos {
    let Some(cb) = cx.tp.rtx_queue.get(at).map(|s| s.tcp) else { return at };
    let size = u32::from(cb.gso_size);
    if cb.gso_segs > 1 && size != 0 && seq.after(cb.seq) && seq.before(cb.end_seq) {
        let len = seq.since(cb.seq) / size * size;
        if len > 0
            && let Some(first) = recovery::fragment_rtx(cx, at, len, size)
        {
            return cx.tp.rtx_queue.next(first);
        }
    }
    at
}

/// Calls `f` for each packet of a range of the retransmit queue, cut to its segments.
fn each(cx: &mut Cx<'_>, seq: SeqNum, end: SeqNum, mut f: impl FnMut(&mut Cx<'_>, Pos)) {
    let first = cx.tp.rtx_queue.find(seq);
    let mut at = cut_before(cx, first, seq);
    while let Some(cb) = cx.tp.rtx_queue.get(at).map(|s| s.tcp)
        && cb.seq.before(end)
    {
        // Its segments beyond the end are another packet: `end` itself, or the start of the segment behind it.
        let size = u32::from(cb.gso_size).max(1);
        let beyond = cb.seq + end.since(cb.seq).div_ceil(size).saturating_mul(size);
        if end.before(cb.end_seq) {
            cut_before(cx, at, beyond);
        }
        f(cx, at);
        let Some(next) = cx.tp.rtx_queue.get(at).map(|s| s.tcp.end_seq) else { break };
        at = cx.tp.rtx_queue.find(next);
    }
}

/// Marks the segments of a range lost; of one that was sent again since, the retransmission counts as lost. What is
/// selectively acknowledged is left alone. Returns how many segments are newly lost. EINVAL: not in the queue; EPERM:
/// in `output`.
pub fn mark_lost(cx: &mut Cx<'_>, seq: SeqNum, end: SeqNum) -> Result<u32> {
    may_mark(cx)?;
    in_queue(cx, seq, end)?;
    let lost = cx.tp.lost;
    each(cx, seq, end, mark_skb_lost);
    if !is_sack(cx.tp) {
        recovery::limit_reno_sacked(cx.tp);
    }
    Ok(cx.tp.lost.wrapping_sub(lost))
}

/// Takes the mark back from what was not sent again since. Returns how many segments count as in flight again. EINVAL:
/// not in the queue; EPERM: in `output`.
pub fn clear_lost(cx: &mut Cx<'_>, seq: SeqNum, end: SeqNum) -> Result<u32> {
    may_mark(cx)?;
    in_queue(cx, seq, end)?;
    let mut cleared = 0;
    each(cx, seq, end, |cx, at| {
        let n = recovery::pcount(cx.tp, at);
        if let Some(s) = cx.tp.rtx_queue.get_mut(at)
            && s.tcp.sacked & (sacked::LOST | sacked::SACKED_RETRANS) == sacked::LOST
        {
            s.tcp.sacked &= !sacked::LOST;
            cx.tp.lost_out = cx.tp.lost_out.saturating_sub(n);
            cleared += n;
        }
    });
    // Not what `lost_out` fell by: cutting a packet in front of its FIN makes one more segment of it.
    Ok(cleared)
}

/// Sends the packet with `seq` again, at most `segs` segments of it, from `output` or `timer`. What is marked lost
/// counts as a retransmission in flight, for which the congestion window must have room. The first packet in `timer` is
/// a probe: it needs neither room nor a mark. Returns the segments sent. EPERM: another operation, or neither marked
/// nor a probe; EINVAL: not in the queue, or selectively acknowledged; EALREADY: it is marked lost and was sent again
/// since; EAGAIN: no room in the window, pacing or the device's queue say later; and the errors of sending.
pub fn retransmit(cx: &mut Cx<'_>, seq: SeqNum, segs: u32) -> Result<u32> {
    let probe = match running(cx)? {
        Running::Timer { probed } => !probed,
        Running::Output(_) => false,
        _ => return Err(Error::Perm),
    };
    in_queue(cx, seq, seq + 1)?;
    let mut at = cx.tp.rtx_queue.find(seq);
    let Some(skb) = cx.tp.rtx_queue.get(at) else { return Err(Error::Inval) };
    let (bits, truesize) = (skb.tcp.sacked, skb.truesize);
    if bits & sacked::SACKED_ACKED != 0 {
        return Err(Error::Inval);
    }
    let is_lost = bits & sacked::LOST != 0;
    if is_lost && bits & sacked::SACKED_RETRANS != 0 {
        return Err(Error::Already);
    }
    let quota = cx.tp.snd_cwnd.saturating_sub(output::packets_in_flight(cx.tp));
    if !is_lost && !probe {
        // It would not count as in flight, so that nothing would bound them.
        return Err(Error::Perm);
    }
    let quota = if probe { quota.max(1) } else { quota };
    if quota == 0 || paced(cx) || (!probe && queued(cx, truesize)) {
        return Err(Error::Again);
    }
    let segs = segs.clamp(1, quota);
    let before = cx.tp.total_retrans;
    if is_lost {
        let loss = cx.tp.ca_state == CaState::Loss;
        let (why, mib) = match loss {
            _ if probe => (Resend::Rto, None),
            true => (Resend::SlowStart, Some(Mib::TcpExtTCPSlowStartRetrans)),
            false => (Resend::FastRetransmit, Some(Mib::TcpExtTCPFastRetrans)),
        };
        retransmit_skb(cx, at, segs, why)?;
        let n = cx.tp.total_retrans.wrapping_sub(before);
        if let Some(mib) = mib {
            cx.stack.mib.add(mib, u64::from(n));
        }
        if output::in_cwnd_reduction(cx.tp) {
            cx.tp.cold_mut().prr_out += n;
        }
        // The timeout is that of this copy, as ours has it (tcp_xmit_retransmit_queue); after `timer` it is armed so.
        if !probe && cx.tp.rtx_queue.find(seq) == Pos::FRONT && cx.tp.pending != XmitTimer::ReoTimeout {
            let rto = micros(cx.tp.rto_us);
            reset_xmit_timer(cx, XmitTimer::Retrans, rto, true);
        }
    } else {
        retransmit_skb_quiet(cx, &mut at, segs, Resend::Tlp)?;
    }
    if let Some(t) = conn::of_mut(cx.tp)
        && let Running::Timer { probed } = &mut t.running
    {
        *probed = true;
    }
    Ok(cx.tp.total_retrans.wrapping_sub(before))
}

/// Sends new data from `output` or `timer`: at most `segs` segments, as far as windows, pacing, Nagle's algorithm and
/// the device's queue allow. Returns the segments sent. EPERM: another operation.
pub fn send_new(cx: &mut Cx<'_>, segs: u32) -> Result<u32> {
    let nonagle = match running(cx)? {
        Running::Output(nonagle) => nonagle,
        Running::Timer { .. } => cx.tp.nonagle,
        _ => return Err(Error::Perm),
    };
    if segs == 0 || cx.tp.repair {
        return Ok(0);
    }
    let before = cx.tp.packets_out;
    let mss = current_mss(cx);
    if let Some(t) = conn::of_mut(cx.tp) {
        t.quota = segs;
    }
    write_xmit(cx, mss, nonagle, Push::Quota);
    Ok(cx.tp.packets_out - before)
}

/// A retransmission timeout: the window falls to one segment beside what is not marked lost, and the connection is in
/// Loss (RFC 5681 §3.1 equation 4). What is lost was marked before. EPERM: not in `timer`.
pub fn enter_loss(cx: &mut Cx<'_>) -> Result<()> {
    if !matches!(running(cx)?, Running::Timer { .. }) {
        return Err(Error::Perm);
    }
    recovery::loss_state(cx);
    Ok(())
}

/// Sets the retransmission timeout, microseconds, at least a millisecond and at most the connection's greatest RTO. The
/// timer takes it when it is armed next, and the next RTT sample of ours replaces it: in `ack`, which comes after that
/// sample and before the timer is armed, it stands.
pub fn set_rto(cx: &mut Cx<'_>, us: u32) -> Result<()> {
    running(cx)?;
    cx.tp.rto_us = us.clamp(RTO_LEAST_US, rtt::rto_max_us(cx).max(RTO_LEAST_US));
    Ok(())
}

/// Arms one of its own timers, `after` from now, at least a microsecond; one that is armed moves. EINVAL: there is no
/// such timer.
pub fn arm(cx: &mut Cx<'_>, timer: usize, after: Duration) -> Result<()> {
    running(cx)?;
    let at = cx.now + after.clamp(TIMER_LEAST, Duration::from_secs(1 << 32));
    set_timer(cx, timer, Some(at))
}

/// Disarms one of its own timers. EINVAL: there is no such timer.
pub fn cancel(cx: &mut Cx<'_>, timer: usize) -> Result<()> {
    running(cx)?;
    set_timer(cx, timer, None)
}

fn set_timer(cx: &mut Cx<'_>, timer: usize, at: Option<Instant>) -> Result<()> {
    debug_assert!(at.is_none_or(|at| at > cx.now));
    let t = conn::of_mut(cx.tp).ok_or(Error::Inval)?;
    *t.at.get_mut(timer).filter(|_| timer < TIMERS).ok_or(Error::Inval)? = at;
    conn::arm(cx);
    Ok(())
}
