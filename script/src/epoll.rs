//! epoll(7) for scripts, over the socket layer's readiness alone. Above: `on_stack`. Below: `Socket::poll` and wait
//! queues. The C ABI has an epoll of its own, which waits for the kernel's descriptors too; here there are none.
use crate::under_test::Fd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use usersock::internal::sys::lock::Mutex;
use usersock::net::Socket;
use usersock::sock::wait::{Events, Watch, WatchKey};
use usersock::stack::runner::Waiter;

/// Events that are reported even if not asked for.
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

/// An edge that is not yet reported, and the waiter for it.
#[derive(Default)]
struct Signal {
    edge: AtomicBool,
    sleeper: Mutex<Option<Arc<Waiter>>>,
}

impl Watch for Signal {
    fn notify(&self, _: Events) {
        self.edge.store(true, Ordering::SeqCst);
        if let Some(sleeper) = self.sleeper.lock().take() {
            sleeper.wake();
        }
    }
}

struct Item {
    fd: Fd,
    socket: Arc<Socket>,
    events: u32,
    data: u64,
    signal: Arc<Signal>,
    key: WatchKey,
}

impl Item {
    fn watch(fd: Fd, socket: &Arc<Socket>, events: u32, data: u64) -> Item {
        let signal = Arc::new(Signal::default());
        // If it is ready already, that is an edge.
        signal.edge.store(true, Ordering::SeqCst);
        let key = socket.sock().wait.add(Events(events | ALWAYS), false, signal.clone());
        Item { fd, socket: socket.clone(), events, data, signal, key }
    }

    fn ignore(self) {
        self.socket.sock().wait.remove(self.key);
    }
}

/// A set of sockets to wait for.
pub(crate) struct Epoll(Mutex<Vec<Item>>);

impl Epoll {
    /// An empty set.
    pub fn new() -> Epoll {
        Epoll(Mutex::new(Vec::new()))
    }

    /// epoll_ctl(2). Errors: EEXIST, ENOENT, EINVAL.
    pub fn control(&self, operation: i32, fd: Fd, socket: &Arc<Socket>, events: u32, data: u64) -> Result<(), i32> {
        let mut items = self.0.lock();
        let at = items.iter().position(|item| item.fd == fd);
        match (operation, at) {
            (libc::EPOLL_CTL_ADD, Some(_)) => return Err(libc::EEXIST),
            (libc::EPOLL_CTL_ADD, None) => items.push(Item::watch(fd, socket, events, data)),
            (libc::EPOLL_CTL_MOD, Some(at)) => {
                let new = Item::watch(fd, socket, events, data);
                std::mem::replace(&mut items[at], new).ignore();
            }
            (libc::EPOLL_CTL_DEL, Some(at)) => items.remove(at).ignore(),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None) => return Err(libc::ENOENT),
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    /// A closed descriptor leaves the set.
    pub fn forget(&self, fd: Fd) {
        let mut items = self.0.lock();
        if let Some(at) = items.iter().position(|item| item.fd == fd) {
            items.remove(at).ignore();
        }
    }

    /// At most `most` ready events. An edge is reported once; a one-shot item is disabled afterwards.
    pub fn ready(&self, most: usize) -> Vec<(u32, u64)> {
        let mut events = Vec::new();
        for item in self.0.lock().iter_mut() {
            if events.len() == most {
                break;
            }
            if item.events & !(EDGE | ONESHOT) == 0 {
                continue; // one-shot, and already reported
            }
            let edge = item.signal.edge.swap(false, Ordering::SeqCst);
            if item.events & EDGE != 0 && !edge {
                continue;
            }
            let now = item.socket.poll().0 & (item.events | ALWAYS) & !(EDGE | ONESHOT);
            if now != 0 {
                events.push((now, item.data));
                if item.events & ONESHOT != 0 {
                    item.events &= EDGE | ONESHOT;
                }
            }
        }
        events
    }

    /// Wakes `waiter` at the next event of any item; one that occurred since [`ready`](Epoll::ready) wakes it at once.
    pub fn wake_when_ready(&self, waiter: &Arc<Waiter>) {
        for item in self.0.lock().iter() {
            *item.signal.sleeper.lock() = Some(waiter.clone());
            if item.signal.edge.load(Ordering::SeqCst) {
                waiter.wake();
            }
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.0.get_mut().drain(..).for_each(Item::ignore);
    }
}
