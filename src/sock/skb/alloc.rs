//! Where packets come from and go to: a cache of each thread's. Above: whoever makes a packet. Below: `pool`. Linux:
//! __alloc_skb, skb_clone, __kfree_skb.

use super::{CB_WORDS, Csum, GsoType, HEAD, L3, Looped, SKB_OVERHEAD, Skb, SkbInner, TcpCb};
use crate::base::env::Instant;
use crate::sock::pool::{Local, Shared};
use crate::sys::kept::{Keep, Kept};
use crate::sys::near::near_local;
use smallvec::SmallVec;
use std::cell::RefCell;

static SHARED: Shared<Box<SkbInner>> = Shared::new(4096);

near_local! {
    static LOCAL at Packets: RefCell<Local<Box<SkbInner>>> = RefCell::new(Local::new(128, &SHARED));
}

/// A packet whose fragment vector is larger than this frees it on release, so that many small segments of a peer do not
/// occupy memory for good.
const MAX_KEPT_FRAGS: usize = 32;

impl Keep for Box<SkbInner> {
    /// Drops what the packet refers to now; the other fields are reset when it is taken from the pool again.
    #[inline]
    fn keep(mut self) {
        if self.owner.is_some() {
            self.owner = None;
        }
        let rare = self.zerocopy.is_some() || self.tx_stamp.is_some() || self.saved_header.is_some();
        if rare || self.pieces.is_some() || self.receiver.is_some() {
            (self.zerocopy, self.tx_stamp) = (None, None);
            (self.saved_header, self.pieces, self.receiver) = (None, None, None);
        }
        // Most packets have one at most, in place.
        if self.frags.spilled() || self.frags.len() > 1 {
            self.drop_frags();
        } else if let Some(one) = self.frags.pop() {
            drop(one);
        }
        // A thread that is ending has no pool any more: the packet is freed.
        let _ = LOCAL.try_with(|l| l.borrow_mut().put(self));
    }
}

#[cold]
#[inline(never)]
fn fresh() -> Box<SkbInner> {
    Box::new(SkbInner::empty())
}

impl Skb {
    /// An empty packet with the whole head as header room.
    pub fn new() -> Skb {
        let kept = LOCAL.try_with(|l| l.borrow_mut().take()).flatten();
        Skb(Kept::new(kept.map_or_else(fresh, SkbInner::renewed)))
    }

    /// A packet whose fields are to be set: those without [`Keep`]'s care are what they were last.
    fn stale() -> Skb {
        let kept = LOCAL.try_with(|l| l.borrow_mut().take()).flatten();
        Skb(Kept::new(kept.unwrap_or_else(fresh)))
    }
}

impl SkbInner {
    #[cold]
    fn drop_frags(&mut self) {
        self.frags.clear();
        if self.frags.capacity() > MAX_KEPT_FRAGS {
            self.frags = SmallVec::new();
        }
    }

    pub(super) fn empty() -> SkbInner {
        SkbInner {
            head: [0; HEAD],
            head_start: HEAD as u16,
            head_end: HEAD as u16,
            frags: SmallVec::new(),
            len: 0,
            truesize: SKB_OVERHEAD,
            ifindex: 0,
            l3: L3::V4,
            link_multicast: false,
            csum: Csum::None,
            gso_size: 0,
            gso_type: GsoType::None,
            pieces: None,
            tx_ready: false,
            every_cwr: false,
            looped: Looped::No,
            rx_segs: 1,
            nh_len: 0,
            tstamp: Instant::ZERO,
            tx_time: Instant::ZERO,
            hash: 0,
            mark: 0,
            priority: 0,
            frag_max_size: 0,
            tcp: TcpCb::default(),
            cb: [0; CB_WORDS],
            receiver: None,
            rx: None,
            owner: None,
            zerocopy: None,
            tx_stamp: None,
            saved_header: None,
        }
    }

    /// A packet from the pool, reset, except for the capacity of its fragment vector. The head is zeroed too: bytes
    /// that `unpull` exposes must be this packet's.
    fn renewed(mut kept: Box<SkbInner>) -> Box<SkbInner> {
        let SkbInner {
            head,
            head_start,
            head_end,
            frags: _,
            len,
            truesize,
            ifindex,
            l3,
            link_multicast,
            csum,
            gso_size,
            gso_type,
            pieces: _,
            tx_ready,
            every_cwr,
            looped,
            rx_segs,
            nh_len,
            tstamp,
            tx_time,
            hash,
            mark,
            priority,
            frag_max_size,
            tcp,
            cb,
            receiver: _,
            rx,
            owner: _,
            zerocopy: _,
            tx_stamp: _,
            saved_header: _,
        } = &mut *kept;
        *head = [0; HEAD];
        (*head_start, *head_end) = (HEAD as u16, HEAD as u16);
        (*len, *truesize, *ifindex, *l3, *link_multicast) = (0, SKB_OVERHEAD, 0, L3::V4, false);
        (*csum, *gso_size, *gso_type, *rx_segs, *nh_len) = (Csum::None, 0, GsoType::None, 1, 0);
        (*every_cwr, *tx_ready, *looped) = (false, false, Looped::No);
        (*tstamp, *tx_time, *hash) = (Instant::ZERO, Instant::ZERO, 0);
        (*mark, *priority, *frag_max_size) = (0, 0, 0);
        (*tcp, *cb, *rx) = (TcpCb::default(), [0; CB_WORDS], None);
        kept
    }

    /// A packet with the bytes of this one and nothing else of it, for a sender that itself writes the header and all
    /// that is noted of it.
    pub(crate) fn share_bytes(&self) -> Skb {
        let mut s = Skb::new();
        self.share_bytes_with(&mut s);
        s
    }

    /// The part of `share` that is about bytes. The rest of the head of `to` is zero.
    #[inline(always)]
    fn share_bytes_with(&self, to: &mut SkbInner) {
        if self.head_start < self.head_end {
            let used = self.head_start as usize..self.head_end as usize;
            to.head[used.clone()].copy_from_slice(&self.head[used]);
        }
        (to.head_start, to.head_end) = (self.head_start, self.head_end);
        match &self.frags[..] {
            [] => {}
            [one] => to.frags.push(one.clone()),
            more => to.frags.extend(more.iter().cloned()),
        }
        (to.len, to.truesize) = (self.len, self.truesize);
    }

    /// Shares this packet's payload and copies its head: the copy goes to the device while the original waits for its
    /// acknowledgement (skb_clone). The owner is not inherited.
    pub fn share(&self) -> Skb {
        let mut s = Skb::stale();
        s.head = [0; HEAD];
        self.share_bytes_with(&mut s);
        let SkbInner {
            head: _,
            head_start: _,
            head_end: _,
            frags: _,
            len: _,
            truesize: _,
            ifindex,
            l3,
            link_multicast,
            csum,
            gso_size,
            gso_type,
            pieces,
            tx_ready,
            every_cwr,
            looped,
            rx_segs,
            nh_len,
            tstamp,
            tx_time,
            hash,
            mark,
            priority,
            frag_max_size,
            tcp,
            cb,
            receiver: _,
            rx,
            owner: _,
            zerocopy: _,
            tx_stamp,
            saved_header,
        } = &mut **s.0;
        (*ifindex, *l3, *link_multicast) = (self.ifindex, self.l3, self.link_multicast);
        (*csum, *gso_size, *gso_type, *tx_ready) = (self.csum, self.gso_size, self.gso_type, self.tx_ready);
        (*every_cwr, *looped) = (self.every_cwr, Looped::No);
        (*rx_segs, *nh_len) = (self.rx_segs, self.nh_len);
        (*tstamp, *tx_time, *hash) = (self.tstamp, self.tx_time, self.hash);
        (*mark, *priority, *frag_max_size) = (self.mark, self.priority, self.frag_max_size);
        (*tcp, *cb, *rx) = (self.tcp, [0; CB_WORDS], self.rx);
        // Few packets have these.
        if self.pieces.is_some() || self.tx_stamp.is_some() || self.saved_header.is_some() {
            *pieces = self.pieces.clone();
            *tx_stamp = self.tx_stamp.clone();
            *saved_header = self.saved_header.clone();
        }
        s
    }
}
