//! How many children of a listener wait for their final ACK. The bound is what stops a flood of SYNs with stolen
//! cookies (RFC 7413 §5.1): a connection that was reset, as one is whose source address was spoofed, keeps its place
//! for a minute. Above: `server`, `listener`. A leaf lock: children enter it while they own themselves only. Linux:
//! struct fastopen_queue, reqsk_fastopen_remove.

use crate::base::env::{Duration, Instant};
use crate::sys::lock::Mutex;
use std::collections::VecDeque;

/// How long a connection that was reset keeps its place.
const RST_HOLD: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    /// Most children; 0: the listener takes no part in Fast Open.
    max_qlen: u32,
    /// Children that wait, and places of `rst`.
    qlen: u32,
    /// When the place of each connection that was reset is free again, in order.
    rst: VecDeque<Instant>,
    listening: bool,
}

/// See the module's text. Shared by a listener and its children.
#[derive(Debug, Default)]
pub(crate) struct FastOpenQueue(Mutex<State>);

impl FastOpenQueue {
    /// Sets the bound, at most `somaxconn` (fastopen_queue_tune).
    pub(crate) fn tune(&self, most: u32, somaxconn: u32) {
        self.0.lock().max_qlen = most.min(somaxconn);
    }

    /// The bound.
    pub(crate) fn max_qlen(&self) -> u32 {
        self.0.lock().max_qlen
    }

    /// The listener begins, with an empty queue.
    pub(crate) fn start(&self) {
        let mut q = self.0.lock();
        (q.qlen, q.listening) = (0, true);
        q.rst.clear();
    }

    /// It has begun before it had a queue.
    pub(super) fn go_on(&self) {
        self.0.lock().listening = true;
    }

    /// It ends.
    pub(crate) fn stop(&self) {
        let mut q = self.0.lock();
        q.listening = false;
        q.rst.clear();
    }

    /// Whether there is room for one more. `overflowed`: there is none. The place of the connection that was reset
    /// first is taken if its time is over.
    pub(super) fn has_room(&self, now: Instant, overflowed: impl FnOnce()) -> bool {
        let mut q = self.0.lock();
        if q.max_qlen == 0 {
            return false;
        }
        if q.qlen >= q.max_qlen {
            if q.rst.front().is_none_or(|at| *at > now) {
                overflowed();
                return false;
            }
            q.rst.pop_front();
            q.qlen -= 1;
        }
        true
    }

    /// A child joins.
    pub(super) fn join(&self) {
        self.0.lock().qlen += 1;
    }

    /// A child leaves: its handshake is over. `reset`: by a RST after it was accepted, so that it keeps its place.
    pub(super) fn leave(&self, now: Instant, reset: bool) {
        let mut q = self.0.lock();
        if reset && q.listening {
            q.rst.push_back(now + RST_HOLD);
        } else {
            q.qlen = q.qlen.saturating_sub(1);
        }
    }
}
