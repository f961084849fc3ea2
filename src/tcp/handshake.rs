//! Passive open: SYN to request, request to connection. Above: `proto` (segments for a listener). Below: `listener`,
//! `lookup`, `input` (which runs the child's first segment). The listener is owned; a child is owned inside it. Softirq
//! context, or the listener's backlog. RFC 9293 §3.10.7.2 and §3.10.7.4, RFC 7323, RFC 3168 §6.1.1. Linux:
//! tcp_conn_request, tcp_check_req, tcp_create_openreq_child, inet_csk_reqsk_queue_hash_add, reqsk_timer_handler.

use super::challenge::{ChallengeBudget, may_challenge, oow_rate_limited};
use super::connect::{self, default_mss, ts_offset};
use super::ecn::{self, EcnFlags};
use super::input::{self, Verdict};
use super::listener::{self, ReqKey, Request};
use super::lookup::{Bound, Entry, Holder, tuple_of};
use super::rcv::{self, Reply};
use super::segment::{self, Options};
use super::sock_ops::{self, Ends, HdrSeg, cb};
use super::tcb::{Cx, TcpSock};
use super::timewait::{in_window, paws_reject};
use super::{cong, mtu, rcvbuf, rtt, set_state, timer, ulp, window};
use crate::base::env::Instant;
use crate::base::hash::Tuple;
use crate::counters::{DropReason, Mib};
use crate::ip;
use crate::ip::sockopt::flow_label;
use crate::sock::accept::acceptq_is_full;
use crate::sock::addr::AF_INET6;
use crate::sock::dst::{Dst, DstKind};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{Sock, SockCommon, SockGuard, flag};
use crate::stack::Stack;
use crate::trace::{Event, Resend};
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::{MAX_OPTIONS_LEN, TcpFlags, TcpRepr};
use crate::wire::tcp_options::{SynOptions, TcpOptions};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A segment for a listener: for one of its requests, or a SYN that opens a new one. Linux: tcp_v4_do_rcv's LISTEN,
/// tcp_check_req.
pub fn listen_rcv(cx: &mut Cx<'_>, skb: Skb) {
    let Some(info) = skb.rx else { return drop_skb(cx, DropReason::Unspecified) };
    let ((sport, dport), flags) = (rcv::ports(&skb), skb.tcp.all_flags());
    if cx.sk.min_ttl > 0 && skb.tcp.ttl < cx.sk.min_ttl {
        cx.stack.mib.inc(Mib::TcpExtTCPMinTTLDrop);
        return drop_skb(cx, DropReason::TcpMinTtl);
    }
    let tuple = tuple_of(&info, sport, dport);
    let key = ReqKey { hash: cx.stack.keys.ehash(&tuple), tuple };
    let mut skb = skb;
    if cx.tp.listener.as_ref().is_some_and(|l| l.has(&key)) {
        match check_req(cx, &key, skb, &info) {
            Some(back) => skb = back,
            None => return,
        }
    } else if !flags.contains(TcpFlags::SYN)
        && let Some(Entry::Sock(child)) = cx.tp.net.hashinfo.established(cx.stack, &tuple)
    {
        // The segment waited in the backlog while its request became a connection.
        skb.rx = None;
        rcv::add_backlog(cx.stack, &child, skb, cx.now);
        return;
    }
    if flags.contains(TcpFlags::ACK) {
        reset(cx, &skb, &info, sport, dport);
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

fn reset(cx: &Cx<'_>, skb: &Skb, info: &PacketInfo, sport: u16, dport: u16) {
    rcv::send_reset(cx.stack, &skb.tcp, info.src, info.dst, sport, dport, info);
}

/// A SYN is refused: counted at the listener and for the stack (tcp_listendrop).
#[track_caller]
fn listendrop(cx: &Cx<'_>, reason: DropReason) {
    cx.sock.drops.fetch_add(1, Ordering::Relaxed);
    cx.stack.mib.inc(Mib::TcpExtListenDrops);
    cx.stack.mib.drop(reason);
}

/// MSS to announce on a route, bounded by TCP_MAXSEG.
fn mss_for(cx: &Cx<'_>, req_dst: &Dst, v6: bool) -> u16 {
    let mss = mtu::default_advmss(cx.stack, req_dst, v6);
    match cx.tp.rx_opt.user_mss {
        0 => mss,
        user => user.min(mss),
    }
}

/// A SYN for a new connection: agrees on options, remembers a request and answers with a SYN-ACK. Linux:
/// tcp_conn_request.
fn conn_request(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, info: &PacketInfo) {
    let sysctl = &cx.stack.sysctl;
    let isn_from_tw = SeqNum(skb.tcp.in_flight);
    let tw = skb.tcp.in_flight != 0;
    let Some(qlen) = cx.tp.listener.as_ref().map(|l| l.requests_len()) else { return };
    if qlen as u32 > cx.sk.max_ack_backlog && !tw {
        cx.stack.mib.inc(Mib::TcpExtTCPReqQFullDrop);
        return listendrop(cx, DropReason::TcpReqQueueFull);
    }
    if acceptq_is_full(cx.sk.ack_backlog, cx.sk.max_ack_backlog) {
        cx.stack.mib.inc(Mib::TcpExtListenOverflows);
        return listendrop(cx, DropReason::TcpListenOverflow);
    }
    let opt = TcpOptions::parse(rcv::option_bytes(&skb));
    let dst = match ip::route::lookup(cx.stack, info.src, Some(info.dst), oif(cx.sk, info)) {
        Ok(d) if cx.sk.flag(flag::LOCALROUTE) && ip::route::on_link(cx.stack, &d).is_err() => {
            return listendrop(cx, DropReason::IpOutNoRoutes);
        }
        Ok(d) if matches!(d.kind, DstKind::Unicast | DstKind::Local) => d,
        _ => return listendrop(cx, DropReason::IpOutNoRoutes),
    };
    // Linux keeps the last quarter of the queue for peers in its metrics cache; there is no such cache here.
    let max = sysctl.tcp_max_syn_backlog();
    if !tw && sysctl.tcp_syncookies() == 0 && max.saturating_sub(qlen as i32) < max >> 2 {
        return listendrop(cx, DropReason::TcpReqQueueFull);
    }
    let timestamps = opt.timestamps.filter(|_| sysctl.tcp_timestamps() != 0);
    let wscale = opt.window_scale.filter(|_| sysctl.tcp_window_scaling());
    let isn = if tw { isn_from_tw } else { SeqNum(cx.stack.keys.isn(cx.now, &key.tuple)) };
    let user = cx.tp.rx_opt.user_mss;
    let mss = opt.mss.map_or(default_mss(info.src), |m| if user != 0 { m.min(user) } else { m });
    let ends = Ends { saddr: info.dst, daddr: info.src, sport: key.tuple.sport, dport: key.tuple.dport };
    let timeout_us = sock_ops::timeout_init(cx, Some(ends));
    let (rcv_wnd, window_clamp, rcv_wscale) = init_rwin(cx, &dst, ends, timestamps.is_some(), wscale.is_some());
    let req = Box::new(Request {
        saddr: info.dst,
        daddr: info.src,
        sport: key.tuple.sport,
        dport: key.tuple.dport,
        oif: oif(cx.sk, info),
        rcv_isn: skb.tcp.seq,
        snt_isn: isn,
        mss,
        ts_recent: timestamps.map_or(0, |t| t.0),
        ts_off: if timestamps.is_some() { ts_offset(cx.stack, &key.tuple) } else { 0 },
        txhash: segment::rnd_txhash(cx.stack),
        tstamp_ok: timestamps.is_some(),
        sack_ok: opt.sack_permitted && sysctl.tcp_sack(),
        wscale_ok: wscale.is_some(),
        ecn_ok: ecn::create_request(cx, &skb, &dst, ends),
        acked: false,
        snd_wscale: wscale.map_or(WindowShift::NONE, WindowShift::clamp),
        rcv_wscale,
        rcv_wnd,
        window_clamp,
        tsval: (0, 0),
        snt_synack: None,
        last_oow_ack_ms: 0,
        challenge: ChallengeBudget::NEW,
        num_timeout: 0,
        num_retrans: 0,
        timeout_us,
        syn_tos: skb.tcp.ip_dsfield,
        saved_syn: if cx.tp.save_syn != 0 { Some(saved_syn(&skb, info)) } else { None },
        syn_options: cx.tp.net.sock_ops.any().then(|| rcv::option_bytes(&skb).into()),
        deadline: Default::default(),
        dst,
    });
    let entry = Entry::Request(cx.sock.clone());
    if !cx.tp.net.hashinfo.insert(cx.stack, &key.tuple, entry, |_| false) {
        // A connection with this 4-tuple was made meanwhile: the SYN is an old duplicate.
        return drop_skb(cx, DropReason::TcpInvalidSyn);
    }
    let at = cx.now + listener::req_timeout(cx, timeout_us, 0);
    if let Some(l) = cx.tp.listener.as_mut() {
        l.insert(*key, req, at);
    }
    listener::arm(cx);
    send_synack(cx, key);
}

/// Interface the answers must leave by.
fn oif(sk: &SockCommon, info: &PacketInfo) -> u32 {
    let link_local = matches!(info.src, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80);
    if sk.bound_dev_if == 0 && link_local { info.ifindex } else { sk.bound_dev_if }
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

/// Sends a request's SYN-ACK, the first or again. False: IP did not take it. Linux: tcp_make_synack,
/// tcp_v4_send_synack.
fn send_synack(cx: &mut Cx<'_>, key: &ReqKey) -> bool {
    let now = cx.now;
    let Some(req) = cx.tp.listener.as_mut().and_then(|l| l.get(key)) else { return false };
    let (dst, v6, ecn_ok, ends) = (req.dst.clone(), req.daddr.is_ipv6(), req.ecn_ok, Ends::of(req));
    let stack = cx.stack;
    let mss = mss_for(cx, &dst, v6);
    let mut flags = TcpFlags::SYN | TcpFlags::ACK;
    let codepoint = ecn::make_synack(cx, ecn_ok, ends, &mut flags);
    let tos = if v6 { cx.sk.tclass } else { cx.sk.tos };
    let Some(req) = cx.tp.listener.as_mut().and_then(|l| l.get(key)) else { return false };
    let tos = if stack.sysctl.tcp_reflect_tos() { req.syn_tos } else { tos };
    let tsval = (now.as_millis() as u32).wrapping_add(req.ts_off);
    if req.snt_synack.is_none() {
        req.snt_synack = Some(now);
        req.tsval.0 = tsval;
    }
    req.tsval.1 = tsval;
    let options = Options::Syn(SynOptions {
        mss: Some(mss),
        timestamps: req.tstamp_ok.then_some((tsval, req.ts_recent)),
        sack_permitted: req.sack_ok,
        window_scale: req.wscale_ok.then_some(req.rcv_wscale),
        ..SynOptions::default()
    });
    let repr = TcpRepr {
        src_port: req.sport,
        dst_port: req.dport,
        seq: req.snt_isn,
        ack: req.rcv_isn + 1,
        flags,
        // Never scaled in a SYN-ACK (RFC 7323 §2.2).
        window: RawWindow::from_bytes(req.rcv_wnd, WindowShift::NONE),
        urgent: 0,
        options_len: 0,
    };
    let mut reply = Reply {
        src: req.saddr,
        dst: req.daddr,
        repr,
        options,
        more: &[],
        tos: ecn::with_codepoint(tos, codepoint),
        ttl: if v6 { cx.sk.hops } else { cx.sk.ttl },
        oif: req.oif,
        flow_label: if v6 { flow_label(stack, cx.sk, || req.txhash) } else { 0 },
        txhash: req.txhash,
    };
    let more = if cx.tp.sock_ops_flags & cb::WRITE_HDR_OPT != 0 {
        let syn = req.syn_options.clone().unwrap_or_default();
        let seg = HdrSeg { flags: Some(flags), seq: repr.seq, len: 0, segs: 1, syn: &syn, remaining: MAX_OPTIONS_LEN };
        let mut own = [0; MAX_OPTIONS_LEN];
        options.emit(&mut own);
        sock_ops::write_synack_options(cx, ends, &own[..options.len()], &seg)
    } else {
        None
    };
    reply.more = more.as_ref().map_or(&[][..], |m| m.bytes());
    rcv::send_reply_by(stack, &dst, &reply)
}

/// Sends a SYN-ACK again (tcp_rtx_synack).
fn rtx_synack(cx: &mut Cx<'_>, key: &ReqKey) -> bool {
    if cx.sk.txrehash
        && let Some(req) = cx.tp.listener.as_mut().and_then(|l| l.get(key))
    {
        req.txhash = segment::rnd_txhash(cx.stack);
    }
    if !send_synack(cx, key) {
        return false;
    }
    if let Some(req) = cx.tp.listener.as_mut().and_then(|l| l.get(key)) {
        req.num_retrans = req.num_retrans.saturating_add(1);
        let (local, peer) = (SocketAddr::new(req.saddr, req.sport), SocketAddr::new(req.daddr, req.dport));
        let (state, why) = (State::NewSynRecv as u8, Resend::SynAck);
        cx.stack.mib.trace.point(|| Event::Retransmit { local, peer, state, seq: 0, len: 0, why, err: None });
    }
    cx.stack.mib.inc(Mib::TcpRetransSegs);
    cx.stack.mib.inc(Mib::TcpExtTCPSynRetrans);
    true
}

/// Takes a request out of listener and tables (inet_csk_reqsk_queue_drop).
pub(super) fn unlink(cx: &mut Cx<'_>, key: &ReqKey) -> Option<Box<Request>> {
    let req = cx.tp.listener.as_mut()?.remove(key)?;
    let mine = |e: &Entry| matches!(e, Entry::Request(s) if Arc::ptr_eq(s, cx.sock));
    drop(cx.tp.net.hashinfo.remove(cx.stack, &key.tuple, mine));
    Some(req)
}

/// The SYN-ACK timer: retransmits the SYN-ACKs that are due and drops requests after the last retry. When the queue is
/// more than half full and most requests are old, old requests are dropped sooner. Linux: reqsk_timer_handler.
pub fn synack_timer(cx: &mut Cx<'_>) {
    listener::timer_fired(cx);
    while let Some(key) = cx.tp.listener.as_ref().and_then(|l| l.due(cx.now)) {
        one_timeout(cx, &key);
    }
    listener::arm(cx);
}

fn one_timeout(cx: &mut Cx<'_>, key: &ReqKey) {
    let mut retries = match cx.tp.syn_retries {
        0 => cx.stack.sysctl.tcp_synack_retries(),
        n => i32::from(n),
    };
    let defer = cx.tp.defer_accept;
    let max_backlog = cx.sk.max_ack_backlog as usize;
    let Some(l) = cx.tp.listener.as_mut() else { return };
    let (qlen, mut young) = (l.requests_len(), l.young() << 1);
    if qlen << 1 > max_backlog.max(8) {
        while retries > 2 && qlen >= young {
            retries -= 1;
            young = young.max(1) << 1;
        }
    }
    let Some(req) = l.get(key) else { return };
    let (n, acked) = (i32::from(req.num_timeout), req.acked);
    let (expire, resend) = match defer {
        0 => (n >= retries, true),
        // While TCP_DEFER_ACCEPT waits for data no SYN-ACK is sent; one is sent at the end of that time.
        d => (n >= retries && (!acked || n >= i32::from(d)), !acked || n >= i32::from(d) - 1),
    };
    cx.stack.mib.inc(Mib::TcpExtTCPTimeouts);
    if expire || (resend && !rtx_synack(cx, key) && !acked) {
        unlink(cx, key);
        return;
    }
    let Some(l) = cx.tp.listener.as_mut() else { return };
    let Some(req) = l.get(key) else { return };
    req.num_timeout = req.num_timeout.saturating_add(1);
    let (n, first) = (req.num_timeout, req.timeout_us);
    if n == 1 {
        l.grew_old();
    }
    let at = cx.now + listener::req_timeout(cx, first, n);
    if let Some(l) = cx.tp.listener.as_mut() {
        l.postpone(key, at);
    }
}

/// An ICMP error about a SYN-ACK (tcp_req_err): one that quotes it and reports the peer as unreachable ends the
/// request.
pub fn request_err(g: &mut SockGuard<'_>, tuple: &Tuple, seq: SeqNum, icmp: &IcmpError<'_>) {
    let Some(mut cx) = Cx::new(g) else { return };
    let key = ReqKey { hash: cx.stack.keys.ehash(tuple), tuple: *tuple };
    let Some(isn) = cx.tp.listener.as_mut().and_then(|l| l.get(&key)).map(|r| r.snt_isn) else { return };
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

/// What the timestamp option of a segment says to a request.
struct Stamp {
    /// TSval.
    val: u32,
    /// Older than what the peer has sent (PAWS, RFC 7323 §5.3).
    paws: bool,
    /// The echo of a timestamp that was never sent.
    bad_echo: bool,
}

/// Reads the timestamp option of a segment for `req`; `age`: upper bound on the age of the request's own timestamp,
/// seconds.
fn stamp_of(stack: &Stack, req: &Request, opt: &TcpOptions, age: u32, secs: u32, rst: bool) -> Option<Stamp> {
    let (val, ecr) = opt.timestamps.filter(|_| stack.sysctl.tcp_timestamps() != 0)?;
    let (first, last) = req.tsval;
    let bad_echo = ecr != 0 && req.tstamp_ok && last.wrapping_sub(first) < ecr.wrapping_sub(first);
    let paws = paws_reject(req.ts_recent, secs.saturating_sub(age), val, secs, rst);
    Some(Stamp { val, paws, bad_echo })
}

/// The SYN of a request was retransmitted: our SYN-ACK was lost. It is sent again, and the timer restarts, so that it
/// does not send another one soon.
fn repeated_syn(cx: &mut Cx<'_>, key: &ReqKey, skb: &Skb) {
    let (stack, now) = (cx.stack, cx.now);
    let Some(req) = cx.tp.listener.as_mut().and_then(|l| l.get(key)) else { return };
    let (timeouts, first) = (req.num_timeout, req.timeout_us);
    let mib = Mib::TcpExtTCPACKSkippedSynRecv;
    let (len, syn) = skb.tcp.span();
    if !oow_rate_limited(stack, len, syn, now, &mut req.last_oow_ack_ms, mib) && rtx_synack(cx, key) {
        let at = now + listener::req_timeout(cx, first, timeouts);
        if let Some(l) = cx.tp.listener.as_mut() {
            l.postpone(key, at);
        }
        listener::arm(cx);
    }
}

/// A segment that PAWS or the window refuses is answered with an ACK, which tells the peer our sequence numbers; a
/// reset is only dropped (RFC 9293 §3.10.7.4, first check).
fn unacceptable(stack: &Arc<Stack>, req: &mut Request, skb: &Skb, rst: bool, stamp: Option<&Stamp>, now: Instant) {
    let mib = Mib::TcpExtTCPACKSkippedSynRecv;
    let (len, syn) = skb.tcp.span();
    if !rst && !oow_rate_limited(stack, len, syn, now, &mut req.last_oow_ack_ms, mib) {
        send_ack(stack, req, skb.tcp.ip_dsfield, now);
    }
    stack.mib.drop(match stamp {
        Some(Stamp { paws: true, .. }) => {
            stack.mib.inc(Mib::TcpExtPAWSEstab);
            DropReason::TcpPaws
        }
        Some(Stamp { bad_echo: true, .. }) => {
            stack.mib.inc(Mib::TcpExtTSEcrRejected);
            DropReason::TcpTsecr
        }
        _ => DropReason::TcpOverWindow,
    });
}

/// A segment for a request. None: processed. The segment is returned if the listener has to answer it (an ACK of what
/// was never sent draws a RST). RFC 9293 §3.10.7.4 in SYN-RECEIVED and RFC 5961 §3.2, in Linux's order: tcp_check_req.
/// Nothing that a forger can send without knowing our sequence number ends or changes the request.
fn check_req(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, info: &PacketInfo) -> Option<Skb> {
    let (sport, dport, mut flags) = (key.tuple.dport, key.tuple.sport, skb.tcp.all_flags());
    let opt = TcpOptions::parse(rcv::option_bytes(&skb));
    let raw_window = skb.tcp.window();
    let (seq, end, now) = (skb.tcp.seq, skb.tcp.end_seq, cx.now);
    let (timeouts, first) = cx.tp.listener.as_mut()?.get(key).map(|r| (r.num_timeout, r.timeout_us))?;
    let age = listener::req_timeout(cx, first, timeouts).as_secs() as u32;
    let stack = cx.stack;
    let req = cx.tp.listener.as_mut()?.get(key)?;
    let rst = flags.contains(TcpFlags::RST);
    let stamp = stamp_of(stack, req, &opt, age, now.as_secs() as u32, rst);
    let paws = stamp.as_ref().is_some_and(|s| s.paws);
    let kind = flags.bits() & (TcpFlags::RST | TcpFlags::SYN | TcpFlags::ACK).bits();
    if seq == req.rcv_isn && kind == TcpFlags::SYN.bits() && !paws {
        repeated_syn(cx, key, &skb);
        return None;
    }
    if flags.contains(TcpFlags::ACK) && !rst && skb.tcp.ack_seq != req.snt_isn + 1 {
        return Some(skb);
    }
    let rcv_nxt = req.rcv_isn + 1;
    let bad_stamp = stamp.as_ref().is_some_and(|s| s.paws || s.bad_echo);
    if bad_stamp || !in_window(seq, end, rcv_nxt, rcv_nxt + req.rcv_wnd.min(0xffff)) {
        unacceptable(stack, req, &skb, rst, stamp.as_ref(), now);
        return None;
    }
    if rst && seq != rcv_nxt {
        if may_challenge(stack, now, &mut req.last_oow_ack_ms, &mut req.challenge) {
            send_ack(stack, req, skb.tcp.ip_dsfield, now);
        }
        stack.mib.drop(DropReason::TcpReset);
        return None;
    }
    if seq == req.rcv_isn {
        // The SYN's sequence number lies before the window.
        flags.remove(TcpFlags::SYN);
    }
    if flags.intersects(TcpFlags::RST | TcpFlags::SYN) {
        stack.mib.inc(Mib::TcpAttemptFails);
        embryonic_reset(cx, key, &skb, info, sport, dport, flags);
        return None;
    }
    if !flags.contains(TcpFlags::ACK) {
        stack.mib.drop(DropReason::TcpFlags);
        return None;
    }
    if timeouts < cx.tp.defer_accept && end == rcv_nxt {
        // TCP_DEFER_ACCEPT: a bare ACK does not make a connection, data will.
        req.acked = true;
        stack.mib.inc(Mib::TcpExtTCPDeferAcceptDrop);
        return None;
    }
    if acceptq_is_full(cx.sk.ack_backlog, cx.sk.max_ack_backlog) {
        overflow(cx, key, &skb, info, sport, dport, flags);
        return None;
    }
    // TS.Recent is taken only here, from a peer that has proven to know our sequence number.
    let tsval = stamp.filter(|_| !seq.after(rcv_nxt)).map(|s| s.val);
    establish(cx, key, skb, tsval, raw_window);
    None
}

/// The accept queue is full: the request stays and the peer will retransmit, or the peer is reset where
/// `tcp_abort_on_overflow` is set.
fn overflow(cx: &mut Cx<'_>, key: &ReqKey, skb: &Skb, info: &PacketInfo, sport: u16, dport: u16, flags: TcpFlags) {
    cx.stack.mib.inc(Mib::TcpExtListenOverflows);
    listendrop(cx, DropReason::TcpListenOverflow);
    if cx.stack.sysctl.tcp_abort_on_overflow() {
        embryonic_reset(cx, key, skb, info, sport, dport, flags);
    } else if let Some(req) = cx.tp.listener.as_mut().and_then(|l| l.get(key)) {
        req.acked = true;
    }
}

fn embryonic_reset(
    cx: &mut Cx<'_>,
    key: &ReqKey,
    skb: &Skb,
    info: &PacketInfo,
    sport: u16,
    dport: u16,
    flags: TcpFlags,
) {
    if !flags.contains(TcpFlags::RST) {
        reset(cx, skb, info, sport, dport);
    }
    if unlink(cx, key).is_some() {
        cx.stack.mib.inc(Mib::TcpExtEmbryonicRsts);
    }
    cx.stack.mib.drop(DropReason::TcpReset);
}

/// Acknowledges with a request's numbers (tcp_v4_reqsk_send_ack).
fn send_ack(stack: &Arc<Stack>, req: &Request, dsfield: u8, now: Instant) {
    let ts = req.tstamp_ok.then(|| ((now.as_millis() as u32).wrapping_add(req.ts_off), req.ts_recent));
    let repr = TcpRepr {
        src_port: req.sport,
        dst_port: req.dport,
        seq: req.snt_isn + 1,
        ack: req.rcv_isn + 1,
        flags: TcpFlags::ACK,
        // The window of a SYN-ACK, which no scaling enlarges (tcp_synack_window).
        window: RawWindow::from_bytes(req.rcv_wnd.min(0xffff), req.rcv_wscale),
        urgent: 0,
        options_len: 0,
    };
    let (src, dst, tos) = (req.saddr, req.daddr, ecn::with_codepoint(dsfield, 0));
    let options = rcv::with_timestamps(ts);
    rcv::send_reply(
        stack,
        &Reply { src, dst, repr, options, more: &[], tos, ttl: -1, oif: req.oif, flow_label: 0, txhash: req.txhash },
    );
}

/// The third segment of the handshake: a child sock replaces the request, processes the segment, and joins the accept
/// queue. `tsval`: its timestamp, when it may be noted. Linux: tcp_v4_syn_recv_sock, inet_csk_complete_hashdance,
/// tcp_child_process.
fn establish(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, tsval: Option<u32>, raw_window: RawWindow) {
    let child = cx.sock.new_child(cx.stack);
    ulp::unlayered(&child, cx.tp);
    let Some(mut req) = cx.tp.listener.as_mut().and_then(|l| l.remove(key)) else { return };
    req.ts_recent = tsval.unwrap_or(req.ts_recent);
    let parent: &Cx<'_> = cx;
    let hashed = child.try_own(parent.stack, parent.now, |g| {
        g.private = Box::new(TcpSock::new(&parent.tp.net, parent.stack));
        let Some(mut c) = Cx::new(g) else { return false };
        let c = &mut c;
        inherit(c, parent);
        create_openreq_child(c, parent, &req, skb.len() as u32, raw_window);
        if let Some(info) = &skb.rx {
            // Shown, and without a use: a stream does not send to groups. IP_MULTICAST_IF would show an address.
            c.sk.mc_index = if c.sock.family == AF_INET6 { info.ifindex } else { 0 };
            c.sk.mc_ttl = i16::from(info.ttl);
        }
        let mine = |e: &Entry| matches!(e, Entry::Request(s) if Arc::ptr_eq(s, parent.sock));
        if !c.tp.net.hashinfo.insert(c.stack, &key.tuple, Entry::Sock(c.sock.clone()), mine) {
            return false;
        }
        let bound = c.tp.net.hashinfo.bind_again(child_bound(c.sk));
        connect::hold(c, bound);
        rtt::synack_rtt_meas(c, req.snt_synack.filter(|_| req.num_retrans == 0));
        ulp::clone_to(g, parent.tp);
        let Some(mut c) = Cx::new(g) else { return false };
        first_segment(&mut c, skb);
        true
    });
    if hashed != Some(true) {
        return;
    }
    if let Some(l) = cx.tp.listener.as_mut() {
        l.push_accept(child);
        cx.sk.ack_backlog += 1;
        cx.sock.wait.wake(Events::IN);
    }
}

fn first_segment(c: &mut Cx<'_>, mut skb: Skb) {
    skb.rx = None;
    let cb = skb.tcp;
    super::proto::count_in(c, &skb);
    if let Verdict::Reset(reason) = input::rcv_state_process(c, skb) {
        rcv::reset_from_sock(c, &cb);
        c.stack.mib.drop(reason);
    }
}

/// A child's hold on the listener's port. It has the child's address and is not marked as listening, so that another
/// socket can listen on the port while connections of the last listener live (SO_REUSEADDR).
fn child_bound(sk: &SockCommon) -> Bound {
    Bound { port: sk.sport, holder: Holder::of(sk, false, false) }
}

/// Copies to a child every option that a program can set on its listener (sk_clone_lock).
fn inherit(c: &mut Cx<'_>, p: &Cx<'_>) {
    let child: &Sock = c.sock;
    child.rcvbuf.store(p.sock.rcvbuf.load(Ordering::Relaxed), Ordering::Relaxed);
    child.sndbuf.store(p.sock.sndbuf.load(Ordering::Relaxed), Ordering::Relaxed);
    let (s, l) = (&mut *c.sk, &*p.sk);
    s.flags = l.flags & !(flag::DEAD | flag::DONE | flag::BINDPORT_LOCK);
    (s.tos, s.tclass, s.ttl, s.hops) = (l.tos & !3, l.tclass, l.ttl, l.hops);
    (s.pmtudisc, s.min_ttl, s.priority, s.mark, s.flow_label) =
        (l.pmtudisc, l.min_ttl, l.priority, l.mark, l.flow_label);
    (s.rcvlowat, s.linger, s.rcvtimeo, s.sndtimeo) = (l.rcvlowat, l.linger, l.rcvtimeo, l.sndtimeo);
    s.peek_off = l.peek_off;
    s.filter = l.filter.clone();
    s.max_pacing_rate = l.max_pacing_rate;
    s.txrehash = l.txrehash;
    super::close::copy_options(c.tp, p.tp);
    if !p.tp.ca_setsockopt {
        // The listener's algorithm was the default when the listener was made: the child takes the present default
        // (tcp_ca_openreq_child).
        cong::assign(c);
    }
    sock_ops::inherit(c.tp, p.tp, false);
}

/// The child's numbers, from the request and the segment that completes it. `len` is the segment's with its header.
fn create_openreq_child(c: &mut Cx<'_>, p: &Cx<'_>, req: &Request, len: u32, raw_window: RawWindow) {
    let sk = &mut *c.sk;
    (sk.saddr, sk.rcv_saddr, sk.daddr) = (req.saddr, req.saddr, req.daddr);
    (sk.sport, sk.dport, sk.bound_dev_if) = (req.sport, req.dport, req.oif);
    sk.dst = Some(req.dst.clone());
    if c.stack.sysctl.tcp_reflect_tos() {
        let own = if req.daddr.is_ipv6() { &mut sk.tclass } else { &mut sk.tos };
        *own = ecn::with_codepoint(req.syn_tos, 0);
    }
    cong::dst_init(c);
    let now_ms = c.now.as_millis() as u32;
    let tp = &mut *c.tp;
    let (rcv, snd) = (req.rcv_isn + 1, req.snt_isn + 1);
    (tp.copied_seq, tp.rcv_isn) = (rcv, req.rcv_isn);
    (tp.snd_una, tp.snd_nxt, tp.snd_up, tp.snd_sml) = (snd, snd, snd, snd);
    (tp.write_seq, tp.pushed_seq, tp.snt_isn) = (snd, snd, req.snt_isn);
    tp.snd_wl1 = req.rcv_isn;
    (tp.rcv_tstamp_ms, tp.lsndtime_ms) = (now_ms, now_ms);
    tp.total_retrans = u32::from(req.num_retrans);
    // The SYN.
    tp.segs_in = 1;
    tp.rx_opt.tstamp_ok = req.tstamp_ok;
    tp.rx_opt.sack_ok = req.sack_ok as u8;
    (tp.window_clamp, tp.rcv_ssthresh, tp.rcv_wnd) = (req.window_clamp, req.rcv_wnd, req.rcv_wnd);
    window::begin(tp, rcv);
    tp.rx_opt.wscale_ok = req.wscale_ok;
    if req.wscale_ok {
        (tp.rx_opt.snd_wscale, tp.rx_opt.rcv_wscale) = (req.snd_wscale, req.rcv_wscale);
    } else {
        tp.window_clamp = tp.window_clamp.min(65_535);
    }
    tp.snd_wnd = raw_window.scale(tp.rx_opt.snd_wscale);
    tp.max_window = tp.snd_wnd;
    tp.tsoffset = req.ts_off;
    tp.txhash = req.txhash;
    tp.tcp_header_len = 20;
    if req.tstamp_ok {
        tp.rx_opt.ts_recent = req.ts_recent;
        tp.rx_opt.ts_recent_stamp = (c.now.as_secs() as u32).max(1);
        tp.tcp_header_len += 12;
    }
    if req.num_timeout > 0 {
        // The SYN-ACK was retransmitted: the window reduction is undone if that turns out to be spurious.
        tp.undo_marker = req.snt_isn;
        tp.undo_valid = true;
        tp.retrans_stamp = req.snt_synack.unwrap_or(c.now);
        // The child's RTO statistics begin with the SYN-ACK's (RFC 4898, tcpi_total_rto).
        tp.total_rto = u16::from(req.num_timeout);
        tp.total_rto_recoveries = 1;
        tp.total_rto_time_ms = (c.now - tp.retrans_stamp).as_millis().min(u128::from(u32::MAX)) as u32;
    }
    if len >= u32::from(super::tcb::MSS_DEFAULT) + u32::from(tp.tcp_header_len) {
        tp.ack.last_seg_size = (len - u32::from(tp.tcp_header_len)).min(0xffff) as u16;
    }
    tp.not_accepted = true;
    tp.rx_opt.mss_clamp = req.mss;
    tp.ecn = EcnFlags::new(req.ecn_ok);
    if let Some(syn) = &req.saved_syn {
        tp.cold.get_or_insert_default().saved_syn = Some(syn.clone());
    }
    if let Some(options) = &req.syn_options {
        tp.cold.get_or_insert_default().syn_options = Some(options.clone());
    }
    tp.advmss = mss_for(p, &req.dst, req.daddr.is_ipv6());
    set_state(c, State::SynRecv);
    c.stack.mib.inc(Mib::TcpPassiveOpens);
    mtu::sync_mss(c, req.dst.mtu);
    rcvbuf::initialize_rcv_mss(c);
    if c.sk.flag(flag::KEEPOPEN) {
        let idle = timer::keepalive_time_when(c);
        timer::reset_keepalive_timer(c, idle);
    }
}
