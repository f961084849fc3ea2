//! A world in virtual time: stacks that share a clock, and links between them. All random numbers in it come from one
//! seed, and one thread steps it, so that a run can be repeated exactly. Above: tests, benches, programs that test a
//! protocol of their own. Below: `driver::virtual_time`, `device::link`.

use crate::base::env::{Clock, Duration, Instant, SeededEntropy};
use crate::base::error::{Error, Result};
use crate::device::link::{LinkConfig, LinkEnd, pair};
use crate::device::netdev::NetDev;
use crate::driver::VirtualTime;
use crate::driver::virtual_time::{Scheduler, Settled, Step};
use crate::ip::route;
use crate::stack::{Stack, StackConfig};
use crate::standard;
use crate::sys::lock::Mutex;
use crate::wire::addr::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// See the module's text. A blocking call on one of its stacks steps the whole world until the call's condition holds;
/// see [`VirtualTime`] for a wait that nothing can end.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use usersock::device::link::{Direction, LinkConfig};
/// use usersock::env::Instant;
/// use usersock::net::{TcpListener, TcpStream};
/// use usersock::sim::World;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let way = Direction::default().rate(1_000_000).delay(Duration::from_millis(100)).loss(0.05);
/// let world = World::new(7);
/// let [(a, _), (b, end)] = world.two(&LinkConfig::both(way))?;
///
/// let listener = TcpListener::bind_on(&b, (end.v4, 80))?;
/// let mut client = TcpStream::connect_on(&a, (end.v4, 80))?;
/// client.write_all(&[7; 20_000])?;
/// drop(client);
/// let mut received = Vec::new();
/// listener.accept()?.0.read_to_end(&mut received)?;
///
/// // All bytes have arrived, and at least 300 ms of virtual time have passed.
/// assert_eq!(received, [7; 20_000]);
/// assert!(world.now() > Instant::from_millis(300));
/// # Ok(())
/// # }
/// ```
pub struct World {
    scheduler: Arc<Scheduler>,
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// All stacks of the world, in the order of their creation.
    stacks: Vec<Arc<Stack>>,
    links: u8,
}

/// One end of a link in a world.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct End {
    /// The device in its stack.
    pub dev: Arc<NetDev>,
    /// The device itself, also when a capture wraps it.
    pub link: Arc<LinkEnd>,
    /// Its IPv4 address, in a /24.
    pub v4: Ipv4Addr,
    /// Its IPv6 address, in a /64.
    pub v6: Ipv6Addr,
}

impl World {
    /// An empty world at time zero.
    pub fn new(seed: u64) -> World {
        World { scheduler: Arc::default(), seed, inner: Mutex::default() }
    }

    /// The world's seed, for the messages of failing tests.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A new stack in this world, with the standard protocols and a loopback device. A new stack gives no error.
    pub fn stack(&self) -> Result<Arc<Stack>> {
        let mut inner = self.inner.lock();
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(inner.stacks.len() as u64);
        let stack = standard::stack(StackConfig {
            clock: self.scheduler.clock().clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            runner: Arc::new(VirtualTime::new(self.scheduler.clone())),
        })?;
        self.scheduler.join(&stack);
        inner.stacks.push(stack.clone());
        Ok(stack)
    }

    /// Two stacks joined by a link, as most tests need. Errors as [`World::link`].
    pub fn two(&self, config: &LinkConfig) -> Result<[(Arc<Stack>, End); 2]> {
        let (a, b) = (self.stack()?, self.stack()?);
        let [ea, eb] = self.link(&a, &b, config)?;
        Ok([(a, ea), (b, eb)])
    }

    /// Joins two stacks by link number n, counted from 1: the ends get the addresses 10.n.0.1/24 and 10.n.0.2/24,
    /// fd00:n::1/64 and fd00:n::2/64, and devices named `sim<n>`. EINVAL for a bad configuration, ENOSPC after 255
    /// links.
    pub fn link(&self, a: &Arc<Stack>, b: &Arc<Stack>, config: &LinkConfig) -> Result<[End; 2]> {
        let n = {
            let mut inner = self.inner.lock();
            inner.links = inner.links.checked_add(1).ok_or(Error::NoSpc)?;
            inner.links
        };
        let name = format!("sim{n}");
        let far = if Arc::ptr_eq(a, b) { format!("sim{n}b") } else { name.clone() };
        let seed = self.seed.rotate_left(17).wrapping_add(u64::from(n));
        let (la, lb) = pair([&name, &far], config, seed)?;
        let end = |stack: &Arc<Stack>, link: Arc<LinkEnd>, host: u8| -> Result<End> {
            let dev = stack.add_device(link.clone())?;
            let v4 = Ipv4Addr::new(10, n, 0, host);
            let v6 = Ipv6Addr::new(0xfd00, n.into(), 0, 0, 0, 0, 0, host.into());
            route::add_address(stack, &dev, Cidr::new(IpAddr::V4(v4), 24).ok_or(Error::Inval)?)?;
            route::add_address(stack, &dev, Cidr::new(IpAddr::V6(v6), 64).ok_or(Error::Inval)?)?;
            Ok(End { dev, link, v4, v6 })
        };
        Ok([end(a, la, 1)?, end(b, lb, 2)?])
    }

    /// The current time of the world.
    pub fn now(&self) -> Instant {
        self.scheduler.clock().now()
    }

    /// Runs all events up to `until`; the clock is then at `until`.
    pub fn run_until(&self, until: Instant) {
        while self.step(until) != Step::Limit {}
    }

    /// One step: runs what is due now, or else moves the clock to the next event, but not beyond `limit`. For programs
    /// that act between events.
    pub fn step(&self, limit: Instant) -> Step {
        self.scheduler.step(Some(limit))
    }

    /// As [`World::run_until`], for a span of time from now.
    pub fn run_for(&self, span: Duration) {
        self.run_until(self.now() + span);
    }

    /// Runs until no event is left, but not beyond `limit`. True when no event is left: then nothing happens until a
    /// program sends.
    pub fn run_until_idle(&self, limit: Instant) -> bool {
        loop {
            match self.scheduler.settle() {
                Settled::Busy => {}
                Settled::Until(None) => return true,
                Settled::Until(Some(t)) if t > limit => return false,
                Settled::Until(Some(t)) => self.scheduler.clock().set(t),
            }
        }
    }
}
