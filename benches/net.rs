//! One way to write a program for two stacks: `std::net` on the kernel's, `usersock::net` on ours.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use usersock::stack::Stack;

/// How long one read or write may take before the benchmark fails, so that a lost wake-up is a failure and not a hang.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A stack under measurement.
pub trait Net: Clone + Send + 'static {
    /// A listener.
    type Listener: Send + 'static;
    /// A connection.
    type Stream: Read + Write + Send + 'static;
    /// Listens on a free port of `ip`.
    fn listen(&self, ip: &str) -> (Self::Listener, SocketAddr);
    /// Connects.
    fn connect(&self, to: SocketAddr) -> Self::Stream;
    /// Accepts.
    fn accept(&self, listener: &Self::Listener) -> Self::Stream;
    /// Gives its reads and writes [`PATIENCE`].
    fn limit(stream: &Self::Stream);
}

/// The kernel's TCP.
#[derive(Clone)]
pub struct Kernel;

impl Net for Kernel {
    type Listener = std::net::TcpListener;
    type Stream = std::net::TcpStream;
    fn listen(&self, ip: &str) -> (Self::Listener, SocketAddr) {
        let l = std::net::TcpListener::bind((ip, 0)).expect("listen");
        let addr = l.local_addr().expect("address");
        (l, addr)
    }
    fn connect(&self, to: SocketAddr) -> Self::Stream {
        std::net::TcpStream::connect(to).expect("connect")
    }
    fn accept(&self, listener: &Self::Listener) -> Self::Stream {
        listener.accept().expect("accept").0
    }
    fn limit(stream: &Self::Stream) {
        let s = stream;
        s.set_read_timeout(Some(PATIENCE)).and_then(|()| s.set_write_timeout(Some(PATIENCE))).expect("timeouts");
    }
}

/// Ours.
#[derive(Clone)]
pub struct Ours(pub Arc<Stack>);

impl Ours {
    /// The in-memory loopback.
    pub fn loopback() -> Ours {
        Ours(usersock::config::build("").expect("stack"))
    }
}

impl Net for Ours {
    type Listener = usersock::net::TcpListener;
    type Stream = usersock::net::TcpStream;
    fn listen(&self, ip: &str) -> (Self::Listener, SocketAddr) {
        let l = usersock::net::TcpListener::bind_on(&self.0, (ip, 0)).expect("listen");
        let addr = l.local_addr().expect("address");
        (l, addr)
    }
    fn connect(&self, to: SocketAddr) -> Self::Stream {
        usersock::net::TcpStream::connect_on(&self.0, to).expect("connect")
    }
    fn accept(&self, listener: &Self::Listener) -> Self::Stream {
        listener.accept().expect("accept").0
    }
    fn limit(stream: &Self::Stream) {
        let s = stream;
        s.set_read_timeout(Some(PATIENCE)).and_then(|()| s.set_write_timeout(Some(PATIENCE))).expect("timeouts");
    }
}

/// A connection from `a` to a listener of `b` on `ip`; `a`'s end first.
pub fn pair<A: Net, B: Net>(a: &A, b: &B, ip: &str) -> (A::Stream, B::Stream) {
    let (listener, addr) = b.listen(ip);
    let client = a.connect(addr);
    let server = b.accept(&listener);
    A::limit(&client);
    B::limit(&server);
    (client, server)
}
