//! A number that all threads change and few read: each thread changes a copy of its own, whose content moves to a
//! shared one when it has become large. Above: the accounts of protocols. Linux: struct percpu_counter.

use super::{SHARDS, shard_index};
use crate::base::padded::Padded;
use core::sync::atomic::AtomicI64;
use core::sync::atomic::Ordering::Relaxed;

/// See the module's text. A copy as large as `BATCH` moves to the shared one (percpu_counter_batch). What is read while
/// other threads change the number is close to one that it had meanwhile, and may be negative for a moment.
#[derive(Debug, Default)]
pub struct PercpuCounter<const BATCH: i64 = 32> {
    shared: Padded<AtomicI64>,
    copies: [Padded<AtomicI64>; SHARDS],
}

impl<const BATCH: i64> PercpuCounter<BATCH> {
    /// Adds `n`, which may be negative.
    #[inline]
    pub fn add(&self, n: i64) {
        let shard = shard_index() % SHARDS;
        let copy = &self.copies[shard];
        if shard == SHARDS - 1 {
            // The copy of all threads that have none.
            let now = copy.fetch_add(n, Relaxed) + n;
            if now.abs() >= BATCH {
                self.shared.fetch_add(copy.swap(0, Relaxed), Relaxed);
            }
            return;
        }
        let now = copy.load(Relaxed) + n;
        if now.abs() < BATCH {
            return copy.store(now, Relaxed);
        }
        self.shared.fetch_add(now, Relaxed);
        copy.store(0, Relaxed);
    }

    /// The number without what is in the copies, fewer than `BATCH` in each.
    #[inline]
    pub(crate) fn rough(&self) -> i64 {
        self.shared.load(Relaxed)
    }

    /// The number.
    pub fn sum(&self) -> i64 {
        self.copies.iter().fold(self.shared.load(Relaxed), |sum, copy| sum + copy.load(Relaxed))
    }

    /// Whether the number is above `limit`. Reads the copies only where they decide it (percpu_counter_compare).
    #[inline]
    pub fn exceeds(&self, limit: i64) -> bool {
        let (rough, copies) = (self.shared.load(Relaxed), BATCH * SHARDS as i64);
        if rough.saturating_add(copies) <= limit {
            return false;
        }
        rough.saturating_sub(copies) > limit || self.sum() > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_add_and_others_subtract_is_summed() {
        let counter: PercpuCounter = PercpuCounter::default();
        std::thread::scope(|s| {
            for i in 0..2 * SHARDS as i64 {
                let counter = &counter;
                s.spawn(move || (0..1000).for_each(|_| counter.add(if i % 2 == 0 { 2 } else { -1 })));
            }
        });
        assert_eq!(counter.sum(), SHARDS as i64 * 1000);
    }

    #[test]
    fn a_limit_is_compared_exactly_whether_the_copies_hold_the_number_or_not() {
        let counter: PercpuCounter = PercpuCounter::default();
        for n in 1..=1000 {
            counter.add(1);
            assert!(counter.exceeds(n - 1) && !counter.exceeds(n), "{n}");
        }
        assert!(!counter.exceeds(i64::MAX) && counter.exceeds(i64::MIN));
    }
}
