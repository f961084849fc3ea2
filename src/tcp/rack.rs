//! RACK (RFC 8985): a segment is lost when one sent sufficiently later was delivered. Above: `recovery`, `timer`.
//! Linux: net/ipv4/tcp_recovery.c, tcp_mark_skb_lost.

use super::queue::Pos;
use super::recovery::{self, pcount};
use super::tcb::{CaState, Cx, RateSample, TcpSock, XmitTimer};
use super::{output, prr, rate, retransmit, rtt, timer};
use crate::base::env::{Duration, Instant};
use crate::counters::Mib;
use crate::sock::skb::{TcpCb, sacked};
use crate::wire::seq::SeqNum;

/// Recoveries after which a widened reordering window falls back (TCP_RACK_RECOVERY_THRESH).
pub(crate) const RECOVERY_THRESH: u8 = 16;
/// `tcp_recovery`: the reordering window is not adapted.
const STATIC_REO_WND: i32 = 2;
/// `tcp_recovery`: the duplicate threshold does not shut the reordering window.
const NO_DUPTHRESH: i32 = 4;
/// Least time a timer is set for, microseconds (TCP_TIMEOUT_MIN_US).
pub(crate) const TIMEOUT_MIN_US: u64 = 2_000;

/// A segment sent at `xmit` was delivered (RFC 8985 §6.2 step 2; tcp_rack_advance). If a retransmission seems to have
/// been delivered faster than the least RTT, the acknowledgement is the original's.
#[inline]
pub(crate) fn rack_advance(tp: &mut TcpSock, now: Instant, bits: u8, end_seq: SeqNum, xmit: Instant) {
    let rtt = now.micros_since(xmit).min(u32::MAX as i64) as u32;
    if rtt < rtt::min_rtt(tp) && bits & sacked::RETRANS != 0 {
        return;
    }
    tp.rack_advanced = true;
    tp.rack.rtt_us = rtt;
    if rate::sent_after(xmit, tp.rack.mstamp, end_seq, tp.rack.end_seq) {
        tp.rack.mstamp = xmit;
        tp.rack.end_seq = end_seq;
    }
}

/// Whether the timestamp shows that the original was acknowledged, not its retransmission (tcp_skb_spurious_retrans).
pub(crate) fn spurious_retrans(tp: &TcpSock, cb: &TcpCb) -> bool {
    cb.sacked & sacked::RETRANS != 0 && super::undo::ecr_before(tp, cb.mstamp)
}

/// Time that reordering may take, microseconds (RFC 8985 §6.2 step 4; tcp_rack_reo_wnd).
fn reo_wnd(cx: &Cx<'_>) -> u32 {
    let tp = &*cx.tp;
    if tp.rare().reord_seen == 0 {
        if tp.ca_state >= CaState::Recovery {
            return 0;
        }
        if tp.sacked_out >= tp.reordering && cx.stack.sysctl.tcp_recovery() & NO_DUPTHRESH == 0 {
            return 0;
        }
    }
    let wnd = (rtt::min_rtt(tp) >> 2) as u64 * tp.rack.reo_wnd_steps as u64;
    wnd.min((tp.srtt_us >> 3) as u64) as u32
}

/// Microseconds until the packet at `at` counts as lost; zero or less: now (tcp_rack_skb_timeout).
pub(super) fn skb_timeout(cx: &Cx<'_>, at: Pos, reo_wnd: u32) -> i64 {
    let Some(s) = cx.tp.rtx_queue.get(at) else { return 0 };
    cx.tp.rack.rtt_us as i64 + reo_wnd as i64 - cx.now.micros_since(s.tcp.mstamp)
}

/// Marks lost segments; returns microseconds until others may be lost (0: none; tcp_rack_detect_loss). Walks the list
/// in order of sending and stops at the first packet sent after the latest delivered one. What it finds lost leaves the
/// list until it is sent again.
fn detect_loss(cx: &mut Cx<'_>) -> u64 {
    let mut wait = 0u64;
    let reo_wnd = reo_wnd(cx);
    let mut next = cx.tp.rtx_queue.sent_first();
    while let Some(at) = next
        && let Some(s) = cx.tp.rtx_queue.get(at)
    {
        let (bits, mstamp, end_seq) = (s.tcp.sacked, s.tcp.mstamp, s.tcp.end_seq);
        next = cx.tp.rtx_queue.sent_after(at);
        if bits & sacked::LOST != 0 && bits & sacked::SACKED_RETRANS == 0 {
            continue;
        }
        if !rate::sent_after(cx.tp.rack.mstamp, mstamp, cx.tp.rack.end_seq, end_seq) {
            break;
        }
        let remaining = skb_timeout(cx, at, reo_wnd);
        if remaining <= 0 {
            mark_skb_lost(cx, at);
            cx.tp.rtx_queue.unlink(at);
        } else {
            wait = wait.max(remaining as u64);
        }
    }
    wait
}

/// After an acknowledgement: marks losses; true when the reordering timer was set (tcp_rack_mark_lost).
pub(crate) fn rack_mark_lost(cx: &mut Cx<'_>) -> bool {
    if !cx.tp.rack_advanced {
        return false;
    }
    cx.tp.rack_advanced = false;
    let wait = detect_loss(cx);
    if wait == 0 {
        return false;
    }
    let when = Duration::from_micros(wait + TIMEOUT_MIN_US).min(super::ack::rto(cx));
    timer::reset_xmit_timer(cx, XmitTimer::ReoTimeout, when, false);
    true
}

/// The reordering timer expired (RFC 8985 §6.3; tcp_rack_reo_timeout).
pub(crate) fn rack_reo_timeout(cx: &mut Cx<'_>) {
    let lost = cx.tp.lost;
    let prior = output::packets_in_flight(cx.tp);
    detect_loss(cx);
    if prior != output::packets_in_flight(cx.tp) {
        if cx.tp.ca_state != CaState::Recovery {
            recovery::enter_recovery(cx, false);
            if !super::cong::has_cong_control(cx) {
                let lost = cx.tp.lost.wrapping_sub(lost);
                prr::cwnd_reduction(cx, 1, lost, 0);
            }
        }
        retransmit::xmit_retransmit_queue(cx);
    }
    if cx.tp.pending != XmitTimer::Retrans {
        timer::rearm_rto(cx);
    }
}

/// Widens the reordering window by a quarter RTT for each round trip with a DSACK, and lets it fall back after sixteen
/// recoveries without (RFC 8985 §6.2 step 4; tcp_rack_update_reo_wnd).
pub(crate) fn rack_update_reo_wnd(cx: &mut Cx<'_>, rs: &RateSample) {
    if cx.stack.sysctl.tcp_recovery() & STATIC_REO_WND != 0 || rs.prior_delivered == 0 {
        return;
    }
    let delivered = cx.tp.delivered;
    let rack = &mut cx.tp.rack;
    if SeqNum(rs.prior_delivered).before(SeqNum(rack.last_delivered)) {
        rack.dsack_seen = false;
    }
    if rack.dsack_seen {
        rack.reo_wnd_steps = rack.reo_wnd_steps.saturating_add(1);
        rack.dsack_seen = false;
        rack.last_delivered = delivered;
        rack.reo_wnd_persist = RECOVERY_THRESH;
    } else if rack.reo_wnd_persist == 0 {
        rack.reo_wnd_steps = 1;
    }
}

/// Marks the packet at `at` of the retransmit queue lost; if it was marked and retransmitted, the retransmission counts
/// as lost (tcp_mark_skb_lost).
pub(crate) fn mark_skb_lost(cx: &mut Cx<'_>, at: Pos) {
    let n = pcount(cx.tp, at);
    let tp = &mut *cx.tp;
    let hint = tp.retransmit_hint;
    let Some(s) = tp.rtx_queue.get_mut(at) else { return };
    if s.tcp.sacked & sacked::SACKED_ACKED != 0 {
        return;
    }
    // The retransmission scan restarts here, if it was further on or had finished.
    let seq = s.tcp.seq;
    let restarts = match hint {
        None => tp.retrans_out >= tp.lost_out,
        Some(h) => seq.before(h),
    };
    if restarts {
        tp.cold.get_or_insert_default().retransmit_hint = Some(seq);
    }
    if s.tcp.sacked & sacked::LOST != 0 {
        if s.tcp.sacked & sacked::SACKED_RETRANS != 0 {
            s.tcp.sacked &= !sacked::SACKED_RETRANS;
            tp.retrans_out = tp.retrans_out.saturating_sub(n);
            cx.stack.mib.add(Mib::TcpExtTCPLostRetransmit, n as u64);
            tp.cold_mut().lost = tp.lost.wrapping_add(n);
        }
    } else {
        tp.lost_out += n;
        s.tcp.sacked |= sacked::LOST;
        tp.cold_mut().lost = tp.lost.wrapping_add(n);
    }
}
