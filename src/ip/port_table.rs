//! Which socket of a protocol with ports a packet is for. Sharded by local port; in a shard, sockets by port, and
//! connected ones by both ends, so that a server with many connected sockets on one port finds each at once. Entries
//! have what matching needs, so that lookup locks no sock. Above: UDP, and protocols that are plugged in (TCP has
//! tables of its own). Linux: struct udp_table, __udp4_lib_lookup, udp_lib_lport_inuse.

use super::sockopt::own;
use super::{multicast, ports};
use crate::base::error::{Error, Result};
use crate::base::hash::{Tuple, addr128};
use crate::sock::reuseport::{self, Membership, ReuseGroup};
use crate::sock::state::State;
use crate::sock::{Sock, SockGuard, flag};
use crate::stack::Stack;
use crate::sys::lock::RwLock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

const SHARDS: usize = 256;

/// A bound socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PortEntry {
    /// The socket.
    pub sock: Arc<Sock>,
    /// Its port.
    pub port: u16,
    /// Address bound to; unspecified: any. The unspecified IPv6 address takes IPv4 too, unless `v6only`.
    pub local: IpAddr,
    /// The peer that it is connected to.
    pub peer: Option<(IpAddr, u16)>,
    /// Whom it is connected to at port 0: any port of that address counts.
    pub peer_addr: Option<IpAddr>,
    /// SO_BINDTODEVICE; 0: any.
    pub dev_if: u32,
    /// IPV6_V6ONLY.
    pub v6only: bool,
    /// SO_REUSEADDR.
    pub reuse: bool,
    /// SO_REUSEPORT.
    pub reuseport: bool,
    /// Its SO_REUSEPORT group: what the table has made of it, or the one it brings.
    pub(crate) group: Option<Arc<ReuseGroup>>,
}

impl PortEntry {
    /// The entry of a sock on `port`, from its options and addresses.
    pub fn of(g: &SockGuard<'_>, port: u16) -> PortEntry {
        let c = &g.common;
        PortEntry {
            sock: g.sock.clone(),
            port,
            local: c.rcv_saddr,
            peer: c.peer().map(|p| (p.ip(), p.port())),
            peer_addr: (c.dport == 0 && !c.daddr.is_unspecified()).then_some(c.daddr),
            dev_if: c.bound_dev_if,
            v6only: c.flag(flag::V6ONLY),
            reuse: c.flag(flag::REUSE),
            reuseport: c.flag(flag::REUSEPORT),
            group: reuseport::enter(c, None),
        }
    }

    /// Whether two sockets are of one group (udp_reuseport_add_sock).
    fn mates(&self, o: &PortEntry) -> bool {
        o.reuseport && (self.local, self.v6only, self.dev_if) == (o.local, o.v6only, o.dev_if)
    }

    fn conflicts(&self, o: &PortEntry) -> bool {
        // SO_REUSEADDR does not share the address of a listener.
        let reusable = self.reuse && o.reuse && o.sock.state() != State::Listen;
        let shared = reusable || (self.reuseport && o.reuseport);
        let same_link = self.dev_if == 0 || o.dev_if == 0 || self.dev_if == o.dev_if;
        let same_addr = ports::rcv_saddr_equal((self.local, self.v6only), (o.local, o.v6only));
        !Arc::ptr_eq(&self.sock, &o.sock) && !shared && same_link && same_addr
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
        match self.peer_addr {
            Some(addr) if addr != peer.0 => return None,
            Some(_) => score += 4,
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
    ports: HashMap<u16, Vec<Arc<PortEntry>>>,
    /// Connected ones, by local port and peer.
    connected: HashMap<(u16, IpAddr, u16), Vec<Arc<PortEntry>>>,
    /// How many of `connected` are not in `ports`: accepted connections, on their listener's port.
    adopted: HashMap<u16, usize>,
}

impl Shard {
    fn remove(&mut self, port: u16, sock: &Arc<Sock>) -> Option<Arc<PortEntry>> {
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

    /// Whether nobody else claims the port: one bound to it, or a connection on it whose listener may be gone
    /// (SO_REUSEADDR of both lets a new listener have it).
    fn is_free(&self, entry: &PortEntry) -> bool {
        let bound = self.ports.get(&entry.port).is_some_and(|l| l.iter().any(|o| entry.conflicts(o)));
        // Rarely evaluated: connections are on the port of a listener, to which a bind fails already.
        let connected = || {
            let of_port = self.connected.iter().filter(|(key, _)| key.0 == entry.port);
            of_port.flat_map(|(_, list)| list).any(|o| entry.conflicts(o))
        };
        let claimed = bound || (self.adopted.contains_key(&entry.port) && connected());
        !claimed
    }

    /// A socket with SO_REUSEPORT joins the group of those that share its address and port.
    fn join(&self, entry: &mut PortEntry) {
        let list = self.ports.get(&entry.port).map_or(&[][..], |l| l);
        let mate = list.iter().find_map(|o| o.group.clone().filter(|_| entry.mates(o)));
        entry.group = if entry.reuseport { mate.or(entry.group.take()) } else { None };
        entry.group.iter().for_each(|g| g.join(&entry.sock));
    }

    fn insert(&mut self, entry: PortEntry) {
        let entry = Arc::new(entry);
        if let Some((ip, pport)) = entry.peer {
            self.connected.entry((entry.port, ip, pport)).or_default().insert(0, entry.clone());
        }
        self.ports.entry(entry.port).or_default().insert(0, entry);
    }
}

/// The sockets of a protocol in a stack.
pub struct PortTable {
    shards: Vec<RwLock<Shard>>,
}

impl Default for PortTable {
    fn default() -> Self {
        PortTable { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }
}

impl PortTable {
    fn shard(&self, port: u16) -> &RwLock<Shard> {
        &self.shards[usize::from(port) % SHARDS]
    }

    /// bind(2), and the port of a socket that sends or connects without: takes `port`, or for 0 one of
    /// `net.ipv4.ip_local_port_range`, and says which it is. The caller stores it in the sock. EADDRINUSE. Linux:
    /// udp_lib_get_port.
    pub fn get_port(&self, g: &SockGuard<'_>, port: u16) -> Result<u16> {
        if port != 0 {
            return if self.bind(PortEntry::of(g, port)) { Ok(port) } else { Err(Error::AddrInUse) };
        }
        let range = own::port_range(g.stack, &g.common);
        // SO_REUSEADDR and SO_REUSEPORT share only ports that a program names; a port that is chosen for it is not
        // shared.
        let alone = |p| PortEntry { reuse: false, reuseport: false, group: None, ..PortEntry::of(g, p) };
        let port = ports::for_datagrams(g.stack, range, |p| self.bind(alone(p))).ok_or(Error::AddrInUse)?;
        let mut shard = self.shard(port).write();
        shard.remove(port, g.sock);
        let mut entry = PortEntry::of(g, port);
        shard.join(&mut entry);
        shard.insert(entry);
        drop(shard);
        Ok(port)
    }

    /// Binds `entry` to its port if no other socket claims it, nor a connection that a listener accepted.
    pub fn bind(&self, mut entry: PortEntry) -> bool {
        let mut shard = self.shard(entry.port).write();
        let free = shard.is_free(&entry);
        if free {
            shard.join(&mut entry);
            shard.insert(entry);
        }
        free
    }

    /// Whether no other socket claims the port of `entry`: of one that is bound, and is about to listen.
    pub fn is_free(&self, entry: &PortEntry) -> bool {
        self.shard(entry.port).read().is_free(entry)
    }

    /// Enters an accepted connection, which shares its listener's port. EADDRINUSE: there is one of the same ends;
    /// EINVAL: it has no peer.
    pub fn adopt(&self, entry: PortEntry) -> Result<()> {
        let (ip, pport) = entry.peer.ok_or(Error::Inval)?;
        let (port, key) = (entry.port, (entry.port, ip, pport));
        let mut shard = self.shard(port).write();
        let list = shard.connected.entry(key).or_default();
        if list.iter().any(|o| o.local == entry.local) {
            return Err(Error::AddrInUse);
        }
        list.insert(0, Arc::new(entry));
        *shard.adopted.entry(port).or_default() += 1;
        Ok(())
    }

    /// Removes an accepted connection; false when it is not there.
    pub fn unadopt(&self, port: u16, (ip, pport): (IpAddr, u16), sock: &Arc<Sock>) -> bool {
        let mut shard = self.shard(port).write();
        let Some(list) = shard.connected.get_mut(&(port, ip, pport)) else { return false };
        let before = list.len();
        list.retain(|e| !Arc::ptr_eq(&e.sock, sock));
        let (gone, empty) = (list.len() < before, list.is_empty());
        if empty {
            shard.connected.remove(&(port, ip, pport));
        }
        if gone && let Some(n) = shard.adopted.get_mut(&port) {
            *n -= 1;
            if *n == 0 {
                shard.adopted.remove(&port);
            }
        }
        gone
    }

    /// Puts `entry` in the place of its socket's present one: connect and disconnect change addresses, not the port.
    pub fn rehash(&self, mut entry: PortEntry) {
        let mut shard = self.shard(entry.port).write();
        if let Some(old) = shard.remove(entry.port, &entry.sock) {
            // A connected socket is of no group, and one that was bound without the option joins none later.
            let group = old.group.clone();
            if entry.peer.is_some() {
                group.iter().for_each(|g| g.leave(&entry.sock));
            }
            entry.group = group.filter(|_| entry.peer.is_none());
            shard.insert(entry);
        }
    }

    /// Removes all entries when the stack ends, because the table and its sockets hold each other.
    pub fn clear(&self) {
        for shard in &self.shards {
            // Dropping the last reference to a sock may look at the table, so it is not locked meanwhile.
            let all = std::mem::take(&mut *shard.write());
            drop(all);
        }
    }

    /// Removes a socket from its port.
    pub fn unbind(&self, port: u16, sock: &Arc<Sock>) {
        let gone = self.shard(port).write().remove(port, sock);
        gone.iter().filter_map(|e| e.group.as_ref()).for_each(|g| g.leave(sock));
    }

    /// Of which SO_REUSEPORT group a socket is.
    pub fn reuseport(&self, sock: &Arc<Sock>, port: u16) -> Membership {
        let shard = self.shard(port).read();
        let found = shard.ports.get(&port).and_then(|list| list.iter().find(|e| Arc::ptr_eq(&e.sock, sock)));
        match found {
            Some(e) => e.group.clone().map_or(Membership::Alone, Membership::Of),
            None => Membership::Unhashed,
        }
    }

    /// The socket for a datagram to one host: of the best fitting ones the newest, or within a SO_REUSEPORT group the
    /// one that the flow's hash chooses.
    pub fn find(&self, stack: &Stack, to: (IpAddr, u16), from: (IpAddr, u16), ifindex: u32) -> Option<Arc<Sock>> {
        self.find_by(stack, to, from, ifindex, |_| None)
    }

    /// The same; `choose` is asked first which one of a group (lookup_reuseport).
    pub(crate) fn find_by(
        &self,
        stack: &Stack,
        (dst, dport): (IpAddr, u16),
        (src, sport): (IpAddr, u16),
        ifindex: u32,
        choose: impl FnOnce(&ReuseGroup) -> Option<Arc<Sock>>,
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
        if let Some(chosen) = first.group.as_deref().and_then(choose) {
            return Some(chosen);
        }
        let member =
            |e: &&Arc<PortEntry>| e.reuseport && e.local == first.local && e.score(dst, ifindex, peer) == Some(score);
        let n = list.iter().filter(member).count();
        let t = Tuple { saddr: addr128(dst), sport: dport, daddr: addr128(src), dport: sport };
        let pick = ((u64::from(stack.keys.ehash(&t)) * n as u64) >> 32) as usize;
        list.iter().filter(member).nth(pick).map(|e| e.sock.clone())
    }

    /// All sockets, accepted connections on their listener's port included.
    pub fn all(&self) -> Vec<Arc<Sock>> {
        let of = |shard: &Shard| {
            let entries = shard.ports.values().chain(shard.connected.values()).flatten();
            let mut socks: Vec<_> = entries.map(|e| e.sock.clone()).collect();
            socks.sort_by_key(Arc::as_ptr);
            socks.dedup_by(|a, b| Arc::ptr_eq(a, b));
            socks
        };
        self.shards.iter().flat_map(|s| of(&s.read())).collect()
    }

    /// All sockets for a datagram to a group or a broadcast address: those bound to where it goes, whose groups and
    /// source filters admit it (__udp_is_mcast_sock, __udp_v6_is_mcast_sock).
    pub fn find_all(&self, dst: IpAddr, dport: u16, peer: (IpAddr, u16), ifindex: u32) -> Vec<Arc<Sock>> {
        let shard = self.shard(dport).read();
        let list = shard.ports.get(&dport).map_or(&[][..], |l| l);
        let hears = |e: &&Arc<PortEntry>| {
            e.score(dst, ifindex, peer).is_some() && multicast::wanted(&e.sock, peer.0, dst, ifindex)
        };
        list.iter().filter(hears).map(|e| e.sock.clone()).collect()
    }
}

fn best(list: &[Arc<PortEntry>], dst: IpAddr, ifindex: u32, peer: (IpAddr, u16)) -> Option<(u32, &Arc<PortEntry>)> {
    let mut best: Option<(u32, &Arc<PortEntry>)> = None;
    for e in list {
        if let Some(s) = e.score(dst, ifindex, peer)
            && best.is_none_or(|(b, _)| s > b)
        {
            best = Some((s, e));
        }
    }
    best
}
