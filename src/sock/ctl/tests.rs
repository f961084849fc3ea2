//! Every interleaving of owners, packets and timers, over loom's atomics, mutex and condition variable.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

impl Word for AtomicU32 {
    fn new() -> Self {
        AtomicU32::new(0)
    }
    fn peek(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    fn exchange(&self, from: u32, to: u32) -> Result<u32, u32> {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
    }
    fn publish(&self, to: u32) {
        self.store(to, Ordering::Release);
    }
}

struct LoomMonitor(Mutex<Ctl<u32>>, Condvar);

impl Monitor<Ctl<u32>> for LoomMonitor {
    fn with<R>(&self, f: impl FnOnce(&mut Ctl<u32>) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
    fn until<R>(&self, mut f: impl FnMut(&mut Ctl<u32>) -> Option<R>) -> R {
        let mut ctl = self.0.lock().unwrap();
        loop {
            if let Some(r) = f(&mut ctl) {
                return r;
            }
            ctl = self.1.wait(ctl).unwrap();
        }
    }
    fn notify_one(&self) {
        self.1.notify_one();
    }
}

/// What happened inside, in order: packets by their number, deferred bits from 0x1000 on.
type Inside = UnsafeCell<()>;
type TheOwner<'a> = Owner<'a, (Inside, Vec<u32>), AtomicU32>;

/// A small model of `lock.rs`: it does what `Lock` tells it to.
struct Model(Lock<(Inside, Vec<u32>), u32, AtomicU32, LoomMonitor>, Mutex<Vec<u32>>);

impl Model {
    fn new() -> Arc<Model> {
        let monitor = LoomMonitor(Mutex::new(Ctl::default()), Condvar::new());
        Arc::new(Model(Lock::new((UnsafeCell::new(()), Vec::new()), monitor), Mutex::default()))
    }

    /// Loom fails the run when two threads are inside at once, or when their accesses are not ordered.
    fn work(owner: &mut TheOwner<'_>, what: u32) {
        owner.0.with_mut(|_| ());
        owner.1.push(what);
    }

    fn release<'a>(&'a self, mut owner: TheOwner<'a>) {
        loop {
            match self.0.settle(owner) {
                Settle::Released => return,
                Settle::Backlog(o) => {
                    owner = o;
                    for packet in self.0.take_backlog(&owner).into_iter().flatten() {
                        Model::work(&mut owner, packet);
                    }
                }
                Settle::Late(o) => {
                    owner = o;
                    for what in std::mem::take(&mut *self.1.lock().unwrap()) {
                        Model::work(&mut owner, what);
                    }
                }
                Settle::Deferred(o, bits) => {
                    owner = o;
                    Model::work(&mut owner, 0x1000 | bits);
                }
            }
        }
    }

    fn system_call(&self) {
        let owner = self.0.own();
        owner.0.with_mut(|_| ());
        self.release(owner);
    }

    fn deliver(&self, packet: u32) {
        match self.0.arrive(packet, 1, || 100, |_, _| false) {
            Arrival::Yours(mut owner, packet) => {
                Model::work(&mut owner, packet);
                self.release(owner);
            }
            Arrival::Queued | Arrival::Joined(_) => {}
            Arrival::Full(_) => panic!("100 bytes do not wait"),
        }
    }

    fn timer(&self, bits: u32) {
        if let Some(mut owner) = self.0.defer(bits) {
            Model::work(&mut owner, 0x1000 | bits);
            self.release(owner);
        }
    }

    fn work_or_leave(&self, what: u32) {
        if let Some(mut owner) = self.0.postpone(|_| self.1.lock().unwrap().push(what)) {
            Model::work(&mut owner, what);
            self.release(owner);
        }
    }

    /// Asserts that nothing is queued and nobody owns the sock; returns what happened.
    fn at_rest(&self) -> Vec<u32> {
        let owner = self.0.inside.try_own().expect("free and unmarked");
        self.0.monitor.with(|ctl| {
            assert!(ctl.backlog.is_empty() && ctl.deferred == 0 && !ctl.late && ctl.bytes == 0);
            assert!(ctl.waiters == 0 && !ctl.reserved);
        });
        let log = owner.1.clone();
        assert!(owner.try_release().is_ok());
        log
    }
}

/// With three threads, at most two preemptions, so that all interleavings are tried within seconds. With three
/// preemptions, and with no bound for the first two tests that use this, it takes minutes; those runs passed as well.
fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(f);
}

#[test]
fn no_packet_and_no_timer_is_lost_in_any_interleaving() {
    check(|| {
        let m = Model::new();
        let (a, b) = (m.clone(), m.clone());
        let packet = thread::spawn(move || a.deliver(1));
        let timer = thread::spawn(move || b.timer(4));
        m.system_call();
        packet.join().unwrap();
        timer.join().unwrap();
        let mut log = m.at_rest();
        log.sort();
        assert_eq!(log, [1, 0x1004]);
    });
}

#[test]
fn no_work_that_is_left_to_the_owner_is_lost_in_any_interleaving() {
    check(|| {
        let m = Model::new();
        let (a, b) = (m.clone(), m.clone());
        let late = thread::spawn(move || a.work_or_leave(7));
        let timer = thread::spawn(move || b.timer(4));
        m.system_call();
        late.join().unwrap();
        timer.join().unwrap();
        let mut log = m.at_rest();
        log.sort();
        assert_eq!(log, [7, 0x1004]);
    });
}

#[test]
fn packets_of_one_queue_keep_their_order() {
    loom::model(|| {
        let m = Model::new();
        let a = m.clone();
        let packets = thread::spawn(move || (1..=3).for_each(|p| a.deliver(p)));
        m.system_call();
        m.system_call();
        packets.join().unwrap();
        assert_eq!(m.at_rest(), [1, 2, 3]);
    });
}

#[test]
fn system_calls_and_packets_take_turns_and_nobody_sleeps_for_ever() {
    check(|| {
        let m = Model::new();
        let (a, b) = (m.clone(), m.clone());
        let other = thread::spawn(move || a.system_call());
        let packet = thread::spawn(move || b.deliver(1));
        m.system_call();
        other.join().unwrap();
        packet.join().unwrap();
        assert_eq!(m.at_rest(), [1]);
    });
}

#[test]
fn a_thread_that_locks_again_and_again_leaves_no_waiter_asleep() {
    check(|| {
        let m = Model::new();
        let (a, b) = (m.clone(), m.clone());
        let one = thread::spawn(move || a.system_call());
        let two = thread::spawn(move || {
            b.system_call();
            b.system_call();
        });
        m.system_call();
        one.join().unwrap();
        two.join().unwrap();
        m.at_rest();
    });
}

#[test]
fn a_panicked_owner_wakes_the_waiters() {
    loom::model(|| {
        let m = Model::new();
        let (a, b) = (m.clone(), m.clone());
        let owner = m.0.own();
        let other = thread::spawn(move || a.system_call());
        let timer = thread::spawn(move || b.timer(4));
        m.0.abandon(owner);
        other.join().unwrap();
        timer.join().unwrap();
        m.at_rest();
    });
}

#[test]
fn a_flood_meets_the_limit_although_the_owner_keeps_taking() {
    loom::model(|| {
        let m = Model::new();
        let arrive = || matches!(m.0.arrive(1, 10, || 100, |_, _| false), Arrival::Queued);
        let owner = m.0.own();
        let mut taken = 0;
        for _ in 0..10 {
            while arrive() {
                taken += 1;
            }
            assert!(taken <= 11);
            m.0.take_backlog(&owner);
        }
        m.0.flushed();
        assert!(arrive(), "a flush in the middle of a call starts the count anew");
        m.0.take_backlog(&owner);
        m.release(owner);
        let owner = m.0.own();
        assert!(arrive());
        m.release(owner);
        assert_eq!(m.at_rest(), [1]);
    });
}
