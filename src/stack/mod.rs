//! A stack: Linux's `struct net`. It has the clock, randomness, sysctls, counters, devices, timers and the registry of
//! protocols; these parts hold all other state. Nothing is global: a process may hold many stacks, and code gets the
//! stack as an argument. No protocol is named here. Above: protocols, devices, `driver`. Below: `sysctl`, `counters`,
//! `base`.
//!
//! | file | what it is |
//! |---|---|
//! | [`runner`] | how threads wait, and who runs softirq meanwhile: the interface to the driver |
//! | `softirq` | [`Stack::poll`], all of softirq: receives from devices, runs timers, resumes senders |
//! | `timers` | [`TimerSlot`], [`Timers`]: a stack's timers, in wheels that threads do not share |

pub mod runner;
mod softirq;
mod timers;

pub(crate) use softirq::WEIGHT;
pub use timers::{TimerCall, TimerSlot, TimerTarget, Timers};

use crate::base::env::{Clock, Entropy, Instant, RealClock};
use crate::base::error::{Error, Result};
use crate::base::hash::Keys;
use crate::base::waiter::{Waiter, Woken};
use crate::counters::Counters;
use crate::device::Device;
use crate::device::loopback::Loopback;
use crate::device::netdev::{NetDev, NetDevs};
use crate::sock::Sock;
use crate::sock::orphan::Orphans;
use crate::sock::registry::Registry;
use crate::sys::fork;
use crate::sys::lock::Mutex;
use crate::sysctl::Sysctls;
use runner::{PollFd, Runner};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Parameters of a new stack.
#[non_exhaustive]
pub struct StackConfig {
    /// Monotonic and wall time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// How threads wait.
    pub runner: Arc<dyn Runner>,
}

impl StackConfig {
    /// A configuration with the clock, the source of randomness, and the runner through which threads wait.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, runner: Arc<dyn Runner>) -> StackConfig {
        StackConfig { clock, entropy, runner }
    }
}

/// See the module's text. Always held as `Arc<Stack>`, whose counts, which each new socket changes, are thus not on a
/// cache line that packets read.
#[repr(align(128))]
pub struct Stack {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The same, if it is the system's.
    real: Option<RealClock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Settings.
    pub sysctl: Sysctls,
    /// Counters.
    pub mib: Counters,
    /// Keys of the hash functions, drawn when the stack was made.
    pub keys: Keys,
    /// Protocols.
    pub registry: Registry,
    /// Network devices.
    pub netdevs: NetDevs,
    /// State of the network layer, created when first used. Linux: net_generic.
    network: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// Generation of the route tables: a cached [`Dst`](crate::sock::dst::Dst) of another generation must be looked up
    /// again. Separate from the tables, because it is read for every packet sent (rt_genid).
    rt_genid: AtomicU64,
    /// Plug-in kinds of devices.
    pub device_kinds: crate::device::types::DeviceKinds,
    /// Timers.
    pub timers: Timers,
    pub(crate) orphans: Orphans,
    /// Loaded plug-ins; dropping one unloads it.
    #[doc(hidden)]
    pub plugins: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    runner: Arc<dyn Runner>,
    tsq: Mutex<Vec<Arc<Sock>>>,
    /// There is something in `tsq` or in `tasklets`.
    tsq_pending: AtomicBool,
    tasklets: Mutex<Vec<Arc<dyn TimerCall>>>,
    tasklet_pending: AtomicBool,
    /// How often a device began to have no room. Who sleeps in the devices compares it with what it was when it asked
    /// them what to wait for.
    tx_full: AtomicU64,
    /// The runner has not been told of the last time.
    tx_full_untold: AtomicBool,
    /// A socket has asked for receive time stamps: from then on packets have them (netstamp_needed_key).
    pub(crate) netstamp_needed: AtomicBool,
    /// Programs that do not own the stack are on it.
    shared: AtomicBool,
    /// Fork count of the process when the stack was created.
    born: u32,
    /// `born`, until calls on its sockets are ended.
    serves: AtomicU32,
    /// The control socket, which ends with the stack.
    control: OnceLock<Box<dyn Any + Send + Sync>>,
    /// In a child process it keeps the stack from being dropped.
    lasting: OnceLock<fork::Lasting>,
}

impl Stack {
    /// Programs that do not own the stack have sockets on it from now on, as those of a stack server: they lack
    /// CAP_NET_ADMIN and CAP_NET_RAW: TCP_REPAIR, a restricted congestion control and IPv6 options headers are refused.
    /// One thread serves them all, so that a close does not linger.
    pub fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Whether a close waits as SO_LINGER says: the caller is the program.
    pub(crate) fn lingers(&self) -> bool {
        !self.shared.load(Ordering::Relaxed)
    }

    /// Whether who calls has CAP_NET_ADMIN in the stack's network namespace (ns_capable): its owner has.
    pub(crate) fn net_admin(&self) -> bool {
        !self.shared.load(Ordering::Relaxed)
    }

    /// The same of CAP_NET_BIND_SERVICE.
    pub(crate) fn net_bind_service(&self) -> bool {
        self.net_admin()
    }

    /// The same of CAP_NET_RAW.
    pub(crate) fn net_raw(&self) -> bool {
        self.net_admin()
    }

    /// A stack without protocols and without a network layer; its only device is `lo` (index 1), without addresses.
    /// [`standard::stack`](crate::standard::stack) creates one with the standard protocols.
    pub fn new(config: StackConfig) -> Result<Arc<Stack>> {
        let StackConfig { clock, entropy, runner } = config;
        let keys = Keys::new(&*entropy);
        let stack = Arc::new(Stack {
            real: clock.real(),
            clock,
            entropy,
            sysctl: Sysctls::new(),
            mib: Counters::new(),
            keys,
            registry: Registry::default(),
            netdevs: NetDevs::default(),
            network: OnceLock::new(),
            rt_genid: AtomicU64::new(1),
            device_kinds: Default::default(),
            timers: Timers::new(),
            orphans: Orphans::default(),
            plugins: Mutex::default(),
            runner,
            tsq: Mutex::default(),
            tsq_pending: AtomicBool::new(false),
            tasklets: Mutex::default(),
            tasklet_pending: AtomicBool::new(false),
            tx_full: AtomicU64::new(0),
            tx_full_untold: AtomicBool::new(false),
            netstamp_needed: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            born: fork::generation(),
            serves: AtomicU32::new(fork::generation()),
            control: OnceLock::new(),
            lasting: OnceLock::new(),
        });
        stack.lasting.get_or_init(|| fork::lasting(&stack));
        stack.netdevs.add_own(Arc::new(Loopback::new()))?;
        Ok(stack)
    }

    /// Whether this process is a fork(2) child of the one that created the stack. A stack belongs to its process: in a
    /// child it receives and sends nothing, its socks return ENETDOWN and close without sending anything, and it is
    /// never dropped. The child creates its own stack.
    #[inline]
    pub fn is_inherited(&self) -> bool {
        !fork::is_current(self.born)
    }

    /// ENETDOWN in a child of the stack's process, and after `end_calls`.
    #[inline]
    pub fn here(&self) -> Result<()> {
        if fork::is_current(self.serves.load(Ordering::Relaxed)) { Ok(()) } else { Err(Error::NetDown) }
    }

    /// From now on calls on sockets return ENETDOWN, but close(2), and poll(2) reports POLLERR and POLLHUP: the
    /// simulation that would end a wait is over.
    pub(crate) fn end_calls(&self) {
        // No process has seen so many forks.
        self.serves.store(u32::MAX, Ordering::Relaxed);
    }

    /// State of the network layer, whose type is `T`. There is one network layer: IP.
    #[inline]
    pub(crate) fn network<T: Any + Send + Sync + Default>(&self) -> &Arc<dyn Any + Send + Sync> {
        self.network.get_or_init(|| Arc::new(T::default()))
    }

    /// See [`Dst::check`](crate::sock::dst::Dst::check).
    #[inline]
    pub(crate) fn rt_genid(&self) -> u64 {
        self.rt_genid.load(Ordering::Acquire)
    }

    /// Invalidates the cached destinations of all socks, because something that routes depend on has changed (a table,
    /// an interface's MTU, up or down). Linux: rt_genid_bump_all, rt_cache_flush.
    pub fn rt_genid_bump(&self) {
        self.rt_genid.fetch_add(1, Ordering::AcqRel);
    }

    /// The current time of the stack's clock.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.real {
            Some(real) => real.now(),
            None => self.clock.now(),
        }
    }

    /// Adds a device; returns it with its interface index. Addresses and routes are added through `ip`. EEXIST:
    /// its name is taken.
    pub fn add_device(self: &Arc<Stack>, device: Arc<dyn Device>) -> Result<Arc<NetDev>> {
        let dev = self.netdevs.add(device)?;
        self.runner.kick(self);
        Ok(dev)
    }

    /// The runner, through which threads of this stack wait.
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }

    /// The place of the control socket.
    pub(crate) fn control(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.control
    }

    /// Blocks the calling thread: see [`Runner::block`]. First runs the softirq work that this thread has queued.
    pub fn block(self: &Arc<Stack>, waiter: &Arc<Waiter>, deadline: Option<Instant>) -> Woken {
        self.block_with(waiter, deadline, &mut [])
    }

    /// As `block`, but readiness of kernel descriptors ends the wait too: see [`Runner::block`].
    pub fn block_with(
        self: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        if self.is_inherited() {
            return Woken::Interrupted;
        }
        self.run_pending();
        self.runner.block(self, waiter, deadline, extra)
    }
}

impl Drop for Stack {
    /// Protocol tables hold socks and socks hold their protocol: this reference cycle must be broken here.
    fn drop(&mut self) {
        self.registry.net_exit();
    }
}
