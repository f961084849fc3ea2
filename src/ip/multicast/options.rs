//! The options by which a socket joins groups and filters their sources: IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP,
//! MCAST_JOIN_GROUP and their kin, IP_MSFILTER, MCAST_MSFILTER (RFC 3678). Above: `sockopt`. Below: `Groups`. Lengths,
//! ranges and errnos are Linux's: do_ip_setsockopt, do_ipv6_setsockopt, ip_mc_join_group, ip_mc_source, ip_mc_msfilter,
//! ip_mc_msfget, and their kin of IPv6. Not here: the 32-bit layouts.

use super::super::{net, route};
use super::publish;
use crate::base::error::{Error, Result};
use crate::device::netdev::NetDev;
use crate::sock::membership::{FilterMode, Membership};
use crate::sock::sockopt::int;
use crate::sock::{SockGuard, flag};
use crate::stack::Stack;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const IP_MSFILTER: i32 = 41;
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_BLOCK_SOURCE: i32 = 43;
const MCAST_UNBLOCK_SOURCE: i32 = 44;
const MCAST_LEAVE_GROUP: i32 = 45;
const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
const MCAST_LEAVE_SOURCE_GROUP: i32 = 47;
const MCAST_MSFILTER: i32 = 48;

/// Bytes that a membership of IPv6 takes of net.core.optmem_max, which is all that bounds them (seen on 6.18: 2,340 fit
/// in 131,072).
const MEMBERSHIP_BYTES: usize = 56;
/// Sizes of struct sockaddr_storage, and of what stands before the list in struct ip_msfilter and struct group_filter.
const STORAGE: usize = 128;
const MSFILTER: usize = 16;
const GROUP_FILTER: usize = 8 + STORAGE + 8;

/// What a call does to one source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

/// Which group is meant: by an interface's index, or over IPv4 by one of its addresses; neither: the route's.
#[derive(Clone, Copy)]
struct Place {
    group: IpAddr,
    addr: Ipv4Addr,
    ifindex: u32,
}

/// setsockopt(2) of these options; None: it is another one.
pub(in crate::ip) fn set(g: &mut SockGuard<'_>, level: i32, name: i32, value: &[u8]) -> Option<Result<()>> {
    let v4 = level == libc::SOL_IP;
    Some(match name {
        libc::IP_ADD_MEMBERSHIP | libc::IP_DROP_MEMBERSHIP if v4 => {
            membership_v4(g, name == libc::IP_ADD_MEMBERSHIP, value)
        }
        libc::IPV6_ADD_MEMBERSHIP | libc::IPV6_DROP_MEMBERSHIP if !v4 => {
            membership_v6(g, name == libc::IPV6_ADD_MEMBERSHIP, value)
        }
        libc::IP_UNBLOCK_SOURCE..=libc::IP_DROP_SOURCE_MEMBERSHIP if v4 => mreq_source(g, name, value),
        IP_MSFILTER if v4 => msfilter(g, value),
        MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP => group_req(g, v4, name, value),
        MCAST_BLOCK_SOURCE | MCAST_UNBLOCK_SOURCE | MCAST_JOIN_SOURCE_GROUP | MCAST_LEAVE_SOURCE_GROUP => {
            group_source_req(g, v4, name, value)
        }
        MCAST_MSFILTER => group_filter(g, v4, value),
        _ => return None,
    })
}

/// getsockopt(2) of these options, whose argument says what is asked for; None: it is another one.
pub(in crate::ip) fn get(g: &SockGuard<'_>, level: i32, name: i32, value: &mut [u8]) -> Option<Result<usize>> {
    let v4 = level == libc::SOL_IP;
    match name {
        IP_MSFILTER if v4 => Some(get_msfilter(g, value)),
        MCAST_MSFILTER => Some(get_group_filter(g, v4, value)),
        _ => None,
    }
}

/// struct ip_mreq or ip_mreqn: group, interface address, interface index.
pub(in crate::ip) fn mreq_v4(value: &[u8]) -> Result<(Ipv4Addr, Ipv4Addr, u32)> {
    let ifindex = value.get(8..12).map_or(Ok(0), int)?;
    Ok((addr_v4(value, 0)?, addr_v4(value, 4)?, ifindex as u32))
}

fn addr_v4(value: &[u8], at: usize) -> Result<Ipv4Addr> {
    let b: [u8; 4] = value.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(Error::Inval)?;
    Ok(Ipv4Addr::from(b))
}

/// The address in a struct sockaddr_storage; None: it is not of this family.
fn storage(value: &[u8], at: usize, v4: bool) -> Result<Option<IpAddr>> {
    let s = value.get(at..at + STORAGE).ok_or(Error::Inval)?;
    let family = i32::from(u16::from_ne_bytes([s[0], s[1]]));
    let ok = family == if v4 { libc::AF_INET } else { libc::AF_INET6 };
    Ok(ok.then_some(address(s, v4)?))
}

fn address(sockaddr: &[u8], v4: bool) -> Result<IpAddr> {
    if v4 {
        return Ok(IpAddr::V4(addr_v4(sockaddr, 4)?));
    }
    let b: [u8; 16] = sockaddr.get(8..24).and_then(|b| b.try_into().ok()).ok_or(Error::Inval)?;
    Ok(IpAddr::V6(Ipv6Addr::from(b)))
}

/// IP_ADD_MEMBERSHIP and IP_DROP_MEMBERSHIP.
fn membership_v4(g: &mut SockGuard<'_>, add: bool, value: &[u8]) -> Result<()> {
    if g.sock.ty == libc::SOCK_STREAM as u16 {
        return Err(Error::Proto);
    }
    let (group, addr, ifindex) = mreq_v4(value)?;
    let place = Place { group: IpAddr::V4(group), addr, ifindex };
    if add { join(g, place, FilterMode::Exclude) } else { leave(g, place) }
}

/// IPV6_ADD_MEMBERSHIP and IPV6_DROP_MEMBERSHIP.
fn membership_v6(g: &mut SockGuard<'_>, add: bool, value: &[u8]) -> Result<()> {
    let b = value.get(..20).ok_or(Error::Inval)?;
    if g.sock.ty == libc::SOCK_STREAM as u16 {
        return Err(Error::Proto);
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&b[..16]);
    let group = IpAddr::V6(Ipv6Addr::from(octets));
    let place = Place { group, addr: Ipv4Addr::UNSPECIFIED, ifindex: int(&b[16..])? as u32 };
    if add { join(g, place, FilterMode::Exclude) } else { leave(g, place) }
}

/// IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE, IP_UNBLOCK_SOURCE: struct ip_mreq_source.
fn mreq_source(g: &mut SockGuard<'_>, name: i32, value: &[u8]) -> Result<()> {
    if value.len() != 12 {
        return Err(Error::Inval);
    }
    let place = Place { group: IpAddr::V4(addr_v4(value, 0)?), addr: addr_v4(value, 4)?, ifindex: 0 };
    let (mode, change) = match name {
        libc::IP_ADD_SOURCE_MEMBERSHIP => (FilterMode::Include, Change::Add),
        libc::IP_DROP_SOURCE_MEMBERSHIP => (FilterMode::Include, Change::Remove),
        libc::IP_BLOCK_SOURCE => (FilterMode::Exclude, Change::Add),
        _ => (FilterMode::Exclude, Change::Remove),
    };
    source(g, place, IpAddr::V4(addr_v4(value, 8)?), mode, change)
}

/// MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP: struct group_req.
fn group_req(g: &mut SockGuard<'_>, v4: bool, name: i32, value: &[u8]) -> Result<()> {
    let group = storage(value, 8, v4)?.ok_or(if v4 { Error::Inval } else { Error::AddrNotAvail })?;
    let place = Place { group, addr: Ipv4Addr::UNSPECIFIED, ifindex: int(value)? as u32 };
    if name == MCAST_JOIN_GROUP { join(g, place, FilterMode::Exclude) } else { leave(g, place) }
}

/// MCAST_JOIN_SOURCE_GROUP and its kin: struct group_source_req.
fn group_source_req(g: &mut SockGuard<'_>, v4: bool, name: i32, value: &[u8]) -> Result<()> {
    let (group, from) = (storage(value, 8, v4)?, storage(value, 8 + STORAGE, v4)?);
    let (Some(group), Some(from)) = (group, from) else { return Err(Error::AddrNotAvail) };
    let place = Place { group, addr: Ipv4Addr::UNSPECIFIED, ifindex: int(value)? as u32 };
    let (mode, change) = match name {
        MCAST_JOIN_SOURCE_GROUP => (FilterMode::Include, Change::Add),
        MCAST_LEAVE_SOURCE_GROUP => (FilterMode::Include, Change::Remove),
        MCAST_BLOCK_SOURCE => (FilterMode::Exclude, Change::Add),
        _ => (FilterMode::Exclude, Change::Remove),
    };
    source(g, place, from, mode, change)
}

/// One source more or fewer in a filter of this mode. To add an included one joins the group; without the last one the
/// socket leaves it.
fn source(g: &mut SockGuard<'_>, place: Place, from: IpAddr, mode: FilterMode, change: Change) -> Result<()> {
    if (mode, change) == (FilterMode::Include, Change::Add) {
        match join(g, place, mode) {
            Ok(()) | Err(Error::AddrInUse) => {}
            Err(e) => return Err(e),
        }
    }
    let at = joined(g, place)?.ok_or(Error::Inval)?;
    let most = most_sources(g.stack, place.group.is_ipv4());
    let m = g.sock.joined().get(at).cloned().ok_or(Error::Inval)?;
    let mut new = m.clone();
    match &m.sources {
        Some(_) if m.mode != mode => return Err(Error::Inval),
        _ => new.mode = mode,
    }
    let place_in = m.listed().binary_search(&from);
    let result = match (change, place_in) {
        (Change::Remove, Ok(_)) if mode == FilterMode::Include && m.listed().len() == 1 => return leave(g, place),
        (Change::Remove, Ok(i)) => {
            new.sources.get_or_insert_default().remove(i);
            Ok(())
        }
        (Change::Add, _) if m.listed().len() >= most => Err(Error::NoBufs),
        (Change::Add, Err(i)) => {
            new.sources.get_or_insert_default().insert(i, from);
            Ok(())
        }
        _ => Err(Error::AddrNotAvail),
    };
    // The mode changes even if the source then does not.
    replace(g, at, new);
    result
}

/// IP_MSFILTER: struct ip_msfilter.
fn msfilter(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    bounded(g, value, MSFILTER)?;
    let (mode, n) = (int(&value[8..])? as u32, int(&value[12..])? as u32 as usize);
    if n > most_sources(g.stack, true) {
        return Err(Error::NoBufs);
    }
    let list = value.get(MSFILTER..MSFILTER + 4 * n).ok_or(Error::Inval)?;
    let sources = list.chunks_exact(4).map(|b| addr_v4(b, 0).map(IpAddr::V4)).collect::<Result<_>>()?;
    let place = Place { group: IpAddr::V4(addr_v4(value, 0)?), addr: addr_v4(value, 4)?, ifindex: 0 };
    set_filter(g, place, mode, sources)
}

/// MCAST_MSFILTER: struct group_filter.
fn group_filter(g: &mut SockGuard<'_>, v4: bool, value: &[u8]) -> Result<()> {
    bounded(g, value, GROUP_FILTER)?;
    let (mode, n) = (int(&value[GROUP_FILTER - 8..])? as u32, int(&value[GROUP_FILTER - 4..])? as u32 as usize);
    if n > most_sources(g.stack, v4) {
        return Err(Error::NoBufs);
    }
    let list = value.get(GROUP_FILTER..GROUP_FILTER + STORAGE * n).ok_or(Error::Inval)?;
    let not_here = if v4 { Error::AddrNotAvail } else { Error::Inval };
    let group = storage(value, 8, v4)?.ok_or(not_here)?;
    let mut sources = Vec::with_capacity(n);
    for one in list.chunks_exact(STORAGE) {
        // Of a source of IPv6 Linux does not look at the family.
        let addr = if v4 { storage(one, 0, v4)?.ok_or(Error::AddrNotAvail)? } else { address(one, v4)? };
        sources.push(addr);
    }
    let place = Place { group, addr: Ipv4Addr::UNSPECIFIED, ifindex: int(value)? as u32 };
    set_filter(g, place, mode, sources)
}

/// An argument of at least `least` bytes, which takes no more memory than a socket may have for options.
fn bounded(g: &SockGuard<'_>, value: &[u8], least: usize) -> Result<()> {
    if value.len() < least {
        return Err(Error::Inval);
    }
    if value.len() > g.stack.sysctl.optmem_max() as usize { Err(Error::NoBufs) } else { Ok(()) }
}

fn set_filter(g: &mut SockGuard<'_>, place: Place, mode: u32, mut sources: Vec<IpAddr>) -> Result<()> {
    let mode = FilterMode::from_number(mode).filter(|_| place.group.is_multicast()).ok_or(Error::Inval)?;
    device(g.stack, place)?;
    if mode == FilterMode::Include && sources.is_empty() {
        return leave(g, place);
    }
    let at = joined(g, place)?.ok_or(Error::Inval)?;
    sources.sort_unstable();
    sources.dedup();
    let old = g.sock.joined().get(at).cloned().ok_or(Error::Inval)?;
    let sources = (!sources.is_empty()).then_some(sources);
    let new = Membership { mode, sources, ..old };
    replace(g, at, new);
    Ok(())
}

/// IP_MSFILTER as read: the mode, how many sources there are, and as many of them as were asked for.
fn get_msfilter(g: &SockGuard<'_>, value: &mut [u8]) -> Result<usize> {
    if value.len() < MSFILTER {
        return Err(Error::Inval);
    }
    let place = Place { group: IpAddr::V4(addr_v4(value, 0)?), addr: addr_v4(value, 4)?, ifindex: 0 };
    let m = shown(g, place)?;
    let asked = int(&value[12..])? as u32 as usize;
    value[8..12].copy_from_slice(&(m.mode as u32).to_ne_bytes());
    value[12..16].copy_from_slice(&(m.listed().len() as u32).to_ne_bytes());
    let mut end = MSFILTER;
    for source in m.listed().iter().take(asked) {
        let (IpAddr::V4(a), Some(room)) = (source, value.get_mut(end..end + 4)) else { return Err(Error::Fault) };
        room.copy_from_slice(&a.octets());
        end += 4;
    }
    Ok(end)
}

/// MCAST_MSFILTER as read.
fn get_group_filter(g: &SockGuard<'_>, v4: bool, value: &mut [u8]) -> Result<usize> {
    if value.len() < GROUP_FILTER {
        return Err(Error::Inval);
    }
    let group = storage(value, 8, v4)?.ok_or(if v4 { Error::Inval } else { Error::AddrNotAvail })?;
    let place = Place { group, addr: Ipv4Addr::UNSPECIFIED, ifindex: int(value)? as u32 };
    let m = shown(g, place)?;
    let asked = int(&value[GROUP_FILTER - 4..])? as u32 as usize;
    value[GROUP_FILTER - 8..GROUP_FILTER - 4].copy_from_slice(&(m.mode as u32).to_ne_bytes());
    value[GROUP_FILTER - 4..GROUP_FILTER].copy_from_slice(&(m.listed().len() as u32).to_ne_bytes());
    let mut end = GROUP_FILTER;
    for source in m.listed().iter().take(asked) {
        let room = value.get_mut(end..end + STORAGE).ok_or(Error::Fault)?;
        room.fill(0);
        match source {
            IpAddr::V4(a) => {
                room[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                room[4..8].copy_from_slice(&a.octets());
            }
            IpAddr::V6(a) => {
                room[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                room[8..24].copy_from_slice(&a.octets());
            }
        }
        end += STORAGE;
    }
    Ok(end)
}

fn shown(g: &SockGuard<'_>, place: Place) -> Result<Membership> {
    if !place.group.is_multicast() {
        return Err(Error::Inval);
    }
    let at = joined(g, place)?.ok_or(Error::AddrNotAvail)?;
    g.sock.joined().get(at).cloned().ok_or(Error::AddrNotAvail)
}

fn most_sources(stack: &Stack, v4: bool) -> usize {
    let n = if v4 { stack.sysctl.igmp_max_msf() } else { stack.sysctl.mld_max_msf() };
    // Compared without sign: a negative one does not limit.
    n as u32 as usize
}

/// Where in the socket's list the group is, on the interface named; None: not joined there. Errors: EINVAL for what is
/// no group, ENODEV.
fn joined(g: &SockGuard<'_>, place: Place) -> Result<Option<usize>> {
    if !place.group.is_multicast() {
        return Err(Error::Inval);
    }
    let dev = device(g.stack, place)?;
    // Over IPv6 the index 0 means any interface.
    let any = place.group.is_ipv6() && place.ifindex == 0;
    let list = g.sock.joined();
    Ok(list.iter().position(|m| m.group == place.group && (any || m.ifindex == dev.ifindex)))
}

/// The interface that is meant: the one named, else that of the route to the group. ENODEV (ip_mc_find_dev).
fn device(stack: &Arc<Stack>, place: Place) -> Result<Arc<NetDev>> {
    if place.ifindex != 0 {
        return stack.netdevs.by_index(place.ifindex).ok_or(Error::NoDev);
    }
    if !place.addr.is_unspecified() {
        return route::device_of(stack, place.addr.into()).ok_or(Error::NoDev);
    }
    route::lookup(stack, place.group, None, 0).map(|d| d.dev.clone()).map_err(|_| Error::NoDev)
}

/// Joins a group. Errors: EINVAL, ENODEV, EADDRINUSE, and ENOBUFS above igmp_max_memberships, ENOMEM above optmem_max.
fn join(g: &mut SockGuard<'_>, place: Place, mode: FilterMode) -> Result<()> {
    // A call that has met the close: nobody would leave the group.
    if !place.group.is_multicast() || g.common.flag(flag::DEAD) {
        return Err(Error::Inval);
    }
    let ifindex = device(g.stack, place)?.ifindex;
    let any = place.group.is_ipv6() && place.ifindex == 0;
    let (most, optmem) = (g.stack.sysctl.igmp_max_memberships(), g.stack.sysctl.optmem_max());
    let mut list = g.sock.joined();
    if list.iter().any(|m| m.group == place.group && (any || m.ifindex == ifindex)) {
        return Err(Error::AddrInUse);
    }
    let n = list.iter().filter(|m| m.group.is_ipv4() == place.group.is_ipv4()).count();
    match place.group {
        IpAddr::V4(_) if n >= most.max(0) as usize => return Err(Error::NoBufs),
        IpAddr::V6(_) if (n + 1) * MEMBERSHIP_BYTES >= optmem.max(0) as usize => return Err(Error::NoMem),
        _ => {}
    }
    list.push(Membership { ifindex, group: place.group, mode, sources: None });
    publish(g, list);
    net(g.stack).groups.update(g.stack, (ifindex, place.group), None, Some((mode, &[])));
    Ok(())
}

/// The membership at `at` of the socket's list becomes `new`, which differs in its filter alone.
fn replace(g: &mut SockGuard<'_>, at: usize, new: Membership) {
    let stack = g.stack;
    let mut list = g.sock.joined();
    let Some(m) = list.get_mut(at) else { return };
    let old = std::mem::replace(m, new);
    let (from, to) = ((old.mode, old.listed()), (m.mode, m.listed()));
    net(stack).groups.update(stack, (m.ifindex, m.group), Some(from), Some(to));
    publish(g, list);
}

/// Leaves a group. Errors: EINVAL for what is no group of IPv6, ENODEV, EADDRNOTAVAIL.
fn leave(g: &mut SockGuard<'_>, place: Place) -> Result<()> {
    let ifindex = match place.group {
        IpAddr::V6(a) if !a.is_multicast() => return Err(Error::Inval),
        IpAddr::V6(_) => (place.ifindex != 0).then_some(place.ifindex),
        IpAddr::V4(_) => match device(g.stack, place) {
            Err(e) if place.ifindex == 0 && place.addr.is_unspecified() => return Err(e),
            dev => dev.ok().map(|d| d.ifindex),
        },
    };
    let mut list = g.sock.joined();
    let hit = |m: &Membership| m.group == place.group && ifindex.is_none_or(|i| i == m.ifindex);
    let at = list.iter().position(hit).ok_or(Error::AddrNotAvail)?;
    let old = list.swap_remove(at);
    publish(g, list);
    drop_one(g.stack, &old);
    Ok(())
}

fn drop_one(stack: &Arc<Stack>, old: &Membership) {
    net(stack).groups.update(stack, (old.ifindex, old.group), Some((old.mode, old.listed())), None);
}

/// The socket closes: it leaves all its groups (ip_mc_drop_socket).
pub(in crate::ip) fn leave_all(g: &mut SockGuard<'_>) {
    let left = g.sock.joined();
    if !left.is_empty() {
        publish(g, Vec::new());
    }
    left.iter().for_each(|old| drop_one(g.stack, old));
}
