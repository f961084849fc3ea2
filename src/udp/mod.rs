//! UDP (RFC 768, RFC 8200 §8.1). Above: the socket layer, through `Proto`, like every protocol. Below: `ip`, which also
//! has what all datagram sockets share (`ip::datagram`). This file has the table of operations, binding and options.
//! Linux: net/ipv4/udp.c, net/ipv6/udp.c, udp_offload.c, udp_tunnel_core.c.
//!
//! | file | what |
//! |---|---|
//! | `encap` | ports whose datagrams go to another protocol |
//! | `input` | from a datagram to its socket, and to the program |
//! | `output` | from the program's bytes to a datagram |

pub(crate) mod encap;
mod input;
pub(crate) mod output;
#[cfg(test)]
mod several_test;
#[cfg(test)]
mod tests;

use crate::base::error::{Error, Result};
use crate::ip::port_table::{PortEntry, PortTable};
use crate::ip::{bind, datagram, sockopt};
use crate::sock::cmsg::{UDP_GRO, UDP_SEGMENT};
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::proto::{Dumped, Proto, RecvSeveral, SendSeveral, SockRef};
use crate::sock::registry::{ProtoSwitch, RegisterError};
use crate::sock::reuseport::Membership;
use crate::sock::skb::{Csum, GsoType, Skb};
use crate::sock::sockopt::{int, put_int};
use crate::sock::wait::Events;
use crate::sock::{Private, SockGuard, datagram_poll, flag, more};
use crate::stack::Stack;
use crate::wire::udp;
use std::net::SocketAddr;
use std::sync::Arc;

const UDP_CORK: i32 = 1;
const UDP_NO_CHECK6_TX: i32 = 101;
const UDP_NO_CHECK6_RX: i32 = 102;
const UDP_ENCAP: i32 = 100;
const SOL_UDP: i32 = 17;

/// Bytes of header in front of the payload.
const HEADER: usize = udp::HEADER_LEN;

/// UDP's part of a sock.
#[derive(Default)]
struct UdpSock {
    /// UDP_CORK.
    cork: bool,
    /// The corked datagram so far, and its destination.
    pending: Option<output::Pending>,
    /// UDP_SEGMENT: bytes a datagram; 0: off.
    segment: u16,
    /// UDP_GRO.
    gro: bool,
    no_check6_tx: bool,
    no_check6_rx: bool,
    /// UDP_ENCAP.
    encap: encap::Kind,
    /// Whether the sock is in the table under `common.sport`.
    bound: bool,
}

fn private<'a>(g: &'a mut SockGuard<'_>) -> Result<&'a mut UdpSock> {
    // `init` creates it; another type is there only if a protocol that replaced UDP did not restore it.
    g.private.downcast_mut().ok_or(Error::BadFd)
}

/// The table of operations, the handler of UDP's IP protocol number, and the sockets. Linux: udp_prot, udp_protocol,
/// udp_table.
#[derive(Default)]
struct Udp {
    table: PortTable,
    encaps: encap::Encaps,
}

/// Registers UDP for both families and its IP protocol number. Fails if UDP or its number is registered already.
pub fn register(stack: &Arc<Stack>) -> std::result::Result<(), RegisterError> {
    let proto = Arc::new(Udp::default());
    let key = |family| ProtoSwitch {
        family,
        ty: libc::SOCK_DGRAM,
        protocol: libc::IPPROTO_UDP,
        default: true,
        proto: proto.clone(),
    };
    let keys = [key(libc::AF_INET), key(libc::AF_INET6)];
    stack.registry.register(&keys, Some((&[libc::IPPROTO_UDP as u8], proto.clone())))
}

/// A received super-packet is split into its datagrams; any other is one.
fn datagrams(skb: Skb, each: &mut dyn FnMut(Skb)) {
    if skb.gso_type != GsoType::Udp {
        return each(skb);
    }
    let size = usize::from(skb.gso_size.max(1));
    let mut head = [0; HEADER];
    skb.copy_out(0, &mut head);
    let mut at = HEADER;
    while at < skb.len() {
        let mut bytes = vec![0; size.min(skb.len() - at)];
        skb.copy_out(at, &mut bytes);
        at += bytes.len();
        let mut one = Skb::from_slice(&[&head[..], &bytes[..]].concat());
        (one.rx, one.tstamp, one.ifindex, one.csum) = (skb.rx, skb.tstamp, skb.ifindex, Csum::Unnecessary);
        each(one);
    }
}

impl Proto for Udp {
    fn contained(&self) -> bool {
        false
    }

    fn name(&self) -> &str {
        "UDP"
    }

    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        sk.private = Private::new(UdpSock::default());
        Ok(())
    }

    fn close(&self, sk: SockRef<'_>, _: i32) {
        let mut g = sk.lock();
        // A corked datagram is lost, as in Linux (udp_flush_pending_frames).
        let _ = output::take(&mut g);
        self.unhash(&mut g);
        self.encaps.remove(sk.sock);
        datagram::close(&mut g);
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        bind::bind(sk, addr)
    }

    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        let device = sk.common.bound_dev_if;
        let done = datagram::connect(sk, addr);
        // An interface that the name said stays the socket's, whatever came of it.
        if done.is_ok() || sk.common.bound_dev_if != device {
            self.hash(sk)?;
        }
        done
    }

    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        datagram::disconnect(sk);
        if sk.common.flag(flag::BINDPORT_LOCK) {
            return self.hash(sk);
        }
        self.unhash(sk);
        sk.common.sport = 0;
        Ok(())
    }

    /// SIOCINQ: bytes of the next datagram. SIOCOUTQ: memory of what is corked or in device queues.
    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        if request == libc::FIONREAD {
            datagram::drop_bad(&mut sk.lock(), input::first_verified);
        }
        datagram::ioctl(sk, request, HEADER)
    }

    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let mut g = sk.lock();
        if level != SOL_UDP {
            return sockopt::set(&mut g, level, name, value);
        }
        let val = int(value)?;
        let me = private(&mut g)?;
        match name {
            UDP_CORK if val != 0 => me.cork = true,
            UDP_CORK => {
                me.cork = false;
                output::push_pending(&mut g)?;
            }
            UDP_NO_CHECK6_TX => me.no_check6_tx = val != 0,
            UDP_NO_CHECK6_RX => me.no_check6_rx = val != 0,
            UDP_SEGMENT => me.segment = u16::try_from(val).map_err(|_| Error::Inval)?,
            UDP_GRO => me.gro = val != 0,
            UDP_ENCAP => me.encap.set(val)?,
            _ => return Err(Error::NoProtoOpt),
        }
        Ok(())
    }

    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let mut g = sk.lock();
        if level != SOL_UDP {
            return sockopt::get(&g, level, name, value);
        }
        let me = private(&mut g)?;
        let n = match name {
            UDP_CORK => i32::from(me.cork),
            UDP_NO_CHECK6_TX => i32::from(me.no_check6_tx),
            UDP_NO_CHECK6_RX => i32::from(me.no_check6_rx),
            UDP_SEGMENT => i32::from(me.segment),
            UDP_GRO => i32::from(me.gro),
            UDP_ENCAP => me.encap.get(),
            _ => return Err(Error::NoProtoOpt),
        };
        Ok(put_int(value, n))
    }

    fn splice_eof(&self, sk: SockRef<'_>) {
        output::splice_eof(sk);
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        output::sendmsg(sk, msg)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        input::recvmsg(&mut sk.lock(), msg)
    }

    fn send_several(&self, sk: SockRef<'_>, all: &mut SendSeveral<'_>) {
        output::send_several(sk, all);
    }

    fn recv_several(&self, sk: SockRef<'_>, all: &mut RecvSeveral<'_>) {
        input::recv_several(sk, all);
    }

    /// Of a socket whose reads wait, a datagram with a wrong checksum is no reason to read (udp_poll).
    fn poll_locked(&self, sk: &mut SockGuard<'_>) -> Events {
        if sk.common.more & more::NONBLOCK == 0 && !sk.sock.rcv_shutdown() {
            datagram::drop_bad(sk, input::first_verified);
        }
        datagram_poll(sk)
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
        input::queue(sk, skb);
    }

    /// Updates the table for the socket's current addresses.
    fn hash(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        if private(sk)?.bound {
            self.table.rehash(PortEntry::of(sk, sk.common.sport));
        }
        Ok(())
    }

    fn rehash(&self, sk: &mut SockGuard<'_>) {
        // Fails only for a sock without UDP's part, which is not in the table.
        let _ = self.hash(sk);
    }

    fn reuseport(&self, sk: &SockGuard<'_>) -> Membership {
        self.table.reuseport(sk.sock, sk.common.sport)
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        let port = sk.common.sport;
        if let Ok(me) = private(sk)
            && std::mem::take(&mut me.bound)
        {
            self.table.unbind(port, sk.sock);
        }
    }

    fn get_port(&self, sk: &mut SockGuard<'_>, port: u16) -> Result<()> {
        let port = self.table.get_port(sk, port)?;
        sk.common.sport = port;
        private(sk)?.bound = true;
        Ok(())
    }

    fn put_port(&self, sk: &mut SockGuard<'_>) {
        self.unhash(sk);
        sk.common.sport = 0;
    }

    fn sysctl_mem(&self, stack: &Stack) -> Option<[i64; 3]> {
        Some(stack.sysctl.udp_mem().map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
    }

    fn sysctl_wmem(&self, stack: &Stack) -> [i32; 3] {
        let d = stack.sysctl.wmem_default();
        [stack.sysctl.udp_wmem_min(), d, d]
    }

    fn sysctl_rmem(&self, stack: &Stack) -> [i32; 3] {
        let d = stack.sysctl.rmem_default();
        [stack.sysctl.udp_rmem_min(), d, d]
    }

    fn net_exit(&self) {
        self.encaps.clear();
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
