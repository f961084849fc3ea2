//! A TCP beside the library's: [`TcpStack`] is `struct usk_tcp_ops` in Rust, which programs choose by USK_TCP_STACK or
//! `net.ipv4.tcp_stack`. docs/plugins.md, "A TCP of one's own".

use crate::abi::reg::Sysctl;
pub use crate::abi::tcp::TcpConn;
use crate::errno::Result;
use crate::sys::*;
pub use crate::sys::{usk_tcp_ack_t as TcpAck, usk_tcp_input_t as TcpInput, usk_tcp_seg_t as TcpSeg};

/// Who goes on after `input`, `output` and `timer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Go {
    /// Nobody: all is done.
    Done = USK_TCP_DONE,
    /// The library's TCP, as if the function were not there.
    Ours = USK_TCP_OURS,
}

/// Which timer has fired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fired {
    /// The connection's retransmission timer.
    Rto,
    /// One of the alternative's own, by its number.
    Own(u32),
}

/// A TCP beside the library's. The value belongs to one stack. Functions run with the sock owned and must not sleep. A
/// panic breaks the connection's socket (EIO), and nothing else.
pub trait TcpStack: Send + Sync + Sized + 'static {
    /// The data of each connection: there before `init`, dropped after `release`.
    type Conn: Default + Send + 'static;

    /// 1 to 15 printable characters without dot, as USK_TCP_STACK takes it; unique in a stack.
    const NAME: &'static str;
    /// Names of its counters: letters and digits, unique in a stack.
    const COUNTERS: &'static [&'static str] = &[];
    /// Its sysctls.
    const SYSCTLS: &'static [Sysctl] = &[];
    /// The functions that it has: those that it lacks are the library's.
    const OPS: TcpOps<Self>;
}

/// A function of a connection without further arguments.
pub type TcpOp<S, R> = fn(&S, &mut TcpConn<'_>, &mut <S as TcpStack>::Conn) -> R;

/// A function of a connection with one more argument.
pub type TcpFn<S, A, R> = fn(&S, &mut TcpConn<'_>, &mut <S as TcpStack>::Conn, A) -> R;

/// The functions of a TCP: `TcpOps { ack: Some(Self::ack), ..TcpOps::NONE }`. `usersock/tcp.h` says of each when it is
/// called.
#[allow(clippy::type_complexity, reason = "a table of functions")]
pub struct TcpOps<S: TcpStack> {
    /// Begins on a connection: a new one, or one that it takes over.
    pub init: Option<TcpOp<S, Result<()>>>,
    /// The connection ends, or another TCP has it now: no call can be made with the connection but those of `reg`.
    pub release: Option<TcpOp<S, ()>>,
    /// Whether it takes a live connection that another TCP has served.
    pub take_ok: Option<fn(&S, &mut TcpConn<'_>) -> Result<()>>,
    /// Whether it gives a live connection to another TCP.
    pub give_ok: Option<TcpOp<S, Result<()>>>,
    /// A segment has arrived; `Done`: it is dropped.
    pub input: Option<fn(&S, &mut TcpConn<'_>, &mut S::Conn, &TcpInput) -> Go>,
    /// An acknowledgement was processed: marks what is lost.
    pub ack: Option<fn(&S, &mut TcpConn<'_>, &mut S::Conn, &TcpAck)>,
    /// Something may be sent.
    pub output: Option<TcpOp<S, Go>>,
    /// A timer has fired.
    pub timer: Option<TcpFn<S, Fired, Go>>,
    /// An option from USK_TCP_OWN_OPTIONS on.
    pub setsockopt: Option<fn(&S, &mut TcpConn<'_>, &mut S::Conn, i32, &[u8]) -> Result<()>>,
    /// The same: writes to the bytes and returns how many.
    pub getsockopt: Option<fn(&S, &mut TcpConn<'_>, &mut S::Conn, i32, &mut [u8]) -> Result<usize>>,
}

impl<S: TcpStack> TcpOps<S> {
    /// None of them.
    pub const NONE: TcpOps<S> = TcpOps {
        init: None,
        release: None,
        take_ok: None,
        give_ok: None,
        input: None,
        ack: None,
        output: None,
        timer: None,
        setsockopt: None,
        getsockopt: None,
    };
}
