//! Which groups this stack listens to. Above: socket options (joins), `input` (is this for us). A group is joined on an
//! interface and counted, since several sockets may join it. Reports to routers (IGMP, MLD) are not sent: groups work
//! on one link, as behind a switch that floods multicast. Linux: ip_mc_join_group, ip_check_mc_rcu,
//! ipv6_chk_mcast_addr.

use crate::device::netdev::NetDev;
use crate::sys::lock::RwLock;
use crate::wire::addr::solicited_node;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Joined groups with the number of sockets that joined, by interface.
#[derive(Default)]
pub(crate) struct Groups {
    joined: RwLock<HashMap<(u32, IpAddr), u32>>,
}

impl Groups {
    /// One more socket has joined the group on this interface.
    pub(crate) fn join(&self, ifindex: u32, group: IpAddr) {
        *self.joined.write().entry((ifindex, group)).or_insert(0) += 1;
    }

    /// One socket fewer.
    pub(crate) fn leave(&self, ifindex: u32, group: IpAddr) {
        let mut joined = self.joined.write();
        if let Some(n) = joined.get_mut(&(ifindex, group)) {
            *n -= 1;
            if *n == 0 {
                joined.remove(&(ifindex, group));
            }
        }
    }

    /// Whether packets to a group that arrive by `dev` are for this stack: the all-nodes groups, the solicited-node
    /// groups of its addresses, and what sockets joined. Packets that arrive by the loopback device were sent by this
    /// stack, so membership on any interface counts.
    pub(crate) fn accepts(&self, dev: &NetDev, group: IpAddr) -> bool {
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
        let joined = self.joined.read();
        own || joined.contains_key(&(dev.ifindex, group)) || (dev.ifindex == 1 && joined.keys().any(|k| k.1 == group))
    }
}
