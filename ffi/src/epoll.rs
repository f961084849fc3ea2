//! epoll_create1, epoll_ctl, epoll_wait, epoll_pwait. The descriptor of a set is a real epoll of the kernel. Below:
//! `eventpoll`.

use crate::boundary::{boundary, last_os, os};
use crate::eventpoll::Epoll;
use crate::fdtable::{self, Desc};
use crate::ptr;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::time::Duration;
use usersock::error::Error;
use usersock::internal::sys::fd::Fd;

/// As epoll_create1(2).
#[unsafe(no_mangle)]
pub extern "C" fn usk_epoll_create1(flags: c_int) -> c_int {
    boundary(|| {
        if flags & !libc::EPOLL_CLOEXEC != 0 {
            return Err(Error::Inval);
        }
        // SAFETY: a plain system call; the result is owned at once.
        let fd = os(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
        // Of the set's own descriptor: the low numbers are left to the program's.
        let ep = Epoll::new(fdtable::out_of_the_way(Fd::own(fd as RawFd)?));
        fdtable::install(Desc::Epoll(ep), flags & libc::EPOLL_CLOEXEC != 0, 0)
    })
}

/// As epoll_ctl(2), for descriptors of the kernel and ours. Errors: EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT,
/// EPERM.
/// # Safety
/// `event` is null (EPOLL_CTL_DEL) or an epoll_event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for `event`.
        let ev = match op {
            libc::EPOLL_CTL_DEL => None,
            // SAFETY: as above.
            _ => Some(unsafe { ptr::value(event) }?),
        };
        let desc = fdtable::get(fd);
        // SAFETY: F_GETFD only reads flags.
        if desc.is_none() && unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return Err(last_os());
        }
        let ep = fdtable::epoll(epfd)?;
        let Some(desc) = desc else {
            // SAFETY: passes the program's own arguments to the kernel.
            return os(unsafe { libc::epoll_ctl(ep.kernel_fd(), op, fd, event) } as isize).map(|r| r as c_int);
        };
        let what = desc.pollable()?;
        match (op, ev) {
            (libc::EPOLL_CTL_ADD, Some(ev)) => ep.add(fd, &what, ev)?,
            (libc::EPOLL_CTL_MOD, Some(ev)) => ep.modify(fd, &what, ev)?,
            (libc::EPOLL_CTL_DEL, _) => ep.delete(fd, &what)?,
            _ => return Err(Error::Inval),
        }
        Ok(0)
    })
}

/// As epoll_wait(2). Errors: EBADF, EFAULT, EINTR, EINVAL.
/// # Safety
/// `events` is writable for `max` epoll_events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_epoll_wait(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the same promises.
    unsafe { usk_epoll_pwait(epfd, events, max, timeout_ms, std::ptr::null()) }
}

/// As epoll_pwait(2).
/// # Safety
/// As `usk_epoll_wait`; `mask` is null or a sigset_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_epoll_pwait(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout_ms: c_int,
    mask: *const libc::sigset_t,
) -> c_int {
    boundary(|| {
        if max <= 0 || max as usize > i32::MAX as usize / size_of::<libc::epoll_event>() {
            return Err(Error::Inval);
        }
        if !crate::probe::writable(events as usize, max as usize * size_of::<libc::epoll_event>()) {
            return Err(Error::Fault);
        }
        let ep = fdtable::epoll(epfd)?;
        // SAFETY: not null, writable for `max` entries by the caller's word.
        let out = unsafe { std::slice::from_raw_parts_mut(events, max as usize) };
        // SAFETY: the caller vouches for `mask`.
        let _masked = unsafe { crate::poll::Masked::new(mask) };
        ep.wait(out, u64::try_from(timeout_ms).ok().map(Duration::from_millis)).map(|n| n as c_int)
    })
}
