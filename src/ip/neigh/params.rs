//! The neighbours' sysctls of a family, and which probe is next. Above: `neigh`. Linux: struct neigh_parms,
//! neigh_max_probes, arp_solicit, ndisc_solicit.

use super::{Key, State};
use crate::base::env::Duration;
use crate::ip::net;
use crate::stack::Stack;

/// The sysctls of a family, or over IPv6 what routers have said.
pub(super) struct Params {
    pub(super) retrans: Duration,
    mcast_solicit: u32,
    ucast_solicit: u32,
    app_solicit: u32,
    mcast_resolicit: u32,
    pub(super) delay: Duration,
    pub(super) base_reachable: Duration,
    pub(super) queue_bytes: u32,
    pub(super) gc: [usize; 3],
    pub(super) gc_stale: Duration,
}

/// How a neighbour is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// By its known address.
    Unicast,
    /// All of the link.
    Multicast,
    /// By a daemon, where there is one: nothing is sent.
    Daemon,
}

impl Params {
    /// How an entry is asked the next time that was asked `probes` times; None: it does not answer.
    pub(super) fn probe(&self, state: State, probes: u32) -> Option<Probe> {
        let (unicast, multicast) = match state {
            State::Probe => (self.ucast_solicit, self.mcast_resolicit),
            _ => (0, self.mcast_solicit),
        };
        let daemon = unicast.saturating_add(self.app_solicit);
        match probes {
            n if n < unicast => Some(Probe::Unicast),
            n if n < daemon => Some(Probe::Daemon),
            n if n < daemon.saturating_add(multicast) => Some(Probe::Multicast),
            _ => None,
        }
    }
}

pub(super) fn params(stack: &Stack, (ifindex, ip): Key) -> Params {
    let (s, v4) = (&stack.sysctl, ip.is_ipv4());
    let n = |x: i32| x.max(0) as usize;
    if v4 {
        Params {
            retrans: s.neigh_retrans_time_ms(),
            mcast_solicit: s.neigh_mcast_solicit() as u32,
            ucast_solicit: s.neigh_ucast_solicit() as u32,
            app_solicit: s.neigh_app_solicit() as u32,
            mcast_resolicit: s.neigh_mcast_resolicit() as u32,
            delay: s.neigh_delay_first_probe_time(),
            base_reachable: s.neigh_base_reachable_time_ms(),
            queue_bytes: s.neigh_unres_qlen_bytes() as u32,
            gc: [n(s.neigh_gc_thresh1()), n(s.neigh_gc_thresh2()), n(s.neigh_gc_thresh3())],
            gc_stale: s.neigh_gc_stale_time(),
        }
    } else {
        let said = net(stack).autoconf.times(ifindex);
        Params {
            retrans: said.retrans.unwrap_or_else(|| s.neigh6_retrans_time_ms()),
            mcast_solicit: s.neigh6_mcast_solicit() as u32,
            ucast_solicit: s.neigh6_ucast_solicit() as u32,
            app_solicit: s.neigh6_app_solicit() as u32,
            mcast_resolicit: s.neigh6_mcast_resolicit() as u32,
            delay: s.neigh6_delay_first_probe_time(),
            base_reachable: said.reachable.unwrap_or_else(|| s.neigh6_base_reachable_time_ms()),
            queue_bytes: s.neigh6_unres_qlen_bytes() as u32,
            gc: [n(s.neigh6_gc_thresh1()), n(s.neigh6_gc_thresh2()), n(s.neigh6_gc_thresh3())],
            gc_stale: s.neigh6_gc_stale_time(),
        }
    }
}
