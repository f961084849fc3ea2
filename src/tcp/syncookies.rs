//! SYN cookies (RFC 4987 §3.6): when the SYN queue is full, a SYN-ACK's sequence number says what a request would have
//! remembered, so that a flood of SYNs costs no memory and shuts nobody out. The peer's MSS goes into the cookie as one
//! of four; window scale, SACK and ECN into the low bits of the timestamp, where the peer sends timestamps. Above:
//! `handshake`. Linux: net/ipv4/syncookies.c, net/ipv6/syncookies.c.

use crate::base::env::{Duration, Instant};
use crate::base::hash::{Keys, Tuple};
use crate::wire::seq::{SeqNum, WindowShift};

/// A cookie's clock ticks once in this time (TCP_SYNCOOKIE_PERIOD).
const PERIOD: Duration = Duration::from_secs(60);
/// Ticks for which a cookie is valid (MAX_SYNCOOKIE_AGE).
const MAX_AGE: u32 = 2;
/// Bits of a cookie below its clock (COOKIEBITS).
const BITS: u32 = 24;
const MASK: u32 = (1 << BITS) - 1;
/// MSS that a cookie can say, ascending, bytes: the sizes that are met most often (RFC 4987 §3.6; msstab).
const MSS_V4: [u16; 4] = [536, 1300, 1440, 1460];
const MSS_V6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];

/// Low bits of a timestamp that carry options (TSBITS).
const TS_BITS: u32 = 6;
/// The peer's window scale; all ones: it has none.
const TS_WSCALE: u32 = 0xf;
const TS_SACK: u32 = 1 << 4;
const TS_ECN: u32 = 1 << 5;

/// When a listener last answered with cookies: acknowledgements without a request are looked at as cookies until they
/// have all expired (tcp_synq_overflow, tcp_synq_no_recent_overflow).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Overflow(Option<Instant>);

impl Overflow {
    pub(super) fn note(&mut self, now: Instant) {
        self.0 = Some(now);
    }

    pub(super) fn is_recent(&self, now: Instant) -> bool {
        self.0.is_some_and(|at| now - at <= PERIOD * MAX_AGE)
    }
}

fn count(now: Instant) -> u32 {
    (now.as_secs() / PERIOD.as_secs()) as u32
}

fn table(v6: bool) -> &'static [u16; 4] {
    if v6 { &MSS_V6 } else { &MSS_V4 }
}

/// The cookie for a SYN with sequence number `seq`, and the MSS that it says: the greatest that is no more than `mss`,
/// or the least (__cookie_v4_init_sequence).
pub(super) fn init_sequence(keys: &Keys, now: Instant, t: &Tuple, v6: bool, seq: SeqNum, mss: u16) -> (SeqNum, u16) {
    let table = table(v6);
    let index = table.iter().rposition(|&m| m <= mss).unwrap_or(0);
    let count = count(now);
    let cookie = keys
        .syn_cookie(t, 0, false)
        .wrapping_add(seq.0)
        .wrapping_add(count << BITS)
        .wrapping_add(keys.syn_cookie(t, count, true).wrapping_add(index as u32) & MASK);
    (SeqNum(cookie), table[index])
}

/// The MSS that a cookie says, if it is one of ours for this 4-tuple and the peer's sequence number `seq`, and not too
/// old (__cookie_v4_check).
pub(super) fn check(keys: &Keys, now: Instant, t: &Tuple, v6: bool, seq: SeqNum, cookie: SeqNum) -> Option<u16> {
    let count = count(now);
    let rest = cookie.0.wrapping_sub(keys.syn_cookie(t, 0, false)).wrapping_sub(seq.0);
    // The cookie has the low eight bits of its clock.
    let age = count.wrapping_sub(rest >> BITS) & (u32::MAX >> BITS);
    if age >= MAX_AGE {
        return None;
    }
    let index = rest.wrapping_sub(keys.syn_cookie(t, count.wrapping_sub(age), true)) & MASK;
    table(v6).get(index as usize).copied()
}

/// Options of a SYN that its cookie's timestamp remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub wscale: Option<WindowShift>,
    pub sack_ok: bool,
    pub ecn_ok: bool,
}

impl Remembered {
    /// A SYN without timestamps.
    pub(super) const NOTHING: Remembered = Remembered { wscale: None, sack_ok: false, ecn_ok: false };
}

/// A timestamp at `clock`, ms, that says `options`: no later than `clock`, so that the peer's echo gives no negative
/// RTT (cookie_init_timestamp).
pub(super) fn init_timestamp(clock: u32, options: Remembered) -> u32 {
    let mut bits = options.wscale.map_or(TS_WSCALE, |w| u32::from(w.get()));
    bits |= if options.sack_ok { TS_SACK } else { 0 };
    bits |= if options.ecn_ok { TS_ECN } else { 0 };
    let ts = clock >> TS_BITS << TS_BITS | bits;
    if ts > clock { ts.wrapping_sub(1 << TS_BITS) } else { ts }
}

/// What an echoed timestamp says, our offset taken off (cookie_timestamp_decode).
pub(super) fn decode_timestamp(echo: u32) -> Remembered {
    let wscale = (echo & TS_WSCALE != TS_WSCALE).then(|| WindowShift::clamp((echo & TS_WSCALE) as u8));
    Remembered { wscale, sack_ok: echo & TS_SACK != 0, ecn_ok: echo & TS_ECN != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::env::SeededEntropy;

    fn keys() -> Keys {
        Keys::new(&SeededEntropy::new(7))
    }

    const T: Tuple = Tuple { saddr: 1, sport: 80, daddr: 2, dport: 40_000 };

    #[test]
    fn a_cookie_says_the_greatest_mss_that_is_no_more_than_the_peers() {
        let (k, now, seq) = (keys(), Instant::from_secs(1_000_000), SeqNum(0xffff_fff0));
        for (v6, mss, want) in [
            (false, 0, 536),
            (false, 536, 536),
            (false, 1299, 536),
            (false, 1300, 1300),
            (false, 1459, 1440),
            (false, 65_495, 1460),
            (true, 536, 1220),
            (true, 1439, 1420),
            (true, 9_000, 8_940),
        ] {
            let (cookie, said) = init_sequence(&k, now, &T, v6, seq, mss);
            assert_eq!(said, want, "{v6} {mss}");
            assert_eq!(check(&k, now, &T, v6, seq, cookie), Some(want), "{v6} {mss}");
        }
    }

    #[test]
    fn a_cookie_is_valid_for_its_minute_and_the_next() {
        let k = keys();
        // The clock's low eight bits wrap at minute 256.
        for start in [60u64, 255 * 60, 256 * 60 + 59, 1 << 33] {
            let at = |s| Instant::from_secs(start + s);
            let (cookie, _) = init_sequence(&k, at(0), &T, false, SeqNum(1), 1460);
            let left = 60 - start % 60;
            for (after, valid) in [(0, true), (left + 59, true), (left + 60, false), (60 * 200, false)] {
                let found = check(&k, at(after), &T, false, SeqNum(1), cookie);
                assert_eq!(found.is_some(), valid, "{start} + {after}");
            }
        }
    }

    /// Another 4-tuple, sequence number, stack or number: one in 2^22 of the guesses with a right clock is accepted.
    #[test]
    fn what_is_no_cookie_is_refused() {
        let (k, now) = (keys(), Instant::from_secs(5_000));
        let (cookie, _) = init_sequence(&k, now, &T, false, SeqNum(9), 1460);
        let other = Tuple { dport: 40_001, ..T };
        assert_eq!(check(&k, now, &other, false, SeqNum(9), cookie), None);
        assert_eq!(check(&k, now, &T, false, SeqNum(1_000), cookie), None);
        assert_eq!(check(&Keys::new(&SeededEntropy::new(8)), now, &T, false, SeqNum(9), cookie), None);
        let guesses = (0..200_000u32).map(|i| i.wrapping_mul(0x9e37_79b9));
        let accepted = guesses.filter(|&g| check(&k, now, &T, false, SeqNum(9), SeqNum(g)).is_some()).count();
        assert!(accepted < 3, "{accepted}");
    }

    #[test]
    fn a_timestamp_remembers_options_and_is_not_later_than_now() {
        for clock in [0u32, 1, 63, 64, 1_000_000, 1_000_063, u32::MAX] {
            for wscale in [None, Some(0), Some(7), Some(14)] {
                for flags in 0..4 {
                    let options = Remembered {
                        wscale: wscale.map(WindowShift::clamp),
                        sack_ok: flags & 1 != 0,
                        ecn_ok: flags & 2 != 0,
                    };
                    let ts = init_timestamp(clock, options);
                    assert_eq!(decode_timestamp(ts), options);
                    let behind = clock.wrapping_sub(ts);
                    assert!(behind < 128, "{clock} {ts}");
                }
            }
        }
    }

    #[test]
    fn an_overflow_is_recent_for_two_periods() {
        let mut o = Overflow::default();
        let at = Instant::from_secs;
        assert!(!o.is_recent(at(100)));
        o.note(at(100));
        assert!(o.is_recent(at(220)) && !o.is_recent(at(221)));
    }
}
