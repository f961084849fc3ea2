//! Passive open: SYN to request. Above: `proto` (segments for a listener). Below: `listener`, `synack`, `child`;
//! `check_req` for a segment of a request. The listener is owned. Softirq context, or the listener's backlog. RFC 9293
//! §3.10.7.2, RFC 7323, RFC 3168 §6.1.1. Linux: tcp_conn_request, inet_csk_reqsk_queue_hash_add.

use super::auth::{self, AoHeader};
use super::check_req::check_req;
use super::child::{OpenedBy, first_segment, syn_recv_sock};
use super::connect::{default_mss, ts_offset};
use super::ecn::{self, EcnRequest};
use super::fastopen::queue::FastOpenQueue;
use super::fastopen::server::Decision;
use super::listener::{self, ReqKey, Request, RequestCold};
use super::lookup::Entry;
use super::metrics;
use super::rcv;
use super::segment;
use super::sock_ops::{self, Ends};
use super::synack::{SynAck, send_synack};
use super::syncookies::{self, Remembered};
use super::tcb::{Cx, TcpSock};
use super::{fastopen, mtu, window};
use crate::base::env::Instant;
use crate::base::error::Error;
use crate::base::hash::Tuple;
use crate::counters::{DropReason, Mib};
use crate::ip;
use crate::ip::flowlabel;
use crate::sock::accept::acceptq_is_full;
use crate::sock::dst::{Dst, DstKind};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::sock::wait::Events;
use crate::sock::{Sock, SockCommon, SockGuard, flag};
use crate::wire::addr::is_link_local;
use crate::wire::seq::{SeqNum, WindowShift};
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::TcpOptions;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A segment for a listener: for one of its requests, or a SYN that opens a new one. Linux: tcp_v4_do_rcv's LISTEN,
/// tcp_check_req.
pub fn listen_rcv(cx: &mut Cx<'_>, skb: Skb) {
    let Some(info) = skb.rx else { return drop_skb(cx, DropReason::Unspecified) };
    let ((sport, dport), flags) = (rcv::ports(&skb), skb.tcp.all_flags());
    if skb.tcp.ttl < cx.sk.least_ttl(skb.l3) {
        cx.stack.mib.inc(Mib::TcpExtTCPMinTTLDrop);
        return drop_skb(cx, DropReason::TcpMinTtl);
    }
    let key = ReqKey::of(cx.stack, &skb, &info, (sport, dport));
    let mut skb = skb;
    let requested = cx.tp.listener.as_ref().is_some_and(|l| l.has(&key));
    if !requested
        && !flags.contains(TcpFlags::SYN)
        && let Some(Entry::Sock(child, _)) = cx.tp.net.hashinfo.established_from(cx.stack, &key.tuple, info.ifindex)
    {
        // The segment waited in the backlog while its request became a connection.
        skb.rx = None;
        rcv::add_backlog(cx.stack, &child, skb, cx.now);
        return;
    }
    let of = |tp: &mut TcpSock| tp.listener_mut().filter(|_| requested)?.get(&key).map(|r| r.auth());
    if let Err(reason) = auth::inbound_hash(cx, &skb, info.src, info.dst, of) {
        cx.sock.drops.fetch_add(1, Ordering::Relaxed);
        return drop_skb(cx, reason);
    }
    if requested {
        match check_req(cx, &key, skb, &info) {
            Some(back) => skb = back,
            None => return,
        }
    }
    if flags.contains(TcpFlags::ACK) {
        let Some(skb) = cookie_check(cx, &key, skb, &info) else { return };
        reset(cx, &key, &skb, &info);
        return drop_skb(cx, DropReason::TcpFlags);
    }
    if flags.contains(TcpFlags::RST) {
        return drop_skb(cx, DropReason::TcpReset);
    }
    if !flags.contains(TcpFlags::SYN) || flags.contains(TcpFlags::FIN) {
        return drop_skb(cx, DropReason::TcpFlags);
    }
    conn_request(cx, &key, skb, &info);
}

#[track_caller]
fn drop_skb(cx: &Cx<'_>, reason: DropReason) {
    cx.stack.mib.drop(reason);
}

/// Resets the sender of a segment for a request, or for none.
pub(super) fn reset(cx: &mut Cx<'_>, key: &ReqKey, skb: &Skb, info: &PacketInfo) {
    let of_request = with_request(cx, key, |cx, req| auth::request_key(cx.tp, req, skb));
    let signer = of_request.unwrap_or_else(|| auth::listener_key(cx.tp, skb, info.src));
    let (sport, dport) = (key.tuple.dport, key.tuple.sport);
    if let Ok(signer) = signer {
        let label = flowlabel::reflected(cx.sk, info.flow_label);
        let ip_options = ip::options::of_segment(skb.saved_header.as_deref());
        let said = rcv::Said { signer: signer.as_ref(), flow_label: label, ip_options: &ip_options };
        rcv::send_reset(cx.stack, &skb.tcp, info.src, info.dst, sport, dport, info, said);
    }
}

/// A SYN is refused: counted at the listener and for the stack (tcp_listendrop).
#[track_caller]
pub(super) fn listendrop(cx: &Cx<'_>, reason: DropReason) {
    cx.sock.drops.fetch_add(1, Ordering::Relaxed);
    cx.stack.mib.inc(Mib::TcpExtListenDrops);
    cx.stack.mib.drop(reason);
}

/// MSS to announce on a route, bounded by TCP_MAXSEG.
pub(super) fn mss_for(cx: &Cx<'_>, req_dst: &Dst, v6: bool) -> u16 {
    let mss = mtu::default_advmss(cx.stack, req_dst, v6);
    match cx.tp.rx_opt.user_mss {
        0 => mss,
        user => user.min(mss),
    }
}

/// The mark of a connection that `skb` asks for (inet_request_mark).
fn request_mark(cx: &Cx<'_>, skb: &Skb) -> u32 {
    match cx.sk.mark {
        0 if cx.stack.sysctl.tcp_fwmark_accept() => skb.mark,
        own => own,
    }
}

/// What two ends agree on in a handshake.
struct Agreed {
    rcv_isn: SeqNum,
    snt_isn: SeqNum,
    /// The peer's MSS.
    mss: u16,
    /// Its timestamp, where there are timestamps.
    ts_recent: Option<u32>,
    sack_ok: bool,
    /// Its window scale, where there is one.
    wscale: Option<WindowShift>,
    ecn: EcnRequest,
    /// Its TCP-AO option, where there is one.
    ao: Option<AoHeader>,
    /// The TOS byte of the SYN.
    syn_tos: u8,
    mark: u32,
}

/// A request with these numbers, which nobody knows yet.
#[inline(always)]
fn new_request(cx: &mut Cx<'_>, key: &ReqKey, info: &PacketInfo, dst: Arc<Dst>, agreed: Agreed) -> Box<Request> {
    let ends = Ends { saddr: info.dst, daddr: info.src, sport: key.tuple.sport, dport: key.tuple.dport };
    let timeout_us = sock_ops::timeout_init(cx, Some(ends));
    let (tstamp_ok, wscale_ok) = (agreed.ts_recent.is_some(), agreed.wscale.is_some());
    let (rcv_wnd, window_clamp, rcv_wscale) = init_rwin(cx, &dst, ends, tstamp_ok, wscale_ok);
    let pair = dst.hashes_of(&cx.stack.keys, info.dst, info.src);
    let req = Request {
        saddr: info.dst,
        daddr: info.src,
        sport: key.tuple.sport,
        dport: key.tuple.dport,
        oif: oif(cx.sk, info),
        rcv_isn: agreed.rcv_isn,
        rcv_nxt: agreed.rcv_isn + 1,
        snt_isn: agreed.snt_isn,
        mss: agreed.mss,
        ts_recent: agreed.ts_recent.unwrap_or(0),
        ts_off: if tstamp_ok { ts_offset(cx.stack, || pair.ts_offset) } else { 0 },
        txhash: segment::rnd_txhash(cx.stack),
        tstamp_ok,
        sack_ok: agreed.sack_ok,
        wscale_ok,
        ecn: agreed.ecn,
        acked: false,
        snd_wscale: agreed.wscale.unwrap_or(WindowShift::NONE),
        rcv_wscale,
        rcv_wnd,
        window_clamp,
        tsval: (0, 0),
        sent: Instant::ZERO,
        last_oow_ack_ms: 0,
        ao: agreed.ao.map(|h| (h.rnext, h.keyid)),
        num_timeout: 0,
        num_retrans: 0,
        timeout_us,
        syn_tos: agreed.syn_tos,
        mark: agreed.mark,
        cold: None,
        deadline: Instant::ZERO,
        id: 0,
        dst,
    };
    match cx.tp.listener_mut() {
        Some(l) => l.boxed(req),
        None => Box::new(req),
    }
}

/// Whether no request is remembered for a SYN, because the queue is full or the sysctl says never.
fn is_crowded(cx: &Cx<'_>, qlen: usize) -> bool {
    qlen as u32 > cx.sk.max_ack_backlog || cx.stack.sysctl.tcp_syncookies() == 2
}

/// Without cookies the last quarter of the queue is for peers that have proved to be alive.
fn is_for_proven_peers(cx: &Cx<'_>, qlen: usize) -> bool {
    let max = cx.stack.sysctl.tcp_max_syn_backlog();
    cx.stack.sysctl.tcp_syncookies() == 0 && max.saturating_sub(qlen as i32) < max >> 2
}

/// Whether a SYN is answered with a cookie. None: it is dropped (tcp_syn_flood_action).
fn wants_cookie(cx: &Cx<'_>, qlen: usize) -> Option<bool> {
    if !is_crowded(cx, qlen) {
        return Some(false);
    }
    if cx.stack.sysctl.tcp_syncookies() == 0 {
        cx.stack.mib.inc(Mib::TcpExtTCPReqQFullDrop);
        listendrop(cx, DropReason::TcpReqQueueFull);
        return None;
    }
    cx.stack.mib.inc(Mib::TcpExtTCPReqQFullDoCookies);
    Some(true)
}

/// A SYN for a listener whose owner has ended, and which will end when the owner's end is known. It receives no more
/// from now on: the SYN goes to another that listens there, or is refused.
#[cold]
fn ownerless(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, info: &PacketInfo) {
    super::connect::unhash(cx);
    match cx.tp.net.hashinfo.listener(cx.stack, info, rcv::ports(&skb), &skb) {
        Some(other) => rcv::to_listener(cx.stack, &other, skb, info),
        None => {
            reset(cx, key, &skb, info);
            drop_skb(cx, DropReason::NoSocket);
        }
    }
}

/// A SYN for a new connection: agrees on options, remembers a request, or has a cookie remember it, and answers with a
/// SYN-ACK. Linux: tcp_conn_request.
fn conn_request(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, info: &PacketInfo) {
    // No host has a v4-mapped address (tcp_v6_conn_request).
    if let IpAddr::V6(src) = info.src
        && src.to_ipv4_mapped().is_some()
    {
        cx.stack.mib.inc(Mib::Ip6InHdrErrors);
        return drop_skb(cx, DropReason::IpInvalidSource);
    }
    let Some(qlen) = cx.tp.listener.as_ref().map(|l| l.requests_len()) else { return };
    let forgets = is_crowded(cx, qlen) || is_for_proven_peers(cx, qlen);
    let crowded = forgets || acceptq_is_full(cx.sk.ack_backlog, cx.sk.max_ack_backlog);
    let now = cx.now;
    if cx.tp.listener_mut().is_some_and(|l| !l.is_owned(now, crowded)) {
        return ownerless(cx, key, skb, info);
    }
    let sysctl = &cx.stack.sysctl;
    let isn_from_tw = SeqNum(skb.tcp.in_flight);
    let tw = skb.tcp.in_flight != 0;
    let Some(cookie) = (if tw { Some(false) } else { wants_cookie(cx, qlen) }) else { return };
    if acceptq_is_full(cx.sk.ack_backlog, cx.sk.max_ack_backlog) {
        cx.stack.mib.inc(Mib::TcpExtListenOverflows);
        return listendrop(cx, DropReason::TcpListenOverflow);
    }
    let opt = TcpOptions::parse(rcv::option_bytes(&skb));
    let Some(dst) = route_back(cx, info).ok().filter(|d| may_answer_by(cx, d)) else {
        return listendrop(cx, DropReason::IpOutNoRoutes);
    };
    let nearly_full = !tw && is_for_proven_peers(cx, qlen);
    let pair = || dst.hashes_of(&cx.stack.keys, info.dst, info.src);
    if nearly_full && !metrics::peer_is_proven(&cx.tp.net, pair(), &dst, cx.now) {
        return listendrop(cx, DropReason::TcpReqQueueFull);
    }
    let timestamps = opt.timestamps.filter(|_| sysctl.tcp_timestamps() != 0);
    // The options of a cookie are in its timestamp.
    let has_room = !cookie || timestamps.is_some();
    let wscale = opt.window_scale.filter(|_| sysctl.tcp_window_scaling() && has_room);
    let isn = if tw { isn_from_tw } else { SeqNum(cx.stack.keys.isn(cx.now, &key.tuple)) };
    let user = cx.tp.rx_opt.user_mss;
    let mss = opt.mss.map_or(default_mss(info.src), |m| if user != 0 { m.min(user) } else { m });
    let ends = Ends { saddr: info.dst, daddr: info.src, sport: key.tuple.sport, dport: key.tuple.dport };
    let hooks = sock_ops::begin_request(cx, ends);
    let agreed = Agreed {
        rcv_isn: skb.tcp.seq,
        snt_isn: isn,
        mss,
        ts_recent: timestamps.map(|t| t.0),
        sack_ok: opt.sack_permitted && sysctl.tcp_sack() && has_room,
        wscale: wscale.map(WindowShift::clamp),
        ecn: ecn::create_request(cx, &skb, &dst, ends, has_room),
        ao: auth::ao_header(cx.tp, &skb),
        syn_tos: skb.tcp.ip_dsfield,
        mark: request_mark(cx, &skb),
    };
    let mut req = new_request(cx, key, info, dst, agreed);
    let pktopts = if tw && info.dst.is_ipv6() { None } else { ip::pktoptions::of_syn(cx.sk, &skb) };
    let mut cold = RequestCold { pktopts, hooks, ..RequestCold::default() };
    if cookie {
        req.cold = cold.boxed();
        return send_cookie(cx, key, &mut req);
    }
    cold.saved_syn = (cx.tp.options().save_syn != 0).then(|| saved_syn(&skb, info));
    cold.syn_options = cx.tp.net.sock_ops.any().then(|| rcv::option_bytes(&skb).into());
    req.cold = cold.boxed();
    let decision = fastopen::server::try_fastopen(cx, &skb, info, &opt, &req.dst);
    if let Some(queue) = &decision.open {
        let queue = queue.clone();
        req = match open_child(cx, key, req, queue, (&skb, &opt), &decision) {
            Ok(()) => return,
            Err(req) => req,
        };
    }
    let entry = Entry::Request(cx.sock.clone(), req.oif);
    if !cx.tp.net.hashinfo.insert(key.hash, entry, |_| false) {
        // A connection with this 4-tuple was made meanwhile: the SYN is an old duplicate.
        return drop_skb(cx, DropReason::TcpInvalidSyn);
    }
    // One that IP does not take is sent again by the timer.
    send_synack(cx, &mut req, SynAck::Normal(decision.cookie));
    let at = cx.now + listener::req_timeout(cx, req.timeout_us, 0);
    if let Some(l) = cx.tp.listener_mut() {
        l.insert(*key, req, at);
    }
    listener::arm_for(cx, at);
}

/// Whether a SYN is answered by a route: to one host, and with SO_DONTROUTE to one on the link.
fn may_answer_by(cx: &Cx<'_>, dst: &Arc<Dst>) -> bool {
    let on_link = || !cx.sk.flag(flag::LOCALROUTE) || ip::route::on_link(cx.stack, dst).is_ok();
    matches!(dst.kind, DstKind::Unicast | DstKind::Local) && on_link()
}

/// Answers a SYN with a cookie; the request is forgotten (cookie_init_sequence).
fn send_cookie(cx: &mut Cx<'_>, key: &ReqKey, req: &mut Request) {
    let now = cx.now;
    if let Some(l) = cx.tp.listener_mut() {
        l.overflow.note(now);
    }
    let v6 = req.daddr.is_ipv6();
    let (isn, mss) = syncookies::init_sequence(&cx.stack.keys, now, &key.tuple, v6, req.rcv_isn, req.mss);
    (req.snt_isn, req.mss) = (isn, mss);
    cx.stack.mib.inc(Mib::TcpExtSyncookiesSent);
    send_synack(cx, req, SynAck::Cookie);
}

/// An acknowledgement that belongs to no request may bring a cookie back: then it makes the connection. Some: it does
/// not, and is answered as any other (cookie_v4_check).
fn cookie_check(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, info: &PacketInfo) -> Option<Skb> {
    let (stack, now, flags) = (cx.stack, cx.now, skb.tcp.all_flags());
    let sysctl = &stack.sysctl;
    let recent = cx.tp.listener.as_ref().is_some_and(|l| l.overflow.is_recent(now));
    if !recent || sysctl.tcp_syncookies() == 0 || flags.contains(TcpFlags::SYN) || flags.contains(TcpFlags::RST) {
        return Some(skb);
    }
    let back = |n: SeqNum| SeqNum(n.0.wrapping_sub(1));
    let (rcv_isn, snt_isn) = (back(skb.tcp.seq), back(skb.tcp.ack_seq));
    let v6 = info.src.is_ipv6();
    let Some(mss) = syncookies::check(&stack.keys, now, &key.tuple, v6, rcv_isn, snt_isn) else {
        stack.mib.inc(Mib::TcpExtSyncookiesFailed);
        return Some(skb);
    };
    stack.mib.inc(Mib::TcpExtSyncookiesRecv);
    let opt = TcpOptions::parse(rcv::option_bytes(&skb));
    let timestamps = opt.timestamps.filter(|_| sysctl.tcp_timestamps() != 0);
    let of_pair = || stack.keys.ts_offset(key.tuple.saddr, key.tuple.daddr);
    let said = timestamps.map(|(_, echo)| {
        let offset = if echo != 0 { ts_offset(stack, of_pair) } else { 0 };
        syncookies::decode_timestamp(echo.wrapping_sub(offset))
    });
    let said = said.unwrap_or(Remembered::NOTHING);
    // We never said that: the sysctl has changed, or the timestamp is not ours.
    if said.sack_ok && !sysctl.tcp_sack() || said.wscale.is_some() && !sysctl.tcp_window_scaling() {
        return Some(skb);
    }
    if acceptq_is_full(cx.sk.ack_backlog, cx.sk.max_ack_backlog) {
        stack.mib.inc(Mib::TcpExtListenOverflows);
        listendrop(cx, DropReason::TcpListenOverflow);
        return None;
    }
    let Ok(dst) = route_back(cx, info) else {
        drop_skb(cx, DropReason::IpOutNoRoutes);
        return None;
    };
    if cx.sk.flag(flag::LOCALROUTE) && ip::route::on_link(stack, &dst).is_err() {
        drop_skb(cx, DropReason::IpOutNoRoutes);
        return None;
    }
    let willing = sysctl.tcp_ecn() != 0 || dst.metrics.feature_ecn;
    let ends = Ends { saddr: info.dst, daddr: info.src, sport: key.tuple.sport, dport: key.tuple.dport };
    let hooks = sock_ops::begin_request(cx, ends);
    let agreed = Agreed {
        rcv_isn,
        snt_isn,
        mss,
        ts_recent: timestamps.map(|t| t.0),
        sack_ok: said.sack_ok,
        wscale: said.wscale,
        ecn: ecn::cookie_request(said.ecn_ok && willing, flags),
        ao: auth::ao_header(cx.tp, &skb),
        syn_tos: skb.tcp.ip_dsfield,
        mark: request_mark(cx, &skb),
    };
    let mut req = new_request(cx, key, info, dst, agreed);
    let pktopts = ip::pktoptions::of_syn(cx.sk, &skb);
    req.cold = RequestCold { pktopts, hooks, ..RequestCold::default() }.boxed();
    let by = OpenedBy::of(&skb, &opt);
    let child = syn_recv_sock(cx, key, &mut Some(req), &by, |_| false, |c, _| first_segment(c, skb));
    match child {
        Some(child) => queue_add(cx, child),
        None => drop_skb(cx, DropReason::TcpInvalidSyn),
    }
    None
}

/// A SYN whose data is taken makes a child at once, which a program may accept. The SYN-ACK is sent by the child. The
/// request is returned where there can be no child (the part of `conn_request` for Fast Open).
fn open_child(
    cx: &mut Cx<'_>,
    key: &ReqKey,
    req: Box<Request>,
    queue: Arc<FastOpenQueue>,
    (skb, opt): (&Skb, &TcpOptions),
    decision: &Decision,
) -> Result<(), Box<Request>> {
    let mut req = Some(req);
    let cookie = decision.cookie.filter(|_| decision.alt_key);
    let child = syn_recv_sock(
        cx,
        key,
        &mut req,
        &OpenedBy::of(skb, opt),
        |_| false,
        |c, req| {
            fastopen::server::open_child(c, req, queue, skb, cookie);
        },
    );
    let Some(child) = child else {
        cx.stack.mib.inc(Mib::TcpExtTCPFastOpenPassiveFail);
        return req.map_or(Ok(()), Err);
    };
    if decision.alt_key {
        cx.stack.mib.inc(Mib::TcpExtTCPFastOpenPassiveAltKey);
    }
    cx.stack.mib.inc(Mib::TcpExtTCPFastOpenPassive);
    queue_add(cx, child);
    Ok(())
}

/// Interface the answers must leave by.
fn oif(sk: &SockCommon, info: &PacketInfo) -> u32 {
    if sk.bound_dev_if == 0 && is_link_local(info.src) { info.ifindex } else { sk.bound_dev_if }
}

/// The route to the sender of a SYN. That of the last one mostly serves again (inet_csk_route_req).
fn route_back(cx: &mut Cx<'_>, info: &PacketInfo) -> Result<Arc<Dst>, Error> {
    let (stack, hop, oif) = (cx.stack, ip::socket_headers::way_to(cx.sk, info.src), oif(cx.sk, info));
    if oif != 0 {
        return ip::route::lookup(stack, hop, Some(info.dst), oif);
    }
    let Some(l) = cx.tp.listener_mut() else { return Err(Error::Inval) };
    if let Some(dst) = &l.route
        && dst.check(stack)
        && dst.is_between(info.dst, hop)
    {
        return Ok(dst.clone());
    }
    let dst = ip::route::lookup(stack, hop, Some(info.dst), 0)?;
    l.route = Some(dst.clone());
    Ok(dst)
}

/// First window, its bound and its scale (tcp_openreq_init_rwin).
fn init_rwin(cx: &mut Cx<'_>, dst: &Dst, ends: Ends, ts: bool, wscale_ok: bool) -> (u32, u32, WindowShift) {
    let mut full = window::full_space(cx);
    let mss = u32::from(mss_for(cx, dst, ends.daddr.is_ipv6()));
    let mut clamp = if cx.tp.window_clamp != 0 { cx.tp.window_clamp } else { dst.metrics.window };
    if cx.sk.flag(flag::RCVBUF_LOCK) && (clamp == 0 || clamp > full.max(0) as u32) {
        clamp = full.max(0) as u32;
    }
    let initrwnd = match sock_ops::rwnd_init(cx, Some(ends)) {
        0 => dst.metrics.initrwnd,
        n => {
            // A hook may promise more than the buffer holds; a route may not.
            full = full.max(n.saturating_mul(mss).min(i32::MAX as u32) as i32);
            n
        }
    };
    let mss = mss.saturating_sub(if ts { 12 } else { 0 });
    window::select_initial_window(cx.stack, full, mss, clamp, wscale_ok, initrwnd)
}

/// TCP_SAVE_SYN: an IP header made from what IP passes on, then the TCP header as received. Fields that IP does not
/// pass on (identification, options) are zero.
fn saved_syn(skb: &Skb, info: &PacketInfo) -> Box<[u8]> {
    let tcp_len = skb.linear().get(12).map_or(0, |b| usize::from(b >> 4) * 4);
    let mut v = info.header(skb.len());
    v.extend_from_slice(&skb.linear()[..tcp_len.min(skb.linear().len())]);
    v.into_boxed_slice()
}

/// Runs `f` with a request of the listener, which is out of its slot meanwhile. None: there is no such request.
pub(super) fn with_request<R>(
    cx: &mut Cx<'_>,
    key: &ReqKey,
    f: impl FnOnce(&mut Cx<'_>, &mut Request) -> R,
) -> Option<R> {
    let mut req = cx.tp.listener_mut()?.take(key)?;
    let r = f(cx, &mut req);
    if let Some(l) = cx.tp.listener_mut() {
        l.put_back(key, req);
    }
    Some(r)
}

/// Takes a request out of listener and tables (inet_csk_reqsk_queue_drop).
pub(super) fn unlink(cx: &mut Cx<'_>, key: &ReqKey) -> Option<Box<Request>> {
    let req = cx.tp.listener_mut()?.remove(key)?;
    let mine = |e: &Entry| matches!(e, Entry::Request(s, _) if Arc::ptr_eq(s, cx.sock));
    drop(cx.tp.net.hashinfo.remove(key.hash, mine));
    Some(req)
}

/// An ICMP error about a SYN-ACK (tcp_req_err): one that quotes it and reports the peer as unreachable ends the
/// request.
pub fn request_err(g: &mut SockGuard<'_>, tuple: &Tuple, seq: SeqNum, icmp: &IcmpError<'_>) {
    let Some(mut cx) = Cx::new(g) else { return };
    let key = ReqKey::new(cx.stack, *tuple);
    let Some(isn) = cx.tp.listener_mut().and_then(|l| l.get(&key)).map(|r| r.snt_isn) else { return };
    if seq != isn {
        cx.stack.mib.inc(Mib::TcpExtOutOfWindowIcmps);
        return cx.stack.mib.drop(DropReason::IcmpImplausible);
    }
    let abort = match (icmp.src, icmp.ty) {
        (IpAddr::V4(_), 3) => icmp.code <= 1,
        (IpAddr::V4(_), t) => matches!(t, 11 | 12),
        (IpAddr::V6(_), _) => icmp.fatal,
    };
    if abort && unlink(&mut cx, &key).is_some() {
        listendrop(&cx, DropReason::Unspecified);
    }
}

/// A child joins the accept queue (inet_csk_reqsk_queue_add).
pub(super) fn queue_add(cx: &mut Cx<'_>, child: Arc<Sock>) {
    if let Some(l) = cx.tp.listener_mut() {
        l.push_accept(child);
        cx.sk.cold_mut().ack_backlog += 1;
        cx.sock.wait.wake(Events::IN);
    }
}
