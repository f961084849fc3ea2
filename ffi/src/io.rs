//! Sending and receiving: pointer to slice, error to errno, nothing else. EPIPE raises SIGPIPE on a stream, as send(2)
//! says, unless MSG_NOSIGNAL is given.

use crate::cancel::blocking;
use crate::fdtable;
use crate::{kernel, probe, ptr};
use std::ffi::{c_int, c_long, c_uint, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::internal::sock::AF_INET6;
use usersock::net::Socket;
use usersock::sock::cmsg;
use usersock::sock::msg::{RecvMsg, SendMsg};

#[inline]
pub(crate) fn send_msg(s: &Socket, msg: &mut SendMsg<'_>) -> Result<usize> {
    let nosignal = msg.flags & libc::MSG_NOSIGNAL != 0;
    let r = s.sendmsg(msg);
    signalled(s, r, nosignal)
}

/// Passes the result of a send on; raises SIGPIPE first if it is EPIPE.
#[inline]
pub(crate) fn signalled(s: &Socket, r: Result<usize>, nosignal: bool) -> Result<usize> {
    if r == Err(Error::Pipe) && !nosignal {
        signal_pipe(s);
    }
    r
}

#[cold]
fn signal_pipe(s: &Socket) {
    if s.sock().proto().is_stream() {
        // SAFETY: sends a signal to this thread, as the kernel would.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
}

// Each call of a program has enough frames.
#[inline(always)]
pub(crate) fn send_slices(s: &Socket, iov: &[IoSlice<'_>], flags: c_int) -> Result<isize> {
    send_msg(s, &mut SendMsg::new(iov, flags).probed(probe::readable_bytes)).map(|n| n as isize)
}

pub(crate) fn recv_slices(s: &Socket, iov: &mut [IoSliceMut<'_>], flags: c_int) -> Result<isize> {
    s.recvmsg(&mut RecvMsg::new(iov, flags).probed(probe::writable_bytes)).map(|n| n as isize)
}

/// Receives into `len` bytes at `buf`. A bad address is EFAULT only when data is copied to it: a stream keeps its bytes
/// then, a datagram is lost, as in Linux. MSG_TRUNC on a stream needs no buffer.
/// # Safety
/// `buf` is writable for `len` bytes, or the result is EFAULT.
#[inline(always)]
unsafe fn recv_into(
    s: &Socket,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    name: &mut Option<SocketAddr>,
) -> Result<usize> {
    // SAFETY: the caller vouches for `buf` and `len`.
    let mut iov = [IoSliceMut::new(unsafe { ptr::to_write(buf, len) }?)];
    let mut msg = RecvMsg::new(&mut iov, flags).probed(probe::writable_bytes);
    let r = s.recvmsg(&mut msg);
    *name = msg.name;
    r
}

/// As write(2), for any descriptor.
/// # Safety
/// `buf` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_write(fd: c_int, buf: *const c_void, len: usize) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        // SAFETY: the caller vouches for `buf` and `len`.
        Some(s) => send_slices(&s, &[IoSlice::new(unsafe { ptr::to_read(buf, len) }?)], 0),
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_write, [fd as c_long, buf as c_long, len as c_long]) },
    })
}

/// As writev(2), for any descriptor.
/// # Safety
/// `iov` is `count` iovecs, each readable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_writev(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(s) => {
            let count = usize::try_from(count).map_err(|_| Error::Inval)?;
            // SAFETY: the caller vouches for the iovecs.
            let iov = unsafe { ptr::io_slices(iov, count) }?;
            if iov.iter().all(|v| v.is_empty()) {
                // writev(2) of no bytes does nothing; write(2) of no bytes sends an empty datagram.
                return Ok(0);
            }
            send_slices(&s, &iov, 0)
        }
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_writev, [fd as c_long, iov as c_long, count as c_long]) },
    })
}

/// As read(2), for any descriptor.
/// # Safety
/// `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_read(fd: c_int, buf: *mut c_void, len: usize) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        // read(2) of 0 bytes does nothing; recv(2) of 0 bytes may wait.
        Some(_) if len == 0 => Ok(0),
        // SAFETY: the caller vouches for `buf` and `len`.
        Some(s) => unsafe { recv_into(&s, buf, len, 0, &mut None) }.map(|n| n as isize),
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_read, [fd as c_long, buf as c_long, len as c_long]) },
    })
}

/// As readv(2), for any descriptor.
/// # Safety
/// `iov` is `count` iovecs, each writable, none overlapping.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_readv(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(s) => {
            let count = usize::try_from(count).map_err(|_| Error::Inval)?;
            // SAFETY: the caller vouches for the iovecs.
            let mut iov = unsafe { ptr::io_slices_mut(iov, count) }?;
            if iov.iter().all(|v| v.is_empty()) {
                return Ok(0);
            }
            recv_slices(&s, &mut iov, 0)
        }
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_readv, [fd as c_long, iov as c_long, count as c_long]) },
    })
}

/// As send(2). Returns the bytes accepted, or -1 with errno EAGAIN, EBADF, ECONNRESET, EFAULT, EINTR, ENOTCONN,
/// ENOTSOCK, EOPNOTSUPP or EPIPE.
/// # Safety
/// `buf` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::wait(libc::SYS_sendto, [fd as c_long, buf as c_long, len as c_long, flags as c_long, 0, 0])
            };
        };
        // SAFETY: the caller vouches for `buf` and `len`.
        send_slices(&s, &[IoSlice::new(unsafe { ptr::to_read(buf, len) }?)], flags)
    })
}

/// As sendto(2). A null `addr` is send(2).
/// # Safety
/// `buf` is readable for `len` bytes, `addr` is null or readable for `alen`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    addr: *const libc::sockaddr,
    alen: libc::socklen_t,
) -> isize {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::wait(
                    libc::SYS_sendto,
                    [fd as c_long, buf as c_long, len as c_long, flags as c_long, addr as c_long, alen as c_long],
                )
            };
        };
        // SAFETY: the caller vouches for `buf` and `len`.
        let iov = [IoSlice::new(unsafe { ptr::to_read(buf, len) }?)];
        let mut msg = SendMsg::new(&iov, flags).probed(probe::readable_bytes);
        if !addr.is_null() {
            if alen as usize > size_of::<libc::sockaddr_storage>() {
                return Err(Error::Inval);
            }
            // SAFETY: the caller vouches for `addr` and `alen`.
            unsafe { ptr::destination(addr, alen, &s, &mut msg) }?;
        }
        send_msg(&s, &mut msg).map(|n| n as isize)
    })
}

/// What became of a message.
struct Sent {
    bytes: usize,
    /// All its bytes were taken from the program's memory.
    whole: bool,
    /// The name it was sent to; None: the peer.
    to: Option<SocketAddr>,
}

/// EINVAL: MSG_CMSG_COMPAT, which is the kernel's own, for programs of 32 bits.
fn not_compat(flags: c_int) -> Result<()> {
    const MSG_CMSG_COMPAT: c_int = c_int::MIN;
    if flags & MSG_CMSG_COMPAT != 0 { Err(Error::Inval) } else { Ok(()) }
}

/// Sends a message by `send`, which leaves its softirq work to the caller ([`Socket::sendmsg_queued`]).
/// # Safety
/// `hdr` is as for sendmsg(2).
#[inline]
unsafe fn sendmsg_one(
    s: &Socket,
    hdr: &libc::msghdr,
    flags: c_int,
    send: impl FnOnce(&mut SendMsg<'_>) -> Result<usize>,
) -> Result<Sent> {
    not_compat(flags)?;
    // The name first, as copy_msghdr_from_user has it.
    let mut named = SendMsg::new(&[], flags);
    if !hdr.msg_name.is_null() && hdr.msg_namelen as i32 <= -1 {
        return Err(Error::Inval);
    }
    if !hdr.msg_name.is_null() && hdr.msg_namelen > 0 {
        // Bytes beyond the largest address are ignored.
        let len = hdr.msg_namelen.min(size_of::<libc::sockaddr_storage>() as u32);
        // SAFETY: the caller vouches for the name.
        unsafe { ptr::destination(hdr.msg_name.cast(), len, s, &mut named) }?;
    }
    if hdr.msg_iovlen > 1024 {
        return Err(Error::MsgSize);
    }
    // SAFETY: the caller vouches for the iovecs.
    let slices = unsafe { ptr::io_slices(hdr.msg_iov, hdr.msg_iovlen) }?;
    let mut msg = SendMsg::new(&slices, flags).probed(probe::readable_bytes);
    (msg.name, msg.odd_name) = (named.name, named.odd_name);
    if hdr.msg_controllen > 0 {
        if hdr.msg_controllen > i32::MAX as usize {
            return Err(Error::NoBufs);
        }
        // SAFETY: the caller vouches for the control data.
        msg.control = cmsg::parse(unsafe { ptr::bytes(hdr.msg_control, hdr.msg_controllen) }?);
    }
    let nosignal = flags & libc::MSG_NOSIGNAL != 0;
    let sent = send(&mut msg);
    let bytes = signalled(s, sent, nosignal)?;
    Ok(Sent { bytes, whole: msg.remaining() == 0, to: named.name })
}

/// EINVAL for a message on a socket of the kernel that passes one of our descriptors (SCM_RIGHTS): the other process
/// would get the AF_UNIX socket that reserves the number, and not our socket. All other checks of the message are left
/// to the kernel.
/// # Safety
/// `hdr` is null or a msghdr whose control data is readable.
pub unsafe fn passes_ours_on(hdr: *const libc::msghdr) -> Result<()> {
    // SAFETY: the caller vouches for `hdr`.
    let Ok(hdr) = (unsafe { ptr::value(hdr) }) else { return Ok(()) };
    if hdr.msg_control.is_null() || hdr.msg_controllen == 0 {
        return Ok(());
    }
    // SAFETY: the caller vouches for the control data.
    let Ok(control) = (unsafe { ptr::bytes(hdr.msg_control, hdr.msg_controllen) }) else { return Ok(()) };
    match cmsg::rights(control).into_iter().any(|fd| fdtable::get(fd).is_some()) {
        true => Err(Error::Inval),
        false => Ok(()),
    }
}

/// As sendmsg(2). Also EMSGSIZE for more than 1024 iovecs.
/// # Safety
/// `hdr` points to a msghdr whose parts are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_sendmsg(fd: c_int, hdr: *const libc::msghdr, flags: c_int) -> isize {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: the caller vouches for `hdr`.
            unsafe { passes_ours_on(hdr) }?;
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::wait(libc::SYS_sendmsg, [fd as c_long, hdr as c_long, flags as c_long]) };
        };
        // SAFETY: the caller vouches for `hdr`.
        let sent = unsafe { sendmsg_one(&s, ptr::value(hdr)?, flags, |msg| s.sendmsg_queued(msg)) };
        s.stack().run_pending();
        sent.map(|sent| sent.bytes as isize)
    })
}

/// Messages of sendmmsg(2) for which softirq runs together, at most: as many packets as one of its turns takes.
const TURN: usize = 64;

/// The messages of sendmmsg(2) on their way.
struct Sending<'a> {
    s: &'a Socket,
    vec: *mut libc::mmsghdr,
    count: usize,
    flags: c_int,
    /// Several wait for a common turn of softirq. Messages of a stream need the room that acknowledgements make, and
    /// plug-ins do as they like.
    gathers: bool,
    /// How many have been sent.
    sent: usize,
    /// Where the last one went whose softirq has run.
    answered: Option<Option<SocketAddr>>,
    /// No more are sent: why, unless some of a message's bytes were left.
    over: Option<Result<()>>,
}

impl Sending<'_> {
    /// Sends by `send` until softirq is to run. Of datagrams it runs after the first to a destination, so that the
    /// error it causes ends the call where it does in Linux, which runs softirq after each (ECONNREFUSED); those that
    /// follow to the same destination wait for a common turn, but for one with control data, which may have another
    /// source.
    fn until_softirq(&mut self, mut send: impl FnMut(&mut SendMsg<'_>) -> Result<usize>) {
        for queued in 1..=TURN {
            if self.sent == self.count {
                return;
            }
            // SAFETY: who made it vouches for `count` entries.
            let sent = unsafe { ptr::value_mut(self.vec.wrapping_add(self.sent)) }.and_then(|m| {
                // SAFETY: and for each message.
                let sent = unsafe { sendmsg_one(self.s, &m.msg_hdr, self.flags, &mut send) }?;
                m.msg_len = sent.bytes as c_uint;
                Ok((sent, m.msg_hdr.msg_controllen > 0))
            });
            let (sent, controlled) = match sent {
                Ok(sent) => sent,
                Err(e) => return self.over = Some(Err(e)),
            };
            self.sent += 1;
            // Bytes are left: of a stream without room, and with MSG_PROBE (__sys_sendmmsg).
            if !sent.whole {
                return self.over = Some(Ok(()));
            }
            if !self.gathers || queued == TURN || controlled || self.answered != Some(sent.to) {
                return self.answered = Some(sent.to);
            }
        }
    }

    /// Sends them, and runs softirq.
    fn run(mut self) -> Result<c_int> {
        // The first one waits, and is restarted, as one of sendmsg(2).
        self.until_softirq(|msg| self.s.sendmsg_queued(msg));
        self.s.stack().run_pending();
        while self.over.is_none() && self.sent < self.count {
            self.s.send_several(&mut |send| self.until_softirq(send));
            self.s.stack().run_pending();
        }
        match self.over {
            Some(Err(e)) if self.sent == 0 => Err(e),
            _ => Ok(self.sent as c_int),
        }
    }
}

/// As sendmmsg(2): an error is reported only if the first message fails.
/// # Safety
/// `vec` is `count` mmsghdrs, each as for sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_sendmmsg(fd: c_int, vec: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            for i in 0..count.min(1024) as usize {
                // SAFETY: the caller vouches for `count` entries; what is wrong with them is the kernel's to say.
                let Ok(m) = (unsafe { ptr::value(vec.wrapping_add(i)) }) else { break };
                // SAFETY: the caller vouches for each message.
                unsafe { passes_ours_on(&raw const m.msg_hdr) }?;
            }
            let args = [fd as c_long, vec as c_long, count as c_long, flags as c_long];
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::wait(libc::SYS_sendmmsg, args) }.map(|n| n as c_int);
        };
        let proto = s.sock().proto();
        let gathers = !proto.is_stream() && !proto.contained();
        let count = count.min(1024) as usize;
        // SAFETY of what it does: the caller vouches for the messages.
        Sending { s: &s, vec, count, flags, gathers, sent: 0, answered: None, over: None }.run()
    })
}

/// As recv(2). Returns the bytes received, 0 at the end of the stream, or -1 with errno EAGAIN, EBADF, ECONNREFUSED,
/// ECONNRESET, EFAULT, EINTR, EINVAL, ENOTCONN, ENOTSOCK.
/// # Safety
/// `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::wait(libc::SYS_recvfrom, [fd as c_long, buf as c_long, len as c_long, flags as c_long, 0, 0])
            };
        };
        // SAFETY: the caller vouches for `buf` and `len`.
        unsafe { recv_into(&s, buf, len, flags, &mut None) }.map(|n| n as isize)
    })
}

/// As recvfrom(2). A stream leaves the source address empty (`*alen` = 0).
/// # Safety
/// `buf` is writable for `len` bytes; `addr` is null or writable for `*alen`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    addr: *mut libc::sockaddr,
    alen: *mut libc::socklen_t,
) -> isize {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::wait(
                    libc::SYS_recvfrom,
                    [fd as c_long, buf as c_long, len as c_long, flags as c_long, addr as c_long, alen as c_long],
                )
            };
        };
        let mut name = None;
        // SAFETY: the caller vouches for `buf` and `len`.
        let n = unsafe { recv_into(&s, buf, len, flags, &mut name) }?;
        // SAFETY: the caller vouches for `addr` and `alen`.
        unsafe { ptr::put_sockaddr(name, addr, alen) }?;
        Ok(n as isize)
    })
}

/// Receives a message by `recv`.
/// # Safety
/// `hdr` is as for recvmsg(2).
#[inline]
unsafe fn recvmsg_one(
    s: &Socket,
    hdr: &mut libc::msghdr,
    flags: c_int,
    recv: impl FnOnce(&mut RecvMsg<'_, '_>) -> Result<usize>,
) -> Result<usize> {
    not_compat(flags)?;
    if !hdr.msg_name.is_null() && hdr.msg_namelen as i32 <= -1 {
        return Err(Error::Inval);
    }
    if hdr.msg_iovlen > 1024 {
        return Err(Error::MsgSize);
    }
    // SAFETY: the caller vouches for the iovecs.
    let iov = unsafe { ptr::io_slices_mut(hdr.msg_iov, hdr.msg_iovlen) };
    let mut iov = iov?;
    let mut msg = RecvMsg::new(&mut iov, flags).probed(probe::writable_bytes);
    let n = recv(&mut msg)?;
    if !hdr.msg_name.is_null() {
        // SAFETY: the caller vouches for the name and its length.
        unsafe { ptr::put_sockaddr(msg.name, hdr.msg_name.cast(), &mut hdr.msg_namelen) }?;
    }
    let v6 = s.sock().family == AF_INET6;
    // SAFETY: the caller vouches for the control buffer.
    let buf =
        unsafe { ptr::bytes_mut(hdr.msg_control, if hdr.msg_control.is_null() { 0 } else { hdr.msg_controllen }) }?;
    let (used, truncated) = cmsg::emit(&msg.control, v6, buf);
    hdr.msg_controllen = used;
    hdr.msg_flags = msg.out_flags | if truncated { libc::MSG_CTRUNC } else { 0 };
    hdr.msg_flags |= flags & libc::MSG_CMSG_CLOEXEC;
    Ok(n)
}

/// As recvmsg(2).
/// # Safety
/// `hdr` points to a msghdr whose parts are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_recvmsg(fd: c_int, hdr: *mut libc::msghdr, flags: c_int) -> isize {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe { kernel::wait(libc::SYS_recvmsg, [fd as c_long, hdr as c_long, flags as c_long]) };
        };
        // SAFETY: the caller vouches for `hdr`.
        unsafe { recvmsg_one(&s, ptr::value_mut(hdr)?, flags, |msg| s.recvmsg(msg)) }.map(|n| n as isize)
    })
}

/// The messages of recvmmsg(2) as they come.
struct Receiving<'a> {
    s: &'a Socket,
    vec: *mut libc::mmsghdr,
    count: usize,
    flags: c_int,
    /// When its time is over, which is looked at behind a message.
    limit: Option<Instant>,
    /// How much of it was left behind the last message.
    left: Duration,
    received: usize,
    /// No more are received: why, unless it is the time.
    over: Option<Result<()>>,
}

impl Receiving<'_> {
    /// Receives by `recv`, `most` messages or until there is a reason to end the call.
    fn next(&mut self, most: usize, mut recv: impl FnMut(&mut RecvMsg<'_, '_>) -> Result<usize>) {
        for _ in 0..most.min(self.count - self.received) {
            // SAFETY: who made it vouches for `count` entries.
            let got = unsafe { ptr::value_mut(self.vec.wrapping_add(self.received)) }.and_then(|m| {
                // SAFETY: and for each message.
                m.msg_len = unsafe { recvmsg_one(self.s, &mut m.msg_hdr, self.flags, &mut recv) }? as c_uint;
                Ok(m.msg_hdr.msg_flags)
            });
            let out_flags = match got {
                Ok(flags) => flags,
                Err(e) => return self.over = Some(Err(e)),
            };
            self.received += 1;
            let late = self.limit.is_some_and(|limit| {
                self.left = limit.saturating_sub(self.s.stack().now());
                self.left.is_zero()
            });
            // Urgent data ends the call (do_recvmmsg).
            if late || out_flags & libc::MSG_OOB != 0 {
                return self.over = Some(Ok(()));
            }
        }
    }

    /// Receives them; `asked`: the call's flags.
    fn run(&mut self, asked: c_int) -> Result<c_int> {
        // The first one waits, and is restarted, as one of recvmsg(2).
        self.next(1, |msg| self.s.recvmsg(msg));
        if asked & libc::MSG_WAITFORONE != 0 {
            self.flags |= libc::MSG_DONTWAIT;
        }
        while self.over.is_none() && self.received < self.count {
            self.s.recv_several(&mut |recv| self.next(TURN, recv));
            self.s.stack().run_pending();
        }
        match self.over {
            Some(Err(e)) if self.received == 0 => return Err(e),
            // The next call returns it. An interrupted wait is none: what there was has been received.
            Some(Err(e)) if !matches!(e, Error::Again | Error::Intr) => self.s.leave_error(e),
            _ => {}
        }
        Ok(self.received as c_int)
    }
}

/// As recvmmsg(2): MSG_WAITFORONE waits only for the first message; the timeout is checked between messages, as in
/// Linux, and what the last one left of it is written back.
/// # Safety
/// `vec` is `count` mmsghdrs, each as for recvmsg(2); `timeout` is null or a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_recvmmsg(
    fd: c_int,
    vec: *mut libc::mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    blocking(|| {
        let Some(s) = fdtable::socket(fd)? else {
            // SAFETY: passes the program's own arguments to the kernel.
            return unsafe {
                kernel::wait(
                    libc::SYS_recvmmsg,
                    [fd as c_long, vec as c_long, count as c_long, flags as c_long, timeout as c_long],
                )
            }
            .map(|n| n as c_int);
        };
        let limit = if timeout.is_null() {
            None
        } else {
            // SAFETY: the caller vouches for `timeout`.
            let t = unsafe { ptr::value(timeout) }?;
            if t.tv_sec < 0 || !(0..1_000_000_000).contains(&t.tv_nsec) {
                return Err(Error::Inval);
            }
            Some(s.stack().now() + Duration::new(t.tv_sec as u64, t.tv_nsec as u32))
        };
        if flags & libc::MSG_ERRQUEUE == 0 {
            // An error that waits ends the call before anything is received (do_recvmmsg).
            s.sock().take_error()?;
        }
        let count = count.min(1024) as usize;
        let flags_now = flags & !libc::MSG_WAITFORONE;
        // SAFETY of what it does: the caller vouches for the messages.
        let mut all =
            Receiving { s: &s, vec, count, flags: flags_now, limit, left: Duration::ZERO, received: 0, over: None };
        let received = all.run(flags)?;
        if received > 0 && !timeout.is_null() {
            // SAFETY: the caller vouches for `timeout`.
            let t = unsafe { ptr::value_mut(timeout) }?;
            (t.tv_sec, t.tv_nsec) = (all.left.as_secs() as i64, all.left.subsec_nanos().into());
        }
        Ok(received)
    })
}
