//! `usersock/hooks.h`, name by name: what each item does is said there.

use super::core::*;
use std::ffi::{c_char, c_int, c_void};

#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_view_t {
    pub local: usk_addr_t,
    pub remote: usk_addr_t,
    pub state: u32,
    pub is_fullsock: u32,
    pub family: u32,
    pub snd_cwnd: u32,
    pub snd_ssthresh: u32,
    pub srtt_us: u32,
    pub rtt_min_us: u32,
    pub mss_cache: u32,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
    pub snd_una: u32,
    pub ecn_flags: u32,
    pub rate_delivered: u32,
    pub rate_interval_us: u32,
    pub packets_out: u32,
    pub retrans_out: u32,
    pub total_retrans: u32,
    pub segs_in: u32,
    pub data_segs_in: u32,
    pub segs_out: u32,
    pub data_segs_out: u32,
    pub lost_out: u32,
    pub sacked_out: u32,
    pub cb_flags: u32,
    pub bytes_received: u64,
    pub bytes_acked: u64,
    pub congestion: [c_char; 16],
}
pub const USK_TCP_BPF_IW: c_int = 1001;
pub const USK_TCP_BPF_SNDCWND_CLAMP: c_int = 1002;
pub const USK_TCP_BPF_DELACK_MAX: c_int = 1003;
pub const USK_TCP_BPF_RTO_MIN: c_int = 1004;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_hook_t {
    pub sk: *mut usk_sock_t,
    pub reg: *mut usk_reg_t,
    pub now: u64,
    pub opaque: [*mut c_void; 2],
}
#[repr(C)]
pub struct usk_hdr_t {
    _opaque: [u8; 0],
}
pub const USK_SOCK_OPS_VERSION: u32 = 1;
pub const USK_SOCK_OPS_CHOSEN: u32 = 1;
pub const USK_CB_RTO: u32 = 1;
pub const USK_CB_RETRANS: u32 = 2;
pub const USK_CB_STATE: u32 = 4;
pub const USK_CB_RTT: u32 = 8;
pub const USK_CB_PARSE_ALL_HDR_OPT: u32 = 16;
pub const USK_CB_PARSE_UNKNOWN_HDR_OPT: u32 = 32;
pub const USK_CB_WRITE_HDR_OPT: u32 = 64;
pub const USK_HDR_NO_SEGMENT: c_int = -1;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_hdr_seg_t {
    pub flags: c_int,
    pub seq: u32,
    pub segs: u32,
    pub remaining: u32,
    pub len: usize,
    pub syn: *const c_void,
    pub syn_len: usize,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_ops {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const usk_sysctl_t,
    pub timeout_init: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    pub rwnd_init: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    pub needs_ecn: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void) -> c_int>,
    pub base_rtt: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void) -> u32>,
    pub tcp_connect: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    pub active_established:
        Option<unsafe extern "C" fn(h: *mut usk_hook_t, options: *const c_void, len: usize, user: *mut c_void)>,
    pub passive_established: Option<
        unsafe extern "C" fn(
            h: *mut usk_hook_t,
            options: *const c_void,
            len: usize,
            syn: *const c_void,
            syn_len: usize,
            user: *mut c_void,
        ),
    >,
    pub listen: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    pub rto: Option<
        unsafe extern "C" fn(h: *mut usk_hook_t, retransmits: u32, rto_us: u32, expired: c_int, user: *mut c_void),
    >,
    pub retrans: Option<unsafe extern "C" fn(h: *mut usk_hook_t, seq: u32, segs: u32, err: c_int, user: *mut c_void)>,
    pub state: Option<unsafe extern "C" fn(h: *mut usk_hook_t, old: c_int, now: c_int, user: *mut c_void)>,
    pub rtt: Option<unsafe extern "C" fn(h: *mut usk_hook_t, sample_us: u32, srtt_us: u32, user: *mut c_void)>,
    pub parse_hdr_opt:
        Option<unsafe extern "C" fn(h: *mut usk_hook_t, options: *const c_void, len: usize, user: *mut c_void)>,
    pub hdr_opt_len:
        Option<unsafe extern "C" fn(h: *mut usk_hook_t, seg: *const usk_hdr_seg_t, user: *mut c_void) -> c_int>,
    pub write_hdr_opt: Option<
        unsafe extern "C" fn(h: *mut usk_hook_t, seg: *const usk_hdr_seg_t, w: *mut usk_hdr_t, user: *mut c_void),
    >,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
    pub flags: u32,
    pub option_kind: u16,
    pub option_exid: u16,
    pub attached: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void)>,
    pub detached: Option<unsafe extern "C" fn(h: *mut usk_hook_t, user: *mut c_void)>,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_ops_filter_t {
    pub local: usk_addr_t,
    pub remote: usk_addr_t,
    pub local_prefix: u16,
    pub remote_prefix: u16,
    pub local_last: u16,
    pub remote_last: u16,
}

unsafe extern "C" {
    pub fn usk_hook_view(h: *mut usk_hook_t, view: *mut usk_sock_view_t, size: usize) -> isize;
    pub fn usk_hook_set_cb_flags(h: *mut usk_hook_t, flags: u32) -> c_int;
    pub fn usk_hook_value(h: *mut usk_hook_t) -> u64;
    pub fn usk_hook_set_value(h: *mut usk_hook_t, value: u64) -> c_int;
    pub fn usk_hook_setsockopt(
        h: *mut usk_hook_t,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: usize,
    ) -> c_int;
    pub fn usk_hdr_store(w: *mut usk_hdr_t, option: *const c_void, len: usize) -> c_int;
    pub fn usk_hdr_remaining(w: *mut usk_hdr_t) -> usize;
    pub fn usk_hdr_own(w: *mut usk_hdr_t, len: *mut usize) -> *const c_void;
    pub fn usk_find_option(
        options: *const c_void,
        len: usize,
        kind: u8,
        exid: c_int,
        data_len: *mut usize,
    ) -> *const c_void;
    pub fn usk_sock_ops_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_sock_ops,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
    pub fn usk_sock_ops_filter(reg: *mut usk_reg_t, filters: *const usk_sock_ops_filter_t, count: usize) -> c_int;
}
