use super::*;
use crate::base::cases::so_many;
use proptest::prelude::*;

fn skb(seq: SeqNum, len: u32) -> Skb {
    let mut s = Skb::new();
    (s.tcp.seq, s.tcp.end_seq) = (seq, seq + len);
    s
}

/// Starts of the listed packets, in order of sending.
fn sent(q: &RtxQueue) -> Vec<u32> {
    q.assert_sent_order();
    std::iter::successors(q.sent_first(), |at| q.sent_after(*at)).map(|at| q.get(at).unwrap().tcp.seq.0).collect()
}

#[derive(Debug, Clone)]
enum Act {
    Send,
    /// The n-th of the queue, modulo its length.
    SendAgain(usize),
    Unlink(usize),
    Remove(usize),
    /// Cuts it in two.
    Cut(usize),
    /// Its first sequence number is acknowledged.
    Trim(usize),
    Pop,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Send),
        3 => any::<usize>().prop_map(Act::SendAgain),
        2 => any::<usize>().prop_map(Act::Unlink),
        1 => any::<usize>().prop_map(Act::Remove),
        2 => any::<usize>().prop_map(Act::Cut),
        2 => any::<usize>().prop_map(Act::Trim),
        1 => Just(Act::Pop),
    ]
}

proptest! {
    #![proptest_config(so_many(128))]

    #[test]
    fn the_order_of_sending_survives_what_happens_to_packets(acts in prop::collection::vec(act(), 1..120)) {
        let mut q = RtxQueue::default();
        // Starts of the packets, by sequence number and in order of sending.
        let (mut queue, mut list): (Vec<u32>, Vec<u32>) = Default::default();
        let mut end = SeqNum(u32::MAX - 1000);
        for act in acts {
            let nth = |n: usize| queue[n % queue.len()];
            match act {
                Act::Send => {
                    q.push_back(skb(end, 100));
                    queue.push(end.0);
                    list.push(end.0);
                    end += 100;
                }
                _ if queue.is_empty() => {}
                Act::SendAgain(n) => {
                    let seq = nth(n);
                    q.sent_again(q.find(SeqNum(seq)));
                    list.retain(|s| *s != seq);
                    list.push(seq);
                }
                Act::Unlink(n) => {
                    let seq = nth(n);
                    q.unlink(q.find(SeqNum(seq)));
                    list.retain(|s| *s != seq);
                }
                Act::Remove(n) => {
                    let seq = nth(n);
                    q.remove(q.find(SeqNum(seq)));
                    queue.retain(|s| *s != seq);
                    list.retain(|s| *s != seq);
                }
                Act::Cut(n) => {
                    let seq = nth(n);
                    let at = q.find(SeqNum(seq));
                    let first = q.get_mut(at).unwrap();
                    let len = first.tcp.end_seq.since(first.tcp.seq);
                    if len < 2 {
                        continue;
                    }
                    let mut rest = skb(SeqNum(seq) + len / 2, len - len / 2);
                    rest.tcp.in_sent_list = first.tcp.in_sent_list;
                    first.tcp.end_seq = rest.tcp.seq;
                    let new = rest.tcp.seq.0;
                    let at = q.insert_after(at, rest);
                    prop_assert_eq!(q.get(at).unwrap().tcp.seq.0, seq);
                    queue.insert(queue.iter().position(|s| *s == seq).unwrap() + 1, new);
                    if let Some(i) = list.iter().position(|s| *s == seq) {
                        list.insert(i + 1, new);
                    }
                }
                Act::Trim(n) => {
                    let seq = nth(n);
                    let at = q.find(SeqNum(seq));
                    if q.get(at).is_some_and(|s| s.tcp.end_seq.since(s.tcp.seq) > 1) {
                        q.advance_seq(at, 1);
                        for s in queue.iter_mut().chain(&mut list).filter(|s| **s == seq) {
                            *s = seq.wrapping_add(1);
                        }
                    }
                }
                Act::Pop => {
                    let seq = q.pop_front().unwrap().tcp.seq.0;
                    queue.remove(0);
                    list.retain(|s| *s != seq);
                }
            }
            prop_assert_eq!(q.iter().map(|s| s.tcp.seq.0).collect::<Vec<_>>(), &queue[..]);
            prop_assert_eq!(sent(&q), &list[..]);
        }
    }
}
