//! The lease with devices and threads: how a wait ends, and what runs meanwhile.
//!
//! | file | what |
//! |---|---|
//! | `passing` | who holds the lease |
//! | `looks` | reading the devices without a wait |
//! | `borrowed` | leases of several queues |

mod borrowed;
mod looks;
mod passing;

use super::*;
use crate::base::env::{OsEntropy, RealClock, VirtualClock};
use crate::device::{Caps, DevStats, Device, Xmit};
use crate::driver::EventLoop;
use crate::sock::skb::Skb;
use crate::stack::{StackConfig, TimerCall, TimerSlot};
use crate::standard;
use crate::sys::fd::EventFd;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A device whose descriptor is an eventfd: each signal is a packet. It reports which thread received it.
#[derive(Debug)]
struct Bell {
    fd: EventFd,
    rung: Mutex<Sender<String>>,
    /// Woken at each packet, as a sock would be.
    waiter: Mutex<Option<Arc<Waiter>>>,
    queues: u16,
    /// Calls of `recv`.
    reads: AtomicUsize,
    /// Bytes of a packet.
    size: AtomicU64,
    /// Packets of 1,500 bytes that other queues receive beside each.
    beside: AtomicU64,
    /// Packets and bytes received.
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Behind each packet there is another.
    endless: AtomicBool,
}

impl Bell {
    fn new(queues: u16) -> (Arc<Bell>, Receiver<String>) {
        let (tx, rx) = channel();
        let (fd, reads) = (EventFd::new().unwrap(), AtomicUsize::new(0));
        let (size, beside) = (AtomicU64::new(1500), AtomicU64::new(0));
        let (packets, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let (rung, waiter) = (Mutex::new(tx), Mutex::default());
        let endless = AtomicBool::new(false);
        let bell = Bell { fd, rung, waiter, queues, reads, size, beside, packets, bytes, endless };
        (Arc::new(bell), rx)
    }
}

impl Device for Bell {
    fn name(&self) -> &str {
        "bell0"
    }
    fn caps(&self) -> Caps {
        Caps { queues: self.queues, ..Caps::ip(1500) }
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if !self.fd.drain() {
            return Ok(0);
        }
        if self.endless.load(Ordering::SeqCst) {
            self.fd.signal();
        }
        let beside = self.beside.load(Ordering::SeqCst);
        self.packets.fetch_add(1 + beside, Ordering::SeqCst);
        self.bytes.fetch_add(self.size.load(Ordering::SeqCst) + 1500 * beside, Ordering::SeqCst);
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        if let Some(w) = self.waiter.lock().as_ref() {
            w.wake();
        }
        self.rung.lock().send(name).unwrap();
        Ok(1)
    }
    fn xmit(&self, _: u16, _: Instant, _: Skb) -> Xmit {
        Xmit::Sent
    }
    fn poll_fd(&self, _: u16) -> Option<RawFd> {
        Some(self.fd.raw())
    }
    fn stats(&self) -> DevStats {
        let (rx_packets, rx_bytes) = (self.packets.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst));
        DevStats { rx_packets, rx_bytes, ..DevStats::default() }
    }
}

fn stack(queues: u16) -> Arc<Stack> {
    let config = StackConfig {
        clock: Arc::new(RealClock::new()),
        entropy: Arc::new(OsEntropy::new().unwrap()),
        runner: Arc::new(Lease::new(queues)),
    };
    standard::stack(config).unwrap()
}

/// A stack of one queue, and its lease.
fn stack_and_lease() -> (Arc<Stack>, Arc<Lease>) {
    let lease = Arc::new(Lease::new(1));
    let (clock, entropy) = (Arc::new(RealClock::new()), Arc::new(OsEntropy::new().unwrap()));
    (standard::stack(StackConfig { clock, entropy, runner: lease.clone() }).unwrap(), lease)
}

/// A stack without threads, which would read as well.
fn without_threads() -> Arc<Stack> {
    let config = StackConfig {
        clock: Arc::new(RealClock::new()),
        entropy: Arc::new(OsEntropy::new().unwrap()),
        runner: Arc::new(EventLoop::new().unwrap()),
    };
    standard::stack(config).unwrap()
}

fn named<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name(name.to_owned()).spawn(f).unwrap()
}

struct Ring(Arc<Waiter>);
impl TimerCall for Ring {
    fn fire(self: Arc<Self>, _: &Arc<Stack>, _: Instant) {
        self.0.wake();
    }
}

#[test]
fn a_wait_ends_by_wake_up_by_deadline_and_by_a_descriptor_of_the_kernel() {
    let s = stack(1);
    let w = Waiter::current();
    w.wake();
    assert_eq!(s.block(&w, None), Woken::Event);
    assert_eq!(s.block(&w, Some(s.now() + Duration::from_micros(1))), Woken::TimedOut);
    let e = EventFd::new().unwrap();
    e.signal();
    let mut extra = [PollFd::new(e.raw(), libc::POLLIN)];
    assert!(!extra[0].is_polled());
    assert_eq!(s.block_with(&w, None, &mut extra), Woken::Event);
    assert_eq!(extra[0].revents(), libc::POLLIN);
}

#[test]
fn what_is_scheduled_while_the_holder_owns_a_sock_is_done_by_the_background_thread() {
    let (s, lease) = stack_and_lease();
    let w = Waiter::current();
    let sock = crate::inet::create(&s, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    let owned = sock.lock(&s);
    // Long enough to tell a loss from a wake-up.
    let end = || Some(s.now() + Duration::from_secs(20));
    s.schedule(Arc::new(Ring(w.clone())));
    assert_eq!(s.block(&w, end()), Woken::Event, "before it sleeps");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while lease.shared.shards[0].sleep_until.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            s.schedule(Arc::new(Ring(w.clone())));
        });
        assert_eq!(s.block(&w, end()), Woken::Event, "while it sleeps");
    });
    drop(owned);
}

#[test]
fn a_wait_that_slept_has_looked_at_the_descriptors_and_one_that_was_over_before_has_not() {
    let s = stack(1);
    let w = Waiter::current();
    let e = EventFd::new().unwrap();
    let mut extra = [PollFd::new(e.raw(), libc::POLLIN)];
    w.wake();
    assert_eq!(s.block_with(&w, None, &mut extra), Woken::Event);
    assert!(!extra[0].is_polled());
    assert_eq!(s.block_with(&w, Some(s.now() + Duration::from_millis(1)), &mut extra), Woken::TimedOut);
    assert_eq!((extra[0].is_polled(), extra[0].revents()), (true, 0));
}

#[test]
fn a_timer_that_is_due_does_not_read_the_devices() {
    let s = stack(1);
    let (bell, _rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    for _ in 0..5 {
        let w = Waiter::current();
        let mut slot = TimerSlot::default();
        s.arm_call(&mut slot, Arc::new(Ring(w.clone())), s.now() + Duration::from_millis(1));
        assert_eq!(s.block(&w, None), Woken::Event);
    }
    assert_eq!(bell.reads.load(Ordering::SeqCst), 0);
}

#[test]
fn a_timer_fires_while_a_thread_is_blocked_and_while_none_is() {
    let s = stack(1);
    let w = Waiter::current();
    let mut slot = TimerSlot::default();
    s.arm_call(&mut slot, Arc::new(Ring(w.clone())), s.now() + Duration::from_millis(1));
    assert_eq!(s.block(&w, None), Woken::Event);
    let mut slot = TimerSlot::default();
    s.arm_call(&mut slot, Arc::new(Ring(w.clone())), s.now() + Duration::from_millis(1));
    while !w.is_woken() {
        std::thread::yield_now();
    }
}

#[test]
fn an_earlier_timer_armed_by_another_thread_shortens_the_holders_sleep() {
    let s = stack(1);
    let (go, gone) = channel();
    let (s2, blocked) = (
        s.clone(),
        named("blocked", {
            let s = s.clone();
            move || {
                let w = Waiter::current();
                go.send(w.clone()).unwrap();
                s.block(&w, Some(s.now() + Duration::from_secs(600)))
            }
        }),
    );
    let w = gone.recv().unwrap();
    let mut slot = TimerSlot::default();
    s2.arm_call(&mut slot, Arc::new(Ring(w)), s2.now() + Duration::from_millis(20));
    assert_eq!(blocked.join().unwrap(), Woken::Event);
}

#[test]
fn the_blocked_thread_receives_its_packet_itself() {
    let s = stack(1);
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    // At first the background thread has the lease, or takes it. Wait for that, so that the hand-over is tested too.
    bell.fd.signal();
    assert_eq!(rung.recv().unwrap(), "usersock-q0");
    // The background thread may get a packet while the reader is not yet blocked, but not every time.
    for _ in 0..1000 {
        let (s, b) = (s.clone(), bell.clone());
        let blocked = named("reader", move || {
            let w = Waiter::current();
            *b.waiter.lock() = Some(w.clone());
            // Take the lease first, with nothing to receive; then the packet arrives.
            assert_eq!(s.block(&w, Some(s.now() + Duration::from_millis(3))), Woken::TimedOut);
            b.fd.signal();
            let woken = s.block(&w, None);
            *b.waiter.lock() = None;
            woken
        });
        assert_eq!(blocked.join().unwrap(), Woken::Event);
        if rung.recv().unwrap() == "reader" {
            return;
        }
    }
    panic!("the background thread received every packet");
}

#[test]
fn the_background_thread_receives_when_nobody_waits() {
    let s = stack(1);
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    for _ in 0..5 {
        let w = Waiter::current();
        assert_eq!(s.block(&w, Some(s.now() + Duration::from_micros(1))), Woken::TimedOut);
        bell.fd.signal();
        assert_eq!(rung.recv().unwrap(), "usersock-q0");
    }
}

/// Packets that come one after the other: between two times it serves the devices at least that long passes. A lower
/// bound, which holds on a busy machine as well.
#[test]
fn the_background_thread_does_not_wait_for_each_packet_of_a_burst() {
    let s = stack(1);
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    bell.fd.signal();
    assert_eq!(rung.recv().unwrap(), "usersock-q0");
    let (begin, rounds) = (s.now(), 100);
    for _ in 0..rounds {
        bell.fd.signal();
        assert_eq!(rung.recv().unwrap(), "usersock-q0");
    }
    // The first follows a long silence.
    let waits = (MODERATION * (rounds - 2)).as_nanos();
    assert!((s.now() - begin).as_nanos() >= waits, "{:?}", s.now() - begin);
}

#[test]
fn many_threads_blocked_at_once_are_all_woken_whoever_holds_the_lease() {
    for queues in [1, 2] {
        let s = stack(queues);
        let (bell, _rung) = Bell::new(queues);
        s.add_device(bell.clone()).unwrap();
        let (tx, rx) = channel();
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let (s, tx) = (s.clone(), tx.clone());
                named(&format!("w{i}"), move || {
                    for _ in 0..50 {
                        let w = Waiter::current();
                        tx.send(w.clone()).unwrap();
                        assert_eq!(s.block(&w, None), Woken::Event);
                    }
                })
            })
            .collect();
        drop(tx);
        while let Ok(w) = rx.recv() {
            w.wake();
        }
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

#[test]
fn dropping_the_stack_ends_its_threads_and_frees_its_devices() {
    let s = stack(1);
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    bell.fd.signal();
    rung.recv().unwrap();
    drop(s);
    drop(bell);
    // The device owns the sending end; it is dropped with the last reference.
    assert!(rung.recv().is_err());
}

#[test]
fn a_signal_interrupts_a_wait_in_either_place() {
    extern "C" fn handler(_: i32) {}
    crate::sys::thread::tests::handle(libc::SIGUSR2, handler);
    for polling in [false, true] {
        let s = stack(1);
        if polling {
            s.add_device(Bell::new(1).0).unwrap();
        }
        let (tx, rx) = channel();
        let t = named("signalled", move || {
            tx.send(crate::sys::thread::me()).unwrap();
            s.block(&Waiter::current(), None)
        });
        let id = rx.recv().unwrap();
        // The signal may arrive before the wait has begun; it is sent until it takes effect.
        while !t.is_finished() {
            crate::sys::thread::tests::signal(id, libc::SIGUSR2);
            std::thread::yield_now();
        }
        assert_eq!(t.join().unwrap(), Woken::Interrupted);
    }
}

/// A device that has room for as many packets as a datagram socket.
#[derive(Debug)]
struct Narrow(std::os::unix::net::UnixDatagram);

impl Device for Narrow {
    fn name(&self) -> &str {
        "narrow0"
    }
    fn caps(&self) -> Caps {
        Caps::ip(1500)
    }
    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        Ok(0)
    }
    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        match self.0.send(&skb.to_vec()) {
            Ok(_) => Xmit::Sent,
            Err(_) => Xmit::Busy(skb),
        }
    }
    fn poll_fd(&self, _: u16) -> Option<RawFd> {
        Some(std::os::fd::AsRawFd::as_raw_fd(&self.0))
    }
    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

/// Nobody of the program calls the stack again: who sleeps in the device sends it.
#[test]
fn what_a_full_device_left_is_sent_as_soon_as_it_has_room() {
    let (ours, peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let s = stack(1);
    let dev = s.add_device(Arc::new(Narrow(ours))).unwrap();
    for round in 0..20 {
        let mut sent = 0;
        while dev.tx_backlog() == 0 {
            dev.xmit(&s, s.now(), Skb::from_slice(&[round, sent].repeat(500))).unwrap();
            sent += 1;
        }
        s.run_pending();
        for n in 0..sent {
            let mut got = [0; 2];
            peer.recv(&mut got).unwrap_or_else(|e| panic!("round {round}, packet {n} of {sent}: {e}"));
            assert_eq!(got, [round, n]);
        }
    }
}

/// Work that a thread leaves behind, without a further call: who sleeps in the devices runs it, be it the background
/// thread, a thread of the program that waits, or the program's event loop.
#[test]
fn scheduled_work_wakes_who_sleeps_in_the_devices() {
    let (s, lease) = stack_and_lease();
    s.add_device(Bell::new(1).0).unwrap();
    let asleep = || lease.shared.shards[0].sleep_until.load(Ordering::SeqCst) != 0;
    let (told, tells) = channel();
    let schedule = |s: &Arc<Stack>| {
        s.schedule(Arc::new(Told(Mutex::new(told.clone()))));
        tells.recv_timeout(std::time::Duration::from_secs(60)).expect("nobody ran the work")
    };
    while !asleep() {
        std::thread::yield_now();
    }
    assert_eq!(schedule(&s), "usersock-q0");
    let waiter = Arc::new(Waiter::new());
    let blocked = named("blocked", {
        let (s, waiter) = (s.clone(), waiter.clone());
        move || s.block(&waiter, None)
    });
    let holds = || lease.shared.shards[0].state.lock().holder.as_ref().is_some_and(|h| Arc::ptr_eq(h, &waiter));
    while !(holds() && asleep()) {
        std::thread::yield_now();
    }
    assert_eq!(schedule(&s), "blocked");
    waiter.wake();
    assert_eq!(blocked.join().unwrap(), Woken::Event);
}

/// Says which thread fired it.
struct Told(Mutex<Sender<String>>);
impl TimerCall for Told {
    fn fire(self: Arc<Self>, _: &Arc<Stack>, _: Instant) {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        self.0.lock().send(name).unwrap();
    }
}

fn wait_until(mut true_now: impl FnMut() -> bool) {
    while !true_now() {
        std::thread::yield_now();
    }
}
