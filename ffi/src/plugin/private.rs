//! The data of a C protocol in each of its socks, and access to it from an owned sock. Above: `ports`, `owned`,
//! `cproto`.

use super::gate::kernel;
use super::guard::{guard, usk_owned_t};
use super::inner::InnerSock;
use super::proto::ProtoReg;
use super::registration::usk_reg_t;
use std::ffi::c_void;
use std::net::IpAddr;
use std::sync::Arc;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::ip::source::LastSource;
use usersock::sock::accept::AcceptQueue;
use usersock::sock::{Sock, SockCommon, SockGuard, SockState};
use usersock::stack::{Stack, TimerSlot};

/// The C protocol's part of a sock.
pub(crate) struct Private {
    reg: Arc<ProtoReg>,
    /// u128, for the alignment of 16; from Box::into_raw, freed by the drop. Only the plug-in accesses it, by pointers
    /// that it keeps: a Box would assert that it is the only pointer.
    memory: *mut [u128],
    timers: Vec<TimerSlot>,
    pub(super) accept: Option<Box<AcceptQueue>>,
    /// Socks of other protocols that it uses.
    pub(super) inner: Vec<InnerSock>,
    /// The port under which it is in the port table.
    pub(super) bound: Option<u16>,
    /// Made by usk_new_child.
    pub(super) child: bool,
    /// usk_accept_push has queued it: once in its life.
    pub(super) queued: bool,
    /// No program has the sock, and no system call on it runs: a child that is not accepted, or a closed sock.
    pub(super) orphan: bool,
    /// A child in the port table under its listener's port: the port, and the peer.
    pub(super) adopted: Option<(u16, (IpAddr, u16))>,
    /// Of usk_source, where the sock is not connected.
    pub(super) last_source: Option<LastSource>,
    /// `destroy` has run.
    done: bool,
    /// An operation for a packet or a timer runs, perhaps in a thread of a program: it may not sleep.
    pub(super) bottom: bool,
}

// SAFETY: only the plug-in uses the memory, with the sock owned, from whatever thread owns it.
unsafe impl Send for Private {}

impl Drop for Private {
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw, freed once; the sock is gone, so no operation can use it any more.
        drop(unsafe { Box::from_raw(self.memory) });
    }
}

impl Private {
    /// The state before init: zeroed memory, all else empty.
    pub(super) fn new(reg: Arc<ProtoReg>) -> Private {
        let words = (reg.table.obj_size as usize).div_ceil(16);
        Private {
            reg,
            memory: Box::into_raw(vec![0; words].into_boxed_slice()),
            timers: Vec::new(),
            accept: None,
            inner: Vec::new(),
            bound: None,
            child: false,
            queued: false,
            orphan: false,
            adopted: None,
            last_source: None,
            done: false,
            bottom: false,
        }
    }
    pub(super) fn registration(&self) -> &Arc<ProtoReg> {
        &self.reg
    }
    /// Whether it is finished: `destroy` has run.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }
    pub(super) fn memory(&self) -> *mut c_void {
        self.memory.cast()
    }
    /// The slot of a timer, made at its first use. None: no such index.
    pub(super) fn timer(&mut self, index: u32) -> Option<&mut TimerSlot> {
        let index = usize::try_from(index).ok().filter(|i| *i < 32)?;
        while self.timers.len() <= index {
            self.timers.push(TimerSlot::default());
        }
        self.timers.get_mut(index)
    }
    /// Marks the timers whose time has come as not armed.
    pub(super) fn timers_fired(&mut self, now: Instant) {
        for t in self.timers.iter_mut().filter(|t| t.at().is_some_and(|at| at <= now)) {
            t.fired();
        }
    }
    /// Finishes the sock: cancels the timers. False: it was finished before.
    pub(super) fn end(&mut self, stack: &Stack) -> bool {
        if std::mem::replace(&mut self.done, true) {
            return false;
        }
        for t in &mut self.timers {
            stack.timers.cancel(t);
        }
        true
    }
}

/// The parts of an owned sock of a C protocol.
pub(crate) struct Parts<'a, 'g> {
    pub stack: &'g Arc<Stack>,
    pub sock: &'g Arc<Sock>,
    pub common: &'a mut SockCommon,
    pub private: &'a mut Private,
}

/// EINVAL when the sock is another protocol's.
pub(crate) fn parts<'a, 'g>(g: &'a mut SockGuard<'g>) -> Result<Parts<'a, 'g>> {
    let (stack, sock) = (g.stack, g.sock);
    let state: &'a mut SockState = &mut *g;
    let private = state.private.downcast_mut().ok_or(Error::Inval)?;
    Ok(Parts { stack, sock, common: &mut state.common, private })
}

/// As [`parts`], for a sock that is not finished: a finished one must not enter a table or a queue, or arm a timer,
/// because nothing would undo it. EINVAL: it is finished, or is another protocol's.
pub(crate) fn living<'a, 'g>(g: &'a mut SockGuard<'g>) -> Result<Parts<'a, 'g>> {
    let p = parts(g)?;
    if p.private.is_done() { Err(Error::Inval) } else { Ok(p) }
}

/// Sets whether no program has the sock.
pub(super) fn set_orphan(g: &mut SockGuard<'_>, orphan: bool) {
    let Ok(p) = parts(g) else { return };
    p.private.orphan = orphan;
    match orphan && !p.private.is_done() {
        true => p.sock.orphan(p.stack),
        false => p.sock.graft(p.stack),
    }
}

/// As [`guard`], and then [`parts`].
/// # Safety
/// As [`guard`].
pub(super) unsafe fn private<'a>(o: *mut usk_owned_t) -> Result<&'a mut Private> {
    // SAFETY: passed on.
    parts(unsafe { guard(o) }?).map(|p| p.private)
}

/// The registration of the sock's protocol, for usk_count and others; null for a protocol that is not written in C.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_reg(o: *mut usk_owned_t) -> *mut usk_reg_t {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { private(o) }.map(|p| p.reg.handle()))
}

/// The protocol's private memory of a sock: obj_size bytes, initially zero, aligned to 16; the address does not change
/// while the sock exists.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_private(o: *mut usk_owned_t) -> *mut c_void {
    // SAFETY: owned, as the caller guarantees.
    kernel(|| unsafe { private(o) }.map(|p| p.memory()))
}
