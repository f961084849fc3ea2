//! Whether a call that a signal interrupted is restarted (SA_RESTART, signal(7)). The kernel decides that for its own
//! system calls; a wait of ours is a poll(2), which is never restarted and does not report which handler ran. If all
//! handlers of a process agree, as they usually do, reading them gives the answer. If they do not, or a handler is to
//! end calls, waits that may be restarted block the signals ([`Hold`]) until it is known which ones arrived. Under a
//! shim, which sees handlers first, they wait for the end of the call ([`postponed`]). Above: `inet` (restarts),
//! `base::waiter` (waits).

pub mod postponed;

use super::fd::Fd;
use super::near::here;
use super::raw::syscall;
use super::{check, retry};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One past the last signal (_NSIG).
const SIGNALS: i32 = 65;

/// Some handlers have SA_RESTART and some do not. Never cleared: if it no longer holds, a wait costs a few more system
/// calls.
static MIXED: AtomicBool = AtomicBool::new(false);
/// Some handler lacks SA_RESTART, those of a thread's own faults aside. Never cleared, as `MIXED`.
static ENDING: AtomicBool = AtomicBool::new(false);
/// There is a handler, those of a thread's own faults aside. Never cleared, as `MIXED`.
static HANDLED: AtomicBool = AtomicBool::new(false);
/// A shim tells of each handler that has run ([`note_handler`]).
static TOLD: AtomicBool = AtomicBool::new(false);
/// The handlers were read; this is done at the first wait of a process and whenever a signal has ended one.
static LOOKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Result of a wait that blocked signals, for those that ended it: whether all their handlers have SA_RESTART.
    static FOUND: Cell<Option<bool>> = const { Cell::new(None) };
}

thread_local! {
    /// This thread is in a call that is never restarted (poll, select, epoll_wait and their variants); within, the
    /// signal mask while it sleeps, instead of its own (ppoll, pselect, epoll_pwait).
    static SLEEP_MASK: Cell<Option<Option<Set>>> = const { Cell::new(None) };
    /// Within such a call that has slept: the thread's own mask, since its signals are blocked but for the sleeps.
    static OWN_MASK: Cell<Option<Set>> = const { Cell::new(None) };
    /// Sleeps of such a call since signals could last come in.
    static SHUT: Cell<u32> = const { Cell::new(0) };
    /// Sleeps of such calls until the handlers are read again, while none are known.
    static UNTIL_LOOK: Cell<u32> = const { Cell::new(0) };
}

/// Of so many sleeps one reads the handlers, of which a library is not told.
const SLEEPS_PER_LOOK: u32 = 1024;

/// After so many sleeps of a call that let no signal in it looks for one.
const SHUT_SLEEPS: u32 = 8;

/// Handlers that ran in a thread, as far as it is told ([`note_handler`]): bits of `Block::handled`.
mod handled {
    /// Some ran since the present call began or was last interrupted.
    pub(super) const ANY: u8 = 1;
    /// One of those lacks SA_RESTART.
    pub(super) const NO_RESTART: u8 = 2;
    /// They did not run: they will at the end of the call (`postponed`), which is not to sleep until then.
    pub(super) const POSTPONED: u8 = 4;
    /// Once they have, the call is made again.
    pub(super) const AGAIN: u8 = 8;
    /// They run now, under the mask of the sleep that one ended, which the thread does not keep.
    pub(super) const OPEN: u8 = 16;
}

/// A handler has run in this thread: told by a shim in front of sigaction(2), from the handler. What it interrupted may
/// be a call of ours that was not asleep yet, and must not fall asleep.
#[inline]
pub fn note_handler(restart: bool) {
    here().handled.fetch_or(handled::ANY | if restart { 0 } else { handled::NO_RESTART }, Ordering::Relaxed);
}

/// A shim will call [`note_handler`] after each handler.
pub fn handlers_are_told() {
    TOLD.store(true, Ordering::Relaxed);
}

/// A call begins: handlers that ran before are none of its business.
#[inline]
pub fn begin_call() {
    if here().handled.load(Ordering::Relaxed) != 0 {
        forget();
    }
}

/// Forgets the handlers that have run, and returns what was noted. A signal that is postponed stays noted, also one
/// that comes now: nobody else would unblock the thread's signals.
fn forget() -> u8 {
    let forgotten = |noted| (noted & handled::POSTPONED == 0).then_some(0);
    match here().handled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forgotten) {
        Ok(noted) | Err(noted) => noted,
    }
}

/// Whether a handler has run since the call began, once: the call is then interrupted, as a sleep would be. Where it is
/// still to run, that is so until the end of the call (signal_pending).
#[inline]
pub(crate) fn take_handled() -> bool {
    if here().handled.load(Ordering::Relaxed) & handled::ANY == 0 {
        return false;
    }
    let handled = forget();
    let _ = FOUND.try_with(|f| f.set(Some(handled & handled::NO_RESTART == 0)));
    true
}

/// The kernel's representation of a set of signals: signal n is bit n - 1.
pub type Set = u64;

/// Its size in bytes.
pub const SET_BYTES: usize = size_of::<Set>();

/// The mask that replaces the thread's own in each sleep; None if there is none.
pub fn sleep_mask() -> Option<Set> {
    SLEEP_MASK.try_with(Cell::get).unwrap_or(None).flatten()
}

/// Runs a handler of the program's: what it calls is not in the call that it interrupts, nor is what follows a jump.
pub fn in_handler<R>(handler: impl FnOnce() -> R) -> R {
    let mask = SLEEP_MASK.try_with(Cell::take).unwrap_or(None);
    let r = handler();
    let _ = SLEEP_MASK.try_with(|m| m.set(mask));
    r
}

/// Whether this thread is in a call that is never restarted.
fn never_restarted() -> bool {
    SLEEP_MASK.try_with(Cell::get).unwrap_or(None).is_some()
}

/// A call that a signal handler always ends with EINTR, while it exists (signal(7)); with a mask it replaces the signal
/// mask of this thread's sleeps. The kernel swaps the masks and sleeps atomically, so that a signal which is unblocked
/// only in the sleep ends it, whenever it arrived. A call may sleep several times and receive packets in between: where
/// there are handlers the thread's own mask has all signals blocked from the first sleep on (`only_in_sleep`).
#[derive(Debug)]
pub struct SleepMask(Option<Option<Set>>);

impl SleepMask {
    /// `mask` None: the thread's own mask stays in force.
    pub fn new(mask: Option<Set>) -> SleepMask {
        SleepMask(SLEEP_MASK.try_with(|m| m.replace(Some(mask))).unwrap_or(None))
    }
}

impl Drop for SleepMask {
    fn drop(&mut self) {
        let _ = SLEEP_MASK.try_with(|m| m.set(self.0));
        // Signals that came since the last sleep find their handlers now.
        if self.0.is_none()
            && let Some(own) = OWN_MASK.try_with(Cell::take).unwrap_or(None)
        {
            change_mask(libc::SIG_SETMASK, own);
        }
    }
}

/// A sleep begins: within a call that signals always end, handlers are to run in sleeps alone, until the call returns.
/// One that ran between two sleeps would not end the call, nor would one that runs as a sleep ends for a reason of the
/// stack's own.
pub(crate) fn only_in_sleep() {
    let Ok(Some(mask)) = SLEEP_MASK.try_with(Cell::get) else { return };
    if TOLD.load(Ordering::Relaxed) || OWN_MASK.try_with(|own| own.get().is_some()).unwrap_or(true) || !may_be_handled()
    {
        return;
    }
    let faults = FAULTS.iter().fold(0, |set, signal| set | 1 << (signal - 1));
    let Some(own) = change_mask(libc::SIG_BLOCK, ALL & !faults) else { return };
    let _ = OWN_MASK.try_with(|m| m.set(Some(own)));
    let _ = SHUT.try_with(|n| n.set(0));
    let _ = SLEEP_MASK.try_with(|m| m.set(Some(mask.or(Some(own)))));
}

/// A sleep has ended that let no signal in: where a descriptor is ready ppoll(2) returns without a look at signals, and
/// one of zero time has no mask. A thread that serves a busy device sleeps in no other way. True: a handler has run,
/// after one of so many of these sleeps.
pub(crate) fn let_in() -> bool {
    if OWN_MASK.try_with(Cell::get).unwrap_or(None).is_none() {
        return false;
    }
    let shut = SHUT.try_with(|n| n.replace((n.get() + 1) % SHUT_SLEEPS)).unwrap_or(0) + 1;
    let Some(mask) = sleep_mask().filter(|_| shut == SHUT_SLEEPS) else { return false };
    let (none, zero) = (std::ptr::null_mut::<libc::pollfd>(), super::fd::timespec(Duration::ZERO));
    // SAFETY: no descriptors; the time and the mask outlive the call, and the mask has the given size.
    check(unsafe { syscall!(libc::SYS_ppoll, none, 0usize, &raw const zero, &raw const mask, SET_BYTES) }).is_err()
}

/// Whether a handler is known, or is found now.
fn may_be_handled() -> bool {
    if HANDLED.load(Ordering::Relaxed) {
        return true;
    }
    let left = UNTIL_LOOK.try_with(Cell::get).unwrap_or(SLEEPS_PER_LOOK);
    let _ = UNTIL_LOOK.try_with(|n| n.set(left.checked_sub(1).unwrap_or(SLEEPS_PER_LOOK)));
    if left == 0 {
        look_at_handlers();
    }
    HANDLED.load(Ordering::Relaxed)
}

/// Whether a signal's handler has SA_RESTART; None if the signal has no handler.
fn restarts_after(signal: i32) -> Option<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action changes nothing, and `action` is writable. It fails for the C library's own signals.
    if unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: an all-zero sigaction is valid, and sigaction(2) has filled it.
    let action = unsafe { action.assume_init() };
    let none = [libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
    (!none).then_some(action.sa_flags & libc::SA_RESTART != 0)
}

/// Whether a call that a signal has just interrupted is to be restarted: every handler that may have run has
/// SA_RESTART. Linux: ERESTARTSYS, handle_signal.
pub(crate) fn restarts() -> bool {
    if super::cancel::cancelled() {
        return false;
    }
    let found = FOUND.try_with(Cell::take).unwrap_or(None);
    if found == Some(true) && postponed::again() {
        return false;
    }
    if let Some(found) = found {
        return found;
    }
    // If handlers of both kinds were installed since the last check, it is unknown which kind ran, and the call is not
    // restarted: EINTR is what a program with such a handler must expect, and waiting on could be waiting for ever.
    look_at_handlers()
}

/// The wait that is now interrupted was so by no signal but because nothing can end it (virtual time): to restart the
/// call would be to wait again, without end.
pub(crate) fn never_restart() {
    let _ = FOUND.try_with(|f| f.set(Some(false)));
}

/// What a thread that sleeps does not cause. The run-time libraries of languages and sanitizers have handlers for it.
const FAULTS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// Whether all handlers have SA_RESTART; sets `MIXED` if only some have it, and `ENDING` if not all have.
#[cold]
fn look_at_handlers() -> bool {
    let (mut some, mut all) = (false, true);
    for (signal, restart) in (1..SIGNALS).filter_map(|signal| Some((signal, restarts_after(signal)?))) {
        some |= restart;
        all &= restart;
        if !FAULTS.contains(&signal) {
            HANDLED.store(true, Ordering::Relaxed);
        }
        if !restart && !FAULTS.contains(&signal) {
            ENDING.store(true, Ordering::Relaxed);
        }
    }
    if some && !all {
        MIXED.store(true, Ordering::Relaxed);
    }
    all
}

/// All signals but the C library's own: cancellation uses one.
const ALL: Set = !(0b11 << 31);

fn change_mask(how: i32, set: Set) -> Option<Set> {
    let mut old: Set = 0;
    let (new, old_at) = (&raw const set, &raw mut old);
    // SAFETY: both point to 8 bytes, which is what the last argument says.
    let r = unsafe { syscall!(libc::SYS_rt_sigprocmask, how, new, old_at, SET_BYTES) };
    (r == 0).then_some(old)
}

/// Blocks this thread's signals while it waits, with a descriptor that polls readable when one arrives. They are
/// delivered when it is dropped.
///
/// It is needed where it must be known which handlers ran, and wherever a handler is to end a call: another thread may
/// end the wait for a reason of the stack's own, such as a lease that is passed on, and to the kernel a wait that has
/// ended well is not interrupted by a signal that comes before the thread runs again. The call would wait on.
pub(crate) struct Hold {
    mask: Set,
    fd: Fd,
}

impl Hold {
    /// None if it is not needed, which is usual, or not possible.
    pub(crate) fn new() -> Option<Hold> {
        if !LOOKED.load(Ordering::Relaxed) && !LOOKED.swap(true, Ordering::Relaxed) {
            look_at_handlers();
        }
        let matters = MIXED.load(Ordering::Relaxed) || ENDING.load(Ordering::Relaxed);
        if !matters || never_restarted() || TOLD.load(Ordering::Relaxed) {
            return None;
        }
        let _ = FOUND.try_with(Cell::take);
        let mask = change_mask(libc::SIG_BLOCK, ALL)?;
        let (wanted, flags) = (ALL & !mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if wanted == 0 {
            // A thread of the stack's own: nothing has changed.
            return None;
        }
        // SAFETY: `wanted` is a set of 8 bytes, as the third argument says.
        let fd = retry(|| unsafe { syscall!(libc::SYS_signalfd4, -1, &raw const wanted, SET_BYTES, flags) });
        match fd.and_then(|fd| Fd::own(fd as RawFd)) {
            Ok(fd) => Some(Hold { mask, fd }),
            Err(_) => {
                change_mask(libc::SIG_SETMASK, mask);
                None
            }
        }
    }

    /// The descriptor, for `poll`: readable when a signal has arrived.
    pub(crate) fn raw(&self) -> RawFd {
        self.fd.raw()
    }

    /// Whether a handler is about to run; records for [`restarts`] whether these handlers have SA_RESTART.
    pub(crate) fn look(&self) -> bool {
        let mut pending: Set = 0;
        // SAFETY: `pending` has the 8 bytes that the second argument says.
        let _ = unsafe { syscall!(libc::SYS_rt_sigpending, &raw mut pending, SET_BYTES) };
        let due = (1..SIGNALS).filter(|s| pending & !self.mask & (1 << (s - 1)) != 0);
        let mut handlers = due.filter_map(restarts_after).peekable();
        if handlers.peek().is_none() {
            return false;
        }
        let all = handlers.all(|restart| restart);
        let _ = FOUND.try_with(|f| f.set(Some(all)));
        true
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        change_mask(libc::SIG_SETMASK, self.mask);
        // The handlers that `look` saw have run.
        begin_call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::waiter::{PollSet, Slept, Waiter};
    use crate::sys::fd::EventFd;
    use crate::sys::poll::{PollFd, poll};
    use std::sync::atomic::AtomicUsize;

    static HANDLED_BY_TEST: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: i32) {
        HANDLED_BY_TEST.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs the test `name` of the module `of` in a process whose handlers are its own: true inside.
    pub(super) fn in_process_of(of: &str, name: &str) -> bool {
        const INNER: &str = "USERSOCK_TEST_SIGNAL";
        if std::env::var_os(INNER).is_some() {
            return true;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let out = again.args(["--exact", &format!("sys::signal::{of}::{name}")]).env(INNER, "1").output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && said.contains("1 passed"), "{said}");
        false
    }

    /// The same for this module, with a handler of SIGUSR1 without SA_RESTART.
    fn in_own_process(name: &str) -> bool {
        if !in_process_of("tests", name) {
            return false;
        }
        // SAFETY: an all-zero sigaction is valid, and the handler adds to a number.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        true
    }

    #[test]
    fn a_signal_between_two_sleeps_of_a_call_ends_it_under_its_own_mask_or_another() {
        if !in_own_process("a_signal_between_two_sleeps_of_a_call_ends_it_under_its_own_mask_or_another") {
            return;
        }
        let own = || change_mask(libc::SIG_BLOCK, 0).unwrap();
        let raise = |signal| {
            // SAFETY: to this thread; the handler adds to a number.
            assert_eq!(unsafe { libc::raise(signal) }, 0);
        };
        let (before, waiter) = (own(), Waiter::new());
        // Long enough to tell a loss.
        let long = Some(Duration::from_secs(60));
        for mask in [None, Some(before | 1 << (libc::SIGUSR2 - 1))] {
            let call = SleepMask::new(mask);
            assert_eq!(own(), before, "a call that does not sleep needs no other");
            waiter.nudge();
            assert_ne!(waiter.sleep(&mut PollSet::new(), long), Slept::Interrupted);
            waiter.take_nudge();
            // The thread is awake, for the stack.
            raise(libc::SIGUSR1);
            assert_eq!(waiter.sleep(&mut PollSet::new(), long), Slept::Interrupted);
            assert_eq!(waiter.sleep(&mut PollSet::new(), Some(Duration::from_millis(1))), Slept::TimedOut, "once");
            drop(call);
            assert_eq!(own(), before);
        }
        // A call that is restarted looks at its handlers in another way.
        waiter.nudge();
        assert_ne!(waiter.sleep(&mut PollSet::new(), long), Slept::Interrupted);
        assert_eq!(own(), before);
    }

    #[test]
    fn a_signal_ends_a_call_whose_sleeps_are_all_over_at_once() {
        if !in_own_process("a_signal_ends_a_call_whose_sleeps_are_all_over_at_once") {
            return;
        }
        let (waiter, busy) = (Waiter::new(), EventFd::new().unwrap());
        busy.signal();
        let by_descriptor = || waiter.sleep(&mut PollSet::from_elem(PollFd::new(busy.raw(), libc::POLLIN), 1), None);
        let by_nudge = || {
            waiter.nudge();
            let slept = waiter.sleep(&mut PollSet::new(), None);
            waiter.take_nudge();
            slept
        };
        let by_no_time = || waiter.sleep(&mut PollSet::new(), Some(Duration::ZERO));
        let ways: [&dyn Fn() -> Slept; 3] = [&by_descriptor, &by_nudge, &by_no_time];
        for (way, sleep) in ways.iter().enumerate() {
            for mask in [None, Some(0)] {
                let _call = SleepMask::new(mask);
                assert_ne!(sleep(), Slept::Interrupted);
                let before = HANDLED_BY_TEST.load(Ordering::SeqCst);
                // SAFETY: to this thread; the handler adds to a number.
                assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
                let interrupted = (0..2 * SHUT_SLEEPS).filter(|_| sleep() == Slept::Interrupted);
                assert_eq!(interrupted.count(), 1, "{way}, {mask:?}");
                assert_eq!(HANDLED_BY_TEST.load(Ordering::SeqCst), before + 1, "{way}, {mask:?}");
            }
        }
    }

    #[test]
    fn a_signal_that_is_to_end_a_wait_is_held_until_it_is_known() {
        if !in_own_process("a_signal_that_is_to_end_a_wait_is_held_until_it_is_known") {
            return;
        }
        let hold = Hold::new().expect("its handler is to end waits");
        // SAFETY: to this thread, which has blocked it.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        let mut fds = [PollFd::new(hold.raw(), libc::POLLIN)];
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), 1);
        assert!(hold.look() && !restarts());
        drop(hold);
        // Who is told of handlers needs not hold them.
        handlers_are_told();
        assert!(Hold::new().is_none());
    }
}
