//! Sockets of a stack server, USERSOCK_SERVER: real AF_UNIX descriptors, on which nearly all calls are the kernel's.
//! The few that are not are here; they find out what a descriptor is by its names, so that there is nothing to keep.
//! Above: `control`, `data`, `descriptors`. Below: `usersock_spliced::client`.

use crate::real::kernel;
use crate::role::{Role, role};
use crate::{control, data, ready};
use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::sync::OnceLock;
use usersock::env::OsEntropy;
use usersock::error::{Error, Result};
use usersock_ffi::boundary::{boundary, errno, set_errno};
use usersock_ffi::{flowlabel, ptr};
use usersock_spliced::client::{self, Connect, Ours};
use usersock_spliced::instance::{Instance, VARIABLE};

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
fn find(fd: c_int) -> Option<(&'static Instance, Ours)> {
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

fn found(fd: c_int) -> Result<(&'static Instance, Ours)> {
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
unsafe fn name<'a>(addr: *const libc::sockaddr, len: libc::socklen_t) -> Result<&'a [u8]> {
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

/// getsockname(2), or getpeername(2) where `peer`.
/// # Safety
/// As getsockname(2).
pub(crate) unsafe fn address(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t, peer: bool) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        let a = match peer {
            true => client::peer_addr(server, &ours)?,
            false => client::local_addr(server, &ours)?,
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
        if (*len as c_int) < 0 {
            return Err(Error::Inval);
        }
        client::option(server, fd, &ours, (level, name), *len as usize, |bytes| {
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

/// MSG_FASTOPEN with a name: connects. The SYN has no data, as one for which there is no cookie.
/// # Safety
/// `addr` is readable for `len` bytes.
unsafe fn connects(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> bool {
    // SAFETY: as the caller says.
    let family = unsafe { name(addr, len) }.ok().and_then(|bytes| bytes.first_chunk().copied());
    if family.map(u16::from_ne_bytes) == Some(libc::AF_UNSPEC as u16) {
        set_errno(libc::EOPNOTSUPP);
        return false;
    }
    // SAFETY: as the caller says.
    unsafe { connect(fd, addr, len) == 0 }
}

/// sendto(2) with a name, which a stream ignores.
/// # Safety
/// `buf` is readable for `len` bytes, `addr` for `alen`.
pub(crate) unsafe fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    addr: *const libc::sockaddr,
    alen: libc::socklen_t,
) -> isize {
    // SAFETY: the program vouches for it.
    if flags & libc::MSG_FASTOPEN != 0 && !unsafe { connects(fd, addr, alen) } {
        return -1;
    }
    // SAFETY: passed on.
    unsafe { data::real::send(fd, buf, len, flags & !libc::MSG_FASTOPEN) }
}

/// Whether the error queue is asked for: AF_UNIX does not know it, and would take the stream's bytes.
pub(crate) fn asks_for_errors(fd: c_int, flags: c_int) -> bool {
    flags & libc::MSG_ERRQUEUE != 0 && has(fd)
}

/// What is said then: nothing comes there, since options that bring something are refused.
pub(crate) fn no_errors() -> c_int {
    set_errno(libc::EAGAIN);
    -1
}

/// recvfrom(2) that asks for a name, of which a stream has none.
/// # Safety
/// `buf` is writable for `len` bytes; `addr` and `alen` are as recvfrom(2) has them.
pub(crate) unsafe fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    addr: *mut libc::sockaddr,
    alen: *mut libc::socklen_t,
) -> isize {
    // SAFETY: the program vouches for it. What the kernel refuses, it refuses of a name of AF_UNIX, too.
    let Some(given) = unsafe { ptr::value_mut(alen) }.ok().filter(|given| **given as c_int >= 0) else {
        // SAFETY: passed on.
        return unsafe { data::real::recvfrom(fd, buf, len, flags, addr, alen) };
    };
    // SAFETY: passed on.
    let n = unsafe { data::real::recv(fd, buf, len, flags) };
    if n >= 0 {
        *given = 0;
    }
    n
}

/// sendmsg(2) with a name or control data.
/// # Safety
/// As sendmsg(2).
pub(crate) unsafe fn sendmsg(fd: c_int, hdr: *const libc::msghdr, flags: c_int) -> isize {
    // SAFETY: `is_special` has read it.
    let mut plain = unsafe { *hdr };
    if flags & libc::MSG_FASTOPEN != 0
        && !plain.msg_name.is_null()
        // SAFETY: the program vouches for the name.
        && !unsafe { connects(fd, plain.msg_name.cast(), plain.msg_namelen) }
    {
        return -1;
    }
    let flags = flags & !libc::MSG_FASTOPEN;
    plain.msg_name = std::ptr::null_mut();
    plain.msg_namelen = 0;
    // SAFETY: the program vouches for the control data. What cannot be read is left: the kernel says so.
    if unsafe { ptr::bytes(plain.msg_control, plain.msg_controllen) }.is_ok_and(client::tcp_ignores) {
        (plain.msg_control, plain.msg_controllen) = (std::ptr::null_mut(), 0);
    }
    // SAFETY: the program's message without its name.
    unsafe { data::real::sendmsg(fd, &plain, flags) }
}

/// Messages of one sendmmsg(2), at most (UIO_MAXIOV).
const MAX_MESSAGES: c_uint = 1024;
/// Bytes that the kernel takes of one, at most (MAX_RW_COUNT).
const MAX_BYTES: usize = 0x7fff_f000;

/// sendmmsg(2), of which one has a name or control data: one by one, as the kernel does. It ends at the first that is
/// refused or was not taken wholly, so that no bytes are left out of the stream.
/// # Safety
/// As sendmmsg(2).
pub(crate) unsafe fn sendmmsg(fd: c_int, vec: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int {
    let mut sent = 0;
    let before = errno();
    // An error is told of the first alone.
    let ended = |sent| match sent {
        0 => -1,
        n => {
            set_errno(before);
            n
        }
    };
    for i in 0..count.min(MAX_MESSAGES) as usize {
        // SAFETY: the program vouches for `count` of them.
        let Ok(m) = (unsafe { ptr::value_mut(vec.wrapping_add(i)) }) else {
            set_errno(libc::EFAULT);
            return ended(sent);
        };
        // SAFETY: it can be read.
        let n = unsafe { sendmsg(fd, &m.msg_hdr, flags) };
        if n == -1 {
            return ended(sent);
        }
        m.msg_len = n as c_uint;
        sent += 1;
        let parts = 0..m.msg_hdr.msg_iovlen;
        // SAFETY: the kernel has just read them.
        let len = parts.map(|i| unsafe { (*m.msg_hdr.msg_iov.add(i)).iov_len }).fold(0, usize::wrapping_add);
        if (n as usize) < len.min(MAX_BYTES) {
            break;
        }
    }
    sent
}

/// Takes the room for a name out of a message, so that the kernel writes none; gives what it was. What the kernel
/// refuses (less than 0) stays.
fn take_room(hdr: &mut libc::msghdr) -> libc::socklen_t {
    let room = hdr.msg_namelen;
    if !hdr.msg_name.is_null() {
        hdr.msg_namelen = (room as c_int).min(0) as libc::socklen_t;
    }
    room
}

/// Afterwards: a message of a stream has a name of no bytes, one that was not received its room.
fn give_room(hdr: &mut libc::msghdr, room: libc::socklen_t, received: bool) {
    hdr.msg_namelen = if received && !hdr.msg_name.is_null() { 0 } else { room };
}

/// recvmsg(2) that asks for a name.
/// # Safety
/// As recvmsg(2).
pub(crate) unsafe fn recvmsg(fd: c_int, hdr: *mut libc::msghdr, flags: c_int) -> isize {
    // SAFETY: `is_named` has read it, and the program vouches that it can be written.
    let hdr = unsafe { &mut *hdr };
    let room = take_room(hdr);
    // SAFETY: the program's message.
    let n = unsafe { data::real::recvmsg(fd, hdr, flags) };
    give_room(hdr, room, n >= 0);
    n
}

/// recvmmsg(2) of which a message asks for a name.
/// # Safety
/// As recvmmsg(2).
pub(crate) unsafe fn recvmmsg(
    fd: c_int,
    vec: *mut libc::mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    let mut rooms = [0; MAX_MESSAGES as usize];
    // SAFETY: the program vouches for `count` of them; the kernel says so of one that cannot be written.
    let message = |i| unsafe { ptr::value_mut(vec.wrapping_add(i)) };
    let mut known = 0;
    for room in rooms.iter_mut().take(count as usize) {
        let Ok(m) = message(known) else { break };
        *room = take_room(&mut m.msg_hdr);
        known += 1;
    }
    // SAFETY: the program's messages.
    let n = unsafe { data::real::recvmmsg(fd, vec, count, flags, timeout) };
    for (i, room) in rooms.iter().enumerate().take(known) {
        if let Ok(m) = message(i) {
            give_room(&mut m.msg_hdr, *room, (i as c_int) < n);
        }
    }
    n
}

/// Whether a message to be sent has a name or control data, and its socket is one of the server's.
/// # Safety
/// `hdr` is null or a msghdr.
pub(crate) unsafe fn is_special(fd: c_int, hdr: *const libc::msghdr) -> bool {
    // SAFETY: as the caller says.
    role() == Role::Spliced && unsafe { is_more(hdr) } && has(fd)
}

/// Whether a message has more than bytes.
/// # Safety
/// `hdr` is null or a msghdr.
unsafe fn is_more(hdr: *const libc::msghdr) -> bool {
    usersock_ffi::probe::readable(hdr as usize, size_of::<libc::msghdr>())
        // SAFETY: it can be read.
        && unsafe { !(*hdr).msg_name.is_null() || (*hdr).msg_controllen > 0 }
}

/// As [`is_special`], of any of `count` messages.
/// # Safety
/// `vec` is `count` mmsghdrs.
pub(crate) unsafe fn any_is_special(fd: c_int, vec: *const libc::mmsghdr, count: c_uint) -> bool {
    role() == Role::Spliced
        && (0..count.min(MAX_MESSAGES) as usize).any(|i| {
            // SAFETY: as the caller says.
            unsafe { is_more(&raw const (*vec.wrapping_add(i)).msg_hdr) }
        })
        && has(fd)
}

/// Whether a message has room for a name, and its socket is one of the server's.
/// # Safety
/// `hdr` is null or a msghdr.
pub(crate) unsafe fn is_named(fd: c_int, hdr: *const libc::msghdr) -> bool {
    role() == Role::Spliced
        && usersock_ffi::probe::readable(hdr as usize, size_of::<libc::msghdr>())
        // SAFETY: it can be read.
        && !unsafe { (*hdr).msg_name }.is_null()
        && has(fd)
}

/// As [`is_named`], of any of `count` messages.
/// # Safety
/// `vec` is `count` mmsghdrs.
pub(crate) unsafe fn any_is_named(fd: c_int, vec: *const libc::mmsghdr, count: c_uint) -> bool {
    let named = |i: usize| {
        // SAFETY: as the caller says, where it can be read.
        usersock_ffi::probe::readable(vec.wrapping_add(i) as usize, size_of::<libc::mmsghdr>())
            && unsafe { !(*vec.wrapping_add(i)).msg_hdr.msg_name.is_null() }
    };
    role() == Role::Spliced && (0..count.min(MAX_MESSAGES) as usize).any(named) && has(fd)
}

/// Requests of ioctl(2) that are about the connection; the rest is the kernel's.
pub(crate) fn is_ours(request: c_ulong) -> bool {
    matches!(request, libc::TIOCOUTQ | client::SIOCOUTQNSD | client::SIOCATMARK)
}

/// ioctl(2) that gives an int.
/// # Safety
/// `arg` is an int.
pub(crate) unsafe fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    boundary(|| {
        let (server, ours) = found(fd)?;
        // SAFETY: the program vouches for it.
        let value = unsafe { ptr::value_mut(arg.cast::<c_int>()) }?;
        *value = client::ioctl(server, &ours, request)?;
        Ok(0)
    })
}
