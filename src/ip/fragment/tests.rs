use super::*;
use crate::base::env::Duration;
use crate::device::capture_test::Bench;
use crate::ip::net;
use crate::wire::ip::Ipv4Repr;
use crate::wire::proto;
use crate::wire::{icmp as wire4, icmpv6 as wire6, ipv6::Ipv6Repr};

/// A part of an ICMP echo request (or of bytes that are one in the end).
fn part(src: &str, id: u16, offset: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    let repr = Ipv4Repr {
        src: src.parse().unwrap(),
        dst: "10.0.0.1".parse().unwrap(),
        protocol: proto::ICMP,
        ttl: 64,
        tos: 0,
        id,
        dont_fragment: false,
        more_fragments: more,
        frag_offset: offset,
        payload_len: bytes.len(),
    };
    let mut p = vec![0; 20];
    repr.emit(&mut p);
    p.extend(bytes);
    p
}

fn echo(len: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..len).map(|i| (i * 5) as u8).collect();
    let m = wire4::Message::Echo { id: 1, seq: 1, data: &data };
    let mut b = vec![0; m.len()];
    m.emit(&mut b);
    b
}

/// `echo` in parts of `size`, as (offset, bytes, more).
fn parts(whole: &[u8], size: usize) -> Vec<(usize, Vec<u8>, bool)> {
    let n = whole.len();
    whole.chunks(size).enumerate().map(|(i, c)| (i * size, c.to_vec(), i * size + c.len() < n)).collect()
}

const A: &str = "10.0.0.9";

#[test]
fn parts_in_any_order_make_the_datagram_once() {
    let whole = echo(4000);
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let b = Bench::on_ip();
        let p = parts(&whole, 1024);
        let mut answers = 0;
        for i in order {
            // Each one twice: what repeats is dropped and harms nobody.
            for _ in 0..2 {
                answers += b.inject(&part(A, 7, p[i].0, &p[i].1, p[i].2)).len();
            }
        }
        // The second copy of the last part starts a datagram of its own, which times out.
        assert_eq!(answers, 3, "{order:?}: the echo reply, itself in three parts");
        assert_eq!(b.stack.mib.get(Mib::IpReasmOKs), 1);
        assert_eq!(b.stack.mib.get(Mib::IcmpInEchos), 1);
        assert_eq!(b.stack.mib.drops(DropReason::DupFrag), 3);
    }
}

#[test]
fn an_overlap_takes_the_whole_datagram_with_it() {
    for (case, second) in [
        ("teardrop: inside, shifted", (16, 32, true)),
        ("over the end", (56, 32, true)),
        ("larger than what is there", (0, 128, true)),
    ] {
        let b = Bench::on_ip();
        let whole = echo(1000);
        b.inject(&part(A, 7, 24, &whole[24..64], true));
        let (offset, len, more) = second;
        b.inject(&part(A, 7, offset, &whole[offset..offset + len], more));
        assert_eq!(b.stack.mib.get(Mib::IpExtReasmOverlaps), 1, "{case}");
        assert_eq!(net(&b.stack).frags.usage(true), (0, 0), "{case}");
    }
}

#[test]
fn contradictions_are_refused() {
    for (case, list) in [
        ("two ends", vec![(800, 8, false), (400, 8, false)]),
        ("beyond the end", vec![(80, 8, false), (160, 8, true)]),
        ("an empty part", vec![(80, 0, true)]),
        ("the ping of death", vec![(0, 40_000, true), (40_000, 25_528, true), (65_528, 100, false)]),
    ] {
        let b = Bench::on_ip();
        for (offset, len, more) in list {
            b.inject(&part(A, 7, offset, &vec![0; len], more));
        }
        assert_eq!(b.stack.mib.get(Mib::IpReasmFails), 1, "{case}");
        assert_eq!(net(&b.stack).frags.usage(true), (0, 0), "{case}");
    }
}

#[test]
fn after_its_time_a_datagram_is_given_up_and_who_sent_its_beginning_is_told() {
    let b = Bench::on_ip();
    let whole = echo(1000);
    b.inject(&part(A, 7, 0, &whole[..512], true));
    b.inject(&part("10.0.0.8", 7, 512, &whole[512..], false));
    assert_eq!(net(&b.stack).frags.usage(true).1, 2);
    assert!(b.advance(Duration::from_millis(29_999)).is_empty());
    let sent = b.advance(Duration::from_millis(2));
    assert_eq!(sent.len(), 1, "only the one whose first part came");
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    assert_eq!(IpAddr::V4(h.dst()), A.parse::<IpAddr>().unwrap());
    let m = wire4::IcmpHeader::parse(h.payload()).unwrap();
    assert!(matches!(m.message(), wire4::Message::TimeExceeded { code: 1, .. }));
    assert_eq!(b.stack.mib.get(Mib::IpReasmTimeout), 2);
    assert_eq!(b.stack.mib.drops(DropReason::FragReasmTimeout), 2);
    assert_eq!(net(&b.stack).frags.usage(true), (0, 0));
}

#[test]
fn a_flood_of_parts_without_end_is_bounded_and_others_still_come_through() {
    let b = Bench::on_ip();
    b.stack.sysctl.set("net.ipv4.ipfrag_low_thresh", "100000").unwrap();
    b.stack.sysctl.set("net.ipv4.ipfrag_high_thresh", "262144").unwrap();
    let whole = echo(2000);
    let mut worst = 0;
    for i in 0..20_000u32 {
        let src = format!("10.0.0.{}", 20 + i % 200);
        b.inject(&part(&src, i as u16, 8 * (i as usize % 1000), &[0; 8], true));
        worst = worst.max(net(&b.stack).frags.usage(true).0);
    }
    assert!(worst <= 262_144, "{worst}");
    let p = parts(&whole, 1024);
    p.iter().for_each(|p| drop(b.inject(&part(A, 7, p.0, &p.1, p.2))));
    assert_eq!(b.stack.mib.get(Mib::IpReasmOKs), 1);
    assert!(b.stack.mib.drops(DropReason::FragMem) > 0);
}

#[test]
fn many_tiny_parts_of_one_datagram_are_bounded_too() {
    let b = Bench::on_ip();
    b.stack.sysctl.set("net.ipv4.ipfrag_low_thresh", "100000").unwrap();
    b.stack.sysctl.set("net.ipv4.ipfrag_high_thresh", "262144").unwrap();
    for i in (0..8000).filter(|i| i % 2 == 1) {
        b.inject(&part(A, 7, 8 * i, &[0; 8], true));
        assert!(net(&b.stack).frags.usage(true).0 <= 262_144);
    }
}

#[test]
fn ecn_of_the_parts_becomes_that_of_the_whole() {
    for (marks, want) in
        [([0u8, 0], Some(0)), ([2, 2], Some(2)), ([2, 3], Some(3)), ([3, 3], Some(3)), ([0, 3], None), ([0, 2], None)]
    {
        let b = Bench::on_ip();
        let whole = echo(100);
        let mut sent = Vec::new();
        for (p, mark) in parts(&whole, 64).iter().zip(marks) {
            let mut f = part(A, 7, p.0, &p.1, p.2);
            f[1] = mark;
            ip::fill_checksum(&mut f[..20]);
            sent.extend(b.inject(&f));
        }
        // The echo reply carries the TOS that the request had.
        assert_eq!(sent.first().map(|p| p[1]), want, "{marks:?}");
    }
}

fn part6(id: u32, offset: usize, bytes: &[u8], more: bool) -> Vec<u8> {
    let repr = Ipv6Repr::new("fd00::9".parse().unwrap(), "fd00::1".parse().unwrap(), proto::FRAGMENT, 8 + bytes.len());
    let mut p = vec![0; 48];
    repr.emit(&mut p);
    FragmentHeader { next_header: proto::UDP, offset, more, id }.emit(&mut p[40..]);
    p.extend(bytes);
    p
}

#[test]
fn ipv6_fragments_obey_rfc_8200_and_rfc_5722() {
    // Whose datagram fails, which is forgotten; which parts are refused alone, with a parameter problem.
    for (case, list, (fails, refused, kept)) in [
        ("length not a multiple of 8", vec![(0, 12, true)], (0, 1, 0)),
        ("overlap", vec![(0, 32, true), (24, 16, true)], (1, 0, 0)),
        ("a beginning without its UDP header", vec![(0, 0, true)], (0, 1, 0)),
        ("too long", vec![(65_528, 16, false)], (0, 1, 0)),
        ("a repetition", vec![(0, 32, true), (0, 32, true)], (0, 0, 1)),
    ] {
        let b = Bench::on_ip();
        let sent: usize =
            list.into_iter().map(|(offset, len, more)| b.inject(&part6(1, offset, &vec![0; len], more)).len()).sum();
        assert_eq!(sent, refused, "{case}");
        assert_eq!(b.stack.mib.get(Mib::Ip6InHdrErrors), refused as u64, "{case}");
        assert_eq!(b.stack.mib.get(Mib::Ip6ReasmFails), fails, "{case}: {:?}", b.stack.mib);
        assert_eq!(net(&b.stack).frags.usage(false).1, kept, "{case}");
    }
    // An atomic fragment is a packet like any other (RFC 6946), even beside a datagram of its id.
    let b = Bench::on_ip();
    b.inject(&part6(1, 8, &[0; 8], true));
    let mut udp = vec![0; 12];
    crate::wire::udp::emit_header(&mut udp, 1, 2, 4);
    crate::wire::udp::fill_checksum(&mut udp, "fd00::9".parse().unwrap(), "fd00::1".parse().unwrap());
    b.inject(&part6(1, 0, &udp, false));
    assert_eq!(b.stack.mib.get(Mib::Udp6NoPorts), 1);
    assert_eq!(net(&b.stack).frags.usage(false).1, 1);
}

/// It reaches ICMPv6, which counts it and looks no further; in one fragment that is all of it, too.
#[test]
fn neighbour_discovery_in_fragments_is_never_taken() {
    let message = wire6::Message::Other { kind: 135, code: 0, rest: [0; 4], data: &[0; 16] };
    let mut bytes = [0; 24];
    message.emit(&mut bytes, "fd00::9".parse().unwrap(), "fd00::1".parse().unwrap());
    for cuts in [&[(0, 8, true), (8, 24, false)][..], &[(0, 24, false)]] {
        let b = Bench::on_ip();
        for &(start, end, more) in cuts {
            let mut p = part6(1, start, &bytes[start..end], more);
            p[40] = proto::ICMPV6;
            b.inject(&p);
        }
        let mib = |m| b.stack.mib.get(m);
        assert_eq!(b.stack.mib.drops(DropReason::Ipv6NdiscFrag), 1);
        assert_eq!((mib(Mib::Icmp6InMsgs), mib(Mib::Icmp6InNeighborSolicits), mib(Mib::Ip6InDelivers)), (1, 1, 1));
        assert_eq!(mib(Mib::Ip6ReasmReqds), cuts.len() as u64);
    }
}

/// Behind a fragment header they are an unknown protocol, also where they stand first in the whole datagram.
#[test]
fn hop_by_hop_options_in_fragments_are_refused() {
    for parts in [&[(0, &[59, 0, 1, 4, 0, 0, 0, 0][..], true), (8, &[0; 4], false)][..], &[(0, &[59; 12], false)]] {
        let b = Bench::on_ip();
        let mut sent = Vec::new();
        for &(at, bytes, more) in parts {
            let mut p = part6(1, at, bytes, more);
            p[40] = proto::HOPOPTS;
            sent.extend(b.inject(&p));
        }
        let h = Ipv6Header::parse(&sent[0]).unwrap();
        let problem = wire6::Icmpv6Header::parse(h.payload()).unwrap();
        let atomic = parts.len() == 1;
        let Ok(wire6::Message::ParameterProblem { code: 1, pointer, .. }) = problem.message() else {
            panic!("{problem:?}")
        };
        // The fragment header of a datagram that was in one stays.
        assert_eq!((sent.len(), pointer), (1, if atomic { 40 } else { 6 }));
        assert_eq!(b.stack.mib.get(Mib::Ip6InUnknownProtos), 1);
    }
}

#[test]
fn an_error_about_a_whole_datagram_quotes_its_header_without_more_fragments() {
    // DF stays where the largest fragment had it (ip_frag_reasm).
    for (flags, want) in [([0x20, 0], 0), ([0x60, 0x40], 0x40), ([0x60, 0], 0x40), ([0x20, 0x40], 0)] {
        let b = Bench::on_ip();
        let whole = [0; 100];
        let mut sent = Vec::new();
        for (p, flag) in parts(&whole, 64).iter().zip(flags) {
            let mut f = part(A, 7, p.0, &p.1, p.2);
            f[9] = 99;
            f[6] = f[6] & 0x1f | flag;
            ip::fill_checksum(&mut f[..20]);
            sent.extend(b.inject(&f));
        }
        let h = Ipv4Header::parse(&sent[0]).unwrap();
        let wire4::Message::Unreachable { code: 2, quoted, .. } =
            wire4::IcmpHeader::parse(h.payload()).unwrap().message()
        else {
            panic!("{sent:?}")
        };
        assert_eq!((&quoted[2..4], quoted[6]), (&[0, 120][..], want), "{flags:?}");
        assert_eq!(quoted[20..], whole, "{flags:?}");
    }
}
