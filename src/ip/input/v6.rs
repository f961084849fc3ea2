//! The part of input for IPv6: its header, then the extension headers up to a protocol. Above: `input`. Below:
//! `exthdrs`, `fragment`. Linux: ip6_rcv_core, ip6_input, ip6_protocol_deliver_rcu.

use super::count_ecn;
use super::run::Run;
use crate::base::env::Instant;
use crate::counters::{DropReason, Mib};
use crate::device::netdev::NetDev;
use crate::ip::exthdrs::{self, Place, Step};
use crate::ip::problem::Problem;
use crate::ip::route::{self, Addressee};
use crate::ip::{Ip, fragment, icmp};
use crate::sock::packet::PacketInfo;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::wire::addr::{Martian, martian_v6};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::membership::mld;
use crate::wire::proto;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The fields of an IPv6 header that are needed after the packet was moved.
#[derive(Clone, Copy)]
struct V6 {
    src: Ipv6Addr,
    dst: Ipv6Addr,
    next: u8,
    class: u8,
    hops: u8,
    label: u32,
}

#[track_caller]
fn bad_header_v6(stack: &Stack, reason: DropReason) {
    stack.mib.inc(Mib::Ip6InHdrErrors);
    stack.mib.drop(reason);
}

pub(super) fn receive_v6(net: &Ip, stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant, run: &mut Run) {
    let mib = stack.mib.here();
    mib.inc(Mib::Ip6InReceives);
    mib.add(Mib::Ip6InOctets, skb.len() as u64);
    if stack.sysctl.ip6_disable_ipv6() {
        mib.inc(Mib::Ip6InDiscards);
        return stack.mib.drop(DropReason::Ipv6Disabled);
    }
    if !skb.may_pull(ipv6::HEADER_LEN) {
        return bad_header_v6(stack, DropReason::HdrTrunc);
    }
    let (h, payload) = match Ipv6Header::parse_quoted(skb.linear()) {
        Err(_) => return bad_header_v6(stack, DropReason::IpInHdr),
        Ok(h) => {
            count_ecn(mib, h.ecn(), false, u64::from(skb.rx_segs.max(1)));
            let v6 = V6 {
                src: h.src(),
                dst: h.dst(),
                next: h.next_header(),
                class: h.traffic_class(),
                hops: h.hop_limit(),
                label: h.flow_label(),
            };
            (v6, h.payload_len())
        }
    };
    if let Some(m) = martian_v6(h.src, h.dst, dev.is_loopback()) {
        return bad_header_v6(
            stack,
            match m {
                Martian::Source => DropReason::IpInvalidSource,
                Martian::Destination => DropReason::IpInvalidDest,
            },
        );
    }
    // A link-layer group does not carry unicast (RFC 1122 §3.3.6's rule, applied by Linux to IPv6).
    if skb.link_multicast && !h.dst.is_multicast() {
        return bad_header_v6(stack, DropReason::UnicastInL2Multicast);
    }
    // Payload length 0 is a jumbogram's, of which Linux takes all that came with hop-by-hop options, or nothing
    // follows; of a super-packet above 64 KiB the device knows the length.
    let total = match payload {
        0 if skb.gso_size != 0 || h.next == proto::HOPOPTS => skb.len(),
        n => ipv6::HEADER_LEN + n,
    };
    if skb.len() < total {
        stack.mib.inc(Mib::Ip6InTruncatedPkts);
        return stack.mib.drop(DropReason::PktTooSmall);
    }
    skb.trim(total);
    skb.nh_len = ipv6::HEADER_LEN as u16;
    if h.next == proto::HOPOPTS && !hop_by_hop(stack, dev, &mut skb, h, now) {
        return;
    }
    let Some(to) = addressee_v6(net, stack, dev, &mut skb, h, now) else { return };
    deliver_v6(net, stack, dev, skb, h, (to, now), run);
}

/// Hop-by-hop options are read before it is known for whom a packet is (ip6_rcv_core). False: dropped.
fn hop_by_hop(stack: &Arc<Stack>, dev: &NetDev, skb: &mut Skb, h: V6, now: Instant) -> bool {
    let n = skb.len();
    if !skb.may_pull(n) {
        bad_header_v6(stack, DropReason::HdrTrunc);
        return false;
    }
    let at = Place { next: h.next, offset: ipv6::HEADER_LEN, named_at: ipv6::NEXT_HEADER_OFFSET };
    let to = if h.dst.is_multicast() { Addressee::Multicast } else { Addressee::Local };
    match exthdrs::step(stack, &skb.linear()[..n], at, to, false) {
        Step::Refused { count, reason, problem } => {
            refuse_v6(stack, skb, &info_v6(h, h.next, to, dev.ifindex, now), (count, reason, problem));
            false
        }
        _ => true,
    }
}

/// Drops a packet for one of its headers.
fn refuse_v6(
    stack: &Arc<Stack>,
    skb: &mut Skb,
    info: &PacketInfo,
    (count, reason, problem): (Option<Mib>, DropReason, Option<Problem>),
) {
    if let Some(mib) = count {
        stack.mib.inc(mib);
    }
    stack.mib.drop(reason);
    if let Some(p) = problem {
        icmp::send_problem(stack, skb, info, p);
    }
}

/// A packet for another host: dropped, since a host does not forward. Where there is no route to its destination the
/// sender is told, even by a host (ip6_pkt_discard).
fn not_ours_v6(stack: &Arc<Stack>, dev: &NetDev, skb: &mut Skb, h: V6, now: Instant) {
    let mapped = h.dst.to_ipv4_mapped().is_some();
    let routed =
        !mapped && !h.dst.is_unspecified() && route::lookup_for_answer(stack, IpAddr::V6(h.dst), None, 0).is_ok();
    stack.mib.drop(if routed { DropReason::IpInAddrErrors } else { DropReason::IpInNoRoutes });
    let nobody = routed || h.dst.is_unspecified();
    stack.mib.inc(if nobody { Mib::Ip6InAddrErrors } else { Mib::Ip6InNoRoutes });
    if routed {
        return;
    }
    let info = info_v6(h, h.next, Addressee::Local, dev.ifindex, now);
    icmp::send_problem(stack, skb, &info, Problem::NoRoute);
}

fn addressee_v6(
    net: &Ip,
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    skb: &mut Skb,
    h: V6,
    now: Instant,
) -> Option<Addressee> {
    if h.dst.to_ipv4_mapped().is_some() {
        not_ours_v6(stack, dev, skb, h, now);
        return None;
    }
    let dst = IpAddr::V6(h.dst);
    let verdict = net.routes.input(stack, IpAddr::V6(h.src), dst, dev.ifindex);
    let to = verdict.to;
    match to {
        Addressee::Local => {}
        Addressee::Multicast => {
            stack.mib.inc(Mib::Ip6InMcastPkts);
            stack.mib.add(Mib::Ip6InMcastOctets, skb.len() as u64);
            if !net.groups.accepts(dev, skb.ifindex, dst, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
                stack.mib.drop(DropReason::OtherHost);
                return None;
            }
        }
        Addressee::Broadcast | Addressee::Other => {
            not_ours_v6(stack, dev, skb, h, now);
            return None;
        }
    }
    Some(to)
}

fn info_v6(h: V6, protocol: u8, to: Addressee, ifindex: u32, now: Instant) -> PacketInfo {
    PacketInfo {
        src: IpAddr::V6(h.src),
        dst: IpAddr::V6(h.dst),
        protocol,
        tos: h.class,
        ttl: h.hops,
        ifindex,
        not_unicast: to != Addressee::Local,
        flow_label: h.label,
        now,
    }
}

fn deliver_v6(
    net: &Ip,
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    mut skb: Skb,
    h: V6,
    (to, now): (Addressee, Instant),
    run: &mut Run,
) {
    let mut at = Place { next: h.next, offset: ipv6::HEADER_LEN, named_at: ipv6::NEXT_HEADER_OFFSET };
    let mut reassembled = false;
    while exthdrs::is_extension(at.next) {
        // The options are read in place, so the packet is made contiguous; such packets are rare.
        let n = skb.len();
        if !skb.may_pull(n) {
            return bad_header_v6(stack, DropReason::HdrTrunc);
        }
        match exthdrs::step(stack, &skb.linear()[..n], at, to, reassembled) {
            Step::Next(next) => at = next,
            Step::Fragment => {
                skb.nh_len = at.offset as u16;
                let Some(whole) = fragment::receive_v6(stack, dev, skb, (at.offset, at.named_at), now) else { return };
                skb = whole;
                reassembled = true;
                let mut next = [at.next];
                skb.copy_out(at.named_at, &mut next);
                at.next = next[0];
            }
            // An atomic fragment (RFC 6946) is whole, and its header stays.
            Step::Atomic(next) => {
                stack.mib.inc(Mib::Ip6ReasmOKs);
                skb.frag_max_size = n as u16;
                (at, reassembled) = (next, true);
            }
            Step::Refused { count, reason, problem } => {
                let info = info_v6(h, h.next, to, dev.ifindex, now);
                return refuse_v6(stack, &mut skb, &info, (count, reason, problem));
            }
        }
    }
    let info = info_v6(h, at.next, to, skb.ifindex, now);
    skb.nh_len = at.offset as u16;
    skb.rx = Some(info);
    if at.offset > ipv6::HEADER_LEN {
        let mut headers = vec![0; at.offset];
        skb.copy_out(0, &mut headers);
        skb.saved_header = Some(headers.into());
    }
    upper_v6(net, stack, (dev, to), skb, at, &info, run);
}

/// Whether some socket's filter wants the source of a packet to a group; filters are not for MLD
/// (ip6_protocol_deliver_rcu, ipv6_is_mld).
fn source_wanted(net: &Ip, dev: &NetDev, skb: &Skb, info: &PacketInfo, offset: usize) -> bool {
    let mut ty = [0];
    let mld = info.protocol == proto::ICMPV6 && skb.len() > offset && {
        skb.copy_out(offset, &mut ty);
        matches!(ty[0], mld::QUERY | mld::REPORT_V1 | mld::DONE | mld::REPORT_V2)
    };
    mld || net.groups.accepts(dev, info.ifindex, info.dst, info.src)
}

/// Hands a packet to the protocol behind its extension headers.
fn upper_v6(
    net: &Ip,
    stack: &Arc<Stack>,
    (dev, to): (&NetDev, Addressee),
    mut skb: Skb,
    at: Place,
    info: &PacketInfo,
    run: &mut Run,
) {
    let Place { next: protocol, offset, named_at } = at;
    if to == Addressee::Multicast && !source_wanted(net, dev, &skb, info, offset) {
        return stack.mib.drop(DropReason::OtherHost);
    }
    let raw = net.raw.deliver(stack, &skb, info);
    // ICMP for IPv4 is a protocol of IPv4 alone.
    let handler = stack.registry.handler(protocol).filter(|_| protocol != proto::ICMP);
    let Some(handler) = handler else {
        run.end(stack);
        if raw || protocol == proto::NO_NEXT {
            return stack.mib.inc(Mib::Ip6InDelivers);
        }
        stack.mib.inc(Mib::Ip6InUnknownProtos);
        stack.mib.drop(DropReason::IpNoProto);
        let problem = Problem::NoProtocol { pointer: named_at as u32 };
        return icmp::send_problem(stack, &mut skb, info, problem);
    };
    stack.mib.inc(Mib::Ip6InDelivers);
    skb.pull(offset);
    run.hand_up(stack, &**handler, skb, info);
}
