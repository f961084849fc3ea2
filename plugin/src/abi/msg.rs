//! The program's messages: `usk_sendmsg_t`, `usk_recvmsg_t`.

use super::addr;
use crate::errno::{Errno, Result, length, status};
use crate::skb::{Packet, Skb};
use crate::sys::*;
use std::marker::PhantomData;
use std::net::SocketAddr;

/// A message to send. Its bytes are consumed from the front.
pub struct SendMsg<'a> {
    raw: *mut usk_sendmsg_t,
    of: PhantomData<&'a mut usk_sendmsg_t>,
}

impl SendMsg<'_> {
    /// # Safety
    /// `raw` is sendmsg's argument, and nobody else uses it while the result is used.
    pub(crate) unsafe fn new<'a>(raw: *mut usk_sendmsg_t) -> SendMsg<'a> {
        SendMsg { raw, of: PhantomData }
    }

    pub(crate) fn raw(&mut self) -> *mut usk_sendmsg_t {
        self.raw
    }

    /// Bytes not yet consumed.
    pub fn len(&self) -> usize {
        // SAFETY: an operation's argument, as `new` was promised; so in the calls below.
        unsafe { usk_sendmsg_len(self.raw) }
    }

    /// Whether all bytes are consumed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
    pub fn flags(&self) -> i32 {
        // SAFETY: see `len`.
        unsafe { usk_sendmsg_flags(self.raw) }
    }

    /// The destination address of the call (msg_name).
    pub fn name(&self) -> Option<SocketAddr> {
        let mut name = addr::NONE;
        // SAFETY: see `len`; the address is writable.
        let r = unsafe { usk_sendmsg_name(self.raw, &mut name) };
        (r == 0).then(|| addr::from_c(&name)).flatten()
    }

    /// Copies bytes to `to` and consumes them; returns how many.
    pub fn take(&mut self, to: &mut [u8]) -> Result<usize> {
        // SAFETY: see `len`; the slice is writable.
        length(unsafe { usk_sendmsg_take(self.raw, to.as_mut_ptr().cast(), to.len()) })
    }

    /// Appends up to `len` bytes to a packet and consumes them; returns how many.
    pub fn append_to(&mut self, skb: &mut Packet, len: usize) -> Result<usize> {
        // SAFETY: see `len`; a packet of the caller's.
        length(unsafe { usk_skb_append_msg(skb.raw(), self.raw, len) })
    }

    /// A new packet with up to `len` bytes, which are consumed. EFAULT: they cannot be read.
    pub fn skb(&mut self, len: usize) -> Result<Skb> {
        // SAFETY: see `len`; what it returns is ours.
        Skb::from_raw(unsafe { usk_skb_from_msg(self.raw, len) }).ok_or(Errno::Fault)
    }
}

/// A message to receive. Its buffers are filled from the front.
pub struct RecvMsg<'a> {
    raw: *mut usk_recvmsg_t,
    of: PhantomData<&'a mut usk_recvmsg_t>,
}

impl RecvMsg<'_> {
    /// # Safety
    /// `raw` is recvmsg's argument, and nobody else uses it while the result is used.
    pub(crate) unsafe fn new<'a>(raw: *mut usk_recvmsg_t) -> RecvMsg<'a> {
        RecvMsg { raw, of: PhantomData }
    }

    pub(crate) fn raw(&mut self) -> *mut usk_recvmsg_t {
        self.raw
    }

    /// Bytes of room left.
    pub fn room(&self) -> usize {
        // SAFETY: an operation's argument, as `new` was promised; so in the calls below.
        unsafe { usk_recvmsg_room(self.raw) }
    }

    /// MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
    pub fn flags(&self) -> i32 {
        // SAFETY: see `room`.
        unsafe { usk_recvmsg_flags(self.raw) }
    }

    /// Copies bytes to the program, as far as there is room; returns how many.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: see `room`; the slice is readable.
        length(unsafe { usk_recvmsg_put(self.raw, bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Copies up to `len` bytes of a packet from `offset` on to the program, as far as there is room; returns how many.
    pub fn put_skb(&mut self, skb: &Packet, offset: usize, len: usize) -> Result<usize> {
        // SAFETY: see `room`; a packet, which is only read.
        length(unsafe { usk_recvmsg_put_skb(self.raw, skb.raw(), offset, len) })
    }

    /// Sets the source address of the message (msg_name).
    pub fn set_name(&mut self, name: SocketAddr) {
        // SAFETY: see `room`; the address is readable.
        unsafe { usk_recvmsg_set_name(self.raw, &addr::to_c(name)) };
    }

    /// Adds MSG_* bits to the returned msg_flags (MSG_EOR, MSG_TRUNC).
    pub fn set_flags(&mut self, flags: i32) -> Result<()> {
        // SAFETY: see `room`.
        status(unsafe { usk_recvmsg_set_flags(self.raw, flags) })
    }
}
