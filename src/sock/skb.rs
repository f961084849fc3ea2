//! Packet buffers. An [`Skb`] is a small linear head, where headers are built in front of data, and payload in shared
//! page fragments. Above: the protocols' queues. Below: devices, which send `slices()` and make received ones. A
//! received datagram starts with an empty head and everything in its first fragments; `pull` walks over the headers.
//! One `Skb` may stand for many segments (`gso_size`), up to 64 KiB. In `alloc`: where it comes from; in `tcp_cb`: what
//! TCP keeps with it. Linux: struct sk_buff, skb_shared_info.

use super::page::{CLASSES, Frag, Page, PageRef};
use crate::base::env::Instant;
use crate::sock::Sock;
use crate::sock::offload::Pieces;
use crate::sock::tstamp::TxStamp;
use crate::sock::zerocopy::ZeroCopy;
use crate::sys::kept::Kept;
use crate::sys::one_of::pointer;
use crate::wire::checksum::{self, Checksum};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

mod alloc;
mod tcp_cb;

pub(crate) use tcp_cb::{CB_FLOW, CB_STAMPS, Known, TcpCb, sacked};

/// Bytes of linear head: Ethernet 14, IPv6 40, a fragment header 8, TCP with all options 60, rounded up.
/// `Proto::max_header` returns it.
pub const HEAD: usize = 128;
/// Memory of one `Skb` besides its pages, in bytes: the part of `truesize` that is not payload.
pub const SKB_OVERHEAD: u32 = 832;
/// Most fragments of a packet in TCP's queues: as many as a device takes at once (MAX_SKB_FRAGS).
pub(crate) const MAX_SKB_FRAGS: usize = 17;
/// Largest payload of one super-packet, in bytes (Linux: GSO_LEGACY_MAX_SIZE).
pub const GSO_MAX_SIZE: u32 = 65_536;

/// Words of `SkbInner::cb`: 48 bytes, as in Linux.
pub const CB_WORDS: usize = 6;

/// What is known about the transport checksum of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Csum {
    /// Nothing: the receiver must verify it, or the sender has written a complete checksum.
    #[default]
    None,
    /// Verified by the device, or the packet never left this machine (CHECKSUM_UNNECESSARY).
    Unnecessary,
    /// This host has summed all bytes, and they are right (CHECKSUM_COMPLETE).
    Complete,
    /// The field holds the sum of the pseudo-header; the device that puts the packet on a real wire completes it
    /// (CHECKSUM_PARTIAL). `start` is where summing begins and `offset` the field's distance from there, both in bytes;
    /// `start` counts from the first byte of the network header.
    Partial {
        /// First summed byte.
        start: u16,
        /// Offset of the checksum field from `start`.
        offset: u16,
    },
}

/// How a super-packet is to be segmented, or what a received one was coalesced from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GsoType {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of equal size (USO).
    Udp,
    /// Packets of a protocol that is plugged in, which makes their headers: [`SkbInner::pieces`].
    Protocol,
}

/// What is known of a packet that this stack has sent to itself, so that input need not find it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Looped {
    /// Nothing.
    #[default]
    No,
    /// IPv4, of this stack, with the headers that its protocol and IP have just made: they are good.
    Headers,
    /// The same, TCP, and `tcp` and `rx` have what its receiver reads in the headers, but for time and interface.
    Segment,
}

/// Network protocol of a packet without link header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum L3 {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

/// Charges a sock for bytes in a device's queue. Dropping it is the transmit completion (Linux: tcp_wfree, sock_wfree).
#[derive(Debug)]
pub struct TxOwner {
    /// None only while it is dropped.
    sock: Option<Arc<Sock>>,
    truesize: u32,
}

impl TxOwner {
    /// Charges `truesize` bytes to the sock's `wmem_alloc` until the value is dropped.
    pub fn new(sock: &Arc<Sock>, truesize: u32) -> TxOwner {
        sock.wmem_alloc.fetch_add(truesize, Ordering::Relaxed);
        TxOwner { sock: Some(sock.clone()), truesize }
    }
    /// The sock that sent the packet.
    #[inline]
    pub fn sock(&self) -> Option<&Arc<Sock>> {
        self.sock.as_ref()
    }
}

impl Drop for TxOwner {
    fn drop(&mut self) {
        if let Some(sock) = self.sock.take() {
            sock.tx_completed(self.truesize);
            sock.put_later();
        }
    }
}

pointer! {
    /// A packet; see the module's text. A pointer, so cheap to move.
    #[derive(Debug)]
    pub struct Skb(SkbInner);
}

/// The fields of an [`Skb`].
#[derive(Debug)]
#[non_exhaustive]
pub struct SkbInner {
    head: [u8; HEAD],
    head_start: u16,
    head_end: u16,
    frags: SmallVec<[Frag; 2]>,
    len: u32,
    /// Bytes of memory this packet is charged with.
    pub truesize: u32,
    /// Device it arrived on, or leaves by: index in the stack's device table plus one; 0 for none.
    pub ifindex: u32,
    /// Network protocol.
    pub l3: L3,
    /// Arrived in a link-layer broadcast or multicast frame.
    pub link_multicast: bool,
    /// Transport checksum.
    pub csum: Csum,
    /// Payload bytes a segment, 0 for an ordinary packet.
    pub gso_size: u16,
    /// How it is segmented.
    pub gso_type: GsoType,
    /// Of [`GsoType::Protocol`]: who makes the headers of its pieces.
    pub pieces: Option<Pieces>,
    /// A protocol has set `csum` and the segmentation for the next sending, which takes the mark; otherwise they are
    /// what the packet was received with.
    pub tx_ready: bool,
    /// CWR is in each segment of a super-packet, for it is a bit of a counter (SKB_GSO_TCP_ACCECN). Otherwise it is in
    /// the first only.
    pub every_cwr: bool,
    /// Set on its way through the loopback device. What looks at the packet on its way sees the same as ever.
    pub(crate) looped: Looped,
    /// Number of segments in a received super-packet (at least 1).
    pub rx_segs: u16,
    /// Length of the network header, set by IP input; the transport header follows.
    pub nh_len: u16,
    /// Time of arrival, for receive timestamps and RTT.
    pub tstamp: Instant,
    /// Earliest departure time (pacing), or `Instant::ZERO`.
    pub tx_time: Instant,
    /// Hash of the flow, for the choice of a device queue.
    pub hash: u32,
    /// SO_MARK and SO_PRIORITY of what it was sent by. Only the loopback device passes them on.
    pub(crate) mark: u32,
    /// See `mark`.
    pub(crate) priority: u32,
    /// Received in fragments: bytes of the largest one, with its IP header; 0: in one packet (IPCB.frag_max_size).
    pub(crate) frag_max_size: u16,
    /// TCP's control block.
    pub(crate) tcp: TcpCb,
    /// Control block for any other protocol that has the packet in its queues (sk_buff.cb); zero in a new packet and in
    /// one made by `share`. Of a segment to this stack: see `Known`.
    pub cb: [u64; CB_WORDS],
    /// Of a segment to this stack: who receives it, if its sender knows ([`Sock::is_found_by`]).
    pub(crate) receiver: Option<Arc<Sock>>,
    /// Received: header fields of the datagram.
    pub rx: Option<super::packet::PacketInfo>,
    /// The sock whose write memory this packet holds while a device has it.
    pub owner: Option<TxOwner>,
    /// Has bytes of MSG_ZEROCOPY calls: freeing the packet completes them. A packet that shares these bytes does not
    /// have it, because every device is given memory of the stack's own (skb_zcopy).
    pub(crate) zerocopy: Option<ZeroCopy>,
    /// Its events are reported to the program (SKBTX_ANY_TSTAMP, tskey).
    pub(crate) tx_stamp: Option<TxStamp>,
    /// Received: the IPv4 header, where it has options; the IPv6 header and its extension headers, where it has some.
    pub(crate) saved_header: Option<Box<[u8]>>,
}

impl std::ops::Deref for Skb {
    type Target = SkbInner;
    #[inline]
    fn deref(&self) -> &SkbInner {
        &self.0
    }
}
impl std::ops::DerefMut for Skb {
    #[inline]
    fn deref_mut(&mut self) -> &mut SkbInner {
        &mut self.0
    }
}

impl Default for Skb {
    fn default() -> Self {
        Skb::new()
    }
}

impl Skb {
    /// The packet as a raw box, for a queue that only handles pointers (the C API). [`Skb::from_box`] reverses it.
    pub fn into_box(self) -> Box<SkbInner> {
        self.0.into_inner()
    }

    /// A packet from [`Skb::into_box`].
    pub fn from_box(inner: Box<SkbInner>) -> Skb {
        Skb(Kept::new(inner))
    }

    /// A packet with a copy of `data` as its bytes.
    pub fn from_slice(data: &[u8]) -> Skb {
        let mut skb = Skb::new();
        for f in Frag::from_slice(data) {
            skb.push_frag(f);
        }
        skb
    }

    /// Splits the packet at payload byte `at`: `self` keeps the first `at` bytes, the result has the rest. Shares
    /// pages. The head must be empty (a queued segment, not one with headers). `tcp` is copied; the caller adjusts it.
    pub fn split_off(&mut self, at: usize) -> Skb {
        debug_assert_eq!(self.head_start, self.head_end);
        let mut rest = Skb::new();
        rest.tcp = self.tcp;
        rest.zerocopy = self.zerocopy.clone();
        rest.l3 = self.l3;
        rest.tstamp = self.tstamp;
        rest.ifindex = self.ifindex;
        let mut keep = at;
        let mut i = 0;
        while i < self.frags.len() && keep >= self.frags[i].len as usize {
            keep -= self.frags[i].len as usize;
            i += 1;
        }
        let mut tail: SmallVec<[Frag; 2]> = self.frags.drain(i..).collect();
        if keep > 0
            && let Some(first) = tail.first_mut()
        {
            self.0.frags.push(Frag { page: first.page.clone(), off: first.off, len: keep as u32 });
            first.off += keep as u32;
            first.len -= keep as u32;
        }
        rest.frags = tail;
        let at = at.min(self.len as usize) as u32;
        rest.len = self.len - at;
        self.len = at;
        // Both halves share pages now; each is charged for its own bytes, so that the sum is not below the bytes held.
        rest.truesize = SKB_OVERHEAD + rest.len;
        self.truesize = SKB_OVERHEAD + self.truesize.saturating_sub(SKB_OVERHEAD + rest.len).max(self.len);
        rest
    }
}

impl SkbInner {
    /// Whether the payload's first page has another holder: of a packet over loopback, the sender, until it is
    /// acknowledged (skb_cloned).
    pub(crate) fn is_cloned(&self) -> bool {
        self.frags.first().is_some_and(|f| f.page.is_shared())
    }

    /// Whether bytes of `next` may move to this packet: each packet of a MSG_ZEROCOPY call keeps its own (skb_shift).
    pub(crate) fn may_take_from(&self, next: &Skb) -> bool {
        self.zerocopy.is_none() && next.zerocopy.is_none()
    }

    /// Bytes in the packet, head and fragments.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }
    /// Whether the packet has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Bytes in the linear head.
    #[inline]
    pub fn head_len(&self) -> usize {
        (self.head_end - self.head_start) as usize
    }
    /// Bytes in fragments.
    #[inline]
    pub fn data_len(&self) -> usize {
        self.len as usize - self.head_len()
    }
    /// The fragments.
    pub(crate) fn frags(&self) -> &[Frag] {
        &self.frags
    }

    /// Adds `n` zeroed bytes of header in front. None when the head has less room than that.
    #[inline]
    pub fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        let s = self.push_stale(n)?;
        s.fill(0);
        Some(s)
    }

    /// As [`push`](SkbInner::push), for a caller that writes all of the bytes: they are what was there before.
    #[inline]
    pub(crate) fn push_stale(&mut self, n: usize) -> Option<&mut [u8]> {
        let start = (self.head_start as usize).checked_sub(n)?;
        let s = self.head.get_mut(start..start + n)?;
        self.head_start = start as u16;
        self.len += n as u32;
        Some(s)
    }

    /// Bytes that [`Skb::push`] still has room for.
    pub(crate) fn headroom(&self) -> usize {
        self.head_start as usize
    }

    /// Removes the first `n` bytes, head first. False, with nothing done, when there are fewer.
    #[inline(always)]
    pub fn pull(&mut self, n: usize) -> bool {
        // As of most headers.
        if n <= self.head_len() {
            (self.head_start, self.len) = (self.head_start + n as u16, self.len - n as u32);
            return true;
        }
        self.pull_frags(n)
    }

    #[inline(never)]
    fn pull_frags(&mut self, n: usize) -> bool {
        if n > self.len as usize {
            return false;
        }
        self.len -= n as u32;
        let from_head = n.min(self.head_len());
        self.head_start += from_head as u16;
        let mut left = n - from_head;
        while left > 0 {
            let f = &mut self.frags[0];
            if (f.len as usize) > left {
                f.off += left as u32;
                f.len -= left as u32;
                break;
            }
            left -= f.len as usize;
            self.frags.remove(0);
        }
        true
    }

    /// Restores the `n` bytes in front, as if they had not been pulled. False, with nothing done, when the head never
    /// had that many in front. Unless they were pulled just before, they may be other bytes: the caller must check
    /// them.
    pub fn unpull(&mut self, n: usize) -> bool {
        let in_head = self.head_start < self.head_end || self.frags.first().is_none_or(|f| (f.off as usize) < n);
        if in_head {
            let Some(start) = (self.head_start as usize).checked_sub(n) else { return false };
            self.head_start = start as u16;
        } else if let Some(f) = self.frags.first_mut() {
            f.off -= n as u32;
            f.len += n as u32;
        }
        self.len += n as u32;
        true
    }

    /// Shortens the packet to `len` bytes; no effect when it is not longer.
    pub fn trim(&mut self, len: usize) {
        if len >= self.len as usize {
            return;
        }
        let head = self.head_len();
        self.len = len as u32;
        if len <= head {
            self.head_end = self.head_start + len as u16;
            self.frags.clear();
            return;
        }
        let mut left = len - head;
        let mut keep = 0;
        for f in self.frags.iter_mut() {
            if left == 0 {
                break;
            }
            f.len = f.len.min(left as u32);
            left -= f.len as usize;
            keep += 1;
        }
        self.frags.truncate(keep);
    }

    /// The longest contiguous run at the front.
    #[inline]
    pub fn linear(&self) -> &[u8] {
        if self.head_start < self.head_end {
            &self.head[self.head_start as usize..self.head_end as usize]
        } else {
            self.frags.first().map_or(&[], |f| f.bytes())
        }
    }

    /// Makes the first `n` bytes contiguous, so that `linear()` has at least those. False when the packet is shorter.
    /// Copies only where a header straddles fragments (pskb_may_pull).
    #[inline]
    pub fn may_pull(&mut self, n: usize) -> bool {
        if self.linear().len() >= n {
            return true;
        }
        self.pull_slow(n)
    }

    fn pull_slow(&mut self, n: usize) -> bool {
        if n > self.len as usize {
            return false;
        }
        let mut page = Page::alloc(n);
        let Some(p) = page.get_mut() else { return false };
        if p.size() < n {
            return false;
        }
        self.copy_out(0, &mut p.bytes_mut()[..n]);
        let truesize = page.size() as u32;
        self.pull(n);
        self.head_start = HEAD as u16;
        self.head_end = HEAD as u16;
        self.frags.insert(0, Frag { page, off: 0, len: n as u32 });
        self.len += n as u32;
        self.truesize += truesize;
        true
    }

    /// The bytes of the linear head, writable: headers already pushed. Empty for a received packet.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        &mut self.head[self.head_start as usize..self.head_end as usize]
    }

    /// The head, then each fragment, without empty slices.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let head = &self.head[self.head_start as usize..self.head_end as usize];
        std::iter::once(head).chain(self.frags.iter().map(|f| f.bytes())).filter(|s| !s.is_empty())
    }

    /// The ones-complement sum of the bytes, added to `start` (skb_checksum).
    pub fn checksum(&self, start: u32) -> u32 {
        let mut sum = Checksum::new(start);
        self.slices().for_each(|s| {
            sum.push(s);
        });
        sum.partial()
    }

    /// Whether the transport checksum is right. `pseudo` computes the sum of the pseudo-header; it is called only if
    /// the bytes must be summed (skb_checksum_validate).
    #[inline]
    pub fn checksum_ok(&self, pseudo: impl FnOnce() -> u32) -> bool {
        match self.csum {
            // Partial: made by this machine, and was never on a wire.
            Csum::Unnecessary | Csum::Complete | Csum::Partial { .. } => true,
            Csum::None => checksum::is_valid(self.checksum(pseudo())),
        }
    }

    /// Copies bytes from `offset` on into `to`; returns how many were copied.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> usize {
        let (mut skip, mut done) = (offset, 0);
        for s in self.slices() {
            if skip >= s.len() {
                skip -= s.len();
                continue;
            }
            let n = (s.len() - skip).min(to.len() - done);
            to[done..done + n].copy_from_slice(&s[skip..skip + n]);
            done += n;
            skip = 0;
            if done == to.len() {
                break;
            }
        }
        done
    }

    /// All bytes in one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(self.len());
        self.slices().for_each(|s| v.extend_from_slice(s));
        v
    }

    /// Appends a fragment, or extends the last one if it continues in the same page. Charges the page's share.
    #[inline(always)]
    pub(crate) fn push_frag(&mut self, frag: Frag) {
        self.len += frag.len;
        if let Some(last) = self.frags.last_mut()
            && PageRef::same(&last.page, &frag.page)
            && last.off + last.len == frag.off
        {
            last.len += frag.len;
            return;
        }
        self.truesize += frag.page.size() as u32;
        self.frags.push(frag);
    }

    /// Appends by copying: first into the room left in the last page, if no one else refers to it, then into new pages
    /// of a size that fits `hint` more bytes (at least `data`). Returns the growth of `truesize`, in bytes.
    pub fn append(&mut self, data: &[u8], hint: usize) -> u32 {
        let before = self.truesize;
        let mut data = data;
        if let Some(last) = self.frags.last_mut()
            && let Some(page) = last.page.get_mut()
        {
            let at = (last.off + last.len) as usize;
            let n = data.len().min(page.size() - at);
            page.bytes_mut()[at..at + n].copy_from_slice(&data[..n]);
            last.len += n as u32;
            self.len += n as u32;
            data = &data[n..];
        }
        let mut hint = hint.max(data.len());
        while !data.is_empty() {
            let mut page = Page::alloc(hint);
            let Some(p) = page.get_mut() else { break };
            let n = data.len().min(p.size());
            p.bytes_mut()[..n].copy_from_slice(&data[..n]);
            data = &data[n..];
            hint = hint.saturating_sub(n);
            self.push_frag(Frag { page, off: 0, len: n as u32 });
        }
        self.truesize - before
    }

    /// Appends by copying, as a fragment of its own, however short: the bytes of one iovec of a MSG_ZEROCOPY call. They
    /// are charged by whole pages of the program's, which Linux pins (__zerocopy_sg_from_iter). Returns that charge.
    pub(crate) fn append_zerocopy(&mut self, data: &[u8]) -> u32 {
        const PAGE: usize = 4096;
        let offset = data.as_ptr() as usize % PAGE;
        let charge = (offset + data.len()).next_multiple_of(PAGE) as u32;
        let before = self.truesize;
        for frag in Frag::from_slice(data) {
            self.push_frag(frag);
        }
        self.truesize = before + charge;
        charge
    }

    /// Appends `other`'s bytes to this packet (coalescing): fragments are moved, not copied. `other` must have an empty
    /// head; returns the growth of `truesize`.
    pub(crate) fn append_frags(&mut self, other: &mut Skb) -> u32 {
        debug_assert_eq!(other.head_len(), 0);
        let before = self.truesize;
        for f in other.0.frags.drain(..) {
            self.push_frag(f);
        }
        other.0.len = 0;
        self.truesize - before
    }

    /// Copies a small packet in a large page into a page of its own size, so that `truesize` is accurate and the large
    /// page is free again (copybreak). No effect when it would not at least halve the memory.
    #[inline]
    pub fn shrink(&mut self) {
        match &self.frags[..] {
            [] => {}
            // A page of the smallest class is not too large for anything.
            [one] if one.page.size() == CLASSES[0] => {}
            _ => self.shrink_to_fit(),
        }
    }

    fn shrink_to_fit(&mut self) {
        let held: usize = self.frags.iter().map(|f| f.page.size()).sum();
        let need = CLASSES.iter().find(|&&c| c >= self.data_len()).copied().unwrap_or(usize::MAX);
        if need.saturating_mul(2) > held {
            return;
        }
        let n = self.data_len();
        let head = self.head_len();
        let mut page = Page::alloc(n);
        let Some(p) = page.get_mut() else { return };
        self.copy_out(head, &mut p.bytes_mut()[..n]);
        self.frags.clear();
        self.frags.push(Frag { page, off: 0, len: n as u32 });
        self.truesize = SKB_OVERHEAD + need as u32;
    }

    /// Charges a packet that a device received, of `len` bytes with all its headers, what Linux charges for it: the
    /// sk_buff, and the smallest memory that holds the packet, the room in front of it and skb_shared_info: up to two
    /// pages of the small heads' size and then kmalloc's, above that whole pages.
    pub(crate) fn charge_received(&mut self, len: usize) {
        const SK_BUFF: u32 = 256;
        /// NET_SKB_PAD.
        const PAD: u32 = 64;
        const SHARED_INFO: u32 = 320;
        /// SKB_SMALL_HEAD_CACHE_SIZE.
        const SMALL_HEAD: u32 = 576;
        const PAGE: u32 = 4096;
        let memory = match PAD + len as u32 + SHARED_INFO {
            ..=SMALL_HEAD => SMALL_HEAD,
            need @ ..=8192 => need.next_power_of_two(),
            need => need.next_multiple_of(PAGE),
        };
        self.truesize = SK_BUFF + memory;
    }
}

#[cfg(test)]
mod tests;
