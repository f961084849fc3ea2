use super::super::peer_test::{ACK, FIN, Host, PSH, SYN_OPTIONS, Seg};
use super::super::queue::tests::looks;
use super::*;
use crate::base::env::{Entropy, SeededEntropy};
use crate::sock::page::Frag;
use crate::standard;
use std::sync::atomic::Ordering;

fn byte_at(seq: SeqNum) -> u8 {
    (seq.0.wrapping_mul(2_654_435_761) >> 24) as u8
}

/// A received packet with bytes `seq..end`, in pages of the size of `pages`, or in the middle of larger ones.
fn packet(seq: SeqNum, len: u32, page: usize, flags: TcpFlags) -> Skb {
    let bytes: Vec<u8> = (0..len).map(|i| byte_at(seq + i)).collect();
    let mut skb = Skb::new();
    for part in bytes.chunks(page.min(1460)) {
        let mut padded = vec![0; page.max(part.len())];
        padded[..part.len()].copy_from_slice(part);
        let mut frag: Frag = Frag::from_slice(&padded).next().unwrap();
        frag.len = part.len() as u32;
        skb.push_frag(frag);
    }
    skb.tcp.seq = seq;
    skb.tcp.end_seq = seq + len + u32::from(flags.contains(TcpFlags::FIN));
    skb.tcp.flags = flags.bits();
    skb
}

fn real_truesize(skb: &Skb) -> i64 {
    i64::from(SKB_OVERHEAD) + skb.frags().iter().map(|f| f.page.size() as i64).sum::<i64>()
}

/// What collapsing may not change: each byte stays at its number, packets stay in order, and none takes more memory.
#[test]
fn collapsing_keeps_every_byte_and_never_takes_memory() {
    let stack = standard::stack(crate::stack::StackConfig {
        clock: std::sync::Arc::new(crate::base::env::VirtualClock::new()),
        entropy: std::sync::Arc::new(SeededEntropy::new(1)),
        runner: std::sync::Arc::new(crate::driver::Parked::default()),
    })
    .unwrap();
    for seed in 0..400u64 {
        let random = SeededEntropy::new(seed);
        let tp = TcpSock {
            scaling_ratio: 1 + random.below(255) as u8,
            ..TcpSock::new(&crate::tcp::net::of(&stack).unwrap(), &stack)
        };
        let begin = SeqNum(0xffff_f000);
        let (mut queue, mut seq): (Vec<Skb>, SeqNum) = (Vec::new(), begin);
        for i in 0..1 + random.below(40) {
            let page = CLASSES[random.below(4) as usize];
            let len = 1 + random.below(if random.below(3) == 0 { 20_000 } else { 300 });
            // A part of it was there already, as in the out-of-order queue.
            let back = if i > 0 && random.below(4) == 0 { random.below(len.min(200)) } else { 0 };
            // A packet ends after the one before it: what another covers is not kept.
            let from = SeqNum(seq.0.wrapping_sub(back.min(seq.since(begin))));
            queue.push(packet(from, len, page, TcpFlags::ACK));
            seq = from + len;
        }
        if random.below(2) == 0 {
            queue.push(packet(seq, random.below(50), 256, TcpFlags::ACK | TcpFlags::FIN));
        }
        let read = (random.below(3) == 0).then(|| begin + random.below(seq.since(begin) + 1));
        let (before, end) = (truesize(queue.iter()), queue.last().unwrap().tcp.end_seq);
        let count = queue.len() as u64;
        let (out, gone) = collapse(&tp, queue.into_iter(), read);
        assert!(truesize(out.iter()) <= before, "seed {seed}");
        assert!(gone <= count && (gone == 0 || (out.len() as u64) <= count), "seed {seed}");
        let mut next = read.unwrap_or(begin);
        for skb in &out {
            assert!(!skb.tcp.seq.after(next), "seed {seed}: a hole at {next:?}");
            let fin = u32::from(skb.tcp.flags & 1);
            assert_eq!(skb.tcp.end_seq.since(skb.tcp.seq), skb.len() as u32 + fin, "seed {seed}");
            assert!(skb.to_vec().iter().enumerate().all(|(i, b)| *b == byte_at(skb.tcp.seq + i as u32)), "seed {seed}");
            assert_eq!(i64::from(skb.truesize), real_truesize(skb), "seed {seed}");
            next = next.later(skb.tcp.end_seq);
        }
        assert_eq!(next, end, "seed {seed}");
    }
}

/// Else a buffer that was made smaller would be full of bytes that were read, and what comes would be dropped.
#[test]
fn what_was_read_of_a_packet_makes_room_for_the_next() {
    let host = Host::new(8);
    let mut c = host.connect(4000, SYN_OPTIONS);
    host.put(&Seg { data: vec![7; 10_000], ..c.seg(ACK | PSH) });
    c.seq = c.seq.wrapping_add(10_000);
    let charged = || c.socket.sock().rmem_alloc.load(Ordering::Relaxed);
    let whole = charged();
    assert_eq!(c.recv(9_900), Ok(9_900));
    assert_eq!(charged(), whole);
    c.socket.setsockopt(libc::SOL_SOCKET, libc::SO_RCVBUF, &1i32.to_ne_bytes()).unwrap();
    assert!(c.socket.sock().rcvbuf.load(Ordering::Relaxed) < whole);
    // With FIN: header prediction does not look at the buffer.
    host.put(&Seg { data: vec![8; 1], ..c.seg(ACK | FIN) });
    assert!(charged() < whole);
    assert_eq!(c.recv(1_000), Ok(101));
    assert_eq!(host.bench.stack.mib.get(Mib::TcpExtTCPRcvCollapsed), 1);
}

#[test]
fn memory_of_a_tight_copy() {
    let overhead = i64::from(SKB_OVERHEAD);
    for (len, pages) in
        [(0, 0), (1, 256), (256, 256), (257, 2048), (2048, 2048), (2049, 2304), (5000, 6144), (16_384, 16_384)]
    {
        assert_eq!(tight_truesize(len) - overhead, pages, "{len}");
    }
}

/// A small SO_RCVBUF and a program that does not read: in-order segments of every size, each as long as the window lets
/// the peer send, and one beyond. What is charged stays within the buffer and one packet; `invariants` looks at each
/// release.
#[test]
fn a_small_buffer_bears_in_order_segments_of_any_size() {
    for rcvbuf in [2_304u32, 4_608, 10_000, 65_536] {
        for len in [1usize, 10, 100, 150, 250, 260, 500, 536, 1_000, 1_460] {
            let host = Host::new(8);
            host.listener.setsockopt(libc::SOL_SOCKET, libc::SO_RCVBUF, &(rcvbuf / 2).to_ne_bytes()).unwrap();
            let mut c = host.connect(4000, SYN_OPTIONS);
            let limit = c.socket.sock().rcvbuf.load(Ordering::Relaxed);
            let mut taken = 0;
            for round in 0..600 {
                if round % 97 == 96 {
                    taken += c.recv(1 + round).unwrap_or(0);
                }
                let before = c.tcb(|tp| tp.rcv_nxt);
                host.put(&Seg {
                    data: (0..len).map(|i| byte_at(SeqNum(c.seq) + i as u32)).collect(),
                    ..c.seg(ACK | PSH)
                });
                let after = c.tcb(|tp| tp.rcv_nxt);
                c.seq = c.seq.wrapping_add(after.since(before));
                let rmem = c.socket.sock().rmem_alloc.load(Ordering::Relaxed);
                // Header prediction uses up what is scheduled, to the end of a page of the account.
                assert!(rmem <= limit + mem::QUANTUM + 2048 + SKB_OVERHEAD as i32, "rcvbuf {limit}, len {len}: {rmem}");
            }
            while let Ok(n) = c.recv(1 << 16) {
                taken += n;
            }
            assert_eq!(taken as u32, c.seq.wrapping_sub(super::super::peer_test::ISS + 1), "rcvbuf {limit}, len {len}");
            assert_eq!(c.socket.sock().rmem_alloc.load(Ordering::Relaxed), 0);
        }
    }
}

/// In which order one-byte segments, all with holes between them, come.
#[derive(Debug, Clone, Copy)]
enum Order {
    Ascending,
    Descending,
    Random,
    /// Every second one ascending, then those between.
    Alternating,
    /// Each twice.
    Twice,
    /// Segments that overlap the one before by half, behind one hole.
    Overlapping,
}

/// Packets looked at for each of the last third of the segments that fill a buffer of `rcvbuf` bytes three times.
fn cost(order: Order, rcvbuf: i32) -> u64 {
    let host = Host::new(1);
    let c = host.connect(4000, SYN_OPTIONS);
    let sock = c.socket.sock();
    sock.rcvbuf.store(rcvbuf, Ordering::Relaxed);
    sock.lock(c.socket.stack()).common.set_flag(crate::sock::flag::RCVBUF_LOCK, true);
    // Each is charged at least a sk_buff and the least memory.
    let n = 3 * rcvbuf as u32 / 768;
    let random = SeededEntropy::new(7);
    let mut looked = 0;
    for i in 0..n {
        let place = match order {
            Order::Ascending => i,
            Order::Descending => n - i,
            Order::Random => random.below(n),
            Order::Alternating => {
                if i < n / 2 {
                    2 * i
                } else {
                    2 * (i - n / 2) + 1
                }
            }
            Order::Twice | Order::Overlapping => i / 2,
        };
        let (step, len) = if let Order::Overlapping = order { (2, 4) } else { (2, 1) };
        let seq = c.seq.wrapping_add(1 + step * place);
        {
            // The window is open however much the buffer holds.
            let mut g = sock.lock(c.socket.stack());
            let tp = g.private.downcast_mut::<TcpSock>().unwrap();
            (tp.rcv_wnd, tp.rcv_mwnd_seq) = (8 * n, tp.rcv_wup + 8 * n);
        }
        let seg = Seg { seq, data: vec![1; len], ..c.seg(ACK) };
        let n1 = looks(|| drop(host.put(&seg)));
        looked += if i >= n - n / 3 { n1 } else { 0 };
    }
    looked / u64::from(n / 3)
}

#[test]
fn of_thousands_out_of_order_a_segment_looks_at_few_in_whichever_order_they_come() {
    use Order::*;
    let few = [Ascending, Descending, Random, Alternating, Twice].map(|o| (o, 1 << 21));
    for (order, rcvbuf) in few.into_iter().chain([(Overlapping, 1 << 23)]) {
        let looked = cost(order, rcvbuf);
        assert!(looked <= 64, "{order:?}: {looked} packets looked at for each");
    }
}
