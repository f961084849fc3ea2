use super::super::testing::{Bench, ISS, be_in};
use super::*;
use crate::wire::seq::SeqNum;

/// Milliseconds from one packet that leaves to the next, until nothing is due.
fn intervals(b: &Bench, most: usize) -> Vec<u64> {
    let mut out = Vec::new();
    let mut waited = 0;
    b.sent();
    while out.len() < most {
        let Some(ms) = b.step() else { break };
        waited += ms;
        if !b.sent().is_empty() {
            out.push(waited);
            waited = 0;
        }
    }
    out
}

#[test]
fn the_rto_doubles_to_its_maximum_and_the_connection_ends_after_r2() {
    let b = Bench::established();
    // Without SACK there is no loss probe in the way.
    b.with(|cx| cx.tp.rx_opt.sack_ok = 0);
    b.send(&[1; 100], 0).unwrap();
    let got = intervals(&b, 100);
    // R2 is a time: that of 15 retries, counted from the first. The timeout that exceeds it ends the connection.
    let want: Vec<u64> = (0..16).map(|n| (200u64 << n).min(120_000)).collect();
    assert_eq!(got, want);
    assert_eq!(b.sock.err.load(Ordering::Relaxed), libc::ETIMEDOUT);
    assert_eq!(b.sock.state(), State::Close);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAbortOnTimeout), 1);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPTimeouts), 17);
    // 924.6 s is the figure of Linux's ip-sysctl.rst for tcp_retries2 = 15, "a lower bound for the effective timeout".
    assert_eq!(b.clock_now().as_millis() - 100_000, 924_600 + 120_000);
}

#[test]
fn a_syn_is_sent_at_one_second_four_times_and_then_backs_off() {
    let b = Bench::new();
    b.with(|cx| {
        be_in(cx, State::SynSent);
        control::connect(cx, None).unwrap();
    });
    let got = intervals(&b, 100);
    assert_eq!(got, [1_000, 1_000, 1_000, 1_000, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000]);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPSynRetrans), 10);
    assert_eq!(b.sock.err.load(Ordering::Relaxed), libc::ETIMEDOUT);
}

/// SO_TXREHASH.
#[test]
fn each_timeout_takes_another_way_unless_so_txrehash_forbids() {
    for (on, want) in [(true, 3), (false, 0)] {
        let b = Bench::established();
        b.with(|cx| {
            cx.tp.rx_opt.sack_ok = 0;
            cx.sk.txrehash = on;
            segment::set_txhash(cx);
        });
        let before = b.with(|cx| cx.tp.txhash);
        b.send(&[1; 100], 0).unwrap();
        assert_eq!(intervals(&b, 3).len(), 3);
        assert_eq!(b.stack.mib.get(Mib::TcpExtTcpTimeoutRehash), want);
        assert_eq!(b.with(|cx| (cx.tp.txhash != before, u64::from(cx.tp.rare().timeout_rehash))), (on, want));
    }
}

#[test]
fn time_that_retries_take() {
    let (max, base) = (Duration::from_secs(120), Duration::from_millis(200));
    for (boundary, want_ms) in
        [(0, 200), (1, 600), (3, 3_000), (8, 102_200), (9, 204_600), (10, 324_600), (15, 924_600)]
    {
        assert_eq!(model_timeout(max, boundary, base), Duration::from_millis(want_ms), "{boundary}");
    }
    assert_eq!(model_timeout(max, 6, Duration::from_secs(1)), Duration::from_secs(127));
}

#[test]
fn zero_window_probes_back_off_and_a_user_timeout_ends_them() {
    let b = Bench::established();
    b.with(|cx| cx.tp.snd_wnd = 0);
    b.send(&[1; 100], 0).unwrap();
    assert_eq!(b.with(|cx| cx.tp.pending), XmitTimer::Probe0);
    assert_eq!(intervals(&b, 4), [200, 400, 800, 1_600]);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPWinProbe), 4);
    b.with(|cx| cx.tp.options_mut().user_timeout_ms = 5_000);
    let start = b.clock_now();
    while b.sock.state() == State::Established {
        b.step().expect("the timer that ends it");
    }
    assert!((b.clock_now() - start).as_millis() <= 5_000);
    assert_eq!(b.sock.err.load(Ordering::Relaxed), libc::ETIMEDOUT);
}

#[test]
fn a_window_probe_carries_an_old_sequence_number() {
    let b = Bench::established();
    b.with(|cx| cx.tp.snd_wnd = 0);
    b.send(&[1; 100], 0).unwrap();
    b.sent();
    b.step().unwrap();
    assert_eq!(b.shapes(), [(u32::MAX, 0, ".".to_string())]);
    // Where there is room for a part, the probe carries it.
    b.with(|cx| cx.tp.snd_wnd = 40);
    b.step().unwrap();
    assert_eq!(b.shapes(), [(0, 40, "P.".to_string())]);
    b.with(|cx| assert_eq!((cx.tp.packets_out, cx.tp.write_queue.len()), (1, 1)));
}

#[test]
fn keepalive_probes_an_idle_peer_and_gives_up_with_a_reset() {
    let b = Bench::established();
    b.with(|cx| {
        set_keepalive(cx, true);
        cx.sk.set_flag(flag::KEEPOPEN, true);
    });
    let got = intervals(&b, 11);
    let mut want = vec![7_200_000];
    want.extend([75_000; 9]);
    assert_eq!(got, want);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPKeepAlive), 9);
    assert_eq!(b.stack.mib.get(Mib::TcpOutRsts), 1);
    assert_eq!(b.sock.err.load(Ordering::Relaxed), libc::ETIMEDOUT);
}

#[test]
fn a_loss_probe_resends_the_tail_after_two_round_trips() {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.srtt_us = 10_000 << 3;
        cx.tp.rto_us = 300_000;
    });
    b.send(&[1; 2_920], 0).unwrap();
    b.sent();
    assert_eq!(b.with(|cx| cx.tp.pending), XmitTimer::LossProbe);
    assert_eq!(b.step(), Some(22));
    assert_eq!(b.shapes(), [(1_460, 1_460, "P.".to_string())]);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPLossProbes), 1);
    b.with(|cx| {
        assert!(cx.tp.tlp_active && cx.tp.tlp_retrans);
        assert_eq!((cx.tp.tlp_high_seq, cx.tp.retrans_out), (SeqNum(ISS) + 2_920, 0));
        assert_eq!(cx.tp.pending, XmitTimer::Retrans);
        assert_eq!(cx.tp.retransmit_timer.at(), Some(cx.now + micros(300_000)));
    });
}

/// The wheel keeps the time of the first arming: it comes, unseen, and the timer is armed for the rest.
#[test]
fn a_postponed_timer_does_its_work_at_its_last_time() {
    let b = Bench::established();
    b.with(|cx| cx.tp.rx_opt.sack_ok = 0);
    b.send(&[1; 100], 0).unwrap();
    b.sent();
    for wait in [50, 100] {
        b.advance(wait);
        b.with(rearm_rto);
    }
    assert_eq!((b.step(), b.sent().len()), (Some(50), 0));
    assert_eq!((b.step(), b.sent().len()), (Some(150), 1));
    // Nothing waits for it: the early firing is the last.
    b.ack(100);
    b.with(rearm_rto);
    assert_eq!((b.step(), b.step(), b.sent().len()), (Some(400), None, 0));
}

/// Its timer is left in the wheel until it has once fired for nothing. From then on it is cancelled, until a flight
/// follows another one so soon that one timer would have served both.
#[test]
fn the_timer_of_a_connection_that_sends_seldom_ends_with_the_acknowledgement() {
    let b = Bench::established();
    let mut sent = 0;
    let mut exchange = || {
        b.send(&[1; 100], 0).unwrap();
        assert_eq!(b.sent().len(), 1);
        sent += 100;
        b.ack(sent);
        b.with(|cx| (cx.tp.pending, cx.tp.retransmit_timer.is_armed(), cx.tp.seldom))
    };
    assert_eq!(exchange(), (XmitTimer::None, true, false));
    assert_eq!((b.step().is_some(), b.sent().len()), (true, 0));
    b.with(|cx| assert!(cx.tp.seldom && !cx.tp.retransmit_timer.is_armed()));
    for _ in 0..3 {
        b.advance(1000);
        assert_eq!(exchange(), (XmitTimer::None, false, true));
    }
    b.advance(150);
    assert_eq!(exchange(), (XmitTimer::None, true, false));
}

/// It fires early while a system call owns the sock, which postpones it once more.
#[test]
fn a_timer_that_meets_a_system_call_keeps_the_time_that_the_call_gives_it() {
    let b = Bench::established();
    b.with(|cx| cx.tp.rx_opt.sack_ok = 0);
    b.send(&[1; 100], 0).unwrap();
    b.sent();
    b.advance(100);
    b.with(|cx| {
        rearm_rto(cx);
        b.advance(150);
        cx.refresh_clock();
        rearm_rto(cx);
    });
    assert_eq!((b.step(), b.sent().len()), (Some(200), 1));
}

#[test]
fn local_congestion_is_tried_again_soon_without_backing_off() {
    let b = Bench::established();
    b.with(|cx| cx.tp.rx_opt.sack_ok = 0);
    b.send(&[1; 100], 0).unwrap();
    b.wire.full.store(true, Ordering::Relaxed);
    assert_eq!(b.step(), Some(200));
    assert_eq!(b.with(|cx| (cx.tp.backoff, cx.tp.rto_us)), (0, 200_000));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPRetransFail), 1);
    b.wire.full.store(false, Ordering::Relaxed);
    b.sent();
    assert_eq!(b.step(), Some(500));
    assert_eq!(b.shapes(), [(0, 100, "P.".to_string())]);
}

#[test]
fn an_icmp_unreachable_takes_one_doubling_back() {
    let b = Bench::established();
    b.with(|cx| cx.tp.rx_opt.sack_ok = 0);
    b.send(&[1; 100], 0).unwrap();
    for _ in 0..2 {
        b.step();
    }
    b.with(|cx| {
        cx.tp.srtt_us = 0;
        assert_eq!(cx.tp.backoff, 2);
        ld_rto_revert(cx, SeqNum(ISS) + 1);
        assert_eq!(cx.tp.backoff, 2);
        ld_rto_revert(cx, SeqNum(ISS));
        assert_eq!((cx.tp.backoff, cx.tp.rto_us), (1, 2_000_000));
    });
}
