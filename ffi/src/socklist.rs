//! The sockets of a stack, as a list: ss(8) through the C ABI. Below: `Stack::sockets`.

use crate::boundary::boundary;
use crate::ptr::{self, sockaddr_bytes};
use crate::stacks::{stack_of, usk_stack_t};
use std::net::SocketAddr;
use usersock::error::Error;
use usersock::sock::diag::SockDiag;

/// A socket in a list of usk_sock_list.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_sock_entry_t {
    /// Number of the socket: no other one has it while this one lives. 0: none is left (TIME_WAIT) or there is none yet
    /// (SYN_RECV).
    pub id: u64,
    /// AF_INET or AF_INET6, as socket(2) was called.
    pub family: u32,
    /// SOCK_STREAM ..., as socket(2) was called.
    pub ty: u32,
    /// IP protocol number.
    pub protocol: u32,
    /// State by Linux's numbers: TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10. Of UDP and raw sockets 1 when they
    /// are connected, else 7.
    pub state: u32,
    /// Bytes to read; of a listener, connections to accept; of datagram sockets, memory of the receive queue.
    pub rqueue: u32,
    /// Bytes sent and not acknowledged, or not sent; of a listener, the backlog; of datagram sockets, memory of packets
    /// on their way out.
    pub wqueue: u32,
    /// Our end: a sockaddr_in or sockaddr_in6.
    pub local: [u64; 4],
    /// The peer's; family 0: there is none.
    pub peer: [u64; 4],
}

/// An address in a member of an entry.
fn place(a: Option<SocketAddr>) -> [u64; 4] {
    let mut out = [0; 4];
    let bytes = a.map(sockaddr_bytes).unwrap_or_default();
    for (to, from) in out.iter_mut().zip(bytes.chunks(8)) {
        let mut word = [0; 8];
        word[..from.len()].copy_from_slice(from);
        *to = u64::from_ne_bytes(word);
    }
    out
}

fn entry(d: &SockDiag) -> usk_sock_entry_t {
    usk_sock_entry_t {
        id: d.id,
        family: d.family.into(),
        ty: d.ty.into(),
        protocol: d.protocol.into(),
        state: u32::from(d.state as u8),
        rqueue: d.rqueue,
        wqueue: d.wqueue,
        local: place(Some(d.local)),
        peer: place(d.peer),
    }
}

/// All bound and connected sockets of a stack: listeners, connections, TIME_WAIT, UDP, raw and ping sockets, sorted by
/// protocol and port. Fills the first `count` entries of `list`, each of `size` bytes, which is
/// sizeof(usk_sock_entry_t): a program compiled against an older header gets what it knows, and for a newer one what
/// the library does not know is zero. Returns how many sockets there are, which may be more than `count`; or -1 with
/// errno EINVAL (`size` is 0) or EFAULT. `list` may be null when `count` is 0. Each entry is true of one moment, and
/// the list of no single one.
/// # Safety
/// `stack` is null or from usk_stack_new and not freed; `list` is writable for `count` times `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_list(
    stack: *mut usk_stack_t,
    list: *mut usk_sock_entry_t,
    count: usize,
    size: usize,
) -> isize {
    boundary(|| {
        // SAFETY: the caller vouches for the stack.
        let all = unsafe { stack_of(stack) }?.sockets();
        if size == 0 {
            return Err(Error::Inval);
        }
        let n = count.min(all.len());
        // SAFETY: writable by the caller's word, and `n` is no more than `count`.
        let room = unsafe { ptr::bytes_mut(list.cast(), n.checked_mul(size).ok_or(Error::Fault)?) }?;
        for (to, d) in room.chunks_exact_mut(size).zip(&all) {
            fill(to, &entry(d));
        }
        Ok(all.len() as isize)
    })
}

/// Copies as much of an entry as both know, and zeroes the rest.
fn fill(to: &mut [u8], e: &usk_sock_entry_t) {
    // SAFETY: numbers without padding between them, alive as long as they are read.
    let from = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(e).cast::<u8>(), size_of_val(e)) };
    let known = from.len().min(to.len());
    to[..known].copy_from_slice(&from[..known]);
    to[known..].fill(0);
}
