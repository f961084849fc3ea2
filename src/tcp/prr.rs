//! Reducing the window: proportional rate reduction in Recovery and CWR (RFC 6937, and its successor's slow-start
//! bound), so that sending goes on through the reduction. Above: `ack`, `recovery`, `segment`. Linux:
//! tcp_cwnd_reduction.

use super::ack::flag;
use super::cong::{self, CaEvent};
use super::tcb::{CaState, Cx, INFINITE_SSTHRESH};
use super::{ecn, output};

/// Notes where a reduction starts, and asks the algorithm for the new threshold (tcp_init_cwnd_reduction).
pub(crate) fn init_cwnd_reduction(cx: &mut Cx<'_>) {
    let tp = &mut *cx.tp;
    tp.high_seq = tp.snd_nxt;
    tp.tlp_active = false;
    tp.snd_cwnd_cnt = 0;
    let prior_cwnd = tp.snd_cwnd;
    let cold = tp.cold_mut();
    (cold.prior_cwnd, cold.prr_delivered, cold.prr_out) = (prior_cwnd, 0, 0);
    cx.tp.snd_ssthresh = cong::ssthresh(cx);
    ecn::queue_cwr(cx);
}

/// Sets the window for this acknowledgement to what is in flight plus what PRR allows: while more than the threshold is
/// in flight, in proportion to what was delivered; below that as in slow start, by one more segment when snd_una
/// advanced and nothing new was lost (tcp_cwnd_reduction).
pub(crate) fn cwnd_reduction(cx: &mut Cx<'_>, newly_acked_sacked: u32, newly_lost: u32, flags: u32) {
    let in_flight = output::packets_in_flight(cx.tp);
    let tp = &mut *cx.tp;
    if newly_acked_sacked == 0 || tp.prior_cwnd == 0 {
        return;
    }
    tp.cold_mut().prr_delivered = tp.prr_delivered.saturating_add(newly_acked_sacked);
    let delta = tp.snd_ssthresh as i64 - in_flight as i64;
    let mut sndcnt;
    if delta < 0 {
        let quota = (tp.snd_ssthresh as u64 * tp.prr_delivered as u64).div_ceil(tp.prior_cwnd as u64);
        sndcnt = quota as i64 - tp.prr_out as i64;
    } else {
        sndcnt = (tp.prr_delivered as i64 - tp.prr_out as i64).max(newly_acked_sacked as i64);
        if flags & flag::SND_UNA_ADVANCED != 0 && newly_lost == 0 {
            sndcnt += 1;
        }
        sndcnt = sndcnt.min(delta);
    }
    // The fast retransmit itself is always allowed.
    sndcnt = sndcnt.max(if tp.prr_out == 0 { 1 } else { 0 });
    let cwnd = in_flight as i64 + sndcnt;
    cong::set_cwnd(tp, cwnd.clamp(1, u32::MAX as i64) as u32);
}

/// The reduction is complete: the window is the threshold, unless it was undone (tcp_end_cwnd_reduction).
pub(crate) fn end_cwnd_reduction(cx: &mut Cx<'_>) {
    if cong::has_cong_control(cx) {
        return;
    }
    let tp = &mut *cx.tp;
    if tp.snd_ssthresh < INFINITE_SSTHRESH && (tp.ca_state == CaState::Cwr || tp.undo_valid) {
        let ssthresh = tp.snd_ssthresh;
        cong::set_cwnd(tp, ssthresh);
        tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    }
    cong::ca_event(cx, CaEvent::CompleteCwr);
}

/// Congestion without loss: an ECN echo, or a full local queue (RFC 3168 §6.1.2; tcp_enter_cwr).
pub(crate) fn enter_cwr(cx: &mut Cx<'_>) {
    cx.tp.forbid_undo();
    if cx.tp.ca_state < CaState::Cwr {
        cx.tp.undo_valid = false;
        init_cwnd_reduction(cx);
        cong::set_ca_state(cx, CaState::Cwr);
    }
}
