//! The short way of most acknowledgements of a request and its answer, and of a SYN or FIN: that of the only packet in
//! flight, sent once, on a connection that has lost nothing. It does what [`any`](super::any) does then, without asking
//! for what cannot be; a test plays both. Above: `ack`.

use super::{ack_probe, ack_update_window, count_delivered, flag, in_ack_event, snd_una_update};
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::sock::skb::{Skb, TcpCb};
use crate::tcp::cong::{AckSample, ca_slot};
use crate::tcp::input::{Seg, replace_ts_recent};
use crate::tcp::tcb::{CaState, Cx, RateSample, TcpSock};
use crate::tcp::{chrono, ecn, output, rack, rate, rtt, sack, timer};
use crate::wire::tcp::TcpFlags;

/// Whether it is such an acknowledgement. `flags`: as of [`super::ack`].
#[inline]
pub(super) fn applies(tp: &TcpSock, seg: &Seg, flags: u32) -> bool {
    seg.ack_seq == tp.snd_nxt
        && seg.ack_seq.after(tp.snd_una)
        && tp.rtx_queue.len() == 1
        && tp.rtx_queue.front().is_some_and(|skb| is_whole(tp, skb) && (is_slow(flags) || !is_syn(skb)))
        && has_lost_nothing(tp)
        && !tp.ca.ops.wants_packets()
        && (!is_slow(flags) || seg.sack.is_empty() && !ecn::rcv_ecn_echo(&tp.ecn, seg))
}

/// The header was not as predicted.
#[inline]
fn is_slow(flags: u32) -> bool {
    flags & (flag::SLOWPATH | flag::UPDATE_TS_RECENT) != 0
}

/// Whether it acknowledges nothing, because nothing is in flight: that of a request, or of the SYN-ACK.
#[inline]
pub(super) fn is_idle(tp: &TcpSock, seg: &Seg) -> bool {
    tp.packets_out == 0
        && seg.ack_seq == tp.snd_una
        && seg.sack.is_empty()
        && !tp.tlp_active
        && !tp.ecn.is_accurate()
        && !ecn::rcv_ecn_echo(&tp.ecn, seg)
}

/// Processes that.
pub(super) fn nothing(cx: &mut Cx<'_>, seg: &Seg, mut flags: u32) {
    if flags & flag::UPDATE_TS_RECENT != 0 {
        flags |= replace_ts_recent(cx, seg.seq);
    }
    flags |= update_window(cx, seg);
    cx.sk.err_soft = 0;
    cx.tp.probes_out = 0;
    cx.tp.rcv_tstamp_ms = cx.now.as_millis() as u32;
    in_ack_event(cx, flags);
    ack_probe(cx);
}

/// What slow_path does with a segment without SACK blocks and the echo of a mark.
#[inline]
fn update_window(cx: &mut Cx<'_>, seg: &Seg) -> u32 {
    let mut flags = 0;
    if seg.seq != seg.end_seq {
        flags |= flag::DATA;
    } else {
        cx.stack.mib.inc(Mib::TcpExtTCPPureAcks);
    }
    flags | ack_update_window(cx, seg, seg.ack_seq, seg.seq)
}

/// A predicted header acknowledges none.
#[inline]
fn is_syn(skb: &Skb) -> bool {
    skb.tcp.flags & TcpFlags::SYN.bits() != 0
}

/// The packet was sent once and is all that was sent: no acknowledgement was for a part of it, which would count as
/// reordering.
#[inline]
fn is_whole(tp: &TcpSock, skb: &Skb) -> bool {
    let cb = &skb.tcp;
    cb.seq == tp.snd_una
        && cb.end_seq == tp.snd_nxt
        && cb.sacked == 0
        && skb.tx_stamp.is_none()
        && tp.packets_out == pcount(cb)
}

fn pcount(cb: &TcpCb) -> u32 {
    u32::from(cb.gso_segs.max(1))
}

/// The connection is in its ordinary state, and nobody else has a say in it.
#[inline(always)]
fn has_lost_nothing(tp: &TcpSock) -> bool {
    tp.ca_state == CaState::Open
        && tp.sacked_out | tp.lost_out | tp.retrans_out == 0
        && tp.is_ordinary()
        && !tp.tlp_active
        && !tp.is_sack_reneg
        && tp.tfb_slots == 0
        && sack::is_sack(tp)
        && !tp.ecn.is_accurate()
}

/// Processes it.
#[inline]
pub(super) fn acknowledge(cx: &mut Cx<'_>, seg: &Seg, flags: u32) {
    if is_slow(flags) { slowly(cx, seg, flags) } else { process::<false>(cx, seg, flags) }
}

#[inline(never)]
fn slowly(cx: &mut Cx<'_>, seg: &Seg, flags: u32) {
    process::<true>(cx, seg, flags);
}

#[inline(always)]
fn process<const SLOW: bool>(cx: &mut Cx<'_>, seg: &Seg, mut flags: u32) {
    let (ack, prior_snd_una) = (seg.ack_seq, cx.tp.snd_una);
    let mut rs = RateSample { prior_in_flight: cx.tp.packets_out, ..RateSample::default() };
    cx.tp.retransmits = 0;
    let mib = cx.stack.mib.here();
    if SLOW && flags & flag::UPDATE_TS_RECENT != 0 {
        flags |= replace_ts_recent(cx, seg.seq);
    }
    if !SLOW {
        cx.tp.snd_wl1 = seg.seq;
        snd_una_update(cx, ack);
        mib.inc(Mib::TcpExtTCPHPAcks);
    } else {
        flags |= update_window(cx, seg);
    }
    cx.sk.err_soft = 0;
    cx.tp.probes_out = 0;
    cx.tp.rcv_tstamp_ms = cx.now.as_millis() as u32;

    // What clean_rtx_queue does.
    let Some(mut skb) = cx.tp.rtx_queue.pop_front() else { return };
    let (sent, segs) = (skb.tcp.mstamp, pcount(&skb.tcp));
    let is_syn = SLOW && is_syn(&skb);
    let mut acked = if is_syn { flag::SYN_ACKED } else { flag::DATA_ACKED };
    if is_syn {
        cx.tp.retrans_stamp = Instant::ZERO;
    }
    if !ack.after(cx.tp.high_seq) {
        acked |= flag::ORIG_SACK_ACKED;
    }
    count_delivered(cx, segs, false);
    rack::rack_advance(cx.tp, cx.now, 0, ack, sent);
    cx.tp.packets_out = 0;
    rate::rate_skb_delivered(cx.tp, &mut skb.tcp, &mut rs);
    output::wmem_free_skb(cx, skb);
    cx.tp.follow_una(prior_snd_una);
    chrono::chrono_stop(cx, chrono::Chrono::Busy);
    let mut rtt = -1;
    if sent != Instant::ZERO {
        rtt = cx.now.micros_since(sent);
        let one = segs == 1 && !is_syn && ack.since(prior_snd_una) < cx.tp.mss_cache;
        if one && rs.prior_delivered.wrapping_add(1) == cx.tp.delivered {
            acked |= flag::ACK_MAYBE_DELAYED;
        }
    }
    rtt::ack_update_rtt(cx, acked, rtt, -1, rtt, &mut rs);
    let sample = AckSample {
        pkts_acked: segs,
        rtt_us: rs.rtt_us,
        in_flight: cx.tp.mss_cache.wrapping_mul(cx.tp.delivered.wrapping_sub(rs.prior_delivered)),
    };
    cx.with_ca_slot(ca_slot::PKTS_ACKED, |ca, cx| ca.pkts_acked(cx, &sample));

    let flags = flags | acked | flag::SET_XMIT_TIMER | flag::SND_UNA_ADVANCED | flag::WIN_UPDATE;
    rack::rack_update_reo_wnd(cx, &rs);
    in_ack_event(cx, flags);
    timer::clear_xmit_timer(cx);
    cx.tp.dst_pending_confirm = true;
    mib.add(Mib::TcpExtTCPDelivered, u64::from(segs));
    rs.is_ack_delayed = flags & flag::ACK_MAYBE_DELAYED != 0;
    rate::rate_gen(cx, segs, 0, false, &mut rs);
    super::cong_control(cx, ack, segs, flags, &rs);
}

#[cfg(test)]
mod tests;
