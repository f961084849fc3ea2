//! IP: what the transports hand packets to and get them from. Above: TCP, UDP, ICMP, raw. Below: devices.
//! Input: `input` → `fragment` → protocol handler; output: `route` → `output` → `neigh` → `netdev`. Linux: net/ipv4, net/ipv6.

pub mod datagram;
pub mod fragment;
pub mod icmp;
pub mod icmpv6;
pub mod ident;
pub mod input;
pub mod multicast;
pub mod neigh;
pub mod output;
pub mod ports;
pub mod route;
pub mod sockopt;

use crate::base::env::Instant;
use crate::device::netdev::NetDev;
use std::net::IpAddr;
use std::sync::Arc;

/// What IP input knows of a datagram, for the protocol that gets it.
#[derive(Debug, Clone, Copy)]
pub struct PacketInfo {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number (the upper layer's, after extension headers).
    pub protocol: u8,
    /// TOS or traffic class; ECN in the low two bits.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Interface it came in by.
    pub ifindex: u32,
    /// The destination is a broadcast or multicast address, or the link said so.
    pub not_unicast: bool,
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Time of the softirq run.
    pub now: Instant,
}

/// An ICMP error that quotes a packet of ours.
#[derive(Debug, Clone, Copy)]
pub struct IcmpError<'p> {
    /// Who reports.
    pub reporter: IpAddr,
    /// Source of the quoted packet (ours).
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// IP protocol number quoted.
    pub protocol: u8,
    /// ICMP type as on the wire, of the family of `src`.
    pub ty: u8,
    /// ICMP code.
    pub code: u8,
    /// MTU of fragmentation-needed and packet-too-big; pointer of parameter-problem; else 0.
    pub info: u32,
    /// The errno the error stands for (icmp_err_convert), and whether it is fatal for a socket that asked for errors.
    pub errno: crate::base::error::Error,
    /// Hard error: see `errno`.
    pub fatal: bool,
    /// Transport header and what followed, as much as was quoted: at least 8 bytes.
    pub quoted: &'p [u8],
    /// Interface it came in by.
    pub ifindex: u32,
    /// Time of the softirq run.
    pub now: Instant,
}

/// Kind of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DstKind {
    /// One host reached over a device.
    Unicast,
    /// This stack itself.
    Local,
    /// All hosts of a link.
    Broadcast,
    /// A group.
    Multicast,
}

/// Where packets to a destination go and how: a route, resolved. Shared by the socks that use it; `generation` tells when the
/// tables have changed and it must be looked up again. Linux: struct dst_entry, struct rtable.
#[derive(Debug, Clone)]
pub struct Dst {
    /// Out by.
    pub dev: Arc<NetDev>,
    /// Next hop; None: the destination itself.
    pub gateway: Option<IpAddr>,
    /// Source address the route prefers.
    pub src: IpAddr,
    /// Kind of the destination.
    pub kind: DstKind,
    /// The table generation it was made in.
    pub generation: u64,
    /// Path MTU in bytes, from the route, the device or ICMP.
    pub mtu: u32,
    /// The route's MTU is locked: ICMP does not lower it (RTAX_MTU with lock), and DF is not set.
    pub mtu_locked: bool,
    /// RTAX_ADVMSS; 0: from the MTU.
    pub advmss: u32,
    /// RTAX_INITCWND in segments; 0: default.
    pub initcwnd: u32,
    /// RTAX_INITRWND in segments; 0: default.
    pub initrwnd: u32,
    /// RTAX_WINDOW: clamp of the advertised window in bytes; 0: none.
    pub window: u32,
    /// RTAX_RTO_MIN in microseconds; 0: default.
    pub rto_min_us: u32,
    /// RTAX_QUICKACK.
    pub quickack: bool,
    /// RTAX_FEATURES has ECN.
    pub feature_ecn: bool,
    /// RTAX_CC_ALGO.
    pub congctl: Option<Arc<str>>,
    /// RTAX_HOPLIMIT; 0: default.
    pub hoplimit: u8,
    /// RTAX_RTT / RTAX_RTTVAR / RTAX_SSTHRESH / RTAX_CWND (with lock) / RTAX_REORDERING where given.
    pub metrics: RouteMetrics,
}

/// TCP's metrics of a route (`ip route ... rtt`, `ssthresh`, `cwnd lock`, `reordering`); 0: not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteMetrics {
    /// Initial smoothed RTT, microseconds.
    pub rtt_us: u32,
    /// Initial mean deviation, microseconds.
    pub rttvar_us: u32,
    /// Initial slow-start threshold, segments.
    pub ssthresh: u32,
    /// Upper bound of the congestion window, segments (locked cwnd).
    pub cwnd_lock: u32,
    /// Initial reordering degree.
    pub reordering: u32,
}

/// What IP keeps for a stack: routes, neighbours, fragments, groups, limits, and the tables of the protocols beside TCP.
pub struct IpState {
    /// Routes, addresses and path MTUs.
    pub routes: route::Routes,
    /// Neighbours of Ethernet devices.
    pub neigh: neigh::Neighbours,
    /// Datagrams under reassembly.
    pub frags: fragment::Fragments,
    /// Groups this stack listens to.
    pub groups: multicast::Groups,
    /// IP identifications.
    pub idents: ident::Idents,
    /// Rate limits of ICMP.
    pub limits: icmp::Limits,
    /// Counters of port choice.
    pub ports: ports::Ports,
    /// UDP sockets.
    pub udp: crate::inet::PortTable,
    /// Raw sockets.
    pub raw: crate::raw::Table,
    /// Ping sockets.
    pub ping: crate::icmp::Table,
}

impl IpState {
    /// Nothing known yet.
    pub fn new() -> IpState {
        IpState {
            routes: route::Routes::new(),
            neigh: neigh::Neighbours::default(),
            frags: fragment::Fragments::default(),
            groups: multicast::Groups::default(),
            idents: ident::Idents::new(),
            limits: icmp::Limits::default(),
            ports: ports::Ports::default(),
            udp: crate::inet::PortTable::default(),
            raw: crate::raw::Table::default(),
            ping: crate::icmp::Table::default(),
        }
    }

    /// The route table's generation: a `Dst` of another must be looked up again.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.routes.generation()
    }
}

impl Default for IpState {
    fn default() -> Self {
        IpState::new()
    }
}
