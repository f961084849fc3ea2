//! Of `usersock.h`: the calls for programs that a test of a plug-in makes.

use super::core::usk_stack_t;
use std::ffi::{c_char, c_int, c_short, c_ulong, c_void};

#[derive(Clone, Copy)]
#[repr(C)]
pub struct pollfd {
    pub fd: c_int,
    pub events: c_short,
    pub revents: c_short,
}

unsafe extern "C" {
    pub fn usk_config_error() -> *const c_char;
    pub fn usk_stack_new(config: *const c_char) -> *mut usk_stack_t;
    pub fn usk_stack_free(stack: *mut usk_stack_t);
    pub fn usk_socket_on(stack: *mut usk_stack_t, domain: c_int, ty: c_int, protocol: c_int) -> c_int;
    pub fn usk_sysctl_set(stack: *mut usk_stack_t, name: *const c_char, value: *const c_char) -> c_int;
    pub fn usk_mib_read(stack: *mut usk_stack_t, name: *const c_char, value: *mut u64) -> c_int;
    pub fn usk_sock_ops_attach(fd: c_int, name: *const c_char) -> c_int;
    pub fn usk_sock_ops_detach(fd: c_int, name: *const c_char) -> c_int;
    pub fn usk_ulp_remove(fd: c_int) -> c_int;
    pub fn usk_bind(fd: c_int, addr: *const c_void, len: u32) -> c_int;
    pub fn usk_listen(fd: c_int, backlog: c_int) -> c_int;
    pub fn usk_accept(fd: c_int, addr: *mut c_void, len: *mut u32) -> c_int;
    pub fn usk_connect(fd: c_int, addr: *const c_void, len: u32) -> c_int;
    pub fn usk_getsockname(fd: c_int, addr: *mut c_void, len: *mut u32) -> c_int;
    pub fn usk_send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize;
    pub fn usk_sendto(
        fd: c_int,
        buf: *const c_void,
        len: usize,
        flags: c_int,
        addr: *const c_void,
        addr_len: u32,
    ) -> isize;
    pub fn usk_recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize;
    pub fn usk_recvfrom(
        fd: c_int,
        buf: *mut c_void,
        len: usize,
        flags: c_int,
        addr: *mut c_void,
        addr_len: *mut u32,
    ) -> isize;
    pub fn usk_setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: u32) -> c_int;
    pub fn usk_getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut u32) -> c_int;
    pub fn usk_shutdown(fd: c_int, how: c_int) -> c_int;
    pub fn usk_poll(fds: *mut pollfd, count: c_ulong, timeout_ms: c_int) -> c_int;
    pub fn usk_close(fd: c_int) -> c_int;
}
