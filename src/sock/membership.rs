//! A group that a socket has joined, with its source filter (RFC 3376 §3.1, RFC 3810 §4.1, RFC 3678). Above: the
//! protocols, which ask what the filter admits. Below: nothing; `ip` keeps the list. Linux: struct ip_mc_socklist,
//! struct ipv6_mc_socklist.

use super::Sock;
use super::addr::AF_INET;
use crate::sys::lock::RwLock;
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
/// changes it. None: no membership, and IP_MULTICAST_ALL and IPV6_MULTICAST_ALL as in a new socket. Linux: mc_list,
/// ipv6_mc_list, which are read under RCU.
pub(super) type Heard = RwLock<Option<Hearing>>;

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

impl Sock {
    /// The groups joined.
    pub(crate) fn joined(&self) -> Vec<Membership> {
        let heard = self.unowned.get().map(|u| u.heard.read());
        heard.as_deref().and_then(Option::as_ref).map_or_else(Vec::new, |h| h.joined.clone())
    }

    /// The options of the socket have changed.
    pub(crate) fn publish_heard(&self, now: Hearing) {
        let now = (now != Hearing::of_new(self.family)).then_some(now);
        if now.is_some() || self.unowned.get().is_some() {
            *self.unowned().heard.write() = now;
        }
    }

    /// Whether the socket takes what `source` sends to a group, as received by an interface: as its own filter says if
    /// it joined the group, else as IP_MULTICAST_ALL or IPV6_MULTICAST_ALL. An IPv6 membership counts on all interfaces
    /// (ip_mc_sf_allow, inet6_mc_check).
    pub(crate) fn admits(&self, group: IpAddr, source: IpAddr, ifindex: u32) -> bool {
        let heard = self.unowned.get().map(|u| u.heard.read());
        let v6 = group.is_ipv6();
        let Some(h) = heard.as_deref().and_then(Option::as_ref) else {
            let new = Hearing::of_new(self.family);
            return if v6 { new.all6 } else { new.all4 };
        };
        let joined = h.joined.iter().find(|m| m.group == group && (v6 || m.ifindex == ifindex));
        joined.map_or(if v6 { h.all6 } else { h.all4 }, |m| m.admits(source))
    }
}
