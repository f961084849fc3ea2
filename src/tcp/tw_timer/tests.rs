use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// How many records are in each list of the shard of port 0.
fn lists(t: &TwTimers) -> Vec<(u64, usize)> {
    t.0[0].0.lock().by_tick.iter().map(|(tick, list)| (*tick, list.len())).collect()
}

#[test]
fn a_time_is_rounded_up_to_a_tick_and_never_down() {
    for (ns, tick) in [(0, 1), (1, 1), (1 << 26, 1), ((1 << 26) + 1, 2), (60_000_000_000, 895)] {
        let at = Instant::from_nanos(ns);
        assert_eq!(tick_of(at), tick, "{ns}");
        assert!(begin_of(tick) >= at && begin_of(tick) - at <= crate::base::env::Duration::from_nanos(1 << 26));
    }
}

#[test]
fn records_that_end_in_a_tick_are_one_list_which_a_cancelled_one_leaves() {
    let stack = crate::config::build("").unwrap();
    let t = TwTimers::default();
    let tw: Vec<_> = (0..5).map(|i| TimeWait::of_port(0, at(60_000 + i))).collect();
    (0..).zip(&tw).for_each(|(i, tw)| t.arm(&stack, tw, at(60_000 + i)));
    let tick = tick_of(at(60_000));
    assert_eq!(lists(&t), [(tick, 5)]);
    // The last one takes the place of the second, and is found there.
    for (i, left) in [(1, 4), (4, 3), (4, 3), (0, 2), (2, 1)] {
        t.cancel(&tw[i]);
        assert_eq!((lists(&t), Arc::strong_count(&tw[i])), (vec![(tick, left)], 1));
    }
    t.cancel(&tw[3]);
    assert_eq!(lists(&t), []);
}

#[test]
fn a_record_that_is_put_off_stays_in_its_list_and_one_that_ends_earlier_moves() {
    let stack = crate::config::build("").unwrap();
    let (t, tw) = (TwTimers::default(), TimeWait::of_port(0, at(60_000)));
    for (ms, tick) in [(120_000, 120_000), (180_000, 120_000), (60_000, 60_000), (60_001, 60_000)] {
        t.arm(&stack, &tw, at(ms));
        assert_eq!(lists(&t), [(tick_of(at(tick)), 1)], "{ms}");
    }
}

#[test]
fn a_record_whose_time_was_put_off_is_entered_again_when_its_list_is_due() {
    let stack = crate::config::build("").unwrap();
    let net = net::of(&stack).unwrap();
    let t = &net.hashinfo.tw_timers;
    let tw = TimeWait::of_port(0, at(1_000_000_000));
    t.arm(&stack, &tw, at(1));
    let shard = t.0[0].clone();
    shard.clone().fire(&stack, begin_of(1));
    assert_eq!(lists(t), [(tick_of(at(1_000_000_000)), 1)]);
    shard.fire(&stack, at(1_000_000_100));
    assert_eq!((lists(t), Arc::strong_count(&tw)), (vec![], 1), "its time is over");
}
