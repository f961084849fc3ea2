//! Epoll sets: what is in one, and what of it is ready. Over an epoll of the kernel, into which the kernel's
//! descriptors go directly; ours are watched here. A wait looks at both and sleeps in both at once. Keyed by number and
//! description, as in Linux: closing the last duplicate removes the entry. Above: `epoll`, the calls. Linux:
//! fs/eventpoll.c.

use crate::boundary::os;
use crate::stacks::default_stack;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::internal::sys::fd::Fd;
use usersock::internal::sys::lock::Mutex;
use usersock::net::Socket;
use usersock::sock::wait::{Events, WaitQueue, Watch, WatchKey};
use usersock::stack::Stack;
use usersock::stack::runner::{Waiter, Woken};

/// Something of ours that can be polled.
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
    pub(crate) fn stack(&self) -> Option<Arc<Stack>> {
        match self {
            Pollable::Socket(s) => Some(s.stack().clone()),
            Pollable::Epoll(e) => e.stack(),
        }
    }
}

/// Depth of epoll sets in epoll sets (EP_MAX_NESTS).
const MAX_NESTS: usize = 5;
/// What is told whatever mask was asked for.
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const PRIVATE_BITS: u32 = (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE) as u32;

enum Target {
    Socket(Weak<Socket>),
    Epoll(Weak<Epoll>),
}

struct Item {
    target: Target,
    /// Wanted events, `ALWAYS` among them, with EPOLLET, EPOLLONESHOT and kin; only these are left after a one-shot
    /// fired.
    events: AtomicU32,
    data: AtomicU64,
    queued: AtomicBool,
    owner: Weak<Epoll>,
    me: Weak<Item>,
    key: Mutex<Option<WatchKey>>,
}

impl Watch for Item {
    fn notify(&self, events: Events) {
        if Epoll::wanted(self).intersects(events)
            && let (Some(ep), Some(me)) = (self.owner.upgrade(), self.me.upgrade())
        {
            ep.queue(me);
        }
    }
}

impl Item {
    fn level(&self) -> Events {
        match &self.target {
            Target::Socket(s) => s.upgrade().map_or(Events::NONE, |s| s.poll()),
            Target::Epoll(e) => e.upgrade().map_or(Events::NONE, |e| e.poll()),
        }
    }

    fn unwatch(&self) {
        if let Some(key) = self.key.lock().take() {
            match &self.target {
                Target::Socket(s) => {
                    if let Some(s) = s.upgrade() {
                        s.sock().wait.remove(key)
                    }
                }
                Target::Epoll(e) => {
                    if let Some(e) = e.upgrade() {
                        e.wait.remove(key)
                    }
                }
            }
        }
    }
}

/// An epoll set.
pub struct Epoll {
    kernel: Fd,
    items: Mutex<HashMap<RawFd, Arc<Item>>>,
    ready: Mutex<VecDeque<Arc<Item>>>,
    /// Those that wait for this set to have something.
    wait: WaitQueue,
    me: Weak<Epoll>,
    /// Whose events are taken first alternates, so that neither kind starves the other of a small array.
    kernel_first: AtomicBool,
    /// Our stack of the first socket added: where a waiting thread waits.
    stack: Mutex<Option<Arc<Stack>>>,
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for item in self.items.get_mut().values() {
            item.unwatch();
        }
    }
}

impl Epoll {
    /// An empty set over an epoll of the kernel's, which is its own: it outlives its descriptors where a call still
    /// waits in it.
    pub(crate) fn new(kernel: Fd) -> Arc<Epoll> {
        Arc::new_cyclic(|me| Epoll {
            kernel,
            items: Mutex::default(),
            ready: Mutex::default(),
            wait: WaitQueue::default(),
            me: me.clone(),
            kernel_first: AtomicBool::new(false),
            stack: Mutex::default(),
        })
    }

    /// The kernel's epoll.
    pub fn kernel_fd(&self) -> RawFd {
        self.kernel.raw()
    }
    /// The stack of its sockets.
    pub fn stack(&self) -> Option<Arc<Stack>> {
        self.stack.lock().clone()
    }

    fn queue(&self, item: Arc<Item>) {
        if !item.queued.swap(true, Ordering::SeqCst) {
            self.ready.lock().push_back(item);
        }
        self.wait.wake(Events::IN);
    }

    /// Readiness of the set itself: readable when something in it is ready.
    pub fn poll(&self) -> Events {
        let ours = {
            let mut ready = self.ready.lock();
            ready.retain(|i| {
                let keep = i.level().intersects(Self::wanted(i));
                if !keep {
                    i.queued.store(false, Ordering::SeqCst);
                }
                keep
            });
            !ready.is_empty()
        };
        let mut p = libc::pollfd { fd: self.kernel_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd; does not wait.
        let mut kernel = || unsafe { libc::poll(&mut p, 1, 0) } > 0;
        if ours || kernel() { Events::IN } else { Events::NONE }
    }

    fn wanted(item: &Item) -> Events {
        Events(item.events.load(Ordering::SeqCst) & !PRIVATE_BITS)
    }

    /// Whether `other` is in this set, or in a set in it.
    fn contains(&self, other: &Epoll, depth: usize) -> Result<bool> {
        if std::ptr::eq(self, other) {
            return Ok(true);
        }
        if depth >= MAX_NESTS {
            return Err(Error::Loop);
        }
        for item in self.items.lock().values() {
            if let Target::Epoll(e) = &item.target
                && let Some(e) = e.upgrade()
                && e.contains(other, depth + 1)?
            {
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
        let target = match what {
            Pollable::Socket(s) => {
                self.stack.lock().get_or_insert_with(|| s.stack().clone());
                Target::Socket(Arc::downgrade(s))
            }
            Pollable::Epoll(e) => {
                if exclusive || std::ptr::eq(&**e, self) {
                    return Err(Error::Inval);
                }
                if e.contains(self, 1)? {
                    return Err(Error::Loop);
                }
                if let Some(s) = e.stack() {
                    self.stack.lock().get_or_insert(s);
                }
                Target::Epoll(Arc::downgrade(e))
            }
        };
        let mut items = self.items.lock();
        // An entry whose description is gone, under a number used again, is no entry.
        items.retain(|_, i| match &i.target {
            Target::Socket(s) => s.strong_count() > 0,
            Target::Epoll(e) => e.strong_count() > 0,
        });
        if let Some(old) = items.get(&fd) {
            let same = match (&old.target, &target) {
                (Target::Socket(a), Target::Socket(b)) => a.ptr_eq(b),
                (Target::Epoll(a), Target::Epoll(b)) => a.ptr_eq(b),
                _ => false,
            };
            if same {
                return Err(Error::Exist);
            }
            old.unwatch();
        }
        let item = Arc::new_cyclic(|me| Item {
            target,
            events: AtomicU32::new(ev.events | ALWAYS),
            data: AtomicU64::new(ev.u64),
            queued: AtomicBool::new(false),
            owner: self.me.clone(),
            me: me.clone(),
            key: Mutex::new(None),
        });
        // Everything is watched, the mask is applied at the notification: EPOLL_CTL_MOD then needs no new watch.
        *item.key.lock() = Some(what.queue().add(Events::ALL, exclusive, item.clone()));
        items.insert(fd, item.clone());
        drop(items);
        self.look(item);
        Ok(())
    }

    /// Queues an item that is ready now (after ADD and MOD).
    fn look(&self, item: Arc<Item>) {
        if item.level().intersects(Self::wanted(&item)) {
            self.queue(item);
        }
    }

    /// EPOLL_CTL_MOD. Errors: EINVAL, ENOENT.
    pub(crate) fn modify(&self, fd: RawFd, what: &Pollable, ev: &libc::epoll_event) -> Result<()> {
        let item = self.find(fd, what)?;
        if (ev.events | item.events.load(Ordering::SeqCst)) & libc::EPOLLEXCLUSIVE as u32 != 0 {
            return Err(Error::Inval);
        }
        item.data.store(ev.u64, Ordering::SeqCst);
        item.events.store(ev.events | ALWAYS, Ordering::SeqCst);
        self.look(item);
        Ok(())
    }

    /// EPOLL_CTL_DEL. ENOENT.
    pub(crate) fn delete(&self, fd: RawFd, what: &Pollable) -> Result<()> {
        let item = self.find(fd, what)?;
        self.items.lock().remove(&fd);
        item.events.store(0, Ordering::SeqCst);
        item.unwatch();
        Ok(())
    }

    fn find(&self, fd: RawFd, what: &Pollable) -> Result<Arc<Item>> {
        let items = self.items.lock();
        let item = items.get(&fd).ok_or(Error::NoEnt)?;
        let same = match (&item.target, what) {
            (Target::Socket(a), Pollable::Socket(b)) => std::ptr::eq(a.as_ptr(), Arc::as_ptr(b)),
            (Target::Epoll(a), Pollable::Epoll(b)) => std::ptr::eq(a.as_ptr(), Arc::as_ptr(b)),
            _ => false,
        };
        if same { Ok(item.clone()) } else { Err(Error::NoEnt) }
    }

    /// Ready items of ours into `out`; level-triggered ones stay queued.
    fn collect(&self, out: &mut [libc::epoll_event]) -> usize {
        let mut n = 0;
        let batch = std::mem::take(&mut *self.ready.lock());
        let mut again = VecDeque::new();
        let mut batch = batch.into_iter();
        while n < out.len() {
            let Some(item) = batch.next() else { break };
            // Cleared before the level is read: a change after that queues it anew.
            item.queued.store(false, Ordering::SeqCst);
            let events = item.events.load(Ordering::SeqCst);
            let got = item.level() & Self::wanted(&item);
            if got.is_empty() {
                continue;
            }
            out[n] = libc::epoll_event { events: got.0, u64: item.data.load(Ordering::SeqCst) };
            n += 1;
            if events & libc::EPOLLONESHOT as u32 != 0 {
                item.events.fetch_and(PRIVATE_BITS, Ordering::SeqCst);
            } else if events & libc::EPOLLET as u32 == 0 && !item.queued.swap(true, Ordering::SeqCst) {
                again.push_back(item);
            }
        }
        // Those not looked at come first, then those reported: everybody gets a turn.
        let mut ready = self.ready.lock();
        let new = std::mem::take(&mut *ready);
        *ready = batch.chain(new).chain(again).collect();
        n
    }

    /// Waits until something in it is ready, or for as long as `timeout` says (None: for ever): how many there are in
    /// `out`.
    pub(crate) fn wait(&self, out: &mut [libc::epoll_event], timeout: Option<Duration>) -> Result<usize> {
        let kernel_wait = |out: &mut [libc::epoll_event], ms: c_int| {
            if out.is_empty() {
                return Ok(0);
            }
            // SAFETY: `out` is a slice of epoll_event.
            os(unsafe { libc::epoll_wait(self.kernel_fd(), out.as_mut_ptr(), out.len() as c_int, ms) } as isize)
        };
        let once = |out: &mut [libc::epoll_event]| -> Result<usize> {
            if self.kernel_first.fetch_xor(true, Ordering::Relaxed) {
                let n = kernel_wait(out, 0)? as usize;
                return Ok(n + self.collect(&mut out[n..]));
            }
            let n = self.collect(out);
            Ok(n + kernel_wait(&mut out[n..], 0)? as usize)
        };
        let Some(stack) = self.stack() else {
            // Nothing of ours yet; but a socket may be added while we wait, so the wait is ours too as soon as there is
            // a default stack. Without any the kernel alone can wake.
            if usersock::config::default_stack_if_any().is_none() {
                let ms = timeout.map_or(-1, |t| t.as_millis().min(i32::MAX as u128) as c_int);
                return Ok(kernel_wait(out, ms)? as usize);
            }
            return self.wait_on(&default_stack()?, out, timeout, &once);
        };
        self.wait_on(&stack, out, timeout, &once)
    }

    fn wait_on(
        &self,
        stack: &Arc<Stack>,
        out: &mut [libc::epoll_event],
        timeout: Option<Duration>,
        once: &dyn Fn(&mut [libc::epoll_event]) -> Result<usize>,
    ) -> Result<usize> {
        stack.run_pending();
        let n = once(out)?;
        if n > 0 || timeout == Some(Duration::ZERO) {
            return Ok(n);
        }
        let deadline = timeout.map(|t| stack.now() + t);
        let waiter = Waiter::current();
        let key = self.wait.add(Events::IN, false, waiter.clone());
        let extra = [(self.kernel_fd(), libc::POLLIN)];
        let r = loop {
            match once(out) {
                Ok(0) => {}
                r => break r,
            }
            match stack.block_with(&waiter, deadline, &extra) {
                Woken::Event => {}
                Woken::TimedOut => break once(out),
                Woken::Interrupted => break Err(Error::Intr),
            }
        };
        self.wait.remove(key);
        r
    }
}
