use super::*;
use crate::base::env::{Duration, OsEntropy, SeededEntropy};
use siphasher::sip::SipHasher13;
use std::collections::HashSet;

const SAMPLES: u32 = 100_000;

fn keys(seed: u64) -> Keys {
    Keys::new(&SeededEntropy::new(seed))
}

fn tuple_of(sport: u16, dport: u16) -> Tuple {
    let v4 = |last| addr128(IpAddr::from([192, 0, 2, last]));
    Tuple { saddr: v4(1), sport, daddr: v4(2), dport }
}

/// Tuples in the order an attacker would try them: consecutive ports.
fn neighbours() -> impl Iterator<Item = Tuple> {
    (0..SAMPLES).map(|i| tuple_of(32_768 + (i % 28_232) as u16, 80 + (i / 28_232) as u16))
}

/// Fails unless each bit is set in about half of the numbers, and few repeat: 3 in 10^5 draws of 32 bits are many.
fn assert_looks_random(what: &str, numbers: impl Iterator<Item = u32>) {
    let numbers: Vec<u32> = numbers.collect();
    let n = numbers.len() as f64;
    for bit in 0..32 {
        let ones = numbers.iter().filter(|&&x| x >> bit & 1 == 1).count() as f64;
        // Six standard deviations.
        assert!((ones - n / 2.0).abs() < 3.0 * n.sqrt(), "{what}: bit {bit} is set in {ones} of {n}");
    }
    let distinct = numbers.iter().collect::<HashSet<_>>().len();
    assert!(numbers.len() - distinct < 12, "{what}: {} repeat", numbers.len() - distinct);
}

#[test]
fn isns_of_one_tuple_advance_with_the_64_ns_clock_and_with_nothing_else() {
    let keys = keys(1);
    let t = tuple_of(40_000, 80);
    let start = Instant::from_secs(3);
    let first = keys.isn(start, &t);
    for i in 0..SAMPLES {
        let later = start + Duration::from_nanos(64 * 997 * u64::from(i));
        assert_eq!(keys.isn(later, &t).wrapping_sub(first), 997u32.wrapping_mul(i));
    }
    let round = start + Duration::from_nanos(64 << 32);
    assert_eq!(keys.isn(round, &t), first, "goes round after 2^32 ticks");
}

/// NUMBER:JACK: neither the ISNs of neighbouring tuples nor the steps between them follow a pattern.
#[test]
fn isns_of_different_tuples_are_unrelated() {
    let keys = keys(2);
    let now = Instant::from_secs(100);
    assert_looks_random("ISN", neighbours().map(|t| keys.isn(now, &t)));
    let isns: Vec<u32> = neighbours().map(|t| keys.isn(now, &t)).collect();
    assert_looks_random("step between ISNs", isns.windows(2).map(|w| w[1].wrapping_sub(w[0])));
    // The same ends swapped are another connection.
    let t = tuple_of(40_000, 80);
    let back = Tuple { saddr: t.daddr, sport: t.dport, daddr: t.saddr, dport: t.sport };
    assert_ne!(keys.isn(now, &t), keys.isn(now, &back));
}

/// NUMBER:JACK: the numbers of one run reveal nothing about the next.
#[test]
fn secrets_differ_from_run_to_run() {
    let now = Instant::from_secs(100);
    let (a, b) = (keys(3), keys(4));
    assert_looks_random("difference between runs", neighbours().map(|t| a.isn(now, &t).wrapping_sub(b.isn(now, &t))));
    let os = OsEntropy::new().unwrap();
    let (a, b) = (Keys::new(&os), Keys::new(&os));
    let differ = neighbours().take(100).filter(|t| a.isn(now, t) != b.isn(now, t)).count();
    assert!(differ >= 99);
}

#[test]
fn the_same_seed_gives_the_same_numbers() {
    let t = tuple_of(1, 2);
    assert_eq!(keys(5).isn(Instant::ZERO, &t), keys(5).isn(Instant::ZERO, &t));
    assert_eq!(keys(5).ehash(&t), keys(5).ehash(&t));
}

#[test]
fn each_use_has_its_own_key() {
    let keys = keys(6);
    let all = [keys.isn, keys.ts, keys.port, keys.ident, keys.table];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(format!("{keys:?}"), "Keys");
}

#[test]
fn offsets_depend_on_every_input_and_look_random() {
    let keys = keys(7);
    let addr = |i: u32| addr128(IpAddr::from([10, (i >> 16) as u8, (i >> 8) as u8, i as u8]));
    let us = addr128(IpAddr::from([192, 0, 2, 1]));
    assert_looks_random("ts_offset", (0..SAMPLES).map(|i| keys.ts_offset(us, addr(i))));
    assert_looks_random("port_offset, low half", (0..SAMPLES).map(|i| keys.port_offset(us, addr(i), 443) as u32));
    assert_looks_random(
        "port_offset, high half",
        (0..SAMPLES).map(|i| (keys.port_offset(us, addr(i), 443) >> 32) as u32),
    );
    assert_looks_random("ip_ident", (0..SAMPLES).map(|i| keys.ip_ident(us, addr(i), 6) as u32));
    assert_ne!(keys.port_offset(us, addr(1), 80), keys.port_offset(us, addr(1), 81));
    assert_ne!(keys.port_offset(us, addr(1), 80), keys.port_offset(addr(1), us, 80));
    assert_ne!(keys.ts_offset(us, addr(1)), keys.ts_offset(addr(1), us));
    assert_ne!(keys.ip_ident(us, addr(1), 6), keys.ip_ident(us, addr(1), 17));
}

/// Hash flooding: tuples that collide under one key are spread under another, and consecutive ones fill buckets evenly.
#[test]
fn table_hashes_spread_and_change_with_the_key() {
    let keys = keys(8);
    let mut fill = vec![0u32; 4096];
    for t in neighbours() {
        fill[keys.ehash(&t) as usize % 4096] += 1;
    }
    let mean = SAMPLES / 4096;
    assert!(fill.iter().all(|&n| n < 3 * mean), "worst bucket {:?}, mean {mean}", fill.iter().max());
    let collide: Vec<Tuple> = neighbours().filter(|t| keys.ehash(t).is_multiple_of(4096)).collect();
    let other = super::Keys::new(&SeededEntropy::new(9));
    let places: HashSet<u32> = collide.iter().map(|t| other.ehash(t) % 4096).collect();
    assert!(collide.len() > 10 && places.len() > collide.len() / 2);
    // Each half of each address counts, in either family and where they are mixed.
    let v6 = u128::from_be_bytes(*b"0123456789abcdef");
    let [a, b] = [1, 2].map(|n| addr128(IpAddr::from([10, 0, 0, n])));
    let hash = |saddr, daddr, dport| keys.ehash(&Tuple { saddr, sport: 1, daddr, dport });
    let pairs =
        [(a, b), (b, a), (a, a), (a, v6), (v6, a), (v6, v6), (v6 ^ 1 << 127, v6), (v6, v6 ^ 1 << 31), (a, b ^ 1 << 32)];
    let all: HashSet<u32> = pairs.iter().flat_map(|&(s, d)| [80, 81].map(|port| hash(s, d, port))).collect();
    assert_eq!(all.len(), 2 * pairs.len());
    assert_ne!(keys.table_hash(0, b"abc"), keys.table_hash(1, b"abc"));
    assert_ne!(keys.table_hash(0, b"abc"), keys.table_hash(0, b"abd"));
}

#[test]
fn an_ipv4_address_hashes_as_its_mapped_form() {
    let v4: IpAddr = "192.0.2.7".parse().unwrap();
    let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    assert_eq!(addr128(v4), addr128(mapped));
    assert_ne!(addr128(v4), addr128("::192.0.2.7".parse().unwrap()));
}

#[test]
fn words_hash_as_their_bytes_do() {
    let key: Key = std::array::from_fn(|i| i as u8);
    let bytes: [u8; 40] = std::array::from_fn(|i| (i as u8).wrapping_mul(151));
    for len in 0..bytes.len() {
        let (words, rest) = bytes[..len].as_chunks::<8>();
        let words = words.iter().map(|w| u64::from_le_bytes(*w));
        let tail = rest.iter().rev().fold(0, |tail, b| tail << 8 | u64::from(*b));
        let (mut quick, mut slow) = (SipHasher13::new_with_key(&key), SipHasher24::new_with_key(&key));
        quick.write(&bytes[..len]);
        slow.write(&bytes[..len]);
        assert_eq!(sip::<1, 3>(&key, words.clone(), tail, len as u64), quick.finish(), "{len}");
        assert_eq!(sip::<2, 4>(&key, words, tail, len as u64), slow.finish(), "{len}");
    }
}

/// As RFC 6528 §3 and RFC 6056 §3.3.4 have it: a hash of both ends in the order of the 4-tuple.
#[test]
fn numbers_of_a_connection_hash_its_addresses_and_ports() {
    let keys = keys(10);
    let t = tuple_of(40_000, 80);
    // Addresses of IPv4 as four bytes each (siphash_3u32 in secure_tcp_seq).
    let v6 = Tuple { saddr: t.saddr ^ 1 << 127, ..t };
    for (t, short) in [(t, true), (v6, false)] {
        let hash = |key: &Key, with: &dyn Fn(&mut SipHasher24)| {
            let mut hasher = SipHasher24::new_with_key(key);
            if short {
                hasher.write_u64((t.saddr as u64) << 32 | u64::from(t.daddr as u32));
            } else {
                hasher.write_u128(t.saddr);
                hasher.write_u128(t.daddr);
            }
            with(&mut hasher);
            hasher.finish()
        };
        assert_eq!(keys.isn(Instant::ZERO, &t), hash(&keys.isn, &|h| h.write_u32(40_000 << 16 | 80)) as u32);
        assert_eq!(keys.ts_offset(t.saddr, t.daddr), hash(&keys.ts, &|_| {}) as u32);
        assert_eq!(keys.port_offset(t.saddr, t.daddr, 80), hash(&keys.port, &|h| h.write_u16(80)));
    }
}

/// Whatever the keys of a stack are, no shard of the table gets much more than its part of consecutive ports, nor of
/// every 256th one.
#[test]
fn connections_of_consecutive_ports_spread_over_the_shards_with_every_key() {
    for seed in 0..512 {
        let keys = keys(seed);
        for (stride, what) in [(1, "consecutive"), (256, "every 256th")] {
            let mut fill = [0u32; 256];
            for i in 0..4096u32 {
                let n = i * stride;
                fill[keys.ehash64(&tuple_of(n as u16, 80 + (n >> 16) as u16)) as usize % 256] += 1;
            }
            // 16 each on average, with a standard deviation of 4.
            assert!(fill.iter().all(|&n| n < 48), "{what}, seed {seed}: {:?}", fill.iter().max());
        }
    }
}

/// Who sees flow labels learns nothing about the tables: they are SipHash's.
#[test]
fn the_hash_of_a_flow_is_siphash_and_not_the_tables_one() {
    let keys = keys(11);
    let v4 = tuple_of(40_000, 80);
    let v6 = Tuple { saddr: v4.saddr ^ 1 << 127, ..v4 };
    for t in [v4, v6] {
        let mut hasher = SipHasher13::new_with_key(&keys.table);
        if t == v4 {
            hasher.write_u64((t.saddr as u64) << 32 | u64::from(t.daddr as u32));
        } else {
            hasher.write_u128(t.saddr);
            hasher.write_u128(t.daddr);
        }
        hasher.write_u32(40_000 << 16 | 80);
        assert_eq!(keys.ehash(&t), fold(hasher.finish()));
        assert_ne!(keys.ehash(&t), fold(keys.ehash64(&t)));
    }
}

/// Each bit of a key changes about half of the hash's bits.
#[test]
fn every_bit_of_a_tuple_counts_in_the_hash() {
    let v4 = tuple_of(40_000, 80);
    let v6 = Tuple { saddr: u128::MAX / 3, daddr: u128::MAX / 5, ..v4 };
    let flip = |t: Tuple, bit: u32| match bit {
        0..16 => Tuple { sport: t.sport ^ 1 << bit, ..t },
        16..32 => Tuple { dport: t.dport ^ 1 << (bit - 16), ..t },
        32..160 => Tuple { saddr: t.saddr ^ 1 << (bit - 32), ..t },
        _ => Tuple { daddr: t.daddr ^ 1 << (bit - 160), ..t },
    };
    for t in [v4, v6] {
        for bit in 0..288 {
            let changed = |seed| (keys(seed).ehash64(&t) ^ keys(seed).ehash64(&flip(t, bit))).count_ones();
            let mean = f64::from((0..64).map(changed).sum::<u32>()) / 64.0;
            // 32, with a standard deviation of 0.5.
            assert!((29.0..35.0).contains(&mean), "{t:?}, bit {bit}: {mean}");
        }
    }
}

#[test]
fn the_ends_of_a_segment_have_the_hash_of_their_tuple() {
    let (keys, v6) = (keys(1), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
    let ends = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 9]), v6, IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    for (s, d) in ends.into_iter().flat_map(|s| ends.map(|d| (s, d))) {
        let tuple = Tuple { saddr: addr128(s), sport: 40_000, daddr: addr128(d), dport: 80 };
        assert_eq!(keys.ehash64_of((s, 40_000), (d, 80)), keys.ehash64(&tuple), "{s} {d}");
    }
}

/// All ports in one table, and those that an attacker would choose: multiples of a power of two.
#[test]
fn ports_spread_over_a_table() {
    let of = |port: u16| {
        let mut hasher = PlainHasher::default();
        hasher.write_u16(port);
        hasher.finish()
    };
    let mut fill = [0u32; 1024];
    (0..=u16::MAX).for_each(|port| fill[of(port) as usize % 1024] += 1);
    assert!(fill.iter().all(|n| (32..=128).contains(n)), "{:?}", fill.iter().max());
    let aligned: HashSet<u64> = (0..64).map(|i| of(i << 10) % 1024).collect();
    assert!(aligned.len() > 48, "{}", aligned.len());
}
