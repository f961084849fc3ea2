//! Who runs softirq, and how a thread waits: the [`Runner`](crate::stack::runner::Runner)s. One is chosen with the
//! stack. Above: blocking calls, through `Stack::block` (`sock::wait`, poll, epoll). Below: `Stack::poll`.
//!
//! | file | runner |
//! |---|---|
//! | `lease` | [`Lease`]: real time; threads wait in the devices' own descriptors |
//! | `virtual_time` | [`VirtualTime`], [`Parked`]: waiting steps the simulation, or is for others to end |

pub(crate) mod lease;
pub(crate) mod virtual_time;

pub use lease::Lease;
pub use virtual_time::{Parked, Scheduler, Settled, Step, VirtualTime};
