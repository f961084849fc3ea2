//! A simulated link in front of a real device (`link=` of a configuration): what the stack sends, and what it is to
//! receive, first crosses `link`'s wire with its rate, delay, loss and so on. So a program meets a bad network over a
//! TUN device or a veth pair, where the kernel may have no netem. Above: `netdev`, which waits in `poll_fd`. Below:
//! `link`, the device. Real time only: a timer of the kernel's tells when the next packet is through.

use super::link::{self, LinkConfig, LinkEnd};
use super::{Caps, DevStats, Device, LinkType, Xmit, gso};
use crate::base::env::Instant;
use crate::base::error::Result;
use crate::sock::skb::Skb;
use crate::sys::fd::{Epoll, TimerFd};
use crate::sys::lock::Mutex;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// When a full device is tried again.
const BUSY: Duration = Duration::from_millis(1);

/// The device and the link in front of it.
#[derive(Debug)]
pub(crate) struct Impaired {
    inner: Arc<dyn Device>,
    /// The stack's end of the link, and the device's.
    near: Arc<LinkEnd>,
    far: Arc<LinkEnd>,
    /// What the device had no room for, in order.
    held: Mutex<VecDeque<Skb>>,
    timer: Mutex<(TimerFd, Option<Instant>)>,
    /// Readable when the timer has fired or the device has packets.
    ready: Epoll,
}

impl Impaired {
    /// Puts a link in front of `inner`, which has one queue. `config.forth` is the direction from the stack. Errors:
    /// EINVAL, as of [`link::pair`]; EMFILE.
    pub(crate) fn new(inner: Arc<dyn Device>, config: &LinkConfig, seed: u64) -> Result<Impaired> {
        // The device's own MTU holds, which may change.
        let config = config.clone().mtu(65_535).ethernet(inner.caps().link != LinkType::Ip);
        let (near, far) = link::pair([inner.name(), inner.name()], &config, seed)?;
        let (ready, timer) = (Epoll::new()?, TimerFd::new()?);
        ready.add(timer.raw())?;
        if let Some(fd) = inner.poll_fd(0) {
            ready.add(fd)?;
        }
        Ok(Impaired { inner, near, far, held: Mutex::default(), timer: Mutex::new((timer, None)), ready })
    }

    /// Hands the device what has crossed the link.
    fn forward(&self, now: Instant) -> io::Result<()> {
        let mut held = self.held.lock();
        self.far.recv(0, now, usize::MAX, &mut |skb| held.push_back(skb))?;
        while let Some(skb) = held.pop_front() {
            if let Xmit::Busy(back) = self.inner.xmit(0, now, skb) {
                held.push_front(back);
                break;
            }
        }
        Ok(())
    }

    /// Sets the timer to the next packet that is through in either direction.
    fn arm(&self, now: Instant) {
        let retry = if self.held.lock().is_empty() { None } else { Some(now + BUSY) };
        let next = [self.near.next_event(0), self.far.next_event(0), retry].into_iter().flatten().min();
        let mut timer = self.timer.lock();
        if timer.1 != next {
            timer.1 = next;
            // Zero would disarm it.
            let after = next.map(|at| at.saturating_sub(now).max(Duration::from_nanos(1)));
            // Only a time out of range is refused.
            let _ = timer.0.arm(after.unwrap_or(Duration::ZERO));
        }
    }
}

impl Device for Impaired {
    fn name(&self) -> &str {
        self.inner.name()
    }

    /// A wire carries packets one by one, with complete checksums.
    fn caps(&self) -> Caps {
        Caps { queues: 1, tx_csum: false, tso: false, uso: false, ..self.inner.caps() }
    }

    fn kernel_ifindex(&self) -> Option<u32> {
        self.inner.kernel_ifindex()
    }

    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        {
            let mut timer = self.timer.lock();
            if timer.0.drain() {
                timer.1 = None;
            }
        }
        let l2 = if self.inner.caps().link == LinkType::Ip { 0 } else { crate::wire::ether::HEADER_LEN };
        let arrived = self.inner.recv(0, now, budget, &mut |skb| {
            gso::wire_frames(&skb, l2, &mut |frame| {
                // A packet that the link's queue has no room for is lost, and counted there.
                let _ = self.far.xmit(0, now, Skb::from_slice(frame));
            });
        });
        self.forward(now)?;
        let got = self.near.recv(0, now, budget, sink)?;
        self.arm(now);
        arrived.map(|_| got)
    }

    fn xmit(&self, _: u16, now: Instant, skb: Skb) -> Xmit {
        let sent = self.near.xmit(0, now, skb);
        self.arm(now);
        sent
    }

    fn poll_fd(&self, _: u16) -> Option<RawFd> {
        Some(self.ready.raw())
    }

    fn next_event(&self, queue: u16) -> Option<Instant> {
        self.inner.next_event(queue)
    }

    fn has_pending(&self, queue: u16) -> bool {
        self.inner.has_pending(queue)
    }

    fn stats(&self) -> DevStats {
        self.near.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::link::Direction;

    /// An IPv4 datagram of one UDP header, with a mark.
    fn datagram(mark: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0, 7, 0, 7, 0, 8, 0, mark]);
        bytes
    }

    /// The device under test, on one end of a perfect link, and that link's other end.
    fn impaired(direction: Direction) -> (Impaired, Arc<LinkEnd>) {
        let (device, peer) = link::pair(["dev", "peer"], &LinkConfig::default(), 1).unwrap();
        (Impaired::new(device, &LinkConfig::both(direction), 7).unwrap(), peer)
    }

    fn taken(device: &dyn Device, at: Duration) -> Vec<u8> {
        let mut marks: Vec<u8> = Vec::new();
        device.recv(0, Instant::ZERO + at, 64, &mut |skb| marks.extend(skb.to_vec().last())).unwrap();
        marks
    }

    #[test]
    fn packets_cross_both_ways_after_the_delay() {
        let ms = Duration::from_millis;
        let (dev, peer) = impaired(Direction::default().delay(ms(20)));
        assert!(matches!(dev.xmit(0, Instant::ZERO, Skb::from_slice(&datagram(1))), Xmit::Sent));
        assert!(matches!(peer.xmit(0, Instant::ZERO, Skb::from_slice(&datagram(2))), Xmit::Sent));
        assert_eq!((taken(&dev, ms(0)), taken(&*peer, ms(0))), (vec![], vec![]));
        assert_eq!(taken(&dev, ms(19)), []);
        assert_eq!((taken(&dev, ms(20)), taken(&*peer, ms(20))), (vec![2], vec![1]));
    }

    #[test]
    fn the_descriptor_is_readable_when_a_packet_is_through() {
        let (dev, _peer) = impaired(Direction::default().delay(Duration::from_millis(5)));
        let mut fds = [crate::sys::poll::PollFd::new(dev.poll_fd(0).unwrap(), libc::POLLIN)];
        assert_eq!(crate::sys::poll::poll(&mut fds, Some(Duration::ZERO)).unwrap(), 0, "nothing is under way");
        dev.xmit(0, Instant::ZERO, Skb::from_slice(&datagram(1)));
        assert_eq!(crate::sys::poll::poll(&mut fds, Some(Duration::from_secs(10))).unwrap(), 1);
        taken(&dev, Duration::from_millis(5));
        assert_eq!(crate::sys::poll::poll(&mut fds, Some(Duration::ZERO)).unwrap(), 0, "all is through");
    }

    #[test]
    fn loss_takes_its_share_and_is_repeated_by_the_seed() {
        let run = || {
            let (dev, peer) = impaired(Direction::default().loss(0.2));
            for mark in 0..200 {
                dev.xmit(0, Instant::ZERO, Skb::from_slice(&datagram(mark)));
            }
            taken(&dev, Duration::ZERO);
            let mut marks: Vec<u8> = Vec::new();
            peer.recv(0, Instant::ZERO, 300, &mut |skb| marks.extend(skb.to_vec().last())).unwrap();
            marks
        };
        let marks = run();
        assert!((120..190).contains(&marks.len()), "{}", marks.len());
        assert_eq!(marks, run());
    }
}
