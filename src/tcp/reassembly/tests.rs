use super::*;
use crate::tcp::input::rcv_established;
use crate::tcp::testing::Bench;
use crate::wire::seq::RawWindow;
use crate::wire::tcp::TcpRepr;

const BASE: u32 = 5000;

/// Bytes `from..to` of the stream, byte n being n % 251, counted from the first byte expected.
fn data(b: &Bench, from: u32, to: u32, flags: TcpFlags) {
    b.with(|cx| {
        let mut bytes = vec![0; 20];
        let ack = cx.tp.snd_una;
        TcpRepr {
            src_port: 2000,
            dst_port: 1000,
            seq: SeqNum(BASE) + from,
            ack,
            flags: TcpFlags::ACK | flags,
            window: RawWindow(8192),
            urgent: 0,
            options_len: 0,
        }
        .emit(&mut bytes);
        bytes.extend((from..to).map(|n| (n % 251) as u8));
        let mut skb = Skb::from_slice(&bytes);
        skb.tcp.seq = SeqNum(BASE) + from;
        skb.tcp.end_seq = SeqNum(BASE) + to + flags.contains(TcpFlags::FIN) as u32;
        skb.tcp.ack_seq = ack;
        skb.tcp.flags = (TcpFlags::ACK | flags).bits() as u8;
        rcv_established(cx, skb);
    });
}

fn receiver() -> Bench {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.rcv_wnd = 60_000;
        cx.tp.rcv_ssthresh = 60_000;
        cx.tp.window_clamp = 65_535;
        cx.tp.advmss = 1460;
    });
    b
}

/// Everything that can be read, each byte once.
fn stream(b: &Bench) -> Vec<u8> {
    b.with(|cx| {
        let mut out = Vec::new();
        for s in &cx.sk.receive_queue {
            let have = BASE + out.len() as u32;
            let skip = SeqNum(have).since(s.tcp.seq) as usize;
            out.extend(s.to_vec().into_iter().skip(skip));
        }
        out
    })
}

fn expected(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

fn charged(b: &Bench) -> bool {
    b.with(|cx| {
        let queued: i64 = cx.sk.receive_queue.iter().chain(cx.tp.ooo_queue.iter()).map(|s| s.truesize as i64).sum();
        queued == cx.sock.rmem_alloc.load(Ordering::Relaxed) as i64
    })
}

#[test]
fn any_order_of_overlapping_pieces_gives_each_byte_once_and_charges_what_is_queued() {
    for pieces in [
        &[(0, 100), (100, 200), (200, 300)][..],
        &[(200, 300), (100, 200), (0, 100)],
        &[(50, 150), (140, 300), (100, 120), (0, 60)],
        &[(100, 200), (100, 200), (50, 250), (0, 300)],
        &[(10, 20), (30, 40), (50, 60), (5, 100), (90, 300), (0, 10)],
        &[(0, 150), (100, 300), (0, 300)],
        &[(299, 300), (1, 299), (0, 1)],
    ] {
        let b = receiver();
        for &(from, to) in pieces {
            data(&b, from, to, TcpFlags::NONE);
            assert!(charged(&b), "{pieces:?} at {from}");
        }
        assert_eq!(b.with(|cx| cx.tp.rcv_nxt), SeqNum(BASE + 300), "{pieces:?}");
        assert_eq!(stream(&b), expected(300), "{pieces:?}");
        assert_eq!(b.with(|cx| (cx.tp.ooo_queue.len(), cx.tp.num_sacks)), (0, 0), "{pieces:?}");
    }
}

#[test]
fn a_hole_draws_an_acknowledgement_at_once_that_names_the_block() {
    let b = receiver();
    data(&b, 1000, 2000, TcpFlags::NONE);
    let out = b.sent();
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].ack, out[0].options.as_str()), (BASE, "nop,nop,sack 6000:7000"));
    data(&b, 1000, 2000, TcpFlags::NONE);
    let out = b.sent();
    assert_eq!(out[0].options, "nop,nop,sack 6000:7000 6000:7000");
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPDSACKOfoSent), 1);
    data(&b, 0, 1000, TcpFlags::NONE);
    let out = b.sent();
    assert_eq!((out[0].ack, out[0].options.as_str()), (BASE + 2000, ""));
}

#[test]
fn a_fin_closes_the_receiving_half_once_everything_before_it_has_come() {
    let b = receiver();
    data(&b, 100, 200, TcpFlags::FIN);
    assert_eq!(b.with(|cx| cx.state()), State::Established);
    data(&b, 0, 100, TcpFlags::NONE);
    b.with(|cx| {
        assert_eq!(cx.state(), State::CloseWait);
        assert!(cx.sock.rcv_shutdown());
        assert_eq!(cx.tp.rcv_nxt, SeqNum(BASE + 201));
    });
    assert_eq!(stream(&b), expected(200));
}

#[test]
fn tiny_out_of_order_segments_cannot_hold_more_than_the_buffer() {
    let b = receiver();
    b.with(|cx| cx.sk.set_flag(flag::RCVBUF_LOCK, true));
    for i in 0..3000u32 {
        let at = 10 + (i * 7919 % 10_000) * 4;
        data(&b, at, at + 1, TcpFlags::NONE);
    }
    b.with(|cx| {
        let (used, limit) = (cx.sock.rmem_alloc.load(Ordering::Relaxed), cx.sock.rcvbuf.load(Ordering::Relaxed));
        assert!(used <= limit + 4096, "{used} of {limit}");
        assert!(cx.stack.mib.get(Mib::TcpExtOfoPruned) > 0);
    });
    assert!(charged(&b));
}

/// One that knows its peer's segments of 1000 bytes and whose window does not grow: nothing else calls for quick
/// acknowledgements.
fn settled_receiver() -> Bench {
    let b = receiver();
    b.with(|cx| {
        cx.tp.ack.rcv_mss = 1000;
        cx.tp.window_clamp = cx.tp.rcv_ssthresh;
    });
    b
}

/// The counter is of those that never left; the timer's own acknowledgement is not among them.
#[test]
fn compressed_acknowledgements_are_counted_and_one_leaves_for_all() {
    let b = settled_receiver();
    for i in 1..=8 {
        data(&b, i * 1000, (i + 1) * 1000, TcpFlags::NONE);
    }
    assert_eq!(b.sent().len(), 3);
    let slack = b.stack.sysctl.tcp_comp_sack_slack_ns();
    let before = b.clock_now();
    assert!(b.step().is_some());
    // No round trip was measured, so only the slack passes.
    assert_eq!(b.clock_now() - before, slack);
    let out = b.sent();
    assert_eq!((out.len(), out[0].options.as_str()), (1, "nop,nop,sack 6000:14000"));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAckCompressed), 4);
    // Data of our own carries the next, which is one less to send; the timer then finds nothing.
    data(&b, 9000, 10_000, TcpFlags::NONE);
    data(&b, 10_000, 11_000, TcpFlags::NONE);
    b.send(b"reply", 0).unwrap();
    let out = b.sent();
    assert_eq!((out.len(), out[0].options.as_str()), (1, "nop,nop,sack 6000:16000"));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAckCompressed), 6);
    b.advance(1);
    assert_eq!(b.sent().len(), 0);
}

/// As every timer: a system call that owns the sock is not interrupted, and does its work when it lets go.
#[test]
fn the_timer_of_compressed_acknowledgements_waits_for_the_owner() {
    let b = settled_receiver();
    for i in 1..=5 {
        data(&b, i * 1000, (i + 1) * 1000, TcpFlags::NONE);
    }
    assert_eq!(b.sent().len(), 3);
    let owner = b.sock.lock(&b.stack);
    b.advance(10);
    assert_eq!(b.sent().len(), 0);
    drop(owner);
    assert_eq!(b.sent().len(), 1);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPAckCompressed), 1);
}

#[test]
fn a_delayed_acknowledgement_and_compressed_ones_leave_at_the_earlier_time() {
    for (delack_us, want_us) in [(40_000, 5_100), (1_000, 1_000)] {
        let b = settled_receiver();
        b.stack.sysctl.set("net.ipv4.tcp_comp_sack_delay_ns", "9000000").unwrap();
        // 100 ms, of which a twentieth is 5 ms.
        b.with(|cx| cx.tp.rcv_rtt_us = 100_000 << 3);
        for i in 1..=3 {
            data(&b, i * 1000, (i + 1) * 1000, TcpFlags::NONE);
        }
        let now = b.clock_now();
        b.with(|cx| {
            cx.tp.ack.pending |= ack::SCHED | ack::TIMER;
            crate::tcp::timer::delack_arm(cx, now + Duration::from_micros(delack_us));
        });
        data(&b, 4000, 5000, TcpFlags::NONE);
        assert_eq!(b.sent().len(), 3);
        b.step();
        assert_eq!((b.clock_now() - now, b.sent().len()), (Duration::from_micros(want_us), 1));
    }
}

#[test]
fn a_piece_is_dropped_that_the_second_of_two_overlapping_ones_covers() {
    let b = receiver();
    for (from, to) in [(2920, 3510), (1760, 2922), (2921, 3475)] {
        data(&b, from, to, TcpFlags::NONE);
    }
    assert_eq!(b.with(|cx| cx.tp.ooo_queue.len()), 2);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPOFOMerge), 1);
    data(&b, 0, 1760, TcpFlags::NONE);
    assert_eq!(stream(&b), expected(3510));
    assert!(charged(&b));
}
