//! `usersock/tcp.h`, name by name: what each item does is said there.

use super::cong::usk_tcp_t;
use super::core::*;
use std::ffi::{c_char, c_int, c_void};

pub const USK_TCP_OPS_VERSION: u32 = 1;
pub const USK_TCP_DATA_MAX: u32 = 65_536;
pub const USK_TCP_DONE: c_int = 0;
pub const USK_TCP_OURS: c_int = 1;
pub const USK_TCP_TAKE: c_int = 0;
pub const USK_TCP_GIVE: c_int = 1;
pub const USK_TCP_TIMER_RTO: u32 = 16;
pub const USK_TCP_OWN_OPTIONS: c_int = 8448;
pub const USK_TCP_ACK_ADVANCED: u32 = 1;
pub const USK_TCP_ACK_ECE: u32 = 2;
pub const USK_TCP_ACK_DSACK: u32 = 4;
pub const USK_TCP_ACK_RETRANS: u32 = 8;
pub const USK_TCP_TIMERS: u32 = 4;
pub const USK_TCP_SEG_SACKED: u32 = 1;
pub const USK_TCP_SEG_RETRANS: u32 = 2;
pub const USK_TCP_SEG_LOST: u32 = 4;
#[derive(Debug)]
#[repr(C)]
pub struct usk_tcp_conn_t {
    pub data: *mut c_void,
    pub reg: *mut usk_reg_t,
    pub sk: *mut usk_sock_t,
    pub opaque: [*mut c_void; 2],
}
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_seg_t {
    pub sent_at: u64,
    pub seq: u32,
    pub end_seq: u32,
    pub segs: u32,
    pub flags: u32,
    pub retrans: u32,
    pub reserved: u32,
}
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_ack_t {
    pub rtt_us: i64,
    pub snd_una: u32,
    pub prior_snd_una: u32,
    pub delivered: u32,
    pub sacked: u32,
    pub dupacks: u32,
    pub flags: u32,
}
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_input_t {
    pub seq: u32,
    pub end_seq: u32,
    pub ack: u32,
    pub window: u32,
    pub flags: u32,
    pub segs: u32,
    pub has_timestamps: u32,
    pub tsval: u32,
    pub tsecr: u32,
    pub sacks: u32,
    pub sack: [[u32; 2]; 4],
}
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_ops {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const usk_sysctl_t,
    pub data_size: u32,
    pub flags: u32,
    pub init: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t) -> c_int>,
    pub release: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t)>,
    pub handoff_ok: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t, how: c_int) -> c_int>,
    pub input: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t, in_: *const usk_tcp_input_t) -> c_int>,
    pub ack: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t, ack: *const usk_tcp_ack_t)>,
    pub output: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t) -> c_int>,
    pub timer: Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t, timer: u32) -> c_int>,
    pub setsockopt:
        Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t, name: c_int, value: *const c_void, len: usize) -> c_int>,
    pub getsockopt:
        Option<unsafe extern "C" fn(c: *mut usk_tcp_conn_t, name: c_int, value: *mut c_void, len: usize) -> isize>,
}

unsafe extern "C" {
    pub fn usk_tcp_read(c: *mut usk_tcp_conn_t, tp: *mut usk_tcp_t, size: usize) -> isize;
    pub fn usk_tcp_seg(c: *mut usk_tcp_conn_t, seq: u32, seg: *mut usk_tcp_seg_t, size: usize) -> c_int;
    pub fn usk_tcp_mark_lost(c: *mut usk_tcp_conn_t, seq: u32, end: u32) -> c_int;
    pub fn usk_tcp_clear_lost(c: *mut usk_tcp_conn_t, seq: u32, end: u32) -> c_int;
    pub fn usk_tcp_retransmit(c: *mut usk_tcp_conn_t, seq: u32, segs: u32) -> c_int;
    pub fn usk_tcp_send_new(c: *mut usk_tcp_conn_t, segs: u32) -> c_int;
    pub fn usk_tcp_enter_loss(c: *mut usk_tcp_conn_t) -> c_int;
    pub fn usk_tcp_set_rto(c: *mut usk_tcp_conn_t, us: u32) -> c_int;
    pub fn usk_tcp_arm(c: *mut usk_tcp_conn_t, timer: u32, after: u64) -> c_int;
    pub fn usk_tcp_cancel(c: *mut usk_tcp_conn_t, timer: u32) -> c_int;
    pub fn usk_tcp_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_tcp_ops,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
}
