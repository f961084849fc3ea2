//! `usk_tcp_t`: a connection's variables as congestion control in C sees them, which of them it may write, and the
//! arithmetic that all algorithms share (slow start, additive increase, Reno). The Rust side is
//! `usersock::tcp::cong::TcpSock`.

use super::gate::{kernel, obj, obj_mut};
use super::registration::usk_reg_t;
use crate::handle::usk_sock_t;
use std::ffi::{c_int, c_void};
use std::ptr;
use usersock::tcp::cong::{self, Cx, INFINITE_SSTHRESH, RateSample};

/// Largest window that a plug-in can set, segments: 2^30, more than any path needs, and no arithmetic overflows.
pub(crate) const MAX_CWND: u32 = 1 << 30;

/// Delivery-rate sample of an acknowledgement (struct rate_sample). Times are of the stack's clock.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_rate_sample_t {
    /// When the interval began, nanoseconds; 0: no sample.
    pub prior_mstamp: u64,
    /// Length of the interval, microseconds; -1: no sample.
    pub interval_us: i64,
    /// RTT of the acknowledgement, microseconds; -1: none.
    pub rtt_us: i64,
    /// usk_tcp_t.delivered when the interval began.
    pub prior_delivered: u32,
    /// usk_tcp_t.delivered_ce when the interval began.
    pub prior_delivered_ce: u32,
    /// Segments delivered over the interval; -1: no sample.
    pub delivered: i32,
    /// Those of `delivered` with a congestion mark.
    pub delivered_ce: i32,
    /// Send phase of the interval, microseconds.
    pub snd_interval_us: u32,
    /// Acknowledgement phase.
    pub rcv_interval_us: u32,
    /// Segments marked lost by this acknowledgement.
    pub losses: i32,
    /// Segments newly acknowledged or selectively acknowledged.
    pub acked_sacked: u32,
    /// Segments in flight before this acknowledgement.
    pub prior_in_flight: u32,
    /// End sequence number of the segment that was delivered last.
    pub last_end_seq: u32,
    /// 1: the sample is application-limited.
    pub is_app_limited: u8,
    /// 1: the sampled segment was a retransmission.
    pub is_retrans: u8,
    /// 1: the receiver probably delayed the acknowledgement.
    pub is_ack_delayed: u8,
    /// 0.
    pub reserved: u8,
}

/// A connection's variables, during a call of a congestion control. The first block may be written: its values are
/// copied back when the function returns, clamped to their bounds; writes to the others are ignored. Counts are in
/// segments unless stated otherwise; later versions may append members.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_tcp_t {
    /// May be written: congestion window. At least 1, at most snd_cwnd_clamp.
    pub snd_cwnd: u32,
    /// May be written: segments acknowledged since the last increase.
    pub snd_cwnd_cnt: u32,
    /// May be written: slow-start threshold. At least 1; 0x7fffffff: infinite, as initially.
    pub snd_ssthresh: u32,
    /// May be written: upper bound of the window. At least 1.
    pub snd_cwnd_clamp: u32,
    /// May be written: value of delivered + in_flight up to which rate samples are application-limited; 0: they are
    /// not.
    pub app_limited: u32,
    /// May be written: 1: packets are paced at pacing_rate (SK_PACING_NEEDED); once set it stays.
    pub needs_pacing: u32,
    /// May be written: bytes a second; UINT64_MAX: unlimited. Lasts only if the table has cong_control: otherwise each
    /// acknowledgement computes it.
    pub pacing_rate: u64,

    /// Now, nanoseconds of the stack's clock.
    pub now: u64,
    /// SO_MAX_PACING_RATE, bytes a second.
    pub max_pacing_rate: u64,
    /// When `delivered` was reached, nanoseconds.
    pub delivered_mstamp: u64,
    /// Window and threshold before the reduction, for undo_cwnd; 0: none.
    pub prior_cwnd: u32,
    /// See prior_cwnd.
    pub prior_ssthresh: u32,
    /// USK_CA_OPEN ...
    pub ca_state: u32,
    /// Whether the window recently limited sending, so that it may grow (tcp_is_cwnd_limited).
    pub is_cwnd_limited: u32,
    /// Smoothed RTT, microseconds times 8; 0: no sample yet.
    pub srtt_us: u32,
    /// Its mean deviation, microseconds times 4.
    pub mdev_us: u32,
    /// Minimum RTT of the recent past, microseconds; UINT32_MAX: no sample yet.
    pub min_rtt_us: u32,
    /// Retransmission timeout, microseconds.
    pub rto_us: u32,
    /// Payload bytes of a full segment.
    pub mss_cache: u32,
    /// Sent and not acknowledged.
    pub packets_out: u32,
    /// Those of packets_out that are selectively acknowledged.
    pub sacked_out: u32,
    /// Those of packets_out that are marked lost.
    pub lost_out: u32,
    /// Retransmissions in flight.
    pub retrans_out: u32,
    /// packets_out - sacked_out - lost_out + retrans_out (tcp_packets_in_flight).
    pub in_flight: u32,
    /// Delivered in total, modulo 2^32.
    pub delivered: u32,
    /// Those of `delivered` with a congestion mark.
    pub delivered_ce: u32,
    /// Marked lost in total, modulo 2^32.
    pub lost: u32,
    /// Segments delivered since the reduction began.
    pub prr_delivered: u32,
    /// Segments sent since the reduction began.
    pub prr_out: u32,
    /// Degree of reordering.
    pub reordering: u32,
    /// First unacknowledged sequence number.
    pub snd_una: u32,
    /// Next sequence number to send.
    pub snd_nxt: u32,
    /// End of the data that the program has written.
    pub write_seq: u32,
    /// snd_nxt when recovery began.
    pub high_seq: u32,
    /// When the window last changed, milliseconds of the stack's clock modulo 2^32.
    pub snd_cwnd_stamp: u32,
    /// When data was last sent, in the same unit.
    pub lsndtime: u32,
    /// 1: both ends agreed on ECN.
    pub ecn_ok: u32,
    /// RTT of the path without queues, microseconds, as a hook returned it when the algorithm began (base_rtt of struct
    /// usk_sock_ops); 0: unknown. Linux's NV uses it.
    pub base_rtt_us: u32,
    /// The connection's sock, for usk_break; null when the stack has ended (only in release).
    pub sk: *mut usk_sock_t,
    /// The registration, for usk_count, usk_sysctl, usk_user and usk_random.
    pub reg: *mut usk_reg_t,
}

impl Default for usk_tcp_t {
    fn default() -> usk_tcp_t {
        // SAFETY: numbers and pointers: zero is valid for all of them.
        unsafe { std::mem::zeroed() }
    }
}

impl usk_tcp_t {
    pub(crate) fn of(cx: &Cx<'_>) -> usk_tcp_t {
        let tp = &*cx.tp;
        usk_tcp_t {
            snd_cwnd: tp.snd_cwnd,
            snd_cwnd_cnt: tp.snd_cwnd_cnt,
            snd_ssthresh: tp.snd_ssthresh,
            snd_cwnd_clamp: tp.snd_cwnd_clamp,
            app_limited: tp.app_limited,
            needs_pacing: tp.ca_paces.into(),
            pacing_rate: tp.pacing_rate,
            now: cx.now.as_nanos(),
            max_pacing_rate: cx.sk.max_pacing_rate,
            delivered_mstamp: tp.delivered_mstamp.as_nanos(),
            prior_cwnd: tp.prior_cwnd,
            prior_ssthresh: tp.prior_ssthresh,
            ca_state: tp.ca_state as u32,
            is_cwnd_limited: cong::is_cwnd_limited(tp).into(),
            srtt_us: tp.srtt_us,
            mdev_us: tp.mdev_us,
            min_rtt_us: cong::min_rtt(tp),
            rto_us: tp.rto_us,
            mss_cache: tp.mss_cache,
            packets_out: tp.packets_out,
            sacked_out: tp.sacked_out,
            lost_out: tp.lost_out,
            retrans_out: tp.retrans_out,
            in_flight: cong::packets_in_flight(tp),
            delivered: tp.delivered,
            delivered_ce: tp.delivered_ce,
            lost: tp.lost,
            prr_delivered: tp.prr_delivered,
            prr_out: tp.prr_out,
            reordering: tp.reordering,
            snd_una: tp.snd_una.0,
            snd_nxt: tp.snd_nxt.0,
            write_seq: tp.write_seq.0,
            high_seq: tp.high_seq.0,
            snd_cwnd_stamp: tp.snd_cwnd_stamp_ms,
            lsndtime: tp.lsndtime_ms,
            ecn_ok: tp.ecn.is_ok().into(),
            base_rtt_us: 0,
            sk: ptr::null_mut(),
            reg: ptr::null_mut(),
        }
    }

    /// Copies the writable members back to the connection.
    pub(crate) fn write_back(&self, cx: &mut Cx<'_>) {
        let tp = &mut *cx.tp;
        if tp.snd_cwnd_clamp != self.snd_cwnd_clamp {
            tp.cold_mut().snd_cwnd_clamp = self.snd_cwnd_clamp.max(1);
        }
        tp.snd_cwnd = self.snd_cwnd.clamp(1, tp.snd_cwnd_clamp.min(MAX_CWND));
        tp.snd_cwnd_cnt = self.snd_cwnd_cnt.min(MAX_CWND);
        tp.snd_ssthresh = self.snd_ssthresh.clamp(1, INFINITE_SSTHRESH);
        tp.app_limited = self.app_limited;
        tp.ca_paces |= self.needs_pacing != 0;
        tp.pacing_rate = self.pacing_rate;
    }

    fn slow_start(&mut self, acked: u32) -> u32 {
        let cwnd = self.snd_cwnd.saturating_add(acked).min(self.snd_ssthresh);
        let used = cwnd.saturating_sub(self.snd_cwnd);
        self.snd_cwnd = cwnd.min(self.snd_cwnd_clamp).max(1);
        acked.saturating_sub(used)
    }

    fn cong_avoid_ai(&mut self, w: u32, acked: u32) {
        let w = w.max(1);
        if self.snd_cwnd_cnt >= w {
            self.snd_cwnd_cnt = 0;
            self.snd_cwnd = self.snd_cwnd.saturating_add(1);
        }
        self.snd_cwnd_cnt = self.snd_cwnd_cnt.saturating_add(acked);
        if self.snd_cwnd_cnt >= w {
            let delta = self.snd_cwnd_cnt / w;
            self.snd_cwnd_cnt -= delta * w;
            self.snd_cwnd = self.snd_cwnd.saturating_add(delta);
        }
        self.snd_cwnd = self.snd_cwnd.min(self.snd_cwnd_clamp).max(1);
    }
}

pub(crate) fn rate_sample(rs: &RateSample) -> usk_rate_sample_t {
    usk_rate_sample_t {
        prior_mstamp: rs.prior_mstamp.as_nanos(),
        interval_us: rs.interval_us,
        rtt_us: rs.rtt_us,
        prior_delivered: rs.prior_delivered,
        prior_delivered_ce: rs.prior_delivered_ce,
        delivered: rs.delivered,
        delivered_ce: rs.delivered_ce,
        snd_interval_us: rs.snd_interval_us,
        rcv_interval_us: rs.rcv_interval_us,
        losses: rs.losses,
        acked_sacked: rs.acked_sacked,
        prior_in_flight: rs.prior_in_flight,
        last_end_seq: rs.last_end_seq.0,
        is_app_limited: rs.is_app_limited.into(),
        is_retrans: rs.is_retrans.into(),
        is_ack_delayed: rs.is_ack_delayed.into(),
        reserved: 0,
    }
}

/// Whether the connection is in slow start (tcp_in_slow_start): 1 or 0.
/// # Safety
/// `tp` is a congestion control's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_in_slow_start(tp: *const usk_tcp_t) -> c_int {
    // SAFETY: readable, as the caller guarantees.
    kernel(|| unsafe { obj(tp) }.map(|tp| (tp.snd_cwnd < tp.snd_ssthresh).into()))
}

/// Slow start for `acked` segments, up to the threshold; returns the segments left over for congestion avoidance
/// (tcp_slow_start).
/// # Safety
/// `tp` is a congestion control's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_slow_start(tp: *mut usk_tcp_t, acked: u32) -> u32 {
    // SAFETY: writable, as the caller guarantees.
    kernel(|| unsafe { obj_mut(tp) }.map(|tp| tp.slow_start(acked)))
}

/// Additive increase: one segment for every `w` acknowledged (tcp_cong_avoid_ai).
/// # Safety
/// `tp` is a congestion control's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_tcp_cong_avoid_ai(tp: *mut usk_tcp_t, w: u32, acked: u32) {
    // SAFETY: writable, as the caller guarantees.
    kernel(|| unsafe { obj_mut(tp) }.map(|tp| tp.cong_avoid_ai(w, acked)));
}

/// Reno's threshold: half of the window, at least 2. Fits usk_cong_ops.ssthresh.
/// # Safety
/// `tp` is a congestion control's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_tcp_reno_ssthresh(tp: *mut usk_tcp_t, _priv: *mut c_void) -> u32 {
    // SAFETY: readable, as the caller guarantees.
    kernel(|| unsafe { obj(tp.cast_const()) }.map(|tp| (tp.snd_cwnd >> 1).max(2)))
}

/// Reno's window increase (RFC 5681 §3.1). Fits usk_cong_ops.cong_avoid.
/// # Safety
/// `tp` is a congestion control's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_tcp_reno_cong_avoid(tp: *mut usk_tcp_t, _priv: *mut c_void, _ack: u32, acked: u32) {
    kernel(|| {
        // SAFETY: writable, as the caller guarantees.
        let tp = unsafe { obj_mut(tp) }?;
        if tp.is_cwnd_limited == 0 {
            return Ok(());
        }
        let left = if tp.snd_cwnd < tp.snd_ssthresh { tp.slow_start(acked) } else { acked };
        if left > 0 {
            tp.cong_avoid_ai(tp.snd_cwnd, left);
        }
        Ok(())
    });
}

/// The window after a spurious loss: the window before the loss, if that is larger. Fits usk_cong_ops.undo_cwnd.
/// # Safety
/// `tp` is a congestion control's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_tcp_reno_undo_cwnd(tp: *mut usk_tcp_t, _priv: *mut c_void) -> u32 {
    // SAFETY: readable, as the caller guarantees.
    kernel(|| unsafe { obj(tp.cast_const()) }.map(|tp| tp.snd_cwnd.max(tp.prior_cwnd)))
}
