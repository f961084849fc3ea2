//! Caches of freed objects: each thread keeps some for itself, without a lock, and threads exchange batches through a
//! shared cache, so that a thread which only allocates and one which only frees both gain. Above: `page`, `skb`. Linux:
//! the per-CPU caches of kmem_cache.

use crate::sys::fork::PerProcess;
use crate::sys::lock::Mutex;

/// The cache that all threads share: at most `most` objects.
pub(crate) struct Shared<T: 'static> {
    list: PerProcess<Mutex<Vec<T>>>,
    most: usize,
}

impl<T: Send> Shared<T> {
    pub(super) const fn new(most: usize) -> Self {
        Shared { list: PerProcess::new(|| Mutex::new(Vec::new())), most }
    }
}

/// The cache of one thread: at most `most` objects. More go to `shared`, and so do all when the thread ends.
pub(crate) struct Local<T: Send + 'static> {
    list: Vec<T>,
    most: usize,
    shared: &'static Shared<T>,
}

impl<T: Send> Local<T> {
    pub(super) const fn new(most: usize, shared: &'static Shared<T>) -> Self {
        Local { list: Vec::new(), most, shared }
    }

    /// Takes a freed object. None: both caches are empty.
    #[inline]
    pub(super) fn take(&mut self) -> Option<T> {
        if self.list.is_empty() {
            self.fetch();
        }
        self.list.pop()
    }

    #[inline(never)]
    fn fetch(&mut self) {
        let mut shared = self.shared.list.get().lock();
        let left = shared.len().saturating_sub(self.most / 2);
        self.list.extend(shared.drain(left..));
    }

    /// Keeps an object for reuse.
    #[inline]
    pub(super) fn put(&mut self, one: T) {
        // Its capacity never exceeds `most`: one comparison serves both.
        if self.list.len() == self.list.capacity() {
            self.make_room();
        }
        self.list.push(one);
    }

    #[inline(never)]
    fn make_room(&mut self) {
        if self.list.capacity() < self.most {
            self.list.reserve_exact(self.most - self.list.len());
        } else {
            self.give_back(self.most / 2);
        }
    }

    #[inline(never)]
    fn give_back(&mut self, keep: usize) {
        let mut shared = self.shared.list.get().lock();
        let room = self.shared.most.saturating_sub(shared.len());
        let mut going = self.list.drain(keep.min(self.list.len())..);
        shared.extend(going.by_ref().take(room));
        // Objects beyond the limit are freed without the lock.
        drop(shared);
    }
}

impl<T: Send> Drop for Local<T> {
    fn drop(&mut self) {
        self.give_back(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_one_thread_frees_serves_another_within_the_bounds() {
        static SHARED: Shared<u32> = Shared::new(6);
        let mut a = Local::new(4, &SHARED);
        assert_eq!(a.take(), None);
        (0..5).for_each(|n| a.put(n));
        assert_eq!((a.list.len(), SHARED.list.get().lock().len()), (3, 2));
        let mut b = Local::new(4, &SHARED);
        assert_eq!(b.take(), Some(3));
        assert_eq!((b.list.len(), SHARED.list.get().lock().len()), (1, 0), "half of what it may have");
        (0..20).for_each(|n| b.put(n));
        assert!(b.list.len() <= 4 && SHARED.list.get().lock().len() == 6);
        drop(a);
        assert_eq!(SHARED.list.get().lock().len(), 6);
    }
}
