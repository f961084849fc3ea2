//! A value with one owner at a time, and one word that says so: the ground of `lock_sock`. Above: `sock::ctl`, which
//! decides who waits and what an owner has to do before it goes. No system call is made here; what is unsafe is that
//! the word, and not a reference, vouches for the one `&mut`. Taking a free value and giving it back are one atomic
//! operation each, which is why this is not a flag beside a mutex. Linux: struct socket_lock_t's `owned`.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

/// Somebody owns the value.
const OWNED: u32 = 1;
/// Who gives the value up has to look at something first.
const MARKED: u32 = 2;

/// The word; a trait so that a model checker can bring its own.
pub(crate) trait Word {
    /// A word of value 0.
    fn new() -> Self;
    /// The value, relaxed: a hint.
    fn peek(&self) -> u32;
    /// Compare and exchange: acquires on success, and releases; the value that was found otherwise.
    fn exchange(&self, from: u32, to: u32) -> Result<u32, u32>;
    /// Stores, and releases.
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

// SAFETY: the value is reached through the one `Owner` only, so sharing an `Owned` hands the value from thread to
// thread and never to two of them at once: `T: Send` is what that asks for. The word's exchanges order the accesses.
unsafe impl<T: Send, W: Sync> Sync for Owned<T, W> {}

/// Ownership of the value. It must be given back (`try_release`, `release`); one that is forgotten leaves the value
/// owned for ever. `'a` and the marker make it as sendable and as shareable as the `&mut T` it stands for.
#[derive(Debug)]
pub(crate) struct Owner<'a, T, W: Word = AtomicU32> {
    owned: &'a Owned<T, W>,
    stands_for: PhantomData<&'a mut T>,
}

impl<T, W: Word> Owned<T, W> {
    /// A value that nobody owns.
    pub(crate) fn new(value: T) -> Self {
        Owned { word: W::new(), value: UnsafeCell::new(value) }
    }

    fn owner(&self) -> Owner<'_, T, W> {
        Owner { owned: self, stands_for: PhantomData }
    }

    /// Takes the value when it is free and not marked.
    #[inline]
    pub(crate) fn try_own(&self) -> Option<Owner<'_, T, W>> {
        self.word.exchange(0, OWNED).ok().map(|_| self.owner())
    }

    /// Takes the value when it is free, marked or not (the mark stays); otherwise marks it, so that its owner's
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
    /// Whether somebody marked the value. A mark set at this very moment may be missed; `try_release` misses none.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        self.owned.word.peek() & MARKED != 0
    }

    /// Gives the value back, unless it is marked.
    #[inline]
    pub(crate) fn try_release(self) -> Result<(), Owner<'a, T, W>> {
        self.owned.word.exchange(OWNED, 0).map(|_| ()).map_err(|_| self)
    }

    /// Gives the value back whatever the mark says, and leaves it marked or not. The caller keeps `own_or_mark` away
    /// meanwhile (by the lock under which it is called): a mark set during the call would be lost.
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
    fn a_mark_keeps_the_owner_and_stays_until_told() {
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
