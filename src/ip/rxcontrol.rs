//! Control messages of received datagrams: the common ones first, then those that few programs ask for, IP options, the
//! original destination, the size of fragments, the flow label, extension headers, and IPv6's older forms. Above:
//! `datagram`. Linux: ip_cmsg_recv_offset, ip6_datagram_recv_ctl, in whose order they come.

use super::kind::{is_ping, name_of};
use super::socket_headers::Received;
use super::{options, route};
use crate::base::env::Instant;
pub(super) use crate::sock::cmsg::{IPV6_2292HOPLIMIT, IPV6_2292PKTINFO};
use crate::sock::exterr::{ErrEntry, IpPacket, origin};
use crate::sock::msg::{Control, RecvMsg};
use crate::sock::packet::PacketInfo;
use crate::sock::skb::{Csum, Skb, SkbInner};
use crate::sock::sockopt::name_bytes;
use crate::sock::tstamp;
use crate::sock::{Sock, SockCommon, SockGuard, flag, ip_flag, more};
use crate::wire::{checksum, ip, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

/// Words of the control block of a packet in a receive queue, as [`arrived`] and [`control`] use it: for IP_PKTINFO the
/// interface in the upper half and ipi_spec_dst in the lower (PKTINFO_SKB_CB); packets dropped before it
/// (SOCK_SKB_CB.dropcount). The third is `datagram`'s.
const CB_PKTINFO: usize = 0;
const CB_DROPS: usize = 1;

// Numbers of options that are also types of control messages.
pub(super) const IP_ORIGDSTADDR: i32 = 20;
pub(super) const IP_CHECKSUM: i32 = 23;
pub(super) const IP_RECVFRAGSIZE: i32 = 25;
pub(super) const IPV6_FLOWINFO: i32 = 11;
pub(super) const IPV6_PATHMTU: i32 = 61;
pub(super) const IPV6_ORIGDSTADDR: i32 = 74;
pub(super) const IPV6_RECVFRAGSIZE: i32 = 77;

const OF_V4: u32 =
    ip_flag::RECVOPTS | ip_flag::RETOPTS | ip_flag::ORIGDSTADDR | ip_flag::CHECKSUM | ip_flag::RECVFRAGSIZE;
pub(super) const OF_V6: u32 = ip_flag::FLOWINFO
    | ip_flag::HEADERS6
    | ip_flag::PKTINFO_2292
    | ip_flag::HOPLIMIT_2292
    | ip_flag::ORIGDSTADDR6
    | ip_flag::RECVFRAGSIZE6;

/// Notes what a datagram tells of its arrival, before it is queued: what was dropped by then, and for IP_PKTINFO of
/// IPv4, where the option is set by then, the interface and which address of this host an answer comes from. A ping
/// socket has the interface in any case, and no such address. Linux: sock_skb_set_dropcount, ipv4_pktinfo_prepare,
/// fib_compute_spec_dst.
pub(crate) fn arrived(g: &SockGuard<'_>, skb: &mut Skb) {
    let Some(rx) = skb.rx else { return };
    let c = &g.common;
    if c.flag(flag::RXQ_OVFL) {
        skb.cb[CB_DROPS] = u64::from(g.sock.drops.load(Ordering::Relaxed));
    }
    if rx.dst.is_ipv6() {
        if c.ip_flags & ip_flag::HEADERS6 == 0 {
            // They are not charged to the socket.
            skb.saved_header = None;
        }
        return;
    }
    if let Some(note) = pktinfo(g, &rx) {
        skb.cb[CB_PKTINFO] = note;
    }
}

/// What IP_PKTINFO says of a packet of IPv4, as a word: interface, and ipi_spec_dst. None: the socket does not ask.
fn pktinfo(g: &SockGuard<'_>, rx: &PacketInfo) -> Option<u64> {
    let (c, IpAddr::V4(dst)) = (&g.common, rx.dst) else { return None };
    let ping = g.sock.ty == libc::SOCK_DGRAM as u16 && g.sock.protocol == libc::IPPROTO_ICMP as u16;
    let asked = c.flag(flag::PKTINFO) || c.ip_flags & ip_flag::RECVPKTINFO6 != 0;
    let own = match (ping, asked) {
        (true, _) => Ipv4Addr::UNSPECIFIED,
        (_, false) => return None,
        _ if route::is_local(g.stack, rx.dst) => dst,
        // Of a packet to a group or to all: the source of what goes to its sender.
        _ => match route::lookup(g.stack, rx.src, None, 0).map(|d| d.src) {
            Ok(IpAddr::V4(own)) => own,
            _ => Ipv4Addr::UNSPECIFIED,
        },
    };
    Some(u64::from(rx.ifindex) << 32 | u64::from(own.to_bits()))
}

/// Adds the control messages that the socket asks for, of a packet that [`arrived`] has noted.
pub(super) fn control(g: &SockGuard<'_>, skb: &Skb, from: usize, msg: &mut RecvMsg<'_, '_>) {
    control_with(g, skb, from, (skb.cb[CB_PKTINFO], skb.cb[CB_DROPS] as u32), msg);
}

/// Adds the control messages that the socket asks for, of a received packet whose control block is its protocol's own:
/// what SO_RXQ_OVFL and ipi_spec_dst say is found now, not when the packet was queued.
pub fn control_of(g: &SockGuard<'_>, skb: &SkbInner, msg: &mut RecvMsg<'_, '_>) {
    let noted = skb.rx.and_then(|rx| pktinfo(g, &rx)).unwrap_or_default();
    control_with(g, skb, 0, (noted, g.sock.drops.load(Ordering::Relaxed)), msg);
}

fn control_with(g: &SockGuard<'_>, skb: &SkbInner, from: usize, (noted, drops): (u64, u32), msg: &mut RecvMsg<'_, '_>) {
    let c = &g.common;
    tstamp::received(g, skb.tstamp, false, &mut msg.control);
    // Of SOL_SOCKET a ping socket tells the time alone (ping_recvmsg).
    if !is_ping(g.sock) {
        sock_control(c, skb, drops, msg);
    }
    if let Some(rx) = skb.rx {
        let info = match rx.dst {
            IpAddr::V4(_) => ((noted >> 32) as u32, Ipv4Addr::from_bits(noted as u32)),
            IpAddr::V6(_) => (rx.ifindex, Ipv4Addr::UNSPECIFIED),
        };
        ip_control(c, rx.dst, info, (rx.ttl, rx.tos), &mut msg.control);
        add(g, skb, &rx, from, &mut msg.control);
    }
}

/// What was dropped, the packet's mark and its priority, where the socket asks for them (sock_recv_cmsgs).
fn sock_control(c: &SockCommon, skb: &SkbInner, drops: u32, msg: &mut RecvMsg<'_, '_>) {
    if c.flag(flag::RXQ_OVFL) && drops > 0 {
        msg.control.push(Control::RxqOvfl(drops));
    }
    if c.more & more::RCVMARK != 0 {
        msg.control.push(Control::Mark(skb.mark));
    }
    if c.more & more::RCVPRIORITY != 0 {
        msg.control.push(Control::Priority(skb.priority));
    }
}

/// What a socket wants to know of a packet's IP header: its destination, its interface with ipi_spec_dst, its TTL and
/// TOS.
pub(super) fn ip_control(
    c: &SockCommon,
    dst: IpAddr,
    (ifindex, spec_dst): (u32, Ipv4Addr),
    (ttl, tos): (u8, u8),
    to: &mut Vec<Control>,
) {
    let (v4, ttl, tos) = (dst.is_ipv4(), i32::from(ttl), i32::from(tos));
    // A socket of IPv6 has both families' options: IPV6_RECVPKTINFO is for packets of either, the others for their
    // own (ip_cmsg_recv, ip6_datagram_recv_common_ctl, ip6_datagram_recv_specific_ctl).
    if c.ip_flags & ip_flag::RECVPKTINFO6 != 0 {
        let addr = match dst {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        to.push(Control::PktInfo { ifindex, addr: addr.into(), spec_dst: None });
    }
    if v4 && c.flag(flag::PKTINFO) {
        to.push(Control::PktInfo { ifindex, addr: dst, spec_dst: Some(spec_dst) });
    }
    if v4 && c.flag(flag::RECVTTL) {
        to.push(Control::Ttl(ttl));
    }
    if v4 && c.flag(flag::RECVTOS) {
        to.push(Control::Tos(tos));
    }
    if !v4 && c.ip_flags & ip_flag::RECVHOPLIMIT != 0 {
        to.push(Control::HopLimit(ttl));
    }
    if !v4 && c.ip_flags & ip_flag::RECVTCLASS != 0 {
        to.push(Control::Tclass(tos));
    }
}

/// Adds what the socket asked for beyond the common options.
#[inline]
fn add(g: &SockGuard<'_>, skb: &SkbInner, rx: &PacketInfo, from: usize, to: &mut Vec<Control>) {
    let c = &g.common;
    if c.ip_flags & (OF_V4 | OF_V6) == 0 {
        return;
    }
    match rx.dst {
        IpAddr::V4(_) => add_v4(g, skb, rx, from, to),
        IpAddr::V6(dst) => {
            let port = destination_port(skb, 0);
            add_v6(c, skb.saved_header.as_deref(), rx, (dst, port), skb.frag_max_size, to);
        }
    }
}

fn add_v4(g: &SockGuard<'_>, skb: &SkbInner, rx: &PacketInfo, from: usize, to: &mut Vec<Control>) {
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
    if flags & ip_flag::CHECKSUM != 0
        && let Some(sum) = summed(g.sock, skb, from)
    {
        push(IP_CHECKSUM, sum.to_ne_bytes().to_vec());
    }
    if flags & ip_flag::RECVFRAGSIZE != 0 && skb.frag_max_size != 0 {
        push(IP_RECVFRAGSIZE, i32::from(skb.frag_max_size).to_ne_bytes().to_vec());
    }
}

/// The sum that IP_CHECKSUM tells: of a datagram's payload from a byte on (SO_PEEK_OFF), where this host has summed it
/// before the call reads it, or of a ping socket's message with its header (ip_cmsg_recv_checksum).
fn summed(sock: &Sock, skb: &SkbInner, from: usize) -> Option<u32> {
    let mut all = vec![0; skb.len()];
    skb.copy_out(0, &mut all);
    if is_ping(sock) {
        return Some(checksum::unfolded(&all, 0));
    }
    let (header, payload) = all.split_at_checked(udp::HEADER_LEN).filter(|_| skb.csum == Csum::Complete)?;
    let sum = match all.len() <= udp::CHECKSUM_BREAK {
        // Summed when it came, and the header was taken out again (skb_postpull_rcsum).
        true => checksum::unfolded(header, checksum::unfolded(&all, 0).wrapping_neg()).wrapping_neg(),
        false => checksum::unfolded(payload, 0),
    };
    // csum_sub, which is not done for nothing: it changes 0 to its other form.
    let (sum, carry) = match from {
        0 => (sum, false),
        _ => sum.overflowing_add(!checksum::unfolded(payload.get(..from)?, 0)),
    };
    Some(sum + u32::from(carry))
}

/// Adds what the socket asked for beyond the common options of the packet that a queued error is about, an ICMP message
/// or one of this host's. Of an ICMP message the port is what stands in the bytes that it quoted where a header would
/// have it (ip_icmp_error moves the transport header there).
pub(super) fn of_error(c: &SockCommon, p: &IpPacket, e: &ErrEntry, to: &mut Vec<Control>) {
    if c.ip_flags & (OF_V4 | OF_V6) == 0 {
        return;
    }
    let quotes = matches!(e.err.origin, origin::ICMP | origin::ICMP6);
    let port = e.payload.get(2..4).filter(|_| quotes).map(|b| u16::from_be_bytes([b[0], b[1]]));
    match p.dst {
        IpAddr::V4(_) => {
            if let Some(port) = port.filter(|_| c.ip_flags & ip_flag::ORIGDSTADDR != 0) {
                let data = name_bytes(name_of(p.dst, port, 0));
                to.push(Control::Other { level: libc::SOL_IP, ty: IP_ORIGDSTADDR, data });
            }
            if quotes && c.ip_flags & ip_flag::CHECKSUM != 0 {
                // That of any ICMP message whose checksum is right.
                to.push(Control::Other { level: libc::SOL_IP, ty: IP_CHECKSUM, data: vec![0xff; 4] });
            }
        }
        IpAddr::V6(dst) => {
            let rx = PacketInfo {
                src: p.dst,
                dst: p.dst,
                protocol: 0,
                tos: p.tos,
                ttl: p.ttl,
                ifindex: p.ifindex,
                not_unicast: false,
                flow_label: p.flow_label,
                now: Instant::ZERO,
            };
            add_v6(c, None, &rx, (dst, port), 0, to);
        }
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
