//! The life of descriptors. Those of the library itself (the device, its wake-ups) are not the program's: it can close
//! them neither one by one nor as part of a range.
//!
//! Between vfork(2) and exec(2) a process has descriptors of its own, and the tables of its parent: what it does there
//! is the kernel's alone (`role::borrowed`).

use crate::real::{interpose, kernel};
use crate::role::{borrowed, say};
use crate::spliced;
use crate::streams::{flush, follow};
use crate::whose::{next_special, ours, special};
use std::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use usersock::internal::sys::fork::is_own;
use usersock_ffi::boundary::set_errno;
use usersock_ffi::fcntl::{usk_fcntl, usk_ioctl};
use usersock_ffi::socket::{usk_close, usk_dup, usk_dup2, usk_dup3};

interpose! {
    /// close(2).
    fn close(fd: c_int) -> c_int,
    ours special(fd) => close_special(fd), else kernel!(SYS_close, fd);

    /// close(2) by its older name.
    fn __close(fd: c_int) -> c_int,
    ours special(fd) => close_special(fd), else kernel!(SYS_close, fd);

    /// close_range(2).
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int,
    ours closes_special(first, last, flags) => close_gaps(first, last, flags),
    else kernel!(SYS_close_range, first, last, flags);

    /// dup(2).
    fn dup(fd: c_int) -> c_int,
    ours ours(fd) && !borrowed() => follow(usk_dup(fd)), else kernel!(SYS_dup, fd);

    /// dup2(2).
    fn dup2(fd: c_int, to: c_int) -> c_int,
    ours (ours(fd) || special(to)) && !borrowed() => replace(fd, to, || usk_dup2(fd, to)),
    else early_dup2(fd, to);

    /// dup2(2) by its older name.
    fn __dup2(fd: c_int, to: c_int) -> c_int,
    ours (ours(fd) || special(to)) && !borrowed() => replace(fd, to, || usk_dup2(fd, to)),
    else early_dup2(fd, to);

    /// dup3(2).
    fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int,
    ours (ours(fd) || special(to)) && !borrowed() => replace(fd, to, || usk_dup3(fd, to, flags)),
    else kernel!(SYS_dup3, fd, to, flags);

    /// fcntl(2), with the argument that most commands have.
    fn fcntl(fd: c_int, cmd: c_int, arg: c_long) -> c_int,
    ours ours(fd) && !borrowed() => control(fd, cmd, arg), else kernel!(SYS_fcntl, fd, cmd, arg);

    /// fcntl(2).
    fn fcntl64(fd: c_int, cmd: c_int, arg: c_long) -> c_int,
    ours ours(fd) && !borrowed() => control(fd, cmd, arg), else kernel!(SYS_fcntl, fd, cmd, arg);

    /// fcntl(2) by its older name.
    fn __fcntl(fd: c_int, cmd: c_int, arg: c_long) -> c_int,
    ours ours(fd) && !borrowed() => control(fd, cmd, arg), else kernel!(SYS_fcntl, fd, cmd, arg);

    /// ioctl(2), with the argument that most requests have.
    fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int,
    ours ours(fd) || spliced::is_ours(request) && spliced::has(fd) => match ours(fd) {
        true => usk_ioctl(fd, request, arg),
        false => spliced::ioctl(fd, request, arg),
    },
    else kernel!(SYS_ioctl, fd, request, arg);
}

/// closefrom(3).
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn closefrom(low: c_int) {
    // SAFETY: as the program says; without such a call in the kernel there is nothing that could report it.
    unsafe { close_range(low.max(0) as c_uint, c_uint::MAX, 0) };
}

fn close_special(fd: c_int) -> c_int {
    if borrowed() {
        // SAFETY: closes this process's copy.
        return unsafe { kernel!(SYS_close, fd) };
    }
    if !ours(fd) {
        // The program has opened nothing under this number.
        set_errno(libc::EBADF);
        return -1;
    }
    let r = usk_close(fd);
    follow(fd);
    r
}

/// Makes `to` a duplicate of `fd` by `dup`. EBUSY where the library's own descriptor is there.
fn replace(fd: c_int, to: c_int, dup: impl FnOnce() -> c_int) -> c_int {
    if taken(fd, to) {
        return -1;
    }
    flush(fd, to);
    follow(dup())
}

fn control(fd: c_int, cmd: c_int, arg: c_long) -> c_int {
    let r = usk_fcntl(fd, cmd, arg);
    if matches!(cmd, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) { follow(r) } else { r }
}

/// Whether `to` cannot be had since the library's own descriptor is there; errno is then EBUSY, which dup2(2) has.
fn taken(fd: c_int, to: c_int) -> bool {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !is_own(to) || fd == to {
        return false;
    }
    if !SAID.swap(true, Ordering::Relaxed) {
        say(&format!("descriptor {to}, which dup2 is to replace, is one of the library's own"));
    }
    set_errno(libc::EBUSY);
    true
}

/// dup2(2) by calls that every kernel has.
/// # Safety
/// Replaces `to`, as the program asks.
unsafe fn early_dup2(fd: c_int, to: c_int) -> c_int {
    if fd == to {
        // SAFETY: says whether it is open.
        let open: c_int = unsafe { kernel!(SYS_fcntl, fd, libc::F_GETFD) };
        return if open == -1 { -1 } else { to };
    }
    // SAFETY: passed on.
    unsafe { kernel!(SYS_dup3, fd, to, 0) }
}

/// Whether a range that is to be closed has one of ours, or of the library's own. Marking it close-on-exec is the
/// kernel's work: it keeps that flag of ours, too.
fn closes_special(first: c_uint, last: c_uint, flags: c_int) -> bool {
    flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 && next_special(first, last).is_some() && !borrowed()
}

/// close_range(2) of a range that has some of ours, which are closed one by one, or of the library's own, which stay.
fn close_gaps(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if first > last || flags & !(libc::CLOSE_RANGE_UNSHARE as c_int) != 0 {
        set_errno(libc::EINVAL);
        return -1;
    }
    let mut at = first;
    loop {
        let stop = next_special(at, last);
        let end = stop.map_or(last, |fd| (fd as c_uint).wrapping_sub(1));
        if stop.is_none_or(|fd| fd as c_uint > at) {
            // SAFETY: closes what the program asks for.
            let r: c_int = unsafe { kernel!(SYS_close_range, at, end, flags) };
            if r == -1 {
                return -1;
            }
        }
        let Some(fd) = stop else { return 0 };
        if ours(fd) {
            usk_close(fd);
        }
        if fd as c_uint >= last {
            return 0;
        }
        at = fd as c_uint + 1;
    }
}
