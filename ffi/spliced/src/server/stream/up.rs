//! From the program to the stack. Above: [`Stream::turn`].

use super::super::end::{End, Read};
use super::super::outlet::Outlet;
use super::{Stream, TURN, socket_error};
use crate::inband::Mark;
use crate::sys;
use std::io::IoSlice;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::msg::SendMsg;
use usersock::sock::pages::Pages;

impl Stream {
    /// Reads the filler away: the descriptor becomes writable.
    pub(super) fn discard(&mut self) -> sys::Result<()> {
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
    pub(super) fn send_up(
        &mut self,
        socket: &Socket,
        few: &mut [u8],
        outlet: &mut Option<Outlet<'_>>,
    ) -> sys::Result<bool> {
        let mut moved = 0;
        while self.filler == 0 && moved < TURN {
            let ready = self.ready_up(socket);
            if ready > 0 {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                match Outlet::send(outlet, ready, || socket.send_pages(&mut self.up, ready, flags)) {
                    Ok(_) => {}
                    Err(Error::Again) if self.makes_room(socket) => {}
                    Err(Error::Again) => return self.full(),
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
                        if !self.makes_room(socket) {
                            return self.full();
                        }
                    }
                    Err(e) => return self.send_failed(socket, e),
                },
                None => {}
            }
            if self.up_ended && !self.up_shut {
                self.up_shut = true;
                // Of a descriptor that the program has closed the socket is closed, by a reset perhaps (SO_LINGER).
                if !self.end.as_mut().is_some_and(End::has_hung_up) {
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

    /// Where the program has closed the descriptor, the stack takes what was written before, however much that is: less
    /// than a descriptor holds. The socket can be closed then, and it is an orphan with all bounds that those have. Of
    /// a peer that takes nothing the server would otherwise keep the connection for ever. Whether there is more room
    /// now than there was; once.
    fn makes_room(&mut self, socket: &Socket) -> bool {
        const SO_SNDBUFFORCE: i32 = 32;
        let now = self.hung_up() && !self.unbounded;
        self.unbounded |= now;
        if now {
            let _ = socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &u32::MAX.to_ne_bytes());
        }
        now && socket.setsockopt(libc::SOL_SOCKET, SO_SNDBUFFORCE, &i32::MAX.to_ne_bytes()).is_ok()
    }

    /// The stack takes no more now. Of what a program has left behind it would take all, but for want of memory
    /// (tcp_mem): the connection is then reset, as an orphan is (tcp_check_oom).
    fn full(&self) -> sys::Result<bool> {
        if self.unbounded { Err(Error::ConnReset) } else { Ok(false) }
    }

    /// How many of the bytes in pages to send now. In bulk all that fill packets: the next read mostly finds more, and
    /// if it finds nothing the others follow.
    pub(super) fn ready_up(&self, socket: &Socket) -> usize {
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

    /// The stack takes no more: why is noted, and what the program sends is discarded. What came before the failure is
    /// still to be read.
    fn send_failed(&mut self, socket: &Socket, error: Error) -> sys::Result<bool> {
        // EPIPE says less than the error before it, and by itself is what writes say alone, not SO_ERROR. Any other
        // error is the socket's, which the send has taken.
        let noted = self.late.take().or_else(|| socket_error(socket)).or((error != Error::Pipe).then_some(error));
        if let Some(noted) = noted {
            self.fail(noted);
        }
        if self.down_ended {
            return Err(noted.unwrap_or(error));
        }
        (self.up, self.mark) = (Pages::default(), None);
        (self.up_ended, self.up_shut) = (true, true);
        self.broken = Some(noted.unwrap_or(error));
        Ok(false)
    }
}

/// Bytes of the largest super-packet: as many segments as 64 KiB have with the largest header (tcp_xmit_size_goal).
pub(super) fn largest_packet(socket: &Socket) -> Option<usize> {
    const ROOM: usize = 65_215;
    let mut mss = [0; 4];
    socket.getsockopt(libc::IPPROTO_TCP, libc::TCP_MAXSEG, &mut mss).ok()?;
    let mss = usize::try_from(i32::from_ne_bytes(mss)).ok().filter(|mss| *mss > 0)?;
    Some((ROOM / mss).max(1) * mss)
}

pub(super) fn send(socket: &Socket, bytes: &[u8], flags: i32) -> sys::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let slices = [IoSlice::new(bytes)];
    socket.sendmsg(&mut SendMsg::new(&slices, flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
}
