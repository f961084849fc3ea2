//! Raw sockets: IP datagrams of any protocol, in both directions (raw(7)). Above: the socket layer. Below: `ip`, which
//! gives each matching socket a copy of a received packet. Over IPv4 a program receives the IP header and may send its
//! own (IP_HDRINCL; always for IPPROTO_RAW, whose sockets receive nothing); over IPv6 it receives what follows the
//! extension headers. Linux: net/ipv4/raw.c, net/ipv6/raw.c. No privilege is required: the program owns its stack.
//!
//! | file | what |
//! |---|---|
//! | `bind` | bind(2) |
//! | `options` | ICMP filters, IPV6_CHECKSUM, IPV6_HDRINCL |
//! | `output` | sending |
//! | `table` | sockets by protocol number |

mod bind;
mod options;
mod output;
mod table;
#[cfg(test)]
mod tests;

use table::Table;

use crate::base::error::{Error, Result};
use crate::counters::DropReason;
use crate::ip::{datagram, multicast, net, rxcontrol};
use crate::sock::filter;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::proto::{Dumped, Proto, SockRef};
use crate::sock::registry::{ProtoSwitch, RegisterError};
use crate::sock::skb::Skb;
use crate::sock::{Private, SockGuard, flag};
use crate::stack::Stack;
use crate::wire::{checksum, icmp, proto};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Least length of an ICMPv6 message that the filter looks at (ICMPV6_HDRLEN).
const ICMPV6_FILTERED_LEN: usize = 4;

/// Raw sockets' part of a sock.
#[derive(Default)]
struct RawSock {
    /// ICMP_FILTER: a set bit blocks the ICMP type.
    filter: u32,
    /// ICMP6_FILTER: the same for ICMPv6.
    filter6: [u32; 8],
    /// IPV6_CHECKSUM: offset of the checksum in the payload; None: the program computes it.
    checksum: Option<u32>,
    /// What MSG_MORE holds back.
    pending: Option<output::Pending>,
}

fn private<'a>(g: &'a mut SockGuard<'_>) -> Result<&'a mut RawSock> {
    g.private.downcast_mut().ok_or(Error::BadFd)
}

/// The table of operations for one family, and the sockets of both.
struct Raw {
    v4: bool,
    table: Arc<Table>,
}

/// Registers "RAW" and "RAWv6" for every protocol number, and takes IP's slot for copies of packets.
pub fn register(stack: &Arc<Stack>) -> std::result::Result<(), RegisterError> {
    let table = Arc::new(Table::default());
    for (v4, family) in [(true, libc::AF_INET), (false, libc::AF_INET6)] {
        let proto = Arc::new(Raw { v4, table: table.clone() });
        stack
            .registry
            .register(&[ProtoSwitch { family, ty: libc::SOCK_RAW, protocol: 0, default: false, proto }], None)?;
    }
    net(stack).raw.set(table);
    Ok(())
}

impl Raw {
    /// Whether the socket's filter blocks this ICMP message.
    fn filtered(&self, g: &mut SockGuard<'_>, skb: &Skb) -> bool {
        let number = g.sock.protocol as u8;
        let mut head = [0; icmp::HEADER_LEN];
        let n = skb.copy_out(usize::from(skb.nh_len), &mut head);
        let ty = head[0];
        let Ok(me) = private(g) else { return true };
        match (self.v4, number) {
            // A message without its header is nobody's (icmp_filter, icmpv6_filter).
            (true, proto::ICMP) if n < icmp::HEADER_LEN => true,
            (false, proto::ICMPV6) if n < ICMPV6_FILTERED_LEN => true,
            (true, proto::ICMP) => ty < 32 && me.filter >> ty & 1 == 1,
            (false, proto::ICMPV6) => me.filter6[usize::from(ty / 32)] >> (ty % 32) & 1 == 1,
            _ => false,
        }
    }
}

impl Proto for Raw {
    fn contained(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        if self.v4 { "RAW" } else { "RAWv6" }
    }

    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        // The ICMPv6 checksum covers addresses that the program does not know, so the stack fills it in
        // (RFC 3542 §3.1).
        let checksum = (!self.v4 && sk.sock.protocol == u16::from(proto::ICMPV6)).then_some(2);
        sk.private = Private::new(RawSock { checksum, ..RawSock::default() });
        let header_included = sk.sock.protocol == libc::IPPROTO_RAW as u16;
        sk.common.set_flag(flag::HDRINCL, header_included);
        // INET_PROTOSW_REUSE; it means nothing to them.
        sk.common.set_flag(flag::REUSE, true);
        Ok(())
    }

    fn close(&self, sk: SockRef<'_>, _: i32) {
        let mut g = sk.lock();
        // What MSG_MORE held back is lost (raw_destroy).
        let _ = output::take(&mut g);
        self.unhash(&mut g);
        datagram::close(&mut g);
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        match addr {
            SocketAddr::V4(addr) => bind::v4(sk, *addr.ip()),
            SocketAddr::V6(addr) => bind::v6(sk, addr),
        }
    }

    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        if addr.is_ipv4() != self.v4 && sk.common.flag(flag::V6ONLY) {
            return Err(Error::NetUnreach);
        }
        datagram::connect(sk, addr)
    }

    /// Without its number a socket receives no more (__udp_disconnect).
    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        datagram::disconnect(sk);
        self.unhash(sk);
        sk.common.sport = 0;
        Ok(())
    }

    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        datagram::ioctl(sk, request, 0)
    }

    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        options::set(&mut sk.lock(), self.v4, level, name, value)
    }

    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        options::get(&mut sk.lock(), self.v4, level, name, value)
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        output::sendmsg(&mut sk.lock(), self.v4, msg)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        datagram::recv_whole(sk, msg)
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, mut skb: Skb) {
        let Some(rx) = skb.rx else { return };
        // Linux asks the filters of its groups over IPv4 alone.
        let ours =
            table::is_for(&sk.common, &rx) && (!self.v4 || multicast::wanted(sk.sock, rx.src, rx.dst, rx.ifindex));
        // The packet is not for this socket. Not counted as a drop: its own protocol receives it.
        if !ours || self.filtered(sk, &skb) {
            return;
        }
        if !self.v4 {
            let headers = usize::from(skb.nh_len);
            skb.pull(headers);
            let len = skb.len() as u32;
            let pseudo = || checksum::pseudo_header(rx.src, rx.dst, rx.protocol, len);
            let checks = matches!(private(sk), Ok(&mut RawSock { checksum: Some(_), .. }));
            if checks && !skb.checksum_ok(pseudo) {
                sk.sock.drops.fetch_add(1, Ordering::Relaxed);
                return sk.stack.mib.drop(DropReason::SkbCsum);
            }
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

    /// Called when the socket is created: a raw socket receives at once. IPPROTO_RAW sockets only send.
    fn hash(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        if sk.sock.protocol < libc::IPPROTO_RAW as u16 {
            self.table.insert(&net(sk.stack).raw, self.v4, sk.sock.protocol as u8, sk.sock);
        }
        Ok(())
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        self.table.remove(&net(sk.stack).raw, self.v4, sk.sock.protocol as u8, sk.sock);
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
