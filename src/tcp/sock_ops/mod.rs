//! Hooks into TCP: user code that is called at events of a connection, can set what a BPF program can set in Linux, and
//! writes and reads header options. Above: users, in Rust or through the C mirror. Below: TCP, which calls the
//! functions here where Linux calls its programs: `control` (connect), `handshake`, `input` (established, options),
//! `rtt`, `timer` (RTO), `retransmit`, `segment` (options), `listener`, `mod` (states). Linux: BPF_PROG_TYPE_SOCK_OPS,
//! tcp_call_bpf, bpf_skops_*.
//!
//! | file | what |
//! |---|---|
//! | `registry` | a stack's hooks: registering, filters |
//! | `scope` | which connections a hook is called for: filters by address; kinds of options |
//! | `attach` | which hooks a sock has: chosen when it begins, inherited, attached |
//! | `ctx` | the context of a hook: the connection's numbers, and setters |
//! | `hdr` | header options of hooks: reserving and writing |
//!
//! # Cost
//! Without hooks, each event of connection setup costs one relaxed load. The other events go only to hooks that enabled
//! them on that sock with [`HookCx::set_cb_flags`]; without one they cost the test of a byte. A hook for chosen
//! connections is compared with each that begins, not with its packets.
//!
//! # Rules
//! Hooks are called in the order of their registration, with the sock owned, in either context: they must not sleep,
//! and must access the sock only through the [`HookCx`] they are given. If several hooks return a value for the same
//! event, the last one is used, as with several BPF programs. Each hook has its own flags on each sock, and a
//! listener's children inherit them; [`HookCx::value`] is 0 on a new child. Two hooks that say that they write the same
//! option ([`SockOps::option`]) are refused where a connection would have both.

mod attach;
mod ctx;
mod hdr;
mod registry;
mod scope;

#[cfg(test)]
pub(super) mod tests;

pub use crate::sock::state::State;
pub(super) use attach::Chosen;
pub use attach::{attach, detach};
pub(super) use attach::{attach_to, begin_request, detach_from, keep, names, to_child};
pub use ctx::{HookCx, SockView};
pub(crate) use hdr::OutOptions;
pub use hdr::{HdrSeg, HdrWriter, find_option};
use registry::Hook;
pub(crate) use registry::SockOpsRegistry;
pub use registry::{Refused, register, set_filters, unregister};
pub use scope::{Filter, OptionKind, Scope};

use super::tcb::{Cx, TIMEOUT_INIT_US};
use super::{listener, rtt as tcp_rtt};
use crate::base::error::Result;
use crate::wire::seq::SeqNum;
use crate::wire::tcp_options::RawOptions;
use std::net::IpAddr;
use std::time::Duration;

/// Events that a hook enables on a sock (BPF_SOCK_OPS_*_CB_FLAG, with Linux's numbers).
pub mod cb {
    /// [`super::SockOps::rto`].
    pub const RTO: u8 = 1;
    /// [`super::SockOps::retrans`].
    pub const RETRANS: u8 = 2;
    /// [`super::SockOps::state`].
    pub const STATE: u8 = 4;
    /// [`super::SockOps::rtt`].
    pub const RTT: u8 = 8;
    /// [`super::SockOps::parse_hdr_opt`] for every segment. Such a sock has no header prediction.
    pub const PARSE_ALL_HDR_OPT: u8 = 16;
    /// [`super::SockOps::parse_hdr_opt`] for segments with an option that TCP does not know.
    pub const PARSE_UNKNOWN_HDR_OPT: u8 = 32;
    /// [`super::SockOps::hdr_opt_len`] and [`super::SockOps::write_hdr_opt`].
    pub const WRITE_HDR_OPT: u8 = 64;
    /// All of them.
    pub const ALL: u8 = 127;
}

/// Longest name of a hook, bytes.
pub const NAME_MAX: usize = 31;

/// A hook's operations, one for each event; the defaults do nothing, or leave the result to other hooks. The text of
/// each says when it is called; the module's text has the common rules.
#[allow(unused_variables)]
pub trait SockOps: Send + Sync + 'static {
    /// Unique in a stack, 1 to 31 bytes.
    fn name(&self) -> &str;

    /// The sockets that it is called for. Read when it is registered.
    fn scope(&self) -> Scope {
        Scope::Stack
    }

    /// The one kind of option that it writes: no other hook of the connection writes it, and this one nothing else.
    /// None: any, as long as the header has no option of that kind. Read when it is registered.
    fn option(&self) -> Option<OptionKind> {
        None
    }

    /// It was attached to a socket ([`attach`]): the place to enable events on it. `sk` may be unconnected, a listener,
    /// or a connection in any state, for which the events of connection setup have been.
    fn attached(&self, sk: &mut HookCx<'_>) {}

    /// It is detached from a socket ([`detach`]): the last event there.
    fn detached(&self, sk: &mut HookCx<'_>) {}

    /// RTO of an unanswered SYN or SYN-ACK; None: the default of one second. Called when a connection sends its first
    /// SYN, when a listener receives one (`sk` is then a request), and when a SYN's retries are counted
    /// (BPF_SOCK_OPS_TIMEOUT_INIT).
    fn timeout_init(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        None
    }

    /// Initial receive window in segments; None: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
    fn rwnd_init(&self, sk: &mut HookCx<'_>) -> Option<u32> {
        None
    }

    /// Whether the connection negotiates ECN, regardless of `tcp_ecn` (BPF_SOCK_OPS_NEEDS_ECN).
    fn needs_ecn(&self, sk: &mut HookCx<'_>) -> bool {
        false
    }

    /// RTT of the path without queueing, for a congestion control that calls [`base_rtt`]; None: unknown
    /// (BPF_SOCK_OPS_BASE_RTT).
    fn base_rtt(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        None
    }

    /// An active open begins: the SYN is about to be built (BPF_SOCK_OPS_TCP_CONNECT_CB).
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {}

    /// The SYN-ACK arrived; `options` are its option bytes. The window is set; congestion control has not started yet
    /// (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
    fn active_established(&self, sk: &mut HookCx<'_>, options: &[u8]) {}

    /// The handshake's last segment arrived, with its option bytes in `options`; `syn` are those of the SYN, empty
    /// after a simultaneous open (BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB).
    fn passive_established(&self, sk: &mut HookCx<'_>, options: &[u8], syn: &[u8]) {}

    /// The sock has started to listen (BPF_SOCK_OPS_TCP_LISTEN_CB); or it has listened for a while, and the hook's
    /// filters, set since, now choose the first of its SYNs.
    fn listen(&self, sk: &mut HookCx<'_>) {}

    /// The retransmission timer expired: retransmissions so far, the RTO that expired, and whether the connection gives
    /// up. With [`cb::RTO`] (BPF_SOCK_OPS_RTO_CB).
    fn rto(&self, sk: &mut HookCx<'_>, retransmits: u32, rto: Duration, expired: bool) {}

    /// `segs` segments from `seq` on were retransmitted; `sent` is the result of the transmission. With [`cb::RETRANS`]
    /// (BPF_SOCK_OPS_RETRANS_CB).
    fn retrans(&self, sk: &mut HookCx<'_>, seq: SeqNum, segs: u32, sent: Result<()>) {}

    /// The connection is about to change from `old` to `new`. Not called for a request that becomes a connection, nor
    /// for listen(2). With [`cb::STATE`] (BPF_SOCK_OPS_STATE_CB).
    fn state(&self, sk: &mut HookCx<'_>, old: State, new: State) {}

    /// A round trip has ended: its last sample and the smoothed RTT, both in microseconds. Called once a round trip,
    /// not for every sample, as in Linux. With [`cb::RTT`] (BPF_SOCK_OPS_RTT_CB).
    fn rtt(&self, sk: &mut HookCx<'_>, sample_us: u32, srtt_us: u32) {}

    /// An acceptable segment arrived; `options` are its option bytes. Not in SYN-SENT, SYN-RECEIVED and LISTEN: see the
    /// `established` events. With [`cb::PARSE_ALL_HDR_OPT`], or [`cb::PARSE_UNKNOWN_HDR_OPT`]
    /// (BPF_SOCK_OPS_PARSE_HDR_OPT_CB).
    fn parse_hdr_opt(&self, sk: &mut HookCx<'_>, options: &[u8]) {}

    /// Number of option bytes to reserve in a segment, at most `seg.remaining`; if more, or 1, none are reserved. Also
    /// called without a segment (`seg.flags` is None), to compute how much data fits: a data segment has the space that
    /// was reserved then, or more if it is short, but never exceeds the path MTU. With [`cb::WRITE_HDR_OPT`]
    /// (BPF_SOCK_OPS_HDR_OPT_LEN_CB).
    fn hdr_opt_len(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>) -> usize {
        0
    }

    /// Writes into the bytes that `hdr_opt_len` reserved; unused bytes are padding. Every segment that the device cuts
    /// from a super-packet has the same bytes. With [`cb::WRITE_HDR_OPT`] (BPF_SOCK_OPS_WRITE_HDR_OPT_CB).
    fn write_hdr_opt(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {}
}

/// Why a sock has a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    /// All socks have it.
    AsAll,
    /// A filter chose it when the connection began: for as long as the connection.
    ByFilter,
    /// It was attached, here or to the listener: until it is detached.
    Attached,
}

/// State of a hook on a sock.
#[derive(Debug, Clone, Copy)]
pub(super) struct HookSlot {
    id: u64,
    flags: u8,
    has: Has,
    value: u64,
}

/// A request's addresses: the state of a connection that is not a sock yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    pub sport: u16,
    pub dport: u16,
}

impl Ends {
    pub(super) fn of(req: &listener::Request) -> Ends {
        Ends { saddr: req.saddr, daddr: req.daddr, sport: req.sport, dport: req.dport }
    }
}

/// For whom an event is.
#[derive(Clone, Copy)]
enum Who<'r> {
    /// The sock.
    Sock,
    /// The request that a listener makes of a SYN now.
    Syn(Ends),
    /// A listener's request, with the hooks that it was given.
    Request(Ends, &'r [u64]),
}

impl Who<'_> {
    /// The sock, or a SYN that a listener got.
    fn of(request: Option<Ends>) -> Who<'static> {
        request.map_or(Who::Sock, Who::Syn)
    }
}

/// Calls `f` for every hook that the sock or request has, or for those that have set one of `flags` on the sock. For a
/// request `cx` is the listener, whose flags apply.
fn each(cx: &mut Cx<'_>, flags: u8, who: Who<'_>, mut f: impl FnMut(&dyn SockOps, &mut HookCx<'_>)) {
    each_hook(cx, flags, who, |hook, sk| f(&*hook.ops, sk));
}

/// The same, for what is kept of a hook's registration.
fn each_hook(cx: &mut Cx<'_>, flags: u8, who: Who<'_>, mut f: impl FnMut(&Hook, &mut HookCx<'_>)) {
    let hooks = cx.tp.net.sock_ops.snapshot();
    let of_syn = if let Who::Syn(ends) = who { attach::of_syn(cx, ends) } else { None };
    let (ends, chosen) = match who {
        Who::Sock => (None, None),
        Who::Syn(ends) => (Some(ends), Some(of_syn.as_deref().unwrap_or_default())),
        Who::Request(ends, chosen) => (Some(ends), Some(chosen)),
    };
    let mut called = false;
    for hook in hooks.iter() {
        let has = match chosen {
            Some(chosen) => hook.scope == Scope::Stack || chosen.contains(&hook.id),
            None => attach::has(cx.tp, hook),
        };
        if flags == 0 || ctx::flags_of(cx.tp, hook.id) & flags != 0 {
            called = true;
            if has {
                f(hook, &mut HookCx::new(cx.reborrow(), hook.id, ends));
            }
        }
    }
    if !called {
        // The hooks that set the flags have been removed.
        ctx::forget_others(cx.tp, |id| hooks.iter().any(|h| h.id == id));
    }
}

#[inline]
fn wants(cx: &Cx<'_>, flags: u8) -> bool {
    cx.tp.sock_ops_flags & flags != 0
}

/// First RTO of a SYN, or of a request's SYN-ACK, microseconds (tcp_timeout_init).
pub(super) fn timeout_init(cx: &mut Cx<'_>, request: Option<Ends>) -> u32 {
    let mut us = TIMEOUT_INIT_US;
    if cx.tp.net.sock_ops.any() {
        let max = tcp_rtt::rto_max_us(cx);
        each(cx, 0, Who::of(request), |h, sk| {
            if let Some(t) = h.timeout_init(sk).filter(|t| !t.is_zero()) {
                us = t.as_micros().clamp(1, u128::from(max)) as u32;
            }
        });
    }
    us
}

/// Initial window in segments; 0: no hook sets one (tcp_rwnd_init_bpf).
pub(super) fn rwnd_init(cx: &mut Cx<'_>, request: Option<Ends>) -> u32 {
    let mut segs = 0;
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, Who::of(request), |h, sk| segs = h.rwnd_init(sk).unwrap_or(segs));
    }
    segs
}

/// Whether a hook requires ECN (tcp_bpf_ca_needs_ecn's other half).
pub(super) fn needs_ecn(cx: &mut Cx<'_>, request: Option<Ends>) -> bool {
    let mut needs = false;
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, Who::of(request), |h, sk| needs |= h.needs_ecn(sk));
    }
    needs
}

/// RTT of the path without queueing, if a hook knows it; for congestion control, such as Linux's NV.
pub fn base_rtt(cx: &mut Cx<'_>) -> Option<Duration> {
    let mut rtt = None;
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, Who::Sock, |h, sk| rtt = h.base_rtt(sk).or(rtt));
    }
    rtt
}

/// An active open begins; the tuple is chosen.
pub(super) fn tcp_connect(cx: &mut Cx<'_>) {
    if cx.tp.net.sock_ops.any() {
        attach::begin_connect(cx);
        each(cx, 0, Who::Sock, |h, sk| h.tcp_connect(sk));
    }
}

pub(super) fn listen(cx: &mut Cx<'_>) {
    if cx.tp.net.sock_ops.any() {
        attach::begin_listen(cx);
        each(cx, 0, Who::Sock, |h, sk| h.listen(sk));
    }
}

/// Which side opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    Actively,
    Passively,
}

/// The connection is established; `options` are those of the segment that completed the handshake
/// (bpf_skops_established).
pub(super) fn established(cx: &mut Cx<'_>, how: Opened, options: &[u8]) {
    if !cx.tp.net.sock_ops.any() {
        return;
    }
    let syn = cx.tp.cold.as_mut().and_then(|c| c.syn_options.take()).unwrap_or_default();
    each(cx, 0, Who::Sock, |h, sk| match how {
        Opened::Actively => h.active_established(sk, options),
        Opened::Passively => h.passive_established(sk, options, &syn),
    });
}

#[inline]
pub(super) fn rto(cx: &mut Cx<'_>, expired: bool) {
    if wants(cx, cb::RTO) {
        let (n, rto) = (u32::from(cx.tp.retransmits), Duration::from_micros(u64::from(cx.tp.rto_us)));
        each(cx, cb::RTO, Who::Sock, |h, sk| h.rto(sk, n, rto, expired));
    }
}

#[inline]
pub(super) fn retrans(cx: &mut Cx<'_>, seq: SeqNum, segs: u32, sent: Result<()>) {
    if wants(cx, cb::RETRANS) {
        each(cx, cb::RETRANS, Who::Sock, |h, sk| h.retrans(sk, seq, segs, sent));
    }
}

#[inline]
pub(super) fn state(cx: &mut Cx<'_>, old: State, new: State) {
    if wants(cx, cb::STATE) && new != State::Listen && (old, new) != (State::Close, State::SynRecv) {
        each(cx, cb::STATE, Who::Sock, |h, sk| h.state(sk, old, new));
    }
}

#[inline]
pub(super) fn rtt(cx: &mut Cx<'_>, sample_us: u32) {
    if wants(cx, cb::RTT) {
        let srtt = cx.tp.srtt_us >> 3;
        each(cx, cb::RTT, Who::Sock, |h, sk| h.rtt(sk, sample_us, srtt));
    }
}

/// Flags that enable the parsing of a segment's options; `unknown`: TCP does not know all of them.
#[inline]
fn parse_flags(unknown: bool) -> u8 {
    cb::PARSE_ALL_HDR_OPT | if unknown { cb::PARSE_UNKNOWN_HDR_OPT } else { 0 }
}

/// Whether a hook parses every segment's options, so that header prediction does not apply.
#[inline]
pub(super) fn wants_options(cx: &Cx<'_>, unknown: bool) -> bool {
    wants(cx, parse_flags(unknown))
}

/// Passes an acceptable segment's options to hooks. `unknown`: TCP does not know all of them (bpf_skops_parse_hdr).
#[inline]
pub(super) fn parse_hdr_opt(cx: &mut Cx<'_>, options: &[u8], unknown: bool) {
    let flags = parse_flags(unknown);
    if wants(cx, flags) && !matches!(cx.state(), State::SynRecv | State::SynSent | State::Listen) {
        each(cx, flags, Who::Sock, |h, sk| h.parse_hdr_opt(sk, options));
    }
}

/// Bytes that hooks reserve in data segments in addition to `used` of TCP's own options (tcp_current_mss's part for
/// BPF).
#[inline]
pub(super) fn reserved(cx: &mut Cx<'_>, used: usize) -> usize {
    if wants(cx, cb::WRITE_HDR_OPT) { hdr::reserve(cx, Who::Sock, used, &HdrSeg::none()).total() } else { 0 }
}

/// The options of hooks for a segment whose own option bytes are `own`.
#[inline]
pub(super) fn write_options(cx: &mut Cx<'_>, own: &[u8], seg: &HdrSeg<'_>) -> Option<OutOptions> {
    wants(cx, cb::WRITE_HDR_OPT).then(|| hdr::write(cx, Who::Sock, own, seg))
}

/// The same for a request's SYN-ACK: `cx` is the listener.
#[inline]
pub(super) fn write_synack_options(
    cx: &mut Cx<'_>,
    req: &listener::Request,
    own: &[u8],
    seg: &HdrSeg<'_>,
) -> Option<OutOptions> {
    let chosen = req.cold.as_ref().and_then(|c| c.hooks.as_deref()).unwrap_or_default();
    wants(cx, cb::WRITE_HDR_OPT).then(|| hdr::write(cx, Who::Request(Ends::of(req), chosen), own, seg))
}

/// Whether `options` contains an option of the same kind and, for experiments, of the same number.
pub(super) fn has_option(options: &[u8], kind: OptionKind) -> bool {
    let exid = kind.exid.to_be_bytes();
    let same = |data: &[u8]| !OptionKind::is_experimental(kind.kind) || data.starts_with(&exid);
    RawOptions::new(options).any(|o| o.kind == kind.kind && same(o.data))
}
