//! SYN-SENT: the answer to our SYN, or somebody else's SYN crossing it. Above: `input`. RFC 9293 §3.10.7.3,
//! RFC 3168 §6.1.1. Linux: tcp_rcv_synsent_state_process.

use super::ack::{self, flag};
use super::challenge::reset;
use super::input::{self, Seg, Verdict};
use super::rack::TIMEOUT_MIN_US;
use super::tcb::{Cx, XmitTimer};
use super::urgent::urg;
use super::{auth, control, delack, ecn, fastopen, rcv, rcvbuf, timer, undo, window};
use crate::base::env::{Duration, Instant};
use crate::counters::{DropReason, Mib};
use crate::sock::flag as sflag;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::wire::seq::{SeqNum, WindowShift};
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::TcpOptions;

/// Discards the options of a segment that was not accepted.
fn undo_options(cx: &mut Cx<'_>, saved_clamp: u16) {
    let r = &mut cx.tp.rx_opt;
    r.tstamp_ok = false;
    r.sack_ok = 0;
    r.wscale_ok = false;
    r.snd_wscale = WindowShift::NONE;
    r.mss_clamp = saved_clamp;
}

#[track_caller]
fn discard(cx: &mut Cx<'_>, skb: Skb, reason: DropReason) {
    cx.stack.mib.drop(reason);
    drop(skb);
}

/// Whether the echoed timestamp lies between our first SYN and now.
fn echo_is_ours(cx: &Cx<'_>) -> bool {
    let r = &cx.tp.rx_opt;
    if !r.saw_tstamp || r.rcv_tsecr == 0 {
        return true;
    }
    // Without a retransmission the time of the first SYN is not known: any time since the stack began is accepted.
    let first = if cx.tp.retrans_stamp == Instant::ZERO { Instant::ZERO } else { cx.tp.retrans_stamp };
    SeqNum(r.rcv_tsecr).between(SeqNum(first.as_millis() as u32), SeqNum(cx.now.as_millis() as u32))
}

/// A segment in SYN-SENT.
pub(crate) fn rcv_synsent(cx: &mut Cx<'_>, seg: Seg, o: &TcpOptions, skb: Skb) -> Verdict {
    let saved_clamp = cx.tp.rx_opt.mss_clamp;
    let syn = seg.flags.contains(TcpFlags::SYN);
    let rst = seg.flags.contains(TcpFlags::RST);
    input::parse_syn_options(cx, syn, o);
    let (reason, answer) = if seg.flags.contains(TcpFlags::ACK) {
        if !seg.ack_seq.after(cx.tp.snd_una) || seg.ack_seq.after(cx.tp.snd_nxt) {
            // The peer answers for an old connection: our SYN is retransmitted soon after the reset.
            if cx.tp.retransmits == 0 {
                let soon = Duration::from_micros(TIMEOUT_MIN_US);
                timer::reset_xmit_timer(cx, XmitTimer::Retrans, soon, false);
            }
            (DropReason::TcpInvalidAck, true)
        } else if !echo_is_ours(cx) {
            cx.stack.mib.inc(Mib::TcpExtPAWSActive);
            (DropReason::TcpPaws, true)
        } else if rst {
            reset(cx);
            discard(cx, skb, DropReason::TcpReset);
            return Verdict::Ok;
        } else if !syn {
            (DropReason::TcpFlags, false)
        } else {
            return syn_ack(cx, seg, o, skb);
        }
    } else if rst {
        (DropReason::TcpReset, false)
    } else if cx.tp.rx_opt.ts_recent_stamp != 0 && cx.tp.rx_opt.saw_tstamp && !input::paws_check(cx, 0) {
        (DropReason::TcpPaws, false)
    } else if syn {
        crossed_syn(cx, seg);
        drop(skb);
        return Verdict::Ok;
    } else {
        (DropReason::TcpFlags, false)
    };
    undo_options(cx, saved_clamp);
    discard(cx, skb, reason);
    // A reset is never answered (RFC 9293 §3.10.7.3).
    if answer && !rst { Verdict::Reset(reason) } else { Verdict::Ok }
}

/// The SYN-ACK: established.
fn syn_ack(cx: &mut Cx<'_>, seg: Seg, o: &TcpOptions, skb: Skb) -> Verdict {
    ecn::rcv_synack(cx, &seg);
    cx.tp.snd_wl1 = seg.seq;
    undo::try_undo_spurious_syn(cx);
    // The acknowledgement frees our SYN.
    ack::ack(cx, &seg, flag::SLOWPATH);
    auth::finish_connect(cx, seg.seq);
    let tp = &mut *cx.tp;
    window::begin(tp, seg.seq + 1);
    tp.snd_wnd = seg.window.scale(WindowShift::NONE);
    tp.max_window = tp.max_window.max(tp.snd_wnd);
    if !tp.rx_opt.wscale_ok {
        tp.rx_opt.snd_wscale = WindowShift::NONE;
        tp.rx_opt.rcv_wscale = WindowShift::NONE;
        tp.window_clamp = tp.window_clamp.min(65_535);
    }
    if tp.rx_opt.saw_tstamp {
        tp.rx_opt.tstamp_ok = true;
        input::take_ts_from_advmss(cx);
        input::store_ts_recent(cx);
    }
    input::set_header_len(cx);
    input::sync_mss(cx);
    rcvbuf::initialize_rcv_mss(cx);
    // poll(2) reads the state without the lock, so what it reads afterwards must be set before.
    cx.tp.copied_seq = cx.tp.rcv_nxt;
    input::finish_connect(cx, rcv::option_bytes(&skb));
    let sent_again = fastopen::client::rcv_synack(cx, &skb, rcv::option_bytes(&skb), o);
    if !cx.sk.flag(sflag::DEAD) {
        cx.sock.wait.wake(Events::OUT | Events::IN);
    }
    if sent_again {
        // The SYN's data, which has left again, acknowledges the SYN-ACK.
        urg(cx, &seg, &skb);
        input::data_snd_check(cx);
        return Verdict::Ok;
    }
    // A sender that waits, or the program's reply, can carry the handshake's last acknowledgement.
    if cx.tp.write_pending != 0 || cx.tp.options().defer_accept != 0 || delack::in_pingpong_mode(cx) {
        delack::delay_handshake_ack(cx);
        drop(skb);
        return Verdict::Ok;
    }
    let field = ecn::reflector_flags(cx.tp);
    control::send_ack_reflect_ect(cx, field);
    urg(cx, &seg, &skb);
    drop(skb);
    input::data_snd_check(cx);
    Verdict::Ok
}

/// A SYN that crosses ours: simultaneous open, or a connection to oneself (RFC 9293 §3.5 Figure 7).
fn crossed_syn(cx: &mut Cx<'_>, seg: Seg) {
    super::set_state(cx, State::SynRecv);
    if cx.tp.rx_opt.saw_tstamp {
        cx.tp.rx_opt.tstamp_ok = true;
        input::store_ts_recent(cx);
    }
    input::set_header_len(cx);
    auth::finish_connect(cx, seg.seq);
    let tp = &mut *cx.tp;
    window::begin(tp, seg.seq + 1);
    tp.copied_seq = tp.rcv_nxt;
    tp.snd_wnd = seg.window.scale(WindowShift::NONE);
    tp.snd_wl1 = seg.seq;
    tp.max_window = tp.snd_wnd;
    ecn::rcv_syn(cx, &seg);
    input::sync_mss(cx);
    rcvbuf::initialize_rcv_mss(cx);
    // If it is lost, the retransmission timer sends it again.
    let _ = control::send_synack(cx);
}
