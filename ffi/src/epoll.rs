//! epoll_create, epoll_ctl, epoll_wait and their variants. The descriptor of a set is a real epoll of the kernel.
//! Below: `eventpoll`.

use crate::boundary::boundary;
use crate::cancel::blocking;
use crate::eventpoll::{Epoll, Pollable};
use crate::fdtable::{self, Desc};
use crate::{kernel, poll, probe, ptr};
use std::ffi::{c_int, c_long};
use std::sync::Arc;
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::internal::sys::fd::Fd;

/// As epoll_create1(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_epoll_create1(flags: c_int) -> c_int {
    boundary(|| new_set(flags))
}

fn new_set(flags: c_int) -> Result<c_int> {
    if flags & !libc::EPOLL_CLOEXEC != 0 {
        return Err(Error::Inval);
    }
    // Of the set's own descriptor: the low numbers are left to the program's.
    let ep = Epoll::new(Fd::own(kernel::epoll_create()?)?.out_of_the_way());
    fdtable::install(Desc::Epoll(ep), flags & libc::EPOLL_CLOEXEC != 0, 0)
}

/// As epoll_create(2): the positive size is only a hint, and is ignored. Errors: EINVAL, EMFILE.
#[unsafe(no_mangle)]
pub extern "C" fn usk_epoll_create(size: c_int) -> c_int {
    boundary(|| match size {
        1.. => new_set(0),
        _ => Err(Error::Inval),
    })
}

/// As epoll_ctl(2), for descriptors of the kernel and ours. Errors: EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT,
/// EPERM.
/// # Safety
/// `event` is null (EPOLL_CTL_DEL) or an epoll_event.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_epoll_ctl(
    epfd: c_int,
    op: c_int,
    fd: c_int,
    event: *mut libc::epoll_event,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for `event`.
        let ev = match op {
            libc::EPOLL_CTL_DEL => None,
            // SAFETY: as above.
            _ => Some(unsafe { ptr::value(event) }?),
        };
        let desc = fdtable::get(fd);
        if desc.is_none() {
            kernel::fcntl(fd, libc::F_GETFD, 0)?;
        }
        let ep = fdtable::epoll(epfd)?;
        let Some(desc) = desc else {
            let args = [ep.kernel_fd() as c_long, op as c_long, fd as c_long, event as c_long];
            // SAFETY: passes the program's own arguments to the kernel.
            unsafe { kernel::call(libc::SYS_epoll_ctl, args) }?;
            if op == libc::EPOLL_CTL_ADD {
                ep.has_kernels();
            }
            return Ok(0);
        };
        let what = desc.pollable()?;
        if matches!(&what, Pollable::Epoll(inner) if Arc::ptr_eq(inner, &ep)) {
            return Err(Error::Inval);
        }
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
pub unsafe extern "C-unwind" fn usk_epoll_wait(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the same promises.
    unsafe { usk_epoll_pwait(epfd, events, max, timeout_ms, std::ptr::null()) }
}

/// As epoll_pwait2(2): epoll_pwait with a timeout in nanoseconds; null waits for ever.
/// # Safety
/// As `usk_epoll_wait`; `timeout` is null or a timespec, `mask` null or a sigset_t.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_epoll_pwait2(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    blocking(|| {
        // SAFETY: the caller vouches for all of it.
        unsafe { epoll_wait(epfd, events, max, poll::timespec(timeout)?, mask) }
    })
}

/// As epoll_pwait(2).
/// # Safety
/// As `usk_epoll_wait`; `mask` is null or a sigset_t.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_epoll_pwait(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout_ms: c_int,
    mask: *const libc::sigset_t,
) -> c_int {
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    // SAFETY: the caller vouches for all of it.
    blocking(|| unsafe { epoll_wait(epfd, events, max, timeout, mask) })
}

/// # Safety
/// As `usk_epoll_pwait`.
unsafe fn epoll_wait(
    epfd: c_int,
    events: *mut libc::epoll_event,
    max: c_int,
    timeout: Option<Duration>,
    mask: *const libc::sigset_t,
) -> Result<c_int> {
    let ep = fdtable::epoll(epfd);
    if let Err(Error::BadF) = ep {
        return Err(Error::BadF);
    }
    if max <= 0 || max as usize > i32::MAX as usize / size_of::<libc::epoll_event>() {
        return Err(Error::Inval);
    }
    let bytes = max as usize * size_of::<libc::epoll_event>();
    if probe::foreign(events as usize, bytes) {
        return Err(Error::Fault);
    }
    let ep = ep?;
    if !probe::writable(events as usize, bytes) {
        // Only events that are there to be written fail the call, and stay (ep_send_events).
        let mut set = [libc::pollfd { fd: epfd, events: libc::POLLIN, revents: 0 }];
        // SAFETY: the caller vouches for `mask`.
        let _masked = unsafe { poll::masked(mask) }?;
        return match poll::poll_fds(&mut set, timeout)?.ready {
            0 => Ok(0),
            _ => Err(Error::Fault),
        };
    }
    // SAFETY: not null, writable for `max` entries as the caller guarantees.
    let out = unsafe { std::slice::from_raw_parts_mut(events, max as usize) };
    // SAFETY: the caller vouches for `mask`.
    let _masked = unsafe { poll::masked(mask) }?;
    ep.wait(out, timeout).map(|n| n as c_int)
}
