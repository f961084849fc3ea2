//! What limits a sender, and for how long: nothing to send, the network (busy), the receiver's window, or the program's
//! send buffer. Shown by `tcp_info` (busy_time, rwnd_limited, sndbuf_limited). Above: `output`, `xmit`, `ack`.
//! Linux: tcp_chrono_start, tcp_chrono_stop.

use super::tcb::{Cx, TcpSock};
use crate::base::env::Instant;

/// What limits sending; a higher one takes precedence.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chrono {
    /// Nothing is waiting to be sent or acknowledged.
    #[default]
    None,
    /// Data is in flight or waiting.
    Busy,
    /// The peer's window is full.
    RwndLimited,
    /// The send buffer is full of data in flight.
    SndbufLimited,
}

#[inline]
fn set(tp: &mut TcpSock, now: Instant, new: Chrono) {
    let now_ms = now.as_millis() as u32;
    match tp.chrono_type {
        Chrono::None => {}
        Chrono::Busy => tp.busy_ms = tp.busy_ms.wrapping_add(now_ms.wrapping_sub(tp.chrono_start_ms)),
        Chrono::RwndLimited | Chrono::SndbufLimited => count_limited(tp, now_ms),
    }
    tp.chrono_start_ms = now_ms;
    tp.chrono_type = new;
}

/// The time of a limit that few connections meet.
#[cold]
fn count_limited(tp: &mut TcpSock, now_ms: u32) {
    let spent = now_ms.wrapping_sub(tp.chrono_start_ms);
    let total = &mut tp.cold.get_or_insert_default().rare.limited_ms[tp.chrono_type as usize - 2];
    *total = total.wrapping_add(spent);
}

/// A limit begins to hold; ignored while a stronger one does.
#[inline]
pub(crate) fn chrono_start(cx: &mut Cx<'_>, kind: Chrono) {
    if kind > cx.tp.chrono_type {
        set(cx.tp, cx.now, kind);
    }
}

/// A limit holds no more: back to busy, or to none when both queues are empty.
pub(crate) fn chrono_stop(cx: &mut Cx<'_>, kind: Chrono) {
    if cx.tp.rtx_queue.is_empty() && cx.tp.write_queue.is_empty() {
        set(cx.tp, cx.now, Chrono::None);
    } else if kind == cx.tp.chrono_type {
        set(cx.tp, cx.now, Chrono::Busy);
    }
}

/// Time under each limit until now, µs in whole ms: busy in total, rwnd limited, sndbuf limited. A limit is counted in
/// ms, as by Linux in jiffies, which 32 bits hold for 49 days (tcp_get_info_chrono_stats).
pub(crate) fn chrono_stats(tp: &TcpSock, now: Instant) -> [u64; 3] {
    let [rwnd, sndbuf] = tp.rare().limited_ms;
    let mut by_kind = [tp.busy_ms, rwnd, sndbuf].map(u64::from);
    if tp.chrono_type != Chrono::None {
        by_kind[tp.chrono_type as usize - 1] += u64::from((now.as_millis() as u32).wrapping_sub(tp.chrono_start_ms));
    }
    [by_kind.iter().sum(), by_kind[1], by_kind[2]].map(|ms: u64| ms * 1000)
}

#[cfg(test)]
mod tests {
    use super::super::info::{FIELDS, tcp_info};
    use super::super::testing::Bench;
    use super::*;
    use crate::base::env::Duration;

    const MINUTE: u64 = 60_000_000;

    /// Fields of tcp_info in µs: busy_time, rwnd_limited, sndbuf_limited.
    fn shown(b: &Bench) -> [u64; 3] {
        let info = b.with(|cx| tcp_info(cx));
        ["busy_time", "rwnd_limited", "sndbuf_limited"].map(|name| {
            let at = FIELDS.iter().take_while(|f| f.0 != name).map(|f| f.1).sum::<usize>();
            u64::from_ne_bytes(info[at..at + 8].try_into().unwrap())
        })
    }

    /// 32 bits of microseconds hold 71 minutes.
    #[test]
    fn hours_under_a_limit_are_shown_while_they_last_and_afterwards() {
        for kind in [Chrono::RwndLimited, Chrono::SndbufLimited] {
            let b = Bench::established();
            let wait = |minutes: u64| b.clock.advance(Duration::from_secs(60 * minutes));
            let limited = |minutes: u64| match kind {
                Chrono::RwndLimited => [minutes * MINUTE, 0],
                _ => [0, minutes * MINUTE],
            };
            let want = |busy: u64, of_kind: u64| [&[busy * MINUTE][..], &limited(of_kind)].concat();
            b.send(&[1; 100], 0).unwrap();
            b.with(|cx| chrono_start(cx, kind));
            wait(72);
            assert_eq!(shown(&b)[..], want(72, 72), "{kind:?}");
            b.with(|cx| chrono_stop(cx, kind));
            wait(100);
            assert_eq!(shown(&b)[..], want(172, 72), "{kind:?}");
            b.with(|cx| chrono_start(cx, kind));
            wait(24 * 60);
            b.ack(100);
            wait(1);
            assert_eq!(shown(&b)[..], want(172 + 24 * 60, 72 + 24 * 60), "{kind:?}");
        }
    }
}
