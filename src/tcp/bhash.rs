//! Which local ports are held, and by what kinds of socks (bhash): whether one more may join. Sharded by port. Above:
//! `bind`, `listen`, `connect`, `child`, `timewait`. Linux: net/ipv4/inet_hashtables.c, inet_connection_sock.c.

use crate::base::hash::PlainMap;
use crate::base::padded::Padded;
use crate::ip::ports::rcv_saddr_equal;
use crate::sock::{SockCommon, flag};
use crate::sys::lock::{Mutex, MutexGuard};
use slab::Slab;
use std::net::IpAddr;
use std::num::NonZeroU32;

/// Shards of the table.
const SHARDS: usize = 64;
/// Kinds that a shard looks through for one that a port can share with others.
const RECENT: usize = 4;

/// What conflicts over a port depend on. Equal holders of a port are one entry with a count, so that a listener with a
/// million connections costs one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Bound address.
    pub(crate) addr: IpAddr,
    /// IPV6_V6ONLY.
    pub(crate) v6only: bool,
    /// SO_BINDTODEVICE.
    pub(crate) ifindex: u32,
    /// SO_REUSEADDR.
    pub(crate) reuse: bool,
    /// It binds whatever others hold: it is in repair mode (SK_FORCE_REUSE).
    pub(crate) force: bool,
    /// SO_REUSEPORT.
    pub(crate) reuseport: bool,
    /// It listens.
    pub(crate) listening: bool,
    /// The port was chosen by connect, not bound: other connections to other peers may share it.
    pub(crate) by_connect: bool,
}

impl Holder {
    /// Of an owned sock.
    pub(crate) fn of(sk: &SockCommon, listening: bool, by_connect: bool) -> Holder {
        Holder {
            addr: sk.rcv_saddr,
            v6only: sk.flag(flag::V6ONLY),
            ifindex: sk.bound_dev_if,
            reuse: sk.flag(flag::REUSE) || sk.force_reuse,
            force: sk.force_reuse,
            reuseport: sk.flag(flag::REUSEPORT),
            listening,
            by_connect,
        }
    }

    /// Whether both can receive the same packet.
    fn overlaps(&self, o: &Holder) -> bool {
        let same_link = self.ifindex == 0 || o.ifindex == 0 || self.ifindex == o.ifindex;
        same_link && rcv_saddr_equal((self.addr, self.v6only), (o.addr, o.v6only))
    }

    /// Whether `self` may not join `o` on a port (inet_csk_bind_conflict). With SO_REUSEADDR a listener joins what does
    /// not listen, such as the connections of one that is closed.
    fn conflicts(&self, o: &Holder) -> bool {
        if self.force || !self.overlaps(o) {
            return false;
        }
        let shared = (self.reuse && o.reuse && !o.listening) || (self.reuseport && o.reuseport);
        !shared
    }
}

/// Which kind of holder, in the shard of the port: its place in [`Ports::kinds`], and one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(NonZeroU32);

impl Kind {
    fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A hold on a port, of a sock or of a time-wait record. Given back by [`BindTable::unbind`].
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    port: u16,
    kind: Kind,
}

const _: () = assert!(size_of::<Option<Bound>>() == 8);

impl Bound {
    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Socks of one kind on one port.
#[derive(Debug, Clone, Copy)]
struct Hold {
    kind: Kind,
    socks: u32,
}

/// A kind of holder, and on how many ports of the shard it is.
#[derive(Debug)]
struct Shared {
    holder: Holder,
    ports: u32,
}

/// The ports of a shard.
#[derive(Debug, Default)]
struct Ports {
    /// The first hold on each port. Mostly there is no other: of 60,000 ports that connections chose, each costs a slot
    /// of 12 bytes here.
    first: PlainMap<u16, Hold>,
    /// The others.
    more: PlainMap<u16, Vec<Hold>>,
    /// Equal holders of many ports are one, as long as it is among the recent ones.
    kinds: Slab<Shared>,
    /// Kinds that were used last, some of which may be on no port any more.
    recent: [Option<Kind>; RECENT],
    /// Which of those is the next to be forgotten.
    oldest: usize,
}

impl Ports {
    fn holder(&self, kind: Kind) -> &Holder {
        &self.kinds[kind.place()].holder
    }

    /// The holders of a port, but for one sock of kind `but`.
    #[inline]
    fn holders(&self, port: u16, but: Option<Kind>) -> impl Iterator<Item = &Holder> {
        let more = self.more.get(&port).into_iter().flatten();
        let holds = self.first.get(&port).into_iter().chain(more);
        holds.filter(move |hold| hold.socks > 1 || Some(hold.kind) != but).map(|hold| self.holder(hold.kind))
    }

    /// The kind for one more port.
    fn share(&mut self, holder: Holder) -> Kind {
        let equal = |kind: &&Option<Kind>| kind.is_some_and(|kind| *self.holder(kind) == holder);
        if let Some(&Some(kind)) = self.recent.iter().find(equal) {
            self.kinds[kind.place()].ports += 1;
            return kind;
        }
        let place = self.kinds.insert(Shared { holder, ports: 1 });
        let kind = Kind(NonZeroU32::MIN.saturating_add(place as u32));
        if let Some(forgotten) = self.recent[self.oldest].replace(kind)
            && self.kinds[forgotten.place()].ports == 0
        {
            self.kinds.remove(forgotten.place());
        }
        self.oldest = (self.oldest + 1) % RECENT;
        kind
    }

    /// The kind is on one port less.
    fn unshare(&mut self, kind: Kind) {
        let shared = &mut self.kinds[kind.place()];
        shared.ports -= 1;
        if shared.ports == 0 && !self.recent.contains(&Some(kind)) {
            self.kinds.remove(kind.place());
        }
    }

    /// One more of this kind.
    fn count(&mut self, port: u16, holder: Holder) -> Bound {
        let Some(first) = self.first.get_mut(&port) else { return self.count_first(port, holder) };
        let kinds = &self.kinds;
        let others = self.more.get_mut(&port).into_iter().flatten();
        let mut holds = std::iter::once(first).chain(others);
        if let Some(hold) = holds.find(|hold| kinds[hold.kind.place()].holder == holder) {
            hold.socks += 1;
            return Bound { port, kind: hold.kind };
        }
        let kind = self.share(holder);
        self.more.entry(port).or_default().push(Hold { kind, socks: 1 });
        Bound { port, kind }
    }

    /// The same on a port that nobody holds.
    fn count_first(&mut self, port: u16, holder: Holder) -> Bound {
        let kind = self.share(holder);
        self.first.insert(port, Hold { kind, socks: 1 });
        Bound { port, kind }
    }

    /// One less.
    fn uncount(&mut self, Bound { port, kind }: &Bound) {
        let Some(first) = self.first.get_mut(port) else { return };
        if first.kind == *kind {
            first.socks -= 1;
            if first.socks == 0 {
                match self.more.get_mut(port).and_then(Vec::pop) {
                    Some(next) => *first = next,
                    None => _ = self.first.remove(port),
                }
                self.unshare(*kind);
            }
        } else if let Some(others) = self.more.get_mut(port)
            && let Some(i) = others.iter().position(|hold| hold.kind == *kind)
        {
            others[i].socks -= 1;
            if others[i].socks == 0 {
                others.swap_remove(i);
                self.unshare(*kind);
            }
        }
        if self.more.get(port).is_some_and(Vec::is_empty) {
            self.more.remove(port);
        }
    }
}

/// The ports of a stack.
pub(crate) struct BindTable {
    shards: Vec<Padded<Mutex<Ports>>>,
    /// Calls of [`BindTable::bind_for_connect`].
    #[cfg(test)]
    pub(super) binds_for_connect: std::sync::atomic::AtomicI64,
}

impl Default for BindTable {
    fn default() -> BindTable {
        BindTable {
            shards: (0..SHARDS).map(|_| Padded::default()).collect(),
            #[cfg(test)]
            binds_for_connect: Default::default(),
        }
    }
}

impl BindTable {
    fn shard(&self, port: u16) -> MutexGuard<'_, Ports> {
        self.shards[usize::from(port) % SHARDS].lock()
    }

    fn bind_unless(&self, port: u16, holder: Holder, refuses: impl Fn(&Holder) -> bool) -> Option<Bound> {
        let mut shard = self.shard(port);
        if !shard.first.contains_key(&port) {
            return Some(shard.count_first(port, holder));
        }
        if shard.holders(port, None).any(refuses) {
            return None;
        }
        Some(shard.count(port, holder))
    }

    /// Takes a port for a binding sock unless a holder conflicts.
    pub(crate) fn bind(&self, port: u16, holder: Holder) -> Option<Bound> {
        self.bind_unless(port, holder, |o| holder.conflicts(o))
    }

    /// As `bind` for a port that the stack chooses: SO_REUSEADDR and SO_REUSEPORT do not count
    /// (inet_csk_find_open_port).
    pub(crate) fn bind_unshared(&self, port: u16, holder: Holder) -> Option<Bound> {
        self.bind_unless(port, holder, |o| holder.overlaps(o))
    }

    /// As `bind_unshared`, but SO_REUSEADDR of both counts, unless SO_REUSEPORT of both could (ip_autobind_reuse).
    pub(crate) fn bind_reused(&self, port: u16, holder: Holder) -> Option<Bound> {
        let reusable = |o: &Holder| holder.reuse && o.reuse && !o.listening && !(holder.reuseport && o.reuseport);
        self.bind_unless(port, holder, |o| holder.overlaps(o) && !reusable(o))
    }

    /// Takes a port for a connecting sock: only one that nobody bound, or that other connections chose. The caller then
    /// sees whether its 4-tuple is free.
    pub(crate) fn bind_for_connect(&self, port: u16, holder: Holder) -> Option<Bound> {
        #[cfg(test)]
        self.binds_for_connect.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.bind_unless(port, Holder { by_connect: true, ..holder }, |o| !o.by_connect)
    }

    /// As what the port is held.
    pub(crate) fn holder(&self, bound: &Bound) -> Holder {
        *self.shard(bound.port).holder(bound.kind)
    }

    /// The same hold with what it now depends on: an option, the address or the state of the sock has changed. Nothing
    /// is refused: conflicts are the concern of those who bind later.
    pub(crate) fn rehold(&self, bound: &Bound, holder: Holder) -> Bound {
        let mut shard = self.shard(bound.port);
        shard.uncount(bound);
        shard.count(bound.port, holder)
    }

    /// One more sock on a port that is held: an accepted child.
    pub(crate) fn bind_again(&self, port: u16, holder: Holder) -> Bound {
        self.shard(port).count(port, holder)
    }

    /// One more hold like this one.
    pub(crate) fn bind_also(&self, bound: &Bound) -> Bound {
        let mut shard = self.shard(bound.port);
        let holder = *shard.holder(bound.kind);
        shard.count(bound.port, holder)
    }

    /// The same hold under other flags: a bound sock begins to listen. None when that conflicts; the old hold stays.
    pub(crate) fn rebind(&self, bound: &Bound, holder: Holder) -> Option<Bound> {
        let mut shard = self.shard(bound.port);
        if shard.holders(bound.port, Some(bound.kind)).any(|o| holder.conflicts(o)) {
            return None;
        }
        shard.uncount(bound);
        Some(shard.count(bound.port, holder))
    }

    /// Gives a hold back.
    pub(crate) fn unbind(&self, bound: &Bound) {
        self.shard(bound.port).uncount(bound);
    }
}

#[cfg(test)]
mod tests;
