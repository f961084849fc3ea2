//! Which socket of the stack is which of the programs', and what of its bytes is in neither's queue, for another
//! thread. Above: `Server`, and the control socket's thread.

use crate::diag;
use crate::instance::Instance;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use usersock::control::Held;
use usersock::driver::EventLoop;
use usersock::net::Socket;

/// How long the control socket's thread waits for the loop, which may be at its end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of a connection on their way through the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passing {
    /// From the stack, which the program's descriptor has no room for.
    pub(super) down: usize,
    /// From the program, those in the descriptor among them.
    pub(super) up: usize,
}

/// By the programs' numbers, the stack's ([`SockDiag::id`](usersock::sock::diag::SockDiag::id)).
pub(super) struct Known {
    instance: Instance,
    driver: Arc<EventLoop>,
    ids: Mutex<HashMap<u64, u64>>,
    /// The loop is to tell of the bytes that are passing.
    asked: AtomicBool,
    passing: Mutex<Option<HashMap<u64, Passing>>>,
    told: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    pub(super) fn new(instance: Instance, driver: Arc<EventLoop>) -> Known {
        let (ids, asked, passing, told) = Default::default();
        Known { instance, driver, ids, asked, passing, told }
    }

    pub(super) fn insert(&self, id: u64, socket: &Socket) {
        locked(&self.ids).insert(id, Arc::as_ptr(socket.sock()) as u64);
    }

    pub(super) fn remove(&self, id: u64) {
        locked(&self.ids).remove(&id);
    }

    /// Whether the loop is to call [`Known::tell`]. Asked once for each question.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::SeqCst)
    }

    /// What is passing now, by the programs' numbers; of the others nothing.
    pub(super) fn tell(&self, passing: HashMap<u64, Passing>) {
        *locked(&self.passing) = Some(passing);
        self.told.notify_all();
    }

    /// Asks the loop. Nothing if it does not answer.
    fn ask(&self) -> HashMap<u64, Passing> {
        let mut passing = locked(&self.passing);
        *passing = None;
        self.asked.store(true, Ordering::SeqCst);
        self.driver.wake();
        let answered = self.told.wait_timeout_while(passing, PATIENCE, |answer| answer.is_none());
        answered.unwrap_or_else(PoisonError::into_inner).0.take().unwrap_or_default()
    }

    /// What programs have of the stack's sockets, and what is on the way there. Where the kernel has no unix_diag
    /// nothing is told of descriptors.
    pub(super) fn held(&self) -> Vec<Held> {
        let passing = self.ask();
        let all = diag::sockets(false).unwrap_or_default();
        let programs = diag::of_programs(&all, &self.instance);
        let ids = locked(&self.ids);
        let held = ids.iter().filter_map(|(program, id)| {
            let (u, passing) = (programs.get(program), passing.get(program));
            if u.is_none() && passing.is_none() {
                return None;
            }
            let Passing { down, up } = passing.copied().unwrap_or_default();
            let queued = u.map_or(0, |u| u64::from(u.queued));
            Some(Held { id: *id, inode: u.map(|u| u.inode), recv_q: queued + down as u64, send_q: up as u64 })
        });
        held.collect()
    }
}
