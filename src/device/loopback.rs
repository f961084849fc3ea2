//! The loopback device: packets sent are received by the same stack, by pointer. Needs no privileges. Super-packets
//! pass unsegmented and checksums are not computed. Linux: drivers/net/loopback.c.

use super::{Caps, DevStats, Device, LinkType, Xmit};
use crate::base::env::Instant;
use crate::sock::skb::{Csum, SKB_OVERHEAD, Skb};
use crate::sys::lock::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module's text.
#[derive(Debug, Default)]
pub struct Loopback {
    queue: Mutex<Queue>,
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    skbs: VecDeque<Skb>,
    /// Number of packets sent.
    packets: u64,
    bytes: u64,
}

impl Loopback {
    /// A loopback device with an empty queue.
    pub fn new() -> Loopback {
        Loopback::default()
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
            queues: 1,
            tx_csum: true,
            tso: true,
            every_cwr: true,
            uso: true,
            scatter_gather: true,
            gso_max_size: 65_536,
            gso_max_segs: 65_535,
            loopback: true,
            departure_times: false,
        }
    }

    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let batch: SmallVec<[Skb; 16]> = {
            let mut q = self.queue.lock();
            let n = q.skbs.len().min(budget);
            let batch = q.skbs.drain(..n).collect();
            self.len.store(q.skbs.len(), Ordering::Release);
            batch
        };
        let n = batch.len();
        for mut skb in batch {
            skb.tstamp = now;
            sink(skb);
        }
        Ok(n)
    }

    fn xmit(&self, _: u16, _: Instant, mut skb: Skb) -> Xmit {
        // The sender's charge ends here. The receiver is charged for the bytes, not for the unused room in the sender's
        // pages: a receive window derived from that would be smaller than the sender's segments, and each would wait
        // for a zero-window probe.
        (skb.owner, skb.zerocopy, skb.tx_stamp) = (None, None, None);
        skb.truesize = SKB_OVERHEAD + skb.data_len() as u32;
        if skb.csum != Csum::None {
            skb.csum = Csum::Unnecessary;
        }
        let mut q = self.queue.lock();
        q.packets += 1;
        q.bytes += skb.len() as u64;
        q.skbs.push_back(skb);
        self.len.store(q.skbs.len(), Ordering::Release);
        Xmit::Sent
    }

    fn has_pending(&self, _: u16) -> bool {
        self.len.load(Ordering::Acquire) > 0
    }

    fn stats(&self) -> DevStats {
        let (p, b) = {
            let q = self.queue.lock();
            (q.packets, q.bytes)
        };
        DevStats { rx_packets: p, rx_bytes: b, tx_packets: p, tx_bytes: b, ..DevStats::default() }
    }
}
