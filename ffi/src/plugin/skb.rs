//! Packets: `usk_skb_t`, one packet, and `usk_queue_t`, a queue of them. Linux: struct sk_buff, struct sk_buff_head.

use super::gate::{kernel, slice, slice_mut};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use usersock::error::{Error, Result};
use usersock::sock::skb::{CB_WORDS, Csum, Skb, SkbInner};
use usersock::wire::checksum;

/// A packet: room for headers in front, payload in shared pages. Belongs to whoever made or popped it, until it is
/// freed or given to a call that takes it.
#[allow(non_camel_case_types)]
pub struct usk_skb_t {
    _opaque: [u8; 0],
}

/// Bytes of a packet's notes (usk_skb_cb).
pub const USK_SKB_CB: usize = 48;
const _: () = assert!(USK_SKB_CB == CB_WORDS * 8);

/// A packet as the caller's.
pub(crate) fn give(skb: Skb) -> *mut usk_skb_t {
    Box::into_raw(skb.into_box()).cast()
}

/// A packet that stays where it is.
pub(crate) fn lend(skb: &mut Skb) -> *mut usk_skb_t {
    let inner: &mut SkbInner = skb;
    std::ptr::from_mut(inner).cast()
}

/// # Safety
/// `skb` is null, or the caller's, and given up by this.
pub(crate) unsafe fn take(skb: *mut usk_skb_t) -> Result<Skb> {
    if skb.is_null() {
        return Err(Error::Inval);
    }
    // SAFETY: the caller's packets come from `give`.
    Ok(Skb::from_box(unsafe { Box::from_raw(skb.cast::<SkbInner>()) }))
}

/// # Safety
/// `skb` is null or a packet, and used by nobody else meanwhile.
pub(crate) unsafe fn get<'a>(skb: *mut usk_skb_t) -> Result<&'a mut SkbInner> {
    // SAFETY: by the caller's word.
    unsafe { skb.cast::<SkbInner>().as_mut() }.ok_or(Error::Inval)
}

/// A new, empty packet (alloc_skb).
#[unsafe(no_mangle)]
pub extern "C" fn usk_skb_new() -> *mut usk_skb_t {
    kernel(|| Ok(give(Skb::new())))
}

/// Frees a packet (kfree_skb). Null is ignored.
/// # Safety
/// `skb` is null or the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_free(skb: *mut usk_skb_t) {
    // SAFETY: given up by the caller's word.
    kernel(|| unsafe { take(skb) }.map(drop));
}

/// A packet with the same payload, shared, and a copy of the headers (skb_clone): what goes to the device while the
/// original waits for its acknowledgement. Its notes are zero.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_share(skb: *mut usk_skb_t) -> *mut usk_skb_t {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }.map(|s| give(s.share())))
}

/// Bytes in the packet, headers that are pushed and not yet pulled included.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_len(skb: *mut usk_skb_t) -> usize {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }.map(|s| s.len()))
}

/// Bytes of memory the packet is charged with (truesize).
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_truesize(skb: *mut usk_skb_t) -> u32 {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }.map(|s| s.truesize))
}

/// The notes a protocol keeps on a packet: USK_SKB_CB bytes aligned to 8, zero at first (sk_buff.cb).
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_cb(skb: *mut usk_skb_t) -> *mut c_void {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }.map(|s| s.cb.as_mut_ptr().cast()))
}

/// Room for `n` more bytes of header in front, zeroed, to be written (skb_push). Null: there is not that much room; a
/// new packet has 128 bytes, of which IP and the link want 76.
/// # Safety
/// `skb` is a packet; the bytes are used before it is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_push(skb: *mut usk_skb_t, n: usize) -> *mut c_void {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }?.push(n).map(|b| b.as_mut_ptr().cast()).ok_or(Error::NoBufs))
}

/// Forgets the first `n` bytes (skb_pull). -EINVAL: there are fewer, nothing is done.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_pull(skb: *mut usk_skb_t, n: usize) -> c_int {
    // SAFETY: a packet by the caller's word.
    kernel(|| if unsafe { get(skb) }?.pull(n) { Ok(0) } else { Err(Error::Inval) })
}

/// Shortens the packet to `n` bytes (skb_trim); no effect when it is not longer.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_trim(skb: *mut usk_skb_t, n: usize) -> c_int {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }.map(|s| s.trim(n)).map(|()| 0))
}

/// The first `n` bytes in one piece (pskb_may_pull), to read; null when the packet is shorter.
/// # Safety
/// `skb` is a packet; the bytes are used before it is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_header(skb: *mut usk_skb_t, n: usize) -> *const c_void {
    kernel(|| {
        // SAFETY: a packet by the caller's word.
        let s = unsafe { get(skb) }?;
        if s.may_pull(n) { Ok(s.linear().as_ptr().cast()) } else { Err(Error::Inval) }
    })
}

/// Copies bytes from `offset` on out of the packet; returns how many there were (skb_copy_bits).
/// # Safety
/// `skb` is a packet; `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_copy(skb: *mut usk_skb_t, offset: usize, to: *mut c_void, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (s, to) = unsafe { (get(skb)?, slice_mut(to, len)?) };
        Ok(s.copy_out(offset, to) as isize)
    })
}

/// Most bytes of memory that a packet may come to: a sock's accounts are ints.
const MOST: usize = 1 << 30;

/// Bytes that may be appended yet.
#[inline]
pub(super) fn room(skb: &SkbInner) -> usize {
    // A page is at most as large again as what is appended at once, or the smallest.
    (MOST.saturating_sub(skb.truesize as usize) / 2).saturating_sub(4096)
}

/// Appends a copy of `len` bytes. The packet's truesize grows. -EMSGSIZE: it would pass 2^30.
/// # Safety
/// `skb` is a packet; `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_append(skb: *mut usk_skb_t, data: *const c_void, len: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (s, data) = unsafe { (get(skb)?, slice(data, len)?) };
        if data.len() > room(s) {
            return Err(Error::MsgSize);
        }
        s.append(data, len);
        Ok(0)
    })
}

/// The ones-complement sum of `len` bytes of a packet from `offset` on, added to `sum`, for usk_csum_fold
/// (skb_checksum). Bytes that are not there do not count.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_csum(skb: *mut usk_skb_t, offset: usize, len: usize, sum: u32) -> u32 {
    kernel(|| {
        // SAFETY: a packet by the caller's word.
        let s = unsafe { get(skb) }?;
        let (mut skip, mut left) = (offset, len);
        let mut c = checksum::Checksum::new(sum);
        for piece in s.slices() {
            let before = skip.min(piece.len());
            skip -= before;
            let piece = &piece[before..];
            let piece = &piece[..left.min(piece.len())];
            left -= piece.len();
            c.push(piece);
        }
        Ok(c.partial())
    })
}

/// The checksum of this packet need not be looked at: it never left the machine, or the device did
/// (CHECKSUM_UNNECESSARY).
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_csum_unnecessary(skb: *mut usk_skb_t) -> c_int {
    // SAFETY: a packet by the caller's word.
    kernel(|| unsafe { get(skb) }.map(|s| (s.csum != Csum::None).into()))
}

/// A queue of packets. Made by usk_queue_new; belongs to the caller.
#[allow(non_camel_case_types)]
#[derive(Default)]
pub struct usk_queue_t {
    list: VecDeque<Skb>,
}

/// # Safety
/// `q` is null or from usk_queue_new and not freed.
unsafe fn queue<'a>(q: *mut usk_queue_t) -> Result<&'a mut usk_queue_t> {
    // SAFETY: by the caller's word.
    unsafe { q.as_mut() }.ok_or(Error::Inval)
}

/// An empty queue (skb_queue_head_init).
#[unsafe(no_mangle)]
pub extern "C" fn usk_queue_new() -> *mut usk_queue_t {
    kernel(|| Ok(Box::into_raw(Box::default())))
}

/// Frees a queue and the packets in it (skb_queue_purge). Null is ignored.
/// # Safety
/// `q` is null or from usk_queue_new, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_free(q: *mut usk_queue_t) {
    kernel(|| {
        if !q.is_null() {
            // SAFETY: from Box::into_raw in usk_queue_new, freed once by the caller's word.
            drop(unsafe { Box::from_raw(q) });
        }
        Ok(())
    });
}

/// Packets in the queue.
/// # Safety
/// `q` is a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_len(q: *mut usk_queue_t) -> usize {
    // SAFETY: a queue by the caller's word.
    kernel(|| unsafe { queue(q) }.map(|q| q.list.len()))
}

/// Puts a packet before place `at` (0: the front); beyond the end is the end. Takes `skb`, always.
/// # Safety
/// `q` is a queue; `skb` is the caller's, and not used afterwards but through the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_insert(q: *mut usk_queue_t, at: usize, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (skb, q) = unsafe { (take(skb)?, queue(q)?) };
        let at = at.min(q.list.len());
        q.list.insert(at, skb);
        Ok(0)
    })
}

/// Puts a packet at the end (skb_queue_tail). Takes `skb`, always.
/// # Safety
/// As usk_queue_insert.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_push(q: *mut usk_queue_t, skb: *mut usk_skb_t) -> c_int {
    // SAFETY: the same promises.
    unsafe { usk_queue_insert(q, usize::MAX, skb) }
}

/// The packet at place `at`, which stays there; null: there are not that many (skb_peek).
/// # Safety
/// `q` is a queue; the packet is used before the queue changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_peek(q: *mut usk_queue_t, at: usize) -> *mut usk_skb_t {
    // SAFETY: a queue by the caller's word.
    kernel(|| unsafe { queue(q) }.map(|q| q.list.get_mut(at).map_or(std::ptr::null_mut(), lend)))
}

/// Takes the packet at place `at` out; the caller's to free. Null: there are not that many (__skb_unlink).
/// # Safety
/// `q` is a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_remove(q: *mut usk_queue_t, at: usize) -> *mut usk_skb_t {
    kernel(|| {
        // SAFETY: a queue by the caller's word.
        let q = unsafe { queue(q) }?;
        let Some(skb) = q.list.remove(at) else { return Ok(std::ptr::null_mut()) };
        Ok(give(skb))
    })
}

/// Takes the first packet out (skb_dequeue); null: none.
/// # Safety
/// `q` is a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_pop(q: *mut usk_queue_t) -> *mut usk_skb_t {
    // SAFETY: the same promise.
    unsafe { usk_queue_remove(q, 0) }
}
