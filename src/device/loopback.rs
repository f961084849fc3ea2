//! The loopback device: packets sent are received by the same stack, by pointer. Needs no privileges. Super-packets
//! pass unsegmented and checksums are not computed. A queue for each thread, up to a number of them, so that threads
//! with sockets of their own share no lock and each does its own packets' softirq: `netdev` chooses the queue. Linux:
//! drivers/net/loopback.c, and the backlog of each CPU (softnet_data).

use super::{Caps, DevStats, Device, LinkType, Xmit};
use crate::base::env::Instant;
use crate::counters::SHARDS;
use crate::sock::skb::{Csum, SKB_OVERHEAD, Skb};
use crate::sys::lock::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module's text.
#[derive(Debug)]
pub struct Loopback {
    queues: [Queue; SHARDS],
}

/// Two threads do not write to one pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Queue {
    list: Mutex<List>,
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct List {
    /// The first, if no packet was in the list when it came. Most are taken before the next comes.
    first: Option<Skb>,
    /// Those behind it.
    more: VecDeque<Skb>,
    /// Number of packets sent.
    packets: u64,
    bytes: u64,
}

impl List {
    /// Appends; returns how many there are now.
    #[inline]
    fn push(&mut self, skb: Skb) -> usize {
        if self.len() == 0 {
            self.first = Some(skb);
            return 1;
        }
        self.more.push_back(skb);
        self.len()
    }

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }
}

impl Loopback {
    /// A loopback device with empty queues.
    pub fn new() -> Loopback {
        Loopback { queues: Default::default() }
    }
}

impl Default for Loopback {
    fn default() -> Loopback {
        Loopback::new()
    }
}

impl Device for Loopback {
    fn name(&self) -> &str {
        "lo"
    }

    fn caps(&self) -> Caps {
        Caps {
            link: LinkType::Ip,
            mtu: 65_536,
            queues: SHARDS as u16,
            tx_csum: true,
            tso: true,
            every_cwr: true,
            uso: true,
            gso_software: true,
            scatter_gather: true,
            gso_max_size: 65_536,
            gso_max_segs: 65_535,
            loopback: true,
            replies_follow: false,
            departure_times: false,
        }
    }

    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let Some(q) = self.queues.get(usize::from(queue)) else { return Ok(0) };
        let mut list = q.list.lock();
        let n = list.len().min(budget);
        let first = if n > 0 { list.first.take() } else { None };
        let more = n - usize::from(first.is_some());
        let batch: SmallVec<[Skb; 16]> = first.into_iter().chain(list.more.drain(..more)).collect();
        q.len.store(list.len(), Ordering::Release);
        drop(list);
        for mut skb in batch {
            skb.tstamp = now;
            sink(skb);
        }
        Ok(n)
    }

    fn recv_only(&self, queue: u16) -> Option<Skb> {
        self.only(queue)
    }

    fn xmit(&self, queue: u16, _: Instant, skb: Skb) -> Xmit {
        self.take(queue, skb)
    }

    fn has_pending(&self, queue: u16) -> bool {
        self.is_pending(queue)
    }

    fn stats(&self) -> DevStats {
        let (mut p, mut b) = (0, 0);
        for q in &self.queues {
            let list = q.list.lock();
            (p, b) = (p + list.packets, b + list.bytes);
        }
        DevStats { rx_packets: p, rx_bytes: b, tx_packets: p, tx_bytes: b, ..DevStats::default() }
    }
}

/// Its functions for each packet, for `netdev`, which knows the stack's own.
impl Loopback {
    /// As [`Device::recv_only`].
    #[inline]
    pub(super) fn only(&self, queue: u16) -> Option<Skb> {
        let q = self.queues.get(usize::from(queue))?;
        let mut list = q.list.lock();
        if !list.more.is_empty() {
            return None;
        }
        let skb = list.first.take()?;
        q.len.store(0, Ordering::Release);
        Some(skb)
    }

    /// As [`Device::xmit`].
    #[inline]
    pub(super) fn take(&self, queue: u16, mut skb: Skb) -> Xmit {
        // The sender's charge ends here. The receiver is charged for the bytes, not for the unused room in the sender's
        // pages: a receive window derived from that would be smaller than the sender's segments, and each would wait
        // for a zero-window probe.
        skb.owner = None;
        if skb.zerocopy.is_some() || skb.tx_stamp.is_some() {
            (skb.zerocopy, skb.tx_stamp) = (None, None);
        }
        if self.take_bare(queue, skb) { Xmit::Sent } else { Xmit::Dropped(io::Error::from_raw_os_error(libc::ENODEV)) }
    }

    /// The same of a packet that is charged to nobody, has no bytes of MSG_ZEROCOPY, and no transmit timestamp. False:
    /// there is no such queue.
    #[inline(always)]
    pub(super) fn take_bare(&self, queue: u16, mut skb: Skb) -> bool {
        let Some(q) = self.queues.get(usize::from(queue)) else { return false };
        skb.truesize = SKB_OVERHEAD + skb.data_len() as u32;
        if skb.csum != Csum::None {
            skb.csum = Csum::Unnecessary;
        }
        let mut list = q.list.lock();
        list.packets += 1;
        list.bytes += skb.len() as u64;
        let len = list.push(skb);
        q.len.store(len, Ordering::Release);
        true
    }

    /// As [`Device::has_pending`].
    #[inline]
    pub(super) fn is_pending(&self, queue: u16) -> bool {
        self.queues.get(usize::from(queue)).is_some_and(|q| q.len.load(Ordering::Acquire) > 0)
    }
}
