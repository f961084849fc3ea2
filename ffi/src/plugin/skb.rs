//! Packets: `usk_skb_t`, one packet, and `usk_queue_t`, a queue of them. Linux: struct sk_buff, struct sk_buff_head.

use super::gate::{kernel, slice, slice_mut};
use super::watch;
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use usersock::error::{Error, Result};
use usersock::sock::skb::{CB_WORDS, Csum, GsoType, Skb, SkbInner};
use usersock::wire::checksum;

/// A packet: headroom, headers, and payload in shared pages. The code that made or dequeued a packet owns it until it
/// frees it or passes it to a call that consumes it.
#[allow(non_camel_case_types)]
pub struct usk_skb_t {
    _opaque: [u8; 0],
}

/// Size of a packet's control block (usk_skb_cb), bytes.
pub const USK_SKB_CB: usize = 48;
const _: () = assert!(USK_SKB_CB == CB_WORDS * 8);

/// Passes a packet to C, which then owns it.
#[inline]
pub(crate) fn give(skb: Skb) -> *mut usk_skb_t {
    let inner = Box::into_raw(skb.into_box());
    if watch::on() {
        watch::given(inner);
    }
    inner.cast()
}

/// A packet that C may use but does not own, from `call`; it ends with [`left`].
#[inline]
pub(crate) fn lend(skb: &mut Skb, call: &'static str) -> *mut usk_skb_t {
    let inner: &mut SkbInner = skb;
    let inner = std::ptr::from_mut(inner);
    if watch::on() {
        watch::lent(inner, call);
    }
    inner.cast()
}

/// A packet that may have been lent, and of which C may know no more: `call` has ended it.
#[inline]
pub(crate) fn left(skb: Skb, call: &'static str) -> Skb {
    if watch::on() { Skb::from_box(watch::left(skb.into_box(), call)) } else { skb }
}

/// `call` gets a packet for good.
/// # Safety
/// `skb` is null, or owned by the caller, who loses ownership.
#[inline]
pub(crate) unsafe fn take(skb: *mut usk_skb_t, call: &'static str) -> Result<Skb> {
    if skb.is_null() {
        return Err(Error::Inval);
    }
    let inner = skb.cast::<SkbInner>();
    // SAFETY: packets that C owns come from `give`.
    Ok(Skb::from_box(unsafe { if watch::on() { watch::taken(inner, call) } else { Box::from_raw(inner) } }))
}

/// `call` uses a packet.
/// # Safety
/// `skb` is null or a packet, and used by nobody else meanwhile.
#[inline]
pub(crate) unsafe fn get<'a>(skb: *mut usk_skb_t, call: &str) -> Result<&'a mut SkbInner> {
    let inner = skb.cast::<SkbInner>();
    if watch::on() && !inner.is_null() {
        watch::used(inner, call);
    }
    // SAFETY:, as the caller guarantees.
    unsafe { inner.as_mut() }.ok_or(Error::Inval)
}

/// Prepares a packet to be sent, which was perhaps received before: of that time it has nothing any more.
pub(super) fn prepare(skb: &mut SkbInner) {
    if !std::mem::replace(&mut skb.tx_ready, true) {
        forget(skb);
    }
}

fn forget(skb: &mut SkbInner) {
    (skb.csum, skb.gso_size, skb.gso_type) = (Csum::None, 0, GsoType::None);
    (skb.pieces, skb.rx, skb.rx_segs) = (None, None, 1);
}

/// Takes a packet to be sent: what its protocol has prepared for this sending counts, what it was received with does
/// not.
#[inline]
pub(super) fn outgoing(skb: &mut SkbInner) {
    if !std::mem::replace(&mut skb.tx_ready, false) {
        forget(skb);
    }
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
    // SAFETY: given up, as the caller guarantees.
    kernel(|| unsafe { take(skb, "usk_skb_free") }.map(drop));
}

/// A packet that shares the payload and has a copy of the headers (skb_clone), to be sent while the original waits for
/// its acknowledgement. Its control block is zero.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_share(skb: *mut usk_skb_t) -> *mut usk_skb_t {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_share") }.map(|s| give(s.share())))
}

/// Bytes in the packet, including headers that were pushed or are not yet pulled.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_len(skb: *mut usk_skb_t) -> usize {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_len") }.map(|s| s.len()))
}

/// Bytes of memory the packet is charged with (truesize).
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_truesize(skb: *mut usk_skb_t) -> u32 {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_truesize") }.map(|s| s.truesize))
}

/// The packet's control block, for the protocol's use: USK_SKB_CB bytes aligned to 8, initially zero (sk_buff.cb).
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_cb(skb: *mut usk_skb_t) -> *mut c_void {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_cb") }.map(|s| s.cb.as_mut_ptr().cast()))
}

/// Prepends `n` zero bytes for a header, and returns their address (skb_push). Null: there is not enough headroom; a
/// new packet has 128 bytes, of which IP and the link need 76.
/// # Safety
/// `skb` is a packet; the bytes are used before it is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_push(skb: *mut usk_skb_t, n: usize) -> *mut c_void {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_push") }?.push(n).map(|b| b.as_mut_ptr().cast()).ok_or(Error::NoBufs))
}

/// Removes the first `n` bytes (skb_pull). -EINVAL: there are fewer, and nothing is removed.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_pull(skb: *mut usk_skb_t, n: usize) -> c_int {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| if unsafe { get(skb, "usk_skb_pull") }?.pull(n) { Ok(0) } else { Err(Error::Inval) })
}

/// Shortens the packet to `n` bytes (skb_trim); no effect if it is not longer.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_trim(skb: *mut usk_skb_t, n: usize) -> c_int {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_trim") }.map(|s| s.trim(n)).map(|()| 0))
}

/// The first `n` bytes, made contiguous (pskb_may_pull), to read; null if the packet is shorter.
/// # Safety
/// `skb` is a packet; the bytes are used before it is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_header(skb: *mut usk_skb_t, n: usize) -> *const c_void {
    kernel(|| {
        // SAFETY: a packet, as the caller guarantees.
        let s = unsafe { get(skb, "usk_skb_header") }?;
        if s.may_pull(n) { Ok(s.linear().as_ptr().cast()) } else { Err(Error::Inval) }
    })
}

/// Copies up to `len` bytes of the packet, beginning at `offset`; returns how many (skb_copy_bits).
/// # Safety
/// `skb` is a packet; `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_copy(skb: *mut usk_skb_t, offset: usize, to: *mut c_void, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (s, to) = unsafe { (get(skb, "usk_skb_copy")?, slice_mut(to, len)?) };
        Ok(s.copy_out(offset, to) as isize)
    })
}

/// Largest truesize of a packet: a sock's memory accounts are ints.
const MOST: usize = 1 << 30;

/// How many more bytes may be appended.
#[inline]
pub(super) fn room(skb: &SkbInner) -> usize {
    // A page is at most twice as large as the bytes appended at once, or it has the smallest size.
    (MOST.saturating_sub(skb.truesize as usize) / 2).saturating_sub(4096)
}

/// Appends a copy of `len` bytes. The packet's truesize grows. -EMSGSIZE: it would pass 2^30.
/// # Safety
/// `skb` is a packet; `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_append(skb: *mut usk_skb_t, data: *const c_void, len: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (s, data) = unsafe { (get(skb, "usk_skb_append")?, slice(data, len)?) };
        if data.len() > room(s) {
            return Err(Error::MsgSize);
        }
        s.append(data, len);
        Ok(0)
    })
}

/// The ones-complement sum of `len` bytes of a packet from `offset` on, added to `sum`, for usk_csum_fold
/// (skb_checksum). Bytes beyond its end are ignored.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_csum(skb: *mut usk_skb_t, offset: usize, len: usize, sum: u32) -> u32 {
    kernel(|| {
        // SAFETY: a packet, as the caller guarantees.
        let s = unsafe { get(skb, "usk_skb_csum") }?;
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

/// Returns 1 if the checksum need not be verified, because the packet did not leave the machine or the device has
/// verified it (CHECKSUM_UNNECESSARY).
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_csum_unnecessary(skb: *mut usk_skb_t) -> c_int {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_csum_unnecessary") }.map(|s| (s.csum != Csum::None).into()))
}

/// Leaves a packet's checksum open (CHECKSUM_PARTIAL): the Internet checksum of all bytes from `start` on, into the
/// field `offset` bytes behind that, is computed by the device that puts the packet on a wire, or before it by the
/// stack, and over the loopback device not at all, where the receiver has usk_skb_csum_unnecessary. `sum` is what it
/// begins with, as usk_csum_pseudo returns it; it is stored in the field. The packet begins with the protocol's header,
/// which usk_skb_push has made. For the next sending. Returns 0; -EINVAL: the field is not in that header.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_csum_partial(skb: *mut usk_skb_t, start: u32, offset: u32, sum: u32) -> c_int {
    kernel(|| {
        // SAFETY: a packet, as the caller guarantees.
        let skb = unsafe { get(skb, "usk_skb_csum_partial") }?;
        let (Ok(start), Ok(offset)) = (u16::try_from(start), u16::try_from(offset)) else { return Err(Error::Inval) };
        let field = usize::from(start) + usize::from(offset);
        let bytes = skb.head_mut().get_mut(field..field + 2).ok_or(Error::Inval)?;
        bytes.copy_from_slice(&checksum::fold(sum).to_be_bytes());
        prepare(skb);
        skb.csum = Csum::Partial { start, offset };
        Ok(0)
    })
}

/// Payload bytes of each packet that a super-packet stands for; 0: it is an ordinary packet. Of a received one: it came
/// over the loopback device, or was joined by merge, and has the header of the first.
/// # Safety
/// `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_gso_size(skb: *mut usk_skb_t) -> u32 {
    // SAFETY: a packet, as the caller guarantees.
    kernel(|| unsafe { get(skb, "usk_skb_gso_size") }.map(|s| s.gso_size.into()))
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
    // SAFETY:, as the caller guarantees.
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
            // SAFETY: from Box::into_raw in usk_queue_new, freed once, as the caller guarantees.
            let queue = unsafe { Box::from_raw(q) };
            queue.list.into_iter().for_each(|skb| drop(left(skb, "usk_queue_free")));
        }
        Ok(())
    });
}

/// Packets in the queue.
/// # Safety
/// `q` is a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_len(q: *mut usk_queue_t) -> usize {
    // SAFETY: a queue, as the caller guarantees.
    kernel(|| unsafe { queue(q) }.map(|q| q.list.len()))
}

/// Inserts a packet before position `at` (0: the front); beyond the end it is appended. Always consumes `skb`.
/// # Safety
/// `q` is a queue; `skb` is the caller's, and not used afterwards but through the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_insert(q: *mut usk_queue_t, at: usize, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (skb, q) = unsafe { (take(skb, "usk_queue_insert")?, queue(q)?) };
        let at = at.min(q.list.len());
        q.list.insert(at, skb);
        Ok(0)
    })
}

/// Appends a packet (skb_queue_tail). Always consumes `skb`.
/// # Safety
/// As usk_queue_insert.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_push(q: *mut usk_queue_t, skb: *mut usk_skb_t) -> c_int {
    // SAFETY: the same promises.
    unsafe { usk_queue_insert(q, usize::MAX, skb) }
}

/// The packet at position `at`, which stays in the queue; null: there are not so many (skb_peek).
/// # Safety
/// `q` is a queue; the packet is used before the queue changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_peek(q: *mut usk_queue_t, at: usize) -> *mut usk_skb_t {
    // SAFETY: a queue, as the caller guarantees.
    kernel(|| {
        unsafe { queue(q) }.map(|q| q.list.get_mut(at).map_or(std::ptr::null_mut(), |skb| lend(skb, "usk_queue_peek")))
    })
}

/// Removes and returns the packet at position `at`; the caller owns it. Null: there are not so many (__skb_unlink).
/// # Safety
/// `q` is a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_remove(q: *mut usk_queue_t, at: usize) -> *mut usk_skb_t {
    kernel(|| {
        // SAFETY: a queue, as the caller guarantees.
        let q = unsafe { queue(q) }?;
        let Some(skb) = q.list.remove(at) else { return Ok(std::ptr::null_mut()) };
        Ok(give(skb))
    })
}

/// Removes and returns the first packet (skb_dequeue); null: the queue is empty.
/// # Safety
/// `q` is a queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_queue_pop(q: *mut usk_queue_t) -> *mut usk_skb_t {
    // SAFETY: the same promise.
    unsafe { usk_queue_remove(q, 0) }
}
