//! IP input: validates a datagram, decides whether it is for this stack, reassembles, hands it to its protocol. Above:
//! the protocols' `IpHandler`s and raw sockets. Below: `device::netdev`, whose packet type this is. Softirq context, no
//! sock owned. Every way out but delivery names a `DropReason`. Linux: ip_rcv, ip_rcv_finish, ip_local_deliver,
//! ip_route_input_slow; ip6_rcv_core, ip6_protocol_deliver_rcu, exthdrs.c. RFC 1122 §3.2.1, RFC 8200 §4.
//!
//! | file | what |
//! |---|---|
//! | `v6` | what is done for IPv6 |
//! | `run` | datagrams of one flow, which their protocol takes together |
//! | `ahead` | segments that wait until their sock's cache lines are there |

use super::problem::Problem;
use super::route::Addressee;
use super::{Ip, fragment, icmp, neigh, options};
use crate::base::contain::contain;
use crate::base::env::Instant;
use crate::counters::{self, DropReason, Mib};
use crate::device::LinkType;
use crate::device::netdev::{NetDev, PacketType};
use crate::sock::packet::PacketInfo;
use crate::sock::proto::IpHandler;
use crate::sock::skb::{CB_WORDS, L3, Looped, Skb};
use crate::stack::Stack;
use crate::wire::addr::{Martian, martian_v4};
use crate::wire::ether::{self, EtherHeader, ethertype};
use crate::wire::ip::{self, Ecn, Ipv4Header};
use crate::wire::{ParseError, proto};
use run::Run;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

mod ahead;
mod run;
mod v6;

impl PacketType for Ip {
    fn rcv(&self, stack: &Arc<Stack>, dev: &Arc<NetDev>, queue: u16, now: Instant, budget: usize) -> usize {
        let link = |skb| link_input(stack, dev, skb, now);
        let mut run = Run::of_several();
        let net = |skb| network_input(self, stack, dev, skb, now, &mut run);
        let n = dev.recv_queue(stack, queue, now, budget, link, net);
        run.end(stack);
        n
    }

    fn rcv_only(&self, stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant) {
        skb.tstamp = now;
        if skb.looped == Looped::Segment
            && skb.rx.is_some()
            && dev.loops_as_is()
            && let Some(handler) = stack.registry.handler(proto::TCP)
        {
            return receive_segment(self, stack, dev, &**handler, skb, now);
        }
        rcv_any_only(self, stack, dev, skb, now);
    }
}

#[inline(never)]
fn rcv_any_only(net: &Ip, stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant) {
    dev.note_arrival(&mut skb);
    let mut run = Run::default();
    if let Some(skb) = link_input(stack, dev, skb, now) {
        network_input(net, stack, dev, skb, now, &mut run);
    }
    run.end(stack);
}

/// The link's part: removes the Ethernet header and sets the network protocol, `Skb::l3`. ARP is answered here. None:
/// nothing is left for IP.
#[inline]
fn link_input(stack: &Arc<Stack>, dev: &Arc<NetDev>, skb: Skb, now: Instant) -> Option<Skb> {
    // IP output has set the protocol.
    if skb.looped != Looped::No { Some(skb) } else { link_header(stack, dev, skb, now) }
}

fn link_header(stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant) -> Option<Skb> {
    let dropped = |reason| {
        stack.mib.drop(reason);
        None
    };
    if dev.is_ethernet()
        && let LinkType::Ethernet(mac) = dev.caps().link
    {
        if !skb.may_pull(ether::HEADER_LEN) {
            return dropped(DropReason::HdrTrunc);
        }
        let (dst, src, ty) = match EtherHeader::parse(skb.linear()) {
            Ok(h) => (h.dst(), h.src(), h.ethertype()),
            Err(_) => return dropped(DropReason::UnhandledProto),
        };
        if !src.is_unicast() {
            return dropped(DropReason::MacInvalidSource);
        }
        if !dst.is_multicast() && dst != mac {
            return dropped(DropReason::OtherHost);
        }
        skb.link_multicast = dst.is_multicast();
        skb.pull(ether::HEADER_LEN);
        skb.l3 = match ty {
            ethertype::IPV4 => L3::V4,
            ethertype::IPV6 => L3::V6,
            ethertype::ARP => {
                neigh::arp_rcv(stack, dev, mac, skb, now);
                return None;
            }
            _ => return dropped(DropReason::UnhandledProto),
        };
    } else {
        if !skb.may_pull(1) {
            return dropped(DropReason::HdrTrunc);
        }
        skb.l3 = match skb.linear()[0] >> 4 {
            4 => L3::V4,
            6 => L3::V6,
            _ => return dropped(DropReason::UnhandledProto),
        };
    }
    Some(skb)
}

/// IP's part: `skb` begins with its network header.
fn network_input(net: &Ip, stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant, run: &mut Run) {
    let looped = std::mem::take(&mut skb.looped);
    if looped != Looped::No {
        // It is looked up, and a packet in the queue of its receiver must not hold it.
        skb.receiver = None;
    }
    match looped {
        Looped::No => {}
        looped if dev.loops_as_is() => return receive_looped(net, stack, skb, looped, now, run),
        _ => skb.cb = [0; CB_WORDS],
    }
    match skb.l3 {
        L3::V4 => receive_v4(net, stack, dev, skb, now, run),
        L3::V6 => v6::receive_v6(net, stack, dev, skb, now, run),
    }
}

fn count_ecn(mib: counters::Here<'_>, ecn: Ecn, v4: bool, segs: u64) {
    let counter = match (v4, ecn) {
        (true, Ecn::NotEct) => Mib::IpExtInNoECTPkts,
        (true, Ecn::Ect1) => Mib::IpExtInECT1Pkts,
        (true, Ecn::Ect0) => Mib::IpExtInECT0Pkts,
        (true, Ecn::Ce) => Mib::IpExtInCEPkts,
        (false, Ecn::NotEct) => Mib::Ip6InNoECTPkts,
        (false, Ecn::Ect1) => Mib::Ip6InECT1Pkts,
        (false, Ecn::Ect0) => Mib::Ip6InECT0Pkts,
        (false, Ecn::Ce) => Mib::Ip6InCEPkts,
    };
    mib.add(counter, segs);
}

/// The fields of an IPv4 header that are needed after the packet was moved.
#[derive(Clone, Copy)]
struct V4 {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    header_len: usize,
    protocol: u8,
    tos: u8,
    ttl: u8,
    is_fragment: bool,
}

impl From<&Ipv4Header<'_>> for V4 {
    fn from(h: &Ipv4Header<'_>) -> V4 {
        V4 {
            src: h.src(),
            dst: h.dst(),
            header_len: h.header_len(),
            protocol: h.protocol(),
            tos: h.tos(),
            ttl: h.ttl(),
            is_fragment: h.is_fragment(),
        }
    }
}

#[track_caller]
fn bad_header_v4(stack: &Stack, reason: DropReason) {
    stack.mib.inc(Mib::IpInHdrErrors);
    stack.mib.drop(reason);
}

/// The fields of a header, and the length of the datagram: 0 in a super-packet above 64 KiB, whose length is what the
/// device said (BIG TCP). None: its checksum is wrong.
#[inline(always)]
fn read_v4(bytes: &[u8]) -> Result<Option<(V4, usize)>, ParseError> {
    let h = Ipv4Header::parse_quoted(bytes)?;
    Ok(h.checksum_ok().then(|| (V4::from(&h), h.total_len())))
}

/// A short way: as [`receive_v4`], for a packet of `ip::output::xmit_looped`. What that function checks is known of
/// such a packet: it has a good header without options, and is for this host.
fn receive_looped(net: &Ip, stack: &Arc<Stack>, mut skb: Skb, looped: Looped, now: Instant, run: &mut Run) {
    let Some(fixed) = skb.linear().first_chunk::<{ ip::HEADER_LEN }>() else {
        return bad_header_v4(stack, DropReason::HdrTrunc);
    };
    let [_, tos, .., s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    let (ttl, protocol) = (fixed[8], fixed[9]);
    let (src, dst) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    let mib = stack.mib.here();
    mib.inc(Mib::IpInReceives);
    mib.add(Mib::IpExtInOctets, skb.len() as u64);
    count_ecn(mib, Ecn::from_tos(tos), true, u64::from(skb.rx_segs.max(1)));
    let h = V4 { src, dst, header_len: ip::HEADER_LEN, protocol, tos, ttl, is_fragment: false };
    let Some(handler) = stack.registry.handler(protocol) else {
        return deliver_v4(net, stack, skb, h, Addressee::Local, now, run);
    };
    let info = info_v4(&skb, h, Addressee::Local, skb.ifindex, now);
    // A socket's filter may ask what IP says of the packet.
    skb.rx = Some(info);
    net.raw.deliver(stack, &skb, &info);
    mib.inc(Mib::IpInDelivers);
    skb.pull(ip::HEADER_LEN);
    // TCP takes a short way of its own by the mark, and removes it. A plug-in that has TCP's place does not know the
    // mark, so it is removed here.
    if protocol == proto::TCP {
        match handler.contained() {
            true => skb.cb = [0; CB_WORDS],
            false => skb.looped = looped,
        }
    }
    run.hand_up(stack, &**handler, skb, &info);
}

/// As `receive_looped`, for the only packet of a queue, which is a [`Looped::Segment`]: its sender has noted what IP's
/// header says, so the header is not read.
#[inline(always)]
fn receive_segment(net: &Ip, stack: &Arc<Stack>, dev: &NetDev, handler: &dyn IpHandler, mut skb: Skb, now: Instant) {
    dev.note_arrival(&mut skb);
    let ifindex = skb.ifindex;
    let Some(noted) = &mut skb.rx else { return bad_header_v4(stack, DropReason::HdrTrunc) };
    (noted.ifindex, noted.now) = (ifindex, now);
    let mib = stack.mib.here();
    let (bytes, segs, ecn) = (skb.len() as u64, u64::from(skb.rx_segs.max(1)), Ecn::from_tos(skb.tcp.ip_dsfield));
    mib.inc(Mib::IpInReceives);
    mib.add(Mib::IpExtInOctets, bytes);
    count_ecn(mib, ecn, true, segs);
    mib.inc(Mib::IpInDelivers);
    if net.raw.has_socks()
        && let Some(info) = skb.rx
    {
        net.raw.deliver(stack, &skb, &info);
    }
    skb.pull(ip::HEADER_LEN);
    if handler.contained() {
        (skb.looped, skb.cb, skb.receiver) = (Looped::No, [0; CB_WORDS], None);
    }
    if contain(|| handler.contained(), || handler.rcv_noted(stack, skb)) {
        stack.mib.drop(DropReason::PluginRefused);
    }
}

fn receive_v4(net: &Ip, stack: &Arc<Stack>, dev: &Arc<NetDev>, mut skb: Skb, now: Instant, run: &mut Run) {
    let mib = stack.mib.here();
    mib.inc(Mib::IpInReceives);
    mib.add(Mib::IpExtInOctets, skb.len() as u64);
    if !skb.may_pull(ip::HEADER_LEN) {
        return bad_header_v4(stack, DropReason::HdrTrunc);
    }
    let Some(fixed) = skb.linear().first_chunk::<{ ip::HEADER_LEN }>().copied() else { return };
    let [first, tos, ..] = fixed;
    let header_len = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header_len < ip::HEADER_LEN {
        return bad_header_v4(stack, DropReason::IpInHdr);
    }
    count_ecn(mib, Ecn::from_tos(tos), true, u64::from(skb.rx_segs.max(1)));
    // A header without options has a length that the compiler knows, which makes the checksum cheaper.
    let read = if header_len == ip::HEADER_LEN {
        read_v4(&fixed)
    } else if skb.may_pull(header_len) {
        read_v4(skb.linear())
    } else {
        Err(ParseError::Truncated)
    };
    let (h, total) = match read {
        Ok(Some((h, 0))) if skb.gso_size != 0 => (h, skb.len()),
        Ok(Some(read)) => read,
        Ok(None) => {
            stack.mib.inc(Mib::IpExtInCsumErrors);
            return bad_header_v4(stack, DropReason::IpCsum);
        }
        Err(ParseError::Truncated) => return bad_header_v4(stack, DropReason::HdrTrunc),
        Err(_) => return bad_header_v4(stack, DropReason::IpInHdr),
    };
    if skb.len() < total {
        stack.mib.inc(Mib::IpExtInTruncatedPkts);
        return stack.mib.drop(DropReason::PktTooSmall);
    }
    if total < h.header_len {
        return bad_header_v4(stack, DropReason::IpInHdr);
    }
    skb.trim(total);
    skb.nh_len = h.header_len as u16;
    let Some(to) = addressee_v4(net, stack, dev, &skb, h) else { return };
    if h.header_len > ip::HEADER_LEN && !options_v4(stack, &mut skb, h, to, dev, now) {
        return;
    }
    if !count_v4(stack, to, skb.len() as u64) {
        return;
    }
    if !h.is_fragment {
        return deliver_v4(net, stack, skb, h, to, now, run);
    }
    let Some(skb) = fragment::receive_v4(stack, dev, skb, now) else { return };
    let again = match Ipv4Header::parse_quoted(skb.linear()) {
        Ok(h) => V4::from(&h),
        Err(_) => return bad_header_v4(stack, DropReason::IpInHdr),
    };
    deliver_v4(net, stack, skb, again, to, now, run);
}

/// For whom the packet is; None: it is dropped. Linux: ip_route_input_slow.
fn addressee_v4(net: &Ip, stack: &Arc<Stack>, dev: &Arc<NetDev>, skb: &Skb, h: V4) -> Option<Addressee> {
    let loopback = dev.is_loopback();
    let (src, dst) = (IpAddr::V4(h.src), IpAddr::V4(h.dst));
    match martian_v4(h.src, h.dst, loopback) {
        Some(Martian::Source) => {
            let net = h.src.is_loopback();
            stack.mib.drop(if net { DropReason::IpLocalNet } else { DropReason::IpInvalidSource });
            return None;
        }
        Some(Martian::Destination) => {
            let net = h.dst.is_loopback();
            stack.mib.drop(if net { DropReason::IpLocalNet } else { DropReason::IpInvalidDest });
            return None;
        }
        None => {}
    }
    let verdict = net.routes.input(stack, src, dst, dev.ifindex);
    // No packet from outside has one of our addresses as its source: LAND and similar attacks (fib_validate_source).
    // One for another host is dropped, and counted as such, before that.
    if !loopback && verdict.src_local && verdict.to != Addressee::Other {
        stack.mib.drop(DropReason::IpLocalSource);
        return None;
    }
    // Source filters are not for IGMP (ip_check_mc_rcu).
    let sender = if h.protocol == proto::IGMP { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { src };
    match verdict.to {
        // A directed broadcast that was looped back arrives by the loopback device.
        Addressee::Other if loopback && net.routes.is_broadcast(dst) => Some(Addressee::Broadcast),
        Addressee::Multicast if !net.groups.accepts(dev, skb.ifindex, dst, sender) => {
            stack.mib.drop(DropReason::OtherHost);
            None
        }
        to => Some(to),
    }
}

/// Counts a packet by whom it is for. False: it is for another host, and dropped.
fn count_v4(stack: &Stack, to: Addressee, octets: u64) -> bool {
    match to {
        Addressee::Local => {}
        Addressee::Broadcast => {
            stack.mib.inc(Mib::IpExtInBcastPkts);
            stack.mib.add(Mib::IpExtInBcastOctets, octets);
        }
        Addressee::Multicast => {
            stack.mib.inc(Mib::IpExtInMcastPkts);
            stack.mib.add(Mib::IpExtInMcastOctets, octets);
        }
        Addressee::Other => {
            // A host does not forward (RFC 1122 §3.2.1.3); Linux with forwarding off answers nothing either.
            stack.mib.inc(Mib::IpInAddrErrors);
            stack.mib.drop(DropReason::IpInAddrErrors);
            return false;
        }
    }
    true
}

/// IPv4 options: malformed ones draw a parameter problem, source routes are refused (accept_source_route is 0), record
/// route and timestamp are filled in. False: dropped. Linux: ip_rcv_options.
fn options_v4(stack: &Arc<Stack>, skb: &mut Skb, h: V4, to: Addressee, dev: &NetDev, now: Instant) -> bool {
    let mut header = [0; ip::MAX_HEADER_LEN];
    let header = &mut header[..h.header_len];
    skb.copy_out(0, header);
    let host = options::Host {
        own: options::own_address(stack, h.src, h.dst),
        is_other: &|a| super::net(stack).routes.is_other(a),
        time: options::time(stack),
    };
    let compiled = options::compile(&mut header[ip::HEADER_LEN..], &host);
    if compiled.as_ref().map_or(true, |done| done.changed) {
        skb.pull(h.header_len);
        if let Some(front) = skb.push(h.header_len) {
            front.copy_from_slice(header);
        }
        // In one page with the transport header, where an error about the packet finds it again (`Skb::unpull`).
        let n = (h.header_len + fragment::MAX_TRANSPORT_HEADER).min(skb.len());
        skb.may_pull(n);
    }
    match compiled {
        Err(at) => {
            stack.mib.inc(Mib::IpInHdrErrors);
            stack.mib.drop(DropReason::IpInHdr);
            // Whether it is for this host has not been asked yet.
            let to = if to == Addressee::Other { Addressee::Local } else { to };
            let info = info_v4(skb, h, to, dev.ifindex, now);
            icmp::send_problem(stack, skb, &info, Problem::Parameter { pointer: at as u32 });
            false
        }
        Ok(done) => {
            if done.source_route {
                stack.mib.drop(DropReason::IpInHdr);
            }
            !done.source_route
        }
    }
}

fn info_v4(skb: &Skb, h: V4, to: Addressee, ifindex: u32, now: Instant) -> PacketInfo {
    PacketInfo {
        src: IpAddr::V4(h.src),
        dst: IpAddr::V4(h.dst),
        protocol: h.protocol,
        tos: h.tos,
        ttl: h.ttl,
        ifindex,
        not_unicast: skb.link_multicast || to != Addressee::Local,
        flow_label: 0,
        now,
    }
}

fn deliver_v4(net: &Ip, stack: &Arc<Stack>, mut skb: Skb, h: V4, to: Addressee, now: Instant, run: &mut Run) {
    let info = info_v4(&skb, h, to, skb.ifindex, now);
    skb.rx = Some(info);
    if h.header_len > ip::HEADER_LEN {
        let mut header = vec![0; h.header_len];
        skb.copy_out(0, &mut header);
        skb.saved_header = Some(header.into());
    }
    let raw = net.raw.deliver(stack, &skb, &info);
    // ICMPv6 is a protocol of IPv6 alone.
    let handler = stack.registry.handler(h.protocol).filter(|_| h.protocol != proto::ICMPV6);
    let Some(handler) = handler else {
        run.end(stack);
        if raw {
            return stack.mib.inc(Mib::IpInDelivers);
        }
        stack.mib.inc(Mib::IpInUnknownProtos);
        stack.mib.drop(DropReason::IpNoProto);
        return icmp::send_problem(stack, &mut skb, &info, Problem::NoProtocol { pointer: 0 });
    };
    stack.mib.inc(Mib::IpInDelivers);
    skb.pull(h.header_len);
    run.hand_up(stack, &**handler, skb, &info);
}

/// Calls the protocol's handler; after a panic there only the packet is lost.
#[inline(always)]
fn hand_up(stack: &Arc<Stack>, handler: &dyn IpHandler, skb: Skb, info: &PacketInfo) {
    if contain(|| handler.contained(), || handler.rcv(stack, skb, info)) {
        stack.mib.drop(DropReason::PluginRefused);
    }
}

#[cfg(test)]
mod looped_test;
#[cfg(test)]
mod tests;
