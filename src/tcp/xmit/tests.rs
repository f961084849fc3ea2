use super::super::retransmit;
use super::super::testing::{Bench, ISS};
use super::*;
use crate::trace::Resend;
use crate::wire::seq::SeqNum;

/// Where the second packet of the retransmit queue is.
fn second(cx: &Cx<'_>) -> Pos {
    cx.tp.rtx_queue.next(Pos::FRONT)
}

#[test]
fn nagle_holds_a_small_segment_only_while_a_small_one_is_unacknowledged() {
    const C: u8 = nagle::CORK;
    const O: u8 = nagle::OFF;
    const P: u8 = nagle::PUSH;
    for (case, len, nonagle, in_flight, small_unacked, fin, want) in [
        ("full", 1460usize, 0, true, true, false, true),
        ("small, idle", 100, 0, false, false, false, true),
        ("small, full ones in flight", 100, 0, true, false, false, true),
        ("small, a small one in flight", 100, 0, true, true, false, false),
        ("the same without Nagle", 100, O, true, true, false, true),
        ("the same pushed", 100, P, true, true, false, true),
        ("the same with FIN", 100, 0, true, true, true, true),
        ("corked, idle", 100, C, false, false, false, false),
        ("corked and NODELAY", 100, C | O, false, false, false, false),
        ("corked, full", 1460, C, false, false, false, true),
        ("corked, pushed", 100, C | P, false, false, false, true),
        ("corked with FIN", 100, C, false, false, true, true),
    ] {
        let b = Bench::established();
        b.with(|cx| {
            cx.tp.packets_out = u32::from(in_flight);
            cx.tp.snd_nxt = cx.tp.snd_una + 5_000;
            cx.tp.snd_sml = if small_unacked { cx.tp.snd_una + 1_000 } else { cx.tp.snd_una };
            let mut skb = Skb::from_slice(&vec![0; len]);
            skb.tcp.flags = if fin { FIN } else { 0 };
            assert_eq!(nagle_test(cx, &skb, 1460, nonagle), want, "{case}");
            cx.tp.packets_out = 0;
            cx.tp.snd_nxt = cx.tp.snd_una;
        });
    }
}

#[test]
fn a_super_packet_is_split_by_window_quota_and_nagle() {
    for (case, len, snd_wnd, last, max_segs, nonagle, small_unacked, want) in [
        ("fits", 4_000usize, 100_000, true, 10, nagle::OFF, false, 4_000),
        ("more segments than allowed", 10_000, 100_000, true, 4, 0, false, 4_000),
        ("more segments than allowed, not the last", 10_000, 100_000, false, 4, 0, false, 4_000),
        ("window in the middle", 10_000, 2_500, true, 10, nagle::OFF, false, 2_500),
        ("window in the middle, Nagle", 10_000, 2_500, true, 10, 0, true, 2_000),
        ("partial last stays under Nagle", 4_100, 100_000, true, 10, 0, true, 4_000),
        ("partial last goes without a small one in flight", 4_100, 100_000, true, 10, 0, false, 4_100),
        ("partial last stays under a cork", 4_100, 100_000, true, 10, nagle::CORK, false, 4_000),
        ("exact multiple under a cork", 4_000, 100_000, true, 10, nagle::CORK, false, 4_000),
    ] {
        let b = Bench::established();
        b.with(|cx| {
            cx.tp.snd_wnd = snd_wnd;
            cx.tp.packets_out = 1;
            cx.tp.snd_sml = if small_unacked { cx.tp.snd_una + 1 } else { cx.tp.snd_una };
            cx.tp.snd_nxt = cx.tp.snd_una + 1;
            let mut skb = Skb::from_slice(&vec![0; len]);
            skb.tcp.seq = cx.tp.snd_una;
            assert_eq!(mss_split_point(cx.tp, &skb, 1_000, last, max_segs, nonagle), want, "{case}");
            cx.tp.packets_out = 0;
            cx.tp.snd_nxt = cx.tp.snd_una;
        });
    }
}

#[test]
fn super_packets_grow_with_the_rate_and_with_nearness() {
    for (case, rate, rtt, mss, least, size, segs, want) in [
        ("no rate yet: the most", u64::MAX, u32::MAX, 1448, 2, 65_215, 65_535, 45),
        ("slow and far: the least", 100_000, 200_000, 1448, 2, 65_215, 65_535, 2),
        ("a millisecond's worth", 29_652_480, 200_000, 1448, 2, 65_215, 65_535, 19),
        ("near: the bonus", 100_000, 100, 1448, 2, 65_215, 65_535, 45),
        ("half the bonus at half a millisecond", 0, 512, 1448, 2, 65_215, 65_535, 22),
        ("the device's number of segments", u64::MAX, 1, 1448, 2, 65_215, 16, 16),
        ("an mss larger than everything", 0, u32::MAX, 70_000, 1, 65_215, 65_535, 1),
        ("two segments that no datagram holds", 0, u32::MAX, 65_483, 2, 65_215, 65_535, 1),
    ] {
        // 2^9 µs halve the bonus, as tcp_tso_rtt_log has it.
        assert_eq!(tso_segs_of(rate, rtt, 9, mss, least, size, segs), want, "{case}");
    }
}

#[test]
fn at_most_half_of_the_window_goes_in_one_packet() {
    let b = Bench::established();
    b.with(|cx| {
        for (cwnd, in_flight, want) in
            [(10, 0, 5), (10, 7, 3), (10, 10, 0), (10, 12, 0), (1, 0, 1), (2, 0, 1), (3, 1, 1)]
        {
            cx.tp.snd_cwnd = cwnd;
            cx.tp.packets_out = in_flight;
            assert_eq!(cwnd_test(cx.tp), want, "{cwnd} {in_flight}");
        }
        cx.tp.packets_out = 0;
    });
}

fn check_counts(cx: &Cx<'_>) {
    let sum = |tag: u8| {
        let tagged = cx.tp.rtx_queue.iter().filter(|s| tag == 0 || s.tcp.sacked & tag != 0);
        tagged.map(|s| u32::from(s.tcp.gso_segs)).sum::<u32>()
    };
    assert_eq!(cx.tp.packets_out, sum(0));
    assert_eq!(cx.tp.lost_out, sum(sacked::LOST));
    assert_eq!(cx.tp.retrans_out, sum(sacked::SACKED_RETRANS));
    let queued: u32 = cx.tp.rtx_queue.iter().chain(cx.tp.write_queue.iter()).map(|s| s.truesize).sum();
    assert_eq!(cx.sk.wmem_queued, queued as i32);
}

#[test]
fn a_fragment_keeps_bytes_sequence_marks_and_accounts() {
    let b = Bench::established();
    let data: Vec<u8> = (0..5_000u32).map(|i| (i * 7) as u8).collect();
    assert_eq!(b.send(&data, 0), Ok(5_000));
    b.with(|cx| {
        check_counts(cx);
        let n = cx.tp.packets_out;
        for skb in cx.tp.rtx_queue.iter_mut() {
            skb.tcp.sacked |= sacked::LOST;
        }
        cx.tp.lost_out = n;
        assert_eq!(fragment(cx, true, Pos::FRONT, 1_460, 1_460), Ok(Pos::FRONT));
        let second = second(cx);
        assert_eq!(fragment(cx, true, second, 100, 1_460), Ok(second));
        check_counts(cx);
        let mut at = SeqNum(ISS);
        let mut bytes = Vec::new();
        for skb in cx.tp.rtx_queue.iter() {
            assert_eq!((skb.tcp.seq, skb.tcp.end_seq), (at, at + skb.len() as u32));
            at = skb.tcp.end_seq;
            bytes.extend(skb.to_vec());
        }
        assert_eq!(bytes, data);
        let last = cx.tp.rtx_queue.last().unwrap();
        assert_eq!(cx.tp.rtx_queue.get(last).unwrap().tcp.flags & PSH, PSH);
        assert_eq!(cx.tp.rtx_queue.front().unwrap().tcp.flags & PSH, 0);
        assert_eq!(fragment(cx, true, Pos::FRONT, 1_460, 1_460), Err(Error::Inval));
        let behind = cx.tp.rtx_queue.last().map(|at| cx.tp.rtx_queue.next(at)).unwrap();
        assert_eq!(fragment(cx, true, behind, 1, 1_460), Err(Error::Inval));
    });
}

#[test]
fn what_is_lost_is_resent_in_order_within_the_window_and_marked() {
    let b = Bench::established();
    assert_eq!(b.send(&[7; 10 * 1_460], 0), Ok(14_600));
    b.sent();
    b.with(|cx| {
        cx.tp.ca_state = CaState::Recovery;
        fragment(cx, true, Pos::FRONT, 1_460, 1_460).unwrap();
        let n = cx.tp.packets_out;
        for skb in cx.tp.rtx_queue.iter_mut() {
            skb.tcp.sacked |= sacked::LOST;
        }
        cx.tp.lost_out = n;
        cx.tp.snd_cwnd = 3;
        retransmit::xmit_retransmit_queue(cx);
        check_counts(cx);
        assert_eq!((cx.tp.retrans_out, cx.tp.prr_out, cx.tp.total_retrans), (3, 3, 3));
        assert_eq!(cx.stack.mib.get(Mib::TcpRetransSegs), 3);
        assert_eq!(cx.stack.mib.get(Mib::TcpExtTCPFastRetrans), 3);
        // Nothing more fits the window; nothing is sent twice.
        retransmit::xmit_retransmit_queue(cx);
        assert_eq!(cx.tp.retrans_out, 3);
    });
    let total: usize = b.sent().iter().map(|o| o.data.len()).sum();
    assert_eq!(total, 3 * 1_460);
}

#[test]
fn small_segments_are_merged_when_resent() {
    let b = Bench::established();
    b.with(|cx| cx.tp.nonagle = nagle::OFF);
    for _ in 0..4 {
        assert_eq!(b.send(&[1; 100], 0), Ok(100));
    }
    assert_eq!(b.shapes().len(), 4);
    b.with(|cx| {
        assert_eq!(retransmit::retransmit_skb(cx, Pos::FRONT, 1, Resend::Rto), Ok(()));
        check_counts(cx);
        assert_eq!((cx.tp.packets_out, cx.tp.rtx_queue.len()), (1, 1));
    });
    assert_eq!(b.shapes(), [(0, 400, "P.".to_string())]);
    b.stack.sysctl.set("net.ipv4.tcp_retrans_collapse", "0").unwrap();
    for _ in 0..2 {
        b.send(&[1; 100], 0).unwrap();
    }
    b.sent();
    b.with(|cx| retransmit::retransmit_skb(cx, second(cx), 1, Resend::Rto).unwrap());
    assert_eq!(b.shapes(), [(400, 100, "P.".to_string())]);
}

#[test]
fn beyond_a_shrunk_window_only_the_first_segment_is_resent() {
    let b = Bench::established();
    b.send(&[1; 2_920], 0).unwrap();
    b.with(|cx| {
        fragment(cx, true, Pos::FRONT, 1_460, 1_460).unwrap();
        cx.tp.snd_wnd = 0;
        assert_eq!(retransmit::retransmit_skb(cx, second(cx), 1, Resend::Rto), Err(Error::Again));
        assert_eq!(retransmit::retransmit_skb(cx, Pos::FRONT, 1, Resend::Rto), Ok(()));
    });
}

/// 10 segments leave at once; from the tenth on each packet is told to leave when the rate allows, without waiting
/// here.
#[test]
fn a_device_that_keeps_departure_times_is_told_them() {
    let b = Bench::established();
    b.wire.paces.store(true, Ordering::Relaxed);
    b.with(|cx| {
        cx.tp.gso_max_size = 0;
        cx.tp.snd_cwnd = 100;
        cx.tp.pacing_rate = 1_460_000;
    });
    for _ in 0..13 {
        b.send(&[1; 1460], 0).unwrap();
    }
    assert_eq!(b.shapes().len(), 13);
    let start = b.clock_now();
    let after: Vec<u128> = b.wire.times().iter().map(|t| (*t - start).as_micros()).collect();
    // 1460 bytes at 1.46 MB/s take a millisecond.
    assert_eq!(after, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1_000, 2_000, 3_000]);
}

/// TCP_TX_DELAY: a device that keeps departure times is told later ones; acknowledgements are as late as data. An RTT
/// is taken to change with the delay, as observed on Linux 6.18 (26 µs, then 50,026).
#[test]
fn tx_delay_puts_departures_off_where_the_device_keeps_them() {
    let delay = |b: &Bench, us: i32| {
        let sk = crate::sock::proto::SockRef { stack: &b.stack, sock: &b.sock };
        crate::tcp::sockopt::set(sk, libc::IPPROTO_TCP, 37, &us.to_ne_bytes())
    };
    for (keeps, want) in [(true, [0, 50_000, 50_000, 20_000]), (false, [0; 4])] {
        let b = Bench::established();
        b.wire.paces.store(keeps, Ordering::Relaxed);
        b.with(|cx| (cx.tp.gso_max_size, cx.tp.srtt_us, cx.tp.snd_cwnd) = (0, 26 << 3, 100));
        let start = b.clock_now();
        b.send(&[1; 100], libc::MSG_EOR).unwrap();
        delay(&b, 50_000).unwrap();
        assert_eq!(b.with(|cx| cx.tp.srtt_us >> 3), 50_026);
        b.with(|cx| cx.tp.nonagle = nagle::OFF);
        b.send(&[2; 100], 0).unwrap();
        b.with(crate::tcp::control::send_ack);
        delay(&b, 20_000).unwrap();
        assert_eq!(b.with(|cx| cx.tp.srtt_us >> 3), 20_026);
        b.send(&[3; 100], 0).unwrap();
        let since = |t: &crate::env::Instant| if keeps { (*t - start).as_micros() } else { u128::from(t.as_nanos()) };
        let after: Vec<u128> = b.wire.times().iter().map(since).collect();
        assert_eq!(after, want, "{keeps}");
        assert_eq!((delay(&b, -1), delay(&b, 1 << 28)), (Err(Error::Inval), Err(Error::Inval)));
    }
}

/// The head is thought lost and its first copy is still in the device, which takes nothing more: a packet that is
/// refused is no completion. Taken for one, it is sent again and refused again for ever, in whatever call happens to
/// run softirq.
#[test]
fn a_refused_packet_does_not_start_its_sender_again() {
    for (name, refuse) in [
        ("queue full", (|b| b.wire.full.store(true, Ordering::Relaxed)) as fn(&Bench)),
        ("device down", |b| b.stack.netdevs.by_name("wire").unwrap().set_up(false)),
    ] {
        let b = Bench::established();
        b.wire.hold.store(true, Ordering::Relaxed);
        assert_eq!(b.send(&[7; 2 * 1_460], 0), Ok(2_920), "{name}");
        b.with(|cx| {
            fragment(cx, true, Pos::FRONT, 1_460, 1_460).unwrap();
            cx.tp.ca_state = CaState::Recovery;
            cx.tp.rtx_queue.front_mut().unwrap().tcp.sacked |= sacked::LOST;
            cx.tp.lost_out = 1;
        });
        refuse(&b);
        // A super-packet is refused, and a loss probe or the like that resends meets its own first copy.
        b.send(&[8; 4 * 1_460], 0).unwrap();
        b.with(tsq_handler);
        // `poll` gives up after many rounds and says that there is more to do.
        assert!(!b.stack.poll(b.clock_now()), "{name}: softirq finds no end");
        let fails = b.stack.mib.get(Mib::TcpExtTCPRetransFail);
        assert!(fails <= 2, "{name}: {fails}");
        // The completion of what the device holds does start it, once it takes packets again.
        if name == "queue full" {
            b.wire.full.store(false, Ordering::Relaxed);
            b.wire.hold.store(false, Ordering::Relaxed);
            b.sent();
            b.wire.release();
            b.stack.poll(b.clock_now());
            assert!(b.sent().len() >= 2, "{name}");
        }
    }
}

/// NET_XMIT_CN: the segment was sent; the window is reduced as for a mark of ECN (__tcp_transmit_skb, net_xmit_eval).
#[test]
fn a_segment_that_meets_a_congested_queue_was_sent_and_reduces_the_window() {
    let b = Bench::established();
    b.wire.congested.store(true, Ordering::Relaxed);
    assert_eq!(b.send(&[7; 2 * 1_460], 0), Ok(2_920));
    b.with(|cx| {
        let tp = &*cx.tp;
        assert_eq!((tp.ca_state, tp.packets_out, tp.snd_nxt.since(tp.snd_una)), (CaState::Cwr, 2, 2_920));
        assert!(tp.snd_ssthresh < 10 && !tp.undo_valid, "{}", tp.snd_ssthresh);
        assert!(tp.rtx_queue.front().unwrap().tcp.mstamp == cx.now, "it has its time of departure");
    });
    assert_eq!((b.sent().len(), b.stack.mib.get(Mib::TcpExtTCPRetransFail)), (1, 0));
}

/// A device that is slow to complete does not run dry between two packets (tcp_rtx_queue_empty_or_single_skb).
#[test]
fn one_packet_may_wait_in_the_device_behind_another_of_whatever_size() {
    let b = Bench::established();
    b.stack.sysctl.set("net.ipv4.tcp_autocorking", "0").unwrap();
    b.wire.hold.store(true, Ordering::Relaxed);
    b.with(|cx| {
        cx.tp.nonagle = nagle::OFF;
        // The limit is then two packets of the size of the next one.
        cx.tp.pacing_rate = 1;
    });
    let sent = |n: u8, len| {
        b.send(&vec![n; len], 0).unwrap();
        b.sent().iter().map(|out| out.data.len()).sum::<usize>()
    };
    assert_eq!((sent(1, 2_920), sent(2, 100), sent(3, 100)), (2_920, 100, 0));
    b.wire.hold.store(false, Ordering::Relaxed);
    b.wire.release();
    b.stack.poll(b.clock_now());
    assert_eq!(b.sent().iter().map(|out| out.data[0]).collect::<Vec<_>>(), [3]);
}
