//! Reading the devices without a wait: SO_BUSY_POLL, and the looks before a thread sleeps (`eager`).

use super::*;

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
fn a_sender_reads_the_device_beside_the_holder_of_the_lease_as_long_as_packets_are_there() {
    let (s, (bell, rung)) = (without_threads(), Bell::new(1));
    s.add_device(bell.clone()).unwrap();
    let (shard, holder) = (Shard::new(), Arc::new(Waiter::new()));
    assert!(shard.acquire(&holder));
    let reads_of = |senders: u32, packets: bool| {
        let before = bell.reads.load(Ordering::SeqCst);
        for _ in 0..senders {
            if packets {
                bell.fd.signal();
            }
            shard.receive_now(&s, 0, 1);
        }
        (bell.reads.load(Ordering::SeqCst) - before, rung.try_iter().count())
    };
    assert_eq!(reads_of(100, true), (100, 100));
    // After 1, 2, 4, 8, 16, 32 and then 64 without.
    assert_eq!(reads_of(7 + 63, false), (7, 0));
    assert!(shard.state.lock().is_held_by(&holder));
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
