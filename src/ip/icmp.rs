//! ICMP for IPv4, and what both families share: which errors are sent and at which rate, and how received errors map to
//! errno. Above: `input` (refused packets), UDP (no such port), ping and raw sockets. Below: `output`. Linux:
//! net/ipv4/icmp.c. RFC 792, RFC 1122 §3.2.2, RFC 5927 (what an error must show before a socket believes it; the
//! transports check their part), RFC 6633 (source quench is ignored). Redirects are counted and ignored: a host with
//! one gateway needs none, and any host on the link can forge them (accept_redirects is 0).

use super::output::{IpTx, default_ttl, xmit_with_options};
use super::problem::Problem;
use super::slots::deliver_error;
use super::{exthdrs, icmp_mib, icmpv6, net, options, rfc4884, rfc8335, route};
use crate::base::env::{Duration, Instant};
use crate::base::error::Error;
use crate::counters::{DropReason, Level, Mib};
use crate::sock::dst::Dst;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::IpHandler;
use crate::sock::skb::{Csum, Skb, SkbInner};
use crate::stack::Stack;
use crate::sys::lock::Mutex;
use crate::wire::icmp::{self, IcmpHeader, Message, Quoted, kind, time_exceeded, unreachable};
use crate::wire::ip::{self, Ipv4Header, Ipv4Repr};
use crate::wire::ipv6::{self, Ipv6Repr};
use crate::wire::{addr, checksum, proto};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Destinations whose error rate is kept; when there are more, all are forgotten, and each can get one more error.
const MAX_HOSTS: usize = 4096;
/// Errors a destination may get in a burst (XRLIM_BURST_FACTOR).
const BURST: u32 = 6;
/// The highest type Linux knows (NR_ICMP_TYPES), but for those of RFC 8335.
const MAX_KIND: u8 = 18;

/// Rate limits of the messages a stack sends.
#[derive(Default)]
pub(crate) struct Limits {
    global: Mutex<Option<(u32, Instant)>>,
    hosts: Mutex<HashMap<IpAddr, (Duration, Instant)>>,
}

impl Limits {
    /// Whether a limited message may go out at all (icmp_global_allow): `net.ipv4.icmp_msgs_per_sec` with bursts of
    /// `icmp_msgs_burst`. Each takes one to three credits at random, so that the rate seen by one host does not reveal
    /// what is sent to others (CVE-2020-25705).
    fn global(&self, stack: &Stack, now: Instant) -> bool {
        let rate = stack.sysctl.icmp_msgs_per_sec().max(0) as u64;
        let burst = stack.sysctl.icmp_msgs_burst().max(0) as u32;
        let mut state = self.global.lock();
        let (credit, stamp) = state.get_or_insert((burst, now));
        let since = (now - *stamp).min(Duration::from_secs(1));
        if since >= Duration::from_millis(20) {
            let more = (rate * since.as_millis() as u64 / 1000) as u32;
            if more > 0 {
                *stamp = now;
                *credit = credit.saturating_add(more).min(burst);
            }
        }
        if *credit == 0 {
            return false;
        }
        *credit = credit.saturating_sub(1 + stack.entropy.below(3));
        true
    }

    /// Whether this destination may get one more (inet_peer_xrlim_allow): a bucket of time.
    fn host(&self, to: IpAddr, every: Duration, now: Instant) -> bool {
        if every.is_zero() {
            return true;
        }
        let mut hosts = self.hosts.lock();
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&to) {
            hosts.clear();
        }
        let (tokens, last) = hosts.entry(to).or_insert((every * BURST, now));
        *tokens = tokens.saturating_add(now - *last).min(every * BURST);
        *last = now;
        if *tokens < every {
            return false;
        }
        *tokens -= every;
        true
    }

    /// Both limits for a message of this type; a suppressed message is counted. `limited`: the type is subject to them.
    pub(super) fn allow(&self, stack: &Stack, to: IpAddr, every: Duration, limited: bool, now: Instant) -> bool {
        if !limited {
            return true;
        }
        let (global, host) = match to {
            IpAddr::V4(_) => (Some(Mib::IcmpOutRateLimitGlobal), Mib::IcmpOutRateLimitHost),
            IpAddr::V6(_) => (None, Mib::Icmp6OutRateLimitHost),
        };
        let counted = if !self.global(stack, now) {
            global
        } else if !self.host(to, every, now) {
            Some(host)
        } else {
            return true;
        };
        if let Some(mib) = counted {
            stack.mib.inc(mib);
        }
        stack.mib.drop(DropReason::IcmpRateLimit);
        false
    }
}

/// Sends an error about `skb`, which begins with its IP header, if the rules allow one: never about an ICMP error,
/// about a packet whose source or destination is no single host, about a fragment other than the first
/// (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
pub(crate) fn send_problem(stack: &Arc<Stack>, skb: &mut SkbInner, info: &PacketInfo, problem: Problem) {
    match info.dst {
        IpAddr::V4(_) => send_v4(stack, skb, info, problem),
        IpAddr::V6(_) => icmpv6::send_problem(stack, skb, info, problem),
    }
}

/// An error that a transport protocol sends about a packet that it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportError {
    /// No socket on this port: ICMP 3/3, ICMPv6 1/4.
    PortUnreachable,
    /// The protocol is not served here: ICMP 3/2; ICMPv6 4/1, with where the packet names the protocol.
    ProtocolUnreachable,
    /// A filter refuses it: ICMP 3/13, ICMPv6 1/1.
    Prohibited,
    /// It cannot be passed on in one piece: ICMP 3/4, ICMPv6 2/0. The number is how much is carried, bytes.
    TooBig(u32),
}

/// Sends an error about `skb`, which begins with its transport header, as a protocol's `rcv` got it, and afterwards
/// does so again. None is sent where the rules allow none, or not now (icmp_send, icmpv6_send).
pub fn send(stack: &Arc<Stack>, skb: &mut SkbInner, info: &PacketInfo, error: TransportError) {
    let whole = skb.len();
    if !restore_header(skb, info) {
        return;
    }
    let header = skb.len() - whole;
    let problem = match error {
        TransportError::PortUnreachable => Problem::NoPort,
        TransportError::ProtocolUnreachable if info.dst.is_ipv4() => Problem::NoProtocol { pointer: 0 },
        TransportError::ProtocolUnreachable => Problem::NoProtocol { pointer: exthdrs::named_at(skb, header) },
        TransportError::Prohibited => Problem::Prohibited,
        TransportError::TooBig(mtu) => Problem::TooBig { mtu },
    };
    send_problem(stack, skb, info, problem);
    skb.pull(header);
}

/// Puts the IP header in front again: the received one if its bytes are still there, else a rebuilt one.
pub(crate) fn restore_header(skb: &mut SkbInner, info: &PacketInfo) -> bool {
    let n = skb.nh_len as usize;
    let payload_len = skb.len();
    if skb.unpull(n) {
        let same = match info.dst {
            IpAddr::V4(_) => Ipv4Header::parse_quoted(skb.linear())
                .is_ok_and(|h| IpAddr::V4(h.src()) == info.src && IpAddr::V4(h.dst()) == info.dst),
            IpAddr::V6(_) => ipv6::Ipv6Header::parse_quoted(skb.linear())
                .is_ok_and(|h| IpAddr::V6(h.src()) == info.src && IpAddr::V6(h.dst()) == info.dst),
        };
        if same {
            return true;
        }
        skb.pull(n);
    }
    match (info.src, info.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => skb.push(ip::HEADER_LEN).is_some_and(|h| {
            let repr = Ipv4Repr { ttl: info.ttl, tos: info.tos, ..Ipv4Repr::new(src, dst, info.protocol, payload_len) };
            repr.emit(h) > 0
        }),
        (IpAddr::V6(src), IpAddr::V6(dst)) => skb.push(ipv6::HEADER_LEN).is_some_and(|h| {
            let repr = Ipv6Repr {
                src,
                dst,
                next_header: info.protocol,
                hop_limit: info.ttl,
                traffic_class: info.tos,
                flow_label: info.flow_label,
                payload_len,
            };
            repr.emit(h) > 0
        }),
        _ => false,
    }
}

fn send_v4(stack: &Arc<Stack>, skb: &mut SkbInner, info: &PacketInfo, problem: Problem) {
    let (ty, code, rest) = match problem {
        Problem::Parameter { pointer } | Problem::Option { pointer } => {
            (kind::PARAMETER_PROBLEM, 0, [pointer.min(255) as u8, 0, 0, 0])
        }
        Problem::NoProtocol { .. } => (kind::UNREACHABLE, unreachable::PROTOCOL, [0; 4]),
        Problem::NoPort => (kind::UNREACHABLE, unreachable::PORT, [0; 4]),
        // A host that does not forward says nothing (ip_error).
        Problem::NoRoute | Problem::Incomplete => return,
        Problem::Reassembly => (kind::TIME_EXCEEDED, time_exceeded::REASSEMBLY, [0; 4]),
        Problem::Prohibited => (kind::UNREACHABLE, unreachable::FILTERED, [0; 4]),
        Problem::TooBig { mtu } => (kind::UNREACHABLE, unreachable::FRAG_NEEDED, mtu.to_be_bytes()),
    };
    if info.not_unicast || !addr::is_unicast(info.src) {
        return;
    }
    let header_len = match Ipv4Header::parse_quoted(skb.linear()) {
        Ok(h) if h.frag_offset() != 0 => return,
        Ok(h) => h.header_len(),
        Err(_) => return,
    };
    if info.protocol == proto::ICMP {
        // Without its type byte the packet may be an ICMP error, so nothing is sent.
        if !skb.may_pull(header_len + 1) || skb.linear()[header_len] > MAX_KIND {
            return;
        }
        if icmp::draws_no_error(skb.linear()[header_len]) {
            return;
        }
    }
    // Loopback addresses have no limits, as on Linux.
    let limited = stack.sysctl.icmp_ratemask() >> ty & 1 == 1 && !net(stack).routes.is_local(info.src);
    if !net(stack).limits.allow(stack, info.src, stack.sysctl.icmp_ratelimit(), limited, info.now) {
        return;
    }
    let wrong = match problem {
        Problem::Parameter { pointer } => Some(pointer as usize),
        _ => None,
    };
    let Some(way) = answer_way(stack, &skb.linear()[..header_len], wrong, info) else { return };
    let room = (way.0.mtu as usize).saturating_sub(ip::HEADER_LEN + way.1.len() + icmp::HEADER_LEN);
    let mut quote = vec![0; icmp::quote_len(skb.len(), ip::HEADER_LEN + way.1.len()).min(room)];
    skb.copy_out(0, &mut quote);
    let msg = Message::Other { kind: ty, code, rest, data: &quote };
    // Network control precedence, the rest of the offending packet's TOS (RFC 1812 §4.3.2.5).
    let tos = info.tos & 0x1e | icmp::INTERNETWORK_CONTROL;
    let mut bytes = vec![0; msg.len()];
    msg.emit(&mut bytes);
    reply_v4(stack, Skb::from_slice(&bytes), info, tos, (ty, way));
}

/// The way of an answer, and its IPv4 options.
type AnswerWay = (Arc<Dst>, Vec<u8>);

/// The way to the sender of the packet of `info`, from the address that it was sent to, and the options that come back
/// of its `header` (`wrong`: as in [`options::of_answer`]). None: there is none, and no answer; without a route it is
/// nobody's error (icmp_route_lookup).
fn answer_way(stack: &Arc<Stack>, header: &[u8], wrong: Option<usize>, info: &PacketInfo) -> Option<AnswerWay> {
    let from = net(stack).routes.is_local(info.dst).then_some(info.dst);
    let dst = route::lookup_for_answer(stack, info.src, from, 0).ok()?;
    let IpAddr::V4(own) = dst.src else { return None };
    let options = options::of_answer(stack, header, wrong, own)?;
    Some((dst, options))
}

/// Sends an ICMP message of type `ty`.
fn reply_v4(stack: &Arc<Stack>, skb: Skb, info: &PacketInfo, tos: u8, (ty, way): (u8, AnswerWay)) {
    let (dst, options) = way;
    let ttl = default_ttl(stack, &dst, true);
    let tx =
        IpTx { src: dst.src, dst: info.src, protocol: proto::ICMP, tos, ttl, df: false, flow_label: 0, now: info.now };
    icmp_mib::count_out_v4(stack, ty);
    if xmit_with_options(stack, &dst, &tx, &options, skb, false).is_err() {
        stack.mib.inc(Mib::IcmpOutErrors);
    }
}

/// Receives ICMP. Echo requests are answered, errors go to the protocols they are about, the rest to ping sockets.
#[derive(Debug, Default)]
pub(crate) struct Icmp;

#[track_caller]
fn bad(stack: &Stack, reason: DropReason) {
    stack.mib.inc(Mib::IcmpInErrors);
    stack.mib.drop(reason);
}

impl IpHandler for Icmp {
    fn contained(&self) -> bool {
        false
    }

    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        stack.mib.inc(Mib::IcmpInMsgs);
        if !skb.checksum_ok(|| 0) {
            stack.mib.inc(Mib::IcmpInCsumErrors);
            return bad(stack, DropReason::IcmpCsum);
        }
        if !skb.may_pull(icmp::HEADER_LEN) {
            return bad(stack, DropReason::IcmpMalformed);
        }
        let (ty, code) = (skb.linear()[0], skb.linear()[1]);
        icmp_mib::count_in_v4(stack, ty);
        match ty {
            kind::EXT_ECHO if !stack.sysctl.icmp_echo_ignore_all() => return echo(stack, skb, info),
            kind::EXT_ECHO => return,
            t if t > MAX_KIND && t != kind::EXT_ECHO_REPLY => return bad(stack, DropReason::IcmpMalformed),
            _ => {}
        }
        if info.not_unicast && !net(stack).routes.is_local(info.dst) {
            // RFC 1122 §3.2.2.6, §3.2.2.8: such an echo or timestamp request may be ignored, and is by default. Errors
            // and answers to a group make no sense.
            let request = matches!(ty, kind::ECHO | kind::TIMESTAMP);
            if request && stack.sysctl.icmp_echo_ignore_broadcasts() {
                return bad(stack, DropReason::InvalidProto);
            }
            if !request && !matches!(ty, 17 | 18) {
                return bad(stack, DropReason::InvalidProto);
            }
        }
        match ty {
            kind::ECHO if !stack.sysctl.icmp_echo_ignore_all() => echo(stack, skb, info),
            kind::ECHO => {}
            kind::TIMESTAMP => timestamp(stack, skb, info),
            kind::ECHO_REPLY | kind::EXT_ECHO_REPLY => net(stack).ping.deliver(stack, skb, info),
            t if icmp::is_error_kind(t) => error(stack, skb, info, ty, code),
            // Known, counted, and without effect on a host.
            _ => {}
        }
    }

    fn err(&self, stack: &Arc<Stack>, icmp: &IcmpError<'_>) {
        // No socket has sent an echo reply. Departure: Linux lowers the path's MTU for one that was too long; see
        // `icmpv6`.
        if icmp.quoted.first() != Some(&kind::ECHO_REPLY) {
            net(stack).ping.error(stack, icmp);
        } else {
            stack.mib.drop(DropReason::IcmpImplausible);
        }
    }
}

/// As [`answer_way`] for a message whose IP header is still in front of it.
fn way_of_request(stack: &Arc<Stack>, skb: &mut Skb, info: &PacketInfo) -> Option<AnswerWay> {
    let n = usize::from(skb.nh_len);
    if n <= ip::HEADER_LEN || !skb.unpull(n) {
        return answer_way(stack, &[], None, info);
    }
    let way = answer_way(stack, &skb.linear()[..n], None, info);
    skb.pull(n);
    way
}

/// The header of the reply to an echo request, without checksum, whose data is `skb`. None: it draws no reply.
fn echo_reply(stack: &Stack, head: [u8; 8], skb: &Skb) -> Option<[u8; 8]> {
    let [ty, code, _, _, rest @ ..] = head;
    let (ty, code, rest) = match ty {
        kind::ECHO => (kind::ECHO_REPLY, code, rest),
        _ => {
            let mut extension = [0; rfc8335::LEN];
            let n = skb.copy_out(0, &mut extension);
            let (code, rest) = rfc8335::answer(stack, code, rest, &extension[..n])?;
            (kind::EXT_ECHO_REPLY, code, rest)
        }
    };
    let mut out = [ty, code, 0, 0, 0, 0, 0, 0];
    out[4..].copy_from_slice(&rest);
    Some(out)
}

/// Sends the message back; the payload's pages are shared, not copied.
fn echo(stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
    let Some(way) = way_of_request(stack, &mut skb, info) else { return };
    let mut head = [0; 8];
    skb.copy_out(0, &mut head);
    skb.pull(icmp::HEADER_LEN);
    let Some(mut head) = echo_reply(stack, head, &skb) else { return };
    let mut out = skb.share();
    (out.owner, out.tx_stamp) = (None, None);
    out.csum = Csum::None;
    let sum = out.checksum(checksum::sum(&head, 0));
    head[2..4].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    let Some(h) = out.push(icmp::HEADER_LEN) else { return };
    h.copy_from_slice(&head);
    // Of the types behind the known ones none is limited (icmpv4_mask_allow).
    let limited = head[0] == kind::ECHO_REPLY && stack.sysctl.icmp_ratemask() & 1 == 1;
    if net(stack).limits.allow(stack, info.src, stack.sysctl.icmp_ratelimit(), limited, info.now) {
        reply_v4(stack, out, info, info.tos, (head[0], way));
    }
}

/// Answers with the time of day in milliseconds since midnight UT (RFC 792).
fn timestamp(stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
    // The originate timestamp is all that is read of the request (icmp_timestamp).
    if !skb.may_pull(12) {
        return bad(stack, DropReason::IcmpMalformed);
    }
    let Some(way) = way_of_request(stack, &mut skb, info) else { return };
    let mut b = [0; 20];
    b[..12].copy_from_slice(&skb.linear()[..12]);
    let ms = options::time(stack);
    (b[0], b[1]) = (kind::TIMESTAMP_REPLY, 0);
    b[2..4].fill(0);
    b[12..16].copy_from_slice(&ms.to_be_bytes());
    b[16..20].copy_from_slice(&ms.to_be_bytes());
    icmp::fill_checksum(&mut b);
    let limited = stack.sysctl.icmp_ratemask() >> kind::TIMESTAMP_REPLY & 1 == 1;
    if net(stack).limits.allow(stack, info.src, stack.sysctl.icmp_ratelimit(), limited, info.now) {
        reply_v4(stack, Skb::from_slice(&b), info, info.tos, (kind::TIMESTAMP_REPLY, way));
    }
}

/// The errno of an error, and whether it is fatal to a socket without IP_RECVERR (icmp_err_convert).
pub(crate) fn convert(ty: u8, code: u8) -> (Error, bool) {
    use unreachable as u;
    match (ty, code) {
        (kind::UNREACHABLE, u::NET | u::NET_TOS) => (Error::NetUnreach, false),
        (kind::UNREACHABLE, u::HOST | u::HOST_TOS) => (Error::HostUnreach, false),
        (kind::UNREACHABLE, u::PROTOCOL) => (Error::NoProtoOpt, true),
        (kind::UNREACHABLE, u::PORT) => (Error::ConnRefused, true),
        (kind::UNREACHABLE, u::FRAG_NEEDED) => (Error::MsgSize, false),
        (kind::UNREACHABLE, u::SOURCE_ROUTE) => (Error::OpNotSupp, false),
        (kind::UNREACHABLE, u::NET_UNKNOWN | u::NET_PROHIBITED) => (Error::NetUnreach, true),
        (kind::UNREACHABLE, u::HOST_UNKNOWN) => (Error::HostDown, true),
        (kind::UNREACHABLE, u::HOST_ISOLATED) => (Error::NoNet, true),
        (kind::PARAMETER_PROBLEM, _) => (Error::Proto, true),
        (kind::TIME_EXCEEDED, _) => (Error::HostUnreach, false),
        // Ping sockets alone report these (ping_err).
        (kind::SOURCE_QUENCH | kind::REDIRECT, _) => (Error::RemoteIo, false),
        _ => (Error::HostUnreach, true),
    }
}

/// Source quench or redirect: no error, and nothing to UDP and raw sockets.
pub(crate) fn is_advice(e: &IcmpError<'_>) -> bool {
    e.src.is_ipv4() && matches!(e.ty, kind::SOURCE_QUENCH | kind::REDIRECT)
}

/// An error arrived: validated, then given to the protocol of the quoted datagram. Linux: icmp_unreach.
fn error(stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo, ty: u8, code: u8) {
    let n = skb.len();
    if !skb.may_pull(n) {
        return bad(stack, DropReason::IcmpMalformed);
    }
    let msg = match IcmpHeader::parse(skb.linear()) {
        Ok(h) => h.message(),
        Err(_) => return bad(stack, DropReason::IcmpMalformed),
    };
    let (quoted, mut value) = match msg {
        Message::Unreachable { mtu, quoted, .. } => (quoted, u32::from(mtu)),
        Message::ParameterProblem { pointer, quoted, .. } => (quoted, u32::from(pointer)),
        Message::TimeExceeded { quoted, .. } => (quoted, 0),
        // Protocols ignore these two, and count those that are not about a connection of theirs.
        Message::SourceQuench { quoted } | Message::Redirect { quoted, .. } => (quoted, 0),
        _ => return bad(stack, DropReason::IcmpMalformed),
    };
    if ty == kind::UNREACHABLE && code > unreachable::MAX && quoted.len() >= ip::HEADER_LEN {
        return stack.mib.drop(DropReason::IcmpMalformed);
    }
    // In words of four bytes, as the types with an extension have it (RFC 4884 §4).
    let extension = rfc4884::extension_at(usize::from(skb.linear()[5]) * 4);
    let extension = if matches!(ty, kind::SOURCE_QUENCH | kind::REDIRECT) { 0 } else { extension };
    // The version in a quote is not looked at.
    let mut quoted = quoted.to_vec();
    if let Some(first) = quoted.first_mut() {
        *first = *first & 15 | 0x40;
    }
    // Nobody is told of these, whose quote may end with the IP header.
    if ty == kind::TIME_EXCEEDED && code == time_exceeded::REASSEMBLY && Ipv4Header::parse_quoted(&quoted).is_ok() {
        return;
    }
    let Ok(q) = Quoted::parse(&quoted) else { return bad(stack, DropReason::IcmpMalformed) };
    if ty == kind::UNREACHABLE {
        if code == unreachable::FRAG_NEEDED {
            match stack.sysctl.ip_no_pmtu_disc() {
                0 | 3 => {}
                2 => return stack.mib.drop(DropReason::IcmpImplausible),
                _ => value = 0,
            }
        } else {
            value = 0;
        }
    }
    let (src, dst) = (IpAddr::V4(q.ip.src()), IpAddr::V4(q.ip.dst()));
    // What was sent to a broadcast draws no errors (RFC 1122 §3.2.2). Linux either takes them in silence or drops them
    // with a word to the administrator.
    if !stack.sysctl.icmp_ignore_bogus_error_responses() && net(stack).routes.is_broadcast(dst) {
        let line = || format!("{} sent an invalid ICMP type {ty}, code {code} error to a broadcast: {dst}", info.src);
        stack.mib.log(&net(stack).log, Level::Warning, || line().into(), || info.now);
        return stack.mib.drop(DropReason::IcmpImplausible);
    }
    let (errno, fatal) = convert(ty, code);
    let e = IcmpError {
        reporter: info.src,
        src,
        dst,
        protocol: q.ip.protocol(),
        ty,
        code,
        info: value,
        errno,
        fatal,
        quoted: q.transport(),
        extension: extension.saturating_sub(quoted.len() - q.transport().len()),
        flowinfo: 0,
        flow_label: 0,
        ifindex: info.ifindex,
        ttl: info.ttl,
        tos: info.tos,
        now: info.now,
    };
    deliver_error(stack, &e);
}

#[cfg(test)]
mod tests;
