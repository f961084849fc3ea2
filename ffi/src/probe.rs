//! Whether a program's pointer is accessible: a bad one is EFAULT, as from the kernel, and does not crash the process.
//! Above: `ptr`, which checks before it makes a slice. Linux: access_ok, and the fault fix-ups of copy_from_user.
//!
//! Addresses in the first page and in the kernel's half cost a comparison. For others each page is probed, once per
//! thread: madvise(2) with MADV_POPULATE_READ or _WRITE touches them as a copy would and says whether it could. Buffers
//! are probed when bytes are copied, and only the bytes that are copied, so that an unused part may be bad, as in
//! Linux. Memory above the stack pointer is in the callers' frames and assumed to be good, so a buffer on the stack
//! costs no system call. Not detected: memory that is unmapped after it was probed, and any bad memory on kernels
//! before 5.14.

use std::cell::{Cell, OnceCell};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the smallest page there is; larger ones are looked at once for each of these.
const PAGE: usize = 4096;
/// Number of pages that a thread remembers: as many as a large buffer has.
const SLOTS: usize = 1024;
/// Distance above the stack pointer within which an address is a frame of the callers.
const FRAMES: usize = 256 * 1024;

/// Page number << 1 | writable, indexed by the page number modulo SLOTS. No page has the number 0.
type Slots = [Cell<usize>; SLOTS];

/// The memory of a thread's slots, freed when it ends. Not in the thread-local memory itself: glibc takes that of each
/// thread from its stack, and one of PTHREAD_STACK_MIN bytes could then not be made, whatever the thread does.
struct Memory(OnceCell<Box<Slots>>);

impl Drop for Memory {
    fn drop(&mut self) {
        GOOD.set(None);
    }
}

thread_local! {
    /// The slots in MEMORY; none before the first page was looked at, and in a thread that is ending.
    static GOOD: Cell<Option<ptr::NonNull<Slots>>> = const { Cell::new(None) };
    static MEMORY: Memory = const { Memory(OnceCell::new()) };
}

/// Uses the slot of a page.
#[inline]
fn slot<T>(number: usize, with: impl FnOnce(&Cell<usize>) -> T) -> Option<T> {
    // SAFETY: in MEMORY, which only this thread reaches, and which resets GOOD before it is freed.
    GOOD.get().map(|slots| with(unsafe { &slots.as_ref()[number % SLOTS] }))
}

/// The kernel knows MADV_POPULATE_*.
static POPULATES: AtomicBool = AtomicBool::new(true);

/// Pages that were looked at are remembered, in memory that is allocated for it.
static REMEMBERS: AtomicBool = AtomicBool::new(true);

/// From now on each look is a system call, and allocates nothing: for calls that signal handlers make.
pub fn remember_nothing() {
    REMEMBERS.store(false, Ordering::Relaxed);
}

/// Whether the range lies, wholly or in part, outside user space: such an address is refused before any other check
/// (access_ok).
pub fn foreign(at: usize, len: usize) -> bool {
    at.checked_add(len).is_none_or(|end| end > usize::MAX / 2)
}

/// Whether `len` bytes can be read.
#[inline]
pub fn readable(at: usize, len: usize) -> bool {
    usable(at, len, false) == len && at >= PAGE
}

/// Whether the first byte of a buffer of up to `len` bytes can be written; how much will be written is not known yet.
#[inline]
pub fn writable(at: usize, len: usize) -> bool {
    !foreign(at, len) && at >= PAGE && usable(at, len.min(1), true) == len.min(1)
}

/// How many of `len` bytes can be read, from the first on.
#[inline]
pub fn readable_bytes(at: usize, len: usize) -> usize {
    usable(at, len, false)
}

/// How many of `len` bytes can be written, from the first on.
#[inline]
pub fn writable_bytes(at: usize, len: usize) -> usize {
    usable(at, len, true)
}

#[inline]
fn usable(at: usize, len: usize, write: bool) -> usize {
    if at < PAGE || foreign(at, len) {
        return 0;
    }
    let here = 0u8;
    let above = at.wrapping_sub(&raw const here as usize);
    if above < FRAMES && len < FRAMES {
        return len;
    }
    let (first, end) = (at / PAGE, (at + len.max(1) - 1) / PAGE + 1);
    match (first..end).find(|page| !known(*page, write)) {
        None => len,
        Some(unknown) => match look(unknown, end, write) {
            bad if bad == end => len,
            bad if bad == first => 0,
            bad => bad * PAGE - at,
        },
    }
}

/// Whether this thread has found the page good before.
#[inline]
fn known(number: usize, write: bool) -> bool {
    slot(number, Cell::get).is_some_and(|k| k >> 1 == number && (k & 1 == 1 || !write))
}

/// The first bad page of `from..end`; `end`: there is none.
#[cold]
fn look(from: usize, end: usize, write: bool) -> usize {
    if !POPULATES.load(Ordering::Relaxed) {
        return end;
    }
    let bad = if populate(from, end, write) {
        end
    } else {
        // A kernel that does not know the advice returns the same EINVAL, but also for good memory.
        let mut known_good = 0u8;
        let mine = &raw mut known_good as usize / PAGE;
        if !populate(mine, mine + 1, true) {
            POPULATES.store(false, Ordering::Relaxed);
            return end;
        }
        (from..end).find(|page| !populate(*page, page + 1, write)).unwrap_or(end)
    };
    if !REMEMBERS.load(Ordering::Relaxed) {
        return bad;
    }
    // A thread that is ending has no cache any more.
    let _ = MEMORY.try_with(|memory| {
        // By way of the heap: a small stack has no room for them.
        let slots = memory.0.get_or_init(|| vec![Cell::new(0); SLOTS].try_into().expect("SLOTS of them"));
        GOOD.set(Some(ptr::NonNull::from(&**slots)));
    });
    for number in (from..bad).rev().take(SLOTS) {
        slot(number, |slot| slot.set(number << 1 | usize::from(write)));
    }
    bad
}

fn populate(from: usize, end: usize, write: bool) -> bool {
    let advice = if write { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    loop {
        // SAFETY: this advice changes no byte; it brings pages in as an access would, and fails where that would fault.
        if unsafe { libc::madvise((from * PAGE) as *mut c_void, (end - from) * PAGE, advice) } == 0 {
            return true;
        }
        match crate::boundary::errno() {
            libc::EINTR | libc::EAGAIN => continue,
            // Other errors, such as lack of memory or a poisoned page, do not mean that the pointer is bad.
            libc::EINVAL | libc::EFAULT | libc::ENOMEM => return false,
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(prot: i32) -> usize {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping of its own.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, prot, flags, -1, 0) };
        assert_ne!(p, libc::MAP_FAILED);
        p as usize
    }

    #[test]
    fn pages_without_access_are_told_from_good_ones() {
        let (none, read) = (map(libc::PROT_NONE), map(libc::PROT_READ));
        let both = map(libc::PROT_READ | libc::PROT_WRITE);
        if !populate(both / PAGE, both / PAGE + 1, true) {
            eprintln!("skipped: a kernel without MADV_POPULATE_WRITE");
            return;
        }
        // Twice: the second result comes from the cache.
        for _ in 0..2 {
            assert_eq!((readable(none, 1), writable(none, 1)), (false, false));
            assert_eq!((readable(read, 1), writable(read, 1)), (true, false));
            assert_eq!((readable(both, 9), writable(both, 9)), (true, true));
        }
    }

    #[test]
    fn addresses_of_nobody_are_refused_and_those_of_the_stack_and_heap_are_not() {
        for bad in [0, 8, usize::MAX - 4095, 1 << 63] {
            assert!(!readable(bad, 1) && !writable(bad, 1), "{bad:#x}");
        }
        assert!(foreign(usize::MAX - 4095, 10) && !foreign(8, 10));
        let (stack, heap) = ([0u8; 9000], vec![0u8; 9000]);
        for at in [stack.as_ptr() as usize, heap.as_ptr() as usize] {
            assert!(readable(at, 9000) && writable(at, 9000));
        }
    }
}
