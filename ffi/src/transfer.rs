//! sendfile and splice: from a file or pipe of the kernel to a socket of ours, and from such a socket to a pipe or
//! file. Reads a file with preadv, so that its shared offset does not move during the call.

use crate::cancel::blocking;
use crate::fdtable::{self, Desc};
use crate::{kernel, probe, ptr};
use std::ffi::{c_int, c_long, c_uint};
use std::io::IoSliceMut;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::internal::sys::fd::Fd;
use usersock::net::Socket;
use usersock::sock::msg::RecvMsg;
use usersock::sock::pages::Pages;

/// Every flag splice(2) has: MOVE, NONBLOCK, MORE, GIFT.
const SPLICE_F_ALL: c_uint = 15;
const CHUNK: usize = 64 * 1024;
/// ioctl(2): whether the next byte is the urgent one.
const SIOCATMARK: u64 = 0x8905;
const PAGE: usize = 4096;
/// Bytes of an offset.
const OFF: usize = size_of::<libc::off_t>();
/// A count from here on may be too much behind an offset.
const MOST: usize = 1 << 62;

/// Sends the bytes of `pages`, and removes those that were taken; returns how many, or the error before the first one.
fn push(s: &Socket, pages: &mut Pages, flags: c_int) -> Result<usize> {
    crate::io::signalled(s, s.sendpage(pages, flags), false)
}

/// Whether a stream can send at all; what send(2) says of it without a byte.
fn may_send(s: &Socket) -> Result<()> {
    push(s, &mut Pages::default(), libc::MSG_DONTWAIT).map(drop)
}

/// Reads into pages that become packets', to the end of `pages`: at most `len` bytes, from the file's `offset`, None:
/// from where it stands. Returns how many. The kernel's copy into them is the only one.
fn fill(pages: &mut Pages, fd: c_int, len: usize, offset: Option<libc::off_t>) -> Result<usize> {
    let room = pages.reserve(len);
    let (call, at) = match offset {
        // The upper half of an offset that a register holds whole is 0.
        Some(at) => (libc::SYS_preadv, at),
        None => (libc::SYS_readv, 0),
    };
    let args = [fd as c_long, room.as_ptr() as c_long, room.len() as c_long, at, 0];
    // SAFETY: IoSliceMut is laid out as struct iovec; each is writable for its length.
    let read = unsafe { kernel::wait(call, args) };
    drop(room);
    let n = read.as_ref().map_or(0, |n| *n as usize);
    pages.commit(n);
    read.map(|_| n)
}

/// What the kernel says of these arguments of sendfile(2) without any byte: the number of a socket of ours is a socket
/// to it, so that all it checks before the first byte is checked, in its order (do_sendfile). Ok: it has no objection.
/// # Safety
/// `offset` is null or points to an off_t.
unsafe fn judge_sendfile(out_fd: c_int, in_fd: c_int, offset: *mut libc::off_t, count: usize) -> Result<()> {
    // SAFETY: the caller vouches for `offset`.
    let start = unsafe { offset.as_ref() }.copied().unwrap_or(0);
    let counts = isize::try_from(count).is_ok_and(|n| start.checked_add(n as libc::off_t).is_some());
    // A count that cannot be is refused among these checks. With any other the file would be read.
    let count = if counts { 0 } else { count };
    let args = [out_fd as c_long, in_fd as c_long, offset as c_long, count as c_long];
    // SAFETY: passes the program's own arguments to the kernel.
    unsafe { kernel::call(libc::SYS_sendfile, args) }.map(drop)
}

/// sendfile from a socket of ours, which only a pipe can take.
/// # Safety
/// `offset` is null or points to an off_t.
unsafe fn socket_to_pipe(s: &Socket, fds: [c_int; 2], offset: *mut libc::off_t, count: usize) -> Result<isize> {
    let [out_fd, in_fd] = fds;
    // SAFETY: passed on.
    unsafe { judge_sendfile(out_fd, in_fd, offset, count) }?;
    let nonblock = kernel::fcntl(out_fd, libc::F_GETFL, 0)? & libc::O_NONBLOCK != 0;
    from_socket(s, out_fd, count, if nonblock { libc::SPLICE_F_NONBLOCK } else { 0 })
}

/// Sends up to `count` bytes of a file from `start` on; `judge` is asked where the file cannot be read from the start.
/// Returns how many were sent, and the error that ended it.
fn send_file(
    s: &Socket,
    in_fd: c_int,
    start: libc::off_t,
    count: usize,
    judge: impl Fn() -> Result<()>,
) -> (usize, Result<()>) {
    let mut pages = Pages::default();
    let mut done = 0usize;
    let result = loop {
        let at = start + done as libc::off_t;
        // A call of the kernel's has a pipe of sixteen pages in between, so a piece ends where a page of the file does.
        let want = (CHUNK - at as usize % PAGE).min(count - done);
        if want == 0 {
            break Ok(());
        }
        let n = match fill(&mut pages, in_fd, want, Some(at)) {
            Ok(0) => {
                // A file shorter than `count`: there is no more.
                if done > 0 {
                    s.splice_eof();
                }
                break Ok(());
            }
            Ok(n) => n,
            Err(e) => {
                // Not open for reading, no file with positions, or a folder.
                if done == 0
                    && let Err(e) = judge()
                {
                    break Err(e);
                }
                break Err(if matches!(e, Error::IsDir | Error::SPipe) { Error::Inval } else { e });
            }
        };
        let more = if done + n < count { libc::MSG_MORE } else { 0 };
        match push(s, &mut pages, more) {
            Ok(sent) => {
                done += sent;
                if sent < n {
                    break Ok(());
                }
            }
            Err(e) => break Err(e),
        }
    };
    (done, result)
}

/// As sendfile(2) to a socket of ours from a file of the kernel, and from a socket of ours to a pipe; for other pairs,
/// the kernel's own call. `offset` null: the file's position advances by the bytes sent. Errors: EAGAIN (nothing could
/// be sent), EBADF, EINVAL, EOVERFLOW, ESPIPE, and those of send.
/// # Safety
/// `offset` is null or points to an off_t.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_sendfile(
    out_fd: c_int,
    in_fd: c_int,
    offset: *mut libc::off_t,
    count: usize,
) -> isize {
    blocking(|| {
        let s = match (fdtable::get(in_fd), fdtable::get(out_fd)) {
            (Some(Desc::Inherited(_)), _) | (_, Some(Desc::Inherited(_))) => return Err(Error::NetDown),
            // SAFETY: the caller vouches for `offset`, which `probe` finds good.
            (Some(Desc::Socket(s)), _) => match offset.is_null() || probe::writable(offset as usize, OFF) {
                true => return unsafe { socket_to_pipe(&s, [out_fd, in_fd], offset, count) },
                false => return Err(Error::Fault),
            },
            (_, Some(Desc::Socket(s))) => s,
            _ => {
                let args = [out_fd as c_long, in_fd as c_long, offset as c_long, count as c_long];
                // SAFETY: passes the program's own arguments to the kernel.
                return unsafe { kernel::wait(libc::SYS_sendfile, args) };
            }
        };
        if !offset.is_null() && !probe::writable(offset as usize, OFF) {
            return Err(Error::Fault);
        }
        // SAFETY: as above.
        let judge = || unsafe { judge_sendfile(out_fd, in_fd, offset, count) };
        // SAFETY: the caller vouches for `offset`.
        let start = match unsafe { offset.as_ref() } {
            Some(&o) => Ok(o),
            None => seek(in_fd, 0, libc::SEEK_CUR),
        };
        let start = match start {
            Ok(o) if (1..MOST).contains(&count) && (0..=libc::off_t::MAX - MOST as libc::off_t).contains(&o) => o,
            start => {
                judge()?;
                start?
            }
        };
        if s.appends() {
            judge()?;
            return Err(Error::Inval);
        }
        // More than this the kernel does not transfer in one call.
        let count = count.min(ptr::MAX_RW_COUNT);
        let (done, result) = send_file(&s, in_fd, start, count, judge);
        if done == 0 {
            result?;
        }
        let end = start + done as libc::off_t;
        // SAFETY: the caller vouches for `offset`.
        match unsafe { offset.as_mut() } {
            Some(o) => *o = end,
            None => {
                seek(in_fd, end, libc::SEEK_SET)?;
            }
        }
        Ok(done as isize)
    })
}

/// What the kernel says of a splice(2) that cannot be: with a length that is none it checks all else before, and
/// transfers nothing.
/// # Safety
/// The offsets are null or point to a loff_t.
unsafe fn judge_splice(fd_in: c_int, off_in: *mut i64, fd_out: c_int, off_out: *mut i64, flags: c_uint) -> Error {
    let args = [fd_in as c_long, off_in as c_long, fd_out as c_long, off_out as c_long, -1, flags as c_long];
    // SAFETY: passes the program's own arguments to the kernel.
    unsafe { kernel::call(libc::SYS_splice, args) }.err().unwrap_or(Error::Inval)
}

/// As splice(2) where one end is a socket of ours and the other a pipe; for other pairs, the kernel's own call. Errors:
/// EAGAIN (SPLICE_F_NONBLOCK and the pipe, or a non-blocking end), EBADF, EFAULT, EINVAL (no pipe, or an offset for the
/// socket), ESPIPE (an offset for the pipe). SPLICE_F_NONBLOCK does not make the socket's side non-blocking: O_NONBLOCK
/// does, as in Linux.
/// # Safety
/// The offsets are null or point to a loff_t, which is an int64_t by a name that ISO C does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_splice(
    fd_in: c_int,
    off_in: *mut i64,
    fd_out: c_int,
    off_out: *mut i64,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: the caller vouches for the offsets.
    let judge = || unsafe { judge_splice(fd_in, off_in, fd_out, off_out, flags) };
    let plain = off_in.is_null() && off_out.is_null() && flags & !SPLICE_F_ALL == 0 && isize::try_from(len).is_ok();
    blocking(|| match (fdtable::get(fd_in), fdtable::get(fd_out)) {
        (Some(Desc::Inherited(_)), _) | (_, Some(Desc::Inherited(_))) => Err(Error::NetDown),
        (Some(Desc::Socket(_)), _) | (_, Some(Desc::Socket(_))) if len == 0 => Ok(0),
        (Some(Desc::Socket(s)), _) if plain && is_pipe(fd_out) => match from_socket(&s, fd_out, len, flags) {
            Ok(0) | Err(_) if !may(fd_out, libc::O_WRONLY) => Err(Error::BadF),
            done => done,
        },
        (_, Some(Desc::Socket(s))) if plain && !s.appends() && is_pipe(fd_in) => match to_socket(fd_in, &s, len, flags)
        {
            Ok(0) | Err(_) if !may(fd_in, libc::O_RDONLY) => Err(Error::BadF),
            done => done,
        },
        (Some(Desc::Socket(_)), _) | (_, Some(Desc::Socket(_))) => Err(judge()),
        _ => {
            let [from, to] = [off_in as c_long, off_out as c_long];
            let args = [fd_in as c_long, from, fd_out as c_long, to, len as c_long, flags as c_long];
            // SAFETY: passes the program's own arguments to the kernel.
            unsafe { kernel::wait(libc::SYS_splice, args) }
        }
    })
}

/// lseek(2).
fn seek(fd: c_int, at: libc::off_t, whence: c_int) -> Result<libc::off_t> {
    // SAFETY: three numbers.
    unsafe { kernel::call(libc::SYS_lseek, [fd as c_long, at, whence as c_long]) }.map(|at| at as libc::off_t)
}

/// Waits until a descriptor of the kernel has one of `events`, at most for `timeout` (None: infinite). Returns whether
/// it has.
fn ready(fd: c_int, events: libc::c_short, timeout: Option<libc::timespec>) -> Result<bool> {
    let mut p = libc::pollfd { fd, events, revents: 0 };
    let ts = timeout.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: one pollfd; `ts` is null or a timespec, there is no signal mask.
    unsafe { kernel::wait(libc::SYS_ppoll, [&raw mut p as c_long, 1, ts as c_long, 0, 8]) }.map(|n| n > 0)
}

const AT_ONCE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

fn is_pipe(fd: c_int) -> bool {
    // SAFETY: an all-zero stat is valid, and fstat fills it.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is writable.
    let found = crate::boundary::os(unsafe { libc::fstat(fd, &mut st) } as isize);
    found.is_ok() && st.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// Whether a pipe's end is of this mode (or of both).
fn may(fd: c_int, mode: c_int) -> bool {
    let flags = kernel::fcntl(fd, libc::F_GETFL, 0).unwrap_or(0);
    flags & libc::O_PATH == 0 && [mode, libc::O_RDWR].contains(&(flags & libc::O_ACCMODE))
}

/// Room in a pipe right now, bytes.
fn pipe_room(fd: c_int) -> Result<usize> {
    let size = kernel::fcntl(fd, libc::F_GETPIPE_SZ, 0)? as usize;
    let mut used: c_int = 0;
    // SAFETY: FIONREAD writes an int.
    unsafe { kernel::call(libc::SYS_ioctl, [fd as c_long, libc::FIONREAD as c_long, &raw mut used as c_long]) }?;
    Ok(size.saturating_sub(used as usize))
}

fn from_socket(s: &Socket, pipe: c_int, len: usize, flags: c_uint) -> Result<isize> {
    if len == 0 {
        return Ok(0);
    }
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    let mut room = pipe_room(pipe)?;
    if room == 0 {
        let fl = kernel::fcntl(pipe, libc::F_GETFL, 0)?;
        if nonblock || fl & libc::O_NONBLOCK != 0 {
            return Err(Error::Again);
        }
        ready(pipe, libc::POLLOUT, None)?;
        room = pipe_room(pipe)?.max(1);
    }
    // Peeked first, and consumed after the pipe has it: bytes for which the pipe has no room stay in the socket.
    let mut buf = vec![0u8; len.min(CHUNK).min(room)];
    let slices = &mut [IoSliceMut::new(&mut buf)];
    let mut peek = RecvMsg::new(slices, libc::MSG_PEEK);
    peek.before_urgent = true;
    let n = s.recvmsg(&mut peek)?;
    if n == 0 {
        if !s.sock().proto().is_stream() {
            // A datagram without bytes is received all the same; or there is none, and the socket is shut for reading.
            match s.recvmsg(&mut RecvMsg::new(&mut [], libc::MSG_DONTWAIT)) {
                Ok(_) | Err(Error::Again) => {}
                Err(e) => return Err(e),
            }
        } else if s.nonblocking() && !s.sock().rcv_shutdown() && s.ioctl(SIOCATMARK) == Ok(1) {
            return Err(Error::Again);
        }
        // At the urgent mark there is nothing to splice, and waiting would not help: 0 from a socket that waits
        // (tcp_splice_read).
        return Ok(0);
    }
    // SAFETY: `buf` is readable for `n` bytes.
    let wrote =
        unsafe { kernel::wait(libc::SYS_write, [pipe as c_long, buf.as_ptr() as c_long, n as c_long]) }? as usize;
    let mut taken = 0;
    while taken < wrote {
        let room = &mut buf[..wrote - taken];
        let slices = &mut [IoSliceMut::new(room)];
        let mut take = RecvMsg::new(slices, libc::MSG_DONTWAIT);
        take.before_urgent = true;
        match s.recvmsg(&mut take)? {
            0 => break,
            n => taken += n,
        }
    }
    Ok(wrote as isize)
}

/// Sends the pipe's bytes as one datagram. Where that fails they stay in the pipe, so they are looked at in another one
/// first (tee(2)).
fn datagram_to_socket(pipe: c_int, s: &Socket, len: usize, flags: c_uint) -> Result<isize> {
    let mut ends = [0; 2];
    let args = [ends.as_mut_ptr() as c_long, libc::O_CLOEXEC as c_long];
    // SAFETY: `ends` has room for two descriptors.
    unsafe { kernel::call(libc::SYS_pipe2, args) }?;
    let [out, inward] = [Fd::own(ends[0])?, Fd::own(ends[1])?];
    let len = len.min(CHUNK);
    let nonblock = flags & libc::SPLICE_F_NONBLOCK;
    let args = [pipe as c_long, inward.raw() as c_long, len as c_long, nonblock as c_long];
    // SAFETY: four numbers.
    let n = unsafe { kernel::wait(libc::SYS_tee, args) }? as usize;
    if n == 0 {
        return Ok(0);
    }
    let mut pages = Pages::default();
    let n = fill(&mut pages, out.raw(), n, None)?;
    let more = if flags & libc::SPLICE_F_MORE != 0 { libc::MSG_MORE } else { 0 };
    let sent = push(s, &mut pages, more)?;
    let mut gone = Pages::default();
    Ok(fill(&mut gone, pipe, sent.min(n), None)? as isize)
}

fn to_socket(pipe: c_int, s: &Arc<Socket>, len: usize, flags: c_uint) -> Result<isize> {
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    if nonblock || s.nonblocking() {
        if !ready(pipe, libc::POLLIN, Some(AT_ONCE))? {
            return Err(Error::Again);
        }
        // Bytes are read from the pipe only if the socket has room.
        if !s.poll().intersects(usersock::sock::wait::Events::OUT) {
            if s.sock().proto().is_stream() {
                // One that cannot send at all says so.
                may_send(s)?;
            }
            return Err(Error::Again);
        }
    }
    if !s.sock().proto().is_stream() {
        return datagram_to_socket(pipe, s, len, flags);
    }
    // A stream that cannot send says so before bytes leave the pipe.
    may_send(s)?;
    let mut pages = Pages::default();
    let n = fill(&mut pages, pipe, len.min(CHUNK), None)?;
    let more = if flags & libc::SPLICE_F_MORE != 0 { libc::MSG_MORE } else { 0 };
    let mut sent = 0;
    while sent < n {
        // Bytes that were read from the pipe must all be sent, even if that waits for room.
        match push(s, &mut pages, more) {
            Ok(k) => sent += k,
            Err(Error::Again) if !s.nonblocking() => return Err(Error::Again),
            Err(Error::Again) => crate::poll::wait_one(s, usersock::sock::wait::Events::OUT)?,
            Err(e) if sent == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(sent as isize)
}
