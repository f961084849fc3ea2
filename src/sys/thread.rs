//! System calls with which a thread of ours changes or queries itself, and its number.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::near;
use super::raw::syscall;

/// Blocks all signals in this thread: they are for the program's own threads, and a background thread of a library must
/// not run their handlers. Synchronous signals (SIGSEGV and its kin) are still delivered.
pub(crate) fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes the whole set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set is initialised by the line above; a null old set is allowed.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
}

/// The CPU this thread runs on, or -1. It may change at any time.
pub(crate) fn cpu() -> i32 {
    // SAFETY: sched_getcpu takes no argument.
    unsafe { libc::sched_getcpu() }
}

/// A number of this thread, which selects the device queues that it uses where there are several.
#[inline]
pub(crate) fn number() -> usize {
    match near::here().number.get() {
        0 => next_number(),
        n => n as usize - 1,
    }
}

#[cold]
fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    set_number(n);
    n
}

/// Gives this thread another number: one that works for certain queues.
pub(crate) fn set_number(n: usize) {
    near::here().number.set(n as u32 + 1);
}

/// This thread's number.
pub(crate) fn me() -> i32 {
    // SAFETY: gettid takes no argument.
    unsafe { syscall!(libc::SYS_gettid) as i32 }
}

/// Helpers for tests of interrupted waits.
#[cfg(test)]
pub(crate) mod tests {
    use crate::sys::raw::syscall;

    /// Installs a handler with SA_RESTART, after which some system calls do not return EINTR.
    pub(crate) fn handle(signal: i32, handler: extern "C" fn(i32)) {
        let mut empty = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes the whole set it is given.
        unsafe { libc::sigemptyset(empty.as_mut_ptr()) };
        // SAFETY: initialised by the line above.
        let sa_mask = unsafe { empty.assume_init() };
        let (sa_sigaction, sa_flags) = (handler as *const () as usize, libc::SA_RESTART);
        let action = libc::sigaction { sa_sigaction, sa_mask, sa_flags, sa_restorer: None };
        // SAFETY: `action` is complete; the handler is a function that may run at any time because it does nothing.
        assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
    }

    /// Sends a signal to a thread of this process; no effect when it has ended.
    pub(crate) fn signal(thread: i32, signal: i32) {
        // SAFETY: tgkill takes three numbers.
        let _ = unsafe { syscall!(libc::SYS_tgkill, std::process::id() as i32, thread, signal) };
    }
}
