//! Ports whose datagrams go to another protocol instead of a receive queue: transports and tunnels over UDP. Above:
//! that protocol, which opens a UDP sock of its own, and sends by `output::send_skb`; `input`, which asks here for each
//! datagram as long as there is such a port. Linux: setup_udp_tunnel_sock, udp_encap_needed_key, encap_rcv,
//! __udp4_lib_err_encap.

use super::{HEADER, Udp, datagrams};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::ip::{exception, icmp, kind};
use crate::sock::Sock;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const UDP_ENCAP_ESPINUDP: i32 = 2;
const UDP_ENCAP_L2TPINUDP: i32 = 3;
/// struct ip_esp_hdr.
const ESP_HEADER: usize = 8;

/// UDP_ENCAP of a program's socket.
#[derive(Default)]
pub(super) struct Kind {
    ty: u8,
    /// Whether ESP is looked for, which no later type takes back.
    esp: bool,
}

impl Kind {
    /// ENOPROTOOPT: a tunnel that only the kernel itself opens.
    pub(super) fn set(&mut self, ty: i32) -> Result<()> {
        if !matches!(ty, 0 | UDP_ENCAP_ESPINUDP | UDP_ENCAP_L2TPINUDP) {
            return Err(Error::NoProtoOpt);
        }
        self.esp |= ty != UDP_ENCAP_L2TPINUDP;
        self.ty = ty as u8;
        Ok(())
    }

    pub(super) fn get(&self) -> i32 {
        self.ty.into()
    }

    /// Whether ICMP errors are the tunnel's and not the program's.
    pub(super) fn is_tunnel(&self) -> bool {
        self.ty != 0
    }

    /// Whether a datagram is ESP's and not the program's: one of UDP_ENCAP_ESPINUDP that does not begin with the
    /// marker of four zero bytes (RFC 3948 §2.2), or keeps a NAT's binding alive (xfrm4_udp_encap_rcv).
    pub(super) fn takes(&self, skb: &Skb) -> bool {
        if self.ty == 0 || !self.esp {
            return false;
        }
        let len = skb.len().saturating_sub(HEADER);
        let mut front = [0; 4];
        skb.copy_out(HEADER, &mut front);
        len == 1 && front[0] == 0xff || len > ESP_HEADER && front != [0; 4]
    }
}

/// What takes the datagrams of a port. Softirq context, no sock owned.
pub trait Encap: Send + Sync {
    /// A datagram from `src` to `dst`, without its UDP header; its checksum is verified.
    fn rcv(&self, stack: &Arc<Stack>, skb: Skb, src: SocketAddr, dst: SocketAddr, info: &PacketInfo);
    /// An ICMP error about a datagram that the port at `src` sent to `dst`. `e.quoted` begins with its UDP header; what
    /// the error says of the path's MTU is known already.
    fn err(&self, stack: &Arc<Stack>, src: SocketAddr, dst: SocketAddr, e: &IcmpError<'_>);
}

/// The ports of a stack that have one, by the address of their sock.
#[derive(Default)]
pub(super) struct Encaps {
    /// How many there are: without any, a datagram costs one load.
    needed: AtomicUsize,
    by_sock: RwLock<BTreeMap<usize, Arc<dyn Encap>>>,
}

fn key(sock: &Arc<Sock>) -> usize {
    Arc::as_ptr(sock) as usize
}

impl Encaps {
    #[inline]
    pub(super) fn of(&self, sock: &Arc<Sock>) -> Option<Arc<dyn Encap>> {
        if self.needed.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.by_sock.read().get(&key(sock)).cloned()
    }

    pub(super) fn remove(&self, sock: &Arc<Sock>) {
        if self.needed.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut ports = self.by_sock.write();
        let was = ports.remove(&key(sock));
        self.needed.store(ports.len(), Ordering::Relaxed);
        // Its destructor may come back here.
        drop(ports);
        drop(was);
    }

    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.by_sock.write());
        self.needed.store(0, Ordering::Relaxed);
        drop(all);
    }
}

/// From now on the datagrams to a UDP sock go to `encap`, until the sock is closed: called before it is bound, so that
/// none goes to its receive queue. EINVAL: it is no sock of UDP.
pub fn set(sock: &Arc<Sock>, encap: Arc<dyn Encap>) -> Result<()> {
    let proto = sock.proto();
    let any: &dyn Any = &**proto;
    let encaps = &any.downcast_ref::<Udp>().ok_or(Error::Inval)?.encaps;
    let mut ports = encaps.by_sock.write();
    ports.insert(key(sock), encap);
    encaps.needed.store(ports.len(), Ordering::Relaxed);
    Ok(())
}

/// Hands a datagram to the port's protocol, a super-packet in its datagrams (udp_queue_rcv_one_skb).
pub(super) fn rcv(stack: &Arc<Stack>, encap: &dyn Encap, skb: Skb, ports: (u16, u16), info: &PacketInfo) {
    let (src, dst) = (kind::name_of(info.src, ports.0, info.ifindex), kind::name_of(info.dst, ports.1, info.ifindex));
    datagrams(skb, &mut |mut one| {
        stack.mib.inc(if info.dst.is_ipv4() { Mib::UdpInDatagrams } else { Mib::Udp6InDatagrams });
        one.pull(HEADER);
        encap.rcv(stack, one, src, dst, info);
    });
}

/// Tells the port's protocol of an ICMP error. Learns path MTUs, as for any other port.
pub(super) fn err(stack: &Arc<Stack>, encap: &dyn Encap, e: &IcmpError<'_>, ports: (u16, u16)) {
    if icmp::is_advice(e) {
        return;
    }
    if e.errno == Error::MsgSize {
        exception::update_pmtu(stack, e.dst, e.info, e.now);
    }
    let (src, dst) = (kind::name_of(e.src, ports.0, e.ifindex), kind::name_of(e.dst, ports.1, e.ifindex));
    encap.err(stack, src, dst, e);
}

#[cfg(test)]
mod tests;
