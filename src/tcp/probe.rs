//! Probes: of a closed window (RFC 9293 §3.8.6.1), of a silent peer (keepalive), and of a lost tail (TLP, RFC 8985 §7).
//! Above: `timer`, `xmit`. Below: `xmit`, `segment`. Linux: tcp_write_wakeup, tcp_send_probe0, tcp_xmit_probe_skb,
//! tcp_schedule_loss_probe, tcp_send_loss_probe.

use super::mtu::current_mss;
use super::output::{ACK, PSH, wnd_end};
use super::queue::Pos;
use super::retransmit::{retransmit_skb_quiet, still_in_host_queue};
use super::sack::is_sack;
use super::segment::{transmit_bare, transmit_skb, urg_mode};
use super::tcb::{CaState, Cx, TIMEOUT_INIT_US, TcpSock, XmitTimer, nagle};
use super::timer::{
    RESOURCE_PROBE_INTERVAL, TIMEOUT_MIN, clamp_probe0_to_user_timeout, probe0_when, rearm_rto, reset_xmit_timer,
    rto_delta_nanos, set_xmit_timer,
};
use super::xmit::{Push, event_new_data_sent, fragment, set_tso_segs, snd_wnd_test, write_xmit};
use super::{rtt, tfb};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::state::State;
use crate::trace::Resend;

/// A segment without data and with an old sequence number, which the peer must answer with an acknowledgement;
/// `urgent`: with a current one, so that the urgent pointer counts (tcp_xmit_probe_skb).
fn xmit_probe_skb(cx: &mut Cx<'_>, urgent: bool, mib: Mib) -> Result<()> {
    let seq = if urgent { cx.tp.snd_una } else { cx.tp.snd_una - 1 };
    cx.stack.mib.inc(mib);
    transmit_bare(cx, seq, ACK)
}

/// Asks the peer for its window, which we do not know since the connection was put together (tcp_send_window_probe).
pub(super) fn send_window_probe(cx: &mut Cx<'_>) {
    if cx.state() != State::Established {
        return;
    }
    cx.tp.snd_wl1 = cx.tp.rcv_nxt - 1;
    cx.refresh_clock();
    // One that does not leave is as good as one that the network loses.
    let _ = xmit_probe_skb(cx, false, Mib::TcpExtTCPWinProbe);
}

/// Sends a segment that the peer must answer: data where its window has room, else an empty segment with an old
/// sequence number; counted as `mib`. Errors: ENOBUFS local congestion, and what IP says; in CLOSED ENOTCONN
/// (tcp_write_wakeup).
pub(crate) fn write_wakeup(cx: &mut Cx<'_>, mib: Mib) -> Result<()> {
    if cx.state() == State::Close {
        return Err(Error::NotConn);
    }
    let end = wnd_end(cx.tp);
    if cx.tp.write_queue.front().is_some_and(|s| s.tcp.seq.before(end)) {
        let mss = current_mss(cx);
        let Some(skb) = cx.tp.write_queue.front_mut() else { return Ok(()) };
        let room = end.since(skb.tcp.seq);
        if cx.tp.pushed_seq.before(skb.tcp.end_seq) {
            cx.tp.pushed_seq = skb.tcp.end_seq;
        }
        let (len, span) = (skb.len() as u32, skb.tcp.end_seq.since(skb.tcp.seq));
        if room < span || len > mss {
            skb.tcp.flags |= PSH;
            let cut = room.min(mss);
            if cut < len || (cut == len && cut < span) {
                fragment(cx, false, Pos::FRONT, cut, mss)?;
            }
        } else if skb.tcp.gso_segs == 0 {
            set_tso_segs(skb, mss);
        }
        let Some(mut skb) = cx.tp.write_queue.pop_front() else { return Ok(()) };
        skb.tcp.flags |= PSH;
        return match transmit_skb(cx, &mut skb) {
            Ok(()) => {
                event_new_data_sent(cx, skb);
                Ok(())
            }
            Err(e) => {
                cx.tp.write_queue.push_front(skb);
                Err(e)
            }
        };
    }
    if urg_mode(cx) && cx.tp.snd_up.between(cx.tp.snd_una + 1, cx.tp.snd_una + 0xffff) {
        // The result of the second counts; it is enough if one of the two leaves.
        let _ = xmit_probe_skb(cx, true, mib);
    }
    xmit_probe_skb(cx, false, mib)
}

/// The window is closed and data waits: sends a probe and arms the timer for the next, with backoff
/// (tcp_send_probe0).
pub(crate) fn send_probe0(cx: &mut Cx<'_>) {
    let sent = write_wakeup(cx, Mib::TcpExtTCPWinProbe);
    if cx.tp.packets_out != 0 || cx.tp.write_queue.is_empty() {
        // The window has opened.
        cx.tp.probes_out = 0;
        cx.tp.backoff = 0;
        forget_start(cx.tp);
        return;
    }
    cx.tp.probes_out = cx.tp.probes_out.saturating_add(1);
    let when = if sent == Err(Error::NoBufs) {
        // The probe did not leave this machine, which says nothing about the peer: no backoff.
        RESOURCE_PROBE_INTERVAL
    } else {
        if i32::from(cx.tp.backoff) < cx.stack.sysctl.tcp_retries2() {
            cx.tp.backoff += 1;
        }
        probe0_when(cx)
    };
    let when = clamp_probe0_to_user_timeout(cx, when);
    reset_xmit_timer(cx, XmitTimer::Probe0, when, true);
}

/// Arms the loss-probe timer in place of the retransmission timer where a probe may help: SACK, and no loss known.
/// `advancing_rto`: the RTO has just been restarted. False: not applicable. Linux: tcp_schedule_loss_probe.
pub(crate) fn schedule_loss_probe(cx: &mut Cx<'_>, advancing_rto: bool) -> bool {
    let tp = &*cx.tp;
    if tp.has_fastopen_rsk() {
        // The timer is the SYN-ACK's until the handshake is over.
        return false;
    }
    let enabled = matches!(cx.stack.sysctl.tcp_early_retrans(), 3 | 4);
    let open = matches!(tp.ca_state, CaState::Open | CaState::Cwr);
    if !enabled || tp.packets_out == 0 || !is_sack(tp) || !open || tfb::has(tp, tfb::slot::ACK) {
        return false;
    }
    let mut timeout = if tp.srtt_us != 0 {
        // Two RTTs; a lone segment may meet a delayed acknowledgement (RFC 8985 §7.2).
        let two_rtts = u64::from(tp.srtt_us >> 2);
        two_rtts + if tp.packets_out == 1 { u64::from(rtt::rto_min_us(cx)) } else { TIMEOUT_MIN.as_micros() as u64 }
    } else {
        u64::from(TIMEOUT_INIT_US)
    } * 1000;
    let rto = if advancing_rto { Some(u64::from(tp.rto_us) * 1000) } else { rto_delta_nanos(cx) };
    if let Some(rto) = rto {
        timeout = timeout.min(rto);
    }
    set_xmit_timer(cx, XmitTimer::LossProbe, timeout, true);
    true
}

/// Sends a loss probe: new data where there is some, else the last segment again, so that its acknowledgement shows
/// what is missing (tcp_send_loss_probe).
pub(crate) fn send_loss_probe(cx: &mut Cx<'_>) {
    if try_loss_probe(cx) {
        cx.tp.cold_mut().tlp_high_seq = cx.tp.snd_nxt;
        cx.tp.tlp_active = true;
        cx.stack.mib.inc(Mib::TcpExtTCPLossProbes);
        // So that the RTO is counted from now and not from the send time of the head.
        cx.tp.pending = XmitTimer::None;
    }
    rearm_rto(cx);
}

fn try_loss_probe(cx: &mut Cx<'_>) -> bool {
    // One at a time.
    if cx.tp.tlp_active {
        return false;
    }
    cx.tp.tlp_retrans = false;
    let mss = current_mss(cx);
    if cx.tp.write_queue.front().is_some_and(|skb| snd_wnd_test(cx.tp, skb, mss)) {
        let before = cx.tp.packets_out;
        write_xmit(cx, mss, nagle::OFF, Push::LossProbe);
        return cx.tp.packets_out > before;
    }
    let Some(mut last) = cx.tp.rtx_queue.last() else { return false };
    if still_in_host_queue(cx, last) {
        return false;
    }
    let Some(skb) = cx.tp.rtx_queue.get(last) else { return false };
    let segs = u32::from(skb.tcp.gso_segs);
    let all_but_one = segs.saturating_sub(1) * mss;
    if segs > 1 && skb.len() as u32 > all_but_one {
        let Ok(first) = fragment(cx, true, last, all_but_one, mss) else { return false };
        last = cx.tp.rtx_queue.next(first);
    }
    if retransmit_skb_quiet(cx, &mut last, 1, Resend::Tlp).is_err() {
        return false;
    }
    cx.tp.tlp_retrans = true;
    true
}

/// The episode of probes is over.
pub(crate) fn forget_start(tp: &mut TcpSock) {
    if let Some(rare) = tp.rare_if_any() {
        rare.probes_tstamp = Instant::ZERO;
    }
}
