//! The decisions of `lock_sock`, without a lock of their own: owned flag, waiters, backlog, deferred work. `lock` keeps one
//! behind a mutex and a condition variable; the model checker (`tests` below, loom) keeps the same one behind its own, and
//! tries every interleaving of owners, packets and timers. Linux: struct socket_lock_t, sk_backlog.

use std::collections::VecDeque;

/// What guards the inside of a sock; `P` is a packet.
#[derive(Debug)]
pub(super) struct Ctl<P> {
    owned: bool,
    waiters: u16,
    /// Work left for `release_cb`: bits do not overflow, however often a timer fires.
    deferred: u32,
    /// Bytes in `backlog`, and in what the owner took from it since it was last empty: so a flood that keeps pace with the
    /// owner meets the limit, and the owner comes to an end.
    bytes: u32,
    backlog: VecDeque<P>,
}

impl<P> Default for Ctl<P> {
    fn default() -> Self {
        Ctl { owned: false, waiters: 0, deferred: 0, bytes: 0, backlog: VecDeque::new() }
    }
}

/// What an owner that wants to go has to do first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// Packets wait: take them (`take_backlog`) and process them.
    Backlog,
    /// Run `release_cb` with these bits.
    Deferred(u32),
    /// Nothing: the flag has fallen; `notify` when somebody sleeps for it.
    Released {
        /// Wake one waiter.
        notify: bool,
    },
}

impl<P> Ctl<P> {
    /// Takes ownership if nobody has it.
    #[inline]
    pub fn try_own(&mut self) -> bool {
        !std::mem::replace(&mut self.owned, true)
    }

    /// A thread begins to sleep for the flag.
    pub fn wait_begins(&mut self) {
        self.waiters += 1;
    }

    /// It woke up; it tries again.
    pub fn wait_ends(&mut self) {
        self.waiters -= 1;
    }

    /// Leaves a packet to the owner; gives it back when `limit` bytes wait already. Only while owned.
    pub fn enqueue(&mut self, packet: P, bytes: u32, limit: u32) -> Result<(), P> {
        debug_assert!(self.owned);
        if self.bytes > limit {
            return Err(packet);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.backlog.push_back(packet);
        Ok(())
    }

    /// Adds bits of deferred work. True: nobody owns the sock, the caller does now and runs them by settling.
    pub fn defer(&mut self, bits: u32) -> bool {
        self.deferred |= bits;
        self.try_own()
    }

    /// Owner: everything that waits. What is taken still counts, until `flushed` or the release.
    pub fn take_backlog(&mut self) -> VecDeque<P> {
        std::mem::take(&mut self.backlog)
    }

    /// Owner, in the middle of a long call: has worked the backlog off, and the count starts anew.
    pub fn flushed(&mut self) {
        if self.backlog.is_empty() {
            self.bytes = 0;
        }
    }

    /// Owner: what must be done before the flag falls; it falls here when nothing must.
    #[inline]
    pub fn settle(&mut self) -> Settle {
        if !self.backlog.is_empty() {
            return Settle::Backlog;
        }
        match std::mem::take(&mut self.deferred) {
            0 => {
                self.owned = false;
                self.bytes = 0;
                Settle::Released { notify: self.waiters > 0 }
            }
            bits => Settle::Deferred(bits),
        }
    }

    /// Owner, after a panic: drops what waits and lets go.
    pub fn abandon(&mut self) {
        let waiters = self.waiters;
        *self = Ctl { waiters, ..Ctl::default() };
    }

    /// Bytes that wait or are being worked off.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Heap bytes of the backlog queue.
    pub fn heap_bytes(&self) -> usize {
        self.backlog.capacity() * size_of::<P>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// What `lock.rs` does with `Ctl`, over loom's mutex and condition variable. `inside` must only be touched by the owner.
    struct Model {
        ctl: Mutex<Ctl<u32>>,
        released: Condvar,
        inside: AtomicUsize,
        packets: AtomicUsize,
        bits: AtomicUsize,
    }

    impl Model {
        fn new() -> Arc<Model> {
            Arc::new(Model {
                ctl: Mutex::new(Ctl::default()),
                released: Condvar::new(),
                inside: AtomicUsize::new(0),
                packets: AtomicUsize::new(0),
                bits: AtomicUsize::new(0),
            })
        }

        fn enter(&self) {
            assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "two owners");
        }

        fn release(&self) {
            loop {
                let mut ctl = self.ctl.lock().unwrap();
                match ctl.settle() {
                    Settle::Released { notify } => {
                        // The last word of the owner, under the lock that guards the flag.
                        self.inside.fetch_sub(1, Ordering::SeqCst);
                        if notify {
                            self.released.notify_one();
                        }
                        return;
                    }
                    Settle::Deferred(bits) => {
                        self.bits.fetch_or(bits as usize, Ordering::SeqCst);
                    }
                    Settle::Backlog => {
                        let batch = ctl.take_backlog();
                        self.packets.fetch_add(batch.len(), Ordering::SeqCst);
                    }
                }
            }
        }

        fn system_call(&self) {
            let mut ctl = self.ctl.lock().unwrap();
            while !ctl.try_own() {
                ctl.wait_begins();
                ctl = self.released.wait(ctl).unwrap();
                ctl.wait_ends();
            }
            drop(ctl);
            self.enter();
            self.release();
        }

        fn deliver(&self, packet: u32) {
            let mut ctl = self.ctl.lock().unwrap();
            if !ctl.try_own() {
                assert_eq!(ctl.enqueue(packet, 1, 100), Ok(()));
                return;
            }
            drop(ctl);
            self.enter();
            self.packets.fetch_add(1, Ordering::SeqCst);
            self.release();
        }

        fn timer(&self, bits: u32) {
            if self.ctl.lock().unwrap().defer(bits) {
                self.enter();
                self.release();
            }
        }

        fn at_rest(&self, packets: usize, bits: usize) {
            let ctl = self.ctl.lock().unwrap();
            assert!(!ctl.owned && ctl.backlog.is_empty() && ctl.deferred == 0 && ctl.bytes == 0 && ctl.waiters == 0);
            assert_eq!(self.packets.load(Ordering::SeqCst), packets, "a packet was lost");
            assert_eq!(self.bits.load(Ordering::SeqCst), bits, "a timer was lost");
        }
    }

    #[test]
    fn no_packet_and_no_timer_is_lost_in_any_interleaving() {
        loom::model(|| {
            let m = Model::new();
            let (a, b) = (m.clone(), m.clone());
            let packet = thread::spawn(move || a.deliver(1));
            let timer = thread::spawn(move || b.timer(4));
            m.system_call();
            packet.join().unwrap();
            timer.join().unwrap();
            m.at_rest(1, 4);
        });
    }

    #[test]
    fn system_calls_and_packets_take_turns_and_nobody_sleeps_for_ever() {
        loom::model(|| {
            let m = Model::new();
            let (a, b) = (m.clone(), m.clone());
            let other = thread::spawn(move || a.system_call());
            let packet = thread::spawn(move || b.deliver(1));
            m.system_call();
            other.join().unwrap();
            packet.join().unwrap();
            m.at_rest(1, 0);
        });
    }

    #[test]
    fn a_flood_meets_the_limit_although_the_owner_keeps_taking() {
        let mut c: Ctl<u32> = Ctl::default();
        assert!(c.try_own());
        let mut taken = 0;
        for _ in 0..10 {
            while c.enqueue(1, 10, 100).is_ok() {
                taken += 1;
            }
            assert!(taken <= 11);
            drop(c.take_backlog());
        }
        assert_eq!(c.settle(), Settle::Released { notify: false });
        assert!(c.try_own());
        assert_eq!(c.enqueue(1, 10, 100), Ok(()));
    }
}
