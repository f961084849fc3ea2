//! The one gate of all exports: errors to errno, panics to EIO.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use usersock::error::{Error, Result};

/// What an export returns: its value, or -1.
pub trait CValue {
    /// The value for an error, which is in errno.
    const FAILED: Self;
}
impl CValue for i32 {
    const FAILED: i32 = -1;
}
impl CValue for isize {
    const FAILED: isize = -1;
}
impl CValue for i64 {
    const FAILED: i64 = -1;
}
impl<T> CValue for *mut T {
    const FAILED: *mut T = std::ptr::null_mut();
}

/// The calling thread's errno.
pub fn errno() -> i32 {
    // SAFETY: __errno_location gives this thread's errno, valid as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

/// Sets it.
pub fn set_errno(e: i32) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = e }
}

/// Runs a call. Changes errno only on failure, whatever system calls `f` made.
pub fn boundary<T: CValue>(f: impl FnOnce() -> Result<T>) -> T {
    let saved = errno();
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(v)) => {
            set_errno(saved);
            v
        }
        Ok(Err(e)) => {
            set_errno(e.errno());
            T::FAILED
        }
        Err(panic) => {
            set_errno(panicked(panic).errno());
            T::FAILED
        }
    }
}

/// The errno of a caught panic. A cold function, to keep the usual path short.
#[cold]
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Error {
    drop(panic);
    Error::Io
}

/// The error a system call of the kernel just left in errno.
pub fn last_os() -> Error {
    Error::try_from_errno(errno()).unwrap_or(Error::Io)
}

/// The result of a kernel system call that returns -1 on failure.
pub fn os(r: isize) -> Result<isize> {
    if r < 0 { Err(last_os()) } else { Ok(r) }
}
