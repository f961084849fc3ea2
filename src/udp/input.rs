//! UDP input: from the datagram to its socket, and to the program. Above: `recvmsg`. Below: `ip::input`. Linux:
//! __udp4_lib_rcv, udp_queue_rcv_skb, udp_recvmsg, __udp4_lib_err.
//!
//! A datagram in the receive queue still has its UDP header in front, and its addresses in `Skb::rx`.

use super::{HEADER, Udp, UdpSock, datagrams, encap, private};
use crate::base::error::Result;
use crate::counters::{DropReason, Mib};
use crate::ip::icmp::TransportError;
use crate::ip::{datagram, errors, icmp, kind, rxcontrol};
use crate::sock::filter::{self, Packet};
use crate::sock::msg::{Control, RecvMsg};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::{IpHandler, RecvSeveral, SockRef};
use crate::sock::skb::{Csum, GsoType, Skb};
use crate::sock::{Delivered, Sock, SockGuard};
use crate::stack::Stack;
use crate::wire::{checksum, ip, ipv6, proto, udp};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Source and destination port; the caller has called `may_pull(8)`.
fn ports(front: &[u8]) -> (u16, u16) {
    (u16::from_be_bytes([front[0], front[1]]), u16::from_be_bytes([front[2], front[3]]))
}

fn count(stack: &Stack, v4: bool, mib: (Mib, Mib)) {
    stack.mib.inc(if v4 { mib.0 } else { mib.1 });
}

const IN_ERRORS: (Mib, Mib) = (Mib::UdpInErrors, Mib::Udp6InErrors);

#[track_caller]
fn bad(stack: &Stack, v4: bool, reason: DropReason) {
    count(stack, v4, IN_ERRORS);
    stack.mib.drop(reason);
}

impl IpHandler for Udp {
    fn contained(&self) -> bool {
        false
    }

    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        let v4 = info.dst.is_ipv4();
        let Some(Checked { no_checksum, ports: (sport, dport) }) = check(stack, &mut skb, info) else { return };
        let peer = (info.src, sport);
        let table = &self.table;
        if datagram::is_for_many(stack, info) {
            let all = table.find_all(info.dst, dport, peer, info.ifindex);
            if all.is_empty() {
                count(stack, v4, (Mib::UdpIgnoredMulti, Mib::Udp6IgnoredMulti));
                return stack.mib.drop(DropReason::NoSocket);
            }
            for sock in &all {
                let mut copy = skb.share();
                copy.rx = Some(*info);
                self.hand_to(stack, sock, copy, (sport, dport), info);
            }
            return;
        }
        let packet = Packet { stack, skb: &skb, info: Some(info), header: HEADER, hidden: HEADER };
        match table.find_by(stack, (info.dst, dport), peer, info.ifindex, |group| group.choose(&packet)) {
            Some(sock) => {
                skb.rx = Some(*info);
                self.hand_to(stack, &sock, skb, (sport, dport), info);
            }
            // Without a checksum nobody is told (__udp6_lib_rcv).
            None if !v4 && no_checksum => bad_checksum(stack, v4),
            None if !no_checksum && !skb.checksum_ok(|| pseudo_header(&skb, info)) => bad_checksum(stack, v4),
            None => {
                count(stack, v4, (Mib::UdpNoPorts, Mib::Udp6NoPorts));
                stack.mib.drop(DropReason::NoSocket);
                icmp::send(stack, &mut skb, info, TransportError::PortUnreachable);
            }
        }
    }

    fn takes_several(&self) -> bool {
        true
    }

    /// Their socket is looked up and owned once, where all of them have the same.
    fn rcv_several(&self, stack: &Arc<Stack>, all: &mut dyn Iterator<Item = Skb>, info: &PacketInfo) {
        let Some(mut first) = all.next() else { return };
        let sock = if first.may_pull(HEADER) { self.only_sock(stack, &first, info) } else { None };
        let mut all = std::iter::once(first).chain(all);
        let queued = sock.as_ref().and_then(|sock| {
            sock.try_own(stack, info.now, |g| {
                for mut skb in all.by_ref() {
                    if check(stack, &mut skb, info).is_some() {
                        queue(g, skb);
                    }
                }
            })
        });
        if queued.is_none() {
            all.for_each(|skb| self.rcv(stack, skb, info));
        }
    }

    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) {
        let (sport, dport) = ports(e.quoted);
        // The quoted packet is ours, from our `sport` to their `dport`: find the socket that a reply would reach.
        let found = self.table.find(stack, (e.src, sport), (e.dst, dport), e.ifindex);
        let Some(sock) = found else {
            count(stack, e.src.is_ipv4(), (Mib::IcmpInErrors, Mib::Icmp6InErrors));
            return stack.mib.drop(DropReason::IcmpImplausible);
        };
        if let Some(encap) = self.encaps.of(&sock) {
            return encap::err(stack, &*encap, e, (sport, dport));
        }
        if icmp::is_advice(e) {
            return;
        }
        errors::report(stack, &sock, e, move |g, e| {
            if private(g).is_ok_and(|me| me.encap.is_tunnel()) {
                return errors::learn_path(g, e);
            }
            let payload = e.quoted.get(HEADER..).unwrap_or_default();
            errors::icmp_error(g, e, kind::name_of(e.dst, dport, e.ifindex), payload);
        });
    }
}

/// What [`check`] has read.
struct Checked {
    no_checksum: bool,
    ports: (u16, u16),
}

/// Trims a datagram to its length and verifies the checksum of a short one. None: it is dropped.
#[inline]
fn check(stack: &Stack, skb: &mut Skb, info: &PacketInfo) -> Option<Checked> {
    let v4 = info.dst.is_ipv4();
    if !skb.may_pull(HEADER) {
        bad(stack, v4, DropReason::PktTooSmall);
        return None;
    }
    let front = skb.linear();
    let len = usize::from(u16::from_be_bytes([front[4], front[5]]));
    let no_checksum = front[6..8] == [0, 0];
    let ports = ports(front);
    // In a super-packet of datagrams the length field is that of the first datagram, or 0, depending on the device.
    // Over IPv6, 0 is a jumbogram's: the datagram is as long as its packet (RFC 2675 §4).
    let len = if skb.gso_type == GsoType::Udp || (!v4 && len == 0) { skb.len() } else { len };
    if len > skb.len() || len < HEADER {
        bad(stack, v4, DropReason::PktTooSmall);
        return None;
    }
    skb.trim(len);
    // Over IPv6 the socket decides whether it accepts a zero checksum (RFC 6935).
    if !no_checksum && (len <= udp::CHECKSUM_BREAK || skb.gso_type == GsoType::Udp) {
        if !skb.checksum_ok(|| pseudo_header(skb, info)) {
            bad_checksum(stack, v4);
            return None;
        }
        summed(skb);
    }
    Some(Checked { no_checksum, ports })
}

/// Sum of the pseudo-header of a datagram that [`check`] has trimmed.
fn pseudo_header(skb: &Skb, info: &PacketInfo) -> u32 {
    checksum::pseudo_header(info.src, info.dst, proto::UDP, skb.len() as u32)
}

impl Udp {
    /// The sock of a flow, if all its datagrams go to the same one's receive queue: it is no group's choice, no other
    /// protocol has the port, and no layer is above UDP.
    fn only_sock(&self, stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) -> Option<Arc<Sock>> {
        if datagram::is_for_many(stack, info) {
            return None;
        }
        let (sport, dport) = ports(skb.linear());
        let mut grouped = false;
        let found = self.table.find_by(stack, (info.dst, dport), (info.src, sport), info.ifindex, |_| {
            grouped = true;
            None
        });
        let own = |sock: &Arc<Sock>| std::ptr::addr_eq(Arc::as_ptr(&*sock.proto()), self);
        found.filter(|sock| !grouped && own(sock) && self.encaps.of(sock).is_none())
    }

    /// A datagram for a sock goes to its queue, or to the protocol that has the port (udp_queue_rcv_skb).
    fn hand_to(&self, stack: &Arc<Stack>, sock: &Arc<Sock>, mut skb: Skb, ports: (u16, u16), info: &PacketInfo) {
        let v4 = info.dst.is_ipv4();
        match self.encaps.of(sock) {
            None => deliver(stack, sock, skb, info),
            Some(_) if unchecked(&skb, v4) || !is_right(&mut skb) => bad_checksum(stack, v4),
            Some(encap) => encap::rcv(stack, &*encap, skb, ports, info),
        }
    }
}

/// Whether a datagram over IPv6 has no checksum, which a port has to ask for (RFC 6935).
fn unchecked(skb: &Skb, v4: bool) -> bool {
    !v4 && skb.csum == Csum::None && skb.linear().get(6..8) == Some(&[0, 0])
}

/// All bytes of a datagram were summed, unless it was known to be right.
fn summed(skb: &mut Skb) {
    if skb.csum == Csum::None {
        skb.csum = Csum::Complete;
    }
}

/// Whether the checksum of a datagram with its addresses in `Skb::rx` is right. It is summed once
/// (udp_lib_checksum_complete).
fn is_right(skb: &mut Skb) -> bool {
    let Some(rx) = skb.rx else { return true };
    if skb.csum != Csum::None {
        return true;
    }
    let mut head = [0; HEADER];
    skb.copy_out(0, &mut head);
    let len = skb.len() as u32;
    if head[6..8] == [0, 0] {
        skb.csum = Csum::Unnecessary;
        return true;
    }
    let right = skb.checksum_ok(|| checksum::pseudo_header(rx.src, rx.dst, proto::UDP, len));
    if right {
        summed(skb);
    }
    right
}

/// The same of one in the receive queue that a call reads with `room` for its bytes. A wrong one leaves the queue, and
/// is counted.
fn verified(g: &SockGuard<'_>, skb: &mut Skb, peek: bool, room: usize) -> bool {
    let before = skb.csum;
    let right = is_right(skb);
    if !right {
        bad_checksum(g.stack, skb.rx.is_none_or(|rx| rx.dst.is_ipv4()));
    } else if peek {
        // Of a packet that stays in the queue Linux remembers nothing.
        skb.csum = before;
    } else if before == Csum::None && room >= skb.len() - HEADER {
        // Linux sums it while it is copied, and tells nobody the sum.
        skb.csum = Csum::Unnecessary;
    }
    right
}

/// As [`verified`], of one that nobody has read yet: Linux counts it as IPv4's, whatever it is (__first_packet_length).
pub(super) fn first_verified(g: &SockGuard<'_>, skb: &mut Skb) -> bool {
    let right = is_right(skb);
    if !right {
        bad_checksum(g.stack, true);
    }
    right
}

#[track_caller]
fn bad_checksum(stack: &Stack, v4: bool) {
    count(stack, v4, (Mib::UdpInCsumErrors, Mib::Udp6InCsumErrors));
    bad(stack, v4, DropReason::UdpCsum);
}

fn deliver(stack: &Arc<Stack>, sock: &Arc<Sock>, skb: Skb, info: &PacketInfo) {
    if let Delivered::Dropped(_) = sock.deliver(stack, skb, info.now) {
        let v4 = info.dst.is_ipv4();
        count(stack, v4, (Mib::UdpRcvbufErrors, Mib::Udp6RcvbufErrors));
        count(stack, v4, IN_ERRORS);
    }
}

/// Queues a datagram to this sock, which is owned.
pub(super) fn queue(g: &mut SockGuard<'_>, skb: Skb) {
    let v4 = skb.rx.is_none_or(|i| i.dst.is_ipv4());
    let Ok(&mut UdpSock { gro, no_check6_rx, .. }) = private(g) else { return };
    if unchecked(&skb, v4) && !no_check6_rx {
        return bad_checksum(g.stack, v4);
    }
    match gro {
        true => queue_one(g, skb, v4),
        // The program did not enable UDP_GRO.
        false => datagrams(skb, &mut |one| queue_one(g, one, v4)),
    }
}

fn queue_one(g: &mut SockGuard<'_>, mut skb: Skb, v4: bool) {
    if private(g).is_ok_and(|me| me.encap.is_tunnel()) && !is_right(&mut skb) {
        return bad_checksum(g.stack, v4);
    }
    if private(g).is_ok_and(|me| me.encap.takes(&skb)) {
        // No association is there to take it, and no other way of IPsec (xfrm4_esp_rcv). One that is shorter than an IP
        // header, as a keepalive is, is dropped without a word.
        count(g.stack, v4, (Mib::UdpInDatagrams, Mib::Udp6InDatagrams));
        let least = HEADER + if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
        if let Some(rx) = skb.rx.filter(|_| skb.len() >= least) {
            icmp::send(g.stack, &mut skb, &rx, TransportError::PortUnreachable);
        }
        return g.stack.mib.drop(DropReason::EspNoState);
    }
    if g.common.filter.is_some() && !is_right(&mut skb) {
        g.sock.drops.fetch_add(1, Ordering::Relaxed);
        return bad_checksum(g.stack, v4);
    }
    if !filter::admits(g.stack, &g.common, &mut skb, HEADER) {
        g.sock.drops.fetch_add(1, Ordering::Relaxed);
        return bad(g.stack, v4, DropReason::SocketFilter);
    }
    rxcontrol::arrived(g, &mut skb);
    if let Err(reason) = datagram::queue(g, skb) {
        match reason {
            DropReason::ProtoMem => count(g.stack, v4, (Mib::UdpMemErrors, Mib::Udp6MemErrors)),
            DropReason::SocketRcvbuff => count(g.stack, v4, (Mib::UdpRcvbufErrors, Mib::Udp6RcvbufErrors)),
            _ => {}
        }
        bad(g.stack, v4, reason);
    }
}

/// The messages of recvmmsg(2).
pub(super) fn recv_several(sk: SockRef<'_>, all: &mut RecvSeveral<'_>) {
    let mut g = sk.lock();
    all(&mut |msg| recvmsg(&mut g, msg));
}

/// recvmsg(2).
pub(super) fn recvmsg(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let (peek, room) = (msg.flags & libc::MSG_PEEK != 0, msg.remaining());
    let good = |g: &SockGuard<'_>, skb: &mut Skb| verified(g, skb, peek, room);
    datagram::recv(g, msg, HEADER, good, |g, skb, from, msg| {
        let mut head = [0; HEADER];
        skb.copy_out(0, &mut head);
        let n = datagram::copy_behind(skb, HEADER, skb.len() - HEADER, from, msg);
        if let Some(rx) = skb.rx {
            let v4 = rx.dst.is_ipv4();
            msg.name = Some(kind::name_of(rx.src, ports(&head).0, rx.ifindex));
            match (msg.flags & libc::MSG_PEEK != 0, msg.faulted()) {
                (true, _) => {}
                (false, false) => count(g.stack, v4, (Mib::UdpInDatagrams, Mib::Udp6InDatagrams)),
                // Lost to a bad pointer it counts as a drop, in SO_RXQ_OVFL too.
                (false, true) => {
                    g.sock.drops.fetch_add(1, Ordering::Relaxed);
                    count(g.stack, v4, IN_ERRORS);
                }
            }
        }
        if skb.gso_type == GsoType::Udp {
            msg.control.push(Control::UdpGro(i32::from(skb.gso_size)));
        }
        n
    })
}
