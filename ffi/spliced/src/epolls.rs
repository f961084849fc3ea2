//! Which epoll sets of the process have a descriptor, by /proc: another socket that takes its number is to be in them,
//! too, and epoll forgets one of which no descriptor is left. Above: `client`. Allocates nothing.

use crate::sys::{self, Owned};
use std::ffi::CStr;
use std::os::fd::RawFd;
use usersock::error::Error;

/// An entry of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    epoll: RawFd,
    events: u32,
    data: u64,
}

/// A descriptor's entries, at most as many as there is room for: programs have one or two sets.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    list: [Entry; 8],
    len: usize,
}

impl Entries {
    /// Those of `fd`. None where there is no /proc. Errors: EMFILE, ENFILE.
    pub(crate) fn of(fd: RawFd) -> sys::Result<Entries> {
        let mut entries = Entries::default();
        let Ok(inode) = sys::inode(fd) else { return Ok(entries) };
        let Some(directory) = open(c"/proc/self/fdinfo")? else { return Ok(entries) };
        let mut names = [0; 2048];
        while let Ok(n @ 1..) = sys::list(&directory, &mut names) {
            for number in numbers(&names[..n]) {
                let mut path = [0; 40];
                if sys::is_epoll(path_of(b"/proc/self/fd/", number, &mut path)) {
                    entries.look(number, fd, inode)?;
                }
            }
        }
        Ok(entries)
    }

    /// Adds what the set `epoll` has of `fd`.
    fn look(&mut self, epoll: RawFd, fd: RawFd, inode: u64) -> sys::Result<()> {
        let mut path = [0; 40];
        let Some(file) = open(path_of(b"/proc/self/fdinfo/", epoll, &mut path))? else { return Ok(()) };
        lines(&file, |line| {
            if let Some((found, events, data, of)) = entry(line)
                && (found, of) == (fd, inode)
                && let Some(slot) = self.list.get_mut(self.len)
            {
                *slot = Entry { epoll, events, data };
                self.len += 1;
            }
        });
        Ok(())
    }

    /// Makes the same entries for what has the number now.
    pub(crate) fn restore(&self, fd: RawFd) {
        for entry in &self.list[..self.len] {
            // EEXIST: the old socket has a duplicate, or the program was faster.
            let _ = sys::epoll_add(entry.epoll, fd, entry.events, entry.data);
        }
    }
}

/// A file of /proc; None: it is not there, or not any more. Errors: EMFILE, ENFILE.
fn open(path: &CStr) -> sys::Result<Option<Owned>> {
    match sys::open(path) {
        Err(e @ (Error::MFile | Error::NFile)) => Err(e),
        r => Ok(r.ok()),
    }
}

/// The names of a directory's entries that are numbers, as getdents64(2) writes them.
fn numbers(mut entries: &[u8]) -> impl Iterator<Item = RawFd> {
    /// Before a name are inode and offset, 8 bytes each, the length of the entry and a type.
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        let len = u16::from_ne_bytes(*entries.get(16..)?.first_chunk()?) as usize;
        let (one, rest) = entries.split_at_checked(len)?;
        entries = rest;
        let name = one.get(NAME..).unwrap_or_default();
        let digits = name.iter().position(|byte| *byte == 0).map_or(name, |end| &name[..end]);
        Some(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()))
    })
    .flatten()
}

/// A path that ends with a number.
fn path_of<'a>(directory: &[u8], number: RawFd, room: &'a mut [u8; 40]) -> &'a CStr {
    use std::io::Write;
    let mut rest = &mut room[..];
    // Both fit, and behind them are zeroes.
    let _ = rest.write_all(directory).and_then(|()| write!(rest, "{number}"));
    CStr::from_bytes_until_nul(room).unwrap_or_default()
}

/// Passes each line of a file to `f`; of a long one, its beginning.
fn lines(file: &Owned, mut f: impl FnMut(&[u8])) {
    let (mut room, mut len) = ([0; 1024], 0);
    while let Ok(n @ 1..) = sys::read(file, &mut room[len..]) {
        len += n;
        while let Some(end) = room[..len].iter().position(|byte| *byte == b'\n') {
            f(&room[..end]);
            room.copy_within(end + 1..len, 0);
            len -= end + 1;
        }
        if len == room.len() {
            len = 0;
        }
    }
}

/// A line of an epoll set in fdinfo (proc_pid_fdinfo(5)): the number, the events, the data and the file's inode.
fn entry(line: &[u8]) -> Option<(RawFd, u32, u64, u64)> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("tfd:")?;
    let mut words = line.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let (mut events, mut data, mut inode) = (None, None, None);
    while let Some(word) = words.next() {
        match word {
            "events:" => events = u32::from_str_radix(words.next()?, 16).ok(),
            "data:" => data = u64::from_str_radix(words.next()?, 16).ok(),
            _ => inode = word.strip_prefix("ino:").and_then(|ino| u64::from_str_radix(ino, 16).ok()).or(inode),
        }
    }
    Some((number, events?, data?, inode?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    #[test]
    fn a_line_is_read_and_others_are_none() {
        let line = b"tfd:        5 events: 80000019 data: ffffffff00000005  pos:0 ino:1a2b sdev:9";
        assert_eq!(entry(line), Some((5, 0x8000_0019, 0xffff_ffff_0000_0005, 0x1a2b)));
        for other in [&b"pos:\t0"[..], b"tfd: x events: 19", b"tfd: 5 events: 19 data: 5", b"\xff", b""] {
            assert_eq!(entry(other), None);
        }
    }

    #[test]
    fn what_takes_a_sockets_number_is_in_its_sets() {
        let (old, new) = (UnixDatagram::unbound().unwrap(), UnixDatagram::unbound().unwrap());
        let sets = [sys::Epoll::new().unwrap(), sys::Epoll::new().unwrap(), sys::Epoll::new().unwrap()];
        let others: Vec<_> = (0..100).map(|_| UnixDatagram::unbound().unwrap()).collect();
        let events = (libc::EPOLLOUT | libc::EPOLLET) as u32;
        for set in &sets[..2] {
            for other in &others {
                set.add(other.as_raw_fd(), 0, 1).unwrap();
            }
        }
        sets[0].add(old.as_raw_fd(), libc::EPOLLIN as u32, 7).unwrap();
        sets[1].add(old.as_raw_fd(), events, u64::MAX - 1).unwrap();
        let entries = Entries::of(old.as_raw_fd()).unwrap();
        assert_eq!(entries.len, 2);
        sys::duplicate(new.as_raw_fd(), old.as_raw_fd(), true).unwrap();
        entries.restore(old.as_raw_fd());
        let mut out = [libc::epoll_event { events: 0, u64: 0 }; 2];
        assert_eq!(sets[1].wait(&mut out, Some(Duration::ZERO)), Ok(1));
        let event = out[0];
        assert_eq!((event.events & events, event.u64), (libc::EPOLLOUT as u32, u64::MAX - 1));
        // The others have nothing to tell, but the first has the entry.
        assert_eq!(sets[0].wait(&mut out, Some(Duration::ZERO)), Ok(0));
        sets[0].modify(old.as_raw_fd(), 0, 7).unwrap();
        assert!(sets[2].modify(old.as_raw_fd(), 0, 7).is_err());
        assert_eq!(Entries::of(others[0].as_raw_fd()).map(|all| all.len), Ok(2));
        assert_eq!(Entries::of(-1).map(|all| all.len), Ok(0));
    }
}
