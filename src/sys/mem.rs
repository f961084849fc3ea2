//! Advice to the kernel about memory. Above: `wheel`, whose tables are large with a million timers.

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
