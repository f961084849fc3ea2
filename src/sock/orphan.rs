//! Orphans: socks of plug-ins that no program has any more. The plug-in is told before such a sock is freed, because
//! what it keeps of the sock may refer to other memory. For that the stack holds a reference to each orphan, and when
//! no other is left, passes the sock to [`Proto::destruct`](super::proto::Proto::destruct). So exactly one thread ends
//! it, and it is still at the address that the plug-in knows. Above: plug-ins (`ffi`), timers, packets. Below: the
//! stack. Linux: sk_free, sk_destruct.

use super::{Sock, tsq};
use crate::base::env::Instant;
use crate::stack::{Stack, TimerCall};
use crate::sys::lock::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// So many are let in before they are looked through for such as have lost their last reference elsewhere.
const FEW: usize = 64;

/// The orphans of a stack.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    list: Mutex<List>,
    /// How many there are, to be read without the lock.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct List {
    /// By their addresses.
    socks: BTreeMap<usize, Arc<Sock>>,
    /// How many were left when they were looked through.
    left: usize,
}

impl List {
    /// The addresses of those that nobody else has any more.
    fn gone(&self) -> Vec<usize> {
        self.socks.iter().filter(|(_, sock)| is_last(sock)).map(|(at, _)| *at).collect()
    }
}

fn address(sock: &Arc<Sock>) -> usize {
    Arc::as_ptr(sock) as usize
}

/// The list has the only reference: nobody can get another one but through the list.
fn is_last(sock: &Arc<Sock>) -> bool {
    Arc::strong_count(sock) == 1
}

impl Orphans {
    /// Takes out the sock of this address if nobody else has it.
    fn take_last(&self, at: usize) -> Option<Arc<Sock>> {
        let mut list = self.list.lock();
        let last = list.socks.get(&at).is_some_and(is_last).then(|| list.socks.remove(&at)).flatten();
        self.len.store(list.socks.len(), Ordering::Relaxed);
        last
    }

    fn has_last(&self, at: usize) -> bool {
        self.list.lock().socks.get(&at).is_some_and(is_last)
    }

    /// Adds a sock. Returns the addresses of those that nobody else has any more, but only when their number has
    /// doubled since they were last returned.
    fn insert(&self, sock: &Arc<Sock>) -> Vec<usize> {
        let mut list = self.list.lock();
        list.socks.insert(address(sock), sock.clone());
        self.len.store(list.socks.len(), Ordering::Relaxed);
        if list.socks.len() < FEW.max(2 * list.left) {
            return Vec::new();
        }
        let gone = list.gone();
        list.left = list.socks.len() - gone.len();
        gone
    }

    fn remove(&self, sock: &Arc<Sock>) -> Option<Arc<Sock>> {
        let mut list = self.list.lock();
        let removed = list.socks.remove(&address(sock));
        self.len.store(list.socks.len(), Ordering::Relaxed);
        removed
    }
}

/// A reference to the sock of this address was dropped: looks, where no lock is held, whether it was the last one.
struct Dropped(usize);

impl TimerCall for Dropped {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, _: Instant) {
        stack.end_orphan(self.0);
    }
}

impl Sock {
    /// No program has the sock: its protocol gets it when all references but the stack's are gone (sock_orphan). Owned
    /// or not.
    pub fn orphan(self: &Arc<Sock>, stack: &Arc<Stack>) {
        self.tsq_flags.fetch_or(tsq::ORPHAN, Ordering::AcqRel);
        stack.orphans.insert(self).into_iter().for_each(|gone| stack.schedule(Arc::new(Dropped(gone))));
    }

    /// A program has it, or it has ended (sock_graft). The caller has a reference.
    pub fn graft(self: &Arc<Sock>, stack: &Arc<Stack>) {
        if self.tsq_flags.fetch_and(!tsq::ORPHAN, Ordering::AcqRel) & tsq::ORPHAN != 0 {
            drop(stack.orphans.remove(self));
        }
    }

    /// Whether it is one that the stack keeps for its protocol.
    #[inline]
    pub fn is_orphan(&self) -> bool {
        self.tsq_flags.load(Ordering::Acquire) & tsq::ORPHAN != 0
    }

    /// In a child of the stack's process an orphan is the parent's, and stays.
    fn forget_inherited(self: &Arc<Sock>, stack: &Arc<Stack>) -> bool {
        let forgets = self.is_orphan() && stack.is_inherited();
        if forgets {
            std::mem::forget(self.clone());
        }
        forgets
    }

    /// Drops a reference: for those that may be the last one to an orphan (sock_put). Not with that sock owned.
    #[inline]
    pub fn put(self: Arc<Sock>, stack: &Arc<Stack>) {
        if self.forget_inherited(stack) {
            return;
        }
        let at = address(&self);
        drop(self);
        stack.dropped(at);
    }

    /// The same under any lock, with any sock owned: what the last reference causes is left to a softirq of its own.
    #[inline]
    pub fn put_later(self: Arc<Sock>) {
        if self.is_orphan() {
            self.put_orphan_later();
        }
    }

    #[cold]
    fn put_orphan_later(self: Arc<Sock>) {
        let Some(stack) = self.stack().upgrade() else { return };
        if !self.forget_inherited(&stack) {
            let at = address(&self);
            // Before the call is there for any thread to run.
            drop(self);
            stack.schedule(Arc::new(Dropped(at)));
        }
    }
}

/// Declared behind a reference to a sock, so that it is dropped after it: what [`Sock::put`] does then. Nothing but the
/// address is needed for that.
pub(crate) struct PutAfter {
    stack: Arc<Stack>,
    at: usize,
    /// See `put_later`.
    later: bool,
}

impl PutAfter {
    pub(crate) fn new(stack: &Arc<Stack>, sock: &Arc<Sock>) -> PutAfter {
        PutAfter { stack: stack.clone(), at: address(sock), later: false }
    }
    /// It may be dropped under any lock, with any sock owned.
    pub(crate) fn put_later(&mut self) {
        self.later = true;
    }
}

impl std::ops::Deref for PutAfter {
    type Target = Arc<Stack>;
    #[inline]
    fn deref(&self) -> &Arc<Stack> {
        &self.stack
    }
}

impl Drop for PutAfter {
    #[inline]
    fn drop(&mut self) {
        match self.later {
            true => self.stack.dropped_under_lock(self.at),
            false => self.stack.dropped(self.at),
        }
    }
}

impl Stack {
    /// A reference to the sock at `at` was just dropped. Whoever made that an orphan meanwhile may have dropped its own
    /// before, and has seen this one then: so it is looked at only now whether there are any.
    #[inline]
    fn dropped(self: &Arc<Stack>, at: usize) {
        // Arc's drop is a release only.
        fence(Ordering::Acquire);
        if self.orphans.len.load(Ordering::Relaxed) != 0 {
            self.end_orphan(at);
        }
    }

    fn dropped_under_lock(self: &Arc<Stack>, at: usize) {
        fence(Ordering::Acquire);
        if self.orphans.len.load(Ordering::Relaxed) != 0 && !self.is_inherited() && self.orphans.has_last(at) {
            self.schedule(Arc::new(Dropped(at)));
        }
    }

    /// Ends the orphan of this address if nobody has it any more.
    #[cold]
    fn end_orphan(self: &Arc<Stack>, at: usize) {
        // In a child a thread of the parent may have the lock.
        if self.is_inherited() {
            return;
        }
        if let Some(sock) = self.orphans.take_last(at) {
            sock.proto().destruct(&mut sock.lock(self));
        }
    }

    /// Ends the orphans that have lost their last reference where nobody noticed.
    pub fn reap_orphans(self: &Arc<Stack>) {
        let gone = self.orphans.list.lock().gone();
        gone.into_iter().for_each(|at| self.end_orphan(at));
    }
}
