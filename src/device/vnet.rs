//! What TUN devices and AF_PACKET sockets share: the virtio-net header before each packet, receive buffers, and the
//! gathered write. Above: `tun`, `packet`. Below: `sys::fd`. Virtio 1.2 §5.1.6 (struct virtio_net_hdr, here in native
//! byte order, the default of both kinds of descriptor); include/linux/virtio_net.h has the kernel's checks.

use super::gso::{self, Layout};
use super::{DevStats, WriteBurst, Xmit};
use crate::sock::page::{Frag, Page, PageRef};
use crate::sock::skb::{Csum, GsoType, L3, Skb};
use crate::sys::fd::{Fd, IOV_MAX};
use crate::sys::netdev::VNET_HDR_LEN;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU64, Ordering};

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// struct virtio_net_hdr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VnetHdr {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl VnetHdr {
    fn from_bytes(b: &[u8; VNET_HDR_LEN]) -> VnetHdr {
        let word = |i: usize| u16::from_ne_bytes([b[i], b[i + 1]]);
        VnetHdr {
            flags: b[0],
            gso_type: b[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    fn to_bytes(self) -> [u8; VNET_HDR_LEN] {
        let mut b = [0; VNET_HDR_LEN];
        (b[0], b[1]) = (self.flags, self.gso_type);
        for (at, v) in [(2, self.hdr_len), (4, self.gso_size), (6, self.csum_start), (8, self.csum_offset)] {
            b[at..at + 2].copy_from_slice(&v.to_ne_bytes());
        }
        b
    }

    /// The header for a packet of ours with `l2` bytes of link header. None: a super-packet without a partial checksum
    /// or without headers at its front, which no device can segment.
    fn for_xmit(skb: &Skb, l2: usize) -> Option<VnetHdr> {
        let mut h = VnetHdr::default();
        if let Csum::Partial { start, offset } = skb.csum {
            h.flags = F_NEEDS_CSUM;
            h.csum_start = l2 as u16 + start;
            h.csum_offset = offset;
        }
        if skb.gso_type == GsoType::None || skb.gso_size == 0 {
            return Some(h);
        }
        let front = skb.linear();
        let l = Layout::find(front, l2)?;
        if skb.len() <= l.payload + usize::from(skb.gso_size) {
            return Some(h); // one segment only
        }
        if h.flags == 0 {
            return None;
        }
        h.gso_size = skb.gso_size;
        h.hdr_len = l.payload as u16;
        h.gso_type = match skb.gso_type {
            GsoType::Udp => GSO_UDP_L4,
            // A device without GSO_ECN would copy CWR into each segment, so the flag is set.
            _ => (if l.v6 { GSO_TCPV6 } else { GSO_TCPV4 }) | if front[l.th + 13] & 0x80 != 0 { GSO_ECN } else { 0 },
        };
        Some(h)
    }

    /// Applies the header to a received packet. False: the header is inconsistent in itself or with the packet.
    fn apply(self, skb: &mut Skb, l2: usize) -> bool {
        if self.flags & F_NEEDS_CSUM != 0 {
            let end = usize::from(self.csum_start) + usize::from(self.csum_offset) + 2;
            if usize::from(self.csum_start) < l2 || end > skb.len() {
                return false;
            }
            // The packet was never on a wire: its sender is on this machine.
            skb.csum = Csum::Unnecessary;
        } else if self.flags & F_DATA_VALID != 0 {
            skb.csum = Csum::Unnecessary;
        }
        let (gso, v6, proto) = match self.gso_type & !GSO_ECN {
            GSO_NONE => return self.gso_type == GSO_NONE,
            GSO_TCPV4 => (GsoType::TcpV4, false, 6),
            GSO_TCPV6 => (GsoType::TcpV6, true, 6),
            GSO_UDP_L4 => (GsoType::Udp, skb.l3 == L3::V6, 17),
            _ => return false,
        };
        // hdr_len is only a hint, so the header lengths are taken from the packet.
        let Some(l) = Layout::find(skb.linear(), l2) else { return false };
        if self.gso_size == 0 || l.v6 != v6 || l.proto != proto || l.end > skb.len() {
            return false;
        }
        let segs = (l.end - l.payload).div_ceil(usize::from(self.gso_size));
        if segs > 1 {
            skb.gso_type = gso;
            skb.gso_size = self.gso_size;
            skb.rx_segs = segs.min(usize::from(u16::MAX)) as u16;
        }
        true
    }
}

/// Marks a received IP datagram as TUN does when its virtio-net header says that it was joined from TCP segments with
/// `mss` bytes each. One that fits into a segment, and one that is not TCP, stays as it is.
pub fn mark_joined(skb: &mut Skb, mss: u16) {
    let v6 = Layout::find(skb.linear(), 0).is_some_and(|l| l.v6);
    let gso_type = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
    // False for what is not TCP.
    VnetHdr { gso_type, gso_size: mss, ..VnetHdr::default() }.apply(skb, 0);
}

/// Sizes of the pages a packet is received into, in order: an ordinary packet uses only the first, the largest
/// super-packet all of them. Together they hold 65,535 bytes and a link header.
const RX_PAGES: [usize; 5] = [2048, 16_384, 16_384, 16_384, 16_384];
/// A packet of at most this size, or the rest of one in its last page, is copied to a page of its own size: the copy
/// costs less than holding a large page until the bytes are read.
const COPYBREAK: usize = 256;

/// Receive buffers of one queue: pages allocated before a packet is read into them.
#[derive(Debug)]
pub(crate) struct RxBuf {
    pages: [PageRef; RX_PAGES.len()],
    /// Whether the packet's virtio-net header is read.
    vnet: bool,
}

impl RxBuf {
    pub(super) fn new(vnet: bool) -> RxBuf {
        RxBuf { pages: RX_PAGES.map(Page::alloc), vnet }
    }

    /// Reads one packet with `l2` bytes of link header. `Ok(None)`: it was malformed (counted by the caller).
    pub(super) fn receive(&mut self, fd: &Fd, l2: usize) -> io::Result<Option<Skb>> {
        let mut hdr = [0; VNET_HDR_LEN];
        let skip = if self.vnet { VNET_HDR_LEN } else { 0 };
        let n = {
            let mut bufs: SmallVec<[IoSliceMut<'_>; RX_PAGES.len() + 1]> = SmallVec::new();
            bufs.push(IoSliceMut::new(&mut hdr[..skip]));
            for (page, size) in self.pages.iter_mut().zip(RX_PAGES) {
                if page.is_shared() {
                    *page = Page::alloc(size);
                }
                if let Some(p) = page.get_mut() {
                    bufs.push(IoSliceMut::new(&mut p.bytes_mut()[..size]));
                }
            }
            fd.readv(&mut bufs)?
        };
        let Some(len) = n.checked_sub(skip) else { return Ok(None) };
        Ok(self.packet(&hdr, len, l2))
    }

    /// Makes a packet of the `len` bytes that were read into the pages.
    fn packet(&mut self, hdr: &[u8; VNET_HDR_LEN], len: usize, l2: usize) -> Option<Skb> {
        if len <= l2 || len > RX_PAGES.iter().sum() {
            return None;
        }
        let mut skb = Skb::new();
        let mut left = len;
        for (page, size) in self.pages.iter_mut().zip(RX_PAGES) {
            let n = left.min(size);
            if n <= COPYBREAK || (n <= RX_PAGES[0] && size > RX_PAGES[0]) {
                for f in Frag::from_slice(&page.bytes()[..n]) {
                    skb.push_frag(f);
                }
            } else {
                let full = std::mem::replace(page, Page::alloc(size));
                skb.push_frag(Frag { page: full, off: 0, len: n as u32 });
            }
            left -= n;
            if left == 0 {
                break;
            }
        }
        let first = skb.linear().get(l2).copied()?;
        match gso::l3_of(first) {
            Some(l3) => skb.l3 = l3,
            // On Ethernet, other protocols (ARP) may begin with any byte.
            None if l2 == 0 => return None,
            None => {}
        }
        if self.vnet && !VnetHdr::from_bytes(hdr).apply(&mut skb, l2) {
            return None;
        }
        Some(skb)
    }
}

/// Packets of at most this size are copied behind their virtio-net header and written as one piece, which costs the
/// kernel 0.12 µs less than a gathered write.
const COPIED: usize = PIECE - VNET_HDR_LEN;
const PIECE: usize = 0x600;

/// Writes a packet of a few slices, its header before it.
fn write(fd: &Fd, hdr: &[u8], skb: &Skb) -> io::Result<usize> {
    let mut piece: SmallVec<[u8; PIECE]> = SmallVec::new();
    piece.extend_from_slice(hdr);
    skb.slices().for_each(|slice| piece.extend_from_slice(slice));
    fd.write(&piece)
}

/// Writes a packet with one system call. `Busy` when the descriptor would block.
pub(crate) fn xmit(fd: &Fd, vnet: bool, l2: usize, mut skb: Skb, stats: &Stats) -> Xmit {
    let mut hdr = [0; VNET_HDR_LEN];
    let mut skip = 0;
    if vnet {
        let Some(h) = VnetHdr::for_xmit(&skb, l2) else {
            stats.tx_dropped.fetch_add(1, Ordering::Relaxed);
            return Xmit::Dropped(ErrorKind::InvalidInput.into());
        };
        hdr = h.to_bytes();
        skip = VNET_HDR_LEN;
    }
    let written = loop {
        if skb.len() <= COPIED {
            break write(fd, &hdr[..skip], &skb);
        }
        let mut bufs: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        bufs.push(IoSlice::new(&hdr[..skip]));
        bufs.extend(skb.slices().map(IoSlice::new));
        if bufs.len() <= IOV_MAX {
            break fd.writev(&bufs);
        }
        drop(bufs);
        gso::linearize(&mut skb);
    };
    match written {
        Ok(_) => {
            stats.sent(skb.len());
            Xmit::Sent
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => Xmit::Busy(skb),
        Err(e) => {
            stats.tx_dropped.fetch_add(1, Ordering::Relaxed);
            Xmit::Dropped(e)
        }
    }
}

/// Packets of one call of [`xmit_burst`], at most.
const BURST: usize = 16;
/// Pieces of a packet that is sent so, its virtio-net header among them, at most. One of large pages has few.
const PIECES: usize = 16;

/// Writes packets that have virtio-net headers, with a call of `write` for several, and removes those that were
/// written. It ends at the first that was not, or is not fit to be written so.
pub(crate) fn xmit_burst(fd: &Fd, packets: &mut VecDeque<Skb>, stats: &Stats, write: &mut WriteBurst<'_>) {
    loop {
        let mut marks = [false; BURST];
        let n = write_first(fd, packets, write, &mut marks);
        let written = &marks[..n];
        let mut mark = written.iter();
        packets.retain(|skb| {
            let sent = mark.next().is_some_and(|sent| *sent);
            if sent {
                stats.sent(skb.len());
            }
            !sent
        });
        if n == 0 || written.contains(&false) {
            return;
        }
    }
}

/// Writes the first packets with one call, and marks those that were written; returns how many it tried to write.
fn write_first(fd: &Fd, packets: &VecDeque<Skb>, write: &mut WriteBurst<'_>, written: &mut [bool; BURST]) -> usize {
    let fit = |skb: &Skb| VnetHdr::for_xmit(skb, 0).filter(|_| skb.slices().count() < PIECES).map(VnetHdr::to_bytes);
    let headers: SmallVec<[_; BURST]> = packets.iter().take(BURST).map_while(fit).collect();
    let pieces: SmallVec<[SmallVec<[IoSlice<'_>; PIECES]>; BURST]> = packets
        .iter()
        .zip(&headers)
        .map(|(skb, header)| std::iter::once(&header[..]).chain(skb.slices()).map(IoSlice::new).collect())
        .collect();
    let slices: SmallVec<[&[IoSlice<'_>]; BURST]> = pieces.iter().map(|pieces| &pieces[..]).collect();
    if !slices.is_empty() {
        write(fd.raw(), &slices, &mut written[..slices.len()]);
    }
    slices.len()
}

/// Counters of one queue, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Stats {
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub rx_dropped: AtomicU64,
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
    pub tx_dropped: AtomicU64,
}

impl Stats {
    pub(super) fn received(&self, bytes: usize) {
        self.rx_packets.fetch_add(1, Ordering::Relaxed);
        self.rx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn sent(&self, bytes: usize) {
        self.tx_packets.fetch_add(1, Ordering::Relaxed);
        self.tx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds the counters to `sum`.
    pub(super) fn add_to(&self, sum: &mut DevStats) {
        sum.rx_packets += self.rx_packets.load(Ordering::Relaxed);
        sum.rx_bytes += self.rx_bytes.load(Ordering::Relaxed);
        sum.rx_dropped += self.rx_dropped.load(Ordering::Relaxed);
        sum.tx_packets += self.tx_packets.load(Ordering::Relaxed);
        sum.tx_bytes += self.tx_bytes.load(Ordering::Relaxed);
        sum.tx_dropped += self.tx_dropped.load(Ordering::Relaxed);
    }
}

/// Receives up to `budget` packets from `fd`; returns how many the sink got. Malformed ones count against the budget,
/// so that a stream of them cannot keep the thread busy.
pub(crate) fn recv(
    fd: &Fd,
    buf: &mut RxBuf,
    l2: usize,
    budget: usize,
    stats: &Stats,
    sink: &mut dyn FnMut(Skb),
) -> io::Result<usize> {
    let mut got = 0;
    for _ in 0..budget {
        match buf.receive(fd, l2) {
            Ok(Some(skb)) => {
                stats.received(skb.len());
                got += 1;
                sink(skb);
            }
            Ok(None) => {
                stats.rx_dropped.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            // The packets received so far are returned; a persistent error is seen again at the next call.
            Err(_) if got > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::gso::tests::{tcp4, tcp6, udp4};
    use proptest::prelude::*;

    fn load(buf: &mut RxBuf, packet: &[u8]) {
        let mut at = 0;
        for (page, size) in buf.pages.iter_mut().zip(RX_PAGES) {
            let n = size.min(packet.len() - at);
            page.get_mut().unwrap().bytes_mut()[..n].copy_from_slice(&packet[at..at + n]);
            at += n;
        }
    }

    fn receive(hdr: VnetHdr, packet: &[u8]) -> Option<Skb> {
        let mut buf = RxBuf::new(true);
        load(&mut buf, packet);
        buf.packet(&hdr.to_bytes(), packet.len(), 0)
    }

    #[test]
    fn a_packet_takes_pages_of_its_size_and_keeps_its_bytes() {
        for (len, frags, at_most) in
            [(60, 1, 256), (1500, 1, 2048), (2100, 2, 2304), (5000, 2, 18_432), (65_000, 5, 67_584)]
        {
            let packet = tcp4(len - 40, 0x10);
            let skb = receive(VnetHdr::default(), &packet).unwrap();
            assert_eq!(skb.to_vec(), packet, "{len}");
            assert_eq!(skb.frags().len(), frags, "{len}");
            let held: usize = skb.frags().iter().map(|f| f.page.size()).sum();
            assert!(held <= at_most, "{len}: {held}");
        }
    }

    #[test]
    fn an_open_checksum_and_a_super_packet_are_understood() {
        let h = VnetHdr { flags: 1, gso_type: 1, hdr_len: 40, gso_size: 1000, csum_start: 20, csum_offset: 16 };
        let skb = receive(h, &tcp4(2500, 0x10)).unwrap();
        assert_eq!((skb.csum, skb.gso_type, skb.gso_size, skb.rx_segs), (Csum::Unnecessary, GsoType::TcpV4, 1000, 3));
        let h = VnetHdr { flags: 2, gso_type: 4 | GSO_ECN, hdr_len: 60, gso_size: 1000, ..VnetHdr::default() };
        let skb = receive(h, &tcp6(2001)).unwrap();
        assert_eq!((skb.gso_type, skb.rx_segs, skb.l3), (GsoType::TcpV6, 3, L3::V6));
        let skb = receive(VnetHdr { gso_size: 700, ..VnetHdr::default() }, &tcp4(10, 0x10)).unwrap();
        assert_eq!((skb.csum, skb.gso_size), (Csum::None, 0), "a size without a type says nothing");
    }

    #[test]
    fn a_header_that_contradicts_its_packet_is_a_drop() {
        let ok = VnetHdr { flags: 1, gso_type: 1, hdr_len: 40, gso_size: 1000, csum_start: 20, csum_offset: 16 };
        for (case, h, packet) in [
            ("checksum behind the end", VnetHdr { csum_start: 60_000, ..ok }, tcp4(2500, 0x10)),
            ("checksum offset wraps", VnetHdr { csum_start: 0xffff, csum_offset: 0xffff, ..ok }, tcp4(2500, 0x10)),
            ("no segment size", VnetHdr { gso_size: 0, ..ok }, tcp4(2500, 0x10)),
            ("unknown kind", VnetHdr { gso_type: 9, ..ok }, tcp4(2500, 0x10)),
            ("UFO", VnetHdr { gso_type: 3, ..ok }, tcp4(2500, 0x10)),
            ("ECN of nothing", VnetHdr { gso_type: GSO_ECN, ..ok }, tcp4(2500, 0x10)),
            ("TCP that is UDP", ok, udp4(2500)),
            ("v4 that is v6", ok, tcp6(2500)),
            ("cut TCP header", ok, tcp4(0, 0x10)[..38].to_vec()),
            ("not IP", VnetHdr::default(), vec![0x10; 40]),
            ("empty", VnetHdr::default(), vec![]),
        ] {
            assert!(receive(h, &packet).is_none(), "{case}");
        }
    }

    #[test]
    fn a_super_packet_leaves_with_the_header_that_a_receiver_reads_the_same_way() {
        for (bytes, gso, start) in
            [(tcp4(5000, 0x90), GsoType::TcpV4, 20), (tcp6(5000), GsoType::TcpV6, 40), (udp4(5000), GsoType::Udp, 20)]
        {
            let mut skb = Skb::from_slice(&bytes);
            skb.gso_type = gso;
            skb.gso_size = 1400;
            assert!(VnetHdr::for_xmit(&skb, 0).is_none(), "without an open checksum");
            skb.csum = Csum::Partial { start, offset: if gso == GsoType::Udp { 6 } else { 16 } };
            let h = VnetHdr::for_xmit(&skb, 0).unwrap();
            assert_eq!(VnetHdr::from_bytes(&h.to_bytes()), h);
            assert_eq!(h.gso_type & GSO_ECN != 0, gso == GsoType::TcpV4, "CWR is announced");
            let back = receive(h, &bytes).unwrap();
            assert_eq!((back.gso_type, back.gso_size, back.rx_segs), (gso, 1400, 4));
            skb.gso_size = 6000;
            assert_eq!(VnetHdr::for_xmit(&skb, 0).unwrap().gso_type, GSO_NONE, "one segment is no super-packet");
        }
    }

    /// What is written for a packet alone is what is written for it among others.
    #[test]
    fn packets_of_a_burst_are_written_as_alone_and_those_that_are_not_stay() {
        let fd = Fd::open(c"/dev/null", libc::O_NONBLOCK).unwrap();
        let packet = |i: usize| {
            let mut skb = Skb::from_slice(&tcp4(100 * i, 0x10));
            skb.push_frag(Frag::from_slice(&vec![i as u8; 3000]).next().unwrap());
            (skb.csum, skb.gso_type, skb.gso_size) = (Csum::Partial { start: 20, offset: 16 }, GsoType::TcpV4, 1000);
            skb
        };
        let bytes =
            |i: usize| [&VnetHdr::for_xmit(&packet(i), 0).unwrap().to_bytes()[..], &packet(i).to_vec()].concat();
        // How many, which of them no device can segment, which the kernel refuses: what is left, and the calls.
        for (n, unfit, refused, left, calls) in [
            (3, None, None, vec![], vec![3]),
            (BURST * 2 + 1, None, None, vec![], vec![BURST, BURST, 1]),
            (BURST * 2, None, Some(5), (BURST..BURST * 2).chain([5]).collect(), vec![BURST]),
            (6, Some(2), None, (2..6).collect(), vec![2]),
            (6, Some(0), None, (0..6).collect(), vec![]),
        ] {
            let stats = Stats::default();
            let mut packets: VecDeque<Skb> = (0..n).map(packet).collect();
            if let Some(i) = unfit {
                packets[i].csum = Csum::None;
            }
            let (mut written, mut made, mut next) = (0, Vec::new(), 0);
            xmit_burst(&fd, &mut packets, &stats, &mut |raw, pieces, marks| {
                assert_eq!((raw, pieces.len()), (fd.raw(), marks.len()));
                made.push(pieces.len());
                for (slices, mark) in pieces.iter().zip(marks) {
                    let got: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    assert!(got == bytes(next), "{next}");
                    *mark = refused != Some(next);
                    written += if *mark { got.len() - VNET_HDR_LEN } else { 0 };
                    next += 1;
                }
            });
            assert_eq!(made, calls);
            let mut left: Vec<usize> = left;
            left.sort_unstable();
            let stay: Vec<_> = packets.iter().map(|skb| skb.len()).collect();
            assert_eq!(stay, left.iter().map(|i| packet(*i).len()).collect::<Vec<_>>());
            let sent = (stats.tx_packets.into_inner() as usize, stats.tx_bytes.into_inner() as usize);
            assert_eq!(sent, (n - stay.len(), written));
        }
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]
        #[test]
        fn any_header_and_any_bytes_give_a_packet_or_a_drop(
            hdr: [u8; VNET_HDR_LEN], mut packet in proptest::collection::vec(any::<u8>(), 0..3000), v6: bool,
            l2 in 0usize..15,
        ) {
            if let Some(b) = packet.get_mut(l2) {
                *b = if v6 { 0x60 } else { 0x45 };
            }
            let mut buf = RxBuf::new(true);
            load(&mut buf, &packet);
            if let Some(skb) = buf.packet(&hdr, packet.len(), l2) {
                prop_assert_eq!(skb.to_vec(), packet);
                prop_assert!(skb.gso_size == 0 || skb.rx_segs > 1);
            }
        }
    }
}
