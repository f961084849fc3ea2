//! The system calls of `usersock run` and its kin that nix has no safe wrapper of: fork, TUN devices, capabilities and
//! seccomp. The command's only unsafe code: one call to a block, each with the reason why it is sound; errors are
//! `io::Error` with the kernel's errno. Linux: tun.txt, capabilities(7), seccomp(2).
#![allow(unsafe_code)]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// struct __user_cap_header_struct's version with 64 bits of capabilities.
const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Capabilities of linux/capability.h.
pub(crate) const CAP_NET_BIND_SERVICE: u32 = 10;
pub(crate) const CAP_NET_ADMIN: u32 = 12;
pub(crate) const CAP_NET_RAW: u32 = 13;

const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETPERSIST: u64 = 0x4004_54cb;
const TUNSETOWNER: u64 = 0x4004_54cc;

/// The answer of a system call: -1 means an error in errno.
fn check(answer: i64) -> io::Result<i64> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Which side of a fork.
pub(crate) enum Side {
    Parent(Pid),
    Child,
}

/// fork(2), for a process of one thread. EBUSY when there are more: what they hold would be lost in the child.
pub(crate) fn fork() -> io::Result<Side> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: this is the only thread, so no lock is held by one that the child lacks.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(Pid::from_raw(pid as i32))),
    }
}

/// A child that has ended, and its status as wait(2) has it; None while those that are left run. ECHILD: there is none.
/// (nix's waitpid has no place for an end by a real-time signal.)
pub(crate) fn reap() -> io::Result<Option<(Pid, i32)>> {
    let mut status = 0;
    // SAFETY: waitpid writes an int.
    match check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }.into())? {
        0 => Ok(None),
        pid => Ok(Some((Pid::from_raw(pid as i32), status))),
    }
}

/// kill(2), of any signal's number. EPERM: the process is another user's. One that has ended is no failure.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes numbers.
    check(unsafe { libc::kill(pid.as_raw(), signal) }.into()).map(drop)
}

/// Makes a TUN device that stays until its network namespace ends, and that processes of user `owner` may open without
/// a privilege. Errors: EACCES, ENOENT: /dev/net/tun; EPERM: no CAP_NET_ADMIN over the namespace; EBUSY: it exists.
pub(crate) fn make_tun(name: &str, owner: u32) -> io::Result<()> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    // struct ifreq: 16 bytes of name, then a union of 24, of which the flags are the first two.
    let mut request = [0u8; 40];
    let room = request.get_mut(..name.len().min(15)).unwrap_or_default();
    room.copy_from_slice(&name.as_bytes()[..room.len()]);
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL) as i16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes the 40 bytes of a struct ifreq, which `request` is.
    check(unsafe { libc::syscall(libc::SYS_ioctl, tun.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) })?;
    // SAFETY: TUNSETOWNER takes a number.
    check(unsafe { libc::syscall(libc::SYS_ioctl, tun.as_raw_fd(), TUNSETOWNER, u64::from(owner)) })?;
    // SAFETY: TUNSETPERSIST takes a number.
    check(unsafe { libc::syscall(libc::SYS_ioctl, tun.as_raw_fd(), TUNSETPERSIST, 1u64) }).map(drop)
}

/// Raises `caps`, which this process has, to ambient ones: a program that it executes as another user than root keeps
/// them (capabilities(7)), and its dynamic linker takes it for an ordinary one all the same, so that LD_PRELOAD holds.
pub(crate) fn keep_capabilities(caps: &[u32]) -> io::Result<()> {
    // struct __user_cap_header_struct: version, pid (0: this process); then effective, permitted, inheritable, twice.
    let mut header = [LINUX_CAPABILITY_VERSION_3, 0];
    let mut sets = [0u32; 6];
    // SAFETY: capget of version 3 reads a header of two words and writes six.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) })?;
    for cap in caps {
        // All that are asked for stand in the first 32 bits.
        sets[2] |= 1 << cap;
    }
    // SAFETY: capset of version 3 reads a header of two words and the same six.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) })?;
    for &cap in caps {
        let (raise, cap) = (libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(cap));
        // SAFETY: PR_CAP_AMBIENT takes numbers.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, cap, 0u64, 0u64) }.into())?;
    }
    Ok(())
}

/// Gives up all capabilities of this thread and of those that it starts, and the way to new ones by execve(2).
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) }.into())?;
    let mut header = [LINUX_CAPABILITY_VERSION_3, 0];
    let sets = [0u32; 6];
    // SAFETY: capset of version 3 reads a header of two words and six.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) }).map(drop)
}

/// Raises this process's limit of descriptors as far as it may: to all that the kernel has for a process, or to its
/// hard limit.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes a struct rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    for most in [most.unwrap_or(0).max(limit.rlim_max), limit.rlim_max] {
        let raised = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: setrlimit reads a struct rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return;
        }
    }
}

/// Puts this process, and what it executes, under a seccomp filter. EACCES without PR_SET_NO_NEW_PRIVS.
pub(crate) fn seccomp(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let mode = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the kernel reads a sock_fprog whose filter points to `len` instructions; both outlive the call, which
    // copies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, mode, 0u64, &raw const fprog) }).map(drop)
}

/// Whether a file has capabilities of its own (setcap(8)).
pub(crate) fn has_capabilities(path: &CStr) -> bool {
    let name = c"security.capability";
    // SAFETY: two strings that end in a NUL; a size of 0 asks for the length alone, and nothing is written.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// Closes the descriptors from `first` to `last`.
///
/// They are those that this process was started with: none belongs to a value of this program.
pub(crate) fn close_inherited(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: close_range takes numbers; the caller says that nobody here owns these descriptors.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Sends a signal to a thread of this process.
pub(crate) fn signal_thread(tid: Pid, signal: Signal) {
    // SAFETY: tgkill takes numbers; a thread that has ended is an error, which does not matter.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid.as_raw(), signal as i32) };
}

/// SIGCHLD, and SIGPIPE, were ignored when this process was executed.
static CHILD_IGNORED: AtomicBool = AtomicBool::new(false);
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Looks at SIGPIPE before Rust's runtime ignores it, which is before `main`.
#[used]
// SAFETY: the C library calls what stands in this section once, before `main`. The function needs nothing of Rust's
// runtime, which is not there yet: one system call and a store. Whether a preloaded library has started threads, and
// the arguments that the C library passes, are nothing to it.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = {
    extern "C" fn look() {
        // SAFETY: an all-zero sigaction is valid; the call writes one, and sets nothing.
        let handler = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action);
            action.sa_sigaction
        };
        PIPE_IGNORED.store(handler == libc::SIG_IGN, Ordering::Relaxed);
    }
    look
};

/// Ends of children are told, even to a process that was started with SIGCHLD ignored: wait(2) would find none.
pub(crate) fn hear_of_children() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    let before = unsafe { sigaction(Signal::SIGCHLD, &action) };
    let ignored = before.is_ok_and(|before| before.handler() == SigHandler::SigIgn);
    CHILD_IGNORED.store(ignored, Ordering::Relaxed);
}

/// The program that is executed finds the signals ignored that its caller ignored, as execve(2) has it: not SIGCHLD and
/// SIGPIPE as they are in this process.
pub(crate) fn with_the_callers_signals(command: &mut Command) {
    let ignore = |ignored: &AtomicBool, signal| {
        let handler = if ignored.load(Ordering::Relaxed) { SigHandler::SigIgn } else { SigHandler::SigDfl };
        // SAFETY: no handler is installed.
        unsafe { sigaction(signal, &SigAction::new(handler, SaFlags::empty(), SigSet::empty())) }
    };
    let ignore_all = move || {
        ignore(&CHILD_IGNORED, Signal::SIGCHLD)?;
        ignore(&PIPE_IGNORED, Signal::SIGPIPE)?;
        Ok(())
    };
    // SAFETY: two system calls, which a child of fork may make, and nothing that allocates or locks.
    unsafe { command.pre_exec(ignore_all) };
}

/// Has a signal handled by a function that does nothing: with or without SA_RESTART.
pub(crate) fn on_signal(signal: Signal, restart: bool) {
    extern "C" fn nothing(_: i32) {}
    let flags = if restart { SaFlags::SA_RESTART } else { SaFlags::empty() };
    let action = SigAction::new(SigHandler::Handler(nothing), flags, SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(signal, &action) };
}

/// _exit(2): ends a fork child, without what its parent has to do at its end.
pub(crate) fn exit_at_once(status: i32) -> ! {
    // SAFETY: does not return, and runs nothing of this program.
    unsafe { libc::_exit(status) }
}

/// Bytes of the heap that are allocated, by this program and by shared objects alike (mallinfo(3)).
pub(crate) fn heap_in_use() -> usize {
    // SAFETY: returns numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
