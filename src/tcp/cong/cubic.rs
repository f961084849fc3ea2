//! CUBIC (RFC 9438) with HyStart, in the integer arithmetic of Linux: the window is a cubic function of the time since
//! the last reduction, but never below Reno's window. Above: `ack`, `recovery`. Below: `hystart_plus`. Linux:
//! net/ipv4/tcp_cubic.c. Departure: the cube root is exact; Linux's is within 0.2 percent.

use super::hystart_plus::HyStartPlus;
use super::*;
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::sock::skb::GSO_MAX_SIZE;
use crate::tcp::segment::paces;
use crate::wire::seq::SeqNum;

/// Unit of `BETA`.
const BETA_SCALE: u32 = 1024;
/// Window after a reduction over window before it, in 1/1024: 0.7 (RFC 9438 §4.6).
const BETA: u32 = 717;
/// Time unit of the cubic function: 2^-10 s.
const HZ_BITS: u32 = 10;
/// The constant C of RFC 9438 §5.1 times 1024: 0.4.
const CUBE_RTT_SCALE: u64 = 410;
/// Windows times this, under the cube root, give K in units of 2^-10 s.
const CUBE_FACTOR: u64 = (1 << (10 + 3 * HZ_BITS)) / CUBE_RTT_SCALE;
/// Segments acknowledged per segment of growth of the Reno estimate over the window, times 8: (1 + beta) / 3 (1 -
/// beta).
const RENO_SCALE: u32 = 8 * (BETA_SCALE + BETA) / 3 / (BETA_SCALE - BETA);

/// Bits of `tcp_cubic.hystart_detect`: ends slow start by an ACK train (HYSTART_ACK_TRAIN), by delay (HYSTART_DELAY),
/// by HyStart++ in place of both, which Linux does not have.
const HYSTART_ACK_TRAIN: i32 = 1;
const HYSTART_DELAY: i32 = 2;
const HYSTART_PLUS: i32 = 4;
/// RTT samples needed in a round before their minimum is used.
const HYSTART_MIN_SAMPLES: u8 = 8;
/// Bounds of the RTT increase that ends slow start, microseconds.
const HYSTART_DELAY_US: (u32, u32) = (4_000, 16_000);

/// "cubic".
pub(crate) struct CubicOps;

/// Times are those of the stack's clock: milliseconds and microseconds modulo 2^32.
#[derive(Debug, Default)]
pub(crate) struct Cubic {
    /// Minimum RTT seen, microseconds; 0: none.
    delay_min_us: u32,
    /// HyStart: start of the round, and the sequence number that ends it.
    round_start_us: u32,
    end_seq: SeqNum,
    /// HyStart has found the exit point.
    found: bool,
    /// What a connection that has sent little has no use for.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// Of congestion avoidance.
    curve: Curve,
    /// HyStart, of the present round; None: there was no sample yet.
    round: Option<Round>,
    /// HyStart++, where it is in use.
    plus: Option<HyStartPlus>,
}

/// HyStart's samples of a round.
#[derive(Debug)]
struct Round {
    /// RTT samples.
    sample_cnt: u8,
    /// Time of the last ACK of the train.
    last_ack_us: u32,
    /// Minimum RTT.
    curr_rtt_us: u32,
}

/// The window over the time since the last reduction.
#[derive(Debug, Default)]
struct Curve {
    /// Segments acknowledged per segment of growth.
    cnt: u32,
    /// Window before the last reduction (W_max); 0: none yet.
    last_max_cwnd: u32,
    /// Window and time of the last computation.
    last_cwnd: u32,
    last_time_ms: u32,
    /// Window at which the cubic curve is flat.
    origin_point: u32,
    /// Time from the reduction to the flat point, 2^-10 s.
    k: u32,
    /// Start of this epoch of growth; None: the next acknowledgement starts one.
    epoch_start_ms: Option<u32>,
    /// Segments acknowledged since the Reno estimate last grew.
    ack_cnt: u32,
    /// The Reno estimate.
    tcp_cwnd: u32,
}

impl CongOps for CubicOps {
    fn name(&self) -> &str {
        "cubic"
    }
    fn non_restricted(&self) -> bool {
        // As the default of a stack.
        true
    }
    fn ssthresh_of_syn(&self, cwnd: u32, _: u32) -> u32 {
        reduced(cwnd)
    }
    fn start(&self, cx: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        Box::new(start(cx))
    }
}

/// As [`CongOps::start`].
pub(super) fn start(cx: &Cx<'_>) -> Cubic {
    Cubic::new(cx.now, cx.tp.snd_nxt)
}

/// The threshold after a loss at this window, segments.
fn reduced(cwnd: u32) -> u32 {
    ((u64::from(cwnd) * BETA as u64 / BETA_SCALE as u64) as u32).max(2)
}

/// Greatest r with r^3 <= a.
fn cube_root(a: u64) -> u32 {
    let (mut r, mut bit) = (0u64, 1u64 << 21);
    while bit > 0 {
        let t = r | bit;
        if u128::from(t).pow(3) <= u128::from(a) {
            r = t;
        }
        bit >>= 1;
    }
    r as u32
}

impl Curve {
    /// Computes `cnt` for a window of `cwnd` (at least 1) after `acked` more segments (bictcp_update).
    fn update(&mut self, delay_min_us: u32, now_ms: u32, cwnd: u32, acked: u32) {
        self.ack_cnt = self.ack_cnt.saturating_add(acked);
        let since = now_ms.wrapping_sub(self.last_time_ms) as i32;
        if self.last_cwnd == cwnd && since <= 1000 / 32 {
            return;
        }
        // The cubic target changes at most once a millisecond; the Reno estimate with every acknowledgement.
        if self.epoch_start_ms.is_none() || now_ms != self.last_time_ms {
            self.follow(delay_min_us, now_ms, cwnd, acked);
        }
        let delta = ((cwnd as u64 * RENO_SCALE as u64) >> 3).max(1).min(u32::MAX as u64) as u32;
        if self.ack_cnt > delta {
            let steps = (self.ack_cnt - 1) / delta;
            self.ack_cnt -= steps * delta;
            self.tcp_cwnd = self.tcp_cwnd.saturating_add(steps);
        }
        if self.tcp_cwnd > cwnd {
            self.cnt = self.cnt.min(cwnd / (self.tcp_cwnd - cwnd));
        }
        // At most one segment per two acknowledged, which is a factor of 1.5 per round trip.
        self.cnt = self.cnt.max(2);
    }

    fn follow(&mut self, delay_min_us: u32, now_ms: u32, cwnd: u32, acked: u32) {
        self.last_cwnd = cwnd;
        self.last_time_ms = now_ms;
        let epoch = match self.epoch_start_ms {
            Some(e) => e,
            None => {
                self.epoch_start_ms = Some(now_ms);
                self.ack_cnt = acked;
                self.tcp_cwnd = cwnd;
                if self.last_max_cwnd <= cwnd {
                    self.k = 0;
                    self.origin_point = cwnd;
                } else {
                    let gap = (self.last_max_cwnd - cwnd) as u64;
                    self.k = cube_root(CUBE_FACTOR.saturating_mul(gap));
                    self.origin_point = self.last_max_cwnd;
                }
                now_ms
            }
        };
        // One RTT ahead, because the window set now takes effect then.
        let ms = (now_ms.wrapping_sub(epoch) as i32).max(0) as u64 + delay_min_us.div_ceil(1000) as u64;
        let t = (ms << HZ_BITS) / 1000;
        let offs = t.abs_diff(self.k as u64) as u128;
        let delta = (CUBE_RTT_SCALE as u128 * offs * offs * offs) >> (10 + 3 * HZ_BITS);
        let delta = delta.min(u32::MAX as u128) as u32;
        let target = if t < self.k as u64 {
            self.origin_point.saturating_sub(delta)
        } else {
            self.origin_point.saturating_add(delta)
        };
        self.cnt = if target > cwnd { cwnd / (target - cwnd) } else { cwnd.saturating_mul(100) };
        // Before the first loss the curve would start too flat: grow by at least 5 percent a round trip.
        if self.last_max_cwnd == 0 && self.cnt > 20 {
            self.cnt = 20;
        }
    }
}

impl Cubic {
    fn hystart_reset(&mut self, now: Instant, snd_nxt: SeqNum) {
        self.round_start_us = now.as_micros() as u32;
        self.end_seq = snd_nxt;
        if let Some(more) = &mut self.more {
            more.round = None;
        }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The present round.
    fn round(&mut self) -> &mut Round {
        let last_ack_us = self.round_start_us;
        self.more().round.get_or_insert(Round { sample_cnt: 0, last_ack_us, curr_rtt_us: u32::MAX })
    }

    /// A connection begins, or begins again after a timeout.
    fn new(now: Instant, snd_nxt: SeqNum) -> Cubic {
        let mut c = Cubic::default();
        c.hystart_reset(now, snd_nxt);
        c
    }

    /// HyStart++, whose first round ends as HyStart's would.
    fn plus(&mut self) -> &mut HyStartPlus {
        let end_seq = self.end_seq;
        self.more().plus.get_or_insert_with(|| HyStartPlus::new(end_seq))
    }

    fn epoch_start_ms(&self) -> Option<u32> {
        self.more.as_ref()?.curve.epoch_start_ms
    }

    /// How far the ACKs of one train may be spread by the sender's own packet sizes, microseconds (hystart_ack_delay).
    fn ack_delay_us(pacing_rate: u64) -> u32 {
        if pacing_rate == 0 {
            return 0;
        }
        (GSO_MAX_SIZE as u64 * 4 * 1_000_000 / pacing_rate).min(1_000) as u32
    }

    fn hystart_update(&mut self, cx: &mut Cx<'_>, delay_us: u32) {
        let cwnd = cx.tp.snd_cwnd;
        // Rounds are counted from the first on, so that one that began long ago does not count as an ACK train.
        if cx.tp.snd_una.after(self.end_seq) {
            self.hystart_reset(cx.now, cx.tp.snd_nxt);
        }
        let sysctl = &cx.stack.sysctl;
        if cwnd < sysctl.cubic_hystart_low_window() as u32 {
            return;
        }
        let detect = sysctl.cubic_hystart_detect();
        if detect & HYSTART_ACK_TRAIN != 0 {
            self.detect_train(cx);
        }
        if detect & HYSTART_DELAY != 0 {
            self.detect_delay(cx, delay_us);
        }
    }

    fn detect_train(&mut self, cx: &mut Cx<'_>) {
        let (now, cwnd) = (cx.now.as_micros() as u32, cx.tp.snd_cwnd);
        if now.wrapping_sub(self.round().last_ack_us) as i32 <= cx.stack.sysctl.cubic_hystart_ack_delta() {
            self.round().last_ack_us = now;
            // Without pacing, a window that fills the path is acknowledged within half an RTT; pacing may spread it
            // over an RTT.
            let threshold = self.delay_min_us.saturating_add(Cubic::ack_delay_us(cx.tp.pacing_rate));
            let threshold = if paces(cx) { threshold } else { threshold >> 1 };
            if now.wrapping_sub(self.round_start_us) as i32 > threshold as i32 {
                self.found = true;
                cx.stack.mib.inc(Mib::TcpExtTCPHystartTrainDetect);
                cx.stack.mib.add(Mib::TcpExtTCPHystartTrainCwnd, cwnd as u64);
                cx.tp.snd_ssthresh = cwnd;
            }
        }
    }

    fn detect_delay(&mut self, cx: &mut Cx<'_>, delay_us: u32) {
        let round = self.round();
        round.curr_rtt_us = round.curr_rtt_us.min(delay_us);
        if round.sample_cnt < HYSTART_MIN_SAMPLES {
            round.sample_cnt += 1;
        } else {
            let least = round.curr_rtt_us;
            let rise = (self.delay_min_us >> 3).clamp(HYSTART_DELAY_US.0, HYSTART_DELAY_US.1);
            if least > self.delay_min_us.saturating_add(rise) {
                self.found_by_delay(cx);
            }
        }
    }

    fn found_by_delay(&mut self, cx: &mut Cx<'_>) {
        self.found = true;
        cx.stack.mib.inc(Mib::TcpExtTCPHystartDelayDetect);
        cx.stack.mib.add(Mib::TcpExtTCPHystartDelayCwnd, u64::from(cx.tp.snd_cwnd));
        cx.tp.snd_ssthresh = cx.tp.snd_cwnd;
    }

    /// Whether HyStart++ has this slow start: it is the connection's first.
    fn plus_acts(cx: &Cx<'_>) -> bool {
        let sysctl = &cx.stack.sysctl;
        let chosen = sysctl.cubic_hystart() && sysctl.cubic_hystart_detect() & HYSTART_PLUS != 0;
        chosen && cx.tp.snd_ssthresh >= INFINITE_SSTHRESH
    }
}

impl CongAlgo for Cubic {
    fn slots(&self) -> u32 {
        ca_slot::PKTS_ACKED | ca_slot::CWND_EVENT
    }

    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        let cwnd = cx.tp.snd_cwnd as u64;
        let curve = &mut self.more().curve;
        curve.epoch_start_ms = None;
        // Fast convergence (RFC 9438 §4.7): a flow whose window is below its last peak leaves bandwidth to other flows.
        curve.last_max_cwnd = if cx.tp.snd_cwnd < curve.last_max_cwnd {
            (cwnd * (BETA_SCALE + BETA) as u64 / (2 * BETA_SCALE) as u64) as u32
        } else {
            cx.tp.snd_cwnd
        };
        reduced(cx.tp.snd_cwnd)
    }

    fn cong_avoid(&mut self, cx: &mut Cx<'_>, _ack: SeqNum, acked: u32) {
        if !crate::tcp::output::is_cwnd_limited(cx.tp) {
            return;
        }
        let mut acked = acked;
        if in_slow_start(cx.tp) {
            if !self.found && Cubic::plus_acts(cx) {
                acked = self.plus().growth(acked, paces(cx));
            }
            acked = slow_start(cx, acked);
            if acked == 0 {
                return;
            }
        }
        let delay_min_us = self.delay_min_us;
        let curve = &mut self.more().curve;
        curve.update(delay_min_us, cx.now.as_millis() as u32, cx.tp.snd_cwnd, acked);
        cong_avoid_ai(cx, curve.cnt, acked);
    }

    fn set_state(&mut self, cx: &mut Cx<'_>, new: CaState) {
        if new == CaState::Loss {
            *self = Cubic::new(cx.now, cx.tp.snd_nxt);
        }
    }

    fn cwnd_event(&mut self, cx: &mut Cx<'_>, event: CaEvent) {
        // Idle time does not count as time on the curve.
        if event == CaEvent::TxStart
            && let Some(more) = &mut self.more
            && let Some(epoch) = more.curve.epoch_start_ms
        {
            let now = cx.now.as_millis() as u32;
            let idle = now.wrapping_sub(cx.tp.lsndtime_ms) as i32;
            if idle > 0 {
                let moved = epoch.wrapping_add(idle as u32);
                more.curve.epoch_start_ms = Some(if moved.wrapping_sub(now) as i32 > 0 { now } else { moved });
            }
        }
    }

    fn pkts_acked(&mut self, cx: &mut Cx<'_>, sample: &AckSample) {
        if sample.rtt_us < 0 {
            return;
        }
        // Just after a reduction the queues drain, and RTT samples are misleading.
        let now = cx.now.as_millis() as u32;
        if self.epoch_start_ms().is_some_and(|e| (now.wrapping_sub(e) as i32) < 1000) {
            return;
        }
        let delay = sample.rtt_us.clamp(1, u32::MAX as i64) as u32;
        if self.delay_min_us == 0 || self.delay_min_us > delay {
            self.delay_min_us = delay;
        }
        let sysctl = &cx.stack.sysctl;
        if self.found || !in_slow_start(cx.tp) || !sysctl.cubic_hystart() {
            return;
        }
        if sysctl.cubic_hystart_detect() & HYSTART_PLUS == 0 {
            self.hystart_update(cx, delay);
        } else if Cubic::plus_acts(cx) && self.plus().sample(cx.tp.snd_una, cx.tp.snd_nxt, delay) {
            self.found_by_delay(cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_rfc_9438_in_linux_units() {
        assert_eq!((CUBE_FACTOR, RENO_SCALE), (2_681_735_677, 15));
        for (a, r) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (999_999_999, 999), (1_000_000_000, 1000)] {
            assert_eq!(cube_root(a), r, "{a}");
        }
        assert_eq!(cube_root(u64::MAX), 2_642_245);
    }

    /// After a reduction from 100 to 70, K = cbrt(30 / 0.4) = 4.217 s (RFC 9438 §4.2), and the curve is back at 100
    /// there.
    #[test]
    fn the_window_returns_to_its_last_maximum_after_k_seconds() {
        let mut c = Curve { last_max_cwnd: 100, ..Curve::default() };
        c.update(0, 1_000, 70, 1);
        assert_eq!(c.k, 4_316);
        assert_eq!(c.origin_point, 100);
        // At the start the target is C K^3 below the origin: the current window, so growth is slowest.
        assert!(c.cnt >= 70, "{}", c.cnt);
        // Halfway the curve is 30/8 below the origin, rounded to 3.
        let mut c = Curve { last_max_cwnd: 100, ..Curve::default() };
        c.update(0, 1_000, 70, 1);
        c.tcp_cwnd = 0;
        c.update(0, 1_000 + 2_108, 71, 1);
        assert_eq!(c.cnt, 71 / (97 - 71));
        // At K the target is 100.
        c.tcp_cwnd = 0;
        c.update(0, 1_000 + 4_217, 90, 1);
        assert_eq!(c.cnt, 90 / (100 - 90));
    }

    #[test]
    fn before_the_first_loss_growth_is_at_least_five_percent_a_round_trip() {
        let mut c = Curve::default();
        c.update(0, 1_000, 50, 1);
        assert_eq!(c.cnt, 20);
    }

    #[test]
    fn growth_is_never_below_renos() {
        // Reno with CUBIC's beta grows by 1 segment per 15/8 windows acknowledged.
        let mut c = Curve { last_max_cwnd: 1_000, ..Curve::default() };
        c.update(0, 1_000, 10, 1);
        for t in 0..10 {
            c.update(0, 1_040 + 40 * t, 10, 19);
        }
        assert!(c.tcp_cwnd > 10 && c.cnt <= 10, "{} {}", c.tcp_cwnd, c.cnt);
    }

    /// An ACK train that lasts 60 ms on a path of 100 ms fills the path, unless the sender itself spread its packets.
    #[test]
    fn pacing_lets_an_ack_train_last_a_whole_round_trip() {
        for (max_pacing_rate, want) in [(u64::MAX, true), (1 << 40, false)] {
            let b = crate::tcp::testing::Bench::established();
            b.with(|cx| {
                cx.sk.cold_mut().max_pacing_rate = max_pacing_rate;
                cx.tp.snd_cwnd = 20;
                let mut c = Cubic { delay_min_us: 100_000, ..Cubic::default() };
                c.hystart_reset(cx.now, cx.tp.snd_nxt + 1);
                let start = cx.now;
                for ms in 1..=60 {
                    cx.now = start + crate::base::env::Duration::from_millis(ms);
                    c.hystart_update(cx, 100_000);
                }
                assert_eq!(c.found, want, "{max_pacing_rate}");
            });
        }
    }

    /// Rounds follow each other below a window of 16 too, where their samples do not count.
    #[test]
    fn rounds_are_counted_from_the_first_and_samples_from_a_window_of_sixteen() {
        let b = crate::tcp::testing::Bench::established();
        b.with(|cx| {
            let mut c = Cubic { delay_min_us: 100_000, ..Cubic::default() };
            let first = cx.tp.snd_nxt;
            c.hystart_reset(cx.now, first);
            for (cwnd, acked, end, samples) in
                [(14, 2_000, 16_000, 0), (15, 4_000, 16_000, 0), (16, 16_000, 16_000, 1), (18, 17_000, 35_000, 1)]
            {
                cx.tp.snd_cwnd = cwnd;
                cx.tp.snd_una = first + acked;
                cx.tp.snd_nxt = cx.tp.snd_una + 1_000 * cwnd;
                c.hystart_update(cx, 400_000);
                assert_eq!((c.end_seq, c.round().sample_cnt), (first + end, samples), "{cwnd}");
            }
        });
    }
}
