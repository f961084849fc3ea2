//! Reassembly of IPv4 and IPv6 datagrams. Above: `input`, which gets the whole datagram back. Below: nothing but
//! timers. Linux: net/ipv4/ip_fragment.c, net/ipv6/reassembly.c, inet_fragment.c. RFC 791 §3.2, RFC 8200 §4.5, RFC 5722
//! (overlaps), RFC 3168 §5.3 (ECN).
//!
//! Bounds: bytes held (`ipfrag_high_thresh`, `ip6frag_high_thresh`), time (`ipfrag_time`, `ip6frag_time`), and the
//! distance between fragments of one source (`ipfrag_max_dist`). A fragment that only repeats received bytes is
//! dropped; any other overlap drops the whole datagram. When memory is full, Linux refuses new datagrams; here the
//! oldest are evicted, so that a flood of incomplete datagrams (FragmentSmack, CVE-2018-5391) does not block others.

use super::problem::Problem;
use super::{exthdrs, icmp, net};
use crate::base::env::Instant;
use crate::counters::{DropReason, Mib};
use crate::device::netdev::NetDev;
use crate::sock::packet::PacketInfo;
use crate::sock::skb::{Csum, L3, Skb};
use crate::stack::{Stack, TimerCall, TimerSlot};
use crate::sys::lock::Mutex;
use crate::wire::ip::{self, Ecn, Ipv4Header};
use crate::wire::ipv6::{self, FragmentHeader, Ipv6Header};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// Sources whose fragments are counted for `ipfrag_max_dist`, at most.
const MAX_SOURCES: usize = 1024;

/// Longest header that a protocol reads of a datagram before it may be refused: TCP's.
pub(super) const MAX_TRANSPORT_HEADER: usize = 60;

/// What fragments of one datagram share (RFC 791 §3.2, RFC 8200 §4.5); IPv6 has no protocol in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
    /// Link-local and multicast addresses are per link; the interface is part of the key for all addresses.
    ifindex: u32,
}

struct Piece {
    start: u32,
    end: u32,
    skb: Skb,
}

struct Queue {
    /// By offset, without overlap.
    pieces: Vec<Piece>,
    /// Length of the fragmentable part when the last fragment has arrived; until then the highest end seen.
    len: u32,
    last_seen: bool,
    received: u32,
    bytes: u32,
    /// Headers of the first fragment, and what came with it.
    first: Option<(Box<[u8]>, PacketInfo)>,
    /// ECN codepoints seen, a bit each.
    ecn: u8,
    /// Size of the largest fragment, and of the largest with DF; IPv4.
    max_size: u32,
    max_df_size: u32,
    /// The source's fragment count when this queue last got one.
    seen_at: u32,
    /// Distinguishes this datagram's timer from that of an earlier one with the same key.
    serial: u64,
    timer: TimerSlot,
}

#[derive(Default)]
struct Table {
    queues: HashMap<Key, Queue>,
    /// Oldest first, with serials; entries whose queue is gone are skipped.
    order: VecDeque<(Key, u64)>,
    bytes: u64,
    serial: u64,
    /// Fragments seen of each source.
    sources: HashMap<IpAddr, u32>,
}

/// Datagrams under reassembly: IPv4 and IPv6 apart, as their limits are.
#[derive(Default)]
pub(crate) struct Fragments {
    v4: Mutex<Table>,
    v6: Mutex<Table>,
}

impl Fragments {
    /// Bytes and datagrams held of a family.
    #[cfg(test)]
    pub(crate) fn usage(&self, v4: bool) -> (u64, usize) {
        let t = if v4 { self.v4.lock() } else { self.v6.lock() };
        (t.bytes, t.queues.len())
    }
}

/// What counts where.
struct Mibs {
    /// IPv6 shows none.
    overlaps: Option<Mib>,
    fails: Mib,
    timeout: Mib,
    oks: Mib,
}

const V4: Mibs = Mibs {
    overlaps: Some(Mib::IpExtReasmOverlaps),
    fails: Mib::IpReasmFails,
    timeout: Mib::IpReasmTimeout,
    oks: Mib::IpReasmOKs,
};
const V6: Mibs =
    Mibs { overlaps: None, fails: Mib::Ip6ReasmFails, timeout: Mib::Ip6ReasmTimeout, oks: Mib::Ip6ReasmOKs };

/// The outcome for a fragment.
enum Outcome {
    /// Waits.
    Kept,
    /// The datagram is whole.
    Whole(Queue),
    /// Dropped; true: with its whole datagram, which counts as failed.
    Dropped(DropReason, bool),
}

/// One fragment's place and the first fragment's headers.
struct Part {
    start: u32,
    end: u32,
    last: bool,
    ecn: Ecn,
    headers: Option<(Box<[u8]>, PacketInfo)>,
    /// Bytes with the IP header, and whether DF is set; IPv4.
    size: u32,
    df: bool,
    payload: Skb,
}

impl Table {
    fn forget(&mut self, stack: &Stack, key: &Key) -> Option<Queue> {
        let mut q = self.queues.remove(key)?;
        self.bytes -= u64::from(q.bytes);
        stack.timers.cancel(&mut q.timer);
        Some(q)
    }

    fn add(&mut self, stack: &Arc<Stack>, key: Key, part: Part, now: Instant) -> Outcome {
        let v4 = key.src.is_ipv4();
        let (high, time) = match v4 {
            true => (stack.sysctl.ipfrag_high_thresh(), stack.sysctl.ipfrag_time()),
            false => (stack.sysctl.ip6frag_high_thresh(), stack.sysctl.ip6frag_time()),
        };
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&key.src) {
            self.sources.clear();
        }
        let count = self.sources.entry(key.src).or_insert(0);
        *count = count.wrapping_add(1);
        let count = *count;
        let max_dist = stack.sysctl.ipfrag_max_dist() as u32;
        let too_far = |q: &Queue| v4 && max_dist != 0 && count.wrapping_sub(q.seen_at) > max_dist;
        if self.queues.get(&key).is_some_and(too_far) {
            // The identification has wrapped: the queue belongs to an older datagram (RFC 4963).
            self.forget(stack, &key);
            stack.mib.inc(V4.fails);
            stack.mib.drop(DropReason::FragTooFar);
        }
        if !self.queues.contains_key(&key) {
            self.serial += 1;
            let mut q = Queue {
                pieces: Vec::new(),
                len: 0,
                last_seen: false,
                received: 0,
                bytes: 0,
                first: None,
                ecn: 0,
                max_size: 0,
                max_df_size: 0,
                seen_at: count,
                serial: self.serial,
                timer: TimerSlot::default(),
            };
            stack.arm_call(&mut q.timer, Arc::new(Expire { key, serial: self.serial }), now + time);
            self.order.push_back((key, self.serial));
            self.queues.insert(key, q);
        }
        let outcome = match self.queues.get_mut(&key) {
            Some(q) => {
                q.seen_at = count;
                let before = q.bytes;
                let r = q.insert(part);
                self.bytes += u64::from(q.bytes - before);
                r
            }
            None => Err((DropReason::FragMem, false)),
        };
        match outcome {
            Err((reason, fatal)) => {
                if fatal {
                    self.forget(stack, &key);
                }
                return Outcome::Dropped(reason, fatal);
            }
            Ok(true) => {
                if let Some(q) = self.forget(stack, &key) {
                    return Outcome::Whole(q);
                }
            }
            Ok(false) => {}
        }
        while self.bytes > high {
            let Some((old, serial)) = self.order.pop_front() else { break };
            if self.queues.get(&old).is_some_and(|q| q.serial == serial) {
                self.forget(stack, &old);
                stack.mib.inc(if v4 { V4.fails } else { V6.fails });
                stack.mib.drop(DropReason::FragMem);
            }
        }
        // Freed queues leave entries in the order, which are removed when they outnumber the others.
        if self.order.len() > 2 * self.queues.len() + 64 {
            let queues = &self.queues;
            self.order.retain(|(k, s)| queues.get(k).is_some_and(|q| q.serial == *s));
        }
        Outcome::Kept
    }
}

impl Queue {
    /// Ok(true): the datagram is whole. Err: the fragment is dropped; true: with its datagram.
    fn insert(&mut self, part: Part) -> Result<bool, (DropReason, bool)> {
        let Part { start, end, last, ecn, headers, size, df, mut payload } = part;
        if last {
            if end < self.len || (self.last_seen && end != self.len) {
                return Err((DropReason::IpInHdr, true));
            }
            self.last_seen = true;
            self.len = end;
        } else if end > self.len {
            if self.last_seen {
                return Err((DropReason::IpInHdr, true));
            }
            self.len = end;
        }
        if end <= start {
            return Err((DropReason::IpInHdr, true));
        }
        let at = self.pieces.partition_point(|p| p.start < start);
        let hits_before = at > 0 && self.pieces[at - 1].end > start;
        let hits_after = self.pieces.get(at).is_some_and(|p| p.start < end);
        if hits_before || hits_after {
            return Err((DropReason::DupFrag, !self.covers(start, end)));
        }
        // A small fragment must not hold a large page, which the account would not show.
        payload.shrink();
        payload.owner = None;
        self.bytes += payload.truesize;
        self.received += end - start;
        self.ecn |= 1 << (ecn as u8);
        self.max_size = self.max_size.max(size);
        if df {
            self.max_df_size = self.max_df_size.max(size);
        }
        if start == 0 {
            self.first = headers;
        }
        self.pieces.insert(at, Piece { start, end, skb: payload });
        Ok(self.last_seen && self.first.is_some() && self.received == self.len)
    }

    /// Whether all of these bytes were received before.
    fn covers(&self, start: u32, end: u32) -> bool {
        let mut reached = start;
        for p in self.pieces.iter().skip_while(|p| p.end <= start) {
            if p.start > reached {
                return false;
            }
            reached = p.end;
            if reached >= end {
                return true;
            }
        }
        false
    }

    /// ECN of the whole (RFC 3168 §5.3): None where fragments contradict each other; Some(true): congestion
    /// experienced.
    fn ecn(&self) -> Option<bool> {
        let has = |e: Ecn| self.ecn & 1 << (e as u8) != 0;
        let capable = has(Ecn::Ect0) || has(Ecn::Ect1);
        if has(Ecn::NotEct) && (capable || has(Ecn::Ce)) { None } else { Some(has(Ecn::Ce) && capable) }
    }
}

/// Ends the wait for the rest of a datagram.
struct Expire {
    key: Key,
    serial: u64,
}

impl TimerCall for Expire {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        let (table, mibs) = match self.key.src {
            IpAddr::V4(_) => (&net(stack).frags.v4, V4),
            IpAddr::V6(_) => (&net(stack).frags.v6, V6),
        };
        let gone = {
            let mut t = table.lock();
            match t.queues.get_mut(&self.key) {
                Some(q) if q.serial == self.serial => q.timer.fired(),
                _ => return,
            }
            t.forget(stack, &self.key)
        };
        stack.mib.inc(mibs.timeout);
        stack.mib.inc(mibs.fails);
        stack.mib.drop(DropReason::FragReasmTimeout);
        // RFC 792, RFC 4443 §3.3: an error is sent only if the first fragment has arrived, because it must quote the
        // transport header.
        if let Some(mut q) = gone
            && let Some((headers, info)) = q.first.take()
            && q.pieces.first().is_some_and(|p| p.start == 0)
        {
            let mut skb = Skb::from_slice(&headers);
            let first = q.pieces.swap_remove(0).skb;
            let mut bytes = vec![0; first.len().min(ipv6::MIN_MTU)];
            first.copy_out(0, &mut bytes);
            skb.append(&bytes, bytes.len());
            icmp::send_problem(stack, &mut skb, &PacketInfo { now, ..info }, Problem::Reassembly);
        }
    }
}

#[track_caller]
fn dropped(stack: &Stack, mibs: &Mibs, reason: DropReason, fatal: bool) {
    if fatal {
        stack.mib.inc(mibs.fails);
        if let (DropReason::DupFrag, Some(overlaps)) = (reason, mibs.overlaps) {
            stack.mib.inc(overlaps);
        }
    }
    stack.mib.drop(reason);
}

/// Takes a fragment that begins with its IPv4 header; returns the datagram when it is whole, with the first fragment's
/// header made that of the datagram.
pub(super) fn receive_v4(stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant) -> Option<Skb> {
    stack.mib.inc(Mib::IpReasmReqds);
    let Ok(h) = Ipv4Header::parse_quoted(skb.linear()) else {
        dropped(stack, &V4, DropReason::IpInHdr, true);
        return None;
    };
    let header_len = h.header_len();
    let (offset, more, mut len) = (h.frag_offset(), h.more_fragments(), skb.len() - header_len);
    if more {
        // Bytes beyond a multiple of 8 cannot be followed by another fragment; Linux cuts them off.
        len &= !7;
    }
    let key = Key {
        src: IpAddr::V4(h.src()),
        dst: IpAddr::V4(h.dst()),
        protocol: h.protocol(),
        id: u32::from(h.id()),
        ifindex: dev.ifindex,
    };
    let info = PacketInfo {
        src: key.src,
        dst: key.dst,
        protocol: h.protocol(),
        tos: h.tos(),
        ttl: h.ttl(),
        ifindex: dev.ifindex,
        not_unicast: skb.link_multicast || !net(stack).routes.is_local(key.dst),
        flow_label: 0,
        now,
    };
    let headers = (offset == 0).then(|| (Box::from(h.header()), info));
    let (ecn, df) = (h.ecn(), h.dont_fragment());
    let size = (header_len + len) as u32;
    let (link_multicast, l3, ifindex) = (skb.link_multicast, skb.l3, skb.ifindex);
    skb.pull(header_len);
    skb.trim(len);
    let part =
        Part { start: offset as u32, end: (offset + len) as u32, last: !more, ecn, headers, size, df, payload: skb };
    let outcome = net(stack).frags.v4.lock().add(stack, key, part, now);
    let mut whole = finish(stack, &V4, outcome)?;
    let ce = whole.ecn();
    let (Some((mut header, _)), Some(ce)) = (whole.first.take(), ce) else {
        dropped(stack, &V4, DropReason::IpInHdr, true);
        return None;
    };
    let total = header.len() + whole.len as usize;
    // No datagram is that long (the ping of death).
    if total > ip::MAX_DATAGRAM {
        dropped(stack, &V4, DropReason::PktTooBig, true);
        return None;
    }
    header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    // It may not be fragmented again where its largest fragment might not (ip_frag_reasm).
    let df = if whole.max_df_size == whole.max_size { 0x40 } else { 0 };
    header[6..8].copy_from_slice(&[df, 0]);
    if ce {
        header[1] |= Ecn::Ce as u8;
    }
    ip::fill_checksum(&mut header);
    stack.mib.inc(V4.oks);
    let size = whole.max_size.max(whole.max_df_size);
    let mut out = join(&header, whole.pieces, now);
    out.frag_max_size = size as u16;
    (out.l3, out.link_multicast, out.ifindex) = (l3, link_multicast, ifindex);
    out.nh_len = header.len() as u16;
    Some(out)
}

/// What is wrong with a fragment of IPv6: `bytes` begin with its headers, of which the fragment header `f` starts at
/// `offset`; `len` bytes follow it.
fn problem_v6(bytes: &[u8], offset: usize, f: &FragmentHeader, len: usize) -> Option<Problem> {
    let field = |pointer: usize| Some(Problem::Parameter { pointer: pointer as u32 });
    // RFC 7112: the first fragment has all headers, so that filters can see what the datagram is.
    if exthdrs::is_incomplete(bytes, offset) {
        return Some(Problem::Incomplete);
    }
    // RFC 8200 §4.5: all but the last are multiples of 8 long (payload length is at offset 4), and none reaches past
    // 65535.
    if f.more && !len.is_multiple_of(8) {
        return field(4);
    }
    if f.offset + len > ip::MAX_DATAGRAM {
        return field(offset + 2);
    }
    None
}

/// Takes a fragment that begins with its IPv6 header, whose fragment header starts at `offset` and was named by the
/// byte at `named_at`; returns the packet when it is whole, without the fragment header.
pub(super) fn receive_v6(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    mut skb: Skb,
    (offset, named_at): (usize, usize),
    now: Instant,
) -> Option<Skb> {
    let bytes = skb.linear();
    let parsed =
        Ipv6Header::parse_quoted(bytes).ok().zip(bytes.get(offset..).and_then(|b| FragmentHeader::parse(b).ok()));
    let Some((h, f)) = parsed else {
        dropped(stack, &V6, DropReason::IpInHdr, true);
        return None;
    };
    let info = PacketInfo {
        src: IpAddr::V6(h.src()),
        dst: IpAddr::V6(h.dst()),
        protocol: f.next_header,
        tos: h.traffic_class(),
        ttl: h.hop_limit(),
        ifindex: dev.ifindex,
        not_unicast: h.dst().is_multicast(),
        flow_label: h.flow_label(),
        now,
    };
    let start = offset + ipv6::FRAGMENT_HEADER_LEN;
    let len = skb.len() - start;
    if let Some(problem) = problem_v6(bytes, offset, &f, len) {
        stack.mib.inc(Mib::Ip6InHdrErrors);
        stack.mib.drop(DropReason::Ipv6BadExthdr);
        icmp::send_problem(stack, &mut skb, &info, problem);
        return None;
    }
    let key = Key { src: info.src, dst: info.dst, protocol: 0, id: f.id, ifindex: dev.ifindex };
    let headers = (f.offset == 0).then(|| {
        let mut b: Box<[u8]> = Box::from(&bytes[..offset]);
        b[named_at] = f.next_header;
        (b, info)
    });
    let part = Part {
        start: f.offset as u32,
        end: (f.offset + len) as u32,
        last: !f.more,
        ecn: h.ecn(),
        headers,
        size: (start + len) as u32,
        df: false,
        payload: {
            skb.pull(start);
            skb
        },
    };
    let outcome = net(stack).frags.v6.lock().add(stack, key, part, now);
    let mut whole = finish(stack, &V6, outcome)?;
    let ce = whole.ecn();
    let (Some((mut header, _)), Some(ce)) = (whole.first.take(), ce) else {
        dropped(stack, &V6, DropReason::IpInHdr, true);
        return None;
    };
    let payload = header.len() - ipv6::HEADER_LEN + whole.len as usize;
    if payload > ip::MAX_DATAGRAM {
        dropped(stack, &V6, DropReason::PktTooBig, true);
        return None;
    }
    ipv6::set_payload_len(&mut header, payload as u16);
    if ce {
        header[1] |= (Ecn::Ce as u8) << 4;
    }
    stack.mib.inc(V6.oks);
    let size = whole.max_size;
    let mut out = join(&header, whole.pieces, now);
    out.frag_max_size = size as u16;
    (out.l3, out.ifindex) = (L3::V6, dev.ifindex);
    out.nh_len = header.len() as u16;
    Some(out)
}

fn finish(stack: &Stack, mibs: &Mibs, outcome: Outcome) -> Option<Queue> {
    match outcome {
        Outcome::Kept => None,
        Outcome::Whole(q) => Some(q),
        Outcome::Dropped(reason, fatal) => {
            dropped(stack, mibs, reason, fatal);
            None
        }
    }
}

/// Headers and pieces end to end; the pieces' pages are moved, not copied.
fn join(header: &[u8], pieces: Vec<Piece>, now: Instant) -> Skb {
    let mut out = Skb::from_slice(header);
    out.tstamp = now;
    // The whole needs no checksum verification only if no part does.
    let verified = pieces.iter().all(|p| p.skb.csum == Csum::Unnecessary);
    out.csum = if verified { Csum::Unnecessary } else { Csum::None };
    if let Some(first) = pieces.first() {
        (out.mark, out.priority) = (first.skb.mark, first.skb.priority);
    }
    for mut p in pieces {
        if p.skb.head_len() == 0 {
            out.append_frags(&mut p.skb);
        } else {
            let bytes = p.skb.to_vec();
            out.append(&bytes, bytes.len());
        }
    }
    // In the first fragment's pages its own header stands before the transport's. The transport's is moved behind the
    // new one, so that an error which puts the IP header in front again finds that one.
    let front = (header.len() + MAX_TRANSPORT_HEADER).min(out.len());
    out.may_pull(front);
    out
}

#[cfg(test)]
mod tests;
