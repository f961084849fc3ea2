//! Buffers: the receive buffer and its growth with what arrives and is read; when a writer that waits for send buffer
//! is woken. Above: `reassembly`, `prune` (memory is short), `input`, `recvmsg`. Below: `window`, `sock::mem`. Linux:
//! tcp_init_buffer_space, tcp_grow_window, tcp_rcv_space_adjust, tcp_check_space.

use super::chrono::{Chrono, chrono_stop};
use super::cong::ca_slot;
use super::input::Seg;
use super::rtt::rtt_tsopt_us;
use super::tcb::{Cx, INIT_CWND, MSS_DEFAULT, TcpSock};
use super::{output, recvmsg, window};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{flag, mem};
use crate::wire::tcp::TcpFlags;
use std::sync::atomic::Ordering;

/// Least MSS, for estimates of the peer's (TCP_MIN_MSS).
const MIN_MSS: u32 = 88;
/// Header room and bookkeeping that Linux charges beside a segment's payload, bytes: MAX_TCP_HEADER and
/// skb_shared_info.
const SEG_OVERHEAD: u32 = 320 + 320;
/// Linux's struct sk_buff, bytes.
const SKB_STRUCT: u32 = 256;

pub(super) fn rmem_alloc(cx: &Cx<'_>) -> i32 {
    cx.sock.rmem_alloc.load(Ordering::Relaxed)
}

pub(super) fn rcvbuf(cx: &Cx<'_>) -> i32 {
    cx.sock.rcvbuf.load(Ordering::Relaxed)
}

/// Whether TCP as a whole is short of memory (tcp_under_memory_pressure).
pub(crate) fn under_memory_pressure(cx: &Cx<'_>) -> bool {
    cx.sock.accounts().pressure.load(Ordering::Relaxed)
}

/// Below the first limit of `tcp_mem`: buffers may grow.
fn memory_is_ample(cx: &Cx<'_>) -> bool {
    !cx.sock.accounts().pages.exceeds(cx.stack.sysctl.tcp_mem()[0].min(i64::MAX as u64) as i64 - 1)
}

// ---- Sending: how large the send buffer is, who is woken.

/// Grows the send buffer to twice what the congestion window needs (tcp_sndbuf_expand). Sized as Linux sizes a segment,
/// so that programs see the same SO_SNDBUF.
fn sndbuf_expand(cx: &mut Cx<'_>) {
    let tp = &*cx.tp;
    let per_mss = (tp.rx_opt.mss_clamp as u32).max(tp.mss_cache).min(1 << 20) + SEG_OVERHEAD;
    let per_mss = per_mss.next_power_of_two() + SKB_STRUCT;
    let segs = INIT_CWND.max(tp.snd_cwnd).max(tp.reordering.saturating_add(1));
    let factor = cx.with_ca_slot(ca_slot::SNDBUF_EXPAND, |ca, cx| ca.sndbuf_expand(cx)).flatten().unwrap_or(2);
    let want = factor as u64 * segs as u64 * per_mss as u64;
    let want = want.min(cx.stack.sysctl.tcp_wmem()[2].max(0) as u64) as i32;
    if cx.sock.sndbuf.load(Ordering::Relaxed) < want {
        cx.sock.sndbuf.store(want, Ordering::Relaxed);
    }
}

fn should_expand_sndbuf(cx: &Cx<'_>) -> bool {
    !cx.sk.flag(flag::SNDBUF_LOCK)
        && !under_memory_pressure(cx)
        && memory_is_ample(cx)
        // The congestion window is full: a larger buffer would not help.
        && output::packets_in_flight(cx.tp) < cx.tp.snd_cwnd
}

/// The send buffer has room again: grows it if the window outgrew it, wakes writers (tcp_new_space).
pub(crate) fn new_space(cx: &mut Cx<'_>) {
    if should_expand_sndbuf(cx) {
        sndbuf_expand(cx);
        cx.tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
    }
    write_space(cx);
}

/// Wakes waiting writers when a third of the send buffer is free (sk_stream_write_space).
pub(crate) fn write_space(cx: &mut Cx<'_>) {
    let free = cx.sock.sndbuf.load(Ordering::Relaxed).saturating_sub(cx.sk.wmem_queued);
    if cx.tp.nospace && free >= cx.sk.wmem_queued >> 1 && output::sk_stream_memory_free(cx, true) {
        cx.tp.nospace = false;
        cx.sock.wait.wake(Events::OUT);
    }
}

/// After an acknowledgement: wakes writers that found no room, if there is some now (tcp_check_space).
#[inline(always)]
pub(crate) fn check_space(cx: &mut Cx<'_>) {
    if cx.tp.nospace {
        look_for_space(cx);
    }
}

fn look_for_space(cx: &mut Cx<'_>) {
    new_space(cx);
    if !cx.tp.nospace {
        chrono_stop(cx, Chrono::SndbufLimited);
    }
}

// ---- Receiving: the window's growth.

/// Sets window and buffers of a connection that starts (tcp_init_buffer_space).
pub(crate) fn init_buffer_space(cx: &mut Cx<'_>) {
    if !cx.sk.flag(flag::SNDBUF_LOCK) {
        sndbuf_expand(cx);
    }
    cx.tp.rcvq_time = cx.now;
    cx.tp.rcvq_seq = cx.tp.copied_seq;
    let app_win = cx.stack.sysctl.tcp_app_win().clamp(0, 31) as u32;
    let maxwin = window::full_space(cx).max(0) as u32;
    let advmss = cx.tp.advmss as u32;
    let now_ms = cx.now.as_millis() as u32;
    let tp = &mut *cx.tp;
    if tp.window_clamp >= maxwin {
        tp.window_clamp = maxwin;
        if app_win != 0 && maxwin > 4 * advmss {
            tp.window_clamp = (maxwin - (maxwin >> app_win)).max(4 * advmss);
        }
    }
    // One segment stays in reserve.
    if app_win != 0 && tp.window_clamp > 2 * advmss && tp.window_clamp.saturating_add(advmss) > maxwin {
        tp.window_clamp = (2 * advmss).max(maxwin.saturating_sub(advmss));
    }
    tp.rcv_ssthresh = tp.rcv_ssthresh.min(tp.window_clamp);
    tp.snd_cwnd_stamp_ms = now_ms;
    tp.rcvq_space = tp.rcv_ssthresh.min(tp.rcv_wnd).min(INIT_CWND * advmss);
}

/// Under memory pressure offers four segments at most (tcp_adjust_rcv_ssthresh).
pub(crate) fn adjust_rcv_ssthresh(cx: &mut Cx<'_>) {
    cx.tp.rcv_ssthresh = cx.tp.rcv_ssthresh.min(4 * cx.tp.advmss as u32);
}

/// How much a segment of this truesize may add to the window, bytes: less and less as its overhead grows
/// (__tcp_grow_window).
fn grow_increment(cx: &Cx<'_>, len: u32, truesize: i32) -> u32 {
    let mut truesize = window::win_from_space(cx.tp, truesize) >> 1;
    let mut win = window::win_from_space(cx.tp, cx.stack.sysctl.tcp_rmem()[2]) >> 1;
    while win > 0 && cx.tp.rcv_ssthresh <= win as u32 {
        if truesize <= len as i32 {
            return 2 * cx.tp.ack.rcv_mss as u32;
        }
        truesize >>= 1;
        win >>= 1;
    }
    0
}

/// Raises `rcv_ssthresh` for a segment of `len` bytes that took `truesize` (tcp_grow_window).
pub(crate) fn grow_window(cx: &mut Cx<'_>, len: u32, truesize: u32) {
    let room =
        (cx.tp.window_clamp.min(i32::MAX as u32) as i32).min(window::space(cx)) as i64 - cx.tp.rcv_ssthresh as i64;
    if room <= 0 {
        return;
    }
    if under_memory_pressure(cx) {
        adjust_rcv_ssthresh(cx);
        return;
    }
    let truesize = truesize.min(i32::MAX as u32) as i32;
    let incr = if window::win_from_space(cx.tp, truesize) <= len as i32 {
        2 * cx.tp.advmss as u32
    } else {
        grow_increment(cx, len, truesize)
    };
    if incr != 0 {
        let incr = incr.max(len.saturating_mul(2));
        cx.tp.rcv_ssthresh += (room.min(incr as i64)) as u32;
        cx.tp.ack.quick |= 1;
    }
}

/// The buffer is overfull: grows it to what it holds if it may, else offers two segments (tcp_clamp_window).
pub(crate) fn clamp_window(cx: &mut Cx<'_>) {
    cx.tp.ack.quick = 0;
    let rmem2 = cx.stack.sysctl.tcp_rmem()[2];
    let alloc = rmem_alloc(cx);
    if rcvbuf(cx) < rmem2 && !cx.sk.flag(flag::RCVBUF_LOCK) && !under_memory_pressure(cx) && memory_is_ample(cx) {
        cx.sock.rcvbuf.store(alloc.min(rmem2), Ordering::Relaxed);
    }
    if alloc > rcvbuf(cx) {
        cx.tp.rcv_ssthresh = cx.tp.window_clamp.min(2 * cx.tp.advmss as u32);
    }
}

/// TCP_WINDOW_CLAMP, and the clamp that follows the buffer (tcp_set_window_clamp). EINVAL: 0 on a sock that is not
/// closed.
pub(crate) fn set_window_clamp(cx: &mut Cx<'_>, val: i32) -> Result<()> {
    if val == 0 {
        if cx.state() != State::Close {
            return Err(Error::Inval);
        }
        cx.tp.window_clamp = 0;
        return Ok(());
    }
    let new = val.max(mem::SOCK_MIN_RCVBUF / 2) as u32;
    let tp = &mut *cx.tp;
    let old = std::mem::replace(&mut tp.window_clamp, new);
    if new < old {
        tp.rcv_ssthresh = tp.rcv_ssthresh.min(new);
    } else if new > old {
        tp.rcv_ssthresh = tp.rcv_ssthresh.max(tp.rcv_wnd.min(new));
    }
    Ok(())
}

/// SO_RCVLOWAT. A mark above half of the buffer would never be reached: buffer and window grow with it or, where the
/// program has set the buffer's size, the mark is lowered (tcp_set_rcvlowat).
pub(crate) fn set_rcvlowat(cx: &mut Cx<'_>, val: i32) {
    let fixed = cx.sk.flag(flag::RCVBUF_LOCK);
    let most = if fixed { rcvbuf(cx) } else { cx.stack.sysctl.tcp_rmem()[2] };
    let val = val.min(most >> 1).max(1);
    cx.sk.rcvlowat = val;
    recvmsg::data_ready(cx);
    let space = window::space_from_win(cx.tp, val);
    if !fixed && space > rcvbuf(cx) {
        cx.sock.rcvbuf.store(space, Ordering::Relaxed);
        if cx.tp.window_clamp != 0 {
            cx.tp.window_clamp = cx.tp.window_clamp.max(val as u32);
        }
    }
}

/// `space` bytes were read in a round trip: grows the receive buffer to twice that, because the measure is a round trip
/// late; to more where it grew since the last one, so that a sender in slow start can double its rate; and to what the
/// out-of-order data takes beside (tcp_rcvbuf_grow).
pub(crate) fn rcvbuf_grow(cx: &mut Cx<'_>, space: u32) {
    let old = std::mem::replace(&mut cx.tp.rcvq_space, space);
    if !cx.stack.sysctl.tcp_moderate_rcvbuf() || cx.sk.flag(flag::RCVBUF_LOCK) {
        return;
    }
    let mut win = u64::from(space) << 1;
    let grown = u64::from(space.saturating_sub(old));
    win += (win * grown / u64::from(old.max(1))) << 1;
    if let Some(last) = cx.tp.ooo_queue.back() {
        win += last.tcp.end_seq.since(cx.tp.rcv_nxt) as u64;
    }
    let win = win.min(i32::MAX as u64) as i32;
    let want = window::space_from_win(cx.tp, win).min(cx.stack.sysctl.tcp_rmem()[2]);
    if want > rcvbuf(cx) {
        cx.sock.rcvbuf.store(want, Ordering::Relaxed);
        cx.tp.window_clamp = window::win_from_space(cx.tp, want).max(0) as u32;
    }
}

/// The program has read: once a round trip, measures how much (Dynamic Right-Sizing; tcp_rcv_space_adjust).
pub(crate) fn rcv_space_adjust(cx: &mut Cx<'_>) {
    let time = cx.now.micros_since(cx.tp.rcvq_time);
    if cx.tp.rcv_rtt_us == 0 || time < i64::from(cx.tp.rcv_rtt_us >> 3) {
        return;
    }
    // Bytes that are still unread do not count.
    let inq = cx.tp.rcv_nxt.since(cx.tp.copied_seq) as i64;
    let copied = cx.tp.copied_seq.since(cx.tp.rcvq_seq) as i64 - inq;
    if copied > cx.tp.rcvq_space as i64 {
        rcvbuf_grow(cx, copied as u32);
    }
    cx.tp.rcvq_seq = cx.tp.copied_seq;
    cx.tp.rcvq_time = cx.now;
}

/// A low first estimate of the peer's segment size (tcp_initialize_rcv_mss).
pub(crate) fn initialize_rcv_mss(cx: &mut Cx<'_>) {
    let tp = &mut *cx.tp;
    let hint = (tp.advmss as u32).min(tp.mss_cache).min(tp.rcv_wnd / 2).min(MSS_DEFAULT as u32).max(MIN_MSS);
    tp.ack.rcv_mss = hint as u16;
}

/// Estimates the peer's segment size, and from the truesize of segments which part of the buffer is payload
/// (tcp_measure_rcv_mss). `skb` has its header pulled.
pub(crate) fn measure_rcv_mss(cx: &mut Cx<'_>, seg: &Seg, skb: &Skb) {
    let lss = cx.tp.ack.last_seg_size;
    cx.tp.ack.last_seg_size = 0;
    let mut len = if skb.gso_size != 0 { skb.gso_size as u32 } else { skb.len() as u32 };
    let rcv_mss = cx.tp.ack.rcv_mss as u32;
    if len >= rcv_mss {
        if len != rcv_mss && skb.truesize != 0 {
            let ratio = (((skb.len() as u64) << 8) / skb.truesize as u64).clamp(1, 255) as u8;
            let old = std::mem::replace(&mut cx.tp.scaling_ratio, ratio);
            if old != ratio {
                let clamp = window::win_from_space(cx.tp, rcvbuf(cx)).max(1);
                // A clamp that is not zero is always accepted.
                let _ = set_window_clamp(cx, clamp);
                cx.tp.rcvq_space = cx.tp.rcvq_space.min(cx.tp.window_clamp);
            }
        }
        cx.tp.ack.rcv_mss = len.min(cx.tp.advmss as u32).min(u16::MAX as u32) as u16;
        if seg.flags.contains(TcpFlags::PSH) {
            cx.tp.ack.pushed();
        }
        return;
    }
    // A short segment: its size is taken as the peer's MSS only if a second one has the same size, and it has no PSH or
    // is not tiny.
    len += seg.header_len as u32;
    let remnant = seg.flags.intersects(TcpFlags::FIN | TcpFlags::URG | TcpFlags::SYN | TcpFlags::PSH);
    if len >= MSS_DEFAULT as u32 + 20 || (len >= MIN_MSS + 20 && !remnant) {
        let len = len.saturating_sub(cx.tp.tcp_header_len as u32).min(u16::MAX as u32) as u16;
        cx.tp.ack.last_seg_size = len;
        if len == lss {
            cx.tp.ack.rcv_mss = len.max(1);
            return;
        }
    }
    cx.tp.ack.pushed_short();
}

fn rcv_rtt_update(tp: &mut TcpSock, sample_us: u32, win_dep: bool) {
    let sample = (sample_us as u64) << 3;
    let old = tp.rcv_rtt_us as u64;
    let new = if old == 0 || sample < old {
        sample
    } else if win_dep {
        // A window may take longer than a round trip: such samples only lower the estimate.
        return;
    } else if tp.rcv_nxt != tp.copied_seq {
        // The program is late, and with it the peer's data.
        return;
    } else {
        old - (old >> 3) + sample_us as u64
    };
    tp.rcv_rtt_us = new.min(u32::MAX as u64) as u32;
}

/// Without timestamps: the time a whole window takes to arrive bounds the round trip (tcp_rcv_rtt_measure).
pub(crate) fn rcv_rtt_measure(cx: &mut Cx<'_>) {
    if cx.tp.rcv_rtt_time != Instant::ZERO {
        if cx.tp.rcv_nxt.before(cx.tp.rcv_rtt_seq) {
            return;
        }
        let us = cx.now.micros_since(cx.tp.rcv_rtt_time).clamp(1, u32::MAX as i64) as u32;
        rcv_rtt_update(cx.tp, us, true);
    }
    cx.tp.rcv_rtt_seq = cx.tp.rcv_nxt + cx.tp.rcv_wnd;
    cx.tp.rcv_rtt_time = cx.now;
}

/// With timestamps: from the echo, once each, on segments of full size (tcp_rcv_rtt_measure_ts).
pub(crate) fn rcv_rtt_measure_ts(cx: &mut Cx<'_>, seg: &Seg) {
    let ecr = cx.tp.rx_opt.rcv_tsecr;
    if ecr == cx.tp.rcv_rtt_last_tsecr {
        return;
    }
    cx.tp.rcv_rtt_last_tsecr = ecr;
    if seg.end_seq.since(seg.seq) >= cx.tp.ack.rcv_mss as u32 {
        let us = rtt_tsopt_us(cx, 0);
        if us > 0 {
            rcv_rtt_update(cx.tp, us.min(u32::MAX as i64) as u32, false);
        }
    }
}
