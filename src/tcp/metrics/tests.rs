use super::*;
use crate::tcp::testing::{Bench, HERE, THERE};
use std::net::Ipv4Addr;

/// The metrics of a route that has none.
fn plain() -> RouteMetrics {
    RouteMetrics::default()
}

fn known(cx: &Cx<'_>) -> Option<PathMetrics> {
    cx.tp.net.metrics.with(&PairHashes::new(&cx.stack.keys, HERE, THERE), route_of(cx), cx.now, |b| b.path)
}

fn set_known(cx: &Cx<'_>, path: PathMetrics) {
    cx.tp.net.metrics.with_new(&pair_of(cx), route_of(cx), cx.now, |b| b.path = path);
}

fn set_route(cx: &mut Cx<'_>, metrics: RouteMetrics) {
    let dst = cx.sk.dst.as_ref().unwrap();
    cx.sk.dst = Some(std::sync::Arc::new(Dst { metrics, ..(**dst).clone() }));
}

#[test]
fn a_bucket_forgets_the_oldest_and_the_table_does_not_grow_beyond_its_bound() {
    let bench = Bench::new();
    let metrics = TcpMetrics::default();
    let pair = |n: u32| PairHashes::new(&bench.stack.keys, Ipv4Addr::LOCALHOST.into(), Ipv4Addr::from(n).into());
    const MANY: u32 = 20_000;
    for n in 0..MANY {
        let now = Instant::from_nanos(u64::from(n));
        metrics.with_new(&pair(n), &plain(), now, |b| b.fastopen.mss = n as u16);
    }
    let all = || metrics.0.get().unwrap().iter().map(|b| b.lock().len());
    assert!(all().all(|len| len <= DEPTH + 1), "{:?}", all().max());
    assert!(all().sum::<usize>() > BUCKETS * DEPTH, "buckets are filled evenly");
    let end = Instant::from_nanos(u64::from(MANY));
    let known = |n| metrics.with(&pair(n), &plain(), end, |b| b.fastopen.mss);
    assert_eq!(known(MANY - 1), Some((MANY - 1) as u16), "the last is remembered");
    assert_eq!((0..100).filter(|n| known(*n).is_some()).count(), 0, "the first are forgotten");
    metrics.clear();
    assert_eq!(known(MANY - 1), None);
}

/// Rows in µs, by hand: what was known, what a connection measured, what is known then.
#[test]
fn a_longer_rtt_counts_at_once_and_a_shorter_one_with_an_eighth() {
    for (was, measured, now) in [
        ((0, 0), (100_000, 50_000), (100_000, 100_000)),
        ((100_000, 100_000), (100_000, 20_000), (100_000, 80_000)),
        ((100_000, 100_000), (140_000, 20_000), (140_000, 85_000)),
        ((140_000, 20_000), (60_000, 10_000), (130_000, 80_000)),
    ] {
        let mut m = PathMetrics { rtt: was.0 * 8, rttvar: was.1 * 4, ..PathMetrics::default() };
        m.learn_rtt(measured.0 * 8, measured.1 * 4);
        assert_eq!((m.rtt / 8, m.rttvar / 4), now, "{was:?} and {measured:?}");
    }
    let lock = 1 << rtax::RTT | 1 << rtax::RTTVAR;
    let locked = PathMetrics { rtt: 800, rttvar: 400, lock, ..PathMetrics::default() };
    let mut m = locked;
    m.learn_rtt(8_000_000, 4_000_000);
    assert_eq!(m, locked, "a route's locks hold");
}

/// Rows: the connection's cwnd, ssthresh, state of recovery and reordering; the cwnd, ssthresh and reordering that were
/// known, and that are then.
#[test]
fn window_and_threshold_are_learned_by_how_far_the_connection_came() {
    const NEVER: u32 = INFINITE_SSTHRESH;
    let bench = Bench::established();
    for (case, (cwnd, ssthresh, ca_state, reordering), was, then) in [
        ("first slow start", (40, NEVER, CaState::Open, 9), (0, 0, 0), (40, 0, 0)),
        ("first slow start, a larger window is known", (40, NEVER, CaState::Open, 3), (50, 30, 0), (50, 30, 0)),
        ("first slow start, a threshold is known", (40, NEVER, CaState::Open, 3), (50, 15, 0), (50, 20, 0)),
        ("congestion avoidance", (40, 18, CaState::Open, 9), (60, 7, 5), (50, 20, 5)),
        ("congestion avoidance, higher threshold", (40, 30, CaState::Open, 9), (0, 0, 0), (20, 30, 0)),
        ("slow start again", (10, 30, CaState::Open, 9), (10, 0, 0), (20, 0, 9)),
        ("slow start again, a threshold is known", (10, 30, CaState::Open, 3), (10, 20, 5), (20, 30, 5)),
        ("recovery", (40, 30, CaState::Recovery, 9), (10, 40, 5), (20, 40, 9)),
    ] {
        bench.with(|cx| {
            cx.stack.sysctl.set("net.ipv4.tcp_no_ssthresh_metrics_save", "0").unwrap();
            (cx.tp.snd_cwnd, cx.tp.snd_ssthresh, cx.tp.ca_state, cx.tp.reordering) =
                (cwnd, ssthresh, ca_state, reordering);
            let (cwnd, ssthresh, reordering) = was;
            let was = PathMetrics { cwnd, ssthresh, reordering, ..PathMetrics::default() };
            let mut m = was;
            m.learn_window(cx);
            assert_eq!((m.cwnd, m.ssthresh, m.reordering), then, "{case}");
            let mut m = PathMetrics { lock: u32::MAX, ..was };
            m.learn_window(cx);
            assert_eq!(m, PathMetrics { lock: u32::MAX, ..was }, "{case}: a route's locks hold");
            cx.stack.sysctl.set("net.ipv4.tcp_no_ssthresh_metrics_save", "1").unwrap();
            let mut m = was;
            m.learn_window(cx);
            assert_eq!(m.ssthresh, was.ssthresh, "{case}: the sysctl says no threshold");
        });
    }
}

#[test]
fn a_connection_begins_with_what_is_known_of_its_path() {
    let bench = Bench::new();
    bench.with(|cx| {
        cx.tp.srtt_us = 10_000 * 8;
        cx.tp.rto_us = 210_000;
        let lock = 1 << rtax::CWND;
        set_known(cx, PathMetrics { rtt: 121_898 * 8, cwnd: 6, ssthresh: 20, reordering: 7, lock, rttvar: 1 });
        cx.tp.snd_ssthresh = 5;
        init(cx);
        let learned = |cx: &Cx<'_>| (cx.tp.snd_ssthresh, cx.tp.snd_cwnd_clamp, cx.tp.reordering, cx.tp.rto_us);
        assert_eq!(learned(cx), (INFINITE_SSTHRESH, 6, 7, 363_000), "thresholds are not taken by default");
        assert_eq!(cx.tp.srtt_us, 80_000, "the RTT itself is the handshake's");
        cx.stack.sysctl.set("net.ipv4.tcp_no_ssthresh_metrics_save", "0").unwrap();
        init(cx);
        assert_eq!(learned(cx).0, 6, "a threshold is held to the clamp");
        // An RTT of the handshake that is longer stands.
        (cx.tp.srtt_us, cx.tp.rto_us) = (130_000 * 8, 330_000);
        init(cx);
        assert_eq!(learned(cx).3, 330_000);
    });
}

#[test]
fn a_connection_that_ends_is_remembered_unless_the_sysctl_or_a_reset_says_otherwise() {
    let bench = Bench::established();
    bench.with(|cx| {
        (cx.tp.srtt_us, cx.tp.mdev_us) = (100_000 * 8, 50_000 * 4);
        cx.stack.sysctl.set("net.ipv4.tcp_no_metrics_save", "1").unwrap();
        update(cx);
        assert_eq!(known(cx), None);
        cx.stack.sysctl.set("net.ipv4.tcp_no_metrics_save", "0").unwrap();
        update(cx);
        assert_eq!(known(cx).map(|m| (m.rtt, m.cwnd)), Some((800_000, 10)));
        let dst = cx.sk.dst.clone().unwrap();
        let proven = |cx: &Cx<'_>| peer_is_proven(&cx.tp.net, pair_of(cx), &dst, cx.now);
        assert!(proven(cx));
        // It ends while its last data is sent again and again: the RTT is not to be relied on.
        cx.tp.backoff = 1;
        update(cx);
        assert_eq!(known(cx).map(|m| (m.rtt, m.cwnd)), Some((0, 10)));
        assert!(!proven(cx));
    });
}

#[test]
fn a_block_takes_the_metrics_of_its_route_when_it_is_new_and_when_it_is_an_hour_old() {
    let bench = Bench::established();
    bench.with(|cx| {
        let lock = 1 << rtax::SSTHRESH;
        set_route(cx, RouteMetrics { rtt_us: 125_000, ssthresh: 20, reordering: 7, lock, ..plain() });
        init(cx);
        assert_eq!((cx.tp.reordering, known(cx)), (3, None), "a first connection knows nothing, as in Linux");
        (cx.tp.srtt_us, cx.tp.mdev_us) = (100_000 * 8, 50_000 * 4);
        update(cx);
        let m = known(cx).unwrap();
        assert_eq!((m.rtt / 8, m.ssthresh, m.reordering, m.lock), (121_875, 20, 7, lock));
        set_route(cx, RouteMetrics { reordering: 9, ..plain() });
        cx.now += TIMEOUT;
        assert_eq!(known(cx).unwrap().reordering, 7);
        cx.now += Duration::from_millis(1);
        assert_eq!(known(cx).unwrap(), PathMetrics { reordering: 9, ..PathMetrics::default() });
    });
}
