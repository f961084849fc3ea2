//! A TCP of one's own beside ours (TCP_STACK): an alternative takes the decisions of a connection that it wants (what
//! is lost, what is sent next, when a timeout comes) and leaves the others to ours. Tables, options, timers and the
//! state machine of recovery are shared: a connection can change hands while it lives. FreeBSD: struct
//! tcp_function_block; Linux has none. Above: `sockopt`, `input`, `ack`, `xmit`, `timer`, and who registers, in Rust or
//! through the C mirror. Below: `recovery`, `retransmit`.
//!
//! | file | what |
//! |---|---|
//! | `conn` | an alternative on a connection: begin, switch, end; where ours asks it |
//! | `calls` | what it may do to the connection |
//!
//! What an alternative keeps of a connection lies in the connection's less used part: a connection of ours pays for one
//! look at a byte in each place.

pub mod calls;
mod conn;
#[cfg(test)]
mod tests;

pub(super) use conn::{
    Tfb, acked, assign, cancel_timers, cleanup, copy, getsockopt, has, idle_output, input, name, output, quota,
    retransmit_timer, set, setsockopt, start, timer,
};

pub use super::input::Seg;
pub use super::tcb::{CaState, Cx, TcpSock};

use super::net;
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::sys::lock::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of ours, which an alternative cannot have.
pub const DEFAULT: &str = "default";
/// Bytes of a name with its final NUL.
pub const NAME_MAX: usize = 16;
/// Timers of its own that an alternative has on each connection.
pub const TIMERS: usize = 4;

/// Operations of an alternative that ours asks for on each segment: one without its bit is not called.
pub mod slot {
    /// `Functions::input`.
    pub const INPUT: u8 = 1;
    /// `Functions::ack`: RACK, loss probes and the duplicate threshold are off.
    pub const ACK: u8 = 2;
    /// `Functions::output`.
    pub const OUTPUT: u8 = 4;
    /// `Functions::timer`, for the retransmission timeout.
    pub const TIMER: u8 = 8;
}

/// Who goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// Nobody: the alternative has done it.
    Done,
    /// Ours, as if it had not been asked.
    Ours,
}

/// Which timer has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// The connection's retransmission timer.
    Rto,
    /// One of the alternative's own, by its number.
    Own(usize),
}

/// What an acknowledgement has done to the retransmit queue, for [`Functions::ack`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Acked {
    /// `snd_una` before it.
    pub prior_snd_una: crate::wire::seq::SeqNum,
    /// Segments newly delivered: acknowledged or selectively acknowledged, duplicates of SACK included.
    pub delivered: u32,
    /// Of those, by SACK.
    pub sacked: u32,
    /// Pure duplicates that it stands for (RFC 5681 §2).
    pub num_dupack: u32,
    /// RTT of the segment acknowledged last, if that was sent only once, microseconds; -1: no sample.
    pub rtt_us: i64,
    /// It echoes congestion (RFC 3168).
    pub ece: bool,
    /// It has a believable DSACK.
    pub dsack: bool,
    /// Some of what it acknowledges had been sent again.
    pub retrans_acked: bool,
}

/// An alternative on one connection. Methods are called with the sock owned, in either context, and never sleep; what
/// they may do is in [`calls`].
#[allow(unused_variables)]
pub trait Functions: Send {
    /// Bits of [`slot`].
    fn slots(&self) -> u8;
    /// Whether the connection may go to another TCP as it is now. An error, whichever: the program gets EBUSY.
    fn handoff_ok(&mut self, cx: &mut Cx<'_>) -> Result<()> {
        Ok(())
    }
    /// A segment of the connection has arrived, of which nothing has been checked but the checksum. `Done`: it is
    /// dropped.
    fn input(&mut self, cx: &mut Cx<'_>, seg: &Seg, timestamps: Option<(u32, u32)>) -> Go {
        Go::Ours
    }
    /// An acknowledgement has been taken off the retransmit queue and noted in its marks: marks what is lost. Recovery
    /// begins by itself when something is.
    fn ack(&mut self, cx: &mut Cx<'_>, acked: &Acked) {}
    /// Something may be sent: data waits, the window has moved, or something is marked lost.
    fn output(&mut self, cx: &mut Cx<'_>) -> Go {
        Go::Ours
    }
    /// A timer has fired.
    fn timer(&mut self, cx: &mut Cx<'_>, which: Fired) -> Go {
        Go::Ours
    }
    /// An option of its own. ENOPROTOOPT: it has no such one.
    fn setsockopt(&mut self, cx: &mut Cx<'_>, name: i32, value: &[u8]) -> Result<()> {
        Err(Error::NoProtoOpt)
    }
    /// The same: writes at most `value.len()` bytes, returns how many.
    fn getsockopt(&mut self, cx: &mut Cx<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
        Err(Error::NoProtoOpt)
    }
    /// The connection ends, or another TCP has it now.
    fn release(&mut self, cx: &mut Cx<'_>) {}
}

/// An alternative that can be chosen by name (struct tcp_function_block).
#[allow(unused_variables)]
pub trait FunctionBlock: Send + Sync + 'static {
    /// Name of 1 to 15 printable bytes, as TCP_STACK takes it.
    fn name(&self) -> &str;
    /// Whether it takes a connection that another TCP has served until now. An error, whichever: the program gets
    /// EBUSY.
    fn handoff_ok(&self, cx: &mut Cx<'_>) -> Result<()> {
        Ok(())
    }
    /// Begins on a connection: one that has just been established, or one that it takes over. After an error the
    /// connection stays with the TCP that it had, a new one with ours.
    fn start(&self, cx: &mut Cx<'_>) -> Result<Box<dyn Functions>>;
}

/// The alternatives of a stack, by name.
#[derive(Default)]
pub(crate) struct TfbRegistry {
    list: RwLock<Vec<Arc<dyn FunctionBlock>>>,
    /// That of new sockets (net.ipv4.tcp_stack); None: ours.
    default: Mutex<Option<Arc<dyn FunctionBlock>>>,
    /// There is one in `default`, so that a new socket of ours need not look.
    has_default: AtomicBool,
}

impl TfbRegistry {
    fn register(&self, block: Arc<dyn FunctionBlock>) -> Result<()> {
        let n = block.name();
        if n.is_empty() || n.len() >= NAME_MAX || n.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(Error::Inval);
        }
        let mut list = self.list.write();
        if n == DEFAULT || list.iter().any(|o| o.name() == n) {
            return Err(Error::Exist);
        }
        list.push(block);
        Ok(())
    }

    fn unregister(&self, name: &str) -> Result<()> {
        // References are cloned from the list under its lock, so none can be added while it is held.
        let mut list = self.list.write();
        let i = list.iter().position(|o| o.name() == name).ok_or(Error::NoEnt)?;
        if Arc::strong_count(&list[i]) > 1 {
            return Err(Error::Busy);
        }
        let gone = list.remove(i);
        // Dropping it may run a plug-in's code: not under the lock.
        drop(list);
        drop(gone);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Arc<dyn FunctionBlock>> {
        self.list.read().iter().find(|o| o.name() == name).cloned().ok_or(Error::NoEnt)
    }

    /// Names, newest first, ours last (net.ipv4.tcp_available_stacks; FreeBSD: net.inet.tcp.functions_available).
    pub(super) fn names(&self) -> String {
        let list = self.list.read();
        list.iter().rev().map(|o| o.name()).chain([DEFAULT]).collect::<Vec<_>>().join(" ")
    }

    /// Names, and how many sockets have each.
    pub(super) fn users(&self) -> Vec<(String, usize)> {
        let list = self.list.read();
        // Held while it is counted, so that the default's own reference is there or not.
        let default = self.default.lock();
        let is_default = |o: &Arc<dyn FunctionBlock>| default.as_ref().is_some_and(|d| Arc::ptr_eq(d, o));
        let of = |o: &Arc<dyn FunctionBlock>| Arc::strong_count(o) - 1 - usize::from(is_default(o));
        list.iter().map(|o| (o.name().to_owned(), of(o))).collect()
    }

    /// One becomes that of new sockets. ENOENT: there is none of that name (FreeBSD: net.inet.tcp.functions_default).
    pub(super) fn set_default(&self, name: &str) -> Result<()> {
        let new = if name == DEFAULT { None } else { Some(self.find(name)?) };
        self.has_default.store(new.is_some(), Ordering::Relaxed);
        let old = std::mem::replace(&mut *self.default.lock(), new);
        drop(old);
        Ok(())
    }

    /// That of a new socket; None: ours.
    #[inline]
    pub(super) fn default_of_new(&self) -> Option<Arc<dyn FunctionBlock>> {
        if self.has_default.load(Ordering::Relaxed) { self.default.lock().clone() } else { None }
    }
}

/// Adds an alternative to a stack's TCP. EINVAL: a bad name; EEXIST: it is taken; ENOPROTOOPT: the stack has no TCP.
/// FreeBSD: register_tcp_functions.
pub fn register(stack: &Stack, block: Arc<dyn FunctionBlock>) -> Result<()> {
    net::of(stack)?.tfb.register(block)
}

/// Removes one. ENOENT: there is none; EBUSY: sockets have it, or it is that of new sockets; ENOPROTOOPT: the stack has
/// no TCP. FreeBSD: deregister_tcp_functions.
pub fn unregister(stack: &Stack, name: &str) -> Result<()> {
    net::of(stack)?.tfb.unregister(name)
}
