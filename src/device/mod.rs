//! Devices: where packets enter and leave a stack. Linux: struct net_device. Above: `ip::output` (transmit) and
//! `Stack::poll` (receive). A device carries IP datagrams or Ethernet frames. [`Caps`] says what it does itself
//! (checksums, segmentation); `gso` does the rest in software, so the layers above send the same packets to every
//! device.
//!
//! An example: a device that stores the packets sent, added to a stack:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use usersock::device::{Caps, DevStats, Device, Xmit};
//! use usersock::env::Instant;
//! use usersock::net::UdpSocket;
//! use usersock::sock::skb::Skb;
//!
//! #[derive(Debug, Default)]
//! struct Kept(Mutex<Vec<Vec<u8>>>);
//!
//! impl Device for Kept {
//!     fn name(&self) -> &str {
//!         "kept0"
//!     }
//!     fn caps(&self) -> Caps {
//!         Caps::ip(1500)
//!     }
//!     fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> std::io::Result<usize> {
//!         Ok(0)
//!     }
//!     fn xmit(&self, _queue: u16, _now: Instant, skb: Skb) -> Xmit {
//!         self.0.lock().unwrap().push(skb.to_vec());
//!         Xmit::Sent
//!     }
//!     fn stats(&self) -> DevStats {
//!         DevStats::default()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = usersock::config::build("")?;
//! let device = Arc::new(Kept::default());
//! let dev = stack.add_device(device.clone())?;
//! usersock::ip::route::add_address(&stack, &dev, "10.0.0.2/24".parse()?)?;
//!
//! UdpSocket::bind_on(&stack, "10.0.0.2:0")?.send_to(b"hello", "10.0.0.1:9")?;
//! let packets = device.0.lock().unwrap();
//! assert!(packets.len() == 1 && packets[0].ends_with(b"hello"));
//! # Ok(())
//! # }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `bridge` | two devices joined by a simulated link |
//! | `gso` | segmentation and coalescing in software, for devices that do not do it |
//! | `impaired` | a simulated link in front of a device |
//! | `link` | a simulated link |
//! | `loopback` | `lo` |
//! | `netdev` | a device as part of a stack |
//! | `packet` | AF_PACKET |
//! | `pcap` | capture, around any device |
//! | `steering` | on which of its queues a TUN device returns a flow's packets |
//! | `tun` | TUN |
//! | `turn` | which thread receives from a queue |
//! | `types` | plug-in kinds of devices |
//! | `vnet` | the virtio-net header, for `tun` and `packet` |

pub mod bridge;
#[cfg(test)]
pub(crate) mod capture_test;
pub(crate) mod gso;
pub(crate) mod impaired;
pub mod link;
pub mod loopback;
pub mod netdev;
pub mod packet;
pub mod pcap;
mod steering;
pub mod tun;
mod turn;
pub mod types;
pub(crate) mod vnet;

use crate::base::env::Instant;
use crate::sock::skb::Skb;
use crate::wire::ether::MacAddr;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

/// What a device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// IP datagrams without a link header (TUN, loopback).
    Ip,
    /// Ethernet frames; the address is the device's own. ARP and NDP resolve neighbours.
    Ethernet(MacAddr),
}

/// What a device offers. Fixed while the device is part of a stack, except for the MTU. Made from [`Caps::ip`] or
/// [`Caps::ethernet`]; then the offloads are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// Kind of link.
    pub link: LinkType,
    /// Largest IP datagram in bytes.
    pub mtu: u32,
    /// Number of receive/transmit queue pairs, at least 1. A packet is sent on the queue of its flow; where packets
    /// sent come back (`loopback`) or their replies do (`replies_follow`), on that of the thread that sends.
    pub queues: u16,
    /// Completes `Csum::Partial` on transmit, of any protocol (NETIF_F_HW_CSUM).
    pub tx_csum: bool,
    /// Segments TCP super-packets (TSO, both families).
    pub tso: bool,
    /// Of TCP super-packets passes CWR to each segment where they say so (NETIF_F_GSO_ACCECN).
    pub every_cwr: bool,
    /// Segments UDP super-packets (USO).
    pub uso: bool,
    /// Takes super-packets of protocols that are plugged in: only a device in memory, whose other end is a stack like
    /// this one (NETIF_F_GSO_SOFTWARE).
    pub gso_software: bool,
    /// Takes packets in several slices; otherwise the payload is linearized first.
    pub scatter_gather: bool,
    /// Largest super-packet in bytes, headers included.
    pub gso_max_size: u32,
    /// Largest number of segments in a super-packet.
    pub gso_max_segs: u16,
    /// Packets sent here are received by this stack (loopback): checksums need not be computed or verified.
    pub loopback: bool,
    /// With several queues: packets of a flow stay in order whichever queues they are sent on one after another, and
    /// its replies arrive on the last of these, as on TUN, whose queue selection is automatic. A thread then sends on
    /// the queue that it receives from, so that no other thread has to wake it for the reply; elsewhere a flow has a
    /// queue.
    pub replies_follow: bool,
    /// Holds each packet until its [`tx_time`](crate::sock::skb::SkbInner::tx_time), as Linux's qdisc `fq` does: TCP
    /// then paces by setting that time and needs no timer of its own.
    pub departure_times: bool,
}

impl Caps {
    /// A device that carries IP datagrams of up to `mtu` bytes, without offloads.
    pub const fn ip(mtu: u32) -> Caps {
        Caps {
            link: LinkType::Ip,
            mtu,
            queues: 1,
            tx_csum: false,
            tso: false,
            every_cwr: false,
            uso: false,
            gso_software: false,
            scatter_gather: true,
            gso_max_size: 65_536,
            gso_max_segs: 65_535,
            loopback: false,
            replies_follow: false,
            departure_times: false,
        }
    }

    /// A device with the address `mac` that carries Ethernet frames with IP datagrams of up to `mtu` bytes, without
    /// offloads.
    pub const fn ethernet(mtu: u32, mac: MacAddr) -> Caps {
        Caps { link: LinkType::Ethernet(mac), ..Caps::ip(mtu) }
    }
}

/// Result of [`Device::xmit`].
#[derive(Debug)]
pub enum Xmit {
    /// Accepted. The packet's `owner` is dropped when the device is done with it, which may be at once.
    Sent,
    /// As `Sent`, but the device's queue had no room and lost a packet for it, an older one or this one: a TCP sender
    /// reduces its window, as for a mark of ECN (NET_XMIT_CN).
    Congested,
    /// The device's queue is full and the packet is returned. The transmit queue of `netdev` keeps it and tries again
    /// at the next poll (NETDEV_TX_BUSY), or drops it if that queue is full too.
    Busy(Skb),
    /// Refused for good (too long, device down): dropped, and counted by the device.
    Dropped(io::Error),
}

/// Statistics of a device, packets and bytes (rtnl_link_stats).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DevStats {
    /// Packets received and handed to the stack.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets that arrived and were dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets refused for good ([`Xmit::Dropped`]).
    pub tx_dropped: u64,
}

/// Writes packets to a descriptor, each as writev(2) does, with one system call for all of them, and sets a mark for
/// each that the kernel has taken.
pub type WriteBurst<'a> = dyn FnMut(RawFd, &[&[IoSlice<'_>]], &mut [bool]) + 'a;

/// A network device. Methods take `&self`: one thread at a time receives from a queue (it holds the queue's driver
/// lease), any thread transmits, and the implementation locks what they share. No method blocks.
pub trait Device: Send + Sync + Debug {
    /// Interface name, such as `tun0`.
    fn name(&self) -> &str;

    /// What the device offers now.
    fn caps(&self) -> Caps;

    /// Index of the kernel's interface that this device is attached to, which is then its index in the stack too; None
    /// for devices in memory.
    fn kernel_ifindex(&self) -> Option<u32> {
        None
    }

    /// Receives up to `budget` packets of `queue` into `sink`, in order, and returns how many there were. `Ok(0)`: none
    /// waiting. `now` is the stack's time; a simulated device hands out what has arrived by then. Received skbs have an
    /// empty head; `csum`, `gso_size`, `gso_type`, `rx_segs` are set as the device knows them, `tstamp` to `now`. For
    /// `LinkType::Ethernet` the frame's link header is the packet's first 14 bytes.
    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize>;

    /// Takes the only packet of `queue`, of a device in memory on which mostly one waits. None: there is none or there
    /// are more, or it is no such device; `recv` takes them.
    fn recv_only(&self, queue: u16) -> Option<Skb> {
        let _ = queue;
        None
    }

    /// Sends one packet (a super-packet only as far as `caps` allow), with its link header in front.
    fn xmit(&self, queue: u16, now: Instant, skb: Skb) -> Xmit;

    /// Sends packets in order, by as few calls of `write` as it can, and removes those that were sent. Whatever it
    /// leaves is sent by `xmit`: a device that does not write packets to a descriptor, or does more with each, leaves
    /// all.
    fn xmit_burst(&self, queue: u16, packets: &mut VecDeque<Skb>, write: &mut WriteBurst<'_>) {
        let _ = (queue, packets, write);
    }

    /// A descriptor that polls readable when `recv` of this queue has packets; None for devices in memory.
    fn poll_fd(&self, queue: u16) -> Option<RawFd> {
        let _ = queue;
        None
    }

    /// Time at which a device in memory next has a packet to deliver or a transmission to complete (simulated links);
    /// the driver waits no longer than that.
    fn next_event(&self, queue: u16) -> Option<Instant> {
        let _ = queue;
        None
    }

    /// Whether packets are queued in memory now (loopback): the thread that sent them runs softirq before it returns.
    fn has_pending(&self, queue: u16) -> bool {
        let _ = queue;
        false
    }

    /// Current statistics.
    fn stats(&self) -> DevStats;

    /// If the device is a capture: the capture and the device it wraps.
    fn as_pcap(&self) -> Option<(&pcap::Pcap, std::sync::Arc<dyn Device>)> {
        None
    }
}
