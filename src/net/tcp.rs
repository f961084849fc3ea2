//! TCP listeners and streams. Above: programs. Below: `inet::Socket`. Not here: calls that `std::net` lacks as well;
//! use `socket()` for them.

use super::{each_addr, set_int, shared_methods, socket_for, timeout_methods};
use crate::base::error::Error;
use crate::inet::Socket;
use crate::sock::msg::SendMsg;
use crate::sock::{COUNTS, Sock, crowd};
use crate::stack::Stack;
use crate::sys::mem::{At, prefetch};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The listen backlog, the same as in `std::net`.
const BACKLOG: i32 = 128;

/// A connection. `&TcpStream` also reads and writes, so that two threads can share it. Dropping the last handle closes
/// it: data already written is still delivered, unless received data is left unread (then the peer gets a RST,
/// RFC 2525 §2.17).
///
/// ```
/// use std::io::Write;
/// use usersock::net::{Shutdown, TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// let stack = usersock::config::build("").map_err(std::io::Error::other)?;
/// let listener = TcpListener::bind_on(&stack, "127.0.0.1:0")?;
/// let mut stream = TcpStream::connect_on(&stack, listener.local_addr()?)?;
/// stream.set_nodelay(true)?;
/// stream.write_all(b"no more than this")?;
/// stream.shutdown(Shutdown::Write)?;
///
/// // No socket listens at port 1.
/// let error = TcpStream::connect_on(&stack, "127.0.0.1:1").unwrap_err();
/// assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
/// # Ok(())
/// # }
/// ```
pub struct TcpStream(Held);

/// A socket that accepts connections.
///
/// ```
/// use std::io::{Read, Write};
/// use usersock::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// let stack = usersock::config::build("").map_err(std::io::Error::other)?;
/// let listener = TcpListener::bind_on(&stack, "[::1]:0")?;
/// TcpStream::connect_on(&stack, listener.local_addr()?)?.write_all(b"one line\n")?;
/// for connection in listener.incoming().take(1) {
///     let mut text = String::new();
///     connection?.read_to_string(&mut text)?;
///     assert_eq!(text, "one line\n");
/// }
///
/// // A call that would block fails at once.
/// listener.set_nonblocking(true)?;
/// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// # Ok(())
/// # }
/// ```
pub struct TcpListener(Arc<Socket>);

/// A socket, and where its sock is: of many, both are asked for at once.
#[derive(Clone)]
struct Held {
    socket: Arc<Socket>,
    sock: At,
}

impl Held {
    fn new(socket: Arc<Socket>) -> Held {
        let sock = socket.sock().at();
        Held { socket, sock }
    }

    /// A call is about to use it.
    #[inline]
    fn prefetch(&self) {
        if crowd::many() {
            prefetch(&*self.socket, COUNTS);
            self.sock.prefetch::<Sock>(COUNTS);
        }
    }
}

impl Deref for Held {
    type Target = Arc<Socket>;
    #[inline]
    fn deref(&self) -> &Arc<Socket> {
        &self.socket
    }
}

/// An iterator over accepted connections: see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a>(&'a TcpListener);

impl TcpStream {
    /// Connects on the default stack to the first of `addrs` that accepts. Errors: ECONNREFUSED, ETIMEDOUT,
    /// ENETUNREACH, EADDRNOTAVAIL (no port left), and those of [`super::default_stack`].
    pub fn connect(addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::connect_on(&super::default_stack()?, addrs)
    }

    /// As [`TcpStream::connect`], on `stack`.
    pub fn connect_on(stack: &Arc<Stack>, addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each_addr(addrs, |addr| {
            let socket = socket_for(stack, addr, libc::SOCK_STREAM)?;
            connect(&socket, addr)?;
            Ok(TcpStream(Held::new(Arc::new(socket))))
        })
    }

    /// Connects on the default stack; fails with `TimedOut` after `timeout`. A zero duration is `InvalidInput`.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_timeout_on(&super::default_stack()?, addr, timeout)
    }

    /// As [`TcpStream::connect_timeout`], on `stack`.
    pub fn connect_timeout_on(stack: &Arc<Stack>, addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let socket = socket_for(stack, *addr, libc::SOCK_STREAM)?;
        super::set_timeout(&socket, libc::SO_SNDTIMEO, Some(timeout))?;
        match connect(&socket, *addr) {
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => return Err(Error::TimedOut.into()),
            other => other?,
        }
        super::set_timeout(&socket, libc::SO_SNDTIMEO, None)?;
        Ok(TcpStream(Held::new(Arc::new(socket))))
    }

    /// Connects on `stack` and sends: what one segment holds of `data` leaves with the SYN if the server has given a
    /// cookie on an earlier connection (TCP Fast Open, RFC 7413), which saves a round trip; otherwise after the
    /// handshake. Returns the stream and how many bytes were taken. A server may receive data of a SYN twice, so use it
    /// for what may be repeated (RFC 7413 §2.1). Errors: as [`TcpStream::connect`]; EOPNOTSUPP where
    /// `net.ipv4.tcp_fastopen` has no bit 0.
    pub fn connect_with_on(stack: &Arc<Stack>, addr: SocketAddr, data: &[u8]) -> io::Result<(TcpStream, usize)> {
        let socket = socket_for(stack, addr, libc::SOCK_STREAM)?;
        let bufs = [IoSlice::new(data)];
        let mut msg = SendMsg::new(&bufs, libc::MSG_NOSIGNAL | libc::MSG_FASTOPEN);
        msg.name = Some(addr);
        let taken = match socket.sendmsg(&mut msg) {
            // A signal does not end the attempt.
            Err(Error::Intr) => connect(&socket, addr).map(|()| 0)?,
            other => other?,
        };
        Ok((TcpStream(Held::new(Arc::new(socket))), taken))
    }

    /// A stream from a connected socket that was set up through `inet::Socket`.
    pub fn from_socket(socket: Arc<Socket>) -> TcpStream {
        TcpStream(Held::new(socket))
    }

    shared_methods!();
    timeout_methods!();

    /// Shuts down one or both directions. `NotConnected` when there is no connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        super::shutdown(&self.0, how)
    }

    /// Reads without consuming: the next read returns the same bytes again. Returns the number of bytes, 0 at the end.
    /// Errors as a read: EAGAIN (`WouldBlock`), ECONNRESET, ETIMEDOUT.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(super::recv(&self.0, &mut [IoSliceMut::new(buf)], libc::MSG_PEEK)?.0)
    }

    /// With true, small segments are sent at once (`TCP_NODELAY`, RFC 9293 §3.7.4).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        set_int(&self.0, libc::IPPROTO_TCP, libc::TCP_NODELAY, i32::from(nodelay))
    }

    /// See [`TcpStream::set_nodelay`].
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(super::get_int(&self.0, libc::IPPROTO_TCP, libc::TCP_NODELAY)? != 0)
    }
}

/// connect(2). A signal does not end the attempt: the call continues to wait.
fn connect(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    loop {
        match socket.connect(Some(addr)) {
            Err(Error::Intr) => continue,
            other => return Ok(other?),
        }
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.prefetch();
        // As read(2) does; recv(2) with an empty buffer would wait for data.
        if bufs.iter().all(|b| b.is_empty()) {
            return Ok(0);
        }
        Ok(super::recv(&self.0, bufs, 0)?.0)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.prefetch();
        super::send(&self.0, &[IoSlice::new(buf)], None)
    }
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.prefetch();
        super::send(&self.0, bufs, None)
    }
    /// Does nothing: TCP decides when to send.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("TcpStream");
        if let Ok(addr) = self.0.local_addr() {
            d.field("addr", &addr);
        }
        if let Ok(peer) = self.0.peer_addr() {
            d.field("peer", &peer);
        }
        d.finish()
    }
}

impl TcpListener {
    /// Listens on the default stack at the first of `addrs` that can be bound; port 0 selects a free one.
    /// `SO_REUSEADDR` is set first, as in std. Errors: EADDRINUSE, EADDRNOTAVAIL, and those of
    /// [`super::default_stack`].
    pub fn bind(addrs: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::bind_on(&super::default_stack()?, addrs)
    }

    /// As [`TcpListener::bind`], on `stack`.
    pub fn bind_on(stack: &Arc<Stack>, addrs: impl ToSocketAddrs) -> io::Result<TcpListener> {
        each_addr(addrs, |addr| {
            let socket = socket_for(stack, addr, libc::SOCK_STREAM)?;
            set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
            socket.bind(addr)?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener(Arc::new(socket)))
        })
    }

    /// Takes the data of SYNs (TCP Fast Open, RFC 7413): at most `queue` connections wait for the end of their
    /// handshake at a time; 0 takes none. `accept` returns a connection as soon as the data is there. Without effect
    /// where `net.ipv4.tcp_fastopen` has no bit 1 (value 2).
    pub fn set_fastopen(&self, queue: u32) -> io::Result<()> {
        set_int(&self.0, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue.min(i32::MAX as u32) as i32)
    }

    /// A listener from a listening socket that was set up through `inet::Socket`.
    pub fn from_socket(socket: Arc<Socket>) -> TcpListener {
        TcpListener(socket)
    }

    shared_methods!();

    /// Waits for a connection; returns it and its peer. A signal does not end the wait. EAGAIN (`WouldBlock`): the
    /// queue is empty and the listener is non-blocking.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            match self.0.accept() {
                Err(Error::Intr) => continue,
                Err(e) => return Err(e.into()),
                Ok((socket, peer)) => return Ok((TcpStream(Held::new(Arc::new(socket))), peer)),
            }
        }
    }

    /// An iterator that accepts connections. It never ends, not even after an error.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("TcpListener");
        if let Ok(addr) = self.0.local_addr() {
            d.field("addr", &addr);
        }
        d.finish()
    }
}
