//! Calls on a sock that is not owned: references, locking, packets, errors, wake-ups, state.

use super::gate::kernel;
use super::guard::{Owned, usk_owned_t};
use super::owned;
use super::skb::{self, usk_skb_t};
use crate::handle::{Handle, hold, unhold, usk_sock_t};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use usersock::error::Error;
use usersock::sock::Delivered;
use usersock::sock::wait::Events;

/// Takes a reference to a sock, to use it after the operation that got it (sock_hold). Returns `sk`.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_hold(sk: *mut usk_sock_t) -> *mut usk_sock_t {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| hold(h.stack(), h.sock().clone())))
}

/// Drops a reference to a sock (sock_put). Null is ignored. Not while the caller owns it. If it is the last to a sock
/// that no program has, a child from usk_new_child or one that was closed, the sock is finished as by usk_done; so it
/// is when a table, a queue, a timer or a packet had the last one.
/// # Safety
/// `sk` is null or held, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_put(sk: *mut usk_sock_t) {
    kernel(|| {
        if !sk.is_null() {
            // SAFETY: held, as the caller guarantees.
            let (stack, sock) = unsafe { unhold(sk) }?;
            owned::put(&stack, sock);
        }
        Ok(())
    });
}

/// Sleeps until nobody owns the sock, then owns it (lock_sock). Fills `*o`, which must not move until usk_release_sock,
/// in the same thread. Process context; in packet and timer context only for a sock that no program can own yet (a
/// child from usk_new_child). Returns 0; -EDEADLK when this thread owns it already, or an inner sock of it; -EINVAL for
/// null.
/// # Safety
/// `sk` is valid until the release; `o` is writable, and not owned now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_lock_sock(sk: *mut usk_sock_t, o: *mut usk_owned_t) -> c_int {
    // The sock is usually free: this fast path makes no call and cannot panic. SAFETY: `o` is writable and `sk`
    // outlives the ownership, both, as the caller guarantees.
    if unsafe { Owned::lock_free(o, sk) } {
        return 0;
    }
    // SAFETY: as above.
    kernel(|| unsafe { Owned::lock(o, sk) }.map(|()| 0))
}

/// Releases the sock (release_sock): runs backlog_rcv for packets that arrived meanwhile, then release_cb for deferred
/// work. Only for a usk_owned_t that usk_lock_sock filled: -EINVAL for an operation's argument, and for one that is
/// released already.
/// # Safety
/// `o` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_release_sock(o: *mut usk_owned_t) -> c_int {
    // SAFETY: the caller vouches for `o`.
    kernel(|| unsafe { Owned::release(o) }.map(|()| 0))
}

/// Passes a packet to a sock from packet context: backlog_rcv runs now, or when the system call that owns the sock
/// releases it. Always consumes `skb`. Returns 0, or -ENOBUFS if the backlog is full and the packet was dropped and
/// counted.
/// # Safety
/// `sk` is valid; `skb` is a packet of the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_deliver(sk: *mut usk_sock_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb, "usk_deliver") }?;
        // SAFETY: valid, as the caller guarantees.
        let h = unsafe { Handle::new(sk) }?;
        let now = skb.rx.map_or_else(|| h.stack().now(), |i| i.now);
        match h.sock().deliver(h.stack(), skb, now) {
            Delivered::Dropped(_) => Err(Error::NoBufs),
            Delivered::Processed | Delivered::Queued => Ok(0),
        }
    })
}

/// Requests release_cb with these bits: it runs now, or when the owner releases the sock. From any thread that does not
/// own the sock.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_defer(sk: *mut usk_sock_t, bits: u32) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let h = unsafe { Handle::new(sk) }?;
        h.sock().defer(h.stack(), bits, h.stack().now());
        Ok(0)
    })
}

/// Sets the pending error (SO_ERROR) and wakes all waiters (sk_error_report). `err` is a positive errno. Owned or not.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_error_report(sk: *mut usk_sock_t, err: c_int) -> c_int {
    kernel(|| {
        let err = Error::try_from_errno(err).ok_or(Error::Inval)?;
        // SAFETY: valid, as the caller guarantees.
        unsafe { Handle::new(sk) }?.report_error(err);
        Ok(0)
    })
}

/// Requests release_cb of a broken sock, which ends it if no program can close it. Not one of the timer bits of TCP,
/// because it is also used for TCP socks.
const BROKEN_BIT: u32 = 1 << 31;

/// Breaks the socket, as the stack does when an operation returns an invalid value: for the code that catches a C++
/// exception or a panic of a Rust shared object, which must not leave an operation. Owned or not, in any context, from
/// any thread that holds the sock; repeating it has no effect. A hook into TCP passes `h->sk`, a congestion control
/// `tp->sk`.
///
/// From then on every call that reaches the protocol returns EIO, poll returns POLLERR and POLLHUP beside POLLIN and
/// POLLOUT, all waiters are woken, usk_wait returns -EIO, and packets for the sock are dropped and counted. No
/// operation of the sock begins any more except destroy, which runs when the last descriptor is closed: at once if it
/// is closed already, or if the sock is a child that was not accepted. If the operation that catches has locked the
/// sock by usk_lock_sock, the lock is released when the operation returns. The sock's memory is freed with its last
/// handle. On a TCP connection no operation of its layer or of a TCP beside the library's except release, no hook, and
/// no function of the congestion control that called this runs any more, and what the hook or the function returns or
/// has written is ignored; TCP itself goes on, and ends the connection as usual when it is closed. Returns 0; -EINVAL
/// for null.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_break(sk: *mut usk_sock_t) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let h = unsafe { Handle::new(sk) }?;
        h.set_broken();
        h.sock().defer(h.stack(), BROKEN_BIT, h.stack().now());
        Ok(0)
    })
}

/// Returns the pending error as a negative errno and clears it (sock_error); 0: none. sendmsg and recvmsg return it
/// first.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_error(sk: *mut usk_sock_t) -> c_int {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Handle::new(sk) }?.take_error().map(|()| 0))
}

/// Wakes the threads that wait for one of these events: poll(2)'s bits. Owned or not.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_wake(sk: *mut usk_sock_t, events: u32) -> c_int {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| h.wait.wake(Events(events))).map(|()| 0))
}

/// The state, by Linux's numbers (TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10): sk_state.
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_state(sk: *mut usk_sock_t) -> c_int {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| (h.state() as u8).into()))
}

/// Shut down directions: bit 0 receiving, bit 1 sending (sk_shutdown).
/// # Safety
/// `sk` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_shutdown(sk: *mut usk_sock_t) -> c_int {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Handle::new(sk) }.map(|h| h.shutdown.load(Ordering::Relaxed).into()))
}
