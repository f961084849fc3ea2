//! TCP header: flags, view, emitter, checksums with and without offload. Above: `tcp::rcv`, `tcp::segment`, and devices
//! that segment or coalesce. Options are in `tcp_options`. RFC 9293 §3.1. Linux: struct tcphdr.

use super::seq::{RawWindow, SeqNum};
use super::tcp_options::{RawOptions, TcpOptions};
use super::{ParseError, checksum, proto};
use core::fmt;
use core::net::IpAddr;
use core::ops::{BitOr, BitOrAssign};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a TCP header without options.
pub const HEADER_LEN: usize = 20;
/// Most bytes of options in a header.
pub const MAX_OPTIONS_LEN: usize = 40;
/// Offset of the checksum field in the header, for a device that completes the checksum.
pub(crate) const CHECKSUM_OFFSET: usize = 16;

/// The control bits (RFC 9293 §3.1; AE: RFC 9768 §3.1, the former NS): the low nine bits of bytes 12 and 13.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(u16);

impl TcpFlags {
    /// No bit.
    pub const NONE: TcpFlags = TcpFlags(0);
    /// No more data from sender.
    pub const FIN: TcpFlags = TcpFlags(0x001);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x002);
    /// Reset.
    pub const RST: TcpFlags = TcpFlags(0x004);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x008);
    /// The acknowledgement field is valid.
    pub const ACK: TcpFlags = TcpFlags(0x010);
    /// The urgent pointer is valid.
    pub const URG: TcpFlags = TcpFlags(0x020);
    /// ECN echo (RFC 3168 §6.1).
    pub const ECE: TcpFlags = TcpFlags(0x040);
    /// Congestion window reduced (RFC 3168 §6.1).
    pub const CWR: TcpFlags = TcpFlags(0x080);
    /// Accurate ECN (RFC 9768 §3.1).
    pub const AE: TcpFlags = TcpFlags(0x100);

    const ALL: u16 = 0x1ff;

    /// From the low nine bits of header bytes 12 and 13; the other bits, reserved and data offset, are ignored.
    #[inline]
    pub const fn from_bits(bits: u16) -> TcpFlags {
        TcpFlags(bits & TcpFlags::ALL)
    }

    /// The nine bits.
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of `other` are set.
    #[inline]
    pub const fn contains(self, other: TcpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is set.
    #[inline]
    pub const fn intersects(self, other: TcpFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no bit is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Sets `other`.
    #[inline]
    pub const fn insert(&mut self, other: TcpFlags) {
        self.0 |= other.0;
    }

    /// Clears `other`.
    #[inline]
    pub const fn remove(&mut self, other: TcpFlags) {
        self.0 &= !other.0;
    }

    /// The union of both sets; `|` for constants.
    #[inline]
    pub const fn union(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }

    /// `self` without `other`.
    #[inline]
    pub const fn without(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;
    #[inline]
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        self.union(other)
    }
}

impl BitOrAssign for TcpFlags {
    #[inline]
    fn bitor_assign(&mut self, other: TcpFlags) {
        self.insert(other);
    }
}

impl fmt::Display for TcpFlags {
    /// In packetdrill's notation: `S.`, `P.`, `F.`, `R`; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (bit, letter) in [
            (TcpFlags::FIN, "F"),
            (TcpFlags::SYN, "S"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
            (TcpFlags::URG, "U"),
            (TcpFlags::ECE, "E"),
            (TcpFlags::CWR, "W"),
            (TcpFlags::AE, "A"),
        ] {
            if self.contains(bit) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    src_port: U16,
    dst_port: U16,
    seq: U32,
    ack: U32,
    off_flags: U16,
    window: U16,
    checksum: U16,
    urgent: U16,
}

/// A view of a segment. `parse` has checked that 20 <= 4 * data offset <= bytes present.
#[derive(Clone, Copy)]
pub struct TcpHeader<'p> {
    fixed: &'p Fixed,
    options: &'p [u8],
    payload: &'p [u8],
}

impl<'p> TcpHeader<'p> {
    /// `segment` is the whole IP payload: header, options, payload. `Truncated`: fewer than 20 bytes, or fewer than the
    /// data offset requires; `BadHeaderLen`: data offset below 5. [`TcpHeader::checksum_ok`] verifies the checksum.
    #[inline]
    pub fn parse(segment: &'p [u8]) -> Result<TcpHeader<'p>, ParseError> {
        let (fixed, rest) = Fixed::ref_from_prefix(segment).map_err(|_| ParseError::Truncated)?;
        let header_len = usize::from(fixed.off_flags.get() >> 12) * 4;
        let options_len = header_len.checked_sub(HEADER_LEN).ok_or(ParseError::BadHeaderLen)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(ParseError::Truncated)?;
        Ok(TcpHeader { fixed, options, payload })
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.fixed.src_port.get()
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.fixed.dst_port.get()
    }

    /// Sequence number of the first byte, or of the SYN.
    #[inline]
    pub fn seq(&self) -> SeqNum {
        SeqNum(self.fixed.seq.get())
    }

    /// Acknowledgement number; valid only with the ACK bit.
    #[inline]
    pub fn ack(&self) -> SeqNum {
        SeqNum(self.fixed.ack.get())
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits(self.fixed.off_flags.get())
    }

    /// The three reserved bits between data offset and AE.
    #[inline]
    pub fn reserved(&self) -> u8 {
        (self.fixed.off_flags.get() >> 9 & 7) as u8
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: TcpFlags) -> bool {
        self.flags().contains(flags)
    }

    /// The window field, unscaled.
    #[inline]
    pub fn window(&self) -> RawWindow {
        RawWindow(self.fixed.window.get())
    }

    /// Checksum field as carried.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.fixed.checksum.get()
    }

    /// Urgent pointer; valid only with the URG bit, and may point past the segment.
    #[inline]
    pub fn urgent(&self) -> u16 {
        self.fixed.urgent.get()
    }

    /// Header bytes with options, 20..=60: also the offset of the payload in the segment.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Option bytes, 0..=40.
    #[inline]
    pub fn option_bytes(&self) -> &'p [u8] {
        self.options
    }

    /// Iterates over the options.
    #[inline]
    pub fn options(&self) -> RawOptions<'p> {
        RawOptions::new(self.options)
    }

    /// All options that this stack knows, parsed into one value.
    #[inline]
    pub fn parse_options(&self) -> TcpOptions {
        TcpOptions::parse(self.options)
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'p [u8] {
        self.payload
    }

    /// Sequence space that the segment occupies: payload, and one each for SYN and FIN (RFC 9293 §3.4).
    #[inline]
    pub fn seq_len(&self) -> u32 {
        let f = self.flags();
        self.payload.len() as u32 + u32::from(f.contains(TcpFlags::SYN)) + u32::from(f.contains(TcpFlags::FIN))
    }

    /// First sequence number after the segment. Linux: TCP_SKB_CB()->end_seq.
    #[inline]
    pub fn end_seq(&self) -> SeqNum {
        self.seq() + self.seq_len()
    }

    /// The word that header prediction compares, bytes 12..16 in host order: data offset, flags, window. Linux:
    /// tcp_flag_word.
    #[inline]
    pub fn flag_word(&self) -> u32 {
        u32::from(self.fixed.off_flags.get()) << 16 | u32::from(self.fixed.window.get())
    }

    /// Whether the checksum over pseudo-header and segment is right.
    #[inline]
    pub fn checksum_ok(&self, src: IpAddr, dst: IpAddr) -> bool {
        let len = (self.header_len() + self.payload.len()) as u32;
        let s = checksum::sum(self.fixed.as_bytes(), checksum::pseudo_header(src, dst, proto::TCP, len));
        // Fixed header and options have even lengths, so each piece starts at an even offset.
        checksum::is_valid(checksum::sum(self.payload, checksum::sum(self.options, s)))
    }
}

impl fmt::Display for TcpHeader<'_> {
    /// In packetdrill's notation: `P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 1 ecr 2>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.seq() + self.payload.len() as u32;
        write!(f, "{} {}:{}({})", self.flags(), self.seq(), end, self.payload.len())?;
        if self.has(TcpFlags::ACK) {
            write!(f, " ack {}", self.ack())?;
        }
        write!(f, " win {}", self.window().0)?;
        if self.has(TcpFlags::URG) {
            write!(f, " urg {}", self.urgent())?;
        }
        if !self.options.is_empty() {
            write!(f, " <{}>", self.options())?;
        }
        Ok(())
    }
}

impl fmt::Debug for TcpHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}: {self}", self.src_port(), self.dst_port())
    }
}

/// A TCP header to be written; options and payload are written separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number; written even without the ACK bit.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field, already scaled.
    pub window: RawWindow,
    /// Urgent pointer.
    pub urgent: u16,
    /// Bytes of options that follow, padding included: a multiple of four, at most 40.
    pub options_len: usize,
}

impl TcpRepr {
    /// Header bytes with options.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options_len
    }

    /// Writes the first 20 bytes with a zero checksum; returns the header length, options included.
    ///
    /// # Panics
    /// When `buf` is shorter than 20 bytes, or `options_len` is above 40 or no multiple of four.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        assert!(
            self.options_len <= MAX_OPTIONS_LEN && self.options_len.is_multiple_of(4),
            "TCP options of {}",
            self.options_len
        );
        let header_len = self.header_len();
        let fixed = Fixed {
            src_port: self.src_port.into(),
            dst_port: self.dst_port.into(),
            seq: self.seq.0.into(),
            ack: self.ack.0.into(),
            off_flags: ((header_len as u16 / 4) << 12 | self.flags.bits()).into(),
            window: self.window.0.into(),
            checksum: 0.into(),
            urgent: self.urgent.into(),
        };
        buf[..HEADER_LEN].copy_from_slice(fixed.as_bytes());
        header_len
    }
}

impl From<TcpHeader<'_>> for TcpRepr {
    fn from(h: TcpHeader<'_>) -> TcpRepr {
        TcpRepr {
            src_port: h.src_port(),
            dst_port: h.dst_port(),
            seq: h.seq(),
            ack: h.ack(),
            flags: h.flags(),
            window: h.window(),
            urgent: h.urgent(),
            options_len: h.options.len(),
        }
    }
}

/// Fills in the full checksum of `segment`, which is header, options and payload.
///
/// # Panics
/// When `segment` is shorter than 20 bytes.
#[inline]
pub fn fill_checksum(segment: &mut [u8], src: IpAddr, dst: IpAddr) {
    let pseudo = checksum::pseudo_header(src, dst, proto::TCP, segment.len() as u32);
    fill_checksum_split(segment, 0, pseudo);
}

/// As [`fill_checksum`], for a payload stored separately: `header` is header and options, `payload` the partial sum of
/// the payload's pieces, `pseudo` the pseudo-header's partial for the whole length. Linux: tcp_v4_check with skb->csum.
///
/// # Panics
/// When `header` is shorter than 20 bytes.
#[inline]
pub(crate) fn fill_checksum_split(header: &mut [u8], payload: u32, pseudo: u32) {
    set_checksum(header, 0);
    let s = checksum::sum(header, checksum::add(pseudo, payload));
    set_checksum(header, checksum::finish(s));
}

/// Writes the pseudo-header's sum, not complemented, into the field: the device adds the sum from the first byte of the
/// TCP header on and complements it (`VIRTIO_NET_HDR_F_NEEDS_CSUM`, `csum_offset` = [`CHECKSUM_OFFSET`]). `len` is the
/// length of the whole segment, also for a super-packet. Linux: CHECKSUM_PARTIAL, __tcp_v4_send_check.
///
/// # Panics
/// When `header` is shorter than 20 bytes.
#[inline]
pub(crate) fn fill_partial_checksum(header: &mut [u8], src: IpAddr, dst: IpAddr, len: u32) {
    set_checksum(header, checksum::fold(checksum::pseudo_header(src, dst, proto::TCP, len)));
}

/// Completes the checksum of a segment prepared by [`fill_partial_checksum`], as a device does.
///
/// # Panics
/// When `segment` is shorter than 20 bytes.
#[cfg(test)]
#[inline]
pub(crate) fn finish_partial_checksum(segment: &mut [u8]) {
    let c = checksum::finish(checksum::sum(segment, 0));
    set_checksum(segment, c);
}

#[inline]
fn set_checksum(header: &mut [u8], field: u16) {
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: (IpAddr, IpAddr) =
        (IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2)));

    #[test]
    fn data_offset_outside_header_and_segment_is_refused() {
        for (case, len, doff, want) in [
            ("empty", 0usize, 5u8, Some(ParseError::Truncated)),
            ("19 bytes", 19, 5, Some(ParseError::Truncated)),
            ("offset 0", 20, 0, Some(ParseError::BadHeaderLen)),
            ("offset 4", 60, 4, Some(ParseError::BadHeaderLen)),
            ("offset 5, bare", 20, 5, None),
            ("offset 6, four bytes short", 20, 6, Some(ParseError::Truncated)),
            ("offset 15, one byte short", 59, 15, Some(ParseError::Truncated)),
            ("offset 15", 60, 15, None),
        ] {
            let mut b = vec![0u8; len];
            if let Some(o) = b.get_mut(12) {
                *o = doff << 4;
            }
            assert_eq!(TcpHeader::parse(&b).err(), want, "{case}");
        }
    }

    #[test]
    fn a_segment_prints_as_packetdrill_writes_it() {
        let mut b = [0u8; 32 + 1000];
        TcpRepr {
            src_port: 80,
            dst_port: 4242,
            seq: SeqNum(1),
            ack: SeqNum(7),
            flags: TcpFlags::PSH | TcpFlags::ACK,
            window: RawWindow(257),
            urgent: 0,
            options_len: 12,
        }
        .emit(&mut b);
        b[20..32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 100, 0, 0, 0, 200]);
        let h = TcpHeader::parse(&b).unwrap();
        assert_eq!(h.to_string(), "P. 1:1001(1000) ack 7 win 257 <nop,nop,TS val 100 ecr 200>");
        assert_eq!(format!("{h:?}"), "80 > 4242: P. 1:1001(1000) ack 7 win 257 <nop,nop,TS val 100 ecr 200>");
    }

    #[test]
    fn syn_and_fin_take_sequence_space() {
        let mut b = [0u8; 25];
        for (flags, want) in [
            (TcpFlags::ACK, 5u32),
            (TcpFlags::SYN, 6),
            (TcpFlags::FIN | TcpFlags::ACK, 6),
            (TcpFlags::SYN | TcpFlags::FIN, 7),
        ] {
            TcpRepr {
                src_port: 1,
                dst_port: 2,
                seq: SeqNum(u32::MAX),
                ack: SeqNum(0),
                flags,
                window: RawWindow(0),
                urgent: 0,
                options_len: 0,
            }
            .emit(&mut b);
            let h = TcpHeader::parse(&b).unwrap();
            assert_eq!((h.seq_len(), h.end_seq()), (want, SeqNum(want - 1)), "{flags}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), doff in 0u8..16) {
            if let Some(b) = bytes.get_mut(12) { *b = *b & 15 | doff << 4; }
            if let Ok(h) = TcpHeader::parse(&bytes) {
                prop_assert_eq!(h.header_len() + h.payload().len(), bytes.len());
                let _ = (h.checksum_ok(V4.0, V4.1), format!("{h} {h:?}"), h.parse_options(), h.end_seq(), h.reserved());
            }
        }

        #[test]
        fn what_is_emitted_parses_back(
            src_port: u16, dst_port: u16, seq: u32, ack: u32, flags in 0u16..512, window: u16, urgent: u16,
            words in 0usize..=10, payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let r = TcpRepr { src_port, dst_port, seq: SeqNum(seq), ack: SeqNum(ack), flags: TcpFlags::from_bits(flags),
                window: RawWindow(window), urgent, options_len: words * 4 };
            let mut b = vec![1u8; r.header_len()];
            prop_assert_eq!(r.emit(&mut b), r.header_len());
            b.extend(&payload);
            let h = TcpHeader::parse(&b).unwrap();
            prop_assert_eq!(TcpRepr::from(h), r);
            prop_assert_eq!(h.payload(), &payload[..]);
            prop_assert_eq!(h.flag_word(), super::super::be32(&b, 12));
        }
    }
}
