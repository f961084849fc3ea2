//! HyStart++ (RFC 9406): slow start ends by a rise of the RTT, but before the rise is believed the window grows slowly
//! for some rounds (conservative slow start, CSS), and a rise that passes resumes slow start. Above: `cubic`, where
//! `tcp_cubic.hystart_detect` has bit 4. Linux has HyStart only. Only for a connection's first slow start, as RFC 9406
//! §4.3 recommends: a later one ends at the threshold it found.

use crate::wire::seq::SeqNum;

/// Bounds of the rise that counts, microseconds, and its part of the last round's RTT (MIN_RTT_THRESH, MAX_RTT_THRESH,
/// MIN_RTT_DIVISOR; RFC 9406 §4.3).
const RTT_THRESH_US: (u32, u32) = (4_000, 16_000);
const RTT_DIVISOR: u32 = 8;
/// RTT samples needed in a round (N_RTT_SAMPLE).
const RTT_SAMPLES: u8 = 8;
/// Growth of slow start over that of CSS (CSS_GROWTH_DIVISOR).
const CSS_GROWTH_DIVISOR: u32 = 4;
/// Rounds of CSS, a begun one counted, before congestion avoidance (CSS_ROUNDS).
const CSS_ROUNDS: u8 = 5;
/// Greatest growth by one acknowledgement where packets are not paced, segments (L).
const MAX_GROWTH: u32 = 8;
/// No RTT was measured.
const NONE: u32 = u32::MAX;

/// Conservative slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Css {
    /// Least RTT of the round that led here, microseconds (cssBaselineMinRtt).
    baseline_us: u32,
    /// Rounds that ended since.
    rounds: u8,
    /// Acknowledged segments that have not yet made the window grow.
    credit: u32,
}

/// One connection's HyStart++.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HyStartPlus {
    /// The sequence number whose acknowledgement ends the round.
    window_end: SeqNum,
    last_round_min_us: u32,
    current_round_min_us: u32,
    samples: u8,
    css: Option<Css>,
}

impl HyStartPlus {
    /// A connection has begun, or has begun again after a timeout, with `snd_nxt`.
    pub(super) fn new(snd_nxt: SeqNum) -> HyStartPlus {
        HyStartPlus { window_end: snd_nxt, last_round_min_us: NONE, current_round_min_us: NONE, samples: 0, css: None }
    }

    /// Takes the RTT of an acknowledgement up to `una`. True: slow start ends here (RFC 9406 §4.2).
    pub(super) fn sample(&mut self, una: SeqNum, snd_nxt: SeqNum, rtt_us: u32) -> bool {
        if !una.before(self.window_end) && self.end_round(snd_nxt) {
            return true;
        }
        self.current_round_min_us = self.current_round_min_us.min(rtt_us);
        self.samples = self.samples.saturating_add(1);
        if self.samples < RTT_SAMPLES {
            return false;
        }
        match self.css {
            Some(css) if self.current_round_min_us < css.baseline_us => self.css = None,
            None if self.rose() => {
                self.css = Some(Css { baseline_us: self.current_round_min_us, rounds: 0, credit: 0 });
            }
            _ => {}
        }
        false
    }

    /// Whether this round's RTT is above the last one's by more than jitter.
    fn rose(&self) -> bool {
        let last = self.last_round_min_us;
        let thresh = (last / RTT_DIVISOR).clamp(RTT_THRESH_US.0, RTT_THRESH_US.1);
        last != NONE && self.current_round_min_us >= last.saturating_add(thresh)
    }

    /// True: it was the last round of CSS.
    fn end_round(&mut self, snd_nxt: SeqNum) -> bool {
        self.window_end = snd_nxt;
        self.last_round_min_us = self.current_round_min_us;
        self.current_round_min_us = NONE;
        self.samples = 0;
        let Some(css) = &mut self.css else { return false };
        css.rounds += 1;
        css.rounds >= CSS_ROUNDS
    }

    /// Segments by which `acked` ones let the window grow.
    pub(super) fn growth(&mut self, acked: u32, paced: bool) -> u32 {
        let acked = if paced { acked } else { acked.min(MAX_GROWTH) };
        let Some(css) = &mut self.css else { return acked };
        css.credit = css.credit.saturating_add(acked);
        let grown = css.credit / CSS_GROWTH_DIVISOR;
        css.credit %= CSS_GROWTH_DIVISOR;
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of ten segments with these RTTs, milliseconds; the number of the sample at which slow start ended.
    fn round(h: &mut HyStartPlus, n: u32, rtts_ms: &[u32]) -> Option<usize> {
        let (start, next) = (SeqNum(1 + 10 * n), SeqNum(11 + 10 * n));
        if n == 0 {
            *h = HyStartPlus::new(start);
        }
        // The first acknowledgement of a round ends the one before.
        (0..rtts_ms.len()).find(|&i| h.sample(start + i.min(9) as u32, next, rtts_ms[i] * 1000))
    }

    /// Rows: least RTT of the rounds, milliseconds; whether the last leads to CSS.
    #[test]
    fn a_rise_by_an_eighth_held_between_4_and_16_ms_leads_to_conservative_slow_start() {
        for (rounds, css) in [
            (vec![80], false),
            (vec![80, 89], false),
            (vec![80, 90], true),
            (vec![10, 13], false),
            (vec![10, 14], true),
            (vec![300, 315], false),
            (vec![300, 316], true),
            // Against the last round, not the least of all.
            (vec![80, 85, 90, 95], false),
        ] {
            let mut h = HyStartPlus::new(SeqNum(0));
            for (n, rtt) in rounds.iter().enumerate() {
                assert_eq!(round(&mut h, n as u32, &[*rtt; 8]), None);
            }
            assert_eq!(h.css.is_some(), css, "{rounds:?}");
        }
    }

    #[test]
    fn eight_samples_are_needed_and_the_least_of_them_counts() {
        for (second, css) in [(vec![200; 7], false), (vec![200; 8], true), ([vec![200; 7], vec![80]].concat(), false)] {
            let mut h = HyStartPlus::new(SeqNum(0));
            round(&mut h, 0, &[80; 8]);
            round(&mut h, 1, &second);
            assert_eq!(h.css.is_some(), css, "{second:?}");
        }
    }

    #[test]
    fn five_rounds_of_conservative_slow_start_end_it_and_the_begun_one_counts() {
        let mut h = HyStartPlus::new(SeqNum(0));
        round(&mut h, 0, &[80; 8]);
        for n in 1..=5 {
            assert_eq!(round(&mut h, n, &[120; 8]), None, "round {n}");
        }
        assert_eq!(h.css.map(|c| c.rounds), Some(4));
        assert_eq!(round(&mut h, 6, &[120; 8]), Some(0), "at its first acknowledgement");
    }

    #[test]
    fn an_rtt_below_the_baseline_resumes_slow_start() {
        let mut h = HyStartPlus::new(SeqNum(0));
        round(&mut h, 0, &[80; 8]);
        round(&mut h, 1, &[120; 8]);
        assert!(h.css.is_some());
        round(&mut h, 2, &[119; 7]);
        assert!(h.css.is_some(), "eight samples are needed");
        round(&mut h, 3, &[119; 8]);
        assert!(h.css.is_none());
        // It may end again, by the rounds that follow.
        round(&mut h, 4, &[140; 8]);
        assert_eq!(h.css.map(|c| (c.baseline_us, c.rounds)), Some((140_000, 0)));
    }

    #[test]
    fn growth_is_a_quarter_in_conservative_slow_start_and_bounded_without_pacing() {
        let mut h = HyStartPlus::new(SeqNum(0));
        assert_eq!((h.growth(3, false), h.growth(20, false), h.growth(20, true)), (3, 8, 20));
        h.css = Some(Css { baseline_us: 1, rounds: 0, credit: 0 });
        let grown: Vec<u32> = [1, 1, 1, 1, 2, 2, 20].iter().map(|n| h.growth(*n, false)).collect();
        assert_eq!(grown, [0, 0, 0, 1, 0, 1, 2]);
        assert_eq!(h.growth(20, true), 5);
    }
}
