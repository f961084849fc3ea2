//! A hash table of 64-bit keys that are hashes themselves, by linear probing: a look-up reads one cache line or two
//! that follow each other, of a million entries mostly the only miss, and no line of control bytes before it. Above:
//! `tcp::lookup`. Below: nothing.
//!
//! Knuth, TAOCP volume 3, §6.4, Algorithms L and R: entries are in the order of their homes, and removal closes the
//! gap, so that no marks are left behind.

use crate::sys::mem::prefetch;

/// Values by key. The key's high bits choose its home: they must be as random as the rest.
#[derive(Debug)]
pub(crate) struct Probing<V> {
    slots: Box<[Option<(u64, V)>]>,
    len: usize,
}

impl<V> Default for Probing<V> {
    fn default() -> Probing<V> {
        Probing { slots: Box::default(), len: 0 }
    }
}

/// At most four fifths are in use: two to three slots are looked at on average.
const fn limit(slots: usize) -> usize {
    slots * 4 / 5
}

impl<V> Probing<V> {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// All values.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().flatten().map(|(_, v)| v)
    }

    /// The place where the search for a key begins.
    #[inline]
    fn home(&self, key: u64) -> usize {
        ((u128::from(key) * self.slots.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// Where a key is, or the empty slot where it would be entered. The table is not empty.
    #[inline]
    fn find(&self, key: u64) -> (usize, bool) {
        let mut at = self.home(key);
        loop {
            match &self.slots[at] {
                None => return (at, false),
                Some((k, _)) if *k == key => return (at, true),
                Some(_) => at = self.after(at),
            }
        }
    }

    /// Asks the processor for the line where the search for a key will begin.
    #[inline]
    pub(crate) fn prefetch(&self, key: u64) {
        if let Some(slot) = self.slots.get(self.home(key)) {
            prefetch(slot, 0);
        }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        self.slots[self.find(key).0].as_ref().map(|(_, v)| v)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        if self.len == 0 {
            return None;
        }
        let at = self.find(key).0;
        self.slots[at].as_mut().map(|(_, v)| v)
    }

    /// Enters a value; returns the one that it replaces.
    pub(crate) fn insert(&mut self, key: u64, value: V) -> Option<V> {
        if self.len >= limit(self.slots.len()) {
            self.grow();
        }
        let (at, there) = self.find(key);
        self.len += usize::from(!there);
        self.slots[at].replace((key, value)).map(|(_, v)| v)
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        if self.len == 0 {
            return None;
        }
        let (mut gap, _) = self.find(key);
        let (_, value) = self.slots[gap].take()?;
        self.len -= 1;
        let mut at = self.after(gap);
        while let Some((k, _)) = &self.slots[at] {
            let home = self.home(*k);
            // It stays if its home is behind the gap, up to itself, around the end.
            let stays = if gap < at { gap < home && home <= at } else { gap < home || home <= at };
            if !stays {
                self.slots.swap(gap, at);
                gap = at;
            }
            at = self.after(at);
        }
        Some(value)
    }

    /// A quarter more: a doubled table would be half empty.
    #[cold]
    fn grow(&mut self) {
        let slots = (self.slots.len() * 5 / 4 + 1).max(8);
        let larger = (0..slots).map(|_| None).collect();
        let old = std::mem::replace(&mut self.slots, larger);
        for (key, value) in old.into_iter().flatten() {
            let (at, _) = self.find(key);
            self.slots[at] = Some((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(crate::base::cases::cases())]
        /// Keys from a narrow range, so that homes collide and runs pass the end of the table.
        #[test]
        fn a_table_is_what_a_map_is(
            acts in proptest::collection::vec((0_u8..4, 0_u64..40, any::<bool>()), 1..400),
        ) {
            let (mut table, mut model) = (Probing::default(), BTreeMap::new());
            for (n, (act, key, high)) in (0_u32..).zip(acts) {
                let key = if high { u64::MAX - key } else { key << 58 };
                match act {
                    0 | 1 => prop_assert_eq!(table.insert(key, n), model.insert(key, n)),
                    2 => prop_assert_eq!(table.remove(key), model.remove(&key)),
                    _ => {
                        if let Some(v) = table.get_mut(key) {
                            *v += 1000;
                        }
                        model.entry(key).and_modify(|v| *v += 1000);
                    }
                }
                prop_assert_eq!(table.get(key), model.get(&key));
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert!(model.iter().all(|(k, v)| table.get(*k) == Some(v)));
            let mut values: Vec<u32> = table.values().copied().collect();
            let mut wanted: Vec<u32> = model.into_values().collect();
            values.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(values, wanted);
        }
    }

    #[test]
    fn between_three_fifths_and_four_fifths_of_the_slots_are_in_use() {
        let mut table = Probing::default();
        for n in 1_u64..20_000 {
            table.insert(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), ());
            let slots = table.bytes() / size_of::<Option<(u64, ())>>();
            assert!(n < 100 || (slots * 3 / 5..=slots * 4 / 5).contains(&table.len()), "{n} of {slots}");
        }
    }
}
