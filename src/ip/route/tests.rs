use super::*;
use crate::base::env::Duration;
use crate::device::capture_test::{Bench, Capture};
use crate::ip::exception::update_pmtu;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn cidr(s: &str) -> Cidr {
    s.parse().unwrap()
}

/// A stack with tun0 (10.0.0.1/24, fd00::1/64) and tun1 (10.1.0.1/16, fd01::1/64).
fn two_links() -> (Bench, Arc<NetDev>) {
    let b = Bench::on_ip();
    let second = b.stack.add_device(Capture::ip("tun1", 1400)).unwrap();
    add_address(&b.stack, &second, cidr("10.1.0.1/16")).unwrap();
    add_address(&b.stack, &second, cidr("fd01::1/64")).unwrap();
    (b, second)
}

#[test]
fn the_longest_prefix_wins_and_of_equals_the_least_metric() {
    let (b, second) = two_links();
    let add = |dst: &str, via: &str, metric| {
        add_route(&b.stack, RouteSpec { metric, ..RouteSpec::new(cidr(dst)).via(ip(via)) }).unwrap()
    };
    add("0.0.0.0/0", "10.0.0.254", 0);
    add("192.168.0.0/16", "10.1.0.254", 20);
    add("192.168.0.0/16", "10.0.0.253", 10);
    add("192.168.7.0/24", "10.1.0.253", 0);
    add("::/0", "fd00::fe", 0);
    add("2001:db8::/32", "fd01::fe", 0);
    for (dst, dev, via, src) in [
        ("10.0.0.9", "tun0", None, "10.0.0.1"),
        ("10.1.200.9", "tun1", None, "10.1.0.1"),
        ("8.8.8.8", "tun0", Some("10.0.0.254"), "10.0.0.1"),
        ("192.168.1.1", "tun0", Some("10.0.0.253"), "10.0.0.1"),
        ("192.168.7.1", "tun1", Some("10.1.0.253"), "10.1.0.1"),
        ("2001:db9::1", "tun0", Some("fd00::fe"), "fd00::1"),
        ("2001:db8::1", "tun1", Some("fd01::fe"), "fd01::1"),
        ("127.0.0.1", "lo", None, "127.0.0.1"),
        ("127.3.0.1", "lo", None, "127.0.0.1"),
        ("10.1.0.1", "lo", None, "10.1.0.1"),
        ("::1", "lo", None, "::1"),
        ("fd01::1", "lo", None, "fd01::1"),
    ] {
        let d = lookup(&b.stack, ip(dst), None, 0).unwrap();
        assert_eq!(d.dev.device().name(), dev, "{dst}");
        assert_eq!(d.gateway, via.map(ip), "{dst}");
        assert_eq!(d.src, ip(src), "{dst}");
        assert_eq!(d.kind == DstKind::Local, dev == "lo", "{dst}");
    }
    let bound = lookup(&b.stack, ip("10.0.0.9"), None, second.ifindex).unwrap();
    assert_eq!(bound.dev.ifindex, second.ifindex);
}

#[test]
fn routes_are_listed_by_prefix_and_the_local_ones_last() {
    let (b, second) = two_links();
    add_route(&b.stack, RouteSpec::new(cidr("0.0.0.0/0")).via(ip("10.0.0.254"))).unwrap();
    let shown = |r: &RouteSpec| (r.dst.to_string(), r.gateway, r.dev.as_ref().map(|d| d.ifindex), r.kind);
    let all: Vec<_> = list(&b.stack).iter().map(shown).collect();
    let at =
        |dst: &str, gateway, dev, kind| all.iter().position(|r| *r == (dst.to_owned(), gateway, dev, kind)).unwrap();
    let places = [
        at("10.0.0.0/24", None, Some(2), RouteKind::Unicast),
        at("10.1.0.0/16", None, Some(second.ifindex), RouteKind::Unicast),
        at("0.0.0.0/0", Some(ip("10.0.0.254")), Some(2), RouteKind::Unicast),
        at("10.1.0.1/32", None, Some(second.ifindex), RouteKind::Local),
    ];
    assert!(places.is_sorted(), "{all:#?}");
}

#[test]
fn a_super_packet_is_as_long_as_device_and_administrator_allow() {
    let (b, second) = two_links();
    for (set, want) in [(0, 65_536), (9_000, 9_000), (100_000, 65_536)] {
        second.set_gso_max_size(set);
        b.stack.rt_genid_bump();
        let d = lookup(&b.stack, ip("10.1.0.9"), None, 0).unwrap();
        assert_eq!(d.dev.caps().gso_max_size, want, "{set}");
    }
}

#[test]
fn broadcasts_and_groups_are_told_from_hosts() {
    let (b, second) = two_links();
    for (dst, oif, want) in [
        ("10.0.0.255", 0, Ok(DstKind::Broadcast)),
        ("10.0.0.0", 0, Ok(DstKind::Unicast)),
        ("10.1.255.255", 0, Ok(DstKind::Broadcast)),
        ("255.255.255.255", 0, Err(Error::NetUnreach)),
        ("255.255.255.255", 2, Ok(DstKind::Broadcast)),
        ("224.1.1.1", 0, Err(Error::NetUnreach)),
        ("224.1.1.1", 2, Ok(DstKind::Multicast)),
        ("ff02::1", 0, Ok(DstKind::Multicast)),
        ("ff02::1", second.ifindex, Ok(DstKind::Multicast)),
        ("9.9.9.9", 0, Err(Error::NetUnreach)),
        ("2001:db8::1", 0, Err(Error::NetUnreach)),
        ("10.0.0.9", 77, Err(Error::NoDev)),
    ] {
        assert_eq!(lookup(&b.stack, ip(dst), None, oif).map(|d| d.kind), want, "{dst} by {oif}");
    }
    assert_eq!(b.stack.mib.get(Mib::IpOutNoRoutes), 4);
    assert_eq!(b.stack.mib.get(Mib::Ip6OutNoRoutes), 1);
}

#[test]
fn routes_that_refuse_say_which_way() {
    let (b, _) = two_links();
    for (kind, want) in [
        (RouteKind::Unreachable, Error::HostUnreach),
        (RouteKind::Prohibit, Error::Acces),
        (RouteKind::Blackhole, Error::Inval),
    ] {
        replace_route(&b.stack, RouteSpec { kind, ..RouteSpec::new(cidr("20.0.0.0/8")) }).unwrap();
        assert_eq!(lookup(&b.stack, ip("20.1.1.1"), None, 0).map(|_| ()), Err(want));
    }
}

#[test]
fn bad_routes_are_refused_with_the_errno_of_ip_route() {
    let (b, _) = two_links();
    let via = |dst: &str, gw: &str| RouteSpec::new(cidr(dst)).via(ip(gw));
    add_route(&b.stack, via("0.0.0.0/0", "10.0.0.254")).unwrap();
    for (spec, want) in [
        (via("0.0.0.0/0", "10.0.0.254"), Error::Exist),
        (via("30.0.0.0/8", "172.16.0.1"), Error::NetUnreach),
        (via("30.0.0.0/8", "10.0.0.1"), Error::Inval),
        (via("30.0.0.0/8", "fd00::2"), Error::Inval),
        (RouteSpec::new(cidr("30.0.0.0/8")), Error::Inval),
        (RouteSpec { src: Some(ip("10.0.0.77")), ..via("30.0.0.0/8", "10.0.0.254") }, Error::Inval),
    ] {
        let text = format!("{} via {:?}", spec.dst, spec.gateway);
        assert_eq!(add_route(&b.stack, spec), Err(want), "{text}");
    }
    assert_eq!(del_route(&b.stack, cidr("31.0.0.0/8"), None, 0), Err(Error::Srch));
    del_route(&b.stack, cidr("0.0.0.0/0"), Some(ip("10.0.0.254")), 0).unwrap();
    assert_eq!(lookup(&b.stack, ip("8.8.8.8"), None, 0).map(|_| ()), Err(Error::NetUnreach));
}

#[test]
fn an_address_takes_its_routes_with_it_when_it_goes() {
    let (b, second) = two_links();
    assert!(is_local(&b.stack, ip("10.1.0.1")) && is_local(&b.stack, ip("127.99.0.1")));
    assert_eq!(add_address(&b.stack, &second, cidr("10.1.0.1/16")), Err(Error::Exist));
    let before = lookup(&b.stack, ip("10.1.0.9"), None, 0).unwrap();
    del_address(&b.stack, &second, cidr("10.1.0.1/16")).unwrap();
    assert!(!before.check(&b.stack));
    assert!(!is_local(&b.stack, ip("10.1.0.1")));
    assert_eq!(lookup(&b.stack, ip("10.1.0.9"), None, 0).map(|_| ()), Err(Error::NetUnreach));
    assert_eq!(lookup(&b.stack, ip("10.1.255.255"), None, 0).map(|_| ()), Err(Error::NetUnreach));
    assert_eq!(del_address(&b.stack, &second, cidr("10.1.0.1/16")), Err(Error::AddrNotAvail));
}

#[test]
fn a_cached_destination_is_the_same_until_something_changes() {
    let (b, _) = two_links();
    let one = lookup(&b.stack, ip("10.0.0.9"), None, 0).unwrap();
    let two = lookup(&b.stack, ip("10.0.0.9"), None, 0).unwrap();
    assert!(Arc::ptr_eq(&one, &two));
    add_route(&b.stack, RouteSpec { mtu: 1300, ..RouteSpec::new(cidr("10.0.0.9/32")).via_dev(&b.dev) }).unwrap();
    let three = lookup(&b.stack, ip("10.0.0.9"), None, 0).unwrap();
    assert_eq!((one.mtu, three.mtu), (1500, 1300));
}

#[test]
fn a_learned_path_mtu_has_a_floor_and_an_end() {
    let (b, _) = two_links();
    let (v4, v6) = (ip("10.0.0.9"), ip("fd00::9"));
    let mtu = |d: IpAddr| lookup(&b.stack, d, None, 0).map(|d| (d.mtu, d.mtu_locked)).unwrap();
    let now = b.stack.now();
    assert_eq!(update_pmtu(&b.stack, v4, 1400, now), Some(1400));
    assert_eq!(update_pmtu(&b.stack, v6, 1400, now), Some(1400));
    assert_eq!((mtu(v4), mtu(v6)), ((1400, false), (1400, false)));
    // Larger ones, and an IPv6 one below the minimum, change nothing.
    assert_eq!(update_pmtu(&b.stack, v4, 1450, now), Some(1400));
    assert_eq!(update_pmtu(&b.stack, v6, 1279, now), Some(1400));
    // Below the floor DF is given up.
    assert_eq!(update_pmtu(&b.stack, v4, 68, now), Some(552));
    assert_eq!(mtu(v4), (552, true));
    b.advance(Duration::from_secs(599));
    assert_eq!(mtu(v4).0, 552);
    b.advance(Duration::from_secs(2));
    assert_eq!((mtu(v4), mtu(v6)), ((1500, false), (1500, false)));
}

#[test]
fn ipv6_sources_follow_rfc_6724() {
    let (b, second) = two_links();
    for a in ["fe80::1/64", "2001:db8:1::1/64", "2001:db8:2::1/64"] {
        add_address(&b.stack, &b.dev, cidr(a)).unwrap();
    }
    add_address(&b.stack, &second, cidr("fe80::2/64")).unwrap();
    add_route(&b.stack, RouteSpec::new(cidr("::/0")).via_dev(&b.dev)).unwrap();
    for (dst, oif, want) in [
        ("fe80::9", b.dev.ifindex, "fe80::1"),
        ("fe80::9", second.ifindex, "fe80::2"),
        ("2001:db8:2::9", 0, "2001:db8:2::1"),
        ("2001:db8:1::9", 0, "2001:db8:1::1"),
        ("fd00::9", 0, "fd00::1"),
        ("ff02::1", b.dev.ifindex, "fe80::1"),
    ] {
        assert_eq!(lookup(&b.stack, ip(dst), None, oif).unwrap().src, ip(want), "{dst}");
    }
}

#[test]
fn the_unspecified_address_stands_for_this_host() {
    let (b, second) = two_links();
    for (dst, src, oif, want) in [
        ("0.0.0.0", None, 0, "127.0.0.1"),
        ("0.0.0.0", Some("0.0.0.0"), 0, "127.0.0.1"),
        ("0.0.0.0", Some("127.0.0.9"), 0, "127.0.0.9"),
        ("0.0.0.0", Some("10.0.0.1"), 0, "10.0.0.1"),
        ("0.0.0.0", None, second.ifindex, "10.1.0.1"),
        ("0.0.0.0", Some("10.0.0.1"), second.ifindex, "10.0.0.1"),
        ("::", None, 0, "::1"),
        ("::", Some("fd00::1"), 0, "::1"),
    ] {
        let src = src.map(ip);
        assert_eq!(this_host(&b.stack, ip(dst), src, oif), ip(want), "{dst} from {src:?} by {oif}");
        let d = lookup(&b.stack, ip(dst), src, oif).unwrap();
        assert_eq!((d.kind, d.dev.ifindex), (DstKind::Local, 1), "{dst} from {src:?} by {oif}");
    }
    for other in ["10.0.0.9", "fd00::9", "127.0.0.5"] {
        assert_eq!(this_host(&b.stack, ip(other), Some(ip("127.0.0.9")), 0), ip(other));
    }
}

#[test]
fn an_address_of_the_loopback_network_is_no_source_on_a_link() {
    let (b, second) = two_links();
    add_route(&b.stack, RouteSpec::new(cidr("0.0.0.0/0")).via(ip("10.0.0.254"))).unwrap();
    for (dst, oif, want) in [
        ("10.0.0.9", 0, Err(Error::Inval)),
        ("8.8.8.8", 0, Err(Error::Inval)),
        ("10.0.0.255", 0, Err(Error::Inval)),
        ("239.1.2.3", second.ifindex, Err(Error::Inval)),
        // Without a device a group is reached by that of the source.
        ("239.1.2.3", 0, Ok(1)),
        ("255.255.255.255", 0, Ok(1)),
        ("10.0.0.1", 0, Ok(1)),
        ("127.9.9.9", 0, Ok(1)),
    ] {
        let found = lookup(&b.stack, ip(dst), Some(ip("127.0.0.1")), oif).map(|d| d.dev.ifindex);
        assert_eq!(found, want, "{dst} by {oif}");
    }
}

/// What calls answer while IPv6 is off, as seen on Linux 6.18.
#[test]
fn with_ipv6_off_no_address_of_it_is_here_and_nothing_of_it_comes_or_goes() {
    use crate::counters::{DropReason, Mib};
    use crate::inet::Socket;
    use crate::sock::msg::SendMsg;
    use std::io::IoSlice;
    let b = Bench::on_ip();
    let socket = |ty| {
        let s = Socket::new(&b.stack, libc::AF_INET6, ty, 0).unwrap();
        s.set_nonblocking(true);
        s
    };
    let at = |s: &str| s.parse().unwrap();
    let send = |s: &Socket, to: Option<&str>| {
        let slices = [IoSlice::new(b"x")];
        let mut m = SendMsg::new(&slices, libc::MSG_DONTWAIT);
        m.name = to.map(at);
        s.sendmsg(&mut m)
    };
    let bound = socket(libc::SOCK_DGRAM);
    bound.bind(at("[fd00::1]:5000")).unwrap();
    let connected = socket(libc::SOCK_DGRAM);
    connected.connect(Some(at("[fd00::9]:9"))).unwrap();
    let udp = || socket(libc::SOCK_DGRAM);
    let echo = {
        use crate::wire::icmpv6::Message;
        use crate::wire::ipv6::Ipv6Repr;
        let (src, dst) = ("fd00::9".parse().unwrap(), "fd00::1".parse().unwrap());
        let message = Message::Echo { id: 1, seq: 1, data: b"x" };
        let mut p = vec![0; 40 + message.len()];
        message.emit(&mut p[40..], src, dst);
        let payload_len = message.len();
        let (hop_limit, next_header) = (64, crate::wire::proto::ICMPV6);
        Ipv6Repr { hop_limit, ..Ipv6Repr::new(src, dst, next_header, payload_len) }.emit(&mut p);
        p
    };
    for off in [false, true, false] {
        b.stack.sysctl.set("net.ipv6.conf.all.disable_ipv6", if off { "1" } else { "0" }).unwrap();
        let no = |e| if off { Err(e) } else { Ok(()) };
        let not_here = no(Error::AddrNotAvail);
        let unreachable = no(Error::NetUnreach);
        assert_eq!(udp().bind(at("[::1]:0")), not_here);
        assert_eq!(udp().bind(at("[fd00::1]:0")), not_here);
        assert_eq!(udp().bind(at("[::]:0")), Ok(()));
        assert_eq!(udp().connect(Some(at("[::1]:9"))), not_here);
        assert_eq!(udp().connect(Some(at("[fd00::9]:9"))), not_here);
        assert_eq!(udp().connect(Some(at("[::ffff:127.0.0.1]:9"))), Ok(()));
        assert_eq!(send(&udp(), Some("[::1]:9")).map(drop), not_here);
        assert_eq!(send(&udp(), Some("[ff02::1]:9")).map(drop), not_here);
        assert_eq!(send(&bound, Some("[fd00::9]:9")).map(drop), unreachable);
        assert_eq!(send(&connected, None).map(drop), unreachable);
        let tcp = socket(libc::SOCK_STREAM).connect(Some(at("[fd00::9]:1")));
        assert_eq!(tcp, Err(if off { Error::AddrNotAvail } else { Error::InProgress }));
        b.wire.take();
        let before = b.stack.mib.drops(DropReason::Ipv6Disabled);
        let answers = b.inject(&echo).len();
        assert_eq!(answers, usize::from(!off));
        assert_eq!(b.stack.mib.drops(DropReason::Ipv6Disabled) - before, u64::from(off));
    }
    assert_eq!(b.stack.mib.get(Mib::Ip6InDiscards), 1);
}

/// What is remembered by a few bits is not taken for another of the same bits.
#[test]
fn each_of_many_destinations_has_a_route_of_its_own() {
    let (b, second) = two_links();
    let asked: Vec<_> = (1..40)
        .map(|n| ip(&format!("10.1.0.{n}")))
        .flat_map(|dst| {
            [(None, 0), (Some(ip("10.0.0.1")), 0), (Some(ip("10.1.0.1")), 0), (None, second.ifindex)]
                .map(|(src, oif)| (dst, src, oif))
        })
        .collect();
    let own = |(dst, src, oif): (IpAddr, Option<IpAddr>, u32)| {
        let found = lookup(&b.stack, dst, src, oif).unwrap();
        assert_eq!(
            (found.is_between(src.unwrap_or(ip("10.1.0.1")), dst), found.generation),
            (true, b.stack.rt_genid())
        );
        Arc::as_ptr(&found)
    };
    let first: Vec<_> = asked.iter().map(|a| own(*a)).collect();
    let again: Vec<_> = asked.iter().rev().map(|a| own(*a)).collect();
    assert!(first.iter().eq(again.iter().rev()), "each is the one that was found first");
    b.stack.rt_genid_bump();
    asked.iter().for_each(|a| assert_eq!(own(*a), own(*a)));
}
