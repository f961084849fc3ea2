//! A protocol made of a C table: `Proto` and `IpHandler` by its functions, each through one gate. What a function answers is
//! checked; one that breaks its word breaks its socket (EIO from then on), and nothing else.

use super::lists::{self, Lists};
use super::msg::{lend_recv, lend_send};
use super::owned::{Owned, parts, usk_addr_t, usk_owned_t};
use super::ports;
use super::proto::*;
use super::skb;
use super::table::Table;
use crate::handle::{self, lend};
use crate::held::{contain, length, status};
use crate::loader::{Item, Library, Plugin};
use crate::note;
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use usersock::counters::DropReason;
use usersock::error::{Error, Result};
use usersock::inet::{AcceptQueue, PortTable};
use usersock::ip::{IcmpError, PacketInfo, datagram, sockopt};
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::proto::{IpHandler, Proto, ProtoAccounts, ProtoSwitch, SockRef};
use usersock::sock::skb::{HEAD, Skb};
use usersock::sock::wait::Events;
use usersock::sock::{Sock, SockCommon, SockGuard, SockState, datagram_poll, flag, mem};
use usersock::stack::{Stack, TimerSlot};
use usersock::sys::lock::Mutex;

/// Most bytes of a sock's own memory.
const MAX_OBJ_SIZE: u32 = 65_536;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// A registered C protocol.
pub(crate) struct Registration {
    table: usk_proto,
    name: String,
    stack: Weak<Stack>,
    user: *mut c_void,
    plugin: Weak<Plugin>,
    /// Keeps the code loaded.
    library: Option<Arc<Library>>,
    pub(super) ports: PortTable,
    pub(super) lists: Lists,
    /// Unregistered: its name may be another's by now.
    gone: Mutex<bool>,
}

// SAFETY: the table is read only; `user` is the plug-in's, which says that its functions may be called from any thread.
unsafe impl Send for Registration {}
// SAFETY: as above.
unsafe impl Sync for Registration {}

/// The C protocol's part of a sock.
pub(crate) struct Private {
    reg: Arc<Registration>,
    /// In words of 16 bytes, for their alignment; made by Box, freed by the drop. Only the plug-in looks inside, by pointers that it
    /// keeps: a Box would claim to be the only way there.
    memory: *mut [u128],
    timers: Vec<TimerSlot>,
    /// Bytes charged by usk_mem_charge.
    charged: i32,
    pub(super) accept: Option<Box<AcceptQueue>>,
    /// The port it is in the table under.
    pub(super) bound: Option<u16>,
    /// Made by usk_new_child.
    pub(super) child: bool,
    /// No program has the sock, and no operation of a program's call runs: a child that is not accepted, or one that is closed.
    pub(super) orphan: bool,
    /// In the port table under a listener's port: which, and to whom.
    pub(super) adopted: Option<(u16, (IpAddr, u16))>,
    /// `destroy` has run.
    done: bool,
    /// A packet's or a timer's operation runs: it may be in a thread of a program, but may not sleep there.
    pub(super) bottom: bool,
}

// SAFETY: the memory is the plug-in's, which uses it with the sock owned, whatever thread owns it.
unsafe impl Send for Private {}

impl Drop for Private {
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw, freed once; the sock is gone, and with it whoever may use it.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

impl Private {
    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.reg
    }
    /// Whether it is finished: `destroy` has run.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }
    pub(super) fn proto(&self) -> *mut usk_proto_t {
        self.reg.handle()
    }
    pub(super) fn memory(&mut self) -> *mut c_void {
        self.memory.cast()
    }
    /// The slot of a timer, made when first asked for. None: no such index.
    pub(super) fn timer(&mut self, index: u32) -> Option<&mut TimerSlot> {
        let index = usize::try_from(index).ok().filter(|i| *i < 32)?;
        while self.timers.len() <= index {
            self.timers.push(TimerSlot::default());
        }
        self.timers.get_mut(index)
    }
    pub(super) fn charge(
        &mut self,
        stack: &Arc<Stack>,
        sock: &Arc<Sock>,
        sk: &mut SockCommon,
        size: i32,
    ) -> Result<()> {
        let charged = self.charged.checked_add(size).filter(|n| *n >= 0).ok_or(Error::Inval)?;
        if size > 0 {
            if !mem::schedule(stack, sock, sk, size, mem::Kind::Send) {
                return Err(Error::NoBufs);
            }
            mem::charge(sk, size);
        } else {
            mem::uncharge(sock, sk, -size);
        }
        self.charged = charged;
        Ok(())
    }
}

impl Registration {
    /// # Safety
    /// `p` is null, or registered.
    pub(crate) unsafe fn of(p: *mut usk_proto_t) -> Result<ManuallyDrop<Arc<Registration>>> {
        if p.is_null() {
            return Err(Error::Inval);
        }
        // SAFETY: a valid handle is the address in an Arc that the registry or a sock holds; the count is left alone.
        Ok(ManuallyDrop::new(unsafe { Arc::from_raw(p.cast::<Registration>().cast_const()) }))
    }

    pub(crate) fn handle(&self) -> *mut usk_proto_t {
        std::ptr::from_ref(self).cast_mut().cast()
    }
    /// EINVAL once the stack has ended.
    pub(crate) fn stack(&self) -> Result<Arc<Stack>> {
        self.stack.upgrade().ok_or(Error::Inval)
    }
    pub(crate) fn user(&self) -> *mut c_void {
        self.user
    }
    pub(crate) fn number(&self) -> u8 {
        self.table.protocol as u8
    }
    pub(crate) fn sysctl(&self, index: u32) -> Option<i64> {
        self.lists.sysctl(&*self.stack.upgrade()?, index)
    }
    /// Whether bind(2) takes ports.
    pub(super) fn has_ports(&self) -> bool {
        !self.flag(USK_PROTO_NO_PORTS)
    }
    fn flag(&self, bit: u32) -> bool {
        self.table.flags & bit != 0
    }

    /// What does not fit, as a line.
    fn check(table: &usk_proto, name: &str) -> std::result::Result<(), String> {
        let lacks = |what: &str| Err(format!("struct usk_proto {name:?}: {what}"));
        let all = USK_PROTO_V4
            | USK_PROTO_V6
            | USK_PROTO_DEFAULT
            | USK_PROTO_CONNECTIONS
            | USK_PROTO_NO_AUTOBIND
            | USK_PROTO_NO_PORTS;
        if !lists::good_name(name, 31) {
            return lacks("a name is 1 to 31 printable characters without dot");
        }
        if table.flags & !all != 0 {
            return lacks("unknown flags");
        }
        if table.flags & (USK_PROTO_V4 | USK_PROTO_V6) == 0 {
            return lacks("neither USK_PROTO_V4 nor USK_PROTO_V6");
        }
        if !(1..=10).contains(&table.socket_type) {
            return lacks("socket_type is not a socket's");
        }
        if !(1..=255).contains(&table.protocol) {
            return lacks("protocol is not 1 to 255");
        }
        if table.obj_size > MAX_OBJ_SIZE {
            return lacks("obj_size above 65536");
        }
        if table.max_header as usize > HEAD {
            return lacks("max_header above what a packet has room for");
        }
        if table.sendmsg.is_none() && table.sendmsg_locked.is_none() {
            return lacks("sendmsg is null, and so is sendmsg_locked");
        }
        if table.recvmsg.is_none() && table.recvmsg_locked.is_none() {
            return lacks("recvmsg is null, and so is recvmsg_locked");
        }
        if table.rcv.is_some() && table.backlog_rcv.is_none() {
            return lacks("rcv without backlog_rcv");
        }
        Ok(())
    }

    /// Registers a table: all of it, or nothing. The line that says why not is kept for usk_config_error.
    /// # Safety
    /// The table's strings and lists are ended, and its functions what they say.
    pub(crate) unsafe fn register(
        plugin: &Arc<Plugin>,
        stack: &Arc<Stack>,
        table: usk_proto,
        user: *mut c_void,
    ) -> Result<Arc<Registration>> {
        // SAFETY: a string by the caller's word.
        let name = unsafe { lists::text(table.name, usk_proto::NAME, "name") }?;
        Registration::check(&table, &name).map_err(note::refused)?;
        // SAFETY: ended lists by the caller's word.
        let lists = unsafe { Lists::register(stack, usk_proto::NAME, &name, table.mib_names, table.sysctls) }?;
        let reg = Arc::new(Registration {
            table,
            name,
            stack: Arc::downgrade(stack),
            user,
            plugin: Arc::downgrade(plugin),
            library: plugin.library(),
            ports: PortTable::default(),
            lists,
            gone: Mutex::new(false),
        });
        let key = |family| ProtoSwitch {
            family,
            ty: table.socket_type,
            protocol: table.protocol,
            default: table.flags & USK_PROTO_DEFAULT != 0,
            proto: reg.clone(),
        };
        let keys: Vec<ProtoSwitch> = [(USK_PROTO_V4, libc::AF_INET), (USK_PROTO_V6, libc::AF_INET6)]
            .into_iter()
            .filter(|(bit, _)| table.flags & bit != 0)
            .map(|(_, family)| key(family))
            .collect();
        let number = [table.protocol as u8];
        let handler: Option<(&[u8], Arc<dyn IpHandler>)> =
            table.rcv.is_some().then(|| (&number[..], reg.clone() as Arc<dyn IpHandler>));
        stack.registry.register(&keys, handler).map_err(|e| {
            reg.lists.forget(stack);
            note::refused(e.to_string());
            e.error()
        })?;
        Ok(reg)
    }
}

impl Item for Registration {
    fn unregister(&self, stack: &Arc<Stack>) -> Result<()> {
        let mut gone = self.gone.lock();
        if *gone {
            return Err(Error::NoEnt);
        }
        stack.registry.unregister(&self.name).map_err(|e| e.error())?;
        *gone = true;
        self.lists.forget(stack);
        Ok(())
    }
    fn key(&self) -> usize {
        self.handle() as usize
    }
    fn plugin(&self) -> &Weak<Plugin> {
        &self.plugin
    }
    fn stack_ended(&self) {
        // A sock that said farewell when the stack ended is in the table, and holds it.
        self.ports.clear();
    }
}

/// The function broke its word: the socket is broken.
#[cold]
pub(super) fn broken(sock: &Sock) {
    sock.set_broken();
}

/// Ends a sock that broke and that no program can close: one that is closed already, or a child that nobody accepted.
pub(super) fn reap(g: &mut SockGuard<'_>) {
    if g.sock.is_broken() && parts(g).is_ok_and(|p| p.private.orphan) {
        finish(g);
    }
}

/// Whether a program has the sock.
fn set_orphan(g: &mut SockGuard<'_>, orphan: bool) {
    if let Ok(p) = parts(g) {
        p.private.orphan = orphan;
    }
}

/// Runs an operation with the sock owned. EIO: it is broken, or is now.
pub(super) fn owned<R>(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t) -> R) -> Result<R> {
    if g.sock.is_broken() {
        return Err(Error::Io);
    }
    let r = Owned::lend(g, f);
    if r.is_err() {
        broken(g.sock);
    }
    r
}

/// Runs an operation for a packet or a timer, unless the sock is broken or finished. False: it did not begin.
fn bottom(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t)) -> bool {
    let Ok(p) = parts(g) else { return false };
    if p.sock.is_broken() || p.private.done {
        return false;
    }
    let outer = std::mem::replace(&mut p.private.bottom, true);
    // A failure has broken the sock.
    let _ = owned(g, f);
    if let Ok(p) = parts(g) {
        p.private.bottom = outer;
    }
    true
}

/// As [`owned`], of one that answers 0 or a negative errno.
pub(super) fn owned_status(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t) -> c_int) -> Result<()> {
    let r = owned(g, f)?;
    if !(-4095..=0).contains(&r) {
        broken(g.sock);
    }
    status(r.into())
}

/// Runs an operation that locks by itself and answers a length up to `max`. EIO: it is broken, or is now.
pub(super) fn unowned(sk: SockRef<'_>, max: usize, f: impl FnOnce(*mut handle::usk_sock_t) -> i64) -> Result<usize> {
    whole(sk)?;
    // What did not end as it should is no length either.
    checked(sk.sock, contain(|| f(lend(sk.sock))).unwrap_or(i64::MIN), max)
}

/// A length up to `max`, or an errno; anything else breaks the sock.
#[inline]
pub(super) fn checked(sock: &Sock, r: i64, max: usize) -> Result<usize> {
    match usize::try_from(r) {
        Ok(n) if n <= max => Ok(n),
        _ => Err(no_length(sock, r, max)),
    }
}

/// The errno that an answer is; one that is none breaks the sock.
#[inline(never)]
fn no_length(sock: &Sock, r: i64, max: usize) -> Error {
    if !(-4095..0).contains(&r) {
        broken(sock);
    }
    length(r, max).err().unwrap_or(Error::Io)
}

/// The greatest length that a receive call may answer: what it copied, as the program would read memory that nobody wrote; with MSG_TRUNC
/// the true length of a datagram, which may be any.
pub(super) fn received(msg: &RecvMsg<'_, '_>) -> usize {
    if msg.flags & libc::MSG_TRUNC != 0 { isize::MAX as usize } else { msg.capacity() - msg.remaining() }
}

/// What poll says of a sock that broke.
pub(super) const ALL_EVENTS: Events = Events(Events::ERR.0 | Events::HUP.0 | Events::IN.0 | Events::OUT.0);

/// Whether an earlier call broke the socket.
fn whole(sk: SockRef<'_>) -> Result<()> {
    if sk.sock.is_broken() { Err(Error::Io) } else { Ok(()) }
}

/// See usk_done.
pub(super) fn finish(g: &mut SockGuard<'_>) {
    // Out of the tables, whether the protocol keeps its own or not.
    g.sock.proto().unhash(g);
    if g.common.sport != 0 {
        g.sock.proto().put_port(g);
    }
    let _ = ports::unhash(g);
    let Ok(p) = parts(g) else { return };
    if std::mem::replace(&mut p.private.done, true) {
        return;
    }
    let (stack, sock, charged) = (p.stack, p.sock, std::mem::take(&mut p.private.charged));
    for t in &mut p.private.timers {
        stack.timers.cancel(t);
    }
    mem::uncharge(sock, p.common, charged);
    let (reg, orphans) = (p.private.reg.clone(), p.private.accept.take());
    p.common.ack_backlog = 0;
    sock.state.store(CLOSE, Ordering::Release);
    if let Some(f) = reg.table.destroy {
        // SAFETY: the table's function, called as it says.
        if Owned::lend(g, |o| unsafe { f(o) }).is_err() {
            broken(g.sock);
        }
    }
    datagram::close(g);
    ports::close_all(stack, orphans);
}

impl Proto for Registration {
    fn name(&self) -> &str {
        &self.name
    }

    fn owner(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.library.clone().map(|l| l as Arc<dyn Any + Send + Sync>)
    }

    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        // The registry or another sock holds the registration: the handle is valid.
        // SAFETY: as said.
        let reg = unsafe { Registration::of(self.handle()) }?;
        sk.private = Box::new(Private {
            reg: Arc::clone(&reg),
            memory: Box::into_raw(vec![0; (self.table.obj_size as usize).div_ceil(16)].into_boxed_slice()),
            timers: Vec::new(),
            charged: 0,
            accept: None,
            bound: None,
            child: false,
            orphan: false,
            adopted: None,
            done: false,
            bottom: false,
        });
        let Some(f) = self.table.init else { return Ok(()) };
        // SAFETY: the table's function, called as it says; so are all below.
        owned_status(sk, |o| unsafe { f(o) }).inspect_err(|_| finish(sk))
    }

    fn destroy(&self, sk: &mut SockGuard<'_>) {
        finish(sk);
    }

    fn close(&self, sk: SockRef<'_>, flags: i32) {
        {
            let mut g = sk.lock();
            g.common.set_flag(flag::DEAD, true);
            let done = parts(&mut g).is_ok_and(|p| p.private.done);
            if g.sock.is_broken() || done || self.table.close.is_none() {
                return finish(&mut g);
            }
        }
        let Some(f) = self.table.close else { return };
        // SAFETY: see `init`.
        if contain(|| unsafe { f(lend(sk.sock), flags) }).is_err() {
            broken(sk.sock);
        }
        let mut g = sk.lock();
        set_orphan(&mut g, true);
        reap(&mut g);
    }

    fn pre_connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        let Some(f) = self.table.pre_connect else { return Ok(()) };
        let to = usk_addr_t::from(addr);
        // SAFETY: see `init`.
        owned_status(sk, |o| unsafe { f(o, &to) })
    }

    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        let Some(f) = self.table.connect else { return Err(Error::OpNotSupp) };
        let to = usk_addr_t::from(addr);
        // SAFETY: see `init`.
        owned_status(sk, |o| unsafe { f(o, &to) })
    }

    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        let Some(f) = self.table.disconnect else { return Err(Error::OpNotSupp) };
        // SAFETY: see `init`.
        owned_status(sk, |o| unsafe { f(o) })
    }

    fn listen(&self, sk: &mut SockGuard<'_>, backlog: u32) -> Result<()> {
        let Some(f) = self.table.listen else { return Err(Error::OpNotSupp) };
        // SAFETY: see `init`.
        owned_status(sk, |o| unsafe { f(o, backlog) })
    }

    fn accept(&self, sk: SockRef<'_>, nonblock: bool) -> Result<Arc<Sock>> {
        let Some(f) = self.table.accept else { return Err(Error::OpNotSupp) };
        whole(sk)?;
        let mut err = 0;
        // SAFETY: see `init`.
        let Ok(child) = contain(|| unsafe { f(lend(sk.sock), nonblock.into(), &mut err) }) else {
            broken(sk.sock);
            return Err(Error::Io);
        };
        if child.is_null() {
            if !(-4095..0).contains(&err) {
                broken(sk.sock);
            }
            return Err(length(err.min(-1).into(), 0).err().filter(|_| err < 0).unwrap_or(Error::Io));
        }
        // SAFETY: the function answers a held sock, or null.
        let (_, child) = unsafe { handle::unhold(child) }?;
        if Arc::ptr_eq(&child, sk.sock) {
            broken(sk.sock);
            return Err(Error::Io);
        }
        set_orphan(&mut child.lock(sk.stack), false);
        Ok(child)
    }

    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        let Some(f) = self.table.ioctl else { return Err(Error::NoTty) };
        let mut value = 0;
        // SAFETY: see `init`.
        unowned(sk, 0, |s| unsafe { f(s, request, &mut value) }.into())?;
        Ok(value)
    }

    fn shutdown(&self, sk: &mut SockGuard<'_>, how: u8) {
        if let Some(f) = self.table.shutdown {
            // SAFETY: see `init`. A failure has broken the sock, which is all there is to say.
            let _ = owned(sk, |o| unsafe { f(o, how.into()) });
        }
    }

    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        whole(sk)?;
        let Some(f) = self.table.setsockopt else { return sockopt::set(&mut sk.lock(), level, name, value) };
        // SAFETY: see `init`.
        unowned(sk, 0, |s| unsafe { f(s, level, name, value.as_ptr().cast(), value.len()) }.into()).map(drop)
    }

    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        whole(sk)?;
        let Some(f) = self.table.getsockopt else { return sockopt::get(&sk.lock(), level, name, value) };
        let len = value.len();
        // SAFETY: see `init`.
        unowned(sk, len, |s| unsafe { f(s, level, name, value.as_mut_ptr().cast(), len) } as i64)
    }

    fn bypass_getsockopt(&self, level: i32, name: i32) -> bool {
        // SAFETY: see `init`.
        self.table.bypass_getsockopt.is_some_and(|f| contain(|| unsafe { f(level, name) }).unwrap_or(0) != 0)
    }

    fn keepalive(&self, sk: &mut SockGuard<'_>, on: bool) {
        if let Some(f) = self.table.keepalive {
            // SAFETY: see `init`. A failure has broken the sock.
            let _ = owned(sk, |o| unsafe { f(o, on.into()) });
        }
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let Some(f) = self.table.sendmsg else { return self.sendmsg_locked(&mut sk.lock(), msg) };
        let max = msg.remaining();
        // SAFETY: see `init`.
        unowned(sk, max, |s| unsafe { f(s, lend_send(msg)) } as i64)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let Some(f) = self.table.recvmsg else { return self.recvmsg_locked(&mut sk.lock(), msg) };
        // SAFETY: see `init`.
        let n = unowned(sk, isize::MAX as usize, |s| unsafe { f(s, lend_recv(msg)) } as i64)?;
        checked(sk.sock, n as i64, received(msg))
    }

    fn sendpage(&self, sk: SockRef<'_>, bytes: &[u8], flags: i32) -> Result<usize> {
        let Some(f) = self.table.sendpage else {
            let slices = [std::io::IoSlice::new(bytes)];
            return self.sendmsg(sk, &mut SendMsg::new(&slices, flags));
        };
        // SAFETY: see `init`.
        unowned(sk, bytes.len(), |s| unsafe { f(s, bytes.as_ptr().cast(), bytes.len(), flags) } as i64)
    }

    fn splice_eof(&self, sk: SockRef<'_>) {
        let Some(f) = self.table.splice_eof else { return };
        // SAFETY: see `init`.
        if whole(sk).is_ok() && contain(|| unsafe { f(lend(sk.sock)) }).is_err() {
            broken(sk.sock);
        }
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        let Some(f) = self.table.bind else { return usersock::inet::bind(sk, addr) };
        let at = usk_addr_t::from(addr);
        // SAFETY: see `init`.
        owned_status(sk, |o| unsafe { f(o, &at) })
    }

    fn poll(&self, sk: SockRef<'_>) -> Events {
        let Some(f) = self.table.poll else { return self.poll_locked(&mut sk.lock()) };
        // SAFETY: see `init`.
        match whole(sk).and_then(|()| contain(|| unsafe { f(lend(sk.sock)) })) {
            Ok(bits) => Events(bits),
            Err(_) => {
                broken(sk.sock);
                ALL_EVENTS
            }
        }
    }

    fn sendmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let Some(f) = self.table.sendmsg_locked else { return Err(Error::OpNotSupp) };
        let max = msg.remaining();
        // SAFETY: see `init`.
        let r = owned(sk, |o| unsafe { f(o, lend_send(msg)) })?;
        checked(sk.sock, r as i64, max)
    }

    fn recvmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let Some(f) = self.table.recvmsg_locked else { return Err(Error::OpNotSupp) };
        // SAFETY: see `init`.
        let r = owned(sk, |o| unsafe { f(o, lend_recv(msg)) })?;
        checked(sk.sock, r as i64, received(msg))
    }

    fn poll_locked(&self, sk: &mut SockGuard<'_>) -> Events {
        match self.table.poll_locked {
            // SAFETY: see `init`.
            Some(f) => owned(sk, |o| unsafe { f(o) }).map_or(ALL_EVENTS, Events),
            None => {
                let events = datagram_poll(sk);
                let full = events.intersects(Events::OUT) && !self.stream_memory_free(sk, false);
                if full { Events(events.0 & !Events::OUT.0) } else { events }
            }
        }
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
        let Some(f) = self.table.backlog_rcv else { return sk.stack.mib.drop(DropReason::PluginRefused) };
        // SAFETY: see `init`. The packet is the function's.
        if !bottom(sk, |o| unsafe { f(o, skb::give(skb)) }) {
            return sk.stack.mib.drop(DropReason::PluginRefused);
        }
        reap(sk);
    }

    fn release_cb(&self, sk: &mut SockGuard<'_>, bits: u32) {
        let now = sk.now();
        if let Ok(p) = parts(sk) {
            for t in p.private.timers.iter_mut().filter(|t| t.at().is_some_and(|at| at <= now)) {
                t.fired();
            }
        }
        if let Some(f) = self.table.release_cb {
            // SAFETY: see `init`.
            bottom(sk, |o| unsafe { f(o, bits) });
        }
        reap(sk);
    }

    fn hash(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        match self.table.hash {
            // SAFETY: see `init`.
            Some(f) => owned_status(sk, |o| unsafe { f(o) }),
            None => ports::hash(sk),
        }
    }

    fn rehash(&self, sk: &mut SockGuard<'_>) {
        // Only where the stack's table has it: a protocol's own is its own to keep.
        if parts(sk).is_ok_and(|p| p.private.bound.is_some()) {
            let _ = ports::hash(sk);
        }
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        match self.table.unhash {
            // SAFETY: see `init`. A failure has broken the sock.
            Some(f) => drop(owned(sk, |o| unsafe { f(o) })),
            // Nothing to take out of is as well.
            None => drop(ports::unhash(sk)),
        }
    }

    fn get_port(&self, sk: &mut SockGuard<'_>, port: u16) -> Result<()> {
        match self.table.get_port {
            // SAFETY: see `init`.
            Some(f) => owned_status(sk, |o| unsafe { f(o, port) }),
            None if self.flag(USK_PROTO_NO_PORTS) => Ok(()),
            None => ports::get_port(sk, port),
        }
    }

    fn put_port(&self, sk: &mut SockGuard<'_>) {
        match self.table.put_port {
            // SAFETY: see `init`. A failure has broken the sock.
            Some(f) => drop(owned(sk, |o| unsafe { f(o) })),
            None => drop(ports::unhash(sk)),
        }
    }

    fn update_proto(&self, sk: &mut SockGuard<'_>, _old: &Arc<dyn Proto>, restore: bool) -> Result<()> {
        let Some(f) = self.table.update_proto else { return Err(Error::OpNotSupp) };
        // SAFETY: see `init`.
        owned_status(sk, |o| unsafe { f(o, restore.into()) })
    }

    fn enter_memory_pressure(&self, _: &Stack, accounts: &ProtoAccounts) {
        set_pressure(&accounts.pressure, true);
        if let Some(f) = self.table.enter_memory_pressure {
            // SAFETY: see `init`. No sock is known that could be broken.
            let _ = contain(|| unsafe { f(self.handle()) });
        }
    }

    fn leave_memory_pressure(&self, _: &Stack, accounts: &ProtoAccounts) {
        set_pressure(&accounts.pressure, false);
        if let Some(f) = self.table.leave_memory_pressure {
            // SAFETY: see `init`. No sock is known that could be broken.
            let _ = contain(|| unsafe { f(self.handle()) });
        }
    }

    fn stream_memory_free(&self, sk: &SockState, wake: bool) -> bool {
        let Some(f) = self.table.stream_memory_free else { return true };
        let Some(p) = sk.private.downcast_ref::<Private>() else { return true };
        // SAFETY: see `init`.
        contain(|| unsafe { f(p.memory.cast_const().cast(), wake.into()) }).unwrap_or(0) != 0
    }

    fn sysctl_mem(&self, _: &Stack) -> Option<[i64; 3]> {
        let (f, mut v) = (self.table.sysctl_mem?, [0; 3]);
        // SAFETY: see `init`.
        (contain(|| unsafe { f(self.handle(), v.as_mut_ptr()) }) == Ok(0)).then_some(v)
    }

    fn sysctl_wmem(&self, stack: &Stack) -> [i32; 3] {
        let d = stack.sysctl.wmem_default();
        // SAFETY: see `init`.
        sizes([mem::SOCK_MIN_SNDBUF, d, d], self.table.sysctl_wmem.map(|f| move |v| unsafe { f(self.handle(), v) }))
    }

    fn sysctl_rmem(&self, stack: &Stack) -> [i32; 3] {
        let d = stack.sysctl.rmem_default();
        // SAFETY: see `init`.
        sizes([mem::SOCK_MIN_RCVBUF, d, d], self.table.sysctl_rmem.map(|f| move |v| unsafe { f(self.handle(), v) }))
    }

    fn max_header(&self) -> usize {
        if self.table.max_header == 0 { HEAD } else { self.table.max_header as usize }
    }
    fn obj_size(&self) -> usize {
        size_of::<Sock>() + size_of::<Private>() + (self.table.obj_size as usize).next_multiple_of(16)
    }
    fn slab_flags(&self) -> u32 {
        self.table.slab_flags
    }
    fn timewait_size(&self) -> usize {
        self.table.timewait_size as usize
    }
    fn request_size(&self) -> usize {
        self.table.request_size as usize
    }
    fn no_autobind(&self) -> bool {
        self.flag(USK_PROTO_NO_AUTOBIND) || self.flag(USK_PROTO_NO_PORTS)
    }

    fn diag_destroy(&self, sk: SockRef<'_>, err: Error) -> Result<()> {
        let Some(f) = self.table.diag_destroy else { return Err(Error::OpNotSupp) };
        // SAFETY: see `init`.
        unowned(sk, 0, |s| unsafe { f(s, err.errno()) }.into()).map(drop)
    }

    fn is_stream(&self) -> bool {
        self.flag(USK_PROTO_CONNECTIONS)
    }

    fn check_invariants(&self, sock: &Sock, state: &SockState) {
        let Some(p) = state.private.downcast_ref::<Private>() else { return };
        assert!(p.charged >= 0 && !(p.bound.is_some() && p.adopted.is_some()), "{}", self.name);
        assert!(state.common.wmem_queued >= 0 && sock.rmem_alloc.load(Ordering::Relaxed) >= 0, "{}", self.name);
        assert!(p.accept.is_none() || sock.state() == LISTEN || p.done || sock.is_broken(), "{}", self.name);
    }
}

fn set_pressure(flag: &AtomicBool, on: bool) {
    flag.store(on, Ordering::Relaxed);
}

/// The three sizes a table's function gives, if it has one and they make sense.
fn sizes(default: [i32; 3], f: Option<impl FnOnce(*mut c_int) -> c_int>) -> [i32; 3] {
    let Some(f) = f else { return default };
    let mut v = default;
    let r = contain(|| f(v.as_mut_ptr()));
    if r == Ok(0) && v[0] > 0 && v[0] <= v[1] && v[1] <= v[2] { v } else { default }
}

fn addr_of(ip: IpAddr, ifindex: u32) -> usk_addr_t {
    datagram::name_of(ip, 0, ifindex).into()
}

impl IpHandler for Registration {
    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        let Some(f) = self.table.rcv else { return stack.mib.drop(DropReason::IpNoProto) };
        skb.rx = Some(*info);
        let about = usk_packet_info_t {
            src: addr_of(info.src, info.ifindex),
            dst: addr_of(info.dst, info.ifindex),
            ifindex: info.ifindex,
            protocol: info.protocol,
            tos: info.tos,
            ttl: info.ttl,
            not_unicast: info.not_unicast.into(),
            now: info.now.as_nanos(),
        };
        // SAFETY: the table's function, called as it says. The packet is its own from here.
        if contain(|| unsafe { f(self.handle(), skb::give(skb), &about) }).is_err() {
            stack.mib.drop(DropReason::PluginRefused);
        }
    }

    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) {
        let Some(f) = self.table.err else { return };
        let about = usk_icmp_error_t {
            src: addr_of(e.src, e.ifindex),
            dst: addr_of(e.dst, e.ifindex),
            reporter: addr_of(e.reporter, e.ifindex),
            icmp_type: e.ty,
            code: e.code,
            fatal: e.fatal.into(),
            error: e.errno.errno(),
            info: e.info,
            ifindex: e.ifindex,
            quoted: e.quoted.as_ptr().cast(),
            quoted_len: e.quoted.len(),
        };
        // SAFETY: as in `rcv`.
        if contain(|| unsafe { f(self.handle(), &about) }).is_err() {
            stack.mib.drop(DropReason::PluginRefused);
        }
    }
}

#[cfg(test)]
mod tests;
