//! TCP and UDP for Rust programs, after `std::net`: the same names, the same meanings, `io::Error` with Linux's errno.
//! Above: programs. Below: `inet::Socket`. No counterpart in Linux; `ffi` is the C ABI beside it.
//!
//! Each constructor exists twice: `bind_on(&stack, ..)` and `connect_on(&stack, ..)` use the given stack; `bind(..)`
//! and `connect(..)` use the process's [`default_stack`]. Host names are resolved by the system's resolver, through the
//! kernel's network, as `std::net::ToSocketAddrs` does.
//!
//! Differences from `std::net`: no SIGPIPE is ever raised; a socket is not a file descriptor, so there is no `AsRawFd`,
//! and options and calls without a method here are reached through `socket()`; a clone shares `O_NONBLOCK` and the
//! timeouts with its original, as after dup(2).
//!
//! Errors are Linux's errno (`raw_os_error`). Any call may also return ENETDOWN, in a fork(2) child of the stack's
//! process, and EIO, from a socket that a fault in a plug-in has broken.
//!
//! | file | what |
//! |---|---|
//! | `tcp` | [`TcpListener`], [`TcpStream`] |
//! | `udp` | [`UdpSocket`] |
//!
//! ```
//! use std::io::{Read, Write};
//! use usersock::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! // A stack of its own: the in-memory loopback, no privileges needed.
//! let stack = usersock::config::build("").map_err(std::io::Error::other)?;
//! let listener = TcpListener::bind_on(&stack, "127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = std::thread::spawn(move || -> std::io::Result<()> {
//!     let (mut conn, _peer) = listener.accept()?;
//!     let mut line = [0; 5];
//!     conn.read_exact(&mut line)?;
//!     conn.write_all(&line)
//! });
//! let mut conn = TcpStream::connect_on(&stack, addr)?;
//! conn.write_all(b"hello")?;
//! let mut back = String::new();
//! conn.read_to_string(&mut back)?;
//! assert_eq!(back, "hello");
//! server.join().unwrap()
//! # }
//! ```

mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use crate::inet::Socket;
pub use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;

use crate::config;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::stack::Stack;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::Duration;

/// The process's default stack, created at the first call from the environment variable `USERSOCK_CONFIG` (the text
/// that [`config::build`] takes); without it, only the in-memory loopback. A bad configuration is an error at every
/// call, of kind `InvalidInput` if the text is wrong, with a message that says what is wrong.
pub fn default_stack() -> io::Result<Arc<Stack>> {
    config::default_stack().map_err(|e| io::Error::new(io::Error::from(e.error).kind(), e))
}

/// Makes `stack` the default stack. `ResourceBusy` (EBUSY) when there is one already.
pub fn set_default_stack(stack: Arc<Stack>) -> io::Result<()> {
    config::set_default_stack(|| Ok(stack)).map_err(|e| e.error.into())
}

/// Tries `f` with each address in turn; returns the last error, as std does.
fn each_addr<T>(addrs: impl ToSocketAddrs, mut f: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    for addr in addrs.to_socket_addrs()? {
        match f(addr) {
            Ok(t) => return Ok(t),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")))
}

/// A socket of the family of `addr`.
fn socket_for(stack: &Arc<Stack>, addr: SocketAddr, ty: i32) -> io::Result<Socket> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    Ok(Socket::new(stack, family, ty, 0)?)
}

/// sendmsg(2) of these slices to `name` or to the connected peer.
fn send(socket: &Socket, bufs: &[IoSlice<'_>], name: Option<SocketAddr>) -> io::Result<usize> {
    let mut msg = SendMsg::new(bufs, libc::MSG_NOSIGNAL);
    msg.name = name;
    Ok(socket.sendmsg(&mut msg)?)
}

/// recvmsg(2) into these slices; returns the sender as well.
fn recv(socket: &Socket, bufs: &mut [IoSliceMut<'_>], flags: i32) -> io::Result<(usize, Option<SocketAddr>)> {
    let mut msg = RecvMsg::new(bufs, flags);
    let n = socket.recvmsg(&mut msg)?;
    Ok((n, msg.name))
}

fn set_int(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    Ok(socket.setsockopt(level, name, &value.to_ne_bytes())?)
}

fn get_int(socket: &Socket, level: i32, name: i32) -> io::Result<i32> {
    let mut value = [0; 4];
    socket.getsockopt(level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// SO_RCVTIMEO or SO_SNDTIMEO. A zero duration is refused, as in std; less than a microsecond becomes one.
fn set_timeout(socket: &Socket, name: i32, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = match timeout {
        Some(Duration::ZERO) => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        Some(t) => t.max(Duration::from_micros(1)),
        None => Duration::ZERO,
    };
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let mut timeval = [0; 16];
    timeval[..8].copy_from_slice(&seconds.to_ne_bytes());
    timeval[8..].copy_from_slice(&i64::from(timeout.subsec_micros()).to_ne_bytes());
    Ok(socket.setsockopt(libc::SOL_SOCKET, name, &timeval)?)
}

fn get_timeout(socket: &Socket, name: i32) -> io::Result<Option<Duration>> {
    let mut b = [0; 16];
    socket.getsockopt(libc::SOL_SOCKET, name, &mut b)?;
    let word = |half: usize| {
        let mut w = [0; 8];
        w.copy_from_slice(&b[half * 8..half * 8 + 8]);
        u64::from_ne_bytes(w)
    };
    let timeout = Duration::from_secs(word(0)) + Duration::from_micros(word(1));
    Ok((!timeout.is_zero()).then_some(timeout))
}

/// Returns SO_ERROR, and clears it.
fn take_error(socket: &Socket) -> io::Result<Option<io::Error>> {
    let errno = get_int(socket, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((errno != 0).then(|| io::Error::from_raw_os_error(errno)))
}

fn shutdown(socket: &Socket, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    Ok(socket.shutdown(how)?)
}

/// Options that TCP and UDP share.
macro_rules! shared_methods {
    () => {
        /// The underlying socket: for options and calls that have no method here.
        pub fn socket(&self) -> &Arc<Socket> {
            &self.0
        }
        /// Address and port of this end.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.0.local_addr()?)
        }
        /// Another handle of the same socket; it is closed with the last of them.
        pub fn try_clone(&self) -> io::Result<Self> {
            Ok(Self(self.0.clone()))
        }
        /// Takes the pending error of the socket (`SO_ERROR`), if any.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> {
            super::take_error(&self.0)
        }
        /// With true, a call that would block fails with `WouldBlock` instead (`O_NONBLOCK`).
        pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
            self.0.set_nonblocking(nonblocking);
            Ok(())
        }
        /// Time to live of packets sent, in hops (`IP_TTL`, 1 to 255). EINVAL for other values.
        pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
            super::set_int(&self.0, libc::IPPROTO_IP, libc::IP_TTL, i32::try_from(ttl).unwrap_or(i32::MAX))
        }
        /// See [`Self::set_ttl`].
        pub fn ttl(&self) -> io::Result<u32> {
            Ok(super::get_int(&self.0, libc::IPPROTO_IP, libc::IP_TTL)? as u32)
        }
    };
}
use shared_methods;

/// Timeouts, for the types that read and write.
macro_rules! timeout_methods {
    () => {
        /// How long a read may wait (`SO_RCVTIMEO`); then it fails with `WouldBlock`. None: for ever. A zero duration
        /// is `InvalidInput`.
        pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            super::set_timeout(&self.0, libc::SO_RCVTIMEO, timeout)
        }
        /// How long a write may wait (`SO_SNDTIMEO`); as [`Self::set_read_timeout`].
        pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
            super::set_timeout(&self.0, libc::SO_SNDTIMEO, timeout)
        }
        /// See [`Self::set_read_timeout`].
        pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
            super::get_timeout(&self.0, libc::SO_RCVTIMEO)
        }
        /// See [`Self::set_write_timeout`].
        pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
            super::get_timeout(&self.0, libc::SO_SNDTIMEO)
        }
        /// Address and port of the peer. `NotConnected` without one.
        pub fn peer_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.0.peer_addr()?)
        }
    };
}
use timeout_methods;
