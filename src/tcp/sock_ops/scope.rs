//! Which connections a hook is called for: all of a stack, or those that are chosen by their addresses or have it
//! attached to their socket. Above: `registry`, `attach`. Linux has the cgroup that a program is attached to.

use super::Ends;
use crate::wire::addr::Cidr;
use crate::wire::tcp_options::{FASTOPEN_MAGIC, kind};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The sockets that a hook is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the stack, those that exist already as well.
    Stack,
    /// Those that have it attached ([`super::attach`]), and connections that begin while a filter of it matches
    /// ([`super::set_filters`]).
    Chosen,
}

/// Connections by their ends. Everything that is given must match; the default matches all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Our address; None: any, of either family.
    pub local: Option<Cidr>,
    /// The peer's; None: any, of either family.
    pub remote: Option<Cidr>,
    /// Our port.
    pub local_ports: RangeInclusive<u16>,
    /// The peer's.
    pub remote_ports: RangeInclusive<u16>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { local: None, remote: None, local_ports: 0..=u16::MAX, remote_ports: 0..=u16::MAX }
    }
}

fn covers(prefix: Option<Cidr>, ip: IpAddr) -> bool {
    prefix.is_none_or(|p| p.contains(ip.to_canonical()))
}

/// Whether some address has both prefixes.
fn meet(a: Option<Cidr>, b: Option<Cidr>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.contains(b.addr()) && a.prefix() <= b.prefix() || b.contains(a.addr()),
        _ => true,
    }
}

fn ranges_meet(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> bool {
    a.start().max(b.start()) <= a.end().min(b.end())
}

impl Filter {
    /// Whether it matches a connection.
    pub(super) fn matches(&self, e: Ends) -> bool {
        covers(self.local, e.saddr)
            && covers(self.remote, e.daddr)
            && self.local_ports.contains(&e.sport)
            && self.remote_ports.contains(&e.dport)
    }

    /// Whether it may match a connection to a listener at this address.
    pub(super) fn may_match(&self, saddr: IpAddr, sport: u16) -> bool {
        (saddr.is_unspecified() || covers(self.local, saddr)) && self.local_ports.contains(&sport)
    }

    /// Whether a connection can match both.
    pub(super) fn overlaps(&self, other: &Filter) -> bool {
        meet(self.local, other.local)
            && meet(self.remote, other.remote)
            && ranges_meet(&self.local_ports, &other.local_ports)
            && ranges_meet(&self.remote_ports, &other.remote_ports)
    }
}

/// The kind of option that a hook writes, for the experimental kinds 253 and 254 with the experiment's number
/// (RFC 6994). Two hooks of one connection cannot both have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionKind {
    /// The option's kind.
    pub kind: u8,
    /// The experiment's number; 0 for all other kinds.
    pub exid: u16,
}

impl OptionKind {
    /// A kind that needs the number of an experiment.
    pub(super) const fn is_experimental(kind: u8) -> bool {
        matches!(kind, super::hdr::EXP_253 | kind::EXP)
    }

    /// Whether it is TCP's own: it would be read as something else.
    pub(super) fn is_tcps(self) -> bool {
        match self.kind {
            kind::EOL | kind::NOP | kind::MSS | kind::WINDOW | kind::SACK_PERM | kind::SACK | kind::TIMESTAMP => true,
            kind::MD5SIG | kind::AO | kind::FASTOPEN | kind::ACCECN0 | kind::ACCECN1 => true,
            kind::EXP => self.exid == FASTOPEN_MAGIC,
            _ => false,
        }
    }

    /// Of an option that is well formed.
    pub(super) fn of(option: &[u8]) -> Option<OptionKind> {
        match *option {
            [kind, _, a, b, ..] if Self::is_experimental(kind) => {
                Some(OptionKind { kind, exid: u16::from_be_bytes([a, b]) })
            }
            [kind, ..] => Some(OptionKind { kind, exid: 0 }),
            [] => None,
        }
    }
}

impl std::fmt::Display for OptionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.exid {
            0 => write!(f, "kind {}", self.kind),
            exid => write!(f, "kind {}, ExID 0x{exid:04x}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Option<Cidr> {
        (text != "*").then(|| text.parse().unwrap())
    }

    fn filter(
        local: &str,
        remote: &str,
        local_ports: RangeInclusive<u16>,
        remote_ports: RangeInclusive<u16>,
    ) -> Filter {
        Filter { local: cidr(local), remote: cidr(remote), local_ports, remote_ports }
    }

    #[test]
    fn a_filter_matches_by_prefixes_and_ports_of_both_ends() {
        let all = 0..=u16::MAX;
        for (local, remote, lports, rports, want) in [
            ("*", "*", all.clone(), all.clone(), true),
            ("10.1.0.0/16", "*", all.clone(), all.clone(), true),
            ("10.2.0.0/16", "*", all.clone(), all.clone(), false),
            ("*", "192.0.2.7/32", all.clone(), all.clone(), true),
            ("*", "192.0.2.8/32", all.clone(), all.clone(), false),
            ("*", "0.0.0.0/0", all.clone(), all.clone(), true),
            ("*", "::/0", all.clone(), all.clone(), false),
            ("10.1.0.0/16", "192.0.2.0/24", 80..=80, 1000..=1000, true),
            ("*", "*", 81..=90, all.clone(), false),
            ("*", "*", all.clone(), 1001..=2000, false),
        ] {
            let f = filter(local, remote, lports, rports);
            let ends = |saddr: &str, daddr: &str| Ends {
                saddr: saddr.parse().unwrap(),
                daddr: daddr.parse().unwrap(),
                sport: 80,
                dport: 1000,
            };
            assert_eq!(f.matches(ends("10.1.2.3", "192.0.2.7")), want, "{f:?}");
            assert_eq!(f.matches(ends("::ffff:10.1.2.3", "::ffff:192.0.2.7")), want, "mapped: {f:?}");
        }
    }

    #[test]
    fn a_listener_may_get_what_a_filter_matches() {
        let all = 0..=u16::MAX;
        for (local, remote, ports, at, want) in [
            ("10.1.0.0/16", "192.0.2.0/24", all.clone(), "10.1.2.3", true),
            ("10.1.0.0/16", "192.0.2.0/24", all.clone(), "10.2.2.3", false),
            ("10.1.0.0/16", "*", all.clone(), "0.0.0.0", true),
            ("10.1.0.0/16", "*", all.clone(), "::", true),
            ("*", "*", 81..=90, "0.0.0.0", false),
        ] {
            let f = filter(local, remote, ports, 5..=6);
            assert_eq!(f.may_match(at.parse().unwrap(), 80), want, "{f:?} {at}");
        }
    }

    #[test]
    fn two_filters_overlap_where_a_connection_can_match_both() {
        let all = 0..=u16::MAX;
        let one = filter("10.1.0.0/16", "192.0.2.0/24", 80..=90, all.clone());
        for (local, remote, ports, want) in [
            ("*", "*", all.clone(), true),
            ("10.0.0.0/8", "192.0.2.7/32", 90..=90, true),
            ("10.1.2.0/24", "*", 90..=99, true),
            ("10.2.0.0/16", "*", all.clone(), false),
            ("*", "2001:db8::/32", all.clone(), false),
            ("*", "*", 91..=99, false),
        ] {
            let two = filter(local, remote, ports, all.clone());
            assert_eq!((one.overlaps(&two), two.overlaps(&one)), (want, want), "{two:?}");
        }
    }
}
