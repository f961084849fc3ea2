//! Addresses and routes come and go; each change raises the stack's `rt_genid`, so that no destination resolved before
//! is used afterwards. Above: `config`, `autoconf`, the control socket. Linux: net/ipv4/{devinet, fib_frontend}.c,
//! net/ipv6/{addrconf, route}.c.

use super::{METRIC_V6, RouteKind, RouteSpec, same_dev};
use crate::base::error::{Error, Result};
use crate::device::LinkType;
use crate::device::netdev::NetDev;
use crate::ip::{ifid, net};
use crate::stack::Stack;
use crate::wire::addr::{Cidr, is_link_local_v6};
use crate::wire::ether::MacAddr;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Adds an address to an interface, with the routes that come with it: the address itself is local; its network is on
/// the link; the directed broadcast address is one. On the loopback device an IPv4 network is local as a whole. The
/// first IPv6 address of an Ethernet device brings its link-local address with it (RFC 4862 §5.3; no duplicate address
/// detection). Errors: EEXIST; EINVAL for an address that cannot be a host's; EADDRNOTAVAIL for ::1 but of the
/// loopback.
pub fn add_address(stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Cidr) -> Result<()> {
    put_address(stack, dev, addr, true)
}

/// The same without the route to its network (IFA_F_NOPREFIXROUTE).
pub(in crate::ip) fn add_address_alone(stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Cidr) -> Result<()> {
    put_address(stack, dev, addr, false)
}

/// Adds the link-local address, unless the device has one, or is to have none.
pub(in crate::ip) fn add_link_local(stack: &Arc<Stack>, dev: &Arc<NetDev>, mac: MacAddr) -> Result<()> {
    let has = dev.addrs().iter().any(|c| matches!(c.addr(), IpAddr::V6(x) if is_link_local_v6(x)));
    if has || !ifid::wants_link_local(stack) {
        return Ok(());
    }
    let addr = ifid::address(stack, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), mac, 0);
    put_address(stack, dev, Cidr::new(IpAddr::V6(addr), 64).ok_or(Error::Inval)?, true)
}

fn put_address(stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Cidr, net_route: bool) -> Result<()> {
    let bad = match addr.addr() {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast() || a.is_unspecified(),
        IpAddr::V6(a) => a.is_multicast() || a.is_unspecified() || a.to_ipv4_mapped().is_some(),
    };
    if bad {
        return Err(Error::Inval);
    }
    let loopback = dev.caps().loopback;
    if let IpAddr::V6(a) = addr.addr() {
        if a.is_loopback() && !loopback {
            return Err(Error::AddrNotAvail);
        }
        // A device has it once, whatever its network is; of IPv4 it may have it once for each.
        if dev.addrs().iter().any(|c| c.addr() == addr.addr()) {
            return Err(Error::Exist);
        }
    }
    if let (IpAddr::V6(a), LinkType::Ethernet(mac)) = (addr.addr(), dev.caps().link)
        && !is_link_local_v6(a)
    {
        add_link_local(stack, dev, mac)?;
    }
    dev.push_addr(addr)?;
    if let IpAddr::V6(a) = addr.addr() {
        net(stack).groups.solicited(stack, dev, a, true);
    }
    {
        let mut inner = net(stack).routes.inner.write();
        let host = Cidr::host(addr.addr());
        let local =
            |dst| RouteSpec { kind: RouteKind::Local, src: Some(addr.addr()), ..RouteSpec::new(dst).via_dev(dev) };
        // The same address on two interfaces has one local route, which is no error.
        let _ = inner.local.insert(local(host), false);
        match addr.addr() {
            IpAddr::V4(own) => {
                if loopback {
                    let _ = inner.local.insert(local(addr.trunc()), false);
                } else if addr.prefix() < 32 {
                    let net = RouteSpec { src: Some(addr.addr()), ..RouteSpec::new(addr.trunc()).via_dev(dev) };
                    let _ = inner.v4.insert(net, false);
                }
                if let Some(b) = addr.broadcast() {
                    inner.broadcast.entry(b).or_default().push((dev.clone(), own));
                }
            }
            IpAddr::V6(_) if net_route && !loopback && addr.prefix() < 128 => {
                let net = RouteSpec { metric: METRIC_V6.1, ..RouteSpec::new(addr.trunc()).via_dev(dev) };
                let _ = inner.v6.insert(net, false);
            }
            IpAddr::V6(_) => {}
        }
    }
    stack.rt_genid_bump();
    Ok(())
}

/// Removes an address and the routes that came with it, as far as no other address keeps them. EADDRNOTAVAIL: not
/// there.
pub fn del_address(stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Cidr) -> Result<()> {
    take_address(stack, dev, addr, true)
}

/// As [`del_address`] of one that has come by [`add_address_alone`].
pub(in crate::ip) fn del_address_alone(stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Cidr) -> Result<()> {
    take_address(stack, dev, addr, false)
}

fn take_address(stack: &Arc<Stack>, dev: &Arc<NetDev>, addr: Cidr, net_route: bool) -> Result<()> {
    if !dev.remove_addr(&addr) {
        return Err(Error::AddrNotAvail);
    }
    if let IpAddr::V6(a) = addr.addr() {
        net(stack).groups.solicited(stack, dev, a, false);
    }
    {
        let left = dev.addrs();
        let elsewhere = stack.netdevs.snapshot().iter().any(|d| d.addrs().iter().any(|a| a.addr() == addr.addr()));
        let keeps_net = !net_route || left.iter().any(|a| a.trunc() == addr.trunc());
        let mut inner = net(stack).routes.inner.write();
        let of_dev = |r: &RouteSpec| r.dev.as_ref().is_some_and(|d| d.ifindex == dev.ifindex);
        if !elsewhere {
            inner.local.remove(|r| r.src == Some(addr.addr()));
        }
        let own = addr.addr();
        inner.table_mut(own).remove(|r| {
            of_dev(r) && (r.src == Some(own) || (!keeps_net && r.dst == addr.trunc() && r.gateway.is_none()))
        });
        if let (IpAddr::V4(own), Some(b)) = (addr.addr(), addr.broadcast())
            && let Some(list) = inner.broadcast.get_mut(&b)
        {
            list.retain(|(d, a)| d.ifindex != dev.ifindex || *a != own);
            if list.is_empty() {
                inner.broadcast.remove(&b);
            }
        }
    }
    stack.rt_genid_bump();
    Ok(())
}

/// Adds a route. Errors: EEXIST for the same prefix, metric, device and next hop; EINVAL for mixed families, a gateway
/// of ours, or neither device nor gateway; ENETUNREACH when no route on a link reaches the gateway.
pub fn add_route(stack: &Arc<Stack>, spec: RouteSpec) -> Result<()> {
    put_route(stack, spec, false)
}

/// As `add_route`, in the place of a route with the same prefix and metric if there is one (`ip route replace`). Errors
/// as there, but for EEXIST.
pub fn replace_route(stack: &Arc<Stack>, spec: RouteSpec) -> Result<()> {
    put_route(stack, spec, true)
}

fn put_route(stack: &Arc<Stack>, mut spec: RouteSpec, replace: bool) -> Result<()> {
    let v4 = spec.dst.addr().is_ipv4();
    if spec.src.is_some_and(|s| s.is_ipv4() != v4 || !net(stack).routes.is_local(s)) {
        return Err(Error::Inval);
    }
    if let Some(gw) = spec.gateway {
        if gw.is_ipv4() != v4 || gw.is_multicast() || gw.is_unspecified() || net(stack).routes.is_local(gw) {
            return Err(Error::Inval);
        }
        let inner = net(stack).routes.inner.read();
        let hop = inner.table(gw).find(gw, |r| {
            r.gateway.is_none() && r.kind == RouteKind::Unicast && (spec.dev.is_none() || same_dev(&r.dev, &spec.dev))
        });
        match (hop, &spec.dev) {
            (Some(r), None) => spec.dev = r.dev.clone(),
            (Some(_), Some(_)) => {}
            // A link-local next hop needs no prefix route.
            (None, Some(_)) if matches!(gw, IpAddr::V6(a) if is_link_local_v6(a)) => {}
            (None, _) => return Err(Error::NetUnreach),
        }
    }
    if spec.kind == RouteKind::Unicast && spec.dev.is_none() {
        return Err(Error::Inval);
    }
    if !v4 && spec.metric == 0 {
        spec.metric = METRIC_V6.0;
    }
    {
        let mut inner = net(stack).routes.inner.write();
        if spec.kind == RouteKind::Local {
            inner.local.insert(spec, replace)?;
        } else {
            inner.table_mut(spec.dst.addr()).insert(spec, replace)?;
        }
    }
    stack.rt_genid_bump();
    Ok(())
}

/// Removes routes to a prefix: with this gateway and device where they are given, the first by metric. ESRCH: none.
pub fn del_route(stack: &Arc<Stack>, dst: Cidr, gateway: Option<IpAddr>, ifindex: u32) -> Result<()> {
    let dst = dst.trunc();
    {
        let mut inner = net(stack).routes.inner.write();
        let mut done = false;
        let n = inner.table_mut(dst.addr()).remove(|r| {
            let hit = !done
                && r.dst == dst
                && (gateway.is_none() || r.gateway == gateway)
                && (ifindex == 0 || r.dev.as_ref().is_some_and(|d| d.ifindex == ifindex));
            done |= hit;
            hit
        });
        if n == 0 {
            return Err(Error::Srch);
        }
    }
    stack.rt_genid_bump();
    Ok(())
}

/// Removes one route with all its attributes. ESRCH: it is gone.
pub(in crate::ip) fn del_exact(stack: &Arc<Stack>, route: &RouteSpec) -> Result<()> {
    let gone = net(stack).routes.inner.write().table_mut(route.dst.addr()).remove(|r| {
        r.dst == route.dst
            && (r.gateway, r.metric, r.mtu) == (route.gateway, route.metric, route.mtu)
            && r.metrics.hoplimit == route.metrics.hoplimit
            && same_dev(&r.dev, &route.dev)
    });
    if gone == 0 {
        return Err(Error::Srch);
    }
    stack.rt_genid_bump();
    Ok(())
}
