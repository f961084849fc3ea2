//! Sends on many sockets by one system call, through io_uring(7) of Linux 6.1. Above: `server`. Below: `sys`.
//!
//! It costs as much for each as send(2). What it spares is that a program which a send wakes takes the processor of the
//! server, which has used more of it, as soon as the call ends (EEVDF): after each of 50 send(2), and never during
//! io_uring_enter(2), unless the kernel is preemptible. So the program finds many of its sockets readable at once.

use crate::sys::{self, Mapping, Owned, Result};
use std::ffi::c_long;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use usersock::error::Error;

/// Sends of one call, at most.
const ENTRIES: u32 = 64;

const SETUP_SUBMIT_ALL: u32 = 1 << 7;
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
const FEAT_SINGLE_MMAP: u32 = 1;
const OFF_SQES: c_long = 0x1000_0000;
const ENTER_GETEVENTS: u32 = 1;
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

/// struct io_uring_sqe, as a send has it.
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

    /// Sends the bytes of each without waiting and without SIGPIPE, in this order, and adds the answers to `sent`, as
    /// send(2) gives them. Fewer answers: the ring is of no use any more.
    pub(crate) fn send(&mut self, sends: &[(RawFd, &[u8])], sent: &mut Vec<Result<usize>>) {
        for some in sends.chunks(ENTRIES as usize) {
            let before = sent.len();
            self.send_some(some, sent);
            if sent.len() - before < some.len() {
                break;
            }
        }
    }

    fn send_some(&mut self, sends: &[(RawFd, &[u8])], sent: &mut Vec<Result<usize>>) {
        let sq_mask = self.params.sq_entries - 1;
        // The kernel reads it, and writes the head alone.
        let tail = self.word(self.params.sq_off.tail).load(Ordering::Relaxed);
        for (i, (fd, bytes)) in (0..).zip(sends) {
            let sqe = Sqe {
                opcode: OP_SEND,
                fd: *fd,
                addr: bytes.as_ptr() as u64,
                len: bytes.len().min(i32::MAX as usize) as u32,
                // MSG_DONTWAIT: the kernel answers at once (REQ_F_NOWAIT).
                msg_flags: (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32,
                user_data: i.into(),
                ..Sqe::default()
            };
            let at = (tail.wrapping_add(i) & sq_mask) as usize;
            // SAFETY: the ring is empty, so the kernel reads none of its entries before the tail is moved; there are
            // `sq_entries` of them, of which the mask leaves one.
            unsafe { self.sqes.at(at * size_of::<Sqe>()).cast::<Sqe>().write(sqe) };
        }
        let all = sends.len() as u32;
        self.word(self.params.sq_off.tail).store(tail.wrapping_add(all), Ordering::Release);
        let first = sent.len();
        let mut taken = 0;
        while taken < all {
            let answers = all - (sent.len() - first) as u32;
            // SAFETY: the bytes are borrowed until this function returns, which waits for all that the kernel took.
            match unsafe { sys::ring_enter(&self.fd, all - taken, answers, ENTER_GETEVENTS) } {
                Ok(n) => taken += n as u32,
                Err(Error::Intr) => {}
                Err(_) => break,
            }
            self.reap(first, sent);
        }
        // What the kernel has not taken it will not take.
        self.word(self.params.sq_off.tail).store(tail.wrapping_add(taken), Ordering::Release);
        // The bytes are the caller's: it gets them back when the kernel has answered for all that it took.
        while sent.len() - first < taken as usize {
            // SAFETY: as above.
            let _ = unsafe { sys::ring_enter(&self.fd, 0, 1, ENTER_GETEVENTS) };
            self.reap(first, sent);
        }
    }

    /// Takes the answers that are there: of sends that do not wait they come in order.
    fn reap(&mut self, first: usize, sent: &mut Vec<Result<usize>>) {
        let cq = &self.params.cq_off;
        let mut head = self.word(cq.head).load(Ordering::Relaxed);
        let tail = self.word(cq.tail).load(Ordering::Acquire);
        while head != tail {
            let at = (head & (self.params.cq_entries - 1)) as usize;
            // SAFETY: an entry between head and tail, which the kernel has written and leaves alone.
            let cqe = unsafe { self.rings.at(cq.cqes as usize + at * size_of::<Cqe>()).cast::<Cqe>().read() };
            debug_assert_eq!(cqe.user_data as usize, sent.len() - first);
            sent.push(match cqe.res {
                n @ 0.. => Ok(n as usize),
                e => Err(Error::try_from_errno(-e).unwrap_or(Error::Io)),
            });
            head = head.wrapping_add(1);
        }
        self.word(cq.head).store(head, Ordering::Release);
    }
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
                    7 => assert_eq!(result, Err(Error::Again)),
                    70 => assert_eq!(result, Err(Error::Pipe)),
                    _ => {
                        assert_eq!(result, Ok(1 + i));
                        let mut got = vec![0; 1 + i];
                        pair.read_exact(&mut got).unwrap();
                        assert_eq!(got, bytes[i], "{i}");
                    }
                }
            }
        }
        let mut sent = Vec::new();
        ring.send(&[(-1, &[1]), (pairs[0].0.as_raw_fd(), &[2])], &mut sent);
        assert_eq!(sent, [Err(Error::BadF), Ok(1)]);
    }
}
