//! What an acknowledgement does: checks it, takes the window, frees what it covers (`clean`), finds losses, adjusts the
//! congestion window, and sends again what must be. Those of an exchange without loss, which acknowledge one segment or
//! nothing, take the short way, `lone`. Above: `input`. Below: `sack`, `recovery`, `rate`, `cong`, `output`. RFC 9293
//! §3.10.7.4 (fifth), RFC 5961 §5, RFC 3168 §6.1.2. Linux: tcp_ack.

mod clean;
mod lone;

use super::cong::{self, PacketSample, PacketSamples, ca_ack, ca_slot};
use super::input::Seg;
use super::tcb::{CaState, Cx, RateSample, TcpSock, XmitTimer};
use super::{ecn, mtu, output, probe, prr, rack, rate, recovery, retransmit, sack, tfb, timer};
use crate::base::env::{Duration, Instant};
use crate::base::ways::Way;
use crate::counters::{DropReason, Mib};
use crate::sock::skb::TcpCb;
use crate::sock::state::State;
use crate::wire::seq::SeqNum;

/// What an acknowledgement turned out to be (FLAG_* of tcp_input.c).
pub(crate) mod flag {
    #![allow(missing_docs)]
    /// The segment carries data.
    pub(crate) const DATA: u32 = 0x01;
    /// It updated the window.
    pub(crate) const WIN_UPDATE: u32 = 0x02;
    /// It acknowledged data.
    pub(crate) const DATA_ACKED: u32 = 0x04;
    /// Some of it had been sent again.
    pub(crate) const RETRANS_DATA_ACKED: u32 = 0x08;
    /// It acknowledged our SYN.
    pub(crate) const SYN_ACKED: u32 = 0x10;
    /// It selectively acknowledged something new.
    pub(crate) const DATA_SACKED: u32 = 0x20;
    /// It echoes congestion.
    pub(crate) const ECE: u32 = 0x40;
    /// A retransmission was found lost.
    pub(crate) const LOST_RETRANS: u32 = 0x80;
    /// Header prediction did not apply.
    pub(crate) const SLOWPATH: u32 = 0x100;
    /// Data sent once only was (selectively) acknowledged.
    pub(crate) const ORIG_SACK_ACKED: u32 = 0x200;
    pub(crate) const SND_UNA_ADVANCED: u32 = 0x400;
    /// A believable DSACK.
    pub(crate) const DSACKING_ACK: u32 = 0x800;
    /// The retransmission timer is to be set again.
    pub(crate) const SET_XMIT_TIMER: u32 = 0x1000;
    /// The first unacknowledged segment is marked as received.
    pub(crate) const SACK_RENEGING: u32 = 0x2000;
    /// TS.Recent may be taken from it.
    pub(crate) const UPDATE_TS_RECENT: u32 = 0x4000;
    pub(crate) const NO_CHALLENGE_ACK: u32 = 0x8000;
    pub(crate) const ACK_MAYBE_DELAYED: u32 = 0x1_0000;
    /// The DSACK is for a loss probe.
    pub(crate) const DSACK_TLP: u32 = 0x2_0000;
    /// Its timestamp is later than TS.Recent was.
    pub(crate) const TS_PROGRESS: u32 = 0x4_0000;
    pub(crate) const ACKED: u32 = DATA_ACKED | SYN_ACKED;
    pub(crate) const NOT_DUP: u32 = DATA | WIN_UPDATE | ACKED;
    pub(crate) const CA_ALERT: u32 = DATA_SACKED | ECE | DSACKING_ACK;
    pub(crate) const FORWARD_PROGRESS: u32 = ACKED | DATA_SACKED;
}

/// What the acknowledgement in hand has told so far (struct tcp_sacktag_state).
#[derive(Debug, Default)]
pub(crate) struct AckSt {
    /// Bits of [`flag`] found by SACK processing.
    pub flag: u32,
    /// Send time of the first and last segment newly selectively acknowledged; zero: none.
    pub first_sackt: Instant,
    /// See `first_sackt`.
    pub last_sackt: Instant,
    /// Lowest sequence that shows reordering.
    pub reord: SeqNum,
    /// Segments delivered by SACK and DSACK.
    pub sack_delivered: u32,
    /// Bytes delivered: by SACK, or if anything is acknowledged, up to there.
    pub delivered_bytes: u32,
    /// The rate sample.
    pub rate: RateSample,
    /// TTL or hop limit of the acknowledgement.
    pub ttl: u8,
    /// The algorithm wants each delivered packet.
    pub wants_packets: bool,
    /// Those delivered so far.
    pub packets: PacketSamples,
}

impl AckSt {
    /// Bytes of a packet, from and up to, are delivered: before `rate_skb_delivered` has seen it.
    #[inline]
    pub(crate) fn packet(&mut self, cb: &TcpCb, bytes: (SeqNum, SeqNum), segs: u32, is_sacked: bool, now: Instant) {
        if self.wants_packets {
            self.packets.extend(PacketSample::of(cb, bytes, segs, is_sacked, now));
        }
    }
}

/// What to send after the acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rexmit {
    /// Nothing special.
    None,
    /// What is marked lost.
    Lost,
    /// New data first (F-RTO, RFC 5682 §2.1 step 2b).
    New,
}

/// Verdict on an acknowledgement number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckResult {
    /// Processed.
    New,
    /// Older than `snd_una`, within reason.
    Old,
    /// Not acceptable.
    Bad(DropReason),
}

/// `n` segments have been delivered (tcp_count_delivered).
pub(crate) fn count_delivered(cx: &mut Cx<'_>, n: u32, ece: bool) {
    cx.tp.delivered = cx.tp.delivered.wrapping_add(n);
    if ece && !cx.tp.ecn.is_accurate() {
        cx.tp.cold_mut().delivered_ce = cx.tp.delivered_ce.wrapping_add(n);
    }
}

/// Whether this acknowledgement updates the window (RFC 9293 §3.10.7.4; tcp_may_update_window). A zero window with the
/// sequence number of the last update counts as well, so that a window can close.
#[inline]
pub(crate) fn may_update_window(cx: &Cx<'_>, ack: SeqNum, ack_seq: SeqNum, nwin: u32) -> bool {
    let tp = &*cx.tp;
    ack.after(tp.snd_una) || ack_seq.after(tp.snd_wl1) || (ack_seq == tp.snd_wl1 && (nwin > tp.snd_wnd || nwin == 0))
}

#[inline]
fn snd_una_update(cx: &mut Cx<'_>, ack: SeqNum) {
    cx.tp.bytes_acked = cx.tp.bytes_acked.wrapping_add(ack.since(cx.tp.snd_una) as u64);
    cx.tp.snd_una = ack;
}

/// Takes the offered window and `snd_una` (tcp_ack_update_window).
fn ack_update_window(cx: &mut Cx<'_>, seg: &Seg, ack: SeqNum, ack_seq: SeqNum) -> u32 {
    let mut flags = 0;
    let nwin = seg.scaled_window(cx.tp);
    if may_update_window(cx, ack, ack_seq, nwin) {
        flags |= flag::WIN_UPDATE;
        cx.tp.snd_wl1 = ack_seq;
        if cx.tp.snd_wnd != nwin {
            cx.tp.snd_wnd = nwin;
            // Header prediction compares the window, so the predicted word is computed again.
            cx.tp.pred_flags = 0;
            super::input::fast_path_check(cx);
            if !cx.tp.write_queue.is_empty() {
                output::slow_start_after_idle_check(cx);
            }
            if nwin > cx.tp.max_window {
                cx.tp.max_window = nwin;
                mtu::sync_mss(cx, cx.tp.pmtu_cookie);
            }
        }
    }
    snd_una_update(cx, ack);
    flags
}

/// Processes the acknowledgement of a segment (tcp_ack). `flags`: DATA, SLOWPATH, UPDATE_TS_RECENT, NO_CHALLENGE_ACK.
#[inline]
pub(crate) fn ack(cx: &mut Cx<'_>, seg: &Seg, flags: u32) -> AckResult {
    if Way::Ack.is_open() && lone::applies(cx.tp, seg, flags) {
        Way::Ack.taken();
        lone::acknowledge(cx, seg, flags);
        return AckResult::New;
    }
    if Way::Idle.is_open() && lone::is_idle(cx.tp, seg) {
        Way::Idle.taken();
        lone::nothing(cx, seg, flags);
        return AckResult::New;
    }
    any(cx, seg, flags)
}

/// Any acknowledgement.
fn any(cx: &mut Cx<'_>, seg: &Seg, mut flags: u32) -> AckResult {
    let wants_packets = cx.tp.ca.ops.wants_packets();
    // Not from parts: the samples would be copied.
    let mut st = AckSt::default();
    (st.ttl, st.wants_packets) = (seg.ttl, wants_packets);
    let prior_snd_una = cx.tp.snd_una;
    let is_sack_reneg = cx.tp.is_sack_reneg;
    let (ack_seq, ack) = (seg.seq, seg.ack_seq);
    let prior_packets = cx.tp.packets_out;
    let (delivered, lost) = (cx.tp.delivered, cx.tp.lost);
    let mut rexmit = Rexmit::None;

    if ack.before(prior_snd_una) {
        return old_ack(cx, seg, flags, &mut st);
    }
    if ack.after(cx.tp.snd_nxt) {
        // RFC 9293 §3.10.7.4: the segment is acknowledged, within the limits of RFC 5961 §7, and dropped.
        return not_acceptable(cx, flags, DropReason::TcpAckUnsentData);
    }
    if ack.after(prior_snd_una) {
        flags |= flag::SND_UNA_ADVANCED;
        cx.tp.retransmits = 0;
    }
    let prior_fack = if sack::is_sack(cx.tp) { sack::highest_sack_seq(cx.tp) } else { cx.tp.snd_una };
    st.rate.prior_in_flight = output::packets_in_flight(cx.tp);

    // TS.Recent is taken only from a segment at the left edge (RFC 7323 §4.3), and after all checks.
    if flags & flag::UPDATE_TS_RECENT != 0 {
        flags |= super::input::replace_ts_recent(cx, ack_seq);
    }

    if flags & (flag::SLOWPATH | flag::SND_UNA_ADVANCED) == flag::SND_UNA_ADVANCED {
        // Predicted: the window cannot have changed, and there are no options but the timestamp.
        cx.tp.snd_wl1 = ack_seq;
        snd_una_update(cx, ack);
        flags |= flag::WIN_UPDATE;
        cx.stack.mib.inc(Mib::TcpExtTCPHPAcks);
    } else {
        flags |= slow_path(cx, seg, prior_snd_una, &mut st);
    }

    // The peer has answered: an earlier soft error of the path is obsolete.
    cx.sk.err_soft = 0;
    cx.tp.probes_out = 0;
    cx.tp.rcv_tstamp_ms = cx.now.as_millis() as u32;

    if prior_packets == 0 {
        ack_of_nothing(cx, seg, prior_snd_una, delivered, flags, &st);
        return AckResult::New;
    }

    flags |= clean::clean_rtx_queue(cx, prior_fack, prior_snd_una, &mut st, flags & flag::ECE != 0);
    rack::rack_update_reo_wnd(cx, &st.rate);
    let ce = accecn_process(cx, seg, delivered, &st, &mut flags);
    in_ack_event(cx, flags);
    if cx.tp.tlp_active {
        recovery::process_tlp_ack(cx, ack, flags);
    }
    let mut dubious = is_dubious(cx, flags);
    if tfb::has(cx.tp, tfb::slot::ACK) {
        dubious |= tfb::acked(cx, seg, prior_snd_una, delivered, &st, &mut flags);
    }
    if dubious {
        recovery::fastretrans_alert(cx, prior_snd_una, num_dupack(seg, flags), &mut flags, &mut rexmit);
    }
    if flags & flag::SET_XMIT_TIMER != 0 {
        set_xmit_timer(cx);
    }
    if flags & flag::FORWARD_PROGRESS != 0 || flags & flag::NOT_DUP == 0 {
        cx.tp.dst_pending_confirm = true;
    }
    let delivered = newly_delivered(cx, delivered, ce, flags);
    let lost = cx.tp.lost.wrapping_sub(lost);
    st.rate.is_ack_delayed = flags & flag::ACK_MAYBE_DELAYED != 0;
    rate::rate_gen(cx, delivered, lost, is_sack_reneg, &mut st.rate);
    cong_control(cx, ack, delivered, flags, &st.rate);
    xmit_recovery(cx, rexmit);
    AckResult::New
}

/// The segment is dropped; a challenge ACK tells the peer where this end is.
#[cold]
fn not_acceptable(cx: &mut Cx<'_>, flags: u32, reason: DropReason) -> AckResult {
    if flags & flag::NO_CHALLENGE_ACK == 0 {
        super::challenge::send_challenge_ack(cx);
    }
    AckResult::Bad(reason)
}

/// Whether an acknowledgement lies so far below `snd_una` that the peer cannot have sent it (RFC 5961 §5.2). The number
/// of bytes acknowledged so far is another bound on what a blind attacker may hit.
#[inline]
pub(super) fn is_too_old(tp: &TcpSock, ack_seq: SeqNum) -> bool {
    ack_seq.before(tp.snd_una - u64::from(tp.max_window).min(tp.bytes_acked) as u32)
}

/// An acknowledgement below `snd_una` (old_ack of tcp_ack): only its SACK blocks are news, and as in Linux what they
/// report is not counted as delivered. Too far below, it is answered and dropped (RFC 5961 §5.2).
#[cold]
fn old_ack(cx: &mut Cx<'_>, seg: &Seg, mut flags: u32, st: &mut AckSt) -> AckResult {
    let prior_snd_una = cx.tp.snd_una;
    if is_too_old(cx.tp, seg.ack_seq) {
        return not_acceptable(cx, flags, DropReason::TcpTooOldAck);
    }
    if !seg.sack.is_empty() && sack::is_sack(cx.tp) {
        let (delivered, mut rexmit) = (cx.tp.delivered, Rexmit::None);
        flags |= sack::sacktag_write_queue(cx, seg, prior_snd_una, st);
        if tfb::has(cx.tp, tfb::slot::ACK) {
            tfb::acked(cx, seg, prior_snd_una, delivered, st, &mut flags);
        }
        recovery::fastretrans_alert(cx, prior_snd_una, 0, &mut flags, &mut rexmit);
        newly_delivered(cx, delivered, 0, flags);
        xmit_recovery(cx, rexmit);
    }
    AckResult::Old
}

/// What header prediction leaves out: the window, SACK blocks and the ECN echo. Returns the flags they add.
#[inline]
fn slow_path(cx: &mut Cx<'_>, seg: &Seg, prior_snd_una: SeqNum, st: &mut AckSt) -> u32 {
    let mut flags = 0;
    if seg.seq != seg.end_seq {
        flags |= flag::DATA;
    } else {
        cx.stack.mib.inc(Mib::TcpExtTCPPureAcks);
    }
    flags |= ack_update_window(cx, seg, seg.ack_seq, seg.seq);
    if !seg.sack.is_empty() && sack::is_sack(cx.tp) {
        flags |= sack::sacktag_write_queue(cx, seg, prior_snd_una, st);
    }
    if ecn::rcv_ecn_echo(&cx.tp.ecn, seg) {
        flags |= flag::ECE;
    }
    if st.sack_delivered > 0 {
        count_delivered(cx, st.sack_delivered, flags & flag::ECE != 0);
    }
    flags
}

/// Nothing was in flight (no_queue of tcp_ack): the acknowledgement may have opened a zero window.
fn ack_of_nothing(cx: &mut Cx<'_>, seg: &Seg, prior_snd_una: SeqNum, delivered: u32, mut flags: u32, st: &AckSt) {
    let ce = accecn_process(cx, seg, delivered, st, &mut flags);
    in_ack_event(cx, flags);
    if flags & flag::DSACKING_ACK != 0 {
        // Nothing is in flight that could be sent again.
        let mut rexmit = Rexmit::None;
        recovery::fastretrans_alert(cx, prior_snd_una, 0, &mut flags, &mut rexmit);
        newly_delivered(cx, delivered, ce, flags);
    }
    ack_probe(cx);
    if cx.tp.tlp_active {
        recovery::process_tlp_ack(cx, seg.ack_seq, flags);
    }
}

/// Segments that the peer newly reports as marked, on a connection with accurate ECN; `prior`: those delivered before.
fn accecn_process(cx: &mut Cx<'_>, seg: &Seg, prior: u32, st: &AckSt, flags: &mut u32) -> u32 {
    let delivered = ecn::Delivered { pkts: cx.tp.delivered.wrapping_sub(prior), bytes: st.delivered_bytes };
    ecn::process(cx, seg, delivered, flags)
}

/// Tells the algorithm of the acknowledgement, after the retransmit queue was cleaned and before losses are detected
/// (tcp_in_ack_event of Linux 6.16 and later).
#[inline(always)]
pub(super) fn in_ack_event(cx: &mut Cx<'_>, flags: u32) {
    let mut ev = 0;
    if flags & flag::WIN_UPDATE != 0 {
        ev |= ca_ack::WIN_UPDATE;
    }
    if flags & flag::SLOWPATH != 0 {
        ev |= ca_ack::SLOWPATH;
        if flags & flag::ECE != 0 {
            ev |= ca_ack::ECE;
        }
    }
    cx.with_ca_slot(ca_slot::IN_ACK_EVENT, |ca, cx| ca.in_ack_event(cx, ev));
}

/// Duplicates that an acknowledgement stands for.
pub(super) fn num_dupack(seg: &Seg, flags: u32) -> u32 {
    if flags & (flag::SND_UNA_ADVANCED | flag::NOT_DUP | flag::DSACKING_ACK) != 0 {
        return 0;
    }
    // Pure ACKs may have been joined into one packet.
    if flags & flag::DATA == 0 { u32::from(seg.rx_segs.max(1)) } else { 1 }
}

/// Whether an acknowledgement needs the recovery state machine (tcp_ack_is_dubious).
#[inline]
fn is_dubious(cx: &Cx<'_>, flags: u32) -> bool {
    flags & flag::NOT_DUP == 0 || flags & flag::CA_ALERT != 0 || cx.tp.ca_state != CaState::Open
}

/// Segments delivered by this acknowledgement, counted. `ce`: how many it reports as marked, of an accurate connection
/// (tcp_newly_delivered).
fn newly_delivered(cx: &mut Cx<'_>, prior: u32, ce: u32, flags: u32) -> u32 {
    let n = cx.tp.delivered.wrapping_sub(prior);
    cx.stack.mib.add(Mib::TcpExtTCPDelivered, n as u64);
    if flags & flag::ECE != 0 {
        let marked = if cx.tp.ecn.is_accurate() { ce } else { n };
        cx.stack.mib.add(Mib::TcpExtTCPDeliveredCE, u64::from(marked));
    }
    n
}

/// Stops the zero-window probes if the window has opened, else sets the timer for the next one (tcp_ack_probe).
pub(crate) fn ack_probe(cx: &mut Cx<'_>) {
    let Some(head) = cx.tp.write_queue.front() else { return };
    if !head.tcp.end_seq.after(cx.tp.snd_una + cx.tp.snd_wnd) {
        cx.tp.backoff = 0;
        probe::forget_start(cx.tp);
        timer::clear_xmit_timer(cx);
        // No other timer is needed: input pushes pending data after every acknowledgement.
    } else {
        let when = timer::clamp_probe0_to_user_timeout(cx, timer::probe0_when(cx));
        timer::reset_xmit_timer(cx, XmitTimer::Probe0, when, true);
    }
}

/// Loss probe, or else retransmission timer (tcp_set_xmit_timer).
fn set_xmit_timer(cx: &mut Cx<'_>) {
    if !probe::schedule_loss_probe(cx, true) {
        timer::rearm_rto(cx);
    }
}

/// Whether delivery without reordering or loss may open the window (tcp_may_raise_cwnd).
fn may_raise_cwnd(cx: &Cx<'_>, flags: u32) -> bool {
    if cx.tp.reordering > cx.stack.sysctl.tcp_reordering().max(0) as u32 {
        return flags & flag::FORWARD_PROGRESS != 0;
    }
    flags & flag::DATA_ACKED != 0
}

/// Window and pacing rate after an acknowledgement (tcp_cong_control).
pub(super) fn cong_control(cx: &mut Cx<'_>, ack: SeqNum, acked_sacked: u32, flags: u32, rs: &RateSample) {
    if cx.with_ca_slot(ca_slot::CONG_CONTROL, |ca, cx| ca.cong_control(cx, ack, flags, rs)).unwrap_or(false) {
        return;
    }
    if output::in_cwnd_reduction(cx.tp) {
        prr::cwnd_reduction(cx, acked_sacked, rs.losses.max(0) as u32, flags);
    } else if may_raise_cwnd(cx, flags) {
        cx.with_ca(|ca, cx| ca.cong_avoid(cx, ack, acked_sacked));
        cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    }
    update_pacing_rate(cx);
}

/// Sends what recovery asks for (tcp_xmit_recovery).
fn xmit_recovery(cx: &mut Cx<'_>, rexmit: Rexmit) {
    if rexmit == Rexmit::None {
        if tfb::has(cx.tp, tfb::slot::OUTPUT) {
            tfb::idle_output(cx);
        }
        return;
    }
    if cx.state() == State::SynSent {
        return;
    }
    if rexmit == Rexmit::New {
        cx.refresh_clock();
        let mss = mtu::current_mss(cx);
        output::push_pending_frames(cx, mss, super::tcb::nagle::OFF);
        if cx.tp.snd_nxt.after(cx.tp.high_seq) {
            return;
        }
        cx.tp.frto = false;
    }
    retransmit::xmit_retransmit_queue(cx);
}

/// Rate at which the window would leave in one RTT, times a factor, bytes a second: sizes super-packets, and paces
/// where pacing is on (tcp_update_pacing_rate).
pub(crate) fn update_pacing_rate(cx: &mut Cx<'_>) {
    let tp = &*cx.tp;
    let ratio = if tp.snd_cwnd < tp.snd_ssthresh / 2 {
        cx.stack.sysctl.tcp_pacing_ss_ratio()
    } else {
        cx.stack.sysctl.tcp_pacing_ca_ratio()
    };
    // mss * cwnd / srtt, with srtt in 1/8 microseconds and the ratio in percent.
    let segment = u64::from(tp.mss_cache) * (10_000 << 3) * u64::from(ratio.max(0) as u32);
    let (cwnd, srtt) = (tp.snd_cwnd.max(tp.packets_out), u64::from(tp.srtt_us.max(1)));
    let rate = match segment.checked_mul(u64::from(cwnd)) {
        Some(window) => window / srtt,
        None => (u128::from(segment) * u128::from(cwnd) / u128::from(srtt)).min(u128::from(u64::MAX)) as u64,
    };
    cx.tp.pacing_rate = rate.min(cx.sk.max_pacing_rate);
}

/// RTO as a duration.
#[inline]
pub(crate) fn rto(cx: &Cx<'_>) -> Duration {
    Duration::from_micros(cx.tp.rto_us as u64)
}

/// The window a connection begins with, and returns to after idling, segments: the route's, else 10, within its clamp
/// (RFC 6928; tcp_init_cwnd).
pub(crate) fn init_cwnd(cx: &Cx<'_>) -> u32 {
    let route = cx.sk.dst.as_ref().map_or(0, |d| d.metrics.initcwnd);
    let cwnd = if route != 0 { route } else { super::tcb::INIT_CWND };
    cwnd.min(cx.tp.snd_cwnd_clamp)
}

/// Sets the initial window of a connection that starts: 1 when the handshake lost more than one SYN (RFC 5681 §3.1),
/// and not spuriously.
pub(crate) fn set_initial_cwnd(cx: &mut Cx<'_>) {
    let cwnd = if cx.tp.total_retrans > 1 && cx.tp.undo_valid { 1 } else { init_cwnd(cx) };
    cong::set_cwnd(cx.tp, cwnd);
    cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
}
