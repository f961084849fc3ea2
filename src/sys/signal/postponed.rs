//! Handlers of signals run at the end of a call, as those of the kernel's calls do, where a shim sees them first: one
//! that jumps out (siglongjmp(3)) leaves nothing of ours behind, and what one calls finds no lock taken. A signal that
//! comes within a call is sent to its thread again and blocked, with all others, until the call is over; the call does
//! not sleep meanwhile (signal_pending), but where the mask of its sleeps blocks the signal. Then the mask is the
//! thread's own again, and the kernel runs the handler.
//! Above: the C ABI and the shim. Linux: get_signal, restore_saved_sigmask, ERESTARTSYS.

use super::{ALL, FAULTS, SET_BYTES, Set, change_mask, handled, note_handler, sleep_mask};
use crate::sys::near::here;
use crate::sys::raw::syscall;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

/// The bit of a word that a thread sleeps by which says that a signal came.
pub(crate) const SIGNALLED: u32 = 1 << 31;

/// SIGKILL and SIGSTOP, which no mask has.
const NEVER_BLOCKED: Set = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

/// The first real-time signal of the kernel's (SIGRTMIN, without those that the C library keeps).
const FIRST_RT: i32 = 32;

/// This thread enters a call. Not a guard: a cancelled thread is unwound through the call, and may not meet anything to
/// drop.
#[inline]
pub fn enter() {
    let block = here();
    let depth = block.call.depth.get();
    if depth == 0 {
        block.handled.store(0, Ordering::Relaxed);
        // One that is postponed from the next step on stays noted.
        compiler_fence(Ordering::SeqCst);
    }
    block.call.depth.set(depth + 1);
    compiler_fence(Ordering::SeqCst);
}

/// It leaves the call; if that was the last, the handlers run that were to. True: it is to be made again if it has
/// failed with EINTR. Keeps errno.
#[inline]
pub fn leave() -> bool {
    compiler_fence(Ordering::SeqCst);
    let block = here();
    let depth = block.call.depth.get().saturating_sub(1);
    block.call.depth.set(depth);
    // A handler that interrupts this thread from here on runs at once.
    compiler_fence(Ordering::SeqCst);
    depth == 0 && block.handled.load(Ordering::Relaxed) & handled::POSTPONED != 0 && run_them()
}

/// How many calls this thread is in: not 0 in the handler of a fault of ours.
pub fn depth() -> u32 {
    here().call.depth.get()
}

/// Runs what may not return, or may wait for long by the kernel's rules, as if outside of all calls: handlers run at
/// once, also those that were to run at the end. Has nothing to drop.
#[inline]
pub fn outside<R>(f: impl FnOnce() -> R) -> R {
    let block = here();
    let depth = block.call.depth.replace(0);
    if depth == 0 {
        return f();
    }
    compiler_fence(Ordering::SeqCst);
    if block.handled.load(Ordering::Relaxed) & handled::POSTPONED != 0 {
        run_them();
    }
    let r = f();
    compiler_fence(Ordering::SeqCst);
    block.call.depth.set(depth);
    r
}

/// The handlers run that were to run at the end of the call; what [`leave`] returns.
#[cold]
fn run_them() -> bool {
    let block = here();
    let again = block.handled.swap(0, Ordering::Relaxed) & handled::AGAIN != 0;
    let own = block.call.own.get();
    // SAFETY: this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    // From here on a handler may jump: nothing is held, and nothing remains to be done but this.
    let mut left = false;
    if block.call.window.get() != own {
        // Its handler is the program's alone, and may jump: then nobody would take OPEN back.
        let window = block.call.window.get() | 1 << (libc::SIGABRT - 1);
        block.call.window.set(window);
        block.handled.store(handled::OPEN, Ordering::Relaxed);
        change_mask(libc::SIG_SETMASK, window);
        // Else the end of a handler has restored what was to be restored.
        left = block.handled.swap(0, Ordering::Relaxed) & handled::OPEN == 0;
    }
    if !left {
        set_mask(own);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
    again
}

/// A handler of the program's begins, within one that the shim has installed. Where it is the first to run under the
/// mask of a sleep, its end restores the thread's own mask, or what it makes of that (sigmask_to_save). `Some`: to be
/// given to [`handler_ends`], unless it jumps.
/// # Safety
/// `context` is that of a handler with SA_SIGINFO.
pub unsafe fn handler_begins(context: *mut c_void) -> Option<(Set, Set)> {
    let block = here();
    if block.handled.fetch_and(!handled::OPEN, Ordering::Relaxed) & handled::OPEN == 0 {
        return None;
    }
    let masks = (block.call.own.get(), block.call.window.get());
    // SAFETY: as the caller says.
    let mask = unsafe { mask_of(context) };
    if *mask == masks.1 {
        *mask = masks.0;
        return None;
    }
    // It has interrupted the first one before that began.
    Some(masks)
}

/// It has returned.
pub fn handler_ends(masks: Option<(Set, Set)>) {
    if let Some((own, window)) = masks {
        let block = here();
        block.call.own.set(own);
        block.call.window.set(window);
        block.handled.fetch_or(handled::OPEN, Ordering::Relaxed);
    }
}

/// What this thread's mask becomes when the handler returns. Of the set the kernel has the first word.
/// # Safety
/// `context` is that of a handler with SA_SIGINFO, a ucontext_t, which nobody else uses meanwhile.
unsafe fn mask_of<'a>(context: *mut c_void) -> &'a mut Set {
    // SAFETY: as the caller says.
    unsafe { &mut *(&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<Set>() }
}

/// si_errno of a signal that only marks a place in this thread's queue. Nobody sets it, and it is never delivered.
const MARK: i32 = 0x7573_6b31;

/// Whether a signal is such a mark, which a handler that jumped has left.
/// # Safety
/// `info` is a signal's.
pub unsafe fn is_mark(info: *const libc::siginfo_t) -> bool {
    // SAFETY: as the caller says.
    unsafe { (*info).si_errno == MARK }
}

/// Sends a signal to this thread again, in front of all of its number that wait; false: it cannot be sent. Those for
/// the whole process wait in a queue of their own, which comes after this thread's. Those of this thread go round once,
/// up to a mark behind them; one that finds no room any more (RLIMIT_SIGPENDING) is given to `at_once`. Signals that
/// are no real-time signals do not queue.
/// # Safety
/// `info` is the signal's. All are blocked.
unsafe fn send_again(signal: i32, info: *const libc::siginfo_t, at_once: &mut dyn FnMut(*mut libc::siginfo_t)) -> bool {
    // SAFETY: `info` is a signal's that was to be delivered to this thread.
    let send = |info: *const libc::siginfo_t| unsafe {
        let (process, thread) = (syscall!(libc::SYS_getpid), syscall!(libc::SYS_gettid));
        syscall!(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) == 0
    };
    let set = 1u64 << (signal - 1);
    let mut pending: Set = 0;
    // SAFETY: `pending` has the 8 bytes that the second argument says.
    unsafe { syscall!(libc::SYS_rt_sigpending, &raw mut pending, SET_BYTES) };
    if signal < FIRST_RT || pending & set == 0 {
        return send(info);
    }
    // SAFETY: as the caller says.
    let mut mark = unsafe { *info };
    mark.si_errno = MARK;
    if !send(&mark) {
        return false;
    }
    let sent = send(info);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut next = MaybeUninit::<libc::siginfo_t>::uninit();
    let to = next.as_mut_ptr();
    // SAFETY: `to` has room for what the kernel writes, and is read afterwards; set and time outlive the call.
    while unsafe {
        syscall!(libc::SYS_rt_sigtimedwait, &raw const set, to, &raw const now, SET_BYTES) == signal.into()
            && !is_mark(to)
    } {
        if !send(to) {
            at_once(to);
        }
    }
    sent
}

/// Sets this thread's mask by the C library's function: the thread sanitizer, which has delayed the signal, runs the
/// handler at its end.
fn set_mask(mask: Set) {
    // SAFETY: an all-zero sigset_t is valid; the kernel's set is its first word.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: it has at least this size, and its alignment.
    unsafe { (&raw mut set).cast::<Set>().write(mask) };
    // SAFETY: a set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut()) };
}

/// In a handler that the shim has installed: has the program's run at the end of the call that it interrupts. False:
/// there is none, or the signal cannot be sent again; the handler is to run now. Keeps errno where it returns true.
/// `at_once` runs the program's handler for another signal of the number.
/// # Safety
/// The arguments are those of a handler with SA_SIGINFO.
pub unsafe fn postpone(
    signal: i32,
    info: *const libc::siginfo_t,
    context: *mut c_void,
    restart: bool,
    at_once: &mut dyn FnMut(*mut libc::siginfo_t),
) -> bool {
    let block = here();
    if block.call.depth.get() == 0 {
        return false;
    }
    // SAFETY: this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    let faults = FAULTS.iter().fold(0, |set, signal| set | 1 << (signal - 1));
    // Without those that the kernel never blocks: it does not give them back in a frame's mask either.
    let all = ALL & !faults & !NEVER_BLOCKED;
    // It would come at once, where its handler has SA_NODEFER.
    let Some(before) = change_mask(libc::SIG_BLOCK, all) else { return false };
    // SAFETY: `info` is the signal's, by the caller's word.
    if !unsafe { send_again(signal, info, at_once) } {
        change_mask(libc::SIG_SETMASK, before);
        return false;
    }
    // SAFETY: as the caller says.
    let mask = unsafe { mask_of(context) };
    let (sleeps_by, this) = (sleep_mask(), 1 << (signal - 1));
    if *mask & all != all || block.handled.load(Ordering::Relaxed) & handled::POSTPONED == 0 {
        block.call.own.set(*mask);
        // As the kernel has it, in a handler's context too.
        block.call.window.set(*mask & !NEVER_BLOCKED);
    }
    if let Some(sleeps_by) = sleeps_by.filter(|_| block.call.own.get() & this != 0) {
        block.call.window.set(sleeps_by & !NEVER_BLOCKED);
    }
    *mask |= all;
    block.handled.fetch_or(handled::POSTPONED, Ordering::Relaxed);
    if sleeps_by.is_some_and(|mask| mask & this != 0) {
        // In the kernel's call it waits behind the mask until that is over.
        // SAFETY: as above.
        unsafe { *errno = saved };
        return true;
    }
    note_handler(restart);
    let word = block.call.word.get();
    if !word.is_null() {
        // It may have looked for a signal and not sleep yet. SAFETY: the word of a sleep that is not over (`Asleep`).
        unsafe { &*word }.fetch_or(SIGNALLED, Ordering::SeqCst);
        let one = 1u64;
        if block.call.wakes.get() != 0 {
            let fd = block.call.wakes.get() - 1;
            // SAFETY: eight bytes, to an eventfd that lives as long as the sleep.
            unsafe { syscall!(libc::SYS_write, fd, &raw const one, size_of::<u64>()) };
        }
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
    true
}

/// A thread that is about to sleep, or does: a handler sets [`SIGNALLED`] in its word, and wakes it.
pub(crate) struct Asleep<'a> {
    word: &'a AtomicU32,
}

impl<'a> Asleep<'a> {
    /// By this word, and by an eventfd in whose poll(2) it sleeps.
    #[inline]
    pub(crate) fn new(word: &'a AtomicU32, eventfd: Option<RawFd>) -> Asleep<'a> {
        let call = &here().call;
        call.wakes.set(eventfd.map_or(0, |fd| fd + 1));
        // A handler that finds the word finds the descriptor of this sleep with it.
        compiler_fence(Ordering::SeqCst);
        call.word.set(word);
        compiler_fence(Ordering::SeqCst);
        Asleep { word }
    }

    /// Whether a signal came, whose handler has not run.
    #[inline]
    pub(crate) fn ended(self) -> bool {
        let word = self.word;
        drop(self);
        let came = word.load(Ordering::Relaxed) & SIGNALLED != 0;
        if came {
            word.fetch_and(!SIGNALLED, Ordering::SeqCst);
        }
        came
    }
}

impl Drop for Asleep<'_> {
    #[inline]
    fn drop(&mut self) {
        here().call.word.set(ptr::null());
        compiler_fence(Ordering::SeqCst);
    }
}

/// Whether handlers are to run at the end of the call, which ends with EINTR: before a wait of the kernel's.
pub fn due() -> bool {
    let noted = here().handled.load(Ordering::Relaxed);
    let due = noted & handled::POSTPONED != 0 && noted & handled::ANY != 0;
    if due && noted & handled::NO_RESTART == 0 && !super::never_restarted() {
        again();
    }
    due
}

/// Whether handlers are to run at the end of the call and all have SA_RESTART: the call ends, and is then made again.
pub(super) fn again() -> bool {
    let noted = &here().handled;
    let again = noted.load(Ordering::Relaxed) & handled::POSTPONED != 0;
    if again {
        noted.fetch_or(handled::AGAIN, Ordering::Relaxed);
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::waiter::{PollSet, Slept, Waiter};
    use crate::sys::signal::{SleepMask, begin_call, handlers_are_told, restarts, take_handled};
    use crate::sys::{fd::EventFd, poll::PollFd, poll::poll};
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    static RAN: AtomicUsize = AtomicUsize::new(0);
    static RESTART: AtomicUsize = AtomicUsize::new(0);

    /// As the shim's, with SA_RESTART where `RESTART` is not 0.
    extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the arguments of a handler with SA_SIGINFO.
        if !unsafe { postpone(signal, info, context, RESTART.load(Ordering::SeqCst) != 0, &mut |_| ()) } {
            // SAFETY: `info` is the signal's, sent by kill(2) or its kin.
            assert_eq!(unsafe { (*info).si_pid() }, std::process::id() as i32);
            RAN.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn ran() -> usize {
        RAN.swap(0, Ordering::SeqCst)
    }

    fn raise(signal: i32) {
        // SAFETY: to this thread; the handler is the one above.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    fn install(signal: i32, flags: i32) {
        // SAFETY: an all-zero sigaction is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        // SAFETY: the handler makes system calls and adds to a number.
        assert_eq!(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) }, 0);
    }

    fn own_mask() -> Set {
        change_mask(libc::SIG_BLOCK, 0).unwrap()
    }

    /// Handlers and numbers are the process's: one test.
    #[test]
    fn a_handler_runs_at_the_end_of_the_call_and_ends_its_sleeps() {
        let name = "a_handler_runs_at_the_end_of_the_call_and_ends_its_sleeps";
        if !crate::sys::signal::tests::in_process_of("postponed::tests", name) {
            return;
        }
        handlers_are_told();
        let (usr1, usr2) = (libc::SIGUSR1, libc::SIGUSR2);
        install(usr1, libc::SA_NODEFER);
        install(usr2, 0);
        let mask = own_mask();
        raise(usr1);
        assert_eq!(ran(), 1, "not in a call");

        let (waiter, busy) = (Waiter::new(), EventFd::new().unwrap());
        busy.signal();
        for restart in [false, true] {
            RESTART.store(usize::from(restart), Ordering::SeqCst);
            enter();
            enter();
            raise(usr1);
            // All others wait in the kernel until then.
            raise(usr2);
            begin_call();
            assert_eq!(ran(), 0);
            // By futex and by poll(2), again and again (signal_pending).
            for _ in 0..2 {
                assert_eq!(waiter.sleep(&mut PollSet::new(), None), Slept::Interrupted);
                let mut fds = PollSet::from_elem(PollFd::new(busy.raw(), libc::POLLIN), 1);
                assert_eq!(waiter.sleep(&mut fds, None), Slept::Interrupted);
            }
            assert!(!restarts(), "at the edge alone");
            assert!(!leave() && ran() == 0);
            assert_eq!((leave(), ran(), own_mask()), (restart, 2, mask));
            assert!(!take_handled());
        }

        // A call that is never restarted, and a signal that only its sleep lets in.
        enter();
        change_mask(libc::SIG_BLOCK, 1 << (usr1 - 1));
        let call = SleepMask::new(Some(0));
        raise(usr1);
        assert_eq!(waiter.sleep(&mut PollSet::new(), Some(Duration::from_secs(3600))), Slept::Interrupted);
        assert!(due());
        drop(call);
        assert_eq!((leave(), ran(), own_mask()), (false, 1, mask | 1 << (usr1 - 1)));
        change_mask(libc::SIG_SETMASK, mask);

        // A signal after the last look and before the sleep.
        enter();
        let word = AtomicU32::new(0);
        let eventfd = EventFd::new().unwrap();
        let asleep = Asleep::new(&word, Some(eventfd.raw()));
        raise(usr1);
        assert_eq!(word.load(Ordering::SeqCst), SIGNALLED);
        assert_eq!(poll(&mut [PollFd::new(eventfd.raw(), libc::POLLIN)], Some(Duration::ZERO)).unwrap(), 1);
        assert!(asleep.ended() && word.load(Ordering::SeqCst) == 0);
        // What is outside of the call does not wait for its end.
        assert!(due());
        assert_eq!(outside(ran), 1);
        raise(usr2);
        assert_eq!((depth(), ran()), (1, 0));
        assert_eq!((leave(), ran()), (false, 1));
    }
}
