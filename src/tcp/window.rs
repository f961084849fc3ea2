//! The window to advertise: free buffer space turned into bytes the peer may send, without silly windows and without
//! ever taking back what was offered, unless `tcp_shrink_window` says so. Above: `segment` (each segment carries one),
//! `recvmsg` (may it open now). Below: nothing. Linux: __tcp_select_window, tcp_select_window,
//! tcp_select_initial_window. RFC 9293 §3.8.6, RFC 7323 §2.

use super::rcvbuf;
use super::tcb::{Cx, TcpSock};
use crate::counters::Mib;
use crate::stack::Stack;
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use std::sync::atomic::Ordering;

/// Largest window of a peer that takes the field as a signed number (MAX_TCP_WINDOW), bytes.
const MAX_SIGNED_WINDOW: u32 = 32_767;

/// Bytes of window that `space` bytes of buffer memory make, by the measured share of payload in memory
/// (tcp_win_from_space).
#[inline]
pub(crate) fn win_from_space(tp: &TcpSock, space: i32) -> i32 {
    ((i64::from(space) * i64::from(tp.scaling_ratio)) >> 8) as i32
}

/// Bytes of buffer memory that a window of `win` bytes needs, rounded down as in Linux (tcp_space_from_win).
#[inline]
pub(crate) fn space_from_win(tp: &TcpSock, win: i32) -> i32 {
    let space = ((win.max(0) as u64) << 8) / u64::from(tp.scaling_ratio.max(1));
    space.min(i32::MAX as u64) as i32
}

/// Free receive space as window, bytes; may be negative (tcp_space).
#[inline]
pub(crate) fn space(cx: &Cx<'_>) -> i32 {
    let free = cx.sock.rcvbuf.load(Ordering::Relaxed) - cx.sock.rmem_alloc.load(Ordering::Relaxed);
    win_from_space(cx.tp, free)
}

/// The whole receive buffer as window, bytes (tcp_full_space).
#[inline]
pub(crate) fn full_space(cx: &Cx<'_>) -> i32 {
    win_from_space(cx.tp, cx.sock.rcvbuf.load(Ordering::Relaxed))
}

/// What the peer may still send of the window offered last, bytes (tcp_receive_window).
#[inline]
pub(crate) fn receive_window(tp: &TcpSock) -> u32 {
    (tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt).max(0) as u32
}

/// What the peer may still send of the widest window that it was ever offered, bytes (tcp_max_receive_window).
#[inline]
pub(crate) fn max_receive_window(tp: &TcpSock) -> u32 {
    tp.rcv_mwnd_seq.diff(tp.rcv_nxt).max(0) as u32
}

/// Sets the receive sequence variables when the peer's ISN is known: a window of `rcv_wnd` bytes from `nxt` on.
pub(crate) fn begin(tp: &mut TcpSock, nxt: SeqNum) {
    (tp.rcv_nxt, tp.rcv_wup) = (nxt, nxt);
    tp.rcv_mwnd_seq = nxt + tp.rcv_wnd;
    tp.max_rcv_wnd = tp.rcv_wnd;
}

/// Whether a window of `new` bytes lets a peer send that waits at `offered`. A sender may wait until the window is half
/// of the largest it ever saw (RFC 9293 §3.8.6.2.1). A buffer that holds less payload than it once did, because the
/// peer's segments have more overhead, may never reach that by the rules of whole segments and doubling. Only once the
/// program has read everything: until then more is read, and Linux too waits. Departure, a guess that was not played on
/// the kernel: Linux leaves this to the peer's probes, one window each RTO.
pub(crate) fn ends_silence(cx: &Cx<'_>, offered: u32, new: u32) -> bool {
    let half = cx.tp.max_rcv_wnd / 2;
    offered < half && new >= half && cx.sk.receive_queue.is_empty()
}

/// Records that a window of `bytes` from `rcv_nxt` on is offered.
fn offer(tp: &mut TcpSock, bytes: u32) {
    tp.rcv_wnd = bytes;
    tp.rcv_wup = tp.rcv_nxt;
    tp.rcv_mwnd_seq = tp.rcv_mwnd_seq.later(tp.rcv_nxt + bytes);
    tp.max_rcv_wnd = tp.max_rcv_wnd.max(bytes);
}

/// `n` rounded up to a multiple of the power of two `unit`; saturates at the greatest multiple.
#[inline]
fn round_up(n: u32, unit: u32) -> u32 {
    n.saturating_add(unit - 1) & !(unit - 1)
}

/// The window that the buffer allows now, in bytes before scaling, a multiple of the scale unit. It may be less than
/// what was offered before; [`select_window`] does not shrink the offer (RFC 9293 §3.8.6), unless `tcp_shrink_window`
/// allows it. Linux: `__tcp_select_window`.
#[inline(always)]
pub(crate) fn new_window(cx: &mut Cx<'_>) -> u32 {
    let mut mss = i32::from(cx.tp.ack.rcv_mss);
    let mut free = space(cx);
    let allowed = full_space(cx);
    let full = allowed.min(cx.tp.window_clamp.min(i32::MAX as u32) as i32);
    if mss > full {
        mss = full;
        if mss <= 0 {
            return 0;
        }
    }
    let wscale = cx.tp.rx_opt.rcv_wscale;
    if may_shrink(cx) {
        return memory_window(cx, mss, free, full, allowed);
    }
    if free < full / 2 {
        // Less than half of the buffer is free: ends quick acknowledgements, and under memory pressure limits the
        // window.
        cx.tp.ack.quick = 0;
        if rcvbuf::under_memory_pressure(cx) {
            cx.tp.rcv_ssthresh = cx.tp.rcv_ssthresh.min(4 * u32::from(cx.tp.advmss));
        }
        free &= !(wscale.unit() as i32 - 1);
        // Silly window avoidance: no window below one segment or a sixteenth of the buffer (RFC 9293 §3.8.6.2.2).
        if free < allowed >> 4 || free < mss {
            return 0;
        }
    }
    let free = (free.max(0) as u32).min(cx.tp.rcv_ssthresh);
    if wscale != WindowShift::NONE {
        // Rounded up: rounding down would keep the last unit from ever being offered.
        return round_up(free, wscale.unit());
    }
    let (mss, full) = (mss.max(0) as u32, full.max(0) as u32);
    let window = cx.tp.rcv_wnd;
    if i64::from(window) <= i64::from(free) - i64::from(mss) || window > free {
        free - free.checked_rem(mss).unwrap_or(0)
    } else if (mss == full && free > window.saturating_add(full / 2)) || ends_silence(cx, window, free) {
        free
    } else {
        window
    }
}

/// Whether the offer may shrink, so that what the peer may send never exceeds the buffer's memory: by sysctl, and only
/// where windows are scaled. Departure: what is next in order is still accepted where it lies within an offer that was
/// taken back (RFC 7323 §2.4), as by 7.1; 6.18 drops it.
fn may_shrink(cx: &Cx<'_>) -> bool {
    cx.tp.rx_opt.rcv_wscale != WindowShift::NONE && cx.stack.sysctl.tcp_shrink_window()
}

/// The window of a connection that may take an offer back: what memory is free, in whole scale units, so that rounding
/// alone never moves the right edge left. The rest of [`new_window`].
fn memory_window(cx: &mut Cx<'_>, mss: i32, free: i32, full: i32, allowed: i32) -> u32 {
    let unit = cx.tp.rx_opt.rcv_wscale.unit();
    let free = free & !(unit as i32 - 1);
    if free < full / 2 {
        cx.tp.ack.quick = 0;
        if rcvbuf::under_memory_pressure(cx) {
            cx.tp.rcv_ssthresh = cx.tp.rcv_ssthresh.min(4 * u32::from(cx.tp.advmss));
        }
        if free < allowed >> 4 || free < mss || free < unit as i32 {
            return 0;
        }
    }
    let free = free.max(0) as u32;
    // The limit that grows is no hard one, so it is rounded up.
    if free > cx.tp.rcv_ssthresh { round_up(cx.tp.rcv_ssthresh, unit) } else { free }
}

/// The window field of the segment about to leave; records the offer (`rcv_wnd`, `rcv_wup`). Linux:
/// `tcp_select_window`.
// A part of each segment.
#[inline(always)]
pub(crate) fn select_window(cx: &mut Cx<'_>) -> RawWindow {
    let old = cx.tp.rcv_wnd;
    if cx.tp.ack.is_out_of_memory() {
        // A segment was just dropped for lack of memory: the window closes, although that shrinks it. What the peer has
        // sent into the old window stays acceptable (`max_receive_window`). TCPToZeroWindowAdv does not count it.
        cx.tp.pred_flags = 0;
        offer(cx.tp, 0);
        return RawWindow(0);
    }
    let wscale = cx.tp.rx_opt.rcv_wscale;
    let offered = receive_window(cx.tp);
    let mut new = new_window(cx);
    if new < offered && !may_shrink(cx) {
        if new == 0 {
            cx.stack.mib.inc(Mib::TcpExtTCPWantZeroWindowAdv);
        }
        new = round_up(offered, wscale.unit());
    }
    offer(cx.tp, new);
    let signed = wscale == WindowShift::NONE && cx.stack.sysctl.tcp_workaround_signed_windows();
    let raw = RawWindow::from_bytes(if signed { new.min(MAX_SIGNED_WINDOW) } else { new }, wscale);
    if raw == RawWindow(0) {
        cx.tp.pred_flags = 0;
        if old != 0 {
            cx.stack.mib.inc(Mib::TcpExtTCPToZeroWindowAdv);
        }
    } else if old == 0 {
        cx.stack.mib.inc(Mib::TcpExtTCPFromZeroWindowAdv);
    }
    raw
}

/// The window a connection begins with: (rcv_wnd, window_clamp, wscale). `space`: buffer as window, bytes; `mss`: what
/// a full segment carries, bytes; `clamp`: bound on the window, 0 for none; `wscale_ok`: the option may be sent;
/// `init_rcv_wnd`: the route's bound in segments, 0 for none. Linux: `tcp_select_initial_window`.
pub(crate) fn select_initial_window(
    stack: &Stack,
    space: i32,
    mss: u32,
    clamp: u32,
    wscale_ok: bool,
    init_rcv_wnd: u32,
) -> (u32, u32, WindowShift) {
    let clamp = if clamp == 0 { RawWindow(0xffff).scale(WindowShift::MAX) } else { clamp };
    let mut space = (space.max(0) as u32).min(clamp);
    // Whole segments only: the peer's sender would not use the rest (RFC 9293 §3.8.6.2.1).
    if mss > 0 && space > mss {
        space -= space % mss;
    }
    let mut rcv_wnd = if stack.sysctl.tcp_workaround_signed_windows() { space.min(MAX_SIGNED_WINDOW) } else { space };
    if init_rcv_wnd != 0 {
        rcv_wnd = rcv_wnd.min(init_rcv_wnd.saturating_mul(mss));
    }
    let mut wscale = WindowShift::NONE;
    if wscale_ok {
        // The scale cannot change later, so it is computed for the largest buffer that the limits allow.
        let largest =
            space.max(stack.sysctl.tcp_rmem()[2].max(0) as u32).max(stack.sysctl.rmem_max() as u32).min(clamp);
        wscale = WindowShift::clamp(largest.checked_ilog2().unwrap_or(0).saturating_sub(15) as u8);
    }
    (rcv_wnd, clamp.min(RawWindow(0xffff).scale(wscale)), wscale)
}

#[cfg(test)]
mod tests;
