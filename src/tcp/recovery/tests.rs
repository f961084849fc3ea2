use super::*;
use crate::sock::skb::Skb;
use crate::tcp::input::rcv_established;
use crate::tcp::testing::{Bench, ISS};
use crate::wire::tcp::{TcpFlags, TcpRepr};
use crate::wire::tcp_options::{EstablishedOptions, SackBlocks};

const MSS: u32 = 1460;

/// An acknowledgement of `ack` bytes with SACK blocks, all counted from the first byte sent.
pub(in crate::tcp) fn acknowledge(b: &Bench, ack: u32, sacks: &[(u32, u32)]) {
    b.with(|cx| {
        let sack: SackBlocks = sacks.iter().map(|&(s, e)| (SeqNum(ISS) + s, SeqNum(ISS) + e)).collect();
        let options = EstablishedOptions { sack, ..Default::default() };
        let mut bytes = vec![0; 20 + options.len()];
        TcpRepr {
            src_port: 2000,
            dst_port: 1000,
            seq: cx.tp.rcv_nxt,
            ack: SeqNum(ISS) + ack,
            flags: TcpFlags::ACK,
            window: crate::wire::seq::RawWindow(b.window.get()),
            urgent: 0,
            options_len: options.len(),
        }
        .emit(&mut bytes);
        options.emit(&mut bytes[20..]);
        let mut skb = Skb::from_slice(&bytes);
        crate::tcp::rcv::fill_cb(&mut skb, 0, 64, cx.now).unwrap();
        cx.now = cx.stack.now();
        rcv_established(cx, skb);
    });
}

/// Starts the algorithm and sends ten segments.
fn ten_out(sack: bool) -> Bench {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.rx_opt.sack_ok = sack as u8;
        // Makes the window of `acknowledge` the one that stands already.
        cx.tp.rx_opt.snd_wscale = crate::wire::seq::WindowShift::clamp(7);
        cx.tp.snd_wl1 = cx.tp.rcv_nxt;
        cong::init_congestion_control(cx);
    });
    b.send(&vec![7u8; 10 * MSS as usize], 0).unwrap();
    assert_eq!(b.sent().iter().map(|o| o.data.len()).sum::<usize>(), 10 * MSS as usize);
    b
}

fn counts(b: &Bench) -> (u32, u32, u32, u32) {
    b.with(|cx| (cx.tp.packets_out, cx.tp.sacked_out, cx.tp.lost_out, cx.tp.retrans_out))
}

#[test]
fn a_cumulative_acknowledgement_frees_segments_of_a_super_packet_one_by_one() {
    let b = ten_out(true);
    b.advance(50);
    acknowledge(&b, MSS, &[]);
    assert_eq!(counts(&b), (9, 0, 0, 0));
    acknowledge(&b, 3 * MSS, &[]);
    assert_eq!(counts(&b), (7, 0, 0, 0));
    assert_eq!(
        b.with(|cx| (cx.tp.rtx_queue.front().unwrap().tcp.seq, cx.tp.srtt_us >> 3)),
        (SeqNum(ISS) + 3 * MSS, 50_000)
    );
    acknowledge(&b, 10 * MSS, &[]);
    assert_eq!(counts(&b), (0, 0, 0, 0));
    assert_eq!(b.with(|cx| (cx.sk.wmem_queued, cx.tp.snd_cwnd)), (0, 20));
}

#[test]
fn three_segments_reported_above_a_hole_start_recovery_and_resend_it() {
    let b = ten_out(true);
    b.advance(50);
    acknowledge(&b, 0, &[(MSS, 2 * MSS)]);
    acknowledge(&b, 0, &[(MSS, 3 * MSS)]);
    assert_eq!(b.with(|cx| cx.tp.ca_state), CaState::Disorder);
    assert_eq!(counts(&b), (10, 2, 0, 0));
    assert!(b.shapes().is_empty());
    acknowledge(&b, 0, &[(MSS, 4 * MSS)]);
    assert_eq!(b.with(|cx| cx.tp.ca_state), CaState::Recovery);
    assert_eq!(counts(&b), (10, 3, 1, 1));
    let out = b.shapes();
    assert_eq!((out.len(), out[0].0, out[0].1), (1, 0, MSS as usize));
    // CUBIC leaves 7 of 10.
    assert_eq!(b.with(|cx| (cx.tp.snd_ssthresh, cx.tp.prior_ssthresh > 0)), (7, true));
    b.advance(50);
    acknowledge(&b, 10 * MSS, &[]);
    // The threshold, and one more for the seven segments acknowledged in Open.
    assert_eq!(b.with(|cx| (cx.tp.ca_state, cx.tp.snd_cwnd)), (CaState::Open, 8));
    assert_eq!(counts(&b), (0, 0, 0, 0));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPSackRecovery), 1);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPFastRetrans), 1);
}

#[test]
fn without_sack_the_third_duplicate_resends_the_first_segment() {
    let b = ten_out(false);
    b.advance(50);
    acknowledge(&b, 0, &[]);
    acknowledge(&b, 0, &[]);
    assert!(b.shapes().is_empty());
    acknowledge(&b, 0, &[]);
    assert_eq!(b.with(|cx| cx.tp.ca_state), CaState::Recovery);
    assert_eq!(b.shapes().first().map(|s| (s.0, s.1)), Some((0, MSS as usize)));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPRenoRecovery), 1);
    // A partial acknowledgement resends the next hole at once (RFC 6582).
    b.advance(50);
    acknowledge(&b, MSS, &[]);
    assert_eq!(b.shapes().first().map(|s| s.0), Some(MSS));
}

#[test]
fn a_dsack_for_the_only_retransmission_undoes_the_reduction() {
    let b = ten_out(true);
    b.advance(50);
    for n in 2..=4 {
        acknowledge(&b, 0, &[(MSS, n * MSS)]);
    }
    assert_eq!(b.with(|cx| (cx.tp.ca_state, cx.tp.undo_retrans)), (CaState::Recovery, 1));
    b.with(|cx| cx.tp.cold_mut().total_retrans = 1);
    b.advance(50);
    acknowledge(&b, 10 * MSS, &[(0, MSS)]);
    assert!(b.stack.mib.get(Mib::TcpExtTCPDSACKRecv) == 1);
    assert_eq!(b.with(|cx| (cx.tp.ca_state, cx.tp.snd_cwnd >= 10)), (CaState::Open, true));
}

#[test]
fn a_timeout_marks_everything_lost_and_leaves_one_segment_of_window() {
    let b = ten_out(true);
    b.advance(50);
    b.with(|cx| {
        enter_loss(cx);
        assert_eq!((cx.tp.ca_state, cx.tp.snd_cwnd, cx.tp.lost_out, cx.tp.frto), (CaState::Loss, 1, 10, true));
        assert_eq!(cx.tp.snd_ssthresh, 7);
    });
}

#[test]
fn an_acknowledgement_of_unsent_data_changes_nothing() {
    let b = ten_out(true);
    acknowledge(&b, 11 * MSS, &[]);
    acknowledge(&b, 0, &[(9 * MSS, 11 * MSS), (3 * MSS, 2 * MSS)]);
    assert_eq!(counts(&b), (10, 0, 0, 0));
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPSACKDiscard), 2);
}
