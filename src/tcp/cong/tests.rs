use crate::tcp::testing::Bench;

#[test]
fn slow_start_stops_at_the_threshold_and_hands_back_the_rest() {
    let c = Bench::new();
    c.with(|cx| {
        cx.tp.snd_cwnd = 10;
        cx.tp.snd_ssthresh = 14;
        assert_eq!(super::slow_start(cx, 3), 0);
        assert_eq!(cx.tp.snd_cwnd, 13);
        assert_eq!(super::slow_start(cx, 3), 2);
        assert_eq!(cx.tp.snd_cwnd, 14);
    });
}

#[test]
fn additive_increase_gives_one_segment_for_every_w_acknowledged() {
    let c = Bench::new();
    c.with(|cx| {
        cx.tp.snd_cwnd = 10;
        for _ in 0..9 {
            super::cong_avoid_ai(cx, 10, 1);
        }
        assert_eq!((cx.tp.snd_cwnd, cx.tp.snd_cwnd_cnt), (10, 9));
        super::cong_avoid_ai(cx, 10, 1);
        assert_eq!((cx.tp.snd_cwnd, cx.tp.snd_cwnd_cnt), (11, 0));
        super::cong_avoid_ai(cx, 4, 9);
        assert_eq!((cx.tp.snd_cwnd, cx.tp.snd_cwnd_cnt), (13, 1));
    });
}

#[test]
fn an_unknown_algorithm_is_enoent_and_leaves_the_old_one() {
    let c = Bench::new();
    c.with(|cx| {
        assert_eq!(super::set_congestion_control(cx, "nosuch"), Err(crate::error::Error::NoEnt));
        assert_eq!(cx.tp.ca.ops.name(), "cubic");
        assert_eq!(super::set_congestion_control(cx, "reno"), Ok(()));
        assert_eq!(cx.tp.ca.ops.name(), "reno");
    });
}
