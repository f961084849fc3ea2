//! `usk_udp_t`: the UDP ports of a protocol.

use super::addr;
use super::home;
use super::info::{icmp_error, packet_info, tx_info};
use super::proto::without_sock;
use super::sock::ProtoReg;
use crate::errno::{Errno, Result, length, status};
use crate::proto::Protocol;
use crate::skb::Skb;
use crate::sock::TxInfo;
use crate::sys::*;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ptr::{NonNull, null_mut};

/// A UDP port of protocol `P`, from [`ProtoReg::udp_open`]. It ends with the registration, whatever becomes of this
/// handle; each call takes the registration, which proves that it is there. With it is the registration's number: after
/// it another one may be at its address.
pub struct UdpPort<P: Protocol>(NonNull<usk_udp_t>, u64, PhantomData<fn(&P)>);

/// What a UDP port is told before it is bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpConfig {
    /// Other ports, and sockets of programs, may have the same one (SO_REUSEPORT).
    pub reuseport: bool,
    /// A port of IPv6 takes no datagrams of IPv4 (IPV6_V6ONLY).
    pub v6only: bool,
    /// The only interface by which datagrams come and go; 0: any.
    pub ifindex: u32,
}

// SAFETY: the calls on a port may be made from any thread.
unsafe impl<P: Protocol> Send for UdpPort<P> {}
// SAFETY: as above.
unsafe impl<P: Protocol> Sync for UdpPort<P> {}

impl<P: Protocol> UdpPort<P> {
    /// EINVAL: it is a port of another registration, which may have ended.
    fn raw(&self, reg: ProtoReg<'_, P>) -> Result<*mut usk_udp_t> {
        if serial(reg) == self.1 { Ok(self.0.as_ptr()) } else { Err(Errno::Inval) }
    }

    /// Sends a packet as a datagram to `to` (`usk_udp_send`): it begins with the protocol's header. Never waits.
    /// ENOBUFS: a queue is full, treat it as a loss; EMSGSIZE, ENETUNREACH, EINVAL.
    pub fn send(&self, reg: ProtoReg<'_, P>, skb: Skb, to: SocketAddr, tx: &TxInfo) -> Result<()> {
        let (port, tx) = (self.raw(reg)?, tx_info(tx));
        // SAFETY: valid, as its registration is; the packet is given up, the others are readable.
        status(unsafe { usk_udp_send(port, skb.give(), &addr::to_c(to), &tx, size_of::<usk_tx_info_t>()) })
    }

    /// How many bytes a datagram to `to` may have without being fragmented.
    pub fn mtu(&self, reg: ProtoReg<'_, P>, to: SocketAddr) -> Result<usize> {
        let port = self.raw(reg)?;
        // SAFETY: see `send`.
        length(unsafe { usk_udp_mtu(port, &addr::to_c(to)) } as isize)
    }

    /// The source of datagrams to `to`; None: the address and port that it is bound to.
    pub fn source(&self, reg: ProtoReg<'_, P>, to: Option<SocketAddr>) -> Result<SocketAddr> {
        let (port, to, mut from) = (self.raw(reg)?, to.map(addr::to_c), addr::NONE);
        let to = to.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: see `send`; null is allowed, and the other is writable.
        status(unsafe { usk_udp_source(port, to, &mut from) })?;
        Ok(addr::given(&from))
    }

    /// Sets an option, as setsockopt(2) of a UDP socket (`usk_udp_setsockopt`): memberships of groups, how datagrams
    /// are sent. ENOPROTOOPT: also what only a program that receives has a use for.
    pub fn setsockopt(&self, reg: ProtoReg<'_, P>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let port = self.raw(reg)?;
        // SAFETY: see `send`; readable.
        status(unsafe { usk_udp_setsockopt(port, level, name, value.as_ptr().cast(), value.len()) })
    }

    /// Reads an option, as getsockopt(2) of a UDP socket; returns how many bytes it wrote.
    pub fn getsockopt(&self, reg: ProtoReg<'_, P>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let port = self.raw(reg)?;
        // SAFETY: see `send`; writable.
        length(unsafe { usk_udp_getsockopt(port, level, name, value.as_mut_ptr().cast(), value.len()) })
    }

    /// Closes it.
    pub fn close(self, reg: ProtoReg<'_, P>) -> Result<()> {
        let port = self.raw(reg)?;
        // SAFETY: see `send`; nobody has another handle for longer than a function of the table runs.
        status(unsafe { usk_udp_close(port) })
    }
}

impl<P: Protocol> ProtoReg<'_, P> {
    /// Opens a UDP port whose datagrams go to [`Protocol::encap_rcv`] (`usk_udp_open`). `local`: unspecified for any
    /// address, of both families if it is IPv6's; port 0 for any free one. EADDRINUSE, EADDRNOTAVAIL.
    pub fn udp_open(self, local: SocketAddr) -> Result<UdpPort<P>> {
        self.udp_open_with(local, UdpConfig::default())
    }

    /// The same, of a port that is told more before it is bound.
    pub fn udp_open_with(self, local: SocketAddr, config: UdpConfig) -> Result<UdpPort<P>> {
        let flags = [(config.reuseport, USK_UDP_REUSEPORT), (config.v6only, USK_UDP_V6ONLY)];
        let ops = usk_udp_ops {
            version: USK_UDP_VERSION,
            size: size_of::<usk_udp_ops>() as u32,
            encap_rcv: Some(encap_rcv::<P>),
            encap_err: Some(encap_err::<P>),
            flags: flags.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag),
            ifindex: config.ifindex,
        };
        let mut port = null_mut();
        // SAFETY: a valid registration of `P`, for which the functions are made; readable, and writable.
        status(unsafe { usk_udp_open(self.raw(), &addr::to_c(local), &ops, null_mut(), &mut port) })?;
        NonNull::new(port).map(|port| UdpPort(port, serial(self), PhantomData)).ok_or(Errno::Inval)
    }
}

fn serial<P: Protocol>(reg: ProtoReg<'_, P>) -> u64 {
    // SAFETY: a valid registration, whose `user` is `P`'s by `home::register`.
    unsafe { home::serial::<P>(usk_user(reg.raw())) }
}

unsafe extern "C" fn encap_rcv<P: Protocol>(udp: *mut usk_udp_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t) {
    // The packet is ours: freed wherever it is dropped.
    let skb = Skb::from_raw(skb);
    // SAFETY: the library calls it with a port of ours, and what is readable.
    unsafe {
        without_sock::<P, _>(usk_udp_reg(udp), (), |p, reg| {
            if let (Some(skb), Some(port)) = (skb, NonNull::new(udp)) {
                p.encap_rcv(reg, &UdpPort(port, serial(reg), PhantomData), skb, &packet_info(&*info));
            }
        });
    }
}

unsafe extern "C" fn encap_err<P: Protocol>(udp: *mut usk_udp_t, error: *const usk_icmp_error_t) {
    // SAFETY: as above.
    unsafe {
        without_sock::<P, _>(usk_udp_reg(udp), (), |p, reg| {
            if let Some(port) = NonNull::new(udp) {
                p.encap_err(reg, &UdpPort(port, serial(reg), PhantomData), &icmp_error(&*error));
            }
        });
    }
}
