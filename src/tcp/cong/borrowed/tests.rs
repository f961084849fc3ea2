use super::*;
use crate::base::env::Duration;
use crate::sock::skb::Skb;
use crate::tcp::input::rcv_established;
use crate::tcp::testing::{Bench, ISS};
use crate::wire::seq::{RawWindow, WindowShift};
use crate::wire::tcp::{TcpFlags, TcpRepr};
use crate::wire::tcp_options::{EstablishedOptions, SackBlocks};
use std::collections::BTreeMap;

const MSS: u32 = 1460;

fn lent<R>(b: &Bench, f: impl FnOnce(&mut Lender<'_>) -> R) -> R {
    b.with(|cx| f(&mut Lender { stack: cx.stack, sock: cx.sock, sk: cx.sk, now: cx.stack.now() }))
}

/// A TCP connection, and a borrowed algorithm that is told of the same events. Segments are numbered from 0.
struct Pair {
    b: Bench,
    borrowed: Borrowed,
    /// By segment number: time of the last transmission, its mark, and whether it was a retransmission.
    sent: BTreeMap<u32, (Instant, Mark, bool)>,
    next: u32,
    seen: Seen,
    trace: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    out: u32,
    again: u32,
    delivered: u32,
    lost: u32,
    una: SeqNum,
    state: CaState,
    retransmits: u8,
}

impl Pair {
    fn new(name: &str) -> Pair {
        let b = Bench::established();
        b.stack.sysctl.set("net.ipv4.tcp_early_retrans", "0").unwrap();
        b.with(|cx| {
            cx.tp.rx_opt.snd_wscale = WindowShift::clamp(7);
            cx.tp.snd_wl1 = cx.tp.rcv_nxt;
            cx.tp.ca.ops = cx.tp.net.cong.find(name).unwrap();
            cong_start(cx);
            cx.sock.sndbuf.store(1 << 26, std::sync::atomic::Ordering::Relaxed);
        });
        let borrowed = lent(&b, |l| Borrowed::new(l, Some(name), MSS)).unwrap();
        let mut p = Pair { b, borrowed, sent: BTreeMap::new(), next: 0, seen: Seen::default(), trace: Vec::new() };
        p.seen = p.look();
        p.b.send(&vec![7u8; 3000 * MSS as usize], 0).unwrap();
        p.follow(None, &[]);
        p
    }

    fn look(&self) -> Seen {
        self.b.with(|cx| Seen {
            out: cx.tp.data_segs_out,
            again: cx.tp.total_retrans,
            delivered: cx.tp.delivered,
            lost: cx.tp.lost,
            una: cx.tp.snd_una,
            state: cx.tp.ca_state,
            retransmits: cx.tp.retransmits,
        })
    }

    /// Reports to the borrowed algorithm what happened to the connection since; `last`: the segment sent last of those
    /// that arrived. `again`: the segments of the current retransmission.
    fn follow(&mut self, last: Option<u32>, again: &[u32]) {
        let (was, is) = (self.seen, self.look());
        self.seen = is;
        let now = self.b.stack.now();
        let borrowed = &mut self.borrowed;
        let (sent, next) = (&mut self.sent, &mut self.next);
        lent(&self.b, |l| {
            if is.retransmits > was.retransmits {
                borrowed.rto(l);
            } else if is.lost != was.lost {
                borrowed.loss(l, is.lost - was.lost);
            }
            if is.state == CaState::Open && was.state > CaState::Cwr {
                borrowed.recovered(l);
            }
            if let Some((at, mark, resent)) = last.and_then(|n| sent.get(&n)).copied() {
                let rtt_us = (!resent).then_some((now - at).as_micros() as u32);
                let segments = is.delivered - was.delivered;
                let behind_hole = is.una == was.una;
                borrowed.acked(l, &Acked { segments, rtt_us, mark: Some(mark), behind_hole, ..Acked::default() });
            }
            assert_eq!(
                (is.again - was.again) as usize,
                again.len(),
                "retransmissions, event {}, next {next} {last:?} {:?}",
                self.trace.len(),
                is.state
            );
            for n in again {
                sent.insert(*n, (now, borrowed.sent(l, 1, true), true));
            }
            for _ in 0..is.out - was.out - again.len() as u32 {
                sent.insert(*next, (now, borrowed.sent(l, 1, false), false));
                *next += 1;
            }
        });
        let tcp = self.b.with(|cx| (cx.tp.snd_cwnd, cx.tp.snd_ssthresh, output::packets_in_flight(cx.tp)));
        let ours = (self.borrowed.cwnd(), self.borrowed.ssthresh(), self.borrowed.in_flight());
        assert_eq!(ours, tcp, "(cwnd, ssthresh, in flight) {:?}, event {}", is.state, self.trace.len());
        self.trace.push((tcp.0, tcp.1));
    }

    /// The acknowledgement of all segments below `una`, and of the ranges `sacks`.
    fn ack(&mut self, una: u32, sacks: &[(u32, u32)], last: u32, again: &[u32]) {
        self.b.with(|cx| {
            let seq = |n: u32| SeqNum(ISS) + n * MSS;
            let sack: SackBlocks = sacks.iter().map(|&(s, e)| (seq(s), seq(e))).collect();
            let options = EstablishedOptions { sack, ..Default::default() };
            let mut bytes = vec![0; 20 + options.len()];
            TcpRepr {
                src_port: 2000,
                dst_port: 1000,
                seq: cx.tp.rcv_nxt,
                ack: seq(una),
                flags: TcpFlags::ACK,
                window: RawWindow(8192),
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
        self.follow(Some(last), again);
    }

    /// Round trips of `rtt_ms` in which segments up to `end` are acknowledged in pairs, half a millisecond apart.
    fn flow(&mut self, from: u32, end: u32, rtt_ms: u64) -> u32 {
        let mut una = from;
        while una < end {
            let window_end = self.next.min(end);
            self.b.advance(rtt_ms);
            while una < window_end {
                una = (una + 2).min(window_end);
                self.ack(una, &[], una - 1, &[]);
            }
        }
        una
    }
}

fn cong_start(cx: &mut Cx<'_>) {
    super::super::init_congestion_control(cx);
}

fn follows_tcp(name: &str) -> Pair {
    let mut p = Pair::new(name);
    let una = p.flow(0, 200, 50);
    // A hole: three segments above it arrive, it is retransmitted, the rest arrives, and then the retransmission.
    p.b.advance(50);
    let window = p.next;
    p.ack(una, &[(una + 1, una + 2)], una + 1, &[]);
    p.ack(una, &[(una + 1, una + 3)], una + 2, &[]);
    let out = p.next;
    p.ack(una, &[(una + 1, una + 4)], una + 3, &[una]);
    assert_eq!((p.borrowed.info().ca_state, p.seen.state), (CaState::Recovery, CaState::Recovery));
    for n in una + 4..window {
        p.ack(una, &[(una + 1, n + 1)], n, &[]);
    }
    // Two more were sent before the hole was retransmitted.
    p.b.advance(50);
    p.ack(out, &[], una, &[]);
    assert_eq!((p.borrowed.info().ca_state, p.seen.state), (CaState::Open, CaState::Open));
    let end = p.flow(out, out + 400, 50);
    // No more acknowledgements arrive: the timer expires.
    while p.seen.retransmits == 0 {
        p.b.step().unwrap();
        if p.look().retransmits > 0 {
            p.follow(None, &[end]);
        }
    }
    assert_eq!((p.borrowed.cwnd(), p.borrowed.info().ca_state), (1, CaState::Loss));
    p
}

#[test]
fn reno_borrowed_keeps_the_window_it_keeps_in_tcp() {
    let p = follows_tcp("reno");
    assert!(p.trace.iter().any(|t| t.0 > 60) && p.trace.len() > 250, "{:?}", p.trace);
}

#[test]
fn cubic_borrowed_keeps_the_window_it_keeps_in_tcp() {
    let p = follows_tcp("cubic");
    assert!(p.trace.iter().any(|t| t.0 > 60) && p.trace.len() > 250, "{:?}", p.trace);
}

/// A borrowed Reno in slow start, whose first window has been sent.
fn reno() -> (Bench, Borrowed) {
    let b = Bench::established();
    let mut r = lent(&b, |l| Borrowed::new(l, Some("reno"), MSS)).unwrap();
    lent(&b, |l| {
        for _ in 0..r.quota(l) {
            r.sent(l, 1, false);
        }
    });
    (b, r)
}

#[test]
fn an_undone_loss_gives_window_and_threshold_back() {
    let (b, mut r) = reno();
    b.advance(50);
    let before = (r.cwnd(), r.ssthresh());
    lent(&b, |l| {
        assert!(!r.undo(l), "nothing to undo");
        r.loss(l, 1);
        r.acked(l, &Acked { segments: 3, behind_hole: true, ..Acked::default() });
        assert_eq!((r.ssthresh(), r.info().ca_state, r.in_flight()), (5, CaState::Recovery, 6));
        assert_eq!(r.quota(l), 2, "half of what arrived, rounded up (RFC 6937)");
        r.acked(l, &Acked { late: 1, ..Acked::default() });
        assert!(r.undo(l));
    });
    assert_eq!((r.cwnd(), r.ssthresh(), r.info().ca_state), (before.0, before.1, CaState::Open));
}

#[test]
fn an_echo_of_congestion_reduces_once_a_window_and_ends_by_itself() {
    let (b, mut r) = reno();
    b.advance(50);
    lent(&b, |l| {
        r.acked(l, &Acked { segments: 1, ece: true, ..Acked::default() });
        assert_eq!((r.ssthresh(), r.info().ca_state), (5, CaState::Cwr));
        r.acked(l, &Acked { segments: 1, ece: true, ..Acked::default() });
        assert_eq!(r.ssthresh(), 5, "once");
        for _ in 0..4 {
            r.acked(l, &Acked { segments: 2, ..Acked::default() });
            for _ in 0..r.quota(l) {
                r.sent(l, 1, false);
            }
        }
        r.acked(l, &Acked { segments: 1, ..Acked::default() });
        assert_eq!((r.cwnd(), r.info().ca_state), (5, CaState::Open));
        assert!(!r.undo(l));
    });
}

#[test]
fn after_idleness_the_window_starts_over() {
    let (b, mut r) = reno();
    b.advance(50);
    lent(&b, |l| {
        r.acked(l, &Acked { segments: 10, rtt_us: Some(50_000), ..Acked::default() });
        assert_eq!((r.cwnd(), r.info().srtt_us), (20, 50_000));
    });
    b.advance(10_000);
    lent(&b, |l| assert_eq!((r.quota(l), r.ssthresh()), (10, 0x7fff_ffff)));
}

#[test]
fn delivery_rate_is_what_arrived_over_the_time_it_took() {
    let b = Bench::established();
    let mut r = lent(&b, |l| Borrowed::new(l, Some("reno"), 1000)).unwrap();
    let marks: Vec<Mark> = lent(&b, |l| (0..10).map(|_| r.sent(l, 1, false)).collect());
    let last = marks[9];
    b.advance(100);
    for m in marks {
        b.advance(1);
        let acked = Acked { segments: 1, rtt_us: Some(100_000), mark: Some(m), ..Acked::default() };
        lent(&b, |l| r.acked(l, &acked));
    }
    assert_eq!(Mark::from_words(last.to_words()), last);
    // 10 segments of 1000 bytes in 110 ms.
    assert_eq!(r.info().delivery_rate, 10_000_000_000 / 110_000);
}

#[test]
fn invalid_reports_are_refused_or_harmless() {
    let (b, mut r) = reno();
    lent(&b, |l| {
        assert_eq!(Borrowed::new(l, Some("nosuch"), MSS).err(), Some(Error::NoEnt));
        assert_eq!(Borrowed::new(l, None, 0).err(), Some(Error::Inval));
        r.acked(l, &Acked { segments: u32::MAX, late: u32::MAX, ..Acked::default() });
        assert_eq!(r.in_flight(), 0);
        r.loss(l, u32::MAX);
        assert_eq!(r.info().ca_state, CaState::Open, "nothing was in flight");
        r.sent(l, u32::MAX, true);
        r.sent(l, u32::MAX, false);
        r.loss(l, u32::MAX);
        r.rto(l);
        r.rto(l);
        r.recovered(l);
        assert_eq!((r.cwnd(), r.in_flight()), (1, 0));
        for words in [[u64::MAX; 5], [0, u64::MAX, 1, 2, 3], [u64::MAX, 0, 1, u64::MAX, 0]] {
            r.sent(l, 1, false);
            let mark = Some(Mark::from_words(words));
            r.acked(l, &Acked { segments: 1, mark, rtt_us: Some(u32::MAX), ..Acked::default() });
        }
        r.release(l);
    });
}

/// Values that a wrong or malicious protocol could pass: small ones, and the extremes.
#[test]
fn no_order_of_calls_and_no_number_panics() {
    for (seed, name) in (1..=100u64).zip(["cubic", "reno"].into_iter().cycle()) {
        let b = Bench::established();
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let n = (x >> 16) as u32;
            match x % 8 {
                0 => u32::MAX - n % 3,
                1 => 1 << (n % 32),
                _ => n % 20,
            }
        };
        let mut r = lent(&b, |l| Borrowed::new(l, Some(name), next().max(1))).unwrap();
        let mut mark = Mark::default();
        for step in 0..3000 {
            let (what, n, m) = (next() % 11, next(), next());
            lent(&b, |l| match what {
                0 | 1 => mark = r.sent(l, n, m & 1 != 0),
                2 | 3 => {
                    let rtt_us = (m & 1 != 0).then_some(next());
                    let mark = (m & 2 != 0).then_some(mark);
                    let (behind_hole, ece) = (m & 4 != 0, m & 24 == 24);
                    r.acked(l, &Acked { segments: n, late: next(), rtt_us, mark, behind_hole, ece });
                }
                4 => r.loss(l, n),
                5 => r.recovered(l),
                6 => r.rto(l),
                7 => r.app_limited(),
                8 => assert_eq!(r.set_mss(n).is_err(), n == 0),
                9 => mark = Mark::from_words(std::array::from_fn(|_| u64::from(next()) << (next() % 33))),
                _ => drop(r.undo(l)),
            });
            let quota = lent(&b, |l| r.quota(l));
            let i = r.info();
            assert!(i.cwnd >= 1 && i.ssthresh >= 1 && quota <= i.cwnd, "seed {seed}, step {step}: {i:?}");
            if n.is_multiple_of(5) {
                b.clock.advance(Duration::from_millis((n % 70_000).into()));
            }
        }
        lent(&b, |l| r.release(l));
    }
}
