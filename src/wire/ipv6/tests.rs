//! Tests: wrong lengths, long and truncated header chains, and emit against parse.

use super::*;
use proptest::prelude::*;

fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0; HEADER_LEN];
    let repr = Ipv6Repr::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, next, payload.len());
    repr.emit(&mut b);
    b.extend(payload);
    b
}

/// Protocol, offset and length of the upper-layer payload, or header and offset of the error.
fn upper(next: u8, payload: &[u8]) -> Result<(u8, usize, usize), (u8, usize)> {
    let b = packet(next, payload);
    let u = Ipv6Header::parse(&b).unwrap().upper();
    u.map(|u| (u.protocol, b.len() - u.payload.len(), u.payload.len())).map_err(|e| (e.header, e.offset))
}

#[test]
fn lengths_that_disagree_are_refused_with_their_reason() {
    let good = packet(59, &[1, 2, 3, 4]);
    type Edit = fn(&mut Vec<u8>);
    for (case, edit, want) in [
        ("untouched", (|_| ()) as Edit, Ok(4)),
        ("link padding", |b| b.extend([0; 9]), Ok(4)),
        ("39 bytes", |b| b.truncate(39), Err(ParseError::Truncated)),
        ("nothing", |b| b.clear(), Err(ParseError::Truncated)),
        ("version 4", |b| b[0] = 0x45, Err(ParseError::BadVersion)),
        ("payload one byte short", |b| b[5] = 5, Err(ParseError::Truncated)),
        ("payload 65535", |b| b[4..6].fill(255), Err(ParseError::Truncated)),
        ("payload 0", |b| b[5] = 0, Ok(0)),
    ] {
        let mut b = good.clone();
        edit(&mut b);
        assert_eq!(Ipv6Header::parse(&b).map(|h| h.payload().len()), want, "{case}");
    }
}

#[test]
fn an_extension_header_chain_ends_at_the_transport_or_at_its_error() {
    let hdr = |next: u8, units: u8, total: usize| {
        let mut v = vec![0u8; total];
        v[..2].copy_from_slice(&[next, units]);
        v
    };
    let tcp = [7u8; 20];
    let cat = |parts: &[&[u8]]| parts.concat();
    for (case, next, payload, want) in [
        ("no extension", 6, tcp.to_vec(), Ok((6, 40, 20))),
        ("nothing follows", 59, vec![], Ok((59, 40, 0))),
        ("hop-by-hop", 0, cat(&[&hdr(6, 0, 8), &tcp]), Ok((6, 48, 20))),
        ("hop-by-hop twice", 0, cat(&[&hdr(0, 0, 8), &hdr(6, 0, 8)]), Ok((0, 48, 8))),
        ("destination, routing", 60, cat(&[&hdr(43, 1, 16), &hdr(6, 0, 8), &tcp]), Ok((6, 64, 20))),
        ("length 255 beyond the packet", 60, hdr(6, 255, 100), Err((60, 40))),
        ("length 255 just there", 60, hdr(6, 255, 2048), Ok((6, 2088, 0))),
        ("no bytes for the header", 43, vec![], Err((43, 40))),
        ("seven bytes", 60, hdr(6, 0, 7), Err((60, 40))),
        ("second one cut", 60, cat(&[&hdr(60, 0, 8), &hdr(6, 1, 8)]), Err((60, 48))),
        ("fragment cut", 44, vec![6, 0, 0, 1, 0, 0, 0], Err((44, 40))),
        ("atomic fragment is walked past", 44, cat(&[&hdr(60, 0, 8), &hdr(6, 0, 8), &tcp]), Ok((6, 56, 20))),
        ("a fragment's second byte is no length", 44, cat(&[&hdr(6, 255, 8), &tcp]), Ok((6, 48, 20))),
        ("first fragment ends the walk", 44, cat(&[&[60, 0, 0, 1, 0, 0, 0, 9], &hdr(6, 0, 8)]), Ok((60, 48, 8))),
        ("a later fragment ends the walk", 44, cat(&[&[60, 0, 0, 8, 0, 0, 0, 9], &tcp]), Ok((60, 48, 20))),
        ("unknown protocol", 200, vec![1], Ok((200, 40, 1))),
    ] {
        assert_eq!(upper(next, &payload), want, "{case}");
    }
}

#[test]
fn the_longest_chain_takes_one_step_in_eight_bytes() {
    let payload: Vec<u8> = [60u8, 0, 1, 4, 0, 0, 0, 0].repeat(65528 / 8);
    let steps = Extensions::new(60, &payload).count();
    assert_eq!(steps, 65528 / 8 + 1, "one header each, and the one that is not there");
}

#[test]
fn options_are_read_with_their_action_and_bad_ones_refused_at_their_offset() {
    let read = |opts: &[u8]| {
        let bytes = [&[59, 0], opts].concat();
        let o = Ipv6Options { bytes: &bytes, at: 2, base: 40 };
        o.map(|o| o.map(|o| (o.kind, o.offset)).map_err(|e| e.offset)).collect::<Vec<_>>()
    };
    for (case, opts, want) in [
        ("padding only", &[1, 4, 0, 0, 0, 0][..], vec![]),
        ("five Pad1 and an option", &[0, 0, 0, 0, 0, 5, 0], vec![Ok((5, 47))]),
        ("router alert", &[5, 2, 0, 0, 1, 0], vec![Ok((5, 42))]),
        ("length beyond", &[5, 2, 0, 0, 7, 1], vec![Ok((5, 42)), Err(46)]),
        ("length missing", &[7], vec![Err(42)]),
        ("length 255", &[194, 255, 0, 0, 0, 0], vec![Err(42)]),
        ("PadN with a payload", &[1, 2, 0, 9, 0, 0], vec![Err(42)]),
        ("eight Pad1", &[0; 8], vec![Err(49)]),
        ("PadN of eight", &[1, 6, 0, 0, 0, 0, 0, 0], vec![Err(42)]),
    ] {
        assert_eq!(read(opts), want, "{case}");
    }
    let action = |kind| Ipv6Option { kind, data: &[], offset: 0 }.unknown_action();
    assert_eq!(
        [0x05, 0x45, 0x85, 0xc5].map(action),
        [UnknownAction::Skip, UnknownAction::Discard, UnknownAction::Problem, UnknownAction::ProblemUnlessMulticast]
    );
}

#[test]
fn a_routing_header_of_the_least_length_has_all_its_fields() {
    let mut e = Extensions::new(43, &[6, 0, 2, 1, 9, 9, 9, 9]);
    let Some(Ok(Extension::Routing(r))) = e.next() else { panic!("no routing header") };
    assert_eq!((r.routing_type(), r.segments_left(), r.data(), r.offset), (2, 1, &[9u8, 9, 9, 9][..], 40));
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]

    #[test]
    fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), v6: bool,
                             next in prop::sample::select(vec![0u8, 6, 43, 44, 60]), chain in 0usize..4) {
        if let (true, Some(b)) = (v6, bytes.first_mut()) { *b = 0x60 | *b & 15; }
        for (i, at) in (0..chain).map(|i| (i, 40 + 8 * i)) {
            if let Some(b) = bytes.get_mut(at..at + 2) { b.copy_from_slice(&[[60, 43, 44, 6][i], 0]); }
        }
        if let Some(b) = bytes.get_mut(6) { *b = next; }
        for h in [Ipv6Header::parse(&bytes), Ipv6Header::parse_quoted(&bytes)].into_iter().flatten() {
            prop_assert!(h.extensions().count() <= bytes.len() / 8 + 1);
            for e in h.extensions().flatten() {
                if let Extension::HopByHop(o) | Extension::Destination(o) = e {
                    prop_assert!(o.count() <= bytes.len());
                }
                let _ = format!("{e:?}");
            }
            if let Ok(u) = h.upper() {
                prop_assert!(HEADER_LEN + u.payload.len() <= bytes.len());
            }
            let _ = (format!("{h:?}"), h.ecn());
        }
    }

    #[test]
    fn what_is_emitted_parses_back(src: [u8; 16], dst: [u8; 16], next_header: u8, hop_limit: u8, traffic_class: u8,
                                   flow in 0u32..1 << 20, payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let r = Ipv6Repr { src: src.into(), dst: dst.into(), next_header, hop_limit, traffic_class, flow_label: flow,
            payload_len: payload.len() };
        let mut b = vec![0xaa; HEADER_LEN];
        prop_assert_eq!(r.emit(&mut b), HEADER_LEN);
        b.extend(&payload);
        let h = Ipv6Header::parse(&b).unwrap();
        prop_assert_eq!(Ipv6Repr::from(h), r);
        prop_assert_eq!(h.payload(), &payload[..]);
        set_payload_len(&mut b, 0);
        prop_assert_eq!(Ipv6Header::parse(&b).unwrap().payload().len(), 0);
    }

    #[test]
    fn a_fragment_header_parses_back(next_header: u8, units in 0usize..8192, more: bool, id: u32) {
        let f = FragmentHeader { next_header, offset: units * 8, more, id };
        let mut b = [0xff; 8];
        prop_assert_eq!(f.emit(&mut b), 8);
        prop_assert_eq!(FragmentHeader::parse(&b), Ok(f));
        prop_assert_eq!(FragmentHeader::parse(&b[..7]), Err(ParseError::Truncated));
    }
}
