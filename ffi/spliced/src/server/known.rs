//! Which socket of the stack is which of the programs', for another thread. Above: `Server`, and the control socket's
//! thread.

use crate::diag;
use crate::instance::Instance;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use usersock::net::Socket;

/// By the programs' numbers, the stack's ([`SockDiag::id`](usersock::sock::diag::SockDiag::id)).
pub(super) struct Known {
    instance: Instance,
    ids: Mutex<HashMap<u64, u64>>,
}

impl Known {
    pub(super) fn new(instance: Instance) -> Known {
        Known { instance, ids: Mutex::default() }
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, id: u64, socket: &Socket) {
        self.ids().insert(id, Arc::as_ptr(socket.sock()) as u64);
    }

    pub(super) fn remove(&self, id: u64) {
        self.ids().remove(&id);
    }

    /// The stack's numbers, each with the inode of the descriptor that programs have.
    pub(super) fn inodes(&self) -> Vec<(u64, u32)> {
        // Where the kernel has no unix_diag nothing is told.
        let all = diag::of_programs(&diag::sockets(false).unwrap_or_default(), &self.instance);
        let ids = self.ids();
        all.into_iter().filter_map(|(id, inode)| Some((*ids.get(&id)?, inode))).collect()
    }
}
