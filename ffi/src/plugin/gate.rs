//! The gate of the calls that plug-ins make, and access to what their pointers point to. Above: every call of this
//! folder. `boundary` is the counterpart for programs.

use crate::boundary::panicked;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use usersock::error::{Error, Result};

/// The return type of a call of a plug-in, which has a value for each errno.
pub(crate) trait KernelValue {
    /// The return value for the error `e`.
    fn failed(e: Error) -> Self;
}
impl KernelValue for c_int {
    fn failed(e: Error) -> c_int {
        -e.errno()
    }
}
impl KernelValue for isize {
    fn failed(e: Error) -> isize {
        -(e.errno() as isize)
    }
}
impl KernelValue for i64 {
    fn failed(e: Error) -> i64 {
        -i64::from(e.errno())
    }
}
impl KernelValue for u32 {
    fn failed(_: Error) -> u32 {
        0
    }
}
impl KernelValue for u64 {
    fn failed(_: Error) -> u64 {
        0
    }
}
impl KernelValue for usize {
    fn failed(_: Error) -> usize {
        0
    }
}
impl KernelValue for () {
    fn failed(_: Error) {}
}
impl<T> KernelValue for *mut T {
    fn failed(_: Error) -> *mut T {
        std::ptr::null_mut()
    }
}
impl<T> KernelValue for *const T {
    fn failed(_: Error) -> *const T {
        std::ptr::null()
    }
}

/// The gate: errors to negative errnos, panics to EIO. Costs nothing on success, and does not change errno.
#[inline]
pub(crate) fn kernel<T: KernelValue>(f: impl FnOnce() -> Result<T>) -> T {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(v)) => v,
        Ok(Err(e)) => T::failed(e),
        Err(panic) => T::failed(panicked(panic)),
    }
}

/// What a plug-in's pointer points to. Plug-ins are part of the process as the kernel's modules are of the kernel: null
/// is refused, other addresses are trusted.
/// # Safety
/// `p` is null or readable as a `T`, and nobody writes to it while the result is used.
#[inline]
pub(crate) unsafe fn obj<'a, T>(p: *const T) -> Result<&'a T> {
    // SAFETY:, as the caller guarantees.
    unsafe { p.as_ref() }.ok_or(Error::Fault)
}

/// # Safety
/// `p` is null or writable as a `T`, and nobody else uses it while the result is.
#[inline]
pub(crate) unsafe fn obj_mut<'a, T>(p: *mut T) -> Result<&'a mut T> {
    // SAFETY:, as the caller guarantees.
    unsafe { p.as_mut() }.ok_or(Error::Fault)
}

/// Bytes of a plug-in. EFAULT: null with a length above 0.
/// # Safety
/// `p` is null or readable for `len` bytes.
pub(crate) unsafe fn slice<'a>(p: *const c_void, len: usize) -> Result<&'a [u8]> {
    // SAFETY:, as the caller guarantees.
    unsafe { items(p.cast(), len) }
}

/// An array of a plug-in. EFAULT: null with a length above 0.
/// # Safety
/// `p` is null or points to `count` of them.
pub(crate) unsafe fn items<'a, T>(p: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if p.is_null() || count > isize::MAX as usize / size_of::<T>() {
        return Err(Error::Fault);
    }
    // SAFETY: not null, readable, as the caller guarantees.
    Ok(unsafe { std::slice::from_raw_parts(p, count) })
}

/// Memory of a plug-in to be written. EFAULT: null with a length above 0.
/// # Safety
/// `p` is null or writable for `len` bytes.
pub(crate) unsafe fn slice_mut<'a>(p: *mut c_void, len: usize) -> Result<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if p.is_null() || len > isize::MAX as usize {
        return Err(Error::Fault);
    }
    // SAFETY: not null, writable, as the caller guarantees.
    Ok(unsafe { std::slice::from_raw_parts_mut(p.cast(), len) })
}
