//! RDP's packet: the first 16 bytes of the C one, which are ports, sequence and acknowledgement number, flags and
//! checksum. Numbers count bytes, and one each for SYN, FIN and the End of a message.

use std::net::IpAddr;
use usersock::error::{Error, Result};
use usersock::sock::skb::Skb;
use usersock::wire::checksum;

pub(crate) const RDP: u8 = 253;
pub(crate) const HEADER: usize = 16;
// Flags of a packet.
pub(crate) const SYN: u8 = 1;
pub(crate) const ACK: u8 = 2;
pub(crate) const FIN: u8 = 4;
pub(crate) const BEG: u8 = 16;
pub(crate) const END: u8 = 32;

/// Whether `a` is before `b` on the circle of numbers.
pub(crate) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// A header as numbers. On its way from `rcv` to `backlog_rcv` it is in the packet's notes.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
}

impl Head {
    /// None: too short, or of another version.
    pub(crate) fn parse(skb: &mut Skb) -> Option<Head> {
        let b: [u8; HEADER] = skb.may_pull(HEADER).then(|| skb.linear().first_chunk().copied())??;
        let half = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        (b[12] == 0x14).then(|| Head { from: half(0), to: half(2), seq: word(4), ack: word(8), flags: b[13] })
    }

    pub(crate) fn note(self, skb: &mut Skb) {
        skb.cb[0] = u64::from(self.seq) << 32 | u64::from(self.ack);
        skb.cb[1] = u64::from(self.flags) << 32 | u64::from(self.from) << 16 | u64::from(self.to);
    }

    pub(crate) fn noted(skb: &Skb) -> Head {
        let [a, b, ..] = skb.cb;
        Head { from: (b >> 16) as u16, to: b as u16, seq: (a >> 32) as u32, ack: a as u32, flags: (b >> 32) as u8 }
    }

    /// Puts the header in front of the payload, with the checksum over both and the pseudo-header.
    pub(crate) fn write(self, skb: &mut Skb, src: IpAddr, dst: IpAddr) -> Result<()> {
        let b = skb.push(HEADER).ok_or(Error::NoBufs)?;
        for (at, v) in [(0, self.from), (2, self.to)] {
            b[at..at + 2].copy_from_slice(&v.to_be_bytes());
        }
        for (at, v) in [(4, self.seq), (8, self.ack)] {
            b[at..at + 4].copy_from_slice(&v.to_be_bytes());
        }
        (b[12], b[13]) = (0x14, self.flags);
        let sum = checksum_of(skb, src, dst);
        skb.head_mut()[14..16].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }
}

/// The checksum of a packet; of one that carries its own, 0 says it is right.
pub(crate) fn checksum_of(skb: &Skb, src: IpAddr, dst: IpAddr) -> u16 {
    let mut sum = checksum::Checksum::new(checksum::pseudo_header(src, dst, RDP, skb.len() as u32));
    for piece in skb.slices() {
        sum.push(piece);
    }
    checksum::finish(sum.partial())
}
