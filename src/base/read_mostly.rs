//! A value that every packet reads and that is rarely replaced: a sock's protocol (until an upper-layer protocol
//! replaces it), an interface's device (until a capture wraps it), the handler of an IP protocol number ([`Slot`],
//! which starts empty). Reading the first value is a plain load, without a lock or a reference count; after a
//! replacement, readers take a read lock. Above: `sock`, `sock::proto`, `device::netdev`. Linux: rcu_dereference.

use crate::sys::lock::RwLock;
use crate::sys::once_box::OnceBox;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

/// See the module's text. The first value lives as long as the `ReadMostly`, so readers need no reference count.
pub(crate) struct ReadMostly<T> {
    first: T,
    later: OnceBox<RwLock<T>>,
}

/// A value that was read.
pub enum Read<'a, T> {
    /// The first value, never replaced.
    First(&'a T),
    /// A copy of a later value.
    Later(T),
}

impl<T: Clone> ReadMostly<T> {
    /// Starts with the value `first`.
    pub(crate) fn new(first: T) -> ReadMostly<T> {
        ReadMostly { first, later: OnceBox::new() }
    }

    /// The current value.
    #[inline]
    pub(crate) fn read(&self) -> Read<'_, T> {
        match self.later.get() {
            None => Read::First(&self.first),
            Some(later) => Read::Later(later.read().clone()),
        }
    }

    /// Whether the value is the first one.
    #[inline]
    pub(crate) fn is_first(&self) -> bool {
        self.later.get().is_none()
    }

    /// Replaces the value by `f` of it. Readers may still use the old value.
    pub(crate) fn replace(&self, f: impl FnOnce(&T) -> T) {
        let mut later = self.later.get_or_init(|| RwLock::new(self.first.clone())).write();
        *later = f(&later);
    }
}

/// A place that starts empty, is usually filled once, and can be emptied. A `pinned` value is read by a plain load and
/// lives as long as the slot, even after it was taken out. A value that is not pinned is read under a lock, and the
/// slot holds no reference to it once it was taken out.
pub(crate) struct Slot<T> {
    first: OnceLock<T>,
    later: OnceLock<Box<RwLock<Option<T>>>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot { first: OnceLock::new(), later: OnceLock::new() }
    }
}

impl<T: Clone> Slot<T> {
    /// The current value.
    #[inline]
    pub(crate) fn read(&self) -> Option<Read<'_, T>> {
        match self.later.get() {
            None => self.first.get().map(Read::First),
            Some(later) => later.read().clone().map(Read::Later),
        }
    }

    /// Stores a value, replacing any other. Once a value has been taken out, later ones are not pinned. One caller at a
    /// time.
    pub(crate) fn set(&self, value: T, pinned: bool) {
        let value = if pinned && self.later.get().is_none() {
            match self.first.set(value) {
                Ok(()) => return,
                Err(value) => value,
            }
        } else {
            value
        };
        let before = self.later.get_or_init(Box::default).write().replace(value);
        drop(before);
    }

    /// Empties the slot. Returns the old value, so that the caller drops it where its destructor may run other code.
    pub(crate) fn take(&self) -> Option<T> {
        let before = self.read().map(Read::cloned);
        self.later.get_or_init(Box::default).write().take();
        before
    }
}

impl<T: Clone> Read<'_, T> {
    /// An owned copy.
    pub fn cloned(self) -> T {
        match self {
            Read::First(v) => v.clone(),
            Read::Later(v) => v,
        }
    }
}

impl<T> Deref for Read<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        match self {
            Read::First(v) => v,
            Read::Later(v) => v,
        }
    }
}

impl<T: Clone + fmt::Debug> fmt::Debug for ReadMostly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Read<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_reader_keeps_what_it_read_and_the_next_one_sees_the_replacement() {
        let r = ReadMostly::new(1);
        let before = r.read();
        assert!(r.is_first());
        r.replace(|v| v + 1);
        assert!(!r.is_first());
        let between = r.read();
        r.replace(|v| v + 1);
        assert_eq!((*before, *between, *r.read(), r.read().cloned()), (1, 2, 3, 3));
    }

    #[test]
    fn a_slot_returns_its_last_value_and_drops_one_that_is_not_pinned() {
        for pinned in [true, false] {
            let (a, b) = (Arc::new(1), Arc::new(2));
            let slot = Slot::default();
            let now = |s: &Slot<Arc<i32>>| s.read().map(|v| **v);
            assert_eq!(now(&slot), None);
            slot.set(a.clone(), pinned);
            assert_eq!((now(&slot), matches!(slot.read(), Some(Read::First(_)))), (Some(1), pinned));
            assert_eq!(slot.take(), Some(a.clone()));
            assert_eq!((now(&slot), Arc::strong_count(&a)), (None, 1 + usize::from(pinned)));
            slot.set(b.clone(), pinned);
            assert_eq!(now(&slot), Some(2));
            assert_eq!(slot.take(), Some(b.clone()));
            assert_eq!((now(&slot), Arc::strong_count(&b)), (None, 1));
        }
    }
}
