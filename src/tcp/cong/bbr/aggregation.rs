//! Paths that aggregate (Wi-Fi, cable, receivers that acknowledge in bursts) are silent for a time and then acknowledge
//! much at once. The greatest excess over the bandwidth, of the last five to ten round trips, is added to the window,
//! so that sending goes on through the silence. Linux: bbr_update_ack_aggregation, bbr_ack_aggregation_cwnd.

use super::model::{BW_UNIT, Bw};
use crate::base::env::Instant;
use crate::tcp::tcb::{Cx, RateSample};

/// Each of the two halves of the window lasts this many round trips.
const ROUNDS: u8 = 5;
/// Segments after which an epoch begins anew, whatever was acknowledged.
const EPOCH_MAX: u32 = 1 << 20;
/// The excess counts up to what the bandwidth gives in this time, microseconds.
const MAX_US: u64 = 100_000;

#[derive(Debug)]
pub(super) struct Aggregation {
    /// Start of the epoch, and the segments that it has acknowledged.
    start: Instant,
    acked: u32,
    /// Greatest excess in this half of the window and in the last, segments.
    excess: [u32; 2],
    current: usize,
    rounds: u8,
}

impl Aggregation {
    pub(super) fn new(now: Instant) -> Aggregation {
        Aggregation { start: now, acked: 0, excess: [0; 2], current: 0, rounds: 0 }
    }

    /// Begins an epoch: acknowledgements of before are not compared with time that passes from now on.
    pub(super) fn restart(&mut self, now: Instant) {
        self.start = now;
        self.acked = 0;
    }

    /// An acknowledgement, at bandwidth `bw`.
    pub(super) fn update(&mut self, cx: &Cx<'_>, rs: &RateSample, bw: Bw, round_start: bool) {
        if rs.acked_sacked == 0 {
            return;
        }
        if round_start {
            self.rounds += 1;
            if self.rounds >= ROUNDS {
                self.rounds = 0;
                self.current ^= 1;
                self.excess[self.current] = 0;
            }
        }
        let now = cx.tp.delivered_mstamp;
        let expected_at = |since: Instant| {
            let us = (now - since).as_micros();
            (u128::from(bw) * us / u128::from(BW_UNIT)).min(u128::from(u32::MAX)) as u32
        };
        let mut expected = expected_at(self.start);
        // No more than the bandwidth gives: the silence is over, or there was none.
        if self.acked <= expected || self.acked.saturating_add(rs.acked_sacked) >= EPOCH_MAX {
            self.restart(now);
            expected = 0;
        }
        self.acked = self.acked.saturating_add(rs.acked_sacked).min(EPOCH_MAX - 1);
        let excess = self.acked.saturating_sub(expected).min(cx.tp.snd_cwnd);
        let greatest = &mut self.excess[self.current];
        *greatest = excess.max(*greatest);
    }

    /// What to add to the window, segments.
    pub(super) fn cwnd(&self, bw: Bw) -> u32 {
        let most = (u128::from(bw) * u128::from(MAX_US) / u128::from(BW_UNIT)).min(u128::from(u32::MAX)) as u32;
        self.excess[0].max(self.excess[1]).min(most)
    }
}
