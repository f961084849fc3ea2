//! How many packets the holder of a lease reads after one wait. Where requests come one by one, a second read would
//! only find the queue empty, and the thread's own packet is usually the first; where packets come in bursts, a wait
//! for each would cost as much as the read. So the number follows the bursts: a read that finds fewer is the new
//! number, and now and then one asks for twice as many, which finds out whether there are more. Above: `lease`.

/// Fruitless attempts to read more leave the next so many reads as they are, at most.
const PAUSE_MAX: u32 = 64;

/// The size of bursts, for the queues of one lease.
#[derive(Debug)]
pub(super) struct Burst {
    /// Packets that a read is likely to find, at least 1.
    size: usize,
    /// Reads until the next attempt to read more, and how many follow a fruitless one.
    until: u32,
    pause: u32,
}

impl Default for Burst {
    fn default() -> Burst {
        Burst { size: 1, until: 0, pause: 0 }
    }
}

impl Burst {
    /// How many packets to ask for, at most `limit`.
    pub(super) fn ask(&self, limit: usize) -> usize {
        (if self.until == 0 { 2 * self.size } else { self.size }).min(limit)
    }

    /// Whether a wait serves so many packets that it costs little of each.
    pub(super) fn is_long(&self) -> bool {
        self.size > 2
    }

    /// Of `asked` packets there were `got`.
    pub(super) fn note(&mut self, asked: usize, got: usize) {
        if got > self.size {
            (self.until, self.pause) = (0, 0);
        } else if self.until == 0 {
            self.pause = (2 * self.pause).clamp(1, PAUSE_MAX);
            self.until = self.pause;
        } else {
            self.until -= 1;
        }
        if got > self.size || got < asked {
            self.size = got.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of `burst` packets that are all there at once, until they are read: how many reads of the device, those
    /// that find it empty included, and how many waits.
    fn cost(b: &mut Burst, burst: usize) -> (usize, usize) {
        let (mut left, mut reads, mut waits) = (burst, 0, 0);
        while left > 0 {
            let asked = b.ask(64);
            let got = asked.min(left);
            b.note(asked, got);
            left -= got;
            reads += got + usize::from(got < asked);
            waits += 1;
        }
        (reads, waits)
    }

    fn repeat(b: &mut Burst, times: usize, burst: usize) -> (usize, usize) {
        (0..times).map(|_| cost(b, burst)).fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1))
    }

    #[test]
    fn single_packets_cost_one_read_each_but_for_a_rare_attempt() {
        let mut b = Burst::default();
        repeat(&mut b, 1000, 1);
        assert_eq!(repeat(&mut b, 650, 1), (650 + 10, 650));
    }

    #[test]
    fn a_burst_costs_one_wait_once_it_has_been_seen() {
        let mut b = Burst::default();
        repeat(&mut b, 200, 1);
        repeat(&mut b, 200, 10);
        assert_eq!(repeat(&mut b, 65, 10), (650 + 1, 65));
        // And when they have ended, one read finds that out.
        assert_eq!((cost(&mut b, 1), cost(&mut b, 1).0), ((2, 1), 1));
    }

    #[test]
    fn it_asks_for_no_more_than_the_limit_and_for_one_at_least() {
        let mut b = Burst::default();
        for _ in 0..20 {
            assert!((1..=64).contains(&b.ask(64)));
            let asked = b.ask(64);
            b.note(asked, asked);
        }
        assert_eq!(b.ask(64), 64);
        b.note(64, 0);
        assert_eq!(b.size, 1);
    }
}
