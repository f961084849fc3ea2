//! `struct usk_tcp_ops`: a TCP of one's own beside the library's, written in C, which TCP_STACK chooses. The Rust
//! traits behind it are `usersock::tcp::tfb::{FunctionBlock, Functions}`; `tcp_conn` has what its operations may call.
//! FreeBSD: struct tcp_function_block. A return value that no operation may have, or an unwinding, breaks the socket,
//! for which no operation but release runs any more.

use super::gate::kernel;
use super::lists::{self, usk_sysctl_t};
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::table::Table;
use super::tcp_conn::usk_tcp_conn_t;
use crate::handle::lend;
use crate::held::{self, length, status};
use crate::library::usk_plugin_t;
use crate::loader::TableKind;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::{Arc, OnceLock, Weak};
use usersock::error::{Error, Result};
use usersock::sock::Sock;
use usersock::stack::Stack;
use usersock::tcp::tfb::{self, Acked, Cx, Fired, FunctionBlock, Functions, Go, Seg, slot};

/// `version` of struct usk_tcp_ops.
pub const USK_TCP_OPS_VERSION: u32 = 1;
/// Most bytes of a connection's own memory (usk_tcp_ops.data_size).
pub const USK_TCP_DATA_MAX: u32 = 65_536;
const _: () = assert!(USK_TCP_DATA_MAX == lists::DATA_MAX);

/// What `input`, `output` and `timer` return: the operation has done all that there is to do.
pub const USK_TCP_DONE: c_int = 0;
/// The library's TCP goes on, as if the operation were null.
pub const USK_TCP_OURS: c_int = 1;

/// handoff_ok: may the alternative take a live connection that another TCP has served?
pub const USK_TCP_TAKE: c_int = 0;
/// handoff_ok: may another TCP have the connection that the alternative serves?
pub const USK_TCP_GIVE: c_int = 1;

/// timer: the connection's retransmission timer, beside the alternative's own from 0 on.
pub const USK_TCP_TIMER_RTO: u32 = 16;

/// From this number on, options of IPPROTO_TCP are the alternative's (setsockopt, getsockopt of the table).
pub const USK_TCP_OWN_OPTIONS: c_int = 8448;

/// usk_tcp_ack_t.flags: it acknowledges something new: snd_una is beyond prior_snd_una.
pub const USK_TCP_ACK_ADVANCED: u32 = 1;
/// usk_tcp_ack_t.flags: it echoes congestion (RFC 3168).
pub const USK_TCP_ACK_ECE: u32 = 2;
/// usk_tcp_ack_t.flags: it reports duplicates (RFC 2883), believably.
pub const USK_TCP_ACK_DSACK: u32 = 4;
/// usk_tcp_ack_t.flags: something that it acknowledges had been sent again.
pub const USK_TCP_ACK_RETRANS: u32 = 8;

/// What an acknowledgement has done to the retransmit queue.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_ack_t {
    /// RTT of the segment acknowledged last, if it was sent only once, microseconds; -1: no sample.
    pub rtt_us: i64,
    /// snd_una now.
    pub snd_una: u32,
    /// snd_una before it.
    pub prior_snd_una: u32,
    /// Segments newly acknowledged or selectively acknowledged.
    pub delivered: u32,
    /// Of those, by SACK.
    pub sacked: u32,
    /// Pure duplicates that it stands for (RFC 5681 §2).
    pub dupacks: u32,
    /// USK_TCP_ACK_ bits.
    pub flags: u32,
}

/// A segment that has arrived, for `input`: as its header says, of which nothing is checked yet.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_input_t {
    /// Its first sequence number.
    pub seq: u32,
    /// One past its last.
    pub end_seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Its window, bytes: scaled.
    pub window: u32,
    /// Its control bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u32,
    /// Segments that were joined to it on the way in.
    pub segs: u32,
    /// 1: it has timestamps.
    pub has_timestamps: u32,
    /// TSval.
    pub tsval: u32,
    /// TSecr.
    pub tsecr: u32,
    /// Its SACK blocks.
    pub sacks: u32,
    /// First sequence number of each, and one past its last.
    pub sack: [[u32; 2]; 4],
}

/// A TCP of one's own beside the library's: setsockopt(2) of USK_TCP_STACK chooses it by name for a socket, a listener
/// (its children have it too) or a live connection, net.ipv4.tcp_stack for all new sockets. Tables, options, the
/// queues, the scoreboard, the congestion control and the state machine of recovery are the library's; a null operation
/// means the library's. Registering copies the table, with its strings and lists.
///
/// Operations run in either context with the sock owned: they must not sleep, and may call only the usk_tcp_ functions
/// that take usk_tcp_conn_t, usk_count, usk_sysctl, usk_user, usk_random and usk_break (the POSIX-shaped calls return
/// EDEADLK for the sock). What the library does in such a call is its own: no operation is called from within. No C++
/// exception and no panic of a Rust shared object may leave an operation: catch it and call usk_break(c->sk).
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_ops {
    /// USK_TCP_OPS_VERSION.
    pub version: u32,
    /// sizeof(struct usk_tcp_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// 1 to 15 printable characters without dot, as USK_TCP_STACK and net.ipv4.tcp_stack take it; unique in a stack,
    /// and not "default". Required.
    pub name: *const c_char,
    /// Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
    /// usk_mib_read reads them.
    pub mib_names: *const *const c_char,
    /// Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// Bytes of memory for each connection (usk_tcp_conn_t.data), at most USK_TCP_DATA_MAX.
    pub data_size: u32,
    /// 0.
    pub flags: u32,

    /// Begins on a connection: a new one when it is established, or one that it takes over, with whatever is in its
    /// retransmit queue. Returns 0, or a negative errno: setsockopt returns it, and the connection keeps the TCP that
    /// it has; a new connection is the library's. Null: succeeds.
    pub init: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t) -> c_int>,
    /// The connection ends, or another TCP has it now. No call can be made with `c`: its data, usk_user and usk_count
    /// are there. Null: no action.
    pub release: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t)>,
    /// Whether a live connection may change its TCP: USK_TCP_TAKE asks the one that is chosen, before init;
    /// USK_TCP_GIVE the one that has it. Returns 0, or a negative errno, and the program gets EBUSY. Null: yes.
    pub handoff_ok: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t, how: c_int) -> c_int>,
    /// A segment of an established connection has arrived. Returns USK_TCP_OURS, and it is processed, or USK_TCP_DONE,
    /// and it is dropped.
    pub input: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t, in_: *const usk_tcp_input_t) -> c_int>,
    /// An acknowledgement was processed: what it covers has left the retransmit queue, what it selectively acknowledges
    /// is marked. Called for each that finds something in flight, and before the state machine of recovery runs: what
    /// is lost is marked by usk_tcp_mark_lost. Without it the library's RACK-TLP and duplicate threshold do that.
    pub ack: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t, ack: *const usk_tcp_ack_t)>,
    /// Something may be sent: new data waits, an acknowledgement was processed, something is lost, the device or pacing
    /// is ready again. Returns USK_TCP_OURS: the library sends what is lost and then new data, as the congestion window
    /// allows; or USK_TCP_DONE, and nothing more is sent now. If nothing is in flight then, and data waits, the
    /// library's window probes send it in the end.
    pub output: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t) -> c_int>,
    /// A timer of its own has fired, by its number; or USK_TCP_TIMER_RTO: the retransmission timer, and the connection
    /// has not ended by it (TCP_USER_TIMEOUT, net.ipv4.tcp_retries2). Then USK_TCP_OURS marks all lost, sends the first
    /// segment again and doubles the timeout; USK_TCP_DONE arms the timer again and does no more.
    pub timer: Option<unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t, timer: u32) -> c_int>,
    /// An option of IPPROTO_TCP from USK_TCP_OWN_OPTIONS on. Returns 0 or a negative errno. Null: -ENOPROTOOPT.
    pub setsockopt: Option<
        unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t, name: c_int, value: *const c_void, len: usize) -> c_int,
    >,
    /// As setsockopt: writes at most `len` bytes, returns how many.
    pub getsockopt: Option<
        unsafe extern "C-unwind" fn(c: *mut usk_tcp_conn_t, name: c_int, value: *mut c_void, len: usize) -> isize,
    >,
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_tcp_ops {
    const NAME: &'static str = "struct usk_tcp_ops";
    const VERSION: u32 = USK_TCP_OPS_VERSION;
    const FIRST_SIZE: usize = size_of::<usk_tcp_ops>();
}

const _: () = assert!(begins_with_head(
    offset_of!(usk_tcp_ops, name),
    offset_of!(usk_tcp_ops, mib_names),
    offset_of!(usk_tcp_ops, sysctls)
));

type TcpReg = Registration<usk_tcp_ops>;

// SAFETY: begins with those members, as asserted; a plug-in guarantees that its functions may be called from any
// thread.
unsafe impl Registered for usk_tcp_ops {
    /// What the registry and the connections hold.
    type Own = OnceLock<Weak<Entry>>;
    const KIND: TableKind = TableKind::Tcp;

    fn check(&self, name: &str) -> std::result::Result<(), String> {
        lists::check_of_tcp(name, self.flags, self.data_size)
    }

    fn enter(reg: &Arc<TcpReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        let entry = Arc::new(Entry(reg.clone()));
        // It is new: nobody has set it.
        let _ = reg.own.set(Arc::downgrade(&entry));
        tfb::register(stack, entry).map_err(|e| (e, e.to_string()))
    }

    fn leave(reg: &TcpReg, stack: &Arc<Stack>) -> Result<()> {
        tfb::unregister(stack, &reg.name)
    }
}

/// A registration as the registry holds it. The count of this Arc says whether the alternative is in use; that of the
/// registration does not, because the plug-in's list also holds one.
pub(super) struct Entry(Arc<TcpReg>);

impl FunctionBlock for Entry {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn handoff_ok(&self, cx: &mut Cx<'_>) -> Result<()> {
        let Some(f) = self.0.table.handoff_ok else { return Ok(()) };
        // SAFETY: the table's function, called as the table documents; so are all below.
        let r = call(cx, ptr::null_mut(), &self.0, |c| unsafe { f(c, USK_TCP_TAKE) }).ok_or(Error::Io)?;
        checked_status(cx, r)
    }

    fn start(&self, cx: &mut Cx<'_>) -> Result<Box<dyn Functions>> {
        let words = (self.0.table.data_size as usize).div_ceil(16);
        let mut conn = Conn {
            reg: self.0.clone(),
            memory: vec![0; words].into_boxed_slice(),
            failed: false,
            began: false,
            released: false,
        };
        if let Some(f) = self.0.table.init {
            // SAFETY: see `handoff_ok`.
            let r = conn.call(cx, |c| unsafe { f(c) }).ok_or(Error::Io)?;
            conn.status(cx, r)?;
        }
        conn.began = true;
        Ok(Box::new(conn))
    }
}

/// Runs an operation with the connection. None: the sock was broken before, or the operation broke it.
fn call<R>(cx: &mut Cx<'_>, data: *mut c_void, reg: &TcpReg, f: impl FnOnce(*mut usk_tcp_conn_t) -> R) -> Option<R> {
    if cx.sock.is_broken() {
        return None;
    }
    let sock = cx.sock.clone();
    let mut lent = usk_tcp_conn_t::of(cx, data, reg.handle());
    let c = &raw mut lent;
    // The sock is owned: a POSIX-shaped call on it returns EDEADLK instead of waiting for itself.
    let r = held::run(Arc::as_ptr(&sock), || f(c));
    if r.is_err() {
        sock.set_broken();
    }
    r.ok().filter(|_| !sock.is_broken())
}

/// 0 or a negative errno; anything else breaks the sock.
fn checked_status(cx: &Cx<'_>, r: c_int) -> Result<()> {
    if !(-4095..=0).contains(&r) {
        cx.sock.set_broken();
    }
    status(r.into())
}

/// The alternative's state of a connection.
struct Conn {
    reg: Arc<TcpReg>,
    /// u128, for the alignment of 16.
    memory: Box<[u128]>,
    /// An operation violated its contract: the socket is broken, and the library's TCP does the rest.
    failed: bool,
    /// `init` has succeeded: `release` must run.
    began: bool,
    released: bool,
}

impl Conn {
    fn data(&mut self) -> *mut c_void {
        if self.memory.is_empty() { ptr::null_mut() } else { self.memory.as_mut_ptr().cast() }
    }

    /// Runs an operation; None: the sock is broken, and the library's TCP goes on.
    fn call<R>(&mut self, cx: &mut Cx<'_>, f: impl FnOnce(*mut usk_tcp_conn_t) -> R) -> Option<R> {
        if self.failed {
            return None;
        }
        let data = self.data();
        let r = call(cx, data, &self.reg, f);
        self.failed = r.is_none();
        r
    }

    fn status(&mut self, cx: &Cx<'_>, r: c_int) -> Result<()> {
        let r = checked_status(cx, r);
        self.failed |= cx.sock.is_broken();
        r
    }

    /// As `call`, for one that returns USK_TCP_DONE or USK_TCP_OURS.
    fn go(&mut self, cx: &mut Cx<'_>, f: impl FnOnce(*mut usk_tcp_conn_t) -> c_int) -> Go {
        match self.call(cx, f) {
            Some(USK_TCP_DONE) => Go::Done,
            Some(USK_TCP_OURS) | None => Go::Ours,
            Some(_) => {
                self.failed = true;
                cx.sock.set_broken();
                Go::Ours
            }
        }
    }
}

// SAFETY of the calls below, each: the table's function, called as the table documents; connection, memory and
// arguments live while it runs.
impl Functions for Conn {
    fn slots(&self) -> u8 {
        let t = &self.reg.table;
        let bit = |present: bool, bit: u8| if present && !self.failed { bit } else { 0 };
        bit(t.input.is_some(), slot::INPUT)
            | bit(t.ack.is_some(), slot::ACK)
            | bit(t.output.is_some(), slot::OUTPUT)
            | bit(t.timer.is_some(), slot::TIMER)
    }

    fn handoff_ok(&mut self, cx: &mut Cx<'_>) -> Result<()> {
        let Some(f) = self.reg.table.handoff_ok else { return Ok(()) };
        // SAFETY: see above.
        let r = self.call(cx, |c| unsafe { f(c, USK_TCP_GIVE) }).ok_or(Error::Io)?;
        self.status(cx, r)
    }

    fn input(&mut self, cx: &mut Cx<'_>, seg: &Seg, timestamps: Option<(u32, u32)>) -> Go {
        let Some(f) = self.reg.table.input else { return Go::Ours };
        let (tsval, tsecr) = timestamps.unwrap_or_default();
        let mut input = usk_tcp_input_t {
            seq: seg.seq.0,
            end_seq: seg.end_seq.0,
            ack: seg.ack_seq.0,
            window: seg.scaled_window(cx.tp),
            flags: seg.flags.bits().into(),
            segs: u32::from(seg.rx_segs.max(1)),
            has_timestamps: timestamps.is_some().into(),
            tsval,
            tsecr,
            sacks: seg.sack.as_slice().len().min(4) as u32,
            sack: [[0; 2]; 4],
        };
        for (to, (start, end)) in input.sack.iter_mut().zip(seg.sack.as_slice()) {
            *to = [start.0, end.0];
        }
        // SAFETY: see above.
        self.go(cx, |c| unsafe { f(c, &input) })
    }

    fn ack(&mut self, cx: &mut Cx<'_>, acked: &Acked) {
        let Some(f) = self.reg.table.ack else { return };
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        let ack = usk_tcp_ack_t {
            rtt_us: acked.rtt_us,
            snd_una: cx.tp.snd_una.0,
            prior_snd_una: acked.prior_snd_una.0,
            delivered: acked.delivered,
            sacked: acked.sacked,
            dupacks: acked.num_dupack,
            flags: flag(cx.tp.snd_una != acked.prior_snd_una, USK_TCP_ACK_ADVANCED)
                | flag(acked.ece, USK_TCP_ACK_ECE)
                | flag(acked.dsack, USK_TCP_ACK_DSACK)
                | flag(acked.retrans_acked, USK_TCP_ACK_RETRANS),
        };
        // SAFETY: see above.
        self.call(cx, |c| unsafe { f(c, &ack) });
    }

    fn output(&mut self, cx: &mut Cx<'_>) -> Go {
        let Some(f) = self.reg.table.output else { return Go::Ours };
        // SAFETY: see above.
        self.go(cx, |c| unsafe { f(c) })
    }

    fn timer(&mut self, cx: &mut Cx<'_>, which: Fired) -> Go {
        let Some(f) = self.reg.table.timer else { return Go::Ours };
        let timer = match which {
            Fired::Rto => USK_TCP_TIMER_RTO,
            Fired::Own(n) => n as u32,
        };
        // SAFETY: see above.
        self.go(cx, |c| unsafe { f(c, timer) })
    }

    fn setsockopt(&mut self, cx: &mut Cx<'_>, name: i32, value: &[u8]) -> Result<()> {
        let f = self.reg.table.setsockopt.ok_or(Error::NoProtoOpt)?;
        // SAFETY: see above.
        let r = self.call(cx, |c| unsafe { f(c, name, value.as_ptr().cast(), value.len()) }).ok_or(Error::Io)?;
        self.status(cx, r)
    }

    fn getsockopt(&mut self, cx: &mut Cx<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
        let f = self.reg.table.getsockopt.ok_or(Error::NoProtoOpt)?;
        let max = value.len();
        let to: *mut c_void = value.as_mut_ptr().cast();
        // SAFETY: see above; the buffer has the length that is passed.
        let r = self.call(cx, |c| unsafe { f(c, name, to, max) }).ok_or(Error::Io)? as i64;
        if !(-4095..=max as i64).contains(&r) {
            self.failed = true;
            cx.sock.set_broken();
        }
        length(r, max)
    }

    fn release(&mut self, cx: &mut Cx<'_>) {
        self.end(lend(cx.sock));
    }
}

impl Conn {
    fn end(&mut self, sk: *mut crate::handle::usk_sock_t) {
        if std::mem::replace(&mut self.released, true) || !self.began {
            return;
        }
        if let Some(f) = self.reg.table.release {
            let mut lent = usk_tcp_conn_t::last(self.data(), self.reg.handle(), sk);
            let c = &raw mut lent;
            // The sock, unless the stack has ended, is owned: a call that would wait for it returns EDEADLK. An error
            // is ignored: another TCP has the connection by now, or nobody. SAFETY: see above.
            let _ = held::run(sk.cast::<Sock>().cast_const(), || unsafe { f(c) });
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The stack ended with the connection open: `release` has not run yet.
        self.end(ptr::null_mut());
    }
}

/// Registers a TCP in the plug-in's stack, beside the library's. `user` is for usk_user; `*out`, unless null, gets the
/// registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
/// fit, -EEXIST the name, a counter or a sysctl is taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated; `out` is
/// null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_tcp_ops,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> c_int {
    // SAFETY: the caller vouches for plug-in, table and `out`.
    kernel(|| unsafe { registration::register(plugin, table, user, out) })
}
