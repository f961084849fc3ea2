//! ARP for IPv4 over Ethernet (RFC 826). Above: the neighbour table, which decides whether to accept a message; this
//! file only refuses messages that are invalid between Ethernet hosts. Linux: arp_rcv, arp_create.

use super::ether::{MacAddr, ethertype};
use super::{ParseError, be16};
use core::net::Ipv4Addr;

/// Bytes of a message.
pub(crate) const LEN: usize = 28;

/// Hardware type Ethernet.
const ETHERNET: u16 = 1;

/// The operation code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Operation {
    /// Who has `target_ip`?
    Request = 1,
    /// `sender_ip` is at `sender_mac`.
    Reply = 2,
}

/// A message; 28 bytes are small enough to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Sender's hardware address.
    pub sender_mac: MacAddr,
    /// Sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target's hardware address; without meaning in a request.
    pub target_mac: MacAddr,
    /// Target's address.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// `Truncated`: fewer than 28 bytes; `BadField`: not Ethernet and IPv4 with their lengths 6 and 4; `Unsupported`:
    /// neither request nor reply; `BadField` also for a target that is a loopback or multicast address (Linux drops
    /// those too).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Arp, ParseError> {
        let b: &[u8; LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        if (be16(b, 0), be16(b, 2), b[4], b[5]) != (ETHERNET, ethertype::IPV4, 6, 4) {
            return Err(ParseError::BadField);
        }
        let operation = match be16(b, 6) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(ParseError::Unsupported),
        };
        let target_ip = Ipv4Addr::new(b[24], b[25], b[26], b[27]);
        if target_ip.is_loopback() || target_ip.is_multicast() {
            return Err(ParseError::BadField);
        }
        Ok(Arp {
            operation,
            sender_mac: MacAddr([b[8], b[9], b[10], b[11], b[12], b[13]]),
            sender_ip: Ipv4Addr::new(b[14], b[15], b[16], b[17]),
            target_mac: MacAddr([b[18], b[19], b[20], b[21], b[22], b[23]]),
            target_ip,
        })
    }

    /// Writes 28 bytes; returns 28.
    ///
    /// # Panics
    /// When `buf` is shorter than 28 bytes.
    pub(crate) fn emit(&self, buf: &mut [u8]) -> usize {
        let b = &mut buf[..LEN];
        b[0..2].copy_from_slice(&ETHERNET.to_be_bytes());
        b[2..4].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        b[4..6].copy_from_slice(&[6, 4]);
        b[6..8].copy_from_slice(&(self.operation as u16).to_be_bytes());
        b[8..14].copy_from_slice(&self.sender_mac.0);
        b[14..18].copy_from_slice(&self.sender_ip.octets());
        b[18..24].copy_from_slice(&self.target_mac.0);
        b[24..28].copy_from_slice(&self.target_ip.octets());
        LEN
    }

    /// A request for the address `target`, to be broadcast.
    pub(crate) const fn request(mac: MacAddr, ip: Ipv4Addr, target: Ipv4Addr) -> Arp {
        Arp {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddr::UNSPECIFIED,
            target_ip: target,
        }
    }

    /// The reply to this request from the host at `mac`, which has the target's address.
    pub(crate) const fn reply_from(&self, mac: MacAddr) -> Arp {
        Arp {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const IP_A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const IP_B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn what_is_not_ethernet_and_ipv4_is_refused() {
        let mut good = [0u8; 28];
        Arp::request(A, IP_A, IP_B).emit(&mut good);
        for (case, at, byte, want) in [
            ("untouched", 1usize, 1u8, None),
            ("hardware type", 1, 6, Some(ParseError::BadField)),
            ("protocol type", 2, 0x86, Some(ParseError::BadField)),
            ("hardware length 0", 4, 0, Some(ParseError::BadField)),
            ("hardware length 255", 4, 255, Some(ParseError::BadField)),
            ("protocol length 16", 5, 16, Some(ParseError::BadField)),
            ("operation 0", 7, 0, Some(ParseError::Unsupported)),
            ("operation 3", 7, 3, Some(ParseError::Unsupported)),
            ("loopback target", 24, 127, Some(ParseError::BadField)),
            ("multicast target", 24, 224, Some(ParseError::BadField)),
        ] {
            let mut b = good;
            b[at] = byte;
            assert_eq!(Arp::parse(&b).err(), want, "{case}");
        }
        assert_eq!(Arp::parse(&good[..27]), Err(ParseError::Truncated));
    }

    #[test]
    fn a_reply_swaps_the_ends_of_the_request() {
        let want = Arp { operation: Operation::Reply, sender_mac: B, sender_ip: IP_B, target_mac: A, target_ip: IP_A };
        assert_eq!(Arp::request(A, IP_A, IP_B).reply_from(B), want);
        let mut padded = [0x55u8; 46];
        assert_eq!(want.emit(&mut padded), 28);
        assert_eq!(Arp::parse(&padded), Ok(want));
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_never_panic_and_what_parses_is_written_back(
            mut bytes in prop::collection::vec(any::<u8>(), 0..40), fix: bool, op in 0u8..4,
        ) {
            if let (true, Some(b)) = (fix, bytes.get_mut(..8)) { b.copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, op]); }
            if let Ok(a) = Arp::parse(&bytes) {
                let mut out = [0; 28];
                a.emit(&mut out);
                prop_assert_eq!(&out[..], &bytes[..28]);
            }
        }
    }
}
