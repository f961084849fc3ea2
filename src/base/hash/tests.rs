use super::*;
use crate::base::env::{Duration, OsEntropy, SeededEntropy};
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
    let mut word = 0u64;
    let words: [u64; 5] = std::array::from_fn(|_| {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word
    });
    let mut hasher = SipHasher13::new_with_key(&key);
    words.iter().for_each(|w| hasher.write(&w.to_le_bytes()));
    assert_eq!(sip13(&key, words), hasher.finish());
    assert_eq!(sip13(&key, []), SipHasher13::new_with_key(&key).finish());
}
