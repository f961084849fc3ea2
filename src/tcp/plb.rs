//! Protective load balancing: a connection whose path has been congested for some rounds takes another one, by a new
//! transmit hash (in IPv6 the flow label), at best while nothing is in flight. Off unless `net.ipv4.tcp_plb_enabled`.
//! Above: `cong`'s DCTCP, which knows the share of marked packets; `info`. Linux: net/ipv4/tcp_plb.c.

use super::segment;
use super::tcb::Cx;
use crate::base::env::{Duration, Instant};
use crate::counters::Mib;

/// Unit of a congested share, as a shift (TCP_PLB_SCALE).
pub(super) const SCALE: u32 = 8;

/// One connection's state (tcp_plb_state).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plb {
    /// Congested rounds without an uncongested one between.
    consec_cong_rounds: u8,
    /// After a timeout, until when the path stays; None: it may change.
    pause_until: Option<Instant>,
}

impl Plb {
    /// A round ended of which `marked` of `delivered` packets were marked (tcp_plb_update_state).
    pub(super) fn update(&mut self, cx: &Cx<'_>, delivered: u32, marked: u32) {
        let sysctl = &cx.stack.sysctl;
        if !sysctl.tcp_plb_enabled() {
            return;
        }
        let share = (u64::from(marked) << SCALE) / u64::from(delivered.max(1));
        if share < sysctl.tcp_plb_cong_thresh().max(0) as u64 {
            self.consec_cong_rounds = 0;
        } else if i32::from(self.consec_cong_rounds) < sysctl.tcp_plb_rehash_rounds() {
            self.consec_cong_rounds += 1;
        }
    }

    /// Takes another path where congestion has lasted: less of it is enough while nothing is in flight, which cannot
    /// be reordered (tcp_plb_check_rehash).
    pub(super) fn check_rehash(&mut self, cx: &mut Cx<'_>) {
        let sysctl = &cx.stack.sysctl;
        if !sysctl.tcp_plb_enabled() {
            return;
        }
        let rounds = i32::from(self.consec_cong_rounds);
        let idle_rounds = sysctl.tcp_plb_idle_rehash_rounds();
        let forced = rounds >= sysctl.tcp_plb_rehash_rounds();
        let idle = idle_rounds != 0 && cx.tp.packets_out == 0 && rounds >= idle_rounds;
        if !forced && !idle {
            return;
        }
        self.pause_until = self.pause_until.filter(|until| cx.now < *until);
        if self.pause_until.is_some() {
            return;
        }
        segment::rethink_txhash(cx);
        self.consec_cong_rounds = 0;
        let cold = cx.tp.cold.get_or_insert_default();
        cold.rare.plb_rehash = cold.rare.plb_rehash.wrapping_add(1);
        cx.stack.mib.inc(Mib::TcpExtTCPPLBRehash);
    }

    /// A timeout has taken another path itself, perhaps away from one that is broken: it stays for a while
    /// (tcp_plb_update_state_upon_rto).
    pub(super) fn update_upon_rto(&mut self, cx: &Cx<'_>) {
        let sysctl = &cx.stack.sysctl;
        if !sysctl.tcp_plb_enabled() {
            return;
        }
        let pause = sysctl.tcp_plb_suspend_rto_sec();
        let more = Duration::from_millis(cx.stack.entropy.next_u64() % (pause.as_millis() as u64).max(1));
        self.pause_until = Some(cx.now + pause + more);
        self.consec_cong_rounds = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::testing::Bench;

    fn enabled() -> Bench {
        let b = Bench::established();
        b.stack.sysctl.set("net.ipv4.tcp_plb_enabled", "1").unwrap();
        b.with(|cx| {
            cx.sk.txrehash = true;
            segment::set_txhash(cx);
        });
        b
    }

    /// A round of a hundred packets; whether it changed the path.
    fn round(b: &Bench, plb: &mut Plb, marked: u32, in_flight: u32) -> bool {
        b.with(|cx| {
            let (before, hash) = (b.stack.mib.get(Mib::TcpExtTCPPLBRehash), cx.tp.txhash);
            cx.tp.packets_out = in_flight;
            plb.update(cx, 100, marked);
            plb.check_rehash(cx);
            cx.tp.packets_out = 0;
            let counted = b.stack.mib.get(Mib::TcpExtTCPPLBRehash) > before;
            assert_eq!(cx.tp.txhash != hash, counted);
            counted
        })
    }

    #[test]
    fn twelve_congested_rounds_change_the_path_and_three_that_of_an_idle_connection() {
        for (in_flight, rounds) in [(10, 12), (0, 3)] {
            let b = enabled();
            let mut plb = Plb::default();
            let first = (1..=20).find(|_| round(&b, &mut plb, 50, in_flight));
            assert_eq!(first, Some(rounds), "{in_flight}");
            assert_eq!(b.with(|cx| cx.tp.rare().plb_rehash), 1);
            assert!(!round(&b, &mut plb, 50, in_flight), "counted anew");
        }
    }

    #[test]
    fn a_round_below_the_threshold_starts_the_count_again() {
        let b = enabled();
        let mut plb = Plb::default();
        for _ in 0..11 {
            assert!(!round(&b, &mut plb, 100, 1));
        }
        // 49 of 100 are below 128 of 256.
        assert!(!round(&b, &mut plb, 49, 1));
        assert!(!round(&b, &mut plb, 100, 1));
        assert_eq!(plb.consec_cong_rounds, 1);
    }

    #[test]
    fn after_a_timeout_the_path_stays_for_one_to_two_times_the_sysctl() {
        let b = enabled();
        let mut plb = Plb::default();
        for _ in 0..11 {
            round(&b, &mut plb, 100, 1);
        }
        b.with(|cx| plb.update_upon_rto(cx));
        assert_eq!(plb.consec_cong_rounds, 0);
        let left = plb.pause_until.unwrap() - b.clock_now();
        assert!((Duration::from_secs(60)..Duration::from_secs(120)).contains(&left), "{left:?}");
        assert!((0..20).all(|_| !round(&b, &mut plb, 100, 1)));
        b.clock.advance(left);
        assert!(round(&b, &mut plb, 100, 1), "what was counted meanwhile is enough");
    }

    #[test]
    fn nothing_changes_unless_the_sysctl_is_set() {
        let b = enabled();
        b.stack.sysctl.set("net.ipv4.tcp_plb_enabled", "0").unwrap();
        let mut plb = Plb::default();
        assert!((0..30).all(|_| !round(&b, &mut plb, 100, 0)));
        b.with(|cx| plb.update_upon_rto(cx));
        assert_eq!(plb, Plb::default());
    }
}
