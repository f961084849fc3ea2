//! Whose a descriptor is, by its number. Above: all files of interposed functions. Below: `fdtable::numbers`.

use std::ffi::{c_int, c_uint};
use usersock::internal::sys::fork::{is_own, next_own};
use usersock_ffi::fdtable::numbers;

/// Whether a descriptor may be one of ours.
#[inline(always)]
pub(crate) fn ours(fd: c_int) -> bool {
    numbers().contains(fd)
}

/// Whether a descriptor is one of ours or of the library itself.
#[inline(always)]
pub(crate) fn special(fd: c_int) -> bool {
    ours(fd) || is_own(fd)
}

/// The lowest of ours and of the library's own from `fd` on, up to `last`.
pub(crate) fn next_special(fd: c_uint, last: c_uint) -> Option<c_int> {
    let fd = c_int::try_from(fd).ok()?;
    let next = [numbers().next(fd), next_own(fd)].into_iter().flatten().min()?;
    (next as c_uint <= last).then_some(next)
}
