//! Delivery-rate samples: how many segments the path delivered over which time, for congestion control and `tcp_info`.
//! Above: `ack`, `sack`, `segment`, `sendmsg`. draft-cheng-iccrg-delivery-rate-estimation. Linux: net/ipv4/tcp_rate.c.

use super::rtt;
use super::tcb::{Cx, RateSample, TcpSock};
use crate::base::env::Instant;
use crate::sock::skb::{SKB_OVERHEAD, TcpCb, sacked};
use crate::wire::seq::SeqNum;
use std::sync::atomic::Ordering;

/// Whether a transmission at `t1` ending at `seq1` left after one at `t2` ending at `seq2`: by time, then by sequence.
#[inline]
pub(crate) fn sent_after(t1: Instant, t2: Instant, seq1: SeqNum, seq2: SeqNum) -> bool {
    t1 > t2 || (t1 == t2 && seq1.after(seq2))
}

/// A segment is being sent: notes on it where delivery stands. `skb.tcp.mstamp` is its send time. With nothing in
/// flight an interval starts with it (tcp_rate_skb_sent).
#[inline]
pub(crate) fn rate_skb_sent(tp: &mut TcpSock, cb: &mut TcpCb) {
    if tp.packets_out == 0 {
        tp.first_tx_mstamp = cb.mstamp;
        tp.delivered_mstamp = cb.mstamp;
    }
    cb.first_tx_mstamp = tp.first_tx_mstamp;
    cb.delivered_mstamp = tp.delivered_mstamp;
    cb.delivered = tp.delivered;
    cb.delivered_ce = tp.delivered_ce;
    cb.app_limited = tp.app_limited != 0;
}

/// A segment was acknowledged or selectively acknowledged: the most recently sent of an acknowledgement gives the
/// sample (tcp_rate_skb_delivered).
#[inline]
pub(crate) fn rate_skb_delivered(tp: &mut TcpSock, cb: &mut TcpCb, rs: &mut RateSample) {
    if cb.delivered_mstamp == Instant::ZERO {
        return;
    }
    if rs.prior_delivered == 0 || sent_after(cb.mstamp, tp.first_tx_mstamp, cb.end_seq, rs.last_end_seq) {
        rs.prior_delivered_ce = cb.delivered_ce;
        rs.prior_delivered = cb.delivered;
        rs.prior_mstamp = cb.delivered_mstamp;
        rs.is_app_limited = cb.app_limited;
        rs.is_retrans = cb.sacked & sacked::RETRANS != 0;
        rs.last_end_seq = cb.end_seq;
        tp.first_tx_mstamp = cb.mstamp;
        rs.interval_us = tp.first_tx_mstamp.micros_since(cb.first_tx_mstamp);
    }
    // A selectively acknowledged segment gives one sample only.
    if cb.sacked & sacked::SACKED_ACKED != 0 {
        cb.delivered_mstamp = Instant::ZERO;
    }
}

/// Completes the sample of an acknowledgement that delivered `delivered` segments and told of `lost` more
/// (tcp_rate_gen).
pub(crate) fn rate_gen(cx: &mut Cx<'_>, delivered: u32, lost: u32, is_sack_reneg: bool, rs: &mut RateSample) {
    let tp = &mut *cx.tp;
    if tp.app_limited != 0 && SeqNum(tp.delivered).after(SeqNum(tp.app_limited)) {
        tp.app_limited = 0;
    }
    if delivered != 0 {
        tp.delivered_mstamp = cx.now;
    }
    rs.acked_sacked = delivered;
    rs.losses = lost as i32;
    if rs.prior_mstamp == Instant::ZERO || is_sack_reneg {
        rs.delivered = -1;
        rs.interval_us = -1;
        return;
    }
    rs.delivered = tp.delivered.wrapping_sub(rs.prior_delivered) as i32;
    rs.delivered_ce = tp.delivered_ce.wrapping_sub(rs.prior_delivered_ce) as i32;
    // The longer of the send and the acknowledgement phase counts, so that neither ACK compression nor a burst makes
    // the path look faster.
    let snd_us = rs.interval_us.max(0);
    let ack_us = cx.now.micros_since(rs.prior_mstamp);
    rs.interval_us = snd_us.max(ack_us);
    rs.snd_interval_us = snd_us.min(u32::MAX as i64) as u32;
    rs.rcv_interval_us = ack_us.min(u32::MAX as i64) as u32;
    // An interval below the least RTT is impossible.
    if rs.interval_us < rtt::min_rtt(tp).min(i32::MAX as u32) as i64 {
        rs.interval_us = -1;
        return;
    }
    // The first product is less than 2^63.
    let faster = i64::from(rs.delivered) * i64::from(tp.rate_interval_us)
        >= i64::from(tp.rate_delivered).saturating_mul(rs.interval_us);
    if !rs.is_app_limited || faster {
        tp.rate_delivered = rs.delivered.max(0) as u32;
        tp.rate_interval_us = rs.interval_us.min(u32::MAX as i64) as u32;
        tp.rate_app_limited = rs.is_app_limited;
    }
}

/// Marks the following samples as application limited when the application supplied less than the path could carry
/// (tcp_rate_check_app_limited).
#[inline(always)]
pub(crate) fn check_app_limited(cx: &mut Cx<'_>) {
    let in_flight = super::output::packets_in_flight(cx.tp);
    let tp = &mut *cx.tp;
    if tp.write_seq.diff(tp.snd_nxt) < tp.mss_cache as i32
        && cx.sock.wmem_alloc.load(Ordering::Relaxed) < SKB_OVERHEAD
        && in_flight < tp.snd_cwnd
        && tp.lost_out <= tp.retrans_out
    {
        tp.app_limited = tp.delivered.wrapping_add(in_flight).max(1);
    }
}
