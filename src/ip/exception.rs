//! Path MTUs that ICMP reported are learned, and expire. Above: ICMP errors of transports. Below: `route`, which keeps
//! them and asks for them. Linux: struct fib_nh_exception, rt6_exception; RFC 1191, RFC 8201.

use super::net;
use super::route::{Exception, lookup};
use crate::base::env::Instant;
use crate::sock::dst::DstKind;
use crate::stack::{Stack, TimerCall};
use crate::wire::{ip, ipv6};
use std::net::IpAddr;
use std::sync::Arc;

/// Learned path MTUs kept; beyond that the one that expires first is removed.
const MAX_EXCEPTIONS: usize = 4096;

/// Lowers the path MTU to `dst`, as a router reported it, for `net.ipv4.route.mtu_expires`. Below the floor
/// (`net.ipv4.route.min_pmtu`) the floor is kept and DF is given up (the lock); an IPv6 report below 1280 is ignored
/// (RFC 8201 §4). Cached destinations become stale, so socks see it at their next lookup. Returns the MTU now in force.
/// Linux: __ip_rt_update_pmtu, __ip6_rt_update_pmtu.
pub fn update_pmtu(stack: &Arc<Stack>, dst: IpAddr, mtu: u32, now: Instant) -> Option<u32> {
    let current = lookup(stack, dst, None, 0).ok()?;
    if current.kind == DstKind::Local && !current.dev.caps().loopback || mtu >= current.mtu || current.mtu_locked {
        return Some(current.mtu);
    }
    let mut entry = Exception { mtu, locked: false, expires: now };
    match dst {
        IpAddr::V4(_) => {
            let floor = (stack.sysctl.route_min_pmtu() as u32).max(ip::MIN_MTU as u32);
            if mtu < floor {
                entry.locked = true;
                entry.mtu = current.mtu.min(floor);
            }
            entry.expires += stack.sysctl.route_mtu_expires();
        }
        IpAddr::V6(_) => {
            if mtu < ipv6::MIN_MTU as u32 {
                return Some(current.mtu);
            }
            entry.expires += stack.sysctl.route6_mtu_expires();
        }
    }
    {
        let mut ex = net(stack).routes.exceptions.lock();
        if ex.map.len() >= MAX_EXCEPTIONS
            && !ex.map.contains_key(&dst)
            && let Some(oldest) = ex.map.iter().min_by_key(|e| e.1.expires).map(|e| *e.0)
        {
            ex.map.remove(&oldest);
        }
        ex.map.insert(dst, entry);
        let at = ex.timer.at().filter(|_| ex.timer.is_armed()).map_or(entry.expires, |t| t.min(entry.expires));
        stack.arm_call(&mut ex.timer, Arc::new(Expire), at);
    }
    stack.rt_genid_bump();
    Some(entry.mtu)
}

/// Forgets learned path MTUs whose time is over.
struct Expire;

impl TimerCall for Expire {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        let gone = {
            let mut ex = net(stack).routes.exceptions.lock();
            ex.timer.fired();
            let before = ex.map.len();
            ex.map.retain(|_, e| e.expires > now);
            if let Some(next) = ex.map.values().map(|e| e.expires).min() {
                stack.arm_call(&mut ex.timer, self, next);
            }
            before != ex.map.len()
        };
        if gone {
            stack.rt_genid_bump();
        }
    }
}
