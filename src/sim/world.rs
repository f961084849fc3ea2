//! A world in virtual time: stacks that share a clock, links between them, and scripted threads that use them. All
//! random numbers in it come from one seed, and one thread at a time runs, so that a run can be repeated exactly.
//! Above: tests, benches, programs that test a protocol of their own. Below: `driver::virtual_time`, `device::link`.

use crate::base::env::{Clock, Duration, Instant, SeededEntropy};
use crate::base::error::{Error, Result};
use crate::base::waiter::{Waiter, Woken};
use crate::config::{Config, ConfigError};
use crate::device::link::{LinkConfig, LinkEnd, pair};
use crate::device::netdev::NetDev;
use crate::driver::virtual_time::{Scheduler, Settled, Step};
use crate::driver::{ScriptThread, VirtualTime};
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
/// see [`VirtualTime`] for a wait that nothing can end. In a thread that [`World::spawn`] starts, it waits while
/// another thread steps the world.
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
        self.add_stack(standard::stack)
    }

    /// As [`World::stack`], with what `config` says about plug-ins, sysctls and the loopback. EINVAL for keys that need
    /// a device, which [`World::link`] makes, or a control socket, which is of real time.
    pub fn configured(&self, config: &Config) -> std::result::Result<Arc<Stack>, ConfigError> {
        self.add_stack(|parts| config.build_simulated(parts))
    }

    fn add_stack<E>(
        &self,
        make: impl FnOnce(StackConfig) -> std::result::Result<Arc<Stack>, E>,
    ) -> std::result::Result<Arc<Stack>, E> {
        // Not locked meanwhile: a plug-in's entry point may be anything.
        let number = self.inner.lock().stacks.len() as u64;
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
        let stack = make(StackConfig {
            clock: self.scheduler.clock().clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            runner: Arc::new(VirtualTime::new(self.scheduler.clone())),
        })?;
        self.scheduler.join(&stack);
        self.inner.lock().stacks.push(stack.clone());
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
        self.link_seeded(a, b, config, None)
    }

    /// As [`World::link`]; the link's chances have a seed of their own, if one is given.
    pub fn link_seeded(
        &self,
        a: &Arc<Stack>,
        b: &Arc<Stack>,
        config: &LinkConfig,
        seed: Option<u64>,
    ) -> Result<[End; 2]> {
        // A refused configuration takes no number.
        let (n, la, lb) = {
            let mut inner = self.inner.lock();
            let n = inner.links.checked_add(1).ok_or(Error::NoSpc)?;
            let name = format!("sim{n}");
            let far = if Arc::ptr_eq(a, b) { format!("sim{n}b") } else { name.clone() };
            let seed = seed.unwrap_or_else(|| self.seed.rotate_left(17).wrapping_add(u64::from(n)));
            let (la, lb) = pair([&name, &far], config, seed)?;
            inner.links = n;
            (n, la, lb)
        };
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

    /// Starts `run` in a thread of the world, at the time `at`. It runs while the world is stepped, alone: from the end
    /// of one of its waits to the next one no time passes. It waits in the blocking calls of the world's stacks,
    /// [`World::sleep_until`] and [`World::join`], and in nothing else: a lock that another such thread holds would
    /// never be free. A panic of it is that of the thread that steps. EAGAIN: the system has no thread left.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::sync::Arc;
    /// use usersock::device::link::{Direction, LinkConfig};
    /// use usersock::env::Instant;
    /// use usersock::net::{TcpListener, TcpStream};
    /// use usersock::sim::World;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let world = World::new(7);
    /// let [(a, _), (b, end)] = world.two(&LinkConfig::both(Direction::default().loss(0.02)))?;
    /// let server = world.spawn(Instant::ZERO, move || {
    ///     let listener = TcpListener::bind_on(&b, (end.v4, 80)).unwrap();
    ///     let mut text = String::new();
    ///     listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    ///     assert_eq!(text, "hello");
    /// })?;
    /// world.spawn(Instant::from_millis(1), move || {
    ///     TcpStream::connect_on(&a, (end.v4, 80)).unwrap().write_all(b"hello").unwrap();
    /// })?;
    /// world.join(&server)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn(&self, at: Instant, run: impl FnOnce() + Send + 'static) -> Result<Arc<ScriptThread>> {
        self.scheduler.start(at, run)
    }

    /// Steps the world, or in a thread of the world waits, until `thread` has returned. EDEADLK: it is the calling
    /// thread, or no event is left that could end it. EINTR: the calling thread is of a world that ends.
    pub fn join(&self, thread: &ScriptThread) -> Result<()> {
        self.scheduler.join_thread(thread)
    }

    /// Ends the world: its time stands still. A wait is interrupted (EINTR), calls on its stacks' sockets return
    /// ENETDOWN, but for close, and when it returns its threads have returned; called in one of them it waits for none.
    /// Dropping a world in which threads have not ended does the same.
    pub fn end(&self) {
        self.scheduler.end();
    }

    /// Whether the calling thread is one of the world's own, which can wait but not step.
    pub fn in_thread(&self) -> bool {
        self.scheduler.in_thread()
    }

    /// Waits until `until`, in a thread of the world; elsewhere the same as [`World::run_until`]. EINTR: the calling
    /// thread is of a world that ends.
    pub fn sleep_until(&self, until: Instant) -> Result<()> {
        match self.scheduler.block(&Waiter::current(), Some(until)) {
            Woken::Interrupted => Err(Error::Intr),
            Woken::Event | Woken::TimedOut => Ok(()),
        }
    }

    /// Runs all events up to `until`; the clock is then at `until`. Panics in a thread of the world, as
    /// [`World::step`].
    pub fn run_until(&self, until: Instant) {
        while self.step(until) != Step::Limit {}
    }

    /// One step: runs what is due now, or else moves the clock to the next event, but not beyond `limit`. For programs
    /// that act between events. Panics in a thread of the world: another thread is stepping.
    pub fn step(&self, limit: Instant) -> Step {
        assert!(!self.in_thread(), "a thread of a world does not step it");
        self.scheduler.step(Some(limit))
    }

    /// As [`World::run_until`], for a span of time from now.
    pub fn run_for(&self, span: Duration) {
        self.run_until(self.now() + span);
    }

    /// Runs until no event is left, but not beyond `limit`. True when no event is left: then nothing happens until a
    /// program sends. Panics in a thread of the world, as [`World::step`].
    pub fn run_until_idle(&self, limit: Instant) -> bool {
        assert!(!self.in_thread(), "a thread of a world does not step it");
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

impl Drop for World {
    fn drop(&mut self) {
        if self.scheduler.has_threads() {
            self.end();
        }
    }
}
