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

/// The operations of the protocol below a layer: `ulp->below`, the same in every operation of every layer of the
/// library. They are for the layer's own operations, on their sock. None is null. Of a newer library the table may be
/// longer than here: `size` says how much of it there is. Those that take usk_owned_t keep the sock owned; where they
/// wait they give it up meanwhile, and operations of the layer may run. All return a negative errno on failure: -EINVAL
/// where there is no layer any more.
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
    /// As send with MSG_DONTWAIT, beyond SO_SNDBUF if need be: for what a layer holds when the program shuts down or
    /// closes, in whose operations it is still taken. Less than `len` is taken only when the protocol's memory is out.
    /// Owned.
    pub force: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, data: *const c_void, len: usize) -> isize,
    /// Sends the program's message, or what is left of it, unchanged. Owned.
    pub sendmsg: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize,
    /// Receives bytes: returns how many, 0 at the end, -EAGAIN, or the connection's error. Waits in process
    /// context, unless `flags` have MSG_DONTWAIT. Owned.
    pub recv: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, buf: *mut c_void, len: usize, flags: c_int) -> isize,
    /// Receives into the program's message, unchanged. Owned.
    pub recvmsg: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize,
    /// poll(2)'s bits of the protocol below. One that is told "not writable" wakes when that changes. Owned.
    pub poll: unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> u32,
    /// Gives a segment to the protocol below: what backlog_rcv was given. Takes `skb`, always. Owned.
    pub backlog_rcv: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int,
    /// Ends the connection: a reset to the peer, `err` (a positive errno) as the pending error (SO_ERROR), everybody
    /// awake. -ENOENT: it is closed. Owned.
    pub abort: unsafe extern "C-unwind" fn(o: *mut usk_owned_t, err: c_int) -> c_int,
    /// setsockopt(2) of the protocol below. Not owned: -EDEADLK where the caller owns the sock.
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
    /// ioctl(2)'s socket requests of the protocol below, an int in `*value`. Not owned, as setsockopt.
    pub ioctl: unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int,
}

/// The table that every layer gets: what is below a sock is found by the sock.
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

// What each function does, and what its arguments are, the table says.

/// EINVAL: no upper-layer protocol, and so nothing below it.
fn below(g: &mut SockGuard<'_>) -> Result<Arc<dyn Proto>> {
    ulp::below(g).ok_or(Error::Inval)
}

/// The flags of a call: where nothing may sleep, it does not wait.
fn may_wait(g: &SockGuard<'_>, flags: c_int) -> c_int {
    if g.in_softirq() { flags | libc::MSG_DONTWAIT } else { flags }
}

/// Runs what gives the sock up while it waits, if it does.
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
        // Limit and shutdown are the owner's to change. In shutdown(2) the program has been refused more already, but
        // the FIN is not out; when it is, the state refuses.
        let limit = sock.sndbuf.swap(i32::MAX, Ordering::Relaxed);
        let down = sock.shutdown.fetch_and(!SEND_SHUTDOWN, Ordering::Relaxed) & SEND_SHUTDOWN;
        let r = below.sendmsg_locked(g, &mut msg);
        sock.shutdown.fetch_or(down, Ordering::Relaxed);
        // Pressure, or the window, may have set another meanwhile.
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
        // SAFETY: owned by the caller's word.
        let g = unsafe { guard(o) }?;
        Ok(below(g)?.poll_locked(g).0)
    })
}

unsafe extern "C-unwind" fn backlog_rcv(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and owns the sock.
        let (skb, g) = unsafe { (skb::take(skb)?, guard(o)?) };
        below(g)?.backlog_rcv(g, skb);
        Ok(0)
    })
}

unsafe extern "C-unwind" fn abort(o: *mut usk_owned_t, err: c_int) -> c_int {
    kernel(|| {
        let err = Error::try_from_errno(err).ok_or(Error::Inval)?;
        // SAFETY: owned by the caller's word.
        let g = unsafe { guard(o) }?;
        below(g)?;
        tcp::abort_owned(g, err).map(|()| 0)
    })
}

/// A sock that is not owned, and what is below its layer.
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
