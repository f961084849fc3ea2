//! Raw sockets: IP datagrams of any protocol, in both directions (raw(7)). Above: the socket layer. Below: `ip`, which
//! gives each matching socket a copy of a received packet. Over IPv4 a program receives the IP header and may send its
//! own (IP_HDRINCL; always for IPPROTO_RAW, whose sockets receive nothing); over IPv6 it receives what follows the
//! extension headers. Linux: net/ipv4/raw.c, net/ipv6/raw.c. No privilege is required: the program owns its stack. In
//! `table`: sockets by protocol number.

mod table;
#[cfg(test)]
mod tests;

use table::Table;

use crate::base::error::{Error, Result};
use crate::counters::DropReason;
use crate::ip::output::xmit_with_header;
use crate::ip::{bind, datagram, net, sockopt};
use crate::sock::addr::{SIN6_LEN_RFC2133, unmap};
use crate::sock::diag::Dumped;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::packet::IcmpError;
use crate::sock::proto::{Proto, ProtoSwitch, RegisterError, SockRef};
use crate::sock::skb::{L3, Skb, TxOwner};
use crate::sock::sockopt::{int, put, put_int};
use crate::sock::{Sock, SockGuard, flag};
use crate::stack::Stack;
use crate::wire::ip;
use crate::wire::{checksum, proto};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const ICMP_FILTER: i32 = 1;
const ICMPV6_FILTER: i32 = 1;
const IPV6_CHECKSUM: i32 = 7;

/// Raw sockets' part of a sock.
#[derive(Default)]
struct RawSock {
    /// ICMP_FILTER: a set bit blocks the ICMP type.
    filter: u32,
    /// ICMP6_FILTER: the same for ICMPv6.
    filter6: [u32; 8],
    /// IPV6_CHECKSUM: offset of the checksum in the payload; None: the program computes it.
    checksum: Option<u16>,
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

/// Delivers an ICMP error about a packet of this sock's protocol.
fn error(stack: &Arc<Stack>, sock: &Arc<Sock>, e: &IcmpError<'_>) {
    datagram::report(stack, sock, e, |g| {
        let c = &g.common;
        let ours =
            (c.daddr.is_unspecified() || c.daddr == e.dst) && (c.rcv_saddr.is_unspecified() || c.rcv_saddr == e.src);
        if ours {
            datagram::icmp_error(g, e, datagram::name_of(e.dst, 0, e.ifindex), e.quoted);
        }
    });
}

impl Raw {
    /// Completes the IP header that a program wrote, as in raw(7): total length and checksum always, source and
    /// identification if they are 0. EINVAL if the header is missing or its length is wrong.
    fn complete_header(&self, g: &SockGuard<'_>, bytes: &mut [u8], src: IpAddr, to: IpAddr) -> Result<()> {
        let header_len = usize::from(bytes.first().ok_or(Error::Inval)? & 15) * 4;
        if bytes.len() < ip::HEADER_LEN || header_len < ip::HEADER_LEN || header_len > bytes.len() {
            return Err(Error::Inval);
        }
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        if let (IpAddr::V4(own), [0, 0, 0, 0]) = (src, [bytes[12], bytes[13], bytes[14], bytes[15]]) {
            bytes[12..16].copy_from_slice(&own.octets());
        }
        if bytes[4..6] == [0, 0] {
            let id = net(g.stack).idents.next(g.stack, src, to, bytes[9], g.now()) as u16;
            bytes[4..6].copy_from_slice(&id.to_be_bytes());
        }
        ip::fill_checksum(&mut bytes[..header_len]);
        Ok(())
    }

    fn fill_checksum(&self, g: &mut SockGuard<'_>, bytes: &mut [u8], src: IpAddr, dst: IpAddr) -> Result<()> {
        let number = g.sock.protocol as u8;
        let Some(at) = private(g)?.checksum.map(usize::from) else { return Ok(()) };
        let n = bytes.len() as u32;
        let field = bytes.get_mut(at..at + 2).ok_or(Error::Inval)?;
        field.fill(0);
        let sum = checksum::finish(checksum::sum(bytes, checksum::pseudo_header(src, dst, number, n)));
        let sum = if sum == 0 { 0xffff } else { sum };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    /// Whether the socket's filter blocks this ICMP message.
    fn filtered(&self, g: &mut SockGuard<'_>, skb: &Skb) -> bool {
        let number = g.sock.protocol as u8;
        let mut ty = [0];
        if skb.copy_out(usize::from(skb.nh_len), &mut ty) == 0 {
            return false;
        }
        let Ok(me) = private(g) else { return true };
        match (self.v4, number) {
            (true, proto::ICMP) => ty[0] < 32 && me.filter >> ty[0] & 1 == 1,
            (false, proto::ICMPV6) => me.filter6[usize::from(ty[0] / 32)] >> (ty[0] % 32) & 1 == 1,
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
        sk.private = Box::new(RawSock { checksum, ..RawSock::default() });
        let header_included = sk.sock.protocol == libc::IPPROTO_RAW as u16;
        sk.common.set_flag(flag::HDRINCL, header_included);
        sk.common.set_flag(flag::V6ONLY, !self.v4);
        Ok(())
    }

    fn close(&self, sk: SockRef<'_>, _: i32) {
        let mut g = sk.lock();
        self.unhash(&mut g);
        datagram::close(&mut g);
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        bind::bind(sk, addr)
    }

    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        if addr.is_ipv4() != self.v4 {
            return Err(Error::AfNoSupport);
        }
        datagram::connect(sk, addr)
    }

    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        datagram::disconnect(sk);
        Ok(())
    }

    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        datagram::ioctl(sk, request, 0)
    }

    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let mut g = sk.lock();
        let number = g.sock.protocol as u8;
        match (level, name) {
            (libc::SOL_RAW, ICMP_FILTER) if self.v4 => {
                if number != proto::ICMP {
                    return Err(Error::OpNotSupp);
                }
                private(&mut g)?.filter = int(value)? as u32;
            }
            (libc::SOL_ICMPV6, ICMPV6_FILTER) if !self.v4 => {
                if number != proto::ICMPV6 {
                    return Err(Error::OpNotSupp);
                }
                let me = private(&mut g)?;
                for (word, b) in me.filter6.iter_mut().zip(value.chunks_exact(4)) {
                    *word = u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            (libc::SOL_RAW | libc::SOL_IPV6, IPV6_CHECKSUM) if !self.v4 => {
                let val = int(value)?;
                if number == proto::ICMPV6 {
                    // For ICMPv6 the stack always computes the checksum (RFC 3542 §3.1).
                    return Err(Error::Inval);
                }
                if val > 0 && val & 1 != 0 {
                    return Err(Error::Inval);
                }
                private(&mut g)?.checksum = u16::try_from(val).ok();
            }
            _ => return sockopt::set(&mut g, level, name, value),
        }
        Ok(())
    }

    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let mut g = sk.lock();
        let number = g.sock.protocol as u8;
        match (level, name) {
            (libc::SOL_RAW, ICMP_FILTER) if self.v4 => {
                if number != proto::ICMP {
                    return Err(Error::OpNotSupp);
                }
                Ok(put_int(value, private(&mut g)?.filter as i32))
            }
            (libc::SOL_ICMPV6, ICMPV6_FILTER) if !self.v4 => {
                if number != proto::ICMPV6 {
                    return Err(Error::OpNotSupp);
                }
                let bytes: Vec<u8> = private(&mut g)?.filter6.iter().flat_map(|w| w.to_ne_bytes()).collect();
                Ok(put(value, &bytes))
            }
            (libc::SOL_RAW | libc::SOL_IPV6, IPV6_CHECKSUM) if !self.v4 => {
                Ok(put_int(value, private(&mut g)?.checksum.map_or(-1, i32::from)))
            }
            _ => sockopt::get(&g, level, name, value),
        }
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let len = datagram::send_len(msg)?;
        let mut g = sk.lock();
        if let Some(odd) = msg.odd_name {
            let whole = if self.v4 { size_of::<libc::sockaddr_in>() } else { SIN6_LEN_RFC2133 };
            return Err(if odd.len < whole { Error::Inval } else { Error::AfNoSupport });
        }
        let to = datagram::destination(&g, msg.name.map(unmap), self.v4)?;
        let mut plan = datagram::plan(&mut g, to, &msg.control, msg.flags)?;
        let to = plan.to;
        datagram::wait_for_room(&mut g, msg.dontwait())?;
        msg.readable()?;
        let mut bytes = vec![0; len];
        if msg.copy_to(&mut bytes) < len {
            return Err(Error::Fault);
        }
        if g.common.flag(flag::HDRINCL) {
            // A packet with the program's own header is never fragmented (raw_send_hdrinc).
            if len > plan.dst.mtu as usize {
                datagram::local_too_long(&mut g, to, plan.dst.mtu);
                return Err(Error::MsgSize);
            }
            if self.v4 {
                self.complete_header(&g, &mut bytes, plan.src, to.ip())?;
            } else if len < 40 {
                return Err(Error::Inval);
            }
            let mut skb = Skb::from_slice(&bytes);
            skb.l3 = if self.v4 { L3::V4 } else { L3::V6 };
            skb.owner = Some(TxOwner::new(g.sock, skb.truesize));
            xmit_with_header(g.stack, &plan.dst, to.ip(), skb)?;
            return Ok(len);
        }
        self.fill_checksum(&mut g, &mut bytes, plan.src, to.ip())?;
        let df = plan.fit(&mut g, len + if self.v4 { 20 } else { 40 })?;
        plan.xmit(&g, Skb::from_slice(&bytes), g.sock.protocol as u8, g.common.flow_label, df)?;
        Ok(len)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        datagram::recv_whole(sk, msg)
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, mut skb: Skb) {
        let Some(rx) = skb.rx else { return };
        let c = &sk.common;
        let ours = (c.rcv_saddr.is_unspecified() || c.rcv_saddr == rx.dst)
            && (c.daddr.is_unspecified() || c.daddr == rx.src)
            && (c.bound_dev_if == 0 || c.bound_dev_if == rx.ifindex);
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
        datagram::arrived(sk, &mut skb);
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
        let mut g = sk.lock();
        g.sock.report_error(err);
        self.disconnect(&mut g)
    }
}
