//! Segments that carry no data of the program: the SYN that opens, the FIN that closes, resets and acknowledgements.
//! Above: `connect`, `synsent`, `close`, `delack`, `reassembly`, `challenge`, `timer`. Below: `xmit`, `segment`. Linux:
//! tcp_connect, tcp_connect_init, tcp_send_fin, tcp_send_active_reset, tcp_send_ack, tcp_send_synack. RFC 9293 §3.5,
//! §3.6. Not here: when an acknowledgement leaves (`delack`).

use super::mtu::{current_mss, default_advmss, sync_mss};
use super::output::{
    ACK, FIN, RST, SYN, add_write_queue_tail, charge_wmem, push_pending_frames, wnd_end, write_queue_purge,
};
use super::segment::{nondata_skb, route, transmit_ack, transmit_bare, transmit_skb, transmit_syn};
use super::tcb::{Cx, XmitTimer, nagle};
use super::timer::{micros, reset_xmit_timer};
use super::xmit::xmit_alone;
use super::{auth, cong, ecn, fastopen, input, mtu_probe, rcvbuf, sock_ops, window};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::msg::SendMsg;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::{flag, mem};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{HEADER_LEN, TcpFlags};
use crate::wire::tcp_options::TIMESTAMP_ALIGNED_LEN;
use std::sync::atomic::Ordering;

/// The sequence number of a segment without data: `snd_nxt`, unless the peer shrank its window below that; then the end
/// of the window, because the peer drops what lies beyond (RFC 9293 §3.10.7.4). A difference of less than one scale
/// unit is rounding and no shrinking. Linux: tcp_acceptable_seq.
pub fn acceptable_seq(cx: &Cx<'_>) -> SeqNum {
    let tp = &*cx.tp;
    let end = wnd_end(tp);
    if !end.before(tp.snd_nxt) || (tp.rx_opt.wscale_ok && tp.snd_nxt.since(end) < tp.rx_opt.rcv_wscale.unit()) {
        tp.snd_nxt
    } else {
        end
    }
}

/// The variables of a connection about to send its SYN (tcp_connect_init). The route is in `sk.dst`.
pub fn connect_init(cx: &mut Cx<'_>) {
    let sysctl = &cx.stack.sysctl;
    let (ts, scaling) = (sysctl.tcp_timestamps() != 0, sysctl.tcp_window_scaling());
    let auth = auth::room(cx).map_or(0, |o| o.option_len());
    cx.tp.tcp_header_len = (HEADER_LEN + auth + if ts { TIMESTAMP_ALIGNED_LEN } else { 0 }) as u16;
    if cx.tp.rx_opt.user_mss != 0 {
        cx.tp.rx_opt.mss_clamp = cx.tp.rx_opt.user_mss;
    }
    cx.tp.max_window = 0;
    let (mtu, advmss, clamp, initrwnd) = match &cx.sk.dst {
        Some(d) => (d.mtu, default_advmss(cx.stack, d, cx.sk.daddr.is_ipv6()), d.metrics.window, d.metrics.initrwnd),
        None => (576, super::tcb::MSS_DEFAULT, 0, 0),
    };
    mtu_probe::init(cx);
    sync_mss(cx, mtu);
    cong::dst_init(cx);
    if cx.tp.window_clamp == 0 {
        cx.tp.window_clamp = clamp;
    }
    cx.tp.advmss = match cx.tp.rx_opt.user_mss {
        0 => advmss,
        user => advmss.min(user),
    };
    rcvbuf::initialize_rcv_mss(cx);
    let full = window::full_space(cx);
    if cx.sk.flag(flag::RCVBUF_LOCK) && (cx.tp.window_clamp > full.max(0) as u32 || cx.tp.window_clamp == 0) {
        // The program fixed the buffer size: the window does not exceed it.
        cx.tp.window_clamp = full.max(0) as u32;
    }
    let mut mss = u32::from(cx.tp.advmss);
    if cx.tp.rx_opt.ts_recent_stamp != 0 {
        mss = mss.saturating_sub(u32::from(cx.tp.tcp_header_len) - HEADER_LEN as u32);
    }
    let initrwnd = match sock_ops::rwnd_init(cx, None) {
        0 => initrwnd,
        n => n,
    };
    let (wnd, clamp, wscale) =
        window::select_initial_window(cx.stack, full, mss, cx.tp.window_clamp, scaling, initrwnd);
    cx.tp.rcv_wnd = wnd;
    cx.tp.window_clamp = clamp;
    cx.tp.rx_opt.rcv_wscale = wscale;
    cx.tp.rcv_ssthresh = wnd;

    let rto = sock_ops::timeout_init(cx, None);
    cx.sock.err.store(0, Ordering::Relaxed);
    cx.sk.set_flag(flag::DONE, false);
    cx.tp.snd_wnd = 0;
    cx.tp.snd_wl1 = SeqNum(0);
    write_queue_purge(cx);
    let tp = &mut *cx.tp;
    tp.snt_isn = tp.write_seq;
    tp.snd_una = tp.write_seq;
    tp.snd_sml = tp.write_seq;
    tp.urg_mode = false;
    tp.snd_nxt = tp.write_seq;
    if tp.repair {
        tp.rcv_tstamp_ms = cx.now.as_millis() as u32;
    }
    let rcv_nxt = if tp.repair { tp.rcv_nxt } else { SeqNum(0) };
    window::begin(tp, rcv_nxt);
    tp.copied_seq = tp.rcv_nxt;
    tp.rto_us = rto;
    tp.retransmits = 0;
    tp.retrans_out = 0;
    tp.lost_out = 0;
    tp.sacked_out = 0;
    tp.undo_valid = false;
    if let Some(cold) = &mut tp.cold {
        cold.undo_retrans = -1;
    }
}

/// A segment of the handshake joins the queue of those in flight: charged, and counted (tcp_connect_queue_skb).
pub(super) fn connect_queue_skb(cx: &mut Cx<'_>, skb: &Skb) {
    charge_wmem(cx, skb.truesize as i32);
    cx.tp.write_seq = skb.tcp.end_seq;
    cx.tp.packets_out += u32::from(skb.tcp.gso_segs.max(1));
}

/// Sends the SYN of an active open; the route is in `sk.dst`, the tuple is chosen, the state is SYN_SENT. `data`: of a
/// Fast Open, as much as may leave with the SYN. Errors: EHOSTUNREACH without a route, EKEYREJECTED, ECONNREFUSED. A
/// SYN that IP could not send is sent again by the timer. In repair mode no SYN leaves, and the connection is
/// established (tcp_connect).
pub fn connect(cx: &mut Cx<'_>, data: Option<&mut SendMsg<'_>>) -> Result<()> {
    sock_ops::tcp_connect(cx);
    auth::connect(cx)?;
    route(cx).map_err(|_| Error::HostUnreach)?;
    connect_init(cx);
    if cx.tp.repair {
        auth::finish_connect(cx, SeqNum(0));
        input::finish_connect(cx, &[]);
        return Ok(());
    }
    let mut skb = nondata_skb(cx.tp.write_seq, SYN);
    ecn::send_syn(cx, &mut skb);
    mem::force(cx.sock, cx.sk, skb.truesize as i32);
    connect_queue_skb(cx, &skb);
    cx.refresh_clock();
    cx.tp.retrans_stamp = cx.now.max(Instant::from_nanos(1));
    let sent = if cx.tp.has_fastopen_request() {
        fastopen::client::send_syn_data(cx, skb, data)
    } else {
        let sent = transmit_syn(cx, &mut skb);
        // The handshake is not counted as busy time: no chrono starts.
        cx.tp.rtx_queue.push_back(skb);
        sent
    };
    if sent == Err(Error::ConnRefused) {
        return sent;
    }
    // Data that could not leave with the SYN waits.
    cx.tp.snd_nxt = cx.tp.write_queue.front().map_or(cx.tp.write_seq, |s| s.tcp.seq);
    cx.tp.pushed_seq = cx.tp.snd_nxt;
    cx.stack.mib.inc(Mib::TcpActiveOpens);
    let rto = micros(cx.tp.rto_us);
    reset_xmit_timer(cx, XmitTimer::Retrans, rto, false);
    Ok(())
}

/// A SYN crossed ours: answers with a SYN-ACK that is our SYN with an ACK (simultaneous open, RFC 9293 §3.5, Figure 7).
/// EFAULT when the head of the retransmit queue is no SYN. Linux: tcp_send_synack.
pub fn send_synack(cx: &mut Cx<'_>) -> Result<()> {
    let Some(slot) = cx.tp.rtx_queue.front_mut() else { return Err(Error::Fault) };
    if slot.tcp.flags & SYN == 0 {
        return Err(Error::Fault);
    }
    let mut skb = std::mem::take(slot);
    if skb.tcp.flags & ACK == 0 {
        skb.tcp.flags |= ACK;
        ecn::send_synack(cx.tp, &mut skb);
    }
    let sent = transmit_skb(cx, &mut skb);
    if let Some(slot) = cx.tp.rtx_queue.front_mut() {
        *slot = skb;
    }
    sent
}

/// Queues our FIN, on the last unsent segment if there is one, and pushes everything out (tcp_send_fin). Never fails:
/// its memory is charged beyond the limits, because a FIN is what lets the sock's memory be freed.
pub fn send_fin(cx: &mut Cx<'_>) {
    if let Some(last) = cx.tp.write_queue.back_mut() {
        last.tcp.flags |= FIN;
        last.tcp.end_seq += 1;
        cx.tp.write_seq += 1;
    } else if rcvbuf::under_memory_pressure(cx)
        && let Some(last) = cx.tp.rtx_queue.back_mut()
    {
        // There is no memory for a segment of its own: the FIN leaves with the next retransmission of the last segment.
        last.tcp.flags |= FIN;
        last.tcp.end_seq += 1;
        cx.tp.write_seq += 1;
        cx.tp.snd_nxt += 1;
        return;
    } else {
        let skb = nondata_skb(cx.tp.write_seq, ACK | FIN);
        mem::force(cx.sock, cx.sk, skb.truesize as i32);
        let mss = current_mss(cx);
        return xmit_fin(cx, skb, mss);
    }
    let mss = current_mss(cx);
    push_pending_frames(cx, mss, nagle::OFF);
}

/// Sends a FIN before which nothing waits; it is queued only if something holds it back (tcp_queue_skb).
fn xmit_fin(cx: &mut Cx<'_>, skb: Skb, mss: u32) {
    cx.tp.write_seq = skb.tcp.end_seq;
    charge_wmem(cx, skb.truesize as i32);
    if let Err(skb) = xmit_alone(cx, skb, mss, nagle::OFF) {
        add_write_queue_tail(cx, skb);
        push_pending_frames(cx, mss, nagle::OFF);
    }
}

/// Aborts: tells the peer by a RST that carries an acceptable sequence number (tcp_send_active_reset).
pub fn send_active_reset(cx: &mut Cx<'_>) {
    cx.stack.mib.inc(Mib::TcpOutRsts);
    cx.refresh_clock();
    let seq = acceptable_seq(cx);
    if transmit_bare(cx, seq, ACK | RST).is_err() {
        cx.stack.mib.inc(Mib::TcpExtTCPAbortFailed);
    }
}

/// Sends an acknowledgement of `rcv_nxt` whose sequence number is `seq`. Nothing in CLOSED.
pub(super) fn send_ack_at(cx: &mut Cx<'_>, seq: SeqNum) {
    ack_at(cx, seq, TcpFlags::NONE);
}

fn ack_at(cx: &mut Cx<'_>, seq: SeqNum, field: TcpFlags) {
    if cx.state() == State::Close {
        return;
    }
    // An acknowledgement that a full device drops is replaced by the next one, as one lost on the wire.
    let _ = transmit_bare(cx, seq, ACK | field.bits());
}

/// Acknowledges what was received up to `rcv_nxt`, which may be less than all: what is due for the rest stays due
/// (__tcp_send_ack).
pub(super) fn send_ack_of(cx: &mut Cx<'_>, rcv_nxt: SeqNum) {
    let seq = acceptable_seq(cx);
    // As in `send_ack_at`: the next acknowledgement replaces one that is dropped.
    let _ = transmit_ack(cx, seq, ACK, rcv_nxt);
}

/// Acknowledges with an ACE field of its own, where that is not NONE: that tells the codepoint of a SYN or SYN-ACK
/// (tcp_send_ack_reflect_ect).
pub(super) fn send_ack_reflect_ect(cx: &mut Cx<'_>, field: TcpFlags) {
    let seq = acceptable_seq(cx);
    ack_at(cx, seq, field);
}

/// Acknowledges what was received (tcp_send_ack).
#[inline]
pub fn send_ack(cx: &mut Cx<'_>) {
    let seq = acceptable_seq(cx);
    send_ack_at(cx, seq);
}
