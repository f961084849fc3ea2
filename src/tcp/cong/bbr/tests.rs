use super::*;
use crate::tcp::testing::Bench;
use std::sync::atomic::Ordering;

/// The draft's 4.2: 2/ln 2 = 2.885 and its inverse, in 1/256, rounded so that Startup doubles at least.
#[test]
fn gains_are_the_drafts() {
    assert_eq!((HIGH_GAIN, DRAIN_GAIN, CWND_GAIN), (739, 88, 512));
    assert_eq!(CYCLE.iter().sum::<u32>(), 8 * UNIT, "a cycle sends at the bandwidth on average");
}

/// 10 segments a millisecond over 40 ms are 400 segments; 1460 bytes each make 14.6 MB/s, less a percent
/// (and what the unit rounds off).
#[test]
fn the_product_and_the_rate_of_a_bandwidth() {
    let b = Bench::established();
    b.with(|cx| {
        let mut m = Model::new(cx);
        let bw = BW_UNIT / 100;
        m.min_rtt_us = u32::MAX;
        assert_eq!(m.bdp(bw, UNIT), INIT_CWND, "without an RTT");
        m.min_rtt_us = 40_000;
        assert_eq!(m.bdp(bw, UNIT), 400);
        assert_eq!(m.bdp(bw, CWND_GAIN), 800);
    });
    assert_eq!(rate_bytes(BW_UNIT / 100, 1_460, UNIT), 14_453_986);
}

fn sample(delivered: i32, interval_us: i64, prior_delivered: u32) -> RateSample {
    RateSample { delivered, interval_us, prior_delivered, acked_sacked: 1, ..RateSample::default() }
}

/// A round trip ends with the first segment that left after all of its predecessor's were delivered.
#[test]
fn round_trips_are_counted_by_what_was_delivered() {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.delivered = 100;
        let mut m = Model::new(cx);
        for (delivered, prior, starts) in [
            (110, 90, false),
            (120, 100, true),
            (130, 110, false),
            (140, 120, true),
            (150, 139, false),
            (160, 141, true),
        ] {
            cx.tp.delivered = delivered;
            assert_eq!(m.is_round_start(cx, &sample(10, 1_000, prior)), starts, "{delivered}");
        }
        cx.tp.delivered = 200;
        assert!(!m.is_round_start(cx, &sample(-1, -1, 190)), "no sample, no round trip");
    });
}

/// Three round trips in which the bandwidth grows by less than a quarter: the pipe is full. One that the program
/// limited says nothing.
#[test]
fn the_pipe_is_full_when_the_bandwidth_stops_growing() {
    let b = Bench::established();
    b.with(|cx| {
        let mut m = Model::new(cx);
        for (i, (delivered, limited, full)) in [
            (10, false, false),
            (20, false, false),
            (24, false, false),
            (24, true, false),
            (24, false, false),
            (24, false, true),
        ]
        .into_iter()
        .enumerate()
        {
            cx.tp.delivered += 10;
            let rs = RateSample { is_app_limited: limited, ..sample(delivered, 10_000, cx.tp.delivered) };
            assert!(m.is_round_start(cx, &rs));
            m.bw_sample(&rs);
            m.check_full_bw(&rs);
            assert_eq!(m.full_bw_reached, full, "round trip {i}");
        }
    });
}

/// Two intervals of four round trips that lose a quarter and deliver at the same rate show a policer. It is used for 48
/// round trips.
#[test]
fn a_policer_is_found_by_two_intervals_of_the_same_rate_and_forgotten() {
    let b = Bench::established();
    b.with(|cx| {
        let mut p = Policer::default();
        p.reset(cx);
        let lossy = RateSample { losses: 5, ..sample(10, 10_000, 0) };
        let mut round = |p: &mut Policer, in_probe_bw| {
            cx.now += Duration::from_millis(10);
            cx.tp.delivered_mstamp = cx.now;
            cx.tp.delivered += 20;
            cx.tp.cold_mut().lost += 5;
            p.sample(cx, &lossy, true, in_probe_bw)
        };
        let rounds = (1..).find(|_| {
            round(&mut p, false);
            p.rate().is_some()
        });
        assert_eq!(rounds, Some(8), "two intervals of four");
        // 2 segments a millisecond.
        assert!(p.rate().unwrap().abs_diff(BW_UNIT / 500) < BW_UNIT / 50_000, "{:?}", p.rate());
        let used = (1..).find(|_| round(&mut p, true));
        assert_eq!((used, p.rate()), (Some(48), None));
    });
}

#[test]
fn what_a_program_did_not_send_shows_no_policer() {
    let b = Bench::established();
    b.with(|cx| {
        let mut p = Policer::default();
        p.reset(cx);
        for _ in 0..40 {
            cx.now += Duration::from_millis(10);
            cx.tp.delivered_mstamp = cx.now;
            cx.tp.delivered += 20;
            cx.tp.cold_mut().lost += 5;
            let rs = RateSample { losses: 5, is_app_limited: true, ..sample(10, 10_000, 0) };
            p.sample(cx, &rs, true, false);
            assert_eq!(p.rate(), None);
        }
    });
}

/// 2 segments a millisecond on average, acknowledged 20 at a time every 10 ms: 18 more than expected at once. Ten round
/// trips without it forget it.
#[test]
fn aggregation_is_the_excess_over_the_bandwidth() {
    let b = Bench::established();
    b.with(|cx| {
        let bw = BW_UNIT / 500 + 1;
        let mut a = Aggregation::new(cx.now);
        cx.tp.snd_cwnd = 100;
        for _ in 0..5 {
            cx.now += Duration::from_millis(10);
            cx.tp.delivered_mstamp = cx.now;
            a.update(cx, &RateSample { acked_sacked: 20, ..sample(20, 10_000, 0) }, bw, false);
        }
        assert_eq!(a.cwnd(bw), 20);
        assert_eq!(a.cwnd(bw / 20), 9, "at most what the bandwidth gives in 100 ms");
        // A silence ends the epoch.
        cx.now += Duration::from_millis(20);
        for _ in 0..10 {
            cx.now += Duration::from_millis(1);
            cx.tp.delivered_mstamp = cx.now;
            a.update(cx, &RateSample { acked_sacked: 2, ..sample(2, 1_000, 0) }, bw, true);
        }
        assert!(a.cwnd(bw) <= 2, "{}", a.cwnd(bw));
    });
}

#[test]
fn cc_info_is_struct_tcp_bbr_info() {
    let b = Bench::established();
    b.with(|cx| {
        set_congestion_control(cx, "bbr").unwrap();
        assert!(cx.tp.ca_paces);
        let (kind, bytes) = cx.with_ca(|ca, cx| ca.get_info(cx)).flatten().unwrap();
        let words: Vec<u32> = bytes.chunks(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect();
        assert_eq!((kind, words.len()), (INET_DIAG_BBRINFO, 5));
        assert_eq!(words[3..], [HIGH_GAIN, HIGH_GAIN]);
    });
}

/// bbr_sndbuf_expand: three times the window, where others take two.
#[test]
fn the_send_buffer_has_room_for_three_windows() {
    let b = Bench::established();
    let [cubic, bbr] = ["cubic", "bbr"].map(|name| {
        b.with(|cx| {
            crate::tcp::cong::set_congestion_control(cx, name).unwrap();
            cx.tp.snd_cwnd = INIT_CWND;
            cx.sock.sndbuf.store(0, Ordering::Relaxed);
            crate::tcp::rcvbuf::init_buffer_space(cx);
            cx.sock.sndbuf.load(Ordering::Relaxed)
        })
    });
    assert!(cubic > 0 && 2 * bbr == 3 * cubic, "{cubic} {bbr}");
}
