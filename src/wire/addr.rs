//! Addresses: prefixes, v4-mapped conversion, and predicates for addresses that cannot be a source or a destination.
//! Above: routes, `ip::input`, `inet`, neighbours. Linux: net/addrconf.h, ip_route_input_slow (martians).

use super::ParseError;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An address with a prefix length: an interface's own (`10.0.0.2/24`) or a route's destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// `None` when `prefix` is above 32 or 128 bits.
    pub const fn new(addr: IpAddr, prefix: u8) -> Option<Cidr> {
        let width = match addr {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if prefix <= width { Some(Cidr { addr, prefix }) } else { None }
    }

    /// One address: /32 or /128.
    pub const fn host(addr: IpAddr) -> Cidr {
        let prefix = match addr {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Cidr { addr, prefix }
    }

    /// The address, including its host bits.
    #[inline]
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Prefix length in bits.
    #[inline]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the first `prefix` bits of `ip` are those of the address; false for an address of the other family.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)) & mask_v4(self.prefix) == 0,
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)) & mask_v6(self.prefix) == 0,
            _ => false,
        }
    }

    /// The network address: host bits zero.
    pub fn network(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(a) => IpAddr::V4((u32::from(a) & mask_v4(self.prefix)).into()),
            IpAddr::V6(a) => IpAddr::V6((u128::from(a) & mask_v6(self.prefix)).into()),
        }
    }

    /// The same prefix without host bits.
    pub fn trunc(&self) -> Cidr {
        Cidr { addr: self.network(), prefix: self.prefix }
    }

    /// The directed broadcast address; None for IPv6, /31 (RFC 3021) and /32.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.addr {
            IpAddr::V4(a) if self.prefix < 31 => Some((u32::from(a) | !mask_v4(self.prefix)).into()),
            _ => None,
        }
    }

    /// Netmask in the address's family.
    pub fn netmask(&self) -> IpAddr {
        match self.addr {
            IpAddr::V4(_) => IpAddr::V4(mask_v4(self.prefix).into()),
            IpAddr::V6(_) => IpAddr::V6(mask_v6(self.prefix).into()),
        }
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    /// `ADDR/PREFIX`, or `ADDR` alone for one host; anything else is `BadField`. The prefix consists of decimal digits
    /// only.
    fn from_str(s: &str) -> Result<Cidr, ParseError> {
        let bad = ParseError::BadField;
        let Some((addr, prefix)) = s.split_once('/') else {
            return s.parse().map(Cidr::host).map_err(|_| bad);
        };
        if !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad);
        }
        let prefix = prefix.parse().map_err(|_| bad)?;
        Cidr::new(addr.parse().map_err(|_| bad)?, prefix).ok_or(bad)
    }
}

/// Whether an address can be that of a single remote host: not unspecified, multicast or limited broadcast. TCP neither
/// sends to nor answers any other (RFC 9293 §3.9.2.3, RFC 1122 §4.2.3.10).
#[inline]
pub(crate) fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast(),
        IpAddr::V6(a) => match a.to_ipv4_mapped() {
            Some(m) => is_unicast(IpAddr::V4(m)),
            None => !a.is_unspecified() && !a.is_multicast(),
        },
    }
}

/// Why a packet with these addresses is dropped (a martian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Martian {
    /// The source cannot be a host on this link.
    Source,
    /// The destination cannot be reached over this link.
    Destination,
}

/// Whether an IPv4 packet's addresses are invalid on a link (`loopback`: it came from the loopback device, where 127/8
/// is valid). The source 0.0.0.0 is allowed to the limited broadcast and to multicast; the rest of 0.0.0.0/8 is as any
/// other. Directed broadcasts are not checked, as that needs the routes. Linux: ip_route_input_slow, RFC 1812 §5.3.7.
#[inline]
pub(crate) fn martian_v4(src: Ipv4Addr, dst: Ipv4Addr, loopback: bool) -> Option<Martian> {
    if src.is_multicast() || src.is_broadcast() {
        return Some(Martian::Source);
    }
    if src.is_unspecified() && !dst.is_broadcast() && !dst.is_multicast() {
        return Some(Martian::Source);
    }
    if dst.is_unspecified() {
        return Some(Martian::Destination);
    }
    if !loopback && dst.is_loopback() {
        return Some(Martian::Destination);
    }
    if !loopback && src.is_loopback() {
        return Some(Martian::Source);
    }
    None
}

/// The same for IPv6: source multicast; destination multicast of reserved scope, or of interface-local scope or `::1`
/// not on the loopback device, where the source `::1` is invalid too. The unspecified source is allowed, because
/// duplicate address detection uses it. An unspecified or v4-mapped destination has no route. Linux: ip6_rcv_core;
/// RFC 4291 §2.5.3, RFC 4291 §2.7.
#[inline]
pub(crate) fn martian_v6(src: Ipv6Addr, dst: Ipv6Addr, loopback: bool) -> Option<Martian> {
    if src.is_multicast() {
        return Some(Martian::Source);
    }
    if dst.is_multicast() {
        let scope = dst.octets()[1] & 15;
        if scope == 0 || (scope == 1 && !loopback) {
            return Some(Martian::Destination);
        }
    }
    if !loopback && dst.is_loopback() {
        return Some(Martian::Destination);
    }
    if !loopback && src.is_loopback() {
        return Some(Martian::Source);
    }
    None
}

/// fe80::/10: valid on one link only, so it needs a scope id in a `sockaddr_in6`.
#[inline]
pub const fn is_link_local_v6(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

/// The same of an address of either family; false for IPv4's, whose 169.254.0.0/16 needs no scope.
#[inline]
pub(crate) const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if is_link_local_v6(ip))
}

/// The solicited-node multicast group of `ip` (RFC 4291 §2.7.1), to which its neighbour solicitations are sent.
#[inline]
pub(crate) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    const BASE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from(BASE | u128::from(ip) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(s: &str) -> Ipv4Addr {
        s.parse().unwrap()
    }

    fn v6(s: &str) -> Ipv6Addr {
        s.parse().unwrap()
    }

    #[test]
    fn a_prefix_says_what_it_contains() {
        for (cidr, ip, inside) in [
            ("10.0.0.2/24", "10.0.0.255", true),
            ("10.0.0.2/24", "10.0.1.0", false),
            ("10.0.0.2/0", "255.255.255.255", true),
            ("10.0.0.2/32", "10.0.0.2", true),
            ("10.0.0.2/32", "10.0.0.3", false),
            ("10.0.0.2", "10.0.0.2", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::1/64", "fd00::ffff:0:0:1", true),
            ("fd00::1/64", "fd00:0:0:1::1", false),
            ("::/0", "ff02::1", true),
            ("::1/128", "::2", false),
            ("::ffff:0.0.0.0/96", "1.2.3.4", false),
        ] {
            let c: Cidr = cidr.parse().unwrap();
            assert_eq!(c.contains(ip.parse().unwrap()), inside, "{ip} in {cidr}");
        }
        for bad in
            ["", "/", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/+8", "10.0.0.1/-1", "10.0.0/8", "::1/129", "::/256", "a/8"]
        {
            assert_eq!(bad.parse::<Cidr>(), Err(ParseError::BadField), "{bad:?}");
        }
    }

    #[test]
    fn network_broadcast_and_netmask() {
        for (cidr, network, mask, broadcast) in [
            ("10.1.2.3/8", "10.0.0.0", "255.0.0.0", Some("10.255.255.255")),
            ("10.1.2.3/30", "10.1.2.0", "255.255.255.252", Some("10.1.2.3")),
            ("10.1.2.3/31", "10.1.2.2", "255.255.255.254", None),
            ("10.1.2.3/32", "10.1.2.3", "255.255.255.255", None),
            ("10.1.2.3/0", "0.0.0.0", "0.0.0.0", Some("255.255.255.255")),
            ("fe80::1/10", "fe80::", "ffc0::", None),
        ] {
            let c: Cidr = cidr.parse().unwrap();
            assert_eq!((c.network().to_string(), c.netmask().to_string()), (network.into(), mask.into()), "{cidr}");
            assert_eq!(c.broadcast(), broadcast.map(v4), "{cidr}");
            assert_eq!(c.to_string(), cidr);
            assert_eq!(c.trunc().trunc(), c.trunc());
        }
    }

    #[test]
    fn impossible_ipv4_addresses_are_martians() {
        use Martian::*;
        for (src, dst, on_link, on_loopback) in [
            ("10.0.0.1", "10.0.0.2", None, None),
            ("10.0.0.1", "255.255.255.255", None, None),
            ("10.0.0.1", "224.0.0.1", None, None),
            ("224.0.0.1", "10.0.0.2", Some(Source), Some(Source)),
            ("255.255.255.255", "10.0.0.2", Some(Source), Some(Source)),
            ("0.0.0.0", "10.0.0.2", Some(Source), Some(Source)),
            ("0.0.0.1", "10.0.0.2", None, None),
            ("10.0.0.1", "0.0.0.1", None, None),
            ("0.0.0.0", "255.255.255.255", None, None),
            ("0.0.0.0", "224.0.0.1", None, None),
            ("10.0.0.1", "0.0.0.0", Some(Destination), Some(Destination)),
            ("127.0.0.1", "10.0.0.2", Some(Source), None),
            ("10.0.0.1", "127.0.0.1", Some(Destination), None),
            ("127.0.0.1", "127.0.0.1", Some(Destination), None),
        ] {
            assert_eq!(martian_v4(v4(src), v4(dst), false), on_link, "{src} > {dst}");
            assert_eq!(martian_v4(v4(src), v4(dst), true), on_loopback, "{src} > {dst} on lo");
        }
    }

    #[test]
    fn impossible_ipv6_addresses_are_martians() {
        use Martian::*;
        for (src, dst, on_link, on_loopback) in [
            ("fd00::1", "fd00::2", None, None),
            ("::", "ff02::1:ff00:2", None, None),
            ("fd00::1", "ff02::1", None, None),
            ("fd00::1", "ff01::1", Some(Destination), None),
            ("fd00::1", "ff00::1", Some(Destination), Some(Destination)),
            ("ff02::1", "fd00::2", Some(Source), Some(Source)),
            ("::1", "fd00::2", Some(Source), None),
            ("fd00::1", "::1", Some(Destination), None),
            ("::ffff:10.0.0.1", "fd00::2", None, None),
        ] {
            assert_eq!(martian_v6(v6(src), v6(dst), false), on_link, "{src} > {dst}");
            assert_eq!(martian_v6(v6(src), v6(dst), true), on_loopback, "{src} > {dst} on lo");
        }
    }

    #[test]
    fn tcp_answers_unicast_addresses_only() {
        for (ip, want) in [
            ("10.0.0.1", true),
            ("127.0.0.1", true),
            ("240.0.0.1", true),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("fd00::1", true),
            ("::1", true),
            ("::", false),
            ("ff02::1", false),
            ("::ffff:224.0.0.1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(is_unicast(ip.parse().unwrap()), want, "{ip}");
        }
    }

    #[test]
    fn groups_and_scopes() {
        assert_eq!(solicited_node(v6("fd00::1:2345:6789")), v6("ff02::1:ff45:6789"));
        assert!(is_link_local_v6(v6("febf::1")) && !is_link_local_v6(v6("fec0::1")));
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_text_is_a_prefix_or_an_error(s in "[0-9a-f:./]{0,24}") {
            if let Ok(c) = s.parse::<Cidr>() {
                prop_assert!(c.contains(c.network()) && c.contains(c.addr()));
                prop_assert_eq!(c.to_string().parse(), Ok(c));
            }
        }
    }
}
