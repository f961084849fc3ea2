//! The end of the process. The kernel closes the descriptors of one that ends and goes on to send what they have
//! queued; a stack in the process ends with it. So its sockets are closed before, and what they still have to send is
//! waited for. A process that a signal ends without a handler sends nothing. Above: `process` (_exit), exit(3).

use crate::role::{self, Role, role};
use crate::signals;
use std::ffi::{c_int, c_long, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};
use usersock::internal::sys::raw;
use usersock::internal::sys::signal::postponed::depth;
use usersock::stack::Stack;
use usersock_ffi::admin::usk_pcap_stop;
use usersock_ffi::fdtable::numbers;
use usersock_ffi::socket::usk_close;
use usersock_ffi::stacks::default_stack;

/// How long the end of a process waits for its peers to acknowledge what was sent.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// How long it waits for their ends of connections that are otherwise over.
const HALF_CLOSED: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1);
/// The process ends after this many seconds in any case, and after one where the handler of a fault (SIGSEGV) ends it
/// in the middle of a call of ours: the call may hold what closing needs.
const AT_MOST: libc::time_t = 8;

/// What exit(3) was called with.
static STATUS: AtomicI32 = AtomicI32::new(0);

/// Has exit(3) tell its status.
pub(crate) fn watch_exit() {
    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), arg: *mut c_void) -> c_int;
        fn __cxa_at_quick_exit(function: extern "C" fn(*mut c_void), module: *mut c_void) -> c_int;
    }
    extern "C" fn note(status: c_int, _: *mut c_void) {
        STATUS.store(status, Ordering::Relaxed);
    }
    extern "C" fn quick(_: *mut c_void) {
        finish(STATUS.load(Ordering::Relaxed));
    }
    // SAFETY: a function of the type that it wants. Without memory for it the status of a process that hangs is 0.
    unsafe { on_exit(note, std::ptr::null_mut()) };
    // SAFETY: as above; first registered, so called last.
    unsafe { __cxa_at_quick_exit(quick, std::ptr::null_mut()) };
}

/// The end of exit(3): what stdio has of our sockets is written before they are closed.
pub(crate) fn at_exit() {
    if role() == Role::Owner {
        // SAFETY: null flushes all.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        finish(STATUS.load(Ordering::Relaxed));
    }
}

/// Closes the sockets of this process and waits until what they have to send has arrived, at most
/// [`UNACKNOWLEDGED`].
pub(crate) fn finish(status: c_int) {
    if role() != Role::Owner || role::borrowed() {
        return;
    }
    let interrupted = depth() > 0;
    end_within(if interrupted { 1 } else { AT_MOST }, status);
    close_all(!interrupted);
}

/// The same before another program takes the place of this one. Standard streams that are sockets stay open, as what
/// reserves their numbers.
pub(crate) fn before_exec() {
    if role() != Role::Owner || role::borrowed() {
        return;
    }
    for fd in (0..=2).filter(|fd| numbers().contains(*fd)) {
        let copy = call(libc::SYS_fcntl, [fd.into(), libc::F_DUPFD_CLOEXEC.into(), 3]);
        usk_close(fd);
        call(libc::SYS_dup3, [copy, fd.into(), 0]);
        call(libc::SYS_close, [copy, 0, 0]);
    }
    close_all(true);
}

fn call(number: c_long, [a, b, c]: [c_long; 3]) -> c_long {
    // SAFETY: calls that take numbers.
    unsafe { raw::call(number, [a, b, c, 0, 0, 0]) }
}

fn close_all(wait: bool) {
    let mut from = 0;
    while let Some(fd) = numbers().next(from) {
        usk_close(fd);
        from = fd + 1;
    }
    if let Ok(stack) = default_stack()
        && wait
    {
        wait_for_peers(&stack);
    }
    // A capture that the configuration asks for: EINVAL when there is none.
    // SAFETY: null is the default stack.
    unsafe { usk_pcap_stop(std::ptr::null_mut()) };
}

/// Ends the process after some seconds. SIGALRM is the program's no longer.
fn end_within(seconds: libc::time_t, status: c_int) {
    extern "C" fn end(_: c_int) {
        // SAFETY: ends the process.
        unsafe { raw::call(libc::SYS_exit_group, [STATUS.load(Ordering::Relaxed).into(), 0, 0, 0, 0, 0]) };
    }
    STATUS.store(status, Ordering::Relaxed);
    // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = end as *const () as usize;
    // Not postponed to the end of a call. SAFETY: `action` is complete, and its handler makes one system call.
    unsafe { signals::real::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) };
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: zero, it_value: libc::timeval { tv_sec: seconds, tv_usec: 0 } };
    let alarm = 1u64 << (libc::SIGALRM - 1);
    let unblock = [libc::SIG_UNBLOCK.into(), &raw const alarm as _, 0, size_of::<u64>() as _, 0, 0];
    // SAFETY: `alarm` is a set of the size that is said.
    unsafe { raw::call(libc::SYS_rt_sigprocmask, unblock) };
    // SAFETY: `timer` is an itimerval.
    unsafe { raw::call(libc::SYS_setitimer, [libc::ITIMER_REAL.into(), &raw const timer as _, 0, 0, 0, 0]) };
}

fn wait_for_peers(stack: &Arc<Stack>) {
    use usersock::sock::state::State::{Closing, FinWait1, FinWait2, LastAck};
    let begin = Instant::now();
    loop {
        let left = stack.sockets();
        let any = |states: &[_]| left.iter().any(|s| states.contains(&s.state));
        let limit = match any(&[FinWait1, LastAck, Closing]) {
            true => UNACKNOWLEDGED,
            false if any(&[FinWait2]) => HALF_CLOSED,
            false => return,
        };
        if begin.elapsed() >= limit {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
