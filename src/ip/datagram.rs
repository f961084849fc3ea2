//! What datagram sockets of all protocols share: the receive queue with its limits, association, and close. Above: UDP,
//! ping, raw. Below: `plan`, `errors`, `rxcontrol`, `sock`. Linux: net/core/datagram.c, sock_queue_rcv_skb,
//! __ip4_datagram_connect.

use super::errors::recv_error;
use super::kind::{is_udp, name_of, needs_scope};
use super::plan::plan;
use super::rxcontrol::IPV6_PATHMTU;
use super::{cork, flowlabel, net, rxcontrol};
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, Mib};
use crate::sock::addr::unspecified;
use crate::sock::mem::{self, Kind};
use crate::sock::msg::{Control, RecvMsg, SendMsg};
use crate::sock::packet::PacketInfo;
use crate::sock::proto::{Proto, SockRef};
use crate::sock::skb::Skb;
use crate::sock::sockopt::name_bytes;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{SockCommon, SockGuard, flag, ip_flag};
use crate::stack::Stack;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// Word of the control block of a packet in a receive queue: whether it was peeked at. The words before it are
/// `rxcontrol`'s.
const CB_PEEKED: usize = 2;

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
        if let Some((at, from)) = next(&g.common, peek && !msg.before_urgent, header)
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
    rxcontrol::control(g, &skb, from, msg);
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
    if off >= 0 && !(peek && msg.before_urgent) {
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
    // Over IPv4 a datagram may have no source: by a device that has no address.
    if p.src.is_unspecified() && p.to.is_ipv6() {
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

/// Ends an association from outside, with an error (udp_abort, raw_abort).
pub(crate) fn abort(proto: &dyn Proto, sk: SockRef<'_>, err: Error) -> Result<()> {
    let mut g = sk.lock();
    g.sock.report_error(err);
    proto.disconnect(&mut g)
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
