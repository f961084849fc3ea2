//! When an acknowledgement leaves: at once (quick acknowledgements, every second full segment, what RFC 5681 §4.2 asks
//! for), later (delayed acknowledgements, RFC 9293 §3.8.6.3, RFC 1122 §4.2.3.2), or one for many (compressed
//! acknowledgements of data behind a hole). Above: `input`, `reassembly`, `recvmsg`, `synsent`, `timer`, `sockopt`, and
//! `segment`, which tells that one left. Below: `tcp::control::send_ack`. Not here: duplicate and challenge
//! acknowledgements of segments that are not acceptable (`challenge`). Linux: inet_connection_sock.icsk_ack,
//! tcp_input.c, tcp_output.c.

use super::control::send_ack;
use super::tcb::{Cx, TcpSock};
use super::timer::{self, micros};
use super::{deferred, rtt, sack, window};
use crate::base::env::{Duration, Instant};
use crate::base::ways::Way;
use crate::counters::Mib;
use crate::sock::state::State;
use std::sync::atomic::Ordering;

/// Shortest delayed-acknowledgement timeout, milliseconds (TCP_ATO_MIN).
const ATO_MIN_MS: u32 = 40;
/// The same as a bound on the timer (TCP_DELACK_MIN).
const DELACK_MIN: Duration = Duration::from_millis(ATO_MIN_MS as u64);
/// Longest delay of an acknowledgement (TCP_DELACK_MAX; RFC 1122 §4.2.3.2 asks for less than 500 ms).
const DELACK_MAX: Duration = Duration::from_millis(200);
/// Longest delay of one in a session that is not interactive and had no push.
const DELACK_MAX_BULK: Duration = Duration::from_millis(500);
/// Quick acknowledgements after something unusual (TCP_MAX_QUICKACKS).
pub(super) const MAX_QUICKACKS: u32 = 16;
/// Duplicate acknowledgements that make a peer retransmit (TCP_FASTRETRANS_THRESH; RFC 5681 §3.2).
const FASTRETRANS_THRESH: u8 = 3;
/// A compressed acknowledgement waits for this part of the round trip at most: a twentieth.
const COMP_SACK_RTT_SHARE: u64 = 20;

/// Bits of [`AckState::pending`] (ICSK_ACK_*).
pub(crate) mod pending {
    /// An acknowledgement is due.
    pub(crate) const SCHED: u8 = 1;
    /// The delayed-acknowledgement timer runs for it.
    pub(crate) const TIMER: u8 = 2;
    /// The peer pushed: a reader that empties the queue acknowledges, unless the session is interactive.
    pub(crate) const PUSHED: u8 = 4;
    /// It pushed twice: a reader acknowledges in any case.
    pub(crate) const PUSHED2: u8 = 8;
    /// It leaves with the segment in hand.
    pub(crate) const NOW: u8 = 16;
    /// A segment was dropped for want of memory: the acknowledgement closes the window.
    pub(crate) const NOMEM: u8 = 32;
    /// It leaves when the system call that processes the backlog releases the sock.
    pub(crate) const DEFERRED: u8 = 64;
}

/// Delayed, quick and compressed acknowledgements of a connection (icsk_ack; compressed_ack and its neighbours in
/// struct tcp_sock).
#[derive(Debug, Default)]
pub(crate) struct AckState {
    /// Bits of [`pending`].
    pub(super) pending: u8,
    /// Quick acknowledgements left.
    pub(super) quick: u8,
    /// Replies that soon followed requests; from `tcp_pingpong_thresh` on the session is interactive.
    pingpong: u8,
    /// Acknowledgements held back since the last one left (compressed_ack).
    compressed: u8,
    /// Duplicate acknowledgements sent at `compressed_rcv_nxt`.
    dup_ack_counter: u8,
    /// Size of the last incoming segment that was shorter than `rcv_mss`; 0: none.
    pub(super) last_seg_size: u16,
    /// Estimate of the peer's segment size, bytes.
    pub(super) rcv_mss: u16,
    /// Delay now, milliseconds (ato); 0: no data has come.
    pub(super) ato_ms: u32,
    /// When the last data segment came, ms (lrcvtime).
    pub(super) lrcvtime_ms: u32,
    /// Flow label of the last data that came over IPv6, new or again (lrcv_flowlabel).
    pub(super) lrcv_flowlabel: u32,
}

impl AckState {
    /// An acknowledgement is due, at once or later (inet_csk_schedule_ack).
    #[inline]
    pub(super) fn schedule(&mut self) {
        self.pending |= pending::SCHED;
    }

    /// Whether one is due (inet_csk_ack_scheduled).
    #[inline]
    pub(super) fn is_scheduled(&self) -> bool {
        self.pending & pending::SCHED != 0
    }

    /// Whether one waits for its timer.
    pub(super) fn is_delayed(&self) -> bool {
        self.pending & pending::TIMER != 0
    }

    /// The next check sends the acknowledgement at once.
    #[inline]
    pub(super) fn ack_now(&mut self) {
        self.pending |= pending::NOW;
    }

    /// A segment was dropped for want of memory: the next acknowledgement leaves at once and closes the window.
    pub(super) fn out_of_memory(&mut self) {
        self.pending |= pending::NOMEM | pending::NOW | pending::SCHED;
    }

    /// Whether [`AckState::out_of_memory`] was called since the last acknowledgement.
    #[inline]
    pub(super) fn is_out_of_memory(&self) -> bool {
        self.pending & pending::NOMEM != 0
    }

    /// A full segment with PSH arrived.
    pub(super) fn pushed(&mut self) {
        self.pending |= pending::PUSHED;
    }

    /// A segment arrived that is shorter than the peer's usual ones: it ends what the peer had to say.
    pub(super) fn pushed_short(&mut self) {
        if self.pending & pending::PUSHED != 0 {
            self.pending |= pending::PUSHED2;
        }
        self.pending |= pending::PUSHED;
    }

    /// The session is not interactive (inet_csk_exit_pingpong_mode).
    fn exit_pingpong(&mut self) {
        self.pingpong = 0;
    }
}

// ---- Quick acknowledgements and interactive sessions.

fn pingpong_thresh(cx: &Cx<'_>) -> u8 {
    cx.stack.sysctl.tcp_pingpong_thresh().clamp(1, 255) as u8
}

/// Whether the session is interactive, so that acknowledgements wait for replies (inet_csk_in_pingpong_mode).
#[inline]
pub(super) fn in_pingpong_mode(cx: &Cx<'_>) -> bool {
    i32::from(cx.tp.ack.pingpong) >= cx.stack.sysctl.tcp_pingpong_thresh()
}

/// Makes the session interactive (inet_csk_enter_pingpong_mode).
pub(super) fn enter_pingpong_mode(cx: &mut Cx<'_>) {
    cx.tp.ack.pingpong = pingpong_thresh(cx);
}

/// The next acknowledgements go out at once: as many as half a window of segments, at most `max` (tcp_incr_quickack).
pub(super) fn incr_quickack(cx: &mut Cx<'_>, max: u32) {
    let mss = u32::from(cx.tp.ack.rcv_mss).max(1);
    let n = match cx.tp.rcv_wnd / (2 * mss) {
        0 => 2,
        n => n,
    };
    let n = n.min(max).min(u32::from(u8::MAX)) as u8;
    cx.tp.ack.quick = cx.tp.ack.quick.max(n);
}

/// Quick acknowledgements from now on, as after loss (tcp_enter_quickack_mode).
pub(super) fn enter_quickack_mode(cx: &mut Cx<'_>, max: u32) {
    incr_quickack(cx, max);
    cx.tp.ack.exit_pingpong();
    cx.tp.ack.ato_ms = ATO_MIN_MS;
}

/// Whether every segment is acknowledged at once (tcp_in_quickack_mode).
fn in_quickack_mode(cx: &Cx<'_>) -> bool {
    cx.sk.dst.as_ref().is_some_and(|d| d.metrics.quickack) || (cx.tp.ack.quick != 0 && !in_pingpong_mode(cx))
}

/// TCP_QUICKACK: 0 lets acknowledgements wait for replies; any other value sends one that is due, and an even one does
/// so only this once. Linux: __tcp_sock_set_quickack.
pub(super) fn set_quickack(cx: &mut Cx<'_>, val: i32) {
    if val == 0 {
        return enter_pingpong_mode(cx);
    }
    cx.tp.ack.exit_pingpong();
    let open = matches!(cx.state(), State::Established | State::CloseWait);
    if open && cx.tp.ack.is_scheduled() {
        cx.tp.ack.pushed();
        cleanup_rbuf(cx, 1);
        if val & 1 == 0 {
            enter_pingpong_mode(cx);
        }
    }
}

// ---- After a segment.

/// In-order data arrived: adapts the delay to the time between segments (the ATO part of tcp_event_data_recv).
#[inline]
pub(super) fn measure_ato(cx: &mut Cx<'_>) {
    let now = cx.now.as_millis() as u32;
    let rto_ms = cx.tp.rto_us / 1000;
    let ato = cx.tp.ack.ato_ms;
    if ato == 0 {
        // The first data: acknowledged at once, for the peer's slow start.
        incr_quickack(cx, MAX_QUICKACKS);
        cx.tp.ack.ato_ms = ATO_MIN_MS;
    } else {
        let m = now.wrapping_sub(cx.tp.ack.lrcvtime_ms);
        if cx.tp.seldom && !cx.tp.ack.is_delayed() {
            timer::used_after(cx.tp, m);
        }
        if m <= ATO_MIN_MS / 2 {
            cx.tp.ack.ato_ms = (ato >> 1) + ATO_MIN_MS / 2;
        } else if m < ato {
            cx.tp.ack.ato_ms = ((ato >> 1) + m).min(rto_ms);
        } else if m > rto_ms {
            // After such a gap the peer's window is small again.
            incr_quickack(cx, MAX_QUICKACKS);
        }
    }
    cx.tp.ack.lrcvtime_ms = now;
}

/// Sends the acknowledgement that is due after a segment (tcp_ack_snd_check).
#[inline]
pub(super) fn ack_snd_check(cx: &mut Cx<'_>) {
    if cx.tp.ack.is_scheduled() {
        ack_snd_check_always(cx, true);
    }
}

/// Acknowledges now or later: every second full segment and a window that moves draw an acknowledgement at once
/// (RFC 9293 §3.8.6.3). Linux: __tcp_ack_snd_check.
pub(super) fn ack_snd_check_always(cx: &mut Cx<'_>, ofo_possible: bool) {
    let unacked = cx.tp.rcv_nxt.since(cx.tp.rcv_wup);
    let now = (unacked > u32::from(cx.tp.ack.rcv_mss)
        && ((cx.tp.rcv_nxt.diff(cx.tp.copied_seq) < cx.sk.rcvlowat) || window::new_window(cx) >= cx.tp.rcv_wnd))
        || in_quickack_mode(cx)
        || cx.tp.ack.pending & pending::NOW != 0;
    if now {
        ack_or_defer(cx);
    } else if !ofo_possible || cx.tp.ooo_queue.is_empty() {
        send_delayed_ack(cx);
    } else {
        ack_out_of_order(cx);
    }
}

/// Acknowledges, or lets the system call whose backlog is processed send one acknowledgement for all of it when it
/// releases the sock (`net.ipv4.tcp_backlog_ack_defer`).
fn ack_or_defer(cx: &mut Cx<'_>) {
    if cx.softirq || !cx.stack.sysctl.tcp_backlog_ack_defer() {
        return send_ack(cx);
    }
    if cx.tp.ack.pending & pending::DEFERRED == 0 {
        cx.tp.ack.pending |= pending::DEFERRED;
        cx.sock.defer(cx.stack, deferred::ACK, cx.now);
    }
}

/// The backlog is processed: sends the acknowledgement that it asked for, if none has left since (TCPF_ACK_DEFERRED of
/// tcp_release_cb).
pub(super) fn send_deferred(cx: &mut Cx<'_>) {
    cx.tp.ack.pending &= !pending::DEFERRED;
    if cx.tp.ack.is_scheduled() {
        send_ack(cx);
    }
}

/// Data waits behind a hole. The first three segments each draw a duplicate at once (RFC 5681 §4.2), for that many make
/// the peer retransmit. Later ones mostly repeat what SACK told already, so some are held back for a fraction of a
/// round trip (`net.ipv4.tcp_comp_sack_*`). A peer without SACK can only count duplicates and gets them all. Linux: the
/// second half of __tcp_ack_snd_check.
fn ack_out_of_order(cx: &mut Cx<'_>) {
    let sysctl = &cx.stack.sysctl;
    if !sack::is_sack(cx.tp) || i32::from(cx.tp.ack.compressed) >= sysctl.tcp_comp_sack_nr() {
        return send_ack(cx);
    }
    if cx.tp.compressed_rcv_nxt != cx.tp.rcv_nxt {
        cx.tp.cold_mut().compressed_rcv_nxt = cx.tp.rcv_nxt;
        cx.tp.ack.dup_ack_counter = 0;
    }
    let a = &mut cx.tp.ack;
    if a.dup_ack_counter < FASTRETRANS_THRESH {
        a.dup_ack_counter += 1;
        return send_ack(cx);
    }
    a.compressed += 1;
    if a.compressed > 1 {
        // The timer runs since the first.
        return;
    }
    // Both estimates are in eighths of a microsecond.
    let rtt = if cx.tp.srtt_us != 0 { cx.tp.srtt_us.min(cx.tp.rcv_rtt_us) } else { cx.tp.rcv_rtt_us };
    let share = Duration::from_nanos(u64::from(rtt) * 1000 / 8 / COMP_SACK_RTT_SHARE);
    let at = cx.now + sysctl.tcp_comp_sack_delay_ns().min(share) + sysctl.tcp_comp_sack_slack_ns();
    let delayed = cx.tp.ack.pending & pending::TIMER != 0;
    arm(cx, at, delayed);
}

/// Sends an acknowledgement that compression held back (tcp_sack_compress_send_ack).
pub(super) fn compress_send_ack(cx: &mut Cx<'_>) {
    if cx.tp.ack.compressed == 0 {
        return;
    }
    // One of them leaves now, and was not compressed.
    cx.stack.mib.add(Mib::TcpExtTCPAckCompressed, u64::from(cx.tp.ack.compressed - 1));
    cx.tp.ack.compressed = 0;
    send_ack(cx);
}

/// The longest that an acknowledgement of this connection is delayed: always below the least RTO that the peer is
/// likely to use (tcp_delack_max).
fn delack_max(cx: &Cx<'_>) -> Duration {
    let own = match cx.tp.options().delack_max_us {
        0 => DELACK_MAX,
        us => micros(us),
    };
    let by_rto = micros(rtt::rto_min_us(cx).max(2000) - 1000);
    own.min(by_rto)
}

/// Whether an acknowledgement may be delayed by the least delay, for all that can be set.
#[inline]
fn has_usual_delay(cx: &Cx<'_>) -> bool {
    let usual = ATO_MIN_MS * 1000;
    let by_option = cx.tp.options().delack_max_us;
    (by_option == 0 || by_option >= usual) && rtt::rto_min_us(cx) > usual + 1000
}

/// Schedules an acknowledgement for when no data has carried it by then. Sends it now if the timer of an earlier one is
/// about to fire (tcp_send_delayed_ack).
fn send_delayed_ack(cx: &mut Cx<'_>) {
    let tp = &*cx.tp;
    let ato_ms = tp.ack.ato_ms;
    let usual = Way::Delay.is_open() && ato_ms == ATO_MIN_MS && tp.ack.pending & pending::TIMER == 0;
    if usual && has_usual_delay(cx) {
        Way::Delay.taken();
        // Nothing lowers the least delay.
        return delay(cx, cx.now.after_nanos(u64::from(ATO_MIN_MS) * 1_000_000));
    }
    let mut ato = Duration::from_millis(u64::from(ato_ms));
    if ato > DELACK_MIN {
        let mut most = DELACK_MAX_BULK;
        if in_pingpong_mode(cx) || tp.ack.pending & pending::PUSHED != 0 {
            most = DELACK_MAX;
        }
        if tp.srtt_us != 0 {
            // No longer than a round trip.
            most = most.min(micros(tp.srtt_us >> 3).max(DELACK_MIN));
        }
        ato = ato.min(most);
    }
    ato = ato.min(delack_max(cx));
    let mut at = cx.now + ato;
    if tp.ack.pending & pending::TIMER != 0
        && let Some(armed) = tp.delack_timer.at()
    {
        if armed <= cx.now + ato / 4 {
            send_ack(cx);
            return;
        }
        at = at.min(armed);
    }
    delay(cx, at);
}

/// The last acknowledgement of a handshake may wait for the data that can carry it.
pub(super) fn delay_handshake_ack(cx: &mut Cx<'_>) {
    enter_quickack_mode(cx, MAX_QUICKACKS);
    let at = cx.now + DELACK_MAX;
    delay(cx, at);
}

/// An acknowledgement is due, and leaves at `at` if nothing carries it before.
fn delay(cx: &mut Cx<'_>, at: Instant) {
    cx.tp.ack.pending |= pending::SCHED | pending::TIMER;
    let compressed = cx.tp.ack.compressed != 0;
    arm(cx, at, compressed);
}

/// Arms the timer. `shared`: it may run already for the other kind of acknowledgement, whose earlier time it keeps:
/// what leaves then serves both.
#[inline]
fn arm(cx: &mut Cx<'_>, mut at: Instant, shared: bool) {
    if shared && let Some(armed) = cx.tp.delack_timer.at() {
        at = at.min(armed);
    }
    cx.stack.arm_sock_lazily(&mut cx.tp.delack_timer, cx.sock, deferred::DELACK_TIMER, at, cx.now);
}

// ---- The timer, the reader, the sender.

/// The timer fired: sends what was delayed or compressed (tcp_delack_timer_handler, tcp_compressed_ack_kick).
pub(super) fn delack_timer(cx: &mut Cx<'_>) {
    let waits = cx.tp.ack.compressed != 0 || cx.tp.ack.pending & pending::TIMER != 0;
    if matches!(cx.state(), State::Close | State::Listen) || !waits {
        cx.stack.timers.cancel(&mut cx.tp.delack_timer);
        timer::fired_for_nothing(cx.tp);
        return;
    }
    cx.refresh_clock();
    if cx.tp.delack_timer.at().is_some_and(|at| at > cx.now) {
        // The timer was postponed, or set anew since it fired.
        return cx.stack.resume_sock(&mut cx.tp.delack_timer, cx.sock, deferred::DELACK_TIMER);
    }
    cx.tp.delack_timer.fired();
    if !cx.softirq {
        // It met a system call, which runs it now.
        cx.stack.mib.inc(Mib::TcpExtDelayedACKLocked);
    }
    if cx.tp.ack.compressed != 0 {
        // The acknowledgement sent now is one of those that were held back.
        cx.tp.ack.compressed -= 1;
        send_ack(cx);
        return;
    }
    cx.tp.ack.pending &= !pending::TIMER;
    if cx.tp.ack.is_scheduled() {
        if in_pingpong_mode(cx) {
            // No reply came to carry it: the session is not that interactive.
            cx.tp.ack.exit_pingpong();
            cx.tp.ack.ato_ms = ATO_MIN_MS;
        } else {
            cx.tp.ack.ato_ms = (cx.tp.ack.ato_ms << 1).min(cx.tp.rto_us / 1000);
        }
        send_ack(cx);
        cx.stack.mib.inc(Mib::TcpExtDelayedACKs);
    }
}

/// Nothing is due any more and the timer stops, so that it does not keep the sock alive.
pub(super) fn cancel(cx: &mut Cx<'_>) {
    cx.tp.ack.pending = 0;
    cx.stack.timers.cancel(&mut cx.tp.delack_timer);
}

/// After a read of `copied` bytes: sends the acknowledgement that waited for the reader, or one that tells the peer of
/// a window that has at least doubled or that lets it send again. Linux: __tcp_cleanup_rbuf. RFC 9293 §3.8.6.2.2.
#[inline(always)]
pub(super) fn cleanup_rbuf(cx: &mut Cx<'_>, copied: usize) {
    let a = &cx.tp.ack;
    let mut now = false;
    if a.is_scheduled() {
        let emptied = copied > 0
            && (a.pending & pending::PUSHED2 != 0 || (a.pending & pending::PUSHED != 0 && !in_pingpong_mode(cx)))
            && cx.sock.rmem_alloc.load(Ordering::Relaxed) == 0;
        now = cx.tp.rcv_nxt.since(cx.tp.rcv_wup) > u32::from(a.rcv_mss) || emptied;
    }
    if copied > 0 && !now && !cx.sock.rcv_shutdown() {
        let offered = window::receive_window(cx.tp);
        // No window is larger than the clamp.
        let most = cx.tp.window_clamp;
        if offered.saturating_mul(2) <= most || window::ends_silence(cx, offered, most) {
            let new = window::new_window(cx);
            let doubled = new != 0 && new >= offered.saturating_mul(2);
            now = doubled || window::ends_silence(cx, offered, new);
        }
    }
    if now {
        cx.refresh_clock();
        send_ack(cx);
    }
}

/// A segment with ACK left: nothing is due any more (tcp_event_ack_sent).
#[inline]
pub(super) fn event_ack_sent(cx: &mut Cx<'_>) {
    let a = &mut cx.tp.ack;
    if a.compressed != 0 {
        cx.stack.mib.add(Mib::TcpExtTCPAckCompressed, u64::from(a.compressed));
        a.compressed = 0;
    }
    if a.quick > 0 {
        let acked = u8::from(a.is_scheduled());
        if acked >= a.quick {
            a.quick = 0;
            a.ato_ms = ATO_MIN_MS;
        } else {
            a.quick -= acked;
        }
    }
    // The timer itself may run on: it finds nothing pending.
    a.pending = 0;
    if cx.tp.seldom {
        timer::cancel_of_seldom(cx.stack, &mut cx.tp.delack_timer);
    }
}

/// Data leaves at `now_ms`: soon after data that came, it is a reply, and the session becomes more interactive
/// (inet_csk_inc_pingpong_cnt, as tcp_event_data_sent calls it).
#[inline]
pub(super) fn data_sent(tp: &mut TcpSock, now_ms: u32) {
    let a = &mut tp.ack;
    if now_ms.wrapping_sub(a.lrcvtime_ms) < a.ato_ms {
        a.pingpong = a.pingpong.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
