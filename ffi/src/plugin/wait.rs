//! Sleeping in a system call, and its timeouts.

use super::gate::kernel;
use super::guard::{guard, usk_owned_t};
use super::mem::Dir;
use super::private::parts;
use crate::held;
use std::ffi::c_int;
use usersock::env::Instant;
use usersock::error::Error;
use usersock::sock::wait::Events;

/// No deadline: for usk_wait.
pub const USK_FOREVER: u64 = u64::MAX;

/// Sleeps with the sock released until one of `events` (poll(2)'s bits) is signalled, then owns it again
/// (sk_wait_event). The caller checks its condition again: a wake-up may be for another waiter. Process context.
/// `deadline`: nanoseconds of the stack's clock, USK_FOREVER for none. Returns 0; -EAGAIN if the deadline has passed,
/// -EINTR on a signal, -EIO if the sock is broken; -EDEADLK in an operation for a packet or a timer, which must not
/// sleep, or while the caller owns an inner sock of it: to own the sock again would be the wrong order of locks.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_wait(o: *mut usk_owned_t, events: u32, deadline: u64) -> c_int {
    kernel(|| {
        let deadline = (deadline != USK_FOREVER).then(|| Instant::from_nanos(deadline));
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let within = held::owns_within(g.sock);
        if within || g.in_softirq() || parts(g).is_ok_and(|p| p.private.bottom) {
            return Err(Error::Deadlk);
        }
        held::asleep(g.sock, || g.sleep(Events(events), false, deadline)).map(|()| 0)
    })
}

/// How many bytes a receive call of `len` bytes waits for: SO_RCVLOWAT, or with `waitall` all; at least 1
/// (sock_rcvlowat).
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_rcvlowat(o: *mut usk_owned_t, waitall: c_int, len: usize) -> usize {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let lowat = usize::try_from(g.common.rcvlowat).unwrap_or(1);
        Ok(if waitall != 0 { len } else { lowat.min(len) }.max(1))
    })
}

/// The deadline for usk_wait by SO_RCVTIMEO (`dir` USK_RECV) or SO_SNDTIMEO (USK_SEND) (sock_rcvtimeo, sock_sndtimeo);
/// with `dontwait` 0, which has passed.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timeo(o: *mut usk_owned_t, dir: c_int, dontwait: c_int) -> u64 {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let timeout = match Dir::of(dir)? {
            Dir::Recv => g.common.rcvtimeo.get(),
            Dir::Send => g.common.sndtimeo.get(),
        };
        Ok(if dontwait != 0 { 0 } else { timeout.map_or(USK_FOREVER, |t| (g.now() + t).as_nanos()) })
    })
}
