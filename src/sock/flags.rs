//! Bits of a sock: options that are on or off, and states. Above: `sockopt` of each level, the protocols. Linux: enum
//! sock_flags, enum tsq_enum, INET_FLAGS_*, SOCK_*_LOCK.

/// Bits of `Sock::tsq_flags` (Linux: enum tsq_enum).
pub mod tsq {
    /// Too many bytes of this sock are in a device queue; transmit again at completion.
    pub const THROTTLED: u8 = 1;
    /// On the stack's list of socks to resume.
    pub const QUEUED: u8 = 2;
    /// No program has it, and its protocol is to be told when its last reference goes (`Sock::orphan`).
    pub const ORPHAN: u8 = 4;
    /// `release_cb` bit of a resumed sock: the only bit of `Sock::defer` that is not the protocol's own
    /// (TCP_TSQ_DEFERRED). Only a sock whose protocol sets `THROTTLED` gets it.
    pub const DEFERRED: u32 = 1;
}

/// Bits of `SockCommon::flags`: boolean options and states of any socket (Linux: enum sock_flags, SOCK_*_LOCK).
pub mod flag {
    /// No program holds the sock any more (SOCK_DEAD).
    pub const DEAD: u32 = 1 << 0;
    /// The peer has ended its side: nothing more will be received (SOCK_DONE).
    pub const DONE: u32 = 1 << 1;
    /// SO_OOBINLINE.
    pub const URGINLINE: u32 = 1 << 2;
    /// SO_KEEPALIVE.
    pub const KEEPOPEN: u32 = 1 << 3;
    /// SO_LINGER is on; the time is in `SockCommon::linger`.
    pub const LINGER: u32 = 1 << 4;
    /// SO_BROADCAST.
    pub const BROADCAST: u32 = 1 << 5;
    /// SO_TIMESTAMP.
    pub const TIMESTAMP: u32 = 1 << 6;
    /// SO_TIMESTAMPNS.
    pub const TIMESTAMPNS: u32 = 1 << 7;
    /// SO_RXQ_OVFL.
    pub const RXQ_OVFL: u32 = 1 << 8;
    /// SO_NO_CHECK: UDP sends without checksum over IPv4.
    pub const NO_CHECK_TX: u32 = 1 << 9;
    /// SO_REUSEADDR.
    pub const REUSE: u32 = 1 << 10;
    /// SO_REUSEPORT.
    pub const REUSEPORT: u32 = 1 << 11;
    /// The program has set SO_SNDBUF: no automatic growth.
    pub const SNDBUF_LOCK: u32 = 1 << 12;
    /// The program has set SO_RCVBUF: no automatic growth.
    pub const RCVBUF_LOCK: u32 = 1 << 13;
    /// The program has bound an address.
    pub const BINDADDR_LOCK: u32 = 1 << 14;
    /// The program has bound a port.
    pub const BINDPORT_LOCK: u32 = 1 << 15;
    /// SO_DONTROUTE.
    pub const LOCALROUTE: u32 = 1 << 16;
    /// SO_DEBUG.
    pub const DEBUG: u32 = 1 << 17;
    /// SO_PASSCRED.
    pub const PASSCRED: u32 = 1 << 18;
    /// IPV6_V6ONLY.
    pub const V6ONLY: u32 = 1 << 19;
    /// IP_FREEBIND.
    pub const FREEBIND: u32 = 1 << 20;
    /// IP_TRANSPARENT.
    pub const TRANSPARENT: u32 = 1 << 21;
    /// IP_RECVERR.
    pub const RECVERR: u32 = 1 << 22;
    /// IPV6_RECVERR.
    pub const RECVERR6: u32 = 1 << 23;
    /// IP_PKTINFO, IPV6_RECVPKTINFO.
    pub const PKTINFO: u32 = 1 << 24;
    /// IP_RECVTTL, IPV6_RECVHOPLIMIT.
    pub const RECVTTL: u32 = 1 << 25;
    /// IP_RECVTOS, IPV6_RECVTCLASS.
    pub const RECVTOS: u32 = 1 << 26;
    /// IP_HDRINCL.
    pub const HDRINCL: u32 = 1 << 27;
    /// IP_MULTICAST_LOOP.
    pub const MULTICAST_LOOP: u32 = 1 << 28;
    /// IP_BIND_ADDRESS_NO_PORT.
    pub const BIND_NO_PORT: u32 = 1 << 29;
    /// Send memory was freed since a writer last looked (SOCK_QUEUE_SHRUNK).
    pub const QUEUE_SHRUNK: u32 = 1 << 30;
    /// IPV6_DONTFRAG.
    pub const DONTFRAG: u32 = 1 << 31;
}

/// Bits of `SockCommon::more`: options of SOL_SOCKET for which [`flag`] has no bit.
pub(crate) mod more {
    #![allow(missing_docs)]
    /// SO_SELECT_ERR_QUEUE: an entry of the error queue is also exceptional data (POLLPRI).
    pub(crate) const SELECT_ERR_QUEUE: u16 = 1 << 0;
    /// SO_RCVMARK, SO_RCVPRIORITY: a received packet's mark and priority come as control data.
    pub(crate) const RCVMARK: u16 = 1 << 1;
    pub(crate) const RCVPRIORITY: u16 = 1 << 2;
    /// SO_WIFI_STATUS, SO_NOFCS, SO_PREFER_BUSY_POLL: for devices of kinds that a stack has not.
    pub(crate) const WIFI_STATUS: u16 = 1 << 3;
    pub(crate) const NOFCS: u16 = 1 << 4;
    pub(crate) const PREFER_BUSY_POLL: u16 = 1 << 5;
    /// O_NONBLOCK, of a datagram socket: poll(2) may say "readable" where a read finds nothing.
    pub(crate) const NONBLOCK: u16 = 1 << 6;
}

/// Bits of `SockCommon::ip_flags`: options of the IP levels for which [`flag`] has no bit.
pub(crate) mod ip_flag {
    #![allow(missing_docs)]
    pub(crate) const RECVOPTS: u32 = 1 << 0;
    pub(crate) const RETOPTS: u32 = 1 << 1;
    pub(crate) const CHECKSUM: u32 = 1 << 2;
    pub(crate) const MULTICAST_ALL: u32 = 1 << 3;
    /// IPV6_MULTICAST_ALL, IPV6_MULTICAST_LOOP were turned off.
    pub(crate) const NOT_MULTICAST_ALL6: u32 = 1 << 26;
    pub(crate) const NOT_MULTICAST_LOOP6: u32 = 1 << 30;
    /// IPV6_AUTOFLOWLABEL was set, and to what.
    pub(crate) const FLOWLABEL_SET: u32 = 1 << 4;
    pub(crate) const FLOWLABEL: u32 = 1 << 5;
    /// IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS: not the bits of IPv4's options.
    pub(crate) const RECVPKTINFO6: u32 = 1 << 6;
    pub(crate) const RECVHOPLIMIT: u32 = 1 << 7;
    pub(crate) const RECVTCLASS: u32 = 1 << 8;
    /// No port is held: `sport` is that of a connection that ended, for getsockname.
    pub(crate) const PORT_LEFT: u32 = 1 << 9;
    /// TCP_FASTOPEN_CONNECT: connect(2) has returned, and the SYN leaves with the first data.
    pub(crate) const DEFER_CONNECT: u32 = 1 << 10;
    pub(crate) const ROUTER_ALERT: u32 = 1 << 11;
    pub(crate) const PASSSEC: u32 = 1 << 12;
    pub(crate) const NODEFRAG: u32 = 1 << 13;
    /// IP_RECVORIGDSTADDR, IP_RECVFRAGSIZE, and those of IPv6.
    pub(crate) const ORIGDSTADDR: u32 = 1 << 14;
    pub(crate) const RECVFRAGSIZE: u32 = 1 << 15;
    pub(crate) const ORIGDSTADDR6: u32 = 1 << 16;
    pub(crate) const RECVFRAGSIZE6: u32 = 1 << 17;
    pub(crate) const RECVERR_RFC4884: u32 = 1 << 18;
    pub(crate) const RECVERR6_RFC4884: u32 = 1 << 19;
    pub(crate) const PKTINFO_2292: u32 = 1 << 20;
    pub(crate) const HOPLIMIT_2292: u32 = 1 << 21;
    /// IPV6_FLOWINFO: a packet's traffic class and flow label come as control data.
    pub(crate) const FLOWINFO: u32 = 1 << 22;
    pub(crate) const RECVPATHMTU: u32 = 1 << 23;
    pub(crate) const ROUTER_ALERT_ISOLATE: u32 = 1 << 24;
    pub(crate) const ROUTER_ALERT6: u32 = 1 << 25;
    /// The socket is told of extension headers: there are bits in `IpMore::rx_headers`.
    pub(crate) const HEADERS6: u32 = 1 << 27;
    /// IPV6_FLOWINFO_SEND; and packets carry the label of the peer's (IPV6_FL_F_REFLECT, flowlabel_reflect).
    pub(crate) const SNDFLOW: u32 = 1 << 28;
    pub(crate) const REPFLOW: u32 = 1 << 29;
}
