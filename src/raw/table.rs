//! Raw sockets by protocol number. Above: `ip::input`, through the slot: each matching socket gets a copy before the
//! packet's own protocol does. Addresses and filters are checked under the sock's lock, in `backlog_rcv`. Linux:
//! raw_v4_input, struct raw_hashinfo.

use crate::ip::slots::{RawRcv, RawSlot};
use crate::ip::{self, errors, kind};
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::sock::{Sock, SockCommon};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

type Key = (bool, u8);

/// Whether a packet's addresses and device are the socket's (raw_v4_match, raw_v6_match).
pub(super) fn is_for(c: &SockCommon, rx: &PacketInfo) -> bool {
    (c.rcv_saddr.is_unspecified() || c.rcv_saddr == rx.dst)
        && (c.daddr.is_unspecified() || c.daddr == rx.src)
        && (c.bound_dev_if == 0 || c.bound_dev_if == rx.ifindex)
}

/// Delivers an ICMP error about a packet of this sock's protocol.
fn error(stack: &Arc<Stack>, sock: &Arc<Sock>, e: &IcmpError<'_>) {
    if ip::icmp::is_advice(e) {
        return;
    }
    errors::report(stack, sock, e, |g, e| {
        let c = &g.common;
        let ours =
            (c.daddr.is_unspecified() || c.daddr == e.dst) && (c.rcv_saddr.is_unspecified() || c.rcv_saddr == e.src);
        if ours {
            errors::icmp_error(g, e, kind::name_of(e.dst, 0, e.ifindex), e.quoted);
        }
    });
}

/// Raw sockets by family and protocol number. IP keeps their number, to skip the lookup at 0: `RawSlot::sock_added`.
#[derive(Default)]
pub(super) struct Table {
    socks: RwLock<HashMap<Key, Vec<Arc<Sock>>>>,
}

impl Table {
    /// Adds a sock of AF_INET (`v4`) or AF_INET6 for a protocol number.
    pub(super) fn insert(&self, slot: &RawSlot, v4: bool, protocol: u8, sock: &Arc<Sock>) {
        self.socks.write().entry((v4, protocol)).or_default().push(sock.clone());
        slot.sock_added();
    }

    /// Removes a sock; no effect when it is not in the table.
    pub(super) fn remove(&self, slot: &RawSlot, v4: bool, protocol: u8, sock: &Arc<Sock>) {
        let mut socks = self.socks.write();
        if let Some(list) = socks.get_mut(&(v4, protocol)) {
            let before = list.len();
            list.retain(|s| !Arc::ptr_eq(s, sock));
            (list.len()..before).for_each(|_| slot.sock_gone());
            if list.is_empty() {
                socks.remove(&(v4, protocol));
            }
        }
    }

    fn find(&self, v4: bool, protocol: u8) -> Vec<Arc<Sock>> {
        self.socks.read().get(&(v4, protocol)).cloned().unwrap_or_default()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Sock>> {
        self.socks.read().values().flatten().cloned().collect()
    }

    /// Lets go of all: the stack ends, and its count with it.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.socks.write());
        // Dropping a sock may use the table: not under its lock.
        drop(all);
    }
}

impl RawRcv for Table {
    fn rcv(&self, stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) -> bool {
        let list = self.find(info.dst.is_ipv4(), info.protocol);
        let mut taken = false;
        for sock in &list {
            // A sock that a call owns decides when the call ends. Until then it counts as one that takes the packet.
            taken |= sock.try_own(stack, info.now, |g| is_for(&g.common, info)).unwrap_or(true);
            let mut copy = skb.share();
            copy.rx = Some(*info);
            sock.deliver(stack, copy, info.now);
        }
        taken
    }

    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) -> bool {
        let list = self.find(e.src.is_ipv4(), e.protocol);
        for sock in &list {
            error(stack, sock, e);
        }
        !list.is_empty()
    }
}
