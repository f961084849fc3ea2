//! A connection: bytes between the program's descriptor, of which the server has the other end, and the stack's socket.

use crate::client::FILLER;
use crate::inband;
use crate::sys::{self, Owned};
use std::io::{IoSlice, IoSliceMut};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::wait::Events;

/// Bytes read at once.
pub(super) const CHUNK: usize = 256 << 10;
/// Most bytes each way before others have their turn.
const TURN: usize = 4 * CHUNK;

/// What becomes of a connection after it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for something.
    Waits,
    /// It has more to do.
    Again,
    /// The program has closed it, and everything it sent is with the stack: the socket is closed.
    Closed,
    /// The program closed it with data unread: it is reset.
    Reset,
}

/// Bytes that were read and could not be written yet.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    from: usize,
}

impl Pending {
    fn left(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    fn keep(&mut self, bytes: &[u8]) {
        debug_assert!(self.left().is_empty());
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.from = 0;
    }

    fn taken(&mut self, n: usize) {
        self.from += n;
        if self.left().is_empty() {
            // Idle connections hold no memory.
            *self = Pending::default();
        }
    }
}

/// Both directions. "Up" is from the program to the network, "down" to the program.
#[derive(Debug)]
pub(super) struct Stream {
    /// Our end; None before a connecting program has sent it, and after a failure.
    end: Option<Owned>,
    connecting: bool,
    /// The program's connect waits, and so learns of the connection in the same call.
    waits: bool,
    /// Bytes to discard: a connecting descriptor was filled.
    filler: usize,
    /// epoll said so, and no call has said EAGAIN since.
    readable: bool,
    writable: bool,
    /// The program will send no more: the end follows its last bytes.
    ends: bool,
    /// The program has closed the descriptor, or shut it down both ways.
    hung_up: bool,
    up: Pending,
    /// An option that the program set behind the bytes of `up`.
    option: Option<u8>,
    /// Its end has been read.
    up_ended: bool,
    /// And the stack knows.
    up_shut: bool,
    down: Pending,
    /// The peer has sent its FIN, and the program knows.
    down_ended: bool,
    /// Why it failed, for SO_ERROR.
    error: Option<Error>,
}

impl Stream {
    /// A connection that the stack begins; `waits`: in the program, a call waits for it.
    pub(super) fn connecting(waits: bool) -> Stream {
        Stream { connecting: true, waits, filler: FILLER, ..Stream::accepted(None) }
    }

    /// One that is there.
    pub(super) fn accepted(end: Option<Owned>) -> Stream {
        Stream {
            end,
            connecting: false,
            waits: false,
            filler: 0,
            readable: false,
            writable: false,
            ends: false,
            hung_up: false,
            up: Pending::default(),
            option: None,
            up_ended: false,
            up_shut: false,
            down: Pending::default(),
            down_ended: false,
            error: None,
        }
    }

    /// Our end of the descriptor, if there is one.
    pub(super) fn end(&self) -> Option<&Owned> {
        self.end.as_ref()
    }

    /// Takes the end that a connecting program made. None: it is not expected.
    pub(super) fn attach(&mut self, end: Owned) -> Option<&Owned> {
        let expected = self.end.is_none() && self.error.is_none();
        expected.then(|| &*self.end.insert(end))
    }

    /// It has failed, and the descriptor with it.
    pub(super) fn has_failed(&self) -> bool {
        self.end.is_none() && !self.connecting
    }

    /// SO_ERROR of a failure, once.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Bytes of the program that the stack does not have yet.
    pub(super) fn held_up(&self) -> usize {
        self.up.left().len()
    }

    /// Whether a call of the program waits for the connection now.
    pub(super) fn waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Notes what epoll said of the end.
    pub(super) fn epoll(&mut self, events: u32) {
        let has = |bits: i32| events & bits as u32 != 0;
        self.readable |= has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR);
        self.writable |= has(libc::EPOLLOUT);
        self.ends |= has(libc::EPOLLRDHUP | libc::EPOLLHUP);
        self.hung_up |= has(libc::EPOLLHUP);
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self, socket: &Socket, scratch: &mut [u8]) -> Fate {
        if self.connecting && !self.has_connected(socket) {
            return self.gave_up();
        }
        if self.end.is_none() {
            return Fate::Waits;
        }
        let moved = self.discard(scratch).and_then(|()| {
            let up = self.send_up(socket, scratch)?;
            Ok(up | self.send_down(socket, scratch)?)
        });
        match moved {
            Err(Error::ConnReset) if self.error.is_none() => Fate::Reset,
            Err(_) => {
                // The program reads what it has, and then ECONNRESET or the end: of unread bytes the kernel says so.
                self.end = None;
                Fate::Waits
            }
            Ok(_) if self.hung_up && self.up_ended && self.held_up() == 0 => match self.down.left() {
                [] => Fate::Closed,
                _ => Fate::Reset,
            },
            Ok(true) => Fate::Again,
            Ok(false) => Fate::Waits,
        }
    }

    /// Whether the handshake is over; a failure is noted.
    fn has_connected(&mut self, socket: &Socket) -> bool {
        let events = socket.poll();
        if events.intersects(Events::ERR | Events::HUP) {
            self.connecting = false;
            self.fail(socket_error(socket).unwrap_or(Error::ConnRefused));
            // The filler stays unread: poll says IN, OUT, ERR and HUP of the descriptor, as of a refused TCP socket.
            self.end = None;
            return false;
        }
        self.connecting = !events.intersects(Events::OUT);
        if !self.connecting
            && self.waits
            && let Ok(peer) = socket.peer_addr()
        {
            // The call returns 0, and the next is EISCONN; for one that did not wait, it is the next that returns 0.
            let _ = socket.connect(Some(peer));
        }
        !self.connecting
    }

    /// A program that closes a connecting descriptor ends the attempt.
    fn gave_up(&self) -> Fate {
        if self.hung_up && self.end.is_some() { Fate::Closed } else { Fate::Waits }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.error = Some(error);
        error
    }

    /// Reads the filler away: the descriptor becomes writable.
    fn discard(&mut self, scratch: &mut [u8]) -> sys::Result<()> {
        let Some(end) = &self.end else { return Ok(()) };
        while self.filler > 0 && self.readable {
            let room = self.filler.min(scratch.len());
            match sys::recv(end.raw(), &mut scratch[..room], libc::MSG_DONTWAIT) {
                Ok(0) => self.filler = 0,
                Ok(n) => self.filler -= n,
                Err(Error::Again) => self.readable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// From the program to the stack. Whether there may be more. ECONNRESET with no error noted: the program has closed
    /// the descriptor with data unread.
    fn send_up(&mut self, socket: &Socket, scratch: &mut [u8]) -> sys::Result<bool> {
        let mut moved = 0;
        while self.filler == 0 && moved < TURN {
            if self.held_up() > 0 {
                match send(socket, self.up.left()) {
                    Ok(n) => self.up.taken(n),
                    Err(Error::Again) => return Ok(false),
                    Err(e) => return self.send_failed(socket, e),
                }
                continue;
            }
            if let Some((name, value)) = self.option.take().and_then(inband::option) {
                // It cannot fail.
                let _ = socket.setsockopt(libc::IPPROTO_TCP, name, &value.to_ne_bytes());
            }
            if self.up_ended && !self.up_shut {
                self.up_shut = true;
                if !self.hung_up {
                    // ENOTCONN: the connection has ended meanwhile, which the other direction tells.
                    let _ = socket.shutdown(libc::SHUT_WR);
                }
            }
            let Some(end) = self.end.as_ref().filter(|_| self.readable && !self.up_ended) else { return Ok(false) };
            match sys::recv_marked(end.raw(), scratch) {
                Ok((0, _)) => self.up_ended = true,
                Ok((n, marked)) => {
                    // A short read has emptied the queue; what comes later is another edge, but not the end that is
                    // there.
                    self.readable = n == scratch.len() || self.ends || marked;
                    let n = n - usize::from(marked);
                    self.option = marked.then(|| scratch[n]);
                    moved += n;
                    let sent = match send(socket, &scratch[..n]) {
                        Ok(sent) => sent,
                        Err(Error::Again) => 0,
                        Err(e) => return self.send_failed(socket, e),
                    };
                    if sent < n {
                        self.up.keep(&scratch[sent..n]);
                    }
                }
                Err(Error::Again) => self.readable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(moved >= TURN)
    }

    /// The stack takes no more: why is noted, and what the program sends is discarded with the descriptor.
    fn send_failed(&mut self, socket: &Socket, error: Error) -> sys::Result<bool> {
        // EPIPE says less than the error before it.
        let error = socket_error(socket).unwrap_or(error);
        Err(self.fail(error))
    }

    /// From the stack to the program.
    fn send_down(&mut self, socket: &Socket, scratch: &mut [u8]) -> sys::Result<bool> {
        let mut moved = 0;
        // No read tells of a reset that comes after the peer's FIN.
        if self.down_ended
            && socket.poll().intersects(Events::ERR)
            && let Some(error) = socket_error(socket)
        {
            return Err(self.fail(error));
        }
        while self.writable && !self.down_ended && moved < TURN {
            let Some(end) = &self.end else { return Ok(false) };
            if !self.down.left().is_empty() {
                match sys::send(end.raw(), self.down.left(), libc::MSG_DONTWAIT) {
                    Ok(n) => self.down.taken(n),
                    Err(Error::Again) => self.writable = false,
                    Err(e) => return self.receiver_gone(e),
                }
                continue;
            }
            let n = match receive(socket, scratch) {
                Ok(0) => {
                    self.down_ended = true;
                    // Not closed: the program may go on sending.
                    sys::shutdown(end.raw(), libc::SHUT_WR)?;
                    continue;
                }
                Ok(n) => n,
                Err(Error::Again) => return Ok(false),
                Err(e) => return Err(self.fail(e)),
            };
            moved += n;
            let sent = match sys::send(end.raw(), &scratch[..n], libc::MSG_DONTWAIT) {
                Ok(sent) => sent,
                Err(Error::Again) => 0,
                Err(e) => {
                    self.down.keep(&scratch[..n]);
                    return self.receiver_gone(e);
                }
            };
            if sent < n {
                self.writable = false;
                self.down.keep(&scratch[sent..n]);
            }
        }
        Ok(moved >= TURN)
    }

    /// The program reads no more. After SHUT_RD what arrives is acknowledged and forgotten; after a close epoll says
    /// so, and the bytes that are left make it a reset.
    fn receiver_gone(&mut self, error: Error) -> sys::Result<bool> {
        match error {
            Error::Pipe if !self.hung_up => {
                self.down = Pending::default();
                Ok(true)
            }
            Error::Pipe => Ok(false),
            e => Err(e),
        }
    }
}

/// SO_ERROR of the stack's socket.
fn socket_error(socket: &Socket) -> Option<Error> {
    let mut errno = [0; 4];
    socket.getsockopt(libc::SOL_SOCKET, libc::SO_ERROR, &mut errno).ok()?;
    Error::try_from_errno(i32::from_ne_bytes(errno))
}

fn send(socket: &Socket, bytes: &[u8]) -> sys::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let slices = [IoSlice::new(bytes)];
    socket.sendmsg(&mut SendMsg::new(&slices, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
}

fn receive(socket: &Socket, bytes: &mut [u8]) -> sys::Result<usize> {
    let mut slices = [IoSliceMut::new(bytes)];
    socket.recvmsg(&mut RecvMsg::new(&mut slices, libc::MSG_DONTWAIT))
}
