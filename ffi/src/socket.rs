//! Sockets from birth to close: socket, bind, listen, accept, connect, shutdown, names, options, dup, fcntl, ioctl,
//! close.

use crate::boundary::{boundary, os};
use crate::fdtable::{self, Desc, Number};
use crate::ptr;
use crate::stacks::default_stack;
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::inet::Socket;
use usersock::sock::addr::AF_INET6;
use usersock::stack::Stack;

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

/// As socket(2), on the default stack (made from USERSOCK_CONFIG at the first call). `type` may carry SOCK_NONBLOCK and
/// SOCK_CLOEXEC. Returns a descriptor, or -1 with errno EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS or
/// EPROTONOSUPPORT.
#[unsafe(no_mangle)]
pub extern "C" fn usk_socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int {
    boundary(|| socket_on(&default_stack()?, domain, ty, protocol))
}

/// As bind(2). Errors: EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EFAULT, EINVAL, ENOTSOCK.
/// # Safety
/// `addr` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_bind(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        let v6 = s.sock().family == AF_INET6;
        // SAFETY: the caller vouches for `addr` and `len`.
        let a = match unsafe { ptr::own_name(addr, len, v6, false) }?? {
            Some(a) => a,
            // AF_UNSPEC with the IPv4 wildcard is taken for AF_INET by old programs' leave.
            None => {
                // SAFETY: as above; `own_name` has checked that `len` bytes are there.
                let b = unsafe { ptr::bytes(addr.cast(), len as usize) }?;
                if b.len() < if v6 { ptr::SIN6_LEN_RFC2133 } else { size_of::<libc::sockaddr_in>() } {
                    return Err(Error::Inval);
                }
                if v6 || b[4..8] != [0; 4] {
                    return Err(Error::AfNoSupport);
                }
                (std::net::Ipv4Addr::UNSPECIFIED, u16::from_be_bytes([b[2], b[3]])).into()
            }
        };
        s.bind(a)?;
        Ok(0)
    })
}

/// As listen(2). Errors: EADDRINUSE, EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP.
#[unsafe(no_mangle)]
pub extern "C" fn usk_listen(fd: c_int, backlog: c_int) -> c_int {
    boundary(|| fdtable::socket(fd)?.listen(backlog).map(|()| 0))
}

/// As accept(2): accept4 without flags.
/// # Safety
/// `addr` is null or writable for `*len` bytes, `len` then points to a socklen_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_accept(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int {
    // SAFETY: the same promises.
    unsafe { usk_accept4(fd, addr, len, 0) }
}

/// As accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC. Errors: EAGAIN, EBADF, ECONNABORTED, EFAULT, EINTR, EINVAL,
/// EMFILE, ENOTSOCK, EOPNOTSUPP.
/// # Safety
/// As `usk_accept`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_accept4(
    fd: c_int,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
    flags: c_int,
) -> c_int {
    boundary(|| {
        let desc = fdtable::opened(fd)?;
        if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
            return Err(Error::Inval);
        }
        // The number first: at the descriptor limit the connection stays in the queue, and nothing waits for one.
        let number = Number::reserve(flags & libc::SOCK_CLOEXEC != 0)?;
        let (conn, peer) = fdtable::as_socket(desc)?.accept()?;
        conn.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0);
        // The program gets no descriptor where its place for the address is bad: the connection ends, as in Linux.
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
pub unsafe extern "C" fn usk_connect(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        // SAFETY: the caller vouches for `addr` and `len`.
        let a = unsafe { ptr::own_name(addr, len, s.sock().family == AF_INET6, !s.sock().proto().is_stream()) }?;
        s.connect_to(a)?;
        Ok(0)
    })
}

/// As shutdown(2). Errors: EBADF, EINVAL, ENOTCONN, ENOTSOCK.
#[unsafe(no_mangle)]
pub extern "C" fn usk_shutdown(fd: c_int, how: c_int) -> c_int {
    boundary(|| fdtable::socket(fd)?.shutdown(how).map(|()| 0))
}

/// Ends the socket from outside, whoever uses it, as `ss -K` does: its calls answer ECONNABORTED, a peer gets a reset;
/// the descriptor stays to be closed. Errors: EBADF, ENOTSOCK, EOPNOTSUPP.
#[unsafe(no_mangle)]
pub extern "C" fn usk_destroy(fd: c_int) -> c_int {
    boundary(|| fdtable::socket(fd)?.destroy().map(|()| 0))
}

/// As close(2), for any descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn usk_close(fd: c_int) -> c_int {
    boundary(|| fdtable::close(fd).map(|()| 0))
}

/// As getsockname(2). Errors: EBADF, EFAULT, EINVAL, ENOTSOCK.
/// # Safety
/// `addr` is writable for `*len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_getsockname(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
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
pub unsafe extern "C" fn usk_getpeername(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        let peer = s.peer_addr()?;
        // SAFETY: the caller vouches for both.
        unsafe { ptr::put_name(Some(peer), addr, len) }?;
        Ok(0)
    })
}

/// As getsockopt(2). Errors: EBADF, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK.
/// # Safety
/// `value` is writable for `*len` bytes, `len` points to a socklen_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut libc::socklen_t,
) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        // SAFETY: the caller vouches for `len`.
        let len = unsafe { ptr::value_mut(len) }?;
        // Level SOL_IPV6 takes a negative length for a large one; its values are ints.
        let room = match *len as i32 {
            ..0 if level == libc::SOL_IPV6 => size_of::<c_int>(),
            ..0 => return Err(Error::Inval),
            n => n as usize,
        };
        // SAFETY: the caller vouches for `value`.
        let buf = unsafe { ptr::bytes_mut(value, room) }?;
        *len = s.getsockopt(level, name, buf)? as libc::socklen_t;
        Ok(0)
    })
}

/// Takes the upper-layer protocol off that TCP_ULP put on a connection: plain bytes from here. Returns 0, or -1 with
/// errno EBUSY (it holds bytes that are neither with the program nor with TCP, or a call of it is under way), EINVAL
/// (the socket has none), EBADF, ENOTSOCK.
#[unsafe(no_mangle)]
pub extern "C" fn usk_ulp_remove(fd: c_int) -> c_int {
    boundary(|| fdtable::socket(fd)?.remove_ulp().map(|()| 0))
}

/// As setsockopt(2). Errors: EBADF, EDOM, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK.
/// # Safety
/// `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: libc::socklen_t,
) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        if (len as i32) < 0 {
            return Err(Error::Inval);
        }
        // SAFETY: the caller vouches for `value` and `len`.
        let v = unsafe { ptr::bytes(value, len as usize) }?;
        s.setsockopt(level, name, v)?;
        Ok(0)
    })
}

/// As dup(2), for any descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn usk_dup(fd: c_int) -> c_int {
    boundary(|| match fdtable::get(fd) {
        Some(d) => fdtable::install(d, false, 0),
        // SAFETY: a plain system call on the program's own descriptor.
        None => Ok(os(unsafe { libc::dup(fd) } as isize)? as c_int),
    })
}

/// As dup2(2), for any descriptors.
#[unsafe(no_mangle)]
pub extern "C" fn usk_dup2(fd: c_int, to: c_int) -> c_int {
    boundary(|| match fdtable::get(fd) {
        Some(_) if fd == to => Ok(to),
        Some(d) => fdtable::install_at(d, to, false),
        None => {
            // SAFETY: as in `usk_dup`.
            let r = os(unsafe { libc::dup2(fd, to) } as isize)? as c_int;
            if fd != to {
                fdtable::forget(to);
            }
            Ok(r)
        }
    })
}

/// As fcntl(2), for any descriptor; `arg` is the integer or pointer of the command, 0 where it takes none. On sockets
/// of usersock: F_GETFL, F_SETFL (O_NONBLOCK), F_GETFD, F_SETFD, F_DUPFD, F_DUPFD_CLOEXEC; EINVAL for others.
#[unsafe(no_mangle)]
pub extern "C" fn usk_fcntl(fd: c_int, cmd: c_int, arg: c_long) -> c_int {
    boundary(|| {
        // SAFETY: passes the program's own arguments to the kernel.
        let kernel = |fd: c_int| os(unsafe { libc::fcntl(fd, cmd, arg) } as isize).map(|r| r as c_int);
        match fdtable::get(fd) {
            Some(Desc::Socket(s)) => match cmd {
                libc::F_GETFL => Ok(libc::O_RDWR | if s.nonblocking() { libc::O_NONBLOCK } else { 0 }),
                libc::F_SETFL => {
                    // O_ASYNC would need SIGIO, which usersock does not send.
                    if arg as c_int & libc::O_ASYNC != 0 {
                        return Err(Error::Inval);
                    }
                    s.set_nonblocking(arg as c_int & libc::O_NONBLOCK != 0);
                    Ok(0)
                }
                libc::F_GETFD | libc::F_SETFD => kernel(fd),
                libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
                    fdtable::install(Desc::Socket(s), cmd == libc::F_DUPFD_CLOEXEC, arg as c_int)
                }
                _ => Err(Error::Inval),
            },
            Some(d) if cmd == libc::F_DUPFD || cmd == libc::F_DUPFD_CLOEXEC => {
                fdtable::install(d, cmd == libc::F_DUPFD_CLOEXEC, arg as c_int)
            }
            Some(Desc::Inherited(_)) if cmd != libc::F_GETFD && cmd != libc::F_SETFD => Err(Error::NetDown),
            Some(_) | None => kernel(fd),
        }
    })
}

/// As ioctl(2), for any descriptor. On sockets of usersock: FIONBIO, FIONREAD (SIOCINQ), SIOCOUTQ, SIOCOUTQNSD,
/// SIOCATMARK, FIOCLEX, FIONCLEX; ENOTTY for others.
/// # Safety
/// `arg` is what the request says: an int pointer for those above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    boundary(|| {
        let s = match fdtable::get(fd) {
            Some(Desc::Socket(s)) => s,
            Some(Desc::Inherited(_)) if request != libc::FIOCLEX && request != libc::FIONCLEX => {
                return Err(Error::NetDown);
            }
            // SAFETY: passes the program's own arguments to the kernel.
            _ => return Ok(os(unsafe { libc::ioctl(fd, request, arg) } as isize)? as c_int),
        };
        match request {
            libc::FIONBIO => {
                // SAFETY: FIONBIO's argument is an int by the caller's word.
                let on = *unsafe { ptr::value(arg.cast::<c_int>()) }?;
                s.set_nonblocking(on != 0);
                Ok(0)
            }
            libc::FIOCLEX | libc::FIONCLEX => {
                let flag = if request == libc::FIOCLEX { libc::FD_CLOEXEC } else { 0 };
                // SAFETY: sets a flag of the descriptor that keeps our number.
                Ok(os(unsafe { libc::fcntl(fd, libc::F_SETFD, flag) } as isize)? as c_int)
            }
            _ => {
                let n = s.ioctl(request)?;
                // SAFETY: the requests that answer an int take an int pointer.
                *unsafe { ptr::value_mut(arg.cast::<c_int>()) }? = n;
                Ok(0)
            }
        }
    })
}
