//! State, receive queue and timers of a sock, which only its owner may use; and its end.

use super::call::broken;
use super::gate::kernel;
use super::guard::{Owned, guard, usk_owned_t};
use super::inner::LEFT;
use super::mem::uncharge_rmem;
use super::msg::{self, usk_recvmsg_t};
use super::ports;
use super::private::{living, parts, private};
use super::skb::{self, usk_skb_t};
use super::watch;
use crate::handle::{lend, usk_sock_t};
use crate::held;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::ip::{datagram, rxcontrol};
use usersock::sock::msg::RecvMsg;
use usersock::sock::skb::Skb;
use usersock::sock::state::State;
use usersock::sock::{Sock, SockGuard, flag};
use usersock::stack::Stack;

/// EINVAL if the receive queue is TCP's: a TCP sock under a layer is the only other kind that a plug-in can own. On the
/// data path, so it compares the protocol number instead of calling [`parts`].
#[inline]
fn own_queue(g: &SockGuard<'_>) -> Result<()> {
    if i32::from(g.sock.protocol) == libc::IPPROTO_TCP { Err(Error::Inval) } else { Ok(()) }
}

/// The sock that `o` owns, as an argument for other calls; valid as long as it is owned.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_sock(o: *mut usk_owned_t) -> *mut usk_sock_t {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { guard(o) }.map(|g| lend(g.sock)))
}

/// Time of the event being processed, nanoseconds of the stack's clock.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_now(o: *mut usk_owned_t) -> u64 {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { guard(o) }.map(|g| g.now().as_nanos()))
}

/// Processes the backlog now, in the middle of a long call (sk_flush_backlog). Returns 1 if it was not empty.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_flush_backlog(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { guard(o) }.map(|g| g.flush_backlog().into()))
}

/// Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
/// and fails if it is TCP_CLOSE (7) then; accept(2) requires TCP_LISTEN (10). -EINVAL: no such state; connections wait
/// for accept(2) (usk_listen_stop closes them); or the sock is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_state(o: *mut usk_owned_t, state: c_int) -> c_int {
    kernel(|| {
        let state =
            u8::try_from(state).ok().filter(|s| (1..=12).contains(s)).map(State::from_u8).ok_or(Error::Inval)?;
        // SAFETY: owned, as the caller guarantees.
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

/// Adds bits to the sock's shutdown mask: bit 0 receiving (the peer has ended), bit 1 sending (sk_shutdown).
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_shutdown(o: *mut usk_owned_t, bits: c_int) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { guard(o) }.map(|g| g.sock.shutdown.fetch_or(bits as u8 & 3, Ordering::Relaxed)).map(|_| 0))
}

/// Appends a packet to the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Always consumes
/// `skb`. Returns 0, or -ENOBUFS if the buffer is full, the protocol has no memory left or the socket is closed: the
/// packet is then dropped and counted.
/// # Safety
/// `o` is owned; `skb` is a packet of the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_push(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and owns the sock.
        let (skb, g) = unsafe { (skb::take(skb, "usk_receive_push")?, guard(o)?) };
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
    // SAFETY: owned, as the caller guarantees.
    kernel(|| {
        let g = unsafe { guard(o) }?;
        own_queue(g)?;
        Ok(g.common.receive_queue.front_mut().map_or(std::ptr::null_mut(), |skb| skb::lend(skb, "usk_receive_peek")))
    })
}

/// Removes the next packet from the receive queue and uncharges it; the caller frees it. Null: none.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_pop(o: *mut usk_owned_t) -> *mut usk_skb_t {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        own_queue(g)?;
        let Some(skb) = g.common.receive_queue.pop_front() else { return Ok(std::ptr::null_mut()) };
        uncharge_rmem(g, &skb);
        Ok(skb::give(skb))
    })
}

/// recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (before it is the
/// protocol's header), removes it unless MSG_PEEK is given, sets MSG_TRUNC if it does not fit, and returns the bytes
/// copied, or if MSG_TRUNC is given the length of the datagram. Adds control messages (usk_recvmsg_control). -EAGAIN:
/// the queue is empty; -EFAULT: the program's memory cannot be written, and the packet is lost, unless MSG_PEEK is
/// given.
/// # Safety
/// `o` is owned; `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_msg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t, offset: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, msg::recv(msg)?) };
        own_queue(g)?;
        let copy = |g: &SockGuard<'_>, skb: &Skb, msg: &mut RecvMsg<'_, '_>| {
            let n = datagram::copy(skb, offset, skb.len().saturating_sub(offset), msg) as isize;
            rxcontrol::control_of(g, skb, msg);
            n
        };
        if msg.flags & libc::MSG_PEEK != 0 {
            let n = g.common.receive_queue.front().map(|skb| copy(g, skb, msg)).ok_or(Error::Again)?;
            return if msg.faulted() { Err(Error::Fault) } else { Ok(n) };
        }
        let skb = g.common.receive_queue.pop_front().ok_or(Error::Again)?;
        let n = copy(g, &skb, msg);
        uncharge_rmem(g, &skb);
        drop(skb::left(skb, "usk_receive_msg"));
        if msg.faulted() {
            // Lost to a bad pointer it is a drop, as of UDP's, for SO_RXQ_OVFL.
            g.sock.drops.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Fault);
        }
        Ok(n)
    })
}

/// Adds the control messages that the socket asks for, of a packet as it was received: IP_PKTINFO, IP_RECVTTL,
/// IP_RECVTOS and their like, SO_TIMESTAMP and SO_TIMESTAMPING, SO_RXQ_OVFL. usk_receive_msg does it by itself: this is
/// for a recvmsg that copies in another way. Of a packet that the protocol made anew nothing is known but the time
/// (ip_cmsg_recv, sock_recv_cmsgs).
/// # Safety
/// `o` is owned; `msg` is recvmsg's argument; `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_control(
    o: *mut usk_owned_t,
    msg: *mut usk_recvmsg_t,
    skb: *mut usk_skb_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (g, msg, skb) = unsafe { (guard(o)?, msg::recv(msg)?, skb::get(skb, "usk_recvmsg_control")?) };
        rxcontrol::control_of(g, skb, msg);
        Ok(0)
    })
}

/// Arms timer `index` (0 to 31) of the sock, or changes its time: at `at`, nanoseconds of the stack's clock, release_cb
/// gets bit `index`; if the sock is owned then, when it is released. -EINVAL: no such index, or the sock is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_arm(o: *mut usk_owned_t, index: u32, at: u64) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let p = living(unsafe { guard(o) }?)?;
        let slot = p.private.timer(index).ok_or(Error::Inval)?;
        p.stack.arm_sock(slot, p.sock, 1 << index, Instant::from_nanos(at));
        Ok(0)
    })
}

/// Disarms timer `index`. Returns 1 if it was pending. If it fired while the sock was owned, release_cb still gets its
/// bit: compare the time there.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_cancel(o: *mut usk_owned_t, index: u32) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
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
    // SAFETY: owned, as the caller guarantees.
    kernel(|| Ok(unsafe { private(o) }?.timer(index).and_then(|t| t.at()).map_or(0, |t| t.as_nanos())))
}

/// Finishes the sock: removes it from the tables, cancels its timers, empties the receive queue, resets connections
/// that were not accepted (by close), runs destroy, once, and wakes all waiters (inet_csk_destroy_sock). Its memory is
/// freed with the last handle. No operation of the sock begins any more: packets that still arrive are dropped and
/// counted. -EDEADLK: it listens, and the caller owns a connection that waits for accept(2): release that first.
/// -EBUSY: a program has the sock (USK_FLAG_DEAD is not set, and it is no child that was not accepted), and would use
/// what destroy frees: set its state instead, and finish it in close. -EINVAL: the sock is another protocol's.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_done(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| {
        let g = unsafe { guard(o) }?;
        let dead = g.common.flag(flag::DEAD);
        let p = parts(g)?.private;
        if !dead && !p.orphan && !p.is_done() {
            return Err(Error::Busy);
        }
        ports::may_close(p)?;
        finish(g);
        Ok(0)
    })
}

/// Drops a reference (usk_sock_put). A sock that no program has, and that nobody can reach any more, is finished first.
pub(super) fn put(stack: &Arc<Stack>, sock: Arc<Sock>) {
    if !held::owns(&sock) {
        return sock.put(stack);
    }
    // With one more, the stack's, to an orphan.
    if Arc::strong_count(&sock) == 1 + usize::from(sock.is_orphan()) {
        // A misuse: the owner's guard is still to be released, so the sock must stay.
        std::mem::forget(sock);
    }
}

/// See usk_done.
pub(super) fn finish(g: &mut SockGuard<'_>) {
    // Removes it from the tables, the protocol's own or ours.
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
    sock.graft(stack);
    let (reg, orphans) = (p.private.registration().clone(), p.private.accept.take());
    p.common.cold_mut().ack_backlog = 0;
    sock.set_state(State::Close);
    if let Some(f) = reg.table.destroy {
        // SAFETY: the table's function, called as the table documents.
        if Owned::lend(g, |o| unsafe { f(o) }).is_err() {
            broken(g.sock);
        }
    }
    close_inner(g);
    if watch::on() {
        // A plug-in may still have what it looked at.
        while let Some(skb) = g.common.receive_queue.pop_front() {
            uncharge_rmem(g, &skb);
            drop(skb::left(skb, "usk_done"));
        }
    }
    datagram::close(g);
    ports::close_all(stack, orphans);
}

/// Closes the inner socks that the protocol has left open.
fn close_inner(g: &mut SockGuard<'_>) {
    let Ok(p) = parts(g) else { return };
    let left = std::mem::take(&mut p.private.inner);
    if !left.is_empty()
        && let Some(counter) = p.stack.mib.named.find(LEFT)
    {
        counter.add(left.len() as u64);
    }
}
