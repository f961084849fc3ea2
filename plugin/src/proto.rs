//! Transport protocols: the trait [`Protocol`], which is `struct usk_proto` in Rust. Below: `abi::proto`, the table.
//!
//! Operations have the names and meanings they have in `usersock/proto.h`, and all of them are called with the sock
//! owned: where the table's is not, this crate locks. Those that a protocol must have are methods without a body; those
//! whose absence means "refused" or "nothing more to do" are methods with one; those for which the stack has a default
//! of its own are named in [`Protocol::MORE`], because a function that is there replaces the default.

pub use crate::abi::csum::{csum, csum_fold, csum_pseudo};
pub use crate::abi::info::Columns;
use crate::abi::info::RawError;
use crate::abi::reg::Sysctl;
use crate::errno::{Errno, Result};
use crate::msg::{RecvMsg, SendMsg};
use crate::offload::{Merge, Merged, Piece};
use crate::skb::{Packet, Skb};
use crate::sock::{Events, Owned, ProtoReg, Sock, UdpPort};
use crate::time::Time;
use std::ffi::c_ulong;
use std::net::{IpAddr, SocketAddr};

/// The type of socket(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum SockType {
    /// SOCK_STREAM.
    Stream = 1,
    /// SOCK_DGRAM.
    Dgram = 2,
    /// SOCK_RAW.
    Raw = 3,
    /// SOCK_SEQPACKET.
    SeqPacket = 5,
}

/// Bits of [`Protocol::FLAGS`].
pub mod flags {
    use crate::sys::*;

    /// Sockets of AF_INET.
    pub const V4: u32 = USK_PROTO_V4;
    /// Sockets of AF_INET6.
    pub const V6: u32 = USK_PROTO_V6;
    /// socket(2) with this type and protocol 0 means this protocol.
    pub const DEFAULT: u32 = USK_PROTO_DEFAULT;
    /// It has connections: connect(2) waits until the state is neither SYN_SENT nor SYN_RECV, and listen(2) and
    /// accept(2) work.
    pub const CONNECTIONS: u32 = USK_PROTO_CONNECTIONS;
    /// Sending does not bind a socket that is not bound.
    pub const NO_AUTOBIND: u32 = USK_PROTO_NO_AUTOBIND;
    /// It has no ports: bind(2) takes only an address.
    pub const NO_PORTS: u32 = USK_PROTO_NO_PORTS;
}

/// The IP header fields and other data of a packet, for [`Protocol::rcv`] and [`Protocol::encap_rcv`].
#[derive(Clone, Copy, Debug)]
pub struct PacketInfo {
    /// Source address; port 0, but of a datagram to a UDP port.
    pub src: SocketAddr,
    /// Destination address; port 0, but of a datagram to a UDP port.
    pub dst: SocketAddr,
    /// Interface that received it.
    pub ifindex: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// TOS or traffic class; ECN in the low two bits.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// It was sent to a multicast or broadcast address.
    pub not_unicast: bool,
    /// Time of the softirq run.
    pub now: Time,
}

/// Bits of [`Protocol::release_cb`] by which an inner sock tells its outer one; 0: it does not. They are edges: what
/// they tell may be over by then, and one may stand for several. Bits below 2^n are the timers' that are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InnerBits {
    /// There may be something to receive, or a connection to accept.
    pub data_ready: u32,
    /// There may be room to send, after a send that found none.
    pub write_space: u32,
    /// The state has changed, an error is pending, or the peer has ended.
    pub state_change: u32,
}

/// An ICMP error that quotes a packet of the protocol, for [`Protocol::err`] and [`Protocol::encap_err`].
#[derive(Clone, Copy, Debug)]
pub struct IcmpError<'a> {
    /// Source of the quoted packet, a local address.
    pub src: SocketAddr,
    /// Destination of the quoted packet.
    pub dst: SocketAddr,
    /// The host that sent the error.
    pub reporter: SocketAddr,
    /// ICMP type (ICMPv6 if `src` is).
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// A hard error.
    pub fatal: bool,
    /// The corresponding errno.
    pub error: Errno,
    /// The MTU of "fragmentation needed" and "packet too big", else 0.
    pub info: u32,
    /// Interface that received it.
    pub ifindex: u32,
    /// The quoted bytes from the protocol's header on, at least 8; of a datagram of UDP those behind UDP's header,
    /// perhaps none.
    pub quoted: &'a [u8],
    pub(crate) raw: RawError<'a>,
}

/// An error that a protocol sends about a packet, for [`ProtoReg::icmp_send`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpSend {
    /// No sock on this port.
    PortUnreach,
    /// What the packet is for is not served here.
    ProtUnreach,
    /// A filter refuses it.
    Prohibited,
    /// It cannot be passed on in one piece: this MTU is carried.
    TooBig(u32),
}

impl IcmpError<'_> {
    /// Tells a sock of it, in [`Protocol::err`] (`usk_icmp_report`): IP_RECVERR, SO_ERROR and path MTUs. `port` is that
    /// of the packet's destination, 0 without ports, `header` the length of the protocol's header.
    ///
    /// ```
    /// # use usersock_plugin::prelude::*;
    /// /// The error of a packet that begins with our ports, as UDP's does.
    /// fn err<P: Protocol>(reg: ProtoReg<'_, P>, error: &IcmpError<'_>) -> Result<()> {
    ///     let [a, b, c, d, ..] = *error.quoted else { return Err(Errno::Inval) };
    ///     let (mut local, mut remote) = (error.src, error.dst);
    ///     local.set_port(u16::from_be_bytes([a, b]));
    ///     remote.set_port(u16::from_be_bytes([c, d]));
    ///     let sock = reg.lookup(local, remote, error.ifindex).ok_or(Errno::NoEnt)?;
    ///     error.report(&sock, remote.port(), 8)
    /// }
    /// ```
    pub fn report<P: Protocol>(&self, sock: &Sock<P>, port: u16, header: usize) -> Result<()> {
        sock.icmp_report(self.raw, port, header)
    }
}

/// A transport protocol. The value belongs to one stack, and is dropped when its registration has ended, with the stack
/// or when it is unloaded, and no operation runs any more. A panic in an operation breaks the operation's socket (EIO),
/// and nothing else.
pub trait Protocol: Send + Sync + Sized + 'static {
    /// The protocol's own data of each sock ([`Owned::data`]): there before `init`, dropped after `destroy`.
    type Sock: Default + Send + 'static;

    /// 1 to 31 bytes, unique in a stack; in lower case part of the names of its sysctls.
    const NAME: &'static str;
    /// With PROTOCOL, the arguments of socket(2).
    const TYPE: SockType;
    /// IP protocol number, 1 to 255; or a number above for socket(2) alone, of a protocol that has no packets of IP: it
    /// sends and receives by a UDP port ([`ProtoReg::udp_open`]) or inner socks
    /// ([`inner_open`](crate::sock::Owned::inner_open)).
    const PROTOCOL: u16;
    /// Bits of [`flags`].
    const FLAGS: u32 = flags::V4 | flags::V6;
    /// Largest header that the protocol pushes, bytes; 0: as much as a new packet has room for.
    const MAX_HEADER: u32 = 0;
    /// Names of its counters: letters and digits, unique in a stack.
    const COUNTERS: &'static [&'static str] = &[];
    /// Names of its drop reasons ([`Drop::Own`](crate::Drop::Own)): capital letters, digits and underscores, unique in
    /// a stack and none of Linux's.
    const DROPS: &'static [&'static str] = &[];
    /// Its sysctls.
    const SYSCTLS: &'static [Sysctl] = &[];
    /// Operations in place of the stack's defaults.
    const MORE: ProtoMore<Self> = ProtoMore::NONE;
    /// How inner socks tell their outer one.
    const INNER: InnerBits = InnerBits { data_ready: 0, write_space: 0, state_change: 0 };

    /// The protocol is registered: opens its UDP ports. An error refuses the plug-in.
    fn registered(&self, _reg: ProtoReg<'_, Self>) -> Result<()> {
        Ok(())
    }

    /// Sends: returns the bytes consumed. May sleep in `wait` unless MSG_DONTWAIT is set. Process context.
    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize>;

    /// Receives: returns the bytes copied; with MSG_TRUNC given, the true length of a datagram. Process context.
    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize>;

    /// Receives a packet of the IP protocol number, without IP header: verifies it, finds its sock
    /// ([`ProtoReg::lookup`]) and calls [`Sock::deliver`], or [`drop_skb`](crate::Reg::drop_skb). Softirq, no sock
    /// owned. Not called of a protocol whose number is above 255.
    fn rcv(&self, reg: ProtoReg<'_, Self>, skb: Skb, _info: &PacketInfo) {
        reg.drop_skb(skb, crate::Drop::NoSocket);
    }

    /// A datagram for a UDP port of the protocol, without UDP header, its checksum verified: as `rcv`.
    fn encap_rcv(&self, reg: ProtoReg<'_, Self>, _port: &UdpPort<Self>, skb: Skb, _info: &PacketInfo) {
        reg.drop_skb(skb, crate::Drop::NoSocket);
    }

    /// An ICMP error about a datagram from a UDP port of the protocol: as `err`.
    fn encap_err(&self, _reg: ProtoReg<'_, Self>, _port: &UdpPort<Self>, _error: &IcmpError<'_>) {}

    /// Processes a packet for the sock, from [`Sock::deliver`]. Softirq, or process context from the backlog; must not
    /// sleep.
    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, skb: Skb);

    /// A sock was made. Process context, softirq for a child.
    fn init(&self, _o: &mut Owned<'_, Self>) -> Result<()> {
        Ok(())
    }

    /// The sock ends: `data` is dropped after it.
    fn destroy(&self, _o: &mut Owned<'_, Self>) {}

    /// The last descriptor is closed, or the listener of a connection that was not accepted: calls [`Owned::done`], now
    /// or after the closing handshake. `flags`: MSG_DONTWAIT for a non-blocking descriptor. Process context.
    fn close(&self, o: &mut Owned<'_, Self>, _flags: i32) {
        // EBUSY cannot be: no program has it.
        let _ = o.done();
    }

    /// Checks the address before connect. Process context.
    fn pre_connect(&self, _o: &mut Owned<'_, Self>, _to: SocketAddr) -> Result<()> {
        Ok(())
    }

    /// Starts a connection, or sets a datagram socket's peer; does not wait. Process context.
    fn connect(&self, _o: &mut Owned<'_, Self>, _to: SocketAddr) -> Result<()> {
        Err(Errno::OpNotSupp)
    }

    /// Dissolves the association, or stops listening. Process context.
    fn disconnect(&self, _o: &mut Owned<'_, Self>) -> Result<()> {
        Err(Errno::OpNotSupp)
    }

    /// Starts listening ([`listen_start`](crate::sock::OwnedSock::listen_start)), or changes the backlog. accept(2)
    /// then takes what [`Owned::accept_push`] queued. Process context.
    fn listen(&self, _o: &mut Owned<'_, Self>, _backlog: u32) -> Result<()> {
        Err(Errno::OpNotSupp)
    }

    /// SIOCINQ, SIOCOUTQ and the protocol's own requests: returns the resulting int. Process context.
    fn ioctl(&self, _o: &mut Owned<'_, Self>, _request: c_ulong, _value: i32) -> Result<i32> {
        Err(Errno::NoTty)
    }

    /// shutdown(2): bit 0 receiving, bit 1 sending. Process context.
    fn shutdown(&self, _o: &mut Owned<'_, Self>, _how: i32) {}

    /// Options of levels other than SOL_SOCKET; pass what is not yours to
    /// [`ip_setsockopt`](crate::sock::OwnedSock::ip_setsockopt). Process context.
    fn setsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        o.ip_setsockopt(level, name, value)
    }

    /// As setsockopt: writes to `value` as much as fits and returns how many bytes.
    fn getsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        o.ip_getsockopt(level, name, value)
    }

    /// SO_KEEPALIVE is set to `on`. Process context.
    fn keepalive(&self, _o: &mut Owned<'_, Self>, _on: bool) {}

    /// Runs deferred work: timers that fired (bit n: timer n), and the bits of [`Sock::defer`]. Either context.
    fn release_cb(&self, _o: &mut Owned<'_, Self>, _bits: u32) {}

    /// An upper layer takes the sock over, or (`restore`) leaves it.
    fn update_proto(&self, _o: &mut Owned<'_, Self>, _restore: bool) -> Result<()> {
        Err(Errno::OpNotSupp)
    }

    /// The memory of its socks has exceeded the second limit of `sysctl_mem`. Any context.
    fn enter_memory_pressure(&self, _reg: ProtoReg<'_, Self>) {}

    /// It has fallen below the first.
    fn leave_memory_pressure(&self, _reg: ProtoReg<'_, Self>) {}

    /// Limits of the memory of all its socks, in pages of 4096 bytes: no pressure below the first, pressure above the
    /// second, hard limit at the third. None: no limits.
    fn sysctl_mem(&self, _reg: ProtoReg<'_, Self>) -> Option<[i64; 3]> {
        None
    }

    /// Ends the socket from outside: report the error ([`error_report`](crate::sock::OwnedSock::error_report)), tell
    /// the peer, leave the sock as after disconnect. Process context.
    fn diag_destroy(&self, _o: &mut Owned<'_, Self>, _error: Errno) -> Result<()> {
        Err(Errno::OpNotSupp)
    }

    /// An ICMP error about a packet of the protocol. Softirq, no sock owned.
    fn err(&self, _reg: ProtoReg<'_, Self>, _error: &IcmpError<'_>) {}

    /// sendfile or splice reached the end of its file after bytes with MSG_MORE: sends data that waits for more.
    /// Process context.
    fn splice_eof(&self, _o: &mut Owned<'_, Self>) {}

    /// Timer `index` of the protocol ([`ProtoReg::timer_arm`]) has fired. Softirq, no sock owned; two may run at a
    /// time.
    fn timer(&self, _reg: ProtoReg<'_, Self>, _index: u32) {}

    /// Work that [`ProtoReg::defer`] asked for: at least one bit. Softirq, no sock owned; on one thread at a time.
    fn work(&self, _reg: ProtoReg<'_, Self>, _bits: u32) {}

    /// Shows what the protocol knows of a sock, in columns of `usersock ss -i`. Process context; must not sleep.
    fn diag_show(&self, _o: &mut Owned<'_, Self>, _columns: &mut Columns) {}
}

/// An operation of a sock without further arguments.
pub type SockOp<P, R> = fn(&P, &mut Owned<'_, P>) -> R;

/// Three sizes of a buffer: minimum, default and maximum, bytes.
pub type Sizes<P> = fn(&P, ProtoReg<'_, P>) -> [i32; 3];

/// Operations in place of the stack's defaults: `ProtoMore { poll: Some(Self::poll), ..ProtoMore::NONE }`.
#[allow(clippy::type_complexity, reason = "a table of functions")]
pub struct ProtoMore<P: Protocol> {
    /// The present poll(2) bits; must not sleep. Default: readable while the receive queue is not empty, an error is
    /// pending or the peer has ended, writable while the send buffer has room.
    pub poll: Option<SockOp<P, Events>>,
    /// bind(2), if it does more than [`inet_bind`](crate::sock::OwnedSock::inet_bind), the default.
    pub bind: Option<fn(&P, &mut Owned<'_, P>, SocketAddr) -> Result<()>>,
    /// Binds to a port, 0: any. Default: [`get_port`](crate::sock::OwnedSock::get_port).
    pub get_port: Option<fn(&P, &mut Owned<'_, P>, u16) -> Result<()>>,
    /// Adds the sock to the tables. Default: [`hash`](crate::sock::OwnedSock::hash).
    pub hash: Option<SockOp<P, Result<()>>>,
    /// Removes the sock from the tables. Default: [`unhash`](crate::sock::OwnedSock::unhash).
    pub unhash: Option<SockOp<P, ()>>,
    /// Releases the port of a sock that ends. Default: [`unhash`](crate::sock::OwnedSock::unhash).
    pub put_port: Option<SockOp<P, ()>>,
    /// SO_BINDTODEVICE, SO_REUSEADDR or SO_REUSEPORT has changed. Default: the library's port table is updated.
    pub rehash: Option<SockOp<P, ()>>,
    /// sendfile(2) and splice(2): sends bytes of a file. Default: sendmsg.
    pub sendpage: Option<fn(&P, &mut Owned<'_, P>, &[u8], i32) -> Result<usize>>,
    /// Whether more may be queued for sending, in addition to the limit of the send buffer; only without `poll`.
    /// Default: yes.
    pub stream_memory_free: Option<fn(&P, &P::Sock, bool) -> bool>,
    /// Minimum, default and maximum size of the send buffer. Default: net.core.wmem_default.
    pub sysctl_wmem: Option<Sizes<P>>,
    /// The same of the receive buffer. Default: net.core.rmem_default.
    pub sysctl_rmem: Option<Sizes<P>>,
    /// Lists socks: calls the function for each in the protocol's own tables. Process context, no sock owned. Default:
    /// those in the library's port table.
    pub diag_dump: Option<fn(&P, &mut dyn FnMut(&Sock<P>))>,
    /// Whether an option bypasses a layer's getsockopt. Default: none does.
    pub bypass_getsockopt: Option<fn(i32, i32) -> bool>,
    /// Makes the header of a packet that a super-packet is cut into; IP's header and an open checksum are the stack's.
    /// An `Err` loses this piece and those behind it. Any context, any sock may be owned: it only computes. Default:
    /// the protocol sends no super-packets.
    pub segment: Option<fn(&P, &mut Piece<'_>) -> Result<()>>,
    /// Whether others may be merged into a received packet, or it into another, where the device has GRO on: the length
    /// of its header, at most 52. Verifies its checksum. Together with `merge`; context as there. Default: no.
    pub may_merge: Option<fn(&P, &Packet, (IpAddr, IpAddr)) -> Option<usize>>,
    /// Whether a packet continues another with the same addresses, which came before it in the same batch. Context as
    /// of `segment`. Default: no packets are merged.
    pub merge: Option<fn(&P, &mut Merge<'_>) -> Merged>,
}

impl<P: Protocol> ProtoMore<P> {
    /// All defaults.
    pub const NONE: ProtoMore<P> = ProtoMore {
        poll: None,
        bind: None,
        get_port: None,
        hash: None,
        unhash: None,
        put_port: None,
        rehash: None,
        sendpage: None,
        stream_memory_free: None,
        sysctl_wmem: None,
        sysctl_rmem: None,
        diag_dump: None,
        bypass_getsockopt: None,
        segment: None,
        may_merge: None,
        merge: None,
    };
}
