//! From the stack to the program: at once, or together with the bytes of other connections (staged). Above:
//! [`Stream::turn`], the server's `send_staged`.

use super::super::end::End;
use super::{Stream, TURN, socket_error};
use crate::sys::{self, SIOCATMARK};
use std::io::IoSliceMut;
use std::os::fd::RawFd;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::msg::RecvMsg;
use usersock::sock::pages::Pages;
use usersock::sock::wait::Events;

/// Most bytes that one receive from the stack takes.
const CHUNK: usize = 256 << 10;
/// Most bytes that wait to be sent to the program with those of others.
pub(super) const STAGED: usize = 4 << 10;

impl Stream {
    /// The descriptor and the bytes, if they wait to be sent with those of others.
    pub(in crate::server) fn staged(&self) -> Option<(RawFd, &[u8])> {
        let end = self.end.as_ref().filter(|_| self.staged)?;
        Some((end.fd().raw(), self.down.first()))
    }

    /// Notes how the kernel answered for them; None: they were not sent. Whether that was all there is to do.
    pub(in crate::server) fn sent(&mut self, answer: Option<sys::Result<usize>>) -> bool {
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

    /// From the stack to the program.
    pub(super) fn send_down(&mut self, socket: &Socket, mut stages: bool) -> sys::Result<bool> {
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
                    Ok(None) if self.broken.is_some() => return self.failure_is_next(),
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

    /// The program has got all that came before the failure that a send has told. EPIPE is that of a reset after the
    /// peer's FIN (tcp_reset), which the program reads first, and last.
    fn failure_is_next(&mut self) -> sys::Result<bool> {
        self.down_ended = self.broken == Some(Error::Pipe);
        Err(Error::Pipe)
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
