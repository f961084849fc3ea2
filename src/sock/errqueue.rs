//! The error queue: ICMP errors and local ones (IP_RECVERR), completions of MSG_ZEROCOPY and transmit timestamps, read
//! with MSG_ERRQUEUE. It has a lock of its own, because a device completes packets while a system call owns the sock.
//! Above: `ip::errors` (which reads it, too), `zerocopy` and `tstamp`, which report. Below: `exterr`, the entries.
//! Linux: sock_queue_err_skb, sock_dequeue_err_skb.

use super::Sock;
use super::exterr::{ErrEntry, origin};
use super::skb::SKB_OVERHEAD;
use super::wait::Events;
use crate::base::error::{Error, Result};
use crate::sys::lock::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

/// A sock's queued errors.
#[derive(Debug, Default)]
pub(crate) struct ErrQueue {
    list: Mutex<List>,
    /// Whether the list has entries, for poll(2), which does not lock (skb_queue_empty_lockless).
    waiting: AtomicBool,
}

#[derive(Debug, Default)]
struct List {
    /// Oldest first.
    errors: VecDeque<ErrEntry>,
    /// Bytes of `Sock::rmem_alloc` that are the entries'.
    rmem: i32,
}

impl ErrEntry {
    /// Memory that the entry occupies, bytes. That of a completion was charged when the call began, as option memory;
    /// that of any other error is receive memory.
    fn truesize(&self) -> i32 {
        (SKB_OVERHEAD as usize + self.payload.len()) as i32
    }

    fn is_completion(&self) -> bool {
        self.err.origin == origin::ZEROCOPY
    }
}

impl ErrQueue {
    /// Whether the queue is empty.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.waiting.load(Ordering::Acquire)
    }
}

impl Sock {
    /// Queues an error and wakes who waits (sock_queue_err_skb). False: the receive buffer has no room, the error is
    /// lost.
    pub(crate) fn queue_error(&self, e: ErrEntry) -> bool {
        let size = e.truesize();
        let held = self.rmem_alloc.load(Ordering::Relaxed);
        if self.errors_closed.load(Ordering::Acquire)
            || held.saturating_add(size) >= self.rcvbuf.load(Ordering::Relaxed)
        {
            self.drops.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let errors = &self.unowned().errors;
        let mut queue = errors.list.lock();
        self.rmem_alloc.fetch_add(size, Ordering::Relaxed);
        queue.rmem += size;
        queue.errors.push_back(e);
        errors.waiting.store(true, Ordering::Release);
        drop(queue);
        self.wait.wake(Events::ERR);
        true
    }

    /// Queues the completion of MSG_ZEROCOPY calls, which owns `SKB_OVERHEAD` bytes of option memory, and wakes who
    /// waits. One that continues the newest completion makes that longer instead (skb_zerocopy_notify_extend). After
    /// close it is dropped.
    pub(crate) fn queue_completion(&self, e: ErrEntry) {
        let size = e.truesize();
        if self.errors_closed.load(Ordering::Acquire) {
            self.unowned().omem_alloc.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        let errors = &self.unowned().errors;
        let mut list = errors.list.lock();
        let queue = &mut list.errors;
        let joins = |last: &ErrEntry| {
            // A range of all 2^32 ids could not be told from an empty one.
            let calls = u64::from(last.err.data.wrapping_sub(last.err.info)) + 1;
            let more = u64::from(e.err.data.wrapping_sub(e.err.info)) + 1;
            last.is_completion() && e.err.info == last.err.data.wrapping_add(1) && calls + more < 1 << 32
        };
        match queue.back_mut() {
            Some(last) if joins(last) => {
                last.err.data = e.err.data;
                self.unowned().omem_alloc.fetch_sub(size, Ordering::Relaxed);
            }
            _ => queue.push_back(e),
        }
        errors.waiting.store(true, Ordering::Release);
        drop(list);
        self.wait.wake(Events::ERR);
    }

    /// The oldest error. EAGAIN when there is none. SO_ERROR becomes that of the next one if it is of ICMP origin; if
    /// only this one was, it is cleared. Whoever waits is woken while more is queued (sock_dequeue_err_skb).
    pub(crate) fn next_error(&self) -> Result<ErrEntry> {
        let of_icmp = |e: &ErrEntry| matches!(e.err.origin, origin::ICMP | origin::ICMP6);
        let errors = &self.unowned.get().ok_or(Error::Again)?.errors;
        let mut list = errors.list.lock();
        let queue = &mut *list;
        let e = queue.errors.pop_front().ok_or(Error::Again)?;
        self.uncharge(&e, &mut queue.rmem);
        let next = queue.errors.front();
        let more = next.is_some();
        errors.waiting.store(more, Ordering::Release);
        match next.filter(|n| of_icmp(n)) {
            Some(next) => self.err.store(next.err.errno as i32, Ordering::Relaxed),
            None if of_icmp(&e) => self.err.store(0, Ordering::Relaxed),
            None => {}
        }
        drop(list);
        if more {
            self.wait.wake(Events::ERR);
        }
        Ok(e)
    }

    /// Empties the queue.
    #[inline]
    pub(crate) fn purge_errors(&self) {
        if let Some(u) = self.unowned.get() {
            self.drop_errors(&u.errors);
        }
    }

    #[cold]
    fn drop_errors(&self, errors: &ErrQueue) {
        let mut queue = errors.list.lock();
        for e in std::mem::take(&mut queue.errors) {
            self.uncharge(&e, &mut queue.rmem);
        }
        errors.waiting.store(false, Ordering::Release);
    }

    /// The program has closed the socket: empties the queue, which takes no more.
    pub(crate) fn close_errors(&self) {
        self.errors_closed.store(true, Ordering::Release);
        self.purge_errors();
    }

    /// Bytes of `rmem_alloc` that are not queued errors', for checks.
    pub(crate) fn rmem_besides_errors(&self) -> i32 {
        self.rmem_alloc.load(Ordering::Relaxed) - self.unowned.get().map_or(0, |u| u.errors.list.lock().rmem)
    }

    fn uncharge(&self, e: &ErrEntry, rmem: &mut i32) {
        let size = e.truesize();
        if e.is_completion() {
            self.unowned().omem_alloc.fetch_sub(size, Ordering::Relaxed);
        } else {
            self.rmem_alloc.fetch_sub(size, Ordering::Relaxed);
            *rmem -= size;
        }
    }
}
