//! Queues of segments ordered by sequence number: unsent (`write`), sent and unacknowledged (`rtx`), out of order
//! (`ooo`). An skb is one pointer here, so that finding is a binary search and inserting in the middle moves little
//! memory. Above: output, ack, sack, reassembly. Linux: sk_write_queue, tcp_rtx_queue, out_of_order_queue.

use crate::sock::skb::Skb;
use crate::wire::seq::SeqNum;
use std::collections::VecDeque;

/// Segments in sequence order.
#[derive(Debug, Default)]
pub(crate) struct SegQueue(VecDeque<Skb>);

impl SegQueue {
    /// Number of skbs.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The earliest.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Skb> {
        self.0.front()
    }
    /// The earliest.
    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Skb> {
        self.0.front_mut()
    }
    /// The latest.
    #[inline]
    pub(crate) fn back(&self) -> Option<&Skb> {
        self.0.back()
    }
    /// The latest.
    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut Skb> {
        self.0.back_mut()
    }
    /// By position.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<&Skb> {
        self.0.get(i)
    }
    /// By position.
    #[inline]
    pub(crate) fn get_mut(&mut self, i: usize) -> Option<&mut Skb> {
        self.0.get_mut(i)
    }
    /// Appends.
    #[inline]
    pub(crate) fn push_back(&mut self, skb: Skb) {
        self.0.push_back(skb)
    }
    /// Prepends.
    #[inline]
    pub(crate) fn push_front(&mut self, skb: Skb) {
        self.0.push_front(skb)
    }
    /// Takes the earliest.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Skb> {
        self.0.pop_front()
    }
    /// Takes the latest.
    #[inline]
    pub(crate) fn pop_back(&mut self) -> Option<Skb> {
        self.0.pop_back()
    }
    /// Inserts at a position; positions behind it move up.
    pub(crate) fn insert(&mut self, i: usize, skb: Skb) {
        self.0.insert(i.min(self.0.len()), skb)
    }
    /// Removes by position.
    pub(crate) fn remove(&mut self, i: usize) -> Option<Skb> {
        self.0.remove(i)
    }
    /// In order.
    pub(crate) fn iter(&self) -> std::collections::vec_deque::Iter<'_, Skb> {
        self.0.iter()
    }
    /// In order, to change notes (never sequence numbers).
    pub(crate) fn iter_mut(&mut self) -> std::collections::vec_deque::IterMut<'_, Skb> {
        self.0.iter_mut()
    }
    /// Takes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Skb> + '_ {
        self.0.drain(..)
    }
    /// Position of the first skb that ends after `seq`: the one that contains `seq`, or the next. `len()` if none.
    /// O(log n). Valid while the queue spans less than 2^31.
    pub(crate) fn find(&self, seq: SeqNum) -> usize {
        self.0.partition_point(|s| s.tcp.end_seq.before_eq(seq))
    }
    /// Position of the first skb that starts at or after `seq`; `len()` if none. O(log n).
    pub(crate) fn find_start(&self, seq: SeqNum) -> usize {
        self.0.partition_point(|s| s.tcp.seq.before(seq))
    }
    /// Gives memory of a drained queue back, so that an idle connection holds none.
    pub(crate) fn shrink(&mut self) {
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }
}
