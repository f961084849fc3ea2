//! Whether a thread of the stack receives while the program's threads work. Usually they receive themselves whenever
//! they wait, which costs no wake-up. A program that has so much to do that it hardly ever waits, a server under load,
//! then makes its requests and the stack's softirq one after the other on one processor. Linux makes the softirq of
//! what another program on the machine sends on that program's processor, and that of a network card where its
//! interrupt is. So where the program is busy, the background thread takes the lease for a moment, now and then; if
//! more packets come in that time than before, it keeps it, and else it waits longer until the next attempt: where no
//! processor is idle, its wake-ups cost more than they bring. Above: `lease`. Linux: threaded NAPI.

use crate::base::env::{Duration, Instant};
use std::collections::VecDeque;

/// How long is measured, with its help and without.
pub(super) const WINDOW: Duration = Duration::from_millis(50);
/// An attempt ends after this time where it brings less than [`LOSS`] of the packets, in per cent.
const GLANCE: Duration = Duration::from_millis(10);
const LOSS: u64 = 90;
/// How long it helps before it measures anew what the program does without: after the second success in a row, which is
/// doubled after each further one; and at most. One success alone may be what else the machine does.
const TERM: Duration = Duration::from_millis(250);
const TERM_MAX: Duration = Duration::from_millis(2000);
/// The help has to bring so many of so many packets.
const GAIN: (u64, u64) = (108, 100);
/// Windows that are compared with an attempt: the best of them counts, since what else the machine does varies more.
const BEFORE: usize = 3;
/// The program's threads wait for no more than this part of the time, in per cent: they are busy.
const BUSY: u64 = 15;
/// Packets of a second from which on there is something to help with.
const MANY: u64 = 10_000;
/// After fruitless attempts, windows until the next, at most.
const PAUSE_MAX: u32 = 64;

/// What has been counted since the stack began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Packets received.
    pub packets: u64,
    /// How long threads of the program have slept or polled.
    pub waited: Duration,
}

/// Of one lease.
#[derive(Debug, Default)]
pub(super) struct Assist {
    /// When the window began, and what had been counted.
    began: Option<(Instant, Counts)>,
    /// Packets of a second in the latest windows of a busy program.
    rates: VecDeque<u64>,
    /// Windows until the next attempt, and how many follow a fruitless one.
    until: u32,
    pause: u32,
    /// Successful attempts in a row.
    wins: u32,
}

/// Packets of a second.
fn rate(packets: u64, time: Duration) -> u64 {
    (u128::from(packets) * 1_000_000_000 / time.as_nanos().max(1)) as u64
}

impl Assist {
    /// Called now and then while the program's threads receive: whether to attempt it. Then follows [`Assist::helped`].
    pub(super) fn is_due(&mut self, now: Instant, counts: Counts) -> bool {
        let Some((began, before)) = self.began else {
            self.began = Some((now, counts));
            return false;
        };
        let time = now - began;
        if time < WINDOW {
            return false;
        }
        self.began = Some((now, counts));
        let waited = (counts.waited - before.waited).as_nanos();
        let rate = rate(counts.packets - before.packets, time);
        if waited * 100 > time.as_nanos() * u128::from(BUSY) || rate < MANY || time > 2 * WINDOW {
            self.rates.clear();
            return false;
        }
        self.rates.push_back(rate);
        if self.rates.len() > BEFORE {
            self.rates.pop_front();
        }
        if self.until > 0 {
            self.until -= 1;
            return false;
        }
        self.rates.len() == BEFORE
    }

    /// Packets of a second without help.
    fn before(&self) -> u64 {
        self.rates.iter().max().copied().unwrap_or(u64::MAX)
    }

    /// Whether an attempt has to end already, after that time and so many packets.
    pub(super) fn loses(&self, packets: u64, time: Duration) -> bool {
        time >= GLANCE && u128::from(rate(packets, time)) * 100 < u128::from(self.before()) * u128::from(LOSS)
    }

    /// So many packets were received in an attempt of that time: for how long to go on.
    pub(super) fn helped(&mut self, packets: u64, time: Duration) -> Option<Duration> {
        let (rate, before) = (u128::from(rate(packets, time)), u128::from(self.before()));
        let gains = rate * u128::from(GAIN.1) >= before * u128::from(GAIN.0);
        self.rates.clear();
        self.began = None;
        if !gains {
            self.pause = if self.wins > 1 { 1 } else { (2 * self.pause).clamp(1, PAUSE_MAX) };
            (self.until, self.wins) = (self.pause, 0);
            return None;
        }
        self.wins += 1;
        let doubled = self.wins.checked_sub(2)?;
        self.pause = 0;
        Some(TERM.saturating_mul(1 << doubled.min(8)).min(TERM_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that receives `rate` packets a second, and whose threads wait for `waits` per cent of the time.
    struct Program {
        policy: Assist,
        now: Instant,
        counts: Counts,
        rate: u64,
        waits: u64,
    }

    impl Program {
        fn new(rate: u64, waits: u64) -> Program {
            Program { policy: Assist::default(), now: Instant::from_millis(1), counts: Counts::default(), rate, waits }
        }

        fn runs(&mut self, time: Duration, rate: u64) {
            self.now = self.now.saturating_add(time);
            self.counts.packets += rate * time.as_millis() as u64 / 1000;
            self.counts.waited += time * self.waits as u32 / 100;
        }

        /// How many windows of the program alone are before an attempt; none: more than 1,000.
        fn windows(&mut self) -> Option<u32> {
            self.policy.is_due(self.now, self.counts);
            (1..=1000).find(|_| {
                self.runs(WINDOW, self.rate);
                self.policy.is_due(self.now, self.counts)
            })
        }

        /// An attempt with so many packets a second.
        fn attempt(&mut self, rate: u64) -> Option<Duration> {
            let before = self.counts.packets;
            self.runs(WINDOW, rate);
            self.policy.helped(self.counts.packets - before, WINDOW)
        }
    }

    #[test]
    fn only_a_program_that_is_busy_with_packets_is_helped() {
        for (rate, waits, windows) in
            [(50_000, 0, Some(3)), (50_000, 15, Some(3)), (50_000, 30, None), (5_000, 0, None), (0, 0, None)]
        {
            assert_eq!(Program::new(rate, waits).windows(), windows, "{rate} packets a second, {waits} % of waiting");
        }
        // One that rested meanwhile is measured anew.
        let mut p = Program::new(50_000, 0);
        p.windows();
        p.policy.helped(0, WINDOW);
        p.policy.is_due(p.now, p.counts);
        p.runs(WINDOW, 50_000);
        assert!(!p.policy.is_due(p.now, p.counts));
        p.runs(3 * WINDOW, 50_000);
        assert!(!p.policy.is_due(p.now, p.counts) && p.policy.rates.is_empty());
    }

    #[test]
    fn help_that_brings_more_goes_on_for_longer_and_longer() {
        let mut p = Program::new(50_000, 0);
        let mut terms = Vec::new();
        for _ in 0..7 {
            assert_eq!(p.windows(), Some(3));
            terms.push(p.attempt(54_000).map(|term| term.as_millis()));
        }
        // The first success may be chance.
        assert_eq!(terms, [None, Some(250), Some(500), Some(1000), Some(2000), Some(2000), Some(2000)]);
        // A loss after successes is soon tried again, and then begins as at first.
        p.windows();
        assert_eq!(p.attempt(53_000), None);
        assert_eq!(p.windows(), Some(3));
        assert_eq!(p.attempt(60_000), None);
    }

    #[test]
    fn help_that_brings_nothing_becomes_rare_and_a_loss_is_short() {
        let mut p = Program::new(50_000, 0);
        let mut windows = Vec::new();
        for _ in 0..8 {
            windows.push(p.windows().unwrap());
            assert_eq!(p.attempt(53_000), None);
        }
        assert_eq!(windows, [3, 3, 3, 5, 9, 17, 33, 65]);
        p.windows();
        for (ms, rate, loses) in [(9, 10_000, false), (10, 44_000, true), (10, 46_000, false), (40, 44_000, true)] {
            assert_eq!(p.policy.loses(rate * ms / 1000, Duration::from_millis(ms)), loses, "{ms} ms of {rate}");
        }
    }
}
