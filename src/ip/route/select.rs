//! Which address of ours packets come from, where nobody bound one. Above: `resolve`. Linux: inet_select_addr,
//! net/ipv6/addrconf.c (ipv6_dev_get_saddr); RFC 6724.

use crate::device::netdev::NetDev;
use crate::ip::net;
use crate::stack::Stack;
use crate::wire::addr::{Cidr, is_link_local_v6};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Scope of an IPv6 address by RFC 6724 §3.1, in multicast's numbers: 1 interface, 2 link, 5 site, 14 global.
fn scope_v6(ip: Ipv6Addr) -> u8 {
    if ip.is_multicast() {
        ip.octets()[1] & 15
    } else if ip.is_loopback() || is_link_local_v6(ip) {
        2
    } else if ip.segments()[0] & 0xffc0 == 0xfec0 {
        5
    } else {
        14
    }
}

/// Label of RFC 6724 §2.1's default policy table.
fn label_v6(ip: Ipv6Addr) -> u8 {
    let s = ip.segments();
    if ip.is_loopback() {
        0
    } else if ip.to_ipv4_mapped().is_some() {
        4
    } else if s[0] == 0x2002 {
        2
    } else if s[0] == 0x2001 && s[1] == 0 {
        5
    } else if s[0] & 0xfe00 == 0xfc00 {
        13
    } else if s[0] & 0xffc0 == 0xfec0 {
        11
    } else if s[0] == 0x3ffe {
        12
    } else if s[..6] == [0; 6] {
        3
    } else {
        1
    }
}

/// Whether it is of IPv4, and not of this host alone (RT_SCOPE_HOST).
fn is_source_v4(a: IpAddr) -> bool {
    a.is_ipv4() && !a.is_loopback()
}

/// The first of those of all interfaces.
fn any_address_v4(stack: &Stack) -> Option<IpAddr> {
    let devs = stack.netdevs.snapshot();
    let addrs = devs.iter().flat_map(|d| d.addrs()).map(|a| a.addr());
    addrs.into_iter().find(|a| is_source_v4(*a))
}

/// The address of ours that packets to `dst` by `dev` come from; None: there is none. IPv4 (inet_select_addr): of the
/// device, in the next hop's network if there is one, else the device's first, else any interface's, but none that is
/// of this host alone: that is a source only towards this host, by a route which says so. IPv6: RFC 6724 §5 rules 1, 2,
/// 3, 5, 6 and 8.
pub(super) fn select_source(stack: &Stack, dev: &Arc<NetDev>, next_hop: IpAddr, dst: IpAddr) -> Option<IpAddr> {
    match dst {
        IpAddr::V4(_) => {
            let own: Vec<Cidr> = dev.addrs().into_iter().filter(|a| is_source_v4(a.addr())).collect();
            let best = own.iter().find(|a| a.contains(next_hop)).or(own.first());
            best.map(|a| a.addr()).or_else(|| any_address_v4(stack))
        }
        IpAddr::V6(want) => {
            let on_link_only = want.is_multicast() || is_link_local_v6(want);
            let devs = stack.netdevs.snapshot();
            let candidates = devs.iter().filter(|d| !on_link_only || d.ifindex == dev.ifindex).flat_map(|d| {
                let here = d.ifindex == dev.ifindex;
                d.addrs().into_iter().filter_map(move |a| match a.addr() {
                    IpAddr::V6(ip) => Some((ip, a.prefix(), here, d.ifindex)),
                    IpAddr::V4(_) => None,
                })
            });
            let want_scope = scope_v6(want);
            let score = |ip: Ipv6Addr, prefix: u8, here: bool, ifindex: u32| {
                let scope = scope_v6(ip);
                // Rule 2: a scope that covers the destination's, and of those the smallest; else the largest.
                let by_scope = if scope >= want_scope { 100 - i16::from(scope) } else { i16::from(scope) - 100 };
                let common = (u128::from(ip) ^ u128::from(want)).leading_zeros().min(u32::from(prefix));
                let preferred = !net(stack).autoconf.is_deprecated(ifindex, ip);
                (ip == want, by_scope, preferred, here, label_v6(ip) == label_v6(want), common)
            };
            // The first of equals wins, as in Linux's walk; `max_by` would take the last.
            let mut best = None;
            for (ip, prefix, here, ifindex) in candidates {
                // The loopback address has host scope: it is used only towards itself.
                if ip.is_loopback() && !want.is_loopback() {
                    continue;
                }
                let s = score(ip, prefix, here, ifindex);
                if best.as_ref().is_none_or(|(b, _)| s > *b) {
                    best = Some((s, ip));
                }
            }
            best.map(|b| IpAddr::V6(b.1))
        }
    }
}
