//! The reports of a host with these memberships. What is expected is what Linux 6.18 sent on a veth pair for the same
//! calls and queries.

use super::super::route;
use super::*;
use crate::base::error::Error;
use crate::counters::Mib;
use crate::device::capture_test::{Bench, Capture};
use crate::inet::Socket;
use crate::wire::ether::{self, MacAddr, ethertype};
use crate::wire::ip::{Ipv4Header, Ipv4Repr};
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::membership::{self as wire, igmp, mld};
use crate::wire::{be16, checksum, proto};

const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);
/// Our solicited-node group of the link-local address.
const SOLICITED: &str = "TO_EX ff02::1:ff00:1 {}";

fn bench() -> Bench {
    let b = Bench::new(Capture::ethernet("eth0", ME), &["10.0.0.1/24"]);
    assert!(b.advance(Duration::from_secs(5)).is_empty());
    b
}

fn bench6() -> Bench {
    let b = Bench::new(Capture::ethernet("eth0", ME), &["fe80::1/64"]);
    assert_eq!(reports(&b, 2_300), [SOLICITED, SOLICITED], "the address's own group is reported");
    b
}

fn socket(b: &Bench, family: i32) -> Socket {
    Socket::new(&b.stack, family, libc::SOCK_DGRAM, 0).unwrap()
}

/// One of the IGMP options with struct ip_mreq_source, or ip_mreq where there is no source.
fn v4(s: &Socket, name: i32, group: [u8; 4], source: Option<[u8; 4]>) {
    let mut m = [group, [10, 0, 0, 1]].concat();
    m.extend(source.into_iter().flatten());
    s.setsockopt(libc::SOL_IP, name, &m).unwrap();
}

fn v6(s: &Socket, ifindex: u32, name: i32, group: &str) {
    let mut m = group.parse::<Ipv6Addr>().unwrap().octets().to_vec();
    m.extend(ifindex.to_ne_bytes());
    s.setsockopt(libc::SOL_IPV6, name, &m).unwrap();
}

/// MCAST_JOIN_SOURCE_GROUP.
fn join_source(s: &Socket, ifindex: u32, group: &str, source: &str) {
    let mut m = [0; 264];
    m[..4].copy_from_slice(&ifindex.to_ne_bytes());
    for (at, addr) in [(8, group), (136, source)] {
        m[at..at + 2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        m[at + 8..at + 24].copy_from_slice(&addr.parse::<Ipv6Addr>().unwrap().octets());
    }
    s.setsockopt(libc::SOL_IPV6, 46, &m).unwrap();
}

fn names(b: &[u8]) -> Vec<String> {
    let addr = |b: &[u8]| match b.len() {
        4 => Ipv4Addr::new(b[0], b[1], b[2], b[3]).to_string(),
        _ => Ipv6Addr::from(*b.first_chunk::<16>().unwrap()).to_string(),
    };
    let (size, records) = match b[0] {
        igmp::REPORT_V3 => (4, true),
        mld::REPORT_V2 => (16, true),
        mld::REPORT_V1 | mld::DONE => return vec![format!("{} {}", b[0], addr(&b[8..24]))],
        ty => return vec![format!("{ty:x} {}", addr(&b[4..8]))],
    };
    assert!(records);
    let (mut at, mut out) = (8, Vec::new());
    for _ in 0..be16(b, 6) {
        let n = usize::from(be16(b, at + 2));
        let ty = ["?", "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"][usize::from(b[at])];
        let sources = b[at + 4 + size..][..n * size].chunks(size).map(addr).collect::<Vec<_>>().join(",");
        out.push(format!("{ty} {} {{{sources}}}", addr(&b[at + 4..at + 4 + size])));
        at += 4 + size + n * size;
    }
    assert_eq!(at, b.len());
    out
}

/// The records of the reports sent within this time; checks the headers in front of them.
fn reports(b: &Bench, millis: u64) -> Vec<String> {
    let mut out = Vec::new();
    for frame in b.advance(Duration::from_millis(millis)) {
        let p = &frame[14..];
        let message = match be16(&frame, 12) {
            ethertype::IPV4 => {
                let h = Ipv4Header::parse(p).unwrap();
                assert_eq!((h.protocol(), h.ttl(), h.tos(), h.option_bytes()), (2, 1, 0xc0, &[0x94, 4, 0, 0][..]));
                assert!(h.dont_fragment() && h.checksum_ok() && h.src() == Ipv4Addr::new(10, 0, 0, 1));
                assert!(checksum::is_valid(checksum::sum(h.payload(), 0)));
                assert_eq!(MacAddr::multicast_v4(h.dst()).0, frame[..6]);
                h.payload()
            }
            _ => {
                assert_eq!((p[6], p[7], &p[40..48]), (proto::HOPOPTS, 1, &[58, 0, 5, 2, 0, 0, 1, 0][..]));
                let to = Ipv6Addr::from(*p[24..].first_chunk::<16>().unwrap());
                assert_eq!(MacAddr::multicast_v6(to).0, frame[..6]);
                &p[48..]
            }
        };
        out.extend(names(message));
    }
    out
}

fn frame_v4(message: &[u8], to: [u8; 4]) -> Vec<u8> {
    let mut m = message.to_vec();
    wire::fill_checksum(&mut m, Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into());
    let repr = Ipv4Repr {
        src: Ipv4Addr::new(10, 0, 0, 254),
        dst: to.into(),
        protocol: proto::IGMP,
        ttl: 1,
        tos: 0xc0,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        frag_offset: 0,
        payload_len: m.len(),
    };
    let mut f = vec![0; 14 + 24];
    ether::emit(&mut f, MacAddr::multicast_v4(to.into()), ROUTER, ethertype::IPV4);
    repr.emit_with_options(&mut f[14..], &wire::ROUTER_ALERT_V4);
    f.extend(m);
    f
}

/// A query of IGMPv3, to all hosts or to its group.
fn query(b: &Bench, code: u8, group: [u8; 4], sources: &[[u8; 4]]) {
    let mut m = vec![igmp::QUERY, code, 0, 0];
    m.extend(group);
    m.extend([2, 125, 0, sources.len() as u8]);
    m.extend(sources.concat());
    b.wire.feed(&frame_v4(&m, if group == [0; 4] { [224, 0, 0, 1] } else { group }));
}

/// A query of IGMPv1 or IGMPv2.
fn old_query(b: &Bench, code: u8) {
    b.wire.feed(&frame_v4(&[igmp::QUERY, code, 0, 0, 0, 0, 0, 0], [224, 0, 0, 1]));
}

/// What a query of MLD gets wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Hops,
    Alert,
    Source,
}

fn query6(b: &Bench, millis: u16, group: &str, sources: Option<&[&str]>, fault: Fault) {
    let group: Ipv6Addr = group.parse().unwrap();
    let to = if group.is_unspecified() { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) } else { group };
    let src: Ipv6Addr = if fault == Fault::Source { "fd00::99" } else { "fe80::99" }.parse().unwrap();
    let mut m = vec![mld::QUERY, 0, 0, 0];
    m.extend(millis.to_be_bytes());
    m.extend([0, 0]);
    m.extend(group.octets());
    if let Some(sources) = sources {
        m.extend([2, 125, 0, sources.len() as u8]);
        sources.iter().for_each(|s| m.extend(s.parse::<Ipv6Addr>().unwrap().octets()));
    }
    wire::fill_checksum(&mut m, src.into(), to.into());
    let alert = fault != Fault::Alert;
    let repr = Ipv6Repr {
        hop_limit: if fault == Fault::Hops { 2 } else { 1 },
        ..Ipv6Repr::new(
            src,
            to,
            if alert { proto::HOPOPTS } else { proto::ICMPV6 },
            m.len() + if alert { 8 } else { 0 },
        )
    };
    let mut f = vec![0; 14 + 40];
    ether::emit(&mut f, MacAddr::multicast_v6(to), ROUTER, ethertype::IPV6);
    repr.emit(&mut f[14..]);
    if alert {
        f.extend(wire::ROUTER_ALERT_V6);
    }
    f.extend(m);
    b.wire.feed(&f);
}

/// Each report comes twice: the robustness variable.
fn twice(b: &Bench, want: &str) {
    assert_eq!(reports(b, 2_300), [want, want]);
}

#[test]
fn changes_of_a_filter_are_reported_by_igmpv3_as_linux_does() {
    let b = bench();
    let (any, some, third) = (socket(&b, libc::AF_INET), socket(&b, libc::AF_INET), socket(&b, libc::AF_INET));
    let (g1, g2, g3) = ([239, 1, 1, 1], [239, 1, 1, 2], [239, 1, 1, 3]);
    let host = |n| Some([10, 0, 0, n]);
    v4(&any, libc::IP_ADD_MEMBERSHIP, g1, None);
    twice(&b, "TO_EX 239.1.1.1 {}");
    v4(&some, libc::IP_ADD_SOURCE_MEMBERSHIP, g2, host(5));
    twice(&b, "ALLOW 239.1.1.2 {10.0.0.5}");
    v4(&some, libc::IP_ADD_SOURCE_MEMBERSHIP, g2, host(6));
    twice(&b, "ALLOW 239.1.1.2 {10.0.0.6}");
    v4(&any, libc::IP_BLOCK_SOURCE, g1, host(7));
    twice(&b, "BLOCK 239.1.1.1 {10.0.0.7}");
    v4(&third, libc::IP_ADD_MEMBERSHIP, g2, None);
    twice(&b, "TO_EX 239.1.1.2 {}");
    v4(&third, libc::IP_DROP_MEMBERSHIP, g2, None);
    twice(&b, "TO_IN 239.1.1.2 {10.0.0.5,10.0.0.6}");
    v4(&third, libc::IP_ADD_MEMBERSHIP, g3, None);
    twice(&b, "TO_EX 239.1.1.3 {}");
    v4(&third, libc::IP_ADD_SOURCE_MEMBERSHIP, g3, host(5));
    twice(&b, "TO_IN 239.1.1.3 {10.0.0.5}");
    v4(&any, libc::IP_UNBLOCK_SOURCE, g1, host(7));
    twice(&b, "ALLOW 239.1.1.1 {10.0.0.7}");
    v4(&some, libc::IP_DROP_SOURCE_MEMBERSHIP, g2, host(5));
    twice(&b, "BLOCK 239.1.1.2 {10.0.0.5}");
    drop(some);
    twice(&b, "BLOCK 239.1.1.2 {10.0.0.6}");
    drop(third);
    twice(&b, "BLOCK 239.1.1.3 {10.0.0.5}");
    v4(&any, libc::IP_DROP_MEMBERSHIP, g1, None);
    twice(&b, "TO_IN 239.1.1.1 {}");
    // 224.0.0.0/24 is reported unless the sysctl says otherwise.
    v4(&any, libc::IP_ADD_MEMBERSHIP, [224, 0, 0, 5], None);
    twice(&b, "TO_EX 224.0.0.5 {}");
    b.stack.sysctl.set("net.ipv4.igmp_link_local_mcast_reports", "0").unwrap();
    v4(&any, libc::IP_ADD_MEMBERSHIP, [224, 0, 0, 6], None);
    assert!(reports(&b, 2_300).is_empty());
    // igmp_qrv.
    b.stack.sysctl.set("net.ipv4.igmp_qrv", "3").unwrap();
    v4(&any, libc::IP_ADD_MEMBERSHIP, g1, None);
    assert_eq!(reports(&b, 3_300), ["TO_EX 239.1.1.1 {}"; 3]);
}

#[test]
fn queries_of_igmpv3_are_answered_within_their_time() {
    let b = bench();
    let (any, some) = (socket(&b, libc::AF_INET), socket(&b, libc::AF_INET));
    let (g1, g2) = ([239, 1, 1, 1], [239, 1, 1, 2]);
    v4(&any, libc::IP_ADD_MEMBERSHIP, g1, None);
    v4(&any, libc::IP_BLOCK_SOURCE, g1, Some([10, 0, 0, 7]));
    v4(&some, libc::IP_ADD_SOURCE_MEMBERSHIP, g2, Some([10, 0, 0, 5]));
    v4(&some, libc::IP_ADD_SOURCE_MEMBERSHIP, g2, Some([10, 0, 0, 6]));
    reports(&b, 2_300);
    let both: &[&str] = &["IS_EX 239.1.1.1 {10.0.0.7}", "IS_IN 239.1.1.2 {10.0.0.5,10.0.0.6}"];
    for (case, group, sources, want) in [
        ("general", [0; 4], &[][..], both),
        ("a general query has no sources", [0; 4], &[[10, 0, 0, 5]][..], &[][..]),
        ("group", g1, &[], &both[..1]),
        ("all sources excluded", g1, &[[10, 0, 0, 7]], &[]),
        ("one is not excluded", g1, &[[10, 0, 0, 7], [10, 0, 0, 8]], &both[..1]),
        ("the included ones", g2, &[[10, 0, 0, 5], [10, 0, 0, 9]], &["IS_IN 239.1.1.2 {10.0.0.5}"]),
        ("none included", g2, &[[10, 0, 0, 9]], &[]),
        ("another group", [239, 9, 9, 9], &[], &[]),
    ] {
        query(&b, 10, group, sources);
        assert_eq!(reports(&b, 1_000), want, "{case}");
    }
    assert!(reports(&b, 300_000).is_empty());
}

#[test]
fn with_queriers_of_igmpv2_and_igmpv1_a_host_speaks_their_version_for_a_while() {
    let b = bench();
    let s = socket(&b, libc::AF_INET);
    let (first, g) = ([239, 1, 1, 1], [239, 1, 1, 4]);
    v4(&s, libc::IP_ADD_MEMBERSHIP, first, None);
    reports(&b, 2_300);
    old_query(&b, 20);
    assert_eq!(reports(&b, 2_000), ["16 239.1.1.1"]);
    v4(&s, libc::IP_ADD_MEMBERSHIP, g, None);
    assert_eq!(reports(&b, 11_000), ["16 239.1.1.4"; 2]);
    b.wire.feed(&frame_v4(&[igmp::REPORT_V2, 0, 0, 0, 239, 1, 1, 4], g));
    reports(&b, 10);
    v4(&s, libc::IP_DROP_MEMBERSHIP, g, None);
    assert!(reports(&b, 1_000).is_empty(), "another host reported last: no leave");
    v4(&s, libc::IP_ADD_MEMBERSHIP, g, None);
    assert_eq!(reports(&b, 20), ["16 239.1.1.4"]);
    v4(&s, libc::IP_DROP_MEMBERSHIP, g, None);
    assert_eq!(reports(&b, 0), ["17 239.1.1.4"]);
    old_query(&b, 0);
    assert_eq!(reports(&b, 10_000), ["12 239.1.1.1"]);
    v4(&s, libc::IP_ADD_MEMBERSHIP, g, None);
    assert_eq!(reports(&b, 20), ["12 239.1.1.4"]);
    query(&b, 10, [0; 4], &[]);
    let mut old = reports(&b, 10_100);
    old.sort();
    assert_eq!(old, ["12 239.1.1.1", "12 239.1.1.4"], "in version 1 a query of version 3 is one of version 1");
    v4(&s, libc::IP_DROP_MEMBERSHIP, g, None);
    assert!(reports(&b, 1_000).is_empty(), "version 1 has no leave");
    // Robustness 2, interval 125 s, response 10 s: after 260 s without old queries version 3 is spoken again.
    assert!(reports(&b, 260_000).is_empty());
    v4(&s, libc::IP_ADD_MEMBERSHIP, g, None);
    twice(&b, "TO_EX 239.1.1.4 {}");
    b.stack.sysctl.set("net.ipv4.conf.all.force_igmp_version", "2").unwrap();
    query(&b, 10, first, &[]);
    assert_eq!(reports(&b, 1_000), ["16 239.1.1.1"]);
}

#[test]
fn mld_reports_changes_and_answers_queries_that_come_from_the_link() {
    let b = bench6();
    let (any, some, i) = (socket(&b, libc::AF_INET6), socket(&b, libc::AF_INET6), b.dev.ifindex);
    v6(&any, i, libc::IPV6_ADD_MEMBERSHIP, "ff15::1");
    twice(&b, "TO_EX ff15::1 {}");
    join_source(&some, i, "ff15::2", "fd00::5");
    twice(&b, "ALLOW ff15::2 {fd00::5}");
    let all = ["IS_EX ff02::1:ff00:1 {}", "IS_EX ff15::1 {}", "IS_IN ff15::2 {fd00::5}"];
    query6(&b, 1_000, "::", Some(&[]), Fault::None);
    assert_eq!(reports(&b, 1_000), all);
    query6(&b, 1_000, "ff15::2", Some(&["fd00::5", "fd00::9"]), Fault::None);
    assert_eq!(reports(&b, 1_000), all[2..]);
    for fault in [Fault::Hops, Fault::Alert, Fault::Source] {
        query6(&b, 1_000, "::", Some(&[]), fault);
        assert!(reports(&b, 1_000).is_empty());
    }
    v6(&any, i, libc::IPV6_ADD_MEMBERSHIP, "ff11::1");
    assert!(reports(&b, 2_300).is_empty(), "groups of one interface are not reported");
    v6(&any, i, libc::IPV6_DROP_MEMBERSHIP, "ff15::1");
    twice(&b, "TO_IN ff15::1 {}");
    let addr = "fd00::1:2:3/64".parse().unwrap();
    route::add_address(&b.stack, &b.dev, addr).unwrap();
    twice(&b, "TO_EX ff02::1:ff02:3 {}");
    route::del_address(&b.stack, &b.dev, addr).unwrap();
    twice(&b, "TO_IN ff02::1:ff02:3 {}");
    assert_eq!(b.stack.mib.get(Mib::Icmp6OutMLDv2Reports), 14);
    assert_eq!(b.stack.mib.get(Mib::Icmp6InGroupMembQueries), 5);
    // MLDv1.
    query6(&b, 2_000, "::", None, Fault::None);
    let mut old = reports(&b, 2_000);
    old.sort();
    assert_eq!(old, ["131 ff02::1:ff00:1", "131 ff15::2"]);
    v6(&any, i, libc::IPV6_ADD_MEMBERSHIP, "ff15::1");
    assert_eq!(reports(&b, 11_000), ["131 ff15::1"; 2]);
    v6(&any, i, libc::IPV6_DROP_MEMBERSHIP, "ff15::1");
    assert_eq!(reports(&b, 0), ["132 ff15::1"]);
    query6(&b, 2_000, "::", Some(&[]), Fault::None);
    assert_eq!(reports(&b, 2_000).len(), 2, "answered by version 1");
    assert_eq!(b.stack.mib.get(Mib::Icmp6OutGroupMembResponses), 6);
    assert_eq!(b.stack.mib.get(Mib::Icmp6OutGroupMembReductions), 1);
    // force_mld_version 2: queries of version 1 are not heard.
    b.stack.sysctl.set("net.ipv6.conf.all.force_mld_version", "2").unwrap();
    query6(&b, 2_000, "::", None, Fault::None);
    assert!(reports(&b, 2_000).is_empty());
}

#[test]
fn reports_are_cut_to_the_mtu_and_a_device_without_routers_has_none() {
    let b = bench();
    let s = socket(&b, libc::AF_INET);
    b.stack.sysctl.set("net.ipv4.igmp_max_memberships", "400").unwrap();
    for n in 0..300_u16 {
        v4(&s, libc::IP_ADD_MEMBERSHIP, [239, 2, (n >> 8) as u8, n as u8], None);
    }
    let frames = b.advance(Duration::from_millis(10));
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [14 + 1496, 14 + 32 + 8 * (300 - 183)]);
    let tun = Bench::on_ip();
    v4(&socket(&tun, libc::AF_INET), libc::IP_ADD_MEMBERSHIP, [239, 1, 1, 1], None);
    assert!(tun.advance(Duration::from_secs(5)).is_empty());
}

#[test]
fn an_interface_takes_only_the_sources_that_some_socket_wants() {
    let b = bench6();
    let s = socket(&b, libc::AF_INET6);
    let taken = |source: &str| {
        let (group, source) = ("ff15::2".parse().unwrap(), source.parse().unwrap());
        net(&b.stack).groups.accepts(&b.dev, b.dev.ifindex, group, source)
    };
    assert!(!taken("fd00::5"));
    join_source(&s, b.dev.ifindex, "ff15::2", "fd00::5");
    assert!(taken("fd00::5") && !taken("fd00::6"));
    let all = socket(&b, libc::AF_INET6);
    v6(&all, b.dev.ifindex, libc::IPV6_ADD_MEMBERSHIP, "ff15::2");
    assert!(taken("fd00::5") && taken("fd00::6"));
    drop(all);
    assert!(!taken("fd00::6"));
    drop(s);
    assert!(!taken("fd00::5"));
}

#[test]
fn ipv6_memberships_are_bounded_by_option_memory() {
    let b = bench6();
    let s = socket(&b, libc::AF_INET6);
    let join = |n: u16| {
        let mut m = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, n).octets().to_vec();
        m.extend(b.dev.ifindex.to_ne_bytes());
        s.setsockopt(libc::SOL_IPV6, libc::IPV6_ADD_MEMBERSHIP, &m)
    };
    b.stack.sysctl.set("net.core.optmem_max", "561").unwrap();
    assert!((0..10).all(|n| join(n).is_ok()));
    assert_eq!(join(10), Err(Error::NoMem));
}
