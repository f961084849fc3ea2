//! The host's part of IGMP and MLD on one interface, for one family: which reports are due when. Above: `Groups`.
//! Below: `group`. Sends nothing and reads no clock: [`Iface::run`] returns what is to be sent. RFC 3376 §5 and §7, RFC
//! 3810 §6 and §8, RFC 2236, RFC 1112, RFC 2710; where they leave a choice, as Linux: igmp_heard_query,
//! igmp_heard_report, igmpv3_send_cr, igmp_timer_expire and their kin in net/ipv6/mcast.c.

use super::group::{Asked, Filter, Group};
use crate::base::env::{Duration, Instant};
use crate::sock::membership::FilterMode;
use crate::stack::TimerSlot;
use crate::wire::membership::{Query, Record, RecordType, Version};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// From a change to its first report: joins that follow each other share one (Linux: two jiffies).
const FIRST: Duration = Duration::from_millis(8);
/// Query interval and query response interval before a querier has said its own (RFC 3376 §8.2, §8.3).
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
const QUERY_RESPONSE: Duration = Duration::from_secs(10);
/// Longest response time that an MLDv1 query can name, for MLDv2 queries that MLDv1 answers.
const MLDV1_RESPONSE_MAX: Duration = Duration::from_millis(32_767);

/// What the sysctls say, and a source of random numbers.
pub(super) struct Params<'a> {
    /// Reports of a change, unless a querier says (igmp_qrv, mld_qrv).
    pub robustness: u8,
    /// force_igmp_version; force_mld_version has 1 for [`Version::V2`] and 2 for [`Version::V3`].
    pub force: Option<Version>,
    /// Longest time between unsolicited reports of old versions, and of IGMPv3 and MLDv2.
    pub unsolicited: (Duration, Duration),
    /// igmp_link_local_mcast_reports.
    pub link_local: bool,
    /// A time from zero to this one, at random.
    pub random: &'a dyn Fn(Duration) -> Duration,
}

/// A message to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Of IGMPv3 and MLDv2.
    Report(Vec<Record>),
    /// A report of an old version about one group.
    Old(Version, IpAddr),
    /// IGMPv2 leave, MLDv1 done.
    Leave(IpAddr),
}

/// The groups of one family on an interface.
#[derive(Default)]
pub(super) struct Iface {
    pub groups: BTreeMap<IpAddr, Group>,
    /// Until when queriers of old versions count as present.
    v1_until: Option<Instant>,
    v2_until: Option<Instant>,
    /// The querier's; 0: not said.
    robustness: u8,
    interval: Option<Duration>,
    response: Option<Duration>,
    /// When changes are reported, and all groups, in answer to a general query.
    change_at: Option<Instant>,
    general_at: Option<Instant>,
    pub timer: TimerSlot,
}

/// Whether a group is reported to routers: not those that all hosts are in, nor those of one host (RFC 3376 §5, RFC
/// 3810 §6).
fn reported(addr: IpAddr, p: &Params<'_>) -> bool {
    match addr {
        IpAddr::V4(a) if a == Ipv4Addr::new(224, 0, 0, 1) => false,
        IpAddr::V4(a) => p.link_local || a.octets()[..3] != [224, 0, 0],
        IpAddr::V6(a) => a.octets()[1] & 15 >= 2 && a.segments() != [0xff02, 0, 0, 0, 0, 0, 0, 1],
    }
}

fn sooner(at: &mut Option<Instant>, other: Instant) {
    *at = Some(at.map_or(other, |at| at.min(other)));
}

impl Iface {
    fn version(&self, p: &Params<'_>, now: Instant) -> Version {
        let present = |until: Option<Instant>| until.is_some_and(|t| now < t);
        match p.force {
            // Two, when forced, still falls back to one.
            Some(Version::V2) if !present(self.v1_until) => Version::V2,
            Some(Version::V1) => Version::V1,
            _ if present(self.v1_until) => Version::V1,
            _ if present(self.v2_until) => Version::V2,
            _ => Version::V3,
        }
    }

    fn robustness(&self, p: &Params<'_>) -> u8 {
        if self.robustness > 0 { self.robustness } else { p.robustness }
    }

    /// A socket's filter of the group `from` has become `to`. A leave of an old version is to be sent at once.
    /// `link`: routers are told of groups.
    pub(super) fn update(
        &mut self,
        addr: IpAddr,
        (from, to): (Option<Filter<'_>>, Option<Filter<'_>>),
        link: bool,
        p: &Params<'_>,
        now: Instant,
    ) -> Option<Message> {
        let (version, robustness) = (self.version(p, now), self.robustness(p));
        let group = self.groups.entry(addr).or_default();
        let was = group.is_joined();
        let changed = group.change(from, to, robustness);
        let joined = group.is_joined();
        let mut leave = None;
        if !link || !reported(addr, p) {
            group.forget_changes();
        } else if version == Version::V3 {
            if changed {
                sooner(&mut self.change_at, now + FIRST);
            }
        } else {
            group.forget_changes();
            if joined && !was {
                // MLDv1 sends two, whatever mld_qrv is.
                group.unsolicited = if addr.is_ipv4() { robustness } else { 2 };
                group.due = Some((now + FIRST, Asked::Group));
            }
            leave = (was && !joined && group.reporter && version == Version::V2).then_some(Message::Leave(addr));
        }
        if !joined {
            group.due = None;
            if !group.has_changes() {
                self.groups.remove(&addr);
            }
        }
        leave
    }

    /// A query has arrived.
    pub(super) fn query(&mut self, q: &Query, v4: bool, p: &Params<'_>, now: Instant) {
        let version = self.version(p, now);
        let (mut group, mut max) = (q.group, q.max_response);
        let mut sources: &[IpAddr] = &[];
        if q.version < Version::V3 {
            // Only MLD refuses old queries where the new version is forced.
            if !v4 && p.force == Some(Version::V3) {
                return;
            }
            let (interval, response) =
                (self.interval.unwrap_or(QUERY_INTERVAL), self.response.unwrap_or(QUERY_RESPONSE));
            let until = Some(now + interval * u32::from(self.robustness(p)) + response);
            if q.version == Version::V1 {
                (self.v1_until, group) = (until, None);
            } else {
                self.v2_until = until;
            }
            (self.change_at, self.general_at) = (None, self.general_at.filter(|_| v4));
            self.groups.values_mut().for_each(Group::forget_changes);
            self.groups.retain(|_, g| g.is_joined());
        } else if version == Version::V1 {
            (max, group) = (QUERY_RESPONSE, None);
        } else if version == Version::V2 {
            max = if v4 { max } else { max.min(MLDV1_RESPONSE_MAX) };
        } else {
            self.robustness = q.robustness;
            self.interval = (!q.interval.is_zero()).then_some(q.interval);
            self.response = Some(max);
            if group.is_none() {
                // A general query has no sources (RFC 3376 §4.1.10).
                if q.sources.is_empty() {
                    sooner(&mut self.general_at, now + (p.random)(max));
                }
                return;
            }
            sources = &q.sources;
        }
        for (addr, g) in &mut self.groups {
            if group.is_none_or(|asked| asked == *addr) && g.is_joined() && reported(*addr, p) {
                ask(g, sources, max, p, now);
            }
        }
    }

    /// A report of an old version by another host: ours is not needed.
    pub(super) fn heard(&mut self, addr: IpAddr) {
        if let Some(g) = self.groups.get_mut(&addr) {
            (g.due, g.reporter, g.unsolicited) = (None, false, 0);
        }
    }

    /// When [`run`](Iface::run) is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.groups.values().filter_map(|g| Some(g.due.as_ref()?.0));
        due.chain(self.change_at).chain(self.general_at).min()
    }

    /// What is to be sent at `now`.
    pub(super) fn run(&mut self, p: &Params<'_>, now: Instant) -> Vec<Message> {
        let version = self.version(p, now);
        let mut out = Vec::new();
        if self.general_at.is_some_and(|at| at <= now) {
            self.general_at = None;
            let groups = self.groups.iter().filter(|(a, g)| g.is_joined() && reported(**a, p));
            let records: Vec<Record> = groups.map(|(a, g)| current(*a, g, &Asked::Group)).collect();
            out.extend((!records.is_empty()).then_some(Message::Report(records)));
        }
        if self.change_at.is_some_and(|at| at <= now) {
            self.change_at = None;
            let records: Vec<Record> = self.groups.iter_mut().flat_map(|(a, g)| changes(*a, g)).collect();
            out.extend((!records.is_empty()).then_some(Message::Report(records)));
            self.groups.retain(|_, g| g.is_joined() || g.has_changes());
            if self.groups.values().any(Group::has_changes) {
                self.change_at = Some(now + (p.random)(p.unsolicited.1).max(FIRST));
            }
        }
        let mut asked = Vec::new();
        for (addr, g) in &mut self.groups {
            let Some((_, what)) = g.due.take_if(|due| due.0 <= now) else { continue };
            g.reporter = true;
            g.unsolicited = g.unsolicited.saturating_sub(1);
            if g.unsolicited > 0 {
                g.due = Some((now + (p.random)(p.unsolicited.0).max(FIRST), Asked::Group));
            }
            match version {
                Version::V3 => asked.push(current(*addr, g, &what)),
                old => out.push(Message::Old(old, *addr)),
            }
        }
        out.extend(asked.into_iter().map(|r| Message::Report(vec![r])));
        out
    }
}

/// A query about the group, or all groups: an answer becomes due within `max`, unless one is due sooner.
fn ask(g: &mut Group, sources: &[IpAddr], max: Duration, p: &Params<'_>, now: Instant) {
    let Some(mut what) = g.asked(sources) else { return };
    g.unsolicited = 0;
    let mut at = now + (p.random)(max);
    if let Some((due, before)) = g.due.take() {
        what = match (before, what) {
            (Asked::Sources(mut a), Asked::Sources(b)) => {
                let new: Vec<IpAddr> = b.into_iter().filter(|s| !a.contains(s)).collect();
                a.extend(new);
                Asked::Sources(a)
            }
            _ => Asked::Group,
        };
        if due < now + max {
            at = due;
        }
    }
    g.due = Some((at, what));
}

/// The record of a group's state, or of the sources asked about.
fn current(group: IpAddr, g: &Group, asked: &Asked) -> Record {
    let (ty, sources) = match (g.mode(), asked) {
        (FilterMode::Include, Asked::Sources(s)) => {
            let listed = g.listed();
            (RecordType::IsInclude, s.iter().copied().filter(|s| listed.contains(s)).collect())
        }
        (FilterMode::Include, Asked::Group) => (RecordType::IsInclude, g.listed()),
        (FilterMode::Exclude, _) => (RecordType::IsExclude, g.listed()),
    };
    Record { ty, group, sources }
}

/// The records of a group's changes.
fn changes(group: IpAddr, g: &mut Group) -> Vec<Record> {
    let c = g.take_changes();
    let mut out = Vec::new();
    for (ty, sources) in [(RecordType::Allow, c.allowed), (RecordType::Block, c.blocked)] {
        if !sources.is_empty() {
            out.push(Record { ty, group, sources });
        }
    }
    if let Some((mode, sources)) = c.mode {
        let ty = if mode == FilterMode::Include { RecordType::ToInclude } else { RecordType::ToExclude };
        out.push(Record { ty, group, sources });
    }
    out
}
