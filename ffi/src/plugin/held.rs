//! Which socks this thread owns inside a plug-in: those an operation was lent, and those it locked itself. A plug-in that leaves an
//! operation without releasing, by mistake or by a panic, is noticed here and the sock released; one that would wait for itself
//! is told EDEADLK.
//!
//! A thread's list is a small array in its own memory, used as a stack: what is in it stays in place, and adding to it costs next
//! to nothing on the data path.

use super::sock::Handle;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use usersock::error::{Error, Result};
use usersock::sock::{Sock, SockGuard};

/// Operations within operations, and socks locked in them: more than any protocol has reason for.
const MOST: usize = 24;

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An operation was lent it.
    Lent,
    /// usk_lock_sock locked it: the guard is in the entry.
    Locked,
    /// Not owned just now: the thread sleeps for it, and runs packets and timers of others meanwhile.
    Asleep(bool),
    /// Its guard is being dropped.
    Releasing,
    /// Released, below one that is not.
    Gone,
}

struct Entry {
    sock: Cell<*const Sock>,
    kind: Cell<Kind>,
    /// Of what is locked: the guard, and the handle it borrows from.
    guard: UnsafeCell<MaybeUninit<SockGuard<'static>>>,
    handle: UnsafeCell<MaybeUninit<Handle>>,
}

struct Held {
    len: Cell<usize>,
    entries: [Entry; MOST],
}

thread_local! {
    static HELD: Held = const {
        Held {
            len: Cell::new(0),
            entries: [const {
                Entry {
                    sock: Cell::new(std::ptr::null()),
                    kind: Cell::new(Kind::Gone),
                    guard: UnsafeCell::new(MaybeUninit::uninit()),
                    handle: UnsafeCell::new(MaybeUninit::uninit()),
                }
            }; MOST],
        }
    };
}

impl Held {
    fn used(&self) -> &[Entry] {
        &self.entries[..self.len.get().min(MOST)]
    }

    /// A new entry at the top. ENOLCK: there are too many.
    fn push(&self, sock: *const Sock, kind: Kind) -> Result<&Entry> {
        let entry = self.entries.get(self.len.get()).ok_or(Error::NoLck)?;
        entry.sock.set(sock);
        entry.kind.set(kind);
        self.len.set(self.len.get() + 1);
        Ok(entry)
    }

    /// Takes off what is released at the top.
    fn trim(&self) {
        while self.used().last().is_some_and(|e| e.kind.get() == Kind::Gone) {
            self.len.set(self.len.get() - 1);
        }
    }

    fn owns(&self, sock: *const Sock) -> bool {
        self.used().iter().any(|e| e.sock.get() == sock && matches!(e.kind.get(), Kind::Lent | Kind::Locked))
    }
}

impl Entry {
    /// Drops the guard: packets and deferred work run here, which may lock and be lent other socks, above this entry.
    fn release(&self) {
        self.kind.set(Kind::Releasing);
        // SAFETY: the entry was Locked, so `lock` wrote a guard and nobody has dropped it since; no reference to it is in use by
        // this thread, the only one that has any.
        unsafe { (*self.guard.get()).assume_init_drop() };
        self.kind.set(Kind::Gone);
    }
}

/// Whether this thread, somewhere below, owns the sock for a plug-in.
#[inline]
pub(crate) fn owns(sock: &Arc<Sock>) -> bool {
    HELD.with(|h| h.owns(Arc::as_ptr(sock)))
}

/// Whether it owns any.
#[inline]
pub(crate) fn any() -> bool {
    HELD.with(|h| h.len.get() > 0)
}

/// Runs `f`, in which the sock is given up and taken again.
pub(super) fn asleep<R>(sock: &Arc<Sock>, f: impl FnOnce() -> R) -> R {
    let set = |from: fn(Kind) -> Kind| {
        let sock = Arc::as_ptr(sock);
        HELD.with(|h| h.used().iter().filter(|e| e.sock.get() == sock).for_each(|e| e.kind.set(from(e.kind.get()))));
    };
    set(|kind| match kind {
        Kind::Lent => Kind::Asleep(false),
        Kind::Locked => Kind::Asleep(true),
        other => other,
    });
    let r = f();
    set(|kind| match kind {
        Kind::Asleep(false) => Kind::Lent,
        Kind::Asleep(true) => Kind::Locked,
        other => other,
    });
    r
}

/// Runs a function of a plug-in, which is lent the ownership of `lent` unless that is null. EIO: it locked a sock and did not release
/// it (that is released, broken), or a panic of this Rust run time left it. An exception of C++, or a panic of another Rust run
/// time (a shared object has its own), cannot be caught here: that run time ends the process.
#[inline]
pub(super) fn run<R>(lent: *const Sock, f: impl FnOnce() -> R) -> Result<R> {
    let depth = HELD.with(|h| {
        let depth = h.len.get();
        if lent.is_null() { Ok(depth) } else { h.push(lent, Kind::Lent).map(|_| depth) }
    })?;
    let r = catch_unwind(AssertUnwindSafe(f));
    let leaked = leave(depth);
    match r {
        Ok(r) if !leaked => Ok(r),
        _ => Err(Error::Io),
    }
}

/// Takes everything above `depth` off. True when a sock was among it that somebody should have released: it is now, and broken.
#[inline]
fn leave(depth: usize) -> bool {
    HELD.with(|h| {
        let mut leaked = false;
        while h.len.get() > depth {
            let Some(top) = h.used().last() else { break };
            // Asleep: a panic left usk_wait; the guard is there and has been taken back.
            if matches!(top.kind.get(), Kind::Locked | Kind::Asleep(true)) {
                leaked = true;
                // SAFETY: as the kind says, there is a guard.
                let sock = unsafe { (*top.guard.get()).assume_init_ref() }.sock;
                sock.broken.store(true, Ordering::Relaxed);
                sock.report_error(Error::Io);
                top.release();
            }
            top.kind.set(Kind::Gone);
            h.len.set(h.len.get() - 1);
        }
        leaked
    })
}

/// Owns the sock behind a handle for the caller; waits for it. EDEADLK: this thread owns it already; ENOLCK: it owns too many. The guard
/// stays where the pointer says until [`unlock`].
/// # Safety
/// The handle is valid until then.
#[inline]
pub(super) unsafe fn lock(handle: Handle) -> Result<*mut SockGuard<'static>> {
    HELD.with(|h| {
        let sock = Arc::as_ptr(handle.sock());
        if h.owns(sock) {
            return Err(Error::Deadlk);
        }
        let entry = h.push(sock, Kind::Gone)?;
        // SAFETY: a new entry's places are free. What is written stays in place, in this thread's memory, until `unlock`: the guard
        // may borrow from the handle beside it. Nothing runs on this thread while it waits for the sock.
        unsafe {
            let handle: &'static Handle = (*entry.handle.get()).write(handle);
            let guard = std::ptr::from_mut((*entry.guard.get()).write(handle.sk().lock()));
            entry.kind.set(Kind::Locked);
            Ok(guard)
        }
    })
}

/// Releases what [`lock`] gave. EINVAL: it is not there, any more or on this thread.
#[inline]
pub(super) fn unlock(guard: *mut SockGuard<'static>) -> Result<()> {
    HELD.with(|h| {
        let of = |e: &&Entry| e.kind.get() == Kind::Locked && std::ptr::eq(e.guard.get().cast(), guard);
        h.used().iter().rfind(of).ok_or(Error::Inval)?.release();
        h.trim();
        Ok(())
    })
}
