//! All of softirq: [`Stack::poll`] receives from devices, runs timers, resumes senders and runs what is scheduled.
//! Above: the driver, which decides which thread calls it, and each system call, which ends with
//! [`Stack::run_pending`]. Below: `netdev`, `timers`. Linux: kernel/softirq.c, net_rx_action, tcp_tasklet_func.

use super::{Stack, TimerCall};
use crate::base::env::Instant;
use crate::device::netdev::NetDev;
use crate::sock::{Sock, tsq};
use crate::sys::near::here;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Packets taken from a device queue in one turn (net.core.dev_weight).
pub(crate) const WEIGHT: usize = 64;
/// `Block::raised` of a thread that has sent packets in more than one stack: it looks each time, for good.
const SEVERAL: usize = 1;

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

impl Stack {
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

    /// Has `call` run soon in softirq context, with no lock held and no sock owned. For work that is discovered where
    /// it cannot be done, as in the destructor of a packet. May be called in any context and under any lock. `call`
    /// runs before the system call that has caused it returns, or in the thread that sleeps in the devices
    /// (tasklet_schedule).
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

    /// Receives what is in the devices outside now, if this thread may: see `Runner::receive_now`.
    #[cold]
    pub(crate) fn receive_now(self: &Arc<Stack>) {
        if self.netdevs.has_others() && here().owned.get() == 0 && here().softirq.get() == 0 {
            self.runner.receive_now(self);
        }
    }

    fn run_raised(self: &Arc<Stack>) {
        // Where the loopback is the only device, what this thread has sent is found by receiving it. Beside other
        // devices it is asked first whether anything is pending.
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
