//! ICMP for IPv4: view, message, quoted datagram, emitter. Above: `ip::input` (errors to sockets), `icmp` (ping),
//! `ip::output` (errors we send). RFC 792, RFC 1122 §3.2.2, RFC 1191 (next-hop MTU). Not here: which errors to accept
//! and which to send. Linux: struct icmphdr, icmp_rcv.

use super::ip::Ipv4Header;
use super::{ParseError, be16, be32, checksum};
use core::net::Ipv4Addr;

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 8;
/// Precedence of errors, in the TOS field (IPTOS_PREC_INTERNETCONTROL; RFC 1812 §4.3.2.5).
pub(crate) const INTERNETWORK_CONTROL: u8 = 0xc0;
/// Longest error datagram to send, IP header included (RFC 1812 §4.3.2.3).
pub(crate) const MAX_ERROR_LEN: usize = 576;

/// Message types (IANA icmp-parameters).
pub(crate) mod kind {
    /// Echo reply.
    pub(crate) const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub(crate) const UNREACHABLE: u8 = 3;
    /// Source quench, deprecated (RFC 6633).
    pub(crate) const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub(crate) const REDIRECT: u8 = 5;
    /// Echo request.
    pub(crate) const ECHO: u8 = 8;
    /// Time exceeded.
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp request.
    pub(crate) const TIMESTAMP: u8 = 13;
    /// Timestamp reply.
    pub(crate) const TIMESTAMP_REPLY: u8 = 14;
    /// Extended echo request (RFC 8335).
    pub(crate) const EXT_ECHO: u8 = 42;
    /// Extended echo reply.
    pub(crate) const EXT_ECHO_REPLY: u8 = 43;
}

/// Codes of destination unreachable (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1).
pub(crate) mod unreachable {
    #![allow(dead_code, reason = "the table of codes is whole")]
    /// Network unreachable.
    pub(crate) const NET: u8 = 0;
    /// Host unreachable.
    pub(crate) const HOST: u8 = 1;
    /// Protocol unreachable.
    pub(crate) const PROTOCOL: u8 = 2;
    /// Port unreachable.
    pub(crate) const PORT: u8 = 3;
    /// Fragmentation needed and DF set.
    pub(crate) const FRAG_NEEDED: u8 = 4;
    /// Source route failed.
    pub(crate) const SOURCE_ROUTE: u8 = 5;
    /// Destination network unknown.
    pub(crate) const NET_UNKNOWN: u8 = 6;
    /// Destination host unknown.
    pub(crate) const HOST_UNKNOWN: u8 = 7;
    /// Source host isolated.
    pub(crate) const HOST_ISOLATED: u8 = 8;
    /// Network administratively prohibited.
    pub(crate) const NET_PROHIBITED: u8 = 9;
    /// Host administratively prohibited.
    pub(crate) const HOST_PROHIBITED: u8 = 10;
    /// Network unreachable for this type of service.
    pub(crate) const NET_TOS: u8 = 11;
    /// Host unreachable for this type of service.
    pub(crate) const HOST_TOS: u8 = 12;
    /// Filtered.
    pub(crate) const FILTERED: u8 = 13;
    /// Host precedence violation.
    pub(crate) const PRECEDENCE_VIOLATION: u8 = 14;
    /// Precedence cutoff.
    pub(crate) const PRECEDENCE_CUTOFF: u8 = 15;
    /// The highest code; Linux drops messages above it (NR_ICMP_UNREACH).
    pub(crate) const MAX: u8 = 15;
}

/// Codes of time exceeded.
pub(crate) mod time_exceeded {
    #![allow(dead_code, reason = "the table of codes is whole")]
    /// The TTL reached 0 in transit.
    pub(crate) const TTL: u8 = 0;
    /// Fragment reassembly timed out.
    pub(crate) const REASSEMBLY: u8 = 1;
}

/// Codes of redirect.
pub(crate) mod redirect {
    #![allow(dead_code, reason = "the table of codes is whole")]
    /// For the network.
    pub(crate) const NET: u8 = 0;
    /// For the host.
    pub(crate) const HOST: u8 = 1;
    /// For the network and type of service.
    pub(crate) const NET_TOS: u8 = 2;
    /// For the host and type of service.
    pub(crate) const HOST_TOS: u8 = 3;
}

/// A decoded message. `quoted` is the beginning of the datagram it is about: see [`Quoted::parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'p> {
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
    /// Destination unreachable.
    Unreachable {
        /// See [`mod@unreachable`].
        code: u8,
        /// MTU of the next hop in bytes, with code 4; 0 from a router older than RFC 1191.
        mtu: u16,
        /// Beginning of the datagram.
        quoted: &'p [u8],
    },
    /// Source quench: ignored (RFC 6633), but parsed so that it is counted.
    SourceQuench {
        /// Beginning of the datagram.
        quoted: &'p [u8],
    },
    /// Redirect.
    Redirect {
        /// See [`redirect`].
        code: u8,
        /// The better gateway.
        gateway: Ipv4Addr,
        /// Beginning of the datagram.
        quoted: &'p [u8],
    },
    /// Time exceeded.
    TimeExceeded {
        /// See [`time_exceeded`].
        code: u8,
        /// Beginning of the datagram.
        quoted: &'p [u8],
    },
    /// Parameter problem.
    ParameterProblem {
        /// 0: `pointer` is valid; 1: a required option is missing.
        code: u8,
        /// Offset of the offending byte in the datagram.
        pointer: u8,
        /// Beginning of the datagram.
        quoted: &'p [u8],
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
pub(crate) struct IcmpHeader<'p> {
    bytes: &'p [u8],
}

impl<'p> IcmpHeader<'p> {
    /// `bytes` is the whole IP payload. `Truncated`: fewer than 8.
    #[inline]
    pub(crate) fn parse(bytes: &'p [u8]) -> Result<IcmpHeader<'p>, ParseError> {
        if bytes.len() < HEADER_LEN { Err(ParseError::Truncated) } else { Ok(IcmpHeader { bytes }) }
    }

    /// Whether the checksum over the whole message is right.
    #[cfg(test)]
    #[inline]
    pub(crate) fn checksum_ok(&self) -> bool {
        checksum::is_valid(checksum::sum(self.bytes, 0))
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

    /// The bytes after the first 8.
    #[inline]
    pub(crate) fn payload(&self) -> &'p [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The decoded message.
    pub(crate) fn message(&self) -> Message<'p> {
        let b = self.bytes;
        let (code, data) = (self.code(), self.payload());
        match self.kind() {
            kind::ECHO => Message::Echo { id: be16(b, 4), seq: be16(b, 6), data },
            kind::ECHO_REPLY => Message::EchoReply { id: be16(b, 4), seq: be16(b, 6), data },
            kind::UNREACHABLE => Message::Unreachable { code, mtu: be16(b, 6), quoted: data },
            kind::SOURCE_QUENCH => Message::SourceQuench { quoted: data },
            kind::REDIRECT => Message::Redirect { code, gateway: be32(b, 4).into(), quoted: data },
            kind::TIME_EXCEEDED => Message::TimeExceeded { code, quoted: data },
            kind::PARAMETER_PROBLEM => Message::ParameterProblem { code, pointer: b[4], quoted: data },
            kind => Message::Other { kind, code, rest: [b[4], b[5], b[6], b[7]], data },
        }
    }
}

/// Whether type `kind` is an error about another datagram.
#[inline]
pub(crate) const fn is_error_kind(kind: u8) -> bool {
    matches!(
        kind,
        kind::UNREACHABLE | kind::SOURCE_QUENCH | kind::REDIRECT | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM
    )
}

/// Whether a message of this type is never answered with an error: errors, and the types that Linux takes for such
/// (icmp_pointers).
pub(crate) const fn draws_no_error(kind: u8) -> bool {
    is_error_kind(kind) || matches!(kind, 1 | 2 | 6 | 7 | 9 | 10)
}

/// The datagram that an error is about: its IP header, and at least the 8 bytes after it (RFC 792). The sender of the
/// error may have forged it, so it must be checked against a socket before it is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'p> {
    /// Its IP header; `payload` is the quoted part of the transport.
    pub ip: Ipv4Header<'p>,
}

impl<'p> Quoted<'p> {
    /// As [`Ipv4Header::parse_quoted`]; besides `Truncated` with fewer than 8 bytes after the header.
    #[inline]
    pub(crate) fn parse(bytes: &'p [u8]) -> Result<Quoted<'p>, ParseError> {
        let ip = Ipv4Header::parse_quoted(bytes)?;
        if ip.payload().len() < 8 { Err(ParseError::Truncated) } else { Ok(Quoted { ip }) }
    }

    /// The quoted transport header and payload: 8 bytes or more.
    #[inline]
    pub(crate) fn transport(&self) -> &'p [u8] {
        self.ip.payload()
    }
}

impl Message<'_> {
    /// Number of bytes that `emit` writes.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.body().len()
    }

    fn body(&self) -> &[u8] {
        match *self {
            Message::Echo { data, .. } | Message::EchoReply { data, .. } | Message::Other { data, .. } => data,
            Message::Unreachable { quoted, .. }
            | Message::SourceQuench { quoted }
            | Message::Redirect { quoted, .. }
            | Message::TimeExceeded { quoted, .. }
            | Message::ParameterProblem { quoted, .. } => quoted,
        }
    }

    /// Writes the message with its checksum; returns `len()`. The caller decides how much to quote: see [`quote_len`].
    ///
    /// # Panics
    /// When `buf` is shorter than `len()`.
    pub(crate) fn emit(&self, buf: &mut [u8]) -> usize {
        let pair = |a: u16, b: u16| {
            let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
            [a, b, c, d]
        };
        let (kind, code, rest) = match *self {
            Message::Echo { id, seq, .. } => (kind::ECHO, 0, pair(id, seq)),
            Message::EchoReply { id, seq, .. } => (kind::ECHO_REPLY, 0, pair(id, seq)),
            Message::Unreachable { code, mtu, .. } => (kind::UNREACHABLE, code, pair(0, mtu)),
            Message::SourceQuench { .. } => (kind::SOURCE_QUENCH, 0, [0; 4]),
            Message::Redirect { code, gateway, .. } => (kind::REDIRECT, code, gateway.octets()),
            Message::TimeExceeded { code, .. } => (kind::TIME_EXCEEDED, code, [0; 4]),
            Message::ParameterProblem { code, pointer, .. } => (kind::PARAMETER_PROBLEM, code, [pointer, 0, 0, 0]),
            Message::Other { kind, code, rest, .. } => (kind, code, rest),
        };
        let b = &mut buf[..self.len()];
        b[..4].copy_from_slice(&[kind, code, 0, 0]);
        b[4..8].copy_from_slice(&rest);
        b[8..].copy_from_slice(self.body());
        fill_checksum(b);
        b.len()
    }
}

/// Computes the checksum of an ICMP message; `message` is the whole message.
///
/// # Panics
/// When `message` is shorter than 8 bytes.
#[inline]
pub(crate) fn fill_checksum(message: &mut [u8]) {
    message[2..4].fill(0);
    let c = checksum::finish(checksum::sum(message, 0));
    message[2..4].copy_from_slice(&c.to_be_bytes());
}

/// How many bytes of a datagram of `len` bytes to quote in an error that has an IP header of `ip_header_len` bytes.
#[inline]
pub(crate) const fn quote_len(len: usize, ip_header_len: usize) -> usize {
    let room = MAX_ERROR_LEN.saturating_sub(ip_header_len + HEADER_LEN);
    if len < room { len } else { room }
}

#[cfg(test)]
mod tests {
    use super::super::ip::Ipv4Repr;
    use super::*;
    use proptest::prelude::*;

    fn quoted(protocol: u8, frag_offset: usize, transport: &[u8]) -> Vec<u8> {
        let mut b = vec![0; 20];
        let r = Ipv4Repr {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol,
            ttl: 1,
            tos: 0,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            frag_offset,
            payload_len: 1480,
        };
        r.emit(&mut b);
        b.extend(transport);
        b
    }

    #[test]
    fn every_message_is_written_and_read_back() {
        let q = quoted(6, 0, &[0; 8]);
        let quoted = &q[..];
        let data = &[1u8, 2, 3][..];
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        let mut all = vec![
            Message::Echo { id: 1, seq: 0xfffe, data },
            Message::EchoReply { id: 0xffff, seq: 2, data: &[] },
            Message::SourceQuench { quoted },
            Message::Redirect { code: redirect::HOST, gateway, quoted },
            Message::TimeExceeded { code: time_exceeded::REASSEMBLY, quoted },
            Message::ParameterProblem { code: 0, pointer: 20, quoted },
            Message::Other { kind: kind::TIMESTAMP, code: 0, rest: [1, 2, 3, 4], data: &[0; 12] },
        ];
        all.extend((0..=unreachable::MAX).map(|code| Message::Unreachable { code, mtu: 1400, quoted }));
        for m in all {
            let mut b = [0x77; 64];
            let n = m.emit(&mut b);
            let h = IcmpHeader::parse(&b[..n]).unwrap();
            assert!(h.checksum_ok(), "{m:?}");
            assert_eq!((h.message(), n), (m, m.len()));
        }
        assert_eq!(IcmpHeader::parse(&[3, 4, 0, 0, 0, 0, 0]).err(), Some(ParseError::Truncated));
    }

    #[test]
    fn a_quoted_datagram_has_8_bytes_of_its_transport() {
        let t = [0x12, 0x34, 0x00, 0x50, 0, 0, 0, 9];
        assert_eq!(Quoted::parse(&quoted(6, 0, &t)).unwrap().transport(), t);
        for (case, bytes, want) in [
            ("seven bytes of transport", quoted(6, 0, &t[..7]), ParseError::Truncated),
            ("half an IP header", quoted(6, 0, &t)[..10].to_vec(), ParseError::Truncated),
            ("nothing", vec![], ParseError::Truncated),
            ("not IPv4", vec![0x60; 40], ParseError::BadVersion),
        ] {
            assert_eq!(Quoted::parse(&bytes).err(), Some(want), "{case}");
        }
        let mut inner_header_too_long = quoted(6, 0, &t);
        inner_header_too_long[0] = 0x4f;
        assert_eq!(Quoted::parse(&inner_header_too_long).err(), Some(ParseError::Truncated));
    }

    #[test]
    fn an_error_datagram_stays_within_576_bytes() {
        for (len, ip, want) in [(1500, 20, 548), (548, 20, 548), (40, 20, 40), (1500, 60, 508), (9, 1000, 0)] {
            assert_eq!(quote_len(len, ip), want);
        }
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 0u8..16, inner: bool) {
            if let Some(b) = bytes.first_mut() { *b = kind; }
            if let (true, Some(b)) = (inner, bytes.get_mut(8)) { *b = 0x40 | *b & 7; }
            if let Ok(h) = IcmpHeader::parse(&bytes) {
                let _ = (h.checksum_ok(), h.code(), format!("{h:?} {:?}", h.message()));
                if let Ok(q) = Quoted::parse(h.payload()) {
                    let _ = format!("{q:?}");
                }
            }
        }
    }
}
