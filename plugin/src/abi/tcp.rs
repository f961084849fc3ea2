//! `struct usk_tcp_ops` of a [`TcpStack`].

use super::contain::{contain, contain_for};
use super::reg::{Reg, Texts};
use super::slot::Slot;
use super::{bytes, bytes_mut, home};
use crate::errno::{CReturn, Errno, Result, length, status};
use crate::sys::*;
use crate::tcp::{Fired, Go, TcpAck, TcpInput, TcpSeg, TcpStack};
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::time::Duration;

/// A connection, in a function of a [`TcpStack`]. Sequence numbers are those of the wire.
pub struct TcpConn<'a> {
    raw: *mut usk_tcp_conn_t,
    of: PhantomData<&'a mut usk_tcp_conn_t>,
}

impl TcpConn<'_> {
    /// The registration: counters, sysctls.
    pub fn reg(&self) -> Reg<'_> {
        // SAFETY: the argument of a function of the table, which runs; so below.
        unsafe { Reg::new((*self.raw).reg) }
    }

    /// The connection's variables (`usk_tcp_read`): a copy. EINVAL: in `release`.
    pub fn read(&self) -> Result<usk_tcp_t> {
        let mut tp = MaybeUninit::<usk_tcp_t>::zeroed();
        // SAFETY: see `reg`; the memory has the size that is passed.
        length(unsafe { usk_tcp_read(self.raw, tp.as_mut_ptr(), size_of::<usk_tcp_t>()) })?;
        // SAFETY: numbers and pointers, all zero and then written.
        Ok(unsafe { tp.assume_init() })
    }

    /// The packet of the retransmit queue that contains `seq`, or the next one (`usk_tcp_seg`).
    pub fn segment(&self, seq: u32) -> Option<TcpSeg> {
        let mut seg = MaybeUninit::<TcpSeg>::zeroed();
        // SAFETY: see `read`.
        let found = unsafe { usk_tcp_seg(self.raw, seq, seg.as_mut_ptr(), size_of::<TcpSeg>()) };
        // SAFETY: numbers, all zero and then written.
        (found == 1).then(|| unsafe { seg.assume_init() })
    }

    /// All packets of the retransmit queue, from `seq` on.
    pub fn segments(&self, seq: u32) -> impl Iterator<Item = TcpSeg> + '_ {
        std::iter::successors(self.segment(seq), |seg| self.segment(seg.end_seq))
    }

    /// Marks the segments from `seq` up to `end` lost (`usk_tcp_mark_lost`); returns how many newly are. EINVAL: not in
    /// the queue.
    pub fn mark_lost(&mut self, seq: u32, end: u32) -> Result<u32> {
        // SAFETY: see `reg`.
        count(unsafe { usk_tcp_mark_lost(self.raw, seq, end) })
    }

    /// Takes the mark back (`usk_tcp_clear_lost`). EINVAL: not in the queue.
    pub fn clear_lost(&mut self, seq: u32, end: u32) -> Result<u32> {
        // SAFETY: see `reg`.
        count(unsafe { usk_tcp_clear_lost(self.raw, seq, end) })
    }

    /// Sends the packet that contains `seq` again, at most `segs` segments (`usk_tcp_retransmit`). EPERM: not in
    /// `output` or `timer`; EINVAL: not in the queue, or SACKed; EALREADY; EAGAIN: not now.
    pub fn retransmit(&mut self, seq: u32, segs: u32) -> Result<u32> {
        // SAFETY: see `reg`.
        count(unsafe { usk_tcp_retransmit(self.raw, seq, segs) })
    }

    /// Sends new data, at most `segs` segments (`usk_tcp_send_new`). EPERM: not in `output` or `timer`.
    pub fn send_new(&mut self, segs: u32) -> Result<u32> {
        // SAFETY: see `reg`.
        count(unsafe { usk_tcp_send_new(self.raw, segs) })
    }

    /// The retransmission timeout is accepted as one (`usk_tcp_enter_loss`). EPERM: not in `timer`.
    pub fn enter_loss(&mut self) -> Result<()> {
        // SAFETY: see `reg`.
        status(unsafe { usk_tcp_enter_loss(self.raw) })
    }

    /// Sets the retransmission timeout (`usk_tcp_set_rto`).
    pub fn set_rto(&mut self, rto: Duration) -> Result<()> {
        // SAFETY: see `reg`.
        status(unsafe { usk_tcp_set_rto(self.raw, u32::try_from(rto.as_micros()).unwrap_or(u32::MAX)) })
    }

    /// Arms a timer of its own, 0 to 3 (`usk_tcp_arm`). EINVAL: no such timer.
    pub fn arm(&mut self, timer: u32, after: Duration) -> Result<()> {
        // SAFETY: see `reg`.
        status(unsafe { usk_tcp_arm(self.raw, timer, u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)) })
    }

    /// Disarms one (`usk_tcp_cancel`). EINVAL: no such timer.
    pub fn cancel(&mut self, timer: u32) -> Result<()> {
        // SAFETY: see `reg`.
        status(unsafe { usk_tcp_cancel(self.raw, timer) })
    }
}

fn count(r: c_int) -> Result<u32> {
    length(r as isize).map(|n| n as u32)
}

type SlotOf<S> = Slot<S, <S as TcpStack>::Conn>;

/// Registers `stack` in the plug-in's stack.
/// # Safety
/// `plugin` is the entry point's argument.
pub(crate) unsafe fn register<S: TcpStack>(plugin: *mut usk_plugin_t, stack: S) -> Result<()> {
    const { assert!(align_of::<SlotOf<S>>() <= 16, "TcpStack::Conn: its alignment is above 16") };
    const { assert!(size_of::<SlotOf<S>>() <= USK_TCP_DATA_MAX as usize, "TcpStack::Conn: larger than 64 KiB") };
    let texts = Texts::new(S::NAME, S::COUNTERS, S::SYSCTLS)?;
    let ops = &S::OPS;
    let table = usk_tcp_ops {
        version: USK_TCP_OPS_VERSION,
        size: size_of::<usk_tcp_ops>() as u32,
        name: texts.name.as_ptr(),
        mib_names: texts.mib_names(),
        sysctls: texts.sysctls(),
        data_size: size_of::<SlotOf<S>>() as u32,
        flags: 0,
        init: Some(init::<S>),
        release: Some(release::<S>),
        handoff_ok: (ops.take_ok.is_some() || ops.give_ok.is_some()).then_some(handoff_ok::<S> as _),
        input: ops.input.map(|_| input::<S> as _),
        ack: ops.ack.map(|_| ack::<S> as _),
        output: ops.output.map(|_| output::<S> as _),
        timer: ops.timer.map(|_| timer::<S> as _),
        setsockopt: ops.setsockopt.map(|_| setsockopt::<S> as _),
        getsockopt: ops.getsockopt.map(|_| getsockopt::<S> as _),
    };
    // SAFETY: the table's functions are made for the value that is `user`; it is copied, with its texts.
    home::register(stack, |user, reg| unsafe { usk_tcp_register(plugin, &table, user, reg) }).map(drop)
}

/// Runs a function of a connection. A panic breaks its socket, and drops its data: nothing of the alternative runs for
/// it any more.
/// # Safety
/// `c` is the function's argument, of `S`, with data.
unsafe fn enter<S: TcpStack, R>(
    c: *mut usk_tcp_conn_t,
    broken: R,
    f: impl FnOnce(&S, &mut TcpConn<'_>, &mut SlotOf<S>) -> R,
) -> R {
    // SAFETY: the connection and its memory are ours while the function runs, and the value of the registration exists
    // as long as a connection of it. After a panic nobody uses the memory.
    unsafe {
        let (sk, reg, slot) = ((*c).sk, (*c).reg, (*c).data.cast::<SlotOf<S>>());
        let mut whole = false;
        let r = contain_for(
            || sk,
            broken,
            || {
                let mut conn = TcpConn { raw: c, of: PhantomData };
                let r = f(&*usk_user(reg).cast::<S>(), &mut conn, &mut *slot);
                whole = true;
                r
            },
        );
        if !whole {
            contain((), || (*slot).clear());
        }
        r
    }
}

/// As `enter`, for a function that uses the connection's data.
/// # Safety
/// As there.
unsafe fn with<S: TcpStack, R: Copy>(
    c: *mut usk_tcp_conn_t,
    broken: R,
    f: impl FnOnce(&S, &mut TcpConn<'_>, &mut S::Conn) -> R,
) -> R {
    // SAFETY: the caller vouches for it.
    unsafe { enter::<S, R>(c, broken, |s, c, slot| slot.get().map_or(broken, |conn| f(s, c, conn))) }
}

fn io() -> c_int {
    -Errno::Io.number()
}

// SAFETY of the functions below: the stack calls them as struct usk_tcp_ops says, with valid arguments, for connections
// that have the alternative.

unsafe extern "C" fn init<S: TcpStack>(c: *mut usk_tcp_conn_t) -> c_int {
    // SAFETY: see above.
    unsafe {
        enter::<S, _>(c, io(), |s, c, slot| {
            slot.fill(S::Conn::default());
            let r = match (S::OPS.init, slot.get()) {
                (Some(f), Some(conn)) => f(s, c, conn),
                _ => Ok(()),
            };
            if r.is_err() {
                slot.clear();
            }
            r.c_return() as c_int
        })
    }
}

unsafe extern "C" fn release<S: TcpStack>(c: *mut usk_tcp_conn_t) {
    // SAFETY: see above.
    unsafe {
        with::<S, _>(c, (), |s, c, conn| S::OPS.release.map_or((), |f| f(s, c, conn)));
        enter::<S, _>(c, (), |_, _, slot| slot.clear());
    }
}

unsafe extern "C" fn handoff_ok<S: TcpStack>(c: *mut usk_tcp_conn_t, how: c_int) -> c_int {
    if how == USK_TCP_GIVE {
        let f = |s: &S, c: &mut TcpConn<'_>, conn: &mut S::Conn| S::OPS.give_ok.map_or(Ok(()), |f| f(s, c, conn));
        // SAFETY: see above.
        return unsafe { with::<S, _>(c, io(), |s, c, conn| f(s, c, conn).c_return() as c_int) };
    }
    let Some(f) = S::OPS.take_ok else { return 0 };
    // SAFETY: see above. It has no data yet.
    unsafe {
        let (sk, reg) = ((*c).sk, (*c).reg);
        contain_for(
            || sk,
            io(),
            || f(&*usk_user(reg).cast::<S>(), &mut TcpConn { raw: c, of: PhantomData }).c_return() as c_int,
        )
    }
}

unsafe extern "C" fn input<S: TcpStack>(c: *mut usk_tcp_conn_t, segment: *const TcpInput) -> c_int {
    // SAFETY: see above; the segment is readable.
    let go =
        unsafe { with::<S, _>(c, Go::Ours, |s, c, conn| S::OPS.input.map_or(Go::Ours, |f| f(s, c, conn, &*segment))) };
    go as c_int
}

unsafe extern "C" fn ack<S: TcpStack>(c: *mut usk_tcp_conn_t, acked: *const TcpAck) {
    // SAFETY: see above; the acknowledgement is readable.
    unsafe { with::<S, _>(c, (), |s, c, conn| S::OPS.ack.map_or((), |f| f(s, c, conn, &*acked))) }
}

unsafe extern "C" fn output<S: TcpStack>(c: *mut usk_tcp_conn_t) -> c_int {
    // SAFETY: see above.
    let go = unsafe { with::<S, _>(c, Go::Ours, |s, c, conn| S::OPS.output.map_or(Go::Ours, |f| f(s, c, conn))) };
    go as c_int
}

unsafe extern "C" fn timer<S: TcpStack>(c: *mut usk_tcp_conn_t, timer: u32) -> c_int {
    let which = if timer == USK_TCP_TIMER_RTO { Fired::Rto } else { Fired::Own(timer) };
    // SAFETY: see above.
    let go = unsafe { with::<S, _>(c, Go::Ours, |s, c, conn| S::OPS.timer.map_or(Go::Ours, |f| f(s, c, conn, which))) };
    go as c_int
}

unsafe extern "C" fn setsockopt<S: TcpStack>(
    c: *mut usk_tcp_conn_t,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: see above; the value is readable for `len` bytes.
    unsafe {
        with::<S, _>(c, io(), |s, c, conn| {
            let r = S::OPS.setsockopt.map_or(Ok(()), |f| f(s, c, conn, name, bytes(value, len)));
            r.c_return() as c_int
        })
    }
}

unsafe extern "C" fn getsockopt<S: TcpStack>(
    c: *mut usk_tcp_conn_t,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    // SAFETY: see above; the value is writable for `len` bytes.
    unsafe {
        with::<S, _>(c, io() as isize, |s, c, conn| {
            S::OPS.getsockopt.map_or(Ok(0), |f| f(s, c, conn, name, bytes_mut(value, len))).c_return()
        })
    }
}
