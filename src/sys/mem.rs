//! Advice to the kernel about memory. Above: `wheel`, whose tables a million timers make large.

use std::mem::MaybeUninit;

/// The kernel's large page on the machines we know, bytes.
const HUGE: usize = 2 << 20;

/// Asks for large pages behind memory that is about to be used all over (MADV_HUGEPAGE): a table of many megabytes,
/// touched at random, otherwise costs a walk of the page tables for each touch. Advice only: nothing happens where the
/// kernel has no large pages, or where less than one of them fits.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let range = memory.as_mut_ptr_range();
    let (start, end) = ((range.start as usize).next_multiple_of(HUGE), range.end as usize / HUGE * HUGE);
    if start < end {
        let (start, len) = (range.start.wrapping_byte_add(start - range.start as usize), end - start);
        // SAFETY: the pages lie inside memory that we hold exclusively; the advice changes neither contents nor rights.
        // That it may fail (EINVAL without CONFIG_TRANSPARENT_HUGEPAGE) leaves everything as it was.
        let _ = unsafe { libc::syscall(libc::SYS_madvise, start, len, libc::MADV_HUGEPAGE) };
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
