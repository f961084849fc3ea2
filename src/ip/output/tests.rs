use super::*;
use crate::device::Caps;
use crate::device::capture_test::{Bench, Capture};
use crate::device::netdev::NetXmit;
use crate::ip::route;
use crate::sock::offload::{Offload, Piece, Pieces};
use crate::wire::checksum;
use crate::wire::ip::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::udp;

fn tx(src: &str, dst: &str, df: bool) -> IpTx {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    IpTx { src, dst, protocol: proto::UDP, tos: 0x12, ttl: 33, df, flow_label: 0xabcde, now: Instant::ZERO }
}

/// A UDP datagram whose checksum is left to the device.
fn datagram(t: &IpTx, payload: &[u8]) -> Skb {
    let mut skb = Skb::from_slice(payload);
    let len = (8 + payload.len()) as u32;
    let h = skb.push(8).unwrap();
    udp::emit_header(h, 1000, 2000, payload.len());
    udp::fill_partial_checksum(h, t.src, t.dst, len);
    skb.csum = Csum::Partial { start: 0, offset: 6 };
    skb
}

fn send_it(b: &Bench, t: &IpTx, payload: &[u8]) -> Result<Vec<Vec<u8>>> {
    let dst = route::lookup(&b.stack, t.dst, None, 0)?;
    xmit(&b.stack, &dst, t, datagram(t, payload))?;
    Ok(b.wire.take())
}

#[test]
fn a_datagram_leaves_with_its_header_and_a_complete_checksum() {
    let b = Bench::on_ip();
    let t = tx("10.0.0.1", "10.0.0.2", true);
    let sent = send_it(&b, &t, b"hello").unwrap();
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    assert!(h.checksum_ok() && h.dont_fragment());
    assert_eq!((h.id(), h.ttl(), h.tos(), h.protocol()), (0, 33, 0x12, proto::UDP));
    let u = udp::UdpHeader::parse(h.payload()).unwrap();
    assert!(u.checksum_ok(t.src, t.dst));
    assert_eq!(u.payload(), b"hello");
    let t = tx("fd00::1", "fd00::2", true);
    let sent = send_it(&b, &t, b"hello").unwrap();
    let h = Ipv6Header::parse(&sent[0]).unwrap();
    assert_eq!((h.hop_limit(), h.traffic_class(), h.flow_label()), (33, 0x12, 0xabcde));
    assert!(udp::UdpHeader::parse(h.payload()).unwrap().checksum_ok(t.src, t.dst));
    assert_eq!(b.stack.mib.get(Mib::IpOutRequests), 1);
    assert_eq!(b.stack.mib.get(Mib::Ip6OutRequests), 1);
}

#[test]
fn a_device_that_sums_is_told_where_from_the_network_header_on() {
    let b = Bench::new(Capture::with_caps("tun0", Caps { tx_csum: true, ..Caps::ip(1500) }), &["10.0.0.1/24"]);
    let t = tx("10.0.0.1", "10.0.0.2", true);
    let sent = send_it(&b, &t, b"hello").unwrap();
    let mut datagram = sent[0][20..].to_vec();
    udp::finish_partial_checksum(&mut datagram);
    assert!(udp::UdpHeader::parse(&datagram).unwrap().checksum_ok(t.src, t.dst));
}

#[test]
fn with_df_a_long_datagram_is_emsgsize_and_without_it_is_cut() {
    let b = Bench::on_ip();
    let payload: Vec<u8> = (0..4000).map(|i| i as u8).collect();
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        assert_eq!(send_it(&b, &tx(src, dst, true), &payload), Err(Error::MsgSize));
        let sent = send_it(&b, &tx(src, dst, false), &payload).unwrap();
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|p| p.len() <= 1500));
    }
    assert_eq!(b.stack.mib.get(Mib::IpFragCreates), 3);
    assert_eq!(b.stack.mib.get(Mib::IpFragFails), 1);
    assert_eq!(b.stack.mib.get(Mib::Ip6FragOKs), 1);
}

#[test]
fn identifications_of_one_flow_tell_nothing_of_another() {
    let b = Bench::on_ip();
    let id = |dst: &str| {
        let sent = send_it(&b, &tx("10.0.0.1", dst, false), b"x").unwrap();
        Ipv4Header::parse(&sent[0]).unwrap().id()
    };
    let (a, c) = (id("10.0.0.2"), id("10.0.0.3"));
    assert_ne!(a.wrapping_add(1), c);
    let next: Vec<u16> = (0..100).map(|_| id("10.0.0.2")).collect();
    assert_eq!(next.iter().collect::<std::collections::HashSet<_>>().len(), 100, "no repeat while packets live");
}

#[test]
fn what_is_sent_to_ourselves_comes_back_by_loopback_and_not_by_the_wire() {
    let b = Bench::on_ip();
    assert!(send_it(&b, &tx("10.0.0.1", "10.0.0.1", true), b"hello").unwrap().is_empty());
    b.poll();
    assert!(b.stack.mib.get(Mib::IpInReceives) >= 1);
    assert!(b.wire.take().is_empty());
}

/// A protocol whose header is the offset of its payload and a checksum. It refuses a piece beyond the given one.
struct Offsets(u16);

impl Offload for Offsets {
    fn segment(&self, piece: &mut Piece<'_>) -> Result<()> {
        piece.header[..2].copy_from_slice(&(piece.offset as u16).to_be_bytes());
        if piece.index > self.0 { Err(Error::Io) } else { Ok(()) }
    }
}

/// 250 bytes in pieces of 100.
fn super_packet(t: &IpTx, pieces: u16, appended: bool) -> Skb {
    let payload = [0x5a; 250];
    let mut skb = Skb::from_slice(&if appended { [&[0; 4][..], &payload].concat() } else { payload.to_vec() });
    if !appended {
        let pseudo = checksum::pseudo_header(t.src, t.dst, 253, 254);
        skb.push(4).unwrap()[2..].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        skb.csum = Csum::Partial { start: 0, offset: 2 };
    }
    (skb.gso_size, skb.gso_type) = (100, GsoType::Protocol);
    let offload: Arc<dyn Offload> = Arc::new(Offsets(pieces));
    skb.pieces = Some(Pieces { header: 4, csum: Some((0, 2)), offload: Arc::downgrade(&offload) });
    // A registration outlives the packets of its socks.
    std::mem::forget(offload);
    skb
}

#[test]
fn a_protocols_super_packet_leaves_in_pieces_with_identifications_of_their_own() {
    let b = Bench::on_ip();
    for appended in [false, true] {
        let t = IpTx { protocol: 253, ..tx("10.0.0.1", "10.0.0.2", false) };
        let dst = route::lookup(&b.stack, t.dst, None, 0).unwrap();
        xmit(&b.stack, &dst, &t, super_packet(&t, 9, appended)).unwrap();
        xmit(&b.stack, &dst, &t, Skb::from_slice(b"next")).unwrap();
        let sent = b.wire.take();
        let headers: Vec<_> = sent.iter().map(|p| Ipv4Header::parse(p).unwrap()).collect();
        for (i, h) in headers.iter().enumerate().take(3) {
            assert_eq!(h.payload().len(), [104, 104, 54][i]);
            assert_eq!(h.payload()[..2], ((i * 100) as u16).to_be_bytes());
            let pseudo = checksum::pseudo_header(t.src, t.dst, 253, h.payload().len() as u32);
            assert!(h.checksum_ok() && checksum::is_valid(checksum::sum(h.payload(), pseudo)), "piece {i}");
        }
        let ids: Vec<_> = headers.iter().map(|h| h.id().wrapping_sub(headers[0].id())).collect();
        assert!(matches!(ids[..], [0, 1, 2, next] if next >= 3), "{ids:?}");
    }
}

#[test]
fn a_super_packet_whose_protocol_refuses_a_piece_is_sent_in_part_and_counted() {
    let b = Bench::on_ip();
    let t = IpTx { protocol: 253, ..tx("10.0.0.1", "10.0.0.2", true) };
    let dst = route::lookup(&b.stack, t.dst, None, 0).unwrap();
    assert_eq!(xmit(&b.stack, &dst, &t, super_packet(&t, 1, false)), Ok(NetXmit::Success));
    assert_eq!(b.wire.take().len(), 2);
    assert_eq!(b.stack.mib.drops(DropReason::SkbGsoSeg), 1);
    assert_eq!(xmit(&b.stack, &dst, &t, super_packet(&t, 2, false)), Ok(NetXmit::Success));
    assert_eq!(b.wire.take().len(), 3);
    assert_eq!(b.stack.mib.drops(DropReason::SkbGsoSeg), 1);
}
