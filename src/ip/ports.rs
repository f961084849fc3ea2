//! Choice of local ports that others cannot predict (RFC 6056). Above: `connect` and `bind` to port 0 of TCP and UDP,
//! which pass a closure that tries a port. Linux: __inet_hash_connect, inet_csk_find_open_port, udp_lib_get_port.
//!
//! For `connect` this is RFC 6056's double-hash selection: a keyed hash of the destination gives a place in a table of
//! counters and an offset, so that the ports of one destination follow each other and do not reveal those of another.
//! The table has 65,536 entries and moves by random amounts (CVE-2022-1012, CVE-2022-32296). Ports of the parity of the
//! range's lower end are tried first, which leaves the others to `bind`, as on Linux.

use super::net;
use crate::stack::Stack;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const ENTRIES: usize = 1 << 16;

/// Whether socks bound to these two addresses can receive the same packet (inet_rcv_saddr_equal with wildcards). With
/// each address: IPV6_V6ONLY of its sock.
pub(crate) fn rcv_saddr_equal((a, a_v6only): (IpAddr, bool), (b, b_v6only): (IpAddr, bool)) -> bool {
    match (a.is_ipv6(), b.is_ipv6()) {
        (false, false) | (true, true) => a.is_unspecified() || b.is_unspecified() || a == b,
        // An IPv6 wildcard takes IPv4 packets too, unless IPV6_V6ONLY.
        (true, false) => a.is_unspecified() && !a_v6only,
        (false, true) => b.is_unspecified() && !b_v6only,
    }
}

/// The counters of a stack; made, with random contents, at the first connect.
#[derive(Default)]
pub(crate) struct Ports {
    table: OnceLock<Box<[AtomicU32]>>,
}

impl Ports {
    fn table(&self, stack: &Stack) -> &[AtomicU32] {
        self.table.get_or_init(|| {
            let mut bytes = vec![0u8; ENTRIES * 4];
            stack.entropy.fill(&mut bytes);
            let word = |b: &[u8]| AtomicU32::new(u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
            bytes.chunks_exact(4).map(word).collect()
        })
    }
}

/// Tries the ports of `range` (both ends included) from `start` on, one parity after the other, without those that
/// `net.ipv4.ip_local_reserved_ports` holds. Returns the port that `free` accepted, and how far the search went.
fn search(
    stack: &Stack,
    range: (u16, u16),
    start: u32,
    second_parity: bool,
    mut free: impl FnMut(u16) -> bool,
) -> Option<(u16, u32)> {
    let (low, high) = (u32::from(range.0.max(1)), u32::from(range.1));
    let mut n = (high + 1).checked_sub(low).filter(|n| *n > 0)?;
    if n > 1 {
        n &= !1;
    }
    let start = (start % n) & !1;
    for parity in [u32::from(second_parity), u32::from(!second_parity)] {
        let offset = start | parity;
        for i in (0..n).step_by(2) {
            let port = (low + (offset + i) % n) as u16;
            if !stack.sysctl.port_is_reserved(port) && free(port) {
                return Some((port, i));
            }
            if n == 1 {
                return None;
            }
        }
    }
    None
}

/// A port for a connection whose [`crate::base::hash::Keys::port_offset`] is `offset`. None: every port is taken
/// (EADDRNOTAVAIL).
pub(crate) fn for_connect(stack: &Stack, offset: u64, range: (u16, u16), free: impl FnMut(u16) -> bool) -> Option<u16> {
    let slot = &net(stack).ports.table(stack)[offset as usize % ENTRIES];
    let start = slot.load(Ordering::Relaxed).wrapping_add((offset >> 32) as u32);
    let (port, mut steps) = search(stack, range, start, false, free)?;
    // Sometimes a random step, so that counting connections does not reveal the counter.
    if stack.entropy.below(16) == 0 {
        let width = u32::from(range.1.saturating_sub(range.0)).max(1);
        steps = steps.max(stack.entropy.below(width) & !1);
    }
    slot.fetch_add(steps + 2, Ordering::Relaxed);
    Some(port)
}

/// A port for `bind` to port 0: from a random start, odd places first, which `for_connect` leaves free the longest.
/// None: every port is taken (EADDRINUSE).
pub(crate) fn for_bind(stack: &Stack, range: (u16, u16), free: impl FnMut(u16) -> bool) -> Option<u16> {
    search(stack, range, stack.entropy.next_u32(), true, free).map(|p| p.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::capture_test::Bench;
    use std::collections::HashSet;

    #[test]
    fn every_port_of_the_range_is_found_once_and_then_none() {
        let b = Bench::on_ip();
        for range in [(40_000, 40_099), (40_000, 40_000), (65_534, 65_535), (1, 3)] {
            let mut taken = HashSet::new();
            while let Some(p) = for_bind(&b.stack, range, |p| !taken.contains(&p)) {
                assert!((range.0..=range.1).contains(&p) && taken.insert(p));
            }
            // An odd range leaves its last port out, as on Linux, unless it is the only one.
            let n = usize::from(range.1 - range.0) + 1;
            assert_eq!(taken.len(), if n == 1 { 1 } else { n & !1 }, "{range:?}");
        }
        assert_eq!(for_bind(&b.stack, (10, 9), |_| true), None);
    }

    #[test]
    fn reserved_ports_are_never_chosen() {
        let b = Bench::on_ip();
        b.stack.sysctl.set("net.ipv4.ip_local_reserved_ports", "40000-40002").unwrap();
        let got: HashSet<u16> = (0..100).filter_map(|_| for_bind(&b.stack, (40_000, 40_003), |_| true)).collect();
        assert_eq!(got, HashSet::from([40_003]));
    }

    #[test]
    fn ports_towards_one_destination_do_not_predict_those_towards_another() {
        let b = Bench::on_ip();
        let keys = &b.stack.keys;
        let port = |dst: u128| for_connect(&b.stack, keys.port_offset(1, dst, 80), (32_768, 60_999), |_| true).unwrap();
        let steps = |dst: u128| {
            let ports: Vec<u16> = (0..64).map(|_| port(dst)).collect();
            ports.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect::<Vec<_>>()
        };
        let (a, c) = (steps(2), steps(3));
        // Mostly by two, as double hashing does, but not always; and the starts have nothing in common.
        assert!(a.iter().any(|s| *s != 2) && c.iter().any(|s| *s != 2));
        let starts: HashSet<u16> = (10..110).map(port).collect();
        assert!(starts.len() > 95, "{} distinct of 100", starts.len());
    }
}
