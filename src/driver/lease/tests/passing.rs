//! Who holds the lease: when the background thread takes it, and how it moves to the thread whose packets come.

use super::*;

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
