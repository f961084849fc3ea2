//! IP_PKTOPTIONS, and IPV6_2292PKTOPTIONS (RFC 2292 §8): all of a socket's extension headers at once, in a buffer of
//! control messages; and for a stream, which has no control messages to receive, what the last packet in order had.
//! Above: `sockopt`; TCP, which notes its packets here. Below: `socket_headers`, `rxcontrol`. Linux:
//! do_ipv6_setsockopt, do_ipv6_getsockopt, ipv6_pktoptions, ipv6_opt_accepted.

use super::rxcontrol::{self, IPV6_2292HOPLIMIT, IPV6_2292PKTINFO, IPV6_FLOWINFO};
use super::{flowlabel, options, socket_headers, txcontrol};
use crate::base::error::{Error, Result};
use crate::sock::cmsg;
use crate::sock::ip_more::PktOptions;
use crate::sock::msg::Control;
use crate::sock::packet::PacketInfo;
use crate::sock::skb::Skb;
use crate::sock::{SockCommon, SockGuard, flag, ip_flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most bytes of control messages.
const MAX_CONTROL: usize = 64 * 1024;

/// The bits of what a receiver over IPv6 is told (rxopt.all).
const TOLD: u32 = ip_flag::RECVPKTINFO6 | ip_flag::RECVHOPLIMIT | ip_flag::RECVTCLASS | rxcontrol::OF_V6;
const PKTINFO: u32 = ip_flag::RECVPKTINFO6 | ip_flag::PKTINFO_2292;
const HOPLIMIT: u32 = ip_flag::RECVHOPLIMIT | ip_flag::HOPLIMIT_2292;

/// setsockopt(2): the extension headers of these control messages replace those that the socket has. The other messages
/// are only checked. Errors: EINVAL, EPERM, and as of sendmsg(2) ENODEV.
pub(super) fn set(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    if value.len() > MAX_CONTROL {
        return Err(Error::Inval);
    }
    let headers = txcontrol::headers_of(g, &cmsg::parse(value))?;
    socket_headers::update(&mut g.common, headers.as_deref().cloned().unwrap_or_default());
    Ok(())
}

/// getsockopt(2) of a stream: control messages. ENOPROTOOPT: of another socket.
pub(super) fn get(g: &SockGuard<'_>, value: &mut [u8]) -> Result<usize> {
    if g.sock.ty != libc::SOCK_STREAM as u16 {
        return Err(Error::NoProtoOpt);
    }
    let c = &g.common;
    let mut told = Vec::new();
    match c.ip_more.as_ref().and_then(|m| m.pktoptions.as_deref()) {
        Some(p) => {
            rxcontrol::ip_control(c, p.rx.dst, (p.rx.ifindex, Ipv4Addr::UNSPECIFIED), (p.rx.ttl, p.rx.tos), &mut told);
            if let IpAddr::V6(dst) = p.rx.dst {
                rxcontrol::add_v6(c, p.headers.as_deref(), &p.rx, (dst, Some(c.sport)), p.frag_max_size, &mut told);
            }
        }
        None => of_socket(c, &mut told),
    }
    Ok(cmsg::emit(&told, true, value).0)
}

/// getsockopt(2) of IP_PKTOPTIONS, of a stream: control messages about the segment that opened the connection, of what
/// the socket asks for; a client has its own address alone. Returns how many bytes they are.
pub(super) fn get_v4(c: &SockCommon, value: &mut [u8]) -> usize {
    let own = match c.rcv_saddr {
        IpAddr::V4(own) => own,
        IpAddr::V6(own) if own.is_unspecified() => Ipv4Addr::UNSPECIFIED,
        // LOOPBACK4_IPV6.
        IpAddr::V6(_) => Ipv4Addr::new(127, 0, 0, 6),
    };
    let mut told = Vec::new();
    if c.flag(flag::PKTINFO) {
        told.push(Control::PktInfo { ifindex: c.mc_index, addr: own.into(), spec_dst: Some(own) });
    }
    if c.flag(flag::RECVTTL) {
        told.push(Control::Ttl(c.mc_ttl.into()));
    }
    if c.flag(flag::RECVTOS) {
        // An int here, unlike a datagram's.
        let data = i32::from(c.rcv_tos).to_ne_bytes().to_vec();
        told.push(Control::Other { level: libc::SOL_IP, ty: libc::IP_TOS, data });
    }
    cmsg::emit(&told, false, value).0
}

/// The IPv4 options of a request's answers.
pub(crate) fn ip_options(syn: Option<&PktOptions>) -> &[u8] {
    let v4 = syn.filter(|p| p.rx.dst.is_ipv4());
    v4.and_then(|p| p.headers.as_deref()).unwrap_or_default()
}

/// What is told without such a packet. The address is the peer's, as on Linux.
fn of_socket(c: &SockCommon, to: &mut Vec<Control>) {
    let more = c.ip_more.as_deref();
    let sticky = more.and_then(|m| m.sticky_pktinfo).unwrap_or((0, Ipv6Addr::UNSPECIFIED));
    let (ifindex, addr) = match (c.mcast_oif, c.daddr) {
        (0, _) => sticky,
        (ifindex, IpAddr::V6(peer)) => (ifindex, peer),
        (ifindex, IpAddr::V4(peer)) => (ifindex, peer.to_ipv6_mapped()),
    };
    let (hops, flowinfo) = (i32::from(c.mcast_hops), more.map_or(0, |m| m.rcv_flowinfo));
    let mut old = |ty, data| to.push(Control::Other { level: libc::SOL_IPV6, ty, data });
    let has = |bit: u32| c.ip_flags & bit != 0;
    if has(ip_flag::RECVPKTINFO6) {
        old(libc::IPV6_PKTINFO, [&addr.octets()[..], &ifindex.to_ne_bytes()].concat());
    }
    if has(ip_flag::RECVHOPLIMIT) {
        old(libc::IPV6_HOPLIMIT, hops.to_ne_bytes().to_vec());
    }
    if has(ip_flag::RECVTCLASS) {
        old(libc::IPV6_TCLASS, (flowinfo >> 20).to_ne_bytes().to_vec());
    }
    if has(ip_flag::PKTINFO_2292) {
        old(IPV6_2292PKTINFO, [&addr.octets()[..], &ifindex.to_ne_bytes()].concat());
    }
    if has(ip_flag::HOPLIMIT_2292) {
        old(IPV6_2292HOPLIMIT, hops.to_ne_bytes().to_vec());
    }
    if has(ip_flag::FLOWINFO) {
        old(IPV6_FLOWINFO, flowinfo.to_be_bytes().to_vec());
    }
}

fn flowinfo(rx: &PacketInfo) -> u32 {
    u32::from(rx.tos) << 20 | rx.flow_label
}

/// What a segment that arrives may be noted for; None where the socket asks for nothing.
#[inline]
pub(crate) fn seen(c: &SockCommon, skb: &mut Skb) -> Option<Box<PktOptions>> {
    // They are not charged to the socket, and no queue holds them.
    let headers = if skb.saved_header.is_some() { skb.saved_header.take() } else { None };
    if c.ip_flags & TOLD == 0 { None } else { taken(skb, headers) }
}

fn taken(skb: &Skb, headers: Option<Box<[u8]>>) -> Option<Box<PktOptions>> {
    let rx = skb.rx.filter(|rx| rx.dst.is_ipv6())?;
    Some(Box::new(PktOptions { rx, headers, frag_max_size: skb.frag_max_size }))
}

/// Whether the packet has what the socket is told of.
fn accepted(c: &SockCommon, p: &PktOptions) -> bool {
    let told = c.ip_more.as_ref().map_or(0, |m| m.rx_headers);
    let headers = p.headers.as_deref().map(socket_headers::Received::of);
    c.ip_flags & ip_flag::FLOWINFO != 0 && flowinfo(&p.rx) != 0 || headers.is_some_and(|h| h.wanted(told))
}

/// The segment was the next in order: what it had is told from now on.
pub(crate) fn note(c: &mut SockCommon, p: Box<PktOptions>) {
    if c.ip_flags & PKTINFO != 0 {
        c.mcast_oif = p.rx.ifindex;
    }
    if c.ip_flags & HOPLIMIT != 0 {
        c.mcast_hops = p.rx.ttl;
    }
    let keep = accepted(c, &p);
    let more = c.ip_more_mut();
    more.rcv_flowinfo = flowinfo(&p.rx);
    let label = p.rx.flow_label;
    more.pktoptions = keep.then_some(p);
    flowlabel::reflect(c, label);
}

/// What a listener's request keeps of its SYN (tcp_v6_init_req); over IPv4 the options of its answers, if it has some
/// (ireq_opt, which shares its place there, too).
pub(crate) fn of_syn(c: &SockCommon, skb: &Skb) -> Option<Box<PktOptions>> {
    if let (Some(header), Some(rx)) = (&skb.saved_header, skb.rx.filter(|rx| rx.dst.is_ipv4())) {
        let options = options::of_segment(Some(header));
        let kept = || Box::new(PktOptions { rx, headers: Some(options.clone()), frag_max_size: 0 });
        return (!options.is_empty()).then(kept);
    }
    if c.ip_flags & (TOLD | ip_flag::REPFLOW) == 0 {
        return None;
    }
    let p = taken(skb, skb.saved_header.clone())?;
    (c.ip_flags & (PKTINFO | HOPLIMIT | ip_flag::REPFLOW) != 0 || accepted(c, &p)).then_some(p)
}

/// A connection begins with what its SYN had, and the flow of the segment that opened it.
pub(crate) fn begin(c: &mut SockCommon, by: &PacketInfo, syn: Option<Box<PktOptions>>) {
    flowlabel::reflect(c, by.flow_label);
    if c.ip_flags & TOLD != 0 && by.dst.is_ipv6() {
        let more = c.ip_more_mut();
        (more.rcv_flowinfo, more.pktoptions) = (flowinfo(by), syn);
    }
}

#[cfg(test)]
mod tests;
