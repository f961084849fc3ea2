use super::*;
use crate::counters::Mib;
use crate::device::capture_test::{Bench, Capture};
use crate::inet::Socket;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sys::lock::Mutex;
use crate::wire::checksum;
use crate::wire::ether::EtherHeader;
use crate::wire::icmpv6::Icmpv6Header;
use crate::wire::ip::Ipv4Repr;
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::{TcpFlags, TcpHeader, TcpRepr};
use std::io::{IoSlice, IoSliceMut};
use std::net::Ipv4Addr;

const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const IP_ME: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const IP_PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn bench() -> Bench {
    Bench::new(Capture::ethernet("eth0", ME), &["10.0.0.1/24", "fd00::1/64"])
}

fn arp_frame(to: MacAddr, from: MacAddr, m: Arp) -> Vec<u8> {
    let mut f = vec![0; 14 + arp::LEN];
    ether::emit(&mut f, to, from, ethertype::ARP);
    m.emit(&mut f[14..]);
    f
}

fn reply() -> Vec<u8> {
    let m = Arp { operation: Operation::Reply, sender_mac: PEER, sender_ip: IP_PEER, target_mac: ME, target_ip: IP_ME };
    arp_frame(ME, PEER, m)
}

fn socket(b: &Bench, family: i32) -> Socket {
    Socket::new(&b.stack, family, libc::SOCK_DGRAM, 0).unwrap()
}

fn send(s: &Socket, to: &str) -> Result<usize> {
    let slices = [IoSlice::new(b"hello")];
    let mut m = SendMsg::new(&slices, libc::MSG_DONTWAIT);
    m.name = Some(to.parse().unwrap());
    s.sendmsg(&mut m)
}

/// Kind, destination and, for ARP, the message of a frame that was sent.
fn seen(f: &[u8]) -> (u16, MacAddr, Option<Arp>) {
    let h = EtherHeader::parse(f).unwrap();
    assert_eq!(h.src(), ME);
    (h.ethertype(), h.dst(), Arp::parse(h.payload()).ok().filter(|_| h.ethertype() == ethertype::ARP))
}

fn state(b: &Bench, ip: &str) -> Option<State> {
    let ip: IpAddr = ip.parse().unwrap();
    list(&b.stack, b.stack.now()).into_iter().find(|n| n.ip == ip).map(|n| n.state)
}

#[test]
fn a_packet_waits_for_the_answer_and_the_next_one_does_not() {
    let b = bench();
    let s = socket(&b, libc::AF_INET);
    send(&s, "10.0.0.9:9").unwrap();
    send(&s, "10.0.0.9:9").unwrap();
    let sent = b.wire.take();
    assert_eq!(sent.len(), 1, "one question for both");
    let (_, to, asked) = seen(&sent[0]);
    assert_eq!((to, asked.unwrap()), (MacAddr::BROADCAST, Arp::request(ME, IP_ME, IP_PEER)));
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Incomplete));
    let sent = b.inject(&reply());
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|f| seen(f) == (ethertype::IPV4, PEER, None)));
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Reachable));
    send(&s, "10.0.0.9:9").unwrap();
    assert_eq!(seen(&b.wire.take()[0]), (ethertype::IPV4, PEER, None));
}

#[test]
fn a_silent_neighbour_is_asked_three_times_and_then_the_sender_is_told() {
    let b = bench();
    let s = socket(&b, libc::AF_INET);
    s.setsockopt(libc::SOL_IP, libc::IP_RECVERR, &1i32.to_ne_bytes()).unwrap();
    send(&s, "10.0.0.9:9").unwrap();
    let sent = b.advance(Duration::from_millis(2_999));
    assert_eq!(sent.iter().filter(|f| seen(f).0 == ethertype::ARP).count(), 3);
    assert_eq!(b.stack.mib.drops(DropReason::NeighFailed), 0);
    b.advance(Duration::from_millis(2));
    assert_eq!(b.stack.mib.drops(DropReason::NeighFailed), 1);
    assert_eq!(state(&b, "10.0.0.9"), None);
    let mut buf = [0; 9];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut m = RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
    assert_eq!(s.recvmsg(&mut m), Err(Error::HostUnreach));
}

#[test]
fn an_entry_goes_stale_is_asked_directly_and_is_forgotten_when_nobody_answers() {
    let b = bench();
    let s = socket(&b, libc::AF_INET);
    send(&s, "10.0.0.9:9").unwrap();
    b.inject(&reply());
    b.advance(Duration::from_secs(46));
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Stale));
    send(&s, "10.0.0.9:9").unwrap();
    assert_eq!(seen(&b.wire.take()[0]), (ethertype::IPV4, PEER, None), "used while it is asked about");
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Delay));
    let asked = b.advance(Duration::from_millis(5_001));
    assert_eq!(seen(&asked[0]).1, PEER, "asked directly");
    b.inject(&reply());
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Reachable));
    b.advance(Duration::from_secs(46));
    send(&s, "10.0.0.9:9").unwrap();
    b.wire.take();
    assert_eq!(b.advance(Duration::from_secs(9)).len(), 3);
    assert_eq!(state(&b, "10.0.0.9"), None);
}

/// What is sent in 20 seconds about a neighbour that has gone silent: to it (u) or to all (m), by second.
fn probes(b: &Bench) -> String {
    let kind = |f: &Vec<u8>| seen(f).2.map(|_| if seen(f).1 == PEER { 'u' } else { 'm' });
    let second = |_| b.advance(Duration::from_secs(1)).iter().filter_map(kind).chain(['.']).collect::<String>();
    (0..20).map(second).collect::<String>().trim_end_matches('.').to_owned()
}

#[test]
fn probes_are_left_to_a_daemon_and_made_to_all_again_as_the_sysctls_say() {
    for (names, unknown, silent) in [
        (&[][..], "mm.m", "....u.u.u"),
        (&["mcast_resolicit=2"], "mm.m", "....u.u.u.m.m"),
        (&["app_solicit=2"], ".m.m.m", "....u.u.u"),
        (&["app_solicit=1", "mcast_resolicit=1", "ucast_solicit=1"], "m.m.m", "....u..m"),
    ] {
        let b = bench();
        for (name, value) in names.iter().map(|n| n.split_once('=').unwrap()) {
            b.stack.sysctl.set(&format!("net.ipv4.neigh.default.{name}"), value).unwrap();
        }
        let s = socket(&b, libc::AF_INET);
        send(&s, "10.0.0.9:9").unwrap();
        let first = if b.wire.take().is_empty() { "" } else { "m" };
        assert_eq!(format!("{first}{}", probes(&b)), unknown, "{names:?}");
        assert_eq!(state(&b, "10.0.0.9"), None);
        send(&s, "10.0.0.9:9").unwrap();
        b.inject(&reply());
        b.advance(Duration::from_secs(46));
        send(&s, "10.0.0.9:9").unwrap();
        b.wire.take();
        assert_eq!(probes(&b), silent, "{names:?}");
        assert_eq!(state(&b, "10.0.0.9"), None);
    }
}

#[test]
fn we_answer_for_our_addresses_and_believe_only_what_we_asked() {
    let b = bench();
    let request = |target| arp_frame(MacAddr::BROADCAST, PEER, Arp::request(PEER, IP_PEER, target));
    let sent = b.inject(&request(IP_ME));
    let (_, to, m) = seen(&sent[0]);
    assert_eq!((to, m.unwrap()), (PEER, Arp::request(PEER, IP_PEER, IP_ME).reply_from(ME)));
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Stale), "who asks us is about to talk to us");
    assert!(b.inject(&request(Ipv4Addr::new(10, 0, 0, 77))).is_empty());
    // A probe for our address is answered, and makes no entry.
    let probe = Arp::request(PEER, Ipv4Addr::UNSPECIFIED, IP_ME);
    assert_eq!(b.inject(&arp_frame(MacAddr::BROADCAST, PEER, probe)).len(), 1);
    assert_eq!(state(&b, "0.0.0.0"), None);
    // Unsolicited: no entry; a claim of our own address: dropped.
    let announce = |ip, mac| arp_frame(MacAddr::BROADCAST, mac, Arp::request(mac, ip, ip));
    b.inject(&announce(Ipv4Addr::new(10, 0, 0, 5), PEER));
    assert_eq!(state(&b, "10.0.0.5"), None);
    b.inject(&announce(IP_ME, PEER));
    assert_eq!(b.stack.mib.drops(DropReason::IpLocalSource), 1);
    // A gratuitous one for a known neighbour moves it.
    let other = MacAddr([2, 0, 0, 0, 0, 0x55]);
    b.inject(&announce(IP_PEER, other));
    let s = socket(&b, libc::AF_INET);
    send(&s, "10.0.0.9:9").unwrap();
    assert_eq!(seen(&b.wire.take()[0]).1, other);
}

#[test]
fn the_table_and_the_queues_are_bounded() {
    let b = bench();
    for (name, value) in [("gc_thresh1", "4"), ("gc_thresh2", "8"), ("gc_thresh3", "16"), ("unres_qlen_bytes", "5000")]
    {
        b.stack.sysctl.set(&format!("net.ipv4.neigh.default.{name}"), value).unwrap();
    }
    for host in 10..250u8 {
        let ip = Ipv4Addr::new(10, 0, 0, host);
        b.inject(&arp_frame(ME, PEER, Arp::request(PEER, ip, IP_ME)));
        assert!(list(&b.stack, b.stack.now()).len() <= 16);
    }
    let s = socket(&b, libc::AF_INET);
    for _ in 0..100 {
        send(&s, "10.0.0.5:9").unwrap();
    }
    assert!(b.stack.mib.drops(DropReason::NeighQueueFull) > 80);
}

#[test]
fn static_neighbours_are_never_asked_and_groups_need_no_asking() {
    let b = bench();
    add_permanent(&b.stack, &b.dev, IP_PEER.into(), PEER, b.stack.now()).unwrap();
    let s = socket(&b, libc::AF_INET);
    send(&s, "10.0.0.9:9").unwrap();
    assert_eq!(seen(&b.wire.take()[0]), (ethertype::IPV4, PEER, None));
    b.inject(&arp_frame(ME, ME, Arp::request(MacAddr([2; 6]), IP_PEER, IP_PEER)));
    send(&s, "10.0.0.9:9").unwrap();
    assert_eq!(seen(&b.wire.take()[0]).1, PEER, "what is configured is not learned away");
    remove(&b.stack, &b.dev, IP_PEER.into()).unwrap();
    assert_eq!(remove(&b.stack, &b.dev, IP_PEER.into()), Err(Error::NoEnt));
    s.setsockopt(libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32.to_ne_bytes()).unwrap();
    s.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_IF, &IP_ME.octets()).unwrap();
    for (to, mac) in [("10.0.0.255:9", MacAddr::BROADCAST), ("224.1.2.3:9", MacAddr([1, 0, 0x5e, 1, 2, 3]))] {
        send(&s, to).unwrap();
        assert_eq!(seen(&b.wire.take()[0]), (ethertype::IPV4, mac, None));
    }
}

fn nd_frame(src: &str, dst: &str, hop_limit: u8, m: Message<'_>) -> Vec<u8> {
    let (src, dst): (Ipv6Addr, Ipv6Addr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut f = vec![0; 54 + m.len()];
    let to = if dst.is_multicast() { MacAddr::multicast_v6(dst) } else { ME };
    ether::emit(&mut f, to, PEER, ethertype::IPV6);
    m.emit(&mut f[54..], src, dst);
    let repr = crate::wire::ipv6::Ipv6Repr { hop_limit, ..crate::wire::ipv6::Ipv6Repr::new(src, dst, 58, m.len()) };
    repr.emit(&mut f[14..]);
    f
}

fn nd_message(f: &[u8]) -> (Ipv6Addr, Vec<u8>) {
    let h = Ipv6Header::parse(EtherHeader::parse(f).unwrap().payload()).unwrap();
    assert_eq!(h.hop_limit(), 255);
    (h.dst(), h.payload().to_vec())
}

#[test]
fn ndp_asks_the_solicited_node_group_and_answers_for_our_addresses() {
    let b = bench();
    let s = socket(&b, libc::AF_INET6);
    send(&s, "[fd00::9]:9").unwrap();
    let (dst, m) = nd_message(&b.wire.take()[0]);
    assert_eq!(dst, solicited_node("fd00::9".parse().unwrap()));
    assert!(matches!(
        Icmpv6Header::parse(&m).unwrap().message(),
        Ok(Message::NeighbourSolicitation { options, .. }) if options.source_lladdr() == Some(ME)
    ));
    let option = lladdr_option(nd_option::TARGET_LLADDR, PEER);
    let advert = |solicited| Message::NeighbourAdvertisement {
        router: false,
        solicited,
        override_cache: true,
        target: "fd00::9".parse().unwrap(),
        options: NdOptions::parse(&option).unwrap(),
    };
    b.inject(&nd_frame("fd00::9", "fd00::1", 254, advert(true)));
    assert_eq!(b.stack.mib.drops(DropReason::Ipv6NdiscHopLimit), 1);
    assert_eq!(state(&b, "fd00::9"), Some(State::Incomplete));
    let sent = b.inject(&nd_frame("fd00::9", "fd00::1", 255, advert(true)));
    assert_eq!(seen(&sent[0]).1, PEER);
    assert_eq!(state(&b, "fd00::9"), Some(State::Reachable));
    // An unsolicited one makes no entry.
    let stranger = Message::NeighbourAdvertisement {
        router: false,
        solicited: false,
        override_cache: true,
        target: "fd00::8".parse().unwrap(),
        options: NdOptions::parse(&option).unwrap(),
    };
    b.inject(&nd_frame("fd00::8", "ff02::1", 255, stranger));
    assert_eq!(state(&b, "fd00::8"), None);
    // Asked for our address.
    let option = lladdr_option(nd_option::SOURCE_LLADDR, PEER);
    let me: Ipv6Addr = "fd00::1".parse().unwrap();
    let ask = Message::NeighbourSolicitation { target: me, options: NdOptions::parse(&option).unwrap() };
    let group = solicited_node(me).to_string();
    let sent = b.inject(&nd_frame("fd00::7", &group, 255, ask));
    let (dst, m) = nd_message(&sent[0]);
    assert_eq!(dst, "fd00::7".parse::<Ipv6Addr>().unwrap());
    assert!(matches!(
        Icmpv6Header::parse(&m).unwrap().message(),
        Ok(Message::NeighbourAdvertisement { solicited: true, override_cache: true, target, options, .. })
            if target == me && options.target_lladdr() == Some(ME)
    ));
    // By unicast, with and without its own address: it is only told that we are there.
    for options in [&option[..], &[]] {
        let ask = Message::NeighbourSolicitation { target: me, options: NdOptions::parse(options).unwrap() };
        let sent = b.inject(&nd_frame("fd00::7", "fd00::1", 255, ask));
        assert!(matches!(
            Icmpv6Header::parse(&nd_message(&sent[0]).1).unwrap().message(),
            Ok(Message::NeighbourAdvertisement { solicited: true, override_cache: false, target, options, .. })
                if target == me && options.target_lladdr().is_none()
        ));
    }
    // A probe for it (no source): told to all.
    let probe = Message::NeighbourSolicitation { target: me, options: NdOptions::EMPTY };
    let sent = b.inject(&nd_frame("::", &group, 255, probe));
    assert_eq!(nd_message(&sent[0]).0, "ff02::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(b.stack.mib.get(Mib::Icmp6OutNeighborAdvertisements), 4);
}

#[test]
fn an_echo_request_for_us_in_a_broadcast_frame_is_answered_and_one_for_all_is_not() {
    for (to, ip, answers) in
        [(ME, IP_ME, 1), (MacAddr::BROADCAST, IP_ME, 1), (MacAddr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), 0)]
    {
        let b = bench();
        b.inject(&reply());
        b.inject(&arp_frame(MacAddr::BROADCAST, PEER, Arp::request(PEER, IP_PEER, IP_ME)));
        let mut echo = [8, 0, 0, 0, 0, 1, 0, 1];
        let sum = checksum::finish(checksum::sum(&echo, 0));
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut f = vec![0; 14 + 20 + echo.len()];
        ether::emit(&mut f, to, PEER, ethertype::IPV4);
        let [a, d] = [IP_PEER.octets(), ip.octets()];
        let header = [0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, a[0], a[1], a[2], a[3], d[0], d[1], d[2], d[3]];
        f[14..34].copy_from_slice(&header);
        let sum = checksum::finish(checksum::sum(&header, 0));
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f[34..].copy_from_slice(&echo);
        let sent = b.inject(&f);
        assert_eq!(sent.len(), answers, "to {to:?} {ip}");
        assert!(sent.iter().all(|f| seen(f) == (ethertype::IPV4, PEER, None) && f[34] == 0));
    }
}

/// Sends, when its sock's packet is done with, to the neighbour that the packet waited for.
struct SendsAgain(Mutex<Option<Socket>>);

impl crate::sock::wait::Watch for SendsAgain {
    fn notify(&self, _: crate::sock::wait::Events) {
        // Once: its own packet makes another one too many.
        if let Some(socket) = self.0.lock().take() {
            send(&socket, "10.0.0.9:9").unwrap();
        }
    }
}

#[test]
fn the_owner_of_a_packet_too_many_may_send_to_the_same_neighbour() {
    let b = bench();
    b.stack.sysctl.set("net.ipv4.neigh.default.unres_qlen_bytes", "1").unwrap();
    let first = socket(&b, libc::AF_INET);
    let again = Arc::new(SendsAgain(Mutex::new(Some(socket(&b, libc::AF_INET)))));
    send(&first, "10.0.0.9:9").unwrap();
    first.sock().wait.add(crate::sock::wait::Events::OUT, false, again.clone());
    // From softirq, as an answer: a thread that owns a sock tells nobody yet.
    let answer = Skb::from_slice(&[0x45; 28]);
    output_ethernet(&b.stack, &b.dev, IP_PEER.into(), answer, ME, b.stack.now()).unwrap();
    assert!(again.0.lock().is_none());
    // The newest one is left.
    assert_eq!(b.stack.mib.drops(DropReason::NeighQueueFull), 2);
    b.wire.take();
    assert_eq!(b.inject(&reply()).len(), 1);
}

/// RFC 4861 §7.3.1: who hears that the peer has got something needs not ask whether it is still there.
#[test]
fn an_acknowledgement_confirms_the_neighbour_with_the_next_segment() {
    let b = bench();
    let s = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    let _ = s.connect(Some("10.0.0.9:80".parse().unwrap()));
    b.wire.take();
    let syn = b.inject(&reply()).remove(0);
    let syn = TcpHeader::parse(&syn[34..]).unwrap();
    let (port, iss) = (syn.src_port(), syn.seq());
    let segment = |seq, acked: u32, flags| {
        let mut f = vec![0; 54];
        ether::emit(&mut f, ME, PEER, ethertype::IPV4);
        let ip = Ipv4Repr::new(IP_PEER, IP_ME, crate::wire::proto::TCP, 20);
        ip.emit(&mut f[14..]);
        let tcp = TcpRepr {
            src_port: 80,
            dst_port: port,
            seq: SeqNum(seq),
            ack: iss + acked,
            flags: TcpFlags::ACK | flags,
            window: RawWindow(65_535),
            urgent: 0,
            options_len: 0,
        };
        tcp.emit(&mut f[34..]);
        crate::wire::tcp::fill_checksum(&mut f[34..], IP_PEER.into(), IP_ME.into());
        f
    };
    let write = || s.sendmsg(&mut SendMsg::new(&[IoSlice::new(b"x")], libc::MSG_DONTWAIT)).unwrap();
    b.inject(&segment(1, 1, TcpFlags::SYN));
    b.advance(Duration::from_secs(46));
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Stale));
    write();
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Delay));
    b.inject(&segment(2, 2, TcpFlags::NONE));
    write();
    assert_eq!(state(&b, "10.0.0.9"), Some(State::Reachable));
    b.inject(&segment(2, 3, TcpFlags::NONE));
    b.wire.take();
    assert!(b.advance(Duration::from_secs(10)).is_empty(), "nobody is asked");
}
