//! What this process is to the stack. Above: `load`, which decides it, and all that makes or uses a socket.

use std::ffi::{CStr, c_int, c_long};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use usersock::internal::sys::raw;

/// See the module's text.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// The constructor has not run.
    Early,
    /// It runs.
    Loading,
    /// The stack is this process's.
    Owner,
    /// The stack is that of the process that started this program.
    Helper,
    /// The stack is that of the process that forked this one.
    Child,
    /// The stack is a server's; so are all sockets, in any process.
    Spliced,
}

static ROLE: AtomicU8 = AtomicU8::new(Role::Early as u8);
/// The process that `ROLE` is about. One that shares its memory (vfork) has another number.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// Whose stack it is.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// The role of this process.
#[inline]
pub(crate) fn role() -> Role {
    match ROLE.load(Ordering::Acquire) {
        x if x == Role::Early as u8 => Role::Early,
        x if x == Role::Loading as u8 => Role::Loading,
        x if x == Role::Owner as u8 => Role::Owner,
        x if x == Role::Helper as u8 => Role::Helper,
        x if x == Role::Spliced as u8 => Role::Spliced,
        _ => Role::Child,
    }
}

/// Whether a stack server has the sockets.
#[inline(always)]
pub(crate) fn serves() -> bool {
    ROLE.load(Ordering::Acquire) == Role::Spliced as u8
}

/// Begins to load: false when another thread did, or when it is done.
pub(crate) fn begin() -> bool {
    let (early, loading) = (Role::Early as u8, Role::Loading as u8);
    ROLE.compare_exchange(early, loading, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// Decides the role; `owner` is the process that has the stack.
pub(crate) fn decide(role: Role, owner: c_int) {
    PROCESS.store(process(), Ordering::Relaxed);
    OWNER.store(owner, Ordering::Relaxed);
    ROLE.store(role as u8, Ordering::Release);
}

/// In a child of fork(2): the stack stays its parent's.
pub(crate) extern "C" fn in_child() {
    PROCESS.store(process(), Ordering::Relaxed);
    if role() == Role::Owner {
        ROLE.store(Role::Child as u8, Ordering::Release);
    }
}

/// The number of this process, as the kernel knows it.
pub(crate) fn process() -> c_int {
    // SAFETY: getpid takes no argument.
    unsafe { raw::call(libc::SYS_getpid, [0; 6]) as c_int }
}

/// Whether this process borrows the memory of the one that the tables are about: between vfork(2) and exec(2), or made
/// by clone(2). It must leave them alone, and does with descriptors what the kernel does.
pub(crate) fn borrowed() -> bool {
    process() != PROCESS.load(Ordering::Relaxed)
}

/// The name of the program.
pub(crate) fn program() -> &'static str {
    unsafe extern "C" {
        static program_invocation_short_name: *const std::ffi::c_char;
    }
    // SAFETY: the C library sets it, to a string that lives as long as the process, before any constructor runs.
    let name = unsafe { program_invocation_short_name };
    if name.is_null() {
        return "?";
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("?")
}

/// One line on stderr. By instruction, since descriptor 2 is the program's; where that is a socket of ours (inetd's
/// children have one), on the stderr of the process that has the stack.
pub(crate) fn say(line: &str) {
    let text = format!("usersock: {line}\n");
    // SAFETY: the text is readable for its length.
    let said = unsafe { raw::call(libc::SYS_write, [2, text.as_ptr() as c_long, text.len() as c_long, 0, 0, 0]) };
    let owner = OWNER.load(Ordering::Relaxed);
    if said == -1 && usersock_ffi::boundary::errno() == libc::ENOTCONN && owner != 0 {
        say_by(owner, &text);
    }
}

/// Writes on the stderr of another process, if that can be done at once and harms nobody.
fn say_by(owner: c_int, text: &str) {
    let path = format!("/proc/{owner}/fd/2\0");
    let how = c_long::from(libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC);
    let at = c_long::from(libc::AT_FDCWD);
    // SAFETY: a string that ends with a null.
    let fd = unsafe { raw::call(libc::SYS_openat, [at, path.as_ptr() as c_long, how, 0, 0, 0]) };
    if fd == -1 {
        return;
    }
    let mut ready = libc::pollfd { fd: fd as c_int, events: libc::POLLOUT, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one pollfd, a time and the text, each readable; the descriptor is ours.
    unsafe {
        raw::call(libc::SYS_ppoll, [&raw mut ready as c_long, 1, &raw const now as c_long, 0, 0, 0]);
        // A pipe that nobody reads would end the process by SIGPIPE.
        if ready.revents & (libc::POLLERR | libc::POLLHUP) == 0 {
            raw::call(libc::SYS_write, [fd, text.as_ptr() as c_long, text.len() as c_long, 0, 0, 0]);
        }
        raw::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
}

/// Says once, in a process that does not own the stack, why its sockets do not work.
#[cold]
pub(crate) fn say_whose() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    let (program, me, owner) = (program(), process(), OWNER.load(Ordering::Relaxed));
    say(&format!(
        "{program}[{me}]: no sockets here, the stack is that of process {owner}; for programs of several processes \
         there is: usersock run -- PROGRAM, without --in-process"
    ));
}

/// What a failed call returns.
pub(crate) trait Returned: Copy {
    /// Whether it is a failure, whose error is in errno.
    fn failed(self) -> bool;
}
impl Returned for c_int {
    fn failed(self) -> bool {
        self == -1
    }
}
impl Returned for isize {
    fn failed(self) -> bool {
        self == -1
    }
}
impl Returned for c_long {
    fn failed(self) -> bool {
        self == -1
    }
}
/// A handler of a signal: SIG_ERR is none.
impl Returned for libc::sighandler_t {
    fn failed(self) -> bool {
        self == libc::SIG_ERR
    }
}
/// An interface's number: 0 is none.
impl Returned for std::ffi::c_uint {
    fn failed(self) -> bool {
        self == 0
    }
}
impl<T> Returned for *mut T {
    fn failed(self) -> bool {
        self.is_null()
    }
}

/// Passes the result of a call on one of ours on. In a child it says why it failed.
#[inline]
pub(crate) fn noticed<T: Returned>(r: T) -> T {
    if r.failed() && role() == Role::Child && usersock_ffi::boundary::errno() == libc::ENETDOWN {
        say_whose();
        usersock_ffi::boundary::set_errno(libc::ENETDOWN);
    }
    r
}
