//! Nothing, a pointer, or a box of something else: in one word, where an enum takes two. For what each of a million
//! socks has, as the queues of a connection, which are mostly empty. The lowest bit of the word tells what it is; that
//! bit is free in the address of what is aligned. Above: `sock::queue`. Unsafe because the compiler does not know that.

use std::marker::PhantomData;
use std::mem::{ManuallyDrop, transmute_copy};
use std::ptr;

/// An owned pointer, which [`pointer`] declares.
///
/// # Safety
/// Its memory is one address, which is even and not null, whatever the value.
pub(crate) unsafe trait Pointer: Sized {}

/// Declares `struct NAME(Kept<Box<T>>)` as a [`Pointer`].
macro_rules! pointer {
    ($(#[$doc:meta])* $vis:vis struct $Name:ident($Inner:ty);) => {
        $(#[$doc])*
        #[repr(transparent)]
        $vis struct $Name($crate::sys::kept::Kept<Box<$Inner>>);

        const _: () = assert!(align_of::<$Inner>() > 1);
        // SAFETY: it is transparent, as `Kept` is, so its memory is that of a box: an address that is not null, and a
        // multiple of the alignment above.
        #[allow(unsafe_code)]
        unsafe impl $crate::sys::one_of::Pointer for $Name {}
    };
}
pub(crate) use pointer;

/// See the module's text.
pub(crate) struct OneOf<A: Pointer, B> {
    /// Null; the memory of an A; or the address of a B that was boxed, plus `BOXED`.
    word: *mut (),
    owns: PhantomData<(A, Box<B>)>,
}

/// What there is.
pub(crate) enum Held<A, B> {
    None,
    One(A),
    Boxed(B),
}

const BOXED: usize = 1;

// SAFETY: it owns an A or a box of a B, and gives out what `&self` and `&mut self` allow.
unsafe impl<A: Pointer + Send, B: Send> Send for OneOf<A, B> {}
// SAFETY: as above.
unsafe impl<A: Pointer + Sync, B: Sync> Sync for OneOf<A, B> {}

impl<A: Pointer, B> OneOf<A, B> {
    /// Nothing.
    pub(crate) const NONE: OneOf<A, B> = OneOf { word: ptr::null_mut(), owns: PhantomData };

    /// A pointer.
    #[inline]
    pub(crate) fn one(a: A) -> OneOf<A, B> {
        const { assert!(size_of::<A>() == size_of::<*mut ()>() && align_of::<A>() == align_of::<*mut ()>()) };
        let a = ManuallyDrop::new(a);
        // SAFETY: an A is an address (`Pointer`) and has the size of one; it is not used again where it was.
        let word = unsafe { transmute_copy::<ManuallyDrop<A>, *mut ()>(&a) };
        OneOf { word, owns: PhantomData }
    }

    /// A box.
    #[inline]
    pub(crate) fn boxed(b: Box<B>) -> OneOf<A, B> {
        const { assert!(align_of::<B>() > BOXED) };
        OneOf { word: Box::into_raw(b).cast::<()>().wrapping_byte_add(BOXED), owns: PhantomData }
    }

    /// The box's address, if the word is a box.
    #[inline]
    fn address(&self) -> Option<*mut B> {
        (self.word.addr() & BOXED != 0).then(|| self.word.wrapping_byte_sub(BOXED).cast())
    }

    /// What there is.
    #[inline]
    pub(crate) fn get(&self) -> Held<&A, &B> {
        match self.address() {
            // SAFETY: it came from a box, which this owns; borrowed as `self` is.
            Some(b) => Held::Boxed(unsafe { &*b }),
            None if self.word.is_null() => Held::None,
            // SAFETY: neither null nor odd, so the word is the memory of an A, which this owns; borrowed as `self` is.
            None => Held::One(unsafe { &*(&raw const self.word).cast::<A>() }),
        }
    }

    /// The same, to change it. An A that takes the place of the one is one as well.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> Held<&mut A, &mut B> {
        match self.address() {
            // SAFETY: as in `get`, and borrowed mutably.
            Some(b) => Held::Boxed(unsafe { &mut *b }),
            None if self.word.is_null() => Held::None,
            // SAFETY: as in `get`, and borrowed mutably.
            None => Held::One(unsafe { &mut *(&raw mut self.word).cast::<A>() }),
        }
    }

    /// Takes it out.
    #[inline]
    pub(crate) fn take(&mut self) -> Held<A, Box<B>> {
        let taken = match self.address() {
            // SAFETY: it came from a box, and the word is emptied below.
            Some(b) => Held::Boxed(unsafe { Box::from_raw(b) }),
            None if self.word.is_null() => Held::None,
            // SAFETY: the word is the memory of an A, which is moved out once: the word is emptied below.
            None => Held::One(unsafe { transmute_copy::<*mut (), A>(&self.word) }),
        };
        self.word = ptr::null_mut();
        taken
    }

    /// Whether there is nothing.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.word.is_null()
    }
}

impl<A: Pointer, B> Drop for OneOf<A, B> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_none() {
            drop(self.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::kept::{Keep, Kept};
    use std::sync::Arc;

    pointer! {
        struct Number(Counted);
    }
    struct Counted {
        n: u64,
        _count: Arc<()>,
    }
    impl Keep for Box<Counted> {
        fn keep(self) {}
    }

    #[test]
    fn each_kind_is_found_changed_taken_and_dropped_once() {
        type Both = OneOf<Number, (u16, Arc<()>)>;
        assert_eq!(size_of::<Both>(), size_of::<usize>());
        let count = Arc::new(());
        let number = |n| Number(Kept::new(Box::new(Counted { n, _count: count.clone() })));
        let mut one = Both::one(number(1));
        if let Held::One(n) = one.get_mut() {
            *n = number(2);
        }
        assert!(matches!(one.get(), Held::One(n) if n.0.n == 2) && Arc::strong_count(&count) == 2);
        assert!(matches!(one.take(), Held::One(n) if n.0.n == 2) && one.is_none());
        assert!(matches!(one.get(), Held::None) && matches!(one.take(), Held::None));
        one = Both::boxed(Box::new((3, count.clone())));
        if let Held::Boxed(b) = one.get_mut() {
            b.0 += 1;
        }
        assert!(matches!(one.get(), Held::Boxed((4, _))) && Arc::strong_count(&count) == 2);
        assert!(matches!(one.take(), Held::Boxed(b) if b.0 == 4));
        drop((Both::one(number(5)), Both::boxed(Box::new((6, count.clone()))), Both::NONE));
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
