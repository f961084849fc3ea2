//! Local stream sockets (AF_UNIX) of the kernel, and what runs at the end of the process. Above: `control`. A socket's
//! file has mode 0600 from its first moment: bind(2) takes the mode of the descriptor, so no umask is changed, which
//! would be the whole process's.

use super::fd::Fd;
use super::raw::syscall;
use super::{check, retry};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Connections that wait for accept.
const BACKLOG: i32 = 16;

/// The address of `path`, and its length. ENAMETOOLONG above 107 bytes; EINVAL for one with NUL.
fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    let errno = io::Error::from_raw_os_error;
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(errno(libc::EINVAL));
    }
    let mut addr = libc::sockaddr_un { sun_family: libc::AF_UNIX as _, sun_path: [0; 108] };
    if bytes.len() >= addr.sun_path.len() {
        return Err(errno(libc::ENAMETOOLONG));
    }
    for (to, from) in addr.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok((addr, (offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1) as libc::socklen_t))
}

fn socket() -> io::Result<Fd> {
    let ty = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes three numbers.
    let fd = check(unsafe { syscall!(libc::SYS_socket, libc::AF_UNIX, ty, 0) })?;
    Fd::own(fd as RawFd)
}

/// A non-blocking listener under a file name that does not exist yet, which only this user can open. EADDRINUSE: it
/// exists.
pub(crate) fn listen(path: &Path) -> io::Result<Fd> {
    let (addr, len) = address(path)?;
    let fd = socket()?;
    // SAFETY: fchmod takes two numbers.
    check(unsafe { syscall!(libc::SYS_fchmod, fd.raw(), 0o600) })?;
    // SAFETY: `addr` is a whole sockaddr_un that outlives the call, and `len` is not greater.
    check(unsafe { syscall!(libc::SYS_bind, fd.raw(), &raw const addr, len) })?;
    // SAFETY: listen takes two numbers.
    check(unsafe { syscall!(libc::SYS_listen, fd.raw(), BACKLOG) })?;
    Ok(fd.out_of_the_way())
}

/// A connection to a listener. ECONNREFUSED: nobody listens there.
pub(crate) fn connect(path: &Path) -> io::Result<Fd> {
    let (addr, len) = address(path)?;
    let fd = socket()?;
    // SAFETY: `addr` is a whole sockaddr_un that outlives the call, and `len` is not greater.
    check(unsafe { syscall!(libc::SYS_connect, fd.raw(), &raw const addr, len) })?;
    Ok(fd)
}

/// The next connection of a listener, non-blocking. EAGAIN: none waits.
pub(crate) fn accept(listener: &Fd) -> io::Result<Fd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let none = std::ptr::null_mut::<libc::sockaddr>();
    // SAFETY: a null address means that it is not asked for.
    let fd = retry(|| unsafe { syscall!(libc::SYS_accept4, listener.raw(), none, none, flags) })?;
    Ok(Fd::own(fd as RawFd)?.out_of_the_way())
}

/// The effective user who connected (SO_PEERCRED), as this process's user namespace numbers users.
pub(crate) fn peer_uid(fd: &Fd) -> io::Result<u32> {
    let mut cred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let call = libc::SYS_getsockopt;
    // SAFETY: `cred` and `len` are writable, and `len` is the size of `cred`.
    check(unsafe { syscall!(call, fd.raw(), level, name, &raw mut cred, &raw mut len) })?;
    Ok(cred.uid)
}

/// Sends what fits; no SIGPIPE when the peer has gone. EAGAIN: no room.
pub(crate) fn send(fd: &Fd, bytes: &[u8]) -> io::Result<usize> {
    let none = std::ptr::null::<libc::sockaddr>();
    let call = libc::SYS_sendto;
    // SAFETY: the pointer and length are those of a readable slice; a null address of length 0 is none.
    retry(|| unsafe { syscall!(call, fd.raw(), bytes.as_ptr(), bytes.len(), libc::MSG_NOSIGNAL, none, 0) })
}

/// The effective user of this process.
pub(crate) fn euid() -> u32 {
    // SAFETY: geteuid takes no argument.
    unsafe { syscall!(libc::SYS_geteuid) as u32 }
}

/// Waits until no other process holds the lock of a directory (flock(2)), and holds it until the result is dropped.
pub(crate) fn lock_dir(dir: &Path) -> io::Result<Fd> {
    let name = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `name` is a zero-terminated string that outlives the call.
    let fd = retry(|| unsafe { syscall!(libc::SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags, 0) })?;
    let fd = Fd::own(fd as RawFd)?;
    // SAFETY: flock takes two numbers.
    retry(|| unsafe { syscall!(libc::SYS_flock, fd.raw(), libc::LOCK_EX) })?;
    Ok(fd)
}

/// Has exit(3) call `f`, in this process and in children that fork makes.
pub(crate) fn at_exit(f: extern "C" fn()) {
    // SAFETY: `f` is a function without arguments that may be called from any thread. A failure, for want of memory,
    // means that `f` is not called.
    let _ = unsafe { libc::atexit(f) };
}
