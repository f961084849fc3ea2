//! Ping sockets: SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6. A program sends echo requests, including the header.
//! The stack overwrites the identifier with the socket's port and fills in the checksum. The socket receives the echo
//! replies with that identifier. Above: the socket layer. Below: `ip`, whose ICMP delivers echo replies (`ip::slots`).
//! Linux: net/ipv4/ping.c, net/ipv6/ping.c; icmp(7).
//!
//! The file `table` has the sockets by identifier. `net.ipv4.ping_group_range` says who may make one.

mod table;
#[cfg(test)]
mod tests;

use table::{Holder, Table};

use crate::base::error::{Error, Result};
use crate::counters::DropReason;
use crate::ip::cork::Cork;
use crate::ip::slots::PingRcv;
use crate::ip::{bind, datagram, errors, icmp_mib, kind, net, plan, route, rxcontrol, sockopt};
use crate::sock::addr::unmap;
use crate::sock::filter;
use crate::sock::msg::{MSG_PROBE, RecvMsg, SendMsg};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::proto::{Dumped, Proto, SockRef};
use crate::sock::registry::{ProtoSwitch, RegisterError};
use crate::sock::skb::Skb;
use crate::sock::{SockGuard, flag};
use crate::stack::Stack;
use crate::sys::group;
use crate::wire::{icmp, icmpv6 as wire6, ip, proto};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest ICMP message that an IPv4 packet holds.
const MAX_MESSAGE: usize = 65_535 - ip::HEADER_LEN;

/// Whether a ping socket may send, or hear of, a message of this type and code (ping_supported).
fn supported(v4: bool, ty: u8, code: u8) -> bool {
    let types = match v4 {
        true => [icmp::kind::ECHO, icmp::kind::EXT_ECHO],
        false => [wire6::kind::ECHO, wire6::kind::EXT_ECHO],
    };
    types.contains(&ty) && code == 0
}

/// The table of operations, of one family, and the sockets of both.
struct Ping {
    v4: bool,
    table: Arc<Table>,
}

/// Registers "PING" and "PINGv6", and takes IP's slot for echo replies.
pub fn register(stack: &Arc<Stack>) -> std::result::Result<(), RegisterError> {
    let table = Arc::new(Table::default());
    let families = [(true, libc::AF_INET, libc::IPPROTO_ICMP), (false, libc::AF_INET6, libc::IPPROTO_ICMPV6)];
    for (v4, family, protocol) in families {
        let proto = Arc::new(Ping { v4, table: table.clone() });
        let key = ProtoSwitch { family, ty: libc::SOCK_DGRAM, protocol, default: false, proto };
        stack.registry.register(&[key], None)?;
    }
    net(stack).ping.set(table);
    Ok(())
}

/// Input from IP: echo replies and ICMP errors.
impl PingRcv for Table {
    /// Delivers a reply to the socket with its identifier; drops it if there is none.
    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        if !skb.may_pull(icmp::HEADER_LEN) {
            return stack.mib.drop(DropReason::IcmpMalformed);
        }
        let id = u16::from_be_bytes([skb.linear()[4], skb.linear()[5]]);
        let Some(sock) = self.find(info.dst.is_ipv4(), id, info.dst, info.ifindex) else {
            return stack.mib.drop(DropReason::NoSocket);
        };
        skb.rx = Some(*info);
        sock.deliver(stack, skb, info.now);
    }

    /// Delivers an error about an echo request to the socket that sent the request.
    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) {
        let id = match e.quoted {
            [ty, code, _, _, a, b, ..] if supported(e.src.is_ipv4(), *ty, *code) => u16::from_be_bytes([*a, *b]),
            // Not about an echo request, so no socket sent it.
            _ => return stack.mib.drop(DropReason::IcmpImplausible),
        };
        let Some(sock) = self.find(e.src.is_ipv4(), id, e.src, e.ifindex) else {
            return stack.mib.drop(DropReason::IcmpImplausible);
        };
        errors::report(stack, &sock, e, |g, e| {
            errors::icmp_error(g, e, kind::name_of(e.dst, 0, e.ifindex), e.quoted);
        });
    }
}

impl Ping {
    /// Writes the socket's identifier and the checksum into the message. EINVAL if it is not an echo request
    /// (ping_common_sendmsg).
    fn finish(&self, g: &SockGuard<'_>, bytes: &mut [u8], src: IpAddr, dst: IpAddr) -> Result<()> {
        bytes[4..6].copy_from_slice(&g.common.sport.to_be_bytes());
        match (src, dst) {
            (IpAddr::V4(_), IpAddr::V4(_)) => icmp::fill_checksum(bytes),
            (IpAddr::V6(s), IpAddr::V6(d)) => wire6::fill_checksum(bytes, s, d),
            _ => return Err(Error::Inval),
        }
        Ok(())
    }
}

impl Ping {
    /// The call's name, of the socket's family, or the peer (ping_v4_sendmsg, ping_v6_sendmsg).
    fn destination(&self, g: &SockGuard<'_>, msg: &SendMsg<'_>) -> Result<SocketAddr> {
        let whole = if self.v4 { size_of::<libc::sockaddr_in>() } else { size_of::<libc::sockaddr_in6>() };
        match (msg.name, msg.odd_name) {
            (_, Some(odd)) if odd.len < whole => Err(Error::Inval),
            (_, Some(_)) => Err(Error::AfNoSupport),
            // A name of IPv4 is shorter than a ping socket of IPv6 wants it.
            (Some(to), _) if to.is_ipv4() && !self.v4 => Err(Error::Inval),
            (Some(to), _) if to.is_ipv6() && self.v4 => Err(Error::AfNoSupport),
            (Some(to), _) if to.is_ipv6() && unmap(to).is_ipv4() => Err(Error::Inval),
            (Some(SocketAddr::V6(to)), _)
                if kind::needs_scope(*to.ip()) && to.scope_id() == 0 && g.common.bound_dev_if == 0 =>
            {
                Err(Error::Inval)
            }
            (name, None) => datagram::destination(g, name, self.v4),
        }
    }
}

impl Proto for Ping {
    fn contained(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        if self.v4 { "PING" } else { "PINGv6" }
    }

    /// EACCES unless a group of the process is in `net.ipv4.ping_group_range`; by default none is (ping_init_sock).
    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        let (low, high) = sk.stack.sysctl.ping_group_range();
        if low > high || !group::any_within(low, high).unwrap_or(false) {
            return Err(Error::Acces);
        }
        sk.common.set_flag(flag::V6ONLY, !self.v4);
        // As the kernel's, they share identifiers unless one of them says no (INET_PROTOSW_REUSE).
        sk.common.set_flag(flag::REUSE, true);
        Ok(())
    }

    fn close(&self, sk: SockRef<'_>, _: i32) {
        let mut g = sk.lock();
        self.unhash(&mut g);
        datagram::close(&mut g);
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        // The address is judged before it counts that the socket is bound already (ping_check_bind_addr).
        let ip = addr.ip();
        if unmap(addr).is_ipv4() != self.v4 || !self.v4 && ip.is_multicast() {
            return Err(Error::Inval);
        }
        if ip.is_multicast() || net(sk.stack).routes.is_broadcast(ip) {
            return Err(Error::AddrNotAvail);
        }
        if let SocketAddr::V6(a) = addr {
            if kind::needs_scope(*a.ip()) && a.scope_id() == 0 {
                return Err(Error::Inval);
            }
            for device in [a.scope_id(), sk.common.bound_dev_if] {
                if device != 0 {
                    sk.stack.netdevs.by_index(device).ok_or(Error::NoDev)?;
                }
            }
            if !ip.is_unspecified() && !bind::may_be_foreign(sk, ip) && !route::is_local(sk.stack, ip) {
                return Err(Error::AddrNotAvail);
            }
        }
        bind::bind(sk, addr)
    }

    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        if addr.is_ipv4() != self.v4 {
            // A v4-mapped address has no route over IPv6.
            return Err(if self.v4 { Error::AfNoSupport } else { Error::NetUnreach });
        }
        // The device stays where there is no route through it.
        let done = datagram::connect(sk, addr);
        self.rehash(sk);
        done
    }

    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        datagram::disconnect(sk);
        if !sk.common.flag(flag::BINDPORT_LOCK) {
            self.unhash(sk);
            sk.common.sport = 0;
        }
        self.rehash(sk);
        Ok(())
    }

    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        // The kernel's ping sockets know SIOCOUTQ neither (ping_prot has no ioctl).
        let _ = (sk, request);
        Err(Error::NoTty)
    }

    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        sockopt::set(&mut sk.lock(), level, name, value)
    }

    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        sockopt::get(&sk.lock(), level, name, value)
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let len = msg.remaining();
        if len < icmp::HEADER_LEN {
            return Err(Error::Inval);
        }
        datagram::send_len(msg)?;
        msg.begins(icmp::HEADER_LEN)?;
        let whole = msg.readable();
        let mut bytes = vec![0; len];
        msg.copy_to(&mut bytes[..icmp::HEADER_LEN]);
        if !supported(self.v4, bytes[0], bytes[1]) {
            return Err(Error::Inval);
        }
        let mut g = sk.lock();
        let to = self.destination(&g, msg)?;
        if !self.v4 && msg.name.is_some() && to.ip().is_unspecified() {
            // `::` is this host to connect(2) only, unlike over IPv4 and for UDP. Control data is judged before.
            plan::plan(&mut g, to, &msg.control, msg.flags)?;
            return Err(Error::NetUnreach);
        }
        let mut plan = plan::plan(&mut g, to, &msg.control, msg.flags)?;
        if self.v4 && msg.flags & MSG_PROBE != 0 {
            // Only the way was asked for (ip_append_data); over IPv6 the flags do not get so far.
            return Ok(len);
        }
        // What cannot be read shows below, where Linux copies it.
        msg.copy_to(&mut bytes[icmp::HEADER_LEN..]);
        self.finish(&g, &mut bytes, plan.src, plan.to.ip())?;
        if self.v4 && len > MAX_MESSAGE {
            errors::local_too_long(&mut g, plan.to, plan.dst.mtu);
            return Err(Error::MsgSize);
        }
        datagram::wait_for_room(&mut g, self.v4, msg.dontwait())?;
        let mut cork = Cork::new(&g, &plan, false);
        if !cork.is_one(len) {
            cork.append(&g, len - icmp::HEADER_LEN, icmp::HEADER_LEN)?;
        }
        whole?;
        let df = plan.fit(&mut g, len + if self.v4 { 20 } else { 40 })?;
        let protocol = if self.v4 {
            icmp_mib::count_out_v4(g.stack, bytes[0]);
            proto::ICMP
        } else {
            icmp_mib::count_out_v6(g.stack, bytes[0]);
            proto::ICMPV6
        };
        let flow_label = plan.flow_label_of(&g, protocol);
        plan.xmit(&g, Skb::from_slice(&bytes), protocol, flow_label, df)?;
        Ok(len)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        // The length of what there is, which MSG_TRUNC asks for, is not told here (ping_recvmsg).
        msg.flags &= !libc::MSG_TRUNC;
        datagram::recv_whole(sk, msg)
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, mut skb: Skb) {
        let Some(rx) = skb.rx else { return };
        let c = &sk.common;
        let bound = c.rcv_saddr.is_unspecified() || c.rcv_saddr == rx.dst;
        // An answer counts whoever it is from: ping_lookup does not look at the peer.
        if !bound || (c.bound_dev_if != 0 && c.bound_dev_if != rx.ifindex) {
            return sk.stack.mib.drop(DropReason::NoSocket);
        }
        if !filter::admits(sk.stack, &sk.common, &mut skb, 1) {
            sk.sock.drops.fetch_add(1, Ordering::Relaxed);
            return sk.stack.mib.drop(DropReason::SocketFilter);
        }
        rxcontrol::arrived(sk, &mut skb);
        if let Err(reason) = datagram::queue(sk, skb) {
            sk.stack.mib.drop(reason);
        }
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        self.table.remove(self.v4, sk.common.sport, sk.sock);
    }

    fn rehash(&self, sk: &mut SockGuard<'_>) {
        self.table.update(self.v4, sk.common.sport, Holder::of(sk));
    }

    fn get_port(&self, sk: &mut SockGuard<'_>, port: u16) -> Result<()> {
        let table = &self.table;
        let holder = Holder::of(sk);
        sk.common.sport = match port {
            0 => table.insert_any(sk.stack, self.v4, holder).ok_or(Error::AddrInUse)?,
            id if table.insert(self.v4, id, holder) => id,
            _ => return Err(Error::AddrInUse),
        };
        Ok(())
    }

    fn put_port(&self, sk: &mut SockGuard<'_>) {
        self.unhash(sk);
        sk.common.sport = 0;
    }

    fn net_exit(&self) {
        self.table.clear();
    }

    fn diag_dump(&self, each: &mut dyn FnMut(Dumped)) -> Option<(u16, u16)> {
        self.table.all().into_iter().for_each(|sock| each(Dumped::Sock(sock)));
        None
    }

    fn diag_destroy(&self, sk: SockRef<'_>, err: Error) -> Result<()> {
        datagram::abort(self, sk, err)
    }
}
