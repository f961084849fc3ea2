//! accept(2) for every protocol with connections: the wait, and a queue for protocols that are plugged in (TCP's
//! listener keeps its own, among its requests). Above: `Proto::accept`. Linux: inet_csk_accept,
//! inet_csk_reqsk_queue_add.

use crate::base::error::{Error, Result};
use crate::sock::proto::SockRef;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{Sock, SockGuard};
use std::collections::VecDeque;
use std::sync::Arc;

/// Whether no other connection may wait beside `waiting` (sk_acceptq_is_full): one more may than the backlog `max`.
pub(crate) fn acceptq_is_full(waiting: u32, max: u32) -> bool {
    waiting > max
}

/// Finished connections of a listener, oldest first. How many may wait is the listener's `max_ack_backlog`.
#[derive(Debug, Default)]
pub struct AcceptQueue(VecDeque<Arc<Sock>>);

impl AcceptQueue {
    /// Connections that wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Adds a finished connection; the caller wakes the listener (`Events::IN`). Gives it back when more wait than
    /// `max` and one.
    pub fn push(&mut self, child: Arc<Sock>, max: u32) -> std::result::Result<(), Arc<Sock>> {
        if acceptq_is_full(self.0.len() as u32, max) {
            return Err(child);
        }
        self.0.push_back(child);
        Ok(())
    }
    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Arc<Sock>> {
        self.0.pop_front()
    }
}

/// Takes a finished connection with `pop`, or waits for one. Process context. EINVAL: not listening; EAGAIN: none, and
/// not waiting or the receive timeout is over; EINTR.
pub fn accept(
    sk: SockRef<'_>,
    nonblock: bool,
    mut pop: impl FnMut(&mut SockGuard<'_>) -> Option<Arc<Sock>>,
) -> Result<Arc<Sock>> {
    let mut g = sk.lock();
    let deadline = g.common.rcvtimeo.map(|t| g.now() + t);
    loop {
        if sk.sock.state() != State::Listen {
            return Err(Error::Inval);
        }
        if let Some(child) = pop(&mut g) {
            return Ok(child);
        }
        if nonblock {
            return Err(Error::Again);
        }
        g.sleep(Events::IN, true, deadline)?;
    }
}
