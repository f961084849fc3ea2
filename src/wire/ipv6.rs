//! IPv6 header, extension headers, fragment header: views, iterator, emitters. Above: `ip::input`, `ip::output`,
//! fragments, devices. RFC 8200. Not here: how the stack processes an extension header. Linux: struct ipv6hdr,
//! ipv6_rcv, exthdrs.c.

use super::ip::Ecn;
use super::{ParseError, be16, be32, proto};
use core::fmt;
use core::net::Ipv6Addr;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Traffic class and flow label of the first word (IPV6_FLOWINFO_MASK).
pub(crate) const FLOWINFO: u32 = 0xfff_ffff;
/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// MTU that every IPv6 link supports (RFC 8200 §5).
pub(crate) const MIN_MTU: usize = 1280;
/// Bytes of a fragment header.
pub(crate) const FRAGMENT_HEADER_LEN: usize = 8;
/// Offset of the next-header byte in the fixed header: the pointer of a parameter problem about the first extension
/// header.
pub(crate) const NEXT_HEADER_OFFSET: usize = 6;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    ver_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

/// A view of an IPv6 packet. `parse` has checked that the whole payload is present; link padding is trimmed.
#[derive(Clone, Copy)]
pub(crate) struct Ipv6Header<'p> {
    fixed: &'p Fixed,
    payload: &'p [u8],
}

impl<'p> Ipv6Header<'p> {
    /// `Truncated`: fewer than 40 bytes, or fewer than the payload length requires; `BadVersion`. A jumbogram (payload
    /// length 0 with a hop-by-hop jumbo option, RFC 2675) gives an empty payload, which the extension header iterator
    /// refuses.
    #[cfg(test)]
    #[inline]
    pub(crate) fn parse(bytes: &'p [u8]) -> Result<Ipv6Header<'p>, ParseError> {
        let h = Self::parse_quoted(bytes)?;
        let payload = h.payload.get(..h.payload_len()).ok_or(ParseError::Truncated)?;
        Ok(Ipv6Header { payload, ..h })
    }

    /// As `parse`, for a packet quoted in an ICMPv6 error, which is truncated: `payload` is all bytes after the header.
    #[inline]
    pub(crate) fn parse_quoted(bytes: &'p [u8]) -> Result<Ipv6Header<'p>, ParseError> {
        let (fixed, payload) = Fixed::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        if fixed.ver_class_flow.get() >> 28 != 6 {
            return Err(ParseError::BadVersion);
        }
        Ok(Ipv6Header { fixed, payload })
    }

    /// Traffic class: DSCP in the high six bits, ECN in the low two.
    #[inline]
    pub(crate) fn traffic_class(&self) -> u8 {
        (self.fixed.ver_class_flow.get() >> 20) as u8
    }

    /// ECN codepoint (RFC 3168 §5).
    #[inline]
    pub(crate) fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.traffic_class())
    }

    /// Flow label, 20 bits.
    #[inline]
    pub(crate) fn flow_label(&self) -> u32 {
        self.fixed.ver_class_flow.get() & 0xf_ffff
    }

    /// The payload length field: bytes after the fixed header, extension headers included.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        usize::from(self.fixed.payload_len.get())
    }

    /// The next-header field.
    #[inline]
    pub(crate) fn next_header(&self) -> u8 {
        self.fixed.next_header
    }

    /// Hop limit.
    #[inline]
    pub(crate) fn hop_limit(&self) -> u8 {
        self.fixed.hop_limit
    }

    /// Source address.
    #[inline]
    pub(crate) fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.fixed.src)
    }

    /// Destination address.
    #[inline]
    pub(crate) fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.fixed.dst)
    }

    /// The payload after the fixed header: extension headers, then the transport.
    #[cfg(test)]
    #[inline]
    pub(crate) fn payload(&self) -> &'p [u8] {
        self.payload
    }

    /// Iterates over the extension headers.
    #[cfg(test)]
    #[inline]
    pub(crate) fn extensions(&self) -> Extensions<'p> {
        Extensions::new(self.next_header(), self.payload)
    }

    /// Skips all extension headers and returns the upper-layer payload.
    #[inline]
    pub(crate) fn upper(&self) -> Result<Upper<'p>, BadExtension> {
        Extensions::new(self.next_header(), self.payload).finish()
    }
}

impl fmt::Debug for Ipv6Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv6 {} > {} next {} len {}", self.src(), self.dst(), self.next_header(), self.payload_len())
    }
}

/// One extension header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extension<'p> {
    /// Options for every hop; only as the first header.
    HopByHop(Ipv6Options<'p>),
    /// Options for the destination.
    Destination(Ipv6Options<'p>),
    /// A source route.
    Routing(RoutingHeader<'p>),
    /// The packet is a fragment.
    Fragment(FragmentHeader),
}

/// An extension header that extends beyond the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadExtension {
    /// Kind of the header.
    pub header: u8,
    /// Its offset from the first byte of the IPv6 header.
    pub offset: usize,
}

impl From<BadExtension> for ParseError {
    fn from(_: BadExtension) -> ParseError {
        ParseError::BadExtension
    }
}

/// The upper-layer payload after the extension headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upper<'p> {
    /// The next-header value of the first header that is not an extension header; [`proto::NO_NEXT`] when nothing
    /// follows, and [`proto::HOPOPTS`] for a hop-by-hop header that is not first, which Linux treats as an unknown
    /// protocol too.
    pub protocol: u8,
    /// Its bytes. After a fragment header: this fragment's part of them.
    pub payload: &'p [u8],
}

/// Iterates over extension headers. It stops after a fragment header that is not atomic (RFC 6946), because the headers
/// after it belong to the datagram and not to this packet. Each step takes at least 8 bytes, so a packet of n bytes
/// ends after n / 8 steps.
#[derive(Clone, Debug)]
pub(crate) struct Extensions<'p> {
    next: u8,
    at: usize,
    rest: &'p [u8],
    done: bool,
}

impl<'p> Extensions<'p> {
    /// `payload` is the bytes after the fixed header, whose next-header field was `next`.
    #[inline]
    pub(crate) fn new(next: u8, payload: &'p [u8]) -> Extensions<'p> {
        Extensions { next, at: HEADER_LEN, rest: payload, done: false }
    }

    /// Goes on at a header of kind `next` that begins with `rest` and stands at offset `at` of its packet.
    pub(crate) fn resume(next: u8, at: usize, rest: &'p [u8]) -> Extensions<'p> {
        Extensions { next, at, rest, done: false }
    }

    /// Kind of the header that stands at [`Extensions::offset`].
    pub(crate) fn next_header(&self) -> u8 {
        self.next
    }

    /// Iterates to the end; ignores the contents of all headers except the fragment header.
    #[inline]
    pub(crate) fn finish(mut self) -> Result<Upper<'p>, BadExtension> {
        for ext in self.by_ref() {
            ext?;
        }
        Ok(Upper { protocol: self.next, payload: self.rest })
    }

    /// Offset, from the first byte of the IPv6 header, of the header that the next call of `next` returns.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.at
    }
}

impl<'p> Iterator for Extensions<'p> {
    type Item = Result<Extension<'p>, BadExtension>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let (header, offset) = (self.next, self.at);
        let is_extension = match header {
            proto::HOPOPTS => offset == HEADER_LEN,
            proto::DSTOPTS | proto::ROUTING | proto::FRAGMENT => true,
            _ => false,
        };
        if !is_extension {
            self.done = true;
            return None;
        }
        let len = match (header, self.rest.get(1)) {
            (proto::FRAGMENT, _) => FRAGMENT_HEADER_LEN,
            (_, Some(units)) => (usize::from(*units) + 1) * 8,
            (_, None) => 8,
        };
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            self.done = true;
            return Some(Err(BadExtension { header, offset }));
        };
        // `len` is at least 8, so the fixed parts below are present.
        self.next = bytes[0];
        self.at += len;
        self.rest = rest;
        Some(Ok(match header {
            proto::HOPOPTS => Extension::HopByHop(Ipv6Options { bytes, at: 2, base: offset }),
            proto::DSTOPTS => Extension::Destination(Ipv6Options { bytes, at: 2, base: offset }),
            proto::ROUTING => Extension::Routing(RoutingHeader { bytes, offset }),
            _ => {
                let frag = FragmentHeader::read(bytes);
                self.done = !frag.is_atomic();
                Extension::Fragment(frag)
            }
        }))
    }
}

/// A routing header (RFC 8200 §4.4). Type 0 is forbidden (RFC 5095).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutingHeader<'p> {
    bytes: &'p [u8],
    /// Its offset from the first byte of the IPv6 header; the type is at byte 2 of the header, segments left at byte 3.
    pub offset: usize,
}

impl<'p> RoutingHeader<'p> {
    /// Routing type.
    #[inline]
    pub(crate) fn routing_type(&self) -> u8 {
        self.bytes[2]
    }

    /// Number of nodes still to be visited. At 0 the header is skipped; above 0 an unknown type causes a parameter
    /// problem.
    #[inline]
    pub(crate) fn segments_left(&self) -> u8 {
        self.bytes[3]
    }

    /// The bytes after the segments left field.
    #[cfg(test)]
    #[inline]
    pub(crate) fn data(&self) -> &'p [u8] {
        &self.bytes[4..]
    }
}

/// A fragment header (RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentHeader {
    /// The next-header value of the datagram's payload.
    pub next_header: u8,
    /// Offset of this fragment in the fragmentable part, in bytes: a multiple of 8, at most 65528.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl FragmentHeader {
    fn read(b: &[u8]) -> FragmentHeader {
        let w = be16(b, 2);
        FragmentHeader { next_header: b[0], offset: usize::from(w & 0xfff8), more: w & 1 != 0, id: be32(b, 4) }
    }

    /// Reads the header at the front of `bytes`; `Truncated` when there are fewer than 8.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<FragmentHeader, ParseError> {
        let b = bytes.get(..FRAGMENT_HEADER_LEN).ok_or(ParseError::Truncated)?;
        Ok(FragmentHeader::read(b))
    }

    /// Whether it is the whole datagram: processed at once, independent of other fragments (RFC 6946).
    #[inline]
    pub(crate) const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }

    /// Writes 8 bytes; returns 8. The low three bits of the offset are ignored.
    ///
    /// # Panics
    /// When `buf` is shorter than 8 bytes.
    #[inline]
    pub(crate) fn emit(&self, buf: &mut [u8]) -> usize {
        buf[0] = self.next_header;
        buf[1] = 0;
        buf[2..4].copy_from_slice(&((self.offset as u16 & 0xfff8) | u16::from(self.more)).to_be_bytes());
        buf[4..8].copy_from_slice(&self.id.to_be_bytes());
        FRAGMENT_HEADER_LEN
    }
}

/// Kinds of hop-by-hop and destination options.
pub(crate) mod option {
    /// One byte of padding.
    pub(crate) const PAD1: u8 = 0;
    /// Padding with a length.
    pub(crate) const PADN: u8 = 1;
    /// Router alert (RFC 2711).
    pub(crate) const ROUTER_ALERT: u8 = 5;
    /// Jumbo payload (RFC 2675).
    pub(crate) const JUMBO: u8 = 194;
}

/// What to do with an unknown option: the top two bits of its kind (RFC 8200 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownAction {
    /// Skip the option.
    Skip,
    /// Drop the packet without an ICMP error.
    Discard,
    /// Drop it and send a parameter problem, code 2.
    Problem,
    /// The same, but without an ICMP error if the destination is a multicast address.
    ProblemUnlessMulticast,
}

/// One option. The iterator skips Pad1 and PadN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv6Option<'p> {
    /// See [`option`].
    pub kind: u8,
    /// The bytes after kind and length.
    pub data: &'p [u8],
    /// Offset of the kind byte from the first byte of the IPv6 header.
    pub offset: usize,
}

impl Ipv6Option<'_> {
    /// What to do if the kind is unknown.
    #[inline]
    pub(crate) const fn unknown_action(&self) -> UnknownAction {
        match self.kind >> 6 {
            0 => UnknownAction::Skip,
            1 => UnknownAction::Discard,
            2 => UnknownAction::Problem,
            _ => UnknownAction::ProblemUnlessMulticast,
        }
    }
}

/// Iterates over the options of a hop-by-hop or destination header; at most one step per byte. As Linux it refuses
/// padding of more than 7 consecutive bytes and PadN with non-zero bytes, which only serve to hide data or to waste
/// time.
#[derive(Clone, Copy)]
pub(crate) struct Ipv6Options<'p> {
    bytes: &'p [u8],
    at: usize,
    base: usize,
}

impl Ipv6Options<'_> {
    fn fail(&mut self, at: usize) -> Option<<Self as Iterator>::Item> {
        self.at = self.bytes.len();
        Some(Err(BadExtension { header: self.bytes[at], offset: self.base + at }))
    }
}

impl<'p> Iterator for Ipv6Options<'p> {
    type Item = Result<Ipv6Option<'p>, BadExtension>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut padding = 0;
        loop {
            let at = self.at;
            let kind = *self.bytes.get(at)?;
            if kind == option::PAD1 {
                padding += 1;
                if padding > 7 {
                    return self.fail(at);
                }
                self.at += 1;
                continue;
            }
            let body = self.bytes.get(at + 1).and_then(|len| self.bytes.get(at + 2..at + 2 + usize::from(*len)));
            let Some(data) = body else { return self.fail(at) };
            if kind == option::PADN {
                padding += 2 + data.len();
                if padding > 7 || data.iter().any(|b| *b != 0) {
                    return self.fail(at);
                }
                self.at += 2 + data.len();
                continue;
            }
            self.at += 2 + data.len();
            return Some(Ok(Ipv6Option { kind, data, offset: self.base + at }));
        }
    }
}

impl fmt::Debug for Ipv6Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// An IPv6 header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv6Repr {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// The next-header value.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; the low 20 bits are used.
    pub flow_label: u32,
    /// Bytes after the header. Above 65535 the field is written as 0, which is only allowed for a device that segments
    /// super-packets.
    pub payload_len: usize,
}

impl Ipv6Repr {
    /// A header with a hop limit of 64, and traffic class and flow label zero.
    pub(crate) const fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, payload_len: usize) -> Ipv6Repr {
        Ipv6Repr { src, dst, next_header, hop_limit: 64, traffic_class: 0, flow_label: 0, payload_len }
    }

    /// Writes the header; returns 40.
    ///
    /// # Panics
    /// When `buf` is shorter than 40 bytes.
    #[inline]
    pub(crate) fn emit(&self, buf: &mut [u8]) -> usize {
        let fixed = Fixed {
            ver_class_flow: (6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff).into(),
            payload_len: u16::try_from(self.payload_len).unwrap_or(0).into(),
            next_header: self.next_header,
            hop_limit: self.hop_limit,
            src: self.src.octets(),
            dst: self.dst.octets(),
        };
        buf[..HEADER_LEN].copy_from_slice(fixed.as_bytes());
        HEADER_LEN
    }
}

impl From<Ipv6Header<'_>> for Ipv6Repr {
    fn from(h: Ipv6Header<'_>) -> Ipv6Repr {
        Ipv6Repr {
            src: h.src(),
            dst: h.dst(),
            next_header: h.next_header(),
            hop_limit: h.hop_limit(),
            traffic_class: h.traffic_class(),
            flow_label: h.flow_label(),
            payload_len: h.payload.len(),
        }
    }
}

/// Rewrites the payload length of the header at the front of `packet`, for a segment of a super-packet.
///
/// # Panics
/// When `packet` is shorter than 6 bytes.
#[inline]
pub(crate) fn set_payload_len(packet: &mut [u8], payload_len: u16) {
    packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
}

#[cfg(test)]
mod tests;
