//! Ports and connections of a protocol: binding, look-up of the sock for a packet, children of a listener. Linux:
//! inet_bind_hash, __inet_lookup_established, inet_csk_reqsk_queue_add.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj};
use super::guard::{guard, usk_owned_t};
use super::private::Private;
use super::private::{living, parts, set_orphan};
use super::proto::ProtoReg;
use super::registration::usk_reg_t;
use crate::handle::{self, Handle, usk_sock_t};
use crate::held;
use crate::held::contain;
use std::ffi::c_int;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::ip::port_table::PortEntry;
use usersock::sock::accept::{self, AcceptQueue};
use usersock::sock::proto::SockRef;
use usersock::sock::state::State;
use usersock::sock::wait::Events;
use usersock::sock::{Sock, SockGuard, flag};
use usersock::stack::Stack;

/// Binds the sock to a local port, 0 meaning any of net.ipv4.ip_local_port_range (inet_csk_get_port): the default of
/// get_port. usk_proto_lookup finds bound socks, and prefers those connected to the packet's source. -EADDRINUSE;
/// -EINVAL: it has a port, or is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_get_port(o: *mut usk_owned_t, port: u16) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| get_port(unsafe { guard(o) }?, port).map(|()| 0))
}

/// Binds the sock to an address and a port (inet_bind): the default of bind, for a bind operation that does more.
/// `addr` is of the sock's family. Calls get_port for the port. -EINVAL: it is bound already; -EADDRNOTAVAIL,
/// -EADDRINUSE, -EAFNOSUPPORT.
/// # Safety
/// `o` is owned; `addr` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inet_bind(o: *mut usk_owned_t, addr: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, addr) = unsafe { (guard(o)?, obj(addr)?.to_socket_addr()?) };
        if addr.is_ipv6() != (g.sock.family == libc::AF_INET6 as u16) {
            return Err(Error::AfNoSupport);
        }
        usersock::ip::bind::bind(g, addr).map(|()| 0)
    })
}

pub(super) fn get_port(g: &mut SockGuard<'_>, port: u16) -> Result<()> {
    let p = living(g)?.private;
    if p.bound.is_some() || p.adopted.is_some() {
        return Err(Error::Inval);
    }
    let reg = p.registration().clone();
    let port = reg.own.ports().get_port(g, port)?;
    g.common.sport = port;
    parts(g)?.private.bound = Some(port);
    Ok(())
}

/// Updates the library's port table with the sock's addresses, after connect or usk_set_ends: the default of hash. A
/// child of a listener shares its port. -EADDRINUSE: there is a connection with the same ends. -EINVAL: a child without
/// a peer, or a sock that is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hash(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| hash(unsafe { guard(o) }?).map(|()| 0))
}

pub(super) fn hash(g: &mut SockGuard<'_>) -> Result<()> {
    let p = living(g)?.private;
    let (reg, bound, child, adopted) = (p.registration().clone(), p.bound, p.child, p.adopted.is_some());
    if let Some(port) = bound {
        reg.own.ports().rehash(PortEntry::of(g, port));
    } else if child && !adopted {
        let entry = PortEntry::of(g, g.common.sport);
        let (port, peer) = (entry.port, entry.peer.ok_or(Error::Inval)?);
        reg.own.ports().adopt(entry)?;
        parts(g)?.private.adopted = Some((port, peer));
    }
    Ok(())
}

/// Removes the sock from the library's port table and releases its port: the default of unhash and put_port.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_unhash(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unhash(unsafe { guard(o) }?).map(|()| 0))
}

pub(super) fn unhash(g: &mut SockGuard<'_>) -> Result<()> {
    let p = parts(g)?;
    let reg = p.private.registration().clone();
    if let Some(port) = p.private.bound.take() {
        reg.own.ports().unbind(port, p.sock);
    } else if let Some((port, peer)) = p.private.adopted.take() {
        reg.own.ports().unadopt(port, peer, p.sock);
    }
    Ok(())
}

/// The sock for a packet from `remote` to `local`, held: a connected one, else the best match among bound and listening
/// ones. Null: none. Release it by usk_sock_put. `ifindex`: the interface that received the packet.
/// # Safety
/// `reg` is a registered protocol; both addresses are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_lookup(
    reg: *mut usk_reg_t,
    local: *const usk_addr_t,
    remote: *const usk_addr_t,
    ifindex: u32,
) -> *mut usk_sock_t {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (reg, local, remote) = unsafe { (ProtoReg::of(reg)?, obj(local)?, obj(remote)?) };
        let stack = reg.stack()?;
        let (local, remote) = (local.to_socket_addr()?, remote.to_socket_addr()?);
        let found = reg.own.ports().find(&stack, (local.ip(), local.port()), (remote.ip(), remote.port()), ifindex);
        Ok(found.map_or(std::ptr::null_mut(), |s| handle::held(stack, s)))
    })
}

/// A new sock of a listener's protocol, held, for a connection that a packet requests. Its init has run; it inherits
/// the listener's options of the IP levels and its buffer sizes. Packet context. Null: init failed. Lock it, set its
/// ends and state, usk_hash it, release it, give it to usk_accept_push, then usk_sock_put.
/// # Safety
/// `listener` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_new_child(listener: *mut usk_owned_t) -> *mut usk_sock_t {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(listener) }?;
        let child = g.sock.new_child(g.stack);
        {
            let mut c = child.lock(g.stack);
            let (to, from) = (&mut c.common, &g.common);
            to.flags = from.flags & !(flag::DEAD | flag::DONE | flag::BINDPORT_LOCK);
            (to.tos, to.tclass, to.ttl, to.hops) = (from.tos, from.tclass, from.ttl, from.hops);
            (to.pmtudisc, to.bound_dev_if) = (from.pmtudisc, from.bound_dev_if);
            to.inherit_settings(from);
            for (a, b) in [(&child.rcvbuf, &g.sock.rcvbuf), (&child.sndbuf, &g.sock.sndbuf)] {
                a.store(b.load(std::sync::atomic::Ordering::Relaxed), std::sync::atomic::Ordering::Relaxed);
            }
            child.proto().init(&mut c)?;
            parts(&mut c)?.private.child = true;
            set_orphan(&mut c, true);
        }
        Ok(handle::hold(g.stack, child))
    })
}

/// Queues an established connection for accept(2), and wakes its waiters. The caller keeps its handle. -ENOBUFS: the
/// backlog is full; -EINVAL: the listener does not listen any more, `child` is not from usk_new_child for this
/// protocol, or it is finished; -EALREADY: it was queued before, and may be a program's by now. On another failure the
/// caller ends the child (usk_done).
/// # Safety
/// `listener` is owned; `child` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_accept_push(listener: *mut usk_owned_t, child: *mut usk_sock_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, child) = unsafe { (guard(listener)?, Handle::new(child)?) };
        let max = g.common.max_ack_backlog;
        let listens = g.sock.state() == State::Listen;
        let p = living(g)?;
        let same = Arc::ptr_eq(&child.proto().cloned(), &p.sock.proto().cloned());
        if !listens || !same || Arc::ptr_eq(child.sock(), p.sock) {
            return Err(Error::Inval);
        }
        let queue = p.private.accept.get_or_insert_default();
        let sock = child.sock().clone();
        with_child(p.stack, child.sock(), |c| {
            if c.queued {
                return Err(Error::Already);
            }
            if !c.child || c.is_done() {
                return Err(Error::Inval);
            }
            queue.push(sock, max).map_err(|_| Error::NoBufs)?;
            c.queued = true;
            Ok(())
        })?;
        p.common.cold_mut().ack_backlog = queue.len() as u32;
        p.sock.wait.wake(Events::IN);
        Ok(0)
    })
}

/// Runs `f` with the private data of a child, whose listener is owned: listener before child is the lock order. EINVAL:
/// it is another protocol's.
fn with_child<R>(stack: &Arc<Stack>, child: &Arc<Sock>, f: impl FnOnce(&mut Private) -> Result<R>) -> Result<R> {
    match held::guard_of(child) {
        // SAFETY: this thread owns it, so the guard is alive, and no other reference to what is inside is in use.
        Some(guard) => f(parts(unsafe { &mut *guard })?.private),
        None => f(parts(&mut child.lock(stack))?.private),
    }
}

/// EDEADLK: closing the connections that wait would lock one that this thread owns.
pub(super) fn may_close(p: &Private) -> Result<()> {
    let waiting = p.accept.iter().flat_map(|queue| queue.iter());
    if waiting.into_iter().any(held::owns) { Err(Error::Deadlk) } else { Ok(()) }
}

/// Starts listening with `backlog`: the state becomes TCP_LISTEN, and a sock without port is bound to one. For the
/// listen operation. -EADDRINUSE: another sock, which shares the port by SO_REUSEADDR, listens already
/// (inet_csk_listen_start).
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_listen_start(o: *mut usk_owned_t, backlog: u32) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        living(g)?;
        if g.common.sport == 0 {
            g.sock.proto().get_port(g, 0)?;
        }
        let p = living(g)?.private;
        let (reg, bound) = (p.registration().clone(), p.bound);
        let before = g.sock.swap_state(State::Listen);
        // Socks that share the port by SO_REUSEADDR may not listen on it at the same time. Each sets its state before
        // it checks the others, so that at most one succeeds.
        if let Some(port) = bound
            && before != State::Listen
            && !reg.own.ports().is_free(&PortEntry::of(g, port))
        {
            g.sock.set_state(before);
            return Err(Error::AddrInUse);
        }
        g.common.cold_mut().max_ack_backlog = backlog;
        Ok(0)
    })
}

/// Stops listening: the state becomes TCP_CLOSE, and connections that were not accepted are closed. The sock keeps its
/// port. For the disconnect operation (inet_csk_listen_stop). -EINVAL: it is not listening; -EDEADLK: the caller owns
/// one of those connections, and releases it first.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_listen_stop(o: *mut usk_owned_t) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        if g.sock.state() != State::Listen {
            return Err(Error::Inval);
        }
        may_close(parts(g)?.private)?;
        g.sock.set_state(State::Close);
        let p = parts(g)?;
        let (stack, queue) = (p.stack, p.private.accept.take());
        p.common.cold_mut().ack_backlog = 0;
        close_all(stack, queue);
        g.sock.wait.wake(Events::ALL);
        Ok(0)
    })
}

/// Takes a connection that usk_accept_push queued, and waits for one unless `nonblock` (inet_csk_accept). For the
/// accept operation of a table. Process context. Returns the child held, or null with the negative errno in `*err`:
/// -EINVAL not listening, -EAGAIN, -EINTR.
/// # Safety
/// `sk` is valid and not owned by the caller; `err` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_accept_wait(
    sk: *mut usk_sock_t,
    nonblock: c_int,
    err: *mut c_int,
) -> *mut usk_sock_t {
    let r = contain(|| {
        // SAFETY: valid, as the caller guarantees.
        let h = unsafe { Handle::new(sk) }?;
        let child = accept::accept(h.sk(), nonblock != 0, pop_child)?;
        Ok(handle::hold(h.stack(), child))
    });
    match r.and_then(|r| r) {
        Ok(child) => child,
        Err(e) => {
            if !err.is_null() {
                // SAFETY: writable, as the caller guarantees.
                unsafe { *err = -e.errno() };
            }
            std::ptr::null_mut()
        }
    }
}

pub(super) fn pop_child(g: &mut SockGuard<'_>) -> Option<Arc<Sock>> {
    let p = parts(g).ok()?;
    let (stack, queue) = (p.stack, p.private.accept.as_mut()?);
    // A child that is finished has no operations any more, and is skipped. A broken child is returned: its calls return
    // EIO. A child that the caller owns must not be waited for.
    let whole = |c: &Arc<Sock>| !c.is_broken() && !held::owns(c);
    let gone = |c: &Arc<Sock>| whole(c) && !parts(&mut c.lock(stack)).is_ok_and(|p| !p.private.is_done());
    let child = std::iter::from_fn(|| queue.pop()).find(|c| !gone(c));
    p.common.cold_mut().ack_backlog = queue.len() as u32;
    child
}

/// Closes connections that were not accepted. The listener may be owned: listener before child is the lock order.
pub(super) fn close_all(stack: &Arc<Stack>, queue: Option<Box<AcceptQueue>>) {
    for child in queue.into_iter().flat_map(|mut q| std::iter::from_fn(move || q.pop())) {
        child.proto().close(SockRef { stack, sock: &child }, libc::MSG_DONTWAIT);
        child.put_later();
    }
}
