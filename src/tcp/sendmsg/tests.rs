use super::super::output;
use super::super::tcb::XmitTimer;
use super::super::testing::{Bench, ISS, be_in};
use super::super::{control, mtu, retransmit, xmit};
use super::*;
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::device::link::LinkConfig;
use crate::driver::Parked;
use crate::inet::Socket;
use crate::sim::World;
use crate::stack::Stack;
use crate::stack::runner::{PollFd, Runner, Waiter, Woken};
use crate::tcp::queue::Pos;
use crate::wire::seq::SeqNum;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

fn shape(seq: u32, len: usize, flags: &str) -> (u32, usize, String) {
    (seq, len, flags.to_string())
}

#[test]
fn a_bulk_send_leaves_in_super_packets_with_every_byte_in_place() {
    let b = Bench::established();
    b.with(|cx| cx.tp.snd_cwnd = 1_000);
    let data: Vec<u8> = (0..200_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    assert_eq!(b.send(&data, 0), Ok(data.len()));
    let out = b.sent();
    assert!(out.len() <= 4, "{} packets", out.len());
    let mut at = 0u32;
    for o in &out {
        assert_eq!(o.seq, at);
        assert_eq!(o.data, data[at as usize..at as usize + o.data.len()]);
        at += o.data.len() as u32;
    }
    assert_eq!(at, 200_000);
    b.with(|cx| {
        assert_eq!(cx.tp.packets_out, 200_000u32.div_ceil(1_460));
        assert_eq!((cx.tp.snd_nxt, cx.tp.write_seq), (SeqNum(ISS) + 200_000, SeqNum(ISS) + 200_000));
        assert_eq!(cx.tp.bytes_sent, 200_000);
    });
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPOrigDataSent), 137);
    assert_eq!(b.stack.mib.get(Mib::TcpOutSegs), 137);
}

#[test]
fn payload_is_shared_between_the_retransmit_queue_and_the_device() {
    let b = Bench::established();
    b.wire.hold.store(true, Ordering::Relaxed);
    b.send(&[9; 5_000], 0).unwrap();
    b.with(|cx| {
        let skb = cx.tp.rtx_queue.front().unwrap();
        assert!(skb.frags().iter().all(|f| f.page.is_shared()));
        assert!(cx.sock.wmem_alloc.load(Ordering::Relaxed) >= 5_000);
    });
    b.wire.release();
    assert_eq!(b.sock.wmem_alloc.load(Ordering::Relaxed), 0);
}

#[test]
fn the_window_of_the_peer_and_of_congestion_hold_the_rest_back() {
    let b = Bench::established();
    b.with(|cx| cx.tp.snd_cwnd = 4);
    b.send(&[1; 10 * 1_460], 0).unwrap();
    assert_eq!(b.sent().iter().map(|o| o.data.len()).sum::<usize>(), 4 * 1_460);
    b.with(|cx| assert!(cx.tp.is_cwnd_limited));
    b.ack(4 * 1_460);
    b.with(|cx| {
        cx.tp.snd_cwnd = 100;
        cx.tp.snd_wnd = 2_000;
        output::push_pending(cx);
        assert!(cx.tp.rwnd_limited);
    });
    // A whole segment of the window; the part behind it is not worth a silly one while data is in flight.
    let n = b.sent().iter().map(|o| o.data.len()).sum::<usize>();
    assert!((1_460..=2_000).contains(&n), "{n}");
}

#[test]
fn nagle_more_and_cork_gather_small_writes() {
    let b = Bench::established();
    b.send(&[1; 100], 0).unwrap();
    assert_eq!(b.shapes(), [shape(0, 100, "P.")]);
    b.send(&[2; 100], 0).unwrap();
    b.send(&[3; 100], 0).unwrap();
    assert_eq!(b.shapes(), []);
    b.ack(100);
    b.with(output::push_pending);
    assert_eq!(b.shapes(), [shape(100, 200, "P.")]);
    b.ack(300);
    b.send(&[4; 50], libc::MSG_MORE).unwrap();
    assert_eq!(b.shapes(), []);
    b.send(&[4; 50], 0).unwrap();
    assert_eq!(b.shapes(), [shape(300, 100, "P.")]);
    b.ack(400);
    b.with(|cx| cx.tp.nonagle |= nagle::CORK);
    b.send(&[5; 2_000], 0).unwrap();
    assert_eq!(b.sent().iter().map(|o| o.data.len()).collect::<Vec<_>>(), [1_460]);
}

#[test]
fn what_more_held_back_goes_when_the_file_ends() {
    let b = Bench::established();
    let end = || super::splice_eof(SockRef { stack: &b.stack, sock: &b.sock });
    b.send(&[1; 50], libc::MSG_MORE).unwrap();
    assert_eq!(b.shapes(), []);
    end();
    assert_eq!(b.shapes(), [shape(0, 50, "P.")]);
    // Nothing waits; and Nagle's rule and a cork hold as ever.
    end();
    b.send(&[2; 50], libc::MSG_MORE).unwrap();
    end();
    assert_eq!(b.shapes(), []);
    b.ack(50);
    b.with(|cx| cx.tp.nonagle |= nagle::CORK);
    end();
    assert_eq!(b.shapes(), []);
    b.with(|cx| cx.tp.nonagle &= !nagle::CORK);
    end();
    assert_eq!(b.shapes(), [shape(50, 50, "P.")]);
}

#[test]
fn msg_eor_closes_a_segment() {
    let b = Bench::established();
    b.with(|cx| cx.tp.nonagle = nagle::CORK);
    b.send(&[1; 100], libc::MSG_EOR).unwrap();
    b.send(&[2; 100], libc::MSG_EOR).unwrap();
    b.send(&[3; 100], 0).unwrap();
    b.send(&[4; 100], 0).unwrap();
    // A closed one cannot grow, so it goes as soon as it is not the last; the cork holds the last.
    assert_eq!(b.shapes(), [shape(0, 100, "P."), shape(100, 100, "P.")]);
    b.with(|cx| {
        assert_eq!(cx.tp.write_queue.iter().map(|s| (s.len(), s.tcp.eor)).collect::<Vec<_>>(), [(200, false)]);
        assert!(cx.tp.rtx_queue.iter().all(|s| s.tcp.eor));
    });
}

#[test]
fn an_urgent_byte_sets_pointer_and_flag() {
    let b = Bench::established();
    b.send(&[1; 10], libc::MSG_OOB).unwrap();
    let out = b.sent();
    assert_eq!(out[0].flags.to_string(), "P.U");
    b.with(|cx| assert_eq!(cx.tp.snd_up, SeqNum(ISS) + 10));
}

#[test]
fn autocorking_waits_for_the_device_and_the_completion_pushes() {
    let b = Bench::established();
    b.with(|cx| cx.tp.nonagle = nagle::OFF);
    b.wire.hold.store(true, Ordering::Relaxed);
    b.send(&[1; 1_000], 0).unwrap();
    assert_eq!(b.shapes().len(), 1);
    b.send(&[2; 10], 0).unwrap();
    b.send(&[3; 10], 0).unwrap();
    assert_eq!(b.shapes(), []);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAutoCorking), 1);
    b.wire.release();
    b.stack.run_pending();
    assert_eq!(b.shapes(), [shape(1_000, 20, "P.")]);
}

/// A runner that counts who asks it to receive.
#[derive(Default)]
struct Asked {
    parked: Parked,
    times: AtomicUsize,
}

impl Runner for Asked {
    fn block(
        &self,
        stack: &Arc<Stack>,
        waiter: &Arc<Waiter>,
        deadline: Option<Instant>,
        extra: &mut [PollFd],
    ) -> Woken {
        self.parked.block(stack, waiter, deadline, extra)
    }
    fn kick(&self, stack: &Arc<Stack>) {
        self.parked.kick(stack);
    }
    fn receive_now(&self, _: &Arc<Stack>) {
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_send_that_nagle_holds_back_looks_for_the_acknowledgement_that_it_waits_for() {
    let runner = Arc::new(Asked::default());
    let b = Bench::run_by(runner.clone()).establish();
    let sends = |len: usize| {
        b.send(&vec![1; len], 0).unwrap();
        let left: usize = b.sent().iter().map(|o| o.data.len()).sum();
        (left, runner.times.swap(0, Ordering::SeqCst))
    };
    assert_eq!(sends(100), (100, 0), "the first small one");
    assert_eq!(sends(100), (0, 1), "behind a small one");
    assert_eq!(sends(1460), (1460, 1), "full ones leave, and the rest waits");
    b.ack(1_560);
    b.with(output::push_pending);
    assert_eq!(b.sent().len(), 1);
    b.ack(1_660);
    assert_eq!(sends(20_000), (14_600, 0), "the congestion window, whose end no call waits for");
    b.ack(b.with(|cx| cx.tp.snd_nxt - SeqNum(ISS)) as u32);
    b.with(output::push_pending);
    b.sent();
    b.with(|cx| cx.tp.nonagle = nagle::CORK);
    assert_eq!(sends(10), (0, 0), "the program's own wish");
}

#[test]
fn small_queues_stop_at_the_limit_and_go_on_at_completion() {
    let b = Bench::established();
    b.stack.sysctl.set("net.ipv4.tcp_limit_output_bytes", "100000").unwrap();
    b.with(|cx| cx.tp.snd_cwnd = 10_000);
    b.wire.hold.store(true, Ordering::Relaxed);
    b.send(&vec![1; 500_000], 0).unwrap();
    let first: usize = b.sent().iter().map(|o| o.data.len()).sum();
    assert!(first < 300_000, "{first}");
    b.wire.hold.store(false, Ordering::Relaxed);
    b.wire.release();
    b.stack.run_pending();
    assert_eq!(first + b.sent().iter().map(|o| o.data.len()).sum::<usize>(), 500_000);
}

#[test]
fn small_queues_let_a_second_packet_into_the_device_whatever_the_limit() {
    let b = Bench::established();
    b.stack.sysctl.set("net.ipv4.tcp_limit_output_bytes", "100").unwrap();
    b.stack.sysctl.set("net.ipv4.tcp_autocorking", "0").unwrap();
    b.with(|cx| cx.tp.nonagle = nagle::OFF);
    b.wire.hold.store(true, Ordering::Relaxed);
    let after_each = [1, 2, 3, 4].map(|n| {
        b.send(&[n; 100], 0).unwrap();
        b.shapes().len()
    });
    assert_eq!(after_each, [1, 1, 0, 0]);
    b.wire.hold.store(false, Ordering::Relaxed);
    b.wire.release();
    b.stack.run_pending();
    assert_eq!(b.shapes(), [shape(200, 200, "P.")]);
}

#[test]
fn a_full_send_buffer_is_eagain_after_what_fits() {
    let b = Bench::established();
    b.with(|cx| cx.tp.snd_wnd = 0);
    b.sock.sndbuf.store(100_000, Ordering::Relaxed);
    let n = b.send(&vec![1; 1_000_000], 0).unwrap();
    assert!((100_000..300_000).contains(&n), "{n}");
    assert_eq!(b.send(&[1; 100_000], 0), Err(Error::Again));
    b.with(|cx| {
        assert!(cx.tp.nospace);
        assert_eq!(cx.tp.write_seq, SeqNum(ISS) + n as u32);
        assert_eq!(cx.tp.pending, XmitTimer::Probe0);
        output::write_queue_purge(cx);
        assert_eq!((cx.sk.wmem_queued, cx.tp.packets_out), (0, 0));
    });
}

#[test]
fn what_a_send_answers_in_each_state() {
    for (case, state, err, shut, want) in [
        ("closed", State::Close, 0, false, Err(Error::Pipe)),
        ("listening", State::Listen, 0, false, Err(Error::Pipe)),
        ("opening", State::SynSent, 0, false, Err(Error::Again)),
        ("open", State::Established, 0, false, Ok(10)),
        ("half closed by the peer", State::CloseWait, 0, false, Ok(10)),
        ("half closed by us", State::FinWait1, 0, true, Err(Error::Pipe)),
        ("shut down for writing", State::Established, 0, true, Err(Error::Pipe)),
        ("reset", State::Established, libc::ECONNRESET, false, Err(Error::ConnReset)),
        ("reset and shut down", State::Established, libc::ECONNRESET, true, Err(Error::ConnReset)),
    ] {
        let b = Bench::established();
        b.with(|cx| be_in(cx, state));
        b.sock.err.store(err, Ordering::Relaxed);
        if shut {
            b.sock.shutdown.fetch_or(crate::sock::SEND_SHUTDOWN, Ordering::Relaxed);
        }
        assert_eq!(b.send(&[1; 10], 0), want, "{case}");
        assert_eq!(b.sock.err.load(Ordering::Relaxed), 0, "{case}: told once");
    }
}

#[test]
fn control_messages_that_tcp_takes_and_refuses() {
    let b = Bench::established();
    let other = |level, ty| Control::Other { level, ty, data: vec![] };
    for (control, want) in [
        (Control::TxTime(1), Err(Error::Inval)),
        (Control::Mark(1), Ok(1)),
        (Control::Priority(1), Ok(1)),
        (other(libc::SOL_SOCKET, 99), Err(Error::Inval)),
        (other(libc::SOL_SOCKET, libc::SCM_RIGHTS), Ok(1)),
        (other(libc::IPPROTO_IP, 99), Ok(1)),
        (Control::Ttl(3), Ok(1)),
    ] {
        let slices = [IoSlice::new(&[1])];
        let mut msg = SendMsg::new(&slices, libc::MSG_DONTWAIT);
        msg.control.push(control.clone());
        let got = sendmsg(SockRef { stack: &b.stack, sock: &b.sock }, &mut msg);
        assert_eq!(got, want, "{control:?}");
    }
}

#[test]
fn a_fin_rides_on_the_last_unsent_segment_and_a_reset_is_acceptable() {
    let b = Bench::established();
    b.send(&[1; 100], 0).unwrap();
    b.send(&[2; 50], 0).unwrap();
    b.sent();
    b.with(|cx| {
        be_in(cx, State::FinWait1);
        control::send_fin(cx);
    });
    assert_eq!(b.shapes(), [shape(100, 50, "FP.")]);
    b.with(|cx| {
        control::send_active_reset(cx);
        // The window shrank below what is in flight: the reset goes to its end.
        cx.tp.rx_opt.wscale_ok = false;
        cx.tp.snd_wnd = 20;
        control::send_active_reset(cx);
    });
    assert_eq!(b.shapes(), [shape(151, 0, "R."), shape(20, 0, "R.")]);
    assert_eq!(b.stack.mib.get(Mib::TcpOutRsts), 2);
}

#[test]
fn a_syn_offers_what_the_sysctls_allow_and_crosses_into_a_syn_ack() {
    let b = Bench::new();
    b.with(|cx| {
        be_in(cx, State::SynSent);
        control::connect(cx, None).unwrap();
        assert_eq!((cx.tp.snd_una, cx.tp.snd_nxt), (SeqNum(ISS), SeqNum(ISS) + 1));
    });
    let out = b.sent();
    assert_eq!((out.len(), out[0].flags.to_string().as_str(), out[0].window), (1, "S", 64_240));
    assert!(out[0].options.starts_with("mss 1460,sackOK,TS val "), "{}", out[0].options);
    assert!(out[0].options.ends_with("ecr 0,nop,wscale 10"), "{}", out[0].options);
    b.with(|cx| {
        be_in(cx, State::SynRecv);
        cx.tp.rcv_nxt = SeqNum(78);
        control::send_synack(cx).unwrap();
    });
    let out = b.sent();
    assert_eq!((out[0].flags.to_string().as_str(), out[0].ack, out[0].seq), ("S.", 78, 0));
}

#[test]
fn idleness_shrinks_the_window_by_half_an_rto_each() {
    for (idle_ms, want) in [(100, 40), (201, 20), (401, 10), (10_000, 10)] {
        let b = Bench::established();
        b.with(|cx| cx.tp.snd_cwnd = 40);
        b.clock.advance(Duration::from_millis(idle_ms));
        b.send(&[1; 10], 0).unwrap();
        assert_eq!(b.with(|cx| cx.tp.snd_cwnd), want, "{idle_ms} ms");
    }
}

#[test]
fn an_arrived_pmtu_cuts_what_is_resent() {
    let b = Bench::established();
    b.send(&[1; 1_460], 0).unwrap();
    b.sent();
    b.with(|cx| {
        mtu::sync_mss(cx, 1_000);
        cx.tp.pmtu_cookie = 1_500;
        assert_eq!(cx.tp.mss_cache, 960);
        retransmit::retransmit_skb(cx, Pos::FRONT, 1, crate::trace::Resend::Rto).unwrap();
        assert_eq!((cx.tp.packets_out, cx.tp.rtx_queue.len()), (2, 2));
    });
    assert_eq!(b.shapes(), [shape(0, 960, ".")]);
}

#[test]
fn so_max_pacing_rate_spreads_a_burst_over_time() {
    let b = Bench::established();
    b.with(|cx| {
        cx.sk.cold_mut().max_pacing_rate = 1_000_000;
        cx.tp.snd_cwnd = 1_000;
    });
    b.send(&[1; 100_000], 0).unwrap();
    let start = b.clock_now();
    let mut left = 100_000 - b.sent().iter().map(|o| o.data.len()).sum::<usize>();
    // The initial window is not paced; the rest goes at the rate.
    assert!((80_000..90_000).contains(&left), "{left}");
    let rest = left;
    while left > 0 {
        b.step().expect("pacing's timer");
        left -= b.sent().iter().map(|o| o.data.len()).sum::<usize>();
    }
    let took = (b.clock_now() - start).as_micros() as usize;
    assert!((rest * 9 / 10..=rest * 11 / 10).contains(&took), "{rest} bytes in {took} us");
}

/// Ids of the next completion on the error queue.
fn completed(b: &Bench) -> Option<(u32, u32)> {
    b.sock.next_error().ok().map(|e| (e.err.info, e.err.data))
}

#[test]
fn zero_copy_calls_complete_when_their_last_byte_is_acknowledged() {
    let b = Bench::established();
    b.with(|cx| cx.sk.zerocopy = true);
    for _ in 0..3 {
        b.send(&[1; 2_920], libc::MSG_ZEROCOPY).unwrap();
    }
    b.ack(2_920);
    assert_eq!((completed(&b), completed(&b)), (Some((0, 0)), None));
    // A retransmission cut off the second call's packet carries it too.
    b.with(|cx| xmit::fragment(cx, true, Pos::FRONT, 1_460, 1_460).unwrap());
    b.ack(4_380);
    assert_eq!(completed(&b), None);
    b.ack(8_760);
    assert_eq!((completed(&b), completed(&b)), (Some((1, 2)), None));
    assert_eq!(b.sock.omem(), 0);
    // Without the option the flag means nothing.
    b.with(|cx| cx.sk.zerocopy = false);
    b.send(&[1; 2_920], libc::MSG_ZEROCOPY).unwrap();
    b.ack(11_680);
    assert_eq!(completed(&b), None);
}

#[test]
fn zero_copy_calls_that_share_a_packet_complete_together_and_their_packets_are_not_joined() {
    let b = Bench::established();
    b.with(|cx| cx.sk.zerocopy = true);
    b.send(&[1; 100], 0).unwrap();
    for flags in [libc::MSG_ZEROCOPY, libc::MSG_ZEROCOPY, 0] {
        b.send(&[2; 100], flags | libc::MSG_MORE).unwrap();
    }
    b.with(|cx| {
        assert_eq!(cx.tp.write_queue.len(), 1);
        assert_eq!(cx.tp.write_queue.back().unwrap().zerocopy.iter().count(), 1);
    });
    assert_eq!(b.sock.omem(), SKB_OVERHEAD as i32);
    b.with(output::push_pending);
    b.send(&[3; 100], 0).unwrap();
    b.with(|cx| {
        // What MSG_MORE held back has left; a retransmission would otherwise gather all these small packets.
        cx.tp.nonagle = nagle::OFF;
        output::push_pending(cx);
        let packets = cx.tp.rtx_queue.len();
        retransmit::retransmit_skb(cx, Pos::FRONT, 1, crate::trace::Resend::Rto).unwrap();
        assert_eq!(cx.tp.rtx_queue.len(), packets);
    });
    b.ack(500);
    assert_eq!((completed(&b), completed(&b)), (Some((0, 1)), None));
}

#[test]
fn a_zero_copy_call_without_option_memory_is_refused_and_one_that_took_nothing_has_no_id() {
    let b = Bench::established();
    b.with(|cx| cx.sk.zerocopy = true);
    // The first takes 832 bytes; for the second 576 must be free.
    b.stack.sysctl.set("net.core.optmem_max", "1407").unwrap();
    b.send(&[1; 1_460], libc::MSG_ZEROCOPY).unwrap();
    assert_eq!(b.send(&[1; 1_460], libc::MSG_ZEROCOPY), Err(Error::NoBufs));
    b.stack.sysctl.set("net.core.optmem_max", "1408").unwrap();
    b.sock.shutdown.store(crate::sock::SEND_SHUTDOWN, Ordering::Relaxed);
    assert_eq!(b.send(&[1; 1_460], libc::MSG_ZEROCOPY), Err(Error::Pipe));
    b.sock.shutdown.store(0, Ordering::Relaxed);
    b.send(&[1; 1_460], libc::MSG_ZEROCOPY).unwrap();
    b.ack(2_920);
    assert_eq!((completed(&b), completed(&b)), (Some((0, 1)), None));
    // A completion that waits to be read is still charged.
    b.send(&[1; 1_460], libc::MSG_ZEROCOPY).unwrap();
    b.ack(4_380);
    assert_eq!(b.sock.omem(), SKB_OVERHEAD as i32);
    b.sock.close_errors();
    assert_eq!(b.sock.omem(), 0);
}

#[test]
fn each_iovec_of_a_zero_copy_call_is_a_fragment() {
    let b = Bench::established();
    b.with(|cx| cx.sk.zerocopy = true);
    let bytes = [0u8; 18];
    let slices: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
    let sk = SockRef { stack: &b.stack, sock: &b.sock };
    let queued = |b: &Bench| b.with(|cx| cx.sk.wmem_queued);
    sendmsg(sk, &mut SendMsg::new(&slices, libc::MSG_ZEROCOPY)).unwrap();
    assert_eq!(b.shapes(), [shape(0, 17, "P.")]);
    // Each is charged a page of the program's.
    assert_eq!(queued(&b), 2 * SKB_OVERHEAD as i32 + 18 * 4096);
    b.ack(17);
    b.with(output::push_pending);
    assert_eq!(b.shapes(), [shape(17, 1, "P.")]);
    b.ack(18);
    assert_eq!((completed(&b), queued(&b)), (Some((0, 0)), 0));
}

#[test]
fn completions_are_coalesced_across_the_wrap_of_the_ids() {
    let b = Bench::established();
    b.with(|cx| cx.sk.zerocopy = true);
    b.sock.set_zckey(u32::MAX);
    for _ in 0..3 {
        b.send(&[1; 1_460], libc::MSG_ZEROCOPY).unwrap();
    }
    b.ack(4_380);
    assert_eq!((completed(&b), completed(&b)), (Some((u32::MAX, 1)), None));
}

/// Key and events of the stamps in the retransmit queue, with the bytes of each packet from ISS on.
fn stamps(b: &Bench) -> Vec<(u32, u32, Option<u32>)> {
    b.with(|cx| {
        let at = |seq: SeqNum| seq.since(SeqNum(ISS));
        let key = |s: &Skb| s.tx_stamp.as_ref().map(|t| at(SeqNum(t.key())));
        cx.tp.rtx_queue.iter().map(|s| (at(s.tcp.seq), at(s.tcp.end_seq), key(s))).collect()
    })
}

#[test]
fn a_timestamp_stays_with_its_byte_when_packets_are_cut_and_joined() {
    use crate::sock::tstamp::sof;
    let b = Bench::established();
    b.sock.set_tsflags(sof::TX_ACK | sof::SOFTWARE | sof::OPT_ID | sof::OPT_TSONLY);
    b.with(|cx| cx.sock.unowned().tskey.store(cx.tp.snd_una.0, Ordering::Relaxed));
    b.send(&[1; 2_920], 0).unwrap();
    assert_eq!(stamps(&b), [(0, 2_920, Some(2_919))]);
    b.with(|cx| xmit::fragment(cx, true, Pos::FRONT, 1_460, 1_460).unwrap());
    assert_eq!(stamps(&b), [(0, 1_460, None), (1_460, 2_920, Some(2_919))]);
    b.ack(2_920);
    // Of two calls in one packet the later is told.
    b.with(|cx| cx.tp.nonagle = nagle::OFF);
    for len in [100, 200] {
        b.send(&vec![2; len], libc::MSG_MORE).unwrap();
    }
    b.with(|cx| output::push_pending_frames(cx, 1_460, nagle::PUSH));
    assert_eq!(stamps(&b), [(2_920, 3_220, Some(3_219))]);
    b.send(&[3; 100], 0).unwrap();
    b.with(|cx| retransmit::retransmit_skb(cx, Pos::FRONT, 1, crate::trace::Resend::Rto).unwrap());
    assert_eq!(stamps(&b), [(2_920, 3_320, Some(3_319))]);
}

#[test]
fn a_stamp_is_in_the_segment_of_its_byte_when_the_stack_cuts() {
    use crate::device::{Caps, gso};
    use crate::sock::tstamp::{TxStamp, sof};
    let b = Bench::established();
    b.send(&[1; 4_380], 0).unwrap();
    for (key, found) in [(0, 0), (1_459, 0), (1_460, 1), (4_379, 2)] {
        let mut whole = b.with(|cx| cx.tp.rtx_queue.front().unwrap().share());
        let mut header = [0; 40];
        (header[0], header[9], header[32]) = (0x45, 6, 0x50);
        header[2..4].copy_from_slice(&4_420u16.to_be_bytes());
        whole.push(40).unwrap().copy_from_slice(&header);
        (whole.gso_size, whole.gso_type, whole.nh_len) = (1_460, crate::sock::skb::GsoType::TcpV4, 20);
        whole.tx_stamp = TxStamp::new(&b.sock, sof::TX_SOFTWARE, ISS.wrapping_add(key));
        let at: Vec<_> = gso::segment(whole, &Caps::ip(1_500)).map(|s| s.tx_stamp.is_some()).collect();
        assert_eq!(at.len(), 3);
        assert_eq!(at.iter().position(|s| *s), Some(found), "{key}");
        assert_eq!(at.iter().filter(|s| **s).count(), 1);
    }
}

/// Closing a socket in which other threads send destroys the connection under them, and with it what counts them.
#[test]
fn senders_that_sleep_are_counted_until_the_connection_is_destroyed_under_them() {
    let world = Arc::new(World::new(1));
    let [(a, _), (b, end)] = world.two(&LinkConfig::default()).unwrap();
    let open = |stack| Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let (listener, s) = (open(&b), Arc::new(open(&a)));
    let to = SocketAddr::new(end.v4.into(), 80);
    listener.bind(to).unwrap();
    listener.listen(1).unwrap();
    s.connect(Some(to)).unwrap();
    let sock = s.sock().clone();
    let pending = || Cx::new(&mut sock.lock(&a)).unwrap().tp.write_pending;
    let sends = || {
        let s = s.clone();
        let run = move || {
            let sent = s.sendmsg(&mut SendMsg::new(&[IoSlice::new(&[7; 8 << 20])], libc::MSG_NOSIGNAL));
            assert_ne!(sent, Ok(8 << 20));
        };
        world.spawn(world.now(), run).unwrap()
    };
    let threads = [sends(), sends()];
    world.run_for(Duration::from_secs(1));
    assert_eq!(pending(), 2);
    s.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &[1i32, 0].map(i32::to_ne_bytes).concat()).unwrap();
    s.close();
    threads.iter().for_each(|t| world.join(t).unwrap());
    assert_eq!((sock.state(), pending()), (State::Close, 0));
}
