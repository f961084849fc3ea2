//! IPv4 header: view, options, emitter. Above: `ip::input`, `ip::output`, fragments, devices. RFC 791, RFC 6864
//! (identification), RFC 3168 (the ECN bits). Not here: routing, reassembly, and which ICMP errors to send. Linux:
//! struct iphdr, ip_rcv.

use super::{ParseError, checksum};
use core::fmt;
use core::net::Ipv4Addr;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an IPv4 header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest IPv4 header.
pub(crate) const MAX_HEADER_LEN: usize = 60;
/// Bytes of the longest IPv4 datagram.
pub(crate) const MAX_DATAGRAM: usize = 65535;
/// MTU that every IPv4 link supports (RFC 791 §3.2).
pub(crate) const MIN_MTU: usize = 68;

pub(crate) const DF: u16 = 0x4000;
const MF: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    ver_ihl: u8,
    tos: u8,
    total_len: U16,
    id: U16,
    frag: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

/// A view of an IPv4 datagram. `parse` has checked that 20 <= 4 * IHL <= total length <= bytes present; link padding
/// after the total length is trimmed.
#[derive(Clone, Copy)]
pub struct Ipv4Header<'p> {
    fixed: &'p Fixed,
    header: &'p [u8],
    payload: &'p [u8],
}

impl<'p> Ipv4Header<'p> {
    /// Refuses the same datagrams as `ip_rcv`, in its order: short header (`Truncated`), version (`BadVersion`), IHL
    /// below 5 (`BadHeaderLen`), header or total length beyond the bytes (`Truncated`), total length below the header
    /// (`BadTotalLen`). [`Ipv4Header::checksum_ok`] verifies the checksum.
    #[inline]
    pub fn parse(bytes: &'p [u8]) -> Result<Ipv4Header<'p>, ParseError> {
        let h = Self::parse_quoted(bytes)?;
        let total = h.total_len();
        if bytes.len() < total {
            return Err(ParseError::Truncated);
        }
        if total < h.header.len() {
            return Err(ParseError::BadTotalLen);
        }
        Ok(Ipv4Header { payload: &bytes[h.header.len()..total], ..h })
    }

    /// As `parse`, for a datagram quoted in an ICMP error, which is truncated: the total length is not checked against
    /// the bytes; `payload` is all bytes after the header.
    #[inline]
    pub fn parse_quoted(bytes: &'p [u8]) -> Result<Ipv4Header<'p>, ParseError> {
        let (fixed, _) = Fixed::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        if fixed.ver_ihl >> 4 != 4 {
            return Err(ParseError::BadVersion);
        }
        let header_len = usize::from(fixed.ver_ihl & 15) * 4;
        if header_len < HEADER_LEN {
            return Err(ParseError::BadHeaderLen);
        }
        let (header, payload) = bytes.split_at_checked(header_len).ok_or(ParseError::Truncated)?;
        Ok(Ipv4Header { fixed, header, payload })
    }

    /// Whether the header checksum is right. `parse` does not check it.
    #[inline]
    pub fn checksum_ok(&self) -> bool {
        checksum::is_valid(checksum::sum(self.header, 0))
    }

    /// Header bytes, 20..=60.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.header.len()
    }

    /// The header with its options.
    #[inline]
    pub fn header(&self) -> &'p [u8] {
        self.header
    }

    /// The total length field: header and payload bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(self.fixed.total_len.get())
    }

    /// The bytes after the header, up to the total length.
    #[inline]
    pub fn payload(&self) -> &'p [u8] {
        self.payload
    }

    /// Type of service: DSCP in the high six bits, ECN in the low two.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.fixed.tos
    }

    /// ECN codepoint (RFC 3168 §5).
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::from_tos(self.fixed.tos)
    }

    /// Identification, common to the fragments of a datagram.
    #[inline]
    pub fn id(&self) -> u16 {
        self.fixed.id.get()
    }

    /// Whether the DF bit is set.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fixed.frag.get() & DF != 0
    }

    /// Whether the MF bit is set.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fixed.frag.get() & MF != 0
    }

    /// Offset of this fragment's payload in the datagram, in bytes (a multiple of 8, at most 65528).
    #[inline]
    pub fn frag_offset(&self) -> usize {
        usize::from(self.fixed.frag.get() & OFFSET) * 8
    }

    /// Whether this is a fragment of a datagram: MF set or a non-zero offset. Linux: ip_is_fragment.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fixed.frag.get() & (MF | OFFSET) != 0
    }

    /// Time to live, in hops.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.fixed.ttl
    }

    /// Protocol number of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.fixed.protocol
    }

    /// Checksum field as carried.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.fixed.checksum.get()
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.fixed.src)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.fixed.dst)
    }

    /// Option bytes, 0..=40.
    #[inline]
    pub fn option_bytes(&self) -> &'p [u8] {
        &self.header[HEADER_LEN..]
    }

    /// The options in order.
    #[inline]
    pub fn options(&self) -> Ipv4Options<'p> {
        Ipv4Options { bytes: self.option_bytes(), at: 0 }
    }
}

impl fmt::Debug for Ipv4Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv4 {} > {} proto {} len {}", self.src(), self.dst(), self.protocol(), self.total_len())?;
        if self.is_fragment() {
            write!(f, " frag {}:{}@{}", self.id(), self.payload.len(), self.frag_offset())?;
        }
        Ok(())
    }
}

/// ECN codepoint, the low two bits of TOS or traffic class (RFC 3168 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable.
    NotEct = 0,
    /// ECN-capable, L4S (RFC 9331).
    Ect1 = 1,
    /// ECN-capable.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// The codepoint in a TOS or traffic class byte.
    #[inline]
    pub const fn from_tos(tos: u8) -> Ecn {
        match tos & 3 {
            0 => Ecn::NotEct,
            1 => Ecn::Ect1,
            2 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }
}

/// IPv4 option kinds (RFC 791 §3.1, RFC 2113).
pub(crate) mod option {
    #![allow(dead_code, reason = "the table of kinds is whole")]
    /// End of the list.
    pub(crate) const END: u8 = 0;
    /// One byte of padding.
    pub(crate) const NOP: u8 = 1;
    /// Record route.
    pub(crate) const RR: u8 = 7;
    /// Timestamp.
    pub(crate) const TS: u8 = 68;
    /// Security.
    pub(crate) const SEC: u8 = 130;
    /// Loose source route.
    pub(crate) const LSRR: u8 = 131;
    /// Commercial IP security (CIPSO).
    pub(crate) const CIPSO: u8 = 134;
    /// Stream identifier.
    pub(crate) const SID: u8 = 136;
    /// Strict source route.
    pub(crate) const SSRR: u8 = 137;
    /// Router alert.
    pub(crate) const RA: u8 = 148;
}

/// One IPv4 option. The iterator skips NOPs and stops at END.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'p> {
    /// Kind with its copied flag: see [`option`].
    pub kind: u8,
    /// The bytes after kind and length.
    pub data: &'p [u8],
    /// Offset of the kind byte from the first byte of the IP header: the pointer of a parameter problem.
    pub offset: usize,
}

impl Ipv4Option<'_> {
    /// Whether it is copied into every fragment (RFC 791 §3.1).
    #[inline]
    pub fn copied(&self) -> bool {
        self.kind & 0x80 != 0
    }
}

/// An option whose length is below 2 or extends past the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadIpv4Option {
    /// Offset of its kind byte from the first byte of the IP header: the pointer of a parameter problem.
    pub offset: usize,
}

/// Iterates over the options; ends after END, after an error, or with the header. At most 40 steps.
#[derive(Clone, Debug)]
pub struct Ipv4Options<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl<'p> Ipv4Options<'p> {
    /// The options in `bytes`, which follow the fixed header.
    #[inline]
    pub fn new(bytes: &'p [u8]) -> Ipv4Options<'p> {
        Ipv4Options { bytes, at: 0 }
    }
}

impl<'p> Iterator for Ipv4Options<'p> {
    type Item = Result<Ipv4Option<'p>, BadIpv4Option>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.at;
            let kind = *self.bytes.get(at)?;
            match kind {
                option::END => {
                    self.at = self.bytes.len();
                    return None;
                }
                option::NOP => self.at += 1,
                _ => {
                    let offset = HEADER_LEN + at;
                    let len = self.bytes.get(at + 1).map_or(0, |l| usize::from(*l));
                    let body = if len < 2 { None } else { self.bytes.get(at + 2..at + len) };
                    return Some(match body {
                        Some(data) => {
                            self.at += len;
                            Ok(Ipv4Option { kind, data, offset })
                        }
                        None => {
                            self.at = self.bytes.len();
                            Err(BadIpv4Option { offset })
                        }
                    });
                }
            }
        }
    }
}

/// An IPv4 header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Time to live, in hops.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Offset of the payload in the datagram, in bytes; the low three bits are ignored.
    pub frag_offset: usize,
    /// Bytes after the header. If they make the datagram longer than 65535, the length field is written as 0, which is
    /// only allowed for a device that segments super-packets. Linux: iph_set_totlen.
    pub payload_len: usize,
}

impl Ipv4Repr {
    /// The header of a whole datagram, with a TTL of 64 and everything else zero.
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload_len: usize) -> Ipv4Repr {
        Ipv4Repr {
            src,
            dst,
            protocol,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            more_fragments: false,
            frag_offset: 0,
            payload_len,
        }
    }

    /// Number of bytes that `emit` writes: 20.
    #[inline]
    pub const fn len(&self) -> usize {
        HEADER_LEN
    }

    /// Always false: a header has 20 bytes.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header with its checksum; returns 20.
    ///
    /// # Panics
    /// When `buf` is shorter than 20 bytes.
    #[inline(always)]
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        // The sum is of registers.
        let mut fixed = self.fixed(HEADER_LEN);
        fixed.checksum = checksum::finish(checksum::sum(fixed.as_bytes(), 0)).into();
        buf[..HEADER_LEN].copy_from_slice(fixed.as_bytes());
        HEADER_LEN
    }

    /// The header without options, and without its checksum.
    #[inline(always)]
    fn fixed(&self, header_len: usize) -> Fixed {
        let frag = (self.frag_offset / 8) as u16 & OFFSET
            | if self.dont_fragment { DF } else { 0 }
            | if self.more_fragments { MF } else { 0 };
        Fixed {
            ver_ihl: 0x40 | (header_len / 4) as u8,
            tos: self.tos,
            total_len: u16::try_from(header_len + self.payload_len).unwrap_or(0).into(),
            id: self.id.into(),
            frag: frag.into(),
            ttl: self.ttl,
            protocol: self.protocol,
            checksum: 0.into(),
            src: self.src.octets(),
            dst: self.dst.octets(),
        }
    }

    /// Writes header, `options` and END padding to a multiple of four, with the checksum; returns the header length.
    ///
    /// # Panics
    /// When `options` exceeds 40 bytes or `buf` is shorter than the result.
    pub fn emit_with_options(&self, buf: &mut [u8], options: &[u8]) -> usize {
        assert!(options.len() <= MAX_HEADER_LEN - HEADER_LEN, "IPv4 options exceed 40 bytes");
        if options.is_empty() {
            return self.emit(buf);
        }
        let header_len = HEADER_LEN + options.len().next_multiple_of(4);
        let header = &mut buf[..header_len];
        header[..HEADER_LEN].copy_from_slice(self.fixed(header_len).as_bytes());
        header[HEADER_LEN..HEADER_LEN + options.len()].copy_from_slice(options);
        header[HEADER_LEN + options.len()..].fill(0);
        fill_checksum(header);
        header_len
    }
}

impl From<Ipv4Header<'_>> for Ipv4Repr {
    /// All fields except the options.
    fn from(h: Ipv4Header<'_>) -> Ipv4Repr {
        Ipv4Repr {
            src: h.src(),
            dst: h.dst(),
            protocol: h.protocol(),
            ttl: h.ttl(),
            tos: h.tos(),
            id: h.id(),
            dont_fragment: h.dont_fragment(),
            more_fragments: h.more_fragments(),
            frag_offset: h.frag_offset(),
            payload_len: h.payload.len(),
        }
    }
}

/// Computes the checksum of an IPv4 header; `header` is exactly the header. Linux: ip_send_check.
///
/// # Panics
/// When `header` is shorter than 20 bytes.
#[inline]
pub(crate) fn fill_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let c = checksum::finish(checksum::sum(header, 0));
    header[10..12].copy_from_slice(&c.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::be16;
    use super::*;
    use proptest::prelude::*;

    fn repr() -> Ipv4Repr {
        Ipv4Repr {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol: 6,
            ttl: 64,
            tos: 0x02,
            id: 0x1234,
            dont_fragment: true,
            more_fragments: false,
            frag_offset: 0,
            payload_len: 4,
        }
    }

    #[test]
    fn lengths_that_disagree_are_refused_with_their_reason() {
        let mut good = [0u8; 24];
        repr().emit(&mut good);
        assert!(Ipv4Header::parse(&good).is_ok_and(|h| h.checksum_ok() && h.payload().len() == 4));
        type Edit = fn(&mut Vec<u8>);
        for (case, edit, want) in [
            ("nothing at all", (|b| b.clear()) as Edit, ParseError::Truncated),
            ("19 bytes", |b| b.truncate(19), ParseError::Truncated),
            ("version 6", |b| b[0] = 0x65, ParseError::BadVersion),
            ("ihl 0", |b| b[0] = 0x40, ParseError::BadHeaderLen),
            ("ihl 4", |b| b[0] = 0x44, ParseError::BadHeaderLen),
            ("ihl beyond the bytes", |b| b[0] = 0x4f, ParseError::Truncated),
            ("total length beyond the bytes", |b| b[3] = 25, ParseError::Truncated),
            ("total length 65535", |b| b[2..4].fill(255), ParseError::Truncated),
            ("total length 0", |b| b[3] = 0, ParseError::BadTotalLen),
            ("total length below ihl", |b| (b[0], b[3]) = (0x46, 23), ParseError::BadTotalLen),
        ] {
            let mut b = good.to_vec();
            edit(&mut b);
            assert_eq!(Ipv4Header::parse(&b).map(|_| ()), Err(want), "{case}");
        }
    }

    #[test]
    fn link_padding_is_not_payload() {
        let mut b = [0xeeu8; 46];
        repr().emit(&mut b);
        assert_eq!(Ipv4Header::parse(&b).unwrap().payload(), [0xee; 4]);
    }

    #[test]
    fn a_datagram_over_65535_bytes_has_length_zero() {
        let mut b = [0u8; 20];
        Ipv4Repr { payload_len: 65516, ..repr() }.emit(&mut b);
        assert_eq!(be16(&b, 2), 0);
        Ipv4Repr { payload_len: 65515, ..repr() }.emit(&mut b);
        assert_eq!(be16(&b, 2), 65535);
    }

    #[test]
    fn option_lengths_zero_one_and_beyond_the_header_are_errors_at_their_offset() {
        for (case, bytes, want) in [
            ("nothing", &[][..], vec![]),
            ("end hides the rest", &[0, 7, 0], vec![]),
            ("nop then router alert", &[1, 148, 4, 0, 0], vec![Ok(21)]),
            ("length 0", &[1, 1, 7, 0], vec![Err(22)]),
            ("length 1", &[7, 1, 0, 0], vec![Err(20)]),
            ("length missing", &[1, 1, 1, 7], vec![Err(23)]),
            ("length beyond", &[148, 4, 0, 0, 7, 5, 0, 0], vec![Ok(20), Err(24)]),
            ("length 255", &[7, 255, 0, 0], vec![Err(20)]),
        ] {
            let got: Vec<_> = Ipv4Options::new(bytes)
                .map(|o| o.map(|o| o.offset).map_err(|BadIpv4Option { offset }| offset))
                .collect();
            assert_eq!(got, want, "{case}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), v4: bool) {
            let mut bytes = bytes;
            if let (true, Some(b)) = (v4, bytes.first_mut()) { *b = 0x40 | *b & 15; }
            for h in [Ipv4Header::parse(&bytes), Ipv4Header::parse_quoted(&bytes)].into_iter().flatten() {
                prop_assert!(h.options().count() <= 40);
                let _ = (h.checksum_ok(), format!("{h:?}"), Ipv4Repr::from(h), h.ecn());
                prop_assert!(h.header_len() + h.payload().len() <= bytes.len());
            }
        }

        #[test]
        fn what_is_emitted_parses_back(
            src: [u8; 4], dst: [u8; 4], protocol: u8, ttl: u8, tos: u8, id: u16, dont_fragment: bool,
            more_fragments: bool, off in 0usize..8192, payload in proptest::collection::vec(any::<u8>(), 0..50),
            options in proptest::collection::vec(any::<u8>(), 0..=40),
        ) {
            let r = Ipv4Repr { src: src.into(), dst: dst.into(), protocol, ttl, tos, id, dont_fragment, more_fragments,
                frag_offset: off * 8, payload_len: payload.len() };
            let mut b = vec![0xaau8; 120];
            let n = r.emit_with_options(&mut b, &options);
            b[n..n + payload.len()].copy_from_slice(&payload);
            b.truncate(n + payload.len());
            let h = Ipv4Header::parse(&b).unwrap();
            prop_assert!(h.checksum_ok());
            prop_assert_eq!(Ipv4Repr::from(h), r);
            prop_assert_eq!(h.payload(), &payload[..]);
            prop_assert_eq!(&h.option_bytes()[..options.len()], &options[..]);
        }
    }
}
