//! Where TCP's socks are found: connections by 4-tuple (ehash), listeners by port (lhash), and the ports that are held
//! (`bhash`). Above: `rcv` (segments), `bind`, `listen`, `connect`. Sharded: no lock is shared by all connections.
//! Linux: net/ipv4/inet_hashtables.c.

use super::bhash::BindTable;
use super::tcb::Cx;
use super::timewait::TimeWait;
use super::tw_timer::TwTimers;
use crate::base::boxed::boxed_array;
use crate::base::hash::{PlainMap, Tuple, addr128};
use crate::base::padded::Padded;
use crate::base::probing::Probing;
use crate::base::ways::Way;
use crate::sock::filter::Packet;
use crate::sock::packet::PacketInfo;
use crate::sock::reuseport::{self, Membership, ReuseGroup};
use crate::sock::skb::Skb;
use crate::sock::{Sock, SockCommon, flag};
use crate::stack::Stack;
use crate::sys::lock::{Mutex, RwLock};
use std::net::IpAddr;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};

/// Shards of the established table; a power of two.
const ESHARDS: usize = 256;
/// Shards of the table of listeners.
const PSHARDS: usize = 64;

/// What a 4-tuple leads to.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A connection, and the device that it is bound to (SO_BINDTODEVICE); 0: any.
    Sock(Arc<Sock>, u32),
    /// A request whose SYN-ACK is out: the listener that keeps it, and the device of the request.
    Request(Arc<Sock>, u32),
    /// A closed connection that waits (RFC 9293 §3.6.1).
    TimeWait(Arc<TimeWait>),
}

impl Entry {
    /// Whether a packet that arrived by a device is its own (inet_sk_bound_dev_eq).
    fn takes_from(&self, ifindex: u32) -> bool {
        let bound = match self {
            Entry::Sock(_, bound) | Entry::Request(_, bound) => *bound,
            Entry::TimeWait(tw) => tw.oif(),
        };
        bound == 0 || bound == ifindex
    }

    /// It is in the table under this hash; the shard is locked.
    fn is_entered(&self, key: u64) {
        if let Entry::Sock(sock, bound) = self {
            sock.set_found_by(if *bound == 0 { key } else { 0 });
        }
    }

    /// It no longer is.
    fn has_left(&self) {
        if let Entry::Sock(sock, _) = self {
            sock.set_found_by(0);
        }
    }
}

/// A slot is a hash and a pointer. The hash stands for its 4-tuple: it has 64 bits and a secret key, so that of 10^6
/// connections two have the same with a probability of 3 * 10^-8, and nobody can choose such a pair. Of those two the
/// second is refused, as if its 4-tuple were taken.
///
/// The shard is chosen by the lowest bits, the slot in it by the highest.
type Map = Probing<Entry>;

/// A listener in the table; has what lookup needs, so that lookup locks no sock.
#[derive(Clone)]
struct Listening {
    sock: Arc<Sock>,
    addr: IpAddr,
    v6only: bool,
    ifindex: u32,
    /// Its SO_REUSEPORT group.
    group: Option<Arc<ReuseGroup>>,
}

/// TCP's tables.
pub struct TcpTables {
    ehash: Box<[Padded<Mutex<Map>>; ESHARDS]>,
    lhash: Vec<RwLock<PlainMap<u16, Vec<Listening>>>>,
    /// Ports that are held.
    pub(super) bhash: BindTable,
    /// Time-wait records that exist (tw_refcount).
    pub(super) tw_count: Padded<AtomicI64>,
    /// When they end.
    pub(super) tw_timers: TwTimers,
    /// What ICMP said of the path MTU to socks that were owned at the time: sequence number quoted, MTU.
    mtu_news: Mutex<Vec<(Arc<Sock>, crate::wire::seq::SeqNum, u32)>>,
}

/// Path MTUs that wait for the owner of their sock, at most; more are dropped.
const MTU_NEWS: usize = 256;

/// The tuple of a received packet: ours first.
pub fn tuple_of(info: &PacketInfo, src_port: u16, dst_port: u16) -> Tuple {
    Tuple { saddr: addr128(info.dst), sport: dst_port, daddr: addr128(info.src), dport: src_port }
}

/// Its hash ([`Keys::ehash64`](crate::base::hash::Keys::ehash64)).
#[inline(always)]
pub(super) fn flow_of(stack: &Stack, info: &PacketInfo, (sport, dport): (u16, u16)) -> u64 {
    stack.keys.ehash64_of((info.dst, dport), (info.src, sport))
}

/// The tuple of a connected sock.
pub fn tuple_of_sock(sk: &SockCommon) -> Tuple {
    Tuple { saddr: addr128(sk.saddr), sport: sk.sport, daddr: addr128(sk.daddr), dport: sk.dport }
}

/// The hash under which the peer of a connected sock is found, if it is on this stack. It is kept: whoever gives the
/// sock other addresses or ports sets `peer_hash` to 0.
#[inline]
pub(super) fn hash_of_peer(cx: &mut Cx<'_>) -> u64 {
    let sk = &*cx.sk;
    let ask = || cx.stack.keys.ehash64_of((sk.daddr, sk.dport), (sk.saddr, sk.sport));
    if cx.tp.peer_hash == 0 {
        cx.tp.peer_hash = ask();
    }
    debug_assert_eq!(cx.tp.peer_hash, ask(), "of the present 4-tuple");
    cx.tp.peer_hash
}

/// The sock that receives what this one sends under `hash`, if it was noted and is still found by it. Otherwise the
/// receiver is looked up, which among many connections is to wait for a line of the table. A sock that has ended is
/// freed, but for its memory, while another one has it noted.
#[inline(never)]
pub(super) fn receiver_of(cx: &mut Cx<'_>, hash: u64) -> Option<Arc<Sock>> {
    let receiver = cx.tp.receiver.as_ref()?.upgrade().filter(|sock| sock.is_found_by(hash));
    if receiver.is_none() {
        cx.tp.receiver = None;
        cx.sock.forget_peer();
    }
    receiver
}

/// Its hash ([`Keys::ehash64`](crate::base::hash::Keys::ehash64)).
pub(super) fn hash_of_sock(stack: &Stack, sk: &SockCommon) -> u64 {
    stack.keys.ehash64_of((sk.saddr, sk.sport), (sk.daddr, sk.dport))
}

impl Default for TcpTables {
    fn default() -> Self {
        TcpTables {
            ehash: boxed_array(|_| Padded::default()),
            lhash: (0..PSHARDS).map(|_| RwLock::default()).collect(),
            bhash: BindTable::default(),
            tw_count: Padded::default(),
            tw_timers: TwTimers::default(),
            mtu_news: Mutex::default(),
        }
    }
}

impl TcpTables {
    fn eshard(&self, hash: u64) -> &Mutex<Map> {
        &self.ehash[hash as usize % ESHARDS]
    }

    /// The entry of a 4-tuple.
    pub fn established(&self, stack: &Stack, tuple: &Tuple) -> Option<Entry> {
        let key = stack.keys.ehash64(tuple);
        self.eshard(key).lock().get(key).cloned()
    }

    /// The same for a packet that arrived by device `ifindex`: what is bound to another one is not found
    /// (__inet_lookup_established).
    pub fn established_from(&self, stack: &Stack, tuple: &Tuple, ifindex: u32) -> Option<Entry> {
        self.by_hash(stack.keys.ehash64(tuple), ifindex)
    }

    /// The same by the hash of the 4-tuple.
    #[inline(always)]
    pub(super) fn by_hash(&self, key: u64, ifindex: u32) -> Option<Entry> {
        let shard = self.eshard(key).lock();
        let entry = shard.get(key).filter(|entry| entry.takes_from(ifindex))?;
        if let Entry::Sock(sock, _) = entry {
            sock.prefetch_receiver();
        }
        Some(entry.clone())
    }

    /// What [`TcpTables::by_hash`] finds, of the sock that its sender says receives the segment. None: to be looked up.
    #[inline(never)]
    pub(super) fn by_sender(receiver: Option<Arc<Sock>>, key: u64) -> Option<Arc<Sock>> {
        let sock = receiver.filter(|sock| Way::Told.is_open() && sock.is_found_by(key))?;
        Way::Told.taken();
        sock.prefetch_receiver();
        Some(sock)
    }

    /// SO_BINDTODEVICE of a connection has changed.
    pub fn rebind_device(&self, stack: &Stack, sock: &Arc<Sock>, sk: &SockCommon) {
        let key = hash_of_sock(stack, sk);
        let mut shard = self.eshard(key).lock();
        if let Some(entry) = shard.get_mut(key)
            && let Entry::Sock(found, bound) = entry
            && Arc::ptr_eq(found, sock)
        {
            *bound = sk.bound_dev_if;
            entry.is_entered(key);
        }
    }

    /// A segment to the peer of a connection is about to be sent. If the peer is on this stack too, prefetches the line
    /// in which the segment's receiver will be looked up, and returns the key.
    #[inline]
    pub(super) fn prefetch_entry(&self, stack: &Stack, sk: &SockCommon) -> Option<u64> {
        if !sk.dst.as_ref()?.dev.is_loopback() {
            return None;
        }
        let own = tuple_of_sock(sk);
        let peer = Tuple { saddr: own.daddr, sport: own.dport, daddr: own.saddr, dport: own.sport };
        let key = stack.keys.ehash64(&peer);
        self.prefetch_slot(key).then_some(key)
    }

    /// Prefetches the line in which a 4-tuple of this hash will be looked up. False: another thread has the shard.
    #[inline]
    pub(super) fn prefetch_slot(&self, key: u64) -> bool {
        self.eshard(key).try_lock().map(|shard| shard.prefetch(key)).is_some()
    }

    /// A segment with this hash will be received soon: prefetches its sock. Not the program's handle, whose address is
    /// in the sock: to read it would be to wait for what is being fetched.
    pub(super) fn prefetch_sock(&self, key: u64) {
        if let Some(shard) = self.eshard(key).try_lock()
            && let Some(Entry::Sock(sock, _)) = shard.get(key)
        {
            sock.prefetch();
        }
    }

    /// The segment was sent: prefetches its receiver's sock, and notes it for the sender. Some: the sender may from now
    /// on say who receives its segments.
    #[cold]
    pub(super) fn prefetch_receiver_of(&self, key: u64, sender: &Sock) -> Option<Weak<Sock>> {
        let shard = self.eshard(key).try_lock()?;
        let Some(Entry::Sock(sock, _)) = shard.get(key) else { return None };
        sock.prefetch();
        sender.note_peer(sock);
        sock.is_found_by(key).then(|| Arc::downgrade(sock))
    }

    /// Whether a tuple, of which this is the hash, has an entry that `replace` refuses to replace: `insert` would fail
    /// now.
    pub(super) fn is_taken(&self, key: u64, replace: impl FnOnce(&Entry) -> bool) -> bool {
        self.eshard(key).lock().get(key).is_some_and(|old| !replace(old))
    }

    /// Enters a tuple by its hash ([`Keys::ehash64`](crate::base::hash::Keys::ehash64)); false, and no change, when it
    /// is taken and `replace` refuses to replace the present entry.
    pub fn insert(&self, key: u64, entry: Entry, replace: impl FnOnce(&Entry) -> bool) -> bool {
        let mut map = self.eshard(key).lock();
        match map.get(key) {
            Some(old) if !replace(old) => return false,
            Some(old) => old.has_left(),
            None => {}
        }
        entry.is_entered(key);
        let old = map.insert(key, entry);
        drop(map);
        // What was replaced may be freed here: outside the shard's lock.
        drop(old);
        true
    }

    /// Removes a tuple, of which this is the hash, if `which` says the entry is the caller's.
    pub fn remove(&self, key: u64, which: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let mut map = self.eshard(key).lock();
        let gone = if map.get(key).is_some_and(which) { map.remove(key) } else { None };
        if let Some(gone) = &gone {
            gone.has_left();
        }
        gone
    }

    /// Lets go of every sock: the stack ends.
    pub(super) fn clear(&self) {
        // Dropping a sock may look at the tables, so no shard is locked meanwhile.
        for shard in self.ehash.iter() {
            drop(std::mem::take(&mut *shard.lock()));
        }
        for shard in &self.lhash {
            drop(std::mem::take(&mut *shard.write()));
        }
        self.tw_timers.clear();
        drop(std::mem::take(&mut *self.mtu_news.lock()));
    }

    /// Number of entries, and heap bytes of the table: for listings and the memory benchmark.
    pub fn established_len(&self) -> (usize, usize) {
        self.ehash.iter().fold((0, 0), |(n, b), s| {
            let m = s.lock();
            (n + m.len(), b + m.bytes())
        })
    }

    /// All entries (diagnostics).
    pub fn established_all(&self) -> Vec<Entry> {
        self.ehash.iter().flat_map(|s| s.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    fn lshard(&self, port: u16) -> &RwLock<PlainMap<u16, Vec<Listening>>> {
        &self.lhash[port as usize % PSHARDS]
    }

    /// Enters a listener, whose address and flags are in `sk`.
    pub fn listen(&self, sock: &Arc<Sock>, sk: &SockCommon) {
        let (addr, v6only, ifindex) = (sk.rcv_saddr, sk.flag(flag::V6ONLY), sk.bound_dev_if);
        let mut shard = self.lshard(sk.sport).write();
        let list = shard.entry(sk.sport).or_default();
        let mates = |l: &&Listening| (l.addr, l.v6only, l.ifindex) == (addr, v6only, ifindex);
        let mate = list.iter().filter(mates).find_map(|l| l.group.as_ref());
        let group = reuseport::enter(sk, mate);
        group.iter().for_each(|g| g.join(sock));
        list.push(Listening { sock: sock.clone(), addr, v6only, ifindex, group });
    }

    /// Of which SO_REUSEPORT group a listener is.
    pub(crate) fn reuseport(&self, sock: &Arc<Sock>, port: u16) -> Membership {
        let shard = self.lshard(port).read();
        let found = shard.get(&port).and_then(|list| list.iter().find(|l| Arc::ptr_eq(&l.sock, sock)));
        match found {
            Some(l) => l.group.clone().map_or(Membership::Alone, Membership::Of),
            None => Membership::Unhashed,
        }
    }

    /// SO_BINDTODEVICE of a listener has changed.
    pub fn relisten(&self, sock: &Arc<Sock>, sk: &SockCommon) {
        let mut shard = self.lshard(sk.sport).write();
        let list = shard.get_mut(&sk.sport).map(|l| l.iter_mut()).into_iter().flatten();
        list.filter(|l| Arc::ptr_eq(&l.sock, sock)).for_each(|l| l.ifindex = sk.bound_dev_if);
    }

    /// Removes a listener. Returns the group that it leaves.
    pub fn unlisten(&self, sock: &Arc<Sock>, port: u16) -> Option<Arc<ReuseGroup>> {
        let mut left = None;
        let mut shard = self.lshard(port).write();
        if let Some(list) = shard.get_mut(&port) {
            list.retain_mut(|l| {
                let stays = !Arc::ptr_eq(&l.sock, sock);
                if !stays {
                    left = l.group.take();
                }
                stays
            });
            if list.is_empty() {
                shard.remove(&port);
            }
        }
        left.iter().for_each(|group| group.leave(sock));
        left
    }

    /// The listener for a packet: the most specific one; among equal ones with SO_REUSEPORT their program chooses, or
    /// the flow's hash (inet_lookup_listener, compute_score).
    pub fn listener(
        &self,
        stack: &Stack,
        info: &PacketInfo,
        (src_port, dst_port): (u16, u16),
        skb: &Skb,
    ) -> Option<Arc<Sock>> {
        let shard = self.lshard(dst_port).read();
        let list = shard.get(&dst_port)?;
        let score = |l: &Listening| -> Option<u32> {
            if l.ifindex != 0 && l.ifindex != info.ifindex {
                return None;
            }
            let mut s = 1 + (l.ifindex != 0) as u32 + l.sock.prefers_this_cpu() as u32;
            match (l.addr, info.dst) {
                (a, d) if a == d => s += 8,
                (IpAddr::V4(a), IpAddr::V4(_)) if a.is_unspecified() => s += 2,
                (IpAddr::V6(a), IpAddr::V6(_)) if a.is_unspecified() => s += 2,
                (IpAddr::V6(a), IpAddr::V4(_)) if a.is_unspecified() && !l.v6only => s += 1,
                _ => return None,
            }
            Some(s)
        };
        if let [only] = &list[..]
            && only.group.is_none()
        {
            return score(only).map(|_| only.sock.clone());
        }
        let best = list.iter().filter_map(score).max()?;
        let mut group = list.iter().filter(|l| score(l) == Some(best));
        let n = group.clone().count();
        let programmed = group.clone().next().and_then(|l| l.group.as_ref());
        let header = skb.tcp.header_len();
        let packet = Packet { stack, skb, info: Some(info), header, hidden: header };
        if let Some(chosen) = programmed.and_then(|g| g.choose(&packet)) {
            return Some(chosen);
        }
        if n > 1 && group.clone().all(|l| l.group.is_some()) {
            let h = stack.keys.ehash(&tuple_of(info, src_port, dst_port));
            return group.nth(((h as u64 * n as u64) >> 32) as usize).map(|l| l.sock.clone());
        }
        group.next().map(|l| l.sock.clone())
    }

    /// All listeners (diagnostics).
    pub fn listeners_all(&self) -> Vec<(u16, Arc<Sock>)> {
        let all = |s: &RwLock<PlainMap<u16, Vec<Listening>>>| {
            s.read()
                .iter()
                .flat_map(|(p, l)| l.iter().map(|x| (*p, x.sock.clone())).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        self.lhash.iter().flat_map(all).collect()
    }

    /// Keeps what ICMP said about the path of an owned sock (mtu_info).
    pub(super) fn note_mtu(&self, sock: &Arc<Sock>, seq: crate::wire::seq::SeqNum, mtu: u32) {
        let mut news = self.mtu_news.lock();
        if news.len() < MTU_NEWS {
            news.push((sock.clone(), seq, mtu));
        }
    }

    /// Takes what was kept for a sock.
    pub(super) fn take_mtu(&self, sock: &Arc<Sock>) -> Vec<(crate::wire::seq::SeqNum, u32)> {
        let mut mine = Vec::new();
        self.mtu_news.lock().retain(|(s, seq, mtu)| {
            let other = !Arc::ptr_eq(s, sock);
            if !other {
                mine.push((*seq, *mtu));
            }
            other
        });
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ways::testing::count;
    use crate::net::{TcpListener, TcpStream};
    use crate::sock::crowd;
    use crate::tcp::tcb::TcpSock;
    use std::io::{Read, Write};

    #[test]
    fn among_many_connections_the_receiver_of_a_segment_to_this_machine_is_foreseen() {
        let stack = crate::config::build("").unwrap();
        let listener = TcpListener::bind_on(&stack, "127.0.0.1:0").unwrap();
        let a = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
        let (b, _) = listener.accept().unwrap();
        let (net, many) = (crate::tcp::net::of(&stack).unwrap(), 600);
        let idle: Vec<_> =
            (0..many).map(|_| crate::inet::create(&stack, libc::AF_INET, libc::SOCK_STREAM, 0)).collect();
        assert!(idle.iter().all(|sock| sock.is_ok()));
        let (t, of_a, of_b) = (&net.hashinfo, a.socket().sock(), b.socket().sock());
        let key = t.prefetch_entry(&stack, &of_a.lock(&stack).common).expect("they are many");
        assert!(matches!(t.eshard(key).lock().get(key), Some(Entry::Sock(found, _)) if Arc::ptr_eq(found, of_b)));
        assert!(!of_a.peer_is(of_b));
        (&a).write_all(b"x").unwrap();
        assert!(of_a.peer_is(of_b) && !of_b.handle_is(&**b.socket()));
        (&b).read_exact(&mut [0]).unwrap();
        assert!(of_b.handle_is(&**b.socket()));
    }

    /// The sock to which an end's sends have noted that its segments go.
    fn receiver(of: &TcpStream) -> Option<Arc<Sock>> {
        let socket = of.socket();
        let g = socket.sock().lock(socket.stack());
        g.private.downcast_ref::<TcpSock>()?.receiver.as_ref()?.upgrade()
    }

    /// Sends a byte, which arrives; how many segments were received without the table meanwhile.
    fn told(mut from: &TcpStream, mut to: &TcpStream) -> u32 {
        let before = count(Way::Told);
        from.write_all(b"x").unwrap();
        to.read_exact(&mut [0]).unwrap();
        count(Way::Told) - before
    }

    #[test]
    fn a_sender_names_its_receiver_as_long_as_the_table_leads_to_it_from_any_device() {
        let _many = crowd::pretend();
        let stack = crate::config::build("").unwrap();
        let listener = TcpListener::bind_on(&stack, "127.0.0.1:0").unwrap();
        let a = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
        let (b, _) = listener.accept().unwrap();
        let is_b = |sock: Option<Arc<Sock>>| sock.is_some_and(|sock| Arc::ptr_eq(&sock, b.socket().sock()));
        // The first send notes it.
        assert_eq!(told(&a, &b), 0);
        assert!(is_b(receiver(&a)));
        assert_eq!(told(&a, &b), 1);
        // Bound to a device it receives only from that one, which the table says.
        let bind = |name: &[u8]| b.socket().setsockopt(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name).unwrap();
        bind(b"lo");
        assert_eq!(told(&a, &b), 0);
        assert!(receiver(&a).is_none());
        bind(b"");
        assert_eq!((told(&a, &b), told(&a, &b)), (0, 1));
        // Nothing holds a sock that has ended.
        let of_b = Arc::downgrade(b.socket().sock());
        b.socket().setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        drop(b);
        assert!(of_b.upgrade().is_none() && receiver(&a).is_none());
        assert_eq!((&a).write(b"x").unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}
