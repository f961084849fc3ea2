use super::*;
use crate::tcp::queue::tests::looks;
use crate::tcp::recovery::tests::acknowledge;
use crate::tcp::testing::{Bench, ISS};
use crate::wire::seq::{SeqNum, WindowShift};
use std::sync::atomic::Ordering;

const MSS: u32 = 1460;

/// `n` segments of `mss` bytes in flight, in packets of their own if `apart`.
fn in_flight(n: u32, mss: u32, apart: bool) -> Bench {
    let b = Bench::established();
    b.window.set(u16::MAX);
    b.with(|cx| {
        cx.tp.rx_opt.snd_wscale = WindowShift::clamp(14);
        (cx.tp.snd_wnd, cx.tp.max_window) = (65_535 << 14, 65_535 << 14);
        cx.tp.snd_wl1 = cx.tp.rcv_nxt;
        cx.tp.snd_cwnd = 2 * n.max(10);
        cx.tp.rx_opt.mss_clamp = mss as u16;
        crate::tcp::mtu::sync_mss(cx, 1500);
        cx.tp.pacing_rate = u64::MAX;
        crate::tcp::cong::init_congestion_control(cx);
        cx.sock.sndbuf.store(i32::MAX / 4, Ordering::Relaxed);
    });
    let (sends, len) = if apart { (n, mss) } else { (1, n * mss) };
    for _ in 0..sends {
        assert_eq!(b.send(&vec![7; len as usize], 0), Ok(len as usize));
    }
    b.sent();
    assert_eq!(b.with(|cx| cx.tp.packets_out), n);
    b.advance(50);
    b
}

/// First and last sequence number of each packet in flight, counted in segments, its segments, and whether SACKed.
fn packets(b: &Bench, mss: u32) -> Vec<(u32, u32, u16, bool)> {
    let at = |s: SeqNum| s.since(SeqNum(ISS)) / mss;
    b.with(|cx| {
        let each = cx.tp.rtx_queue.iter().map(|s| &s.tcp);
        each.map(|c| (at(c.seq), at(c.end_seq), c.gso_segs.max(1), c.sacked & sacked::SACKED_ACKED != 0)).collect()
    })
}

fn counters(b: &Bench) -> [u64; 3] {
    [Mib::TcpExtTCPSackShifted, Mib::TcpExtTCPSackMerged, Mib::TcpExtTCPSackShiftFallback].map(|m| b.stack.mib.get(m))
}

#[test]
fn packets_acknowledged_side_by_side_become_one() {
    let b = in_flight(8, MSS, true);
    for end in 3..=6 {
        acknowledge(&b, 0, &[(2 * MSS, end * MSS)]);
    }
    assert_eq!(packets(&b, MSS)[2..], [(2, 6, 4, true), (6, 7, 1, false), (7, 8, 1, false)]);
    assert_eq!(counters(&b), [0, 3, 1], "the first has no neighbour");
    // The hole between two joins both.
    acknowledge(&b, 0, &[(7 * MSS, 8 * MSS)]);
    acknowledge(&b, 0, &[(2 * MSS, 8 * MSS)]);
    assert_eq!(packets(&b, MSS)[2..], [(2, 8, 6, true)]);
    assert_eq!(b.with(|cx| (cx.tp.sacked_out, cx.tp.highest_sack)), (6, SeqNum(ISS) + 8 * MSS));
    // What is acknowledged leaves segment by segment.
    acknowledge(&b, 4 * MSS, &[(4 * MSS, 8 * MSS)]);
    assert_eq!(b.with(|cx| (cx.tp.packets_out, cx.tp.sacked_out, cx.tp.lost_out)), (4, 4, 0));
    acknowledge(&b, 8 * MSS, &[]);
    assert_eq!(b.with(|cx| (cx.tp.packets_out, cx.tp.sacked_out, cx.sk.wmem_queued)), (0, 0, 0));
}

#[test]
fn segments_of_a_super_packet_move_to_what_was_acknowledged_before_them() {
    let b = in_flight(10, MSS, false);
    acknowledge(&b, 0, &[(2 * MSS, 4 * MSS)]);
    assert_eq!(packets(&b, MSS), [(0, 2, 2, false), (2, 4, 2, true), (4, 10, 6, false)]);
    acknowledge(&b, 0, &[(2 * MSS, 6 * MSS)]);
    assert_eq!(packets(&b, MSS), [(0, 2, 2, false), (2, 6, 4, true), (6, 10, 4, false)]);
    assert_eq!(counters(&b)[..2], [1, 0]);
    acknowledge(&b, 0, &[(2 * MSS, 10 * MSS)]);
    assert_eq!(packets(&b, MSS), [(0, 2, 2, false), (2, 10, 8, true)]);
    assert_eq!(counters(&b)[..2], [1, 1]);
    // A half of a segment is not acknowledged.
    let half = in_flight(10, MSS, false);
    acknowledge(&half, 0, &[(2 * MSS, 4 * MSS + 700)]);
    assert_eq!(packets(&half, MSS), [(0, 2, 2, false), (2, 4, 2, true), (4, 10, 6, false)]);
    let queued = b.with(|cx| (cx.sk.wmem_queued as u32, cx.tp.rtx_queue.iter().map(|s| s.truesize).sum::<u32>()));
    assert_eq!(queued.0, queued.1);
}

#[test]
fn what_must_not_be_joined_stays_apart() {
    // A record's end, a different segment size, and a retransmission that is believed to be in flight.
    for case in ["eor", "size", "retransmitted"] {
        let b = in_flight(6, MSS, true);
        b.with(|cx| {
            let at = cx.tp.rtx_queue.find(SeqNum(ISS) + 2 * MSS);
            let at = if case == "retransmitted" { cx.tp.rtx_queue.next(at) } else { at };
            let cb = &mut cx.tp.rtx_queue.get_mut(at).unwrap().tcp;
            match case {
                "eor" => cb.eor = true,
                "size" => (cb.gso_segs, cb.gso_size) = (1, 0),
                _ => cb.sacked |= sacked::SACKED_RETRANS | sacked::EVER_RETRANS,
            }
            if case == "size" {
                crate::tcp::xmit::fragment(cx, true, at, 700, 700).unwrap();
            }
            cx.tp.retrans_out += u32::from(case == "retransmitted");
        });
        acknowledge(&b, 0, &[(2 * MSS, 3 * MSS)]);
        let before = b.with(|cx| cx.tp.rtx_queue.len());
        acknowledge(&b, 0, &[(2 * MSS, 4 * MSS)]);
        assert_eq!(b.with(|cx| cx.tp.rtx_queue.len()), before, "{case}");
        assert_eq!(counters(&b)[1], u64::from(case == "size"), "{case}: halves of a segment are of one size");
    }
}

/// Packets looked at for each of `n` acknowledgements of a window of `n` segments, of which each hundredth is lost: the
/// mean over the second half.
fn cost(n: u32) -> u64 {
    const LEAST: u32 = 48;
    let b = in_flight(n, LEAST, true);
    let mut holes = std::collections::VecDeque::new();
    let mut start = 0;
    let mut counted = 0;
    for i in 0..n {
        if i % 100 == 50 {
            if i > start {
                holes.push_front((start * LEAST, i * LEAST));
                holes.truncate(2);
            }
            start = i + 1;
            continue;
        }
        let una = LEAST * 50.min(i + 1);
        let mut blocks = vec![(start * LEAST, (i + 1) * LEAST)];
        blocks.extend(&holes);
        blocks.retain(|(from, _)| *from > una);
        b.with(|cx| cx.tp.snd_cwnd = 2 * n);
        let looked = looks(|| acknowledge(&b, una, &blocks));
        counted += if i >= n / 2 { looked } else { 0 };
    }
    assert!(b.with(|cx| cx.tp.sacked_out) > n * 9 / 10);
    counted / u64::from(n / 2)
}

#[test]
fn an_acknowledgement_costs_the_same_in_a_window_of_a_hundred_times_as_many_packets() {
    let (small, large) = (cost(1_000), cost(50_000));
    assert!(large <= 2 * small, "{small} packets looked at for each of 1,000, {large} of 50,000");
}
