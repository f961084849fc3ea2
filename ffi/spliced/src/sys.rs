//! System calls on AF_UNIX sockets and epoll, by instruction: the shim replaces the C library's functions.

use crate::name::{Encoded, MAX};
use std::ffi::{CStr, c_int, c_long, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::Duration;
use usersock::error::Error;
use usersock::internal::sys::raw;

/// The answer of the kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// # Safety
/// As the system call with these arguments.
unsafe fn call<const N: usize>(number: c_long, args: [c_long; N]) -> Result<usize> {
    let mut six = [0; 6];
    six[..N].copy_from_slice(&args);
    // SAFETY: the caller vouches for the arguments.
    let r = unsafe { raw::call(number, six) };
    if r >= 0 {
        return Ok(r as usize);
    }
    // SAFETY: gives this thread's errno, valid as long as the thread lives.
    Err(Error::try_from_errno(unsafe { *libc::__errno_location() }).unwrap_or(Error::Io))
}

/// A descriptor that is closed with the value.
#[derive(Debug)]
pub struct Owned(RawFd);

impl Owned {
    /// Of a descriptor that is nobody else's.
    #[cfg(test)]
    pub(crate) fn new(fd: RawFd) -> Owned {
        Owned(fd)
    }
    /// The number.
    pub fn raw(&self) -> RawFd {
        self.0
    }
    /// Leaves it open.
    pub fn into_raw(self) -> RawFd {
        let fd = self.0;
        std::mem::forget(self);
        fd
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the number is this value's alone.
        let _ = unsafe { call(libc::SYS_close, [self.0 as c_long]) };
    }
}

/// sockaddr_un.
#[repr(C)]
struct Un {
    family: u16,
    path: [u8; MAX],
}

fn un(name: &Encoded) -> (Un, c_long) {
    let mut un = Un { family: libc::AF_UNIX as u16, path: [0; MAX] };
    let bytes = name.bytes();
    un.path[..bytes.len()].copy_from_slice(bytes);
    (un, (size_of::<u16>() + bytes.len()) as c_long)
}

/// socket(2) of AF_UNIX. `ty`: with SOCK_CLOEXEC, SOCK_NONBLOCK.
pub fn socket(ty: c_int) -> Result<Owned> {
    // SAFETY: three numbers.
    unsafe { call(libc::SYS_socket, [libc::AF_UNIX as c_long, ty as c_long, 0]) }.map(|fd| Owned(fd as RawFd))
}

/// A datagram socket of the kernel's, AF_INET or AF_INET6.
pub fn datagrams(family: u16) -> Result<Owned> {
    let ty = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as c_long;
    // SAFETY: three numbers.
    unsafe { call(libc::SYS_socket, [family.into(), ty, 0]) }.map(|fd| Owned(fd as RawFd))
}

/// A socket to the kernel's lists of sockets (sock_diag(7)).
pub(crate) fn netlink_diag() -> Result<Owned> {
    let ty = (libc::SOCK_RAW | libc::SOCK_CLOEXEC) as c_long;
    // SAFETY: three numbers.
    unsafe { call(libc::SYS_socket, [libc::AF_NETLINK as c_long, ty, libc::NETLINK_SOCK_DIAG as c_long]) }
        .map(|fd| Owned(fd as RawFd))
}

/// bind(2).
pub fn bind(fd: RawFd, name: &Encoded) -> Result<()> {
    let (un, len) = un(name);
    // SAFETY: `un` is readable for `len`.
    unsafe { call(libc::SYS_bind, [fd as c_long, &raw const un as c_long, len]) }.map(drop)
}

/// connect(2).
pub fn connect(fd: RawFd, name: &Encoded) -> Result<()> {
    let (un, len) = un(name);
    // SAFETY: `un` is readable for `len`.
    unsafe { call(libc::SYS_connect, [fd as c_long, &raw const un as c_long, len]) }.map(drop)
}

/// listen(2).
pub fn listen(fd: RawFd, backlog: c_int) -> Result<()> {
    // SAFETY: two numbers.
    unsafe { call(libc::SYS_listen, [fd as c_long, backlog as c_long]) }.map(drop)
}

/// accept4(2), without the peer's name.
pub fn accept(fd: RawFd, flags: c_int) -> Result<Owned> {
    // SAFETY: null for the name and its length.
    unsafe { call(libc::SYS_accept4, [fd as c_long, 0, 0, flags as c_long]) }.map(|fd| Owned(fd as RawFd))
}

/// shutdown(2).
pub fn shutdown(fd: RawFd, how: c_int) -> Result<()> {
    // SAFETY: two numbers.
    unsafe { call(libc::SYS_shutdown, [fd as c_long, how as c_long]) }.map(drop)
}

/// Passes the name that getsockname(2) or getpeername(2), by its number, tells of an AF_UNIX socket to `f`; without
/// sun_family. EAFNOSUPPORT: another family's.
fn with_name<T>(number: c_long, fd: RawFd, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let mut un = Un { family: 0, path: [0; MAX] };
    let mut len = size_of::<Un>() as libc::socklen_t;
    // SAFETY: `un` is writable for `len`.
    unsafe { call(number, [fd as c_long, &raw mut un as c_long, &raw mut len as c_long]) }?;
    if un.family != libc::AF_UNIX as u16 {
        return Err(Error::AfNoSupport);
    }
    Ok(f(&un.path[..(len as usize).saturating_sub(size_of::<u16>()).min(MAX)]))
}

/// getsockname(2).
pub fn local_name<T>(fd: RawFd, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    with_name(libc::SYS_getsockname, fd, f)
}

/// getpeername(2).
pub fn peer_name<T>(fd: RawFd, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    with_name(libc::SYS_getpeername, fd, f)
}

/// send(2) without SIGPIPE.
pub fn send(fd: RawFd, bytes: &[u8], flags: c_int) -> Result<usize> {
    let flags = (flags | libc::MSG_NOSIGNAL) as c_long;
    // SAFETY: `bytes` is readable.
    unsafe { call(libc::SYS_sendto, [fd as c_long, bytes.as_ptr() as c_long, bytes.len() as c_long, flags, 0, 0]) }
}

/// recv(2).
pub fn recv(fd: RawFd, bytes: &mut [u8], flags: c_int) -> Result<usize> {
    let args = [fd as c_long, bytes.as_mut_ptr() as c_long, bytes.len() as c_long, flags as c_long, 0, 0];
    // SAFETY: `bytes` is writable.
    unsafe { call(libc::SYS_recvfrom, args) }
}

/// Room for the control message that passes one descriptor, aligned as cmsghdr.
type Control = [u64; 4];

fn message(iov: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: an all-zero msghdr has no name, no data, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (iov, 1);
    (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), size_of::<Control>());
    header
}

/// Sends few bytes with a descriptor, all or none: reads of the other end stop behind them. EAGAIN: the queue is full.
pub fn send_mark(fd: RawFd, bytes: &[u8]) -> Result<()> {
    // One that is no socket: those of AF_UNIX on their way make work for the kernel.
    // SAFETY: two numbers.
    let made = unsafe { call(libc::SYS_eventfd2, [0, libc::EFD_CLOEXEC as c_long]) }.map(|fd| Owned(fd as RawFd));
    // Where there is none left, the socket itself.
    let passed = made.as_ref().map_or(fd, Owned::raw);
    let mut control = Control::default();
    // Nothing is written to what is sent.
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = message(&mut iov, &mut control);
    // SAFETY: the control buffer has room for one descriptor, and is aligned.
    unsafe {
        let c = libc::CMSG_FIRSTHDR(&header);
        ((*c).cmsg_level, (*c).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*c).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        libc::CMSG_DATA(c).cast::<RawFd>().write_unaligned(passed);
        header.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as usize;
    }
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as c_long;
    // SAFETY: the header is of this frame, and so is what it points to, or lent to it.
    unsafe { call(libc::SYS_sendmsg, [fd as c_long, &raw const header as c_long, flags]) }.map(drop)
}

/// recvmsg(2) into these buffers without waiting; whether descriptors came with the last byte. They are not taken:
/// without room for them the kernel closes them, and says so.
/// # Safety
/// Each of `iovs` is writable.
unsafe fn recv_to(fd: RawFd, iovs: &mut [libc::iovec], flags: c_int) -> Result<(usize, bool)> {
    // SAFETY: an all-zero msghdr has no name, no data, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (iovs.as_mut_ptr(), iovs.len());
    let flags = (flags | libc::MSG_DONTWAIT) as c_long;
    // SAFETY: the header is of this frame, and the caller vouches for what it points to.
    let n = unsafe { call(libc::SYS_recvmsg, [fd as c_long, &raw mut header as c_long, flags]) }?;
    Ok((n, header.msg_flags & libc::MSG_CTRUNC != 0))
}

/// recv(2) without waiting; whether descriptors came with the last byte, as with one of [`send_mark`].
pub fn recv_marked(fd: RawFd, bytes: &mut [u8], flags: c_int) -> Result<(usize, bool)> {
    // SAFETY: `bytes` is writable.
    unsafe { recv_to(fd, &mut [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }], flags) }
}

/// As [`recv_marked`], into several slices.
pub fn recv_vectored(fd: RawFd, slices: &mut [IoSliceMut<'_>], flags: c_int) -> Result<(usize, bool)> {
    // SAFETY: an IoSliceMut is an iovec (its documentation promises it), of memory that is writable.
    unsafe { recv_to(fd, &mut *(slices as *mut [IoSliceMut<'_>] as *mut [libc::iovec]), flags) }
}

/// sendmsg(2) of several slices without SIGPIPE.
pub fn send_vectored(fd: RawFd, slices: &[IoSlice<'_>], flags: c_int) -> Result<usize> {
    if let [slice] = slices {
        // 0.1 µs less than the same by a header.
        return send(fd, slice, flags);
    }
    // SAFETY: an all-zero msghdr has no name, no data, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    // An IoSlice is an iovec (its documentation promises it).
    (header.msg_iov, header.msg_iovlen) = (slices.as_ptr() as *mut libc::iovec, slices.len());
    let flags = (flags | libc::MSG_NOSIGNAL) as c_long;
    // SAFETY: the header is of this frame, and the slices are readable.
    unsafe { call(libc::SYS_sendmsg, [fd as c_long, &raw const header as c_long, flags]) }
}

/// Reads at most `len` bytes, and forgets them; returns how many. It does not wait.
pub fn discard(fd: RawFd, len: usize) -> Result<usize> {
    const PIECE: usize = 4096;
    let mut piece = MaybeUninit::<[u8; PIECE]>::uninit();
    let base = piece.as_mut_ptr();
    if len <= PIECE {
        let args = [fd as c_long, base as c_long, len as c_long, libc::MSG_DONTWAIT as c_long, 0, 0];
        // SAFETY: the kernel writes to `piece`, which outlives the call, at most its size; nobody reads it.
        return unsafe { call(libc::SYS_recvfrom, args) };
    }
    // Again and again into the same memory, which is small enough to stay in the processor's cache.
    let mut left = len;
    let mut iovs = [libc::iovec { iov_base: base.cast(), iov_len: 0 }; 16];
    for iov in &mut iovs {
        iov.iov_len = left.min(PIECE);
        left -= iov.iov_len;
    }
    // SAFETY: the kernel writes to `piece`, which outlives the call; nobody reads it.
    unsafe { recv_to(fd, &mut iovs, 0) }.map(|(n, _)| n)
}

/// Bytes that can be read (FIONREAD), those of all messages in the queue.
pub fn queued(fd: RawFd) -> Result<usize> {
    let mut value: c_int = 0;
    // SAFETY: the request writes an int.
    unsafe { call(libc::SYS_ioctl, [fd as c_long, libc::FIONREAD as c_long, &raw mut value as c_long]) }?;
    Ok(value.max(0) as usize)
}

/// ioctl(2)'s request whether the next byte is urgent.
pub(crate) const SIOCATMARK: u64 = 0x8905;

/// Whether the next byte is urgent, or was until it was read (SIOCATMARK).
pub fn at_mark(fd: RawFd) -> bool {
    let mut value: c_int = 0;
    // SAFETY: the request writes an int.
    let asked = unsafe { call(libc::SYS_ioctl, [fd as c_long, SIOCATMARK as c_long, &raw mut value as c_long]) };
    asked.is_ok() && value == 1
}

/// Whether a descriptor is of a pipe.
pub fn is_pipe(fd: RawFd) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes a stat, of the layout that the C library has on 64-bit machines.
    let told = unsafe { call(libc::SYS_fstat, [fd as c_long, status.as_mut_ptr() as c_long]) };
    // SAFETY: it was written.
    told.is_ok() && unsafe { status.assume_init() }.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// Sets an int at level SOL_SOCKET.
pub fn set_option(fd: RawFd, name: c_int, value: c_int) -> Result<()> {
    let (level, len) = (libc::SOL_SOCKET as c_long, size_of::<c_int>() as c_long);
    // SAFETY: `value` is an int.
    unsafe { call(libc::SYS_setsockopt, [fd as c_long, level, name as c_long, &raw const value as c_long, len]) }
        .map(drop)
}

/// Reads an int at level SOL_SOCKET.
pub fn option(fd: RawFd, name: c_int) -> Result<c_int> {
    let (mut value, mut len) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    let level = libc::SOL_SOCKET as c_long;
    let args = [fd as c_long, level, name as c_long, &raw mut value as c_long, &raw mut len as c_long];
    // SAFETY: `value` and `len` are writable.
    unsafe { call(libc::SYS_getsockopt, args) }.map(|_| value)
}

/// Whether O_NONBLOCK is set.
pub fn nonblocking(fd: RawFd) -> Result<bool> {
    // SAFETY: three numbers.
    let flags = unsafe { call(libc::SYS_fcntl, [fd as c_long, libc::F_GETFL as c_long, 0]) }?;
    Ok(flags as c_int & libc::O_NONBLOCK != 0)
}

/// Whether FD_CLOEXEC is set.
pub fn cloexec(fd: RawFd) -> Result<bool> {
    // SAFETY: three numbers.
    let flags = unsafe { call(libc::SYS_fcntl, [fd as c_long, libc::F_GETFD as c_long, 0]) }?;
    Ok(flags as c_int & libc::FD_CLOEXEC != 0)
}

/// dup3(2): `to` becomes a duplicate of `from`.
pub fn duplicate(from: RawFd, to: RawFd, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: three numbers; what `to` was the caller gives up.
    unsafe { call(libc::SYS_dup3, [from as c_long, to as c_long, flags as c_long]) }.map(drop)
}

/// Reads SO_RCVTIMEO or SO_SNDTIMEO.
pub fn timeout(fd: RawFd, name: c_int) -> Result<libc::timeval> {
    let (mut value, mut len) = (libc::timeval { tv_sec: 0, tv_usec: 0 }, size_of::<libc::timeval>() as libc::socklen_t);
    let level = libc::SOL_SOCKET as c_long;
    let args = [fd as c_long, level, name as c_long, &raw mut value as c_long, &raw mut len as c_long];
    // SAFETY: `value` and `len` are writable.
    unsafe { call(libc::SYS_getsockopt, args) }.map(|_| value)
}

/// Sets one.
pub fn set_timeout(fd: RawFd, name: c_int, value: libc::timeval) -> Result<()> {
    let (level, len) = (libc::SOL_SOCKET as c_long, size_of::<libc::timeval>() as c_long);
    // SAFETY: `value` is a timeval.
    unsafe { call(libc::SYS_setsockopt, [fd as c_long, level, name as c_long, &raw const value as c_long, len]) }
        .map(drop)
}

/// Waits until `fd` has one of `events`; EINTR.
pub fn wait(fd: RawFd, events: i16) -> Result<i16> {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one pollfd; no timeout, no mask.
    unsafe { call(libc::SYS_ppoll, [&raw mut poll as c_long, 1, 0, 0, 8]) }?;
    Ok(poll.revents)
}

/// What poll(2) says of `fd` without waiting.
fn events_now(fd: RawFd, events: i16) -> i16 {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one pollfd and a time; no mask.
    let n = unsafe { call(libc::SYS_ppoll, [&raw mut poll as c_long, 1, &raw const now as c_long, 0, 8]) };
    if n.is_ok() { poll.revents } else { 0 }
}

/// Whether the other end is closed, or shut down both ways (POLLHUP). It does not wait.
pub fn hung_up(fd: RawFd) -> bool {
    events_now(fd, 0) & libc::POLLHUP != 0
}

/// Whether there is an error that nobody was told of (POLLERR). It does not wait.
pub fn has_failed(fd: RawFd) -> bool {
    events_now(fd, 0) & libc::POLLERR != 0
}

/// Whether a read would not wait (POLLIN). It does not wait.
pub fn is_readable(fd: RawFd) -> bool {
    events_now(fd, libc::POLLIN) & libc::POLLIN != 0
}

/// Whether nothing more will be read, or accepted (POLLRDHUP). It does not wait.
pub fn ended(fd: RawFd) -> bool {
    events_now(fd, libc::POLLRDHUP) & libc::POLLRDHUP != 0
}

/// Sleeps, at most until a signal's handler has run.
pub fn pause(ms: u32) {
    let time = libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: (ms % 1000 * 1_000_000).into() };
    // SAFETY: no descriptors, a time, no mask.
    let _ = unsafe { call(libc::SYS_ppoll, [0, 0, &raw const time as c_long, 0, 8]) };
}

/// Which network namespace a socket is of (SO_NETNS_COOKIE). ENOPROTOOPT: before Linux 5.14.
pub fn network(fd: RawFd) -> Result<u64> {
    let (mut value, mut len) = (0u64, size_of::<u64>() as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET as c_long, libc::SO_NETNS_COOKIE as c_long);
    let args = [fd as c_long, level, name, &raw mut value as c_long, &raw mut len as c_long];
    // SAFETY: `value` and `len` are writable.
    unsafe { call(libc::SYS_getsockopt, args) }.map(|_| value)
}

/// This process and the time: what makes identifiers differ.
pub fn process_id() -> u32 {
    // SAFETY: no arguments.
    unsafe { call(libc::SYS_getpid, []) }.unwrap_or(0) as u32
}

/// How many descriptors this process may have (RLIMIT_NOFILE).
pub(crate) fn descriptor_limit() -> Result<RawFd> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit64 of this process, with no new limit, writes a struct rlimit64, which libc's rlimit is where
    // numbers have 64 bits.
    unsafe { call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as c_long, 0, (&raw mut limit) as c_long]) }?;
    Ok(RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX))
}

/// Random bytes of the kernel.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: `bytes` is writable.
    match unsafe { call(libc::SYS_getrandom, [bytes.as_mut_ptr() as c_long, N as c_long, 0]) }? {
        n if n == N => Ok(bytes),
        _ => Err(Error::Io),
    }
}

/// Opens a file or a directory to read it.
pub(crate) fn open(path: &CStr) -> Result<Owned> {
    let args = [libc::AT_FDCWD.into(), path.as_ptr() as c_long, (libc::O_RDONLY | libc::O_CLOEXEC).into(), 0];
    // SAFETY: `path` is a string.
    unsafe { call(libc::SYS_openat, args) }.map(|fd| Owned(fd as RawFd))
}

/// read(2).
pub(crate) fn read(file: &Owned, bytes: &mut [u8]) -> Result<usize> {
    // SAFETY: `bytes` is writable.
    unsafe { call(libc::SYS_read, [file.0.into(), bytes.as_mut_ptr() as c_long, bytes.len() as c_long]) }
}

/// getdents64(2): the next entries of a directory.
pub(crate) fn list(directory: &Owned, bytes: &mut [u8]) -> Result<usize> {
    // SAFETY: `bytes` is writable.
    unsafe { call(libc::SYS_getdents64, [directory.0.into(), bytes.as_mut_ptr() as c_long, bytes.len() as c_long]) }
}

/// Whether a link of /proc/PID/fd is an epoll set's.
pub(crate) fn is_epoll(link: &CStr) -> bool {
    const NAME: &[u8] = b"anon_inode:[eventpoll]";
    let mut to = [0; NAME.len() + 1];
    let args = [libc::AT_FDCWD.into(), link.as_ptr() as c_long, to.as_mut_ptr() as c_long, to.len() as c_long];
    // SAFETY: `link` is a string, `to` is writable.
    let n = unsafe { call(libc::SYS_readlinkat, args) };
    n.is_ok_and(|n| to[..n] == *NAME)
}

/// The inode of a descriptor's file.
pub(crate) fn inode(fd: RawFd) -> Result<u64> {
    let mut stat = MaybeUninit::<libc::statx>::uninit();
    let (flags, mask) = (libc::AT_EMPTY_PATH.into(), libc::STATX_INO.into());
    // SAFETY: an empty string, and room for a statx.
    unsafe { call(libc::SYS_statx, [fd.into(), c"".as_ptr() as c_long, flags, mask, stat.as_mut_ptr() as c_long]) }?;
    // SAFETY: the kernel has written it.
    Ok(unsafe { stat.assume_init() }.stx_ino)
}

/// EPOLL_CTL_ADD to a set of the program's.
pub(crate) fn epoll_add(epoll: RawFd, fd: RawFd, events: u32, data: u64) -> Result<()> {
    let event = libc::epoll_event { events, u64: data };
    let args = [epoll.into(), libc::EPOLL_CTL_ADD.into(), fd.into(), &raw const event as c_long];
    // SAFETY: `event` is an epoll_event.
    unsafe { call(libc::SYS_epoll_ctl, args) }.map(drop)
}

/// Signals that a thread waits for, held back in the calling thread and those it starts from now on.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Holds them back.
    pub fn hold(signals: &[c_int]) -> Signals {
        // SAFETY: an all-zero sigset_t is storage, which sigemptyset fills.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a set of this frame; the old mask is not asked for.
        unsafe {
            libc::sigemptyset(&mut set);
            for signal in signals {
                libc::sigaddset(&mut set, *signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        Signals(set)
    }

    /// Waits for one of them.
    pub fn wait(&self) -> c_int {
        let mut signal = 0;
        // SAFETY: a set and an int.
        while unsafe { libc::sigwait(&self.0, &mut signal) } != 0 {}
        signal
    }
}

/// An epoll set.
#[derive(Debug)]
pub struct Epoll(Owned);

impl Epoll {
    /// epoll_create1(2).
    pub fn new() -> Result<Epoll> {
        // SAFETY: a number.
        unsafe { call(libc::SYS_epoll_create1, [libc::EPOLL_CLOEXEC as c_long]) }.map(|fd| Epoll(Owned(fd as RawFd)))
    }

    fn ctl(&self, op: c_int, fd: RawFd, events: u32, token: u64) -> Result<()> {
        let event = libc::epoll_event { events, u64: token };
        let args = [self.0.raw() as c_long, op as c_long, fd as c_long, &raw const event as c_long];
        // SAFETY: `event` is an epoll_event.
        unsafe { call(libc::SYS_epoll_ctl, args) }.map(drop)
    }

    /// EPOLL_CTL_ADD.
    pub fn add(&self, fd: RawFd, events: u32, token: u64) -> Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd, events, token)
    }

    /// EPOLL_CTL_MOD.
    pub fn modify(&self, fd: RawFd, events: u32, token: u64) -> Result<()> {
        self.ctl(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    /// Waits; None: for ever. An interruption is no event.
    pub fn wait(&self, out: &mut [libc::epoll_event], timeout: Option<Duration>) -> Result<usize> {
        let ts = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: t.subsec_nanos().into(),
        });
        let ts = ts.as_ref().map_or(0, |t| t as *const libc::timespec as c_long);
        let args = [self.0.raw() as c_long, out.as_mut_ptr() as c_long, out.len() as c_long, ts, 0, 8];
        // SAFETY: `out` is a slice of epoll_event, `ts` null or a timespec, no mask.
        match unsafe { call(libc::SYS_epoll_pwait2, args) } {
            Err(Error::Intr) => Ok(0),
            r => r,
        }
    }
}

/// io_uring_setup(2).
/// # Safety
/// `params` is a struct io_uring_params.
pub(crate) unsafe fn ring_setup(entries: u32, params: *mut c_void) -> Result<Owned> {
    // SAFETY: the caller vouches for `params`.
    unsafe { call(libc::SYS_io_uring_setup, [entries.into(), params as c_long]) }.map(|fd| Owned(fd as RawFd))
}

/// io_uring_enter(2): submits so many entries, waits for so many completions; returns how many it took.
/// # Safety
/// What the entries point to is as their operations need it until they are complete.
pub(crate) unsafe fn ring_enter(ring: &Owned, submit: u32, complete: u32, flags: u32) -> Result<usize> {
    let args = [ring.0.into(), submit.into(), complete.into(), flags.into(), 0, 0];
    // SAFETY: no signal mask; the caller vouches for the rest.
    unsafe { call(libc::SYS_io_uring_enter, args) }
}

/// Memory that is shared with the kernel, unmapped with the value.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut u8,
    len: usize,
}

impl Mapping {
    /// `len` bytes of a descriptor's memory from `off` on.
    pub(crate) fn new(fd: &Owned, len: usize, off: c_long) -> Result<Mapping> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        let args = [0, len as c_long, prot.into(), flags.into(), fd.0.into(), off];
        // SAFETY: a new mapping where the kernel likes.
        let base = unsafe { call(libc::SYS_mmap, args) }?;
        Ok(Mapping { base: base as *mut u8, len })
    }

    /// The address of the byte `off`, which is within it.
    pub(crate) fn at(&self, off: usize) -> *mut u8 {
        assert!(off < self.len);
        self.base.wrapping_add(off)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which ends with the value.
        let _ = unsafe { call(libc::SYS_munmap, [self.base as c_long, self.len as c_long]) };
    }
}
