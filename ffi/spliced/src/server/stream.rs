//! A connection: bytes between the program's descriptor, of which the server has the other end, and the stack's socket.

use super::end::{End, Read};
use super::known::Passing;
use super::outlet::Outlet;
use crate::client::{FILLER, SIOCATMARK};
use crate::inband::Mark;
use crate::instance::{GREETING, Instance};
use crate::sys::{self, Owned};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::pages::Pages;
use usersock::sock::wait::Events;

/// Most bytes each way before others have their turn.
const TURN: usize = 1 << 20;
/// Most bytes that one receive from the stack takes.
const CHUNK: usize = 256 << 10;
/// Most bytes that wait to be sent to the program with those of others.
const STAGED: usize = 4 << 10;

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
    /// What the shim's accept sends before the program can send anything, so that there is a byte to leave unread.
    greeting: Option<[u8; GREETING]>,
    /// Bytes of the program that the stack has not taken.
    up: Pages,
    /// What the program did behind the bytes of `up`.
    mark: Option<Mark>,
    /// Its end has been read.
    up_ended: bool,
    /// And the stack knows.
    up_shut: bool,
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
            doomed: false,
            waits: false,
            filler: 0,
            greeting: None,
            up: Pages::default(),
            mark: None,
            up_ended: false,
            up_shut: false,
            down: Pages::default(),
            urgent: None,
            staged: false,
            refused: None,
            late: None,
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
        let end = End::new(fd).ok().filter(|_| self.end.is_none())?;
        Some(self.end.insert(end))
    }

    /// Why it failed is to be told yet.
    pub(super) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// The handshake is not over.
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
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

    /// The descriptor and the bytes, if they wait to be sent with those of others.
    pub(super) fn staged(&self) -> Option<(RawFd, &[u8])> {
        let end = self.end.as_ref().filter(|_| self.staged)?;
        Some((end.fd().raw(), self.down.first()))
    }

    /// Notes how the kernel answered for them; None: they were not sent. Whether that was all there is to do.
    pub(super) fn sent(&mut self, answer: Option<sys::Result<usize>>) -> bool {
        self.staged = false;
        match answer {
            Some(Ok(n)) => self.down.advance(n),
            // For want of room: the next write says so again.
            None | Some(Err(Error::Again)) => {}
            // The kernel may say it once.
            Some(Err(e)) => self.refused = Some(e),
        }
        self.down.is_empty()
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
            Ok(up | self.send_down(socket, stages)?)
        });
        match moved {
            Err(Error::ConnReset) if self.error.is_none() => Fate::Reset,
            Err(_) => {
                self.leave();
                Fate::Waits
            }
            Ok(_) if self.hung_up() && self.up_ended && self.up.is_empty() => {
                match self.down.is_empty() && self.urgent.is_none() {
                    true => {
                        // The program has closed the descriptor, or has it still, with both directions at their ends.
                        self.down_ended = true;
                        self.leave();
                        Fate::Closed
                    }
                    false => Fate::Reset,
                }
            }
            Ok(true) => Fate::Again,
            Ok(false) => Fate::Waits,
        }
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

    /// Whether the program has sent its filler, or will send no more of it.
    fn is_filled(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.ends || end.hung_up || end.unread() >= self.filler)
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
    fn send_up(&mut self, socket: &Socket, few: &mut [u8], outlet: &mut Option<Outlet<'_>>) -> sys::Result<bool> {
        let mut moved = 0;
        while self.filler == 0 && moved < TURN {
            let ready = self.ready_up(socket);
            if ready > 0 {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                match Outlet::send(outlet, ready, || socket.send_pages(&mut self.up, ready, flags)) {
                    Ok(_) => {}
                    Err(Error::Again) => return Ok(false),
                    Err(e) => return self.send_failed(socket, e),
                }
                continue;
            }
            match self.mark.take() {
                Some(Mark::Option(name, value)) => {
                    // It cannot fail.
                    let _ = socket.setsockopt(libc::IPPROTO_TCP, name, &value.to_ne_bytes());
                }
                Some(Mark::Urgent(byte)) => match send(socket, &[byte], libc::MSG_OOB) {
                    Ok(_) => {}
                    Err(Error::Again) => {
                        self.mark = Some(Mark::Urgent(byte));
                        return Ok(false);
                    }
                    Err(e) => return self.send_failed(socket, e),
                },
                None => {}
            }
            if self.up_ended && !self.up_shut {
                self.up_shut = true;
                if !self.hung_up() {
                    // ENOTCONN: the connection has ended meanwhile, which the other direction tells.
                    let _ = socket.shutdown(libc::SHUT_WR);
                }
            }
            let Some(end) = self.end.as_mut().filter(|end| end.readable() && !self.up_ended) else { return Ok(false) };
            match end.read(few, &mut self.up) {
                Ok(Read { len: 0, .. }) => self.up_ended = true,
                Ok(Read { len, few: n, mark }) => {
                    self.mark = mark;
                    moved += len;
                    let bytes = self.greeted(&few[..n]);
                    // What is in pages comes before.
                    let sent = match self.up.is_empty() {
                        true => send(socket, bytes, 0),
                        false => Ok(0),
                    };
                    match sent {
                        Ok(sent) => self.up.put(&bytes[sent..]),
                        Err(Error::Again) => self.up.put(bytes),
                        Err(e) => return self.send_failed(socket, e),
                    }
                }
                Err(Error::Again) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(moved >= TURN)
    }

    /// How many of the bytes in pages to send now. In bulk all that fill packets: the next read mostly finds more, and
    /// if it finds nothing the others follow.
    fn ready_up(&self, socket: &Socket) -> usize {
        let len = self.up.len();
        let more = self.mark.is_none() && !self.up_ended && self.end.as_ref().is_some_and(End::readable);
        if len == 0 || !more {
            return len;
        }
        len - len % largest_packet(socket).unwrap_or(len)
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
        // EPIPE says less than the error before it, and by itself is what writes say alone, not SO_ERROR.
        let noted = self.late.take().or_else(|| socket_error(socket));
        Err(noted.map_or(error, |noted| self.fail(noted)))
    }

    /// From the stack to the program.
    fn send_down(&mut self, socket: &Socket, mut stages: bool) -> sys::Result<bool> {
        let mut moved = 0;
        self.staged = false;
        // No read tells of a reset that comes after the peer's FIN.
        if self.down_ended
            && socket.poll().intersects(Events::ERR)
            && let Some(error) = socket_error(socket)
        {
            return Err(self.fail(error));
        }
        while !self.down_ended && moved < TURN {
            let Some(end) = self.end.as_mut().filter(|end| end.writable()) else { return Ok(false) };
            stages = stages && self.down.first().len() == self.down.len() && self.down.len() <= STAGED;
            if !self.down.is_empty() && !stages {
                let written = match self.refused.take() {
                    Some(e) => Err(e),
                    None => end.write(&self.down.slices(), self.down.len()),
                };
                match written {
                    Ok(n) => self.down.advance(n),
                    Err(e) => return self.receiver_gone(e),
                }
                continue;
            }
            if self.down.is_empty()
                && let Some(byte) = self.urgent
            {
                match end.write_urgent(byte) {
                    Ok(0) => return Ok(false),
                    Ok(_) => self.urgent = None,
                    // Before Linux 5.15, and where the kernel was built without: a byte as others.
                    Err(Error::OpNotSupp) => {
                        self.down.put(&[byte]);
                        (self.urgent, stages) = (None, false);
                    }
                    Err(e) => return self.receiver_gone(e),
                }
                continue;
            }
            let received = match self.late.take() {
                Some(e) => Err(e),
                None => socket.recv_pages(&mut self.down, CHUNK, libc::MSG_DONTWAIT),
            };
            match received {
                Ok(n @ 1..) => moved += n,
                Err(Error::Again) => {
                    self.staged = !self.down.is_empty();
                    return Ok(false);
                }
                // The bytes come before the end, and before the error.
                Ok(_) if !self.down.is_empty() => stages = false,
                Err(e) if !self.down.is_empty() => (self.late, stages) = (Some(e), false),
                Ok(_) => match urgent_byte(socket) {
                    Ok(Some(byte)) => self.urgent = Some(byte),
                    Ok(None) => {
                        self.down_ended = true;
                        end.finish()?;
                    }
                    Err(Error::Again) => return Ok(false),
                    Err(e) => return Err(self.fail(e)),
                },
                Err(e) => return Err(self.fail(e)),
            }
        }
        Ok(moved >= TURN)
    }

    /// The program reads no more. After SHUT_RD what arrives is acknowledged and forgotten; after a close epoll says
    /// so, and the bytes that are left make it a reset.
    fn receiver_gone(&mut self, error: Error) -> sys::Result<bool> {
        match error {
            Error::Pipe if !self.end.as_mut().is_some_and(End::has_hung_up) => {
                (self.down, self.urgent) = (Pages::default(), None);
                Ok(true)
            }
            Error::Pipe => Ok(false),
            e => Err(e),
        }
    }
}

/// Bytes of the largest super-packet: as many segments as 64 KiB have with the largest header (tcp_xmit_size_goal).
fn largest_packet(socket: &Socket) -> Option<usize> {
    const ROOM: usize = 65_215;
    let mut mss = [0; 4];
    socket.getsockopt(libc::IPPROTO_TCP, libc::TCP_MAXSEG, &mut mss).ok()?;
    let mss = usize::try_from(i32::from_ne_bytes(mss)).ok().filter(|mss| *mss > 0)?;
    Some((ROOM / mss).max(1) * mss)
}

/// SO_ERROR of the stack's socket.
fn socket_error(socket: &Socket) -> Option<Error> {
    let mut errno = [0; 4];
    socket.getsockopt(libc::SOL_SOCKET, libc::SO_ERROR, &mut errno).ok()?;
    Error::try_from_errno(i32::from_ne_bytes(errno))
}

fn send(socket: &Socket, bytes: &[u8], flags: i32) -> sys::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let slices = [IoSlice::new(bytes)];
    socket.sendmsg(&mut SendMsg::new(&slices, flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
}

/// The byte at which a receive ended, if that is urgent. None: it was the stream's end, which a peer may have called
/// urgent.
fn urgent_byte(socket: &Socket) -> sys::Result<Option<u8>> {
    if socket.ioctl(SIOCATMARK) != Ok(1) {
        return Ok(None);
    }
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let n = socket.recvmsg(&mut RecvMsg::new(&mut slices, libc::MSG_DONTWAIT))?;
    Ok((n > 0).then_some(byte[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;
    use usersock::config::Config;
    use usersock::net::{TcpListener, TcpStream};

    /// A stream with an end, the program's descriptor, and the connection with its peer.
    fn established() -> (Stream, UnixStream, TcpStream, TcpStream) {
        let stack = Config::parse("").unwrap().build().unwrap();
        let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
        let c = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let (program, server) = UnixStream::pair().unwrap();
        let mut stream = Stream::idle();
        stream.attach(Owned::new(server.into_raw_fd())).unwrap();
        (stream, program, c, peer)
    }

    /// As the loop does, with the answer of a ring.
    fn send(stream: &mut Stream) -> Option<sys::Result<usize>> {
        let (fd, bytes) = stream.staged()?;
        let sent = sys::send(fd, bytes, libc::MSG_DONTWAIT);
        Some(sent)
    }

    #[test]
    fn bytes_that_are_staged_come_in_order_and_before_the_end() {
        use std::io::{Read, Write};
        let (mut stream, mut program, c, mut peer) = established();
        let few = &mut [0; crate::server::end::LOOK];
        peer.write_all(b"one").unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert_eq!(stream.staged().map(|(_, bytes)| bytes), Some(&b"one"[..]));
        // More comes before they are sent.
        peer.write_all(b" two").unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert_eq!(stream.staged().map(|(_, bytes)| bytes), Some(&b"one two"[..]));
        let answer = send(&mut stream);
        assert!(stream.sent(answer) && stream.staged().is_none());
        // Nothing was sent: the next turn does.
        peer.write_all(b" three").unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert!(stream.staged().is_some() && !stream.sent(None));
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
        assert!(stream.staged().is_none() && stream.down.is_empty());
        // Much is not for staging, nor what the end follows.
        peer.write_all(&[b'.'; STAGED + 1]).unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert!(stream.staged().is_none());
        peer.write_all(b"end").unwrap();
        drop(peer);
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert!(stream.staged().is_none() && stream.down_ended);
        let mut got = Vec::new();
        program.read_to_end(&mut got).unwrap();
        assert!(got == [&b"one two three"[..], &[b'.'; STAGED + 1], b"end"].concat());
    }

    #[test]
    fn the_answer_to_staged_bytes_is_as_that_of_a_write() {
        use std::io::Write;
        let few = &mut [0; crate::server::end::LOOK];
        // The program closes with something unread, which the kernel tells once.
        let (mut stream, program, c, mut peer) = established();
        let (fd, _) = stream.end().map(|end| (end.fd().raw(), ())).unwrap();
        sys::send(fd, b"unread", 0).unwrap();
        peer.write_all(b"late").unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        drop(program);
        let answer = send(&mut stream);
        assert!(matches!(answer, Some(Err(_))) && !stream.sent(answer));
        stream.epoll((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Reset);
        // An error of the connection waits until the bytes before it are with the program.
        let (mut stream, program, c, mut peer) = established();
        peer.write_all(b"last").unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
        peer.socket().setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
        drop(peer);
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert_eq!((stream.take_error(), stream.end().is_some()), (Some((Error::ConnReset, true)), false));
        let mut four = [0; 4];
        std::io::Read::read_exact(&mut &program, &mut four).unwrap();
        assert_eq!(&four, b"last");
    }

    /// Each as the program reads it: what is urgent in brackets.
    fn all_of(program: &UnixStream) -> String {
        let (fd, mut all) = (std::os::fd::AsRawFd::as_raw_fd(program), String::new());
        loop {
            let mut byte = [0];
            if let Ok(1) = sys::recv(fd, &mut byte, libc::MSG_OOB | libc::MSG_DONTWAIT) {
                all.push_str(&format!("[{}]", char::from(byte[0])));
            }
            match sys::recv(fd, &mut byte, libc::MSG_DONTWAIT) {
                Ok(1) => all.push(byte[0].into()),
                Ok(_) => return all + ".",
                Err(_) => return all,
            }
        }
    }

    #[test]
    fn what_a_peer_says_is_urgent_comes_once_and_the_end_behind_it() {
        use std::io::Write;
        let urgent = |peer: &TcpStream, bytes: &[u8]| super::send(peer.socket(), bytes, libc::MSG_OOB).unwrap();
        let few = &mut [0; crate::server::end::LOOK];
        let (mut stream, program, c, mut peer) = established();
        // As every socket of the server's.
        c.socket().setsockopt(libc::SOL_SOCKET, libc::SO_OOBINLINE, &1i32.to_ne_bytes()).unwrap();
        for (sent, got) in [(&b"abU"[..], "[U]ab"), (b"V", "[V]"), (b"W", "[W]")] {
            urgent(&peer, sent);
            assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
            assert_eq!(all_of(&program), got);
        }
        // In line an urgent byte is one of the stream, also the first of several that the server finds.
        sys::set_option(std::os::fd::AsRawFd::as_raw_fd(&program), libc::SO_OOBINLINE, 1).unwrap();
        for sent in [&b"a"[..], b"b", b"c"] {
            urgent(&peer, sent);
        }
        peer.write_all(b"Z").unwrap();
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        stream.turn(c.socket(), few, &mut None, false);
        assert_eq!(all_of(&program), "abcZ");
        sys::set_option(std::os::fd::AsRawFd::as_raw_fd(&program), libc::SO_OOBINLINE, 0).unwrap();
        // A later one makes an earlier one a byte as others, and what follows is not urgent.
        urgent(&peer, b"aX");
        urgent(&peer, b"bY");
        peer.write_all(b"cd").unwrap();
        stream.turn(c.socket(), few, &mut None, true);
        stream.turn(c.socket(), few, &mut None, false);
        assert_eq!(all_of(&program), "[Y]aXbcd");
        // By RFC 793 the pointer is at the byte behind it, where the peer's end is.
        c.socket().stack().sysctl.set("net.ipv4.tcp_stdurg", "1").unwrap();
        urgent(&peer, b"Z");
        drop(peer);
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
        assert!(stream.down_ended);
        assert_eq!(all_of(&program), "Z.");
    }

    /// Whichever is noticed first, the bytes or the close.
    #[test]
    fn bytes_that_come_while_the_program_closes_make_it_a_reset() {
        use std::io::Write;
        let closed = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32;
        for told_first in [true, false] {
            let (mut stream, program, c, mut peer) = established();
            peer.write_all(b"too late").unwrap();
            drop(program);
            let few = &mut [0; crate::server::end::LOOK];
            if !told_first {
                assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
            }
            stream.epoll(closed);
            assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Reset, "{told_first}");
        }
    }

    #[test]
    fn what_comes_after_the_program_shut_down_reading_is_forgotten() {
        use std::io::Write;
        let (mut stream, program, c, mut peer) = established();
        program.shutdown(std::net::Shutdown::Read).unwrap();
        peer.write_all(b"unread").unwrap();
        let few = &mut [0; crate::server::end::LOOK];
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Again);
        assert!(stream.down.is_empty());
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
        // It may write still, and closes without a reset.
        stream.epoll((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
        drop(program);
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Closed);
    }

    /// Whenever the refusal comes: before the descriptor's other end, before its filler, in the middle of it, after it.
    #[test]
    fn a_refused_descriptor_says_so_after_its_whole_filler() {
        use std::io::{Read, Write};
        let stack = Config::parse("").unwrap().build().unwrap();
        let closed = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let few = &mut [0; crate::server::end::LOOK];
        for before in [None, Some(0), Some(1), Some(FILLER - 1), Some(FILLER)] {
            let socket = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            socket.set_nonblocking(true);
            let mut stream = Stream::connecting(false);
            let (mut program, server) = UnixStream::pair().unwrap();
            let mut server = Some(Owned::new(server.into_raw_fd()));
            if let Some(n) = before {
                stream.attach(server.take().unwrap()).unwrap();
                program.write_all(&[0; FILLER][..n]).unwrap();
            }
            assert_eq!(socket.connect(Some(closed)), Err(Error::InProgress));
            stack.run_pending();
            assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
            assert!(!stream.is_connecting());
            if let Some(server) = server {
                stream.attach(server).unwrap();
                assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
            }
            let mut missing = FILLER - before.unwrap_or(0);
            while missing > 0 {
                assert!(stream.end().is_some() && !stream.has_failed(), "its program has not filled it yet");
                let n = missing.min(FILLER / 2);
                program.write_all(&[0; FILLER][..n]).unwrap();
                missing -= n;
                stream.epoll(libc::EPOLLIN as u32);
                assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
            }
            assert!(stream.has_failed());
            assert_eq!(stream.take_error(), Some((Error::ConnRefused, true)));
            let error = program.read(&mut [0]).map_err(|e| e.kind());
            assert_eq!(error, Err(std::io::ErrorKind::ConnectionReset), "{before:?}");
        }
    }

    #[test]
    fn in_bulk_packets_are_full_until_no_more_comes() {
        let stack = Config::parse("").unwrap().build().unwrap();
        let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
        let c = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
        let (_program, server) = UnixStream::pair().unwrap();
        let mut stream = Stream::idle();
        stream.attach(Owned::new(server.into_raw_fd())).unwrap();
        let packet = largest_packet(c.socket()).unwrap();
        assert!((16 << 10..=64 << 10).contains(&packet), "{packet}");
        for (len, ready) in [(0, 0), (10, 0), (packet, packet), (2 * packet + 10, 2 * packet)] {
            stream.up = Pages::default();
            stream.up.put(&vec![7; len]);
            stream.epoll(libc::EPOLLIN as u32);
            assert_eq!(stream.ready_up(c.socket()), ready, "{len}");
            stream.up_ended = true;
            assert_eq!(stream.ready_up(c.socket()), len, "its end was read");
            stream.up_ended = false;
            // The descriptor is empty.
            let end = stream.end.as_mut().unwrap();
            end.read(&mut [0; crate::server::end::LOOK], &mut Pages::default()).unwrap_err();
            assert_eq!(stream.ready_up(c.socket()), len, "nothing more comes");
        }
    }
}
