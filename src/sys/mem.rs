//! Advice about memory, to the kernel and to the processor. Above: `wheel`, whose tables are large with a million
//! timers; `sock`, `base::probing`.

use super::raw::syscall;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, Ordering};

/// Size of the kernel's huge page on known machines, bytes.
const HUGE: usize = 2 << 20;

/// Requests huge pages for memory that is about to be accessed at random (MADV_HUGEPAGE): in a table of many megabytes
/// each access otherwise misses the TLB. Advice only: it has no effect if the kernel has no huge pages, or if the
/// memory is smaller than one.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let range = memory.as_mut_ptr_range();
    let (start, end) = ((range.start as usize).next_multiple_of(HUGE), range.end as usize / HUGE * HUGE);
    if start < end {
        let (start, len) = (range.start.wrapping_byte_add(start - range.start as usize), end - start);
        // SAFETY: the pages lie inside memory that we hold exclusively; the advice changes neither contents nor access
        // rights. If it fails (EINVAL without CONFIG_TRANSPARENT_HUGEPAGE) nothing changes.
        let _ = unsafe { syscall!(libc::SYS_madvise, start, len, libc::MADV_HUGEPAGE) };
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks the processor for a value's cache lines, all at once, where it is about to be used and the lines are likely in
/// memory only: one after the other, as they are used, each would be waited for. `before`: bytes in front of the value
/// that are used as well.
#[inline]
pub(crate) fn prefetch<T>(value: &T, before: usize) {
    prefetch_at::<T>((&raw const *value).cast(), before);
}

#[inline]
fn prefetch_at<T>(value: *const u8, before: usize) {
    let (start, len) = (value.wrapping_sub(before), before + size_of::<T>());
    for line in 0..len / LINE {
        prefetch_line(start.wrapping_add(line * LINE));
    }
    // What begins within a line ends in one more.
    prefetch_line(start.wrapping_add(len.saturating_sub(1)));
}

/// Where a value is, for asking for its cache lines without reading first what leads to it. Nothing is read or written
/// there: the value may be gone, and other memory in its place or none.
#[derive(Clone, Copy)]
pub(crate) struct At(*const u8);

// SAFETY: a number; nothing is reached through it.
unsafe impl Send for At {}
// SAFETY: as above.
unsafe impl Sync for At {}

impl At {
    pub(crate) fn of<T>(value: &T) -> At {
        At((&raw const *value).cast())
    }

    /// As [`prefetch`], of a value of this type that was there.
    #[inline]
    pub(crate) fn prefetch<T>(self, before: usize) {
        prefetch_at::<T>(self.0, before);
    }
}

/// An [`At`] in four bytes, of a value not too far from this one: the distance in steps of 16 bytes, to which malloc
/// aligns. 0: none.
#[derive(Debug, Default)]
pub(crate) struct Near(AtomicI32);

const STEP: usize = 16;

impl Near {
    /// Whether a value was noted.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// No value is noted any more.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Notes where a value is. It writes only what changes.
    #[inline]
    pub(crate) fn note<T>(&self, value: &T) {
        self.note_at((&raw const *value).addr());
    }

    #[inline]
    fn note_at(&self, address: usize) {
        let distance = self.distance(address);
        if self.0.load(Ordering::Relaxed) != distance {
            self.0.store(distance, Ordering::Relaxed);
        }
    }

    #[inline]
    fn distance(&self, address: usize) -> i32 {
        let step = |at: usize| (at / STEP) as isize;
        i32::try_from(step(address) - step((&raw const *self).addr())).unwrap_or(0)
    }

    /// Whether it is this value that was noted last.
    #[cfg(test)]
    pub(crate) fn is<T>(&self, value: &T) -> bool {
        self.is_known() && self.0.load(Ordering::Relaxed) == self.distance((&raw const *value).addr())
    }

    /// As [`prefetch`], of the value that was noted.
    #[inline]
    pub(crate) fn prefetch<T>(&self, before: usize) {
        let distance = self.0.load(Ordering::Relaxed);
        if distance != 0 {
            let here = (&raw const *self).cast::<u8>().map_addr(|at| at / STEP * STEP);
            prefetch_at::<T>(here.wrapping_offset(distance as isize * STEP as isize), before);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction reads nothing that the program can see and does not fault, whatever the address; every
    // x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn prefetch_line(_: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_nearby_is_noted_until_another_one_is_and_one_far_away_is_not() {
        // Neither is in the same sixteen bytes as the first.
        let (near, all) = (Near::default(), [0_u64; 16]);
        let (one, other) = (&all[4], &all[12]);
        assert!(!near.is_known());
        for (value, another) in [(one, other), (other, one)] {
            near.note(value);
            assert!(near.is(value) && !near.is(another));
            near.prefetch::<u64>(16);
        }
        near.note_at((&raw const all).addr() + (1 << 40));
        assert!(!near.is_known());
        At::of(one).prefetch::<u64>(0);
    }

    #[test]
    fn advice_leaves_memory_as_it_was_and_small_memory_alone() {
        let mut v: Vec<u64> = Vec::with_capacity(3 * HUGE / 8);
        prefer_huge_pages(v.spare_capacity_mut());
        v.extend(0..1000);
        prefer_huge_pages(v.spare_capacity_mut());
        prefer_huge_pages::<u64>(&mut []);
        assert!(v.iter().copied().eq(0..1000));
    }
}
