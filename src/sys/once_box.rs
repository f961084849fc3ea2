//! A box that is made when it is first needed: one word, where `OnceLock<Box<T>>` takes two. For what few of a million
//! socks have. Above: `sock`, `base::read_mostly`. Unsafe because the word is an atomic pointer.

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// See the module's text.
pub(crate) struct OnceBox<T> {
    at: AtomicPtr<T>,
    /// Owns a value, which is reached from every thread that has the box.
    owns: PhantomData<Box<T>>,
}

// SAFETY: `&OnceBox<T>` gives out `&T`, and takes a T from the thread that made it; as OnceLock.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}

impl<T> OnceBox<T> {
    /// Empty.
    pub(crate) const fn new() -> OnceBox<T> {
        OnceBox { at: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// The value, if there is one.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: null, or a box that `get_or_init` published and that lives until `self` is dropped.
        unsafe { self.at.load(Ordering::Acquire).as_ref() }
    }

    /// The value, which is made if there is none. Of two threads that make it at once, one's is dropped.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(there) = self.get() {
            return there;
        }
        let new = Box::into_raw(Box::new(make()));
        let at = match self.at.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(there) => {
                // SAFETY: it came from the box above and was not published.
                drop(unsafe { Box::from_raw(new) });
                there
            }
        };
        // SAFETY: as in `get`; it is not null.
        unsafe { &*at }
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        let at = *self.at.get_mut();
        if !at.is_null() {
            // SAFETY: it came from a box, of which this is the only owner, and no reference is left.
            drop(unsafe { Box::from_raw(at) });
        }
    }
}

impl<T> Default for OnceBox<T> {
    fn default() -> OnceBox<T> {
        OnceBox::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn all_threads_find_the_same_value_and_every_value_is_dropped() {
        assert_eq!(size_of::<OnceBox<[u64; 9]>>(), size_of::<usize>());
        let (count, cell) = (Arc::new(()), OnceBox::new());
        assert!(cell.get().is_none());
        let start = Barrier::new(4);
        let found: Vec<usize> = std::thread::scope(|s| {
            let one = |n| {
                start.wait();
                &raw const *cell.get_or_init(|| (count.clone(), n)) as usize
            };
            let all: Vec<_> = (0..4).map(|n| s.spawn(move || one(n))).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(found.iter().all(|at| *at == cell.get().map(|v| &raw const *v as usize).unwrap()));
        assert_eq!(Arc::strong_count(&count), 2);
        drop(cell);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
