//! When time-wait records end. Records whose time ends in the same tick of 67 ms are in one list, and a list has one
//! timer: 10^5 records that end within seconds cost a few dozen wake-ups, and their end is rounded up to the tick. RFC
//! 9293 §3.6.1 asks for at least 2 MSL. Above: `timewait`. Below: the stack's timers. Softirq context or an owned sock.
//! Linux: inet_twsk_schedule; its timer wheel rounds 60 s up as well, by up to 4 s.

use super::net;
use super::timewait::{self, TimeWait};
use crate::base::env::Instant;
use crate::stack::{Stack, TimerCall, TimerSlot};
use crate::sys::lock::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A tick is 2^26 ns.
const TICK_SHIFT: u32 = 26;
/// Shards, so that threads which close connections share no lock; a power of two.
const SHARDS: usize = 16;
/// Bits of [`Place`] for the place within a list.
const INDEX_BITS: u32 = 24;

/// Where a record is: tick and place in its list; 0: nowhere. Written with the shard locked.
#[derive(Debug, Default)]
pub(super) struct Place(AtomicU64);

impl Place {
    fn set(&self, tick: u64, index: usize) {
        // A place beyond 2^24 is not that of the record, which `remove` sees.
        self.0.store(tick << INDEX_BITS | (index as u64 & ((1 << INDEX_BITS) - 1)), Ordering::Relaxed);
    }

    fn get(&self) -> (u64, usize) {
        let place = self.0.load(Ordering::Relaxed);
        (place >> INDEX_BITS, (place & ((1 << INDEX_BITS) - 1)) as usize)
    }
}

/// The lists of a stack's records.
pub(super) struct TwTimers([Arc<Shard>; SHARDS]);

#[derive(Default)]
struct Shard(Mutex<Lists>);

#[derive(Default)]
struct Lists {
    /// By the tick at whose beginning they are due.
    by_tick: BTreeMap<u64, Vec<Arc<TimeWait>>>,
    /// Of the first.
    timer: TimerSlot,
}

/// The first tick that begins at or after a time.
fn tick_of(at: Instant) -> u64 {
    at.as_nanos().saturating_sub(1) / (1 << TICK_SHIFT) + 1
}

fn begin_of(tick: u64) -> Instant {
    Instant::from_nanos(tick << TICK_SHIFT)
}

impl Default for TwTimers {
    fn default() -> TwTimers {
        TwTimers(std::array::from_fn(|_| Arc::default()))
    }
}

impl TwTimers {
    fn shard(&self, tw: &TimeWait) -> &Arc<Shard> {
        &self.0[usize::from(tw.dport()) % SHARDS]
    }

    /// Enters a record that ends at `at` and is in no list, or in one that is due later. One that is in an earlier list
    /// stays there: when that is due, the record is entered again.
    pub(super) fn arm(&self, stack: &Arc<Stack>, tw: &Arc<TimeWait>, at: Instant) {
        let (shard, tick) = (self.shard(tw), tick_of(at));
        let mut lists = shard.0.lock();
        let (old, _) = tw.place.get();
        let gone = if old > tick { lists.take(tw) } else { None };
        if old != 0 && gone.is_none() {
            return;
        }
        // Most end in the last tick, whose list there is already, with a timer for it or for an earlier one.
        if let Some(mut last) = lists.by_tick.last_entry()
            && *last.key() == tick
        {
            tw.place.set(tick, last.get().len());
            return last.get_mut().push(tw.clone());
        }
        let list = lists.by_tick.entry(tick).or_default();
        tw.place.set(tick, list.len());
        list.push(tw.clone());
        shard.arm(stack, &mut lists);
    }

    /// Takes a record out of its list.
    pub(super) fn cancel(&self, tw: &Arc<TimeWait>) {
        let gone = self.shard(tw).0.lock().take(tw);
        drop(gone);
    }

    /// The stack ends.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|shard| drop(std::mem::take(&mut shard.0.lock().by_tick)));
    }
}

impl Lists {
    fn take(&mut self, tw: &Arc<TimeWait>) -> Option<Arc<TimeWait>> {
        let (tick, index) = tw.place.get();
        let list = self.by_tick.get_mut(&tick)?;
        list.get(index).filter(|at| Arc::ptr_eq(at, tw))?;
        let gone = list.swap_remove(index);
        gone.place.set(0, 0);
        if let Some(moved) = list.get(index) {
            moved.place.set(tick, index);
        }
        if list.is_empty() {
            self.by_tick.remove(&tick);
        }
        Some(gone)
    }

    /// Takes the first list, if it is due.
    fn due(&mut self, now: Instant) -> Option<Vec<Arc<TimeWait>>> {
        let first = self.by_tick.first_entry().filter(|list| begin_of(*list.key()) <= now)?;
        let list = first.remove();
        list.iter().for_each(|tw| tw.place.set(0, 0));
        Some(list)
    }
}

impl Shard {
    /// Arms the timer of the first list; one that is armed for earlier stays.
    fn arm(self: &Arc<Self>, stack: &Arc<Stack>, lists: &mut Lists) {
        let Some((tick, _)) = lists.by_tick.first_key_value() else { return };
        let at = begin_of(*tick);
        if lists.timer.at().is_none_or(|armed| at < armed) {
            stack.arm_call(&mut lists.timer, self.clone(), at);
        }
    }
}

impl TimerCall for Shard {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        let Ok(net) = net::of(stack) else { return };
        loop {
            let mut lists = self.0.lock();
            let Some(due) = lists.due(now) else {
                if lists.timer.at().is_some_and(|at| at <= now) {
                    lists.timer.fired();
                }
                return self.arm(stack, &mut lists);
            };
            drop(lists);
            due.into_iter().for_each(|tw| timewait::expired(&net, stack, &tw, now));
        }
    }
}

#[cfg(test)]
mod tests;
