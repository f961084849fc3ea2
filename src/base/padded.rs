//! A value alone on its cache lines, so that threads that write it do not slow down those that read or write its
//! neighbours. 128 bytes, because processors prefetch pairs of cache lines. Linux: ____cacheline_aligned_in_smp.

use std::ops::{Deref, DerefMut};

/// See the module's text.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Padded<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
