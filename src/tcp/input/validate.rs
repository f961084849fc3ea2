//! The checks before a segment changes anything: PAWS, sequence, RST, SYN. Above: `input`; PAWS also for `synsent` and
//! `timewait`. Below: `challenge`, which answers what is refused. RFC 9293 §3.10.7.4, RFC 7323 §5, RFC 5961. Linux:
//! tcp_validate_incoming.

use super::{Seg, parse_estab_options};
use crate::counters::{DropReason, Mib};
use crate::sock::flag as sflag;
use crate::sock::state::State;
use crate::tcp::ack::{flag, may_update_window};
use crate::tcp::challenge::{challenge_with, oow_rate_limited, reset, send_challenge_ack, send_dupack};
use crate::tcp::tcb::Cx;
use crate::tcp::{ecn, sack, window};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::TcpOptions;

/// Age from which on TS.Recent is invalid, seconds (RFC 7323 §5.5): a clock of microseconds goes half way round in it
/// (TCP_PAWS_WRAP).
const PAWS_WRAP: i32 = i32::MAX / 1_000_000;

fn now_secs(cx: &Cx<'_>) -> u32 {
    // 0 means "never": the first second counts as 1.
    (cx.now.as_secs() as u32).max(1)
}

/// Takes TS.Recent from the segment in hand. Returns a flag that says whether it has moved on (tcp_store_ts_recent).
pub fn store_ts_recent(cx: &mut Cx<'_>) -> u32 {
    let later = cx.tp.rx_opt.rcv_tsval.wrapping_sub(cx.tp.rx_opt.ts_recent) as i32 > 0;
    cx.tp.rx_opt.ts_recent = cx.tp.rx_opt.rcv_tsval;
    cx.tp.rx_opt.ts_recent_stamp = now_secs(cx);
    if later { flag::TS_PROGRESS } else { 0 }
}

/// Whether PAWS accepts a segment with `tsval`, with `window` ticks of leniency (RFC 7323 §5.3). `recent`, TS.Recent,
/// was taken at `stamp`. Linux: tcp_paws_check.
pub(in crate::tcp) fn paws_accepts(recent: u32, stamp: u32, tsval: u32, now_secs: u32, window: i32) -> bool {
    if recent.wrapping_sub(tsval) as i32 <= window {
        return true;
    }
    // The connection was idle for so long that the peer's clock may have wrapped; or the peer sent 0 in its SYN, as
    // some do.
    now_secs.wrapping_sub(stamp) as i32 >= PAWS_WRAP || recent == 0
}

/// The same for the segment in hand.
pub fn paws_check(cx: &Cx<'_>, window: i32) -> bool {
    let r = &cx.tp.rx_opt;
    paws_accepts(r.ts_recent, r.ts_recent_stamp, r.rcv_tsval, now_secs(cx), window)
}

/// Updates TS.Recent from a segment at the left edge of what was last acknowledged (RFC 7323 §4.3;
/// tcp_replace_ts_recent).
#[inline]
pub fn replace_ts_recent(cx: &mut Cx<'_>, seq: SeqNum) -> u32 {
    let take = cx.tp.rx_opt.saw_tstamp && !seq.after(cx.tp.rcv_wup) && paws_check(cx, 0);
    if take { store_ts_recent(cx) } else { 0 }
}

/// Why a segment that PAWS rejects is dropped; None: it is an acknowledgement out of order, and accepted
/// (tcp_disordered_ack_check).
fn disordered_ack(cx: &Cx<'_>, seg: &Seg) -> Option<DropReason> {
    let tp = &*cx.tp;
    let paws = Some(DropReason::TcpPaws);
    if !seg.flags.contains(TcpFlags::ACK) || seg.seq != seg.end_seq {
        return paws;
    }
    if seg.seq != tp.rcv_nxt {
        return if seg.seq.before(tp.rcv_nxt) { Some(DropReason::TcpPawsAck) } else { paws };
    }
    if seg.ack_seq != tp.snd_una {
        return paws;
    }
    if may_update_window(cx, seg.ack_seq, seg.seq, seg.scaled_window(tp)) {
        return paws;
    }
    // It may be late by one RTO and a fifth, in ticks of milliseconds.
    let late = tp.rx_opt.ts_recent.wrapping_sub(tp.rx_opt.rcv_tsval) as i32 as i64;
    if late > tp.rto_us as i64 / 1000 * 6 / 5 { paws } else { None }
}

/// Why a segment does not lie in the window (RFC 9293 §3.10.7.4, first; tcp_sequence). The widest window that was ever
/// offered counts, because the peer may not have seen it shrink (RFC 7323 §2.4). Otherwise two ends that shrank their
/// windows at the same time would refuse each other's acknowledgements for ever. Departure: Linux 6.18 looks at the
/// window offered last, 7.1 at the widest. A FIN alone may lie beyond the window, because some peers do not count it.
/// A segment that ends beyond the window is taken when the receive queue is empty.
fn sequence(cx: &Cx<'_>, seg: &Seg) -> Option<DropReason> {
    if seg.end_seq.before(cx.tp.rcv_wup) {
        return Some(DropReason::TcpOldSequence);
    }
    let right = cx.tp.rcv_nxt + window::max_receive_window(cx.tp);
    if (seg.end_seq - seg.fin()).after(right) {
        if seg.seq.after(right) {
            return Some(DropReason::TcpInvalidSequence);
        }
        if !cx.sk.receive_queue.is_empty() {
            return Some(DropReason::TcpInvalidEndSequence);
        }
    }
    None
}

/// A reset one before what is expected is valid after the peer's FIN, which some stacks leave out of its sequence
/// number (tcp_reset_check).
fn reset_check(cx: &Cx<'_>, seg: &Seg) -> bool {
    seg.seq == cx.tp.rcv_nxt - 1 && cx.state().is_one_of(&[State::CloseWait, State::LastAck, State::Closing])
}

/// Whether a reset has exactly the sequence number that the peer expects next (RFC 5961 §3.2), SACK blocks included.
fn reset_is_exact(cx: &Cx<'_>, seg: &Seg) -> bool {
    if seg.seq == cx.tp.rcv_nxt || reset_check(cx, seg) {
        return true;
    }
    let n = (cx.tp.num_sacks as usize).min(4);
    match &cx.tp.sack {
        Some(s) if n > 0 && sack::is_sack(cx.tp) => {
            let right = s.selective_acks[..n].iter().fold(s.selective_acks[0].end, |m, b| m.later(b.end));
            seg.seq == right
        }
        _ => false,
    }
}

/// Whether the answer to this segment is suppressed by the rate limit.
fn out_of_window_limited(cx: &mut Cx<'_>, seg: &Seg, mib: Mib) -> bool {
    let (len, syn) = (seg.end_seq.since(seg.seq), seg.flags.contains(TcpFlags::SYN));
    oow_rate_limited(cx.stack, len, syn, cx.now, &mut cx.tp.rare_mut().last_oow_ack_ms, mib)
}

fn syn_challenge(cx: &mut Cx<'_>, syn_inerr: bool, field: TcpFlags) -> DropReason {
    if syn_inerr {
        cx.stack.mib.inc(Mib::TcpInErrs);
    }
    cx.stack.mib.inc(Mib::TcpExtTCPSYNChallenge);
    challenge_with(cx, field);
    DropReason::TcpInvalidSyn
}

/// PAWS, sequence, RST, SYN: the checks before a segment changes anything. Err: it has been answered and is to be
/// dropped for this reason (tcp_validate_incoming).
pub(super) fn validate_incoming(cx: &mut Cx<'_>, seg: &Seg, o: &TcpOptions, syn_inerr: bool) -> Result<(), DropReason> {
    let (rst, syn) = (seg.flags.contains(TcpFlags::RST), seg.flags.contains(TcpFlags::SYN));
    parse_estab_options(cx.tp, o);
    // A reset is not subject to PAWS: it may carry no valid timestamp (RFC 7323 §5.2).
    if cx.tp.rx_opt.saw_tstamp
        && !paws_check(cx, 1)
        && let Some(reason) = disordered_ack(cx, seg)
        && !rst
    {
        if syn {
            return Err(syn_challenge(cx, syn_inerr, TcpFlags::NONE));
        }
        if reason == DropReason::TcpPawsAck {
            cx.stack.mib.inc(Mib::TcpExtPAWSOldAck);
            return Err(reason);
        }
        cx.stack.mib.inc(Mib::TcpExtPAWSEstab);
        if !out_of_window_limited(cx, seg, Mib::TcpExtTCPACKSkippedPAWS) {
            send_dupack(cx, seg);
        }
        return Err(reason);
    }
    if let Some(reason) = sequence(cx, seg) {
        if !rst {
            if syn {
                return Err(syn_challenge(cx, syn_inerr, TcpFlags::NONE));
            }
            if reason != DropReason::TcpOldSequence {
                cx.stack.mib.inc(Mib::TcpExtBeyondWindow);
            }
            if !out_of_window_limited(cx, seg, Mib::TcpExtTCPACKSkippedSeq) {
                send_dupack(cx, seg);
            }
        } else if reset_check(cx, seg) {
            reset(cx);
            return Err(DropReason::TcpReset);
        }
        return Err(reason);
    }
    if rst {
        if reset_is_exact(cx, seg) {
            reset(cx);
        } else {
            send_challenge_ack(cx);
        }
        return Err(DropReason::TcpReset);
    }
    if syn {
        let field = ecn::syn_in_connection(cx, seg);
        // The only valid SYN here is the SYN-ACK of a simultaneous open.
        let crossed = cx.state() == State::SynRecv
            && !cx.sk.flag(sflag::DEAD)
            && !cx.tp.not_accepted
            && seg.flags.contains(TcpFlags::ACK)
            && seg.seq + 1 == seg.end_seq
            && seg.seq + 1 == cx.tp.rcv_nxt
            && seg.ack_seq == cx.tp.snd_nxt;
        if !crossed {
            return Err(syn_challenge(cx, syn_inerr, field));
        }
    }
    Ok(())
}
