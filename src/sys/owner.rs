//! A value with one owner at a time, and one word that records it: the basis of `lock_sock`. Above: `sock::ctl`, which
//! decides who waits and what an owner has to do before it releases. No system call is made here; the code is unsafe
//! because the word, not a reference, guarantees that the `&mut` is unique. Taking a free value and releasing it are
//! one atomic operation each, which is why this is not a flag beside a mutex. Linux: struct socket_lock_t's `owned`.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

/// The value is owned.
const OWNED: u32 = 1;
/// The owner has to check for work before it releases the value.
const MARKED: u32 = 2;

/// The word; a trait so that a model checker can substitute its own.
pub(crate) trait Word {
    /// A word of value 0.
    fn new() -> Self;
    /// The value, relaxed: only a hint.
    fn peek(&self) -> u32;
    /// Compare and exchange: acquire and release on success; otherwise returns the value found.
    fn exchange(&self, from: u32, to: u32) -> Result<u32, u32>;
    /// Stores with release ordering.
    fn publish(&self, to: u32);
}

impl Word for AtomicU32 {
    fn new() -> Self {
        AtomicU32::new(0)
    }
    #[inline]
    fn peek(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    #[inline]
    fn exchange(&self, from: u32, to: u32) -> Result<u32, u32> {
        self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
    }
    #[inline]
    fn publish(&self, to: u32) {
        self.store(to, Ordering::Release);
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Owned<T, W = AtomicU32> {
    word: W,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through the single `Owner` only, so sharing an `Owned` passes the value from thread to
// thread and never to two at once, which requires `T: Send`. The word's exchanges order the accesses.
unsafe impl<T: Send, W: Sync> Sync for Owned<T, W> {}

/// Ownership of the value. It must be released (`try_release`, `release`); if it is forgotten, the value stays owned
/// for ever. `'a` and the marker give it the Send and Sync of the `&mut T` that it stands for.
#[derive(Debug)]
pub(crate) struct Owner<'a, T, W: Word = AtomicU32> {
    owned: &'a Owned<T, W>,
    stands_for: PhantomData<&'a mut T>,
}

impl<T, W: Word> Owned<T, W> {
    /// A value without an owner.
    #[inline(always)]
    pub(crate) fn new(value: T) -> Self {
        Owned { word: W::new(), value: UnsafeCell::new(value) }
    }

    fn owner(&self) -> Owner<'_, T, W> {
        Owner { owned: self, stands_for: PhantomData }
    }

    /// Takes the value if it is free and not marked.
    #[inline]
    pub(crate) fn try_own(&self) -> Option<Owner<'_, T, W>> {
        self.word.exchange(0, OWNED).ok().map(|_| self.owner())
    }

    /// Takes the value if it is free, marked or not (the mark stays); otherwise marks it, so that its owner's
    /// `try_release` fails.
    pub(crate) fn own_or_mark(&self) -> Option<Owner<'_, T, W>> {
        let mut seen = self.word.peek();
        loop {
            let to = if seen & OWNED == 0 { seen | OWNED } else { seen | MARKED };
            match self.word.exchange(seen, to) {
                Ok(_) => return (seen & OWNED == 0).then(|| self.owner()),
                Err(now) => seen = now,
            }
        }
    }

    /// The value, where no other reference exists.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<'a, T, W: Word> Owner<'a, T, W> {
    /// Whether the value is marked. May miss a mark that is set concurrently; `try_release` misses none.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        self.owned.word.peek() & MARKED != 0
    }

    /// Releases the value, unless it is marked.
    #[inline]
    pub(crate) fn try_release(self) -> Result<(), Owner<'a, T, W>> {
        self.owned.word.exchange(OWNED, 0).map(|_| ()).map_err(|_| self)
    }

    /// Releases the value whether it is marked or not, and leaves it marked or not as given. The caller must prevent a
    /// concurrent `own_or_mark` (by the lock it holds): a mark set during the call would be lost.
    pub(crate) fn release(self, marked: bool) {
        self.owned.word.publish(if marked { MARKED } else { 0 });
    }
}

impl<T, W: Word> Deref for Owner<'_, T, W> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: an `Owner` exists only between the exchange that set OWNED and the operation that clears it, both of
        // which make or consume it; so it is the only one, and it is borrowed here.
        unsafe { &*self.owned.value.get() }
    }
}

impl<T, W: Word> DerefMut for Owner<'_, T, W> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and here the one `Owner` is borrowed mutably.
        unsafe { &mut *self.owned.value.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_prevents_the_release_and_stays_until_cleared() {
        let v: Owned<u32> = Owned::new(0);
        let mut o = v.try_own().unwrap();
        *o += 1;
        assert!(v.try_own().is_none() && !o.is_marked());
        assert!(v.own_or_mark().is_none());
        let o = o.try_release().unwrap_err();
        assert!(o.is_marked());
        o.release(true);
        assert!(v.try_own().is_none(), "marked: the slow way only");
        let o = v.own_or_mark().unwrap();
        assert_eq!((*o, o.is_marked()), (1, true));
        o.release(false);
        assert!(v.try_own().unwrap().try_release().is_ok());
    }
}
