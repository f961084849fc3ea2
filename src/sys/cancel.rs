//! Thread cancellation (pthread_cancel(3)) while a call waits. Nothing in this library may be unwound by a
//! cancellation, so a wait that is cancelled ends as one that a signal interrupted, the call gives back what it holds
//! on its way out, and the edge to C, when nothing of the call is left, ends the thread. How a system call is made that
//! a cancellation ends is the C library's secret: the edge brings the function ([`install`]). Without it, as in a Rust
//! program, waits are no cancellation points. Above: `fd`, `futex` (the two waits), and the C edge.

use std::cell::Cell;
use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Makes the system call `number` with six arguments, as syscall(2). Where the thread is cancelled before or meanwhile:
/// -1, and `cancelled` becomes 1.
pub type CancellableCall =
    unsafe extern "C" fn(number: c_long, args: *const [c_long; 6], cancelled: *mut c_int) -> c_long;

static CALL: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    static CANCELLED: Cell<bool> = const { Cell::new(false) };
}

/// Says how cancellable system calls are made. For the C edge.
/// # Safety
/// `call` does what [`CancellableCall`] says, and never unwinds.
pub unsafe fn install(call: CancellableCall) {
    CALL.store(call as *mut (), Ordering::Relaxed);
}

/// Whether this thread was cancelled in a wait: it returns to its program as fast as it can, and ends there.
#[inline]
pub(crate) fn cancelled() -> bool {
    CANCELLED.try_with(Cell::get).unwrap_or(false)
}

/// Whether this thread was cancelled in a wait, once: it ends now. Its clean-up handlers may wait again, since a thread
/// that ends cannot be cancelled.
#[inline]
pub fn take() -> bool {
    CANCELLED.try_with(|c| c.get() && c.replace(false)).unwrap_or(false)
}

/// A system call that may wait and is a cancellation point; -1 with errno EINTR where the thread is cancelled.
/// # Safety
/// As syscall(2) with these arguments.
pub unsafe fn syscall(number: c_long, args: [c_long; 6]) -> c_long {
    let call = CALL.load(Ordering::Relaxed);
    if call.is_null() {
        let [a, b, c, d, e, f] = args;
        // SAFETY: the caller vouches for the arguments.
        return unsafe { libc::syscall(number, a, b, c, d, e, f) };
    }
    let mut hit = 0;
    // After the first time the thread cannot be cancelled again, and must not wait again.
    let r = if cancelled() {
        -1
    } else {
        // SAFETY: `CALL` holds what `install` was given, and is not null.
        let call = unsafe { std::mem::transmute::<*mut (), CancellableCall>(call) };
        // SAFETY: the caller vouches for the arguments; both pointers are to live values.
        let r = unsafe { call(number, &raw const args, &raw mut hit) };
        if hit != 0 {
            let _ = CANCELLED.try_with(|c| c.set(true));
        }
        r
    };
    if cancelled() {
        // SAFETY: this thread's errno, which lives as long as the thread.
        unsafe { *libc::__errno_location() = libc::EINTR };
    }
    r
}
