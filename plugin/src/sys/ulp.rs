//! `usersock/ulp.h`, name by name: what each item does is said there.

use super::core::*;
use std::ffi::{c_char, c_int, c_ulong, c_void};

pub const USK_BELOW_VERSION: u32 = 1;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_below_ops {
    pub version: u32,
    pub size: u32,
    pub send: unsafe extern "C" fn(o: *mut usk_owned_t, data: *const c_void, len: usize, flags: c_int) -> isize,
    pub force: unsafe extern "C" fn(o: *mut usk_owned_t, data: *const c_void, len: usize) -> isize,
    pub sendmsg: unsafe extern "C" fn(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize,
    pub recv: unsafe extern "C" fn(o: *mut usk_owned_t, buf: *mut c_void, len: usize, flags: c_int) -> isize,
    pub recvmsg: unsafe extern "C" fn(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize,
    pub poll: unsafe extern "C" fn(o: *mut usk_owned_t) -> u32,
    pub backlog_rcv: unsafe extern "C" fn(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int,
    pub abort: unsafe extern "C" fn(o: *mut usk_owned_t, err: c_int) -> c_int,
    pub setsockopt:
        unsafe extern "C" fn(sk: *mut usk_sock_t, level: c_int, name: c_int, value: *const c_void, len: usize) -> c_int,
    pub getsockopt:
        unsafe extern "C" fn(sk: *mut usk_sock_t, level: c_int, name: c_int, value: *mut c_void, len: usize) -> isize,
    pub ioctl: unsafe extern "C" fn(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int,
}
pub const USK_ULP_VERSION: u32 = 1;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_ulp_t {
    pub data: *mut c_void,
    pub reg: *mut usk_reg_t,
    pub below: *const usk_below_ops,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_ulp_ops {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const usk_sysctl_t,
    pub data_size: u32,
    pub flags: u32,
    pub init: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int>,
    pub release: Option<unsafe extern "C" fn(ulp: *const usk_ulp_t)>,
    pub clone:
        Option<unsafe extern "C" fn(child: *mut usk_owned_t, ulp: *const usk_ulp_t, parent: *const usk_ulp_t) -> c_int>,
    pub sendmsg:
        Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, msg: *mut usk_sendmsg_t) -> isize>,
    pub recvmsg:
        Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, msg: *mut usk_recvmsg_t) -> isize>,
    pub poll: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> u32>,
    pub close: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, ulp: *const usk_ulp_t, flags: c_int)>,
    pub shutdown: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, how: c_int)>,
    pub setsockopt: Option<
        unsafe extern "C" fn(
            sk: *mut usk_sock_t,
            ulp: *const usk_ulp_t,
            level: c_int,
            name: c_int,
            value: *const c_void,
            len: usize,
        ) -> c_int,
    >,
    pub getsockopt: Option<
        unsafe extern "C" fn(
            sk: *mut usk_sock_t,
            ulp: *const usk_ulp_t,
            level: c_int,
            name: c_int,
            value: *mut c_void,
            len: usize,
        ) -> isize,
    >,
    pub ioctl: Option<
        unsafe extern "C" fn(sk: *mut usk_sock_t, ulp: *const usk_ulp_t, request: c_ulong, value: *mut c_int) -> c_int,
    >,
    pub backlog_rcv: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t, skb: *mut usk_skb_t)>,
    pub release_cb: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t)>,
    pub may_remove: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int>,
    pub disconnect: Option<unsafe extern "C" fn(o: *mut usk_owned_t, ulp: *const usk_ulp_t) -> c_int>,
}

unsafe extern "C" {
    pub fn usk_ulp_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_ulp_ops,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
}
