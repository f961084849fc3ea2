//! IP: what the transports hand packets to and get them from. Above: TCP, UDP, ping, raw. Below: devices. Linux:
//! net/ipv4, net/ipv6. Input: `device::netdev` → `input` → `fragment` → protocol handler; output: `route` → `output` →
//! `neigh` → `device::netdev`.
//!
//! | file | what |
//! |---|---|
//! | `autoconf` | router advertisements, and addresses and routes that follow from them |
//! | `bind` | bind(2) for protocols with addresses and ports |
//! | `cork` | what a datagram that is being put together, by one call or several, is charged for |
//! | `datagram` | what datagram sockets share: queues, receiving, association, close |
//! | `errors` | errors that sockets are told of: by ICMP, or a datagram too long |
//! | `exception` | path MTUs that ICMP reported |
//! | `exthdrs` | extension headers of IPv6 |
//! | `flowlabel` | flow labels of IPv6, and leases of them |
//! | `fragment` | reassembly |
//! | `frame` | the link header |
//! | `icmp`, `icmpv6` | errors sent and received, echo |
//! | `icmp_mib` | their counters |
//! | `ident` | identifications |
//! | `ifid` | interface identifiers of addresses that are made |
//! | `input` | from a device to the protocol's handler |
//! | `kind` | predicates: of a socket (is it UDP's, ping's ...), and of an address (does it need a scope ...) |
//! | `multicast` | which groups this stack listens to; IGMP and MLD |
//! | `ndisc` | sends the messages of neighbour discovery |
//! | `neigh` | ARP and neighbour discovery |
//! | `options` | options of received IPv4 headers |
//! | `output` | from a transport to the device |
//! | `pktoptions` | IPV6_2292PKTOPTIONS |
//! | `plan` | what a datagram is sent with: route, source address, TTL, headers |
//! | `port_table` | sockets by port, for UDP and what is plugged in |
//! | `ports` | choice of local ports |
//! | `problem` | why a packet is answered with an ICMP error |
//! | `rfc4884` | extensions of ICMP errors |
//! | `rfc8335` | PROBE: extended echo |
//! | `route` | routes, addresses, choice of the source |
//! | `rxcontrol` | control messages of received datagrams |
//! | `slots` | where raw and ping sockets are plugged in |
//! | `socket_headers` | extension headers of a socket of IPv6 |
//! | `source` | the source address, where it is known already |
//! | `sockopt` | SOL_IP and SOL_IPV6 options |
//! | `txcontrol` | control messages of sent datagrams |

pub mod autoconf;
pub mod bind;
pub(crate) mod cork;
pub mod datagram;
pub mod errors;
pub mod exception;
pub(crate) mod exthdrs;
pub(crate) mod flowlabel;
pub(crate) mod fragment;
pub(crate) mod frame;
pub mod icmp;
pub(crate) mod icmp_mib;
pub(crate) mod icmpv6;
pub(crate) mod ident;
pub(crate) mod ifid;
pub(crate) mod input;
pub mod kind;
pub(crate) mod multicast;
mod ndisc;
pub mod neigh;
pub(crate) mod options;
pub mod output;
pub(crate) mod pktoptions;
pub mod plan;
pub mod port_table;
pub(crate) mod ports;
pub(crate) mod problem;
pub(crate) mod rfc4884;
pub(crate) mod rfc8335;
pub mod route;
pub mod rxcontrol;
pub(crate) mod slots;
pub(crate) mod socket_headers;
pub mod sockopt;
pub mod source;
pub mod txcontrol;

use crate::base::error::{Error, Result};
use crate::counters::Log;
use crate::stack::Stack;
use crate::wire::addr::Cidr;
use crate::wire::proto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What IP keeps for a stack: routes, neighbours, fragments, groups, limits, and slots for raw and ping sockets.
pub(crate) struct Ip {
    /// Routes, addresses and path MTUs.
    pub routes: route::Routes,
    /// Neighbours of Ethernet devices.
    pub neigh: neigh::Neighbours,
    /// What routers have said.
    pub autoconf: autoconf::Autoconf,
    /// Datagrams under reassembly.
    pub frags: fragment::Fragments,
    /// Flow labels that are leased.
    pub flow_labels: flowlabel::FlowLabels,
    /// Groups this stack listens to.
    pub groups: multicast::Groups,
    /// IP identifications.
    pub idents: ident::Idents,
    /// Rate limits of ICMP.
    pub limits: icmp::Limits,
    /// Lines about what other hosts do wrong.
    pub log: Log,
    /// Counters of port choice.
    pub ports: ports::Ports,
    /// Who gets copies of all packets: raw sockets.
    pub raw: slots::RawSlot,
    /// Who gets echo replies: ping sockets.
    pub ping: slots::PingSlot,
}

impl Default for Ip {
    /// Nothing known yet.
    fn default() -> Ip {
        Ip {
            routes: route::Routes::new(),
            neigh: neigh::Neighbours::default(),
            autoconf: autoconf::Autoconf::default(),
            frags: fragment::Fragments::default(),
            flow_labels: flowlabel::FlowLabels::default(),
            groups: multicast::Groups::default(),
            idents: ident::Idents::new(),
            limits: icmp::Limits::default(),
            log: Log::new("IP"),
            ports: ports::Ports::default(),
            raw: slots::RawSlot::default(),
            ping: slots::PingSlot::default(),
        }
    }
}

/// What IP keeps for `stack`. Input does not ask for each packet: it is `Ip`'s own code. Without [`init`] nothing is
/// there, and no destination has a route. Linux: net->ipv4, net->ipv6.
#[inline]
pub(crate) fn net(stack: &Stack) -> &Ip {
    match stack.network::<Ip>().downcast_ref() {
        Some(ip) => ip,
        None => unreachable!("IP is the only network layer"),
    }
}

/// Gives a stack IP: input from its devices, ICMP, and the addresses of `lo`, 127.0.0.1/8 and ::1/128. EBUSY: it has a
/// network layer. Linux: inet_init without its protocols, and inetdev_event, which gives `lo` its address.
pub fn init(stack: &Arc<Stack>) -> Result<()> {
    let ip = stack.network::<Ip>().clone().downcast::<Ip>().map_err(|_| Error::Busy)?;
    stack.netdevs.add_pack(ip)?;
    stack.registry.add_protocol(proto::ICMP, Arc::new(icmp::Icmp)).map_err(|e| e.error())?;
    stack.registry.add_protocol(proto::ICMPV6, Arc::new(icmpv6::Icmpv6)).map_err(|e| e.error())?;
    stack.registry.add_protocol(proto::IGMP, Arc::new(multicast::report::Igmp)).map_err(|e| e.error())?;
    let weak = Arc::downgrade(stack);
    stack.sysctl.set_validator(
        "net.ipv6.conf.all.disable_ipv6",
        Arc::new(move |value| {
            let stack = weak.upgrade().ok_or(Error::NoDev)?;
            net(&stack).routes.disable_ipv6(value != "0");
            stack.rt_genid_bump();
            Ok(())
        }),
    )?;
    ifid::init(stack)?;
    for lo in stack.netdevs.iter().filter(|d| d.caps().loopback) {
        for (addr, prefix) in [(IpAddr::V4(Ipv4Addr::LOCALHOST), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)] {
            route::add_address(stack, lo, Cidr::new(addr, prefix).ok_or(Error::Inval)?)?;
        }
    }
    Ok(())
}
