//! Packet formats: parses bytes into views, and writes values as bytes. Above: `ip`, `tcp`, `udp`, `ping`, `raw`,
//! `device`. Below: nothing. This module uses no other module of the crate, does not allocate on the data path and
//! holds no state.
//!
//! There are three kinds of types:
//!
//! - A **view** (`TcpHeader<'p>`, `Ipv4Header<'p>`, ...) borrows the packet. `parse` checks every length field of the
//!   format once, against the bytes present; after that no getter can fail or panic, whatever the bytes are.
//!   Views are `Copy`, two or three words, and return the bytes after the header as `payload()`.
//! - A **value** (`TcpOptions`, `SackBlocks`, `MacAddr`, ...) owns its data and may outlive the packet.
//! - A **repr** (`Ipv4Repr`, `TcpRepr`, `SynOptions`, ...) describes bytes to be written: `len()` is their number, and
//!   `emit` writes them to the front of a buffer and returns that number.
//!
//! Which calls may fail: `parse` returns [`ParseError`], with one variant for each drop counter. Iterators over options
//! and extension headers end, at the latest, with the last byte. `emit` panics only when its buffer is shorter than
//! `len()`, which is a bug of the caller and cannot be caused by the peer.
//!
//! Checksums are not verified by `parse`, because a device may have verified them already. Every view has a method for
//! it.
//!
//! Multi-byte fields are big-endian on the wire and host order in every signature.
//!
//! | file | what |
//! |---|---|
//! | `addr` | prefixes, and addresses that cannot be a source or a destination |
//! | `arp`, `ether` | ARP (RFC 826); Ethernet II frames |
//! | `checksum` | ones-complement sums (RFC 1071) |
//! | `icmp`, `icmpv6` | ICMP, ICMPv6 and neighbour discovery |
//! | `ip`, `ipv6` | IPv4; IPv6 with extension and fragment headers |
//! | `membership` | IGMP and MLD |
//! | `seq` | sequence numbers, windows and segment sizes as types |
//! | `tcp`, `tcp_options` | the TCP header; its options |
//! | `udp` | the UDP header |

pub mod addr;
pub(crate) mod arp;
pub mod checksum;
pub mod ether;
pub(crate) mod icmp;
pub(crate) mod icmpv6;
pub(crate) mod ip;
pub(crate) mod ipv6;
pub(crate) mod membership;
pub mod seq;
pub(crate) mod tcp;
pub(crate) mod tcp_options;
pub(crate) mod udp;

#[cfg(test)]
mod tests;

use core::fmt;

/// Why a packet was refused. One variant per reason, so that each reason has its own counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// Fewer bytes than the fixed header, or than a length field requires.
    Truncated,
    /// The IP version is not the parser's.
    BadVersion,
    /// A header length (IHL, data offset, extension header length) below the minimum.
    BadHeaderLen,
    /// A total or payload length that contradicts the header length.
    BadTotalLen,
    /// The ones-complement sum over the covered bytes is wrong.
    BadChecksum,
    /// An option with a length that is zero, too small for its kind, or beyond the end.
    BadOption,
    /// An invalid chain of IPv6 extension headers.
    BadExtension,
    /// A field with a value that the format does not allow here (ARP hardware type, NDP hop limit or code, ...).
    BadField,
    /// A kind of frame or message that this stack does not support: 802.1Q tag, 802.3 length, unknown EtherType.
    Unsupported,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseError::Truncated => "truncated",
            ParseError::BadVersion => "wrong IP version",
            ParseError::BadHeaderLen => "bad header length",
            ParseError::BadTotalLen => "bad total length",
            ParseError::BadChecksum => "bad checksum",
            ParseError::BadOption => "malformed option",
            ParseError::BadExtension => "malformed extension header",
            ParseError::BadField => "field out of range",
            ParseError::Unsupported => "unsupported format",
        })
    }
}

impl core::error::Error for ParseError {}

/// IP protocol numbers and IPv6 next-header values that this stack uses (IANA protocol-numbers).
pub mod proto {
    /// IPv6 hop-by-hop options (RFC 8200 §4.3).
    pub const HOPOPTS: u8 = 0;
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// Group membership over IPv4 (RFC 3376).
    pub(crate) const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// IPv6 routing header (RFC 8200 §4.4).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200 §4.5).
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows (RFC 8200 §4.7).
    pub const NO_NEXT: u8 = 59;
    /// Authentication header (RFC 4302).
    pub(crate) const AH: u8 = 51;
    /// IPv6 destination options (RFC 8200 §4.6).
    pub const DSTOPTS: u8 = 60;
}

/// Reads a big-endian u16 at `at`; 0 if that is beyond the end. For option bodies whose length the caller has checked.
#[inline]
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    match b.get(at..at + 2) {
        Some(s) => u16::from_be_bytes([s[0], s[1]]),
        None => 0,
    }
}

/// Reads a big-endian u32 at `at`; 0 if that is beyond the end. For option bodies whose length the caller has checked.
#[inline]
pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    match b.get(at..at + 4) {
        Some(s) => u32::from_be_bytes([s[0], s[1], s[2], s[3]]),
        None => 0,
    }
}
