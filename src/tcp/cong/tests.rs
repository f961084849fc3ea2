use crate::error::Error;
use crate::tcp::tcb::Cx;
use crate::tcp::testing::Bench;
use std::sync::Arc;

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
        assert_eq!(super::set_congestion_control(cx, "nosuch"), Err(Error::NoEnt));
        assert_eq!(cx.tp.ca.ops.name(), "cubic");
        assert_eq!(super::set_congestion_control(cx, "reno"), Ok(()));
        assert_eq!(cx.tp.ca.ops.name(), "reno");
    });
}

#[test]
fn an_algorithm_in_use_is_ebusy_and_one_that_is_not_goes() {
    struct Other;
    impl super::CongOps for Other {
        fn name(&self) -> &str {
            "other"
        }
        fn start(&self, cx: &mut Cx<'_>) -> Box<dyn super::CongAlgo> {
            super::reno::RenoOps.start(cx)
        }
    }
    let c = Bench::new();
    let cong = &c.stack.cong;
    assert_eq!(cong.register(Arc::new(Other)), Ok(()));
    assert_eq!(cong.register(Arc::new(Other)), Err(Error::Exist));
    assert_eq!(cong.names(), "other reno cubic");
    c.with(|cx| super::set_congestion_control(cx, "other")).unwrap();
    assert_eq!(cong.unregister("other"), Err(Error::Busy));
    c.with(|cx| super::set_congestion_control(cx, "reno")).unwrap();
    assert_eq!(cong.unregister("other"), Ok(()));
    assert_eq!((cong.unregister("other"), cong.unregister("reno")), (Err(Error::NoEnt), Err(Error::Perm)));
}
