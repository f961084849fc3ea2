//! Round-trip time: samples, smoothing, windowed minimum and the retransmission timeout. Above: `ack`, handshake.
//! RFC 6298 with Linux's changes: the deviation falls slowly, rises at once, has a floor of the least RTO, and a
//! falling RTT does not raise it. RFC 7323 §4 (samples from timestamps). Linux: tcp_rtt_estimator, tcp_ack_update_rtt.

use super::ack::flag;
use super::sock_ops;
use super::tcb::{Cx, RateSample, TcpSock};
use crate::base::env::Instant;

/// RTO after a handshake that gave no sample, microseconds (RFC 6298 §5.7).
pub(crate) const TIMEOUT_FALLBACK_US: u32 = 3_000_000;

/// Least RTO of the connection, microseconds: the route's, the program's, the sysctl's (tcp_rto_min).
#[inline(always)]
pub(crate) fn rto_min_us(cx: &Cx<'_>) -> u32 {
    match &cx.sk.dst {
        Some(d) if d.metrics.rto_min_us != 0 => d.metrics.rto_min_us,
        _ if cx.tp.options().rto_min_us != 0 => cx.tp.options().rto_min_us,
        _ => cx.stack.sysctl.raw().tcp_rto_min_us(),
    }
}

/// Greatest RTO, microseconds: the program's or the sysctl's (tcp_rto_max).
pub(crate) fn rto_max_us(cx: &Cx<'_>) -> u32 {
    let ms = match cx.tp.options().rto_max_ms {
        0 => cx.stack.sysctl.raw().tcp_rto_max_ms(),
        ms => ms,
    };
    ms.saturating_mul(1000)
}

/// Least RTT of the last `tcp_min_rtt_wlen`, microseconds; `u32::MAX` without a sample.
#[inline]
pub fn min_rtt(tp: &TcpSock) -> u32 {
    tp.rtt_min.get()
}

/// RTO of the estimate as it stands, held to the greatest one. Whole milliseconds, rounded up: the granularity G of
/// RFC 6298 §2 (tcp_set_rto).
pub(crate) fn set_rto(cx: &mut Cx<'_>) {
    let rto = (cx.tp.srtt_us >> 3) as u64 + cx.tp.rttvar_us as u64;
    cx.tp.rto_us = (rto.div_ceil(1000) * 1000).min(rto_max_us(cx) as u64) as u32;
}

/// Updates the smoothed values with a sample of `mrtt_us` microseconds (tcp_rtt_estimator).
pub(crate) fn rtt_estimator(cx: &mut Cx<'_>, mrtt_us: u32) {
    let rto_min = rto_min_us(cx);
    let tp = &mut *cx.tp;
    if tp.srtt_us == 0 {
        tp.srtt_us = mrtt_us.min(u32::MAX >> 3) << 3;
        tp.mdev_us = mrtt_us.min(u32::MAX >> 1) << 1;
        tp.rttvar_us = tp.mdev_us.max(rto_min);
        tp.mdev_max_us = tp.rttvar_us;
        tp.rtt_seq = tp.snd_nxt;
        tp.srtt_us = tp.srtt_us.max(1);
        return sock_ops::rtt(cx, mrtt_us);
    }
    let mut m = mrtt_us as i64 - (tp.srtt_us >> 3) as i64;
    tp.srtt_us = (tp.srtt_us as i64 + m).clamp(1, u32::MAX as i64) as u32;
    if m < 0 {
        m = -m - (tp.mdev_us >> 2) as i64;
        // A falling RTT must not raise the RTO: the deviation counts with an eighth of its weight.
        if m > 0 {
            m >>= 3;
        }
    } else {
        m -= (tp.mdev_us >> 2) as i64;
    }
    tp.mdev_us = (tp.mdev_us as i64 + m).clamp(0, u32::MAX as i64) as u32;
    if tp.mdev_us > tp.mdev_max_us {
        tp.mdev_max_us = tp.mdev_us;
        tp.rttvar_us = tp.rttvar_us.max(tp.mdev_max_us);
    }
    if tp.snd_una.after(tp.rtt_seq) {
        if tp.mdev_max_us < tp.rttvar_us {
            tp.rttvar_us -= (tp.rttvar_us - tp.mdev_max_us) >> 2;
        }
        tp.rtt_seq = tp.snd_nxt;
        tp.mdev_max_us = rto_min;
        sock_ops::rtt(cx, mrtt_us);
    }
}

/// RTT by the echoed timestamp, microseconds; -1 when it cannot be right. Less than a tick counts as `min_ticks`
/// milliseconds (tcp_rtt_tsopt_us).
pub(crate) fn rtt_tsopt_us(cx: &Cx<'_>, min_ticks: u32) -> i64 {
    let delta = (cx.now.as_millis() as u32).wrapping_sub(cx.tp.rx_opt.rcv_tsecr);
    if delta >= i32::MAX as u32 / 1000 {
        return -1;
    }
    delta.max(min_ticks) as i64 * 1000
}

/// Takes what an acknowledgement tells of the RTT, Karn's rule applied by the caller (-1: no such sample). Returns
/// whether there was a sample (tcp_ack_update_rtt).
pub(crate) fn ack_update_rtt(
    cx: &mut Cx<'_>,
    flags: u32,
    seq_rtt_us: i64,
    sack_rtt_us: i64,
    ca_rtt_us: i64,
    rs: &mut RateSample,
) -> bool {
    let (mut seq_rtt, mut ca_rtt) = (seq_rtt_us, ca_rtt_us);
    if seq_rtt < 0 {
        seq_rtt = sack_rtt_us;
    }
    // RFC 7323 §4.1: a timestamp gives a sample even for retransmitted data, but only if new data is acknowledged.
    let o = &cx.tp.rx_opt;
    if seq_rtt < 0 && o.saw_tstamp && o.rcv_tsecr != 0 && flags & flag::ACKED != 0 {
        seq_rtt = rtt_tsopt_us(cx, 1);
        ca_rtt = seq_rtt;
    }
    rs.rtt_us = ca_rtt;
    if seq_rtt < 0 {
        return false;
    }
    update_rtt_min(cx, ca_rtt, flags);
    rtt_estimator(cx, seq_rtt.min(u32::MAX as i64) as u32);
    set_rto(cx);
    cx.tp.backoff = 0;
    true
}

/// RTT of the handshake on the passive side, from the SYN-ACK's only transmission at `sent`; None when it was sent
/// again (tcp_synack_rtt_meas).
pub(crate) fn synack_rtt_meas(cx: &mut Cx<'_>, sent: Option<Instant>) {
    let rtt = sent.map_or(-1, |t| cx.now.micros_since(t));
    let mut rs = RateSample::default();
    ack_update_rtt(cx, flag::SYN_ACKED, rtt, -1, rtt, &mut rs);
}

fn update_rtt_min(cx: &mut Cx<'_>, rtt_us: i64, flags: u32) {
    // A delayed ACK would measure the receiver's timer.
    if flags & flag::ACK_MAYBE_DELAYED != 0 && rtt_us > min_rtt(cx.tp) as i64 {
        return;
    }
    let window_ms = cx.stack.sysctl.raw().tcp_min_rtt_wlen() * 1000;
    let value = if rtt_us == 0 { 1000 } else { rtt_us.clamp(1, u32::MAX as i64) as u32 };
    cx.tp.rtt_min.running_min(window_ms, cx.now.as_millis() as u32, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::testing::Bench;

    /// Rows: sample, then srtt/8, mdev/4, rttvar, RTO in microseconds, by hand from RFC 6298 §2 and the changes the
    /// file names.
    #[test]
    fn estimator_follows_the_table() {
        let c = Bench::new();
        c.with(|cx| {
            for (sample, srtt8, rto) in [
                (100_000u32, 100_000u32, 300_000u32), // first: rttvar is the floor of 200 ms
                (100_000, 100_000, 300_000),
                (108_000, 101_000, 301_000),
                (500_000, 150_875, 641_000),
            ] {
                rtt_estimator(cx, sample);
                set_rto(cx);
                assert_eq!((cx.tp.srtt_us >> 3, cx.tp.rto_us), (srtt8, rto), "after {sample}");
            }
        });
    }

    #[test]
    fn a_falling_rtt_does_not_raise_the_deviation_at_full_weight() {
        let c = Bench::new();
        c.with(|cx| {
            for _ in 0..100 {
                rtt_estimator(cx, 800_000);
            }
            let before = cx.tp.mdev_us;
            rtt_estimator(cx, 400_000);
            assert!(cx.tp.mdev_us - before <= 50_000, "{} {}", before, cx.tp.mdev_us);
        });
    }

    #[test]
    fn without_any_sample_the_rto_is_bounded_by_its_maximum() {
        let c = Bench::new();
        c.with(|cx| {
            rtt_estimator(cx, u32::MAX);
            set_rto(cx);
            assert_eq!(cx.tp.rto_us, rto_max_us(cx));
        });
    }
}
