//! The driver lease: real time. The thread that holds the lease of a queue waits in the devices' own descriptors and
//! runs softirq. A thread that is about to block takes the lease, so that the packet it waits for needs no wake-up of
//! another thread. While no thread of the program waits, a background thread holds it. Above: blocking calls. Below:
//! `Stack::poll_queues`, poll(2).
//!
//! A request-reply loop blocks and returns thousands of times a second, so the background thread does not take over
//! whenever a thread returns, and that thread makes no system call to return. Instead, the background thread checks
//! from time to time. If the lease was used since the last check, it sleeps for another period of 1 to 2 ms; if it is
//! free and was not used, it serves the devices once and checks again, as a busy server comes back soon and a thread
//! that waited beside it would be woken for each packet; after [`PASSES`] such checks it keeps the lease, and releases
//! it when a thread blocks and asks for it; if a thread held it all the time, as in a server without work, it rests.
//! Only a thread that releases the lease during the rest arms a timer, which ends it.
//!
//! Invariant: when no thread holds a lease, its background thread sleeps for a period or is awake, its timer is armed,
//! or a thread has been told to take it; so packets and timers wait at most two periods, 4 ms (a jiffy where HZ is
//! 250), while the program computes.
//!
//! A thread that waits while another holds the lease is woken by it when its packets come, which costs two context
//! switches; so the lease moves to the threads whose packets come ([`FOREIGN`]), and is offered to those whose packets
//! came lately ([`RECENT`]). What the holder does is in `hold`; `loan` is about queues that no thread waits in.
//!
//! After fork(2) the stack belongs to the parent alone (`Stack::is_inherited`): no thread of the child waits for it or
//! works for it.

use super::burst::Burst;
use super::eager::Eager;
use crate::base::env::{Clock, Duration, Instant};
use crate::base::waiter::{PollSet, Slept, Waiter, Woken};
use crate::device::netdev::NetDev;
use crate::stack::Stack;
use crate::stack::runner::{PollFd, Runner};
use crate::sys::fd::TimerFd;
use crate::sys::lock::{Mutex, MutexGuard};
use crate::sys::thread;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The first period for which the background thread leaves a lease to the program's threads. Each check that finds the
/// lease used doubles it, up to `GRACE_MAX`.
const GRACE: Duration = Duration::from_millis(1);
const GRACE_MAX: Duration = Duration::from_millis(2);
/// So many checks in a row that find the lease free and not used serve the devices once each; the next one keeps the
/// lease.
const PASSES: u32 = 8;
/// The background thread that finds packets again so soon lets more gather for as long before it waits for the next:
/// the threads that they are for are awake, so that nobody waits, and a wait for each packet would cost as much as the
/// packet. A thread that blocks ends that time. Linux: interrupt moderation, gro_flush_timeout.
const MODERATION: Duration = Duration::from_micros(50);
/// After this many failed hand-overs (the lease was taken again before the woken thread ran) the next is left to the
/// timer.
const VAIN: u32 = 2;

/// After so many waits by other threads during one hold, for each of which the holder received no more than
/// [`WORTH_A_WAKE`] packets, it passes the lease to the thread that waits then: the packets are for others, and each
/// costs a wake-up. Where more packets come, the holder works beside the threads that they are for.
const FOREIGN: u32 = 8;
const WORTH_A_WAKE: u64 = 3;
/// A thread that has waited for more releases than this is not offered the lease as long as releases are frequent: its
/// packets are rare.
const RECENT: u64 = 16;

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
    eager: Mutex<Eager>,
    strays: Strays,
    /// Packets that holders have received.
    packets: AtomicU64,
}

/// A thread that waits without the lease.
struct Parked {
    waiter: Arc<Waiter>,
    /// `State::releases` when it began to wait. None: it held the lease, and the packets were for others.
    since: Option<u64>,
}

#[derive(Default)]
struct State {
    /// It sleeps or runs softirq; a thread that was passed the lease may not have woken yet.
    holder: Option<Arc<Waiter>>,
    /// Threads that wait without the lease, longest first.
    parked: VecDeque<Parked>,
    /// The holder is a thread that has another lease of its own (`loan`).
    lent: bool,
    /// The thread that would borrow the lease from the background thread; of several, the one that asked last.
    wanted: Option<Arc<Waiter>>,
    /// The parked thread that the holder is to pass the lease to.
    heir: Option<Arc<Waiter>>,
    /// How often others began to wait during this hold, and `Shard::packets` when that was first counted.
    foreign: u32,
    foreign_since: u64,
    /// When the lease was last released while threads were parked.
    released: Instant,
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
        let i = thread::number() % shared.shards.len();
        let shard = &shared.shards[i];
        loop {
            if stack.is_inherited() {
                // A signal handler called fork during the wait.
                return Woken::Interrupted;
            }
            if shard.acquire(waiter) {
                let mut urgent = true;
                let woken = shard.hold(stack, i, &shared.shards, waiter, deadline, extra, &mut urgent);
                if let Some(woken) = woken {
                    shard.release(urgent, &*stack.clock);
                    return woken;
                }
                // The lease was passed to another thread.
                continue;
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
                shard.leave(waiter, &*stack.clock);
                return woken;
            }
        }
    }

    fn busy_poll(&self, stack: &Arc<Stack>, waiter: &Arc<Waiter>, time: Duration) {
        if stack.is_inherited() {
            return;
        }
        let shared = &self.shared;
        shared.start(stack);
        let i = thread::number() % shared.shards.len();
        let shard = &shared.shards[i];
        // With the lease, so that no other thread is woken by the same packets.
        if shard.acquire(waiter) {
            let mut queues = Queues::new();
            gather(stack, i, shared.shards.len(), &mut queues, &mut PollSet::new());
            shard.spin(stack, &queues, waiter, stack.now() + time, &mut [], true);
            shard.release(false, &*stack.clock);
        } else {
            shard.leave(waiter, &*stack.clock);
        }
    }

    fn receive_now(&self, stack: &Arc<Stack>) {
        if stack.is_inherited() {
            return;
        }
        let shards = &self.shared.shards;
        let i = thread::number() % shards.len();
        // Without the lease: to its holder the packets are as if they had not come.
        shards[i].receive_now(stack, i, shards.len());
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
                // lease there is nothing to do; with several, one that is free or on loan does not mean that the other
                // holders wake in time.
                0 => {
                    if shared.shards.len() == 1 || shard.state.lock().is_served() {
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

    fn look_again(&self, stack: &Arc<Stack>) {
        if stack.is_inherited() {
            return;
        }
        self.shared.start(stack);
        for shard in self.shared.shards.iter().filter(|s| s.sleep_until.load(Ordering::SeqCst) != 0) {
            if let Some(holder) = shard.state.lock().holder.clone() {
                holder.nudge();
            }
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
            if thread::spawn(builder, run).is_err() {
                // EAGAIN: no thread can be created now. Blocked threads do the work, and the next call tries again.
                shard.state.lock().checked = false;
                shard.started.store(false, Ordering::Release);
            }
        }
    }

    /// The background thread of lease `i`.
    fn background(&self, i: usize, stack: &Weak<Stack>) {
        // What it sends as it works goes to the queues that it receives from.
        thread::set_number(i);
        let (shard, shards) = (&self.shards[i], self.shards.len());
        let me = &shard.background;
        let mut checks = Checks::new();
        while !self.stop.load(Ordering::SeqCst) {
            match shard.check(&mut checks) {
                Check::Taken => shard.hold_background(stack, i, shards, &self.stop),
                Check::Pass => {
                    let Some(stack) = stack.upgrade() else { break };
                    shard.pass(&stack, i, shards);
                    drop(stack);
                    me.sleep(&mut PollSet::new(), Some(GRACE_MAX));
                }
                Check::Later(period) => {
                    me.sleep(&mut PollSet::new(), Some(period));
                }
                Check::Rest => shard.rest(),
            }
            if me.take_nudge()
                && let Some(stack) = stack.upgrade()
            {
                stack.run_left();
            }
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
    /// How many more that find the lease free serve the devices only once.
    passes: u32,
}

impl Checks {
    fn new() -> Checks {
        Checks { releases: 0, grace: GRACE, passes: 0 }
    }
}

/// Result of the background thread's check.
#[derive(Debug, PartialEq, Eq)]
enum Check {
    /// It now holds the lease.
    Taken,
    /// It now holds the lease, serves the devices once, and checks again.
    Pass,
    /// The lease was used since the last check, or has been offered to a thread: check again after this time.
    Later(Duration),
    /// A thread of the program has held the lease since the last check, and arms the timer when it releases it.
    Rest,
}

impl State {
    /// A thread that has no other lease of its own holds it.
    fn is_served(&self) -> bool {
        self.holder.is_some() && !self.lent
    }

    fn is_held_by(&self, waiter: &Arc<Waiter>) -> bool {
        self.holder.as_ref().is_some_and(|h| Arc::ptr_eq(h, waiter))
    }

    /// The parked thread that is offered the lease after a release. Where releases are frequent, only one that began to
    /// wait lately: to wake a thread whose packets are rare, for each request of another, would cost more than the
    /// request, and should a packet for it come, the background thread's next check offers it the lease.
    fn next(&mut self, clock: &dyn Clock) -> Option<Arc<Waiter>> {
        let last = self.parked.back()?;
        let now = clock.now();
        let rare = now - std::mem::replace(&mut self.released, now) >= GRACE;
        let recent = last.since.is_some_and(|at| self.releases - at <= RECENT);
        (rare || recent).then(|| last.waiter.clone())
    }

    /// The thread that began to wait last.
    fn latest(&self) -> Option<Arc<Waiter>> {
        self.parked.back().map(|p| p.waiter.clone())
    }
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
            eager: Mutex::new(Eager::new(std::thread::available_parallelism().map_or(1, |n| n.get()))),
            strays: Strays::default(),
            packets: AtomicU64::new(0),
        }
    }

    /// A thread waits for a lease that the background thread holds.
    fn is_wanted(&self) -> bool {
        let s = self.state.lock();
        s.wanted.is_some() || !s.parked.is_empty()
    }

    /// Takes the lease for a thread of the program, or queues the thread for it.
    fn acquire(&self, waiter: &Arc<Waiter>) -> bool {
        let mut s = self.state.lock();
        let nudged = waiter.take_nudge();
        let holder = match &s.holder {
            Some(holder) if !Arc::ptr_eq(holder, waiter) && !s.lent => holder.clone(),
            // Free, on loan, or passed to this thread.
            _ => {
                s.parked.retain(|p| !Arc::ptr_eq(&p.waiter, waiter));
                (s.holder, s.lent) = (Some(waiter.clone()), false);
                (s.heir, s.foreign) = (None, 0);
                if nudged {
                    s.vain = 0;
                }
                return true;
            }
        };
        if nudged {
            s.vain += 1;
        }
        if !s.parked.iter().any(|p| Arc::ptr_eq(&p.waiter, waiter)) {
            let since = Some(s.releases);
            s.parked.push_back(Parked { waiter: waiter.clone(), since });
            if s.foreign == 0 {
                s.foreign_since = self.packets.load(Ordering::Relaxed);
            }
            s.foreign += 1;
        }
        let background = Arc::ptr_eq(&holder, &self.background);
        let mut inherits = false;
        if s.foreign >= FOREIGN {
            s.foreign = 0;
            let packets = self.packets.load(Ordering::Relaxed) - s.foreign_since;
            inherits = !background && packets <= u64::from(FOREIGN) * WORTH_A_WAKE;
        }
        if inherits {
            s.heir = Some(waiter.clone());
        }
        drop(s);
        if background || inherits {
            holder.nudge();
        }
        false
    }

    /// The holder was nudged: passes the lease to the heir, if there is one and it still waits, and parks.
    fn pass_on(&self, waiter: &Arc<Waiter>) -> bool {
        let mut s = self.state.lock();
        let Some(heir) = s.heir.take() else { return false };
        let Some(at) = s.parked.iter().position(|p| Arc::ptr_eq(&p.waiter, &heir)) else { return false };
        s.parked.remove(at);
        s.parked.push_front(Parked { waiter: waiter.clone(), since: None });
        s.holder = Some(heir.clone());
        s.releases += 1;
        drop(s);
        heir.nudge();
        true
    }

    /// The holder's wait is over: another blocked thread takes the lease, or the background thread does later. Not
    /// `urgent` if every thread that sends serves all devices: timers can then wait for the background thread's next
    /// check, and waking another thread for them would cost two context switches in each exchange between two threads.
    fn release(&self, urgent: bool, clock: &dyn Clock) {
        self.release_held(self.state.lock(), urgent, clock);
    }

    /// The same, if `waiter` holds it.
    fn release_if(&self, waiter: &Arc<Waiter>, clock: &dyn Clock) {
        let s = self.state.lock();
        if s.is_held_by(waiter) {
            self.release_held(s, true, clock);
        }
    }

    fn release_held(&self, mut s: MutexGuard<'_, State>, urgent: bool, clock: &dyn Clock) {
        (s.holder, s.heir, s.lent) = (None, None, false);
        let borrower = s.wanted.take();
        s.releases += 1;
        let next = if urgent && s.vain < VAIN { s.next(clock) } else { None };
        let rested = !std::mem::replace(&mut s.checked, true);
        drop(s);
        if rested {
            self.end_rest();
        }
        // A borrower is told as well: it borrows when it next gathers what to wait in.
        if let Some(next) = next.or(borrower) {
            next.nudge();
        }
    }

    /// A thread stops waiting without the lease; if it was offered or passed the lease, the next waiter gets the offer.
    fn leave(&self, waiter: &Arc<Waiter>, clock: &dyn Clock) {
        let mut s = self.state.lock();
        s.parked.retain(|p| !Arc::ptr_eq(&p.waiter, waiter));
        if s.is_held_by(waiter) {
            waiter.take_nudge();
            return self.release_held(s, true, clock);
        }
        let next = if waiter.take_nudge() && s.holder.is_none() { s.latest() } else { None };
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
            last.passes = PASSES;
            return Check::Rest;
        }
        s.checked = true;
        if used {
            last.passes = PASSES;
            let grace = (last.grace * 2).min(GRACE_MAX);
            return Check::Later(std::mem::replace(&mut last.grace, grace));
        }
        last.grace = GRACE;
        match s.latest() {
            Some(next) => {
                s.vain = 0;
                drop(s);
                next.nudge();
                Check::Later(GRACE)
            }
            None => {
                s.holder = Some(self.background.clone());
                match last.passes {
                    0 => Check::Taken,
                    n => {
                        // Its own release is no use of the lease.
                        (last.passes, last.releases) = (n - 1, s.releases + 1);
                        Check::Pass
                    }
                }
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
}

mod hold;
mod loan;
use hold::gather;
use loan::Strays;
#[cfg(test)]
mod tests;
