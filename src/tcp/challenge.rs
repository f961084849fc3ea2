//! Answers to segments that are not acceptable, and their limits: duplicate acknowledgements, challenge
//! acknowledgements (RFC 5961 §7), resets that end us. Above: `input`, `ack`, `check_req`. Linux:
//! tcp_send_challenge_ack, tcp_oow_rate_limited, tcp_reset.
//!
//! Departure: Linux counts challenge ACKs for the whole host when `tcp_challenge_ack_limit` is set. A counter that
//! connections share leaks information from one to another (CVE-2016-5696), so here each connection has its own, with a
//! randomised limit.

use super::control::send_ack_at;
use super::delack::{MAX_QUICKACKS, enter_quickack_mode};
use super::input::Seg;
use super::tcb::Cx;
use super::{close, control, reassembly, sack};
use crate::base::env::Instant;
use crate::base::error::Error;
use crate::counters::Mib;
use crate::sock::state::State;
use crate::stack::Stack;
use crate::wire::tcp::TcpFlags;

/// Whether the answer to a segment that is not acceptable is suppressed, because the last such answer was sent at
/// `last` (ms, 0 for never), less than `tcp_invalid_ratelimit` ago. If not, `last` becomes now. Linux:
/// `__tcp_oow_rate_limited`.
pub(super) fn rate_limited(stack: &Stack, now: Instant, last: &mut u32, mib: Mib) -> bool {
    // 0 says "never", so time 0 is noted as 1.
    let now = (now.as_millis() as u32).max(1);
    if *last != 0 {
        let elapsed = now.wrapping_sub(*last) as i32;
        let limit = stack.sysctl.tcp_invalid_ratelimit().as_millis() as i64;
        if elapsed >= 0 && i64::from(elapsed) < limit {
            stack.mib.inc(mib);
            return true;
        }
    }
    *last = now;
    false
}

/// Challenge ACKs that one connection may still send in this second, where `tcp_challenge_ack_limit` is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChallengeBudget {
    left: u16,
    second: u32,
}

impl Default for ChallengeBudget {
    fn default() -> Self {
        ChallengeBudget::NEW
    }
}

impl ChallengeBudget {
    /// Of a connection that has sent none. No clock reaches the stored second, so the first call fills the budget.
    pub(crate) const NEW: ChallengeBudget = ChallengeBudget { left: 0, second: u32::MAX };

    /// Takes one challenge ACK from the budget; false: none is left in this second.
    fn take(&mut self, stack: &Stack, now: Instant) -> bool {
        let limit = stack.sysctl.tcp_challenge_ack_limit();
        if limit == i32::MAX {
            return true;
        }
        let second = now.as_secs() as u32;
        if self.second != second {
            let limit = limit.max(0) as u32;
            let half = limit.div_ceil(2);
            let random = if limit == 0 { 0 } else { stack.entropy.below(limit) };
            *self = ChallengeBudget { left: (half.saturating_add(random)).min(u32::from(u16::MAX)) as u16, second };
        }
        let some = self.left != 0;
        self.left -= u16::from(some);
        some
    }
}

/// Whether a challenge ACK may leave now (RFC 5961 §7): both limits, and the counter of those that leave.
pub(super) fn may_challenge(stack: &Stack, now: Instant, last: &mut u32, budget: &mut ChallengeBudget) -> bool {
    if rate_limited(stack, now, last, Mib::TcpExtTCPACKSkippedChallenge) || !budget.take(stack, now) {
        return false;
    }
    stack.mib.inc(Mib::TcpExtTCPChallengeACK);
    true
}

/// The same for a segment that is out of the window and takes `len` sequence numbers: one with data is never part of a
/// loop of acknowledgements, so its answer is not limited (tcp_oow_rate_limited).
pub(super) fn oow_rate_limited(stack: &Stack, len: u32, syn: bool, now: Instant, last: &mut u32, mib: Mib) -> bool {
    (len == 0 || syn) && rate_limited(stack, now, last, mib)
}

/// Sends a challenge ACK unless the limits forbid (RFC 5961 §7; tcp_send_challenge_ack).
pub(crate) fn send_challenge_ack(cx: &mut Cx<'_>) {
    challenge_with(cx, TcpFlags::NONE);
}

/// The same with an ACE field, where that is not NONE, of its own.
pub(super) fn challenge_with(cx: &mut Cx<'_>, field: TcpFlags) {
    let tp = &mut *cx.tp;
    let rare = tp.rare_mut();
    if may_challenge(cx.stack, cx.now, &mut rare.last_oow_ack_ms, &mut rare.challenge) {
        control::send_ack_reflect_ect(cx, field);
    }
}

/// Acknowledges a segment that is not acceptable; of data received before it also reports the duplicate
/// (tcp_send_dupack).
///
/// Departure: where the peer's window shrank below what was sent, `acceptable_seq` returns the end of that window, as
/// in Linux. A peer that has opened its window again and received what was in flight considers that sequence number too
/// old. If we consider the peer's segments too old as well, neither side accepts an acknowledgement any more. So every
/// second answer to an old segment has `snd_nxt`, which such a peer accepts.
pub(crate) fn send_dupack(cx: &mut Cx<'_>, seg: &Seg) {
    if seg.end_seq != seg.seq && seg.seq.before(cx.tp.rcv_nxt) {
        cx.stack.mib.inc(Mib::TcpExtDelayedACKLost);
        enter_quickack_mode(cx, MAX_QUICKACKS);
        if sack::is_sack(cx.tp) && cx.stack.sysctl.tcp_dsack() {
            reassembly::rcv_spurious_retrans(cx, seg);
            let end = seg.end_seq.earlier(cx.tp.rcv_nxt);
            sack::dsack_set(cx, seg.seq, end);
        }
    }
    let mut seq = control::acceptable_seq(cx);
    if seg.end_seq.before(cx.tp.rcv_wup) {
        cx.tp.dupack_at_nxt = !cx.tp.dupack_at_nxt;
        if !cx.tp.dupack_at_nxt {
            seq = cx.tp.snd_nxt;
        }
    }
    send_ack_at(cx, seq);
}

/// A valid reset arrived: the connection ends with the error BSD gives in this state (RFC 9293 §3.10.7; tcp_reset).
pub(crate) fn reset(cx: &mut Cx<'_>) {
    let err = match cx.state() {
        State::SynSent => Error::ConnRefused,
        State::CloseWait => Error::Pipe,
        State::Close => return,
        _ => Error::ConnReset,
    };
    close::done_with_error(cx, err);
}
