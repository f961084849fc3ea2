//! How threads of a stack wait, and who runs softirq meanwhile: what a stack asks of its driver. Above: `Stack::block`.
//! Filled by: `driver`, and whoever drives a stack in a way of his own (the packetdrill plug-in).

pub use crate::base::waiter::{Waiter, Woken};

use super::Stack;
use crate::base::env::{Duration, Instant};
use std::os::fd::RawFd;
use std::sync::Arc;

/// How threads of a stack wait, and who works while they do.
pub trait Runner: Send + Sync {
    /// Blocks the calling thread, which owns no sock, until `waiter` is woken or `deadline` passes; runs softirq
    /// meanwhile if that is this thread's turn. `extra`: descriptors of the kernel whose readiness (poll events) also
    /// ends the wait; the caller looks at them again itself.
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &[(RawFd, i16)],
    ) -> Woken;

    /// Looks at the devices again and again, without sleeping, until `waiter` is woken or `time` is over
    /// (SO_BUSY_POLL). Where time is virtual there is nothing to gain.
    fn busy_poll(&self, _stack: &Arc<Stack>, _waiter: &Arc<Waiter>, _time: Duration) {}

    /// An earlier timer deadline, or work for softirq, appeared while possibly nobody looks.
    fn kick(&self, stack: &Arc<Stack>);
}
