use super::*;
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::device::Caps;
use crate::device::capture_test::{Bench, Capture};
use crate::inet::Socket;
use crate::ip::exthdrs::is_extension;
use crate::ip::output::{IpTx, xmit_with_headers};
use crate::ip::route;
use crate::sock::msg::SendMsg;
use crate::sock::skb::{Csum, GsoType, L3, Skb};
use crate::wire::checksum;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::{self, TcpFlags, TcpHeader, TcpRepr};
use crate::wire::udp::{self, UdpHeader};
use std::io::IoSlice;
use std::net::SocketAddr;

const OWN: &str = "fd00::1";
const PEER: &str = "fd00::2";
const HOP: u8 = 0xa;
const DST: u8 = 0xd;

/// Eight bytes of an option that is skipped, with a mark in them.
fn options(mark: u8) -> Vec<u8> {
    vec![0, 0, 0x1e, 4, mark, 0, 0, 0]
}

/// A routing header by `hop` to an end that is not known yet.
fn segments(hop: &str) -> Vec<u8> {
    let mut h = vec![0, 4, ROUTING_SEGMENTS, 1, 1, 0, 0, 0];
    h.extend([0; 16]);
    h.extend(hop.parse::<Ipv6Addr>().unwrap().octets());
    h
}

fn bench(mtu: u32) -> Bench {
    Bench::new(Capture::with_caps("tun0", Caps { scatter_gather: true, ..Caps::ip(mtu) }), &["fd00::1/64"])
}

fn udp_socket(b: &Bench) -> Socket {
    let s = Socket::new(&b.stack, libc::AF_INET6, libc::SOCK_DGRAM, 0).unwrap();
    s.connect(Some(SocketAddr::new(PEER.parse().unwrap(), 9))).unwrap();
    s
}

fn send(b: &Bench, s: &Socket, data: &[u8]) -> Vec<Vec<u8>> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(data)], 0)).unwrap();
    b.wire.take()
}

/// The numbers of a packet's headers in order, the last one the upper layer's, and where that begins.
fn heads(packet: &[u8]) -> (Vec<u8>, usize) {
    let (mut numbers, mut at) = (vec![packet[6]], ipv6::HEADER_LEN);
    while let Some(&number) = numbers.last().filter(|n| is_extension(**n)) {
        numbers.push(packet[at]);
        at += if number == proto::FRAGMENT { ipv6::FRAGMENT_HEADER_LEN } else { header_len(&packet[at..]) };
    }
    (numbers, at)
}

fn numbers(packet: &[u8]) -> Vec<u8> {
    heads(packet).0
}

#[test]
fn headers_are_chained_in_the_order_of_rfc_8200() {
    use proto::{DSTOPTS, HOPOPTS, ROUTING, UDP};
    for (case, set, want) in [
        ("hop by hop", &[IPV6_HOPOPTS][..], &[HOPOPTS, UDP][..]),
        ("for the destination", &[IPV6_DSTOPTS], &[DSTOPTS, UDP]),
        ("before a routing header, of which there is none", &[IPV6_RTHDRDSTOPTS], &[UDP]),
        ("both", &[IPV6_DSTOPTS, IPV6_HOPOPTS], &[HOPOPTS, DSTOPTS, UDP]),
        (
            "all",
            &[IPV6_RTHDR, IPV6_DSTOPTS, IPV6_RTHDRDSTOPTS, IPV6_HOPOPTS],
            &[HOPOPTS, DSTOPTS, ROUTING, DSTOPTS, UDP],
        ),
    ] {
        let b = bench(1500);
        let s = udp_socket(&b);
        for &name in set {
            let value = if name == IPV6_RTHDR { segments("fd00::9") } else { options(DST) };
            s.setsockopt(libc::SOL_IPV6, name, &value).unwrap();
        }
        let sent = send(&b, &s, b"x");
        assert_eq!(numbers(&sent[0]), want, "{case}");
    }
}

#[test]
fn a_packet_goes_to_the_first_segment_and_its_checksum_is_for_the_last() {
    let b = bench(1500);
    let s = udp_socket(&b);
    s.setsockopt(libc::SOL_IPV6, IPV6_RTHDR, &segments("fd00::9")).unwrap();
    let sent = send(&b, &s, b"hello");
    let ip = Ipv6Header::parse(&sent[0]).unwrap();
    assert_eq!((ip.dst(), ip.next_header()), ("fd00::9".parse().unwrap(), proto::ROUTING));
    let payload = ip.payload();
    assert_eq!(payload[8..24], PEER.parse::<Ipv6Addr>().unwrap().octets(), "the end is the first entry");
    let u = UdpHeader::parse(&payload[40..]).unwrap();
    assert!(u.checksum_ok(OWN.parse().unwrap(), PEER.parse().unwrap()) && u.payload() == b"hello");
    // Mobile IPv6's has one address, and the packet goes there.
    let mut mobile = vec![0, 2, ROUTING_MOBILE, 1, 0, 0, 0, 0];
    mobile.extend("fd00::8".parse::<Ipv6Addr>().unwrap().octets());
    s.setsockopt(libc::SOL_IPV6, IPV6_RTHDR, &mobile).unwrap();
    let sent = send(&b, &s, b"hello");
    let ip = Ipv6Header::parse(&sent[0]).unwrap();
    assert_eq!(ip.dst(), "fd00::8".parse::<Ipv6Addr>().unwrap());
    assert_eq!(ip.payload()[8..24], PEER.parse::<Ipv6Addr>().unwrap().octets());
}

/// Lengths as seen on the kernel with these headers and an MTU of 1300: without a routing header both kinds of options
/// are in front of every fragment.
#[test]
fn fragments_have_the_headers_that_linux_puts_in_front_of_each() {
    use proto::{DSTOPTS, FRAGMENT, HOPOPTS, ROUTING, UDP};
    type Case<'a> = (&'a [(i32, Vec<u8>)], usize, &'a [usize], &'a [u8]);
    let cases: [Case<'_>; 3] = [
        (
            &[(IPV6_HOPOPTS, options(HOP)), (IPV6_DSTOPTS, options(DST))],
            3000,
            &[1256, 1256, 568],
            &[HOPOPTS, DSTOPTS, FRAGMENT, UDP],
        ),
        (&[(IPV6_DSTOPTS, options(DST))], 3000, &[1256, 1256, 544], &[DSTOPTS, FRAGMENT, UDP]),
        (
            &[(IPV6_DSTOPTS, options(DST)), (IPV6_RTHDR, segments("fd00::9")), (IPV6_RTHDRDSTOPTS, options(DST))],
            2000,
            &[1256, 872],
            &[DSTOPTS, ROUTING, FRAGMENT, DSTOPTS, UDP],
        ),
    ];
    for (set, len, want, first) in cases {
        let b = bench(1300);
        let s = udp_socket(&b);
        for (name, value) in set {
            s.setsockopt(libc::SOL_IPV6, *name, value).unwrap();
        }
        let sent = send(&b, &s, &vec![7; len]);
        let lens: Vec<usize> = sent.iter().map(|p| p.len() - ipv6::HEADER_LEN).collect();
        assert_eq!(lens, want, "{first:?}");
        assert_eq!(numbers(&sent[0]), first);
        for p in &sent {
            let front = &numbers(p)[..first.iter().position(|n| *n == FRAGMENT).unwrap() + 1];
            assert!(first.starts_with(front), "{front:?}");
        }
        assert_eq!(b.stack.mib.get(Mib::Ip6FragOKs), 1);
        assert_eq!(b.stack.mib.get(Mib::Ip6OutRequests), 1);
    }
}

#[test]
fn every_piece_of_a_super_packet_has_the_headers_and_a_checksum_for_its_end() {
    let (src, to): (Ipv6Addr, Ipv6Addr) = (OWN.parse().unwrap(), PEER.parse().unwrap());
    let mut long = options(DST);
    long[1] = 30;
    long.resize(248, 0);
    for headers in [
        TxHeaders { hop: options(HOP), ..TxHeaders::default() },
        TxHeaders { dst1: long, ..TxHeaders::default() },
        TxHeaders { routing: segments("fd00::9"), ..TxHeaders::default() },
    ] {
        let b = bench(1500);
        let dst = route::lookup(&b.stack, to.into(), None, 0).unwrap();
        let mut skb = Skb::from_slice(&[5; 2500]);
        udp::emit_header(skb.push(8).unwrap(), 1, 2, 2500);
        udp::fill_partial_checksum(skb.head_mut(), src.into(), to.into(), 2508);
        skb.csum = Csum::Partial { start: 0, offset: udp::CHECKSUM_OFFSET as u16 };
        (skb.gso_size, skb.gso_type, skb.l3) = (1000, GsoType::Udp, L3::V6);
        let chain = Chain::new(&headers, to, proto::UDP);
        let tx = IpTx::new(src.into(), first_hop(Some(&headers), to.into()), proto::UDP, 64, Instant::ZERO);
        xmit_with_headers(&b.stack, &dst, &tx, &chain, skb, false).unwrap();
        let sent = b.wire.take();
        assert_eq!(sent.len(), 3, "{headers:?}");
        for (p, len) in sent.iter().zip([1000, 1000, 500]) {
            assert_eq!(p[40..40 + chain.bytes.len()], chain.bytes);
            let u = UdpHeader::parse(&p[40 + chain.bytes.len()..]).unwrap();
            assert!(u.checksum_ok(src.into(), to.into()) && u.payload().len() == len);
        }
    }
}

#[test]
fn segment_lists_that_are_not_whole_are_refused() {
    let with = |at: usize, n: u8| {
        let mut h = segments("fd00::9");
        h.extend([5, 6, 0, 0, 0, 0, 0, 0]);
        h[1] += 1;
        h[at] = n;
        h
    };
    let whole = with(0, 0);
    for (case, h, ok) in [
        ("whole, with an object behind", whole.clone(), true),
        ("another length", whole[..40].to_vec(), false),
        ("the next segment is beyond the last", with(3, 2), false),
        ("the last segment is beyond the end", with(4, 2), false),
        ("an object is longer than the rest", with(41, 7), false),
        ("a byte is left over", with(41, 5), false),
        ("type 0", with(2, 0), false),
        ("type 3", with(2, 3), false),
        ("Mobile IPv6, with two addresses", with(2, 2), false),
    ] {
        assert_eq!(check_sticky(IPV6_RTHDR, &h).is_ok(), ok, "{case}");
    }
}

#[test]
fn options_headers_need_a_privilege_that_programs_of_a_shared_stack_lack() {
    let b = bench(1500);
    let s = udp_socket(&b);
    b.stack.share();
    for name in [IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_RTHDRDSTOPTS] {
        assert_eq!(s.setsockopt(libc::SOL_IPV6, name, &options(DST)), Err(Error::Perm));
        assert_eq!(s.setsockopt(libc::SOL_IPV6, name, &[]), Err(Error::Perm));
        let control = Control::Other { level: libc::SOL_IPV6, ty: name, data: options(DST) };
        let data = [IoSlice::new(b"x")];
        let mut msg = SendMsg::new(&data, 0);
        msg.control.push(control);
        assert_eq!(s.sendmsg(&mut msg), Err(Error::Perm));
    }
    assert_eq!(s.setsockopt(libc::SOL_IPV6, IPV6_RTHDR, &segments("fd00::9")), Ok(()));
}

/// A connection to a peer whose SYN-ACK has an MSS of 1440 and no other option.
fn connected(b: &Bench, set: &[(i32, Vec<u8>)]) -> Socket {
    let s = Socket::new(&b.stack, libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    for (name, value) in set {
        s.setsockopt(libc::SOL_IPV6, *name, value).unwrap();
    }
    let _ = s.connect(Some(SocketAddr::new(PEER.parse().unwrap(), 9)));
    let syn = b.wire.take().remove(0);
    let th = TcpHeader::parse(&syn[heads(&syn).1..]).unwrap();
    let repr = TcpRepr {
        src_port: 9,
        dst_port: th.src_port(),
        seq: SeqNum(1),
        ack: th.seq() + 1,
        flags: TcpFlags::SYN | TcpFlags::ACK,
        window: RawWindow(65_535),
        urgent: 0,
        options_len: 4,
    };
    let mut segment = [0; 24];
    repr.emit(&mut segment);
    segment[20..].copy_from_slice(&[2, 4, 0x05, 0xa0]);
    let (src, dst): (Ipv6Addr, Ipv6Addr) = (PEER.parse().unwrap(), OWN.parse().unwrap());
    tcp::fill_checksum(&mut segment, src.into(), dst.into());
    let mut packet = vec![0; 40];
    let ip = crate::wire::ipv6::Ipv6Repr::new(src, dst, proto::TCP, 24);
    ip.emit(&mut packet);
    packet.extend(segment);
    b.inject(&packet);
    s
}

fn mss(s: &Socket) -> i32 {
    let mut v = [0; 4];
    s.getsockopt(libc::IPPROTO_TCP, libc::TCP_MAXSEG, &mut v).unwrap();
    i32::from_ne_bytes(v)
}

/// The differences are the kernel's.
#[test]
fn a_streams_headers_take_of_its_segments() {
    let b = bench(1500);
    let plain = connected(&b, &[]);
    assert_eq!(mss(&plain), 1440);
    let set = |name, value: &[u8]| plain.setsockopt(libc::SOL_IPV6, name, value).unwrap();
    set(IPV6_DSTOPTS, &options(DST));
    assert_eq!(mss(&plain), 1432);
    set(IPV6_DSTOPTS, &[]);
    assert_eq!(mss(&plain), 1432, "the room of the last header is kept");
    set(IPV6_HOPOPTS, &options(HOP));
    set(IPV6_DSTOPTS, &options(DST));
    assert_eq!(mss(&plain), 1424);
    set(IPV6_DSTOPTS, &[]);
    assert_eq!(mss(&plain), 1432);
    set(IPV6_RTHDRDSTOPTS, &options(DST));
    assert_eq!(mss(&plain), 1424, "counted without a routing header, too");
    let s = connected(&b, &[(IPV6_HOPOPTS, options(HOP))]);
    assert_eq!(mss(&s), 1432);
    let sent = send(&b, &s, &[9; 5000]);
    let lens: Vec<usize> = sent.iter().map(Vec::len).collect();
    assert_eq!(lens, [1500, 1500, 1500, 5000 - 3 * 1432 + 68]);
    for p in &sent {
        assert_eq!(numbers(p), [proto::HOPOPTS, proto::TCP]);
        let segment = &p[heads(p).1..];
        assert!(TcpHeader::parse(segment).unwrap().checksum_ok(OWN.parse().unwrap(), PEER.parse().unwrap()));
    }
}

/// ICMPv6 port unreachable about this packet.
fn unreachable(packet: &[u8]) -> Vec<u8> {
    let (src, dst): (Ipv6Addr, Ipv6Addr) = (PEER.parse().unwrap(), OWN.parse().unwrap());
    let mut message = [&[1, 4, 0, 0, 0, 0, 0, 0], packet].concat();
    let pseudo = checksum::pseudo_header(src.into(), dst.into(), proto::ICMPV6, message.len() as u32);
    let sum = checksum::finish(checksum::sum(&message, pseudo));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut out = vec![0x60, 0, 0, 0, 0, message.len() as u8, proto::ICMPV6, 64];
    out.extend([src.octets(), dst.octets()].concat());
    [out, message].concat()
}

#[test]
fn an_error_about_a_packet_with_headers_is_its_sockets() {
    let b = bench(1500);
    let s = udp_socket(&b);
    s.setsockopt(libc::SOL_IPV6, IPV6_HOPOPTS, &options(HOP)).unwrap();
    s.setsockopt(libc::SOL_IPV6, IPV6_DSTOPTS, &options(DST)).unwrap();
    let sent = send(&b, &s, b"x");
    assert_eq!(numbers(&sent[0]), [proto::HOPOPTS, proto::DSTOPTS, proto::UDP]);
    b.inject(&unreachable(&sent[0]));
    let mut error = [0; 4];
    s.getsockopt(libc::SOL_SOCKET, libc::SO_ERROR, &mut error).unwrap();
    assert_eq!(i32::from_ne_bytes(error), libc::ECONNREFUSED);
}
