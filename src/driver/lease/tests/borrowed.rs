//! Several queues: a thread borrows the lease of a queue that nobody waits in, when its packets come there (`loan`).

use super::*;

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
