//! What is remembered of a peer from one connection to the next, by both addresses: RTT, threshold, window, reordering,
//! and what Fast Open knows. Above: `fastopen` (a client's cookies), `input` (a connection begins), `timewait` and the
//! end of LAST-ACK (it ends), `handshake` (is the peer known). Linux: net/ipv4/tcp_metrics.c.
//!
//! A block begins with the metrics of the route, and takes them again when it is an hour old. A route's metrics reach
//! TCP in no other way: a first connection begins without them, as in Linux.

use super::net::TcpNet;
use super::tcb::{CaState, Cx, INFINITE_SSTHRESH};
use super::{cong, rtt};
use crate::base::boxed::boxed_array;
use crate::base::env::Instant;
use crate::sock::dst::{Dst, PairHashes, RouteMetrics, rtax};
use crate::sys::lock::Mutex;
use crate::wire::tcp_options::FastOpenCookie;
use std::sync::OnceLock;
use std::time::Duration;

/// Buckets of the table; a power of two. With `DEPTH`, as many peers are remembered at most, so that no peer can make
/// it grow. Linux has 16,384.
const BUCKETS: usize = 1024;
/// Peers of a bucket: beyond, the oldest is forgotten (TCP_METRICS_RECLAIM_DEPTH).
const DEPTH: usize = 5;
/// A block that nobody wrote for so long takes its route's metrics again (TCP_METRICS_TIMEOUT).
const TIMEOUT: Duration = Duration::from_secs(3600);

/// The ends of a connection.
pub(super) fn pair_of(cx: &Cx<'_>) -> PairHashes {
    let (keys, saddr, daddr) = (&cx.stack.keys, cx.sk.saddr, cx.sk.daddr);
    match &cx.sk.dst {
        Some(dst) => dst.hashes_of(keys, saddr, daddr),
        None => PairHashes::new(keys, saddr, daddr),
    }
}

/// The same where it is, or in `own`.
#[inline]
fn pair_in<'p>(cx: &'p Cx<'_>, own: &'p mut Option<PairHashes>) -> &'p PairHashes {
    match &cx.sk.dst {
        Some(dst) if dst.is_between(cx.sk.saddr, cx.sk.daddr) => &dst.pair,
        _ => own.insert(pair_of(cx)),
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

/// What connections learn of a path; 0: not known (tcpm_vals).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PathMetrics {
    /// Smoothed RTT in 1/8 µs, as `srtt_us`.
    pub rtt: u32,
    /// Its deviation in 1/4 µs, as `rttvar_us`.
    pub rttvar: u32,
    /// Slow-start threshold, segments.
    pub ssthresh: u32,
    /// Congestion window, segments. Bounds the next connection's only where a route locks it.
    pub cwnd: u32,
    /// Reordering degree, segments.
    pub reordering: u32,
    /// Metrics that the route locks, a bit `1 << rtax::...` each: no connection changes them (tcpm_lock).
    pub lock: u32,
}

impl PathMetrics {
    /// The metrics of a route (tcpm_suck_dst).
    fn of_route(m: &RouteMetrics) -> PathMetrics {
        PathMetrics {
            rtt: m.rtt_us.saturating_mul(8),
            rttvar: m.rttvar_us.saturating_mul(4),
            ssthresh: m.ssthresh,
            cwnd: m.cwnd,
            reordering: m.reordering,
            lock: m.lock,
        }
    }

    fn locked(&self, metric: u32) -> bool {
        self.lock & 1 << metric != 0
    }

    /// Takes the RTT of a connection. A longer one counts at once, a shorter one with an eighth: an estimate that is
    /// too long is the lesser harm.
    fn learn_rtt(&mut self, srtt_us: u32, mdev_us: u32) {
        let more = i64::from(self.rtt) - i64::from(srtt_us);
        if !self.locked(rtax::RTT) {
            self.rtt = if more <= 0 { srtt_us } else { self.rtt - (more >> 3) as u32 };
        }
        if !self.locked(rtax::RTTVAR) {
            // From 1/8 to 1/4 µs.
            let dev = ((more.unsigned_abs() >> 1) as u32).max(mdev_us);
            self.rttvar = if dev >= self.rttvar { dev } else { self.rttvar - ((self.rttvar - dev) >> 2) };
        }
    }

    /// Takes the window and threshold of a connection that ends, by how far it came.
    fn learn_window(&mut self, cx: &Cx<'_>) {
        let (tp, sysctl) = (&*cx.tp, &cx.stack.sysctl);
        let (cwnd, ssthresh) = (tp.snd_cwnd, tp.snd_ssthresh);
        let takes_cwnd = !self.locked(rtax::CWND);
        let takes_ssthresh = !sysctl.tcp_no_ssthresh_metrics_save() && !self.locked(rtax::SSTHRESH);
        if ssthresh >= INFINITE_SSTHRESH {
            // It never met a loss: both may be larger.
            if takes_ssthresh && self.ssthresh != 0 {
                self.ssthresh = self.ssthresh.max(cwnd >> 1);
            }
            if takes_cwnd {
                self.cwnd = self.cwnd.max(cwnd);
            }
        } else if !cong::in_slow_start(tp) && tp.ca_state == CaState::Open {
            // Congestion avoidance: the window is to be relied on.
            if takes_ssthresh {
                self.ssthresh = ssthresh.max(cwnd >> 1);
            }
            if takes_cwnd {
                self.cwnd = mean(self.cwnd, cwnd);
            }
        } else {
            if takes_cwnd {
                self.cwnd = mean(self.cwnd, ssthresh);
            }
            if takes_ssthresh && self.ssthresh != 0 {
                self.ssthresh = self.ssthresh.max(ssthresh);
            }
            let by_sysctl = sysctl.tcp_reordering().max(0) as u32;
            if !self.locked(rtax::REORDERING) && tp.reordering != by_sysctl {
                self.reordering = self.reordering.max(tp.reordering);
            }
        }
    }
}

fn mean(a: u32, b: u32) -> u32 {
    ((u64::from(a) + u64::from(b)) >> 1) as u32
}

/// What is remembered of a peer (tcp_metrics_block).
#[derive(Debug, Clone)]
struct Block {
    pair: PairHashes,
    /// When a connection or the route last wrote it.
    stamp: Instant,
    path: PathMetrics,
    fastopen: FastOpenMetrics,
}

impl Block {
    /// Takes the route's metrics again when it is too old (tcpm_check_stamp).
    fn check_stamp(&mut self, route: &RouteMetrics, now: Instant) {
        if now.as_nanos().saturating_sub(self.stamp.as_nanos()) > TIMEOUT.as_nanos() as u64 {
            self.path = PathMetrics::of_route(route);
            self.stamp = now;
        }
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct TcpMetrics(OnceLock<Box<Buckets>>);

type Buckets = [Mutex<Vec<Block>>; BUCKETS];

fn bucket<'b>(buckets: &'b Buckets, pair: &PairHashes) -> &'b Mutex<Vec<Block>> {
    &buckets[pair.hash as usize % BUCKETS]
}

impl TcpMetrics {
    /// Reads or changes the block of a peer, if there is one (tcp_get_metrics without `create`).
    #[inline]
    fn with<R>(
        &self,
        pair: &PairHashes,
        route: &RouteMetrics,
        now: Instant,
        f: impl FnOnce(&mut Block) -> R,
    ) -> Option<R> {
        // Nothing was ever remembered: no table is made to find that out.
        let mut bucket = bucket(self.0.get()?, pair).lock();
        let block = bucket.iter_mut().find(|b| b.pair == *pair)?;
        block.check_stamp(route, now);
        Some(f(block))
    }

    /// The same, of a block that is made where there is none; that may displace the oldest of its bucket
    /// (tcp_get_metrics, tcpm_new).
    fn with_new<R>(&self, pair: &PairHashes, route: &RouteMetrics, now: Instant, f: impl FnOnce(&mut Block) -> R) -> R {
        let buckets = self.0.get_or_init(|| boxed_array(|_| Mutex::default()));
        let mut bucket = bucket(buckets, pair).lock();
        if let Some(block) = bucket.iter_mut().find(|b| b.pair == *pair) {
            block.check_stamp(route, now);
            return f(block);
        }
        let path = PathMetrics::of_route(route);
        let mut new = Block { pair: *pair, stamp: now, path, fastopen: FastOpenMetrics::default() };
        let answer = f(&mut new);
        let oldest = bucket.iter().enumerate().min_by_key(|(_, b)| b.stamp).map(|(i, _)| i);
        match oldest.filter(|_| bucket.len() > DEPTH) {
            Some(i) => bucket[i] = new,
            None => bucket.push(new),
        }
        answer
    }

    /// What Fast Open remembers of the peer (tcp_fastopen_cache_get).
    pub(super) fn fastopen(&self, cx: &Cx<'_>) -> Option<FastOpenMetrics> {
        self.with(&pair_of(cx), route_of(cx), cx.now, |b| b.fastopen)
    }

    /// Changes that.
    pub(super) fn set_fastopen(&self, cx: &Cx<'_>, f: impl FnOnce(&mut FastOpenMetrics)) {
        self.with_new(&pair_of(cx), route_of(cx), cx.now, |b| f(&mut b.fastopen));
    }

    /// All that is remembered, a peer at a time, in the order of the table.
    #[cfg(test)]
    pub(super) fn show(&self, mut to: impl FnMut(&dyn std::fmt::Debug) -> std::fmt::Result) -> std::fmt::Result {
        let mut buckets = self.0.get().into_iter().flat_map(|all| all.iter());
        buckets.try_for_each(|bucket| bucket.lock().iter().try_for_each(|block| to(block)))
    }

    fn clear(&self) {
        self.0.get().into_iter().flat_map(|all| all.iter()).for_each(|bucket| bucket.lock().clear());
    }
}

fn route_of<'a>(cx: &'a Cx<'_>) -> &'a RouteMetrics {
    const NONE: &RouteMetrics = &RouteMetrics::NONE;
    cx.sk.dst.as_ref().map_or(NONE, |d| &d.metrics)
}

/// A connection ends as both sides agreed: its path's metrics are remembered. One without an RTT, or whose last data
/// timed out, has the RTT forgotten (tcp_update_metrics).
pub(super) fn update(cx: &Cx<'_>) {
    if cx.stack.sysctl.tcp_no_metrics_save() || cx.sk.dst.is_none() {
        return;
    }
    let mut own = None;
    let pair = pair_in(cx, &mut own);
    let (metrics, route, now) = (&cx.tp.net.metrics, route_of(cx), cx.now);
    if cx.tp.backoff != 0 || cx.tp.srtt_us == 0 {
        metrics.with(pair, route, now, |b| {
            if !b.path.locked(rtax::RTT) {
                b.path.rtt = 0;
            }
        });
        return;
    }
    metrics.with_new(pair, route, now, |b| {
        b.path.learn_rtt(cx.tp.srtt_us, cx.tp.mdev_us);
        b.path.learn_window(cx);
        b.stamp = now;
    });
}

/// A connection begins with what is known of its path: threshold, reordering, and an RTO by the RTT of earlier
/// connections where the handshake's is shorter, since a SYN's RTT says little of full segments' (tcp_init_metrics).
/// RFC 6298 §5.7 where the handshake gave no sample.
pub(crate) fn init(cx: &mut Cx<'_>) {
    // The peer has answered.
    cx.tp.dst_pending_confirm = true;
    // A handshake that lost a SYN says nothing about how much the path carries.
    cx.tp.snd_ssthresh = INFINITE_SSTHRESH;
    let mut own = None;
    let pair = pair_in(cx, &mut own);
    let known = cx.tp.net.metrics.with(pair, route_of(cx), cx.now, |b| b.path);
    let known = known.filter(|_| cx.sk.dst.is_some()).unwrap_or_default();
    if known.locked(rtax::CWND) {
        cx.tp.cold_mut().snd_cwnd_clamp = known.cwnd;
    }
    if known.ssthresh != 0 && !cx.stack.sysctl.tcp_no_ssthresh_metrics_save() {
        cx.tp.snd_ssthresh = known.ssthresh.min(cx.tp.snd_cwnd_clamp);
    }
    if known.reordering != 0 {
        cx.tp.reordering = known.reordering;
    }
    if known.rtt > cx.tp.srtt_us {
        // Whole milliseconds, rounded down, as Linux's ticks.
        let rtt_us = u64::from(known.rtt >> 3) / 1000 * 1000;
        let rto = rtt_us + (2 * rtt_us).max(u64::from(rtt::rto_min_us(cx)));
        cx.tp.rto_us = rto.min(u64::from(rtt::rto_max_us(cx))) as u32;
    } else if cx.tp.srtt_us == 0 {
        cx.tp.rttvar_us = rtt::TIMEOUT_FALLBACK_US;
        cx.tp.mdev_us = rtt::TIMEOUT_FALLBACK_US;
        cx.tp.mdev_max_us = rtt::TIMEOUT_FALLBACK_US;
        cx.tp.rto_us = rtt::TIMEOUT_FALLBACK_US;
    }
}

/// Whether a connection with the peer has ended well before: its RTT is known (tcp_peer_is_proven).
pub(super) fn peer_is_proven(net: &TcpNet, pair: PairHashes, dst: &Dst, now: Instant) -> bool {
    net.metrics.with(&pair, &dst.metrics, now, |b| b.path.rtt != 0).unwrap_or(false)
}

/// Forgets all peers (`ip tcp_metrics flush all`).
pub fn flush(net: &TcpNet) {
    net.metrics.clear();
}

#[cfg(test)]
mod tests;
