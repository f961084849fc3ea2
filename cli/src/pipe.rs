//! `usersock connect` and `usersock listen`: one connection on the terminal's two streams, in the manner of nc(1). The end of
//! standard input is our FIN, the peer's FIN the end of standard output; the command ends when both are through.

use crate::{Failure, Pipe};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;
use usersock::net::{TcpListener, TcpStream};
use usersock::stack::Stack;

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;
/// How long the end of a connection may wait for the peer.
const LINGER_SECONDS: i32 = 60;

/// Connects.
pub fn connect(args: &Pipe) -> Result<(), Failure> {
    let stack = args.on.stack()?;
    let stream = TcpStream::connect_on(&stack, args.addr).map_err(|e| broken(args, e))?;
    through(args, &stack, stream)
}

/// Waits for one connection.
pub fn listen(args: &Pipe) -> Result<(), Failure> {
    let stack = args.on.stack()?;
    let listener = TcpListener::bind_on(&stack, args.addr).map_err(|e| broken(args, e))?;
    let addr = listener.local_addr().map_err(|e| broken(args, e))?;
    eprintln!("listening on {addr}");
    let (stream, peer) = listener.accept().map_err(|e| broken(args, e))?;
    drop(listener);
    eprintln!("connection from {peer}");
    through(args, &stack, stream)
}

fn broken(args: &Pipe, e: io::Error) -> Failure {
    Failure::Broken(format!("{}: {e}", args.addr))
}

fn through(args: &Pipe, stack: &Stack, stream: TcpStream) -> Result<(), Failure> {
    let sending = stream.try_clone().map_err(|e| broken(args, e))?;
    // Not joined when the peer is done first and broke the connection: standard input may never end.
    let sender = thread::spawn(move || -> io::Result<()> {
        copy(&mut io::stdin().lock(), &mut &sending)?;
        sending.shutdown(Shutdown::Write)
    });
    let received = copy(&mut &stream, &mut io::stdout().lock());
    let sent = match received {
        Ok(()) => sender.join().unwrap_or_else(|_| Err(io::Error::other("the sending thread failed"))),
        Err(_) => Ok(()),
    };
    if received.is_ok() && sent.is_ok() {
        // The stack ends with this process: close waits until the peer has acknowledged our FIN.
        let mut linger = [0; 8];
        linger[..4].copy_from_slice(&1i32.to_ne_bytes());
        linger[4..].copy_from_slice(&LINGER_SECONDS.to_ne_bytes());
        let set = stream.socket().setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger);
        set.map_err(|e| broken(args, e.into()))?;
    }
    drop(stream);
    if args.counters {
        for (name, value) in stack.mib.iter().filter(|(_, value)| *value != 0) {
            eprintln!("{name:<32} {value}");
        }
        for (reason, count) in stack.mib.iter_drops().filter(|(_, count)| *count != 0) {
            eprintln!("dropped: {:<23} {count}", reason.name());
        }
    }
    received.and(sent).map_err(|e| broken(args, e))
}

/// Until the end; each piece goes out as it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buf = vec![0; CHUNK];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buf[..n])?;
                to.flush()?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
