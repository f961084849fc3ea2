//! What a packet that this stack has sent to itself says of itself ([`Looped`]), and who may believe it.

use super::*;
use crate::device::capture_test::Bench;
use crate::device::pcap;
use crate::sock::packet::IcmpError;
use crate::sys::lock::Mutex;
use crate::wire::ip::Ipv4Repr;
use std::net::Ipv4Addr;

/// A packet to this stack itself, as IP output leaves it.
fn packet(protocol: u8, looped: Looped) -> Skb {
    let repr =
        Ipv4Repr { dont_fragment: true, ..Ipv4Repr::new(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, protocol, 20) };
    let mut skb = Skb::from_slice(&[0; 20]);
    repr.emit(skb.push(ip::HEADER_LEN).unwrap());
    (skb.nh_len, skb.looped) = (ip::HEADER_LEN as u16, looped);
    if looped == Looped::Segment {
        let (src, dst) = (IpAddr::V4(repr.src), IpAddr::V4(repr.dst));
        let (not_unicast, now) = (false, Instant::ZERO);
        skb.rx = Some(PacketInfo { src, dst, protocol, tos: 0, ttl: 64, ifindex: 0, not_unicast, flow_label: 0, now });
        skb.cb[0] = 7;
    }
    skb
}

fn send(b: &Bench, skb: Skb) {
    let lo = b.stack.netdevs.by_index(1).unwrap();
    lo.xmit(&b.stack, b.stack.now(), skb).unwrap();
}

/// What wraps the loopback device may change what passes.
#[test]
fn what_waits_in_the_loopback_device_when_that_is_wrapped_is_looked_at() {
    for wrapped in [false, true] {
        let b = Bench::on_ip();
        let mut damaged = packet(253, Looped::Headers);
        damaged.head_mut()[10] ^= 1;
        send(&b, damaged);
        if wrapped {
            let lo = b.stack.netdevs.by_index(1).unwrap();
            pcap::start_to(&lo, Box::new(std::io::sink()), b.clock.clone()).unwrap();
        }
        b.poll();
        let counts = [Mib::IpInUnknownProtos, Mib::IpInHdrErrors].map(|m| b.stack.mib.get(m));
        assert_eq!(counts, [u64::from(!wrapped), u64::from(wrapped)]);
    }
}

/// What a handler was given.
type Marks = Arc<Mutex<Vec<Looped>>>;

fn mark(marks: &Marks, skb: &Skb) {
    assert!(skb.looped == Looped::Segment || skb.cb == [0; CB_WORDS], "what TCP has noted is for TCP");
    marks.lock().push(skb.looped);
}

/// In TCP's place, without a way of its own for packets that are noted. Contained or not.
struct Plain(Marks, bool);
impl IpHandler for Plain {
    fn rcv(&self, _: &Arc<Stack>, skb: Skb, _: &PacketInfo) {
        mark(&self.0, &skb);
    }
    fn err(&self, _: &Arc<Stack>, _: &IcmpError<'_>) {}
    fn contained(&self) -> bool {
        self.1
    }
}

/// With one.
struct Noting(Marks, bool);
impl IpHandler for Noting {
    fn rcv(&self, _: &Arc<Stack>, skb: Skb, _: &PacketInfo) {
        mark(&self.0, &skb);
    }
    fn rcv_noted(&self, _: &Arc<Stack>, skb: Skb) {
        mark(&self.0, &skb);
    }
    fn err(&self, _: &Arc<Stack>, _: &IcmpError<'_>) {}
    fn contained(&self) -> bool {
        self.1
    }
}

/// Only TCP itself takes the mark off before it passes a packet on: a plug-in in its place may change it first.
#[test]
fn a_plug_in_in_tcps_place_gets_no_packet_that_says_it_is_good() {
    type Make = fn(Marks) -> Arc<dyn IpHandler>;
    let cases: [(&str, Make, Looped); 4] = [
        ("contained", |m| Arc::new(Plain(m, true)), Looped::No),
        ("contained, noting", |m| Arc::new(Noting(m, true)), Looped::No),
        ("not contained", |m| Arc::new(Plain(m, false)), Looped::No),
        ("not contained, noting", |m| Arc::new(Noting(m, false)), Looped::Segment),
    ];
    for (case, handler, alone) in cases {
        let b = Bench::on_ip();
        let marks = Marks::default();
        b.stack.registry.unregister("TCP").unwrap();
        b.stack.registry.add_protocol(proto::TCP, handler(marks.clone())).unwrap();
        send(&b, packet(proto::TCP, Looped::Segment));
        b.poll();
        assert_eq!(std::mem::take(&mut *marks.lock()), [alone], "{case}");
        if case.starts_with("contained") {
            for _ in 0..2 {
                send(&b, packet(proto::TCP, Looped::Segment));
            }
            b.poll();
            assert_eq!(*marks.lock(), [Looped::No; 2], "{case}: of several");
        }
    }
}
