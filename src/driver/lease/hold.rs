//! What the holder of a lease does: waits in the devices' descriptors and runs softirq, or busy-polls. Above: `lease`,
//! which decides who holds it. Below: `Stack::poll_queues`, poll(2).

use super::loan::Loan;
use super::{MODERATION, Queues, Shard};
use crate::base::env::{Duration, Instant};
use crate::base::waiter::{PollSet, Slept, Waiter, Woken};
use crate::counters::Mib;
use crate::device::netdev::NetDev;
use crate::driver::eager::LOOK;
use crate::stack::runner::PollFd;
use crate::stack::{Stack, WEIGHT};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// So many packets a wait reads without having slept, at most: in a sleep it sees signals and other descriptors.
const READS_AT_ONCE: u32 = 8;
/// So many times a thread that busy-polls reads from the devices before it looks at its other descriptors.
const SPINS_PER_LOOK: u32 = 16;

impl Shard {
    /// Work of a program's thread that holds the lease, until its wait is over; None: it has passed the lease to
    /// another thread. `urgent` is returned false when the only devices are in memory and deliver packets at once.
    #[allow(clippy::too_many_arguments)] // what the thread waits for, and where
    pub(super) fn hold(
        &self,
        stack: &Arc<Stack>,
        i: usize,
        all: &[Shard],
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
        urgent: &mut bool,
    ) -> Option<Woken> {
        let mut loan = Loan::new(all, i, waiter, &*stack.clock);
        let (before, mut strayed) = (self.packets.load(Ordering::Relaxed), false);
        let woken = self.hold_with(&mut loan, stack, deadline, extra, urgent, &mut strayed);
        if all.len() > 1 && woken.is_some() {
            // What it waited for came by no queue of its own and by no descriptor of the kernel.
            let none = woken == Some(Woken::Event)
                && self.packets.load(Ordering::Relaxed) == before
                && extra.iter().all(|p| p.revents() == 0);
            self.strays.waited(strayed || none && self.strays.others_received(all, i));
        }
        woken
    }

    #[allow(clippy::too_many_arguments)] // as above
    fn hold_with(
        &self,
        loan: &mut Loan<'_>,
        stack: &Arc<Stack>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
        urgent: &mut bool,
        strayed: &mut bool,
    ) -> Option<Woken> {
        let busy_poll = Duration::from_micros(stack.sysctl.busy_poll() as u64);
        let mut queues = Queues::new();
        let waiter = loan.waiter();
        let mut reads = 0;
        loop {
            let nudged = waiter.take_nudge();
            if waiter.take() {
                return Some(Woken::Event);
            }
            if nudged && self.pass_on(waiter) {
                return None;
            }
            let now = stack.now();
            if deadline.is_some_and(|d| d <= now) {
                return Some(Woken::TimedOut);
            }
            let mut fds = PollSet::new();
            queues.clear();
            let full = loan.gather(self.strays.borrows(), stack, &mut queues, &mut fds);
            let devices = fds.len();
            *urgent = devices > 0 || stack.netdevs.next_event().is_some();
            if reads < READS_AT_ONCE && self.read_at_once(stack, &queues, devices) {
                reads += 1;
                continue;
            }
            reads = READS_AT_ONCE;
            let looks = devices > 0 && self.eager.lock().looks();
            let time = if looks { busy_poll.max(LOOK) } else { busy_poll };
            if !time.is_zero() && devices > 0 {
                let until = deadline.map_or(now + time, |d| d.min(now + time));
                let before = self.packets.load(Ordering::Relaxed);
                let ready = self.spin(stack, &queues, waiter, until, extra, !busy_poll.is_zero());
                if looks {
                    self.eager.lock().looked(self.packets.load(Ordering::Relaxed) != before);
                }
                if ready {
                    return Some(Woken::Event);
                }
                if waiter.is_woken() || deadline.is_some_and(|d| d <= stack.now()) {
                    continue;
                }
            }
            fds.extend_from_slice(extra);
            let slept = self.sleep(stack, waiter, deadline, full, &mut fds);
            extra.copy_from_slice(&fds[devices..devices + extra.len()]);
            match slept {
                None => self.run_due(stack, &queues),
                Some(Slept::Interrupted) => return Some(Woken::Interrupted),
                Some(Slept::Ready) => {
                    *strayed |= self.serve_loan(loan, stack, &queues, &fds[..devices]);
                    if extra.iter().any(|p| p.revents() != 0) {
                        return Some(Woken::Event);
                    }
                }
                Some(Slept::Look | Slept::TimedOut) => {}
            }
        }
    }

    /// Reads a packet from the only queue, which has a descriptor, without waiting for it, where one is likely to be
    /// there. Only one: a second read would often find the queue empty, and what is behind it the next one finds.
    fn read_at_once(&self, stack: &Arc<Stack>, queues: &Queues, devices: usize) -> bool {
        if (queues.len(), devices) != (1, 1) || self.burst.lock().is_long() || !self.eager.lock().reads() {
            return false;
        }
        let found = self.poll_queues(stack, queues, 1) > 0;
        self.eager.lock().read(found);
        found
    }

    /// What `Runner::receive_now` does for lease `i` of `n`.
    pub(super) fn receive_now(&self, stack: &Arc<Stack>, i: usize, n: usize) {
        let mut queues = Queues::new();
        gather(stack, i, n, &mut queues, &mut PollSet::new());
        queues.retain(|q| has_fd(&&*q));
        if !queues.is_empty() && self.eager.lock().receives() {
            let found = self.receive(stack, &queues) > 0;
            self.eager.lock().received_now(found);
        }
    }

    /// Busy polling: reads from the queues, once at least, until the waiter is woken or nudged, or `until`. True: a
    /// descriptor of `extra`, at which it looks now and then, is ready. `counts`: it was asked for, so that its packets
    /// are counted. Linux: napi_busy_loop, whose end is ep_busy_loop_end or sk_busy_loop_end.
    pub(super) fn spin(
        &self,
        stack: &Arc<Stack>,
        queues: &Queues,
        waiter: &Arc<Waiter>,
        until: Instant,
        extra: &mut [PollFd],
        counts: bool,
    ) -> bool {
        let mut round = 0u32;
        loop {
            if waiter.is_called() {
                return false;
            }
            let got = self.poll_queues(stack, queues, WEIGHT);
            if got > 0 && counts {
                stack.mib.add(Mib::TcpExtBusyPollRxPackets, got as u64);
            }
            round = round.wrapping_add(1);
            if !extra.is_empty()
                && round.is_multiple_of(SPINS_PER_LOOK)
                && crate::sys::poll::poll(extra, Some(Duration::ZERO)).is_ok_and(|n| n > 0)
            {
                return true;
            }
            if stack.now() >= until {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Work of the background thread that holds the lease, until a thread of the program asks for it or the stack is
    /// gone.
    pub(super) fn hold_background(&self, stack: &Weak<Stack>, i: usize, shards: usize, stop: &AtomicBool) {
        let me = &self.background;
        let mut queues = Queues::new();
        while !stop.load(Ordering::SeqCst) {
            let Some(strong) = stack.upgrade() else { break };
            me.take_nudge();
            if self.is_wanted() {
                break;
            }
            let mut fds = PollSet::new();
            queues.clear();
            let full = gather(&strong, i, shards, &mut queues, &mut fds);
            let devices = fds.len();
            let Some(timeout) = self.plan(&strong, None, full) else {
                self.run_due(&strong, &queues);
                continue;
            };
            let began = strong.now();
            // While it sleeps it holds no reference to the stack, so that the program can drop the stack.
            drop(strong);
            queues.clear();
            let slept = me.sleep(&mut fds, timeout);
            self.sleep_until.store(0, Ordering::SeqCst);
            let Some(strong) = stack.upgrade() else { break };
            let short = strong.now() - began < MODERATION;
            if slept == Slept::Ready {
                let mut again = PollSet::new();
                gather(&strong, i, shards, &mut queues, &mut again);
                // The set of devices has changed: the next iteration gathers them again.
                if again.len() == devices {
                    self.serve(&strong, &queues, &fds[..devices]);
                }
                drop(strong);
                queues.clear();
                if short && !me.is_called() {
                    me.sleep(&mut PollSet::new(), Some(MODERATION));
                }
            }
        }
        if let Some(strong) = stack.upgrade() {
            self.release(true, &*strong.clock);
        }
    }

    /// Serves the devices once, for the background thread that has just taken the lease, and releases it.
    pub(super) fn pass(&self, stack: &Arc<Stack>, i: usize, shards: usize) {
        let mut queues = Queues::new();
        gather(stack, i, shards, &mut queues, &mut PollSet::new());
        while self.poll_queues(stack, &queues, WEIGHT) >= WEIGHT && self.state.lock().parked.is_empty() {}
        stack.receive_left(stack.now());
        self.release(true, &*stack.clock);
    }

    /// Publishes until when the holder will sleep, and returns for how long. None: something is due now. `full`: what
    /// [`gather`] returned.
    fn plan(&self, stack: &Arc<Stack>, deadline: Option<Instant>, full: u64) -> Option<Option<Duration>> {
        let until = [stack.next_event(), deadline].into_iter().flatten().min();
        let now = stack.now();
        if until.is_some_and(|t| t <= now) && deadline.is_none_or(|d| d > now) {
            return None;
        }
        let mark = until.map_or(u64::MAX, Instant::as_nanos).max(1);
        self.sleep_until.store(mark, Ordering::SeqCst);
        if stack.leaves_scheduled() {
            // An operation that owns a sock waits here: the background thread does it.
            self.background.nudge();
        }
        // What appeared before the mark was stored woke nobody, so it is looked for again.
        if stack.tx_full() != full || stack.next_event().is_some_and(|t| t.as_nanos() < mark) {
            self.sleep_until.store(0, Ordering::SeqCst);
            return Some(Some(Duration::ZERO));
        }
        Some(until.map(|t| t.saturating_sub(now)))
    }

    fn sleep(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        full: u64,
        fds: &mut PollSet,
    ) -> Option<Slept> {
        let timeout = self.plan(stack, deadline, full)?;
        let slept = waiter.sleep(fds, timeout);
        self.sleep_until.store(0, Ordering::SeqCst);
        Some(slept)
    }

    /// Receives from the queues whose descriptors are ready, as many packets as the last bursts had; more would be
    /// found by the next wait, and a further read often finds the queue empty.
    fn serve(&self, stack: &Arc<Stack>, queues: &Queues, fds: &[PollFd]) {
        self.serve_ready(stack, ready(queues, fds), fds);
    }

    /// The same of its own queues and of those that it still has on loan; returns whether one of the latter was ready.
    fn serve_loan(&self, loan: &Loan<'_>, stack: &Arc<Stack>, queues: &Queues, fds: &[PollFd]) -> bool {
        let mut ready = ready(queues, fds);
        ready.retain(|(_, queue)| loan.has(*queue));
        let foreign = ready.iter().any(|(_, queue)| loan.is_foreign(*queue));
        self.serve_ready(stack, ready, fds);
        foreign
    }

    fn serve_ready(&self, stack: &Arc<Stack>, ready: Queues, fds: &[PollFd]) {
        if ready.is_empty() {
            return;
        }
        let got = self.receive(stack, &ready);
        if got == 0 && fds.iter().any(|p| p.revents() & FAILED != 0) {
            take_down_failed(&ready);
        }
    }

    /// Receives a burst from each queue that is ready; returns how many packets there were.
    fn receive(&self, stack: &Arc<Stack>, queues: &Queues) -> usize {
        let asked = self.burst.lock().ask(WEIGHT);
        let got = self.poll_queues(stack, queues, asked);
        self.burst.lock().note(asked, got.div_ceil(queues.len().max(1)));
        got
    }

    fn poll_queues(&self, stack: &Arc<Stack>, queues: &Queues, budget: usize) -> usize {
        // Packets and bytes of whole devices: both count other queues alike.
        let counts = || {
            let stats = queues.iter().map(|(dev, _)| dev.device().stats());
            stats.fold((0, 0), |(packets, bytes), s| (packets + s.rx_packets, bytes + s.rx_bytes))
        };
        let before = counts();
        let got = stack.poll_queues(stack.now(), queues, budget);
        if got > 0 {
            self.packets.fetch_add(got as u64, Ordering::Relaxed);
            let after = counts();
            let packets = after.0.saturating_sub(before.0);
            self.eager.lock().received(packets as usize, after.1.saturating_sub(before.1));
        }
        got
    }

    /// Timers that are due, and packets of devices in memory; those of others are received when their descriptors are
    /// ready.
    fn run_due(&self, stack: &Arc<Stack>, queues: &Queues) {
        let memory = queues.iter().filter(|q| !has_fd(q));
        stack.poll_queues(stack.now(), &memory.cloned().collect::<Queues>(), WEIGHT);
        stack.receive_left(stack.now());
    }
}

/// Poll events of a descriptor that has failed.
const FAILED: i16 = libc::POLLERR | libc::POLLNVAL | libc::POLLHUP;

/// An AF_PACKET socket reports once that its interface went down; a deleted TUN device reports an error for ever, and
/// polling it would spin. A device that still fails after its error was read is brought down.
fn take_down_failed(queues: &Queues) {
    for (dev, q) in queues {
        let Some(fd) = dev.device().poll_fd(*q) else { continue };
        let mut p = [PollFd::new(fd, libc::POLLIN)];
        if crate::sys::poll::poll(&mut p, Some(Duration::ZERO)).is_ok() && p[0].revents() & FAILED != 0 {
            dev.set_up(false);
        }
    }
}

/// Whether a queue has a descriptor: its device is not one in memory.
pub(super) fn has_fd((dev, queue): &&(Arc<NetDev>, u16)) -> bool {
    dev.device().poll_fd(*queue).is_some()
}

/// Those of `queues` whose descriptors are ready.
fn ready(queues: &Queues, fds: &[PollFd]) -> Queues {
    let fd_queues = queues.iter().filter(has_fd);
    fd_queues.zip(fds).filter(|(_, p)| p.revents() != 0).map(|(q, _)| q.clone()).collect()
}

/// Adds the queues of lease `i` of `n`, and the descriptors of those that have one, in the same order. Not those that
/// are each a thread's: a thread receives what it sends. Returns [`Stack::tx_full`] of before.
pub(super) fn gather(stack: &Stack, i: usize, n: usize, queues: &mut Queues, fds: &mut PollSet) -> u64 {
    let full = stack.tx_full();
    for dev in stack.netdevs.iter().filter(|d| d.is_up() && !d.is_per_thread()) {
        let device = dev.device();
        let out = if dev.tx_backlog() > 0 { libc::POLLOUT } else { 0 };
        for q in (0..device.caps().queues).skip(i).step_by(n) {
            queues.push((dev.clone(), q));
            if let Some(fd) = device.poll_fd(q) {
                fds.push(PollFd::new(fd, libc::POLLIN | out));
            }
        }
    }
    full
}
