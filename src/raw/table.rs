//! Which raw sockets want a packet. Above: `ip::input`, which gives each a copy before the packet's own protocol has it.
//! Addresses and filters are judged under the sock's lock, in `backlog_rcv`. Linux: raw_v4_input, struct raw_hashinfo.

use crate::sock::Sock;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Key = (bool, u8);

/// Raw sockets by family and protocol number.
#[derive(Default)]
pub struct Table {
    /// How many there are, so that a stack without raw sockets pays one load a packet.
    count: AtomicUsize,
    socks: RwLock<HashMap<Key, Vec<Arc<Sock>>>>,
}

impl Table {
    /// Enters a sock of AF_INET (`v4`) or AF_INET6 for a protocol number.
    pub(super) fn insert(&self, v4: bool, protocol: u8, sock: &Arc<Sock>) {
        self.socks.write().entry((v4, protocol)).or_default().push(sock.clone());
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Takes it out again; no effect when it is not there.
    pub(super) fn remove(&self, v4: bool, protocol: u8, sock: &Arc<Sock>) {
        let mut socks = self.socks.write();
        if let Some(list) = socks.get_mut(&(v4, protocol)) {
            let before = list.len();
            list.retain(|s| !Arc::ptr_eq(s, sock));
            self.count.fetch_sub(before - list.len(), Ordering::Release);
            if list.is_empty() {
                socks.remove(&(v4, protocol));
            }
        }
    }

    fn find(&self, v4: bool, protocol: u8) -> Vec<Arc<Sock>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.socks.read().get(&(v4, protocol)).cloned().unwrap_or_default()
    }

    /// Gives a copy of `skb`, which begins with its IP header, to each raw socket of its protocol. True: there is one, so
    /// that an unknown protocol is not answered with an error.
    #[inline]
    pub fn deliver(&self, stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let list = self.find(info.dst.is_ipv4(), info.protocol);
        for sock in &list {
            let mut copy = skb.share();
            copy.rx = Some(*info);
            sock.deliver(stack, copy, info.now);
        }
        !list.is_empty()
    }

    /// An ICMP error about a packet of this protocol. True: a raw socket may have sent it.
    pub fn error(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) -> bool {
        let list = self.find(e.src.is_ipv4(), e.protocol);
        for sock in &list {
            super::error(stack, sock, e);
        }
        !list.is_empty()
    }
}
