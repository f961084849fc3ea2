use super::*;
use crate::base::cases::so_many;
use crate::device::capture_test::{Bench, Capture};
use crate::ip::net;
use crate::wire::checksum;
use crate::wire::ip::Ipv4Repr;
use crate::wire::ipv6::{Ipv6Header, Ipv6Repr};
use crate::wire::{icmp as wire4, icmpv6 as wire6};
use proptest::prelude::*;

/// An IPv4 datagram of protocol 253 (experiments) with these options.
fn v4(src: &str, dst: &str, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr { id: 1, ..Ipv4Repr::new(src.parse().unwrap(), dst.parse().unwrap(), 253, payload.len()) };
    let mut b = vec![0; 20 + options.len().next_multiple_of(4)];
    repr.emit_with_options(&mut b, options);
    b.extend(payload);
    b
}

fn v6(src: &str, dst: &str, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv6Repr::new(src.parse().unwrap(), dst.parse().unwrap(), next_header, payload.len());
    let mut b = vec![0; 40];
    repr.emit(&mut b);
    b.extend(payload);
    b
}

/// A packet changed at one byte, with the header checksum made right again if `fix`.
fn edit(mut p: Vec<u8>, at: usize, value: u8, fix: bool) -> Vec<u8> {
    p[at] = value;
    if fix {
        let n = (usize::from(p[0] & 15) * 4).clamp(20, p.len());
        ip::fill_checksum(&mut p[..n]);
    }
    p
}

const A: &str = "10.0.0.9";
const ME: &str = "10.0.0.1";

#[test]
fn each_malformed_ipv4_datagram_is_dropped_for_its_own_reason() {
    let good = v4(A, ME, &[], b"0123456789");
    for (case, packet, reason, mib) in [
        ("nothing", vec![], DropReason::HdrTrunc, None),
        ("version 5", edit(good.clone(), 0, 0x55, true), DropReason::UnhandledProto, None),
        ("19 bytes", good[..19].to_vec(), DropReason::HdrTrunc, Some(Mib::IpInHdrErrors)),
        ("IHL 4", edit(good.clone(), 0, 0x44, true), DropReason::IpInHdr, Some(Mib::IpInHdrErrors)),
        ("IHL beyond the bytes", edit(good.clone(), 0, 0x4f, false), DropReason::HdrTrunc, Some(Mib::IpInHdrErrors)),
        ("checksum", edit(good.clone(), 8, 1, false), DropReason::IpCsum, Some(Mib::IpExtInCsumErrors)),
        (
            "total length beyond",
            edit(good.clone(), 3, 31, true),
            DropReason::PktTooSmall,
            Some(Mib::IpExtInTruncatedPkts),
        ),
        (
            "total length below the header",
            edit(good.clone(), 3, 19, true),
            DropReason::IpInHdr,
            Some(Mib::IpInHdrErrors),
        ),
        ("total length 0", edit(good.clone(), 3, 0, true), DropReason::IpInHdr, Some(Mib::IpInHdrErrors)),
        ("not ours", v4(A, "10.0.0.77", &[], b""), DropReason::IpInAddrErrors, Some(Mib::IpInAddrErrors)),
        ("a group nobody joined", v4(A, "239.9.9.9", &[], b""), DropReason::OtherHost, None),
        ("LAND: from ourselves", v4(ME, ME, &[], b""), DropReason::IpLocalSource, None),
        ("from a group", v4("224.0.0.1", ME, &[], b""), DropReason::IpInvalidSource, None),
        ("from nobody", v4("0.0.0.0", ME, &[], b""), DropReason::IpInvalidSource, None),
        ("from loopback", v4("127.0.0.1", ME, &[], b""), DropReason::IpLocalNet, None),
        ("to loopback", v4(A, "127.0.0.1", &[], b""), DropReason::IpLocalNet, None),
        ("to nobody", v4(A, "0.0.0.0", &[], b""), DropReason::IpInvalidDest, None),
        ("source route", v4(A, ME, &[131, 7, 4, 1, 2, 3, 4], b""), DropReason::IpInHdr, None),
        ("option of length 0", v4(A, ME, &[7, 0, 4, 0], b""), DropReason::IpInHdr, Some(Mib::IpInHdrErrors)),
        ("option beyond the header", v4(A, ME, &[7, 255, 4, 0], b""), DropReason::IpInHdr, Some(Mib::IpInHdrErrors)),
        (
            "record route into its own head",
            v4(A, ME, &[7, 7, 2, 0, 0, 0, 0], b""),
            DropReason::IpInHdr,
            Some(Mib::IpInHdrErrors),
        ),
    ] {
        let b = Bench::on_ip();
        b.inject(&packet);
        assert_eq!(b.stack.mib.drops(reason), 1, "{case}: {:?}", b.stack.mib);
        assert_eq!(b.stack.mib.iter_drops().map(|d| d.1).sum::<u64>(), 1, "{case}: {:?}", b.stack.mib);
        if let Some(m) = mib {
            assert_eq!(b.stack.mib.get(m), 1, "{case}");
        }
        assert_eq!(b.stack.mib.get(Mib::IpInDelivers), 0, "{case}");
    }
}

#[test]
fn a_malformed_option_draws_a_parameter_problem_that_points_at_it() {
    let b = Bench::on_ip();
    let sent = b.inject(&v4(A, ME, &[1, 1, 7, 0], b"x"));
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    let m = wire4::IcmpHeader::parse(h.payload()).unwrap().message();
    assert!(matches!(m, wire4::Message::ParameterProblem { pointer: 22, .. }), "{m:?}");
}

#[test]
fn an_unknown_protocol_is_answered_and_ip_in_ip_is_one() {
    for protocol in [253, 4, 41, 47] {
        let b = Bench::on_ip();
        let sent = b.inject(&edit(v4(A, ME, &[], &v4(A, ME, &[], b"inner")), 9, protocol, true));
        let h = Ipv4Header::parse(&sent[0]).unwrap();
        assert_eq!((h.src(), h.dst(), h.tos()), (ME.parse().unwrap(), A.parse().unwrap(), 0xc0));
        let m = wire4::IcmpHeader::parse(h.payload()).unwrap().message();
        assert!(matches!(m, wire4::Message::Unreachable { code: 2, .. }), "{m:?}");
        assert_eq!(b.stack.mib.get(Mib::IpInUnknownProtos), 1);
    }
}

#[test]
fn link_padding_is_cut_off_and_broadcasts_are_marked() {
    let b = Bench::on_ip();
    let mut padded = v4(A, "10.0.0.255", &[], b"x");
    padded.extend([0; 20]);
    b.inject(&padded);
    assert_eq!(b.stack.mib.get(Mib::IpExtInBcastPkts), 1);
    assert_eq!(b.stack.mib.get(Mib::IpInUnknownProtos), 1);
    assert_eq!(b.stack.mib.get(Mib::IcmpOutMsgs), 0, "no error about a broadcast");
}

#[test]
fn each_malformed_ipv6_packet_is_dropped_for_its_own_reason() {
    let (a, me) = ("fd00::9", "fd00::1");
    let pad = |n: u8| [59, 0, 1, n, 0, 0, 0, 0];
    for (case, packet, reason) in [
        ("39 bytes", v6(a, me, 59, b"")[..39].to_vec(), DropReason::HdrTrunc),
        ("length beyond", edit(v6(a, me, 59, b"1234"), 5, 5, false), DropReason::PktTooSmall),
        ("from a group", v6("ff02::1", me, 59, b""), DropReason::IpInvalidSource),
        ("from loopback", v6("::1", me, 59, b""), DropReason::IpInvalidSource),
        ("to loopback", v6(a, "::1", 59, b""), DropReason::IpInvalidDest),
        ("not ours", v6(a, "fd00::77", 59, b""), DropReason::IpInAddrErrors),
        ("a group nobody joined", v6(a, "ff02::77", 59, b""), DropReason::OtherHost),
        ("extension header beyond the packet", v6(a, me, 0, &[59, 3, 1, 4, 0, 0, 0, 0]), DropReason::Ipv6BadExthdr),
        ("option beyond its header", v6(a, me, 0, &pad(200)), DropReason::Ipv6BadExthdr),
        ("jumbo payload", v6(a, me, 0, &[59, 0, 194, 4, 0, 1, 0, 0]), DropReason::Ipv6BadExthdr),
        ("segment routing", v6(a, me, 43, &[59, 0, 4, 0, 0, 0, 0, 0]), DropReason::Ipv6BadExthdr),
        ("no route", v6(a, "fe00::1", 59, b""), DropReason::IpInNoRoutes),
        ("ICMP for IPv4", v6(a, me, 1, &[8; 8]), DropReason::IpNoProto),
        ("unknown option to discard", v6(a, me, 60, &[59, 0, 0x41, 4, 0, 0, 0, 0]), DropReason::Ipv6BadExthdr),
        ("unknown option to report", v6(a, me, 60, &[59, 0, 0x81, 4, 0, 0, 0, 0]), DropReason::Ipv6BadExthdr),
        ("routing header type 0", v6(a, me, 43, &[59, 0, 0, 1, 0, 0, 0, 0]), DropReason::Ipv6BadExthdr),
        ("unknown protocol", v6(a, me, 253, b"x"), DropReason::IpNoProto),
        (
            "hop-by-hop that is not first",
            v6(a, me, 60, &[0, 0, 1, 4, 0, 0, 0, 0, 59, 0, 1, 4, 0, 0, 0, 0]),
            DropReason::IpNoProto,
        ),
    ] {
        let b = Bench::on_ip();
        b.inject(&packet);
        assert_eq!(b.stack.mib.drops(reason), 1, "{case}: {:?}", b.stack.mib);
        assert_eq!(b.stack.mib.iter_drops().map(|d| d.1).sum::<u64>(), 1, "{case}: {:?}", b.stack.mib);
    }
}

#[test]
fn ipv6_parameter_problems_point_at_the_byte() {
    let (a, me) = ("fd00::9", "fd00::1");
    for (packet, code, pointer) in [
        (v6(a, me, 253, b"x"), 1, 6),
        (v6(a, me, 60, &[253, 0, 1, 4, 0, 0, 0, 0]), 1, 40),
        (v6(a, me, 43, &[59, 0, 0, 1, 0, 0, 0, 0]), 0, 42),
        (v6(a, me, 1, &[8; 8]), 1, 6),
        // Jumbo payloads: too short to be one, and with a payload length.
        (v6(a, me, 0, &[59, 0, 194, 4, 0, 0, 255, 255]), 0, 44),
        (v6(a, me, 0, &[59, 0, 194, 4, 0, 1, 0, 0]), 0, 42),
        (v6(a, me, 60, &[59, 0, 194, 4, 0, 1, 0, 0]), 2, 42),
        // A fragment header in a jumbogram: what came is all there behind hop-by-hop options.
        (edit(v6(a, me, 0, &[44, 0, 1, 4, 0, 0, 0, 0, 59, 0, 0, 0, 0, 0, 0, 1]), 5, 0, false), 0, 48),
        // A fragment header behind another.
        (v6(a, me, 44, &[44, 0, 0, 0, 0, 0, 0, 1, 59, 0, 0, 0, 0, 0, 0, 2]), 0, 48),
        // A first fragment without the whole UDP header (RFC 7112).
        (v6(a, me, 44, &[60, 0, 0, 1, 0, 0, 0, 1, 17, 0, 1, 4, 0, 0, 0, 0]), 3, 0),
        (v6(a, me, 60, &[59, 0, 0x81, 4, 0, 0, 0, 0]), 2, 42),
    ] {
        let b = Bench::on_ip();
        let sent = b.inject(&packet);
        let h = Ipv6Header::parse(&sent[0]).unwrap();
        let i = wire6::Icmpv6Header::parse(h.payload()).unwrap();
        assert!(i.checksum_ok(h.src(), h.dst()));
        let Ok(wire6::Message::ParameterProblem { code: c, pointer: p, quoted }) = i.message() else { panic!("{i:?}") };
        assert_eq!((c, p, quoted), (code, pointer, &packet[..]));
    }
}

#[test]
fn a_chain_of_many_extension_headers_ends() {
    let b = Bench::on_ip();
    let mut chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(8000);
    let n = chain.len();
    chain[n - 8] = 253;
    b.inject(&v6("fd00::9", "fd00::1", 60, &chain));
    assert_eq!(b.stack.mib.get(Mib::Ip6InUnknownProtos), 1);
}

#[test]
fn frames_for_others_and_of_unknown_kinds_are_dropped() {
    use crate::wire::ether::{MacAddr, emit};
    let (mac, peer) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 9]));
    for (case, dst, src, ty, len, reason) in [
        ("other host", MacAddr([2, 0, 0, 0, 0, 7]), peer, ethertype::IPV4, 60, DropReason::OtherHost),
        ("from a group", mac, MacAddr::BROADCAST, ethertype::IPV4, 60, DropReason::MacInvalidSource),
        ("vlan", mac, peer, ethertype::VLAN, 60, DropReason::UnhandledProto),
        ("unknown", mac, peer, 0x88cc, 60, DropReason::UnhandledProto),
        ("short", mac, peer, ethertype::IPV4, 13, DropReason::HdrTrunc),
        ("arp", mac, peer, ethertype::ARP, 60, DropReason::ArpMalformed),
    ] {
        let b = Bench::new(Capture::ethernet("eth0", mac), &["10.0.0.1/24"]);
        let mut f = vec![0; 60];
        emit(&mut f, dst, src, ty);
        b.inject(&f[..len]);
        assert_eq!(b.stack.mib.drops(reason), 1, "{case}: {:?}", b.stack.mib);
    }
}

#[test]
fn with_gro_segments_of_a_batch_arrive_as_one_packet_and_without_as_they_are() {
    for (gro, want) in [(false, 3), (true, 1)] {
        let b = Bench::on_ip();
        b.dev.set_gro(gro);
        for i in 0..3u32 {
            // TCP from port 1 to port 2: ACK alone, 100 bytes each.
            let mut t = vec![0u8; 120];
            t[..4].copy_from_slice(&[0, 1, 0, 2]);
            t[4..8].copy_from_slice(&(i * 100).to_be_bytes());
            t[12..14].copy_from_slice(&[0x50, 0x10]);
            let mut p = edit(v4(A, ME, &[], &t), 9, 6, false);
            p[4..6].copy_from_slice(&(i as u16).to_be_bytes());
            p[6] = 0x40;
            ip::fill_checksum(&mut p[..20]);
            let sum = checksum::pseudo_header(A.parse().unwrap(), ME.parse().unwrap(), 6, 120);
            let c = checksum::finish(checksum::sum(&p[20..], sum));
            p[36..38].copy_from_slice(&c.to_be_bytes());
            b.wire.feed(&p);
        }
        b.poll();
        assert_eq!(b.stack.mib.get(Mib::IpInReceives), want, "gro {gro}");
    }
}

/// Bytes that are likely to get past the first checks: a good header of either family over anything.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..200);
    let protocols = prop::sample::select(vec![0u8, 1, 4, 6, 17, 43, 44, 58, 59, 60, 253]);
    let edits = prop::collection::vec((0usize..80, any::<u8>()), 0..4);
    (0u8..3, protocols, body, edits, any::<bool>()).prop_map(|(kind, protocol, body, edits, fix)| {
        let mut p = match kind {
            0 => body,
            1 => edit(v4(A, ME, &[], &body), 9, protocol, true),
            _ => v6("fd00::9", "fd00::1", protocol, &body),
        };
        for (at, v) in edits {
            if let Some(b) = p.get_mut(at) {
                *b = v;
            }
        }
        if fix && kind == 1 {
            let n = (usize::from(p[0] & 15) * 4).clamp(20, p.len());
            ip::fill_checksum(&mut p[..n]);
        }
        p
    })
}

proptest! {
    #![proptest_config(so_many(2000))]
    #[test]
    fn any_packets_are_delivered_or_dropped_with_a_reason_and_never_panic(
        packets in prop::collection::vec(any_packet(), 1..6),
    ) {
        let b = Bench::on_ip();
        for p in &packets {
            for out in b.inject(p) {
                // What is answered is itself well formed.
                match out[0] >> 4 {
                    4 => prop_assert!(Ipv4Header::parse(&out).is_ok_and(|h| h.checksum_ok())),
                    _ => prop_assert!(Ipv6Header::parse(&out).is_ok()),
                }
            }
        }
        b.advance(crate::base::env::Duration::from_secs(120));
        prop_assert_eq!((net(&b.stack).frags.usage(true), net(&b.stack).frags.usage(false)), ((0, 0), (0, 0)));
    }

    #[test]
    fn any_frames_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), ty in 0u8..3, ours: bool) {
        use crate::wire::ether::MacAddr;
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let b = Bench::new(Capture::ethernet("eth0", mac), &["10.0.0.1/24", "fd00::1/64"]);
        if let (true, Some(h)) = (ours, bytes.get_mut(..14)) {
            let ty = [ethertype::IPV4, ethertype::IPV6, ethertype::ARP][usize::from(ty)];
            ether::emit(h, mac, MacAddr([2, 0, 0, 0, 0, 9]), ty);
        }
        b.inject(&bytes);
    }
}
