//! A queue of packets. One packet is held in place and two or more in a ring, which goes back to a cache of the thread
//! when the queue is drained: an idle sock holds no memory for its queues, and a busy one allocates none. Above: the
//! protocols, `tcp::queue`. Below: `pool`. Linux: struct sk_buff_head.

use super::pool::{Local, Shared};
use super::skb::Skb;
use crate::sys::near::near_local;
use crate::sys::one_of::{Held, OneOf};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

/// Packets for which a drained ring has room at most to be kept: a larger one is freed.
const RING_MAX: usize = 256;

type Ring = Box<VecDeque<Skb>>;

static SHARED: Shared<Ring> = Shared::new(256);

near_local! {
    static LOCAL at Rings: RefCell<Local<Ring>> = RefCell::new(Local::new(32, &SHARED));
}

/// Packets, first in, first out; any of them by its place. One word; a ring in it is not empty.
pub struct SkbQueue(OneOf<Skb, VecDeque<Skb>>);

impl Default for SkbQueue {
    #[inline]
    fn default() -> SkbQueue {
        SkbQueue::EMPTY
    }
}

impl fmt::Debug for SkbQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
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
    pub(crate) const EMPTY: SkbQueue = SkbQueue(OneOf::NONE);

    /// Number of packets.
    #[inline]
    pub fn len(&self) -> usize {
        match self.0.get() {
            Held::None => 0,
            Held::One(_) => 1,
            Held::Boxed(ring) => ring.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
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
        match self.0.get() {
            Held::None => None,
            Held::One(skb) => Some(skb),
            Held::Boxed(ring) => ring.back(),
        }
    }

    /// The last.
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut Skb> {
        match self.0.get_mut() {
            Held::None => None,
            Held::One(skb) => Some(skb),
            Held::Boxed(ring) => ring.back_mut(),
        }
    }

    /// The one at a place.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&Skb> {
        match self.0.get() {
            Held::One(skb) if at == 0 => Some(skb),
            Held::Boxed(ring) => ring.get(at),
            _ => None,
        }
    }

    /// The one at a place.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Skb> {
        match self.0.get_mut() {
            Held::One(skb) if at == 0 => Some(skb),
            Held::Boxed(ring) => ring.get_mut(at),
            _ => None,
        }
    }

    /// Appends.
    #[inline]
    pub fn push_back(&mut self, skb: Skb) {
        if self.0.is_none() {
            self.0 = OneOf::one(skb);
        } else {
            self.push_more(skb);
        }
    }

    #[inline(never)]
    fn push_more(&mut self, skb: Skb) {
        self.as_ring().push_back(skb);
    }

    /// Prepends.
    pub fn push_front(&mut self, skb: Skb) {
        self.insert(0, skb);
    }

    /// Takes the first.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Skb> {
        match self.0.take() {
            Held::None => None,
            Held::One(skb) => Some(skb),
            Held::Boxed(ring) => self.pop_of(ring),
        }
    }

    #[inline(never)]
    fn pop_of(&mut self, mut ring: Ring) -> Option<Skb> {
        let skb = ring.pop_front();
        self.put_back(ring);
        skb
    }

    /// Takes the last.
    pub fn pop_back(&mut self) -> Option<Skb> {
        self.take(VecDeque::pop_back)
    }

    /// Inserts before the one at a place, which is at most the length.
    pub fn insert(&mut self, at: usize, skb: Skb) {
        match self.0.get_mut() {
            Held::None => self.0 = OneOf::one(skb),
            _ => self.as_ring().insert(at, skb),
        }
    }

    /// Takes the one at a place.
    #[inline(always)]
    pub fn remove(&mut self, at: usize) -> Option<Skb> {
        match self.0.get() {
            Held::One(_) if at > 0 => None,
            _ => self.take(|ring| ring.remove(at)),
        }
    }

    /// Takes all.
    pub fn drain(&mut self) -> impl Iterator<Item = Skb> + use<> {
        let (one, ring) = match self.0.take() {
            Held::None => (None, None),
            Held::One(skb) => (Some(skb), None),
            Held::Boxed(ring) => (None, Some(*ring)),
        };
        one.into_iter().chain(ring.into_iter().flatten())
    }

    /// Takes those from a place on, which is at most the length.
    pub(crate) fn split_off(&mut self, at: usize) -> SkbQueue {
        let mut behind = SkbQueue::default();
        match self.0.get_mut() {
            Held::Boxed(ring) if at > 0 => behind.extend(ring.drain(at..)),
            _ if at == 0 => std::mem::swap(self, &mut behind),
            _ => {}
        }
        behind
    }

    /// In order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Skb> + Clone + '_ {
        let (a, b): (&[Skb], &[Skb]) = match self.0.get() {
            Held::None => Default::default(),
            Held::One(skb) => (std::slice::from_ref(skb), &[]),
            Held::Boxed(ring) => ring.as_slices(),
        };
        a.iter().chain(b)
    }

    /// In order.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Skb> + '_ {
        let (a, b): (&mut [Skb], &mut [Skb]) = match self.0.get_mut() {
            Held::None => Default::default(),
            Held::One(skb) => (std::slice::from_mut(skb), &mut []),
            Held::Boxed(ring) => ring.as_mut_slices(),
        };
        a.iter_mut().chain(b)
    }

    /// Number of packets, from the first on, for which `before` holds; it holds for none behind those. O(log n).
    pub(crate) fn partition_point(&self, mut before: impl FnMut(&Skb) -> bool) -> usize {
        match self.0.get() {
            Held::None => 0,
            Held::One(skb) => usize::from(before(skb)),
            Held::Boxed(ring) => ring.partition_point(before),
        }
    }

    /// The packets in a ring, for more than one.
    fn as_ring(&mut self) -> &mut VecDeque<Skb> {
        if !matches!(self.0.get(), Held::Boxed(_)) {
            let mut ring = ring();
            ring.extend(self.drain());
            self.0 = OneOf::boxed(ring);
        }
        match self.0.get_mut() {
            Held::Boxed(ring) => ring,
            _ => unreachable!("it was made a ring"),
        }
    }

    /// Takes one with `how`, or the only one.
    #[inline]
    fn take(&mut self, how: impl FnOnce(&mut VecDeque<Skb>) -> Option<Skb>) -> Option<Skb> {
        match self.0.take() {
            Held::None => None,
            Held::One(skb) => Some(skb),
            Held::Boxed(mut ring) => {
                let skb = how(&mut ring);
                self.put_back(ring);
                skb
            }
        }
    }

    /// A ring from which one was taken.
    #[inline]
    fn put_back(&mut self, ring: Ring) {
        if ring.is_empty() { keep(ring) } else { self.0 = OneOf::boxed(ring) }
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
    fn a_queue_takes_a_word_and_one_packet_no_ring() {
        assert_eq!(size_of::<SkbQueue>(), size_of::<usize>());
        let before = kept();
        let mut q = SkbQueue::default();
        q.push_back(skb(1));
        assert!(matches!(q.0.get(), Held::One(_)));
        q.push_back(skb(2));
        assert!(matches!(q.0.get(), Held::Boxed(_)));
        assert_eq!((q.pop_front().unwrap().hash, q.pop_front().unwrap().hash), (1, 2));
        assert!(matches!(q.0.get(), Held::None));
        assert_eq!(kept(), before.max(1), "the ring serves the next queue");
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]
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
