//! Which socks this thread owns inside a plug-in: those of operations that are called owned, and those it locked
//! itself. If an operation returns without releasing a lock, by mistake or by a panic, the sock is released here; a
//! lock that would deadlock returns EDEADLK. Also here: which sock is another's inner sock, whose order of locking is
//! outer before inner; the gate for calls into a plug-in ([`run`], [`contain`]) and the checks of their return values.
//!
//! A thread's list is a small thread-local array, used as a stack: entries do not move, and pushing one costs next to
//! nothing on the data path.

use crate::boundary::panicked;
use crate::handle::{Handle, usk_sock_t};
use std::cell::{Cell, UnsafeCell};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use usersock::error::{Error, Result};
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::RwLock;
use usersock::sock::{Sock, SockGuard};

/// Nested operations, and socks locked in them: more than any protocol needs.
const MOST: usize = 24;

/// The kind of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The argument of an operation that is called owned.
    Lent,
    /// usk_lock_sock locked it: the guard is in the entry.
    Locked,
    /// Temporarily not owned: the thread sleeps, and processes packets and timers of other socks meanwhile.
    Asleep(bool),
    /// Its guard is being dropped.
    Releasing,
    /// Released, but a later entry is not.
    Gone,
}

struct Entry {
    sock: Cell<*const Sock>,
    kind: Cell<Kind>,
    /// For a lent sock of a C protocol: its lender's guard.
    lent: Cell<*mut SockGuard<'static>>,
    /// For a locked sock: the guard, and the handle that it borrows from.
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
                    lent: Cell::new(std::ptr::null_mut()),
                    guard: UnsafeCell::new(MaybeUninit::uninit()),
                    handle: UnsafeCell::new(MaybeUninit::uninit()),
                }
            }; MOST],
        }
    };
}

/// A plug-in has owned a sock in this process: until then nobody has to ask for [`HELD`].
static EVER: AtomicBool = AtomicBool::new(false);

/// Notes that an entry is about to be used.
#[inline]
fn note_used() {
    if !EVER.load(Ordering::Relaxed) {
        EVER.store(true, Ordering::Relaxed);
    }
}

impl Held {
    fn used(&self) -> &[Entry] {
        &self.entries[..self.len.get().min(MOST)]
    }

    /// The entry at a depth, which need not be in use. ENOLCK: beyond the array.
    #[inline]
    fn at(&self, depth: usize) -> Result<&Entry> {
        self.entries.get(depth).ok_or(Error::NoLck)
    }

    /// Pops released entries from the top.
    fn trim(&self) {
        while self.used().last().is_some_and(|e| e.kind.get() == Kind::Gone) {
            self.len.set(self.len.get() - 1);
        }
    }

    fn owns(&self, sock: *const Sock) -> bool {
        self.used().iter().any(|e| e.sock.get() == sock && matches!(e.kind.get(), Kind::Lent | Kind::Locked))
    }
}

impl Held {
    /// Whether one of the socks owned is an inner one of `sock`.
    #[cold]
    fn owns_within(&self, sock: *const Sock) -> bool {
        let outer = OUTER.get().read();
        let mine = self.used().iter().filter(|e| matches!(e.kind.get(), Kind::Lent | Kind::Locked));
        let is_within = |from: *const Sock| {
            let next = |at: &usize| outer.get(at).copied();
            std::iter::successors(next(&(from as usize)), next).any(|at| at == sock as usize)
        };
        !outer.is_empty() && mine.into_iter().any(|e| is_within(e.sock.get()))
    }
}

impl Entry {
    /// Marks the next entry as locked, with its guard.
    #[inline]
    fn keep(&self, sk: *mut usk_sock_t, guard: SockGuard<'static>, held: &Held) -> *mut SockGuard<'static> {
        // SAFETY: the entry is not in use yet, so nobody has a reference to what is there.
        let guard = std::ptr::from_mut(unsafe { (*self.guard.get()).write(guard) });
        note_used();
        self.sock.set(sk.cast::<Sock>().cast_const());
        self.kind.set(Kind::Locked);
        held.len.set(held.len.get() + 1);
        guard
    }

    #[inline]
    fn is_locked_by(&self, guard: *mut SockGuard<'static>) -> bool {
        std::ptr::eq(self.guard.get().cast(), guard) && self.kind.get() == Kind::Locked
    }

    /// Drops the guard: this runs packets and deferred work, which may push entries of other socks above this one.
    fn release(&self) {
        self.kind.set(Kind::Releasing);
        // SAFETY: the entry was Locked, so `lock` wrote a guard and nobody has dropped it since; no reference to it is
        // in use by this thread, the only one that has any.
        unsafe { (*self.guard.get()).assume_init_drop() };
        self.kind.set(Kind::Gone);
    }
}

/// Whether this thread owns the sock for a plug-in, at any depth.
#[inline]
pub(crate) fn owns(sock: &Arc<Sock>) -> bool {
    // What this thread has used, it has noted itself.
    EVER.load(Ordering::Relaxed) && HELD.with(|h| h.owns(Arc::as_ptr(sock)))
}

/// The outer sock of each inner one, by their addresses. Read only where a thread that owns a sock locks another.
/// A fork(2) child has its own, empty as it has none of the parent's socks: the parent's may be locked.
static OUTER: PerProcess<RwLock<BTreeMap<usize, usize>>> = PerProcess::new(RwLock::default);

/// From now on `inner` belongs to `outer`, or, if that is None, to nobody.
pub(crate) fn set_outer(inner: &Arc<Sock>, outer: Option<&Arc<Sock>>) {
    let (inner, mut all) = (Arc::as_ptr(inner) as usize, OUTER.get().write());
    match outer {
        Some(outer) => drop(all.insert(inner, Arc::as_ptr(outer) as usize)),
        None => drop(all.remove(&inner)),
    }
}

/// Whether locking the sock would deadlock: this thread owns it, or an inner sock of it, at any depth; while another
/// thread may own it and wait for that one.
#[inline]
pub(crate) fn would_deadlock(sock: &Arc<Sock>) -> bool {
    let deadlocks = |h: &Held| h.owns(Arc::as_ptr(sock)) || h.len.get() > 0 && h.owns_within(Arc::as_ptr(sock));
    EVER.load(Ordering::Relaxed) && HELD.with(deadlocks)
}

/// Whether this thread owns an inner sock of the sock, at any depth.
pub(crate) fn owns_within(sock: &Arc<Sock>) -> bool {
    HELD.with(|h| h.owns_within(Arc::as_ptr(sock)))
}

/// The guard by which this thread owns the sock for a plug-in. None: it does not.
pub(crate) fn guard_of(sock: &Arc<Sock>) -> Option<*mut SockGuard<'static>> {
    HELD.with(|h| {
        let owned = |e: &&Entry| e.sock.get() == Arc::as_ptr(sock) && matches!(e.kind.get(), Kind::Lent | Kind::Locked);
        let entry = h.used().iter().find(owned)?;
        let guard = if entry.kind.get() == Kind::Lent { entry.lent.get() } else { entry.guard.get().cast() };
        (!guard.is_null()).then_some(guard)
    })
}

/// Whether it owns any.
#[inline]
pub(crate) fn any() -> bool {
    // What this thread has used, it has noted itself.
    EVER.load(Ordering::Relaxed) && HELD.with(|h| h.len.get() > 0)
}

/// Runs `f`, which releases the sock and owns it again.
pub(crate) fn asleep<R>(sock: &Arc<Sock>, f: impl FnOnce() -> R) -> R {
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

/// Runs a function of a plug-in, with the ownership of `lent` unless that is null. EIO: it locked a sock and did not
/// release it (the sock is released and broken), or a panic of this Rust run time left it. A C++ exception, or a panic
/// of another Rust run time (a shared object has its own), cannot be caught here: a function that does not catch it and
/// call usk_break ends the process.
#[inline]
pub(crate) fn run<R>(lent: *const Sock, f: impl FnOnce() -> R) -> Result<R> {
    run_by(lent, std::ptr::null_mut(), f)
}

/// As [`run`]; `guard`, unless null, is the one that owns `lent`.
#[inline]
pub(crate) fn run_by<R>(lent: *const Sock, guard: *mut SockGuard<'static>, f: impl FnOnce() -> R) -> Result<R> {
    let depth = HELD.with(|h| {
        let depth = h.len.get();
        if !lent.is_null() {
            note_used();
            let entry = h.at(depth)?;
            entry.sock.set(lent);
            entry.lent.set(guard);
            entry.kind.set(Kind::Lent);
            h.len.set(depth + 1);
        }
        Ok::<usize, Error>(depth)
    })?;
    let r = catch_unwind(AssertUnwindSafe(f));
    let leaked = HELD.with(|h| {
        if h.len.get() == depth + usize::from(!lent.is_null()) {
            // The normal case: nothing is left above the entry of `lent`.
            h.len.set(depth);
            return false;
        }
        leave(depth)
    });
    match r {
        Ok(r) if !leaked => Ok(r),
        Ok(_) => Err(Error::Io),
        Err(panic) => Err(panicked(panic)),
    }
}

/// Runs a function of a plug-in that gets no owned sock. EIO as in `run`.
#[inline]
pub(crate) fn contain<R>(f: impl FnOnce() -> R) -> Result<R> {
    run(std::ptr::null(), f)
}

/// Checks a return value that is 0 or a negative errno. Any other value means a faulty plug-in: EIO.
#[inline]
pub(crate) fn status(r: i64) -> Result<()> {
    if r == 0 { Ok(()) } else { length(r, 0).map(drop) }
}

/// Checks a return value that is a length or a negative errno. A length above `max` means a faulty plug-in: EIO.
#[inline]
pub(crate) fn length(r: i64, max: usize) -> Result<usize> {
    if r >= 0 {
        return usize::try_from(r).ok().filter(|n| *n <= max).ok_or(Error::Io);
    }
    let errno = r.checked_neg().and_then(|e| i32::try_from(e).ok());
    Err(errno.and_then(Error::try_from_errno).unwrap_or(Error::Io))
}

/// Pops all entries above `depth`. True if a sock was still locked: it is now released and broken.
#[cold]
fn leave(depth: usize) -> bool {
    HELD.with(|h| {
        let mut leaked = false;
        while h.len.get() > depth {
            let Some(top) = h.used().last() else { break };
            // Asleep: a panic left usk_wait; the guard is in the entry, and owns the sock again.
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

/// The fast path of [`lock`], for the usual case that this thread owns no sock and nobody owns this one. None: call
/// `lock`.
/// # Safety
/// As there.
#[inline]
pub(crate) unsafe fn lock_free(sk: *mut usk_sock_t) -> Option<*mut SockGuard<'static>> {
    HELD.with(|h| {
        if h.len.get() != 0 {
            return None;
        }
        let [entry, ..] = &h.entries;
        // SAFETY: as in `lock`.
        let handle: &'static Handle = unsafe { (*entry.handle.get()).write(Handle::new(sk).ok()?) };
        let guard = handle.sock().try_lock(handle.stack())?;
        Some(entry.keep(sk, guard, h))
    })
}

/// Owns the sock for the caller; waits for it. EINVAL: null; EDEADLK: this thread owns it already, or an inner sock of
/// it; ENOLCK: it owns too many. The guard does not move until [`unlock`].
/// # Safety
/// `sk` is null, or valid until then.
pub(crate) unsafe fn lock(sk: *mut usk_sock_t) -> Result<*mut SockGuard<'static>> {
    // SAFETY: as the caller guarantees.
    let handle = unsafe { Handle::new(sk) }?;
    HELD.with(|h| {
        if would_deadlock(handle.sock()) {
            return Err(Error::Deadlk);
        }
        let entry = h.at(h.len.get())?;
        // SAFETY: an entry above the top is free. What is written stays in place, in this thread's memory, until
        // `unlock`: the guard may borrow from the handle beside it. Nothing runs on this thread while it waits for the
        // sock.
        let handle: &'static Handle = unsafe { (*entry.handle.get()).write(handle) };
        Ok(entry.keep(sk, handle.sk().lock(), h))
    })
}

/// Releases a guard of [`lock`]. EINVAL: it is released already, or is another thread's.
#[inline]
pub(crate) fn unlock(guard: *mut SockGuard<'static>) -> Result<()> {
    HELD.with(|h| {
        let [entry, ..] = &h.entries;
        if h.len.get() == 1 && entry.is_locked_by(guard) {
            // SAFETY: Locked: a guard is there, and no reference to it is in use by this thread, the only one that has
            // any.
            let free = unsafe { (*entry.guard.get()).assume_init_mut() };
            entry.kind.set(Kind::Releasing);
            if free.try_release() {
                // The guard is empty now, and need not be dropped.
                h.len.set(0);
                return Ok(());
            }
            entry.kind.set(Kind::Locked);
        }
        unlock_slow(h, guard)
    })
}

#[inline(never)]
fn unlock_slow(h: &Held, guard: *mut SockGuard<'static>) -> Result<()> {
    h.used().iter().rfind(|e| e.is_locked_by(guard)).ok_or(Error::Inval)?.release();
    h.trim();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_that_mean_nothing_are_eio() {
        assert_eq!((length(5, 5), length(6, 5)), (Ok(5), Err(Error::Io)));
        assert_eq!(
            (length(-11, 5), length(-99_999, 5), length(i64::MIN, 5)),
            (Err(Error::Again), Err(Error::Io), Err(Error::Io))
        );
        assert_eq!((status(0), status(1), status(-22)), (Ok(()), Err(Error::Io), Err(Error::Inval)));
        assert_eq!(contain(|| -> i32 { panic!("on purpose") }), Err(Error::Io));
    }

    /// Another thread of the parent may lock the table of inner socks when a program forks.
    #[test]
    fn a_fork_child_does_not_wait_for_a_lock_of_its_parent() {
        // The process has used it before, and is noted as one that may fork.
        let held = OUTER.get().write();
        // SAFETY: the child makes async-signal-safe calls and the one that is tested, and ends without unwinding.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a child that hangs ends by the signal.
            unsafe { libc::alarm(10) };
            let empty = OUTER.get().write().is_empty();
            // SAFETY: ends the child alone.
            unsafe { libc::_exit(if empty { 7 } else { 1 }) };
        }
        drop(held);
        let mut status = 0;
        // SAFETY: waits for the child made above; `status` is writable.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "status {status:#x}");
    }
}
