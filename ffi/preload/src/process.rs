//! exec and exit. A program that replaces this one gets none of our sockets: their numbers are closed, and a standard
//! stream that is one of them is named on stderr. At the end of the process its sockets are closed as the kernel
//! closes them, and what they still have to send is sent.

use crate::descriptors::ours;
use crate::real::{interpose, kernel};
use crate::role::{self, Role, role, say};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::{Duration, Instant};
use usersock::internal::sys::raw;
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::fdtable::numbers;
use usersock_ffi::socket::usk_close;
use usersock_ffi::stacks::default_stack;

type Strings = *const *const c_char;

unsafe extern "C" {
    static environ: Strings;
}

interpose! {
    /// execve(2).
    fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int,
    ours to_prepare() => prepared(path, || real::execve(path, argv, envp)),
    else kernel!(SYS_execve, path, argv, envp);

    /// execv(3).
    fn execv(path: *const c_char, argv: Strings) -> c_int,
    ours to_prepare() => prepared(path, || real::execv(path, argv)),
    else kernel!(SYS_execve, path, argv, environ);

    /// execvp(3).
    fn execvp(file: *const c_char, argv: Strings) -> c_int,
    ours to_prepare() => prepared(file, || real::execvp(file, argv)),
    else kernel!(SYS_execve, file, argv, environ);

    /// execvpe(3).
    fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int,
    ours to_prepare() => prepared(file, || real::execvpe(file, argv, envp)),
    else kernel!(SYS_execve, file, argv, envp);

    /// fexecve(3).
    fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int,
    ours to_prepare() => prepared(c"a program by descriptor".as_ptr(), || real::fexecve(fd, argv, envp)),
    else kernel!(SYS_execveat, fd, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH);

    /// execveat(2).
    fn execveat(dir: c_int, path: *const c_char, argv: Strings, envp: Strings, flags: c_int) -> c_int,
    ours to_prepare() => prepared(path, || real::execveat(dir, path, argv, envp, flags)),
    else kernel!(SYS_execveat, dir, path, argv, envp, flags);

    /// posix_spawn_file_actions_adddup2(3).
    fn posix_spawn_file_actions_adddup2(actions: *mut c_void, fd: c_int, to: c_int) -> c_int,
    ours (0..=2).contains(&to) && ours(fd) => {
        say_lost(to, "a program that posix_spawn starts");
        real::posix_spawn_file_actions_adddup2(actions, fd, to)
    },
    else libc::ENOSYS;
}

fn to_prepare() -> bool {
    matches!(role(), Role::Owner | Role::Child)
}

fn say_lost(fd: c_int, program: &str) {
    say(&format!(
        "{program} gets no connection on descriptor {fd}: the sockets of a stack in a process end with its program; \
         usersock run -- PROGRAM passes them on"
    ));
}

/// Runs exec with the numbers of our sockets closed in the new program, standard streams excepted. When it fails all is
/// as it was.
/// # Safety
/// `program` is a string.
unsafe fn prepared(program: *const c_char, exec: impl FnOnce() -> c_int) -> c_int {
    for fd in (0..=2).filter(|fd| is_stand_in(*fd)) {
        // SAFETY: a string by the caller's word.
        let name = if program.is_null() { c"?" } else { unsafe { CStr::from_ptr(program) } };
        say_lost(fd, &name.to_string_lossy());
    }
    let mut marked = Vec::new();
    let mut from = 3;
    while let Some(fd) = numbers().next(from) {
        let flags: c_int = flags(fd, libc::F_GETFD, 0);
        if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            self::flags(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC);
            marked.push((fd, flags));
        }
        from = fd + 1;
    }
    let r = exec();
    let error = errno();
    for (fd, flags) in marked {
        self::flags(fd, libc::F_SETFD, flags);
    }
    set_errno(error);
    r
}

fn flags(fd: c_int, cmd: c_int, arg: c_int) -> c_int {
    // SAFETY: the flags of a descriptor are a number.
    unsafe { kernel!(SYS_fcntl, fd, cmd, arg) }
}

/// Whether a descriptor is what reserves the number of a socket of ours: an AF_UNIX stream socket without a name and
/// without a peer. A child between vfork(2) and exec(2) may have made it a duplicate, of which no table knows.
fn is_stand_in(fd: c_int) -> bool {
    let option = |name: c_int| {
        let (mut value, mut len) = (-1 as c_int, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: `value` and `len` are writable.
        let r: c_int = unsafe { kernel!(SYS_getsockopt, fd, libc::SOL_SOCKET, name, &raw mut value, &raw mut len) };
        if r == 0 { value } else { -1 }
    };
    // Its answer, and the length of the name.
    let name = |which: std::ffi::c_long| {
        let mut name = [0u8; size_of::<libc::sockaddr_un>()];
        let mut len = name.len() as libc::socklen_t;
        let args = [fd.into(), name.as_mut_ptr() as _, &raw mut len as _, 0, 0, 0];
        // SAFETY: `name` is writable for `len` bytes.
        (unsafe { raw::call(which, args) }, len as usize)
    };
    option(libc::SO_DOMAIN) == libc::AF_UNIX
        && option(libc::SO_TYPE) == libc::SOCK_STREAM
        && option(libc::SO_ACCEPTCONN) == 0
        && name(libc::SYS_getpeername).0 == -1
        && name(libc::SYS_getsockname) == (0, size_of::<libc::sa_family_t>())
}

/// _exit(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _exit(status: c_int) -> ! {
    finish();
    loop {
        // SAFETY: ends the process.
        unsafe { raw::call(libc::SYS_exit_group, [status.into(), 0, 0, 0, 0, 0]) };
    }
}

/// _Exit(3).
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _Exit(status: c_int) -> ! {
    _exit(status)
}

/// The end of exit(3): what stdio has of our sockets is written before they are closed.
pub(crate) fn at_exit() {
    if role() == Role::Owner && numbers().next(0).is_some() {
        // SAFETY: null flushes all.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        finish();
    }
}

/// How long the end of a process waits for its peers to acknowledge what was sent.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// How long it waits for their ends of connections that are otherwise over.
const HALF_CLOSED: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1);

/// Closes the sockets of this process and waits until what they have to send has arrived, at most
/// [`UNACKNOWLEDGED`]: the stack ends with the process, and cannot do it later, as the kernel's would.
fn finish() {
    if role() != Role::Owner || role::borrowed() || numbers().next(0).is_none() {
        return;
    }
    let mut from = 0;
    while let Some(fd) = numbers().next(from) {
        usk_close(fd);
        from = fd + 1;
    }
    let Ok(stack) = default_stack() else { return };
    let begin = Instant::now();
    loop {
        use usersock::sock::state::State::{Closing, FinWait1, FinWait2, LastAck};
        let left = stack.sockets();
        let any = |states: &[_]| left.iter().any(|s| states.contains(&s.state));
        let limit = if any(&[FinWait1, LastAck, Closing]) {
            UNACKNOWLEDGED
        } else if any(&[FinWait2]) {
            HALF_CLOSED
        } else {
            return;
        };
        if begin.elapsed() >= limit {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
