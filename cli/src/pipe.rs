//! `usersock connect` and `usersock listen`: one connection on the terminal's two streams, in the manner of nc(1). The
//! end of standard input is our FIN, the peer's FIN the end of standard output; the command ends when both are through.
//! With `--socket` it is a connection of any protocol of the stack, a plug-in's too: what is read at once is a message.
//! Datagrams have no end of their own: an empty one stands for it.

use crate::out::say;
use crate::{Failure, Pipe};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;
/// The same of a datagram: it fits the paths there are.
const DATAGRAM: usize = 1400;
/// Bytes of the longest message received.
const LONGEST: usize = 1 << 20;
/// How long the end of a connection may wait for the peer.
const LINGER_SECONDS: i32 = 60;

/// What socket(2) is asked for: TYPE, or TYPE:PROTOCOL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) ty: i32,
    pub(crate) protocol: i32,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let (ty, protocol) = text.split_once(':').unwrap_or((text, "0"));
        let ty = match ty {
            "stream" => libc::SOCK_STREAM,
            "seqpacket" => libc::SOCK_SEQPACKET,
            "dgram" => libc::SOCK_DGRAM,
            _ => return Err("the type is stream, seqpacket or dgram".into()),
        };
        let protocol: u16 = protocol.parse().map_err(|_| "the protocol is a number from 0 to 65535")?;
        Ok(Kind { ty, protocol: protocol.into() })
    }
}

impl Kind {
    fn socket(self, stack: &Arc<Stack>, addr: SocketAddr) -> Result<Socket, Failure> {
        let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        Socket::new(stack, family, self.ty, self.protocol).map_err(|e| Failure::Usage(format!("--socket: {e}")))
    }
}

/// Connects.
pub fn connect(args: &Pipe) -> Result<(), Failure> {
    let addrs = args.addr.resolve()?;
    let stack = args.on.stack()?;
    let socket = first_that(args, &stack, &addrs, |socket, addr| socket.connect(Some(addr)))?;
    through(args, &stack, socket)
}

/// Waits for one connection, or for a datagram, whose sender is then the peer.
pub fn listen(args: &Pipe) -> Result<(), Failure> {
    let addrs = args.addr.resolve()?;
    let stack = args.on.stack()?;
    let datagrams = args.socket.ty == libc::SOCK_DGRAM;
    let socket = first_that(args, &stack, &addrs, |socket, addr| {
        socket.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_ne_bytes())?;
        socket.bind(addr)?;
        if datagrams { Ok(()) } else { socket.listen(1) }
    })?;
    let broken = |e| broken(args, e);
    say(format_args!("listening on {}", socket.local_addr().map_err(broken)?));
    let (socket, peer) = if datagrams {
        let peer = first_sender(&socket).map_err(broken)?;
        socket.connect(Some(peer)).map_err(broken)?;
        (socket, peer)
    } else {
        loop {
            match socket.accept() {
                Err(Error::Intr) => {}
                accepted => break accepted.map_err(broken)?,
            }
        }
    };
    say(format_args!("connection from {peer}"));
    through(args, &stack, socket)
}

/// A socket on the first of the addresses for which `prepare` succeeds; the last one's error when it does for none.
fn first_that(
    args: &Pipe,
    stack: &Arc<Stack>,
    addrs: &[SocketAddr],
    prepare: impl Fn(&Socket, SocketAddr) -> Result<(), Error>,
) -> Result<Socket, Failure> {
    let mut failure = Failure::Broken(format!("{}: no address", args.addr));
    for &addr in addrs {
        let socket = args.socket.socket(stack, addr)?;
        match prepare(&socket, addr) {
            Ok(()) => return Ok(socket),
            Err(e) => failure = broken(args, e),
        }
    }
    Err(failure)
}

/// Who sent the first datagram, which stays in the queue.
fn first_sender(socket: &Socket) -> Result<SocketAddr, Error> {
    loop {
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        let mut msg = RecvMsg::new(&mut slices, libc::MSG_PEEK);
        match socket.recvmsg(&mut msg) {
            Err(Error::Intr) => {}
            Err(e) => return Err(e),
            Ok(_) => return msg.name.ok_or(Error::DestAddrReq),
        }
    }
}

fn broken(args: &Pipe, e: Error) -> Failure {
    Failure::Broken(format!("{}: {}", args.addr, io::Error::from(e)))
}

/// Why a direction ended before its end.
enum Stop {
    /// The socket's error.
    Connection(Error),
    /// Standard input or output failed, or cannot take what came.
    Terminal(String),
    /// Nobody reads standard output any more, as behind head(1): no error, but the end of all.
    Unread,
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Connection(e)
    }
}

fn through(args: &Pipe, stack: &Stack, socket: Socket) -> Result<(), Failure> {
    let (kind, socket) = (args.socket, Arc::new(socket));
    let sending = socket.clone();
    // Not joined when the receiving half stopped: standard input may never end.
    let sender = thread::spawn(move || send_all(&sending, kind, &mut io::stdin().lock()));
    let outcome = match receive_all(&socket, kind, &mut io::stdout().lock()) {
        Ok(()) => {
            // The stack ends with this process: close waits until the peer has acknowledged our FIN.
            let mut linger = [0; 8];
            linger[..4].copy_from_slice(&1i32.to_ne_bytes());
            linger[4..].copy_from_slice(&LINGER_SECONDS.to_ne_bytes());
            let sent = sender.join().unwrap_or_else(|_| Err(Stop::Terminal("the sending thread failed".into())));
            sent.and_then(|()| Ok(socket.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger)?))
        }
        Err(stop) => {
            // A reset, where the protocol has one: the peer would wait for a process that is no more. Where not, it is
            // silence.
            let _ = socket.connect(None);
            Err(stop)
        }
    };
    drop(socket);
    if args.counters {
        counters(stack);
    }
    match outcome {
        Ok(()) | Err(Stop::Unread) => Ok(()),
        Err(Stop::Connection(e)) => Err(broken(args, e)),
        Err(Stop::Terminal(message)) => Err(Failure::Broken(message)),
    }
}

/// Of nstat's names those that count nothing: settings of RFC 4293 and RFC 4022, which nstat leaves out as well.
const SETTINGS: [&str; 6] = ["IpForwarding", "IpDefaultTTL", "TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn"];

/// What the stack has counted, zeros left out.
fn counters(stack: &Stack) {
    let linux = stack.mib.iter().filter(|(name, _)| !SETTINGS.contains(name));
    let linux = linux.map(|(name, value)| (name.to_owned(), value));
    for (name, value) in linux.chain(stack.mib.named.list()).filter(|(_, value)| *value != 0) {
        say(format_args!("{name:<32} {value}"));
    }
    let drops = stack.mib.iter_drops().map(|(reason, count)| (reason.name().to_owned(), count));
    for (reason, count) in drops.chain(stack.mib.named_drops.list()).filter(|(_, count)| *count != 0) {
        say(format_args!("dropped: {reason:<23} {count}"));
    }
}

/// Until the end of the input, and then the end of our direction.
fn send_all(socket: &Socket, kind: Kind, from: &mut impl Read) -> Result<(), Stop> {
    let datagrams = kind.ty == libc::SOCK_DGRAM;
    let mut buf = vec![0; if datagrams { DATAGRAM } else { CHUNK }];
    loop {
        let piece = match from.read(&mut buf) {
            Ok(n) => &buf[..n],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                // There is no more to send: the peer may end its direction as well, and then the error is told.
                socket.shutdown(libc::SHUT_WR)?;
                return Err(Stop::Terminal(format!("standard input: {e}")));
            }
        };
        let mut rest = piece;
        while !rest.is_empty() || (piece.is_empty() && datagrams) {
            match socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(rest)], libc::MSG_NOSIGNAL)) {
                Ok(n) => rest = &rest[n..],
                Err(Error::Intr) => continue,
                Err(e) => return Err(e.into()),
            }
            if piece.is_empty() {
                break;
            }
        }
        if piece.is_empty() {
            return if datagrams { Ok(()) } else { Ok(socket.shutdown(libc::SHUT_WR)?) };
        }
    }
}

/// Until the end of the peer's direction; each piece goes out as it comes.
fn receive_all(socket: &Socket, kind: Kind, to: &mut impl Write) -> Result<(), Stop> {
    let mut buf = vec![0; if kind.ty == libc::SOCK_STREAM { CHUNK } else { LONGEST }];
    loop {
        let mut slices = [IoSliceMut::new(&mut buf)];
        let mut msg = RecvMsg::new(&mut slices, 0);
        let n = match socket.recvmsg(&mut msg) {
            Err(Error::Intr) => continue,
            r => r?,
        };
        if msg.out_flags & libc::MSG_TRUNC != 0 {
            return Err(Stop::Terminal(format!("a message of more than {LONGEST} bytes")));
        }
        // A message of no bytes is not the end where messages have marks.
        if n == 0 && msg.out_flags & libc::MSG_EOR == 0 {
            return Ok(());
        }
        match to.write_all(&buf[..n]).and_then(|()| to.flush()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(Stop::Unread),
            Err(e) => return Err(Stop::Terminal(format!("standard output: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_a_type_and_a_protocol_number() {
        assert_eq!("stream".parse(), Ok(Kind { ty: libc::SOCK_STREAM, protocol: 0 }));
        assert_eq!("seqpacket:300".parse(), Ok(Kind { ty: libc::SOCK_SEQPACKET, protocol: 300 }));
        assert_eq!("seqpacket:253".parse(), Ok(Kind { ty: libc::SOCK_SEQPACKET, protocol: 253 }));
        for bad in ["", "tcp", "stream:", "dgram:65536", "dgram:-1", "seqpacket:rdp", ":1"] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }
}
