//! poll, ppoll, select over descriptors of the kernel and ours together, without busy waiting: the thread waits where
//! `driver` says (in the device's own descriptor, when it holds the lease), with the kernel's descriptors beside.

use crate::boundary::{boundary, os};
use crate::eventpoll::Pollable;
use crate::fdtable::{self, Desc};
use crate::probe;
use std::ffi::{c_int, c_short};
use std::sync::Arc;
use std::time::Duration;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sock::wait::{Events, WatchKey};
use usersock::stack::runner::{Waiter, Woken};

/// A watch on a queue that ends with its scope.
struct Watching<'a>(&'a Pollable, WatchKey);
impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.queue().remove(self.1);
    }
}

/// Waits until a socket has one of `events`.
pub(crate) fn wait_one(s: &Arc<Socket>, events: Events) -> Result<()> {
    let ours = Pollable::Socket(s.clone());
    let waiter = Waiter::current();
    let key = ours.queue().add(events, false, waiter.clone());
    let _watch = Watching(&ours, key);
    while !ours.poll().intersects(events | Events::ERR | Events::HUP) {
        if s.stack().block(&waiter, None) == Woken::Interrupted {
            return Err(Error::Intr);
        }
    }
    Ok(())
}

/// The whole of poll(2). `timeout`: None waits for ever.
fn poll_fds(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<c_int> {
    // The kernel sees its own descriptors only; ours are negative to it, which poll(2) skips.
    let mut kernel: Vec<libc::pollfd> = fds.to_vec();
    let mut ours: Vec<(usize, Pollable)> = Vec::new();
    let mut inherited: Vec<usize> = Vec::new();
    for (i, k) in kernel.iter_mut().enumerate() {
        match fdtable::get(k.fd) {
            Some(Desc::Socket(s)) => ours.push((i, Pollable::Socket(s))),
            Some(Desc::Epoll(e)) => ours.push((i, Pollable::Epoll(e))),
            // Of a parent's, which is to say broken: nothing waits.
            Some(Desc::Inherited(_)) => inherited.push(i),
            None => continue,
        }
        k.fd = -1;
    }
    let has_kernel = kernel.iter().any(|p| p.fd >= 0);
    let stack = ours.iter().find_map(|(_, o)| o.stack());
    let scan = |fds: &mut [libc::pollfd], kernel: &mut [libc::pollfd]| -> Result<c_int> {
        if has_kernel {
            // SAFETY: a slice of pollfd; does not wait.
            os(unsafe { libc::poll(kernel.as_mut_ptr(), kernel.len() as u64, 0) } as isize)?;
        }
        for (f, k) in fds.iter_mut().zip(kernel.iter()) {
            f.revents = if k.fd >= 0 { k.revents } else { 0 };
        }
        for (i, o) in &ours {
            let f = &mut fds[*i];
            let want = Events(f.events as u16 as u32) | Events::ERR | Events::HUP;
            f.revents = (o.poll() & want).0 as c_short;
        }
        for i in &inherited {
            fds[*i].revents = libc::POLLERR | libc::POLLHUP;
        }
        Ok(fds.iter().filter(|f| f.revents != 0).count() as c_int)
    };
    if !inherited.is_empty() {
        return scan(fds, &mut kernel);
    }
    let Some(stack) = stack else {
        // Nothing of ours that could wake: the kernel alone waits.
        let ts = timeout.map(|t| libc::timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos() as i64 });
        let tsp = ts.as_ref().map_or(std::ptr::null(), |t| t as *const _);
        // SAFETY: `fds` is a slice of pollfd, `tsp` null or a timespec, no signal mask.
        return os(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as u64, tsp, std::ptr::null()) } as isize)
            .map(|n| n as c_int);
    };
    let deadline: Option<Instant> = timeout.map(|t| stack.now() + t);
    stack.run_pending();
    let n = scan(fds, &mut kernel)?;
    if n > 0 || timeout == Some(Duration::ZERO) {
        return Ok(n);
    }
    let waiter = Waiter::current();
    let watches: Vec<Watching<'_>> = ours
        .iter()
        .map(|(i, o)| Watching(o, o.queue().add(Events(fds[*i].events as u16 as u32), false, waiter.clone())))
        .collect();
    let extra: Vec<(c_int, c_short)> = kernel.iter().filter(|p| p.fd >= 0).map(|p| (p.fd, p.events)).collect();
    let r = loop {
        let n = scan(fds, &mut kernel)?;
        if n > 0 {
            break Ok(n);
        }
        match stack.block_with(&waiter, deadline, &extra) {
            Woken::Event => {}
            Woken::TimedOut => break scan(fds, &mut kernel),
            Woken::Interrupted => break Err(Error::Intr),
        }
    };
    drop(watches);
    r
}

/// As poll(2), for any descriptors together. Errors: EFAULT, EINTR, EINVAL.
/// # Safety
/// `fds` is `count` pollfds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout_ms: c_int) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for `fds` and `count`.
        let fds = unsafe { pollfds(fds, count) }?;
        poll_fds(fds, u64::try_from(timeout_ms).ok().map(Duration::from_millis))
    })
}

/// # Safety
/// `fds` is null or `count` pollfds.
unsafe fn pollfds<'a>(fds: *mut libc::pollfd, count: libc::nfds_t) -> Result<&'a mut [libc::pollfd]> {
    // SAFETY: an all-zero rlimit is valid storage, which getrlimit fills.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is writable.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    // The kernel takes nfds as 32 bits.
    let count = count as u32 as u64;
    if count > limit.rlim_cur {
        return Err(Error::Inval);
    }
    if count == 0 {
        return Ok(&mut []);
    }
    let bytes = count as usize * size_of::<libc::pollfd>();
    if !probe::readable(fds as usize, bytes) || !probe::writable(fds as usize, bytes) {
        return Err(Error::Fault);
    }
    // SAFETY: not null, and `count` entries by the caller's word.
    Ok(unsafe { std::slice::from_raw_parts_mut(fds, count as usize) })
}

/// A thread's signal mask, replaced while the value lives (ppoll, pselect, epoll_pwait). The kernel swaps it atomically
/// with the wait; here a signal that is unblocked ends the wait because the wait is a system call of this thread.
pub(crate) struct Masked(Option<libc::sigset_t>);

impl Masked {
    /// # Safety
    /// `mask` is null or a sigset_t.
    pub(crate) unsafe fn new(mask: *const libc::sigset_t) -> Masked {
        if mask.is_null() {
            return Masked(None);
        }
        // SAFETY: an all-zero sigset_t is valid storage.
        let mut old: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `mask` by the caller's word, `old` is writable.
        let r = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, &mut old) };
        Masked((r == 0).then_some(old))
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        if let Some(old) = &self.0 {
            // SAFETY: restores the mask that was in force.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut()) };
        }
    }
}

/// A timespec as a wait; None for null. EINVAL outside its range.
/// # Safety
/// `ts` is null or a timespec.
unsafe fn timespec(ts: *const libc::timespec) -> Result<Option<Duration>> {
    if !ts.is_null() && !probe::readable(ts as usize, size_of::<libc::timespec>()) {
        return Err(Error::Fault);
    }
    // SAFETY: the caller vouches for `ts`.
    match unsafe { ts.as_ref() } {
        None => Ok(None),
        Some(t) if t.tv_sec < 0 || !(0..1_000_000_000).contains(&t.tv_nsec) => Err(Error::Inval),
        Some(t) => Ok(Some(Duration::new(t.tv_sec as u64, t.tv_nsec as u32))),
    }
}

/// As ppoll(2).
/// # Safety
/// `fds` is `count` pollfds; `timeout` and `mask` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ppoll(
    fds: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller vouches for all three.
        let (fds, timeout, _masked) = unsafe { (pollfds(fds, count)?, timespec(timeout)?, Masked::new(mask)) };
        poll_fds(fds, timeout)
    })
}

const POLLIN_SET: c_short = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLHUP | libc::POLLERR;
const POLLOUT_SET: c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND | libc::POLLERR;
const POLLEX_SET: c_short = libc::POLLPRI;

/// As select(2); on return `timeout` holds the time left, as Linux does it. Errors: EBADF, EINTR, EINVAL.
/// # Safety
/// The sets are null or fd_sets that cover `count` descriptors; `timeout` is null or a timeval.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_select(
    count: c_int,
    read: *mut libc::fd_set,
    write: *mut libc::fd_set,
    except: *mut libc::fd_set,
    timeout: *mut libc::timeval,
) -> c_int {
    boundary(|| {
        let count = usize::try_from(count).map_err(|_| Error::Inval)?.min(libc::FD_SETSIZE);
        let sets = [(read, POLLIN_SET), (write, POLLOUT_SET), (except, POLLEX_SET)];
        for (set, _) in sets {
            if count > 0 && !set.is_null() && !probe::writable(set as usize, count.div_ceil(8)) {
                return Err(Error::Fault);
            }
        }
        if !timeout.is_null() && !probe::readable(timeout as usize, size_of::<libc::timeval>()) {
            return Err(Error::Fault);
        }
        let mut fds = Vec::new();
        for fd in 0..count {
            let mut events = 0;
            for (set, bits) in sets {
                // SAFETY: `set` is not null here, and `fd` is below FD_SETSIZE.
                if !set.is_null() && unsafe { libc::FD_ISSET(fd as c_int, set) } {
                    events |= bits & !(libc::POLLHUP | libc::POLLERR);
                }
            }
            if events != 0 {
                fds.push(libc::pollfd { fd: fd as c_int, events, revents: 0 });
            }
        }
        // SAFETY: the caller vouches for `timeout`.
        let limit = match unsafe { timeout.as_ref() } {
            None => None,
            Some(t) if t.tv_sec < 0 || t.tv_usec < 0 => return Err(Error::Inval),
            Some(t) => Some(Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)),
        };
        let start = std::time::Instant::now();
        poll_fds(&mut fds, limit)?;
        if fds.iter().any(|p| p.revents & libc::POLLNVAL != 0) {
            return Err(Error::BadF);
        }
        let mut n = 0;
        for p in &fds {
            for (set, bits) in sets {
                // SAFETY: as above.
                if !set.is_null() && unsafe { libc::FD_ISSET(p.fd, set) } {
                    if p.revents & bits != 0 {
                        n += 1;
                    } else {
                        // SAFETY: as above.
                        unsafe { libc::FD_CLR(p.fd, set) };
                    }
                }
            }
        }
        // SAFETY: the caller vouches for `timeout`.
        if let (Some(t), Some(limit)) = (unsafe { timeout.as_mut() }, limit) {
            let left = limit.saturating_sub(start.elapsed());
            t.tv_sec = left.as_secs() as i64;
            t.tv_usec = left.subsec_micros() as i64;
        }
        Ok(n)
    })
}
