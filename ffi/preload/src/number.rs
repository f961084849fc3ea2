//! syscall(2): programs and libraries that make system calls by number (libuv closes so, and jemalloc reads files
//! while it starts) get what the function of the name would do. All other numbers are the kernel's.

use crate::role::{Role, serves};
use crate::spliced::listens;
use crate::whose::{ours, special};
use crate::{control, data, descriptors, load, process, ready};
use std::ffi::{c_int, c_long};
use usersock::internal::sys::raw;

/// syscall(2). All six arguments are read, as every caller's registers and stack have them; those that the number does
/// not take mean nothing.
/// # Safety
/// As the system call with these arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    let args = [a, b, c, d, e, f];
    // SAFETY: the program's own call.
    match unsafe { on_ours(number, args) } {
        Some(r) => r,
        // SAFETY: as above.
        None => unsafe { raw::call(number, args) },
    }
}

/// The call, where it is about a descriptor of ours or makes one.
/// # Safety
/// As [`syscall`].
#[inline]
unsafe fn on_ours(number: c_long, args: [c_long; 6]) -> Option<c_long> {
    let [a, b, c, d, e, _] = args;
    // SAFETY: the arguments are the program's own, of the types that the number has.
    unsafe {
        if (ours(a as c_int) || is_served(number) || listens(a as c_int))
            && let Some(r) = on_first(number, args)
        {
            return Some(r);
        }
        let r = match number {
            libc::SYS_close if special(a as c_int) || listens(a as c_int) => descriptors::close(a as c_int),
            libc::SYS_close_range => descriptors::close_range(a as u32, b as u32, c as c_int),
            libc::SYS_dup3 if special(b as c_int) => descriptors::dup3(a as c_int, b as c_int, c as c_int),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 if special(b as c_int) => descriptors::dup2(a as c_int, b as c_int),
            libc::SYS_socket if control::is_internet(a as c_int, b as c_int, c as c_int) => {
                control::socket(a as c_int, b as c_int, c as c_int)
            }
            libc::SYS_epoll_create1 if load::ready() == Role::Owner => ready::epoll_create1(a as c_int),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_create if load::ready() == Role::Owner => ready::epoll_create(a as c_int),
            libc::SYS_epoll_ctl if ours(c as c_int) => ready::epoll_ctl(a as c_int, b as c_int, c as c_int, d as _),
            libc::SYS_ppoll if ready::any(a as _, b as _) => ready::ppoll(a as _, b as _, c as _, d as _),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll if ready::any(a as _, b as _) => ready::poll(a as _, b as _, c as c_int),
            libc::SYS_pselect6 if ready::any_set(a as c_int, [b as _, c as _, d as _]) => select6(args),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select if ready::any_set(a as c_int, [b as _, c as _, d as _]) => {
                ready::select(a as c_int, b as _, c as _, d as _, e as _)
            }
            libc::SYS_sendfile if ours(b as c_int) => {
                return Some(data::sendfile(a as c_int, b as c_int, c as _, d as usize) as c_long);
            }
            libc::SYS_splice if ours(c as c_int) => return splice(args),
            libc::SYS_sendmsg => return Some(data::sendmsg(a as c_int, b as _, c as c_int) as c_long),
            libc::SYS_sendmmsg => data::sendmmsg(a as c_int, b as _, c as u32, d as c_int),
            libc::SYS_execve => process::execve(a as _, b as _, c as _),
            libc::SYS_exit_group => process::_exit(a as c_int),
            _ => return None,
        };
        Some(r.into())
    }
}

/// Whether a stack server has the sockets, and the number is one of those that sockets have. What else there is the
/// kernel does with AF_UNIX as with TCP.
fn is_served(number: c_long) -> bool {
    serves()
        && matches!(
            number,
            libc::SYS_bind
                | libc::SYS_listen
                | libc::SYS_accept
                | libc::SYS_accept4
                | libc::SYS_connect
                | libc::SYS_shutdown
                | libc::SYS_getsockname
                | libc::SYS_getpeername
                | libc::SYS_getsockopt
                | libc::SYS_setsockopt
                | libc::SYS_ioctl
                | libc::SYS_sendto
                | libc::SYS_recvfrom
                | libc::SYS_recvmsg
                | libc::SYS_recvmmsg
        )
}

/// The call, if its first argument is a descriptor, which is one of ours, or may be a server's (of a listener the
/// duplicates are to be known).
/// # Safety
/// As [`syscall`].
unsafe fn on_first(number: c_long, args: [c_long; 6]) -> Option<c_long> {
    let [a, b, c, d, e, f] = args;
    let fd = a as c_int;
    // SAFETY: the arguments are the program's own, of the types that the number has.
    unsafe {
        let r = match number {
            libc::SYS_read => data::read(fd, b as _, c as usize) as c_long,
            libc::SYS_write => data::write(fd, b as _, c as usize) as c_long,
            libc::SYS_readv => data::readv(fd, b as _, c as c_int) as c_long,
            libc::SYS_writev => data::writev(fd, b as _, c as c_int) as c_long,
            libc::SYS_sendto => data::sendto(fd, b as _, c as usize, d as c_int, e as _, f as u32) as c_long,
            libc::SYS_recvfrom => data::recvfrom(fd, b as _, c as usize, d as c_int, e as _, f as _) as c_long,
            libc::SYS_recvmsg => data::recvmsg(fd, b as _, c as c_int) as c_long,
            libc::SYS_recvmmsg => data::recvmmsg(fd, b as _, c as u32, d as c_int, e as _).into(),
            libc::SYS_pread64 => data::pread(fd, b as _, c as usize, d) as c_long,
            libc::SYS_pwrite64 => data::pwrite(fd, b as _, c as usize, d) as c_long,
            libc::SYS_preadv => data::preadv(fd, b as _, c as c_int, d) as c_long,
            libc::SYS_pwritev => data::pwritev(fd, b as _, c as c_int, d) as c_long,
            libc::SYS_preadv2 => data::preadv2(fd, b as _, c as c_int, d, f as c_int) as c_long,
            libc::SYS_pwritev2 => data::pwritev2(fd, b as _, c as c_int, d, f as c_int) as c_long,
            libc::SYS_sendfile => data::sendfile(fd, b as c_int, c as _, d as usize) as c_long,
            libc::SYS_splice => return splice(args),
            libc::SYS_bind => control::bind(fd, b as _, c as u32).into(),
            libc::SYS_listen => control::listen(fd, b as c_int).into(),
            libc::SYS_accept => control::accept(fd, b as _, c as _).into(),
            libc::SYS_accept4 => control::accept4(fd, b as _, c as _, d as c_int).into(),
            libc::SYS_connect => control::connect(fd, b as _, c as u32).into(),
            libc::SYS_shutdown => control::shutdown(fd, b as c_int).into(),
            libc::SYS_getsockname => control::getsockname(fd, b as _, c as _).into(),
            libc::SYS_getpeername => control::getpeername(fd, b as _, c as _).into(),
            libc::SYS_getsockopt => control::getsockopt(fd, b as c_int, c as c_int, d as _, e as _).into(),
            libc::SYS_setsockopt => control::setsockopt(fd, b as c_int, c as c_int, d as _, e as u32).into(),
            libc::SYS_fcntl => descriptors::fcntl(fd, b as c_int, c).into(),
            libc::SYS_ioctl => descriptors::ioctl(fd, b as _, c as _).into(),
            libc::SYS_dup => descriptors::dup(fd).into(),
            libc::SYS_dup3 => descriptors::dup3(fd, b as c_int, c as c_int).into(),
            libc::SYS_epoll_ctl => ready::epoll_ctl(fd, b as c_int, c as c_int, d as _).into(),
            libc::SYS_epoll_pwait => ready::epoll_pwait(fd, b as _, c as c_int, d as c_int, e as _).into(),
            libc::SYS_epoll_pwait2 => ready::epoll_pwait2(fd, b as _, c as c_int, d as _, e as _).into(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2 => descriptors::dup2(fd, b as c_int).into(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => ready::epoll_wait(fd, b as _, c as c_int, d as c_int).into(),
            _ => return None,
        };
        Some(r)
    }
}

/// # Safety
/// As splice(2).
unsafe fn splice([a, b, c, d, e, f]: [c_long; 6]) -> Option<c_long> {
    // SAFETY: as the caller says.
    Some(unsafe { data::splice(a as c_int, b as _, c as c_int, d as _, e as usize, f as u32) } as c_long)
}

/// pselect6(2), whose last argument points to the mask and its size.
/// # Safety
/// As pselect6(2).
unsafe fn select6([n, read, write, except, timeout, masked]: [c_long; 6]) -> c_int {
    // SAFETY: null, or a pointer and a size by the caller's word.
    let mask = unsafe { (masked as *const *const libc::sigset_t).as_ref() }.copied().unwrap_or(std::ptr::null());
    // SAFETY: as the caller says.
    unsafe { ready::pselect(n as c_int, read as _, write as _, except as _, timeout as _, mask) }
}
