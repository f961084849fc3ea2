//! Who runs softirq, and how a thread waits: the implementations of [`Runner`](crate::stack::runner::Runner). A stack
//! is created with one of them. Above: blocking calls, through `Stack::block` (`sock::wait`, poll, epoll). Below:
//! `Stack::poll`. A thread owns no sock while it waits here, since it may process packets for any of them.
//!
//! | file | runner |
//! |---|---|
//! | `lease` | [`Lease`]: real time; threads wait in the devices' own descriptors |
//! | `burst` | how many packets the lease reads after one wait |
//! | `eager` | whether the lease looks at the devices before it sleeps |
//! | `event_loop` | [`EventLoop`]: real time; the program's own event loop waits and calls |
//! | `script` | [`ScriptThread`]: threads of a simulation, of which one at a time runs |
//! | `virtual_time` | [`VirtualTime`], [`Parked`]: a wait steps the simulation, or another thread ends it |

mod burst;
mod eager;
pub(crate) mod event_loop;
pub(crate) mod lease;
pub(crate) mod script;
pub(crate) mod virtual_time;

pub use event_loop::EventLoop;
pub use lease::Lease;
pub use script::ScriptThread;
pub use virtual_time::{Parked, Scheduler, Settled, Step, VirtualTime};
