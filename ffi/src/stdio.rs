//! A FILE of the C library over a descriptor: for sockets of ours by `cookie`.

use crate::boundary::{boundary, last_os};
use crate::fdtable::{self, Desc};
use crate::{cookie, ptr};
use std::ffi::{CStr, c_char, c_int};
use usersock::error::{Error, Result};

/// A mode as fdopen(3) reads it: one of r, w and a, and whether a + follows among the next characters.
fn parsed(mode: &[u8]) -> Result<&'static CStr> {
    // What stands behind a comma is about character sets.
    let plus = mode.iter().take(7).take_while(|b| **b != b',').any(|b| *b == b'+');
    match (mode.first(), plus) {
        (Some(b'r'), false) => Ok(c"r"),
        (Some(b'w'), false) => Ok(c"w"),
        (Some(b'a'), false) => Ok(c"a"),
        (Some(b'r'), true) => Ok(c"r+"),
        (Some(b'w'), true) => Ok(c"w+"),
        (Some(b'a'), true) => Ok(c"a+"),
        _ => Err(Error::Inval),
    }
}

/// As fdopen(3), for any descriptor: fclose(3) closes it. Returns null with errno EBADF or EINVAL (mode). Of a stream
/// on a socket of usersock, fileno(3) is not the descriptor, but -1.
/// # Safety
/// `mode` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_fdopen(fd: c_int, mode: *const c_char) -> *mut libc::FILE {
    boundary(|| {
        // SAFETY: a string by the caller's word.
        let known = parsed(unsafe { ptr::string(mode) }?.as_bytes())?;
        let file = match fdtable::get(fd) {
            Some(Desc::Socket(_)) => cookie::open(fd, known),
            Some(Desc::Inherited(_)) => return Err(Error::NetDown),
            // SAFETY: passes the program's own arguments on.
            Some(Desc::Epoll(_)) | None => unsafe { libc::fdopen(fd, mode) },
        };
        if file.is_null() { Err(last_os()) } else { Ok(file) }
    })
}
