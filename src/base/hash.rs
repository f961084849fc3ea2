//! Keyed hashes: numbers that an attacker must not predict (ISN, timestamp offset, port, IP identification) and hash
//! table buckets that an attacker must not choose. Above: handshake, port choice, socket and fragment tables. Below:
//! SipHash. Linux: net/core/secure_seq.c, inet_ehashfn. RFC 6528 (ISNs), RFC 6056 §3.3.4 (ports), RFC 7323 §5.4
//! (timestamps).
//!
//! Each use has its own key, so that one number reveals nothing about another. Numbers that leave the machine use
//! SipHash-2-4, flow labels SipHash-1-3. Table buckets, which do not, use a universal hash of words (`Words`), or
//! SipHash-1-3 of bytes.

use crate::base::env::{Entropy, Instant};
use core::hash::Hasher;
use core::net::IpAddr;
use siphasher::sip::SipHasher24;

/// An address as 128 bits, most significant first as in the packet; IPv4 as v4-mapped (`::ffff:a.b.c.d`), so that the
/// families do not collide.
pub fn addr128(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The bits of a v4-mapped address above those of IPv4's, in its lower half.
const V4_MAPPED: u64 = 0xffff << 32;

/// The two ends of a connection, ours first. Addresses in the form of [`addr128`], ports in host order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Our address.
    pub saddr: u128,
    /// Our port.
    pub sport: u16,
    /// The peer's address.
    pub daddr: u128,
    /// The peer's port.
    pub dport: u16,
}

type Key = [u8; 16];

/// The hash of a table in which nobody can choose many keys that collide: port numbers, of which there are only 2^16,
/// and what is a keyed hash already.
#[derive(Default)]
pub(crate) struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.write_u32((*b).into()));
    }
    #[inline]
    fn write_u16(&mut self, n: u16) {
        self.write_u32(n.into());
    }
    #[inline]
    fn write_u32(&mut self, n: u32) {
        // Tables take the bucket from the bottom of a hash and control bits from the top.
        self.0 = (self.0.rotate_left(32) ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20);
    }
}

/// A map with that hash.
pub(crate) type PlainMap<K, V> = std::collections::HashMap<K, V, core::hash::BuildHasherDefault<PlainHasher>>;

/// The keys of a stack, drawn once when it is created; a forked child must draw new ones.
#[derive(Clone)]
pub struct Keys {
    isn: Key,
    ts: Key,
    port: Key,
    ident: Key,
    table: Key,
    tuple: Words,
    route: Words,
}

impl Keys {
    /// New keys.
    pub(crate) fn new(entropy: &dyn Entropy) -> Keys {
        let key = || {
            let mut key = [0; 16];
            entropy.fill(&mut key);
            key
        };
        let (isn, ts, port, ident, table) = (key(), key(), key(), key(), key());
        Keys { isn, ts, port, ident, table, tuple: Words::new(entropy), route: Words::new(entropy) }
    }

    /// Initial sequence number of a connection that starts now (RFC 6528 §3): a keyed hash of the 4-tuple plus a clock.
    /// As in Linux the clock ticks every 64 ns (the RFC's: 4 us), so that a connection of up to 125 Mbit/s on average
    /// does not overtake the ISN of its next incarnation; it wraps in 275 s.
    pub fn isn(&self, now: Instant, t: &Tuple) -> u32 {
        let hash = of_pair(&self.isn, t.saddr, t.daddr, ports(t), 4);
        (hash as u32).wrapping_add((now.as_nanos() >> 6) as u32)
    }

    /// One of the two hashes of a SYN cookie (cookie_hash); `count`: minutes, 0 in the first. The key of the ISN's
    /// serves: what is hashed differs in length.
    pub(crate) fn syn_cookie(&self, t: &Tuple, count: u32, second: bool) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.isn);
        tuple(&mut hasher, t);
        hasher.write_u32(count);
        hasher.write_u8(second.into());
        hasher.finish() as u32
    }

    /// Offset of the timestamp clock towards this peer (RFC 7323 §5.4), added modulo 2^32. The same for all connections
    /// of a pair of addresses, because a peer in TIME-WAIT compares the timestamps of successive connections.
    pub fn ts_offset(&self, saddr: u128, daddr: u128) -> u32 {
        of_pair(&self.ts, saddr, daddr, 0, 0) as u32
    }

    /// Where the search for a port towards this destination starts, and which entry of the perturbation table is used
    /// (RFC 6056 §3.3.4, double-hash port selection).
    pub fn port_offset(&self, saddr: u128, daddr: u128, dport: u16) -> u64 {
        of_pair(&self.port, saddr, daddr, dport.into(), 2)
    }

    /// First IP identification towards this destination and protocol, and the index of its counter in a table: the
    /// identifications of one flow reveal nothing about another (RFC 7739 §5.3).
    pub fn ip_ident(&self, saddr: u128, daddr: u128, protocol: u8) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.ident);
        hasher.write_u128(saddr);
        hasher.write_u128(daddr);
        hasher.write_u8(protocol);
        hasher.finish()
    }

    /// Hash of a flow, for what spreads flows. It may be seen, in flow labels.
    pub fn ehash(&self, t: &Tuple) -> u32 {
        fold(match v4_pair(t.saddr, t.daddr) {
            Some(pair) => sip::<1, 3>(&self.table, [pair], ports(t), 12),
            None => sip::<1, 3>(&self.table, halves(t.saddr, t.daddr), ports(t), 36),
        })
    }

    /// Hash of a connection in 64 bits, which stand for the 4-tuple in tables of connections. It must not leave the
    /// stack: see `Words`.
    #[inline]
    pub fn ehash64(&self, t: &Tuple) -> u64 {
        match v4_pair(t.saddr, t.daddr) {
            Some(pair) => self.tuple.hash_short(pair, ports(t)),
            None => {
                let [a, b, c, d] = halves(t.saddr, t.daddr);
                self.tuple.hash([a, b, c, d, ports(t)])
            }
        }
    }

    /// The same of two ends, ours first.
    #[inline(always)]
    pub(crate) fn ehash64_of(&self, (saddr, sport): (IpAddr, u16), (daddr, dport): (IpAddr, u16)) -> u64 {
        match (saddr, daddr) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                let pair = u64::from(u32::from(s)) << 32 | u64::from(u32::from(d));
                self.tuple.hash_short(pair, u64::from(sport) << 16 | u64::from(dport))
            }
            _ => self.ehash64(&Tuple { saddr: addr128(saddr), sport, daddr: addr128(daddr), dport }),
        }
    }

    /// Hash of a pair of addresses, ours and the peer's; as [`Keys::ehash64`].
    pub(crate) fn pair_hash(&self, saddr: u128, daddr: u128) -> u64 {
        self.ehash64(&Tuple { saddr, sport: 0, daddr, dport: 0 })
    }

    /// Hash of a destination for the cache of routes: the address, ours if it is given, and the interface.
    pub(crate) fn route_hash(&self, daddr: IpAddr, saddr: Option<IpAddr>, oif: u32) -> u32 {
        let (saddr, daddr) = (saddr.map_or(0, addr128), addr128(daddr));
        fold(match v4_pair(saddr, daddr) {
            Some(pair) => self.route.hash_short(pair, oif.into()),
            None => {
                let [a, b, c, d] = halves(saddr, daddr);
                self.route.hash([a, b, c, d, oif.into()])
            }
        })
    }

    /// Hash of any other table's key, given as bytes. `table` selects the table, so that keys which collide in one
    /// table do not collide in another.
    pub fn table_hash(&self, table: u8, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let words = std::iter::once(table.into()).chain(words.iter().map(|w| u64::from_le_bytes(*w)));
        let tail = rest.iter().rev().fold(0, |tail, b| tail << 8 | u64::from(*b));
        fold(sip::<1, 3>(&self.table, words, tail, bytes.len() as u64 + 8))
    }
}

impl core::fmt::Debug for Keys {
    /// Prints no keys, to keep them out of logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys")
    }
}

fn tuple(hasher: &mut impl Hasher, t: &Tuple) {
    hasher.write_u128(t.saddr);
    hasher.write_u128(t.daddr);
    hasher.write_u32(u32::from(t.sport) << 16 | u32::from(t.dport));
}

/// Both halves of two addresses, the lower ones first, as their bytes in little-endian order are words.
fn halves(saddr: u128, daddr: u128) -> [u64; 4] {
    [saddr as u64, (saddr >> 64) as u64, daddr as u64, (daddr >> 64) as u64]
}

fn ports(t: &Tuple) -> u64 {
    u64::from(t.sport) << 16 | u64::from(t.dport)
}

/// Of two v4-mapped addresses only 32 bits each differ.
#[inline]
fn v4_pair(saddr: u128, daddr: u128) -> Option<u64> {
    let (upper, [s, d]) = ((saddr | daddr) >> 64, [saddr, daddr].map(|addr| addr as u64 ^ V4_MAPPED));
    let both = upper as u64 | (s | d) >> 32 == 0;
    both.then_some(s << 32 | d)
}

/// SipHash-2-4 of two addresses and the `len` bytes of `tail`, at most 7. The length tells the families apart.
#[inline]
fn of_pair(key: &Key, saddr: u128, daddr: u128, tail: u64, len: u64) -> u64 {
    match v4_pair(saddr, daddr) {
        Some(pair) => sip::<2, 4>(key, [pair], tail, 8 + len),
        None => sip::<2, 4>(key, halves(saddr, daddr), tail, 32 + len),
    }
}

/// The function of a table whose keys are a few words: the upper half of a secret linear combination of the words,
/// modulo 2^128. Of any two keys, whoever chose them without having seen a hash, the probability of having the same
/// one is 2^-64 (Dietzfelbinger, "Universal hashing and k-wise independence via integer arithmetic without primes"). A
/// look-up of each packet computes one, for less than half of what SipHash costs. Who saw some hashes could find the
/// factors.
#[derive(Clone)]
struct Words {
    factors: [u128; 5],
    /// Of keys of two words, and of five: the families have nothing in common.
    short: u128,
    long: u128,
}

impl Words {
    fn new(entropy: &dyn Entropy) -> Words {
        let draw = || {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            u128::from_le_bytes(bytes)
        };
        Words { factors: std::array::from_fn(|_| draw()), short: draw(), long: draw() }
    }

    #[inline]
    fn hash_short(&self, a: u64, b: u64) -> u64 {
        let [fa, fb, ..] = self.factors;
        let sum = fa.wrapping_mul(a.into()).wrapping_add(fb.wrapping_mul(b.into()));
        mix((sum.wrapping_add(self.short) >> 64) as u64)
    }

    #[inline]
    fn hash(&self, words: [u64; 5]) -> u64 {
        let terms = self.factors.iter().zip(words).map(|(f, w)| f.wrapping_mul(w.into()));
        mix((terms.fold(self.long, u128::wrapping_add) >> 64) as u64)
    }
}

/// A permutation of 64 bits, SplitMix64's: keys in an arithmetic progression, such as consecutive ports, have linear
/// combinations in one, which for some factors would fill few buckets.
#[inline]
fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// SipHash with C and D rounds of a few words and at most 7 bytes in `tail`, in little-endian byte order; `len`: bytes
/// of both. The result of [`siphasher`] for the same bytes, without its buffering of single bytes: each packet computes
/// one, and each connection several.
#[inline]
fn sip<const C: usize, const D: usize>(key: &Key, words: impl IntoIterator<Item = u64>, tail: u64, len: u64) -> u64 {
    let [k0, k1] = [0, 8].map(|i| u64::from_le_bytes(std::array::from_fn(|j| key[i + j])));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let compress = |v: &mut [u64; 4], word| {
        v[3] ^= word;
        (0..C).for_each(|_| sip_round(v));
        v[0] ^= word;
    };
    words.into_iter().for_each(|word| compress(&mut v, word));
    // The last word has the number of bytes, modulo 256, in its top byte.
    compress(&mut v, tail | len << 56);
    v[2] ^= 0xff;
    (0..D).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn sip_round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

/// Uses both halves, since tables use the low bits.
fn fold(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

#[cfg(test)]
mod tests;
