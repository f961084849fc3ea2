//! Packets: `usk_skb_t`.

use crate::errno::{Errno, Result, length, status};
use crate::proto::PacketInfo;
use crate::skb::Cb;
use crate::sys::*;
use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A packet that is somewhere: in a queue, lent to an operation, or in an [`Skb`], which owns it. Headers, and payload
/// in shared pages.
#[repr(transparent)]
pub struct Packet(usk_skb_t);

impl Packet {
    /// # Safety
    /// `raw` is null, or a packet that nobody else uses while the result is.
    pub(crate) unsafe fn lent<'a>(raw: *mut usk_skb_t) -> Option<&'a mut Packet> {
        // SAFETY: a transparent wrapper of an opaque type, which has no bytes here; the caller vouches for the rest.
        unsafe { raw.cast::<Packet>().as_mut() }
    }

    pub(crate) fn raw(&self) -> *mut usk_skb_t {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// What `rcv` was told of it (`usk_skb_info`), for backlog_rcv and recvmsg. None: it was not received, or has been
    /// sent since.
    pub fn info(&self) -> Option<PacketInfo> {
        super::info::info_of_skb(self)
    }

    /// Bytes in it, including headers that were pushed or are not yet pulled.
    pub fn len(&self) -> usize {
        // SAFETY: a packet, as `lent` was promised; so in all calls below.
        unsafe { usk_skb_len(self.raw()) }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory it is charged with.
    pub fn truesize(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { usk_skb_truesize(self.raw()) }
    }

    /// Prepends a header. ENOBUFS: there is not enough headroom; a new packet has 128 bytes, of which IP and the link
    /// need 76.
    pub fn push(&mut self, header: &[u8]) -> Result<()> {
        // SAFETY: see `len`; what it returns is `header.len()` bytes in front, ours until the packet changes.
        unsafe {
            let to = usk_skb_push(self.raw(), header.len()).cast::<u8>();
            if to.is_null() {
                return Err(Errno::NoBufs);
            }
            to.copy_from_nonoverlapping(header.as_ptr(), header.len());
        }
        Ok(())
    }

    /// Removes the first `n` bytes. EINVAL: there are fewer, and nothing is removed.
    pub fn pull(&mut self, n: usize) -> Result<()> {
        // SAFETY: see `len`.
        status(unsafe { usk_skb_pull(self.raw(), n) })
    }

    /// Shortens it to `n` bytes; no effect if it is not longer.
    pub fn trim(&mut self, n: usize) {
        // SAFETY: see `len`.
        unsafe { usk_skb_trim(self.raw(), n) };
    }

    /// The first `n` bytes in one piece; None: it is shorter.
    pub fn header(&mut self, n: usize) -> Option<&[u8]> {
        // SAFETY: see `len`; the bytes stay as they are while the packet is borrowed.
        unsafe {
            let from = usk_skb_header(self.raw(), n).cast::<u8>();
            (!from.is_null()).then(|| std::slice::from_raw_parts(from, n))
        }
    }

    /// The first `N` bytes, copied; None: it is shorter.
    pub fn head<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.header(N)?.try_into().ok()
    }

    /// Copies bytes from `offset` on to `to`, as far as there are; returns how many.
    pub fn copy(&self, offset: usize, to: &mut [u8]) -> usize {
        // SAFETY: see `len`; the slice is writable.
        length(unsafe { usk_skb_copy(self.raw(), offset, to.as_mut_ptr().cast(), to.len()) }).unwrap_or(0)
    }

    /// Appends a copy of bytes. EMSGSIZE: it would pass 2^30 bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // SAFETY: see `len`; the slice is readable.
        status(unsafe { usk_skb_append(self.raw(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// The ones-complement sum of `len` bytes from `offset` on, added to `sum`, for [`csum_fold`](crate::csum_fold).
    /// Bytes beyond its end are ignored.
    pub fn csum(&self, offset: usize, len: usize, sum: u32) -> u32 {
        // SAFETY: see `len`.
        unsafe { usk_skb_csum(self.raw(), offset, len, sum) }
    }

    /// Whether the checksum need not be verified: the packet did not leave the machine, or the device has verified it.
    pub fn csum_unnecessary(&self) -> bool {
        // SAFETY: see `len`.
        unsafe { usk_skb_csum_unnecessary(self.raw()) != 0 }
    }

    /// Leaves the checksum open: the Internet checksum of all bytes from `start` on, into the field `offset` bytes
    /// behind that, is computed where the packet leaves the machine. `sum` is what it begins with, as
    /// [`csum_pseudo`](crate::csum_pseudo) returns it. EINVAL: the field is not in a header that was pushed.
    pub fn csum_partial(&mut self, start: usize, offset: usize, sum: u32) -> Result<()> {
        let number = |n| u32::try_from(n).map_err(|_| Errno::Inval);
        // SAFETY: see `len`.
        status(unsafe { usk_skb_csum_partial(self.raw(), number(start)?, number(offset)?, sum) })
    }

    /// Payload bytes of each packet that a super-packet stands for. None: it is an ordinary packet.
    pub fn gso_size(&self) -> Option<usize> {
        // SAFETY: see `len`.
        let size = unsafe { usk_skb_gso_size(self.raw()) };
        (size > 0).then_some(size as usize)
    }

    /// A packet that shares the payload and has a copy of the headers, to be sent while this one waits for its
    /// acknowledgement. Its control block is zero. ENOMEM: there is no memory.
    pub fn share(&self) -> Result<Skb> {
        // SAFETY: see `len`; what it returns is ours.
        Skb::from_raw(unsafe { usk_skb_share(self.raw()) }).ok_or(Errno::NoMem)
    }

    fn control_block(&self) -> *mut c_void {
        // SAFETY: see `len`.
        unsafe { usk_skb_cb(self.raw()) }
    }

    /// The packet's control block read as a value: bytes that [`Packet::set_cb`] stored, or zero.
    pub fn cb<T: Cb>(&self) -> T {
        const { assert!(T::SIZE <= USK_SKB_CB, "larger than a control block") };
        // SAFETY: USK_SKB_CB bytes of the packet, which nobody else uses while it is borrowed.
        T::load(unsafe { std::slice::from_raw_parts(self.control_block().cast::<u8>(), T::SIZE) })
    }

    /// Stores a value in the control block, which stays with the packet.
    pub fn set_cb<T: Cb>(&mut self, value: &T) {
        const { assert!(T::SIZE <= USK_SKB_CB, "larger than a control block") };
        // SAFETY: USK_SKB_CB bytes of the packet, which is borrowed mutably.
        value.store(unsafe { std::slice::from_raw_parts_mut(self.control_block().cast::<u8>(), T::SIZE) });
    }
}

/// A packet of ours. Dropping it frees it; calls that consume one take it by value.
pub struct Skb(NonNull<usk_skb_t>);

// SAFETY: a packet belongs to who has it, in any thread.
unsafe impl Send for Skb {}

impl Skb {
    /// None: null.
    pub(crate) fn from_raw(raw: *mut usk_skb_t) -> Option<Skb> {
        NonNull::new(raw).map(Skb)
    }

    /// For the calls that take it.
    pub(crate) fn give(self) -> *mut usk_skb_t {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// A new, empty packet. ENOMEM: there is no memory.
    pub fn new() -> Result<Skb> {
        // SAFETY: no requirement; what it returns is ours.
        Skb::from_raw(unsafe { usk_skb_new() }).ok_or(Errno::NoMem)
    }
}

impl Drop for Skb {
    fn drop(&mut self) {
        // SAFETY: ours, given to nobody.
        unsafe { usk_skb_free(self.0.as_ptr()) }
    }
}

impl Deref for Skb {
    type Target = Packet;

    fn deref(&self) -> &Packet {
        // SAFETY: ours, and an opaque type without bytes.
        unsafe { self.0.cast().as_ref() }
    }
}

impl DerefMut for Skb {
    fn deref_mut(&mut self) -> &mut Packet {
        // SAFETY: as above; borrowed mutably.
        unsafe { self.0.cast().as_mut() }
    }
}
