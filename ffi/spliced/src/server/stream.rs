//! A connection: bytes between the program's descriptor, of which the server has the other end, and the stack's socket.
//! This file is its life, from connect or accept to the end; `up` moves the program's bytes, `down` the network's.

mod down;
mod up;

use super::end::End;
use super::known::Passing;
use super::opening::Route;
use super::outlet::Outlet;
use crate::client::FILLER;
use crate::inband::Mark;
use crate::instance::{GREETING, Instance};
use crate::sys::{self, Owned};
use std::os::fd::RawFd;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::pages::Pages;
use usersock::sock::wait::Events;

/// Most bytes each way before others have their turn.
const TURN: usize = 1 << 20;

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

/// Both directions. "Up" is from the program to the network, "down" to the program.
#[derive(Debug)]
pub(super) struct Stream {
    /// Our end; None before a connecting program has sent it, and after a failure.
    end: Option<End>,
    connecting: bool,
    /// The attempt had failed before the whole filler was there. Then our end is closed: what is unread makes the
    /// descriptor say ERR, but a write of what is missing would take that away.
    doomed: bool,
    /// The program's connect waits, and so learns of the connection in the same call.
    waits: bool,
    /// Bytes to discard: a connecting descriptor was filled.
    filler: usize,
    /// What [`Stream::opened`] gives yet.
    pub(super) attempt: Option<Route>,
    /// What the shim's accept sends before the program can send anything, so that there is a byte to leave unread.
    greeting: Option<[u8; GREETING]>,
    /// Of an accepted connection: its listener.
    listener: u64,
    /// Bytes of the program that the stack has not taken.
    up: Pages,
    /// What the program did behind the bytes of `up`.
    mark: Option<Mark>,
    /// Its end has been read, or nothing of it is wanted any more.
    up_ended: bool,
    /// And the stack knows.
    up_shut: bool,
    /// The stack takes them all.
    unbounded: bool,
    /// Bytes of the stack that the descriptor has not taken.
    down: Pages,
    /// An urgent byte behind them.
    urgent: Option<u8>,
    /// They wait to be sent with those of others.
    staged: bool,
    /// How the kernel answered when they were.
    refused: Option<Error>,
    /// What the stack's socket said behind them.
    late: Option<Error>,
    /// The peer has sent its FIN, and the program knows.
    down_ended: bool,
    /// Why the stack takes no more, while the program has not got what came before.
    broken: Option<Error>,
    /// Why it failed, for SO_ERROR.
    error: Option<Error>,
    /// The descriptor tells the program, too.
    told: bool,
    /// The program has connected its socket to AF_UNSPEC.
    is_dissolved: bool,
    /// The program has shut it down both ways, has the descriptor still, and will close it by a reset.
    is_shut: bool,
}

impl Stream {
    /// A connection that the stack begins; `waits`: in the program, a call waits for it.
    pub(super) fn connecting(waits: bool, attempt: Option<Route>) -> Stream {
        Stream { connecting: true, waits, filler: FILLER, attempt, ..Stream::idle() }
    }

    /// One that is there, with our end of it.
    pub(super) fn accepted(end: End, instance: &Instance, listener: u64) -> Stream {
        Stream { end: Some(end), greeting: Some(instance.greeting()), listener, ..Stream::idle() }
    }

    fn idle() -> Stream {
        Stream {
            end: None,
            connecting: false,
            doomed: false,
            waits: false,
            filler: 0,
            attempt: None,
            greeting: None,
            listener: 0,
            up: Pages::default(),
            mark: None,
            up_ended: false,
            up_shut: false,
            unbounded: false,
            down: Pages::default(),
            urgent: None,
            staged: false,
            refused: None,
            late: None,
            down_ended: false,
            broken: None,
            error: None,
            told: false,
            is_dissolved: false,
            is_shut: false,
        }
    }

    /// The program dissolves it: its socket is not connected, and may listen.
    pub(super) fn dissolve(&mut self) {
        self.is_dissolved = true;
    }

    /// Our end of the descriptor, if there is one.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Takes the end that a connecting program made. None: it is not expected, or the kernel does not let us use it.
    pub(super) fn attach(&mut self, fd: Owned) -> Option<&End> {
        let end = End::new(fd).ok().filter(|_| self.end.is_none())?;
        Some(self.end.insert(end))
    }

    /// Why it failed is to be told yet.
    pub(super) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// The listener at which no program has accepted it, as far as its bytes tell.
    pub(super) fn waits_at(&self) -> Option<u64> {
        self.greeting.map(|_| self.listener)
    }

    /// The handshake is not over.
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
    }

    /// The attempt of which the descriptor tells the program now; once.
    pub(super) fn opened(&mut self) -> Option<Route> {
        self.attempt.take_if(|_| !self.connecting && (self.filler == 0 || self.error.is_some()))
    }

    /// It has failed, and the descriptor with it.
    pub(super) fn has_failed(&self) -> bool {
        self.end.is_none() && !self.connecting
    }

    /// Its socket is not connected by what the program knows: it was dissolved, or was an attempt that failed, and the
    /// call that waited for it has said so.
    pub(super) fn may_listen(&self) -> bool {
        self.has_failed() && (self.is_dissolved || self.waits && self.filler > 0)
    }

    /// SO_ERROR of a failure, once, and whether the descriptor told the program, too.
    pub(super) fn take_error(&mut self) -> Option<(Error, bool)> {
        self.error.take().map(|error| (error, self.told))
    }

    /// Bytes of the program that the stack does not have yet.
    pub(super) fn held_up(&self) -> usize {
        self.up.len() + usize::from(matches!(self.mark, Some(Mark::Urgent(_))))
    }

    /// The same, with those that the server has not read.
    pub(super) fn unsent(&self) -> usize {
        let filler = if self.connecting { self.filler } else { 0 };
        self.held_up() + self.end.as_ref().map_or(0, End::unread).saturating_sub(filler)
    }

    /// Bytes on their way, for who looks into the stack. A descriptor in which no read would find anything is not
    /// asked.
    pub(super) fn passing(&self) -> Passing {
        let asks = self.end.as_ref().is_some_and(End::readable);
        Passing { down: self.down.len(), up: if asks { self.unsent() } else { self.held_up() } }
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

    /// Whether [`Stream::tidy`] is to be called a little later; told once.
    pub(super) fn becomes_untidy(&mut self) -> bool {
        self.end.as_mut().is_some_and(End::becomes_untidy)
    }

    /// Removes from the descriptor what was taken.
    pub(super) fn tidy(&mut self) {
        if let Some(end) = &mut self.end {
            end.tidy();
        }
    }

    /// Notes what epoll said of the end.
    pub(super) fn epoll(&mut self, events: u32) {
        if let Some(end) = &mut self.end {
            end.epoll(events);
        }
    }

    /// Moves what can be moved. `few`: memory for short reads, of no meaning before and after. `outlet`: for bulk.
    /// `stages`: few bytes for the program are left to be sent with those of others.
    pub(super) fn turn(
        &mut self,
        socket: &Socket,
        few: &mut [u8],
        outlet: &mut Option<Outlet<'_>>,
        stages: bool,
    ) -> Fate {
        if self.connecting && !self.has_connected(socket) {
            return self.gave_up();
        }
        if self.doomed && self.is_filled() {
            self.doomed = false;
            self.leave();
        }
        if self.doomed || self.end.is_none() {
            return Fate::Waits;
        }
        let moved = self.discard().and_then(|()| {
            let up = self.send_up(socket, few, outlet)?;
            let down = self.send_down(socket, stages)?;
            if self.broken.is_some()
                && let Some(end) = &mut self.end
            {
                end.refuse();
            }
            Ok(up | down)
        });
        match moved {
            Err(Error::ConnReset) if self.error.is_none() => self.reset(socket, few, outlet),
            Err(_) => {
                self.leave();
                Fate::Waits
            }
            Ok(_) if self.hung_up() && self.up_ended && self.up.is_empty() => {
                if self.is_shut_alone(socket) {
                    // It is to be reset at the close, of which epoll tells again. Only the first shutdown does
                    // anything, but each would have it looked at once more.
                    if !std::mem::replace(&mut self.is_shut, true) {
                        let _ = socket.shutdown(libc::SHUT_RDWR);
                    }
                    (self.down, self.urgent) = (Pages::default(), None);
                    return Fate::Waits;
                }
                match self.down.is_empty() && self.urgent.is_none() && !self.closed_unread() {
                    true => {
                        // The program has closed the descriptor, or has it still, with both directions at their ends.
                        self.down_ended = true;
                        self.leave();
                        Fate::Closed
                    }
                    false => Fate::Reset,
                }
            }
            Ok(false) if self.end.as_ref().is_some_and(End::closed_unread) => self.reset(socket, few, outlet),
            Ok(true) => Fate::Again,
            Ok(false) => Fate::Waits,
        }
    }

    /// The program has closed the descriptor with bytes unread. What it wrote is sent before the reset, also if a write
    /// to it and not a read has told of the close; what the stack does not take at once is dropped (tcp_close).
    fn reset(&mut self, socket: &Socket, few: &mut [u8], outlet: &mut Option<Outlet<'_>>) -> Fate {
        self.epoll((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
        while let Ok(true) = self.send_up(socket, few, outlet) {}
        Fate::Reset
    }

    /// Whether the handshake is over; a failure is noted.
    fn has_connected(&mut self, socket: &Socket) -> bool {
        let events = socket.poll();
        if events.intersects(Events::ERR | Events::HUP) {
            self.connecting = false;
            // The call that waits returns the error, and the next begins anew; of one that did not wait, the next says
            // ECONNABORTED if SO_ERROR has told the error.
            let error = match (self.waits, socket.local_addr()) {
                (true, Ok(any)) => socket.connect(Some(any)).err(),
                _ => socket_error(socket),
            };
            self.fail(error.unwrap_or(Error::ConnRefused));
            // The filler stays unread: poll says IN, OUT, ERR and HUP of the descriptor, as of a refused TCP socket.
            self.doomed = !self.is_filled();
            if !self.doomed {
                self.leave();
            }
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
    /// peer has sent its FIN before, or a write or SO_ERROR has told the error.
    fn leave(&mut self) {
        if let Some(mut end) = self.end.take() {
            let ended = self.down_ended || self.broken.is_some() && self.error.is_none();
            self.told = !ended;
            if ended {
                end.quiet();
            }
        }
    }

    /// Whether the program closed the descriptor with data unread. A read says so once (ECONNRESET), but none follows
    /// the end of what the program sent.
    fn closed_unread(&self) -> bool {
        self.end.as_ref().is_some_and(|end| sys::option(end.fd().raw(), libc::SO_ERROR) == Ok(libc::ECONNRESET))
    }

    /// Whether the program has shut the descriptor down both ways, has it still, and closes it by a reset (SO_LINGER):
    /// for others the way that the connection ends does not depend on when the descriptor is closed.
    fn is_shut_alone(&self, socket: &Socket) -> bool {
        aborts_when_closed(socket) && self.end.as_ref().is_some_and(End::is_held)
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

    /// Whether the program has sent its filler, or will send no more of it.
    fn is_filled(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.ends || end.hung_up || end.unread() >= self.filler)
    }
}

/// Whether SO_LINGER is on with 0 seconds.
fn aborts_when_closed(socket: &Socket) -> bool {
    let mut linger = [0; 8];
    let got = socket.getsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &mut linger);
    got.is_ok() && linger[..4] != [0; 4] && linger[4..] == [0; 4]
}

/// SO_ERROR of the stack's socket.
fn socket_error(socket: &Socket) -> Option<Error> {
    let mut errno = [0; 4];
    socket.getsockopt(libc::SOL_SOCKET, libc::SO_ERROR, &mut errno).ok()?;
    Error::try_from_errno(i32::from_ne_bytes(errno))
}

#[cfg(test)]
mod tests;
