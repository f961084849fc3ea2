//! Epoll sets: their entries and the ready list. Each set has an epoll of the kernel, to which the kernel's descriptors
//! are added; our sockets are watched here. For a set in another set, the readiness of our sockets is tracked here too,
//! and for the kernel's descriptors the outer set has a second epoll of the kernel ([`Epoll::nested`]).
//!
//! A wait is one system call: the driver's sleep, a poll(2) of the devices' descriptors and the set's kernel epolls
//! together, which also tells whether the latter are ready. The kernel epoll is asked for its events where the sleep
//! found it readable, and where the call does not sleep: because sockets are ready, so that both kinds are reported
//! together, or because of a timeout of zero. The devices' descriptors are not added to the set's kernel epoll: that
//! would save 0.2 µs a wait of some 10 µs, but the epoll is what the program polls, adds to other sets and shares with
//! its children, to none of whom a device may show.
//!
//! Entries are keyed by number and description, as in Linux: closing the last
//! duplicate removes the entry. Above: `epoll`, the calls. Linux: fs/eventpoll.c.

use crate::kernel;
use crate::stacks::default_stack;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::internal::sys::fd::Fd;
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::Mutex;
use usersock::internal::sys::poll::poll;
use usersock::net::Socket;
use usersock::sock::wait::{Events, WaitQueue, Watch, WatchKey};
use usersock::stack::Stack;
use usersock::stack::runner::{PollFd, Waiter, Woken};

/// A socket or an epoll set of ours, which can be polled.
#[derive(Clone)]
pub(crate) enum Pollable {
    Socket(Arc<Socket>),
    Epoll(Arc<Epoll>),
}

impl Pollable {
    pub(crate) fn queue(&self) -> &WaitQueue {
        match self {
            Pollable::Socket(s) => &s.sock().wait,
            Pollable::Epoll(e) => &e.wait,
        }
    }
    pub(crate) fn poll(&self) -> Events {
        match self {
            Pollable::Socket(s) => s.poll(),
            Pollable::Epoll(e) => e.poll(),
        }
    }
    /// The address of the description: its identity while it exists.
    fn address(&self) -> usize {
        match self {
            Pollable::Socket(s) => Arc::as_ptr(s) as usize,
            Pollable::Epoll(e) => Arc::as_ptr(e) as usize,
        }
    }
    pub(crate) fn stack(&self) -> Option<Arc<Stack>> {
        match self {
            Pollable::Socket(s) => Some(s.stack().clone()),
            Pollable::Epoll(e) => e.stack().cloned(),
        }
    }
}

/// Depth of epoll sets in epoll sets (EP_MAX_NESTS).
const MAX_NESTS: usize = 5;
/// Events that are reported whatever the mask.
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
/// Mask bits that are no events.
const PRIVATE_BITS: u32 = (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE) as u32;

/// Held while a set is added to another, so that two threads cannot make a loop together (epnested_mutex).
static NESTING: PerProcess<Mutex<()>> = PerProcess::new(Mutex::default);
/// Minimum number of entries at which a set is searched for entries whose description is gone.
const SWEEP_MIN: usize = 32;

/// The kernel's epolls of a set, as they are polled.
type PollFds = SmallVec<[PollFd; 2]>;

/// Number and address of the description, which stays as long as an entry remembers it.
type Key = (RawFd, usize);

enum Target {
    Socket(Weak<Socket>),
    Epoll(Weak<Epoll>),
}

struct Item {
    target: Target,
    /// The event mask, `ALWAYS` included, with EPOLLET, EPOLLONESHOT and the other flags; after a one-shot event only
    /// the flags are left.
    events: AtomicU32,
    data: AtomicU64,
    queued: AtomicBool,
    owner: Weak<Epoll>,
    me: Weak<Item>,
    key: Mutex<Option<WatchKey>>,
}

impl Watch for Item {
    fn notify(&self, events: Events) {
        if self.wanted().intersects(events)
            && let (Some(ep), Some(me)) = (self.owner.upgrade(), self.me.upgrade())
        {
            ep.queue(me);
        }
    }

    /// With EPOLLEXCLUSIVE, whether this set takes the event: if a thread waits for it (ep_poll_callback's `ewake`).
    fn serves(&self, events: Events) -> bool {
        self.wanted().intersects(events) && self.owner.upgrade().is_some_and(|ep| ep.wait.has_interest(Events::IN))
    }
}

impl Target {
    fn of(what: &Pollable) -> Target {
        match what {
            Pollable::Socket(s) => Target::Socket(Arc::downgrade(s)),
            Pollable::Epoll(e) => Target::Epoll(Arc::downgrade(e)),
        }
    }
    fn upgrade(&self) -> Option<Pollable> {
        match self {
            Target::Socket(s) => s.upgrade().map(Pollable::Socket),
            Target::Epoll(e) => e.upgrade().map(Pollable::Epoll),
        }
    }
    /// Whether the description is still open.
    fn lives(&self) -> bool {
        match self {
            Target::Socket(s) => s.strong_count() > 0,
            Target::Epoll(e) => e.strong_count() > 0,
        }
    }
}

impl Item {
    fn wanted(&self) -> Events {
        Events(self.events.load(Ordering::SeqCst) & !PRIVATE_BITS)
    }

    fn level(&self) -> Events {
        self.target.upgrade().map_or(Events::NONE, |what| what.poll())
    }

    /// The epoll set, if the entry is one.
    fn inner(&self) -> Option<Arc<Epoll>> {
        match &self.target {
            Target::Epoll(e) => e.upgrade(),
            Target::Socket(_) => None,
        }
    }

    /// Its identifier in the kernel's epoll of nested sets.
    fn id(&self) -> u64 {
        self as *const Item as u64
    }

    fn unwatch(&self) {
        if let Some(key) = self.key.lock().take()
            && let Some(what) = self.target.upgrade()
        {
            what.queue().remove(key);
        }
    }
}

#[derive(Default)]
struct Items {
    by_key: HashMap<Key, Arc<Item>>,
    /// The items that are epoll sets.
    sets: Vec<Arc<Item>>,
    /// Number of entries at which to sweep dead ones next: it grows with the set, so that an addition has constant
    /// amortized cost.
    sweep_at: usize,
}

/// An epoll set.
pub struct Epoll {
    kernel: Fd,
    /// An epoll of the kernel that contains the `kernel` and the `nested` epoll of each set in this one: it is readable
    /// when a descriptor of the kernel is ready in one of them. Only sets that are or have an inner one have it.
    nested: OnceLock<Fd>,
    items: Mutex<Items>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    /// Waiters for this set to become ready.
    wait: WaitQueue,
    me: Weak<Epoll>,
    /// A descriptor of the kernel was added to `kernel`, and may still be there.
    has_kernels: AtomicBool,
    /// The last call's array was full before the kernel's events were asked for: they are reported first now, so that
    /// with a small array neither kind starves the other.
    kernels_first: AtomicBool,
    /// The stack of the first of our sockets that was added: its driver runs in a waiting thread.
    stack: OnceLock<Arc<Stack>>,
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for item in self.items.get_mut().by_key.values() {
            item.unwatch();
        }
    }
}

impl Epoll {
    /// An empty set with an epoll of the kernel that it owns: it exists longer than its descriptors if a call still
    /// waits in it.
    pub(crate) fn new(kernel: Fd) -> Arc<Epoll> {
        Arc::new_cyclic(|me| Epoll {
            kernel,
            nested: OnceLock::new(),
            items: Mutex::default(),
            ready: Mutex::default(),
            wait: WaitQueue::default(),
            me: me.clone(),
            has_kernels: AtomicBool::new(false),
            kernels_first: AtomicBool::new(false),
            stack: OnceLock::new(),
        })
    }

    /// The kernel's epoll.
    pub fn kernel_fd(&self) -> RawFd {
        self.kernel.raw()
    }
    /// The stack of its sockets.
    pub fn stack(&self) -> Option<&Arc<Stack>> {
        self.stack.get()
    }

    /// A descriptor of the kernel was added to its epoll.
    pub(crate) fn has_kernels(&self) {
        self.has_kernels.store(true, Ordering::SeqCst);
    }

    fn queue(&self, item: Arc<Item>) {
        if !item.queued.swap(true, Ordering::SeqCst) {
            self.ready.lock().push_back(item);
        }
        self.wait.wake(Events::IN);
    }

    /// The kernel's epoll descriptors, readable when a descriptor of the kernel is ready in this set or in an inner
    /// one.
    pub(crate) fn kernel_fds(&self) -> impl Iterator<Item = PollFd> + '_ {
        [Some(&self.kernel), self.nested.get()].into_iter().flatten().map(|fd| PollFd::new(fd.raw(), libc::POLLIN))
    }

    /// Readiness of the set itself: readable when something in it is ready.
    pub fn poll(&self) -> Events {
        let kernels = || {
            let any = self.has_kernels.load(Ordering::SeqCst) || self.nested.get().is_some();
            any && poll(&mut self.kernel_fds().collect::<PollFds>(), Some(Duration::ZERO)).is_ok_and(|n| n > 0)
        };
        if self.any_ready() || kernels() { Events::IN } else { Events::NONE }
    }

    /// Whether one of ours is ready. They are asked with the list unlocked: a socket that is asked may process its
    /// backlog, and then queues entries.
    fn any_ready(&self) -> bool {
        let queued: Vec<Arc<Item>> = self.ready.lock().iter().cloned().collect();
        queued.iter().any(|item| item.level().intersects(item.wanted()))
    }

    /// Whether `other` is in this set, or in a set in it.
    fn contains(&self, other: &Epoll, depth: usize) -> Result<bool> {
        if std::ptr::eq(self, other) {
            return Ok(true);
        }
        if depth >= MAX_NESTS {
            return Err(Error::Loop);
        }
        let inner: Vec<Arc<Epoll>> = self.items.lock().sets.iter().filter_map(|i| i.inner()).collect();
        for e in inner {
            if e.contains(other, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// EPOLL_CTL_ADD. Errors: EEXIST, EINVAL, ELOOP.
    pub(crate) fn add(&self, fd: RawFd, what: &Pollable, ev: &libc::epoll_event) -> Result<()> {
        let exclusive = ev.events & libc::EPOLLEXCLUSIVE as u32 != 0;
        let ok = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) as u32 | PRIVATE_BITS;
        if exclusive && (ev.events & !ok != 0 || ev.events & libc::EPOLLONESHOT as u32 != 0) {
            return Err(Error::Inval);
        }
        let mut nesting = None;
        match what {
            Pollable::Socket(s) => {
                self.stack.get_or_init(|| s.stack().clone());
            }
            Pollable::Epoll(e) => {
                if exclusive || std::ptr::eq(&**e, self) {
                    return Err(Error::Inval);
                }
                nesting = Some(NESTING.get().lock());
                if e.contains(self, 1)? {
                    return Err(Error::Loop);
                }
                if let Some(s) = e.stack() {
                    self.stack.get_or_init(|| s.clone());
                }
            }
        }
        let item = Arc::new_cyclic(|me| Item {
            target: Target::of(what),
            events: AtomicU32::new(ev.events | ALWAYS),
            data: AtomicU64::new(ev.u64),
            queued: AtomicBool::new(false),
            owner: self.me.clone(),
            me: me.clone(),
            key: Mutex::new(None),
        });
        let mut items = self.items.lock();
        if items.by_key.contains_key(&(fd, what.address())) {
            return Err(Error::Exist);
        }
        if let Pollable::Epoll(inner) = what {
            self.nest(libc::EPOLL_CTL_ADD, inner, &item)?;
            items.sets.push(item.clone());
        }
        // All events are watched, and the mask is applied at the notification: so EPOLL_CTL_MOD needs no new watch.
        *item.key.lock() = Some(what.queue().add(Events::ALL, exclusive, item.clone()));
        if items.by_key.len() >= items.sweep_at {
            items.by_key.retain(|_, i| i.target.lives());
            items.sets.retain(|i| i.target.lives());
            items.sweep_at = (2 * items.by_key.len()).max(SWEEP_MIN);
        }
        items.by_key.insert((fd, what.address()), item.clone());
        drop(items);
        drop(nesting);
        self.look(item);
        Ok(())
    }

    /// The epoll of nested sets.
    fn nested(&self) -> Result<RawFd> {
        if let Some(fd) = self.nested.get() {
            return Ok(fd.raw());
        }
        let fd = Fd::own(kernel::epoll_create()?)?.out_of_the_way();
        Ok(self.nested.get_or_init(|| fd).raw())
    }

    /// Adds, changes or removes an inner set's kernel epolls in ours, by the entry's mask.
    fn nest(&self, op: c_int, inner: &Epoll, item: &Item) -> Result<()> {
        let outer = self.nested()?;
        let how = item.events.load(Ordering::SeqCst) & (libc::EPOLLIN | libc::EPOLLET | libc::EPOLLONESHOT) as u32;
        let mut event = libc::epoll_event { events: how, u64: item.id() };
        for fd in [inner.kernel_fd(), inner.nested()?] {
            kernel::epoll_ctl(outer, op, fd, &mut event)?;
        }
        Ok(())
    }

    /// Queues an item if it is ready now (after ADD and MOD).
    fn look(&self, item: Arc<Item>) {
        if item.level().intersects(item.wanted()) {
            self.queue(item);
        }
    }

    /// Queues the entries of inner sets in which a descriptor of the kernel is ready.
    fn look_at_nested(&self) -> Result<()> {
        let Some(nested) = self.nested.get() else { return Ok(()) };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        let n = kernel::epoll_look(nested.raw(), &mut events)?;
        for event in &events[..n] {
            let id = event.u64;
            let item = self.items.lock().sets.iter().find(|i| i.id() == id).cloned();
            if let Some(item) = item {
                self.look(item);
            }
        }
        Ok(())
    }

    /// EPOLL_CTL_MOD. Errors: EINVAL, ENOENT.
    pub(crate) fn modify(&self, fd: RawFd, what: &Pollable, ev: &libc::epoll_event) -> Result<()> {
        let exclusive = |events: u32| events & libc::EPOLLEXCLUSIVE as u32 != 0;
        if exclusive(ev.events) {
            return Err(Error::Inval);
        }
        let item = self.find(fd, what)?;
        if exclusive(item.events.load(Ordering::SeqCst)) {
            return Err(Error::Inval);
        }
        item.data.store(ev.u64, Ordering::SeqCst);
        item.events.store(ev.events | ALWAYS, Ordering::SeqCst);
        if let Some(inner) = item.inner() {
            self.nest(libc::EPOLL_CTL_MOD, &inner, &item)?;
        }
        self.look(item);
        Ok(())
    }

    /// EPOLL_CTL_DEL. ENOENT.
    pub(crate) fn delete(&self, fd: RawFd, what: &Pollable) -> Result<()> {
        let item = {
            let mut items = self.items.lock();
            let item = items.by_key.remove(&(fd, what.address())).ok_or(Error::NoEnt)?;
            items.sets.retain(|i| !Arc::ptr_eq(i, &item));
            item
        };
        item.events.store(0, Ordering::SeqCst);
        if let Some(inner) = item.inner() {
            self.nest(libc::EPOLL_CTL_DEL, &inner, &item)?;
        }
        item.unwatch();
        Ok(())
    }

    fn find(&self, fd: RawFd, what: &Pollable) -> Result<Arc<Item>> {
        self.items.lock().by_key.get(&(fd, what.address())).cloned().ok_or(Error::NoEnt)
    }

    /// Ready items of ours into `out`; level-triggered ones stay queued.
    fn collect(&self, out: &mut [libc::epoll_event]) -> usize {
        let mut n = 0;
        let mut batch = {
            let mut ready = self.ready.lock();
            if ready.is_empty() {
                return 0;
            }
            std::mem::take(&mut *ready)
        };
        let mut left = batch.len();
        while n < out.len() && left > 0 {
            let Some(item) = batch.pop_front() else { break };
            left -= 1;
            // Cleared before the state is read: a later change queues the item again.
            item.queued.store(false, Ordering::SeqCst);
            let events = item.events.load(Ordering::SeqCst);
            let got = item.level() & item.wanted();
            if got.is_empty() {
                continue;
            }
            out[n] = libc::epoll_event { events: got.0, u64: item.data.load(Ordering::SeqCst) };
            n += 1;
            if events & libc::EPOLLONESHOT as u32 != 0 {
                item.events.fetch_and(PRIVATE_BITS, Ordering::SeqCst);
            } else if events & libc::EPOLLET as u32 == 0 && !item.queued.swap(true, Ordering::SeqCst) {
                batch.push_back(item);
            }
        }
        put_back(&mut self.ready.lock(), batch, left);
        n
    }

    /// Waits until an entry is ready or `timeout` (None: infinite) has passed; returns the number of events in `out`.
    pub(crate) fn wait(&self, out: &mut [libc::epoll_event], timeout: Option<Duration>) -> Result<usize> {
        let r = self.wait_for_any(out, timeout);
        // Remaining ready items wake another waiting thread (ep_done_scan); so does the event that woke this one if the
        // call returns EINTR instead.
        if r != Ok(0) && !self.ready.lock().is_empty() {
            self.wait.wake(Events::IN);
        }
        r
    }

    fn wait_for_any(&self, out: &mut [libc::epoll_event], timeout: Option<Duration>) -> Result<usize> {
        let default;
        let stack = match self.stack() {
            Some(stack) => stack,
            // The set has no socket of ours yet, but one may be added while we wait: with a default stack, wait on
            // that. Without one only the kernel can wake us.
            None if self.nested.get().is_none() && usersock::config::default_stack_if_any().is_none() => {
                return kernel::epoll_wait(self.kernel_fd(), out, timeout);
            }
            None => {
                default = default_stack()?;
                &default
            }
        };
        stack.run_pending();
        let r = self.wait_on(stack, out, timeout);
        // A look that owned a sock has processed its backlog, which may have sent.
        stack.run_pending();
        r
    }

    fn wait_on(&self, stack: &Arc<Stack>, out: &mut [libc::epoll_event], timeout: Option<Duration>) -> Result<usize> {
        if timeout == Some(Duration::ZERO) {
            return match self.report_all(out)? {
                0 => kernel::signal_due().map(|()| 0),
                n => Ok(n),
            };
        }
        let n = self.report_if_ours(out)?;
        if n > 0 {
            return Ok(n);
        }
        let deadline = timeout.map(|t| stack.now() + t);
        let waiter = Waiter::current();
        // An event wakes one thread, as in Linux, which wakes the next one if more items are left.
        let key = self.wait.add(Events::IN, true, waiter.clone());
        // What became ready before the waiter was on the queue.
        let mut r = self.report_if_ours(out);
        while r == Ok(0) {
            let mut kernels: PollFds = self.kernel_fds().collect();
            let woken = stack.block_with(&waiter, deadline, &mut kernels);
            r = match self.report_after(out, &kernels) {
                Ok(0) if woken == Woken::Interrupted => Err(Error::Intr),
                r => r,
            };
            if woken == Woken::TimedOut {
                break;
            }
        }
        self.wait.remove(key);
        r
    }

    /// What is ready now, before a sleep that looks at the kernel's descriptors itself: all of it if one of ours is
    /// ready, else nothing.
    fn report_if_ours(&self, out: &mut [libc::epoll_event]) -> Result<usize> {
        let kernels = self.has_kernels.load(Ordering::SeqCst);
        if self.nested.get().is_some() || kernels && self.kernels_first.load(Ordering::Relaxed) {
            // The kernel's come before ours.
            return if self.any_ready() { self.report_all(out) } else { Ok(0) };
        }
        match self.collect(out) {
            0 => Ok(0),
            n => self.report_kernels(out, n, kernels),
        }
    }

    /// What is ready now.
    fn report_all(&self, out: &mut [libc::epoll_event]) -> Result<usize> {
        self.look_at_nested()?;
        self.report(out, self.has_kernels.load(Ordering::SeqCst))
    }

    /// What is ready after a sleep that polled `kernels`, those of [`Epoll::kernel_fds`].
    fn report_after(&self, out: &mut [libc::epoll_event], kernels: &[PollFd]) -> Result<usize> {
        if kernels.iter().any(|fd| !fd.is_polled()) {
            return self.report_all(out);
        }
        let [own, nested @ ..] = kernels else { return self.report_all(out) };
        if nested.iter().any(|fd| fd.revents() != 0) {
            self.look_at_nested()?;
        }
        self.report(out, own.revents() != 0)
    }

    /// Ready items of ours, and events of the kernel's descriptors if there may be any.
    fn report(&self, out: &mut [libc::epoll_event], kernels: bool) -> Result<usize> {
        if kernels && self.kernels_first.swap(false, Ordering::Relaxed) {
            let n = kernel::epoll_look(self.kernel_fd(), out)?;
            return Ok(n + self.collect(&mut out[n..]));
        }
        let n = self.collect(out);
        self.report_kernels(out, n, kernels)
    }

    /// Events of the kernel's descriptors, if there may be any, behind the `n` of ours; returns how many there are of
    /// both.
    fn report_kernels(&self, out: &mut [libc::epoll_event], n: usize, kernels: bool) -> Result<usize> {
        if !kernels {
            return Ok(n);
        }
        if n == out.len() {
            self.kernels_first.store(true, Ordering::Relaxed);
            return Ok(n);
        }
        match kernel::epoll_look(self.kernel_fd(), &mut out[n..]) {
            // What was collected may be edges.
            Err(_) if n > 0 => Ok(n),
            r => r.map(|of_kernels| n + of_kernels),
        }
    }
}

/// Puts back what a call has taken from the ready list, `unreported` entries and then those that it reported. Between
/// them go those that were queued meanwhile, so that none is starved. The list keeps its memory. Linux: ep_done_scan.
fn put_back<T>(ready: &mut VecDeque<T>, mut taken: VecDeque<T>, unreported: usize) {
    let new = ready.len();
    if new > 0 {
        taken.append(ready);
        taken.make_contiguous()[unreported..].rotate_right(new);
    }
    *ready = taken;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_were_reported_go_behind_all_others() {
        for (new, taken, unreported, want) in [
            (vec![], vec![1, 2, 3], 1, vec![1, 2, 3]),
            (vec![8, 9], vec![1, 2, 3], 1, vec![1, 8, 9, 2, 3]),
            (vec![8, 9], vec![1, 2, 3], 3, vec![1, 2, 3, 8, 9]),
            (vec![8], vec![2, 3], 0, vec![8, 2, 3]),
            (vec![8], vec![], 0, vec![8]),
        ] {
            let mut ready = VecDeque::from(new);
            put_back(&mut ready, VecDeque::from(taken), unreported);
            assert_eq!(ready, want);
        }
    }
}
