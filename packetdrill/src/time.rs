//! Virtual time for packetdrill: a stack whose clock only moves when packetdrill moves it, and whose blocking calls,
//! which come from packetdrill's second thread, really sleep until their event in virtual time. Above: `interface`.
//! Below: `Stack::poll`.
//!
//! The main thread moves time; so does the second one while it waits for the moment to begin a blocking call, because
//! packetdrill's main thread sleeps until the call has begun. The thread that moves time goes on to the next event, or
//! back into packetdrill, only when no other thread is in the middle of a call: it waits until each has blocked again,
//! or has finished and read the clock, which is the first thing that packetdrill's second thread does after a call. So
//! a script gives the same packets at the same times in every run.

use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::thread::{Thread, ThreadId};
use std::time::Duration as RealDuration;
use usersock::env::{Clock, Instant, VirtualClock};
use usersock::internal::sys::poll::poll;
use usersock::stack::Stack;
use usersock::stack::runner::{PollFd, Runner, Waiter, Woken};

/// The longest time that the mover sleeps before it checks the others again; they also notify it.
const LOOK_AGAIN: RealDuration = RealDuration::from_millis(2);
/// How long the mover lets a second thread that has finished its call run on into packetdrill's own waiting.
const SETTLE: RealDuration = RealDuration::from_millis(200);

thread_local! {
    /// Whether this thread, not the main one, is counted in `State::running`.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// A thread asleep in a blocking call.
struct Blocked {
    thread: Thread,
    waiter: Arc<Waiter>,
    deadline: Option<Instant>,
    /// Descriptors of the kernel that it also waits for.
    extra: Vec<PollFd>,
}

impl Blocked {
    /// Whether its wake-up condition is true.
    fn is_ready(&self, now: Instant) -> bool {
        self.waiter.is_woken() || self.deadline.is_some_and(|d| d <= now) || any_ready(&mut self.extra.clone())
    }
}

#[derive(Default)]
struct State {
    /// Threads but the main one that are in a call and not asleep, or have finished one and not read the clock since.
    running: usize,
    blocked: Vec<Blocked>,
    /// Kernel thread numbers of those that finished a call and may still be on their way to packetdrill's next wait.
    finishing: HashSet<libc::pid_t>,
}

/// The clock's owner and the stack's runner: see the module's text.
pub struct VirtualTime {
    clock: Arc<VirtualClock>,
    main: ThreadId,
    state: Mutex<State>,
    changed: Condvar,
}

/// Whether one of the kernel's descriptors has one of its events now.
fn any_ready(extra: &mut [PollFd]) -> bool {
    !extra.is_empty() && poll(extra, Some(RealDuration::ZERO)).is_ok_and(|n| n > 0)
}

impl VirtualTime {
    /// Virtual time as `clock` shows it, moved by the calling thread from now on.
    pub fn new(clock: Arc<VirtualClock>) -> VirtualTime {
        VirtualTime {
            clock,
            main: std::thread::current().id(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    /// Whether this thread may move the clock: it is not in a call, or is the main one.
    pub fn is_mover(&self) -> bool {
        !ACTIVE.get()
    }

    fn is_main(&self) -> bool {
        std::thread::current().id() == self.main
    }

    /// A call begins on this thread.
    pub fn enter(&self) {
        if !self.is_main() && !ACTIVE.replace(true) {
            self.state.lock().running += 1;
        }
    }

    /// A call ended. The main thread waits for what it caused in others; another remains counted until it has read the
    /// clock.
    pub fn leave(&self) {
        if self.is_main() {
            self.quiesce();
        }
    }

    /// This thread, not the main one, has read the clock: the call before is over.
    pub fn clock_read(&self) {
        if ACTIVE.replace(false) {
            let mut state = self.state.lock();
            state.running -= 1;
            // SAFETY: takes nothing and cannot fail.
            state.finishing.insert(unsafe { libc::gettid() });
            self.changed.notify_all();
        }
    }

    /// Mover: waits until all other threads sleep or are out of their calls.
    pub fn quiesce(&self) {
        let mut state = self.state.lock();
        loop {
            let now = self.clock.now();
            let mut ready = false;
            for blocked in state.blocked.iter().filter(|b| b.is_ready(now)) {
                ready = true;
                blocked.thread.unpark();
            }
            if state.running == 0 && !ready {
                return;
            }
            self.changed.wait_for(&mut state, LOOK_AGAIN);
        }
    }

    /// Mover, while it does not hold packetdrill's lock: lets threads that have finished a call reach the wait for the
    /// next one, as a real sleep would.
    pub fn settle(&self) {
        let tids = std::mem::take(&mut self.state.lock().finishing);
        let limit = std::time::Instant::now() + SETTLE;
        // SAFETY: takes nothing and cannot fail.
        let me = unsafe { libc::gettid() };
        for tid in tids.into_iter().filter(|&tid| tid != me) {
            while is_running(tid) && std::time::Instant::now() < limit {
                std::thread::yield_now();
            }
        }
    }

    /// When something happens next: an event of the stack or the end of a blocked thread's timeo.
    fn next_event(&self, stack: &Stack) -> Option<Instant> {
        let deadline = self.state.lock().blocked.iter().filter_map(|b| b.deadline).min();
        [stack.next_event(), deadline].into_iter().flatten().min()
    }

    /// Mover: moves to the next event, if there is one no later than `limit`, and lets everybody act on it.
    pub fn step(&self, stack: &Arc<Stack>, limit: Instant) -> bool {
        let Some(next) = self.next_event(stack).filter(|&next| next <= limit) else { return false };
        let before = self.clock.now();
        self.clock.set(next);
        let acted = stack.poll(self.clock.now());
        self.quiesce();
        // If the reported deadline was too early, the step must still move the clock.
        if !acted && self.clock.now() == before {
            self.clock.advance(RealDuration::from_nanos(1).min(limit.saturating_sub(before)));
            return limit > before;
        }
        true
    }

    /// Mover: moves to `to`, through all events on the way.
    pub fn advance(&self, stack: &Arc<Stack>, to: Instant) {
        self.quiesce();
        while self.step(stack, to) {}
        self.clock.set(to);
        stack.poll(self.clock.now());
        self.quiesce();
    }

    /// The main thread itself waits: it moves time, because no other thread can.
    fn block_main(
        &self,
        stack: &Arc<Stack>,
        waiter: &Waiter,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        loop {
            if waiter.take() || any_ready(extra) {
                return Woken::Event;
            }
            if deadline.is_some_and(|d| d <= stack.now()) {
                return Woken::TimedOut;
            }
            let limit = deadline.unwrap_or(Instant::MAX);
            if self.step(stack, limit) {
                continue;
            }
            if deadline.is_none() {
                eprintln!("usersock: a call that the script does not mark as blocking would block for ever");
                return Woken::Interrupted;
            }
            self.clock.set(limit);
        }
    }
}

impl Runner for VirtualTime {
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        if self.is_main() {
            return self.block_main(stack, waiter, deadline, extra);
        }
        let me = std::thread::current();
        let blocked = Blocked { thread: me.clone(), waiter: waiter.clone(), deadline, extra: extra.to_vec() };
        let active = ACTIVE.get();
        {
            let mut state = self.state.lock();
            state.blocked.push(blocked);
            state.running -= usize::from(active);
            self.changed.notify_all();
        }
        loop {
            {
                // The flag is taken under the lock, so that `quiesce` sees this thread ready or running, never neither.
                let mut state = self.state.lock();
                let woken = if waiter.take() || any_ready(extra) {
                    Some(Woken::Event)
                } else if deadline.is_some_and(|d| d <= self.clock.now()) {
                    Some(Woken::TimedOut)
                } else {
                    None
                };
                if let Some(woken) = woken {
                    state.blocked.retain(|b| !Arc::ptr_eq(&b.waiter, waiter));
                    state.running += usize::from(active);
                    return woken;
                }
            }
            std::thread::park();
        }
    }

    // Nothing to do: the mover asks the stack for its next event at each step.
    fn kick(&self, _: &Arc<Stack>) {}
}

/// Whether a thread of this process is on a processor or waits for one, by its state in /proc.
fn is_running(tid: libc::pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    use usersock::env::SeededEntropy;
    use usersock::stack::StackConfig;
    use usersock::standard;

    fn world() -> (Arc<VirtualTime>, Arc<Stack>) {
        let clock = Arc::new(VirtualClock::new());
        let time = Arc::new(VirtualTime::new(clock.clone()));
        let entropy = Arc::new(SeededEntropy::new(1));
        let stack = standard::stack(StackConfig::new(clock, entropy, time.clone())).unwrap();
        (time, stack)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_blocked_thread_returns_at_its_deadline_and_has_read_the_clock_before_time_goes_on() {
        let (time, stack) = world();
        let seen = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (entered, wait) = std::sync::mpsc::channel();
            let (time2, stack2, seen) = (time.clone(), stack.clone(), &seen);
            scope.spawn(move || {
                for deadline in [30, 70] {
                    time2.enter();
                    entered.send(()).unwrap();
                    assert_eq!(stack2.block(&Waiter::current(), Some(at(deadline))), Woken::TimedOut);
                    seen.store(stack2.now().as_millis(), Ordering::SeqCst);
                    time2.clock_read();
                }
            });
            wait.recv().unwrap();
            time.advance(&stack, at(29));
            assert_eq!(seen.load(Ordering::SeqCst), 0, "too early");
            time.advance(&stack, at(50));
            assert_eq!(seen.load(Ordering::SeqCst), 30, "at the deadline, not when the step ended");
            wait.recv().unwrap();
            time.advance(&stack, at(90));
            assert_eq!(seen.load(Ordering::SeqCst), 70);
        });
        assert_eq!(stack.now(), at(90));
    }

    #[test]
    fn the_main_thread_waits_for_a_woken_one() {
        let (time, stack) = world();
        let done = AtomicU64::new(0);
        let (give, take) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (time2, stack2, done) = (time.clone(), stack.clone(), &done);
            scope.spawn(move || {
                time2.enter();
                let waiter = Waiter::current();
                give.send(waiter.clone()).unwrap();
                assert_eq!(stack2.block(&waiter, None), Woken::Event);
                done.store(1, Ordering::SeqCst);
                time2.clock_read();
            });
            let waiter = take.recv().unwrap();
            time.quiesce();
            assert_eq!(done.load(Ordering::SeqCst), 0);
            waiter.wake();
            time.leave();
            assert_eq!(done.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn the_main_thread_moves_time_itself_when_it_blocks() {
        let (_time, stack) = world();
        assert_eq!(stack.block(&Waiter::current(), Some(at(1234))), Woken::TimedOut);
        assert_eq!(stack.now(), at(1234));
        assert_eq!(stack.block(&Waiter::current(), None), Woken::Interrupted, "nothing is left to happen");
        let waiter = Waiter::current();
        waiter.wake();
        assert_eq!(stack.block(&waiter, None), Woken::Event);
    }

    #[test]
    fn a_step_goes_to_the_next_event_and_not_past_its_limit() {
        struct Note(AtomicU64);
        impl usersock::stack::TimerCall for Note {
            fn fire(self: Arc<Self>, _: &Arc<Stack>, now: Instant) {
                self.0.store(now.as_millis(), Ordering::SeqCst);
            }
        }
        let (time, stack) = world();
        let note = Arc::new(Note(AtomicU64::new(0)));
        let mut slot = usersock::stack::TimerSlot::default();
        stack.arm_call(&mut slot, note.clone(), at(10));
        assert!(!time.step(&stack, at(9)));
        assert!(stack.now() < at(10));
        while note.0.load(Ordering::SeqCst) == 0 {
            assert!(time.step(&stack, at(20)));
        }
        assert_eq!((note.0.load(Ordering::SeqCst), stack.now()), (10, at(10)));
        time.advance(&stack, at(10) + Duration::from_secs(1));
        assert_eq!(stack.now(), at(1010));
    }
}
