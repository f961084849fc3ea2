//! Why this host answers with an ICMP error. Above: `input`, `exthdrs`, `fragment`, which find it; `icmp` and `icmpv6`,
//! which say it.

/// Why a packet that arrived is answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A malformed header: at this offset of the datagram.
    Parameter {
        /// Offset of the offending byte.
        pointer: u32,
    },
    /// An IPv6 option that must be understood and is not.
    Option {
        /// Offset of its kind byte.
        pointer: u32,
    },
    /// No protocol of this number; IPv6: the byte that names it.
    NoProtocol {
        /// Offset of the next-header byte.
        pointer: u32,
    },
    /// No socket on this port.
    NoPort,
    /// No route to the destination; IPv6 alone.
    NoRoute,
    /// A first fragment without the upper-layer header (RFC 7112); IPv6 alone.
    Incomplete,
    /// The other fragments did not come in time.
    Reassembly,
    /// A filter of this host refuses it.
    Prohibited,
    /// It is larger than the next hop carries.
    TooBig {
        /// What that carries, bytes.
        mtu: u32,
    },
}
