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

/// Whether the accept queue is full with `waiting` connections in it. As in Linux, it holds one more than the backlog
/// `max` (sk_acceptq_is_full).
pub(crate) fn acceptq_is_full(waiting: u32, max: u32) -> bool {
    waiting > max
}

/// Finished connections of a listener, oldest first. The listener's `max_ack_backlog` bounds their number.
#[derive(Debug, Default)]
pub struct AcceptQueue(VecDeque<Arc<Sock>>);

impl AcceptQueue {
    /// Number of queued connections.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Adds a finished connection; the caller then wakes the listener (`Events::IN`). Returns the connection when the
    /// queue is full, that is, when it already holds more than `max`.
    pub fn push(&mut self, child: Arc<Sock>, max: u32) -> std::result::Result<(), Arc<Sock>> {
        if acceptq_is_full(self.0.len() as u32, max) {
            return Err(child);
        }
        self.0.push_back(child);
        Ok(())
    }
    /// The queued connections, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Sock>> {
        self.0.iter()
    }
    /// Removes the oldest connection.
    pub fn pop(&mut self) -> Option<Arc<Sock>> {
        self.0.pop_front()
    }
}

/// Takes a finished connection with `pop`, or waits for one. Process context. EINVAL: not listening; EAGAIN: the queue
/// is empty and the call does not wait, or the receive timeout expired; EINTR.
pub fn accept(
    sk: SockRef<'_>,
    nonblock: bool,
    mut pop: impl FnMut(&mut SockGuard<'_>) -> Option<Arc<Sock>>,
) -> Result<Arc<Sock>> {
    let mut g = sk.lock();
    let deadline = g.common.rcvtimeo.get().map(|t| g.now() + t);
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
