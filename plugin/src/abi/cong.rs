//! `struct usk_cong_ops` of a [`Congestion`].

use super::contain::contain_for;
use super::home;
use super::reg::{Reg, Texts};
use super::slot::Slot;
use crate::cong::{AckSample, CaEvent, CaState, Congestion, PktSample, RateSample};
use crate::errno::Result;
use crate::sys::*;
use std::ffi::{c_int, c_void};
use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;

/// A connection's variables, by the names of `usk_tcp_t` in `usersock/cong.h`: `tp.snd_cwnd`. Those of its first block
/// may be written.
pub struct Tcp<'a> {
    raw: &'a mut usk_tcp_t,
    /// As the caller gave it.
    reg: Reg<'a>,
}

impl Deref for Tcp<'_> {
    type Target = usk_tcp_t;
    fn deref(&self) -> &usk_tcp_t {
        self.raw
    }
}

impl DerefMut for Tcp<'_> {
    fn deref_mut(&mut self) -> &mut usk_tcp_t {
        self.raw
    }
}

impl Tcp<'_> {
    /// The registration: counters, sysctls. Its clock is `tp.now`.
    pub fn reg(&self) -> Reg<'_> {
        self.reg
    }

    /// Whether the connection is in slow start.
    pub fn in_slow_start(&self) -> bool {
        // SAFETY: a congestion control's argument; so below.
        unsafe { usk_tcp_in_slow_start(&*self.raw) != 0 }
    }

    /// Slow start for `acked` segments, up to the threshold; returns those left over for congestion avoidance.
    pub fn slow_start(&mut self, acked: u32) -> u32 {
        // SAFETY: see `in_slow_start`.
        unsafe { usk_tcp_slow_start(self.raw, acked) }
    }

    /// Additive increase: one segment for every `w` acknowledged.
    pub fn cong_avoid_ai(&mut self, w: u32, acked: u32) {
        // SAFETY: see `in_slow_start`.
        unsafe { usk_tcp_cong_avoid_ai(self.raw, w, acked) };
    }

    /// Reno's threshold: half of the window, at least 2.
    pub fn reno_ssthresh(&mut self) -> u32 {
        // SAFETY: see `in_slow_start`; it uses no private memory.
        unsafe { usk_tcp_reno_ssthresh(self.raw, null_mut()) }
    }

    /// Reno's window increase (RFC 5681 §3.1).
    pub fn reno_cong_avoid(&mut self, ack: u32, acked: u32) {
        // SAFETY: see `reno_ssthresh`.
        unsafe { usk_tcp_reno_cong_avoid(self.raw, null_mut(), ack, acked) };
    }

    /// The window before the loss, if that is larger.
    pub fn reno_undo_cwnd(&mut self) -> u32 {
        // SAFETY: see `reno_ssthresh`.
        unsafe { usk_tcp_reno_undo_cwnd(self.raw, null_mut()) }
    }
}

type SlotOf<C> = Slot<C, <C as Congestion>::Conn>;

/// Registers `algorithm` in the plug-in's stack.
/// # Safety
/// `plugin` is the entry point's argument.
pub(crate) unsafe fn register<C: Congestion>(plugin: *mut usk_plugin_t, algorithm: C) -> Result<()> {
    const { assert!(align_of::<SlotOf<C>>() <= 16, "Congestion::Conn: its alignment is above 16") };
    const { assert!(size_of::<SlotOf<C>>() <= USK_CONG_PRIV_MAX as usize, "Congestion::Conn: larger than 992 bytes") };
    let texts = Texts::new(C::NAME, C::COUNTERS, C::SYSCTLS)?;
    let more = &C::MORE;
    let table = usk_cong_ops {
        version: USK_CONG_VERSION,
        size: size_of::<usk_cong_ops>() as u32,
        name: texts.name.as_ptr(),
        mib_names: texts.mib_names(),
        sysctls: texts.sysctls(),
        flags: C::FLAGS,
        priv_size: size_of::<SlotOf<C>>() as u32,
        init: Some(init::<C>),
        release: Some(release::<C>),
        ssthresh: Some(ssthresh::<C>),
        cong_avoid: Some(cong_avoid::<C>),
        cong_control: more.cong_control.map(|_| cong_control::<C> as _),
        pkts_acked: more.pkts_acked.map(|_| pkts_acked::<C> as _),
        in_ack_event: more.in_ack_event.map(|_| in_ack_event::<C> as _),
        set_state: more.set_state.map(|_| set_state::<C> as _),
        cwnd_event: more.cwnd_event.map(|_| cwnd_event::<C> as _),
        undo_cwnd: Some(undo_cwnd::<C>),
        min_tso_segs: more.min_tso_segs.map(|_| min_tso_segs::<C> as _),
        sndbuf_expand: more.sndbuf_expand.map(|_| sndbuf_expand::<C> as _),
        get_info: more.get_info.map(|_| get_info::<C> as _),
        pkts_delivered: more.pkts_delivered.map(|_| pkts_delivered::<C> as _),
    };
    // SAFETY: the table's functions are made for the value that is `user`; it is copied, with its texts.
    home::register(algorithm, |user, reg| unsafe { usk_cong_register(plugin, &table, user, reg) }).map(drop)
}

/// Runs a function of a connection. A panic breaks its socket, and drops its data: nothing of the algorithm runs for it
/// any more.
/// # Safety
/// `tp` and `private` are the function's arguments, of algorithm `C`.
unsafe fn enter<C: Congestion, R>(
    tp: *mut usk_tcp_t,
    private: *mut c_void,
    broken: R,
    f: impl FnOnce(&C, &mut Tcp<'_>, &mut SlotOf<C>) -> R,
) -> R {
    // SAFETY: the variables and the memory are ours while the function runs, and the value of the registration exists
    // as long as a connection of it. After a panic nobody uses the memory.
    unsafe {
        let (sk, reg, slot) = ((*tp).sk, (*tp).reg, private.cast::<SlotOf<C>>());
        let mut whole = false;
        let r = contain_for(
            || sk,
            broken,
            || {
                let mut tp = Tcp { raw: &mut *tp, reg: Reg::new(reg) };
                let r = f(&*usk_user(reg).cast::<C>(), &mut tp, &mut *slot);
                whole = true;
                r
            },
        );
        if !whole {
            super::contain::contain((), || (*slot).clear());
        }
        r
    }
}

/// As `enter`, for a function that uses the connection's data.
/// # Safety
/// As there.
unsafe fn with<C: Congestion, R: Copy>(
    tp: *mut usk_tcp_t,
    private: *mut c_void,
    broken: R,
    f: impl FnOnce(&C, &mut Tcp<'_>, &mut C::Conn) -> R,
) -> R {
    // SAFETY: the caller vouches for it.
    unsafe { enter::<C, R>(tp, private, broken, |c, tp, slot| slot.get().map_or(broken, |conn| f(c, tp, conn))) }
}

// SAFETY of the functions below: the stack calls them as struct usk_cong_ops says, with valid arguments, for
// connections that have the algorithm.

unsafe extern "C" fn init<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void) {
    // SAFETY: see above.
    unsafe {
        enter::<C, _>(tp, private, (), |c, tp, slot| {
            slot.fill(C::Conn::default());
            if let (Some(f), Some(conn)) = (C::MORE.init, slot.get()) {
                f(c, tp, conn);
            }
        });
    }
}

unsafe extern "C" fn release<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void) {
    // SAFETY: see above.
    unsafe {
        with::<C, _>(tp, private, (), |c, tp, conn| C::MORE.release.map_or((), |f| f(c, tp, conn)));
        enter::<C, _>(tp, private, (), |_, _, slot| slot.clear());
    }
}

unsafe extern "C" fn ssthresh<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe { with::<C, _>(tp, private, 2, |c, tp, conn| c.ssthresh(tp, conn)) }
}

unsafe extern "C" fn cong_avoid<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void, ack: u32, acked: u32) {
    // SAFETY: see above.
    unsafe { with::<C, _>(tp, private, (), |c, tp, conn| c.cong_avoid(tp, conn, ack, acked)) }
}

unsafe extern "C" fn undo_cwnd<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe { with::<C, _>(tp, private, 2, |c, tp, conn| c.undo_cwnd(tp, conn)) }
}

unsafe extern "C" fn cong_control<C: Congestion>(
    tp: *mut usk_tcp_t,
    private: *mut c_void,
    ack: u32,
    flags: u32,
    rs: *const RateSample,
) {
    // SAFETY: see above; the sample is readable.
    unsafe {
        with::<C, _>(tp, private, (), |c, tp, conn| {
            if let Some(f) = C::MORE.cong_control {
                f(c, tp, conn, ack, flags, &*rs);
            }
        });
    }
}

unsafe extern "C" fn pkts_acked<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void, sample: *const AckSample) {
    // SAFETY: see above; the sample is readable.
    unsafe { with::<C, _>(tp, private, (), |c, tp, conn| C::MORE.pkts_acked.map_or((), |f| f(c, tp, conn, &*sample))) }
}

unsafe extern "C" fn pkts_delivered<C: Congestion>(
    tp: *mut usk_tcp_t,
    private: *mut c_void,
    pkts: *const PktSample,
    n: u32,
) {
    // SAFETY: see above; `pkts` points to `n` of them.
    unsafe {
        with::<C, _>(tp, private, (), |c, tp, conn| {
            if let Some(f) = C::MORE.pkts_delivered.filter(|_| n != 0) {
                f(c, tp, conn, std::slice::from_raw_parts(pkts, n as usize));
            }
        });
    }
}

unsafe extern "C" fn in_ack_event<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void, flags: u32) {
    // SAFETY: see above.
    unsafe { with::<C, _>(tp, private, (), |c, tp, conn| C::MORE.in_ack_event.map_or((), |f| f(c, tp, conn, flags))) }
}

unsafe extern "C" fn set_state<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void, state: u8) {
    let state = match state {
        USK_CA_DISORDER => CaState::Disorder,
        USK_CA_CWR => CaState::Cwr,
        USK_CA_RECOVERY => CaState::Recovery,
        USK_CA_LOSS => CaState::Loss,
        _ => CaState::Open,
    };
    // SAFETY: see above.
    unsafe { with::<C, _>(tp, private, (), |c, tp, conn| C::MORE.set_state.map_or((), |f| f(c, tp, conn, state))) }
}

unsafe extern "C" fn cwnd_event<C: Congestion>(tp: *mut usk_tcp_t, private: *mut c_void, event: c_int) {
    let event = match event {
        USK_CA_EVENT_TX_START => CaEvent::TxStart,
        USK_CA_EVENT_CWND_RESTART => CaEvent::CwndRestart,
        USK_CA_EVENT_COMPLETE_CWR => CaEvent::CompleteCwr,
        USK_CA_EVENT_LOSS => CaEvent::Loss,
        USK_CA_EVENT_ECN_NO_CE => CaEvent::EcnNoCe,
        USK_CA_EVENT_ECN_IS_CE => CaEvent::EcnIsCe,
        // Of a newer library.
        _ => return,
    };
    // SAFETY: see above.
    unsafe { with::<C, _>(tp, private, (), |c, tp, conn| C::MORE.cwnd_event.map_or((), |f| f(c, tp, conn, event))) }
}

/// Variables that are not to be written: a copy.
/// # Safety
/// `tp` is readable.
unsafe fn copy(tp: *const usk_tcp_t) -> usk_tcp_t {
    // SAFETY: the caller vouches for it.
    unsafe { *tp }
}

unsafe extern "C" fn min_tso_segs<C: Congestion>(tp: *const usk_tcp_t, private: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe {
        let mut tp = copy(tp);
        with::<C, _>(&mut tp, private, 2, |c, tp, conn| C::MORE.min_tso_segs.map_or(2, |f| f(c, tp, conn)))
    }
}

unsafe extern "C" fn sndbuf_expand<C: Congestion>(tp: *const usk_tcp_t, private: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe {
        let mut tp = copy(tp);
        with::<C, _>(&mut tp, private, 2, |c, tp, conn| C::MORE.sndbuf_expand.map_or(2, |f| f(c, tp, conn)))
    }
}

unsafe extern "C" fn get_info<C: Congestion>(
    tp: *const usk_tcp_t,
    private: *mut c_void,
    info: *mut c_void,
    len: usize,
) -> usize {
    // SAFETY: see above; `info` is writable for `len` bytes.
    unsafe {
        let mut tp = copy(tp);
        with::<C, _>(&mut tp, private, 0, |c, tp, conn| {
            C::MORE.get_info.map_or(0, |f| f(c, tp, conn, super::bytes_mut(info, len)))
        })
    }
}
