//! Extension headers of IPv6: which are passed, and what the others draw. Above: `input`, which goes from header to
//! header. Below: the views of `wire::ipv6`. A header that does not fit in its packet is dropped without an answer.
//! Linux: net/ipv6/exthdrs.c, and ipv6_frag_rcv. RFC 8200 §4, RFC 5095, RFC 8754. Not here: Mobile IPv6.

use super::problem::Problem;
use super::route::Addressee;
use crate::counters::{DropReason, Mib};
use crate::sock::skb::SkbInner;
use crate::stack::Stack;
use crate::wire::ipv6::{self, Extension, Extensions, Ipv6Option, Ipv6Options, RoutingHeader, UnknownAction, option};
use crate::wire::proto;

/// A header in a packet: its protocol number, its offset, and the offset of the byte that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub next: u8,
    pub offset: usize,
    pub named_at: usize,
}

/// What a header leads to.
pub(super) enum Step {
    /// The header behind it.
    Next(Place),
    /// The header behind a fragment header of a packet that is whole.
    Atomic(Place),
    /// Reassembly.
    Fragment,
    /// The packet is dropped: what is counted, and what the sender is told.
    Refused { count: Option<Mib>, reason: DropReason, problem: Option<Problem> },
}

/// Types of routing headers.
mod routing {
    /// Source routes of RPL (RFC 6554).
    pub(super) const RPL: u8 = 3;
    /// Segment routing (RFC 8754).
    pub(super) const SEGMENTS: u8 = 4;
}

/// Whether this protocol number is a header that [`step`] passes. Hop-by-hop options stand first, and are refused as an
/// unknown protocol elsewhere.
pub(super) fn is_extension(next: u8) -> bool {
    matches!(next, proto::HOPOPTS | proto::DSTOPTS | proto::ROUTING | proto::FRAGMENT)
}

/// Where a chain of headers ends, whatever they are: the protocol, its offset in `packet`, and the offset field of the
/// last fragment header with its flag. None: a header does not begin in the packet. Linux: ipv6_skip_exthdr.
pub(super) fn skip(packet: &[u8], mut next: u8, mut offset: usize) -> Option<(u8, usize, u16)> {
    let mut fragment = 0;
    while is_extension(next) || matches!(next, proto::AH | proto::NO_NEXT) {
        let &[then, units] = packet.get(offset..offset + 2)?.first_chunk::<2>().filter(|_| next != proto::NO_NEXT)?;
        let len = match next {
            proto::FRAGMENT => {
                fragment = u16::from_be_bytes(*packet.get(offset + 2..)?.first_chunk()?);
                if fragment & !7 != 0 {
                    break;
                }
                ipv6::FRAGMENT_HEADER_LEN
            }
            proto::AH => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        (next, offset) = (then, offset + len);
    }
    Some((next, offset, fragment))
}

/// Where a packet names the protocol of what is behind its IP header of `len` bytes: in the IPv6 header, or in the last
/// of its extension headers.
pub(super) fn named_at(skb: &mut SkbInner, len: usize) -> u32 {
    let mut at = ipv6::NEXT_HEADER_OFFSET;
    if len > ipv6::HEADER_LEN && skb.may_pull(len) {
        let header = &skb.linear()[..len];
        let mut headers = Extensions::resume(header[at], ipv6::HEADER_LEN, &header[ipv6::HEADER_LEN..]);
        let mut next = headers.offset();
        while let Some(Ok(_)) = headers.next() {
            at = std::mem::replace(&mut next, headers.offset());
        }
    }
    at as u32
}

/// Whether a packet is or may be an ICMPv6 error, about which no error is sent (RFC 4443 §2.4 (e.1)). Linux:
/// is_ineligible.
pub(super) fn may_be_error(packet: &[u8], next: u8) -> bool {
    match skip(packet, next, ipv6::HEADER_LEN) {
        Some((proto::ICMPV6, offset, fragment)) => match packet.get(offset) {
            Some(kind) => *kind < 128,
            None => fragment == 0,
        },
        _ => false,
    }
}

/// Whether a first fragment, whose fragment header is at `offset`, ends before the upper-layer header does (RFC 7112).
/// A chain whose next header begins beyond it is left to the whole datagram. Linux: ipv6frag_thdr_truncated.
pub(super) fn is_incomplete(packet: &[u8], offset: usize) -> bool {
    let Some((next, at, fragment)) = skip(packet, proto::FRAGMENT, offset) else { return false };
    let need = match next {
        proto::TCP => 20,
        proto::UDP | proto::ICMPV6 => 8,
        _ => 1,
    };
    fragment & !7 == 0 && at + need > packet.len()
}

/// Reads the header at `at` of `packet`. `whole`: there was a fragment header already.
pub(super) fn step(stack: &Stack, packet: &[u8], at: Place, to: Addressee, whole: bool) -> Step {
    let sysctl = &stack.sysctl;
    if at.next == proto::FRAGMENT && !whole {
        stack.mib.inc(Mib::Ip6ReasmReqds);
    }
    let mut headers = Extensions::resume(at.next, at.offset, packet.get(at.offset..).unwrap_or_default());
    let header = headers.next();
    let len = headers.offset() - at.offset;
    let next = Place { next: headers.next_header(), offset: headers.offset(), named_at: at.offset };
    let refusal = match header {
        None => return unknown(at),
        // Hop-by-hop options stand in front of the fragment header, not in what was cut into fragments.
        Some(_) if whole && at.next == proto::HOPOPTS => return unknown(at),
        Some(Ok(Extension::Fragment(f))) if !whole && packet.get(4..6) != Some(&[0, 0]) => {
            return if f.is_atomic() { Step::Atomic(next) } else { Step::Fragment };
        }
        // Jumbograms have no fragments, and a datagram that was one fragment's is in no other.
        _ if at.next == proto::FRAGMENT => {
            Err((Some(Mib::Ip6InHdrErrors), Some(Problem::Parameter { pointer: at.offset as u32 })))
        }
        Some(Err(_)) => silent(),
        Some(Ok(Extension::HopByHop(o))) if len as i64 <= i64::from(sysctl.max_hbh_length()) => {
            options(o, true, packet, sysctl.max_hbh_opts_number(), to)
        }
        Some(Ok(Extension::Destination(o))) if len as i64 <= i64::from(sysctl.max_dst_opts_length()) => {
            options(o, false, packet, sysctl.max_dst_opts_number(), to)
        }
        Some(Ok(Extension::HopByHop(_))) => silent(),
        Some(Ok(Extension::Routing(r))) => route(r, to),
        Some(Ok(Extension::Destination(_) | Extension::Fragment(_))) => Err((None, None)),
    };
    match refusal {
        Ok(()) => Step::Next(next),
        Err((count, problem)) => Step::Refused { count, reason: DropReason::Ipv6BadExthdr, problem },
    }
}

/// A header of no known protocol.
fn unknown(at: Place) -> Step {
    let problem = Some(Problem::NoProtocol { pointer: at.named_at as u32 });
    Step::Refused { count: Some(Mib::Ip6InUnknownProtos), reason: DropReason::IpNoProto, problem }
}

/// A routing header is passed where no segments are left, but for the types that have to be enabled, which they are not
/// (seg6_enabled, rpl_seg_enabled). Linux: ipv6_rthdr_rcv.
fn route(r: RoutingHeader<'_>, to: Addressee) -> Result<(), Refusal> {
    if to != Addressee::Local {
        return Err((Some(Mib::Ip6InAddrErrors), None));
    }
    match (r.routing_type(), r.segments_left()) {
        (routing::SEGMENTS | routing::RPL, _) => Err((None, None)),
        (_, 0) => Ok(()),
        _ => Err((Some(Mib::Ip6InHdrErrors), Some(Problem::Parameter { pointer: r.offset as u32 + 2 }))),
    }
}

/// Why a header is refused: the counter, and what the sender is told.
type Refusal = (Option<Mib>, Option<Problem>);

/// Counted, and nobody is told.
fn silent() -> Result<(), Refusal> {
    Err((Some(Mib::Ip6InHdrErrors), None))
}

/// Options of one header. Unknown ones do what their top bits say (RFC 8200 §4.2). Linux: ip6_parse_tlv.
fn options(
    options: Ipv6Options<'_>,
    hop_by_hop: bool,
    packet: &[u8],
    max_number: i32,
    to: Addressee,
) -> Result<(), Refusal> {
    let mut seen = 0;
    for o in options {
        let Ok(o) = o else { return silent() };
        seen += 1;
        if seen > max_number.unsigned_abs() {
            return silent();
        }
        match o.kind {
            option::ROUTER_ALERT if hop_by_hop => match o.data.len() {
                2 => continue,
                _ => return silent(),
            },
            option::JUMBO if hop_by_hop => {
                jumbo(&o, packet)?;
                continue;
            }
            _ if max_number < 0 => return silent(),
            _ => {}
        }
        match o.unknown_action() {
            UnknownAction::Skip => {}
            UnknownAction::Discard => return silent(),
            UnknownAction::ProblemUnlessMulticast if to == Addressee::Multicast => return silent(),
            UnknownAction::Problem | UnknownAction::ProblemUnlessMulticast => {
                return Err((Some(Mib::Ip6InHdrErrors), Some(Problem::Option { pointer: o.offset as u32 })));
            }
        }
    }
    Ok(())
}

/// A jumbo payload (RFC 2675 §3) is longer than 65535, and the header's payload length is then 0. Linux:
/// ipv6_hop_jumbo.
fn jumbo(o: &Ipv6Option<'_>, packet: &[u8]) -> Result<(), Refusal> {
    let told = |pointer| Err((Some(Mib::Ip6InHdrErrors), Some(Problem::Parameter { pointer: pointer as u32 })));
    let &[a, b, c, d] = o.data else { return silent() };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if o.offset % 4 != 2 {
        silent()
    } else if len <= usize::from(u16::MAX) {
        told(o.offset + 2)
    } else if packet.get(4..6) != Some(&[0, 0]) {
        told(o.offset)
    } else if len > packet.len() - ipv6::HEADER_LEN {
        silent()
    } else {
        Ok(())
    }
}
