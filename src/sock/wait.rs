//! Sleeping and readiness. A sock's [`WaitQueue`] holds who waits for it: threads in a blocking call ([`Waiter`]) and
//! watchers such as an epoll set. Softirq wakes them by event; it never runs their code under a sock lock held by
//! another. Who is woken is told when the waker owns no sock any more (`Owning`): otherwise a woken thread, on another
//! processor within a microsecond, would find the sock still owned and sleep again. Above: blocking calls of the
//! protocols, `poll`, epoll. Below: `driver`, which decides how a thread waits. Linux: struct socket_wq, sk_wait_event,
//! sock_def_readable, sk_stream_write_space.

use super::SockGuard;
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::base::waiter::{Waiter, Woken};
use crate::sys::lock::Mutex;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{BitAnd, BitOr, BitOrAssign};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A set of poll events, by poll(2)'s numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Events(pub u32);

impl Events {
    /// None.
    pub const NONE: Events = Events(0);
    /// POLLIN | POLLRDNORM: a read would not wait.
    pub const IN: Events = Events(libc::POLLIN as u32 | libc::POLLRDNORM as u32);
    /// POLLPRI: urgent data.
    pub const PRI: Events = Events(libc::POLLPRI as u32);
    /// POLLOUT | POLLWRNORM | POLLWRBAND: a write would not wait.
    pub const OUT: Events = Events(libc::POLLOUT as u32 | libc::POLLWRNORM as u32 | libc::POLLWRBAND as u32);
    /// POLLERR: an error is pending.
    pub const ERR: Events = Events(libc::POLLERR as u32);
    /// POLLHUP: both directions are shut.
    pub const HUP: Events = Events(libc::POLLHUP as u32);
    /// POLLRDHUP: the peer sends no more.
    pub const RDHUP: Events = Events(libc::POLLRDHUP as u32);
    /// All.
    pub const ALL: Events = Events(u32::MAX);

    /// Whether the two sets share an event.
    pub const fn intersects(self, o: Events) -> bool {
        self.0 & o.0 != 0
    }
    /// Whether there is no event.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
impl BitOr for Events {
    type Output = Events;
    fn bitor(self, o: Events) -> Events {
        Events(self.0 | o.0)
    }
}
impl BitOrAssign for Events {
    fn bitor_assign(&mut self, o: Events) {
        self.0 |= o.0
    }
}
impl BitAnd for Events {
    type Output = Events;
    fn bitand(self, o: Events) -> Events {
        Events(self.0 & o.0)
    }
}

/// Told of readiness changes of a sock. Called in either context, possibly with the sock owned: it must not enter a
/// sock.
pub trait Watch: Send + Sync {
    /// `events` may have become true (an edge; the watcher asks `poll` for the level).
    fn notify(&self, events: Events);

    /// Of an exclusive watcher: whether it makes use of `events` now, so that no other has to be told.
    fn serves(&self, _events: Events) -> bool {
        true
    }
}

/// Wake-ups asked for by a thread that owns a sock.
type WakeQueue = SmallVec<[(Arc<dyn Watch>, Events); 4]>;

/// What a thread needs to know at each lock and release, in memory that needs no destructor: reaching it is an
/// addition.
struct Here {
    /// Socks this thread owns.
    owned: Cell<u32>,
    /// Whether `WAKES` has any.
    wakes: Cell<bool>,
}

thread_local! {
    static HERE: Here = const { Here { owned: Cell::new(0), wakes: Cell::new(false) } };
    static WAKES: RefCell<WakeQueue> = RefCell::new(SmallVec::new());
}

/// Exists while this thread owns a sock; when the last of a thread goes, the wake-ups asked for meanwhile are made. It
/// counts for the thread that made it, and so stays there. Linux: wake_q.
#[derive(Debug)]
pub(super) struct Owning(PhantomData<*const ()>);

impl Owning {
    #[inline]
    pub(super) fn begin() -> Owning {
        HERE.with(|h| h.owned.set(h.owned.get() + 1));
        Owning(PhantomData)
    }
}

impl Drop for Owning {
    #[inline]
    fn drop(&mut self) {
        let due = HERE.with(|h| {
            let left = h.owned.get() - 1;
            h.owned.set(left);
            left == 0 && h.wakes.get()
        });
        if due {
            make_wakes();
        }
    }
}

#[inline(never)]
fn make_wakes() {
    HERE.with(|h| h.wakes.set(false));
    let wakes = WAKES.try_with(|w| std::mem::take(&mut *w.borrow_mut())).unwrap_or_default();
    wakes.into_iter().for_each(|(target, events)| target.notify(events));
}

/// Tells a watcher, now or when this thread owns no sock. Where the queue is gone (the thread ends): now.
fn tell(target: Arc<dyn Watch>, events: Events) {
    let owning = HERE.with(|h| h.owned.get() > 0);
    let mut target = Some(target);
    let queue = |w: &RefCell<WakeQueue>| w.borrow_mut().extend(target.take().map(|t| (t, events)));
    if owning && WAKES.try_with(queue).is_ok() {
        HERE.with(|h| h.wakes.set(true));
    } else if let Some(target) = target {
        target.notify(events);
    }
}

struct Entry {
    key: u64,
    mask: Events,
    /// One of several exclusive waiters is woken an event (accept, EPOLLEXCLUSIVE).
    exclusive: bool,
    target: Arc<dyn Watch>,
}

/// Who waits for a sock. Costs one word and a null pointer while nobody does.
#[derive(Default)]
pub struct WaitQueue {
    /// Union of the masks of all entries: a wake-up with nobody interested is one load.
    interest: AtomicU32,
    list: Mutex<Option<Box<List>>>,
}

#[derive(Default)]
struct List {
    next_key: u64,
    entries: Vec<Entry>,
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitQueue(interest {:#x})", self.interest.load(Ordering::Relaxed))
    }
}

/// Names an entry of a [`WaitQueue`], for its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchKey(u64);

impl WaitQueue {
    /// Adds a watcher for `mask` (error and hang-up are always included).
    pub fn add(&self, mask: Events, exclusive: bool, target: Arc<dyn Watch>) -> WatchKey {
        let mut guard = self.list.lock();
        let list = guard.get_or_insert_default();
        list.next_key += 1;
        let key = list.next_key;
        list.entries.push(Entry { key, mask: mask | Events::ERR | Events::HUP, exclusive, target });
        self.interest.fetch_or(mask.0 | Events::ERR.0 | Events::HUP.0, Ordering::SeqCst);
        WatchKey(key)
    }

    /// Removes a watcher; no effect when it is gone.
    pub fn remove(&self, key: WatchKey) {
        let mut guard = self.list.lock();
        if let Some(list) = guard.as_mut() {
            list.entries.retain(|e| e.key != key.0);
            let union = list.entries.iter().fold(0, |m, e| m | e.mask.0);
            self.interest.store(union, Ordering::SeqCst);
            if list.entries.is_empty() {
                *guard = None;
            }
        }
    }

    /// Whether anybody waits for one of `events` (sk_stream_write_space, skwq_has_sleeper).
    #[inline]
    pub fn has_interest(&self, events: Events) -> bool {
        self.interest.load(Ordering::SeqCst) & events.0 != 0
    }

    /// Wakes what waits for one of `events`: all ordinary entries, the newest first, then exclusive ones up to the
    /// first that serves the event; that one moves to the end of the line, so that the next event goes to another.
    /// Linux: __wake_up_common, with the order of add_wait_queue.
    #[inline]
    pub fn wake(&self, events: Events) {
        if self.has_interest(events) {
            self.wake_slow(events);
        }
    }

    /// The watchers are called with the queue unlocked: what one lets go of may be the last of an epoll set, which then
    /// leaves the queue.
    fn wake_slow(&self, events: Events) {
        let (mut all, mut exclusive) = (SmallVec::<[Arc<dyn Watch>; 4]>::new(), SmallVec::<[_; 4]>::new());
        if let Some(list) = self.list.lock().as_ref() {
            for e in list.entries.iter().filter(|e| e.mask.intersects(events)) {
                match e.exclusive {
                    true => exclusive.push((e.key, e.target.clone())),
                    false => all.push(e.target.clone()),
                }
            }
        }
        all.into_iter().rev().for_each(|target| tell(target, events));
        for (i, (key, target)) in exclusive.iter().enumerate() {
            tell(target.clone(), events);
            if target.serves(events) {
                // Alone, it stays where it is.
                if i + 1 < exclusive.len() {
                    self.rotate(*key);
                }
                break;
            }
        }
    }

    /// Moves an entry to the end of the line.
    fn rotate(&self, key: u64) {
        if let Some(list) = self.list.lock().as_mut()
            && let Some(i) = list.entries.iter().position(|e| e.key == key)
        {
            let e = list.entries.remove(i);
            list.entries.push(e);
        }
    }
}

impl Watch for Waiter {
    fn notify(&self, _events: Events) {
        self.wake();
    }
}

impl SockGuard<'_> {
    /// Sleeps with the sock released until one of `events` is signalled, then owns it again. The caller tests its
    /// condition again: wake-ups may be for somebody else. Errors: `Again` when `deadline` has passed, `Intr` on a
    /// signal, `Io` when the sock is broken. A deadline of None waits for ever.
    pub fn sleep(&mut self, events: Events, exclusive: bool, deadline: Option<Instant>) -> Result<()> {
        if deadline.is_some_and(|d| d <= self.now()) {
            return Err(Error::Again);
        }
        if !std::mem::replace(&mut self.looked, true) && !self.in_softirq() && self.stack.any_pending() {
            // What this call sent to this same machine may bring what it waits for: no need to queue for that. The sock
            // was given up, so the caller has to look again before it may queue: until then nobody would wake it.
            let stack = self.stack;
            return self.unlocked(|| stack.run_pending());
        }
        self.looked = false;
        let waiter = Waiter::current();
        let key = self.sock.wait.add(events, exclusive, waiter.clone());
        let (stack, sock) = (self.stack, self.sock);
        // Nothing that is waited for comes to a broken sock. One may be broken without being owned: it is looked at
        // where the wake-up would find us.
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
            // A wake-up reaches one exclusive waiter, and here all have to go.
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
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Watch for Count {
        fn notify(&self, _: Events) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_event_wakes_every_ordinary_waiter_and_one_exclusive_in_turn() {
        let q = WaitQueue::default();
        let w: Vec<Arc<Count>> = (0..4).map(|_| Arc::new(Count::default())).collect();
        q.add(Events::IN, false, w[0].clone());
        q.add(Events::IN, true, w[1].clone());
        q.add(Events::IN, true, w[2].clone());
        let out = q.add(Events::OUT, false, w[3].clone());
        let counts = || w.iter().map(|c| c.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        q.wake(Events::IN);
        assert_eq!(counts(), [1, 1, 0, 0]);
        q.wake(Events::IN);
        assert_eq!(counts(), [2, 1, 1, 0]);
        q.remove(out);
        q.wake(Events::OUT);
        assert_eq!(counts(), [2, 1, 1, 0]);
    }

    /// Says that packets wait, and has none: as a queue looks while another thread receives from it.
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
    fn a_call_that_gave_the_sock_up_looks_again_before_it_sleeps() {
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
