//! Extensions of ICMP errors, for IP_RECVERR_RFC4884 and IPV6_RECVERR_RFC4884: where in an error's payload they begin,
//! and whether they are well formed. Above: `errors`, and `icmp` and `icmpv6`, which read them. Linux:
//! ip_icmp_error_rfc4884. RFC 4884 §7.

use crate::sock::packet::IcmpError;
use crate::wire::checksum;

/// SO_EE_RFC4884_FLAG_INVALID.
const INVALID: u8 = 1;
/// Length of the extension's header and of an object's, bytes.
const HEADER: usize = 4;
const VERSION: u8 = 2;

/// Where an extension begins behind a quoted datagram of so many bytes; 0: it has fewer than the 128 that go with one
/// (RFC 4884 §5).
pub(super) fn extension_at(len: usize) -> usize {
    if len < 128 { 0 } else { len }
}

/// `ee_data`: struct sock_ee_data_rfc4884, of an error whose `payload` the program gets. 0: no extension.
pub(super) fn ee_data(e: &IcmpError<'_>, payload: &[u8]) -> u32 {
    // `payload` is the end of what was quoted, or with IP_HDRINCL more than that.
    let Some(at) = (e.extension + payload.len()).checked_sub(e.quoted.len()).filter(|_| e.extension != 0) else {
        return 0;
    };
    if at + HEADER > payload.len() {
        return 0;
    }
    let flags = if is_valid(&payload[at..]) { 0 } else { INVALID };
    let [low, high] = (at as u16).to_ne_bytes();
    u32::from_ne_bytes([low, high, flags, 0])
}

/// Checksum, where there is one, and the lengths of the objects; of another version nothing is known.
fn is_valid(extension: &[u8]) -> bool {
    let [first, _, c0, c1, ..] = extension else { return false };
    if first >> 4 != VERSION {
        return true;
    }
    if (*c0, *c1) != (0, 0) && !checksum::is_valid(checksum::sum(extension, 0)) {
        return false;
    }
    let mut objects = &extension[HEADER..];
    while let Some(b) = objects.first_chunk::<HEADER>() {
        let len = usize::from(u16::from_be_bytes([b[0], b[1]]));
        if len < HEADER || len > objects.len() {
            return false;
        }
        objects = &objects[len..];
    }
    objects.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_checksum_are_checked_of_version_2_alone() {
        for (case, bytes, want) in [
            ("no object", &[0x20, 0, 0, 0][..], true),
            ("one object", &[0x20, 0, 0, 0, 0, 8, 1, 1, 9, 9, 9, 9], true),
            ("two objects", &[0x20, 0, 0, 0, 0, 4, 1, 1, 0, 4, 1, 1], true),
            ("its checksum", &[0x20, 0, 0xde, 0xf9, 0, 4, 1, 1, 0, 1], false),
            ("right checksum", &[0x20, 0, 0xde, 0xfa, 0, 4, 1, 1], true),
            ("wrong checksum", &[0x20, 0, 0xde, 0xfb, 0, 4, 1, 1], false),
            ("object too short", &[0x20, 0, 0, 0, 0, 3, 1, 1], false),
            ("object too long", &[0x20, 0, 0, 0, 0, 9, 1, 1, 0, 0, 0, 0], false),
            ("half an object", &[0x20, 0, 0, 0, 0, 4, 1, 1, 0, 4], false),
            ("version 3", &[0x30, 0, 0, 1, 0, 3, 1, 1], true),
            ("no header", &[0x20, 0, 0], false),
        ] {
            assert_eq!(is_valid(bytes), want, "{case}");
        }
    }
}
