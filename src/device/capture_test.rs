//! A device for tests: records what is sent and delivers what the test feeds it. Without delay or loss.

use super::{Caps, DevStats, Device, LinkType, Xmit};
use crate::base::env::{Instant, SeededEntropy, VirtualClock};
use crate::device::netdev::NetDev;
use crate::driver::Parked;
use crate::ip::route;
use crate::sock::skb::Skb;
use crate::stack::{Stack, StackConfig};
use crate::standard;
use crate::sys::lock::Mutex;
use crate::wire::ether::MacAddr;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Capture {
    name: &'static str,
    caps: Caps,
    sent: Mutex<Vec<Vec<u8>>>,
    /// Transmit hashes of all that was sent.
    pub(crate) hashes: Mutex<Vec<u32>>,
    times: Mutex<Vec<Instant>>,
    waiting: Mutex<VecDeque<Skb>>,
    /// How many more packets it takes; the others are dropped. None: all.
    pub(crate) room: Mutex<Option<usize>>,
    /// Packets that it has sent and not completed. None: it completes each at once.
    pub(crate) held: Mutex<Option<Vec<Skb>>>,
}

impl Capture {
    /// A device that carries IP datagrams of up to `mtu` bytes.
    pub(crate) fn ip(name: &'static str, mtu: u32) -> Arc<Capture> {
        Capture::with_caps(name, Caps::ip(mtu))
    }

    /// An Ethernet device.
    pub(crate) fn ethernet(name: &'static str, mac: MacAddr) -> Arc<Capture> {
        Capture::with_caps(name, Caps { link: LinkType::Ethernet(mac), ..Caps::ip(1500) })
    }

    /// A device with these capabilities.
    pub(crate) fn with_caps(name: &'static str, caps: Caps) -> Arc<Capture> {
        let (sent, times, waiting) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Capture {
            name,
            caps,
            sent,
            hashes: Mutex::default(),
            times,
            waiting,
            room: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// Packets sent since the last call.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent.lock())
    }

    /// Departure times of the packets sent since the last call.
    pub(crate) fn times(&self) -> Vec<Instant> {
        std::mem::take(&mut self.times.lock())
    }

    /// Queues a packet for the stack to receive.
    pub(crate) fn feed(&self, bytes: &[u8]) {
        self.waiting.lock().push_back(Skb::from_slice(bytes));
    }
}

impl Device for Capture {
    fn name(&self) -> &str {
        self.name
    }
    fn caps(&self) -> Caps {
        self.caps
    }
    fn recv(&self, _: u16, now: Instant, budget: usize, sink: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        for n in 0..budget {
            let Some(mut skb) = self.waiting.lock().pop_front() else { return Ok(n) };
            skb.tstamp = now;
            sink(skb);
        }
        Ok(budget)
    }
    fn xmit(&self, _: u16, _: Instant, skb: Skb) -> Xmit {
        match &mut *self.room.lock() {
            Some(0) => return Xmit::Dropped(io::ErrorKind::StorageFull.into()),
            Some(n) => *n -= 1,
            None => {}
        }
        self.hashes.lock().push(skb.hash);
        self.times.lock().push(skb.tx_time);
        self.sent.lock().push(skb.to_vec());
        if let Some(held) = &mut *self.held.lock() {
            held.push(skb);
        }
        Xmit::Sent
    }
    fn has_pending(&self, _: u16) -> bool {
        !self.waiting.lock().is_empty()
    }
    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

/// A stack in virtual time with one device.
pub(crate) struct Bench {
    /// The stack.
    pub stack: Arc<Stack>,
    /// Its clock.
    pub clock: Arc<VirtualClock>,
    /// The device.
    pub wire: Arc<Capture>,
    /// The device as part of the stack.
    pub dev: Arc<NetDev>,
}

impl Bench {
    /// A stack around this device, with these addresses (`10.0.0.1/24`).
    pub(crate) fn new(wire: Arc<Capture>, addrs: &[&str]) -> Bench {
        let clock = Arc::new(VirtualClock::new());
        clock.set(Instant::from_secs(100));
        let config = StackConfig {
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
            runner: Arc::new(Parked::default()),
        };
        let stack = standard::stack(config).unwrap();
        let dev = stack.add_device(wire.clone()).unwrap();
        for a in addrs {
            route::add_address(&stack, &dev, a.parse().unwrap()).unwrap();
        }
        Bench { stack, clock, wire, dev }
    }

    /// A stack on an IP link with 10.0.0.1/24 and fd00::1/64.
    pub(crate) fn on_ip() -> Bench {
        Bench::new(Capture::ip("tun0", 1500), &["10.0.0.1/24", "fd00::1/64"])
    }

    /// Delivers a packet and returns what the stack sent.
    pub(crate) fn inject(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.wire.feed(bytes);
        self.poll()
    }

    /// Runs softirq and returns what the stack sent.
    pub(crate) fn poll(&self) -> Vec<Vec<u8>> {
        self.stack.poll(self.stack.now());
        self.wire.take()
    }

    /// Advances the clock, event by event, and returns what the stack sent.
    pub(crate) fn advance(&self, by: Duration) -> Vec<Vec<u8>> {
        let end = self.stack.now() + by;
        let mut sent = self.poll();
        while let Some(at) = self.stack.next_event().filter(|at| *at <= end) {
            self.clock.set(at);
            sent.extend(self.poll());
        }
        self.clock.set(end);
        sent.extend(self.poll());
        sent
    }
}
