//! `usersock connect` and `usersock listen`: one connection on the terminal's two streams, in the manner of nc(1). The end of
//! standard input is our FIN, the peer's FIN the end of standard output; the command ends when both are through. With `--socket` it is
//! a connection of any protocol of the stack, a plug-in's too: what is read at once is a message. Datagrams have no end of their
//! own: an empty one stands for it.

use crate::{Failure, Pipe};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use usersock::error::Error;
use usersock::inet::Socket;
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
pub struct Kind {
    ty: i32,
    protocol: i32,
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
        let protocol: u8 = protocol.parse().map_err(|_| "the protocol is a number from 0 to 255")?;
        Ok(Kind { ty, protocol: protocol.into() })
    }
}

impl Kind {
    fn socket(self, args: &Pipe, stack: &Arc<Stack>) -> Result<Socket, Failure> {
        let family = if args.addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        Socket::new(stack, family, self.ty, self.protocol).map_err(|e| Failure::Usage(format!("--socket: {e}")))
    }
}

/// Connects.
pub fn connect(args: &Pipe) -> Result<(), Failure> {
    let stack = args.on.stack()?;
    let socket = args.socket.socket(args, &stack)?;
    socket.connect(Some(args.addr)).map_err(|e| broken(args, e))?;
    through(args, &stack, socket)
}

/// Waits for one connection, or for a datagram, whose sender is then the peer.
pub fn listen(args: &Pipe) -> Result<(), Failure> {
    let stack = args.on.stack()?;
    let socket = args.socket.socket(args, &stack)?;
    let broken = |e| broken(args, e);
    socket.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_ne_bytes()).map_err(broken)?;
    socket.bind(args.addr).map_err(broken)?;
    let datagrams = args.socket.ty == libc::SOCK_DGRAM;
    if !datagrams {
        socket.listen(1).map_err(broken)?;
    }
    eprintln!("listening on {}", socket.local_addr().map_err(broken)?);
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
    eprintln!("connection from {peer}");
    through(args, &stack, socket)
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
    stopped(args, e.into())
}

fn stopped(args: &Pipe, e: io::Error) -> Failure {
    Failure::Broken(format!("{}: {e}", args.addr))
}

fn through(args: &Pipe, stack: &Stack, socket: Socket) -> Result<(), Failure> {
    let (kind, socket) = (args.socket, Arc::new(socket));
    let sending = socket.clone();
    // Not joined when the peer is done first and broke the connection: standard input may never end.
    let sender = thread::spawn(move || send_all(&sending, kind, &mut io::stdin().lock()));
    let received = receive_all(&socket, kind, &mut io::stdout().lock());
    let sent = match received {
        Ok(()) => sender.join().unwrap_or_else(|_| Err(io::Error::other("the sending thread failed"))),
        Err(_) => Ok(()),
    };
    if received.is_ok() && sent.is_ok() {
        // The stack ends with this process: close waits until the peer has acknowledged our FIN.
        let mut linger = [0; 8];
        linger[..4].copy_from_slice(&1i32.to_ne_bytes());
        linger[4..].copy_from_slice(&LINGER_SECONDS.to_ne_bytes());
        socket.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger).map_err(|e| broken(args, e))?;
    }
    drop(socket);
    if args.counters {
        let linux = stack.mib.iter().map(|(name, value)| (name.to_owned(), value));
        for (name, value) in linux.chain(stack.mib.own.list()).filter(|(_, value)| *value != 0) {
            eprintln!("{name:<32} {value}");
        }
        for (reason, count) in stack.mib.iter_drops().filter(|(_, count)| *count != 0) {
            eprintln!("dropped: {:<23} {count}", reason.name());
        }
    }
    received.and(sent).map_err(|e| stopped(args, e))
}

/// Until the end of the input, and then the end of our direction.
fn send_all(socket: &Socket, kind: Kind, from: &mut impl Read) -> io::Result<()> {
    let datagrams = kind.ty == libc::SOCK_DGRAM;
    let mut buf = vec![0; if datagrams { DATAGRAM } else { CHUNK }];
    loop {
        let piece = match from.read(&mut buf) {
            Ok(n) => &buf[..n],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
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
fn receive_all(socket: &Socket, kind: Kind, to: &mut impl Write) -> io::Result<()> {
    let mut buf = vec![0; if kind.ty == libc::SOCK_STREAM { CHUNK } else { LONGEST }];
    loop {
        let mut slices = [IoSliceMut::new(&mut buf)];
        let mut msg = RecvMsg::new(&mut slices, 0);
        let n = match socket.recvmsg(&mut msg) {
            Err(Error::Intr) => continue,
            r => r?,
        };
        if msg.out_flags & libc::MSG_TRUNC != 0 {
            return Err(io::Error::other(format!("a message of more than {LONGEST} bytes")));
        }
        // A message of no bytes is not the end where messages have marks.
        if n == 0 && msg.out_flags & libc::MSG_EOR == 0 {
            return Ok(());
        }
        to.write_all(&buf[..n])?;
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_a_type_and_a_protocol_number() {
        assert_eq!("stream".parse(), Ok(Kind { ty: libc::SOCK_STREAM, protocol: 0 }));
        assert_eq!("seqpacket:253".parse(), Ok(Kind { ty: libc::SOCK_SEQPACKET, protocol: 253 }));
        for bad in ["", "tcp", "stream:", "dgram:256", "dgram:-1", "seqpacket:rdp", ":1"] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }
}
