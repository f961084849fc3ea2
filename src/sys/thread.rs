//! System calls with which a thread of ours changes or queries itself, and its number.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use super::near;
use super::raw::syscall;

/// Starts a thread of the library's, detached, with all signals blocked from its first instruction on: they are for the
/// program's own threads, and a background thread must not run their handlers. A new thread has the mask of the one
/// that starts it, so that a signal for the process could find it before it blocked them itself, and would then end no
/// call of the program's. Synchronous signals (SIGSEGV and its kin) are still delivered. EAGAIN: no thread can be made
/// now.
pub(crate) fn spawn(builder: Builder, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let set = |new: *const libc::sigset_t, old: *mut libc::sigset_t| {
        // SAFETY: `new` is a set, `old` null or writable for one.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, new, old) }
    };
    let (mut all, mut own) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    // SAFETY: sigfillset writes the whole set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let changed = set(all.as_ptr(), own.as_mut_ptr()) == 0;
    let spawned = builder.spawn(run).map(drop);
    if changed {
        set(own.as_ptr(), std::ptr::null_mut());
    }
    spawned
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
    use super::*;

    #[test]
    fn a_thread_begins_with_all_signals_blocked_and_its_starter_has_its_own_mask() {
        let blocked = || {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: a null new set changes nothing; `mask` is writable.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr()) };
            // SAFETY: it was written; the numbers are signals.
            [libc::SIGUSR1, libc::SIGTERM, 40].map(|n| unsafe { libc::sigismember(mask.as_ptr(), n) })
        };
        let before = blocked();
        let (send, receive) = std::sync::mpsc::channel();
        spawn(Builder::new(), move || send.send(blocked()).unwrap()).unwrap();
        assert_eq!((receive.recv().unwrap(), blocked()), ([1; 3], before));
    }

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
