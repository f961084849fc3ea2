//! Congestion control: the algorithms' operations, and the functions that algorithms share (slow start, additive
//! increase). Above: `ack` and `recovery`, which call the operations where Linux does. Linux:
//! tcp_cong.c, struct tcp_congestion_ops.
//!
//! | file | what |
//! |---|---|
//! | `cubic`, `reno`, `bbr`, `dctcp` | the algorithms |
//! | `hystart_plus` | how CUBIC may end slow start (RFC 9406) |
//! | `borrowed` | an algorithm for a protocol that is not TCP |
//! | `registry` | the algorithms of a stack, by name |
//!
//! ```
//! use std::sync::Arc;
//! use usersock::tcp::cong::{self, CongAlgo, CongOps, Cx};
//! use usersock::wire::seq::SeqNum;
//!
//! /// Reduces the window by three tenths at a loss, and grows by a segment a round trip.
//! struct Tenths;
//!
//! impl CongOps for Tenths {
//!     fn name(&self) -> &str {
//!         "tenths"
//!     }
//!     fn start(&self, _: &mut Cx<'_>) -> Box<dyn CongAlgo> {
//!         Box::new(Connection)
//!     }
//! }
//!
//! #[derive(Debug)]
//! struct Connection;
//!
//! impl CongAlgo for Connection {
//!     fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
//!         (cx.tp.snd_cwnd / 10 * 7).max(2)
//!     }
//!     fn cong_avoid(&mut self, cx: &mut Cx<'_>, _ack: SeqNum, mut acked: u32) {
//!         if !cong::is_cwnd_limited(cx.tp) {
//!             return;
//!         }
//!         if cong::in_slow_start(cx.tp) {
//!             acked = cong::slow_start(cx, acked);
//!         }
//!         if acked > 0 {
//!             let cwnd = cx.tp.snd_cwnd;
//!             cong::cong_avoid_ai(cx, cwnd, acked);
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = usersock::config::build("")?;
//! cong::register(&stack, Arc::new(Tenths))?;
//! // For all new sockets, and now TCP_CONGESTION may select it for a single one.
//! stack.sysctl.set("net.ipv4.tcp_congestion_control", "tenths")?;
//! # Ok(())
//! # }
//! ```

pub(crate) mod bbr;
pub mod borrowed;
pub(crate) mod cubic;
pub(crate) mod dctcp;
mod hystart_plus;
mod registry;
pub(crate) mod reno;

pub use super::ecn::{EcnMode, EcnState};
pub use super::output::{is_cwnd_limited, packets_in_flight};
pub use super::rtt::min_rtt;
pub use super::tcb::{CaState, Cx, INFINITE_SSTHRESH, RateSample, TcpSock};
pub(crate) use registry::CongRegistry;
pub use registry::{find, register, replace, unregister};

use super::ecn;
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::dst::rtax;
use crate::sock::skb::{TcpCb, sacked};
use crate::sock::state::State;
use crate::wire::seq::SeqNum;
use smallvec::SmallVec;
use std::any::Any;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Events passed to an algorithm (enum tcp_ca_event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaEvent {
    /// The first segment is sent while none is in flight (CA_EVENT_TX_START).
    TxStart,
    /// The window is restarted after idling (CA_EVENT_CWND_RESTART).
    CwndRestart,
    /// The reduction of the window is complete (CA_EVENT_COMPLETE_CWR).
    CompleteCwr,
    /// A retransmission timeout (CA_EVENT_LOSS).
    Loss,
    /// A data packet arrived without a CE mark (CA_EVENT_ECN_NO_CE).
    EcnNoCe,
    /// A data packet arrived with a CE mark (CA_EVENT_ECN_IS_CE).
    EcnIsCe,
}

/// Statistics of an acknowledgement for an algorithm (struct ack_sample).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AckSample {
    /// Segments newly acknowledged or sacked.
    pub pkts_acked: u32,
    /// RTT of the sample, microseconds; -1: no sample.
    pub rtt_us: i64,
    /// Bytes in flight when the sampled segment was sent, at the current segment size.
    pub in_flight: u32,
}

/// A packet that an acknowledgement has delivered, for an algorithm that wants each one
/// ([`CongOps::wants_packets`]). A super-packet is one packet of several segments.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PacketSample {
    /// Its first byte.
    pub seq: SeqNum,
    /// Behind its last byte.
    pub end_seq: SeqNum,
    /// Its segments.
    pub segs: u32,
    /// When it was sent, the last time if more than once.
    pub sent_at: Instant,
    /// Since then, microseconds; -1: it was sent again, and it is not known which one arrived (Karn's rule).
    pub rtt_us: i64,
    /// `tp.delivered` when it was sent.
    pub prior_delivered: u32,
    /// It was sent again.
    pub is_retrans: bool,
    /// Selectively acknowledged: not all before it has arrived.
    pub is_sacked: bool,
}

impl PacketSample {
    /// The sample of bytes of a packet, before `rate_skb_delivered` has seen it. None: they have had one.
    pub(crate) fn of(
        cb: &TcpCb,
        (seq, end_seq): (SeqNum, SeqNum),
        segs: u32,
        is_sacked: bool,
        now: Instant,
    ) -> Option<PacketSample> {
        let is_retrans = cb.sacked & sacked::RETRANS != 0;
        (cb.delivered_mstamp != Instant::ZERO).then(|| PacketSample {
            seq,
            end_seq,
            segs,
            sent_at: cb.mstamp,
            rtt_us: if is_retrans { -1 } else { (now - cb.mstamp).as_micros() as i64 },
            prior_delivered: cb.delivered,
            is_retrans,
            is_sacked,
        })
    }
}

/// The packets of one acknowledgement.
pub(crate) type PacketSamples = SmallVec<[PacketSample; 4]>;

/// One connection's congestion control. Methods are called with the sock owned, in either context, and never sleep.
#[allow(unused_variables)]
pub trait CongAlgo: Send + Debug {
    /// Which optional methods it has, bits of [`ca_slot`]: a method without its bit is not called. Asked once, when it
    /// has started. Default: all.
    fn slots(&self) -> u32 {
        ca_slot::ALL
    }
    /// New slow-start threshold after a loss, segments.
    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32;
    /// Opens the window after `acked` segments were acknowledged while the window was limiting transmission.
    fn cong_avoid(&mut self, cx: &mut Cx<'_>, ack: SeqNum, acked: u32);
    /// Sets window and pacing rate itself (BBR): returns true if it did. Default: false.
    fn cong_control(&mut self, cx: &mut Cx<'_>, ack: SeqNum, flag: u32, rs: &RateSample) -> bool {
        false
    }
    /// Whether the algorithm has a `cong_control`: recovery then leaves the window to it.
    fn has_cong_control(&self) -> bool {
        false
    }
    /// Called before the congestion state changes.
    fn set_state(&mut self, cx: &mut Cx<'_>, new: CaState) {}
    /// An event.
    fn cwnd_event(&mut self, cx: &mut Cx<'_>, event: CaEvent) {}
    /// An acknowledgement arrived: `CA_ACK_*` flags.
    fn in_ack_event(&mut self, cx: &mut Cx<'_>, flags: u32) {}
    /// Segments were acknowledged.
    fn pkts_acked(&mut self, cx: &mut Cx<'_>, sample: &AckSample) {}
    /// These packets were delivered, each for the first time: called before `pkts_acked`, if the algorithm
    /// [wants it](CongOps::wants_packets).
    fn pkts_delivered(&mut self, cx: &mut Cx<'_>, packets: &[PacketSample]) {}
    /// The window after a loss turned out to be spurious, segments.
    fn undo_cwnd(&mut self, cx: &mut Cx<'_>) -> u32 {
        cx.tp.snd_cwnd.max(cx.tp.prior_cwnd)
    }
    /// Minimum number of segments of a super-packet; None: default.
    fn min_tso_segs(&mut self, cx: &Cx<'_>) -> Option<u32> {
        None
    }
    /// Ratio of the send buffer to the window; None: 2.
    fn sndbuf_expand(&mut self, cx: &Cx<'_>) -> Option<u32> {
        None
    }
    /// INET_DIAG_* attribute and its bytes, for TCP_CC_INFO.
    fn get_info(&mut self, cx: &Cx<'_>) -> Option<(i32, Vec<u8>)> {
        None
    }
    /// The connection ends or changes its algorithm.
    fn release(&mut self, cx: &mut Cx<'_>) {}
}

/// Flags of `CongAlgo::in_ack_event`.
pub mod ca_ack {
    /// The acknowledgement was processed on the slow path (CA_ACK_SLOWPATH).
    pub const SLOWPATH: u32 = 1;
    /// It changed the window (CA_ACK_WIN_UPDATE).
    pub const WIN_UPDATE: u32 = 2;
    /// It carries ECE (CA_ACK_ECE).
    pub const ECE: u32 = 4;
}

/// Optional methods of an algorithm that are called for each acknowledgement or segment: the slots of Linux's
/// tcp_congestion_ops that may be NULL.
pub mod ca_slot {
    /// `CongAlgo::cong_control`.
    pub const CONG_CONTROL: u32 = 1;
    /// `CongAlgo::cwnd_event`.
    pub const CWND_EVENT: u32 = 2;
    /// `CongAlgo::in_ack_event`.
    pub const IN_ACK_EVENT: u32 = 4;
    /// `CongAlgo::pkts_acked`.
    pub const PKTS_ACKED: u32 = 8;
    /// `CongAlgo::min_tso_segs`.
    pub const MIN_TSO_SEGS: u32 = 16;
    /// `CongAlgo::sndbuf_expand`.
    pub const SNDBUF_EXPAND: u32 = 32;
    /// Each of them.
    pub const ALL: u32 = 63;
    const _: () = assert!(ALL <= u8::MAX as u32);
}

/// An algorithm that can be selected by name.
pub trait CongOps: Send + Sync + Any {
    /// Name of at most 15 bytes, as TCP_CONGESTION takes it.
    fn name(&self) -> &str;
    /// Whether every program may choose it by TCP_CONGESTION, which `net.ipv4.tcp_allowed_congestion_control` may
    /// change (TCP_CONG_NON_RESTRICTED). One that is the default of the stack is so from then on.
    fn non_restricted(&self) -> bool {
        false
    }
    /// Whether it needs ECN on its connections (TCP_CONG_NEEDS_ECN).
    fn needs_ecn(&self) -> bool {
        false
    }
    /// Whether the receiver's side is to echo each segment's mark, not a mark until CWR (RFC 8257 §3.2); with
    /// `needs_ecn` only.
    fn exact_ece(&self) -> bool {
        false
    }
    /// Whether `pkts_delivered` is to be called.
    fn wants_packets(&self) -> bool {
        false
    }
    /// What [`CongAlgo::ssthresh`] says before it starts: a SYN was lost. Of this window and threshold, segments.
    fn ssthresh_of_syn(&self, cwnd: u32, _ssthresh: u32) -> u32 {
        (cwnd / 2).max(2)
    }
    /// Creates its state for a connection that starts (tcp_congestion_ops.init).
    fn start(&self, cx: &mut Cx<'_>) -> Box<dyn CongAlgo>;
}

/// A connection's algorithm: selected, and running once data can flow.
pub(crate) struct CongState {
    /// The selected algorithm.
    pub ops: Arc<dyn CongOps>,
    /// Its state; None before the connection is established and while a method runs.
    pub algo: Option<Algo>,
}

/// An algorithm's state of a connection. CUBIC's, which most have, lies in the sock: no allocation of its own, and of
/// many connections no cache line more to wait for.
pub(crate) enum Algo {
    Cubic(cubic::Cubic),
    Boxed(Box<dyn CongAlgo>),
}

// CUBIC's alone.
const _: () = assert!(size_of::<Option<Algo>>() <= 24);

impl Algo {
    /// A connection starts.
    fn start(ops: &Arc<dyn CongOps>, cx: &mut Cx<'_>) -> Algo {
        let any: &dyn Any = &**ops;
        if any.is::<cubic::CubicOps>() { Algo::Cubic(cubic::start(cx)) } else { Algo::Boxed(ops.start(cx)) }
    }
}

impl Deref for Algo {
    type Target = dyn CongAlgo;
    #[inline]
    fn deref(&self) -> &(dyn CongAlgo + 'static) {
        match self {
            Algo::Cubic(cubic) => cubic,
            Algo::Boxed(algo) => &**algo,
        }
    }
}

impl DerefMut for Algo {
    #[inline]
    fn deref_mut(&mut self) -> &mut (dyn CongAlgo + 'static) {
        match self {
            Algo::Cubic(cubic) => cubic,
            Algo::Boxed(algo) => &mut **algo,
        }
    }
}

impl Debug for CongState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ops.name())
    }
}

impl Cx<'_> {
    /// Runs an optional method of the connection's algorithm; None if it has none, or has not started. `slot`: its bit
    /// of [`ca_slot`].
    #[inline]
    pub(super) fn with_ca_slot<R>(
        &mut self,
        slot: u32,
        f: impl FnOnce(&mut dyn CongAlgo, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        if u32::from(self.tp.ca_slots) & slot == 0 {
            return None;
        }
        self.with_ca(f)
    }

    /// Runs a method of the connection's algorithm; None before it has started.
    pub(crate) fn with_ca<R>(&mut self, f: impl FnOnce(&mut dyn CongAlgo, &mut Cx<'_>) -> R) -> Option<R> {
        let mut algo = self.tp.ca.algo.take()?;
        // CUBIC selects no other.
        if let Algo::Cubic(cubic) = &mut algo {
            let r = f(cubic, self);
            debug_assert!(self.tp.ca.algo.is_none());
            self.tp.ca.algo = Some(algo);
            return Some(r);
        }
        let ops = Arc::as_ptr(&self.tp.ca.ops);
        let r = f(&mut *algo, self);
        if self.tp.ca.algo.is_none() && std::ptr::addr_eq(ops, Arc::as_ptr(&self.tp.ca.ops)) {
            self.tp.ca.algo = Some(algo);
        } else {
            // The method selected another algorithm, which stays in force; this one has not been released yet.
            algo.release(self);
        }
        Some(r)
    }
}

/// Whether the connection is in slow start: the window is below the threshold (RFC 5681 §3.1; tcp_in_slow_start).
#[inline]
pub fn in_slow_start(tp: &TcpSock) -> bool {
    tp.snd_cwnd < tp.snd_ssthresh
}

/// Slow start for `acked` segments, up to the threshold; returns the remaining segments, for congestion avoidance
/// (RFC 5681 §3.1, with the byte counting of RFC 3465 without its limit). Linux: tcp_slow_start.
pub fn slow_start(cx: &mut Cx<'_>, acked: u32) -> u32 {
    let tp = &mut *cx.tp;
    let cwnd = tp.snd_cwnd.saturating_add(acked).min(tp.snd_ssthresh);
    let used = cwnd.saturating_sub(tp.snd_cwnd);
    tp.snd_cwnd = cwnd.min(tp.snd_cwnd_clamp).max(1);
    acked.saturating_sub(used)
}

/// Additive increase: one segment for every `w` acknowledged. Credit that remains from a larger `w` gives one segment
/// at once, so that a smaller `w` does not release a burst. Linux: tcp_cong_avoid_ai.
pub fn cong_avoid_ai(cx: &mut Cx<'_>, w: u32, acked: u32) {
    let w = w.max(1);
    let tp = &mut *cx.tp;
    if tp.snd_cwnd_cnt >= w {
        tp.snd_cwnd_cnt = 0;
        tp.snd_cwnd = tp.snd_cwnd.saturating_add(1);
    }
    tp.snd_cwnd_cnt = tp.snd_cwnd_cnt.saturating_add(acked);
    if tp.snd_cwnd_cnt >= w {
        let delta = tp.snd_cwnd_cnt / w;
        tp.snd_cwnd_cnt -= delta * w;
        tp.snd_cwnd = tp.snd_cwnd.saturating_add(delta);
    }
    tp.snd_cwnd = tp.snd_cwnd.min(tp.snd_cwnd_clamp).max(1);
}

/// Selects the algorithm that the route names (RTAX_CC_ALGO), whatever the program or the sysctl selected. An
/// unregistered one is ignored. True: the route names one (tcp_ca_dst_init).
pub(super) fn dst_init(cx: &mut Cx<'_>) -> bool {
    let name = cx.sk.dst.as_ref().and_then(|d| d.congctl.clone());
    let Some(ops) = name.and_then(|n| cx.tp.net.cong.find(&n)) else { return false };
    cx.tp.ca = CongState { ops, algo: None };
    true
}

/// From now on `algo` is the connection's.
fn run(cx: &mut Cx<'_>, algo: Algo) {
    cx.tp.ca_slots = algo.slots() as u8;
    cx.tp.ca.algo = Some(algo);
}

/// Starts the selected algorithm when data can flow (tcp_init_congestion_control). If it needs ECN, and the peer
/// negotiated it, all of the sock's packets are sent with ECT.
pub(crate) fn init_congestion_control(cx: &mut Cx<'_>) {
    cx.tp.forbid_undo();
    // Selected before it was replaced: a listener's, for its children.
    if let Some(ops) = cx.tp.net.cong.successor(&cx.tp.ca.ops) {
        cx.tp.ca.ops = ops;
    }
    let ops = cx.tp.ca.ops.clone();
    let algo = Algo::start(&ops, cx);
    run(cx, algo);
    ecn::init_echo(cx);
    // If the peer did not agree to ECN, it ignores marks, so packets must not say that they are ECN-capable.
    ecn::set_ecn_capable(cx.sk, ops.needs_ecn() && cx.tp.ecn.is_ok());
}

/// Whether a program may choose this algorithm for its socket. EPERM: the socket's route locks another, or the program
/// lacks CAP_NET_ADMIN and the algorithm is restricted; ENOENT: no algorithm has that name.
pub(crate) fn may_choose(cx: &Cx<'_>, name: &str) -> Result<()> {
    let route = cx.sk.dst.as_ref().filter(|d| d.metrics.lock & 1 << rtax::CC_ALGO != 0);
    let locked = route.and_then(|d| d.congctl.as_ref()).is_some_and(|n| cx.tp.net.cong.find(n).is_some());
    if locked {
        return Err(Error::Perm);
    }
    if cx.tp.ca.ops.name() == name {
        return Ok(());
    }
    match cx.tp.net.cong.is_restricted(name)? {
        true if !cx.stack.net_admin() => Err(Error::Perm),
        _ => Ok(()),
    }
}

/// Changes the algorithm, at once if the connection is established. ENOENT: no algorithm has that name
/// (tcp_set_congestion_control; a hook may choose any).
pub(crate) fn set_congestion_control(cx: &mut Cx<'_>, name: &str) -> Result<()> {
    let ops = cx.tp.net.cong.find(name).ok_or(Error::NoEnt)?;
    cx.tp.ca_setsockopt = true;
    // One that has been replaced is another one.
    if std::ptr::addr_eq(Arc::as_ptr(&cx.tp.ca.ops), Arc::as_ptr(&ops)) {
        return Ok(());
    }
    if let Some(mut old) = cx.tp.ca.algo.take() {
        old.release(cx);
    }
    cx.tp.ca = CongState { ops, algo: None };
    if !matches!(cx.state(), State::Close | State::Listen) {
        init_congestion_control(cx);
    }
    Ok(())
}

/// Stops the algorithm of a connection that ends (tcp_cleanup_congestion_control).
pub(crate) fn cleanup(cx: &mut Cx<'_>) {
    if let Some(mut algo) = cx.tp.ca.algo.take() {
        algo.release(cx);
    }
}

/// Changes the congestion state, after informing the algorithm (tcp_set_ca_state).
pub(crate) fn set_ca_state(cx: &mut Cx<'_>, state: CaState) {
    cx.with_ca(|ca, cx| ca.set_state(cx, state));
    cx.tp.ca_state = state;
}

/// Passes the algorithm the packets that an acknowledgement has delivered.
pub(crate) fn pkts_delivered(cx: &mut Cx<'_>, packets: &[PacketSample]) {
    if !packets.is_empty() {
        cx.with_ca(|ca, cx| ca.pkts_delivered(cx, packets));
    }
}

/// Passes an event to the algorithm (tcp_ca_event).
pub(crate) fn ca_event(cx: &mut Cx<'_>, event: CaEvent) {
    cx.with_ca_slot(ca_slot::CWND_EVENT, |ca, cx| ca.cwnd_event(cx, event));
}

/// The threshold that a loss gives now, segments; at least 2.
pub(crate) fn ssthresh(cx: &mut Cx<'_>) -> u32 {
    let running = cx.with_ca(|ca, cx| ca.ssthresh(cx));
    running.unwrap_or_else(|| cx.tp.ca.ops.ssthresh_of_syn(cx.tp.snd_cwnd, cx.tp.snd_ssthresh))
}

/// Whether the algorithm sets window and rate itself (tcp_congestion_ops.cong_control).
pub(crate) fn has_cong_control(cx: &mut Cx<'_>) -> bool {
    cx.tp.ca.algo.as_ref().is_some_and(|ca| ca.has_cong_control())
}

/// Sets the congestion window; 0, which is invalid, becomes 1.
#[inline]
pub fn set_cwnd(tp: &mut TcpSock, segments: u32) {
    tp.snd_cwnd = segments.max(1);
}

#[cfg(test)]
mod tests;
