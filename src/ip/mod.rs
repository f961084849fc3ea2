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
pub mod port_table;
pub mod ports;
pub mod route;
pub mod sockopt;

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
    pub udp: port_table::PortTable,
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
            udp: port_table::PortTable::default(),
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
