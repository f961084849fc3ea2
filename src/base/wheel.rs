//! A hierarchical timing wheel: the timers of a stack's sockets. Above: TCP's timers, reassembly, neighbours; the poll
//! loop asks for the next deadline and for expired timers. Below: nothing; the time is passed in and no clock is read.
//! Linux: kernel/time/timer.c, whose resolution decreases with the distance of a timer; this one is exact to the
//! nanosecond.
//!
//! Eight levels of 64 slots. A slot of level 0 is a tick of 2^17 ns (131 us), one of the next level is 64 of those, and
//! so on to the end of 64 bits. A timer is in the level of the highest digit in which its tick differs from the current
//! one, so that arming and cancelling touch one list. When time enters a slot, its timers move down; each moves at most
//! seven times. Timers of the current tick are sorted when the tick begins, and those armed during it go to a heap:
//! this gives the exact order. The node of a cancelled timer stays in its slot's list, empty, for the next timer in
//! that slot: unlinking it would write to two neighbour nodes, which among a million timers are not in the cache. Empty
//! nodes that were not used again are freed when time enters the slot; if there are more empty nodes than used ones,
//! they are unlinked at once. Timers of the slot that comes next move down a few at a time beforehand, so that entering
//! it does not take long.
//!
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 7.

use crate::base::env::Instant;
use crate::sys::mem;
use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// A tick is 2^17 ns.
const TICK_SHIFT: u32 = 17;
/// A level has 2^6 slots.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 8 levels of 6 bits hold the 47 bits of a tick.
const LEVELS: usize = 8;

/// End of a list.
const NIL: u32 = u32::MAX;
/// Number of slots of a bank; there are two banks, see [`Wheel::stage`].
const BANK: usize = LEVELS * SLOTS;
/// `Node::place` of a timer of the current tick, above all slots.
const SOON: u16 = (2 * BANK) as u16;
/// Number of timers of a level that are moved down ahead of time whenever the tick advances. Small in tests, so that
/// slots are entered half prepared.
const STAGE: usize = if cfg!(test) { 2 } else { 32 };
/// Number of empty nodes allowed in lists, in addition to one per timer. Small in tests, so that both paths are tested.
const EMPTY_MAX: usize = if cfg!(test) { 4 } else { 1024 };
/// `Node::place` of a free node: it has no timer, and is only in the free list.
const FREE: u16 = SOON + 1;

/// Identifies an armed timer. An id becomes stale when its timer fires or is cancelled, and then has no effect; it
/// would match again only after 2^21 timers in the same node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

impl TimerId {
    /// For a place where no timer was armed yet.
    pub(crate) const NONE: TimerId = TimerId { index: 0, generation: 0 };
}

/// A timer, an empty node in the list of a slot, or a free one. Of a stack's timers it is half a cache line: among a
/// million a timer that is cancelled is not in the cache, and the wait for its line is the cost.
#[repr(align(32))]
struct Node<T> {
    /// Deadline, nanoseconds. In an empty node: the next empty node of its slot (`NIL`: none).
    at: u64,
    /// Position in the order of arming, which decides between equal deadlines.
    seq: u32,
    mark: Mark,
    value: Option<T>,
}

/// A node's generation, and its place: a slot (bank * 512 + level * 64 + digit), `SOON` or `FREE`.
#[derive(Clone, Copy)]
struct Mark(u32);

const PLACE_BITS: u32 = 11;
const _: () = assert!((FREE as u32) < 1 << PLACE_BITS);

impl Mark {
    #[inline]
    fn place(self) -> u16 {
        (self.0 & ((1 << PLACE_BITS) - 1)) as u16
    }
    #[inline]
    fn set_place(&mut self, place: u16) {
        self.0 = self.generation() << PLACE_BITS | u32::from(place);
    }
    #[inline]
    fn generation(self) -> u32 {
        self.0 >> PLACE_BITS
    }
    /// The ids of the node's timer become stale.
    #[inline]
    fn outdate(&mut self) {
        self.0 = self.0.wrapping_add(1 << PLACE_BITS);
    }
}

/// A node's neighbours in its slot's list. Separate from the nodes, and so dense: unlinking among a million timers
/// writes to two neighbours, which are then likely to be in the cache.
#[derive(Clone, Copy)]
struct Neighbours {
    /// Also links the free nodes.
    next: u32,
    prev: u32,
}

/// A timer of the current tick: deadline, order of arming, node. Stale when the timer has been cancelled or re-armed
/// since.
type Soon = (u64, u32, u32);

/// Timers with a value of type `T` each (the action when it fires). All operations but expiry are O(1); expiry is
/// amortised O(1) per timer, plus the logarithm of the number of timers in the same tick.
pub struct Wheel<T> {
    nodes: Vec<Node<T>>,
    neighbours: Vec<Neighbours>,
    free: u32,
    len: usize,
    /// The current tick; timers of this and earlier ticks are in `due` and `late`.
    tick: u64,
    next_seq: u32,
    /// By level, the bank in use; [`Wheel::stage`] prepares the level's next round in the other one.
    bank: [u8; LEVELS],
    /// By level, the digit of the slot whose timers are being moved to the other bank of the level below.
    staged: [Option<u8>; LEVELS],
    /// By bank and level, a bit for each slot that may have timers.
    occupied: [[u64; LEVELS]; 2],
    heads: Box<[u32; 2 * BANK]>,
    /// By slot, the empty nodes in its list that can be reused, linked through `Node::at`.
    empties: Box<[u32; 2 * BANK]>,
    /// Number of empty nodes in the lists of all slots.
    empty: usize,
    /// A lower bound of the deadlines in a slot; exact until its first timer is cancelled or postponed.
    earliest: Box<[u64; 2 * BANK]>,
    /// Timers that the current tick began with, last first. The last entry is never stale; others may be.
    due: Vec<Soon>,
    /// Timers armed since then for this tick or an earlier one. The top is never stale; others may be.
    late: BinaryHeap<Reverse<Soon>>,
    /// Number of stale entries in both.
    stale: usize,
}

const fn tick_of(at: u64) -> u64 {
    at >> TICK_SHIFT
}

impl<T> Wheel<T> {
    /// A wheel without timers; the current time is [`Instant::ZERO`].
    pub fn new() -> Wheel<T> {
        Wheel::with_capacity(0)
    }

    /// As [`Wheel::new`], with memory for `timers` timers.
    pub fn with_capacity(timers: usize) -> Wheel<T> {
        Wheel {
            nodes: Vec::with_capacity(timers),
            neighbours: Vec::with_capacity(timers),
            free: NIL,
            len: 0,
            tick: 0,
            next_seq: 0,
            bank: [0; LEVELS],
            staged: [None; LEVELS],
            occupied: [[0; LEVELS]; 2],
            heads: Box::new([NIL; 2 * BANK]),
            empties: Box::new([NIL; 2 * BANK]),
            empty: 0,
            earliest: Box::new([0; 2 * BANK]),
            due: Vec::new(),
            late: BinaryHeap::new(),
            stale: 0,
        }
    }

    /// Number of armed timers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory per pending timer, value included.
    pub const fn bytes_per_timer() -> usize {
        size_of::<Node<T>>() + size_of::<Neighbours>()
    }

    /// Arms a timer that fires at `at`, or at the next expiry if that is in the past.
    pub fn arm(&mut self, at: Instant, value: T) -> TimerId {
        let at = at.as_nanos();
        let (seq, slot) = (self.seq(), self.slot_for(at));
        if let Some(slot) = slot
            && self.empties[slot] != NIL
        {
            let index = self.empties[slot];
            let node = &mut self.nodes[index as usize];
            self.empties[slot] = node.at as u32;
            (node.at, node.seq, node.value) = (at, seq, Some(value));
            let generation = node.mark.generation();
            self.empty -= 1;
            self.len += 1;
            self.lower(slot, at);
            return TimerId { index, generation };
        }
        let index = self.free;
        let index = if index == NIL {
            // A node takes at least 32 bytes, so memory is exhausted long before the numbers are.
            let index = self.nodes.len() as u32;
            grow(&mut self.nodes);
            grow(&mut self.neighbours);
            self.nodes.push(Node { at, seq, mark: Mark(u32::from(FREE)), value: Some(value) });
            self.neighbours.push(Neighbours { next: NIL, prev: NIL });
            index
        } else {
            let node = &mut self.nodes[index as usize];
            self.free = self.neighbours[index as usize].next;
            (node.at, node.seq, node.value) = (at, seq, Some(value));
            self.prefetch_free();
            index
        };
        self.len += 1;
        self.put(index, slot);
        TimerId { index, generation: self.nodes[index as usize].mark.generation() }
    }

    /// Asks the processor for the node that the next timer takes: timers that fired on another one left it there.
    #[inline]
    fn prefetch_free(&self) {
        if let (Some(node), Some(links)) = (self.nodes.get(self.free as usize), self.neighbours.get(self.free as usize))
        {
            mem::prefetch(node, 0);
            mem::prefetch(links, 0);
        }
    }

    /// Moves a timer to `at`, after those already armed for the same time. Returns whether it was still armed.
    pub fn rearm(&mut self, id: TimerId, at: Instant) -> bool {
        let Some(index) = self.find(id) else { return false };
        let seq = self.seq();
        let node = &mut self.nodes[index as usize];
        let (place, tick) = (node.mark.place(), tick_of(node.at));
        let at = at.as_nanos();
        (node.at, node.seq) = (at, seq);
        if place == SOON {
            self.insert(index);
            self.forget_soon();
        } else if tick_of(at) < tick {
            self.unlink(index, place);
            self.insert(index);
        } else {
            // A postponed timer, such as a retransmission timer at each ACK, stays in its list; it is moved when time
            // reaches that slot. Within its tick it may also have come earlier.
            self.lower(usize::from(place), at);
            if let Some(above) = self.staged_from(usize::from(place)) {
                self.lower(above, at);
            }
        }
        true
    }

    /// Disarms a timer and returns its value; `None` when it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let index = self.find(id)?;
        let place = self.nodes[index as usize].mark.place();
        if place == SOON {
            let value = self.release(index);
            self.forget_soon();
            value
        } else if self.empty > self.len + EMPTY_MAX {
            self.unlink(index, place);
            self.release(index)
        } else {
            let node = &mut self.nodes[index as usize];
            node.at = u64::from(core::mem::replace(&mut self.empties[usize::from(place)], index));
            node.mark.outdate();
            self.empty += 1;
            self.len -= 1;
            node.value.take()
        }
    }

    /// The deadline of a timer; `None` when it is not armed.
    pub fn deadline(&self, id: TimerId) -> Option<Instant> {
        self.find(id).map(|index| Instant::from_nanos(self.nodes[index as usize].at))
    }

    /// The value of an armed timer.
    pub fn get(&self, id: TimerId) -> Option<&T> {
        self.find(id).and_then(|index| self.nodes[index as usize].value.as_ref())
    }

    /// The time at which to call [`Wheel::pop_expired`] next: never after the earliest deadline, and equal to it unless
    /// the earliest timer of its slot was cancelled or postponed. After [`Wheel::pop_expired`] returned `None` for
    /// `now` it is after `now`, so that waiting for it makes progress. `None` without timers.
    pub fn next_deadline(&self) -> Option<Instant> {
        if let Some((at, ..)) = self.first_soon() {
            return Some(Instant::from_nanos(at));
        }
        // Slots whose timers were all cancelled may still be marked as occupied.
        let (level, digit) = self.first_slot().filter(|_| self.len > 0)?;
        Some(Instant::from_nanos(self.earliest[self.slot(level, digit)]))
    }

    /// Takes the first timer whose deadline is not after `now`, by deadline and then by order of arming, and its
    /// deadline. A `now` earlier than in a previous call is allowed and fires nothing early.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(Instant, T)> {
        let now = now.as_nanos();
        loop {
            if let Some(first @ (at, _, index)) = self.first_soon() {
                if at > now {
                    return None;
                }
                if self.due.last() == Some(&first) {
                    self.due.pop();
                } else {
                    self.late.pop();
                }
                let value = self.release(index);
                self.drop_stale_firsts();
                // An entry that is not stale has a value.
                return value.map(|value| (Instant::from_nanos(at), value));
            }
            if !self.advance(tick_of(now)) {
                return None;
            }
        }
    }

    /// The value of the timer that is probably the `n`th after the first of those that are due, to prepare for it.
    pub(crate) fn upcoming(&self, n: usize) -> Option<&T> {
        let (.., index) = *self.due.get(self.due.len().checked_sub(n + 1)?)?;
        self.nodes[index as usize].value.as_ref()
    }

    /// Fires all timers whose deadline is not after `now`, in the order of [`Wheel::pop_expired`].
    pub fn expire(&mut self, now: Instant, fire: &mut impl FnMut(T)) {
        while let Some((_, value)) = self.pop_expired(now) {
            fire(value);
        }
    }

    fn seq(&mut self) -> u32 {
        self.next_seq = self.next_seq.wrapping_add(1);
        self.next_seq
    }

    fn find(&self, id: TimerId) -> Option<u32> {
        let node = self.nodes.get(id.index as usize)?;
        (node.mark.generation() == id.generation && node.value.is_some()).then_some(id.index)
    }

    /// Links a node where its deadline belongs, relative to the current tick.
    fn insert(&mut self, index: u32) {
        let slot = self.slot_for(self.nodes[index as usize].at);
        self.put(index, slot);
    }

    /// Links a node in a slot, or if there is none, among the timers of the current tick.
    fn put(&mut self, index: u32, slot: Option<usize>) {
        match slot {
            Some(slot) => self.link(index, slot),
            None => {
                let node = &mut self.nodes[index as usize];
                node.mark.set_place(SOON);
                self.late.push(Reverse((node.at, node.seq, index)));
            }
        }
    }

    /// The slot for a deadline, relative to the current tick; None when it is in that tick or past.
    fn slot_for(&self, at: u64) -> Option<usize> {
        let tick = tick_of(at);
        if tick <= self.tick {
            return None;
        }
        let level = ((63 - (tick ^ self.tick).leading_zeros()) / SLOT_BITS) as usize;
        let digit = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        Some(self.slot(level, digit))
    }

    /// A slot of the bank in use.
    fn slot(&self, level: usize, digit: usize) -> usize {
        usize::from(self.bank[level]) * BANK + level * SLOTS + digit
    }

    /// For a slot of a bank not in use: the slot that its timers still belong to.
    fn staged_from(&self, slot: usize) -> Option<usize> {
        let (bank, level) = (slot / BANK, slot % BANK / SLOTS);
        let digit = *self.staged.get(level + 1)?;
        if bank == usize::from(self.bank[level]) { None } else { digit.map(|d| self.slot(level + 1, d.into())) }
    }

    fn lower(&mut self, slot: usize, at: u64) {
        self.earliest[slot] = at.min(self.earliest[slot]);
    }

    fn link(&mut self, index: u32, slot: usize) {
        let (occupied, bit) = (&mut self.occupied[slot / BANK][slot % BANK / SLOTS], 1 << (slot % SLOTS));
        let node = &mut self.nodes[index as usize];
        node.mark.set_place(slot as u16);
        let head = core::mem::replace(&mut self.heads[slot], index);
        self.neighbours[index as usize] = Neighbours { next: head, prev: NIL };
        if head != NIL {
            self.neighbours[head as usize].prev = index;
        }
        if *occupied & bit == 0 {
            *occupied |= bit;
            self.earliest[slot] = node.at;
        } else {
            self.earliest[slot] = node.at.min(self.earliest[slot]);
        }
    }

    fn unlink(&mut self, index: u32, place: u16) {
        let slot = usize::from(place);
        let Neighbours { next, prev } = self.neighbours[index as usize];
        if next != NIL {
            self.neighbours[next as usize].prev = prev;
        }
        if prev != NIL {
            self.neighbours[prev as usize].next = next;
            return;
        }
        self.heads[slot] = next;
        let (bank, level, digit) = (slot / BANK, slot % BANK / SLOTS, slot % SLOTS);
        // A slot being staged stays occupied: its timers may be in the level below.
        let in_use = bank == usize::from(self.bank[level]);
        if next == NIL && !(in_use && self.staged[level] == Some(digit as u8)) {
            self.occupied[bank][level] &= !(1 << digit);
        }
    }

    /// Moves a node, which is in no list, to the free list.
    fn release(&mut self, index: u32) -> Option<T> {
        let node = &mut self.nodes[index as usize];
        node.mark.set_place(FREE);
        node.mark.outdate();
        self.neighbours[index as usize].next = self.free;
        self.free = index;
        self.len -= 1;
        node.value.take()
    }

    /// Frees an empty node that has been unlinked from its slot's list.
    fn free_empty(&mut self, index: u32) {
        self.nodes[index as usize].mark.set_place(FREE);
        self.neighbours[index as usize].next = self.free;
        self.free = index;
        self.empty -= 1;
    }

    /// The earliest timer of the current tick.
    fn first_soon(&self) -> Option<Soon> {
        let late = self.late.peek().map(|&Reverse(entry)| entry);
        match (self.due.last(), late) {
            (Some(&due), Some(late)) => Some(due.min(late)),
            (due, late) => due.copied().or(late),
        }
    }

    /// Called when an entry of the current tick lost its timer: ensures that the first entry of both is not stale, and
    /// that fewer than half of them are.
    fn forget_soon(&mut self) {
        self.stale += 1;
        self.drop_stale_firsts();
        if self.stale > 64 && self.stale > (self.due.len() + self.late.len()) / 2 {
            let nodes = &self.nodes;
            self.due.retain(|&entry| is_current(nodes, entry));
            self.late.retain(|&Reverse(entry)| is_current(nodes, entry));
            self.stale = 0;
        }
    }

    fn drop_stale_firsts(&mut self) {
        if self.stale == 0 {
            return;
        }
        while let Some(&entry) = self.due.last() {
            if is_current(&self.nodes, entry) {
                break;
            }
            self.due.pop();
            self.stale -= 1;
        }
        while let Some(&Reverse(entry)) = self.late.peek() {
            if is_current(&self.nodes, entry) {
                break;
            }
            self.late.pop();
            self.stale -= 1;
        }
    }

    /// The slot with the earliest timers of later ticks: lower levels come first, and within a level lower digits,
    /// since slots in the past are empty.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let slots = |level: &usize| self.occupied[usize::from(self.bank[*level])][*level];
        let level = (0..LEVELS).find(|level| slots(level) != 0)?;
        Some((level, slots(&level).trailing_zeros() as usize))
    }

    /// Moves some timers of each level's next slot down before time enters it, so that a slot with a million timers
    /// does not cause a long pause on entry. They go to the other bank of the level below, which comes into use on
    /// entry.
    fn stage(&mut self) {
        for level in 1..LEVELS {
            let shift = SLOT_BITS * level as u32;
            let digit = (self.tick >> shift) as usize % SLOTS + 1;
            if digit == SLOTS {
                continue;
            }
            let from = self.slot(level, digit);
            // The slot's empty nodes must not be reused from here on; each is freed when it is reached.
            self.empties[from] = NIL;
            for _ in 0..STAGE {
                let index = self.heads[from];
                if index == NIL {
                    break;
                }
                self.staged[level] = Some(digit as u8);
                self.unlink(index, from as u16);
                if self.nodes[index as usize].value.is_none() {
                    self.free_empty(index);
                    continue;
                }
                let tick = tick_of(self.nodes[index as usize].at);
                if tick >> shift == (self.tick >> shift) + 1 {
                    let below = (tick >> (shift - SLOT_BITS)) as usize % SLOTS;
                    self.link(index, self.slot(level - 1, below) ^ BANK);
                } else {
                    // The timer was postponed beyond the slot.
                    self.insert(index);
                }
            }
        }
    }

    /// Removes all timers from a slot of the bank in use; their links lead from one to the next.
    fn take_slot(&mut self, level: usize, digit: usize) -> u32 {
        let slot = self.slot(level, digit);
        self.occupied[slot / BANK][level] &= !(1 << digit);
        self.empties[slot] = NIL;
        core::mem::replace(&mut self.heads[slot], NIL)
    }

    /// Advances the current tick towards `to`, at most into the next occupied slot, whose timers then move down.
    /// Returns whether it entered one. The current tick has no timers left.
    fn advance(&mut self, to: u64) -> bool {
        if to <= self.tick {
            return false;
        }
        let first = self.first_slot().map(|(level, digit)| {
            let shift = SLOT_BITS * level as u32;
            (level, digit, ((self.tick >> shift >> SLOT_BITS << SLOT_BITS) | digit as u64) << shift)
        });
        let Some((level, digit, start)) = first.filter(|&(.., start)| start <= to) else {
            self.tick = to;
            self.stage();
            return false;
        };
        self.tick = start;
        let rest = self.take_slot(level, digit);
        if self.staged[level].take().is_some() {
            // The level below has completed its round and is empty: the staged timers are its next round.
            debug_assert_eq!(self.occupied[usize::from(self.bank[level - 1])][level - 1], 0);
            self.bank[level - 1] ^= 1;
            let begin = self.take_slot(level - 1, 0);
            self.move_down(begin);
        }
        self.move_down(rest);
        self.due.sort_unstable_by(|a, b| b.cmp(a));
        self.stage();
        true
    }

    /// Links the timers of a slot that time has entered where they belong now.
    fn move_down(&mut self, mut index: u32) {
        while index != NIL {
            let next = self.neighbours[index as usize].next;
            if let Some(node) = self.nodes.get(next as usize) {
                mem::prefetch(node, 0);
            }
            let node = &mut self.nodes[index as usize];
            if node.value.is_none() {
                self.free_empty(index);
            } else if tick_of(node.at) == self.tick {
                node.mark.set_place(SOON);
                self.due.push((node.at, node.seq, index));
            } else {
                self.insert(index);
            }
            index = next;
        }
    }
}

/// Makes room for one more. A large table moves to new memory for which huge pages are requested: with a million timers
/// most of the cost of an operation is TLB misses.
#[inline]
fn grow<V>(table: &mut Vec<V>) {
    if table.len() == table.capacity() {
        grow_slow(table);
    }
}

/// Entries of a large table.
const LARGE: usize = 1 << 14;

#[cold]
fn grow_slow<V>(table: &mut Vec<V>) {
    let len = table.len();
    // Of a large one a doubled table would be half empty.
    let more = if len < LARGE { len } else { len / 4 };
    let mut more = Vec::with_capacity((len + more).max(64));
    mem::prefer_huge_pages(more.spare_capacity_mut());
    more.append(table);
    *table = more;
}

fn is_current<T>(nodes: &[Node<T>], (_, seq, index): Soon) -> bool {
    let node = &nodes[index as usize];
    node.mark.place() == SOON && node.seq == seq
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Wheel::new()
    }
}

impl<T> core::fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wheel").field("len", &self.len).field("next_deadline", &self.next_deadline()).finish()
    }
}

#[cfg(test)]
mod tests;
