//! What a host makes of advertisements. What is expected is what `ip -6 addr`, `ip -6 route` and a capture showed of
//! Linux 6.18 on a veth pair, for the same advertisements with accept_ra 1.

use super::*;
use crate::base::error::Error;
use crate::device::capture_test::{Bench, Capture};
use crate::ip::output::default_ttl;
use crate::wire::ether::{self, EtherHeader, ethertype};
use crate::wire::icmpv6::kind;
use crate::wire::ipv6::{Ipv6Header, Ipv6Repr};
use crate::wire::{checksum, proto};

const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);
/// The interface identifier of `ME`.
const IID: &str = "0:ff:fe00:1";
const R: &str = "fe80::99";

fn bench() -> Bench {
    let b = Bench::new(Capture::ethernet("eth0", ME), &[]);
    b.stack.sysctl.set("net.ipv6.conf.all.accept_ra", "1").unwrap();
    b
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An ICMPv6 message of a neighbour, as a frame.
fn frame(src: &str, dst: &str, hop_limit: u8, mut body: Vec<u8>) -> Vec<u8> {
    let (src, dst): (Ipv6Addr, Ipv6Addr) = (src.parse().unwrap(), dst.parse().unwrap());
    let pseudo = checksum::pseudo_header_v6(src, dst, proto::ICMPV6, body.len() as u32);
    let sum = checksum::finish(checksum::sum(&body, pseudo));
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut f = vec![0; 54];
    ether::emit(&mut f, MacAddr::multicast_v6(dst), ROUTER_MAC, ethertype::IPV6);
    let (next_header, payload_len) = (proto::ICMPV6, body.len());
    Ipv6Repr { hop_limit, ..Ipv6Repr::new(src, dst, next_header, payload_len) }.emit(&mut f[14..]);
    f.extend(body);
    f
}

/// Flags and hop limit, router lifetime, reachable and retransmission time.
#[derive(Default, Clone, Copy)]
struct Ra {
    flags: u8,
    hop_limit: u8,
    lifetime: u16,
    reachable: u32,
    retrans: u32,
}

impl Ra {
    fn frame(self, src: &str, hops: u8, options: &[u8]) -> Vec<u8> {
        let mut m = vec![kind::ROUTER_ADVERTISEMENT, 0, 0, 0, self.hop_limit, self.flags];
        m.extend(self.lifetime.to_be_bytes());
        m.extend(self.reachable.to_be_bytes());
        m.extend(self.retrans.to_be_bytes());
        m.extend(options);
        frame(src, "ff02::1", hops, m)
    }
}

fn hear(b: &Bench, src: &str, ra: Ra, options: &[u8]) {
    b.inject(&ra.frame(src, 255, options));
}

const ON_LINK: u8 = 0x80;
const AUTO: u8 = 0x40;

fn prefix(prefix: &str, len: u8, flags: u8, (valid, preferred): (u32, u32)) -> Vec<u8> {
    let mut o = vec![3, 4, len, flags];
    o.extend(valid.to_be_bytes());
    o.extend(preferred.to_be_bytes());
    o.extend([0; 4]);
    o.extend(prefix.parse::<Ipv6Addr>().unwrap().octets());
    o
}

fn both(p: &str, valid: u32, preferred: u32) -> Vec<u8> {
    prefix(p, 64, ON_LINK | AUTO, (valid, preferred))
}

fn mtu(mtu: u32) -> Vec<u8> {
    [&[5, 1, 0, 0][..], &mtu.to_be_bytes()].concat()
}

/// Addresses that are used, with the seconds that they are valid and preferred for.
fn addrs(b: &Bench) -> Vec<String> {
    let now = b.stack.now();
    let left = |u: Until| u.map_or("forever".into(), |u| u.max(now).saturating_sub(now).as_secs().to_string());
    let ifaces = net(&b.stack).autoconf.ifaces.lock();
    let of = |c: &Cidr| ifaces.get(&b.dev.ifindex).and_then(|i| i.addrs.iter().find(|a| a.addr == *c));
    let global = |c: &Cidr| matches!(c.addr(), IpAddr::V6(a) if !is_link_local_v6(a));
    let show = |c: &Cidr| match of(c) {
        Some(a) => format!(
            "{c} {} {}{}",
            left(a.valid),
            left(a.preferred),
            if a.state == State::Deprecated { " deprecated" } else { "" }
        ),
        None => c.to_string(),
    };
    b.dev.addrs().iter().filter(|c| global(c)).map(show).collect()
}

fn routes(b: &Bench) -> Vec<String> {
    let of_dev = |r: &RouteSpec| r.dev.as_ref().is_some_and(|d| d.ifindex == b.dev.ifindex);
    let link = |r: &RouteSpec| matches!(r.dst.addr(), IpAddr::V6(a) if is_link_local_v6(a));
    let list =
        route::list(&b.stack).into_iter().filter(|r| of_dev(r) && !link(r) && r.kind == route::RouteKind::Unicast);
    list.map(|r| {
        let via = r.gateway.map_or(String::new(), |g| format!(" via {g}"));
        let (mtu, hops) = (r.mtu, r.metrics.hoplimit);
        let extra = [(mtu, "mtu"), (hops.into(), "hoplimit")].into_iter().filter(|e| e.0 != 0);
        let extra: String = extra.map(|(n, what)| format!(" {what} {n}")).collect();
        format!("{}{via} metric {}{extra}", r.dst, r.metric)
    })
    .collect()
}

/// The neighbour messages among what was sent: type, source, destination, and the target or nothing.
fn sent(frames: &[Vec<u8>]) -> Vec<(u8, String, String, String)> {
    let one = |f: &Vec<u8>| {
        let e = EtherHeader::parse(f).unwrap();
        let h = Ipv6Header::parse(e.payload()).ok()?;
        let p = h.payload();
        let nd = (133..=136).contains(&p[0]) && h.hop_limit() == 255;
        let target = if p[0] == 133 { String::new() } else { Ipv6Addr::from(*p[8..].first_chunk::<16>()?).to_string() };
        nd.then(|| (p[0], h.src().to_string(), h.dst().to_string(), target))
    };
    frames.iter().filter_map(one).collect()
}

#[test]
fn a_host_solicits_until_a_router_answers() {
    let b = bench();
    start(&b.stack, &b.dev, b.stack.now());
    let ll = format!("fe80::{}", &IID[2..]);
    let first = b.wire.take();
    assert_eq!(sent(&first), [(133, ll.clone(), "ff02::2".into(), String::new())]);
    let icmp = &first[0][54..];
    assert_eq!(icmp[8..], lladdr_option(nd_option::SOURCE_LLADDR, ME));
    // The second after about 4 s, then after twice as long each time.
    assert!(sent(&b.advance(Duration::from_millis(3_590))).is_empty());
    assert_eq!(sent(&b.advance(Duration::from_millis(820))).len(), 1);
    assert!(sent(&b.advance(Duration::from_millis(6_400))).is_empty());
    assert_eq!(sent(&b.advance(secs(3))).len(), 1);
    let ra = Ra { lifetime: 1800, ..Ra::default() };
    hear(&b, R, ra, &[]);
    assert!(sent(&b.advance(secs(1700))).is_empty());

    let b = bench();
    b.stack.sysctl.set("net.ipv6.conf.all.router_solicitations", "3").unwrap();
    start(&b.stack, &b.dev, b.stack.now());
    assert_eq!(sent(&b.advance(secs(10_000))).len(), 3);
    for off in ["accept_ra", "router_solicitations"] {
        let b = bench();
        b.stack.sysctl.set(&format!("net.ipv6.conf.all.{off}"), "0").unwrap();
        start(&b.stack, &b.dev, b.stack.now());
        assert!(sent(&b.advance(secs(100))).is_empty(), "{off}");
    }
}

#[test]
fn an_address_is_probed_for_and_then_used_as_long_as_its_prefix_says() {
    let b = bench();
    start(&b.stack, &b.dev, b.stack.now());
    b.wire.take();
    let ra = Ra { hop_limit: 64, lifetime: 1800, reachable: 15_000, retrans: 2_000, ..Ra::default() };
    hear(&b, R, ra, &both("2001:db8:1::", 3600, 1800));
    assert_eq!(addrs(&b), [""; 0], "tentative");
    let me = format!("2001:db8:1:0:{IID}");
    let target: Ipv6Addr = me.parse().unwrap();
    let out = sent(&b.advance(secs(1)));
    assert_eq!(out, [(135, "::".into(), solicited_node(target).to_string(), target.to_string())]);
    b.advance(secs(2));
    assert_eq!(addrs(&b), [format!("{target}/64 3597 1797")]);
    let via = "::/0 via fe80::99 metric 1024 hoplimit 64";
    assert_eq!(routes(&b), ["2001:db8:1::/64 metric 256 hoplimit 64", via]);
    // The two-hour rule.
    for (valid, preferred, want) in [
        (60, 30, "3597 30"),
        (10_000, 0, "10000 0 deprecated"),
        (5, 5, "7200 5"),
        (u32::MAX, u32::MAX, "forever forever"),
        (9, 5, "7200 5"),
    ] {
        hear(&b, R, ra, &both("2001:db8:1::", valid, preferred));
        assert_eq!(addrs(&b), [format!("{target}/64 {want}")], "{valid} {preferred}");
    }
    // The prefix itself is on the link as long as the router says.
    b.advance(secs(9));
    assert_eq!(routes(&b), [via]);
    assert!(net(&b.stack).autoconf.is_deprecated(b.dev.ifindex, target));
    b.advance(secs(1791));
    assert_eq!(routes(&b), [""; 0], "the router's lifetime");
    b.advance(secs(5399));
    assert_eq!(addrs(&b).len(), 1);
    b.advance(secs(1));
    assert_eq!(addrs(&b), [""; 0]);
    assert!(!net(&b.stack).autoconf.is_deprecated(b.dev.ifindex, target));
    assert!(!route::is_local(&b.stack, target.into()));
}

#[test]
fn prefixes_are_taken_by_their_flags_and_bad_ones_not_at_all() {
    let b = bench();
    let options = [
        prefix("2001:db8:2::", 80, ON_LINK | AUTO, (3600, 1800)),
        prefix("2001:db8:3::", 64, ON_LINK, (3600, 1800)),
        prefix("2001:db8:4::", 64, AUTO, (3600, 1800)),
        prefix("2001:db8:5::", 64, ON_LINK | AUTO, (5, 9)),
        prefix("fe80::", 64, ON_LINK | AUTO, (3600, 1800)),
        prefix("ff05::", 64, ON_LINK | AUTO, (3600, 1800)),
        prefix("2001:db8:6::", 64, ON_LINK | AUTO, (0, 0)),
    ];
    hear(&b, R, Ra::default(), &options.concat());
    b.advance(secs(3));
    assert_eq!(addrs(&b), [format!("2001:db8:4::{}/64 3597 1797", &IID[2..])]);
    assert_eq!(routes(&b), ["2001:db8:2::/80 metric 256", "2001:db8:3::/64 metric 256"]);
}

#[test]
fn the_best_router_is_used_and_the_next_when_it_withdraws() {
    let b = bench();
    let ra = |flags, lifetime| Ra { flags, lifetime, ..Ra::default() };
    let default =
        |b: &Bench| routes(b).iter().find_map(|r| Some(r.strip_prefix("::/0 via ")?.split(' ').next()?.to_owned()));
    hear(&b, "fe80::96", ra(0x18, 900), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::96"), "low is better than none");
    hear(&b, "fe80::97", ra(0x10, 900), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::97"), "reserved is medium");
    hear(&b, "fe80::95", ra(0, 900), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::97"), "the first of equals");
    hear(&b, "fe80::98", ra(0x08, 900), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::98"));
    hear(&b, "fe80::98", ra(0x08, 0), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::97"));
    hear(&b, "fe80::95", ra(0x08, 30), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::95"));
    b.advance(secs(30));
    assert_eq!(default(&b).as_deref(), Some("fe80::97"), "its lifetime is over");
    b.stack.sysctl.set("net.ipv6.conf.all.accept_ra_rtr_pref", "0").unwrap();
    hear(&b, "fe80::93", ra(0x08, 900), &[]);
    assert_eq!(default(&b).as_deref(), Some("fe80::97"));
    b.advance(secs(870));
    assert_eq!(default(&b).as_deref(), Some("fe80::93"));
    b.stack.sysctl.set("net.ipv6.conf.all.accept_ra_defrtr", "0").unwrap();
    hear(&b, "fe80::94", ra(0x08, 900), &[]);
    b.advance(secs(60));
    assert_eq!(default(&b), None);
}

#[test]
fn mtu_hop_limit_and_times_hold_for_the_link() {
    let b = bench();
    let ra = Ra { lifetime: 1800, ..Ra::default() };
    hear(&b, R, ra, &both("2001:db8:1::", 3600, 1800));
    for (said, want) in [(1279, 1500), (1501, 1500), (1400, 1400), (1279, 1400), (1500, 1500)] {
        hear(&b, R, ra, &mtu(said));
        for to in ["2001:db8:1::7", "2001:db8:ffff::1"] {
            let dst = route::lookup(&b.stack, to.parse().unwrap(), None, 0).unwrap();
            assert_eq!(dst.mtu, want, "{said} to {to}");
        }
    }
    let hops = |b: &Bench| {
        let dst = route::lookup(&b.stack, "2001:db8:ffff::1".parse().unwrap(), None, 0).unwrap();
        default_ttl(&b.stack, &dst, false)
    };
    for (said, want) in [(0, 64), (7, 7), (0, 7)] {
        hear(&b, R, Ra { hop_limit: said, ..ra }, &[]);
        assert_eq!(hops(&b), want, "{said}");
    }
    b.stack.sysctl.set("net.ipv6.conf.all.accept_ra_min_hop_limit", "10").unwrap();
    hear(&b, R, Ra { hop_limit: 9, ..ra }, &[]);
    assert_eq!(hops(&b), 7);
    b.stack.sysctl.set("net.ipv6.conf.all.accept_ra_mtu", "0").unwrap();
    hear(&b, R, ra, &mtu(1300));
    assert_eq!(route::lookup(&b.stack, "2001:db8:1::7".parse().unwrap(), None, 0).unwrap().mtu, 1500);
    let times = || net(&b.stack).autoconf.times(b.dev.ifindex);
    let ms = |n| Some(Duration::from_millis(n));
    assert_eq!(times(), Times { reachable: None, retrans: None });
    for (said, reachable, retrans) in [((15_000, 2_000), 15_000, 2_000), ((0, 0), 15_000, 2_000), ((50, 5), 100, 10)] {
        hear(&b, R, Ra { reachable: said.0, retrans: said.1, ..ra }, &[]);
        assert_eq!(times(), Times { reachable: ms(reachable), retrans: ms(retrans) }, "{said:?}");
    }
}

#[test]
fn another_hosts_claim_makes_an_address_a_duplicate() {
    let (p, target) = (both("2001:db8:1::", 3600, 1800), format!("2001:db8:1:0:{IID}"));
    let bytes = |ty: u8, flags: u8| {
        let mut m = vec![ty, 0, 0, 0, flags, 0, 0, 0];
        m.extend(target.parse::<Ipv6Addr>().unwrap().octets());
        m
    };
    let group = solicited_node(target.parse().unwrap()).to_string();
    for (case, claim) in [
        ("probes too", frame("::", &group, 255, bytes(135, 0))),
        ("answers", frame(&target, "ff02::1", 255, bytes(136, 0x20))),
    ] {
        let b = bench();
        hear(&b, R, Ra::default(), &p);
        b.advance(secs(1));
        b.inject(&claim);
        b.advance(secs(5));
        hear(&b, R, Ra::default(), &p);
        b.advance(secs(5));
        assert_eq!(addrs(&b), [""; 0], "{case}");
        assert!(sent(&b.wire.take()).is_empty());
    }
    // Who resolves the address, from an address of its own, claims nothing; and without probes it is used at once.
    let b = bench();
    hear(&b, R, Ra::default(), &p);
    b.inject(&frame("fe80::5", &group, 255, bytes(135, 0)));
    b.advance(secs(3));
    assert_eq!(addrs(&b).len(), 1);
    let b = bench();
    b.stack.sysctl.set("net.ipv6.conf.all.dad_transmits", "0").unwrap();
    hear(&b, R, Ra::default(), &p);
    assert_eq!(addrs(&b).len(), 1);
    let b = bench();
    assert_eq!(b.stack.sysctl.set("net.ipv6.conf.all.accept_dad", "2"), Err(Error::Inval));
    b.stack.sysctl.set("net.ipv6.conf.all.accept_dad", "0").unwrap();
    hear(&b, R, Ra::default(), &p);
    assert_eq!(addrs(&b).len(), 1);
    assert!(sent(&b.wire.take()).is_empty(), "no probe");
}

#[test]
fn a_deprecated_address_is_the_source_of_nothing_new() {
    let b = bench();
    b.stack.sysctl.set("net.ipv6.conf.all.dad_transmits", "0").unwrap();
    let ra = Ra { lifetime: 1800, ..Ra::default() };
    hear(&b, R, ra, &[both("2001:db8:1::", 3600, 10), both("2001:db8:2::", 3600, 1800)].concat());
    let src = || route::lookup(&b.stack, "2001:db8:1::7".parse().unwrap(), None, 0).unwrap().src.to_string();
    assert!(src().starts_with("2001:db8:1:"));
    b.advance(secs(10));
    assert!(src().starts_with("2001:db8:2:"));
    hear(&b, R, ra, &both("2001:db8:1::", 3600, 10));
    assert!(src().starts_with("2001:db8:1:"));
}

#[test]
fn what_is_not_an_advertisement_of_this_link_is_dropped_for_a_reason() {
    let ra = Ra { lifetime: 900, ..Ra::default() };
    let code = {
        let mut m = vec![134, 1, 0, 0];
        m.extend([0; 12]);
        frame(R, "ff02::1", 255, m)
    };
    for (case, packet, reason) in [
        ("from off the link", ra.frame(R, 254, &[]), DropReason::Ipv6NdiscHopLimit),
        ("source", ra.frame("2001:db8::1", 255, &[]), DropReason::IpInvalidSource),
        ("an option without length", ra.frame(R, 255, &[5, 0, 0, 0, 0, 0, 0, 0]), DropReason::Ipv6NdiscBadOptions),
        ("an option that is cut", ra.frame(R, 255, &[3, 4, 64, 0]), DropReason::Ipv6NdiscBadOptions),
        ("code", code, DropReason::Ipv6NdiscBadCode),
        ("too short", frame(R, "ff02::1", 255, vec![134, 0, 0, 0, 0, 0, 0, 0]), DropReason::IcmpMalformed),
    ] {
        let b = bench();
        b.inject(&packet);
        assert_eq!(routes(&b), [""; 0], "{case}");
        assert_eq!(b.stack.mib.drops(reason), 1, "{case}: {:?}", b.stack.mib);
    }
    let b = bench();
    b.stack.sysctl.set("net.ipv6.conf.all.accept_ra", "0").unwrap();
    hear(&b, R, ra, &both("2001:db8:1::", 3600, 1800));
    b.advance(secs(3));
    assert_eq!((addrs(&b), routes(&b)), (vec![], vec![]));
    for off in ["accept_ra_pinfo", "autoconf"] {
        let b = bench();
        b.stack.sysctl.set(&format!("net.ipv6.conf.all.{off}"), "0").unwrap();
        hear(&b, R, Ra::default(), &both("2001:db8:1::", 3600, 1800));
        b.advance(secs(3));
        assert_eq!((addrs(&b).len(), routes(&b).len()), (0, usize::from(off == "autoconf")), "{off}");
    }
}

#[test]
fn a_flood_of_advertisements_makes_a_bounded_number_of_everything() {
    let b = bench();
    b.stack.sysctl.set("net.ipv6.conf.all.dad_transmits", "0").unwrap();
    for n in 0..1000 {
        let ra = Ra { lifetime: 900, ..Ra::default() };
        hear(&b, &format!("fe80::1:{n:x}"), ra, &both(&format!("2001:db8:{n:x}::"), 3600, 1800));
    }
    assert_eq!((addrs(&b).len(), routes(&b).len()), (15, 1 + MAX_HEARD), "with the link-local one 16");
    assert_eq!(net(&b.stack).autoconf.ifaces.lock()[&b.dev.ifindex].routers.len(), MAX_HEARD);
    b.advance(secs(3601));
    assert_eq!((addrs(&b).len(), routes(&b).len()), (0, 0));
}

#[test]
fn what_is_configured_stays_what_it_is() {
    let b = bench();
    b.stack.sysctl.set("net.ipv6.conf.all.dad_transmits", "0").unwrap();
    let own: Cidr = format!("2001:db8:1:0:{IID}/64").parse().unwrap();
    route::add_address(&b.stack, &b.dev, own).unwrap();
    let any = Cidr::new(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
    route::add_route(&b.stack, RouteSpec::new(any).via("fe80::1".parse().unwrap()).via_dev(&b.dev)).unwrap();
    hear(&b, R, Ra { lifetime: 10, ..Ra::default() }, &both("2001:db8:1::", 10, 10));
    b.advance(secs(8000));
    assert_eq!(addrs(&b), [own.to_string()]);
    assert_eq!(routes(&b), ["2001:db8:1::/64 metric 256", "::/0 via fe80::1 metric 1024"]);
}

/// With a secret addresses do not depend on the hardware; one that another host has is followed by the next.
#[test]
fn stable_addresses_are_of_the_secret_and_three_more_are_tried() {
    let secret = "net.ipv6.conf.all.stable_secret";
    let with = |mac: MacAddr, secret_of: &str| {
        let b = Bench::new(Capture::ethernet("eth0", mac), &[]);
        for (name, value) in [("net.ipv6.conf.all.accept_ra", "1"), (secret, secret_of)] {
            b.stack.sysctl.set(name, value).unwrap();
        }
        start(&b.stack, &b.dev, b.stack.now());
        hear(&b, R, Ra::default(), &both("2001:db8::", 3600, 1800));
        b
    };
    let all = |b: &Bench| b.dev.addrs().iter().map(ToString::to_string).collect::<Vec<_>>();
    let (b, other) = (with(ME, "2001:db8::1234"), with(ROUTER_MAC, "2001:db8::1234"));
    b.advance(secs(3));
    other.advance(secs(3));
    assert_eq!(all(&b)[0], "fe80::d820:30f:5afc:84be/64", "as the kernel's");
    assert_eq!(all(&b), all(&other));
    let different = with(ME, "fd00::abcd");
    different.advance(secs(3));
    assert!(all(&different).iter().all(|a| !all(&b).contains(a)));
    // Others have the first addresses.
    let b = with(ME, "2001:db8::1234");
    let mut seen = HashSet::new();
    for f in (0..150).flat_map(|_| b.advance(Duration::from_millis(100))) {
        let h = Ipv6Header::parse(&f[14..]).unwrap();
        if h.src().is_unspecified() && h.payload()[0] == kind::NEIGHBOUR_SOLICITATION {
            let target: [u8; 16] = h.payload()[8..24].try_into().unwrap();
            assert!(seen.insert(target), "one that somebody has is not tried again");
            let mut claim = vec![kind::NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            claim.extend(target);
            b.inject(&frame("::", &solicited_node(target.into()).to_string(), 255, claim));
        }
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(addrs(&b), [""; 0]);
}

#[test]
fn addr_gen_mode_says_which_identifiers_there_are() {
    let link_local = |mode: &str, secret: &str| {
        let b = bench();
        b.stack.sysctl.set("net.ipv6.conf.all.addr_gen_mode", mode).unwrap();
        b.stack.sysctl.set("net.ipv6.conf.all.stable_secret", secret).unwrap();
        start(&b.stack, &b.dev, b.stack.now());
        b.dev.addrs().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let eui64 = [format!("fe80::{}/64", IID.trim_start_matches("0:"))];
    assert_eq!(link_local("1", ""), [""; 0]);
    let stable = link_local("2", "2001:db8::1234");
    assert_eq!(stable, ["fe80::d820:30f:5afc:84be/64"]);
    for mode in ["2", "3"] {
        let random = link_local(mode, "");
        assert!(random.len() == 1 && random != stable && random != eui64, "{random:?}");
    }
    let b = bench();
    assert_eq!(b.stack.sysctl.set("net.ipv6.conf.all.stable_secret", "no"), Err(crate::base::error::Error::Inval));
}
