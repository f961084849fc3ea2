//! UDP sockets. Above: programs. Below: `inet::Socket`.

use super::{each_addr, set_int, shared_methods, socket_for, timeout_methods};
use crate::base::error::Error;
use crate::inet::Socket;
use crate::stack::Stack;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// A UDP socket. A datagram longer than the receive buffer is truncated, as in `std::net`.
///
/// ```
/// use usersock::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// let stack = usersock::config::build("").map_err(std::io::Error::other)?;
/// let a = UdpSocket::bind_on(&stack, "127.0.0.1:0")?;
/// let b = UdpSocket::bind_on(&stack, "127.0.0.1:0")?;
/// a.send_to(b"ping", b.local_addr()?)?;
/// let mut buf = [0; 16];
/// let (len, from) = b.recv_from(&mut buf)?;
/// assert_eq!((&buf[..len], from), (&b"ping"[..], a.local_addr()?));
/// # Ok(())
/// # }
/// ```
pub struct UdpSocket(Arc<Socket>);

impl UdpSocket {
    /// Binds on the default stack to the first of `addrs` that is free; port 0 selects a free one. Errors: EADDRINUSE,
    /// EADDRNOTAVAIL, and those of [`super::default_stack`].
    pub fn bind(addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocket::bind_on(&super::default_stack()?, addrs)
    }

    /// As [`UdpSocket::bind`], on `stack`.
    pub fn bind_on(stack: &Arc<Stack>, addrs: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        each_addr(addrs, |addr| {
            let socket = socket_for(stack, addr, libc::SOCK_DGRAM)?;
            socket.bind(addr)?;
            Ok(UdpSocket(Arc::new(socket)))
        })
    }

    /// A UDP socket from one that was set up through `inet::Socket`.
    pub fn from_socket(socket: Arc<Socket>) -> UdpSocket {
        UdpSocket(socket)
    }

    shared_methods!();
    timeout_methods!();

    /// Sends a datagram to the first of `addrs`. Errors: EMSGSIZE, EDESTADDRREQ, ENETUNREACH, and pending errors of
    /// earlier datagrams (ECONNREFUSED on a connected socket).
    pub fn send_to(&self, buf: &[u8], addrs: impl ToSocketAddrs) -> io::Result<usize> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to");
        let addr = addrs.to_socket_addrs()?.next().ok_or_else(none)?;
        super::send(&self.0, &[IoSlice::new(buf)], Some(addr))
    }

    /// Receives a datagram; returns its length and its sender. EAGAIN (`WouldBlock`): none arrived in time; and pending
    /// errors of earlier datagrams, as for [`UdpSocket::send_to`].
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_flags(buf, 0)
    }

    /// As [`UdpSocket::recv_from`], but leaves the datagram in the queue.
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_flags(buf, libc::MSG_PEEK)
    }

    fn recv_flags(&self, buf: &mut [u8], flags: i32) -> io::Result<(usize, SocketAddr)> {
        let (n, from) = super::recv(&self.0, &mut [IoSliceMut::new(buf)], flags)?;
        // Every datagram has a sender; a receive without one returned no datagram (SHUT_RD).
        Ok((n, from.ok_or(Error::NotConn)?))
    }

    /// Sets the peer: [`UdpSocket::send`] sends to it, and only datagrams from it are received. ENETUNREACH: no route.
    pub fn connect(&self, addrs: impl ToSocketAddrs) -> io::Result<()> {
        each_addr(addrs, |addr| Ok(self.0.connect(Some(addr))?))
    }

    /// Sends a datagram to the peer. EDESTADDRREQ without one.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        super::send(&self.0, &[IoSlice::new(buf)], None)
    }

    /// Receives a datagram; returns its length. Errors as [`UdpSocket::recv_from`].
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(super::recv(&self.0, &mut [IoSliceMut::new(buf)], 0)?.0)
    }

    /// As [`UdpSocket::recv`], but leaves the datagram in the queue.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(super::recv(&self.0, &mut [IoSliceMut::new(buf)], libc::MSG_PEEK)?.0)
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`); otherwise that fails with EACCES.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        set_int(&self.0, libc::SOL_SOCKET, libc::SO_BROADCAST, i32::from(broadcast))
    }

    /// See [`UdpSocket::set_broadcast`].
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(super::get_int(&self.0, libc::SOL_SOCKET, libc::SO_BROADCAST)? != 0)
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("UdpSocket");
        if let Ok(addr) = self.0.local_addr() {
            d.field("addr", &addr);
        }
        if let Ok(peer) = self.0.peer_addr() {
            d.field("peer", &peer);
        }
        d.finish()
    }
}
