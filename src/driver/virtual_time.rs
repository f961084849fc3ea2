//! Waiting in virtual time: [`VirtualTime`] steps a simulation from event to event until the awaited event has
//! happened; [`Parked`] is for clocks that another thread moves. Above: `sim::World`, packet scripts. Below:
//! `Stack::poll`, `script`.

use super::script::{self, ScriptThread, Simulation};
use crate::base::env::{Clock, Instant, VirtualClock};
use crate::base::error::Result;
use crate::base::waiter::{PollSet, Slept, Waiter, Woken};
use crate::stack::Stack;
use crate::stack::runner::{PollFd, Runner};
use crate::sys::lock::Mutex;
use crate::sys::signal;
use smallvec::SmallVec;
use std::sync::{Arc, Weak};

/// The stacks that share a clock, stepped in the order in which they joined.
#[derive(Default)]
pub struct Scheduler {
    simulation: Arc<Simulation>,
    stacks: Mutex<Vec<Weak<Stack>>>,
    /// Those that have not ended, in the order in which they were started.
    threads: Mutex<Vec<Arc<ScriptThread>>>,
    /// Held by the thread that steps, also while a scripted thread runs for it. A simulation is stepped by one thread;
    /// several are safe, but the operating system then decides the order of their steps, and runs are not repeatable.
    turn: Mutex<()>,
}

/// Result of a step of a [`Scheduler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was processed, or time moved to the next event.
    Progress,
    /// The next event is after the limit; the clock is at the limit.
    Limit,
    /// No event is left: nothing will happen unless a program acts.
    Idle,
}

impl Scheduler {
    /// The clock, for `StackConfig`.
    pub fn clock(&self) -> &Arc<VirtualClock> {
        &self.simulation.clock
    }

    /// Adds `stack` to the simulation.
    pub fn join(&self, stack: &Arc<Stack>) {
        self.stacks.lock().push(Arc::downgrade(stack));
    }

    fn stacks(&self) -> SmallVec<[Arc<Stack>; 8]> {
        let mut list = self.stacks.lock();
        list.retain(|s| s.strong_count() > 0);
        list.iter().filter_map(Weak::upgrade).collect()
    }

    /// Starts `run` in a thread of the simulation, at the time `at`. EAGAIN: the system has no thread left.
    pub(crate) fn start(&self, at: Instant, run: impl FnOnce() + Send + 'static) -> Result<Arc<ScriptThread>> {
        let thread = ScriptThread::start(&self.simulation, at, run)?;
        self.threads.lock().push(thread.clone());
        Ok(thread)
    }

    /// Waits, in virtual time, until `thread` has ended. EDEADLK: it is the calling thread, or nothing is left that
    /// could end it. EINTR: the calling thread is a scripted one, and the simulation ends.
    pub(crate) fn join_thread(&self, thread: &ScriptThread) -> Result<()> {
        thread.join(&self.simulation, |waiter| self.block(waiter, None))
    }

    /// Whether the calling thread is a scripted one of this simulation: it can wait, but not step.
    pub(crate) fn in_thread(&self) -> bool {
        script::current(&self.simulation).is_some()
    }

    /// Whether a scripted thread has not ended.
    pub(crate) fn has_threads(&self) -> bool {
        !self.threads.lock().is_empty()
    }

    /// Ends the simulation: waits are interrupted, and calls on the sockets of its stacks return ENETDOWN, so that a
    /// program which repeats an interrupted call ends too. Waits until the scripted threads have returned; in one of
    /// them it waits for none.
    pub(crate) fn end(&self) {
        self.simulation.end();
        self.stacks().iter().for_each(|s| s.end_calls());
        if self.in_thread() {
            return;
        }
        let _turn = self.turn.lock();
        loop {
            let threads = std::mem::take(&mut *self.threads.lock());
            if threads.is_empty() {
                return;
            }
            threads.iter().for_each(|t| t.finish());
        }
    }

    /// Has each thread that is due run once. Whether there was one.
    fn run_threads(&self, now: Instant) -> bool {
        let threads = self.threads.lock().clone();
        let mut any = false;
        for t in &threads {
            any |= t.run_if_due(now);
        }
        if any {
            self.threads.lock().retain(|t| !t.ended());
        }
        any
    }

    /// Blocks the calling thread until `waiter` is woken or `deadline` is reached. Interrupted: nothing is left that
    /// could end the wait, or, in a scripted thread, the simulation ends.
    pub(crate) fn block(&self, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> Woken {
        if let Some(me) = script::current(&self.simulation) {
            return me.block(&self.simulation, waiter, deadline);
        }
        loop {
            if waiter.take() {
                return Woken::Event;
            }
            if deadline.is_some_and(|d| d <= self.clock().now()) {
                return Woken::TimedOut;
            }
            if self.simulation.is_ending() || self.step(deadline) == Step::Idle {
                signal::never_restart();
                return Woken::Interrupted;
            }
        }
    }

    /// Runs the threads that are due, or else polls every stack once, at the current time. If there was nothing to do,
    /// returns the time of the next event.
    pub fn settle(&self) -> Settled {
        let _turn = self.turn.lock();
        let now = self.clock().now();
        if self.run_threads(now) {
            return Settled::Busy;
        }
        let stacks = self.stacks();
        let mut any = false;
        for s in &stacks {
            any |= s.poll(now);
        }
        if any {
            return Settled::Busy;
        }
        // An idle stack has nothing due at `now`; should a device claim otherwise, waiting for it would never end.
        let events = stacks.iter().filter_map(|s| s.next_event()).filter(|&t| t > now).min();
        let waits = self.threads.lock().iter().filter_map(|t| t.next_event()).min();
        Settled::Until(events.into_iter().chain(waits).min())
    }

    /// As [`Scheduler::settle`]; if there was nothing to do, moves the clock to the next event, but not beyond `limit`.
    pub fn step(&self, limit: Option<Instant>) -> Step {
        let Settled::Until(next) = self.settle() else { return Step::Progress };
        match (next, limit) {
            (Some(t), l) if l.is_none_or(|l| t <= l) => {
                self.clock().set(t);
                Step::Progress
            }
            (_, Some(l)) => {
                self.clock().set(l);
                Step::Limit
            }
            (_, None) => Step::Idle,
        }
    }
}

/// Result of [`Scheduler::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Something was processed: there may be more at the same time.
    Busy,
    /// All are idle until then; None: for ever.
    Until(Option<Instant>),
}

/// Runner of a simulation: a blocking call steps all stacks of the [`Scheduler`] until its condition holds. When no
/// event is left and the call has no deadline, nothing could ever end it, so it is interrupted (EINTR): a test that
/// waits for something which never happens fails instead of hanging; a scripted thread (`sim::World::spawn`) lets the
/// simulation go on instead, and waits until it ends. Kernel descriptors do not exist in virtual time and do not end a
/// wait.
pub struct VirtualTime(Arc<Scheduler>);

impl VirtualTime {
    /// A runner for the stacks of `scheduler`.
    pub fn new(scheduler: Arc<Scheduler>) -> VirtualTime {
        VirtualTime(scheduler)
    }
}

impl Runner for VirtualTime {
    fn block(&self, _: &Arc<Stack>, waiter: &Arc<Waiter>, deadline: Option<Instant>, _: &mut [PollFd]) -> Woken {
        self.0.block(waiter, deadline)
    }

    fn kick(&self, _: &Arc<Stack>) {}
}

/// Virtual time driven from outside (a packet script, the packetdrill plug-in): a blocked thread parks until it is
/// woken. The owner of the clock polls the stack, and calls [`Parked::clock_moved`] when it has moved the clock.
#[derive(Debug, Default)]
pub struct Parked {
    /// Threads that wait with a deadline.
    waiting: Mutex<Vec<(Instant, Arc<Waiter>)>>,
}

impl Parked {
    /// Wakes threads whose deadline is at or before `now`.
    pub fn clock_moved(&self, now: Instant) {
        self.waiting.lock().iter().filter(|w| w.0 <= now).for_each(|w| w.1.nudge());
    }

    /// The earliest deadline of a blocked thread: the owner of the clock must stop there.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.lock().iter().map(|w| w.0).min()
    }
}

impl Runner for Parked {
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        if let Some(d) = deadline {
            self.waiting.lock().push((d, waiter.clone()));
        }
        let woken = loop {
            waiter.take_nudge();
            if waiter.take() {
                break Woken::Event;
            }
            if deadline.is_some_and(|d| d <= stack.now()) {
                break Woken::TimedOut;
            }
            let mut fds = PollSet::from_slice(extra);
            let slept = waiter.sleep(&mut fds, None);
            extra.copy_from_slice(&fds[..extra.len()]);
            match slept {
                Slept::Ready => break Woken::Event,
                Slept::Interrupted => break Woken::Interrupted,
                Slept::Look | Slept::TimedOut => {}
            }
        };
        if deadline.is_some() {
            self.waiting.lock().retain(|w| !Arc::ptr_eq(&w.1, waiter));
        }
        woken
    }

    fn kick(&self, _: &Arc<Stack>) {}
}
