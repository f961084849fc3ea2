//! The values of the registrations: the `user` of each, which lives until the registration has ended and no function of
//! its table runs any more (`usk_user_release`).

use super::contain::contain;
use crate::errno::{Result, status};
use crate::sys::{usk_reg_t, usk_user_release};
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Value = Box<dyn Any + Send>;

/// What `user` points to: also a pointer to the value, which is its first member. It has an address that no other one
/// has, which values of a type without bytes would share.
#[repr(C)]
struct Home<P> {
    value: P,
    serial: u64,
}

/// The number of the next registration: none is used again, unlike the address of one.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The number of a registration.
/// # Safety
/// `user` is the `user` of a registration of a `P` by [`register`], which has not ended.
pub(crate) unsafe fn serial<P>(user: *mut c_void) -> u64 {
    // SAFETY: `register` made it, as the caller guarantees, and never changes it.
    unsafe { (*user.cast::<Home<P>>()).serial }
}

/// Each with its address, which is `user`.
static VALUES: Mutex<Vec<(usize, Value)>> = Mutex::new(Vec::new());

fn values() -> MutexGuard<'static, Vec<(usize, Value)>> {
    VALUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `value` the `user` of what `f` registers, which stores the registration; if that fails, it is dropped.
pub(crate) fn register<P: Any + Send>(
    value: P,
    f: impl FnOnce(*mut c_void, *mut *mut usk_reg_t) -> c_int,
) -> Result<*mut usk_reg_t> {
    let mut reg = null_mut();
    let user = keep(value);
    let registered = status(f(user, &mut reg));
    if registered.is_err() {
        end(user);
    } else {
        // SAFETY: registered just now.
        unsafe { usk_user_release(reg, Some(release)) };
    }
    registered.map(|()| reg)
}

/// Keeps a value; its `user`, until `end`.
fn keep<P: Any + Send>(value: P) -> *mut c_void {
    let mut home = Box::new(Home { value, serial: NEXT.fetch_add(1, Ordering::Relaxed) });
    // The address of the whole, and of `value`, which comes first.
    let user = std::ptr::from_mut(&mut *home);
    values().push((user as usize, home));
    user.cast()
}

/// The registration has ended.
unsafe extern "C" fn release(user: *mut c_void) {
    contain((), || end(user));
}

/// Drops the value with this `user`, if it is still there. Its drop runs without the lock.
fn end(user: *mut c_void) {
    let mut values = values();
    let at = values.iter().position(|(address, _)| *address == user as usize);
    let value = at.map(|at| values.swap_remove(at));
    if values.is_empty() {
        // The code may be unloaded without `end_all`: where the plug-in was refused.
        values.shrink_to_fit();
    }
    drop(values);
    drop(value);
}

/// Drops all of them: the plug-in's code is not used any more.
pub(crate) fn end_all() {
    let all = std::mem::take(&mut *values());
    drop(all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn values_without_bytes_are_told_apart() {
        static ENDED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        struct First;
        struct Second;
        impl Drop for First {
            fn drop(&mut self) {
                ENDED[0].fetch_add(1, Ordering::Relaxed);
            }
        }
        impl Drop for Second {
            fn drop(&mut self) {
                ENDED[1].fetch_add(1, Ordering::Relaxed);
            }
        }
        let ended = || ENDED.each_ref().map(|n| n.load(Ordering::Relaxed));
        let (first, second) = (keep(First), keep(Second));
        end(second);
        assert_eq!(ended(), [0, 1]);
        end(first);
        assert_eq!(ended(), [1, 1]);
    }

    /// What a UdpPort is known by, which may outlive its registration.
    #[test]
    fn a_registration_at_the_address_of_an_ended_one_has_another_number() {
        // SAFETY: of a value that is kept.
        let number = |user| unsafe { serial::<u64>(user) };
        let first = keep(1u64);
        let (address, of_first) = (first as usize, number(first));
        end(first);
        let mut others = Vec::new();
        let again = loop {
            let user = keep(2u64);
            assert!(number(user) > of_first);
            if user as usize == address || others.len() == 10_000 {
                break user;
            }
            others.push(user);
        };
        assert_eq!(again as usize, address, "no later value got the memory");
        others.into_iter().chain([again]).for_each(end);
    }
}
