//! Scripted threads of a simulation: programs with blocking calls in virtual time. Each is a thread of the operating
//! system, but one at a time runs, while the thread that steps the simulation waits for it: from the end of one of its
//! waits to the next one, or to its end, no time passes and nothing else happens. So their order is that of their
//! numbers and of virtual time, and a run can be repeated. Above: `virtual_time`, which runs those that are due before
//! it polls the stacks. Below: `Waiter`s, on which a blocked call waits.

use crate::base::env::{Clock, Instant, VirtualClock};
use crate::base::error::{Error, Result};
use crate::base::waiter::{Waiter, Woken};
use crate::sys::lock::{Condvar, Mutex};
use crate::sys::signal;
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// Bytes of such a thread's stack: glibc's usual size of a thread, of which only what is used becomes memory.
const STACK_SIZE: usize = 8 << 20;

/// What the threads of a simulation know of it.
#[derive(Debug, Default)]
pub(super) struct Simulation {
    pub(super) clock: Arc<VirtualClock>,
    /// It ends: every wait is interrupted.
    ending: AtomicBool,
}

impl Simulation {
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

/// What a thread does.
enum State {
    /// It waits for a wake-up, or until a time, or for both; without either, for ever.
    Waits { waiter: Option<Arc<Waiter>>, until: Option<Instant> },
    /// It runs, and the thread that steps waits.
    Runs,
    /// It has returned. The payload of a panic is kept until the thread that steps takes it.
    Ended { panic: Option<Box<dyn Any + Send>> },
}

/// A scripted thread of a simulation ([`World::spawn`](crate::sim::World::spawn)): of all of them one at a time runs,
/// and no time passes meanwhile.
pub struct ScriptThread {
    state: Mutex<State>,
    /// The state has changed: from `Runs` or to it.
    changed: Condvar,
    /// Woken at the end.
    joiners: Mutex<Vec<Arc<Waiter>>>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for ScriptThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state.lock() {
            State::Waits { until, .. } => format!("waits until {until:?}"),
            State::Runs => "runs".to_owned(),
            State::Ended { .. } => "ended".to_owned(),
        };
        write!(f, "ScriptThread({state})")
    }
}

thread_local! {
    /// The scripted thread that this thread is, and its simulation.
    static CURRENT: RefCell<Option<(Arc<Simulation>, Arc<ScriptThread>)>> = const { RefCell::new(None) };
}

/// The calling thread, if it is a scripted thread of `simulation`.
pub(super) fn current(simulation: &Arc<Simulation>) -> Option<Arc<ScriptThread>> {
    let mine =
        |(of, thread): &(Arc<Simulation>, Arc<ScriptThread>)| Arc::ptr_eq(of, simulation).then(|| thread.clone());
    // A thread whose locals are gone waits for nothing more.
    CURRENT.try_with(|c| c.borrow().as_ref().and_then(mine)).ok().flatten()
}

impl ScriptThread {
    /// Whether it has returned.
    pub fn ended(&self) -> bool {
        matches!(*self.state.lock(), State::Ended { .. })
    }

    /// Starts `run` in a thread that waits until `at`. EAGAIN: the system has no thread left.
    pub(super) fn start(
        simulation: &Arc<Simulation>,
        at: Instant,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<ScriptThread>> {
        let thread = Arc::new(ScriptThread {
            state: Mutex::new(State::Waits { waiter: None, until: Some(at) }),
            changed: Condvar::default(),
            joiners: Mutex::default(),
            handle: Mutex::default(),
        });
        let (of, me) = (simulation.clone(), thread.clone());
        let body = move || {
            me.await_turn();
            // The simulation may end before its time has come.
            let begins = !of.is_ending();
            CURRENT.with(|c| *c.borrow_mut() = Some((of, me.clone())));
            let run = || {
                if begins {
                    run()
                }
            };
            let panic = catch_unwind(AssertUnwindSafe(run)).err();
            CURRENT.with(|c| *c.borrow_mut() = None);
            me.end(panic);
        };
        let started = Builder::new().name("usersock-script".to_owned()).stack_size(STACK_SIZE).spawn(body);
        *thread.handle.lock() = Some(started.map_err(|_| Error::Again)?);
        Ok(thread)
    }

    /// Waits, as a thread of the operating system, until it may run.
    fn await_turn(&self) {
        let mut state = self.state.lock();
        while !matches!(*state, State::Runs) {
            state = self.changed.wait(state);
        }
    }

    /// Joiners are woken before the thread that steps goes on, which then finds them due.
    fn end(&self, panic: Option<Box<dyn Any + Send>>) {
        let mut state = self.state.lock();
        for waiter in self.joiners.lock().drain(..) {
            waiter.wake();
        }
        *state = State::Ended { panic };
        self.changed.notify_all();
    }

    /// Called by the thread itself: lets the simulation go on until `waiter` is woken or `until` is reached.
    fn wait(&self, waiter: Option<&Arc<Waiter>>, until: Option<Instant>) {
        *self.state.lock() = State::Waits { waiter: waiter.cloned(), until };
        self.changed.notify_all();
        self.await_turn();
    }

    /// `Scheduler::block` of a scripted thread. Interrupted: the simulation ends.
    pub(super) fn block(&self, simulation: &Simulation, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> Woken {
        loop {
            if waiter.take() {
                return Woken::Event;
            }
            if deadline.is_some_and(|d| d <= simulation.clock.now()) {
                return Woken::TimedOut;
            }
            if simulation.is_ending() {
                signal::never_restart();
                return Woken::Interrupted;
            }
            self.wait(Some(waiter), deadline);
        }
    }

    /// Whether its wait is over at `now`.
    fn is_due(&self, now: Instant) -> bool {
        match &*self.state.lock() {
            State::Waits { waiter, until } => {
                waiter.as_ref().is_some_and(|w| w.is_woken()) || until.is_some_and(|t| t <= now)
            }
            State::Runs | State::Ended { .. } => false,
        }
    }

    /// The time until which it waits.
    pub(super) fn next_event(&self) -> Option<Instant> {
        match &*self.state.lock() {
            State::Waits { until, .. } => *until,
            State::Runs | State::Ended { .. } => None,
        }
    }

    /// Called by the thread that steps: has it run until it waits again or has ended. Returns what it panicked with.
    fn run(&self) -> Option<Box<dyn Any + Send>> {
        let mut state = self.state.lock();
        if matches!(*state, State::Waits { .. }) {
            *state = State::Runs;
            self.changed.notify_all();
        }
        while matches!(*state, State::Runs) {
            state = self.changed.wait(state);
        }
        match &mut *state {
            State::Ended { panic } => panic.take(),
            State::Waits { .. } | State::Runs => None,
        }
    }

    /// Called by the thread that steps: if it is due, has it run. Whether it was. A panic of it goes on here, so that
    /// a failed assertion in a script fails the test.
    pub(super) fn run_if_due(&self, now: Instant) -> bool {
        let due = self.is_due(now);
        if due && let Some(panic) = self.run() {
            resume_unwind(panic);
        }
        due
    }

    /// Ends it, when the simulation ends: all its waits are interrupted from now on. A panic is what an unexpected
    /// EINTR may cause, and of no interest any more.
    pub(super) fn finish(&self) {
        while !self.ended() {
            drop(self.run());
        }
        if let Some(handle) = self.handle.lock().take() {
            // A panic has been caught in the thread.
            let _ = handle.join();
        }
    }

    /// Waits, by `block`, until it has ended. EDEADLK: it is the calling thread, or no event is left that could end it;
    /// EINTR: the calling thread is a scripted one, and the simulation ends.
    pub(super) fn join(&self, simulation: &Arc<Simulation>, block: impl Fn(&Arc<Waiter>) -> Woken) -> Result<()> {
        let caller = current(simulation);
        if caller.as_ref().is_some_and(|me| std::ptr::eq(Arc::as_ptr(me), self)) {
            return Err(Error::Deadlk);
        }
        let waiter = Waiter::current();
        self.joiners.lock().push(waiter.clone());
        while !self.ended() {
            if block(&waiter) == Woken::Interrupted {
                self.joiners.lock().retain(|w| !Arc::ptr_eq(w, &waiter));
                return Err(if caller.is_some() { Error::Intr } else { Error::Deadlk });
            }
        }
        Ok(())
    }
}
