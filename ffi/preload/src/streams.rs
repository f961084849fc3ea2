//! stdio on sockets. The C library's streams read and write inside it, where no other library comes between; so a
//! stream on a socket of ours is one with functions of its own (fopencookie(3), `ffi/src/cookie.rs`). Such a stream has
//! no descriptor for fileno(3): its number is kept here.

use crate::descriptors::ours;
use crate::real::{find, interpose};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::Mutex;
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::fdtable::{self, Desc};
use usersock_ffi::stdio::usk_fdopen;

type File = *mut libc::FILE;

/// The streams on sockets of ours, by address, and their descriptors.
static STREAMS: PerProcess<Mutex<HashMap<usize, c_int>>> = PerProcess::new(Mutex::default);
/// How many there are: without any, nothing here looks further.
static COUNT: AtomicUsize = AtomicUsize::new(0);

interpose! {
    /// fdopen(3).
    fn fdopen(fd: c_int, mode: *const c_char) -> File,
    ours ours(fd) && !matches!(fdtable::get(fd), Some(Desc::Epoll(_)) | None) => remembered(fd, usk_fdopen(fd, mode)),
    else early(c"fdopen", |f| std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, *const c_char) -> File>(f)(
        fd, mode));

    /// fileno(3).
    fn fileno(file: File) -> c_int,
    ours any() => number_of(file, real::fileno(file)), else early(c"fileno", |f| of_file(f)(file));

    /// fileno_unlocked(3).
    fn fileno_unlocked(file: File) -> c_int,
    ours any() => number_of(file, real::fileno_unlocked(file)), else early(c"fileno_unlocked", |f| of_file(f)(file));

    /// fclose(3).
    fn fclose(file: File) -> c_int,
    ours any() => real::fclose(forgotten(file)), else early(c"fclose", |f| of_file(f)(file));
}

fn any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// A function of one stream.
/// # Safety
/// `f` is one.
unsafe fn of_file(f: *mut c_void) -> unsafe extern "C" fn(File) -> c_int {
    // SAFETY: as the caller says.
    unsafe { std::mem::transmute(f) }
}

/// A call of the real function before the constructor has run: no allocator calls these.
fn early<T>(name: &std::ffi::CStr, call: impl FnOnce(*mut c_void) -> T) -> T {
    call(find(name))
}

fn remembered(fd: c_int, file: File) -> File {
    if !file.is_null() {
        STREAMS.get().lock().insert(file as usize, fd);
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
    file
}

fn forgotten(file: File) -> File {
    if STREAMS.get().lock().remove(&(file as usize)).is_some() {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
    file
}

/// The descriptor of a stream, where `real` is what the C library says.
fn number_of(file: File, real: c_int) -> c_int {
    if real >= 0 {
        return real;
    }
    let error = errno();
    let known = STREAMS.get().lock().get(&(file as usize)).copied();
    set_errno(error);
    known.unwrap_or(real)
}
