//! The calls on inner socks. Each takes the outer sock, owned, and an inner one of it; none waits, so that they can be
//! made in every context in which a sock is owned. Below: `inner`; `usersock::net::Socket`, whose calls these are.
//! Linux: sock_create_kern, kernel_bind, kernel_connect, kernel_sendmsg, kernel_recvmsg.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj, obj_mut, slice, slice_mut};
use super::guard::{guard, usk_owned_t};
use super::inner::{InnerSock, LEFT, usk_inner_ops};
use super::private::{living, parts, private};
use super::table;
use crate::handle::{lend, usk_sock_t};
use crate::note;
use std::ffi::{c_int, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::internal::inet;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::{Sock, SockGuard};

/// Adds a sock to the inner ones of `g`. On failure it is closed.
fn attach(g: &mut SockGuard<'_>, sock: Arc<Sock>, ops: usk_inner_ops) -> Result<*mut usk_sock_t> {
    let handle = lend(&sock);
    let p = parts(g)?;
    let inner = InnerSock::new(p.sock, p.private.registration(), sock, ops);
    if p.private.is_done() {
        return Err(Error::Inval);
    }
    // Of a stack's first one, so that the counter is there to be read.
    let _ = p.stack.mib.named.register(LEFT);
    p.private.inner.push(inner);
    Ok(handle)
}

/// Finds an inner sock of an owned one. EINVAL: it is none; EDEADLK: the caller owns it.
/// # Safety
/// `o` is owned.
unsafe fn find<'a>(o: *mut usk_owned_t, inner: *mut usk_sock_t) -> Result<(&'a InnerSock, Socket)> {
    // SAFETY: owned, as the caller guarantees.
    let p = parts(unsafe { guard(o) }?)?;
    let found = p.private.inner.iter().find(|i| lend(i.sock()) == inner).ok_or(Error::Inval)?;
    found.free()?;
    Ok((found, found.socket(p.stack)))
}

/// The call on an inner sock. Errors as [`find`], and what it returns.
/// # Safety
/// `o` is owned.
unsafe fn with<R>(o: *mut usk_owned_t, inner: *mut usk_sock_t, call: impl FnOnce(&Socket) -> Result<R>) -> Result<R> {
    // SAFETY: passed on.
    call(&unsafe { find(o, inner) }?.1)
}

/// # Safety
/// `ops` is null, or points to as many bytes as its size says.
unsafe fn ops_of(ops: *const usk_inner_ops) -> Result<usk_inner_ops> {
    if ops.is_null() {
        return Ok(usk_inner_ops { version: 0, size: 0, data_ready: None, write_space: None, state_change: None });
    }
    // SAFETY: readable, as the caller guarantees.
    unsafe { table::read(ops) }.map_err(note::refused)
}

/// Makes an inner sock: a sock of another protocol, as socket(2) would (AF_INET or AF_INET6, SOCK_STREAM ..., a
/// protocol's number or 0), which belongs to the owned sock and has no descriptor (sock_create_kern). It has buffers,
/// options and memory accounts of its own. Calls on it take the outer sock, owned, and never wait; what happens at it
/// `ops` tells (null: nothing does). The handle is valid until usk_inner_close, or the end of the outer sock: what is
/// still open after its destroy the library closes, and counts in PluginInnerSocksLeft (usk_mib_read). The order of
/// locks is outer, then inner: whoever owns an inner sock and locks its outer one gets -EDEADLK. Returns 0;
/// -EAFNOSUPPORT, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT, -EINVAL as of socket(2); -EINVAL also: the outer sock is
/// finished, or of a protocol that is not written in C; and what the protocol's init returns.
/// # Safety
/// `o` is owned; `ops` is null, or points to as many bytes as its size says; `inner` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_open(
    o: *mut usk_owned_t,
    family: c_int,
    socket_type: c_int,
    protocol: c_int,
    ops: *const usk_inner_ops,
    inner: *mut *mut usk_sock_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (g, ops, inner) = unsafe { (guard(o)?, ops_of(ops)?, obj_mut(inner)?) };
        living(g)?;
        let sock = inet::create(g.stack, family, socket_type, protocol)?;
        *inner = attach(g, sock, ops)?;
        Ok(0)
    })
}

/// Closes an inner sock, as close(2) of a descriptor that does not wait: a connection of TCP ends in the background.
/// -EINVAL: it is not one of the owned sock's; -EDEADLK: the caller owns it.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_close(o: *mut usk_owned_t, inner: *mut usk_sock_t) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        unsafe { find(o, inner) }?;
        // SAFETY: as above.
        let all = &mut parts(unsafe { guard(o) }?)?.private.inner;
        let at = all.iter().position(|i| lend(i.sock()) == inner).ok_or(Error::Inval)?;
        let closed = all.swap_remove(at);
        drop(closed);
        Ok(0)
    })
}

/// bind(2) of an inner sock. Errors as of bind(2), and as usk_inner_close.
/// # Safety
/// `o` is owned; `addr` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_bind(o: *mut usk_owned_t, inner: *mut usk_sock_t, addr: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        unsafe {
            let addr = obj(addr)?.to_socket_addr()?;
            with(o, inner, |s| s.bind(addr)).map(|()| 0)
        }
    })
}

/// connect(2) of an inner sock; null dissolves the association. A connection is under way by -EINPROGRESS: then
/// state_change tells when it is over, the state (usk_sock_state) is TCP_ESTABLISHED, or the error is pending
/// (usk_sock_error). Errors as of connect(2), and as usk_inner_close.
/// # Safety
/// `o` is owned; `to` is null or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_connect(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    to: *const usk_addr_t,
) -> c_int {
    kernel(|| {
        // SAFETY: null or readable, as the caller guarantees.
        let to = unsafe { to.as_ref() }.map(|to| to.to_socket_addr()).transpose()?;
        // SAFETY: owned, as the caller guarantees.
        unsafe { with(o, inner, |s| s.connect(to)) }.map(|()| 0)
    })
}

/// listen(2) of an inner sock. data_ready tells of connections. Errors as of listen(2), and as usk_inner_close.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_listen(o: *mut usk_owned_t, inner: *mut usk_sock_t, backlog: c_int) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { with(o, inner, |s| s.listen(backlog)) }.map(|()| 0))
}

/// Takes a connection of an inner listener (kernel_accept). It becomes an inner sock of `to`: of a child of `o`'s from
/// usk_new_child, which is owned as well, or of `o` itself. `ops` tell of it; what it has received already they tell
/// too. -EAGAIN: there is none; -EINVAL also: `to` is of another registration; other errors as of accept(2), and as
/// usk_inner_close.
/// # Safety
/// `o` and `to` are owned; `ops` is null, or points to as many bytes as its size says; `connection` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_accept(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    to: *mut usk_owned_t,
    ops: *const usk_inner_ops,
    connection: *mut *mut usk_sock_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (ops, connection) = unsafe { (ops_of(ops)?, obj_mut(connection)?) };
        // SAFETY: as above.
        living(unsafe { guard(to) }?)?;
        // SAFETY: as above.
        let registration = |o| unsafe { private(o) }.map(|p| Arc::as_ptr(p.registration()));
        // A registration is of one stack.
        if !std::ptr::eq(registration(o)?, registration(to)?) {
            return Err(Error::Inval);
        }
        // SAFETY: as above.
        let (accepted, _) = unsafe { with(o, inner, |s| s.accept()) }?;
        // SAFETY: as above.
        *connection = attach(unsafe { guard(to) }?, accepted.into_sock(), ops)?;
        // What came before it was told of is told now.
        let tell = |s: &Socket| {
            s.sock().wait.wake(s.poll());
            Ok(0)
        };
        // SAFETY: as above.
        unsafe { with(to, *connection, tell) }
    })
}

/// send(2) or sendto(2) on an inner sock: returns the bytes consumed. `to` null: to its peer. -EAGAIN: there is no room
/// now, and write_space tells when there is some; -EPIPE; other errors as of send(2), and as usk_inner_close.
/// # Safety
/// `o` is owned; `data` is readable for `len` bytes; `to` is null or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_send(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    data: *const c_void,
    len: usize,
    flags: c_int,
    to: *const usk_addr_t,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (data, to) = unsafe { (slice(data, len)?, to.as_ref()) };
        let slices = [IoSlice::new(data)];
        let mut msg = SendMsg::new(&slices, flags | libc::MSG_NOSIGNAL);
        msg.name = to.map(|to| to.to_socket_addr()).transpose()?;
        // SAFETY: owned, as the caller guarantees.
        unsafe { with(o, inner, |s| s.sendmsg(&mut msg)) }.map(|n| n as isize)
    })
}

/// recv(2) or recvfrom(2) on an inner sock: returns the bytes copied, with MSG_TRUNC given the length of the datagram,
/// 0 at the end of a stream. `from`, unless null, gets the sender of a datagram, of family 0 if there is none. -EAGAIN:
/// there is nothing now, and data_ready tells when there is something; other errors as of recv(2), and as
/// usk_inner_close.
/// # Safety
/// `o` is owned; `data` is writable for `len` bytes; `from` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_recv(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    data: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut usk_addr_t,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (data, from) = unsafe { (slice_mut(data, len)?, from.as_mut()) };
        let mut slices = [IoSliceMut::new(data)];
        let mut msg = RecvMsg::new(&mut slices, flags);
        // SAFETY: owned, as the caller guarantees.
        let n = unsafe { with(o, inner, |s| s.recvmsg(&mut msg)) }?;
        if let Some(from) = from {
            *from = msg.name.map_or_else(usk_addr_t::default, Into::into);
        }
        Ok(n as isize)
    })
}

/// The present poll(2) bits of an inner sock; 0 also where the other calls fail.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_poll(o: *mut usk_owned_t, inner: *mut usk_sock_t) -> u32 {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { with(o, inner, |s| Ok(s.poll().0)) })
}

/// shutdown(2) of an inner sock: SHUT_RD, SHUT_WR or SHUT_RDWR. Errors as of shutdown(2), and as usk_inner_close.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_shutdown(o: *mut usk_owned_t, inner: *mut usk_sock_t, how: c_int) -> c_int {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { with(o, inner, |s| s.shutdown(how)) }.map(|()| 0))
}

/// setsockopt(2) of an inner sock. Errors as of setsockopt(2), and as usk_inner_close.
/// # Safety
/// `o` is owned; `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_setsockopt(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        unsafe {
            let value = slice(value, len)?;
            with(o, inner, |s| s.setsockopt(level, name, value)).map(|()| 0)
        }
    })
}

/// getsockopt(2) of an inner sock: writes at most `len` bytes, returns how many. Errors as of getsockopt(2), and as
/// usk_inner_close.
/// # Safety
/// `o` is owned; `value` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_getsockopt(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        unsafe {
            let value = slice_mut(value, len)?;
            with(o, inner, |s| s.getsockopt(level, name, value)).map(|n| n as isize)
        }
    })
}

/// The names of an inner sock, as of getsockname(2) and getpeername(2). Either pointer may be null. -ENOTCONN: `peer`
/// is not null, and there is no peer; other errors as usk_inner_close.
/// # Safety
/// `o` is owned; `local` and `peer` are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_inner_ends(
    o: *mut usk_owned_t,
    inner: *mut usk_sock_t,
    local: *mut usk_addr_t,
    peer: *mut usk_addr_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (socket, local, peer) = unsafe { (find(o, inner)?.1, local.as_mut(), peer.as_mut()) };
        if let Some(local) = local {
            *local = socket.local_addr()?.into();
        }
        if let Some(peer) = peer {
            *peer = socket.peer_addr()?.into();
        }
        Ok(0)
    })
}
