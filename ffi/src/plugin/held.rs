//! Which socks this thread owns inside a plug-in: those an operation was lent, and those it locked itself. A plug-in that leaves an
//! operation without releasing, by mistake or by a panic, is noticed here and the sock released; one that would wait for itself
//! is told EDEADLK.

use super::sock::Handle;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use usersock::error::{Error, Result};
use usersock::sock::{Sock, SockGuard};

/// A sock that was locked by usk_lock_sock: the guard, and the handle that it borrows from. Boxed, and so in one place.
struct Slot {
    /// Before `handle`, which it borrows from: dropped first.
    guard: Option<SockGuard<'static>>,
    handle: Option<Handle>,
}

struct Entry {
    sock: *const Sock,
    /// None: an operation was lent it.
    slot: Option<Box<Slot>>,
    /// Not owned just now: the thread sleeps for it, and runs packets and timers of others meanwhile.
    asleep: bool,
}

struct Held {
    entries: Vec<Entry>,
    /// To use again. Boxes, since guards in use must not move when a vector grows.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Slot>>,
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held { entries: Vec::new(), spare: Vec::new() }) };
}

fn held<R>(f: impl FnOnce(&mut Held) -> R) -> R {
    HELD.with(|h| f(&mut h.borrow_mut()))
}

/// Whether this thread, somewhere below, owns the sock for a plug-in.
#[inline]
pub(crate) fn owns(sock: &Arc<Sock>) -> bool {
    let sock = Arc::as_ptr(sock);
    held(|h| h.entries.iter().any(|e| e.sock == sock && !e.asleep))
}

/// Whether it owns any.
#[inline]
pub(crate) fn any() -> bool {
    held(|h| !h.entries.is_empty())
}

/// Runs `f`, in which the sock is given up and taken again.
pub(super) fn asleep<R>(sock: &Arc<Sock>, f: impl FnOnce() -> R) -> R {
    let set = |asleep| {
        let sock = Arc::as_ptr(sock);
        held(|h| h.entries.iter_mut().filter(|e| e.sock == sock).for_each(|e| e.asleep = asleep));
    };
    set(true);
    let r = f();
    set(false);
    r
}

/// Runs a function of a plug-in, which is lent the ownership of `lent` unless that is null. EIO: it locked a sock and did not release
/// it (that is released, broken), or a panic of this Rust run time left it. An exception of C++, or a panic of another Rust run
/// time (a shared object has its own), cannot be caught here: that run time ends the process.
#[inline]
pub(super) fn run<R>(lent: *const Sock, f: impl FnOnce() -> R) -> Result<R> {
    let depth = held(|h| {
        let depth = h.entries.len();
        if !lent.is_null() {
            h.entries.push(Entry { sock: lent, slot: None, asleep: false });
        }
        depth
    });
    let r = catch_unwind(AssertUnwindSafe(f));
    let mut leaked = false;
    while let Some(entry) = held(|h| if h.entries.len() > depth { h.entries.pop() } else { None }) {
        if let Some(mut slot) = entry.slot {
            leaked = true;
            if let Some(guard) = slot.guard.take() {
                guard.sock.broken.store(true, Ordering::Relaxed);
                guard.sock.report_error(Error::Io);
            }
            recycle(slot);
        }
    }
    match r {
        Ok(r) if !leaked => Ok(r),
        _ => Err(Error::Io),
    }
}

/// Owns the sock behind a handle for the caller; waits for it. EDEADLK: this thread owns it already. The guard stays where the pointer
/// says until [`unlock`].
/// # Safety
/// The handle is valid until then.
pub(super) unsafe fn lock(handle: Handle) -> Result<*mut SockGuard<'static>> {
    if owns(handle.sock()) {
        return Err(Error::Deadlk);
    }
    let sock = Arc::as_ptr(handle.sock());
    let mut slot = held(|h| h.spare.pop()).unwrap_or_else(|| Box::new(Slot { guard: None, handle: None }));
    let handle: *const Handle = slot.handle.insert(handle);
    // SAFETY: the handle is in the box, which does not move, and is dropped after the guard.
    let handle: &'static Handle = unsafe { &*handle };
    let guard: *mut SockGuard<'static> = slot.guard.insert(handle.sk().lock());
    held(|h| h.entries.push(Entry { sock, slot: Some(slot), asleep: false }));
    Ok(guard)
}

/// Releases what [`lock`] gave. EINVAL: it is not there, any more or on this thread.
pub(super) fn unlock(guard: *mut SockGuard<'static>) -> Result<()> {
    let guard_of = |e: &Entry| Some(std::ptr::from_ref(e.slot.as_ref()?.guard.as_ref()?));
    let of = |e: &Entry| guard_of(e) == Some(guard.cast_const());
    let entry = held(|h| h.entries.iter().rposition(of).map(|at| h.entries.remove(at)));
    let mut slot = entry.and_then(|e| e.slot).ok_or(Error::Inval)?;
    // Packets and deferred work run here: they may lock and be lent other socks.
    drop(slot.guard.take());
    recycle(slot);
    Ok(())
}

fn recycle(mut slot: Box<Slot>) {
    slot.handle = None;
    held(|h| h.spare.push(slot));
}
