//! Answers to segments that are not acceptable, and their limits: duplicate acknowledgements, challenge acknowledgements
//! (RFC 5961 §7), resets that end us. Above: `input`, `ack`. Linux: tcp_send_challenge_ack, tcp_oow_rate_limited, tcp_reset.
//!
//! Departure: Linux counts challenge ACKs for the whole host when `tcp_challenge_ack_limit` is set. A count that connections
//! share tells one connection of another (CVE-2016-5696), so here each has its own, with a randomised size.

use super::input::{Seg, enter_quickack_mode};
use super::reassembly::MAX_QUICKACKS;
use super::state::State;
use super::tcb::Cx;
use super::{close, output, sack};
use crate::counters::Mib;
use crate::error::Error;
use crate::wire::tcp::TcpFlags;

/// Whether the last such answer was sent less than `tcp_invalid_ratelimit` ago; if not, now counts as its time
/// (__tcp_oow_rate_limited).
fn rate_limited(cx: &mut Cx<'_>, mib: Mib) -> bool {
    let now = cx.now.as_millis() as u32;
    if cx.tp.last_oow_ack_ms != 0 {
        let elapsed = now.wrapping_sub(cx.tp.last_oow_ack_ms) as i32;
        let limit = cx.stack.sysctl.tcp_invalid_ratelimit().as_millis() as i64;
        if elapsed >= 0 && (elapsed as i64) < limit {
            cx.stack.mib.inc(mib);
            return true;
        }
    }
    // 0 says "never", so time 0 is noted as 1.
    cx.tp.last_oow_ack_ms = now.max(1);
    false
}

/// As Linux's tcp_oow_rate_limited: segments with data are never part of a loop of acknowledgements, so their answer is not
/// limited.
pub fn oow_rate_limited(cx: &mut Cx<'_>, seg: &Seg, mib: Mib) -> bool {
    if seg.seq != seg.end_seq && !seg.flags.contains(TcpFlags::SYN) {
        return false;
    }
    rate_limited(cx, mib)
}

/// Sends a challenge ACK unless the limits forbid (RFC 5961 §7; tcp_send_challenge_ack).
pub fn send_challenge_ack(cx: &mut Cx<'_>) {
    if rate_limited(cx, Mib::TcpExtTCPACKSkippedChallenge) {
        return;
    }
    let limit = cx.stack.sysctl.tcp_challenge_ack_limit();
    if limit != i32::MAX {
        let second = cx.now.as_secs() as u32;
        // Second 0 needs no case of its own: the stored one starts beyond any.
        if cx.tp.challenge.1 != second {
            let limit = limit.max(0) as u32;
            let half = limit.div_ceil(2);
            let random = cx.stack.entropy.below(limit.max(1));
            cx.tp.challenge = ((half.saturating_add(random)).min(u16::MAX as u32) as u16, second);
        }
        if cx.tp.challenge.0 == 0 {
            return;
        }
        cx.tp.challenge.0 -= 1;
    }
    cx.stack.mib.inc(Mib::TcpExtTCPChallengeACK);
    output::send_ack(cx);
}

/// Acknowledges a segment that is not acceptable; of data received before it also reports the duplicate (tcp_send_dupack).
pub fn send_dupack(cx: &mut Cx<'_>, seg: &Seg) {
    if seg.end_seq != seg.seq && seg.seq.before(cx.tp.rcv_nxt) {
        cx.stack.mib.inc(Mib::TcpExtDelayedACKLost);
        enter_quickack_mode(cx, MAX_QUICKACKS);
        if sack::is_sack(cx.tp) {
            let end = seg.end_seq.earlier(cx.tp.rcv_nxt);
            sack::dsack_set(cx, seg.seq, end);
        }
    }
    output::send_ack(cx);
}

/// A valid reset arrived: the connection ends with the error BSD gives in this state (RFC 9293 §3.10.7; tcp_reset).
pub fn reset(cx: &mut Cx<'_>) {
    let err = match cx.state() {
        State::SynSent => Error::ConnRefused,
        State::CloseWait => Error::Pipe,
        State::Close => return,
        _ => Error::ConnReset,
    };
    close::done_with_error(cx, err);
}
