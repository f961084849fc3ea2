//! IPv4 and IPv6 identifications. Above: `output`. Linux: __ip_select_ident, ip_idents_reserve, ipv6_select_ident;
//! RFC 6864, RFC 7739. A datagram that cannot be fragmented (DF) carries 0. Other datagrams take it from one of many
//! counters, chosen by a keyed hash of addresses and protocol. A counter begins at a secret value and advances in
//! random steps that grow with the time since the last use, so that the numbers of one flow do not reveal how much
//! another sent (CVE-2020-36516).

use crate::base::env::Instant;
use crate::base::hash::addr128;
use crate::stack::Stack;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counters; flows that share one are told apart by their secret start.
const BUCKETS: usize = 4096;

struct Bucket {
    id: AtomicU32,
    /// Milliseconds of the last use, for the size of the next step.
    last_ms: AtomicU32,
}

/// The generator of a stack.
pub(crate) struct Idents {
    buckets: Box<[Bucket]>,
}

impl Idents {
    pub(super) fn new() -> Idents {
        let bucket = |_| Bucket { id: AtomicU32::new(0), last_ms: AtomicU32::new(0) };
        Idents { buckets: (0..BUCKETS).map(bucket).collect() }
    }

    /// The next identification of a flow: 16 bits of it for IPv4.
    pub(crate) fn next(&self, stack: &Stack, src: IpAddr, dst: IpAddr, protocol: u8, now: Instant) -> u32 {
        self.next_of(1, stack, (src, dst), protocol, now)
    }

    /// The first of `segs` consecutive ones, for the packets of a super-packet (ip_idents_reserve).
    pub(crate) fn next_of(
        &self,
        segs: u32,
        stack: &Stack,
        (src, dst): (IpAddr, IpAddr),
        protocol: u8,
        now: Instant,
    ) -> u32 {
        let secret = stack.keys.ip_ident(addr128(src), addr128(dst), protocol);
        let b = &self.buckets[(secret >> 32) as usize % BUCKETS];
        let ms = (now.as_nanos() / 1_000_000) as u32;
        let idle = ms.wrapping_sub(b.last_ms.swap(ms, Ordering::Relaxed)).clamp(1, 1 << 14);
        let step = segs + stack.entropy.below(idle);
        b.id.fetch_add(step, Ordering::Relaxed).wrapping_add(secret as u32)
    }
}
