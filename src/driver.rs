//! Who runs softirq, and how a thread waits. A [`Runner`] is chosen with the stack: `lease` (real time, threads wait in the
//! devices' own descriptors), or one of virtual time, where waiting means stepping the simulation. Above: blocking calls
//! (`sock::wait`, poll, epoll). Below: `Stack::poll`.

use crate::env::Instant;
use crate::stack::Stack;
use std::cell::RefCell;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::Thread;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// `Waiter::wake` was called (possibly before the wait).
    Event,
    /// The deadline passed.
    TimedOut,
    /// A signal was handled by this thread.
    Interrupted,
}

/// One waiting thread: a flag that stays set until taken, so that no wake-up between registering and waiting is lost.
#[derive(Debug)]
pub struct Waiter {
    /// 0 idle, 1 woken.
    woken: AtomicU8,
    thread: Thread,
    /// What else must be done to interrupt the wait, as the runner set it: a descriptor to write to, for a thread that waits
    /// in a device's descriptor; -1 for one that is parked.
    kick: std::sync::atomic::AtomicI32,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
}

impl Waiter {
    /// A waiter of this thread, reset. Reused between calls when nobody else still holds it.
    pub fn current() -> Arc<Waiter> {
        CURRENT
            .try_with(|c| {
                let mut c = c.borrow_mut();
                match c.as_ref() {
                    Some(w) if Arc::strong_count(w) == 1 => {
                        w.woken.store(0, Ordering::Relaxed);
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

    fn new() -> Waiter {
        Waiter { woken: AtomicU8::new(0), thread: std::thread::current(), kick: std::sync::atomic::AtomicI32::new(-1) }
    }

    /// Ends the wait, or the next one.
    pub fn wake(&self) {
        if self.woken.swap(1, Ordering::SeqCst) == 0 {
            match self.kick.load(Ordering::SeqCst) {
                -1 => self.thread.unpark(),
                fd => crate::sys::fd::eventfd_signal(fd),
            }
        }
    }

    /// Whether `wake` was called since the last `take`.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst) != 0
    }

    /// Reads and clears the flag.
    pub fn take(&self) -> bool {
        self.woken.swap(0, Ordering::SeqCst) != 0
    }

    /// Runner only: from now on a wake-up also signals this eventfd (a thread that waits in poll); -1: it unparks.
    pub fn set_kick(&self, eventfd: RawFd) {
        self.kick.store(eventfd, Ordering::SeqCst);
    }
}

/// How threads of a stack wait, and who works while they do.
pub trait Runner: Send + Sync {
    /// Blocks the calling thread, which owns no sock, until `waiter` is woken or `deadline` passes; runs softirq meanwhile
    /// if that is this thread's turn. `extra`: descriptors of the kernel whose readiness (poll events) also ends the wait;
    /// the caller looks at them again itself.
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &[(RawFd, i16)],
    ) -> Woken;

    /// An earlier timer deadline, or work for softirq, appeared while possibly nobody looks.
    fn kick(&self, stack: &Arc<Stack>);
}

/// Virtual time driven from outside (a packet script, the packetdrill plug-in): a blocked thread parks until it is woken;
/// whoever owns the clock polls the stack.
#[derive(Debug, Default)]
pub struct Parked;

impl Runner for Parked {
    fn block(&self, stack: &Arc<Stack>, waiter: &Arc<Waiter>, deadline: Option<Instant>, _: &[(RawFd, i16)]) -> Woken {
        loop {
            if waiter.take() {
                return Woken::Event;
            }
            if deadline.is_some_and(|d| d <= stack.now()) {
                return Woken::TimedOut;
            }
            std::thread::park();
        }
    }

    fn kick(&self, _: &Arc<Stack>) {}
}
