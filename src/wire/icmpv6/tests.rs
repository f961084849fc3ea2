//! Tests: every message in both directions; options with wrong lengths; truncated quotes.

use super::super::ipv6::{FragmentHeader, Ipv6Repr};
use super::*;
use proptest::prelude::*;

const SRC: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const DST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn quoted(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0; 40];
    let (hop_limit, traffic_class, flow_label) = (1, 0, 0);
    Ipv6Repr { src: SRC, dst: DST, next_header, hop_limit, traffic_class, flow_label, payload_len: 1400 }.emit(&mut b);
    b.extend(payload);
    b
}

#[test]
fn every_message_is_written_and_read_back() {
    let q = quoted(6, &[0; 8]);
    let quoted = &q[..];
    let data = &[1u8, 2, 3][..];
    let lladdr = lladdr_option(nd_option::SOURCE_LLADDR, MAC);
    let options = NdOptions::parse(&lladdr).unwrap();
    let mut all = vec![
        Message::PacketTooBig { mtu: 0x0102_0304, quoted },
        Message::TimeExceeded { code: 1, quoted },
        Message::ParameterProblem { code: 1, pointer: 0xffff_fffe, quoted },
        Message::Echo { id: 1, seq: 0xfffe, data },
        Message::EchoReply { id: 2, seq: 3, data: &[] },
        Message::RouterSolicitation { options },
        Message::RouterSolicitation { options: NdOptions::EMPTY },
        Message::RouterAdvertisement {
            hop_limit: 64,
            flags: 0xc0,
            lifetime: 1800,
            reachable_ms: 30_000,
            retrans_ms: 1000,
            options,
        },
        Message::NeighbourSolicitation { target: DST, options },
        Message::Redirect { target: SRC, destination: DST, options },
        Message::Other { kind: 143, code: 7, rest: [1, 2, 3, 4], data },
    ];
    all.extend((0..=unreachable::REJECT_ROUTE).map(|code| Message::Unreachable { code, quoted }));
    all.extend((0..8u8).map(|bits| Message::NeighbourAdvertisement {
        router: bits & 1 != 0,
        solicited: bits & 2 != 0,
        override_cache: bits & 4 != 0,
        target: SRC,
        options,
    }));
    for m in all {
        let mut b = [0x77; 128];
        let n = m.emit(&mut b, SRC, DST);
        let h = Icmpv6Header::parse(&b[..n]).unwrap();
        assert!(h.checksum_ok(SRC, DST) && !h.checksum_ok(SRC, Ipv6Addr::LOCALHOST), "{m:?}");
        assert_eq!((h.message(), n), (Ok(m), m.len()));
    }
    assert_eq!(options.source_lladdr(), Some(MAC));
    assert_eq!(options.target_lladdr(), None);
}

#[test]
fn neighbour_discovery_messages_are_recognised() {
    for (kind, nd) in [(1u8, false), (127, false), (128, false), (133, true), (136, true), (137, true)] {
        let b = [kind, 0, 0, 0, 0, 0, 0, 0];
        let h = Icmpv6Header::parse(&b).unwrap();
        assert_eq!(h.is_neighbour_discovery(), nd, "{kind}");
    }
}

#[test]
fn neighbour_discovery_that_rfc_4861_discards_is_refused_with_its_reason() {
    let multicast = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let msg = |kind: u8, code: u8, body: &[u8]| [&[kind, code, 0, 0, 0, 0, 0, 0], body].concat();
    let with = |target: Ipv6Addr, options: &[u8]| [&target.octets()[..], options].concat();
    for (case, bytes, want) in [
        ("seven bytes", vec![135; 7], ParseError::Truncated),
        ("target cut", msg(135, 0, &[0; 15]), ParseError::Truncated),
        ("code 1", msg(135, 1, &with(DST, &[])), ParseError::BadField),
        ("multicast target", msg(135, 0, &with(multicast, &[])), ParseError::BadField),
        ("advertised multicast target", msg(136, 0, &with(multicast, &[])), ParseError::BadField),
        ("option length 0", msg(135, 0, &with(DST, &[1, 0, 0, 0, 0, 0, 0, 0])), ParseError::BadOption),
        ("option length beyond", msg(136, 0, &with(DST, &[2, 2, 0, 0, 0, 0, 0, 0])), ParseError::BadOption),
        ("option length 255", msg(133, 0, &[1, 255, 0, 0, 0, 0, 0, 0]), ParseError::BadOption),
        ("option without length", msg(133, 0, &[1]), ParseError::BadOption),
        ("second option of length 0", msg(133, 0, &[1, 1, 0, 0, 0, 0, 0, 0, 1, 0]), ParseError::BadOption),
        ("advertisement cut", msg(134, 0, &[0; 7]), ParseError::Truncated),
        ("redirect with one address", msg(137, 0, &with(DST, &[])), ParseError::Truncated),
    ] {
        let got = Icmpv6Header::parse(&bytes).and_then(|h| h.message());
        assert_eq!(got.err(), Some(want), "{case}");
    }
}

#[test]
fn options_of_a_wrong_length_are_given_as_unknown() {
    let mut b = lladdr_option(nd_option::TARGET_LLADDR, MAC).to_vec();
    b.extend([5, 1, 0, 0, 0, 0, 0x05, 0xdc]);
    b.extend([5, 2].iter().chain(&[0; 14]));
    let mut prefix = vec![3, 4, 64, 0xc0];
    prefix.extend(3600u32.to_be_bytes());
    prefix.extend(1800u32.to_be_bytes());
    prefix.extend([0; 4]);
    prefix.extend(SRC.octets());
    b.extend(&prefix);
    prefix[2] = 129;
    b.extend(&prefix);
    b.extend([4, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    b.extend([99, 1, 0, 0, 0, 0, 0, 0]);
    let options = NdOptions::parse(&b).unwrap();
    let got: Vec<_> = options.into_iter().collect();
    assert_eq!(
        got,
        [
            NdOption::TargetLladdr(MAC),
            NdOption::Mtu(1500),
            NdOption::Other { kind: 5, data: &[0; 14] },
            NdOption::Prefix {
                prefix_len: 64,
                on_link: true,
                autonomous: true,
                valid_lifetime: 3600,
                preferred_lifetime: 1800,
                prefix: SRC
            },
            NdOption::Other { kind: 3, data: &prefix[2..] },
            NdOption::Redirected(&[1, 2, 3, 4, 5, 6, 7, 8]),
            NdOption::Other { kind: 99, data: &[0; 6] },
        ]
    );
    assert_eq!(options.target_lladdr(), Some(MAC));
}

#[test]
fn a_quoted_packet_has_8_bytes_of_its_transport() {
    let t = [0x12, 0x34, 0x00, 0x50, 0, 0, 0, 9];
    let frag = |offset, next_header| {
        let mut b = vec![0; 8];
        FragmentHeader { next_header, offset, more: true, id: 1 }.emit(&mut b);
        b.extend(t);
        b
    };
    for (case, bytes, protocol) in [
        ("tcp", quoted(6, &t), 6),
        ("first fragment", quoted(44, &frag(0, 6)), 6),
        ("a later fragment", quoted(44, &frag(8, 17)), 17),
        ("behind options", quoted(60, &[&[6, 0, 1, 4, 0, 0, 0, 0], &t[..]].concat()), 6),
    ] {
        let q = Quoted::parse(&bytes).unwrap();
        assert_eq!((q.protocol(), q.transport()), (protocol, &t[..]), "{case}");
    }
    for (case, bytes, want) in [
        ("seven bytes of transport", quoted(6, &t[..7]), ParseError::Truncated),
        ("half an IPv6 header", vec![0x60; 20], ParseError::Truncated),
        ("IPv4", vec![0x45; 40], ParseError::BadVersion),
        ("cut inside options", quoted(60, &[6, 1, 0, 0, 0, 0, 0, 0]), ParseError::BadExtension),
    ] {
        assert_eq!(Quoted::parse(&bytes).err(), Some(want), "{case}");
    }
    assert_eq!((quote_len(1500), quote_len(100)), (1232, 100));
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]

    #[test]
    fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..160), inner: bool, nd: bool,
                             kind in prop::sample::select(vec![1u8, 2, 3, 4, 128, 129, 133, 134, 135, 136, 137, 200])) {
        if let Some(b) = bytes.get_mut(..2) { b.copy_from_slice(&[kind, 0]); }
        if let (true, Some(b)) = (inner, bytes.get_mut(8)) { *b = 0x60 | *b & 7; }
        if nd {
            for b in bytes.iter_mut().skip(8).step_by(8) { *b &= 7; }
            for b in bytes.iter_mut().skip(9).step_by(8) { *b = 1; }
        }
        if let Ok(h) = Icmpv6Header::parse(&bytes) {
            let _ = (h.checksum_ok(SRC, DST), format!("{h:?}"));
            if let Ok(m) = h.message() {
                let mut out = vec![0; m.len()];
                m.emit(&mut out, SRC, DST);
                prop_assert_eq!(Icmpv6Header::parse(&out).unwrap().message(), Ok(m));
                prop_assert!(m.len() <= bytes.len());
            }
            if let Ok(q) = Quoted::parse(h.payload()) {
                let _ = format!("{q:?}");
            }
        }
        if let Ok(o) = NdOptions::parse(&bytes) {
            prop_assert!(o.iter().count() <= bytes.len() / 8);
        }
    }
}
