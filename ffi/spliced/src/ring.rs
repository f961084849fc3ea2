//! Sends on many sockets, and writes many packets, by one system call, through io_uring(7) of Linux 6.1. Above:
//! `server`. Below: `sys`.
//!
//! It costs as much for each as send(2). What it spares is that a program which a send wakes takes the processor of the
//! server, which has used more of it, as soon as the call ends (EEVDF): after each of 50 send(2), and never during
//! io_uring_enter(2), unless the kernel is preemptible. So the program finds many of its sockets readable at once.

use crate::sys::{self, Mapping, Owned, Result};
use std::ffi::c_long;
use std::io::{IoSlice, Write};
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use usersock::error::Error;

/// Sends of one call, at most.
const ENTRIES: u32 = 64;
/// Attempts in a row to get an answer that the kernel owes, at most.
const IN_VAIN: u32 = 1000;

const SETUP_SUBMIT_ALL: u32 = 1 << 7;
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
const FEAT_SINGLE_MMAP: u32 = 1;
const OFF_SQES: c_long = 0x1000_0000;
const ENTER_GETEVENTS: u32 = 1;
const OP_WRITEV: u8 = 2;
const OP_SEND: u8 = 26;

/// struct io_sqring_offsets.
#[repr(C)]
#[allow(dead_code)]
#[derive(Debug, Default)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: [u32; 3],
}

/// struct io_cqring_offsets.
#[repr(C)]
#[allow(dead_code)]
#[derive(Debug, Default)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: [u32; 3],
}

/// struct io_uring_params.
#[repr(C)]
#[allow(dead_code)]
#[derive(Debug, Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq_off: SqOffsets,
    cq_off: CqOffsets,
}

/// struct io_uring_sqe, as a send and a write have it.
#[repr(C)]
#[derive(Debug, Default)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    /// Of a write its RWF_ flags.
    msg_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// struct io_uring_cqe.
#[repr(C)]
#[allow(dead_code)]
#[derive(Debug, Clone, Copy)]
struct Cqe {
    user_data: u64,
    res: i32,
    flags: u32,
}

const _: () = assert!(size_of::<Params>() == 120 && size_of::<Sqe>() == 64 && size_of::<Cqe>() == 16);
const _: () = assert!(offset_of!(Params, cq_off) == 80 && offset_of!(Sqe, user_data) == 32);

/// A ring, of the thread that made it: it is not Send.
#[derive(Debug)]
pub(crate) struct Ring {
    params: Params,
    /// Heads, tails and completions.
    rings: Mapping,
    sqes: Mapping,
    fd: Owned,
}

impl Ring {
    /// An error: the kernel has no such rings, or refuses them (kernel.io_uring_disabled, seccomp).
    pub(crate) fn new() -> Result<Ring> {
        let flags = SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN;
        let mut params = Params { flags, ..Params::default() };
        // SAFETY: `params` is laid out as the kernel has it.
        let fd = unsafe { sys::ring_setup(ENTRIES, (&raw mut params).cast()) }?;
        if params.features & FEAT_SINGLE_MMAP == 0 {
            return Err(Error::NoSys);
        }
        let (sq, cq) = (&params.sq_off, &params.cq_off);
        let array_end = sq.array as usize + params.sq_entries as usize * size_of::<u32>();
        let cqes_end = cq.cqes as usize + params.cq_entries as usize * size_of::<Cqe>();
        let rings = Mapping::new(&fd, array_end.max(cqes_end), 0)?;
        let sqes = Mapping::new(&fd, params.sq_entries as usize * size_of::<Sqe>(), OFF_SQES)?;
        let ring = Ring { params, rings, sqes, fd };
        for i in 0..ring.params.sq_entries {
            ring.word(ring.params.sq_off.array + i * size_of::<u32>() as u32).store(i, Ordering::Relaxed);
        }
        Ok(ring)
    }

    /// A word that the kernel shares.
    fn word(&self, off: u32) -> &AtomicU32 {
        // SAFETY: the kernel's offset of a word within the mapping, which lives as long as `self` and is accessed by
        // atomic operations alone.
        unsafe { &*self.rings.at(off as usize).cast::<AtomicU32>() }
    }

    /// Sends the bytes of each without waiting and without SIGPIPE, in this order, and adds an answer for each to
    /// `sent`, as send(2) gives it. None: it was not sent, and the ring is of no use any more.
    pub(crate) fn send(&mut self, sends: &[(RawFd, &[u8])], sent: &mut Vec<Option<Result<usize>>>) {
        let mut first = sent.len();
        sent.resize(first + sends.len(), None);
        for some in sends.chunks(ENTRIES as usize) {
            let answers = &mut sent[first..first + some.len()];
            let entry = |i: usize| {
                let (fd, bytes) = some[i];
                Sqe {
                    opcode: OP_SEND,
                    fd,
                    addr: bytes.as_ptr() as u64,
                    len: bytes.len().min(i32::MAX as usize) as u32,
                    // MSG_DONTWAIT: the kernel answers at once (REQ_F_NOWAIT).
                    msg_flags: (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32,
                    ..Sqe::default()
                }
            };
            // SAFETY: the bytes are borrowed until it returns.
            unsafe { self.run(entry, answers) };
            if answers.contains(&None) {
                break;
            }
            first += some.len();
        }
    }

    /// Writes packets to a descriptor, each as writev(2) does, in this order and without waiting, and sets a mark for
    /// each that was taken. Whether the ring can be used again.
    pub(crate) fn write(&mut self, fd: RawFd, packets: &[&[IoSlice<'_>]], written: &mut [bool]) -> bool {
        let mut answers = [None; ENTRIES as usize];
        for (packets, written) in packets.chunks(answers.len()).zip(written.chunks_mut(answers.len())) {
            let answers = &mut answers[..packets.len()];
            answers.fill(None);
            // An IoSlice is an iovec (its documentation promises it).
            let entry = |i: usize| Sqe {
                opcode: OP_WRITEV,
                fd,
                addr: packets[i].as_ptr() as u64,
                len: packets[i].len() as u32,
                // Of a file that does not wait (O_NONBLOCK) the ring would wait itself.
                msg_flags: libc::RWF_NOWAIT as u32,
                ..Sqe::default()
            };
            // SAFETY: the slices and what they name are borrowed until it returns.
            unsafe { self.run(entry, answers) };
            for (written, answer) in written.iter_mut().zip(&*answers) {
                *written = matches!(answer, Some(Ok(_)));
            }
            if answers.contains(&None) {
                return false;
            }
        }
        true
    }

    /// Has the kernel do `answers.len()` things, at most [`ENTRIES`], in this order, and waits for the answers. None:
    /// it was not done, and the ring is of no use any more.
    ///
    /// # Safety
    ///
    /// The memory that the entries name is valid for what they ask until this returns.
    unsafe fn run(&mut self, entry: impl Fn(usize) -> Sqe, answers: &mut [Option<Result<usize>>]) {
        let sq_mask = self.params.sq_entries - 1;
        // The kernel reads it, and writes the head alone.
        let tail = self.word(self.params.sq_off.tail).load(Ordering::Relaxed);
        for i in 0..answers.len() as u32 {
            let sqe = Sqe { user_data: i.into(), ..entry(i as usize) };
            let at = (tail.wrapping_add(i) & sq_mask) as usize;
            // SAFETY: the ring is empty, so the kernel reads none of its entries before the tail is moved; there are
            // `sq_entries` of them, of which the mask leaves one.
            unsafe { self.sqes.at(at * size_of::<Sqe>()).cast::<Sqe>().write(sqe) };
        }
        let all = answers.len() as u32;
        self.word(self.params.sq_off.tail).store(tail.wrapping_add(all), Ordering::Release);
        let enter = |submit, complete| {
            // SAFETY: the memory is valid until this function returns, which waits for all that the kernel took.
            unsafe { sys::ring_enter(&self.fd, submit, complete, ENTER_GETEVENTS) }
        };
        let (taken, answered) = submit(all, enter, || self.reap(answers));
        if answered < taken {
            // The kernel may read the bytes at any time, so nobody can have them back; sent again they may come twice.
            let _ = writeln!(std::io::stderr(), "usersock: io_uring: {} sends have no answer", taken - answered);
            std::process::abort();
        }
        // What the kernel has not taken it will not take.
        self.word(self.params.sq_off.tail).store(tail.wrapping_add(taken), Ordering::Release);
    }

    /// Takes the answers that are there. How many sends have theirs now and had none.
    fn reap(&self, answers: &mut [Option<Result<usize>>]) -> u32 {
        let cq = &self.params.cq_off;
        let mut head = self.word(cq.head).load(Ordering::Relaxed);
        let tail = self.word(cq.tail).load(Ordering::Acquire);
        let mut answered = 0;
        while head != tail {
            let at = (head & (self.params.cq_entries - 1)) as usize;
            // SAFETY: an entry between head and tail, which the kernel has written and leaves alone.
            let cqe = unsafe { self.rings.at(cq.cqes as usize + at * size_of::<Cqe>()).cast::<Cqe>().read() };
            answered += u32::from(place(cqe, answers));
            head = head.wrapping_add(1);
        }
        self.word(cq.head).store(head, Ordering::Release);
        answered
    }
}

/// Submits `all` entries by `enter`, which is given how many to submit and how many answers to wait for, and waits for
/// the answers to those that were taken, which `reap` counts. How many were taken and how many answered: of the latter
/// fewer if the kernel owes answers after many attempts.
fn submit(all: u32, enter: impl Fn(u32, u32) -> Result<usize>, mut reap: impl FnMut() -> u32) -> (u32, u32) {
    let (mut taken, mut answered) = (0, 0);
    while taken < all {
        match enter(all - taken, all - answered) {
            // It has no entry, or no room for a request.
            Ok(0) => break,
            Ok(n) => taken += (n as u32).min(all - taken),
            Err(Error::Intr) => {}
            Err(_) => break,
        }
        answered += reap();
    }
    let mut in_vain = 0;
    while answered < taken && in_vain < IN_VAIN {
        let _ = enter(0, 1);
        match reap() {
            0 => in_vain += 1,
            n => (answered, in_vain) = (answered + n, 0),
        }
    }
    (taken, answered)
}

/// Puts an answer in the place of its send: Linux 6.1 answers a send that fails (EAGAIN, EBADF) before those in front
/// of it that succeed. Whether it is the first for a send that there is.
fn place(cqe: Cqe, answers: &mut [Option<Result<usize>>]) -> bool {
    let at = usize::try_from(cqe.user_data).ok();
    let Some(answer @ None) = at.and_then(|at| answers.get_mut(at)) else { return false };
    *answer = Some(match cqe.res {
        n @ 0.. => Ok(n as usize),
        e => Err(Error::try_from_errno(e.saturating_neg()).unwrap_or(Error::Io)),
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn each_send_has_the_answer_of_its_own_socket() {
        let mut ring = match Ring::new() {
            Ok(ring) => ring,
            // Where the kernel has none there is nothing to test.
            Err(e) => {
                assert!(matches!(e, Error::NoSys | Error::Perm | Error::Inval | Error::NoMem), "{e:?}");
                println!("SKIP each_send_has_the_answer_of_its_own_socket: io_uring: {e}");
                return;
            }
        };
        let pairs: Vec<_> = (0..150).map(|_| UnixStream::pair().unwrap()).collect();
        pairs[7].0.set_nonblocking(true).unwrap();
        let full = vec![0; 1 << 22];
        while sys::send(pairs[7].0.as_raw_fd(), &full, libc::MSG_DONTWAIT).is_ok() {}
        pairs[70].1.shutdown(std::net::Shutdown::Read).unwrap();
        for round in 0..3u8 {
            let bytes: Vec<Vec<u8>> = (0..150).map(|i| vec![i as u8 ^ round; 1 + i]).collect();
            let sends: Vec<_> = pairs.iter().zip(&bytes).map(|(p, b)| (p.0.as_raw_fd(), &b[..])).collect();
            let mut sent = Vec::new();
            ring.send(&sends, &mut sent);
            assert_eq!(sent.len(), 150);
            for (i, (result, mut pair)) in sent.into_iter().zip(pairs.iter().map(|p| &p.1)).enumerate() {
                match i {
                    7 => assert_eq!(result, Some(Err(Error::Again))),
                    70 => assert_eq!(result, Some(Err(Error::Pipe))),
                    _ => {
                        assert_eq!(result, Some(Ok(1 + i)));
                        let mut got = vec![0; 1 + i];
                        pair.read_exact(&mut got).unwrap();
                        assert_eq!(got, bytes[i], "{i}");
                    }
                }
            }
        }
        let mut sent = Vec::new();
        ring.send(&[(-1, &[1]), (pairs[0].0.as_raw_fd(), &[2])], &mut sent);
        assert_eq!(sent, [Some(Err(Error::BadF)), Some(Ok(1))]);
    }

    /// To a pipe that has room for some of them.
    #[test]
    fn packets_are_written_in_order_and_what_has_no_room_is_not_marked() {
        let Ok(mut ring) = Ring::new() else {
            println!("SKIP packets_are_written_in_order_and_what_has_no_room_is_not_marked: io_uring");
            return;
        };
        let (mut read, write) = std::io::pipe().unwrap();
        let flags = libc::O_NONBLOCK;
        // SAFETY: two numbers.
        assert_eq!(unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETFL, flags) }, 0);
        let bytes: Vec<Vec<u8>> = (0..100).map(|i| vec![i as u8; 1000]).collect();
        let packets: Vec<[IoSlice<'_>; 2]> =
            bytes.iter().map(|b| b.split_at(10)).map(|(a, b)| [IoSlice::new(a), IoSlice::new(b)]).collect();
        let slices: Vec<&[IoSlice<'_>]> = packets.iter().map(|packet| &packet[..]).collect();
        for _ in 0..2 {
            let mut written = [false; 100];
            assert!(ring.write(write.as_raw_fd(), &slices, &mut written));
            let taken = written.iter().filter(|taken| **taken).count();
            // The least that a pipe has is a page (fs.pipe-user-pages-soft).
            assert!((4..100).contains(&taken) && written[..taken].iter().all(|taken| *taken), "{taken}");
            let mut got = vec![0; taken * 1000];
            read.read_exact(&mut got).unwrap();
            assert!(got == bytes[..taken].concat());
        }
        assert!(ring.write(-1, &slices[..2], &mut [false; 2]), "an error is an answer");
    }

    fn answer(user_data: u64, res: i32) -> Cqe {
        Cqe { user_data, res, flags: 0 }
    }

    /// As Linux 6.1 gives them.
    #[test]
    fn answers_out_of_order_find_their_sends() {
        let mut answers = [None; 4];
        let given = [answer(2, -libc::EAGAIN), answer(3, -libc::EBADF), answer(0, 10), answer(1, 20)];
        assert!(given.into_iter().all(|cqe| place(cqe, &mut answers)));
        let right = [Some(Ok(10)), Some(Ok(20)), Some(Err(Error::Again)), Some(Err(Error::BadF))];
        assert_eq!(answers, right);
        // Of nobody, and for the second time.
        for user_data in [4, u64::MAX, 1 << 32, 1] {
            assert!(!place(answer(user_data, 7), &mut answers), "{user_data}");
        }
        assert_eq!(answers, right);
    }

    #[test]
    fn a_kernel_that_takes_or_answers_no_more_keeps_nobody_waiting() {
        use std::cell::Cell;
        // It takes nothing; two, then nothing; two, then an error.
        assert_eq!(submit(3, |_, _| Ok(0), || 0), (0, 0));
        for then in [Ok(0), Err(Error::Again), Err(Error::NoMem)] {
            let calls = Cell::new(0);
            let enter = |n, complete| {
                calls.set(calls.get() + 1);
                match calls.get() {
                    1 => Err(Error::Intr),
                    2 => Ok(2),
                    3 => then,
                    _ => {
                        assert_eq!((n, complete), (0, 1));
                        Err(Error::Intr)
                    }
                }
            };
            // The answers come one by one, late.
            let reap = || u32::from([5, 8].contains(&calls.get()));
            assert_eq!(submit(3, enter, reap), (2, 2), "{then:?}");
            assert_eq!(calls.get(), 8);
        }
        // It takes all, and answers one alone.
        let calls = Cell::new(0);
        let enter = |n, _| {
            calls.set(calls.get() + 1);
            if n == 0 { Err(Error::Inval) } else { Ok(3) }
        };
        assert_eq!(submit(3, enter, || u32::from(calls.get() == 2)), (3, 1));
        assert_eq!(calls.get(), 2 + IN_VAIN);
    }
}
