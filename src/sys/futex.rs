//! Waiting on a word of memory. Unlike `thread::park` it reports a handled signal, for which a blocking call must
//! return EINTR.

use super::cancel;
use super::fd::timespec;
use super::raw::syscall;
use super::signal::take_handled;
use std::ffi::c_long;
use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Futex {
    /// Woken, the word had another value already, or spurious: read the word again.
    Look,
    /// The timeout expired.
    TimedOut,
    /// This thread handled a signal, or is cancelled.
    Interrupted,
}

/// Longest single wait. Every wait needs a timeout, because only a wait with one ends at every handled signal (without
/// one the kernel resumes the wait after a handler installed with SA_RESTART).
const LONGEST: Duration = Duration::from_secs(3600);

/// Sleeps while `word` is equal to `expected`.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Futex {
    if take_handled() {
        return Futex::Interrupted;
    }
    let capped = timeout.is_none_or(|t| t > LONGEST);
    let ts = timespec(timeout.unwrap_or(LONGEST).min(LONGEST));
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let args = [word.as_ptr() as c_long, op as c_long, expected as c_long, &raw const ts as c_long, 0, 0];
    // SAFETY: `word` is an aligned 32-bit word and `ts` a timespec; both outlive the call, which only reads them.
    let r = unsafe { cancel::syscall(libc::SYS_futex, args) };
    if r == 0 {
        return Futex::Look;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINTR) => {
            take_handled();
            Futex::Interrupted
        }
        Some(libc::ETIMEDOUT) if !capped => Futex::TimedOut,
        _ => Futex::Look,
    }
}

/// Wakes one thread that sleeps on `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the address serves as a key only; nothing is read or written.
    let _ = unsafe { syscall!(libc::SYS_futex, word.as_ptr(), op, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_is_not_waited_for_and_an_equal_one_times_out() {
        let w = AtomicU32::new(5);
        assert_eq!(wait(&w, 4, None), Futex::Look);
        assert_eq!(wait(&w, 5, Some(Duration::from_nanos(1))), Futex::TimedOut);
    }

    #[test]
    fn a_wake_up_reaches_the_sleeper() {
        let w = AtomicU32::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                while w.load(Ordering::SeqCst) == 0 {
                    wait(&w, 0, None);
                }
            });
            w.store(1, Ordering::SeqCst);
            wake_one(&w);
        });
    }
}
