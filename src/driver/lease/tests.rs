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
fn the_background_thread_checks_by_itself_while_the_lease_is_used_and_then_rests() {
    let (shard, thread, mut last) = (Shard::new(), Arc::new(Waiter::new()), Checks::new());
    let use_it = || {
        assert!(shard.acquire(&thread));
        shard.release(true, &RealClock::new());
    };
    assert_eq!(shard.check(&mut last), Check::Taken);
    shard.release(true, &RealClock::new());
    assert_eq!(shard.check(&mut last), Check::Later(GRACE));
    for _ in 0..3 {
        use_it();
        assert_eq!(shard.check(&mut last), Check::Later(GRACE_MAX));
        assert!(shard.state.lock().checked, "no release has to arm the timer");
    }
    use_it();
    assert!(shard.acquire(&thread));
    assert_eq!(shard.check(&mut last), Check::Later(GRACE_MAX), "held now, and used since");
    assert_eq!(shard.check(&mut last), Check::Rest);
    shard.release(true, &RealClock::new());
    // The release has armed the timer, or this would not end.
    let timer = shard.timer.as_ref().unwrap();
    assert_eq!(crate::sys::poll::poll(&mut [PollFd::new(timer.raw(), libc::POLLIN)], None).unwrap(), 1);
    assert_eq!(shard.check(&mut last), Check::Later(GRACE));
    assert_eq!(shard.check(&mut last), Check::Pass);
}

#[test]
fn a_lease_that_was_used_lately_is_not_kept_until_several_checks_found_it_free() {
    let s = without_threads();
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    let (shard, thread, mut last) = (Shard::new(), Arc::new(Waiter::new()), Checks::new());
    let use_it = |last: &mut Checks| {
        assert!(shard.acquire(&thread));
        shard.release(true, &RealClock::new());
        assert!(matches!(shard.check(last), Check::Later(_)));
    };
    use_it(&mut last);
    for round in 0..PASSES {
        if round == PASSES / 2 {
            // A thread that comes meanwhile waits, and is told when it has ended.
            assert_eq!(shard.check(&mut last), Check::Pass);
            assert!(!shard.acquire(&thread) && shard.background.take_nudge());
            bell.fd.signal();
            shard.pass(&s, 0, 1);
            assert!(thread.is_called() && shard.acquire(&thread));
            assert_ne!(rung.recv().unwrap(), "usersock-q0");
            shard.release(true, &RealClock::new());
            break;
        }
        assert_eq!(shard.check(&mut last), Check::Pass, "{round}");
        shard.pass(&s, 0, 1);
        assert!(shard.state.lock().holder.is_none(), "{round}");
    }
    // That was a use, after which they are counted anew.
    assert!(matches!(shard.check(&mut last), Check::Later(_)));
    for round in 0..PASSES {
        assert_eq!(shard.check(&mut last), Check::Pass, "{round}");
        shard.pass(&s, 0, 1);
    }
    assert_eq!(shard.check(&mut last), Check::Taken);
}

#[test]
fn a_lease_that_is_taken_again_before_the_thread_it_is_offered_to_runs_is_offered_twice() {
    let shard = Shard::new();
    let (quick, parked, mut last) = (Arc::new(Waiter::new()), Arc::new(Waiter::new()), Checks::new());
    assert!(shard.acquire(&quick));
    assert!(!shard.acquire(&parked));
    for _ in 0..VAIN {
        shard.release(true, &RealClock::new());
        assert!(shard.acquire(&quick));
        // It runs now: it was offered the lease, and finds it held.
        let vain = shard.state.lock().vain;
        assert!(!shard.acquire(&parked));
        assert_eq!(shard.state.lock().vain, vain + 1);
    }
    shard.release(true, &RealClock::new());
    assert!(!parked.take_nudge());
    // The background thread offers it when nobody uses it.
    assert_eq!(shard.check(&mut last), Check::Later(GRACE));
    assert!(!parked.take_nudge());
    assert_eq!(shard.check(&mut last), Check::Later(GRACE));
    assert!(shard.acquire(&parked));
    assert_eq!(shard.state.lock().vain, 0);
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

/// A shard in which `main` holds the lease and `worker`'s packets come: it waits so often that it is to get the lease.
fn held_by_the_wrong_thread() -> (Shard, Arc<Waiter>, Arc<Waiter>) {
    let (shard, main, worker) = (Shard::new(), Arc::new(Waiter::new()), Arc::new(Waiter::new()));
    assert!(shard.acquire(&main));
    for _ in 1..FOREIGN {
        assert!(!shard.acquire(&worker));
        shard.leave(&worker, &VirtualClock::new());
        assert!(!main.take_nudge());
    }
    assert!(!shard.acquire(&worker));
    (shard, main, worker)
}

#[test]
fn the_lease_moves_to_the_thread_whose_packets_come_and_is_not_offered_back() {
    let clock = VirtualClock::new();
    let (shard, main, worker) = held_by_the_wrong_thread();
    assert!(main.take_nudge() && shard.pass_on(&main) && worker.is_called());
    assert!(!shard.acquire(&main), "it is the worker's before that has woken");
    assert!(shard.acquire(&worker));
    clock.advance(GRACE);
    for offered in [true, false] {
        // The first release after a long time, and one soon after it.
        shard.release(true, &clock);
        assert_eq!(main.take_nudge(), offered);
        assert!(shard.acquire(&worker));
    }
}

#[test]
fn a_holder_that_receives_many_packets_for_each_wake_up_keeps_the_lease() {
    let (shard, main, worker) = (Shard::new(), Arc::new(Waiter::new()), Arc::new(Waiter::new()));
    assert!(shard.acquire(&main));
    for round in 0..3 * FOREIGN {
        assert!(!shard.acquire(&worker));
        assert!(!main.take_nudge(), "{round}");
        shard.leave(&worker, &VirtualClock::new());
        shard.packets.fetch_add(2 * WORTH_A_WAKE, Ordering::Relaxed);
    }
}

#[test]
fn a_lease_passed_to_a_thread_that_waits_no_longer_is_free() {
    let clock = VirtualClock::new();
    let (shard, main, worker) = held_by_the_wrong_thread();
    shard.leave(&worker, &clock);
    assert!(!shard.pass_on(&main), "it has left before");
    assert!(Arc::ptr_eq(shard.state.lock().holder.as_ref().unwrap(), &main));
    let (shard, main, worker) = held_by_the_wrong_thread();
    assert!(shard.pass_on(&main));
    shard.leave(&worker, &clock);
    assert!(shard.state.lock().holder.is_none());
    assert!(shard.acquire(&main));
}

#[test]
fn a_thread_that_waits_for_rare_packets_gets_the_lease_of_one_whose_packets_come_no_more() {
    let (s, lease) = stack_and_lease();
    // With the lease, or behind who has it.
    let waits = |waiter: &Arc<Waiter>| {
        let state = lease.shared.shards[0].state.lock();
        let parked = state.parked.iter().map(|p| &p.waiter);
        parked.chain(&state.holder).any(|w| Arc::ptr_eq(w, waiter))
    };
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    let (ready, go) = channel();
    let main = Arc::new(Waiter::new());
    let holder = named("main", {
        let (s, main) = (s.clone(), main.clone());
        move || s.block(&main, None)
    });
    // Not in its first wait: the holder learns whose packets come.
    let worker = named("worker", {
        let (s, bell) = (s.clone(), bell.clone());
        move || {
            for _ in 0..500 {
                let w = Waiter::current();
                *bell.waiter.lock() = Some(w.clone());
                if ready.send(()).is_err() {
                    break;
                }
                assert_eq!(s.block(&w, None), Woken::Event);
                *bell.waiter.lock() = None;
            }
        }
    });
    let mut last = String::new();
    while go.recv().is_ok() {
        let waiter = bell.waiter.lock().clone().unwrap();
        while !waits(&waiter) {
            std::thread::yield_now();
        }
        bell.fd.signal();
        last = rung.recv().unwrap();
        if last == "worker" {
            break;
        }
    }
    assert_eq!(last, "worker");
    drop(go);
    while !worker.is_finished() {
        bell.fd.signal();
        rung.recv().unwrap();
    }
    worker.join().unwrap();
    // Only main waits for packets now, and gets its own.
    *bell.waiter.lock() = Some(main);
    bell.fd.signal();
    assert_eq!(holder.join().unwrap(), Woken::Event);
}

#[test]
fn busy_polling_reads_without_a_wait_and_ends_with_a_descriptor_of_the_kernel() {
    let (s, (bell, rung)) = (without_threads(), Bell::new(1));
    s.add_device(bell.clone()).unwrap();
    let (shard, w, e) = (Shard::new(), Arc::new(Waiter::new()), EventFd::new().unwrap());
    assert!(shard.acquire(&w));
    let hold = |deadline, extra: &mut [PollFd]| {
        shard.hold(&s, 0, std::slice::from_ref(&shard), &w, deadline, extra, &mut true)
    };
    s.sysctl.set("net.core.busy_poll", "5000").unwrap();
    assert_eq!(hold(Some(s.now() + Duration::from_millis(20)), &mut []), Some(Woken::TimedOut));
    assert!(bell.reads.load(Ordering::SeqCst) > 10);
    s.sysctl.set("net.core.busy_poll", "2000000000").unwrap();
    *bell.waiter.lock() = Some(w.clone());
    bell.fd.signal();
    let polled = || s.mib.get(crate::counters::Mib::TcpExtBusyPollRxPackets);
    assert_eq!(polled(), 0);
    assert_eq!(hold(None, &mut []), Some(Woken::Event), "its packet");
    assert_eq!(polled(), 1);
    rung.recv().unwrap();
    e.signal();
    let mut extra = [PollFd::new(e.raw(), libc::POLLIN)];
    assert_eq!(hold(None, &mut extra), Some(Woken::Event));
    assert_eq!(extra[0].revents(), libc::POLLIN);
}

#[test]
fn packets_that_are_there_are_read_without_a_wait_and_a_stream_of_them_hides_no_descriptor() {
    let (s, (bell, rung)) = (without_threads(), Bell::new(1));
    s.add_device(bell.clone()).unwrap();
    let (shard, w, e) = (Shard::new(), Arc::new(Waiter::new()), EventFd::new().unwrap());
    assert!(shard.acquire(&w));
    *bell.waiter.lock() = Some(w.clone());
    let hold = |deadline| {
        let mut extra = [PollFd::new(e.raw(), libc::POLLIN)];
        let woken = shard.hold(&s, 0, std::slice::from_ref(&shard), &w, deadline, &mut extra, &mut true);
        (woken, extra[0].is_polled())
    };
    let waits = |holds: u32| {
        let waits = (0..holds).filter(|_| {
            bell.fd.signal();
            let (woken, waited) = hold(None);
            assert_eq!(woken, Some(Woken::Event));
            rung.recv().unwrap();
            waited
        });
        waits.count()
    };
    assert_eq!((waits(64), waits(100)), (64, 0));
    let read = || bell.reads.load(Ordering::SeqCst);
    let before = read();
    assert_eq!(hold(Some(s.now() + Duration::from_millis(1))), (Some(Woken::TimedOut), true));
    assert_eq!(read() - before, 1, "in vain");
    assert_eq!((waits(1), waits(100)), (1, 0));
    // They are for others, and the wait is for the descriptor.
    *bell.waiter.lock() = None;
    bell.endless.store(true, Ordering::SeqCst);
    bell.fd.signal();
    e.signal();
    assert_eq!(hold(None), (Some(Woken::Event), true));
}

/// Whether a wait looks at the device: one that is over at once, by a descriptor of the program's.
fn looks(s: &Arc<Stack>, shard: &Shard, w: &Arc<Waiter>, bell: &Bell) -> bool {
    let e = EventFd::new().unwrap();
    e.signal();
    let before = bell.reads.load(Ordering::SeqCst);
    let mut extra = [PollFd::new(e.raw(), libc::POLLIN)];
    assert_eq!(shard.hold(s, 0, std::slice::from_ref(shard), w, None, &mut extra, &mut true), Some(Woken::Event));
    bell.reads.load(Ordering::SeqCst) > before
}

#[test]
fn after_super_packets_a_wait_looks_at_the_device_before_it_sleeps() {
    let (s, (bell, rung)) = (without_threads(), Bell::new(1));
    s.add_device(bell.clone()).unwrap();
    let (shard, w) = (Shard::new(), Arc::new(Waiter::new()));
    assert!(shard.acquire(&w));
    let hold = |deadline| shard.hold(&s, 0, std::slice::from_ref(&shard), &w, deadline, &mut [], &mut true);
    // In the third case the device's other queues have received twenty of 1,500 bytes meanwhile: those are no
    // super-packet of this lease's.
    for (size, beside, want) in [(1500, 0, false), (65_000, 0, true), (100, 20, false)] {
        *shard.eager.lock() = Eager::new(2);
        bell.size.store(size, Ordering::SeqCst);
        bell.beside.store(beside, Ordering::SeqCst);
        *bell.waiter.lock() = Some(w.clone());
        bell.fd.signal();
        assert_eq!(hold(None), Some(Woken::Event));
        rung.recv().unwrap();
        *bell.waiter.lock() = None;
        assert_eq!(looks(&s, &shard, &w, &bell), want, "{size} {beside}");
        assert_eq!(s.mib.get(crate::counters::Mib::TcpExtBusyPollRxPackets), 0, "nobody asked for it");
    }
}

#[test]
fn looks_of_a_wait_that_find_nothing_become_rare() {
    let (s, (bell, _rung)) = (without_threads(), Bell::new(1));
    s.add_device(bell.clone()).unwrap();
    let (shard, w) = (Shard::new(), Arc::new(Waiter::new()));
    *shard.eager.lock() = Eager::new(2);
    shard.eager.lock().received(1, 65_000);
    assert!(shard.acquire(&w));
    let at: Vec<_> = (0..130).filter(|_| looks(&s, &shard, &w, &bell)).collect();
    // The reads of waits 64 and 129 are single ones, of which nothing has spoken for any.
    assert_eq!(at, [0, 2, 5, 10, 19, 36, 64, 69, 129]);
}

#[test]
fn a_thread_that_busy_polls_in_recv_receives_its_packet_itself() {
    let s = stack(1);
    let (bell, rung) = Bell::new(1);
    s.add_device(bell.clone()).unwrap();
    let w = Waiter::current();
    // The background thread may have the lease when it begins; it gives it up to a thread that waits.
    for _ in 0..1000 {
        assert_eq!(s.block(&w, Some(s.now() + Duration::from_millis(1))), Woken::TimedOut);
        *bell.waiter.lock() = Some(w.clone());
        bell.fd.signal();
        s.runner().busy_poll(&s, &w, Duration::from_secs(1));
        assert_eq!(s.block(&w, None), Woken::Event);
        *bell.waiter.lock() = None;
        if rung.recv().unwrap() != "usersock-q0" {
            return;
        }
    }
    panic!("the background thread received every packet");
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

/// A device with two queues, each of which has a descriptor of its own.
#[derive(Debug)]
struct Bells([Arc<Bell>; 2]);

impl Device for Bells {
    fn name(&self) -> &str {
        "bells0"
    }
    fn caps(&self) -> Caps {
        Caps { queues: 2, ..Caps::ip(1500) }
    }
    fn recv(&self, q: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        self.0[usize::from(q)].recv(0, now, budget, sink)
    }
    fn xmit(&self, _: u16, _: Instant, _: Skb) -> Xmit {
        Xmit::Sent
    }
    fn poll_fd(&self, q: u16) -> Option<RawFd> {
        self.0[usize::from(q)].poll_fd(0)
    }
    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

/// A stack of two leases, a device with a queue for each, and what that of the second reports.
fn two_queues() -> (Arc<Stack>, Arc<Lease>, Arc<Bell>, Receiver<String>) {
    let lease = Arc::new(Lease::new(2));
    let (clock, entropy) = (Arc::new(RealClock::new()), Arc::new(OsEntropy::new().unwrap()));
    let s = standard::stack(StackConfig { clock, entropy, runner: lease.clone() }).unwrap();
    let ((own, _), (other, rung)) = (Bell::new(1), Bell::new(1));
    s.add_device(Arc::new(Bells([own, other.clone()]))).unwrap();
    (s, lease, other, rung)
}

#[test]
fn a_thread_receives_its_packets_of_a_queue_that_nobody_waits_in_by_itself() {
    let (s, lease, other, rung) = two_queues();
    let shards = &lease.shared.shards;
    let waiter = Arc::new(Waiter::new());
    *other.waiter.lock() = Some(waiter.clone());
    let wait = || {
        let (s, waiter) = (s.clone(), waiter.clone());
        // Long enough to tell a loss.
        named("reader", move || {
            thread::set_number(0);
            s.block(&waiter, Some(s.now() + Duration::from_secs(20)))
        })
    };
    let asleep = |i: usize, who: &Arc<Waiter>| {
        shards[i].state.lock().is_held_by(who) && shards[0].sleep_until.load(Ordering::SeqCst) != 0
    };
    // The background thread has the lease, and the reader learns that its packets come by that queue.
    wait_until(|| shards[1].state.lock().is_held_by(&shards[1].background));
    let reader = wait();
    wait_until(|| asleep(0, &waiter));
    other.fd.signal();
    assert_eq!(rung.recv().unwrap(), "usersock-q1");
    assert_eq!(reader.join().unwrap(), Woken::Event);
    wait_until(|| shards[1].packets.load(Ordering::SeqCst) > 0);
    // If the thread was quicker than the count, the next wait learns it.
    let reader = wait();
    wait_until(|| asleep(0, &waiter));
    waiter.wake();
    assert_eq!(reader.join().unwrap(), Woken::Event);
    for round in 0..20 {
        let reader = wait();
        // Borrowed at once, or when the background thread has left it.
        wait_until(|| reader.is_finished() || asleep(1, &waiter));
        other.fd.signal();
        assert_eq!(reader.join().unwrap(), Woken::Event, "{round}");
        assert_eq!(rung.recv().unwrap(), "reader", "{round}");
    }
}

fn wait_until(mut true_now: impl FnMut() -> bool) {
    while !true_now() {
        std::thread::yield_now();
    }
}

#[test]
fn a_wait_that_no_packet_ended_makes_no_thread_borrow() {
    let s = without_threads();
    let (all, w, e) = ([Shard::new(), Shard::new()], Arc::new(Waiter::new()), EventFd::new().unwrap());
    assert!(all[0].acquire(&w));
    let hold = |extra: &mut [PollFd]| {
        assert_eq!(all[0].hold(&s, 0, &all, &w, None, extra, &mut true), Some(Woken::Event));
        all[0].strays.borrows()
    };
    e.signal();
    let ready = || [PollFd::new(e.raw(), libc::POLLIN)];
    let by_thread = |packets| {
        all[1].packets.fetch_add(packets, Ordering::Relaxed);
        w.wake();
        hold(&mut [])
    };
    assert!(!by_thread(0), "another thread's loopback");
    all[1].packets.fetch_add(1, Ordering::Relaxed);
    assert!(!hold(&mut ready()), "a descriptor of the kernel");
    assert!(by_thread(1), "another lease's packet");
}
