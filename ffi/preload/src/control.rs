//! Sockets from birth to shutdown.

use crate::load;
use crate::real::{interpose, kernel};
use crate::role::{Role, say, say_whose};
use crate::spliced;
use crate::streams::follow;
use crate::whose::ours;
use std::ffi::{c_int, c_ushort, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::socket::*;

interpose! {
    /// socket(2): AF_INET and AF_INET6 are ours.
    fn socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int,
    ours is_internet(domain, ty, protocol) => new_socket(domain, ty, protocol),
    else kernel!(SYS_socket, domain, ty, protocol);

    /// bind(2).
    fn bind(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::bind(fd, addr, len),
        false => usk_bind(fd, addr, len),
    },
    else kernel!(SYS_bind, fd, addr, len);

    /// listen(2).
    fn listen(fd: c_int, backlog: c_int) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::listen(fd, backlog),
        false => usk_listen(fd, backlog),
    },
    else kernel!(SYS_listen, fd, backlog);

    /// accept(2).
    fn accept(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::accept4(fd, addr, len, 0),
        false => follow(usk_accept(fd, addr, len)),
    },
    else kernel!(SYS_accept4, fd, addr, len, 0);

    /// accept4(2).
    fn accept4(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t, flags: c_int) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::accept4(fd, addr, len, flags),
        false => follow(usk_accept4(fd, addr, len, flags)),
    },
    else kernel!(SYS_accept4, fd, addr, len, flags);

    /// connect(2).
    fn connect(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::connect(fd, addr, len),
        false => explained(usk_connect(fd, addr, len)),
    },
    else kernel!(SYS_connect, fd, addr, len);

    /// connect(2) by its older name.
    fn __connect(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::connect(fd, addr, len),
        false => explained(usk_connect(fd, addr, len)),
    },
    else kernel!(SYS_connect, fd, addr, len);

    /// shutdown(2).
    fn shutdown(fd: c_int, how: c_int) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::shutdown(fd, how),
        false => usk_shutdown(fd, how),
    },
    else kernel!(SYS_shutdown, fd, how);

    /// getsockname(2).
    fn getsockname(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::address(fd, addr, len, false),
        false => usk_getsockname(fd, addr, len),
    },
    else kernel!(SYS_getsockname, fd, addr, len);

    /// getpeername(2).
    fn getpeername(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::address(fd, addr, len, true),
        false => usk_getpeername(fd, addr, len),
    },
    else kernel!(SYS_getpeername, fd, addr, len);

    /// getsockopt(2).
    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::getsockopt(fd, level, name, value, len),
        false => usk_getsockopt(fd, level, name, value, len),
    },
    else kernel!(SYS_getsockopt, fd, level, name, value, len);

    /// setsockopt(2).
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: libc::socklen_t) -> c_int,
    ours mine(fd) => match served(fd) {
        true => spliced::setsockopt(fd, level, name, value, len),
        false => usk_setsockopt(fd, level, name, value, len),
    },
    else kernel!(SYS_setsockopt, fd, level, name, value, len);

    /// sockatmark(3).
    fn sockatmark(fd: c_int) -> c_int,
    ours ours(fd) => at_mark(fd), else at_mark(fd);

    /// bindresvport(3).
    fn bindresvport(fd: c_int, addr: *mut libc::sockaddr_in) -> c_int,
    ours ours(fd) => bind_reserved(fd, addr), else bind_reserved(fd, addr);
}

/// Whether a descriptor is one of ours, or of a server's.
fn mine(fd: c_int) -> bool {
    ours(fd) || spliced::has(fd)
}

/// Which of the two.
fn served(fd: c_int) -> bool {
    !ours(fd)
}

/// Whether socket(2) with these arguments makes one of ours, in a process that has a stack.
pub(crate) fn is_internet(domain: c_int, ty: c_int, protocol: c_int) -> bool {
    matches!(domain, libc::AF_INET | libc::AF_INET6) && {
        let role = load::ready();
        let tcp = ty & 0xf == libc::SOCK_STREAM && matches!(protocol, 0 | libc::IPPROTO_TCP | libc::IPPROTO_MPTCP);
        role != Role::Loading && (tcp || !load::tcp_only())
    }
}

/// A socket on the stack of this process. ENETDOWN where that is another's, and one line that says so: never a socket
/// of the kernel's, by which bytes would leave on another path.
fn new_socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int {
    match load::ready() {
        Role::Owner => return follow(usk_socket(domain, ty, protocol)),
        Role::Spliced => return spliced::socket(domain, ty),
        _ => {}
    }
    say_whose();
    set_errno(libc::ENETDOWN);
    -1
}

/// Says once, where a connect finds no network because no device is configured, what to configure.
fn explained(r: c_int) -> c_int {
    static SAID: AtomicBool = AtomicBool::new(false);
    if r == -1
        && errno() == libc::ENETUNREACH
        && std::env::var_os("USERSOCK_CONFIG").is_none()
        && !SAID.swap(true, Ordering::Relaxed)
    {
        say("only the in-memory loopback is there: set USERSOCK_CONFIG, such as tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1");
        set_errno(libc::ENETUNREACH);
    }
    r
}

fn at_mark(fd: c_int) -> c_int {
    const SIOCATMARK: std::ffi::c_ulong = 0x8905;
    let mut mark: c_int = 0;
    // SAFETY: the request writes an int.
    let r = unsafe { crate::descriptors::ioctl(fd, SIOCATMARK, (&raw mut mark).cast()) };
    if r == -1 { -1 } else { mark }
}

/// Binds to a free port from 600 to 1023, the first of them by the process's number.
/// # Safety
/// `addr` is null or a sockaddr_in.
unsafe fn bind_reserved(fd: c_int, addr: *mut libc::sockaddr_in) -> c_int {
    const FIRST: c_ushort = 600;
    const PORTS: c_ushort = 1024 - FIRST;
    // SAFETY: an all-zero sockaddr_in is valid.
    let mut any: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    any.sin_family = libc::AF_INET as c_ushort;
    // SAFETY: null or a sockaddr_in by the caller's word.
    let name = unsafe { addr.as_mut() }.unwrap_or(&mut any);
    if c_int::from(name.sin_family) != libc::AF_INET {
        set_errno(libc::EAFNOSUPPORT);
        return -1;
    }
    let start = (crate::role::process() as u32 % u32::from(PORTS)) as c_ushort;
    for i in 0..PORTS {
        name.sin_port = (FIRST + (start + i) % PORTS).to_be();
        // SAFETY: `name` is a sockaddr_in.
        let r = unsafe { bind(fd, (&raw const *name).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t) };
        if r == 0 || errno() != libc::EADDRINUSE {
            return r;
        }
    }
    -1
}
