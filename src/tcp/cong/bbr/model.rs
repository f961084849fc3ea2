//! What BBR knows of the path: round trips, the greatest bandwidth of the last ten, the least RTT, and whether Startup
//! has filled the pipe (the draft's section 4.1).

use crate::base::env::Instant;
use crate::tcp::minmax::MinMax;
use crate::tcp::rtt;
use crate::tcp::tcb::{Cx, INIT_CWND, RateSample};
use crate::wire::seq::SeqNum;

/// Bandwidth: segments a microsecond, in units of 1 / `BW_UNIT`.
pub(super) type Bw = u64;
/// One segment a microsecond.
pub(super) const BW_UNIT: Bw = 1 << 24;
/// A gain of 1.
pub(super) const UNIT: u32 = 256;
/// The maximum of the bandwidth is over this many round trips: a cycle of ProbeBW, and two.
const BW_ROUNDS: u32 = 10;
/// The pipe is full when the bandwidth has grown by less than a quarter in three round trips.
const FULL_BW_ROUNDS: u8 = 3;

#[derive(Debug)]
pub(super) struct Model {
    /// Round trips so far.
    rounds: u32,
    /// `tp.delivered` that ends this round trip: all of then was delivered.
    next_round_delivered: u32,
    /// This acknowledgement began a round trip.
    pub(super) round_start: bool,
    /// Greatest bandwidth of the last round trips, by their number.
    bw: MinMax<Bw>,
    /// Least RTT, microseconds, `u32::MAX` without one, and when it was measured.
    pub(super) min_rtt_us: u32,
    pub(super) min_rtt_stamp: Instant,
    /// The pipe is full; its bandwidth when it last grew; round trips since.
    pub(super) full_bw_reached: bool,
    full_bw: Bw,
    full_bw_rounds: u8,
}

impl Model {
    pub(super) fn new(cx: &Cx<'_>) -> Model {
        Model {
            rounds: 0,
            next_round_delivered: cx.tp.delivered,
            round_start: false,
            bw: MinMax::new(0, 0),
            min_rtt_us: rtt::min_rtt(cx.tp),
            min_rtt_stamp: cx.now,
            full_bw_reached: false,
            full_bw: 0,
            full_bw_rounds: 0,
        }
    }

    pub(super) fn max_bw(&self) -> Bw {
        self.bw.get()
    }

    /// A round trip begins now: what leaves from now on ends it.
    pub(super) fn start_round(&mut self, cx: &Cx<'_>) {
        self.next_round_delivered = cx.tp.delivered;
    }

    /// Counts round trips: one is over when a segment that left after it began is delivered.
    pub(super) fn is_round_start(&mut self, cx: &Cx<'_>, rs: &RateSample) -> bool {
        let sampled = rs.delivered >= 0 && rs.interval_us > 0;
        self.round_start = sampled && !SeqNum(rs.prior_delivered).before(SeqNum(self.next_round_delivered));
        if self.round_start {
            self.start_round(cx);
            self.rounds = self.rounds.wrapping_add(1);
        }
        self.round_start
    }

    /// The bandwidth of a sample. One that the program limited counts only if it is greater than what is known.
    pub(super) fn bw_sample(&mut self, rs: &RateSample) {
        let bw = rs.delivered.max(0) as u64 * BW_UNIT / rs.interval_us.max(1) as u64;
        if !rs.is_app_limited || bw >= self.max_bw() {
            self.bw.running_max(BW_ROUNDS, self.rounds, bw);
        }
    }

    /// Notes an RTT sample that is smaller, or the first since the last one `expired`. A receiver that delayed its
    /// acknowledgement says nothing of the path then.
    pub(super) fn min_rtt_sample(&mut self, now: Instant, rs: &RateSample, expired: bool) {
        let Ok(rtt) = u32::try_from(rs.rtt_us) else { return };
        if rtt < self.min_rtt_us || (expired && !rs.is_ack_delayed) {
            self.min_rtt_us = rtt;
            self.min_rtt_stamp = now;
        }
    }

    /// Once a round trip: whether Startup has filled the pipe.
    pub(super) fn check_full_bw(&mut self, rs: &RateSample) {
        if self.full_bw_reached || !self.round_start || rs.is_app_limited {
            return;
        }
        if self.max_bw() >= self.full_bw * 5 / 4 {
            self.full_bw = self.max_bw();
            self.full_bw_rounds = 0;
            return;
        }
        self.full_bw_rounds += 1;
        self.full_bw_reached = self.full_bw_rounds >= FULL_BW_ROUNDS;
    }

    /// The growth of the bandwidth is counted anew.
    pub(super) fn forget_full_bw(&mut self) {
        self.full_bw = 0;
        self.full_bw_rounds = 0;
    }

    /// `gain` times the product of bandwidth and least RTT, segments, rounded up. Without an RTT the initial window:
    /// then the path is not known to carry more.
    pub(super) fn bdp(&self, bw: Bw, gain: u32) -> u32 {
        if self.min_rtt_us == u32::MAX {
            return INIT_CWND;
        }
        let product = u128::from(bw) * u128::from(self.min_rtt_us) * u128::from(gain) / u128::from(UNIT);
        product.div_ceil(u128::from(BW_UNIT)).min(u128::from(u32::MAX)) as u32
    }
}
