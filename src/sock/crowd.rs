//! Whether there are so many socks that a processor's cache does not hold them all. Then whoever is about to use one
//! prefetches all its cache lines at once; with few socks that would only cost instructions. It is a hint for the whole
//! process, as the cache is, and follows the number of socks. Above: `sock`, `inet`, `net`, `tcp`. Below: `proto`,
//! whose accounts count socks.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Socks of a protocol from which on they are many: about a megabyte.
const MANY: i64 = 512;

/// Protocols of all stacks that have many socks.
static CROWDS: AtomicU32 = AtomicU32::new(0);

/// Whether there are many.
#[inline]
pub(crate) fn many() -> bool {
    CROWDS.load(Ordering::Relaxed) != 0
}

/// Whether a protocol has many.
#[derive(Debug, Default)]
pub(super) struct Crowd(AtomicBool);

impl Crowd {
    /// It has about so many now. They stop being many at half the number, so that few changes are written.
    #[inline]
    pub(super) fn follow(&self, socks: i64) {
        let was = self.0.load(Ordering::Relaxed);
        let now = socks > if was { MANY / 2 } else { MANY };
        if now != was {
            self.change(now);
        }
    }

    #[cold]
    fn change(&self, now: bool) {
        match (self.0.swap(now, Ordering::Relaxed), now) {
            (false, true) => CROWDS.fetch_add(1, Ordering::Relaxed),
            // Another thread's addition may come later than this: the sum is right in the end.
            (true, false) => CROWDS.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.change(false);
    }
}

/// For a test: they are many until this is dropped.
#[cfg(test)]
pub(crate) fn pretend() -> impl Drop {
    let crowd = Crowd::default();
    crowd.follow(MANY + 1);
    crowd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_begins_above_a_number_and_ends_below_half_of_it_or_with_the_accounts() {
        let crowd = Crowd::default();
        let is = |socks| {
            crowd.follow(socks);
            crowd.0.load(Ordering::Relaxed)
        };
        let steps = [(0, false), (MANY, false), (MANY + 1, true), (MANY / 2 + 1, true), (MANY / 2, false)];
        for (socks, many) in steps.into_iter().chain([(MANY, false), (MANY + 1, true)]) {
            assert_eq!(is(socks), many, "{socks}");
            // Other tests may have many as well.
            assert!(!many || super::many());
        }
    }

    #[test]
    fn accounts_that_end_while_they_have_many_do_not_count_on() {
        // More than all that other tests have meanwhile.
        const ENDED: u32 = 100_000;
        (0..ENDED).for_each(|_| Crowd::default().follow(MANY + 1));
        assert!(CROWDS.load(Ordering::Relaxed) < ENDED);
    }
}
