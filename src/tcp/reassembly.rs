//! Received data: in order to the receive queue, out of order to its own, until the hole is filled. Above: `input`.
//! Below: `prune` (room), `rcvbuf`, `sack` (what is reported). RFC 9293 §3.10.7.4 (seventh, eighth). Linux:
//! tcp_data_queue, tcp_data_queue_ofo, tcp_ofo_queue, tcp_fin.

use super::delack::{self, MAX_QUICKACKS, enter_quickack_mode};
use super::input::{Seg, fast_path_check};
use super::output::FIN;
use super::prune::try_rmem_schedule;
use super::queue::Pos;
use super::recvmsg::data_ready;
use super::segment::rethink_txhash;
use super::tcb::{CaState, Cx};
use super::{close, control, ecn, rcvbuf, sack, timewait, window};
use crate::base::env::Duration;
use crate::counters::{DropReason, Mib};
use crate::sock::dst::DstKind;
use crate::sock::skb::{L3, MAX_SKB_FRAGS, SKB_OVERHEAD, Skb};
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, flag, mem};
use crate::wire::seq::SeqNum;
use std::sync::atomic::Ordering;

/// Drops a packet for a reason.
#[track_caller]
fn drop_skb(cx: &Cx<'_>, skb: Skb, reason: DropReason) {
    cx.stack.mib.drop(reason);
    cx.sock.drops.fetch_add(1, Ordering::Relaxed);
    drop(skb);
}

#[inline]
fn rcv_nxt_update(cx: &mut Cx<'_>, seq: SeqNum) {
    cx.tp.bytes_received = cx.tp.bytes_received.wrapping_add(seq.since(cx.tp.rcv_nxt) as u64);
    cx.tp.rcv_nxt = seq;
}

/// Moves the bytes of `from` to the end of `to` if they follow and the result has not too many fragments; returns the
/// growth of truesize (tcp_try_coalesce). `local`: the sender is this stack; what it has not seen acknowledged stays as
/// it is, so that it is freed as it is read.
fn try_coalesce(to: &mut Skb, from: &mut Skb, local: bool) -> Option<u32> {
    if local && to.is_cloned() {
        return None;
    }
    if from.tcp.seq != to.tcp.end_seq
        || from.head_len() != 0
        || to.tcp.flags & FIN != 0
        || to.frags().len() + from.frags().len() > MAX_SKB_FRAGS
    {
        return None;
    }
    // A packet from a sender in this stack was charged by bytes and not by pages, so no more than that is charged for
    // its fragments. One that a device received adds all that it was charged: Linux does not join packets whose head is
    // kmalloc's (skb_head_is_locked), so that each costs as much there.
    let (before, whole) = (to.truesize, from.truesize);
    let pages = to.append_frags(from);
    let grown = if local { pages.min(whole.saturating_sub(SKB_OVERHEAD)) } else { whole };
    to.truesize = before + grown;
    to.tcp.end_seq = from.tcp.end_seq;
    to.tcp.ack_seq = from.tcp.ack_seq;
    to.tcp.flags |= from.tcp.flags;
    to.rx_segs = to.rx_segs.saturating_add(from.rx_segs);
    if from.tcp.has_rxtstamp {
        to.tcp.has_rxtstamp = true;
        to.tstamp = from.tstamp;
    }
    Some(grown)
}

/// Notes whether the arrival time of `skb` can be shown to the program: packets have one from when some socket of the
/// stack first asks for it. Departure: Linux stops when the last such socket is closed, this stack does not.
#[inline]
fn mark_rxtstamp(cx: &Cx<'_>, skb: &mut Skb) {
    skb.tcp.has_rxtstamp = cx.stack.netstamp_needed.load(Ordering::Relaxed);
}

/// Whether the peer is in this stack.
fn from_here(cx: &Cx<'_>) -> bool {
    cx.sk.dst.as_ref().is_some_and(|dst| dst.kind == DstKind::Local)
}

/// Puts an in-order packet, scheduled already, into the receive queue (tcp_queue_rcv).
#[inline(always)]
pub(crate) fn queue_rcv(cx: &mut Cx<'_>, mut skb: Skb) {
    let end_seq = skb.tcp.end_seq;
    mark_rxtstamp(cx, &mut skb);
    let local = from_here(cx);
    if let Some(tail) = cx.sk.receive_queue.back_mut()
        && let Some(grown) = try_coalesce(tail, &mut skb, local)
    {
        mem::charge_rmem(cx.sock, cx.sk, grown);
        cx.stack.mib.inc(Mib::TcpExtTCPRcvCoalesce);
        rcv_nxt_update(cx, end_seq);
        return;
    }
    rcv_nxt_update(cx, end_seq);
    mem::charge_rmem(cx.sock, cx.sk, skb.truesize);
    cx.sk.receive_queue.push_back(skb);
}

/// What is updated when in-order data arrives: the peer's segment size, RTT, and the delay of acknowledgements
/// (tcp_event_data_recv).
pub(crate) struct DataRecv {
    len: usize,
    truesize: u32,
}

impl DataRecv {
    /// Takes the sizes of a packet before it is queued, and learns the segment size from it.
    pub(crate) fn note(cx: &mut Cx<'_>, seg: &Seg, skb: &Skb) -> DataRecv {
        cx.tp.ack.schedule();
        rcvbuf::measure_rcv_mss(cx, seg, skb);
        DataRecv { len: skb.len(), truesize: skb.truesize }
    }

    /// After it was queued.
    #[inline(always)]
    pub(crate) fn finish(self, cx: &mut Cx<'_>, seg: &Seg) {
        rcvbuf::rcv_rtt_measure(cx);
        delack::measure_ato(cx);
        cx.tp.ack.lrcv_flowlabel = seg.flow_label;
        ecn::data_ecn_check(cx, seg);
        if self.len >= 128 {
            rcvbuf::grow_window(cx, self.len as u32, self.truesize);
        }
    }
}

/// Decides what a packet with its TCP header in place is charged. A small one in a large page is copied, so that it is
/// charged what it needs; what this stack sent to itself is charged as it was sent.
pub(super) fn charge(cx: &Cx<'_>, skb: &mut Skb) {
    let sent = skb.truesize;
    skb.shrink();
    if from_here(cx) {
        // The copy of what was in two pages may be in a page that is much larger.
        skb.truesize = sent;
    } else {
        let ip_header = if skb.l3 == L3::V6 { 40 } else { 20 };
        let len = ip_header + skb.len();
        skb.charge_received(len);
    }
}

/// Queues the text of an acceptable segment (tcp_data_queue).
pub(crate) fn data_queue(cx: &mut Cx<'_>, seg: &Seg, mut skb: Skb) {
    if seg.seq == seg.end_seq {
        return;
    }
    charge(cx, &mut skb);
    if !skb.pull(seg.header_len) {
        return drop_skb(cx, skb, DropReason::PktTooSmall);
    }
    sack::dsack_clear(cx.tp);
    let rwnd = window::receive_window(cx.tp);

    if seg.seq == cx.tp.rcv_nxt {
        let bare_fin = skb.is_empty() && skb.tcp.flags & FIN != 0;
        if rwnd == 0 && !bare_fin {
            cx.stack.mib.inc(Mib::TcpExtTCPZeroWindowDrop);
            return out_of_window(cx, skb, DropReason::TcpZeroWindow);
        }
        return queue_and_out(cx, seg, skb);
    }
    if !seg.end_seq.after(cx.tp.rcv_nxt) {
        // All of it was received before: our acknowledgement was lost, or late.
        rcv_spurious_retrans(cx, seg);
        cx.stack.mib.inc(Mib::TcpExtDelayedACKLost);
        sack::dsack_set(cx, seg.seq, seg.end_seq);
        return out_of_window(cx, skb, DropReason::TcpOldData);
    }
    if !seg.seq.before(cx.tp.rcv_nxt + rwnd) {
        // Of a window that was taken back: only what is next in order is still taken. A FIN alone at the edge is in no
        // window either, but not counted (tcp_sequence).
        if !skb.is_empty() || seg.seq != cx.tp.rcv_nxt + rwnd {
            cx.stack.mib.inc(Mib::TcpExtBeyondWindow);
        }
        return out_of_window(cx, skb, DropReason::TcpOverWindow);
    }
    if seg.seq.before(cx.tp.rcv_nxt) {
        // The front was received before, the end is new.
        sack::dsack_set(cx, seg.seq, cx.tp.rcv_nxt);
        if rwnd == 0 {
            cx.stack.mib.inc(Mib::TcpExtTCPZeroWindowDrop);
            return out_of_window(cx, skb, DropReason::TcpZeroWindow);
        }
        return queue_and_out(cx, seg, skb);
    }
    data_queue_ofo(cx, seg, skb);
}

/// Data came that was received before. Where the peer sends it another way by now (its flow label is new, as after a
/// timeout of its own), our acknowledgements probably do not arrive: they take another way, too, unless a timeout of
/// ours has just chosen one (tcp_rcv_spurious_retrans).
pub(super) fn rcv_spurious_retrans(cx: &mut Cx<'_>, seg: &Seg) {
    let moved = cx.sk.daddr.is_ipv6() && cx.tp.ack.lrcv_flowlabel != seg.flow_label;
    if moved && cx.tp.ca_state != CaState::Loss && rethink_txhash(cx) {
        cx.stack.mib.inc(Mib::TcpExtTcpDuplicateDataRehash);
    }
    cx.tp.ack.lrcv_flowlabel = seg.flow_label;
    ecn::arrives_again(cx.tp, seg.seq);
}

#[track_caller]
fn out_of_window(cx: &mut Cx<'_>, skb: Skb, reason: DropReason) {
    enter_quickack_mode(cx, MAX_QUICKACKS);
    cx.tp.ack.schedule();
    drop_skb(cx, skb, reason);
}

/// The same of a FIN without data that is next in order, with nothing queued behind it.
pub(super) fn queue_fin(cx: &mut Cx<'_>, seg: &Seg, mut skb: Skb) {
    charge(cx, &mut skb);
    if !skb.pull(seg.header_len) {
        return drop_skb(cx, skb, DropReason::PktTooSmall);
    }
    sack::dsack_clear(cx.tp);
    queue_and_out(cx, seg, skb);
}

/// The same on an orphan in FIN-WAIT-2, which enters TIME-WAIT, and whose queue is emptied then: the packet only counts
/// as queued while its acknowledgement leaves, whose window depends on that. No memory is asked for: without data it is
/// taken whatever there is (`queue_and_out`), and what it costs is given back before anybody looks.
pub(super) fn last_fin(cx: &mut Cx<'_>, seg: &Seg, mut skb: Skb) {
    charge(cx, &mut skb);
    let size = skb.truesize;
    sack::dsack_clear(cx.tp);
    rcv_nxt_update(cx, seg.end_seq);
    mem::charge_rmem(cx.sock, cx.sk, size);
    cx.tp.ack.schedule();
    cx.sk.set_flag(flag::DONE, true);
    control::send_ack(cx);
    mem::uncharge_rmem(cx.sock, cx.sk, size);
    timewait::time_wait(cx, State::TimeWait, Duration::ZERO);
}

fn queue_and_out(cx: &mut Cx<'_>, seg: &Seg, skb: Skb) {
    if !try_rmem_schedule(cx, &skb) {
        cx.tp.ack.out_of_memory();
        cx.sock.wait.wake(Events::IN);
        if !cx.sk.receive_queue.is_empty() && !skb.is_empty() {
            cx.stack.mib.inc(Mib::TcpExtTCPRcvQDrop);
            return drop_skb(cx, skb, DropReason::ProtoMem);
        }
        // With an empty queue one packet is always taken, or the program would wait for ever.
        mem::force(cx.sock, cx.sk, skb.truesize as i32);
    }
    let fin = skb.tcp.flags & FIN != 0;
    let note = (!skb.is_empty()).then(|| DataRecv::note(cx, seg, &skb));
    queue_rcv(cx, skb);
    if let Some(n) = note {
        n.finish(cx, seg);
    }
    if fin {
        self::fin(cx);
    }
    if !cx.tp.ooo_queue.is_empty() {
        ofo_queue(cx);
        // RFC 5681 §4.2: a segment that fills a gap is acknowledged at once.
        if cx.tp.ooo_queue.is_empty() {
            cx.tp.ack.ack_now();
        }
    }
    if cx.tp.num_sacks != 0 {
        sack::sack_remove(cx.tp);
    }
    fast_path_check(cx);
    if !cx.sk.flag(flag::DEAD) {
        data_ready(cx);
    }
}

/// Moves what has come in order out of the out-of-order queue (tcp_ofo_queue).
fn ofo_queue(cx: &mut Cx<'_>) {
    // Where the data that filled the hole ended: what lies before it and is queued here came twice.
    let dsack_high = cx.tp.rcv_nxt;
    while let Some(first) = cx.tp.ooo_queue.front() {
        let (seq, end_seq) = (first.tcp.seq, first.tcp.end_seq);
        if seq.after(cx.tp.rcv_nxt) {
            break;
        }
        if seq.before(dsack_high) {
            sack::dsack_extend(cx, seq, end_seq.earlier(dsack_high));
        }
        let Some(mut skb) = cx.tp.ooo_mut().pop_front() else { break };
        let truesize = skb.truesize;
        if !end_seq.after(cx.tp.rcv_nxt) {
            mem::uncharge_rmem(cx.sock, cx.sk, truesize);
            drop_skb(cx, skb, DropReason::TcpOfoDrop);
            continue;
        }
        let fin = skb.tcp.flags & FIN != 0;
        let local = from_here(cx);
        let grown = cx.sk.receive_queue.back_mut().and_then(|tail| try_coalesce(tail, &mut skb, local));
        rcv_nxt_update(cx, end_seq);
        match grown {
            Some(grown) => {
                mem::charge_rmem(cx.sock, cx.sk, grown);
                mem::uncharge_rmem(cx.sock, cx.sk, truesize);
                cx.stack.mib.inc(Mib::TcpExtTCPRcvCoalesce);
            }
            // It is charged already.
            None => cx.sk.receive_queue.push_back(skb),
        }
        if fin {
            // Empties the queue.
            self::fin(cx);
            break;
        }
    }
    cx.tp.ooo_mut().shrink();
}

/// Coalesces in the out-of-order queue; true: `skb`'s bytes have moved into the packet at `at` (tcp_ooo_try_coalesce).
fn ooo_try_coalesce(cx: &mut Cx<'_>, at: Pos, skb: &mut Skb) -> bool {
    let local = from_here(cx);
    let Some(to) = cx.tp.ooo_mut().get_mut(at) else { return false };
    let Some(grown) = try_coalesce(to, skb, local) else { return false };
    mem::charge_rmem(cx.sock, cx.sk, grown);
    cx.stack.mib.inc(Mib::TcpExtTCPRcvCoalesce);
    true
}

fn remove_ooo(cx: &mut Cx<'_>, at: Pos) {
    if let Some(old) = cx.tp.ooo_mut().remove(at) {
        mem::uncharge_rmem(cx.sock, cx.sk, old.truesize);
        cx.stack.mib.inc(Mib::TcpExtTCPOFOMerge);
        drop_skb(cx, old, DropReason::TcpOfoMerge);
    }
}

/// Queues data that leaves a hole before it (tcp_data_queue_ofo). Packets that another one covers are dropped; partial
/// overlaps stay until the hole is filled.
fn data_queue_ofo(cx: &mut Cx<'_>, seg: &Seg, mut skb: Skb) {
    ecn::data_ecn_check(cx, seg);
    if !try_rmem_schedule(cx, &skb) {
        cx.stack.mib.inc(Mib::TcpExtTCPOFODrop);
        cx.sock.wait.wake(Events::IN);
        return drop_skb(cx, skb, DropReason::ProtoMem);
    }
    mark_rxtstamp(cx, &mut skb);
    rcvbuf::measure_rcv_mss(cx, seg, &skb);
    cx.tp.pred_flags = 0;
    cx.tp.ack.schedule();
    cx.tp.rare_mut().rcv_ooopack = cx.tp.rare().rcv_ooopack.saturating_add(skb.rx_segs.max(1) as u32);
    cx.stack.mib.inc(Mib::TcpExtTCPOFOQueue);
    let (seq, end_seq) = (seg.seq, seg.end_seq);
    let (len, truesize) = (skb.len() as u32, skb.truesize);
    let is_sack = sack::is_sack(cx.tp);

    if cx.tp.ooo_queue.is_empty() {
        cx.tp.num_sacks = 0;
    }
    // The usual case: more behind the hole.
    if let Some(last) = cx.tp.ooo_queue.last()
        && ooo_try_coalesce(cx, last, &mut skb)
    {
        return coalesced(cx, seq, end_seq, len, truesize);
    }
    // No packet of the queue covers another, so both their starts and their ends ascend: of those that start no later
    // than this one, only the last can cover it or end where it starts.
    let mut at = cx.tp.ooo_queue.find_start(seq + 1);
    if let Some(before) = cx.tp.ooo_queue.prev(at)
        && let Some((seq1, end1)) = cx.tp.ooo_queue.get(before).map(|s| (s.tcp.seq, s.tcp.end_seq))
    {
        if seq.before(end1) && !end_seq.after(end1) {
            cx.stack.mib.inc(Mib::TcpExtTCPOFOMerge);
            drop_skb(cx, skb, DropReason::TcpOfoMerge);
            sack::dsack_set(cx, seq, end_seq);
            if is_sack {
                sack::sack_new_ofo_skb(cx, seq, end_seq);
            }
            return grow_after_ofo(cx);
        }
        if seq == seq1 {
            // The new one covers it: goes before it, and removes it.
            at = before;
        } else if seq.before(end1) {
            sack::dsack_set(cx, seq, end1);
        } else if ooo_try_coalesce(cx, before, &mut skb) {
            // It may now reach into the packets behind it.
            merge_right(cx, before, end_seq);
            return coalesced(cx, seq, end_seq, len, truesize);
        }
    }
    mem::charge_rmem(cx.sock, cx.sk, skb.truesize);
    let at = cx.tp.ooo_mut().insert(at, skb);
    merge_right(cx, at, end_seq);
    if is_sack {
        sack::sack_new_ofo_skb(cx, seq, end_seq);
        // Without SACK the window does not grow, so that each acknowledgement is an exact duplicate.
        rcvbuf::grow_window(cx, len, truesize);
    }
    grow_after_ofo(cx);
}

fn coalesced(cx: &mut Cx<'_>, seq: SeqNum, end_seq: SeqNum, len: u32, truesize: u32) {
    if sack::is_sack(cx.tp) {
        // Of one without bytes in its head, as this stack sends them, the head is not counted (truesize_adjust).
        let bytes = truesize.checked_sub(SKB_OVERHEAD).filter(|n| from_here(cx) && *n >= len);
        rcvbuf::grow_window(cx, len, bytes.unwrap_or(truesize));
        sack::sack_new_ofo_skb(cx, seq, end_seq);
    }
    grow_after_ofo(cx);
}

fn grow_after_ofo(cx: &mut Cx<'_>) {
    if !cx.sk.flag(flag::DEAD) && !cx.tp.not_accepted {
        rcvbuf::rcvbuf_grow(cx, cx.tp.rcvq_space);
    }
}

/// Removes packets behind the one at `at` that end at or before `end_seq`; reports the overlap.
fn merge_right(cx: &mut Cx<'_>, at: Pos, end_seq: SeqNum) {
    loop {
        let behind = cx.tp.ooo_queue.next(at);
        let Some(next) = cx.tp.ooo_queue.get(behind) else { break };
        let (s, e) = (next.tcp.seq, next.tcp.end_seq);
        if !end_seq.after(s) {
            break;
        }
        if end_seq.before(e) {
            sack::dsack_extend(cx, s, end_seq);
            break;
        }
        sack::dsack_extend(cx, s, e);
        remove_ooo(cx, behind);
    }
}

/// Empties the out-of-order queue.
#[inline]
pub(crate) fn purge_ooo(cx: &mut Cx<'_>) {
    if !cx.tp.ooo_queue.is_empty() {
        drop_ooo(cx);
    }
}

#[cold]
fn drop_ooo(cx: &mut Cx<'_>) {
    while let Some(skb) = cx.tp.ooo_mut().pop_back() {
        mem::uncharge_rmem(cx.sock, cx.sk, skb.truesize);
    }
    cx.tp.ooo_mut().shrink();
}

/// The peer's FIN is in order (RFC 9293 §3.10.7.4, eighth; tcp_fin).
pub(crate) fn fin(cx: &mut Cx<'_>) {
    cx.tp.ack.schedule();
    let was = cx.sock.shutdown.fetch_or(RCV_SHUTDOWN, Ordering::Relaxed);
    let both = was | RCV_SHUTDOWN == RCV_SHUTDOWN | SEND_SHUTDOWN;
    cx.sk.set_flag(flag::DONE, true);
    match cx.state() {
        State::SynRecv | State::Established => {
            super::set_state(cx, State::CloseWait);
            delack::enter_pingpong_mode(cx);
        }
        State::FinWait1 => {
            // Both close at once.
            control::send_ack(cx);
            super::set_state(cx, State::Closing);
        }
        State::FinWait2 => {
            control::send_ack(cx);
            timewait::time_wait(cx, State::TimeWait, Duration::ZERO);
        }
        // A retransmitted FIN is acknowledged again.
        _ => {}
    }
    // There is no data beyond the FIN.
    purge_ooo(cx);
    if sack::is_sack(cx.tp) {
        sack::sack_reset(cx.tp);
    }
    if !cx.sk.flag(flag::DEAD) {
        let hup = both || cx.state() == State::Close;
        let e = Events::IN | Events::OUT | Events::RDHUP;
        cx.sock.wait.wake(if hup { e | Events::HUP } else { e });
    }
}

/// Ends a connection whose program has closed it when data arrives, which nobody will read (RFC 9293 §3.10.7.4;
/// TCPAbortOnData).
pub(crate) fn abort_on_data(cx: &mut Cx<'_>) -> DropReason {
    cx.stack.mib.inc(Mib::TcpExtTCPAbortOnData);
    close::done(cx);
    DropReason::TcpAbortOnData
}

#[cfg(test)]
pub(super) mod tests;
