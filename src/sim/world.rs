//! A world in virtual time: stacks that share a clock, and links between them. Everything random in it comes from one
//! seed, and it is stepped by one thread, so that a run repeats to the byte. Above: tests, benches, programs that want
//! their protocol tried. Below: `driver::virtual_time`, `device::link`.

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

/// See the module's text. A blocking call of one of its stacks steps the whole world until it is over; see
/// [`VirtualTime`] for what ends a wait that nothing can end.
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
/// // All is there, and three tenths of a second have passed at the least, though none of them on the wall.
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
    /// Kept alive by the world, in the order of their making.
    stacks: Vec<Arc<Stack>>,
    links: u8,
}

/// One end of a link in a world.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct End {
    /// The device in its stack.
    pub dev: Arc<NetDev>,
    /// The device itself; still this one when a capture is wrapped around it.
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

    /// The world's seed, for messages of failing tests.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A new stack in this world, with the standard protocols and its loopback. Errors: none that a new stack can give.
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

    /// Two stacks joined by a link: what most tests want. Errors as [`World::link`].
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

    /// The world's time.
    pub fn now(&self) -> Instant {
        self.scheduler.clock().now()
    }

    /// Lets everything happen that happens until `until`; the clock then stands there.
    pub fn run_until(&self, until: Instant) {
        while self.step(until) != Step::Limit {}
    }

    /// One step: what is due now, or else the clock moves to the next event, but not beyond `limit`. For programs that
    /// act between the events.
    pub fn step(&self, limit: Instant) -> Step {
        self.scheduler.step(Some(limit))
    }

    /// As [`World::run_until`], for a span of time from now.
    pub fn run_for(&self, span: Duration) {
        self.run_until(self.now() + span);
    }

    /// Runs until no event is left, but not beyond `limit`. True when it is idle: then nothing happens any more unless
    /// somebody sends.
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
