//! `usersock/core.h`, with sock.h, name by name: what each item does is said there.

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub struct usk_sock_t {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct usk_plugin_t {
    _opaque: [u8; 0],
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_addr_t {
    pub family: u16,
    pub port: u16,
    pub scope_id: u32,
    pub addr: [u8; 16],
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_owned_t {
    pub opaque: [u64; 4],
}
#[repr(C)]
pub struct usk_stack_t {
    _opaque: [u8; 0],
}
pub const USK_FLAG_DEAD: u32 = 1;
pub const USK_FLAG_KEEPOPEN: u32 = 2;
pub const USK_FLAG_LINGER: u32 = 4;
pub const USK_FLAG_BROADCAST: u32 = 8;
pub const USK_FLAG_REUSE: u32 = 16;
pub const USK_FLAG_REUSEPORT: u32 = 32;
pub const USK_FLAG_SOFTIRQ: u32 = 64;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_info_t {
    pub local: usk_addr_t,
    pub peer: usk_addr_t,
    pub family: u32,
    pub ty: u32,
    pub protocol: u32,
    pub state: u32,
    pub shutdown: u32,
    pub flags: u32,
    pub error: c_int,
    pub ifindex: u32,
    pub rcvbuf: c_int,
    pub sndbuf: c_int,
    pub rmem: c_int,
    pub wmem: c_int,
    pub receive_len: u32,
    pub ack_backlog: u32,
    pub max_ack_backlog: u32,
    pub rcvlowat: c_int,
    pub linger: i64,
    pub now: u64,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sysctl_t {
    pub name: *const c_char,
    pub value: i64,
    pub min: i64,
    pub max: i64,
    pub help: *const c_char,
}
pub type usk_release_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;
pub type usk_plugin_init_fn = Option<unsafe extern "C" fn(plugin: *mut usk_plugin_t) -> c_int>;
pub const USK_RECV: c_int = 0;
pub const USK_SEND: c_int = 1;
#[repr(C)]
pub struct usk_sendmsg_t {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct usk_recvmsg_t {
    _opaque: [u8; 0],
}
#[repr(C)]
pub struct usk_reg_t {
    _opaque: [u8; 0],
}
pub const USK_DROP_HEADER: c_int = 1;
pub const USK_DROP_CSUM: c_int = 2;
pub const USK_DROP_NO_SOCKET: c_int = 3;
pub const USK_DROP_STATE: c_int = 4;
pub const USK_DROP_OWN: c_int = 64;
pub const USK_LOG_ERR: c_int = 3;
pub const USK_LOG_WARNING: c_int = 4;
pub const USK_LOG_NOTICE: c_int = 5;
pub const USK_LOG_INFO: c_int = 6;
pub const USK_LOG_DEBUG: c_int = 7;
#[repr(C)]
pub struct usk_skb_t {
    _opaque: [u8; 0],
}
pub const USK_SKB_CB: usize = 48;
#[repr(C)]
pub struct usk_queue_t {
    _opaque: [u8; 0],
}
pub const USK_FOREVER: u64 = u64::MAX;

unsafe extern "C" {
    pub fn usk_log(reg: *mut usk_reg_t, level: c_int, line: *const c_char) -> c_int;
    pub fn usk_sock_info(o: *mut usk_owned_t, info: *mut usk_sock_info_t, size: usize) -> isize;
    pub fn usk_ends(o: *mut usk_owned_t, local: *mut usk_addr_t, peer: *mut usk_addr_t) -> c_int;
    pub fn usk_set_ends(o: *mut usk_owned_t, local: *const usk_addr_t, peer: *const usk_addr_t) -> c_int;
    pub fn usk_plugin_load(stack: *mut usk_stack_t, file: *const c_char) -> *mut usk_plugin_t;
    pub fn usk_plugin_attach(
        stack: *mut usk_stack_t,
        name: *const c_char,
        init: usk_plugin_init_fn,
    ) -> *mut usk_plugin_t;
    pub fn usk_plugin_unload(plugin: *mut usk_plugin_t) -> c_int;
    pub fn usk_plugin_stack(plugin: *mut usk_plugin_t) -> *mut usk_stack_t;
    pub fn usk_charge(o: *mut usk_owned_t, dir: c_int, skb: *mut usk_skb_t, bytes: usize) -> c_int;
    pub fn usk_uncharge(o: *mut usk_owned_t, dir: c_int, skb: *mut usk_skb_t, bytes: usize) -> c_int;
    pub fn usk_charged(o: *mut usk_owned_t, dir: c_int, limit: *mut c_int) -> c_int;
    pub fn usk_sendmsg_len(msg: *mut usk_sendmsg_t) -> usize;
    pub fn usk_sendmsg_flags(msg: *mut usk_sendmsg_t) -> c_int;
    pub fn usk_sendmsg_name(msg: *mut usk_sendmsg_t, addr: *mut usk_addr_t) -> c_int;
    pub fn usk_sendmsg_take(msg: *mut usk_sendmsg_t, to: *mut c_void, len: usize) -> isize;
    pub fn usk_skb_append_msg(skb: *mut usk_skb_t, msg: *mut usk_sendmsg_t, len: usize) -> isize;
    pub fn usk_skb_from_msg(msg: *mut usk_sendmsg_t, len: usize) -> *mut usk_skb_t;
    pub fn usk_recvmsg_room(msg: *mut usk_recvmsg_t) -> usize;
    pub fn usk_recvmsg_flags(msg: *mut usk_recvmsg_t) -> c_int;
    pub fn usk_recvmsg_put(msg: *mut usk_recvmsg_t, data: *const c_void, len: usize) -> isize;
    pub fn usk_recvmsg_put_skb(msg: *mut usk_recvmsg_t, skb: *mut usk_skb_t, offset: usize, len: usize) -> isize;
    pub fn usk_recvmsg_set_name(msg: *mut usk_recvmsg_t, addr: *const usk_addr_t) -> c_int;
    pub fn usk_recvmsg_set_flags(msg: *mut usk_recvmsg_t, flags: c_int) -> c_int;
    pub fn usk_owned_sock(o: *mut usk_owned_t) -> *mut usk_sock_t;
    pub fn usk_owned_now(o: *mut usk_owned_t) -> u64;
    pub fn usk_flush_backlog(o: *mut usk_owned_t) -> c_int;
    pub fn usk_set_state(o: *mut usk_owned_t, state: c_int) -> c_int;
    pub fn usk_set_shutdown(o: *mut usk_owned_t, bits: c_int) -> c_int;
    pub fn usk_receive_push(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_receive_peek(o: *mut usk_owned_t) -> *mut usk_skb_t;
    pub fn usk_receive_pop(o: *mut usk_owned_t) -> *mut usk_skb_t;
    pub fn usk_receive_msg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t, offset: usize) -> isize;
    pub fn usk_timer_arm(o: *mut usk_owned_t, index: u32, at: u64) -> c_int;
    pub fn usk_timer_cancel(o: *mut usk_owned_t, index: u32) -> c_int;
    pub fn usk_timer_at(o: *mut usk_owned_t, index: u32) -> u64;
    pub fn usk_done(o: *mut usk_owned_t) -> c_int;
    pub fn usk_unregister(reg: *mut usk_reg_t) -> c_int;
    pub fn usk_count(reg: *mut usk_reg_t, index: u32, n: u64) -> c_int;
    pub fn usk_sysctl(reg: *mut usk_reg_t, index: u32) -> i64;
    pub fn usk_user(reg: *mut usk_reg_t) -> *mut c_void;
    pub fn usk_user_release(reg: *mut usk_reg_t, release: usk_release_fn) -> c_int;
    pub fn usk_plugin_refuse(why: *const c_char) -> c_int;
    pub fn usk_recvmsg_control(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_send_alloc(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t, len: usize, skb: *mut *mut usk_skb_t) -> c_int;
    pub fn usk_now(reg: *mut usk_reg_t) -> u64;
    pub fn usk_random(reg: *mut usk_reg_t, buf: *mut c_void, len: usize) -> c_int;
    pub fn usk_drop(reg: *mut usk_reg_t, skb: *mut usk_skb_t, reason: c_int) -> c_int;
    pub fn usk_skb_new() -> *mut usk_skb_t;
    pub fn usk_skb_free(skb: *mut usk_skb_t);
    pub fn usk_skb_share(skb: *mut usk_skb_t) -> *mut usk_skb_t;
    pub fn usk_skb_len(skb: *mut usk_skb_t) -> usize;
    pub fn usk_skb_truesize(skb: *mut usk_skb_t) -> u32;
    pub fn usk_skb_cb(skb: *mut usk_skb_t) -> *mut c_void;
    pub fn usk_skb_push(skb: *mut usk_skb_t, n: usize) -> *mut c_void;
    pub fn usk_skb_pull(skb: *mut usk_skb_t, n: usize) -> c_int;
    pub fn usk_skb_trim(skb: *mut usk_skb_t, n: usize) -> c_int;
    pub fn usk_skb_header(skb: *mut usk_skb_t, n: usize) -> *const c_void;
    pub fn usk_skb_copy(skb: *mut usk_skb_t, offset: usize, to: *mut c_void, len: usize) -> isize;
    pub fn usk_skb_append(skb: *mut usk_skb_t, data: *const c_void, len: usize) -> c_int;
    pub fn usk_skb_csum(skb: *mut usk_skb_t, offset: usize, len: usize, sum: u32) -> u32;
    pub fn usk_skb_csum_unnecessary(skb: *mut usk_skb_t) -> c_int;
    pub fn usk_skb_csum_partial(skb: *mut usk_skb_t, start: u32, offset: u32, sum: u32) -> c_int;
    pub fn usk_skb_gso_size(skb: *mut usk_skb_t) -> u32;
    pub fn usk_queue_new() -> *mut usk_queue_t;
    pub fn usk_queue_free(q: *mut usk_queue_t);
    pub fn usk_queue_len(q: *mut usk_queue_t) -> usize;
    pub fn usk_queue_insert(q: *mut usk_queue_t, at: usize, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_queue_push(q: *mut usk_queue_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_queue_peek(q: *mut usk_queue_t, at: usize) -> *mut usk_skb_t;
    pub fn usk_queue_remove(q: *mut usk_queue_t, at: usize) -> *mut usk_skb_t;
    pub fn usk_queue_pop(q: *mut usk_queue_t) -> *mut usk_skb_t;
    pub fn usk_sock_hold(sk: *mut usk_sock_t) -> *mut usk_sock_t;
    pub fn usk_sock_put(sk: *mut usk_sock_t);
    pub fn usk_lock_sock(sk: *mut usk_sock_t, o: *mut usk_owned_t) -> c_int;
    pub fn usk_release_sock(o: *mut usk_owned_t) -> c_int;
    pub fn usk_deliver(sk: *mut usk_sock_t, skb: *mut usk_skb_t) -> c_int;
    pub fn usk_defer(sk: *mut usk_sock_t, bits: u32) -> c_int;
    pub fn usk_error_report(sk: *mut usk_sock_t, err: c_int) -> c_int;
    pub fn usk_break(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_sock_error(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_wake(sk: *mut usk_sock_t, events: u32) -> c_int;
    pub fn usk_sock_state(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_sock_shutdown(sk: *mut usk_sock_t) -> c_int;
    pub fn usk_wait(o: *mut usk_owned_t, events: u32, deadline: u64) -> c_int;
    pub fn usk_rcvlowat(o: *mut usk_owned_t, waitall: c_int, len: usize) -> usize;
    pub fn usk_timeo(o: *mut usk_owned_t, dir: c_int, dontwait: c_int) -> u64;
}
