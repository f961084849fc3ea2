//! Which UDP socket a datagram is for. Sharded by local port; in a shard, sockets by port, and connected ones by both ends,
//! so that a server with many connected sockets on one port finds each at once. Entries carry what matching needs, so that
//! no sock is locked to be passed over. Above: `udp`. Linux: struct udp_table, __udp4_lib_lookup, udp_lib_lport_inuse.

use crate::hash::{Tuple, addr128};
use crate::sock::Sock;
use crate::stack::Stack;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

const SHARDS: usize = 256;

/// A bound socket.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub sock: Arc<Sock>,
    pub port: u16,
    /// Address bound to; unspecified: any. The unspecified IPv6 address takes IPv4 too, unless `v6only`.
    pub local: IpAddr,
    pub peer: Option<(IpAddr, u16)>,
    pub dev_if: u32,
    pub v6only: bool,
    pub reuse: bool,
    pub reuseport: bool,
}

impl Entry {
    /// Whether two sockets claim the same addresses (inet_rcv_saddr_equal with wildcards).
    fn overlaps(&self, o: &Entry) -> bool {
        let takes = |e: &Entry, v4: bool| match e.local {
            IpAddr::V4(_) => v4,
            IpAddr::V6(a) => !v4 || (a.is_unspecified() && !e.v6only),
        };
        match (self.local.is_unspecified(), o.local.is_unspecified()) {
            (false, false) => self.local == o.local,
            (true, true) => [true, false].iter().any(|&v4| takes(self, v4) && takes(o, v4)),
            (true, false) => takes(self, o.local.is_ipv4()),
            (false, true) => takes(o, self.local.is_ipv4()),
        }
    }

    fn conflicts(&self, o: &Entry) -> bool {
        let shared = (self.reuse && o.reuse) || (self.reuseport && o.reuseport);
        let same_link = self.dev_if == 0 || o.dev_if == 0 || self.dev_if == o.dev_if;
        !Arc::ptr_eq(&self.sock, &o.sock) && !shared && same_link && self.overlaps(o)
    }

    /// How well it fits a datagram to `dst` by interface `ifindex`; None: not at all (compute_score).
    fn score(&self, dst: IpAddr, ifindex: u32, peer: (IpAddr, u16)) -> Option<u32> {
        let mut score = match (self.local, dst) {
            (IpAddr::V6(a), IpAddr::V4(_)) if a.is_unspecified() && !self.v6only => 0,
            (l, d) if l.is_ipv4() != d.is_ipv4() => return None,
            (l, _) if l.is_unspecified() => 1,
            (l, d) if l == d => 5,
            _ => return None,
        };
        match self.peer {
            Some(p) if p != peer => return None,
            Some(_) => score += 8,
            None => {}
        }
        match self.dev_if {
            0 => {}
            i if i == ifindex => score += 4,
            _ => return None,
        }
        Some(score + u32::from(self.sock.prefers_this_cpu()))
    }
}

#[derive(Default)]
struct Shard {
    /// All sockets of a port, the newest first.
    ports: HashMap<u16, Vec<Arc<Entry>>>,
    /// Connected ones, by local port and peer.
    connected: HashMap<(u16, IpAddr, u16), Vec<Arc<Entry>>>,
}

impl Shard {
    fn remove(&mut self, port: u16, sock: &Arc<Sock>) -> Option<Arc<Entry>> {
        let list = self.ports.get_mut(&port)?;
        let at = list.iter().position(|e| Arc::ptr_eq(&e.sock, sock))?;
        let entry = list.remove(at);
        if list.is_empty() {
            self.ports.remove(&port);
        }
        if let Some((ip, pport)) = entry.peer
            && let Some(list) = self.connected.get_mut(&(port, ip, pport))
        {
            list.retain(|e| !Arc::ptr_eq(&e.sock, sock));
            if list.is_empty() {
                self.connected.remove(&(port, ip, pport));
            }
        }
        Some(entry)
    }

    fn insert(&mut self, entry: Entry) {
        let entry = Arc::new(entry);
        if let Some((ip, pport)) = entry.peer {
            self.connected.entry((entry.port, ip, pport)).or_default().insert(0, entry.clone());
        }
        self.ports.entry(entry.port).or_default().insert(0, entry);
    }
}

/// The UDP sockets of a stack.
pub struct Table {
    shards: Vec<RwLock<Shard>>,
}

impl Default for Table {
    fn default() -> Self {
        Table { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }
}

impl Table {
    fn shard(&self, port: u16) -> &RwLock<Shard> {
        &self.shards[usize::from(port) % SHARDS]
    }

    /// Binds `entry` to its port if no other socket claims it.
    pub(super) fn bind(&self, entry: Entry) -> bool {
        let mut shard = self.shard(entry.port).write();
        if shard.ports.get(&entry.port).is_some_and(|l| l.iter().any(|o| entry.conflicts(o))) {
            return false;
        }
        shard.insert(entry);
        true
    }

    /// Puts `entry` in the place of its socket's present one: connect and disconnect change addresses, not the port.
    pub(super) fn rehash(&self, entry: Entry) {
        let mut shard = self.shard(entry.port).write();
        if shard.remove(entry.port, &entry.sock).is_some() {
            shard.insert(entry);
        }
    }

    /// Takes a socket off its port.
    pub(super) fn unbind(&self, port: u16, sock: &Arc<Sock>) {
        self.shard(port).write().remove(port, sock);
    }

    /// The socket for a datagram to one host: of the best fitting ones the newest, or within a SO_REUSEPORT group the one that
    /// the flow's hash chooses.
    pub(super) fn find(
        &self,
        stack: &Stack,
        (dst, dport): (IpAddr, u16),
        (src, sport): (IpAddr, u16),
        ifindex: u32,
    ) -> Option<Arc<Sock>> {
        let shard = self.shard(dport).read();
        let peer = (src, sport);
        if let Some(list) = shard.connected.get(&(dport, src, sport)) {
            let best = best(list, dst, ifindex, peer);
            if let Some((_, e)) = best {
                return Some(e.sock.clone());
            }
        }
        let list = shard.ports.get(&dport)?;
        let (score, first) = best(list, dst, ifindex, peer)?;
        if !first.reuseport {
            return Some(first.sock.clone());
        }
        let member =
            |e: &&Arc<Entry>| e.reuseport && e.local == first.local && e.score(dst, ifindex, peer) == Some(score);
        let n = list.iter().filter(member).count();
        let t = Tuple { saddr: addr128(dst), sport: dport, daddr: addr128(src), dport: sport };
        let pick = ((u64::from(stack.keys.ehash(&t)) * n as u64) >> 32) as usize;
        list.iter().filter(member).nth(pick).map(|e| e.sock.clone())
    }

    /// All sockets for a datagram to a group or a broadcast address.
    pub(super) fn find_all(&self, dst: IpAddr, dport: u16, peer: (IpAddr, u16), ifindex: u32) -> Vec<Arc<Sock>> {
        let shard = self.shard(dport).read();
        let list = shard.ports.get(&dport).map_or(&[][..], |l| l);
        list.iter().filter(|e| e.score(dst, ifindex, peer).is_some()).map(|e| e.sock.clone()).collect()
    }
}

fn best(list: &[Arc<Entry>], dst: IpAddr, ifindex: u32, peer: (IpAddr, u16)) -> Option<(u32, &Arc<Entry>)> {
    let mut best: Option<(u32, &Arc<Entry>)> = None;
    for e in list {
        if let Some(s) = e.score(dst, ifindex, peer)
            && best.is_none_or(|(b, _)| s > b)
        {
            best = Some((s, e));
        }
    }
    best
}
