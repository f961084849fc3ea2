//! A resolved route, as socks cache it. Above: `SockCommon::dst`, and what sends. Made by: `ip::route`. Linux: struct
//! dst_entry, struct rtable.

use crate::base::hash::{Keys, addr128};
use crate::device::netdev::NetDev;
use crate::stack::Stack;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kind of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DstKind {
    /// One host, reached over a device.
    Unicast,
    /// This stack itself.
    Local,
    /// All hosts of a link.
    Broadcast,
    /// A multicast group.
    Multicast,
}

/// Where packets to a destination go and how: a resolved route, shared by the socks that use it. When `generation`
/// differs from the tables', the route must be looked up again. Linux: struct dst_entry, struct rtable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Dst {
    /// Output device.
    pub dev: Arc<NetDev>,
    /// Next hop; None: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Preferred source address of the route.
    pub src: IpAddr,
    /// Kind of the destination.
    pub kind: DstKind,
    /// Generation of the route tables when this was resolved.
    pub generation: u64,
    /// Path MTU in bytes, from the route, the device or ICMP.
    pub mtu: u32,
    /// The route's MTU is locked: ICMP does not lower it (RTAX_MTU with lock), and DF is not set.
    pub mtu_locked: bool,
    /// RTAX_CC_ALGO.
    pub congctl: Option<Arc<str>>,
    /// The route's other metrics.
    pub metrics: RouteMetrics,
    /// Of `src` and the destination that was looked up.
    pub(crate) pair: PairHashes,
    pub(crate) last_port: LastPort,
}

/// The last port that somebody connected to, and its [`Dst::port_offset`]: most go to the same. 0: none.
#[derive(Debug, Default)]
pub(crate) struct LastPort(AtomicU64);

impl Clone for LastPort {
    fn clone(&self) -> LastPort {
        LastPort(self.0.load(Ordering::Relaxed).into())
    }
}

/// Bits of a [`Keys::port_offset`] that nobody uses.
const UNUSED: u64 = 0xffff_0000;

/// What the stack's keys make of a pair of addresses, ours and the peer's: each connection between the two needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PairHashes {
    /// For tables of pairs ([`Keys::pair_hash`]).
    pub hash: u64,
    /// See [`Keys::ts_offset`].
    pub ts_offset: u32,
    saddr: IpAddr,
    daddr: IpAddr,
}

impl PairHashes {
    pub(crate) fn new(keys: &Keys, saddr: IpAddr, daddr: IpAddr) -> PairHashes {
        let (s, d) = (addr128(saddr), addr128(daddr));
        PairHashes { hash: keys.pair_hash(s, d), ts_offset: keys.ts_offset(s, d), saddr, daddr }
    }
}

impl Dst {
    /// Whether the route tables are unchanged since this was resolved. Linux: dst_check.
    #[inline]
    pub fn check(&self, stack: &Stack) -> bool {
        self.generation == stack.rt_genid()
    }

    /// Whether this is the route between two addresses. The first hop of a source route has another one.
    #[inline]
    pub(crate) fn is_between(&self, saddr: IpAddr, daddr: IpAddr) -> bool {
        self.pair.daddr == daddr && self.pair.saddr == saddr
    }

    /// The hashes of a pair of addresses, which is mostly this route's.
    #[inline]
    pub(crate) fn hashes_of(&self, keys: &Keys, saddr: IpAddr, daddr: IpAddr) -> PairHashes {
        if self.is_between(saddr, daddr) { self.pair } else { PairHashes::new(keys, saddr, daddr) }
    }

    /// The [`Keys::port_offset`] of a connection by this route, without the bits that the choice of a port does not
    /// use.
    pub(crate) fn port_offset(&self, keys: &Keys, saddr: IpAddr, daddr: IpAddr, dport: u16) -> u64 {
        let last = self.last_port.0.load(Ordering::Relaxed);
        let known = dport != 0 && self.is_between(saddr, daddr);
        if known && (last >> 16) as u16 == dport {
            return last & !UNUSED;
        }
        let offset = keys.port_offset(addr128(saddr), addr128(daddr), dport) & !UNUSED;
        if known {
            self.last_port.0.store(offset | u64::from(dport) << 16, Ordering::Relaxed);
        }
        offset
    }
}

/// Metrics of a route (RTAX_*, `ip route ... advmss 1400 rtt 20ms`); 0: not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteMetrics {
    /// RTAX_ADVMSS; 0: derived from the MTU.
    pub advmss: u32,
    /// RTAX_INITCWND in segments; 0: default.
    pub initcwnd: u32,
    /// RTAX_INITRWND in segments; 0: default.
    pub initrwnd: u32,
    /// RTAX_WINDOW: clamp of the advertised window in bytes; 0: none.
    pub window: u32,
    /// RTAX_RTO_MIN in microseconds; 0: default.
    pub rto_min_us: u32,
    /// RTAX_QUICKACK.
    pub quickack: bool,
    /// RTAX_FASTOPEN_NO_COOKIE.
    pub fastopen_no_cookie: bool,
    /// RTAX_FEATURES has ECN.
    pub feature_ecn: bool,
    /// RTAX_HOPLIMIT; 0: default.
    pub hoplimit: u8,
    /// Initial smoothed RTT, microseconds.
    pub rtt_us: u32,
    /// Initial mean deviation, microseconds.
    pub rttvar_us: u32,
    /// Initial slow-start threshold, segments.
    pub ssthresh: u32,
    /// Congestion window, segments: an upper bound where it is locked.
    pub cwnd: u32,
    /// Initial reordering degree.
    pub reordering: u32,
    /// Of these, the ones that connections do not change: a bit `1 << rtax::...` each (RTAX_LOCK).
    pub lock: u32,
}

impl RouteMetrics {
    /// Of a route that gives none.
    pub(crate) const NONE: RouteMetrics = RouteMetrics {
        advmss: 0,
        initcwnd: 0,
        initrwnd: 0,
        window: 0,
        rto_min_us: 0,
        quickack: false,
        fastopen_no_cookie: false,
        feature_ecn: false,
        hoplimit: 0,
        rtt_us: 0,
        rttvar_us: 0,
        ssthresh: 0,
        cwnd: 0,
        reordering: 0,
        lock: 0,
    };
}

/// Numbers of the metrics that a route may lock (RTAX_*).
pub mod rtax {
    /// `rtt_us`.
    pub const RTT: u32 = 4;
    /// `rttvar_us`.
    pub const RTTVAR: u32 = 5;
    /// `ssthresh`.
    pub const SSTHRESH: u32 = 6;
    /// `cwnd`.
    pub const CWND: u32 = 7;
    /// `reordering`.
    pub const REORDERING: u32 = 9;
    /// `Dst::congctl`.
    pub const CC_ALGO: u32 = 16;
}
