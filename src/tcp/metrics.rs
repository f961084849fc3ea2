//! What is remembered of a peer from one connection to the next, by both addresses. Above: `fastopen` (a client's
//! cookies). Linux: net/ipv4/tcp_metrics.c. Not here: RTT, ssthresh, cwnd and reordering, which Linux remembers as
//! well.

use super::net::TcpNet;
use crate::base::env::Instant;
use crate::base::hash::addr128;
use crate::sock::SockCommon;
use crate::stack::Stack;
use crate::sys::lock::Mutex;
use crate::wire::tcp_options::FastOpenCookie;
use std::net::IpAddr;
use std::sync::OnceLock;

/// Buckets of the table; a power of two. With `DEPTH`, as many peers are remembered at most, so that no peer can make
/// it grow. Linux has 16,384.
const BUCKETS: usize = 1024;
/// Peers of a bucket: beyond, the oldest is forgotten (TCP_METRICS_RECLAIM_DEPTH).
const DEPTH: usize = 5;
/// Which of the stack's tables (`Keys::table_hash`).
const TABLE: u8 = 7;

/// A pair of addresses: ours, the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    saddr: u128,
    daddr: u128,
}

impl Pair {
    pub(super) fn new(saddr: IpAddr, daddr: IpAddr) -> Pair {
        Pair { saddr: addr128(saddr), daddr: addr128(daddr) }
    }

    pub(super) fn of(sk: &SockCommon) -> Pair {
        Pair::new(sk.saddr, sk.daddr)
    }
}

/// What a Fast Open client remembers of a server (tcp_fastopen_metrics).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FastOpenMetrics {
    /// Its MSS, 0: not known.
    pub mss: u16,
    /// 1: it did not answer a request of kind 34, the next one is of kind 254; 2: nor that.
    pub try_exp: u8,
    /// SYNs lost in a row that had data, and when the last one was.
    pub syn_loss: u16,
    pub last_syn_loss: Instant,
    /// Its cookie; never an empty one.
    pub cookie: Option<FastOpenCookie>,
}

/// What is remembered of a peer (tcp_metrics_block).
#[derive(Debug)]
struct Block {
    pair: Pair,
    /// When it was made.
    stamp: Instant,
    fastopen: FastOpenMetrics,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct TcpMetrics(OnceLock<Box<[Mutex<Vec<Block>>]>>);

impl TcpMetrics {
    fn bucket(&self, stack: &Stack, pair: Pair) -> &Mutex<Vec<Block>> {
        let buckets = self.0.get_or_init(|| (0..BUCKETS).map(|_| Mutex::default()).collect());
        let bytes = [pair.saddr.to_be_bytes(), pair.daddr.to_be_bytes()].concat();
        &buckets[stack.keys.table_hash(TABLE, &bytes) as usize % BUCKETS]
    }

    /// What Fast Open remembers of the peer.
    pub(super) fn fastopen(&self, stack: &Stack, pair: Pair) -> Option<FastOpenMetrics> {
        let bucket = self.bucket(stack, pair).lock();
        bucket.iter().find(|b| b.pair == pair).map(|b| b.fastopen)
    }

    /// Changes that; a peer that is new may displace the oldest of its bucket (tcp_get_metrics).
    pub(super) fn set_fastopen(&self, stack: &Stack, pair: Pair, now: Instant, f: impl FnOnce(&mut FastOpenMetrics)) {
        let mut bucket = self.bucket(stack, pair).lock();
        if let Some(b) = bucket.iter_mut().find(|b| b.pair == pair) {
            return f(&mut b.fastopen);
        }
        let mut fastopen = FastOpenMetrics::default();
        f(&mut fastopen);
        let new = Block { pair, stamp: now, fastopen };
        let oldest = bucket.iter().enumerate().min_by_key(|(_, b)| b.stamp).map(|(i, _)| i);
        match oldest.filter(|_| bucket.len() > DEPTH) {
            Some(i) => bucket[i] = new,
            None => bucket.push(new),
        }
    }

    fn clear(&self) {
        self.0.get().into_iter().flatten().for_each(|bucket| bucket.lock().clear());
    }
}

/// Forgets all peers (`ip tcp_metrics flush all`).
pub fn flush(net: &TcpNet) {
    net.metrics.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::testing::Bench;
    use std::net::Ipv4Addr;

    #[test]
    fn a_bucket_forgets_the_oldest_and_the_table_does_not_grow_beyond_its_bound() {
        let bench = Bench::new();
        let metrics = TcpMetrics::default();
        let pair = |n: u32| Pair::new(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::from(n).into());
        const MANY: u32 = 20_000;
        for n in 0..MANY {
            metrics.set_fastopen(&bench.stack, pair(n), Instant::from_nanos(u64::from(n)), |f| f.mss = n as u16);
        }
        let all = || metrics.0.get().unwrap().iter().map(|b| b.lock().len());
        assert!(all().all(|len| len <= DEPTH + 1), "{:?}", all().max());
        assert!(all().sum::<usize>() > BUCKETS * DEPTH, "buckets are filled evenly");
        let known = |n| metrics.fastopen(&bench.stack, pair(n)).map(|f| f.mss);
        assert_eq!(known(MANY - 1), Some((MANY - 1) as u16), "the last is remembered");
        assert_eq!((0..100).filter(|n| known(*n).is_some()).count(), 0, "the first are forgotten");
        metrics.clear();
        assert_eq!(known(MANY - 1), None);
    }
}
