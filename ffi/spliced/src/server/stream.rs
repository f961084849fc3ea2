//! A connection: bytes between the program's descriptor, of which the server has the other end, and the stack's socket.

use super::end::{End, Read};
use crate::client::FILLER;
use crate::inband;
use crate::instance::{GREETING, Instance};
use crate::sys::{self, Owned};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::RawFd;
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
        if bytes.is_empty() {
            return;
        }
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
    end: Option<End>,
    connecting: bool,
    /// The program's connect waits, and so learns of the connection in the same call.
    waits: bool,
    /// Bytes to discard: a connecting descriptor was filled.
    filler: usize,
    /// What the shim's accept sends before the program can send anything, so that there is a byte to leave unread.
    greeting: Option<[u8; GREETING]>,
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
    /// The descriptor tells the program, too.
    told: bool,
}

impl Stream {
    /// A connection that the stack begins; `waits`: in the program, a call waits for it.
    pub(super) fn connecting(waits: bool) -> Stream {
        Stream { connecting: true, waits, filler: FILLER, ..Stream::idle() }
    }

    /// One that is there, with our end of it.
    pub(super) fn accepted(end: End, instance: &Instance) -> Stream {
        Stream { end: Some(end), greeting: Some(instance.greeting()), ..Stream::idle() }
    }

    fn idle() -> Stream {
        Stream {
            end: None,
            connecting: false,
            waits: false,
            filler: 0,
            greeting: None,
            up: Pending::default(),
            option: None,
            up_ended: false,
            up_shut: false,
            down: Pending::default(),
            down_ended: false,
            error: None,
            told: false,
        }
    }

    /// Our end of the descriptor, if there is one.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Takes the end that a connecting program made. None: it is not expected, or the kernel does not let us use it.
    pub(super) fn attach(&mut self, fd: Owned) -> Option<&End> {
        let expected = self.end.is_none() && self.error.is_none();
        let end = End::new(fd).ok().filter(|_| expected)?;
        Some(self.end.insert(end))
    }

    /// Why it failed is to be told yet.
    pub(super) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// It has failed, and the descriptor with it.
    pub(super) fn has_failed(&self) -> bool {
        self.end.is_none() && !self.connecting
    }

    /// SO_ERROR of a failure, once, and whether the descriptor told the program, too.
    pub(super) fn take_error(&mut self) -> Option<(Error, bool)> {
        self.error.take().map(|error| (error, self.told))
    }

    /// Bytes of the program that the stack does not have yet.
    pub(super) fn held_up(&self) -> usize {
        self.up.left().len()
    }

    /// The same, with those that the server has not read.
    pub(super) fn unsent(&self) -> usize {
        let filler = if self.connecting { self.filler } else { 0 };
        self.held_up() + self.end.as_ref().map_or(0, End::unread).saturating_sub(filler)
    }

    /// Whether a call of the program waits for the connection now.
    pub(super) fn waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// The descriptor of our end, and what epoll is to tell of it from now on; None: as before.
    pub(super) fn watch(&mut self) -> Option<(RawFd, u32)> {
        let end = self.end.as_mut()?;
        end.watch().map(|events| (end.fd().raw(), events))
    }

    /// Notes what epoll said of the end.
    pub(super) fn epoll(&mut self, events: u32) {
        if let Some(end) = &mut self.end {
            end.epoll(events);
        }
    }

    /// Moves what can be moved.
    pub(super) fn turn(&mut self, socket: &Socket, scratch: &mut [u8]) -> Fate {
        if self.connecting && !self.has_connected(socket) {
            return self.gave_up();
        }
        if self.end.is_none() {
            return Fate::Waits;
        }
        let moved = self.discard().and_then(|()| {
            let up = self.send_up(socket, scratch)?;
            Ok(up | self.send_down(socket, scratch)?)
        });
        match moved {
            Err(Error::ConnReset) if self.error.is_none() => Fate::Reset,
            Err(_) => {
                self.leave();
                Fate::Waits
            }
            Ok(_) if self.hung_up() && self.up_ended && self.held_up() == 0 => match self.down.left() {
                [] => {
                    // The program has closed the descriptor, or has it still, with both directions at their ends.
                    self.down_ended = true;
                    self.leave();
                    Fate::Closed
                }
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
            self.leave();
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

    /// Closes our end after an error: the program reads what it has, and then ECONNRESET; the end of the stream, if the
    /// peer has sent its FIN before.
    fn leave(&mut self) {
        if let Some(mut end) = self.end.take() {
            self.told = !self.down_ended;
            if self.down_ended {
                end.quiet();
            }
        }
    }

    fn hung_up(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.hung_up)
    }

    /// A program that closes a connecting descriptor ends the attempt.
    fn gave_up(&self) -> Fate {
        if self.hung_up() { Fate::Closed } else { Fate::Waits }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.error = Some(error);
        error
    }

    /// Reads the filler away: the descriptor becomes writable.
    fn discard(&mut self) -> sys::Result<()> {
        let Some(end) = &mut self.end else { return Ok(()) };
        while self.filler > 0 && end.readable() {
            match end.skip(self.filler) {
                Ok(0) => self.filler = 0,
                Ok(n) => self.filler -= n,
                Err(Error::Again) => {}
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
                if !self.hung_up() {
                    // ENOTCONN: the connection has ended meanwhile, which the other direction tells.
                    let _ = socket.shutdown(libc::SHUT_WR);
                }
            }
            let Some(end) = self.end.as_mut().filter(|end| end.readable() && !self.up_ended) else { return Ok(false) };
            match end.read(scratch) {
                Ok(Read { len: 0, .. }) => self.up_ended = true,
                Ok(Read { len, marked }) => {
                    let n = len - usize::from(marked);
                    self.option = marked.then(|| scratch[n]);
                    moved += n;
                    let bytes = self.greeted(&scratch[..n]);
                    let sent = match send(socket, bytes) {
                        Ok(sent) => sent,
                        Err(Error::Again) => 0,
                        Err(e) => return self.send_failed(socket, e),
                    };
                    self.up.keep(&bytes[sent..]);
                }
                Err(Error::Again) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(moved >= TURN)
    }

    /// What of a connection's first bytes is the program's. One that accepts without the shim (io_uring) sends no
    /// greeting.
    fn greeted<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match self.greeting.take() {
            Some(greeting) => bytes.strip_prefix(&greeting).unwrap_or(bytes),
            None => bytes,
        }
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
        while !self.down_ended && moved < TURN {
            let Some(end) = self.end.as_mut().filter(|end| end.writable()) else { return Ok(false) };
            if !self.down.left().is_empty() {
                match end.write(self.down.left()) {
                    Ok(n) => self.down.taken(n),
                    Err(e) => return self.receiver_gone(e),
                }
                continue;
            }
            let n = match receive(socket, scratch) {
                Ok(0) => {
                    self.down_ended = true;
                    end.finish()?;
                    continue;
                }
                Ok(n) => n,
                Err(Error::Again) => return Ok(false),
                Err(e) => return Err(self.fail(e)),
            };
            moved += n;
            match end.write(&scratch[..n]) {
                Ok(sent) => self.down.keep(&scratch[sent..n]),
                Err(e) => {
                    self.down.keep(&scratch[..n]);
                    return self.receiver_gone(e);
                }
            }
        }
        Ok(moved >= TURN)
    }

    /// The program reads no more. After SHUT_RD what arrives is acknowledged and forgotten; after a close epoll says
    /// so, and the bytes that are left make it a reset.
    fn receiver_gone(&mut self, error: Error) -> sys::Result<bool> {
        match error {
            Error::Pipe if !self.hung_up() => {
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
