//! Loss recovery: the states Open, Disorder, CWR, Recovery and Loss, and the transitions between them; F-RTO and loss
//! probes. `rack` decides which segments are lost, `prr` how fast they leave, `undo` which reductions are undone.
//! Above: `ack`, `timer`. Below: `output`. RFC 5681, RFC 6582 (without SACK), RFC 6675, RFC 5682 (F-RTO). Linux:
//! tcp_fastretrans_alert, tcp_enter_loss.

use super::ack::{self, Rexmit, flag};
use super::cong::{self, CaEvent};
use super::output::in_cwnd_reduction;
use super::prr::{end_cwnd_reduction, enter_cwr, init_cwnd_reduction};
use super::queue::Pos;
use super::rack::{mark_skb_lost, rack_mark_lost};
use super::tcb::{CaState, Cx, TcpSock, XmitTimer};
use super::undo::{any_retrans_done, clear_retrans_hints, init_undo, retrans_stamp_cleanup};
use super::{ecn, mtu, mtu_probe, output, retransmit, sack, tfb, timer, xmit};
use crate::base::env::{Duration, Instant};
use crate::counters::Mib;
use crate::sock::skb::sacked;
use crate::sock::state::State;
use crate::wire::seq::SeqNum;

/// Cuts the packet at `at` of the retransmit queue at `len` bytes; returns where it is then. None: no memory, or not
/// possible.
pub(crate) fn fragment_rtx(cx: &mut Cx<'_>, at: Pos, len: u32, mss: u32) -> Option<Pos> {
    xmit::fragment(cx, true, at, len, mss).ok()
}

/// Segment count of the packet at `at` of the retransmit queue.
pub(super) fn pcount(tp: &TcpSock, at: Pos) -> u32 {
    tp.rtx_queue.get(at).map_or(0, |s| s.tcp.gso_segs.max(1) as u32)
}

// ---- Without SACK: duplicates stand for segments that arrived (RFC 5681 §3.2, RFC 6582).

/// Limits `sacked_out` to what can have arrived: at least one segment is missing. True: it was above the limit
/// (tcp_limit_reno_sacked).
pub(super) fn limit_reno_sacked(tp: &mut TcpSock) -> bool {
    let holes = tp.lost_out.max(1).min(tp.packets_out);
    if tp.sacked_out.saturating_add(holes) > tp.packets_out {
        tp.sacked_out = tp.packets_out - holes;
        return true;
    }
    false
}

/// There are more duplicates than segments in flight: the network reorders (tcp_check_reno_reordering).
fn check_reno_reordering(cx: &mut Cx<'_>, addend: u32) {
    if !limit_reno_sacked(cx.tp) {
        return;
    }
    let max = cx.stack.sysctl.tcp_max_reordering().max(1) as u32;
    cx.tp.reordering = cx.tp.packets_out.saturating_add(addend).min(max);
    cx.tp.rare_mut().reord_seen = cx.tp.rare().reord_seen.saturating_add(1);
    cx.stack.mib.inc(Mib::TcpExtTCPRenoReorder);
}

/// `n` duplicate acknowledgements arrived (tcp_add_reno_sack).
fn add_reno_sack(cx: &mut Cx<'_>, n: u32, ece: bool) {
    if n == 0 {
        return;
    }
    let prior = cx.tp.sacked_out;
    cx.tp.sacked_out = prior.saturating_add(n);
    check_reno_reordering(cx, 0);
    let delivered = cx.tp.sacked_out.saturating_sub(prior);
    ack::count_delivered(cx, delivered, ece);
}

/// `acked` segments were acknowledged: one filled the hole, the others were counted as duplicates
/// (tcp_remove_reno_sacks).
pub(crate) fn remove_reno_sacks(cx: &mut Cx<'_>, acked: u32, ece: bool) {
    if acked > 0 {
        let fresh = acked.saturating_sub(cx.tp.sacked_out).max(1);
        ack::count_delivered(cx, fresh, ece);
        cx.tp.sacked_out = cx.tp.sacked_out.saturating_sub(acked - 1);
    }
    check_reno_reordering(cx, acked);
}

/// Without SACK: the first segment is lost when duplicates reach the threshold, and in recovery after each partial
/// acknowledgement (RFC 6582 §3.2; tcp_newreno_mark_lost).
fn newreno_mark_lost(cx: &mut Cx<'_>, snd_una_advanced: bool) {
    let tp = &*cx.tp;
    let state = tp.ca_state;
    let duplicates = state < CaState::Recovery && tp.sacked_out >= tp.reordering;
    if !(duplicates || (state == CaState::Recovery && snd_una_advanced)) {
        return;
    }
    let Some(head) = tp.rtx_queue.front() else { return };
    if head.tcp.sacked & sacked::LOST != 0 {
        return;
    }
    let mss = head.tcp.gso_size as u32;
    if head.tcp.gso_segs > 1 && mss != 0 && head.len() > mss as usize {
        // Only the first segment of a super-packet is marked. If it cannot be cut, more than necessary is
        // retransmitted.
        let _ = fragment_rtx(cx, Pos::FRONT, mss, mss);
    }
    mark_skb_lost(cx, Pos::FRONT);
}

/// Detects losses by RACK, or without SACK by duplicates (tcp_identify_packet_loss).
fn identify_packet_loss(cx: &mut Cx<'_>, flags: &mut u32) {
    // An alternative that detects them has done so before the state machine ran.
    if cx.tp.rtx_queue.is_empty() || tfb::has(cx.tp, tfb::slot::ACK) {
        return;
    }
    if !sack::is_sack(cx.tp) {
        newreno_mark_lost(cx, *flags & flag::SND_UNA_ADVANCED != 0);
        return;
    }
    let prior_retrans = cx.tp.retrans_out;
    if rack_mark_lost(cx) {
        // The reordering timer is set instead.
        *flags &= !flag::SET_XMIT_TIMER;
    }
    if prior_retrans > cx.tp.retrans_out {
        *flags |= flag::LOST_RETRANS;
    }
}

// ---- The state machine.

/// Moves to Disorder if anything is sacked, lost or retransmitted, else to Open (tcp_try_keep_open).
pub(crate) fn try_keep_open(cx: &mut Cx<'_>) {
    let amiss = output::left_out(cx.tp) != 0 || any_retrans_done(cx.tp);
    let state = if amiss { CaState::Disorder } else { CaState::Open };
    if cx.tp.ca_state != state {
        cong::set_ca_state(cx, state);
        cx.tp.high_seq = cx.tp.snd_nxt;
    }
}

fn try_to_open(cx: &mut Cx<'_>, flags: u32) {
    retrans_stamp_cleanup(cx.tp);
    if flags & flag::ECE != 0 {
        enter_cwr(cx);
    }
    if cx.tp.ca_state != CaState::Cwr {
        try_keep_open(cx);
    }
}

/// The peer dropped data that it had selectively acknowledged: arms a short timeout, after which all is retransmitted,
/// unless the peer acknowledges the data by then (RFC 2018 §8; tcp_check_sack_reneging).
fn check_sack_reneging(cx: &mut Cx<'_>, flags: &mut u32) -> bool {
    if *flags & flag::SACK_RENEGING == 0 || *flags & flag::SND_UNA_ADVANCED == 0 {
        return false;
    }
    let delay = Duration::from_micros((cx.tp.srtt_us >> 4).max(10_000) as u64);
    timer::reset_xmit_timer(cx, XmitTimer::Retrans, delay, false);
    *flags &= !flag::SET_XMIT_TIMER;
    true
}

/// RFC 5681 §3.2 and RFC 6675 §5 as a state machine, run by every acknowledgement that is not plain progress
/// (tcp_fastretrans_alert). Says in `rexmit` what is to be sent.
pub(crate) fn fastretrans_alert(
    cx: &mut Cx<'_>,
    prior_snd_una: SeqNum,
    num_dupack: u32,
    flags: &mut u32,
    rexmit: &mut Rexmit,
) {
    let flag0 = *flags;
    let ece = flag0 & flag::ECE != 0;
    let advanced = flag0 & flag::SND_UNA_ADVANCED != 0;
    if cx.tp.packets_out == 0 && cx.tp.sacked_out != 0 {
        cx.tp.sacked_out = 0;
    }
    // After an ECN echo the reduction cannot be undone.
    if ece {
        cx.tp.forbid_undo();
    }
    if check_sack_reneging(cx, flags) {
        return;
    }

    // Does the present state end?
    if cx.tp.ca_state == CaState::Open {
        cx.tp.retrans_stamp = Instant::ZERO;
    } else if !cx.tp.snd_una.before(cx.tp.high_seq) {
        match cx.tp.ca_state {
            // Something above high_seq must be acknowledged, so that the receiver has seen CWR.
            CaState::Cwr if cx.tp.snd_una != cx.tp.high_seq => {
                end_cwnd_reduction(cx);
                cong::set_ca_state(cx, CaState::Open);
            }
            CaState::Recovery => {
                if !sack::is_sack(cx.tp) {
                    cx.tp.sacked_out = 0;
                }
                if super::undo::try_undo_recovery(cx) {
                    return;
                }
                end_cwnd_reduction(cx);
            }
            _ => {}
        }
    }

    match cx.tp.ca_state {
        CaState::Recovery => return in_recovery(cx, prior_snd_una, num_dupack, flags, rexmit),
        CaState::Loss => {
            process_loss(cx, flag0, num_dupack, rexmit);
            if cx.tp.ca_state != CaState::Loss {
                update_rto_time(cx);
            }
            identify_packet_loss(cx, flags);
            if cx.tp.ca_state != CaState::Open && *flags & flag::LOST_RETRANS == 0 {
                return;
            }
            // The loss was undone, or retransmissions were lost as well: continues as in Open.
        }
        _ => {}
    }
    if !sack::is_sack(cx.tp) {
        if advanced {
            cx.tp.sacked_out = 0;
        }
        add_reno_sack(cx, num_dupack, ece);
    }
    if cx.tp.ca_state <= CaState::Disorder {
        super::undo::try_undo_dsack(cx);
    }
    identify_packet_loss(cx, flags);
    if cx.tp.lost_out == 0 {
        try_to_open(cx, flag0);
        return;
    }
    if cx.tp.ca_state < CaState::Cwr && mtu_probe::lost(cx) {
        return simple_retransmit(cx);
    }
    enter_recovery(cx, ece);
    *rexmit = Rexmit::Lost;
}

/// The state machine in Recovery: undoes it, or detects more losses and goes on.
fn in_recovery(cx: &mut Cx<'_>, prior_snd_una: SeqNum, num_dupack: u32, flags: &mut u32, rexmit: &mut Rexmit) {
    let flag0 = *flags;
    let ece = flag0 & flag::ECE != 0;
    if flag0 & flag::SND_UNA_ADVANCED == 0 {
        if !sack::is_sack(cx.tp) {
            add_reno_sack(cx, num_dupack, ece);
        }
    } else if super::undo::try_undo_partial(cx, prior_snd_una) {
        return;
    }
    if super::undo::try_undo_dsack(cx) {
        try_to_open(cx, flag0);
    }
    identify_packet_loss(cx, flags);
    if cx.tp.ca_state != CaState::Recovery {
        if cx.tp.lost_out == 0 {
            return;
        }
        enter_recovery(cx, ece);
    }
    *rexmit = Rexmit::Lost;
}

/// Begins fast recovery (RFC 6675 §5 step 4; tcp_enter_recovery). `ece`: the reduction is final.
pub(crate) fn enter_recovery(cx: &mut Cx<'_>, ece: bool) {
    retrans_stamp_cleanup(cx.tp);
    let mib = if sack::is_sack(cx.tp) { Mib::TcpExtTCPSackRecovery } else { Mib::TcpExtTCPRenoRecovery };
    cx.stack.mib.inc(mib);
    cx.tp.forbid_undo();
    init_undo(cx.tp);
    if !in_cwnd_reduction(cx.tp) {
        if !ece {
            cx.tp.cold_mut().prior_ssthresh = output::current_ssthresh(cx.tp);
        }
        init_cwnd_reduction(cx);
    }
    cong::set_ca_state(cx, CaState::Recovery);
}

/// In Loss: undo, F-RTO, or go on sending what was lost (tcp_process_loss).
fn process_loss(cx: &mut Cx<'_>, flags: u32, num_dupack: u32, rexmit: &mut Rexmit) {
    let advanced = flags & flag::SND_UNA_ADVANCED != 0;
    let recovered = !cx.tp.snd_una.before(cx.tp.high_seq);
    if advanced && super::undo::try_undo_loss(cx, false) {
        return;
    }
    if cx.tp.frto {
        // RFC 5682 §3.1 step 3b: a segment that was sent only once arrived, so the timeout was spurious.
        if flags & flag::ORIG_SACK_ACKED != 0 && super::undo::try_undo_loss(cx, true) {
            return;
        }
        if cx.tp.snd_nxt.after(cx.tp.high_seq) {
            if flags & flag::DATA_SACKED != 0 || num_dupack != 0 {
                // Step 3a: the loss was real.
                cx.tp.frto = false;
            }
        } else if advanced && !recovered {
            cx.tp.high_seq = cx.tp.snd_nxt;
            // Step 2b: sends new data if there is any and the window allows it.
            if !cx.tp.write_queue.is_empty() && output::wnd_end(cx.tp).after(cx.tp.snd_nxt) {
                *rexmit = Rexmit::New;
                return;
            }
            cx.tp.frto = false;
        }
    }
    if recovered {
        super::undo::try_undo_recovery(cx);
        return;
    }
    if !sack::is_sack(cx.tp) {
        if cx.tp.snd_nxt.after(cx.tp.high_seq) && num_dupack != 0 {
            add_reno_sack(cx, num_dupack, flags & flag::ECE != 0);
        } else if advanced {
            cx.tp.sacked_out = 0;
        }
    }
    *rexmit = Rexmit::Lost;
}

/// An episode of retransmission timeouts has ended (tcp_update_rto_time).
pub(super) fn update_rto_time(cx: &mut Cx<'_>) {
    if cx.tp.rare().rto_stamp_ms != 0 {
        let spent = (cx.now.as_millis() as u32).wrapping_sub(cx.tp.rare().rto_stamp_ms);
        cx.tp.rare_mut().total_rto_time_ms = cx.tp.rare().total_rto_time_ms.wrapping_add(spent);
        cx.tp.rare_mut().rto_stamp_ms = 0;
    }
}

/// After a timeout marks everything lost except what RACK expects to arrive still; clears the scoreboard when the peer
/// has reneged (tcp_timeout_mark_lost).
fn timeout_mark_lost(cx: &mut Cx<'_>) {
    let reneg = cx.tp.rtx_queue.front().is_some_and(|s| s.tcp.sacked & sacked::SACKED_ACKED != 0);
    let is_sack = sack::is_sack(cx.tp);
    if reneg {
        cx.stack.mib.inc(Mib::TcpExtTCPSACKReneging);
        cx.tp.sacked_out = 0;
        cx.tp.is_sack_reneg = true;
    } else if !is_sack {
        cx.tp.sacked_out = 0;
    }
    let mut next = Pos::FRONT;
    while cx.tp.rtx_queue.get(next).is_some() {
        let at = next;
        next = cx.tp.rtx_queue.next(at);
        if reneg {
            if let Some(s) = cx.tp.rtx_queue.get_mut(at) {
                s.tcp.sacked &= !sacked::SACKED_ACKED;
            }
        } else if is_sack && at != Pos::FRONT && super::rack::skb_timeout(cx, at, 0) > 0 {
            continue;
        }
        mark_skb_lost(cx, at);
    }
    clear_retrans_hints(cx.tp);
}

/// The retransmission timer expired: window of one segment, everything lost (RFC 5681 §3.1 equation 4, RFC 5682 §3.1
/// step 1; tcp_enter_loss). The caller then sends the first segment again.
pub(crate) fn enter_loss(cx: &mut Cx<'_>) {
    timeout_mark_lost(cx);
    loss_state(cx);
}

/// The part of it behind the marks: window, state, F-RTO.
pub(super) fn loss_state(cx: &mut Cx<'_>) {
    let new_recovery = cx.tp.ca_state < CaState::Recovery;
    // The window is reduced once: further timeouts of the same data do not reduce it again.
    if cx.tp.ca_state <= CaState::Disorder
        || !cx.tp.high_seq.after(cx.tp.snd_una)
        || (cx.tp.ca_state == CaState::Loss && cx.tp.retransmits == 0)
    {
        cx.tp.cold_mut().prior_ssthresh = output::current_ssthresh(cx.tp);
        cx.tp.cold_mut().prior_cwnd = cx.tp.snd_cwnd;
        cx.tp.snd_ssthresh = cong::ssthresh(cx);
        cong::ca_event(cx, CaEvent::Loss);
        init_undo(cx.tp);
    }
    let in_flight = output::packets_in_flight(cx.tp);
    cong::set_cwnd(cx.tp, in_flight.saturating_add(1));
    cx.tp.snd_cwnd_cnt = 0;
    cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    // A timeout despite many duplicates: the reordering degree was estimated too high.
    let reordering = cx.stack.sysctl.tcp_reordering().max(1) as u32;
    if cx.tp.ca_state <= CaState::Disorder && cx.tp.sacked_out >= reordering {
        cx.tp.reordering = cx.tp.reordering.min(reordering);
    }
    cong::set_ca_state(cx, CaState::Loss);
    cx.tp.high_seq = cx.tp.snd_nxt;
    cx.tp.tlp_active = false;
    ecn::queue_cwr(cx);
    cx.tp.frto = cx.stack.sysctl.tcp_frto() != 0 && (new_recovery || cx.tp.retransmits != 0);
}

/// The path MTU fell: segments in flight that are too large count as lost, but not as congestion (RFC 1191 §6.4;
/// tcp_simple_retransmit).
pub(crate) fn simple_retransmit(cx: &mut Cx<'_>) {
    let mss = mtu::current_mss(cx) as usize;
    // A SYN and its data are two segments here and were one packet: the path's MTU is why it was lost, whatever the two
    // measure.
    let all = cx.tp.syn_data() && cx.state() == State::SynSent;
    let mut at = Pos::FRONT;
    while let Some(s) = cx.tp.rtx_queue.get(at) {
        if all || super::shift::seglen(s) as usize > mss {
            mark_skb_lost(cx, at);
        }
        at = cx.tp.rtx_queue.next(at);
    }
    if cx.tp.lost_out == 0 {
        return;
    }
    if !sack::is_sack(cx.tp) {
        limit_reno_sacked(cx.tp);
    }
    non_congestion_loss_retransmit(cx);
}

/// Sends again what is marked lost, for a reason that is no congestion: the window does not shrink
/// (tcp_non_congestion_loss_retransmit).
pub(super) fn non_congestion_loss_retransmit(cx: &mut Cx<'_>) {
    if cx.tp.ca_state != CaState::Loss {
        cx.tp.high_seq = cx.tp.snd_nxt;
        cx.tp.snd_ssthresh = output::current_ssthresh(cx.tp);
        cx.tp.forbid_undo();
        cx.tp.undo_valid = false;
        cong::set_ca_state(cx, CaState::Loss);
    }
    retransmit::xmit_retransmit_queue(cx);
}

/// What an acknowledgement says of an outstanding loss probe (RFC 8985 §7.4; tcp_process_tlp_ack): if the probe
/// repaired a loss that was not detected otherwise, the window is reduced as for any loss.
pub(crate) fn process_tlp_ack(cx: &mut Cx<'_>, ack: SeqNum, flags: u32) {
    if ack.before(cx.tp.tlp_high_seq) {
        return;
    }
    if !cx.tp.tlp_retrans || flags & flag::DSACK_TLP != 0 {
        // New data was the probe, or original and probe both arrived.
        cx.tp.tlp_active = false;
    } else if ack.after(cx.tp.tlp_high_seq) {
        init_cwnd_reduction(cx);
        cong::set_ca_state(cx, CaState::Cwr);
        end_cwnd_reduction(cx);
        try_keep_open(cx);
        cx.stack.mib.inc(Mib::TcpExtTCPLossProbeRecovery);
    } else if flags & (flag::SND_UNA_ADVANCED | flag::NOT_DUP | flag::DATA_SACKED) == 0 {
        // A pure duplicate: the probe arrived beside the original.
        cx.tp.tlp_active = false;
    }
}

#[cfg(test)]
pub(super) mod tests;
