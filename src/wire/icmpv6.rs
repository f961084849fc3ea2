//! ICMPv6 and neighbour discovery: view, message, quoted packet, options, emitter. Above: `ip::input`, `icmp`,
//! neighbours. RFC 4443 (errors, echo), RFC 4861 (neighbour discovery); the options of RFC 8106 are skipped. Not here:
//! which messages to accept. Linux: struct icmp6hdr, icmpv6_rcv, ndisc.c.

use super::ether::MacAddr;
use super::ipv6::{BadExtension, Ipv6Header, Upper};
use super::{ParseError, be16, be32, checksum, proto};
use core::net::Ipv6Addr;

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 8;
/// Longest error packet to send, IPv6 header included: the minimum MTU (RFC 4443 §2.4 (c)).
pub(crate) const MAX_ERROR_LEN: usize = super::ipv6::MIN_MTU;
/// Hop limit of every neighbour discovery message; it proves that no router forwarded the message (RFC 4861 §11.2).
pub(crate) const ND_HOP_LIMIT: u8 = 255;

/// Message types (IANA icmpv6-parameters). Below 128 they are errors.
pub(crate) mod kind {
    /// Destination unreachable.
    pub(crate) const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub(crate) const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub(crate) const ECHO: u8 = 128;
    /// Echo reply.
    pub(crate) const ECHO_REPLY: u8 = 129;
    /// Extended echo request (RFC 8335).
    pub(crate) const EXT_ECHO: u8 = 160;
    /// Extended echo reply.
    pub(crate) const EXT_ECHO_REPLY: u8 = 161;
    /// Router solicitation.
    pub(crate) const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub(crate) const REDIRECT: u8 = 137;
}

/// Codes of destination unreachable (RFC 4443 §3.1).
pub(crate) mod unreachable {
    /// No route.
    pub(crate) const NO_ROUTE: u8 = 0;
    /// Administratively prohibited.
    pub(crate) const PROHIBITED: u8 = 1;
    /// Beyond the scope of the source.
    pub(crate) const BEYOND_SCOPE: u8 = 2;
    /// Address unreachable.
    pub(crate) const ADDRESS: u8 = 3;
    /// Port unreachable.
    pub(crate) const PORT: u8 = 4;
    /// Source address failed a policy.
    pub(crate) const POLICY: u8 = 5;
    /// Reject route.
    pub(crate) const REJECT_ROUTE: u8 = 6;
}

/// Codes of time exceeded (RFC 4443 §3.3).
pub(crate) mod time_exceeded {
    #![allow(dead_code, reason = "the table of codes is whole")]
    /// The hop limit reached 0 in transit.
    pub(crate) const HOP_LIMIT: u8 = 0;
    /// Fragment reassembly timed out.
    pub(crate) const REASSEMBLY: u8 = 1;
}

/// Codes of parameter problem (RFC 4443 §3.4).
pub(crate) mod parameter_problem {
    /// A header field is wrong.
    pub(crate) const HEADER_FIELD: u8 = 0;
    /// The next header is unknown.
    pub(crate) const NEXT_HEADER: u8 = 1;
    /// An option is unknown.
    pub(crate) const OPTION: u8 = 2;
    /// A first fragment does not have all headers (RFC 7112 §5).
    pub(crate) const INCOMPLETE_CHAIN: u8 = 3;
}

/// A decoded message. `quoted` is the beginning of the packet it is about: see [`Quoted::parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'p> {
    /// Destination unreachable.
    Unreachable {
        /// See [`mod@unreachable`].
        code: u8,
        /// The packet.
        quoted: &'p [u8],
    },
    /// Packet too big.
    PacketTooBig {
        /// MTU of the next hop, bytes.
        mtu: u32,
        /// The packet.
        quoted: &'p [u8],
    },
    /// Time exceeded.
    TimeExceeded {
        /// See [`time_exceeded`].
        code: u8,
        /// The packet.
        quoted: &'p [u8],
    },
    /// Parameter problem.
    ParameterProblem {
        /// See [`parameter_problem`].
        code: u8,
        /// Offset of the offending byte in the packet.
        pointer: u32,
        /// The packet.
        quoted: &'p [u8],
    },
    /// Echo request.
    Echo {
        /// Identifier: a ping socket's port.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// Data to send back.
        data: &'p [u8],
    },
    /// Echo reply.
    EchoReply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// The data of the request.
        data: &'p [u8],
    },
    /// Asks for router advertisements.
    RouterSolicitation {
        /// Options.
        options: NdOptions<'p>,
    },
    /// Announces a router.
    RouterAdvertisement {
        /// Hop limit to use; 0: unspecified.
        hop_limit: u8,
        /// M (0x80), O (0x40) and preference bits.
        flags: u8,
        /// Seconds for which it may be a default router; 0: it is not one.
        lifetime: u16,
        /// Milliseconds for which a neighbour is considered reachable; 0: unspecified.
        reachable_ms: u32,
        /// Milliseconds between solicitations; 0: unspecified.
        retrans_ms: u32,
        /// Options.
        options: NdOptions<'p>,
    },
    /// Asks for the link-layer address of `target`.
    NeighbourSolicitation {
        /// The address asked for; not a multicast address.
        target: Ipv6Addr,
        /// Options: the source link-layer address.
        options: NdOptions<'p>,
    },
    /// Announces the link-layer address of `target`.
    NeighbourAdvertisement {
        /// The sender is a router.
        router: bool,
        /// It is the answer to a solicitation.
        solicited: bool,
        /// It overrides the cached address.
        override_cache: bool,
        /// The address; not a multicast address.
        target: Ipv6Addr,
        /// Options: the target link-layer address.
        options: NdOptions<'p>,
    },
    /// A better next hop.
    Redirect {
        /// The next hop; equal to `destination` when that is on the link.
        target: Ipv6Addr,
        /// The destination this is about.
        destination: Ipv6Addr,
        /// Options: the target link-layer address, the packet.
        options: NdOptions<'p>,
    },
    /// Any other type.
    Other {
        /// Message type.
        kind: u8,
        /// Its code.
        code: u8,
        /// The second word.
        rest: [u8; 4],
        /// The bytes after it.
        data: &'p [u8],
    },
}

/// A view of a message; `parse` has checked that it has at least 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Icmpv6Header<'p> {
    bytes: &'p [u8],
}

impl<'p> Icmpv6Header<'p> {
    /// `bytes` is the whole payload after the extension headers. `Truncated`: fewer than 8.
    #[inline]
    pub(crate) fn parse(bytes: &'p [u8]) -> Result<Icmpv6Header<'p>, ParseError> {
        if bytes.len() < HEADER_LEN { Err(ParseError::Truncated) } else { Ok(Icmpv6Header { bytes }) }
    }

    /// Whether the checksum over pseudo-header and message is right.
    #[cfg(test)]
    #[inline]
    pub(crate) fn checksum_ok(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        let pseudo = checksum::pseudo_header_v6(src, dst, proto::ICMPV6, self.bytes.len() as u32);
        checksum::is_valid(checksum::sum(self.bytes, pseudo))
    }

    /// Message type: see [`kind`].
    #[inline]
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[0]
    }

    /// Code.
    #[inline]
    pub(crate) fn code(&self) -> u8 {
        self.bytes[1]
    }

    /// The second word.
    pub(crate) fn rest(&self) -> [u8; 4] {
        [self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]]
    }

    /// The bytes after the first 8.
    #[inline]
    pub(crate) fn payload(&self) -> &'p [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Whether it is neighbour discovery, which must have arrived with hop limit 255 (RFC 4861 §7.1).
    #[inline]
    pub(crate) fn is_neighbour_discovery(&self) -> bool {
        (kind::ROUTER_SOLICITATION..=kind::REDIRECT).contains(&self.kind())
    }

    /// The decoded message. Errors and echo always succeed. Neighbour discovery is validated as in RFC 4861 §6.1, §7.1
    /// and §8.1, as far as the message alone allows: too short (`Truncated`), code not 0 or a multicast target
    /// (`BadField`), an option of length 0 or beyond the end (`BadOption`). The caller must check the hop limit, which
    /// is in the IPv6 header.
    pub(crate) fn message(&self) -> Result<Message<'p>, ParseError> {
        let b = self.bytes;
        let (code, data) = (self.code(), self.payload());
        if self.is_neighbour_discovery() && code != 0 {
            return Err(ParseError::BadField);
        }
        Ok(match self.kind() {
            kind::UNREACHABLE => Message::Unreachable { code, quoted: data },
            kind::PACKET_TOO_BIG => Message::PacketTooBig { mtu: be32(b, 4), quoted: data },
            kind::TIME_EXCEEDED => Message::TimeExceeded { code, quoted: data },
            kind::PARAMETER_PROBLEM => Message::ParameterProblem { code, pointer: be32(b, 4), quoted: data },
            kind::ECHO => Message::Echo { id: be16(b, 4), seq: be16(b, 6), data },
            kind::ECHO_REPLY => Message::EchoReply { id: be16(b, 4), seq: be16(b, 6), data },
            kind::ROUTER_SOLICITATION => Message::RouterSolicitation { options: NdOptions::parse(data)? },
            kind::ROUTER_ADVERTISEMENT => {
                let (timers, options) = data.split_at_checked(8).ok_or(ParseError::Truncated)?;
                Message::RouterAdvertisement {
                    hop_limit: b[4],
                    flags: b[5],
                    lifetime: be16(b, 6),
                    reachable_ms: be32(timers, 0),
                    retrans_ms: be32(timers, 4),
                    options: NdOptions::parse(options)?,
                }
            }
            kind::NEIGHBOUR_SOLICITATION => {
                let (target, options) = target(data)?;
                Message::NeighbourSolicitation { target, options: NdOptions::parse(options)? }
            }
            kind::NEIGHBOUR_ADVERTISEMENT => {
                let (target, options) = target(data)?;
                Message::NeighbourAdvertisement {
                    router: b[4] & 0x80 != 0,
                    solicited: b[4] & 0x40 != 0,
                    override_cache: b[4] & 0x20 != 0,
                    target,
                    options: NdOptions::parse(options)?,
                }
            }
            kind::REDIRECT => {
                let (target, rest) = target(data)?;
                let (destination, options) = self::target(rest)?;
                Message::Redirect { target, destination, options: NdOptions::parse(options)? }
            }
            kind => Message::Other { kind, code, rest: [b[4], b[5], b[6], b[7]], data },
        })
    }
}

/// An address at the front that must not be multicast, and the bytes after it.
fn target(b: &[u8]) -> Result<(Ipv6Addr, &[u8]), ParseError> {
    let (addr, rest) = b.split_first_chunk::<16>().ok_or(ParseError::Truncated)?;
    let addr = Ipv6Addr::from(*addr);
    if addr.is_multicast() { Err(ParseError::BadField) } else { Ok((addr, rest)) }
}

/// Kinds of neighbour discovery options (RFC 4861 §4.6).
pub(crate) mod nd_option {
    /// Source link-layer address.
    pub(crate) const SOURCE_LLADDR: u8 = 1;
    /// Target link-layer address.
    pub(crate) const TARGET_LLADDR: u8 = 2;
    /// Prefix information.
    pub(crate) const PREFIX: u8 = 3;
    /// Redirected packet.
    pub(crate) const REDIRECTED: u8 = 4;
    /// MTU.
    pub(crate) const MTU: u8 = 5;
}

/// A neighbour discovery option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NdOption<'p> {
    /// Hardware address of the sender.
    SourceLladdr(MacAddr),
    /// Hardware address of the target.
    TargetLladdr(MacAddr),
    /// A prefix of the link.
    Prefix {
        /// Number of valid leading bits of the prefix.
        prefix_len: u8,
        /// Addresses with this prefix are on the link.
        on_link: bool,
        /// The prefix may be used for address autoconfiguration.
        autonomous: bool,
        /// Seconds; all ones means for ever.
        valid_lifetime: u32,
        /// Seconds; all ones means for ever.
        preferred_lifetime: u32,
        /// The prefix.
        prefix: Ipv6Addr,
    },
    /// The packet a redirect is about.
    Redirected(&'p [u8]),
    /// MTU of the link, bytes.
    Mtu(u32),
    /// Any other kind, or a known one of a wrong length: must be skipped (RFC 4861 §4.6).
    Other {
        /// Kind.
        kind: u8,
        /// The bytes after kind and length.
        data: &'p [u8],
    },
}

/// Options of a neighbour discovery message. `parse` has checked their lengths, so iterating cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NdOptions<'p> {
    bytes: &'p [u8],
}

impl<'p> NdOptions<'p> {
    /// No options.
    #[cfg(test)]
    pub(crate) const EMPTY: NdOptions<'static> = NdOptions { bytes: &[] };

    /// `BadOption` when an option has length 0 or extends past the end (RFC 4861 §6.1.1 and similar). Takes at most one
    /// step per 8 bytes.
    pub(crate) fn parse(bytes: &'p [u8]) -> Result<NdOptions<'p>, ParseError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = match rest.get(1) {
                None | Some(0) => return Err(ParseError::BadOption),
                Some(units) => usize::from(*units) * 8,
            };
            rest = rest.get(len..).ok_or(ParseError::BadOption)?;
        }
        Ok(NdOptions { bytes })
    }

    /// The options in order.
    pub(crate) fn iter(&self) -> NdOptionIter<'p> {
        NdOptionIter { rest: self.bytes }
    }

    /// The first source link-layer address.
    pub(crate) fn source_lladdr(&self) -> Option<MacAddr> {
        self.iter().find_map(|o| if let NdOption::SourceLladdr(m) = o { Some(m) } else { None })
    }

    /// The first target link-layer address.
    pub(crate) fn target_lladdr(&self) -> Option<MacAddr> {
        self.iter().find_map(|o| if let NdOption::TargetLladdr(m) = o { Some(m) } else { None })
    }
}

impl<'p> IntoIterator for NdOptions<'p> {
    type Item = NdOption<'p>;
    type IntoIter = NdOptionIter<'p>;
    fn into_iter(self) -> NdOptionIter<'p> {
        self.iter()
    }
}

/// Iterator over [`NdOptions`].
#[derive(Clone, Debug)]
pub(crate) struct NdOptionIter<'p> {
    rest: &'p [u8],
}

impl<'p> Iterator for NdOptionIter<'p> {
    type Item = NdOption<'p>;

    fn next(&mut self) -> Option<NdOption<'p>> {
        let (kind, units) = (*self.rest.first()?, *self.rest.get(1)?);
        let (option, rest) = self.rest.split_at_checked(usize::from(units) * 8)?;
        self.rest = rest;
        let data = option.get(2..)?;
        Some(match (kind, data) {
            (nd_option::SOURCE_LLADDR, &[a, b, c, d, e, f]) => NdOption::SourceLladdr(MacAddr([a, b, c, d, e, f])),
            (nd_option::TARGET_LLADDR, &[a, b, c, d, e, f]) => NdOption::TargetLladdr(MacAddr([a, b, c, d, e, f])),
            (nd_option::MTU, d) if d.len() == 6 => NdOption::Mtu(be32(d, 2)),
            (nd_option::REDIRECTED, d) if d.len() >= 6 => NdOption::Redirected(&d[6..]),
            (nd_option::PREFIX, d) if d.len() == 30 && d[0] <= 128 => {
                let mut prefix = [0; 16];
                prefix.copy_from_slice(&d[14..]);
                NdOption::Prefix {
                    prefix_len: d[0],
                    on_link: d[1] & 0x80 != 0,
                    autonomous: d[1] & 0x40 != 0,
                    valid_lifetime: be32(d, 2),
                    preferred_lifetime: be32(d, 6),
                    prefix: prefix.into(),
                }
            }
            (kind, data) => NdOption::Other { kind, data },
        })
    }
}

/// Bytes of a link-layer address option.
pub(crate) const LLADDR_OPTION_LEN: usize = 8;

/// A link-layer address option of `kind` ([`nd_option::SOURCE_LLADDR`] or [`nd_option::TARGET_LLADDR`]) as bytes, for
/// [`NdOptions::parse`].
pub(crate) const fn lladdr_option(kind: u8, mac: MacAddr) -> [u8; LLADDR_OPTION_LEN] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
}

/// The packet that an error is about. The sender of the error may have forged it, so it must be checked against a
/// socket before it is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'p> {
    /// Its IPv6 header.
    pub ip: Ipv6Header<'p>,
    /// The part after its extension headers.
    pub upper: Upper<'p>,
}

impl<'p> Quoted<'p> {
    /// As [`Ipv6Header::parse_quoted`]; besides `BadExtension` when the quote ends inside an extension header, and
    /// `Truncated` with fewer than 8 bytes of transport.
    #[inline]
    pub(crate) fn parse(bytes: &'p [u8]) -> Result<Quoted<'p>, ParseError> {
        let ip = Ipv6Header::parse_quoted(bytes)?;
        let upper = ip.upper().map_err(|e: BadExtension| ParseError::from(e))?;
        if upper.payload.len() < 8 { Err(ParseError::Truncated) } else { Ok(Quoted { ip, upper }) }
    }

    /// Protocol of the quoted transport.
    #[inline]
    pub(crate) fn protocol(&self) -> u8 {
        self.upper.protocol
    }

    /// The quoted transport header and payload: 8 bytes or more.
    #[inline]
    pub(crate) fn transport(&self) -> &'p [u8] {
        self.upper.payload
    }
}

impl Message<'_> {
    /// Number of bytes that `emit` writes.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN
            + match *self {
                Message::Unreachable { quoted, .. }
                | Message::PacketTooBig { quoted, .. }
                | Message::TimeExceeded { quoted, .. }
                | Message::ParameterProblem { quoted, .. } => quoted.len(),
                Message::Echo { data, .. } | Message::EchoReply { data, .. } | Message::Other { data, .. } => {
                    data.len()
                }
                Message::RouterSolicitation { options } => options.bytes.len(),
                Message::RouterAdvertisement { options, .. } => 8 + options.bytes.len(),
                Message::NeighbourSolicitation { options, .. } => 16 + options.bytes.len(),
                Message::NeighbourAdvertisement { options, .. } => 16 + options.bytes.len(),
                Message::Redirect { options, .. } => 32 + options.bytes.len(),
            }
    }

    /// Writes the message with its checksum for these addresses; returns `len()`.
    ///
    /// # Panics
    /// When `buf` is shorter than `len()`.
    pub(crate) fn emit(&self, buf: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        let b = &mut buf[..self.len()];
        b[..HEADER_LEN].fill(0);
        let (kind, code) = match *self {
            Message::Unreachable { code, quoted } => {
                b[8..].copy_from_slice(quoted);
                (kind::UNREACHABLE, code)
            }
            Message::PacketTooBig { mtu, quoted } => {
                b[4..8].copy_from_slice(&mtu.to_be_bytes());
                b[8..].copy_from_slice(quoted);
                (kind::PACKET_TOO_BIG, 0)
            }
            Message::TimeExceeded { code, quoted } => {
                b[8..].copy_from_slice(quoted);
                (kind::TIME_EXCEEDED, code)
            }
            Message::ParameterProblem { code, pointer, quoted } => {
                b[4..8].copy_from_slice(&pointer.to_be_bytes());
                b[8..].copy_from_slice(quoted);
                (kind::PARAMETER_PROBLEM, code)
            }
            Message::Echo { id, seq, data } | Message::EchoReply { id, seq, data } => {
                b[4..6].copy_from_slice(&id.to_be_bytes());
                b[6..8].copy_from_slice(&seq.to_be_bytes());
                b[8..].copy_from_slice(data);
                (if matches!(self, Message::Echo { .. }) { kind::ECHO } else { kind::ECHO_REPLY }, 0)
            }
            Message::RouterSolicitation { options } => {
                b[8..].copy_from_slice(options.bytes);
                (kind::ROUTER_SOLICITATION, 0)
            }
            Message::RouterAdvertisement { hop_limit, flags, lifetime, reachable_ms, retrans_ms, options } => {
                b[4..6].copy_from_slice(&[hop_limit, flags]);
                b[6..8].copy_from_slice(&lifetime.to_be_bytes());
                b[8..12].copy_from_slice(&reachable_ms.to_be_bytes());
                b[12..16].copy_from_slice(&retrans_ms.to_be_bytes());
                b[16..].copy_from_slice(options.bytes);
                (kind::ROUTER_ADVERTISEMENT, 0)
            }
            Message::NeighbourSolicitation { target, options } => {
                b[8..24].copy_from_slice(&target.octets());
                b[24..].copy_from_slice(options.bytes);
                (kind::NEIGHBOUR_SOLICITATION, 0)
            }
            Message::NeighbourAdvertisement { router, solicited, override_cache, target, options } => {
                b[4] = u8::from(router) << 7 | u8::from(solicited) << 6 | u8::from(override_cache) << 5;
                b[8..24].copy_from_slice(&target.octets());
                b[24..].copy_from_slice(options.bytes);
                (kind::NEIGHBOUR_ADVERTISEMENT, 0)
            }
            Message::Redirect { target, destination, options } => {
                b[8..24].copy_from_slice(&target.octets());
                b[24..40].copy_from_slice(&destination.octets());
                b[40..].copy_from_slice(options.bytes);
                (kind::REDIRECT, 0)
            }
            Message::Other { kind, code, rest, data } => {
                b[4..8].copy_from_slice(&rest);
                b[8..].copy_from_slice(data);
                (kind, code)
            }
        };
        b[0] = kind;
        b[1] = code;
        fill_checksum(b, src, dst);
        b.len()
    }
}

/// Computes the checksum of an ICMPv6 message; `message` is the whole message.
///
/// # Panics
/// When `message` is shorter than 8 bytes.
#[inline]
pub(crate) fn fill_checksum(message: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) {
    message[2..4].fill(0);
    let pseudo = checksum::pseudo_header_v6(src, dst, proto::ICMPV6, message.len() as u32);
    let c = checksum::finish(checksum::sum(message, pseudo));
    message[2..4].copy_from_slice(&c.to_be_bytes());
}

/// How many bytes of a packet of `len` to quote in an error.
#[inline]
pub(crate) const fn quote_len(len: usize) -> usize {
    let room = MAX_ERROR_LEN - super::ipv6::HEADER_LEN - HEADER_LEN;
    if len < room { len } else { room }
}

#[cfg(test)]
mod tests;
