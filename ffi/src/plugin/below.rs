//! `struct usk_below_ops`: the operations of the protocol below a layer, which the layer calls on the same sock. Above:
//! `ulp`, which hands it to layers. Below: TCP. Linux: sk_psock's saved proto, tls_context's sk_proto.

use super::gate::{kernel, obj_mut, slice, slice_mut};
use super::guard::{guard, usk_owned_t};
use super::msg::{self, usk_recvmsg_t, usk_sendmsg_t};
use super::skb::{self, usk_skb_t};
use crate::handle::{Handle, usk_sock_t};
use crate::held;
use std::ffi::{c_int, c_ulong, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use usersock::error::{Error, Result};
use usersock::internal::tcp;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::proto::Proto;
use usersock::sock::{SEND_SHUTDOWN, SockGuard};
use usersock::tcp::ulp;

/// `version` of struct usk_below_ops.
pub const USK_BELOW_VERSION: u32 = 1;

/// The operations of the protocol below a layer: `ulp->below`, one table for all layers. The layer's operations call
/// them, on the sock that they are called for. None is null. In a newer library the table may be longer: `size` is its
/// length. Those that take usk_owned_t keep the sock owned, but release it while they wait; meanwhile operations of the
/// layer may run. All return a negative errno on failure: -EINVAL if the layer has been removed.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_below_ops {
    /// USK_BELOW_VERSION.
    pub version: u32,
    /// sizeof(struct usk_below_ops) of the library.
    pub size: u32,
    /// Sends bytes: returns how many were taken, or -EAGAIN, -EPIPE, the connection's error. Waits for room in
    /// process context, unless `flags` have MSG_DONTWAIT. Owned.
    pub send: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, data: *const c_void, len: usize, flags: c_int) -> isize,
    /// As send with MSG_DONTWAIT, but not limited by SO_SNDBUF: for the bytes that a layer holds when the program shuts
    /// down or closes. Allowed in those two operations. Takes less than `len` only if the protocol has no memory left.
    /// Owned.
    pub force: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, data: *const c_void, len: usize) -> isize,
    /// Sends the program's message, or the rest of it, unchanged. Owned.
    pub sendmsg: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize,
    /// Receives bytes: returns how many, 0 at the end, -EAGAIN, or the connection's error. Waits in process
    /// context, unless `flags` have MSG_DONTWAIT. Owned.
    pub recv: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, buf: *mut c_void, len: usize, flags: c_int) -> isize,
    /// Receives into the program's message, unchanged. Owned.
    pub recvmsg: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize,
    /// poll(2)'s bits of the protocol below. If they lack POLLOUT, waiters are woken when the sock becomes writable.
    /// Owned.
    pub poll: unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> u32,
    /// Passes the segment of backlog_rcv to the protocol below. Always consumes `skb`. Owned.
    pub backlog_rcv: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int,
    /// Aborts the connection: sends a reset, sets `err` (a positive errno) as the pending error (SO_ERROR), wakes all
    /// waiters. -ENOENT: it is closed. Owned.
    pub abort: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, err: c_int) -> c_int,
    /// setsockopt(2) of the protocol below. Not owned: -EDEADLK if the caller owns the sock.
    pub setsockopt: unsafe extern "C-unwind" fn(
        sk: *mut usk_sock_t,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: usize,
    ) -> c_int,
    /// getsockopt(2) of the protocol below: writes at most `len` bytes, returns how many. Not owned, as setsockopt.
    pub getsockopt: unsafe extern "C-unwind" fn(
        sk: *mut usk_sock_t,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: usize,
    ) -> isize,
    /// ioctl(2)'s socket requests of the protocol below; the result is the int `*value`. Not owned, as setsockopt.
    pub ioctl: unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int,
}

/// The table that every layer gets: each function finds the protocol below from its sock.
pub(super) static BELOW: usk_below_ops = usk_below_ops {
    version: USK_BELOW_VERSION,
    size: size_of::<usk_below_ops>() as u32,
    send,
    force,
    sendmsg,
    recv,
    recvmsg,
    poll,
    backlog_rcv,
    abort,
    setsockopt,
    getsockopt,
    ioctl,
};

// The functions and their arguments are documented in the table.

/// EINVAL: no upper-layer protocol, and so nothing below it.
fn below(g: &mut SockGuard<'_>) -> Result<Arc<dyn Proto>> {
    ulp::below(g).ok_or(Error::Inval)
}

/// The flags of a call, with MSG_DONTWAIT added where sleeping is not allowed.
fn may_wait(g: &SockGuard<'_>, flags: c_int) -> c_int {
    if g.in_softirq() { flags | libc::MSG_DONTWAIT } else { flags }
}

/// Runs `f`, which may release the sock while it waits.
fn waiting<R>(g: &mut SockGuard<'static>, flags: c_int, f: impl FnOnce(&mut SockGuard<'static>) -> R) -> R {
    let sock = g.sock;
    if flags & libc::MSG_DONTWAIT != 0 { f(g) } else { held::asleep(sock, || f(g)) }
}

unsafe extern "C-unwind" fn send(o: *mut usk_owned_t, data: *const c_void, len: usize, flags: c_int) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, data) = unsafe { (guard(o)?, slice(data, len)?) };
        let below = below(g)?;
        let (slices, flags) = ([IoSlice::new(data)], may_wait(g, flags));
        let mut msg = SendMsg::new(&slices, flags);
        waiting(g, flags, |g| below.sendmsg_locked(g, &mut msg)).map(|n| n as isize)
    })
}

unsafe extern "C-unwind" fn force(o: *mut usk_owned_t, data: *const c_void, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, data) = unsafe { (guard(o)?, slice(data, len)?) };
        let below = below(g)?;
        let sock = g.sock;
        let slices = [IoSlice::new(data)];
        let mut msg = SendMsg::new(&slices, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // Only the owner changes the limit and the shutdown bits. During shutdown(2) sends of the program are refused
        // already, but the FIN is not yet sent; once it is, the state refuses more data.
        let limit = sock.sndbuf.swap(i32::MAX, Ordering::Relaxed);
        let down = sock.shutdown.fetch_and(!SEND_SHUTDOWN, Ordering::Relaxed) & SEND_SHUTDOWN;
        let r = below.sendmsg_locked(g, &mut msg);
        sock.shutdown.fetch_or(down, Ordering::Relaxed);
        // Memory pressure or autotuning may have set another limit meanwhile.
        let _ = sock.sndbuf.compare_exchange(i32::MAX, limit, Ordering::Relaxed, Ordering::Relaxed);
        r.map(|n| n as isize)
    })
}

unsafe extern "C-unwind" fn sendmsg(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, msg::send(msg)?) };
        let below = below(g)?;
        let flags = may_wait(g, msg.flags);
        msg.flags = flags;
        waiting(g, flags, |g| below.sendmsg_locked(g, msg)).map(|n| n as isize)
    })
}

unsafe extern "C-unwind" fn recv(o: *mut usk_owned_t, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, buf) = unsafe { (guard(o)?, slice_mut(buf, len)?) };
        let below = below(g)?;
        let (mut slices, flags) = ([IoSliceMut::new(buf)], may_wait(g, flags));
        let mut msg = RecvMsg::new(&mut slices, flags);
        waiting(g, flags, |g| below.recvmsg_locked(g, &mut msg)).map(|n| n as isize)
    })
}

unsafe extern "C-unwind" fn recvmsg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, msg::recv(msg)?) };
        let below = below(g)?;
        let flags = may_wait(g, msg.flags);
        msg.flags = flags;
        waiting(g, flags, |g| below.recvmsg_locked(g, msg)).map(|n| n as isize)
    })
}

unsafe extern "C-unwind" fn poll(o: *mut usk_owned_t) -> u32 {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        Ok(below(g)?.poll_locked(g).0)
    })
}

unsafe extern "C-unwind" fn backlog_rcv(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and owns the sock.
        let (skb, g) = unsafe { (skb::take(skb, "backlog_rcv")?, guard(o)?) };
        below(g)?.backlog_rcv(g, skb);
        Ok(0)
    })
}

unsafe extern "C-unwind" fn abort(o: *mut usk_owned_t, err: c_int) -> c_int {
    kernel(|| {
        let err = Error::try_from_errno(err).ok_or(Error::Inval)?;
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        below(g)?;
        tcp::abort_owned(g, err).map(|()| 0)
    })
}

/// A sock that is not owned, and the protocol below its layer.
/// # Safety
/// `sk` is valid.
unsafe fn unowned(sk: *mut usk_sock_t) -> Result<(Handle, Arc<dyn Proto>)> {
    // SAFETY: passed on.
    let h = unsafe { Handle::new(sk) }?;
    if held::owns(h.sock()) {
        return Err(Error::Deadlk);
    }
    let below = below(&mut h.sk().lock())?;
    Ok((h, below))
}

unsafe extern "C-unwind" fn setsockopt(
    sk: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let ((h, below), value) = unsafe { (unowned(sk)?, slice(value, len)?) };
        below.setsockopt(h.sk(), level, name, value).map(|()| 0)
    })
}

unsafe extern "C-unwind" fn getsockopt(
    sk: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let ((h, below), value) = unsafe { (unowned(sk)?, slice_mut(value, len)?) };
        below.getsockopt(h.sk(), level, name, value).map(|n| n as isize)
    })
}

unsafe extern "C-unwind" fn ioctl(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let ((h, below), value) = unsafe { (unowned(sk)?, obj_mut(value)?) };
        *value = below.ioctl(h.sk(), request)?;
        Ok(0)
    })
}
