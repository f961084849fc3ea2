//! The constructor: finds the real functions, decides whose stack it is, and makes it. That is done before the program
//! runs, so that a program which gives up its rights keeps its device, and a bad configuration is reported by one line
//! and exit status 2. Above: the loader, and the first call that makes a socket, which may come from the constructor
//! of another library.
//!
//! A program that this one starts inherits LD_PRELOAD and USERSOCK_CONFIG, but not the device, which its parent has.
//! So the owner names itself in the environment, USERSOCK_OWNER, by its process and the time it started; while it
//! lives, the others leave the device alone. The same process after exec(2) finds itself named, and attaches again. So
//! does a program whose owner has ended; children of the owner that have not yet called exec(2), and its last threads,
//! keep the device open a moment longer, so it waits for that.

use crate::role::{self, Role, role, say};
use crate::{INTERPOSED, end, environment, real, spliced};
use std::ffi::{CStr, CString, c_int, c_long};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use usersock::internal::sys::raw;
use usersock::internal::sys::signal::handlers_are_told;

const OWNER: &CStr = c"USERSOCK_OWNER";
/// How long a program whose owner has ended waits for the device, milliseconds, and how often it tries.
const HANDED_ON_MS: u32 = 2000;
const TRY_MS: u32 = 5;
/// The thread that loads.
static LOADER: AtomicI32 = AtomicI32::new(0);
/// Only TCP is ours: USERSOCK_SOCKETS=tcp.
static TCP_ONLY: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = {
    extern "C" fn constructor() {
        ready();
    }
    constructor
};

#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = {
    extern "C" fn destructor() {
        end::at_exit();
    }
    destructor
};

/// Whether UDP and raw sockets are left to the kernel.
#[inline]
pub(crate) fn tcp_only() -> bool {
    TCP_ONLY.load(Ordering::Relaxed)
}

/// The role of this process, which is decided at the first call.
#[inline]
pub(crate) fn ready() -> Role {
    match role() {
        Role::Early | Role::Loading => load(),
        decided => decided,
    }
}

#[cold]
fn load() -> Role {
    if !role::begin() {
        // By another thread, for whose end this one waits; or a call from inside, by a plug-in that is being loaded.
        while role() == Role::Loading && LOADER.load(Ordering::Acquire) != thread() {
            std::thread::yield_now();
        }
        return role();
    }
    LOADER.store(thread(), Ordering::Release);
    INTERPOSED.into_iter().for_each(real::resolve);
    let me = role::process();
    if let Some(server) = spliced::from_environment() {
        server.unwrap_or_else(|line| refuse(&line));
        environment::remember();
        TCP_ONLY.store(true, Ordering::Relaxed);
        role::decide(Role::Spliced, me);
        return Role::Spliced;
    }
    let mark = std::env::var_os("USERSOCK_OWNER");
    let owner = mark.as_ref().and_then(|text| living(text.to_str()?));
    if let Some(owner) = owner.filter(|owner| *owner != me) {
        role::decide(Role::Helper, owner);
        return Role::Helper;
    }
    let orphan = mark.is_some() && owner.is_none();
    if let Err(line) = attach(me, if orphan { HANDED_ON_MS } else { 0 }) {
        refuse(&line);
    }
    role::decide(Role::Owner, me);
    Role::Owner
}

/// Ends the process before its program runs.
fn refuse(line: &str) {
    say(line);
    // SAFETY: ends the process.
    unsafe { raw::call(libc::SYS_exit_group, [2, 0, 0, 0, 0, 0]) };
}

/// Makes the stack, and names this process as its owner. While the device is another process's, tries again for
/// `patience_ms`.
fn attach(me: c_int, patience_ms: u32) -> Result<(), String> {
    match std::env::var_os("USERSOCK_SOCKETS").as_ref().map(|text| text.to_str()) {
        None | Some(Some("all")) => {}
        Some(Some("tcp")) => TCP_ONLY.store(true, Ordering::Relaxed),
        Some(_) => return Err("USERSOCK_SOCKETS: it is \"all\", or \"tcp\" to leave UDP to the kernel".to_owned()),
    }
    let mut left = patience_ms / TRY_MS;
    // SAFETY: null takes the configuration from the environment.
    while unsafe { usersock_ffi::admin::usk_init(std::ptr::null()) } != 0 {
        if left > 0 && usersock_ffi::boundary::errno() == libc::EBUSY {
            left -= 1;
            std::thread::sleep(std::time::Duration::from_millis(u64::from(TRY_MS)));
            continue;
        }
        // SAFETY: a string, valid until this thread's next such call.
        return Err(unsafe { CStr::from_ptr(usersock_ffi::admin::usk_config_error()) }.to_string_lossy().into_owned());
    }
    // SAFETY: the handler takes no lock.
    unsafe { libc::pthread_atfork(None, None, Some(role::in_child)) };
    end::watch_exit();
    handlers_are_told();
    let mark = started(me).and_then(|start| CString::new(format!("{me}.{start}")).ok());
    // SAFETY: two strings. Before main, and a constructor's threads do not change the environment.
    if mark.is_none_or(|mark| unsafe { libc::setenv(OWNER.as_ptr(), mark.as_ptr(), 1) } != 0) {
        return Err("USERSOCK_OWNER cannot be set: /proc is needed, and memory".to_owned());
    }
    Ok(())
}

/// The process that a mark names, if it lives.
fn living(mark: &str) -> Option<c_int> {
    let (pid, start) = mark.split_once('.')?;
    let pid = pid.parse().ok()?;
    (started(pid)? == start).then_some(pid)
}

/// When a process started, in clock ticks after boot: with its number that is unique.
fn started(pid: c_int) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    // The third field, the state, comes first: a zombie owns nothing.
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(fields.nth(18)?.to_owned())
}

fn thread() -> c_int {
    // SAFETY: gettid takes no argument.
    unsafe { raw::call(libc::SYS_gettid, [0 as c_long; 6]) as c_int }
}
