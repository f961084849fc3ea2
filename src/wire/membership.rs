//! Group membership: IGMP (RFC 1112, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810), which is IGMP in ICMPv6. Above:
//! `ip::multicast`. A message is the payload of the IP packet. Not here: which messages to accept. Linux: struct
//! igmphdr, igmpv3_query, igmpv3_report, mld_msg, mld2_query, mld2_report.

use super::{ParseError, be16, be32, checksum, proto};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// Message types of IGMP.
pub(crate) mod igmp {
    /// Query, of all versions.
    pub(crate) const QUERY: u8 = 0x11;
    /// Report of version 1.
    pub(crate) const REPORT_V1: u8 = 0x12;
    /// Report of version 2.
    pub(crate) const REPORT_V2: u8 = 0x16;
    /// Leave of version 2.
    pub(crate) const LEAVE: u8 = 0x17;
    /// Report of version 3.
    pub(crate) const REPORT_V3: u8 = 0x22;
}

/// Message types of MLD, which are ICMPv6's.
pub(crate) mod mld {
    /// Query, of both versions.
    pub(crate) const QUERY: u8 = 130;
    /// Report of version 1.
    pub(crate) const REPORT_V1: u8 = 131;
    /// Done of version 1.
    pub(crate) const DONE: u8 = 132;
    /// Report of version 2.
    pub(crate) const REPORT_V2: u8 = 143;
}

/// Where reports of IGMPv3 go.
pub(crate) const IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Where leaves of IGMPv2 go.
pub(crate) const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Where reports of MLDv2 go.
pub(crate) const MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Where dones of MLDv1 go.
pub(crate) const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The router alert option of IPv4 (RFC 2113).
pub(crate) const ROUTER_ALERT_V4: [u8; 4] = [0x94, 4, 0, 0];
/// The hop-by-hop header of IPv6 with the router alert option for MLD (RFC 2711).
pub(crate) const ROUTER_ALERT_V6: [u8; 8] = [proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// Bytes of a report without its records.
pub(crate) const REPORT_LEN: usize = 8;

/// A version of the protocol. MLDv1 is IGMPv2's twin, MLDv2 IGMPv3's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// IGMPv1.
    V1,
    /// IGMPv2, MLDv1.
    V2,
    /// IGMPv3, MLDv2.
    V3,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Its version, by its length.
    pub version: Version,
    /// The group asked about; None: all.
    pub group: Option<IpAddr>,
    /// Time within which to answer.
    pub max_response: Duration,
    /// Querier's robustness variable; 0: not said.
    pub robustness: u8,
    /// Querier's query interval; 0: not said.
    pub interval: Duration,
    /// Sources asked about.
    pub sources: Vec<IpAddr>,
}

/// A floating point code of 8 bits (RFC 3376 §4.1.1).
fn code8(code: u8) -> u32 {
    match code {
        0..128 => u32::from(code),
        _ => (u32::from(code & 15) | 16) << ((code >> 4 & 7) + 3),
    }
}

/// A floating point code of 16 bits (RFC 3810 §5.1.3).
fn code16(code: u16) -> u32 {
    match code {
        0..0x8000 => u32::from(code),
        _ => (u32::from(code & 0xfff) | 0x1000) << ((code >> 12 & 7) + 3),
    }
}

impl Query {
    /// One without sources, which says nothing of its sender.
    fn old(version: Version, group: Option<IpAddr>, max_response: Duration) -> Query {
        Query { version, group, max_response, robustness: 0, interval: Duration::ZERO, sources: Vec::new() }
    }

    /// An IGMP query. `Truncated`: of no version's length, or shorter than its sources.
    pub(crate) fn parse_v4(b: &[u8]) -> Result<Query, ParseError> {
        let group = Some(be32(b, 4)).filter(|g| *g != 0).map(|g| IpAddr::V4(Ipv4Addr::from_bits(g)));
        let tenths = |n: u32| Duration::from_millis(u64::from(n) * 100);
        let old = |version, max_response| Query::old(version, group, max_response);
        match b.len() {
            8 if b[1] == 0 => return Ok(old(Version::V1, tenths(100))),
            8 => return Ok(old(Version::V2, tenths(u32::from(b[1])))),
            0..12 => return Err(ParseError::Truncated),
            _ => {}
        }
        let list = b[12..].get(..4 * usize::from(be16(b, 10))).ok_or(ParseError::Truncated)?;
        Ok(Query {
            robustness: b[8] & 7,
            interval: Duration::from_secs(u64::from(code8(b[9]))),
            sources: list.chunks_exact(4).map(|s| IpAddr::V4(Ipv4Addr::from_bits(be32(s, 0)))).collect(),
            ..old(Version::V3, tenths(code8(b[1])))
        })
    }

    /// An MLD query. `Truncated` as of IGMP; `BadField`: the group is an address of one host.
    pub(crate) fn parse_v6(b: &[u8]) -> Result<Query, ParseError> {
        let addr = |at: usize| Some(Ipv6Addr::from(*b.get(at..)?.first_chunk::<16>()?));
        let group = addr(8).ok_or(ParseError::Truncated)?;
        if !group.is_unspecified() && !group.is_multicast() {
            return Err(ParseError::BadField);
        }
        let millis = |n: u32| Duration::from_millis(u64::from(n));
        let group = (!group.is_unspecified()).then_some(IpAddr::V6(group));
        let old = |version, max_response| Query::old(version, group, max_response);
        match b.len() {
            24 => return Ok(old(Version::V2, millis(u32::from(be16(b, 4))))),
            0..28 => return Err(ParseError::Truncated),
            _ => {}
        }
        let n = usize::from(be16(b, 26));
        b[28..].get(..16 * n).ok_or(ParseError::Truncated)?;
        Ok(Query {
            robustness: b[24] & 7,
            interval: Duration::from_secs(u64::from(code8(b[25]))),
            sources: (0..n).filter_map(|i| addr(28 + 16 * i)).map(IpAddr::V6).collect(),
            ..old(Version::V3, millis(code16(be16(b, 4))))
        })
    }
}

/// What a record of a report says (RFC 3376 §4.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordType {
    IsInclude = 1,
    IsExclude = 2,
    ToInclude = 3,
    ToExclude = 4,
    Allow = 5,
    Block = 6,
}

/// A record of a report of IGMPv3 or MLDv2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// What it says.
    pub ty: RecordType,
    /// The group, of the message's family.
    pub group: IpAddr,
    /// Its sources, of the same family.
    pub sources: Vec<IpAddr>,
}

fn push(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
    }
}

impl Record {
    /// Bytes of a record without its sources, and of one address.
    pub(crate) const fn sizes(v4: bool) -> (usize, usize) {
        if v4 { (8, 4) } else { (20, 16) }
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        let (head, addr) = Record::sizes(self.group.is_ipv4());
        head + addr * self.sources.len()
    }
}

/// A report of IGMPv3 or MLDv2, without its checksum.
pub(crate) fn emit_report(records: &[Record], v4: bool) -> Vec<u8> {
    let mut out = vec![if v4 { igmp::REPORT_V3 } else { mld::REPORT_V2 }, 0, 0, 0, 0, 0];
    out.extend_from_slice(&(records.len() as u16).to_be_bytes());
    for r in records {
        out.extend_from_slice(&[r.ty as u8, 0]);
        out.extend_from_slice(&(r.sources.len() as u16).to_be_bytes());
        push(&mut out, r.group);
        r.sources.iter().for_each(|s| push(&mut out, *s));
    }
    out
}

/// A message of IGMPv1, IGMPv2 or MLDv1 about a group, without its checksum.
pub(crate) fn emit_old(ty: u8, group: IpAddr) -> Vec<u8> {
    let mut out = vec![ty, 0, 0, 0];
    if group.is_ipv6() {
        out.extend_from_slice(&[0; 4]);
    }
    push(&mut out, group);
    out
}

/// Fills in the checksum, of MLD that of ICMPv6.
pub(crate) fn fill_checksum(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    let pseudo = match (src, dst) {
        (IpAddr::V6(s), IpAddr::V6(d)) => checksum::pseudo_header_v6(s, d, proto::ICMPV6, message.len() as u32),
        _ => 0,
    };
    let sum = checksum::finish(checksum::sum(message, pseudo));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_of_times_are_exact_below_128_and_32768_and_exponential_above() {
        assert_eq!([0, 1, 127, 128, 0x8f, 0xff].map(code8), [0, 1, 127, 128, 248, 31_744]);
        assert_eq!([0, 0x7fff, 0x8000, 0xffff].map(code16), [0, 32_767, 32_768, 8_387_584]);
    }

    #[test]
    fn the_version_of_a_query_is_told_by_its_length() {
        let v4 = |len: usize, code: u8| {
            let b = [igmp::QUERY, code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            Query::parse_v4(&b[..len])
        };
        let version = |q: Result<Query, ParseError>| q.map(|q| (q.version, q.max_response.as_millis()));
        assert_eq!(version(v4(8, 0)), Ok((Version::V1, 10_000)));
        assert_eq!(version(v4(8, 50)), Ok((Version::V2, 5_000)));
        assert_eq!(version(v4(12, 0x80)), Ok((Version::V3, 12_800)));
        for len in [0, 7, 9, 11] {
            assert_eq!(version(v4(len, 1)), Err(ParseError::Truncated), "{len}");
        }
        let v6 = |len: usize| Query::parse_v6(&vec![0; len]);
        assert_eq!(version(v6(24)), Ok((Version::V2, 0)));
        assert_eq!(version(v6(28)), Ok((Version::V3, 0)));
        for len in [0, 23, 25, 27] {
            assert_eq!(version(v6(len)), Err(ParseError::Truncated), "{len}");
        }
        let mut lies = vec![0; 16];
        (lies[0], lies[11]) = (igmp::QUERY, 2);
        assert_eq!(Query::parse_v4(&lies), Err(ParseError::Truncated));
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]
        #[test]
        fn no_bytes_panic_and_sources_are_those_in_the_bytes(b in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(q) = Query::parse_v4(&b) {
                prop_assert!(q.sources.len() * 4 <= b.len());
            }
            if let Ok(q) = Query::parse_v6(&b) {
                prop_assert!(q.sources.len() * 16 <= b.len());
            }
        }
    }
}
