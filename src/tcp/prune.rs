//! Receive memory is short: out-of-order and received data is copied together, then dropped from the end, until a
//! packet fits. Above: `reassembly`, which asks for room. Below: `rcvbuf`, `sock::mem`. Linux: tcp_try_rmem_schedule,
//! tcp_prune_queue, tcp_prune_ofo_queue, tcp_collapse, tcp_collapse_ofo_queue.

use super::rcvbuf::{adjust_rcv_ssthresh, clamp_window, rcvbuf, rmem_alloc, under_memory_pressure};
use super::tcb::{Cx, TcpSock};
use super::{sack, window};
use crate::counters::{DropReason, Mib};
use crate::sock::mem;
use crate::sock::page::CLASSES;
use crate::sock::skb::{SKB_OVERHEAD, Skb};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;

/// Bytes that packets which are copied together hold at most.
const COPY_MAX: usize = CLASSES[2];

/// Whether the buffer is not over its limit: then one more packet is taken, whatever its size, because the window had
/// room for it (tcp_can_ingest).
fn can_ingest(cx: &Cx<'_>) -> bool {
    rmem_alloc(cx) <= rcvbuf(cx)
}

fn rmem_schedule(cx: &mut Cx<'_>, size: u32) -> bool {
    mem::schedule(cx.stack, cx.sock, cx.sk, size.min(i32::MAX as u32) as i32, mem::Kind::Recv)
}

/// Makes room for a packet, by collapsing and pruning if it must; false: there is none (tcp_try_rmem_schedule).
pub(super) fn try_rmem_schedule(cx: &mut Cx<'_>, skb: &Skb) -> bool {
    let size = skb.truesize;
    if can_ingest(cx) && rmem_schedule(cx, size) {
        return true;
    }
    if !prune_queue(cx, skb) {
        return false;
    }
    while !rmem_schedule(cx, size) {
        if !prune_ofo_queue(cx, skb) {
            return false;
        }
    }
    true
}

/// Gets below the buffer's limit by copying, then by dropping out-of-order data, latest first (tcp_prune_queue).
fn prune_queue(cx: &mut Cx<'_>, incoming: &Skb) -> bool {
    if rmem_alloc(cx) == 0 {
        return false;
    }
    cx.stack.mib.inc(Mib::TcpExtPruneCalled);
    if !can_ingest(cx) {
        clamp_window(cx);
    } else if under_memory_pressure(cx) {
        adjust_rcv_ssthresh(cx);
    }
    if can_ingest(cx) {
        return true;
    }
    if may_collapse(cx) {
        collapse_ofo_queue(cx);
        collapse_receive_queue(cx);
        if can_ingest(cx) {
            return true;
        }
    }
    prune_ofo_queue(cx, incoming);
    if can_ingest(cx) {
        return true;
    }
    cx.stack.mib.inc(Mib::TcpExtRcvPruned);
    // The buffer is over its limit, so packets are dropped. Header prediction is off until there is room.
    cx.tp.pred_flags = 0;
    false
}

/// Whether so many segments have arrived since the queues were last collapsed that each pays for a look at `LOOKS`
/// packets: a peer that keeps the buffer full must not make us walk all of it for each segment. Departure: Linux walks
/// at each; queues of few packets are walked at each here, too.
fn may_collapse(cx: &mut Cx<'_>) -> bool {
    const LOOKS: usize = 8;
    let paid = cx.tp.segs_in.wrapping_sub(cx.tp.rare().collapse_segs) as usize * LOOKS;
    if cx.tp.ooo_queue.len() + cx.sk.receive_queue.len() > paid.max(8 * LOOKS) {
        return false;
    }
    cx.tp.rare_mut().collapse_segs = cx.tp.segs_in;
    true
}

/// Drops out-of-order data from the end, an eighth of the buffer at a time; never data before the packet that needs the
/// room. True when something was dropped (tcp_prune_ofo_queue).
fn prune_ofo_queue(cx: &mut Cx<'_>, incoming: &Skb) -> bool {
    let mut goal = (rcvbuf(cx) >> 3) as i64;
    let mut pruned = false;
    while let Some(last) = cx.tp.ooo_queue.back() {
        if incoming.tcp.seq.after(last.tcp.seq) {
            break;
        }
        let Some(skb) = cx.tp.ooo_mut().pop_back() else { break };
        pruned = true;
        goal -= skb.truesize as i64;
        mem::uncharge_rmem(cx.sock, cx.sk, skb.truesize);
        cx.stack.mib.drop(DropReason::TcpOfoQueue);
        if goal <= 0 || cx.tp.ooo_queue.is_empty() {
            mem::reclaim(cx.sock, cx.sk);
            if can_ingest(cx) && !under_memory_pressure(cx) {
                break;
            }
            goal = (rcvbuf(cx) >> 3) as i64;
        }
    }
    if pruned {
        cx.stack.mib.inc(Mib::TcpExtOfoPruned);
        // Data that SACK blocks reported was dropped, which a receiver may do: the blocks start over (RFC 2018 §8).
        if sack::is_sack(cx.tp) {
            sack::sack_reset(cx.tp);
        }
    }
    pruned
}

/// Whether a packet takes more memory than what usually arrives, or begins with bytes that were read: those before
/// `start` (the start condition of tcp_collapse).
fn is_bloated(tp: &TcpSock, skb: &Skb, start: Option<SeqNum>) -> bool {
    i64::from(window::win_from_space(tp, skb.truesize as i32)) > skb.len() as i64
        || start.is_some_and(|start| skb.tcp.seq.before(start))
}

/// Bytes of a packet from `start` on.
fn left_of(skb: &Skb, start: Option<SeqNum>) -> usize {
    let read = start.map_or(0, |start| start.diff(skb.tcp.seq).max(0) as usize);
    skb.len().saturating_sub(read)
}

/// A packet with SYN or FIN is not merged: it ends a run.
fn is_special(skb: &Skb) -> bool {
    skb.is_empty() || skb.tcp.flags & (TcpFlags::SYN | TcpFlags::FIN).bits() != 0
}

/// The size of the page for the next of `left` bytes, chosen so that the pages together leave as little unused as
/// possible.
fn page_for(left: usize) -> usize {
    match left {
        n if n <= CLASSES[0] => CLASSES[0],
        n if n < CLASSES[2] => CLASSES[1],
        _ => CLASSES[2],
    }
}

/// Memory of one packet into which `len` bytes are copied without gaps.
fn tight_truesize(len: usize) -> i64 {
    let (mut left, mut sum) = (len, i64::from(SKB_OVERHEAD));
    while left > 0 {
        let page = page_for(left);
        sum += page as i64;
        left -= page.min(left);
    }
    sum
}

/// A run that is being copied into one packet without gaps.
struct Tight {
    skb: Skb,
    /// Bytes that the last page still gets.
    room: usize,
    /// Bytes that are still to come.
    left: usize,
}

impl Tight {
    /// For `len` bytes from `seq` on, with the notes of the run's first packet.
    fn new(first: &Skb, seq: SeqNum, len: usize) -> Tight {
        let mut skb = Skb::new();
        (skb.tcp, skb.l3, skb.ifindex, skb.tstamp) = (first.tcp, first.l3, first.ifindex, first.tstamp);
        (skb.tcp.seq, skb.tcp.end_seq, skb.rx_segs) = (seq, seq, 0);
        Tight { skb, room: 0, left: len }
    }

    /// Copies what `from` has beyond the end of the copy; nothing when it is covered.
    fn append(&mut self, from: &Skb) {
        if !from.tcp.end_seq.after(self.skb.tcp.end_seq) {
            return;
        }
        let mut skip = self.skb.tcp.end_seq.since(from.tcp.seq) as usize;
        for slice in from.slices() {
            let mut rest = slice.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(slice.len());
            while !rest.is_empty() {
                if self.room == 0 {
                    self.room = page_for(self.left).min(self.left);
                }
                let n = rest.len().min(self.room);
                self.skb.append(&rest[..n], self.room);
                (self.room, self.left, rest) = (self.room - n, self.left - n, &rest[n..]);
            }
        }
        let (to, tcp) = (&mut self.skb, &from.tcp);
        to.tcp.end_seq = tcp.end_seq;
        to.tcp.flags |= tcp.flags;
        to.rx_segs = to.rx_segs.saturating_add(from.rx_segs);
        if tcp.has_rxtstamp {
            (to.tcp.has_rxtstamp, to.tstamp) = (true, from.tstamp);
        }
    }
}

/// Copies `run`, packets that follow each other or overlap, into one, from `start` on where that is later than its
/// first byte. Does nothing if that would save less than an eighth, because the next packet would cause the same bytes
/// to be copied again.
fn copy_together(run: &mut Vec<Skb>, start: Option<SeqNum>, out: &mut Vec<Skb>, gone: &mut u64) {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
    let seq = start.map_or(first.tcp.seq, |s| s.later(first.tcp.seq));
    let len = last.tcp.end_seq.diff(seq).max(0) as usize;
    let (before, after) = (truesize(run.iter()), tight_truesize(len));
    if len == 0 || after > before - before / 8 {
        return out.append(run);
    }
    let mut tight = Tight::new(first, seq, len);
    for skb in run.drain(..) {
        tight.append(&skb);
        *gone += 1;
    }
    out.push(tight.skb);
}

/// Copies packets of a queue together from the first on that is bloated or overlaps the next. `start`: what lies before
/// it was read. Returns the packets, which take no more memory than before, and how many were copied (tcp_collapse).
fn collapse(tp: &TcpSock, queue: impl Iterator<Item = Skb>, start: Option<SeqNum>) -> (Vec<Skb>, u64) {
    let (mut out, mut gone): (Vec<Skb>, u64) = (Vec::new(), 0);
    let (mut run, mut held): (Vec<Skb>, usize) = (Vec::new(), 0);
    for skb in queue {
        if is_special(&skb) || held + left_of(&skb, start) > COPY_MAX {
            copy_together(&mut run, start, &mut out, &mut gone);
            held = 0;
        }
        if is_special(&skb) {
            out.push(skb);
            continue;
        }
        let before = run.last().or(out.last());
        let overlaps = before.is_some_and(|p| p.tcp.end_seq.after(skb.tcp.seq));
        if run.is_empty() && !is_bloated(tp, &skb, start) {
            if !overlaps || out.last().is_none_or(|p| is_special(p) || p.len() + skb.len() > COPY_MAX) {
                out.push(skb);
                continue;
            }
            run.extend(out.pop());
            held = run[0].len();
        }
        held += left_of(&skb, start);
        run.push(skb);
    }
    copy_together(&mut run, start, &mut out, &mut gone);
    (out, gone)
}

/// The queues take less memory than before: `before` and `after` in bytes.
fn uncharge(cx: &mut Cx<'_>, before: i64, after: i64) {
    debug_assert!(after <= before, "collapsing took memory: {before} to {after}");
    mem::uncharge_rmem(cx.sock, cx.sk, (before - after).max(0) as u32);
}

fn truesize<'a>(it: impl Iterator<Item = &'a Skb>) -> i64 {
    it.map(|s| i64::from(s.truesize)).sum()
}

/// Copies the receive queue together where that saves memory; what the program has read goes.
fn collapse_receive_queue(cx: &mut Cx<'_>) {
    let before = truesize(cx.sk.receive_queue.iter());
    let (out, gone) = collapse(cx.tp, cx.sk.receive_queue.drain(), Some(cx.tp.copied_seq));
    cx.sk.receive_queue.extend(out);
    cx.stack.mib.add(Mib::TcpExtTCPRcvCollapsed, gone);
    let after = truesize(cx.sk.receive_queue.iter());
    uncharge(cx, before, after);
}

/// Bytes from which on a run of one packet is collapsed.
const LEAST_RUN: u32 = 4096;

/// Whether the out-of-order queue has a run worth collapsing before its tiny ones add up to `limit` bytes.
fn has_run(tp: &TcpSock, limit: i64) -> bool {
    let (mut tiny, mut last): (i64, Option<SeqNum>) = (0, None);
    for skb in tp.ooo_queue.iter() {
        let (cb, follows) = (&skb.tcp, last.is_some_and(|end| !skb.tcp.seq.after(end)));
        if follows || cb.end_seq.since(cb.seq) >= LEAST_RUN {
            return true;
        }
        tiny += i64::from(skb.truesize);
        if tiny > limit {
            return false;
        }
        last = Some(cb.end_seq);
    }
    false
}

/// The same for out-of-order data. Runs that are tiny are left alone once they add up to an eighth of the buffer, so
/// that a peer of many tiny holes cannot make us copy them again and again (CVE-2018-5390; tcp_collapse_ofo_queue).
fn collapse_ofo_queue(cx: &mut Cx<'_>) {
    let limit = (rcvbuf(cx) >> 3) as i64;
    if !has_run(cx.tp, limit) {
        return;
    }
    let before = truesize(cx.tp.ooo_queue.iter());
    let all: Vec<Skb> = cx.tp.ooo_mut().drain().collect();
    let tp = &*cx.tp;
    let (mut run, mut tiny, mut gone): (Vec<Skb>, i64, u64) = (Vec::new(), 0, 0);
    let mut out: Vec<Skb> = Vec::with_capacity(all.len());
    let mut flush = |run: &mut Vec<Skb>, out: &mut Vec<Skb>| {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        let size = truesize(run.iter());
        let span = last.tcp.end_seq.since(first.tcp.seq);
        if tiny > limit {
            out.append(run);
        } else if run.len() > 1 || span >= LEAST_RUN {
            let (c, n) = collapse(tp, run.drain(..), None);
            gone += n;
            out.extend(c);
        } else {
            tiny += size;
            out.append(run);
        }
    };
    for skb in all {
        if run.last().is_some_and(|l| skb.tcp.seq.after(l.tcp.end_seq)) {
            flush(&mut run, &mut out);
        }
        run.push(skb);
    }
    flush(&mut run, &mut out);
    for s in out {
        cx.tp.ooo_mut().push_back(s);
    }
    cx.stack.mib.add(Mib::TcpExtTCPRcvCollapsed, gone);
    let after = truesize(cx.tp.ooo_queue.iter());
    uncharge(cx, before, after);
}

#[cfg(test)]
mod tests;
