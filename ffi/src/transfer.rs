//! sendfile and splice: from a file or pipe of the kernel to a socket of ours, and from such a socket to a pipe or
//! file. Reads a file with pread, so that its shared offset does not move during the call.

use crate::cancel::blocking;
use crate::fdtable::{self, Desc};
use crate::{kernel, probe};
use std::ffi::{c_int, c_long, c_uint};
use std::io::IoSliceMut;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sock::msg::RecvMsg;

/// Every flag splice(2) has: MOVE, NONBLOCK, MORE, GIFT.
const SPLICE_F_ALL: c_uint = 15;
const CHUNK: usize = 64 * 1024;

/// Sends `data`; returns the bytes sent before an error, if any.
fn push(s: &Socket, data: &[u8], flags: c_int) -> Result<usize> {
    crate::io::signalled(s, s.sendpage(data, flags), false)
}

/// As sendfile(2) to a socket of ours from a file of the kernel; for other pairs, the kernel's own call. `offset` null:
/// the file's position advances by the bytes sent. Errors: EAGAIN (nothing could be sent), EBADF, EINVAL (not a file
/// one can pread), and those of send.
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
            (Some(Desc::Socket(_)), _) => return Err(Error::Inval),
            (_, Some(Desc::Socket(s))) => s,
            _ => {
                let args = [out_fd as c_long, in_fd as c_long, offset as c_long, count as c_long];
                // SAFETY: passes the program's own arguments to the kernel.
                return unsafe { kernel::wait(libc::SYS_sendfile, args) };
            }
        };
        if !offset.is_null() && !probe::writable(offset as usize, size_of::<libc::off_t>()) {
            return Err(Error::Fault);
        }
        // SAFETY: the caller vouches for `offset`.
        let start = match unsafe { offset.as_ref() } {
            Some(&o) if o < 0 => return Err(Error::Inval),
            Some(&o) => o,
            None => seek(in_fd, 0, libc::SEEK_CUR).map_err(|e| if e == Error::SPipe { Error::Inval } else { e })?,
        };
        let mut buf = vec![0u8; CHUNK.min(count.max(1))];
        let mut done = 0usize;
        let result = loop {
            let want = buf.len().min(count - done);
            if want == 0 {
                break Ok(());
            }
            let at = start + done as libc::off_t;
            let args = [in_fd as c_long, buf.as_mut_ptr() as c_long, want as c_long, at];
            // SAFETY: `buf` is writable for `want` bytes.
            let n = match unsafe { kernel::wait(libc::SYS_pread64, args) } {
                Ok(0) => {
                    // A file shorter than `count`: there is no more.
                    if done > 0 {
                        s.splice_eof();
                    }
                    break Ok(());
                }
                Ok(n) => n as usize,
                // Without an offset lseek has returned it already.
                Err(e) => break Err(e),
            };
            let more = if done + n < count { libc::MSG_MORE } else { 0 };
            match push(&s, &buf[..n], more) {
                Ok(sent) => {
                    done += sent;
                    if sent < n {
                        break Ok(());
                    }
                }
                Err(e) => break Err(e),
            }
        };
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

/// As splice(2) where one end is a socket of ours and the other a pipe; for other pairs, the kernel's own call. Errors:
/// EAGAIN (SPLICE_F_NONBLOCK and the pipe, or a non-blocking end), EBADF, EINVAL (no pipe, or an offset for the
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
    blocking(|| match (fdtable::get(fd_in), fdtable::get(fd_out)) {
        (Some(Desc::Inherited(_)), _) | (_, Some(Desc::Inherited(_))) => Err(Error::NetDown),
        (Some(Desc::Socket(_)), _) | (_, Some(Desc::Socket(_))) if len > 0 && flags & !SPLICE_F_ALL != 0 => {
            Err(Error::Inval)
        }
        (Some(Desc::Socket(_)), Some(Desc::Socket(_))) => Err(Error::Inval),
        (Some(Desc::Socket(s)), _) => {
            if !off_out.is_null() {
                return Err(Error::SPipe);
            }
            if !off_in.is_null() {
                return Err(Error::Inval);
            }
            from_socket(&s, fd_out, len, flags)
        }
        (_, Some(Desc::Socket(s))) => {
            if !off_in.is_null() {
                return Err(Error::SPipe);
            }
            if !off_out.is_null() {
                return Err(Error::Inval);
            }
            to_socket(fd_in, &s, len, flags)
        }
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

fn require_pipe(fd: c_int) -> Result<()> {
    // SAFETY: an all-zero stat is valid, and fstat fills it.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is writable.
    crate::boundary::os(unsafe { libc::fstat(fd, &mut st) } as isize)?;
    if st.st_mode & libc::S_IFMT == libc::S_IFIFO { Ok(()) } else { Err(Error::Inval) }
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
    require_pipe(pipe)?;
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
    // At the urgent mark there is nothing to splice, and waiting would not help: returns 0, as Linux does.
    let slices = &mut [IoSliceMut::new(&mut buf)];
    let mut peek = RecvMsg::new(slices, libc::MSG_PEEK);
    peek.before_urgent = true;
    let n = s.recvmsg(&mut peek)?;
    if n == 0 {
        return Ok(0);
    }
    // SAFETY: `buf` is readable for `n` bytes.
    let wrote =
        unsafe { kernel::wait(libc::SYS_write, [pipe as c_long, buf.as_ptr() as c_long, n as c_long]) }? as usize;
    let mut taken = 0;
    while taken < wrote {
        let room = &mut buf[..wrote - taken];
        match s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(room)], libc::MSG_DONTWAIT))? {
            0 => break,
            n => taken += n,
        }
    }
    Ok(wrote as isize)
}

fn to_socket(pipe: c_int, s: &Arc<Socket>, len: usize, flags: c_uint) -> Result<isize> {
    require_pipe(pipe)?;
    if len == 0 {
        return Ok(0);
    }
    let nonblock = flags & libc::SPLICE_F_NONBLOCK != 0;
    if nonblock || s.nonblocking() {
        // Bytes are read from the pipe only if the socket has room.
        if !s.poll().intersects(usersock::sock::wait::Events::OUT) {
            return Err(Error::Again);
        }
        if !ready(pipe, libc::POLLIN, Some(AT_ONCE))? {
            return Err(Error::Again);
        }
    }
    let mut buf = vec![0u8; len.min(CHUNK)];
    let args = [pipe as c_long, buf.as_mut_ptr() as c_long, buf.len() as c_long];
    // SAFETY: `buf` is writable for its length.
    let n = unsafe { kernel::wait(libc::SYS_read, args) }? as usize;
    let more = if flags & libc::SPLICE_F_MORE != 0 { libc::MSG_MORE } else { 0 };
    let mut sent = 0;
    while sent < n {
        // Bytes that were read from the pipe must all be sent, even if that waits for room.
        match push(s, &buf[sent..n], more) {
            Ok(k) => sent += k,
            Err(Error::Again) if !s.nonblocking() => return Err(Error::Again),
            Err(Error::Again) => crate::poll::wait_one(s, usersock::sock::wait::Events::OUT)?,
            Err(e) if sent == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(sent as isize)
}
