//! Ethernet II frames. Above: the AF_PACKET device, `arp`, neighbours. RFC 894 (IPv4), RFC 2464 (IPv6). A frame with an
//! 802.1Q tag is refused, because a VLAN is a device of its own. Linux: struct ethhdr, eth_type_trans.

use super::ParseError;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LEN: usize = 14;

/// EtherTypes (IANA ieee-802-numbers).
pub(crate) mod ethertype {
    /// IPv4.
    pub(crate) const IPV4: u16 = 0x0800;
    /// ARP.
    pub(crate) const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub(crate) const VLAN: u16 = 0x8100;
    /// IPv6.
    pub(crate) const IPV6: u16 = 0x86dd;
    /// 802.1ad tag.
    pub(crate) const QINQ: u16 = 0x88a8;
    /// The lowest EtherType: smaller values of the field are an 802.3 length.
    pub(crate) const MIN: u16 = 0x0600;
}

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// All zeros: no address.
    pub const UNSPECIFIED: MacAddr = MacAddr([0; 6]);

    /// Whether it is the broadcast address.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        matches!(self.0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }

    /// Whether it is a group address, broadcast included.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it can be the address of an interface. Linux: is_valid_ether_addr.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// The multicast address for an IPv4 group (RFC 1112 §6.4).
    #[inline]
    pub(crate) const fn multicast_v4(group: Ipv4Addr) -> MacAddr {
        let [_, b, c, d] = group.octets();
        MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The multicast address for an IPv6 group (RFC 2464 §7).
    #[inline]
    pub(crate) const fn multicast_v6(group: Ipv6Addr) -> MacAddr {
        let [.., a, b, c, d] = group.octets();
        MacAddr([0x33, 0x33, a, b, c, d])
    }

    /// The link address for a group or the limited broadcast; `None` for unicast, which needs neighbour resolution.
    #[inline]
    pub(crate) fn for_group(ip: IpAddr) -> Option<MacAddr> {
        match ip {
            IpAddr::V4(a) if a.is_broadcast() => Some(MacAddr::BROADCAST),
            IpAddr::V4(a) if a.is_multicast() => Some(MacAddr::multicast_v4(a)),
            IpAddr::V6(a) if a.is_multicast() => Some(MacAddr::multicast_v6(a)),
            _ => None,
        }
    }

    /// The interface identifier derived from it (RFC 2464 §4): the low half of a link-local address.
    #[inline]
    pub(crate) const fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = ParseError;

    /// Six pairs of hex digits separated by colons; anything else is `BadField`.
    fn from_str(s: &str) -> Result<MacAddr, ParseError> {
        let mut out = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut out {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or(ParseError::BadField)?;
        }
        if parts.next().is_some() { Err(ParseError::BadField) } else { Ok(MacAddr(out)) }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    dst: [u8; 6],
    src: [u8; 6],
    ethertype: U16,
}

/// A view of a frame, without preamble and frame check sequence.
#[derive(Clone, Copy)]
pub(crate) struct EtherHeader<'p> {
    fixed: &'p Fixed,
    payload: &'p [u8],
}

impl<'p> EtherHeader<'p> {
    /// `Truncated`: fewer than 14 bytes; `Unsupported`: an 802.3 length instead of the type, or a VLAN tag.
    #[inline]
    pub(crate) fn parse(frame: &'p [u8]) -> Result<EtherHeader<'p>, ParseError> {
        let (fixed, payload) = Fixed::ref_from_prefix(frame).map_err(|_| ParseError::Truncated)?;
        match fixed.ethertype.get() {
            ethertype::VLAN | ethertype::QINQ => Err(ParseError::Unsupported),
            t if t < ethertype::MIN => Err(ParseError::Unsupported),
            _ => Ok(EtherHeader { fixed, payload }),
        }
    }

    /// Destination.
    #[inline]
    pub(crate) fn dst(&self) -> MacAddr {
        MacAddr(self.fixed.dst)
    }

    /// Source.
    #[inline]
    pub(crate) fn src(&self) -> MacAddr {
        MacAddr(self.fixed.src)
    }

    /// See [`ethertype`]; at least 0x0600 and not a VLAN tag.
    #[inline]
    pub(crate) fn ethertype(&self) -> u16 {
        self.fixed.ethertype.get()
    }

    /// The payload, including the padding of short frames: the network header has the actual length.
    #[cfg(test)]
    pub(crate) fn payload(&self) -> &'p [u8] {
        self.payload
    }
}

impl fmt::Debug for EtherHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} type {:#06x} len {}", self.src(), self.dst(), self.ethertype(), self.payload.len())
    }
}

/// Writes a header; returns 14.
///
/// # Panics
/// When `buf` is shorter than 14 bytes.
#[inline]
pub(crate) fn emit(buf: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: u16) -> usize {
    let fixed = Fixed { dst: dst.0, src: src.0, ethertype: ethertype.into() };
    buf[..HEADER_LEN].copy_from_slice(fixed.as_bytes());
    HEADER_LEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_tags_are_refused() {
        for (case, ethertype, len, want) in [
            ("ipv4", 0x0800u16, 14usize, Ok(0)),
            ("ipv6 with padding", 0x86dd, 60, Ok(46)),
            ("thirteen bytes", 0x0800, 13, Err(ParseError::Truncated)),
            ("802.1Q", 0x8100, 64, Err(ParseError::Unsupported)),
            ("802.1ad", 0x88a8, 64, Err(ParseError::Unsupported)),
            ("802.3 length", 0x05dc, 64, Err(ParseError::Unsupported)),
            ("the lowest type", 0x0600, 64, Ok(50)),
        ] {
            let mut b = vec![0; len.max(14)];
            emit(&mut b, MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 0, 1]), ethertype);
            b.truncate(len);
            assert_eq!(EtherHeader::parse(&b).map(|h| h.payload().len()), want, "{case}");
        }
    }

    #[test]
    fn groups_have_their_hardware_addresses() {
        for (ip, want) in [
            ("224.129.2.3", Some("01:00:5e:01:02:03")),
            ("255.255.255.255", Some("ff:ff:ff:ff:ff:ff")),
            ("10.0.0.1", None),
            ("ff02::1:ff00:12", Some("33:33:ff:00:00:12")),
            ("fd00::1", None),
        ] {
            assert_eq!(MacAddr::for_group(ip.parse().unwrap()).map(|m| m.to_string()).as_deref(), want, "{ip}");
        }
        assert_eq!(MacAddr([0x02, 0, 0, 0x12, 0x34, 0x56]).eui64(), [0, 0, 0, 0xff, 0xfe, 0x12, 0x34, 0x56]);
        assert!(
            !MacAddr::UNSPECIFIED.is_unicast()
                && !MacAddr::BROADCAST.is_unicast()
                && MacAddr([2, 0, 0, 0, 0, 0]).is_unicast()
        );
    }

    #[test]
    fn only_six_pairs_of_hex_digits_are_an_address() {
        for bad in
            ["", "1:2:3:4:5:6", "02:00:00:00:00", "02:00:00:00:00:00:00", "02:00:00:00:00:0g", "+2:00:00:00:00:00"]
        {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseError::BadField), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(h) = EtherHeader::parse(&bytes) {
                let _ = format!("{h:?}");
                prop_assert_eq!(h.payload().len() + HEADER_LEN, bytes.len());
            }
        }

        #[test]
        fn what_is_emitted_parses_back(dst: [u8; 6], src: [u8; 6]) {
            let (dst, src) = (MacAddr(dst), MacAddr(src));
            let mut b = [0; 14];
            prop_assert_eq!(emit(&mut b, dst, src, ethertype::ARP), 14);
            let h = EtherHeader::parse(&b).unwrap();
            prop_assert_eq!((h.dst(), h.src(), h.ethertype()), (dst, src, ethertype::ARP));
            prop_assert_eq!(dst.to_string().parse(), Ok(dst));
        }
    }
}
