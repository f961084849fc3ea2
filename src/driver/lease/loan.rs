//! Leases on loan: a thread that waits for packets of a queue which is not its lease's waits in that queue too while
//! nobody holds its lease, and need not be woken by the background thread. Whom a lease belongs to by its number takes
//! it from the borrower without a word. Above: `hold`. The kernel returns a flow's packets on any queue of a TUN device
//! where the stack cannot tell it which: see `device::steering`.

use super::{Queues, Shard, gather};
use crate::base::env::Clock;
use crate::base::waiter::{PollSet, Waiter};
use crate::stack::Stack;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// After a wait whose packets came by other queues, so many waits borrow, and more if they find packets there.
const WAITS: u32 = 64;

/// Whether the waits of a lease borrow others.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// So many more do.
    waits: AtomicU32,
    /// What [`Strays::others_received`] found last.
    packets: AtomicU64,
}

impl Strays {
    #[inline]
    pub(super) fn borrows(&self) -> bool {
        self.waits.load(Ordering::Relaxed) > 0
    }

    /// A wait of the lease's holder has ended. `strayed`: another thread received what it waited for, or it did so
    /// itself from a queue on loan.
    #[inline]
    pub(super) fn waited(&self, strayed: bool) {
        let left = self.waits.load(Ordering::Relaxed);
        let waits = if strayed { WAITS } else { left.saturating_sub(1) };
        if waits != left {
            self.waits.store(waits, Ordering::Relaxed);
        }
    }

    /// A wait ended without a packet of its own: whether holders of leases other than `own` have received some since
    /// this was last asked. Not only during the wait: they count a packet after they have woken whom it is for.
    pub(super) fn others_received(&self, all: &[Shard], own: usize) -> bool {
        let others = all.iter().enumerate().filter(|(j, _)| *j != own);
        let packets = others.fold(0u64, |sum, (_, s)| sum.wrapping_add(s.packets.load(Ordering::Relaxed)));
        self.packets.swap(packets, Ordering::Relaxed) != packets
    }
}

/// The leases that a thread has borrowed; they are given back when it is dropped.
pub(super) struct Loan<'a> {
    all: &'a [Shard],
    /// The thread's own lease.
    own: usize,
    waiter: &'a Arc<Waiter>,
    clock: &'a dyn Clock,
    borrowed: SmallVec<[usize; 4]>,
}

impl<'a> Loan<'a> {
    pub(super) fn new(all: &'a [Shard], own: usize, waiter: &'a Arc<Waiter>, clock: &'a dyn Clock) -> Loan<'a> {
        Loan { all, own, waiter, clock, borrowed: SmallVec::new() }
    }

    /// Borrows what is free now, and forgets what was taken.
    fn renew(&mut self) {
        self.borrowed.clear();
        let others = (0..self.all.len()).filter(|&j| j != self.own);
        self.borrowed.extend(others.filter(|&j| self.all[j].borrow(self.waiter)));
    }

    #[cfg(test)]
    fn leases(&self) -> &[usize] {
        &self.borrowed
    }

    pub(super) fn waiter(&self) -> &'a Arc<Waiter> {
        self.waiter
    }

    /// What to wait in: as [`gather`] of the own lease, and of all that are free if the thread `borrows`.
    pub(super) fn gather(&mut self, borrows: bool, stack: &Stack, queues: &mut Queues, fds: &mut PollSet) -> u64 {
        let full = gather(stack, self.own, self.all.len(), queues, fds);
        if borrows {
            self.renew();
        }
        for &j in &self.borrowed {
            gather(stack, j, self.all.len(), queues, fds);
        }
        full
    }

    /// Whether a device's queue is the thread's to receive from: of its own lease, or of one that it still has on loan.
    pub(super) fn has(&self, queue: u16) -> bool {
        let j = usize::from(queue) % self.all.len();
        j == self.own || self.borrowed.contains(&j) && self.all[j].is_held_by(self.waiter)
    }

    /// Whether it is another lease's.
    pub(super) fn is_foreign(&self, queue: u16) -> bool {
        usize::from(queue) % self.all.len() != self.own
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        for &j in &self.borrowed {
            self.all[j].release_if(self.waiter, self.clock);
        }
    }
}

impl Shard {
    /// Takes a lease that nobody holds, on loan. The background thread is asked to leave one that it holds; `waiter` is
    /// nudged when it has.
    fn borrow(&self, waiter: &Arc<Waiter>) -> bool {
        let mut s = self.state.lock();
        match &s.holder {
            None => {
                (s.holder, s.lent) = (Some(waiter.clone()), true);
                (s.heir, s.foreign) = (None, 0);
                true
            }
            Some(holder) if Arc::ptr_eq(holder, &self.background) => {
                // The one that asked before may wait no longer.
                let asked = s.wanted.replace(waiter.clone());
                drop(s);
                if asked.is_none() {
                    self.background.nudge();
                }
                false
            }
            Some(holder) => Arc::ptr_eq(holder, waiter),
        }
    }

    fn is_held_by(&self, waiter: &Arc<Waiter>) -> bool {
        self.state.lock().is_held_by(waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Check, Checks};
    use super::*;
    use crate::base::env::VirtualClock;

    #[test]
    fn a_lease_on_loan_is_its_owners_as_soon_as_it_asks_and_free_when_given_back() {
        let (all, clock) = ([Shard::new(), Shard::new()], VirtualClock::new());
        let (one, two) = (Arc::new(Waiter::new()), Arc::new(Waiter::new()));
        assert!(all[0].acquire(&one));
        let mut loan = Loan::new(&all, 0, &one, &clock);
        assert!(loan.has(0) && loan.has(2) && !loan.has(1));
        loan.renew();
        assert!(loan.leases() == [1] && loan.has(1) && loan.has(3));
        loan.renew();
        assert_eq!(loan.leases(), [1], "still");
        assert!(all[1].acquire(&two), "no wait");
        assert!(!loan.has(1) && !one.is_called());
        loan.renew();
        assert!(loan.leases().is_empty());
        drop(loan);
        assert!(all[1].is_held_by(&two));
        all[1].release(true, &clock);
        let mut loan = Loan::new(&all, 0, &one, &clock);
        loan.renew();
        drop(loan);
        assert!(all[1].state.lock().holder.is_none() && all[0].is_held_by(&one));
    }

    #[test]
    fn packets_of_other_leases_are_seen_once_and_those_of_its_own_never() {
        let all = [Shard::new(), Shard::new(), Shard::new()];
        let received = |n: usize| all[n].packets.fetch_add(1, Ordering::Relaxed);
        let strays = Strays::default();
        assert!(!strays.others_received(&all, 0));
        received(0);
        assert!(!strays.others_received(&all, 0), "its own");
        for other in [1, 2] {
            received(other);
            assert!(strays.others_received(&all, 0));
            assert!(!strays.others_received(&all, 0), "no more since");
        }
    }

    #[test]
    fn the_background_thread_leaves_a_lease_that_is_to_be_borrowed_and_does_not_take_one_on_loan() {
        let (all, clock) = ([Shard::new(), Shard::new()], VirtualClock::new());
        let one = Arc::new(Waiter::new());
        let mut checks = Checks::new();
        assert_eq!(all[1].check(&mut checks), Check::Taken);
        let mut loan = Loan::new(&all, 0, &one, &clock);
        loan.renew();
        assert!(loan.leases().is_empty() && all[1].background.is_called() && all[1].is_wanted());
        assert!(!one.is_called());
        all[1].release(true, &clock);
        assert!(!all[1].is_wanted() && one.take_nudge(), "it is told");
        loan.renew();
        assert_eq!(loan.leases(), [1]);
        assert!(matches!(all[1].check(&mut checks), Check::Later(_)));
        assert_eq!(all[1].check(&mut checks), Check::Rest);
        // Given back, it is free, and the background thread is to look after it.
        drop(loan);
        let timer = all[1].timer.as_ref().unwrap();
        let mut armed = [crate::sys::poll::PollFd::new(timer.raw(), libc::POLLIN)];
        assert_eq!(crate::sys::poll::poll(&mut armed, None).unwrap(), 1);
    }

    #[test]
    fn an_owner_that_takes_its_lease_from_a_borrower_keeps_it_when_this_one_gives_back() {
        let (all, clock) = ([Shard::new(), Shard::new()], VirtualClock::new());
        let (one, two) = (Arc::new(Waiter::new()), Arc::new(Waiter::new()));
        let (rounds, done) = (100_000, AtomicU32::new(0));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while done.load(Ordering::Relaxed) == 0 {
                    let mut loan = Loan::new(&all, 0, &one, &clock);
                    loan.renew();
                }
            });
            let lost = (0..rounds).find(|_| {
                let lost = !all[1].acquire(&two) || (0..20).any(|_| !all[1].is_held_by(&two));
                all[1].release(true, &clock);
                lost
            });
            done.store(1, Ordering::Relaxed);
            assert_eq!(lost, None);
        });
    }

    #[test]
    fn waits_borrow_after_a_stray_packet_until_none_strayed_for_long() {
        let s = Strays::default();
        s.waited(false);
        assert!(!s.borrows());
        s.waited(true);
        (1..WAITS).for_each(|_| s.waited(false));
        assert!(s.borrows());
        s.waited(false);
        assert!(!s.borrows());
    }
}
