//! IP and TCP together: packets are written, with the checksum computed here or left to the device, and parsed again.

use super::ip::{Ipv4Header, Ipv4Repr};
use super::ipv6::{self, Extension, Ipv6Header, Ipv6Repr};
use super::seq::{RawWindow, SeqNum};
use super::tcp::{self, TcpFlags, TcpHeader, TcpRepr};
use super::tcp_options::{EstablishedOptions, SackBlocks};
use super::{ParseError, checksum, icmp, proto};
use core::net::{IpAddr, Ipv6Addr};
use proptest::prelude::*;

/// Who computes the TCP checksum.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sum {
    /// The stack, over contiguous bytes.
    Whole,
    /// The stack, over a header and separate payload pieces.
    Split,
    /// The device, from the pseudo-header's sum.
    Offload,
}

/// Length of the IP header, then the packet.
fn datagram(
    src: IpAddr,
    dst: IpAddr,
    tcp: &TcpRepr,
    o: &EstablishedOptions,
    payload: &[u8],
    sum: Sum,
) -> (usize, Vec<u8>) {
    let tcp = TcpRepr { options_len: o.len(), ..*tcp };
    let payload_len = tcp.header_len() + payload.len();
    let mut b = vec![0xa5; 128];
    let at = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            Ipv4Repr { id: 7, dont_fragment: true, ..Ipv4Repr::new(src, dst, proto::TCP, payload_len) }.emit(&mut b)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            Ipv6Repr { flow_label: 9, ..Ipv6Repr::new(src, dst, proto::TCP, payload_len) }.emit(&mut b)
        }
        _ => unreachable!("both ends are of one family"),
    };
    let header_len = tcp.emit(&mut b[at..]);
    assert_eq!(o.emit(&mut b[at + tcp::HEADER_LEN..]), o.len());
    b.truncate(at + header_len);
    let header = &mut b[at..];
    match sum {
        Sum::Whole => {}
        Sum::Split => {
            let mut pieces = checksum::Checksum::default();
            for piece in payload.chunks(7) {
                pieces.push(piece);
            }
            let pseudo = checksum::pseudo_header(src, dst, proto::TCP, payload_len as u32);
            tcp::fill_checksum_split(header, pieces.partial(), pseudo);
        }
        Sum::Offload => tcp::fill_partial_checksum(header, src, dst, payload_len as u32),
    }
    b.extend(payload);
    match sum {
        Sum::Whole => tcp::fill_checksum(&mut b[at..], src, dst),
        Sum::Split => {}
        Sum::Offload => tcp::finish_partial_checksum(&mut b[at..]),
    }
    (at, b)
}

/// Addresses and the TCP segment of a packet of either version.
fn unwrap_ip(b: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), ParseError> {
    match b.first().map(|v| v >> 4) {
        Some(6) => {
            let h = Ipv6Header::parse(b)?;
            Ok((h.src().into(), h.dst().into(), h.upper()?.payload))
        }
        _ => {
            let h = Ipv4Header::parse(b)?;
            if !h.checksum_ok() {
                return Err(ParseError::BadChecksum);
            }
            Ok((h.src().into(), h.dst().into(), h.payload()))
        }
    }
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(s, d)| (s.into(), d.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(s, d)| (s.into(), d.into())),
    ]
}

prop_compose! {
    fn header()(
        src_port: u16, dst_port: u16, seq: u32, ack: u32, flags in 0u16..512, window: u16, urgent: u16,
    ) -> TcpRepr {
        TcpRepr { src_port, dst_port, seq: SeqNum(seq), ack: SeqNum(ack), flags: TcpFlags::from_bits(flags),
            window: RawWindow(window), urgent, options_len: 0 }
    }
}

prop_compose! {
    fn options()(
        timestamps: Option<(u32, u32)>, sack in prop::collection::vec(any::<(u32, u32)>(), 0..=4),
    ) -> EstablishedOptions {
        let sack: SackBlocks = sack.into_iter().map(|(s, e)| (SeqNum(s), SeqNum(e))).collect();
        EstablishedOptions { timestamps, sack, ..Default::default() }
    }
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]

    #[test]
    fn a_segment_parses_back_and_is_the_same_whoever_computes_the_checksum(
        (src, dst) in addresses(), tcp in header(), o in options(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (at, b) = datagram(src, dst, &tcp, &o, &payload, Sum::Whole);
        for sum in [Sum::Split, Sum::Offload] {
            prop_assert_eq!(&datagram(src, dst, &tcp, &o, &payload, sum).1, &b, "{:?}", sum);
        }
        let (s, d, segment) = unwrap_ip(&b).unwrap();
        prop_assert_eq!((s, d, segment), (src, dst, &b[at..]));
        let h = TcpHeader::parse(segment).unwrap();
        prop_assert!(h.checksum_ok(src, dst));
        prop_assert_eq!(TcpRepr::from(h), TcpRepr { options_len: o.len(), ..tcp });
        prop_assert_eq!(h.payload(), &payload[..]);
        let back = h.parse_options();
        prop_assert_eq!(back.timestamps, o.timestamps);
        prop_assert_eq!(back.sack.as_slice(), &o.sack.as_slice()[..o.sack.len().min(o.sack_room())]);
    }

    #[test]
    fn one_flipped_bit_never_passes_for_the_same_segment(
        (src, dst) in addresses(), tcp in header(), payload in prop::collection::vec(any::<u8>(), 1..60),
        at: prop::sample::Index, bit in 0u8..8,
    ) {
        let (_, good) = datagram(src, dst, &tcp, &EstablishedOptions::default(), &payload, Sum::Whole);
        let mut bad = good.clone();
        let i = at.index(bad.len());
        bad[i] ^= 1 << bit;
        let intact = unwrap_ip(&bad).and_then(|(s, d, seg)| {
            let h = TcpHeader::parse(seg)?;
            if h.checksum_ok(s, d) { Ok(()) } else { Err(ParseError::BadChecksum) }
        });
        // IPv6 has no header checksum: no checksum covers traffic class, flow label and hop limit, a changed next
        // header delivers the packet to another protocol, and with a shorter length the sum may be equal by chance.
        let uncovered = src.is_ipv6() && (matches!(i, 1..=7) || (i == 0 && bit < 4));
        prop_assert!(uncovered || intact.is_err(), "byte {} bit {}", i, bit);
    }

    #[test]
    fn any_bytes_through_the_whole_chain_never_panic(
        mut b in prop::collection::vec(any::<u8>(), 0..200), version in 0u8..3, p: bool,
    ) {
        if let Some(first) = b.first_mut() {
            match version {
                0 => *first = 0x45 + (*first & 3),
                1 => *first = 0x60,
                _ => {}
            }
        }
        let len = b.len() as u16;
        match version {
            0 => {
                if let Some(l) = b.get_mut(2..4) { l.copy_from_slice(&len.to_be_bytes()); }
                if let (true, Some(x)) = (p, b.get_mut(9)) { *x = proto::ICMP; }
            }
            _ => if let Some(l) = b.get_mut(4..6) { l.copy_from_slice(&len.saturating_sub(40).to_be_bytes()); }
        }
        if let Ok(h) = Ipv4Header::parse(&b) {
            if let Ok(t) = TcpHeader::parse(h.payload()) {
                prop_assert!(t.options().count() <= 40);
                let _ = format!("{h:?} {t:?} {:?}", t.parse_options());
            }
            if let Ok(m) = icmp::IcmpHeader::parse(h.payload()) {
                let _ = format!("{:?} {:?}", m.message(), icmp::Quoted::parse(m.payload()));
            }
        }
        if let Ok(h) = Ipv6Header::parse(&b) {
            for e in h.extensions().flatten() {
                if let Extension::Routing(r) = e { let _ = (r.routing_type(), r.segments_left(), r.data()); }
            }
            let _ = unwrap_ip(&b).map(|(_, _, seg)| TcpHeader::parse(seg).map(|t| t.to_string()));
        }
    }
}

#[test]
fn inconsistent_lengths_are_reported_by_the_layer_that_finds_them() {
    let (s, d) = (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let tcp = TcpRepr {
        src_port: 1,
        dst_port: 2,
        seq: SeqNum(0),
        ack: SeqNum(0),
        flags: TcpFlags::SYN,
        window: RawWindow(0),
        urgent: 0xffff,
        options_len: 0,
    };
    let (at, mut b) = datagram(s, d, &tcp, &EstablishedOptions::default(), b"x", Sum::Whole);
    let h = TcpHeader::parse(&b[at..]).unwrap();
    assert_eq!((h.urgent(), h.payload().len()), (0xffff, 1), "an urgent pointer past the segment is no parse error");
    ipv6::set_payload_len(&mut b, 19);
    assert_eq!(unwrap_ip(&b).and_then(|(_, _, seg)| TcpHeader::parse(seg).map(|_| ())), Err(ParseError::Truncated));
    ipv6::set_payload_len(&mut b, 22);
    assert_eq!(unwrap_ip(&b).map(|_| ()), Err(ParseError::Truncated));
    b[6] = proto::DSTOPTS;
    ipv6::set_payload_len(&mut b, 21);
    b[41] = 2;
    assert_eq!(unwrap_ip(&b).map(|_| ()), Err(ParseError::BadExtension));
}
