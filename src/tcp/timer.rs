//! Timers of a connection: retransmission, zero-window probe, loss probe and reordering share one slot; delayed
//! acknowledgement and keepalive (with FIN_WAIT2) have their own. Timers fire as bits of `release_cb`, so that a
//! handler always owns the sock. Above: `proto` (release_cb). Below: `retransmit`, `probe`, `recovery`. Linux:
//! tcp_timer.c, inet_connection_sock.c. RFC 6298 (RTO), RFC 1122 §4.2.3.5 (R1, R2), §4.2.3.6 (keepalive), RFC 6069
//! (ICMP and backoff).

use super::output;
use super::queue::Pos;
use super::retransmit::retransmit_skb;
use super::sack::is_sack;
use super::tcb::{CaState, Cx, TIMEOUT_INIT_US, TcpSock, XmitTimer};
use super::timewait::TIMEWAIT_LEN;
use super::{
    close, control, deferred, delack, fastopen, mtu_probe, probe, rack, recovery, rtt, segment, sock_ops, tfb,
    timewait, xmit,
};
use crate::base::env::{Duration, Instant, nanos};
use crate::base::error::Error;
use crate::counters::Mib;
use crate::sock::flag;
use crate::sock::state::State;
use crate::stack::{Stack, TimerSlot};
use crate::trace::Resend;
use std::sync::atomic::Ordering;

/// Time after which a send that failed for lack of local resources is tried again (TCP_RESOURCE_PROBE_INTERVAL).
pub(crate) const RESOURCE_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Least timeout worth arming (TCP_TIMEOUT_MIN).
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(2);

/// Base of the model of exponential backoff (TCP_RTO_MIN).
const RTO_MIN: Duration = Duration::from_millis(200);
/// Retries that a thin stream makes without backing off (TCP_THIN_LINEAR_RETRIES).
const THIN_LINEAR_RETRIES: u8 = 6;

/// A count of microseconds as a duration.
#[inline]
pub(crate) fn micros(us: u32) -> Duration {
    Duration::from_micros(u64::from(us))
}

/// Greatest RTO of this connection.
#[inline]
pub(crate) fn rto_max(cx: &Cx<'_>) -> Duration {
    match cx.tp.options().rto_max_ms {
        0 => cx.stack.sysctl.tcp_rto_max_ms(),
        ms => Duration::from_millis(u64::from(ms)),
    }
}

/// Arms the shared slot as `what`, `when` from now, at most the greatest RTO. `pace_delay`: counted from the moment
/// pacing lets the next packet go. Linux: tcp_reset_xmit_timer.
pub(crate) fn reset_xmit_timer(cx: &mut Cx<'_>, what: XmitTimer, when: Duration, pace_delay: bool) {
    set_xmit_timer(cx, what, nanos(when), pace_delay);
}

/// The same in nanoseconds, for what each segment does.
pub(super) fn set_xmit_timer(cx: &mut Cx<'_>, what: XmitTimer, mut when: u64, pace_delay: bool) {
    if pace_delay && segment::paces(cx) {
        when = when.saturating_add(nanos(cx.tp.wstamp - cx.now));
    }
    let most_ms = match cx.tp.options().rto_max_ms {
        0 => cx.stack.sysctl.raw().tcp_rto_max_ms(),
        ms => ms,
    };
    let at = cx.now.after_nanos(when.min(u64::from(most_ms) * 1_000_000));
    cx.tp.pending = what;
    cx.stack.arm_sock_lazily(&mut cx.tp.retransmit_timer, cx.sock, deferred::WRITE_TIMER, at, cx.now);
}

/// Nothing is pending in the shared slot. The timer itself may run on, and then does nothing
/// (inet_csk_clear_xmit_timer).
#[inline]
pub(crate) fn clear_xmit_timer(cx: &mut Cx<'_>) {
    cx.tp.pending = XmitTimer::None;
    if cx.tp.seldom {
        cancel_of_seldom(cx.stack, &mut cx.tp.retransmit_timer);
    }
}

/// Nothing waits for this timer of a connection that is seldom used.
#[inline(never)]
pub(super) fn cancel_of_seldom(stack: &Stack, timer: &mut TimerSlot) {
    stack.timers.cancel(timer);
}

/// A timer of the connection fired for nothing, because what it was for ended since. Where a connection is used again
/// before that, one such timer serves many uses. This one was not: among many connections its sock is not in the cache,
/// and fetching it for this takes longer than to cancel the timer when it is not needed any more. So it does that from
/// now on.
pub(super) fn fired_for_nothing(tp: &mut TcpSock) {
    tp.seldom = true;
}

/// The connection is used again after `ms`: by a flight, or by data that comes when nothing waits to be acknowledged.
/// If that is so soon that a timer of the last use would still run, timers are left to themselves again.
#[inline]
pub(super) fn used_after(tp: &mut TcpSock, ms: u32) {
    if tp.seldom && Duration::from_millis(ms.into()) < RTO_MIN {
        tp.seldom = false;
    }
}

/// Stops every timer of the connection for good, so that none keeps the sock alive (inet_csk_clear_xmit_timers).
pub(crate) fn clear_xmit_timers(cx: &mut Cx<'_>) {
    cx.tp.pending = XmitTimer::None;
    delack::cancel(cx);
    cx.stack.timers.cancel(&mut cx.tp.retransmit_timer);
    if let Some(cold) = &mut cx.tp.cold {
        cx.stack.timers.cancel(&mut cold.pacing_timer);
        tfb::cancel_timers(cx);
    }
    delete_keepalive_timer(cx);
}

/// Time until the RTO of the first unacknowledged segment, counted from when it was sent; None when that is over
/// (tcp_rto_delta_us).
pub(crate) fn rto_delta(cx: &Cx<'_>) -> Option<Duration> {
    rto_delta_nanos(cx).map(Duration::from_nanos)
}

/// The same in nanoseconds.
#[inline(always)]
pub(super) fn rto_delta_nanos(cx: &Cx<'_>) -> Option<u64> {
    let rto = u64::from(cx.tp.rto_us) * 1000;
    let Some(head) = cx.tp.rtx_queue.front() else { return Some(rto) };
    let left = head.tcp.mstamp.after_nanos(rto).as_nanos().saturating_sub(cx.now.as_nanos());
    (left > 0).then_some(left)
}

/// Restarts the retransmission timer, or stops it when all is acknowledged (RFC 6298 §5.2, §5.3). After a loss probe or
/// a reordering timeout it counts from when the first segment was sent. Linux: tcp_rearm_rto.
pub(crate) fn rearm_rto(cx: &mut Cx<'_>) {
    if cx.tp.has_fastopen_rsk() {
        // The timer is the SYN-ACK's.
        return;
    }
    if cx.tp.packets_out == 0 {
        return clear_xmit_timer(cx);
    }
    let rto = if matches!(cx.tp.pending, XmitTimer::ReoTimeout | XmitTimer::LossProbe) {
        rto_delta(cx).unwrap_or(Duration::from_micros(1))
    } else {
        micros(cx.tp.rto_us)
    };
    reset_xmit_timer(cx, XmitTimer::Retrans, rto, true);
}

/// First interval of zero-window probes (tcp_probe0_base).
fn probe0_base(tp: &TcpSock) -> Duration {
    micros(tp.rto_us).max(RTO_MIN)
}

/// Interval to the next zero-window probe, after `backoff` doublings (tcp_probe0_when).
pub(crate) fn probe0_when(cx: &Cx<'_>) -> Duration {
    let max = rto_max(cx);
    let enough = (max.as_millis() / RTO_MIN.as_millis()).max(1).ilog2() + 1;
    let backoff = u32::from(cx.tp.backoff).min(enough).min(31);
    probe0_base(cx.tp).saturating_mul(1 << backoff).min(max)
}

/// Arms the probe timer if nothing is in flight and no other timer runs (tcp_check_probe_timer).
pub(crate) fn check_probe_timer(cx: &mut Cx<'_>) {
    if cx.tp.packets_out == 0 && cx.tp.pending == XmitTimer::None {
        let when = probe0_base(cx.tp);
        reset_xmit_timer(cx, XmitTimer::Probe0, when, true);
    }
}

fn user_timeout(tp: &TcpSock) -> Option<Duration> {
    let ms = tp.options().user_timeout_ms;
    (ms != 0).then(|| Duration::from_millis(u64::from(ms)))
}

/// `when`, but no later than TCP_USER_TIMEOUT after the first probe (tcp_clamp_probe0_to_user_timeout).
pub(crate) fn clamp_probe0_to_user_timeout(cx: &Cx<'_>, when: Duration) -> Duration {
    let Some(limit) = user_timeout(cx.tp) else { return when };
    if cx.tp.rare().probes_tstamp == Instant::ZERO {
        return when;
    }
    limit.saturating_sub(cx.now - cx.tp.rare().probes_tstamp).max(TIMEOUT_MIN).min(when)
}

/// The RTO, but no later than TCP_USER_TIMEOUT after the first retransmission (tcp_clamp_rto_to_user_timeout).
pub(super) fn clamp_rto_to_user_timeout(cx: &Cx<'_>) -> Duration {
    let rto = micros(cx.tp.rto_us);
    match user_timeout(cx.tp) {
        // 1 ms: as soon as the timer can fire.
        Some(limit) => limit.saturating_sub(cx.now - cx.tp.retrans_stamp).max(Duration::from_millis(1)).min(rto),
        None => rto,
    }
}

/// Time that `boundary` retransmissions with exponential backoff from `base` take (tcp_model_timeout).
fn model_timeout(max: Duration, boundary: u32, base: Duration) -> Duration {
    let linear = (max.as_millis() / base.as_millis().max(1)).max(1).ilog2();
    let doubled = |n: u32| base.saturating_mul((2u32 << n.min(30)) - 1);
    if boundary <= linear { doubled(boundary) } else { doubled(linear) + max.saturating_mul(boundary - linear) }
}

/// Whether retransmissions of this episode have gone on for as long as `boundary` of them would take, or for `timeout`
/// where that is given (retransmits_timed_out). Time and not their number counts, so that the suspension of the machine
/// does not end connections.
pub(crate) fn retransmits_timed_out(cx: &mut Cx<'_>, boundary: u32, timeout: Option<Duration>) -> bool {
    if cx.tp.retransmits == 0 {
        return false;
    }
    let timeout = timeout.unwrap_or_else(|| {
        let opening = matches!(cx.state(), State::SynSent | State::SynRecv);
        let base = if opening { micros(sock_ops::timeout_init(cx, None)) } else { RTO_MIN };
        model_timeout(rto_max(cx), boundary, base)
    });
    cx.now - cx.tp.retrans_stamp >= timeout
}

/// Retries of an orphan (tcp_orphan_retries). `alive`: the RTO is below its maximum, so the peer answered not long ago.
fn orphan_retries(cx: &Cx<'_>, alive: bool) -> u32 {
    match cx.stack.sysctl.tcp_orphan_retries() {
        // ICMP reported the peer as unreachable: no retries.
        _ if cx.sk.err_soft != 0 && !alive => 0,
        0 if alive => 8,
        n => n.max(0) as u32,
    }
}

/// Kills an orphan if there are too many or memory is short; true: the connection is gone (tcp_out_of_resources).
fn out_of_resources(cx: &mut Cx<'_>, mut do_reset: bool) -> bool {
    let since = Duration::from_millis(u64::from((cx.now.as_millis() as u32).wrapping_sub(cx.tp.lsndtime_ms)));
    let mut shift = 0;
    // Connections that sent nothing for long, or whose peer is unreachable, are killed first.
    if since > 2 * rto_max(cx) || !do_reset {
        shift += 1;
    }
    if cx.sk.err_soft != 0 {
        shift += 1;
    }
    if !close::check_oom(cx, shift) {
        return false;
    }
    if since <= TIMEWAIT_LEN || (cx.tp.snd_wnd == 0 && cx.tp.packets_out == 0) {
        do_reset = true;
    }
    if do_reset {
        control::send_active_reset(cx);
    }
    close::done(cx);
    cx.stack.mib.inc(Mib::TcpExtTCPAbortOnMemory);
    true
}

/// Ends the connection because the peer does not answer: the last soft error, or ETIMEDOUT (tcp_write_err).
pub(crate) fn write_err(cx: &mut Cx<'_>) {
    let err = Error::try_from_errno(cx.sk.err_soft).unwrap_or(Error::TimedOut);
    cx.sock.err.store(err.errno(), Ordering::Relaxed);
    output::write_queue_purge(cx);
    close::done(cx);
    if !cx.sk.flag(flag::DEAD) {
        cx.sock.report_error(err);
    }
    cx.stack.mib.inc(Mib::TcpExtTCPAbortOnTimeout);
}

/// A retransmission timeout: has it been too long? True: the connection is gone (tcp_write_timeout; RFC 1122 §4.2.3.5).
pub(crate) fn write_timeout(cx: &mut Cx<'_>) -> bool {
    let sysctl = &cx.stack.sysctl;
    let mut retry_until;
    let mut expired = false;
    if matches!(cx.state(), State::SynSent | State::SynRecv) {
        if cx.tp.retransmits != 0 {
            segment::reset_dst(cx);
        }
        retry_until = match cx.tp.options().syn_retries {
            0 => sysctl.tcp_syn_retries().max(0) as u32,
            n => u32::from(n),
        };
        let mut most = retry_until;
        if cx.state() == State::SynSent {
            most += sysctl.tcp_syn_linear_timeouts().max(0) as u32;
        }
        expired = u32::from(cx.tp.retransmits) >= most;
    } else {
        if retransmits_timed_out(cx, sysctl.tcp_retries1().max(0) as u32, None) {
            // R1: the path may drop large segments, and the route may be wrong, so it is looked up again.
            mtu_probe::black_hole(cx);
            segment::reset_dst(cx);
        }
        retry_until = sysctl.tcp_retries2().max(0) as u32;
        if cx.sk.flag(flag::DEAD) {
            let alive = micros(cx.tp.rto_us) < rto_max(cx);
            retry_until = orphan_retries(cx, alive);
            let do_reset = alive || !retransmits_timed_out(cx, retry_until, None);
            if out_of_resources(cx, do_reset) {
                return true;
            }
        }
    }
    if !expired {
        expired = retransmits_timed_out(cx, retry_until, user_timeout(cx.tp));
    }
    fastopen::blackhole::active_detect_blackhole(cx, expired);
    sock_ops::rto(cx, expired);
    if expired {
        write_err(cx);
    } else if segment::rethink_txhash(cx) {
        cx.tp.rare_mut().timeout_rehash = cx.tp.rare().timeout_rehash.wrapping_add(1);
        cx.stack.mib.inc(Mib::TcpExtTcpTimeoutRehash);
    }
    expired
}

/// The peer's window is closed and data is in flight: whether the peer was silent for as long as probes last
/// (tcp_rtx_probe0_timed_out).
fn rtx_probe0_timed_out(cx: &Cx<'_>, rtx_delta: Duration) -> bool {
    let mut limit = 2 * rto_max(cx);
    if let Some(user) = user_timeout(cx.tp) {
        if rtx_delta > user {
            return true;
        }
        limit = limit.min(user);
    }
    let heard = (cx.now.as_millis() as u32).wrapping_sub(cx.tp.rcv_tstamp_ms) as i32;
    if Duration::from_millis(heard.max(0) as u64) <= limit {
        return false;
    }
    rtx_delta > limit
}

/// The counter of a recovery that a timeout ends, by its state.
fn count_failure(cx: &Cx<'_>) {
    let sack = is_sack(cx.tp);
    let mib = match cx.tp.ca_state {
        CaState::Recovery if sack => Mib::TcpExtTCPSackRecoveryFail,
        CaState::Recovery => Mib::TcpExtTCPRenoRecoveryFail,
        CaState::Loss => Mib::TcpExtTCPLossFailures,
        state if state == CaState::Disorder || cx.tp.sacked_out != 0 => {
            if sack {
                Mib::TcpExtTCPSackFailures
            } else {
                Mib::TcpExtTCPRenoFailures
            }
        }
        _ => return,
    };
    cx.stack.mib.inc(mib);
}

/// Whether so little is in flight that fast retransmit cannot help (tcp_stream_is_thin).
fn stream_is_thin(tp: &TcpSock) -> bool {
    tp.packets_out < 4 && tp.snd_ssthresh < super::tcb::INFINITE_SSTHRESH
}

/// Counts a retransmission timeout (tcp_update_rto_stats).
pub(super) fn update_rto_stats(cx: &mut Cx<'_>) {
    if cx.tp.retransmits == 0 {
        cx.tp.rare_mut().total_rto_recoveries = cx.tp.rare().total_rto_recoveries.wrapping_add(1);
        cx.tp.rare_mut().rto_stamp_ms = cx.now.as_millis() as u32;
    }
    cx.tp.retransmits = cx.tp.retransmits.saturating_add(1);
    cx.tp.rare_mut().total_rto = cx.tp.rare().total_rto.wrapping_add(1);
}

/// The retransmission timer fired: everything in flight counts as lost, the first segment is sent again, the timeout
/// doubles (RFC 6298 §5.4 to §5.7). Linux: tcp_retransmit_timer.
pub(crate) fn retransmit_timer(cx: &mut Cx<'_>) {
    if cx.tp.has_fastopen_rsk() {
        // Neither data nor FIN is sent again before the SYN-ACK is acknowledged.
        return fastopen::server::synack_timer(cx);
    }
    if cx.tp.packets_out == 0 {
        return;
    }
    let Some(head) = cx.tp.rtx_queue.front() else { return };
    let stamp = head.tcp.mstamp;
    let opening = matches!(cx.state(), State::SynSent | State::SynRecv);
    if cx.tp.snd_wnd == 0 && !cx.sk.flag(flag::DEAD) && !opening {
        // The peer shrank its window below data in flight. As long as it answers, the connection is probed and does not
        // time out.
        let since = if cx.tp.retrans_stamp == Instant::ZERO { stamp } else { cx.tp.retrans_stamp };
        if rtx_probe0_timed_out(cx, cx.now - since) {
            write_err(cx);
            return;
        }
        recovery::enter_loss(cx);
        // An error is ignored: the timer tries again.
        let _ = retransmit_skb(cx, Pos::FRONT, 1, Resend::ZeroWindow);
        segment::reset_dst(cx);
    } else {
        cx.stack.mib.inc(Mib::TcpExtTCPTimeouts);
        if write_timeout(cx) {
            return;
        }
        if cx.tp.retransmits == 0 {
            count_failure(cx);
        }
        if tfb::retransmit_timer(cx) {
            return;
        }
        recovery::enter_loss(cx);
        update_rto_stats(cx);
        if retransmit_skb(cx, Pos::FRONT, 1, Resend::Rto) == Err(Error::NoBufs) {
            // It did not leave this machine: no reason to back off.
            reset_xmit_timer(cx, XmitTimer::Retrans, RESOURCE_PROBE_INTERVAL, false);
            return;
        }
    }
    back_off(cx);
    let when = clamp_rto_to_user_timeout(cx);
    reset_xmit_timer(cx, XmitTimer::Retrans, when, false);
    if retransmits_timed_out(cx, cx.stack.sysctl.tcp_retries1().max(0) as u32 + 1, None) {
        segment::reset_dst(cx);
    }
}

/// Doubles the RTO (RFC 6298 §5.5), but for thin streams that asked for it and for the first SYNs
/// (tcp_syn_linear_timeouts).
fn back_off(cx: &mut Cx<'_>) {
    let thin = cx.tp.options().thin_lto || cx.stack.sysctl.tcp_thin_linear_timeouts();
    let max = rto_max(cx);
    if thin && cx.state() == State::Established && stream_is_thin(cx.tp) && cx.tp.retransmits <= THIN_LINEAR_RETRIES {
        cx.tp.backoff = 0;
        rtt::set_rto(cx);
        let least = rtt::rto_min_us(cx);
        cx.tp.rto_us = cx.tp.rto_us.max(least).min(max.as_micros().min(u128::from(u32::MAX)) as u32);
    } else if cx.state() != State::SynSent
        || i32::from(cx.tp.rare().total_rto) > cx.stack.sysctl.tcp_syn_linear_timeouts()
    {
        cx.tp.backoff = cx.tp.backoff.saturating_add(1);
        cx.tp.rto_us = cx.tp.rto_us.saturating_mul(2).min(max.as_micros().min(u128::from(u32::MAX)) as u32);
    }
}

/// ICMP says that host or network of our segment at `seq` cannot be reached: the last doubling of the RTO is taken
/// back, for the timeout was no congestion (RFC 6069 §3). Linux: tcp_ld_RTO_revert.
pub(crate) fn ld_rto_revert(cx: &mut Cx<'_>, seq: crate::wire::seq::SeqNum) {
    if seq != cx.tp.snd_una || cx.tp.retransmits == 0 || cx.tp.backoff == 0 {
        return;
    }
    let Some(sent) = cx.tp.rtx_queue.front().map(|s| s.tcp.mstamp) else { return };
    cx.tp.backoff -= 1;
    if cx.tp.srtt_us != 0 {
        rtt::set_rto(cx);
    } else {
        cx.tp.rto_us = TIMEOUT_INIT_US;
    }
    let max = rto_max(cx).as_micros().min(u128::from(u32::MAX)) as u32;
    let shifted = u64::from(cx.tp.rto_us) << cx.tp.backoff.min(31);
    cx.tp.rto_us = shifted.min(u64::from(max)) as u32;
    cx.refresh_clock();
    let due = sent + micros(cx.tp.rto_us);
    if due > cx.now {
        let left = due - cx.now;
        reset_xmit_timer(cx, XmitTimer::Retrans, left, false);
    } else {
        // It would have fired already.
        retransmit_timer(cx);
    }
}

/// The window is closed and a probe is due (tcp_probe_timer). A peer that answers is probed for ever
/// (RFC 1122 §4.2.2.17), unless TCP_USER_TIMEOUT or being an orphan says otherwise.
pub(crate) fn probe_timer(cx: &mut Cx<'_>) {
    if cx.tp.packets_out != 0 || cx.tp.write_queue.is_empty() {
        cx.tp.probes_out = 0;
        probe::forget_start(cx.tp);
        return;
    }
    if cx.tp.rare().probes_tstamp == Instant::ZERO {
        cx.tp.rare_mut().probes_tstamp = cx.now.max(Instant::from_nanos(1));
    } else if user_timeout(cx.tp).is_some_and(|limit| cx.now - cx.tp.rare().probes_tstamp >= limit) {
        return write_err(cx);
    }
    let mut most = cx.stack.sysctl.tcp_retries2().max(0) as u32;
    if cx.sk.flag(flag::DEAD) {
        let alive = probe0_when(cx) < rto_max(cx);
        most = orphan_retries(cx, alive);
        if !alive && u32::from(cx.tp.backoff) >= most {
            return write_err(cx);
        }
        if out_of_resources(cx, true) {
            return;
        }
    }
    if u32::from(cx.tp.probes_out) >= most {
        write_err(cx);
    } else {
        probe::send_probe0(cx);
    }
}

/// The shared slot fired: runs what it was armed as (tcp_write_timer_handler).
pub(crate) fn write_timer(cx: &mut Cx<'_>) {
    if matches!(cx.state(), State::Close | State::Listen) || cx.tp.pending == XmitTimer::None {
        cx.stack.timers.cancel(&mut cx.tp.retransmit_timer);
        fired_for_nothing(cx.tp);
        return;
    }
    cx.refresh_clock();
    if cx.tp.retransmit_timer.at().is_some_and(|at| at > cx.now) {
        // The timer was postponed, or set anew since it fired.
        return cx.stack.resume_sock(&mut cx.tp.retransmit_timer, cx.sock, deferred::WRITE_TIMER);
    }
    cx.tp.retransmit_timer.fired();
    match cx.tp.pending {
        XmitTimer::ReoTimeout => rack::rack_reo_timeout(cx),
        XmitTimer::LossProbe => probe::send_loss_probe(cx),
        XmitTimer::Retrans => {
            cx.tp.pending = XmitTimer::None;
            retransmit_timer(cx);
        }
        XmitTimer::Probe0 => {
            cx.tp.pending = XmitTimer::None;
            probe_timer(cx);
        }
        XmitTimer::None => {}
    }
}

/// Idle time before the first keepalive probe.
pub(crate) fn keepalive_time_when(cx: &Cx<'_>) -> Duration {
    match cx.tp.options().keepalive_time_ms {
        0 => cx.stack.sysctl.tcp_keepalive_time(),
        ms => Duration::from_millis(u64::from(ms)),
    }
}

/// Time between keepalive probes.
fn keepalive_intvl_when(cx: &Cx<'_>) -> Duration {
    match cx.tp.options().keepalive_intvl_ms {
        0 => cx.stack.sysctl.tcp_keepalive_intvl(),
        ms => Duration::from_millis(u64::from(ms)),
    }
}

/// Unanswered probes that end the connection.
fn keepalive_probes(cx: &Cx<'_>) -> u32 {
    match cx.tp.options().keepalive_probes {
        0 => cx.stack.sysctl.tcp_keepalive_probes().max(0) as u32,
        n => u32::from(n),
    }
}

/// Time since the last segment of the peer (keepalive_time_elapsed).
pub(crate) fn keepalive_time_elapsed(cx: &Cx<'_>) -> Duration {
    let now = cx.now.as_millis() as u32;
    let ms = now.wrapping_sub(cx.tp.ack.lrcvtime_ms).min(now.wrapping_sub(cx.tp.rcv_tstamp_ms));
    Duration::from_millis(u64::from(ms))
}

/// Arms the keepalive timer, which also ends FIN_WAIT2 (inet_csk_reset_keepalive_timer).
pub(crate) fn reset_keepalive_timer(cx: &mut Cx<'_>, when: Duration) {
    let at = cx.now + when;
    cx.stack.arm_sock(&mut cx.sk.cold_mut().timer, cx.sock, deferred::KEEPALIVE_TIMER, at);
}

/// Disarms it (inet_csk_delete_keepalive_timer).
pub(crate) fn delete_keepalive_timer(cx: &mut Cx<'_>) {
    if cx.sk.timer.is_armed() {
        cx.stack.timers.cancel(&mut cx.sk.cold_mut().timer);
    }
}

/// SO_KEEPALIVE was switched (tcp_set_keepalive).
pub(crate) fn set_keepalive(cx: &mut Cx<'_>, on: bool) {
    if matches!(cx.state(), State::Close | State::Listen) {
        return;
    }
    if on && !cx.sk.flag(flag::KEEPOPEN) {
        let when = keepalive_time_when(cx);
        reset_keepalive_timer(cx, when);
    } else if !on {
        delete_keepalive_timer(cx);
    }
}

/// The keepalive timer fired: an orphan's FIN_WAIT2 is over, or the peer is silent and gets a probe
/// (tcp_keepalive_timer; RFC 1122 §4.2.3.6).
pub(crate) fn keepalive_timer(cx: &mut Cx<'_>) {
    cx.refresh_clock();
    if cx.sk.timer.at().is_some_and(|at| at > cx.now) {
        return;
    }
    cx.sk.cold_mut().timer.fired();
    let state = cx.state();
    if state == State::Listen {
        return;
    }
    if state == State::FinWait2 && cx.sk.flag(flag::DEAD) {
        if cx.tp.options().linger2_ms >= 0 {
            let left = close::fin_time(cx).saturating_sub(TIMEWAIT_LEN);
            if left > Duration::ZERO {
                // A time-wait record takes over for the rest of the time.
                timewait::time_wait(cx, State::FinWait2, left);
                return;
            }
        }
        control::send_active_reset(cx);
        close::done(cx);
        return;
    }
    if !cx.sk.flag(flag::KEEPOPEN) || matches!(state, State::Close | State::SynSent) {
        return;
    }
    let idle = keepalive_time_when(cx);
    let mut next = idle;
    // While data is in flight or queued the other timers watch the peer.
    if cx.tp.packets_out == 0 && cx.tp.write_queue.is_empty() {
        let elapsed = keepalive_time_elapsed(cx);
        if elapsed >= idle {
            let over = match user_timeout(cx.tp) {
                Some(limit) => elapsed >= limit && cx.tp.probes_out > 0,
                None => u32::from(cx.tp.probes_out) >= keepalive_probes(cx),
            };
            if over {
                control::send_active_reset(cx);
                write_err(cx);
                return;
            }
            next = if probe::write_wakeup(cx, Mib::TcpExtTCPKeepAlive) == Err(Error::NoBufs) {
                RESOURCE_PROBE_INTERVAL
            } else {
                cx.tp.probes_out = cx.tp.probes_out.saturating_add(1);
                keepalive_intvl_when(cx)
            };
        } else {
            next = idle - elapsed;
        }
    }
    reset_keepalive_timer(cx, next);
}

/// Runs the deferred bits that belong to output and timers; `release_cb` does the others (MTU_REDUCED, SYNACK_TIMER).
pub(crate) fn run_deferred(cx: &mut Cx<'_>, bits: u32) {
    if bits & deferred::PACING != 0
        && let Some(cold) = &mut cx.tp.cold
    {
        cold.pacing_timer.fired();
    }
    if bits & (deferred::TSQ | deferred::PACING) != 0 {
        xmit::tsq_handler(cx);
    }
    if bits & deferred::WRITE_TIMER != 0 {
        write_timer(cx);
    }
    if bits & deferred::DELACK_TIMER != 0 {
        delack::delack_timer(cx);
    }
    if bits & deferred::KEEPALIVE_TIMER != 0 {
        keepalive_timer(cx);
    }
    if bits & deferred::TFB_TIMER != 0 {
        tfb::timer(cx);
    }
    if bits & deferred::ACK != 0 {
        delack::send_deferred(cx);
    }
}

#[cfg(test)]
mod tests;
