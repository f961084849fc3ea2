//! `usk_tcp_conn_t`: a connection as an alternative TCP in C has it during an operation, and the calls by which it
//! looks at the retransmit queue, marks losses, sends and sets timers. Above: the plug-in, from an operation of struct
//! usk_tcp_ops. Below: `usersock::tcp::tfb::calls`, which keeps the scoreboard whole whatever is asked.

use super::cong_tcp::usk_tcp_t;
use super::gate::kernel;
use super::registration::usk_reg_t;
use super::table::{Info, fill};
use crate::handle::{lend, usk_sock_t};
use std::ffi::{c_int, c_void};
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::tcp::tfb::{Cx, TIMERS, calls};
use usersock::wire::seq::SeqNum;

/// How many timers of its own an alternative TCP has on each connection: usk_tcp_arm takes 0 to 3.
pub const USK_TCP_TIMERS: u32 = 4;
const _: () = assert!(USK_TCP_TIMERS as usize == TIMERS);

/// usk_tcp_seg_t.flags: selectively acknowledged.
pub const USK_TCP_SEG_SACKED: u32 = 1;
/// usk_tcp_seg_t.flags: sent again since it was marked lost, and that copy is thought to be in flight.
pub const USK_TCP_SEG_RETRANS: u32 = 2;
/// usk_tcp_seg_t.flags: marked lost.
pub const USK_TCP_SEG_LOST: u32 = 4;

/// A connection, during an operation of an alternative TCP: its first argument. Not valid afterwards; in a newer
/// library it may be longer.
#[allow(non_camel_case_types)]
#[derive(Debug)]
#[repr(C)]
pub struct usk_tcp_conn_t {
    /// The alternative's memory of the connection: data_size bytes, initially zero, aligned to 16; null if that is 0,
    /// and in handoff_ok with USK_TCP_TAKE.
    pub data: *mut c_void,
    /// The registration, for usk_count, usk_sysctl, usk_user and usk_random.
    pub reg: *mut usk_reg_t,
    /// The connection's sock, for usk_break; null in a release after the stack has ended.
    pub sk: *mut usk_sock_t,
    /// The library's.
    pub opaque: [*mut c_void; 2],
}

/// A packet of the retransmit queue: what was sent and is not acknowledged. Sent at once it may be several segments.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_seg_t {
    /// When it was sent, the last time, nanoseconds of the stack's clock.
    pub sent_at: u64,
    /// Its first sequence number.
    pub seq: u32,
    /// One past its last.
    pub end_seq: u32,
    /// Its segments.
    pub segs: u32,
    /// USK_TCP_SEG_ bits.
    pub flags: u32,
    /// How often it was sent again, 255 at most.
    pub retrans: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: it has no padding: each member is aligned where the previous one ends.
unsafe impl Info for usk_tcp_seg_t {}
const _: () = assert!(size_of::<usk_tcp_seg_t>() == 8 + 6 * 4);
// SAFETY: as above.
unsafe impl Info for usk_tcp_t {}
const _: () = assert!(size_of::<usk_tcp_t>() == 6 * 4 + 4 * 8 + 28 * 4 + 2 * size_of::<*mut c_void>());

/// Marks the argument of a running operation: an address that is used for nothing else.
fn mark() -> *mut c_void {
    static LENT: u8 = 0;
    (&raw const LENT).cast_mut().cast()
}

impl usk_tcp_conn_t {
    /// The argument of an operation; valid as long as `cx` is.
    pub(super) fn of(cx: &mut Cx<'_>, data: *mut c_void, reg: *mut usk_reg_t) -> usk_tcp_conn_t {
        usk_tcp_conn_t { data, reg, sk: lend(cx.sock), opaque: [mark(), std::ptr::from_mut(cx).cast()] }
    }
    /// That of `release`: no call can be made with it.
    pub(super) fn last(data: *mut c_void, reg: *mut usk_reg_t, sk: *mut usk_sock_t) -> usk_tcp_conn_t {
        usk_tcp_conn_t { data, reg, sk, opaque: [std::ptr::null_mut(); 2] }
    }
}

/// # Safety
/// `c` is null or a running operation's argument.
unsafe fn cx<'a>(c: *mut usk_tcp_conn_t) -> Result<&'a mut Cx<'static>> {
    // SAFETY: readable, as the caller guarantees.
    let [lent, cx] = unsafe { c.as_ref() }.ok_or(Error::Inval)?.opaque;
    if lent != mark() {
        return Err(Error::Inval);
    }
    // SAFETY: the operation that it belongs to runs on this thread, which uses one reference at a time.
    Ok(unsafe { &mut *cx.cast() })
}

/// Fills `*tp` with the present values of the connection's variables (all of usk_tcp_t but base_rtt_us); writes to it
/// have no effect. `size` is sizeof(usk_tcp_t): members that the library does not know are zero. Returns how many bytes
/// the library filled.
/// # Safety
/// `c` is a running operation's argument; `tp` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_read(c: *mut usk_tcp_conn_t, tp: *mut usk_tcp_t, size: usize) -> isize {
    kernel(|| {
        // SAFETY: as the caller guarantees, and so below.
        let cx = unsafe { cx(c) }?;
        // SAFETY: readable: `cx` has just read it.
        let (sk, reg) = unsafe { ((*c).sk, (*c).reg) };
        let value = usk_tcp_t { sk, reg, ..usk_tcp_t::of(cx) };
        // SAFETY: writable, as the caller guarantees.
        unsafe { fill(tp, size, &value) }.map(|n| n as isize)
    })
}

/// Fills `*seg` with the packet of the retransmit queue that contains `seq`, or the next one: with snd_una first and
/// then with each end_seq it gives them all. `size` is sizeof(usk_tcp_seg_t). Returns 1; 0: there is none; -EINVAL or
/// -EFAULT for null.
/// # Safety
/// `c` is a running operation's argument; `seg` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_seg(c: *mut usk_tcp_conn_t, seq: u32, seg: *mut usk_tcp_seg_t, size: usize) -> c_int {
    kernel(|| {
        // SAFETY: as the caller guarantees.
        let Some(s) = calls::sent(unsafe { cx(c) }?, SeqNum(seq)) else { return Ok(0) };
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        let value = usk_tcp_seg_t {
            sent_at: s.sent_at.as_nanos(),
            seq: s.seq.0,
            end_seq: s.end_seq.0,
            segs: s.segs,
            flags: flag(s.is_sacked, USK_TCP_SEG_SACKED)
                | flag(s.is_retrans, USK_TCP_SEG_RETRANS)
                | flag(s.is_lost, USK_TCP_SEG_LOST),
            retrans: s.retrans.into(),
            reserved: 0,
        };
        // SAFETY: writable, as the caller guarantees.
        unsafe { fill(seg, size, &value) }.map(|_| 1)
    })
}

fn count(n: u32) -> c_int {
    n.min(c_int::MAX as u32) as c_int
}

/// Marks the segments from `seq` up to `end` lost, a packet of several segments in part; of one that was sent again
/// since it was marked, the retransmission counts as lost. What is selectively acknowledged is left alone. Recovery
/// begins when the operation returns, and what is lost is sent again: by `output`, or where that is null by ours.
/// Returns how many segments are newly lost. -EINVAL: nothing, or not all of it, is in the retransmit queue; -EPERM: in
/// `output`.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_mark_lost(c: *mut usk_tcp_conn_t, seq: u32, end: u32) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::mark_lost(unsafe { cx(c) }?, SeqNum(seq), SeqNum(end)).map(count))
}

/// Takes the mark back from segments that were not sent again since. Returns how many segments count as in flight
/// again. -EINVAL: nothing, or not all of it, is in the retransmit queue; -EPERM: in `output`.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_clear_lost(c: *mut usk_tcp_conn_t, seq: u32, end: u32) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::clear_lost(unsafe { cx(c) }?, SeqNum(seq), SeqNum(end)).map(count))
}

/// Sends the packet that contains `seq` again, at most `segs` segments of it; only in `output` and `timer`. It is
/// marked lost, counts as in flight then, and the congestion window must have room for it. The first packet in `timer`
/// is a probe: it needs neither room nor a mark. Returns the segments sent. -EPERM: another operation, or neither
/// marked nor a probe; -EINVAL: not in the queue, or selectively acknowledged; -EALREADY: it was sent again since it
/// was marked; -EAGAIN: no room, or pacing or the device's queue say later: `output` is then called again; -EBUSY: its
/// last copy has not left the machine; other errors of sending.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_retransmit(c: *mut usk_tcp_conn_t, seq: u32, segs: u32) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::retransmit(unsafe { cx(c) }?, SeqNum(seq), segs).map(count))
}

/// Sends new data, at most `segs` segments, as far as the congestion window, the peer's window, pacing, Nagle's
/// algorithm and the device's queue allow; only in `output` and `timer`. It makes no probes of a larger path MTU
/// (net.ipv4.tcp_mtu_probing). Returns the segments sent. -EPERM: another operation.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_send_new(c: *mut usk_tcp_conn_t, segs: u32) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::send_new(unsafe { cx(c) }?, segs).map(count))
}

/// The retransmission timeout is accepted as one, in `timer`: the threshold falls, the window is one segment beside
/// what is not marked lost, and the state is USK_CA_LOSS. What is lost is marked before. Returns 0; -EPERM: another
/// operation.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_enter_loss(c: *mut usk_tcp_conn_t) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::enter_loss(unsafe { cx(c) }?).map(|()| 0))
}

/// Sets the retransmission timeout, microseconds: at least 1000, at most what the socket allows (TCP_RTO_MAX_MS). The
/// timer takes it when it is armed next, which is after `ack` and after `timer`; in both it stands until the next RTT
/// sample of ours, which is before the next `ack`. Returns 0.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_set_rto(c: *mut usk_tcp_conn_t, us: u32) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::set_rto(unsafe { cx(c) }?, us).map(|()| 0))
}

/// Arms a timer of the alternative's own, `after` nanoseconds from now, at least 1000; one that is armed moves. `timer`
/// is called with its number. Returns 0; -EINVAL: no such timer.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_arm(c: *mut usk_tcp_conn_t, timer: u32, after: u64) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::arm(unsafe { cx(c) }?, timer as usize, Duration::from_nanos(after)).map(|()| 0))
}

/// Disarms a timer of the alternative's own. Returns 0; -EINVAL: no such timer.
/// # Safety
/// `c` is a running operation's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_cancel(c: *mut usk_tcp_conn_t, timer: u32) -> c_int {
    // SAFETY: as the caller guarantees.
    kernel(|| calls::cancel(unsafe { cx(c) }?, timer as usize).map(|()| 0))
}
