//! A token-bucket policer on the path lets a burst through at the path's rate, and then drops all beyond its own rate.
//! Two intervals in a row that begin and end with loss, lose much, and deliver at about the same rate show one; that
//! rate is then used for a while, without probing. Linux: the functions of tcp_bbr.c about long-term bandwidth.

use super::model::{BW_UNIT, Bw, UNIT};
use super::rate_bytes;
use crate::base::env::Instant;
use crate::tcp::tcb::{Cx, RateSample};

/// Round trips of an interval, least and greatest.
const ROUNDS: (u32, u32) = (4, 16);
/// Least share of the delivered segments that an interval loses, in 1/256: a fifth.
const LOSS: u64 = 50;
/// Rates are about the same if they differ by less than an eighth, or than 4 kbit/s.
const RATIO: Bw = 8;
const DIFFERENCE: u64 = 4_000 / 8;
/// Round trips for which the policer's rate is used before the path is probed again.
const USED_ROUNDS: u32 = 48;

/// Times are of delivery (`tp.delivered_mstamp`).
#[derive(Debug, Default)]
pub(super) struct Policer {
    /// An interval is being measured.
    sampling: bool,
    /// Start of the interval: when, and what had been delivered and lost.
    start: Instant,
    delivered: u32,
    lost: u32,
    /// Round trips of the interval, or since the rate is in use.
    rounds: u32,
    /// Rate of the last interval; 0: none.
    bw: Bw,
    /// The rate is in use.
    found: bool,
}

impl Policer {
    /// The rate of the policer, if one was found.
    pub(super) fn rate(&self) -> Option<Bw> {
        self.found.then_some(self.bw)
    }

    /// Forgets all.
    pub(super) fn reset(&mut self, cx: &Cx<'_>) {
        *self = Policer::default();
        self.begin(cx);
    }

    fn begin(&mut self, cx: &Cx<'_>) {
        self.start = cx.tp.delivered_mstamp;
        self.delivered = cx.tp.delivered;
        self.lost = cx.tp.lost;
        self.rounds = 0;
    }

    /// An acknowledgement. True: the rate has been in use for long enough, the path is to be probed again.
    pub(super) fn sample(&mut self, cx: &Cx<'_>, rs: &RateSample, round_start: bool, in_probe_bw: bool) -> bool {
        if self.found {
            if in_probe_bw && round_start {
                self.rounds += 1;
                if self.rounds >= USED_ROUNDS {
                    self.reset(cx);
                    return true;
                }
            }
            return false;
        }
        // The first loss: the policer's tokens are used up, and it lets its own rate through.
        if !self.sampling {
            if rs.losses <= 0 {
                return false;
            }
            self.begin(cx);
            self.sampling = true;
        }
        // A pause of the program lets tokens accumulate.
        if rs.is_app_limited {
            self.reset(cx);
            return false;
        }
        self.rounds += u32::from(round_start);
        if self.rounds > ROUNDS.1 {
            self.reset(cx);
        } else if self.rounds >= ROUNDS.0 && rs.losses > 0 {
            self.end(cx);
        }
        false
    }

    /// A loss may end the interval.
    fn end(&mut self, cx: &Cx<'_>) {
        let lost = u64::from(cx.tp.lost.wrapping_sub(self.lost));
        let delivered = u64::from(cx.tp.delivered.wrapping_sub(self.delivered));
        if delivered == 0 || lost * u64::from(UNIT) < LOSS * delivered {
            return;
        }
        // Whole milliseconds, so that a burst of acknowledgements gives no rate.
        let ms = cx.tp.delivered_mstamp.as_millis().saturating_sub(self.start.as_millis());
        if ms == 0 {
            return;
        }
        let bw = (u128::from(delivered) * u128::from(BW_UNIT) / (u128::from(ms) * 1_000)) as Bw;
        let difference = bw.abs_diff(self.bw);
        let same = difference <= self.bw / RATIO || rate_bytes(difference, cx.tp.mss_cache, UNIT) <= DIFFERENCE;
        if self.bw != 0 && same {
            self.bw = (bw + self.bw) / 2;
            self.found = true;
            self.rounds = 0;
            return;
        }
        self.bw = bw;
        self.begin(cx);
    }
}
