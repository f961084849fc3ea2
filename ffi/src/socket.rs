//! Sockets from birth to close: socket, bind, listen, accept, connect, shutdown, names, options,
//! dup, close.

use crate::boundary::boundary;
use crate::cancel::blocking;
use crate::fdtable::{self, Desc, Number};
use crate::flowlabel;
use crate::kernel;
use crate::note;
use crate::ptr;
use crate::stacks::default_stack;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::sync::Arc;
use usersock::error::{Error, Result};

use usersock::net::Socket;
use usersock::sock::Sock;
use usersock::stack::Stack;
use usersock::tcp::sock_ops::{self, Refused};

const TYPE_MASK: c_int = 0xf;
/// One past the last socket type (SOCK_PACKET, 10).
const SOCK_MAX: c_int = 11;
/// One past the last address family the kernel numbers.
const AF_MAX: c_int = 46;

pub(crate) fn socket_on(stack: &Arc<Stack>, domain: c_int, ty: c_int, protocol: c_int) -> Result<c_int> {
    let flags = ty & !TYPE_MASK;
    if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Err(Error::Inval);
    }
    if !(0..AF_MAX).contains(&domain) {
        return Err(Error::AfNoSupport);
    }
    if ty & TYPE_MASK >= SOCK_MAX {
        return Err(Error::Inval);
    }
    let s = Socket::new(stack, domain, ty & TYPE_MASK, protocol)?;
    s.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
    fdtable::install(Desc::Socket(Arc::new(s)), flags & libc::SOCK_CLOEXEC != 0, 0)
}

/// As socket(2): AF_INET and AF_INET6 on the default stack (made from USERSOCK_CONFIG at the first call), other
/// families of the kernel. `type` may carry SOCK_NONBLOCK and SOCK_CLOEXEC. Returns a descriptor, or -1 with errno
/// EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS or EPROTONOSUPPORT.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int {
    boundary(|| match domain {
        libc::AF_INET | libc::AF_INET6 => socket_on(&default_stack()?, domain, ty, protocol),
        _ => kernel::socket(domain, ty, protocol),
    })
}

/// As bind(2). Errors: EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EFAULT, EINVAL, ENOTSOCK.
/// # Safety
/// `addr` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_bind(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::call(libc::SYS_bind, [fd as c_long, addr as c_long, len as c_long]) }
                .map(|r| r as c_int);
        };
        // SAFETY: the caller vouches for `addr` and `len`.
        let a = unsafe { ptr::bind_name(&s, addr, len) }?;
        s.bind(a)?;
        Ok(0)
    })
}

/// As listen(2). Errors: EADDRINUSE, EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_listen(fd: c_int, backlog: c_int) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::call(libc::SYS_listen, [fd as c_long, backlog as c_long]) }.map(|r| r as c_int);
        };
        s.listen(backlog).map(|()| 0)
    })
}

/// As accept(2): accept4 without flags.
/// # Safety
/// `addr` is null or writable for `*len` bytes, `len` then points to a socklen_t.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_accept(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int {
    // SAFETY: the same promises.
    unsafe { usk_accept4(fd, addr, len, 0) }
}

/// As accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC. Errors: EAGAIN, EBADF, ECONNABORTED, EFAULT, EINTR, EINVAL,
/// EMFILE, ENOTSOCK, EOPNOTSUPP.
/// # Safety
/// As `usk_accept`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_accept4(
    fd: c_int,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
    flags: c_int,
) -> c_int {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            let args = [fd as c_long, addr as c_long, len as c_long, flags as c_long];
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::wait(libc::SYS_accept4, args) }.map(|fd| fd as c_int);
        };
        if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
            return Err(Error::Inval);
        }
        // The number is reserved first: at the descriptor limit the call fails at once, and the connection stays in the
        // queue.
        let number = Number::reserve(flags & libc::SOCK_CLOEXEC != 0)?;
        let (conn, peer) = s.accept()?;
        conn.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
        // If the buffer for the address is bad, the program gets no descriptor, and the connection ends, as in Linux.
        // SAFETY: the caller vouches for `addr` and `len`.
        unsafe { ptr::put_sockaddr(Some(peer), addr, len) }?;
        Ok(number.install(Desc::Socket(Arc::new(conn))))
    })
}

/// As connect(2). Errors: EADDRNOTAVAIL, EAFNOSUPPORT, EALREADY, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH,
/// EINPROGRESS, EINTR, EISCONN, ENETUNREACH, ENOTSOCK, ETIMEDOUT.
/// # Safety
/// `addr` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_connect(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::wait(libc::SYS_connect, [fd as c_long, addr as c_long, len as c_long]) }
                .map(|r| r as c_int);
        };
        // SAFETY: the caller vouches for `addr` and `len`.
        let to = unsafe { ptr::connect_name(&s, addr, len) }?;
        s.connect_to(to)?;
        Ok(0)
    })
}

/// As shutdown(2). Errors: EBADF, EINVAL, ENOTCONN, ENOTSOCK.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_shutdown(fd: c_int, how: c_int) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::call(libc::SYS_shutdown, [fd as c_long, how as c_long]) }.map(|r| r as c_int);
        };
        s.shutdown(how).map(|()| 0)
    })
}

/// Aborts the socket, as `ss -K` does: calls on it return ECONNABORTED, and a peer gets a reset; the descriptor must
/// still be closed. Errors: EBADF, ENOTSOCK, EOPNOTSUPP.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_destroy(fd: c_int) -> c_int {
    boundary(|| fdtable::ours(fd)?.destroy().map(|()| 0))
}

/// As close(2), for any descriptor.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_close(fd: c_int) -> c_int {
    blocking(|| fdtable::close(fd).map(|()| 0))
}

/// As getsockname(2). Errors: EBADF, EFAULT, EINVAL, ENOTSOCK.
/// # Safety
/// `addr` is writable for `*len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_getsockname(
    fd: c_int,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::call(libc::SYS_getsockname, [fd as c_long, addr as c_long, len as c_long]) }
                .map(|r| r as c_int);
        };
        let own = s.local_addr()?;
        // SAFETY: the caller vouches for both.
        unsafe { ptr::put_name(Some(own), addr, len) }?;
        Ok(0)
    })
}

/// As getpeername(2). Errors: EBADF, EFAULT, EINVAL, ENOTCONN, ENOTSOCK.
/// # Safety
/// `addr` is writable for `*len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_getpeername(
    fd: c_int,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::call(libc::SYS_getpeername, [fd as c_long, addr as c_long, len as c_long]) }
                .map(|r| r as c_int);
        };
        let peer = s.peer_addr()?;
        // SAFETY: the caller vouches for both.
        unsafe { ptr::put_name(Some(peer), addr, len) }?;
        Ok(0)
    })
}

/// TCP_AO_GET_KEYS of <linux/tcp.h>, and where struct tcp_ao_getsockopt has `nkeys`.
const TCP_AO_GET_KEYS: c_int = 41;
const NKEYS: std::ops::Range<usize> = 272..276;

/// As getsockopt(2). Errors: EBADF, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK. Of TCP_AO_GET_KEYS, as on Linux, `value` is
/// an array of structs of `*len` bytes.
/// # Safety
/// `value` is writable for `*len` bytes, or is such an array; `len` points to a socklen_t.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut libc::socklen_t,
) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::call(
                    libc::SYS_getsockopt,
                    [fd as c_long, level as c_long, name as c_long, value as c_long, len as c_long],
                )
            }
            .map(|r| r as c_int);
        };
        // SAFETY: the caller vouches for `len`.
        let len = unsafe { ptr::value_mut(len) }?;
        if (level, name) == (libc::SOL_TCP, TCP_AO_GET_KEYS) && *len as i32 > 0 {
            // SAFETY: the caller vouches for `value`: for as many structs as the first says, or as there are.
            return unsafe { ao_keys(|v| s.getsockopt(level, name, v), usize::MAX, value, len) }.map(|()| 0);
        }
        // SOL_IPV6, and SOL_RAW of IPv6, take a negative length for a large one; their values are ints.
        let room = match *len as i32 {
            // Its length counts instructions.
            n @ 0.. if (level, name) == (libc::SOL_SOCKET, libc::SO_GET_FILTER) => {
                n as usize * size_of::<libc::sock_filter>()
            }
            ..0 if level == libc::SOL_IPV6 => size_of::<c_int>(),
            ..0 if level == libc::SOL_RAW && s.sock().family == libc::AF_INET6 as u16 => size_of::<c_int>(),
            ..0 => return Err(negative_length(&s, level, name)),
            n => n as usize,
        };
        // SAFETY: the caller vouches for `value`.
        let buf = unsafe { ptr::bytes_mut(value, room) }?;
        *len = s.getsockopt(level, name, buf)? as libc::socklen_t;
        Ok(0)
    })
}

/// TCP_AO_GET_KEYS: `value` is an array, whose first struct says how many it has room for and which keys are meant;
/// `len` is the length of one. As on Linux, nothing is written behind the last key that there is. `get` is
/// getsockopt(2) of such an array, which takes `most` bytes. ENOBUFS: the keys are more.
/// # Safety
/// `value` is writable for as many structs of `*len` bytes as its first says, or as there are keys.
pub unsafe fn ao_keys(
    get: impl Fn(&mut [u8]) -> Result<usize>,
    most: usize,
    value: *mut c_void,
    len: &mut libc::socklen_t,
) -> Result<()> {
    let each = *len as usize;
    // SAFETY: the caller vouches for the first.
    let mut first = unsafe { ptr::bytes_mut(value, each) }?.to_vec();
    let nkeys = |v: &[u8]| v.get(NKEYS).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let set = |v: &mut [u8], n: usize| {
        if let Some(field) = v.get_mut(NKEYS) {
            field.copy_from_slice(&(n as u32).to_ne_bytes());
        }
    };
    let room = nkeys(&first);
    let mut count = first.clone();
    set(&mut count, 0);
    get(&mut count)?;
    let n = room.min(nkeys(&count));
    set(&mut first, n);
    let all = each.saturating_mul(n.max(1));
    if all > most {
        return Err(Error::NoBufs);
    }
    first.resize(all, 0);
    *len = get(&mut first)? as libc::socklen_t;
    // SAFETY: the caller vouches for as many, and for the first.
    unsafe { ptr::bytes_mut(value, first.len()) }?.copy_from_slice(&first);
    Ok(())
}

/// The error of a negative length: EINVAL, but where a socket has no options of that level.
fn negative_length(s: &Socket, level: c_int, name: c_int) -> Error {
    let is_raw = s.sock().ty == libc::SOCK_RAW as u16;
    let own = level == c_int::from(s.sock().protocol) && !is_raw;
    // A raw socket of IPv6 has no options of IPv4.
    let raw_v6 = s.sock().family == libc::AF_INET6 as u16 && is_raw;
    if own || level == libc::SOL_SOCKET || level == libc::SOL_IP && !raw_v6 {
        return Error::Inval;
    }
    s.getsockopt(level, name, &mut []).err().unwrap_or(Error::Inval)
}

/// Removes the upper-layer protocol that TCP_ULP installed on a connection, which then carries plain bytes. Returns 0,
/// or -1 with errno EBUSY (it holds bytes that neither the program nor TCP has, or one of its operations is running),
/// EINVAL (the socket has none), EBADF, ENOTSOCK.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_ulp_remove(fd: c_int) -> c_int {
    boundary(|| fdtable::ours(fd)?.remove_ulp().map(|()| 0))
}

/// For setsockopt with IPPROTO_TCP: a name, as usk_sock_ops_attach. With getsockopt: names of the hooks that the socket
/// has, in the order in which they are called, with commas between them and a NUL at the end; 0 bytes: none.
pub const USK_TCP_HOOKS: c_int = 2001;
/// For setsockopt with IPPROTO_TCP: a name, as usk_sock_ops_detach.
pub const USK_TCP_HOOKS_DETACH: c_int = 2002;

/// Attaches hooks of the socket's stack to a TCP socket: a plug-in has registered them by this name with
/// USK_SOCK_OPS_CHOSEN. The connections that it makes have them, and so have those that it accepts of SYNs that arrive
/// from now on; a connection that exists has them from now on. Returns 0, or -1 with errno ENOENT (there are no such
/// hooks), EEXIST (the socket has them, or others that write the same option; or all sockets have them), EDEADLK (from
/// a hook, which owns the socket), EFAULT, EIO (it is broken), ENOPROTOOPT (it is no TCP socket), EBADF, ENOTSOCK; of
/// the first two usk_config_error says why in a line.
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_sock_ops_attach(fd: c_int, name: *const c_char) -> c_int {
    // SAFETY: a string, as the caller guarantees.
    boundary(|| hooks(fd, unsafe { ptr::string(name) }?, sock_ops::attach))
}

/// Takes hooks off a socket: those attached to it or inherited, or chosen by a filter for its present connection. What
/// a listener's connections have they keep. Segments that are sent from now on, retransmissions included, have no
/// option of them, and the room belongs to the payload. Returns 0, or -1 with errno as usk_sock_ops_attach; ENOENT: the
/// socket does not have them, or has them as all sockets have.
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_sock_ops_detach(fd: c_int, name: *const c_char) -> c_int {
    // SAFETY: a string, as the caller guarantees.
    boundary(|| hooks(fd, unsafe { ptr::string(name) }?, sock_ops::detach))
}

type Change = fn(&Arc<Stack>, &Arc<Sock>, &str) -> std::result::Result<(), Refused>;

fn hooks(fd: c_int, name: &str, change: Change) -> Result<c_int> {
    let s = fdtable::ours(fd)?;
    change(s.stack(), s.sock(), name).map(|()| 0).map_err(|refused| {
        note::note(&refused.why);
        refused.error
    })
}
/// An option of IPPROTO_TCP for usk_setsockopt and usk_getsockopt: the name of the socket's TCP, "default" or one that
/// a plug-in has registered (usersock/tcp.h; FreeBSD's TCP_FUNCTION_BLK). A listener's connections have it too; of a
/// live connection it changes at once. usk_setsockopt: ENOENT, there is none of that name; EBUSY, one of the two does
/// not give or take a live connection as it is now; and what the new one says when it begins.
pub const USK_TCP_STACK: c_int = 8192;

/// As setsockopt(2). Errors: EBADF, EDOM, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK.
/// # Safety
/// `value` is readable for `len` bytes; IPV6_FLOWLABEL_MGR writes the label that it has chosen there, where it can.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: libc::socklen_t,
) -> c_int {
    boundary(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::call(
                    libc::SYS_setsockopt,
                    [fd as c_long, level as c_long, name as c_long, value as c_long, len as c_long],
                )
            }
            .map(|r| r as c_int);
        };
        if (len as i32) < 0 {
            return Err(Error::Inval);
        }
        // SAFETY: the caller vouches for `value` and `len`.
        let mut v = unsafe { ptr::option_value(value, len as usize) }?;
        let cut = v.len() < len as usize;
        let program = matches!(name, libc::SO_ATTACH_FILTER | libc::SO_ATTACH_REUSEPORT_CBPF);
        if level == libc::SOL_SOCKET && program {
            // SAFETY: the caller vouches for the program that the value points to.
            v = unsafe { filter_program(v) }?;
        }
        if flowlabel::wants_any(level, name, v) {
            let label = flowlabel::lease_any(&*s.stack().entropy, v, |request| s.setsockopt(level, name, request))?;
            // SAFETY: the caller vouches for `value` and `len`; `v` is used no longer.
            unsafe { flowlabel::tell(value, len, label) };
            return Ok(0);
        }
        match s.setsockopt(level, name, v) {
            // It needs more of the value than can be read.
            Err(Error::Inval) if cut => Err(Error::Fault),
            r => r.map(|()| 0),
        }
    })
}

/// The instructions that a `struct sock_fprog` points to. EINVAL: the value has another size, or names none; EFAULT.
///
/// # Safety
/// The pointer in it is null or points to as many instructions as it says.
unsafe fn filter_program<'a>(value: &[u8]) -> Result<&'a [u8]> {
    let Ok(bytes) = <&[u8; size_of::<libc::sock_fprog>()]>::try_from(value) else { return Err(Error::Inval) };
    // SAFETY: a structure of a number and a pointer, for which any bytes are valid; read unaligned.
    let program = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<libc::sock_fprog>()) };
    if program.filter.is_null() || program.len == 0 {
        return Err(Error::Inval);
    }
    // SAFETY: the caller vouches for the instructions.
    unsafe { ptr::bytes(program.filter.cast(), usize::from(program.len) * size_of::<libc::sock_filter>()) }
}

/// As dup(2), for any descriptor.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_dup(fd: c_int) -> c_int {
    boundary(|| match fdtable::get(fd) {
        Some(d) => fdtable::install(d, false, 0),
        // SAFETY: a number.
        None => unsafe { kernel::call(libc::SYS_dup, [fd as c_long]) }.map(|r| r as c_int),
    })
}

/// As dup2(2), for any descriptors. EBUSY also if another thread has just reserved the number `to`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_dup2(fd: c_int, to: c_int) -> c_int {
    boundary(|| match fdtable::get(fd) {
        Some(_) if fd == to => Ok(to),
        // Checks that it is open.
        None if fd == to => kernel::fcntl(fd, libc::F_GETFD, 0).map(|_| to),
        Some(d) => fdtable::install_at(d, to, false),
        None => fdtable::duplicate_at(fd, to, false),
    })
}

/// As dup3(2), for any descriptors: dup2 with O_CLOEXEC in `flags`. EINVAL for other flags, and where both numbers are
/// the same.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    boundary(|| {
        if flags & !libc::O_CLOEXEC != 0 || fd == to {
            return Err(Error::Inval);
        }
        let cloexec = flags & libc::O_CLOEXEC != 0;
        match fdtable::get(fd) {
            Some(d) => fdtable::install_at(d, to, cloexec),
            None => fdtable::duplicate_at(fd, to, cloexec),
        }
    })
}

/// Whether a descriptor is one of usersock's: a socket or an epoll set, or one inherited from a parent. Returns 1 or 0;
/// 0 too for a number under which nothing is open.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_is_ours(fd: c_int) -> c_int {
    boundary(|| Ok(c_int::from(fdtable::get(fd).is_some())))
}
