//! Checksums of the Internet (RFC 1071).

use super::addr;
use crate::sys::*;
use std::net::SocketAddr;

/// The ones-complement sum (RFC 1071) of bytes, added to `sum`, for [`csum_fold`]. Pieces of even length can be summed
/// one after the other.
pub fn csum(bytes: &[u8], sum: u32) -> u32 {
    // SAFETY: readable.
    unsafe { usk_csum(bytes.as_ptr().cast(), bytes.len(), sum) }
}

/// The sum of the pseudo-header of a packet of `len` bytes between two addresses of one family.
pub fn csum_pseudo(src: SocketAddr, dst: SocketAddr, protocol: u8, len: usize) -> u32 {
    // SAFETY: both are readable.
    unsafe { usk_csum_pseudo(&addr::to_c(src), &addr::to_c(dst), protocol, len as u32) }
}

/// The 16 bits for a checksum field, to be stored high byte first. The checksum of a received packet is correct if its
/// sum, field included, folds to 0.
pub fn csum_fold(sum: u32) -> u16 {
    // SAFETY: no requirement.
    (unsafe { usk_csum_fold(sum) }) as u16
}
