//! Thread cancellation (pthread_cancel(3)) while a call waits. Cancellation must not unwind any code of this library.
//! So a cancelled wait ends like one that a signal interrupted, the call releases what it holds, and the C ABI ends the
//! thread on return, when nothing of the call is left. How to make a cancellable system call is internal to the C
//! library, so the C ABI supplies the function ([`install`]). Without it, as in a Rust program, waits are no
//! cancellation points. Above: `poll`, `futex` (the two waits), and the C ABI.

use super::near::here;
use super::raw;
use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Makes the system call `number` with six arguments, as syscall(2). If the thread is cancelled before or during it:
/// returns -1, and `cancelled` becomes 1.
pub type CancellableCall =
    unsafe extern "C" fn(number: c_long, args: *const [c_long; 6], cancelled: *mut c_int) -> c_long;

static CALL: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Sets the function that makes cancellable system calls. For the C ABI.
/// # Safety
/// `call` does what [`CancellableCall`] says, and never unwinds.
pub unsafe fn install(call: CancellableCall) {
    CALL.store(call as *mut (), Ordering::Relaxed);
}

/// Whether this thread was cancelled in a wait: it must return to the C ABI without waiting again, and ends there.
#[inline]
pub(crate) fn cancelled() -> bool {
    here().cancelled.get()
}

/// Whether this thread was cancelled in a wait, once: it ends now. Its clean-up handlers may wait again, since a thread
/// that ends cannot be cancelled.
#[inline]
pub fn take() -> bool {
    let cancelled = &here().cancelled;
    cancelled.get() && cancelled.replace(false)
}

/// A system call that may wait and is a cancellation point; -1 with errno EINTR where the thread is cancelled.
/// # Safety
/// As syscall(2) with these arguments.
pub unsafe fn syscall(number: c_long, args: [c_long; 6]) -> c_long {
    let call = CALL.load(Ordering::Relaxed);
    if call.is_null() {
        // SAFETY: the caller vouches for the arguments.
        return unsafe { raw::call(number, args) };
    }
    let mut hit = 0;
    // A cancelled thread cannot be cancelled again, and must not wait again.
    let r = if cancelled() {
        -1
    } else {
        // SAFETY: `CALL` holds what `install` was given, and is not null.
        let call = unsafe { std::mem::transmute::<*mut (), CancellableCall>(call) };
        // SAFETY: the caller vouches for the arguments; both pointers are to live values.
        let r = unsafe { call(number, &raw const args, &raw mut hit) };
        if hit != 0 {
            here().cancelled.set(true);
        }
        r
    };
    if cancelled() {
        // SAFETY: this thread's errno, which lives as long as the thread.
        unsafe { *libc::__errno_location() = libc::EINTR };
    }
    r
}
