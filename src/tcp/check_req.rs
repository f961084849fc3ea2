//! A segment for a request: the SYN again, the third segment of the handshake, or what is answered or dropped. Above:
//! `handshake`; `fastopen::server` for a child that is also a request. Below: `synack`, `child`. The listener is owned.
//! RFC 9293 §3.10.7.4 in SYN-RECEIVED, RFC 5961 §3.2, RFC 7323 §5. Linux: net/ipv4/tcp_minisocks.c (tcp_check_req).

use super::auth::{self, NoKey, Signer};
use super::challenge::{may_challenge, oow_rate_limited};
use super::child::{OpenedBy, first_segment, syn_recv_sock};
use super::ecn;
use super::handshake::{listendrop, queue_add, reset, unlink, with_request};
use super::listener::{self, ReqKey, Request};
use super::lookup::Entry;
use super::rcv::{self, Reply};
use super::rtt;
use super::synack::rtx_synack;
use super::tcb::Cx;
use super::timewait::{in_window, paws_reject};
use crate::base::env::Instant;
use crate::counters::{DropReason, Mib};
use crate::ip;
use crate::sock::accept::acceptq_is_full;
use crate::sock::packet::PacketInfo;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::wire::seq::RawWindow;
use crate::wire::tcp::{TcpFlags, TcpRepr};
use crate::wire::tcp_options::TcpOptions;
use std::sync::Arc;

/// A request's key, borrowed.
pub(super) fn as_key(key: &Result<Option<Signer>, NoKey>) -> Result<Option<&Signer>, NoKey> {
    match key {
        Ok(signer) => Ok(signer.as_ref()),
        Err(e) => Err(*e),
    }
}

/// What the timestamp option of a segment says to a request.
pub(super) struct Stamp {
    /// TSval.
    pub val: u32,
    /// Older than what the peer has sent (PAWS, RFC 7323 §5.3).
    pub paws: bool,
    /// The echo of a timestamp that was never sent.
    pub bad_echo: bool,
}

/// Reads the timestamp option of a segment for `req`; `age`: upper bound on the age of the request's own timestamp,
/// seconds.
pub(super) fn stamp_of(
    stack: &Stack,
    req: &Request,
    opt: &TcpOptions,
    age: u32,
    secs: u32,
    rst: bool,
) -> Option<Stamp> {
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
    let Some(req) = cx.tp.listener_mut().and_then(|l| l.get(key)) else { return };
    let (timeouts, first) = (req.num_timeout, req.timeout_us);
    let mib = Mib::TcpExtTCPACKSkippedSynRecv;
    let (len, syn) = skb.tcp.span();
    let limited = oow_rate_limited(stack, len, syn, now, &mut req.last_oow_ack_ms, mib);
    if !limited {
        ecn::repeated_syn(&mut req.ecn, skb);
    }
    if !limited && with_request(cx, key, rtx_synack).unwrap_or(false) {
        let at = now + listener::req_timeout(cx, first, timeouts);
        if let Some(l) = cx.tp.listener_mut() {
            l.postpone(key, at);
        }
        listener::arm(cx);
    }
}

/// A segment that PAWS or the window refuses is answered with an ACK, which tells the peer our sequence numbers; a
/// reset is only dropped (RFC 9293 §3.10.7.4, first check).
pub(super) fn unacceptable(
    stack: &Arc<Stack>,
    req: &mut Request,
    skb: &Skb,
    rst: bool,
    stamp: Option<&Stamp>,
    now: Instant,
    signer: Result<Option<&Signer>, NoKey>,
) {
    let mib = Mib::TcpExtTCPACKSkippedSynRecv;
    let (len, syn) = skb.tcp.span();
    if !rst && !oow_rate_limited(stack, len, syn, now, &mut req.last_oow_ack_ms, mib) {
        send_ack(stack, req, skb, now, signer);
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
pub(super) fn check_req(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, info: &PacketInfo) -> Option<Skb> {
    let mut flags = skb.tcp.all_flags();
    let opt = TcpOptions::parse(rcv::option_bytes(&skb));
    let (seq, end, now) = (skb.tcp.seq, skb.tcp.end_seq, cx.now);
    let req = cx.tp.listener_mut()?.get(key)?;
    let (timeouts, first, ao) = (req.num_timeout, req.timeout_us, req.ao.is_some());
    let age = listener::req_timeout(cx, first, timeouts).as_secs() as u32;
    let stack = cx.stack;
    let signer = match ao || cx.tp.auth.is_some() {
        true => with_request(cx, key, |cx, req| auth::request_key(cx.tp, req, &skb))?,
        false => Ok(None),
    };
    let defer_accept = cx.tp.options().defer_accept;
    let req = cx.tp.listener_mut()?.get(key)?;
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
        unacceptable(stack, req, &skb, rst, stamp.as_ref(), now, as_key(&signer));
        return None;
    }
    if rst && seq != rcv_nxt {
        let (last, budget) = req.limits();
        if may_challenge(stack, now, last, budget) {
            send_ack(stack, req, &skb, now, as_key(&signer));
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
        embryonic_reset(cx, key, &skb, info, flags);
        return None;
    }
    if !flags.contains(TcpFlags::ACK) {
        stack.mib.drop(DropReason::TcpFlags);
        return None;
    }
    req.ecn.see_option(opt.accecn(rcv::option_bytes(&skb)));
    if timeouts < defer_accept && end == rcv_nxt {
        // TCP_DEFER_ACCEPT: a bare ACK does not make a connection, data will.
        req.acked = true;
        stack.mib.inc(Mib::TcpExtTCPDeferAcceptDrop);
        return None;
    }
    if acceptq_is_full(cx.sk.ack_backlog, cx.sk.max_ack_backlog) {
        overflow(cx, key, &skb, info, flags);
        return None;
    }
    // TS.Recent is taken only here, from a peer that has proven to know our sequence number.
    let tsval = stamp.filter(|_| !seq.after(rcv_nxt)).map(|s| s.val);
    establish(cx, key, skb, &opt, tsval);
    None
}

/// The accept queue is full: the request stays and the peer will retransmit, or the peer is reset where
/// `tcp_abort_on_overflow` is set.
fn overflow(cx: &mut Cx<'_>, key: &ReqKey, skb: &Skb, info: &PacketInfo, flags: TcpFlags) {
    cx.stack.mib.inc(Mib::TcpExtListenOverflows);
    listendrop(cx, DropReason::TcpListenOverflow);
    if cx.stack.sysctl.tcp_abort_on_overflow() {
        embryonic_reset(cx, key, skb, info, flags);
    } else if let Some(req) = cx.tp.listener_mut().and_then(|l| l.get(key)) {
        req.acked = true;
    }
}

fn embryonic_reset(cx: &mut Cx<'_>, key: &ReqKey, skb: &Skb, info: &PacketInfo, flags: TcpFlags) {
    if !flags.contains(TcpFlags::RST) {
        reset(cx, key, skb, info);
    }
    if unlink(cx, key).is_some() {
        cx.stack.mib.inc(Mib::TcpExtEmbryonicRsts);
    }
    cx.stack.mib.drop(DropReason::TcpReset);
}

/// Acknowledges with a request's numbers (tcp_v4_reqsk_send_ack).
pub(super) fn send_ack(
    stack: &Arc<Stack>,
    req: &Request,
    skb: &Skb,
    now: Instant,
    signer: Result<Option<&Signer>, NoKey>,
) {
    let Ok(signer) = signer else { return };
    let ts = req.tstamp_ok.then(|| ((now.as_millis() as u32).wrapping_add(req.ts_off), req.ts_recent));
    let repr = TcpRepr {
        src_port: req.sport,
        dst_port: req.dport,
        seq: req.snt_isn + 1,
        ack: req.rcv_nxt,
        flags: TcpFlags::ACK,
        // The window of a SYN-ACK, which no scaling enlarges (tcp_synack_window).
        window: RawWindow::from_bytes(req.rcv_wnd.min(0xffff), req.rcv_wscale),
        urgent: 0,
        options_len: 0,
    };
    let (src, dst, tos) = (req.saddr, req.daddr, ecn::with_codepoint(skb.tcp.ip_dsfield, 0));
    let options = rcv::reply_options(signer, ts);
    let ip_options = &ip::options::of_segment(skb.saved_header.as_deref());
    let (oif, txhash) = (req.oif, req.txhash);
    rcv::send_reply(
        stack,
        &Reply { src, dst, repr, options, more: &[], signer, tos, ttl: -1, oif, flow_label: 0, ip_options, txhash },
    );
}

/// The third segment of the handshake: a child sock replaces the request, processes the segment, and joins the accept
/// queue. `tsval`: its timestamp, when it may be noted. Linux: inet_csk_complete_hashdance, tcp_child_process.
fn establish(cx: &mut Cx<'_>, key: &ReqKey, skb: Skb, opt: &TcpOptions, tsval: Option<u32>) {
    let Some(mut req) = cx.tp.listener_mut().and_then(|l| l.remove(key)) else { return };
    req.ts_recent = tsval.unwrap_or(req.ts_recent);
    let listener = cx.sock;
    let mine = |e: &Entry| matches!(e, Entry::Request(s, _) if Arc::ptr_eq(s, listener));
    let by = OpenedBy::of(&skb, opt);
    let mut over = None;
    let child = syn_recv_sock(cx, key, &mut Some(req), &by, mine, |c, req| {
        // A batch of packets has one time; this one may answer what went out since it began. What follows in the batch
        // must not come before it.
        let batch = c.now;
        c.refresh_clock();
        rtt::synack_rtt_meas(c, req.snt_synack().filter(|_| req.num_retrans == 0));
        c.now = batch;
        over = Some(req);
        first_segment(c, skb);
    });
    if let (Some(l), Some(req)) = (cx.tp.listener_mut(), over) {
        l.keep(req);
    }
    match child {
        Some(child) => queue_add(cx, child),
        None => drop(cx.tp.net.hashinfo.remove(key.hash, mine)),
    }
}
