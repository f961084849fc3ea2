//! A set of descriptor numbers that can be read at any time, also by a fork(2) child whose parent was changing it: one
//! bit per number, and no lock. Above: `fork`, and the descriptors of the C ABI.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Words of a chunk: 32768 numbers in 4 KiB. A chunk is allocated when one of its numbers is first used, and never
/// freed.
const WORDS: usize = 512;
const NUMBERS: usize = WORDS * 64;
/// Number of chunks: for as many descriptors as fs.nr_open can ever allow (2^30).
const CHUNKS: usize = 32768;

type Chunk = [AtomicU64; WORDS];

/// See the module's text.
pub struct Numbers {
    chunks: [AtomicPtr<Chunk>; CHUNKS],
    /// One past the last allocated chunk.
    made: AtomicUsize,
}

impl Numbers {
    /// An empty set.
    #[allow(clippy::new_without_default)] // for statics only: it is large
    pub const fn new() -> Numbers {
        Numbers { chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS], made: AtomicUsize::new(0) }
    }

    fn chunk(&self, at: usize) -> Option<&Chunk> {
        // SAFETY: a chunk was leaked by `insert`, and lives as long as the process.
        unsafe { self.chunks.get(at)?.load(Ordering::Acquire).as_ref() }
    }

    fn place(fd: RawFd) -> Option<(usize, usize, u64)> {
        let n = usize::try_from(fd).ok()?;
        Some((n / NUMBERS, n % NUMBERS / 64, 1 << (n % 64)))
    }

    /// Adds a number.
    pub fn insert(&self, fd: RawFd) {
        let Some((at, word, bit)) = Numbers::place(fd) else { return };
        let Some(place) = self.chunks.get(at) else { return };
        if place.load(Ordering::Acquire).is_null() {
            let new = Box::into_raw(Box::new([const { AtomicU64::new(0) }; WORDS]));
            if place.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: another thread stored its chunk first, and no other thread has seen this one.
                drop(unsafe { Box::from_raw(new) });
            }
            self.made.fetch_max(at + 1, Ordering::AcqRel);
        }
        if let Some(chunk) = self.chunk(at) {
            chunk[word].fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Removes a number; returns whether it was in the set.
    pub fn remove(&self, fd: RawFd) -> bool {
        let Some((at, word, bit)) = Numbers::place(fd) else { return false };
        self.chunk(at).is_some_and(|c| c[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0)
    }

    /// Whether the number is in the set.
    #[inline]
    pub fn contains(&self, fd: RawFd) -> bool {
        let Some((at, word, bit)) = Numbers::place(fd) else { return false };
        self.chunk(at).is_some_and(|c| c[word].load(Ordering::Acquire) & bit != 0)
    }

    /// The lowest number in the set that is at least `from`.
    pub fn next(&self, from: RawFd) -> Option<RawFd> {
        let from = usize::try_from(from).ok()?;
        for at in from / NUMBERS..self.made.load(Ordering::Acquire) {
            let Some(chunk) = self.chunk(at) else { continue };
            let first = from.saturating_sub(at * NUMBERS);
            for (i, word) in chunk.iter().enumerate().skip(first / 64) {
                let below = if i == first / 64 { (1u64 << (first % 64)) - 1 } else { 0 };
                let bits = word.load(Ordering::Acquire) & !below;
                if bits != 0 {
                    return Some((at * NUMBERS + i * 64) as RawFd + bits.trailing_zeros() as RawFd);
                }
            }
        }
        None
    }

    /// The 64 numbers from `at` * 64 on, as bits.
    #[inline]
    pub fn word(&self, at: usize) -> u64 {
        self.chunk(at / WORDS).map_or(0, |chunk| chunk[at % WORDS].load(Ordering::Acquire))
    }

    /// Removes all numbers, and passes each to `f`. Neither locks nor allocates.
    pub fn drain(&self, mut f: impl FnMut(RawFd)) {
        for at in 0..self.made.load(Ordering::Acquire) {
            let Some(chunk) = self.chunk(at) else { continue };
            for (i, word) in chunk.iter().enumerate() {
                let mut bits = word.swap(0, Ordering::AcqRel);
                while bits != 0 {
                    f((at * NUMBERS + i * 64) as RawFd + bits.trailing_zeros() as RawFd);
                    bits &= bits - 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_the_set_until_removed() {
        static SET: Numbers = Numbers::new();
        let all = [0, 3, 63, 64, 32767, 32768, 1_048_575, (1 << 30) - 1];
        all.iter().for_each(|&n| SET.insert(n));
        SET.insert(-1);
        assert!(all.iter().all(|&n| SET.contains(n)));
        assert!(![-1, 1, 65, 40_000, i32::MAX].iter().any(|&n| SET.contains(n)));
        let walk: Vec<_> = std::iter::successors(SET.next(0), |n| SET.next(n + 1)).collect();
        assert_eq!((walk, SET.next(-1)), (all.to_vec(), None));
        assert_eq!((SET.word(0), SET.word(511), SET.word(513)), (1 << 63 | 0b1001, 1 << 63, 0));
        assert!(SET.remove(64) && !SET.remove(64) && !SET.remove(-1));
        let mut drained = Vec::new();
        SET.drain(|n| drained.push(n));
        assert_eq!(drained, [0, 3, 63, 32767, 32768, 1_048_575, (1 << 30) - 1]);
        assert!(!all.iter().any(|&n| SET.contains(n)));
    }
}
