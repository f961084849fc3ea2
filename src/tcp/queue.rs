//! Queues of segments ordered by sequence number: unsent (`write`), sent and unacknowledged (`rtx`, in which `rtx`
//! keeps the order of sending as well), out of order (`ooo`). Above: output, ack, sack, reassembly. Linux:
//! sk_write_queue, tcp_rtx_queue, out_of_order_queue, of which the latter two are red-black trees.
//!
//! An skb is one pointer here. The pointers are in chunks, so that a packet is found by two binary searches and one in
//! the middle of 10^5 is inserted or removed by moving a part of a chunk. A queue of at most a chunk is a
//! [`SkbQueue`], which keeps a single packet in place.

use crate::sock::queue::SkbQueue;
use crate::sock::skb::Skb;
use crate::wire::seq::SeqNum;
use std::collections::VecDeque;

/// Most packets of a chunk: moving half of it costs less than one cache miss for each packet looked at on the way.
const CHUNK: usize = 256;

type Chunk = SkbQueue;

/// Segments in sequence order.
#[derive(Debug, Default)]
pub(crate) struct SegQueue {
    /// The first chunk; empty only if the queue is.
    head: Chunk,
    more: Option<Box<More>>,
}

/// A queue that few connections have, of which the others hold a word. Reading is [`SegQueue`]'s.
#[derive(Debug, Default)]
pub(crate) struct RareQueue(Option<Box<SegQueue>>);

impl std::ops::Deref for RareQueue {
    type Target = SegQueue;
    #[inline]
    fn deref(&self) -> &SegQueue {
        const EMPTY: &SegQueue = &SegQueue { head: Chunk::EMPTY, more: None };
        self.0.as_deref().unwrap_or(EMPTY)
    }
}

impl RareQueue {
    /// Without packets.
    pub(crate) const EMPTY: RareQueue = RareQueue(None);

    /// As [`SegQueue::get_mut`].
    pub(crate) fn get_mut(&mut self, at: Pos) -> Option<&mut Skb> {
        self.0.as_mut()?.get_mut(at)
    }
    /// Takes the earliest.
    pub(crate) fn pop_front(&mut self) -> Option<Skb> {
        self.0.as_mut()?.pop_front()
    }
    /// Takes the latest.
    pub(crate) fn pop_back(&mut self) -> Option<Skb> {
        self.0.as_mut()?.pop_back()
    }
    /// As [`SegQueue::remove`].
    pub(crate) fn remove(&mut self, at: Pos) -> Option<Skb> {
        self.0.as_mut()?.remove(at)
    }
    /// Appends.
    pub(crate) fn push_back(&mut self, skb: Skb) {
        self.0.get_or_insert_default().push_back(skb);
    }
    /// As [`SegQueue::insert`].
    pub(crate) fn insert(&mut self, at: Pos, skb: Skb) -> Pos {
        self.0.get_or_insert_default().insert(at, skb)
    }
    /// Takes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Skb> + '_ {
        self.0.iter_mut().flat_map(|queue| queue.drain())
    }
    /// Gives the memory of a drained queue back.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

/// The chunks behind the first, none of which is empty.
#[derive(Debug, Default)]
struct More {
    chunks: VecDeque<Chunk>,
    /// Packets in `chunks`.
    len: usize,
}

/// Where a packet is in a queue. Valid until a packet is inserted, or one before it removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pos {
    chunk: usize,
    slot: usize,
}

impl Pos {
    /// The earliest packet's.
    pub(crate) const FRONT: Pos = Pos { chunk: 0, slot: 0 };
}

impl More {
    fn push_back(&mut self, skb: Skb) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(skb),
            _ => {
                let mut chunk = Chunk::default();
                chunk.push_back(skb);
                self.chunks.push_back(chunk);
            }
        }
    }
}

impl SegQueue {
    fn more(&self) -> Option<&More> {
        self.more.as_deref().filter(|m| !m.chunks.is_empty())
    }
    fn more_mut(&mut self) -> Option<&mut More> {
        self.more.as_deref_mut().filter(|m| !m.chunks.is_empty())
    }
    fn chunk(&self, i: usize) -> Option<&Chunk> {
        if i == 0 { Some(&self.head) } else { self.more()?.chunks.get(i - 1) }
    }
    fn chunk_mut(&mut self, i: usize) -> Option<&mut Chunk> {
        if i == 0 { Some(&mut self.head) } else { self.more_mut()?.chunks.get_mut(i - 1) }
    }
    fn chunks(&self) -> usize {
        1 + self.more().map_or(0, |m| m.chunks.len())
    }

    /// Number of skbs.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.more.as_ref().map_or(0, |m| m.len)
    }
    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }
    /// The earliest.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Skb> {
        self.head.front()
    }
    /// The earliest.
    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Skb> {
        self.head.front_mut()
    }
    /// The latest.
    #[inline]
    pub(crate) fn back(&self) -> Option<&Skb> {
        match self.more() {
            Some(m) => m.chunks.back()?.back(),
            None => self.head.back(),
        }
    }
    /// The latest.
    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut Skb> {
        let last = self.chunks() - 1;
        self.chunk_mut(last)?.back_mut()
    }
    /// Where the latest is; None: the queue is empty.
    pub(crate) fn last(&self) -> Option<Pos> {
        let chunk = self.chunks() - 1;
        let slot = self.chunk(chunk)?.len().checked_sub(1)?;
        Some(Pos { chunk, slot })
    }
    /// Behind the latest.
    fn end(&self) -> Pos {
        Pos { chunk: self.chunks(), slot: 0 }
    }
    /// The packet at a position; None behind the latest.
    #[inline]
    pub(crate) fn get(&self, at: Pos) -> Option<&Skb> {
        tally();
        self.chunk(at.chunk)?.get(at.slot)
    }
    /// The packet at a position; None behind the latest.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: Pos) -> Option<&mut Skb> {
        tally();
        self.chunk_mut(at.chunk)?.get_mut(at.slot)
    }
    /// The position behind `at`, which may be behind the latest.
    #[inline]
    pub(crate) fn next(&self, at: Pos) -> Pos {
        match self.chunk(at.chunk) {
            Some(c) if at.slot + 1 < c.len() => Pos { slot: at.slot + 1, ..at },
            _ => Pos { chunk: at.chunk + 1, slot: 0 },
        }
    }
    /// The position before `at`; None: there is none.
    #[inline]
    pub(crate) fn prev(&self, at: Pos) -> Option<Pos> {
        if let Some(slot) = at.slot.checked_sub(1) {
            return Some(Pos { slot, ..at });
        }
        let chunk = at.chunk.checked_sub(1)?;
        let slot = self.chunk(chunk)?.len().checked_sub(1)?;
        Some(Pos { chunk, slot })
    }
    /// Appends.
    #[inline(always)]
    pub(crate) fn push_back(&mut self, skb: Skb) {
        if self.head.len() < CHUNK && self.more().is_none() {
            return self.head.push_back(skb);
        }
        self.more.get_or_insert_default().push_back(skb);
    }
    /// Prepends.
    #[inline]
    pub(crate) fn push_front(&mut self, skb: Skb) {
        self.head.push_front(skb)
    }
    /// Takes the earliest.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Skb> {
        let skb = self.head.pop_front();
        if self.more.is_some() && self.head.is_empty() {
            self.refill_head();
        }
        skb
    }
    /// Takes the latest.
    pub(crate) fn pop_back(&mut self) -> Option<Skb> {
        let Some(m) = self.more_mut() else { return self.head.pop_back() };
        let last = m.chunks.len() - 1;
        let skb = m.chunks.back_mut()?.pop_back();
        m.len -= 1;
        if m.chunks[last].is_empty() {
            m.chunks.pop_back();
        }
        skb
    }
    /// The first chunk is empty: the next takes its place.
    fn refill_head(&mut self) {
        let Some(m) = self.more.as_deref_mut() else { return };
        let Some(next) = m.chunks.pop_front() else { return };
        m.len -= next.len();
        self.head = next;
    }
    /// Inserts before the packet at `at`; returns where the new one is.
    pub(crate) fn insert(&mut self, at: Pos, skb: Skb) -> Pos {
        if at.chunk >= self.chunks() {
            self.push_back(skb);
            return self.last().unwrap_or(Pos::FRONT);
        }
        let at = self.make_room(at);
        if let Some(c) = self.chunk_mut(at.chunk) {
            c.insert(at.slot.min(c.len()), skb);
        }
        if at.chunk > 0
            && let Some(m) = &mut self.more
        {
            m.len += 1;
        }
        at
    }
    /// Inserts behind the packet at `at`; returns where that one is now.
    pub(crate) fn insert_after(&mut self, at: Pos, skb: Skb) -> Pos {
        let new = self.insert(Pos { slot: at.slot + 1, ..at }, skb);
        self.prev(new).unwrap_or(at)
    }
    /// Cuts the chunk of `at` in two if it is full; returns where the position is then.
    fn make_room(&mut self, at: Pos) -> Pos {
        const HALF: usize = CHUNK / 2;
        let Some(c) = self.chunk_mut(at.chunk) else { return at };
        if c.len() < CHUNK {
            return at;
        }
        let behind = c.split_off(HALF);
        let m = self.more.get_or_insert_default();
        if at.chunk == 0 {
            m.len += behind.len();
        }
        m.chunks.insert(at.chunk, behind);
        if at.slot <= HALF { at } else { Pos { chunk: at.chunk + 1, slot: at.slot - HALF } }
    }
    /// Removes by position. Positions before it stay valid.
    pub(crate) fn remove(&mut self, at: Pos) -> Option<Skb> {
        let c = self.chunk_mut(at.chunk)?;
        let skb = c.remove(at.slot)?;
        let left = c.len();
        let Some(m) = self.more.as_deref_mut() else { return Some(skb) };
        if at.chunk == 0 {
            if left == 0 {
                self.refill_head();
                return Some(skb);
            }
        } else {
            m.len -= 1;
            if left == 0 {
                m.chunks.remove(at.chunk - 1);
                return Some(skb);
            }
        }
        // Two chunks that fill half of one are joined: the number of chunks follows that of packets.
        if m.chunks.get(at.chunk).is_some_and(|next| left + next.len() <= CHUNK / 2)
            && let Some(mut next) = m.chunks.remove(at.chunk)
        {
            if at.chunk == 0 {
                m.len -= next.len();
                self.head.extend(next.drain());
            } else {
                m.chunks[at.chunk - 1].extend(next.drain());
            }
        }
        Some(skb)
    }
    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Skb> + Clone + '_ {
        let more = self.more.iter().flat_map(|m| m.chunks.iter().flat_map(Chunk::iter));
        self.head.iter().chain(more).inspect(|_| tally())
    }
    /// In order, to change notes (never sequence numbers).
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Skb> + '_ {
        let more = self.more.iter_mut().flat_map(|m| m.chunks.iter_mut().flat_map(Chunk::iter_mut));
        self.head.iter_mut().chain(more)
    }
    /// Takes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Skb> + '_ {
        let more = self.more.take().map(|m| m.chunks);
        self.head.drain().chain(more.into_iter().flatten().flat_map(|mut c| c.drain()))
    }
    /// The first position for which `before` does not hold; it must hold for none behind that. O(log n).
    fn partition_point(&self, before: impl Fn(&Skb) -> bool) -> Pos {
        let before = |s: &Skb| {
            tally();
            before(s)
        };
        let chunk = match self.more() {
            Some(m) if self.head.back().is_some_and(before) => {
                1 + m.chunks.partition_point(|c| c.back().is_some_and(before))
            }
            _ => 0,
        };
        let Some(c) = self.chunk(chunk) else { return self.end() };
        let slot = c.partition_point(before);
        if slot == c.len() { self.end() } else { Pos { chunk, slot } }
    }
    /// Position of the first skb that ends after `seq`: the one that contains `seq`, or the next. Behind the latest if
    /// there is none. O(log n). Valid while the queue spans less than 2^31.
    pub(crate) fn find(&self, seq: SeqNum) -> Pos {
        self.partition_point(|s| s.tcp.end_seq.before_eq(seq))
    }
    /// Position of the first skb that starts at or after `seq`; behind the latest if there is none. O(log n).
    pub(crate) fn find_start(&self, seq: SeqNum) -> Pos {
        self.partition_point(|s| s.tcp.seq.before(seq))
    }
    /// Gives memory of a drained queue back, so that an idle connection holds none.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.more = None;
        }
    }
}

#[cfg(not(test))]
#[inline(always)]
fn tally() {}

#[cfg(test)]
fn tally() {
    tests::LOOKS.with(|n| n.set(n.get() + 1));
}

#[cfg(test)]
pub(crate) mod tests;
