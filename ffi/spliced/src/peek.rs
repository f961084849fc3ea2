//! The wait of a recv(2) with MSG_PEEK and MSG_WAITALL, which AF_UNIX answers with what is there: for more than there
//! is. A set of epoll tells of each arrival, and leaves nothing behind in the socket, which other processes may have.
//! Above: the preload shim.

use crate::sys::{self, Epoll, Result};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Waits for what arrives at a descriptor.
#[derive(Debug)]
pub struct Arrivals {
    epoll: Epoll,
    /// The end of SO_RCVTIMEO.
    until: Option<Instant>,
}

impl Arrivals {
    /// At `fd`, from now on, in a call that began at `since`. EMFILE, ENFILE, ENOMEM.
    pub fn new(fd: RawFd, since: Instant) -> Result<Arrivals> {
        let epoll = Epoll::new()?;
        epoll.add(fd, (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32, 0)?;
        let time = sys::timeout(fd, libc::SO_RCVTIMEO)?;
        let time = Duration::new(time.tv_sec.max(0) as u64, time.tv_usec.clamp(0, 999_999) as u32 * 1000);
        let until = if time.is_zero() { None } else { since.checked_add(time) };
        Ok(Arrivals { epoll, until })
    }

    /// Waits for the next. True: there is one, after which more may come; the first is what was there. False: the last
    /// has come, the time is over, or a signal's handler has run.
    pub fn wait(&self) -> bool {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }];
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let n = self.epoll.wait(&mut events, left).unwrap_or(0);
        let last = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        n == 1 && events[0].events & last == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn each_arrival_is_told_once_and_the_end_at_last() {
        let (a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"x").unwrap();
        let arrivals = Arrivals::new(a.as_raw_fd(), Instant::now()).unwrap();
        assert!(arrivals.wait());
        b.write_all(b"y").unwrap();
        assert!(arrivals.wait());
        b.write_all(b"z").unwrap();
        drop(b);
        assert!(!arrivals.wait());
    }

    #[test]
    fn it_waits_no_longer_than_the_socket_does() {
        let (a, _b) = UnixStream::pair().unwrap();
        sys::set_timeout(a.as_raw_fd(), libc::SO_RCVTIMEO, libc::timeval { tv_sec: 0, tv_usec: 1000 }).unwrap();
        let arrivals = Arrivals::new(a.as_raw_fd(), Instant::now()).unwrap();
        assert!(!arrivals.wait());
    }

    #[test]
    fn the_time_of_the_whole_call_counts() {
        let (a, _b) = UnixStream::pair().unwrap();
        sys::set_timeout(a.as_raw_fd(), libc::SO_RCVTIMEO, libc::timeval { tv_sec: 3600, tv_usec: 0 }).unwrap();
        let since = Instant::now().checked_sub(Duration::from_secs(3600)).unwrap();
        assert!(!Arrivals::new(a.as_raw_fd(), since).unwrap().wait());
    }
}
