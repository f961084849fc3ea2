//! Takes what is acknowledged off the retransmit queue: out of the counts of segments in flight, and as samples of the
//! round-trip time, of the delivery rate and of reordering. Above: `ack`. Below: `queue`, `rtt`, `rate`, `rack`. Linux:
//! tcp_clean_rtx_queue.

use super::{AckSt, count_delivered, flag};
use crate::base::env::Instant;
use crate::sock::skb::{TcpCb, sacked};
use crate::tcp::cong::{self, AckSample, ca_slot};
use crate::tcp::queue::Pos;
use crate::tcp::tcb::Cx;
use crate::tcp::{chrono, mtu_probe, output, rack, rate, recovery, rtt, sack, tstamp};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;

/// Segments of a super-packet that the acknowledgement covers; the covered bytes are cut off (tcp_tso_acked).
fn tso_acked(cx: &mut Cx<'_>) -> u32 {
    let una = cx.tp.snd_una;
    let Some(skb) = cx.tp.rtx_queue.front() else { return 0 };
    let before = skb.tcp.gso_segs.max(1) as u32;
    let acked = una.since(skb.tcp.seq);
    // SYN and FIN take no byte; a super-packet has no SYN, and its FIN is at the end, which is not acknowledged.
    if !output::trim_head(cx, Pos::FRONT, acked) {
        return 0;
    }
    let Some(skb) = cx.tp.rtx_queue.front_mut() else { return 0 };
    let size = skb.tcp.gso_size.max(1) as usize;
    let after = skb.len().div_ceil(size).max(1).min(before as usize);
    skb.tcp.gso_segs = after as u16;
    before - after as u32
}

/// What taking acknowledged segments off the retransmit queue has told so far.
struct Cleaned {
    /// Bits of [`flag`].
    flags: u32,
    /// Send times of the first and the last segment that was sent only once; zero: none.
    first_ackt: Instant,
    last_ackt: Instant,
    /// Lowest sequence number of those.
    reord: SeqNum,
    /// Segments.
    pkts_acked: u32,
    /// The last one was acknowledged whole.
    fully_acked: bool,
}

/// Takes acknowledged segments off the retransmit queue and samples them; returns flags to add (tcp_clean_rtx_queue).
pub(super) fn clean_rtx_queue(
    cx: &mut Cx<'_>,
    prior_fack: SeqNum,
    prior_snd_una: SeqNum,
    st: &mut AckSt,
    ece: bool,
) -> u32 {
    let mut c = Cleaned {
        flags: 0,
        first_ackt: Instant::ZERO,
        last_ackt: Instant::ZERO,
        reord: cx.tp.snd_nxt,
        pkts_acked: 0,
        fully_acked: true,
    };
    let prior_sacked = cx.tp.sacked_out;
    while clean_head(cx, &mut c, st, (prior_snd_una, ece)) {}
    // A hint below `snd_una` refers to a segment that has been freed.
    if cx.tp.retransmit_hint.is_some_and(|h| h.before(cx.tp.snd_una)) {
        cx.tp.clear_retransmit_hint();
    }
    cx.tp.follow_una(prior_snd_una);
    let head = cx.tp.rtx_queue.front().map(|s| (s.tcp.sacked, s.tcp.mstamp));
    if head.is_none() {
        chrono::chrono_stop(cx, chrono::Chrono::Busy);
    }
    if head.is_some_and(|(bits, _)| bits & sacked::SACKED_ACKED != 0) {
        c.flags |= flag::SACK_RENEGING;
    }

    let (mut seq_rtt, mut ca_rtt, mut sack_rtt) = (-1i64, -1i64, -1i64);
    if c.first_ackt != Instant::ZERO && c.flags & flag::RETRANS_DATA_ACKED == 0 {
        seq_rtt = cx.now.micros_since(c.first_ackt);
        ca_rtt = cx.now.micros_since(c.last_ackt);
        // A single small segment was acknowledged alone: the receiver may have delayed the acknowledgement.
        if c.pkts_acked == 1
            && c.fully_acked
            && prior_sacked == 0
            && cx.tp.snd_una.since(prior_snd_una) < cx.tp.mss_cache
            && st.rate.prior_delivered.wrapping_add(1) == cx.tp.delivered
            && c.flags & (flag::CA_ALERT | flag::SYN_ACKED) == 0
        {
            c.flags |= flag::ACK_MAYBE_DELAYED;
        }
    }
    if st.first_sackt != Instant::ZERO {
        sack_rtt = cx.now.micros_since(st.first_sackt);
        ca_rtt = cx.now.micros_since(st.last_sackt);
    }
    let rtt_update = rtt::ack_update_rtt(cx, c.flags, seq_rtt, sack_rtt, ca_rtt, &mut st.rate);

    if c.flags & flag::ACKED != 0 {
        let left = cx.tp.rtx_queue.front().map_or(cx.tp.snd_una, |s| s.tcp.seq);
        st.delivered_bytes = left.since(prior_snd_una);
        after_progress(cx, &mut c, prior_fack, ece);
    } else if let Some((_, mstamp)) = head
        && rtt_update
        && sack_rtt >= 0
        && sack_rtt > cx.now.micros_since(mstamp)
    {
        // The head was sent after the sampled segment: the timer is set again from the head's send time.
        c.flags |= flag::SET_XMIT_TIMER;
    }
    let sample = AckSample {
        pkts_acked: c.pkts_acked,
        rtt_us: st.rate.rtt_us,
        in_flight: cx.tp.mss_cache.wrapping_mul(cx.tp.delivered.wrapping_sub(st.rate.prior_delivered)),
    };
    cong::pkts_delivered(cx, &st.packets);
    cx.with_ca_slot(ca_slot::PKTS_ACKED, |ca, cx| ca.pkts_acked(cx, &sample));
    c.flags
}

/// Takes the head off the retransmit queue if it is acknowledged, or cuts off what is. True: the next may be, too.
#[inline]
fn clean_head(cx: &mut Cx<'_>, c: &mut Cleaned, st: &mut AckSt, (prior_snd_una, ece): (SeqNum, bool)) -> bool {
    let Some(skb) = cx.tp.rtx_queue.front() else { return false };
    let start_seq = skb.tcp.seq;
    let bits = skb.tcp.sacked;
    let mut pcount = skb.tcp.gso_segs.max(1) as u32;
    if skb.tcp.end_seq.after(cx.tp.snd_una) {
        if pcount == 1 || !cx.tp.snd_una.after(start_seq) {
            return false;
        }
        pcount = tso_acked(cx);
        if pcount == 0 {
            return false;
        }
        c.fully_acked = false;
    }
    let Some(skb) = cx.tp.rtx_queue.front() else { return false };
    if skb.tx_stamp.is_some() {
        tstamp::ack_tstamp(cx, prior_snd_una, st.ttl);
    }
    // What is acknowledged whole leaves the queue.
    let mut gone = if c.fully_acked { cx.tp.rtx_queue.pop_front() } else { None };
    let mut rest = TcpCb::default();
    let cb = match (&mut gone, cx.tp.rtx_queue.front()) {
        (Some(skb), _) => &mut skb.tcp,
        (None, Some(skb)) => {
            rest = skb.tcp;
            &mut rest
        }
        (None, None) => return false,
    };

    leaves_flight(cx, c, cb, (start_seq, bits), (pcount, ece));
    // Of a packet of which only the front is acknowledged, `cb` is the rest.
    let end_seq = if cb.end_seq.after(cx.tp.snd_una) { cx.tp.snd_una } else { cb.end_seq };
    st.packet(cb, (start_seq, end_seq), pcount, false, cx.now);
    rate::rate_skb_delivered(cx.tp, cb, &mut st.rate);
    // The SYN is queued like data, but its acknowledgement is no evidence of the path's capacity.
    if cb.flags & TcpFlags::SYN.bits() == 0 {
        c.flags |= flag::DATA_ACKED;
    } else {
        c.flags |= flag::SYN_ACKED;
        cx.tp.retrans_stamp = Instant::ZERO;
    }
    let Some(skb) = gone else {
        if let Some(skb) = cx.tp.rtx_queue.front_mut() {
            skb.tcp = rest;
        }
        return false;
    };
    if cx.tp.retransmit_hint == Some(start_seq) {
        cx.tp.clear_retransmit_hint();
    }
    output::wmem_free_skb(cx, skb);
    true
}

/// Takes `pcount` acknowledged segments of a packet, which had the marks `bits`, out of the counts of what is in
/// flight, and notes what they say of the round-trip time, of reordering and of losses before them.
#[inline]
fn leaves_flight(
    cx: &mut Cx<'_>,
    c: &mut Cleaned,
    cb: &TcpCb,
    (start_seq, bits): (SeqNum, u8),
    (pcount, ece): (u32, bool),
) {
    if bits & sacked::RETRANS != 0 {
        if bits & sacked::SACKED_RETRANS != 0 {
            cx.tp.retrans_out = cx.tp.retrans_out.saturating_sub(pcount);
        }
        c.flags |= flag::RETRANS_DATA_ACKED;
    } else if bits & sacked::SACKED_ACKED == 0 {
        c.last_ackt = cb.mstamp;
        if c.first_ackt == Instant::ZERO {
            c.first_ackt = c.last_ackt;
        }
        if start_seq.before(c.reord) {
            c.reord = start_seq;
        }
        if !cb.end_seq.after(cx.tp.high_seq) {
            c.flags |= flag::ORIG_SACK_ACKED;
        }
    }
    if bits & sacked::SACKED_ACKED != 0 {
        cx.tp.sacked_out = cx.tp.sacked_out.saturating_sub(pcount);
    } else if sack::is_sack(cx.tp) {
        count_delivered(cx, pcount, ece);
        if !rack::spurious_retrans(cx.tp, cb) {
            rack::rack_advance(cx.tp, cx.now, bits, cb.end_seq, cb.mstamp);
        }
    }
    if bits & sacked::LOST != 0 {
        cx.tp.lost_out = cx.tp.lost_out.saturating_sub(pcount);
    }
    cx.tp.packets_out = cx.tp.packets_out.saturating_sub(pcount);
    c.pkts_acked += pcount;
}

/// Data or the SYN was acknowledged: the timer starts anew, and what arrived in which order is judged.
#[inline]
fn after_progress(cx: &mut Cx<'_>, c: &mut Cleaned, prior_fack: SeqNum, ece: bool) {
    c.flags |= flag::SET_XMIT_TIMER;
    mtu_probe::acked(cx);
    if sack::is_sack(cx.tp) {
        // A hole that was never retransmitted got filled: reordering.
        if c.reord.before(prior_fack) {
            sack::check_sack_reordering(cx, c.reord, false);
        }
    } else {
        recovery::remove_reno_sacks(cx, c.pkts_acked, ece);
        // Without SACK the delivery of an original cannot be told from that of its retransmission.
        if c.flags & flag::RETRANS_DATA_ACKED != 0 {
            c.flags &= !flag::ORIG_SACK_ACKED;
        }
    }
}
