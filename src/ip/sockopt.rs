//! SOL_IP and SOL_IPV6 options, for every protocol. Above: `setsockopt` of TCP, UDP, raw and ping. Values are the C
//! structures' bytes in host order. Lengths, ranges and errnos are Linux's (net/ipv4/ip_sockglue.c, net/ipv6/
//! ipv6_sockglue.c); ip(7), ipv6(7).
//!
//! `own` has the options that are a bit or a small value and nothing else.
//!
//! A socket of IPv6 has the options of both families, each with its own value: what IP_RECVTTL asks for counts for
//! packets of IPv4, IPV6_RECVHOPLIMIT for those of IPv6.

pub(crate) mod own;

use super::multicast::{options, publish};
use super::rxcontrol::IP_CHECKSUM;
use super::socket_headers::{self, IPV6_2292PKTOPTIONS};
use super::{flowlabel, pktoptions, route, txcontrol};
use crate::base::error::{Error, Result};
use crate::sock::dst::Dst;
use crate::sock::sockopt::{int, put, within};
use crate::sock::{SockCommon, SockGuard, flag, ip_flag};
use crate::stack::Stack;
use std::net::{Ipv4Addr, Ipv6Addr};

const IP_PKTOPTIONS: i32 = 9;
const IP_MINTTL: i32 = 21;
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
const IPV6_MULTICAST_ALL: i32 = 29;
const IPV6_FLOWLABEL_MGR: i32 = 32;
const IPV6_FLOWINFO_SEND: i32 = 33;
const IPV6_DONTFRAG: i32 = 62;
const IPV6_AUTOFLOWLABEL: i32 = 70;
const IPV6_MINHOPCOUNT: i32 = 73;
const IPV6_TRANSPARENT: i32 = 75;
const IPV6_FREEBIND: i32 = 78;
/// The value of an option that may come as an int or as a single byte; 0 without bytes.
fn int_or_byte(value: &[u8]) -> i32 {
    match value {
        [] => 0,
        v if v.len() >= 4 => int(v).unwrap_or(0),
        v => i32::from(v[0]),
    }
}

fn is_stream(g: &SockGuard<'_>) -> bool {
    g.sock.ty == libc::SOCK_STREAM as u16
}

fn is_raw(g: &SockGuard<'_>) -> bool {
    g.sock.ty == libc::SOCK_RAW as u16
}

fn is_v6(g: &SockGuard<'_>) -> bool {
    g.sock.family == libc::AF_INET6 as u16
}

/// setsockopt(2) at level SOL_IP or SOL_IPV6. Errors: ENOPROTOOPT for an unknown option or level, EINVAL for a length
/// or value out of range, and by option EPERM, EPROTO, ENODEV, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS.
pub fn set(g: &mut SockGuard<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
    match level {
        libc::SOL_IP if is_v6(g) && is_raw(g) => Err(Error::NoProtoOpt),
        libc::SOL_IP => set_v4(g, name, value),
        libc::SOL_IPV6 if is_v6(g) => set_v6(g, name, value),
        _ => Err(Error::NoProtoOpt),
    }
}

/// getsockopt(2) at level SOL_IP or SOL_IPV6: writes at most `value.len()` bytes and returns how many. Errors:
/// ENOPROTOOPT, ENOTCONN (IP_MTU without a route).
pub fn get(g: &SockGuard<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
    match level {
        libc::SOL_IP if is_v6(g) && is_raw(g) => Err(Error::NoProtoOpt),
        libc::SOL_IP => get_v4(g, name, value),
        libc::SOL_IPV6 if is_v6(g) => get_v6(g, name, value),
        _ if is_v6(g) => Err(Error::NoProtoOpt),
        // Linux answers by family.
        _ => Err(Error::OpNotSupp),
    }
}

/// Sets the TOS; the ECN bits of a stream socket are TCP's and stay.
fn set_tos(g: &mut SockGuard<'_>, val: i32) {
    let mut tos = val as u8;
    if is_stream(g) {
        tos = tos & !3 | g.common.tos & 3;
    }
    if g.common.tos != tos {
        g.common.tos = tos;
        g.common.cold_mut().priority = txcontrol::tos_priority(tos);
        g.common.dst = None;
    }
}

/// Sets IP_RECVERR; off also empties the error queue.
fn set_recverr(g: &mut SockGuard<'_>, bit: u32, on: bool) {
    g.common.set_flag(bit, on);
    if !on {
        g.sock.purge_errors();
    }
}

/// The flow label of a packet to the socket's peer: the socket's, or one made of `hash`.
#[inline]
pub fn flow_label(stack: &Stack, sk: &SockCommon, hash: impl FnOnce() -> u32) -> u32 {
    flowlabel::make(stack, sk, sk.flow_label, hash)
}

fn set_ip_flag(g: &mut SockGuard<'_>, bit: u32, on: bool) {
    g.common.ip_flags = g.common.ip_flags & !bit | if on { bit } else { 0 };
}

/// The bit of an option that is a bit of `ip_flags`.
fn kept(name: i32) -> Option<u32> {
    match name {
        IP_CHECKSUM => Some(ip_flag::CHECKSUM),
        libc::IP_MULTICAST_ALL => Some(ip_flag::MULTICAST_ALL),
        _ => None,
    }
}

/// IPV6_PKTINFO of all packets: an interface and an address. EINVAL: too few bytes, or not the interface that the
/// socket is bound to.
fn set_pktinfo(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    let (addr, rest) = value.split_first_chunk::<16>().ok_or(Error::Inval)?;
    let ifindex = u32::from_ne_bytes(*rest.first_chunk().ok_or(Error::Inval)?);
    if g.common.bound_dev_if != 0 && g.common.bound_dev_if != ifindex {
        return Err(Error::Inval);
    }
    g.common.ip_more_mut().sticky_pktinfo = Some((ifindex, Ipv6Addr::from(*addr)));
    Ok(())
}

/// IPV6_MULTICAST_IF: the interface index, 0 for the route's.
fn multicast_if_v6(g: &SockGuard<'_>, val: i32) -> Result<u32> {
    if is_stream(g) {
        return Err(Error::NoProtoOpt);
    }
    if val != 0 {
        g.stack.netdevs.by_index(val as u32).ok_or(Error::NoDev)?;
        if g.common.bound_dev_if != 0 && g.common.bound_dev_if != val as u32 {
            return Err(Error::Inval);
        }
    }
    Ok(val as u32)
}

/// The TTL or hop limit of packets to groups: -1 is the default, which is 1.
fn multicast_hops(val: i32) -> Result<u8> {
    Ok(if val == -1 { 1 } else { within(val, 0..=255)? as u8 })
}

fn set_v4(g: &mut SockGuard<'_>, name: i32, value: &[u8]) -> Result<()> {
    if let Some(done) = options::set(g, libc::SOL_IP, name, value) {
        return done;
    }
    let val = int_or_byte(value);
    let on = val != 0;
    let some = || if value.is_empty() { Err(Error::Inval) } else { Ok(()) };
    if let Some(done) = own::set_v4(g, name, value) {
        return done;
    }
    if let Some(bit) = kept(name) {
        if name == libc::IP_MULTICAST_ALL {
            some()?;
            within(val, 0..=1)?;
        }
        set_ip_flag(g, bit, on);
        publish(g, g.sock.joined());
        return Ok(());
    }
    match name {
        libc::IP_TOS => set_tos(g, val),
        libc::IP_TTL => {
            some()?;
            g.common.ttl = if val == -1 { -1 } else { within(val, 1..=255)? as i16 };
        }
        libc::IP_HDRINCL if is_raw(g) => g.common.set_flag(flag::HDRINCL, on),
        libc::IP_PKTINFO => g.common.set_flag(flag::PKTINFO, on),
        libc::IP_RECVTTL => g.common.set_flag(flag::RECVTTL, on),
        libc::IP_RECVTOS => g.common.set_flag(flag::RECVTOS, on),
        libc::IP_RECVERR => set_recverr(g, flag::RECVERR, on),
        libc::IP_MTU_DISCOVER => {
            g.common.pmtudisc = within(val, libc::IP_PMTUDISC_DONT..=libc::IP_PMTUDISC_OMIT)? as u8;
        }
        libc::IP_FREEBIND => {
            some()?;
            g.common.set_flag(flag::FREEBIND, on);
        }
        IP_BIND_ADDRESS_NO_PORT => g.common.set_flag(flag::BIND_NO_PORT, on),
        libc::IP_TRANSPARENT => {
            some()?;
            g.common.set_flag(flag::TRANSPARENT, on);
        }
        IP_MINTTL => {
            some()?;
            g.common.cold_mut().min_ttl = within(val, 0..=255)? as u8;
        }
        libc::IP_MULTICAST_TTL if is_stream(g) => return Err(Error::Inval),
        libc::IP_MULTICAST_TTL => {
            some()?;
            g.common.mc_ttl = multicast_hops(val)?;
        }
        libc::IP_MULTICAST_LOOP => {
            some()?;
            g.common.set_flag(flag::MULTICAST_LOOP, on);
        }
        libc::IP_MULTICAST_IF if is_stream(g) => return Err(Error::Inval),
        libc::IP_MULTICAST_IF => multicast_if_v4(g, value)?,
        _ => return Err(Error::NoProtoOpt),
    }
    Ok(())
}

/// Whether Linux has an option of SOL_IPV6 by that number for the socket, which it sees before the length: also those
/// that are not implemented here.
fn takes_v6(g: &SockGuard<'_>, name: i32) -> bool {
    match name {
        libc::IPV6_MULTICAST_IF | libc::IPV6_MULTICAST_HOPS => !is_stream(g),
        // From IPV6_ADDRFORM to IPV6_FREEBIND, with the numbers between them that have no meaning left out.
        1..=6 | 8 | 11 | 16..=35 | 42..=51 | 53..=60 | 64..=67 | 72..=78 => true,
        _ => false,
    }
}

fn set_v6(g: &mut SockGuard<'_>, name: i32, value: &[u8]) -> Result<()> {
    let headers = socket_headers::set(g, name, value);
    if let Some(done) = headers.or_else(|| options::set(g, libc::SOL_IPV6, name, value)) {
        return done;
    }
    if let Some(done) = own::set_v6(g, name, value) {
        return done;
    }
    match name {
        libc::IPV6_PKTINFO => return set_pktinfo(g, value),
        IPV6_2292PKTOPTIONS => return pktoptions::set(g, value),
        IPV6_FLOWLABEL_MGR => return flowlabel::set(g, value),
        _ => {}
    }
    // An int is wanted, and a shorter value is EINVAL for nearly all; Linux reads 0 from nothing and has EINVAL where
    // it minds.
    let val = match name {
        IPV6_DONTFRAG | IPV6_AUTOFLOWLABEL => int(value).unwrap_or(0),
        _ => int(value).map_err(|e| if takes_v6(g, name) { e } else { Error::NoProtoOpt })?,
    };
    let on = val != 0;
    match name {
        // A raw socket has its protocol for a port (inet_num).
        libc::IPV6_V6ONLY if g.common.num() != 0 || g.sock.ty == libc::SOCK_RAW as u16 => return Err(Error::Inval),
        libc::IPV6_V6ONLY => g.common.set_flag(flag::V6ONLY, on),
        libc::IPV6_UNICAST_HOPS => g.common.hops = within(val, -1..=255)? as i16,
        libc::IPV6_MULTICAST_HOPS if is_stream(g) => return Err(Error::NoProtoOpt),
        libc::IPV6_MULTICAST_HOPS => g.common.mcast_hops = multicast_hops(val)?,
        libc::IPV6_MULTICAST_LOOP => {
            within(val, 0..=1)?;
            set_ip_flag(g, ip_flag::NOT_MULTICAST_LOOP6, !on);
        }
        libc::IPV6_MULTICAST_IF => g.common.mcast_oif = multicast_if_v6(g, val)?,
        IPV6_MULTICAST_ALL => {
            set_ip_flag(g, ip_flag::NOT_MULTICAST_ALL6, !on);
            publish(g, g.sock.joined());
        }
        libc::IPV6_RECVPKTINFO => set_ip_flag(g, ip_flag::RECVPKTINFO6, on),
        libc::IPV6_RECVHOPLIMIT => set_ip_flag(g, ip_flag::RECVHOPLIMIT, on),
        libc::IPV6_RECVTCLASS => set_ip_flag(g, ip_flag::RECVTCLASS, on),
        libc::IPV6_RECVERR => set_recverr(g, flag::RECVERR6, on),
        libc::IPV6_TCLASS => {
            let mut class = within(val, -1..=255)?.max(0) as u8;
            if is_stream(g) {
                class = class & !3 | g.common.tclass & 3;
            }
            g.common.tclass = class;
        }
        libc::IPV6_MTU_DISCOVER => {
            g.common.pmtudisc = within(val, libc::IPV6_PMTUDISC_DONT..=libc::IP_PMTUDISC_OMIT)? as u8;
        }
        IPV6_AUTOFLOWLABEL => {
            let value = if on { ip_flag::FLOWLABEL } else { 0 };
            g.common.ip_flags = g.common.ip_flags & !ip_flag::FLOWLABEL | ip_flag::FLOWLABEL_SET | value;
        }
        IPV6_FLOWINFO_SEND => flowlabel::set_send(&mut g.common, on),
        IPV6_DONTFRAG => g.common.set_flag(flag::DONTFRAG, on),
        IPV6_MINHOPCOUNT => g.common.cold_mut().min_hops = within(val, 0..=255)? as u8,
        IPV6_FREEBIND => g.common.set_flag(flag::FREEBIND, on),
        IPV6_TRANSPARENT => g.common.set_flag(flag::TRANSPARENT, on),
        _ => return Err(Error::NoProtoOpt),
    }
    Ok(())
}

/// Writes an int, or a single byte into a buffer that is shorter than an int and where the value fits.
fn put_short(value: &mut [u8], n: i32) -> usize {
    match value.len() {
        1..4 if (0..=255).contains(&n) => put(&mut value[..1], &[n as u8]),
        _ => put(value, &n.to_ne_bytes()),
    }
}

fn path_mtu(g: &SockGuard<'_>) -> Result<i32> {
    match &g.common.dst {
        Some(d) if d.mtu > 0 => Ok(d.mtu as i32),
        _ => Err(Error::NotConn),
    }
}

fn get_v4(g: &SockGuard<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
    if let Some(done) = options::get(g, libc::SOL_IP, name, value) {
        return done;
    }
    let c = &g.common;
    let bit = |b: u32| c.flag(b) as i32;
    if let Some(bit) = kept(name) {
        return Ok(put_short(value, (c.ip_flags & bit != 0) as i32));
    }
    match own::get_v4(g, name, value) {
        Some(own::Got::Int(n)) => return Ok(put_short(value, n)),
        Some(own::Got::Bytes(n)) => return Ok(n),
        None => {}
    }
    if name == IP_PKTOPTIONS && is_stream(g) {
        return Ok(pktoptions::get_v4(c, value));
    }
    let n = match name {
        libc::IP_TOS => i32::from(c.tos),
        libc::IP_TTL if c.ttl == -1 => g.stack.sysctl.ip_default_ttl(),
        libc::IP_TTL => i32::from(c.ttl),
        libc::IP_HDRINCL => bit(flag::HDRINCL),
        libc::IP_PKTINFO => bit(flag::PKTINFO),
        libc::IP_RECVTTL => bit(flag::RECVTTL),
        libc::IP_RECVTOS => bit(flag::RECVTOS),
        libc::IP_RECVERR => bit(flag::RECVERR),
        libc::IP_MTU_DISCOVER => i32::from(c.pmtudisc),
        libc::IP_MTU => path_mtu(g)?,
        libc::IP_FREEBIND => bit(flag::FREEBIND),
        libc::IP_TRANSPARENT => bit(flag::TRANSPARENT),
        IP_BIND_ADDRESS_NO_PORT => bit(flag::BIND_NO_PORT),
        IP_MINTTL => i32::from(c.min_ttl),
        libc::IP_MULTICAST_TTL => i32::from(c.mc_ttl),
        libc::IP_MULTICAST_LOOP => bit(flag::MULTICAST_LOOP),
        // A stream has an interface without its being set, IP_PKTOPTIONS's.
        libc::IP_MULTICAST_IF if is_stream(g) => return Ok(put(value, &[0; 4])),
        libc::IP_MULTICAST_IF => {
            let addr = c.ip_more.as_ref().and_then(|m| m.mc_addr);
            return Ok(put(value, &addr.unwrap_or(Ipv4Addr::UNSPECIFIED).octets()));
        }
        _ => return Err(Error::NoProtoOpt),
    };
    Ok(put_short(value, n))
}

fn get_v6(g: &SockGuard<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
    let headers = socket_headers::get(g, name, value);
    if let Some(done) = headers.or_else(|| options::get(g, libc::SOL_IPV6, name, value)) {
        return done;
    }
    let c = &g.common;
    let bit = |b: u32| c.flag(b) as i32;
    if name == IPV6_2292PKTOPTIONS {
        return pktoptions::get(g, value);
    }
    if name == IPV6_FLOWLABEL_MGR {
        return flowlabel::get(g, value);
    }
    if name == own::IPV6_PATHMTU {
        return own::path_mtu_info(g, value);
    }
    if let Some(n) = own::get_v6(g, name) {
        return Ok(put(value, &n.to_ne_bytes()));
    }
    let n = match name {
        libc::IPV6_V6ONLY => bit(flag::V6ONLY),
        libc::IPV6_UNICAST_HOPS if c.hops == -1 => match &c.dst {
            Some(d) => i32::from(super::output::default_ttl(g.stack, d, false)),
            None => g.stack.sysctl.ip6_hop_limit(),
        },
        libc::IPV6_UNICAST_HOPS => i32::from(c.hops),
        libc::IPV6_MULTICAST_HOPS => i32::from(c.mcast_hops),
        libc::IPV6_MULTICAST_LOOP => i32::from(c.ip_flags & ip_flag::NOT_MULTICAST_LOOP6 == 0),
        libc::IPV6_MULTICAST_IF => c.mcast_oif as i32,
        IPV6_MULTICAST_ALL => i32::from(c.ip_flags & ip_flag::NOT_MULTICAST_ALL6 == 0),
        libc::IPV6_RECVPKTINFO => i32::from(c.ip_flags & ip_flag::RECVPKTINFO6 != 0),
        libc::IPV6_RECVHOPLIMIT => i32::from(c.ip_flags & ip_flag::RECVHOPLIMIT != 0),
        libc::IPV6_RECVTCLASS => i32::from(c.ip_flags & ip_flag::RECVTCLASS != 0),
        libc::IPV6_RECVERR => bit(flag::RECVERR6),
        libc::IPV6_TCLASS => i32::from(c.tclass),
        libc::IPV6_MTU_DISCOVER => i32::from(c.pmtudisc),
        libc::IPV6_MTU => path_mtu(g)?,
        IPV6_AUTOFLOWLABEL => flowlabel::wants_label(g.stack, c) as i32,
        IPV6_FLOWINFO_SEND => flowlabel::sends(c).into(),
        IPV6_DONTFRAG => bit(flag::DONTFRAG),
        IPV6_MINHOPCOUNT => i32::from(c.min_hops),
        IPV6_FREEBIND => bit(flag::FREEBIND),
        IPV6_TRANSPARENT => bit(flag::TRANSPARENT),
        _ => return Err(Error::NoProtoOpt),
    };
    Ok(put(value, &n.to_ne_bytes()))
}

/// IP_MULTICAST_IF: struct in_addr, ip_mreq or ip_mreqn. Neither an address nor an interface: the routes decide again.
fn multicast_if_v4(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    let (addr, ifindex) = match value.len() {
        0..4 => return Err(Error::Inval),
        4..8 => (Ipv4Addr::new(value[0], value[1], value[2], value[3]), 0),
        _ => {
            let (_, addr, ifindex) = options::mreq_v4(value)?;
            (addr, ifindex)
        }
    };
    let addr = Some(addr).filter(|a| !a.is_unspecified());
    let dev = match (ifindex, addr) {
        (0, None) => None,
        (0, Some(addr)) => Some(route::device_of(g.stack, addr.into()).ok_or(Error::AddrNotAvail)?),
        (i, _) => Some(g.stack.netdevs.by_index(i).ok_or(Error::AddrNotAvail)?),
    };
    let ifindex = dev.map_or(0, |d| d.ifindex);
    if ifindex != 0 && g.common.bound_dev_if != 0 && g.common.bound_dev_if != ifindex {
        return Err(Error::Inval);
    }
    g.common.mc_index = ifindex;
    // An address is the source, too, whatever the interface; without one it is the interface's own again.
    if addr.is_some() || g.common.ip_more.is_some() {
        g.common.ip_more_mut().mc_addr = addr;
    }
    Ok(())
}

/// Whether packets of this socket carry DF, by IP_MTU_DISCOVER and the route (ip_dont_fragment).
pub(crate) fn dont_fragment(g: &SockGuard<'_>, dst: &Dst) -> bool {
    match i32::from(g.common.pmtudisc) {
        libc::IP_PMTUDISC_DO | libc::IP_PMTUDISC_PROBE => true,
        libc::IP_PMTUDISC_WANT => !dst.mtu_locked,
        _ => false,
    }
}

/// Whether the socket asks for queued errors (IP_RECVERR, IPV6_RECVERR); only then SO_ERROR names them, too.
pub fn wants_errors(g: &SockGuard<'_>, v4: bool) -> bool {
    let bit = if v4 { flag::RECVERR } else { flag::RECVERR6 };
    g.common.flag(bit)
}

#[cfg(test)]
mod tests;
