//! A value of any type in memory that is there for it already: a protocol's part of a sock lies inside the sock, so
//! that both are one allocation and their cache lines can be asked for together. What is larger is boxed. Also: an Arc
//! whose value is made in its memory. Above: `sock`. Unsafe because the type is known to the value and not to the
//! compiler, and because the memory is there before the value. Linux: `obj_size` of struct proto, the size of a sock
//! with its protocol's part.

use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

/// Bytes of a value in place: TCP's part of a sock.
pub(crate) const ROOM: usize = 624;
/// Words of it.
const WORDS: usize = ROOM / size_of::<usize>();

/// What is known of the type of a value. `at` is the value, or the box of one that does not fit.
struct Kind {
    id: fn() -> TypeId,
    drop: unsafe fn(*mut ()),
}

struct Of<T>(PhantomData<T>);

impl<T: Any + Send> Of<T> {
    const IN_PLACE: bool = size_of::<T>() <= ROOM && align_of::<T>() <= align_of::<usize>();
    const KIND: &'static Kind = &Kind { id: TypeId::of::<T>, drop: Of::<T>::drop };

    /// # Safety
    /// `at` is the memory of a `Place` of this kind, which is not used again.
    unsafe fn drop(at: *mut ()) {
        // SAFETY: `Place::new` wrote a T there, or a Box<T>, by the same constant; the caller gives it up.
        unsafe {
            match Self::IN_PLACE {
                true => ptr::drop_in_place(at.cast::<T>()),
                false => ptr::drop_in_place(at.cast::<Box<T>>()),
            }
        }
    }
}

/// See the module's text.
pub struct Place {
    kind: &'static Kind,
    room: MaybeUninit<[usize; WORDS]>,
    /// Send as every value is; not Sync.
    holds: PhantomData<dyn Any + Send>,
}

impl Place {
    /// Holds a value.
    #[inline(always)]
    pub fn new<T: Any + Send>(value: T) -> Place {
        let mut place = Place { kind: Of::<()>::KIND, room: MaybeUninit::uninit(), holds: PhantomData };
        place.fill(value);
        place
    }

    /// Drops the value, and holds the one that `make` returns. Where that is inlined, and nothing in it panics while
    /// there is a part of the value, the compiler makes it where it stays.
    #[inline(always)]
    pub fn set_with<T: Any + Send>(&mut self, make: impl FnOnce() -> T) {
        // If dropping the old one panics, or `make` does, there is none.
        let drop = std::mem::replace(&mut self.kind, Of::<()>::KIND).drop;
        // SAFETY: the value is of the kind of this function, and from here on nobody takes the place for one of it.
        unsafe { drop(self.room.as_mut_ptr().cast()) };
        self.fill(make());
    }

    /// Writes a value where there is none that has to be dropped.
    #[inline(always)]
    fn fill<T: Any + Send>(&mut self, value: T) {
        let at = self.room.as_mut_ptr();
        // SAFETY: the room is exclusively ours, aligned as a usize, and large enough for what is written: for a T by
        // the test, for a Box always.
        unsafe {
            match Of::<T>::IN_PLACE {
                true => at.cast::<T>().write(value),
                false => at.cast::<Box<T>>().write(Box::new(value)),
            }
        }
        self.kind = Of::<T>::KIND;
    }

    /// Whether the value is a T.
    #[inline]
    pub fn is<T: Any + Send>(&self) -> bool {
        // The same `Kind` has the same `id`; the compiler may have made several of a type.
        ptr::eq(self.kind, Of::<T>::KIND) || self.is_by_id(TypeId::of::<T>())
    }

    #[cold]
    fn is_by_id(&self, id: TypeId) -> bool {
        (self.kind.id)() == id
    }

    /// The value, if it is a T.
    #[inline]
    pub fn downcast_ref<T: Any + Send>(&self) -> Option<&T> {
        if !self.is::<T>() {
            return None;
        }
        let at = self.room.as_ptr();
        // SAFETY: the value is a T, of which `new` wrote it or its box here; borrowed as `self` is.
        Some(unsafe {
            match Of::<T>::IN_PLACE {
                true => &*at.cast::<T>(),
                false => &**at.cast::<Box<T>>(),
            }
        })
    }

    /// The same, to change it.
    #[inline]
    pub fn downcast_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        if !self.is::<T>() {
            return None;
        }
        let at = self.room.as_mut_ptr();
        // SAFETY: as in `downcast_ref`, and borrowed mutably.
        Some(unsafe {
            match Of::<T>::IN_PLACE {
                true => &mut *at.cast::<T>(),
                false => &mut **at.cast::<Box<T>>(),
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (drop, at) = (self.kind.drop, self.room.as_mut_ptr().cast());
        // SAFETY: the value is of this kind, and nothing uses it after this.
        unsafe { drop(at) }
    }
}

/// An Arc of what `make` returns, which is made where it stays, as in [`Place::set_with`]. [`Arc::new`] has its value
/// before the memory, and copies a large one there.
#[inline(always)]
pub(crate) fn arc_with<T>(make: impl FnOnce() -> T) -> Arc<T> {
    let mut arc = Arc::new_uninit();
    match Arc::get_mut(&mut arc) {
        Some(place) => place.write(make()),
        None => unreachable!("another reference to an Arc that was made here"),
    };
    // SAFETY: the only way here has written the value.
    unsafe { arc.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Any + Send>(value: T, in_place: bool, same: impl Fn(&T) -> bool) {
        assert_eq!(Of::<T>::IN_PLACE, in_place);
        let mut place = Place::new(value);
        let mut moved = std::mem::replace(&mut place, Place::new(0_u8));
        assert!(moved.is::<T>() && same(moved.downcast_ref().unwrap()) && same(moved.downcast_mut().unwrap()));
        assert!(moved.downcast_ref::<u16>().is_none() && moved.downcast_mut::<u16>().is_none());
        let (start, at) = (&raw const moved as usize, moved.downcast_ref::<T>().unwrap() as *const T as usize);
        assert_eq!((start..start + size_of::<Place>()).contains(&at), in_place);
        assert_eq!(place.downcast_ref(), Some(&0_u8));
    }

    #[test]
    fn a_value_is_found_by_its_type_and_dropped_once() {
        let count = Arc::new(());
        let one = |_: &_| Arc::strong_count(&count) == 2;
        check(count.clone(), true, one);
        assert_eq!(Arc::strong_count(&count), 1);
        check((count.clone(), [7_u8; ROOM]), false, |v: &(Arc<()>, _)| one(&v.0) && v.1 == [7; ROOM]);
        assert_eq!(Arc::strong_count(&count), 1);
        check([3_u64; WORDS], true, |v| *v == [3; WORDS]);
        check(1_u128, false, |v| *v == 1);
        check((), true, |()| true);
    }

    #[test]
    fn a_value_that_is_replaced_is_dropped_once() {
        let count = Arc::new(());
        let mut place = Place::new(count.clone());
        place.set_with(|| (count.clone(), [7_u8; ROOM]));
        assert_eq!(Arc::strong_count(&count), 2);
        assert!(place.downcast_ref::<(Arc<()>, [u8; ROOM])>().is_some_and(|v| v.1 == [7; ROOM]));
        place.set_with(|| count.clone());
        assert_eq!((Arc::strong_count(&count), place.downcast_ref()), (2, Some(&count)));
        drop(place);
        assert_eq!(Arc::strong_count(&count), 1);
    }
    #[test]
    fn an_arc_has_the_value_that_was_made_for_it_and_drops_it_once() {
        let count = Arc::new(());
        let arc = arc_with(|| (count.clone(), [7_u8; ROOM]));
        assert_eq!((Arc::strong_count(&count), arc.1), (2, [7; ROOM]));
        drop(arc);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}
