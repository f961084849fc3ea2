//! Stateless address autoconfiguration (RFC 4862) of Ethernet devices: router solicitations and advertisements, default
//! routers, prefixes of the link, addresses with lifetimes, duplicate address detection. Above: `icmpv6`, `neigh`,
//! which hand over what arrives; `config`, which starts it. Below: `route`, `neigh`, `ndisc`. Linux:
//! ndisc_router_discovery, addrconf_prefix_rcv, addrconf_rs_timer, addrconf_dad_work, addrconf_verify_rtnl. RFC 4861
//! §6.3, RFC 4191.
//!
//! Off unless `accept_ra` is set: a stack has the addresses that it is given, and with a random hardware address it
//! would make others at each start, but for stable ones (`ifid`). Of several default routers the
//! best is used, by preference and then the first heard of; one that does not answer is not given up before its
//! lifetime. Not here: route information options (Linux by default takes none), temporary addresses, DHCPv6. A
//! configured address is used without detection.

use super::{ifid, ndisc, neigh, net, route};
use crate::base::env::{Duration, Instant};
use crate::counters::DropReason;
use crate::device::LinkType;
use crate::device::netdev::NetDev;
use crate::stack::{Stack, TimerCall, TimerSlot};
use crate::sys::lock::{Mutex, RwLock};
use crate::wire::addr::{Cidr, is_link_local_v6, solicited_node};
use crate::wire::ether::MacAddr;
use crate::wire::icmpv6::{Message, NdOption, NdOptions, lladdr_option, nd_option};
use crate::wire::ipv6;
use route::RouteSpec;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// All routers of the link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// An advertisement shortens the lifetime of an address to no less (RFC 4862 §5.5.3 e, MIN_VALID_LIFETIME).
const MIN_VALID: Duration = Duration::from_secs(2 * 3600);
/// Routers, and prefixes, of one link that are remembered: more are the work of somebody else.
const MAX_HEARD: usize = 64;
/// Before the next identifier is tried.
const IDGEN_DELAY: Duration = Duration::from_secs(1);
/// Metric of the routes of prefixes (IP6_RT_PRIO_ADDRCONF).
const PREFIX_METRIC: u32 = 256;
/// Length of the prefixes of addresses: the rest is the interface identifier.
const PREFIX_LEN: u8 = 64;

/// What a stack was told by routers.
#[derive(Default)]
pub(crate) struct Autoconf {
    ifaces: Mutex<BTreeMap<u32, Iface>>,
    /// Addresses that are no longer preferred: source selection's question, without the lock above.
    deprecated: RwLock<HashSet<(u32, Ipv6Addr)>>,
    /// Neighbour discovery's times by interface, and whether there are some.
    times: RwLock<HashMap<u32, Times>>,
    has_times: AtomicBool,
    pub(super) secret: ifid::RandomSecret,
}

/// Reachable time and time between solicitations that a router has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) reachable: Option<Duration>,
    pub(super) retrans: Option<Duration>,
}

/// Until when something holds; None: for ever.
type Until = Option<Instant>;

struct Router {
    addr: Ipv6Addr,
    /// -1 low, 0 medium, 1 high.
    preference: i8,
    until: Instant,
}

struct OnLink {
    prefix: Cidr,
    until: Until,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many probes have been sent; the next step is at the time.
    Tentative(i32, Instant),
    Preferred,
    Deprecated,
    /// Somebody else has it: it is not tried again while its prefix is announced.
    Duplicate,
}

struct Address {
    addr: Cidr,
    valid: Until,
    preferred: Until,
    state: State,
    /// How many addresses of its prefix others had.
    dad_count: u8,
}

/// Router solicitations: how many were sent, the last interval, and when the next is due.
struct Solicitations {
    sent: i32,
    interval: Duration,
    next: Instant,
}

#[derive(Default)]
struct Iface {
    solicitations: Option<Solicitations>,
    routers: Vec<Router>,
    prefixes: Vec<OnLink>,
    addrs: Vec<Address>,
    hop_limit: u8,
    /// 0: the device's.
    mtu: u32,
    /// Routes in the table that are made of these.
    routes: Vec<RouteSpec>,
    timer: TimerSlot,
}

/// Probes for an address before it is used (addrconf_dad_begin).
fn probes(stack: &Stack) -> i32 {
    if stack.sysctl.ip6_accept_dad() < 1 { 0 } else { stack.sysctl.ip6_dad_transmits() }
}

/// What is sent when the lock is released.
enum Send {
    Solicitation,
    Probe(Ipv6Addr),
}

impl Autoconf {
    /// Whether it is an address whose preferred lifetime is over (RFC 6724 §5 rule 3).
    pub(super) fn is_deprecated(&self, ifindex: u32, addr: Ipv6Addr) -> bool {
        self.deprecated.read().contains(&(ifindex, addr))
    }

    /// The times that routers have said on an interface.
    #[inline]
    pub(super) fn times(&self, ifindex: u32) -> Times {
        match self.has_times.load(Ordering::Relaxed) {
            false => Times::default(),
            true => self.times.read().get(&ifindex).copied().unwrap_or_default(),
        }
    }

    /// A neighbour probes for `addr`, or claims to have it: if it is tentative here, it is a duplicate (RFC 4862
    /// §5.4.3, §5.4.4; addrconf_dad_failure). A stable one is followed by another. False: it is none of ours.
    pub(super) fn claimed(&self, stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Ipv6Addr, now: Instant) -> bool {
        let mut ifaces = self.ifaces.lock();
        let Some(iface) = ifaces.get_mut(&dev.ifindex) else { return false };
        let tentative = |a: &&mut Address| a.addr.addr() == IpAddr::V6(addr) && matches!(a.state, State::Tentative(..));
        let Some(found) = iface.addrs.iter_mut().find(tentative) else { return false };
        found.state = State::Duplicate;
        let (valid, preferred, dad_count) = (found.valid, found.preferred, found.dad_count + 1);
        let mut next = None;
        if let LinkType::Ethernet(mac) = dev.caps().link
            && dad_count <= ifid::RETRIES
            && ifid::is_stable(stack)
        {
            let ip = ifid::address(stack, addr, mac, dad_count);
            if let Some(addr) = Cidr::new(ip.into(), PREFIX_LEN) {
                let state = State::Tentative(0, now + IDGEN_DELAY);
                iface.addrs.push(Address { addr, valid, preferred, state, dad_count });
                next = Some(ip);
            }
        }
        drop(ifaces);
        net(stack).groups.solicited(stack, dev, addr, false);
        if let Some(next) = next {
            net(stack).groups.solicited(stack, dev, next, true);
            run(stack, dev, now);
        }
        true
    }
}

/// Whether advertisements are taken.
fn accepts(stack: &Stack) -> bool {
    stack.sysctl.ip6_accept_ra() > 0
}

/// The interface begins to look for routers: it gets a link-local address, if it has none, and solicits. Without
/// `accept_ra`, and on a link without hardware addresses, nothing happens (addrconf_dad_completed).
pub fn start(stack: &Arc<Stack>, dev: &Arc<NetDev>, now: Instant) {
    let LinkType::Ethernet(mac) = dev.caps().link else { return };
    if !accepts(stack) {
        return;
    }
    // An address that is there already is no error.
    let _ = route::add_link_local(stack, dev, mac);
    {
        let mut ifaces = net(stack).autoconf.ifaces.lock();
        let iface = ifaces.entry(dev.ifindex).or_default();
        if stack.sysctl.ip6_router_solicitations() != 0 {
            let interval = Duration::ZERO;
            iface.solicitations = Some(Solicitations { sent: 0, interval, next: now });
        }
    }
    run(stack, dev, now);
}

/// `of` by up to a tenth less or more (rfc3315_s14_backoff_init).
fn about(stack: &Stack, of: Duration) -> Duration {
    const PARTS: u32 = 1_000_000;
    of * (PARTS * 9 / 10 + stack.entropy.below(PARTS / 5 + 1)) / PARTS
}

impl Solicitations {
    /// One is sent. The time to the next doubles, about, up to a largest (RFC 7559). None: it was the last.
    fn step(mut self, stack: &Stack, now: Instant) -> Option<Solicitations> {
        let s = &stack.sysctl;
        let (most, longest) = (s.ip6_router_solicitations(), s.ip6_router_solicitation_max_interval());
        self.sent = self.sent.saturating_add(1);
        self.interval = match self.sent {
            1 => about(stack, s.ip6_router_solicitation_interval()),
            _ => self.interval + about(stack, self.interval),
        };
        if !longest.is_zero() && self.interval > longest {
            self.interval = about(stack, longest);
        }
        self.next = now + self.interval.max(Duration::from_millis(1));
        (most < 0 || self.sent < most).then_some(self)
    }
}

/// A router advertisement. Linux: ndisc_router_discovery.
pub(super) fn ra_rcv(stack: &Arc<Stack>, dev: &Arc<NetDev>, msg: &Message<'_>, src: Ipv6Addr, now: Instant) {
    let Message::RouterAdvertisement { hop_limit, flags, lifetime, reachable_ms, retrans_ms, options } = *msg else {
        return;
    };
    if !is_link_local_v6(src) {
        return stack.mib.drop(DropReason::IpInvalidSource);
    }
    if let Some(mac) = options.source_lladdr().filter(|m| m.is_unicast()) {
        neigh::heard_router(stack, dev, src, mac, now);
    }
    let own = net(stack).routes.is_local(src.into()) && !stack.sysctl.ip6_accept_ra_from_local();
    if !accepts(stack) {
        return;
    }
    {
        let mut ifaces = net(stack).autoconf.ifaces.lock();
        let iface = ifaces.entry(dev.ifindex).or_default();
        iface.solicitations = None;
        if !own {
            iface.router(stack, src, (flags, lifetime, hop_limit), now);
        }
        set_times(stack, dev.ifindex, reachable_ms, retrans_ms);
        if !own && stack.sysctl.ip6_accept_ra_pinfo() {
            for option in options {
                iface.prefix(stack, dev, &option, now);
            }
        }
        let mtu = options.iter().find_map(|o| if let NdOption::Mtu(mtu) = o { Some(mtu) } else { None });
        if let Some(mtu) = mtu
            && stack.sysctl.ip6_accept_ra_mtu()
            && (ipv6::MIN_MTU as u32..=dev.caps().mtu).contains(&mtu)
        {
            iface.mtu = mtu;
        }
    }
    run(stack, dev, now);
}

/// Times of neighbour discovery; 0 says nothing.
fn set_times(stack: &Stack, ifindex: u32, reachable_ms: u32, retrans_ms: u32) {
    let heard = |ms: u32, least: u64| (ms != 0).then(|| Duration::from_millis(u64::from(ms).max(least)));
    let (reachable, retrans) = (heard(reachable_ms, 100), heard(retrans_ms, 10));
    if reachable.is_none() && retrans.is_none() {
        return;
    }
    let autoconf = &net(stack).autoconf;
    let mut times = autoconf.times.write();
    let of = times.entry(ifindex).or_default();
    *of = Times { reachable: reachable.or(of.reachable), retrans: retrans.or(of.retrans) };
    autoconf.has_times.store(true, Ordering::Relaxed);
}

impl Iface {
    /// Who sent it is a default router for `lifetime` seconds, or no longer one (RFC 4861 §6.3.4, RFC 4191 §2.2).
    fn router(&mut self, stack: &Stack, addr: Ipv6Addr, said: (u8, u16, u8), now: Instant) {
        let (flags, lifetime, hop_limit) = said;
        if stack.sysctl.ip6_accept_ra_defrtr() {
            // The reserved value is medium.
            let preference = match flags >> 3 & 3 {
                1 if stack.sysctl.ip6_accept_ra_rtr_pref() => 1,
                3 if stack.sysctl.ip6_accept_ra_rtr_pref() => -1,
                _ => 0,
            };
            let until = now + Duration::from_secs(lifetime.into());
            match self.routers.iter().position(|r| r.addr == addr) {
                Some(at) if lifetime == 0 => {
                    self.routers.remove(at);
                }
                Some(at) => self.routers[at] = Router { addr, preference, until },
                None if lifetime == 0 || self.routers.len() >= MAX_HEARD => {}
                None => self.routers.push(Router { addr, preference, until }),
            }
            if hop_limit != 0 && i32::from(hop_limit) >= stack.sysctl.ip6_accept_ra_min_hop_limit() {
                self.hop_limit = hop_limit;
            }
        }
    }

    /// A prefix information option (RFC 4862 §5.5.3; addrconf_prefix_rcv).
    fn prefix(&mut self, stack: &Arc<Stack>, dev: &Arc<NetDev>, option: &NdOption<'_>, now: Instant) {
        let NdOption::Prefix { prefix_len, on_link, autonomous, valid_lifetime, preferred_lifetime, prefix } = *option
        else {
            return;
        };
        let Some(net) = Cidr::new(prefix.into(), prefix_len).map(|c| c.trunc()) else { return };
        if prefix.is_multicast() || is_link_local_v6(prefix) || preferred_lifetime > valid_lifetime {
            return;
        }
        let until = |seconds: u32| match seconds {
            u32::MAX => None,
            n => Some(now + Duration::from_secs(n.into())),
        };
        if on_link {
            let known = self.prefixes.iter().position(|p| p.prefix == net);
            let heard = OnLink { prefix: net, until: until(valid_lifetime) };
            match known {
                Some(at) if valid_lifetime == 0 => {
                    self.prefixes.remove(at);
                }
                Some(at) => self.prefixes[at] = heard,
                None if valid_lifetime == 0 || self.prefixes.len() >= MAX_HEARD => {}
                None => self.prefixes.push(heard),
            }
        }
        if autonomous && stack.sysctl.ip6_autoconf() && prefix_len == PREFIX_LEN {
            self.address(stack, dev, net, (until(valid_lifetime), until(preferred_lifetime)), now);
        }
    }

    /// The address of a prefix is made, or lives on.
    fn address(
        &mut self,
        stack: &Arc<Stack>,
        dev: &Arc<NetDev>,
        prefix: Cidr,
        (valid, preferred): (Until, Until),
        now: Instant,
    ) {
        let (IpAddr::V6(network), LinkType::Ethernet(mac)) = (prefix.addr(), dev.caps().link) else { return };
        let ip = ifid::address(stack, network, mac, 0);
        let Some(addr) = Cidr::new(ip.into(), PREFIX_LEN) else { return };
        let mut is_known = false;
        for known in self.addrs.iter_mut().filter(|a| a.addr.network() == addr.network()) {
            // Who is not trusted for more than two hours cannot take the address away at once (§5.5.3 e).
            let least = known.valid.map_or(now + MIN_VALID, |v| v.min(now + MIN_VALID));
            known.valid = valid.map(|v| v.max(least));
            known.preferred = preferred;
            is_known = true;
        }
        if is_known {
            return;
        }
        let count = dev.addrs().iter().filter(|a| a.addr().is_ipv6()).count();
        let pending = self.addrs.iter().filter(|a| matches!(a.state, State::Tentative(..) | State::Duplicate)).count();
        let most = stack.sysctl.ip6_max_addresses();
        let full = most > 0 && count + pending >= most as usize;
        let is_over = valid.is_some_and(|v| v <= now);
        // One that is configured stays as it is.
        if is_over || full || dev.addrs().iter().any(|a| a.addr() == addr.addr()) {
            return;
        }
        net(stack).groups.solicited(stack, dev, ip, true);
        let wait = match probes(stack) {
            ..=0 => Duration::ZERO,
            // Hosts that heard the same advertisement do not probe in step (RFC 4862 §5.4.2).
            _ => Duration::from_millis(stack.entropy.below(1000).into()),
        };
        self.addrs.push(Address { addr, valid, preferred, state: State::Tentative(0, now + wait), dad_count: 0 });
    }

    /// Does what is due; returns what to send, and when to look again.
    fn run(&mut self, stack: &Arc<Stack>, dev: &Arc<NetDev>, now: Instant) -> Vec<Send> {
        let mut out = Vec::new();
        if let Some(s) = self.solicitations.take_if(|s| s.next <= now) {
            out.push(Send::Solicitation);
            self.solicitations = s.step(stack, now);
        }
        self.routers.retain(|r| r.until > now);
        self.prefixes.retain(|p| p.until.is_none_or(|u| u > now));
        let ended = |until: Until| until.is_some_and(|u| u <= now);
        for a in &mut self.addrs {
            step_address(stack, dev, a, now, &mut out);
        }
        self.addrs.retain(|a| {
            if ended(a.valid) {
                forget(stack, dev, a);
            }
            !ended(a.valid)
        });
        self.sync(stack, dev);
        out
    }

    /// When something ends or is due.
    fn next(&self) -> Until {
        let routers = self.routers.iter().map(|r| r.until);
        let prefixes = self.prefixes.iter().filter_map(|p| p.until);
        let addrs = self.addrs.iter().flat_map(|a| match a.state {
            State::Tentative(_, next) => [Some(next), a.valid],
            State::Preferred => [a.preferred, a.valid],
            State::Deprecated | State::Duplicate => [None, a.valid],
        });
        let solicitations = self.solicitations.iter().map(|s| s.next);
        routers.chain(prefixes).chain(addrs.flatten()).chain(solicitations).min()
    }

    /// The routes that follow: by the best router, and to each prefix.
    fn wanted(&self, stack: &Stack, dev: &Arc<NetDev>) -> Vec<RouteSpec> {
        let mut best: Option<&Router> = None;
        for r in &self.routers {
            if best.is_none_or(|b| r.preference > b.preference) {
                best = Some(r);
            }
        }
        let with = |mut spec: RouteSpec, metric: u32| {
            (spec.metric, spec.mtu) = (metric, self.mtu);
            spec.metrics.hoplimit = self.hop_limit;
            spec
        };
        let any = Cidr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
        let default = any.zip(best).map(|(any, r)| {
            let metric = stack.sysctl.ip6_ra_defrtr_metric().max(1) as u32;
            with(RouteSpec::new(any).via(r.addr.into()).via_dev(dev), metric)
        });
        let prefixes = self.prefixes.iter().map(|p| with(RouteSpec::new(p.prefix).via_dev(dev), PREFIX_METRIC));
        default.into_iter().chain(prefixes).collect()
    }

    /// Brings the route table up to date. A route that is there already, of an address or configured, stays as it is.
    fn sync(&mut self, stack: &Arc<Stack>, dev: &Arc<NetDev>) {
        let wanted = self.wanted(stack, dev);
        let key = |r: &RouteSpec| (r.dst, r.gateway, r.metric, r.mtu, r.metrics.hoplimit);
        self.routes.retain(|r| {
            let stays = wanted.iter().any(|w| key(w) == key(r));
            if !stays {
                // Somebody may have removed it.
                let _ = route::del_exact(stack, r);
            }
            stays
        });
        for w in wanted {
            if !self.routes.iter().any(|r| key(r) == key(&w)) && route::add_route(stack, w.clone()).is_ok() {
                self.routes.push(w);
            }
        }
    }
}

/// Duplicate address detection, and the end of the preferred lifetime.
fn step_address(stack: &Arc<Stack>, dev: &Arc<NetDev>, a: &mut Address, now: Instant, out: &mut Vec<Send>) {
    let IpAddr::V6(ip) = a.addr.addr() else { return };
    let deprecated = |on: bool| {
        let mut set = net(stack).autoconf.deprecated.write();
        let changed = if on { set.insert((dev.ifindex, ip)) } else { set.remove(&(dev.ifindex, ip)) };
        drop(set);
        if changed {
            stack.rt_genid_bump();
        }
    };
    if let State::Tentative(sent, next) = a.state
        && next <= now
    {
        if sent < probes(stack) {
            out.push(Send::Probe(ip));
            let wait = net(stack).autoconf.times(dev.ifindex).retrans;
            let wait = wait.unwrap_or_else(|| stack.sysctl.neigh6_retrans_time_ms());
            a.state = State::Tentative(sent + 1, now + wait);
            return;
        }
        // The address brings its group with it; that of the detection ends.
        let _ = route::add_address_alone(stack, dev, a.addr);
        net(stack).groups.solicited(stack, dev, ip, false);
        a.state = State::Preferred;
    }
    let is_over = a.preferred.is_some_and(|p| p <= now);
    match (a.state, is_over) {
        (State::Preferred, true) => {
            a.state = State::Deprecated;
            deprecated(true);
        }
        (State::Deprecated, false) => {
            a.state = State::Preferred;
            deprecated(false);
        }
        _ => {}
    }
}

/// An address's valid lifetime is over.
fn forget(stack: &Arc<Stack>, dev: &Arc<NetDev>, a: &Address) {
    let IpAddr::V6(ip) = a.addr.addr() else { return };
    match a.state {
        State::Tentative(..) => net(stack).groups.solicited(stack, dev, ip, false),
        // An administrator may have removed it.
        State::Preferred | State::Deprecated => drop(route::del_address_alone(stack, dev, a.addr)),
        State::Duplicate => {}
    }
    net(stack).autoconf.deprecated.write().remove(&(dev.ifindex, ip));
}

/// Does what is due on an interface, and looks again when the next thing is.
fn run(stack: &Arc<Stack>, dev: &Arc<NetDev>, now: Instant) {
    let out = {
        let mut ifaces = net(stack).autoconf.ifaces.lock();
        let Some(iface) = ifaces.get_mut(&dev.ifindex) else { return };
        let out = iface.run(stack, dev, now);
        match iface.next() {
            Some(at) => stack.arm_call(&mut iface.timer, Arc::new(Timer(dev.ifindex)), at),
            None => drop(stack.timers.cancel(&mut iface.timer)),
        }
        out
    };
    for message in out {
        send(stack, dev, &message, now);
    }
}

fn send(stack: &Arc<Stack>, dev: &Arc<NetDev>, message: &Send, now: Instant) {
    let LinkType::Ethernet(mac) = dev.caps().link else { return };
    let option = lladdr_option(nd_option::SOURCE_LLADDR, mac);
    let (Ok(with_source), Ok(none)) = (NdOptions::parse(&option), NdOptions::parse(&[])) else { return };
    let link_local = dev.addrs().iter().find_map(|a| match a.addr() {
        IpAddr::V6(a) if is_link_local_v6(a) => Some(a),
        _ => None,
    });
    let (msg, src, dst) = match *message {
        Send::Solicitation => match link_local {
            Some(own) => (Message::RouterSolicitation { options: with_source }, own, ALL_ROUTERS),
            // An unspecified source names no hardware address (RFC 4861 §4.1).
            None => (Message::RouterSolicitation { options: none }, Ipv6Addr::UNSPECIFIED, ALL_ROUTERS),
        },
        Send::Probe(target) => {
            let msg = Message::NeighbourSolicitation { target, options: none };
            (msg, Ipv6Addr::UNSPECIFIED, solicited_node(target))
        }
    };
    ndisc::send(stack, dev, &msg, (src, dst), MacAddr::multicast_v6(dst), now);
}

/// The timer of an interface.
struct Timer(u32);

impl TimerCall for Timer {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        let Some(dev) = stack.netdevs.by_index(self.0) else { return };
        if let Some(iface) = net(stack).autoconf.ifaces.lock().get_mut(&self.0) {
            iface.timer.fired();
        }
        run(stack, &dev, now);
    }
}

#[cfg(test)]
mod tests;
