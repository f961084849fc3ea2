//! Sockets of UDP on a device and on loopback.
//!
//! | file | what |
//! |---|---|
//! | `checksum` | when datagrams are summed, and what IP_CHECKSUM tells |
//! | `errors` | what ICMP says of them |
//! | `groups` | multicast |

use super::*;
use crate::base::env::Instant;
use crate::counters::{DropReason, Mib};
use crate::device::capture_test::{Bench, Capture};
use crate::device::netdev::NetDev;
use crate::inet::Socket;
use crate::ip;
use crate::sock::msg::Control;
use crate::sock::pages::Pages;
use crate::trace::Event;
use crate::wire::ip::{Ipv4Header, Ipv4Repr};
use crate::wire::proto;
use crate::wire::udp::{self, UdpHeader};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

mod checksum;
mod errors;
mod groups;

pub(super) use errors::frag_needed;

const DONTWAIT: i32 = libc::MSG_DONTWAIT;

pub(super) fn at(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

fn socket(b: &Bench, family: i32) -> Socket {
    Socket::new(&b.stack, family, libc::SOCK_DGRAM, 0).unwrap()
}

pub(super) fn bound(b: &Bench, addr: &str) -> Socket {
    let a = at(addr);
    let s = socket(b, if a.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
    s.bind(a).unwrap();
    s
}

pub(super) fn send_to(s: &Socket, data: &[u8], to: Option<&str>, flags: i32, control: Vec<Control>) -> Result<usize> {
    let slices = [IoSlice::new(data)];
    let mut m = SendMsg::new(&slices, flags | DONTWAIT);
    m.name = to.map(at);
    m.control = control;
    s.sendmsg(&mut m)
}

struct Got {
    data: Vec<u8>,
    len: usize,
    name: Option<SocketAddr>,
    control: Vec<Control>,
    flags: i32,
}

fn recv_from(s: &Socket, room: usize, flags: i32) -> Result<Got> {
    let mut buf = vec![0; room];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut m = RecvMsg::new(&mut slices, flags | DONTWAIT);
    let len = s.recvmsg(&mut m)?;
    let (name, control, flags) = (m.name, std::mem::take(&mut m.control), m.out_flags);
    buf.truncate(len.min(room));
    Ok(Got { data: buf, len, name, control, flags })
}

/// A datagram as received from the wire.
pub(super) fn datagram_v4(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (at(src), at(dst));
    let mut u = vec![0; 8];
    udp::emit_header(&mut u, src.port(), dst.port(), payload.len());
    u.extend(payload);
    udp::fill_checksum(&mut u, src.ip(), dst.ip());
    let (IpAddr::V4(s), IpAddr::V4(d)) = (src.ip(), dst.ip()) else { panic!("IPv4 only") };
    let mut p = vec![0; 20];
    let repr = Ipv4Repr {
        src: s,
        dst: d,
        protocol: proto::UDP,
        ttl: 61,
        tos: 0x28,
        id: 7,
        dont_fragment: false,
        more_fragments: false,
        frag_offset: 0,
        payload_len: u.len(),
    };
    repr.emit(&mut p);
    p.extend(u);
    p
}

#[test]
fn a_datagram_goes_there_and_its_answer_comes_back_in_both_families() {
    for (server, client) in [
        ("127.0.0.1:5000", "127.0.0.1:0"),
        ("[::1]:5000", "[::1]:0"),
        ("10.0.0.1:5000", "127.0.0.1:0"),
        ("[fd00::1]:5000", "[::]:0"),
    ] {
        let b = Bench::on_ip();
        let (s, c) = (bound(&b, server), bound(&b, client));
        assert_eq!(send_to(&c, b"ping", Some(server), 0, vec![]), Ok(4), "{server}");
        let got = recv_from(&s, 100, 0).unwrap();
        assert_eq!(got.data, b"ping");
        assert_eq!(got.name.unwrap().port(), c.local_addr().unwrap().port());
        assert_eq!(send_to(&s, b"pong", Some(&got.name.unwrap().to_string()), 0, vec![]), Ok(4), "{server}");
        assert_eq!(recv_from(&c, 100, 0).unwrap().name, Some(at(server)));
        assert_eq!(recv_from(&c, 100, 0).err(), Some(Error::Again));
    }
}

#[test]
fn a_dual_stack_socket_shows_ipv4_peers_mapped_and_a_v6only_one_has_none() {
    let b = Bench::on_ip();
    let s = bound(&b, "[::]:5000");
    let c = bound(&b, "127.0.0.1:6000");
    send_to(&c, b"x", Some("127.0.0.1:5000"), 0, vec![]).unwrap();
    assert_eq!(recv_from(&s, 10, 0).unwrap().name, Some(at("[::ffff:127.0.0.1]:6000")));
    send_to(&s, b"y", Some("[::ffff:127.0.0.1]:6000"), 0, vec![]).unwrap();
    assert_eq!(recv_from(&c, 10, 0).unwrap().data, b"y");
    let only = socket(&b, libc::AF_INET6);
    only.setsockopt(libc::SOL_IPV6, libc::IPV6_V6ONLY, &1i32.to_ne_bytes()).unwrap();
    only.bind(at("[::]:5001")).unwrap();
    assert_eq!(send_to(&only, b"y", Some("[::ffff:127.0.0.1]:6000"), 0, vec![]), Err(Error::NetUnreach));
    send_to(&c, b"x", Some("127.0.0.1:5001"), 0, vec![]).unwrap();
    assert_eq!(recv_from(&only, 10, 0).err(), Some(Error::Again));
}

#[test]
fn two_sockets_share_a_port_only_as_linux_lets_them() {
    let one = 1i32.to_ne_bytes();
    for (case, first, second, option, want) in [
        ("same", "127.0.0.1:5000", "127.0.0.1:5000", None, Err(Error::AddrInUse)),
        ("wildcard", "0.0.0.0:5000", "127.0.0.1:5000", None, Err(Error::AddrInUse)),
        ("two addresses", "10.0.0.1:5000", "127.0.0.1:5000", None, Ok(())),
        ("dual stack", "[::]:5000", "127.0.0.1:5000", None, Err(Error::AddrInUse)),
        ("two families", "[::1]:5000", "127.0.0.1:5000", None, Ok(())),
        ("SO_REUSEADDR", "0.0.0.0:5000", "0.0.0.0:5000", Some(libc::SO_REUSEADDR), Ok(())),
        ("SO_REUSEPORT", "0.0.0.0:5000", "0.0.0.0:5000", Some(libc::SO_REUSEPORT), Ok(())),
    ] {
        let b = Bench::on_ip();
        let make = |a: &str| {
            let s = socket(&b, if at(a).is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
            if let Some(o) = option {
                s.setsockopt(libc::SOL_SOCKET, o, &one).unwrap();
            }
            let r = s.bind(at(a));
            (s, r)
        };
        let (keep, r) = make(first);
        r.unwrap();
        assert_eq!(make(second).1, want, "{case}");
        keep.close();
        assert_eq!(make(second).1, Ok(()), "{case}, after close");
    }
}

#[test]
fn a_reuseport_group_spreads_flows_and_keeps_each_where_it_is() {
    let b = Bench::on_ip();
    let group: Vec<Socket> = (0..4)
        .map(|_| {
            let s = socket(&b, libc::AF_INET);
            s.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32.to_ne_bytes()).unwrap();
            s.bind(at("10.0.0.1:5000")).unwrap();
            s
        })
        .collect();
    for round in 0..2 {
        for port in 1000..1200 {
            b.inject(&datagram_v4(&format!("10.0.0.9:{port}"), "10.0.0.1:5000", b"x"));
        }
        let counts: Vec<usize> = group.iter().map(|s| std::iter::from_fn(|| recv_from(s, 9, 0).ok()).count()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 200);
        assert!(counts.iter().all(|n| *n > 25), "round {round}: {counts:?}");
    }
}

#[test]
fn a_connected_socket_gets_its_peers_datagrams_and_others_get_the_rest() {
    let b = Bench::on_ip();
    let reuse = |s: &Socket| s.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_ne_bytes()).unwrap();
    let (server, connected) = (socket(&b, libc::AF_INET), socket(&b, libc::AF_INET));
    for s in [&server, &connected] {
        reuse(s);
        s.bind(at("10.0.0.1:5000")).unwrap();
    }
    connected.connect(Some(at("10.0.0.9:1000"))).unwrap();
    assert_eq!(connected.peer_addr(), Ok(at("10.0.0.9:1000")));
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"peer"));
    b.inject(&datagram_v4("10.0.0.9:1001", "10.0.0.1:5000", b"other"));
    assert_eq!(recv_from(&connected, 10, 0).unwrap().data, b"peer");
    assert_eq!(recv_from(&server, 10, 0).unwrap().data, b"other");
    connected.connect(None).unwrap();
    assert_eq!(connected.peer_addr(), Err(Error::NotConn));
    assert_eq!(send_to(&connected, b"x", None, 0, vec![]), Err(Error::DestAddrReq));
}

#[test]
fn ports_below_the_first_unprivileged_one_are_for_the_owner_of_the_stack() {
    let b = Bench::on_ip();
    let bind = |family, addr: &str| {
        let s = Socket::new(&b.stack, family, libc::SOCK_DGRAM, 0).unwrap();
        s.bind(at(addr)).and_then(|()| s.bind(at(addr)))
    };
    let twice = |addr| (bind(libc::AF_INET6, addr).err(), bind(libc::AF_INET6, addr).err());
    b.stack.sysctl.set("net.ipv4.ip_unprivileged_port_start", "1024").unwrap();
    assert_eq!(b.stack.sysctl.set("net.ipv4.ip_local_port_range", "1023 40000"), Err(Error::Inval));
    assert_eq!(bind(libc::AF_INET, "10.0.0.1:53"), Err(Error::Inval), "bound already: the owner may");
    b.stack.share();
    assert_eq!(bind(libc::AF_INET, "10.0.0.1:53"), Err(Error::Acces));
    assert_eq!(bind(libc::AF_INET, "10.0.0.2:53"), Err(Error::AddrNotAvail), "whose address comes first");
    assert_eq!(bind(libc::AF_INET, "10.0.0.1:1024"), Err(Error::Inval));
    assert_eq!(bind(libc::AF_INET, "10.0.0.1:0"), Err(Error::Inval));
    for addr in ["[fd00::1]:53", "[fd00::2]:53", "[::ffff:10.0.0.1]:53", "[::]:1023"] {
        assert_eq!(twice(addr), (Some(Error::Acces), Some(Error::Acces)), "{addr}");
    }
    b.stack.sysctl.set("net.ipv4.ip_unprivileged_port_start", "0").unwrap();
    assert_eq!(bind(libc::AF_INET, "10.0.0.1:53"), Err(Error::Inval));
}

#[test]
fn peek_truncation_and_control_data_are_as_recvmsg_says() {
    let b = Bench::on_ip();
    let s = bound(&b, "0.0.0.0:5000");
    for o in [libc::IP_PKTINFO, libc::IP_RECVTTL, libc::IP_RECVTOS] {
        s.setsockopt(libc::SOL_IP, o, &1i32.to_ne_bytes()).unwrap();
    }
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"0123456789"));
    assert_eq!(s.ioctl(libc::FIONREAD), Ok(10));
    let peek = recv_from(&s, 4, libc::MSG_PEEK).unwrap();
    assert_eq!((peek.data.as_slice(), peek.len, peek.flags), (&b"0123"[..], 4, libc::MSG_TRUNC));
    let got = recv_from(&s, 4, libc::MSG_TRUNC).unwrap();
    assert_eq!((got.len, got.flags), (10, libc::MSG_TRUNC));
    let me = "10.0.0.1".parse().unwrap();
    let info = Control::PktInfo { ifindex: b.dev.ifindex, addr: IpAddr::V4(me), spec_dst: Some(me) };
    assert_eq!(got.control, [info, Control::Ttl(61), Control::Tos(0x28)]);
    assert_eq!(s.ioctl(libc::FIONREAD), Ok(0));
}

#[test]
fn pktinfo_says_what_was_asked_for_when_the_datagram_came() {
    let b = Bench::on_ip();
    let s = bound(&b, "0.0.0.0:5000");
    let (me, group) = ("10.0.0.1".parse().unwrap(), "239.1.2.3");
    let mreq = [&[239, 1, 2, 3][..], &[10, 0, 0, 1]].concat();
    s.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq).unwrap();
    for (asked, to, ifindex, spec_dst) in [
        (false, "10.0.0.1", 0, Ipv4Addr::UNSPECIFIED),
        (true, "10.0.0.1", b.dev.ifindex, me),
        // Of a packet to many: what an answer to its sender comes from.
        (true, "10.0.0.255", b.dev.ifindex, me),
        (true, group, b.dev.ifindex, me),
    ] {
        s.setsockopt(libc::SOL_IP, libc::IP_PKTINFO, &i32::from(asked).to_ne_bytes()).unwrap();
        b.inject(&datagram_v4("10.0.0.9:1000", &format!("{to}:5000"), b"x"));
        s.setsockopt(libc::SOL_IP, libc::IP_PKTINFO, &1i32.to_ne_bytes()).unwrap();
        let info = Control::PktInfo { ifindex, addr: to.parse().unwrap(), spec_dst: Some(spec_dst) };
        assert_eq!(recv_from(&s, 9, 0).unwrap().control, [info], "{to}, asked: {asked}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_with_linuxs_errno() {
    let b = Bench::on_ip();
    let s = bound(&b, "0.0.0.0:0");
    let big = vec![0; 65_508];
    let pkt = |addr: &str| vec![Control::PktInfo { ifindex: 0, addr: addr.parse().unwrap(), spec_dst: None }];
    for (case, data, to, flags, control, want) in [
        ("no destination", &b"x"[..], None, 0, vec![], Error::DestAddrReq),
        ("port 0", b"x", Some("10.0.0.9:0"), 0, vec![], Error::Inval),
        ("too long", &big, Some("10.0.0.9:9"), 0, vec![], Error::MsgSize),
        ("out of band", b"x", Some("10.0.0.9:9"), libc::MSG_OOB, vec![], Error::OpNotSupp),
        ("no route", b"x", Some("9.9.9.9:9"), 0, vec![], Error::NetUnreach),
        ("broadcast", b"x", Some("10.0.0.255:9"), 0, vec![], Error::Acces),
        ("another family", b"x", Some("[::1]:9"), 0, vec![], Error::AfNoSupport),
        ("foreign source", b"x", Some("10.0.0.9:9"), 0, pkt("10.0.0.77"), Error::NetUnreach),
        ("ttl 0", b"x", Some("10.0.0.9:9"), 0, vec![Control::Ttl(0)], Error::Inval),
    ] {
        assert_eq!(send_to(&s, data, to, flags, control), Err(want), "{case}");
    }
    s.setsockopt(libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32.to_ne_bytes()).unwrap();
    send_to(&s, b"x", Some("10.0.0.255:9"), 0, vec![]).unwrap();
    s.setsockopt(libc::SOL_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_DO.to_ne_bytes()).unwrap();
    assert_eq!(send_to(&s, &big[..1473], Some("10.0.0.9:9"), 0, vec![]), Err(Error::MsgSize));
    send_to(&s, &big[..1472], Some("10.0.0.9:9"), 0, vec![]).unwrap();
    s.shutdown(1).unwrap_err();
    let discards = || [Mib::IpOutDiscards, Mib::Ip6OutDiscards].map(|mib| b.stack.mib.get(mib));
    assert_eq!(discards(), [0, 0]);
    assert_eq!(send_to(&s, b"x", Some("10.0.0.9:9"), 0, vec![]), Err(Error::Pipe));
    assert_eq!(discards(), [1, 0], "no room in the send buffer for whatever reason (__ip_append_data)");
    let s = bound(&b, "[::]:0");
    s.shutdown(1).unwrap_err();
    assert_eq!(send_to(&s, b"x", Some("[fd00::9]:9"), 0, vec![]), Err(Error::Pipe));
    assert_eq!(discards(), [1, 1]);
}

/// In the order of Linux: what the call says is judged first, and takes the place of what the socket is bound to.
#[test]
fn a_calls_source_and_interface_come_before_the_sockets() {
    let b = Bench::on_ip();
    let at_a_group = bound(&b, "[::ffff:224.0.0.1]:0");
    let from = |addr: &str, ifindex| Control::PktInfo { ifindex, addr: addr.parse().unwrap(), spec_dst: None };
    let send = |s, to, control| send_to(s, b"x", Some(to), 0, control);
    assert_eq!(send(&at_a_group, "127.0.0.1:9", vec![]), Err(Error::Inval));
    assert_eq!(send(&at_a_group, "127.0.0.1:9", vec![from("127.0.0.2", 1)]), Ok(1));
    let at_broadcast = bound(&b, "[::ffff:127.255.255.255]:0");
    assert_eq!(send(&at_broadcast, "127.0.0.1:9", vec![]), Err(Error::NetUnreach));
    assert_eq!(send(&at_broadcast, "127.0.0.1:9", vec![Control::Ttl(256)]), Err(Error::Inval));
    // One that is not that of the destination's scope is not looked for.
    let s = bound(&b, "[::]:0");
    assert_eq!(send(&s, "[ff02::1%1]:9", vec![from("::", 77)]), Err(Error::Inval));
    assert_eq!(send(&s, "[fd00::9]:9", vec![from("::", 77)]), Err(Error::NoDev));
}

#[test]
fn ip_pktinfo_without_an_address_has_the_routes_source_and_not_the_sockets() {
    let b = Bench::on_ip();
    let to = bound(&b, "127.0.0.1:5000");
    for (name, addr, from) in [
        ("127.1.2.3:0", None, "127.1.2.3"),
        ("127.1.2.3:0", Some("0.0.0.0"), "127.0.0.1"),
        ("127.1.2.3:0", Some("127.0.0.2"), "127.0.0.2"),
        ("[::ffff:127.1.2.3]:0", Some("::ffff:0.0.0.0"), "127.0.0.1"),
    ] {
        let s = bound(&b, name);
        let info = addr.map(|a| Control::PktInfo { ifindex: 0, addr: a.parse().unwrap(), spec_dst: None });
        send_to(&s, b"x", Some("127.0.0.1:5000"), 0, info.into_iter().collect()).unwrap();
        let name = recv_from(&to, 9, 0).unwrap().name.unwrap();
        assert_eq!(name.ip(), from.parse::<IpAddr>().unwrap(), "{name} {addr:?}");
    }
}

#[test]
fn a_v4_mapped_address_is_bound_to_on_a_device_that_is_there() {
    let b = Bench::on_ip();
    for (addr, want) in [("[::ffff:127.0.0.1]:5000", Err(Error::NoDev)), ("[::]:5000", Ok(()))] {
        let s = socket(&b, libc::AF_INET6);
        s.setsockopt(libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &77i32.to_ne_bytes()).unwrap();
        assert_eq!(s.bind(at(addr)), want, "{addr}");
    }
}

/// What is expected is what a kernel without IPsec did.
#[test]
fn esp_for_a_host_without_ipsec_is_answered_with_port_unreachable() {
    let b = Bench::on_ip();
    let s = bound(&b, "127.0.0.1:4500");
    s.setsockopt(libc::SOL_UDP, 100, &2i32.to_ne_bytes()).unwrap();
    let c = bound(&b, "127.0.0.1:0");
    c.connect(Some(at("127.0.0.1:4500"))).unwrap();
    for (case, data, got, refused) in [
        ("IKE", &[0; 32][..], Some(32), false),
        ("ESP", &[1; 32], None, true),
        ("no more than its header", &[1; 8], Some(8), false),
        ("less than an IP header", &[1; 19], None, false),
        ("as much", &[1; 20], None, true),
        ("keepalive", &[255], None, false),
    ] {
        send_to(&c, data, None, 0, vec![]).unwrap();
        assert_eq!(recv_from(&s, 99, 0).map(|g| g.len).ok(), got, "{case}");
        let error = if refused { Error::ConnRefused } else { Error::Again };
        assert_eq!(recv_from(&c, 9, 0).err(), Some(error), "{case}");
    }
}

/// Whom only the device's name reaches gets no packet from an address of this host alone (RT_SCOPE_HOST).
#[test]
fn the_loopback_device_without_a_route_gives_no_source() {
    let b = Bench::on_ip();
    for (to, want) in [("240.0.0.1:9", "10.0.0.1"), ("127.0.0.9:9", "127.0.0.1")] {
        let s = socket(&b, libc::AF_INET);
        s.setsockopt(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo").unwrap();
        s.connect(Some(at(to))).unwrap();
        assert_eq!(s.local_addr().unwrap().ip().to_string(), want, "{to}");
    }
}

#[test]
fn a_long_datagram_is_cut_and_comes_together_again() {
    let b = Bench::on_ip();
    let peer = Bench::new(crate::device::capture_test::Capture::ip("tun0", 1500), &["10.0.0.9/24", "fd00::9/64"]);
    let data: Vec<u8> = (0..60_000u32).map(|i| (i / 7) as u8).collect();
    for (from, to) in [("10.0.0.1:0", "10.0.0.9:5000"), ("[fd00::1]:0", "[fd00::9]:5000")] {
        let (c, s) = (bound(&b, from), bound(&peer, to));
        assert_eq!(send_to(&c, &data, Some(to), 0, vec![]), Ok(60_000));
        let sent = b.wire.take();
        assert!(sent.len() > 40 && sent.iter().all(|p| p.len() <= 1500));
        // The last fragment first: order does not matter.
        sent.iter().rev().for_each(|p| drop(peer.inject(p)));
        assert!(recv_from(&s, 65_536, 0).unwrap().data == data, "{to}");
    }
    assert_eq!(peer.stack.mib.get(Mib::IpReasmOKs), 1);
    assert_eq!(peer.stack.mib.get(Mib::Ip6ReasmOKs), 1);
    assert_eq!((ip::net(&peer.stack).frags.usage(true), ip::net(&peer.stack).frags.usage(false)), ((0, 0), (0, 0)));
}

#[test]
fn a_cork_joins_writes_into_one_datagram() {
    let b = Bench::on_ip();
    let c = bound(&b, "10.0.0.1:0");
    let to = Some("10.0.0.9:9");
    assert_eq!(send_to(&c, b"one ", to, libc::MSG_MORE, vec![]), Ok(4));
    assert!(b.wire.take().is_empty());
    assert_eq!(send_to(&c, b"two", None, 0, vec![]), Ok(3));
    let sent = b.wire.take();
    assert_eq!(UdpHeader::parse(Ipv4Header::parse(&sent[0]).unwrap().payload()).unwrap().payload(), b"one two");
    c.setsockopt(SOL_UDP, UDP_CORK, &1i32.to_ne_bytes()).unwrap();
    send_to(&c, b"three ", to, 0, vec![]).unwrap();
    send_to(&c, b"four", to, 0, vec![]).unwrap();
    assert!(b.wire.take().is_empty());
    c.setsockopt(SOL_UDP, UDP_CORK, &0i32.to_ne_bytes()).unwrap();
    let sent = b.wire.take();
    assert_eq!(UdpHeader::parse(Ipv4Header::parse(&sent[0]).unwrap().payload()).unwrap().payload(), b"three four");
}

#[test]
fn a_file_is_one_datagram_whether_it_ends_as_announced_or_sooner() {
    let b = Bench::on_ip();
    let c = bound(&b, "10.0.0.1:0");
    c.connect(Some("10.0.0.9:9".parse().unwrap())).unwrap();
    let payloads = || -> Vec<Vec<u8>> {
        let payload =
            |p: &Vec<u8>| UdpHeader::parse(Ipv4Header::parse(p).unwrap().payload()).unwrap().payload().to_vec();
        b.wire.take().iter().map(payload).collect()
    };
    assert_eq!(c.sendpage(&mut Pages::from(b"one "), libc::MSG_MORE), Ok(4));
    assert_eq!(c.sendpage(&mut Pages::from(b"two"), 0), Ok(3));
    assert_eq!(payloads(), [b"one two"]);
    c.splice_eof();
    assert!(b.wire.take().is_empty(), "nothing waited");
    assert_eq!(c.sendpage(&mut Pages::from(b"short"), libc::MSG_MORE), Ok(5));
    assert!(b.wire.take().is_empty());
    c.splice_eof();
    assert_eq!(payloads(), [b"short"]);
    c.setsockopt(SOL_UDP, UDP_CORK, &1i32.to_ne_bytes()).unwrap();
    assert_eq!(c.sendpage(&mut Pages::from(b"corked"), libc::MSG_MORE), Ok(6));
    c.splice_eof();
    assert!(b.wire.take().is_empty(), "a cork holds");
}

#[test]
fn udp_segment_cuts_on_the_wire_and_gro_shows_it_whole_on_loopback() {
    let b = Bench::on_ip();
    let c = bound(&b, "10.0.0.1:0");
    let data: Vec<u8> = (0..2500).map(|i| i as u8).collect();
    send_to(&c, &data, Some("10.0.0.9:9"), 0, vec![Control::UdpSegment(1000)]).unwrap();
    let sent = b.wire.take();
    let lens: Vec<usize> = sent
        .iter()
        .map(|p| {
            let u = UdpHeader::parse(Ipv4Header::parse(p).unwrap().payload()).unwrap();
            assert!(u.checksum_ok("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap()));
            u.payload().len()
        })
        .collect();
    assert_eq!(lens, [1000, 1000, 500]);
    for (size, want) in [(1473u16, Err(Error::Inval)), (10, Err(Error::Inval)), (1472, Ok(2500))] {
        assert_eq!(send_to(&c, &data, Some("10.0.0.9:9"), 0, vec![Control::UdpSegment(size)]), want, "{size}");
    }
    let s = bound(&b, "127.0.0.1:5000");
    c.setsockopt(SOL_UDP, UDP_SEGMENT, &1000i32.to_ne_bytes()).unwrap();
    send_to(&c, &data, Some("10.0.0.1:5001"), 0, vec![]).unwrap();
    let local = bound(&b, "10.0.0.1:5001");
    send_to(&c, &data, Some("10.0.0.1:5001"), 0, vec![]).unwrap();
    let parts: Vec<Vec<u8>> = std::iter::from_fn(|| recv_from(&local, 9999, 0).ok().map(|g| g.data)).collect();
    assert_eq!(parts.concat(), data);
    assert_eq!(parts.len(), 3);
    local.setsockopt(SOL_UDP, UDP_GRO, &1i32.to_ne_bytes()).unwrap();
    send_to(&c, &data, Some("10.0.0.1:5001"), 0, vec![]).unwrap();
    let whole = recv_from(&local, 9999, 0).unwrap();
    assert_eq!((whole.data, whole.control), (data, vec![Control::UdpGro(1000)]));
    drop(s);
}

#[test]
fn a_full_receive_buffer_drops_and_counts() {
    let b = Bench::on_ip();
    let s = bound(&b, "10.0.0.1:5000");
    s.setsockopt(libc::SOL_SOCKET, libc::SO_RCVBUF, &1i32.to_ne_bytes()).unwrap();
    s.setsockopt(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &1i32.to_ne_bytes()).unwrap();
    for _ in 0..20 {
        b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"x"));
    }
    let dropped = b.stack.mib.get(Mib::UdpRcvbufErrors);
    let taken: Vec<Got> = std::iter::from_fn(|| recv_from(&s, 9, 0).ok()).collect();
    assert!(dropped > 0 && taken.len() + dropped as usize == 20);
    // What was dropped shows in the datagrams that come behind it.
    assert!(taken.iter().all(|got| got.control.is_empty()));
    assert_eq!(b.stack.mib.drops(DropReason::SocketRcvbuff), dropped);
    assert_eq!(s.sock().rmem_alloc.load(Ordering::Relaxed), 0);
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"x"));
    assert_eq!(recv_from(&s, 9, 0).unwrap().control, [Control::RxqOvfl(dropped as u32)]);
}

#[test]
fn damaged_datagrams_are_counted_and_not_delivered() {
    let b = Bench::on_ip();
    let s = bound(&b, "10.0.0.1:5000");
    let good = datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"hello");
    let with = |at: usize, v: u8| {
        let mut p = good.clone();
        p[at] = v;
        p
    };
    for (case, packet, reason) in [
        ("payload", with(30, b'X'), DropReason::UdpCsum),
        ("length beyond the datagram", with(25, 200), DropReason::PktTooSmall),
        ("length below the header", with(25, 7), DropReason::PktTooSmall),
    ] {
        let before = b.stack.mib.drops(reason);
        b.inject(&packet);
        assert_eq!(b.stack.mib.drops(reason), before + 1, "{case}");
    }
    assert_eq!(b.stack.mib.get(Mib::UdpInErrors), 3);
    assert_eq!(recv_from(&s, 9, 0).err(), Some(Error::Again));
    let mut none = good.clone();
    none[26..28].fill(0);
    b.inject(&none);
    assert_eq!(recv_from(&s, 9, 0).unwrap().data, b"hello", "no checksum is right over IPv4");
}

#[test]
fn a_datagram_has_the_departure_time_that_its_call_gives() {
    let b = Bench::new(Capture::ip("wire", 1500), &["10.0.0.1/24"]);
    let s = bound(&b, "10.0.0.1:5000");
    let send = |control| send_to(&s, b"x", Some("10.0.0.2:7"), 0, control);
    let option = |clock: i32, flags: u32| {
        s.setsockopt(libc::SOL_SOCKET, libc::SO_TXTIME, &[clock as u32, flags].map(u32::to_ne_bytes).concat())
    };
    assert_eq!(send(vec![Control::TxTime(1)]), Err(Error::Inval));
    assert_eq!(option(libc::CLOCK_TAI, 0), Err(Error::Perm));
    assert_eq!(option(libc::CLOCK_MONOTONIC, 4), Err(Error::Inval));
    option(libc::CLOCK_MONOTONIC, 0).unwrap();
    for control in [vec![Control::TxTime(101_000_000_000)], vec![], vec![Control::TxTime(0)]] {
        send(control).unwrap();
    }
    assert_eq!(b.wire.times(), [Instant::from_secs(101), Instant::ZERO, Instant::ZERO]);
}

#[test]
fn a_name_with_another_interface_than_the_peers_goes_by_that_one() {
    let b = Bench::on_ip();
    let wire = Capture::ip("tun1", 1400);
    let second = b.stack.add_device(wire.clone()).unwrap();
    for (dev, addr) in [(&b.dev, "fe80::a/64"), (&second, "fe80::b/64")] {
        ip::route::add_address(&b.stack, dev, addr.parse().unwrap()).unwrap();
    }
    let to = |dev: &Arc<NetDev>| format!("[fe80::9%{}]:9", dev.ifindex);
    let s = socket(&b, libc::AF_INET6);
    s.connect(Some(at(&to(&b.dev)))).unwrap();
    b.wire.take();
    assert_eq!(send_to(&s, b"x", Some(&to(&second)), 0, vec![]), Ok(1));
    assert_eq!((b.wire.take().len(), wire.take().len()), (0, 1));
    assert_eq!(send_to(&s, b"x", Some(&to(&b.dev)), 0, vec![]), Ok(1));
    assert_eq!((b.wire.take().len(), wire.take().len()), (1, 0));
}
