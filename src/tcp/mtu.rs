//! Segment sizes: path MTU to MSS and back, what a super-packet may hold, and what happens when ICMP lowers the path
//! MTU. Above: `sendmsg`, `xmit`, `rcv` (ICMP). Below: routes. Linux: tcp_sync_mss, tcp_current_mss, tcp_send_mss,
//! tcp_v4_mtu_reduced. RFC 9293 §3.7, RFC 1191.

use super::mtu_probe;
use super::recovery;
use super::segment;
use super::sock_ops;
use super::tcb::{Cx, MSS_DEFAULT, TcpSock};
use crate::base::ways::Way;
use crate::ip::socket_headers;
use crate::sock::dst::Dst;
use crate::sock::state::State;
use crate::stack::Stack;
use crate::wire::tcp::HEADER_LEN;

/// Header bytes that the largest super-packet leaves room for (MAX_TCP_HEADER and one byte).
const HEADER_ROOM: u32 = 321;
/// Least MSS that a peer's small window may bring us to, before headers (RFC 791's 68).
const MIN_MSS_FLOOR: i32 = 68;

/// Bytes of IP header in front of a segment of this connection.
#[inline]
pub fn net_header_len(cx: &Cx<'_>) -> u32 {
    if cx.sk.daddr.is_ipv6() { 40 } else { 20 }
}

/// Bytes of IP_OPTIONS, or of extension headers, in front of a segment of this connection (icsk_ext_hdr_len).
#[inline]
pub(super) fn ip_options_len(cx: &Cx<'_>) -> u32 {
    match &cx.sk.ip_more {
        None => 0,
        Some(more) if cx.sk.daddr.is_ipv4() => more.options.len() as u32,
        Some(_) => socket_headers::room_of(cx.sk),
    }
}

/// Payload of a full segment over a path MTU of `pmtu` bytes, timestamps counted, SACK blocks not (tcp_mtu_to_mss).
pub fn mtu_to_mss(cx: &Cx<'_>, pmtu: u32) -> u32 {
    mtu_to_mss_bare(cx, pmtu).saturating_sub(u32::from(cx.tp.tcp_header_len) - HEADER_LEN as u32).max(1)
}

/// The same without any TCP option (__tcp_mtu_to_mss).
pub fn mtu_to_mss_bare(cx: &Cx<'_>, pmtu: u32) -> u32 {
    let mut mss = i64::from(pmtu) - i64::from(net_header_len(cx)) - HEADER_LEN as i64;
    // IP options and extension headers take of the peer's MSS, too (icsk_ext_hdr_len).
    mss = mss.min(i64::from(cx.tp.rx_opt.mss_clamp)) - i64::from(ip_options_len(cx));
    // A floor, because with a tiny MSS almost all of each packet would be header (CVE-2019-11479).
    mss.max(i64::from(cx.stack.sysctl.tcp_min_snd_mss())).max(1) as u32
}

/// The packet that a segment of `mss` bytes makes (tcp_mss_to_mtu).
pub(super) fn mss_to_mtu(cx: &Cx<'_>, mss: u32) -> u32 {
    mss.saturating_add(u32::from(cx.tp.tcp_header_len) + ip_options_len(cx) + net_header_len(cx))
}

/// Most bytes of one packet's TCP header and payload: what the path's MTU and the peer's MSS allow (RFC 6691).
pub fn max_segment(cx: &Cx<'_>) -> usize {
    let by_path = cx.tp.pmtu_cookie.saturating_sub(net_header_len(cx) + ip_options_len(cx));
    by_path.min(u32::from(cx.tp.rx_opt.mss_clamp) + HEADER_LEN as u32) as usize
}

/// `size`, but no more than half of the largest window the peer ever offered: otherwise a small window would never let
/// two segments out, and the peer would delay its acknowledgement of one (RFC 9293 §3.8.6.2.1). Linux:
/// tcp_bound_to_half_wnd.
pub fn bound_to_half_wnd(tp: &TcpSock, size: u32) -> u32 {
    let cutoff = if tp.max_window > u32::from(MSS_DEFAULT) { tp.max_window >> 1 } else { tp.max_window };
    if cutoff != 0 && size > cutoff {
        cutoff.max((MIN_MSS_FLOOR - i32::from(tp.tcp_header_len)).max(1) as u32)
    } else {
        size
    }
}

/// Recomputes `mss_cache` for a path MTU of `pmtu` bytes and returns it (tcp_sync_mss).
pub fn sync_mss(cx: &mut Cx<'_>, pmtu: u32) -> u32 {
    let mut mss = bound_to_half_wnd(cx.tp, mtu_to_mss(cx, pmtu));
    cx.tp.pmtu_cookie = pmtu;
    if let Some(proven) = mtu_probe::limit(cx, pmtu) {
        mss = mss.min(mtu_to_mss(cx, proven));
    }
    cx.tp.mss_cache = mss;
    mss
}

/// Payload bytes of a segment sent now: `mss_cache`, brought up to date with the cached route, less the SACK blocks
/// that are due and what hooks write (tcp_current_mss).
#[inline(always)]
pub fn current_mss(cx: &mut Cx<'_>) -> u32 {
    let mut mss = cx.tp.mss_cache;
    if let Some(mtu) = cx.sk.dst.as_ref().map(|d| d.mtu)
        && mtu != cx.tp.pmtu_cookie
    {
        mss = sync_mss(cx, mtu);
    }
    if Way::Write.is_open() && !segment::has_more_options(cx) {
        return mss;
    }
    mss_beside_options(cx, mss)
}

/// `mss` less what the options take that are not in each segment.
#[inline(never)]
fn mss_beside_options(cx: &mut Cx<'_>, mut mss: u32) -> u32 {
    let own = segment::established_options(cx, None).len();
    let header = (HEADER_LEN + own + sock_ops::reserved(cx, own)) as u32;
    let assumed = u32::from(cx.tp.tcp_header_len);
    if header != assumed {
        mss = (mss + assumed).saturating_sub(header).max(1);
    }
    mss
}

/// The size a super-packet is filled to: a multiple of `mss`, or one `mss` for urgent data (tcp_xmit_size_goal).
#[inline(always)]
fn xmit_size_goal(cx: &mut Cx<'_>, mss: u32, large_allowed: bool) -> u32 {
    if !large_allowed {
        return mss;
    }
    let (max_size, max_segs) = gso_limits(cx);
    let most = bound_to_half_wnd(cx.tp, max_size);
    let mut goal = u32::from(cx.tp.gso_segs) * mss;
    // Divide only when the last result does not fit any more.
    if most < goal || most >= goal + mss {
        cx.tp.gso_segs = (most / mss.max(1)).min(max_segs).min(u32::from(u16::MAX)) as u16;
        goal = u32::from(cx.tp.gso_segs) * mss;
    }
    goal.max(mss)
}

/// MSS and size of a super-packet for a send with these MSG_* flags (tcp_send_mss).
#[inline(always)]
pub fn send_mss(cx: &mut Cx<'_>, flags: i32) -> (u32, u32) {
    let mss = current_mss(cx);
    (mss, xmit_size_goal(cx, mss, flags & libc::MSG_OOB == 0))
}

/// Largest payload and number of segments of a super-packet on the present route; asked of the device once a route
/// (sk_setup_caps).
pub fn gso_limits(cx: &mut Cx<'_>) -> (u32, u32) {
    if cx.tp.gso_max_size == 0
        && let Some(dst) = &cx.sk.dst
    {
        let caps = dst.dev.caps();
        let size = caps.gso_max_size.min(crate::sock::skb::GSO_MAX_SIZE);
        cx.tp.gso_max_size = size.saturating_sub(HEADER_ROOM + ip_options_len(cx)).max(1);
        cx.tp.gso_max_segs = caps.gso_max_segs.max(1);
        cx.tp.departure_times = caps.departure_times;
    }
    match cx.tp.gso_max_size {
        0 => (1, 1),
        // Each segment has a signature of its own (sk_gso_disable).
        n if cx.tp.auth.is_some() => (n, 1),
        n => (n, u32::from(cx.tp.gso_max_segs)),
    }
}

/// The MSS a route lets us advertise, bytes: the route's, or what its MTU leaves (ipv4_default_advmss,
/// ip6_default_advmss).
pub fn default_advmss(stack: &Stack, dst: &Dst, v6: bool) -> u16 {
    if dst.metrics.advmss != 0 {
        return dst.metrics.advmss.min(u32::from(u16::MAX)) as u16;
    }
    // An IPv6 header does not count against the greatest length that it names.
    let (headers, least, most) = match v6 {
        true => (60, stack.sysctl.route6_min_adv_mss().max(0) as u32, 65_535 - 20),
        false => (40, stack.sysctl.route_min_adv_mss().max(0) as u32, 65_535 - 40),
    };
    dst.mtu.saturating_sub(headers).max(least).min(most) as u16
}

/// The MSS for a SYN: lowers `advmss` when the route's is lower by now (tcp_advertise_mss).
pub fn advertise_mss(cx: &mut Cx<'_>) -> u16 {
    if let Some(dst) = &cx.sk.dst {
        let m = default_advmss(cx.stack, dst, cx.sk.daddr.is_ipv6());
        cx.tp.advmss = cx.tp.advmss.min(m);
    }
    cx.tp.advmss
}

/// The path MTU was lowered to `told` by ICMP, and the route table has it: takes the new size and retransmits what does
/// not fit (tcp_v4_mtu_reduced). Ignored where the program wants no path MTU discovery.
pub fn mtu_reduced(cx: &mut Cx<'_>, told: u32) {
    if matches!(cx.state(), State::Listen | State::Close) {
        return;
    }
    // The cached route is older than the new path MTU.
    segment::reset_dst(cx);
    if segment::route(cx).is_err() {
        return;
    }
    let Some((mtu, locked)) = cx.sk.dst.as_ref().map(|d| (d.mtu, d.mtu_locked)) else { return };
    if cx.sk.daddr.is_ipv4() && told < mtu && segment::dont_fragment(cx.sk.pmtudisc, locked) {
        // The route does not go below its least MTU, and packets of that size will not pass: should the connection time
        // out, this is why.
        cx.sk.err_soft = libc::EMSGSIZE;
    }
    let wanted = i32::from(cx.sk.pmtudisc) != libc::IP_PMTUDISC_DONT;
    // IP_PMTUDISC_INTERFACE (4) and OMIT (5) trust the interface and not what ICMP says.
    let accepts = cx.sk.pmtudisc < 4;
    if wanted && accepts && cx.tp.pmtu_cookie > mtu {
        sync_mss(cx, mtu);
        recovery::simple_retransmit(cx);
    }
}
