//! exec and exit. A program that replaces this one gets none of our sockets: their numbers are closed, and a standard
//! stream that is one of them is named on stderr. Below: `end`, for what is done before a process ends.

use crate::end;
use crate::environment::{Strings, complete, to_complete};
use crate::real::{interpose, kernel};
use crate::role::{Role, role, say};
use crate::whose::ours;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use usersock::internal::sys::raw;
use usersock::internal::sys::signal::postponed::outside;
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::fdtable::numbers;

unsafe extern "C" {
    static environ: Strings;
}

interpose! {
    /// execve(2).
    fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int,
    ours to_prepare() => prepared(Some(path), envp, |envp| real::execve(path, argv, envp)),
    else kernel!(SYS_execve, path, argv, envp);

    /// execv(3).
    fn execv(path: *const c_char, argv: Strings) -> c_int,
    ours to_prepare() => prepared(Some(path), environ, |envp| real::execve(path, argv, envp)),
    else kernel!(SYS_execve, path, argv, environ);

    /// execvp(3).
    fn execvp(file: *const c_char, argv: Strings) -> c_int,
    ours to_prepare() => prepared(Some(file), environ, |envp| real::execvpe(file, argv, envp)),
    else kernel!(SYS_execve, file, argv, environ);

    /// execvpe(3).
    fn execvpe(file: *const c_char, argv: Strings, envp: Strings) -> c_int,
    ours to_prepare() => prepared(Some(file), envp, |envp| real::execvpe(file, argv, envp)),
    else kernel!(SYS_execve, file, argv, envp);

    /// fexecve(3).
    fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int,
    ours to_prepare() => prepared(None, envp, |envp| real::fexecve(fd, argv, envp)),
    else kernel!(SYS_execveat, fd, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH);

    /// execveat(2).
    fn execveat(dir: c_int, path: *const c_char, argv: Strings, envp: Strings, flags: c_int) -> c_int,
    ours to_prepare() => prepared(None, envp, |envp| real::execveat(dir, path, argv, envp, flags)),
    else kernel!(SYS_execveat, dir, path, argv, envp, flags);

    /// posix_spawn(3).
    fn posix_spawn(pid: *mut libc::pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void,
                   argv: Strings, envp: Strings) -> c_int,
    ours to_complete() =>
        complete(envp, |envp| real::posix_spawn(pid, path, actions, attributes, argv, envp)),
    else libc::ENOSYS;

    /// posix_spawnp(3).
    fn posix_spawnp(pid: *mut libc::pid_t, file: *const c_char, actions: *const c_void, attributes: *const c_void,
                    argv: Strings, envp: Strings) -> c_int,
    ours to_complete() =>
        complete(envp, |envp| real::posix_spawnp(pid, file, actions, attributes, argv, envp)),
    else libc::ENOSYS;

    /// posix_spawn_file_actions_adddup2(3).
    fn posix_spawn_file_actions_adddup2(actions: *mut c_void, fd: c_int, to: c_int) -> c_int,
    ours (0..=2).contains(&to) && ours(fd) => {
        say_lost(to, "a program that posix_spawn starts");
        real::posix_spawn_file_actions_adddup2(actions, fd, to)
    },
    else libc::ENOSYS;
}

fn to_prepare() -> bool {
    matches!(role(), Role::Owner | Role::Child | Role::Spliced)
}

fn say_lost(fd: c_int, program: &str) {
    say(&format!(
        "{program} gets no connection on descriptor {fd}: the sockets of a stack in a process end with its program; \
         usersock run -- PROGRAM passes them on"
    ));
}

/// Where execvp(3) and its kin find a program: itself if it has a slash, else the first in PATH. None where there is
/// none that may be executed: programs try one name after the other.
fn executable(file: &CStr) -> Option<PathBuf> {
    let file = Path::new(OsStr::from_bytes(file.to_bytes()));
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let dirs = std::env::split_paths(&path).map(|dir| dir.join(file));
    let mut candidates: Box<dyn Iterator<Item = PathBuf>> =
        if file.as_os_str().as_bytes().contains(&b'/') { Box::new([file.into()].into_iter()) } else { Box::new(dirs) };
    candidates.find(|path| {
        let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
        // SAFETY: a string.
        path.as_bytes() != b"" && unsafe { libc::access(path.as_ptr(), libc::X_OK) } == 0
    })
}

/// Runs exec of `file`, or of a program by descriptor. The owner's sockets are closed before, as the kernel closes them
/// on the way; in another process the numbers of its parent's are closed in the new program. The standard streams
/// stay open, as sockets that are not connected. Where the program is not there, all is as it was.
/// Sockets of a server the kernel passes on; the environment is completed for them.
/// # Safety
/// `file` is a string, `envp` an environment.
unsafe fn prepared(file: Option<*const c_char>, envp: Strings, exec: impl FnOnce(Strings) -> c_int) -> c_int {
    if to_complete() {
        // SAFETY: an environment by the caller's word.
        return unsafe { complete(envp, exec) };
    }
    // The mask of this thread is the new program's.
    let exec = || outside(|| exec(envp));
    let program = match file {
        Some(file) if file.is_null() => return exec(),
        // SAFETY: a string by the caller's word.
        Some(file) => match executable(unsafe { CStr::from_ptr(file) }) {
            Some(path) => path.display().to_string(),
            None => return exec(),
        },
        None => "a program".to_owned(),
    };
    for fd in (0..=2).filter(|fd| is_stand_in(*fd)) {
        say_lost(fd, &program);
    }
    end::before_exec();
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
    end::finish(status);
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
