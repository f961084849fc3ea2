//! `struct usk_sock_ops`: hooks into TCP in C. Above: the plug-in's functions. Below: `usersock::tcp::sock_ops`, whose
//! trait this mirrors. Beside: `hook`, the functions that an event may call. Linux: BPF_PROG_TYPE_SOCK_OPS, struct
//! bpf_sock_ops.

use super::addr::usk_addr_t;
use super::call::broken;
use super::gate::{items, kernel};
use super::lists::{self, usk_sysctl_t};
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::table::Table;
use crate::handle::{lend, usk_sock_t};
use crate::held;
use crate::held::contain;
use crate::library::usk_plugin_t;
use crate::loader::TableKind;
use crate::note;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::sock::state::State;
use usersock::stack::Stack;
use usersock::tcp::sock_ops::{self, Filter, HdrSeg, HdrWriter, HookCx, NAME_MAX, OptionKind, Scope, SockOps};
use usersock::wire::addr::Cidr;
use usersock::wire::seq::SeqNum;

/// An event: a hook's argument, valid while the hook runs. In some events the connection is a request, for which there
/// is no sock yet: it can be read, and calls that would change it return -EINVAL.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct usk_hook_t {
    /// The sock, for usk_break; for a request, its listener.
    pub sk: *mut usk_sock_t,
    /// The registration, for usk_count and usk_sysctl.
    pub reg: *mut usk_reg_t,
    /// Time of the event, nanoseconds of the stack's clock.
    pub now: u64,
    /// For the library's use.
    opaque: [*mut c_void; 2],
}

impl usk_hook_t {
    /// # Safety
    /// `h` is null or a running hook's argument.
    pub(super) unsafe fn cx<'a>(h: *mut usk_hook_t) -> Result<&'a mut HookCx<'static>> {
        // SAFETY: readable, as the caller guarantees.
        let [lent, cx] = unsafe { h.as_ref() }.ok_or(Error::Inval)?.opaque;
        if lent != mark() {
            return Err(Error::Inval);
        }
        // SAFETY: the event that it belongs to runs on this thread, which uses one reference at a time.
        Ok(unsafe { &mut *cx.cast() })
    }
}

/// A hook's part of a header: write_hdr_opt's argument.
#[allow(non_camel_case_types)]
pub struct usk_hdr_t {
    _opaque: [u8; 0],
}

/// `version` of struct usk_sock_ops.
pub const USK_SOCK_OPS_VERSION: u32 = 1;

/// usk_sock_ops.flags: the hooks are called for chosen sockets only: those that a program attaches them to
/// (usk_sock_ops_attach, or setsockopt with USK_TCP_HOOKS), and connections that begin while a filter matches
/// (usk_sock_ops_filter). Without it for all of the stack.
pub const USK_SOCK_OPS_CHOSEN: u32 = 1;

/// For usk_hook_set_cb_flags: `rto` is called (BPF_SOCK_OPS_RTO_CB_FLAG; all have Linux's numbers).
pub const USK_CB_RTO: u32 = 1;
/// `retrans` is called.
pub const USK_CB_RETRANS: u32 = 2;
/// `state` is called.
pub const USK_CB_STATE: u32 = 4;
/// `rtt` is called.
pub const USK_CB_RTT: u32 = 8;
/// `parse_hdr_opt` is called for every segment.
pub const USK_CB_PARSE_ALL_HDR_OPT: u32 = 16;
/// `parse_hdr_opt` is called for segments with an option that TCP does not know.
pub const USK_CB_PARSE_UNKNOWN_HDR_OPT: u32 = 32;
/// `hdr_opt_len` and `write_hdr_opt` are called.
pub const USK_CB_WRITE_HDR_OPT: u32 = 64;

/// usk_hdr_seg_t.flags: there is no segment yet: TCP computes how much data fits into one.
pub const USK_HDR_NO_SEGMENT: c_int = -1;

/// The segment to which options are added.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_hdr_seg_t {
    /// Its control bits as on the wire (FIN 1, SYN 2, RST 4, PSH 8, ACK 16 ...), or USK_HDR_NO_SEGMENT.
    pub flags: c_int,
    /// First sequence number.
    pub seq: u32,
    /// Number of segments into which the device splits it; each has the same option bytes.
    pub segs: u32,
    /// Bytes of options still free in the header.
    pub remaining: u32,
    /// Payload, bytes.
    pub len: usize,
    /// For a listener's SYN-ACK, the option bytes of the SYN; null for all other segments.
    pub syn: *const c_void,
    /// Number of these bytes.
    pub syn_len: usize,
}

/// Hooks into TCP: one function for each event; null: no action, or the default value. Registering copies it, with its
/// strings and lists. `user` is the pointer given to usk_sock_ops_register.
///
/// Hooks are called in the order of registration with the sock owned, in packet, timer or process context: they must
/// not sleep, and may use the sock only by usk_break and the usk_hook_ calls (the POSIX-shaped calls return EDEADLK for
/// it). Events of different socks run on different threads at the same time. If several hooks return a value, the last
/// one counts. No C++ exception and no panic of a Rust shared object may leave a hook: catch it and call
/// usk_break(h->sk); in `release` only catch it. The events of connection setup are always called; the others only if
/// the hook has requested them for that sock by usk_hook_set_cb_flags. A listener's children inherit its flags; their
/// stored value is initially 0.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_ops {
    /// USK_SOCK_OPS_VERSION.
    pub version: u32,
    /// sizeof(struct usk_sock_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// 1 to 31 printable characters without dot, unique among a stack's hooks. Required.
    pub name: *const c_char,
    /// Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
    /// usk_mib_read reads them.
    pub mib_names: *const *const c_char,
    /// Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// Initial RTO of a SYN or SYN-ACK, microseconds; 0: the default, one second. Called when a connection sends its
    /// first SYN, when a listener receives one (for the request), and when the timeout of a SYN's retries is computed
    /// (BPF_SOCK_OPS_TIMEOUT_INIT).
    pub timeout_init: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    /// Initial receive window, segments; 0: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
    pub rwnd_init: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    /// Not 0: the connection requests or accepts ECN, whatever tcp_ecn is (BPF_SOCK_OPS_NEEDS_ECN).
    pub needs_ecn: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> c_int>,
    /// RTT of the path without queues, microseconds, for the congestion control that is initialized; 0: unknown
    /// (BPF_SOCK_OPS_BASE_RTT).
    pub base_rtt: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    /// An active open begins: the SYN is about to be made (BPF_SOCK_OPS_TCP_CONNECT_CB).
    pub tcp_connect: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    /// The SYN-ACK arrived; `options` are its option bytes (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
    pub active_established:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, options: *const c_void, len: usize, user: *mut c_void)>,
    /// The last segment of the handshake arrived; `options` are its option bytes, `syn` those of the SYN, none for a
    /// simultaneous open (BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB).
    pub passive_established: Option<
        unsafe extern "C-unwind" fn(
            h: *mut usk_hook_t,
            options: *const c_void,
            len: usize,
            syn: *const c_void,
            syn_len: usize,
            user: *mut c_void,
        ),
    >,
    /// The sock listens now (BPF_SOCK_OPS_TCP_LISTEN_CB), or its first SYN that a filter set since chooses has arrived.
    pub listen: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    /// The retransmission timer fired: the number of retransmissions so far, the RTO that expired, whether the
    /// connection times out. With USK_CB_RTO.
    pub rto: Option<
        unsafe extern "C-unwind" fn(
            h: *mut usk_hook_t,
            retransmits: u32,
            rto_us: u32,
            expired: c_int,
            user: *mut c_void,
        ),
    >,
    /// `segs` segments from `seq` on were retransmitted; `err` is 0, or the negative errno of the transmission. With
    /// USK_CB_RETRANS.
    pub retrans:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, seq: u32, segs: u32, err: c_int, user: *mut c_void)>,
    /// The state is about to change from `old` to `now`, by Linux's numbers. With USK_CB_STATE.
    pub state: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, old: c_int, now: c_int, user: *mut c_void)>,
    /// Called once per round trip: its last RTT sample and the smoothed RTT, microseconds. With USK_CB_RTT.
    pub rtt: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, sample_us: u32, srtt_us: u32, user: *mut c_void)>,
    /// An acceptable segment arrived; `options` are its option bytes. Not in SYN_SENT, SYN_RECV and LISTEN. With
    /// USK_CB_PARSE_ALL_HDR_OPT or USK_CB_PARSE_UNKNOWN_HDR_OPT.
    pub parse_hdr_opt:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, options: *const c_void, len: usize, user: *mut c_void)>,
    /// Returns how many bytes of options to reserve in a segment: 2 to seg->remaining; any other value reserves none.
    /// Also called without a segment, to compute how much data fits into one: a full data segment has room for the
    /// value returned then, and no more. With USK_CB_WRITE_HDR_OPT.
    pub hdr_opt_len:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, seg: *const usk_hdr_seg_t, user: *mut c_void) -> c_int>,
    /// Writes, by usk_hdr_store, into the bytes that hdr_opt_len reserved; the remainder is padding. With
    /// USK_CB_WRITE_HDR_OPT.
    pub write_hdr_opt: Option<
        unsafe extern "C-unwind" fn(
            h: *mut usk_hook_t,
            seg: *const usk_hdr_seg_t,
            w: *mut usk_hdr_t,
            user: *mut c_void,
        ),
    >,
    /// The registration is gone and no event of it runs any more: `user` can be freed. Any context, perhaps with a sock
    /// owned: no function of the library may be called.
    pub release: Option<unsafe extern "C-unwind" fn(user: *mut c_void)>,

    /// USK_SOCK_OPS_CHOSEN, or 0.
    pub flags: u32,
    /// The one kind of option that write_hdr_opt stores; 0: it does not say, and any that the header does not have will
    /// do. Another registration that says the same is refused (-EEXIST) where a connection would have both, and
    /// usk_hdr_store refuses other options.
    pub option_kind: u16,
    /// With option_kind 253 and 254 the ExID (RFC 6994), with others 0.
    pub option_exid: u16,
    /// The hooks were attached to a socket: the place for usk_hook_set_cb_flags there. The socket is unconnected, or a
    /// listener, or a connection in any state, whose events of connection setup are over. Process context.
    pub attached: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    /// The hooks are detached from a socket: the last event there. Process context.
    pub detached: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void)>,
}

/// Connections by their ends, for usk_sock_ops_filter. What is not zero must match.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct usk_sock_ops_filter_t {
    /// Our end: the address of a prefix, family 0 for any address of either family; and a port, 0 for any.
    pub local: usk_addr_t,
    /// The peer, likewise.
    pub remote: usk_addr_t,
    /// Length of the prefix of local.addr, bits.
    pub local_prefix: u16,
    /// Length of the prefix of remote.addr, bits.
    pub remote_prefix: u16,
    /// The last of our ports, where local.port is the first of several; 0: it is the only one.
    pub local_last: u16,
    /// The last of the peer's ports, where remote.port is the first of several; 0: it is the only one.
    pub remote_last: u16,
}

impl usk_sock_ops_filter_t {
    /// The error is a line for the user.
    fn read(&self) -> std::result::Result<Filter, String> {
        let prefix = |end: &usk_addr_t, bits: u16| {
            if end.family == 0 {
                let empty = bits == 0 && end.addr == [0; 16];
                return if empty { Ok(None) } else { Err("an address without family".to_owned()) };
            }
            let ip = end.to_socket_addr().map_err(|_| format!("family {}", end.family))?.ip();
            let cidr = u8::try_from(bits).ok().and_then(|bits| Cidr::new(ip, bits));
            cidr.map(Some).ok_or_else(|| format!("{ip}/{bits}"))
        };
        let ports = |first: u16, last: u16| match (first, last) {
            (0, 0) => Ok(0..=u16::MAX),
            (first, 0) => Ok(first..=first),
            (first, last) if first <= last => Ok(first..=last),
            (first, last) => Err(format!("ports {first} to {last}")),
        };
        Ok(Filter {
            local: prefix(&self.local, self.local_prefix)?,
            remote: prefix(&self.remote, self.remote_prefix)?,
            local_ports: ports(self.local.port, self.local_last)?,
            remote_ports: ports(self.remote.port, self.remote_last)?,
        })
    }
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_sock_ops {
    const NAME: &'static str = "struct usk_sock_ops";
    const VERSION: u32 = USK_SOCK_OPS_VERSION;
    const FIRST_SIZE: usize = offset_of!(usk_sock_ops, flags);
}

const _: () = assert!(begins_with_head(
    offset_of!(usk_sock_ops, name),
    offset_of!(usk_sock_ops, mib_names),
    offset_of!(usk_sock_ops, sysctls)
));

pub(super) type HooksReg = Registration<usk_sock_ops>;

/// Whether the registry has accepted the hooks: then `release` is called when they are gone.
#[derive(Default)]
pub(crate) struct Taken(AtomicBool);

// SAFETY: begins with those members, as asserted; a plug-in says that its functions may be called from any thread.
unsafe impl Registered for usk_sock_ops {
    type Own = Taken;
    const KIND: TableKind = TableKind::Hooks;

    fn check(&self, name: &str) -> std::result::Result<(), String> {
        if !lists::good_name(name, NAME_MAX) {
            return Err(format!("a name is 1 to {NAME_MAX} printable characters without dot"));
        }
        if self.hdr_opt_len.is_some() != self.write_hdr_opt.is_some() {
            return Err("hdr_opt_len and write_hdr_opt go together".to_owned());
        }
        if self.flags & !USK_SOCK_OPS_CHOSEN != 0 {
            return Err("unknown flags".to_owned());
        }
        if self.option_kind > u16::from(u8::MAX) {
            return Err(format!("option_kind {}: a kind is 1 to 255", self.option_kind));
        }
        if self.option_kind == 0 && self.option_exid != 0 {
            return Err("option_exid without option_kind".to_owned());
        }
        Ok(())
    }

    fn enter(reg: &Arc<HooksReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        sock_ops::register(stack, reg.clone()).map_err(|refused| (refused.error, refused.why))?;
        reg.own.0.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn leave(reg: &HooksReg, stack: &Arc<Stack>) -> Result<()> {
        sock_ops::unregister(stack, &reg.name).map(drop)
    }

    fn last(reg: &mut HooksReg) {
        if let Some(f) = reg.table.release.filter(|_| *reg.own.0.get_mut()) {
            // An error is ignored: there is no sock left to break. SAFETY: the table's function, called as the table
            // documents.
            let _ = contain(|| unsafe { f(reg.user()) });
        }
    }
}

/// Marks the argument of a running event: an address that is used for nothing else.
pub(super) fn mark() -> *mut c_void {
    static LENT: u8 = 0;
    (&raw const LENT).cast_mut().cast()
}

/// The content of a [`usk_hdr_t`].
pub(super) struct Hdr {
    pub(super) lent: *mut c_void,
    pub(super) writer: *mut HdrWriter<'static>,
}

impl HooksReg {
    /// Calls a function of the table for an event. None: the sock was broken before, or the function violated its
    /// contract and broke it.
    #[inline]
    fn event<R>(&self, cx: &mut HookCx<'_>, f: impl FnOnce(*mut usk_hook_t, *mut c_void) -> R) -> Option<R> {
        if cx.sock().is_broken() {
            return None;
        }
        let sock = Arc::as_ptr(cx.sock());
        let (sk, reg, now) = (lend(cx.sock()), self.handle(), cx.now().as_nanos());
        let opaque = [mark(), std::ptr::from_mut(cx).cast()];
        let mut hook = usk_hook_t { sk, reg, now, opaque };
        let r = held::run(sock, || f(&raw mut hook, self.user())).ok();
        if r.is_none() {
            broken(cx.sock());
        }
        r.filter(|_| !cx.sock().is_broken())
    }
}

fn seg_of(s: &HdrSeg<'_>) -> usk_hdr_seg_t {
    usk_hdr_seg_t {
        flags: s.flags.map_or(USK_HDR_NO_SEGMENT, |f| f.bits().into()),
        seq: s.seq.0,
        segs: s.segs,
        remaining: s.remaining as u32,
        len: s.len,
        syn: bytes_of(s.syn),
        syn_len: s.syn.len(),
    }
}

/// Null if there are none.
fn bytes_of(b: &[u8]) -> *const c_void {
    if b.is_empty() { std::ptr::null() } else { b.as_ptr().cast() }
}

fn micros(us: u32) -> Option<Duration> {
    (us != 0).then(|| Duration::from_micros(us.into()))
}

fn us_of(d: Duration) -> u32 {
    u32::try_from(d.as_micros()).unwrap_or(u32::MAX)
}

// SAFETY of all calls below: they are the table's functions, called as the table documents, with arguments that live as
// long as the call.
impl SockOps for HooksReg {
    fn name(&self) -> &str {
        &self.name
    }
    fn scope(&self) -> Scope {
        if self.table.flags & USK_SOCK_OPS_CHOSEN != 0 { Scope::Chosen } else { Scope::Stack }
    }
    fn option(&self) -> Option<OptionKind> {
        let kind = u8::try_from(self.table.option_kind).ok().filter(|kind| *kind != 0)?;
        Some(OptionKind { kind, exid: self.table.option_exid })
    }
    fn attached(&self, sk: &mut HookCx<'_>) {
        if let Some(f) = self.table.attached {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, user) });
        }
    }
    fn detached(&self, sk: &mut HookCx<'_>) {
        if let Some(f) = self.table.detached {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, user) });
        }
    }
    fn timeout_init(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        let f = self.table.timeout_init?;
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, user) }).and_then(micros)
    }
    fn rwnd_init(&self, sk: &mut HookCx<'_>) -> Option<u32> {
        let f = self.table.rwnd_init?;
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, user) }).filter(|segs| *segs != 0)
    }
    fn needs_ecn(&self, sk: &mut HookCx<'_>) -> bool {
        let Some(f) = self.table.needs_ecn else { return false };
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, user) }).is_some_and(|yes| yes != 0)
    }
    fn base_rtt(&self, sk: &mut HookCx<'_>) -> Option<Duration> {
        let f = self.table.base_rtt?;
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, user) }).and_then(micros)
    }
    fn tcp_connect(&self, sk: &mut HookCx<'_>) {
        if let Some(f) = self.table.tcp_connect {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, user) });
        }
    }
    fn active_established(&self, sk: &mut HookCx<'_>, options: &[u8]) {
        if let Some(f) = self.table.active_established {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, bytes_of(options), options.len(), user) });
        }
    }
    fn passive_established(&self, sk: &mut HookCx<'_>, options: &[u8], syn: &[u8]) {
        if let Some(f) = self.table.passive_established {
            let (o, s) = (bytes_of(options), bytes_of(syn));
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, o, options.len(), s, syn.len(), user) });
        }
    }
    fn listen(&self, sk: &mut HookCx<'_>) {
        if let Some(f) = self.table.listen {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, user) });
        }
    }
    fn rto(&self, sk: &mut HookCx<'_>, retransmits: u32, rto: Duration, expired: bool) {
        if let Some(f) = self.table.rto {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, retransmits, us_of(rto), expired.into(), user) });
        }
    }
    fn retrans(&self, sk: &mut HookCx<'_>, seq: SeqNum, segs: u32, sent: Result<()>) {
        if let Some(f) = self.table.retrans {
            let err = sent.err().map_or(0, |e| -e.errno());
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, seq.0, segs, err, user) });
        }
    }
    fn state(&self, sk: &mut HookCx<'_>, old: State, new: State) {
        if let Some(f) = self.table.state {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, old as c_int, new as c_int, user) });
        }
    }
    fn rtt(&self, sk: &mut HookCx<'_>, sample_us: u32, srtt_us: u32) {
        if let Some(f) = self.table.rtt {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, sample_us, srtt_us, user) });
        }
    }
    fn parse_hdr_opt(&self, sk: &mut HookCx<'_>, options: &[u8]) {
        if let Some(f) = self.table.parse_hdr_opt {
            // SAFETY: see above.
            self.event(sk, |h, user| unsafe { f(h, bytes_of(options), options.len(), user) });
        }
    }
    fn hdr_opt_len(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>) -> usize {
        let Some(f) = self.table.hdr_opt_len else { return 0 };
        let seg = seg_of(seg);
        // A value that is no valid length reserves nothing. SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, &seg, user) }).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }
    fn write_hdr_opt(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {
        let Some(f) = self.table.write_hdr_opt else { return };
        let seg = seg_of(seg);
        let mut w = Hdr { lent: mark(), writer: std::ptr::from_mut(out).cast() };
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, &seg, std::ptr::from_mut(&mut w).cast(), user) });
    }
}

/// Registers hooks in the plug-in's stack, after the present ones. `user` is passed to them; `*out`, unless null, gets
/// the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does
/// not fit, -EEXIST the name, a counter or a sysctl is taken, or the option is another's.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated; `out` is
/// null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_ops_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_sock_ops,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> c_int {
    // SAFETY: the caller vouches for plug-in, table and `out`.
    kernel(|| unsafe { registration::register(plugin, table, user, out) })
}

/// Which connections hooks with USK_SOCK_OPS_CHOSEN get without being attached, in place of those of the last call: the
/// ones that begin from now on and match one of `count` filters (0: none). That is decided once, when the first SYN is
/// sent or received, so that connections that do not match cost nothing more; a connection keeps what it began with. A
/// listener whose connections may match has the hooks as well, for `listen` and for their SYN-ACKs: at once in
/// listen(2), later with the first SYN that matches. Any context, from usk_plugin_init on. Returns 0, or a negative
/// errno, and usk_config_error says why in a line: -EINVAL the hooks are for all sockets, or a filter is wrong; -EEXIST
/// a filter of other hooks that write the same option overlaps; -ENOENT the hooks are not registered any more.
/// # Safety
/// `reg` is valid; `filters` points to `count` filters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_ops_filter(
    reg: *mut usk_reg_t,
    filters: *const usk_sock_ops_filter_t,
    count: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { HooksReg::of(reg) }?;
        let line = |why: &str| format!("struct usk_sock_ops {:?}: {why}", reg.name);
        // SAFETY: readable, as the caller guarantees.
        let filters = unsafe { items(filters, count) }?;
        let filters = filters.iter().map(usk_sock_ops_filter_t::read).collect::<std::result::Result<Vec<_>, _>>();
        let filters = filters.map_err(|why| note::refused(line(&format!("a filter: {why}"))))?;
        sock_ops::set_filters(&*reg.stack()?, &reg.name, &filters).map_err(|refused| {
            note::refused(line(&refused.why));
            refused.error
        })?;
        Ok(0)
    })
}
