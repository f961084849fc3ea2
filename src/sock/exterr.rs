//! What the error queue says of one event: struct sock_extended_err, and what the other control messages of the same
//! recvmsg(2) are made from. Above: `errqueue`, which holds these, and who reports events: `ip::errors`, `zerocopy`,
//! `tstamp`. Linux: struct sock_exterr_skb.

use crate::base::env::Instant;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// struct sock_extended_err and the offender that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SockExtendedErr {
    /// ee_errno.
    pub errno: u32,
    /// ee_origin (SO_EE_ORIGIN_*).
    pub origin: u8,
    /// ee_type: ICMP type.
    pub ty: u8,
    /// ee_code: ICMP code.
    pub code: u8,
    /// ee_info: the MTU for EMSGSIZE, else depends on the error.
    pub info: u32,
    /// ee_data.
    pub data: u32,
    /// SO_EE_OFFENDER: the host that reported it.
    pub offender: Option<IpAddr>,
}

/// SO_EE_ORIGIN_*: who tells of an error.
pub(crate) mod origin {
    #![allow(missing_docs)]
    pub(crate) const LOCAL: u8 = 1;
    pub(crate) const ICMP: u8 = 2;
    pub(crate) const ICMP6: u8 = 3;
    pub(crate) const TIMESTAMPING: u8 = 4;
    pub(crate) const ZEROCOPY: u8 = 5;
}

/// One queued error.
#[derive(Debug, Clone)]
pub(crate) struct ErrEntry {
    /// Destination of the packet that failed, for msg_name.
    pub addr: Option<SocketAddr>,
    /// The error.
    pub err: SockExtendedErr,
    /// Payload of the packet that failed.
    pub payload: Vec<u8>,
    /// The ICMP message that told of it, or the packet whose timestamp it is; None: there is none.
    pub packet: Option<IpPacket>,
    /// When it happened; None: an error of this host's own, which has the time at which it is read.
    pub came: Option<Instant>,
    /// The payload is TCP's measurements, which are control data too (SCM_TIMESTAMPING_OPT_STATS).
    pub opt_stats: bool,
}

/// What the program may ask of a packet (IP_RECVTTL, IP_PKTINFO and their kin).
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpPacket {
    /// Where it was sent to.
    pub dst: IpAddr,
    /// ipi_spec_dst; unspecified for an ICMP message.
    pub spec_dst: Ipv4Addr,
    /// Interface it arrived on or left by.
    pub ifindex: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Flow label; 0 over IPv4.
    pub flow_label: u32,
}
