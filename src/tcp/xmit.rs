//! The write loop: takes unsent segments while pacing, congestion window, peer's window, Nagle and the device queue
//! allow, cuts them to size and sends them. Above: `output` (push), `timer`, `probe`. Below: `segment`. Called with the
//! sock owned; never blocks. Linux: tcp_write_xmit and what it asks. RFC 9293 §3.7.4, RFC 5681 §3.1.

use super::chrono::{Chrono, chrono_start, chrono_stop};
use super::cong::ca_slot;
use super::deferred;
use super::mtu::gso_limits;
use super::mtu_probe::{Probe, mtu_probe};
use super::output::{FIN, PSH, adjust_wmem, cwnd_validate, in_cwnd_reduction, packets_in_flight, wnd_end};
use super::probe::schedule_loss_probe;
use super::queue::Pos;
use super::rcvbuf;
use super::repair;
use super::rtt;
use super::sack::is_sack;
use super::segment::{paces, paces_itself, transmit_skb, urg_mode};
use super::tcb::{CaState, Cx, TcpSock, XmitTimer, nagle};
use super::tfb;
use super::timer::{check_probe_timer, rearm_rto};
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::counters::Mib;
use crate::sock::skb::{GSO_MAX_SIZE, MAX_SKB_FRAGS, SKB_OVERHEAD, Skb, sacked};
use crate::sock::tsq;
use crate::stack::TimerSlot;
use crate::wire::seq::SeqNum;
use std::sync::atomic::{Ordering, fence};

/// Shift of the pacing rate: a super-packet carries what the rate sends in about a millisecond (sk_pacing_shift).
pub(super) const PACING_SHIFT: u32 = 10;
/// Segments that deferral waits for when tcp_tso_win_divisor is 0 (tcp_max_tso_deferred_mss).
const MAX_DEFERRED_MSS: u64 = 3;

/// Notes how many segments of `mss` bytes a packet makes; returns it (tcp_set_skb_tso_segs).
pub(crate) fn set_tso_segs(skb: &mut Skb, mss: u32) -> u32 {
    let len = skb.len() as u32;
    let mss = mss.max(1);
    if len <= mss {
        skb.tcp.gso_size = 0;
        skb.tcp.gso_segs = 1;
        return 1;
    }
    let segs = len.div_ceil(mss);
    skb.tcp.gso_size = mss.min(u32::from(u16::MAX)) as u16;
    skb.tcp.gso_segs = segs.min(u32::from(u16::MAX)) as u16;
    segs
}

/// Segments of a super-packet sent now: what the pacing rate carries in a millisecond, more for peers with a small RTT,
/// within the limits of device and sysctl (tcp_tso_autosize, tcp_tso_segs).
pub(crate) fn tso_segs(cx: &mut Cx<'_>, mss: u32) -> u32 {
    let least = cx.with_ca_slot(ca_slot::MIN_TSO_SEGS, |ca, cx| ca.min_tso_segs(cx)).flatten();
    let least = least.unwrap_or(cx.stack.sysctl.tcp_min_tso_segs() as u32);
    let (max_size, max_segs) = gso_limits(cx);
    let rate = if paces(cx) { cx.tp.pacing_rate.min(cx.sk.max_pacing_rate) } else { cx.tp.pacing_rate };
    let min_rtt = rtt::min_rtt(cx.tp);
    tso_segs_of(rate, min_rtt, cx.stack.sysctl.tcp_tso_rtt_log() as u32, mss, least, max_size, max_segs)
}

fn tso_segs_of(rate: u64, min_rtt_us: u32, rtt_log: u32, mss: u32, least: u32, max_size: u32, max_segs: u32) -> u32 {
    let mut bytes = rate >> PACING_SHIFT;
    let shift = min_rtt_us.checked_shr(rtt_log).unwrap_or(0);
    if shift < 32 {
        bytes += u64::from(max_size >> shift);
    }
    let segs = bytes.min(u64::from(max_size)) as u32 / mss.max(1);
    // Two segments of the loopback's MSS exceed the 65535 bytes of an IP datagram.
    segs.max(least).min(max_segs).min(max_size / mss.max(1)).max(1)
}

/// Whether the congestion control is asked at each send how large a super-packet is at least.
#[inline]
fn asks_segs(tp: &TcpSock) -> bool {
    tp.ca.algo.is_some() && u32::from(tp.ca_slots) & ca_slot::MIN_TSO_SEGS != 0
}

/// How many segments the congestion window allows now; at most half of the window in one super-packet, which keeps the
/// ACK clock going (tcp_cwnd_test).
fn cwnd_test(tp: &TcpSock) -> u32 {
    let in_flight = packets_in_flight(tp);
    if in_flight >= tp.snd_cwnd {
        return 0;
    }
    (tp.snd_cwnd >> 1).max(1).min(tp.snd_cwnd - in_flight)
}

/// Whether the first segment of `skb` fits the peer's window (tcp_snd_wnd_test).
pub(super) fn snd_wnd_test(tp: &TcpSock, skb: &Skb, mss: u32) -> bool {
    let end = if skb.len() as u32 > mss { skb.tcp.seq + mss } else { skb.tcp.end_seq };
    !end.after(wnd_end(tp))
}

/// Whether a small segment is unacknowledged: Minshall's change to Nagle's rule, which counts only those.
fn minshall_check(tp: &TcpSock) -> bool {
    tp.snd_sml.after(tp.snd_una) && !tp.snd_sml.after(tp.snd_nxt)
}

/// Whether Nagle or a cork holds a `partial` segment back (tcp_nagle_check).
pub(super) fn nagle_check(tp: &TcpSock, partial: bool, nonagle: u8) -> bool {
    partial && (nonagle & nagle::CORK != 0 || (nonagle == 0 && tp.packets_out != 0 && minshall_check(tp)))
}

/// Whether Nagle's algorithm lets this segment leave (tcp_nagle_test).
fn nagle_test(cx: &Cx<'_>, skb: &Skb, mss: u32, nonagle: u8) -> bool {
    // A segment that is not the last of the queue cannot grow: it leaves.
    nonagle & nagle::PUSH != 0
        || urg_mode(cx)
        || skb.tcp.flags & FIN != 0
        || !nagle_check(cx.tp, (skb.len() as u32) < mss, nonagle)
}

/// Whether to wait for an acknowledgement that will make a fuller super-packet possible (tcp_tso_should_defer). `last`:
/// no packet is queued behind this one. Says in `cwnd`, `rwnd` what limits.
fn tso_should_defer(
    cx: &Cx<'_>,
    skb: &Skb,
    mss: u32,
    last: bool,
    max_segs: u32,
    cwnd: &mut bool,
    rwnd: &mut bool,
) -> bool {
    let tp = &*cx.tp;
    if tp.ca_state >= CaState::Recovery {
        return false;
    }
    // Deferral only shortly after the last send, so that an idle sender is not delayed.
    if (cx.now - tp.wstamp).as_nanos() > 1_000_000 {
        return false;
    }
    let in_flight = packets_in_flight(tp);
    let send_win = u64::from((wnd_end(tp) - skb.tcp.seq).max(0) as u32);
    let cong_win = u64::from(tp.snd_cwnd.saturating_sub(in_flight)) * u64::from(mss);
    let limit = send_win.min(cong_win);
    let len = skb.len() as u64;
    if limit >= u64::from(max_segs) * u64::from(mss) || (!last && limit >= len) {
        return false;
    }
    match cx.stack.sysctl.tcp_tso_win_divisor() {
        0 => {
            if limit > MAX_DEFERRED_MSS * u64::from(mss) {
                return false;
            }
        }
        n => {
            let chunk = u64::from(tp.snd_wnd).min(u64::from(tp.snd_cwnd) * u64::from(mss)) / n as u64;
            if limit >= chunk {
                return false;
            }
        }
    }
    // The next acknowledgement, due an RTT after the oldest segment left, must be at most half an RTT away, and at most
    // a millisecond: on a long path a smooth ACK clock is worth more than fuller packets.
    let Some(head) = tp.rtx_queue.front() else { return false };
    let srtt = i64::from(tp.srtt_us) * 1000 / 8;
    let away = srtt - (cx.now - head.tcp.mstamp).as_nanos().min(i64::MAX as u128) as i64;
    if away > (srtt / 2).min(1_000_000) {
        return false;
    }
    if cong_win < send_win {
        if cong_win <= len {
            *cwnd = true;
            return true;
        }
    } else if send_win <= len {
        *rwnd = true;
        return true;
    }
    // No data will be added to it.
    skb.tcp.flags & FIN == 0 && !skb.tcp.eor
}

/// How many bytes of a packet of several segments leave now: limited by quota and window, without a partial segment
/// that Nagle holds back (tcp_mss_split_point).
fn mss_split_point(tp: &TcpSock, skb: &Skb, mss: u32, last: bool, max_segs: u32, nonagle: u8) -> u32 {
    let window = (wnd_end(tp) - skb.tcp.seq).max(0) as u32;
    let most = mss.saturating_mul(max_segs);
    if most <= window && !last {
        return most;
    }
    let needed = (skb.len() as u32).min(window);
    if most <= needed {
        return most;
    }
    let partial = needed % mss.max(1);
    if nagle_check(tp, partial != 0, nonagle) { needed - partial } else { needed }
}

/// Whether so many bytes of this sock wait in a device that sending stops until the device completes some (TCP small
/// queues). `factor`: doublings of the limit. Linux: tcp_small_queue_check.
#[inline]
pub(super) fn small_queue_check(cx: &mut Cx<'_>, skb_truesize: u32, factor: u32) -> bool {
    // No limit is less than nothing.
    cx.sock.wmem_alloc.load(Ordering::Acquire) != 0 && too_much_queued(cx, skb_truesize, factor)
}

fn too_much_queued(cx: &mut Cx<'_>, skb_truesize: u32, factor: u32) -> bool {
    let rate = if paces(cx) { cx.tp.pacing_rate.min(cx.sk.max_pacing_rate) } else { cx.tp.pacing_rate };
    let mut limit = u64::from(2 * skb_truesize).max(rate >> PACING_SHIFT);
    if !paces(cx) {
        limit = limit.min(cx.stack.sysctl.tcp_limit_output_bytes().max(0) as u64);
    }
    limit <<= factor;
    // What waits in the device for its delayed departure does not keep later packets back.
    limit = limit.saturating_add(rate.saturating_mul(u64::from(cx.tp.options().tx_delay)) >> 19);
    if u64::from(cx.sock.wmem_alloc.load(Ordering::Acquire)) <= limit {
        return false;
    }
    // One packet may always wait behind another, so that a device that is slow to complete does not run dry
    // (tcp_rtx_queue_empty_or_single_skb).
    if cx.tp.rtx_queue.len() <= 1 {
        return false;
    }
    cx.sock.tsq_flags.fetch_or(tsq::THROTTLED, Ordering::AcqRel);
    // The completion may have come before the bit was set.
    fence(Ordering::SeqCst);
    u64::from(cx.sock.wmem_alloc.load(Ordering::SeqCst)) > limit
}

/// Whether pacing wants the next packet to leave later; arms the timer for then (tcp_pacing_check).
pub(super) fn pacing_check(cx: &mut Cx<'_>) -> bool {
    if !paces_itself(cx) || cx.tp.wstamp <= cx.now {
        return false;
    }
    let at = cx.tp.wstamp;
    let slot: &mut TimerSlot = &mut cx.tp.cold_mut().pacing_timer;
    if slot.at().is_none_or(|t| t < cx.now) {
        cx.stack.arm_sock(slot, cx.sock, deferred::PACING, at);
    }
    true
}

/// Cuts a packet after `len` bytes of payload: flags that belong to the end go with the second part, which is returned.
/// Both parts count their segments anew by `mss`.
fn split(skb: &mut Skb, len: u32, mss: u32) -> Skb {
    let mut rest = skb.split_off(len as usize);
    rest.tcp.seq = skb.tcp.seq + len;
    skb.tcp.end_seq = rest.tcp.seq;
    skb.tcp.flags &= !(FIN | PSH);
    skb.tcp.eor = false;
    // A transmit timestamp goes with the byte that it is about (tcp_fragment_tstamp).
    if skb.tx_stamp.as_ref().is_some_and(|t| !SeqNum(t.key()).before(rest.tcp.seq)) {
        rest.tx_stamp = skb.tx_stamp.take();
    }
    set_tso_segs(skb, mss);
    set_tso_segs(&mut rest, mss);
    rest
}

/// Adjusts the counters after the segment count of a packet in the retransmit queue fell by `decr` (tcp_adjust_pcount).
/// `decr` may be negative.
pub(crate) fn adjust_pcount(tp: &mut TcpSock, tags: u8, decr: i32) {
    let sub = |n: &mut u32| *n = n.saturating_add_signed(-decr);
    sub(&mut tp.packets_out);
    if tags & sacked::SACKED_ACKED != 0 {
        sub(&mut tp.sacked_out);
    }
    if tags & sacked::SACKED_RETRANS != 0 {
        sub(&mut tp.retrans_out);
    }
    if tags & sacked::LOST != 0 {
        sub(&mut tp.lost_out);
    }
    if !is_sack(tp) && decr > 0 {
        // Without SACK `sacked_out` counts duplicates: limited to the segments in flight.
        tp.sacked_out -= tp.sacked_out.min(decr as u32);
    }
}

/// Cuts the packet at `at` of the retransmit queue (`rtx`) or of the unsent queue after `len` bytes; returns where it
/// is afterwards, with the rest behind it. EINVAL when there is nothing behind `len`; ENOMEM when cutting has made the
/// queue much larger than the send buffer (CVE-2019-11478). Linux: tcp_fragment.
pub(crate) fn fragment(cx: &mut Cx<'_>, rtx: bool, at: Pos, len: u32, mss: u32) -> Result<Pos> {
    let limit = i64::from(cx.sock.sndbuf.load(Ordering::Relaxed)) + 2 * i64::from(GSO_MAX_SIZE + SKB_OVERHEAD);
    let inside = at != Pos::FRONT && cx.tp.rtx_queue.last() != Some(at);
    if rtx && i64::from(cx.sk.wmem_queued >> 1) > limit && inside {
        cx.stack.mib.inc(Mib::TcpExtTCPWqueueTooBig);
        return Err(Error::NoMem);
    }
    let skb = if rtx { cx.tp.rtx_queue.get_mut(at) } else { cx.tp.write_queue.get_mut(at) };
    let Some(skb) = skb else { return Err(Error::Inval) };
    if len >= skb.len() as u32 && !(len == skb.len() as u32 && skb.tcp.flags & FIN != 0) {
        return Err(Error::Inval);
    }
    let (old_segs, old_size) = (i32::from(skb.tcp.gso_segs), skb.truesize as i32);
    let rest = split(skb, len, mss);
    let tags = skb.tcp.sacked;
    let segs = i32::from(skb.tcp.gso_segs) + i32::from(rest.tcp.gso_segs);
    let grown = skb.truesize as i32 + rest.truesize as i32 - old_size;
    let sent = !cx.tp.snd_nxt.before(rest.tcp.end_seq);
    let at = if rtx { cx.tp.rtx_queue.insert_after(at, rest) } else { cx.tp.write_queue.insert_after(at, rest) };
    adjust_wmem(cx, grown);
    if sent && old_segs != segs {
        adjust_pcount(cx.tp, tags, old_segs - segs);
    }
    Ok(at)
}

/// Cuts `skb`, which was taken from the head of the unsent queue, after `len` bytes; the rest is the head
/// (tso_fragment).
pub(super) fn split_head(cx: &mut Cx<'_>, skb: &mut Skb, len: u32, mss: u32) {
    let old = skb.truesize as i32;
    let rest = split(skb, len, mss);
    adjust_wmem(cx, skb.truesize as i32 + rest.truesize as i32 - old);
    cx.tp.write_queue.push_front(rest);
}

/// Moves up to `amount` bytes of the next unsent packet into `skb`, the one about to leave, so that a super-packet goes
/// out full (tcp_grow_skb).
pub(super) fn grow_skb(cx: &mut Cx<'_>, skb: &mut Skb, amount: u32) {
    if skb.tcp.eor || skb.tcp.flags & FIN != 0 || skb.tx_stamp.is_some() {
        return;
    }
    let Some(next) = cx.tp.write_queue.front_mut() else { return };
    let n = (next.len() as u32).min(amount);
    if n == 0 || !skb.may_take_from(next) || skb.frags().len() + next.frags().len() > MAX_SKB_FRAGS {
        return;
    }
    if next.tx_stamp.is_some() && (n as usize) < next.len() {
        // The stamp would not be with its byte.
        return;
    }
    let before = skb.truesize as i32 + next.truesize as i32;
    let rest = next.split_off(n as usize);
    let mut taken = std::mem::replace(next, rest);
    let share = taken.truesize - SKB_OVERHEAD;
    let size = skb.truesize;
    skb.append_frags(&mut taken);
    skb.truesize = size + share;
    skb.tcp.end_seq += n;
    next.tcp.seq += n;
    let mut after = skb.truesize as i32 + next.truesize as i32;
    if next.is_empty() {
        // All of it was taken: its flags and FIN move, too.
        after -= next.truesize as i32;
        skb.tcp.end_seq = next.tcp.end_seq;
        skb.tcp.flags |= next.tcp.flags;
        skb.tcp.eor = next.tcp.eor;
        skb.tx_stamp = taken.tx_stamp.take();
        cx.tp.write_queue.pop_front();
    } else {
        next.tcp.gso_segs = 0;
    }
    adjust_wmem(cx, after - before);
}

/// A segment was sent for the first time: it moves to the retransmit queue, counters and timers follow
/// (tcp_event_new_data_sent).
pub(crate) fn event_new_data_sent(cx: &mut Cx<'_>, skb: Skb) {
    if new_data_sent(cx, skb) {
        rearm_rto(cx);
    }
}

/// The same without the timer: returns whether the retransmission timer is to be armed.
#[inline]
fn new_data_sent(cx: &mut Cx<'_>, skb: Skb) -> bool {
    let segs = u32::from(skb.tcp.gso_segs.max(1));
    let prior = cx.tp.packets_out;
    cx.tp.snd_nxt = skb.tcp.end_seq;
    cx.tp.rtx_queue.push_back(skb);
    cx.tp.packets_out += segs;
    cx.stack.mib.add(Mib::TcpExtTCPOrigDataSent, u64::from(segs));
    rcvbuf::check_space(cx);
    prior == 0 || cx.tp.pending == XmitTimer::LossProbe
}

/// The outcome for the head of the unsent queue.
enum Head {
    /// It left: so many segments.
    Sent(u32),
    /// It stays, and so does all behind it.
    Stays(Skb),
}

/// What was noted in one run of the loop.
#[derive(Default)]
struct Notes {
    /// The congestion window limits sending.
    cwnd: bool,
    /// The peer's window does.
    rwnd: bool,
    /// The retransmission timer is to be armed.
    rto: bool,
}

/// How much [`write_xmit`] sends (its push_one in Linux).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Push {
    /// All that may be sent.
    All,
    /// One packet.
    One,
    /// What may be sent, up to the quota of an alternative TCP that has decided it.
    Quota,
    /// One packet as a loss probe, whatever the congestion window says (RFC 8985 §7.3).
    LossProbe,
}

/// Sends the head of the unsent queue if it may leave.
fn send_head(
    cx: &mut Cx<'_>,
    mut skb: Skb,
    mss: u32,
    max_segs: u32,
    nonagle: u8,
    push: Push,
    notes: &mut Notes,
) -> Head {
    if repair::sends_nothing(cx.tp) {
        return Head::Sent(repair::count_as_sent(cx, skb, mss));
    }
    if pacing_check(cx) {
        return Head::Stays(skb);
    }
    let mut quota = cwnd_test(cx.tp);
    if quota == 0 {
        if push != Push::LossProbe {
            return Head::Stays(skb);
        }
        // A loss probe ignores the congestion window (RFC 8985 §7.3).
        quota = 1;
    }
    let quota = quota.min(max_segs);
    let missing = (u64::from(quota) * u64::from(mss)).saturating_sub(skb.len() as u64);
    if missing > 0 && !cx.tp.write_queue.is_empty() {
        grow_skb(cx, &mut skb, missing as u32);
    }
    let segs = set_tso_segs(&mut skb, mss);
    if !snd_wnd_test(cx.tp, &skb, mss) {
        notes.rwnd = true;
        return Head::Stays(skb);
    }
    let last = cx.tp.write_queue.is_empty();
    let mut limit = mss;
    if segs == 1 {
        if !nagle_test(cx, &skb, mss, if last { nonagle } else { nagle::PUSH }) {
            return Head::Stays(skb);
        }
    } else {
        if matches!(push, Push::All | Push::Quota)
            && tso_should_defer(cx, &skb, mss, last, max_segs, &mut notes.cwnd, &mut notes.rwnd)
        {
            return Head::Stays(skb);
        }
        if !urg_mode(cx) {
            limit = mss_split_point(cx.tp, &skb, mss, last, quota, nonagle);
        }
    }
    if skb.len() as u32 > limit {
        if limit == 0 {
            return Head::Stays(skb);
        }
        split_head(cx, &mut skb, limit, mss);
    }
    if small_queue_check(cx, skb.truesize, 0) {
        return Head::Stays(skb);
    }
    if skb.tcp.seq == skb.tcp.end_seq {
        // The packet is empty: its writer waits for memory to fill it.
        return Head::Stays(skb);
    }
    if transmit_skb(cx, &mut skb).is_err() {
        return Head::Stays(skb);
    }
    let segs = u32::from(skb.tcp.gso_segs.max(1));
    let (len, end) = (skb.len() as u64, skb.tcp.end_seq);
    notes.rto |= new_data_sent(cx, skb);
    if len < u64::from(segs) * u64::from(mss) {
        // Minshall: the end of the last small segment sent.
        cx.tp.snd_sml = end;
    }
    Head::Sent(segs)
}

/// Sends from the unsent queue what may be sent, at most as much as `push` says. True: nothing is in flight and yet
/// something waits, so that only a probe can get it moving. `cx.now` is the time of sending: who has worked for long
/// since the clock was read reads it again. Linux: tcp_write_xmit.
pub(super) fn write_xmit(cx: &mut Cx<'_>, mss: u32, nonagle: u8, push: Push) -> bool {
    if push != Push::LossProbe
        && let Some(waits) = tfb::output(cx, nonagle)
    {
        return waits;
    }
    // A single segment is not cut, so nobody but a congestion control that wants to be asked is.
    let single = Way::Single.is_open()
        // Else what the device can do is not known yet.
        && cx.tp.gso_max_size != 0
        && cx.tp.write_queue.len() == 1
        && cx.tp.write_queue.front().is_some_and(|s| s.len() as u32 <= mss);
    let max_segs = if single && !asks_segs(cx.tp) {
        Way::Single.taken();
        1
    } else {
        tso_segs(cx, mss)
    };
    let mut sent = 0;
    if push == Push::All {
        match mtu_probe(cx) {
            Probe::None => {}
            Probe::Wait => return false,
            Probe::Sent => sent = 1,
        }
    }
    let mut notes = Notes::default();
    while let Some(skb) = cx.tp.write_queue.pop_front() {
        let most = if push == Push::Quota { max_segs.min(tfb::quota(cx.tp) - sent) } else { max_segs };
        match send_head(cx, skb, mss, most, nonagle, push, &mut notes) {
            Head::Sent(segs) => sent += segs,
            Head::Stays(skb) => {
                cx.tp.write_queue.push_front(skb);
                break;
            }
        }
        if push != Push::All && !(push == Push::Quota && sent < tfb::quota(cx.tp)) {
            break;
        }
    }
    settle(cx, sent, notes, push)
}

/// What [`write_xmit`] does when it has sent `sent` segments.
#[inline]
fn settle(cx: &mut Cx<'_>, sent: u32, mut notes: Notes, push: Push) -> bool {
    if notes.rwnd {
        chrono_start(cx, Chrono::RwndLimited);
    } else {
        chrono_stop(cx, Chrono::RwndLimited);
    }
    cx.tp.rwnd_limited = notes.rwnd;
    notes.cwnd |= packets_in_flight(cx.tp) >= cx.tp.snd_cwnd;
    if sent > 0 || notes.cwnd {
        cwnd_validate(cx, notes.cwnd);
    }
    if sent > 0 {
        if in_cwnd_reduction(cx.tp) {
            cx.tp.cold_mut().prr_out += sent;
        }
        // One timer serves both, so it is armed once.
        let probes = push != Push::LossProbe && schedule_loss_probe(cx, false);
        if notes.rto && !probes {
            rearm_rto(cx);
        }
        return false;
    }
    cx.tp.packets_out == 0 && !cx.tp.write_queue.is_empty()
}

/// The short way of [`write_xmit`], for a packet that is not in the queue yet, which is empty: it is one segment, and
/// nothing holds it back. Err: something may, and nothing was done.
#[inline]
pub(super) fn xmit_alone(cx: &mut Cx<'_>, mut skb: Skb, mss: u32, nonagle: u8) -> std::result::Result<(), Skb> {
    let (tp, len) = (&*cx.tp, skb.len() as u32);
    let leaves = Way::Alone.is_open()
        && len <= mss
        && cx.sock.wmem_alloc.load(Ordering::Acquire) == 0
        && packets_in_flight(tp) < tp.snd_cwnd
        && !skb.tcp.end_seq.after(wnd_end(tp))
        && !nagle_check(tp, len < mss, nonagle)
        && !paces_itself(cx)
        && tp.tfb_slots == 0
        && tp.gso_max_size != 0
        && !repair::sends_nothing(tp)
        && tp.mtu_probing().is_none()
        && !asks_segs(tp);
    if !leaves {
        return Err(skb);
    }
    Way::Alone.taken();
    chrono_start(cx, Chrono::Busy);
    (skb.tcp.gso_size, skb.tcp.gso_segs) = (0, 1);
    let (mut notes, mut sent) = (Notes::default(), 0);
    if transmit_skb(cx, &mut skb).is_ok() {
        let end = skb.tcp.end_seq;
        notes.rto = new_data_sent(cx, skb);
        if len < mss {
            cx.tp.snd_sml = end;
        }
        sent = 1;
    } else {
        cx.tp.write_queue.push_back(skb);
    }
    if settle(cx, sent, notes, Push::All) {
        check_probe_timer(cx);
    }
    Ok(())
}

/// Continues sending when the device has completed packets or the pacing timer fired (tcp_tsq_handler).
pub(crate) fn tsq_handler(cx: &mut Cx<'_>) {
    use crate::sock::state::State as S;
    if !cx.state().is_one_of(&[S::Established, S::FinWait1, S::Closing, S::CloseWait, S::LastAck]) {
        return;
    }
    cx.refresh_clock();
    if cx.tp.lost_out > cx.tp.retrans_out && cx.tp.snd_cwnd > packets_in_flight(cx.tp) {
        super::retransmit::xmit_retransmit_queue(cx);
    }
    let mss = super::mtu::current_mss(cx);
    let nonagle = cx.tp.nonagle;
    write_xmit(cx, mss, nonagle, Push::All);
}

#[cfg(test)]
mod tests;
