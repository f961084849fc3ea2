//! The messages of IGMP and MLD on the wire: reports are packed into packets of the device's MTU and sent; queries and
//! reports of others are received. Above: `Groups`, `icmpv6`. Below: `frame`. Linux: igmpv3_newpack, igmp_send_report,
//! igmp_rcv, mld_newpack, igmp6_send, igmp6_event_query, igmp6_event_report.

use super::super::frame::send_frame;
use super::super::{icmp_mib, net};
use super::iface::Message;
use crate::base::env::Instant;
use crate::counters::{DropReason, Mib};
use crate::device::netdev::NetDev;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::IpHandler;
use crate::sock::skb::{L3, Skb};
use crate::stack::Stack;
use crate::wire::addr::is_link_local_v6;
use crate::wire::ether::MacAddr;
use crate::wire::icmp::INTERNETWORK_CONTROL;
use crate::wire::ip::{self, Ipv4Repr};
use crate::wire::ipv6::{self, Extension, Extensions, Ipv6Repr, option};
use crate::wire::membership::{self as wire, Query, Record, RecordType, Version, igmp, mld};
use crate::wire::{checksum, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Sends messages on the link of `dev`.
pub(super) fn send(stack: &Arc<Stack>, dev: &Arc<NetDev>, v4: bool, messages: Vec<Message>, now: Instant) {
    if !v4 && stack.sysctl.ip6_disable_ipv6() {
        return;
    }
    let headers = if v4 { ip::HEADER_LEN + wire::ROUTER_ALERT_V4.len() } else { ipv6::HEADER_LEN + 8 };
    let room = (dev.caps().mtu as usize).saturating_sub(headers + wire::REPORT_LEN);
    for m in messages {
        match m {
            Message::Report(records) => {
                let to = if v4 { wire::IGMPV3_ROUTERS.into() } else { wire::MLDV2_ROUTERS.into() };
                for records in pack(records, v4, room) {
                    transmit(stack, dev, wire::emit_report(&records, v4), to, now);
                }
            }
            Message::Old(version, group) => {
                let ty = match (v4, version) {
                    (false, _) => mld::REPORT_V1,
                    (true, Version::V1) => igmp::REPORT_V1,
                    (true, _) => igmp::REPORT_V2,
                };
                transmit(stack, dev, wire::emit_old(ty, group), group, now);
            }
            Message::Leave(group) => {
                let (ty, to) = match v4 {
                    true => (igmp::LEAVE, IpAddr::V4(wire::ALL_ROUTERS_V4)),
                    false => (mld::DONE, IpAddr::V6(wire::ALL_ROUTERS_V6)),
                };
                transmit(stack, dev, wire::emit_old(ty, group), to, now);
            }
        }
    }
}

/// Records by packet, `room` bytes each. One that is longer than a packet is cut in several, but of excluded sources,
/// of which those that do not fit are left out (RFC 3376 §4.2.16).
fn pack(records: Vec<Record>, v4: bool, room: usize) -> Vec<Vec<Record>> {
    let (head, addr) = Record::sizes(v4);
    let most = (room.saturating_sub(head) / addr).max(1);
    let (mut packets, mut used) = (vec![Vec::new()], 0);
    for mut r in records {
        if matches!(r.ty, RecordType::IsExclude | RecordType::ToExclude) {
            r.sources.truncate(most);
        }
        loop {
            let rest = r.sources.split_off(r.sources.len().min(most));
            let next = Record { sources: rest, ..r };
            if used + r.len() > room && used > 0 {
                packets.push(Vec::new());
                used = 0;
            }
            used += r.len();
            if let Some(last) = packets.last_mut() {
                last.push(r);
            }
            if next.sources.is_empty() {
                break;
            }
            r = next;
        }
    }
    packets.retain(|p| !p.is_empty());
    packets
}

/// Puts the IP header with the router alert option in front, and sends straight to the link.
fn transmit(stack: &Arc<Stack>, dev: &Arc<NetDev>, mut message: Vec<u8>, dst: IpAddr, now: Instant) {
    let Some(mac) = MacAddr::for_group(dst) else { return };
    let mut skb = match dst {
        IpAddr::V4(to) => {
            wire::fill_checksum(&mut message, Ipv4Addr::UNSPECIFIED.into(), dst);
            let mut skb = Skb::from_slice(&message);
            let options = &wire::ROUTER_ALERT_V4;
            let src = dev.addrs().iter().find_map(|a| match a.addr() {
                IpAddr::V4(a) => Some(a),
                IpAddr::V6(_) => None,
            });
            let Some(h) = skb.push(ip::HEADER_LEN + options.len()) else { return };
            let repr = Ipv4Repr {
                src: src.unwrap_or(Ipv4Addr::UNSPECIFIED),
                dst: to,
                protocol: proto::IGMP,
                ttl: 1,
                tos: INTERNETWORK_CONTROL,
                id: 0,
                dont_fragment: true,
                more_fragments: false,
                frag_offset: 0,
                payload_len: message.len(),
            };
            repr.emit_with_options(h, options);
            skb.l3 = L3::V4;
            skb
        }
        IpAddr::V6(to) => {
            let src = dev.addrs().iter().find_map(|a| match a.addr() {
                IpAddr::V6(a) if is_link_local_v6(a) => Some(a),
                _ => None,
            });
            let src = src.unwrap_or(Ipv6Addr::UNSPECIFIED);
            wire::fill_checksum(&mut message, src.into(), dst);
            icmp_mib::count_out_v6(stack, message[0]);
            let mut skb = Skb::from_slice(&message);
            let payload_len = wire::ROUTER_ALERT_V6.len() + message.len();
            let Some(h) = skb.push(ipv6::HEADER_LEN + wire::ROUTER_ALERT_V6.len()) else { return };
            h[ipv6::HEADER_LEN..].copy_from_slice(&wire::ROUTER_ALERT_V6);
            let repr = Ipv6Repr { hop_limit: 1, ..Ipv6Repr::new(src, to, proto::HOPOPTS, payload_len) };
            repr.emit(h);
            skb.l3 = L3::V6;
            skb
        }
    };
    skb.nh_len = (skb.len() - message.len()) as u16;
    count_out(stack, dst.is_ipv4(), skb.len() as u64);
    // If a full device drops it, the next report says it again.
    let _ = send_frame(stack, dev, mac, skb, now);
}

fn count_out(stack: &Stack, v4: bool, octets: u64) {
    let (requests, transmits, all, packets, bytes) = match v4 {
        true => (
            Mib::IpOutRequests,
            Mib::IpOutTransmits,
            Mib::IpExtOutOctets,
            Mib::IpExtOutMcastPkts,
            Mib::IpExtOutMcastOctets,
        ),
        false => {
            (Mib::Ip6OutRequests, Mib::Ip6OutTransmits, Mib::Ip6OutOctets, Mib::Ip6OutMcastPkts, Mib::Ip6OutMcastOctets)
        }
    };
    stack.mib.inc(requests);
    stack.mib.inc(transmits);
    stack.mib.inc(packets);
    stack.mib.add(all, octets);
    stack.mib.add(bytes, octets);
}

/// Receives IGMP.
#[derive(Debug, Default)]
pub(crate) struct Igmp;

impl IpHandler for Igmp {
    fn contained(&self) -> bool {
        false
    }

    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        if info.dst.is_ipv6() {
            return stack.mib.drop(DropReason::IpNoProto);
        }
        let n = skb.len();
        if !skb.may_pull(8) || !skb.may_pull(n) || !checksum::is_valid(checksum::sum(skb.linear(), 0)) {
            return stack.mib.drop(DropReason::IcmpMalformed);
        }
        let b = skb.linear();
        let group = IpAddr::V4(Ipv4Addr::new(b[4], b[5], b[6], b[7]));
        match b[0] {
            igmp::QUERY => match Query::parse_v4(b) {
                Ok(q) => net(stack).groups.query(stack, info.ifindex, true, &q, info.now),
                Err(_) => stack.mib.drop(DropReason::IcmpMalformed),
            },
            // A router may not have heard what was sent to this host alone.
            igmp::REPORT_V1 | igmp::REPORT_V2 if info.not_unicast => {
                net(stack).groups.heard(stack, info.ifindex, group);
            }
            _ => {}
        }
    }

    fn err(&self, _: &Arc<Stack>, _: &IcmpError<'_>) {}
}

/// Whether the packet that ends in this message has a hop-by-hop header with the router alert for MLD.
fn has_router_alert(skb: &Skb) -> bool {
    let mut packet = skb.share();
    let headers = usize::from(skb.nh_len);
    if headers <= ipv6::HEADER_LEN || !packet.unpull(headers) || !packet.may_pull(headers) {
        return false;
    }
    let b = packet.linear();
    let first = Extensions::resume(b[6], ipv6::HEADER_LEN, &b[ipv6::HEADER_LEN..headers]).next();
    let Some(Ok(Extension::HopByHop(mut options))) = first else { return false };
    options.any(|o| o.is_ok_and(|o| o.kind == option::ROUTER_ALERT && o.data == [0, 0]))
}

/// Receives an MLD message, of type 130 to 132, of a hop limit and with a router alert as RFC 3810 §6.2 demands of
/// queries.
pub(in crate::ip) fn mld_rcv(stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) {
    let IpAddr::V6(src) = info.src else { return };
    let b = skb.linear();
    match b[0] {
        mld::QUERY => {
            if !is_link_local_v6(src) || info.ttl != 1 || !has_router_alert(skb) {
                return stack.mib.drop(DropReason::IcmpMalformed);
            }
            match Query::parse_v6(b) {
                Ok(q) => net(stack).groups.query(stack, info.ifindex, false, &q, info.now),
                Err(_) => stack.mib.drop(DropReason::IcmpMalformed),
            }
        }
        mld::REPORT_V1 if info.not_unicast => {
            let group = b.get(8..).and_then(|b| b.first_chunk::<16>()).map(|g| Ipv6Addr::from(*g));
            let Some(group) = group.filter(|_| src.is_unspecified() || is_link_local_v6(src)) else {
                return stack.mib.drop(DropReason::IcmpMalformed);
            };
            net(stack).groups.heard(stack, info.ifindex, group.into());
        }
        _ => {}
    }
}
