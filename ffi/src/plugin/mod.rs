//! Plug-ins in C: what a program or a shared object adds to a stack at run time. The Rust plug points are in the core
//! (`sock::proto::Proto` and its kin); each file here is the C mirror of one, or of what a protocol may call.
//!
//! | file | what |
//! |---|---|
//! | `load` | loading and unloading; registering and unregistering what a table describes |
//! | `table` | reading a table of an older or newer header |
//! | `proto`, `cproto` | struct usk_proto, and the protocol made of one |
//! | `sock`, `owned`, `wait` | handles: usk_sock_t, usk_owned_t; ownership, addresses, queues, memory, timers, sleeping |
//! | `skb`, `msg` | packets and the program's messages |
//! | `ports`, `ip` | binding, look-up, connections; routes, output, checksums |
//! | `sock_ops`, `hook` | struct usk_sock_ops: hooks into TCP, and what one may call; header options |
//! | `ulp`, `below` | struct usk_ulp_ops: upper-layer protocols, and what one calls of the protocol below |
//! | `lists` | counters and sysctls that a table names |
//! | `cong`, `cong_tcp` | struct usk_cong_ops: congestion control of TCP's connections, and their numbers |
//! | `device` | struct usk_device_ops: kinds of devices |
//! | `borrow` | congestion control for protocols other than TCP |
//! | `own` | counters and sysctls of a protocol's own |
//!
//! Below, shared with the calls of programs: `loader` (shared objects, what a plug-in has registered), `handle` and `held` (socks
//! in plug-ins' hands), `note`, `stacks`. Nothing there, and no call of a program, names this folder.
//!
//! Calls that a plug-in makes answer as functions in the kernel do: 0 or more, or a negative errno; a pointer, or null.

pub mod below;
pub mod borrow;
pub mod cong;
pub mod cong_tcp;
pub mod device;
pub mod hook;
pub mod ip;
pub mod load;
pub mod msg;
pub mod own;
pub mod owned;
pub mod ports;
pub mod proto;
pub mod skb;
pub mod sock;
pub mod sock_ops;
pub mod ulp;
pub mod wait;

mod cproto;
mod lists;
mod table;

use crate::boundary::panicked;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use usersock::error::{Error, Result};

/// What a call of a plug-in answers: its value, or an errno told in its own way.
pub(crate) trait KernelValue {
    /// The answer that says `e`.
    fn failed(e: Error) -> Self;
}
impl KernelValue for c_int {
    fn failed(e: Error) -> c_int {
        -e.errno()
    }
}
impl KernelValue for isize {
    fn failed(e: Error) -> isize {
        -(e.errno() as isize)
    }
}
impl KernelValue for i64 {
    fn failed(e: Error) -> i64 {
        -i64::from(e.errno())
    }
}
impl KernelValue for u32 {
    fn failed(_: Error) -> u32 {
        0
    }
}
impl KernelValue for u64 {
    fn failed(_: Error) -> u64 {
        0
    }
}
impl KernelValue for usize {
    fn failed(_: Error) -> usize {
        0
    }
}
impl KernelValue for () {
    fn failed(_: Error) {}
}
impl<T> KernelValue for *mut T {
    fn failed(_: Error) -> *mut T {
        std::ptr::null_mut()
    }
}
impl<T> KernelValue for *const T {
    fn failed(_: Error) -> *const T {
        std::ptr::null()
    }
}

/// The gate of the calls a plug-in makes: errors to negative errnos, panics to EIO. `boundary` is its counterpart for programs.
/// Costs nothing where nothing fails, and leaves errno alone.
#[inline]
pub(crate) fn kernel<T: KernelValue>(f: impl FnOnce() -> Result<T>) -> T {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(v)) => v,
        Ok(Err(e)) => T::failed(e),
        Err(panic) => T::failed(panicked(panic)),
    }
}

/// What a plug-in's pointer points to. Plug-ins are part of the process as the kernel's modules are of the kernel: null is refused,
/// other addresses are believed.
/// # Safety
/// `p` is null or readable as a `T`, and nobody writes to it while the result is used.
#[inline]
pub(crate) unsafe fn obj<'a, T>(p: *const T) -> Result<&'a T> {
    // SAFETY: by the caller's word.
    unsafe { p.as_ref() }.ok_or(Error::Fault)
}

/// # Safety
/// `p` is null or writable as a `T`, and nobody else uses it while the result is.
#[inline]
pub(crate) unsafe fn obj_mut<'a, T>(p: *mut T) -> Result<&'a mut T> {
    // SAFETY: by the caller's word.
    unsafe { p.as_mut() }.ok_or(Error::Fault)
}
