//! Neighbours: which hardware address is behind a next hop on an Ethernet link. ARP (RFC 826) and neighbour discovery
//! (RFC 4861) with the states of RFC 4861 §7.3.2 for both, as Linux has them. Above: `output`; `input` hands over ARP
//! and NDP. Below: `frame`, `ndisc`, `netdev`. Linux: net/core/neighbour.c, net/ipv4/arp.c, net/ipv6/ndisc.c.
//!
//! Entries are created by our own sends and by solicitations for our addresses only (arp_accept is 0): unsolicited
//! messages may refresh an entry and never create one, but for those of routers. Configured addresses are used without
//! duplicate address detection (`autoconf` has it for its own). Packets wait in bounded queues; when a neighbour does
//! not answer, their senders get EHOSTUNREACH. `params` has the sysctls, and which probe is next.

mod params;

use super::frame::frame;
use super::slots::deliver_error;
use super::{ndisc, net};
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::counters::DropReason;
use crate::device::netdev::NetDev;
use crate::device::netdev::NetXmit;
use crate::device::{Caps, LinkType};
use crate::sock::packet::IcmpError;
use crate::sock::skb::{L3, Skb};
use crate::stack::{Stack, TimerCall, TimerSlot};
use crate::sys::lock::RwLock;
use crate::wire::addr::{is_unicast, solicited_node};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ether::{self, MacAddr, ethertype};
use crate::wire::icmpv6::{Message, NdOptions, lladdr_option, nd_option, unreachable};
use crate::wire::ip::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::{icmp, icmpv6 as wire6};
use params::{Params, Probe, params};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries above `gc_thresh2` may be dropped after this long without use.
const IDLE: Duration = Duration::from_secs(5);

/// The state of a neighbour (NUD_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Solicited, no answer yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Known, but not lately confirmed.
    Stale,
    /// Used while stale: waits for a hint from above before soliciting.
    Delay,
    /// Solicited by unicast.
    Probe,
    /// Configured; never solicited.
    Permanent,
}

struct Entry {
    state: State,
    mac: MacAddr,
    probes: u32,
    /// Packets that wait for the address, with their truesize.
    queue: VecDeque<Skb>,
    queued_bytes: u32,
    updated: Instant,
    /// When the confirmation expires.
    reachable_until: Instant,
    /// Nanoseconds of the last use.
    used: AtomicU64,
    timer: TimerSlot,
}

type Key = (u32, IpAddr);

/// The neighbours of a stack.
#[derive(Default)]
pub(crate) struct Neighbours {
    table: RwLock<HashMap<Key, Entry>>,
}

/// An entry as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// Interface.
    pub ifindex: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address; unspecified while incomplete.
    pub mac: MacAddr,
    /// What is known.
    pub state: State,
}

/// Sends a packet, complete but for its link header, to `next_hop` on the link of `dev`. A packet for an unknown
/// neighbour waits, and Ok is returned. Errors: as [`NetDev::xmit`]; ENOBUFS also when the table is full.
#[inline]
pub(crate) fn output(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    next_hop: IpAddr,
    skb: Skb,
    caps: &Caps,
    now: Instant,
) -> Result<NetXmit> {
    match caps.link {
        LinkType::Ip => dev.xmit(stack, now, skb),
        LinkType::Ethernet(own) => output_ethernet(stack, dev, next_hop, skb, own, now),
    }
}

fn output_ethernet(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    next_hop: IpAddr,
    skb: Skb,
    own: MacAddr,
    now: Instant,
) -> Result<NetXmit> {
    let group =
        MacAddr::for_group(next_hop).or_else(|| net(stack).routes.is_broadcast(next_hop).then_some(MacAddr::BROADCAST));
    if let Some(mac) = group {
        return frame(stack, dev, own, mac, skb, now);
    }
    let key = (dev.ifindex, next_hop);
    {
        let table = net(stack).neigh.table.read();
        if let Some(e) = table.get(&key)
            && match e.state {
                State::Permanent | State::Delay | State::Probe => true,
                State::Reachable => e.reachable_until > now,
                State::Incomplete | State::Stale => false,
            }
        {
            e.used.store(now.as_nanos(), Ordering::Relaxed);
            let mac = e.mac;
            drop(table);
            return frame(stack, dev, own, mac, skb, now);
        }
    }
    resolve(stack, dev, key, skb, own, now)
}

/// The slow path of sending: there is no entry, or it is incomplete or not confirmed.
fn resolve(stack: &Arc<Stack>, dev: &Arc<NetDev>, key: Key, skb: Skb, own: MacAddr, now: Instant) -> Result<NetXmit> {
    let p = params(stack, key);
    let mut table = net(stack).neigh.table.write();
    if !table.contains_key(&key) && !make_room(&mut table, stack, &p, key, now) {
        drop(table);
        stack.mib.drop(DropReason::NeighCreateFail);
        return Err(Error::NoBufs);
    }
    let e = table.entry(key).or_insert_with(|| Entry::new(State::Incomplete, MacAddr::UNSPECIFIED, now));
    e.used.store(now.as_nanos(), Ordering::Relaxed);
    if e.state != State::Incomplete {
        if matches!(e.state, State::Stale | State::Reachable) {
            e.state = State::Delay;
            stack.arm_call(&mut e.timer, Arc::new(Timer(key)), now + p.delay);
        }
        let mac = e.mac;
        drop(table);
        return frame(stack, dev, own, mac, skb, now);
    }
    let first = e.probes == 0;
    let asker = source_of(&skb);
    // Freed without the lock: their owners are woken.
    let mut dropped = Vec::new();
    e.queued_bytes += skb.truesize;
    e.queue.push_back(skb);
    // The queue is full: the oldest packet is dropped, as in Linux.
    while e.queued_bytes > p.queue_bytes && e.queue.len() > 1 {
        if let Some(old) = e.queue.pop_front() {
            e.queued_bytes -= old.truesize;
            dropped.push(old);
        }
    }
    if first {
        e.probes = 1;
        stack.arm_call(&mut e.timer, Arc::new(Timer(key)), now + p.retrans);
    }
    drop(table);
    for old in dropped {
        stack.mib.drop(DropReason::NeighQueueFull);
        drop(old);
    }
    if first {
        let probe = p.probe(State::Incomplete, 0).unwrap_or(Probe::Multicast);
        ask(stack, dev, key.1, (probe, MacAddr::UNSPECIFIED), asker, now);
    }
    Ok(NetXmit::Success)
}

impl Entry {
    fn new(state: State, mac: MacAddr, now: Instant) -> Entry {
        Entry {
            state,
            mac,
            probes: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            updated: now,
            reachable_until: now,
            used: AtomicU64::new(now.as_nanos()),
            timer: TimerSlot::default(),
        }
    }

    fn idle(&self, now: Instant) -> Duration {
        now - Instant::from_nanos(self.used.load(Ordering::Relaxed))
    }
}

/// Keeps the table within gc_thresh1..3; false when no entry can be removed.
fn make_room(table: &mut HashMap<Key, Entry>, stack: &Stack, p: &Params, key: Key, now: Instant) -> bool {
    let v4 = key.1.is_ipv4();
    let count =
        |t: &HashMap<Key, Entry>| t.iter().filter(|(k, e)| k.1.is_ipv4() == v4 && e.state != State::Permanent).count();
    if table.len() < p.gc[0] {
        return true;
    }
    let mut n = count(table);
    if n < p.gc[0] {
        return true;
    }
    let limit = if n >= p.gc[1] { IDLE } else { p.gc_stale };
    table.retain(|k, e| {
        let goes = k.1.is_ipv4() == v4 && matches!(e.state, State::Stale | State::Reachable) && e.idle(now) > limit;
        if goes {
            stack.timers.cancel(&mut e.timer);
        }
        !goes
    });
    n = count(table);
    if n < p.gc[2] {
        return true;
    }
    // All entries are in use: the least recently used one without waiting packets is removed.
    let victim = table
        .iter()
        .filter(|(k, e)| k.1.is_ipv4() == v4 && !matches!(e.state, State::Permanent | State::Incomplete))
        .max_by_key(|(_, e)| e.idle(now))
        .map(|(k, _)| *k);
    let Some(mut gone) = victim.and_then(|v| table.remove(&v)) else { return false };
    stack.timers.cancel(&mut gone.timer);
    true
}

/// Source address of a queued packet, which the solicitation takes as its own, as in Linux.
fn source_of(skb: &Skb) -> Option<IpAddr> {
    match skb.l3 {
        L3::V4 => Ipv4Header::parse_quoted(skb.linear()).ok().map(|h| IpAddr::V4(h.src())),
        L3::V6 => Ipv6Header::parse_quoted(skb.linear()).ok().map(|h| IpAddr::V6(h.src())),
    }
}

/// The next probe of a neighbour whose hardware address is, or was, `mac`.
fn ask(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    target: IpAddr,
    (probe, mac): (Probe, MacAddr),
    asker: Option<IpAddr>,
    now: Instant,
) {
    match probe {
        Probe::Unicast => solicit(stack, dev, target, Some(mac), asker, now),
        Probe::Multicast => solicit(stack, dev, target, None, asker, now),
        Probe::Daemon => {}
    }
}

/// Sends a solicitation for `target`: to all, or to `mac`.
fn solicit(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    target: IpAddr,
    mac: Option<MacAddr>,
    asker: Option<IpAddr>,
    now: Instant,
) {
    let LinkType::Ethernet(own) = dev.caps().link else { return };
    let addrs = dev.addrs();
    let on_dev = asker.filter(|a| addrs.iter().any(|c| c.addr() == *a));
    match target {
        IpAddr::V4(target) => {
            let v4 = addrs.iter().filter(|c| c.addr().is_ipv4());
            let same_net = v4.clone().find(|c| c.contains(IpAddr::V4(target)));
            let from = on_dev.or(same_net.or_else(|| v4.clone().next()).map(|c| c.addr()));
            let Some(IpAddr::V4(from)) = from.or(asker) else { return };
            send_arp(stack, dev, &Arp::request(own, from, target), own, mac.unwrap_or(MacAddr::BROADCAST), now);
        }
        IpAddr::V6(target) => {
            let first = addrs.iter().map(|c| c.addr()).find(|a| a.is_ipv6());
            let Some(IpAddr::V6(from)) = on_dev.or(first) else { return };
            let option = lladdr_option(nd_option::SOURCE_LLADDR, own);
            let Ok(options) = NdOptions::parse(&option) else { return };
            let msg = Message::NeighbourSolicitation { target, options };
            let group = solicited_node(target);
            let (dst, to) = match mac {
                Some(m) => (target, m),
                None => (group, MacAddr::multicast_v6(group)),
            };
            ndisc::send(stack, dev, &msg, (from, dst), to, now);
        }
    }
}

fn send_arp(stack: &Stack, dev: &NetDev, msg: &Arp, own: MacAddr, to: MacAddr, now: Instant) {
    let mut bytes = [0; arp::LEN];
    msg.emit(&mut bytes);
    let mut skb = Skb::from_slice(&bytes);
    let Some(h) = skb.push(ether::HEADER_LEN) else { return };
    ether::emit(h, to, own, ethertype::ARP);
    // If a full device drops it, it is sent again.
    let _ = dev.xmit(stack, now, skb);
}

/// The timer of an entry.
struct Timer(Key);

impl TimerCall for Timer {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        let key = self.0;
        let Some(dev) = stack.netdevs.by_index(key.0) else { return };
        let p = params(stack, key);
        let mut table = net(stack).neigh.table.write();
        let Some(e) = table.get_mut(&key) else { return };
        e.timer.fired();
        match e.state {
            State::Delay => (e.state, e.probes) = (State::Probe, 0),
            State::Probe | State::Incomplete => {}
            State::Reachable | State::Stale | State::Permanent => return,
        }
        if let Some(probe) = p.probe(e.state, e.probes) {
            e.probes += 1;
            let (asker, mac) = (e.queue.front().and_then(source_of), e.mac);
            stack.arm_call(&mut e.timer, self, now + p.retrans);
            drop(table);
            return ask(stack, &dev, key.1, (probe, mac), asker, now);
        }
        // Resolution failed. The entry is removed, and the next packet starts it anew, as from Linux's NUD_FAILED.
        let failed = table.remove(&key);
        drop(table);
        for skb in failed.into_iter().flat_map(|e| e.queue) {
            stack.mib.drop(DropReason::NeighFailed);
            report_failure(stack, skb, key.0, now);
        }
    }
}

/// Tells the sender of a packet that its next hop does not answer, as if a router had (arp_error_report,
/// ndisc_error_report).
fn report_failure(stack: &Arc<Stack>, mut skb: Skb, ifindex: u32, now: Instant) {
    let n = skb.len().min(wire6::MAX_ERROR_LEN);
    if !skb.may_pull(n) {
        return;
    }
    let common = |src: IpAddr, dst: IpAddr, (protocol, flowinfo), ty, code, quoted: &[u8]| {
        let e = IcmpError {
            reporter: src,
            src,
            dst,
            protocol,
            ty,
            code,
            info: 0,
            errno: Error::HostUnreach,
            fatal: false,
            quoted,
            extension: 0,
            flowinfo,
            flow_label: 0,
            ifindex,
            // As if this host had sent itself the ICMP message.
            ttl: 64,
            tos: if src.is_ipv4() { icmp::INTERNETWORK_CONTROL } else { 0 },
            now,
        };
        deliver_error(stack, &e);
    };
    match skb.l3 {
        L3::V4 => {
            if let Ok(q) = icmp::Quoted::parse(skb.linear()) {
                let (s, d) = (q.ip.src().into(), q.ip.dst().into());
                let code = icmp::unreachable::HOST;
                common(s, d, (q.ip.protocol(), 0), icmp::kind::UNREACHABLE, code, q.transport());
            }
        }
        L3::V6 => {
            if let Ok(q) = wire6::Quoted::parse(skb.linear()) {
                let (s, d) = (q.ip.src().into(), q.ip.dst().into());
                let flowinfo = u32::from(q.ip.traffic_class()) << 20 | q.ip.flow_label();
                common(s, d, (q.protocol(), flowinfo), wire6::kind::UNREACHABLE, unreachable::ADDRESS, q.transport());
            }
        }
    }
}

/// An update of a neighbour (neigh_update).
struct News {
    key: Key,
    mac: MacAddr,
    /// It answered our solicitation.
    solicited: bool,
    /// Create an entry if there is none.
    create: bool,
    /// Another hardware address replaces the known one.
    replace: bool,
}

fn update(stack: &Arc<Stack>, dev: &Arc<NetDev>, news: News, now: Instant) {
    let LinkType::Ethernet(own) = dev.caps().link else { return };
    let p = params(stack, news.key);
    let mut table = net(stack).neigh.table.write();
    if !table.contains_key(&news.key) {
        if !news.create {
            return;
        }
        if !make_room(&mut table, stack, &p, news.key, now) {
            drop(table);
            return stack.mib.drop(DropReason::NeighCreateFail);
        }
        table.insert(news.key, Entry::new(State::Stale, news.mac, now));
        return;
    }
    let Some(e) = table.get_mut(&news.key) else { return };
    if e.state == State::Permanent {
        return;
    }
    let known = e.state != State::Incomplete;
    if known && e.mac != news.mac && !news.replace {
        // RFC 4861 §7.2.5: without the override the old address is only no longer trusted.
        if e.state == State::Reachable {
            e.state = State::Stale;
            stack.timers.cancel(&mut e.timer);
        }
        return;
    }
    let changed = e.mac != news.mac;
    e.mac = news.mac;
    e.updated = now;
    if news.solicited {
        // RFC 4861 §6.3.2: uniformly between half and one and a half of the base, so that hosts do not ask in step.
        let base = p.base_reachable;
        let spread = stack.entropy.below(base.as_millis().min(u128::from(u32::MAX)) as u32);
        e.reachable_until = now + base / 2 + Duration::from_millis(u64::from(spread));
        e.state = State::Reachable;
        e.probes = 0;
        stack.timers.cancel(&mut e.timer);
    } else if !known || changed {
        e.state = State::Stale;
        e.probes = 0;
        stack.timers.cancel(&mut e.timer);
    }
    e.queued_bytes = 0;
    let waiting = std::mem::take(&mut e.queue);
    drop(table);
    for skb in waiting {
        // A full device may drop them, as any packet.
        let _ = frame(stack, dev, own, news.mac, skb, now);
    }
}

/// A router has said its hardware address.
pub(super) fn heard_router(stack: &Arc<Stack>, dev: &Arc<NetDev>, router: Ipv6Addr, mac: MacAddr, now: Instant) {
    let key = (dev.ifindex, IpAddr::V6(router));
    update(stack, dev, News { key, mac, solicited: false, create: true, replace: true }, now);
}

/// Confirmations closer than this to the last are not noted, so that a busy connection does not write the table for
/// each acknowledgement.
const CONFIRM_GRAIN: Duration = Duration::from_secs(1);

/// An upper layer made progress through this next hop, which confirms it (dst_confirm, RFC 4861 §7.3.1).
pub fn confirm(stack: &Arc<Stack>, dev: &NetDev, next_hop: IpAddr, now: Instant) {
    if !dev.is_ethernet() {
        return;
    }
    let until = now + params(stack, (dev.ifindex, next_hop)).base_reachable / 2;
    let known = |e: &Entry| e.state == State::Reachable && e.reachable_until + CONFIRM_GRAIN > until;
    if net(stack).neigh.table.read().get(&(dev.ifindex, next_hop)).is_some_and(known) {
        return;
    }
    let mut table = net(stack).neigh.table.write();
    if let Some(e) = table.get_mut(&(dev.ifindex, next_hop))
        && matches!(e.state, State::Reachable | State::Stale | State::Delay | State::Probe)
    {
        e.state = State::Reachable;
        e.reachable_until = e.reachable_until.max(until);
        stack.timers.cancel(&mut e.timer);
    }
}

/// Adds a permanent neighbour (`ip neigh add ... nud permanent`), in the place of a present entry. EINVAL: an address
/// that is not of one host.
pub fn add_permanent(stack: &Arc<Stack>, dev: &Arc<NetDev>, ip: IpAddr, mac: MacAddr, now: Instant) -> Result<()> {
    if !mac.is_unicast() || !is_unicast(ip) {
        return Err(Error::Inval);
    }
    let key = (dev.ifindex, ip);
    update(stack, dev, News { key, mac, solicited: false, create: true, replace: true }, now);
    if let Some(e) = net(stack).neigh.table.write().get_mut(&key) {
        stack.timers.cancel(&mut e.timer);
        e.mac = mac;
        e.state = State::Permanent;
    }
    Ok(())
}

/// Forgets a neighbour; packets that wait for it are dropped. ENOENT: not known.
pub fn remove(stack: &Arc<Stack>, dev: &NetDev, ip: IpAddr) -> Result<()> {
    let mut e = net(stack).neigh.table.write().remove(&(dev.ifindex, ip)).ok_or(Error::NoEnt)?;
    stack.timers.cancel(&mut e.timer);
    for _ in e.queue {
        stack.mib.drop(DropReason::NeighDead);
    }
    Ok(())
}

/// All neighbours, by interface and address.
pub fn list(stack: &Stack, now: Instant) -> Vec<Neighbour> {
    let table = net(stack).neigh.table.read();
    let state = |e: &Entry| match e.state {
        State::Reachable if e.reachable_until <= now => State::Stale,
        s => s,
    };
    let row = |(k, e): (&Key, &Entry)| Neighbour { ifindex: k.0, ip: k.1, mac: e.mac, state: state(e) };
    let mut v: Vec<_> = table.iter().map(row).collect();
    v.sort_by_key(|n| (n.ifindex, n.ip));
    v
}

/// An ARP packet, without its Ethernet header. Linux: arp_process.
pub(super) fn arp_rcv(stack: &Arc<Stack>, dev: &Arc<NetDev>, own: MacAddr, mut skb: Skb, now: Instant) {
    if !skb.may_pull(arp::LEN) {
        return stack.mib.drop(DropReason::ArpMalformed);
    }
    let msg = match Arp::parse(skb.linear()) {
        Ok(m) if m.sender_mac.is_unicast() && !m.sender_ip.is_multicast() && !m.sender_ip.is_broadcast() => m,
        _ => return stack.mib.drop(DropReason::ArpMalformed),
    };
    let (sender, target) = (IpAddr::V4(msg.sender_ip), IpAddr::V4(msg.target_ip));
    let for_us = net(stack).routes.is_local(target) && !msg.target_ip.is_loopback();
    if msg.sender_ip.is_unspecified() {
        // An address probe (RFC 5227 §2.1.1): for an address of ours it is answered.
        if msg.operation == Operation::Request && for_us {
            send_arp(stack, dev, &msg.reply_from(own), own, msg.sender_mac, now);
        }
        return;
    }
    // Another host claims an address of ours: ignored.
    if net(stack).routes.is_local(sender) {
        return stack.mib.drop(DropReason::IpLocalSource);
    }
    let key = (dev.ifindex, sender);
    if msg.operation == Operation::Request && for_us {
        let news = News { key, mac: msg.sender_mac, solicited: false, create: true, replace: true };
        update(stack, dev, news, now);
        return send_arp(stack, dev, &msg.reply_from(own), own, msg.sender_mac, now);
    }
    let gratuitous = sender == target;
    let locked = {
        let table = net(stack).neigh.table.read();
        let settled = |e: &&Entry| e.state != State::Incomplete;
        table.get(&key).filter(settled).is_some_and(|e| e.updated + stack.sysctl.neigh_locktime() > now)
    };
    // A broadcast reply is an announcement and no answer.
    let solicited = msg.operation == Operation::Reply && !skb.link_multicast && !gratuitous;
    let news = News { key, mac: msg.sender_mac, solicited, create: false, replace: gratuitous || !locked };
    update(stack, dev, news, now);
}

/// A neighbour solicitation or advertisement from `src` to `dst`. Linux: ndisc_recv_ns, ndisc_recv_na.
pub(super) fn ndp_rcv(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    msg: &Message<'_>,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    now: Instant,
) {
    let LinkType::Ethernet(own) = dev.caps().link else { return };
    match *msg {
        Message::NeighbourSolicitation { target, options } => {
            let mac = options.source_lladdr().filter(|m| m.is_unicast());
            let probing = src.is_unspecified();
            // RFC 4861 §7.1.1: a probe goes to the solicited-node group and names no address.
            if probing && (dst != solicited_node(target) || options.source_lladdr().is_some()) {
                return stack.mib.drop(DropReason::Ipv6NdiscBadOptions);
            }
            if !dev.addrs().iter().any(|a| a.addr() == IpAddr::V6(target)) {
                // Another host is about to take an address that we are about to take.
                if probing && net(stack).autoconf.claimed(stack, dev, target, now) {
                    return;
                }
                return stack.mib.drop(DropReason::Ipv6NdiscNsOtherHost);
            }
            let key = (dev.ifindex, IpAddr::V6(src));
            if let (false, Some(mac)) = (probing, mac) {
                update(stack, dev, News { key, mac, solicited: false, create: true, replace: true }, now);
            }
            // Who asks by unicast knows our address, and only wants to know that we are there (RFC 4861 §7.2.4): Linux
            // does not tell it again, nor replace another's claim.
            let inc = dst.is_multicast();
            let option = lladdr_option(nd_option::TARGET_LLADDR, own);
            let Ok(options) = NdOptions::parse(if inc { &option } else { &[] }) else { return };
            let to = if probing { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) } else { src };
            let known =
                || net(stack).neigh.table.read().get(&key).filter(|e| e.state != State::Incomplete).map(|e| e.mac);
            let to_mac = MacAddr::for_group(IpAddr::V6(to)).or(mac).or_else(known);
            let Some(to_mac) = to_mac else {
                // It did not include its address: a solicitation is sent, and the neighbour asks again.
                return solicit(stack, dev, IpAddr::V6(src), None, Some(IpAddr::V6(target)), now);
            };
            let msg = Message::NeighbourAdvertisement {
                router: false,
                solicited: !probing,
                override_cache: inc,
                target,
                options,
            };
            ndisc::send(stack, dev, &msg, (target, to), to_mac, now);
        }
        Message::NeighbourAdvertisement { solicited, override_cache, target, options, .. } => {
            if solicited && dst.is_multicast() {
                return stack.mib.drop(DropReason::Ipv6NdiscBadOptions);
            }
            if net(stack).routes.is_local(IpAddr::V6(target)) {
                return stack.mib.drop(DropReason::IpLocalSource);
            }
            if net(stack).autoconf.claimed(stack, dev, target, now) {
                return;
            }
            let key = (dev.ifindex, IpAddr::V6(target));
            let known = {
                let table = net(stack).neigh.table.read();
                table.get(&key).filter(|e| e.state != State::Incomplete).map(|e| e.mac)
            };
            let Some(mac) = options.target_lladdr().filter(|m| m.is_unicast()).or(known) else { return };
            update(stack, dev, News { key, mac, solicited, create: false, replace: override_cache }, now);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
