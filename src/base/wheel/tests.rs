use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// All timers that fire at `now`, as (deadline, value).
fn fired<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<(u64, T)> {
    std::iter::from_fn(|| wheel.pop_expired(at(now)).map(|(at, value)| (at.as_nanos(), value))).collect()
}

#[test]
fn timers_fire_by_deadline_then_by_order_of_arming_and_never_early() {
    let mut wheel = Wheel::new();
    for (deadline, value) in [(900, 'c'), (5, 'a'), (1 << 40, 'f'), (900, 'd'), (899, 'b'), (1 << 20, 'e')] {
        wheel.arm(at(deadline), value);
    }
    assert_eq!(fired(&mut wheel, 4), []);
    assert_eq!(wheel.next_deadline(), Some(at(5)));
    assert_eq!(fired(&mut wheel, 899), [(5, 'a'), (899, 'b')]);
    assert_eq!(fired(&mut wheel, 900), [(900, 'c'), (900, 'd')]);
    assert_eq!(fired(&mut wheel, (1 << 20) - 1), []);
    assert_eq!(wheel.next_deadline(), Some(at(1 << 20)));
    assert_eq!(fired(&mut wheel, u64::MAX), [(1 << 20, 'e'), (1 << 40, 'f')]);
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
}

#[test]
fn deadlines_at_both_ends_of_time_and_at_slot_edges_fire_exactly_then() {
    let edges: Vec<u64> =
        (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u64::MAX]).collect();
    let mut sorted = edges.clone();
    sorted.sort();
    sorted.dedup();
    let mut wheel = Wheel::new();
    for &deadline in edges.iter().rev() {
        wheel.arm(at(deadline), deadline);
    }
    for deadline in sorted {
        if deadline > 0 {
            assert_eq!(fired(&mut wheel, deadline - 1), [], "before {deadline}");
        }
        assert_eq!(wheel.next_deadline(), Some(at(deadline)));
        let now = fired(&mut wheel, deadline);
        assert!(!now.is_empty() && now.iter().all(|f| *f == (deadline, deadline)), "{deadline}: {now:?}");
    }
    assert!(wheel.is_empty());
}

#[test]
fn a_stale_id_does_nothing_even_when_its_node_is_used_again() {
    let mut wheel = Wheel::new();
    let old = wheel.arm(at(10), 1);
    assert_eq!((wheel.get(old), wheel.deadline(old)), (Some(&1), Some(at(10))));
    assert_eq!(wheel.cancel(old), Some(1));
    let new = wheel.arm(at(20), 2);
    assert_eq!(
        (wheel.cancel(old), wheel.rearm(old, at(5)), wheel.get(old), wheel.deadline(old)),
        (None, false, None, None)
    );
    assert_eq!(fired(&mut wheel, 30), [(20, 2)]);
    assert_eq!(wheel.cancel(new), None);
}

#[test]
fn a_timer_armed_in_the_past_fires_at_the_next_expiry() {
    let mut wheel = Wheel::new();
    assert_eq!(fired::<u8>(&mut wheel, 1 << 50), []);
    wheel.arm(at(3), 1);
    wheel.arm(at(2), 2);
    assert_eq!(wheel.next_deadline(), Some(at(2)));
    assert_eq!(fired(&mut wheel, 1 << 50), [(2, 2), (3, 1)]);
}

#[test]
fn time_that_goes_back_fires_nothing_early() {
    let mut wheel = Wheel::new();
    wheel.expire(at(1 << 30), &mut |_: u8| {});
    wheel.arm(at((1 << 30) + 7), 1);
    assert_eq!(fired(&mut wheel, 5), []);
    assert_eq!(fired(&mut wheel, (1 << 30) + 7), [((1 << 30) + 7, 1)]);
}

#[test]
fn arming_and_cancelling_in_the_present_tick_does_not_hoard_memory() {
    let mut wheel = Wheel::new();
    wheel.arm(at(1), 0);
    let keep = wheel.arm(at(90), 0);
    for i in 0..10_000 {
        let id = wheel.arm(at(50), i);
        wheel.rearm(keep, at(100));
        assert_eq!(wheel.cancel(id), Some(i));
    }
    assert!(wheel.late.len() < 300 && wheel.nodes.len() == 3, "{} {}", wheel.late.len(), wheel.nodes.len());
    assert_eq!(fired(&mut wheel, 100).len(), 2);
}

#[test]
fn cancelled_timers_leave_no_more_empty_nodes_than_there_are_timers_and_a_few() {
    let mut wheel = Wheel::new();
    let live: Vec<TimerId> = (0..100u64).map(|i| wheel.arm(at(1 << 40 | i << 30), i)).collect();
    for i in 0..10_000u64 {
        // Deadlines spread widely, so that no slot is used twice soon.
        let id = wheel.arm(at((1 << 30) + i.wrapping_mul(0x9e37_79b9_7f4a) % (1 << 60)), i);
        assert_eq!(wheel.cancel(id), Some(i));
    }
    assert!(wheel.nodes.len() <= 2 * (live.len() + 1) + EMPTY_MAX + 1, "{} nodes", wheel.nodes.len());
    assert_eq!(fired(&mut wheel, 1 << 61).len(), live.len());
    assert_eq!((wheel.empty, wheel.len()), (0, 0));
}

#[test]
fn a_timer_postponed_a_million_times_fires_once_at_its_last_deadline() {
    let mut wheel = Wheel::new();
    let id = wheel.arm(at(0) + Duration::from_millis(200), ());
    let mut now = at(0);
    for _ in 0..1_000_000 {
        now += Duration::from_micros(20);
        assert_eq!(wheel.pop_expired(now), None);
        assert!(wheel.rearm(id, now + Duration::from_millis(200)));
    }
    assert_eq!(fired(&mut wheel, now.as_nanos() + 199_999_999), []);
    assert_eq!(fired(&mut wheel, now.as_nanos() + 200_000_000).len(), 1);
}

#[test]
fn a_pending_timer_takes_at_most_48_bytes_beside_its_value() {
    assert!(Wheel::<u64>::bytes_per_timer() <= 48 + size_of::<u64>());
    assert!(Wheel::<[u64; 4]>::bytes_per_timer() <= 48 + size_of::<[u64; 4]>());
}

#[derive(Clone, Debug)]
enum Op {
    Arm(u64),
    ArmAtAbsolute(u64),
    Cancel(usize),
    Rearm(usize, u64),
    Advance(u64),
    AdvanceToNext,
    PopOne(u64),
}

/// Waits of all magnitudes.
fn wait() -> impl Strategy<Value = u64> {
    (0u32..50, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => wait().prop_map(Op::Arm),
        1 => any::<u64>().prop_map(Op::ArmAtAbsolute),
        2 => any::<usize>().prop_map(Op::Cancel),
        3 => (any::<usize>(), wait()).prop_map(|(i, w)| Op::Rearm(i, w)),
        2 => wait().prop_map(Op::Advance),
        2 => Just(Op::AdvanceToNext),
        1 => wait().prop_map(Op::PopOne),
    ]
}

proptest! {
    #![proptest_config(crate::base::cases::so_many(if cfg!(miri) { 4 } else { 400 }))]
    #[test]
    fn the_wheel_behaves_as_a_sorted_map(ops in proptest::collection::vec(op(), 1..400)) {
        let mut wheel = Wheel::new();
        // Deadline and order of arming, to the timer's number.
        let mut model: BTreeMap<(u64, usize), usize> = BTreeMap::new();
        // By number: id and, while armed, the key in the model.
        let mut timers: Vec<(TimerId, Option<(u64, usize)>)> = Vec::new();
        let mut now = 0u64;
        for (step, op) in ops.into_iter().enumerate() {
            let (mut upto, mut limit) = (now, 0);
            match op {
                Op::Arm(wait) | Op::ArmAtAbsolute(wait) => {
                    let deadline = if matches!(op, Op::Arm(_)) { now.saturating_add(wait) } else { wait };
                    let number = timers.len();
                    timers.push((wheel.arm(at(deadline), number), Some((deadline, step))));
                    model.insert((deadline, step), number);
                }
                Op::Cancel(i) if !timers.is_empty() => {
                    let number = i % timers.len();
                    let (id, key) = timers[number];
                    prop_assert_eq!(wheel.cancel(id), key.map(|_| number));
                    if let Some(key) = key {
                        model.remove(&key);
                    }
                    timers[number].1 = None;
                }
                Op::Rearm(i, wait) if !timers.is_empty() => {
                    let number = i % timers.len();
                    let (id, key) = timers[number];
                    let deadline = now.saturating_add(wait);
                    prop_assert_eq!(wheel.rearm(id, at(deadline)), key.is_some());
                    if let Some(key) = key {
                        model.remove(&key);
                        model.insert((deadline, step), number);
                        timers[number].1 = Some((deadline, step));
                    }
                }
                Op::Advance(wait) => (upto, limit) = (now.saturating_add(wait), usize::MAX),
                Op::PopOne(wait) => (upto, limit) = (now.saturating_add(wait), 1),
                Op::AdvanceToNext => {
                    if let Some(next) = wheel.next_deadline() {
                        (upto, limit) = (next.as_nanos().max(now), usize::MAX);
                    }
                }
                Op::Cancel(_) | Op::Rearm(..) => {}
            }
            now = upto;
            for _ in 0..limit {
                let got = wheel.pop_expired(at(now));
                let due = model.first_key_value().filter(|(key, _)| key.0 <= now).map(|(&key, &number)| (key, number));
                prop_assert_eq!(got, due.map(|(key, number)| (at(key.0), number)));
                let Some((key, number)) = due else {
                    prop_assert!(wheel.next_deadline().is_none_or(|next| next > at(now)));
                    break;
                };
                model.remove(&key);
                timers[number].1 = None;
            }
            prop_assert_eq!(wheel.len(), model.len());
            match (wheel.next_deadline(), model.first_key_value()) {
                (None, None) => {}
                (Some(bound), Some((key, _))) => prop_assert!(bound <= at(key.0), "{:?} is after {:?}", bound, key),
                (bound, first) => prop_assert!(false, "{:?} but {:?}", bound, first),
            }
            for &(id, key) in &timers {
                prop_assert_eq!(wheel.deadline(id), key.map(|key| at(key.0)));
            }
        }
    }
}
