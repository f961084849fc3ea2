//! UDP header: emitter (RFC 768, RFC 8200 §8.1 for the checksum over IPv6), and a view for tests. Above: `udp`. Linux:
//! struct udphdr.

#[cfg(test)]
use super::ParseError;
use super::{checksum, proto};
#[cfg(test)]
use core::fmt;
use core::net::IpAddr;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// A longer datagram's checksum is verified when it is read (CHECKSUM_BREAK).
pub(crate) const CHECKSUM_BREAK: usize = 76;
/// Offset of the checksum field, for a device that completes the checksum.
pub(crate) const CHECKSUM_OFFSET: usize = 6;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    src_port: U16,
    dst_port: U16,
    len: U16,
    checksum: U16,
}

/// A view of a datagram. `parse` has checked that 8 <= length <= bytes present; bytes after the length are trimmed.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(crate) struct UdpHeader<'p> {
    fixed: &'p Fixed,
    payload: &'p [u8],
}

#[cfg(test)]
impl<'p> UdpHeader<'p> {
    /// `Truncated`: fewer than 8 bytes, or fewer than the length requires; `BadTotalLen`: length below 8. This also
    /// refuses the length 0 of a jumbogram (RFC 2675).
    #[inline]
    pub(crate) fn parse(datagram: &'p [u8]) -> Result<UdpHeader<'p>, ParseError> {
        let (fixed, rest) = Fixed::ref_from_prefix(datagram).map_err(|_| ParseError::Truncated)?;
        let len = usize::from(fixed.len.get()).checked_sub(HEADER_LEN).ok_or(ParseError::BadTotalLen)?;
        let payload = rest.get(..len).ok_or(ParseError::Truncated)?;
        Ok(UdpHeader { fixed, payload })
    }

    /// Source port; 0 means that no reply is expected.
    #[inline]
    pub(crate) fn src_port(&self) -> u16 {
        self.fixed.src_port.get()
    }

    /// Destination port.
    #[inline]
    pub(crate) fn dst_port(&self) -> u16 {
        self.fixed.dst_port.get()
    }

    /// The length field: header and payload bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Checksum field as carried.
    #[inline]
    pub(crate) fn checksum(&self) -> u16 {
        self.fixed.checksum.get()
    }

    /// The payload.
    #[inline]
    pub(crate) fn payload(&self) -> &'p [u8] {
        self.payload
    }

    /// Whether the checksum is right. A field of 0 means there is no checksum: right over IPv4, wrong over IPv6
    /// (RFC 8200 §8.1).
    #[inline]
    pub(crate) fn checksum_ok(&self, src: IpAddr, dst: IpAddr) -> bool {
        if self.fixed.checksum.get() == 0 {
            return src.is_ipv4();
        }
        let s = checksum::sum(self.fixed.as_bytes(), checksum::pseudo_header(src, dst, proto::UDP, self.len() as u32));
        checksum::is_valid(checksum::sum(self.payload, s))
    }
}

#[cfg(test)]
impl fmt::Debug for UdpHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}: udp ({})", self.src_port(), self.dst_port(), self.payload.len())
    }
}

/// Writes a header for `payload_len` bytes with a zero checksum; returns 8. A length over 65535 (a super-packet for a
/// device that segments it) is written as 0.
///
/// # Panics
/// When `buf` is shorter than 8 bytes.
#[inline]
pub(crate) fn emit_header(buf: &mut [u8], src_port: u16, dst_port: u16, payload_len: usize) -> usize {
    let fixed = Fixed {
        src_port: src_port.into(),
        dst_port: dst_port.into(),
        len: u16::try_from(HEADER_LEN + payload_len).unwrap_or(0).into(),
        checksum: 0.into(),
    };
    buf[..HEADER_LEN].copy_from_slice(fixed.as_bytes());
    HEADER_LEN
}

/// Fills in the checksum of `datagram`, which is header and payload. A checksum of zero is sent as 0xFFFF (RFC 768).
///
/// # Panics
/// When `datagram` is shorter than 8 bytes.
#[cfg(test)]
#[inline]
pub(crate) fn fill_checksum(datagram: &mut [u8], src: IpAddr, dst: IpAddr) {
    let pseudo = checksum::pseudo_header(src, dst, proto::UDP, datagram.len() as u32);
    fill_checksum_split(datagram, 0, pseudo);
}

/// As [`fill_checksum`], for a payload stored separately: `payload` is its pieces' partial sum, `pseudo` the
/// pseudo-header's.
///
/// # Panics
/// When `header` is shorter than 8 bytes.
#[cfg(test)]
#[inline]
pub(crate) fn fill_checksum_split(header: &mut [u8], payload: u32, pseudo: u32) {
    set_checksum(header, 0);
    let c = checksum::finish(checksum::sum(header, checksum::add(pseudo, payload)));
    set_checksum(header, if c == 0 { 0xffff } else { c });
}

/// Writes the pseudo-header's sum into the field for a device that completes the checksum: see
/// [`super::tcp::fill_partial_checksum`].
///
/// # Panics
/// When `header` is shorter than 8 bytes.
#[inline]
pub(crate) fn fill_partial_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, len: u32) {
    set_checksum(header, checksum::fold(checksum::pseudo_header(src, dst, proto::UDP, len)));
}

/// Completes the checksum of a datagram prepared by [`fill_partial_checksum`], as a device does.
///
/// # Panics
/// When `datagram` is shorter than 8 bytes.
#[cfg(test)]
#[inline]
pub(crate) fn finish_partial_checksum(datagram: &mut [u8]) {
    let c = checksum::finish(checksum::sum(datagram, 0));
    set_checksum(datagram, if c == 0 { 0xffff } else { c });
}

#[inline]
fn set_checksum(header: &mut [u8], field: u16) {
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    #[test]
    fn lengths_follow_rfc_768() {
        for (case, bytes, len, want) in [
            ("empty", 0usize, 8u16, Err(ParseError::Truncated)),
            ("seven bytes", 7, 8, Err(ParseError::Truncated)),
            ("length 0", 8, 0, Err(ParseError::BadTotalLen)),
            ("length 7", 8, 7, Err(ParseError::BadTotalLen)),
            ("length 8", 8, 8, Ok(0)),
            ("length 9 of 8", 8, 9, Err(ParseError::Truncated)),
            ("length 65535", 100, 65535, Err(ParseError::Truncated)),
            ("bytes after the length are cut", 100, 10, Ok(2)),
        ] {
            let mut b = vec![0; bytes];
            if let Some(l) = b.get_mut(4..6) {
                l.copy_from_slice(&len.to_be_bytes());
            }
            assert_eq!(UdpHeader::parse(&b).map(|h| h.payload().len()), want, "{case}");
        }
    }

    #[test]
    fn no_checksum_is_right_over_ipv4_and_wrong_over_ipv6() {
        let mut b = [0; 8];
        emit_header(&mut b, 1, 2, 0);
        let h = UdpHeader::parse(&b).unwrap();
        assert!(h.checksum_ok(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()));
        assert!(!h.checksum_ok(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_checksum_that_comes_out_zero_goes_as_all_ones() {
        let (src, dst) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut b = [0; 8];
        // Protocol 17 + length 8 twice + source port = 0xffff.
        emit_header(&mut b, 0xffff - 17 - 16, 0, 0);
        fill_checksum(&mut b, src, dst);
        assert_eq!(b[6..8], [0xff, 0xff]);
        assert!(UdpHeader::parse(&b).unwrap().checksum_ok(src, dst));
        fill_partial_checksum(&mut b, src, dst, 8);
        finish_partial_checksum(&mut b);
        assert_eq!(b[6..8], [0xff, 0xff]);
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..40), short: bool) {
            if let (true, Some(b)) = (short, bytes.get_mut(4)) { *b = 0; }
            if let Ok(h) = UdpHeader::parse(&bytes) {
                let _ = (format!("{h:?}"), h.checksum_ok(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()));
                prop_assert!(h.len() <= bytes.len());
            }
        }

        #[test]
        fn what_is_emitted_parses_back(
            src_port: u16, dst_port: u16, payload in prop::collection::vec(any::<u8>(), 0..60),
            s: [u8; 16], d: [u8; 16], v4: bool, bit in 0usize..64,
        ) {
            let ip = |b: [u8; 16]| -> IpAddr { if v4 { [b[0], b[1], b[2], b[3]].into() } else { b.into() } };
            let (s, d) = (ip(s), ip(d));
            let mut b = vec![0; 8];
            emit_header(&mut b, src_port, dst_port, payload.len());
            b.extend(&payload);
            let mut offloaded = b.clone();
            fill_checksum(&mut b, s, d);
            fill_partial_checksum(&mut offloaded, s, d, (8 + payload.len()) as u32);
            finish_partial_checksum(&mut offloaded);
            prop_assert_eq!(&b, &offloaded);
            let h = UdpHeader::parse(&b).unwrap();
            prop_assert_eq!((h.src_port(), h.dst_port(), h.payload()), (src_port, dst_port, &payload[..]));
            prop_assert!(h.checksum_ok(s, d));
            prop_assert_ne!(h.checksum(), 0);
            // A flipped bit of ports or payload is detected.
            let at = if bit < 32 || payload.is_empty() { bit / 8 % 4 } else { 8 + bit % payload.len() };
            b[at] ^= 1 << (bit % 8);
            prop_assert!(!UdpHeader::parse(&b).unwrap().checksum_ok(s, d));
        }
    }
}
