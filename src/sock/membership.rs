//! A group that a socket has joined, with its source filter (RFC 3376 §3.1, RFC 3810 §4.1, RFC 3678). Above: the
//! protocols, which ask what the filter admits. Below: nothing; `ip` keeps the list. Linux: struct ip_mc_socklist,
//! struct ipv6_mc_socklist.

use super::addr::AF_INET;
use crate::sys::lock::RwLock;
use crate::sys::once_box::OnceBox;
use std::net::IpAddr;

/// What the sources of a filter are. As RFC 3678 numbers the modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FilterMode {
    /// All sources but those listed are received (MCAST_EXCLUDE).
    Exclude = 0,
    /// Only those listed (MCAST_INCLUDE).
    Include = 1,
}

impl FilterMode {
    /// The mode of this number.
    pub(crate) fn from_number(n: u32) -> Option<FilterMode> {
        match n {
            0 => Some(FilterMode::Exclude),
            1 => Some(FilterMode::Include),
            _ => None,
        }
    }
}

/// A group that a socket has joined on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The interface.
    pub ifindex: u32,
    /// The group.
    pub group: IpAddr,
    /// What the sources are.
    pub mode: FilterMode,
    /// The sources, in ascending order. None: no source was ever listed, and the mode may still change.
    pub sources: Option<Vec<IpAddr>>,
}

impl Membership {
    /// The sources listed.
    pub(crate) fn listed(&self) -> &[IpAddr] {
        self.sources.as_deref().unwrap_or_default()
    }

    /// Whether the socket receives what `source` sends to the group (ip_mc_sf_allow, inet6_mc_check).
    pub(crate) fn admits(&self, source: IpAddr) -> bool {
        self.listed().contains(&source) == (self.mode == FilterMode::Include)
    }
}

/// What a socket's options say of datagrams to groups, where packets find it without owning the sock; only the owner
/// changes it. None: no membership, and IP_MULTICAST_ALL and IPV6_MULTICAST_ALL as in a new
/// socket. Linux: mc_list, ipv6_mc_list, which are read under RCU.
#[derive(Debug, Default)]
pub(crate) struct Heard(OnceBox<RwLock<Option<Hearing>>>);

/// See [`Heard`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hearing {
    /// The groups joined.
    pub joined: Vec<Membership>,
    /// IP_MULTICAST_ALL: groups that other sockets joined are heard, too.
    pub all4: bool,
    /// IPV6_MULTICAST_ALL.
    pub all6: bool,
}

impl Hearing {
    /// That of a new socket. Only those of IPv4 begin with IP_MULTICAST_ALL (inet_create).
    fn of_new(family: u16) -> Hearing {
        Hearing { joined: Vec::new(), all4: family == AF_INET, all6: true }
    }
}

impl Heard {
    /// The groups joined.
    pub(crate) fn joined(&self) -> Vec<Membership> {
        let heard = self.0.get().map(|h| h.read());
        heard.as_deref().and_then(Option::as_ref).map_or_else(Vec::new, |h| h.joined.clone())
    }

    /// The options of a socket of this family have changed.
    pub(crate) fn publish(&self, family: u16, now: Hearing) {
        let now = (now != Hearing::of_new(family)).then_some(now);
        if now.is_some() || self.0.get().is_some() {
            *self.0.get_or_init(RwLock::default).write() = now;
        }
    }

    /// Whether a socket of this family takes what `source` sends to a group, as received by an interface: as its own
    /// filter says if it joined the group, else as IP_MULTICAST_ALL or IPV6_MULTICAST_ALL. An IPv6 membership counts
    /// on all interfaces (ip_mc_sf_allow, inet6_mc_check).
    pub(crate) fn admits(&self, family: u16, group: IpAddr, source: IpAddr, ifindex: u32) -> bool {
        let heard = self.0.get().map(|h| h.read());
        let v6 = group.is_ipv6();
        let Some(h) = heard.as_deref().and_then(Option::as_ref) else {
            let new = Hearing::of_new(family);
            return if v6 { new.all6 } else { new.all4 };
        };
        let joined = h.joined.iter().find(|m| m.group == group && (v6 || m.ifindex == ifindex));
        joined.map_or(if v6 { h.all6 } else { h.all4 }, |m| m.admits(source))
    }
}
