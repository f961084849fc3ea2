//! The socket layer: a socket, its calls, and the state checks before each call. Above: `ffi` and the Rust API (`net`).
//! Below: the protocols, only through the table `Proto`. Linux: net/socket.c, net/ipv4/af_inet.c, net/ipv6/af_inet6.c.
//! The file `connect` has connect(2) and its wait.

mod connect;

use crate::base::contain::contain;
use crate::base::env::Duration;
use crate::base::error::{Error, Result};
use crate::ip::kind::name_of;
use crate::sock::addr::{AF_INET, AF_INET6, to_family, unmap, unspecified};
use crate::sock::connect::SocketState;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::orphan::PutAfter;
use crate::sock::pages::Pages;
use crate::sock::proto::{RecvSeveral, SendSeveral, SockRef};
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{HANDLE, RCV_SHUTDOWN, SEND_SHUTDOWN, Sock, SockCommon, flag, more, sockopt};
use crate::stack::Stack;
use crate::sys::signal;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// A socket: a sock, its stack, and the state of the open file description (O_NONBLOCK). Dropping it closes it.
pub struct Socket {
    sock: Arc<Sock>,
    /// Behind `sock`, which may have been the last reference to an orphan.
    stack: PutAfter,
    nonblock: AtomicBool,
    idle_flags: AtomicI32,
    closed: AtomicBool,
    /// See [`Socket::of_stack`].
    of_stack: bool,
    /// Its protocol is a stream's.
    streams: bool,
}

const _: () = assert!(size_of::<Socket>() <= HANDLE);

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({:?}, {:?})", self.sock.proto(), self.sock.state())
    }
}

/// A sock of the protocol that socket(2) selects. Errors as [`Socket::new`]. Linux: inet_create, sock_create_kern.
pub fn create(stack: &Arc<Stack>, family: i32, ty: i32, protocol: i32) -> Result<Arc<Sock>> {
    let (proto_use, number) = stack.registry.find(family, ty, protocol)?;
    let sock = Sock::new(stack, family as u16, ty as u16, number as u16, proto_use);
    let proto = sock.proto();
    {
        let mut g = sock.lock(stack);
        if ty == libc::SOCK_RAW {
            // A raw socket is "bound" to its protocol number (inet_create).
            g.common.sport = number as u16;
        }
        let bindv6only = stack.sysctl.bindv6only();
        g.common.set_flag(flag::V6ONLY, family == libc::AF_INET6 && bindv6only);
        proto.init(&mut g)?;
        if ty == libc::SOCK_RAW {
            proto.hash(&mut g)?;
        }
    }
    Ok(sock)
}

impl Socket {
    /// socket(2): `family` AF_INET or AF_INET6, `ty` SOCK_* without flag bits. Errors: EAFNOSUPPORT, ESOCKTNOSUPPORT,
    /// EPROTONOSUPPORT, EINVAL, and those of the protocol's `init`.
    pub fn new(stack: &Arc<Stack>, family: i32, ty: i32, protocol: i32) -> Result<Socket> {
        create(stack, family, ty, protocol).map(|sock| Socket::from_sock(stack, sock))
    }

    /// The calls of a sock that no program has, for a protocol that uses another one's (struct socket of
    /// sock_create_kern): none of them waits, the softirq work that they cause is left to the caller, who may own
    /// another sock, and dropping the value does not close the sock.
    pub fn of_stack(stack: &Arc<Stack>, sock: Arc<Sock>) -> Socket {
        let mut socket = Socket::from_sock(stack, sock);
        socket.stack.put_later();
        (socket.nonblock, socket.closed, socket.of_stack) = (true.into(), true.into(), true);
        socket
    }

    /// The sock, which stays open.
    pub fn into_sock(self) -> Arc<Sock> {
        self.closed.store(true, Ordering::Relaxed);
        self.sock.clone()
    }

    /// A socket around an existing sock: an accepted connection.
    pub(crate) fn from_sock(stack: &Arc<Stack>, sock: Arc<Sock>) -> Socket {
        Socket {
            stack: PutAfter::new(stack, &sock),
            streams: sock.proto().is_stream(),
            sock,
            nonblock: AtomicBool::new(false),
            idle_flags: AtomicI32::new(0),
            closed: AtomicBool::new(false),
            of_stack: false,
        }
    }

    /// The sock.
    pub fn sock(&self) -> &Arc<Sock> {
        &self.sock
    }
    /// The stack.
    pub fn stack(&self) -> &Arc<Stack> {
        &self.stack
    }
    fn sk(&self) -> SockRef<'_> {
        SockRef { stack: &self.stack, sock: &self.sock }
    }
    /// Whether O_NONBLOCK is set.
    pub fn nonblocking(&self) -> bool {
        self.nonblock.load(Ordering::Relaxed)
    }
    /// Sets O_NONBLOCK.
    pub fn set_nonblocking(&self, on: bool) {
        self.nonblock.store(on, Ordering::Relaxed);
        if self.sock.ty == libc::SOCK_DGRAM as u16 && !self.stack.is_inherited() {
            let mut g = self.sk().lock();
            g.common.more = g.common.more & !more::NONBLOCK | if on { more::NONBLOCK } else { 0 };
            drop(g);
            // The release may have run the backlog, which sends.
            self.stack.run_pending();
        }
    }

    /// Flags of the open file description that a socket only shows (O_APPEND).
    pub fn idle_flags(&self) -> i32 {
        self.idle_flags.load(Ordering::Relaxed)
    }
    /// See `idle_flags`.
    pub fn set_idle_flags(&self, flags: i32) {
        self.idle_flags.store(flags, Ordering::Relaxed);
    }
    /// Whether O_APPEND is set, which sendfile(2) and splice(2) refuse.
    pub fn appends(&self) -> bool {
        self.idle_flags() & libc::O_APPEND != 0
    }

    /// Fails if the sock can only be closed. EIO: a panic, or a plug-in that broke a rule of its interface, has broken
    /// the sock. ENETDOWN: the stack belongs to a parent of this process, or its simulation is over.
    #[inline]
    fn usable(&self) -> Result<()> {
        self.stack.here()?;
        if self.sock.is_broken() { Err(Error::Io) } else { Ok(()) }
    }

    /// Restarts a call that a signal interrupted before it did anything, where the kernel would: no timeout is set on
    /// the socket, and the handlers have SA_RESTART (sock_intr_errno).
    fn restarting<R>(
        &self,
        timeo: fn(&SockCommon) -> Option<Duration>,
        mut call: impl FnMut() -> Result<R>,
    ) -> Result<R> {
        loop {
            let r = call();
            if !matches!(r, Err(Error::Intr)) {
                return r;
            }
            let waits_for_ever = timeo(&self.sock.lock(&self.stack).common).is_none();
            if !(waits_for_ever && signal::restarts()) {
                return r;
            }
        }
    }

    /// Runs the softirq work that a call caused, then returns its result. Every call that has owned the sock ends so:
    /// releasing it may have run its backlog, which sends.
    #[inline]
    fn done<R>(&self, r: R) -> R {
        if !self.of_stack {
            self.stack.run_pending();
        }
        r
    }

    /// bind(2). Errors: EAFNOSUPPORT (address of another family), and those of the protocol (`ip::bind`).
    pub fn bind(&self, addr: SocketAddr) -> Result<()> {
        self.usable()?;
        if addr.is_ipv6() != (self.sock.family == AF_INET6) {
            return Err(Error::AfNoSupport);
        }
        let r = self.sock.proto().bind(&mut self.sock.lock(&self.stack), addr);
        self.done(r)
    }

    /// listen(2). Errors: EOPNOTSUPP (no connections in this protocol), EINVAL (connected), EADDRINUSE.
    pub fn listen(&self, backlog: i32) -> Result<()> {
        self.usable()?;
        let somaxconn = self.stack.sysctl.somaxconn().max(0) as u32;
        let backlog = (backlog as u32).min(somaxconn);
        if !self.sock.proto().is_stream() && self.sock.ty != libc::SOCK_SEQPACKET as u16 {
            return Err(Error::OpNotSupp);
        }
        let mut g = self.sock.lock(&self.stack);
        let unconnected = g.common.socket_state == SocketState::Unconnected;
        if !unconnected || !matches!(self.sock.state(), State::Close | State::Listen) {
            return Err(Error::Inval);
        }
        let r = self.sock.proto().listen(&mut g, backlog);
        drop(g);
        self.done(r)
    }

    /// accept(2): returns the connection and its peer, the address in this socket's family. The new socket does not
    /// inherit O_NONBLOCK. Errors: EINVAL (not listening), EAGAIN, EINTR, ECONNABORTED.
    pub fn accept(&self) -> Result<(Socket, SocketAddr)> {
        self.usable()?;
        let sock = self.restarting(|c| c.rcvtimeo.get(), || self.sock.proto().accept(self.sk(), self.nonblocking()));
        let sock = match sock {
            Ok(sock) => sock,
            Err(e) => return self.done(Err(e)),
        };
        let mut g = sock.lock(&self.stack);
        g.common.socket_state = SocketState::Connected;
        let peer = g.common.peer().unwrap_or(SocketAddr::new(unspecified(self.sock.family), 0));
        let name = g.common.shown_peer(to_family(peer, self.sock.family));
        drop(g);
        self.done(());
        Ok((Socket::from_sock(&self.stack, sock), name))
    }

    /// sendmsg(2). Errors by protocol; EPIPE: the caller raises SIGPIPE unless MSG_NOSIGNAL.
    pub fn sendmsg(&self, msg: &mut SendMsg<'_>) -> Result<usize> {
        self.done(self.sendmsg_queued(msg))
    }

    /// As `sendmsg`, but the softirq work that the message causes is left to the caller, who calls
    /// [`Stack::run_pending`] before it returns to the program: sendmmsg(2) runs it once for several messages.
    #[inline]
    pub fn sendmsg_queued(&self, msg: &mut SendMsg<'_>) -> Result<usize> {
        self.sock.prefetch_both();
        self.usable()?;
        if self.nonblocking() {
            msg.flags |= libc::MSG_DONTWAIT;
        }
        if self.sock.proto().contained() {
            // A plug-in does not see a message with memory that cannot be read; the stack's own protocols check as far
            // as they read.
            msg.readable()?;
            self.check_name(msg)?;
        }
        self.autobind()?;
        self.restarting(|c| c.sndtimeo.get(), || self.sock.proto().sendmsg(self.sk(), msg))
    }

    /// As `sendmsg_queued`, of several messages, which `all` is given the means to send. The first one of a call is not
    /// among them: a signal ends the others, and is no reason to restart the call, which has sent something.
    pub fn send_several(&self, all: &mut SendSeveral<'_>) {
        self.sock.prefetch_both();
        if let Err(e) = self.usable().and_then(|()| self.autobind()) {
            return all(&mut |_| Err(e));
        }
        let (contained, nonblocking) = (self.sock.proto().contained(), self.nonblocking());
        self.sock.proto().send_several(self.sk(), &mut |send| {
            all(&mut |msg| {
                if nonblocking {
                    msg.flags |= libc::MSG_DONTWAIT;
                }
                if contained {
                    msg.readable()?;
                    self.check_name(msg)?;
                }
                send(msg)
            });
        });
    }

    /// As `recvmsg`, of several messages and not of the first one of a call: see `send_several`. The softirq work that
    /// is left is the caller's.
    pub fn recv_several(&self, all: &mut RecvSeveral<'_>) {
        if let Err(e) = self.usable() {
            return all(&mut |_| Err(e));
        }
        let nonblocking = self.nonblocking();
        self.sock.proto().recv_several(self.sk(), &mut |recv| {
            all(&mut |msg| {
                if nonblocking {
                    msg.flags |= libc::MSG_DONTWAIT;
                }
                let r = recv(msg);
                msg.name = msg.name.map(|n| to_family(n, self.sock.family));
                r
            });
        });
    }

    /// A call ended with an error after a part was done: the next one returns it (do_recvmmsg). Nobody is woken.
    pub fn leave_error(&self, error: Error) {
        self.sock.err.store(error.errno(), Ordering::SeqCst);
    }

    /// Sends at most `len` bytes from the front of `pages`; what was taken is removed, and returned how much it was.
    /// TCP takes the pages themselves. Errors as `sendmsg`.
    pub fn send_pages(&self, pages: &mut Pages, len: usize, flags: i32) -> Result<usize> {
        pages.pass(len, |slices, runs| self.sendmsg(&mut SendMsg::in_pages(slices, runs, flags)))
    }

    /// Receives at most `len` bytes to the end of `pages`; returns how many. What TCP has received is not copied.
    /// It ends before an urgent byte: 0 there, as at the end. Errors as `recvmsg`.
    pub fn recv_pages(&self, pages: &mut Pages, len: usize, flags: i32) -> Result<usize> {
        let mut msg = RecvMsg::into_pages(pages, len, flags);
        msg.before_urgent = true;
        self.recvmsg(&mut msg)
    }

    /// Sends bytes of a file or a pipe from the front of `pages`, as sendfile(2) and splice(2) do; what was taken is
    /// removed, and returned how much it was. TCP takes the pages themselves (MSG_SPLICE_PAGES); a plug-in or a layer
    /// is given a run of bytes. `flags`: MSG_*. Errors as `sendmsg`.
    pub fn sendpage(&self, pages: &mut Pages, mut flags: i32) -> Result<usize> {
        if !self.sock.proto().contained() {
            return self.send_pages(pages, pages.len(), flags);
        }
        self.usable()?;
        if self.nonblocking() {
            flags |= libc::MSG_DONTWAIT;
        }
        self.autobind()?;
        let mut taken = 0;
        loop {
            let run = pages.slices().into_iter().next().unwrap_or(IoSlice::new(&[]));
            let more = if run.len() < pages.len() { libc::MSG_MORE } else { 0 };
            let page = || self.sock.proto().sendpage(self.sk(), &run, flags | more);
            let sent = match self.done(self.restarting(|c| c.sndtimeo.get(), page)) {
                Err(e) if taken == 0 => return Err(e),
                sent => sent.unwrap_or(0),
            };
            let whole = sent == run.len();
            pages.advance(sent);
            taken += sent;
            if !whole || pages.is_empty() {
                return Ok(taken);
            }
        }
    }

    /// The file ended after bytes that were sent with MSG_MORE: sends the data held back for more.
    pub fn splice_eof(&self) {
        if self.usable().is_ok() {
            self.sock.proto().splice_eof(self.sk());
            self.done(());
        }
    }

    /// Binds a datagram socket that sends unbound to a free port (inet_autobind).
    #[inline(always)]
    fn autobind(&self) -> Result<()> {
        // A layer on top of a stream is one, too.
        if self.streams {
            return Ok(());
        }
        let proto = self.sock.proto();
        if proto.no_autobind() || proto.is_stream() { Ok(()) } else { self.take_port() }
    }

    fn take_port(&self) -> Result<()> {
        let mut g = self.sock.lock(&self.stack);
        if g.common.sport == 0 {
            self.sock.proto().get_port(&mut g, 0).map_err(|_| Error::Again)?;
        }
        Ok(())
    }

    /// A plug-in sees names of its socket's family alone, v4-mapped ones as IPv4's; the stack's own protocols judge
    /// what they are given, each in its place.
    fn check_name(&self, msg: &mut SendMsg<'_>) -> Result<()> {
        let odd = msg.odd_name.is_some() && !self.sock.proto().is_stream();
        if odd || self.sock.family == AF_INET && msg.name.is_some_and(|name| name.is_ipv6()) {
            return Err(Error::AfNoSupport);
        }
        msg.name = msg.name.map(unmap);
        Ok(())
    }

    /// recvmsg(2). `msg.name` is set in this socket's family. EAGAIN: no data, and the call does not wait or timed out;
    /// EINTR; ENOTCONN; and the socket's pending error.
    pub fn recvmsg(&self, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        self.sock.note_handle(self);
        self.usable()?;
        if self.nonblocking() {
            msg.flags |= libc::MSG_DONTWAIT;
        }
        let r = self.restarting(|c| c.rcvtimeo.get(), || self.sock.proto().recvmsg(self.sk(), msg));
        if let Some(name) = &mut msg.name {
            *name = to_family(*name, self.sock.family);
        }
        self.done(r)
    }

    /// shutdown(2) with SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2. Errors: EINVAL, ENOTCONN.
    pub fn shutdown(&self, how: i32) -> Result<()> {
        self.usable()?;
        let bits = match how {
            0 => RCV_SHUTDOWN,
            1 => SEND_SHUTDOWN,
            2 => RCV_SHUTDOWN | SEND_SHUTDOWN,
            _ => return Err(Error::Inval),
        };
        let r = {
            let mut g = self.sock.lock(&self.stack);
            let proto = self.sock.proto();
            let mut r = Ok(());
            if g.common.socket_state == SocketState::Connecting {
                g.common.socket_state = match self.sock.state() {
                    State::SynSent | State::SynRecv | State::Close => SocketState::Disconnecting,
                    _ => SocketState::Connected,
                };
            }
            match self.sock.state() {
                // A datagram socket without a peer returns ENOTCONN but is shut down all the same, as in Linux.
                State::Close => {
                    r = Err(Error::NotConn);
                    self.sock.shutdown.fetch_or(bits, Ordering::Relaxed);
                    if !proto.is_stream() {
                        proto.shutdown(&mut g, bits);
                    }
                }
                State::Listen => {
                    if bits & RCV_SHUTDOWN != 0 {
                        proto.disconnect(&mut g)?;
                        g.common.socket_state = SocketState::Unconnected;
                    }
                }
                State::SynSent => {
                    // The connection attempt is ended.
                    self.sock.shutdown.fetch_or(bits, Ordering::Relaxed);
                    proto.disconnect(&mut g)?;
                    g.common.socket_state = SocketState::Unconnected;
                }
                _ => {
                    self.sock.shutdown.fetch_or(bits, Ordering::Relaxed);
                    proto.shutdown(&mut g, bits);
                }
            }
            self.sock.wait.wake(Events::IN | Events::OUT | Events::HUP | Events::RDHUP);
            r
        };
        self.done(r)
    }

    /// getsockname(2). ENETDOWN in a child of the stack's process.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.stack.here()?;
        let g = self.sock.lock(&self.stack);
        let sk: &SockCommon = &g.common;
        // They differ for a socket that is bound to a group: there is none over a stream's connection.
        let (first, second) = match self.sock.proto().is_stream() {
            true => (sk.saddr, sk.rcv_saddr),
            false => (sk.rcv_saddr, sk.saddr),
        };
        let ip = if first.is_unspecified() { second } else { first };
        let name = name_of(ip, sk.sport, sk.bound_dev_if);
        drop(g);
        self.done(Ok(to_family(name, self.sock.family)))
    }

    /// getpeername(2). ENOTCONN without a peer.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        self.stack.here()?;
        let g = self.sock.lock(&self.stack);
        let stream_down = self.sock.proto().is_stream() && matches!(self.sock.state(), State::Close | State::SynSent);
        let peer = match g.common.peer() {
            Some(p) if !stream_down => {
                let name = to_family(name_of(p.ip(), p.port(), g.common.bound_dev_if), self.sock.family);
                Ok(g.common.shown_peer(name))
            }
            _ => Err(Error::NotConn),
        };
        drop(g);
        self.done(peer)
    }

    /// setsockopt(2). Unknown options: ENOPROTOOPT.
    pub fn setsockopt(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        self.stack.here()?;
        let r = if level == libc::SOL_SOCKET {
            sockopt::set(self.sk(), name, value)
        } else {
            self.usable()?;
            self.sock.proto().setsockopt(self.sk(), level, name, value)
        };
        self.done(r)
    }

    /// getsockopt(2): writes at most `value.len()` bytes, returns how many. Unknown options: ENOPROTOOPT.
    pub fn getsockopt(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        self.stack.here()?;
        if level == libc::SOL_SOCKET {
            return self.done(sockopt::get(self.sk(), name, value));
        }
        self.usable()?;
        self.done(self.sock.proto().getsockopt(self.sk(), level, name, value))
    }

    /// Removes the upper-layer protocol that TCP_ULP installed. EINVAL: there is none; EBUSY: it holds undelivered
    /// bytes.
    pub fn remove_ulp(&self) -> Result<()> {
        self.stack.here()?;
        let r = self.sock.proto().remove_ulp(&mut self.sock.lock(&self.stack));
        self.done(r)
    }

    /// ioctl(2) requests that return an int. ENOTTY for an unknown one.
    pub fn ioctl(&self, request: u64) -> Result<i32> {
        self.stack.here()?;
        self.done(self.sock.proto().ioctl(self.sk(), request))
    }

    /// poll(2): all events that are currently true.
    pub fn poll(&self) -> Events {
        if self.stack.here().is_err() {
            return Events::ERR | Events::HUP;
        }
        if self.sock.is_broken() {
            return Events::ERR | Events::HUP | Events::IN | Events::OUT | Events::RDHUP;
        }
        self.sock.proto().poll(self.sk())
    }

    /// Ends the socket from outside, while its user may still hold it: calls on it return ECONNABORTED, and a peer gets
    /// a RST (ss -K, SOCK_DESTROY). Errors: EOPNOTSUPP; ENOENT if it has ended already.
    pub fn destroy(&self) -> Result<()> {
        self.usable()?;
        let r = self.sock.proto().diag_destroy(self.sk(), Error::ConnAborted);
        self.done(r)
    }

    /// close(2) of the last descriptor. Lingers if SO_LINGER is set. Further calls do nothing. In a child of the
    /// stack's process nothing happens: the connection is the parent's.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.stack.is_inherited() {
            // The sock must not be dropped either: the parent does what its destructor would.
            std::mem::forget(self.sock.clone());
            return;
        }
        let nonblock = if self.nonblocking() { libc::MSG_DONTWAIT } else { 0 };
        let proto = self.sock.proto();
        // If a plug-in panics here, no caller is left to get an error.
        contain(|| proto.contained(), || proto.close(self.sk(), nonblock));
        self.stack.run_pending();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}
