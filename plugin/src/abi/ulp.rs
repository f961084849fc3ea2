//! `struct usk_ulp_ops` of a [`Layer`].

use super::contain::{contain, contain_for};
use super::home;
use super::owned::OwnedSock;
use super::reg::{Reg, Texts};
use super::slot::Slot;
use crate::errno::{CReturn, Errno, Result, length, status};
use crate::msg::{RecvMsg, SendMsg};
use crate::skb::Skb;
use crate::sock::Events;
use crate::sys::*;
use crate::ulp::Layer;
use std::ffi::{c_int, c_ulong, c_void};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

type SlotOf<L> = Slot<L, <L as Layer>::Data>;

const EIO: c_int = -Errno::Io.number();
const EIO_LEN: isize = EIO as isize;
/// The bits of poll(2) of a broken sock: POLLIN, POLLOUT, POLLERR and POLLHUP.
const BROKEN: u32 = 0x1 | 0x4 | 0x8 | 0x10;

/// A connection that has the layer, owned: the layer's data, and the operations of TCP below.
pub struct Layered<'a, L: Layer> {
    base: OwnedSock<'a>,
    ulp: *const usk_ulp_t,
    of: PhantomData<fn(&L)>,
}

impl<'a, L: Layer> Deref for Layered<'a, L> {
    type Target = OwnedSock<'a>;
    fn deref(&self) -> &OwnedSock<'a> {
        &self.base
    }
}

impl<'a, L: Layer> DerefMut for Layered<'a, L> {
    fn deref_mut(&mut self) -> &mut OwnedSock<'a> {
        &mut self.base
    }
}

impl<L: Layer> Layered<'_, L> {
    /// # Safety
    /// `o` is owned and `ulp` is the layer's, of `L`, while the result is used.
    unsafe fn new<'a>(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> Layered<'a, L> {
        // SAFETY: the caller vouches for it.
        Layered { base: unsafe { OwnedSock::new(o) }, ulp, of: PhantomData }
    }

    /// The layer's data of this connection. Operations may run while a call like `wait` or `below_send` is inside: so
    /// it is borrowed as long as the data is used, and read again after such a call.
    ///
    /// # Panics
    /// An operation has panicked while it was made.
    pub fn data(&mut self) -> &mut L::Data {
        // SAFETY: the table asked for a slot, which the owner of the sock uses; borrowed as long as the data is.
        unsafe { (*(*self.ulp).data.cast::<SlotOf<L>>()).get().expect("the layer has no data") }
    }

    /// The registration: counters, sysctls.
    pub fn reg(&self) -> Reg<'_> {
        // SAFETY: valid as long as the layer.
        unsafe { Reg::new((*self.ulp).reg) }
    }

    fn below(&self) -> &usk_below_ops {
        // SAFETY: one table for all layers, which stays.
        unsafe { &*(*self.ulp).below }
    }

    /// Sends bytes: returns how many were taken. Waits for room in process context, unless `flags` have MSG_DONTWAIT.
    pub fn below_send(&self, bytes: &[u8], flags: i32) -> Result<usize> {
        // SAFETY: owned; readable; so are and do the arguments of the calls below. Nothing is borrowed of the data.
        length(unsafe { (self.below().send)(self.raw(), bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    /// As `below_send` with MSG_DONTWAIT, but not limited by SO_SNDBUF: in `shutdown` and `close`.
    pub fn below_force(&self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: see `below_send`.
        length(unsafe { (self.below().force)(self.raw(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Sends the program's message, or the rest of it, unchanged.
    pub fn below_sendmsg(&self, msg: &mut SendMsg<'_>) -> Result<usize> {
        // SAFETY: see `below_send`; sendmsg's argument.
        length(unsafe { (self.below().sendmsg)(self.raw(), msg.raw()) })
    }

    /// Receives bytes: returns how many, 0 at the end. Waits in process context, unless `flags` have MSG_DONTWAIT.
    pub fn below_recv(&self, to: &mut [u8], flags: i32) -> Result<usize> {
        // SAFETY: see `below_send`; writable.
        length(unsafe { (self.below().recv)(self.raw(), to.as_mut_ptr().cast(), to.len(), flags) })
    }

    /// Receives into the program's message, unchanged.
    pub fn below_recvmsg(&self, msg: &mut RecvMsg<'_>) -> Result<usize> {
        // SAFETY: see `below_send`; recvmsg's argument.
        length(unsafe { (self.below().recvmsg)(self.raw(), msg.raw()) })
    }

    /// poll(2)'s bits of TCP. If they lack POLLOUT, waiters are woken when the sock becomes writable.
    pub fn below_poll(&self) -> Events {
        // SAFETY: see `below_send`.
        Events(unsafe { (self.below().poll)(self.raw()) })
    }

    /// Passes the segment of `backlog_rcv` to TCP.
    pub fn below_backlog_rcv(&self, skb: Skb) -> Result<()> {
        // SAFETY: see `below_send`; the packet is given up.
        status(unsafe { (self.below().backlog_rcv)(self.raw(), skb.give()) })
    }

    /// Aborts the connection: sends a reset, sets the pending error, wakes all waiters. ENOENT: it is closed.
    pub fn below_abort(&self, error: Errno) -> Result<()> {
        // SAFETY: see `below_send`.
        status(unsafe { (self.below().abort)(self.raw(), error.number()) })
    }
}

/// A connection that has the layer, not owned.
pub struct LayeredSock<'a, L: Layer> {
    sk: *mut usk_sock_t,
    ulp: *const usk_ulp_t,
    of: PhantomData<&'a usk_ulp_t>,
    layer: PhantomData<fn(&L)>,
}

impl<L: Layer> LayeredSock<'_, L> {
    /// Owns the sock while `f` runs. EDEADLK: this thread owns it already. A panic of `f` breaks the socket, and goes
    /// on.
    pub fn locked<R>(&self, f: impl FnOnce(&mut Layered<'_, L>) -> R) -> Result<R> {
        let mut o = usk_owned_t { opaque: [0; 4] };
        // SAFETY: the operation's sock and layer; `o` stays where it is until the release below.
        unsafe {
            status(usk_lock_sock(self.sk, &mut o))?;
            let r = catch_unwind(AssertUnwindSafe(|| f(&mut Layered::new(&mut o, self.ulp))));
            if r.is_err() {
                usk_break(self.sk);
            }
            usk_release_sock(&mut o);
            r.map_or_else(|thrown| resume_unwind(thrown), Ok)
        }
    }

    fn below(&self) -> &usk_below_ops {
        // SAFETY: one table for all layers, which stays.
        unsafe { &*(*self.ulp).below }
    }

    /// setsockopt(2) of TCP.
    pub fn below_setsockopt(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        // SAFETY: the operation's sock; readable; so are and do the arguments below.
        status(unsafe { (self.below().setsockopt)(self.sk, level, name, value.as_ptr().cast(), value.len()) })
    }

    /// getsockopt(2) of TCP: returns how many bytes it wrote.
    pub fn below_getsockopt(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        // SAFETY: see `below_setsockopt`; writable.
        length(unsafe { (self.below().getsockopt)(self.sk, level, name, value.as_mut_ptr().cast(), value.len()) })
    }

    /// ioctl(2)'s socket requests of TCP: returns the resulting int.
    pub fn below_ioctl(&self, request: c_ulong, value: i32) -> Result<i32> {
        let mut value = value;
        // SAFETY: see `below_setsockopt`; writable.
        status(unsafe { (self.below().ioctl)(self.sk, request, &mut value) })?;
        Ok(value)
    }
}

/// Registers `layer` in the plug-in's stack.
/// # Safety
/// `plugin` is the entry point's argument.
pub(crate) unsafe fn register<L: Layer>(plugin: *mut usk_plugin_t, layer: L) -> Result<()> {
    const { assert!(align_of::<SlotOf<L>>() <= 16, "Layer::Data: its alignment is above 16") };
    const { assert!(size_of::<SlotOf<L>>() <= 65_536, "Layer::Data: larger than 64 KiB") };
    let texts = Texts::new(L::NAME, L::COUNTERS, L::SYSCTLS)?;
    let ops = &L::OPS;
    let table = usk_ulp_ops {
        version: USK_ULP_VERSION,
        size: size_of::<usk_ulp_ops>() as u32,
        name: texts.name.as_ptr(),
        mib_names: texts.mib_names(),
        sysctls: texts.sysctls(),
        data_size: size_of::<SlotOf<L>>() as u32,
        flags: 0,
        init: Some(init::<L>),
        release: Some(release::<L>),
        clone: ops.clone.map(|_| clone::<L> as _),
        sendmsg: ops.sendmsg.map(|_| sendmsg::<L> as _),
        recvmsg: ops.recvmsg.map(|_| recvmsg::<L> as _),
        poll: ops.poll.map(|_| poll::<L> as _),
        close: ops.close.map(|_| close::<L> as _),
        shutdown: ops.shutdown.map(|_| shutdown::<L> as _),
        setsockopt: ops.setsockopt.map(|_| setsockopt::<L> as _),
        getsockopt: ops.getsockopt.map(|_| getsockopt::<L> as _),
        ioctl: ops.ioctl.map(|_| ioctl::<L> as _),
        backlog_rcv: ops.backlog_rcv.map(|_| backlog_rcv::<L> as _),
        release_cb: ops.release_cb.map(|_| release_cb::<L> as _),
        may_remove: ops.may_remove.map(|_| may_remove::<L> as _),
        disconnect: ops.disconnect.map(|_| disconnect::<L> as _),
    };
    // SAFETY: the table's functions are made for the value that is `user`; it is copied, with its texts.
    home::register(layer, |user, reg| unsafe { usk_ulp_register(plugin, &table, user, reg) }).map(drop)
}

/// The value of the layer's registration.
/// # Safety
/// `ulp` is an operation's argument, of `L`.
unsafe fn value<'a, L: Layer>(ulp: *const usk_ulp_t) -> &'a L {
    // SAFETY: it exists as long as a connection has the layer.
    unsafe { &*usk_user((*ulp).reg).cast::<L>() }
}

/// Runs an operation that is called with the sock owned, if the layer has it.
/// # Safety
/// `o` and `ulp` are the operation's arguments, of `L`.
unsafe fn enter<L: Layer, F, R: Copy>(
    o: *mut usk_owned_t,
    ulp: *const usk_ulp_t,
    broken: R,
    f: Option<F>,
    call: impl FnOnce(F, &L, &mut Layered<'_, L>) -> R,
) -> R {
    // SAFETY: owned, and the layer's, while the operation runs.
    unsafe {
        contain_for(
            || usk_owned_sock(o),
            broken,
            || f.map_or(broken, |f| call(f, value::<L>(ulp), &mut Layered::new(o, ulp))),
        )
    }
}

/// Runs an operation that is called with the sock not owned, if the layer has it.
/// # Safety
/// `sk` and `ulp` are the operation's arguments, of `L`.
unsafe fn beside<L: Layer, F, R: Copy>(
    sk: *mut usk_sock_t,
    ulp: *const usk_ulp_t,
    broken: R,
    f: Option<F>,
    call: impl FnOnce(F, &L, &LayeredSock<'_, L>) -> R,
) -> R {
    // SAFETY: valid, and the layer's, while the operation runs.
    unsafe {
        contain_for(
            || sk,
            broken,
            || {
                f.map_or(broken, |f| {
                    call(f, value::<L>(ulp), &LayeredSock { sk, ulp, of: PhantomData, layer: PhantomData })
                })
            },
        )
    }
}

/// Makes the data and installs the layer; if that fails, `release` does not come: drops the data.
/// # Safety
/// `o` and `ulp` are the operation's arguments, of `L`.
unsafe fn install<L: Layer>(
    o: *mut usk_owned_t,
    ulp: *const usk_ulp_t,
    f: impl FnOnce(&L, &mut Layered<'_, L>) -> Result<()>,
) -> c_int {
    // SAFETY: owned; the memory is the layer's, zero at first.
    unsafe {
        let slot = (*ulp).data.cast::<SlotOf<L>>();
        let r = enter::<L, _, _>(o, ulp, EIO, Some(f), |f, l, layered| {
            (*slot).fill(L::Data::default());
            f(l, layered).c_return() as c_int
        });
        if r != 0 {
            contain((), || (*slot).clear());
        }
        r
    }
}

// SAFETY of the operations below: the stack calls them as struct usk_ulp_ops says, with valid arguments, for
// connections that have the layer.

unsafe extern "C" fn init<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int {
    // SAFETY: see above.
    unsafe { install::<L>(o, ulp, |l, layered| l.init(layered)) }
}

unsafe extern "C" fn clone<L: Layer>(
    child: *mut usk_owned_t,
    ulp: *const usk_ulp_t,
    parent: *const usk_ulp_t,
) -> c_int {
    // SAFETY: see above; the listener's data is there while its child is made, and nobody else is at it: it is owned.
    unsafe {
        install::<L>(child, ulp, |l, layered| {
            let parent = (*(*parent).data.cast::<SlotOf<L>>()).get().ok_or(Errno::Inval)?;
            L::OPS.clone.map_or(Err(Errno::OpNotSupp), |f| f(l, layered, parent))
        })
    }
}

unsafe extern "C" fn release<L: Layer>(ulp: *const usk_ulp_t) {
    // SAFETY: see above; no operation runs any more.
    contain((), || unsafe { (*(*ulp).data.cast::<SlotOf<L>>()).clear() });
}

unsafe extern "C" fn sendmsg<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t, msg: *mut usk_sendmsg_t) -> isize {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, EIO_LEN, L::OPS.sendmsg, |f, l, d| f(l, d, &mut SendMsg::new(msg)).c_return()) }
}

unsafe extern "C" fn recvmsg<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t, msg: *mut usk_recvmsg_t) -> isize {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, EIO_LEN, L::OPS.recvmsg, |f, l, d| f(l, d, &mut RecvMsg::new(msg)).c_return()) }
}

unsafe extern "C" fn poll<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> u32 {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, BROKEN, L::OPS.poll, |f, l, d| f(l, d).0) }
}

unsafe extern "C" fn close<L: Layer>(sk: *mut usk_sock_t, ulp: *const usk_ulp_t, flags: c_int) {
    // SAFETY: see above.
    unsafe {
        beside::<L, _, _>(sk, ulp, (), L::OPS.close, |f, l, s| {
            // EDEADLK cannot be: the last descriptor is closed by a thread that owns nothing of it.
            let _ = s.locked(|d| f(l, d, flags));
        });
    }
}

unsafe extern "C" fn shutdown<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t, how: c_int) {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, (), L::OPS.shutdown, |f, l, d| f(l, d, how)) }
}

unsafe extern "C" fn setsockopt<L: Layer>(
    sk: *mut usk_sock_t,
    ulp: *const usk_ulp_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: see above; `value` is readable for `len` bytes.
    unsafe {
        beside::<L, _, _>(sk, ulp, EIO, L::OPS.setsockopt, |f, l, s| {
            f(l, s, level, name, super::bytes(value, len)).c_return() as c_int
        })
    }
}

unsafe extern "C" fn getsockopt<L: Layer>(
    sk: *mut usk_sock_t,
    ulp: *const usk_ulp_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    // SAFETY: see above; `value` is writable for `len` bytes.
    unsafe {
        beside::<L, _, _>(sk, ulp, EIO_LEN, L::OPS.getsockopt, |f, l, s| {
            f(l, s, level, name, super::bytes_mut(value, len)).c_return()
        })
    }
}

unsafe extern "C" fn ioctl<L: Layer>(
    sk: *mut usk_sock_t,
    ulp: *const usk_ulp_t,
    request: c_ulong,
    value: *mut c_int,
) -> c_int {
    // SAFETY: see above; `value` is writable.
    unsafe {
        beside::<L, _, _>(sk, ulp, EIO, L::OPS.ioctl, |f, l, s| match f(l, s, request, *value) {
            Ok(result) => {
                *value = result;
                0
            }
            Err(e) => -e.number(),
        })
    }
}

unsafe extern "C" fn backlog_rcv<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t, skb: *mut usk_skb_t) {
    // The packet is ours: freed wherever it is dropped.
    let skb = Skb::from_raw(skb);
    // SAFETY: see above.
    unsafe {
        enter::<L, _, _>(o, ulp, (), L::OPS.backlog_rcv, |f, l, d| {
            if let Some(skb) = skb {
                f(l, d, skb);
            }
        });
    }
}

unsafe extern "C" fn release_cb<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t) {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, (), L::OPS.release_cb, |f, l, d| f(l, d)) }
}

unsafe extern "C" fn may_remove<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, EIO, L::OPS.may_remove, |f, l, d| f(l, d).c_return() as c_int) }
}

unsafe extern "C" fn disconnect<L: Layer>(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int {
    // SAFETY: see above.
    unsafe { enter::<L, _, _>(o, ulp, EIO, L::OPS.disconnect, |f, l, d| f(l, d).c_return() as c_int) }
}
