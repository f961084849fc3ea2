//! Routes: longest prefix match for both families, local and broadcast addresses, and a cache of resolved destinations.
//! How addresses and routes come and go is in `change`, which address packets come from in `select`. Above: transports
//! (which keep the `Arc<Dst>` and compare its generation), `output`, `input` (is this address ours). Below: `netdev`.
//! Linux: net/ipv4/{route, fib_semantics}.c, net/ipv6/route.c; RFC 1122 §3.3.1.
//!
//! One table a family is searched by prefix length, longest first, one hash lookup a length that occurs: the cost does
//! not grow with the number of routes. Before it stands the table of local and broadcast prefixes, as Linux's table
//! `local`.

use super::net;
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::base::hash::PlainMap;
use crate::base::padded::Padded;
use crate::counters::{Mib, SHARDS, shard_index};
use crate::device::netdev::{LOOPBACK_IFINDEX, NetDev};
use crate::sock::dst::{Dst, DstKind, LastPort, PairHashes, RouteMetrics};
use crate::stack::{Stack, TimerSlot};
use crate::sys::lock::{Mutex, RwLock};
use crate::sys::near::near_local;
use crate::wire::addr::Cidr;
use crate::wire::ipv6;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod change;
mod select;

pub use change::{add_address, add_route, del_address, del_route, replace_route};
pub(super) use change::{add_address_alone, add_link_local, del_address_alone, del_exact};
use select::select_source;

/// Destinations a thread's cache remembers; a full one is emptied, which bounds the memory that spoofed destinations
/// take.
const SHARD_MAX: usize = 1024;
/// Largest datagram of IPv4 (IP_MAX_MTU) and of IPv6 without jumbograms (IP6_MAX_MTU), bytes.
const MAX_MTU: (u32, u32) = (65_535, 65_535 + ipv6::HEADER_LEN as u32);
/// Metric of IPv6 routes that name none (IP6_RT_PRIO_USER) and of prefix routes (IP6_RT_PRIO_ADDRCONF).
const METRIC_V6: (u32, u32) = (1024, 256);

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RouteKind {
    /// Sends them by its device.
    #[default]
    Unicast,
    /// Delivers them here (`ip route add local`).
    Local,
    /// EHOSTUNREACH.
    Unreachable,
    /// EINVAL, as Linux says of a blackhole.
    Blackhole,
    /// EACCES.
    Prohibit,
}

/// A route to add, with the attributes of `ip route`. Zero, `None` and `false` mean "not given".
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RouteSpec {
    /// Destination prefix; host bits are ignored.
    pub dst: Cidr,
    /// What it does.
    pub kind: RouteKind,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Device; may be absent when a gateway is given that another route reaches.
    pub dev: Option<Arc<NetDev>>,
    /// Preferred source address.
    pub src: Option<IpAddr>,
    /// Metric: the least of equal prefixes wins.
    pub metric: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// The MTU is locked.
    pub mtu_lock: bool,
    /// Congestion control.
    pub congctl: Option<Arc<str>>,
    /// Other metrics.
    pub metrics: RouteMetrics,
}

impl RouteSpec {
    /// A unicast route without attributes.
    pub fn new(dst: Cidr) -> RouteSpec {
        RouteSpec {
            dst,
            kind: RouteKind::Unicast,
            gateway: None,
            dev: None,
            src: None,
            metric: 0,
            mtu: 0,
            mtu_lock: false,
            congctl: None,
            metrics: RouteMetrics::default(),
        }
    }

    /// The same by a device.
    pub fn via_dev(mut self, dev: &Arc<NetDev>) -> RouteSpec {
        self.dev = Some(dev.clone());
        self
    }

    /// The same by a next hop.
    pub fn via(mut self, gateway: IpAddr) -> RouteSpec {
        self.gateway = Some(gateway);
        self
    }
}

/// A path MTU that ICMP reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exception {
    pub mtu: u32,
    /// Reported below the floor: the floor is used, and DF is not set.
    pub locked: bool,
    pub expires: Instant,
}

/// Those of a stack, by destination; `exception` learns them.
#[derive(Default)]
pub(super) struct Exceptions {
    pub map: HashMap<IpAddr, Exception>,
    pub timer: TimerSlot,
}

/// Prefix length → network → routes by ascending metric.
#[derive(Default)]
struct Prefixes {
    /// Lengths that occur, longest first.
    lengths: Vec<u8>,
    map: HashMap<(u8, IpAddr), Vec<Arc<RouteSpec>>>,
}

impl Prefixes {
    fn find(&self, ip: IpAddr, mut fits: impl FnMut(&RouteSpec) -> bool) -> Option<&Arc<RouteSpec>> {
        self.lengths.iter().find_map(|&len| {
            let net = Cidr::new(ip, len)?.network();
            self.map.get(&(len, net))?.iter().find(|r| fits(r))
        })
    }

    fn insert(&mut self, route: RouteSpec, replace: bool) -> Result<()> {
        let route = Arc::new(RouteSpec { dst: route.dst.trunc(), ..route });
        let key = (route.dst.prefix(), route.dst.addr());
        let list = self.map.entry(key).or_default();
        let twin = list.iter().position(|r| {
            r.metric == route.metric && (replace || (same_dev(&r.dev, &route.dev) && r.gateway == route.gateway))
        });
        match twin {
            Some(_) if !replace => return Err(Error::Exist),
            Some(i) => list[i] = route,
            None => {
                let at = list.partition_point(|r| r.metric <= route.metric);
                list.insert(at, route);
            }
        }
        if !self.lengths.contains(&key.0) {
            self.lengths.push(key.0);
            self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        Ok(())
    }

    /// Removes the routes for which `gone` is true; returns how many.
    fn remove(&mut self, mut gone: impl FnMut(&RouteSpec) -> bool) -> usize {
        let mut n = 0;
        self.map.retain(|_, list| {
            let before = list.len();
            list.retain(|r| !gone(r));
            n += before - list.len();
            !list.is_empty()
        });
        let map = &self.map;
        self.lengths.retain(|len| map.keys().any(|k| k.0 == *len));
        n
    }
}

fn same_dev(a: &Option<Arc<NetDev>>, b: &Option<Arc<NetDev>>) -> bool {
    a.as_ref().map(|d| d.ifindex) == b.as_ref().map(|d| d.ifindex)
}

#[derive(Default)]
struct Inner {
    v4: Prefixes,
    v6: Prefixes,
    /// Local prefixes of both families: /32 and /128, but for a loopback device's IPv4 networks.
    local: Prefixes,
    /// Directed broadcast addresses, with their device and the address whose network it is.
    broadcast: HashMap<Ipv4Addr, Vec<(Arc<NetDev>, Ipv4Addr)>>,
    /// `net.ipv6.conf.all.disable_ipv6`: no address of IPv6 is here.
    no_v6: bool,
}

impl Inner {
    fn table(&self, ip: IpAddr) -> &Prefixes {
        if ip.is_ipv4() { &self.v4 } else { &self.v6 }
    }
    /// The local prefix an address is of. A broadcast address inside a loopback device's network is none of them.
    fn local_to(&self, ip: IpAddr) -> Option<&Arc<RouteSpec>> {
        let found = self.local.find(ip, |_| true)?;
        match ip {
            IpAddr::V6(_) if self.no_v6 => None,
            IpAddr::V4(a) if found.dst.prefix() < 32 && self.broadcast.contains_key(&a) => None,
            _ => Some(found),
        }
    }
    fn table_mut(&mut self, ip: IpAddr) -> &mut Prefixes {
        if ip.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// What is looked up: the destination, our address if it is given, and the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    dst: IpAddr,
    src: Option<IpAddr>,
    oif: u32,
}

impl Asked {
    /// Its place in [`DstCache::few`].
    fn place(&self) -> usize {
        (low_bits(self.dst) as usize * 2 + usize::from(self.src.is_some())) % FEW
    }
}

/// The same with its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CacheKey {
    hash: u32,
    asked: Asked,
}

impl CacheKey {
    fn new(stack: &Stack, asked: Asked) -> CacheKey {
        CacheKey { hash: stack.keys.route_hash(asked.dst, asked.src, asked.oif), asked }
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.hash);
    }
}

/// Destinations by what was looked up.
#[derive(Default)]
struct DstCache {
    map: PlainMap<CacheKey, Arc<Dst>>,
    /// Some of them by a few bits, those that were found last: for who has few destinations.
    few: [Option<(Asked, Arc<Dst>)>; FEW],
}

/// A power of two.
const FEW: usize = 4;

/// The routes of a stack.
pub struct Routes {
    /// Identifies this table among all of the process, for the cache of each thread.
    id: u64,
    inner: Padded<RwLock<Inner>>,
    /// What was looked up lately, for each thread: a destination's reference count is then its own. Linux:
    /// nhc_pcpu_rth_output.
    cache: Vec<Padded<Mutex<DstCache>>>,
    pub(super) exceptions: Padded<Mutex<Exceptions>>,
}

/// The kind of an address, as input sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressee {
    /// One of ours.
    Local,
    /// The limited broadcast or a directed one of this link.
    Broadcast,
    /// A group.
    Multicast,
    /// Another host's.
    Other,
}

/// The kinds of the two addresses of an arriving packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    /// The source is an address of ours.
    pub src_local: bool,
    /// What the destination is.
    pub to: Addressee,
}

/// Route tables made so far.
static TABLES: AtomicU64 = AtomicU64::new(1);

/// Address pairs whose [`Input`] a thread caches, because most packets have the addresses of one of the packets before.
/// Linux's early demux saves the same lookup.
const REMEMBERED: usize = 16;

/// Table, its generation, source, destination, interface.
type InputKey = (u64, u64, IpAddr, IpAddr, u32);

/// Table, its generation, address.
type LocalKey = (u64, u64, IpAddr);

near_local! {
    static RECENT at RoutesIn: RefCell<[Option<(InputKey, Input)>; REMEMBERED]> = RefCell::new([None; REMEMBERED]);
}
near_local! {
    static LOCAL at Locals: RefCell<[Option<(LocalKey, bool)>; REMEMBERED]> = RefCell::new([None; REMEMBERED]);
}

fn low_bits(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(a) => u32::from(a),
        IpAddr::V6(a) => u128::from(a) as u32,
    }
}

impl Routes {
    pub(super) fn new() -> Routes {
        Routes {
            id: TABLES.fetch_add(1, Ordering::Relaxed),
            inner: Padded::default(),
            cache: (0..SHARDS).map(|_| Padded::default()).collect(),
            exceptions: Padded::default(),
        }
    }

    fn shard(&self) -> &Mutex<DstCache> {
        &self.cache[shard_index() % SHARDS]
    }

    /// What the addresses of a packet that arrived by interface `ifindex` are. It is called for each packet, so each
    /// thread caches the result until the tables change.
    pub(crate) fn input(&self, stack: &Stack, src: IpAddr, dst: IpAddr, ifindex: u32) -> Input {
        let key = (self.id, stack.rt_genid(), src, dst, ifindex);
        let mix = (low_bits(src) ^ low_bits(dst).rotate_left(7)).wrapping_mul(0x9e37_79b1);
        let place = (mix >> 16) as usize % REMEMBERED;
        let ask = || Input { src_local: self.is_local(src), to: self.addressee(dst, ifindex) };
        let remembered = RECENT.try_with(|recent| {
            let slot = &mut recent.borrow_mut()[place];
            match slot {
                Some((of, input)) if *of == key => *input,
                _ => slot.insert((key, ask())).1,
            }
        });
        // A thread that is ending has no cache.
        remembered.unwrap_or_else(ask)
    }

    /// What a destination address of an arriving packet is.
    pub(crate) fn addressee(&self, ip: IpAddr, ifindex: u32) -> Addressee {
        match ip {
            IpAddr::V4(a) if a.is_broadcast() => return Addressee::Broadcast,
            _ if ip.is_multicast() => return Addressee::Multicast,
            _ => {}
        }
        let inner = self.inner.read();
        if inner.local_to(ip).is_some() {
            return Addressee::Local;
        }
        match ip {
            IpAddr::V4(a) if inner.broadcast.get(&a).is_some_and(|l| l.iter().any(|d| d.0.ifindex == ifindex)) => {
                Addressee::Broadcast
            }
            _ => Addressee::Other,
        }
    }

    /// Whether packets to this address are delivered here: bind(2)'s question.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.inner.read().local_to(ip).is_some()
    }

    /// Turns IPv6 off, and on again with the addresses that there are. The caller invalidates what is cached.
    pub(super) fn disable_ipv6(&self, on: bool) {
        self.inner.write().no_v6 = on;
    }

    /// Whether it is another host's address: neither ours, a group's nor a broadcast. Linux: inet_addr_type's
    /// RTN_UNICAST.
    pub fn is_other(&self, a: Ipv4Addr) -> bool {
        !a.is_multicast() && !a.is_unspecified() && !self.is_broadcast(a.into()) && !self.is_local(a.into())
    }

    /// Whether it is a broadcast address of some interface, or the limited one.
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(a) => a.is_broadcast() || self.inner.read().broadcast.contains_key(&a),
            IpAddr::V6(_) => false,
        }
    }
}

/// Every route of the stack, the local ones after the others.
pub fn list(stack: &Stack) -> Vec<RouteSpec> {
    let inner = net(stack).routes.inner.read();
    let mut out = Vec::new();
    for table in [&inner.v4, &inner.v6, &inner.local] {
        let mut keys: Vec<_> = table.map.keys().collect();
        keys.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        out.extend(keys.into_iter().flat_map(|k| table.map[k].iter().map(|r| (**r).clone())));
    }
    out
}

/// Whether packets to this address are delivered here: bind(2)'s question, and that of each datagram received, so each
/// thread caches the answers until the tables change.
pub fn is_local(stack: &Stack, ip: IpAddr) -> bool {
    let routes = &net(stack).routes;
    let key = (routes.id, stack.rt_genid(), ip);
    let place = (low_bits(ip).wrapping_mul(0x9e37_79b1) >> 16) as usize % REMEMBERED;
    let remembered = LOCAL.try_with(|recent| {
        let slot = &mut recent.borrow_mut()[place];
        match slot {
            Some((of, local)) if *of == key => *local,
            _ => slot.insert((key, routes.is_local(ip))).1,
        }
    });
    remembered.unwrap_or_else(|| routes.is_local(ip))
}

/// The device that has an address of this host; the loopback device has all of its network (__ip_dev_find).
pub(super) fn device_of(stack: &Stack, ip: IpAddr) -> Option<Arc<NetDev>> {
    net(stack).routes.inner.read().local_to(ip)?.dev.clone()
}

/// The route to `dst`. `src`: the address the socket is bound to; `oif`: interface it is bound to, 0 for any. Errors:
/// ENETUNREACH without a route, EHOSTUNREACH, EACCES, EINVAL by routes that say so, ENETDOWN, EADDRNOTAVAIL never (an
/// unset source shows as the unspecified address). Fast when asked before in the same generation. Linux:
/// ip_route_output_key, ip6_route_output.
pub fn lookup(stack: &Arc<Stack>, dst: IpAddr, src: Option<IpAddr>, oif: u32) -> Result<Arc<Dst>> {
    lookup_for_answer(stack, dst, src, oif).inspect_err(|_| {
        stack.mib.inc(if dst.is_ipv4() { Mib::IpOutNoRoutes } else { Mib::Ip6OutNoRoutes });
    })
}

/// As [`lookup`], for an answer of the stack itself: that there is none is not counted.
pub(crate) fn lookup_for_answer(stack: &Arc<Stack>, dst: IpAddr, src: Option<IpAddr>, oif: u32) -> Result<Arc<Dst>> {
    let routes = &net(stack).routes;
    let src = src.filter(|s| !s.is_unspecified());
    let asked = Asked { dst, src, oif };
    let generation = stack.rt_genid();
    {
        let cache = routes.shard().lock();
        let few = cache.few[asked.place()].as_ref().filter(|(of, _)| *of == asked).map(|(_, d)| d);
        if let Some(d) = few.or_else(|| cache.map.get(&CacheKey::new(stack, asked)))
            && d.generation == generation
        {
            return Ok(d.clone());
        }
    }
    let found = Arc::new(resolve(stack, dst, src, oif, generation)?);
    let mut cache = routes.shard().lock();
    if cache.map.len() >= SHARD_MAX {
        *cache = DstCache::default();
    }
    cache.map.insert(CacheKey::new(stack, asked), found.clone());
    cache.few[asked.place()] = Some((asked, found.clone()));
    Ok(found)
}

/// SO_DONTROUTE, MSG_DONTROUTE: refuses a route through a gateway. IPv6 ignores both, as in Linux (ip_sock_rt_scope).
pub(crate) fn on_link(stack: &Stack, dst: &Dst) -> Result<()> {
    if dst.gateway.is_none() || dst.src.is_ipv6() {
        return Ok(());
    }
    stack.mib.inc(Mib::IpOutNoRoutes);
    Err(Error::NetUnreach)
}

/// What a destination stands for: the unspecified address means this host, as in BSD and Linux. Over IPv4 that is the
/// address the packet comes from: `src`, else one of the interface `oif`, else 127.0.0.1
/// (ip_route_output_key_hash_rcu); over IPv6 it is ::1 (udpv6_sendmsg, ip6_datagram_connect). Any other address stands
/// for itself. A packet carries what is returned, never the unspecified address: its destination would drop it
/// (RFC 1122 §3.2.1.3).
pub(crate) fn this_host(stack: &Stack, dst: IpAddr, src: Option<IpAddr>, oif: u32) -> IpAddr {
    match dst {
        IpAddr::V4(a) if a.is_unspecified() => {
            let of_device = || {
                let dev = stack.netdevs.by_index(oif)?;
                dev.addrs().iter().map(|c| c.addr()).find(IpAddr::is_ipv4)
            };
            src.filter(|s| !s.is_unspecified()).or_else(of_device).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
        IpAddr::V6(a) if a.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => dst,
    }
}

/// The device that a packet has to leave by; None: any. IPv4 packets to a group or to all, without a device, leave by
/// that of their source.
fn bound_device(stack: &Stack, dst: IpAddr, src: Option<IpAddr>, oif: u32) -> Result<Option<Arc<NetDev>>> {
    let wide = matches!(dst, IpAddr::V4(a) if a.is_multicast() || a.is_broadcast());
    let of_source = || device_of(stack, src?).map(|dev| dev.ifindex);
    let oif = if oif == 0 && wide { of_source().unwrap_or(0) } else { oif };
    if oif == 0 {
        return Ok(None);
    }
    // Over IPv6 a device that is not there is as one without a route.
    let none = if dst.is_ipv4() { Error::NoDev } else { Error::NetUnreach };
    let dev = stack.netdevs.by_index(oif).ok_or(none)?;
    if dev.is_up() { Ok(Some(dev)) } else { Err(Error::NetUnreach) }
}

fn resolve(stack: &Arc<Stack>, dst: IpAddr, src: Option<IpAddr>, oif: u32, generation: u64) -> Result<Dst> {
    if dst.is_ipv6() && net(stack).routes.inner.read().no_v6 {
        return Err(if src.is_some() { Error::NetUnreach } else { Error::AddrNotAvail });
    }
    let dst = this_host(stack, dst, src, oif);
    let bound = bound_device(stack, dst, src, oif)?;
    let oif = bound.as_ref().map_or(0, |d| d.ifindex);
    let inner = net(stack).routes.inner.read();
    if let Some(r) = inner.local_to(dst) {
        let lo = stack.netdevs.by_index(LOOPBACK_IFINDEX).ok_or(Error::NetUnreach)?;
        let preferred = r.src.unwrap_or(dst);
        let spec = RouteSpec { kind: RouteKind::Local, gateway: None, ..(**r).clone() };
        return Ok(make(stack, &spec, lo, DstKind::Local, src.unwrap_or(preferred), dst, generation));
    }
    let kind = match dst {
        _ if dst.is_multicast() => DstKind::Multicast,
        IpAddr::V4(a) if a.is_broadcast() => DstKind::Broadcast,
        _ => DstKind::Unicast,
    };
    let of_network = match dst {
        IpAddr::V4(a) if kind == DstKind::Unicast => inner.broadcast.get(&a),
        _ => None,
    };
    let of_network = of_network.and_then(|l| l.iter().find(|d| (oif == 0 || d.0.ifindex == oif) && d.0.is_up()));
    if let Some((dev, own)) = of_network {
        let spec = RouteSpec::new(Cidr::host(dst));
        only_on_loopback(src, dev)?;
        let from = src.unwrap_or(IpAddr::V4(*own));
        return Ok(make(stack, &spec, dev.clone(), DstKind::Broadcast, from, dst, generation));
    }
    let found = inner.table(dst).find(dst, |r| match &r.dev {
        Some(d) => (oif == 0 || d.ifindex == oif) && d.is_up(),
        None => true,
    });
    let (spec, dev) = match (found, bound) {
        (Some(r), _) => match (r.kind, &r.dev) {
            (RouteKind::Unreachable, _) => return Err(Error::HostUnreach),
            (RouteKind::Prohibit, _) => return Err(Error::Acces),
            (RouteKind::Blackhole, _) => return Err(Error::Inval),
            (_, Some(d)) => (r.clone(), d.clone()),
            (_, None) => return Err(Error::NetUnreach),
        },
        // Bound to an interface without a route: the destination is taken to be on its link, in both kinds of Linux's.
        (None, Some(d)) if dst.is_ipv4() || kind == DstKind::Multicast && !d.caps().loopback => {
            (Arc::new(RouteSpec::new(Cidr::host(dst))), d)
        }
        (None, None) if kind == DstKind::Multicast && dst.is_ipv6() => {
            // Linux has ff00::/8 on each interface: the first that has an IPv6 address.
            let devs = stack.netdevs.snapshot();
            let d = devs
                .iter()
                .find(|d| d.is_up() && d.ifindex != LOOPBACK_IFINDEX && d.addrs().iter().any(|a| a.addr().is_ipv6()));
            (Arc::new(RouteSpec::new(Cidr::host(dst))), d.ok_or(Error::NetUnreach)?.clone())
        }
        _ => return Err(Error::NetUnreach),
    };
    drop(inner);
    only_on_loopback(src, &dev)?;
    let own = src.or(spec.src).or_else(|| select_source(stack, &dev, spec.gateway.unwrap_or(dst), dst));
    let unspecified = match dst {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A group or broadcast address is on the link itself: the route's gateway is not used.
    let spec = if kind == DstKind::Unicast { (*spec).clone() } else { RouteSpec { gateway: None, ..(*spec).clone() } };
    Ok(make(stack, &spec, dev, kind, own.unwrap_or(unspecified), dst, generation))
}

/// An address of 127.0.0.0/8 is no source on a link: EINVAL (__mkroute_output; RFC 1122 §3.2.1.3).
fn only_on_loopback(src: Option<IpAddr>, dev: &NetDev) -> Result<()> {
    match src {
        Some(IpAddr::V4(src)) if src.is_loopback() && !dev.caps().loopback => Err(Error::Inval),
        _ => Ok(()),
    }
}

fn make(
    stack: &Stack,
    r: &RouteSpec,
    dev: Arc<NetDev>,
    kind: DstKind,
    src: IpAddr,
    dst: IpAddr,
    generation: u64,
) -> Dst {
    let max = if dst.is_ipv4() { MAX_MTU.0 } else { MAX_MTU.1 };
    let mut mtu = if r.mtu != 0 { r.mtu } else { dev.caps().mtu }.min(max);
    let mut mtu_locked = r.mtu_lock;
    if !mtu_locked && let Some(e) = net(stack).routes.exceptions.lock().map.get(&dst) {
        mtu = mtu.min(e.mtu);
        mtu_locked = e.locked;
    }
    if dst.is_ipv6() {
        mtu = mtu.max(ipv6::MIN_MTU as u32);
    }
    Dst {
        dev,
        gateway: r.gateway,
        src,
        kind,
        generation,
        mtu,
        mtu_locked,
        congctl: r.congctl.clone(),
        metrics: r.metrics,
        pair: PairHashes::new(&stack.keys, src, dst),
        last_port: LastPort::default(),
    }
}
#[cfg(test)]
mod tests;
