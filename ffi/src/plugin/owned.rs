//! What only the owner of a sock may touch: state, receive queue, timers; and its end.

use super::call::broken;
use super::gate::kernel;
use super::guard::{Owned, guard, usk_owned_t};
use super::mem::uncharge_rmem;
use super::msg::{self, usk_recvmsg_t};
use super::ports;
use super::private::{living, parts, private};
use super::skb::{self, usk_skb_t};
use crate::handle::{lend, usk_sock_t};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::ip::datagram;
use usersock::sock::msg::RecvMsg;
use usersock::sock::skb::Skb;
use usersock::sock::state::State;
use usersock::sock::{SockGuard, flag};

/// EINVAL where the receive queue is TCP's: of a sock under a layer, the only other that a plug-in owns. On the data
/// path, so by number and not as [`parts`] does it.
#[inline]
fn own_queue(g: &SockGuard<'_>) -> Result<()> {
    if i32::from(g.sock.protocol) == libc::IPPROTO_TCP { Err(Error::Inval) } else { Ok(()) }
}

/// The sock of an owned one, to hand on; valid as long as the ownership.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_sock(o: *mut usk_owned_t) -> *mut usk_sock_t {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| lend(g.sock)))
}

/// Time of the event being processed, nanoseconds of the stack's clock.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_now(o: *mut usk_owned_t) -> u64 {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.now().as_nanos()))
}

/// Runs the backlog now, in the middle of a long call (sk_flush_backlog). 1: there was something.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_flush_backlog(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.flush_backlog().into()))
}

/// Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
/// and has succeeded unless it is then TCP_CLOSE (7); accept(2) wants TCP_LISTEN (10). -EINVAL: no such state;
/// connections wait for accept(2) (usk_listen_stop closes them); or the sock is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_state(o: *mut usk_owned_t, state: c_int) -> c_int {
    kernel(|| {
        let state =
            u8::try_from(state).ok().filter(|s| (1..=12).contains(s)).map(State::from_u8).ok_or(Error::Inval)?;
        // SAFETY: owned by the caller's word.
        let p = living(unsafe { guard(o) }?)?;
        if state != State::Listen {
            if p.private.accept.as_ref().is_some_and(|q| !q.is_empty()) {
                return Err(Error::Inval);
            }
            p.private.accept = None;
        }
        p.sock.set_state(state);
        Ok(0)
    })
}

/// Adds to what shutdown(2) has ended: bit 0 receiving (the peer's end), bit 1 sending.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_shutdown(o: *mut usk_owned_t, bits: c_int) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.sock.shutdown.fetch_or(bits as u8 & 3, Ordering::Relaxed)).map(|_| 0))
}

/// Puts a packet at the end of the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Takes
/// `skb`, always. Returns 0, or -ENOBUFS when the buffer is full, memory is out or the socket closed: the packet is
/// then dropped and counted.
/// # Safety
/// `o` is owned; `skb` is a packet of the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_push(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and owns the sock.
        let (skb, g) = unsafe { (skb::take(skb)?, guard(o)?) };
        own_queue(g)?;
        datagram::queue(g, skb).map(|()| 0).map_err(|reason| {
            g.stack.mib.drop(reason);
            Error::NoBufs
        })
    })
}

/// The next packet of the receive queue, which stays there; null: none.
/// # Safety
/// `o` is owned; the packet is used while it is, and before the queue changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_peek(o: *mut usk_owned_t) -> *mut usk_skb_t {
    // SAFETY: owned by the caller's word.
    kernel(|| {
        let g = unsafe { guard(o) }?;
        own_queue(g)?;
        Ok(g.common.receive_queue.front_mut().map_or(std::ptr::null_mut(), skb::lend))
    })
}

/// Takes the next packet of the receive queue off it, uncharged: the caller's to free. Null: none.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_pop(o: *mut usk_owned_t) -> *mut usk_skb_t {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let g = unsafe { guard(o) }?;
        own_queue(g)?;
        let Some(skb) = g.common.receive_queue.pop_front() else { return Ok(std::ptr::null_mut()) };
        uncharge_rmem(g, &skb);
        Ok(skb::give(skb))
    })
}

/// recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (what is before
/// is the protocol's header), takes it off unless MSG_PEEK is set, says MSG_TRUNC when there is no room for all, and
/// returns what recvmsg does: the bytes copied, or with MSG_TRUNC given those there are. -EAGAIN: the queue is empty.
/// # Safety
/// `o` is owned; `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_msg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t, offset: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, msg::recv(msg)?) };
        own_queue(g)?;
        let peek = msg.flags & libc::MSG_PEEK != 0;
        let copy = |skb: &Skb, msg: &mut RecvMsg<'_, '_>| {
            datagram::copy(skb, offset, skb.len().saturating_sub(offset), msg) as isize
        };
        if peek {
            return g.common.receive_queue.front().map(|skb| copy(skb, msg)).ok_or(Error::Again);
        }
        let skb = g.common.receive_queue.pop_front().ok_or(Error::Again)?;
        let n = copy(&skb, msg);
        uncharge_rmem(g, &skb);
        Ok(n)
    })
}

/// Arms, or moves, timer `index` (0 to 31) of the sock: at `at`, nanoseconds of the stack's clock, release_cb gets bit
/// `index`, or as soon as the owner lets go. -EINVAL: no such index, or the sock is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_arm(o: *mut usk_owned_t, index: u32, at: u64) -> c_int {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let p = living(unsafe { guard(o) }?)?;
        let slot = p.private.timer(index).ok_or(Error::Inval)?;
        p.stack.arm_sock(slot, p.sock, 1 << index, Instant::from_nanos(at));
        Ok(0)
    })
}

/// Disarms timer `index`. 1: it was pending. One that has fired while the sock was owned is still told to release_cb:
/// compare the time there.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_cancel(o: *mut usk_owned_t, index: u32) -> c_int {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let p = parts(unsafe { guard(o) }?)?;
        let slot = p.private.timer(index).ok_or(Error::Inval)?;
        Ok(p.stack.timers.cancel(slot).into())
    })
}

/// When timer `index` fires, nanoseconds of the stack's clock; 0: not armed, or it has fired.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_at(o: *mut usk_owned_t, index: u32) -> u64 {
    // SAFETY: owned by the caller's word.
    kernel(|| Ok(unsafe { private(o) }?.timer(index).and_then(|t| t.at()).map_or(0, |t| t.as_nanos())))
}

/// The sock is finished: it has left the tables, nothing more is queued. Cancels its timers, empties the receive queue,
/// resets connections nobody accepted (through close), runs destroy, once, and wakes everybody (inet_csk_destroy_sock).
/// Its memory goes with the last handle. No operation of the sock begins any more: packets that still come are dropped
/// and counted. -EBUSY: a program has the sock (neither is USK_FLAG_DEAD set, nor is it a child that nobody has
/// accepted), which would go on to use what destroy frees: set its state, and finish it in close. -EINVAL: the sock is
/// another protocol's.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_done(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| {
        let g = unsafe { guard(o) }?;
        let dead = g.common.flag(flag::DEAD);
        let p = parts(g)?.private;
        if !dead && !p.orphan && !p.is_done() {
            return Err(Error::Busy);
        }
        finish(g);
        Ok(0)
    })
}

/// See usk_done.
pub(super) fn finish(g: &mut SockGuard<'_>) {
    // Out of the tables, whether the protocol keeps its own or not.
    g.sock.proto().unhash(g);
    if g.common.sport != 0 {
        g.sock.proto().put_port(g);
    }
    let _ = ports::unhash(g);
    let Ok(p) = parts(g) else { return };
    let (stack, sock) = (p.stack, p.sock);
    if !p.private.end(stack) {
        return;
    }
    let (reg, orphans) = (p.private.registration().clone(), p.private.accept.take());
    p.common.ack_backlog = 0;
    sock.set_state(State::Close);
    if let Some(f) = reg.table.destroy {
        // SAFETY: the table's function, called as it says.
        if Owned::lend(g, |o| unsafe { f(o) }).is_err() {
            broken(g.sock);
        }
    }
    datagram::close(g);
    ports::close_all(stack, orphans);
}
