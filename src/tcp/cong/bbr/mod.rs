//! BBR version 1: a model of the path, its bandwidth and its round-trip time without queues, sets the pacing rate and
//! the window; loss and marks do not. draft-cardwell-iccrg-bbr-congestion-control-00, with the parameters of Linux's
//! module. Above: `ack` through `cong_control`. Linux: net/ipv4/tcp_bbr.c.
//!
//! | file | what |
//! |---|---|
//! | `model` | what is known of the path: round trips, bandwidth, least RTT, whether the pipe is full |
//! | `policer` | a token-bucket policer on the path: its rate, from intervals that begin and end with loss |
//! | `aggregation` | how much more than its bandwidth the path acknowledges at once |
//! | this one | the four modes, the pacing rate, the window |

mod aggregation;
mod model;
mod policer;
#[cfg(test)]
mod tests;

use super::*;
use crate::base::env::{Duration, Instant};
use crate::tcp::tcb::INIT_CWND;
use crate::tcp::xmit::PACING_SHIFT;
use aggregation::Aggregation;
use model::{BW_UNIT, Bw, Model, UNIT};
use policer::Policer;

/// Pacing and window gain of Startup: 2/ln 2, the least that doubles the rate each round trip.
const HIGH_GAIN: u32 = UNIT * 2885 / 1000 + 1;
/// Pacing gain of Drain, which empties the queue that Startup made in one round trip.
const DRAIN_GAIN: u32 = UNIT * 1000 / 2885;
/// Window gain of ProbeBW: room for delayed and aggregated acknowledgements.
const CWND_GAIN: u32 = 2 * UNIT;
/// Pacing gains of ProbeBW's phases, each about a least RTT long: probe, drain the probe's queue, cruise.
const CYCLE: [u32; 8] = [UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT];
/// ProbeBW begins in one of this many phases, so that flows do not probe together; never in the one that drains.
const CYCLE_RAND: u32 = 7;
/// Least window, segments: enough that a receiver that acknowledges every second segment keeps the clock going.
const CWND_MIN: u32 = 4;
/// A least RTT that is older than this is measured anew, by ProbeRTT.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
/// How long ProbeRTT holds the window at `CWND_MIN`, at least.
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// Below this pacing rate packets of one segment are built, bytes a second (1.2 Mbit/s).
const MIN_TSO_RATE: u64 = 1_200_000 / 8;
/// Percent of the estimated bandwidth that the pacing rate stays below, so that no queue builds up on average.
const PACING_MARGIN_PERCENT: u128 = 1;
/// Bytes of a super-packet that BBR counts on: an IPv4 datagram without the headers below IP (MAX_TCP_HEADER).
const GSO_GOAL: u64 = 65_536 - 1 - 320;
/// INET_DIAG_BBRINFO.
const INET_DIAG_BBRINFO: i32 = 16;

/// "bbr".
pub(crate) struct BbrOps;

impl CongOps for BbrOps {
    fn name(&self) -> &str {
        "bbr"
    }
    fn non_restricted(&self) -> bool {
        true
    }
    fn ssthresh_of_syn(&self, _: u32, ssthresh: u32) -> u32 {
        ssthresh
    }
    fn start(&self, cx: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        Box::new(Bbr::new(cx))
    }
}

/// What the sender does (the draft's section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Doubles the rate each round trip until the bandwidth stops growing.
    Startup,
    /// Empties the queue that Startup made.
    Drain,
    /// Cycles through pacing gains around the bandwidth.
    ProbeBw,
    /// Nearly stops sending, so that the path's queue empties and shows the least RTT.
    ProbeRtt,
}

#[derive(Debug)]
struct Bbr {
    mode: Mode,
    model: Model,
    policer: Policer,
    aggregation: Aggregation,
    pacing_gain: u32,
    cwnd_gain: u32,
    /// ProbeBW: phase, and when it began.
    cycle_idx: usize,
    cycle_start: Instant,
    /// ProbeRTT: when the window may grow again; None before the flight has shrunk.
    probe_rtt_done: Option<Instant>,
    /// ProbeRTT: a round trip has passed since the flight shrank.
    probe_rtt_round_done: bool,
    /// Sending began again after idling: the path's queue was empty, which is as good as a ProbeRTT.
    idle_restart: bool,
    /// A smoothed RTT has set the pacing rate.
    has_seen_rtt: bool,
    /// Congestion state at the last acknowledgement.
    prev_ca_state: CaState,
    /// First round trip of a recovery: one segment leaves for each that is delivered.
    packet_conservation: bool,
    /// Window before recovery or ProbeRTT, to return to.
    prior_cwnd: u32,
}

/// Pacing rate for a bandwidth and a gain, bytes a second, within SO_MAX_PACING_RATE.
fn pacing_rate(cx: &Cx<'_>, bw: Bw, gain: u32) -> u64 {
    let rate = rate_bytes(bw, cx.tp.mss_cache, gain);
    rate.min(cx.sk.max_pacing_rate)
}

/// Bytes a second that `bw` times `gain` is, less the margin.
fn rate_bytes(bw: Bw, mss: u32, gain: u32) -> u64 {
    let per_us = u128::from(bw) * u128::from(mss) * u128::from(gain) / u128::from(UNIT);
    let rate = per_us * (1_000_000 / 100 * (100 - PACING_MARGIN_PERCENT)) / u128::from(BW_UNIT);
    rate.min(u128::from(u64::MAX)) as u64
}

/// Segments of the super-packets that the pacing rate makes.
fn tso_goal(cx: &Cx<'_>) -> u32 {
    let bytes = (cx.tp.pacing_rate >> PACING_SHIFT).min(GSO_GOAL) as u32;
    (bytes / cx.tp.mss_cache.max(1)).max(min_tso_segs(cx)).min(0x7f)
}

fn min_tso_segs(cx: &Cx<'_>) -> u32 {
    if cx.tp.pacing_rate < MIN_TSO_RATE { 1 } else { 2 }
}

impl Bbr {
    fn new(cx: &mut Cx<'_>) -> Bbr {
        cx.tp.snd_ssthresh = INFINITE_SSTHRESH;
        cx.tp.ca_paces = true;
        let mut bbr = Bbr {
            mode: Mode::Startup,
            model: Model::new(cx),
            policer: Policer::default(),
            aggregation: Aggregation::new(cx.now),
            pacing_gain: HIGH_GAIN,
            cwnd_gain: HIGH_GAIN,
            cycle_idx: 0,
            cycle_start: Instant::ZERO,
            probe_rtt_done: None,
            probe_rtt_round_done: false,
            idle_restart: false,
            has_seen_rtt: false,
            prev_ca_state: CaState::Open,
            packet_conservation: false,
            prior_cwnd: 0,
        };
        bbr.policer.reset(cx);
        bbr.init_pacing_rate(cx);
        bbr
    }

    /// The bandwidth in use: the policer's where one was found, else the greatest of the last ten round trips.
    fn bw(&self) -> Bw {
        self.policer.rate().unwrap_or(self.model.max_bw())
    }

    // ---- Pacing rate.

    /// The rate that sends the window in one RTT, or in a millisecond before there is a sample, times Startup's gain.
    fn init_pacing_rate(&mut self, cx: &mut Cx<'_>) {
        let rtt_us = match cx.tp.srtt_us {
            0 => 1_000,
            srtt => {
                self.has_seen_rtt = true;
                (srtt >> 3).max(1)
            }
        };
        let bw = u64::from(cx.tp.snd_cwnd) * BW_UNIT / u64::from(rtt_us);
        cx.tp.pacing_rate = pacing_rate(cx, bw, HIGH_GAIN);
    }

    /// Paces at `gain` times `bw`. Until the pipe is full the rate only rises: a sample that the program's pauses or a
    /// short flight lowered must not slow Startup.
    fn set_pacing_rate(&mut self, cx: &mut Cx<'_>, bw: Bw, gain: u32) {
        if !self.has_seen_rtt && cx.tp.srtt_us != 0 {
            self.init_pacing_rate(cx);
        }
        let rate = pacing_rate(cx, bw, gain);
        if self.model.full_bw_reached || rate > cx.tp.pacing_rate {
            cx.tp.pacing_rate = rate;
        }
    }

    // ---- Window.

    /// Segments in flight that keep the path busy at `gain` times `bw`, as the sender can make them: with the
    /// super-packets that wait in this host, in the receiver's aggregation and at the sender (the draft's 4.2.3.2).
    fn inflight(&self, cx: &Cx<'_>, bw: Bw, gain: u32) -> u32 {
        self.quantized(cx, self.model.bdp(bw, gain))
    }

    fn quantized(&self, cx: &Cx<'_>, cwnd: u32) -> u32 {
        // An even number: of acknowledgements for every second segment none is then left to a timer.
        let mut cwnd = cwnd.saturating_add(3 * tso_goal(cx)).saturating_add(1) & !1;
        // The probe must be able to exceed the window of a small product, too.
        if self.mode == Mode::ProbeBw && self.cycle_idx == 0 {
            cwnd = cwnd.saturating_add(2);
        }
        cwnd
    }

    /// How much of `inflight` will still be in the network when the next packet leaves, as pacing scheduled it.
    fn in_net_at_edt(&self, cx: &Cx<'_>, inflight: u32) -> u32 {
        let wait_us = (cx.tp.wstamp.max(cx.now) - cx.now).as_micros().min(u128::from(u32::MAX)) as u64;
        let delivered = (u128::from(self.bw()) * u128::from(wait_us) / u128::from(BW_UNIT)) as u32;
        let mut at_edt = inflight;
        if self.pacing_gain > UNIT {
            // While probing, the packet that leaves then counts.
            at_edt = at_edt.saturating_add(tso_goal(cx));
        }
        at_edt.saturating_sub(delivered)
    }

    /// Notes the window to return to after recovery or ProbeRTT.
    fn save_cwnd(&mut self, cx: &Cx<'_>) {
        let within = self.prev_ca_state >= CaState::Recovery || self.mode == Mode::ProbeRtt;
        let saved = if within { self.prior_cwnd } else { 0 };
        self.prior_cwnd = saved.max(cx.tp.snd_cwnd);
    }

    /// The window of loss recovery: less what was lost; in its first round trip what is in flight plus what was
    /// delivered; and after it the one from before. True: the window follows packet conservation.
    fn recover_or_restore(&mut self, cx: &Cx<'_>, rs: &RateSample) -> (bool, u32) {
        let (was, state) = (self.prev_ca_state, cx.tp.ca_state);
        let conserved = packets_in_flight(cx.tp).saturating_add(rs.acked_sacked);
        let mut cwnd = cx.tp.snd_cwnd;
        if rs.losses > 0 {
            cwnd = cwnd.saturating_sub(rs.losses as u32).max(1);
        }
        if state == CaState::Recovery && was != CaState::Recovery {
            self.packet_conservation = true;
            self.model.start_round(cx);
            cwnd = conserved;
        } else if was >= CaState::Recovery && state < CaState::Recovery {
            self.packet_conservation = false;
            cwnd = cwnd.max(self.prior_cwnd);
        }
        self.prev_ca_state = state;
        if self.packet_conservation {
            return (true, cwnd.max(conserved));
        }
        (false, cwnd)
    }

    fn set_cwnd(&mut self, cx: &mut Cx<'_>, rs: &RateSample, bw: Bw, gain: u32) {
        let acked = rs.acked_sacked;
        let mut cwnd = cx.tp.snd_cwnd;
        if acked > 0 {
            let conserves;
            (conserves, cwnd) = self.recover_or_restore(cx, rs);
            if !conserves {
                cwnd = self.toward_target(cx, cwnd, acked, bw, gain);
            }
        }
        set_cwnd(cx.tp, cwnd.min(cx.tp.snd_cwnd_clamp));
        if self.mode == Mode::ProbeRtt {
            cx.tp.snd_cwnd = cx.tp.snd_cwnd.min(CWND_MIN);
        }
    }

    /// Grows toward the target as slow start does; beyond it only while the pipe is not full.
    fn toward_target(&self, cx: &Cx<'_>, cwnd: u32, acked: u32, bw: Bw, gain: u32) -> u32 {
        let mut target = self.model.bdp(bw, gain);
        if self.model.full_bw_reached {
            target = target.saturating_add(self.aggregation.cwnd(bw));
        }
        let target = self.quantized(cx, target);
        let grown = cwnd.saturating_add(acked);
        let cwnd = if self.model.full_bw_reached {
            grown.min(target)
        } else if cwnd < target || cx.tp.delivered < INIT_CWND {
            grown
        } else {
            cwnd
        };
        cwnd.max(CWND_MIN)
    }

    // ---- Modes.

    fn startup_or_probe_bw(&mut self, cx: &mut Cx<'_>) {
        if self.model.full_bw_reached {
            self.enter_probe_bw(cx);
        } else {
            self.mode = Mode::Startup;
        }
    }

    fn enter_probe_bw(&mut self, cx: &mut Cx<'_>) {
        self.mode = Mode::ProbeBw;
        self.cycle_idx = CYCLE.len() - 1 - cx.stack.entropy.below(CYCLE_RAND) as usize;
        self.next_phase(cx);
    }

    fn next_phase(&mut self, cx: &Cx<'_>) {
        self.cycle_idx = (self.cycle_idx + 1) % CYCLE.len();
        self.cycle_start = cx.tp.delivered_mstamp;
    }

    /// ProbeBW: whether the phase is over. Cruising lasts a least RTT. A probe lasts until the flight is as large as
    /// the gain asks, or loss says that the buffer is too small for it; draining ends early when nothing is queued.
    fn phase_is_over(&self, cx: &Cx<'_>, rs: &RateSample) -> bool {
        let elapsed = (cx.tp.delivered_mstamp - self.cycle_start).as_micros();
        let full_length = elapsed > u128::from(self.model.min_rtt_us);
        if self.pacing_gain == UNIT {
            return full_length;
        }
        let inflight = self.in_net_at_edt(cx, rs.prior_in_flight);
        let bw = self.model.max_bw();
        if self.pacing_gain > UNIT {
            return full_length && (rs.losses > 0 || inflight >= self.inflight(cx, bw, self.pacing_gain));
        }
        full_length || inflight <= self.inflight(cx, bw, UNIT)
    }

    fn check_drain(&mut self, cx: &mut Cx<'_>) {
        if self.mode == Mode::Startup && self.model.full_bw_reached {
            self.mode = Mode::Drain;
            cx.tp.snd_ssthresh = self.inflight(cx, self.model.max_bw(), UNIT);
        }
        if self.mode == Mode::Drain {
            let inflight = self.in_net_at_edt(cx, packets_in_flight(cx.tp));
            if inflight <= self.inflight(cx, self.model.max_bw(), UNIT) {
                self.enter_probe_bw(cx);
            }
        }
    }

    /// The least RTT: a smaller sample, or any once the last is too old; ProbeRTT where it is.
    fn update_min_rtt(&mut self, cx: &mut Cx<'_>, rs: &RateSample) {
        let expired = cx.now > self.model.min_rtt_stamp + MIN_RTT_WINDOW;
        self.model.min_rtt_sample(cx.now, rs, expired);
        if expired && !self.idle_restart && self.mode != Mode::ProbeRtt {
            self.save_cwnd(cx);
            self.mode = Mode::ProbeRtt;
            self.probe_rtt_done = None;
        }
        if self.mode == Mode::ProbeRtt {
            let in_flight = packets_in_flight(cx.tp);
            // Samples of such a small flight say nothing of the bandwidth.
            cx.tp.app_limited = cx.tp.delivered.wrapping_add(in_flight).max(1);
            if self.probe_rtt_done.is_some() {
                self.probe_rtt_round_done |= self.model.round_start;
                if self.probe_rtt_round_done {
                    self.check_probe_rtt_done(cx);
                }
            } else if in_flight <= CWND_MIN {
                self.probe_rtt_done = Some(cx.now + PROBE_RTT_TIME);
                self.probe_rtt_round_done = false;
                self.model.start_round(cx);
            }
        }
        // Data was delivered after the idle time: from here on the queue may fill again.
        if rs.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn check_probe_rtt_done(&mut self, cx: &mut Cx<'_>) {
        if self.probe_rtt_done.is_none_or(|done| cx.now <= done) {
            return;
        }
        self.model.min_rtt_stamp = cx.now;
        let cwnd = cx.tp.snd_cwnd.max(self.prior_cwnd);
        set_cwnd(cx.tp, cwnd);
        self.startup_or_probe_bw(cx);
    }

    fn update_gains(&mut self) {
        (self.pacing_gain, self.cwnd_gain) = match self.mode {
            Mode::Startup => (HIGH_GAIN, HIGH_GAIN),
            Mode::Drain => (DRAIN_GAIN, HIGH_GAIN),
            Mode::ProbeBw if self.policer.rate().is_some() => (UNIT, CWND_GAIN),
            Mode::ProbeBw => (CYCLE[self.cycle_idx], CWND_GAIN),
            Mode::ProbeRtt => (UNIT, UNIT),
        };
    }

    fn update_model(&mut self, cx: &mut Cx<'_>, rs: &RateSample) {
        if self.model.is_round_start(cx, rs) {
            self.packet_conservation = false;
        }
        if rs.delivered >= 0 && rs.interval_us > 0 {
            let in_probe_bw = self.mode == Mode::ProbeBw;
            if self.policer.sample(cx, rs, self.model.round_start, in_probe_bw) {
                self.enter_probe_bw(cx);
            }
            self.model.bw_sample(rs);
            self.aggregation.update(cx, rs, self.bw(), self.model.round_start);
        }
        if self.mode == Mode::ProbeBw && self.phase_is_over(cx, rs) {
            self.next_phase(cx);
        }
        self.model.check_full_bw(rs);
        self.check_drain(cx);
        self.update_min_rtt(cx, rs);
        self.update_gains();
    }
}

impl CongAlgo for Bbr {
    fn slots(&self) -> u32 {
        ca_slot::CONG_CONTROL | ca_slot::CWND_EVENT | ca_slot::MIN_TSO_SEGS | ca_slot::SNDBUF_EXPAND
    }

    fn has_cong_control(&self) -> bool {
        true
    }

    fn cong_control(&mut self, cx: &mut Cx<'_>, _ack: SeqNum, _flag: u32, rs: &RateSample) -> bool {
        self.update_model(cx, rs);
        let bw = self.bw();
        self.set_pacing_rate(cx, bw, self.pacing_gain);
        self.set_cwnd(cx, rs, bw, self.cwnd_gain);
        true
    }

    /// Recovery begins: the threshold stays, the window is noted.
    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.save_cwnd(cx);
        cx.tp.snd_ssthresh
    }

    fn cong_avoid(&mut self, _: &mut Cx<'_>, _: SeqNum, _: u32) {}

    fn set_state(&mut self, cx: &mut Cx<'_>, new: CaState) {
        if new != CaState::Loss {
            return;
        }
        self.prev_ca_state = CaState::Loss;
        // What is lost after a timeout begins a new estimate of the full pipe, and ends the policer's interval.
        self.model.forget_full_bw();
        self.model.round_start = true;
        let lost = RateSample { losses: 1, ..RateSample::default() };
        if self.policer.sample(cx, &lost, true, self.mode == Mode::ProbeBw) {
            self.enter_probe_bw(cx);
        }
    }

    fn cwnd_event(&mut self, cx: &mut Cx<'_>, event: CaEvent) {
        if event != CaEvent::TxStart || cx.tp.app_limited == 0 {
            return;
        }
        self.idle_restart = true;
        self.aggregation.restart(cx.now);
        // After idling the path's queue is empty: the flight fills it at the path's own rate, without a burst.
        match self.mode {
            Mode::ProbeBw => self.set_pacing_rate(cx, self.bw(), UNIT),
            Mode::ProbeRtt => self.check_probe_rtt_done(cx),
            Mode::Startup | Mode::Drain => {}
        }
    }

    /// The loss was spurious: the pipe may not have been full either. The window is set by the next acknowledgement.
    fn undo_cwnd(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.model.forget_full_bw();
        self.policer.reset(cx);
        cx.tp.snd_cwnd
    }

    fn min_tso_segs(&mut self, cx: &Cx<'_>) -> Option<u32> {
        Some(min_tso_segs(cx))
    }

    /// A recovery may send twice what it would otherwise.
    fn sndbuf_expand(&mut self, _: &Cx<'_>) -> Option<u32> {
        Some(3)
    }

    /// struct tcp_bbr_info: bandwidth (low and high word, bytes a second), least RTT, gains times 256.
    fn get_info(&mut self, cx: &Cx<'_>) -> Option<(i32, Vec<u8>)> {
        let bytes = u128::from(self.bw()) * u128::from(cx.tp.mss_cache) * 1_000_000 / u128::from(BW_UNIT);
        let bw = bytes.min(u128::from(u64::MAX)) as u64;
        let words = [bw as u32, (bw >> 32) as u32, self.model.min_rtt_us, self.pacing_gain, self.cwnd_gain];
        Some((INET_DIAG_BBRINFO, words.iter().flat_map(|w| w.to_ne_bytes()).collect()))
    }
}
