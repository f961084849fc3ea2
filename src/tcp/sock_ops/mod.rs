//! Hooks into TCP: code that a user registers is called at events of a connection, sets what Linux lets a BPF program
//! set, and writes and reads header options. Above: users, in Rust or through the C mirror. Below: the places of TCP
//! that call the functions here, where Linux calls its programs: `control` (connect), `handshake`, `input`
//! (established, options), `rtt`, `timer` (RTO), `retransmit`, `segment` (options), `listener`, `mod` (states). Linux:
//! BPF_PROG_TYPE_SOCK_OPS, tcp_call_bpf, bpf_skops_*.
//!
//! | file | what |
//! |---|---|
//! | `ctx` | what a hook is given of a connection, and what it may set |
//! | `hdr` | header options of hooks: room and writing |
//!
//! # What it costs
//! Without a hook each event of a connection's beginning costs one relaxed load. The other events go to hooks that
//! asked for them on that sock by [`HookCx::set_cb_flags`]; without one they cost the test of a byte.
//!
//! # Rules
//! Hooks are called in the order of their registration, with the sock owned, in either context: they must not sleep,
//! and must not call into the sock by any other way than the [`HookCx`] they are given. Where one answer is wanted and
//! several hooks give one, the last counts, as with several BPF programs. Flags are a hook's own on each sock, and a
//! listener's children inherit them; [`HookCx::value`] begins at 0 on a child.

mod ctx;
mod hdr;

#[cfg(test)]
pub(super) mod tests;

pub use crate::sock::state::State;
pub(super) use ctx::inherit;
pub use ctx::{HookCx, SockView};
pub(crate) use hdr::OutOptions;
pub use hdr::{HdrSeg, HdrWriter, find_option};

use super::net;
use super::tcb::{Cx, TIMEOUT_INIT_US};
use super::{listener, rtt as tcp_rtt};
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use crate::wire::seq::SeqNum;
use crate::wire::tcp_options::RawOptions;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Which events a hook wants of a sock (BPF_SOCK_OPS_*_CB_FLAG, by Linux's numbers).
pub mod cb {
    /// [`super::SockOps::rto`].
    pub const RTO: u8 = 1;
    /// [`super::SockOps::retrans`].
    pub const RETRANS: u8 = 2;
    /// [`super::SockOps::state`].
    pub const STATE: u8 = 4;
    /// [`super::SockOps::rtt`].
    pub const RTT: u8 = 8;
    /// [`super::SockOps::parse_hdr_opt`] of every segment. Such a sock has no header prediction.
    pub const PARSE_ALL_HDR_OPT: u8 = 16;
    /// [`super::SockOps::parse_hdr_opt`] of segments with an option that TCP does not know.
    pub const PARSE_UNKNOWN_HDR_OPT: u8 = 32;
    /// [`super::SockOps::hdr_opt_len`] and [`super::SockOps::write_hdr_opt`].
    pub const WRITE_HDR_OPT: u8 = 64;
    /// All of them.
    pub const ALL: u8 = 127;
}

/// Longest name of a hook, bytes.
pub const NAME_MAX: usize = 31;

/// A hook's operations, one an event; what is left out does nothing, or leaves the answer to others. The text of each
/// says when it is called; rules that hold for all are in the module's text.
#[allow(unused_variables)]
pub trait SockOps: Send + Sync + 'static {
    /// Unique in a stack, 1 to 31 bytes.
    fn name(&self) -> &str;

    /// RTO of a SYN or SYN-ACK not answered yet; None: the default, a second. Asked when a connection sends its first
    /// SYN, when a listener gets one (`sk` is then a request), and when a SYN's retries are counted
    /// (BPF_SOCK_OPS_TIMEOUT_INIT).
    fn timeout_init(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        None
    }

    /// First window to advertise, in segments; None: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
    fn rwnd_init(&self, sk: &mut HookCx<'_>) -> Option<u32> {
        None
    }

    /// Whether the connection is to ask for ECN, or to agree to it, whatever `tcp_ecn` says (BPF_SOCK_OPS_NEEDS_ECN).
    fn needs_ecn(&self, sk: &mut HookCx<'_>) -> bool {
        false
    }

    /// RTT of the path without queues, for a congestion control that asks ([`base_rtt`]); None: unknown
    /// (BPF_SOCK_OPS_BASE_RTT).
    fn base_rtt(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        None
    }

    /// An active open begins: the SYN is about to be made (BPF_SOCK_OPS_TCP_CONNECT_CB).
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {}

    /// The SYN-ACK came; `options` are its option bytes. The window is set, congestion control not started yet
    /// (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
    fn active_established(&self, sk: &mut HookCx<'_>, options: &[u8]) {}

    /// The handshake's last segment came, its option bytes in `options`; `syn` are those of the SYN, empty for a
    /// simultaneous open (BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB).
    fn passive_established(&self, sk: &mut HookCx<'_>, options: &[u8], syn: &[u8]) {}

    /// The sock listens now (BPF_SOCK_OPS_TCP_LISTEN_CB).
    fn listen(&self, sk: &mut HookCx<'_>) {}

    /// The retransmission timer fired: retransmissions so far, the RTO that ended, and whether the connection gives up.
    /// With [`cb::RTO`] (BPF_SOCK_OPS_RTO_CB).
    fn rto(&self, sk: &mut HookCx<'_>, retransmits: u32, rto: Duration, expired: bool) {}

    /// `segs` segments from `seq` on were sent again; `sent` is what the device said. With [`cb::RETRANS`]
    /// (BPF_SOCK_OPS_RETRANS_CB).
    fn retrans(&self, sk: &mut HookCx<'_>, seq: SeqNum, segs: u32, sent: Result<()>) {}

    /// The connection is about to leave `old` for `new`. Not for a request that becomes a connection, nor for
    /// listen(2). With [`cb::STATE`] (BPF_SOCK_OPS_STATE_CB).
    fn state(&self, sk: &mut HookCx<'_>, old: State, new: State) {}

    /// A round trip is over: its last sample and the smoothed RTT, both in microseconds. Once a round trip, not once a
    /// sample, as in Linux. With [`cb::RTT`] (BPF_SOCK_OPS_RTT_CB).
    fn rtt(&self, sk: &mut HookCx<'_>, sample_us: u32, srtt_us: u32) {}

    /// A segment came that is acceptable; `options` are its option bytes. Not in SYN-SENT, SYN-RECEIVED and LISTEN: see
    /// the `established` events. With [`cb::PARSE_ALL_HDR_OPT`], or [`cb::PARSE_UNKNOWN_HDR_OPT`]
    /// (BPF_SOCK_OPS_PARSE_HDR_OPT_CB).
    fn parse_hdr_opt(&self, sk: &mut HookCx<'_>, options: &[u8]) {}

    /// How many bytes of options to reserve in a segment, at most `seg.remaining`; for more, or for 1, none are
    /// reserved. Also called without a segment (`seg.flags` is None), to compute how much data fits: a data segment has
    /// the room that was reserved then, or more if it is short, but never exceeds the path MTU. With
    /// [`cb::WRITE_HDR_OPT`] (BPF_SOCK_OPS_HDR_OPT_LEN_CB).
    fn hdr_opt_len(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>) -> usize {
        0
    }

    /// Writes into what `hdr_opt_len` reserved; what is left over is padding. Every segment that the device cuts from a
    /// super-packet carries the same bytes. With [`cb::WRITE_HDR_OPT`] (BPF_SOCK_OPS_WRITE_HDR_OPT_CB).
    fn write_hdr_opt(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {}
}

/// A registered hook.
struct Hook {
    id: u64,
    ops: Arc<dyn SockOps>,
}

/// A stack's hooks.
#[derive(Default)]
pub(crate) struct SockOpsRegistry {
    any: AtomicBool,
    list: RwLock<List>,
}

#[derive(Default)]
struct List {
    next_id: u64,
    /// Replaced as a whole, so that an event holds no lock while it runs.
    hooks: Arc<Vec<Arc<Hook>>>,
}

impl SockOpsRegistry {
    /// Adds a hook behind the others. EINVAL: a name of no or more than 31 bytes; EEXIST: one of that name is there.
    pub(crate) fn register(&self, ops: Arc<dyn SockOps>) -> Result<()> {
        let n = ops.name();
        if n.is_empty() || n.len() > NAME_MAX {
            return Err(Error::Inval);
        }
        let mut list = self.list.write();
        if list.hooks.iter().any(|h| h.ops.name() == n) {
            return Err(Error::Exist);
        }
        list.next_id += 1;
        let hook = Arc::new(Hook { id: list.next_id, ops });
        let hooks = list.hooks.iter().cloned().chain([hook]).collect();
        list.hooks = Arc::new(hooks);
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a hook: no event that begins later calls it. An event that is running still holds it, so what the hook's
    /// code needs may be freed only when the last clone of the returned value is dropped. ENOENT: none of that name.
    pub(crate) fn unregister(&self, name: &str) -> Result<Arc<dyn SockOps>> {
        let mut list = self.list.write();
        let Some(gone) = list.hooks.iter().find(|h| h.ops.name() == name).cloned() else { return Err(Error::NoEnt) };
        list.hooks = Arc::new(list.hooks.iter().filter(|h| h.id != gone.id).cloned().collect());
        self.any.store(!list.hooks.is_empty(), Ordering::Relaxed);
        Ok(gone.ops.clone())
    }

    /// Names in order of registration.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        self.list.read().hooks.iter().map(|h| h.ops.name().to_owned()).collect()
    }

    /// Whether there is a hook.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn snapshot(&self) -> Arc<Vec<Arc<Hook>>> {
        self.list.read().hooks.clone()
    }
}

/// Adds hooks to a stack's TCP, behind those that are there. EINVAL: a name of no or more than 31 bytes; EEXIST: one of
/// that name is there; ENOPROTOOPT: the stack has no TCP. Linux: attaching a BPF_PROG_TYPE_SOCK_OPS program to the root
/// cgroup.
pub fn register(stack: &Stack, ops: Arc<dyn SockOps>) -> Result<()> {
    net::of(stack)?.sock_ops.register(ops)
}

/// Takes hooks out: no event that begins later reaches them. One that is running still holds them, so whoever frees
/// what their code needs does so when the last clone of what is returned here goes. ENOENT: none of that name;
/// ENOPROTOOPT: the stack has no TCP.
pub fn unregister(stack: &Stack, name: &str) -> Result<Arc<dyn SockOps>> {
    net::of(stack)?.sock_ops.unregister(name)
}

/// What a sock keeps of a hook.
#[derive(Debug, Clone, Copy)]
pub(super) struct HookSlot {
    id: u64,
    flags: u8,
    value: u64,
}

/// A request's addresses: what a hook sees of a connection that is no sock yet.
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

/// Calls `f` for every hook, or for those that have one of `flags` set on this sock. For a request `cx` is the
/// listener, whose flags count.
fn each(cx: &mut Cx<'_>, flags: u8, request: Option<Ends>, mut f: impl FnMut(&dyn SockOps, &mut HookCx<'_>)) {
    let hooks = cx.tp.net.sock_ops.snapshot();
    let mut called = false;
    for hook in hooks.iter() {
        if flags == 0 || ctx::flags_of(cx.tp, hook.id) & flags != 0 {
            called = true;
            f(&*hook.ops, &mut HookCx::new(cx.reborrow(), hook.id, request));
        }
    }
    if !called {
        // The hooks that set the flags were removed.
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
        each(cx, 0, request, |h, sk| {
            if let Some(t) = h.timeout_init(sk).filter(|t| !t.is_zero()) {
                us = t.as_micros().clamp(1, u128::from(max)) as u32;
            }
        });
    }
    us
}

/// First window in segments, 0: no hook gives one (tcp_rwnd_init_bpf).
pub(super) fn rwnd_init(cx: &mut Cx<'_>, request: Option<Ends>) -> u32 {
    let mut segs = 0;
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, request, |h, sk| segs = h.rwnd_init(sk).unwrap_or(segs));
    }
    segs
}

/// Whether a hook wants ECN (tcp_bpf_ca_needs_ecn's other half).
pub(super) fn needs_ecn(cx: &mut Cx<'_>, request: Option<Ends>) -> bool {
    let mut needs = false;
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, request, |h, sk| needs |= h.needs_ecn(sk));
    }
    needs
}

/// The RTT that a path has without queues, if a hook knows; for congestion control, as Linux's NV asks.
pub fn base_rtt(cx: &mut Cx<'_>) -> Option<Duration> {
    let mut rtt = None;
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, None, |h, sk| rtt = h.base_rtt(sk).or(rtt));
    }
    rtt
}

pub(super) fn tcp_connect(cx: &mut Cx<'_>) {
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, None, |h, sk| h.tcp_connect(sk));
    }
}

pub(super) fn listen(cx: &mut Cx<'_>) {
    if cx.tp.net.sock_ops.any() {
        each(cx, 0, None, |h, sk| h.listen(sk));
    }
}

/// Which side of a handshake ended it.
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
    each(cx, 0, None, |h, sk| match how {
        Opened::Actively => h.active_established(sk, options),
        Opened::Passively => h.passive_established(sk, options, &syn),
    });
}

#[inline]
pub(super) fn rto(cx: &mut Cx<'_>, expired: bool) {
    if wants(cx, cb::RTO) {
        let (n, rto) = (u32::from(cx.tp.retransmits), Duration::from_micros(u64::from(cx.tp.rto_us)));
        each(cx, cb::RTO, None, |h, sk| h.rto(sk, n, rto, expired));
    }
}

#[inline]
pub(super) fn retrans(cx: &mut Cx<'_>, seq: SeqNum, segs: u32, sent: Result<()>) {
    if wants(cx, cb::RETRANS) {
        each(cx, cb::RETRANS, None, |h, sk| h.retrans(sk, seq, segs, sent));
    }
}

#[inline]
pub(super) fn state(cx: &mut Cx<'_>, old: State, new: State) {
    if wants(cx, cb::STATE) && new != State::Listen && (old, new) != (State::Close, State::SynRecv) {
        each(cx, cb::STATE, None, |h, sk| h.state(sk, old, new));
    }
}

#[inline]
pub(super) fn rtt(cx: &mut Cx<'_>, sample_us: u32) {
    if wants(cx, cb::RTT) {
        let srtt = cx.tp.srtt_us >> 3;
        each(cx, cb::RTT, None, |h, sk| h.rtt(sk, sample_us, srtt));
    }
}

/// Flags that ask for a segment's options; `unknown`: TCP does not know all of them.
#[inline]
fn parse_flags(unknown: bool) -> u8 {
    cb::PARSE_ALL_HDR_OPT | if unknown { cb::PARSE_UNKNOWN_HDR_OPT } else { 0 }
}

/// Whether hooks want to see a segment's options, so that header prediction does not apply.
#[inline]
pub(super) fn wants_options(cx: &Cx<'_>, unknown: bool) -> bool {
    wants(cx, parse_flags(unknown))
}

/// An acceptable segment's options. `unknown`: TCP does not know all of them (bpf_skops_parse_hdr).
#[inline]
pub(super) fn parse_hdr_opt(cx: &mut Cx<'_>, options: &[u8], unknown: bool) {
    let flags = parse_flags(unknown);
    if wants(cx, flags) && !matches!(cx.state(), State::SynRecv | State::SynSent | State::Listen) {
        each(cx, flags, None, |h, sk| h.parse_hdr_opt(sk, options));
    }
}

/// Bytes that hooks reserve in data segments beside `used` of TCP's own options (tcp_current_mss's part for BPF).
#[inline]
pub(super) fn reserved(cx: &mut Cx<'_>, used: usize) -> usize {
    if wants(cx, cb::WRITE_HDR_OPT) { hdr::reserve(cx, None, used, &HdrSeg::none()).total() } else { 0 }
}

/// What hooks write into a segment whose own option bytes are `own`.
#[inline]
pub(super) fn write_options(cx: &mut Cx<'_>, own: &[u8], seg: &HdrSeg<'_>) -> Option<OutOptions> {
    wants(cx, cb::WRITE_HDR_OPT).then(|| hdr::write(cx, None, own, seg))
}

/// The same for a request's SYN-ACK: `cx` is the listener.
#[inline]
pub(super) fn write_synack_options(cx: &mut Cx<'_>, ends: Ends, own: &[u8], seg: &HdrSeg<'_>) -> Option<OutOptions> {
    wants(cx, cb::WRITE_HDR_OPT).then(|| hdr::write(cx, Some(ends), own, seg))
}

/// Whether an option of the same kind, for experiments also of the same number, is among `options`.
pub(super) fn has_option(options: &[u8], option: &[u8]) -> bool {
    let [kind, _, rest @ ..] = option else { return false };
    let exid = match (*kind, rest) {
        (253 | 254, [a, b, ..]) => Some(u16::from_be_bytes([*a, *b])),
        _ => None,
    };
    RawOptions::new(options).any(|o| o.kind == *kind && exid.is_none_or(|x| o.data.starts_with(&x.to_be_bytes())))
}
