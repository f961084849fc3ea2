//! Joining what is selectively acknowledged: the bytes of a packet that a block covers move to the end of the packet
//! before it, if that was acknowledged so as well, so that a hole costs a few packets and not a window of them. Above:
//! `sack`. Below: `rtx`. Linux: tcp_shift_skb_data, tcp_shifted_skb, tcp_skb_shift.

use super::ack::AckSt;
use super::output::adjust_wmem;
use super::queue::Pos;
use super::sack::{Tagged, sacktag_one};
use super::tcb::{Cx, SackBlock, TcpSock};
use crate::counters::Mib;
use crate::sock::skb::{MAX_SKB_FRAGS, SKB_OVERHEAD, Skb, sacked};
use crate::sock::tstamp::TxStamp;

/// Least size of a segment that a device is asked to cut (TCP_MIN_GSO_SIZE): the least MSS without all options.
const MIN_GSO_SIZE: usize = 8;
/// The scoreboard's marks without the history (TCPCB_TAGBITS).
const TAGBITS: u8 = sacked::SACKED_ACKED | sacked::SACKED_RETRANS | sacked::LOST;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shifted {
    /// The bytes that the block covers have moved into the packet at this position, and are marked.
    Into(Pos),
    /// The block covers no segment of the packet.
    Nothing,
    /// They must be marked where they are.
    Fallback,
}

/// A part of a packet that can move.
struct Part {
    /// Where it goes.
    prev: Pos,
    /// Bytes.
    len: u32,
    /// Segments.
    pcount: u32,
    /// Bytes a segment.
    mss: u32,
}

/// Bytes of a segment: of a packet of one, its length (tcp_skb_seglen).
pub(super) fn seglen(skb: &Skb) -> u32 {
    if skb.tcp.gso_segs > 1 { u32::from(skb.tcp.gso_size) } else { skb.len() as u32 }
}

/// The part of the packet at `at` that `block` covers, if the packet before it can take it.
fn part(tp: &TcpSock, at: Pos, block: SackBlock, dup_sack: bool) -> Result<Part, Shifted> {
    let fallback = Err(Shifted::Fallback);
    let Some(skb) = tp.rtx_queue.get(at) else { return fallback };
    let cb = &skb.tcp;
    if !dup_sack && cb.sacked & (sacked::LOST | sacked::SACKED_RETRANS) == sacked::SACKED_RETRANS {
        return fallback;
    }
    // The packet is about to leave the queue.
    if !cb.end_seq.after(tp.snd_una) {
        return fallback;
    }
    let Some(prev) = tp.rtx_queue.prev(at) else { return fallback };
    let Some(to) = tp.rtx_queue.get(prev) else { return fallback };
    if to.tcp.sacked & TAGBITS != sacked::SACKED_ACKED || to.tcp.eor {
        return fallback;
    }
    let (len, pcount, mss);
    if !block.start.after(cb.seq) && !block.end.before(cb.end_seq) {
        (len, pcount, mss) = (skb.len() as u32, u32::from(cb.gso_segs.max(1)), seglen(skb));
    } else {
        if !cb.end_seq.after(block.start) || cb.gso_segs <= 1 {
            return Err(Shifted::Nothing);
        }
        if block.start.after(cb.seq) {
            // The packet is cut first.
            return fallback;
        }
        mss = u32::from(cb.gso_size.max(1));
        pcount = block.end.since(cb.seq) / mss;
        len = (pcount * mss).min(skb.len() as u32);
        if pcount == 0 && seglen(to) == mss {
            return Err(Shifted::Nothing);
        }
    }
    if len == 0 || mss != seglen(to) || !(cb.seq + len).after(tp.snd_una) || !has_room(to, skb, len, pcount) {
        return fallback;
    }
    Ok(Part { prev, len, pcount, mss })
}

/// Whether `to` can take `len` bytes, in `pcount` segments, of `from` (the limits of tcp_skb_shift and skb_shift).
fn has_room(to: &Skb, from: &Skb, len: u32, pcount: u32) -> bool {
    let mut left = len as usize;
    let frags = from.frags().iter().take_while(|f| {
        let some = left > 0;
        left = left.saturating_sub(f.len as usize);
        some
    });
    to.len() + (len as usize) < usize::from(u16::MAX) * MIN_GSO_SIZE
        && u32::from(to.tcp.gso_segs) + pcount <= u32::from(u16::MAX)
        && to.frags().len() + frags.count() <= MAX_SKB_FRAGS
        && to.may_take_from(from)
}

/// Moves what `block` covers of the packet at `at` into the packet before it, and marks it; a hole that this closes
/// lets that packet take the next one, too (tcp_shift_skb_data).
pub(super) fn shift_skb_data(cx: &mut Cx<'_>, st: &mut AckSt, at: Pos, block: SackBlock, dup_sack: bool) -> Shifted {
    let p = match part(cx.tp, at, block, dup_sack) {
        Ok(p) => p,
        Err(why) => {
            if why == Shifted::Fallback {
                cx.stack.mib.inc(Mib::TcpExtTCPSackShiftFallback);
            }
            return why;
        }
    };
    if shift(cx, st, at, &p, dup_sack) {
        let next = cx.tp.rtx_queue.next(p.prev);
        let (to, from) = (cx.tp.rtx_queue.get(p.prev), cx.tp.rtx_queue.get(next));
        if let (Some(to), Some(from)) = (to, from)
            && from.tcp.sacked & TAGBITS == sacked::SACKED_ACKED
            && seglen(from) == p.mss
            && !to.tcp.eor
        {
            let (len, pcount) = (from.len() as u32, u32::from(from.tcp.gso_segs.max(1)));
            if has_room(to, from, len, pcount) {
                shift(cx, st, next, &Part { len, pcount, ..p }, false);
            }
        }
    }
    Shifted::Into(p.prev)
}

/// Marks `p` of the packet at `at` and moves it; true: the packet is gone (tcp_shifted_skb).
fn shift(cx: &mut Cx<'_>, st: &mut AckSt, at: Pos, p: &Part, dup_sack: bool) -> bool {
    let Some(skb) = cx.tp.rtx_queue.get(at) else { return false };
    let mut cb = skb.tcp;
    let whole = p.len as usize == skb.len();
    let tagged = Tagged { end: cb.seq + p.len, pcount: p.pcount, ..Tagged::of(skb) };
    sacktag_one(cx, st, &tagged, dup_sack);
    st.packet(&cb, (cb.seq, tagged.end), p.pcount, true, cx.now);
    super::rate::rate_skb_delivered(cx.tp, &mut cb, &mut st.rate);

    let Some(mut moved) = take_part(cx, at, p) else { return false };
    let stamp = moved.tx_stamp.take();
    let Some(to) = cx.tp.rtx_queue.get_mut(p.prev) else { return false };
    put_part(to, moved);
    if to.tcp.gso_size == 0 {
        to.tcp.gso_size = p.mss.min(u32::from(u16::MAX)) as u16;
    }
    to.tcp.gso_segs = to.tcp.gso_segs.max(1) + p.pcount as u16;
    to.tcp.end_seq += p.len;
    to.tcp.sacked |= cb.sacked & sacked::EVER_RETRANS;
    if !whole {
        cx.stack.mib.inc(Mib::TcpExtTCPSackShifted);
        return false;
    }
    // A FIN moves with the last byte.
    to.tcp.end_seq = cb.end_seq;
    to.tcp.flags |= cb.flags;
    to.tcp.eor = cb.eor;
    to.tx_stamp = TxStamp::joined(to.tx_stamp.take(), stamp);
    to.tcp.delivered_mstamp = crate::base::env::Instant::ZERO;
    let joined = to.tcp.seq;
    if cx.tp.retransmit_hint == Some(cb.seq) {
        cx.tp.cold_mut().retransmit_hint = Some(joined);
    }
    if !cb.seq.before(cx.tp.highest_sack) {
        cx.tp.cold_mut().highest_sack = cb.end_seq;
    }
    adjust_wmem(cx, -(SKB_OVERHEAD as i32));
    cx.stack.mib.inc(Mib::TcpExtTCPSackMerged);
    true
}

/// Takes the first bytes of a packet out of the queue, and the packet with its last one.
fn take_part(cx: &mut Cx<'_>, at: Pos, p: &Part) -> Option<Skb> {
    let skb = cx.tp.rtx_queue.get_mut(at)?;
    if p.len as usize == skb.len() {
        return cx.tp.rtx_queue.remove(at);
    }
    let before = skb.truesize as i32;
    let rest = skb.split_off(p.len as usize);
    let moved = std::mem::replace(skb, rest);
    skb.tcp.gso_segs = skb.tcp.gso_segs.saturating_sub(p.pcount as u16).max(1);
    if skb.tcp.gso_segs == 1 {
        skb.tcp.gso_size = 0;
    }
    // The head of the moved part is dropped again.
    let grown = (skb.truesize + moved.truesize - SKB_OVERHEAD) as i32 - before;
    cx.tp.rtx_queue.advance_seq(at, p.len);
    adjust_wmem(cx, grown);
    Some(moved)
}

/// Appends the bytes of `moved`, which stay charged as they were.
fn put_part(to: &mut Skb, mut moved: Skb) {
    let size = to.truesize + moved.truesize - SKB_OVERHEAD;
    to.append_frags(&mut moved);
    to.truesize = size;
}

#[cfg(test)]
mod tests;
