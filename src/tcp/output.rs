//! TCP output: what may leave now, and pushing it out. Above: `sendmsg` (new bytes), `ack` (window opened), `timer`.
//! Below: `xmit` (the write loop), which sends by `segment`. Called with the sock owned; never blocks. Linux:
//! net/ipv4/tcp_output.c; tcp_push and tcp_stream_* of tcp.c. RFC 9293 §3.7.4 (Nagle), RFC 9293 §3.8.6.2.1 (sender
//! silly window), RFC 5681 §3.1, RFC 2861 (idle).

use super::ack::init_cwnd;
use super::chrono::{Chrono, chrono_start, chrono_stop};
use super::cong::{CaEvent, ca_slot, has_cong_control, in_slow_start};
use super::mtu::current_mss;
use super::queue::Pos;
use super::tcb::{CaState, Cx, TcpSock, nagle};
use super::timer::check_probe_timer;
use super::xmit::{Push, write_xmit};
use crate::counters::Mib;
use crate::sock::mem;
use crate::sock::skb::{SKB_OVERHEAD, Skb};
use crate::sock::state::State;
use crate::sock::tsq;
use crate::stack::Stack;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;
use std::sync::atomic::Ordering;

/// PSH as `TcpCb::flags` has it.
pub(super) const PSH: u16 = TcpFlags::PSH.bits();
/// ACK.
pub(super) const ACK: u16 = TcpFlags::ACK.bits();
/// FIN.
pub(super) const FIN: u16 = TcpFlags::FIN.bits();
/// SYN.
pub(super) const SYN: u16 = TcpFlags::SYN.bits();
/// RST.
pub(super) const RST: u16 = TcpFlags::RST.bits();

/// Segments that have left the network as far as we know: selectively acknowledged or lost (tcp_left_out).
#[inline]
pub fn left_out(tp: &TcpSock) -> u32 {
    tp.sacked_out + tp.lost_out
}

/// Segments thought to be in the network (RFC 6675's pipe). Linux: tcp_packets_in_flight.
#[inline]
pub fn packets_in_flight(tp: &TcpSock) -> u32 {
    (tp.packets_out + tp.retrans_out).saturating_sub(left_out(tp))
}

/// First sequence number beyond the peer's window (tcp_wnd_end).
#[inline]
pub fn wnd_end(tp: &TcpSock) -> SeqNum {
    tp.snd_una + tp.snd_wnd
}

/// Whether the window is being reduced at the moment (tcp_in_cwnd_reduction).
#[inline]
pub fn in_cwnd_reduction(tp: &TcpSock) -> bool {
    matches!(tp.ca_state, CaState::Cwr | CaState::Recovery)
}

/// The slow-start threshold when the window shrinks without a loss: at least three quarters of the window
/// (tcp_current_ssthresh).
pub fn current_ssthresh(tp: &TcpSock) -> u32 {
    if in_cwnd_reduction(tp) { tp.snd_ssthresh } else { tp.snd_ssthresh.max((tp.snd_cwnd >> 1) + (tp.snd_cwnd >> 2)) }
}

/// Whether the congestion window limits sending, so that it may grow (RFC 7661's concern). In slow start a window of
/// which half was used counts as limiting. Linux: tcp_is_cwnd_limited.
pub fn is_cwnd_limited(tp: &TcpSock) -> bool {
    tp.is_cwnd_limited || (in_slow_start(tp) && tp.snd_cwnd < tp.max_packets_out.saturating_mul(2))
}

/// Unsent bytes in the send queue (tcp_notsent bytes of SIOCOUTQNSD).
#[inline]
pub fn notsent_bytes(tp: &TcpSock) -> u32 {
    tp.write_seq.since(tp.snd_nxt)
}

/// Whether unsent bytes stay below TCP_NOTSENT_LOWAT or the sysctl; with `wake`, below half of it, so that a woken
/// writer finds room for more than a byte (tcp_stream_memory_free).
pub fn stream_memory_free(stack: &Stack, tp: &TcpSock, wake: bool) -> bool {
    let lowat = match tp.options().notsent_lowat {
        0 => stack.sysctl.tcp_notsent_lowat(),
        n => n,
    };
    u64::from(notsent_bytes(tp)) << u8::from(wake) < u64::from(lowat)
}

/// Whether more may be queued for sending (sk_stream_memory_free).
#[inline(always)]
pub fn sk_stream_memory_free(cx: &Cx<'_>, wake: bool) -> bool {
    cx.sk.wmem_queued < cx.sock.sndbuf.load(Ordering::Relaxed) && stream_memory_free(cx.stack, cx.tp, wake)
}

/// Appends to the unsent queue (tcp_add_write_queue_tail). Its memory must be charged already.
pub(super) fn add_write_queue_tail(cx: &mut Cx<'_>, skb: Skb) {
    let was_empty = cx.tp.write_queue.is_empty();
    cx.tp.write_queue.push_back(skb);
    if was_empty {
        chrono_start(cx, Chrono::Busy);
    }
}

/// Charges a packet that joins a send queue.
#[inline]
pub(super) fn charge_wmem(cx: &mut Cx<'_>, truesize: i32) {
    cx.sk.wmem_queued += truesize;
    mem::charge(cx.sk, truesize);
}

/// Memory of a queued packet changed by `delta` bytes.
#[inline]
pub(super) fn adjust_wmem(cx: &mut Cx<'_>, delta: i32) {
    cx.sk.wmem_queued += delta;
    if delta < 0 {
        return mem::uncharge(cx.sock, cx.sk, -delta);
    }
    // Splitting a packet needs memory for another head, which is charged beyond the limits (tcp_fragment:
    // force_schedule).
    mem::force(cx.sock, cx.sk, delta);
    mem::charge(cx.sk, delta);
}

/// A packet leaves the send queues for good: acknowledged or purged (tcp_wmem_free_skb).
#[inline]
pub fn wmem_free_skb(cx: &mut Cx<'_>, skb: Skb) {
    adjust_wmem(cx, -(skb.truesize as i32));
    drop(skb);
}

/// The first `n` bytes of the packet at `at` of the retransmit queue are acknowledged: removes them and gives their
/// memory back, so that a writer need not wait until the whole super-packet is acknowledged. False, and no change, when
/// the packet has fewer (tcp_trim_head).
pub(super) fn trim_head(cx: &mut Cx<'_>, at: Pos, n: u32) -> bool {
    let Some(skb) = cx.tp.rtx_queue.get_mut(at) else { return false };
    if !skb.pull(n as usize) {
        return false;
    }
    let freed = n.min(skb.truesize.saturating_sub(SKB_OVERHEAD));
    skb.truesize -= freed;
    cx.tp.rtx_queue.advance_seq(at, n);
    adjust_wmem(cx, -(freed as i32));
    true
}

/// Empties both send queues (tcp_write_queue_purge): the connection ends, or begins anew.
pub fn write_queue_purge(cx: &mut Cx<'_>) {
    if !(cx.tp.write_queue.is_empty() && cx.tp.rtx_queue.is_empty()) {
        purge_skbs(cx);
    }
    mem::reclaim(cx.sock, cx.sk);
    cx.tp.clear_retransmit_hint();
    cx.tp.packets_out = 0;
    cx.tp.backoff = 0;
    chrono_stop(cx, Chrono::Busy);
}

#[inline(never)]
fn purge_skbs(cx: &mut Cx<'_>) {
    chrono_stop(cx, Chrono::Busy);
    while let Some(skb) = cx.tp.write_queue.pop_front() {
        wmem_free_skb(cx, skb);
    }
    while let Some(skb) = cx.tp.rtx_queue.pop_front() {
        wmem_free_skb(cx, skb);
    }
    cx.tp.write_queue.shrink();
    cx.tp.rtx_queue.shrink();
}

/// Sets PSH on the last queued segment (tcp_mark_push).
pub(super) fn mark_push(tp: &mut TcpSock) {
    if let Some(skb) = tp.write_queue.back_mut() {
        skb.tcp.flags |= PSH;
        tp.pushed_seq = tp.write_seq;
    }
}

/// Whether more than half of the largest window was queued since the last PSH, so that PSH is due (forced_push).
#[inline]
pub(super) fn forced_push(tp: &TcpSock) -> bool {
    tp.write_seq.after(tp.pushed_seq + (tp.max_window >> 1))
}

/// Whether a small segment waits until the device completes earlier packets of this sock, so that bytes written
/// meanwhile join it (tcp_should_autocork).
fn should_autocork(cx: &Cx<'_>, skb: &Skb, size_goal: u32) -> bool {
    (skb.len() as u32) < size_goal
        && cx.stack.sysctl.tcp_autocorking()
        && !cx.tp.rtx_queue.is_empty()
        && cx.sock.wmem_alloc.load(Ordering::Acquire) > skb.truesize
        && !skb.tcp.eor
}

/// Sends what the call has queued, as its MSG_* `flags` allow (tcp_push).
pub fn push(cx: &mut Cx<'_>, flags: i32, mss: u32, mut nonagle: u8, size_goal: u32) {
    if cx.tp.write_queue.is_empty() {
        return;
    }
    if flags & libc::MSG_MORE == 0 || forced_push(cx.tp) {
        mark_push(cx.tp);
    }
    if flags & libc::MSG_OOB != 0 {
        cx.tp.cold_mut().snd_up = cx.tp.write_seq;
        cx.tp.urg_mode = true;
    }
    if let Some(skb) = cx.tp.write_queue.back()
        && should_autocork(cx, skb, size_goal)
    {
        let truesize = skb.truesize;
        // The bit is set before the second look, because the completion may have come in between.
        if cx.sock.tsq_flags.fetch_or(tsq::THROTTLED, Ordering::AcqRel) & tsq::THROTTLED == 0 {
            cx.stack.mib.inc(Mib::TcpExtTCPAutoCorking);
        }
        if cx.sock.wmem_alloc.load(Ordering::SeqCst) > truesize {
            return;
        }
    }
    if flags & libc::MSG_MORE != 0 {
        nonagle = nagle::CORK;
    }
    push_pending_frames(cx, mss, nonagle);
}

/// Sends the head of the unsent queue and no more, whatever Nagle says (tcp_push_one).
pub fn push_one(cx: &mut Cx<'_>, mss: u32) {
    write_xmit(cx, mss, nagle::PUSH, Push::One);
}

/// Sends what may be sent; when nothing is in flight and data still waits, arms the zero-window probe timer
/// (__tcp_push_pending_frames).
pub fn push_pending_frames(cx: &mut Cx<'_>, mss: u32, nonagle: u8) {
    if cx.state() == State::Close {
        return;
    }
    if write_xmit(cx, mss, nonagle, Push::All) {
        check_probe_timer(cx);
    }
}

/// The same with the connection's own MSS and Nagle setting, if there is anything to send (tcp_push_pending_frames).
#[inline]
pub fn push_pending(cx: &mut Cx<'_>) {
    if !cx.tp.write_queue.is_empty() {
        cx.refresh_clock();
        let mss = current_mss(cx);
        let nonagle = cx.tp.nonagle;
        push_pending_frames(cx, mss, nonagle);
    }
}

/// After `idle_us` without sending: halves the window for each RTO of idleness, down to the initial window
/// (RFC 2861 §3.1, RFC 5681 §4.1). Linux: tcp_cwnd_restart.
pub fn cwnd_restart(cx: &mut Cx<'_>, idle_us: u64) {
    let rto = u64::from(cx.tp.rto_us.max(1));
    cx.with_ca_slot(ca_slot::CWND_EVENT, |ca, cx| ca.cwnd_event(cx, CaEvent::CwndRestart));
    cx.tp.snd_ssthresh = current_ssthresh(cx.tp);
    let floor = init_cwnd(cx).min(cx.tp.snd_cwnd);
    let mut cwnd = cx.tp.snd_cwnd;
    let mut left = idle_us.saturating_sub(rto);
    while left > 0 && cwnd > floor {
        cwnd >>= 1;
        left = left.saturating_sub(rto);
    }
    cx.tp.snd_cwnd = cwnd.max(floor).max(1);
    cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    cx.tp.snd_cwnd_used = 0;
}

/// New data after idleness: shrinks the window if it was idle for more than an RTO (tcp_slow_start_after_idle_check).
/// Algorithms with a `cong_control` of their own handle idleness themselves.
#[inline(always)]
pub fn slow_start_after_idle_check(cx: &mut Cx<'_>) {
    if !cx.stack.sysctl.tcp_slow_start_after_idle() || cx.tp.packets_out != 0 {
        return;
    }
    let idle = u64::from((cx.now.as_millis() as u32).wrapping_sub(cx.tp.lsndtime_ms)) * 1000;
    if idle > u64::from(cx.tp.rto_us) && !has_cong_control(cx) {
        cwnd_restart(cx, idle);
    }
}

/// The window was not fully used for an RTO: it falls half way to the part that was used (RFC 2861 §3.2). Linux:
/// tcp_cwnd_application_limited.
fn cwnd_application_limited(cx: &mut Cx<'_>) {
    if cx.tp.ca_state == CaState::Open && !cx.tp.nospace {
        let used = cx.tp.snd_cwnd_used.max(init_cwnd(cx));
        if used < cx.tp.snd_cwnd {
            cx.tp.snd_ssthresh = current_ssthresh(cx.tp);
            cx.tp.snd_cwnd = cx.tp.snd_cwnd.midpoint(used).max(1);
        }
        cx.tp.snd_cwnd_used = 0;
    }
    cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
}

/// After sending: notes whether the window was the limit, and lets an unused window decay (tcp_cwnd_validate).
pub fn cwnd_validate(cx: &mut Cx<'_>, limited: bool) {
    let tp = &mut *cx.tp;
    // The strongest observation of a round trip is kept.
    if !tp.snd_una.before(tp.cwnd_usage_seq) || limited || (!tp.is_cwnd_limited && tp.packets_out > tp.max_packets_out)
    {
        tp.is_cwnd_limited = limited;
        tp.max_packets_out = tp.packets_out;
        tp.cwnd_usage_seq = tp.snd_nxt;
    }
    let now = cx.now.as_millis() as u32;
    if is_cwnd_limited(tp) {
        tp.snd_cwnd_used = 0;
        tp.snd_cwnd_stamp_ms = now;
        return;
    }
    tp.snd_cwnd_used = tp.snd_cwnd_used.max(tp.packets_out);
    let unused_us = u64::from(now.wrapping_sub(tp.snd_cwnd_stamp_ms)) * 1000;
    if unused_us >= u64::from(tp.rto_us) && cx.stack.sysctl.tcp_slow_start_after_idle() && !has_cong_control(cx) {
        cwnd_application_limited(cx);
    }
    if cx.tp.write_queue.is_empty() && cx.tp.nospace && matches!(cx.state(), State::Established | State::CloseWait) {
        // All is sent and the program waits for buffer: the buffer is too small for the path.
        chrono_start(cx, Chrono::SndbufLimited);
    }
}
