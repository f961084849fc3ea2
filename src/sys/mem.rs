//! Advice about memory, to the kernel and to the processor. Above: `wheel`, whose tables are large with a million
//! timers; `sock`, `base::probing`.

use super::raw::syscall;
use std::mem::MaybeUninit;

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
    let len = before + size_of::<T>();
    let start = (&raw const *value).cast::<u8>().wrapping_sub(before);
    for line in 0..len / LINE {
        prefetch_line(start.wrapping_add(line * LINE));
    }
    // What begins within a line ends in one more.
    prefetch_line(start.wrapping_add(len.saturating_sub(1)));
}

/// The same for the first line of what is small and boxed.
#[inline]
pub(crate) fn prefetch_first<T: ?Sized>(value: &T) {
    prefetch_line((&raw const *value).cast());
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
    fn advice_leaves_memory_as_it_was_and_small_memory_alone() {
        let mut v: Vec<u64> = Vec::with_capacity(3 * HUGE / 8);
        prefer_huge_pages(v.spare_capacity_mut());
        v.extend(0..1000);
        prefer_huge_pages(v.spare_capacity_mut());
        prefer_huge_pages::<u64>(&mut []);
        assert!(v.iter().copied().eq(0..1000));
    }
}
