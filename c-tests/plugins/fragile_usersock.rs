//! What fragile.rs uses of `usersock/proto.h`, by the names there; the header says what each does. Of the operations
//! that the table leaves null no more is said than that.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_ulong, c_void};

pub const EIO: c_int = 5;
pub const EFAULT: c_int = 14;
pub const EINVAL: c_int = 22;
pub const ENOTTY: c_int = 25;
pub const EDESTADDRREQ: c_int = 89;
pub const EMSGSIZE: c_int = 90;
pub const ENOPROTOOPT: c_int = 92;
pub const SIOCOUTQ: c_ulong = 0x5411;

pub enum usk_plugin_t {}
pub enum usk_reg_t {}
pub enum usk_sock_t {}
pub enum usk_skb_t {}
pub enum usk_sendmsg_t {}
pub enum usk_recvmsg_t {}

#[repr(C)]
pub struct usk_owned_t(pub [u64; 4]);

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct usk_addr_t {
    pub family: u16,
    pub port: u16,
    pub scope_id: u32,
    pub addr: [u8; 16],
}

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

/// The first members of it: the size that usk_sock_info is given says so.
#[repr(C)]
#[derive(Default)]
pub struct usk_sock_info_t {
    pub local: usk_addr_t,
    pub peer: usk_addr_t,
    pub family: u32,
    pub socket_type: u32,
    pub protocol: u32,
    pub state: u32,
    pub shutdown: u32,
    pub flags: u32,
    pub error: c_int,
}

/// An operation that this leaves null.
pub type Null = Option<unsafe extern "C" fn()>;

/// Ends with the operations of the first header: the size says so.
#[repr(C)]
pub struct usk_proto {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const c_void,
    pub socket_type: c_int,
    pub protocol: c_int,
    pub flags: u32,
    pub obj_size: u32,
    pub max_header: u32,
    pub timewait_size: u32,
    pub request_size: u32,
    pub slab_flags: u32,
    pub init: Option<unsafe extern "C" fn(*mut usk_owned_t) -> c_int>,
    pub destroy: Option<unsafe extern "C" fn(*mut usk_owned_t)>,
    pub close: Option<unsafe extern "C" fn(*mut usk_sock_t, c_int)>,
    pub pre_connect: Null,
    pub connect: Option<unsafe extern "C" fn(*mut usk_owned_t, *const usk_addr_t) -> c_int>,
    pub disconnect: Null,
    pub listen: Null,
    pub accept: Null,
    pub ioctl: Option<unsafe extern "C" fn(*mut usk_sock_t, c_ulong, *mut c_int) -> c_int>,
    pub shutdown: Option<unsafe extern "C" fn(*mut usk_owned_t, c_int)>,
    pub setsockopt: Option<unsafe extern "C" fn(*mut usk_sock_t, c_int, c_int, *const c_void, usize) -> c_int>,
    pub getsockopt: Option<unsafe extern "C" fn(*mut usk_sock_t, c_int, c_int, *mut c_void, usize) -> isize>,
    pub bypass_getsockopt: Null,
    pub keepalive: Null,
    pub sendmsg: Option<unsafe extern "C" fn(*mut usk_sock_t, *mut usk_sendmsg_t) -> isize>,
    pub recvmsg: Option<unsafe extern "C" fn(*mut usk_sock_t, *mut usk_recvmsg_t) -> isize>,
    pub sendpage: Null,
    pub poll: Option<unsafe extern "C" fn(*mut usk_sock_t) -> u32>,
    pub backlog_rcv: Option<unsafe extern "C" fn(*mut usk_owned_t, *mut usk_skb_t)>,
    pub release_cb: Option<unsafe extern "C" fn(*mut usk_owned_t, u32)>,
    pub hash: Null,
    pub unhash: Null,
    pub get_port: Option<unsafe extern "C" fn(*mut usk_owned_t, u16) -> c_int>,
    pub put_port: Null,
    pub update_proto: Null,
    pub enter_memory_pressure: Null,
    pub leave_memory_pressure: Null,
    pub stream_memory_free: Null,
    pub sysctl_mem: Null,
    pub sysctl_wmem: Null,
    pub sysctl_rmem: Null,
    pub diag_destroy: Null,
    pub rcv: Option<unsafe extern "C" fn(*mut usk_reg_t, *mut usk_skb_t, *const usk_packet_info_t)>,
    pub err: Null,
}

unsafe extern "C" {
    pub fn usk_proto_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_proto,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
    pub fn usk_proto_lookup(
        reg: *mut usk_reg_t,
        local: *const usk_addr_t,
        remote: *const usk_addr_t,
        ifindex: u32,
    ) -> *mut usk_sock_t;
    pub fn usk_break(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_sock_put(sk: *mut usk_sock_t);
    pub fn usk_lock_sock(sk: *mut usk_sock_t, o: *mut usk_owned_t) -> c_int;
    pub fn usk_release_sock(o: *mut usk_owned_t) -> c_int;
    pub fn usk_deliver(sk: *mut usk_sock_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_defer(sk: *mut usk_sock_t, bits: u32) -> c_int;
    pub fn usk_sock_error(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_sock_shutdown(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_owned_sock(o: *mut usk_owned_t) -> *mut usk_sock_t;
    pub fn usk_sock_info(o: *mut usk_owned_t, info: *mut usk_sock_info_t, size: usize) -> isize;
    pub fn usk_owned_now(o: *mut usk_owned_t) -> u64;
    pub fn usk_private(o: *mut usk_owned_t) -> *mut c_void;
    pub fn usk_done(o: *mut usk_owned_t) -> c_int;
    pub fn usk_ends(o: *mut usk_owned_t, local: *mut usk_addr_t, peer: *mut usk_addr_t) -> c_int;
    pub fn usk_get_port(o: *mut usk_owned_t, port: u16) -> c_int;
    pub fn usk_hash(o: *mut usk_owned_t) -> c_int;
    pub fn usk_timer_arm(o: *mut usk_owned_t, index: u32, at: u64) -> c_int;
    pub fn usk_wait(o: *mut usk_owned_t, events: u32, deadline: u64) -> c_int;
    pub fn usk_timeo(o: *mut usk_owned_t, dir: c_int, dontwait: c_int) -> u64;
    pub fn usk_receive_push(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_receive_peek(o: *mut usk_owned_t) -> *mut usk_skb_t;
    pub fn usk_receive_msg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t, offset: usize) -> isize;
    pub fn usk_route_connect(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int;
    pub fn usk_source(o: *mut usk_owned_t, to: *const usk_addr_t, from: *mut usk_addr_t) -> c_int;
    pub fn usk_xmit(o: *mut usk_owned_t, skb: *mut usk_skb_t, to: *const usk_addr_t) -> c_int;
    pub fn usk_ip_setsockopt(o: *mut usk_owned_t, level: c_int, name: c_int, value: *const c_void, len: usize)
    -> c_int;
    pub fn usk_ip_getsockopt(o: *mut usk_owned_t, level: c_int, name: c_int, value: *mut c_void, len: usize) -> isize;
    pub fn usk_sendmsg_len(msg: *mut usk_sendmsg_t) -> usize;
    pub fn usk_sendmsg_name(msg: *mut usk_sendmsg_t, to: *mut usk_addr_t) -> c_int;
    pub fn usk_recvmsg_flags(msg: *mut usk_recvmsg_t) -> c_int;
    pub fn usk_recvmsg_set_name(msg: *mut usk_recvmsg_t, from: *const usk_addr_t) -> c_int;
    pub fn usk_skb_from_msg(msg: *mut usk_sendmsg_t, len: usize) -> *mut usk_skb_t;
    pub fn usk_skb_free(skb: *mut usk_skb_t);
    pub fn usk_skb_len(skb: *mut usk_skb_t) -> usize;
    pub fn usk_skb_cb(skb: *mut usk_skb_t) -> *mut c_void;
    pub fn usk_skb_push(skb: *mut usk_skb_t, n: usize) -> *mut c_void;
    pub fn usk_skb_pull(skb: *mut usk_skb_t, n: usize) -> c_int;
    pub fn usk_skb_header(skb: *mut usk_skb_t, n: usize) -> *const c_void;
    pub fn usk_skb_csum(skb: *mut usk_skb_t, offset: usize, len: usize, sum: u32) -> u32;
    pub fn usk_csum_pseudo(from: *const usk_addr_t, to: *const usk_addr_t, protocol: u8, len: u32) -> u32;
    pub fn usk_csum_fold(sum: u32) -> u32;
    pub fn usk_drop(reg: *mut usk_reg_t, skb: *mut usk_skb_t, reason: c_int) -> c_int;
}
