//! stdio on sockets. The C library's streams read and write inside it, where no other library comes between; so a
//! stream on a socket of ours is one with functions of its own (fopencookie(3), `ffi/src/cookie.rs`). Such a stream has
//! no descriptor for fileno(3): its number is kept here. And where a socket of ours becomes descriptor 0, 1 or 2,
//! stdin, stdout and stderr point to such a stream for as long as it is one: so a shell's builtin writes to a socket.

use crate::real::{find, interpose};
use crate::role::{Role, role};
use crate::whose::ours;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::Mutex;
use usersock::internal::sys::signal::postponed::outside;
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
    // What it flushes are calls of their own, with handlers at their ends.
    ours any() => outside(|| real::fclose(forgotten(file))), else early(c"fclose", |f| of_file(f)(file));
}

unsafe extern "C" {
    static mut stdin: File;
    static mut stdout: File;
    static mut stderr: File;
}

/// A standard stream while its descriptor is a socket of ours.
struct Standard {
    /// The stream on the socket; made once, as it names the descriptor only.
    ours: AtomicPtr<libc::FILE>,
    /// The program's own stream, while ours is in its place.
    kept: AtomicPtr<libc::FILE>,
}

static STANDARD: [Standard; 3] =
    [const { Standard { ours: AtomicPtr::new(std::ptr::null_mut()), kept: AtomicPtr::new(std::ptr::null_mut()) } }; 3];

/// The variable that names the stream of descriptor `fd`, of 0 to 2.
fn variable(fd: usize) -> *mut File {
    match fd {
        0 => &raw mut stdin,
        1 => &raw mut stdout,
        _ => &raw mut stderr,
    }
}

/// Before descriptor `to` becomes a socket of ours: what the program has written to the stream goes where it was to
/// go.
pub(crate) fn flush(fd: c_int, to: c_int) {
    if (1..=2).contains(&to) && ours(fd) {
        // SAFETY: a stream of the program's.
        outside(|| unsafe { libc::fflush(*variable(to as usize)) });
    }
}

/// After descriptor `fd` has become another one, or none: its standard stream follows. Returns `fd`.
pub(crate) fn follow(fd: c_int) -> c_int {
    let Some(standard) = usize::try_from(fd).ok().and_then(|fd| STANDARD.get(fd)) else { return fd };
    if role() != Role::Owner {
        return fd;
    }
    let (saved, variable) = (errno(), variable(fd as usize));
    let kept = standard.kept.load(Ordering::Acquire);
    match fdtable::get(fd) {
        Some(Desc::Socket(_)) if kept.is_null() => {
            let mut file = standard.ours.load(Ordering::Acquire);
            if file.is_null() {
                let mode = if fd == 0 { c"r" } else { c"w" };
                // SAFETY: a string.
                file = remembered(fd, unsafe { usk_fdopen(fd, mode.as_ptr()) });
                standard.ours.store(file, Ordering::Release);
            }
            if !file.is_null() {
                if fd == 2 {
                    // SAFETY: a stream that was just made, or has been flushed: stderr has no buffer.
                    unsafe { libc::setvbuf(file, std::ptr::null_mut(), libc::_IONBF, 0) };
                }
                // SAFETY: the variable is the C library's. A thread that reads it meanwhile finds one of two streams.
                let before = unsafe { std::mem::replace(&mut *variable, file) };
                standard.kept.store(before, Ordering::Release);
            }
        }
        Some(Desc::Socket(_)) => {}
        _ if !kept.is_null() => {
            // As with one stream: what is in its buffer goes to the new descriptor.
            // SAFETY: our stream, which is not closed while it is the program's.
            outside(|| unsafe { libc::fflush(standard.ours.load(Ordering::Acquire)) });
            // SAFETY: as above.
            unsafe { *variable = kept };
            standard.kept.store(std::ptr::null_mut(), Ordering::Release);
        }
        _ => {}
    }
    set_errno(saved);
    fd
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
        for standard in &STANDARD {
            let _ = standard.ours.compare_exchange(file, std::ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
        }
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
