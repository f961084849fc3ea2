//! A group that a socket has joined, with its source filter (RFC 3376 §3.1, RFC 3810 §4.1, RFC 3678). Above: the
//! protocols, which ask what the filter admits. Below: nothing; `ip` keeps the list. Linux: struct ip_mc_socklist,
//! struct ipv6_mc_socklist.

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
