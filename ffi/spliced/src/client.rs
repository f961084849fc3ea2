//! The calls of a program, as the preload shim makes them. Whatever is not here (read, write, poll, epoll, close, dup,
//! shutdown, sendfile ...) the program does with the kernel. Nothing is kept between calls, and nothing but
//! TCP_AO_GET_KEYS allocates: each request is a connection of its own.

use crate::epolls::Entries;
use crate::inband;
use crate::instance::Instance;
use crate::name::Name;
pub use crate::rpc::MAX_VALUE;
use crate::rpc::{AGAIN, Answer, Call, Request, decode_answer};
use crate::sys::{self, Result};
use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use usersock::error::Error;
use usersock_ffi::ptr;

/// Bytes that a connecting socket sends before its connection is there, and the server discards once it is: meanwhile
/// the descriptor is not writable, as a TCP socket is not. Above a quarter of any buffer Linux gives AF_UNIX sockets by
/// default (212,992).
pub(crate) const FILLER: usize = 60_000;
/// SO_SNDBUF of a connection's descriptor, of which the kernel makes twice as much, up to net.core.wmem_max: a program
/// that sends in bulk sleeps once for every quarter of it that the server takes, and each time is woken on another
/// processor, which costs the server more than the bytes do. Not of one that connects without waiting, which must be
/// full of filler until the connection is there.
const ROOM: c_int = 1 << 20;

/// getsockopt(2) of <linux/tcp.h>, whose value is an array and a question.
pub const TCP_AO_GET_KEYS: c_int = 41;

/// How long an accept of this process waits before it says once more that there is no server, in milliseconds: the
/// listener stays readable, and a program that logs each failure would do nothing else.
const PACE: u32 = 100;
/// How often a name is tried that the server may have, and ms between.
const PROBES: u32 = 3;
const PROBE: u32 = 1;

/// A descriptor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    /// Identifies it to the server.
    id: u64,
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// The addresses of an accepted connection: local, peer.
    pub accepted: Option<(SocketAddr, SocketAddr)>,
}

/// What a descriptor is to us; None if it is no socket of `instance`.
pub fn ours(instance: &Instance, fd: RawFd) -> Option<Ours> {
    // An accepted socket has its listener's name; its peer's tells it apart.
    if let Ok(Some(Name::Accepted { id, family, local, peer })) = sys::peer_name(fd, |n| Name::decode(n, instance)) {
        return Some(Ours { id, family, accepted: Some((local, peer)) });
    }
    match sys::local_name(fd, |n| Name::decode(n, instance)) {
        Ok(Some(Name::Socket { id, family })) => Some(Ours { id, family, accepted: None }),
        _ => None,
    }
}

/// Whether control data has nothing but what TCP takes and does nothing about: descriptors, credentials, a mark or a
/// priority, what is of another level. AF_UNIX passes on the first two, so all of it is to be left out. With anything
/// else, and where it is not well formed, TCP refuses the message (EINVAL).
pub fn tcp_takes(mut control: &[u8]) -> bool {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    while let Some((head, _)) = control.split_at_checked(HEADER) {
        // SAFETY: as many bytes as it has, of integers alone.
        let c = unsafe { head.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
        let taken = match (c.cmsg_level, c.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS) => true,
            // __sock_cmsg_send: an int.
            (libc::SOL_SOCKET, libc::SO_MARK | libc::SO_PRIORITY) => c.cmsg_len == HEADER + size_of::<c_int>(),
            (level, _) => level != libc::SOL_SOCKET,
        };
        if !taken || !(HEADER..=control.len()).contains(&c.cmsg_len) {
            return false;
        }
        control = control.get(c.cmsg_len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    true
}

/// socket(2) of SOCK_STREAM and TCP: `flags` SOCK_CLOEXEC, SOCK_NONBLOCK. Errors: EMFILE, ENFILE, ENOMEM.
pub fn socket(instance: &Instance, family: u16, flags: c_int) -> Result<RawFd> {
    let fd = sys::socket(libc::SOCK_STREAM | flags)?;
    christen(instance, fd.raw(), family)?;
    Ok(fd.into_raw())
}

/// Gives a descriptor a name that no other has.
fn christen(instance: &Instance, fd: RawFd, family: u16) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes differ by their number, a process's sockets by the count; what an exec or another namespace of
        // process numbers makes equal, bind refuses.
        let id = u64::from(sys::process_id()) << 32 | u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
        match sys::bind(fd, &Name::Socket { id, family }.encode(instance)) {
            Err(Error::AddrInUse) => {}
            r => return r,
        }
    }
}

/// Asks the server, and passes the answer to `f`. ENETDOWN: it is gone.
fn ask<T>(
    instance: &Instance,
    socket: &Ours,
    request: Request<'_>,
    f: impl FnOnce(Answer<'_>) -> Result<T>,
) -> Result<T> {
    let call = Call { id: socket.id, family: socket.family, request };
    let line = sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC)?;
    sys::connect(line.raw(), &Name::Requests.encode(instance)).map_err(|_| Error::NetDown)?;
    let mut message = call.encode(instance);
    sys::send(line.raw(), message.bytes(), 0).map_err(|_| Error::NetDown)?;
    loop {
        match sys::recv(line.raw(), message.room(), 0) {
            // The server answers at once: it never waits for anything but work.
            Err(Error::Intr) => {}
            Err(_) => return Err(Error::NetDown),
            Ok(n) => return f(decode_answer(&message.room()[..n])?),
        }
    }
}

/// What a request returns that is done or not.
fn done(_: Answer<'_>) -> Result<()> {
    Ok(())
}

/// bind(2) to the bytes of a sockaddr.
pub fn bind(instance: &Instance, socket: &Ours, addr: &[u8]) -> Result<()> {
    ask(instance, socket, Request::Bind(name_of(addr)?), done)
}

fn name_of(addr: &[u8]) -> Result<&[u8]> {
    if addr.len() > size_of::<libc::sockaddr_storage>() { Err(Error::Inval) } else { Ok(addr) }
}

/// listen(2). The program accepts from the kernel's queue of `fd`, which the server fills.
pub fn listen(instance: &Instance, fd: RawFd, socket: &Ours, backlog: c_int) -> Result<()> {
    let has_peer = is_connected(fd);
    if has_peer {
        // EINVAL, but of an attempt that failed, whose descriptor cannot listen.
        ask(instance, socket, Request::Listen(backlog, true), done)?;
    }
    let mut entries = Entries::default();
    if has_peer || sys::ended(fd) {
        entries = Entries::of(fd)?;
        renew(instance, fd, socket, sys::nonblocking(fd)?)?;
    }
    // The server first: what it refuses is not to listen (EADDRINUSE). It waits for the descriptor.
    let listened = ask(instance, socket, Request::Listen(backlog, false), done).and_then(|()| sys::listen(fd, backlog));
    entries.restore(fd);
    listened
}

/// shutdown(2): the kernel's on a connection, the server's on a listener and on an attempt, which it ends. AF_UNIX
/// takes it of a socket that is not connected, and for ever.
pub fn shutdown(instance: &Instance, fd: RawFd, socket: &Ours, how: c_int) -> Result<()> {
    if !matches!(how, libc::SHUT_RD | libc::SHUT_WR | libc::SHUT_RDWR) {
        return Err(Error::Inval);
    }
    if is_connected(fd) {
        // Whether it connects still is not seen here: for a moment the descriptor has its peer and no filler yet.
        return match socket.accepted.is_none() && ask(instance, socket, Request::Shutdown, done).is_ok() {
            true => Ok(()),
            false => sys::shutdown(fd, how),
        };
    }
    if !listens(fd) {
        return Err(Error::NotConn);
    }
    if how == libc::SHUT_WR {
        return Ok(());
    }
    ask(instance, socket, Request::Shutdown, done)?;
    forsake_queued(instance, fd);
    Ok(())
}

/// Whether the descriptor has a peer.
pub fn is_connected(fd: RawFd) -> bool {
    sys::peer_name(fd, |_| ()).is_ok()
}

/// Whether listen(2) was done on the descriptor, which stays so.
pub fn is_listener(fd: RawFd) -> bool {
    sys::option(fd, libc::SO_ACCEPTCONN) == Ok(1)
}

/// Whether it listens still.
pub fn listens(fd: RawFd) -> bool {
    is_listener(fd) && !sys::ended(fd)
}

/// accept4(2): the descriptor and the peer's address.
pub fn accept(instance: &Instance, fd: RawFd, flags: c_int) -> Result<(RawFd, SocketAddr)> {
    let new = sys::accept(fd, flags).map_err(|e| not_accepted(instance, fd, e))?;
    let peer = accepted(instance, fd, new.raw())?;
    Ok((new.into_raw(), peer))
}

/// Whether there is no server. Not told in another network namespace than the descriptor's, where its names are not.
fn is_gone(instance: &Instance, fd: RawFd) -> bool {
    sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).is_ok_and(|line| {
        sys::connect(line.raw(), &Name::Requests.encode(instance)) == Err(Error::ConnRefused)
            && sys::network(line.raw()) == sys::network(fd)
    })
}

/// What accept says, where the kernel says `error`. The listener may be shut down, by the program (EINVAL), or because
/// the server has ended (ENETDOWN): of that AF_UNIX tells only those who wait.
pub fn not_accepted(instance: &Instance, listener: RawFd, error: Error) -> Error {
    static SAID: AtomicBool = AtomicBool::new(false);
    let shut = error == Error::Inval || error == Error::Again && sys::ended(listener);
    if !shut {
        return error;
    }
    if !is_gone(instance, listener) {
        return Error::Inval;
    }
    if SAID.swap(true, Ordering::Relaxed) {
        sys::pause(PACE);
    }
    Error::NetDown
}

/// Nobody will bring a connection to a listener any more: all who wait on it, in whatever process, are told, and those
/// who come later.
fn end_listener(listener: RawFd) {
    let _ = sys::shutdown(listener, libc::SHUT_RD);
}

/// The program has ended its listener: the connections that nobody has accepted are reset (`inet_csk_listen_stop`).
/// Where there is no descriptor for that they wait until it is closed.
fn forsake_queued(instance: &Instance, listener: RawFd) {
    end_listener(listener);
    // A listener that is shut down does not wait, even where its descriptor does.
    while let Ok(new) = sys::accept(listener, libc::SOCK_CLOEXEC) {
        // struct linger: on, no seconds.
        let mut linger = [0; 2 * size_of::<c_int>()];
        linger[..size_of::<c_int>()].copy_from_slice(&1i32.to_ne_bytes());
        if let Some(ours) = ours(instance, new.raw()) {
            let _ = ask(instance, &ours, Request::SetOption(libc::SOL_SOCKET, libc::SO_LINGER, &linger), done);
        }
    }
}

/// What remains to be done for a descriptor that was accepted: the peer's address. A connection that was reset before
/// is accepted, and its reads say so. ENETDOWN: it is the keeper's, who says in this way that the server has ended;
/// ECONNABORTED: a stranger's.
pub fn accepted(instance: &Instance, listener: RawFd, new: RawFd) -> Result<SocketAddr> {
    let Some((_, peer)) = ours(instance, new).and_then(|o| o.accepted) else {
        if !is_gone(instance, listener) {
            return Err(Error::ConnAborted);
        }
        end_listener(listener);
        return Err(Error::NetDown);
    };
    let _ = sys::set_option(new, libc::SO_SNDBUF, ROOM);
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        if let Ok(time) = sys::timeout(listener, name)
            && (time.tv_sec, time.tv_usec) != (0, 0)
        {
            let _ = sys::set_timeout(new, name, time);
        }
    }
    if sys::option(listener, libc::SO_OOBINLINE) == Ok(1) {
        let _ = sys::set_option(new, libc::SO_OOBINLINE, 1);
    }
    // EPIPE: reset already, or one of many that a server left in the queue when it ended.
    if sys::send(new, &instance.greeting(), libc::MSG_DONTWAIT) == Err(Error::Pipe) && is_gone(instance, listener) {
        end_listener(listener);
    }
    Ok(peer)
}

/// What a connect that has begun is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// Return 0.
    Done,
    /// Wait until the descriptor is writable, then ask [`connected`].
    Waits,
}

/// Begins connect(2) to the bytes of a sockaddr. EINPROGRESS for a socket that does not wait.
pub fn connect(instance: &Instance, fd: RawFd, socket: &Ours, addr: &[u8]) -> Result<Connect> {
    let waits = !sys::nonblocking(fd)?;
    let request = Request::Connect(name_of(addr)?, waits, is_connected(fd));
    match ask(instance, socket, request, |a| Ok(a.value)) {
        // The first call of a blocking socket was interrupted.
        Err(Error::Already) if waits => {}
        Err(e @ (Error::Already | Error::InProgress | Error::IsConn)) => return Err(e),
        // Of the name alone: a failure is to be told still.
        Err(e @ (Error::Inval | Error::AfNoSupport)) => return Err(e),
        // The server has forgotten the connection; the program's socket is connected until it is not to be.
        Err(Error::NotConn) if socket.accepted.is_some() && is_unspecified(addr) => {
            return begin_anew(instance, fd, socket).map(|()| Connect::Done);
        }
        Ok(AGAIN) if is_unspecified(addr) => return begin_anew(instance, fd, socket).map(|()| Connect::Done),
        Ok(_) if is_unspecified(addr) => {
            undone(instance, fd);
            return Ok(Connect::Done);
        }
        Err(Error::NotConn) if socket.accepted.is_some() => return Err(Error::IsConn),
        Err(e) => {
            // It is told now, and the descriptor is not to tell it once more, nor what was received before an attempt
            // failed (tcp_disconnect).
            if !matches!(e, Error::NetDown | Error::MFile | Error::NFile | Error::NoMem | Error::NoBufs) {
                drop_unread(fd);
            }
            let _ = sys::option(fd, libc::SO_ERROR);
            return Err(e);
        }
        Ok(0) => return Ok(Connect::Done),
        Ok(how) => {
            let mut entries = Entries::default();
            if how == AGAIN || is_listener(fd) {
                entries = Entries::of(fd)?;
                renew(instance, fd, socket, !waits)?;
            }
            sys::connect(fd, &Name::Data.encode(instance)).map_err(|_| Error::NetDown)?;
            fill(fd)?;
            entries.restore(fd);
        }
    }
    if waits { Ok(Connect::Waits) } else { Err(Error::InProgress) }
}

fn is_unspecified(addr: &[u8]) -> bool {
    addr.first_chunk().is_some_and(|family| u16::from_ne_bytes(*family) == libc::AF_UNSPEC as u16)
}

/// connect(2) to AF_UNSPEC was done: who waits at a listener is told, peeks begin in front again, and there is nothing
/// to read.
fn undone(instance: &Instance, fd: RawFd) {
    if is_listener(fd) {
        forsake_queued(instance, fd);
    }
    let _ = sys::set_option(fd, libc::SO_PEEK_OFF, -1);
    drop_unread(fd);
}

/// What nobody has read is dropped. The error that follows is to be told still.
fn drop_unread(fd: RawFd) {
    while let Ok(left @ 1..) = sys::queued(fd)
        && let Ok(1..) = sys::discard(fd, left)
    {}
}

/// What a connect that waited returns: poll(2) said `events` of its descriptor.
pub fn connected(instance: &Instance, fd: RawFd, socket: &Ours, events: i16) -> Result<()> {
    if events & (libc::POLLERR | libc::POLLHUP) == 0 {
        if events & libc::POLLOUT != 0 {
            let _ = sys::set_option(fd, libc::SO_SNDBUF, ROOM);
        }
        return Ok(());
    }
    match take_error(instance, fd, socket)? {
        // Before the filler a server that ends leaves no error behind.
        0 if is_gone(instance, fd) => Err(Error::NetDown),
        0 => Ok(()),
        errno => Err(Error::try_from_errno(errno).unwrap_or(Error::ConnRefused)),
    }
}

/// connect(2) to AF_UNSPEC where both ends had sent their FIN and the server has forgotten the connection: the number
/// is a new socket's, since an AF_UNIX socket connects once. Other descriptors of the old one stay what they are.
fn begin_anew(instance: &Instance, fd: RawFd, socket: &Ours) -> Result<()> {
    let entries = Entries::of(fd)?;
    replace(fd, sys::nonblocking(fd)?)?;
    let named = christen(instance, fd, socket.family);
    entries.restore(fd);
    named
}

/// Puts a new AF_UNIX socket without a name in the place of another.
fn replace(fd: RawFd, nonblocking: bool) -> Result<()> {
    let new = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 })?;
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        sys::set_timeout(new.raw(), name, sys::timeout(fd, name)?)?;
    }
    for name in [libc::SO_RCVLOWAT, libc::SO_OOBINLINE] {
        sys::set_option(new.raw(), name, sys::option(fd, name)?)?;
    }
    sys::duplicate(new.raw(), fd, sys::cloexec(fd)?)
}

/// Puts a new AF_UNIX socket of the same name in the place of one whose connect failed, or of a listener that was shut
/// down. ECONNABORTED: the old one has other descriptors still, by which it goes on to be what it is; the number is a
/// new socket's.
fn renew(instance: &Instance, fd: RawFd, socket: &Ours, nonblocking: bool) -> Result<()> {
    replace(fd, nonblocking)?;
    let name = Name::Socket { id: socket.id, family: socket.family }.encode(instance);
    // The server has it for a moment while it looks whether it is free.
    for _ in 0..PROBES {
        if sys::bind(fd, &name).is_ok() {
            return Ok(());
        }
        sys::pause(PROBE);
    }
    // While a descriptor of the old one is open it has the name (EADDRINUSE), be it this one: there is no way back.
    christen(instance, fd, socket.family)?;
    Err(Error::ConnAborted)
}

/// SO_SNDTIMEO, which limits connect(2), too (socket(7)), as poll(2) takes it.
pub fn connect_timeout(fd: RawFd) -> c_int {
    match sys::timeout(fd, libc::SO_SNDTIMEO) {
        Ok(t) if t.tv_sec != 0 || t.tv_usec != 0 => {
            let ms = t.tv_sec.saturating_mul(1000).saturating_add(t.tv_usec.div_euclid(1000));
            ms.clamp(1, i64::from(c_int::MAX)) as c_int
        }
        _ => -1,
    }
}

/// Sends the filler. The queue is empty, so it takes all at once.
fn fill(fd: RawFd) -> Result<()> {
    static ZEROES: [u8; FILLER] = [0; FILLER];
    let mut left = &ZEROES[..];
    while !left.is_empty() {
        match sys::send(fd, left, 0) {
            Ok(n) => left = &left[n..],
            Err(Error::Intr) => {}
            // Refused already: the poll that follows says so.
            Err(_) => break,
        }
    }
    Ok(())
}

/// SO_ERROR: what the server knows, which is more than the kernel's ECONNRESET of a closed AF_UNIX socket. A read may
/// have told it before, and then it is told no more.
fn take_error(instance: &Instance, fd: RawFd, socket: &Ours) -> Result<c_int> {
    let kernels = sys::option(fd, libc::SO_ERROR)?;
    let size = size_of::<c_int>() as u32;
    let known = ask(instance, socket, Request::GetOption(libc::SOL_SOCKET, libc::SO_ERROR, size, &[]), |answer| {
        let errno = answer.bytes.try_into().map_or(0, c_int::from_ne_bytes);
        let by_descriptor = answer.value != 0;
        Ok(if kernels != 0 || !by_descriptor { errno } else { 0 })
    });
    match known {
        Ok(errno) if errno != 0 => Ok(errno),
        _ => Ok(kernels),
    }
}

/// What a read or a write is to say that was told ECONNRESET or EPIPE by the kernel: why the connection has failed,
/// once; None: the server knows of nothing else.
pub fn failure(instance: &Instance, fd: RawFd, socket: &Ours, kernels: Error) -> Option<Error> {
    let told = if kernels == Error::ConnReset { libc::ECONNRESET } else { sys::option(fd, libc::SO_ERROR).ok()? };
    let size = size_of::<c_int>() as u32;
    let known = ask(instance, socket, Request::GetOption(libc::SOL_SOCKET, libc::SO_ERROR, size, &[]), |answer| {
        Ok((answer.bytes.try_into().map_or(0, c_int::from_ne_bytes), answer.value != 0))
    });
    match known {
        // A read has taken what a write finds.
        Ok((_, by_descriptor)) if by_descriptor && told == 0 => None,
        Ok((errno, _)) if errno != 0 => Error::try_from_errno(errno),
        _ => Error::try_from_errno(told),
    }
}

/// getsockname(2).
pub fn local_addr(instance: &Instance, fd: RawFd, socket: &Ours) -> Result<SocketAddr> {
    match socket.accepted {
        // After a failure the program may have bound it anew.
        Some((local, _)) if sys::hung_up(fd) => match ask(instance, socket, Request::LocalAddr, addr_of) {
            Err(Error::NotConn) => Ok(local),
            answer => answer,
        },
        Some((local, _)) => Ok(local),
        None => ask(instance, socket, Request::LocalAddr, addr_of),
    }
}

/// getpeername(2). ENOTCONN.
pub fn peer_addr(instance: &Instance, fd: RawFd, socket: &Ours) -> Result<SocketAddr> {
    match socket.accepted {
        // The server has closed its end: there may be no peer any more.
        Some((_, peer)) if !sys::hung_up(fd) => Ok(peer),
        _ => ask(instance, socket, Request::PeerAddr, addr_of),
    }
}

fn addr_of(answer: Answer<'_>) -> Result<SocketAddr> {
    // SAFETY: the pointer and length are a slice's.
    let addr = unsafe { ptr::sockaddr(answer.bytes.as_ptr().cast(), answer.bytes.len() as libc::socklen_t) }?;
    addr.ok_or(Error::NetDown)
}

/// setsockopt(2).
pub fn set_option(
    instance: &Instance,
    fd: RawFd,
    socket: &Ours,
    level: c_int,
    name: c_int,
    value: &[u8],
) -> Result<()> {
    if shows_in_control_data(level, name) && value.iter().any(|byte| *byte != 0) {
        return Err(Error::NoProtoOpt);
    }
    // Of accepted connections alone: a connecting one has the filler in front. A full queue has no room for it.
    if socket.accepted.is_some()
        && let Some(code) = inband::code(level, name, value)
        && sys::send_mark(fd, &[code]).is_ok()
    {
        return Ok(());
    }
    // No option is as long; those that are lists end there.
    let value = &value[..value.len().min(MAX_VALUE)];
    let mark = ask(instance, socket, Request::SetOption(level, name, value), |answer| Ok(answer.value))?;
    if (level, name) == (libc::SOL_SOCKET, libc::SO_RCVLOWAT) {
        // The descriptor's reads wait for so many, as the stack has limited it.
        sys::set_option(fd, name, mark)?;
    }
    Ok(())
}

/// Options whose effect is in what recvmsg(2) tells beside the bytes, or on the error queue: the server's end has no
/// way to tell it. Refused, as by a kernel without them.
fn shows_in_control_data(level: c_int, name: c_int) -> bool {
    // SO_TIMESTAMP, _TIMESTAMPNS and _TIMESTAMPING of asm-generic/socket.h, old and new.
    const STAMPS: [c_int; 6] = [29, 35, 37, 63, 64, 65];
    match level {
        libc::SOL_SOCKET => name == libc::SO_ZEROCOPY || STAMPS.contains(&name),
        libc::IPPROTO_TCP => name == libc::TCP_CM_INQ,
        _ => false,
    }
}

/// Whether getsockopt(2) of an option reads its value: a question.
pub fn asks(level: c_int, name: c_int) -> bool {
    const IPV6_FLOWLABEL_MGR: c_int = 32;
    (level, name) == (libc::SOL_IPV6, IPV6_FLOWLABEL_MGR)
}

/// Whether an option belongs to the descriptor, and so to the kernel: how its calls wait and read.
pub fn is_kernels(level: c_int, name: c_int) -> bool {
    // SO_RCVTIMEO_NEW and SO_SNDTIMEO_NEW of asm-generic/socket.h.
    const SO_RCVTIMEO_NEW: c_int = 66;
    const SO_SNDTIMEO_NEW: c_int = 67;
    level == libc::SOL_SOCKET
        && matches!(
            name,
            libc::SO_RCVTIMEO
                | libc::SO_SNDTIMEO
                | SO_RCVTIMEO_NEW
                | SO_SNDTIMEO_NEW
                | libc::SO_TYPE
                | libc::SO_PEEK_OFF
                | libc::SO_OOBINLINE
        )
}

/// getsockopt(2): passes the value's bytes, at most `room`, to `f`. `asked`: the value that is read before.
pub fn option<T>(
    instance: &Instance,
    fd: RawFd,
    socket: &Ours,
    (level, name): (c_int, c_int),
    room: usize,
    asked: &[u8],
    f: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    if level == libc::SOL_SOCKET && matches!(name, libc::SO_ERROR | libc::SO_ACCEPTCONN | libc::SO_RCVLOWAT) {
        let value = match name {
            libc::SO_ERROR => take_error(instance, fd, socket)?,
            // Of one that listens no more AF_UNIX says that it does, but it is shut down.
            libc::SO_ACCEPTCONN => c_int::from(listens(fd)),
            _ => sys::option(fd, name)?,
        };
        let bytes = value.to_ne_bytes();
        return f(&bytes[..room.min(bytes.len())]);
    }
    let room = room.min(MAX_VALUE) as u32;
    ask(instance, socket, Request::GetOption(level, name, room, asked), |a| f(a.bytes))
}

/// TCP_AO_GET_KEYS into an array of structs; the length of one.
pub fn keys(instance: &Instance, socket: &Ours, array: &mut [u8]) -> Result<usize> {
    let asked = array.to_vec();
    let request = Request::GetOption(libc::IPPROTO_TCP, TCP_AO_GET_KEYS, array.len() as u32, &asked);
    ask(instance, socket, request, |answer| {
        let n = answer.bytes.len().min(array.len());
        array[..n].copy_from_slice(&answer.bytes[..n]);
        Ok(answer.value as usize)
    })
}

/// ioctl(2)'s request for bytes that are not sent yet.
pub const SIOCOUTQNSD: u64 = 0x894b;

/// Sends a byte that is urgent (MSG_OOB), behind what was sent before. EAGAIN: there is no room for it.
pub fn send_urgent(fd: RawFd, byte: u8) -> Result<()> {
    sys::send_mark(fd, &[byte, inband::URGENT])
}

/// ioctl(2) of SIOCOUTQ, SIOCOUTQNSD. What the server has not read counts as not sent.
pub fn ioctl(instance: &Instance, socket: &Ours, request: u64) -> Result<c_int> {
    ask(instance, socket, Request::Ioctl(request), |answer| Ok(answer.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control message whose data has so many bytes.
    fn control(level: c_int, ty: c_int, len: usize) -> Vec<u8> {
        let head = [&(16 + len).to_ne_bytes()[..], &level.to_ne_bytes(), &ty.to_ne_bytes()].concat();
        let mut bytes = [head, vec![0; len]].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn descriptors_are_found_among_other_control_data() {
        let rights = control(libc::SOL_SOCKET, libc::SCM_RIGHTS, 4);
        let credentials = control(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 12);
        let ttl = control(libc::IPPROTO_IP, libc::IP_TTL, 4);
        let stamps = control(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 4);
        for ignored in [&[&rights[..]][..], &[&rights, &ttl], &[&ttl, &rights], &[&credentials, &rights, &ttl]] {
            assert!(tcp_takes(&ignored.concat()), "{ignored:?}");
            // The last need not be padded, and less than a head is none.
            let bytes = ignored.concat();
            assert!(tcp_takes(&[&bytes[..], &[0; 15]].concat()));
        }
        assert!(tcp_takes(&rights[..20]) && tcp_takes(&[]));
        let mark = control(libc::SOL_SOCKET, libc::SO_MARK, 4);
        assert!(
            tcp_takes(&mark) && tcp_takes(&[&rights[..], &control(libc::SOL_SOCKET, libc::SO_PRIORITY, 4)].concat())
        );
        assert!(!tcp_takes(&control(libc::SOL_SOCKET, libc::SO_MARK, 3)));
        for refused in [&[&stamps[..]][..], &[&rights, &stamps], &[&stamps, &rights], &[&ttl, &stamps, &rights]] {
            assert!(!tcp_takes(&refused.concat()), "{refused:?}");
        }
        // Not well formed: too long by one, too short for a head.
        assert!(!tcp_takes(&rights[..19]));
        assert!(!tcp_takes(&[&rights[..], &15usize.to_ne_bytes(), &[0; 8]].concat()));
    }
}
