use super::*;
use crate::tcp::testing::Bench;

fn blocks(tp: &mut TcpSock) -> Vec<(u32, u32)> {
    let n = tp.num_sacks as usize;
    sack_state(tp).selective_acks[..n].iter().map(|b| (b.start.0, b.end.0)).collect()
}

#[test]
fn the_block_that_changed_last_comes_first_and_touching_blocks_join() {
    let b = Bench::established();
    b.with(|cx| {
        for (seq, end, want) in [
            (6000, 6100, vec![(6000, 6100)]),
            (6200, 6300, vec![(6200, 6300), (6000, 6100)]),
            (6400, 6500, vec![(6400, 6500), (6200, 6300), (6000, 6100)]),
            // Fills the gap between two.
            (6100, 6200, vec![(6000, 6300), (6400, 6500)]),
            (6300, 6400, vec![(6000, 6500)]),
        ] {
            sack_new_ofo_skb(cx, SeqNum(seq), SeqNum(end));
            assert_eq!(blocks(cx.tp), want, "{seq}");
        }
    });
}

#[test]
fn of_five_blocks_the_oldest_is_forgotten() {
    let b = Bench::established();
    b.with(|cx| {
        for i in 0..5u32 {
            sack_new_ofo_skb(cx, SeqNum(6000 + 200 * i), SeqNum(6100 + 200 * i));
        }
        assert_eq!(blocks(cx.tp), [(6800, 6900), (6600, 6700), (6400, 6500), (6200, 6300)]);
    });
}

#[test]
fn a_block_is_believed_only_inside_what_was_sent() {
    let b = Bench::established();
    b.with(|cx| {
        let tp = &mut *cx.tp;
        tp.snd_una = SeqNum(1000);
        tp.snd_nxt = SeqNum(5000);
        tp.max_window = 10_000;
        for (start, end, dsack, valid) in [
            (2000, 3000, false, true),
            (2000, 5001, false, false),
            (3000, 2000, false, false),
            (3000, 3000, false, false),
            (1000, 2000, false, false),
            (500, 900, false, false),
            // A DSACK below snd_una counts only while an undo is possible.
            (500, 900, true, false),
        ] {
            assert_eq!(is_block_valid(tp, dsack, SeqNum(start), SeqNum(end)), valid, "{start} {end} {dsack}");
        }
        tp.undo_valid = true;
        tp.cold_mut().undo_marker = SeqNum(400);
        assert!(is_block_valid(tp, true, SeqNum(500), SeqNum(900)));
        assert!(!is_block_valid(tp, true, SeqNum(500), SeqNum(1100)));
    });
}
