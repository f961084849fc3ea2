//! The library preloaded into packetdrill: libc functions that packetdrill calls directly and that concern the stack,
//! or real time. `getsockopt` (the data of a script's code blocks) and `sendfile` on our descriptors are implemented
//! here; `system` (the commands of a script) is wrapped, so that the commands can read the stack's state and the stack
//! applies their changes. Everything else goes to the next definition, libc's own.

use crate::instance;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use usersock_ffi::fdtable::{self, Desc};
use usersock_ffi::{boundary, socket, transfer};

/// The dynamic linker calls this when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// The shells and tools that a script starts must not carry the library.
extern "C" fn at_load() {
    // SAFETY: runs before the program's `main` or inside dlopen on packetdrill's main thread, while no other thread of
    // it reads the environment.
    unsafe { libc::unsetenv(c"LD_PRELOAD".as_ptr()) };
}

/// The next definition of a libc function behind this library. Ends the process if there is none, which cannot happen
/// with libc loaded.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: `name` is a string; RTLD_NEXT is meant for this use.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        eprintln!("usersock: no {} in libc", name.to_string_lossy());
        std::process::abort();
    }
    found
}

/// The next definition, looked up once.
macro_rules! real {
    ($name:literal as $ty:ty) => {{
        static REAL: OnceLock<usize> = OnceLock::new();
        let found = *REAL.get_or_init(|| next($name) as usize);
        // SAFETY: the symbol is libc's function of this name, and this is its type.
        unsafe { std::mem::transmute::<usize, $ty>(found) }
    }};
}

type Getsockopt = unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void, *mut libc::socklen_t) -> c_int;
type Sendfile = unsafe extern "C" fn(c_int, c_int, *mut libc::off64_t, usize) -> isize;
type Times = unsafe extern "C" fn(*mut libc::tms) -> libc::clock_t;
type System = unsafe extern "C" fn(*const c_char) -> c_int;

fn is_ours(fd: c_int) -> bool {
    matches!(fdtable::get(fd), Some(Desc::Socket(_)))
}

/// getsockopt(2).
/// # Safety
/// As getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut libc::socklen_t,
) -> c_int {
    match instance() {
        // SAFETY: the caller's own promises.
        Some(us) if is_ours(fd) => us.call(|| unsafe { socket::usk_getsockopt(fd, level, name, value, len) }),
        _ => {
            let real = real!(c"getsockopt" as Getsockopt);
            // SAFETY: the caller's own promises.
            unsafe { real(fd, level, name, value, len) }
        }
    }
}

/// sendfile(2).
/// # Safety
/// As sendfile(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(out: c_int, from: c_int, offset: *mut libc::off64_t, count: usize) -> isize {
    match instance() {
        // SAFETY: the caller's own promises.
        Some(us) if is_ours(out) => us.call(|| unsafe { transfer::usk_sendfile(out, from, offset, count) }),
        _ => {
            let real = real!(c"sendfile" as Sendfile);
            // SAFETY: the caller's own promises.
            unsafe { real(out, from, offset, count) }
        }
    }
}

/// times(2), which packetdrill polls for ten ticks, to begin its script in the middle of a tick. In virtual time each
/// call returns the next tick.
/// # Safety
/// As times(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn times(buf: *mut libc::tms) -> libc::clock_t {
    static TICKS: AtomicI64 = AtomicI64::new(0);
    let real = real!(c"times" as Times);
    // SAFETY: the caller's own promises.
    let now = unsafe { real(buf) };
    match instance() {
        Some(_) => TICKS.fetch_add(1, Ordering::Relaxed),
        None => now,
    }
}

/// mlockall(2), which packetdrill calls at its start to keep time. It would fill every page of the stack's mappings;
/// virtual time waits for page faults. 0.
#[unsafe(no_mangle)]
pub extern "C" fn mlockall(_flags: c_int) -> c_int {
    0
}

/// sched_setscheduler(2), by which packetdrill takes real-time priority to keep time. Virtual time does not need it,
/// and a machine that plays many scripts needs its processors. 0.
/// # Safety
/// As sched_setscheduler(2): `param` is not read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sched_setscheduler(
    _pid: libc::pid_t,
    _policy: c_int,
    _param: *const libc::sched_param,
) -> c_int {
    0
}

/// system(3): writes the stack's state for the command before it, and applies the command's changes to the stack after
/// it. -1 with errno EIO, and a message, if either fails.
/// # Safety
/// As system(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    let real = real!(c"system" as System);
    let failed = |message: String| {
        eprintln!("usersock: {message}");
        boundary::set_errno(libc::EIO);
        -1
    };
    let us = instance().filter(|_| !command.is_null());
    if let Some(Err(message)) = us.map(|us| us.before_command()) {
        return failed(message);
    }
    // SAFETY: the caller's own promises.
    let status = unsafe { real(command) };
    match us.map(|us| us.after_command()) {
        Some(Err(message)) => failed(message),
        _ => status,
    }
}
