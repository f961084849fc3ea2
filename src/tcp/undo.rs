//! Undoing a window reduction when it turns out that nothing was lost: by timestamps (Eifel, RFC 3522), by DSACK, by
//! F-RTO. Above: `recovery`. Linux: tcp_undo_cwnd_reduction and those that call it.

use super::rack::RECOVERY_THRESH;
use super::recovery::try_keep_open;
use super::tcb::{CaState, Cx, TcpSock};
use super::{cong, ecn, sack};
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::sock::skb::sacked;
use crate::wire::seq::SeqNum;

/// Whether the segment in hand echoes a timestamp from before `sent` (tcp_tsopt_ecr_before).
pub(crate) fn ecr_before(tp: &TcpSock, sent: Instant) -> bool {
    tp.rx_opt.saw_tstamp
        && tp.rx_opt.rcv_tsecr != 0
        && SeqNum(tp.rx_opt.rcv_tsecr).before(SeqNum(sent.as_millis() as u32))
}

/// Whether the queue has anything that was sent again (tcp_any_retrans_done).
pub(crate) fn any_retrans_done(tp: &TcpSock) -> bool {
    tp.retrans_out != 0 || tp.rtx_queue.front().is_some_and(|s| s.tcp.sacked & sacked::EVER_RETRANS != 0)
}

/// Clears `retrans_stamp` if no retransmission is left in the queue (tcp_retrans_stamp_cleanup).
pub(crate) fn retrans_stamp_cleanup(tp: &mut TcpSock) {
    if !any_retrans_done(tp) {
        tp.retrans_stamp = Instant::ZERO;
    }
}

/// The retransmission scan starts from the head (tcp_clear_all_retrans_hints).
pub(crate) fn clear_retrans_hints(tp: &mut TcpSock) {
    tp.clear_retransmit_hint();
}

/// Marks the start of a reduction that can be undone. Retransmissions in flight, loss probes included, may still cause
/// DSACKs. -1 stands for none, because 0 means that a DSACK has come for each (tcp_init_undo).
pub(crate) fn init_undo(tp: &mut TcpSock) {
    tp.cold_mut().undo_marker = tp.snd_una;
    tp.undo_valid = true;
    let probe = (tp.tlp_active && tp.tlp_retrans) as u32;
    tp.cold_mut().undo_retrans = match tp.retrans_out.saturating_add(probe) {
        0 => -1,
        n => n.min(i32::MAX as u32) as i32,
    };
}

/// Whether the acknowledged data was only late: the acknowledgement is for the original and not for a retransmission
/// (tcp_packet_delayed).
fn packet_delayed(cx: &Cx<'_>) -> bool {
    let tp = &*cx.tp;
    if tp.retrans_stamp != Instant::ZERO {
        return ecr_before(tp, tp.retrans_stamp);
    }
    // Nothing was retransmitted, so the original was acknowledged. In two cases the stamp was cleared early: without
    // SACK at the end of recovery, and by the acknowledgement of the SYN.
    if !sack::is_sack(tp) && !tp.snd_una.before(tp.high_seq) {
        return false;
    }
    cx.state() != crate::sock::state::State::SynSent
}

fn may_undo(cx: &Cx<'_>) -> bool {
    cx.tp.undo_valid && (cx.tp.undo_retrans == 0 || packet_delayed(cx))
}

/// Restores window and threshold; `unmark`: nothing counts as lost any more (tcp_undo_cwnd_reduction).
pub(super) fn undo_cwnd_reduction(cx: &mut Cx<'_>, unmark: bool) {
    if unmark {
        for s in cx.tp.rtx_queue.iter_mut() {
            s.tcp.sacked &= !sacked::LOST;
        }
        cx.tp.lost_out = 0;
        clear_retrans_hints(cx.tp);
    }
    if cx.tp.prior_ssthresh != 0 {
        let cwnd = cx.with_ca(|ca, cx| ca.undo_cwnd(cx)).unwrap_or(cx.tp.snd_cwnd.max(cx.tp.prior_cwnd));
        cong::set_cwnd(cx.tp, cwnd);
        if cx.tp.prior_ssthresh > cx.tp.snd_ssthresh {
            cx.tp.snd_ssthresh = cx.tp.prior_ssthresh;
            ecn::withdraw_cwr(cx);
        }
    }
    cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    cx.tp.undo_valid = false;
    // Losses are detected anew from now on.
    cx.tp.rack_advanced = true;
}

/// Without SACK the state stays until data above `high_seq` is acknowledged, because old duplicates could start another
/// fast retransmit (RFC 6582 §3.2 step 1; tcp_is_non_sack_preventing_reopen).
fn non_sack_preventing_reopen(cx: &mut Cx<'_>) -> bool {
    if cx.tp.snd_una == cx.tp.high_seq && !sack::is_sack(cx.tp) {
        retrans_stamp_cleanup(cx.tp);
        return true;
    }
    false
}

/// Everything up to `high_seq` is acknowledged: back to Open, with the old window if nothing was lost. True: the state
/// stays (tcp_try_undo_recovery).
pub(crate) fn try_undo_recovery(cx: &mut Cx<'_>) -> bool {
    if may_undo(cx) {
        let loss = cx.tp.ca_state == CaState::Loss;
        undo_cwnd_reduction(cx, false);
        cx.stack.mib.inc(if loss { Mib::TcpExtTCPLossUndo } else { Mib::TcpExtTCPFullUndo });
    } else if cx.tp.rack.reo_wnd_persist != 0 {
        cx.tp.rack.reo_wnd_persist -= 1;
    }
    if non_sack_preventing_reopen(cx) {
        return true;
    }
    cong::set_ca_state(cx, CaState::Open);
    cx.tp.is_sack_reneg = false;
    false
}

/// All retransmissions were reported as duplicates (tcp_try_undo_dsack).
pub(crate) fn try_undo_dsack(cx: &mut Cx<'_>) -> bool {
    if !cx.tp.undo_valid || cx.tp.undo_retrans != 0 {
        return false;
    }
    cx.tp.rack.reo_wnd_persist = RECOVERY_THRESH.min(cx.tp.rack.reo_wnd_persist.saturating_add(1));
    undo_cwnd_reduction(cx, false);
    cx.stack.mib.inc(Mib::TcpExtTCPDSACKUndo);
    true
}

/// In Recovery: a partial acknowledgement of delayed data. True: wait for the retransmissions in flight
/// (tcp_try_undo_partial).
pub(crate) fn try_undo_partial(cx: &mut Cx<'_>, prior_snd_una: SeqNum) -> bool {
    if !cx.tp.undo_valid || !packet_delayed(cx) {
        return false;
    }
    sack::check_sack_reordering(cx, prior_snd_una, true);
    // While retransmissions are in flight, waits for their acknowledgements.
    if cx.tp.retrans_out != 0 {
        return true;
    }
    retrans_stamp_cleanup(cx.tp);
    undo_cwnd_reduction(cx, true);
    cx.stack.mib.inc(Mib::TcpExtTCPPartialUndo);
    try_keep_open(cx);
    false
}

/// In Loss: the timeout was spurious, by F-RTO (`frto`), timestamp or DSACK (tcp_try_undo_loss).
pub(crate) fn try_undo_loss(cx: &mut Cx<'_>, frto: bool) -> bool {
    if !frto && !may_undo(cx) {
        return false;
    }
    undo_cwnd_reduction(cx, true);
    cx.stack.mib.inc(Mib::TcpExtTCPLossUndo);
    if frto {
        cx.stack.mib.inc(Mib::TcpExtTCPSpuriousRTOs);
    }
    cx.tp.retransmits = 0;
    if non_sack_preventing_reopen(cx) {
        return true;
    }
    if frto || sack::is_sack(cx.tp) {
        cong::set_ca_state(cx, CaState::Open);
        cx.tp.is_sack_reneg = false;
    }
    true
}

/// Undoes the reduction if the peer answers the first SYN, so that its retransmission was spurious
/// (tcp_try_undo_spurious_syn).
pub(crate) fn try_undo_spurious_syn(cx: &mut Cx<'_>) {
    let tp = &mut *cx.tp;
    if tp.undo_valid
        && tp.retrans_stamp != Instant::ZERO
        && tp.rx_opt.saw_tstamp
        && tp.retrans_stamp.as_millis() as u32 == tp.rx_opt.rcv_tsecr
    {
        tp.undo_valid = false;
    }
}
