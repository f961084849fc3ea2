//! What programs ask for.

use super::opening::route;
use super::owner::Owner;
use super::{ACCEPTED, Conn, Role, Server};
use crate::client::TCP_AO_GET_KEYS;
use crate::rpc::{AGAIN, Answer, Call, MAX_VALUE, NEW, Request};
use crate::server::stream::Stream;
use crate::sys::{self, Result};
use std::sync::Arc;
use usersock::error::Error;
use usersock::internal::sock::{AF_INET, AF_INET6};
use usersock::internal::tcp::set_listener_owner;
use usersock::net::Socket;
use usersock::sock::proto::SockRef;
use usersock_ffi::ptr;

impl Server {
    /// Does what a program asks for. Never waits. `room` is for the bytes of the answer.
    pub(super) fn request<'a>(&mut self, call: &Call<'_>, room: &'a mut [u8; MAX_VALUE]) -> Result<Answer<'a>> {
        let id = call.id;
        if matches!(call.request, Request::Connect(..) | Request::Shutdown) {
            // The end of the attempt before, and what has become of it.
            self.accept_data();
            self.catch_up(id);
        }
        let value = |value| Ok(Answer { value, bytes: &[] });
        if let Request::Listen(_, true) = call.request {
            let failed = |c: &Conn| matches!(&c.role, Role::Stream(stream) if stream.may_listen());
            return if self.conns.get(&id).is_some_and(failed) { value(AGAIN) } else { Err(Error::Inval) };
        }
        self.make(id, call.family)?;
        match call.request {
            Request::Bind(addr) => self.bind(id, addr).and_then(|()| value(0)),
            Request::Listen(backlog, _) => self.listen(id, backlog).and_then(|()| value(0)),
            Request::Connect(addr, waits, has_peer) => self.connect(id, addr, waits, has_peer).and_then(value),
            Request::LocalAddr => {
                let addr = self.conn(id)?.socket.local_addr()?;
                Ok(put(0, &ptr::sockaddr_bytes(addr), room))
            }
            Request::PeerAddr => {
                let addr = self.conn(id)?.socket.peer_addr()?;
                Ok(put(0, &ptr::sockaddr_bytes(addr), room))
            }
            Request::SetOption(level, name, bytes) => {
                self.catch_up(id);
                let socket = &self.conn(id)?.socket;
                socket.setsockopt(level, name, bytes)?;
                let mut mark = [0; 4];
                if (level, name) == (libc::SOL_SOCKET, libc::SO_RCVLOWAT) {
                    // The descriptor is to have it; what is below it goes there, too.
                    socket.getsockopt(level, name, &mut mark)?;
                    socket.setsockopt(level, name, &1i32.to_ne_bytes())?;
                }
                self.look(id);
                value(i32::from_ne_bytes(mark))
            }
            Request::GetOption(level, name, len, asked) => {
                self.catch_up(id);
                let room = &mut room[..MAX_VALUE.min(len as usize)];
                let n = asked.len().min(room.len());
                room[..n].copy_from_slice(&asked[..n]);
                self.option(id, level, name, room)
            }
            Request::Shutdown => self.stop(id).and_then(|()| value(0)),
            Request::Ioctl(request) => {
                let conn = self.conn(id)?;
                let queued = conn.socket.ioctl(request)?;
                let held = match &conn.role {
                    Role::Stream(stream) => stream.unsent(),
                    _ => 0,
                };
                value(queued.saturating_add(held as i32))
            }
        }
    }

    /// Takes what the program has written before it asked, options among it: epoll may tell of both in any order.
    fn catch_up(&mut self, id: u64) {
        if let Some(Conn { role: Role::Stream(stream), .. }) = self.conns.get_mut(&id) {
            stream.epoll(libc::EPOLLIN as u32);
            self.look(id);
        }
    }

    fn conn(&mut self, id: u64) -> Result<&mut Conn> {
        self.conns.get_mut(&id).ok_or(Error::NotConn)
    }

    /// The socket of a program's descriptor, made at its first request.
    fn make(&mut self, id: u64, family: u16) -> Result<()> {
        if self.conns.contains_key(&id) {
            return Ok(());
        }
        // An accepted connection that has ended.
        if id & ACCEPTED != 0 {
            return Err(Error::NotConn);
        }
        if !matches!(family, AF_INET | AF_INET6) || super::kind(id) != 0 {
            return Err(Error::AfNoSupport);
        }
        let socket = Socket::new(&self.stack, family.into(), libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
        let conn = Conn::new(id, family, socket, Role::Plain, &self.ready);
        self.insert(id, conn);
        Ok(())
    }

    fn bind(&mut self, id: u64, addr: &[u8]) -> Result<()> {
        let conn = self.conn(id)?;
        // SAFETY: the pointer and length are a slice's.
        let addr = unsafe { ptr::bind_name(&conn.socket, addr.as_ptr().cast(), addr.len() as u32) }?;
        match conn.socket.bind(addr) {
            // By a socket perhaps whose descriptor is gone.
            Err(Error::AddrInUse) => {
                self.make_room();
                self.conn(id)?.socket.bind(addr)
            }
            r => r,
        }
    }

    /// A port is taken, perhaps by sockets whose descriptors are gone already: those that wait to be accepted at a
    /// listener that was shut down, which the kernel has told the server's ends, and those without an end.
    fn make_room(&mut self) {
        let ended = |conn: &Conn| match &conn.role {
            Role::Stream(stream) if stream.waits_at().is_some() => {
                stream.end().is_some_and(|e| sys::hung_up(e.fd().raw()))
            }
            _ => false,
        };
        let ended: Vec<u64> = self.conns.iter().filter(|(_, conn)| ended(conn)).map(|(id, _)| *id).collect();
        for id in ended {
            self.handle(id, (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
        }
        self.sweep(true);
    }

    fn listen(&mut self, id: u64, backlog: i32) -> Result<()> {
        let conn = self.conn(id)?;
        let listened = match conn.socket.listen(backlog) {
            Err(Error::AddrInUse) => {
                self.make_room();
                self.conn(id)?.socket.listen(backlog)
            }
            r => r,
        };
        listened?;
        let (stack, names) = (&self.stack, self.names.clone());
        let Some(conn) = self.conns.get_mut(&id) else { return Err(Error::NotConn) };
        let owner = Owner { id, family: conn.family, names, signal: conn.signal.clone() };
        set_listener_owner(SockRef { stack, sock: conn.socket.sock() }, Arc::new(owner))?;
        if !matches!(conn.role, Role::Listener(_)) {
            conn.role = Role::Listener(None);
        }
        Ok(())
    }

    /// shutdown(2) of a listener, which may listen again, or of an attempt to connect, which fails with ECONNRESET. Of
    /// any other ENOTCONN.
    fn stop(&mut self, id: u64) -> Result<()> {
        let conn = self.conn(id)?;
        match &mut conn.role {
            Role::Stream(stream) if stream.is_connecting() => {
                conn.socket.shutdown(libc::SHUT_RDWR)?;
                // The stack's socket could begin another attempt now; a call that waits asks by SO_ERROR.
                stream.waits(false);
                self.look(id);
                return Ok(());
            }
            Role::Listener(_) => conn.socket.shutdown(libc::SHUT_RD)?,
            _ => return Err(Error::NotConn),
        }
        if let Role::Listener(Some(waiting)) = std::mem::replace(&mut conn.role, Role::Plain) {
            waiting.forsake();
        }
        Ok(())
    }

    /// Begins; what the program is to do about the descriptor: nothing (0), or rpc's values.
    fn connect(&mut self, id: u64, addr: &[u8], waits: bool, has_peer: bool) -> Result<i32> {
        if matches!(self.conn(id)?.role, Role::Plain) && self.is_scarce() {
            return Err(Error::NoBufs);
        }
        let conn = self.conn(id)?;
        // SAFETY: the pointer and length are a slice's.
        let addr = unsafe { ptr::connect_name(&conn.socket, addr.as_ptr().cast(), addr.len() as u32) }?;
        let unspecified = addr == Ok(None);
        if has_peer && matches!(conn.role, Role::Plain) {
            // Both ends had sent their FIN, and the connection was forgotten.
            return if unspecified { Ok(AGAIN) } else { Err(Error::IsConn) };
        }
        // A connection that waits for the first bytes would never be there: the program writes when it is.
        let _ = conn.socket.setsockopt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, &0i32.to_ne_bytes());
        match conn.socket.connect_to(addr) {
            Ok(()) if unspecified => {
                match std::mem::replace(&mut conn.role, Role::Plain) {
                    Role::Listener(waiting) => {
                        if let Some(waiting) = waiting {
                            waiting.forsake();
                        }
                    }
                    // The program may connect again at once.
                    mut other => {
                        if let Role::Stream(stream) = &mut other {
                            stream.dissolve();
                        }
                        conn.role = other;
                        self.look(id);
                    }
                }
                return Ok(0);
            }
            Ok(()) | Err(Error::InProgress) => {}
            // There was a connection, whatever has become of it.
            Err(Error::IsConn) => return Err(Error::IsConn),
            // Of the attempt that failed before, if nobody was told.
            Err(e) => match &mut conn.role {
                Role::Stream(stream) if e == Error::ConnAborted => {
                    return Err(stream.take_error().map_or(e, |(error, _)| error));
                }
                _ => return Err(e),
            },
        }
        let how = match &mut conn.role {
            Role::Stream(stream) if stream.has_failed() => AGAIN,
            Role::Stream(stream) => {
                stream.waits(waits);
                return Ok(0);
            }
            Role::Listener(_) => return Ok(0),
            Role::Plain => NEW,
        };
        let to = addr.ok().flatten();
        let attempt = conn.socket.local_addr().ok().zip(to).map(|(local, to)| route(local, to));
        conn.role = Role::Stream(Box::new(Stream::connecting(waits, attempt)));
        attempt.inspect(|route| self.opening.begin(*route, self.stack.now()));
        self.sweep_later();
        Ok(how)
    }

    fn option<'a>(&mut self, id: u64, level: i32, name: i32, room: &'a mut [u8]) -> Result<Answer<'a>> {
        let conn = self.conn(id)?;
        let noted = match &mut conn.role {
            Role::Stream(stream) if (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) => stream.take_error(),
            _ => None,
        };
        if let Some((error, told)) = noted {
            return Ok(put(told.into(), &error.errno().to_ne_bytes(), room));
        }
        let n = conn.socket.getsockopt(level, name, room)?;
        if (level, name) == (libc::IPPROTO_TCP, TCP_AO_GET_KEYS) {
            // The length of one, of the array that the question was.
            return Ok(Answer { value: n as i32, bytes: room });
        }
        Ok(Answer { value: 0, bytes: &room[..n] })
    }
}

/// An answer with these bytes, as far as there is room.
fn put<'a>(value: i32, bytes: &[u8], room: &'a mut [u8]) -> Answer<'a> {
    let n = bytes.len().min(room.len());
    room[..n].copy_from_slice(&bytes[..n]);
    Answer { value, bytes: &room[..n] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Instance;
    use crate::name::Name;
    use crate::rpc::{MAX_MESSAGE, decode_answer};
    use crate::sys::Owned;
    use std::net::Ipv4Addr;
    use std::os::fd::RawFd;
    use std::sync::Arc;
    use usersock::config::Config;
    use usersock::driver::EventLoop;

    /// The descriptors that are left count when a request is answered, not when its line came or another's did.
    #[test]
    fn a_late_request_finds_the_descriptors_that_are_left_then() {
        let stack = Config::parse("").unwrap().build().unwrap();
        let (driver, instance) = (Arc::new(EventLoop::new().unwrap()), Instance::new(sys::random().unwrap()));
        let mut server = Server::new(stack, driver, instance, false).unwrap();
        let line = |server: &mut Server| {
            let line = sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).unwrap();
            sys::connect(line.raw(), &Name::Requests.encode(&instance)).unwrap();
            server.accept_lines();
            line
        };
        let family = libc::AF_INET as u16;
        let to = ptr::sockaddr_bytes((Ipv4Addr::LOCALHOST, 1).into());
        let asks = |server: &mut Server, line: &Owned, id| {
            let request = Request::Connect(&to, false, false);
            sys::send(line.raw(), Call { id, family, request }.encode(&instance).bytes(), 0).unwrap();
            server.answer_line(server.lines.front().unwrap().raw());
            let mut answer = [0; MAX_MESSAGE];
            let n = sys::recv(line.raw(), &mut answer, libc::MSG_DONTWAIT).unwrap();
            decode_answer(&answer[..n]).map(|answer| answer.value)
        };
        let (all, none) = (RawFd::MAX, 0);
        for (when_it_came, when_it_asks, answer) in [(all, none, Err(Error::NoBufs)), (none, all, Ok(NEW))] {
            server.reserved = when_it_came;
            let late = line(&mut server);
            server.reserved = when_it_asks;
            assert_eq!(asks(&mut server, &late, 7), answer);
            assert_eq!(server.lines.len(), 0);
        }
    }
}
