//! A stack that one thread's own event loop drives: the loop waits in an epoll or poll of its own, with the devices'
//! descriptors among the others, and calls [`EventLoop::serve`]. No lease, no background thread. For programs whose
//! every wait is the loop's, as the stack server. Above: the loop. Below: `Stack::poll_queues`, poll(2).

use crate::base::env::{Duration, Instant};
use crate::base::waiter::{PollSet, Slept, Waiter, Woken};
use crate::device::netdev::NetDev;
use crate::stack::runner::Runner;
use crate::stack::{Stack, WEIGHT};
use crate::sys::fd::EventFd;
use crate::sys::poll::PollFd;
use smallvec::SmallVec;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The loop is awake: it looks at the stack's timers before it sleeps.
const AWAKE: u64 = 0;

/// The runner of a stack that a program's event loop drives. A loop, in one thread:
///
/// 1. handle what is ready, then [`EventLoop::begin_sleep`];
/// 2. wait for that long in [`EventLoop::descriptors`] and the program's own;
/// 3. [`EventLoop::serve`] the descriptors that are ready.
///
/// Other threads may call the stack, too: a call that blocks sleeps until the loop has done its work.
pub struct EventLoop {
    /// Wakes the loop when another thread has work for it.
    wake: EventFd,
    /// Until when the loop sleeps, in nanoseconds of the stack's clock; [`AWAKE`].
    sleep_until: AtomicU64,
    /// [`Stack::tx_full`] when the descriptors were asked for.
    full: AtomicU64,
}

impl EventLoop {
    /// Errors: EMFILE, ENFILE, ENOMEM.
    pub fn new() -> io::Result<EventLoop> {
        Ok(EventLoop { wake: EventFd::new()?, sleep_until: AtomicU64::new(AWAKE), full: AtomicU64::new(0) })
    }

    /// What to wait for: descriptors and poll(2)'s events. It changes when a device comes, goes, or cannot send, so it
    /// is asked for before each wait.
    pub fn descriptors(&self, stack: &Arc<Stack>) -> SmallVec<[(RawFd, i16); 4]> {
        self.full.store(stack.tx_full(), Ordering::Relaxed);
        let mut all = SmallVec::from_elem((self.wake.raw(), libc::POLLIN), 1);
        each_queue(stack, |dev, _, fd| {
            let out = if dev.tx_backlog() > 0 { libc::POLLOUT } else { 0 };
            all.extend(fd.map(|fd| (fd, libc::POLLIN | out)));
        });
        all
    }

    /// Softirq: receives from the queues whose descriptors are in `ready`, runs the timers that are due, sends what
    /// waits. Returns how many packets and timers that were.
    pub fn serve(&self, stack: &Arc<Stack>, ready: &[RawFd]) -> usize {
        self.sleep_until.store(AWAKE, Ordering::SeqCst);
        if ready.contains(&self.wake.raw()) {
            self.wake.drain();
        }
        let mut queues = SmallVec::<[(Arc<NetDev>, u16); 4]>::new();
        each_queue(stack, |dev, queue, fd| {
            // A device without a descriptor (a simulated link, the loopback) says by `next_event` when it has packets.
            if fd.is_none_or(|fd| ready.contains(&fd)) {
                queues.push((dev.clone(), queue));
            }
        });
        let packets = stack.poll_queues(stack.now(), &queues, WEIGHT);
        stack.receive_left(stack.now());
        packets
    }

    /// How long to sleep: until the next timer of the stack or `deadline`, whichever is first. None: for ever. Zero:
    /// there is work now.
    pub fn begin_sleep(&self, stack: &Arc<Stack>, deadline: Option<Instant>) -> Option<Duration> {
        let until = [stack.next_event(), deadline].into_iter().flatten().min();
        let mark = until.map_or(u64::MAX, Instant::as_nanos).max(AWAKE + 1);
        self.sleep_until.store(mark, Ordering::SeqCst);
        // What another thread added before the mark was stored woke nobody.
        let full = stack.tx_full() != self.full.load(Ordering::Relaxed);
        if full || stack.any_pending() || stack.next_event().is_some_and(|t| t.as_nanos() < mark) {
            return Some(Duration::ZERO);
        }
        until.map(|t| t.saturating_sub(stack.now()))
    }

    /// Ends the loop's sleep, from another thread.
    pub fn wake(&self) {
        self.wake.signal();
    }
}

/// The queues of the devices that are up, with their descriptors. Not those that are each a thread's: a thread receives
/// what it sends.
fn each_queue(stack: &Stack, mut f: impl FnMut(&Arc<NetDev>, u16, Option<RawFd>)) {
    for dev in stack.netdevs.iter().filter(|dev| dev.is_up() && !dev.is_per_thread()) {
        let device = dev.device();
        for queue in 0..dev.queue_count() {
            f(dev, queue, device.poll_fd(queue));
        }
    }
}

impl Runner for EventLoop {
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        loop {
            waiter.take_nudge();
            if waiter.take() {
                return Woken::Event;
            }
            let now = stack.now();
            if deadline.is_some_and(|d| d <= now) {
                return Woken::TimedOut;
            }
            let mut fds = PollSet::from_slice(extra);
            let slept = waiter.sleep(&mut fds, deadline.map(|d| d.saturating_sub(now)));
            extra.copy_from_slice(&fds[..extra.len()]);
            match slept {
                Slept::Ready => return Woken::Event,
                Slept::Interrupted => return Woken::Interrupted,
                Slept::Look | Slept::TimedOut => {}
            }
        }
    }

    /// Only a loop that sleeps beyond the new deadline is woken; its own thread is awake.
    fn kick(&self, stack: &Arc<Stack>) {
        let until = self.sleep_until.load(Ordering::SeqCst);
        if until == AWAKE || stack.is_inherited() {
            return;
        }
        let next = stack.next_event().map_or(u64::MAX, Instant::as_nanos);
        if stack.any_pending() || next < until {
            self.wake();
        }
    }

    fn look_again(&self, stack: &Arc<Stack>) {
        if !stack.is_inherited() && self.sleep_until.load(Ordering::SeqCst) != AWAKE {
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::{TcpListener, TcpStream};
    use crate::sys::poll::poll;
    use std::io::{Read, Write};
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn threads_that_block_are_served_by_the_loop() {
        let driver = Arc::new(EventLoop::new().unwrap());
        let stack = Config::parse("").unwrap().build_driven_by(driver.clone()).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let mut fds: Vec<PollFd> =
                        driver.descriptors(&stack).iter().map(|&(fd, events)| PollFd::new(fd, events)).collect();
                    let timeout = driver.begin_sleep(&stack, None);
                    poll(&mut fds, timeout).unwrap();
                    driver.serve(&stack, &[driver.wake.raw()]);
                }
            });
            let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
            let addr = listener.local_addr().unwrap();
            let echo = s.spawn(move || {
                let (mut a, _) = listener.accept().unwrap();
                let mut bytes = Vec::new();
                a.read_to_end(&mut bytes).unwrap();
                bytes.len()
            });
            let mut c = TcpStream::connect_on(&stack, addr).unwrap();
            c.write_all(&vec![7; 3 << 20]).unwrap();
            drop(c);
            assert_eq!(echo.join().unwrap(), 3 << 20);
            stop.store(true, Ordering::SeqCst);
            driver.wake();
        });
    }

    #[test]
    fn a_loop_that_sleeps_runs_what_another_thread_schedules() {
        struct Told(std::sync::mpsc::Sender<()>);
        impl crate::stack::TimerCall for Told {
            fn fire(self: Arc<Self>, _: &Arc<Stack>, _: Instant) {
                self.0.send(()).unwrap();
            }
        }
        let driver = Arc::new(EventLoop::new().unwrap());
        let stack = Config::parse("").unwrap().build_driven_by(driver.clone()).unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        let mut fds: Vec<PollFd> =
            driver.descriptors(&stack).iter().map(|&(fd, events)| PollFd::new(fd, events)).collect();
        assert_ne!(driver.begin_sleep(&stack, None), Some(Duration::ZERO));
        // Another thread, which makes no further call; before this one begins to sleep, or after.
        std::thread::scope(|s| s.spawn(|| stack.schedule(Arc::new(Told(told)))).join().unwrap());
        assert_eq!(poll(&mut fds, Some(std::time::Duration::from_secs(10))).unwrap(), 1);
        driver.serve(&stack, &[driver.wake.raw()]);
        tells.try_recv().unwrap();
    }
}
