//! The interface of the thing under test. Above: `run`. Below: an adapter over a stack; the trait is small, so that
//! another implementation, or a recorded trace, can be used. Time is script time in microseconds from the start, and
//! moves only when told.
use crate::ast::Micros;
use std::net::SocketAddr;

/// A descriptor as the thing under test numbers it.
pub type Fd = i32;

/// A system call with its arguments in Rust's terms. Flags, levels, option names and families are Linux's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// socket(2).
    Socket {
        /// Address family.
        family: i32,
        /// Type, with `SOCK_NONBLOCK` and `SOCK_CLOEXEC` where given.
        kind: i32,
        /// Protocol.
        protocol: i32,
    },
    /// bind(2).
    Bind(Fd, SocketAddr),
    /// listen(2) with its backlog.
    Listen(Fd, i32),
    /// accept4(2) with its flags; the peer's address comes back as [`Reply::Peer`].
    Accept(Fd, i32),
    /// connect(2).
    Connect(Fd, SocketAddr),
    /// write(2), writev(2), send(2), sendto(2) and sendmsg(2).
    Send {
        /// Socket.
        fd: Fd,
        /// The pieces.
        iov: Vec<Vec<u8>>,
        /// `MSG_` flags.
        flags: i32,
        /// Address, where the call has one.
        to: Option<SocketAddr>,
        /// Control messages.
        control: Vec<ControlMessage>,
    },
    /// read(2), readv(2), recv(2), recvfrom(2) and recvmsg(2); data come back as [`Reply::Received`].
    Receive {
        /// Socket.
        fd: Fd,
        /// Sizes of the buffers.
        iov: Vec<usize>,
        /// `MSG_` flags.
        flags: i32,
        /// Room for control messages, in bytes.
        control: usize,
    },
    /// shutdown(2).
    Shutdown(Fd, i32),
    /// close(2).
    Close(Fd),
    /// getsockopt(2); the value comes back as [`Reply::Bytes`].
    GetSockOpt {
        /// Socket.
        fd: Fd,
        /// Level.
        level: i32,
        /// Option.
        name: i32,
        /// Bytes of room.
        len: usize,
    },
    /// setsockopt(2).
    SetSockOpt {
        /// Socket.
        fd: Fd,
        /// Level.
        level: i32,
        /// Option.
        name: i32,
        /// Value.
        value: Vec<u8>,
    },
    /// fcntl(2).
    Fcntl(Fd, i32, i64),
    /// ioctl(2) with a request that fills in one int, which comes back as [`Reply::Int`].
    Ioctl(Fd, i64),
    /// poll(2); `revents` come back as [`Reply::Ready`].
    Poll {
        /// Descriptors with the events asked for.
        fds: Vec<(Fd, i16)>,
        /// Milliseconds; negative is infinite.
        timeout: i32,
    },
    /// epoll_create(2) with its size.
    EpollCreate(i32),
    /// epoll_ctl(2): epoll, operation, descriptor, events, data.
    EpollCtl(Fd, i32, Fd, u32, u64),
    /// epoll_wait(2): epoll, most events, milliseconds; events come back as [`Reply::Events`].
    EpollWait(Fd, i32, i32),
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlMessage {
    /// Level.
    pub level: i32,
    /// Type.
    pub kind: i32,
    /// Data.
    pub data: Vec<u8>,
}

/// Results of a call beside its return value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    None,
    /// The peer's address.
    Peer(SocketAddr),
    /// A value.
    Bytes(Vec<u8>),
    /// A number.
    Int(i32),
    /// Data, `MSG_` flags and control messages.
    Received {
        /// The bytes received.
        data: Vec<u8>,
        /// `msg_flags`.
        flags: i32,
        /// Control messages.
        control: Vec<ControlMessage>,
    },
    /// `revents` of each descriptor, in order.
    Ready(Vec<i16>),
    /// epoll's events and data.
    Events(Vec<(u32, u64)>),
}

/// How a call ended: its return value and what came with it, or the errno.
pub type Outcome = Result<(i64, Reply), i32>;

/// Identifies a call that was started and whose end was not yet reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// A stack under test, in virtual time.
pub trait UnderTest {
    /// Microseconds since the start.
    fn now(&self) -> Micros;

    /// Moves time to the next moment at which there is something to do, at most to `limit`, and does it. Called until
    /// `now()` is `limit`; it must move time, or have done something.
    fn advance(&mut self, limit: Micros);

    /// Delivers an IP packet now, and processes it.
    fn inject(&mut self, packet: &[u8]);

    /// The next packet that left, with the moment at which it did.
    fn next_packet(&mut self) -> Option<(Micros, Vec<u8>)>;

    /// Starts a call. One that blocks goes on while time advances.
    fn start(&mut self, call: Call) -> CallId;

    /// The outcome of a call, once it has ended; each is given once.
    fn finished(&mut self, id: CallId) -> Option<Outcome>;

    /// Sets a sysctl by its Linux name (`net.ipv4.tcp_sack`); the error is for the reader of the failed script.
    fn sysctl(&mut self, name: &str, value: &str) -> Result<(), String>;
}
