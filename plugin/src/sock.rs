//! Socks: what an operation does with its own, and with those it holds.

use crate::abi::addr;
pub use crate::abi::inner::Inner;
pub use crate::abi::owned::OwnedSock;
pub use crate::abi::sock::{Owned, ProtoReg, Sock};
pub use crate::abi::udp::{UdpConfig, UdpPort};
use crate::errno::Errno;
use crate::sys::*;
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::ops::BitOr;
use std::time::Duration;

/// A direction of memory accounts and timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Direction {
    /// SO_RCVBUF, SO_RCVTIMEO.
    Recv = USK_RECV,
    /// SO_SNDBUF, SO_SNDTIMEO.
    Send = USK_SEND,
}

/// What a protocol decides for one packet: [`OwnedSock::xmit_info`]. What is not given is the socket's, or the control
/// messages'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxInfo {
    /// Source address, one of this host's.
    pub src: Option<IpAddr>,
    /// Interface.
    pub ifindex: Option<u32>,
    /// TOS or traffic class, with ECN in the low two bits.
    pub tos: Option<u8>,
    /// TTL or hop limit, 1 to 255.
    pub ttl: Option<u8>,
    /// Flow label of IPv6, 20 bits.
    pub flow_label: Option<u32>,
    /// The packet is not fragmented, here or on its way: EMSGSIZE if it is larger than the path MTU.
    pub dont_fragment: bool,
}

/// The bits of poll(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events(pub u32);

impl Events {
    /// POLLIN and POLLRDNORM.
    pub const IN: Events = Events(0x41);
    /// POLLPRI.
    pub const PRI: Events = Events(0x2);
    /// POLLOUT and POLLWRNORM.
    pub const OUT: Events = Events(0x104);
    /// POLLERR.
    pub const ERR: Events = Events(0x8);
    /// POLLHUP.
    pub const HUP: Events = Events(0x10);
    /// POLLRDHUP.
    pub const RDHUP: Events = Events(0x2000);

    /// These events if `condition` holds, else none.
    #[must_use]
    pub fn when(self, condition: bool) -> Events {
        if condition { self } else { Events(0) }
    }

    /// Whether one of `other` is among them.
    pub fn has(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }

    /// Without those of `other`.
    #[must_use]
    pub fn without(self, other: Events) -> Events {
        Events(self.0 & !other.0)
    }
}

impl BitOr for Events {
    type Output = Events;
    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

/// A sock's state, by Linux's numbers (sk_state).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(pub i32);

impl State {
    /// TCP_ESTABLISHED: also of a datagram socket with a peer.
    pub const ESTABLISHED: State = State(1);
    /// TCP_SYN_SENT.
    pub const SYN_SENT: State = State(2);
    /// TCP_SYN_RECV.
    pub const SYN_RECV: State = State(3);
    /// TCP_FIN_WAIT1.
    pub const FIN_WAIT1: State = State(4);
    /// TCP_FIN_WAIT2.
    pub const FIN_WAIT2: State = State(5);
    /// TCP_TIME_WAIT.
    pub const TIME_WAIT: State = State(6);
    /// TCP_CLOSE.
    pub const CLOSE: State = State(7);
    /// TCP_CLOSE_WAIT.
    pub const CLOSE_WAIT: State = State(8);
    /// TCP_LAST_ACK.
    pub const LAST_ACK: State = State(9);
    /// TCP_LISTEN.
    pub const LISTEN: State = State(10);
    /// TCP_CLOSING.
    pub const CLOSING: State = State(11);
    /// TCP_NEW_SYN_RECV: a request, which hooks see.
    pub const NEW_SYN_RECV: State = State(12);
}

/// Directions that are shut down (sk_shutdown).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown(pub i32);

impl Shutdown {
    /// Receiving.
    pub const RECV: Shutdown = Shutdown(1);
    /// Sending.
    pub const SEND: Shutdown = Shutdown(2);

    /// Whether receiving is among them.
    pub fn recv(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether sending is among them.
    pub fn send(self) -> bool {
        self.0 & 2 != 0
    }
}

/// A sock's properties: what `usk_sock_info` fills in.
#[derive(Clone, Copy, Debug)]
pub struct SockInfo {
    /// The local end; None: it has none yet.
    pub local: Option<SocketAddr>,
    /// The peer.
    pub peer: Option<SocketAddr>,
    /// AF_INET or AF_INET6, as passed to socket(2).
    pub family: u32,
    /// SOCK_STREAM ..., as passed to socket(2).
    pub ty: u32,
    /// IP protocol number.
    pub protocol: u32,
    /// The state.
    pub state: State,
    /// Directions that are shut down.
    pub shutdown: Shutdown,
    /// No program has the sock, because its last descriptor is closed (SOCK_DEAD).
    pub dead: bool,
    /// SO_KEEPALIVE.
    pub keepopen: bool,
    /// SO_BROADCAST.
    pub broadcast: bool,
    /// SO_REUSEADDR.
    pub reuse: bool,
    /// SO_REUSEPORT.
    pub reuseport: bool,
    /// This is packet or timer context, where nothing may sleep.
    pub softirq: bool,
    /// The pending error, which reading it here does not clear.
    pub error: Option<Errno>,
    /// Interface the sock is bound to (SO_BINDTODEVICE); 0: none.
    pub ifindex: u32,
    /// Packets in the receive queue.
    pub receive_len: u32,
    /// For a listener: connections that wait for accept(2).
    pub ack_backlog: u32,
    /// For a listener: the backlog of listen(2); the queue is full when ack_backlog is above it.
    pub max_ack_backlog: u32,
    /// The time of SO_LINGER; None: not set.
    pub linger: Option<Duration>,
    /// Time of the event being processed.
    pub now: Time,
}

impl SockInfo {
    pub(crate) fn of(info: &usk_sock_info_t) -> SockInfo {
        let flag = |bit: u32| info.flags & bit != 0;
        SockInfo {
            local: addr::from_c(&info.local),
            peer: addr::from_c(&info.peer),
            family: info.family,
            ty: info.ty,
            protocol: info.protocol,
            state: State(info.state as i32),
            shutdown: Shutdown(info.shutdown as i32),
            dead: flag(USK_FLAG_DEAD),
            keepopen: flag(USK_FLAG_KEEPOPEN),
            broadcast: flag(USK_FLAG_BROADCAST),
            reuse: flag(USK_FLAG_REUSE),
            reuseport: flag(USK_FLAG_REUSEPORT),
            softirq: flag(USK_FLAG_SOFTIRQ),
            error: (info.error != 0).then(|| Errno::from_number(info.error)),
            ifindex: info.ifindex,
            receive_len: info.receive_len,
            ack_backlog: info.ack_backlog,
            max_ack_backlog: info.max_ack_backlog,
            linger: u64::try_from(info.linger).ok().map(Duration::from_nanos),
            now: Time(info.now),
        }
    }
}
