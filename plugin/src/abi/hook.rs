//! `struct usk_sock_ops` of [`Hooks`].

use super::contain::contain_for;
use super::reg::{Reg, Texts};
use super::{addr, home};
use crate::errno::{Errno, Result, status};
use crate::hook::{Filter, HdrSeg, Hooks, Scope, View};
use crate::sock::State;
use crate::sys::*;
use crate::time::Time;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// An event. In some the connection is a request, for which there is no sock yet: it can be read, and calls that would
/// change it return EINVAL.
pub struct Hook<'a> {
    raw: *mut usk_hook_t,
    of: PhantomData<&'a mut usk_hook_t>,
}

impl Hook<'_> {
    /// The registration: counters, sysctls.
    pub fn reg(&self) -> Reg<'_> {
        // SAFETY: a hook's argument, whose registration is valid; so below.
        unsafe { Reg::new((*self.raw).reg) }
    }

    /// Time of the event.
    pub fn now(&self) -> Time {
        // SAFETY: see `reg`.
        Time(unsafe { (*self.raw).now })
    }

    /// The present values of the connection's variables.
    pub fn view(&self) -> View {
        // SAFETY: see `reg`; writable, and all zero is a value of each member.
        unsafe {
            let mut view: usk_sock_view_t = std::mem::zeroed();
            usk_hook_view(self.raw, &mut view, size_of::<usk_sock_view_t>());
            View(view)
        }
    }

    /// Sets the events that these hooks get for this sock: bits of [`cb`](crate::hook::cb). Children inherit those of
    /// their listener. EINVAL: a request, or an unknown bit.
    pub fn set_cb_flags(&mut self, flags: u32) -> Result<()> {
        // SAFETY: see `reg`.
        status(unsafe { usk_hook_set_cb_flags(self.raw, flags) })
    }

    /// The value that these hooks have stored for this sock; 0 until set.
    pub fn value(&self) -> u64 {
        // SAFETY: see `reg`.
        unsafe { usk_hook_value(self.raw) }
    }

    /// Stores a value for this sock, for as long as it exists. EINVAL: a request.
    pub fn set_value(&mut self, value: u64) -> Result<()> {
        // SAFETY: see `reg`.
        status(unsafe { usk_hook_set_value(self.raw, value) })
    }

    /// Sets an option of the event's connection, of IPPROTO_TCP: one of USK_TCP_BPF_*, TCP_CONGESTION or TCP_SAVE_SYN.
    pub fn setsockopt(&mut self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        // SAFETY: see `reg`; readable.
        status(unsafe { usk_hook_setsockopt(self.raw, level, name, value.as_ptr().cast(), value.len()) })
    }
}

/// A hook's part of a header.
pub struct Hdr<'a> {
    raw: *mut usk_hdr_t,
    of: PhantomData<&'a mut usk_hdr_t>,
}

impl Hdr<'_> {
    /// Appends one option: kind, length, data. EINVAL: malformed; ENOSPC: more than was reserved; EEXIST: the header
    /// has one of this kind (and ExID).
    pub fn store(&mut self, option: &[u8]) -> Result<()> {
        // SAFETY: write_hdr_opt's argument; so below. Readable.
        status(unsafe { usk_hdr_store(self.raw, option.as_ptr().cast(), option.len()) })
    }

    /// Bytes of the reservation that are still free.
    pub fn remaining(&self) -> usize {
        // SAFETY: see `store`.
        unsafe { usk_hdr_remaining(self.raw) }
    }

    /// The option bytes that TCP itself wrote into this header.
    pub fn own(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: see `store`; writable, and the bytes are there until write_hdr_opt returns.
        unsafe {
            let from = usk_hdr_own(self.raw, &mut len);
            super::bytes(from, len)
        }
    }
}

/// The data of the first option of a kind in option bytes; with an ExID, of the first one that has it, which is part of
/// the data (RFC 6994 §3.1).
pub fn find_option(options: &[u8], kind: u8, exid: Option<u16>) -> Option<&[u8]> {
    let (exid, mut len) = (exid.map_or(-1, c_int::from), 0);
    // SAFETY: readable, writable; what it returns is inside the options.
    unsafe {
        let from = usk_find_option(options.as_ptr().cast(), options.len(), kind, exid, &mut len);
        (!from.is_null()).then(|| super::bytes(from, len))
    }
}

/// Registers `hooks` in the plug-in's stack, for connections that the filters match.
/// # Safety
/// `plugin` is the entry point's argument.
pub(crate) unsafe fn register<T: Hooks>(plugin: *mut usk_plugin_t, hooks: T, filters: &[Filter]) -> Result<()> {
    let texts = Texts::new(T::NAME, T::COUNTERS, T::SYSCTLS)?;
    let fns = &T::HOOKS;
    let table = usk_sock_ops {
        version: USK_SOCK_OPS_VERSION,
        size: size_of::<usk_sock_ops>() as u32,
        name: texts.name.as_ptr(),
        mib_names: texts.mib_names(),
        sysctls: texts.sysctls(),
        timeout_init: fns.timeout_init.map(|_| timeout_init::<T> as _),
        rwnd_init: fns.rwnd_init.map(|_| rwnd_init::<T> as _),
        needs_ecn: fns.needs_ecn.map(|_| needs_ecn::<T> as _),
        base_rtt: fns.base_rtt.map(|_| base_rtt::<T> as _),
        tcp_connect: fns.tcp_connect.map(|_| tcp_connect::<T> as _),
        active_established: fns.active_established.map(|_| active_established::<T> as _),
        passive_established: fns.passive_established.map(|_| passive_established::<T> as _),
        listen: fns.listen.map(|_| listen::<T> as _),
        rto: fns.rto.map(|_| rto::<T> as _),
        retrans: fns.retrans.map(|_| retrans::<T> as _),
        state: fns.state.map(|_| state::<T> as _),
        rtt: fns.rtt.map(|_| rtt::<T> as _),
        parse_hdr_opt: fns.parse_hdr_opt.map(|_| parse_hdr_opt::<T> as _),
        hdr_opt_len: fns.hdr_opt_len.map(|_| hdr_opt_len::<T> as _),
        write_hdr_opt: fns.write_hdr_opt.map(|_| write_hdr_opt::<T> as _),
        release: None,
        flags: if T::SCOPE == Scope::Chosen { USK_SOCK_OPS_CHOSEN } else { 0 },
        option_kind: T::OPTION.map_or(0, |o| o.kind.into()),
        option_exid: T::OPTION.map_or(0, |o| o.exid),
        attached: fns.attached.map(|_| attached::<T> as _),
        detached: fns.detached.map(|_| detached::<T> as _),
    };
    // SAFETY: the table's functions are made for the value that is `user`; it is copied, with its texts.
    let reg = home::register(hooks, |user, reg| unsafe { usk_sock_ops_register(plugin, &table, user, reg) })?;
    // SAFETY: registered just now.
    if filters.is_empty() { Ok(()) } else { unsafe { Reg::new(reg) }.set_filters(filters) }
}

/// The prefix, its length, and the range of ports of one end of a filter.
fn end_of(prefix: Option<(IpAddr, u8)>, ports: &RangeInclusive<u16>) -> (usk_addr_t, u16, u16) {
    // Port 0 is in every range from there on, and C means all of them by 0.
    let (first, last) = if *ports == (0..=u16::MAX) { (0, 0) } else { ports.clone().into_inner() };
    match prefix {
        Some((ip, bits)) => (addr::to_c(SocketAddr::new(ip, first)), bits.into(), last),
        None => (usk_addr_t { port: first, ..addr::NONE }, 0, last),
    }
}

impl Reg<'_> {
    /// Which connections hooks of [`Scope::Chosen`](crate::hook::Scope::Chosen) get, in place of those before: the ones
    /// that begin from now on and match a filter (`usk_sock_ops_filter`). EINVAL: it is no registration of such hooks,
    /// or a filter is wrong; EEXIST: a filter of other hooks for the same option overlaps.
    pub fn set_filters(self, filters: &[Filter]) -> Result<()> {
        let to_c = |f: &Filter| {
            let (local, local_prefix, local_last) = end_of(f.local, &f.local_ports);
            let (remote, remote_prefix, remote_last) = end_of(f.remote, &f.remote_ports);
            usk_sock_ops_filter_t { local, remote, local_prefix, remote_prefix, local_last, remote_last }
        };
        let filters: Vec<usk_sock_ops_filter_t> = filters.iter().map(to_c).collect();
        // SAFETY: a valid registration; as many filters as it says.
        status(unsafe { usk_sock_ops_filter(self.raw(), filters.as_ptr(), filters.len()) })
    }
}

/// Runs a hook, if there is one; `broken` is what is returned after a panic.
/// # Safety
/// `h` and `user` are the hook's arguments, of `T`.
unsafe fn run<T: Hooks, F, R>(
    h: *mut usk_hook_t,
    user: *mut c_void,
    hook: Option<F>,
    broken: R,
    call: impl FnOnce(F, &T, &mut Hook<'_>) -> R,
) -> R
where
    R: Copy,
{
    // SAFETY: the event lives while the hook runs, and the value of the registration until `release`.
    unsafe {
        contain_for(
            || (*h).sk,
            broken,
            || hook.map_or(broken, |f| call(f, &*user.cast::<T>(), &mut Hook { raw: h, of: PhantomData })),
        )
    }
}

/// # Safety
/// `seg` is a hook's argument.
unsafe fn segment<'a>(seg: *const usk_hdr_seg_t) -> HdrSeg<'a> {
    // SAFETY: readable while the hook runs, and so is its SYN.
    unsafe {
        let s = &*seg;
        HdrSeg {
            flags: u8::try_from(s.flags).ok(),
            seq: s.seq,
            segs: s.segs,
            remaining: s.remaining,
            len: s.len,
            syn: (!s.syn.is_null()).then(|| super::bytes(s.syn, s.syn_len)),
        }
    }
}

// SAFETY of the hooks below: the stack calls them as struct usk_sock_ops says, with valid arguments; bytes are readable
// while the hook runs.

unsafe extern "C" fn timeout_init<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.timeout_init, 0, |f, t, h| f(t, h)) }
}

unsafe extern "C" fn rwnd_init<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.rwnd_init, 0, |f, t, h| f(t, h)) }
}

unsafe extern "C" fn needs_ecn<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) -> c_int {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.needs_ecn, 0, |f, t, h| f(t, h).into()) }
}

unsafe extern "C" fn base_rtt<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) -> u32 {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.base_rtt, 0, |f, t, h| f(t, h)) }
}

unsafe extern "C" fn tcp_connect<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.tcp_connect, (), |f, t, h| f(t, h)) }
}

unsafe extern "C" fn active_established<T: Hooks>(
    h: *mut usk_hook_t,
    options: *const c_void,
    len: usize,
    user: *mut c_void,
) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.active_established, (), |f, t, h| f(t, h, super::bytes(options, len))) }
}

unsafe extern "C" fn passive_established<T: Hooks>(
    h: *mut usk_hook_t,
    options: *const c_void,
    len: usize,
    syn: *const c_void,
    syn_len: usize,
    user: *mut c_void,
) {
    // SAFETY: see above.
    unsafe {
        run::<T, _, _>(h, user, T::HOOKS.passive_established, (), |f, t, h| {
            f(t, h, super::bytes(options, len), super::bytes(syn, syn_len));
        });
    }
}

unsafe extern "C" fn listen<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.listen, (), |f, t, h| f(t, h)) }
}

unsafe extern "C" fn rto<T: Hooks>(
    h: *mut usk_hook_t,
    retransmits: u32,
    rto_us: u32,
    expired: c_int,
    user: *mut c_void,
) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.rto, (), |f, t, h| f(t, h, retransmits, rto_us, expired != 0)) }
}

unsafe extern "C" fn retrans<T: Hooks>(h: *mut usk_hook_t, seq: u32, segs: u32, err: c_int, user: *mut c_void) {
    let err = (err != 0).then(|| Errno::from_number(err.saturating_neg()));
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.retrans, (), |f, t, h| f(t, h, seq, segs, err)) }
}

unsafe extern "C" fn state<T: Hooks>(h: *mut usk_hook_t, old: c_int, now: c_int, user: *mut c_void) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.state, (), |f, t, h| f(t, h, State(old), State(now))) }
}

unsafe extern "C" fn rtt<T: Hooks>(h: *mut usk_hook_t, sample_us: u32, srtt_us: u32, user: *mut c_void) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.rtt, (), |f, t, h| f(t, h, sample_us, srtt_us)) }
}

unsafe extern "C" fn parse_hdr_opt<T: Hooks>(
    h: *mut usk_hook_t,
    options: *const c_void,
    len: usize,
    user: *mut c_void,
) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.parse_hdr_opt, (), |f, t, h| f(t, h, super::bytes(options, len))) }
}

unsafe extern "C" fn hdr_opt_len<T: Hooks>(h: *mut usk_hook_t, seg: *const usk_hdr_seg_t, user: *mut c_void) -> c_int {
    // SAFETY: see above.
    unsafe {
        run::<T, _, _>(h, user, T::HOOKS.hdr_opt_len, 0, |f, t, h| c_int::try_from(f(t, h, &segment(seg))).unwrap_or(0))
    }
}

unsafe extern "C" fn write_hdr_opt<T: Hooks>(
    h: *mut usk_hook_t,
    seg: *const usk_hdr_seg_t,
    w: *mut usk_hdr_t,
    user: *mut c_void,
) {
    // SAFETY: see above.
    unsafe {
        run::<T, _, _>(h, user, T::HOOKS.write_hdr_opt, (), |f, t, h| {
            f(t, h, &segment(seg), &mut Hdr { raw: w, of: PhantomData });
        });
    }
}

unsafe extern "C" fn attached<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.attached, (), |f, t, h| f(t, h)) }
}

unsafe extern "C" fn detached<T: Hooks>(h: *mut usk_hook_t, user: *mut c_void) {
    // SAFETY: see above.
    unsafe { run::<T, _, _>(h, user, T::HOOKS.detached, (), |f, t, h| f(t, h)) }
}
