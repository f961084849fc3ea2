//! `usersock/cong.h`, name by name: what each item does is said there.

use super::core::*;
use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub struct usk_cong_t {
    _opaque: [u8; 0],
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_cong_mark_t {
    pub opaque: [u64; 5],
}
pub const USK_CONG_BEHIND_HOLE: u32 = 1;
pub const USK_CONG_ECE: u32 = 2;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_cong_ack_t {
    pub segments: u32,
    pub late: u32,
    pub rtt_us: i64,
    pub mark: *const usk_cong_mark_t,
    pub flags: u32,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_cong_info_t {
    pub name: [c_char; 16],
    pub cwnd: u32,
    pub ssthresh: u32,
    pub in_flight: u32,
    pub ca_state: u32,
    pub srtt_us: u32,
    pub rttvar_us: u32,
    pub min_rtt_us: u32,
    pub rto_us: u32,
    pub delivered: u32,
    pub lost: u32,
    pub needs_pacing: u32,
    pub reserved: u32,
    pub pacing_rate: u64,
    pub delivery_rate: u64,
}
pub const USK_CONG_VERSION: u32 = 1;
pub const USK_CONG_PRIV_MAX: u32 = 1024;
pub const USK_CONG_INFO_MAX: usize = 64;
pub const USK_CONG_NEEDS_ECN: u32 = 1;
pub const USK_CONG_EXACT_ECE: u32 = 2;
pub const USK_CONG_NON_RESTRICTED: u32 = 4;
pub const USK_CONG_REPLACE: u32 = 8;
pub const USK_CA_OPEN: u8 = 0;
pub const USK_CA_DISORDER: u8 = 1;
pub const USK_CA_CWR: u8 = 2;
pub const USK_CA_RECOVERY: u8 = 3;
pub const USK_CA_LOSS: u8 = 4;
pub const USK_CA_EVENT_TX_START: c_int = 0;
pub const USK_CA_EVENT_CWND_RESTART: c_int = 1;
pub const USK_CA_EVENT_COMPLETE_CWR: c_int = 2;
pub const USK_CA_EVENT_LOSS: c_int = 3;
pub const USK_CA_EVENT_ECN_NO_CE: c_int = 4;
pub const USK_CA_EVENT_ECN_IS_CE: c_int = 5;
pub const USK_CA_ACK_SLOWPATH: u32 = 1;
pub const USK_CA_ACK_WIN_UPDATE: u32 = 2;
pub const USK_CA_ACK_ECE: u32 = 4;
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_ack_sample_t {
    pub rtt_us: i64,
    pub pkts_acked: u32,
    pub in_flight: u32,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_pkt_sample_t {
    pub sent_at: u64,
    pub rtt_us: i64,
    pub seq: u32,
    pub end_seq: u32,
    pub segs: u32,
    pub prior_delivered: u32,
    pub is_retrans: u32,
    pub is_sacked: u32,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_cong_ops {
    pub version: u32,
    pub size: u32,
    pub name: *const c_char,
    pub mib_names: *const *const c_char,
    pub sysctls: *const usk_sysctl_t,
    pub flags: u32,
    pub priv_size: u32,
    pub init: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void)>,
    pub release: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void)>,
    pub ssthresh: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void) -> u32>,
    pub cong_avoid: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, ack: u32, acked: u32)>,
    pub cong_control: Option<
        unsafe extern "C" fn(
            tp: *mut usk_tcp_t,
            priv_: *mut c_void,
            ack: u32,
            flags: u32,
            rs: *const usk_rate_sample_t,
        ),
    >,
    pub pkts_acked:
        Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, sample: *const usk_ack_sample_t)>,
    pub in_ack_event: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, flags: u32)>,
    pub set_state: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, state: u8)>,
    pub cwnd_event: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, event: c_int)>,
    pub undo_cwnd: Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void) -> u32>,
    pub min_tso_segs: Option<unsafe extern "C" fn(tp: *const usk_tcp_t, priv_: *mut c_void) -> u32>,
    pub sndbuf_expand: Option<unsafe extern "C" fn(tp: *const usk_tcp_t, priv_: *mut c_void) -> u32>,
    pub get_info:
        Option<unsafe extern "C" fn(tp: *const usk_tcp_t, priv_: *mut c_void, info: *mut c_void, len: usize) -> usize>,
    pub pkts_delivered:
        Option<unsafe extern "C" fn(tp: *mut usk_tcp_t, priv_: *mut c_void, pkts: *const usk_pkt_sample_t, n: u32)>,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_rate_sample_t {
    pub prior_mstamp: u64,
    pub interval_us: i64,
    pub rtt_us: i64,
    pub prior_delivered: u32,
    pub prior_delivered_ce: u32,
    pub delivered: i32,
    pub delivered_ce: i32,
    pub snd_interval_us: u32,
    pub rcv_interval_us: u32,
    pub losses: i32,
    pub acked_sacked: u32,
    pub prior_in_flight: u32,
    pub last_end_seq: u32,
    pub is_app_limited: u8,
    pub is_retrans: u8,
    pub is_ack_delayed: u8,
    pub reserved: u8,
}
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_t {
    pub snd_cwnd: u32,
    pub snd_cwnd_cnt: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd_clamp: u32,
    pub app_limited: u32,
    pub needs_pacing: u32,
    pub pacing_rate: u64,
    pub now: u64,
    pub max_pacing_rate: u64,
    pub delivered_mstamp: u64,
    pub prior_cwnd: u32,
    pub prior_ssthresh: u32,
    pub ca_state: u32,
    pub is_cwnd_limited: u32,
    pub srtt_us: u32,
    pub mdev_us: u32,
    pub min_rtt_us: u32,
    pub rto_us: u32,
    pub mss_cache: u32,
    pub packets_out: u32,
    pub sacked_out: u32,
    pub lost_out: u32,
    pub retrans_out: u32,
    pub in_flight: u32,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub lost: u32,
    pub prr_delivered: u32,
    pub prr_out: u32,
    pub reordering: u32,
    pub snd_una: u32,
    pub snd_nxt: u32,
    pub write_seq: u32,
    pub high_seq: u32,
    pub snd_cwnd_stamp: u32,
    pub lsndtime: u32,
    pub ecn_ok: u32,
    pub base_rtt_us: u32,
    pub sk: *mut usk_sock_t,
    pub reg: *mut usk_reg_t,
}

unsafe extern "C" {
    pub fn usk_cong_new(o: *mut usk_owned_t, name: *const c_char, mss: u32) -> *mut usk_cong_t;
    pub fn usk_cong_free(o: *mut usk_owned_t, cong: *mut usk_cong_t);
    pub fn usk_cong_quota(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int;
    pub fn usk_cong_sent(
        o: *mut usk_owned_t,
        cong: *mut usk_cong_t,
        n: u32,
        again: c_int,
        mark: *mut usk_cong_mark_t,
    ) -> c_int;
    pub fn usk_cong_acked(o: *mut usk_owned_t, cong: *mut usk_cong_t, ack: *const usk_cong_ack_t) -> c_int;
    pub fn usk_cong_loss(o: *mut usk_owned_t, cong: *mut usk_cong_t, n: u32) -> c_int;
    pub fn usk_cong_recovered(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int;
    pub fn usk_cong_rto(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int;
    pub fn usk_cong_undo(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int;
    pub fn usk_cong_app_limited(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int;
    pub fn usk_cong_set_mss(o: *mut usk_owned_t, cong: *mut usk_cong_t, mss: u32) -> c_int;
    pub fn usk_cong_info(cong: *const usk_cong_t, info: *mut usk_cong_info_t, size: usize) -> isize;
    pub fn usk_cong_register(
        plugin: *mut usk_plugin_t,
        table: *const usk_cong_ops,
        user: *mut c_void,
        out: *mut *mut usk_reg_t,
    ) -> c_int;
    pub fn usk_tcp_in_slow_start(tp: *const usk_tcp_t) -> c_int;
    pub fn usk_tcp_slow_start(tp: *mut usk_tcp_t, acked: u32) -> u32;
    pub fn usk_tcp_cong_avoid_ai(tp: *mut usk_tcp_t, w: u32, acked: u32);
    pub fn usk_tcp_reno_ssthresh(tp: *mut usk_tcp_t, _priv: *mut c_void) -> u32;
    pub fn usk_tcp_reno_cong_avoid(tp: *mut usk_tcp_t, _priv: *mut c_void, _ack: u32, acked: u32);
    pub fn usk_tcp_reno_undo_cwnd(tp: *mut usk_tcp_t, _priv: *mut c_void) -> u32;
}
