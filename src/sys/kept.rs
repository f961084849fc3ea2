//! A pointer that is recycled instead of freed: when dropped, it is passed to [`Keep::keep`], which may put it in a
//! pool. Above: packets and their pages (`sock::skb`, `sock::page`). No system call is made here; the unsafe operation
//! is moving a field out of a value that is being dropped.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// What to do with a pointer that is no longer needed.
pub(crate) trait Keep: Sized {
    /// Takes the pointer. Called in destructors, so it must not panic.
    fn keep(self);
}

/// A pointer whose drop calls [`Keep::keep`].
#[repr(transparent)]
pub(crate) struct Kept<P: Keep>(ManuallyDrop<P>);

impl<P: Keep> Kept<P> {
    #[inline]
    pub(crate) fn new(p: P) -> Self {
        Kept(ManuallyDrop::new(p))
    }

    /// Takes the pointer out; it is then no longer recycled.
    #[inline]
    pub(crate) fn into_inner(self) -> P {
        let mut me = ManuallyDrop::new(self);
        // SAFETY: `me` is not dropped and not used again, so the pointer is moved out once.
        unsafe { ManuallyDrop::take(&mut me.0) }
    }
}

impl<P: Keep> Drop for Kept<P> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a value is dropped once, and its field is not used afterwards.
        unsafe { ManuallyDrop::take(&mut self.0) }.keep();
    }
}

impl<P: Keep> Deref for Kept<P> {
    type Target = P;
    #[inline]
    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P: Keep> DerefMut for Kept<P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<P: Keep + fmt::Debug> fmt::Debug for Kept<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        P::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local!(static BACK: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) });
    impl Keep for Box<u32> {
        fn keep(self) {
            BACK.with(|b| b.borrow_mut().push(*self));
        }
    }

    #[test]
    fn a_dropped_pointer_is_kept_and_one_taken_out_is_not() {
        let mut a = Kept::new(Box::new(1));
        **a += 1;
        drop(a);
        assert_eq!(*Kept::new(Box::new(3)).into_inner(), 3);
        BACK.with(|b| assert_eq!(*b.borrow(), [2]));
    }
}
