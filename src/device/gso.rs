//! Segmentation and checksum completion in software, for devices without these offloads; coalescing of received packets
//! is in [`gro`]. Above: `ip::output`, `ip::input`. Beside: `link` and `pcap`, which need packets as they are on a
//! wire. Linux: net/core/gso.c, tcp_offload.c, udp_offload.c, skb_checksum_help.

use super::Caps;
use crate::sock::page::Frag;
use crate::sock::skb::{Csum, GsoType, HEAD, L3, Skb};
use crate::sock::tstamp::TxStamp;
use crate::wire::checksum::{self, Checksum};
use crate::wire::seq::SeqNum;
use smallvec::SmallVec;

pub(crate) mod gro;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use gro::Gro;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Where the headers of a TCP or UDP packet are, in bytes from its first byte.
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
    /// IP protocol number: 6 or 17.
    pub proto: u8,
    /// End of the datagram according to the IP header's length field; link padding may follow.
    pub end: usize,
}

impl Layout {
    /// Finds the headers in `front`, the first bytes of a packet with `nh` bytes of link header. None: not a complete
    /// TCP or UDP datagram (another protocol, a fragment, malformed), or the headers extend beyond `front`.
    pub(crate) fn find(front: &[u8], nh: usize) -> Option<Layout> {
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
        let header = match proto {
            TCP => usize::from(front.get(th + 12)? >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let payload = th + header;
        let sane = header >= if proto == TCP { 20 } else { 8 } && front.len() >= payload && end >= payload;
        sane.then_some(Layout { nh, th, payload, v6, proto, end })
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
    let offload = if skb.gso_type == GsoType::Udp { caps.uso } else { caps.tso };
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
        return Segments { one: Some(skb), cut: None };
    }
    // The headers of a packet of ours are in its head, those of a received one in its first page.
    let front = skb.linear().len().min(512);
    let Some(layout) = Layout::find(&skb.linear()[..front], l2) else { return Segments { one: None, cut: None } };
    let want = if skb.gso_type == GsoType::Udp { UDP } else { TCP };
    if layout.proto != want {
        return Segments { one: None, cut: None };
    }
    let header = SmallVec::from_slice(&skb.linear()[..layout.payload]);
    skb.trim(layout.end);
    skb.pull(layout.payload);
    if skb.head_len() > 0 {
        let mut whole = Skb::from_slice(&skb.to_vec());
        copy_meta(&skb, &mut whole);
        (whole.every_cwr, whole.owner) = (skb.every_cwr, skb.owner.take());
        skb = whole;
    }
    caps.scatter_gather |= skb.is_empty();
    let mss = usize::from(skb.gso_size);
    let cut = Cut { payload: skb, header, layout, mss, frag: 0, off: 0, done: 0, index: 0, caps };
    Segments { one: None, cut: Some(cut) }
}

/// The segments of a packet: see [`segment`].
#[derive(Debug)]
pub(crate) struct Segments {
    one: Option<Skb>,
    cut: Option<Cut>,
}

impl Iterator for Segments {
    type Item = Skb;
    #[inline]
    fn next(&mut self) -> Option<Skb> {
        self.one.take().or_else(|| self.cut.as_mut()?.next())
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
    fn next(&mut self) -> Option<Skb> {
        let left = self.payload.len() - self.done;
        if left == 0 && self.index > 0 {
            return None;
        }
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
        self.fix(&mut header, n, last, sum.partial());
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
        seg.csum = match self.caps.tx_csum {
            true => Csum::Partial { start: (l.th - l.nh) as u16, offset: l.csum_offset() as u16 },
            false => Csum::None,
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

    /// Adjusts the super-packet's header for segment `index`, with `n` payload bytes whose sum is `payload`.
    fn fix(&self, h: &mut [u8], n: usize, last: bool, payload: u32) {
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
        if l.proto == TCP {
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
        let field = l.th + l.csum_offset();
        let pseudo = l.pseudo(h, l.payload - l.th + n);
        if self.caps.tx_csum {
            put(h, field, checksum::fold(pseudo));
            return;
        }
        put(h, field, 0);
        let mut sum = Checksum::new(pseudo);
        sum.push(&h[l.th..l.payload]);
        sum.push_partial(payload, n);
        put(h, field, nonzero(l.proto, sum.finish()));
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

/// RFC 768: a UDP checksum computed as zero is sent as all ones.
fn nonzero(proto: u8, sum: u16) -> u16 {
    if proto == UDP && sum == 0 { 0xffff } else { sum }
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
    let value = match sum.finish() {
        // Only UDP has a value for "no checksum"; its field is at offset 6.
        0 if offset == 6 => 0xffff,
        v => v,
    };
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
        let sum = nonzero(l.proto, checksum::finish(sum));
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
