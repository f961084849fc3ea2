//! poll, ppoll over descriptors of the kernel and ours together, without busy waiting: the thread waits as `driver`
//! decides (in the device's own descriptor, if it holds the lease), together with the kernel's descriptors.

use crate::cancel::blocking;
use crate::eventpoll::Pollable;
use crate::fdtable::{self, Desc};
use crate::stacks::default_stack;
use crate::{kernel, probe, ptr};
use std::ffi::{c_int, c_short};
use std::sync::Arc;
use std::time::Duration;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::internal::sys::signal::{Set, SleepMask};
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
    let _watch = watch(&ours, events, &waiter);
    while !ours.poll().intersects(events | Events::ERR | Events::HUP) {
        if s.stack().block(&waiter, None) == Woken::Interrupted {
            return Err(Error::Intr);
        }
    }
    Ok(())
}

/// What poll(2) answers.
pub(crate) struct Polled {
    /// How many descriptors have events.
    pub(crate) ready: c_int,
    /// The numbers were looked up a second time, after a sleep.
    pub(crate) slept: bool,
}

/// One of ours among the descriptors of a poll.
struct Ours {
    /// Its index in the list.
    at: usize,
    what: Pollable,
}

/// Looks the numbers up again, as the kernel does after each sleep: a number that was closed meanwhile is left to the
/// kernel (POLLNVAL), or refers to something else now. `kernel`: the list that is passed to the kernel.
fn look_again(fds: &[libc::pollfd], kernel: &mut [libc::pollfd], ours: &mut Vec<Ours>) {
    ours.retain_mut(|o| match fdtable::get(fds[o.at].fd).map(|desc| desc.pollable()) {
        Some(Ok(now)) => {
            o.what = now;
            true
        }
        _ => {
            kernel[o.at].fd = fds[o.at].fd;
            false
        }
    });
}

/// The whole of poll(2). `timeout`: None waits for ever.
pub(crate) fn poll_fds(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<Polled> {
    let at_once = |ready| Polled { ready, slept: false };
    // The kernel sees its own descriptors only; ours are negative to it, which poll(2) skips.
    let mut kernel: Vec<libc::pollfd> = fds.to_vec();
    let mut ours: Vec<Ours> = Vec::new();
    let mut inherited: Vec<usize> = Vec::new();
    for (i, k) in kernel.iter_mut().enumerate() {
        match fdtable::get(k.fd) {
            Some(Desc::Socket(s)) => ours.push(Ours { at: i, what: Pollable::Socket(s) }),
            Some(Desc::Epoll(e)) => ours.push(Ours { at: i, what: Pollable::Epoll(e) }),
            // Inherited from a parent, so POLLERR: the call does not wait.
            Some(Desc::Inherited(_)) => inherited.push(i),
            None => continue,
        }
        k.fd = -1;
    }
    let stack = match ours.iter().find_map(|o| o.what.stack()) {
        // Epoll sets without a socket of ours: one may be added during the wait.
        None if !ours.is_empty() => Some(default_stack()?),
        stack => stack,
    };
    let scan = |fds: &mut [libc::pollfd], kernel: &mut [libc::pollfd], ours: &[Ours]| -> Result<c_int> {
        if kernel.iter().any(|p| p.fd >= 0) {
            kernel::poll(kernel, Some(Duration::ZERO))?;
        }
        for (f, k) in fds.iter_mut().zip(kernel.iter()) {
            f.revents = if k.fd >= 0 { k.revents } else { 0 };
        }
        for o in ours {
            let f = &mut fds[o.at];
            let want = Events(f.events as u16 as u32) | Events::ERR | Events::HUP;
            f.revents = (o.what.poll() & want).0 as c_short;
        }
        for i in &inherited {
            fds[*i].revents = libc::POLLERR | libc::POLLHUP;
        }
        Ok(fds.iter().filter(|f| f.revents != 0).count() as c_int)
    };
    if !inherited.is_empty() {
        return scan(fds, &mut kernel, &ours).map(at_once);
    }
    let Some(stack) = stack else {
        // Nothing of ours that could wake: the kernel alone waits.
        return kernel::poll(fds, timeout).map(at_once);
    };
    let deadline: Option<Instant> = timeout.map(|t| stack.now() + t);
    stack.run_pending();
    let n = scan(fds, &mut kernel, &ours)?;
    if n > 0 {
        return Ok(at_once(n));
    }
    if timeout == Some(Duration::ZERO) {
        return kernel::signal_due().map(|()| at_once(0));
    }
    let waiter = Waiter::current();
    // The descriptions at the time of the call, whatever the numbers refer to later.
    let watched: Vec<Pollable> = ours.iter().map(|o| o.what.clone()).collect();
    let watch = |(o, what): (&Ours, _)| watch(what, Events(fds[o.at].events as u16 as u32), &waiter);
    let watches: Vec<Watching<'_>> = ours.iter().zip(&watched).map(watch).collect();
    let mut extra: Vec<(c_int, c_short)> = kernel.iter().filter(|p| p.fd >= 0).map(|p| (p.fd, p.events)).collect();
    for o in &ours {
        if let (Pollable::Epoll(set), true) = (&o.what, fds[o.at].events & libc::POLLIN != 0) {
            extra.extend(set.kernel_fds().map(|fd| (fd, libc::POLLIN)));
        }
    }
    let mut woken = Woken::Event;
    let r = loop {
        let n = scan(fds, &mut kernel, &ours)?;
        if n > 0 || woken == Woken::TimedOut {
            break Ok(Polled { ready: n, slept: true });
        }
        woken = stack.block_with(&waiter, deadline, &extra);
        if woken == Woken::Interrupted {
            break Err(Error::Intr);
        }
        look_again(fds, &mut kernel, &mut ours);
    };
    drop(watches);
    r
}

/// Notifies `waiter` of events until the watch is dropped.
fn watch<'a>(what: &'a Pollable, events: Events, waiter: &Arc<Waiter>) -> Watching<'a> {
    Watching(what, what.queue().add(events, false, waiter.clone()))
}

/// As poll(2), for any descriptors together. Errors: EFAULT, EINTR, EINVAL.
/// # Safety
/// `fds` is `count` pollfds.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout_ms: c_int) -> c_int {
    blocking(|| {
        // SAFETY: the caller vouches for `fds` and `count`.
        let fds = unsafe { pollfds(fds, count) }?;
        poll_fds(fds, u64::try_from(timeout_ms).ok().map(Duration::from_millis)).map(|p| p.ready)
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
    // SAFETY: not null, and `count` entries as the caller guarantees.
    Ok(unsafe { std::slice::from_raw_parts_mut(fds, count as usize) })
}

/// The mask of ppoll, pselect, epoll_pwait, in force while the value lives. EFAULT.
/// # Safety
/// `mask` is null or a sigset_t.
pub(crate) unsafe fn masked(mask: *const libc::sigset_t) -> Result<SleepMask> {
    if mask.is_null() {
        return Ok(SleepMask::new(None));
    }
    // The kernel's set is the first word of libc's.
    // SAFETY: the caller vouches for `mask`.
    unsafe { ptr::value(mask.cast::<Set>()) }.map(|mask| SleepMask::new(Some(*mask)))
}

/// A timespec as a wait; None for null. EINVAL outside its range.
/// # Safety
/// `ts` is null or a timespec.
pub(crate) unsafe fn timespec(ts: *const libc::timespec) -> Result<Option<Duration>> {
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
pub unsafe extern "C-unwind" fn usk_ppoll(
    fds: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    blocking(|| {
        // SAFETY: the caller vouches for all three.
        let (fds, timeout, _masked) = unsafe { (pollfds(fds, count)?, timespec(timeout)?, masked(mask)?) };
        poll_fds(fds, timeout).map(|p| p.ready)
    })
}
