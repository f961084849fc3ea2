//! How a call sleeps until its sock is ready. Above: blocking calls of the protocols. Below: `wait`, whose queue wakes
//! it, and the driver, which decides how a thread waits. Linux: sk_wait_event, sk_busy_loop.

use super::SockGuard;
use super::wait::Events;
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::base::waiter::{Waiter, Woken};
use std::sync::atomic::Ordering;

impl SockGuard<'_> {
    /// Sleeps with the sock released until one of `events` is signalled, then owns it again. The caller must test its
    /// condition again: the wake-up may be for another. Errors: `Again` when `deadline` has passed, `Intr` on a signal,
    /// `Io` when the sock is broken. A deadline of None waits for ever.
    pub fn sleep(&mut self, events: Events, exclusive: bool, deadline: Option<Instant>) -> Result<()> {
        if deadline.is_some_and(|d| d <= self.now()) {
            return Err(Error::Again);
        }
        if !std::mem::replace(&mut self.looked, true) && !self.in_softirq() && self.stack.has_work() {
            // Packets that this call sent to this same machine may produce what it waits for, so softirq runs first.
            // The sock was released for that, so the caller must test its condition again before it joins the queue: a
            // wake-up in between would be lost.
            let stack = self.stack;
            return self.unlocked(|| stack.run_pending());
        }
        self.looked = false;
        let waiter = Waiter::current();
        let key = self.sock.wait.add(events, exclusive, waiter.clone());
        let (stack, sock) = (self.stack, self.sock);
        // A broken sock gets no more events. A sock can become broken without being owned, so this is tested once the
        // waiter is on the queue, where a wake-up reaches it.
        let broken = || sock.broken.load(Ordering::SeqCst);
        if broken() {
            sock.wait.remove(key);
            return Err(Error::Io);
        }
        let spin = Duration::from_micros(u64::from(self.common.busy_poll_us));
        let woken = self.unlocked(|| {
            if !spin.is_zero() {
                stack.run_pending();
                stack.runner().busy_poll(stack, &waiter, spin);
            }
            stack.block(&waiter, deadline)
        });
        sock.wait.remove(key);
        if broken() {
            // A wake-up reaches one exclusive waiter, but all of them have to return.
            sock.wait.wake(Events::ALL);
            return Err(Error::Io);
        }
        match woken? {
            Woken::Event => Ok(()),
            Woken::TimedOut => Err(Error::Again),
            Woken::Interrupted => Err(Error::Intr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Caps, DevStats, Device, Xmit};
    use crate::sock::skb::Skb;
    use std::sync::Arc;

    #[test]
    fn a_new_sock_busy_polls_as_long_as_busy_read_says() {
        let stack = crate::config::build("").unwrap();
        stack.sysctl.set("net.core.busy_read", "50").unwrap();
        let socket = crate::inet::Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        assert_eq!(socket.sock().lock(&stack).common.busy_poll_us, 50);
    }

    /// A device that reports pending packets but returns none: as a queue does while another thread receives from it.
    #[derive(Debug)]
    struct Busy;
    impl Device for Busy {
        fn name(&self) -> &str {
            "busy0"
        }
        fn caps(&self) -> Caps {
            Caps::ip(1500)
        }
        fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> std::io::Result<usize> {
            Ok(0)
        }
        fn xmit(&self, _: u16, _: Instant, _: Skb) -> Xmit {
            Xmit::Sent
        }
        fn has_pending(&self, _: u16) -> bool {
            true
        }
        fn stats(&self) -> DevStats {
            DevStats::default()
        }
    }

    #[test]
    fn a_call_that_released_the_sock_tests_its_condition_again_before_it_sleeps() {
        let stack = crate::config::build("").unwrap();
        stack.add_device(Arc::new(Busy)).unwrap();
        let socket = crate::inet::Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        let mut g = socket.sock().lock(&stack);
        for _ in 0..2 {
            let late = Some(stack.now() + Duration::from_secs(60));
            assert_eq!(g.sleep(Events::IN, false, late), Ok(()), "it was not registered while others had the sock");
            let soon = Some(stack.now() + Duration::from_millis(1));
            assert_eq!(g.sleep(Events::IN, false, soon), Err(Error::Again), "it waits once it has looked");
        }
    }
}
