//! Timers of a protocol that belong to no sock, and its deferred work. Above: `cproto`, which runs the operations, and
//! `softirq`, by which a plug-in arms and asks. Below: the stack's timer wheels. Linux: timer_setup, queue_work.

use std::sync::{Arc, Weak};
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::internal::sys::lock::Mutex;
use usersock::stack::{Stack, TimerCall, TimerSlot};

/// Timers of a registration.
const TIMERS: usize = 32;

/// What is armed of a registration, and the work that it asked for.
#[derive(Default)]
pub(crate) struct Deferred {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    timers: Vec<TimerSlot>,
    /// Fires as soon as it can: the work.
    soon: TimerSlot,
    /// Bits of usk_reg_defer that have not run.
    work: u32,
    /// A thread runs the work: `soon` is not armed meanwhile, so that no other does.
    working: bool,
    /// The registration has ended: nothing is armed any more.
    ended: bool,
}

/// A registration with timers and deferred work, which are run in softirq context, with no lock held.
pub(super) trait Run: Send + Sync {
    fn deferred(&self) -> &Deferred;
    fn timer(&self, index: u32);
    fn work(&self, bits: u32);
}

/// What fires. It does not keep the registration: an ended one leaves nothing in the wheels.
struct Due {
    of: Weak<dyn Run>,
    /// None: the work.
    timer: Option<u32>,
}

impl TimerCall for Due {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        let Some(run) = self.of.upgrade() else { return };
        let deferred = run.deferred();
        let mut slots = deferred.slots.lock();
        let slot = match self.timer {
            Some(index) => slots.timers.get_mut(index as usize),
            None => Some(&mut slots.soon),
        };
        // It was cancelled, or got another time, after it had left the wheel.
        let Some(slot) = slot.filter(|slot| slot.at().is_some_and(|at| at <= now)) else { return };
        slot.fired();
        if let Some(index) = self.timer {
            drop(slots);
            return run.timer(index);
        }
        let bits = std::mem::take(&mut slots.work);
        slots.working = true;
        drop(slots);
        run.work(bits);
        let mut slots = deferred.slots.lock();
        slots.working = false;
        Deferred::arm_work(stack, &mut slots, self.of.clone());
    }
}

impl Deferred {
    /// Arms the timer for what work there is, unless a thread is at work: it calls this when it is done.
    fn arm_work(stack: &Arc<Stack>, slots: &mut Slots, run: Weak<dyn Run>) {
        if slots.work != 0 && !slots.working && !slots.ended && !slots.soon.is_armed() {
            stack.arm_call(&mut slots.soon, Arc::new(Due { of: run, timer: None }), stack.now());
        }
    }

    /// Arms timer `index` of `run`, whose this is, or changes its time. EINVAL: no such timer, or the registration has
    /// ended.
    pub(super) fn arm(&self, stack: &Arc<Stack>, run: Weak<dyn Run>, index: u32, at: Instant) -> Result<()> {
        let mut slots = self.slots.lock();
        let i = usize::try_from(index).ok().filter(|i| *i < TIMERS && !slots.ended).ok_or(Error::Inval)?;
        while slots.timers.len() <= i {
            slots.timers.push(TimerSlot::default());
        }
        let due = Arc::new(Due { of: run, timer: Some(index) });
        stack.arm_call(&mut slots.timers[i], due, at);
        Ok(())
    }

    /// Disarms a timer. Returns whether it was armed: then it does not fire.
    pub(super) fn cancel(&self, stack: &Stack, index: u32) -> bool {
        let mut slots = self.slots.lock();
        let slot = slots.timers.get_mut(index as usize).filter(|slot| slot.is_armed());
        slot.is_some_and(|slot| {
            // One that has left the wheel finds its slot empty.
            stack.timers.cancel(slot);
            true
        })
    }

    /// When a timer fires; None: it is not armed.
    pub(super) fn at(&self, index: u32) -> Option<Instant> {
        self.slots.lock().timers.get(index as usize).and_then(TimerSlot::at)
    }

    /// Asks for work. EINVAL: the registration has ended.
    pub(super) fn ask(&self, stack: &Arc<Stack>, run: Weak<dyn Run>, bits: u32) -> Result<()> {
        let mut slots = self.slots.lock();
        if slots.ended {
            return Err(Error::Inval);
        }
        slots.work |= bits;
        Deferred::arm_work(stack, &mut slots, run);
        Ok(())
    }

    /// The registration ends: nothing fires any more but what is running.
    pub(super) fn end(&self, stack: &Stack) {
        let mut slots = self.slots.lock();
        slots.ended = true;
        let Slots { timers, soon, .. } = &mut *slots;
        timers.iter_mut().chain([soon]).for_each(|slot| _ = stack.timers.cancel(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use usersock::internal::sys::lock::Mutex;
    use usersock::sim::World;

    /// A registration whose work asks for more, and lets the timers run meanwhile, as another thread may.
    struct Busy {
        deferred: Deferred,
        stack: Arc<Stack>,
        me: Weak<Busy>,
        depth: AtomicU32,
        log: Mutex<Vec<(u32, u32)>>,
    }

    impl Run for Busy {
        fn deferred(&self) -> &Deferred {
            &self.deferred
        }
        fn timer(&self, _: u32) {}
        fn work(&self, bits: u32) {
            let depth = self.depth.fetch_add(1, Ordering::Relaxed);
            self.log.lock().push((depth, bits));
            if bits == 1 {
                self.ask(2);
                self.stack.poll(self.stack.now());
                self.ask(4);
                self.stack.poll(self.stack.now());
            }
            self.depth.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Busy {
        fn ask(&self, bits: u32) {
            self.deferred.ask(&self.stack, self.me.clone(), bits).unwrap();
        }
    }

    #[test]
    fn work_runs_once_at_a_time_with_all_that_was_asked_meanwhile() {
        let world = World::new(1);
        let stack = world.stack().unwrap();
        let run = Arc::new_cyclic(|me| Busy {
            deferred: Deferred::default(),
            stack: stack.clone(),
            me: me.clone(),
            depth: AtomicU32::new(0),
            log: Mutex::default(),
        });
        run.ask(1);
        stack.poll(stack.now());
        assert_eq!(*run.log.lock(), [(0, 1), (0, 6)], "depth, and bits");
        run.ask(0);
        stack.poll(stack.now());
        assert_eq!(run.log.lock().len(), 2, "no work without a bit");
    }
}
