//! The Internet checksum: ones-complement sums (RFC 1071), pseudo-headers, incremental update (RFC 1624). Above: every
//! header with a checksum, and the devices that complete a partial one. Linux: lib/checksum.c, net/checksum.h.
//!
//! A *partial* is a `u32` with a ones-complement sum of big-endian 16-bit words, not complemented. Partials of pieces
//! that each start at an even offset may be added with [`add`]. [`fold`] reduces one to 16 bits; [`finish`] complements
//! it as well, which gives the value for a header. [`Checksum`] sums pieces of odd lengths.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes summed in one step of the wide loop: eight independent 64-bit lanes, which the compiler turns into vector
/// adds.
const BLOCK: usize = 64;

/// Blocks after which the lanes are added up: far fewer than the 2^32 additions of 32-bit words that a 64-bit lane can
/// hold, so no lane can overflow.
const BLOCKS_PER_DRAIN: usize = 1 << 16;

/// Ones-complement sum of `data` added to `initial`, folded to at most 16 bits. An odd last byte is the high half of a
/// word whose low half is zero, so of several pieces only the last may be odd (otherwise use [`Checksum`]).
#[inline]
pub fn sum(data: &[u8], initial: u32) -> u32 {
    // Words are added in host order and the result is byte-swapped once: by RFC 1071 §2 (B) this gives the same sum.
    let native = sum_native(data);
    u32::from(fold64(u64::from(u16::from_be(native)) + u64::from(initial)))
}

/// What Linux calls an unfolded sum (`__wsum`): of the bytes as words of 32 bits in host order, added to `initial`
/// with end-around carry (csum_partial).
pub(crate) fn unfolded(data: &[u8], initial: u32) -> u32 {
    let words = data.chunks(4).map(|w| {
        let mut word = [0; 4];
        word[..w.len()].copy_from_slice(w);
        u64::from(u32::from_ne_bytes(word))
    });
    let mut sum = words.sum::<u64>() + u64::from(initial);
    while sum >> 32 != 0 {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    sum as u32
}

#[inline]
fn sum_native(data: &[u8]) -> u16 {
    if data.len() < BLOCK { fold64(sum_short(data)) } else { sum_blocks(data) }
}

/// The same of any length, in steps of [`BLOCK`] bytes.
fn sum_blocks(data: &[u8]) -> u16 {
    let mut blocks = data.chunks_exact(BLOCK);
    let (mut total, mut left) = (0u64, data.len() / BLOCK);
    while left > 0 {
        let n = left.min(BLOCKS_PER_DRAIN);
        let mut lanes = [0u64; BLOCK / 8];
        for block in blocks.by_ref().take(n) {
            for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
                let w = u64::from_ne_bytes(word.try_into().unwrap_or([0; 8]));
                *lane += (w & 0xffff_ffff) + (w >> 32);
            }
        }
        for lane in lanes {
            total += u64::from(fold64(lane));
        }
        left -= n;
    }
    fold64(total + sum_short(blocks.remainder()))
}

/// The sum of less than [`BLOCK`] bytes, such as a header, in 64 bits.
#[inline]
fn sum_short(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<4>();
    let sum = words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum::<u64>();
    sum + u64::from(match *rest {
        [a, b, c] => u32::from(u16::from_ne_bytes([a, b])) + u32::from(u16::from_ne_bytes([c, 0])),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a] => u16::from_ne_bytes([a, 0]).into(),
        _ => 0,
    })
}

/// Ones-complement folding of 64 bits to 16.
#[inline]
pub(crate) const fn fold64(mut s: u64) -> u16 {
    s = (s & 0xffff_ffff) + (s >> 32);
    s = (s & 0xffff_ffff) + (s >> 32);
    fold(s as u32)
}

/// A partial folded to 16 bits, **not** complemented: for the pseudo-header, the value that checksum offload expects in
/// the header field.
#[inline]
pub const fn fold(partial: u32) -> u16 {
    let s = (partial & 0xffff) + (partial >> 16);
    (s + (s >> 16)) as u16
}

/// The checksum field for a partial: its fold, complemented. Linux: csum_fold.
#[inline]
pub const fn finish(partial: u32) -> u16 {
    !fold(partial)
}

/// Ones-complement sum of two partials (end-around carry). Linux: csum_add.
#[inline]
pub const fn add(a: u32, b: u32) -> u32 {
    let (s, carry) = a.overflowing_add(b);
    s + carry as u32
}

/// `a` minus `b`. Linux: csum_sub.
#[inline]
pub const fn sub(a: u32, b: u32) -> u32 {
    add(a, !b)
}

/// Converts the partial of a piece that starts at an odd offset, so that it can be added to pieces at even ones. Linux:
/// csum_block_add.
#[inline]
pub const fn swap(partial: u32) -> u32 {
    fold(partial).swap_bytes() as u32
}

/// Whether a partial over bytes that include their checksum field is correct: all ones (RFC 1071 §1). A sum of +0 only
/// results from all-zero bytes and is incorrect: no pseudo-header or header is all zero.
#[inline]
pub const fn is_valid(partial: u32) -> bool {
    fold(partial) == 0xffff
}

/// Sums pieces of any length, including odd ones, as if they were contiguous.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    partial: u32,
    odd: bool,
}

impl Checksum {
    /// Starts from `partial`, usually a pseudo-header.
    #[inline]
    pub const fn new(partial: u32) -> Checksum {
        Checksum { partial, odd: false }
    }

    /// Adds the next piece.
    #[inline]
    pub fn push(&mut self, piece: &[u8]) -> &mut Checksum {
        let s = sum(piece, 0);
        self.push_partial(s, piece.len())
    }

    /// Adds the next piece, given its partial, summed as if at an even offset, and its length in bytes.
    #[inline]
    pub fn push_partial(&mut self, partial: u32, len: usize) -> &mut Checksum {
        self.partial = add(self.partial, if self.odd { swap(partial) } else { partial });
        self.odd ^= len % 2 == 1;
        self
    }

    /// The partial so far.
    #[inline]
    pub const fn partial(&self) -> u32 {
        self.partial
    }

    /// The checksum field.
    #[inline]
    pub const fn finish(&self) -> u16 {
        finish(self.partial)
    }
}

/// Partial of the IPv4 pseudo-header (RFC 9293 §3.1): addresses, protocol, `len` bytes of transport header and payload.
/// A `len` above 65535 (a super-packet) is added in full; the device corrects it when it segments the packet.
#[inline]
pub fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u32) -> u32 {
    let (s, d) = (u64::from(u32::from(src)), u64::from(u32::from(dst)));
    u32::from(fold64(s + d + u64::from(protocol) + u64::from(len)))
}

/// Partial of the IPv6 pseudo-header (RFC 8200 §8.1). `next_header` is the transport's, not an extension header's.
#[inline]
pub fn pseudo_header_v6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, len: u32) -> u32 {
    let tail = u64::from(next_header) + u64::from(len);
    add(sum(&src.octets(), 0), sum(&dst.octets(), u32::from(fold64(tail))))
}

/// Partial of the pseudo-header of either family. A mixed pair is summed as IPv6 with the IPv4 address mapped, which is
/// no valid packet; callers must pass two addresses of one family.
#[inline]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: u32) -> u32 {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => pseudo_header_v4(s, d, protocol, len),
        (IpAddr::V6(s), IpAddr::V6(d)) => pseudo_header_v6(s, d, protocol, len),
        (IpAddr::V4(s), IpAddr::V6(d)) => pseudo_header_v6(s.to_ipv6_mapped(), d, protocol, len),
        (IpAddr::V6(s), IpAddr::V4(d)) => pseudo_header_v6(s, d.to_ipv6_mapped(), protocol, len),
    }
}

/// The checksum field after one covered 16-bit word changed from `old` to `new`: RFC 1624 §3, equation 3.
#[inline]
pub const fn update16(field: u16, old: u16, new: u16) -> u16 {
    finish(!field as u32 + !old as u32 + new as u32)
}

/// As [`update16`] for a 32-bit field at an even offset: an address, a sequence number, a timestamp.
#[inline]
pub const fn update32(field: u16, old: u32, new: u32) -> u16 {
    update16(update16(field, (old >> 16) as u16, (new >> 16) as u16), old as u16, new as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §1 implemented literally: one word at a time.
    fn naive(data: &[u8]) -> u16 {
        let mut s = 0u32;
        for c in data.chunks(2) {
            s += u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0));
            s = (s & 0xffff) + (s >> 16);
        }
        s as u16
    }

    #[test]
    fn rfc_1071_section_3_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&data, 0)), 0xddf2);
        assert_eq!(finish(sum(&data, 0)), !0xddf2);
    }

    #[test]
    fn rfc_1624_section_4_example_keeps_the_right_zero() {
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn extremes_agree_with_the_naive_sum() {
        for len in (0..300).chain([4095, 65535, 65536]) {
            for byte in [0u8, 1, 0x7f, 0x80, 0xff] {
                let data = vec![byte; len];
                assert_eq!(fold(sum(&data, 0)), naive(&data), "{len} x {byte:#x}");
            }
        }
    }

    #[test]
    fn lanes_do_not_overflow_on_a_slice_longer_than_one_drain() {
        let data = vec![0xffu8; BLOCK * (BLOCKS_PER_DRAIN + 3) + 5];
        assert_eq!(fold(sum(&data, 0)), naive(&data));
    }

    #[test]
    fn pseudo_header_v4_equals_its_bytes_summed() {
        let (s, d) = (Ipv4Addr::new(192, 168, 1, 255), Ipv4Addr::new(255, 255, 255, 255));
        let mut b = vec![];
        b.extend(s.octets());
        b.extend(d.octets());
        b.extend([0, 6, 0x12, 0x34]);
        assert_eq!(fold(pseudo_header_v4(s, d, 6, 0x1234)), naive(&b));
    }

    proptest! {
        #![proptest_config(crate::base::cases::cases())]

        #[test]
        fn any_bytes_agree_with_the_naive_sum(
            data in proptest::collection::vec(any::<u8>(), 0..2000), off in 0usize..8,
        ) {
            let data = &data[off.min(data.len())..];
            prop_assert_eq!(fold(sum(data, 0)), naive(data));
        }

        #[test]
        fn pieces_of_any_length_sum_as_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 0..8), start: u32,
        ) {
            let mut c = Checksum::new(start);
            for p in &pieces {
                c.push(p);
            }
            let whole = pieces.concat();
            prop_assert_eq!(fold(c.partial()), fold(sum(&whole, start)));
        }

        #[test]
        fn update_equals_a_new_sum(mut data in proptest::collection::vec(any::<u8>(), 8..40), new16: u16, new32: u32) {
            data[0] |= 1;
            let before = finish(sum(&data, 0));
            let old16 = u16::from_be_bytes([data[2], data[3]]);
            data[2..4].copy_from_slice(&new16.to_be_bytes());
            let mid = update16(before, old16, new16);
            prop_assert_eq!(mid, finish(sum(&data, 0)));
            let old32 = u32::from_be_bytes([data[4], data[5], data[6], data[7]]);
            data[4..8].copy_from_slice(&new32.to_be_bytes());
            prop_assert_eq!(update32(mid, old32, new32), finish(sum(&data, 0)));
        }

        #[test]
        fn pseudo_header_v6_equals_its_bytes_summed(s: [u8; 16], d: [u8; 16], next: u8, len: u32) {
            let mut b = s.to_vec();
            b.extend(d);
            b.extend(len.to_be_bytes());
            b.extend([0, 0, 0, next]);
            let got = pseudo_header_v6(Ipv6Addr::from(s), Ipv6Addr::from(d), next, len);
            // +0 and -0 are the same sum; only all-zero bytes give +0.
            prop_assert_eq!(fold(got) % 0xffff, naive(&b) % 0xffff);
        }

        #[test]
        fn sub_undoes_add(a: u32, b: u32) {
            prop_assert_eq!(fold(sub(add(a, b), b)) % 0xffff, fold(a) % 0xffff);
        }
    }
}
