use super::super::testing::Bench;
use super::*;
use crate::wire::seq::{SeqNum, WindowShift};

#[test]
fn window_offered_for_each_state_of_the_buffer() {
    // rcvbuf and used in bytes of memory; the ratio is a half, so a full buffer of 128 KiB is a window of 64 KiB.
    for (case, rcvbuf, used, clamp, ssthresh, mss, wscale, rcv_wnd, want) in [
        ("empty, scaled", 131_072, 0, 1 << 30, 65_536, 1460, 7, 0, 65_536),
        ("rounded up to the unit", 131_072, 2_002, 1 << 30, 65_536, 1460, 7, 0, 64_640),
        ("held by rcv_ssthresh", 131_072, 0, 1 << 30, 20_000, 1460, 7, 0, 20_096),
        ("held by the clamp when short", 131_072, 122_880, 8_192, 65_536, 1460, 7, 0, 4_096),
        ("less than a segment: none", 131_072, 128_500, 1 << 30, 65_536, 1460, 7, 0, 0),
        ("less than a sixteenth: none", 1_048_576, 990_000, 1 << 30, 1 << 20, 1460, 7, 0, 0),
        ("used up", 131_072, 140_000, 1 << 30, 65_536, 1460, 7, 0, 0),
        ("no buffer", 0, 0, 1 << 30, 65_536, 1460, 7, 0, 0),
        ("segments larger than the buffer", 2_000, 0, 1 << 30, 65_536, 1460, 0, 0, 1_000),
        ("unscaled, first: whole segments", 131_072, 100_000, 1 << 30, 65_536, 1460, 0, 0, 14_600),
        ("unscaled, less than a segment more: unchanged", 131_072, 100_000, 1 << 30, 65_536, 1460, 0, 15_000, 15_000),
        ("unscaled, shrunk: whole segments", 131_072, 100_000, 1 << 30, 65_536, 1460, 0, 16_000, 14_600),
    ] {
        let b = Bench::established();
        let got = b.with(|cx| {
            cx.tp.scaling_ratio = 128;
            cx.sock.rcvbuf.store(rcvbuf, Ordering::Relaxed);
            cx.sock.rmem_alloc.store(used, Ordering::Relaxed);
            cx.tp.window_clamp = clamp;
            cx.tp.rcv_ssthresh = ssthresh;
            cx.tp.ack.rcv_mss = mss;
            cx.tp.rx_opt.rcv_wscale = WindowShift::clamp(wscale);
            cx.tp.rcv_wnd = rcv_wnd;
            cx.tp.ack.quick = 5;
            let w = new_window(cx);
            cx.sock.rmem_alloc.store(0, Ordering::Relaxed);
            w
        });
        assert_eq!(got, want, "{case}");
    }
}

#[test]
fn what_was_offered_is_never_taken_back() {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.rcv_wnd = 10_000;
        cx.tp.rcv_wup = cx.tp.rcv_nxt;
        cx.tp.rcv_nxt += 1_000;
        cx.sock.rmem_alloc.store(i32::MAX / 2, Ordering::Relaxed);
        assert_eq!(select_window(cx), RawWindow((9_000u32.div_ceil(128)) as u16));
        assert_eq!((cx.tp.rcv_wnd, cx.tp.rcv_wup), (9_088, cx.tp.rcv_nxt));
        assert_eq!(cx.stack.mib.get(Mib::TcpExtTCPWantZeroWindowAdv), 1);
        // Used up: now it is zero, and prediction is off.
        cx.tp.rcv_nxt += 9_088;
        cx.tp.pred_flags = 1;
        assert_eq!(select_window(cx), RawWindow(0));
        assert_eq!((cx.tp.pred_flags, cx.stack.mib.get(Mib::TcpExtTCPToZeroWindowAdv)), (0, 1));
        assert_eq!(select_window(cx), RawWindow(0));
        assert_eq!(cx.stack.mib.get(Mib::TcpExtTCPToZeroWindowAdv), 1);
        cx.sock.rmem_alloc.store(0, Ordering::Relaxed);
        assert_ne!(select_window(cx), RawWindow(0));
        assert_eq!(cx.stack.mib.get(Mib::TcpExtTCPFromZeroWindowAdv), 1);
        // Closed for want of memory: Linux does not count that.
        cx.tp.ack.out_of_memory();
        assert_eq!(select_window(cx), RawWindow(0));
        assert_eq!(cx.stack.mib.get(Mib::TcpExtTCPToZeroWindowAdv), 1);
    });
}

#[test]
fn a_peer_that_did_not_scale_gets_at_most_64_kib_and_32_with_the_workaround() {
    let b = Bench::established();
    for (workaround, want) in [("0", 65_535), ("1", 32_767)] {
        b.stack.sysctl.set("net.ipv4.tcp_workaround_signed_windows", workaround).unwrap();
        let w = b.with(|cx| {
            cx.tp.rx_opt.rcv_wscale = WindowShift::NONE;
            cx.sock.rcvbuf.store(1 << 20, Ordering::Relaxed);
            cx.tp.rcv_ssthresh = 1 << 20;
            cx.tp.window_clamp = 1 << 20;
            select_window(cx)
        });
        assert_eq!(w, RawWindow(want));
    }
}

#[test]
fn initial_window_scale_and_clamp() {
    let b = Bench::new();
    for (case, space, mss, clamp, wscale_ok, init, want) in [
        (
            "defaults: 44 segments and a scale for tcp_rmem's maximum",
            65_536,
            1460,
            0,
            true,
            0,
            (64_240, 0xffff << 10, 10),
        ),
        ("no scaling", 65_536, 1460, 0, false, 0, (64_240, 65_535, 0)),
        ("less than a segment is kept", 1_000, 1460, 0, false, 0, (1_000, 65_535, 0)),
        ("negative space", -5, 1460, 0, false, 0, (0, 65_535, 0)),
        ("a clamp bounds window and scale", 65_536, 1460, 32_768, true, 0, (32_120, 32_768, 0)),
        ("initrwnd of the route", 65_536, 1460, 0, true, 10, (14_600, 0xffff << 10, 10)),
    ] {
        let (wnd, clamp, wscale) = select_initial_window(&b.stack, space, mss, clamp, wscale_ok, init);
        assert_eq!((wnd, clamp, wscale.get()), want, "{case}");
    }
}

#[test]
fn space_and_window_are_each_others_inverse() {
    let b = Bench::established();
    b.with(|cx| {
        for ratio in [1u8, 64, 128, 200, 255] {
            cx.tp.scaling_ratio = ratio;
            for win in [0, 1, 1460, 65_535, 1 << 20] {
                // Each rounds down, as in Linux.
                let back = win_from_space(cx.tp, space_from_win(cx.tp, win));
                assert!((win - 1..=win).contains(&back), "{ratio} {win}");
            }
        }
        cx.tp.rcv_wup = SeqNum(0);
        cx.tp.rcv_wnd = 100;
        for (nxt, want) in [(0, 100), (99, 1), (100, 0), (101, 0), (5_000, 0)] {
            cx.tp.rcv_nxt = SeqNum(nxt);
            assert_eq!(receive_window(cx.tp), want, "{nxt}");
        }
    });
}

/// RFC 7323 §2.4: what the peer may have sent before it heard that the window was taken back stays acceptable.
#[test]
fn a_window_taken_back_for_want_of_memory_still_covers_what_was_offered() {
    use super::super::peer_test::{ACK, Host, PSH, SYN_OPTIONS, Seg};
    use crate::base::env::Duration;
    let host = Host::new(8);
    let mut c = host.connect(4000, SYN_OPTIONS);
    host.put(&Seg { data: vec![1; 100], ..c.seg(ACK | PSH) });
    c.seq = c.seq.wrapping_add(100);
    c.send(1_000).unwrap();
    let sent = host.wait(Duration::from_millis(100)).iter().map(|o| o.len).sum::<usize>();
    let offered = {
        let mut g = c.socket.sock().lock(c.socket.stack());
        let mut cx = Cx::new(&mut g).unwrap();
        let offered = receive_window(cx.tp);
        cx.tp.ack.pending |= crate::tcp::delack::pending::NOMEM;
        assert_eq!(select_window(&mut cx), RawWindow(0));
        assert_eq!((receive_window(cx.tp), max_receive_window(cx.tp)), (0, offered));
        offered
    };
    assert!(sent >= 1_000 && offered > 1_000, "{sent} {offered}");
    // A pure acknowledgement behind all that the peer sent, which was dropped: it counts, and draws no answer.
    let late = Seg { seq: c.seq.wrapping_add(offered), ack: c.ack.wrapping_add(1_000), ..c.seg(ACK) };
    assert_eq!(host.put(&late), []);
    assert_eq!(c.tcb(|tp| tp.snd_una.0), c.ack.wrapping_add(1_000));
    // One byte further was never offered.
    let beyond = Seg { seq: late.seq.wrapping_add(1), ..late };
    assert_eq!(host.put(&beyond).len(), 1);
}

/// Both ends took their windows back, and took what was in flight after that: each finds the other's numbers too old.
/// Every second answer has the number that such a peer accepts.
#[test]
fn answers_to_old_segments_try_the_windows_end_and_what_was_sent_in_turn() {
    use super::super::peer_test::{ACK, Host, PSH, SYN_OPTIONS, Seg};
    use crate::base::env::Duration;
    let host = Host::new(8);
    let mut c = host.connect(4000, SYN_OPTIONS);
    c.send(5_000).unwrap();
    host.sent();
    host.put(&Seg { data: vec![1; 100], ..c.seg(ACK | PSH) });
    c.seq = c.seq.wrapping_add(100);
    // A window of 128 bytes, where 5,000 were sent.
    host.put(&Seg { window: 1, ..c.seg(ACK) });
    host.wait(Duration::from_millis(50));
    let old = Seg { seq: c.seq.wrapping_sub(100), window: 1, ..c.seg(ACK) };
    let answers: Vec<u32> = (0..4)
        .map(|_| {
            host.bench.clock.advance(Duration::from_millis(600));
            let out = host.put(&old);
            out.iter().find(|o| o.len == 0).map(|o| o.seq.wrapping_sub(c.ack)).unwrap()
        })
        .collect();
    assert_eq!(answers, [128, 5_000, 128, 5_000]);
}

/// The buffer offered 59,580 bytes once and holds 53,760 now: the peer cuts its segments to 29,790 bytes and sends none
/// into a window of 27,012, to which whole segments of the size of its probes hold us.
#[test]
fn a_window_below_half_of_the_largest_is_opened_when_it_can_be() {
    use super::super::delack::cleanup_rbuf;
    for (offered, largest, free, want, tells) in [
        (27_012, 59_580, 53_760, 53_760, true),
        // The peer has nothing against this one.
        (29_790, 59_580, 53_760, 29_790, false),
        // Nor would more help.
        (27_012, 59_580, 29_000, 27_012, false),
        (27_012, 53_760, 53_760, 27_012, false),
    ] {
        let b = Bench::established();
        b.with(|cx| {
            cx.tp.rx_opt.rcv_wscale = WindowShift::NONE;
            cx.tp.scaling_ratio = 128;
            (cx.tp.rcv_wnd, cx.tp.max_rcv_wnd) = (offered, largest);
            (cx.tp.window_clamp, cx.tp.rcv_ssthresh) = (53_760, 1 << 20);
            cx.sock.rcvbuf.store(2 * 53_760, Ordering::Relaxed);
            cx.sock.rmem_alloc.store(2 * (53_760 - free), Ordering::Relaxed);
            cx.tp.ack.rcv_mss = 27_012;
            assert_eq!(new_window(cx), want, "{offered} {largest} {free}");
            cleanup_rbuf(cx, 1);
            cx.sock.rmem_alloc.store(0, Ordering::Relaxed);
        });
        assert_eq!(b.sent().len(), usize::from(tells), "{offered} {largest} {free}");
    }
}
