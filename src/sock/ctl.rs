//! The decisions of `lock_sock`: who owns a sock, who waits for it, and what an owner has to do before it releases it.
//! One word says whether the inside is owned (`sys::owner`); taking a free sock and releasing it are one atomic
//! operation each. The rest (packets and timers that found the sock owned, threads that wait for it) is in [`Ctl`],
//! under a monitor, and sets the mark bit of the word: the owner then cannot release the sock without processing it.
//! The code is generic over the word and the monitor, so that the model checker (`tests`, loom) tries every
//! interleaving of the same code that `lock` runs. Linux: struct socket_lock_t, sk_backlog, __lock_sock, release_sock.

use crate::sys::owner::{Owned, Owner, Word};
use std::collections::VecDeque;

/// The state that the mark bit announces; `P` is a packet.
#[derive(Debug)]
pub(super) struct Ctl<P> {
    /// Threads that sleep until the sock is free.
    waiters: u16,
    /// A waiter was woken but another thread took the sock first. The next process-context owner must be one of the
    /// waiters, so that a thread which locks in a loop does not starve them.
    reserved: bool,
    /// Deferred work for `release_cb`. A bit set, so it does not grow however often a timer fires.
    deferred: u32,
    /// Work that cannot be a bit is left beside the monitor ([`Lock::postpone`]).
    late: bool,
    /// Bytes in `backlog`, plus those the owner has taken from it since it was last empty. Counting both bounds how
    /// long the owner processes the backlog when packets arrive as fast as it removes them.
    bytes: u32,
    backlog: VecDeque<P>,
}

impl<P> Default for Ctl<P> {
    fn default() -> Self {
        Ctl { waiters: 0, reserved: false, deferred: 0, late: false, bytes: 0, backlog: VecDeque::new() }
    }
}

/// A mutex with a condition variable; a trait so that the model checker can substitute loom's.
pub(super) trait Monitor<C> {
    /// Runs `f` under the lock.
    fn with<R>(&self, f: impl FnOnce(&mut C) -> R) -> R;
    /// Runs `f` under the lock, now and after each notification, until it returns Some.
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

/// What an owner has to do before it can release the sock, or that it has released it.
pub(super) enum Settle<O> {
    /// Packets are queued: take them (`take_backlog`) and process them.
    Backlog(O),
    /// Run `release_cb` with these bits.
    Deferred(O, u32),
    /// Do what was left by `postpone`.
    Late(O),
    /// Nothing is left to do; the sock has been released.
    Released,
}

/// Result of delivering a packet in softirq.
pub(super) enum Arrival<O, P> {
    /// The sock was free and the caller now owns it: process the packet.
    Yours(O, P),
    /// The owner will process it before it releases the sock.
    Queued,
    /// The packet queued last took what this one carried; the rest is returned.
    Joined(P),
    /// The backlog is full; the packet is returned.
    Full(P),
}

impl<T, P, W: Word, M: Monitor<Ctl<P>>> Lock<T, P, W, M> {
    /// A free sock with nothing queued.
    #[inline(always)]
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

    /// Softirq: owns the sock if nobody does. It ignores a reservation, because softirq work is short.
    #[inline]
    pub(super) fn try_own(&self) -> Option<Owner<'_, T, W>> {
        // A sock that is marked but free is rare: a waiter is about to take it. If the slow path leaves the mark set,
        // the owner only looks once more.
        self.inside.try_own().or_else(|| self.monitor.with(|_| self.inside.own_or_mark()))
    }

    /// Softirq: delivers a packet of `bytes`. The packet is returned when more than `limit()` bytes are already queued,
    /// unless `join` moves what it carries to the packet queued last.
    #[inline]
    pub(super) fn arrive(
        &self,
        packet: P,
        bytes: u32,
        limit: impl FnOnce() -> u32,
        join: impl FnOnce(&mut P, &mut P) -> bool,
    ) -> Arrival<Owner<'_, T, W>, P> {
        match self.inside.try_own() {
            Some(owner) => Arrival::Yours(owner, packet),
            None => self.arrive_slow(packet, bytes, limit(), join),
        }
    }

    #[cold]
    fn arrive_slow(
        &self,
        mut packet: P,
        bytes: u32,
        limit: u32,
        join: impl FnOnce(&mut P, &mut P) -> bool,
    ) -> Arrival<Owner<'_, T, W>, P> {
        self.monitor.with(|ctl| {
            if let Some(owner) = self.inside.own_or_mark() {
                // A sock is only released with an empty backlog, so this packet overtakes no other.
                return Arrival::Yours(owner, packet);
            }
            let joined = ctl.backlog.back_mut().is_some_and(|last| join(last, &mut packet));
            if !joined && ctl.bytes > limit {
                return Arrival::Full(packet);
            }
            ctl.bytes = ctl.bytes.saturating_add(bytes);
            if joined {
                return Arrival::Joined(packet);
            }
            ctl.backlog.push_back(packet);
            Arrival::Queued
        })
    }

    /// Softirq: leaves deferred-work bits to the owner. If nobody owned the sock, the caller now does, and runs the
    /// work itself.
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

    /// Softirq: as `defer`, of work that `leave` puts where the owner finds it when it releases the sock.
    pub(super) fn postpone(&self, leave: impl FnOnce(&M)) -> Option<Owner<'_, T, W>> {
        self.monitor.with(|ctl| {
            let owner = self.inside.own_or_mark();
            if owner.is_none() {
                ctl.late = true;
                leave(&self.monitor);
            }
            owner
        })
    }

    /// Owner: takes all queued packets, if any. Their bytes still count until `flushed` or the release.
    #[inline]
    pub(super) fn take_backlog(&self, owner: &Owner<'_, T, W>) -> Option<VecDeque<P>> {
        let take = || self.monitor.with(|ctl| std::mem::take(&mut ctl.backlog));
        owner.is_marked().then(take).filter(|backlog| !backlog.is_empty())
    }

    /// Owner, in the middle of a long call: takes the work that was deferred.
    pub(super) fn take_deferred(&self, owner: &Owner<'_, T, W>) -> u32 {
        if owner.is_marked() { self.monitor.with(|ctl| std::mem::take(&mut ctl.deferred)) } else { 0 }
    }

    /// Owner, in the middle of a long call: the backlog has been processed, so the byte count starts again at zero.
    pub(super) fn flushed(&self) {
        self.monitor.with(|ctl| {
            if ctl.backlog.is_empty() {
                ctl.bytes = 0;
            }
        });
    }

    /// Owner: releases the sock, unless something has to be done first.
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
            if std::mem::take(&mut ctl.late) {
                return Err(Settle::Late(owner));
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

    /// Releases the sock; returns true when a waiter is to be woken. While threads wait, the mark stays set, so that
    /// each release checks for them.
    fn let_go(&self, ctl: &mut Ctl<P>, owner: Owner<'_, T, W>) -> bool {
        ctl.bytes = 0;
        owner.release(ctl.waiters > 0);
        ctl.waiters > 0
    }

    /// Owner, after a panic: discards everything queued and releases the sock.
    pub(super) fn abandon(&self, owner: Owner<'_, T, W>) {
        let (dropped, notify) = self.monitor.with(|ctl| {
            (ctl.deferred, ctl.late) = (0, false);
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

    /// What keeps the rest.
    pub(super) fn monitor(&self) -> &M {
        &self.monitor
    }

    /// Bytes in the backlog or being processed from it.
    pub(super) fn backlog_bytes(&self) -> u32 {
        self.monitor.with(|ctl| ctl.bytes)
    }
}

#[cfg(test)]
mod tests;
