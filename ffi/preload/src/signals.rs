//! Handlers of signals. A system call that is to wait is interrupted by a signal from its first moment on, and the
//! handler runs when nothing of it is left: it may jump (siglongjmp(3)), and call what it likes. A call of ours
//! computes in the program's own context, where a handler would leave no trace before a sleep, and what the call holds
//! after a jump. So handlers are called by one of ours, which within a call has the signal wait for the call's end
//! (`sys::signal::postponed`). The program does not see it: what sigaction(2) and signal(2) return are its own
//! handlers.
//!
//! Signals that the program's instructions cause (SIGSEGV and its kin) are left alone: no call of ours waits for them.

use crate::real::{find, interpose};
use crate::role::{Role, borrowed, role};
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use usersock::internal::sys::signal::{in_handler, note_handler, postponed};

type Handler = libc::sighandler_t;
type Action = *const libc::sigaction;

/// One past the last signal.
const SIGNALS: usize = 65;
/// The program's handlers.
static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];
/// Which of them the program has with SA_SIGINFO. Ours always has it.
static INFORMED: [AtomicBool; SIGNALS] = [const { AtomicBool::new(false) }; SIGNALS];

interpose! {
    /// sigaction(2).
    fn sigaction(signal: c_int, new: Action, old: *mut libc::sigaction) -> c_int,
    ours handles(signal) => change(signal, new, old, |new, old| real::sigaction(signal, new, old)),
    else by_name(c"sigaction", |f| std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, Action,
        *mut libc::sigaction) -> c_int>(f)(signal, new, old));

    /// sigaction(2) by its older name.
    fn __sigaction(signal: c_int, new: Action, old: *mut libc::sigaction) -> c_int,
    ours handles(signal) => change(signal, new, old, |new, old| real::__sigaction(signal, new, old)),
    else by_name(c"__sigaction", |f| std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, Action,
        *mut libc::sigaction) -> c_int>(f)(signal, new, old));

    /// signal(2).
    fn signal(signal: c_int, handler: Handler) -> Handler,
    ours handles(signal) => set(signal, handler, |h| real::signal(signal, h)),
    else by_name(c"signal", |f| of_two(f)(signal, handler));

    /// signal(2) by its BSD name.
    fn bsd_signal(signal: c_int, handler: Handler) -> Handler,
    ours handles(signal) => set(signal, handler, |h| real::bsd_signal(signal, h)),
    else by_name(c"bsd_signal", |f| of_two(f)(signal, handler));

    /// signal(2) of System V: the handler is called once.
    fn sysv_signal(signal: c_int, handler: Handler) -> Handler,
    ours handles(signal) => set(signal, handler, |h| real::sysv_signal(signal, h)),
    else by_name(c"sysv_signal", |f| of_two(f)(signal, handler));

    /// The same by its older name, which programs of strict standards are linked to.
    fn __sysv_signal(signal: c_int, handler: Handler) -> Handler,
    ours handles(signal) => set(signal, handler, |h| real::__sysv_signal(signal, h)),
    else by_name(c"__sysv_signal", |f| of_two(f)(signal, handler));

    /// signal(2) by another name.
    fn ssignal(signal: c_int, handler: Handler) -> Handler,
    ours handles(signal) => set(signal, handler, |h| real::ssignal(signal, h)),
    else by_name(c"ssignal", |f| of_two(f)(signal, handler));

    /// sigset(3).
    fn sigset(signal: c_int, handler: Handler) -> Handler,
    ours handles(signal) => set(signal, handler, |h| real::sigset(signal, h)),
    else by_name(c"sigset", |f| of_two(f)(signal, handler));
}

/// A call of the real function before the constructor has run.
fn by_name<T>(name: &CStr, call: impl FnOnce(*mut c_void) -> T) -> T {
    call(find(name))
}

/// A function as signal(2).
/// # Safety
/// `f` is one.
unsafe fn of_two(f: *mut c_void) -> unsafe extern "C" fn(c_int, Handler) -> Handler {
    // SAFETY: as the caller says.
    unsafe { std::mem::transmute(f) }
}

/// Whether handlers of a signal are called by ours.
fn handles(signal: c_int) -> bool {
    let caused = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];
    role() == Role::Owner && (1..SIGNALS as c_int).contains(&signal) && !caused.contains(&signal)
}

/// Calls the program's handler, if not at the end of a call. It may leave by longjmp(3), or never return.
extern "C-unwind" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let action = installed(signal);
    let has = |flag| action.is_some_and(|action| action.sa_flags & flag != 0);
    let (restart, informed) = (has(libc::SA_RESTART), has(libc::SA_SIGINFO));
    // SAFETY: as below.
    if informed && unsafe { postponed::is_mark(info) } {
        return;
    }
    let mut at_once = |info| run(signal, info, context, informed);
    // SAFETY: the arguments of a handler with SA_SIGINFO.
    if informed && unsafe { postponed::postpone(signal, info, context, restart, &mut at_once) } {
        if let Some(mut action) = action.filter(|action| action.sa_sigaction == libc::SIG_DFL) {
            // SA_RESETHAND, which the kernel obeys at each of the two times.
            action.sa_sigaction = ours();
            install(signal, &action);
        }
        return;
    }
    run(signal, info, context, informed);
    // Afterwards: calls that the handler itself makes begin and end on their own.
    note_handler(restart);
}

/// Calls the program's handler; `informed`: the arguments are those of one with SA_SIGINFO.
fn run(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, informed: bool) {
    type Full = unsafe extern "C-unwind" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    let handler = HANDLERS[signal as usize % SIGNALS].load(Ordering::Acquire);
    if handler > libc::SIG_IGN {
        // SAFETY: as said; else the context is not looked at.
        let masks = if informed { unsafe { postponed::handler_begins(context) } } else { None };
        // SAFETY: a handler of the program's, of three arguments or of one, which leaves the others alone.
        in_handler(|| unsafe { std::mem::transmute::<usize, Full>(handler)(signal, info, context) });
        postponed::handler_ends(masks);
    }
}

/// What the kernel has of a signal.
fn installed(signal: c_int) -> Option<libc::sigaction> {
    // SAFETY: an all-zero sigaction is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: changes nothing; `action` is writable.
    (unsafe { real::sigaction(signal, std::ptr::null(), &mut action) } == 0).then_some(action)
}

fn install(signal: c_int, action: &libc::sigaction) {
    // SAFETY: a complete action, which the kernel had but for its handler or a flag.
    unsafe { real::sigaction(signal, action, std::ptr::null_mut()) };
}

fn ours() -> Handler {
    on_signal as *const () as Handler
}

/// What is to be installed for the program's `handler`. A child between vfork(2) and exec(2) has the table of its
/// parent, and installs its own as it is.
fn instead(signal: c_int, handler: Handler) -> Handler {
    let function = ![libc::SIG_DFL, libc::SIG_IGN, libc::SIG_ERR, 2 /* SIG_HOLD */, ours()].contains(&handler);
    if !function || borrowed() {
        return handler;
    }
    HANDLERS[signal as usize].store(handler, Ordering::Release);
    ours()
}

/// The program's handler for one that was installed.
fn program(kept: Handler, installed: Handler) -> Handler {
    if installed == ours() { kept } else { installed }
}

/// sigaction(2) by `real`, with our handler in place of the program's.
/// # Safety
/// `new` and `old` are null or of this type.
unsafe fn change(
    signal: c_int,
    new: Action,
    old: *mut libc::sigaction,
    real: impl FnOnce(Action, *mut libc::sigaction) -> c_int,
) -> c_int {
    let (handler, informed) = (&HANDLERS[signal as usize], &INFORMED[signal as usize]);
    let kept = (handler.load(Ordering::Acquire), informed.load(Ordering::Relaxed));
    // SAFETY: as the caller says.
    let changed = unsafe { new.as_ref() }.map(|new| {
        let mut action = *new;
        action.sa_sigaction = instead(signal, new.sa_sigaction);
        if action.sa_sigaction == ours() {
            informed.store(new.sa_flags & libc::SA_SIGINFO != 0, Ordering::Relaxed);
            action.sa_flags |= libc::SA_SIGINFO;
        }
        action
    });
    let r = real(changed.as_ref().map_or(std::ptr::null(), |action| action), old);
    if r != 0 {
        handler.store(kept.0, Ordering::Release);
        informed.store(kept.1, Ordering::Relaxed);
    // SAFETY: as the caller says.
    } else if let Some(old) = unsafe { old.as_mut() }
        && old.sa_sigaction == ours()
    {
        old.sa_sigaction = kept.0;
        old.sa_flags &= if kept.1 { !0 } else { !libc::SA_SIGINFO };
    }
    r
}

/// signal(2) and its kin by `real`.
fn set(signal: c_int, handler: Handler, real: impl FnOnce(Handler) -> Handler) -> Handler {
    let kept = HANDLERS[signal as usize].load(Ordering::Acquire);
    let before = real(instead(signal, handler));
    if before == libc::SIG_ERR {
        HANDLERS[signal as usize].store(kept, Ordering::Release);
    } else if let Some(mut action) = installed(signal).filter(|action| action.sa_sigaction == ours()) {
        INFORMED[signal as usize].store(false, Ordering::Relaxed);
        action.sa_flags |= libc::SA_SIGINFO;
        install(signal, &action);
    }
    program(kept, before)
}
