//! A queue of packets. One packet is held in place and two or more in a ring, which goes back to a cache of the thread
//! when the queue is drained: an idle sock holds no memory for its queues, and a busy one allocates none. Above: the
//! protocols, `tcp::queue`. Below: `pool`. Linux: struct sk_buff_head.

use super::pool::{Local, Shared};
use super::skb::Skb;
use crate::sys::near::near_local;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Packets for which a drained ring has room at most to be kept: a larger one is freed.
const RING_MAX: usize = 256;

type Ring = Box<VecDeque<Skb>>;

static SHARED: Shared<Ring> = Shared::new(256);

near_local! {
    static LOCAL at Rings: RefCell<Local<Ring>> = RefCell::new(Local::new(32, &SHARED));
}

/// Packets, first in, first out; any of them by its place.
#[derive(Debug, Default)]
pub struct SkbQueue(Held);

#[derive(Debug, Default)]
enum Held {
    #[default]
    None,
    One(Skb),
    /// Not empty.
    Ring(Ring),
}

/// A ring, of the cache if it has one.
fn ring() -> Ring {
    LOCAL.try_with(|l| l.borrow_mut().take()).flatten().unwrap_or_default()
}

/// Keeps an empty ring for the next queue.
fn keep(ring: Ring) {
    if ring.capacity() <= RING_MAX {
        // While the thread ends it is freed.
        let _ = LOCAL.try_with(|l| l.borrow_mut().put(ring));
    }
}

impl SkbQueue {
    /// Without packets.
    pub(crate) const EMPTY: SkbQueue = SkbQueue(Held::None);

    /// Number of packets.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::None => 0,
            Held::One(_) => 1,
            Held::Ring(ring) => ring.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Held::None)
    }

    /// The first.
    #[inline]
    pub fn front(&self) -> Option<&Skb> {
        self.get(0)
    }

    /// The first.
    #[inline]
    pub fn front_mut(&mut self) -> Option<&mut Skb> {
        self.get_mut(0)
    }

    /// The last.
    #[inline]
    pub fn back(&self) -> Option<&Skb> {
        match &self.0 {
            Held::None => None,
            Held::One(skb) => Some(skb),
            Held::Ring(ring) => ring.back(),
        }
    }

    /// The last.
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut Skb> {
        match &mut self.0 {
            Held::None => None,
            Held::One(skb) => Some(skb),
            Held::Ring(ring) => ring.back_mut(),
        }
    }

    /// The one at a place.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&Skb> {
        match &self.0 {
            Held::One(skb) if at == 0 => Some(skb),
            Held::Ring(ring) => ring.get(at),
            _ => None,
        }
    }

    /// The one at a place.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Skb> {
        match &mut self.0 {
            Held::One(skb) if at == 0 => Some(skb),
            Held::Ring(ring) => ring.get_mut(at),
            _ => None,
        }
    }

    /// Appends.
    #[inline]
    pub fn push_back(&mut self, skb: Skb) {
        match &mut self.0 {
            Held::None => self.0 = Held::One(skb),
            _ => self.as_ring().push_back(skb),
        }
    }

    /// Prepends.
    pub fn push_front(&mut self, skb: Skb) {
        self.insert(0, skb);
    }

    /// Takes the first.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Skb> {
        match std::mem::take(&mut self.0) {
            Held::None => None,
            Held::One(skb) => Some(skb),
            ring => {
                self.0 = ring;
                self.take(VecDeque::pop_front)
            }
        }
    }

    /// Takes the last.
    pub fn pop_back(&mut self) -> Option<Skb> {
        self.take(VecDeque::pop_back)
    }

    /// Inserts before the one at a place, which is at most the length.
    pub fn insert(&mut self, at: usize, skb: Skb) {
        match &mut self.0 {
            Held::None => self.0 = Held::One(skb),
            _ => self.as_ring().insert(at, skb),
        }
    }

    /// Takes the one at a place.
    pub fn remove(&mut self, at: usize) -> Option<Skb> {
        match &self.0 {
            Held::One(_) if at > 0 => None,
            _ => self.take(|ring| ring.remove(at)),
        }
    }

    /// Takes all.
    pub fn drain(&mut self) -> impl Iterator<Item = Skb> + use<> {
        let (one, ring) = match std::mem::take(&mut self.0) {
            Held::None => (None, None),
            Held::One(skb) => (Some(skb), None),
            Held::Ring(ring) => (None, Some(*ring)),
        };
        one.into_iter().chain(ring.into_iter().flatten())
    }

    /// Takes those from a place on, which is at most the length.
    pub(crate) fn split_off(&mut self, at: usize) -> SkbQueue {
        let mut behind = SkbQueue::default();
        match &mut self.0 {
            Held::Ring(ring) if at > 0 => behind.extend(ring.drain(at..)),
            _ if at == 0 => std::mem::swap(self, &mut behind),
            _ => {}
        }
        behind
    }

    /// In order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Skb> + Clone + '_ {
        let (a, b): (&[Skb], &[Skb]) = match &self.0 {
            Held::None => Default::default(),
            Held::One(skb) => (std::slice::from_ref(skb), &[]),
            Held::Ring(ring) => ring.as_slices(),
        };
        a.iter().chain(b)
    }

    /// In order.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Skb> + '_ {
        let (a, b): (&mut [Skb], &mut [Skb]) = match &mut self.0 {
            Held::None => Default::default(),
            Held::One(skb) => (std::slice::from_mut(skb), &mut []),
            Held::Ring(ring) => ring.as_mut_slices(),
        };
        a.iter_mut().chain(b)
    }

    /// Number of packets, from the first on, for which `before` holds; it holds for none behind those. O(log n).
    pub(crate) fn partition_point(&self, mut before: impl FnMut(&Skb) -> bool) -> usize {
        match &self.0 {
            Held::None => 0,
            Held::One(skb) => usize::from(before(skb)),
            Held::Ring(ring) => ring.partition_point(before),
        }
    }

    /// The packets in a ring, for more than one.
    fn as_ring(&mut self) -> &mut VecDeque<Skb> {
        if !matches!(self.0, Held::Ring(_)) {
            let mut ring = ring();
            ring.extend(self.drain());
            self.0 = Held::Ring(ring);
        }
        match &mut self.0 {
            Held::Ring(ring) => ring,
            _ => unreachable!("it was made a ring"),
        }
    }

    /// Takes one with `how`, or the only one.
    #[inline]
    fn take(&mut self, how: impl FnOnce(&mut VecDeque<Skb>) -> Option<Skb>) -> Option<Skb> {
        let Held::Ring(ring) = &mut self.0 else { return self.take_one() };
        let skb = how(ring);
        if ring.is_empty()
            && let Held::Ring(ring) = std::mem::take(&mut self.0)
        {
            keep(ring);
        }
        skb
    }

    #[inline]
    fn take_one(&mut self) -> Option<Skb> {
        match std::mem::take(&mut self.0) {
            Held::One(skb) => Some(skb),
            _ => None,
        }
    }
}

impl Extend<Skb> for SkbQueue {
    fn extend<I: IntoIterator<Item = Skb>>(&mut self, skbs: I) {
        skbs.into_iter().for_each(|skb| self.push_back(skb));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skb(n: u32) -> Skb {
        let mut s = Skb::new();
        s.hash = n;
        s
    }

    fn kept() -> usize {
        let count = |l: &RefCell<Local<Ring>>| {
            let mut l = l.borrow_mut();
            let all: Vec<Ring> = std::iter::from_fn(|| l.take()).collect();
            let n = all.len();
            all.into_iter().for_each(|ring| l.put(ring));
            n
        };
        LOCAL.try_with(count).unwrap()
    }

    #[test]
    fn a_queue_takes_two_words_and_one_packet_no_ring() {
        assert_eq!(size_of::<SkbQueue>(), 16);
        let before = kept();
        let mut q = SkbQueue::default();
        q.push_back(skb(1));
        assert!(matches!(q.0, Held::One(_)));
        q.push_back(skb(2));
        assert!(matches!(q.0, Held::Ring(_)));
        assert_eq!((q.pop_front().unwrap().hash, q.pop_front().unwrap().hash), (1, 2));
        assert!(matches!(q.0, Held::None));
        assert_eq!(kept(), before.max(1), "the ring serves the next queue");
    }

    proptest! {
        #[test]
        fn a_queue_is_what_a_list_is(
            acts in proptest::collection::vec((0u8..8, any::<prop::sample::Index>()), 1..200),
        ) {
            let (mut q, mut model) = (SkbQueue::default(), Vec::<u32>::new());
            for (n, (act, index)) in (0u32..).zip(acts) {
                let (to, at) = (index.index(model.len() + 1), index.index(model.len().max(1)));
                match act {
                    0 | 1 => (q.push_back(skb(n)), model.push(n)).0,
                    2 => (q.push_front(skb(n)), model.insert(0, n)).0,
                    3 => (q.insert(to, skb(n)), model.insert(to, n)).0,
                    4 => {
                        let want = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(q.pop_front().map(|s| s.hash), want);
                    }
                    5 => prop_assert_eq!(q.pop_back().map(|s| s.hash), model.pop()),
                    6 => {
                        let want = (at < model.len()).then(|| model.remove(at));
                        prop_assert_eq!(q.remove(at).map(|s| s.hash), want);
                    }
                    _ => {
                        let behind = q.split_off(to);
                        prop_assert_eq!(behind.iter().map(|s| s.hash).collect::<Vec<_>>(), model.split_off(to));
                    }
                }
                prop_assert_eq!(q.iter().map(|s| s.hash).collect::<Vec<_>>(), model.clone());
                prop_assert_eq!((q.len(), q.is_empty()), (model.len(), model.is_empty()));
                let ends = (model.first().copied(), model.last().copied());
                prop_assert_eq!((q.front().map(|s| s.hash), q.back().map(|s| s.hash)), ends);
                prop_assert!((0..=model.len()).all(|i| q.get(i).map(|s| s.hash) == model.get(i).copied()));
            }
            prop_assert_eq!(q.drain().map(|s| s.hash).collect::<Vec<_>>(), model);
            prop_assert!(q.is_empty());
        }
    }
}
