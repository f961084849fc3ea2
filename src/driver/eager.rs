//! Whether the holder of a lease looks at the devices before it sleeps: once, or for a moment. Where the kernel has the
//! other end it often answers within our write, and the packet is there before we wait for it: to read it at once saves
//! the ppoll(2). In bulk a thread waits once for every few super-packets, each time for less than a wake-up costs: the
//! sender pays for an interrupt to the other processor, and the receiver for the way out of idle, so it looks for a
//! moment. Elsewhere a wait gathers requests, and other threads use its processor, so it sleeps at once. A sender whose
//! data waits for an acknowledgement looks for it, too, since the thread would come later that is woken by it. Looks of
//! each kind that find nothing become rare. Above: `lease`. Linux: halt_poll_ns, which grows and shrinks in the same
//! way.

use crate::base::env::Duration;

/// How long a look takes that finds nothing.
pub(super) const LOOK: Duration = Duration::from_micros(20);
/// Packets of so many bytes, on average, are bulk: super-packets.
const BULK: u64 = 4 << 10;
/// After fruitless looks the next so many waits have none, at most.
const PAUSE_MAX: u32 = 64;

/// How often something is worth trying that is cheap if it succeeds.
#[derive(Debug, Default)]
struct Trial {
    /// Waits until the next, and how many follow a fruitless one.
    until: u32,
    pause: u32,
}

impl Trial {
    /// One that nothing speaks for yet.
    const RARE: Trial = Trial { until: PAUSE_MAX, pause: PAUSE_MAX };

    /// Whether it is due; then [`Trial::tried`] follows.
    fn is_due(&mut self) -> bool {
        match self.until {
            0 => true,
            n => {
                self.until = n - 1;
                false
            }
        }
    }

    fn tried(&mut self, found: bool) {
        self.pause = if found { 0 } else { (2 * self.pause).clamp(1, PAUSE_MAX) };
        self.until = self.pause;
    }
}

/// Of one lease.
#[derive(Debug)]
pub(super) struct Eager {
    /// There is another processor, on which packets can be sent meanwhile.
    parallel: bool,
    /// Bytes of a packet, on average; the latest count most.
    size: u64,
    /// Looks for a moment.
    moment: Trial,
    /// Single ones.
    once: Trial,
    /// Those of a sender that holds data back until an acknowledgement comes.
    sender: Trial,
}

impl Eager {
    /// For threads that have so many processors.
    pub(super) fn new(processors: usize) -> Eager {
        Eager {
            parallel: processors > 1,
            size: 0,
            moment: Trial::default(),
            once: Trial::RARE,
            sender: Trial::default(),
        }
    }

    /// Packets were received.
    pub(super) fn received(&mut self, packets: usize, bytes: u64) {
        if packets > 0 {
            self.size = (3 * self.size + bytes / packets as u64) / 4;
        }
    }

    /// Whether the wait that begins is to read once first; then [`Eager::read`] follows.
    pub(super) fn reads(&mut self) -> bool {
        self.once.is_due()
    }

    /// Whether there were packets.
    pub(super) fn read(&mut self, found: bool) {
        self.once.tried(found);
    }

    /// Whether a sender that waits for an acknowledgement is to look for it; then [`Eager::received_now`] follows.
    pub(super) fn receives(&mut self) -> bool {
        self.sender.is_due()
    }

    /// Whether there were packets.
    pub(super) fn received_now(&mut self, found: bool) {
        self.sender.tried(found);
    }

    /// Whether the wait that begins is to look for a moment; then [`Eager::looked`] follows.
    pub(super) fn looks(&mut self) -> bool {
        self.size >= BULK && self.parallel && self.moment.is_due()
    }

    /// Whether there were packets.
    pub(super) fn looked(&mut self, found: bool) {
        self.moment.tried(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `waits` look, each of which finds what `found` says.
    fn looks(e: &mut Eager, waits: u32, found: bool) -> u32 {
        (0..waits)
            .filter(|_| {
                let looks = e.looks();
                if looks {
                    e.looked(found);
                }
                looks
            })
            .count() as u32
    }

    #[test]
    fn only_a_wait_in_bulk_looks_and_only_where_another_processor_sends() {
        let mut e = Eager::new(2);
        assert_eq!(looks(&mut e, 100, true), 0);
        e.received(3, 3 * 65_000);
        assert_eq!(looks(&mut e, 100, true), 100);
        // A wait that received nothing says nothing.
        e.received(0, 0);
        assert_eq!(looks(&mut e, 100, true), 100);
        // A short one among them is the end of a write.
        e.received(1, 100);
        assert_eq!(looks(&mut e, 100, true), 100);
        (0..20).for_each(|_| e.received(20, 65_000));
        assert_eq!(looks(&mut e, 100, true), 0);
        let mut alone = Eager::new(1);
        alone.received(1, 65_000);
        assert_eq!(looks(&mut alone, 100, true), 0);
    }

    #[test]
    fn looks_that_find_nothing_become_rare_until_one_does() {
        let mut e = Eager::new(2);
        e.received(1, 65_000);
        // After 1, 2, 4, 8, 16, 32 and then 64 waits without.
        assert_eq!(looks(&mut e, 7 + 63, false), 7);
        assert_eq!(looks(&mut e, 650, false), 10);
        assert_eq!(looks(&mut e, 65, true), 1);
        assert_eq!(looks(&mut e, 65, true), 65);
    }

    #[test]
    fn a_wait_reads_at_once_where_packets_are_there_and_rarely_elsewhere() {
        let mut e = Eager::new(1);
        let mut reads = |waits: u32, found: bool| {
            let waits = (0..waits).filter(|_| {
                let reads = e.reads();
                if reads {
                    e.read(found);
                }
                reads
            });
            waits.count()
        };
        assert_eq!((reads(64, true), reads(100, true)), (0, 100));
        assert_eq!(reads(7 + 63, false), 7);
        assert_eq!(reads(650, false), 10);
        assert_eq!(reads(65, true), 1);
        assert_eq!(reads(65, true), 65);
    }
}
