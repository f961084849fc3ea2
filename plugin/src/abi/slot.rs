//! What this crate keeps in the memory that a table asks for: of a sock, of a connection.

use crate::sys::{usk_cong_t, usk_reg_t};
use std::mem::MaybeUninit;

/// All zero at first: no data yet. `home` is the value of the registration, `reg` its handle.
#[repr(C)]
pub(crate) struct Slot<P, T> {
    pub(crate) reg: *mut usk_reg_t,
    pub(crate) home: *const P,
    /// The algorithm that a protocol has borrowed; null: none.
    pub(crate) cong: *mut usk_cong_t,
    filled: bool,
    data: MaybeUninit<T>,
}

impl<P, T> Slot<P, T> {
    pub(crate) fn fill(&mut self, data: T) {
        self.clear();
        self.data = MaybeUninit::new(data);
        self.filled = true;
    }

    pub(crate) fn get(&mut self) -> Option<&mut T> {
        // SAFETY: filled, and not cleared since.
        self.filled.then(|| unsafe { self.data.assume_init_mut() })
    }

    /// # Safety
    /// `home` is null or valid.
    pub(crate) unsafe fn peek(&self) -> Option<(&P, &T)> {
        // SAFETY: filled, and not cleared since; the caller vouches for `home`.
        unsafe { if self.filled { Some((self.home.as_ref()?, self.data.assume_init_ref())) } else { None } }
    }

    /// Drops the data, once, though that panics.
    pub(crate) fn clear(&mut self) {
        if std::mem::replace(&mut self.filled, false) {
            // SAFETY: filled until now.
            unsafe { self.data.assume_init_drop() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn data_is_dropped_once() {
        // SAFETY: all zero is the empty slot.
        let mut slot: Slot<(), Rc<()>> = unsafe { std::mem::zeroed() };
        let one = Rc::new(());
        assert!(slot.get().is_none());
        slot.fill(one.clone());
        assert!(slot.get().is_some_and(|data| Rc::ptr_eq(data, &one)));
        slot.fill(one.clone());
        assert_eq!(Rc::strong_count(&one), 2, "the first is gone");
        slot.clear();
        slot.clear();
        assert_eq!((slot.get().is_none(), Rc::strong_count(&one)), (true, 1));
    }
}
