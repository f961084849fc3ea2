//! System calls, those of the program on descriptors of the kernel and our own. They do not use the C library's
//! functions of the same name, because a shim may have replaced them, and those that wait are cancellation points.
//! Below: `cancel` for the calls that wait.

use crate::boundary::os;
use crate::cancel;
use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::internal::sys::raw;
use usersock::internal::sys::signal::{SET_BYTES, Set, postponed, sleep_mask};

/// Arguments of a system call, which has six.
fn six<const N: usize>(args: [c_long; N]) -> [c_long; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    all
}

/// A system call that does not wait.
/// # Safety
/// As the system call with these arguments.
pub(crate) unsafe fn call<const N: usize>(number: c_long, args: [c_long; N]) -> Result<isize> {
    // SAFETY: passed on.
    os(unsafe { raw::call(number, six(args)) } as isize)
}

/// A system call that may wait: a cancellation point, and so only for exports that use `cancel::blocking`. The kernel
/// alone can restart it, so handlers run as soon as it does: one that jumps leaves the call's references behind.
/// # Safety
/// As the system call with these arguments.
pub(crate) unsafe fn wait<const N: usize>(number: c_long, args: [c_long; N]) -> Result<isize> {
    if postponed::due() {
        return Err(Error::Intr);
    }
    // SAFETY: passed on.
    postponed::outside(|| unsafe { cancel::kernel(number, six(args)) })
}

/// socket(2).
pub(crate) fn socket(domain: c_int, ty: c_int, protocol: c_int) -> Result<RawFd> {
    let args = [domain as c_long, ty as c_long, protocol as c_long];
    // SAFETY: three numbers.
    unsafe { call(libc::SYS_socket, args) }.map(|fd| fd as RawFd)
}

/// fcntl(2), for the commands whose argument is a number.
pub(crate) fn fcntl(fd: RawFd, cmd: c_int, arg: c_int) -> Result<c_int> {
    // SAFETY: three numbers.
    unsafe { call(libc::SYS_fcntl, [fd as c_long, cmd as c_long, arg as c_long]) }.map(|r| r as c_int)
}

/// dup3(2).
pub(crate) fn dup3(from: RawFd, to: RawFd, flags: c_int) -> Result<()> {
    // SAFETY: three numbers; the program asks to replace `to`.
    unsafe { call(libc::SYS_dup3, [from as c_long, to as c_long, flags as c_long]) }.map(drop)
}

/// close(2).
pub(crate) fn close(fd: RawFd) -> Result<()> {
    // SAFETY: a number, which the program asks to close.
    unsafe { call(libc::SYS_close, [fd as c_long]) }.map(drop)
}

/// epoll_create1(2) with EPOLL_CLOEXEC.
pub(crate) fn epoll_create() -> Result<RawFd> {
    // SAFETY: a number.
    unsafe { call(libc::SYS_epoll_create1, [libc::EPOLL_CLOEXEC as c_long]) }.map(|fd| fd as RawFd)
}

/// epoll_ctl(2).
pub(crate) fn epoll_ctl(set: RawFd, op: c_int, fd: RawFd, event: &mut libc::epoll_event) -> Result<()> {
    let args = [set as c_long, op as c_long, fd as c_long, &raw mut *event as c_long];
    // SAFETY: `event` is an epoll_event.
    unsafe { call(libc::SYS_epoll_ctl, args) }.map(drop)
}

/// epoll_wait(2); `timeout` None is infinite.
pub(crate) fn epoll_wait(set: RawFd, out: &mut [libc::epoll_event], timeout: Option<Duration>) -> Result<usize> {
    let ms = timeout.map_or(-1, |t| t.as_millis().min(i32::MAX as u128) as c_long);
    let mask = sleep_mask().filter(|_| ms != 0);
    let mask_at = mask.as_ref().map_or(0, |m| m as *const Set as c_long);
    let args = [set as c_long, out.as_mut_ptr() as c_long, out.len() as c_long, ms, mask_at, SET_BYTES as c_long];
    // SAFETY: `out` is a slice of epoll_event, the mask null or of the size that is said.
    unsafe { wait(libc::SYS_epoll_pwait, args) }.map(|n| n as usize)
}

/// epoll_wait(2) that does not wait: part of a call that may report what it finds although a signal has come.
pub(crate) fn epoll_look(set: RawFd, out: &mut [libc::epoll_event]) -> Result<usize> {
    let args = [set as c_long, out.as_mut_ptr() as c_long, out.len() as c_long, 0, 0, SET_BYTES as c_long];
    // SAFETY: `out` is a slice of epoll_event; no mask.
    unsafe { call(libc::SYS_epoll_pwait, args) }.map(|n| n as usize)
}

/// poll(2) that does not wait, as [`epoll_look`].
pub(crate) fn poll_look(fds: &mut [libc::pollfd]) -> Result<c_int> {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let args = [fds.as_mut_ptr() as c_long, fds.len() as c_long, &raw const now as c_long, 0, SET_BYTES as c_long];
    // SAFETY: `fds` is a slice of pollfd, the time outlives the call; no mask.
    unsafe { call(libc::SYS_ppoll, args) }.map(|n| n as c_int)
}

/// poll(2) of descriptors of the kernel's alone.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<c_int> {
    let ts = timeout.map(|t| libc::timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos() as i64 });
    let tsp = ts.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    let mask = sleep_mask();
    let mask_at = mask.as_ref().map_or(0, |m| m as *const Set as c_long);
    let args = [fds.as_mut_ptr() as c_long, fds.len() as c_long, tsp as c_long, mask_at, SET_BYTES as c_long];
    // SAFETY: `fds` is a slice of pollfd, `tsp` null or a timespec, the mask null or of the size that is said.
    unsafe { wait(libc::SYS_ppoll, args) }.map(|n| n as c_int)
}

/// EINTR where a signal is due that the mask of the call lets through: so ends a call that does not wait, too.
pub(crate) fn signal_due() -> Result<()> {
    if sleep_mask().is_some() { poll(&mut [], Some(Duration::ZERO)).map(drop) } else { Ok(()) }
}

/// The address family of a socket of the kernel's. ENOTSOCK, EBADF.
pub(crate) fn domain(fd: RawFd) -> Result<c_int> {
    let (mut family, mut len) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET as c_long, libc::SO_DOMAIN as c_long);
    let args = [fd as c_long, level, name, &raw mut family as c_long, &raw mut len as c_long];
    // SAFETY: `family` and `len` are writable.
    unsafe { call(libc::SYS_getsockopt, args) }?;
    Ok(family)
}
