//! ICMPv6. Neighbour discovery goes to `neigh`, router advertisements to `autoconf`; the rest is as in [`super::icmp`],
//! which has the rate limits. Linux: net/ipv6/icmp.c. RFC 4443, RFC 4861, RFC 8201.

use super::output::{IpTx, default_ttl, xmit};
use super::problem::Problem;
use super::slots::deliver_error;
use super::{autoconf, exthdrs, flowlabel, icmp_mib, multicast, neigh, net, rfc4884, rfc8335, route};
use crate::base::error::Error;
use crate::counters::{DropReason, Mib};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::IpHandler;
use crate::sock::skb::{Skb, SkbInner};
use crate::stack::Stack;
use crate::wire::icmpv6::{self, Icmpv6Header, Message, kind, parameter_problem, time_exceeded, unreachable};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::membership::mld;
use crate::wire::{ParseError, checksum, proto};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// See [`super::icmp::send_problem`].
pub(super) fn send_problem(stack: &Arc<Stack>, skb: &mut SkbInner, info: &PacketInfo, problem: Problem) {
    let IpAddr::V6(src) = info.src else { return };
    // Only packet-too-big and the unknown option of a group's member may answer a multicast (RFC 4443 §2.4 (e.3)).
    let may_be_group = matches!(problem, Problem::Option { .. } | Problem::TooBig { .. });
    if src.is_unspecified() || src.is_multicast() || (info.not_unicast && !may_be_group) {
        return;
    }
    let n = skb.len().min(icmpv6::MAX_ERROR_LEN);
    if !skb.may_pull(n) {
        return;
    }
    let Ok(h) = Ipv6Header::parse_quoted(skb.linear()) else { return };
    if exthdrs::may_be_error(skb.linear(), h.next_header()) {
        return;
    }
    let quoted = &skb.linear()[..icmpv6::quote_len(skb.len()).min(n)];
    let msg = match problem {
        Problem::Parameter { pointer } => {
            Message::ParameterProblem { code: parameter_problem::HEADER_FIELD, pointer, quoted }
        }
        Problem::Option { pointer } => Message::ParameterProblem { code: parameter_problem::OPTION, pointer, quoted },
        Problem::NoProtocol { pointer } => {
            Message::ParameterProblem { code: parameter_problem::NEXT_HEADER, pointer, quoted }
        }
        Problem::NoPort => Message::Unreachable { code: unreachable::PORT, quoted },
        Problem::NoRoute => Message::Unreachable { code: unreachable::NO_ROUTE, quoted },
        Problem::Incomplete => {
            Message::ParameterProblem { code: parameter_problem::INCOMPLETE_CHAIN, pointer: 0, quoted }
        }
        Problem::Reassembly => Message::TimeExceeded { code: time_exceeded::REASSEMBLY, quoted },
        Problem::Prohibited => Message::Unreachable { code: unreachable::PROHIBITED, quoted },
        Problem::TooBig { mtu } => Message::PacketTooBig { mtu, quoted },
    };
    let ty = match msg {
        Message::Unreachable { .. } => kind::UNREACHABLE,
        Message::PacketTooBig { .. } => kind::PACKET_TOO_BIG,
        Message::TimeExceeded { .. } => kind::TIME_EXCEEDED,
        _ => kind::PARAMETER_PROBLEM,
    };
    let limited = stack.sysctl.icmp6_is_limited(ty) && !net(stack).routes.is_local(info.src);
    if !net(stack).limits.allow(stack, info.src, stack.sysctl.icmp6_ratelimit(), limited, info.now) {
        return;
    }
    reply(stack, &msg, info, (0, 0));
}

/// Sends a message to the sender of the packet of `info`, from the address that it was sent to if that is one of ours.
fn reply(stack: &Arc<Stack>, msg: &Message<'_>, info: &PacketInfo, (class, label): (u8, u32)) {
    let own =
        net(stack).routes.is_local(info.dst) && !matches!(info.dst, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
    let from = own.then_some(info.dst);
    // The route of the unspecified address is for programs, to whom it means this host.
    let IpAddr::V6(to) = info.src else { return };
    if to.is_unspecified() {
        return;
    }
    let oif = if crate::wire::addr::is_link_local_v6(to) { info.ifindex } else { 0 };
    let Ok(dst) = route::lookup_for_answer(stack, info.src, from, oif) else { return };
    let IpAddr::V6(s) = dst.src else { return };
    let mut bytes = vec![0; msg.len()];
    msg.emit(&mut bytes, s, to);
    let tx = IpTx {
        src: dst.src,
        dst: info.src,
        protocol: proto::ICMPV6,
        tos: class,
        ttl: default_ttl(stack, &dst, false),
        df: false,
        flow_label: flowlabel::of_answer(stack, label, || flowlabel::hash(stack, dst.src, info.src, proto::ICMPV6)),
        now: info.now,
    };
    icmp_mib::count_out_v6(stack, bytes[0]);
    if xmit(stack, &dst, &tx, Skb::from_slice(&bytes)).is_err() {
        stack.mib.inc(Mib::Icmp6OutErrors);
    }
}

/// Receives ICMPv6.
#[derive(Debug, Default)]
pub(crate) struct Icmpv6;

#[track_caller]
fn bad(stack: &Stack, reason: DropReason) {
    stack.mib.inc(Mib::Icmp6InErrors);
    stack.mib.drop(reason);
}

/// A message of neighbour discovery whose checksum is right. Linux: ndisc_rcv.
fn nd_rcv(stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo, src: Ipv6Addr, dst: Ipv6Addr) {
    let Some(dev) = stack.netdevs.by_index(info.ifindex).filter(|dev| dev.is_ethernet()) else { return };
    if info.ttl != icmpv6::ND_HOP_LIMIT {
        return stack.mib.drop(DropReason::Ipv6NdiscHopLimit);
    }
    let Ok(h) = Icmpv6Header::parse(skb.linear()) else { return stack.mib.drop(DropReason::IcmpMalformed) };
    match h.message() {
        Ok(msg @ Message::RouterAdvertisement { .. }) => autoconf::ra_rcv(stack, &dev, &msg, src, info.now),
        Ok(msg) => neigh::ndp_rcv(stack, &dev, &msg, (src, dst), info.now),
        Err(_) if h.code() != 0 => stack.mib.drop(DropReason::Ipv6NdiscBadCode),
        Err(ParseError::BadOption) => stack.mib.drop(DropReason::Ipv6NdiscBadOptions),
        Err(_) => stack.mib.drop(DropReason::IcmpMalformed),
    }
}

impl IpHandler for Icmpv6 {
    fn contained(&self) -> bool {
        false
    }

    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        stack.mib.inc(Mib::Icmp6InMsgs);
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (info.src, info.dst) else {
            return bad(stack, DropReason::InvalidProto);
        };
        let len = skb.len() as u32;
        if !skb.checksum_ok(|| checksum::pseudo_header_v6(src, dst, proto::ICMPV6, len)) {
            stack.mib.inc(Mib::Icmp6InCsumErrors);
            return bad(stack, DropReason::IcmpCsum);
        }
        let n = skb.len();
        if !skb.may_pull(icmpv6::HEADER_LEN) || !skb.may_pull(n) {
            return bad(stack, DropReason::IcmpMalformed);
        }
        let ty = skb.linear()[0];
        icmp_mib::count_in_v6(stack, ty);
        // Filters in switches cannot see neighbour discovery that is in fragments (RFC 6980 §5; ndisc_rcv).
        if skb.frag_max_size != 0 && (kind::ROUTER_SOLICITATION..=kind::REDIRECT).contains(&ty) {
            return stack.mib.drop(DropReason::Ipv6NdiscFrag);
        }
        match ty {
            kind::ECHO | kind::EXT_ECHO => echo(stack, &skb, info, dst),
            kind::ECHO_REPLY | kind::EXT_ECHO_REPLY => net(stack).ping.deliver(stack, skb, info),
            // Those of unknown type are passed on, too (RFC 4443 §2.4 (a)).
            ..128 => error(stack, &skb, info),
            kind::NEIGHBOUR_SOLICITATION | kind::NEIGHBOUR_ADVERTISEMENT | kind::ROUTER_ADVERTISEMENT => {
                nd_rcv(stack, &skb, info, src, dst);
            }
            mld::QUERY | mld::REPORT_V1 => multicast::report::mld_rcv(stack, &skb, info),
            // Unknown informational messages are dropped in silence (RFC 4443 §2.4 (b)).
            _ => {}
        }
    }

    fn err(&self, stack: &Arc<Stack>, icmp: &IcmpError<'_>) {
        // Departure: Linux lowers the path's MTU for any such message that says packet too big. Nothing in the quote
        // shows that this host sent it, so whoever likes could have every cached route looked up again.
        net(stack).ping.error(stack, icmp);
    }
}

fn echo(stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo, dst: Ipv6Addr) {
    let ignored =
        stack.sysctl.icmp6_echo_ignore_all() || (dst.is_multicast() && stack.sysctl.icmp6_echo_ignore_multicast());
    let Ok(h) = Icmpv6Header::parse(skb.linear()) else { return };
    let (kind, code, data) = match h.message() {
        _ if ignored => return,
        // The request's code, too, comes back (icmpv6_echo_reply).
        Ok(Message::Echo { data, .. }) => (kind::ECHO_REPLY, Some((h.code(), h.rest())), data),
        Ok(Message::Other { data, .. }) => {
            (kind::EXT_ECHO_REPLY, rfc8335::answer(stack, h.code(), h.rest(), data), data)
        }
        _ => return,
    };
    let Some((code, rest)) = code else { return };
    let limited = stack.sysctl.icmp6_is_limited(kind::ECHO_REPLY) && !net(stack).routes.is_local(info.src);
    if net(stack).limits.allow(stack, info.src, stack.sysctl.icmp6_ratelimit(), limited, info.now) {
        let answer = Message::Other { kind, code, rest, data };
        reply(stack, &answer, info, (info.tos, flowlabel::of_echo_reply(stack, info.flow_label)));
    }
}

/// The errno of an error, and whether it is fatal (icmpv6_err_convert).
pub(crate) fn convert(ty: u8, code: u8) -> (Error, bool) {
    match (ty, code) {
        (kind::UNREACHABLE, unreachable::NO_ROUTE) => (Error::NetUnreach, false),
        (kind::UNREACHABLE, unreachable::PROHIBITED | unreachable::POLICY | unreachable::REJECT_ROUTE) => {
            (Error::Acces, true)
        }
        (kind::UNREACHABLE, unreachable::BEYOND_SCOPE | unreachable::ADDRESS) => (Error::HostUnreach, false),
        (kind::UNREACHABLE, unreachable::PORT) => (Error::ConnRefused, true),
        (kind::PACKET_TOO_BIG, _) => (Error::MsgSize, false),
        (kind::PARAMETER_PROBLEM, _) => (Error::Proto, true),
        (kind::TIME_EXCEEDED, _) => (Error::HostUnreach, false),
        (kind::UNREACHABLE, _) => (Error::Proto, true),
        _ => (Error::Proto, false),
    }
}

fn error(stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) {
    let Ok(h) = Icmpv6Header::parse(skb.linear()) else { return bad(stack, DropReason::IcmpMalformed) };
    let (quoted, value) = match h.message() {
        Ok(Message::Unreachable { quoted, .. } | Message::TimeExceeded { quoted, .. }) => (quoted, 0),
        Ok(Message::PacketTooBig { mtu, quoted }) => (quoted, mtu),
        Ok(Message::ParameterProblem { pointer, quoted, .. }) => (quoted, pointer),
        Ok(Message::Other { rest, data, .. }) => (data, u32::from_be_bytes(rest)),
        _ => return bad(stack, DropReason::IcmpMalformed),
    };
    // In words of eight bytes, of these two types (RFC 4884 §4).
    let extended = matches!(h.kind(), kind::UNREACHABLE | kind::TIME_EXCEEDED);
    let extension = if extended { rfc4884::extension_at(usize::from(skb.linear()[4]) * 8) } else { 0 };
    // The version in a quote is not looked at.
    let mut quoted = quoted.to_vec();
    if let Some(first) = quoted.first_mut() {
        *first = *first & 15 | 0x60;
    }
    let Ok(ip) = Ipv6Header::parse_quoted(&quoted) else { return bad(stack, DropReason::IcmpMalformed) };
    let (protocol, transport) = match exthdrs::skip(&quoted, ip.next_header(), ipv6::HEADER_LEN) {
        // Of a later fragment there is no transport header to find a socket by.
        Some((.., fragment)) if fragment & !7 != 0 => return stack.mib.drop(DropReason::IcmpImplausible),
        Some((protocol, at, _)) => (protocol, quoted.get(at..).filter(|t| t.len() >= 8)),
        None => (0, None),
    };
    let Some(transport) = transport else { return bad(stack, DropReason::IcmpMalformed) };
    let (errno, fatal) = convert(h.kind(), h.code());
    let e = IcmpError {
        reporter: info.src,
        src: IpAddr::V6(ip.src()),
        dst: IpAddr::V6(ip.dst()),
        protocol,
        ty: h.kind(),
        code: h.code(),
        info: value,
        errno,
        fatal,
        quoted: transport,
        extension: extension.saturating_sub(quoted.len() - transport.len()),
        flowinfo: u32::from(ip.traffic_class()) << 20 | ip.flow_label(),
        flow_label: info.flow_label,
        ifindex: info.ifindex,
        ttl: info.ttl,
        tos: info.tos,
        now: info.now,
    };
    deliver_error(stack, &e);
}
