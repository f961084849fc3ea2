//! poll, ppoll over descriptors of the kernel and ours together, without busy waiting: the thread waits as `driver`
//! decides (in the device's own descriptor, if it holds the lease), together with the kernel's descriptors.

use crate::cancel::blocking;
use crate::eventpoll::Pollable;
use crate::fdtable::{self, Desc};
use crate::stacks::default_stack;
use crate::{kernel, probe, ptr};
use smallvec::SmallVec;
use std::ffi::{c_int, c_short};
use std::sync::Arc;
use std::time::Duration;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::internal::sys::signal::{Set, SleepMask};
use usersock::net::Socket;
use usersock::sock::wait::{Events, WatchKey};
use usersock::stack::Stack;
use usersock::stack::runner::{PollFd, Waiter, Woken};

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

/// The descriptors of a poll, by whose they are.
struct Polling<'a> {
    fds: &'a mut [libc::pollfd],
    /// Ours, if the call may sleep.
    ours: SmallVec<[Ours; 8]>,
    any_ours: bool,
    /// The stack of the first of ours.
    stack: Option<Arc<Stack>>,
    /// Indexes of descriptors inherited from a parent: POLLERR, and so the call does not wait.
    inherited: Vec<usize>,
    /// The kernel's, each with its index.
    kernels: SmallVec<[libc::pollfd; 8]>,
    at: SmallVec<[u32; 8]>,
}

impl<'a> Polling<'a> {
    fn new(fds: &'a mut [libc::pollfd]) -> Polling<'a> {
        let (ours, kernels, at) = (SmallVec::new(), SmallVec::new(), SmallVec::new());
        Polling { fds, ours, any_ours: false, stack: None, inherited: Vec::new(), kernels, at }
    }

    /// Looks the numbers up, and at ours; returns how many of ours and of the inherited have events. Each is looked at
    /// once it is found, while it is in the cache, and is dropped at once unless the call may sleep.
    fn look_up(&mut self, sleeps: bool) -> c_int {
        let mut ready = 0;
        for at in 0..self.fds.len() {
            let fd = self.fds[at].fd;
            self.fds[at].revents = 0;
            let what = match fdtable::get(fd) {
                Some(Desc::Inherited(_)) => {
                    self.inherited.push(at);
                    self.fds[at].revents = libc::POLLERR | libc::POLLHUP;
                    ready += 1;
                    continue;
                }
                Some(Desc::Socket(s)) => Pollable::Socket(s),
                Some(Desc::Epoll(e)) => Pollable::Epoll(e),
                // The kernel skips negative ones.
                None if fd < 0 => continue,
                None => {
                    self.leave_to_kernel(at);
                    continue;
                }
            };
            if self.stack.is_none()
                && let Some(stack) = what.stack()
            {
                stack.run_pending();
                self.stack = Some(stack);
            }
            self.any_ours = true;
            look_at(&mut self.fds[at], &what);
            ready += c_int::from(self.fds[at].revents != 0);
            if sleeps {
                self.ours.push(Ours { at, what });
            }
        }
        ready
    }

    fn leave_to_kernel(&mut self, at: usize) {
        self.kernels.push(self.fds[at]);
        // The kernel takes nfds as 32 bits, and so do we.
        self.at.push(at as u32);
    }

    /// Looks the numbers up again, as the kernel does after each sleep: a number that was closed meanwhile is left to
    /// the kernel (POLLNVAL), or refers to something else now. Returns whether the kernel has to look at one more.
    fn look_up_again(&mut self) -> bool {
        let mut gone = Vec::new();
        let fds = &self.fds;
        self.ours.retain_mut(|o| match fdtable::get(fds[o.at].fd).map(|desc| desc.pollable()) {
            Some(Ok(now)) => {
                o.what = now;
                true
            }
            _ => {
                gone.push(o.at);
                false
            }
        });
        gone.iter().for_each(|at| self.leave_to_kernel(*at));
        !gone.is_empty()
    }

    /// Looks at ours; returns how many of all have events.
    fn look_at_ours(&mut self) -> c_int {
        for o in &self.ours {
            look_at(&mut self.fds[o.at], &o.what);
        }
        for i in &self.inherited {
            self.fds[*i].revents = libc::POLLERR | libc::POLLHUP;
        }
        self.count()
    }

    /// Has the kernel look at its own; returns how many of all have events.
    fn look_at_kernels(&mut self) -> Result<c_int> {
        if !self.kernels.is_empty() {
            kernel::poll_look(&mut self.kernels)?;
        }
        for (k, at) in self.kernels.iter().zip(&self.at) {
            self.fds[*at as usize].revents = k.revents;
        }
        Ok(self.count())
    }

    /// How many have events.
    fn count(&self) -> c_int {
        self.fds.iter().filter(|f| f.revents != 0).count() as c_int
    }

    /// What a wait looks at for the kernel: its own descriptors, and behind them the kernel's epolls of sets of ours.
    fn extra(&self) -> SmallVec<[PollFd; 8]> {
        let mut extra: SmallVec<[PollFd; 8]> = self.kernels.iter().map(|k| PollFd::new(k.fd, k.events)).collect();
        for o in &self.ours {
            if let (Pollable::Epoll(set), true) = (&o.what, self.fds[o.at].events & libc::POLLIN != 0) {
                extra.extend(set.kernel_fds());
            }
        }
        extra
    }

    /// Looks at what a wait with `extra` has left to look at; returns how many of all have events.
    fn look_after(&mut self, extra: &[PollFd]) -> Result<c_int> {
        for (k, at) in extra.iter().zip(&self.at) {
            self.fds[*at as usize].revents = k.revents();
        }
        let more = self.look_up_again();
        let unknown = more || extra.iter().take(self.kernels.len()).any(|k| !k.is_polled());
        if unknown {
            self.look_at_kernels()?;
        }
        Ok(self.look_at_ours())
    }

    /// Sleeps until one has events. With `timeout` None for ever.
    fn wait(&mut self, stack: &Arc<Stack>, timeout: Option<Duration>) -> Result<Polled> {
        let slept = |ready| Polled { ready, slept: true };
        let deadline: Option<Instant> = timeout.map(|t| stack.now() + t);
        let waiter = Waiter::current();
        // The descriptions at the time of the call, whatever the numbers refer to later.
        let watched: SmallVec<[(Pollable, Events); 8]> =
            self.ours.iter().map(|o| (o.what.clone(), Events(self.fds[o.at].events as u16 as u32))).collect();
        let _watches: SmallVec<[Watching<'_>; 8]> =
            watched.iter().map(|(what, events)| watch(what, *events, &waiter)).collect();
        // What became ready before the watches were there.
        if self.look_at_ours() > 0 {
            return self.look_at_kernels().map(slept);
        }
        let mut first = true;
        loop {
            let mut extra = self.extra();
            let kernels = self.kernels.len();
            let woken = stack.block_with(&waiter, deadline, &mut extra);
            let ready = self.look_after(&extra)?;
            if woken == Woken::Interrupted && ready == 0 {
                return Err(Error::Intr);
            }
            // A number that was closed before the call has ended the wait before it slept.
            let closed = |at: &u32| self.fds[*at as usize].revents & libc::POLLNVAL != 0;
            if first && self.at[..kernels].iter().any(closed) {
                return Ok(Polled { ready, slept: false });
            }
            if ready > 0 || woken == Woken::TimedOut {
                return Ok(slept(ready));
            }
            first = false;
        }
    }
}

/// The events of one of ours. Linux: do_pollfd.
fn look_at(f: &mut libc::pollfd, what: &Pollable) {
    let want = Events(f.events as u16 as u32) | Events::ERR | Events::HUP;
    f.revents = (what.poll() & want).0 as c_short;
}

/// The whole of poll(2). `timeout`: None waits for ever. A call that waits is one system call, the driver's sleep, in
/// which the kernel looks at its descriptors too; it looks at them by itself only if the call does not wait.
pub(crate) fn poll_fds(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> Result<Polled> {
    let at_once = |ready| Polled { ready, slept: false };
    let mut p = Polling::new(fds);
    let sleeps = timeout != Some(Duration::ZERO);
    let ready = p.look_up(sleeps);
    if !p.any_ours && p.inherited.is_empty() {
        // Nothing of ours that could wake: the kernel alone waits.
        return kernel::poll(p.fds, timeout).map(at_once);
    }
    if ready > 0 || !sleeps {
        // A look that owned a sock has processed its backlog, which may have sent.
        if let Some(stack) = &p.stack {
            stack.run_pending();
        }
        let n = p.look_at_kernels()?;
        if n == 0 {
            kernel::signal_due()?;
        }
        return Ok(at_once(n));
    }
    // Epoll sets without a socket of ours: one may be added during the wait.
    let stack = p.stack.take().map_or_else(default_stack, Ok)?;
    let polled = p.wait(&stack, timeout);
    stack.run_pending();
    polled
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
        let _never_restarted = SleepMask::new(None);
        poll_fds(fds, u64::try_from(timeout_ms).ok().map(Duration::from_millis)).map(|p| p.ready)
    })
}

/// A number of pollfds below which a call does not ask for RLIMIT_NOFILE, which would be a system call of its own. A
/// limit as low as that, under which the kernel would return EINVAL, leaves a process no room for a stack.
const FEW: u64 = 16;

/// RLIMIT_NOFILE now.
fn descriptor_limit() -> u64 {
    // SAFETY: an all-zero rlimit is valid storage, which getrlimit fills.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is writable.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// # Safety
/// `fds` is null or `count` pollfds.
unsafe fn pollfds<'a>(fds: *mut libc::pollfd, count: libc::nfds_t) -> Result<&'a mut [libc::pollfd]> {
    // The kernel takes nfds as 32 bits.
    let count = count as u32 as u64;
    if count > FEW && count > descriptor_limit() {
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
