//! `struct usk_ulp_ops`: upper-layer protocols (TCP_ULP) in C. Above: the plug-in's functions. Below:
//! `usersock::tcp::ulp`, which installs and removes layers, and `usersock::sock::layer`, whose operations this
//! implements; `below` has the table of the protocol below. Linux: struct tcp_ulp_ops; tls.
//!
//! A connection's memory is reference-counted: if the protocol is removed or the connection destroyed while an
//! operation of the layer sleeps, the memory remains, and `release` runs when the last operation returns.

use super::below::{BELOW, usk_below_ops};
use super::call::{ALL_EVENTS, checked, owned, owned_status, received, unowned};
use super::gate::kernel;
use super::guard::usk_owned_t;
use super::lists::{self, usk_sysctl_t};
use super::msg::{lend_recv, lend_send, usk_recvmsg_t, usk_sendmsg_t};
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::skb::{self, usk_skb_t};
use super::table::Table;
use crate::handle::usk_sock_t;
use crate::held::contain;
use crate::library::usk_plugin_t;
use crate::loader::TableKind;
use std::any::Any;
use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use usersock::error::{Error, Result};
use usersock::sock::SockGuard;
use usersock::sock::layer::Layer;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::proto::{Proto, SockRef};
use usersock::sock::skb::Skb;
use usersock::sock::wait::Events;
use usersock::stack::Stack;
use usersock::tcp::cong::Cx;
use usersock::tcp::ulp::{self, Ulp};

#[cfg(test)]
mod tests;

/// `version` of struct usk_ulp_ops.
pub const USK_ULP_VERSION: u32 = 1;

/// A layer on one connection: the argument of its operations, at the same address until `release` returns. In a newer
/// library it may be longer.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_ulp_t {
    /// The layer's memory of the connection: data_size bytes, initially zero, aligned to 16. To be accessed with the
    /// sock owned.
    pub data: *mut c_void,
    /// The registration, for usk_count, usk_sysctl and usk_user.
    pub reg: *mut usk_reg_t,
    /// The operations of the protocol below.
    pub below: *const usk_below_ops,
}

/// An upper-layer protocol: TCP_ULP installs it on a connection by name, between the program's calls and TCP.
/// Registering copies it, with its strings and lists. A null operation means TCP's own.
///
/// Operations that get usk_owned_t are called with the sock owned; contexts and return values are those of struct
/// usk_proto. The layer reaches TCP by `ulp->below`. Operations may be called while another one is inside below->send
/// or below->recv (which process the backlog, through backlog_rcv) or sleeps in usk_wait (another thread's call):
/// `ulp->data` must be consistent during these calls. No C++ exception and no panic of a Rust shared object may leave
/// an operation: catch it and call usk_break; in `release` only catch it.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_ulp_ops {
    /// USK_ULP_VERSION.
    pub version: u32,
    /// sizeof(struct usk_ulp_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// 1 to 15 printable characters without dot, as TCP_ULP takes it; unique in a stack. Required.
    pub name: *const c_char,
    /// Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
    /// usk_mib_read reads them.
    pub mib_names: *const *const c_char,
    /// Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// Bytes of memory for each connection (usk_ulp_t.data), at most 65536.
    pub data_size: u32,
    /// 0.
    pub flags: u32,

    /// Installs the layer on a connection, or on a socket that is not connected yet. On an error setsockopt returns it,
    /// the layer is not installed, and release is not called. Process context, owned. Null: succeeds.
    pub init: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int>,
    /// Called last: the layer was removed or the connection is gone, and no operation runs any more. Frees what
    /// `ulp->data` refers to, not `ulp->data` itself. Any context, perhaps with a sock owned: of the library only
    /// usk_user and usk_count may be called.
    pub release: Option<unsafe extern "C-unwind" fn(ulp: *const usk_ulp_t)>,
    /// Installs the layer on the child of a listener that has it; `parent` is the listener's. On an error the child has
    /// no layer. Either context, owned. Null: listeners cannot have the layer (TCP_ULP returns ENOTCONN, listen(2)
    /// EINVAL).
    pub clone: Option<
        unsafe extern "C-unwind" fn(child: *mut usk_owned_t, ulp: *const usk_ulp_t, parent: *const usk_ulp_t) -> c_int,
    >,
    /// Sends: returns the bytes consumed. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
    pub sendmsg: Option<
        unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, msg: *mut usk_sendmsg_t) -> isize,
    >,
    /// Receives: returns the bytes copied. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
    /// SO_RCVLOWAT counts the bytes that the program receives, so this operation applies it (usk_rcvlowat): in TCP
    /// below, any byte wakes the reader and sets POLLIN.
    pub recvmsg: Option<
        unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, msg: *mut usk_recvmsg_t) -> isize,
    >,
    /// The present poll(2) bits; it starts from below->poll. Process context, owned; must not sleep.
    pub poll: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> u32>,
    /// The last descriptor is closed: passes the bytes that it holds to below->force. TCP's close follows. Process
    /// context, not owned.
    pub close: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, ulp: *const usk_ulp_t, flags: c_int)>,
    /// shutdown(2): bit 0 receiving, bit 1 sending; passes the bytes that it holds to below->force. TCP's shutdown
    /// follows. Process context, owned.
    pub shutdown: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, how: c_int)>,
    /// Options of levels other than SOL_SOCKET; passes options that it does not know to below->setsockopt. Process
    /// context, not owned.
    pub setsockopt: Option<
        unsafe extern "C-unwind" fn(
            sk: *mut usk_sock_t,
            ulp: *const usk_ulp_t,
            level: c_int,
            name: c_int,
            value: *const c_void,
            len: usize,
        ) -> c_int,
    >,
    /// As setsockopt: writes at most `len` bytes, returns how many; passes other options to below->getsockopt.
    pub getsockopt: Option<
        unsafe extern "C-unwind" fn(
            sk: *mut usk_sock_t,
            ulp: *const usk_ulp_t,
            level: c_int,
            name: c_int,
            value: *mut c_void,
            len: usize,
        ) -> isize,
    >,
    /// SIOCINQ, SIOCOUTQ and others; the result is the int `*value`. Passes requests that it does not know to
    /// below->ioctl. Process context, not owned.
    pub ioctl: Option<
        unsafe extern "C-unwind" fn(
            sk: *mut usk_sock_t,
            ulp: *const usk_ulp_t,
            request: c_ulong,
            value: *mut c_int,
        ) -> c_int,
    >,
    /// A segment for the connection: calls below->backlog_rcv once, or usk_skb_free; after it there may be room to
    /// send, or received data. Softirq, or process context from the backlog; owned; must not sleep.
    pub backlog_rcv:
        Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, skb: *mut usk_skb_t)>,
    /// TCP's timers and deferred work have run. Either context, owned; must not sleep.
    pub release_cb: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t)>,
    /// usk_ulp_remove asks whether the layer may be removed: 0, or -EBUSY while it holds bytes that neither the program
    /// nor TCP has. While an operation of the layer sleeps, this is not called and the result is EBUSY. Process
    /// context, owned. Null: it may always be removed.
    pub may_remove: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int>,
    /// The socket is disconnected: by connect(2) with AF_UNSPEC, by shutdown(2) of a listener or of a connection
    /// attempt, or because the attempt failed. Discards the bytes that it holds; the layer stays, for the next
    /// connection. Returns 0, and TCP's disconnect follows, or a negative errno, and the call fails. Process context,
    /// owned. Null: no action.
    pub disconnect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int>,
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_ulp_ops {
    const NAME: &'static str = "struct usk_ulp_ops";
    const VERSION: u32 = USK_ULP_VERSION;
    // `disconnect` was added after the first version.
    const FIRST_SIZE: usize = std::mem::offset_of!(usk_ulp_ops, disconnect);
}

const _: () = assert!(begins_with_head(
    offset_of!(usk_ulp_ops, name),
    offset_of!(usk_ulp_ops, mib_names),
    offset_of!(usk_ulp_ops, sysctls)
));

type UlpReg = Registration<usk_ulp_ops>;

// SAFETY: begins with those members, as asserted; a plug-in says that its functions may be called from any thread.
unsafe impl Registered for usk_ulp_ops {
    type Own = ();
    const KIND: TableKind = TableKind::Layer;

    fn check(&self, name: &str) -> std::result::Result<(), String> {
        lists::check_of_tcp(name, self.flags, self.data_size)
    }

    fn enter(reg: &Arc<UlpReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        ulp::register(stack, reg.clone()).map_err(|e| (e, e.to_string()))
    }

    fn leave(reg: &UlpReg, stack: &Arc<Stack>) -> Result<()> {
        ulp::unregister(stack, &reg.name).map(drop)
    }
}

/// The layer's state of a connection.
struct Conn {
    reg: Arc<UlpReg>,
    /// u128, for the alignment of 16; from Box::into_raw, freed by the drop. Only the plug-in accesses it.
    memory: *mut [u128],
    /// The argument of the operations.
    lent: usk_ulp_t,
    /// `init` has succeeded: `release` must run.
    began: AtomicBool,
    /// Number of operations of the layer that run or sleep.
    running: AtomicU32,
}

// SAFETY: only the plug-in uses the memory, in its operations, with the sock owned.
unsafe impl Send for Conn {}
// SAFETY: as above.
unsafe impl Sync for Conn {}

impl Conn {
    fn new(reg: Arc<UlpReg>) -> Arc<Conn> {
        let words = (reg.table.data_size as usize).div_ceil(16);
        let memory = Box::into_raw(vec![0u128; words].into_boxed_slice());
        let lent = usk_ulp_t { data: memory.cast(), reg: reg.handle(), below: &BELOW };
        Arc::new(Conn { reg, memory, lent, began: AtomicBool::new(false), running: AtomicU32::new(0) })
    }
    fn lent(&self) -> *const usk_ulp_t {
        &self.lent
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if let Some(f) = self.reg.table.release.filter(|_| *self.began.get_mut()) {
            // An error is ignored: there is no sock left to break. SAFETY: the table's function, called as the table
            // documents; its memory lives.
            let _ = contain(|| unsafe { f(self.lent()) });
        }
        // SAFETY: from Box::into_raw, and no reference to it is left.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

/// A running operation: it is counted, and holds the memory.
struct Running(Arc<Conn>);

impl Running {
    fn begin(conn: &Arc<Conn>) -> Running {
        conn.running.fetch_add(1, Ordering::Relaxed);
        Running(conn.clone())
    }
    /// None: the layer was removed from the connection, and the caller uses the protocol below. Another layer may have
    /// been installed since the call began: functions of this one must not get its memory.
    fn of(g: &mut SockGuard<'_>, reg: &Arc<UlpReg>) -> Option<Running> {
        ulp::data_mut::<Arc<Conn>>(g).filter(|c| Arc::ptr_eq(&c.reg, reg)).map(|c| Running::begin(c))
    }
    fn of_sock(sk: SockRef<'_>, reg: &Arc<UlpReg>) -> Option<Running> {
        Running::of(&mut sk.lock(), reg)
    }
    fn lent(&self) -> *const usk_ulp_t {
        self.0.lent()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UlpReg {
    /// Installs memory and layer, then calls the plug-in's `init` or `clone`.
    fn begin(
        &self,
        sk: &mut SockGuard<'_>,
        first: impl FnOnce(*mut usk_owned_t, *const usk_ulp_t) -> c_int,
    ) -> Result<()> {
        let reg = self.counted();
        let conn = Conn::new(reg.clone());
        // It cannot be removed while it is being installed.
        let _run = Running::begin(&conn);
        ulp::set_data(sk, Box::new(conn.clone()))?;
        ulp::set_layer(sk, Over(reg))?;
        owned_status(sk, |o| first(o, conn.lent()))?;
        conn.began.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Ulp for UlpReg {
    fn name(&self) -> &str {
        &self.name
    }
    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        // SAFETY: the table's function, called as the table documents; so are all below.
        self.begin(sk, |o, ulp| self.table.init.map_or(0, |f| unsafe { f(o, ulp) }))
    }
    fn can_clone(&self) -> bool {
        self.table.clone.is_some()
    }
    fn clone_to(&self, parent: Option<&(dyn Any + Send)>, child: &mut SockGuard<'_>) -> Result<()> {
        let f = self.table.clone.ok_or(Error::OpNotSupp)?;
        let parent = parent.and_then(|p| p.downcast_ref::<Arc<Conn>>()).ok_or(Error::Inval)?;
        // SAFETY: see `init`.
        self.begin(child, |o, ulp| unsafe { f(o, ulp, parent.lent()) })
    }
    fn has_own_stream(&self) -> bool {
        self.table.recvmsg.is_some()
    }
    fn release(&self, _: &mut Cx<'_>, data: Option<Box<dyn Any + Send>>) {
        // The plug-in's `release` runs when the last reference is dropped: here, unless an operation sleeps.
        drop(data);
    }
}

/// The layer.
struct Over(Arc<UlpReg>);

impl Layer for Over {
    fn sendmsg_locked(&self, below: &dyn Proto, g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let Some(f) = self.0.table.sendmsg else { return below.sendmsg_locked(g, msg) };
        let Some(run) = Running::of(g, &self.0) else { return below.sendmsg_locked(g, msg) };
        let max = msg.remaining();
        // SAFETY: see `Ulp::init`.
        let r = owned(g, |o| unsafe { f(o, run.lent(), lend_send(msg)) })?;
        checked(g.sock, r as i64, max)
    }

    fn recvmsg_locked(&self, below: &dyn Proto, g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let Some(f) = self.0.table.recvmsg else { return below.recvmsg_locked(g, msg) };
        let Some(run) = Running::of(g, &self.0) else { return below.recvmsg_locked(g, msg) };
        // SAFETY: see `Ulp::init`.
        let r = owned(g, |o| unsafe { f(o, run.lent(), lend_recv(msg)) })?;
        checked(g.sock, r as i64, received(msg))
    }

    fn poll_locked(&self, below: &dyn Proto, g: &mut SockGuard<'_>) -> Events {
        let Some(f) = self.0.table.poll else { return below.poll_locked(g) };
        let Some(run) = Running::of(g, &self.0) else { return below.poll_locked(g) };
        // SAFETY: see `Ulp::init`.
        owned(g, |o| unsafe { f(o, run.lent()) }).map_or(ALL_EVENTS, Events)
    }

    fn close(&self, below: &dyn Proto, sk: SockRef<'_>, flags: i32) {
        if let Some(f) = self.0.table.close
            && let Some(run) = Running::of_sock(sk, &self.0)
        {
            // A failure has broken the sock; nothing else to report. SAFETY: see `Ulp::init`.
            let _ = unowned(sk, 0, |s| {
                // SAFETY: as above.
                unsafe { f(s, run.lent(), flags) };
                0
            });
        }
        below.close(sk, flags);
    }

    fn disconnect(&self, below: &dyn Proto, g: &mut SockGuard<'_>) -> Result<()> {
        if let Some(f) = self.0.table.disconnect
            && !g.sock.is_broken()
            && let Some(run) = Running::of(g, &self.0)
        {
            // SAFETY: see `Ulp::init`.
            owned_status(g, |o| unsafe { f(o, run.lent()) })?;
        }
        below.disconnect(g)
    }

    fn shutdown(&self, below: &dyn Proto, g: &mut SockGuard<'_>, how: u8) {
        if let Some(f) = self.0.table.shutdown
            && let Some(run) = Running::of(g, &self.0)
        {
            // A failure has broken the sock.
            // SAFETY: see `Ulp::init`.
            let _ = owned(g, |o| unsafe { f(o, run.lent(), how.into()) });
        }
        below.shutdown(g, how);
    }

    fn setsockopt(&self, below: &dyn Proto, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let Some(f) = self.0.table.setsockopt else { return below.setsockopt(sk, level, name, value) };
        let Some(run) = Running::of_sock(sk, &self.0) else { return below.setsockopt(sk, level, name, value) };
        // SAFETY: see `Ulp::init`.
        unowned(sk, 0, |s| unsafe { f(s, run.lent(), level, name, value.as_ptr().cast(), value.len()) }.into())
            .map(drop)
    }

    fn getsockopt(&self, below: &dyn Proto, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let Some(f) = self.0.table.getsockopt else { return below.getsockopt(sk, level, name, value) };
        let Some(run) = Running::of_sock(sk, &self.0) else { return below.getsockopt(sk, level, name, value) };
        let len = value.len();
        // SAFETY: see `Ulp::init`.
        unowned(sk, len, |s| unsafe { f(s, run.lent(), level, name, value.as_mut_ptr().cast(), len) } as i64)
    }

    fn ioctl(&self, below: &dyn Proto, sk: SockRef<'_>, request: u64) -> Result<i32> {
        let Some(f) = self.0.table.ioctl else { return below.ioctl(sk, request) };
        let Some(run) = Running::of_sock(sk, &self.0) else { return below.ioctl(sk, request) };
        let mut value = 0;
        // SAFETY: see `Ulp::init`.
        unowned(sk, 0, |s| unsafe { f(s, run.lent(), request, &mut value) }.into())?;
        Ok(value)
    }

    fn backlog_rcv(&self, below: &dyn Proto, g: &mut SockGuard<'_>, skb: Skb) {
        let Some(f) = self.0.table.backlog_rcv.filter(|_| !g.sock.is_broken()) else {
            return below.backlog_rcv(g, skb);
        };
        let Some(run) = Running::of(g, &self.0) else { return below.backlog_rcv(g, skb) };
        // A failure has broken the sock; the function owned the packet. SAFETY: see `Ulp::init`.
        let _ = owned(g, |o| unsafe { f(o, run.lent(), skb::give(skb)) });
    }

    fn release_cb(&self, below: &dyn Proto, g: &mut SockGuard<'_>, bits: u32) {
        below.release_cb(g, bits);
        if let Some(f) = self.0.table.release_cb
            && let Some(run) = Running::of(g, &self.0)
        {
            // A failure has broken the sock.
            // SAFETY: see `Ulp::init`.
            let _ = owned(g, |o| unsafe { f(o, run.lent()) });
        }
    }

    fn may_remove(&self, _: &dyn Proto, g: &mut SockGuard<'_>) -> Result<()> {
        let Some(run) = Running::of(g, &self.0) else { return Ok(()) };
        if run.0.running.load(Ordering::Relaxed) > 1 {
            return Err(Error::Busy);
        }
        let Some(f) = self.0.table.may_remove else { return Ok(()) };
        // SAFETY: see `Ulp::init`.
        owned_status(g, |o| unsafe { f(o, run.lent()) })
    }
}

/// Registers an upper-layer protocol in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the
/// registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
/// fit, -EEXIST the name, a counter or a sysctl is taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated; `out` is
/// null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ulp_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_ulp_ops,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> c_int {
    // SAFETY: the caller vouches for plug-in, table and `out`.
    kernel(|| unsafe { registration::register(plugin, table, user, out) })
}
