use super::super::{any, flag};
use super::{acknowledge, applies, is_idle, nothing};
use crate::base::env::Duration;
use crate::tcp::cong;
use crate::tcp::input::Seg;
use crate::tcp::testing::Bench;
use crate::wire::seq::RawWindow;
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::SackBlocks;

/// A small generator, so that a failure can be played again from its seed.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn segment(b: &Bench, ack: u32, data: bool) -> Seg {
    b.with(|cx| Seg {
        seq: cx.tp.rcv_nxt,
        end_seq: cx.tp.rcv_nxt + u32::from(data),
        ack_seq: cx.tp.snd_una + ack,
        flags: TcpFlags::ACK,
        window: RawWindow(8192),
        header_len: 20,
        flag_word: 0,
        dsfield: 0,
        ttl: 64,
        flow_label: 0,
        rx_segs: 1,
        sack: SackBlocks::new(),
        accecn: None,
    })
}

/// All that a connection and its counters say, a field a line.
fn shown(b: &Bench) -> Vec<String> {
    let counters = b.stack.mib.iter().filter(|(_, n)| *n != 0).map(|(name, n)| format!("{name} {n}"));
    let (tp, sk) = b.with(|cx| (format!("{:#?}", cx.tp), [cx.sk.wmem_queued, cx.sk.forward_alloc, cx.sk.err_soft]));
    // Bytes of packets say nothing.
    let tp = tp.lines().filter(|line| line.contains(':')).map(str::to_owned);
    counters.chain([format!("{sk:?}")]).chain(tp).collect()
}

fn two(algorithm: &str) -> [Bench; 2] {
    [(); 2].map(|()| {
        let b = Bench::established();
        b.stack.sysctl.set("net.ipv4.tcp_congestion_control", algorithm).unwrap();
        b.with(|cx| {
            cx.tp.ca.ops = cx.tp.net.cong.default_for(cx.stack);
            cong::init_congestion_control(cx);
        });
        b
    })
}

#[test]
fn both_ways_end_in_the_same_state() {
    for algorithm in ["cubic", "reno", "bbr", "dctcp"] {
        let (seed, [short, long]) = (0x5eed_u64, two(algorithm));
        let (mut rng, mut taken) = (Rng(seed), [0; 3]);
        for round in 0..400 {
            let (len, gap, wait) = (1 + rng.below(1900) as usize, rng.below(3_000_000), rng.below(40_000_000));
            let (many, part, data) = (rng.below(8) == 0, rng.below(8) == 0, rng.below(2) == 0);
            let (idle, slow, stamp) = (rng.below(4) == 0, rng.below(2) == 0, rng.below(3) > 0);
            for b in [&short, &long] {
                b.clock.advance(Duration::from_nanos(gap));
                if !idle {
                    b.send(&vec![7; len], 0).unwrap();
                }
                if many && !idle {
                    b.send(&[8; 100], 0).unwrap();
                }
                b.with(|cx| {
                    cx.tp.rx_opt.saw_tstamp = stamp;
                    cx.tp.rx_opt.rcv_tsval = 10 + round;
                });
                b.clock.advance(Duration::from_nanos(wait));
            }
            let sent = short.with(|cx| cx.tp.snd_nxt.since(cx.tp.snd_una));
            let ack = if part { sent.min(1) } else { sent };
            let mut flags = if data { flag::DATA } else { 0 };
            let mut seg = segment(&short, ack, data);
            if slow {
                flags = flag::SLOWPATH | flag::UPDATE_TS_RECENT;
                seg.window = RawWindow(8000 + rng.below(400) as u16);
                if rng.below(8) == 0 {
                    seg.flags.insert(TcpFlags::ECE);
                }
                if rng.below(8) == 0 {
                    seg.sack.push(seg.ack_seq - 5, seg.ack_seq);
                }
            }
            short.with(|cx| match (applies(cx.tp, &seg, flags), is_idle(cx.tp, &seg)) {
                (true, _) => {
                    taken[usize::from(slow)] += 1;
                    acknowledge(cx, &seg, flags);
                }
                (false, true) => {
                    taken[2] += 1;
                    nothing(cx, &seg, flags);
                }
                (false, false) => _ = any(cx, &seg, flags),
            });
            long.with(|cx| _ = any(cx, &seg, flags));
            for b in [&short, &long] {
                b.with(crate::tcp::output::push_pending);
                b.sent();
            }
            let (a, b) = (shown(&short), shown(&long));
            let differ: Vec<_> = a.iter().zip(&b).filter(|(a, b)| a != b).collect();
            assert!(
                differ.is_empty() && a.len() == b.len(),
                "seed {seed:#x} of {algorithm}, round {round}, {taken:?} short: {differ:#?}"
            );
        }
        assert!(taken.iter().all(|n| *n > 40), "{algorithm}: the short ways are taken in {taken:?} rounds");
    }
}
