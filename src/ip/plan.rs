//! How a datagram leaves, decided from the call, the socket and the route: [`plan`] makes a [`Plan`], which fits the
//! datagram to the path and hands it to IP. Above: UDP, ping, raw, `datagram` (connect). Below: `txcontrol`, `route`,
//! `output`. Linux: udp_sendmsg, udpv6_sendmsg, and what raw and ping sockets do alike; ip_setup_cork.

use super::errors::local_too_long;
use super::kind::{any_source, is_ping, loops, name_of, scope_of};
use super::output::{IpTx, is_looped, xmit, xmit_looped, xmit_multicast, xmit_with_headers, xmit_with_options};
use super::socket_headers::Chain;
use super::{flowlabel, options, route, socket_headers, sockopt, txcontrol};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::dst::{Dst, DstKind};
use crate::sock::ip_more::TxHeaders;
use crate::sock::msg::Control;
use crate::sock::skb::{Skb, TxOwner};
use crate::sock::state::State;
use crate::sock::tstamp::Cookie;
use crate::sock::{SockCommon, SockGuard, flag, ip_flag};
use crate::stack::Stack;
use crate::wire::ip::Ipv4Repr;
use crate::wire::proto;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Where a datagram goes, and what of its header the call or the socket decided.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The route.
    pub dst: Arc<Dst>,
    /// Source address.
    pub src: IpAddr,
    /// Destination; this host's address where the call named the unspecified one.
    pub to: SocketAddr,
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Flow label, and a traffic class that is not sent.
    pub(crate) flowinfo: u32,
    /// A copy for this stack, of a datagram to a group.
    pub looped: bool,
    /// IPV6_DONTFRAG.
    pub dont_frag: bool,
    /// Extension headers.
    pub(crate) headers: Option<Arc<TxHeaders>>,
    /// UDP_SEGMENT of this call.
    pub segment: Option<u16>,
    /// Which timestamps are reported.
    pub(crate) stamps: Cookie,
    /// When it leaves at the earliest (SCM_TXTIME), for a device that keeps departure times; `Instant::ZERO`: at once.
    pub(crate) tx_time: Instant,
    /// SO_MARK and SO_PRIORITY.
    pub(crate) mark: u32,
    /// See `mark`.
    pub(crate) priority: u32,
    /// The call's IP options (IP_RETOPTS), in place of the socket's.
    pub(crate) options: Option<Box<[u8]>>,
}

/// Decides how a datagram leaves. `to`: the call's name or the socket's peer, unmapped, with its flow information.
/// Errors: EINVAL (control data, a flow label that is not leased; port 0 is the caller's), ENETUNREACH, EACCES
/// (broadcast without SO_BROADCAST), and what the route says.
pub fn plan(g: &mut SockGuard<'_>, to: SocketAddr, control: &[Control], flags: i32) -> Result<Plan> {
    let c = &g.common;
    let mut to = to;
    let flowinfo = flowlabel::take(&mut to);
    let mut to = in_its_family(c, to)?;
    let v4 = to.is_ipv4();
    // An address of IPv6 that connect chose is no source over IPv4: the route has one.
    let own = Some(c.saddr).filter(|a| !a.is_unspecified() && a.is_ipv4() == v4);
    let mapped_own = !v4 && (c.saddr.is_ipv4() || c.rcv_saddr.is_ipv4());
    let cached = |to: SocketAddr| {
        let scoped = scope_of(to) != 0 && scope_of(to) != c.bound_dev_if;
        let of_peer = control.is_empty() && g.sock.state() == State::Established && c.daddr == to.ip() && !scoped;
        c.dst.as_ref().filter(|d| of_peer && d.check(g.stack))
    };
    // Ping sockets send what labels they like (ping_v6_sendmsg).
    let ping = !v4 && is_ping(g.sock);
    // The association's label was looked up by connect.
    let to_peer = g.sock.state() == State::Established && c.daddr == to.ip() && c.flow_label == flowinfo;
    let look_up = |flowinfo: u32| match flowinfo {
        0 => Ok(None),
        flowinfo => flowlabel::check(g.stack, c, g.now(), flowinfo),
    };
    let mut lease = if ping || to_peer { None } else { look_up(flowinfo)? };
    let asked = txcontrol::asked_for(g, v4, (flowinfo, scope_of(to)), control)?;
    if lease.is_none() && !ping && !control.is_empty() {
        lease = look_up(asked.flowinfo)?;
    }
    let c = &g.common;
    let own = own.filter(|_| !asked.by_route);
    if let Some(IpAddr::V4(a)) = own
        && v4
        && !any_source(c)
        && asked.src.is_none()
        && cached(to).is_none()
    {
        // A socket of IPv6 may be bound to a v4-mapped address that is no source, unless the call names another.
        is_source(g.stack, a)?;
    }
    let group = to.ip().is_multicast();
    let of_group = || c.ip_more.as_ref()?.mc_addr.filter(|_| group && v4).map(IpAddr::V4);
    let src = asked.src.or(own).or_else(of_group);
    let oif = interface(c, (v4, ping), to, asked.oif)?;
    to.set_ip(route::this_host(g.stack, to.ip(), src, oif));
    // Ping sockets send none (ping_v6_sendmsg).
    let headers = if v4 || ping { None } else { asked.headers.clone().or_else(|| sticky_headers(c)) };
    let headers = if let Some(of_lease) = lease { flowlabel::merge(of_lease, headers) } else { headers };
    let dst = match cached(to) {
        Some(d) => d.clone(),
        None => route::lookup(g.stack, socket_headers::first_hop(headers.as_deref(), to.ip()), src, oif)?,
    };
    let mapped = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
    if asked.src.map_or(mapped_own, mapped) {
        // ip6_dst_lookup_tail: a v4-mapped source reaches no address of IPv6.
        return Err(Error::AfNoSupport);
    }
    check_route(g, &dst, to.ip(), flags)?;
    let ttl = asked.ttl.or_else(|| u8::try_from(socket_ttl(c, group, v4)).ok());
    let ttl = ttl.unwrap_or_else(|| super::output::default_ttl(g.stack, &dst, v4));
    let tos = asked.tos.unwrap_or(if v4 { c.tos } else { c.tclass });
    let dont_frag = asked.dont_frag.unwrap_or(c.flag(flag::DONTFRAG));
    let looped = group && loops(c, v4);
    let src = src.unwrap_or(dst.src);
    // A group cannot be the source address, although a socket may be bound to one to receive.
    let src = if src.is_multicast() { dst.src } else { src };
    Ok(Plan {
        dst,
        src,
        to,
        tos,
        ttl,
        flowinfo: asked.flowinfo,
        looped,
        dont_frag,
        headers,
        segment: asked.segment,
        stamps: asked.stamps,
        tx_time: asked.tx_time,
        mark: asked.mark,
        priority: asked.priority,
        options: asked.options,
    })
}

/// A destination in the family that it is reached by. ENETUNREACH: that is IPv4, and the socket is of IPv6 alone.
fn in_its_family(c: &SockCommon, mut to: SocketAddr) -> Result<SocketAddr> {
    if to.is_ipv6() && to.ip().is_unspecified() && c.rcv_saddr.is_ipv4() {
        // Of a socket bound to a v4-mapped address: the IPv4 loopback.
        to.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    if to.is_ipv4() && c.flag(flag::V6ONLY) { Err(Error::NetUnreach) } else { Ok(to) }
}

/// Whether an address may be a source (ip_route_output_key_hash_rcu).
fn is_source(stack: &Stack, a: Ipv4Addr) -> Result<()> {
    if a.is_multicast() || a.is_broadcast() {
        return Err(Error::Inval);
    }
    if route::is_local(stack, a.into()) { Ok(()) } else { Err(Error::NetUnreach) }
}

fn sticky_headers(c: &SockCommon) -> Option<Arc<TxHeaders>> {
    c.ip_more.as_ref().and_then(|m| m.headers.clone())
}

/// Whether the socket and the call take a route: SO_BROADCAST, SO_DONTROUTE and MSG_DONTROUTE; and MSG_CONFIRM.
fn check_route(g: &SockGuard<'_>, dst: &Dst, to: IpAddr, flags: i32) -> Result<()> {
    if dst.kind == DstKind::Broadcast && !g.common.flag(flag::BROADCAST) {
        return Err(Error::Acces);
    }
    if flags & libc::MSG_DONTROUTE != 0 || g.common.flag(flag::LOCALROUTE) {
        route::on_link(g.stack, dst)?;
    }
    if flags & libc::MSG_CONFIRM != 0 {
        super::neigh::confirm(g.stack, &dst.dev, dst.gateway.unwrap_or(to), g.now());
    }
    Ok(())
}

/// The interface by which a datagram to `to` leaves; 0: the route's. `asked`: of the call's control messages.
fn interface(c: &SockCommon, (v4, ping): (bool, bool), to: SocketAddr, asked: u32) -> Result<u32> {
    let of_socket = if c.bound_dev_if == 0 && !v4 { txcontrol::sticky_if(c) } else { c.bound_dev_if };
    let mut oif = if asked != 0 { asked } else { of_socket };
    match scope_of(to) {
        0 => {}
        // The name's goes before the socket's, but not with ping sockets.
        scope if asked != 0 && asked != scope => return Err(Error::Inval),
        scope if ping && c.bound_dev_if != 0 && c.bound_dev_if != scope => return Err(Error::Inval),
        scope => oif = scope,
    }
    if to.ip().is_multicast() && oif == 0 {
        oif = match to {
            SocketAddr::V6(a) if a.scope_id() != 0 => a.scope_id(),
            SocketAddr::V6(_) => c.mcast_oif,
            SocketAddr::V4(_) => c.mc_index,
        };
    }
    if oif == 0 {
        oif = c.ip_more.as_ref().map_or(0, |m| if v4 { m.unicast_if.0 } else { m.unicast_if.1 });
    }
    Ok(oif)
}

/// TTL or hop limit that the socket sets, for a group or a host; negative: none.
fn socket_ttl(c: &SockCommon, group: bool, v4: bool) -> i16 {
    match (group, v4) {
        (true, true) => c.mc_ttl.into(),
        (true, false) => c.mcast_hops.into(),
        (false, true) => c.ttl,
        (false, false) => c.hops,
    }
}

/// Whether an IP_MTU_DISCOVER looks at the device's MTU alone (ip_sk_use_pmtu).
fn ignores_path(mode: i32) -> bool {
    matches!(mode, libc::IP_PMTUDISC_PROBE | libc::IP_PMTUDISC_INTERFACE | libc::IP_PMTUDISC_OMIT)
}

impl Plan {
    /// Whether DF is set on a datagram of `len` bytes, IP header included, by the socket's IP_MTU_DISCOVER. EMSGSIZE,
    /// also queued with the MTU: it is too long and must not be fragmented (__ip_append_data, ip6_append_data).
    pub fn fit(&mut self, g: &mut SockGuard<'_>, len: usize) -> Result<bool> {
        let mode = i32::from(g.common.pmtudisc);
        if ignores_path(mode) {
            let mtu = self.dst.dev.caps().mtu.min(if self.to.is_ipv4() { 65_535 } else { 65_575 });
            if mtu != self.dst.mtu {
                self.dst = Arc::new(Dst { mtu, ..(*self.dst).clone() });
            }
        }
        let len = len + self.options_len(g);
        let fits = len <= self.dst.mtu as usize;
        let least = self.least_mtu(g);
        if !self.to.is_ipv4() && self.dont_frag && len > least as usize {
            // The program is told of the path's MTU with its next receive (ipv6_local_rxpmtu).
            if g.common.ip_flags & ip_flag::RECVPATHMTU != 0 {
                let to = name_of(self.to.ip(), 0, g.common.bound_dev_if);
                g.common.ip_more_mut().rx_path_mtu = Some((to, least));
            }
            local_too_long(g, self.to, least);
            return Err(Error::MsgSize);
        }
        let never_cut =
            matches!(mode, libc::IP_PMTUDISC_DO | libc::IP_PMTUDISC_PROBE) || mode == libc::IP_PMTUDISC_INTERFACE;
        if len > least as usize && never_cut {
            local_too_long(g, self.to, least);
            return Err(Error::MsgSize);
        }
        Ok(match mode {
            libc::IP_PMTUDISC_DO | libc::IP_PMTUDISC_PROBE => true,
            _ => fits && sockopt::dont_fragment(g, &self.dst),
        })
    }

    /// Length of the fragments that a datagram is made of (ip_setup_cork, ip6_setup_cork).
    pub(super) fn frag_size(&self, g: &SockGuard<'_>) -> u32 {
        match ignores_path(i32::from(g.common.pmtudisc)) {
            true => self.dst.dev.caps().mtu.min(self.least_mtu(g).max(self.dst.mtu)),
            false => self.least_mtu(g),
        }
    }

    /// The path's MTU, or over IPv6 that of IPV6_MTU if it is less.
    fn least_mtu(&self, g: &SockGuard<'_>) -> u32 {
        match g.common.ip_more.as_ref().map_or(0, |m| m.frag_size) {
            _ if self.to.is_ipv4() => self.dst.mtu,
            0 => self.dst.mtu,
            own => own.min(self.dst.mtu),
        }
    }

    /// The options of the datagram's IPv4 header, with this host's entries in them (IP_OPTIONS). None: there are none.
    fn options(&self, g: &SockGuard<'_>) -> Option<Vec<u8>> {
        let set = self.options.as_deref().or(g.common.ip_more.as_ref().map(|m| &*m.options))?;
        match (self.src, self.to.is_ipv4() && !set.is_empty()) {
            (IpAddr::V4(own), true) => Some(options::of_sent(g.stack, set, own)),
            _ => None,
        }
    }

    /// Bytes of options in the IPv4 header.
    pub fn options_len(&self, g: &SockGuard<'_>) -> usize {
        let of_socket = || g.common.ip_more.as_ref().map_or(0, |m| m.options.len());
        if self.to.is_ipv4() { self.options.as_ref().map_or_else(of_socket, |o| o.len()) } else { 0 }
    }

    /// Bytes of the extension headers.
    pub fn headers_len(&self) -> usize {
        self.headers.as_deref().map_or(0, socket_headers::len)
    }

    /// Bytes that they take of the longest datagram: Linux counts destination options twice (__ip6_append_data).
    pub(crate) fn headers_share(&self) -> usize {
        self.headers_len() + self.headers.as_ref().map_or(0, |h| h.dst1.len())
    }

    /// The datagram's flow label; `hash` is that of its flow.
    pub(crate) fn flow_label(&self, g: &SockGuard<'_>, hash: impl FnOnce() -> u32) -> u32 {
        if self.to.is_ipv4() { 0 } else { flowlabel::make(g.stack, &g.common, self.flowinfo, hash) }
    }

    /// The same of a datagram without ports.
    pub(crate) fn flow_label_of(&self, g: &SockGuard<'_>, protocol: u8) -> u32 {
        self.flow_label(g, || flowlabel::hash(g.stack, self.src, self.to.ip(), protocol))
    }

    /// Hands a datagram to IP; until the device has finished with it, it is charged to the socket. `df`: what
    /// [`Plan::fit`] said. Errors: those of IP output.
    pub fn xmit(&self, g: &SockGuard<'_>, mut skb: Skb, protocol: u8, flow_label: u32, df: bool) -> Result<()> {
        skb.owner = Some(TxOwner::new(g.sock, skb.truesize));
        (skb.tx_stamp, skb.tx_time) = (self.stamps.stamp(g.sock), self.tx_time);
        (skb.mark, skb.priority) = (self.mark, self.priority);
        let dst = self.to.ip();
        let tx = IpTx { src: self.src, dst, protocol, tos: self.tos, ttl: self.ttl, df, flow_label, now: g.now() };
        // Of congestion only TCP takes notice (net_xmit_errno).
        let sent = if let Some(options) = self.options(g) {
            xmit_with_options(g.stack, &self.dst, &tx, &options, skb, self.looped)
        } else if let (Some(headers), IpAddr::V6(to)) = (&self.headers, dst) {
            let chain = Chain::new(headers, to, protocol);
            let tx = IpTx { dst: socket_headers::first_hop(Some(headers), dst), ..tx };
            xmit_with_headers(g.stack, &self.dst, &tx, &chain, skb, self.looped)
        } else if dst.is_multicast() {
            xmit_multicast(g.stack, &self.dst, &tx, skb, self.looped)
        } else if let Some(repr) = self.looped_header(g, &tx, &skb) {
            xmit_looped(g.stack, &self.dst, &repr, skb, tx.now, None)
        } else {
            xmit(g.stack, &self.dst, &tx, skb)
        };
        sent.map(drop)
    }

    /// The header of a datagram that this stack loops to itself as it is; it has an address of this host as its source.
    /// None: it goes the general way.
    #[inline]
    fn looped_header(&self, g: &SockGuard<'_>, tx: &IpTx, skb: &Skb) -> Option<Ipv4Repr> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (tx.src, tx.dst) else { return None };
        // ICMPv6 is no protocol of IPv4: input sees to that. TCP takes a header that comes this way for its own, and
        // a raw socket may write any.
        let known = tx.df && !src.is_unspecified() && !matches!(tx.protocol, proto::ICMPV6 | proto::TCP);
        let good = known && is_looped(&self.dst, skb) && !any_source(&g.common);
        good.then_some(Ipv4Repr {
            src,
            dst,
            protocol: tx.protocol,
            ttl: tx.ttl,
            tos: tx.tos,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            frag_offset: 0,
            payload_len: skb.len(),
        })
    }
}
