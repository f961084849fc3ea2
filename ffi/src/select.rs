//! select and pselect: sets of descriptors as bits, over `poll`. Linux: fs/select.c.

use crate::cancel::blocking;
use crate::fdtable;
use crate::poll::{masked, poll_fds, timespec};
use crate::{kernel, probe};
use std::ffi::{c_int, c_long, c_short, c_ulong};
use std::sync::Arc;
use std::time::{Duration, Instant};
use usersock::error::{Error, Result};
use usersock::internal::sys::fd::Fd;
use usersock::internal::sys::signal::SleepMask;
use usersock::stack::Stack;

const POLLIN_SET: c_short =
    libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
const POLLOUT_SET: c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND | libc::POLLERR | libc::POLLNVAL;
const POLLEX_SET: c_short = libc::POLLPRI | libc::POLLNVAL;
/// Events that poll reports whether they were asked for or not.
const ALWAYS: c_short = libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
const WORD: usize = c_ulong::BITS as usize;

/// The size of this process's descriptor table in the kernel: select(2) ignores higher numbers. Linux: max_fds, FDSize
/// in proc(5).
fn table_size() -> Result<usize> {
    let path = c"/proc/self/status";
    let args = [libc::AT_FDCWD as c_long, path.as_ptr() as c_long, libc::O_CLOEXEC as c_long, 0];
    // SAFETY: `path` is a string.
    let file = Fd::own(unsafe { kernel::call(libc::SYS_openat, args) }? as c_int)?;
    let mut text = [0; 4096];
    let n = file.read(&mut text)?;
    let text = String::from_utf8_lossy(&text[..n]);
    let size = text.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse().ok());
    size.ok_or(Error::BadF)
}

/// A set of the program: null, or words of bits, possibly more than an fd_set has.
#[derive(Clone, Copy)]
struct Set {
    words: *mut c_ulong,
    /// The events that a bit stands for.
    bits: c_short,
}

impl Set {
    /// EFAULT if the words cannot be written.
    fn new(at: *mut libc::fd_set, bits: c_short, count: usize) -> Result<Set> {
        let bytes = count.div_ceil(WORD) * size_of::<c_ulong>();
        match at.is_null() || probe::writable_bytes(at as usize, bytes) == bytes {
            true => Ok(Set { words: at.cast(), bits }),
            false => Err(Error::Fault),
        }
    }

    /// # Safety
    /// `fd` is below the count that the set was made with, and its words are the program's by its word.
    unsafe fn has(self, fd: usize) -> bool {
        // SAFETY: not null, and within the words that `new` found good.
        !self.words.is_null() && unsafe { *self.words.add(fd / WORD) } & 1 << (fd % WORD) != 0
    }

    /// Makes the whole words that cover `count` descriptors those of `fds` (set_fd_set).
    /// # Safety
    /// As for `has`, of `count` and of each of `fds`.
    unsafe fn store(self, count: usize, fds: impl Iterator<Item = usize>) {
        if self.words.is_null() {
            return;
        }
        for word in 0..count.div_ceil(WORD) {
            // SAFETY: within the words that `new` found good.
            unsafe { *self.words.add(word) = 0 };
        }
        for fd in fds {
            // SAFETY: as above.
            unsafe { *self.words.add(fd / WORD) |= 1 << (fd % WORD) };
        }
    }
}

/// Measures a wait: by the clock of the stack on which it waits, whose time may be virtual, or else by the real one.
enum Stopwatch {
    Stack(Arc<Stack>, usersock::env::Instant),
    Real(Instant),
}

impl Stopwatch {
    fn start(fds: &[libc::pollfd]) -> Stopwatch {
        match fds.iter().find_map(|p| fdtable::get(p.fd)?.pollable().ok()?.stack()) {
            Some(stack) => Stopwatch::Stack(stack.clone(), stack.now()),
            None => Stopwatch::Real(Instant::now()),
        }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Stopwatch::Stack(stack, start) => stack.now() - *start,
            Stopwatch::Real(start) => start.elapsed(),
        }
    }
}

/// The whole of select(2): returns how many bits are set in the resulting sets, and starts `watch` before it waits.
/// # Safety
/// The sets are null or cover `count` descriptors.
unsafe fn select(
    count: c_int,
    sets: [*mut libc::fd_set; 3],
    limit: Option<Duration>,
    watch: &mut Option<Stopwatch>,
) -> Result<c_int> {
    let mut count = usize::try_from(count).map_err(|_| Error::Inval)?;
    if count > libc::FD_SETSIZE {
        count = count.min(table_size()?);
    }
    let [read, write, except] = sets;
    let sets = [
        Set::new(read, POLLIN_SET, count)?,
        Set::new(write, POLLOUT_SET, count)?,
        Set::new(except, POLLEX_SET, count)?,
    ];
    let mut fds = Vec::new();
    for fd in 0..count {
        // SAFETY: `fd` is below `count`.
        let asked = sets.iter().filter(|set| unsafe { set.has(fd) });
        let events = asked.fold(0, |events, set| events | set.bits & !ALWAYS);
        if events != 0 {
            fds.push(libc::pollfd { fd: fd as c_int, events, revents: 0 });
        }
    }
    if limit.is_some() {
        *watch = Some(Stopwatch::start(&fds));
    }
    let closed = |fds: &[libc::pollfd]| fds.iter().any(|p| p.revents & libc::POLLNVAL != 0);
    let mut polled = poll_fds(&mut fds, limit)?;
    if !polled.slept && closed(&fds) {
        let size = table_size()?;
        fds.retain(|p| (p.fd as usize) < size);
        if closed(&fds) {
            return Err(Error::BadF);
        }
        polled = poll_fds(&mut fds, limit)?;
        if !polled.slept && closed(&fds) {
            return Err(Error::BadF);
        }
    }
    let ready = sets.map(|set| {
        let ready = |p: &&libc::pollfd| {
            // SAFETY: `p.fd` was below `count`.
            p.revents & set.bits != 0 && unsafe { set.has(p.fd as usize) }
        };
        fds.iter().filter(ready).map(|p| p.fd as usize).collect::<Vec<usize>>()
    });
    let n = ready.iter().map(Vec::len).sum::<usize>() as c_int;
    for (set, ready) in sets.into_iter().zip(ready) {
        // SAFETY: they were below `count`.
        unsafe { set.store(count, ready.into_iter()) };
    }
    Ok(n)
}

/// As select(2); on return `timeout` holds the time left, as Linux does it. Errors: EBADF, EFAULT, EINTR, EINVAL.
/// # Safety
/// The sets are null or cover `count` descriptors; `timeout` is null or a timeval.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_select(
    count: c_int,
    read: *mut libc::fd_set,
    write: *mut libc::fd_set,
    except: *mut libc::fd_set,
    timeout: *mut libc::timeval,
) -> c_int {
    blocking(|| {
        if !timeout.is_null() && !probe::readable(timeout as usize, size_of::<libc::timeval>()) {
            return Err(Error::Fault);
        }
        // SAFETY: the caller vouches for `timeout`.
        let limit = match unsafe { timeout.as_ref() } {
            None => None,
            Some(t) if t.tv_sec < 0 || t.tv_usec < 0 => return Err(Error::Inval),
            Some(t) => Some(Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)),
        };
        let mut watch = None;
        let _never_restarted = SleepMask::new(None);
        // SAFETY: the caller vouches for the sets.
        let r = unsafe { select(count, [read, write, except], limit, &mut watch) };
        // SAFETY: the caller vouches for `timeout`.
        if let (Some(t), Some(limit)) = (unsafe { timeout.as_mut() }, limit) {
            let left = limit.saturating_sub(watch.map_or(Duration::ZERO, |w| w.elapsed()));
            t.tv_sec = left.as_secs() as i64;
            t.tv_usec = left.subsec_micros() as i64;
        }
        r
    })
}

/// As pselect(2): the signal mask is replaced for as long as it waits, and `timeout` stays as it is. Errors: as select.
/// # Safety
/// As `usk_select`; `timeout` is null or a timespec, `mask` null or a sigset_t.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_pselect(
    count: c_int,
    read: *mut libc::fd_set,
    write: *mut libc::fd_set,
    except: *mut libc::fd_set,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    blocking(|| {
        // SAFETY: the caller vouches for both.
        let (limit, _masked) = unsafe { (timespec(timeout)?, masked(mask)?) };
        // SAFETY: the caller vouches for the sets.
        unsafe { select(count, [read, write, except], limit, &mut None) }
    })
}
