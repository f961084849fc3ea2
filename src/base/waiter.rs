//! A waiting thread, and how it is woken. Above: wait queues (`sock::wait`), poll, epoll, and the runners (`driver`),
//! in which it sleeps. Below: futex, poll(2). Linux: struct wait_queue_entry, default_wake_function.

use crate::sys::fd::EventFd;
use crate::sys::poll::{PollFd, poll};
use crate::sys::signal::postponed::Asleep;
use crate::sys::signal::{Hold, let_in, only_in_sleep, sleep_mask, take_handled};
use crate::sys::{fork, futex};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// `Waiter::wake` was called (possibly before the wait).
    Event,
    /// The deadline passed.
    TimedOut,
    /// This thread handled a signal, or it is cancelled (`sys::cancel`).
    Interrupted,
}

/// `wake` was called.
const WOKEN: u32 = 1;
/// A runner wants the thread to check again: its lease, or the time until which it sleeps.
const NUDGED: u32 = 2;

/// The thread is awake: setting the bits is enough.
const RUNNING: u8 = 0;
/// It sleeps on the futex of `bits`.
const PARKED: u8 = 1;
/// It sleeps in poll(2), with its eventfd among the descriptors.
const POLLING: u8 = 2;

/// Descriptors whose readiness also ends a sleep.
pub(crate) type PollSet = SmallVec<[PollFd; 8]>;

/// One waiting thread: a flag that stays set until taken, so that no wake-up between registering and sleeping is lost.
/// Waking a thread that does not sleep costs no system call.
#[derive(Debug)]
pub struct Waiter {
    bits: AtomicU32,
    sleep: AtomicU8,
    /// Created at the first sleep in poll(2). Lives as long as a reference to the waiter, so that it can be signalled.
    eventfd: OnceLock<Option<EventFd>>,
    /// Fork count of its process: a fork(2) child must not share the eventfd.
    generation: u32,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Woken, nudged or spurious: check the bits.
    Look,
    /// A descriptor of the set is ready.
    Ready,
    TimedOut,
    Interrupted,
}

impl Waiter {
    /// The waiter of this thread, reset. Reused between calls unless another reference to it exists.
    pub fn current() -> Arc<Waiter> {
        CURRENT
            .try_with(|c| {
                let mut c = c.borrow_mut();
                match c.as_ref() {
                    Some(w) if Arc::strong_count(w) == 1 && w.generation == fork::generation() => {
                        w.bits.store(0, Ordering::Relaxed);
                        w.clone()
                    }
                    _ => {
                        let w = Arc::new(Waiter::new());
                        *c = Some(w.clone());
                        w
                    }
                }
            })
            .unwrap_or_else(|_| Arc::new(Waiter::new()))
    }

    /// A waiter for a thread that a runner starts; other threads use [`Waiter::current`].
    pub(crate) fn new() -> Waiter {
        Waiter {
            bits: AtomicU32::new(0),
            sleep: AtomicU8::new(RUNNING),
            eventfd: OnceLock::new(),
            generation: fork::generation(),
        }
    }

    /// Ends the current wait, or the next one.
    pub fn wake(&self) {
        self.signal(WOKEN);
    }

    /// For the runner: makes the thread check again without ending its wait.
    pub(crate) fn nudge(&self) {
        self.signal(NUDGED);
    }

    fn signal(&self, bit: u32) {
        // The sleeper writes `sleep`, then reads `bits`; this does the reverse, so at least one of the two sees the
        // other's write.
        if self.bits.fetch_or(bit, Ordering::SeqCst) & bit == 0 {
            match self.sleep.load(Ordering::SeqCst) {
                PARKED => futex::wake_one(&self.bits),
                POLLING => {
                    if let Some(Some(e)) = self.eventfd.get() {
                        e.signal();
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether `wake` was called since the last `take`.
    pub fn is_woken(&self) -> bool {
        self.bits.load(Ordering::SeqCst) & WOKEN != 0
    }

    /// Whether `wake` or `nudge` was called since the last `take` of each.
    pub(crate) fn is_called(&self) -> bool {
        self.bits.load(Ordering::SeqCst) != 0
    }

    /// Reads and clears the flag.
    pub fn take(&self) -> bool {
        self.bits.fetch_and(!WOKEN, Ordering::SeqCst) & WOKEN != 0
    }

    pub(crate) fn take_nudge(&self) -> bool {
        self.bits.fetch_and(!NUDGED, Ordering::SeqCst) & NUDGED != 0
    }

    /// Sleeps until woken, nudged, a descriptor of `fds` is ready, `timeout` expires or a signal was handled. Only the
    /// waiter's own thread calls it. On return `fds` may have the eventfd appended.
    pub(crate) fn sleep(&self, fds: &mut PollSet, timeout: Option<Duration>) -> Slept {
        only_in_sleep();
        let hold = Hold::new();
        if fds.is_empty() && hold.is_none() && sleep_mask().is_none() {
            return self.park(timeout);
        }
        let eventfd = self.eventfd.get_or_init(|| EventFd::new().ok());
        let mut timeout = timeout;
        let own = fds.len();
        match eventfd {
            Some(e) => fds.push(PollFd::new(e.raw(), libc::POLLIN)),
            // No descriptor for an eventfd: no other thread can end the poll, so it checks by itself every 10 ms.
            None => timeout = Some(timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(10))),
        }
        let asleep = Asleep::new(&self.bits, eventfd.as_ref().map(EventFd::raw));
        fds.extend(hold.as_ref().map(|hold| PollFd::new(hold.raw(), libc::POLLIN)));
        self.sleep.store(POLLING, Ordering::SeqCst);
        if self.bits.load(Ordering::SeqCst) != 0 {
            timeout = Some(Duration::ZERO);
        }
        let polled = poll(fds, timeout);
        self.sleep.store(RUNNING, Ordering::SeqCst);
        if asleep.ended() && take_handled() {
            return Slept::Interrupted;
        }
        match polled {
            Ok(n) => {
                let ready = |p: &PollFd| p.revents() != 0;
                if let Some(e) = eventfd.as_ref().filter(|_| ready(&fds[own])) {
                    e.drain();
                }
                let let_none_in = n > 0 || timeout == Some(Duration::ZERO);
                match hold.as_ref().filter(|_| fds.last().is_some_and(ready)).is_some_and(Hold::look) {
                    true => Slept::Interrupted,
                    false if let_none_in && let_in() => Slept::Interrupted,
                    false if n == 0 && eventfd.is_some() => Slept::TimedOut,
                    false if fds[..own].iter().any(ready) => Slept::Ready,
                    false => Slept::Look,
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Slept::Interrupted,
            // A bad descriptor is reported in revents; other errors (EINVAL, ENOMEM) must not cause a busy loop.
            Err(_) => {
                futex::wait(&self.bits, 0, Some(Duration::from_millis(1)));
                Slept::Look
            }
        }
    }

    /// Sleeps on the futex of `bits`.
    fn park(&self, timeout: Option<Duration>) -> Slept {
        let asleep = Asleep::new(&self.bits, None);
        self.sleep.store(PARKED, Ordering::SeqCst);
        let slept = match self.bits.load(Ordering::SeqCst) {
            0 => match futex::wait(&self.bits, 0, timeout) {
                futex::Futex::Look => Slept::Look,
                futex::Futex::TimedOut => Slept::TimedOut,
                futex::Futex::Interrupted => Slept::Interrupted,
            },
            _ => Slept::Look,
        };
        self.sleep.store(RUNNING, Ordering::SeqCst);
        if asleep.ended() && take_handled() { Slept::Interrupted } else { slept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_before_the_sleep_is_not_lost_in_either_kind_of_sleep() {
        let w = Waiter::new();
        let e = EventFd::new().unwrap();
        w.wake();
        assert_eq!(w.sleep(&mut PollSet::new(), None), Slept::Look);
        assert!(w.take() && !w.is_woken());
        w.wake();
        let mut fds = PollSet::from_elem(PollFd::new(e.raw(), libc::POLLIN), 1);
        assert_ne!(w.sleep(&mut fds, None), Slept::Ready);
        assert!(w.take());
    }

    #[test]
    fn another_thread_ends_either_kind_of_sleep() {
        let e = EventFd::new().unwrap();
        for polling in [false, true] {
            let w = Arc::new(Waiter::new());
            std::thread::scope(|s| {
                s.spawn(|| w.wake());
                while !w.take() {
                    let mut fds = PollSet::new();
                    if polling {
                        fds.push(PollFd::new(e.raw(), libc::POLLIN));
                    }
                    w.sleep(&mut fds, None);
                }
            });
        }
    }

    #[test]
    fn a_ready_descriptor_and_a_timeout_end_a_sleep() {
        let w = Waiter::new();
        let e = EventFd::new().unwrap();
        let mut fds = PollSet::from_elem(PollFd::new(e.raw(), libc::POLLIN), 1);
        assert_eq!(w.sleep(&mut fds, Some(Duration::from_nanos(1))), Slept::TimedOut);
        e.signal();
        let mut fds = PollSet::from_elem(PollFd::new(e.raw(), libc::POLLIN), 1);
        assert_eq!(w.sleep(&mut fds, None), Slept::Ready);
        assert_eq!(w.sleep(&mut PollSet::new(), Some(Duration::from_nanos(1))), Slept::TimedOut);
    }

    #[test]
    fn a_nudge_ends_a_sleep_without_an_event() {
        let w = Waiter::new();
        w.nudge();
        assert_eq!(w.sleep(&mut PollSet::new(), None), Slept::Look);
        assert!(!w.is_woken());
        assert!(w.take_nudge() && !w.take_nudge());
    }
}
