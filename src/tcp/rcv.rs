//! TCP's entry from IP, for both families: checks a segment, finds its sock and hands it over; resets segments that
//! belong to no sock; reports ICMP errors to connections. Above: `ip::input`. Below: `lookup`, `sock::lock`,
//! `timewait`. Softirq context, no sock owned on entry. RFC 9293 §3.10.7.1 (no connection), RFC 5927 (ICMP). Linux:
//! tcp_v4_rcv, tcp_v4_send_reset, tcp_v4_err, and their IPv6 twins.

use super::auth::{self, AoHeader, Signer};
use super::lookup::{Entry, TcpTables, flow_of};
use super::net::TcpNet;
use super::segment::{Options, put_header};
use super::tcb::Cx;
use super::{close, deferred, ecn, fastopen, handshake, timewait};
use crate::base::env::Instant;
use crate::base::error::Error;
use crate::base::hash::{Tuple, addr128};
use crate::base::ways::Way;
use crate::counters::{DropReason, Mib};
use crate::device::netdev::LOOPBACK_IFINDEX;
use crate::ip;
use crate::ip::flowlabel;
use crate::ip::output::{IpTx, default_ttl, xmit, xmit_with_headers, xmit_with_options};
use crate::ip::socket_headers::Chain;
use crate::sock::addr::to_family;
use crate::sock::dst::Dst;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::{CB_FLOW, GSO_MAX_SIZE, Looped, MAX_SKB_FRAGS, Skb, TcpCb};
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{Delivered, Sock, SockGuard, flag};
use crate::stack::Stack;
use crate::wire::addr::is_link_local;
use crate::wire::checksum::pseudo_header;
use crate::wire::ip::Ipv4Repr;
use crate::wire::proto;
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::{HEADER_LEN, TcpFlags, TcpHeader, TcpRepr};
use crate::wire::tcp_options::EstablishedOptions;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A segment without payload that no sock sends: of a time-wait record, a request, or nobody.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The header; `options_len` is filled in when it is built.
    pub repr: TcpRepr,
    pub options: Options,
    /// Option bytes of hooks, behind the others.
    pub more: &'a [u8],
    /// What signs it, if the options have room for a signature.
    pub signer: Option<&'a Signer>,
    pub tos: u8,
    /// TTL or hop limit; -1: the route's or the sysctl's.
    pub ttl: i16,
    /// Interface to leave by, 0 for any.
    pub oif: u32,
    pub flow_label: u32,
    /// Options of an IPv4 header, in which this host's entries are still to be filled in.
    pub ip_options: &'a [u8],
    /// Transmit hash.
    pub txhash: u32,
}

/// The transmit hash of what has no connection: that of the two ports.
fn flow_hash(sport: u16, dport: u16) -> u32 {
    (u32::from(sport) << 16 | u32::from(dport)).wrapping_mul(0x9e37_79b1).rotate_left(15)
}

/// Options of a reply: room for a signature, timestamps, if there are any (value, echo).
pub(super) fn reply_options(signer: Option<&Signer>, timestamps: Option<(u32, u32)>) -> Options {
    let auth = signer.map(Signer::option);
    Options::Est(EstablishedOptions { auth, timestamps, ..EstablishedOptions::default() })
}

/// Sends a reply by the route to its destination. False: there is none over IPv6, or IP did not take it.
pub(super) fn send_reply(stack: &Arc<Stack>, r: &Reply<'_>) -> bool {
    match ip::route::lookup_for_answer(stack, r.dst, Some(r.src), r.oif) {
        Ok(dst) => {
            let label = if r.dst.is_ipv4() { 0 } else { flowlabel::of_answer(stack, r.flow_label, || r.txhash) };
            send_reply_by(stack, &dst, &Reply { flow_label: label, ..*r }, None)
        }
        // Over IPv4 it counts as sent (ip_send_unicast_reply returns nothing).
        Err(_) if r.dst.is_ipv4() => {
            stack.mib.inc(Mib::TcpOutSegs);
            true
        }
        Err(_) => false,
    }
}

/// The same by a route that is known, with the extension headers of `chain`, of which the first hop is `to`.
pub(super) fn send_reply_by(
    stack: &Arc<Stack>,
    dst: &Arc<Dst>,
    r: &Reply<'_>,
    chain: Option<(&Chain, IpAddr)>,
) -> bool {
    let mut skb = Skb::new();
    if put_header(&mut skb, r.src, r.dst, r.repr, &r.options, r.more, r.signer).is_err() {
        return false;
    }
    stack.mib.inc(Mib::TcpOutSegs);
    let tx = IpTx {
        src: r.src,
        dst: r.dst,
        protocol: proto::TCP,
        tos: r.tos,
        ttl: if r.ttl >= 0 { r.ttl as u8 } else { default_ttl(stack, dst, r.dst.is_ipv4()) },
        // Always (IP_PMTUDISC_DO of the control sock), which is why these have identification 0.
        df: true,
        flow_label: r.flow_label,
        now: stack.now(),
    };
    skb.hash = r.txhash;
    let own = match r.src {
        IpAddr::V4(own) if !r.ip_options.is_empty() => Some(own),
        _ => None,
    };
    if chain.is_none()
        && own.is_none()
        && let Some(repr) = looped_header(stack, dst, &tx, &skb)
    {
        Way::Loop.taken();
        return ip::output::xmit_looped(stack, dst, &repr, skb, tx.now, None).is_ok();
    }
    match chain {
        None if let Some(own) = own => {
            let options = ip::options::of_sent(stack, r.ip_options, own);
            xmit_with_options(stack, dst, &tx, &options, skb, false).is_ok()
        }
        Some((chain, to)) => xmit_with_headers(stack, dst, &IpTx { dst: to, ..tx }, chain, skb, false).is_ok(),
        None => xmit(stack, dst, &tx, skb).is_ok(),
    }
}

/// The header of a reply over IPv4 to an end in this stack. Its addresses are those of a segment that was for this
/// host.
fn looped_header(stack: &Stack, dst: &Dst, tx: &IpTx, skb: &Skb) -> Option<Ipv4Repr> {
    let (IpAddr::V4(src), IpAddr::V4(to)) = (tx.src, tx.dst) else { return None };
    let good = Way::Loop.is_open() && dst.check(stack) && ip::output::is_looped(dst, skb);
    good.then_some(Ipv4Repr {
        src,
        dst: to,
        protocol: tx.protocol,
        ttl: tx.ttl,
        tos: tx.tos,
        id: 0,
        dont_fragment: tx.df,
        more_fragments: false,
        frag_offset: 0,
        payload_len: skb.len(),
    })
}

/// What signs a reset, its flow label over IPv6, and its options over IPv4.
pub(super) struct Said<'a> {
    pub signer: Option<&'a Signer>,
    pub flow_label: u32,
    pub ip_options: &'a [u8],
}

/// Resets the sender of a segment, unless it is a RST itself (RFC 9293 §3.10.7.1): with an ACK the RST takes its
/// number, else it acknowledges the segment. `src` to `dst`, `sport` to `dport` are the segment's; `signer` signs the
/// reset. Linux: tcp_v4_send_reset.
#[allow(clippy::too_many_arguments)] // the two ends, and what was said
pub(super) fn send_reset(
    stack: &Arc<Stack>,
    cb: &TcpCb,
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
    info: &PacketInfo,
    said: Said<'_>,
) {
    let flags = TcpFlags::from_bits(cb.flags);
    if flags.contains(TcpFlags::RST) {
        return;
    }
    let (seq, ack, flags) = match flags.contains(TcpFlags::ACK) {
        true => (cb.ack_seq, SeqNum(0), TcpFlags::RST),
        false => (SeqNum(0), cb.end_seq, TcpFlags::RST | TcpFlags::ACK),
    };
    let r = Reply {
        src: dst,
        dst: src,
        repr: TcpRepr {
            src_port: dport,
            dst_port: sport,
            seq,
            ack,
            flags,
            window: RawWindow(0),
            urgent: 0,
            options_len: 0,
        },
        options: reply_options(said.signer, None),
        more: &[],
        signer: said.signer,
        // The refused segment's, without its ECN bits.
        tos: ecn::with_codepoint(cb.ip_dsfield, 0),
        ttl: -1,
        oif: if is_link_local(src) { info.ifindex } else { 0 },
        flow_label: said.flow_label,
        ip_options: said.ip_options,
        txhash: flow_hash(dport, sport),
    };
    if send_reply(stack, &r) {
        stack.mib.inc(Mib::TcpOutRsts);
    }
}

/// The same for a segment that belongs to no sock, or to one that is no more than a record.
pub(super) fn reset_of_nobody(
    net: &TcpNet,
    stack: &Arc<Stack>,
    skb: &Skb,
    (sport, dport): (u16, u16),
    info: &PacketInfo,
    label: u32,
) {
    let Ok(signer) = auth::key_of_nobody(net, stack, skb, info, sport) else { return };
    let ip_options = ip::options::of_segment(skb.saved_header.as_deref());
    let said = Said { signer: signer.as_ref(), flow_label: label, ip_options: &ip_options };
    send_reset(stack, &skb.tcp, info.src, info.dst, sport, dport, info, said);
}

/// The same for a segment that a connected sock refuses. `signed`: its TCP-AO option; `ip_options`: what answers those
/// of its IP header.
pub(super) fn reset_from_sock(cx: &Cx<'_>, cb: &TcpCb, signed: Option<AoHeader>, ip_options: &[u8]) {
    let (sk, now) = (&*cx.sk, cx.now);
    let info = PacketInfo {
        src: sk.daddr,
        dst: sk.saddr,
        protocol: proto::TCP,
        tos: 0,
        ttl: 0,
        ifindex: sk.bound_dev_if,
        not_unicast: false,
        flow_label: 0,
        now,
    };
    let Ok(signer) = auth::reset_key(cx, signed) else { return };
    let label = flowlabel::reflected(sk, cb.flow_label);
    let said = Said { signer: signer.as_ref(), flow_label: label, ip_options };
    send_reset(cx.stack, cb, sk.daddr, sk.saddr, sk.dport, sk.sport, &info, said);
}

/// Drops a segment that is not well formed.
#[track_caller]
fn bad(stack: &Stack, reason: DropReason) {
    stack.mib.inc(Mib::TcpInErrs);
    stack.mib.drop(reason);
}

/// Parses the header of a segment into `skb.tcp`, where all of TCP reads it, with the TOS and TTL of its IP header and
/// the time of its arrival (tcp_v4_fill_cb). Returns its ports. None: not a header.
pub(super) fn fill_cb(skb: &mut Skb, tos: u8, ttl: u8, now: Instant) -> Option<(u16, u16)> {
    let th = TcpHeader::parse(skb.linear()).ok()?;
    let flags = th.flags();
    let payload = (skb.len() - th.header_len()) as u32;
    let len = payload + u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
    let (seq, ack_seq, flag_word) = (th.seq(), th.ack(), th.flag_word());
    let ports = (th.src_port(), th.dst_port());
    skb.tcp = TcpCb {
        seq,
        end_seq: seq + len,
        ack_seq,
        flag_word,
        flags: flags.bits(),
        ip_dsfield: tos,
        ttl,
        mstamp: now,
        ..TcpCb::default()
    };
    Some(ports)
}

/// Option bytes of a received segment whose header is in place.
#[inline]
pub(super) fn option_bytes(skb: &Skb) -> &[u8] {
    skb.linear().get(HEADER_LEN..skb.tcp.header_len()).unwrap_or_default()
}

/// Source and destination port of a received segment whose header is in place.
pub(super) fn ports(skb: &Skb) -> (u16, u16) {
    match skb.linear() {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}

/// Whether a run of bytes begins with a whole header; its length is in the fixed part.
#[inline]
fn is_header(bytes: &[u8]) -> bool {
    bytes.get(12).map(|b| usize::from(b >> 4) * 4).is_some_and(|len| (HEADER_LEN..=bytes.len()).contains(&len))
}

/// Makes the header of a segment contiguous. False: there is none, and the segment is dropped.
#[cold]
fn pull_header(stack: &Stack, skb: &mut Skb) -> bool {
    let is_fixed = skb.may_pull(HEADER_LEN);
    let header_len = if is_fixed { usize::from(skb.linear()[12] >> 4) * 4 } else { HEADER_LEN };
    if header_len < HEADER_LEN {
        bad(stack, DropReason::PktTooSmall);
        return false;
    }
    // A packet that was cut is no error of TCP's, and not counted as one.
    let whole = is_fixed && skb.may_pull(header_len);
    if !whole {
        stack.mib.drop(DropReason::PktTooSmall);
    }
    whole
}

/// A segment arrives (IpHandler::rcv).
pub(crate) fn rcv(net: &TcpNet, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
    let looped = std::mem::take(&mut skb.looped) != Looped::No;
    rcv_any(net, stack, skb, info, looped);
}

/// The same with `skb.rx` for the header fields (IpHandler::rcv_noted).
pub(crate) fn rcv_noted(net: &TcpNet, stack: &Arc<Stack>, mut skb: Skb) {
    let Some(info) = &skb.rx else { return bad(stack, DropReason::PktTooSmall) };
    if skb.looped != Looped::Segment {
        let info = *info;
        return rcv(net, stack, skb, &info);
    }
    // Of a connection of this stack, with `skb.tcp` filled in.
    Way::Known.taken();
    stack.mib.here().inc(Mib::TcpInSegs);
    let (now, flow) = (info.now, skb.cb[CB_FLOW]);
    debug_assert_eq!(flow, flow_of(stack, info, ports(&skb)), "as its sender computed it");
    let ifindex = info.ifindex;
    (skb.looped, skb.tcp.mstamp) = (Looped::No, now);
    if skb.receiver.is_some()
        && let Some(sock) = TcpTables::by_sender(skb.receiver.take(), flow)
    {
        return add_backlog(stack, &sock, skb, now);
    }
    match net.hashinfo.by_hash(flow, ifindex) {
        Some(Entry::Sock(sock, _)) => add_backlog(stack, &sock, skb, now),
        entry => {
            if let Some(info) = skb.rx {
                let ports = ports(&skb);
                rcv_unconnected(net, stack, skb, ports, &info, entry);
            }
        }
    }
}

/// `looped`: TCP made the header here.
#[inline(never)]
fn rcv_any(net: &TcpNet, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo, looped: bool) {
    // TCP is unicast only: a segment to a group is dropped without an answer (RFC 9293 §3.9.2.3, RFC 1122 §4.2.3.10).
    // One in a frame to a group, or a copy of what was sent to one, is not counted either.
    if skb.link_multicast || (info.not_unicast && info.ifindex == LOOPBACK_IFINDEX) {
        return stack.mib.drop(DropReason::OtherHost);
    }
    stack.mib.inc(Mib::TcpInSegs);
    // The whole header must be contiguous, as it mostly is.
    if !looped && !is_header(skb.linear()) && !pull_header(stack, &mut skb) {
        return;
    }
    let len = skb.len() as u32;
    if !looped && !skb.checksum_ok(|| pseudo_header(info.src, info.dst, proto::TCP, len)) {
        stack.mib.inc(Mib::TcpInCsumErrors);
        return bad(stack, DropReason::TcpCsum);
    }
    let Some((sport, dport)) = fill_cb(&mut skb, info.tos, info.ttl, info.now) else {
        return bad(stack, DropReason::PktTooSmall);
    };
    skb.tcp.flow_label = info.flow_label;
    if info.not_unicast {
        return stack.mib.drop(DropReason::OtherHost);
    }
    let nobody = || info.src.is_unspecified() || info.src.is_multicast() || sport == 0 && dport == 0;
    if !looped && nobody() {
        return stack.mib.drop(DropReason::IpInvalidSource);
    }
    match net.hashinfo.by_hash(flow_of(stack, info, (sport, dport)), info.ifindex) {
        Some(Entry::Sock(sock, _)) => add_backlog(stack, &sock, skb, info.now),
        entry => rcv_unconnected(net, stack, skb, (sport, dport), info, entry),
    }
}

/// A segment whose 4-tuple leads to this, or to nothing: not to a connection.
fn rcv_unconnected(
    net: &TcpNet,
    stack: &Arc<Stack>,
    mut skb: Skb,
    (sport, dport): (u16, u16),
    info: &PacketInfo,
    entry: Option<Entry>,
) {
    match entry {
        Some(Entry::Request(listener, _)) => return to_listener(stack, &listener, skb, info),
        Some(Entry::TimeWait(tw)) => {
            let isn = timewait::segment(net, stack, &tw, &skb, (sport, dport), info);
            let Some(isn) = isn else { return };
            if let Some(l) = net.hashinfo.listener(stack, info, (sport, dport), &skb) {
                timewait::kill(net, stack, &tw);
                skb.tcp.in_flight = isn.0;
                return to_listener(stack, &l, skb, info);
            }
            return tw.send_ack(stack, &skb, info.now);
        }
        _ => {}
    }
    if let Some(l) = net.hashinfo.listener(stack, info, (sport, dport), &skb) {
        return to_listener(stack, &l, skb, info);
    }
    reset_of_nobody(net, stack, &skb, (sport, dport), info, flowlabel::of_reset(stack, info.flow_label));
    stack.mib.drop(DropReason::NoSocket);
}

/// The sock processes the segment now, or its owner does later. Linux: the end of tcp_v4_rcv, tcp_add_backlog.
#[inline(always)]
pub(super) fn add_backlog(stack: &Arc<Stack>, sock: &Arc<Sock>, skb: Skb, now: Instant) {
    debug_assert!(skb.receiver.is_none(), "it would hold its own receiver");
    if let Delivered::Dropped(_) = sock.deliver(stack, skb, now) {
        stack.mib.inc(Mib::TcpExtTCPBacklogDrop);
    }
}

/// Whether a segment goes on where the last one of the backlog ends, and says the same otherwise.
fn continues(last: &Skb, skb: &Skb) -> bool {
    let (a, b) = (&last.tcp, &skb.tcp);
    let (fa, fb) = (a.all_flags(), b.all_flags());
    let special = TcpFlags::SYN | TcpFlags::RST | TcpFlags::URG;
    let same = (TcpFlags::ECE | TcpFlags::CWR | TcpFlags::AE | TcpFlags::ACK).bits();
    a.end_seq == b.seq
        && a.ip_dsfield == b.ip_dsfield
        && !(fa | fb).intersects(special)
        && !fa.contains(TcpFlags::FIN)
        && fa.contains(TcpFlags::ACK)
        && fa.bits() & same == fb.bits() & same
        && a.header_len() == b.header_len()
        && option_bytes(last) == option_bytes(skb)
}

/// Joins a segment to the last one of a backlog, so that the owner processes both as one. Packets whose memory is
/// shared stay as they are, and so do those of a listener, whose backlog holds segments of many peers. Linux: the first
/// half of tcp_add_backlog.
pub(super) fn join_backlog(stack: &Stack, sock: &Sock, last: &mut Skb, skb: &mut Skb) -> bool {
    if sock.state() == State::Listen || !continues(last, skb) || last.is_cloned() || skb.is_cloned() {
        return false;
    }
    let header_len = skb.tcp.header_len();
    if last.frags().len() + skb.frags().len() > MAX_SKB_FRAGS
        || last.len() + skb.len() > GSO_MAX_SIZE as usize
        || !skb.pull(header_len)
    {
        return false;
    }
    if skb.head_len() != 0 {
        skb.unpull(header_len);
        return false;
    }
    let size = |s: &Skb, header: usize| match s.gso_size {
        0 => (s.len() - header).min(usize::from(u16::MAX)) as u16,
        n => n,
    };
    last.gso_size = size(last, header_len).max(size(skb, 0));
    last.rx_segs = last.rx_segs.max(1).saturating_add(skb.rx_segs.max(1));
    let truesize = last.truesize + skb.truesize;
    last.append_frags(skb);
    last.truesize = truesize;
    let (a, b) = (&mut last.tcp, &skb.tcp);
    a.end_seq = b.end_seq;
    a.flags |= b.flags;
    a.flag_word |= b.flag_word & 0xffff_0000;
    if !b.ack_seq.before(a.ack_seq) {
        a.ack_seq = b.ack_seq;
        a.flag_word = a.flag_word & 0xffff_0000 | b.flag_word & 0xffff;
    }
    last.tstamp = skb.tstamp;
    stack.mib.inc(Mib::TcpExtTCPBacklogCoalesce);
    true
}

/// A listener also needs the addresses, and may keep the segment in its backlog.
pub(super) fn to_listener(stack: &Arc<Stack>, l: &Arc<Sock>, mut skb: Skb, info: &PacketInfo) {
    skb.rx = Some(*info);
    add_backlog(stack, l, skb, info.now);
}

/// An ICMP error about a segment of ours (IpHandler::err). It is ignored unless it quotes a sequence number in flight
/// (RFC 5927 §4.1).
pub(crate) fn err(net: &TcpNet, stack: &Arc<Stack>, icmp: &IcmpError<'_>) {
    let Some(q) = icmp.quoted.get(..8) else { return };
    let word = |i: usize| u16::from_be_bytes([q[i], q[i + 1]]);
    let (sport, dport) = (word(0), word(2));
    let seq = SeqNum(u32::from_be_bytes([q[4], q[5], q[6], q[7]]));
    let tuple = Tuple { saddr: addr128(icmp.src), sport, daddr: addr128(icmp.dst), dport };
    match net.hashinfo.established_from(stack, &tuple, icmp.ifindex) {
        None => {
            let mib = if icmp.src.is_ipv4() { Mib::IcmpInErrors } else { Mib::Icmp6InErrors };
            stack.mib.inc(mib);
            stack.mib.drop(DropReason::IcmpImplausible);
        }
        Some(Entry::TimeWait(tw)) => tw.icmp(stack, icmp),
        Some(Entry::Request(l, _)) => {
            if l.try_own(stack, icmp.now, |g| handshake::request_err(g, &tuple, seq, icmp)).is_none() {
                stack.mib.inc(Mib::TcpExtLockDroppedIcmps);
            }
        }
        Some(Entry::Sock(sock, _)) => sock_err(net, stack, &sock, seq, icmp),
    }
}

/// Fragmentation needed, or packet too big.
pub(super) fn is_mtu(icmp: &IcmpError<'_>) -> bool {
    match icmp.src {
        IpAddr::V4(_) => icmp.ty == 3 && icmp.code == 4,
        IpAddr::V6(_) => icmp.ty == 2,
    }
}

fn sock_err(net: &TcpNet, stack: &Arc<Stack>, sock: &Arc<Sock>, seq: SeqNum, icmp: &IcmpError<'_>) {
    let ran = sock.try_own(stack, icmp.now, |g| owned_err(g, seq, icmp));
    if ran.is_some() {
        return;
    }
    if is_mtu(icmp) {
        // The owner applies the new MTU when it releases the sock; until then the tables keep the number.
        net.hashinfo.note_mtu(sock, seq, icmp.info);
        sock.defer(stack, deferred::MTU_REDUCED, icmp.now);
    } else {
        stack.mib.inc(Mib::TcpExtLockDroppedIcmps);
    }
}

/// Applies the path MTUs that ICMP reported while the sock was owned.
pub(super) fn mtu_deferred(cx: &mut Cx<'_>) {
    for (seq, mtu) in cx.tp.net.hashinfo.take_mtu(cx.sock) {
        // The news do not say of which kind the message was: over IPv4 it was this one.
        if !(cx.sk.daddr.is_ipv4() && auth::ignore_icmp(cx, true, 3, 4)) {
            mtu_err(cx, seq, mtu);
        }
    }
}

fn plausible(cx: &Cx<'_>, seq: SeqNum) -> bool {
    // The SYN-ACK of a Fast Open child may be quoted, too.
    let first = fastopen::server::snt_isn(cx).unwrap_or(cx.tp.snd_una);
    if cx.state() == State::Listen || seq.between(first, cx.tp.snd_nxt) {
        return true;
    }
    cx.stack.mib.inc(Mib::TcpExtOutOfWindowIcmps);
    cx.stack.mib.drop(DropReason::IcmpImplausible);
    false
}

fn mtu_err(cx: &mut Cx<'_>, seq: SeqNum, mtu: u32) {
    if matches!(cx.state(), State::Close | State::Listen) || !plausible(cx, seq) {
        return;
    }
    // Over IPv6 it has to make segments smaller (tcp_v6_mtu_reduced).
    if cx.sk.daddr.is_ipv6() && super::mtu::mtu_to_mss(cx, mtu) >= cx.tp.mss_cache {
        return;
    }
    // IP_PMTUDISC_INTERFACE (4) and IP_PMTUDISC_OMIT (5) ignore ICMP.
    if cx.sk.pmtudisc < 4 {
        ip::exception::update_pmtu(cx.stack, cx.sk.daddr, mtu, cx.now);
        super::mtu::mtu_reduced(cx, mtu);
    }
}

fn owned_err(g: &mut SockGuard<'_>, seq: SeqNum, icmp: &IcmpError<'_>) {
    let min_ttl = g.common.min_ttl;
    let Some(mut cx) = Cx::new(g) else { return };
    let cx = &mut cx;
    if auth::ignore_icmp(cx, icmp.src.is_ipv4(), icmp.ty, icmp.code) {
        return;
    }
    if is_mtu(icmp) {
        return mtu_err(cx, seq, icmp.info);
    }
    if cx.state() == State::Close || !plausible(cx, seq) {
        return;
    }
    if min_ttl > 0 && icmp.ty == 11 && icmp.src.is_ipv4() {
        // Generalised TTL security: a TTL that ran out cannot be of a neighbour's packet (RFC 5082).
        cx.stack.mib.inc(Mib::TcpExtTCPMinTTLDrop);
        return;
    }
    let Some(err) = error_of(icmp) else { return };
    let v4 = icmp.src.is_ipv4();
    let fastopen = cx.tp.has_fastopen_rsk();
    let unreachable = if v4 { icmp.ty == 3 && icmp.code <= 1 } else { icmp.ty == 1 && icmp.code == 0 };
    // The timer of a Fast Open child is the SYN-ACK's.
    if unreachable && !fastopen {
        super::timer::ld_rto_revert(cx, seq);
    }
    let wants = cx.sk.flag(if v4 { flag::RECVERR } else { flag::RECVERR6 });
    match cx.state() {
        // A connection that is not established yet fails with the first error, which it also finds in its error queue:
        // over IPv4 whether or not it asked for that. The child of a Fast Open SYN does so until a program has it.
        State::SynSent | State::SynRecv if !fastopen || cx.tp.not_accepted => {
            if v4 || wants {
                queue_icmp(cx, icmp, err);
            }
            close::done_with_error(cx, err);
        }
        // An established one continues; the error is reported if it times out (RFC 1122 §4.2.3.9, RFC 5461).
        _ if !wants => cx.sk.err_soft = err.errno(),
        _ => {
            cx.sock.err.store(err.errno(), Ordering::Relaxed);
            cx.sock.wait.wake(Events::ALL);
        }
    }
}

/// What an ICMP error means to TCP; None: nothing (redirects, source quench: RFC 6633).
pub(super) fn error_of(icmp: &IcmpError<'_>) -> Option<Error> {
    match (icmp.src, icmp.ty) {
        (IpAddr::V4(_), 3) if icmp.code > 15 => None,
        (IpAddr::V4(_), 12) => Some(Error::Proto),
        (IpAddr::V4(_), 11) => Some(Error::HostUnreach),
        (IpAddr::V4(_), 3) => Some(icmp.errno),
        (IpAddr::V4(_), _) => None,
        (IpAddr::V6(_), _) => Some(icmp.errno),
    }
}

fn queue_icmp(cx: &mut Cx<'_>, icmp: &IcmpError<'_>, err: Error) {
    use crate::sock::exterr::{ErrEntry, IpPacket, origin};
    use crate::sock::msg::SockExtendedErr;
    let dport = icmp.quoted.get(2..4).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let entry = ErrEntry {
        addr: Some(to_family(std::net::SocketAddr::new(icmp.dst, dport), cx.sock.family)),
        err: SockExtendedErr {
            errno: err.errno() as u32,
            origin: if icmp.src.is_ipv4() { origin::ICMP } else { origin::ICMP6 },
            ty: icmp.ty,
            code: icmp.code,
            info: 0,
            data: 0,
            offender: Some(icmp.reporter),
        },
        payload: icmp.quoted.to_vec(),
        packet: Some(IpPacket {
            dst: icmp.src,
            spec_dst: std::net::Ipv4Addr::UNSPECIFIED,
            ifindex: icmp.ifindex,
            ttl: icmp.ttl,
            tos: icmp.tos,
            flow_label: icmp.flow_label,
        }),
        came: Some(icmp.now),
        opt_stats: false,
    };
    cx.sock.queue_error(entry);
}
