//! Sockets of the stack in which something happened, for the loop to look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use usersock::driver::EventLoop;
use usersock::internal::sys::lock::Mutex;
use usersock::sock::wait::{Events, Watch};

/// The sockets to look at.
pub(super) struct Ready {
    driver: Arc<EventLoop>,
    /// The loop's thread, which looks before it sleeps.
    thread: ThreadId,
    ids: Mutex<Vec<u64>>,
}

impl Ready {
    /// For a loop in this thread.
    pub(super) fn new(driver: Arc<EventLoop>) -> Ready {
        Ready { driver, thread: thread::current().id(), ids: Mutex::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.lock().is_empty()
    }

    /// Takes all into `out`, which is empty.
    pub(super) fn take(&self, out: &mut Vec<u64>) {
        std::mem::swap(&mut *self.ids.lock(), out);
    }

    fn push(&self, id: u64) {
        self.ids.lock().push(id);
        if thread::current().id() != self.thread {
            self.driver.wake();
        }
    }
}

/// Watches one socket of the stack.
pub(super) struct Signal {
    id: u64,
    /// It is in the list.
    queued: AtomicBool,
    /// The program has its descriptor no more.
    ended: AtomicBool,
    ready: Arc<Ready>,
}

impl Signal {
    pub(super) fn new(id: u64, ready: &Arc<Ready>) -> Signal {
        Signal { id, queued: AtomicBool::new(false), ended: AtomicBool::new(false), ready: ready.clone() }
    }

    /// Puts the socket in the list.
    pub(super) fn raise(&self) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.ready.push(self.id);
        }
    }

    /// Puts it in the list to be removed.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.raise();
    }

    /// Whether it is to be removed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Called before its state is looked at, so that what happens afterwards raises it again.
    pub(super) fn lower(&self) {
        self.queued.store(false, Ordering::SeqCst);
    }
}

impl Watch for Signal {
    fn notify(&self, _: Events) {
        self.raise();
    }
}
