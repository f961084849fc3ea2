//! The program's messages: the source of sendmsg, and the destination of recvmsg. Linux: struct msghdr with its
//! iov_iter.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj, obj_mut};
use super::gate::{slice, slice_mut};
use super::skb::{self, usk_skb_t};
use std::ffi::{c_int, c_void};
use usersock::error::{Error, Result};
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::skb::{Skb, SkbInner};

/// A message to send: sendmsg's argument. Its bytes are consumed from the front.
#[allow(non_camel_case_types)]
pub struct usk_sendmsg_t {
    _opaque: [u8; 0],
}

/// A message to receive: recvmsg's argument. Its buffers are filled from the front.
#[allow(non_camel_case_types)]
pub struct usk_recvmsg_t {
    _opaque: [u8; 0],
}

pub(crate) fn lend_send(m: &mut SendMsg<'_>) -> *mut usk_sendmsg_t {
    std::ptr::from_mut(m).cast()
}
pub(crate) fn lend_recv(m: &mut RecvMsg<'_, '_>) -> *mut usk_recvmsg_t {
    std::ptr::from_mut(m).cast()
}

/// # Safety
/// `m` is null or an operation's argument, while that runs.
pub(crate) unsafe fn send<'a>(m: *mut usk_sendmsg_t) -> Result<&'a mut SendMsg<'a>> {
    // SAFETY:, as the caller guarantees; the lifetimes inside are those of the call.
    unsafe { m.cast::<SendMsg<'a>>().as_mut() }.ok_or(Error::Inval)
}

/// # Safety
/// `m` is null or an operation's argument, while that runs.
pub(crate) unsafe fn recv<'a>(m: *mut usk_recvmsg_t) -> Result<&'a mut RecvMsg<'a, 'a>> {
    // SAFETY:, as the caller guarantees; the lifetimes inside are those of the call.
    unsafe { m.cast::<RecvMsg<'a, 'a>>().as_mut() }.ok_or(Error::Inval)
}

/// Bytes not yet consumed.
/// # Safety
/// `msg` is sendmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendmsg_len(msg: *mut usk_sendmsg_t) -> usize {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { send(msg) }.map(|m| m.remaining()))
}

/// MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
/// # Safety
/// `msg` is sendmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendmsg_flags(msg: *mut usk_sendmsg_t) -> c_int {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { send(msg) }.map(|m| m.flags & c_int::MAX))
}

/// The destination address of the call (msg_name). -ENOENT: none.
/// # Safety
/// `msg` is sendmsg's argument; `addr` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendmsg_name(msg: *mut usk_sendmsg_t, addr: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (m, to) = unsafe { (send(msg)?, obj_mut(addr)?) };
        *to = m.name.ok_or(Error::NoEnt)?.into();
        Ok(0)
    })
}

/// Copies up to `len` bytes to `to` and consumes them; returns how many (copy_from_iter). usk_skb_append_msg copies
/// into a packet.
/// # Safety
/// `msg` is sendmsg's argument; `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendmsg_take(msg: *mut usk_sendmsg_t, to: *mut c_void, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (m, to) = unsafe { (send(msg)?, slice_mut(to, len)?) };
        let taken = m.copy_to(to);
        if taken == 0 && m.faulted() { Err(Error::Fault) } else { Ok(taken as isize) }
    })
}

/// Appends up to `len` bytes of a message to a packet and consumes them; returns how many (skb_add_data).
/// # Safety
/// `skb` is a packet; `msg` is an operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_append_msg(skb: *mut usk_skb_t, msg: *mut usk_sendmsg_t, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (s, msg) = unsafe { (skb::get(skb, "usk_skb_append_msg")?, send(msg)?) };
        let taken = append(s, msg, len);
        if taken == 0 && msg.faulted() { Err(Error::Fault) } else { Ok(taken as isize) }
    })
}

/// A new packet with up to `len` bytes of a message, which are consumed: usk_skb_new and usk_skb_append_msg. Null:
/// bytes of the program cannot be read, return -EFAULT.
/// # Safety
/// `msg` is an operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_from_msg(msg: *mut usk_sendmsg_t, len: usize) -> *mut usk_skb_t {
    kernel(|| {
        // SAFETY: an operation's argument, as the caller guarantees.
        let msg = unsafe { send(msg) }?;
        let mut skb = Skb::new();
        append(&mut skb, msg, len);
        if msg.faulted() { Err(Error::Fault) } else { Ok(skb::give(skb)) }
    })
}

/// Moves up to `len` bytes of a message into a packet; returns how many.
#[inline]
pub(super) fn append(skb: &mut SkbInner, msg: &mut SendMsg<'_>, len: usize) -> usize {
    let mut left = len.min(msg.remaining()).min(skb::room(skb));
    let wanted = left;
    while left > 0 {
        let c = msg.chunk(left);
        if c.is_empty() {
            break;
        }
        skb.append(c, left);
        left -= c.len();
        msg.advance(c.len());
    }
    wanted - left
}

/// Bytes of room left.
/// # Safety
/// `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_room(msg: *mut usk_recvmsg_t) -> usize {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { recv(msg) }.map(|m| m.remaining()))
}

/// MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
/// # Safety
/// `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_flags(msg: *mut usk_recvmsg_t) -> c_int {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { recv(msg) }.map(|m| m.flags & c_int::MAX))
}

/// Copies bytes to the program, as far as there is room; returns how many (copy_to_iter).
/// # Safety
/// `msg` is recvmsg's argument; `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_put(msg: *mut usk_recvmsg_t, data: *const c_void, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (m, data) = unsafe { (recv(msg)?, slice(data, len)?) };
        let n = m.put(data);
        if m.faulted() { Err(Error::Fault) } else { Ok(n as isize) }
    })
}

/// Copies up to `len` bytes of a packet, beginning at `offset`, to the program, as far as there is room; returns how
/// many (skb_copy_datagram_msg).
/// # Safety
/// `msg` is recvmsg's argument; `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_put_skb(
    msg: *mut usk_recvmsg_t,
    skb: *mut usk_skb_t,
    offset: usize,
    len: usize,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (m, skb) = unsafe { (recv(msg)?, skb::get(skb, "usk_recvmsg_put_skb")?) };
        let n = m.put_skb(skb, offset, len);
        if m.faulted() { Err(Error::Fault) } else { Ok(n as isize) }
    })
}

/// Sets the source address of the message (msg_name).
/// # Safety
/// `msg` is recvmsg's argument; `addr` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_set_name(msg: *mut usk_recvmsg_t, addr: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (m, addr) = unsafe { (recv(msg)?, obj(addr)?) };
        m.name = Some(addr.to_socket_addr()?);
        Ok(0)
    })
}

/// Adds MSG_* bits to the returned msg_flags (MSG_EOR, MSG_TRUNC).
/// # Safety
/// `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg_set_flags(msg: *mut usk_recvmsg_t, flags: c_int) -> c_int {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { recv(msg) }.map(|m| m.out_flags |= flags).map(|()| 0))
}
