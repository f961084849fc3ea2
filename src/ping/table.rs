//! Ping sockets by identifier: the identifier of an echo request is the socket's port. Addresses are checked under the
//! sock's lock. Above: `Ping`, and `ip::icmp` through the slot. Linux: struct ping_table, ping_lookup.

use crate::sock::Sock;
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Ping sockets of both families; in each family an identifier belongs to one socket.
#[derive(Default)]
pub(super) struct Table {
    socks: RwLock<HashMap<(bool, u16), Arc<Sock>>>,
}

impl Table {
    /// Assigns an identifier, not 0, to a socket (`v4`: of AF_INET); false when another socket has it.
    pub(super) fn insert(&self, v4: bool, id: u16, sock: &Arc<Sock>) -> bool {
        let mut socks = self.socks.write();
        let free = !socks.contains_key(&(v4, id));
        if free {
            socks.insert((v4, id), sock.clone());
        }
        free
    }

    /// Assigns a free identifier, searching from a random start; None when there is none.
    pub(super) fn insert_any(&self, stack: &Stack, v4: bool, sock: &Arc<Sock>) -> Option<u16> {
        let mut socks = self.socks.write();
        let start = stack.entropy.below(65_535) as u16;
        let id = (0..65_535u16).map(|i| 1 + (u32::from(start) + u32::from(i)) % 65_535).map(|i| i as u16);
        let id = id.into_iter().find(|&id| !socks.contains_key(&(v4, id)))?;
        socks.insert((v4, id), sock.clone());
        Some(id)
    }

    /// Releases an identifier if this sock has it.
    pub(super) fn remove(&self, v4: bool, id: u16, sock: &Arc<Sock>) {
        let mut socks = self.socks.write();
        if socks.get(&(v4, id)).is_some_and(|s| Arc::ptr_eq(s, sock)) {
            socks.remove(&(v4, id));
        }
    }

    /// Removes all socks.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.socks.write());
        // Dropping a sock may use the table: not under its lock.
        drop(all);
    }

    /// The sock with this identifier.
    pub(super) fn find(&self, v4: bool, id: u16) -> Option<Arc<Sock>> {
        self.socks.read().get(&(v4, id)).cloned()
    }
}
