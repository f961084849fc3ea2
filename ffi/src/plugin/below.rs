//! What an upper-layer protocol calls: the operations of the protocol below it, on the same sock. Above: the plug-in,
//! from an operation of struct usk_ulp_ops. Below: TCP. Linux: sk_psock's saved proto, tls_context's sk_proto.

use super::gate::kernel;
use super::gate::{slice, slice_mut};
use super::guard::{guard, usk_owned_t};
use super::msg::{recv, send, usk_recvmsg_t, usk_sendmsg_t};
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

/// Sends bytes: answers how many were taken, or -EAGAIN, -EPIPE, the connection's error. Waits for room unless `flags`
/// have MSG_DONTWAIT.
/// # Safety
/// `o` is owned; `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_send(o: *mut usk_owned_t, data: *const c_void, len: usize, flags: c_int) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, data) = unsafe { (guard(o)?, slice(data, len)?) };
        let below = below(g)?;
        let (slices, flags) = ([IoSlice::new(data)], may_wait(g, flags));
        let mut msg = SendMsg::new(&slices, flags);
        waiting(g, flags, |g| below.sendmsg_locked(g, &mut msg)).map(|n| n as isize)
    })
}

/// As usk_below_send with MSG_DONTWAIT, beyond SO_SNDBUF if need be: for what a layer holds when the program shuts
/// down or closes, in whose operations it is still taken.
/// Less than `len` is taken only when the protocol's memory is out.
/// # Safety
/// As usk_below_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_force(o: *mut usk_owned_t, data: *const c_void, len: usize) -> isize {
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

/// Sends the program's message, or what is left of it, unchanged.
/// # Safety
/// `o` is owned; `msg` is sendmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_sendmsg(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, send(msg)?) };
        let below = below(g)?;
        let flags = may_wait(g, msg.flags);
        msg.flags = flags;
        waiting(g, flags, |g| below.sendmsg_locked(g, msg)).map(|n| n as isize)
    })
}

/// Receives bytes: answers how many, 0 at the end, -EAGAIN, or the connection's error. Waits unless `flags` have
/// MSG_DONTWAIT.
/// # Safety
/// `o` is owned; `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_recv(o: *mut usk_owned_t, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, buf) = unsafe { (guard(o)?, slice_mut(buf, len)?) };
        let below = below(g)?;
        let (mut slices, flags) = ([IoSliceMut::new(buf)], may_wait(g, flags));
        let mut msg = RecvMsg::new(&mut slices, flags);
        waiting(g, flags, |g| below.recvmsg_locked(g, &mut msg)).map(|n| n as isize)
    })
}

/// Receives into the program's message, unchanged.
/// # Safety
/// `o` is owned; `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_recvmsg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, recv(msg)?) };
        let below = below(g)?;
        let flags = may_wait(g, msg.flags);
        msg.flags = flags;
        waiting(g, flags, |g| below.recvmsg_locked(g, msg)).map(|n| n as isize)
    })
}

/// poll(2)'s bits of the protocol below. One that is told "not writable" wakes when that changes.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_poll(o: *mut usk_owned_t) -> u32 {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let g = unsafe { guard(o) }?;
        Ok(below(g)?.poll_locked(g).0)
    })
}

/// Gives a segment to the protocol below: what backlog_rcv was given. Takes `skb`, always.
/// # Safety
/// `o` is owned; `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_backlog_rcv(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and owns the sock.
        let (skb, g) = unsafe { (skb::take(skb)?, guard(o)?) };
        below(g)?.backlog_rcv(g, skb);
        Ok(0)
    })
}

/// Ends the connection: a reset to the peer, `err` (positive) as the pending error (SO_ERROR), everybody awake.
/// -ENOENT: it is closed.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_abort(o: *mut usk_owned_t, err: c_int) -> c_int {
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

/// setsockopt(2) of the protocol below. -EDEADLK: the caller owns the sock.
/// # Safety
/// `sk` is valid; `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_setsockopt(
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

/// getsockopt(2) of the protocol below: answers the length. -EDEADLK: the caller owns the sock.
/// # Safety
/// `sk` is valid; `value` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_getsockopt(
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

/// ioctl(2)'s socket requests of the protocol below. -EDEADLK: the caller owns the sock.
/// # Safety
/// `sk` is valid; `value` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_below_ioctl(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let ((h, below), value) = unsafe { (unowned(sk)?, super::gate::obj_mut(value)?) };
        *value = below.ioctl(h.sk(), request)?;
        Ok(0)
    })
}
