//! Detection of fork(2). A stack belongs to the process that created it: a child has none of its threads, shares its
//! devices with the parent, and may have inherited any lock in locked state. So the child neither uses nor frees what
//! it inherited, and creates its own state anew. The atfork handler only uses atomics and close(2) and takes no lock,
//! so it may run while other threads, or the forking thread itself, are anywhere in this library.
//!
//! Not detected: clone(2) and _Fork(3), which skip glibc's handlers. vfork(2) and posix_spawn(3) share the parent's
//! memory until they exec, and need nothing: the library's own descriptors are closed by exec.

use super::numbers::Numbers;
use super::raw::syscall;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// One more than [`generation`]; 0: nobody has asked for it yet.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// The library's own descriptors, which a child closes: if two processes read a TUN queue, each loses packets to the
/// other, and the queue stays attached until both have closed it.
static OWN: Numbers = Numbers::new();
/// Values that are never dropped in a child.
static LASTING: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
    OWN.drain(|fd| {
        // SAFETY: the child's copy of a descriptor that the library owns, and that nothing in the child uses: its `Fd`
        // is of an earlier generation.
        let _ = unsafe { syscall!(libc::SYS_close, fd) };
    });
    let mut at = LASTING.load(Ordering::Acquire);
    // SAFETY: nodes are never freed.
    while let Some(node) = unsafe { at.as_ref() } {
        let value = node.value.load(Ordering::Acquire);
        if !value.is_null() {
            // SAFETY: `value` is what `lasting` was given, an Arc's; in a child no other thread runs that could end it.
            unsafe { (node.keep)(value) };
        }
        at = node.next.load(Ordering::Acquire);
    }
}

/// The number of forks between the first call of this function and this process: a value saved before a fork differs in
/// the child. Costs one load; a system call for the process id in every wait would cost a hundred times that.
#[inline]
pub fn generation() -> u32 {
    match GENERATION.load(Ordering::Relaxed) {
        0 => hook(),
        next => next - 1,
    }
}

/// Whether a value of [`generation`] was saved in this process, and not before a fork.
#[inline]
pub(crate) fn is_current(saved: u32) -> bool {
    // Who has saved one has asked for it, so forks are noticed.
    GENERATION.load(Ordering::Relaxed) == saved.wrapping_add(1)
}

#[cold]
fn hook() -> u32 {
    // Not a `Once`: after a fork in the middle of it the child would wait for a thread that does not exist.
    if GENERATION.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        // SAFETY: `in_child` takes no lock and allocates nothing, which is safe in a child of a process with many
        // threads. It fails only for want of memory, and then forks go unnoticed, as without this module.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
    GENERATION.load(Ordering::Relaxed) - 1
}

/// Whether a descriptor is one of the library's own, which the program has not opened.
#[inline]
pub fn is_own(fd: RawFd) -> bool {
    OWN.contains(fd)
}

/// The library's own descriptors from `fd` on, lowest first.
pub fn next_own(fd: RawFd) -> Option<RawFd> {
    OWN.next(fd)
}

/// Adds a descriptor that children close.
pub(super) fn close_in_children(fd: RawFd) {
    OWN.insert(fd);
}

/// Removes a descriptor: it is closed, or handed to the program.
pub(super) fn keep_in_children(fd: RawFd) {
    OWN.remove(fd);
}

struct Node {
    value: AtomicPtr<()>,
    keep: unsafe fn(*const ()),
    next: AtomicPtr<Node>,
}

/// While this exists, a child gets an extra reference to the value, which is never released. It is a field of the
/// value, so it is dropped with it.
#[derive(Debug)]
pub(crate) struct Lasting(&'static AtomicPtr<()>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.store(ptr::null_mut(), Ordering::Release);
    }
}

/// Prevents `value` from being dropped in a fork(2) child: what its destructor would do (flush a buffer, notify a peer,
/// call a plug-in) is left to the parent.
pub(crate) fn lasting<T: Send + Sync + 'static>(value: &Arc<T>) -> Lasting {
    unsafe fn keep<T>(value: *const ()) {
        // SAFETY: `value` is an Arc's address, as passed by the only caller.
        unsafe { Arc::increment_strong_count(value.cast::<T>()) }
    }
    let address = Arc::as_ptr(value).cast_mut().cast::<()>();
    let mut at = &LASTING;
    // A node is for one type: `keep` does not change, so a child reads a matching pair.
    // SAFETY: nodes are never freed.
    while let Some(node) = unsafe { at.load(Ordering::Acquire).as_ref() } {
        let fits = ptr::fn_addr_eq(node.keep, keep::<T> as unsafe fn(*const ()));
        let free = || node.value.compare_exchange(ptr::null_mut(), address, Ordering::AcqRel, Ordering::Relaxed);
        if fits && free().is_ok() {
            return Lasting(&node.value);
        }
        at = &node.next;
    }
    let node = Node { value: AtomicPtr::new(address), keep: keep::<T>, next: AtomicPtr::new(ptr::null_mut()) };
    let node: &'static mut Node = Box::leak(Box::new(node));
    let node_ptr: *mut Node = node;
    loop {
        // The list only grows, at its end.
        match at.compare_exchange(ptr::null_mut(), node_ptr, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: leaked above.
            Ok(_) => return Lasting(unsafe { &(*node_ptr).value }),
            // SAFETY: nodes are never freed.
            Err(other) => at = unsafe { &(*other).next },
        }
    }
}

/// A static that a fork(2) child creates anew, because the parent's value may be locked or half modified. The parent's
/// value stays in memory, reachable and unused.
pub struct PerProcess<T: 'static> {
    now: AtomicPtr<Of<T>>,
    make: fn() -> T,
}

struct Of<T> {
    generation: u32,
    value: T,
    /// The parent's value; kept so that a leak checker finds what it references.
    _inherited: *mut Of<T>,
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// `make` creates the value at first use. Two threads may both create one at the same time; one of the two is
    /// dropped.
    pub const fn new(make: fn() -> T) -> PerProcess<T> {
        PerProcess { now: AtomicPtr::new(ptr::null_mut()), make }
    }

    /// The value of this process.
    #[inline]
    pub fn get(&'static self) -> &'static T {
        let now = self.now.load(Ordering::Acquire);
        // SAFETY: leaked by `renew`, never freed.
        match unsafe { now.as_ref() } {
            Some(of) if is_current(of.generation) => &of.value,
            _ => self.renew(now),
        }
    }

    #[cold]
    fn renew(&'static self, seen: *mut Of<T>) -> &'static T {
        let new = Box::into_raw(Box::new(Of { generation: generation(), value: (self.make)(), _inherited: seen }));
        match self.now.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: leaked: nobody frees it any more.
            Ok(_) => unsafe { &(*new).value },
            Err(other) => {
                // SAFETY: nobody has seen this one.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: another thread of this process leaked it.
                unsafe { &(*other).value }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_value_is_created_once_per_process() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        static HERE: PerProcess<usize> = PerProcess::new(|| MADE.fetch_add(1, Ordering::SeqCst));
        assert_eq!((HERE.get(), HERE.get()), (&0, &0));
    }

    /// The exit status of a forked child that runs `f`. It may do nothing but call `f`: the threads of other tests do
    /// not exist there.
    fn child(f: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child runs `f` and ends without unwinding and without running exit handlers.
        match unsafe { libc::fork() } {
            // SAFETY: as above.
            0 => unsafe { libc::_exit(f()) },
            pid => {
                let mut status = 0;
                // SAFETY: waits for the child made above; `status` is writable.
                assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
                libc::WEXITSTATUS(status)
            }
        }
    }

    #[test]
    fn a_child_has_its_own_statics_and_never_drops_lasting_values() {
        static HERE: PerProcess<AtomicUsize> = PerProcess::new(|| AtomicUsize::new(5));
        HERE.get().store(7, Ordering::SeqCst);
        let before = generation();
        let value = Arc::new(1u64);
        let entry = lasting(&value);
        let got = child(|| {
            let renewed = HERE.get().load(Ordering::SeqCst) == 5;
            let counted = Arc::strong_count(&value) == 2;
            let forked = generation() != before && !is_current(before);
            i32::from(renewed) | i32::from(counted) << 1 | i32::from(forked) << 2
        });
        assert_eq!((got, HERE.get().load(Ordering::SeqCst), Arc::strong_count(&value)), (7, 7, 1));
        drop(entry);
        assert_eq!(child(|| Arc::strong_count(&value) as i32), 1);
    }

    #[test]
    fn a_child_has_no_descriptor_of_the_library_and_never_closes_one_by_its_number() {
        let fd = crate::sys::fd::EventFd::new().unwrap();
        let raw = fd.raw();
        let got = child(|| {
            // SAFETY: F_GETFD takes a number, no pointer.
            let mine = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            let gone = !mine(raw) && fd.raw() == -1;
            // The number is now the child's own descriptor.
            // SAFETY: duplicates standard input onto a number that is free.
            let taken = unsafe { libc::dup2(0, raw) } == raw;
            fd.signal();
            drop(fd);
            i32::from(gone) | i32::from(taken && mine(raw)) << 1
        });
        assert_eq!(got, 3);
    }
}
