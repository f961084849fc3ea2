//! One group on one interface: the sockets' source filters merged into the interface's (RFC 3376 §3.2, RFC 3810 §4.2),
//! and which changes of it have to be reported how often yet (RFC 3376 §5.1, RFC 3810 §6.1). Above: `Groups`, which
//! keeps the groups, and `report`, which sends. Both families alike. Linux: ip_mc_add_src, ip_mc_del_src, is_in.

use crate::base::env::Instant;
use crate::sock::membership::FilterMode;
use std::net::IpAddr;

/// One socket's filter: its mode and sources.
pub(super) type Filter<'a> = (FilterMode, &'a [IpAddr]);

/// A source that a socket's filter lists.
#[derive(Debug)]
struct Source {
    addr: IpAddr,
    /// How many sockets include it.
    includes: u32,
    /// How many exclude it.
    excludes: u32,
    /// Reports yet to be sent of its last change.
    changes: u8,
}

/// What a response to a query is about.
#[derive(Debug)]
pub(super) enum Asked {
    /// The group as a whole.
    Group,
    /// These sources of it.
    Sources(Vec<IpAddr>),
}

/// A group on an interface.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// How many sockets have joined, and how many of them exclude sources.
    users: u32,
    excludes: u32,
    sources: Vec<Source>,
    /// Reports yet to be sent of the last change of the mode.
    mode_changes: u8,
    /// Before IGMPv3 and MLDv2: whether the last report heard on the link was ours, and the reports yet to be sent
    /// without being asked for.
    pub reporter: bool,
    pub unsolicited: u8,
    /// When a report is due: the answer to a query, or an unsolicited one of an old version.
    pub due: Option<(Instant, Asked)>,
}

impl Group {
    /// EXCLUDE if any socket's filter is; without sockets INCLUDE, and no sources.
    pub(super) fn mode(&self) -> FilterMode {
        if self.excludes > 0 { FilterMode::Exclude } else { FilterMode::Include }
    }

    fn lists(&self, s: &Source) -> bool {
        match self.mode() {
            FilterMode::Include => s.includes > 0,
            FilterMode::Exclude => s.includes == 0 && s.excludes == self.excludes,
        }
    }

    /// Sources of the interface's filter.
    pub(super) fn listed(&self) -> Vec<IpAddr> {
        self.sources.iter().filter(|s| self.lists(s)).map(|s| s.addr).collect()
    }

    /// Whether a socket has joined.
    pub(super) fn is_joined(&self) -> bool {
        self.users > 0
    }

    /// Whether what `source` sends to the group is for any socket here.
    pub(super) fn admits(&self, source: IpAddr) -> bool {
        let listed = self.sources.iter().any(|s| s.addr == source && self.lists(s));
        self.users > 0 && (source.is_unspecified() || listed == (self.mode() == FilterMode::Include))
    }

    fn count(&mut self, (mode, sources): Filter<'_>, by: impl Fn(&mut u32)) {
        by(&mut self.users);
        if mode == FilterMode::Exclude {
            by(&mut self.excludes);
        }
        for addr in sources {
            let at = self.sources.iter().position(|s| s.addr == *addr).unwrap_or_else(|| {
                self.sources.push(Source { addr: *addr, includes: 0, excludes: 0, changes: 0 });
                self.sources.len() - 1
            });
            match mode {
                FilterMode::Include => by(&mut self.sources[at].includes),
                FilterMode::Exclude => by(&mut self.sources[at].excludes),
            }
        }
    }

    /// A socket's filter `from` has become `to`; None: it has not joined, or has left. What changes in the interface's
    /// filter will be reported `robustness` times. False: nothing does.
    pub(super) fn change(&mut self, from: Option<Filter<'_>>, to: Option<Filter<'_>>, robustness: u8) -> bool {
        let (mode, listed) = (self.mode(), self.listed());
        if let Some(from) = from {
            self.count(from, |n| *n = n.saturating_sub(1));
        }
        if let Some(to) = to {
            self.count(to, |n| *n += 1);
        }
        let mut changed = self.mode() != mode;
        if changed {
            self.mode_changes = robustness;
            self.sources.iter_mut().for_each(|s| s.changes = 0);
        } else {
            let now = self.listed();
            for s in &mut self.sources {
                if listed.contains(&s.addr) != now.contains(&s.addr) {
                    (s.changes, changed) = (robustness, true);
                }
            }
        }
        self.prune();
        changed
    }

    /// Forgets the sources that no filter lists, once that has been reported.
    fn prune(&mut self) {
        self.sources.retain(|s| s.includes + s.excludes > 0 || s.changes > 0);
    }

    /// Whether a change has yet to be reported.
    pub(super) fn has_changes(&self) -> bool {
        self.mode_changes > 0 || self.sources.iter().any(|s| s.changes > 0)
    }

    /// Changes are not reported any more: an old querier does not understand them.
    pub(super) fn forget_changes(&mut self) {
        self.mode_changes = 0;
        self.sources.iter_mut().for_each(|s| s.changes = 0);
        self.prune();
    }

    /// What has changed, to be reported now: the new mode with its sources, and the sources now allowed and blocked.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut out = Changes { mode: None, allowed: Vec::new(), blocked: Vec::new() };
        let include = self.mode() == FilterMode::Include;
        if self.mode_changes > 0 {
            out.mode = Some((self.mode(), self.listed()));
            self.mode_changes -= 1;
        }
        let changed: Vec<bool> = self.sources.iter().map(|s| self.lists(s) == include).collect();
        for (s, allowed) in self.sources.iter_mut().zip(changed).filter(|(s, _)| s.changes > 0) {
            s.changes -= 1;
            if allowed { &mut out.allowed } else { &mut out.blocked }.push(s.addr);
        }
        self.prune();
        out
    }

    /// What a query about `sources` of the group asks of this host; None: nothing, no answer is due. Linux answers
    /// for the whole group where it excludes sources (igmp_xmarksources).
    pub(super) fn asked(&self, sources: &[IpAddr]) -> Option<Asked> {
        if sources.is_empty() {
            return Some(Asked::Group);
        }
        let listed = self.listed();
        match self.mode() {
            FilterMode::Exclude if sources.iter().all(|s| listed.contains(s)) => None,
            FilterMode::Exclude => Some(Asked::Group),
            FilterMode::Include => {
                let common: Vec<IpAddr> = listed.into_iter().filter(|s| sources.contains(s)).collect();
                (!common.is_empty()).then_some(Asked::Sources(common))
            }
        }
    }
}

/// See [`Group::take_changes`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    pub mode: Option<(FilterMode, Vec<IpAddr>)>,
    pub allowed: Vec<IpAddr>,
    pub blocked: Vec<IpAddr>,
}
