//! Calling an operation of a C table with a sock: its return value is checked, and an operation that violates its
//! contract breaks its socket. Above: `cproto`, `ulp`, `sock_ops`. Below: `held::run`.

use super::guard::{Owned, usk_owned_t};
use crate::handle::{lend, usk_sock_t};
use crate::held::{contain, length, status};
use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::sock::msg::{Control, RecvMsg, SendMsg};
use usersock::sock::proto::SockRef;
use usersock::sock::wait::Events;
use usersock::sock::{Sock, SockGuard};

thread_local! {
    /// The send call that runs on this thread, if it asks anything of its packets.
    static SENDING: Cell<Sending> = const { Cell::new(Sending { sock: ptr::null(), control: &[], flags: 0 }) };
}

#[derive(Clone, Copy)]
struct Sending {
    sock: *const Sock,
    control: *const [Control],
    flags: i32,
}

/// As long as it lives, [`asked`] gives what its call asks of the packets that the protocol sends in it.
pub(super) struct Asking(Sending);

impl Asking {
    /// None: the call asks nothing.
    #[inline]
    pub(super) fn begin(sock: &Arc<Sock>, msg: &SendMsg<'_>) -> Option<Asking> {
        let flags = msg.flags & (libc::MSG_DONTROUTE | libc::MSG_CONFIRM);
        if flags == 0 && msg.control.is_empty() {
            return None;
        }
        let control = ptr::from_ref(&msg.control[..]);
        Some(Asking(SENDING.replace(Sending { sock: Arc::as_ptr(sock), control, flags })))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        SENDING.set(self.0);
    }
}

/// Control messages and MSG_* bits for the packets of a sock: those of the send call on it that runs on this thread.
pub(super) fn asked(sock: &Arc<Sock>) -> (Vec<Control>, i32) {
    let Sending { sock: of, control, flags } = SENDING.get();
    if of != Arc::as_ptr(sock) {
        return (Vec::new(), 0);
    }
    // SAFETY: the call's message, which lives as long as its `Asking`, and whose control messages nobody changes.
    (unsafe { &*control }.to_vec(), flags)
}

/// Whether that call asks anything of the sock's packets.
#[inline]
pub(super) fn asks(sock: &Arc<Sock>) -> bool {
    ptr::eq(SENDING.get().sock, Arc::as_ptr(sock))
}

/// The function violated its contract: breaks the socket.
#[cold]
pub(super) fn broken(sock: &Sock) {
    sock.set_broken();
}

/// Runs an operation with the sock owned. EIO: the sock was broken before, or the operation broke it.
pub(super) fn owned<R>(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t) -> R) -> Result<R> {
    if g.sock.is_broken() {
        return Err(Error::Io);
    }
    let r = Owned::lend(g, f);
    if r.is_err() {
        broken(g.sock);
    }
    r
}

/// As [`owned`], for an operation that returns 0 or a negative errno.
pub(super) fn owned_status(g: &mut SockGuard<'_>, f: impl FnOnce(*mut usk_owned_t) -> c_int) -> Result<()> {
    let r = owned(g, f)?;
    if !(-4095..=0).contains(&r) {
        broken(g.sock);
    }
    status(r.into())
}

/// Runs an operation that locks by itself and returns a length up to `max`. EIO: the sock was broken before, or the
/// operation broke it.
pub(super) fn unowned(sk: SockRef<'_>, max: usize, f: impl FnOnce(*mut usk_sock_t) -> i64) -> Result<usize> {
    whole(sk)?;
    // A call that unwound or left a lock held counts as an invalid length.
    checked(sk.sock, contain(|| f(lend(sk.sock))).unwrap_or(i64::MIN), max)
}

/// Checks a return value that is a length up to `max` or a negative errno; any other breaks the sock.
#[inline]
pub(super) fn checked(sock: &Sock, r: i64, max: usize) -> Result<usize> {
    match usize::try_from(r) {
        Ok(n) if n <= max => Ok(n),
        _ => Err(no_length(sock, r, max)),
    }
}

/// The errno of a return value; a value that is no errno breaks the sock.
#[inline(never)]
fn no_length(sock: &Sock, r: i64, max: usize) -> Error {
    if !(-4095..0).contains(&r) {
        broken(sock);
    }
    length(r, max).err().unwrap_or(Error::Io)
}

/// The greatest length that a receive call may return: the bytes copied, because with more the program would read
/// memory that nobody wrote; with MSG_TRUNC the true length of a datagram, which is not limited.
pub(super) fn received(msg: &RecvMsg<'_, '_>) -> usize {
    if msg.flags & libc::MSG_TRUNC != 0 { isize::MAX as usize } else { msg.capacity() - msg.remaining() }
}

/// The poll events of a broken sock.
pub(super) const ALL_EVENTS: Events = Events(Events::ERR.0 | Events::HUP.0 | Events::IN.0 | Events::OUT.0);

/// Whether an earlier call broke the socket.
pub(super) fn whole(sk: SockRef<'_>) -> Result<()> {
    if sk.sock.is_broken() { Err(Error::Io) } else { Ok(()) }
}
