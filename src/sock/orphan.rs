//! Socks that no program has and that their protocol is told of before they go: of plug-ins, whose data of a sock may
//! refer to more. The stack keeps a reference to each, and [`Proto::destruct`](super::proto::Proto::destruct) gets the
//! sock when no other is left. So it is one thread that ends it, at the address that the plug-in knows. Above: plug-ins
//! (`ffi`), timers, packets. Below: the stack. Linux: sk_free, sk_destruct.

use super::{Sock, tsq};
use crate::base::env::Instant;
use crate::stack::{Stack, TimerCall};
use crate::sys::lock::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many are let in before they are looked through for such as have lost their last reference elsewhere.
const FEW: usize = 64;

/// The orphans of a stack.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// By their addresses.
    socks: BTreeMap<usize, Arc<Sock>>,
    /// How many were left when they were looked through.
    left: usize,
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
        let mut list = self.0.lock();
        list.socks.get(&at).is_some_and(is_last).then(|| list.socks.remove(&at)).flatten()
    }

    /// Adds a sock. Returns those that nobody else has any more, but only when their number has doubled since they were
    /// last returned.
    fn insert(&self, sock: &Arc<Sock>) -> Vec<Arc<Sock>> {
        let mut list = self.0.lock();
        list.socks.insert(address(sock), sock.clone());
        if list.socks.len() < FEW.max(2 * list.left) {
            return Vec::new();
        }
        let gone: Vec<_> = list.socks.values().filter(|s| is_last(s)).cloned().collect();
        list.left = list.socks.len() - gone.len();
        gone
    }

    fn remove(&self, sock: &Arc<Sock>) -> Option<Arc<Sock>> {
        self.0.lock().socks.remove(&address(sock))
    }
}

/// Puts a reference where no lock is held.
struct Put(Arc<Sock>);

impl TimerCall for Put {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, _: Instant) {
        let sock = self.0.clone();
        drop(self);
        sock.put(stack);
    }
}

impl Sock {
    /// No program has the sock: its protocol gets it when all references but the stack's are gone (sock_orphan). Owned
    /// or not.
    pub fn orphan(self: &Arc<Sock>, stack: &Arc<Stack>) {
        self.tsq_flags.fetch_or(tsq::ORPHAN, Ordering::AcqRel);
        stack.orphans.insert(self).into_iter().for_each(|gone| stack.schedule(Arc::new(Put(gone))));
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

    /// Drops a reference: for those that may be the last one to an orphan (sock_put). Not with that sock owned.
    #[inline]
    pub fn put(self: Arc<Sock>, stack: &Arc<Stack>) {
        if self.is_orphan() {
            self.put_orphan(stack);
        }
    }

    #[cold]
    fn put_orphan(self: Arc<Sock>, stack: &Arc<Stack>) {
        if stack.is_inherited() {
            // It is the parent's, of which a thread may have the lock.
            std::mem::forget(self);
            return;
        }
        let at = address(&self);
        drop(self);
        if let Some(sock) = stack.orphans.take_last(at) {
            sock.proto().destruct(&mut sock.lock(stack));
        }
    }

    /// The same under any lock: the last reference goes in a softirq of its own.
    #[cold]
    pub(crate) fn put_later(self: &Arc<Sock>) {
        if let Some(stack) = self.stack.upgrade() {
            stack.schedule(Arc::new(Put(self.clone())));
        }
    }
}

impl Stack {
    /// Ends the orphans that have lost their last reference where nobody noticed.
    pub fn reap_orphans(self: &Arc<Stack>) {
        let gone: Vec<_> = self.orphans.0.lock().socks.values().filter(|s| is_last(s)).cloned().collect();
        gone.into_iter().for_each(|sock| sock.put(self));
    }
}
