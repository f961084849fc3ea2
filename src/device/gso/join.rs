//! Coalescing of received packets of protocols that are plugged in: the stack compares the IP headers, the protocol its
//! own. Above: `gro`. Below: the protocol's `Offload`. Linux: inet_gro_receive, gro_receive of a net_offload.

use super::{Layout, edit_front};
use crate::sock::offload::{Join, MAX_HEADER, Offload, Pieces};
use crate::sock::skb::{Csum, GsoType, L3, Skb};
use crate::wire::checksum;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;

/// Number of packets held at a time (MAX_GRO_SKBS).
const HELD: usize = 8;
/// Largest IP datagram.
const MAX_LEN: usize = 65_535;

#[derive(Debug)]
struct Held {
    skb: Skb,
    layout: Layout,
    ends: (IpAddr, IpAddr),
    offload: Arc<dyn Offload>,
    /// The protocol's header of all that are joined.
    header: SmallVec<[u8; 64]>,
    mss: u16,
    next_id: u16,
}

/// The packets of a receive batch to which others may be joined, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Joining {
    held: SmallVec<[Held; HELD]>,
}

impl Joining {
    /// Takes a packet that starts with the network header, and is not TCP's. Passes those to which nothing more is
    /// joined to `out`, in the order of each pair of addresses. `find`: the protocol of a number, if it joins packets.
    pub(super) fn receive(
        &mut self,
        mut skb: Skb,
        find: &dyn Fn(u8) -> Option<Arc<dyn Offload>>,
        out: &mut dyn FnMut(Skb),
    ) {
        let n = skb.len().min(60);
        skb.may_pull(n);
        let Some(layout) = Layout::network(skb.linear(), 0) else {
            // A fragment, or nothing that IP reads: it must not pass those that came before it.
            self.flush(out);
            return out(skb);
        };
        let Some((offload, ends)) = find(layout.proto).zip(layout.ends(skb.linear())) else { return out(skb) };
        let same = |h: &Held| h.layout.proto == layout.proto && h.ends == ends;
        let candidate = candidate(&mut skb, layout, &*offload, ends);
        let Some(layout) = candidate.filter(|l| skb.gso_size == 0 && l.end - l.payload <= usize::from(u16::MAX)) else {
            self.release(same, out);
            return out(skb);
        };
        if let Some(at) = self.held.iter().position(|h| same(h) && h.takes(&skb, &layout)) {
            match self.held[at].join(skb, &layout) {
                (Join::No, Some(refused)) => {
                    // Of another connection, or out of order: what is held has had its chance.
                    skb = refused;
                    self.release(same, out);
                }
                (Join::Last, _) => return self.release_at(at, out),
                _ => return,
            }
        } else {
            self.release(same, out);
        }
        if self.held.len() == HELD {
            self.release_at(0, out);
        }
        self.held.push(Held::new(skb, layout, ends, offload));
    }

    /// Passes on all held packets at the end of a batch.
    pub(super) fn flush(&mut self, out: &mut dyn FnMut(Skb)) {
        self.release(|_| true, out);
    }

    fn release(&mut self, which: impl Fn(&Held) -> bool, out: &mut dyn FnMut(Skb)) {
        while let Some(at) = self.held.iter().position(&which) {
            self.release_at(at, out);
        }
    }

    fn release_at(&mut self, at: usize, out: &mut dyn FnMut(Skb)) {
        out(self.held.remove(at).finish());
    }
}

/// Whether a packet may be held, and its headers. Trims link padding. None: it has IP options or a wrong IP checksum,
/// or its protocol holds no such packet.
fn candidate(skb: &mut Skb, layout: Layout, offload: &dyn Offload, ends: (IpAddr, IpAddr)) -> Option<Layout> {
    let plain = layout.th == if layout.v6 { 40 } else { 20 };
    if !plain || layout.end > skb.len() || layout.end < layout.th {
        return None;
    }
    skb.trim(layout.end);
    let ip: SmallVec<[u8; 64]> = SmallVec::from_slice(skb.linear().get(..layout.th)?);
    if !layout.v6 && !checksum::is_valid(checksum::sum(&ip, 0)) {
        return None;
    }
    let (n, whole) = (skb.len().min(layout.th + MAX_HEADER), skb.len());
    skb.may_pull(n);
    let header = without_ip(skb, &ip, |skb| offload.may_hold(skb, ends))?;
    let layout = layout.with_header(header).filter(|l| header > 0 && header <= MAX_HEADER && l.end > l.payload)?;
    // A protocol that has changed what it was to look at gets it as it is: IP finds it too short.
    (skb.len() == whole && skb.linear().len() >= layout.payload).then_some(layout)
}

/// Shows a packet to its protocol, which sees none of IP's header.
fn without_ip<R>(skb: &mut Skb, ip: &[u8], f: impl FnOnce(&mut Skb) -> R) -> R {
    skb.pull(ip.len());
    let r = f(skb);
    // What it read in one piece may have moved to another page: then other bytes are in front.
    let back = skb.unpull(ip.len());
    if !back || !skb.linear().starts_with(ip) {
        if back {
            skb.pull(ip.len());
        }
        if let Some(front) = skb.push(ip.len()) {
            front.copy_from_slice(ip);
        }
    }
    let n = skb.len().min(ip.len() + MAX_HEADER);
    skb.may_pull(n);
    r
}

impl Held {
    fn new(skb: Skb, layout: Layout, ends: (IpAddr, IpAddr), offload: Arc<dyn Offload>) -> Held {
        let h = skb.linear();
        let header = SmallVec::from_slice(&h[layout.th..layout.payload]);
        let next_id = u16::from_be_bytes([h[4], h[5]]).wrapping_add(1);
        let mss = (layout.end - layout.payload) as u16;
        Held { skb, layout, ends, offload, header, mss, next_id }
    }

    /// Whether the IP headers let `next` be joined: segmenting the packet again would produce them.
    fn takes(&self, next: &Skb, l: &Layout) -> bool {
        let (a, b) = (self.skb.linear(), next.linear());
        let ip_equal = if l.v6 {
            a[..4] == b[..4] && a[7] == b[7]
        } else {
            let id = u16::from_be_bytes([b[4], b[5]]);
            a[1] == b[1] && a[6] == b[6] && a[8] == b[8] && (a[6] & 0x40 != 0 || self.next_id == id)
        };
        let len = l.end - l.payload;
        ip_equal
            && self.layout.payload == l.payload
            && len <= usize::from(self.mss)
            && self.skb.len() + len <= MAX_LEN
            && self.skb.rx_segs < u16::MAX
    }

    /// Asks the protocol. `No` gives the packet back.
    fn join(&mut self, mut next: Skb, l: &Layout) -> (Join, Option<Skb>) {
        let ip: SmallVec<[u8; 64]> = SmallVec::from_slice(&next.linear()[..l.th]);
        let held = self.skb.len() - self.layout.payload;
        let (header, whole) = (&mut self.header, next.len());
        let join = without_ip(&mut next, &ip, |next| self.offload.join(header, held, next, self.ends));
        if join == Join::No || next.len() != whole {
            return (Join::No, Some(next));
        }
        next.pull(l.payload);
        if next.head_len() > 0 {
            next = Skb::from_slice(&next.to_vec());
        }
        let len = next.len();
        self.skb.append_frags(&mut next);
        self.skb.rx_segs += 1;
        self.next_id = self.next_id.wrapping_add(1);
        (if len < usize::from(self.mss) { Join::Last } else { join }, None)
    }

    /// The packet, with the headers of all that are joined.
    fn finish(self) -> Skb {
        let Held { mut skb, layout: l, offload, header, mss, .. } = self;
        if skb.rx_segs < 2 {
            return skb;
        }
        let len = skb.len();
        edit_front(&mut skb, l.payload, |f| {
            f[l.th..].copy_from_slice(&header);
            if l.v6 {
                f[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            } else {
                f[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                f[10..12].fill(0);
                let sum = checksum::finish(checksum::sum(&f[..20], 0));
                f[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        });
        (skb.gso_size, skb.gso_type) = (mss, GsoType::Protocol);
        skb.pieces = Some(Pieces { header: header.len() as u16, csum: None, offload: Arc::downgrade(&offload) });
        skb.l3 = if l.v6 { L3::V6 } else { L3::V4 };
        skb.csum = Csum::Unnecessary;
        skb
    }
}

#[cfg(test)]
mod tests;
