//! Header prediction: the header that the next segment is expected to have, and what one that has it does. Above:
//! `input`. Below: `ack`, `reassembly`. Linux: the fast path of tcp_rcv_established.

use super::{HEADER_WITH_TS, Seg, data_snd_check, drop_seg, long_way, store_ts_recent};
use crate::base::ways::Way;
use crate::counters::{DropReason, Mib};
use crate::sock::skb::Skb;
use crate::tcp::ack::{self, flag};
use crate::tcp::delack::ack_snd_check_always;
use crate::tcp::reassembly::{self, DataRecv};
use crate::tcp::tcb::Cx;
use crate::tcp::{ecn, rcvbuf, recvmsg, sock_ops, window};
use crate::wire::tcp::TcpFlags;
use std::sync::atomic::Ordering;

/// Bits of the flag word that header prediction does not compare: reserved bits and PSH.
const HP_IGNORE: u32 = 0x0e00_0000 | (TcpFlags::PSH.bits() as u32) << 16;

/// Turns header prediction on: the next header is expected to have this length and window, ACK and the ACE field alone
/// (tcp_fast_path_on).
pub fn fast_path_on(cx: &mut Cx<'_>) {
    let tp = &mut *cx.tp;
    let win = tp.snd_wnd >> tp.rx_opt.snd_wscale.get();
    let flags = TcpFlags::ACK | tp.ecn.expected_flags(tp.delivered_ce);
    tp.pred_flags = (tp.tcp_header_len as u32) << 26 | u32::from(flags.bits()) << 16 | win;
}

/// Turns header prediction on if there is no hole, no urgent data, and room in the buffer (tcp_fast_path_check).
pub fn fast_path_check(cx: &mut Cx<'_>) {
    if cx.tp.ooo_queue.is_empty()
        && cx.tp.rcv_wnd != 0
        && cx.sock.rmem_alloc.load(Ordering::Relaxed) < cx.sock.rcvbuf.load(Ordering::Relaxed)
        && cx.tp.urg_data == 0
    {
        fast_path_on(cx);
    }
}

/// Whether the header is as predicted, and then whether TS.Recent is to be taken from it. `unknown`: it has options
/// that TCP does not know.
#[inline(always)]
pub(super) fn predicted(cx: &mut Cx<'_>, seg: &Seg, timestamps: Option<(u32, u32)>, unknown: bool) -> Option<bool> {
    if seg.flag_word & !HP_IGNORE != cx.tp.pred_flags
        || seg.seq != cx.tp.rcv_nxt
        || seg.ack_seq.after(cx.tp.snd_nxt)
        // Departure: Linux takes the data of a predicted segment with whatever old acknowledgement, and then
        // answers with a challenge ACK. One that is too old may be forged: the slow path drops it (RFC 5961 §5.2).
        || ack::is_too_old(cx.tp, seg.ack_seq)
        // Data beyond the window: the slow path decides.
        || seg.end_seq.after(cx.tp.rcv_nxt + window::receive_window(cx.tp))
        || cx.tp.pred_flags == 0
        || !Way::Predict.is_open()
        || sock_ops::wants_options(cx, unknown)
    {
        return None;
    }
    if cx.tp.tcp_header_len != HEADER_WITH_TS {
        return Some(false);
    }
    let (val, ecr) = timestamps?;
    let r = &mut cx.tp.rx_opt;
    r.saw_tstamp = true;
    r.rcv_tsval = val;
    r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(cx.tp.tsoffset) } else { 0 };
    // PAWS may reject it: the slow path decides.
    if (val.wrapping_sub(cx.tp.rx_opt.ts_recent) as i32) < 0 {
        return None;
    }
    Some(cx.tp.rcv_nxt == cx.tp.rcv_wup)
}

/// A segment with the predicted header; `store_ts`: TS.Recent is taken from it.
#[inline(always)]
pub(super) fn rcv_predicted(cx: &mut Cx<'_>, seg: &Seg, mut skb: Skb, store_ts: bool) {
    Way::Predict.taken();
    if skb.len() == seg.header_len {
        // A pure acknowledgement.
        let flags = if store_ts { store_ts_recent(cx) } else { 0 };
        ecn::received(cx, seg, 0);
        ack::ack(cx, seg, flags);
        drop(skb);
        data_snd_check(cx);
        cx.tp.rcv_rtt_last_tsecr = cx.tp.rx_opt.rcv_tsecr;
        return;
    }
    // In-order data, if the sock has memory for it charged already.
    reassembly::charge(cx, &mut skb);
    if skb.truesize as i64 > cx.sk.forward_alloc as i64 {
        return long_way(cx, *seg, skb);
    }
    if !skb.pull(seg.header_len) {
        cx.stack.mib.inc(Mib::TcpInErrs);
        return drop_seg(cx, skb, DropReason::PktTooSmall);
    }
    let flags = if store_ts { store_ts_recent(cx) } else { 0 };
    rcvbuf::rcv_rtt_measure_ts(cx, seg);
    cx.stack.mib.here().inc(Mib::TcpExtTCPHPHits);
    ecn::received(cx, seg, skb.len() as u32);
    let note = DataRecv::note(cx, seg, &skb);
    reassembly::queue_rcv(cx, skb);
    note.finish(cx, seg);
    let mut check_ack = true;
    if seg.ack_seq != cx.tp.snd_una {
        ack::ack(cx, seg, flags | flag::DATA);
        data_snd_check(cx);
        // Data that was just sent may have carried the acknowledgement.
        check_ack = cx.tp.ack.is_scheduled();
    } else {
        cx.tp.snd_wl1 = seg.seq;
    }
    if check_ack {
        ack_snd_check_always(cx, false);
    }
    recvmsg::data_ready(cx);
}
