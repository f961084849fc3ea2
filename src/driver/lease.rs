//! The driver lease: real time. The thread that holds the lease of a queue waits in the devices' own descriptors and
//! runs softirq. A thread that is about to block takes the lease, so that the packet it waits for needs no wake-up of
//! another thread. While no thread of the program waits, a background thread holds it. Above: blocking calls. Below:
//! `Stack::poll_queues`, poll(2).
//!
//! A request-reply loop blocks and returns thousands of times a second, so the background thread does not take over
//! whenever a thread returns, and that thread makes no system call to return. Instead, the background thread checks
//! from time to time. If the lease was used since the last check, it sleeps for another period of 1 to 2 ms; if it is
//! free and was not used, it takes it, and releases it when a thread blocks and asks for it; if a thread held it all
//! the time, as in a server without work, it rests. Only a thread that releases the lease during the rest arms a timer,
//! which ends it.
//!
//! Invariant: when no thread holds a lease, its background thread sleeps for a period or is awake, its timer is armed,
//! or a thread has been told to take it; so packets and timers wait at most two periods, 4 ms (a jiffy where HZ is
//! 250), while the program computes.
//!
//! After fork(2) the stack belongs to the parent alone (`Stack::is_inherited`): no thread of the child waits for it or
//! works for it.

use super::burst::Burst;
use crate::base::env::{Duration, Instant};
use crate::base::waiter::{PollSet, Slept, Waiter, Woken};
use crate::device::netdev::NetDev;
use crate::stack::runner::{PollFd, Runner};
use crate::stack::{Stack, WEIGHT};
use crate::sys::fd::TimerFd;
use crate::sys::lock::Mutex;
use crate::sys::thread;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The first period for which the background thread leaves a lease to the program's threads. Each check that finds the
/// lease used doubles it, up to `GRACE_MAX`.
const GRACE: Duration = Duration::from_millis(1);
const GRACE_MAX: Duration = Duration::from_millis(2);
/// After this many failed hand-overs (the lease was taken again before the woken thread ran) the next is left to the
/// timer.
const VAIN: u32 = 2;

/// Device queues that a lease holder serves.
type Queues = SmallVec<[(Arc<NetDev>, u16); 4]>;

/// The runner for real time: see the module's text.
pub struct Lease {
    shared: Arc<Shared>,
}

/// State shared by its threads.
struct Shared {
    shards: Vec<Shard>,
    stop: AtomicBool,
}

/// One lease: queue number `i` of `n` serves the device queues `i`, `i + n`, ... of every device.
struct Shard {
    state: Mutex<State>,
    /// Time at which the holder's sleep ends, in nanoseconds; 0: it is awake, or there is no holder.
    sleep_until: AtomicU64,
    /// The background thread has been started.
    started: AtomicBool,
    background: Arc<Waiter>,
    timer: Option<TimerFd>,
    /// Used by the holder alone.
    burst: Mutex<Burst>,
}

#[derive(Default)]
struct State {
    holder: Option<Arc<Waiter>>,
    /// Threads that wait without the lease, longest first.
    parked: VecDeque<Arc<Waiter>>,
    /// The background thread is awake, sleeps for a period, or its timer is armed: no release has to arm it.
    checked: bool,
    /// Number of times the lease was released; tells the background thread whether it was in use.
    releases: u64,
    vain: u32,
}

impl Lease {
    /// A runner with `queues` leases, at least 1: as many as the widest device has queues. With several, a blocked
    /// thread takes one of them, and a packet for it that arrives on another queue costs a wake-up.
    pub fn new(queues: u16) -> Lease {
        let shards = (0..queues.max(1)).map(|_| Shard::new()).collect();
        Lease { shared: Arc::new(Shared { shards, stop: AtomicBool::new(false) }) }
    }
}

impl Drop for Lease {
    /// The stack is gone: ends its background threads.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.shards.iter().for_each(|s| s.background.nudge());
    }
}

/// A number per thread, which selects the lease it uses.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|n| *n).unwrap_or(0)
}

impl Runner for Lease {
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        if waiter.take() {
            return Woken::Event;
        }
        let shared = &self.shared;
        shared.start(stack);
        let i = thread_number() % shared.shards.len();
        let shard = &shared.shards[i];
        loop {
            if stack.is_inherited() {
                // A signal handler called fork during the wait.
                return Woken::Interrupted;
            }
            if shard.acquire(waiter) {
                let mut urgent = true;
                let woken = shard.hold(stack, i, shared.shards.len(), waiter, deadline, extra, &mut urgent);
                shard.release(urgent);
                return woken;
            }
            let now = stack.now();
            let timeout = deadline.map(|d| d.saturating_sub(now));
            let mut fds = PollSet::from_slice(extra);
            let slept = waiter.sleep(&mut fds, timeout);
            extra.copy_from_slice(&fds[..extra.len()]);
            let over = match slept {
                _ if waiter.take() => Some(Woken::Event),
                Slept::Ready => Some(Woken::Event),
                Slept::Interrupted => Some(Woken::Interrupted),
                _ if deadline.is_some_and(|d| d <= stack.now()) => Some(Woken::TimedOut),
                _ => None,
            };
            if let Some(woken) = over {
                shard.leave(waiter);
                return woken;
            }
        }
    }

    fn busy_poll(&self, stack: &Arc<Stack>, waiter: &Arc<Waiter>, time: Duration) {
        let until = stack.now() + time;
        while !waiter.is_woken() && stack.now() < until {
            if !stack.poll(stack.now()) {
                std::hint::spin_loop();
            }
        }
    }

    fn kick(&self, stack: &Arc<Stack>) {
        if stack.is_inherited() {
            return;
        }
        let shared = &self.shared;
        shared.start(stack);
        let mut asleep = None;
        let mut next = None;
        for shard in &shared.shards {
            match shard.sleep_until.load(Ordering::SeqCst) {
                // Awake: the holder checks the deadlines before it sleeps. Free: the timer checks them. With a single
                // lease there is nothing to do; with several, one free lease does not mean that the other holders wake
                // in time.
                0 => {
                    if shared.shards.len() == 1 || shard.state.lock().holder.is_some() {
                        return;
                    }
                }
                until => {
                    let next = *next.get_or_insert_with(|| stack.next_event().map_or(u64::MAX, Instant::as_nanos));
                    if until <= next {
                        return;
                    }
                    asleep = Some(shard);
                }
            }
        }
        if let Some(shard) = asleep
            && let Some(holder) = shard.state.lock().holder.clone()
        {
            holder.nudge();
        }
    }
}

impl Shared {
    /// Starts the background threads that are not yet running.
    fn start(self: &Arc<Shared>, stack: &Arc<Stack>) {
        for (i, shard) in self.shards.iter().enumerate() {
            if shard.started.load(Ordering::Acquire) || shard.started.swap(true, Ordering::AcqRel) {
                continue;
            }
            shard.state.lock().checked = true;
            let (shared, stack) = (self.clone(), Arc::downgrade(stack));
            let run = move || shared.background(i, &stack);
            let builder = std::thread::Builder::new().name(format!("usersock-q{i}"));
            if builder.spawn(run).is_err() {
                // EAGAIN: no thread can be created now. Blocked threads do the work, and the next call tries again.
                shard.state.lock().checked = false;
                shard.started.store(false, Ordering::Release);
            }
        }
    }

    /// The background thread of lease `i`.
    fn background(&self, i: usize, stack: &Weak<Stack>) {
        thread::block_signals();
        let (shard, shards) = (&self.shards[i], self.shards.len());
        let me = &shard.background;
        let mut checks = Checks::new();
        while !self.stop.load(Ordering::SeqCst) {
            match shard.check(&mut checks) {
                Check::Taken => shard.hold_background(stack, i, shards, &self.stop),
                Check::Later(period) => {
                    me.sleep(&mut PollSet::new(), Some(period));
                }
                Check::Rest => shard.rest(),
            }
            me.take_nudge();
        }
        shard.state.lock().holder.take_if(|h| Arc::ptr_eq(h, me));
    }
}

/// What the background thread remembers between its checks.
struct Checks {
    /// `State::releases` at the last one.
    releases: u64,
    /// The next period.
    grace: Duration,
}

impl Checks {
    fn new() -> Checks {
        Checks { releases: 0, grace: GRACE }
    }
}

/// Result of the background thread's check.
#[derive(Debug, PartialEq, Eq)]
enum Check {
    /// It now holds the lease.
    Taken,
    /// The lease was used since the last check, or has been offered to a thread: check again after this time.
    Later(Duration),
    /// A thread of the program has held the lease since the last check, and arms the timer when it releases it.
    Rest,
}

impl Shard {
    fn new() -> Shard {
        Shard {
            state: Mutex::default(),
            sleep_until: AtomicU64::new(0),
            started: AtomicBool::new(false),
            background: Arc::new(Waiter::new()),
            timer: TimerFd::new().ok(),
            burst: Mutex::default(),
        }
    }

    /// Takes the lease for a thread of the program, or queues the thread for it.
    fn acquire(&self, waiter: &Arc<Waiter>) -> bool {
        let mut s = self.state.lock();
        let nudged = waiter.take_nudge();
        match &s.holder {
            None => {
                s.parked.retain(|w| !Arc::ptr_eq(w, waiter));
                s.holder = Some(waiter.clone());
                if nudged {
                    s.vain = 0;
                }
                true
            }
            Some(holder) => {
                let holder = holder.clone();
                if !s.parked.iter().any(|w| Arc::ptr_eq(w, waiter)) {
                    s.parked.push_back(waiter.clone());
                }
                if nudged {
                    s.vain += 1;
                }
                drop(s);
                if Arc::ptr_eq(&holder, &self.background) {
                    holder.nudge();
                }
                false
            }
        }
    }

    /// The holder's wait is over: another blocked thread takes the lease, or the background thread does later. Not
    /// `urgent` if every thread that sends serves all devices: timers can then wait for the background thread's next
    /// check, and waking another thread for them would cost two context switches in each exchange between two threads.
    fn release(&self, urgent: bool) {
        let mut s = self.state.lock();
        s.holder = None;
        s.releases += 1;
        let next = if urgent && s.vain < VAIN { s.parked.front().cloned() } else { None };
        let rested = !std::mem::replace(&mut s.checked, true);
        drop(s);
        if rested {
            self.end_rest();
        }
        if let Some(next) = next {
            next.nudge();
        }
    }

    /// A thread stops waiting without the lease; if it was offered the lease, the next waiter gets the offer.
    fn leave(&self, waiter: &Arc<Waiter>) {
        let mut s = self.state.lock();
        s.parked.retain(|w| !Arc::ptr_eq(w, waiter));
        let next = if waiter.take_nudge() && s.holder.is_none() { s.parked.front().cloned() } else { None };
        drop(s);
        if let Some(next) = next {
            next.nudge();
        }
    }

    /// The background thread's check: whether the lease is used.
    fn check(&self, last: &mut Checks) -> Check {
        let mut s = self.state.lock();
        let used = std::mem::replace(&mut last.releases, s.releases) != s.releases;
        if s.holder.is_some() && !used {
            s.checked = false;
            last.grace = GRACE;
            return Check::Rest;
        }
        s.checked = true;
        if used {
            let grace = (last.grace * 2).min(GRACE_MAX);
            return Check::Later(std::mem::replace(&mut last.grace, grace));
        }
        last.grace = GRACE;
        match s.parked.front().cloned() {
            Some(next) => {
                s.vain = 0;
                drop(s);
                next.nudge();
                Check::Later(GRACE)
            }
            None => {
                s.holder = Some(self.background.clone());
                Check::Taken
            }
        }
    }

    /// The background thread sleeps until a thread has released the lease and the timer has expired, or it is nudged.
    fn rest(&self) {
        let mut wait: PollSet = self.timer.iter().map(|t| PollFd::new(t.raw(), libc::POLLIN)).collect();
        self.background.sleep(&mut wait, None);
        if let Some(t) = &self.timer {
            t.drain();
        }
    }

    /// Has the background thread check after the grace period; at once where there is no timer (no descriptors left).
    fn end_rest(&self) {
        if self.timer.as_ref().is_none_or(|t| t.arm(GRACE).is_err()) {
            self.background.nudge();
        }
    }

    /// Work of a program's thread that holds the lease, until its wait is over. `urgent` is returned false when the
    /// only devices are in memory and deliver packets at once.
    #[allow(clippy::too_many_arguments)] // what the thread waits for, and where
    fn hold(
        &self,
        stack: &Arc<Stack>,
        i: usize,
        shards: usize,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
        urgent: &mut bool,
    ) -> Woken {
        let busy_poll = Duration::from_micros(stack.sysctl.busy_poll() as u64);
        let mut queues = Queues::new();
        loop {
            waiter.take_nudge();
            if waiter.take() {
                return Woken::Event;
            }
            let now = stack.now();
            if deadline.is_some_and(|d| d <= now) {
                return Woken::TimedOut;
            }
            let mut fds = PollSet::new();
            gather(stack, i, shards, &mut queues, &mut fds);
            let devices = fds.len();
            *urgent = devices > 0 || stack.netdevs.next_event().is_some();
            if !busy_poll.is_zero() && devices > 0 {
                let until = now + busy_poll;
                while stack.now() < until && !waiter.is_woken() {
                    stack.poll_queues(stack.now(), &queues, WEIGHT);
                    std::hint::spin_loop();
                }
                if waiter.is_woken() {
                    continue;
                }
            }
            fds.extend_from_slice(extra);
            let slept = self.sleep(stack, waiter, deadline, &mut fds);
            extra.copy_from_slice(&fds[devices..devices + extra.len()]);
            match slept {
                None => self.run_due(stack, &queues),
                Some(Slept::Interrupted) => return Woken::Interrupted,
                Some(Slept::Ready) => {
                    self.serve(stack, &queues, &fds[..devices]);
                    if extra.iter().any(|p| p.revents() != 0) {
                        return Woken::Event;
                    }
                }
                Some(Slept::Look | Slept::TimedOut) => {}
            }
        }
    }

    /// Work of the background thread that holds the lease, until a thread of the program asks for it or the stack is
    /// gone.
    fn hold_background(&self, stack: &Weak<Stack>, i: usize, shards: usize, stop: &AtomicBool) {
        let me = &self.background;
        let mut queues = Queues::new();
        while !stop.load(Ordering::SeqCst) {
            let Some(strong) = stack.upgrade() else { break };
            me.take_nudge();
            if !self.state.lock().parked.is_empty() {
                break;
            }
            let mut fds = PollSet::new();
            gather(&strong, i, shards, &mut queues, &mut fds);
            let devices = fds.len();
            let Some(timeout) = self.plan(&strong, None) else {
                self.run_due(&strong, &queues);
                continue;
            };
            // While it sleeps it holds no reference to the stack, so that the program can drop the stack.
            drop(strong);
            queues.clear();
            let slept = me.sleep(&mut fds, timeout);
            self.sleep_until.store(0, Ordering::SeqCst);
            let Some(strong) = stack.upgrade() else { break };
            if slept == Slept::Ready {
                let mut again = PollSet::new();
                gather(&strong, i, shards, &mut queues, &mut again);
                // The set of devices has changed: the next iteration gathers them again.
                if again.len() == devices {
                    self.serve(&strong, &queues, &fds[..devices]);
                }
            }
        }
        self.release(true);
    }

    /// Publishes until when the holder will sleep, and returns for how long. None: something is due now.
    fn plan(&self, stack: &Arc<Stack>, deadline: Option<Instant>) -> Option<Option<Duration>> {
        let until = [stack.next_event(), deadline].into_iter().flatten().min();
        let now = stack.now();
        if until.is_some_and(|t| t <= now) && deadline.is_none_or(|d| d > now) {
            return None;
        }
        let mark = until.map_or(u64::MAX, Instant::as_nanos).max(1);
        self.sleep_until.store(mark, Ordering::SeqCst);
        // An event that appeared before the mark was stored woke nobody, so the events are read again.
        if stack.next_event().is_some_and(|t| t.as_nanos() < mark) {
            self.sleep_until.store(0, Ordering::SeqCst);
            return Some(Some(Duration::ZERO));
        }
        Some(until.map(|t| t.saturating_sub(now)))
    }

    fn sleep(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        fds: &mut PollSet,
    ) -> Option<Slept> {
        let timeout = self.plan(stack, deadline)?;
        let slept = waiter.sleep(fds, timeout);
        self.sleep_until.store(0, Ordering::SeqCst);
        Some(slept)
    }

    /// Receives from the queues whose descriptors are ready, as many packets as the last bursts had; more would be
    /// found by the next wait, and a further read often finds the queue empty.
    fn serve(&self, stack: &Arc<Stack>, queues: &Queues, fds: &[PollFd]) {
        let fd_queues = queues.iter().filter(|(d, q)| d.device().poll_fd(*q).is_some());
        let ready: Queues = fd_queues.zip(fds).filter(|(_, p)| p.revents() != 0).map(|(q, _)| q.clone()).collect();
        if ready.is_empty() {
            return;
        }
        let asked = self.burst.lock().ask(WEIGHT);
        let got = stack.poll_queues(stack.now(), &ready, asked);
        self.burst.lock().note(asked, got.div_ceil(ready.len()));
        if got == 0 && fds.iter().any(|p| p.revents() & FAILED != 0) {
            take_down_failed(&ready);
        }
    }

    /// Timers that are due, and packets of devices in memory; those of others are received when their descriptors are
    /// ready.
    fn run_due(&self, stack: &Arc<Stack>, queues: &Queues) {
        let memory = queues.iter().filter(|(d, q)| d.device().poll_fd(*q).is_none());
        stack.poll_queues(stack.now(), &memory.cloned().collect::<Queues>(), WEIGHT);
    }
}

/// Poll events of a descriptor that has failed.
const FAILED: i16 = libc::POLLERR | libc::POLLNVAL | libc::POLLHUP;

/// An AF_PACKET socket reports once that its interface went down; a deleted TUN device reports an error for ever, and
/// polling it would spin. A device that still fails after its error was read is brought down.
fn take_down_failed(queues: &Queues) {
    for (dev, q) in queues {
        let Some(fd) = dev.device().poll_fd(*q) else { continue };
        let mut p = [PollFd::new(fd, libc::POLLIN)];
        if crate::sys::fd::poll(&mut p, Some(Duration::ZERO)).is_ok() && p[0].revents() & FAILED != 0 {
            dev.set_up(false);
        }
    }
}

/// Lists the queues of lease `i` of `n`, and the descriptors of those that have one, in the same order.
fn gather(stack: &Stack, i: usize, n: usize, queues: &mut Queues, fds: &mut PollSet) {
    queues.clear();
    for dev in stack.netdevs.iter().filter(|d| d.is_up()) {
        let device = dev.device();
        let out = if dev.tx_backlog() > 0 { libc::POLLOUT } else { 0 };
        for q in (0..device.caps().queues).skip(i).step_by(n) {
            queues.push((dev.clone(), q));
            if let Some(fd) = device.poll_fd(q) {
                fds.push(PollFd::new(fd, libc::POLLIN | out));
            }
        }
    }
}

#[cfg(test)]
mod tests;
