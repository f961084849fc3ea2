//! Readiness. A sock's [`WaitQueue`] holds its waiters: threads in a blocking call ([`Waiter`]) and watchers such as an
//! epoll set. Softirq wakes them by event. A watcher is notified only when the waker owns no sock any more (`Owning`):
//! otherwise a woken thread, running on another CPU within a microsecond, would find the sock still owned and sleep
//! again. Above: `sleep`, `poll`, epoll. Linux: struct socket_wq, sock_def_readable, sk_stream_write_space.

use crate::base::waiter::Waiter;
use crate::sys::lock::Mutex;
use crate::sys::near::{Block, here};
use crate::sys::once_box::OnceBox;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::fmt;
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
    /// POLLHUP: both directions are shut down.
    pub const HUP: Events = Events(libc::POLLHUP as u32);
    /// POLLRDHUP: the peer has shut down its sending side.
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

/// Notified of readiness changes of a sock. Called in either context, possibly with the sock owned, so it must not lock
/// a sock.
pub trait Watch: Send + Sync {
    /// `events` may have become true. An edge: the watcher calls `poll` for the level.
    fn notify(&self, events: Events);

    /// For an exclusive watcher: whether it uses `events` now, so that no other watcher has to be notified.
    fn serves(&self, _events: Events) -> bool {
        true
    }

    /// Whether each wake-up counts for itself, as that of a signal does.
    fn counts(&self) -> bool {
        false
    }
}

/// Wake-ups requested by a thread while it owns a sock.
type WakeQueue = SmallVec<[(Arc<dyn Watch>, Events); 4]>;

thread_local! {
    static WAKES: RefCell<WakeQueue> = RefCell::new(SmallVec::new());
}

/// Exists while this thread owns a sock. When the thread's last one is dropped, the wake-ups requested meanwhile are
/// made. It counts for the thread that made it, so it must not move to another. Linux: wake_q.
pub(super) struct Owning(&'static Block);

impl Owning {
    #[inline]
    pub(super) fn begin() -> Owning {
        let block = here();
        block.owned.set(block.owned.get() + 1);
        Owning(block)
    }
}

impl Drop for Owning {
    #[inline]
    fn drop(&mut self) {
        let left = self.0.owned.get() - 1;
        self.0.owned.set(left);
        if left == 0 && self.0.wakes.get() {
            make_wakes();
        }
    }
}

#[inline(never)]
fn make_wakes() {
    here().wakes.set(false);
    let wakes = WAKES.try_with(|w| std::mem::take(&mut *w.borrow_mut())).unwrap_or_default();
    wakes.into_iter().for_each(|(target, events)| target.notify(events));
}

/// Notifies a watcher, now or when this thread owns no sock any more. Now, if the thread is ending and its queue is
/// gone.
fn tell(target: Arc<dyn Watch>, events: Events) {
    let owning = here().owned.get() > 0;
    let mut target = Some(target);
    let queue = |w: &RefCell<WakeQueue>| {
        let (mut w, target) = (w.borrow_mut(), target.take());
        match (w.last_mut(), &target) {
            // As of several datagrams in a row.
            (Some((last, of)), Some(t)) if !t.counts() && std::ptr::addr_eq(Arc::as_ptr(last), Arc::as_ptr(t)) => {
                *of |= events;
            }
            _ => w.extend(target.map(|t| (t, events))),
        }
    };
    if owning && WAKES.try_with(queue).is_ok() {
        here().wakes.set(true);
    } else if let Some(target) = target {
        target.notify(events);
    }
}

struct Entry {
    key: u64,
    mask: Events,
    /// Only one of several exclusive waiters is woken for an event (accept, EPOLLEXCLUSIVE).
    exclusive: bool,
    target: Arc<dyn Watch>,
}

/// The waiters of a sock. Takes two words until there is one.
#[derive(Default)]
pub struct WaitQueue {
    /// Union of the masks of all entries: a wake-up that interests nobody costs one load.
    interest: AtomicU32,
    list: OnceBox<Mutex<List>>,
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

/// Identifies an entry of a [`WaitQueue`] for its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchKey(u64);

impl WaitQueue {
    /// Adds a watcher for `mask` (error and hang-up are always included).
    pub fn add(&self, mask: Events, exclusive: bool, target: Arc<dyn Watch>) -> WatchKey {
        let mut list = self.list.get_or_init(Mutex::default).lock();
        list.next_key += 1;
        let key = list.next_key;
        list.entries.push(Entry { key, mask: mask | Events::ERR | Events::HUP, exclusive, target });
        self.interest.fetch_or(mask.0 | Events::ERR.0 | Events::HUP.0, Ordering::SeqCst);
        WatchKey(key)
    }

    /// Removes a watcher; no effect when it has been removed.
    pub fn remove(&self, key: WatchKey) {
        if let Some(mut list) = self.list.get().map(Mutex::lock) {
            list.entries.retain(|e| e.key != key.0);
            let union = list.entries.iter().fold(0, |m, e| m | e.mask.0);
            self.interest.store(union, Ordering::SeqCst);
            if list.entries.is_empty() {
                list.entries = Vec::new();
            }
        }
    }

    /// Whether anybody waits for one of `events` (sk_stream_write_space, skwq_has_sleeper).
    #[inline]
    pub fn has_interest(&self, events: Events) -> bool {
        self.interest.load(Ordering::SeqCst) & events.0 != 0
    }

    /// Wakes the entries that wait for one of `events`: all ordinary entries, the newest first, then exclusive ones up
    /// to the first that serves the event. That one moves to the end of the list, so that the next event goes to
    /// another. Linux: __wake_up_common, with the order of add_wait_queue.
    #[inline]
    pub fn wake(&self, events: Events) {
        if self.has_interest(events) {
            self.wake_slow(events);
        }
    }

    /// The watchers are called with the queue unlocked: dropping one may drop the last reference of an epoll set, which
    /// then removes itself from this queue.
    fn wake_slow(&self, events: Events) {
        let (mut all, mut exclusive) = (SmallVec::<[Arc<dyn Watch>; 4]>::new(), SmallVec::<[_; 4]>::new());
        if let Some(list) = self.list.get().map(Mutex::lock) {
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
                // The only exclusive entry stays where it is.
                if i + 1 < exclusive.len() {
                    self.rotate(*key);
                }
                break;
            }
        }
    }

    /// Moves an entry to the end of the list.
    fn rotate(&self, key: u64) {
        if let Some(mut list) = self.list.get().map(Mutex::lock)
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

#[cfg(test)]
mod tests {
    use super::*;
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
}
