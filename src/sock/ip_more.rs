//! Options of the IP levels that few sockets have, kept apart from the others; among them the extension headers of
//! IPv6: those that a socket sends with each packet, and those that it wants to be told of. Above: `ip`, which reads
//! and writes them. Linux: struct inet_sock, ipv6_pinfo, ipv6_txoptions. RFC 3542.

use super::packet::PacketInfo;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Options of the IP levels that few sockets have: made when one is first set.
#[derive(Debug, Clone, Default)]
pub(crate) struct IpMore {
    /// IP_OPTIONS: as the program gave them, filled up to a multiple of 4. Linux: inet_opt.
    pub(crate) options: Box<[u8]>,
    /// IP_LOCAL_PORT_RANGE: lower and upper end; 0: the sysctl's.
    pub(crate) port_range: (u16, u16),
    /// IP_UNICAST_IF and IPV6_UNICAST_IF: interface of what goes to one host; 0: the route's (uc_index, ucast_oif).
    pub(crate) unicast_if: (u32, u32),
    /// IP_MULTICAST_IF by an address: the source of what goes to a group (mc_addr).
    pub(crate) mc_addr: Option<Ipv4Addr>,
    /// IPV6_ADDR_PREFERENCES: IPV6_PREFER_SRC_* bits; 0: none was set.
    pub(crate) srcprefs: u32,
    /// IPV6_MTU: bytes of a packet that IPV6_DONTFRAG lets pass, where the path takes more; 0: the path's (frag_size).
    pub(crate) frag_size: u32,
    /// IPV6_ROUTER_ALERT: the socket waits for such packets.
    pub(crate) router_alert6: bool,
    /// IPV6_RECVPATHMTU: where the last datagram that was too long should have gone, and the MTU of its path; waits for
    /// a receive (rxpmtu).
    pub(crate) rx_path_mtu: Option<(SocketAddr, u32)>,
    /// Flow labels that the socket leases, the newest first (ipv6_fl_list).
    pub(crate) flow_labels: Vec<u32>,
    /// Extension headers in front of all that is sent (ipv6_pinfo.opt).
    pub(crate) headers: Option<Arc<TxHeaders>>,
    /// Bytes that they take of a stream's MSS (icsk_ext_hdr_len).
    pub(crate) ext_hdr_len: u16,
    /// Which extension headers a receiver is told of: bits of [`rx`].
    pub(crate) rx_headers: u8,
    /// IPV6_PKTINFO: interface and address (sticky_pktinfo).
    pub(crate) sticky_pktinfo: Option<(u32, Ipv6Addr)>,
    /// Of a stream: the last packet in order, if it had what the socket is told of (pktoptions); and the traffic class
    /// and flow label of the last one (rcv_flowinfo).
    pub(crate) pktoptions: Option<Box<PktOptions>>,
    /// See `pktoptions`.
    pub(crate) rcv_flowinfo: u32,
}

/// Extension headers in front of what a socket sends, each whole, with its first byte free for the next one's number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TxHeaders {
    /// Hop-by-hop options (IPV6_HOPOPTS).
    pub hop: Vec<u8>,
    /// Destination options in front of the routing header, which are sent only with one (IPV6_RTHDRDSTOPTS).
    pub dst0: Vec<u8>,
    /// The routing header (IPV6_RTHDR).
    pub routing: Vec<u8>,
    /// Destination options in front of the upper layer (IPV6_DSTOPTS).
    pub dst1: Vec<u8>,
}

impl TxHeaders {
    /// No header at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.hop.is_empty() && self.dst0.is_empty() && self.routing.is_empty() && self.dst1.is_empty()
    }
}

/// Which extension headers a receiver is told of (`IpMore::rx_headers`).
pub(crate) mod rx {
    #![allow(missing_docs)]
    pub(crate) const HOPOPTS: u8 = 1 << 0;
    pub(crate) const DSTOPTS: u8 = 1 << 1;
    pub(crate) const RTHDR: u8 = 1 << 2;
    /// The same in the numbers of RFC 2292.
    pub(crate) const OLD_HOPOPTS: u8 = 1 << 3;
    pub(crate) const OLD_DSTOPTS: u8 = 1 << 4;
    pub(crate) const OLD_RTHDR: u8 = 1 << 5;
}

/// What a stream keeps of a packet for IPV6_2292PKTOPTIONS (ipv6_pinfo.pktoptions).
#[derive(Debug, Clone)]
pub(crate) struct PktOptions {
    /// Its IP header.
    pub rx: PacketInfo,
    /// The IPv6 header and the extension headers, where it has some.
    pub headers: Option<Box<[u8]>>,
    /// Of a packet that came in fragments, the size of the largest.
    pub frag_max_size: u16,
}
