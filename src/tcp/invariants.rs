//! What must hold of a connection whenever its sock is released. Debug builds check it there, whichever path of TCP
//! ran. Above: `proto` (`check_invariants`), which the sock's lock calls. Below: nothing. Linux: tcp_verify_left_out
//! and the WARN_ONs spread over tcp_input.c and stream.c.

use super::queue::SegQueue;
use super::tcb::TcpSock;
use crate::sock::skb::{Skb, sacked};
use crate::sock::state::State;
use crate::sock::{Sock, SockState, flag};
use std::sync::atomic::Ordering;

/// Longer queues are not walked, or a test that fills one would take quadratic time.
const WALK_MOST: usize = 512;

/// Segments that a packet stands for.
fn pcount(skb: &Skb) -> u32 {
    u32::from(skb.tcp.gso_segs.max(1))
}

fn truesize<'a>(queue: impl Iterator<Item = &'a Skb>) -> i64 {
    queue.map(|s| i64::from(s.truesize)).sum()
}

/// Packets follow each other without hole or overlap, and end with `end`.
fn assert_contiguous<'a>(name: &str, queue: impl Iterator<Item = &'a Skb> + Clone, end: crate::wire::seq::SeqNum) {
    let mut next = None;
    for skb in queue {
        assert!(next.is_none_or(|n| n == skb.tcp.seq), "{name}: a hole or overlap at {:?}", skb.tcp.seq);
        let fin_syn = u32::from(skb.tcp.flags & 1) + u32::from(skb.tcp.flags >> 1 & 1);
        let covers = skb.tcp.end_seq.since(skb.tcp.seq);
        assert_eq!(covers, skb.len() as u32 + fin_syn, "{name}: bytes and sequence numbers of {:?}", skb.tcp);
        next = Some(skb.tcp.end_seq);
    }
    assert!(next.is_none_or(|n| n == end), "{name}: ends at {next:?} and not {end:?}");
}

/// The scoreboard's counters are those of the marks in the retransmit queue.
fn assert_scoreboard(tp: &TcpSock) {
    let count = |mark: u8| tp.rtx_queue.iter().filter(|s| s.tcp.sacked & mark != 0).map(pcount).sum::<u32>();
    let out: u32 = tp.rtx_queue.iter().map(pcount).sum();
    assert_eq!(tp.packets_out, out, "packets_out");
    assert_eq!(tp.lost_out, count(sacked::LOST), "lost_out");
    assert_eq!(tp.retrans_out, count(sacked::SACKED_RETRANS), "retrans_out");
    if super::sack::is_sack(tp) {
        assert_eq!(tp.sacked_out, count(sacked::SACKED_ACKED), "sacked_out");
    }
    assert!(tp.sacked_out + tp.lost_out <= tp.packets_out, "more left the network than is in it");
}

/// The list in order of sending is whole. What is selectively acknowledged is not in it; of a connection that has lost
/// nothing, all else is.
fn assert_sent_list(tp: &TcpSock) {
    tp.rtx_queue.assert_sent_order();
    for skb in tp.rtx_queue.iter() {
        let sacked = skb.tcp.sacked & sacked::SACKED_ACKED != 0;
        assert!(!sacked || !skb.tcp.in_sent_list, "SACKed and in the list: {:?}", skb.tcp.seq);
        // What was found lost is in no list until it is sent again, even if that is undone.
        assert!(sacked || skb.tcp.in_sent_list || tp.lost != 0, "not in the list: {:?}", skb.tcp.seq);
    }
}

fn assert_sorted(ooo: &SegQueue, tp: &TcpSock) {
    let mut last = tp.rcv_nxt;
    for skb in ooo.iter() {
        assert!(skb.tcp.seq.after(tp.rcv_nxt), "out of order and yet next: {:?}", skb.tcp.seq);
        assert!(skb.tcp.end_seq.after(last), "out-of-order queue: covered or unsorted at {:?}", skb.tcp.seq);
        last = skb.tcp.end_seq;
    }
}

/// Panics when something does not hold. `sock` is owned by the caller.
pub fn check(sock: &Sock, st: &SockState, tp: &TcpSock) {
    let sk = &st.common;
    if sock.is_broken() {
        return;
    }
    assert!(!tp.copied_seq.after(tp.rcv_nxt), "read beyond what was received");
    assert!(!tp.snd_una.after(tp.snd_nxt), "acknowledged beyond what was sent");
    assert!(tp.snd_cwnd > 0, "no congestion window");
    assert!(sk.forward_alloc >= 0, "forward_alloc {}", sk.forward_alloc);
    assert_eq!(tp.bound.as_ref().map_or(0, |b| b.port()), sk.num(), "the port that is held");
    assert!(tp.listener.is_some() || !sk.flag(flag::DEAD) || sk.ack_backlog == 0);
    let (rmem, queued) = (sock.rmem_alloc.load(Ordering::Relaxed), sk.wmem_queued);
    assert!(rmem >= 0 && queued >= 0, "more memory freed than charged: received {rmem}, to send {queued}");
    if [tp.write_queue.len(), tp.rtx_queue.len(), tp.ooo_queue.len(), sk.receive_queue.len()].iter().sum::<usize>()
        > WALK_MOST
    {
        return;
    }
    let sends = truesize(tp.write_queue.iter()) + truesize(tp.rtx_queue.iter());
    assert_eq!(i64::from(queued), sends, "wmem_queued");
    let received = truesize(sk.receive_queue.iter()) + truesize(tp.ooo_queue.iter());
    assert_eq!(i64::from(sock.rmem_besides_errors()), received, "rmem_alloc");
    if sock.state() == State::Close {
        // A closed connection keeps its counts for TCP_INFO.
        return;
    }
    assert!(!tp.snd_nxt.after(tp.write_seq), "sent beyond what was written");
    assert!(!tp.rcv_wup.after(tp.rcv_nxt), "window offered before it began");
    assert_scoreboard(tp);
    assert_sent_list(tp);
    assert_contiguous("rtx_queue", tp.rtx_queue.iter(), tp.snd_nxt);
    assert_contiguous("write_queue", tp.write_queue.iter(), tp.write_seq);
    if let (Some(first), Some(next)) = (tp.rtx_queue.front(), tp.write_queue.front()) {
        assert!(!first.tcp.seq.after(tp.snd_una), "acknowledged bytes are missing from rtx_queue's front");
        assert_eq!(next.tcp.seq, tp.snd_nxt, "write_queue does not begin with snd_nxt");
    }
    assert_sorted(&tp.ooo_queue, tp);
}
