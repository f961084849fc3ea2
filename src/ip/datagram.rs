//! What datagram sockets of all protocols share: the receive queue with its limits, the plan of what is sent, and ICMP
//! errors. Above: UDP, ping, raw. Below: `rxcontrol`, `txcontrol`, `sock`. Linux: net/core/datagram.c,
//! sock_queue_rcv_skb, ip_icmp_error, ip_local_error.

use super::output::{IpTx, is_looped, xmit, xmit_looped, xmit_multicast, xmit_with_headers, xmit_with_options};
use super::socket_headers::Chain;
use super::{cork, exception, flowlabel, net, options, rfc4884, route, rxcontrol, socket_headers, sockopt, txcontrol};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, Mib};
use crate::sock::addr::{AF_INET, unspecified};
use crate::sock::dst::{Dst, DstKind};
use crate::sock::errqueue::{ErrEntry, IpPacket, origin};
use crate::sock::ip_more::TxHeaders;
use crate::sock::mem::{self, Kind};
use crate::sock::msg::{Control, RecvMsg, SendMsg, SockExtendedErr};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::SockRef;
use crate::sock::skb::{Skb, TxOwner};
use crate::sock::sockopt::name_bytes;
use crate::sock::state::State;
use crate::sock::tstamp::{self, Cookie, sof};
use crate::sock::wait::Events;
use crate::sock::{Sock, SockCommon, SockGuard, flag, ip_flag};
use crate::stack::Stack;
use crate::wire::addr::is_link_local_v6;
use crate::wire::ip::Ipv4Repr;
use crate::wire::proto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Word of the control block of a packet in a receive queue: whether it was peeked at. The words before it are
/// `rxcontrol`'s.
const CB_PEEKED: usize = 2;

/// Type of the control message of IPV6_RECVPATHMTU.
const IPV6_PATHMTU: i32 = 61;
/// Type of the control message with TCP's measurements.
const SCM_TIMESTAMPING_OPT_STATS: i32 = 54;

pub(super) fn is_udp(sock: &Sock) -> bool {
    sock.ty == libc::SOCK_DGRAM as u16 && sock.protocol == libc::IPPROTO_UDP as u16
}

/// Whether a packet is for all sockets that listen, not for one: its destination is a group or a broadcast address. A
/// packet to one host may have been a broadcast of the link (rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)).
pub fn is_for_many(stack: &Stack, info: &PacketInfo) -> bool {
    info.dst.is_multicast() || (info.not_unicast && net(stack).routes.is_broadcast(info.dst))
}

/// Puts a packet into the receive queue and wakes readers. Err: the packet is dropped, and the caller counts it:
/// `SocketRcvbuff`, `ProtoMem`, or `SocketClose` after close.
pub fn queue(g: &mut SockGuard<'_>, mut skb: Skb) -> std::result::Result<(), DropReason> {
    let (stack, sock) = (g.stack, g.sock);
    if g.common.flag(flag::DEAD) {
        return Err(DropReason::SocketClose);
    }
    let (held, limit) = (sock.rmem_alloc.load(Ordering::Relaxed), sock.rcvbuf.load(Ordering::Relaxed));
    if held > limit / 2 {
        // The queue is half full: small datagrams in large pages are copied (skb_condense).
        skb.shrink();
    }
    // At least what the kernel would take for it: programs know how many datagrams a buffer holds.
    let v4 = skb.rx.is_none_or(|rx| rx.dst.is_ipv4());
    let behind = skb.len() - if is_udp(sock) { 0 } else { usize::from(skb.nh_len).min(skb.len()) };
    skb.truesize = skb.truesize.max(cork::sent_truesize(v4, behind));
    // UDP looks at what would be held, the others at what is (__udp_enqueue_schedule_skb, sock_queue_rcv_skb).
    let full = match is_udp(sock) {
        true => held > 0 && i64::from(held) + i64::from(skb.truesize) > i64::from(limit),
        false => held >= limit,
    };
    if full {
        sock.drops.fetch_add(1, Ordering::Relaxed);
        return Err(DropReason::SocketRcvbuff);
    }
    let truesize = skb.truesize;
    if !mem::schedule(stack, sock, &mut g.common, truesize as i32, Kind::Recv) {
        sock.drops.fetch_add(1, Ordering::Relaxed);
        return Err(DropReason::ProtoMem);
    }
    mem::charge_rmem(sock, &mut g.common, truesize);
    g.common.receive_queue.push_back(skb);
    sock.wait.wake(Events::IN);
    Ok(())
}

/// Takes the next datagram, or waits for one, and lets `f` copy it from a byte on, which counts from behind its
/// `header`. One that is not `good` is dropped. With MSG_PEEK it stays, and the byte is that of SO_PEEK_OFF; with
/// MSG_ERRQUEUE it is the next queued error. Errors: the pending one, EAGAIN, EINTR. Ok(0) after SHUT_RD. Linux:
/// __skb_recv_udp, __skb_recv_datagram.
pub fn recv(
    g: &mut SockGuard<'_>,
    msg: &mut RecvMsg<'_, '_>,
    header: usize,
    good: impl Fn(&SockGuard<'_>, &mut Skb) -> bool,
    f: impl FnOnce(&SockGuard<'_>, &Skb, usize, &mut RecvMsg<'_, '_>) -> usize,
) -> Result<usize> {
    let sock = g.sock;
    // UDP refuses MSG_OOB only when sending.
    if msg.flags & libc::MSG_OOB != 0 && !is_udp(sock) {
        return Err(Error::OpNotSupp);
    }
    if msg.flags & libc::MSG_ERRQUEUE != 0 {
        return recv_error(g, msg);
    }
    if let Some((to, mtu)) = path_mtu_notice(&mut g.common) {
        msg.name = Some(to);
        let (level, ty) = (libc::SOL_IPV6, IPV6_PATHMTU);
        let data = [name_bytes(to), mtu.to_ne_bytes().to_vec()].concat();
        msg.control.push(Control::Other { level, ty, data });
        return Ok(0);
    }
    let deadline = g.common.rcvtimeo.get().map(|t| g.now() + t);
    let peek = msg.flags & libc::MSG_PEEK != 0;
    let (at, from, mut skb) = loop {
        sock.take_error()?;
        if let Some((at, from)) = next(&g.common, peek, header)
            && let Some(mut skb) = g.common.receive_queue.remove(at)
        {
            if good(g, &mut skb) {
                break (at, from, skb);
            }
            drop_queued(g, &skb);
            continue;
        }
        if msg.dontwait() {
            return Err(Error::Again);
        }
        if sock.rcv_shutdown() {
            return Ok(0);
        }
        g.sleep(Events::IN, true, deadline)?;
    };
    let n = f(g, &skb, from, msg);
    rxcontrol::control(g, &skb, msg);
    let truesize = skb.truesize;
    if peek {
        skb.cb[CB_PEEKED] = 1;
        g.common.receive_queue.insert(at, skb);
    } else {
        mem::uncharge_rmem(sock, &mut g.common, truesize);
    }
    // The datagram is lost, as in Linux.
    if msg.faulted() {
        return Err(Error::Fault);
    }
    let (off, by) = (g.common.peek_off, i32::try_from(n).unwrap_or(i32::MAX));
    if off >= 0 {
        g.common.cold_mut().peek_off = if peek { off.saturating_add(by) } else { (off - by).max(0) };
    }
    Ok(n)
}

/// A packet that was taken from the receive queue is dropped (__sk_queue_drop_skb).
fn drop_queued(g: &mut SockGuard<'_>, skb: &Skb) {
    let sock = g.sock;
    mem::uncharge_rmem(sock, &mut g.common, skb.truesize);
    sock.drops.fetch_add(1, Ordering::Relaxed);
}

/// Drops the first packets of the receive queue that are not `good` (first_packet_length).
pub(crate) fn drop_bad(g: &mut SockGuard<'_>, good: impl Fn(&SockGuard<'_>, &mut Skb) -> bool) {
    while let Some(mut skb) = g.common.receive_queue.pop_front() {
        if good(g, &mut skb) {
            return g.common.receive_queue.push_front(skb);
        }
        drop_queued(g, &skb);
    }
}

/// What IPV6_RECVPATHMTU has for the next receive (ipv6_recv_rxpmtu).
fn path_mtu_notice(c: &mut SockCommon) -> Option<(SocketAddr, u32)> {
    if c.ip_flags & ip_flag::RECVPATHMTU == 0 {
        return None;
    }
    c.ip_more_if_any()?.rx_path_mtu.take()
}

/// The datagram that a call takes: its place in the queue, and the byte behind its header to begin at. A peek skips
/// what SO_PEEK_OFF has passed; a datagram without bytes is passed when it was peeked at (__skb_try_recv_from_queue).
fn next(c: &SockCommon, peek: bool, header: usize) -> Option<(usize, usize)> {
    let Some(mut off) = usize::try_from(c.peek_off).ok().filter(|_| peek) else {
        return (!c.receive_queue.is_empty()).then_some((0, 0));
    };
    for (at, skb) in c.receive_queue.iter().enumerate() {
        let len = skb.len().saturating_sub(header);
        if off < len || off == 0 && skb.cb[CB_PEEKED] == 0 {
            return Some((at, off));
        }
        off -= len;
    }
    None
}

/// Copies `len` bytes of a datagram from `from` on; sets MSG_TRUNC when there is no room for all. Returns the result of
/// recvmsg: the bytes copied, or with MSG_TRUNC given the length of the datagram.
pub fn copy(skb: &Skb, from: usize, len: usize, msg: &mut RecvMsg<'_, '_>) -> usize {
    copy_behind(skb, from, len, 0, msg)
}

/// As [`copy`], of the `len` bytes behind a `header`, from the byte `from` of them on (SO_PEEK_OFF).
pub(crate) fn copy_behind(skb: &Skb, header: usize, len: usize, from: usize, msg: &mut RecvMsg<'_, '_>) -> usize {
    let (room, left) = (msg.remaining(), len - from);
    let n = msg.put_skb(skb, header + from, left);
    // With just the room for the rest of a datagram that was peeked at, Linux says so too (udp_recvmsg).
    if room < len && room <= left {
        msg.out_flags |= libc::MSG_TRUNC;
    }
    if msg.flags & libc::MSG_TRUNC != 0 { len } else { n }
}

/// recvmsg of the sockets whose messages have no ports: the whole packet, and the sender's address. As [`recv`].
pub fn recv_whole(sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    recv(
        &mut sk.lock(),
        msg,
        0,
        |_, _| true,
        |_, skb, from, msg| {
            msg.name = skb.rx.map(|rx| name_of(rx.src, 0, rx.ifindex));
            copy_behind(skb, 0, skb.len(), from, msg)
        },
    )
}

/// FIONREAD: bytes of the next datagram behind its `header`; TIOCOUTQ: bytes that the device has not completed. ENOTTY:
/// any other request.
pub fn ioctl(sk: SockRef<'_>, request: u64, header: usize) -> Result<i32> {
    match request {
        libc::FIONREAD => {
            Ok(sk.lock().common.receive_queue.front().map_or(0, |s| s.len().saturating_sub(header)) as i32)
        }
        libc::TIOCOUTQ => Ok(sk.sock.wmem_alloc.load(Ordering::Relaxed) as i32),
        _ => Err(Error::NoTty),
    }
}

/// recvmsg with MSG_ERRQUEUE, of any protocol: never waits. EAGAIN when nothing is queued. Linux: ip_recv_error,
/// ipv6_recv_error.
pub fn recv_error(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let mut e = g.sock.next_error()?;
    let n = msg.put(&e.payload);
    if msg.faulted() {
        return Err(Error::Fault);
    }
    if n < e.payload.len() {
        msg.out_flags |= libc::MSG_TRUNC;
    }
    msg.out_flags |= libc::MSG_ERRQUEUE;
    msg.name = e.addr.map(|to| flowlabel::of_name(&g.common, to));
    let before = msg.control.len();
    tstamp::received(
        g,
        e.came.unwrap_or_else(|| g.stack.now()),
        e.err.origin == origin::TIMESTAMPING,
        &mut msg.control,
    );
    if e.opt_stats && msg.control.len() > before {
        let (level, ty) = (libc::SOL_SOCKET, SCM_TIMESTAMPING_OPT_STATS);
        msg.control.push(Control::Other { level, ty, data: std::mem::take(&mut e.payload) });
    }
    // Of a packet with a timestamp a socket of IPv4 is told only if it asks for that (ipv4_datagram_support_cmsg).
    let cmsg = g.sock.tsflags() & sof::OPT_CMSG != 0;
    if e.err.origin == origin::TIMESTAMPING && g.sock.family == AF_INET && !cmsg {
        (e.packet, e.err.offender) = (None, None);
    }
    if let Some(p) = e.packet {
        rxcontrol::ip_control(&g.common, p.dst, (p.ifindex, p.spec_dst), (p.ttl, p.tos), &mut msg.control);
        rxcontrol::of_error(&g.common, &p, &e, &mut msg.control);
    }
    msg.control.push(Control::RecvErr(e.err));
    Ok(n)
}

/// Whether it is an ICMP echo socket.
pub(super) fn is_ping(sock: &Sock) -> bool {
    let icmp = [libc::IPPROTO_ICMP as u16, libc::IPPROTO_ICMPV6 as u16];
    sock.ty == libc::SOCK_DGRAM as u16 && icmp.contains(&sock.protocol)
}

/// An end of a packet or a socket as a name: an address of a link carries its interface.
pub fn name_of(ip: IpAddr, port: u16, ifindex: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(a) if needs_scope(a) => SocketAddr::V6(SocketAddrV6::new(a, port, 0, ifindex)),
        _ => SocketAddr::new(ip, port),
    }
}

/// What an ICMP error does to the socket that sent the packet: it is queued where the socket asks for that
/// (IP_RECVERR), and becomes SO_ERROR if it is queued, or is hard and the socket connected. `to`: where the packet
/// went; `payload`: what is left of its data. Learns path MTUs. Linux: __udp4_lib_err, ping_err, raw_err.
pub fn icmp_error(g: &mut SockGuard<'_>, e: &IcmpError<'_>, to: SocketAddr, payload: &[u8]) {
    let v4 = e.src.is_ipv4();
    let mut fatal = e.fatal;
    learn_path(g, e);
    if e.errno == Error::MsgSize {
        if i32::from(g.common.pmtudisc) == libc::IP_PMTUDISC_DONT {
            return;
        }
        fatal = true;
    }
    if sockopt::wants_errors(g, v4) {
        let err = SockExtendedErr {
            errno: e.errno.errno() as u32,
            origin: if v4 { origin::ICMP } else { origin::ICMP6 },
            ty: e.ty,
            code: e.code,
            info: e.info,
            data: if wants_extension(&g.common, v4) { rfc4884::ee_data(e, payload) } else { 0 },
            offender: Some(e.reporter),
        };
        let spec_dst = Ipv4Addr::UNSPECIFIED;
        let packet = Some(IpPacket {
            dst: e.src,
            spec_dst,
            ifindex: e.ifindex,
            ttl: e.ttl,
            tos: e.tos,
            flow_label: e.flow_label,
        });
        let (payload, came) = (payload.to_vec(), Some(e.now));
        let to = with_flowinfo(to, e.flowinfo);
        let entry = ErrEntry { addr: Some(to), err, payload, packet, came, opt_stats: false };
        g.sock.queue_error(entry);
    } else if !fatal || g.sock.state() != State::Established {
        return;
    }
    g.sock.report_error(e.errno);
}

/// Learns the path's MTU from an ICMP error of that kind.
pub(crate) fn learn_path(g: &mut SockGuard<'_>, e: &IcmpError<'_>) {
    if e.errno == Error::MsgSize {
        exception::update_pmtu(g.stack, e.dst, e.info, e.now);
        g.common.dst = None;
    }
}

/// The name of a packet's destination with the flow information that the packet had (ipv6_recv_error).
fn with_flowinfo(mut to: SocketAddr, flowinfo: u32) -> SocketAddr {
    if let SocketAddr::V6(to) = &mut to {
        to.set_flowinfo(flowinfo);
    }
    to
}

/// IP_RECVERR_RFC4884, IPV6_RECVERR_RFC4884.
fn wants_extension(c: &SockCommon, v4: bool) -> bool {
    c.ip_flags & if v4 { ip_flag::RECVERR_RFC4884 } else { ip_flag::RECVERR6_RFC4884 } != 0
}

/// Tells a sock of an ICMP error by `tell`, which calls [`icmp_error`]: now, or when the system call that owns the sock
/// releases it. Linux queues errors without owning the sock; one that comes in the middle of a call is as one that
/// comes just behind it.
pub fn report(
    stack: &Arc<Stack>,
    sock: &Arc<Sock>,
    e: &IcmpError<'_>,
    tell: impl Fn(&mut SockGuard<'_>, &IcmpError<'_>) + Send + 'static,
) {
    if sock.try_own(stack, e.now, |g| tell(g, e)).is_none() {
        let (quoted, e) = (e.quoted.to_vec(), IcmpError { quoted: &[], ..*e });
        sock.own_or_leave(stack, e.now, move |g| tell(g, &IcmpError { quoted: &quoted, ..e }));
    }
}

/// A datagram was too long for its path: queued with the MTU where the socket asks for it (ip_local_error).
pub fn local_too_long(g: &mut SockGuard<'_>, to: SocketAddr, mtu: u32) {
    if !sockopt::wants_errors(g, to.is_ipv4()) {
        return;
    }
    // Over IPv4 the port is the peer's, whatever the name's was; over IPv6 only UDP has ports.
    let port = match to.is_ipv4() {
        true => g.common.dport,
        false if is_udp(g.sock) => to.port(),
        false => 0,
    };
    let mut to = to;
    to.set_port(port);
    let errno = Error::MsgSize.errno() as u32;
    let err = SockExtendedErr { errno, origin: origin::LOCAL, ty: 0, code: 0, info: mtu, data: 0, offender: None };
    let (payload, packet, came) = (Vec::new(), None, None);
    let entry = ErrEntry { addr: Some(to), err, payload, packet, came, opt_stats: false };
    g.sock.queue_error(entry);
}

/// Length of a datagram that a program sends, bytes. Errors: EMSGSIZE, no IP packet holds so much; EOPNOTSUPP, MSG_OOB.
pub fn send_len(msg: &SendMsg<'_>) -> Result<usize> {
    let len = msg.remaining();
    if len > 0xffff {
        return Err(Error::MsgSize);
    }
    if msg.flags & libc::MSG_OOB != 0 {
        return Err(Error::OpNotSupp);
    }
    Ok(len)
}

/// Where a datagram without ports goes: the call's name, or the socket's peer, with the flow information that it has.
/// Errors: EAFNOSUPPORT, ENETUNREACH, EDESTADDRREQ.
pub fn destination(g: &SockGuard<'_>, name: Option<SocketAddr>, v4: bool) -> Result<SocketAddr> {
    match name {
        // A v4-mapped name has no route over IPv6.
        Some(to) if to.is_ipv4() && !v4 => Err(Error::NetUnreach),
        Some(to) if to.is_ipv4() != v4 => Err(Error::AfNoSupport),
        Some(to) => Ok(flowlabel::of_name(&g.common, to)),
        None if g.sock.state() != State::Established => Err(Error::DestAddrReq),
        None => Ok(flowlabel::of_peer(&g.common, name_of(g.common.daddr, 0, g.common.bound_dev_if))),
    }
}

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
    if to.is_ipv6() && to.ip().is_unspecified() && c.rcv_saddr.is_ipv4() {
        // Of a socket bound to a v4-mapped address: the IPv4 loopback.
        to.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let v4 = to.is_ipv4();
    if v4 && c.flag(flag::V6ONLY) {
        return Err(Error::NetUnreach);
    }
    // An address of IPv6 that connect chose is no source over IPv4: the route has one.
    let own = Some(c.saddr).filter(|a| !a.is_unspecified());
    let mapped_own = !v4 && (c.saddr.is_ipv4() || c.rcv_saddr.is_ipv4());
    let own = own.filter(|a| a.is_ipv4() == v4);
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
    if let Some(IpAddr::V4(a)) = own
        && v4
        && !any_source(c)
        && asked.src.is_none()
        && cached(to).is_none()
    {
        // A socket of IPv6 may be bound to a v4-mapped address that is no source, unless the call names another
        // (ip_route_output_key_hash_rcu).
        if a.is_multicast() || a.is_broadcast() {
            return Err(Error::Inval);
        }
        if !route::is_local(g.stack, a.into()) {
            return Err(Error::NetUnreach);
        }
    }
    let of_socket = if c.bound_dev_if == 0 && !v4 { sockopt::sticky_if(c) } else { c.bound_dev_if };
    let (src, mut oif) = (asked.src.or(own), if asked.oif != 0 { asked.oif } else { of_socket });
    match scope_of(to) {
        0 => {}
        // The name's goes before the socket's, but not with ping sockets.
        scope if asked.oif != 0 && asked.oif != scope => return Err(Error::Inval),
        scope if ping && c.bound_dev_if != 0 && c.bound_dev_if != scope => return Err(Error::Inval),
        scope => oif = scope,
    }
    let group = to.ip().is_multicast();
    if group && oif == 0 {
        oif = match to {
            SocketAddr::V6(a) if a.scope_id() != 0 => a.scope_id(),
            SocketAddr::V6(_) => c.mcast_oif,
            SocketAddr::V4(_) => c.mc_index,
        };
    }
    if oif == 0 {
        oif = c.ip_more.as_ref().map_or(0, |m| if v4 { m.unicast_if.0 } else { m.unicast_if.1 });
    }
    to.set_ip(route::this_host(g.stack, to.ip(), src, oif));
    let sticky = || c.ip_more.as_ref().and_then(|m| m.headers.clone());
    // Ping sockets send none (ping_v6_sendmsg).
    let headers = if v4 || ping { None } else { asked.headers.clone().or_else(sticky) };
    let headers = match lease {
        Some(of_lease) => flowlabel::merge(of_lease, headers),
        None => headers,
    };
    let dst = match cached(to) {
        Some(d) => d.clone(),
        None => route::lookup(g.stack, socket_headers::first_hop(headers.as_deref(), to.ip()), src, oif)?,
    };
    let mapped = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
    if asked.src.map_or(mapped_own, mapped) {
        // ip6_dst_lookup_tail: a v4-mapped source reaches no address of IPv6.
        return Err(Error::AfNoSupport);
    }
    if dst.kind == DstKind::Broadcast && !c.flag(flag::BROADCAST) {
        return Err(Error::Acces);
    }
    if flags & libc::MSG_DONTROUTE != 0 || c.flag(flag::LOCALROUTE) {
        route::on_link(g.stack, &dst)?;
    }
    if flags & libc::MSG_CONFIRM != 0 {
        super::neigh::confirm(g.stack, &dst.dev, dst.gateway.unwrap_or(to.ip()), g.now());
    }
    let socket_ttl = match (group, v4) {
        (true, true) => c.mc_ttl.into(),
        (true, false) => c.mcast_hops.into(),
        (false, true) => c.ttl,
        (false, false) => c.hops,
    };
    let ttl = asked.ttl.or_else(|| u8::try_from(socket_ttl).ok());
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

/// Whether this host gets what the socket sends to a group (sk_mc_loop).
pub(crate) fn loops(c: &SockCommon, v4: bool) -> bool {
    if v4 { c.flag(flag::MULTICAST_LOOP) } else { c.ip_flags & ip_flag::NOT_MULTICAST_LOOP6 == 0 }
}

/// Whether a socket of IPv4 sends from any address: IP_FREEBIND lets one be bound, but not sent from
/// (inet_sk_flowi_flags).
pub(crate) fn any_source(c: &SockCommon) -> bool {
    c.flag(flag::TRANSPARENT | flag::HDRINCL)
}

/// The interface that a link-local address names; 0: none.
pub(super) fn scope_of(to: SocketAddr) -> u32 {
    match to {
        SocketAddr::V6(a) if needs_scope(*a.ip()) => a.scope_id(),
        _ => 0,
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

/// Waits until the socket's send buffer has room for a packet of IPv4 (`v4`) or IPv6. Errors, which count as packets
/// that did not leave (__ip_append_data, __ip6_append_data): the pending one, EPIPE after SHUT_WR, EAGAIN, EINTR.
/// Returns whether it slept, so that others may have owned the socket.
pub fn wait_for_room(g: &mut SockGuard<'_>, v4: bool, dontwait: bool) -> Result<bool> {
    let room = wait_for_wmem(g, dontwait);
    if room.is_err() {
        g.stack.mib.inc(if v4 { Mib::IpOutDiscards } else { Mib::Ip6OutDiscards });
    }
    room
}

/// Linux: sock_alloc_send_pskb.
fn wait_for_wmem(g: &mut SockGuard<'_>, dontwait: bool) -> Result<bool> {
    let deadline = g.common.sndtimeo.get().map(|t| g.now() + t);
    let mut slept = false;
    loop {
        g.sock.take_error()?;
        if g.sock.send_shutdown() {
            return Err(Error::Pipe);
        }
        let held = g.sock.wmem_alloc.load(Ordering::Relaxed);
        if (held as i32) < g.sock.sndbuf.load(Ordering::Relaxed) {
            return Ok(slept);
        }
        if dontwait {
            return Err(Error::Again);
        }
        slept = true;
        g.sleep(Events::OUT, false, deadline)?;
    }
}

/// Connects a datagram socket: route, addresses, state. The caller rehashes. Errors: EAFNOSUPPORT is the socket
/// layer's; EINVAL, ENETUNREACH, EACCES, and what the route says. Linux: __ip4_datagram_connect,
/// __ip6_datagram_connect.
pub fn connect(g: &mut SockGuard<'_>, to: SocketAddr) -> Result<()> {
    // The source address stays that of the first peer until the association is dissolved.
    g.common.dst = None;
    if let SocketAddr::V6(a) = to
        && needs_scope(*a.ip())
    {
        // An address of a link needs its link: the name's, the socket's, or that of IPV6_MULTICAST_IF.
        let bound = g.common.bound_dev_if;
        if a.scope_id() != 0 && bound != 0 && bound != a.scope_id() {
            return Err(Error::Inval);
        }
        let of_group = if a.ip().is_multicast() { g.common.mcast_oif } else { 0 };
        if a.scope_id() == 0 && bound == 0 && of_group == 0 {
            return Err(Error::Inval);
        }
        if bound == 0 {
            // It stays, also when the connect fails.
            g.common.bound_dev_if = if a.scope_id() != 0 { a.scope_id() } else { of_group };
        }
    }
    let to = flowlabel::of_name(&g.common, to);
    let flowinfo = flowlabel::take(&mut to.clone());
    flowlabel::check(g.stack, &g.common, g.now(), flowinfo)?;
    let p = plan(g, to, &[], 0)?;
    if p.src.is_unspecified() {
        return Err(Error::AddrNotAvail);
    }
    let c = &mut g.common;
    if c.saddr.is_unspecified() {
        c.saddr = p.src;
    }
    if c.rcv_saddr.is_unspecified() {
        c.rcv_saddr = p.src;
    }
    c.daddr = p.to.ip();
    c.dport = to.port();
    c.flow_label = flowinfo;
    c.dst = Some(p.dst);
    g.sock.set_state(State::Established);
    Ok(())
}

/// Link-local, or a group of the link or of the interface (__ipv6_addr_needs_scope_id).
pub fn needs_scope(a: Ipv6Addr) -> bool {
    is_link_local_v6(a) || a.is_multicast() && matches!(a.segments()[0] & 0xf, 1 | 2)
}

fn forget_source(g: &mut SockGuard<'_>) {
    if !g.common.flag(flag::BINDADDR_LOCK) {
        let any = unspecified(g.sock.family);
        g.common.saddr = any;
        g.common.rcv_saddr = any;
    }
}

/// Dissolves the association; the caller rehashes (__udp_disconnect).
pub fn disconnect(g: &mut SockGuard<'_>) {
    g.sock.set_state(State::Close);
    g.common.daddr = unspecified(g.sock.family);
    g.common.dport = 0;
    g.common.bound_dev_if = 0;
    g.common.dst = None;
    forget_source(g);
}

/// The last descriptor is closed: the queue is emptied and takes no more, the socket leaves its groups, waiting threads
/// are woken.
pub fn close(g: &mut SockGuard<'_>) {
    g.common.set_flag(flag::DEAD, true);
    let sock = g.sock;
    while let Some(skb) = g.common.receive_queue.pop_front() {
        mem::uncharge_rmem(sock, &mut g.common, skb.truesize);
    }
    mem::reclaim(sock, &mut g.common);
    sock.close_errors();
    g.common.dst = None;
    super::multicast::options::leave_all(g);
    let now = g.now();
    flowlabel::release_all(g.stack, &mut g.common, now);
    sock.set_state(State::Close);
    sock.wait.wake(Events::ALL);
}
