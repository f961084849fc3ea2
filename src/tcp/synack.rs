//! SYN-ACKs of a listener: sent, sent again by its timer, given up. Above: `handshake`, `fastopen`. Below: `rcv`
//! (replies without a sock), `listener`. RFC 9293 §3.10.7.2. Linux: tcp_make_synack, reqsk_timer_handler.

use super::auth::{self, Signer};
use super::ecn;
use super::handshake::{mss_for, unlink, with_request};
use super::listener::{self, ReqKey, Request};
use super::rcv::{self, Reply};
use super::segment::{self, Headers, Options};
use super::sock_ops::{self, Ends, HdrSeg, cb};
use super::syncookies::{self, Remembered};
use super::tcb::Cx;
use crate::base::ways::Way;
use crate::counters::Mib;
use crate::ip::output::default_ttl;
use crate::ip::{flowlabel, pktoptions, socket_headers};
use crate::sock::state::State;
use crate::trace::{Event, Resend};
use crate::wire::seq::{RawWindow, WindowShift};
use crate::wire::tcp::{MAX_OPTIONS_LEN, TcpFlags, TcpRepr};
use crate::wire::tcp_options::{FastOpenCookie, SynOptions};
use std::net::{IpAddr, SocketAddr};

/// A SYN-ACK (enum tcp_synack_type).
#[derive(Debug, Clone, Copy)]
pub(super) enum SynAck {
    /// Of a request that is remembered; the first may have a Fast Open cookie.
    Normal(Option<FastOpenCookie>),
    /// Of the same, sent again.
    Again,
    /// Its sequence number is a cookie, and its timestamp has the options.
    Cookie,
}

/// Sends a request's SYN-ACK, the first or again. `cx`: the listener, or the child of a Fast Open SYN. False: IP did
/// not take it. Linux: tcp_make_synack, tcp_v4_send_synack.
pub(super) fn send_synack(cx: &mut Cx<'_>, req: &mut Request, kind: SynAck) -> bool {
    let (v6, ends) = (req.daddr.is_ipv6(), Ends::of(req));
    let mss = mss_for(cx, &req.dst, v6);
    let mut flags = TcpFlags::SYN | TcpFlags::ACK;
    let again = matches!(kind, SynAck::Again);
    let codepoint = ecn::make_synack(cx, &mut req.ecn, again, req.num_timeout, ends, &mut flags);
    let tos = if v6 { cx.sk.tclass } else { cx.sk.tos };
    let tos = if cx.stack.sysctl.tcp_reflect_tos() { req.syn_tos } else { tos };
    let tsval = timestamp(cx, req, kind);
    let Ok(signer) = auth::synack_key(cx.tp, req) else { return false };
    if signer.is_some() && !matches!(kind, SynAck::Cookie) {
        // A signature and timestamps leave no room for SACK blocks. A cookie needs the timestamp, which has its
        // options. Departure: with TCP-AO Linux leaves it out of a cookie, too, and forgets what it agreed on beside
        // it.
        req.tstamp_ok &= !req.sack_ok;
    }
    let mut options = SynOptions {
        auth: signer.as_ref().map(Signer::option),
        mss: Some(mss),
        timestamps: req.tstamp_ok.then_some((tsval, req.ts_recent)),
        sack_permitted: req.sack_ok,
        window_scale: req.wscale_ok.then_some(req.rcv_wscale),
        ..SynOptions::default()
    };
    if let SynAck::Normal(cookie) = kind {
        options.fastopen = cookie.filter(|cookie| options.len() + cookie.option_len() <= MAX_OPTIONS_LEN);
    }
    ecn::request_option(cx, &req.ecn, again, &mut options);
    let tos = ecn::with_codepoint(tos, codepoint);
    if Way::Syn.is_open()
        && let Some(sent) = send_short(cx, req, flags, tos, &options)
    {
        return sent;
    }
    send_whole(cx, req, flags, tos, options, signer.as_ref())
}

/// The timestamp of a SYN-ACK, which the request remembers; that of a cookie has the options.
fn timestamp(cx: &Cx<'_>, req: &mut Request, kind: SynAck) -> u32 {
    let mut clock = cx.now.as_millis() as u32;
    if matches!(kind, SynAck::Cookie) {
        let wscale = req.wscale_ok.then_some(req.snd_wscale);
        let options = Remembered { wscale, sack_ok: req.sack_ok, ecn_ok: req.ecn.is_ok() };
        clock = syncookies::init_timestamp(clock, options);
    }
    let tsval = clock.wrapping_add(req.ts_off);
    if req.synack_leaves(cx.now) {
        req.tsval.0 = tsval;
    }
    req.tsval.1 = tsval;
    tsval
}

/// The window of a SYN-ACK: never scaled (RFC 7323 §2.2).
fn window(req: &Request) -> RawWindow {
    RawWindow::from_bytes(req.rcv_wnd, WindowShift::NONE)
}

/// Sends a SYN-ACK that has nothing special, over IPv4, with its headers made at once. None: it is not of that kind.
fn send_short(cx: &Cx<'_>, req: &Request, flags: TcpFlags, tos: u8, options: &SynOptions) -> Option<bool> {
    let (IpAddr::V4(src), IpAddr::V4(to)) = (req.saddr, req.daddr) else { return None };
    if cx.tp.sock_ops_flags & cb::WRITE_HDR_OPT != 0 || req.cold.is_some() {
        return None;
    }
    let ttl = if cx.sk.ttl >= 0 { cx.sk.ttl as u8 } else { default_ttl(cx.stack, &req.dst, true) };
    let (ports, flags, window) = ((req.sport, req.dport), flags.bits(), window(req));
    let h = Headers { src, to, ports, seq: req.snt_isn, ack: req.rcv_nxt, flags, window, tos, ttl };
    segment::send_synack(cx.stack, &req.dst, &h, options, req.txhash, cx.now)
}

/// Sends any SYN-ACK: with the hooks' options, IP options, extension headers, a flow label.
fn send_whole(
    cx: &mut Cx<'_>,
    req: &Request,
    flags: TcpFlags,
    tos: u8,
    options: SynOptions,
    signer: Option<&Signer>,
) -> bool {
    let v6 = req.daddr.is_ipv6();
    let options = Options::Syn(options);
    let repr = TcpRepr {
        src_port: req.sport,
        dst_port: req.dport,
        seq: req.snt_isn,
        ack: req.rcv_nxt,
        flags,
        window: window(req),
        urgent: 0,
        options_len: 0,
    };
    let more = if cx.tp.sock_ops_flags & cb::WRITE_HDR_OPT != 0 {
        let syn = req.cold.as_ref().and_then(|c| c.syn_options.clone()).unwrap_or_default();
        let seg = HdrSeg { flags: Some(flags), seq: repr.seq, len: 0, segs: 1, syn: &syn, remaining: MAX_OPTIONS_LEN };
        let mut own = [0; MAX_OPTIONS_LEN];
        options.emit(&mut own);
        sock_ops::write_synack_options(cx, req, &own[..options.len()], &seg)
    } else {
        None
    };
    let chain = socket_headers::of_stream(cx.sk, req.daddr);
    let chain = chain.as_ref().map(|c| (c, socket_headers::way_to(cx.sk, req.daddr)));
    // The SYN's label, where the listener reflects it.
    let label = match req.cold.as_ref().and_then(|c| c.pktopts.as_ref()) {
        Some(p) if flowlabel::is_reflected(cx.sk) => p.rx.flow_label,
        _ => 0,
    };
    let reply = Reply {
        src: req.saddr,
        dst: req.daddr,
        repr,
        options,
        more: more.as_ref().map_or(&[][..], |m| m.bytes()),
        signer,
        tos,
        ttl: if v6 { cx.sk.hops } else { cx.sk.ttl },
        oif: req.oif,
        flow_label: if v6 { flowlabel::make(cx.stack, cx.sk, label, || req.txhash) } else { 0 },
        ip_options: pktoptions::ip_options(req.cold.as_ref().and_then(|c| c.pktopts.as_deref())),
        txhash: req.txhash,
    };
    rcv::send_reply_by(cx.stack, &req.dst, &reply, chain)
}

/// Sends a SYN-ACK again (tcp_rtx_synack).
pub(super) fn rtx_synack(cx: &mut Cx<'_>, req: &mut Request) -> bool {
    if cx.sk.txrehash {
        req.txhash = segment::rnd_txhash(cx.stack);
    }
    if !send_synack(cx, req, SynAck::Again) {
        return false;
    }
    req.num_retrans = req.num_retrans.saturating_add(1);
    req.ecn.sent_again(req.num_retrans);
    let (local, peer) = (SocketAddr::new(req.saddr, req.sport), SocketAddr::new(req.daddr, req.dport));
    let (state, why) = (State::NewSynRecv as u8, Resend::SynAck);
    cx.stack.mib.trace.point(|| Event::Retransmit { local, peer, state, seq: 0, len: 0, why, err: None });
    cx.stack.mib.inc(Mib::TcpRetransSegs);
    cx.stack.mib.inc(Mib::TcpExtTCPSynRetrans);
    true
}

/// The SYN-ACK timer: retransmits the SYN-ACKs that are due and drops requests after the last retry. When the queue is
/// more than half full and most requests are old, old requests are dropped sooner. Linux: reqsk_timer_handler.
pub(super) fn synack_timer(cx: &mut Cx<'_>) {
    listener::timer_fired(cx);
    while let Some(key) = cx.tp.listener_mut().and_then(|l| l.due(cx.now)) {
        one_timeout(cx, &key);
    }
    listener::arm(cx);
}

fn one_timeout(cx: &mut Cx<'_>, key: &ReqKey) {
    let mut retries = match cx.tp.options().syn_retries {
        0 => cx.stack.sysctl.tcp_synack_retries(),
        n => i32::from(n),
    };
    let defer = cx.tp.options().defer_accept;
    let max_backlog = cx.sk.max_ack_backlog as usize;
    let Some(l) = cx.tp.listener_mut() else { return };
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
    let rtx = |cx: &mut Cx<'_>| with_request(cx, key, rtx_synack).unwrap_or(false);
    if expire || (resend && !rtx(cx) && !acked) {
        unlink(cx, key);
        return;
    }
    let Some(l) = cx.tp.listener_mut() else { return };
    let Some(req) = l.get(key) else { return };
    req.num_timeout = req.num_timeout.saturating_add(1);
    let (n, first) = (req.num_timeout, req.timeout_us);
    if n == 1 {
        l.grew_old();
    }
    let at = cx.now + listener::req_timeout(cx, first, n);
    if let Some(l) = cx.tp.listener_mut() {
        l.postpone(key, at);
    }
}
