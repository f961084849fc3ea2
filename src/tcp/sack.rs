//! Selective acknowledgements, both directions: the scoreboard that the peer's blocks mark in the retransmit queue, and
//! the blocks that we report of our out-of-order queue. Above: `ack`, `reassembly`. RFC 2018, RFC 2883 (DSACK),
//! RFC 6675 (what a block means). Linux: tcp_sacktag_write_queue, tcp_sack_new_ofo_skb, tcp_dsack_set.

use super::ack::{AckSt, flag};
use super::input::Seg;
use super::queue::Pos;
use super::shift::{self, Shifted};
use super::tcb::{CaState, Cx, SackBlock, SackState, TcpSock};
use super::{delack, rack, recovery};
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::sock::skb::{Skb, sacked};
use crate::wire::seq::SeqNum;

/// Bit of `RxOpt::sack_ok`: SACK agreed.
pub(crate) const SACK_SEEN: u8 = 1;
/// Bit of `RxOpt::sack_ok`: the peer has sent a DSACK.
pub(crate) const DSACK_SEEN: u8 = 4;
/// Blocks we report at most (TCP_NUM_SACKS).
const NUM_SACKS: usize = 4;

/// Whether the connection agreed on SACK (tcp_is_sack).
#[inline]
pub(crate) fn is_sack(tp: &TcpSock) -> bool {
    tp.rx_opt.sack_ok != 0
}

/// End of what was selectively acknowledged: `snd_una` when nothing is, or nothing can be (tcp_highest_sack_seq).
#[inline]
pub(crate) fn highest_sack_seq(tp: &TcpSock) -> SeqNum {
    if tp.sacked_out == 0 || !is_sack(tp) { tp.snd_una } else { tp.highest_sack }
}

// ---- The peer's blocks.

/// Whether a block is plausible (tcp_is_sackblock_valid). A DSACK may lie below `snd_una`, but not below the data that
/// this recovery retransmitted.
fn is_block_valid(tp: &TcpSock, is_dsack: bool, start: SeqNum, end: SeqNum) -> bool {
    if end.after(tp.snd_nxt) || !start.before(end) || !start.before(tp.snd_nxt) {
        return false;
    }
    // A block that starts at snd_una would contradict the acknowledgement itself.
    if start.after(tp.snd_una) {
        return true;
    }
    if !is_dsack || !tp.undo_valid || end.after(tp.snd_una) {
        return false;
    }
    if !start.before(tp.undo_marker) {
        return true;
    }
    end.after(tp.undo_marker) && !start.before(end - tp.max_window)
}

/// Counts a DSACK and returns the number of duplicate segments; 0: implausible (tcp_dsack_seen).
fn dsack_seen(tp: &mut TcpSock, start: SeqNum, end: SeqNum, st: &mut AckSt) -> u32 {
    if !start.before(end) {
        return 0;
    }
    let len = end.since(start);
    if len > tp.max_window {
        return 0;
    }
    let mut dups = 1;
    if len > tp.mss_cache {
        dups = len.div_ceil(tp.mss_cache.max(1));
    } else if tp.tlp_active && tp.tlp_high_seq == end {
        st.flag |= flag::DSACK_TLP;
    }
    tp.rare_mut().dsack_dups = tp.rare().dsack_dups.saturating_add(dups);
    // There are more duplicates than retransmissions: the network duplicated, or the peer lies.
    if tp.rare().dsack_dups > tp.total_retrans {
        return 0;
    }
    tp.rx_opt.sack_ok |= DSACK_SEEN;
    // A DSACK for a loss probe says nothing about reordering.
    if tp.rare().reord_seen != 0 && st.flag & flag::DSACK_TLP == 0 {
        tp.rack.dsack_seen = true;
    }
    st.flag |= flag::DSACKING_ACK;
    st.sack_delivered += dups;
    dups
}

/// Whether the first block reports a duplicate (RFC 2883 §4): it lies below the acknowledgement, or inside the second.
fn check_dsack(cx: &mut Cx<'_>, seg: &Seg, prior_snd_una: SeqNum, st: &mut AckSt) -> bool {
    let blocks = seg.sack.as_slice();
    let Some(&(start, end)) = blocks.first() else { return false };
    if start.before(seg.ack_seq) {
        cx.stack.mib.inc(Mib::TcpExtTCPDSACKRecv);
    } else if let Some(&(start1, end1)) = blocks.get(1) {
        if end.after(end1) || start.before(start1) {
            return false;
        }
        cx.stack.mib.inc(Mib::TcpExtTCPDSACKOfoRecv);
    } else {
        return false;
    }
    let dups = dsack_seen(cx.tp, start, end, st);
    if dups == 0 {
        cx.stack.mib.inc(Mib::TcpExtTCPDSACKIgnoredDubious);
        return false;
    }
    cx.stack.mib.add(Mib::TcpExtTCPDSACKRecvSegs, dups as u64);
    let tp = &mut *cx.tp;
    // The data was acknowledged and freed: only the count is updated.
    if tp.undo_valid && tp.undo_retrans > 0 && !end.after(prior_snd_una) && end.after(tp.undo_marker) {
        tp.cold_mut().undo_retrans = (tp.undo_retrans - dups as i32).max(0);
    }
    true
}

/// Reordering was detected: `low_seq` arrived after later data was acknowledged. `ts`: detected by a timestamp
/// (tcp_check_sack_reordering).
pub(crate) fn check_sack_reordering(cx: &mut Cx<'_>, low_seq: SeqNum, ts: bool) {
    let fack = highest_sack_seq(cx.tp);
    if !low_seq.before(fack) {
        return;
    }
    let metric = fack.since(low_seq);
    let mss = cx.tp.mss_cache;
    if mss != 0 && metric as u64 > cx.tp.reordering as u64 * mss as u64 {
        cx.tp.reordering = metric.div_ceil(mss).min(cx.stack.sysctl.tcp_max_reordering().max(1) as u32);
    }
    cx.tp.rare_mut().reord_seen = cx.tp.rare().reord_seen.saturating_add(1);
    cx.stack.mib.inc(if ts { Mib::TcpExtTCPTSReorder } else { Mib::TcpExtTCPSACKReorder });
}

/// What is marked: a packet of the retransmit queue, or a part of one.
#[derive(Clone, Copy)]
pub(super) struct Tagged {
    /// Its marks so far, bits of [`sacked`].
    pub bits: u8,
    pub start: SeqNum,
    pub end: SeqNum,
    /// Segments.
    pub pcount: u32,
    /// When it was last sent.
    pub mstamp: Instant,
}

impl Tagged {
    pub(super) fn of(skb: &Skb) -> Tagged {
        let cb = &skb.tcp;
        let pcount = u32::from(cb.gso_segs.max(1));
        Tagged { bits: cb.sacked, start: cb.seq, end: cb.end_seq, pcount, mstamp: cb.mstamp }
    }
}

/// Counts what a block covers; returns its marks afterwards (tcp_sacktag_one).
pub(super) fn sacktag_one(cx: &mut Cx<'_>, st: &mut AckSt, t: &Tagged, dup_sack: bool) -> u8 {
    let highest = highest_sack_seq(cx.tp);
    let now = cx.now;
    let tp = &mut *cx.tp;
    let Tagged { mut bits, start, end, pcount, mstamp } = *t;
    if dup_sack && bits & sacked::RETRANS != 0 {
        if tp.undo_valid && tp.undo_retrans > 0 && end.after(tp.undo_marker) {
            tp.cold_mut().undo_retrans = (tp.undo_retrans - pcount as i32).max(0);
        }
        if bits & sacked::SACKED_ACKED != 0 && start.before(st.reord) {
            st.reord = start;
        }
    }
    // It is about to be removed from the queue: nothing to account.
    if !end.after(tp.snd_una) {
        return bits;
    }
    if bits & sacked::SACKED_ACKED == 0 {
        rack::rack_advance(tp, now, bits, end, mstamp);
        if bits & sacked::SACKED_RETRANS != 0 {
            // Not marked lost: the retransmission is still believed to be in flight.
            if bits & sacked::LOST != 0 {
                bits &= !(sacked::LOST | sacked::SACKED_RETRANS);
                tp.lost_out = tp.lost_out.saturating_sub(pcount);
                tp.retrans_out = tp.retrans_out.saturating_sub(pcount);
            }
        } else {
            if bits & sacked::RETRANS == 0 {
                // It was sent once and acknowledged after later data: reordering.
                if start.before(highest) && start.before(st.reord) {
                    st.reord = start;
                }
                if !end.after(tp.high_seq) {
                    st.flag |= flag::ORIG_SACK_ACKED;
                }
                if st.first_sackt == Instant::ZERO {
                    st.first_sackt = mstamp;
                }
                st.last_sackt = mstamp;
            }
            if bits & sacked::LOST != 0 {
                bits &= !sacked::LOST;
                tp.lost_out = tp.lost_out.saturating_sub(pcount);
            }
        }
        bits |= sacked::SACKED_ACKED;
        st.flag |= flag::DATA_SACKED;
        tp.sacked_out += pcount;
        st.sack_delivered += pcount;
        st.delivered_bytes = st.delivered_bytes.wrapping_add(end.since(start));
    }
    // The DSACK shows that the retransmission has arrived as well.
    if dup_sack && bits & sacked::SACKED_RETRANS != 0 {
        bits &= !sacked::SACKED_RETRANS;
        tp.retrans_out = tp.retrans_out.saturating_sub(pcount);
    }
    // `highest` was taken before this counted: with nothing sacked it is snd_una, and every packet is at or above it.
    if !start.before(highest) && bits & sacked::SACKED_ACKED != 0 {
        tp.cold_mut().highest_sack = end;
    }
    bits
}

/// Marks the packet at `at`, which a block covers, and takes it off the list in order of sending.
fn tag_skb(cx: &mut Cx<'_>, st: &mut AckSt, at: Pos, dup_sack: bool) {
    let Some(skb) = cx.tp.rtx_queue.get(at) else { return };
    let (tagged, mut cb) = (Tagged::of(skb), skb.tcp);
    cb.sacked = sacktag_one(cx, st, &tagged, dup_sack);
    if cb.sacked & sacked::SACKED_ACKED != 0 {
        st.packet(&cb, (cb.seq, cb.end_seq), tagged.pcount, true, cx.now);
    }
    super::rate::rate_skb_delivered(cx.tp, &mut cb, &mut st.rate);
    if let Some(skb) = cx.tp.rtx_queue.get_mut(at) {
        skb.tcp = cb;
    }
    if cb.sacked & sacked::SACKED_ACKED != 0 {
        cx.tp.rtx_queue.unlink(at);
    }
}

/// Whether the block covers the packet at `at`; a super-packet is cut where the block begins or ends, at segment
/// boundaries. None: it could not be cut (tcp_match_skb_to_sack).
fn match_skb(cx: &mut Cx<'_>, at: &mut Pos, block: SackBlock) -> Option<bool> {
    let SackBlock { start, end } = block;
    let skb = cx.tp.rtx_queue.get(*at)?;
    let cb = &skb.tcp;
    let len = cb.end_seq.since(cb.seq);
    let in_sack = !start.after(cb.seq) && !end.before(cb.end_seq);
    if cb.gso_segs <= 1 || in_sack || !cb.end_seq.after(start) {
        return Some(in_sack);
    }
    let mss = cb.gso_size.max(1) as u32;
    let from_start = !start.after(cb.seq);
    let mut pkt_len;
    if !from_start {
        pkt_len = start.since(cb.seq).max(mss);
    } else {
        pkt_len = end.since(cb.seq);
        if pkt_len < mss {
            return None;
        }
    }
    // Only whole segments, or the short last one, are ever acknowledged.
    if pkt_len > mss {
        let mut new_len = pkt_len / mss * mss;
        if !from_start && new_len < pkt_len {
            new_len += mss;
        }
        pkt_len = new_len;
    }
    if pkt_len >= len && !from_start {
        return Some(false);
    }
    if pkt_len < len {
        *at = recovery::fragment_rtx(cx, *at, pkt_len, mss)?;
    }
    Some(from_start)
}

/// Marks what one block covers, from the packet at `at` on; returns where it stopped, None behind the last packet
/// (tcp_sacktag_walk). `next_dup` is a duplicate block that starts inside.
fn walk(
    cx: &mut Cx<'_>,
    st: &mut AckSt,
    at: Option<Pos>,
    next_dup: Option<SackBlock>,
    block: SackBlock,
    dup_sack: bool,
) -> Option<Pos> {
    let mut at = at?;
    while let Some(skb) = cx.tp.rtx_queue.get(at) {
        let seq = skb.tcp.seq;
        if !seq.before(block.end) {
            break;
        }
        let mut dup = dup_sack;
        let mut covered = Some(false);
        if let Some(d) = next_dup
            && seq.before(d.end)
        {
            covered = match_skb(cx, &mut at, d);
            dup |= covered == Some(true);
        }
        if covered != Some(true) {
            covered = match shift::shift_skb_data(cx, st, at, block, dup) {
                Shifted::Into(prev) => {
                    at = cx.tp.rtx_queue.next(prev);
                    continue;
                }
                Shifted::Nothing => Some(false),
                Shifted::Fallback => match_skb(cx, &mut at, block),
            };
        }
        match covered {
            None => break,
            Some(true) => tag_skb(cx, st, at, dup),
            Some(false) => {}
        }
        at = cx.tp.rtx_queue.next(at);
    }
    cx.tp.rtx_queue.get(at).map(|_| at)
}

/// The valid blocks of a segment, in order of sequence.
#[derive(Default)]
struct Blocks {
    sorted: [SackBlock; NUM_SACKS],
    n: usize,
    /// Which of them is the duplicate (RFC 2883), if one is.
    dup: Option<usize>,
}

impl Blocks {
    fn as_slice(&self) -> &[SackBlock] {
        &self.sorted[..self.n]
    }

    /// Reads the blocks of a segment, counts the invalid ones. `found_dup`: the first is a duplicate.
    fn read(cx: &Cx<'_>, seg: &Seg, prior_snd_una: SeqNum, found_dup: bool) -> Blocks {
        let mut b = Blocks { dup: found_dup.then_some(0), ..Blocks::default() };
        for (i, &(start, end)) in seg.sack.as_slice().iter().enumerate() {
            let dup = i == 0 && found_dup;
            let valid = is_block_valid(cx.tp, dup, start, end);
            if !valid {
                let mib = if dup {
                    if cx.tp.undo_valid { Mib::TcpExtTCPDSACKIgnoredOld } else { Mib::TcpExtTCPDSACKIgnoredNoUndo }
                } else if seg.ack_seq != cx.tp.snd_una && !end.after(cx.tp.snd_una) {
                    // An old acknowledgement that was overtaken.
                    continue;
                } else {
                    Mib::TcpExtTCPSACKDiscard
                };
                cx.stack.mib.inc(mib);
            }
            if valid && end.after(prior_snd_una) {
                b.sorted[b.n] = SackBlock { start, end };
                b.n += 1;
            } else if i == 0 {
                b.dup = None;
            }
        }
        b.sort();
        b
    }

    /// Sorts by sequence number and keeps track of the duplicate. There are at most four: insertion sort.
    fn sort(&mut self) {
        for i in 1..self.n {
            let mut j = i;
            while j > 0 && self.sorted[j - 1].start.after(self.sorted[j].start) {
                self.sorted.swap(j - 1, j);
                self.dup = match self.dup {
                    Some(d) if d == j => Some(j - 1),
                    Some(d) if d == j - 1 => Some(j),
                    other => other,
                };
                j -= 1;
            }
        }
    }

    /// The blocks that are no duplicate, so that the next acknowledgement can skip what they mark.
    fn to_cache(&self) -> [SackBlock; NUM_SACKS] {
        let mut cache = [SackBlock::default(); NUM_SACKS];
        let mut k = 0;
        for (i, b) in self.as_slice().iter().enumerate() {
            if self.dup != Some(i) {
                cache[k] = *b;
                k += 1;
            }
        }
        cache
    }
}

/// Marks the retransmit queue by the blocks of a segment; returns the flags it adds (tcp_sacktag_write_queue).
pub(crate) fn sacktag_write_queue(cx: &mut Cx<'_>, seg: &Seg, prior_snd_una: SeqNum, st: &mut AckSt) -> u32 {
    st.flag = 0;
    st.reord = cx.tp.snd_nxt;
    if cx.tp.sacked_out == 0 {
        cx.tp.cold_mut().highest_sack = cx.tp.snd_una;
    }
    let found_dup = check_dsack(cx, seg, prior_snd_una, st);
    // The blocks of an acknowledgement older than any window are ignored.
    if seg.ack_seq.before(prior_snd_una - cx.tp.max_window) {
        return 0;
    }
    if cx.tp.packets_out == 0 {
        return st.flag;
    }
    let blocks = Blocks::read(cx, seg, prior_snd_una, found_dup);
    // What an earlier acknowledgement has marked is not walked again, except for a duplicate.
    let cache = match &cx.tp.sack {
        Some(s) if cx.tp.sacked_out != 0 => s.recv_sack_cache,
        _ => [SackBlock::default(); NUM_SACKS],
    };
    tag_blocks(cx, st, &blocks, &cache);
    sack_state(cx.tp).recv_sack_cache = blocks.to_cache();

    if cx.tp.ca_state != CaState::Loss || cx.tp.undo_valid {
        check_sack_reordering(cx, st.reord, false);
    }
    st.flag
}

/// Marks what the blocks cover. Only goes forward, so that what was marked as a duplicate while the walk passed it is
/// not again when its own block is reached (the loop of tcp_sacktag_write_queue).
fn tag_blocks(cx: &mut Cx<'_>, st: &mut AckSt, blocks: &Blocks, cache: &[SackBlock; NUM_SACKS]) {
    let used = blocks.as_slice();
    let mut cached = cache.iter().filter(|c| c.start != c.end).peekable();
    let (mut i, mut at) = (0, None);
    while let Some(&block) = used.get(i) {
        let dup = blocks.dup == Some(i);
        let next_dup = used.get(i + 1).copied().filter(|_| blocks.dup == Some(i + 1));
        while cached.next_if(|c| !block.start.before(c.end)).is_some() {}
        match cached.peek() {
            Some(c) if !dup && block.end.after(c.start) => {
                if block.start.before(c.start) {
                    at = skip(cx.tp, at, block.start);
                    at = walk(cx, st, at, next_dup, SackBlock { end: c.start, ..block }, false);
                }
                if !block.end.after(c.end) {
                    i += 1;
                    continue;
                }
                if let Some(d) = next_dup.filter(|d| d.start.before(c.end)) {
                    at = skip(cx.tp, at, d.start);
                    at = walk(cx, st, at, None, d, true);
                }
                at = skip(cx.tp, at, c.end);
                if at.is_none() {
                    break;
                }
                cached.next();
            }
            _ => {
                at = skip(cx.tp, at, block.start);
                at = walk(cx, st, at, next_dup, block, dup);
                i += 1;
            }
        }
    }
}

/// Where the packet that contains `to` is, unless the walk is beyond it already; None: there is none
/// (tcp_sacktag_skip).
fn skip(tp: &TcpSock, at: Option<Pos>, to: SeqNum) -> Option<Pos> {
    let starts = |at: Pos| tp.rtx_queue.get(at).map(|s| s.tcp.seq);
    if at.and_then(starts).is_some_and(|seq| seq.after(to)) {
        return at;
    }
    Some(tp.rtx_queue.find(to)).filter(|at| starts(*at).is_some_and(|seq| !seq.after(to)))
}

// ---- Our blocks.

/// The boxed SACK state, made when first needed.
pub(crate) fn sack_state(tp: &mut TcpSock) -> &mut SackState {
    tp.cold_mut().sack.get_or_insert_default()
}

/// The same, if there is one.
#[inline]
pub(super) fn sack_if_any(tp: &mut TcpSock) -> Option<&mut SackState> {
    tp.cold.as_mut()?.sack.as_deref_mut()
}

/// Forgets the blocks to send (tcp_sack_reset).
pub(crate) fn sack_reset(tp: &mut TcpSock) {
    tp.num_sacks = 0;
    if let Some(s) = sack_if_any(tp) {
        s.duplicate_sack = None;
    }
    tp.rx_opt.dsack = false;
}

/// Joins `[seq, end)` to a block that it touches; false when it does not (tcp_sack_extend).
fn extend(b: &mut SackBlock, seq: SeqNum, end: SeqNum) -> bool {
    if seq.after(b.end) || b.start.after(end) {
        return false;
    }
    b.start = b.start.earlier(seq);
    b.end = b.end.later(end);
    true
}

/// Reports `[seq, end)` as a duplicate with the next acknowledgement (RFC 2883 §4; tcp_dsack_set).
pub(crate) fn dsack_set(cx: &mut Cx<'_>, seq: SeqNum, end: SeqNum) {
    if !is_sack(cx.tp) || !cx.stack.sysctl.tcp_dsack() {
        return;
    }
    let old = seq.before(cx.tp.rcv_nxt);
    cx.stack.mib.inc(if old { Mib::TcpExtTCPDSACKOldSent } else { Mib::TcpExtTCPDSACKOfoSent });
    cx.tp.rx_opt.dsack = true;
    sack_state(cx.tp).duplicate_sack = Some(SackBlock { start: seq, end });
}

/// Adds to the duplicate to report, or starts one (tcp_dsack_extend).
pub(crate) fn dsack_extend(cx: &mut Cx<'_>, seq: SeqNum, end: SeqNum) {
    match sack_if_any(cx.tp).and_then(|s| s.duplicate_sack.as_mut()) {
        Some(d) => {
            extend(d, seq, end);
        }
        None => dsack_set(cx, seq, end),
    }
}

/// Forgets the duplicate to report, when the next segment is processed.
pub(crate) fn dsack_clear(tp: &mut TcpSock) {
    tp.rx_opt.dsack = false;
    if let Some(s) = sack_if_any(tp) {
        s.duplicate_sack = None;
    }
}

/// Out-of-order data `[seq, end)` was queued: its block becomes the first (RFC 2018 §4; tcp_sack_new_ofo_skb).
pub(crate) fn sack_new_ofo_skb(cx: &mut Cx<'_>, seq: SeqNum, end: SeqNum) {
    // The block is not among the first two: a compressed acknowledgement, which reports the blocks as they are now,
    // leaves first.
    let n = (cx.tp.num_sacks as usize).min(NUM_SACKS);
    let blocks = &mut sack_state(cx.tp).selective_acks;
    let hit = blocks[..n].iter_mut().position(|b| extend(b, seq, end));
    if hit.unwrap_or(n) >= 2 {
        delack::compress_send_ack(cx);
    }
    let tp = &mut *cx.tp;
    let blocks = &mut sack_state(tp).selective_acks;
    let mut count = n;
    match hit {
        Some(i) => {
            blocks[..=i].rotate_right(1);
            // The grown block may have closed gaps to others.
            let mut k = 1;
            while k < count {
                let other = blocks[k];
                if extend(&mut blocks[0], other.start, other.end) {
                    blocks[k..count].rotate_left(1);
                    count -= 1;
                    // Start over: the block is larger now.
                    k = 1;
                } else {
                    k += 1;
                }
            }
        }
        None => {
            count = (count + 1).min(NUM_SACKS);
            blocks[..count].rotate_right(1);
            blocks[0] = SackBlock { start: seq, end };
        }
    }
    tp.num_sacks = count as u8;
}

/// `rcv_nxt` advanced: blocks below it are gone (tcp_sack_remove).
pub(crate) fn sack_remove(tp: &mut TcpSock) {
    if tp.ooo_queue.is_empty() {
        tp.num_sacks = 0;
        return;
    }
    let (rcv_nxt, n) = (tp.rcv_nxt, (tp.num_sacks as usize).min(NUM_SACKS));
    let blocks = &mut sack_state(tp).selective_acks;
    let mut keep = 0;
    for i in 0..n {
        if rcv_nxt.before(blocks[i].start) {
            blocks[keep] = blocks[i];
            keep += 1;
        }
    }
    tp.num_sacks = keep as u8;
}

#[cfg(test)]
mod tests;
