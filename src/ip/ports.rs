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

/// Whether a sock that would bind the first address conflicts with one that has the second (inet_rcv_saddr_equal with
/// wildcards). With each address: IPV6_V6ONLY of its sock.
pub(crate) fn rcv_saddr_equal((a, a_v6only): (IpAddr, bool), (b, b_v6only): (IpAddr, bool)) -> bool {
    match (a.is_ipv6(), b.is_ipv6()) {
        (false, false) | (true, true) => a.is_unspecified() || b.is_unspecified() || a == b,
        // An IPv6 wildcard takes IPv4 packets too, unless IPV6_V6ONLY.
        (true, false) => a.is_unspecified() && !a_v6only,
        // Linux: a sock that connect gave an address of IPv6 has a stand-in for IPv4, which a wildcard meets.
        (false, true) => !b_v6only && (a.is_unspecified() || b.is_unspecified()),
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
/// `net.ipv4.ip_local_reserved_ports` holds. Returns the port that `free` accepted, and how far the search went. As on
/// Linux one search of an odd range passes over one port; which one depends on `start`, and with three ports it is
/// always the last.
fn search(
    stack: &Stack,
    range: (u16, u16),
    start: u32,
    second_parity: bool,
    mut free: impl FnMut(u16) -> bool,
) -> Option<(u16, u32)> {
    let (low, high) = (u32::from(range.0.max(1)), u32::from(range.1) + 1);
    let mut n = high.checked_sub(low).filter(|n| *n > 0)?;
    if n > 1 {
        n &= !1;
    }
    let start = (start % n) & !1;
    for parity in [u32::from(second_parity), u32::from(!second_parity)] {
        let mut port = low + (start | parity) % n;
        for i in (0..n).step_by(2) {
            if !stack.sysctl.port_is_reserved(port as u16) && free(port as u16) {
                return Some((port as u16, i));
            }
            if n == 1 {
                return None;
            }
            port += 2;
            if port >= high {
                port -= n;
            }
        }
    }
    None
}

/// A port for a connection whose [`crate::base::hash::Keys::port_offset`] is `offset`, of which bits 16 to 31 are not
/// used ([`Dst::port_offset`](crate::sock::dst::Dst)). `every`: the range is the
/// socket's own, and each port of it is tried in turn. None: every port is taken (EADDRNOTAVAIL).
pub(crate) fn for_connect(
    stack: &Stack,
    offset: u64,
    range: (u16, u16),
    every: bool,
    mut free: impl FnMut(u16) -> bool,
) -> Option<u16> {
    let slot = &net(stack).ports.table(stack)[offset as usize % ENTRIES];
    let start = slot.load(Ordering::Relaxed).wrapping_add((offset >> 32) as u32);
    let (port, went) = if every {
        let (low, n) = (u32::from(range.0.max(1)), u32::from(range.1.saturating_sub(range.0.max(1))) + 1);
        let mut steps = (0..n).map(|i| ((low + (start % n + i) % n) as u16, i));
        steps.find(|(port, _)| !stack.sysctl.port_is_reserved(*port) && free(*port))?
    } else {
        search(stack, range, start, false, free)?
    };
    // A random step, so that neither the next port to this destination nor the number of connections to others that
    // share the counter can be told from this one. A search that went far was random enough.
    let step = went.max(2 * stack.entropy.below(8));
    slot.fetch_add(step + 2, Ordering::Relaxed);
    Some(port)
}

/// A port for `bind` of a stream socket to port 0: from a random start, odd places first, which `for_connect` leaves
/// free the longest. None: every port is taken (EADDRINUSE).
pub(crate) fn for_bind(stack: &Stack, range: (u16, u16), free: impl FnMut(u16) -> bool) -> Option<u16> {
    search(stack, range, stack.entropy.next_u32(), true, free).map(|p| p.0)
}

/// A port for a datagram socket: each of the range with the same chance, since no connect competes for them. None:
/// every port is taken (EADDRINUSE).
pub(crate) fn for_datagrams(stack: &Stack, range: (u16, u16), mut free: impl FnMut(u16) -> bool) -> Option<u16> {
    let (low, high) = (u32::from(range.0.max(1)), u32::from(range.1) + 1);
    let n = high.checked_sub(low).filter(|n| *n > 0)?;
    let start = stack.entropy.below(n);
    let ports = (0..n).map(|i| (low + (start + i) % n) as u16);
    ports.into_iter().find(|port| !stack.sysctl.port_is_reserved(*port) && free(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::addr128;
    use crate::device::capture_test::Bench;
    use crate::ip::route::lookup;
    use std::collections::HashSet;
    use std::net::IpAddr;

    /// The ports that a search finds while it finds any.
    fn all_of(mut choose: impl FnMut(&HashSet<u16>) -> Option<u16>) -> HashSet<u16> {
        let mut taken = HashSet::new();
        while let Some(p) = choose(&taken) {
            assert!(taken.insert(p));
        }
        taken
    }

    #[test]
    fn every_port_of_an_even_range_is_found_once_and_then_none() {
        let b = Bench::on_ip();
        for (low, high) in [(40_000, 40_099), (40_000, 40_000), (65_534, 65_535)] {
            let taken = all_of(|taken| for_bind(&b.stack, (low, high), |p| !taken.contains(&p)));
            assert_eq!(taken, (low..=high).collect());
        }
        assert_eq!(for_bind(&b.stack, (10, 9), |_| true), None);
    }

    #[test]
    fn odd_range_has_no_port_that_is_never_found_but_the_last_of_three() {
        let b = Bench::on_ip();
        let range_of = |low, high, choose: &mut dyn FnMut(&HashSet<u16>) -> Option<u16>| {
            let taken = all_of(choose);
            assert!(taken.len() >= usize::from(high - low) & !1, "one search passes over one port at most");
            taken
        };
        for (low, high, last) in [(40_000, 40_004, 40_004), (65_531, 65_535, 65_535), (1, 3, 2)] {
            let (mut bound, mut connected) = (HashSet::new(), HashSet::new());
            for dst in 0..200 {
                let key = b.stack.keys.port_offset(1, dst, 80);
                bound.extend(range_of(low, high, &mut |t| for_bind(&b.stack, (low, high), |p| !t.contains(&p))));
                connected.extend(range_of(low, high, &mut |t| {
                    for_connect(&b.stack, key, (low, high), false, |p| !t.contains(&p))
                }));
            }
            assert_eq!(bound, (low..=last).collect());
            assert_eq!(connected, (low..=last).collect());
        }
    }

    #[test]
    fn datagrams_have_every_port_of_any_range() {
        let b = Bench::on_ip();
        for (low, high) in [(40_000, 40_002), (40_000, 40_000), (65_534, 65_535), (1, 100)] {
            let taken = all_of(|taken| for_datagrams(&b.stack, (low, high), |p| !taken.contains(&p)));
            assert_eq!(taken, (low..=high).collect());
        }
        assert_eq!(for_datagrams(&b.stack, (10, 9), |_| true), None);
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
        let port =
            |dst: u128| for_connect(&b.stack, keys.port_offset(1, dst, 80), (32_768, 60_999), false, |_| true).unwrap();
        let steps = |dst: u128| {
            let ports: Vec<u16> = (0..64).map(|_| port(dst)).collect();
            ports.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect::<Vec<_>>()
        };
        let (a, c) = (steps(2), steps(3));
        // Each by an even number up to 16 that nobody knows, as observed of Linux 6.18; the starts have nothing in
        // common.
        let wrapped = |s: &u16| (2..=16).contains(s) || *s > 40_000;
        assert!(a.iter().chain(&c).all(|s| s % 2 == 0 && wrapped(s)), "{a:?} {c:?}");
        let distinct: HashSet<u16> = a.iter().chain(&c).copied().collect();
        assert!(distinct.len() >= 7 && a != c, "{a:?} {c:?}");
        let starts: HashSet<u16> = (10..110).map(port).collect();
        assert!(starts.len() > 95, "{} distinct of 100", starts.len());
    }

    #[test]
    fn a_route_remembers_the_offset_of_one_port_between_its_own_addresses() {
        let b = Bench::on_ip();
        let (here, host) = ("10.0.0.1".parse().unwrap(), |n| IpAddr::from([10, 0, 0, n]));
        let (keys, dst) = (&b.stack.keys, lookup(&b.stack, host(9), None, 0).unwrap());
        let asked = [(9, 0), (9, 80), (9, 80), (9, 81), (9, 80), (8, 80), (9, 80), (9, 0), (9, 0)];
        for (n, port) in asked {
            for saddr in [here, host(2), here] {
                let whole = keys.port_offset(addr128(saddr), addr128(host(n)), port);
                let got = dst.port_offset(keys, saddr, host(n), port);
                assert_eq!(got, whole & !0xffff_0000, "{saddr} {n} {port}");
            }
        }
    }
}
