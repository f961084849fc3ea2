//! Which thread receives from a queue. One at a time does; a thread that finds another one receiving leaves the rest to
//! it and never waits. Above: `netdev`. Model-checked by loom (`tests`), the very same code. Linux: NAPI_STATE_SCHED
//! and NAPI_STATE_MISSED.

use std::sync::atomic::{AtomicU8, Ordering};

/// Ensures that one thread at a time receives from a queue. A thread that finds another one receiving sets AGAIN, and
/// the other polls the queue once more before it stops. So every packet queued before AGAIN was set is received, and no
/// thread waits.
#[derive(Debug, Default)]
pub(super) struct Turn<S = AtomicU8>(S);

/// No thread receives; one does; one does and must poll again.
const FREE: u8 = 0;
const TAKEN: u8 = 1;
const AGAIN: u8 = 2;

/// The atomic byte of a [`Turn`]; a trait so that the model checker can substitute loom's. All orderings are SeqCst.
pub(super) trait State {
    fn get(&self) -> u8;
    fn swap(&self, to: u8) -> u8;
    /// Whether it was `from`, and is now `to`.
    fn exchange(&self, from: u8, to: u8) -> bool;
}

impl State for AtomicU8 {
    fn get(&self) -> u8 {
        self.load(Ordering::SeqCst)
    }
    fn swap(&self, to: u8) -> u8 {
        self.swap(to, Ordering::SeqCst)
    }
    fn exchange(&self, from: u8, to: u8) -> bool {
        self.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl<S: State> Turn<S> {
    /// Takes the turn if it is free, else asks the receiving thread to poll again.
    pub(super) fn take(&self) -> Option<TurnGuard<'_, S>> {
        let mine = self.0.exchange(FREE, TAKEN) || self.0.swap(AGAIN) == FREE;
        // Not `then_some`: a guard that is made and dropped would free the other thread's turn.
        mine.then(|| TurnGuard(self))
    }

    /// Whether all packets that this thread knows to have been queued have been received: none is `pending`, and none
    /// is being received. In this order: what is no longer in the queue was taken off it by a thread with the turn.
    pub(super) fn all_received(&self, pending: impl FnOnce() -> bool) -> bool {
        !pending() && self.0.get() == FREE
    }
}

/// The turn of the current thread. Dropping it without `finish` (a panic) frees the turn.
pub(super) struct TurnGuard<'a, S: State>(&'a Turn<S>);

impl<S: State> TurnGuard<'_, S> {
    /// Frees the turn. Err: another thread asked for the queue to be polled again.
    pub(super) fn finish(self) -> Result<(), Self> {
        if self.0.0.exchange(TAKEN, FREE) {
            // The turn is free, and another thread may have taken it, so this guard must not free it again.
            std::mem::forget(self);
            return Ok(());
        }
        self.0.0.swap(TAKEN);
        Err(self)
    }
}

impl<S: State> Drop for TurnGuard<'_, S> {
    fn drop(&mut self) {
        self.0.0.swap(FREE);
    }
}

#[cfg(test)]
mod tests;
