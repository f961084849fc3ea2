//! Multicast: groups, and who hears them.

use super::*;
use crate::wire::ipv6::Ipv6Header;

#[test]
fn a_multicast_datagram_reaches_the_members_and_loops_back_unless_disabled() {
    let b = Bench::on_ip();
    let s = bound(&b, "0.0.0.0:5000");
    let mut mreq = [0u8; 8];
    mreq[..4].copy_from_slice(&[239, 1, 1, 1]);
    mreq[4..].copy_from_slice(&[10, 0, 0, 1]);
    b.inject(&datagram_v4("10.0.0.9:1000", "239.1.1.1:5000", b"early"));
    assert_eq!(recv_from(&s, 9, 0).err(), Some(Error::Again));
    s.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq).unwrap();
    assert_eq!(s.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq), Err(Error::AddrInUse));
    b.inject(&datagram_v4("10.0.0.9:1000", "239.1.1.1:5000", b"now"));
    assert_eq!(recv_from(&s, 9, 0).unwrap().data, b"now");
    let c = bound(&b, "10.0.0.1:0");
    c.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_IF, &[10, 0, 0, 1]).unwrap();
    send_to(&c, b"loop", Some("239.1.1.1:5000"), 0, vec![]).unwrap();
    let sent = b.wire.take();
    assert_eq!(Ipv4Header::parse(&sent[0]).unwrap().ttl(), 1);
    assert_eq!(recv_from(&s, 9, 0).unwrap().data, b"loop");
    c.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_LOOP, &[0]).unwrap();
    send_to(&c, b"out", Some("239.1.1.1:5000"), 0, vec![]).unwrap();
    assert_eq!(recv_from(&s, 9, 0).err(), Some(Error::Again));
    s.setsockopt(libc::SOL_IP, libc::IP_DROP_MEMBERSHIP, &mreq).unwrap();
    b.inject(&datagram_v4("10.0.0.9:1000", "239.1.1.1:5000", b"late"));
    assert_eq!(recv_from(&s, 9, 0).err(), Some(Error::Again));
}

#[test]
fn groups_of_ipv6_are_joined_sent_to_and_left_by_option() {
    let b = Bench::on_ip();
    let (r, s) = (bound(&b, "[::]:5000"), socket(&b, libc::AF_INET6));
    let set = |s: &Socket, name, n: i32| s.setsockopt(libc::SOL_IPV6, name, &n.to_ne_bytes()).unwrap();
    let group: std::net::Ipv6Addr = "ff05::77".parse().unwrap();
    let mreq = [&group.octets()[..], &b.dev.ifindex.to_ne_bytes()].concat();
    set(&r, libc::IPV6_RECVHOPLIMIT, 1);
    r.setsockopt(libc::SOL_IPV6, libc::IPV6_ADD_MEMBERSHIP, &mreq).unwrap();
    set(&s, libc::IPV6_MULTICAST_IF, b.dev.ifindex as i32);
    set(&s, libc::IPV6_MULTICAST_HOPS, 7);
    send_to(&s, b"in", Some("[ff05::77]:5000"), 0, vec![]).unwrap();
    assert_eq!(Ipv6Header::parse(&b.wire.take()[0]).unwrap().hop_limit(), 7);
    b.poll();
    let got = recv_from(&r, 9, 0).unwrap();
    assert_eq!((&got.data[..], &got.control[..]), (&b"in"[..], &[Control::HopLimit(7)][..]));
    set(&s, libc::IPV6_MULTICAST_LOOP, 0);
    send_to(&s, b"out", Some("[ff05::77]:5000"), 0, vec![]).unwrap();
    b.poll();
    assert_eq!(recv_from(&r, 9, 0).err(), Some(Error::Again));
    r.setsockopt(libc::SOL_IPV6, libc::IPV6_DROP_MEMBERSHIP, &mreq).unwrap();
    set(&s, libc::IPV6_MULTICAST_LOOP, 1);
    send_to(&s, b"late", Some("[ff05::77]:5000"), 0, vec![]).unwrap();
    b.poll();
    assert_eq!(recv_from(&r, 9, 0).err(), Some(Error::Again));
}

/// A socket of IPv6 has interface, TTL and loop of both families (inet_sk, inet6_sk).
#[test]
fn options_for_groups_are_each_familys_own() {
    let b = Bench::on_ip();
    let s = socket(&b, libc::AF_INET6);
    let set = |level, name, n: i32| s.setsockopt(level, name, &n.to_ne_bytes()).unwrap();
    let get = |level, name| {
        let mut out = [0; 4];
        s.getsockopt(level, name, &mut out).unwrap();
        i32::from_ne_bytes(out)
    };
    let (four, six, own) = (libc::SOL_IP, libc::SOL_IPV6, i32::from_ne_bytes([10, 0, 0, 1]));
    set(six, libc::IPV6_MULTICAST_IF, 1);
    set(six, libc::IPV6_MULTICAST_HOPS, 7);
    set(six, libc::IPV6_MULTICAST_LOOP, 0);
    let of_v4 = || [libc::IP_MULTICAST_IF, libc::IP_MULTICAST_TTL, libc::IP_MULTICAST_LOOP].map(|name| get(four, name));
    assert_eq!(of_v4(), [0, 1, 1]);
    set(four, libc::IP_MULTICAST_IF, own);
    set(four, libc::IP_MULTICAST_TTL, 9);
    assert_eq!(of_v4(), [own, 9, 1]);
    let of_v6 = [libc::IPV6_MULTICAST_IF, libc::IPV6_MULTICAST_HOPS, libc::IPV6_MULTICAST_LOOP];
    assert_eq!(of_v6.map(|name| get(six, name)), [1, 7, 0]);
    send_to(&s, b"x", Some("[::ffff:239.1.1.1]:5000"), 0, vec![]).unwrap();
    assert_eq!(Ipv4Header::parse(&b.wire.take()[0]).unwrap().ttl(), 9, "by the interface of IPv4's option");
}

#[test]
fn without_ip_multicast_all_a_socket_hears_only_groups_of_its_own() {
    let b = Bench::on_ip();
    let (member, other) = (bound(&b, "239.1.1.1:5000"), socket(&b, libc::AF_INET));
    for s in [&member, &other] {
        s.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_ne_bytes()).unwrap();
    }
    other.bind(at("0.0.0.0:5000")).unwrap();
    let mreq = [239, 1, 1, 1, 10, 0, 0, 1];
    member.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq).unwrap();
    let sender = bound(&b, "10.0.0.1:0");
    sender.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_TTL, &9i32.to_ne_bytes()).unwrap();
    sender.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_IF, &[10, 0, 0, 1]).unwrap();
    for all in [true, false] {
        other.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_ALL, &i32::from(all).to_ne_bytes()).unwrap();
        send_to(&sender, b"x", Some("239.1.1.1:5000"), 0, vec![]).unwrap();
        assert_eq!(Ipv4Header::parse(&b.wire.take()[0]).unwrap().ttl(), 9);
        b.poll();
        assert_eq!(recv_from(&member, 9, 0).unwrap().data, b"x");
        assert_eq!(recv_from(&other, 9, 0).is_ok(), all);
    }
    // The group has a member still, and the port a socket, which wants none of it: nobody was there (seen on 6.18).
    let keeps = bound(&b, "0.0.0.0:5001");
    keeps.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq).unwrap();
    drop(member);
    send_to(&sender, b"x", Some("239.1.1.1:5000"), 0, vec![]).unwrap();
    b.poll();
    assert_eq!(recv_from(&other, 9, 0).err(), Some(Error::Again));
    assert_eq!(b.stack.mib.get(Mib::UdpIgnoredMulti), 1);
}

#[test]
fn a_looped_copy_is_of_the_interface_that_it_left_by() {
    let b = Bench::on_ip();
    for (own, group, level, all) in
        [("10.0.0.1", "239.1.1.1", libc::SOL_IP, libc::IP_MULTICAST_ALL), ("fd00::1", "ff15::1", libc::SOL_IPV6, 29)]
    {
        let host = |h: &str| if h.contains(':') { format!("[{h}]") } else { h.to_string() };
        let any = if own.contains(':') { "[::]:5000" } else { "0.0.0.0:5000" };
        let to = format!("{}:5000", host(group));
        let (s, member, c) =
            (bound(&b, any), bound(&b, &format!("{}:0", host(own))), bound(&b, &any.replace("5000", "0")));
        let by = b.dev.ifindex.to_ne_bytes();
        let mreq = match (own.parse().unwrap(), group.parse().unwrap()) {
            (IpAddr::V4(_), IpAddr::V4(g)) => [&g.octets()[..], &[0; 4], &by].concat(),
            (_, IpAddr::V6(g)) => [&g.octets()[..], &by].concat(),
            _ => unreachable!(),
        };
        let (add, out) = match level {
            libc::SOL_IP => (libc::IP_ADD_MEMBERSHIP, libc::IP_MULTICAST_IF),
            _ => (libc::IPV6_ADD_MEMBERSHIP, libc::IPV6_MULTICAST_IF),
        };
        c.setsockopt(level, out, if level == libc::SOL_IP { &mreq } else { &by }).unwrap();
        member.setsockopt(level, add, &mreq).unwrap();
        send_to(&c, b"all", Some(&to), 0, vec![]).unwrap();
        assert_eq!(recv_from(&s, 9, 0).unwrap().data, b"all", "another socket's membership is enough");
        s.setsockopt(level, all, &0i32.to_ne_bytes()).unwrap();
        send_to(&c, b"own", Some(&to), 0, vec![]).unwrap();
        assert_eq!(recv_from(&s, 9, 0).err(), Some(Error::Again));
        s.setsockopt(level, add, &mreq).unwrap();
        send_to(&c, b"own", Some(&to), 0, vec![]).unwrap();
        assert_eq!(recv_from(&s, 9, 0).unwrap().data, b"own");
    }
}
