//! Which groups this stack listens to, and the source filters of its sockets merged to one for each interface. Above:
//! socket options, `input` (is this for us), UDP and raw sockets (is this for that socket). A group is joined on an
//! interface by any number of sockets. Linux: ip_check_mc_rcu, ipv6_chk_mcast_addr, ip_mc_sf_allow, inet6_mc_check. RFC
//! 3376, RFC 3810.
//!
//! | file | what |
//! |---|---|
//! | `group` | one group: its merged filter, and what of it has to be reported |
//! | `iface` | which reports are due when, on one interface |
//! | `options` | the socket options |
//! | `report` | the messages as sent and received |

mod group;
mod iface;
pub(in crate::ip) mod options;
pub(in crate::ip) mod report;

use super::net;
use crate::base::env::{Duration, Instant};
use crate::device::LinkType;
use crate::device::netdev::NetDev;
use crate::sock::membership::{FilterMode, Hearing, Membership};
use crate::sock::{Sock, SockGuard, ip_flag};
use crate::stack::{Stack, TimerCall};
use crate::sys::lock::RwLock;
use crate::wire::addr::solicited_node;
use crate::wire::membership::{Query, Version};
use group::Filter;
use iface::{Iface, Message, Params};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Groups joined, by interface and family (IPv4: true).
#[derive(Default)]
pub(crate) struct Groups {
    ifaces: RwLock<HashMap<(u32, bool), Iface>>,
}

impl Groups {
    /// A socket's filter for the group on this interface `from` has become `to`; None: not joined.
    fn update(
        &self,
        stack: &Arc<Stack>,
        (ifindex, addr): (u32, IpAddr),
        from: Option<Filter<'_>>,
        to: Option<Filter<'_>>,
    ) {
        let link = stack.netdevs.by_index(ifindex).is_some_and(|d| is_link(&d));
        let now = stack.now();
        self.with(stack, (ifindex, addr.is_ipv4()), now, |iface, p| {
            iface.update(addr, (from, to), link, p, now).into_iter().collect()
        });
    }

    /// The interface itself joins or leaves the solicited-node group of an address of it, on a link with routers.
    pub(crate) fn solicited(&self, stack: &Arc<Stack>, dev: &NetDev, addr: Ipv6Addr, join: bool) {
        if is_link(dev) {
            let all: Option<Filter<'_>> = Some((FilterMode::Exclude, &[]));
            let (from, to) = if join { (None, all) } else { (all, None) };
            self.update(stack, (dev.ifindex, solicited_node(addr).into()), from, to);
        }
    }

    /// A query has arrived.
    fn query(&self, stack: &Arc<Stack>, ifindex: u32, v4: bool, q: &Query, now: Instant) {
        if stack.netdevs.by_index(ifindex).is_some_and(|d| is_link(&d)) {
            self.with(stack, (ifindex, v4), now, |iface, p| {
                iface.query(q, v4, p, now);
                Vec::new()
            });
        }
    }

    /// Another host has reported the group, in an old version.
    fn heard(&self, stack: &Arc<Stack>, ifindex: u32, group: IpAddr) {
        self.with(stack, (ifindex, group.is_ipv4()), stack.now(), |iface, _| {
            iface.heard(group);
            Vec::new()
        });
    }

    /// Works on the groups of an interface, arms its timer for what is then due, and sends what `f` returns.
    fn with(
        &self,
        stack: &Arc<Stack>,
        (ifindex, v4): (u32, bool),
        now: Instant,
        f: impl FnOnce(&mut Iface, &Params<'_>) -> Vec<Message>,
    ) {
        let random = |most: Duration| match most.as_nanos() as u64 {
            0 => Duration::ZERO,
            n => Duration::from_nanos(stack.entropy.next_u64() % n),
        };
        let p = params(stack, v4, &random);
        let messages = {
            let mut ifaces = self.ifaces.write();
            let iface = ifaces.entry((ifindex, v4)).or_default();
            let messages = f(iface, &p);
            match iface.next() {
                Some(at) => stack.arm_call(&mut iface.timer, Arc::new(Timer { ifindex, v4 }), at),
                None => {
                    stack.timers.cancel(&mut iface.timer);
                }
            }
            messages
        };
        if let Some(dev) = stack.netdevs.by_index(ifindex).filter(|_| !messages.is_empty()) {
            report::send(stack, &dev, v4, messages, now);
        }
    }

    /// Whether packets of `source` to a group that arrive by `dev` are for this stack: the all-nodes groups, the
    /// solicited-node groups of its addresses, and what sockets joined. `ifindex` is the interface of the membership:
    /// that of `dev`, or the one by which a packet left that comes back by the loopback device.
    pub(crate) fn accepts(&self, dev: &NetDev, ifindex: u32, group: IpAddr, source: IpAddr) -> bool {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        const ALL_NODES_HERE: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);
        let own = match group {
            IpAddr::V4(g) => g == Ipv4Addr::new(224, 0, 0, 1),
            IpAddr::V6(g) => {
                g == ALL_NODES
                    || g == ALL_NODES_HERE
                    || dev.addrs().iter().any(|a| matches!(a.addr(), IpAddr::V6(x) if solicited_node(x) == g))
            }
        };
        own || self
            .ifaces
            .read()
            .get(&(ifindex, group.is_ipv4()))
            .and_then(|i| i.groups.get(&group))
            .is_some_and(|g| g.admits(source))
    }
}

/// Whether the device's link has routers that want to know of groups.
fn is_link(dev: &NetDev) -> bool {
    matches!(dev.caps().link, LinkType::Ethernet(_))
}

fn params<'a>(stack: &Stack, v4: bool, random: &'a dyn Fn(Duration) -> Duration) -> Params<'a> {
    let s = &stack.sysctl;
    let millis = |n: i32| Duration::from_millis(n.max(0) as u64);
    match v4 {
        true => Params {
            robustness: s.igmp_qrv().clamp(1, 255) as u8,
            force: match s.force_igmp_version() {
                1 => Some(Version::V1),
                2 => Some(Version::V2),
                _ => None,
            },
            unsolicited: (
                millis(s.igmpv2_unsolicited_report_interval()),
                millis(s.igmpv3_unsolicited_report_interval()),
            ),
            link_local: s.igmp_link_local_mcast_reports(),
            random,
        },
        false => Params {
            robustness: s.mld_qrv().clamp(1, 255) as u8,
            force: match s.force_mld_version() {
                1 => Some(Version::V2),
                2 => Some(Version::V3),
                _ => None,
            },
            unsolicited: (s.mldv1_unsolicited_report_interval(), s.mldv2_unsolicited_report_interval()),
            link_local: true,
            random,
        },
    }
}

/// The timer of an interface's reports.
struct Timer {
    ifindex: u32,
    v4: bool,
}

impl TimerCall for Timer {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, now: Instant) {
        net(stack).groups.with(stack, (self.ifindex, self.v4), now, |iface, p| {
            iface.timer.fired();
            iface.run(p, now)
        });
    }
}

/// Whether this socket takes a datagram from `src` to `dst`, as far as its groups and their filters decide. The sock
/// need not be owned.
pub(crate) fn wanted(sock: &Sock, src: IpAddr, dst: IpAddr, ifindex: u32) -> bool {
    !dst.is_multicast() || sock.admits(dst, src, ifindex)
}

/// The socket's memberships become `joined`, or IP_MULTICAST_ALL or IPV6_MULTICAST_ALL has changed: [`wanted`] knows it
/// from now on.
pub(in crate::ip) fn publish(g: &SockGuard<'_>, joined: Vec<Membership>) {
    let c = &g.common;
    let all4 = c.ip_flags & ip_flag::MULTICAST_ALL != 0;
    let all6 = c.ip_flags & ip_flag::NOT_MULTICAST_ALL6 == 0;
    g.sock.publish_heard(Hearing { joined, all4, all6 });
}

#[cfg(test)]
mod tests;
