//! Packet formats: bytes in, views out; values in, bytes out. Above: `ip`, `tcp`, `udp`, `icmp`, `device`. Below:
//! nothing, this module knows no other of the crate, allocates nothing on the data path and holds no state.
//!
//! How the three shapes fit together:
//!
//! - A **view** (`TcpHeader<'p>`, `Ipv4Header<'p>`, ...) borrows the packet. `parse` checks every length the format
//!   states against the bytes that are there, once; after that no getter can fail or panic, whatever the bytes say.
//!   Views are `Copy`, two or three words, and hand out what follows the header as `payload()`.
//! - A **value** (`TcpOptions`, `SackBlocks`, `MacAddr`, ...) owns what it says and may outlive the packet.
//! - A **repr** (`Ipv4Repr`, `TcpRepr`, `SynOptions`, ...) is what is to be written: `len()` says how many bytes it
//!   takes, `emit` writes them to the front of a buffer and returns that number.
//!
//! Which calls may fail: `parse` returns [`ParseError`], whose variant is the reason a counter is bumped for. Iterators
//! over options and extension headers end, at the latest, with the last byte. `emit` panics only when its buffer is
//! shorter than `len()`, which is the caller's mistake and never the peer's.
//!
//! Checksums are not part of `parse`: a device may have checked them already. Every view has a method that does.
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
pub mod seq;
pub(crate) mod tcp;
pub(crate) mod tcp_options;
pub(crate) mod udp;

#[cfg(test)]
mod tests;

/// How property tests run here: the same cases every time, unless `PROPTEST_RNG_SEED` asks for others, and no files
/// written.
#[cfg(test)]
pub(crate) fn cases() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let config = Config { failure_persistence: None, ..Config::default() };
    match config.rng_seed {
        RngSeed::Fixed(_) => config,
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(0x9293), ..config },
    }
}

use core::fmt;

/// Why bytes are not the packet they should be. One variant per reason, so that one counter can be kept per reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// Fewer bytes than the fixed header, or than a length field says are there.
    Truncated,
    /// The IP version nibble is not that of the parser called.
    BadVersion,
    /// A header length (IHL, data offset, extension header length) below the minimum.
    BadHeaderLen,
    /// A total or payload length that contradicts the header length.
    BadTotalLen,
    /// The ones-complement sum over the covered bytes is not right.
    BadChecksum,
    /// An option with a length that is zero, too small for its kind, or beyond the end.
    BadOption,
    /// An IPv6 extension header chain that cannot be walked.
    BadExtension,
    /// A field whose value the format forbids here (ARP hardware type, NDP hop limit or code, ...).
    BadField,
    /// A frame or message of a kind this stack does not take: 802.1Q tag, 802.3 length, unknown EtherType.
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

/// IP protocol numbers and IPv6 next-header values this stack knows (IANA protocol-numbers).
pub mod proto {
    /// IPv6 hop-by-hop options (RFC 8200 §4.3).
    pub const HOPOPTS: u8 = 0;
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
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
    /// IPv6 destination options (RFC 8200 §4.6).
    pub const DSTOPTS: u8 = 60;
}

/// Reads a big-endian u16 at `at`, or 0 beyond the end: for option bodies whose length the caller has checked.
#[inline]
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    match b.get(at..at + 2) {
        Some(s) => u16::from_be_bytes([s[0], s[1]]),
        None => 0,
    }
}

/// Reads a big-endian u32 at `at`, or 0 beyond the end: for option bodies whose length the caller has checked.
#[inline]
pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    match b.get(at..at + 4) {
        Some(s) => u32::from_be_bytes([s[0], s[1], s[2], s[3]]),
        None => 0,
    }
}
