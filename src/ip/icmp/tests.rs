use super::*;
use crate::device::capture_test::Bench;
use crate::wire::icmpv6 as wire6;
use crate::wire::ipv6::Ipv6Header;

fn packet(src: &str, dst: &str, message: &[u8]) -> Vec<u8> {
    let mut p = vec![0; 20];
    let repr =
        Ipv4Repr { tos: 0x10, ..Ipv4Repr::new(src.parse().unwrap(), dst.parse().unwrap(), proto::ICMP, message.len()) };
    repr.emit(&mut p);
    p.extend(message);
    p
}

fn message(m: Message<'_>) -> Vec<u8> {
    let mut b = vec![0; m.len()];
    m.emit(&mut b);
    b
}

fn packet6(src: &str, dst: &str, m: wire6::Message<'_>) -> Vec<u8> {
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut b = vec![0; 40 + m.len()];
    m.emit(&mut b[40..], src, dst);
    let payload_len = b.len() - 40;
    let repr = Ipv6Repr::new(src, dst, proto::ICMPV6, payload_len);
    repr.emit(&mut b);
    b
}

const A: &str = "10.0.0.9";
const ME: &str = "10.0.0.1";
const ECHO: Message<'static> = Message::Echo { id: 7, seq: 3, data: b"abcdefg" };

#[test]
fn an_echo_request_is_answered_with_its_data_in_both_families() {
    let b = Bench::on_ip();
    let sent = b.inject(&packet(A, ME, &message(ECHO)));
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    assert_eq!((h.src(), h.dst(), h.tos()), (ME.parse().unwrap(), A.parse().unwrap(), 0x10));
    let m = IcmpHeader::parse(h.payload()).unwrap();
    assert!(m.checksum_ok());
    assert_eq!(m.message(), Message::EchoReply { id: 7, seq: 3, data: b"abcdefg" });
    let sent = b.inject(&packet6("fd00::9", "fd00::1", wire6::Message::Echo { id: 7, seq: 3, data: b"abc" }));
    let h = Ipv6Header::parse(&sent[0]).unwrap();
    let m = wire6::Icmpv6Header::parse(h.payload()).unwrap();
    assert!(m.checksum_ok(h.src(), h.dst()));
    assert_eq!(m.message(), Ok(wire6::Message::EchoReply { id: 7, seq: 3, data: b"abc" }));
    let names = ["IcmpInEchos", "IcmpOutEchoReps", "IcmpMsgInType8", "Icmp6InEchos", "Icmp6OutType129"];
    assert!(names.iter().all(|n| b.stack.mib.get_by_name(n) == Some(1)), "{:?}", b.stack.mib);
}

#[test]
fn what_must_not_be_answered_is_not() {
    let mut corrupt = message(ECHO);
    corrupt[9] ^= 1;
    for (case, p, reason) in [
        ("broadcast echo", packet(A, "10.0.0.255", &message(ECHO)), DropReason::InvalidProto),
        (
            "broadcast answer to a probe",
            packet(A, "10.0.0.255", &message(Message::Other { kind: 43, code: 0, rest: [0; 4], data: b"" })),
            DropReason::InvalidProto,
        ),
        ("multicast echo", packet(A, "224.0.0.1", &message(ECHO)), DropReason::InvalidProto),
        ("wrong checksum", packet(A, ME, &corrupt), DropReason::IcmpCsum),
        ("short", packet(A, ME, &[8, 0, 0xf7, 0xff]), DropReason::IcmpMalformed),
        (
            "unknown type",
            packet(A, ME, &message(Message::Other { kind: 99, code: 0, rest: [0; 4], data: b"" })),
            DropReason::IcmpMalformed,
        ),
        (
            "reply nobody waits for",
            packet(A, ME, &message(Message::EchoReply { id: 1, seq: 1, data: b"" })),
            DropReason::NoSocket,
        ),
        (
            "error without a quote",
            packet(A, ME, &message(Message::TimeExceeded { code: 0, quoted: b"xx" })),
            DropReason::IcmpMalformed,
        ),
        (
            "error about what we never sent",
            packet(A, ME, &message(Message::Unreachable { code: 3, mtu: 0, quoted: &packet("10.0.0.8", A, &[0; 8]) })),
            DropReason::IcmpImplausible,
        ),
    ] {
        let b = Bench::on_ip();
        assert!(b.inject(&p).is_empty(), "{case}");
        assert_eq!(b.stack.mib.drops(reason), 1, "{case}: {:?}", b.stack.mib);
    }
    let b = Bench::on_ip();
    b.stack.sysctl.set("net.ipv4.icmp_echo_ignore_all", "1").unwrap();
    assert!(b.inject(&packet(A, ME, &message(ECHO))).is_empty());
}

#[test]
fn a_timestamp_request_gets_the_time_of_day() {
    let b = Bench::on_ip();
    let m = Message::Other { kind: kind::TIMESTAMP, code: 0, rest: [0, 1, 0, 2], data: &[9; 12] };
    let sent = b.inject(&packet(A, ME, &message(m)));
    let p = Ipv4Header::parse(&sent[0]).unwrap().payload();
    assert_eq!((p[0], &p[4..12]), (kind::TIMESTAMP_REPLY, &[0, 1, 0, 2, 9, 9, 9, 9][..]));
    // The test's clock stands at midnight plus 100 s.
    assert_eq!(u32::from_be_bytes([p[16], p[17], p[18], p[19]]), 100_000);
}

#[test]
fn errors_are_limited_for_each_destination_and_for_all() {
    let b = Bench::on_ip();
    let unknown = |host: u8| {
        let mut p = packet(&format!("10.0.0.{host}"), ME, b"x");
        p[9] = 253;
        ip::fill_checksum(&mut p[..20]);
        p
    };
    let answered = |b: &Bench, host: u8, n: usize| (0..n).map(|_| b.inject(&unknown(host)).len()).sum::<usize>();
    // A burst of six to one, then one a second.
    assert_eq!(answered(&b, 9, 20), 6);
    assert_eq!(b.stack.mib.get(Mib::IcmpOutRateLimitHost), 14);
    assert_eq!(answered(&b, 8, 1), 1, "another destination has its own budget");
    b.advance(Duration::from_secs(1));
    assert_eq!(answered(&b, 9, 20), 1);
    // All together no more than the global burst allows at once.
    b.advance(Duration::from_secs(1));
    let total: usize = (10..250).map(|h| answered(&b, h, 1)).sum();
    assert!((16..=50).contains(&total), "{total}");
    assert!(b.stack.mib.get(Mib::IcmpOutRateLimitGlobal) > 0);
    // Echo replies are not limited by default.
    let echoes: usize = (0..200).map(|_| b.inject(&packet(A, ME, &message(ECHO))).len()).sum();
    assert_eq!(echoes, 200);
}

#[test]
fn errnos_are_those_of_icmp_err_convert() {
    for (ty, code, want) in [
        (3, 0, (Error::NetUnreach, false)),
        (3, 1, (Error::HostUnreach, false)),
        (3, 2, (Error::NoProtoOpt, true)),
        (3, 3, (Error::ConnRefused, true)),
        (3, 4, (Error::MsgSize, false)),
        (3, 5, (Error::OpNotSupp, false)),
        (3, 6, (Error::NetUnreach, true)),
        (3, 7, (Error::HostDown, true)),
        (3, 8, (Error::NoNet, true)),
        (3, 9, (Error::NetUnreach, true)),
        (3, 10, (Error::HostUnreach, true)),
        (3, 11, (Error::NetUnreach, false)),
        (3, 12, (Error::HostUnreach, false)),
        (3, 13, (Error::HostUnreach, true)),
        (3, 15, (Error::HostUnreach, true)),
        (11, 0, (Error::HostUnreach, false)),
        (12, 0, (Error::Proto, true)),
    ] {
        assert_eq!(convert(ty, code), want, "type {ty} code {code}");
    }
    for (ty, code, want) in [
        (1, 0, (Error::NetUnreach, false)),
        (1, 1, (Error::Acces, true)),
        (1, 3, (Error::HostUnreach, false)),
        (1, 4, (Error::ConnRefused, true)),
        (2, 0, (Error::MsgSize, false)),
        (3, 0, (Error::HostUnreach, false)),
        (4, 1, (Error::Proto, true)),
    ] {
        assert_eq!(icmpv6::convert(ty, code), want, "ICMPv6 type {ty} code {code}");
    }
}

#[test]
fn the_ratemask_says_which_icmpv6_types_are_limited() {
    let counts = |mask: &str| {
        let b = Bench::on_ip();
        b.stack.sysctl.set("net.ipv6.icmp.ratemask", mask).unwrap();
        let request = packet6("fd00::9", "fd00::1", wire6::Message::Echo { id: 7, seq: 3, data: b"abc" });
        let mut unknown = request.clone();
        unknown[6] = 253;
        let answered = |p: &[u8]| (0..30).map(|_| b.inject(p).len()).sum::<usize>();
        (answered(&unknown), answered(&request))
    };
    for (mask, want) in [("0-1,3-127", (6, 30)), ("0-3,5-127", (30, 30)), ("", (30, 30)), ("129", (30, 6))] {
        assert_eq!(counts(mask), want, "{mask:?}");
    }
    let b = Bench::on_ip();
    assert_eq!(b.stack.sysctl.set("net.ipv6.icmp.ratemask", "1,256"), Err(Error::Inval));
    assert_eq!(b.stack.sysctl.get("net.ipv6.icmp.ratemask").as_deref(), Ok("0-1,3-127"));
}

#[test]
fn echo_with_a_record_route_comes_back_with_both_entries() {
    let b = Bench::on_ip();
    let (me, mut header) = ([10, 0, 0, 1], [0; 32]);
    let request = message(ECHO);
    let repr = Ipv4Repr::new(A.parse().unwrap(), ME.parse().unwrap(), proto::ICMP, request.len());
    repr.emit_with_options(&mut header, &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    let sent = b.inject(&[&header[..], &request].concat());
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    assert_eq!(sent[0][20..32], [&[7, 11, 12][..], &me, &me, &[0]].concat());
    assert_eq!(
        IcmpHeader::parse(h.payload()).unwrap().message(),
        Message::EchoReply { id: 7, seq: 3, data: b"abcdefg" }
    );
}

#[test]
fn code_of_an_icmpv6_echo_request_comes_back() {
    let b = Bench::on_ip();
    let request = wire6::Message::Other { kind: 128, code: 1, rest: [0, 7, 0, 3], data: b"abc" };
    let sent = b.inject(&packet6("fd00::9", "fd00::1", request));
    let m = wire6::Icmpv6Header::parse(Ipv6Header::parse(&sent[0]).unwrap().payload()).unwrap();
    assert_eq!((m.kind(), m.code(), m.rest()), (129, 1, [0, 7, 0, 3]));
}

/// Nothing in the quote of a message that no socket sent shows that this host sent it.
#[test]
fn path_mtus_are_not_learned_from_errors_about_what_no_socket_sent() {
    let mtu = |b: &Bench, to: &str| route::lookup(&b.stack, to.parse().unwrap(), None, 0).unwrap().mtu;
    let b = Bench::on_ip();
    let generation = b.stack.rt_genid();
    let quoted = packet(ME, A, &message(Message::EchoReply { id: 1, seq: 1, data: b"" }));
    b.inject(&packet(A, ME, &message(Message::Unreachable { code: 4, mtu: 1400, quoted: &quoted })));
    let (them, me) = ("fd00::9", "fd00::1");
    let quoted = packet6(me, them, wire6::Message::EchoReply { id: 1, seq: 1, data: b"" });
    b.inject(&packet6(them, me, wire6::Message::PacketTooBig { mtu: 1300, quoted: &quoted }));
    assert_eq!((mtu(&b, A), mtu(&b, them), b.stack.rt_genid()), (1500, 1500, generation));
}

#[test]
fn nothing_is_sent_to_the_unspecified_address() {
    let b = Bench::on_ip();
    assert!(b.inject(&packet6("::", "fd00::1", wire6::Message::Echo { id: 7, seq: 3, data: b"" })).is_empty());
    assert_eq!((b.stack.mib.get(Mib::Icmp6InEchos), b.stack.mib.get(Mib::Ip6InReceives)), (1, 1));
}

#[test]
fn a_reassembly_that_timed_out_elsewhere_is_no_error_whatever_it_quotes() {
    for (len, errors) in [(28, 0), (20, 0), (19, 1)] {
        let b = Bench::on_ip();
        let quoted = &packet(ME, A, &[0; 8])[..len];
        b.inject(&packet(A, ME, &message(Message::TimeExceeded { code: 1, quoted })));
        assert_eq!(b.stack.mib.get(Mib::IcmpInErrors), errors, "{len} bytes");
    }
}

/// A quote's headers are passed whatever they are and wherever they stand (ipv6_skip_exthdr).
#[test]
fn an_error_that_quotes_an_authentication_header_finds_its_socket() {
    for (case, next, between) in [
        ("none", 17, vec![]),
        ("authentication", 51, [&[17, 4, 0, 0], &[0; 20][..]].concat()),
        (
            "hop-by-hop options that are not first",
            60,
            [&[0, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 1, 4, 0, 0, 0, 0][..]].concat(),
        ),
    ] {
        let b = Bench::on_ip();
        let s = crate::inet::Socket::new(&b.stack, libc::AF_INET6, libc::SOCK_DGRAM, 0).unwrap();
        s.bind("[fd00::1]:5000".parse().unwrap()).unwrap();
        s.connect(Some("[fd00::9]:7".parse().unwrap())).unwrap();
        let udp = [5000u16.to_be_bytes(), 7u16.to_be_bytes(), [0, 8], [0, 0]].concat();
        let mut quoted = vec![0; 40];
        let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::9".parse().unwrap());
        let payload_len = between.len() + udp.len();
        let repr = Ipv6Repr::new(src, dst, next, payload_len);
        repr.emit(&mut quoted);
        quoted.extend([between, udp].concat());
        b.inject(&packet6("fd00::9", "fd00::1", wire6::Message::Unreachable { code: 4, quoted: &quoted }));
        let mut error = [0; 4];
        s.getsockopt(libc::SOL_SOCKET, libc::SO_ERROR, &mut error).unwrap();
        assert_eq!(i32::from_ne_bytes(error), libc::ECONNREFUSED, "{case}");
    }
}

/// An extended echo request or reply of type `kind`: the byte beside the sequence number, and the object with what it
/// holds.
fn probe(kind: u8, code: u8, last: u8, ctype: u8, named: &[u8]) -> (u8, u8, [u8; 4], Vec<u8>) {
    let object = [0, 4 + named.len() as u8, 3, ctype];
    (kind, code, [0, 7, 5, last], [&[0x20, 0, 0, 0], &object[..], named].concat())
}

/// What is expected is what Linux 6.18 answered to the same requests.
#[test]
fn probes_are_answered_with_the_state_of_the_interface_that_they_name() {
    let b = Bench::on_ip();
    let ask = |v4: bool, p: (u8, u8, [u8; 4], Vec<u8>)| {
        let (kind, code, rest, data) = (p.0, p.1, p.2, &p.3[..]);
        let sent = match v4 {
            true => b.inject(&packet(A, ME, &message(Message::Other { kind, code, rest, data }))),
            false => b.inject(&packet6("fd00::9", "fd00::1", wire6::Message::Other { kind, code, rest, data })),
        };
        let answer = sent.first().map(|p| p[if v4 { 20 } else { 40 }..].to_vec())?;
        assert_eq!(&answer[8..], data);
        Some((answer[0], answer[1], answer[7]))
    };
    assert_eq!(
        (ask(true, probe(42, 0, 1, 2, &[0, 0, 0, 2])), ask(false, probe(160, 0, 1, 2, &[0, 0, 0, 2]))),
        (None, None)
    );
    b.stack.sysctl.set("net.ipv4.icmp_echo_enable_probe", "1").unwrap();
    let name = b"tun0";
    let own6: std::net::Ipv6Addr = "fd00::1".parse().unwrap();
    let by_own6 = [&[0, 2, 16, 0], &own6.octets()[..]].concat();
    for (case, ctype, named, want) in [
        ("index", 2, &[0, 0, 0, 2][..], (0, 7)),
        ("lo's index", 2, &[0, 0, 0, 1], (0, 7)),
        ("no such index", 2, &[0, 0, 1, 0], (2, 0)),
        ("index of two bytes", 2, &[0, 2], (1, 0)),
        ("name", 1, name, (0, 7)),
        ("name with zeros behind", 1, b"lo\0\0", (0, 7)),
        ("no such name", 1, b"lo0", (2, 0)),
        ("name of 16", 1, &[b'a'; 16], (1, 0)),
        ("address", 3, &[0, 1, 4, 0, 10, 0, 0, 1], (0, 7)),
        ("another host's", 3, &[0, 1, 4, 0, 10, 0, 0, 9], (2, 0)),
        ("address of IPv6", 3, &by_own6, (0, 7)),
        ("wrong length of it", 3, &[0, 1, 5, 0, 10, 0, 0, 1], (1, 0)),
        ("no such family", 3, &[0, 9, 4, 0, 10, 0, 0, 1], (1, 0)),
        ("no such way to name", 4, &[0, 0, 0, 2], (1, 0)),
        ("nothing named", 2, &[], (1, 0)),
    ] {
        let (code, state) = want;
        assert_eq!(ask(true, probe(42, 0, 1, ctype, named)), Some((43, code, state)), "{case}");
        assert_eq!(ask(false, probe(160, 0, 1, ctype, named)), Some((161, code, state)), "{case}");
    }
    assert_eq!(ask(true, probe(42, 0, 0, 2, &[0, 0, 0, 2])), None, "about another host's interface");
    assert_eq!(ask(true, (42, 0, [0, 7, 5, 1], vec![0x20, 0, 0])), Some((43, 1, 0)), "cut");
    let with_code = (probe(42, 5, 1, 2, &[0, 0, 0, 2]), probe(160, 5, 1, 2, &[0, 0, 0, 2]));
    assert_eq!((ask(true, with_code.0), ask(false, with_code.1)), (Some((43, 5, 7)), Some((161, 5, 7))));
    b.stack.sysctl.set("net.ipv4.icmp_echo_ignore_all", "1").unwrap();
    assert_eq!(ask(true, probe(42, 0, 1, 2, &[0, 0, 0, 2])), None);
}
