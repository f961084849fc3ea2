//! The timers of a stack, in wheels of which each thread arms in one. Above: `arm_sock` for a sock's timers, `arm_call`
//! for all others. Below: [`Wheel`]; `softirq` runs what is due. Linux: kernel/time/timer.c (mod_timer, del_timer).

use super::Stack;
use crate::base::boxed::boxed_array;
use crate::base::env::Instant;
use crate::base::padded::Padded;
use crate::base::wheel::{TimerId, Wheel};
use crate::sock::{Sock, crowd};
use crate::sys::lock::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of timer wheels of a stack: each thread arms timers in one of them, so that threads share no lock.
const WHEELS: usize = crate::counters::SHARDS;

/// The action of a timer that fires, in softirq context.
#[non_exhaustive]
pub enum TimerTarget {
    /// `Sock::defer(bits)`.
    Sock(Arc<Sock>, u32),
    /// Calls `fire`. Boxed: most timers are socks'.
    Call(Box<Arc<dyn TimerCall>>),
}

/// So many timers before its own a sock is prefetched: most find nothing to do (see [`Stack::arm_sock_lazily`]), in a
/// fraction of the time that the lines of a sock take.
const AHEAD: usize = 4;

/// Prefetches the socks whose timers fire soon, where socks are many. The lines of the next one are here, so that its
/// peer, to which its timer may send, can be found and prefetched too.
#[inline]
fn prefetch_next(wheel: &Wheel<TimerTarget>) {
    if !crowd::many() {
        return;
    }
    if let Some(TimerTarget::Sock(sock, _)) = wheel.upcoming(0) {
        sock.prefetch_peer();
    }
    if let Some(TimerTarget::Sock(sock, _)) = wheel.upcoming(AHEAD) {
        sock.prefetch();
    }
}

/// Softirq work that is scheduled, for a time or as soon as can be. Called with no lock held.
pub trait TimerCall: Send + Sync {
    /// The timer fired at `now`.
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant);
}

/// The handle of a timer, kept in a structure: empty, or armed for a time. Two words.
#[derive(Debug)]
pub struct TimerSlot {
    /// Deadline in nanoseconds, of which 61 bits last for 73 years, and below it the number of the wheel; or `EMPTY`.
    when: u64,
    id: TimerId,
}

const WHEEL_BITS: u32 = WHEELS.trailing_zeros();
const EMPTY: u64 = u64::MAX;
/// The latest deadline of a slot.
const LATEST: Instant = Instant::from_nanos((EMPTY >> WHEEL_BITS) - 1);
const _: () = assert!(WHEELS.is_power_of_two() && size_of::<TimerSlot>() == 16);

impl Default for TimerSlot {
    fn default() -> TimerSlot {
        TimerSlot::EMPTY
    }
}

impl TimerSlot {
    /// A slot without a timer.
    pub(crate) const EMPTY: TimerSlot = TimerSlot { when: EMPTY, id: TimerId::NONE };

    /// The time it fires, if armed. A slot whose time has passed has fired or is about to.
    #[inline]
    pub fn at(&self) -> Option<Instant> {
        self.is_armed().then(|| Instant::from_nanos(self.when >> WHEEL_BITS))
    }
    /// Whether the timer is armed.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.when != EMPTY
    }
    /// Empties the slot: its owner has seen the timer fire.
    #[inline]
    pub fn fired(&mut self) {
        self.when = EMPTY;
    }
    /// The wheel of an armed one.
    #[inline]
    fn wheel(&self) -> usize {
        self.when as usize % WHEELS
    }
    #[inline]
    fn set(&mut self, id: TimerId, at: Instant, wheel: usize) {
        *self = TimerSlot { when: at.as_nanos() << WHEEL_BITS | wheel as u64, id };
    }
    /// Moves a timer that is armed for a time after `now` to `at`, if that is no earlier, without touching the wheel:
    /// see [`Stack::arm_sock_lazily`]. Returns whether it did.
    #[inline]
    fn postpone(&mut self, at: Instant, now: Instant) -> bool {
        let may = self.at().is_some_and(|was| was > now && was <= at);
        if may {
            self.set(self.id, at.min(LATEST), self.wheel());
        }
        may
    }
}

/// All timers of a stack.
pub struct Timers {
    wheels: Box<[Padded<Mutex<Wheel<TimerTarget>>>; WHEELS]>,
    /// Earliest deadline of each wheel in nanoseconds, `u64::MAX` for none; may be too early, never too late. Written
    /// with the wheel locked.
    next: Box<[Padded<AtomicU64>; WHEELS]>,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers {
            wheels: boxed_array(|_| Padded(Mutex::new(Wheel::new()))),
            next: boxed_array(|_| Padded(AtomicU64::new(u64::MAX))),
        }
    }

    /// Arms the timer of a slot, or moves it (mod_timer). `target` is called only when the slot is empty. True when
    /// this is now the wheel's earliest deadline (the driver may have to be woken).
    pub fn arm(&self, slot: &mut TimerSlot, at: Instant, target: impl FnOnce() -> TimerTarget) -> bool {
        let at = at.min(LATEST);
        if let Some(was) = slot.at() {
            if was == at {
                return false;
            }
            let i = slot.wheel();
            let mut w = self.wheels[i].lock();
            if w.rearm(slot.id, at) {
                slot.set(slot.id, at, i);
                return self.note(i, at);
            }
        }
        let i = crate::counters::shard_index() % WHEELS;
        let target = target();
        let mut w = self.wheels[i].lock();
        slot.set(w.arm(at, target), at, i);
        self.note(i, at)
    }

    /// Updates the earliest deadline of wheel `i`, which is locked, for a timer that was armed.
    fn note(&self, i: usize, at: Instant) -> bool {
        let earlier = self.next[i].load(Ordering::SeqCst) > at.as_nanos();
        if earlier {
            self.next[i].store(at.as_nanos(), Ordering::SeqCst);
        }
        earlier
    }

    /// Disarms a slot (del_timer). True when the timer was pending.
    #[inline]
    pub fn cancel(&self, slot: &mut TimerSlot) -> bool {
        slot.is_armed() && self.cancel_armed(slot)
    }

    #[inline(never)]
    fn cancel_armed(&self, slot: &mut TimerSlot) -> bool {
        let gone = self.wheels[slot.wheel()].lock().cancel(slot.id);
        slot.fired();
        gone.is_some()
    }

    /// Earliest deadline; may be too early (after a cancel), never too late.
    pub fn next_deadline(&self) -> Option<Instant> {
        let n = self.next.iter().map(|a| a.load(Ordering::SeqCst)).min()?;
        (n != u64::MAX).then(|| Instant::from_nanos(n))
    }

    /// Runs the timers that are due; returns how many fired.
    pub(super) fn expire(&self, stack: &Arc<Stack>, now: Instant) -> usize {
        let mut fired = 0;
        for i in 0..WHEELS {
            while self.next[i].load(Ordering::SeqCst) <= now.as_nanos() {
                let popped = {
                    let mut w = self.wheels[i].lock();
                    let p = w.pop_expired(now);
                    prefetch_next(&w);
                    if p.is_none() {
                        self.next[i].store(w.next_deadline().map_or(u64::MAX, Instant::as_nanos), Ordering::SeqCst);
                    }
                    p
                };
                match popped {
                    None => break,
                    Some((_, TimerTarget::Sock(sock, bits))) => {
                        sock.defer(stack, bits, now);
                        sock.put(stack);
                    }
                    Some((_, TimerTarget::Call(call))) => call.fire(stack, now),
                }
                fired += 1;
            }
        }
        fired
    }
}

impl Stack {
    /// Arms a timer of a sock; wakes the driver when its deadline is the new earliest.
    #[inline]
    pub fn arm_sock(self: &Arc<Stack>, slot: &mut TimerSlot, sock: &Arc<Sock>, bits: u32, at: Instant) {
        if self.timers.arm(slot, at, || TimerTarget::Sock(sock.clone(), bits)) {
            self.runner.kick(self);
        }
    }

    /// The same for a timer that is mostly postponed, as the retransmission timer is at each acknowledgement: the wheel
    /// keeps the earlier time, so that postponing costs nothing, and the timer may fire too early. Its handler finds
    /// that by [`TimerSlot::at`], and calls [`Stack::resume_sock`], or [`Timers::cancel`] if nothing waits for it any
    /// more. Linux: icsk_timeout, which tcp_write_timer_handler compares with the time.
    #[inline]
    pub(crate) fn arm_sock_lazily(
        self: &Arc<Stack>,
        slot: &mut TimerSlot,
        sock: &Arc<Sock>,
        bits: u32,
        at: Instant,
        now: Instant,
    ) {
        if !slot.postpone(at, now) {
            self.arm_sock(slot, sock, bits, at);
        }
    }

    /// Arms a timer that fired too early for the time in its slot.
    #[cold]
    pub(crate) fn resume_sock(self: &Arc<Stack>, slot: &mut TimerSlot, sock: &Arc<Sock>, bits: u32) {
        let Some(at) = slot.at() else { return };
        // It may be armed in the wheel: the owner of the sock set it anew between its firing and its handler.
        self.timers.cancel(slot);
        self.arm_sock(slot, sock, bits, at);
    }

    /// Arms any other timer.
    pub fn arm_call(self: &Arc<Stack>, slot: &mut TimerSlot, call: Arc<dyn TimerCall>, at: Instant) {
        if self.timers.arm(slot, at, || TimerTarget::Call(Box::new(call))) {
            self.runner.kick(self);
        }
    }
}
