//! The server's end of a program's descriptor. A reset is told by read(2) of the program only where this end is closed
//! with bytes unread, so there mostly is one: bytes are looked at (MSG_PEEK from SO_PEEK_OFF on), and removed later,
//! all but the last. Of large pieces none stays. Above: `stream`.

use crate::diag;
use crate::inband::{self, Mark};
use crate::sys::{self, Owned};
use std::io::IoSlice;
use usersock::error::Error;
use usersock::sock::pages::Pages;

/// Bytes that one read looks at, before it asks how many there are.
pub(super) const LOOK: usize = 16 << 10;
/// Most bytes that one read takes: what a program that waits for its socket to be writable leaves there (a quarter of
/// the socket's room), so that it is woken once for all of them.
const CHUNK: usize = 512 << 10;
/// Bytes and reads after which what was taken is removed at once: until then the kernel counts it as the program's,
/// which has 208 KiB by default, and finds its socket not writable above a quarter of that.
const KEPT_MAX: usize = 1 << 10;
const READS_MAX: u32 = 16;
/// Bytes that may stay for ever: each may have been written alone, and counts about 1 KiB then. More are removed a
/// little later, for the program that does write so.
const SAFE: usize = 32;

/// What the kernel tells the server about a descriptor, and what the server has taken of its bytes.
#[derive(Debug)]
pub(super) struct End {
    fd: Owned,
    /// Bytes at the front of the queue that were taken already; SO_PEEK_OFF is the same.
    kept: usize,
    /// Reads since some were removed.
    reads: u32,
    /// More than [`SAFE`] are there, and the loop knows.
    untidy: bool,
    /// The last read found many bytes.
    bulk: bool,
    /// What comes next may be in a buffer of which much was removed.
    pins: bool,
    /// epoll said so, and no read has found the queue empty since.
    readable: bool,
    /// No write has found the queue full since epoll said so.
    writable: bool,
    /// The program will send no more: the end follows its last bytes.
    pub(super) ends: bool,
    /// The program has closed the descriptor, or shut it down both ways.
    pub(super) hung_up: bool,
    /// The program's writes fail.
    refuses: bool,
    /// What epoll is to tell, and what it has been told to.
    interest: u32,
    watched: u32,
}

/// What is watched of every end. That the program has read something is told only where a write waits for it: else each
/// of its reads would wake the server.
pub(super) const EVENTS: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes taken from the queue; 0 at its end.
    pub(super) len: usize,
    /// Bytes of the program, behind those that went into pages, that are in the memory for few.
    pub(super) few: usize,
    /// What follows them.
    pub(super) mark: Option<Mark>,
}

impl End {
    /// Of a connection to `fd`, watched for [`EVENTS`].
    pub(super) fn new(fd: Owned) -> sys::Result<End> {
        sys::set_option(fd.raw(), libc::SO_PEEK_OFF, 0)?;
        Ok(End {
            fd,
            kept: 0,
            reads: 0,
            untidy: false,
            bulk: false,
            pins: false,
            readable: false,
            writable: true,
            ends: false,
            hung_up: false,
            refuses: false,
            interest: EVENTS,
            watched: EVENTS,
        })
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> &Owned {
        &self.fd
    }

    /// Whether a read may find something.
    pub(super) fn readable(&self) -> bool {
        self.readable
    }

    /// Whether a write may be taken.
    pub(super) fn writable(&self) -> bool {
        self.writable
    }

    /// Notes what epoll said.
    pub(super) fn epoll(&mut self, events: u32) {
        let has = |bits: i32| events & bits as u32 != 0;
        self.readable |= has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
        if has(libc::EPOLLOUT) && std::mem::replace(&mut self.writable, true) {
            // Nobody waited for it.
            self.interest = EVENTS;
        }
        self.ends |= has(libc::EPOLLRDHUP | libc::EPOLLHUP);
        self.hung_up |= has(libc::EPOLLHUP);
    }

    /// Whether the program has closed the descriptor, which epoll may not have said yet.
    pub(super) fn has_hung_up(&mut self) -> bool {
        self.hung_up = self.hung_up || sys::hung_up(self.fd.raw());
        self.hung_up
    }

    /// Whether a program still has the descriptor, be it shut down both ways. false as well where that cannot be found
    /// out. Costs more the more AF_UNIX sockets there are.
    pub(super) fn is_held(&self) -> bool {
        sys::inode(self.fd.raw()).and_then(diag::other_end_is_held).unwrap_or(false)
    }

    /// What is to be watched from now on; None: what is watched already.
    pub(super) fn watch(&mut self) -> Option<u32> {
        let changed = std::mem::replace(&mut self.watched, self.interest) != self.interest;
        changed.then_some(self.interest)
    }

    /// Reads what comes next: many bytes into `pages`, few into `few`, which has room for [`LOOK`]. EAGAIN; ECONNRESET:
    /// the program has closed the descriptor with data unread.
    pub(super) fn read(&mut self, few: &mut [u8], pages: &mut Pages) -> sys::Result<Read> {
        let read = match self.bulk {
            true => self.read_bulk(few, pages),
            false => self.look(few),
        };
        if let Err(Error::Again) = read {
            self.readable = false;
            self.pins = false;
        }
        read
    }

    /// Looks at what comes next: how many bytes; whether the last is a mark's.
    fn peek(&mut self, room: &mut [u8]) -> sys::Result<(usize, bool)> {
        // By recv(2), which does not tell of descriptors and costs 0.1 µs less than recvmsg(2). It stops behind a mark
        // as that does.
        let n = sys::recv(self.fd.raw(), room, libc::MSG_PEEK | libc::MSG_DONTWAIT)?;
        let like = n > 0 && inband::is_like(room[n - 1]);
        // A byte alone may have come with a descriptor by a call that the shim does not see.
        let stopped = (like || n == 1) && self.is_mark(n)?;
        // A short read has emptied the queue: what comes later is another edge, but not the end that is there.
        self.readable = n == room.len() || stopped || self.ends;
        let n = if n == room.len() { self.whole(self.kept, n)? } else { n };
        self.kept += n;
        Ok((n, stopped && like))
    }

    /// How many of `n` bytes from `at` on to take, so that an urgent byte is not taken without what says so behind it.
    fn whole(&self, at: usize, n: usize) -> sys::Result<usize> {
        let mut last = [0; 3];
        sys::set_option(self.fd.raw(), libc::SO_PEEK_OFF, (at + n - 1) as i32)?;
        let looked = sys::recv_marked(self.fd.raw(), &mut last, libc::MSG_PEEK);
        let cuts = looked? == (2, true) && last[1] == inband::URGENT;
        let n = n - usize::from(cuts);
        sys::set_option(self.fd.raw(), libc::SO_PEEK_OFF, (at + n) as i32)?;
        Ok(n)
    }

    /// Whether the last of `n` bytes that were looked at came with a descriptor.
    fn is_mark(&self, n: usize) -> sys::Result<bool> {
        let fd = self.fd.raw();
        sys::set_option(fd, libc::SO_PEEK_OFF, (self.kept + n - 1) as i32)?;
        // There is room for a second byte, since Linux 6.18 walks on through the queue when there is none left, and so
        // tells of any mark in it; of a mark it gives nothing but the one.
        let looked = sys::recv_marked(fd, &mut [0; 2], libc::MSG_PEEK);
        sys::set_option(fd, libc::SO_PEEK_OFF, (self.kept + n) as i32)?;
        Ok(looked? == (1, true))
    }

    /// Looks at what comes next, and leaves it in the queue.
    fn look(&mut self, few: &mut [u8]) -> sys::Result<Read> {
        let (len, marked) = match self.peek(&mut few[..LOOK]) {
            // Nothing more comes before the program finds its socket writable.
            Err(Error::Again) if self.kept > KEPT_MAX => {
                self.forget(1)?;
                return Err(Error::Again);
            }
            peeked => peeked?,
        };
        self.reads += 1;
        self.bulk = len + 1 >= LOOK;
        if self.pins {
            // The rest of a large buffer.
            self.forget(0)?;
            self.pins = self.bulk;
        }
        let enough = self.kept > KEPT_MAX || self.reads >= READS_MAX;
        if self.kept > 1 && enough && !self.bulk {
            self.forget(1)?;
        }
        let (mark, n) = marked.then(|| inband::mark(&few[..len])).flatten().unzip();
        // What is like a mark and says nothing is not the program's.
        Ok(Read { len, few: n.unwrap_or(len - usize::from(marked)), mark })
    }

    /// Removes what comes next from the queue. No byte of it stays: as long as one does, the kernel counts all of its
    /// buffer as the program's, and one of 64 KiB is more than a quarter of what the program has, so that it would not
    /// find its socket writable again.
    fn read_bulk(&mut self, few: &mut [u8], pages: &mut Pages) -> sys::Result<Read> {
        let new = sys::queued(self.fd.raw())?.saturating_sub(self.kept);
        if new <= LOOK {
            self.bulk = false;
            return self.look(few);
        }
        self.forget(0)?;
        let mut want = new;
        if new > CHUNK {
            want = self.whole(0, CHUNK)?;
            sys::set_option(self.fd.raw(), libc::SO_PEEK_OFF, 0)?;
        }
        let mut room = pages.reserve(want);
        let (len, marked) = sys::recv_vectored(self.fd.raw(), &mut room, 0)?;
        let mut last = [0; 2];
        let last = &mut last[..len.min(2)];
        if marked {
            let bytes = room.iter().flat_map(|slice| slice.iter()).skip(len - last.len());
            last.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        }
        let mark = marked.then(|| inband::mark(last)).flatten();
        let own = mark.map_or(0, |(_, before)| last.len() - before);
        let mark = mark.map(|(mark, _)| mark);
        drop(room);
        pages.commit(len - own);
        self.pins = true;
        Ok(Read { len, few: 0, mark })
    }

    /// Removes what was taken, all but `leave` bytes.
    fn forget(&mut self, leave: usize) -> sys::Result<()> {
        while self.kept > leave {
            match sys::discard(self.fd.raw(), self.kept - leave)? {
                0 => break,
                n => self.kept -= n,
            }
        }
        self.reads = 0;
        Ok(())
    }

    /// Whether [`End::tidy`] is to be called a little later; told once.
    pub(super) fn becomes_untidy(&mut self) -> bool {
        self.kept > SAFE && !std::mem::replace(&mut self.untidy, true)
    }

    /// Removes what was taken, if it is more than may stay.
    pub(super) fn tidy(&mut self) {
        self.untidy = false;
        if self.kept > SAFE {
            // The program may have gone, which the next read tells.
            let _ = self.forget(1);
        }
    }

    /// Removes bytes that nobody wants to read, all but the last, at which it looks; returns how many.
    pub(super) fn skip(&mut self, len: usize) -> sys::Result<usize> {
        // The buffer that the last byte is in is large: worth removing soon.
        self.reads = READS_MAX;
        let r = match len {
            1 => sys::recv(self.fd.raw(), &mut [0], libc::MSG_PEEK | libc::MSG_DONTWAIT).inspect(|n| self.kept += n),
            _ => sys::discard(self.fd.raw(), len - 1),
        };
        if let Err(Error::Again) = r {
            self.readable = false;
        }
        r
    }

    /// Bytes that the program has written, and that were not taken.
    pub(super) fn unread(&self) -> usize {
        sys::queued(self.fd.raw()).unwrap_or(0).saturating_sub(self.kept)
    }

    /// Writes `len` bytes; returns how many were taken. EPIPE: the program reads no more.
    pub(super) fn write(&mut self, bytes: &[IoSlice<'_>], len: usize) -> sys::Result<usize> {
        let r = match sys::send_vectored(self.fd.raw(), bytes, libc::MSG_DONTWAIT) {
            Err(Error::Again) => Ok(0),
            r => r,
        };
        self.note_written(r, len)
    }

    /// Writes a byte that is urgent; 0: there is no room. EPIPE: the program reads no more.
    pub(super) fn write_urgent(&mut self, byte: u8) -> sys::Result<usize> {
        let r = match sys::send(self.fd.raw(), &[byte], libc::MSG_OOB | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            Err(Error::Again) => Ok(0),
            r => r,
        };
        self.note_written(r, 1)
    }

    /// Waits for room if not all of `len` bytes were taken.
    fn note_written(&mut self, r: sys::Result<usize>, len: usize) -> sys::Result<usize> {
        if r.is_ok_and(|n| n < len) {
            self.writable = false;
            self.interest = EVENTS | libc::EPOLLOUT as u32;
        }
        r
    }

    /// Whether the program has closed the descriptor with bytes unread. The kernel says so once; a read says it only
    /// after all that the program has written.
    pub(super) fn closed_unread(&self) -> bool {
        self.hung_up && sys::option(self.fd.raw(), libc::SO_ERROR) == Ok(libc::ECONNRESET)
    }

    /// The program's writes fail from now on, and those that wait do. What was written is removed, so that poll finds
    /// room, as on a socket that has failed; of a little one byte stays, so that the close is a reset.
    pub(super) fn refuse(&mut self) {
        if std::mem::replace(&mut self.refuses, true) {
            return;
        }
        let _ = sys::shutdown(self.fd.raw(), libc::SHUT_RD);
        let few = self.unread() <= LOOK;
        self.kept += self.unread();
        // The program may have gone, which epoll tells.
        let _ = self.forget(few.into());
    }

    /// The program reads the end of the stream. Not closed: it may go on sending.
    pub(super) fn finish(&self) -> sys::Result<()> {
        sys::shutdown(self.fd.raw(), libc::SHUT_WR)
    }

    /// Removes everything, so that the program is told of no reset when this end is closed.
    pub(super) fn quiet(&mut self) {
        let mut left = sys::queued(self.fd.raw()).unwrap_or(0);
        while left > 0
            && let Ok(n @ 1..) = sys::discard(self.fd.raw(), left)
        {
            left = left.saturating_sub(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write};
    use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// A byte that stands for an option, and what it stands for.
    const MARK: u8 = 0xf8;
    const OPTION: Mark = Mark::Option(libc::TCP_NODELAY, 0);

    /// The program's descriptor and the server's end of it.
    fn pair() -> (UnixStream, End) {
        let (program, server) = UnixStream::pair().unwrap();
        let mut end = End::new(Owned::new(server.into_raw_fd())).unwrap();
        end.epoll(libc::EPOLLIN as u32);
        (program, end)
    }

    /// The bytes of one read, and its mark.
    fn read(end: &mut End) -> sys::Result<(Vec<u8>, Option<Mark>)> {
        let (mut few, mut pages) = ([0; LOOK], Pages::default());
        let read = end.read(&mut few, &mut pages)?;
        let mut bytes: Vec<u8> = pages.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.extend_from_slice(&few[..read.few]);
        let marked = match read.mark {
            Some(Mark::Option(..)) => 1,
            Some(Mark::Urgent(_)) => 2,
            None => 0,
        };
        assert_eq!(bytes.len() + marked, read.len);
        Ok((bytes, read.mark))
    }

    fn read_all(end: &mut End) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok((bytes, _)) = read(end)
            && !bytes.is_empty()
        {
            all.extend(bytes);
        }
        all
    }

    /// After a large piece, of which no byte may stay, it is an end.
    #[test]
    fn what_was_read_leaves_a_byte_and_the_close_is_a_reset() {
        for (sizes, resets) in [
            (&[1usize][..], true),
            (&[5; 100], true),
            (&[LOOK; 3], true),
            (&[100_000, 2, 60_000, 3, 4], true),
            (&[3, 100_000, 2, 60_000], false),
            (&[150_000], false),
        ] {
            let (mut program, mut end) = pair();
            let mut sent = Vec::new();
            for (i, size) in sizes.iter().enumerate() {
                let bytes: Vec<u8> = (0..*size).map(|at| (at ^ at >> 8 ^ i) as u8).collect();
                program.write_all(&bytes).unwrap();
                sent.extend_from_slice(&bytes);
                if i % 2 == 0 {
                    end.epoll(libc::EPOLLIN as u32);
                    continue;
                }
                let got = read_all(&mut end);
                assert!(sent == got, "{sizes:?}: {} of {}", got.len(), sent.len());
                sent.clear();
            }
            end.epoll(libc::EPOLLIN as u32);
            assert!(read_all(&mut end) == sent, "{sizes:?}");
            assert_eq!(end.unread(), 0, "{sizes:?}");
            drop(end);
            let read = program.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(read, if resets { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(0) }, "{sizes:?}");
        }
    }

    /// Among bytes that look like one, too.
    #[test]
    fn marks_stand_where_they_were_set_however_fast_the_program_writes() {
        let (program, mut end) = pair();
        let pieces = 400;
        let len = |piece: usize| 1 + piece * 7919 % 100_000;
        let byte = |piece: usize| if piece % 4 < 2 { MARK } else { 1 };
        let writer = std::thread::spawn(move || {
            for piece in 0..pieces {
                let bytes = vec![byte(piece); len(piece)];
                let (some, rest) = bytes.split_at(if piece % 2 == 0 { 0 } else { len(piece).min(100) });
                (&program).write_all(some).unwrap();
                (&program).write_all(rest).unwrap();
                while sys::send_mark(program.as_raw_fd(), &[MARK]).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let (mut since, mut piece) = (0, 0);
        while piece < pieces {
            end.epoll(libc::EPOLLIN as u32);
            let Ok((bytes, mark)) = read(&mut end) else { continue };
            assert!(bytes.iter().all(|b| *b == byte(piece)), "piece {piece}");
            since += bytes.len();
            if let Some(mark) = mark {
                assert_eq!((mark, since), (OPTION, len(piece)), "piece {piece}");
                (since, piece) = (0, piece + 1);
            }
        }
        writer.join().unwrap();
    }

    /// Also where a read ends between it and what says so.
    #[test]
    fn an_urgent_byte_comes_apart_from_those_before_it() {
        let edges = [LOOK, CHUNK, CHUNK + LOOK].into_iter().flat_map(|n| n - 3..n + 3);
        for before in [0, 1, 2].into_iter().chain(edges) {
            let (program, mut end) = pair();
            sys::set_option(program.as_raw_fd(), libc::SO_SNDBUF, 1 << 21).unwrap();
            program.set_nonblocking(true).unwrap();
            let written = (&program).write(&vec![7; before]).unwrap();
            assert_eq!(written, before);
            sys::send_mark(program.as_raw_fd(), &[b'!', inband::URGENT]).unwrap();
            (&program).write_all(&[8; 3]).unwrap();
            let (mut all, mut urgent) = (Vec::new(), None);
            while let Ok((bytes, mark)) = read(&mut end) {
                all.extend(bytes);
                if let Some(mark) = mark {
                    assert_eq!(urgent.replace((mark, all.len())), None, "{before}");
                }
                end.epoll(libc::EPOLLIN as u32);
            }
            assert!(all == [vec![7; before], vec![8; 3]].concat(), "{before}: {}", all.len());
            assert_eq!(urgent, Some((Mark::Urgent(b'!'), before)));
        }
    }

    #[test]
    fn a_byte_that_comes_with_a_descriptor_and_is_no_mark_is_the_programs() {
        for before in [0, 10, 40_000] {
            let (mut program, mut end) = pair();
            program.write_all(&vec![7; before]).unwrap();
            sys::send_mark(program.as_raw_fd(), &[200]).unwrap();
            program.write_all(&[8; 3]).unwrap();
            let mut got = read_all(&mut end);
            end.epoll(libc::EPOLLIN as u32);
            got.extend(read_all(&mut end));
            assert!(got == [vec![7; before], vec![200, 8, 8, 8]].concat(), "{before}: {}", got.len());
        }
    }

    #[test]
    fn a_program_whose_bytes_were_read_can_write_as_much_as_before() {
        let (mut program, mut end) = pair();
        for _ in 0..1000 {
            program.write_all(&[7; 100]).unwrap();
            end.epoll(libc::EPOLLIN as u32);
            assert_eq!(read_all(&mut end).len(), 100);
            assert_eq!(sys::wait(program.as_raw_fd(), libc::POLLOUT), Ok(libc::POLLOUT));
            assert!(end.kept <= KEPT_MAX && end.reads < READS_MAX);
        }
    }

    /// One that goes on until poll says no (sshd's window adjustments while it stores a file), with nothing behind.
    #[test]
    fn a_program_whose_room_small_pieces_filled_can_write_again() {
        for size in [1, 7, 40, 300, 1000, 5000] {
            let (mut program, mut end) = pair();
            let epoll = sys::Epoll::new().unwrap();
            epoll.add(program.as_raw_fd(), libc::EPOLLOUT as u32, 0).unwrap();
            let room =
                || epoll.wait(&mut [libc::epoll_event { events: 0, u64: 0 }], Some(Duration::ZERO)).unwrap() == 1;
            for round in 0..20 {
                while room() {
                    program.write_all(&vec![7; size]).unwrap();
                }
                end.epoll(libc::EPOLLIN as u32);
                read_all(&mut end);
                // At once, but for pieces of which many are few bytes.
                assert!(room() || size < 20, "{size}, round {round}");
                let much = end.kept > SAFE;
                assert_eq!((end.becomes_untidy(), end.becomes_untidy()), (much, false));
                end.tidy();
                assert!(room(), "{size}, round {round}, a little later");
                assert!(end.kept <= SAFE);
            }
        }
    }

    /// Pieces as large as one look leave the queue full of bytes that were taken, with nothing behind them.
    #[test]
    fn a_program_that_writes_large_pieces_can_write_again() {
        let (mut program, mut end) = pair();
        for pieces in (1..6).chain([8, 12]) {
            program.write_all(&vec![7; pieces * LOOK]).unwrap();
            end.epoll(libc::EPOLLIN as u32);
            assert_eq!(read_all(&mut end).len(), pieces * LOOK);
            assert_eq!(sys::wait(program.as_raw_fd(), libc::POLLOUT), Ok(libc::POLLOUT));
            assert!(end.kept <= KEPT_MAX, "{pieces}: {}", end.kept);
        }
    }

    #[test]
    fn an_emptied_end_closes_without_a_reset() {
        let (mut program, mut end) = pair();
        program.write_all(&[7; 100_000]).unwrap();
        end.quiet();
        drop(end);
        assert_eq!(program.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn descriptors_that_a_program_passes_are_not_taken() {
        let (program, mut end) = pair();
        sys::send_mark(program.as_raw_fd(), &[MARK]).unwrap();
        assert_eq!(read(&mut end), Ok((vec![], Some(OPTION))));
        // The lowest free number is the same as before.
        let before = UnixStream::pair().unwrap().0.into_raw_fd();
        // SAFETY: the descriptor was given up above.
        drop(unsafe { OwnedFd::from_raw_fd(before) });
        sys::send_mark(program.as_raw_fd(), &[MARK + 1]).unwrap();
        assert_eq!(read(&mut end), Ok((vec![], Some(Mark::Option(libc::TCP_NODELAY, 1)))));
    }

    #[test]
    fn room_is_waited_for_only_while_a_write_needs_it() {
        let (mut program, mut end) = pair();
        assert_eq!((end.watch(), EVENTS & libc::EPOLLOUT as u32), (None, 0));
        let n = end.write(&[IoSlice::new(&[0; 1 << 20])], 1 << 20).unwrap();
        assert!(n < 1 << 20 && !end.writable());
        assert_eq!(end.watch(), Some(EVENTS | libc::EPOLLOUT as u32));
        program.read_exact(&mut vec![0; n]).unwrap();
        end.epoll(libc::EPOLLOUT as u32);
        assert!(end.writable());
        assert_eq!(end.watch(), None, "a write may follow");
        end.epoll(libc::EPOLLOUT as u32);
        assert_eq!(end.watch(), Some(EVENTS), "none did");
    }
}
