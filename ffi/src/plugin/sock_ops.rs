//! `struct usk_sock_ops`: hooks into TCP in C. Above: the plug-in's functions. Below: `usersock::tcp::sock_ops`, whose
//! trait this is the mirror of. Beside: `hook`, what an event may call. Linux: BPF_PROG_TYPE_SOCK_OPS, struct
//! bpf_sock_ops.

use super::call::broken;
use super::gate::kernel;
use super::lists::{self, Lists, usk_sysctl_t};
use super::load;
use super::table::Table;
use crate::held;
use crate::held::contain;
use crate::loader::{Item, Library, Plugin, usk_plugin_t};
use crate::note;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use usersock::error::Result;
use usersock::stack::Stack;
use usersock::tcp::sock_ops::State;
use usersock::tcp::sock_ops::{self, HdrSeg, HdrWriter, HookCx, NAME_MAX, SockOps};
use usersock::wire::seq::SeqNum;

/// A registration of hooks, for usk_sock_ops_unregister. Valid until then.
#[allow(non_camel_case_types)]
pub struct usk_sock_ops_t {
    _opaque: [u8; 0],
}

/// The sock of an event: what a hook is given. Valid while the hook runs. Of some events the sock is a request, which
/// is no sock yet: it can be looked at, and what changes it answers -EINVAL.
#[allow(non_camel_case_types)]
pub struct usk_hook_t {
    _opaque: [u8; 0],
}

/// A hook's room in a header: write_hdr_opt's argument.
#[allow(non_camel_case_types)]
pub struct usk_hdr_t {
    _opaque: [u8; 0],
}

/// `version` of struct usk_sock_ops.
pub const USK_SOCK_OPS_VERSION: u32 = 1;

/// For usk_hook_set_cb_flags: `rto` is wanted (BPF_SOCK_OPS_RTO_CB_FLAG; all have Linux's numbers).
pub const USK_CB_RTO: u32 = 1;
/// `retrans` is wanted.
pub const USK_CB_RETRANS: u32 = 2;
/// `state` is wanted.
pub const USK_CB_STATE: u32 = 4;
/// `rtt` is wanted.
pub const USK_CB_RTT: u32 = 8;
/// `parse_hdr_opt` is wanted of every segment.
pub const USK_CB_PARSE_ALL_HDR_OPT: u32 = 16;
/// `parse_hdr_opt` is wanted of segments with an option that TCP does not know.
pub const USK_CB_PARSE_UNKNOWN_HDR_OPT: u32 = 32;
/// `hdr_opt_len` and `write_hdr_opt` are wanted.
pub const USK_CB_WRITE_HDR_OPT: u32 = 64;

/// usk_hdr_seg_t.flags: there is no segment, the question is how much data fits into one.
pub const USK_HDR_NO_SEGMENT: c_int = -1;

/// The segment that options are for.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_hdr_seg_t {
    /// Its control bits as on the wire (FIN 1, SYN 2, RST 4, PSH 8, ACK 16 ...), or USK_HDR_NO_SEGMENT.
    pub flags: c_int,
    /// First sequence number.
    pub seq: u32,
    /// Segments that the device cuts it into; each carries the same option bytes.
    pub segs: u32,
    /// Bytes of options still free in the header.
    pub remaining: u32,
    /// Payload, bytes.
    pub len: usize,
    /// Option bytes of the SYN that a listener's SYN-ACK answers; null for all others.
    pub syn: *const c_void,
    /// How many.
    pub syn_len: usize,
}

/// Hooks into TCP: one function an event; null: nothing is done, or the answer is left to others. Copied when
/// registered; strings and lists too. `user` is what was given to usk_sock_ops_register.
///
/// All are called in the order of registration with the sock owned, in packet, timer or process context: they must not
/// sleep, and must not use the sock by any other way than the usk_hook_ calls (the POSIX-shaped ones answer EDEADLK for
/// it). Different socks' events run on different threads at once. Where one answer is wanted and several hooks give
/// one, the last counts. No exception of C++ and no panic of a Rust shared object may leave one: catch it and call
/// usk_hook_break. In `release` there is nothing left to break: just catch it. Events of a connection's beginning come
/// always; the others to a hook that asked for them on that sock by usk_hook_set_cb_flags. A listener's children
/// inherit its flags, and begin with the value 0.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_ops {
    /// USK_SOCK_OPS_VERSION.
    pub version: u32,
    /// sizeof(struct usk_sock_ops). What a shorter table lacks is null.
    pub size: u32,
    /// 1 to 31 printable characters without dot, unique among a stack's hooks. Required.
    pub name: *const c_char,
    /// Names of counters of its own (usk_hook_count), ended by null; null: none. Letters and digits, unique in a stack,
    /// read by usk_mib_read.
    pub mib_names: *const *const c_char,
    /// Sysctls of its own (usk_hook_sysctl), `net.NAME.` and their names, ended by one with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// RTO of a SYN or SYN-ACK not answered yet, microseconds; 0: the default, a second. Asked when a connection sends
    /// its first SYN, when a listener gets one (of the request), and when a SYN's retries are counted
    /// (BPF_SOCK_OPS_TIMEOUT_INIT).
    pub timeout_init: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    /// First window to advertise, segments; 0: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
    pub rwnd_init: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    /// Not 0: the connection asks for ECN, or agrees to it, whatever tcp_ecn says (BPF_SOCK_OPS_NEEDS_ECN).
    pub needs_ecn: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> c_int>,
    /// RTT of the path without queues, microseconds, for the congestion control that begins; 0: unknown
    /// (BPF_SOCK_OPS_BASE_RTT).
    pub base_rtt: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    /// An active open begins: the SYN is about to be made (BPF_SOCK_OPS_TCP_CONNECT_CB).
    pub tcp_connect: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    /// The SYN-ACK came; `options` are its option bytes (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
    pub active_established:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, options: *const c_void, len: usize, user: *mut c_void)>,
    /// The handshake's last segment came, its option bytes in `options`; `syn` are those of the SYN, none for a
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
    /// The sock listens now (BPF_SOCK_OPS_TCP_LISTEN_CB).
    pub listen: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    /// The retransmission timer fired: retransmissions so far, the RTO that ended, whether the connection gives up.
    /// With USK_CB_RTO.
    pub rto: Option<
        unsafe extern "C-unwind" fn(
            h: *mut usk_hook_t,
            retransmits: u32,
            rto_us: u32,
            expired: c_int,
            user: *mut c_void,
        ),
    >,
    /// `segs` segments from `seq` on were sent again; `err` is 0, or a negative errno that the device said. With
    /// USK_CB_RETRANS.
    pub retrans:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, seq: u32, segs: u32, err: c_int, user: *mut c_void)>,
    /// The connection is about to leave state `old` for `now`, by Linux's numbers. With USK_CB_STATE.
    pub state: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, old: c_int, now: c_int, user: *mut c_void)>,
    /// A round trip is over: its last sample and the smoothed RTT, microseconds. With USK_CB_RTT.
    pub rtt: Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, sample_us: u32, srtt_us: u32, user: *mut c_void)>,
    /// An acceptable segment came; `options` are its option bytes. Not in SYN_SENT, SYN_RECV and LISTEN. With
    /// USK_CB_PARSE_ALL_HDR_OPT or USK_CB_PARSE_UNKNOWN_HDR_OPT.
    pub parse_hdr_opt:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, options: *const c_void, len: usize, user: *mut c_void)>,
    /// How many bytes of options to reserve in a segment: 2 to seg->remaining; anything else reserves none. Also asked
    /// without a segment, to know how much data fits: a full data segment has room for what is answered then, and no
    /// more. With USK_CB_WRITE_HDR_OPT.
    pub hdr_opt_len:
        Option<unsafe extern "C-unwind" fn(h: *mut usk_hook_t, seg: *const usk_hdr_seg_t, user: *mut c_void) -> c_int>,
    /// Writes by usk_hdr_store what hdr_opt_len reserved; what is left over is padding. With USK_CB_WRITE_HDR_OPT.
    pub write_hdr_opt: Option<
        unsafe extern "C-unwind" fn(
            h: *mut usk_hook_t,
            seg: *const usk_hdr_seg_t,
            w: *mut usk_hdr_t,
            user: *mut c_void,
        ),
    >,
    /// The registration is gone and no event of it runs any more: `user` can be freed. Any context, perhaps with a sock
    /// owned: nothing of a stack may be called.
    pub release: Option<unsafe extern "C-unwind" fn(user: *mut c_void)>,
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_sock_ops {
    const NAME: &'static str = "struct usk_sock_ops";
    const VERSION: u32 = USK_SOCK_OPS_VERSION;
    const FIRST_SIZE: usize = size_of::<usk_sock_ops>();
}

/// Registered hooks.
pub(super) struct Registration {
    table: usk_sock_ops,
    name: String,
    pub(super) stack: Weak<Stack>,
    user: *mut c_void,
    plugin: Weak<Plugin>,
    pub(super) lists: Lists,
    /// The registry took it: `release` is due when it goes.
    taken: AtomicBool,
    /// Keeps the code loaded. Falls last, after `release`.
    _library: Option<Arc<Library>>,
}

// SAFETY: the table is read only; `user` is the plug-in's, which says that its functions may be called from any thread.
unsafe impl Send for Registration {}
// SAFETY: as above.
unsafe impl Sync for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(f) = self.table.release.filter(|_| *self.taken.get_mut()) {
            // What it did wrong nobody is left to hear.
            // SAFETY: the table's function, called as it says.
            let _ = contain(|| unsafe { f(self.user) });
        }
    }
}

impl Item for Registration {
    fn unregister(&self, stack: &Arc<Stack>) -> Result<()> {
        sock_ops::unregister(stack, &self.name)?;
        self.lists.forget(stack);
        Ok(())
    }
    fn key(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }
    fn plugin(&self) -> &Weak<Plugin> {
        &self.plugin
    }
}

/// What says that an argument is a running event's.
pub(super) const LENT: u64 = 0x75736b_686f6f6b;

/// What is behind a [`usk_hook_t`].
pub(super) struct Hook {
    pub(super) magic: u64,
    pub(super) cx: *mut HookCx<'static>,
    pub(super) reg: *const Registration,
}

/// What is behind a [`usk_hdr_t`].
pub(super) struct Hdr {
    pub(super) magic: u64,
    pub(super) writer: *mut HdrWriter<'static>,
}

impl Registration {
    /// Calls a function of the table for an event. None: the sock is broken, or is now, because the function broke its
    /// word.
    #[inline]
    fn event<R>(&self, cx: &mut HookCx<'_>, f: impl FnOnce(*mut usk_hook_t, *mut c_void) -> R) -> Option<R> {
        if cx.sock().is_broken() {
            return None;
        }
        let sock = Arc::as_ptr(cx.sock());
        let mut hook = Hook { magic: LENT, cx: std::ptr::from_mut(cx).cast(), reg: self };
        let r = held::run(sock, || f(std::ptr::from_mut(&mut hook).cast(), self.user)).ok();
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

/// Null where there are none.
fn bytes_of(b: &[u8]) -> *const c_void {
    if b.is_empty() { std::ptr::null() } else { b.as_ptr().cast() }
}

fn micros(us: u32) -> Option<Duration> {
    (us != 0).then(|| Duration::from_micros(us.into()))
}

fn us_of(d: Duration) -> u32 {
    u32::try_from(d.as_micros()).unwrap_or(u32::MAX)
}

// SAFETY of all calls below: they are the table's functions, called as it says, with arguments that live as long as the
// call.
impl SockOps for Registration {
    fn name(&self) -> &str {
        &self.name
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
        // What is no length in a header reserves nothing.
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, &seg, user) }).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }
    fn write_hdr_opt(&self, sk: &mut HookCx<'_>, seg: &HdrSeg<'_>, out: &mut HdrWriter<'_>) {
        let Some(f) = self.table.write_hdr_opt else { return };
        let seg = seg_of(seg);
        let mut w = Hdr { magic: LENT, writer: std::ptr::from_mut(out).cast() };
        // SAFETY: see above.
        self.event(sk, |h, user| unsafe { f(h, &seg, std::ptr::from_mut(&mut w).cast(), user) });
    }
}

/// Registers hooks in the plug-in's stack, behind those that are there. `*out`, unless null, gets the registration.
/// Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit, -EEXIST the
/// name, a counter or a sysctl is taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_ops_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_sock_ops,
    user: *mut c_void,
    out: *mut *mut usk_sock_ops_t,
) -> c_int {
    let register = |plugin: &Arc<Plugin>, stack: &Arc<Stack>, table: usk_sock_ops| {
        let what = usk_sock_ops::NAME;
        // SAFETY: a string by the caller's word.
        let name = unsafe { lists::text(table.name, what, "name") }?;
        if !lists::good_name(&name, NAME_MAX) {
            let line = format!("{what} {name:?}: a name is 1 to {NAME_MAX} printable characters without dot");
            return Err(note::refused(line));
        }
        if table.hdr_opt_len.is_some() != table.write_hdr_opt.is_some() {
            return Err(note::refused(format!("{what} {name:?}: hdr_opt_len and write_hdr_opt go together")));
        }
        // SAFETY: ended lists by the caller's word.
        let lists = unsafe { Lists::register(stack, what, &name, table.mib_names, table.sysctls) }?;
        let reg = Arc::new(Registration {
            table,
            name,
            stack: Arc::downgrade(stack),
            user,
            plugin: Arc::downgrade(plugin),
            lists,
            taken: AtomicBool::new(false),
            _library: plugin.library(),
        });
        sock_ops::register(stack, reg.clone()).inspect_err(|e| {
            reg.lists.forget(stack);
            note::refused(format!("{what} {:?}: {e}", reg.name));
        })?;
        reg.taken.store(true, Ordering::Relaxed);
        Ok(reg)
    };
    // SAFETY: the caller vouches for all three.
    kernel(|| unsafe { load::register(plugin, table, out, register) })
}

/// Unregisters hooks: no event that begins later reaches them. One that is running now on another thread still does,
/// and after the last `release` is called. Can be called from a hook. -ENOENT when it was unregistered already.
/// # Safety
/// `ops` is registered, and not used after success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_ops_unregister(ops: *mut usk_sock_ops_t) -> c_int {
    kernel(|| {
        // SAFETY: registered by the caller's word.
        unsafe { load::unregister::<Registration, _>(ops) }.map(|()| 0)
    })
}
