//! poll(2), which returns EINTR, because a waiting thread must learn of signals. Above: `base::waiter`, `device`,
//! `driver`. Below: `signal`, `cancel`.

use super::fd::timespec;
use super::raw::syscall;
use super::signal::{SET_BYTES, Set, sleep_mask, take_handled};
use super::{cancel, check};
use std::ffi::c_long;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// The result of a [`PollFd`] that poll(2) has not seen; as events it would be all of them.
const NOT_POLLED: i16 = -1;

/// Events to wait for on a descriptor, and the result. The layout of struct pollfd.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct PollFd(libc::pollfd);

impl PollFd {
    /// Waits for `events` (poll(2)'s bits) on `fd`. A negative `fd` is ignored by the kernel.
    pub fn new(fd: RawFd, events: i16) -> PollFd {
        PollFd(libc::pollfd { fd, events, revents: NOT_POLLED })
    }
    /// The events that occurred; none before it is polled.
    #[inline]
    pub fn revents(&self) -> i16 {
        if self.is_polled() { self.0.revents } else { 0 }
    }
    /// Whether poll(2) has looked at it.
    #[inline]
    pub fn is_polled(&self) -> bool {
        self.0.revents != NOT_POLLED
    }
}

/// Waits until one of `fds` is ready; returns how many are. None waits for ever, zero does not wait. EINTR is returned
/// as `ErrorKind::Interrupted` and not retried: a signal was handled, or the thread is cancelled.
pub fn poll(fds: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
    let ts = timeout.map(timespec);
    let ts_ptr = ts.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    let no_mask = std::ptr::null::<libc::sigset_t>();
    if timeout == Some(Duration::ZERO) {
        // SAFETY: PollFd is transparent over pollfd and the slice is writable; `ts` outlives the call; a null mask
        // changes none.
        return check(unsafe { syscall!(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), ts_ptr, no_mask, 8usize) });
    }
    if take_handled() {
        return Err(io::Error::from_raw_os_error(libc::EINTR));
    }
    let mask = sleep_mask();
    let mask_at = mask.as_ref().map_or(0, |m| m as *const Set as c_long);
    let args = [fds.as_mut_ptr() as c_long, fds.len() as c_long, ts_ptr as c_long, mask_at, SET_BYTES as c_long, 0];
    // SAFETY: as above; the mask has the given size.
    let polled = check(unsafe { cancel::syscall(libc::SYS_ppoll, args) });
    if polled.is_err() {
        // EINTR reports the handlers that ran in the sleep.
        take_handled();
    }
    polled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signal::{begin_call, note_handler, restarts};

    #[test]
    fn a_handler_that_ran_since_the_call_began_ends_the_next_sleep_once() {
        let at_most = Some(Duration::from_millis(1));
        begin_call();
        assert_eq!(poll(&mut [], at_most).unwrap(), 0);
        for restart in [true, false] {
            note_handler(restart);
            assert_eq!(poll(&mut [], at_most).unwrap_err().raw_os_error(), Some(libc::EINTR));
            assert_eq!(restarts(), restart);
            assert_eq!(poll(&mut [], at_most).unwrap(), 0);
        }
        note_handler(true);
        begin_call();
        assert_eq!(poll(&mut [], at_most).unwrap(), 0);
    }
}
