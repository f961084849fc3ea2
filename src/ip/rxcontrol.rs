//! Control messages of received datagrams that few programs ask for: IP options, the original destination, the size of
//! fragments, the flow label, extension headers, and IPv6's older forms. Above: `datagram`, which adds the common ones
//! first. Linux: ip_cmsg_recv_offset, ip6_datagram_recv_specific_ctl, in whose order they come.

use super::datagram::name_of;
use super::options;
use super::socket_headers::Received;
use crate::sock::msg::Control;
use crate::sock::packet::PacketInfo;
use crate::sock::skb::SkbInner;
use crate::sock::sockopt::name_bytes;
use crate::sock::{SockCommon, SockGuard, ip_flag};
use crate::wire::ip;
use std::net::{IpAddr, Ipv6Addr};

const IP_ORIGDSTADDR: i32 = 20;
const IP_RECVFRAGSIZE: i32 = 25;
pub(super) const IPV6_2292PKTINFO: i32 = 2;
pub(super) const IPV6_2292HOPLIMIT: i32 = 8;
pub(super) const IPV6_FLOWINFO: i32 = 11;
const IPV6_ORIGDSTADDR: i32 = 74;
const IPV6_RECVFRAGSIZE: i32 = 77;

const OF_V4: u32 = ip_flag::RECVOPTS | ip_flag::RETOPTS | ip_flag::ORIGDSTADDR | ip_flag::RECVFRAGSIZE;
pub(super) const OF_V6: u32 = ip_flag::FLOWINFO
    | ip_flag::HEADERS6
    | ip_flag::PKTINFO_2292
    | ip_flag::HOPLIMIT_2292
    | ip_flag::ORIGDSTADDR6
    | ip_flag::RECVFRAGSIZE6;

/// Adds what the socket asked for beyond the common options.
#[inline]
pub(super) fn add(g: &SockGuard<'_>, skb: &SkbInner, rx: &PacketInfo, to: &mut Vec<Control>) {
    let c = &g.common;
    if c.ip_flags & (OF_V4 | OF_V6) == 0 {
        return;
    }
    match rx.dst {
        IpAddr::V4(_) => add_v4(g, skb, rx, to),
        IpAddr::V6(dst) => {
            let port = destination_port(skb, 0);
            add_v6(c, skb.saved_header.as_deref(), rx, (dst, port), skb.frag_max_size, to);
        }
    }
}

fn add_v4(g: &SockGuard<'_>, skb: &SkbInner, rx: &PacketInfo, to: &mut Vec<Control>) {
    let flags = g.common.ip_flags;
    let mut push = |ty, data| to.push(Control::Other { level: libc::SOL_IP, ty, data });
    let header = skb.saved_header.as_deref();
    // A raw socket of IPv4 gets the packet with its header.
    let raw = g.sock.ty == libc::SOCK_RAW as u16;
    if let Some(header) = header {
        if flags & ip_flag::RECVOPTS != 0 {
            push(libc::IP_RECVOPTS, header[ip::HEADER_LEN..].to_vec());
        }
        if flags & ip_flag::RETOPTS != 0
            && let (IpAddr::V4(src), IpAddr::V4(dst)) = (rx.src, rx.dst)
            && let Some(answer) = options::of_answer(g.stack, header, None, options::own_address(g.stack, src, dst))
            && !answer.is_empty()
        {
            push(libc::IP_RETOPTS, answer);
        }
    }
    if flags & ip_flag::ORIGDSTADDR != 0
        && let Some(port) = destination_port(skb, if raw { usize::from(skb.nh_len) } else { 0 })
    {
        push(IP_ORIGDSTADDR, name_bytes(name_of(rx.dst, port, 0)));
    }
    if flags & ip_flag::RECVFRAGSIZE != 0 && skb.frag_max_size != 0 {
        push(IP_RECVFRAGSIZE, i32::from(skb.frag_max_size).to_ne_bytes().to_vec());
    }
}

/// `headers`: the extension headers, with the IPv6 header in front; `dst` has the port that the upper layer names.
pub(super) fn add_v6(
    c: &SockCommon,
    headers: Option<&[u8]>,
    rx: &PacketInfo,
    (dst, port): (Ipv6Addr, Option<u16>),
    frag_max_size: u16,
    to: &mut Vec<Control>,
) {
    let flags = c.ip_flags;
    let told = c.ip_more.as_ref().map_or(0, |m| m.rx_headers);
    let headers = headers.filter(|_| told != 0).map(Received::of);
    let mut push = |ty, data| to.push(Control::Other { level: libc::SOL_IPV6, ty, data });
    let flowinfo = u32::from(rx.tos) << 20 | rx.flow_label;
    if flags & ip_flag::FLOWINFO != 0 && flowinfo != 0 {
        push(IPV6_FLOWINFO, flowinfo.to_be_bytes().to_vec());
    }
    if let Some(headers) = &headers {
        headers.tell(told, |ty, h| push(ty, h.to_vec()));
    }
    if flags & ip_flag::PKTINFO_2292 != 0 {
        push(IPV6_2292PKTINFO, [&dst.octets()[..], &rx.ifindex.to_ne_bytes()].concat());
    }
    if flags & ip_flag::HOPLIMIT_2292 != 0 {
        push(IPV6_2292HOPLIMIT, i32::from(rx.ttl).to_ne_bytes().to_vec());
    }
    if let Some(headers) = &headers {
        headers.tell_old(told, |ty, h| push(ty, h.to_vec()));
    }
    if flags & ip_flag::ORIGDSTADDR6 != 0
        && let Some(port) = port
    {
        push(IPV6_ORIGDSTADDR, name_bytes(name_of(rx.dst, port, rx.ifindex)));
    }
    if flags & ip_flag::RECVFRAGSIZE6 != 0 && frag_max_size != 0 {
        push(IPV6_RECVFRAGSIZE, i32::from(frag_max_size).to_ne_bytes().to_vec());
    }
}

/// Bytes 2 and 3 of the transport header, which begins at byte `at`, whatever the protocol has there.
fn destination_port(skb: &SkbInner, at: usize) -> Option<u16> {
    let mut ports = [0; 4];
    (skb.copy_out(at, &mut ports) == 4).then(|| u16::from_be_bytes([ports[2], ports[3]]))
}
