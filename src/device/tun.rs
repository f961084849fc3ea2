//! IP datagrams over a TUN device of the kernel: the kernel's network stack is the peer, or the router to other hosts.
//! Above: `ip::output`, the poll loop. Below: `vnet`, `sys::fd`. One `write` or `readv` a super-packet; segmentation
//! and checksums are left to the kernel in both directions. Only io_uring reads several packets with one call; beside
//! ppoll and a readv each it was measured to save 10 % of a read (0.1 µs a packet in bursts of 16, 0.25 µs of 2.6 µs
//! for a single one), since the kernel's copy is most of it: that is not worth a second way to wait. In the kernel:
//! drivers/net/tun.c.

use super::steering::Steering;
use super::vnet::{self, RxBuf, Stats};
use super::{Caps, DevStats, Device, LinkType, WriteBurst, Xmit};
use crate::base::env::Instant;
use crate::sock::skb::Skb;
use crate::sys::lock::Mutex;
use crate::sys::{fd::Fd, netdev};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
struct Queue {
    fd: Fd,
    rx: Mutex<RxBuf>,
    stats: Stats,
}

/// A TUN device: see the module's text.
#[derive(Debug)]
pub struct Tun {
    name: String,
    ifindex: u32,
    mtu: AtomicU32,
    uso: bool,
    queues: Vec<Queue>,
    /// With several queues: the kernel returns a flow's packets on the queue that it is sent by.
    steering: Option<Steering>,
}

impl Tun {
    /// Opens device `name` of this thread's network namespace, or creates it (it is then removed when its last queue is
    /// closed). `queues`: number of queue pairs, at least 1; a device created without multi-queue has one. The MTU is
    /// the interface's. Addresses and routes on the kernel's side are left to the administrator, as is bringing the
    /// interface up unless `up` is set. Errors: EPERM, EACCES without CAP_NET_ADMIN; EBUSY: another process has it;
    /// EINVAL: bad name, not a TUN device; ENOENT: no /dev/net/tun.
    pub fn open(name: &str, queues: u16, up: bool) -> io::Result<Tun> {
        let queues = queues.max(1);
        let first = netdev::open_tun(name, queues > 1)?;
        let (name, uso, more) = (first.name.clone(), first.uso, first.multi_queue);
        let mut list = vec![first];
        while more && list.len() < usize::from(queues) {
            list.push(netdev::open_tun(&name, true)?);
        }
        if up {
            netdev::set_up(&name)?;
        }
        // A kernel that cannot do it at once does it soon.
        let _ = netdev::settle_carrier(&name);
        let mtu = AtomicU32::new(netdev::mtu(&name)?);
        let queue = |q: netdev::TunQueue| Queue { fd: q.fd, rx: Mutex::new(RxBuf::new(true)), stats: Stats::default() };
        let ifindex = netdev::index(&name)?;
        let queues: Vec<Queue> = list.into_iter().map(queue).collect();
        let steering = match &queues[..] {
            [first, _, ..] => {
                let steering = Steering::attach(&first.fd, queues.len()).ok();
                if steering.is_none() {
                    // A process that was killed has left its own to a device that lasts, with a table that nobody
                    // writes any more. This takes no capability.
                    let _ = netdev::set_steering(&first.fd, None);
                }
                steering
            }
            _ => None,
        };
        Ok(Tun { name, ifindex, mtu, uso, queues, steering })
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

impl Drop for Tun {
    /// A device that lasts returns to the kernel's own way.
    fn drop(&mut self) {
        if let (Some(_), Some(first)) = (&self.steering, self.queues.first()) {
            let _ = netdev::set_steering(&first.fd, None);
        }
    }
}

impl Device for Tun {
    fn name(&self) -> &str {
        &self.name
    }

    fn caps(&self) -> Caps {
        Caps {
            link: LinkType::Ip,
            queues: self.queues.len() as u16,
            tx_csum: true,
            tso: true,
            uso: self.uso,
            replies_follow: true,
            ..Caps::ip(self.mtu.load(Ordering::Relaxed))
        }
    }

    fn kernel_ifindex(&self) -> Option<u32> {
        Some(self.ifindex)
    }

    fn recv(&self, queue: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        let Some(q) = self.queues.get(usize::from(queue)) else { return Ok(0) };
        let mut rx = q.rx.lock();
        vnet::recv(&q.fd, &mut rx, 0, budget, &q.stats, &mut |mut skb| {
            skb.tstamp = now;
            sink(skb);
        })
    }

    fn xmit(&self, queue: u16, _: Instant, skb: Skb) -> Xmit {
        let Some(q) = self.queues.get(usize::from(queue)) else {
            return Xmit::Dropped(io::Error::from_raw_os_error(libc::ENODEV));
        };
        if let Some(steering) = &self.steering {
            steering.note(skb.linear(), queue);
        }
        vnet::xmit(&q.fd, true, 0, skb, &q.stats)
    }

    fn xmit_burst(&self, queue: u16, packets: &mut VecDeque<Skb>, write: &mut WriteBurst<'_>) {
        let Some(q) = self.queues.get(usize::from(queue)) else { return };
        if let Some(steering) = &self.steering {
            packets.iter().for_each(|skb| steering.note(skb.linear(), queue));
        }
        vnet::xmit_burst(&q.fd, packets, &q.stats, write);
    }

    fn poll_fd(&self, queue: u16) -> Option<RawFd> {
        self.queues.get(usize::from(queue)).map(|q| q.fd.raw())
    }

    fn stats(&self) -> DevStats {
        let mut sum = DevStats::default();
        self.queues.iter().for_each(|q| q.stats.add_to(&mut sum));
        sum
    }
}
