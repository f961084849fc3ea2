//! The retransmit queue: what was sent and is not acknowledged, by sequence number, and beside that a list in the order
//! of sending, without what was selectively acknowledged or found lost. RACK walks the list and stops at the first
//! packet sent too late to be judged, so that an acknowledgement costs the same whatever the window. Above: `output`,
//! `retransmit`, `ack`, `sack`, `rack`. Below: `queue`. Linux: tcp_rtx_queue, tsorted_sent_queue.
//!
//! The links of the list are sequence numbers in the packets (`TcpCb::sent_prev`, `sent_next`): a packet is named by
//! the one at which it starts, and its own stands for none.

use super::queue::{Pos, SegQueue};
use crate::sock::skb::Skb;
use crate::wire::seq::SeqNum;

/// Sent segments. Reading, and the notes of a packet, are [`SegQueue`]'s; what changes the order is here.
#[derive(Debug, Default)]
pub(crate) struct RtxQueue {
    queue: SegQueue,
    /// The list's first and last packet; None: it is empty.
    sent: Option<(SeqNum, SeqNum)>,
}

impl std::ops::Deref for RtxQueue {
    type Target = SegQueue;
    #[inline]
    fn deref(&self) -> &SegQueue {
        &self.queue
    }
}

impl RtxQueue {
    /// As [`SegQueue::get_mut`]; for notes, never sequence numbers.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: Pos) -> Option<&mut Skb> {
        self.queue.get_mut(at)
    }
    /// As [`SegQueue::front_mut`]; for notes, never the first sequence number.
    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Skb> {
        self.queue.front_mut()
    }
    /// As [`SegQueue::back_mut`]; for notes, never the first sequence number.
    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut Skb> {
        self.queue.back_mut()
    }
    /// As [`SegQueue::iter_mut`].
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Skb> + '_ {
        self.queue.iter_mut()
    }
    /// As [`SegQueue::shrink`].
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink();
    }

    /// Appends a packet that was just sent for the first time: the last of the list, too.
    #[inline]
    pub(crate) fn push_back(&mut self, mut skb: Skb) {
        if self.queue.is_empty() {
            // The only one, in both orders.
            let own = skb.tcp.seq;
            (skb.tcp.in_sent_list, skb.tcp.sent_prev, skb.tcp.sent_next) = (true, own, own);
            self.sent = Some((own, own));
            return self.queue.push_back(skb);
        }
        skb.tcp.in_sent_list = false;
        self.queue.push_back(skb);
        if let Some(at) = self.queue.last() {
            self.append(at);
        }
    }
    /// Takes the earliest.
    #[inline(always)]
    pub(crate) fn pop_front(&mut self) -> Option<Skb> {
        if self.queue.len() == 1 {
            self.sent = None;
            let mut skb = self.queue.pop_front()?;
            skb.tcp.in_sent_list = false;
            return Some(skb);
        }
        self.unlink(Pos::FRONT);
        self.queue.pop_front()
    }
    /// Removes by position. Positions before it stay valid.
    pub(crate) fn remove(&mut self, at: Pos) -> Option<Skb> {
        self.unlink(at);
        self.queue.remove(at)
    }
    /// Inserts `rest`, which was cut off the packet at `at`, behind it, in both orders; returns where that packet is
    /// then.
    pub(crate) fn insert_after(&mut self, at: Pos, mut rest: Skb) -> Pos {
        let listed = std::mem::take(&mut rest.tcp.in_sent_list);
        let at = self.queue.insert_after(at, rest);
        if listed {
            self.link(at, self.queue.next(at));
        }
        at
    }
    /// The front of the packet at `at` is acknowledged or moved: `n` sequence numbers (not bytes) fewer.
    pub(crate) fn advance_seq(&mut self, at: Pos, n: u32) {
        let Some(skb) = self.queue.get_mut(at) else { return };
        let old = skb.tcp.seq;
        let new = old + n;
        skb.tcp.seq = new;
        if !skb.tcp.in_sent_list {
            return;
        }
        let (prev, next) = (skb.tcp.sent_prev, skb.tcp.sent_next);
        // Its own number stood for none.
        if prev == old {
            skb.tcp.sent_prev = new;
        }
        if next == old {
            skb.tcp.sent_next = new;
        }
        if prev != old
            && let Some(p) = self.neighbour(at, prev)
        {
            p.tcp.sent_next = new;
        }
        if next != old
            && let Some(p) = self.neighbour(at, next)
        {
            p.tcp.sent_prev = new;
        }
        if let Some((first, last)) = &mut self.sent {
            if *first == old {
                *first = new;
            }
            if *last == old {
                *last = new;
            }
        }
    }

    // ---- The order of sending.

    /// The packet sent least recently, of those listed.
    pub(crate) fn sent_first(&self) -> Option<Pos> {
        self.sent.map(|(first, _)| self.queue.find(first))
    }
    /// The packet sent next after the one at `at`.
    pub(crate) fn sent_after(&self, at: Pos) -> Option<Pos> {
        let cb = &self.queue.get(at)?.tcp;
        (cb.in_sent_list && cb.sent_next != cb.seq).then(|| self.place(at, cb.sent_next))
    }
    /// The packet at `at` was sent again: it is the last.
    pub(crate) fn sent_again(&mut self, at: Pos) {
        self.unlink(at);
        self.append(at);
    }
    /// Takes the packet at `at` off the list: it was selectively acknowledged, or RACK found it lost.
    pub(crate) fn unlink(&mut self, at: Pos) {
        let Some(skb) = self.queue.get_mut(at) else { return };
        if !std::mem::take(&mut skb.tcp.in_sent_list) {
            return;
        }
        let (own, prev, next) = (skb.tcp.seq, skb.tcp.sent_prev, skb.tcp.sent_next);
        if prev != own
            && let Some(p) = self.neighbour(at, prev)
        {
            p.tcp.sent_next = if next == own { prev } else { next };
        }
        if next != own
            && let Some(p) = self.neighbour(at, next)
        {
            p.tcp.sent_prev = if prev == own { next } else { prev };
        }
        self.sent = match self.sent {
            Some((first, last)) if first == own && last == own => None,
            Some((first, last)) if first == own => Some((next, last)),
            Some((first, last)) if last == own => Some((first, prev)),
            other => other,
        };
    }
    /// Makes the packet at `at`, which is not listed, the last.
    fn append(&mut self, at: Pos) {
        let Some(skb) = self.queue.get_mut(at) else { return };
        let own = skb.tcp.seq;
        let last = self.sent.map_or(own, |(_, last)| last);
        (skb.tcp.in_sent_list, skb.tcp.sent_prev, skb.tcp.sent_next) = (true, last, own);
        match &mut self.sent {
            Some((_, l)) => *l = own,
            None => self.sent = Some((own, own)),
        }
        if last != own
            && let Some(p) = self.neighbour(at, last)
        {
            p.tcp.sent_next = own;
        }
    }
    /// Lists the packet at `new`, which is not listed, behind the one at `at`, which is.
    fn link(&mut self, at: Pos, new: Pos) {
        let (Some(own), Some(skb)) = (self.queue.get(new).map(|s| s.tcp.seq), self.queue.get_mut(at)) else { return };
        let (before, behind) = (skb.tcp.seq, skb.tcp.sent_next);
        skb.tcp.sent_next = own;
        let is_last = behind == before;
        if let Some(skb) = self.queue.get_mut(new) {
            skb.tcp.in_sent_list = true;
            (skb.tcp.sent_prev, skb.tcp.sent_next) = (before, if is_last { own } else { behind });
        }
        match &mut self.sent {
            Some((_, last)) if is_last => *last = own,
            _ => {
                if let Some(p) = self.neighbour(new, behind) {
                    p.tcp.sent_prev = own;
                }
            }
        }
    }
    /// Where the packet that starts at `seq` is. Those sent one after the other are mostly side by side: `near` and its
    /// neighbours are tried before the search.
    fn place(&self, near: Pos, seq: SeqNum) -> Pos {
        let starts = |at: &Pos| self.queue.get(*at).is_some_and(|s| s.tcp.seq == seq);
        let next = self.queue.next(near);
        if starts(&next) {
            return next;
        }
        self.queue.prev(near).filter(starts).unwrap_or_else(|| self.queue.find_start(seq))
    }
    fn neighbour(&mut self, near: Pos, seq: SeqNum) -> Option<&mut Skb> {
        let at = self.place(near, seq);
        debug_assert!(
            self.queue.get(at).is_some_and(|s| s.tcp.seq == seq),
            "the list names {seq:?}, which is not there"
        );
        self.queue.get_mut(at)
    }

    /// Panics unless the list has exactly the packets that say so, each once, in the order of their send times.
    pub(super) fn assert_sent_order(&self) {
        let listed = self.queue.iter().filter(|s| s.tcp.in_sent_list).count();
        let (mut n, mut at, mut before) = (0, self.sent_first(), None);
        while let Some(pos) = at {
            let Some(skb) = self.queue.get(pos) else { break };
            let cb = &skb.tcp;
            assert!(cb.in_sent_list, "listed and not marked: {:?}", cb.seq);
            assert_eq!(cb.sent_prev, before.unwrap_or(cb.seq), "sent before {:?}", cb.seq);
            before = Some(cb.seq);
            n += 1;
            assert!(n <= listed, "the list has a ring");
            at = self.sent_after(pos);
        }
        assert_eq!((n, self.sent.map(|(_, last)| last)), (listed, before), "the list and the packets' marks");
    }
}

#[cfg(test)]
mod tests;
