//! A value that every packet reads and almost nobody ever replaces: a sock's protocol (until an upper-layer protocol takes over),
//! an interface's device (until a capture is wrapped around it). Reading the first value is one plain load, no lock and no count
//! of references; after a replacement readers take a read lock. Above: `sock`, `device::netdev`. Linux: rcu_dereference.

use crate::sys::lock::RwLock;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

/// See the module's text. The first value lives as long as this does, so that who reads it needs no count.
pub struct ReadMostly<T> {
    first: T,
    later: OnceLock<Box<RwLock<T>>>,
}

/// The value as it was when it was read.
pub enum Read<'a, T> {
    /// Never replaced.
    First(&'a T),
    /// A copy of what replaced it.
    Later(T),
}

impl<T: Clone> ReadMostly<T> {
    /// Begins with `first`.
    pub fn new(first: T) -> ReadMostly<T> {
        ReadMostly { first, later: OnceLock::new() }
    }

    /// The present value.
    #[inline]
    pub fn read(&self) -> Read<'_, T> {
        match self.later.get() {
            None => Read::First(&self.first),
            Some(later) => Read::Later(later.read().clone()),
        }
    }

    /// Replaces the value by what `f` makes of it. Who read it before may still work with it.
    pub fn replace(&self, f: impl FnOnce(&T) -> T) {
        let mut later = self.later.get_or_init(|| Box::new(RwLock::new(self.first.clone()))).write();
        *later = f(&later);
    }
}

impl<T: Clone> Read<'_, T> {
    /// A copy of one's own.
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

    #[test]
    fn a_reader_keeps_what_it_read_and_the_next_one_sees_the_replacement() {
        let r = ReadMostly::new(1);
        let before = r.read();
        r.replace(|v| v + 1);
        let between = r.read();
        r.replace(|v| v + 1);
        assert_eq!((*before, *between, *r.read(), r.read().cloned()), (1, 2, 3, 3));
    }
}
