//! `lock_sock` and the backlog: who may touch a sock's inside, and what happens to packets and timers meanwhile.
//! `ctl` guards the owned flag, the backlog and the deferred bits; the state sits in a second mutex that only the owner
//! takes, so it never contends and needs no `unsafe`. Flag and queue change under one lock, so no packet slips between the
//! owner's last look and its release. Linux: net/core/sock.c lock_sock_nested, release_sock, __release_sock.
//!
//! Lock order: sock state, then any leaf lock (hash shard, timer wheel, device queue, accept queue, wait queue). Never two
//! sock states, but listener then child. A leaf lock is never held while a sock is entered.

use super::ctl::{Ctl, Settle};
use super::skb::Skb;
use super::{Sock, SockState};
use crate::counters::{DropReason, Mib};
use crate::env::Instant;
use crate::error::Error;
use crate::stack::Stack;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Headroom of the backlog above rcvbuf + sndbuf, in bytes: one more super-packet (Linux adds 64 KiB in tcp_add_backlog).
const BACKLOG_EXTRA: u32 = 64 * 1024;

/// The two-part lock of a sock.
#[derive(Debug)]
pub struct SockLock {
    ctl: Mutex<Ctl<Skb>>,
    released: Condvar,
    state: Mutex<SockState>,
}

/// What became of a packet given to a sock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// `backlog_rcv` ran.
    Processed,
    /// A system call owns the sock; it will run the packet.
    Queued,
    /// The backlog is full; counted as `TcpExtTCPBacklogDrop`.
    Dropped(DropReason),
}

/// Ownership of a sock, in process context (`Sock::lock`) or softirq context (`Sock::deliver`, timers). Dropping it is
/// `release_sock`: the backlog runs through `backlog_rcv`, then the deferred bits through `release_cb`.
pub struct SockGuard<'a> {
    /// The stack the sock lives in.
    pub stack: &'a Arc<Stack>,
    /// The sock, for what is outside the lock.
    pub sock: &'a Arc<Sock>,
    /// See `now`.
    now: Cell<Option<Instant>>,
    state: MutexGuard<'a, SockState>,
    softirq: bool,
}

impl SockLock {
    pub(super) fn new(state: SockState) -> SockLock {
        SockLock { ctl: Mutex::new(Ctl::default()), released: Condvar::new(), state: Mutex::new(state) }
    }

    fn acquire(&self) {
        let mut ctl = self.ctl.lock();
        while !ctl.try_own() {
            ctl.wait_begins();
            self.released.wait(&mut ctl);
            ctl.wait_ends();
        }
    }

    /// The state without owning the sock, for the last reference and for memory reports.
    pub(super) fn state_mut(&mut self) -> &mut SockState {
        self.state.get_mut()
    }

    /// True bytes of the packets in the backlog.
    pub(super) fn backlog_bytes(&self) -> u32 {
        self.ctl.lock().bytes()
    }

    /// Heap bytes of the backlog queue.
    pub(super) fn heap_bytes(&self) -> usize {
        self.ctl.lock().heap_bytes()
    }
}

impl Sock {
    /// Process context: sleeps until nobody owns the sock.
    pub fn lock<'a>(self: &'a Arc<Sock>, stack: &'a Arc<Stack>) -> SockGuard<'a> {
        self.lock.acquire();
        self.guard(stack, None, false)
    }

    fn guard<'a>(self: &'a Arc<Sock>, stack: &'a Arc<Stack>, now: Option<Instant>, softirq: bool) -> SockGuard<'a> {
        SockGuard { stack, sock: self, now: Cell::new(now), state: self.lock.state.lock(), softirq }
    }

    /// Softirq context: runs the packet now, or leaves it in the owner's bounded backlog. Never sleeps.
    pub fn deliver(self: &Arc<Sock>, stack: &Arc<Stack>, skb: Skb, now: Instant) -> Delivered {
        let mut ctl = self.lock.ctl.lock();
        if !ctl.try_own() {
            let queued = self.rmem_alloc.load(Ordering::Relaxed).max(0) as u32;
            let limit = (self.rcvbuf.load(Ordering::Relaxed) as u32)
                .saturating_add(self.sndbuf.load(Ordering::Relaxed) as u32)
                .saturating_add(BACKLOG_EXTRA);
            let bytes = skb.truesize;
            let Err(skb) = ctl.enqueue(skb, bytes, limit.saturating_sub(queued)) else { return Delivered::Queued };
            drop(ctl);
            drop(skb);
            self.drops.fetch_add(1, Ordering::Relaxed);
            if self.protocol == libc::IPPROTO_TCP as u16 {
                stack.mib.inc(Mib::TcpExtTCPBacklogDrop);
            }
            stack.mib.drop(DropReason::SocketBacklog);
            return Delivered::Dropped(DropReason::SocketBacklog);
        }
        drop(ctl);
        let mut guard = self.guard(stack, Some(now), true);
        let proto = self.proto();
        proto.backlog_rcv(&mut guard, skb);
        Delivered::Processed
    }

    /// Softirq context: asks for `release_cb(bits)`, now or when the owner releases the sock. Timers and transmit
    /// completions come this way.
    pub fn defer(self: &Arc<Sock>, stack: &Arc<Stack>, bits: u32, now: Instant) {
        if self.lock.ctl.lock().defer(bits) {
            drop(self.guard(stack, Some(now), true));
        }
    }

    /// Softirq context: runs `f` as owner, or answers None when a system call owns the sock.
    pub fn try_own<R>(
        self: &Arc<Sock>,
        stack: &Arc<Stack>,
        now: Instant,
        f: impl FnOnce(&mut SockGuard<'_>) -> R,
    ) -> Option<R> {
        if !self.lock.ctl.lock().try_own() {
            return None;
        }
        let mut guard = self.guard(stack, Some(now), true);
        Some(f(&mut guard))
    }
}

impl<'a> SockGuard<'a> {
    /// Whether this is packet or timer context: nothing may sleep.
    pub fn in_softirq(&self) -> bool {
        self.softirq
    }

    /// Reads the stack's clock again (tcp_mstamp_refresh).
    pub fn refresh_clock(&mut self) {
        self.now.set(Some(self.stack.now()));
    }

    /// Time of the event being processed. In process context the clock is read when this is first asked for: many calls
    /// never do.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(|| {
            let now = self.stack.now();
            self.now.set(Some(now));
            now
        })
    }

    /// Runs the backlog without giving the sock up (sk_flush_backlog). True when there was something.
    pub fn flush_backlog(&mut self) -> bool {
        let any = self.drain_backlog();
        self.sock.lock.ctl.lock().flushed();
        any
    }

    fn drain_backlog(&mut self) -> bool {
        let mut any = false;
        loop {
            let batch = self.sock.lock.ctl.lock().take_backlog();
            if batch.is_empty() {
                return any;
            }
            any = true;
            let proto = self.sock.proto();
            for skb in batch {
                proto.backlog_rcv(self, skb);
            }
        }
    }

    /// Gives the sock up while `f` runs, then takes it again: how a system call sleeps. The backlog and deferred work run
    /// before. Process context only; in softirq context it answers EWOULDBLOCK's place: `f` does not run.
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> Result<R, Error> {
        if self.softirq {
            debug_assert!(false, "softirq must not sleep");
            return Err(Error::Again);
        }
        self.settle();
        let sock = self.sock;
        let r = MutexGuard::unlocked(&mut self.state, || {
            let r = f();
            sock.lock.acquire();
            r
        });
        self.refresh_clock();
        Ok(r)
    }

    /// These mutexes do not poison: a panic while owning marks the sock broken instead, and frees its waiters.
    fn abandon(&mut self) {
        self.state.common.broken = true;
        self.sock.err.store(libc::EIO, Ordering::Relaxed);
        self.sock.lock.ctl.lock().abandon();
        self.sock.lock.released.notify_one();
    }

    /// Backlog, then deferred bits, until both are empty; then the flag falls.
    fn settle(&mut self) {
        let sock = self.sock;
        loop {
            let mut ctl = sock.lock.ctl.lock();
            match ctl.settle() {
                Settle::Released { notify } => {
                    drop(ctl);
                    if notify {
                        sock.lock.released.notify_one();
                    }
                    return;
                }
                Settle::Deferred(bits) => {
                    drop(ctl);
                    sock.proto().release_cb(self, bits);
                }
                Settle::Backlog => {
                    drop(ctl);
                    self.refresh_clock();
                    self.drain_backlog();
                }
            }
        }
    }
}

impl Drop for SockGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
            return;
        }
        #[cfg(debug_assertions)]
        {
            let proto = self.sock.proto();
            let check = || proto.check_invariants(self.sock, &self.state);
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
                self.abandon();
                std::panic::resume_unwind(panic);
            }
        }
        self.settle();
    }
}

impl Deref for SockGuard<'_> {
    type Target = SockState;
    #[inline]
    fn deref(&self) -> &SockState {
        &self.state
    }
}

impl DerefMut for SockGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut SockState {
        &mut self.state
    }
}
