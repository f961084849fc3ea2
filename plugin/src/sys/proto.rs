//! `usersock/proto.h`, with ip.h, name by name: what each item does is said there.

use super::core::*;
use std::ffi::{c_char, c_int, c_ulong, c_void};

pub const USK_PROTO_VERSION: u32 = 1;
pub const USK_PROTO_V4: u32 = 1;
pub const USK_PROTO_V6: u32 = 2;
pub const USK_PROTO_DEFAULT: u32 = 4;
pub const USK_PROTO_CONNECTIONS: u32 = 8;
pub const USK_PROTO_NO_AUTOBIND: u32 = 16;
pub const USK_PROTO_NO_PORTS: u32 = 32;
pub const USK_TX_SRC: u32 = 1;
pub const USK_TX_IFINDEX: u32 = 2;
pub const USK_TX_TOS: u32 = 4;
pub const USK_TX_TTL: u32 = 8;
pub const USK_TX_FLOW_LABEL: u32 = 16;
pub const USK_TX_DF: u32 = 32;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_tx_info_t {
    pub flags: u32,
    pub ifindex: u32,
    pub src: usk_addr_t,
    pub flow_label: u32,
    pub tos: u8,
    pub ttl: u8,
    pub reserved: u16,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_packet_info_t {
    pub src: usk_addr_t,
    pub dst: usk_addr_t,
    pub ifindex: u32,
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    pub not_unicast: u8,
    pub now: u64,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_icmp_error_t {
    pub src: usk_addr_t,
    pub dst: usk_addr_t,
    pub reporter: usk_addr_t,
    pub icmp_type: u8,
    pub code: u8,
    pub fatal: u8,
    pub error: c_int,
    pub info: u32,
    pub ifindex: u32,
    pub quoted: *const c_void,
    pub quoted_len: usize,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_piece_t {
    pub header: *mut c_void,
    pub header_len: u32,
    pub index: u32,
    pub offset: u32,
    pub len: u32,
    pub last: u32,
    pub sum: u32,
    pub src: usk_addr_t,
    pub dst: usk_addr_t,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_merge_t {
    pub header: *mut c_void,
    pub header_len: u32,
    pub held: u32,
    pub next: *mut usk_skb_t,
    pub src: usk_addr_t,
    pub dst: usk_addr_t,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_proto {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const usk_sysctl_t,
    pub socket_type: c_int,
    pub protocol: c_int,
    pub flags: u32,
    pub obj_size: u32,
    pub max_header: u32,
    pub timewait_size: u32,
    pub request_size: u32,
    pub slab_flags: u32,
    pub init: Option<unsafe extern "C" fn(o: *mut usk_owned_t) -> c_int>,
    pub destroy: Option<unsafe extern "C" fn(o: *mut usk_owned_t)>,
    pub close: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, flags: c_int)>,
    pub pre_connect: Option<unsafe extern "C" fn(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int>,
    pub connect: Option<unsafe extern "C" fn(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int>,
    pub disconnect: Option<unsafe extern "C" fn(o: *mut usk_owned_t) -> c_int>,
    pub listen: Option<unsafe extern "C" fn(o: *mut usk_owned_t, backlog: u32) -> c_int>,
    pub accept: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, nonblock: c_int, err: *mut c_int) -> *mut usk_sock_t>,
    pub ioctl: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int>,
    pub shutdown: Option<unsafe extern "C" fn(o: *mut usk_owned_t, how: c_int)>,
    pub setsockopt: Option<
        unsafe extern "C" fn(sk: *mut usk_sock_t, level: c_int, name: c_int, value: *const c_void, len: usize) -> c_int,
    >,
    pub getsockopt: Option<
        unsafe extern "C" fn(sk: *mut usk_sock_t, level: c_int, name: c_int, value: *mut c_void, len: usize) -> isize,
    >,
    pub bypass_getsockopt: Option<unsafe extern "C" fn(level: c_int, name: c_int) -> c_int>,
    pub keepalive: Option<unsafe extern "C" fn(o: *mut usk_owned_t, on: c_int)>,
    pub sendmsg: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, msg: *mut usk_sendmsg_t) -> isize>,
    pub recvmsg: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, msg: *mut usk_recvmsg_t) -> isize>,
    pub sendpage:
        Option<unsafe extern "C" fn(sk: *mut usk_sock_t, data: *const c_void, len: usize, flags: c_int) -> isize>,
    pub poll: Option<unsafe extern "C" fn(sk: *mut usk_sock_t) -> u32>,
    pub backlog_rcv: Option<unsafe extern "C" fn(o: *mut usk_owned_t, skb: *mut usk_skb_t)>,
    pub release_cb: Option<unsafe extern "C" fn(o: *mut usk_owned_t, bits: u32)>,
    pub hash: Option<unsafe extern "C" fn(o: *mut usk_owned_t) -> c_int>,
    pub unhash: Option<unsafe extern "C" fn(o: *mut usk_owned_t)>,
    pub get_port: Option<unsafe extern "C" fn(o: *mut usk_owned_t, port: u16) -> c_int>,
    pub put_port: Option<unsafe extern "C" fn(o: *mut usk_owned_t)>,
    pub update_proto: Option<unsafe extern "C" fn(o: *mut usk_owned_t, restore: c_int) -> c_int>,
    pub enter_memory_pressure: Option<unsafe extern "C" fn(reg: *mut usk_reg_t)>,
    pub leave_memory_pressure: Option<unsafe extern "C" fn(reg: *mut usk_reg_t)>,
    pub stream_memory_free: Option<unsafe extern "C" fn(priv_: *const c_void, wake: c_int) -> c_int>,
    pub sysctl_mem: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, limits: *mut i64) -> c_int>,
    pub sysctl_wmem: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, sizes: *mut c_int) -> c_int>,
    pub sysctl_rmem: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, sizes: *mut c_int) -> c_int>,
    pub diag_destroy: Option<unsafe extern "C" fn(sk: *mut usk_sock_t, err: c_int) -> c_int>,
    pub rcv: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t)>,
    pub err: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, error: *const usk_icmp_error_t)>,
    pub sendmsg_locked: Option<unsafe extern "C" fn(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize>,
    pub recvmsg_locked: Option<unsafe extern "C" fn(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize>,
    pub poll_locked: Option<unsafe extern "C" fn(o: *mut usk_owned_t) -> u32>,
    pub bind: Option<unsafe extern "C" fn(o: *mut usk_owned_t, addr: *const usk_addr_t) -> c_int>,
    pub splice_eof: Option<unsafe extern "C" fn(sk: *mut usk_sock_t)>,
    pub rehash: Option<unsafe extern "C" fn(o: *mut usk_owned_t)>,
    pub net_exit: Option<unsafe extern "C" fn(reg: *mut usk_reg_t)>,
    pub diag_dump: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, each: usk_diag_each_t, arg: *mut c_void)>,
    pub drop_names: *const *const c_char,
    pub ports_of: *const c_char,
    pub timer: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, index: u32)>,
    pub work: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, bits: u32)>,
    pub diag_show: Option<unsafe extern "C" fn(o: *mut usk_owned_t, diag: *mut usk_diag_t)>,
    pub segment: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, piece: *mut usk_piece_t) -> c_int>,
    pub may_merge: Option<
        unsafe extern "C" fn(
            reg: *mut usk_reg_t,
            skb: *mut usk_skb_t,
            src: *const usk_addr_t,
            dst: *const usk_addr_t,
        ) -> c_int,
    >,
    pub merge: Option<unsafe extern "C" fn(reg: *mut usk_reg_t, merge: *mut usk_merge_t) -> c_int>,
}
#[repr(C)]
pub struct usk_diag_t {
    _opaque: [u8; 0],
}
pub type usk_sock_each_t = Option<unsafe extern "C" fn(arg: *mut c_void, sk: *mut usk_sock_t) -> c_int>;
pub const USK_ICMP_PORT_UNREACH: c_int = 1;
pub const USK_ICMP_PROT_UNREACH: c_int = 2;
pub const USK_ICMP_PROHIBITED: c_int = 3;
pub const USK_ICMP_TOO_BIG: c_int = 4;
pub type usk_diag_each_t = Option<unsafe extern "C" fn(arg: *mut c_void, sk: *mut usk_sock_t)>;

unsafe extern "C" {
    pub fn usk_diag_column(diag: *mut usk_diag_t, name: *const c_char, value: *const c_char) -> c_int;
    pub fn usk_icmp_send(reg: *mut usk_reg_t, skb: *mut usk_skb_t, error: c_int, mtu: u32) -> c_int;
    pub fn usk_deliver_all(
        reg: *mut usk_reg_t,
        skb: *mut usk_skb_t,
        local: *const usk_addr_t,
        remote: *const usk_addr_t,
    ) -> c_int;
    pub fn usk_for_each_sock(reg: *mut usk_reg_t, each: usk_sock_each_t, arg: *mut c_void) -> c_int;
    pub fn usk_reg_timer_arm(reg: *mut usk_reg_t, index: u32, at: u64) -> c_int;
    pub fn usk_reg_timer_cancel(reg: *mut usk_reg_t, index: u32) -> c_int;
    pub fn usk_reg_timer_at(reg: *mut usk_reg_t, index: u32) -> u64;
    pub fn usk_reg_defer(reg: *mut usk_reg_t, bits: u32) -> c_int;
    pub fn usk_route_connect(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int;
    pub fn usk_route_disconnect(o: *mut usk_owned_t) -> c_int;
    pub fn usk_source(o: *mut usk_owned_t, to: *const usk_addr_t, from: *mut usk_addr_t) -> c_int;
    pub fn usk_path_mtu(o: *mut usk_owned_t) -> c_int;
    pub fn usk_update_pmtu(o: *mut usk_owned_t, mtu: u32) -> c_int;
    pub fn usk_xmit(o: *mut usk_owned_t, skb: *mut usk_skb_t, to: *const usk_addr_t) -> c_int;
    pub fn usk_xmit_info(
        o: *mut usk_owned_t,
        skb: *mut usk_skb_t,
        to: *const usk_addr_t,
        tx: *const usk_tx_info_t,
        size: usize,
    ) -> c_int;
    pub fn usk_set_ecn(o: *mut usk_owned_t, ecn: c_int) -> c_int;
    pub fn usk_skb_info(skb: *mut usk_skb_t, info: *mut usk_packet_info_t) -> c_int;
    pub fn usk_icmp_report(sk: *mut usk_sock_t, error: *const usk_icmp_error_t, port: u16, header: usize) -> c_int;
    pub fn usk_skb_set_gso(o: *mut usk_owned_t, skb: *mut usk_skb_t, header: u32, size: u32) -> c_int;
    pub fn usk_gso_max(o: *mut usk_owned_t) -> c_int;
    pub fn usk_reply(reg: *mut usk_reg_t, info: *const usk_packet_info_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_ip_setsockopt(o: *mut usk_owned_t, level: c_int, name: c_int, value: *const c_void, len: usize)
    -> c_int;
    pub fn usk_ip_getsockopt(o: *mut usk_owned_t, level: c_int, name: c_int, value: *mut c_void, len: usize) -> isize;
    pub fn usk_csum(data: *const c_void, len: usize, sum: u32) -> u32;
    pub fn usk_csum_pseudo(src: *const usk_addr_t, dst: *const usk_addr_t, protocol: u8, len: u32) -> u32;
    pub fn usk_csum_fold(sum: u32) -> u32;
    pub fn usk_get_port(o: *mut usk_owned_t, port: u16) -> c_int;
    pub fn usk_inet_bind(o: *mut usk_owned_t, addr: *const usk_addr_t) -> c_int;
    pub fn usk_hash(o: *mut usk_owned_t) -> c_int;
    pub fn usk_unhash(o: *mut usk_owned_t) -> c_int;
    pub fn usk_proto_lookup(
        reg: *mut usk_reg_t,
        local: *const usk_addr_t,
        remote: *const usk_addr_t,
        ifindex: u32,
    ) -> *mut usk_sock_t;
    pub fn usk_new_child(listener: *mut usk_owned_t) -> *mut usk_sock_t;
    pub fn usk_accept_push(listener: *mut usk_owned_t, child: *mut usk_sock_t) -> c_int;
    pub fn usk_listen_start(o: *mut usk_owned_t, backlog: u32) -> c_int;
    pub fn usk_listen_stop(o: *mut usk_owned_t) -> c_int;
    pub fn usk_accept_wait(sk: *mut usk_sock_t, nonblock: c_int, err: *mut c_int) -> *mut usk_sock_t;
    pub fn usk_owned_reg(o: *mut usk_owned_t) -> *mut usk_reg_t;
    pub fn usk_private(o: *mut usk_owned_t) -> *mut c_void;
    pub fn usk_proto_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_proto,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
}
