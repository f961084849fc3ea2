//! Options of the IP levels that are a bit or a small value of the socket's own: what set keeps, get returns. Above:
//! `ip::sockopt`, which asks here first. What the bits do is in `datagram` (control messages), `port_table` and
//! `tcp::connect` (port range), `route` look-ups (interface). Linux: do_ip_setsockopt, do_ipv6_setsockopt.

use super::{int_or_byte, is_raw, is_stream};
use crate::base::error::{Error, Result};
use crate::ip::options;
pub(super) use crate::ip::rxcontrol::IPV6_PATHMTU;
use crate::ip::rxcontrol::{
    IP_ORIGDSTADDR, IP_RECVFRAGSIZE, IPV6_2292HOPLIMIT, IPV6_2292PKTINFO, IPV6_FLOWINFO, IPV6_ORIGDSTADDR,
    IPV6_RECVFRAGSIZE,
};
use crate::sock::ip_more::IpMore;
use crate::sock::sockopt::{int, put};
use crate::sock::{SockCommon, SockGuard, ip_flag};
use crate::stack::Stack;
use crate::wire::ipv6;

const IP_ROUTER_ALERT: i32 = 5;
const IP_PASSSEC: i32 = 18;
const IP_NODEFRAG: i32 = 22;
const IP_RECVERR_RFC4884: i32 = 26;
const IP_UNICAST_IF: i32 = 50;
const IP_LOCAL_PORT_RANGE: i32 = 51;
const IP_PROTOCOL: i32 = 52;

const IPV6_ROUTER_ALERT: i32 = 22;
const IPV6_ROUTER_ALERT_ISOLATE: i32 = 30;
const IPV6_RECVERR_RFC4884: i32 = 31;
const IPV6_RECVPATHMTU: i32 = 60;
const IPV6_ADDR_PREFERENCES: i32 = 72;
const IPV6_UNICAST_IF: i32 = 76;

/// struct ip6_mtuinfo: a sockaddr_in6 and the MTU.
const MTUINFO_LEN: usize = 32;

/// IPPROTO_RAW: such a socket receives nothing.
const IPPROTO_RAW: u16 = 255;

/// Bits of IPV6_ADDR_PREFERENCES (RFC 5014).
mod prefer {
    pub(super) const TMP: u32 = 0x0001;
    pub(super) const PUBLIC: u32 = 0x0002;
    pub(super) const COA: u32 = 0x0004;
    pub(super) const CGA: u32 = 0x0008;
    pub(super) const PUBTMP_DEFAULT: u32 = 0x0100;
    pub(super) const HOME: u32 = 0x0400;
    pub(super) const NONCGA: u32 = 0x0800;
}

fn bit_v4(name: i32) -> Option<u32> {
    Some(match name {
        libc::IP_RECVOPTS => ip_flag::RECVOPTS,
        libc::IP_RETOPTS => ip_flag::RETOPTS,
        IP_ROUTER_ALERT => ip_flag::ROUTER_ALERT,
        IP_PASSSEC => ip_flag::PASSSEC,
        IP_ORIGDSTADDR => ip_flag::ORIGDSTADDR,
        IP_NODEFRAG => ip_flag::NODEFRAG,
        IP_RECVFRAGSIZE => ip_flag::RECVFRAGSIZE,
        IP_RECVERR_RFC4884 => ip_flag::RECVERR_RFC4884,
        _ => return None,
    })
}

fn bit_v6(name: i32) -> Option<u32> {
    Some(match name {
        IPV6_2292PKTINFO => ip_flag::PKTINFO_2292,
        IPV6_2292HOPLIMIT => ip_flag::HOPLIMIT_2292,
        IPV6_FLOWINFO => ip_flag::FLOWINFO,
        IPV6_ROUTER_ALERT => ip_flag::ROUTER_ALERT6,
        IPV6_ROUTER_ALERT_ISOLATE => ip_flag::ROUTER_ALERT_ISOLATE,
        IPV6_RECVERR_RFC4884 => ip_flag::RECVERR6_RFC4884,
        IPV6_RECVPATHMTU => ip_flag::RECVPATHMTU,
        IPV6_ORIGDSTADDR => ip_flag::ORIGDSTADDR6,
        IPV6_RECVFRAGSIZE => ip_flag::RECVFRAGSIZE6,
        _ => return None,
    })
}

fn set_bit(c: &mut SockCommon, bit: u32, on: bool) {
    c.ip_flags = c.ip_flags & !bit | if on { bit } else { 0 };
}

fn more(c: &mut SockCommon) -> &mut IpMore {
    c.ip_more_mut()
}

/// Sets an option of SOL_IP. None: it is none of these. Errors: EINVAL, EADDRINUSE, ENOBUFS, EADDRNOTAVAIL,
/// ENOPROTOOPT.
pub(super) fn set_v4(g: &mut SockGuard<'_>, name: i32, value: &[u8]) -> Option<Result<()>> {
    let val = int_or_byte(value);
    let on = val != 0;
    let raw = is_raw(g);
    let refused = match name {
        libc::IP_OPTIONS => return Some(options::given(value).map(|o| more(&mut g.common).options = o)),
        IP_UNICAST_IF => return Some(unicast_if(g, value).map(|i| more(&mut g.common).unicast_if.0 = i)),
        IP_LOCAL_PORT_RANGE => return Some(set_port_range(&mut g.common, value)),
        // What a host does not forward is not given to the sockets that wait for it (ip_ra_control).
        IP_ROUTER_ALERT if !raw || g.sock.protocol == IPPROTO_RAW => Some(Error::Inval),
        IP_ROUTER_ALERT => match (on, g.common.ip_flags & ip_flag::ROUTER_ALERT != 0) {
            (true, true) => Some(Error::AddrInUse),
            (false, false) => Some(Error::NoBufs),
            _ => None,
        },
        // A matter of connection tracking, before IP input.
        IP_NODEFRAG if !raw => Some(Error::NoProtoOpt),
        IP_RECVFRAGSIZE if is_stream(g) => Some(Error::Inval),
        IP_RECVERR_RFC4884 if !(0..=1).contains(&val) => Some(Error::Inval),
        _ => None,
    };
    let bit = bit_v4(name)?;
    Some(match refused {
        Some(e) => Err(e),
        None => {
            set_bit(&mut g.common, bit, on);
            Ok(())
        }
    })
}

/// Sets an option of SOL_IPV6. None: it is none of these.
pub(super) fn set_v6(g: &mut SockGuard<'_>, name: i32, value: &[u8]) -> Option<Result<()>> {
    match name {
        IPV6_ROUTER_ALERT => return Some(int(value).and_then(|sel| router_alert(g, sel))),
        IPV6_UNICAST_IF if value.len() < 4 => return Some(Err(Error::Inval)),
        IPV6_UNICAST_IF => return Some(unicast_if(g, value).map(|i| more(&mut g.common).unicast_if.1 = i)),
        libc::IPV6_MTU => {
            let set = |mtu: i32| match mtu {
                0 => Ok(0),
                mtu if mtu < ipv6::MIN_MTU as i32 => Err(Error::Inval),
                mtu => Ok(mtu as u32),
            };
            return Some(int(value).and_then(set).map(|mtu| more(&mut g.common).frag_size = mtu));
        }
        IPV6_ADDR_PREFERENCES => {
            return Some(int(value).and_then(|v| preferences(v as u32)).map(|p| more(&mut g.common).srcprefs = p));
        }
        _ => {}
    }
    let bit = bit_v6(name)?;
    let val = match (name, int(value)) {
        // The one whose length is not looked at: less than an int is 0.
        (IPV6_RECVFRAGSIZE, val) => val.unwrap_or(0),
        (_, Err(e)) => return Some(Err(e)),
        (IPV6_RECVERR_RFC4884, Ok(val)) if !(0..=1).contains(&val) => return Some(Err(Error::Inval)),
        (_, Ok(val)) => val,
    };
    set_bit(&mut g.common, bit, val != 0);
    Some(Ok(()))
}

/// IPV6_ROUTER_ALERT: `sel` is the value that is waited for, negative for none. A host forwards nothing that could be
/// given to the socket. Errors: ENOPROTOOPT, of all but raw sockets of IPPROTO_RAW; EADDRINUSE, twice; ENOBUFS, none to
/// end (ip6_ra_control).
fn router_alert(g: &mut SockGuard<'_>, sel: i32) -> Result<()> {
    if !is_raw(g) || g.sock.protocol != IPPROTO_RAW {
        return Err(Error::NoProtoOpt);
    }
    let waits = g.common.ip_more.as_ref().is_some_and(|m| m.router_alert6);
    match (sel >= 0, waits) {
        (true, true) => return Err(Error::AddrInUse),
        (false, false) => return Err(Error::NoBufs),
        (on, _) => more(&mut g.common).router_alert6 = on,
    }
    set_bit(&mut g.common, ip_flag::ROUTER_ALERT6, sel != 0);
    Ok(())
}

/// What an option of SOL_IP returns, or its bytes in `value`. None: it is none of these.
pub(super) fn get_v4(g: &SockGuard<'_>, name: i32, value: &mut [u8]) -> Option<Got> {
    let c = &g.common;
    let of = c.ip_more.as_deref();
    Some(match name {
        libc::IP_OPTIONS => Got::Bytes(put(value, of.map_or(&[], |m| &m.options))),
        IP_UNICAST_IF => Got::Int(of.map_or(0, |m| m.unicast_if.0.to_be() as i32)),
        IP_LOCAL_PORT_RANGE => {
            let (low, high) = of.map_or((0, 0), |m| m.port_range);
            Got::Int((u32::from(high) << 16 | u32::from(low)) as i32)
        }
        IP_PROTOCOL => Got::Int(if is_raw(g) { g.sock.protocol.into() } else { c.num().into() }),
        _ => Got::Int((c.ip_flags & bit_v4(name)? != 0).into()),
    })
}

/// IPV6_PATHMTU: struct ip6_mtuinfo, in which Linux leaves the address out. EINVAL: no room for it; ENOTCONN.
pub(super) fn path_mtu_info(g: &SockGuard<'_>, value: &mut [u8]) -> Result<usize> {
    if value.len() < MTUINFO_LEN {
        return Err(Error::Inval);
    }
    let mtu = super::path_mtu(g)? as u32;
    let mut info = [0; MTUINFO_LEN];
    info[MTUINFO_LEN - 4..].copy_from_slice(&mtu.to_ne_bytes());
    Ok(put(value, &info))
}

/// The same of SOL_IPV6.
pub(super) fn get_v6(g: &SockGuard<'_>, name: i32) -> Option<i32> {
    let c = &g.common;
    let of = c.ip_more.as_deref();
    Some(match name {
        IPV6_UNICAST_IF => of.map_or(0, |m| m.unicast_if.1.to_be() as i32),
        IPV6_ADDR_PREFERENCES => shown_preferences(of.map_or(0, |m| m.srcprefs)) as i32,
        _ => (c.ip_flags & bit_v6(name)? != 0).into(),
    })
}

/// What [`get_v4`] found.
pub(super) enum Got {
    Int(i32),
    Bytes(usize),
}

/// The interface of IP_UNICAST_IF and IPV6_UNICAST_IF, which come in network order; 0: none. Errors: EINVAL, also of a
/// socket that is bound to one; EADDRNOTAVAIL, there is none of that number.
fn unicast_if(g: &SockGuard<'_>, value: &[u8]) -> Result<u32> {
    let bytes: [u8; 4] = value.try_into().map_err(|_| Error::Inval)?;
    let ifindex = u32::from_be_bytes(bytes);
    if ifindex == 0 {
        return Ok(0);
    }
    g.stack.netdevs.by_index(ifindex).ok_or(Error::AddrNotAvail)?;
    if g.common.bound_dev_if != 0 { Err(Error::Inval) } else { Ok(ifindex) }
}

fn set_port_range(c: &mut SockCommon, value: &[u8]) -> Result<()> {
    let bytes: [u8; 4] = value.try_into().map_err(|_| Error::Inval)?;
    let val = u32::from_ne_bytes(bytes);
    let (low, high) = (val as u16, (val >> 16) as u16);
    if low != 0 && high != 0 && low > high {
        return Err(Error::Inval);
    }
    more(c).port_range = (low, high);
    Ok(())
}

/// The ports that connect and bind to 0 choose from: those of `ip_local_port_range`, or the part of them that
/// IP_LOCAL_PORT_RANGE leaves (inet_sk_get_local_port_range).
pub(crate) fn port_range(stack: &Stack, c: &SockCommon) -> (u16, u16) {
    let (low, high) = stack.sysctl.ip_local_port_range();
    let own = c.ip_more.as_ref().map_or((0, 0), |m| m.port_range);
    let inside = |p: u16| p != 0 && (low..=high).contains(&p);
    (if inside(own.0) { own.0 } else { low }, if inside(own.1) { own.1 } else { high })
}

/// Whether the socket has a range of its own.
pub(crate) fn has_port_range(c: &SockCommon) -> bool {
    c.ip_more.as_ref().is_some_and(|m| m.port_range != (0, 0))
}

/// IPV6_ADDR_PREFERENCES: at most one of each of three choices. EINVAL: two of one, or an unknown bit
/// (ip6_sock_set_addr_preferences).
fn preferences(val: u32) -> Result<u32> {
    use prefer::*;
    let one_of = |choices: u32| match val & choices {
        0 => Ok(0),
        bit if bit.is_power_of_two() => Ok(bit),
        _ => Err(Error::Inval),
    };
    let publictmp = one_of(PUBLIC | TMP | PUBTMP_DEFAULT)? & (PUBLIC | TMP);
    let coa = one_of(HOME | COA)? & COA;
    one_of(CGA | NONCGA)?;
    // Bits that name nothing are not looked at.
    Ok(publictmp | coa)
}

/// How the preferences read: what was not chosen is shown, too.
fn shown_preferences(set: u32) -> u32 {
    use prefer::*;
    let publictmp = match set & (PUBLIC | TMP) {
        0 => PUBTMP_DEFAULT,
        chosen => chosen,
    };
    publictmp | if set & COA != 0 { COA } else { HOME }
}
