//! Owned descriptors: read, write; eventfd, epoll and timerfd. Above: `poll`, `device`, `driver`. Below: the kernel.
//! EINTR is handled here: transfers are repeated.

use super::raw::syscall;
use super::{fork, retry};
use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Most slices in one writev or readv (UIO_MAXIOV).
pub(crate) const IOV_MAX: usize = 1024;

/// A descriptor that is closed when dropped. A fork(2) child has none of its parent's: there the number may belong to
/// another file, so every call returns EBADF, and dropping it closes nothing.
#[derive(Debug)]
pub struct Fd {
    number: RawFd,
    born: u32,
}

impl Fd {
    /// Takes ownership of `fd`. EBADF for a negative number.
    pub fn own(fd: RawFd) -> io::Result<Fd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let born = fork::generation();
        fork::close_in_children(fd);
        Ok(Fd { number: fd, born })
    }

    /// The number, for `poll`; -1 in a child of the process that opened it. Valid while `self` lives.
    #[inline]
    pub fn raw(&self) -> RawFd {
        if fork::is_current(self.born) { self.number } else { -1 }
    }

    /// Gives up ownership: children then share the descriptor, and the caller must close it.
    pub fn into_raw(self) -> RawFd {
        let number = self.raw();
        fork::keep_in_children(number);
        std::mem::forget(self);
        number
    }

    /// Moves a descriptor of the library's own out of the program's way: the low numbers are the program's, which
    /// counts on the lowest free one, and may have a use for a certain one (dup2). Under a limit that leaves no other
    /// number it stays where it is.
    pub fn out_of_the_way(self) -> Fd {
        let high = out_of_the_way(self.raw());
        high.and_then(Fd::own).unwrap_or(self)
    }

    /// Opens `path` (NUL-terminated) for reading and writing, close-on-exec, with `flags` added.
    pub(crate) fn open(path: &std::ffi::CStr, flags: i32) -> io::Result<Fd> {
        let flags = libc::O_RDWR | libc::O_CLOEXEC | flags;
        // SAFETY: `path` is a zero-terminated string that outlives the call.
        let fd = retry(|| unsafe { syscall!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) })?;
        Fd::own(fd as RawFd)
    }

    /// Creates a file of the library's own, or truncates it, for writing: as `File::create`, out of the program's way.
    pub(crate) fn create(path: &Path) -> io::Result<Fd> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        // SAFETY: `path` is a zero-terminated string that outlives the call.
        let fd = retry(|| unsafe { syscall!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o666) })?;
        Ok(Fd::own(fd as RawFd)?.out_of_the_way())
    }

    /// Reads into `buf`; returns the bytes read. EAGAIN: no data.
    #[inline]
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are those of a slice that is ours to write for the time of the call.
        retry(|| unsafe { syscall!(libc::SYS_read, self.raw(), buf.as_mut_ptr(), buf.len()) })
    }

    /// Reads one datagram into `bufs`; returns the bytes read. EAGAIN: no data.
    #[inline]
    pub fn readv(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let n = bufs.len().min(IOV_MAX);
        // SAFETY: IoSliceMut has the layout of iovec by its documentation; each is writable for the time of the call.
        retry(|| unsafe { syscall!(libc::SYS_readv, self.raw(), bufs.as_mut_ptr(), n) })
    }

    /// Writes `buf`; returns the bytes written. EAGAIN: no room.
    #[inline]
    pub fn write(&self, buf: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are those of a readable slice that outlives the call.
        retry(|| unsafe { syscall!(libc::SYS_write, self.raw(), buf.as_ptr(), buf.len()) })
    }

    /// Writes one datagram gathered from `bufs`, at most [`IOV_MAX`] (EINVAL above); returns the bytes written. EAGAIN:
    /// no room.
    #[inline]
    pub fn writev(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: IoSlice has the layout of iovec by its documentation; each is readable for the time of the call.
        retry(|| unsafe { syscall!(libc::SYS_writev, self.raw(), bufs.as_ptr(), bufs.len()) })
    }

    /// Makes reads and writes return EAGAIN instead of blocking.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        // SAFETY: F_GETFL takes no pointer.
        let flags = retry(|| unsafe { syscall!(libc::SYS_fcntl, self.raw(), libc::F_GETFL, 0) })?;
        let flags = flags as i32 | libc::O_NONBLOCK;
        // SAFETY: F_SETFL takes a number, no pointer.
        retry(|| unsafe { syscall!(libc::SYS_fcntl, self.raw(), libc::F_SETFL, flags) }).map(drop)
    }
}

impl io::Write for Fd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Fd::write(self, buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        if self.born != fork::generation() {
            return;
        }
        // Removed from the list first: once closed, the number may be a descriptor of the program.
        fork::keep_in_children(self.number);
        // SAFETY: the number is ours alone and is not used after this. EINTR from close(2) means closed on Linux: no
        // retry.
        let _ = unsafe { syscall!(libc::SYS_close, self.number) };
    }
}

/// The lowest number that a descriptor of the library's own gets, where the limit allows it.
const OUT_OF_THE_WAY: RawFd = 512;

/// A close-on-exec duplicate of `fd` from [`OUT_OF_THE_WAY`] on, or under a smaller limit in its upper quarter.
fn out_of_the_way(fd: RawFd) -> io::Result<RawFd> {
    let duplicate = |from: RawFd| {
        // SAFETY: F_DUPFD_CLOEXEC takes a number, no pointer.
        retry(|| unsafe { syscall!(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, from) }).map(|fd| fd as RawFd)
    };
    duplicate(OUT_OF_THE_WAY).or_else(|_| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is writable.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
        duplicate((limit.rlim_cur.min(OUT_OF_THE_WAY as u64) * 3 / 4) as RawFd)
    })
}

/// Converts a duration to the kernel's form.
pub(super) fn timespec(d: Duration) -> libc::timespec {
    libc::timespec { tv_sec: d.as_secs().min(i64::MAX as u64) as libc::time_t, tv_nsec: d.subsec_nanos() as _ }
}

/// An eventfd: a counter that polls readable when it is not zero.
#[derive(Debug)]
pub(crate) struct EventFd(Fd);

impl EventFd {
    /// A new eventfd: zero, non-blocking, close-on-exec.
    pub(crate) fn new() -> io::Result<EventFd> {
        let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
        // SAFETY: eventfd2 takes two numbers.
        let fd = retry(|| unsafe { syscall!(libc::SYS_eventfd2, 0, flags) })?;
        Ok(EventFd(Fd::own(fd as RawFd)?.out_of_the_way()))
    }
    /// Makes it readable.
    pub(crate) fn signal(&self) {
        // EAGAIN means the counter is at its maximum: the eventfd is readable, as intended.
        let _ = self.0.write(&1u64.to_ne_bytes());
    }
    /// Makes it unreadable again; returns whether it was signalled.
    pub(crate) fn drain(&self) -> bool {
        self.0.read(&mut [0; 8]).is_ok()
    }
    /// The descriptor, for `poll`.
    #[inline]
    pub(crate) fn raw(&self) -> RawFd {
        self.0.raw()
    }
}

/// A descriptor that polls readable when one of several does (epoll(7)).
#[derive(Debug)]
pub(crate) struct Epoll(Fd);

impl Epoll {
    /// An empty set, close-on-exec.
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: epoll_create1 takes a number.
        let fd = retry(|| unsafe { syscall!(libc::SYS_epoll_create1, libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll(Fd::own(fd as RawFd)?.out_of_the_way()))
    }
    /// Adds a descriptor, level-triggered; closing it removes it. EEXIST, EPERM: it cannot be polled.
    pub(crate) fn add(&self, fd: RawFd) -> io::Result<()> {
        let event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: the kernel reads a struct epoll_event, which outlives the call.
        retry(|| unsafe { syscall!(libc::SYS_epoll_ctl, self.0.raw(), libc::EPOLL_CTL_ADD, fd, &raw const event) })
            .map(drop)
    }
    /// The descriptor, for `poll`.
    pub(crate) fn raw(&self) -> RawFd {
        self.0.raw()
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
#[inline]
pub(crate) fn monotonic() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is writable; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// A one-shot timer of CLOCK_MONOTONIC that polls readable once it has fired.
#[derive(Debug)]
pub(crate) struct TimerFd(Fd);

impl TimerFd {
    /// A new timer: disarmed, non-blocking, close-on-exec.
    pub(crate) fn new() -> io::Result<TimerFd> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: timerfd_create takes two numbers.
        let fd = retry(|| unsafe { syscall!(libc::SYS_timerfd_create, libc::CLOCK_MONOTONIC, flags) })?;
        Ok(TimerFd(Fd::own(fd as RawFd)?.out_of_the_way()))
    }
    /// Sets the timer to fire after `after`; zero disarms.
    pub(crate) fn arm(&self, after: Duration) -> io::Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: zero, it_value: timespec(after) };
        let old = std::ptr::null_mut::<libc::itimerspec>();
        // SAFETY: `spec` is a valid itimerspec that outlives the call; a null `old` is allowed.
        retry(|| unsafe { syscall!(libc::SYS_timerfd_settime, self.0.raw(), 0, &raw const spec, old) }).map(drop)
    }
    /// Makes it unreadable again; returns whether it had fired.
    pub(crate) fn drain(&self) -> bool {
        self.0.read(&mut [0; 8]).is_ok()
    }
    /// The descriptor, for `poll`.
    #[inline]
    pub(crate) fn raw(&self) -> RawFd {
        self.0.raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{PollFd, poll};

    #[test]
    fn an_eventfd_polls_readable_from_signal_to_drain() {
        let e = EventFd::new().unwrap();
        let ready = |e: &EventFd| poll(&mut [PollFd::new(e.raw(), libc::POLLIN)], Some(Duration::ZERO)).unwrap();
        assert_eq!(ready(&e), 0);
        e.signal();
        e.signal();
        assert_eq!(ready(&e), 1);
        assert!(e.drain());
        assert!(!e.drain());
        assert_eq!(ready(&e), 0);
    }

    #[test]
    fn a_timerfd_that_fired_polls_readable_and_zero_disarms_it() {
        let t = TimerFd::new().unwrap();
        t.arm(Duration::from_nanos(1)).unwrap();
        let mut p = [PollFd::new(t.raw(), libc::POLLIN)];
        assert_eq!(poll(&mut p, None).unwrap(), 1);
        assert_ne!(p[0].revents() & libc::POLLIN, 0);
        assert!(t.drain());
        t.arm(Duration::from_secs(1000)).unwrap();
        t.arm(Duration::ZERO).unwrap();
        assert!(!t.drain());
    }

    #[test]
    fn errors_keep_the_kernels_errno() {
        let e = Fd::open(c"/nonexistent/file", 0).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(Fd::own(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_scattered_read_returns_what_a_gathered_write_sent() {
        let e = EventFd::new().unwrap();
        let seven = 7u64.to_ne_bytes();
        assert_eq!(e.0.writev(&[IoSlice::new(&seven[..])]).unwrap(), 8);
        let mut back = [0; 8];
        assert_eq!(e.0.readv(&mut [IoSliceMut::new(&mut back)]).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(back), 7);
    }
}
