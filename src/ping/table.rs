//! Ping sockets by identifier: the identifier of an echo request is the socket's port. Whether a packet is for a socket
//! is judged again under the sock's lock. Above: `Ping`, and `ip::icmp` through the slot. Linux: struct ping_table,
//! ping_lookup.

use crate::sock::{Sock, SockGuard, flag};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A socket that has an identifier, with its address and device.
pub(super) struct Holder {
    sock: Arc<Sock>,
    rcv_saddr: IpAddr,
    /// 0: any.
    device: u32,
    /// SO_REUSEADDR: others may have the identifier, too, if they say the same.
    reuse: bool,
}

impl Holder {
    pub(super) fn of(g: &SockGuard<'_>) -> Holder {
        let c = &g.common;
        Holder { sock: g.sock.clone(), rcv_saddr: c.rcv_saddr, device: c.bound_dev_if, reuse: c.flag(flag::REUSE) }
    }
}

/// Ping sockets of both families, those of an identifier in the order in which they took it.
#[derive(Default)]
pub(super) struct Table {
    socks: RwLock<HashMap<(bool, u16), Vec<Holder>>>,
}

impl Table {
    /// Takes an identifier (`v4`: of AF_INET), not 0; false when another socket has it and one of the two does not
    /// share.
    pub(super) fn insert(&self, v4: bool, id: u16, holder: Holder) -> bool {
        let mut socks = self.socks.write();
        let list = socks.entry((v4, id)).or_default();
        let free = list.iter().all(|h| h.reuse && holder.reuse);
        if free {
            list.push(holder);
        }
        free
    }

    /// Takes any free identifier, from a random start; None when there is none.
    pub(super) fn insert_any(&self, stack: &Stack, v4: bool, holder: Holder) -> Option<u16> {
        let mut socks = self.socks.write();
        let start = stack.entropy.below(65_535) as u16;
        let id = (0..65_535u16).map(|i| 1 + (u32::from(start) + u32::from(i)) % 65_535).map(|i| i as u16);
        let id = id.into_iter().find(|&id| !socks.contains_key(&(v4, id)))?;
        socks.insert((v4, id), vec![holder]);
        Some(id)
    }

    /// Notes what has changed of one that has an identifier. It keeps its place.
    pub(super) fn update(&self, v4: bool, id: u16, holder: Holder) {
        let mut socks = self.socks.write();
        let mut list = socks.get_mut(&(v4, id)).into_iter().flatten();
        if let Some(h) = list.find(|h| Arc::ptr_eq(&h.sock, &holder.sock)) {
            *h = holder;
        }
    }

    /// Releases an identifier if this sock has it.
    pub(super) fn remove(&self, v4: bool, id: u16, sock: &Arc<Sock>) {
        let mut socks = self.socks.write();
        let Some(list) = socks.get_mut(&(v4, id)) else { return };
        list.retain(|h| !Arc::ptr_eq(&h.sock, sock));
        if list.is_empty() {
            socks.remove(&(v4, id));
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Sock>> {
        self.socks.read().values().flatten().map(|h| h.sock.clone()).collect()
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.socks.write());
        // Dropping a sock may use the table: not under its lock.
        drop(all);
    }

    /// Who has an identifier, of those bound to this address and device or to none the last that took it.
    pub(super) fn find(&self, v4: bool, id: u16, own: IpAddr, device: u32) -> Option<Arc<Sock>> {
        let socks = self.socks.read();
        let fits =
            |h: &&Holder| (h.rcv_saddr.is_unspecified() || h.rcv_saddr == own) && (h.device == 0 || h.device == device);
        Some(socks.get(&(v4, id))?.iter().rev().find(fits)?.sock.clone())
    }
}
