//! `struct usk_cong_ops`: congestion control of TCP's connections written in C, the mirror of struct
//! tcp_congestion_ops. The Rust traits behind it are `usersock::tcp::cong::{CongOps, CongAlgo}`; `cong_tcp` has the
//! connection's numbers as C sees them. Values that a function writes or returns are clamped to sane bounds; a function
//! that unwinds breaks its socket, and is not called for it again.

use super::cong_tcp::{self, MAX_CWND, usk_rate_sample_t, usk_tcp_t};
use super::gate::kernel;
use super::lists::usk_sysctl_t;
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::table::Table;
use crate::handle::lend;
use crate::held;
use crate::held::contain;
use crate::library::usk_plugin_t;
use crate::loader::TableKind;
use smallvec::SmallVec;
use std::any::Any;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::{Arc, OnceLock, Weak};
use usersock::error::{Error, Result};
use usersock::stack::Stack;
use usersock::tcp::cong::{self, AckSample, CaEvent, CongAlgo, CongOps, PacketSample};
use usersock::tcp::cong::{CaState, Cx, INFINITE_SSTHRESH, RateSample, ca_slot};
use usersock::tcp::sock_ops;
use usersock::wire::seq::SeqNum;

/// `version` of struct usk_cong_ops.
pub const USK_CONG_VERSION: u32 = 1;
/// Most bytes of a connection's own memory (usk_cong_ops.priv_size).
pub const USK_CONG_PRIV_MAX: u32 = 1024;
/// Most bytes that usk_cong_ops.get_info may write.
pub const USK_CONG_INFO_MAX: usize = 64;
/// usk_cong_ops.flags: the algorithm needs ECN (TCP_CONG_NEEDS_ECN): SYNs request it whatever net.ipv4.tcp_ecn is, and
/// are sent ECT(0); if both ends agree (usk_tcp_t.ecn_ok), so is every packet.
pub const USK_CONG_NEEDS_ECN: u32 = 1;
/// With USK_CONG_NEEDS_ECN: the receiver echoes the CE mark of each segment, not a mark until the sender's CWR (RFC
/// 8257 §3.2), so that the sender counts what was marked.
pub const USK_CONG_EXACT_ECE: u32 = 2;
/// Every program may choose the algorithm by TCP_CONGESTION (TCP_CONG_NON_RESTRICTED). Without it the programs of a
/// stack server, which lack CAP_NET_ADMIN, get EPERM, unless net.ipv4.tcp_allowed_congestion_control or
/// net.ipv4.tcp_congestion_control name the algorithm.
pub const USK_CONG_NON_RESTRICTED: u32 = 4;
/// The algorithm takes the place of the one of the same name, if a plug-in has registered one (a built-in one is
/// -EPERM): connections that begin from now on have the new one, children of listeners that selected it before too, and
/// so has a socket that selects it by TCP_CONGESTION. Connections that have the other keep it, and it stays registered
/// until usk_unregister, or usk_plugin_unload of its plug-in, which is -EBUSY until the last of them has ended.
/// Counters and sysctls of the same names are shared: they go on, with the values that they have; a sysctl's range must
/// be the same. (BPF's update of a struct_ops link, tcp_update_congestion_control.)
pub const USK_CONG_REPLACE: u32 = 8;

/// Congestion states (enum tcp_ca_state): no congestion.
pub const USK_CA_OPEN: u8 = 0;
/// Duplicate ACKs or SACKs arrived.
pub const USK_CA_DISORDER: u8 = 1;
/// Congestion without loss: the window is being reduced.
pub const USK_CA_CWR: u8 = 2;
/// Fast recovery.
pub const USK_CA_RECOVERY: u8 = 3;
/// After a retransmission timeout.
pub const USK_CA_LOSS: u8 = 4;

/// Events (enum tcp_ca_event): data is sent while nothing was in flight.
pub const USK_CA_EVENT_TX_START: c_int = 0;
/// The window restarts after an idle time.
pub const USK_CA_EVENT_CWND_RESTART: c_int = 1;
/// A reduction is complete.
pub const USK_CA_EVENT_COMPLETE_CWR: c_int = 2;
/// A retransmission timeout.
pub const USK_CA_EVENT_LOSS: c_int = 3;
/// A packet without a CE mark arrived (only with USK_CONG_NEEDS_ECN).
pub const USK_CA_EVENT_ECN_NO_CE: c_int = 4;
/// A packet with a CE mark arrived.
pub const USK_CA_EVENT_ECN_IS_CE: c_int = 5;

/// Flags of in_ack_event: the acknowledgement was not the predicted next one.
pub const USK_CA_ACK_SLOWPATH: u32 = 1;
/// The acknowledgement updated the send window.
pub const USK_CA_ACK_WIN_UPDATE: u32 = 2;
/// The acknowledgement has ECE.
pub const USK_CA_ACK_ECE: u32 = 4;

/// The sample of an acknowledgement, for pkts_acked (struct ack_sample).
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_ack_sample_t {
    /// RTT of the sample, microseconds; -1: none.
    pub rtt_us: i64,
    /// Segments acknowledged.
    pub pkts_acked: u32,
    /// Bytes in flight when the sampled segment was sent.
    pub in_flight: u32,
}

/// A packet that an acknowledgement has delivered, for pkts_delivered. A super-packet is one packet of several
/// segments.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_pkt_sample_t {
    /// When it was sent, the last time if more than once, nanoseconds of the stack's clock.
    pub sent_at: u64,
    /// Microseconds since then; -1: it was sent again, and which one has arrived is unknown (Karn's rule).
    pub rtt_us: i64,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// That behind its last byte.
    pub end_seq: u32,
    /// Its segments.
    pub segs: u32,
    /// usk_tcp_t.delivered when it was sent.
    pub prior_delivered: u32,
    /// 1: it was sent again.
    pub is_retrans: u32,
    /// 1: selectively acknowledged: not all before it has arrived.
    pub is_sacked: u32,
}

/// Congestion control of TCP's connections (struct tcp_congestion_ops). Every function gets the connection's variables,
/// some of which it may write, and `priv_`: priv_size bytes of private memory of the connection, initially zero,
/// aligned to 16; null if priv_size is 0. Functions run in either context with the sock owned: they must not sleep, and
/// may call only the usk_tcp_ functions, usk_count, usk_sysctl, usk_user, usk_random and usk_break (the POSIX-shaped
/// calls return EDEADLK for the sock). None is called before init or after release. No C++ exception and no panic of a
/// Rust shared object may leave a function: catch it and call usk_break(tp->sk).
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_cong_ops {
    /// USK_CONG_VERSION.
    pub version: u32,
    /// sizeof(struct usk_cong_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// 1 to 15 printable characters, as TCP_CONGESTION and net.ipv4.tcp_congestion_control take it; unique in a stack.
    /// Required.
    pub name: *const c_char,
    /// Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
    /// usk_mib_read reads them.
    pub mib_names: *const *const c_char,
    /// Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// USK_CONG_ bits, or 0.
    pub flags: u32,
    /// Bytes of `priv_`, at most USK_CONG_PRIV_MAX.
    pub priv_size: u32,
    /// The connection begins, or changes to this algorithm. Null: no action.
    pub init: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void)>,
    /// The connection ends, or changes to another algorithm; writes to `tp` are ignored. Null: no action.
    pub release: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void)>,
    /// Returns the slow-start threshold after a loss, segments. Required.
    pub ssthresh: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void) -> u32>,
    /// `acked` segments, up to `ack`, were acknowledged without congestion: increases the window. Required, unless
    /// cong_control is set.
    pub cong_avoid: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, ack: u32, acked: u32)>,
    /// Called for every acknowledgement, in place of cong_avoid and of the reduction in recovery: sets snd_cwnd and
    /// pacing_rate. `flags` are Linux's FLAG_ bits: 0x04 data acknowledged, 0x20 data selectively acknowledged, 0x40
    /// ECE, 0x400 snd_una advanced. Null: cong_avoid and the standard reduction are used.
    pub cong_control: Option<
        unsafe extern "C-unwind" fn(
            tp: *mut usk_tcp_t,
            priv_: *mut c_void,
            ack: u32,
            flags: u32,
            rs: *const usk_rate_sample_t,
        ),
    >,
    /// Segments were acknowledged. Null: nothing.
    pub pkts_acked:
        Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, sample: *const usk_ack_sample_t)>,
    /// An acknowledgement arrived; `flags`: USK_CA_ACK_ bits. Called after pkts_acked and before loss detection. Null:
    /// no action.
    pub in_ack_event: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, flags: u32)>,
    /// The state will be `state` (USK_CA_OPEN ...); tp->ca_state is still the old one. Null: nothing.
    pub set_state: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, state: u8)>,
    /// One of USK_CA_EVENT_*. Null: nothing.
    pub cwnd_event: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, event: c_int)>,
    /// Returns the window after a spurious loss, segments. Required.
    pub undo_cwnd: Option<unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void) -> u32>,
    /// Returns the minimum number of segments of a super-packet; writes to `tp` are ignored. Null:
    /// net.ipv4.tcp_min_tso_segs.
    pub min_tso_segs: Option<unsafe extern "C-unwind" fn(tp: *const usk_tcp_t, priv_: *mut c_void) -> u32>,
    /// Returns how many windows the send buffer should hold; writes to `tp` are ignored. Null: 2.
    pub sndbuf_expand: Option<unsafe extern "C-unwind" fn(tp: *const usk_tcp_t, priv_: *mut c_void) -> u32>,
    /// For TCP_CC_INFO: writes at most `len` (USK_CONG_INFO_MAX) bytes to `info` and returns how many; writes to `tp`
    /// are ignored. Null: none.
    pub get_info: Option<
        unsafe extern "C-unwind" fn(tp: *const usk_tcp_t, priv_: *mut c_void, info: *mut c_void, len: usize) -> usize,
    >,
    /// An acknowledgement has delivered these `n` packets, each for the first time; called before pkts_acked, so that
    /// every packet gives a sample of the RTT and not the last one alone. For a protocol that borrows the algorithm
    /// (usk_cong_new): the packet of the acknowledgement's mark, of one segment. Null: no action.
    pub pkts_delivered: Option<
        unsafe extern "C-unwind" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, pkts: *const usk_pkt_sample_t, n: u32),
    >,
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_cong_ops {
    const NAME: &'static str = "struct usk_cong_ops";
    const VERSION: u32 = USK_CONG_VERSION;
    const FIRST_SIZE: usize = offset_of!(usk_cong_ops, pkts_delivered);
}

const _: () = assert!(begins_with_head(
    offset_of!(usk_cong_ops, name),
    offset_of!(usk_cong_ops, mib_names),
    offset_of!(usk_cong_ops, sysctls)
));

type CongReg = Registration<usk_cong_ops>;

// SAFETY: begins with those members, as asserted; a plug-in guarantees that its functions may be called from any
// thread.
unsafe impl Registered for usk_cong_ops {
    /// What the registry and the connections hold; of one that was replaced, those connections alone.
    type Own = OnceLock<Weak<Entry>>;
    const KIND: TableKind = TableKind::Congestion;

    fn check(&self, name: &str) -> std::result::Result<(), String> {
        let lacks = |what: &str| Err(what.to_owned());
        if name.is_empty() || name.len() > 15 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return lacks("a name is 1 to 15 printable characters");
        }
        if self.flags & !(USK_CONG_NEEDS_ECN | USK_CONG_EXACT_ECE | USK_CONG_NON_RESTRICTED | USK_CONG_REPLACE) != 0 {
            return lacks("unknown flags");
        }
        if self.flags & (USK_CONG_NEEDS_ECN | USK_CONG_EXACT_ECE) == USK_CONG_EXACT_ECE {
            return lacks("USK_CONG_EXACT_ECE without USK_CONG_NEEDS_ECN");
        }
        if self.priv_size > USK_CONG_PRIV_MAX {
            return lacks("priv_size above 1024");
        }
        if self.ssthresh.is_none() {
            return lacks("ssthresh is null");
        }
        if self.undo_cwnd.is_none() {
            return lacks("undo_cwnd is null");
        }
        if self.cong_avoid.is_none() && self.cong_control.is_none() {
            return lacks("cong_avoid and cong_control are null");
        }
        Ok(())
    }

    fn replaced(&self, stack: &Stack, name: &str) -> Option<Arc<CongReg>> {
        let ops = cong::find(stack, name).filter(|_| self.flags & USK_CONG_REPLACE != 0)?;
        let any: &dyn Any = &*ops;
        any.downcast_ref::<Entry>().map(|entry| entry.0.clone())
    }

    fn enter(reg: &Arc<CongReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        let entry = Arc::new(Entry(reg.clone()));
        // It is new: nobody has set it.
        let _ = reg.own.set(Arc::downgrade(&entry));
        if reg.table.flags & USK_CONG_REPLACE == 0 {
            return cong::register(stack, entry).map_err(|e| (e, e.to_string()));
        }
        cong::replace(stack, entry).map_err(|e| match e {
            Error::Perm => (e, "an algorithm of the library cannot be replaced".to_owned()),
            e => (e, e.to_string()),
        })
    }

    fn leave(reg: &CongReg, stack: &Arc<Stack>) -> Result<()> {
        // Replaced, and its last connection has ended: nothing is left of it.
        let Some(entry) = reg.own.get().and_then(Weak::upgrade) else { return Ok(()) };
        let now = cong::find(stack, &reg.name);
        let replaced = now.is_none_or(|now| !ptr::addr_eq(Arc::as_ptr(&now), Arc::as_ptr(&entry)));
        drop(entry);
        // The default of new sockets counts as a user, as in Linux.
        let default = stack.sysctl.get("net.ipv4.tcp_congestion_control").unwrap_or_default();
        if replaced || default.trim() == reg.name {
            return Err(Error::Busy);
        }
        cong::unregister(stack, &reg.name)
    }
}

/// The algorithm's state of one connection.
struct Algo {
    reg: Arc<CongReg>,
    /// u128, for the alignment of 16.
    memory: Box<[u128]>,
    /// A function unwound: the socket is broken, and Reno takes the remaining decisions.
    failed: bool,
    released: bool,
    base_rtt_us: u32,
    /// The numbers as the last function left them.
    last: usk_tcp_t,
}

impl std::fmt::Debug for Algo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.reg.name)
    }
}

// SAFETY: only the plug-in uses what the last numbers point to, during calls, which may come from any thread.
unsafe impl Send for Algo {}

/// A registration as the registry holds it. The count of this Arc says whether the algorithm is in use; that of the
/// registration does not, because the plug-in's list also holds one.
pub(super) struct Entry(Arc<CongReg>);

impl CongOps for Entry {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn non_restricted(&self) -> bool {
        self.0.table.flags & USK_CONG_NON_RESTRICTED != 0
    }
    fn needs_ecn(&self) -> bool {
        self.0.table.flags & USK_CONG_NEEDS_ECN != 0
    }
    fn exact_ece(&self) -> bool {
        self.0.table.flags & USK_CONG_EXACT_ECE != 0
    }
    fn wants_packets(&self) -> bool {
        self.0.table.pkts_delivered.is_some()
    }
    fn start(&self, cx: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        let words = (self.0.table.priv_size as usize).div_ceil(16);
        let mut algo = Algo {
            reg: self.0.clone(),
            memory: vec![0; words].into_boxed_slice(),
            failed: false,
            released: false,
            base_rtt_us: sock_ops::base_rtt(cx).map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
            last: usk_tcp_t::default(),
        };
        if let Some(f) = self.0.table.init {
            // SAFETY: the table's function, called as the table documents: the numbers and the memory live while it
            // runs.
            algo.run(cx, |tp, p| unsafe { f(tp, p) });
        }
        Box::new(algo)
    }
}

impl Algo {
    fn memory(&mut self) -> *mut c_void {
        if self.memory.is_empty() { std::ptr::null_mut() } else { self.memory.as_mut_ptr().cast() }
    }

    /// Calls a function; None: it unwound, now or earlier.
    fn call<R>(&mut self, cx: &Cx<'_>, f: impl FnOnce(*mut usk_tcp_t, *mut c_void) -> R) -> Option<R> {
        if self.failed {
            return None;
        }
        let (sk, reg) = (lend(cx.sock), self.reg.handle());
        self.last = usk_tcp_t { base_rtt_us: self.base_rtt_us, sk, reg, ..usk_tcp_t::of(cx) };
        let p = self.memory();
        let tp = &raw mut self.last;
        let whole = !cx.sock.is_broken();
        // The sock is owned: a POSIX-shaped call on it returns EDEADLK instead of waiting for itself.
        match held::run(Arc::as_ptr(cx.sock), || f(tp, p)) {
            // On a sock that a hook broke, `release` must still run.
            Ok(r) if !whole || !cx.sock.is_broken() => Some(r),
            _ => {
                self.fail(cx);
                None
            }
        }
    }

    fn fail(&mut self, cx: &Cx<'_>) {
        self.failed = true;
        cx.sock.set_broken();
    }

    /// As `call`, and copies the writable numbers back.
    fn run<R>(&mut self, cx: &mut Cx<'_>, f: impl FnOnce(*mut usk_tcp_t, *mut c_void) -> R) -> Option<R> {
        let r = self.call(cx, f)?;
        self.last.write_back(cx);
        Some(r)
    }
}

fn pkt_sample(p: &PacketSample) -> usk_pkt_sample_t {
    usk_pkt_sample_t {
        sent_at: p.sent_at.as_nanos(),
        rtt_us: p.rtt_us,
        seq: p.seq.0,
        end_seq: p.end_seq.0,
        segs: p.segs,
        prior_delivered: p.prior_delivered,
        is_retrans: p.is_retrans.into(),
        is_sacked: p.is_sacked.into(),
    }
}

// SAFETY of the calls below, each: the table's function, called as the table documents; numbers, memory and samples
// live while it runs.
impl CongAlgo for Algo {
    fn slots(&self) -> u32 {
        let t = &self.reg.table;
        let bit = |present: bool, bit: u32| if present { bit } else { 0 };
        bit(t.cong_control.is_some(), ca_slot::CONG_CONTROL)
            | bit(t.cwnd_event.is_some(), ca_slot::CWND_EVENT)
            | bit(t.in_ack_event.is_some(), ca_slot::IN_ACK_EVENT)
            | bit(t.pkts_acked.is_some(), ca_slot::PKTS_ACKED)
            | bit(t.min_tso_segs.is_some(), ca_slot::MIN_TSO_SEGS)
            | bit(t.sndbuf_expand.is_some(), ca_slot::SNDBUF_EXPAND)
    }

    fn ssthresh(&mut self, cx: &mut Cx<'_>) -> u32 {
        let f = self.reg.table.ssthresh;
        // SAFETY: see above.
        let r = f.and_then(|f| self.run(cx, |tp, p| unsafe { f(tp, p) }));
        r.map_or_else(|| (cx.tp.snd_cwnd >> 1).max(2), |n| n.clamp(1, INFINITE_SSTHRESH))
    }

    fn cong_avoid(&mut self, cx: &mut Cx<'_>, ack: SeqNum, acked: u32) {
        if let Some(f) = self.reg.table.cong_avoid {
            // SAFETY: see above.
            self.run(cx, |tp, p| unsafe { f(tp, p, ack.0, acked) });
        }
    }

    fn cong_control(&mut self, cx: &mut Cx<'_>, ack: SeqNum, flag: u32, rs: &RateSample) -> bool {
        let Some(f) = self.reg.table.cong_control else { return false };
        let rs = cong_tcp::rate_sample(rs);
        // SAFETY: see above.
        self.run(cx, |tp, p| unsafe { f(tp, p, ack.0, flag, &rs) }).is_some()
    }

    fn has_cong_control(&self) -> bool {
        self.reg.table.cong_control.is_some() && !self.failed
    }

    fn set_state(&mut self, cx: &mut Cx<'_>, new: CaState) {
        if let Some(f) = self.reg.table.set_state {
            // SAFETY: see above.
            self.run(cx, |tp, p| unsafe { f(tp, p, new as u8) });
        }
    }

    fn cwnd_event(&mut self, cx: &mut Cx<'_>, event: CaEvent) {
        let event = match event {
            CaEvent::TxStart => USK_CA_EVENT_TX_START,
            CaEvent::CwndRestart => USK_CA_EVENT_CWND_RESTART,
            CaEvent::CompleteCwr => USK_CA_EVENT_COMPLETE_CWR,
            CaEvent::Loss => USK_CA_EVENT_LOSS,
            CaEvent::EcnNoCe => USK_CA_EVENT_ECN_NO_CE,
            CaEvent::EcnIsCe => USK_CA_EVENT_ECN_IS_CE,
        };
        if let Some(f) = self.reg.table.cwnd_event {
            // SAFETY: see above.
            self.run(cx, |tp, p| unsafe { f(tp, p, event) });
        }
    }

    fn in_ack_event(&mut self, cx: &mut Cx<'_>, flags: u32) {
        if let Some(f) = self.reg.table.in_ack_event {
            // SAFETY: see above.
            self.run(cx, |tp, p| unsafe { f(tp, p, flags) });
        }
    }

    fn pkts_acked(&mut self, cx: &mut Cx<'_>, sample: &AckSample) {
        if let Some(f) = self.reg.table.pkts_acked {
            let AckSample { pkts_acked, rtt_us, in_flight, .. } = *sample;
            let s = usk_ack_sample_t { rtt_us, pkts_acked, in_flight };
            // SAFETY: see above.
            self.run(cx, |tp, p| unsafe { f(tp, p, &s) });
        }
    }

    fn pkts_delivered(&mut self, cx: &mut Cx<'_>, packets: &[PacketSample]) {
        let Some(f) = self.reg.table.pkts_delivered else { return };
        let list: SmallVec<[usk_pkt_sample_t; 8]> = packets.iter().map(pkt_sample).collect();
        // SAFETY: see above.
        self.run(cx, |tp, p| unsafe { f(tp, p, list.as_ptr(), list.len() as u32) });
    }

    fn undo_cwnd(&mut self, cx: &mut Cx<'_>) -> u32 {
        let f = self.reg.table.undo_cwnd;
        // SAFETY: see above.
        let r = f.and_then(|f| self.run(cx, |tp, p| unsafe { f(tp, p) }));
        r.map_or_else(|| cx.tp.snd_cwnd.max(cx.tp.prior_cwnd), |n| n.clamp(1, MAX_CWND))
    }

    fn min_tso_segs(&mut self, cx: &Cx<'_>) -> Option<u32> {
        let f = self.reg.table.min_tso_segs?;
        // SAFETY: see above.
        self.call(cx, |tp, p| unsafe { f(tp, p) })
    }

    fn sndbuf_expand(&mut self, cx: &Cx<'_>) -> Option<u32> {
        let f = self.reg.table.sndbuf_expand?;
        // 1024 windows are more than any use needs, and no arithmetic overflows. SAFETY: see above.
        self.call(cx, |tp, p| unsafe { f(tp, p) }).map(|n| n.clamp(1, 1024))
    }

    fn get_info(&mut self, cx: &Cx<'_>) -> Option<(i32, Vec<u8>)> {
        let f = self.reg.table.get_info?;
        let mut bytes = [0u8; USK_CONG_INFO_MAX];
        let to: *mut c_void = bytes.as_mut_ptr().cast();
        // SAFETY: see above; the buffer has the length that is passed.
        let n = self.call(cx, |tp, p| unsafe { f(tp, p, to, USK_CONG_INFO_MAX) })?;
        let Some(written) = bytes.get(..n) else {
            self.fail(cx);
            return None;
        };
        (n > 0).then(|| (0, written.to_vec()))
    }

    fn release(&mut self, cx: &mut Cx<'_>) {
        if let Some(f) = self.reg.table.release {
            // SAFETY: see above.
            self.call(cx, |tp, p| unsafe { f(tp, p) });
        }
        self.released = true;
    }
}

impl Drop for Algo {
    fn drop(&mut self) {
        // The stack ended with the connection open: `release` has not run yet.
        if let Some(f) = self.reg.table.release.filter(|_| !self.released && !self.failed) {
            let p = self.memory();
            // There is no socket any more.
            self.last.sk = ptr::null_mut();
            let tp = &raw mut self.last;
            // SAFETY: the table's function, called as the table documents: numbers and memory live while it runs.
            let _ = contain(|| unsafe { f(tp, p) });
        }
    }
}

/// Registers a congestion control in the plug-in's stack: net.ipv4.tcp_congestion_control can make it the default, and
/// sockets can select it by TCP_CONGESTION (see USK_CONG_NON_RESTRICTED). `user` is for usk_user; `*out`, unless null,
/// gets the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table
/// does not fit (version, size, a required function, name, flags, priv_size, a replaced sysctl's range), -EEXIST the
/// name, a counter or a sysctl is taken, -EPERM the algorithm to replace is the library's.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated; `out` is
/// null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_cong_ops,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> c_int {
    // SAFETY: the caller vouches for plug-in, table and `out`.
    kernel(|| unsafe { registration::register(plugin, table, user, out) })
}

#[cfg(test)]
mod tests;
