//! The global allocator of this program: the system's, with a count of bytes and calls during a measurement. When it is
//! off, it costs a load of a flag that is not written.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

static ON: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static GLOBAL: Counting = Counting;

fn note(bytes: i64) {
    if ON.load(Relaxed) {
        BYTES.fetch_add(bytes, Relaxed);
        if bytes > 0 {
            CALLS.fetch_add(1, Relaxed);
        }
    }
}

/// The memory that malloc uses for a request of `n` bytes: its header, and its rounding to 16 (glibc: at least 32).
fn held(n: usize) -> i64 {
    (n + 8).next_multiple_of(16).max(32) as i64
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(held(layout.size()));
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(-held(layout.size()));
        // SAFETY: `ptr` came from `alloc` above, that is from System, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(held(layout.size()));
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(held(new_size) - held(layout.size()));
        // SAFETY: as for `dealloc`; `new_size` is the caller's to vouch for.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Bytes allocated and not freed, and allocations made, while `f` runs, by any thread; and `f`'s result.
pub fn counted<T>(f: impl FnOnce() -> T) -> (T, i64, u64) {
    BYTES.store(0, Relaxed);
    CALLS.store(0, Relaxed);
    ON.store(true, Relaxed);
    let t = f();
    ON.store(false, Relaxed);
    (t, BYTES.load(Relaxed), CALLS.load(Relaxed))
}
