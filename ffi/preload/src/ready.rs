//! Readiness: poll, select and epoll. A call that names only descriptors of the kernel is the kernel's. Every epoll set
//! of an owner is one of ours, since sockets may be added to it later.

use crate::load;
use crate::real::{interpose, kernel};
use crate::role::Role;
use crate::whose::ours;
use std::ffi::{c_int, c_void};
use usersock_ffi::epoll::*;
use usersock_ffi::fdtable::numbers;
use usersock_ffi::poll::*;
use usersock_ffi::probe::readable;
use usersock_ffi::select::*;

type FdSet = *mut libc::fd_set;

/// Whether one of ours is polled. A list that cannot be read is left to the kernel, and to its EFAULT.
/// # Safety
/// `fds` is `count` pollfds, or cannot be read.
pub(crate) unsafe fn any(fds: *const libc::pollfd, count: libc::nfds_t) -> bool {
    let Some(bytes) = (count as usize).checked_mul(size_of::<libc::pollfd>()) else { return false };
    if count == 0 || !readable(fds as usize, bytes) {
        return false;
    }
    // SAFETY: readable, as just seen.
    unsafe { std::slice::from_raw_parts(fds, count as usize) }.iter().any(|p| ours(p.fd))
}

/// Whether one of ours is in a set. Sets that cannot be read are left to the kernel.
/// # Safety
/// Each set is null or covers `count` descriptors, or cannot be read.
pub(crate) unsafe fn any_set(count: c_int, sets: [FdSet; 3]) -> bool {
    let count = usize::try_from(count).unwrap_or(0);
    let words = count.div_ceil(64);
    sets.into_iter().filter(|set| !set.is_null() && words > 0 && readable(*set as usize, words * 8)).any(|set| {
        // SAFETY: readable, as just seen, and an fd_set is of words.
        let set = unsafe { std::slice::from_raw_parts(set.cast::<u64>(), words) };
        set.iter().enumerate().any(|(i, word)| {
            let above = if (i + 1) * 64 > count { !0 << (count % 64) } else { 0 };
            word & !above & numbers().word(i) != 0
        })
    })
}

/// The size of the kernel's signal sets.
const SET: usize = size_of::<u64>();

/// The argument of pselect6(2) that holds the mask.
#[repr(C)]
struct Masked {
    mask: *const libc::sigset_t,
    size: usize,
}

interpose! {
    /// poll(2).
    fn poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int,
    ours any(fds, count) => usk_poll(fds, count, timeout), else early_poll(fds, count, timeout);

    /// poll(2) by its older name.
    fn __poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int,
    ours any(fds, count) => usk_poll(fds, count, timeout), else early_poll(fds, count, timeout);

    /// poll(2) with the size of the list.
    fn __poll_chk(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int, room: usize) -> c_int,
    ours room / size_of::<libc::pollfd>() >= count as usize && any(fds, count) => usk_poll(fds, count, timeout),
    else early_poll(fds, count, timeout);

    /// ppoll(2).
    fn ppoll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: *const libc::timespec,
             mask: *const libc::sigset_t) -> c_int,
    ours any(fds, count) => usk_ppoll(fds, count, timeout, mask), else early_ppoll(fds, count, timeout, mask);

    /// ppoll(2) with the size of the list.
    fn __ppoll_chk(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: *const libc::timespec,
                   mask: *const libc::sigset_t, room: usize) -> c_int,
    ours room / size_of::<libc::pollfd>() >= count as usize && any(fds, count)
        => usk_ppoll(fds, count, timeout, mask),
    else early_ppoll(fds, count, timeout, mask);

    /// select(2).
    fn select(count: c_int, read: FdSet, write: FdSet, except: FdSet, timeout: *mut libc::timeval) -> c_int,
    ours any_set(count, [read, write, except]) => usk_select(count, read, write, except, timeout),
    else early_select(count, read, write, except, timeout);

    /// select(2) by its older name.
    fn __select(count: c_int, read: FdSet, write: FdSet, except: FdSet, timeout: *mut libc::timeval) -> c_int,
    ours any_set(count, [read, write, except]) => usk_select(count, read, write, except, timeout),
    else early_select(count, read, write, except, timeout);

    /// pselect(2).
    fn pselect(count: c_int, read: FdSet, write: FdSet, except: FdSet, timeout: *const libc::timespec,
               mask: *const libc::sigset_t) -> c_int,
    ours any_set(count, [read, write, except]) => usk_pselect(count, read, write, except, timeout, mask),
    else early_pselect(count, read, write, except, timeout, mask);

    /// epoll_create(2).
    fn epoll_create(size: c_int) -> c_int,
    ours load::ready() == Role::Owner => usk_epoll_create(size),
    else kernel!(SYS_epoll_create1, 0);

    /// epoll_create1(2).
    fn epoll_create1(flags: c_int) -> c_int,
    ours load::ready() == Role::Owner => usk_epoll_create1(flags), else kernel!(SYS_epoll_create1, flags);

    /// epoll_ctl(2).
    fn epoll_ctl(set: c_int, op: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int,
    ours ours(set) || ours(fd) => usk_epoll_ctl(set, op, fd, event), else kernel!(SYS_epoll_ctl, set, op, fd, event);

    /// epoll_wait(2).
    fn epoll_wait(set: c_int, events: *mut libc::epoll_event, max: c_int, timeout: c_int) -> c_int,
    ours ours(set) => usk_epoll_wait(set, events, max, timeout),
    else kernel!(SYS_epoll_pwait, set, events, max, timeout, 0, SET);

    /// epoll_pwait(2).
    fn epoll_pwait(set: c_int, events: *mut libc::epoll_event, max: c_int, timeout: c_int,
                   mask: *const libc::sigset_t) -> c_int,
    ours ours(set) => usk_epoll_pwait(set, events, max, timeout, mask),
    else kernel!(SYS_epoll_pwait, set, events, max, timeout, mask, SET);

    /// epoll_pwait2(2).
    fn epoll_pwait2(set: c_int, events: *mut libc::epoll_event, max: c_int, timeout: *const libc::timespec,
                    mask: *const libc::sigset_t) -> c_int,
    ours ours(set) => usk_epoll_pwait2(set, events, max, timeout, mask),
    else kernel!(SYS_epoll_pwait2, set, events, max, timeout, mask, SET);
}

/// poll(2) before the real one is known.
/// # Safety
/// As poll(2).
unsafe fn early_poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
    let ms = i64::from(timeout);
    let limit = libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    // SAFETY: the program's own arguments.
    unsafe { early_ppoll(fds, count, if timeout < 0 { std::ptr::null() } else { &limit }, std::ptr::null()) }
}

/// ppoll(2) before the real one is known. The kernel writes the time left, the C library's function does not.
/// # Safety
/// As ppoll(2).
unsafe fn early_ppoll(
    fds: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    // SAFETY: null or a timespec by the caller's word.
    let mut left = unsafe { timeout.as_ref() }.copied();
    let left = left.as_mut().map_or(std::ptr::null_mut(), |t| t as *mut libc::timespec);
    // SAFETY: the program's own arguments, and a copy of the timeout.
    unsafe { kernel!(SYS_ppoll, fds, count, left, mask, SET) }
}

/// select(2) before the real one is known.
/// # Safety
/// As select(2).
unsafe fn early_select(n: c_int, read: FdSet, write: FdSet, except: FdSet, timeout: *mut libc::timeval) -> c_int {
    // SAFETY: null or a timeval by the caller's word.
    let limit = unsafe { timeout.as_ref() }
        .map(|t| libc::timespec { tv_sec: t.tv_sec + t.tv_usec / 1_000_000, tv_nsec: t.tv_usec % 1_000_000 * 1000 });
    let limit = limit.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: the program's own arguments, and a copy of the timeout.
    unsafe { early_pselect(n, read, write, except, limit, std::ptr::null()) }
}

/// pselect(2) before the real one is known.
/// # Safety
/// As pselect(2).
unsafe fn early_pselect(
    n: c_int,
    read: FdSet,
    write: FdSet,
    except: FdSet,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    let masked = Masked { mask, size: SET };
    // SAFETY: null or a timespec by the caller's word.
    let mut left = unsafe { timeout.as_ref() }.copied();
    let left = left.as_mut().map_or(std::ptr::null_mut(), |t| t as *mut libc::timespec);
    // SAFETY: the program's own arguments, a copy of the timeout, and the mask as the kernel takes it.
    unsafe { kernel!(SYS_pselect6, n, read, write, except, left, (&raw const masked).cast::<c_void>()) }
}
