//! The decisions of `lock_sock`: who owns a sock, who waits for it, and what an owner has to do before it goes. One
//! word says whether the inside is owned (`sys::owner`); taking a free sock and giving it back are one atomic operation
//! each. Everything that makes it more complicated (packets and timers that met an owner, threads that wait for one) is
//! in [`Ctl`], under a monitor, and marks the word: then the owner cannot go without looking. Written once over the
//! word and the monitor, so that the model checker (`tests`, loom) tries every interleaving of the very code that
//! `lock` runs. Linux: struct socket_lock_t, sk_backlog, __lock_sock, release_sock.

use crate::sys::owner::{Owned, Owner, Word};
use std::collections::VecDeque;

/// What a mark stands for; `P` is a packet.
#[derive(Debug)]
pub(super) struct Ctl<P> {
    /// Threads that sleep until the sock is free.
    waiters: u16,
    /// A waiter was woken in vain, since another took the sock first: the next to own it in process context is one of
    /// those who wait, so that a thread which locks again and again starves nobody.
    reserved: bool,
    /// Work left for `release_cb`: bits do not overflow, however often a timer fires.
    deferred: u32,
    /// Bytes in `backlog`, and in what the owner took from it since it was last empty: so a flood that keeps pace with
    /// the owner meets the limit, and the owner comes to an end.
    bytes: u32,
    backlog: VecDeque<P>,
}

impl<P> Default for Ctl<P> {
    fn default() -> Self {
        Ctl { waiters: 0, reserved: false, deferred: 0, bytes: 0, backlog: VecDeque::new() }
    }
}

/// A mutex with a condition variable; a trait so that the model checker can bring its own.
pub(super) trait Monitor<C> {
    /// Runs `f` under the lock.
    fn with<R>(&self, f: impl FnOnce(&mut C) -> R) -> R;
    /// Runs `f` under the lock, now and after each notification, until it has an answer.
    fn until<R>(&self, f: impl FnMut(&mut C) -> Option<R>) -> R;
    /// Wakes one thread in `until`.
    fn notify_one(&self);
}

/// A value `T` with its backlog of packets `P`.
#[derive(Debug)]
pub(super) struct Lock<T, P, W, M> {
    inside: Owned<T, W>,
    monitor: M,
    packets: std::marker::PhantomData<fn(P)>,
}

/// What an owner that wants to go has to do first, or that it is gone.
pub(super) enum Settle<O> {
    /// Packets wait: take them (`take_backlog`) and process them.
    Backlog(O),
    /// Run `release_cb` with these bits.
    Deferred(O, u32),
    /// Nothing: another may have the sock.
    Released,
}

/// What became of a packet that softirq brings.
pub(super) enum Arrival<O, P> {
    /// Nobody owned the sock, the caller does now: process it.
    Yours(O, P),
    /// The owner will see to it before it goes.
    Queued,
    /// The owner has too much to see to.
    Full(P),
}

impl<T, P, W: Word, M: Monitor<Ctl<P>>> Lock<T, P, W, M> {
    /// Free, nothing waiting.
    pub(super) fn new(inside: T, monitor: M) -> Self {
        Lock { inside: Owned::new(inside), monitor, packets: std::marker::PhantomData }
    }

    /// Process context: owns the sock if nobody does and nobody waits for it.
    #[inline]
    pub(super) fn own_free(&self) -> Option<Owner<'_, T, W>> {
        self.inside.try_own()
    }

    /// Process context: sleeps until nobody owns the sock.
    #[inline]
    pub(super) fn own(&self) -> Owner<'_, T, W> {
        self.own_free().unwrap_or_else(|| self.own_slow())
    }

    #[cold]
    fn own_slow(&self) -> Owner<'_, T, W> {
        let mut waits = false;
        self.monitor.until(|ctl| {
            // While the sock is reserved and free, a waiter has been notified and is on its way here.
            let owner = if ctl.reserved && !waits { None } else { self.inside.own_or_mark() };
            match owner {
                Some(owner) => {
                    if waits {
                        ctl.waiters -= 1;
                        ctl.reserved = false;
                    }
                    Some(owner)
                }
                None if waits => {
                    ctl.reserved = true;
                    None
                }
                None => {
                    waits = true;
                    ctl.waiters += 1;
                    None
                }
            }
        })
    }

    /// Softirq: owns the sock if nobody does. What waits for it by reservation is left to wait: softirq is short.
    #[inline]
    pub(super) fn try_own(&self) -> Option<Owner<'_, T, W>> {
        // Marked but free is rare: a waiter is on its way. The mark that the slow way may leave costs the owner a look.
        self.inside.try_own().or_else(|| self.monitor.with(|_| self.inside.own_or_mark()))
    }

    /// Softirq: brings a packet of `bytes`; with more than `limit()` bytes waiting it is given back.
    #[inline]
    pub(super) fn arrive(&self, packet: P, bytes: u32, limit: impl FnOnce() -> u32) -> Arrival<Owner<'_, T, W>, P> {
        match self.inside.try_own() {
            Some(owner) => Arrival::Yours(owner, packet),
            None => self.arrive_slow(packet, bytes, limit()),
        }
    }

    #[cold]
    fn arrive_slow(&self, packet: P, bytes: u32, limit: u32) -> Arrival<Owner<'_, T, W>, P> {
        self.monitor.with(|ctl| match self.inside.own_or_mark() {
            // A sock is only given up with an empty backlog, so nothing is overtaken.
            Some(owner) => Arrival::Yours(owner, packet),
            None if ctl.bytes > limit => Arrival::Full(packet),
            None => {
                ctl.bytes = ctl.bytes.saturating_add(bytes);
                ctl.backlog.push_back(packet);
                Arrival::Queued
            }
        })
    }

    /// Softirq: leaves bits of deferred work to the owner. Without one, the caller is it now and runs them.
    pub(super) fn defer(&self, bits: u32) -> Option<Owner<'_, T, W>> {
        self.inside.try_own().or_else(|| {
            self.monitor.with(|ctl| {
                let owner = self.inside.own_or_mark();
                if owner.is_none() {
                    ctl.deferred |= bits;
                }
                owner
            })
        })
    }

    /// Owner: everything that waits, if anything does. What is taken still counts, until `flushed` or the release.
    pub(super) fn take_backlog(&self, owner: &Owner<'_, T, W>) -> VecDeque<P> {
        if owner.is_marked() { self.monitor.with(|ctl| std::mem::take(&mut ctl.backlog)) } else { VecDeque::new() }
    }

    /// Owner, in the middle of a long call: has worked the backlog off, and the count starts anew.
    pub(super) fn flushed(&self) {
        self.monitor.with(|ctl| {
            if ctl.backlog.is_empty() {
                ctl.bytes = 0;
            }
        });
    }

    /// Owner: gives the sock up, unless something must be done before.
    #[inline]
    pub(super) fn settle<'a>(&'a self, owner: Owner<'a, T, W>) -> Settle<Owner<'a, T, W>> {
        match owner.try_release() {
            Ok(()) => Settle::Released,
            Err(owner) => self.settle_slow(owner),
        }
    }

    #[cold]
    fn settle_slow<'a>(&'a self, owner: Owner<'a, T, W>) -> Settle<Owner<'a, T, W>> {
        let notify = self.monitor.with(|ctl| {
            if !ctl.backlog.is_empty() {
                return Err(Settle::Backlog(owner));
            }
            match std::mem::take(&mut ctl.deferred) {
                0 => Ok(self.let_go(ctl, owner)),
                bits => Err(Settle::Deferred(owner, bits)),
            }
        });
        match notify {
            Err(work) => return work,
            Ok(true) => self.monitor.notify_one(),
            Ok(false) => {}
        }
        Settle::Released
    }

    /// Gives the sock up; true when a waiter is to be woken. While anybody waits the mark stays, so that each release
    /// looks.
    fn let_go(&self, ctl: &mut Ctl<P>, owner: Owner<'_, T, W>) -> bool {
        ctl.bytes = 0;
        owner.release(ctl.waiters > 0);
        ctl.waiters > 0
    }

    /// Owner, after a panic: drops what waits and lets go.
    pub(super) fn abandon(&self, owner: Owner<'_, T, W>) {
        let (dropped, notify) = self.monitor.with(|ctl| {
            ctl.deferred = 0;
            (std::mem::take(&mut ctl.backlog), self.let_go(ctl, owner))
        });
        drop(dropped);
        if notify {
            self.monitor.notify_one();
        }
    }

    /// The inside without owning it, where no other reference exists.
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.inside.get_mut()
    }

    /// Bytes that wait or are being worked off.
    pub(super) fn backlog_bytes(&self) -> u32 {
        self.monitor.with(|ctl| ctl.bytes)
    }
}

#[cfg(test)]
mod tests;
