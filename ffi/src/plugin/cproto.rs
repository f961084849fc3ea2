//! A protocol made of a C table: `Proto` and `IpHandler` by its functions, each through one gate. Return values are
//! checked; a function that violates its contract breaks its socket (EIO from then on), and nothing else.

use super::addr::usk_addr_t;
use super::call::{ALL_EVENTS, Asking, broken, checked, owned, owned_status, received, unowned, whole};
use super::deferred::{Deferred, Run};
use super::diag::Columns;
use super::guard::usk_owned_t;
use super::ip::{Reported, icmp_error, packet_info};
use super::msg::{lend_recv, lend_send};
use super::owned::finish;
use super::ports;
use super::private::{Private, parts, set_orphan};
use super::proto::*;
use super::skb;
use crate::handle::{self, Handle, lend, usk_sock_t};
use crate::held::{contain, length};
use std::ffi::{c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use usersock::counters::DropReason;
use usersock::error::{Error, Result};
use usersock::ip::{bind, datagram, errors, sockopt, txcontrol};
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::offload::Offload;
use usersock::sock::packet::{IcmpError, PacketInfo};
use usersock::sock::proto::{Dumped, IpHandler, Module, Proto, ProtoAccounts, SockRef};
use usersock::sock::skb::{HEAD, Skb};
use usersock::sock::state::State;
use usersock::sock::wait::Events;
use usersock::sock::{Sock, SockGuard, SockState, datagram_poll, flag, mem};
use usersock::stack::Stack;

/// Ends a broken sock that no program can close: one that is closed already, or a child that is not accepted.
pub(super) fn reap(g: &mut SockGuard<'_>) {
    if g.sock.is_broken() && parts(g).is_ok_and(|p| p.private.orphan) {
        finish(g);
    }
}

/// Runs an operation for a packet or a timer, unless the sock is broken or finished. Returns false if it did not run.
fn bottom(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t)) -> bool {
    let Ok(p) = parts(g) else { return false };
    if p.sock.is_broken() || p.private.is_done() {
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

/// Whether the call's packets go over IPv4.
fn over_v4(g: &SockGuard<'_>, msg: &SendMsg<'_>) -> bool {
    let to = msg.name.map_or(g.common.daddr, |to| to.ip());
    let mapped = matches!(to, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
    g.sock.family == libc::AF_INET as u16 || to.is_ipv4() || mapped
}

/// Takes a sock that a diag_dump operation names into its caller's list.
/// # Safety
/// `list` is the operation's argument, and `sk` a valid handle.
unsafe extern "C" fn diag_each(list: *mut c_void, sk: *mut usk_sock_t) {
    // SAFETY: the plug-in passes on what `diag_dump` gave it.
    let list = unsafe { list.cast::<Vec<Arc<Sock>>>().as_mut() };
    // SAFETY: valid as the plug-in promises.
    if let (Some(list), Ok(handle)) = (list, unsafe { Handle::new(sk) }) {
        list.push(handle.sock().clone());
    }
}

impl ProtoReg {
    /// Whether the stack waits for room in the send buffer before sendmsg: for datagrams, where what the device holds
    /// is all that a socket has of it, and poll is the stack's, which looks at the same.
    fn waits_for_room(&self) -> bool {
        !self.flag(USK_PROTO_CONNECTIONS) && self.table.poll.is_none() && self.table.poll_locked.is_none()
    }

    /// Whether nothing is to be checked or waited for before sendmsg: the usual case, without a lock.
    #[inline]
    fn may_send_now(&self, sock: &Sock, msg: &SendMsg<'_>) -> bool {
        let held = sock.wmem_alloc.load(Ordering::Relaxed) as i32;
        msg.control.is_empty() && (held < sock.sndbuf.load(Ordering::Relaxed) || !self.waits_for_room())
    }

    /// Refuses control messages that are unknown, and waits for room in the send buffer (sock_alloc_send_pskb).
    #[cold]
    fn may_send(&self, g: &mut SockGuard<'_>, msg: &SendMsg<'_>) -> Result<()> {
        let v4 = over_v4(g, msg);
        txcontrol::check_control(g, v4, self.flag(USK_PROTO_CONNECTIONS), &msg.control)?;
        if self.waits_for_room() { datagram::wait_for_room(g, v4, msg.dontwait()).map(drop) } else { Ok(()) }
    }
}

impl Proto for ProtoReg {
    fn name(&self) -> &str {
        &self.name
    }

    fn owner(&self) -> Option<Arc<dyn Module>> {
        self.library.clone().map(|l| l as Arc<dyn Module>)
    }

    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        sk.private = usersock::sock::Private::new(Private::new(self.counted()));
        let Some(f) = self.table.init else { return Ok(()) };
        // SAFETY: the table's function, called as the table documents; so are all below.
        owned_status(sk, |o| unsafe { f(o) }).inspect_err(|_| finish(sk))
    }

    fn destroy(&self, sk: &mut SockGuard<'_>) {
        finish(sk);
    }

    fn destruct(&self, sk: &mut SockGuard<'_>) {
        finish(sk);
    }

    fn close(&self, sk: SockRef<'_>, flags: i32) {
        {
            let mut g = sk.lock();
            g.common.set_flag(flag::DEAD, true);
            let done = parts(&mut g).is_ok_and(|p| p.private.is_done());
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
        // The caller's reference, and the stack's.
        if sk.sock.is_orphan() && Arc::strong_count(sk.sock) == 2 {
            finish(&mut g);
        }
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
        // SAFETY: the function returns a held sock, or null.
        let (_, child) = unsafe { handle::unhold(child) }?;
        if Arc::ptr_eq(&child, sk.sock) {
            broken(sk.sock);
            child.put(sk.stack);
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
            // SAFETY: see `init`. A failure has broken the sock; nothing else to report.
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
        if !self.may_send_now(sk.sock, msg) {
            self.may_send(&mut sk.lock(), msg)?;
        }
        let max = msg.remaining();
        let _asking = Asking::begin(sk.sock, msg);
        // SAFETY: see `init`.
        unowned(sk, max, |s| unsafe { f(s, lend_send(msg)) } as i64)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let Some(f) = self.table.recvmsg else { return self.recvmsg_locked(&mut sk.lock(), msg) };
        if msg.flags & libc::MSG_ERRQUEUE != 0 {
            return errors::recv_error(&mut sk.lock(), msg);
        }
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
        let Some(f) = self.table.bind else { return bind::bind(sk, addr) };
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
        if !self.may_send_now(sk.sock, msg) {
            self.may_send(sk, msg)?;
        }
        let max = msg.remaining();
        let _asking = Asking::begin(sk.sock, msg);
        // SAFETY: see `init`.
        let r = owned(sk, |o| unsafe { f(o, lend_send(msg)) })?;
        checked(sk.sock, r as i64, max)
    }

    fn recvmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let Some(f) = self.table.recvmsg_locked else { return Err(Error::OpNotSupp) };
        if msg.flags & libc::MSG_ERRQUEUE != 0 {
            return errors::recv_error(sk, msg);
        }
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
                let full = events.intersects(Events::OUT) && !self.stream_memory_free(sk.stack, sk, false);
                if full { Events(events.0 & !Events::OUT.0) } else { events }
            }
        }
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
        let Some(f) = self.table.backlog_rcv else {
            return sk.stack.mib.drop_from(DropReason::PluginRefused, &self.name);
        };
        // SAFETY: see `init`. The function owns the packet.
        if !bottom(sk, |o| unsafe { f(o, skb::give(skb)) }) {
            return sk.stack.mib.drop_from(DropReason::PluginRefused, &self.name);
        }
        reap(sk);
    }

    fn release_cb(&self, sk: &mut SockGuard<'_>, bits: u32) {
        // A timer may have fired after the time that the owner's call has read: it would stand there as armed for ever.
        sk.refresh_clock();
        let now = sk.now();
        if let Ok(p) = parts(sk) {
            p.private.timers_fired(now);
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
        if let Some(f) = self.table.rehash {
            // SAFETY: see `init`. A failure has broken the sock.
            let _ = owned(sk, |o| unsafe { f(o) });
            return;
        }
        // Only if the sock is in our port table: a protocol with a table of its own updates that itself.
        if parts(sk).is_ok_and(|p| p.private.bound.is_some()) {
            let _ = ports::hash(sk);
        }
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        match self.table.unhash {
            // SAFETY: see `init`. A failure has broken the sock.
            Some(f) => drop(owned(sk, |o| unsafe { f(o) })),
            // It may not be in the table, which is no error.
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

    fn net_exit(&self) {
        if let Some(f) = self.table.net_exit {
            // SAFETY: see `init`. There is no sock to break.
            let _ = contain(|| unsafe { f(self.handle()) });
        }
        self.own.ports().clear();
    }

    fn diag_show(&self, sk: &mut SockGuard<'_>, column: &mut dyn FnMut(&str, &str)) {
        let Some(f) = self.table.diag_show else { return };
        if !parts(sk).is_ok_and(|p| !p.private.is_done()) {
            return;
        }
        let mut columns = Columns::default();
        // SAFETY: see `init`; the columns live while it runs. A failure has broken the sock.
        if owned(sk, |o| unsafe { f(o, columns.lend()) }).is_ok() {
            columns.0.iter().for_each(|(name, value)| column(name, value));
        }
    }

    fn diag_dump(&self, each: &mut dyn FnMut(Dumped)) -> Option<(u16, u16)> {
        let mut all: Vec<Arc<Sock>> = Vec::new();
        match self.table.diag_dump {
            // SAFETY: see `init`; `all` is what `diag_each` takes its argument for. No sock is known that could be
            // broken.
            Some(f) => drop(contain(|| unsafe { f(self.handle(), Some(diag_each), (&raw mut all).cast()) })),
            None => all = self.socks(),
        }
        all.into_iter().for_each(|sock| each(Dumped::Sock(sock)));
        None
    }

    fn enter_memory_pressure(&self, _: &Stack, accounts: &ProtoAccounts) {
        set_pressure(&accounts.pressure, true);
        if let Some(f) = self.table.enter_memory_pressure {
            // SAFETY: see `init`. There is no sock to break.
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

    fn stream_memory_free(&self, _: &Stack, sk: &SockState, wake: bool) -> bool {
        let Some(f) = self.table.stream_memory_free else { return true };
        let Some(p) = sk.private.downcast_ref::<Private>() else { return true };
        // SAFETY: see `init`.
        contain(|| unsafe { f(p.memory().cast_const(), wake.into()) }).unwrap_or(0) != 0
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
        size_of::<Sock>() + (self.table.obj_size as usize).next_multiple_of(16)
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
        assert!(!(p.bound.is_some() && p.adopted.is_some()), "{}", self.name);
        assert!(state.common.wmem_queued >= 0 && sock.rmem_alloc.load(Ordering::Relaxed) >= 0, "{}", self.name);
        assert!(
            p.accept.is_none() || sock.state() == State::Listen || p.is_done() || sock.is_broken(),
            "{}",
            self.name
        );
    }
}

fn set_pressure(flag: &AtomicBool, on: bool) {
    flag.store(on, Ordering::Relaxed);
}

/// The three sizes that the table's function returns, if there is one and they are valid; else the defaults.
fn sizes(default: [i32; 3], f: Option<impl FnOnce(*mut c_int) -> c_int>) -> [i32; 3] {
    let Some(f) = f else { return default };
    let mut v = default;
    let r = contain(|| f(v.as_mut_ptr()));
    if r == Ok(0) && v[0] > 0 && v[0] <= v[1] && v[1] <= v[2] { v } else { default }
}

impl IpHandler for ProtoReg {
    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        let Some(f) = self.table.rcv else { return stack.mib.drop(DropReason::IpNoProto) };
        (skb.rx, skb.tx_ready) = (Some(*info), false);
        let about = packet_info(info);
        // SAFETY: the table's function, called as the table documents. The function owns the packet from here.
        if contain(|| unsafe { f(self.handle(), skb::give(skb), &about) }).is_err() {
            stack.mib.drop_from(DropReason::PluginRefused, &self.name);
        }
    }

    fn offload(&self) -> Option<Arc<dyn Offload>> {
        self.table.merge.map(|_| self.counted() as Arc<dyn Offload>)
    }

    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) {
        let Some(f) = self.table.err else { return };
        // SAFETY: as in `rcv`.
        let reported = Reported { about: icmp_error(e), original: std::ptr::from_ref(e).cast() };
        if contain(|| unsafe { f(self.handle(), &reported.about) }).is_err() {
            stack.mib.drop_from(DropReason::PluginRefused, &self.name);
        }
    }
}

impl Run for ProtoReg {
    fn deferred(&self) -> &Deferred {
        &self.own.deferred
    }

    fn timer(&self, index: u32) {
        if let Some(f) = self.table.timer {
            // SAFETY: see `rcv`. There is no sock to break.
            let _ = contain(|| unsafe { f(self.handle(), index) });
        }
    }

    fn work(&self, bits: u32) {
        if let Some(f) = self.table.work {
            // SAFETY: see `rcv`. There is no sock to break.
            let _ = contain(|| unsafe { f(self.handle(), bits) });
        }
    }
}

#[cfg(test)]
mod tests;
