//! `lock_sock` and the backlog: who may access a sock's inside, and what happens to packets and timers meanwhile. One
//! word says whether the inside is owned. Packets, deferred bits and threads that find the sock owned are queued under
//! a mutex of their own and mark the word, so that the owner cannot release the sock without processing them.
//! Uncontended, `lock` and release are one atomic operation each. Above: protocols, system calls, packet input, timers.
//! Below: `ctl`, which makes the decisions and is model-checked. Linux: net/core/sock.c lock_sock_nested, release_sock,
//! __release_sock.
//!
//! Lock order: a sock's state, then any leaf lock; the crate's text says when two socks may be owned.

use super::ctl::{Arrival, Ctl, Lock, Monitor, Settle};
use super::proto::Proto;
use super::skb::Skb;
use super::wait::Owning;
use super::{Sock, SockState};
use crate::base::contain::contain;
use crate::base::env::Instant;
use crate::base::error::Error;
use crate::counters::DropReason;
use crate::stack::Stack;
use crate::sys::lock::{Condvar, Mutex};
use crate::sys::once_box::OnceBox;
use crate::sys::owner::Owner;
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Headroom of the backlog above rcvbuf + sndbuf, in bytes: one more super-packet (Linux adds 64 KiB in
/// tcp_add_backlog).
const BACKLOG_EXTRA: u32 = 64 * 1024;
/// Pieces of work that wait for the release of a sock, besides packets: an owner is busy for microseconds.
const LATE_MAX: usize = 64;

/// What is queued while a sock is owned, and the threads that wait for it. Allocated when the sock is first found
/// owned, which happens to few.
#[derive(Debug, Default)]
struct Gathered(OnceBox<Inner>);

#[derive(Default)]
struct Inner {
    ctl: Mutex<Ctl<Skb>>,
    released: Condvar,
    /// What [`Sock::own_or_leave`] left to the owner.
    late: Mutex<Vec<Late>>,
}

/// Work for an owner.
type Late = Box<dyn FnOnce(&mut SockGuard<'_>) + Send>;

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("ctl", &self.ctl).finish_non_exhaustive()
    }
}

impl Gathered {
    fn inner(&self) -> &Inner {
        self.0.get_or_init(Inner::default)
    }

    fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut *self.inner().late.lock())
    }
}

impl Monitor<Ctl<Skb>> for Gathered {
    fn with<R>(&self, f: impl FnOnce(&mut Ctl<Skb>) -> R) -> R {
        f(&mut self.inner().ctl.lock())
    }

    fn until<R>(&self, mut f: impl FnMut(&mut Ctl<Skb>) -> Option<R>) -> R {
        let inner = self.inner();
        let mut ctl = inner.ctl.lock();
        loop {
            if let Some(r) = f(&mut ctl) {
                return r;
            }
            ctl = inner.released.wait(ctl);
        }
    }

    fn notify_one(&self) {
        self.inner().released.notify_one();
    }
}

/// The lock of a sock.
#[derive(Debug)]
pub(crate) struct SockLock(Lock<SockState, Skb, AtomicU32, Gathered>);

/// Result of delivering a packet to a sock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// `backlog_rcv` ran.
    Processed,
    /// A system call owns the sock; it will run the packet.
    Queued,
    /// The backlog is full. The sock's drop is counted here; the protocol's counter is incremented by the caller
    /// (tcp_add_backlog).
    Dropped(DropReason),
}

/// Ownership of a sock, in process context (`Sock::lock`) or softirq context (`Sock::deliver`, timers). Dropping it is
/// `release_sock`: the backlog runs through `backlog_rcv`, then what `Sock::own_or_leave` left, then the deferred bits
/// through `release_cb`.
pub struct SockGuard<'a> {
    /// The stack the sock lives in.
    pub stack: &'a Arc<Stack>,
    /// The sock, for the fields outside the lock.
    pub sock: &'a Arc<Sock>,
    /// See `now`.
    now: Cell<Option<Instant>>,
    /// None only while `unlocked` runs its closure and once the sock has been released.
    state: Option<Held<'a>>,
    softirq: bool,
    /// `sleep` has run softirq instead of sleeping; the next call sleeps.
    pub(super) looked: bool,
}

/// An owned inside. The second is dropped once the first was released, so that a woken thread finds the sock free.
type Held<'a> = (Owner<'a, SockState>, Owning);

impl SockLock {
    // As what it calls: else the state would be copied.
    #[inline(always)]
    pub(super) fn new(state: SockState) -> SockLock {
        SockLock(Lock::new(state, Gathered::default()))
    }

    /// The state without owning the sock, for dropping the last reference and for memory reports.
    pub(super) fn state_mut(&mut self) -> &mut SockState {
        self.0.get_mut()
    }

    /// Bytes of truesize in the backlog.
    pub(super) fn backlog_bytes(&self) -> u32 {
        self.0.backlog_bytes()
    }
}

impl Sock {
    /// Process context: sleeps until nobody owns the sock.
    #[inline]
    pub fn lock<'a>(self: &'a Arc<Sock>, stack: &'a Arc<Stack>) -> SockGuard<'a> {
        self.process(stack, self.lock.0.own())
    }

    /// [`Sock::lock`] of a sock that is free. None: the sock is owned, or threads wait for it.
    #[inline]
    pub fn try_lock<'a>(self: &'a Arc<Sock>, stack: &'a Arc<Stack>) -> Option<SockGuard<'a>> {
        self.lock.0.own_free().map(|owner| self.process(stack, owner))
    }

    /// Whether a poll has found nothing to report but room to send, as of most socks of a long list, and nobody has
    /// owned the sock since: then the next poll need not own it, which takes two atomic operations and brings ten cache
    /// lines in. Only what is changed without owning the sock is to be looked at besides (`err`, `errors`, `broken`).
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst)
    }

    /// Somebody owns the sock, who may change what a poll has found. One who polls enters the wait queue, then reads
    /// the flag; an owner resets it, then reads the queue: at least one of the two sees the other's write.
    #[inline]
    fn not_idle(&self) {
        if self.idle.load(Ordering::Relaxed) {
            self.idle.swap(false, Ordering::SeqCst);
        }
    }

    #[inline]
    fn process<'a>(self: &'a Arc<Sock>, stack: &'a Arc<Stack>, state: Owner<'a, SockState>) -> SockGuard<'a> {
        self.not_idle();
        let state = Some((state, Owning::begin()));
        SockGuard { stack, sock: self, now: Cell::new(None), state, softirq: false, looked: false }
    }

    #[inline]
    fn softirq<'a>(
        self: &'a Arc<Sock>,
        stack: &'a Arc<Stack>,
        now: Instant,
        state: Owner<'a, SockState>,
    ) -> SockGuard<'a> {
        self.not_idle();
        let (now, state) = (Cell::new(Some(now)), Some((state, Owning::begin())));
        SockGuard { stack, sock: self, now, state, softirq: true, looked: false }
    }

    /// Softirq context: runs the packet now, or leaves it in the owner's bounded backlog. Never sleeps.
    #[inline(always)]
    pub fn deliver(self: &Arc<Sock>, stack: &Arc<Stack>, skb: Skb, now: Instant) -> Delivered {
        let bytes = skb.truesize;
        let limit = || {
            let queued = self.rmem_alloc.load(Ordering::Relaxed).max(0) as u32;
            (self.rcvbuf.load(Ordering::Relaxed) as u32)
                .saturating_add(self.sndbuf.load(Ordering::Relaxed) as u32)
                .saturating_add(BACKLOG_EXTRA)
                .saturating_sub(queued)
        };
        let join = |last: &mut Skb, skb: &mut Skb| self.proto().join_backlog(stack, self, last, skb);
        match self.lock.0.arrive(skb, bytes, limit, join) {
            Arrival::Yours(owner, skb) => {
                self.contained(|proto| {
                    let mut guard = self.softirq(stack, now, owner);
                    proto.backlog_rcv(&mut guard, skb);
                });
                Delivered::Processed
            }
            Arrival::Queued | Arrival::Joined(_) => Delivered::Queued,
            Arrival::Full(skb) => {
                drop(skb);
                self.drops.fetch_add(1, Ordering::Relaxed);
                stack.mib.drop(DropReason::SocketBacklog);
                Delivered::Dropped(DropReason::SocketBacklog)
            }
        }
    }

    /// Softirq context: asks for `release_cb(bits)`, now or when the owner releases the sock. Timers and transmit
    /// completions come this way.
    pub fn defer(self: &Arc<Sock>, stack: &Arc<Stack>, bits: u32, now: Instant) {
        self.prefetch();
        if let Some(owner) = self.lock.0.defer(bits) {
            self.contained(|proto| {
                let mut guard = self.softirq(stack, now, owner);
                proto.release_cb(&mut guard, bits);
            });
        }
    }

    /// Runs packet or timer work of the sock's protocol. After a panic, dropping the guard has marked the sock broken
    /// (`SockGuard::abandon`); this wakes the threads that wait for it.
    #[inline(always)]
    fn contained(self: &Arc<Sock>, f: impl FnOnce(&dyn Proto)) {
        let proto = self.proto();
        if contain(|| proto.contained(), || f(&**proto)) {
            self.broken.store(true, Ordering::Relaxed);
            self.report_error(Error::Io);
        }
    }

    /// Softirq context: runs `f` as owner, or returns None when a system call owns the sock.
    pub(crate) fn try_own<R>(
        self: &Arc<Sock>,
        stack: &Arc<Stack>,
        now: Instant,
        f: impl FnOnce(&mut SockGuard<'_>) -> R,
    ) -> Option<R> {
        let mut guard = self.softirq(stack, now, self.lock.0.try_own()?);
        Some(f(&mut guard))
    }
}

impl Sock {
    /// Softirq context: runs `f` as owner, now or when the owner releases the sock. More than [`LATE_MAX`] that wait
    /// are dropped, and counted as packets are that the backlog has no room for.
    pub(crate) fn own_or_leave(
        self: &Arc<Sock>,
        stack: &Arc<Stack>,
        now: Instant,
        f: impl FnOnce(&mut SockGuard<'_>) + Send + 'static,
    ) {
        let mut work = Some(f);
        let owner = self.lock.0.postpone(|late: &Gathered| {
            let mut late = late.inner().late.lock();
            match work.take() {
                Some(f) if late.len() < LATE_MAX => late.push(Box::new(f)),
                _ => {
                    self.drops.fetch_add(1, Ordering::Relaxed);
                    stack.mib.drop(DropReason::SocketBacklog);
                }
            }
        });
        if let (Some(owner), Some(f)) = (owner, work) {
            f(&mut self.softirq(stack, now, owner));
        }
    }
}

impl<'a> SockGuard<'a> {
    /// Whether this is packet or timer context: nothing may sleep.
    #[inline]
    pub fn in_softirq(&self) -> bool {
        self.softirq
    }

    /// Reads the stack's clock again (tcp_mstamp_refresh).
    pub fn refresh_clock(&mut self) {
        self.now.set(Some(self.stack.now()));
    }

    /// Time of the event being processed. In process context the clock is read at the first call: many system calls
    /// need no time.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(|| {
            let now = self.stack.now();
            self.now.set(Some(now));
            now
        })
    }

    /// Runs the backlog and deferred work without releasing the sock (sk_flush_backlog). True when there was a packet.
    #[inline]
    pub fn flush_backlog(&mut self) -> bool {
        let any = self.drain_backlog();
        if any {
            self.sock.lock.0.flushed();
            let bits = self.state.as_ref().map_or(0, |(owner, _)| self.sock.lock.0.take_deferred(owner));
            if bits != 0 {
                self.sock.proto().release_cb(self, bits);
            }
        }
        any
    }

    /// Whether something waits for the release of the sock. May miss what comes meanwhile; the release misses nothing.
    #[inline]
    pub(crate) fn has_backlog(&self) -> bool {
        self.state.as_ref().is_some_and(|(owner, _)| owner.is_marked())
    }

    #[inline]
    fn drain_backlog(&mut self) -> bool {
        let mut any = false;
        while let Some(batch) = self.state.as_ref().and_then(|(owner, _)| self.sock.lock.0.take_backlog(owner)) {
            any = true;
            let proto = self.sock.proto();
            for skb in batch {
                proto.backlog_rcv(self, skb);
            }
        }
        any
    }

    /// Releases the sock while `f` runs, then owns it again: how a system call sleeps. The backlog and deferred work
    /// run first. Process context only; in softirq context it returns EAGAIN and `f` does not run.
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> Result<R, Error> {
        if self.softirq {
            debug_assert!(false, "softirq must not sleep");
            return Err(Error::Again);
        }
        self.settle();
        let r = f();
        let owner = self.sock.lock.0.own();
        self.sock.not_idle();
        self.state = Some((owner, Owning::begin()));
        // Time has passed.
        self.now.set(None);
        Ok(r)
    }

    /// Releases the sock, of which a poll has found that it is idle ([`Sock::is_idle`]); what is queued is processed,
    /// and then it is not.
    pub(crate) fn release_idle(mut self) {
        self.sock.idle.store(true, Ordering::Relaxed);
        if !self.try_release() {
            self.sock.not_idle();
        }
    }

    /// There is no lock poisoning: a panic while owning marks the sock broken instead, and frees its waiters.
    #[cold]
    fn abandon(&mut self) {
        if let Some((owner, _owning)) = self.state.take() {
            self.sock.broken.store(true, Ordering::Relaxed);
            self.sock.err.store(libc::EIO, Ordering::Relaxed);
            self.sock.lock.0.abandon(owner);
            drop(self.sock.lock.0.monitor().take_late());
        }
    }

    /// Releases the sock if nothing is queued, as dropping the guard does in that case; the guard is empty afterwards.
    /// False: something is queued, and nothing was done.
    #[inline]
    pub fn try_release(&mut self) -> bool {
        if std::thread::panicking() {
            return false;
        }
        self.check();
        match self.release_free() {
            Ok(()) => true,
            Err(held) => {
                self.state = Some(held);
                false
            }
        }
    }

    /// Err: something has to be done first.
    #[inline]
    fn release_free(&mut self) -> Result<(), Held<'a>> {
        match self.state.take() {
            Some((owner, owning)) => owner.try_release().map_err(|owner| (owner, owning)),
            None => Ok(()),
        }
    }

    /// With debug assertions, each release checks the protocol's invariants.
    #[inline]
    fn check(&mut self) {
        #[cfg(debug_assertions)]
        if self.state.is_some() {
            let proto = self.sock.proto();
            let check = || proto.check_invariants(self.sock, self);
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
                self.abandon();
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Runs the backlog, then the work that was left, then deferred bits, until there is none, and releases the sock.
    #[inline]
    fn settle(&mut self) {
        if let Err(held) = self.release_free() {
            self.settle_marked(held);
        }
    }

    #[cold]
    fn settle_marked(&mut self, held: Held<'a>) {
        let mut left = Some(held);
        while let Some((owner, owning)) = left {
            match self.sock.lock.0.settle(owner) {
                Settle::Released => drop(owning),
                Settle::Deferred(owner, bits) => {
                    self.state = Some((owner, owning));
                    self.sock.proto().release_cb(self, bits);
                }
                Settle::Late(owner) => {
                    self.state = Some((owner, owning));
                    for work in self.sock.lock.0.monitor().take_late() {
                        work(self);
                    }
                }
                Settle::Backlog(owner) => {
                    self.state = Some((owner, owning));
                    self.refresh_clock();
                    self.drain_backlog();
                }
            }
            left = self.state.take();
        }
    }
}

impl Drop for SockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
            return;
        }
        self.check();
        self.settle();
    }
}

impl Deref for SockGuard<'_> {
    type Target = SockState;
    #[inline]
    fn deref(&self) -> &SockState {
        match &self.state {
            Some((state, _)) => state,
            None => gone(),
        }
    }
}

impl DerefMut for SockGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut SockState {
        match &mut self.state {
            Some((state, _)) => state,
            None => gone(),
        }
    }
}

/// Not reached: `unlocked` borrows the guard while its closure runs, and a dropped guard cannot be used.
#[cold]
fn gone() -> ! {
    unreachable!("the inside of a sock that is not owned")
}
