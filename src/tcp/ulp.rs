//! Upper-layer protocols (TCP_ULP): code that is put on top of a connection by name, replaces its operations, and is
//! removed with it. Above: `sockopt`, `inet` (removal), and who registers, in Rust or through the C mirror. Below:
//! `sock::layer`, which passes on what a layer leaves alone. Linux: tcp_ulp.c, struct tcp_ulp_ops; tls is its best
//! known.
//!
//! What an upper-layer protocol keeps of a connection is made when it is installed and lies in the connection's less
//! used part: a connection without one pays nothing. Listeners pass theirs on only where [`Ulp::can_clone`] says so.

use super::net;
use super::tcb::{Cx, TcpSock};
use crate::base::error::{Error, Result};
use crate::sock::layer::{Layer, Layered};
use crate::sock::proto::Proto;
use crate::sock::state::State;
use crate::sock::{Sock, SockGuard};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(test)]
mod tests;

/// Bytes of a name with its final NUL (TCP_ULP_NAME_MAX).
pub const NAME_MAX: usize = 16;

/// An upper-layer protocol (struct tcp_ulp_ops).
#[allow(unused_variables)]
pub trait Ulp: Send + Sync + 'static {
    /// Name of 1 to 15 bytes, as TCP_ULP takes it.
    fn name(&self) -> &str;

    /// Begins on a connection: looks at it, keeps its state by [`set_data`], puts its layer in by [`set_layer`]. An
    /// error is that of setsockopt(2); what was set is then undone, without `release`. Process context, sock owned.
    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()>;

    /// Whether listeners may have it, whose children then get it by `clone_to`. Default: no.
    fn can_clone(&self) -> bool {
        false
    }

    /// Begins on a child of a listener that has this protocol, whose state is `parent`; as `init`. A child for which
    /// this fails is without. Either context, child owned.
    fn clone_to(&self, parent: Option<&(dyn Any + Send)>, child: &mut SockGuard<'_>) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// Whether the program reads other bytes than TCP receives. SO_RCVLOWAT then does not count TCP's bytes: the layer
    /// is told of each one and does the waiting. Default: yes.
    fn has_own_stream(&self) -> bool {
        true
    }

    /// Ends on a connection: it was removed, or the connection is destroyed; `data` is its state. Either context,
    /// owned.
    fn release(&self, sk: &mut Cx<'_>, data: Option<Box<dyn Any + Send>>) {}
}

struct Entry {
    ulp: Arc<dyn Ulp>,
    users: Arc<AtomicUsize>,
}

/// A stack's upper-layer protocols.
#[derive(Default)]
pub(crate) struct UlpRegistry {
    list: RwLock<Vec<Entry>>,
}

/// One connection's hold on a registration.
struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UlpRegistry {
    /// Adds one. EINVAL: a bad name; EEXIST: a taken one.
    pub(crate) fn register(&self, ulp: Arc<dyn Ulp>) -> Result<()> {
        let n = ulp.name();
        if n.is_empty() || n.len() >= NAME_MAX || n.bytes().any(|b| b == 0 || b.is_ascii_whitespace()) {
            return Err(Error::Inval);
        }
        let mut list = self.list.write();
        if list.iter().any(|e| e.ulp.name() == n) {
            return Err(Error::Exist);
        }
        list.push(Entry { ulp, users: Arc::default() });
        Ok(())
    }

    /// Removes one. EBUSY: connections have it; ENOENT: none of that name.
    pub(crate) fn unregister(&self, name: &str) -> Result<Arc<dyn Ulp>> {
        let mut list = self.list.write();
        let i = list.iter().position(|e| e.ulp.name() == name).ok_or(Error::NoEnt)?;
        if list[i].users.load(Ordering::Relaxed) > 0 {
            return Err(Error::Busy);
        }
        Ok(list.remove(i).ulp)
    }

    /// Names, newest first (tcp_available_ulp).
    pub(crate) fn names(&self) -> String {
        self.list.read().iter().rev().map(|e| e.ulp.name()).collect::<Vec<_>>().join(" ")
    }

    /// By name, held: the count is raised under the lock that `unregister` takes.
    fn find(&self, name: &str) -> Option<(Arc<dyn Ulp>, Hold)> {
        let list = self.list.read();
        let e = list.iter().find(|e| e.ulp.name() == name)?;
        e.users.fetch_add(1, Ordering::Relaxed);
        Some((e.ulp.clone(), Hold(e.users.clone())))
    }
}

/// Adds an upper-layer protocol to a stack's TCP. EINVAL: a bad name; EEXIST: a taken one; ENOPROTOOPT: the stack has
/// no TCP. Linux: tcp_register_ulp.
pub fn register(stack: &Stack, ops: Arc<dyn Ulp>) -> Result<()> {
    net::of(stack)?.ulp.register(ops)
}

/// Removes it, and gives it back. EBUSY: connections have it; ENOENT: none of that name; ENOPROTOOPT: the stack has no
/// TCP.
pub fn unregister(stack: &Stack, name: &str) -> Result<Arc<dyn Ulp>> {
    net::of(stack)?.ulp.unregister(name)
}

/// A connection's upper-layer protocol (icsk_ulp_ops, icsk_ulp_data).
pub(super) struct UlpState {
    ops: Arc<dyn Ulp>,
    hold: Hold,
    data: Option<Box<dyn Any + Send>>,
    /// The operations under its layer, if it has one.
    below: Option<Arc<dyn Proto>>,
}

impl std::fmt::Debug for UlpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.ops.name())
    }
}

fn of(tp: &TcpSock) -> Option<&UlpState> {
    tp.cold.as_ref()?.ulp.as_ref()
}

fn of_sock<'a>(sk: &'a mut SockGuard<'_>) -> Option<&'a mut UlpState> {
    sk.private.downcast_mut::<TcpSock>()?.cold.as_mut()?.ulp.as_mut()
}

/// Name of a connection's upper-layer protocol.
pub(super) fn name(tp: &TcpSock) -> Option<&str> {
    of(tp).map(|u| u.ops.name())
}

/// SO_RCVLOWAT as far as it concerns TCP: readers are not woken for fewer bytes.
#[inline]
pub(super) fn rcvlowat(cx: &Cx<'_>) -> i32 {
    let lowat = cx.sk.rcvlowat;
    if lowat > 1 && of(cx.tp).is_some_and(|u| u.below.is_some() && u.ops.has_own_stream()) { 1 } else { lowat }
}

/// TCP_ULP. ENOENT: none of that name; EEXIST: the connection has one; ENOTCONN: it listens, and the protocol does not
/// pass on to children; and what `init` says. Linux: tcp_set_ulp.
pub(crate) fn set(sk: &mut SockGuard<'_>, name: &str) -> Result<()> {
    let Some(cx) = Cx::new(sk) else { return Err(Error::NoProtoOpt) };
    let (ops, hold) = cx.tp.net.ulp.find(name).ok_or(Error::NoEnt)?;
    if of(cx.tp).is_some() {
        return Err(Error::Exist);
    }
    if cx.state() == State::Listen && !ops.can_clone() {
        return Err(Error::NotConn);
    }
    begin(sk, ops, hold, |ops, sk| ops.init(sk))
}

/// Installs the protocol and calls its `init`; undoes all when that fails.
fn begin(
    sk: &mut SockGuard<'_>,
    ops: Arc<dyn Ulp>,
    hold: Hold,
    f: impl FnOnce(&dyn Ulp, &mut SockGuard<'_>) -> Result<()>,
) -> Result<()> {
    let Some(cx) = Cx::new(sk) else { return Err(Error::NoProtoOpt) };
    cx.tp.cold.get_or_insert_default().ulp = Some(UlpState { ops: ops.clone(), hold, data: None, below: None });
    let r = f(&*ops, sk);
    // If `init` slept, the protocol may have been removed and another installed.
    if r.is_err()
        && let Some(cx) = Cx::new(sk)
        && of(cx.tp).is_some_and(|u| Arc::ptr_eq(&u.ops, &ops))
        && let Some(u) = take(cx.tp)
        && let Some(below) = u.below
    {
        cx.sock.set_proto(below);
    }
    r
}

fn take(tp: &mut TcpSock) -> Option<UlpState> {
    tp.cold.as_mut()?.ulp.take()
}

/// Keeps the state of the connection's upper-layer protocol (icsk_ulp_data); what was there is dropped. EINVAL: it has
/// none.
pub fn set_data(sk: &mut SockGuard<'_>, data: Box<dyn Any + Send>) -> Result<()> {
    of_sock(sk).ok_or(Error::Inval)?.data = Some(data);
    Ok(())
}

/// That state; None when there is none, or it is no `T`. It is dropped when the protocol is removed: a layer's call
/// that finds none passes the work to the protocol below.
pub fn data_mut<'a, T: 'static>(sk: &'a mut SockGuard<'_>) -> Option<&'a mut T> {
    of_sock(sk)?.data.as_mut()?.downcast_mut()
}

/// The operations under the layer of the connection's upper-layer protocol, for code of it that was not given them.
pub fn below(sk: &mut SockGuard<'_>) -> Option<Arc<dyn Proto>> {
    of_sock(sk)?.below.clone()
}

/// Puts the protocol's layer on the connection. EINVAL: the connection has no upper-layer protocol; EEXIST: it has its
/// layer already; EOPNOTSUPP: what is below allows none.
pub fn set_layer<L: Layer>(sk: &mut SockGuard<'_>, layer: L) -> Result<()> {
    if of_sock(sk).ok_or(Error::Inval)?.below.is_some() {
        return Err(Error::Exist);
    }
    let below = sk.sock.proto().cloned();
    sk.replace_proto(Arc::new(Layered::new(layer, below.clone())))?;
    of_sock(sk).ok_or(Error::Inval)?.below = Some(below);
    Ok(())
}

/// Takes the upper-layer protocol off a connection. EINVAL: there is none; EBUSY: its layer holds bytes that were not
/// delivered.
pub fn remove(sk: &mut SockGuard<'_>) -> Result<()> {
    of_sock(sk).ok_or(Error::Inval)?;
    if let Some(below) = below(sk) {
        sk.restore_proto(below)?;
    }
    if let Some(mut cx) = Cx::new(sk) {
        end(&mut cx);
    }
    Ok(())
}

/// The connection is destroyed (tcp_cleanup_ulp).
pub(super) fn cleanup(cx: &mut Cx<'_>) {
    if let Some(below) = of(cx.tp).and_then(|u| u.below.clone()) {
        cx.sock.set_proto(below);
    }
    end(cx);
}

fn end(cx: &mut Cx<'_>) {
    if let Some(UlpState { ops, hold, data, below: _ }) = take(cx.tp) {
        ops.release(cx, data);
        drop(hold);
    }
}

/// listen(2) on a connection with a protocol that does not pass on to children: EINVAL (inet_ulp_can_listen).
pub(super) fn can_listen(tp: &TcpSock) -> Result<()> {
    if of(tp).is_none_or(|u| u.ops.can_clone()) { Ok(()) } else { Err(Error::Inval) }
}

/// A sock that begins anew keeps its protocol.
pub(super) fn keep(to: &mut TcpSock, from: &mut TcpSock) {
    if let Some(u) = take(from) {
        to.cold.get_or_insert_default().ulp = Some(u);
    }
}

/// A listener's child starts without the listener's layer.
pub(super) fn unlayered(child: &Arc<Sock>, parent: &TcpSock) {
    if let Some(below) = of(parent).and_then(|u| u.below.clone()) {
        child.set_proto(below);
    }
}

/// Installs the listener's protocol on a child, if it can be cloned (inet_clone_ulp).
pub(super) fn clone_to(child: &mut SockGuard<'_>, parent: &TcpSock) {
    let Some(u) = of(parent).filter(|u| u.ops.can_clone()) else { return };
    u.hold.0.fetch_add(1, Ordering::Relaxed);
    let hold = Hold(u.hold.0.clone());
    // After an error the child has no upper-layer protocol, as `Ulp::clone_to` says.
    let _ = begin(child, u.ops.clone(), hold, |ops, child| ops.clone_to(u.data.as_deref(), child));
}
