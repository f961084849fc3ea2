//! `usersock/over.h`, name by name: what each item does is said there.

use super::core::*;
use super::proto::*;
use std::ffi::{c_int, c_void};

pub const USK_UDP_VERSION: u32 = 1;
pub const USK_INNER_VERSION: u32 = 1;
pub const USK_UDP_REUSEPORT: u32 = 1;
pub const USK_UDP_V6ONLY: u32 = 2;
#[repr(C)]
pub struct usk_udp_t {
    _opaque: [u8; 0],
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_udp_ops {
    pub version: u32,
    pub size: u32,
    pub encap_rcv:
        Option<unsafe extern "C" fn(udp: *mut usk_udp_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t)>,
    pub encap_err: Option<unsafe extern "C" fn(udp: *mut usk_udp_t, error: *const usk_icmp_error_t)>,
    pub flags: u32,
    pub ifindex: u32,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_inner_ops {
    pub version: u32,
    pub size: u32,
    pub data_ready: Option<unsafe extern "C" fn(outer: *mut usk_sock_t, inner: *mut usk_sock_t)>,
    pub write_space: Option<unsafe extern "C" fn(outer: *mut usk_sock_t, inner: *mut usk_sock_t)>,
    pub state_change: Option<unsafe extern "C" fn(outer: *mut usk_sock_t, inner: *mut usk_sock_t)>,
}
unsafe extern "C" {
    pub fn usk_udp_open(
        reg: *mut usk_reg_t,
        local: *const usk_addr_t,
        ops: *const usk_udp_ops,
        user: *mut c_void,
        out: *mut *mut usk_udp_t,
    ) -> c_int;
    pub fn usk_udp_setsockopt(
        udp: *mut usk_udp_t,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: usize,
    ) -> c_int;
    pub fn usk_udp_getsockopt(udp: *mut usk_udp_t, level: c_int, name: c_int, value: *mut c_void, len: usize) -> isize;
    pub fn usk_udp_close(udp: *mut usk_udp_t) -> c_int;
    pub fn usk_udp_send(
        udp: *mut usk_udp_t,
        skb: *mut usk_skb_t,
        to: *const usk_addr_t,
        tx: *const usk_tx_info_t,
        size: usize,
    ) -> c_int;
    pub fn usk_udp_mtu(udp: *mut usk_udp_t, to: *const usk_addr_t) -> c_int;
    pub fn usk_udp_source(udp: *mut usk_udp_t, to: *const usk_addr_t, from: *mut usk_addr_t) -> c_int;
    pub fn usk_udp_reg(udp: *mut usk_udp_t) -> *mut usk_reg_t;
    pub fn usk_udp_user(udp: *mut usk_udp_t) -> *mut c_void;
    pub fn usk_inner_open(
        o: *mut usk_owned_t,
        family: c_int,
        socket_type: c_int,
        protocol: c_int,
        ops: *const usk_inner_ops,
        inner: *mut *mut usk_sock_t,
    ) -> c_int;
    pub fn usk_inner_close(o: *mut usk_owned_t, inner: *mut usk_sock_t) -> c_int;
    pub fn usk_inner_bind(o: *mut usk_owned_t, inner: *mut usk_sock_t, addr: *const usk_addr_t) -> c_int;
    pub fn usk_inner_connect(o: *mut usk_owned_t, inner: *mut usk_sock_t, to: *const usk_addr_t) -> c_int;
    pub fn usk_inner_listen(o: *mut usk_owned_t, inner: *mut usk_sock_t, backlog: c_int) -> c_int;
    pub fn usk_inner_accept(
        o: *mut usk_owned_t,
        inner: *mut usk_sock_t,
        to: *mut usk_owned_t,
        ops: *const usk_inner_ops,
        connection: *mut *mut usk_sock_t,
    ) -> c_int;
    pub fn usk_inner_send(
        o: *mut usk_owned_t,
        inner: *mut usk_sock_t,
        data: *const c_void,
        len: usize,
        flags: c_int,
        to: *const usk_addr_t,
    ) -> isize;
    pub fn usk_inner_recv(
        o: *mut usk_owned_t,
        inner: *mut usk_sock_t,
        data: *mut c_void,
        len: usize,
        flags: c_int,
        from: *mut usk_addr_t,
    ) -> isize;
    pub fn usk_inner_poll(o: *mut usk_owned_t, inner: *mut usk_sock_t) -> u32;
    pub fn usk_inner_shutdown(o: *mut usk_owned_t, inner: *mut usk_sock_t, how: c_int) -> c_int;
    pub fn usk_inner_setsockopt(
        o: *mut usk_owned_t,
        inner: *mut usk_sock_t,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: usize,
    ) -> c_int;
    pub fn usk_inner_getsockopt(
        o: *mut usk_owned_t,
        inner: *mut usk_sock_t,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: usize,
    ) -> isize;
    pub fn usk_inner_ends(
        o: *mut usk_owned_t,
        inner: *mut usk_sock_t,
        local: *mut usk_addr_t,
        peer: *mut usk_addr_t,
    ) -> c_int;
}
