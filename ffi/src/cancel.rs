//! Calls that are cancellation points (pthreads(7)) and may wait. In a call on a socket of ours a cancellation ends the
//! wait (`sys::cancel`), and then [`blocking`] ends the thread, when no frame of the call is left on its stack; a
//! system call on a descriptor of the kernel is made by [`kernel`]. Below: cancel.c. Where the C library is not glibc
//! there is no cancel.c, and a thread is cancelled at its next cancellation point elsewhere.

use crate::boundary::{CValue, boundary, os};
use std::ffi::{c_int, c_long, c_void};
use usersock::error::Result;
use usersock::internal::sys::{cancel, signal};

#[allow(unused_doc_comments)] // read by cbindgen
/// cbindgen:ignore
#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn usersock_cancellable_call(number: c_long, args: *const [c_long; 6], cancelled: *mut c_int) -> c_long;
}

#[allow(unused_doc_comments)] // read by cbindgen
/// cbindgen:ignore
unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
    fn pthread_testcancel();
}

/// PTHREAD_CANCELED: what joining a cancelled thread gives.
const CANCELED: *mut c_void = usize::MAX as *mut c_void;

/// Makes waits cancellation points; called before a stack is made. Calling it again has no effect.
pub(crate) fn enable() {
    // SAFETY: cancel.c does as CancellableCall says: it returns -1 and sets the flag where the thread is cancelled, and
    // lets nothing unwind past it.
    #[cfg(target_env = "gnu")]
    unsafe {
        cancel::install(usersock_cancellable_call)
    };
}

/// As [`boundary`], for a call that is a cancellation point. Every frame between the program and this one is that of an
/// export: it holds nothing that would have to be dropped.
pub(crate) fn blocking<T: CValue>(f: impl FnOnce() -> Result<T>) -> T {
    // Also if the call would not wait: a loop that always finds data must be cancellable. SAFETY: as for pthread_exit
    // below; `f` borrows its arguments from that frame and is not yet called.
    signal::postponed::outside(|| unsafe { pthread_testcancel() });
    signal::begin_call();
    let r = boundary(f);
    if cancel::take() {
        // Its clean-up handlers run outside of the call. SAFETY: ends this thread as the cancellation asked. What
        // unwinds is `outside`'s frame and the export's, declared for it, both without anything to drop, and the
        // program's.
        signal::postponed::outside(|| unsafe { pthread_exit(CANCELED) });
    }
    r
}

/// A system call for the program on a descriptor of the kernel: `number`, and at most six arguments.
/// # Safety
/// As the system call with these arguments.
pub(crate) unsafe fn kernel(number: c_long, args: [c_long; 6]) -> Result<isize> {
    // SAFETY: passed on.
    os(unsafe { cancel::syscall(number, args) } as isize)
}
