//! Calls on a sock that is not owned: counts, owning and releasing, packets, errors, waking, state.

use super::gate::kernel;
use super::guard::{Owned, usk_owned_t};
use super::skb::{self, usk_skb_t};
use crate::handle::{Handle, hold, unhold, usk_sock_t};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use usersock::error::Error;
use usersock::sock::Delivered;
use usersock::sock::wait::Events;

/// Keeps a sock beyond the operation that was given it (sock_hold). Returns `sk`.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_hold(sk: *mut usk_sock_t) -> *mut usk_sock_t {
    // SAFETY: valid by the caller's word.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| hold(h.stack(), h.sock().clone())))
}

/// Gives a held sock back (sock_put). Null is ignored. Not while it is owned by the caller.
/// # Safety
/// `sk` is null or held, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_put(sk: *mut usk_sock_t) {
    kernel(|| {
        if !sk.is_null() {
            // SAFETY: held by the caller's word.
            drop(unsafe { unhold(sk) }?);
        }
        Ok(())
    });
}

/// Sleeps until nobody owns the sock, then owns it (lock_sock). Fills `*o`, which stays where it is until
/// usk_release_sock, in the same thread. Process context; in packet and timer context only for a sock that no program
/// can own yet (a child from usk_new_child). Returns 0; -EDEADLK when this thread owns it already, -EINVAL for null.
/// # Safety
/// `sk` is valid until the release; `o` is writable, and not owned now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_lock_sock(sk: *mut usk_sock_t, o: *mut usk_owned_t) -> c_int {
    // Nearly always the sock is free: that is done without a call, or anything that could panic.
    // SAFETY: `o` is writable and `sk` outlives the ownership, both by the caller's word.
    if unsafe { Owned::lock_free(o, sk) } {
        return 0;
    }
    // SAFETY: as above.
    kernel(|| unsafe { Owned::lock(o, sk) }.map(|()| 0))
}

/// Gives the sock up (release_sock): packets that came meanwhile run through backlog_rcv, then deferred work through
/// release_cb. Only for what usk_lock_sock filled: -EINVAL for an operation's own argument, and for what is released
/// already.
/// # Safety
/// `o` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_release_sock(o: *mut usk_owned_t) -> c_int {
    // SAFETY: the caller vouches for `o`.
    kernel(|| unsafe { Owned::release(o) }.map(|()| 0))
}

/// Gives a packet to a sock from packet context: backlog_rcv runs now, or when the system call that owns the sock lets
/// go. Takes `skb`, always. Returns 0, or -ENOBUFS when the backlog was full and the packet dropped and counted.
/// # Safety
/// `sk` is valid; `skb` is a packet of the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_deliver(sk: *mut usk_sock_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb) }?;
        // SAFETY: valid by the caller's word.
        let h = unsafe { Handle::new(sk) }?;
        let now = skb.rx.map_or_else(|| h.stack().now(), |i| i.now);
        match h.sock().deliver(h.stack(), skb, now) {
            Delivered::Dropped(_) => Err(Error::NoBufs),
            Delivered::Processed | Delivered::Queued => Ok(0),
        }
    })
}

/// Asks for release_cb with these bits: now, or when the owner lets go. From any thread that does not own the sock.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_defer(sk: *mut usk_sock_t, bits: u32) -> c_int {
    kernel(|| {
        // SAFETY: valid by the caller's word.
        let h = unsafe { Handle::new(sk) }?;
        h.sock().defer(h.stack(), bits, h.stack().now());
        Ok(0)
    })
}

/// Sets the pending error (SO_ERROR) and wakes everybody (sk_error_report). `err` is a positive errno. Owned or not.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_error_report(sk: *mut usk_sock_t, err: c_int) -> c_int {
    kernel(|| {
        let err = Error::try_from_errno(err).ok_or(Error::Inval)?;
        // SAFETY: valid by the caller's word.
        unsafe { Handle::new(sk) }?.report_error(err);
        Ok(0)
    })
}

/// Asks for release_cb of a broken sock, which ends it if nobody else can. No timer's bit of TCP, whose socks this may
/// be as well.
const BROKEN_BIT: u32 = 1 << 31;

/// Breaks the socket, as the stack does when an operation returns what it must not: for the catch around an operation,
/// out of which no exception of C++ and no panic of a Rust shared object may come. Owned or not, in any context, from
/// any thread that holds it; more than once is as once. A hook into TCP gives `h->sk`, a congestion control `tp->sk`.
///
/// From then on every call that concerns the protocol returns EIO, poll says POLLERR and POLLHUP beside POLLIN and
/// POLLOUT, all that wait are woken, usk_wait returns -EIO, and packets for the sock are dropped and counted. No
/// operation of the sock begins any more but destroy, which runs when the last descriptor is closed: at once where that
/// has happened, or where the sock is a child that nobody has accepted. What usk_lock_sock locked in the operation that
/// catches is released when that returns. The sock's memory goes with its last handle. On a connection of TCP no
/// operation of its layer but release, no hook, and no function of the congestion control that called this runs for it
/// any more, and what the hook or the function returns or has written does not count; TCP itself goes on, and ends the
/// connection as usual when it is closed. Returns 0; -EINVAL for null.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_break(sk: *mut usk_sock_t) -> c_int {
    kernel(|| {
        // SAFETY: valid by the caller's word.
        let h = unsafe { Handle::new(sk) }?;
        h.set_broken();
        h.sock().defer(h.stack(), BROKEN_BIT, h.stack().now());
        Ok(0)
    })
}

/// Takes the pending error away (sock_error): 0, or it as a negative errno, once. What sendmsg and recvmsg return
/// first.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_error(sk: *mut usk_sock_t) -> c_int {
    // SAFETY: valid by the caller's word.
    kernel(|| unsafe { Handle::new(sk) }?.take_error().map(|()| 0))
}

/// Wakes the threads that wait for one of these events: poll(2)'s bits. Owned or not.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_wake(sk: *mut usk_sock_t, events: u32) -> c_int {
    // SAFETY: valid by the caller's word.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| h.wait.wake(Events(events))).map(|()| 0))
}

/// The state, by Linux's numbers (TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10): sk_state.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_state(sk: *mut usk_sock_t) -> c_int {
    // SAFETY: valid by the caller's word.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| (h.state() as u8).into()))
}

/// What shutdown(2) has ended: bit 0 receiving, bit 1 sending (sk_shutdown).
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_shutdown(sk: *mut usk_sock_t) -> c_int {
    // SAFETY: valid by the caller's word.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| h.shutdown.load(Ordering::Relaxed).into()))
}
