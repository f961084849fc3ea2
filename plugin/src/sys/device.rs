//! `usersock/device.h`, name by name: what each item does is said there.

use super::core::*;
use std::ffi::{c_char, c_int, c_void};

pub const USK_DEVICE_VERSION: u32 = 1;
pub const USK_LINK_IP: u32 = 0;
pub const USK_LINK_ETHERNET: u32 = 1;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_device_args_t {
    pub argument: *const c_char,
    pub name: *const c_char,
    pub mtu: u32,
    pub has_mac: u8,
    pub mac: [u8; 6],
    pub reserved: u8,
    pub reg: *mut usk_reg_t,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_device_info_t {
    pub link: u32,
    pub mtu: u32,
    pub queues: u32,
    pub mac: [u8; 6],
    pub reserved: [u8; 2],
}
#[repr(C)]
pub struct usk_sink_t {
    _opaque: [u8; 0],
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_device_ops {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const usk_sysctl_t,
    pub open: Option<
        unsafe extern "C" fn(
            args: *const usk_device_args_t,
            info: *mut usk_device_info_t,
            device: *mut *mut c_void,
        ) -> c_int,
    >,
    pub close: Option<unsafe extern "C" fn(device: *mut c_void)>,
    pub recv: Option<
        unsafe extern "C" fn(device: *mut c_void, queue: u32, now: u64, budget: usize, sink: *mut usk_sink_t) -> c_int,
    >,
    pub xmit: Option<unsafe extern "C" fn(device: *mut c_void, queue: u32, now: u64, skb: *mut usk_skb_t) -> c_int>,
    pub poll_fd: Option<unsafe extern "C" fn(device: *mut c_void, queue: u32) -> c_int>,
    pub next_event: Option<unsafe extern "C" fn(device: *mut c_void, queue: u32) -> u64>,
    pub has_pending: Option<unsafe extern "C" fn(device: *mut c_void, queue: u32) -> c_int>,
}

unsafe extern "C" {
    pub fn usk_device_rx(sink: *mut usk_sink_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_device_refuse(line: *const c_char) -> c_int;
    pub fn usk_device_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_device_ops,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
    pub fn usk_device_add(stack: *mut usk_stack_t, config: *const c_char) -> c_int;
}
