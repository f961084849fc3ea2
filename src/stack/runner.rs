//! How threads of a stack wait, and who runs softirq meanwhile: the interface of a stack to its driver. Above:
//! `Stack::block`. Implemented by: `driver`, and programs that drive a stack themselves (the packetdrill plug-in).

pub use crate::base::waiter::{Waiter, Woken};
pub use crate::sys::poll::PollFd;

use super::Stack;
use crate::base::env::{Duration, Instant};
use std::sync::Arc;

/// How threads of a stack wait, and which thread runs softirq meanwhile.
pub trait Runner: Send + Sync {
    /// Blocks the calling thread, which owns no sock, until `waiter` is woken or `deadline` passes; runs softirq
    /// meanwhile if that is this thread's turn. `extra`: kernel descriptors whose readiness also ends the wait. It
    /// looks at them in the same system call in which it sleeps and leaves the events there, so that the caller need
    /// not look again; a wait that was over before it slept has not looked ([`PollFd::is_polled`]).
    fn block(&self, stack: &Arc<Stack>, waiter: &Arc<Waiter>, deadline: Option<Instant>, extra: &mut [PollFd])
    -> Woken;

    /// Polls the devices without sleeping until `waiter` is woken or `time` is over (SO_BUSY_POLL). Default: nothing,
    /// as in virtual time.
    fn busy_poll(&self, _stack: &Arc<Stack>, _waiter: &Arc<Waiter>, _time: Duration) {}

    /// Receives what is in the devices' queues now, without a wait: a sender holds data back until an acknowledgement
    /// comes, which may be there. The caller owns no sock. Default: nothing, as in virtual time, and where the
    /// program's own loop reads the devices.
    fn receive_now(&self, _stack: &Arc<Stack>) {}

    /// Called when an earlier timer deadline or softirq work appears while possibly no thread is waiting for it.
    fn kick(&self, stack: &Arc<Stack>);

    /// Has the threads that sleep in the devices look again what there is to do: a packet has to wait for room in a
    /// device, for which they are to wait too, or work was scheduled by a thread that may not come back. Called under
    /// any lock. Default: nothing, as in virtual time.
    fn look_again(&self, _stack: &Arc<Stack>) {}
}
