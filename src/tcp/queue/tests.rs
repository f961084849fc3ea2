use super::*;
use crate::base::cases::so_many;
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Packets that this thread's queues have looked at: what the tests of cost count.
    pub(crate) static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Packets that `f` looks at in queues.
pub(crate) fn looks(f: impl FnOnce()) -> u64 {
    let before = LOOKS.get();
    f();
    LOOKS.get() - before
}

fn skb(seq: u32, len: u32) -> Skb {
    let mut s = Skb::new();
    (s.tcp.seq, s.tcp.end_seq) = (SeqNum(seq), SeqNum(seq) + len);
    s
}

fn starts(q: &SegQueue) -> Vec<u32> {
    q.iter().map(|s| s.tcp.seq.0).collect()
}

/// The chunks are what the fields say, and every packet is found where walking finds it.
fn check(q: &SegQueue, want: &[u32]) {
    assert_eq!(starts(q), want);
    assert_eq!((q.len(), q.is_empty()), (want.len(), want.is_empty()));
    assert_eq!(q.front().map(|s| s.tcp.seq.0), want.first().copied());
    assert_eq!(q.back().map(|s| s.tcp.seq.0), want.last().copied());
    if let Some(m) = &q.more {
        assert!(m.chunks.iter().all(|c| !c.is_empty()) && (m.chunks.is_empty() || !q.head.is_empty()));
        assert_eq!(m.len, m.chunks.iter().map(|c| c.len()).sum::<usize>());
    }
    let mut at = Pos::FRONT;
    for (i, seq) in want.iter().enumerate() {
        assert_eq!(q.get(at).unwrap().tcp.seq.0, *seq);
        assert_eq!((q.find(SeqNum(*seq)), q.find_start(SeqNum(*seq))), (at, at));
        let next = q.next(at);
        assert_eq!(q.prev(next), Some(at), "before {i}");
        at = next;
    }
    assert!(q.get(at).is_none());
    assert_eq!(q.last(), if want.is_empty() { None } else { q.prev(at) });
}

#[derive(Debug, Clone)]
enum Act {
    /// Inserts at the place of a sequence number, unless it is there.
    Insert(u32),
    /// Removes the n-th of those there.
    Remove(usize),
    PopFront(usize),
    PopBack(usize),
    Append(usize),
    Shrink,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1000..50_000u32).prop_map(Act::Insert),
        6 => any::<usize>().prop_map(Act::Remove),
        1 => (0..400usize).prop_map(Act::PopFront),
        1 => (0..100usize).prop_map(Act::PopBack),
        2 => (0..600usize).prop_map(Act::Append),
        1 => Just(Act::Shrink),
    ]
}

proptest! {
    #![proptest_config(so_many(64))]

    #[test]
    fn a_queue_is_the_vector_that_it_stands_for(acts in prop::collection::vec(act(), 1..60)) {
        // Sequence numbers ten apart, across the end of their circle.
        let base = u32::MAX - 250_000;
        let at = |n: u32| base.wrapping_add(n.wrapping_mul(10));
        let (mut q, mut model, mut tail) = (SegQueue::default(), Vec::<u32>::new(), 50_000);
        for act in acts {
            match act {
                Act::Insert(n) => {
                    let place = model.partition_point(|m| *m < n);
                    if model.get(place) != Some(&n) {
                        model.insert(place, n);
                        let to = q.find_start(SeqNum(at(n)));
                        let new = q.insert(to, skb(at(n), 10));
                        prop_assert_eq!(q.get(new).unwrap().tcp.seq.0, at(n));
                    }
                }
                Act::Remove(i) if !model.is_empty() => {
                    let n = model.remove(i % model.len());
                    let found = q.find(SeqNum(at(n)));
                    let before = q.prev(found).map(|p| (p, q.get(p).unwrap().tcp.seq));
                    prop_assert_eq!(q.remove(found).unwrap().tcp.seq.0, at(n));
                    if let Some((p, seq)) = before {
                        prop_assert_eq!(q.get(p).unwrap().tcp.seq, seq, "a position before stays valid");
                    }
                }
                Act::Remove(_) => prop_assert!(q.remove(Pos::FRONT).is_none()),
                Act::PopFront(n) => for _ in 0..n.min(model.len()) {
                    prop_assert_eq!(q.pop_front().unwrap().tcp.seq.0, at(model.remove(0)));
                },
                Act::PopBack(n) => for _ in 0..n.min(model.len()) {
                    prop_assert_eq!(q.pop_back().unwrap().tcp.seq.0, at(model.pop().unwrap()));
                },
                Act::Append(n) => for _ in 0..n {
                    q.push_back(skb(at(tail), 10));
                    model.push(tail);
                    tail += 1;
                },
                Act::Shrink => q.shrink(),
            }
        }
        check(&q, &model.iter().map(|n| at(*n)).collect::<Vec<_>>());
        let all: Vec<u32> = q.drain().map(|s| s.tcp.seq.0).collect();
        prop_assert_eq!(all.len(), model.len());
        check(&q, &[]);
    }
}

#[test]
fn a_packet_among_many_is_found_inserted_and_removed_by_looking_at_few() {
    let mut q = SegQueue::default();
    for i in 0..100_000 {
        q.push_back(skb(i * 10, 10));
    }
    for i in (0..100_000).step_by(997) {
        let n = looks(|| {
            let at = q.find(SeqNum(i * 10 + 5));
            q.insert_after(at, skb(i * 10 + 5, 5));
            let at = q.find_start(SeqNum(i * 10 + 5));
            q.remove(at);
        });
        assert!(n <= 44, "{n} packets looked at");
    }
}

#[test]
fn a_queue_in_steady_state_takes_no_memory() {
    let mut q = SegQueue::default();
    let chunk = CHUNK as u32;
    (0..3 * chunk).for_each(|i| q.push_back(skb(i, 1)));
    let mut turn = |from: u32| {
        for i in from..from + 4 * chunk {
            drop(q.pop_front());
            q.push_back(skb(i, 1));
        }
    };
    turn(3 * chunk);
    let allocations = allocation_counter::measure(|| turn(7 * chunk)).count_total;
    assert_eq!(allocations, 0);
}

#[test]
fn a_queue_of_one_packet_takes_no_memory() {
    let (mut q, mut packets) = (SegQueue::default(), vec![skb(1, 1)]);
    let info = allocation_counter::measure(|| {
        q.push_back(packets.remove(0));
        packets.extend(q.pop_front());
    });
    assert_eq!((info.count_total, size_of::<SegQueue>()), (0, 16));
}
