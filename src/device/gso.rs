//! Segmentation and checksum completion in software, for devices without these offloads; coalescing of received packets
//! is in [`gro`] and `join`. Above: `ip::output`, which cuts, and `netdev`, which joins. Beside: `link` and `pcap`,
//! which need packets as they are on a wire. Linux: net/core/gso.c, tcp_offload.c, udp_offload.c, skb_checksum_help.

use super::Caps;
use crate::sock::offload::Piece;
use crate::sock::page::Frag;
use crate::sock::skb::{Csum, GsoType, HEAD, L3, Skb};
use crate::sock::tstamp::TxStamp;
use crate::wire::checksum::{self, Checksum};
use crate::wire::seq::SeqNum;
use smallvec::SmallVec;
use std::net::IpAddr;

pub(crate) mod gro;
mod join;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use gro::Gro;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Where the headers of a packet are, in bytes from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Network header.
    pub nh: usize,
    /// Transport header.
    pub th: usize,
    /// First byte after the transport header.
    pub payload: usize,
    /// IPv6.
    pub v6: bool,
    /// IP protocol number.
    pub proto: u8,
    /// End of the datagram according to the IP header's length field; link padding may follow.
    pub end: usize,
}

impl Layout {
    /// Finds the headers in `front`, the first bytes of a packet with `nh` bytes of link header. None: not a complete
    /// TCP or UDP datagram (another protocol, a fragment, malformed), or the headers extend beyond `front`.
    pub(crate) fn find(front: &[u8], nh: usize) -> Option<Layout> {
        let l = Layout::network(front, nh)?;
        let header = match l.proto {
            TCP => usize::from(front.get(l.th + 12)? >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let sane = header >= if l.proto == TCP { 20 } else { 8 };
        l.with_header(header).filter(|l| sane && front.len() >= l.payload)
    }

    /// Finds the network header alone, of any protocol: `payload` is where the transport header begins.
    pub(crate) fn network(front: &[u8], nh: usize) -> Option<Layout> {
        let ip = front.get(nh..)?;
        let (v6, proto, th, end) = match ip.first()? >> 4 {
            4 => {
                let ihl = usize::from(ip[0] & 15) * 4;
                if ihl < 20 || ip.len() < ihl {
                    return None;
                }
                if u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 {
                    return None; // a fragment: it does not hold the whole transport payload
                }
                (false, ip[9], nh + ihl, nh + usize::from(u16::from_be_bytes([ip[2], ip[3]])))
            }
            6 => {
                let mut at = 40;
                let mut next = *ip.get(6)?;
                // Hop-by-hop, routing, destination options: each takes at least 8 bytes, so the loop ends.
                while matches!(next, 0 | 43 | 60) {
                    let ext = ip.get(at..at + 8)?;
                    next = ext[0];
                    at += 8 + usize::from(ext[1]) * 8;
                }
                let len = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
                (true, next, nh + at, nh + 40 + len)
            }
            _ => return None,
        };
        Some(Layout { nh, th, payload: th, v6, proto, end })
    }

    /// The same with a transport header of so many bytes. None: the datagram is shorter.
    fn with_header(self, bytes: usize) -> Option<Layout> {
        let payload = self.th + bytes;
        (self.end >= payload).then_some(Layout { payload, ..self })
    }

    /// Source and destination address, from the packet's first bytes.
    pub(crate) fn ends(&self, front: &[u8]) -> Option<(IpAddr, IpAddr)> {
        let ip = front.get(self.nh..)?;
        if self.v6 {
            let of = |at: usize| ip.get(at..)?.first_chunk::<16>().map(|a| IpAddr::from(*a));
            Some((of(8)?, of(24)?))
        } else {
            let of = |at: usize| ip.get(at..)?.first_chunk::<4>().map(|a| IpAddr::from(*a));
            Some((of(12)?, of(16)?))
        }
    }

    /// Offset of the checksum field from the transport header.
    fn csum_offset(&self) -> usize {
        if self.proto == TCP { 16 } else { 6 }
    }

    /// Sum of the pseudo-header for a transport length of `len` bytes.
    fn pseudo(&self, front: &[u8], len: usize) -> u32 {
        let at = if self.v6 { self.nh + 8..self.nh + 40 } else { self.nh + 12..self.nh + 20 };
        checksum::add(checksum::sum(&front[at], 0), u32::from(self.proto) + len as u32)
    }
}

/// Whether `skb` (which starts with the network header) needs software work before a device with `caps` takes it:
/// segmentation, checksum completion or linearizing.
#[inline]
pub(crate) fn needed(caps: &Caps, skb: &Skb) -> bool {
    must_cut(caps, skb, 0)
        || (!caps.tx_csum && matches!(skb.csum, Csum::Partial { .. }))
        || (!caps.scatter_gather && skb.slices().nth(1).is_some())
}

fn must_cut(caps: &Caps, skb: &Skb, l2: usize) -> bool {
    if skb.gso_type == GsoType::None || skb.gso_size == 0 {
        return false;
    }
    let offload = match skb.gso_type {
        GsoType::Udp => caps.uso,
        GsoType::Protocol => caps.gso_software,
        _ => caps.tso,
    };
    !offload
        || skb.every_cwr && !caps.every_cwr
        || skb.len() - l2 > caps.gso_max_size as usize
        || skb.data_len() > usize::from(caps.gso_max_segs) * usize::from(skb.gso_size)
}

/// Converts `skb`, which starts with the network header, to packets that a device with `caps` takes: segments of
/// `gso_size` payload bytes with adjusted headers (lengths, IPv4 ids, sequence numbers; FIN and PSH in the last, CWR in
/// the first only, unless `every_cwr`) and complete checksums, or the packet itself with its checksum complete. A
/// super-packet whose headers cannot be found gives no packets. The `owner` of the packet stays with the last segment.
/// Payload is shared, not copied.
pub(crate) fn segment(skb: Skb, caps: &Caps) -> Segments {
    segment_at(skb, caps, 0)
}

/// As [`segment`], for a packet with `l2` bytes of link header in front.
pub(crate) fn segment_at(mut skb: Skb, caps: &Caps, l2: usize) -> Segments {
    let mut caps = *caps;
    if !must_cut(&caps, &skb, l2) {
        if !caps.tx_csum {
            complete_checksum_at(&mut skb, l2);
        }
        if !caps.scatter_gather {
            linearize(&mut skb);
        }
        return Segments { one: Some(skb), cut: None, failed: false };
    }
    let Some(layout) = layout_of(&mut skb, l2) else { return Segments { one: None, cut: None, failed: true } };
    let header = SmallVec::from_slice(&skb.linear()[..layout.payload]);
    skb.trim(layout.end);
    skb.pull(layout.payload);
    if skb.head_len() > 0 {
        let mut whole = Skb::from_slice(&skb.to_vec());
        copy_meta(&skb, &mut whole);
        (whole.every_cwr, whole.owner, whole.pieces) = (skb.every_cwr, skb.owner.take(), skb.pieces.take());
        skb = whole;
    }
    caps.scatter_gather |= skb.is_empty();
    let mss = usize::from(skb.gso_size);
    let cut = Cut { payload: skb, header, layout, mss, frag: 0, off: 0, done: 0, index: 0, caps };
    Segments { one: None, cut: Some(cut), failed: false }
}

/// Where the headers of a super-packet are. None: they are not those that its type says.
fn layout_of(skb: &mut Skb, l2: usize) -> Option<Layout> {
    // The headers of a packet of ours are in its head, those of a received one in its first page.
    let front = |skb: &Skb| skb.linear().len().min(512);
    match skb.gso_type {
        GsoType::Protocol => {
            let header = usize::from(skb.pieces.as_ref()?.header);
            let layout = Layout::network(&skb.linear()[..front(skb)], l2)?.with_header(header)?;
            // The protocol's header may be in a page behind IP's.
            skb.may_pull(layout.payload).then_some(layout)
        }
        gso_type => {
            let want = if gso_type == GsoType::Udp { UDP } else { TCP };
            Layout::find(&skb.linear()[..front(skb)], l2).filter(|l| l.proto == want)
        }
    }
}

/// The segments of a packet: see [`segment`].
#[derive(Debug)]
pub(crate) struct Segments {
    one: Option<Skb>,
    cut: Option<Cut>,
    failed: bool,
}

impl Segments {
    /// Whether the packet, or the rest of it behind the segments that were taken, cannot be segmented.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }
}

impl Iterator for Segments {
    type Item = Skb;
    #[inline]
    fn next(&mut self) -> Option<Skb> {
        if let Some(one) = self.one.take() {
            return Some(one);
        }
        let cut = self.cut.as_mut()?;
        let next = cut.next();
        if next.is_none() {
            self.failed |= !cut.is_done();
            self.cut = None;
        }
        next
    }
}

/// A super-packet that is being segmented.
#[derive(Debug)]
struct Cut {
    /// The payload without headers, in fragments.
    payload: Skb,
    header: SmallVec<[u8; HEAD]>,
    layout: Layout,
    mss: usize,
    /// Next fragment, offset in it, and number of payload bytes already used.
    frag: usize,
    off: usize,
    done: usize,
    index: u16,
    caps: Caps,
}

impl Cut {
    fn is_done(&self) -> bool {
        self.done == self.payload.len() && self.index > 0
    }

    /// The next segment. None: there is no more, or its protocol has refused to make its header.
    fn next(&mut self) -> Option<Skb> {
        if self.is_done() {
            return None;
        }
        let left = self.payload.len() - self.done;
        let n = left.min(self.mss);
        let last = left <= self.mss;
        let mut seg = Skb::new();
        copy_meta(&self.payload, &mut seg);
        let mut sum = Checksum::default();
        let mut want = n;
        while want > 0 {
            let f = self.payload.frags().get(self.frag)?;
            let take = want.min(f.len as usize - self.off);
            let part = Frag { page: f.page.clone(), off: f.off + self.off as u32, len: take as u32 };
            if !self.caps.tx_csum {
                sum.push(part.bytes());
            }
            want -= take;
            self.off += take;
            if self.off == f.len as usize {
                (self.frag, self.off) = (self.frag + 1, 0);
            }
            if take > 0 {
                seg.push_frag(part);
            }
        }
        let mut header = self.header.clone();
        self.fix(&mut header, n, last, sum.partial())?;
        if header.len() <= HEAD {
            seg.push(header.len())?.copy_from_slice(&header);
        } else {
            // Extension headers larger than the head: they go into a page of their own in front.
            let mut long = Skb::from_slice(&header);
            copy_meta(&seg, &mut long);
            long.append_frags(&mut seg);
            seg = long;
        }
        let l = &self.layout;
        seg.csum = match self.csum_at() {
            Some((start, offset)) if self.caps.tx_csum => {
                Csum::Partial { start: (start - l.nh) as u16, offset: offset as u16 }
            }
            _ => Csum::None,
        };
        if !self.caps.scatter_gather {
            linearize(&mut seg);
        }
        self.done += n;
        self.index += 1;
        // Of TCP the segment with the byte that is reported has the stamp, of UDP the first (tcp_gso_tstamp).
        let end = self.payload.tcp.seq + self.done as u32;
        let reported = |t: &TxStamp| last || l.proto != TCP || SeqNum(t.key()).before(end);
        if self.payload.tx_stamp.as_ref().is_some_and(reported) {
            seg.tx_stamp = self.payload.tx_stamp.take();
        }
        if last {
            seg.owner = self.payload.owner.take();
        }
        Some(seg)
    }

    /// Where summing begins, and the checksum field from there. None: the protocol has no checksum of the stack's.
    fn csum_at(&self) -> Option<(usize, usize)> {
        let l = &self.layout;
        match &self.payload.pieces {
            None => Some((l.th, l.csum_offset())),
            Some(pieces) => pieces.csum.map(|(start, offset)| (l.th + usize::from(start), offset.into())),
        }
    }

    /// Adjusts the super-packet's header for segment `index`, with `n` payload bytes whose sum is `payload`. None: its
    /// protocol refuses.
    fn fix(&self, h: &mut [u8], n: usize, last: bool, payload: u32) -> Option<()> {
        let l = self.layout;
        let put = |h: &mut [u8], at: usize, v: u16| h[at..at + 2].copy_from_slice(&v.to_be_bytes());
        if l.v6 {
            put(h, l.nh + 4, (l.payload - l.nh - 40 + n) as u16);
        } else {
            let id = u16::from_be_bytes([h[l.nh + 4], h[l.nh + 5]]);
            put(h, l.nh + 2, (l.payload - l.nh + n) as u16);
            put(h, l.nh + 4, id.wrapping_add(self.index));
            put(h, l.nh + 10, 0);
            let sum = checksum::finish(checksum::sum(&h[l.nh..l.th], 0));
            put(h, l.nh + 10, sum);
        }
        let mut sum = l.pseudo(h, l.payload - l.th + n);
        if let Some(pieces) = &self.payload.pieces {
            let ends = l.ends(h)?;
            let sock = self.payload.owner.as_ref().and_then(|owner| owner.sock());
            let header = h.get_mut(l.th..l.payload)?;
            let (index, offset) = (self.index, self.done);
            let mut piece = Piece { header, index, offset, len: n, last, ends, sum, sock };
            pieces.offload.upgrade()?.segment(&mut piece).ok()?;
            sum = piece.sum;
        } else if l.proto == TCP {
            let mut seq = [0; 4];
            seq.copy_from_slice(&h[l.th + 4..l.th + 8]);
            let seq = u32::from_be_bytes(seq).wrapping_add(self.done as u32);
            h[l.th + 4..l.th + 8].copy_from_slice(&seq.to_be_bytes());
            if !last {
                h[l.th + 13] &= !(FIN | PSH);
            }
            if self.index > 0 {
                if !self.payload.every_cwr {
                    h[l.th + 13] &= !CWR;
                }
                self.move_urgent_pointer(&mut h[l.th..]);
            }
        } else {
            put(h, l.th + 4, (8 + n) as u16);
        }
        let Some((start, offset)) = self.csum_at() else { return Some(()) };
        let field = start + offset;
        if field + 2 > l.payload {
            return None;
        }
        if self.caps.tx_csum {
            put(h, field, checksum::fold(sum));
            return Some(());
        }
        put(h, field, 0);
        let mut sum = Checksum::new(sum);
        sum.push(&h[start..l.payload]);
        sum.push_partial(payload, n);
        put(h, field, nonzero(offset, sum.finish()));
        Some(())
    }
}

impl Cut {
    /// The urgent pointer counts from a segment's own first byte (RFC 9293 §3.1): in a later one it is shorter, and
    /// what lies behind it is not urgent.
    fn move_urgent_pointer(&self, tcp: &mut [u8]) {
        if tcp[13] & URG == 0 {
            return;
        }
        let pointer = u16::from_be_bytes([tcp[18], tcp[19]]);
        let ahead = usize::from(pointer).saturating_sub(self.done) as u16;
        if ahead == 0 {
            tcp[13] &= !URG;
        }
        tcp[18..20].copy_from_slice(&ahead.to_be_bytes());
    }
}

/// RFC 768: a UDP checksum computed as zero is sent as all ones. Its field is at offset 6; the two are equal to other
/// protocols.
fn nonzero(offset: usize, sum: u16) -> u16 {
    if offset == 6 && sum == 0 { 0xffff } else { sum }
}

/// Copies the packet's metadata, but not its bytes, checksum state or segmentation.
fn copy_meta(from: &Skb, to: &mut Skb) {
    to.ifindex = from.ifindex;
    to.l3 = from.l3;
    to.link_multicast = from.link_multicast;
    to.nh_len = from.nh_len;
    to.tstamp = from.tstamp;
    to.tx_time = from.tx_time;
    to.hash = from.hash;
    (to.mark, to.priority) = (from.mark, from.priority);
    to.tcp = from.tcp;
}

/// Copies a packet into one page, for devices that take a single slice.
pub(crate) fn linearize(skb: &mut Skb) {
    if skb.slices().nth(1).is_none() {
        return;
    }
    let mut flat = Skb::from_slice(&skb.to_vec());
    copy_meta(skb, &mut flat);
    flat.csum = skb.csum;
    flat.gso_size = skb.gso_size;
    flat.gso_type = skb.gso_type;
    flat.pieces = skb.pieces.take();
    flat.every_cwr = skb.every_cwr;
    flat.rx_segs = skb.rx_segs;
    flat.owner = skb.owner.take();
    *skb = flat;
}

/// Completes a `Csum::Partial` checksum of a packet that starts with the network header (skb_checksum_help). False,
/// with nothing done, when the packet has none or the field is outside the packet.
pub(crate) fn complete_checksum(skb: &mut Skb) -> bool {
    complete_checksum_at(skb, 0)
}

/// As [`complete_checksum`], with `l2` bytes of link header in front.
pub(crate) fn complete_checksum_at(skb: &mut Skb, l2: usize) -> bool {
    let Csum::Partial { start, offset } = skb.csum else { return false };
    let start = l2 + usize::from(start);
    let field = start + usize::from(offset);
    if field + 2 > skb.len() {
        return false;
    }
    let mut sum = Checksum::default();
    let mut skip = start;
    for s in skb.slices() {
        if skip >= s.len() {
            skip -= s.len();
            continue;
        }
        sum.push(&s[skip..]);
        skip = 0;
    }
    let value = nonzero(offset.into(), sum.finish());
    if !edit_front(skb, field + 2, |h| h[field..].copy_from_slice(&value.to_be_bytes())) {
        return false;
    }
    skb.csum = Csum::None;
    true
}

/// Lets `f` modify the first `n` bytes. Bytes in pages, which may be shared, are first copied to the head. False when
/// the packet is shorter or the head has no room.
pub(crate) fn edit_front(skb: &mut Skb, n: usize, f: impl FnOnce(&mut [u8])) -> bool {
    if skb.head_len() < n {
        let mut front = [0; HEAD];
        if n > HEAD || skb.copy_out(0, &mut front[..n]) < n {
            return false;
        }
        skb.pull(n);
        match skb.push(n) {
            Some(h) => h.copy_from_slice(&front[..n]),
            None => {
                // Other bytes fill the head to its end: the front goes into a page.
                let mut page = Skb::from_slice(&front[..n]);
                copy_meta(skb, &mut page);
                (page.csum, page.gso_size, page.gso_type) = (skb.csum, skb.gso_size, skb.gso_type);
                (page.every_cwr, page.rx_segs, page.owner) = (skb.every_cwr, skb.rx_segs, skb.owner.take());
                page.pieces = skb.pieces.take();
                page.append_frags(skb);
                let Some(h) = page.pull(n).then(|| page.push(n)).flatten() else { return false };
                h.copy_from_slice(&front[..n]);
                *skb = page;
            }
        }
    }
    f(&mut skb.head_mut()[..n]);
    true
}

/// Calls `f` with each packet as it would be on a wire: super-packets segmented, partial checksums completed. `l2`:
/// bytes of link header. The packet itself is not modified.
pub(crate) fn wire_frames(skb: &Skb, l2: usize, f: &mut dyn FnMut(&[u8])) {
    let mut copy = skb.share();
    if copy.gso_type != GsoType::None && copy.gso_size > 0 {
        let mut any = false;
        for seg in segment_at(copy, &Caps::ip(65_535), l2) {
            any = true;
            f(&seg.to_vec());
        }
        if any {
            return;
        }
        copy = skb.share();
    }
    let mut bytes = copy.to_vec();
    if copy.csum != Csum::None
        && let Some(l) = Layout::find(&bytes, l2)
        && l.end <= bytes.len()
    {
        let field = l.th + l.csum_offset();
        bytes[field..field + 2].fill(0);
        let sum = checksum::add(l.pseudo(&bytes, l.end - l.th), checksum::sum(&bytes[l.th..l.end], 0));
        let sum = nonzero(l.csum_offset(), checksum::finish(sum));
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    } else if complete_checksum_at(&mut copy, l2) {
        bytes = copy.to_vec();
    }
    f(&bytes);
}

/// The IP version from a packet's first byte, for a device that reports only "TCP" or "UDP".
pub(crate) fn l3_of(first: u8) -> Option<L3> {
    match first >> 4 {
        4 => Some(L3::V4),
        6 => Some(L3::V6),
        _ => None,
    }
}
