//! Generic receive offload: consecutive TCP segments of a flow that arrive in one batch become one super-packet, so
//! that the stack above runs once for all of them. Above: `netdev`, which hands the results to `ip::input`. Below:
//! devices that do not coalesce themselves. Linux's rules: net/ipv4/tcp_offload.c (tcp_gro_receive), af_inet.c
//! (inet_gro_receive).

use super::join::Joining;
use super::{FIN, Layout, PSH, TCP, edit_front};
use crate::sock::offload::Offload;
use crate::sock::skb::{Csum, GsoType, L3, Skb};
use crate::wire::checksum::{self, Checksum};
use smallvec::SmallVec;
use std::sync::Arc;

/// Number of flows held at a time (MAX_GRO_SKBS).
const FLOWS: usize = 8;
/// Largest IP datagram.
const MAX_LEN: usize = 65_535;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

#[derive(Debug)]
struct Held {
    skb: Skb,
    layout: Layout,
    mss: u16,
    next_seq: u32,
    next_id: u16,
}

/// Packets of a receive batch to which more may be merged. Use: `receive` for each packet, `flush` at the end of the
/// batch.
#[derive(Debug, Default)]
pub(crate) struct Gro {
    held: SmallVec<[Held; FLOWS]>,
    joining: Joining,
}

/// What the headers of a segment say.
struct Seen {
    layout: Layout,
    flags: u8,
    seq: u32,
    id: u16,
    len: usize,
}

impl Gro {
    /// Takes a packet that starts with the network header. Passes packets to which nothing more can be merged to `out`,
    /// in the order of each flow. Segments with a wrong checksum are passed on unchanged, for the protocol to count.
    /// `find`: the plugged-in protocol of a number, if it joins packets.
    pub(crate) fn receive(
        &mut self,
        mut skb: Skb,
        find: &dyn Fn(u8) -> Option<Arc<dyn Offload>>,
        out: &mut dyn FnMut(Skb),
    ) {
        // A packet that the device has coalesced is passed on after the held packets of its flow.
        let Some(seen) = look(&mut skb) else { return self.joining.receive(skb, find, out) };
        let same = self.held.iter().position(|h| same_flow(h, &skb, &seen.layout));
        let candidate = skb.gso_size == 0 && seen.len > 0 && seen.flags & (SYN | RST | URG | ACK) == ACK;
        if !candidate || !checksum_ok(&mut skb, &seen.layout) {
            self.release(same, out);
            return out(skb);
        }
        if let Some(i) = same {
            if mergeable(&self.held[i], &skb, &seen) {
                let last = seen.len < usize::from(self.held[i].mss) || seen.flags & (PSH | FIN) != 0;
                merge(&mut self.held[i], skb, &seen);
                if last {
                    self.release(Some(i), out);
                }
                return;
            }
            self.release(Some(i), out);
        }
        // PSH or FIN ends the super-packet.
        if seen.flags & (PSH | FIN) != 0 {
            return out(skb);
        }
        if self.held.len() == FLOWS {
            self.release(Some(0), out);
        }
        self.held.push(Held {
            skb,
            layout: seen.layout,
            mss: seen.len as u16,
            next_seq: seen.seq.wrapping_add(seen.len as u32),
            next_id: seen.id.wrapping_add(1),
        });
    }

    /// Passes on all held packets at the end of a batch.
    pub(crate) fn flush(&mut self, out: &mut dyn FnMut(Skb)) {
        while !self.held.is_empty() {
            self.release(Some(0), out);
        }
        self.joining.flush(out);
    }

    fn release(&mut self, at: Option<usize>, out: &mut dyn FnMut(Skb)) {
        let Some(i) = at else { return };
        let mut h = self.held.remove(i);
        if h.skb.rx_segs > 1 {
            finish(&mut h);
        }
        out(h.skb);
    }
}

/// Finds the headers of a TCP segment and trims link padding. None: a packet that is not coalesced.
fn look(skb: &mut Skb) -> Option<Seen> {
    let mut layout = Layout::find(skb.linear(), 0);
    if layout.is_none() && skb.frags().len() > 1 {
        let n = skb.len().min(120);
        skb.may_pull(n);
        layout = Layout::find(skb.linear(), 0);
    }
    let layout = layout?;
    // Packets with IP options or extension headers are not coalesced.
    let plain = layout.th == if layout.v6 { 40 } else { 20 };
    if layout.proto != TCP || !plain || layout.end > skb.len() {
        return None;
    }
    skb.trim(layout.end);
    let h = skb.linear();
    if !layout.v6 && !checksum::is_valid(checksum::sum(&h[..20], 0)) {
        return None;
    }
    let t = &h[layout.th..];
    Some(Seen {
        flags: t[13],
        seq: u32::from_be_bytes([t[4], t[5], t[6], t[7]]),
        id: u16::from_be_bytes([h[4], h[5]]),
        len: layout.end - layout.payload,
        layout,
    })
}

/// Verifies the TCP checksum if the device has not, and records the result.
fn checksum_ok(skb: &mut Skb, l: &Layout) -> bool {
    if skb.csum != Csum::None {
        return true;
    }
    let mut sum = Checksum::new(l.pseudo(skb.linear(), l.end - l.th));
    let mut skip = l.th;
    for s in skb.slices() {
        sum.push(s.get(skip..).unwrap_or(&[]));
        skip = skip.saturating_sub(s.len());
    }
    let ok = checksum::is_valid(sum.partial());
    if ok {
        skb.csum = Csum::Unnecessary;
    }
    ok
}

/// Whether addresses and ports are equal.
fn same_flow(h: &Held, skb: &Skb, l: &Layout) -> bool {
    let (a, b) = (h.skb.linear(), skb.linear());
    let addr = if l.v6 { 8..40 } else { 12..20 };
    h.layout.v6 == l.v6 && a[addr.clone()] == b[addr] && a[l.th..l.th + 4] == b[l.th..l.th + 4]
}

/// Whether the packet can be merged to the held one: it continues it, and apart from the sequence number, FIN and PSH
/// the headers are equal, options included.
fn mergeable(h: &Held, skb: &Skb, s: &Seen) -> bool {
    let (a, b) = (h.skb.linear(), skb.linear());
    let l = &s.layout;
    let ip_equal = if l.v6 {
        // Version, class and flow label; hop limit.
        a[..4] == b[..4] && a[7] == b[7]
    } else {
        // TOS, DF, TTL. Without DF the ids must be consecutive, because segmenting the packet again would produce such.
        a[1] == b[1] && a[6] == b[6] && a[8] == b[8] && (a[6] & 0x40 != 0 || h.next_id == s.id)
    };
    let (ta, tb) = (&a[h.layout.th..], &b[l.th..]);
    let options = l.payload - l.th;
    ip_equal
        && h.layout.payload == l.payload
        && h.next_seq == s.seq
        && ta[8..13] == tb[8..13] // acknowledgement, data offset
        && (ta[13] ^ tb[13]) & !(FIN | PSH) == 0
        && ta[14..16] == tb[14..16] // window
        && ta[20..options] == tb[20..options]
        && s.len <= usize::from(h.mss)
        && h.skb.len() + s.len <= MAX_LEN
        && h.skb.rx_segs < u16::MAX
}

fn merge(h: &mut Held, mut skb: Skb, s: &Seen) {
    let at = h.layout.th + 13;
    if s.flags & (PSH | FIN) != 0 {
        edit_front(&mut h.skb, h.layout.payload, |f| f[at] |= s.flags & (PSH | FIN));
    }
    skb.pull(s.layout.payload);
    let head = skb.head_len();
    if head > 0 {
        skb = Skb::from_slice(&skb.to_vec());
    }
    h.skb.append_frags(&mut skb);
    h.skb.rx_segs += 1;
    h.next_seq = h.next_seq.wrapping_add(s.len as u32);
    h.next_id = h.next_id.wrapping_add(1);
}

/// Rewrites the headers for the merged packet.
fn finish(h: &mut Held) {
    let (len, l) = (h.skb.len(), h.layout);
    edit_front(&mut h.skb, l.payload, |f| {
        if l.v6 {
            f[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        } else {
            f[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            f[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&f[..20], 0));
            f[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    });
    // Only segments with the same flags were merged: CWR is a bit of their ACE field.
    h.skb.every_cwr = h.skb.linear()[l.th + 13] & CWR != 0;
    h.skb.gso_size = h.mss;
    h.skb.gso_type = if l.v6 { GsoType::TcpV6 } else { GsoType::TcpV4 };
    h.skb.l3 = if l.v6 { L3::V6 } else { L3::V4 };
    h.skb.csum = Csum::Unnecessary;
}
