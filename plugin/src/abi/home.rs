//! The values of the registrations: the `user` of each, which lives until its stack ends, or until the plug-in's code
//! is no longer used (`usk_plugin_exit`).

use crate::errno::{Result, status};
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Value = Box<dyn Any + Send>;

/// Each with its address, which is `user`.
static VALUES: Mutex<Vec<(usize, Value)>> = Mutex::new(Vec::new());

fn values() -> MutexGuard<'static, Vec<(usize, Value)>> {
    VALUES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `value` the `user` of what `f` registers; if that fails, it is dropped.
pub(crate) fn register<P: Any + Send>(value: P, f: impl FnOnce(*mut c_void) -> c_int) -> Result<()> {
    let mut value = Box::new(value);
    let user = std::ptr::from_mut(&mut *value);
    values().push((user as usize, value));
    let registered = status(f(user.cast()));
    if registered.is_err() {
        end(user.cast());
    }
    registered
}

/// Drops the value with this `user`, if it is still there. Its drop runs without the lock.
pub(crate) fn end(user: *mut c_void) {
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
