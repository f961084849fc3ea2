//! Sending and receiving: pointer to slice, error to errno, nothing else. EPIPE raises SIGPIPE on a stream, as send(2)
//! says, unless MSG_NOSIGNAL is given.

use crate::boundary::{boundary, os};
use crate::fdtable::{self, Desc};
use crate::{cmsg, probe, ptr};
use std::ffi::{c_int, c_uint, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use usersock::error::{Error, Result};
use usersock::inet::Socket;
use usersock::sock::addr::AF_INET6;
use usersock::sock::msg::{RecvMsg, SendMsg};

/// Most bytes that one recv with MSG_TRUNC throws away when it has no place for them.
const DISCARD_MAX: usize = 1 << 20;

pub(crate) fn send_msg(s: &Socket, msg: &mut SendMsg<'_>) -> Result<usize> {
    let nosignal = msg.flags & libc::MSG_NOSIGNAL != 0;
    let r = s.sendmsg(msg);
    signalled(s, r, nosignal)
}

/// What was sent; where the peer is gone, SIGPIPE before that is said.
pub(crate) fn signalled(s: &Socket, r: Result<usize>, nosignal: bool) -> Result<usize> {
    if r == Err(Error::Pipe) && !nosignal && s.sock().proto().is_stream() {
        // SAFETY: sends a signal to this thread, as the kernel would.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
    r
}

/// A message of `len` bytes at `buf`. Memory that is not there shows when the protocol comes to copy, behind what it
/// checks before, as in Linux; an address no program can have shows at once.
/// # Safety
/// `buf` is readable for `len` bytes, or EFAULT is the answer.
unsafe fn message<'a>(
    buf: *const c_void,
    len: usize,
    flags: c_int,
    iov: &'a mut [IoSlice<'a>; 1],
) -> Result<SendMsg<'a>> {
    // SAFETY: the caller vouches for `buf` and `len`.
    match unsafe { ptr::bytes(buf, len) } {
        Ok(bytes) => {
            iov[0] = IoSlice::new(bytes);
            Ok(SendMsg::new(iov, flags))
        }
        Err(_) if !probe::foreign(buf as usize, len) => Ok(SendMsg::lacking(&[], len, flags)),
        Err(e) => Err(e),
    }
}

/// A message of the buffers that are there, of `len` bytes in all.
fn of_slices<'a>((there, bad): &'a (Vec<IoSlice<'a>>, bool), len: usize, flags: c_int) -> SendMsg<'a> {
    if *bad { SendMsg::lacking(there, len, flags) } else { SendMsg::new(there, flags) }
}

/// Sends `len` bytes at `buf`.
/// # Safety
/// As [`message`].
unsafe fn send_bytes(s: &Socket, buf: *const c_void, len: usize, flags: c_int) -> Result<isize> {
    let mut iov = [IoSlice::new(&[])];
    // SAFETY: passed on.
    send_msg(s, &mut unsafe { message(buf, len, flags, &mut iov) }?).map(|n| n as isize)
}

/// Receives into `len` bytes at `buf`. A bad place shows when there is something to put there: a stream keeps its bytes
/// then, a datagram is lost, as in Linux. MSG_TRUNC on a stream needs no place at all.
/// # Safety
/// `buf` is writable for `len` bytes, or EFAULT is the answer.
unsafe fn recv_into(
    s: &Socket,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    name: &mut Option<SocketAddr>,
) -> Result<usize> {
    let mut receive = |bytes: &mut [u8], flags: c_int| {
        let mut iov = [IoSliceMut::new(bytes)];
        let mut msg = RecvMsg::new(&mut iov, flags);
        let r = s.recvmsg(&mut msg);
        *name = msg.name;
        r
    };
    // SAFETY: the caller vouches for `buf` and `len`.
    match unsafe { ptr::bytes_mut(buf, len) } {
        Ok(bytes) => receive(bytes, flags),
        Err(_) if probe::foreign(buf as usize, len) => Err(Error::Fault),
        Err(_) => {
            let stream = s.sock().proto().is_stream();
            let special = flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) != 0;
            if stream && !special && flags & libc::MSG_TRUNC != 0 {
                return receive(&mut vec![0; len.min(DISCARD_MAX)], flags);
            }
            let look = if stream { libc::MSG_PEEK } else { 0 };
            match receive(&mut [0], flags & !(libc::MSG_WAITALL | libc::MSG_TRUNC) | look)? {
                0 => Ok(0),
                _ => Err(Error::Fault),
            }
        }
    }
}

/// Receives into the buffers of an iovec array, of which one may be nowhere: as in [`recv_into`] that shows when bytes
/// are to go there.
/// # Safety
/// `iov` is `count` iovecs, each writable or EFAULT is the answer, none overlapping.
unsafe fn recv_vector(
    s: &Socket,
    iov: *const libc::iovec,
    count: usize,
    flags: c_int,
    take: impl FnOnce(&mut RecvMsg<'_, '_>),
) -> Result<usize> {
    // SAFETY: passed on.
    let (mut iov, bad) = unsafe { ptr::io_slices_mut(iov, count) }?;
    let stream = s.sock().proto().is_stream() && flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) == 0;
    let room: usize = iov.iter().map(|b| b.len()).sum();
    let mut nowhere = [0];
    if bad && stream {
        // Its bytes stay: a look at how many there are.
        let look = flags & !(libc::MSG_WAITALL | libc::MSG_TRUNC) | libc::MSG_PEEK;
        let mut place = vec![0; room + 1];
        if s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut place)], look))? > room {
            return Err(Error::Fault);
        }
    } else if bad {
        iov.push(IoSliceMut::new(&mut nowhere));
    }
    let mut msg = RecvMsg::new(&mut iov, flags);
    let n = s.recvmsg(&mut msg)?;
    if bad && n > room {
        return Err(Error::Fault);
    }
    take(&mut msg);
    Ok(n)
}

/// As write(2), for any descriptor.
/// # Safety
/// `buf` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_write(fd: c_int, buf: *const c_void, len: usize) -> isize {
    boundary(|| match fdtable::get(fd) {
        // SAFETY: the caller vouches for `buf` and `len`.
        Some(Desc::Socket(s)) => unsafe { send_bytes(&s, buf, len, 0) },
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
        // SAFETY: passes the program's own arguments to the kernel.
        Some(Desc::Epoll(_)) | None => os(unsafe { libc::write(fd, buf, len) }),
    })
}

/// As writev(2), for any descriptor.
/// # Safety
/// `iov` is `count` iovecs, each readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_writev(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize {
    boundary(|| match fdtable::get(fd) {
        Some(Desc::Socket(s)) => {
            let count = usize::try_from(count).map_err(|_| Error::Inval)?;
            // SAFETY: the caller vouches for the iovecs.
            let slices = unsafe { ptr::io_slices(iov, count) }?;
            // SAFETY: as above.
            let len = unsafe { ptr::iov_len(iov, count) }?;
            if len == 0 {
                // writev(2) of nothing is nothing; write(2) of nothing is an empty datagram.
                return Ok(0);
            }
            send_msg(&s, &mut of_slices(&slices, len, 0)).map(|n| n as isize)
        }
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
        // SAFETY: passes the program's own arguments to the kernel.
        Some(Desc::Epoll(_)) | None => os(unsafe { libc::writev(fd, iov, count) }),
    })
}

/// As read(2), for any descriptor.
/// # Safety
/// `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_read(fd: c_int, buf: *mut c_void, len: usize) -> isize {
    boundary(|| match fdtable::get(fd) {
        // read(2) of nothing is nothing; recv(2) of nothing may wait.
        Some(Desc::Socket(_)) if len == 0 => Ok(0),
        // SAFETY: the caller vouches for `buf` and `len`.
        Some(Desc::Socket(s)) => unsafe { recv_into(&s, buf, len, 0, &mut None) }.map(|n| n as isize),
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
        // SAFETY: passes the program's own arguments to the kernel.
        Some(Desc::Epoll(_)) | None => os(unsafe { libc::read(fd, buf, len) }),
    })
}

/// As readv(2), for any descriptor.
/// # Safety
/// `iov` is `count` iovecs, each writable, none overlapping.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_readv(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize {
    boundary(|| match fdtable::get(fd) {
        Some(Desc::Socket(s)) => {
            let count = usize::try_from(count).map_err(|_| Error::Inval)?;
            // SAFETY: the caller vouches for the iovecs.
            if unsafe { ptr::iov_len(iov, count) }? == 0 {
                return Ok(0);
            }
            // SAFETY: as above.
            unsafe { recv_vector(&s, iov, count, 0, |_| ()) }.map(|n| n as isize)
        }
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
        // SAFETY: passes the program's own arguments to the kernel.
        Some(Desc::Epoll(_)) | None => os(unsafe { libc::readv(fd, iov, count) }),
    })
}

/// As send(2). Returns the bytes accepted, or -1 with errno EAGAIN, EBADF, ECONNRESET, EFAULT, EINTR, ENOTCONN,
/// ENOTSOCK, EOPNOTSUPP or EPIPE.
/// # Safety
/// `buf` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        // SAFETY: the caller vouches for `buf` and `len`.
        unsafe { send_bytes(&s, buf, len, flags) }
    })
}

/// As sendto(2). A null `addr` is send(2).
/// # Safety
/// `buf` is readable for `len` bytes, `addr` is null or readable for `alen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    addr: *const libc::sockaddr,
    alen: libc::socklen_t,
) -> isize {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        let mut iov = [IoSlice::new(&[])];
        // SAFETY: the caller vouches for `buf` and `len`.
        let mut msg = unsafe { message(buf, len, flags, &mut iov) }?;
        if !addr.is_null() {
            if alen as usize > size_of::<libc::sockaddr_storage>() {
                return Err(Error::Inval);
            }
            // SAFETY: the caller vouches for `addr` and `alen`.
            unsafe { ptr::destination(addr, alen, &mut msg) }?;
        }
        send_msg(&s, &mut msg).map(|n| n as isize)
    })
}

/// # Safety
/// `hdr` is as sendmsg(2) wants it.
unsafe fn sendmsg_one(s: &Socket, hdr: &libc::msghdr, flags: c_int) -> Result<usize> {
    // The name first, as copy_msghdr_from_user has it.
    let mut named = SendMsg::new(&[], flags);
    if !hdr.msg_name.is_null() && hdr.msg_namelen as i32 <= -1 {
        return Err(Error::Inval);
    }
    if !hdr.msg_name.is_null() && hdr.msg_namelen > 0 {
        // More than any address has is cut off.
        let len = hdr.msg_namelen.min(size_of::<libc::sockaddr_storage>() as u32);
        // SAFETY: the caller vouches for the name.
        unsafe { ptr::destination(hdr.msg_name.cast(), len, &mut named) }?;
    }
    if hdr.msg_iovlen > 1024 {
        return Err(Error::MsgSize);
    }
    // SAFETY: the caller vouches for the iovecs.
    let slices = unsafe { ptr::io_slices(hdr.msg_iov, hdr.msg_iovlen) }?;
    // SAFETY: as above.
    let len = unsafe { ptr::iov_len(hdr.msg_iov, hdr.msg_iovlen) }?;
    let mut msg = of_slices(&slices, len, flags);
    (msg.name, msg.odd_name) = (named.name, named.odd_name);
    if hdr.msg_controllen > 0 {
        if hdr.msg_controllen > i32::MAX as usize {
            return Err(Error::NoBufs);
        }
        // SAFETY: the caller vouches for the control data.
        msg.control = cmsg::parse(unsafe { ptr::bytes(hdr.msg_control, hdr.msg_controllen) }?);
    }
    send_msg(s, &mut msg)
}

/// As sendmsg(2). Also EMSGSIZE for more than 1024 iovecs.
/// # Safety
/// `hdr` points to a msghdr whose parts are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendmsg(fd: c_int, hdr: *const libc::msghdr, flags: c_int) -> isize {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        // SAFETY: the caller vouches for `hdr`.
        unsafe { sendmsg_one(&s, ptr::value(hdr)?, flags) }.map(|n| n as isize)
    })
}

/// As sendmmsg(2): an error is reported only if the first message fails.
/// # Safety
/// `vec` is `count` mmsghdrs, each as sendmsg(2) wants it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sendmmsg(fd: c_int, vec: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        let count = count.min(1024) as usize;
        for i in 0..count {
            // SAFETY: the caller vouches for `count` entries.
            let m = unsafe { ptr::value_mut(vec.wrapping_add(i)) }?;
            // SAFETY: the caller vouches for each message.
            match unsafe { sendmsg_one(&s, &m.msg_hdr, flags) } {
                Ok(n) => m.msg_len = n as c_uint,
                Err(e) if i == 0 => return Err(e),
                Err(_) => return Ok(i as c_int),
            }
        }
        Ok(count as c_int)
    })
}

/// As recv(2). Returns the bytes received, 0 at the end of the stream, or -1 with errno EAGAIN, EBADF, ECONNREFUSED,
/// ECONNRESET, EFAULT, EINTR, EINVAL, ENOTCONN, ENOTSOCK.
/// # Safety
/// `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        // SAFETY: the caller vouches for `buf` and `len`.
        unsafe { recv_into(&s, buf, len, flags, &mut None) }.map(|n| n as isize)
    })
}

/// As recvfrom(2). A stream leaves the source address empty (`*alen` = 0).
/// # Safety
/// `buf` is writable for `len` bytes; `addr` is null or writable for `*alen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    addr: *mut libc::sockaddr,
    alen: *mut libc::socklen_t,
) -> isize {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        let mut name = None;
        // SAFETY: the caller vouches for `buf` and `len`.
        let n = unsafe { recv_into(&s, buf, len, flags, &mut name) }?;
        // SAFETY: the caller vouches for `addr` and `alen`.
        unsafe { ptr::put_sockaddr(name, addr, alen) }?;
        Ok(n as isize)
    })
}

/// # Safety
/// `hdr` is as recvmsg(2) wants it.
unsafe fn recvmsg_one(s: &Socket, hdr: &mut libc::msghdr, flags: c_int) -> Result<usize> {
    if !hdr.msg_name.is_null() && hdr.msg_namelen as i32 <= -1 {
        return Err(Error::Inval);
    }
    if hdr.msg_iovlen > 1024 {
        return Err(Error::MsgSize);
    }
    let (mut name, mut control, mut out_flags) = (None, Vec::new(), 0);
    let take = |msg: &mut RecvMsg<'_, '_>| {
        (name, control, out_flags) = (msg.name, std::mem::take(&mut msg.control), msg.out_flags);
    };
    // SAFETY: the caller vouches for the iovecs.
    let n = unsafe { recv_vector(s, hdr.msg_iov, hdr.msg_iovlen, flags, take) }?;
    if !hdr.msg_name.is_null() {
        // SAFETY: the caller vouches for the name and its length.
        unsafe { ptr::put_sockaddr(name, hdr.msg_name.cast(), &mut hdr.msg_namelen) }?;
    } else {
        hdr.msg_namelen = 0;
    }
    let v6 = s.sock().family == AF_INET6;
    // SAFETY: the caller vouches for the control buffer.
    let buf =
        unsafe { ptr::bytes_mut(hdr.msg_control, if hdr.msg_control.is_null() { 0 } else { hdr.msg_controllen }) }?;
    let (used, truncated) = cmsg::emit(&control, v6, buf);
    hdr.msg_controllen = used;
    hdr.msg_flags = out_flags | if truncated { libc::MSG_CTRUNC } else { 0 };
    hdr.msg_flags |= flags & libc::MSG_CMSG_CLOEXEC;
    Ok(n)
}

/// As recvmsg(2).
/// # Safety
/// `hdr` points to a msghdr whose parts are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmsg(fd: c_int, hdr: *mut libc::msghdr, flags: c_int) -> isize {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        // SAFETY: the caller vouches for `hdr`.
        unsafe { recvmsg_one(&s, ptr::value_mut(hdr)?, flags) }.map(|n| n as isize)
    })
}

/// As recvmmsg(2): MSG_WAITFORONE waits only for the first message; the timeout is looked at between messages, as in
/// Linux.
/// # Safety
/// `vec` is `count` mmsghdrs, each as recvmsg(2) wants it; `timeout` is null or a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_recvmmsg(
    fd: c_int,
    vec: *mut libc::mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    boundary(|| {
        let s = fdtable::socket(fd)?;
        let limit = if timeout.is_null() {
            None
        } else {
            // SAFETY: the caller vouches for `timeout`.
            let t = unsafe { ptr::value(timeout) }?;
            if t.tv_sec < 0 || !(0..1_000_000_000).contains(&t.tv_nsec) {
                return Err(Error::Inval);
            }
            Some(Instant::now() + Duration::new(t.tv_sec as u64, t.tv_nsec as u32))
        };
        if flags & libc::MSG_ERRQUEUE == 0 {
            // An error that waits ends the call before anything is received (do_recvmmsg).
            s.sock().take_error()?;
        }
        let mut flags_now = flags & !libc::MSG_WAITFORONE;
        for i in 0..count.min(1024) as usize {
            // SAFETY: the caller vouches for `count` entries.
            let m = unsafe { ptr::value_mut(vec.wrapping_add(i)) }?;
            // SAFETY: the caller vouches for each message.
            match unsafe { recvmsg_one(&s, &mut m.msg_hdr, flags_now) } {
                Ok(n) => m.msg_len = n as c_uint,
                Err(e) if i == 0 => return Err(e),
                Err(_) => return Ok(i as c_int),
            }
            if flags & libc::MSG_WAITFORONE != 0 {
                flags_now |= libc::MSG_DONTWAIT;
            }
            if limit.is_some_and(|l| Instant::now() >= l) {
                return Ok(i as c_int + 1);
            }
        }
        Ok(count.min(1024) as c_int)
    })
}
