//! Ethernet frames over a raw socket (AF_PACKET) on a kernel interface, which must have no address there. Above:
//! `ip::output` through `neigh`, the poll loop. Below: `vnet`, `sys`. With PACKET_VNET_HDR, super-packets and partial
//! checksums pass in both directions, as on a veth pair. In the kernel: net/packet/af_packet.c.

use super::vnet::{self, RxBuf, Stats};
use super::{Caps, DevStats, Device, LinkType, Xmit};
use crate::base::env::{Entropy, Instant};
use crate::sock::skb::Skb;
use crate::sys::lock::Mutex;
use crate::sys::netdev;
use crate::wire::ether::{HEADER_LEN, MacAddr};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which hardware address this stack has on the interface.
pub enum Mac<'e> {
    /// The interface's own. The kernel receives the same frames, and does not reply as long as the interface has no
    /// address.
    Interface,
    /// A random, locally administered address; the interface is put in promiscuous mode.
    Random(&'e dyn Entropy),
    /// This address; in promiscuous mode if it is not the interface's.
    Given(MacAddr),
}

/// An AF_PACKET socket as a device: see the module's text.
#[derive(Debug)]
pub struct Packet {
    name: String,
    ifindex: u32,
    mac: MacAddr,
    mtu: AtomicU32,
    socket: netdev::PacketSocket,
    rx: Mutex<RxBuf>,
    stats: Stats,
}

impl Packet {
    /// Opens interface `name` of this thread's network namespace. Errors: EPERM without CAP_NET_RAW, ENODEV, ENETDOWN,
    /// EINVAL: not an Ethernet interface, or a multicast address was given.
    pub fn open(name: &str, mac: Mac<'_>) -> io::Result<Packet> {
        let own = MacAddr(netdev::hwaddr(name)?);
        let mac = match mac {
            Mac::Interface => own,
            Mac::Given(m) if m.is_unicast() => m,
            Mac::Given(_) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            Mac::Random(entropy) => {
                let mut m = [0; 6];
                entropy.fill(&mut m);
                m[0] = m[0] & !1 | 2; // locally administered, not a group
                MacAddr(m)
            }
        };
        let socket = netdev::open_packet(name, mac.0, mac != own)?;
        let mtu = AtomicU32::new(netdev::mtu(name)?);
        let rx = Mutex::new(RxBuf::new(socket.vnet_hdr));
        let ifindex = netdev::index(name)?;
        Ok(Packet { name: name.to_owned(), ifindex, mac, mtu, socket, rx, stats: Stats::default() })
    }

    /// The address this stack has on the link.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Sets the MTU of the interface, in bytes, and of this end; one that it has needs no privilege. EPERM, EINVAL.
    pub fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        if netdev::mtu(&self.name)? != mtu {
            netdev::set_mtu(&self.name, mtu)?;
        }
        self.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }
}

impl Device for Packet {
    fn name(&self) -> &str {
        &self.name
    }

    fn caps(&self) -> Caps {
        let offload = self.socket.vnet_hdr;
        Caps {
            link: LinkType::Ethernet(self.mac),
            tx_csum: offload,
            tso: offload,
            ..Caps::ip(self.mtu.load(Ordering::Relaxed))
        }
    }

    fn kernel_ifindex(&self) -> Option<u32> {
        Some(self.ifindex)
    }

    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let mut rx = self.rx.lock();
        vnet::recv(&self.socket.fd, &mut rx, HEADER_LEN, budget, &self.stats, &mut |mut skb| {
            skb.tstamp = now;
            skb.link_multicast = skb.linear().first().is_some_and(|b| b & 1 != 0);
            sink(skb);
        })
    }

    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        vnet::xmit(&self.socket.fd, self.socket.vnet_hdr, HEADER_LEN, skb, &self.stats)
    }

    fn poll_fd(&self, _: u16) -> Option<RawFd> {
        Some(self.socket.fd.raw())
    }

    fn stats(&self) -> DevStats {
        let mut sum = DevStats::default();
        self.stats.add_to(&mut sum);
        sum
    }
}
