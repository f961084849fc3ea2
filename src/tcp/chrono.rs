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

impl Chrono {
    /// Its place in `TcpSock::chrono_us`.
    fn slot(self) -> Option<usize> {
        match self {
            Chrono::None => None,
            Chrono::Busy => Some(0),
            Chrono::RwndLimited => Some(1),
            Chrono::SndbufLimited => Some(2),
        }
    }
}

fn set(tp: &mut TcpSock, now: Instant, new: Chrono) {
    if let Some(i) = tp.chrono_type.slot() {
        tp.chrono_us[i] = tp.chrono_us[i].wrapping_add(now.micros_since(tp.chrono_start) as u32);
    }
    tp.chrono_start = now;
    tp.chrono_type = new;
}

/// A limit begins to hold; ignored while a stronger one does.
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

/// Time under each limit until now, µs: busy in total, rwnd limited, sndbuf limited (tcp_get_info_chrono_stats).
pub(crate) fn chrono_stats(tp: &TcpSock, now: Instant) -> [u64; 3] {
    let mut by_kind = tp.chrono_us.map(u64::from);
    if let Some(i) = tp.chrono_type.slot() {
        by_kind[i] += now.micros_since(tp.chrono_start) as u64;
    }
    [by_kind.iter().sum(), by_kind[1], by_kind[2]]
}
