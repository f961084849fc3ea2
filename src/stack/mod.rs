//! A stack: Linux's `struct net`. It consists of the clock, randomness, sysctls, counters, devices, timers and the
//! registry of protocols; all other state is in those. Nothing of it is global, and a process may hold many stacks.
//! [`Stack::poll`] is the whole of softirq: it receives from devices, runs timers and resumes senders. The [`runner`]
//! decides who calls it, and when.

pub mod runner;

use crate::base::boxed::boxed_array;
use crate::base::env::{Clock, Entropy, Instant, RealClock};
use crate::base::error::{Error, Result};
use crate::base::hash::Keys;
use crate::base::padded::Padded;
use crate::base::waiter::{Waiter, Woken};
use crate::base::wheel::{TimerId, Wheel};
use crate::counters::Counters;
use crate::device::Device;
use crate::device::loopback::Loopback;
use crate::device::netdev::{NetDev, NetDevs};
use crate::sock::orphan::Orphans;
use crate::sock::registry::Registry;
use crate::sock::{Sock, crowd, tsq};
use crate::sys::fork;
use crate::sys::lock::Mutex;
use crate::sys::near::here;
use crate::sysctl::Sysctls;
use runner::{PollFd, Runner};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Number of timer wheels of a stack: each thread arms timers in one of them, so that threads share no lock.
const WHEELS: usize = crate::counters::SHARDS;
/// Packets taken from a device queue in one turn (net.core.dev_weight).
pub(crate) const WEIGHT: usize = 64;

/// The action of a timer that fires, in softirq context.
#[non_exhaustive]
pub enum TimerTarget {
    /// `Sock::defer(bits)`.
    Sock(Arc<Sock>, u32),
    /// Calls `fire`. Boxed: most timers are socks'.
    Call(Box<Arc<dyn TimerCall>>),
}

/// Of many socks, asks for the lines of those whose timers fire soon: each would be waited for as long as its timer's
/// work takes. The next one's are there, and name its peer, to which that may send.
#[inline]
fn bring_in_next(wheel: &Wheel<TimerTarget>) {
    if !crowd::many() {
        return;
    }
    if let Some(TimerTarget::Sock(sock, _)) = wheel.upcoming(0) {
        sock.bring_in_peer();
    }
    if let Some(TimerTarget::Sock(sock, _)) = wheel.upcoming(1) {
        sock.bring_in();
    }
}

/// Softirq work that is scheduled, for a time or as soon as can be. Called with no lock held.
pub trait TimerCall: Send + Sync {
    /// The timer fired at `now`.
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant);
}

/// The handle of a timer, kept in a structure: empty, or armed for a time. Two words.
#[derive(Debug)]
pub struct TimerSlot {
    /// Deadline in nanoseconds, of which 61 bits last for 73 years, and below it the number of the wheel; or `EMPTY`.
    when: u64,
    id: TimerId,
}

const WHEEL_BITS: u32 = WHEELS.trailing_zeros();
const EMPTY: u64 = u64::MAX;
/// The latest deadline of a slot.
const LATEST: Instant = Instant::from_nanos((EMPTY >> WHEEL_BITS) - 1);
const _: () = assert!(WHEELS.is_power_of_two() && size_of::<TimerSlot>() == 16);

impl Default for TimerSlot {
    fn default() -> TimerSlot {
        TimerSlot::EMPTY
    }
}

impl TimerSlot {
    /// Of no timer.
    pub(crate) const EMPTY: TimerSlot = TimerSlot { when: EMPTY, id: TimerId::NONE };

    /// The time it fires, if armed. A slot whose time has passed has fired or is about to.
    #[inline]
    pub fn at(&self) -> Option<Instant> {
        self.is_armed().then(|| Instant::from_nanos(self.when >> WHEEL_BITS))
    }
    /// Whether the timer is armed.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.when != EMPTY
    }
    /// Empties the slot: its owner has seen the timer fire.
    #[inline]
    pub fn fired(&mut self) {
        self.when = EMPTY;
    }
    /// The wheel of an armed one.
    #[inline]
    fn wheel(&self) -> usize {
        self.when as usize % WHEELS
    }
    #[inline]
    fn set(&mut self, id: TimerId, at: Instant, wheel: usize) {
        *self = TimerSlot { when: at.as_nanos() << WHEEL_BITS | wheel as u64, id };
    }
    /// Moves a timer that is armed for a time after `now` to `at`, if that is no earlier, without touching the wheel:
    /// see [`Stack::arm_sock_lazily`]. Returns whether it did.
    #[inline]
    fn postpone(&mut self, at: Instant, now: Instant) -> bool {
        let may = self.at().is_some_and(|was| was > now && was <= at);
        if may {
            self.set(self.id, at.min(LATEST), self.wheel());
        }
        may
    }
}

/// All timers of a stack.
pub struct Timers {
    wheels: Box<[Padded<Mutex<Wheel<TimerTarget>>>; WHEELS]>,
    /// Earliest deadline of each wheel in nanoseconds, `u64::MAX` for none; may be too early, never too late. Written
    /// with the wheel locked.
    next: Box<[Padded<AtomicU64>; WHEELS]>,
}

impl Timers {
    fn new() -> Timers {
        Timers {
            wheels: boxed_array(|_| Padded(Mutex::new(Wheel::new()))),
            next: boxed_array(|_| Padded(AtomicU64::new(u64::MAX))),
        }
    }

    /// Arms the timer of a slot, or moves it (mod_timer). `target` is called only when the slot is empty. True when
    /// this is now the wheel's earliest deadline (the driver may have to be woken).
    pub fn arm(&self, slot: &mut TimerSlot, at: Instant, target: impl FnOnce() -> TimerTarget) -> bool {
        let at = at.min(LATEST);
        if let Some(was) = slot.at() {
            if was == at {
                return false;
            }
            let i = slot.wheel();
            let mut w = self.wheels[i].lock();
            if w.rearm(slot.id, at) {
                slot.set(slot.id, at, i);
                return self.note(i, at);
            }
        }
        let i = crate::counters::shard_index() % WHEELS;
        let target = target();
        let mut w = self.wheels[i].lock();
        slot.set(w.arm(at, target), at, i);
        self.note(i, at)
    }

    /// Updates the earliest deadline of wheel `i`, which is locked, for a timer that was armed.
    fn note(&self, i: usize, at: Instant) -> bool {
        let earlier = self.next[i].load(Ordering::SeqCst) > at.as_nanos();
        if earlier {
            self.next[i].store(at.as_nanos(), Ordering::SeqCst);
        }
        earlier
    }

    /// Disarms a slot (del_timer). True when the timer was pending.
    #[inline]
    pub fn cancel(&self, slot: &mut TimerSlot) -> bool {
        slot.is_armed() && self.cancel_armed(slot)
    }

    #[inline(never)]
    fn cancel_armed(&self, slot: &mut TimerSlot) -> bool {
        let gone = self.wheels[slot.wheel()].lock().cancel(slot.id);
        slot.fired();
        gone.is_some()
    }

    /// Earliest deadline; may be too early (after a cancel), never too late.
    pub fn next_deadline(&self) -> Option<Instant> {
        let n = self.next.iter().map(|a| a.load(Ordering::SeqCst)).min()?;
        (n != u64::MAX).then(|| Instant::from_nanos(n))
    }

    /// Runs the timers that are due; returns how many fired.
    fn expire(&self, stack: &Arc<Stack>, now: Instant) -> usize {
        let mut fired = 0;
        for i in 0..WHEELS {
            while self.next[i].load(Ordering::SeqCst) <= now.as_nanos() {
                let popped = {
                    let mut w = self.wheels[i].lock();
                    let p = w.pop_expired(now);
                    bring_in_next(&w);
                    if p.is_none() {
                        self.next[i].store(w.next_deadline().map_or(u64::MAX, Instant::as_nanos), Ordering::SeqCst);
                    }
                    p
                };
                match popped {
                    None => break,
                    Some((_, TimerTarget::Sock(sock, bits))) => {
                        sock.defer(stack, bits, now);
                        sock.put(stack);
                    }
                    Some((_, TimerTarget::Call(call))) => call.fire(stack, now),
                }
                fired += 1;
            }
        }
        fired
    }
}

/// Exists while a thread runs a turn of softirq (in_serving_softirq).
struct Softirq;

impl Softirq {
    #[inline]
    fn begin() -> Softirq {
        let depth = &here().softirq;
        depth.set(depth.get() + 1);
        Softirq
    }
}

impl Drop for Softirq {
    #[inline]
    fn drop(&mut self) {
        let depth = &here().softirq;
        depth.set(depth.get() - 1);
    }
}

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

/// `Block::raised` of a thread that has sent packets in more than one stack: it looks each time, for good.
const SEVERAL: usize = 1;

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

    /// Arms a timer of a sock; wakes the driver when its deadline is the new earliest.
    #[inline]
    pub fn arm_sock(self: &Arc<Stack>, slot: &mut TimerSlot, sock: &Arc<Sock>, bits: u32, at: Instant) {
        if self.timers.arm(slot, at, || TimerTarget::Sock(sock.clone(), bits)) {
            self.runner.kick(self);
        }
    }

    /// The same for a timer that is mostly postponed, as the retransmission timer is at each acknowledgement: the wheel
    /// keeps the earlier time, so that postponing costs nothing, and the timer may fire too early. Its handler finds
    /// that by [`TimerSlot::at`], and calls [`Stack::resume_sock`], or [`Timers::cancel`] if nothing waits for it any
    /// more. Linux: icsk_timeout, which tcp_write_timer_handler compares with the time.
    #[inline]
    pub(crate) fn arm_sock_lazily(
        self: &Arc<Stack>,
        slot: &mut TimerSlot,
        sock: &Arc<Sock>,
        bits: u32,
        at: Instant,
        now: Instant,
    ) {
        if !slot.postpone(at, now) {
            self.arm_sock(slot, sock, bits, at);
        }
    }

    /// Arms a timer that fired too early for the time in its slot.
    #[cold]
    pub(crate) fn resume_sock(self: &Arc<Stack>, slot: &mut TimerSlot, sock: &Arc<Sock>, bits: u32) {
        let Some(at) = slot.at() else { return };
        // It may be armed in the wheel: the owner of the sock set it anew between its firing and its handler.
        self.timers.cancel(slot);
        self.arm_sock(slot, sock, bits, at);
    }

    /// Arms any other timer.
    pub fn arm_call(self: &Arc<Stack>, slot: &mut TimerSlot, call: Arc<dyn TimerCall>, at: Instant) {
        if self.timers.arm(slot, at, || TimerTarget::Call(Box::new(call))) {
            self.runner.kick(self);
        }
    }

    /// A device has no room for a packet, which waits.
    #[cold]
    pub(crate) fn note_full(&self) {
        self.tx_full.fetch_add(1, Ordering::SeqCst);
        self.tx_full_untold.store(true, Ordering::SeqCst);
    }

    /// See `tx_full`.
    pub(crate) fn tx_full(&self) -> u64 {
        self.tx_full.load(Ordering::SeqCst)
    }

    pub(crate) fn tsq_push(&self, sock: Arc<Sock>) {
        self.tsq.lock().push(sock);
        self.tsq_pending.store(true, Ordering::SeqCst);
    }

    /// Has `call` fired soon, in softirq context with no lock held and no sock owned: for what is noticed where that is
    /// not so, as in the destructor of a packet. Any context, under any lock. It fires before the system call that has
    /// caused it returns, or in the thread that sleeps in the devices (tasklet_schedule).
    pub fn schedule(self: &Arc<Stack>, call: Arc<dyn TimerCall>) {
        if self.is_inherited() {
            // Nothing is told in a child; a thread of the parent may have the lock.
            return;
        }
        self.tasklets.lock().push(call);
        self.tasklet_pending.store(true, Ordering::SeqCst);
        self.tsq_pending.store(true, Ordering::SeqCst);
        // A turn of softirq ends with what is scheduled in it. Any other thread may be one that makes no further call.
        if here().softirq.get() == 0 {
            self.runner.look_again(self);
        }
    }

    #[cold]
    fn run_tasklets(self: &Arc<Stack>, now: Instant) -> usize {
        if here().owned.get() > 0 {
            // A call within an operation that owns a sock.
            self.tsq_pending.store(true, Ordering::SeqCst);
            self.runner.look_again(self);
            return 0;
        }
        self.tasklet_pending.store(false, Ordering::SeqCst);
        let list = std::mem::take(&mut *self.tasklets.lock());
        let n = list.len();
        list.into_iter().for_each(|call| call.fire(self, now));
        n
    }

    /// Resumes senders whose packets the devices have finished with (tcp_tasklet_func), and runs what is scheduled.
    #[inline]
    fn run_tsq(self: &Arc<Stack>, now: Instant) -> usize {
        if self.tsq_pending.load(Ordering::SeqCst) { self.resume(now) } else { 0 }
    }

    #[inline(never)]
    fn resume(self: &Arc<Stack>, now: Instant) -> usize {
        if !self.tsq_pending.swap(false, Ordering::SeqCst) {
            return 0;
        }
        let list = std::mem::take(&mut *self.tsq.lock());
        let mut n = 0;
        for sock in list {
            // Without the bit it waits for another completion (`Sock::tx_refused`), or was resumed by an earlier entry.
            if sock.tsq_flags.fetch_and(!tsq::QUEUED, Ordering::AcqRel) & tsq::QUEUED != 0 {
                sock.defer(self, tsq::DEFERRED, now);
                n += 1;
            }
            // Perhaps within an operation that owns a sock.
            match here().owned.get() {
                0 => sock.put(self),
                _ => sock.put_later(),
            }
        }
        if self.tasklet_pending.load(Ordering::SeqCst) {
            n += self.run_tasklets(now);
        }
        n
    }

    /// This thread sends a packet that it is to receive itself (raise_softirq).
    #[inline]
    pub(crate) fn raise(&self) {
        let (raised, this) = (&here().raised, std::ptr::from_ref(self) as usize);
        if raised.get() != this {
            raised.set(if raised.get() == 0 { this } else { SEVERAL });
        }
    }

    /// Whether this thread has sent packets that it is to receive itself, of this stack or of one among several.
    #[inline]
    fn is_raised(&self) -> bool {
        let raised = here().raised.get();
        raised == std::ptr::from_ref(self) as usize || raised == SEVERAL
    }

    /// Whether [`Stack::run_pending`] may have work to do: most calls send nothing.
    #[inline]
    fn may_be_pending(&self) -> bool {
        self.is_raised() || self.tsq_pending.load(Ordering::SeqCst) || self.netdevs.has_others()
    }

    /// The same for a call that is about to sleep, and looks for the packets only where it has sent none.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.is_raised() || self.any_pending()
    }

    /// Called after a system call: runs the softirq work that this thread's packets caused in memory (loopback
    /// deliveries, completions), as Linux runs softirq when bottom halves are enabled again. The caller must own no
    /// sock.
    #[inline]
    pub fn run_pending(self: &Arc<Stack>) {
        if self.tx_full_untold.load(Ordering::Relaxed) && self.tx_full_untold.swap(false, Ordering::SeqCst) {
            self.runner.look_again(self);
        }
        if self.may_be_pending() {
            self.run_raised();
        }
    }

    fn run_raised(self: &Arc<Stack>) {
        // What this thread has sent is found by receiving it; other devices are not asked for nothing.
        let mut pending = if self.netdevs.has_others() { self.any_pending() } else { !self.is_inherited() };
        while pending {
            let _softirq = Softirq::begin();
            let now = self.now();
            let (received, settled) = self.netdevs.receive_here(self, now, WEIGHT);
            let resumed = self.run_tsq(now);
            let known = settled && resumed == 0 && !self.tsq_pending.load(Ordering::SeqCst);
            pending = !known && self.any_pending();
            if pending && received + resumed == 0 {
                // Another thread is receiving; it polls the queue again before it stops.
                return;
            }
        }
        let raised = &here().raised;
        if raised.get() == std::ptr::from_ref(&**self) as usize {
            raised.set(0);
        }
    }

    /// Whether `run_pending` has work to do.
    #[inline]
    pub(crate) fn any_pending(&self) -> bool {
        (self.netdevs.pending_here() || self.tsq_pending.load(Ordering::SeqCst)) && !self.is_inherited()
    }

    /// Receives from all queues of all devices once, up to WEIGHT packets each; returns how many there were.
    fn receive(self: &Arc<Stack>, now: Instant) -> usize {
        let mut n = 0;
        for dev in self.netdevs.iter() {
            for q in 0..dev.queue_count() {
                n += dev.receive(self, q, now, WEIGHT);
            }
        }
        n
    }

    /// Softirq for a thread that serves some queues only (a driver lease): receives up to `budget` packets from each,
    /// runs timers, resumes senders, retries full device queues. Returns how many packets were received.
    pub(crate) fn poll_queues(self: &Arc<Stack>, now: Instant, queues: &[(Arc<NetDev>, u16)], budget: usize) -> usize {
        let _softirq = Softirq::begin();
        let packets: usize = queues.iter().map(|(dev, q)| dev.receive(self, *q, now, budget)).sum();
        let mut n = packets + self.timers.expire(self, now);
        n += self.run_tsq(now);
        n += self.netdevs.flush_tx(self, now);
        if n > 0 || self.any_pending() {
            self.run_pending();
        }
        packets
    }

    /// Softirq work that a thread has left behind on its own queue of the loopback device, though every call that sends
    /// ends with [`Stack::run_pending`]: for threads that look after all of it now and then.
    pub(crate) fn receive_left(self: &Arc<Stack>, now: Instant) {
        if self.netdevs.any_pending() && !self.is_inherited() {
            self.receive(now);
            self.run_pending();
        }
    }

    /// Softirq: receives, runs timers, resumes senders, retries full device queues, until nothing is due at `now`.
    /// Returns whether anything was done. Bounded: after many rounds it returns true, and must be called again.
    pub fn poll(self: &Arc<Stack>, now: Instant) -> bool {
        if self.is_inherited() {
            return false;
        }
        let _softirq = Softirq::begin();
        let mut any = false;
        for _ in 0..64 {
            let mut n = self.receive(now);
            n += self.timers.expire(self, now);
            n += self.run_tsq(now);
            n += self.netdevs.flush_tx(self, now);
            if n == 0 {
                return any;
            }
            any = true;
        }
        true
    }

    /// Time at which `poll` next has work: the earliest timer or simulated arrival. None: only a packet from outside
    /// causes work. Scheduled work is none for a thread that owns a sock: it could not run it.
    pub fn next_event(&self) -> Option<Instant> {
        let timers = self.timers.next_deadline();
        let devices = self.netdevs.next_event();
        let scheduled = self.tasklet_pending.load(Ordering::SeqCst) && here().owned.get() == 0;
        [timers, devices, scheduled.then(|| self.now())].into_iter().flatten().min()
    }

    /// Whether work is scheduled that another thread has to run, because this one owns a sock.
    pub(crate) fn leaves_scheduled(&self) -> bool {
        self.tasklet_pending.load(Ordering::SeqCst) && here().owned.get() > 0
    }

    /// Runs what is scheduled, for a thread that others have left it to.
    pub(crate) fn run_left(self: &Arc<Stack>) {
        if self.tasklet_pending.load(Ordering::SeqCst) && !self.is_inherited() {
            let _softirq = Softirq::begin();
            self.run_tsq(self.now());
            self.run_pending();
        }
    }
}

impl Drop for Stack {
    /// Protocol tables hold socks and socks hold their protocol: this reference cycle must be broken here.
    fn drop(&mut self) {
        self.registry.net_exit();
    }
}
