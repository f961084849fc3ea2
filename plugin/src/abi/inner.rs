//! `usk_inner_...`: the socks of other protocols that a sock owns.

use super::addr;
use super::contain::contain;
use super::sock::Owned;
use crate::errno::{Errno, Result, length, status};
use crate::proto::{Protocol, SockType};
use crate::sock::{Events, Shutdown, State};
use crate::sys::*;
use std::net::SocketAddr;
use std::ptr::{NonNull, null, null_mut};

/// An inner sock: a sock of another protocol, which belongs to one of the protocol's. All calls on it are made with the
/// outer sock, which is owned, and none waits. Of another sock, or once it is closed, each returns EINVAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inner(NonNull<usk_sock_t>);

// SAFETY: an address, which the calls compare with those of the outer sock's.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    fn new(raw: *mut usk_sock_t) -> Result<Inner> {
        NonNull::new(raw).map(Inner).ok_or(Errno::Inval)
    }
    fn raw(self) -> *mut usk_sock_t {
        self.0.as_ptr()
    }
}

fn ops<P: Protocol>() -> usk_inner_ops {
    let bits = P::INNER;
    usk_inner_ops {
        version: USK_INNER_VERSION,
        size: size_of::<usk_inner_ops>() as u32,
        data_ready: (bits.data_ready != 0).then_some(data_ready::<P> as _),
        write_space: (bits.write_space != 0).then_some(write_space::<P> as _),
        state_change: (bits.state_change != 0).then_some(state_change::<P> as _),
    }
}

/// # Safety
/// `outer` is valid.
unsafe fn defer(outer: *mut usk_sock_t, bits: u32) {
    // SAFETY: valid.
    contain((), || unsafe {
        usk_defer(outer, bits);
    });
}

unsafe extern "C" fn data_ready<P: Protocol>(outer: *mut usk_sock_t, _: *mut usk_sock_t) {
    // SAFETY: the library calls it with a valid sock; so below.
    unsafe { defer(outer, P::INNER.data_ready) }
}
unsafe extern "C" fn write_space<P: Protocol>(outer: *mut usk_sock_t, _: *mut usk_sock_t) {
    // SAFETY: as above.
    unsafe { defer(outer, P::INNER.write_space) }
}
unsafe extern "C" fn state_change<P: Protocol>(outer: *mut usk_sock_t, _: *mut usk_sock_t) {
    // SAFETY: as above.
    unsafe { defer(outer, P::INNER.state_change) }
}

impl<P: Protocol> Owned<'_, P> {
    /// Makes an inner sock, as socket(2) would: of IPv6 if `v6`. It tells by the bits of [`Protocol::INNER`]. EINVAL:
    /// this sock is finished; and the errors of socket(2).
    pub fn inner_open(&self, v6: bool, ty: SockType, protocol: u16) -> Result<Inner> {
        let (family, mut inner) = (if v6 { 10 } else { 2 }, null_mut());
        // SAFETY: owned; readable, and writable.
        status(unsafe { usk_inner_open(self.raw(), family, ty as i32, protocol.into(), &ops::<P>(), &mut inner) })?;
        Inner::new(inner)
    }

    /// Takes a connection of an inner listener, which becomes an inner sock of `to`: of a child of this sock. EAGAIN:
    /// there is none.
    pub fn inner_accept(&self, inner: Inner, to: &Owned<'_, P>) -> Result<Inner> {
        let mut connection = null_mut();
        // SAFETY: both are owned; readable, and writable.
        status(unsafe { usk_inner_accept(self.raw(), inner.raw(), to.raw(), &ops::<P>(), &mut connection) })?;
        Inner::new(connection)
    }

    /// Closes it: a connection of TCP ends in the background.
    pub fn inner_close(&self, inner: Inner) -> Result<()> {
        // SAFETY: owned; the library compares the handle with those of this sock. So in the calls below.
        status(unsafe { usk_inner_close(self.raw(), inner.raw()) })
    }

    /// bind(2).
    pub fn inner_bind(&self, inner: Inner, to: SocketAddr) -> Result<()> {
        // SAFETY: see `inner_close`; readable.
        status(unsafe { usk_inner_bind(self.raw(), inner.raw(), &addr::to_c(to)) })
    }

    /// connect(2); None dissolves the association. EINPROGRESS: a connection is under way.
    pub fn inner_connect(&self, inner: Inner, to: Option<SocketAddr>) -> Result<()> {
        let to = to.map(addr::to_c);
        let to = to.as_ref().map_or(null(), std::ptr::from_ref);
        // SAFETY: see `inner_close`; null or readable.
        status(unsafe { usk_inner_connect(self.raw(), inner.raw(), to) })
    }

    /// listen(2).
    pub fn inner_listen(&self, inner: Inner, backlog: u32) -> Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        // SAFETY: see `inner_close`.
        status(unsafe { usk_inner_listen(self.raw(), inner.raw(), backlog) })
    }

    /// sendto(2), or send(2) with None: returns the bytes consumed. EAGAIN: there is no room now.
    pub fn inner_send(&self, inner: Inner, bytes: &[u8], flags: i32, to: Option<SocketAddr>) -> Result<usize> {
        let to = to.map(addr::to_c);
        let to = to.as_ref().map_or(null(), std::ptr::from_ref);
        // SAFETY: see `inner_close`; readable.
        length(unsafe { usk_inner_send(self.raw(), inner.raw(), bytes.as_ptr().cast(), bytes.len(), flags, to) })
    }

    /// recvfrom(2): the bytes copied, 0 at the end of a stream, and the sender of a datagram. EAGAIN: there is nothing
    /// now.
    pub fn inner_recv(&self, inner: Inner, to: &mut [u8], flags: i32) -> Result<(usize, Option<SocketAddr>)> {
        let mut from = addr::NONE;
        // SAFETY: see `inner_close`; writable.
        let n = length(unsafe {
            usk_inner_recv(self.raw(), inner.raw(), to.as_mut_ptr().cast(), to.len(), flags, &mut from)
        })?;
        Ok((n, addr::from_c(&from)))
    }

    /// The present poll(2) bits; none where the other calls fail.
    pub fn inner_poll(&self, inner: Inner) -> Events {
        // SAFETY: see `inner_close`.
        Events(unsafe { usk_inner_poll(self.raw(), inner.raw()) })
    }

    /// shutdown(2).
    pub fn inner_shutdown(&self, inner: Inner, how: Shutdown) -> Result<()> {
        // SHUT_RD, SHUT_WR and SHUT_RDWR are the bits less one. SAFETY: see `inner_close`.
        status(unsafe { usk_inner_shutdown(self.raw(), inner.raw(), how.0 - 1) })
    }

    /// setsockopt(2).
    pub fn inner_setsockopt(&self, inner: Inner, level: i32, name: i32, value: &[u8]) -> Result<()> {
        // SAFETY: see `inner_close`; readable.
        status(unsafe {
            usk_inner_setsockopt(self.raw(), inner.raw(), level, name, value.as_ptr().cast(), value.len())
        })
    }

    /// getsockopt(2): returns how many bytes it wrote.
    pub fn inner_getsockopt(&self, inner: Inner, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        // SAFETY: see `inner_close`; writable.
        length(unsafe {
            usk_inner_getsockopt(self.raw(), inner.raw(), level, name, value.as_mut_ptr().cast(), value.len())
        })
    }

    /// Its address, as of getsockname(2).
    pub fn inner_local(&self, inner: Inner) -> Result<SocketAddr> {
        let mut local = addr::NONE;
        // SAFETY: see `inner_close`; writable, and null is allowed.
        status(unsafe { usk_inner_ends(self.raw(), inner.raw(), &mut local, null_mut()) })?;
        Ok(addr::given(&local))
    }

    /// Its peer's, as of getpeername(2). ENOTCONN: there is none.
    pub fn inner_peer(&self, inner: Inner) -> Result<SocketAddr> {
        let mut peer = addr::NONE;
        // SAFETY: see `inner_local`.
        status(unsafe { usk_inner_ends(self.raw(), inner.raw(), null_mut(), &mut peer) })?;
        Ok(addr::given(&peer))
    }

    /// Its state: SYN_SENT while a connection is being made, then ESTABLISHED.
    pub fn inner_state(&self, inner: Inner) -> Result<State> {
        self.inner_local(inner)?;
        // SAFETY: an inner sock of this one, which is owned: so it is valid.
        Ok(State(unsafe { usk_sock_state(inner.raw()) }))
    }

    /// Takes its pending error (SO_ERROR): an `Err` with it, or `Ok`.
    pub fn inner_error(&self, inner: Inner) -> Result<()> {
        self.inner_local(inner)?;
        // SAFETY: as above.
        status(unsafe { usk_sock_error(inner.raw()) })
    }
}
