//! Sockets of a stack server, USERSOCK_SERVER: real AF_UNIX descriptors, on which nearly all calls are the kernel's.
//! The few that are not are here and in `served`; they find out what a descriptor is by its names, so that there is
//! nothing to keep. Above: `control`, `descriptors`. Beside: `served`. Below: `usersock_spliced::client`.

use crate::real::kernel;
use crate::role::{Role, role};
use crate::{control, ready};
use std::ffi::{c_int, c_ulong, c_void};
use std::sync::OnceLock;
use usersock::env::OsEntropy;
use usersock::error::{Error, Result};
use usersock_ffi::boundary::{boundary, errno, set_errno};
use usersock_ffi::{flowlabel, ptr, socket};
use usersock_spliced::client::{self, Connect, Ours};
use usersock_spliced::instance::{Instance, VARIABLE};
use usersock_spliced::sys;

static SERVER: OnceLock<Instance> = OnceLock::new();

/// What the environment says. None: it names no server.
pub(crate) fn from_environment() -> Option<std::result::Result<(), String>> {
    let text = std::env::var_os(VARIABLE)?;
    Some(match text.to_str().and_then(|text| text.parse().ok()) {
        Some(instance) => {
            // Signal handlers and children of vfork may make our calls, which so do not allocate.
            usersock_ffi::probe::remember_nothing();
            SERVER.get_or_init(|| instance);
            Ok(())
        }
        None => Err(format!("{VARIABLE}: it is 48 hexadecimal digits, as usersock serve prints them")),
    })
}

/// The server, and what `fd` is to it, if it is one of its sockets.
pub(crate) fn find(fd: c_int) -> Option<(&'static Instance, Ours)> {
    if role() != Role::Spliced {
        return None;
    }
    let server = SERVER.get()?;
    client::ours(server, fd).map(|ours| (server, ours))
}

/// Whether `fd` is a socket of the server's.
#[inline]
pub(crate) fn has(fd: c_int) -> bool {
    role() == Role::Spliced && find(fd).is_some()
}

pub(crate) fn found(fd: c_int) -> Result<(&'static Instance, Ours)> {
    find(fd).ok_or(Error::BadF)
}

/// socket(2). UDP is the kernel's.
pub(crate) fn socket(domain: c_int, ty: c_int) -> c_int {
    boundary(|| {
        let server = SERVER.get().ok_or(Error::NetDown)?;
        client::socket(server, domain as u16, ty & !0xf)
    })
}

/// # Safety
/// `addr` is readable for `len` bytes.
pub(crate) unsafe fn name<'a>(addr: *const libc::sockaddr, len: libc::socklen_t) -> Result<&'a [u8]> {
    if len as usize > size_of::<libc::sockaddr_storage>() {
        return Err(Error::Inval);
    }
    // SAFETY: the caller vouches for it.
    unsafe { ptr::bytes(addr.cast(), len as usize) }
}

/// bind(2).
/// # Safety
/// `addr` is readable for `len` bytes.
pub(crate) unsafe fn bind(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        // SAFETY: the program vouches for it.
        client::bind(server, &ours, unsafe { name(addr, len) }?).map(|()| 0)
    })
}

/// listen(2).
pub(crate) fn listen(fd: c_int, backlog: c_int) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        client::listen(server, fd, &ours, backlog).map(|()| 0)
    })
}

/// accept4(2). The wait is the kernel's, in the C library's function, which is a cancellation point.
/// # Safety
/// As accept4(2).
pub(crate) unsafe fn accept4(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t, flags: c_int) -> c_int {
    // SAFETY: no name is asked for.
    let new = unsafe { control::real::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    if new == -1 {
        let Some(error @ (Error::Inval | Error::Again)) = Error::try_from_errno(errno()) else { return -1 };
        let why = |server| client::not_accepted(server, fd, error);
        return boundary(|| Err(SERVER.get().map_or(error, why)));
    }
    let named = boundary(|| {
        let server = SERVER.get().ok_or(Error::NetDown)?;
        let peer = client::accepted(server, fd, new)?;
        // SAFETY: the program vouches for both.
        unsafe { ptr::put_sockaddr(Some(peer), addr, len) }.map(|()| 0)
    });
    if named == -1 {
        // SAFETY: the descriptor is not the program's yet.
        let _: c_int = unsafe { kernel!(SYS_close, new) };
        return -1;
    }
    new
}

/// connect(2). The wait is the kernel's, as in [`accept4`]; a signal ends it, and the attempt goes on.
/// # Safety
/// `addr` is readable for `len` bytes.
pub(crate) unsafe fn connect(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    let mut waits = false;
    let begun = boundary(|| {
        let (server, ours) = found(fd)?;
        // SAFETY: the program vouches for it.
        waits = client::connect(server, fd, &ours, unsafe { name(addr, len) }?)? == Connect::Waits;
        Ok(0)
    });
    if begun == -1 || !waits {
        return begun;
    }
    let mut writable = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd.
    match unsafe { ready::real::poll(&mut writable, 1, client::connect_timeout(fd)) } {
        -1 => return -1,
        // SO_SNDTIMEO limits connect, too (socket(7)).
        0 => {
            set_errno(libc::EINPROGRESS);
            return -1;
        }
        _ => {}
    }
    boundary(|| {
        let (server, ours) = found(fd)?;
        client::connected(server, fd, &ours, writable.revents).map(|()| 0)
    })
}

/// shutdown(2). That of a connection is the kernel's.
pub(crate) fn shutdown(fd: c_int, how: c_int) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        client::shutdown(server, fd, &ours, how).map(|()| 0)
    })
}

/// getsockname(2), or getpeername(2) where `peer`.
/// # Safety
/// As getsockname(2).
pub(crate) unsafe fn address(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t, peer: bool) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        let a = match peer {
            true => client::peer_addr(server, fd, &ours)?,
            false => client::local_addr(server, fd, &ours)?,
        };
        // SAFETY: the program vouches for both.
        unsafe { ptr::put_name(Some(a), addr, len) }.map(|()| 0)
    })
}

/// setsockopt(2).
/// # Safety
/// `value` is readable for `len` bytes.
pub(crate) unsafe fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: libc::socklen_t,
) -> c_int {
    if client::is_kernels(level, name) {
        // SAFETY: passed on.
        return unsafe { control::real::setsockopt(fd, level, name, value, len) };
    }
    boundary(|| {
        let (server, ours) = found(fd)?;
        if (len as c_int) < 0 {
            return Err(Error::Inval);
        }
        let len = len.min(client::MAX_VALUE as u32);
        // SAFETY: the program vouches for it.
        let bytes = unsafe { ptr::option_value(value, len as usize) }?;
        let set = |bytes: &[u8]| client::set_option(server, fd, &ours, level, name, bytes);
        if flowlabel::wants_any(level, name, bytes) {
            let label = flowlabel::lease_any(&OsEntropy::new()?, bytes, set)?;
            // SAFETY: as above; `bytes` is used no longer.
            unsafe { flowlabel::tell(value, len, label) };
            return Ok(0);
        }
        match set(bytes) {
            // It needs more of the value than can be read.
            Err(Error::Inval) if bytes.len() < len as usize => Err(Error::Fault),
            r => r.map(|()| 0),
        }
    })
}

/// getsockopt(2).
/// # Safety
/// `len` is null or a socklen_t, `value` writable for as many bytes.
pub(crate) unsafe fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut libc::socklen_t,
) -> c_int {
    if client::is_kernels(level, name) {
        // SAFETY: passed on.
        return unsafe { control::real::getsockopt(fd, level, name, value, len) };
    }
    boundary(|| {
        let (server, ours) = found(fd)?;
        // SAFETY: the program vouches for `len`.
        let len = unsafe { ptr::value_mut(len) }?;
        let room = match *len as c_int {
            // SOL_IPV6 takes a negative length for a large one; its values are ints.
            ..0 if level == libc::SOL_IPV6 => size_of::<c_int>(),
            // That there is no such level comes before.
            ..0 if !matches!(level, libc::SOL_SOCKET | libc::SOL_IP | libc::SOL_TCP) => 0,
            ..0 => return Err(Error::Inval),
            n => n as usize,
        };
        let asked = match client::asks(level, name) {
            // SAFETY: the program vouches for `value`.
            true => unsafe { ptr::bytes(value, room.min(client::MAX_VALUE)) }?,
            false => &[],
        };
        if (level, name) == (libc::SOL_TCP, client::TCP_AO_GET_KEYS) && room > 0 {
            let get = |v: &mut [u8]| client::keys(server, &ours, v);
            // SAFETY: as above, for as many structs as the first says, or as there are.
            return unsafe { socket::ao_keys(get, client::MAX_VALUE, value, len) }.map(|()| 0);
        }
        client::option(server, fd, &ours, (level, name), room, asked, |bytes| {
            if usersock_ffi::probe::writable_bytes(value as usize, bytes.len()) < bytes.len() {
                return Err(Error::Fault);
            }
            // SAFETY: the program vouches for `value`.
            unsafe { ptr::bytes_mut(value, bytes.len()) }?.copy_from_slice(bytes);
            *len = bytes.len() as libc::socklen_t;
            Ok(0)
        })
    })
}

/// Requests of ioctl(2) that are about the connection, or that AF_UNIX does not know; the rest is the kernel's.
pub(crate) fn is_ours(request: c_ulong) -> bool {
    matches!(request, libc::TIOCOUTQ | client::SIOCOUTQNSD) || is_internets(request)
}

/// Those of AF_INET and AF_INET6 about the kernel's interfaces, routes and neighbours.
fn is_internets(request: c_ulong) -> bool {
    const SIOCGIFADDR: c_ulong = 0x8915;
    const SIOCSIFNETMASK: c_ulong = 0x891c;
    const SIOCADDRT: c_ulong = 0x890b;
    const SIOCDELRT: c_ulong = 0x890c;
    const SIOCDIFADDR: c_ulong = 0x8936;
    const SIOCDARP: c_ulong = 0x8953;
    const SIOCSARP: c_ulong = 0x8955;
    matches!(request, SIOCGIFADDR..=SIOCSIFNETMASK | SIOCADDRT | SIOCDELRT | SIOCDIFADDR | SIOCDARP..=SIOCSARP)
}

/// ioctl(2) that gives an int, or asks about the kernel's interfaces.
/// # Safety
/// `arg` is what the request says.
pub(crate) unsafe fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        if is_internets(request) {
            let kernels = sys::datagrams(ours.family)?;
            // SAFETY: the program vouches for it; nothing else is made with the descriptor.
            let r: c_int = unsafe { kernel!(SYS_ioctl, kernels.raw(), request, arg) };
            return if r == -1 { Err(Error::try_from_errno(errno()).unwrap_or(Error::NoTty)) } else { Ok(r) };
        }
        // SAFETY: the program vouches for it.
        let value = unsafe { ptr::value_mut(arg.cast::<c_int>()) }?;
        *value = client::ioctl(server, &ours, request)?;
        Ok(0)
    })
}
