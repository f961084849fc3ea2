//! fopencookie(3): a FILE whose reads and writes are `io`'s. Above: `stdio`.

use crate::boundary::{errno, set_errno};
use crate::io::{usk_read, usk_write};
use crate::socket::usk_close;
use std::ffi::{CStr, c_char, c_int, c_void};
use usersock::internal::sys::signal::postponed::{enter, leave};

/// A call of the C library's on our descriptor, at whose end handlers of signals run that came in it, as the preload
/// library has them.
fn called(mut call: impl FnMut() -> isize) -> isize {
    loop {
        enter();
        let n = call();
        if !(leave() && n == -1 && errno() == libc::EINTR) {
            return n;
        }
    }
}

/// The cookie is the descriptor.
unsafe extern "C-unwind" fn read(cookie: *mut c_void, buf: *mut c_char, len: usize) -> isize {
    // SAFETY: the C library's buffer.
    called(|| unsafe { usk_read(cookie as usize as c_int, buf.cast(), len) })
}

/// Writes all of it, as the C library does to a descriptor: what is not written is an error.
unsafe extern "C-unwind" fn write(cookie: *mut c_void, buf: *const c_char, len: usize) -> isize {
    let mut done = 0;
    while done < len {
        // SAFETY: the C library's buffer, of which `done` bytes are written.
        match called(|| unsafe { usk_write(cookie as usize as c_int, buf.add(done).cast(), len - done) }) {
            n if n > 0 => done += n as usize,
            _ => break,
        }
    }
    done as isize
}

extern "C" fn seek(_: *mut c_void, _: *mut i64, _: c_int) -> c_int {
    set_errno(libc::ESPIPE);
    -1
}

extern "C-unwind" fn close(cookie: *mut c_void) -> c_int {
    usk_close(cookie as usize as c_int)
}

/// A stream on socket `fd`; null with errno where there is no memory.
pub(crate) fn open(fd: c_int, mode: &CStr) -> *mut libc::FILE {
    /// cookie_io_functions_t.
    #[repr(C)]
    struct CookieIoFunctions {
        read: unsafe extern "C-unwind" fn(*mut c_void, *mut c_char, usize) -> isize,
        write: unsafe extern "C-unwind" fn(*mut c_void, *const c_char, usize) -> isize,
        seek: extern "C" fn(*mut c_void, *mut i64, c_int) -> c_int,
        close: extern "C-unwind" fn(*mut c_void) -> c_int,
    }
    unsafe extern "C" {
        fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: CookieIoFunctions) -> *mut libc::FILE;
    }
    let functions = CookieIoFunctions { read, write, seek, close };
    // SAFETY: the four are of the types of cookie_io_functions_t, the mode is a string.
    unsafe { fopencookie(fd as usize as *mut c_void, mode.as_ptr(), functions) }
}
