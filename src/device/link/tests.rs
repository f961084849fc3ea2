use super::*;
use crate::device::gso::edit_front;
use crate::device::gso::tests::{tcp4, tcp6, udp4};
use crate::sock::skb::GsoType;
use crate::wire::checksum;

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn link(direction: Direction) -> (Arc<LinkEnd>, Arc<LinkEnd>) {
    pair(["a", "b"], &LinkConfig::both(direction), 7).unwrap()
}

fn send(end: &LinkEnd, now: Instant, bytes: &[u8]) {
    let sent = end.xmit(0, now, Skb::from_slice(bytes));
    assert!(matches!(sent, Xmit::Sent), "{sent:?}");
}

/// Everything that arrives at `end`, with the time of arrival, event by event.
fn arrivals(end: &LinkEnd) -> Vec<(Instant, Vec<u8>)> {
    let mut out = vec![];
    while let Some(t) = end.next_event(0) {
        end.recv(0, t, 64, &mut |s| out.push((s.tstamp, s.to_vec()))).unwrap();
    }
    out
}

/// A packet that contains its number.
fn numbered(i: u32) -> Vec<u8> {
    let mut p = udp4(960);
    p[100..104].copy_from_slice(&i.to_be_bytes());
    p
}

fn numbers(arrived: &[(Instant, Vec<u8>)]) -> Vec<u32> {
    arrived.iter().map(|(_, p)| u32::from_be_bytes(p[100..104].try_into().unwrap())).collect()
}

#[test]
fn a_packet_arrives_after_its_serialisation_and_the_delay_and_not_before() {
    let (a, b) = link(Direction { rate: 8_000_000, delay: 10 * MS, ..Direction::default() });
    for _ in 0..3 {
        send(&a, at(5), &tcp4(960, 0x10));
    }
    assert_eq!(b.recv(0, at(15), 64, &mut |_| panic!("early")).unwrap(), 0);
    assert_eq!(arrivals(&b).iter().map(|a| a.0).collect::<Vec<_>>(), [at(16), at(17), at(18)]);
    send(&a, at(100), &tcp4(960, 0x10));
    assert_eq!(arrivals(&b)[0].0, at(111), "an idle line starts afresh");
    assert_eq!((a.stats().tx_packets, b.stats().rx_packets, b.stats().rx_bytes), (4, 4, 4000));
    assert_eq!(arrivals(&a), []);
}

#[test]
fn a_full_queue_loses_packets_and_empties_with_time() {
    let (a, b) = link(Direction { rate: 8_000_000, queue_bytes: 3000, ..Direction::default() });
    for i in 0..5 {
        send(&a, at(0), &numbered(i));
    }
    assert_eq!((a.fate().overflowed, a.queued_bytes(at(0)), a.queued_bytes(at(2))), (2, 2964, 988));
    send(&a, at(2), &numbered(5));
    assert_eq!(numbers(&arrivals(&b)), [0, 1, 2, 5]);
    let (a, b) = link(Direction { rate: 8_000_000, queue_packets: 2, ..Direction::default() });
    (0..5).for_each(|i| send(&a, at(0), &numbered(i)));
    assert_eq!(numbers(&arrivals(&b)), [0, 1]);
}

#[test]
fn a_senders_own_queue_pushes_back_and_completes_when_the_last_bit_has_left() {
    let direction = Direction { rate: 8_000_000, queue_packets: 2, delay: 50 * MS, ..Direction::default() };
    let config = LinkConfig { own_queue: true, ..LinkConfig::both(direction) };
    let (a, b) = pair(["a", "b"], &config, 1).unwrap();
    let packet = tcp4(960, 0x10);
    send(&a, at(0), &packet);
    send(&a, at(0), &packet);
    let Xmit::Busy(back) = a.xmit(0, at(0), Skb::from_slice(&packet)) else { panic!("room for a third") };
    assert_eq!(back.to_vec(), packet);
    assert_eq!(a.next_event(0), Some(at(1)), "the completion is an event of the sender");
    assert_eq!(a.recv(0, at(1), 64, &mut |_| ()).unwrap(), 1);
    send(&a, at(1), &packet);
    assert_eq!(a.fate().overflowed, 0);
    assert_eq!(arrivals(&b).len(), 3);
}

/// As pfifo_head_drop under tbf on a veth pair of the kernel: of ten datagrams at once into a queue for three arrive
/// the one that is being sent and the last three, which have moved up.
#[test]
fn a_full_queue_that_drops_its_head_delivers_the_newest_packets_without_gaps_in_time() {
    for (own_queue, lossless) in [(true, true), (true, false), (false, true)] {
        let direction =
            Direction { rate: 8_000_000, queue_packets: 4, head_drop: true, delay: 5 * MS, ..Direction::default() };
        let direction = Direction { duplicate: if lossless { 0.0 } else { 1.0 }, ..direction };
        let (a, b) = pair(["a", "b"], &LinkConfig { own_queue, ..LinkConfig::both(direction) }, 1).unwrap();
        for i in 0..10 {
            let sent = a.xmit(0, at(0), Skb::from_slice(&numbered(i)));
            assert_eq!(matches!(sent, Xmit::Congested), own_queue && i >= 4, "{i}: {sent:?}");
        }
        let f = a.fate();
        assert_eq!((f.sent, f.overflowed, a.queued_bytes(at(0))), (10, 6, 4 * 988));
        let mut got = arrivals(&b);
        if !lossless {
            got = got.into_iter().step_by(2).collect();
        }
        assert_eq!(numbers(&got), [0, 7, 8, 9]);
        let took = Duration::from_micros(988);
        let times: Vec<_> = got.iter().map(|g| g.0).collect();
        assert_eq!(times, [1, 2, 3, 4].map(|n| at(5) + took * n));
    }
    // What is being sent cannot be lost: without room behind it the newest is.
    let direction = Direction { rate: 8_000_000, queue_packets: 1, head_drop: true, ..Direction::default() };
    let (a, b) = link(direction);
    (0..3).for_each(|i| send(&a, at(0), &numbered(i)));
    assert_eq!(numbers(&arrivals(&b)), [0]);
}

/// A link that loses the head of a full queue: 8 Mbit/s, 5 ms.
fn head_drop(direction: Direction, own_queue: bool, seed: u64) -> (Arc<LinkEnd>, Arc<LinkEnd>) {
    let direction = direction.rate(8_000_000).head_drop(true).delay(5 * MS);
    pair(["a", "b"], &LinkConfig::both(direction).own_queue(own_queue), seed).unwrap()
}

#[test]
fn packets_that_move_up_stay_behind_those_before_them_whose_jitter_is_longer() {
    for seed in 0..50 {
        let (a, b) = head_drop(Direction::default().queue_packets(4).jitter(10 * MS), false, seed);
        (0..8).for_each(|i| send(&a, at(0), &numbered(i)));
        assert_eq!((numbers(&arrivals(&b)), a.fate().reordered), (vec![0, 5, 6, 7], 0), "seed {seed}");
    }
}

#[test]
fn packets_do_not_wait_for_the_arrival_of_one_that_the_queue_lost() {
    let (a, b) = head_drop(Direction::default().queue_packets(4), false, 1);
    for len in [1500, 1500, 1500, 1500, 100, 100, 100] {
        send(&a, at(0), &udp4(len - 28));
    }
    let times: Vec<_> = arrivals(&b).iter().map(|a| a.0).collect();
    assert_eq!(times, [6500, 6600, 6700, 6800].map(Instant::from_micros));
}

#[test]
fn a_packet_that_the_queue_lost_has_no_other_fate() {
    let rows = [
        ("lost", Direction::default().loss(0.5)),
        ("duplicated", Direction::default().duplicate(0.5)),
        ("reordered", Direction::default().reorder(0.5)),
        ("corrupted", Direction::default().corrupt(0.5)),
        ("all", Direction::default().loss(0.3).duplicate(0.5).reorder(0.5).corrupt(0.5)),
    ];
    for (case, direction) in rows {
        let (a, b) = head_drop(direction.queue_packets(4), false, 3);
        (0..200).for_each(|i| send(&a, at(u64::from(i) / 2), &numbered(i)));
        let got = arrivals(&b);
        let f = a.fate();
        assert!(f.overflowed > 50, "{case}: {f:?}");
        assert_eq!(f.received, f.sent - f.lost - f.overflowed + f.duplicated, "{case}: {f:?}");
        let mut n = numbers(&got);
        n.sort();
        n.dedup();
        if direction.corrupt == 0.0 {
            assert_eq!(n.len() as u64, f.sent - f.lost - f.overflowed, "{case}: {f:?}");
        }
        assert!(f.reordered.max(f.corrupted) <= f.sent - f.lost - f.overflowed, "{case}: {f:?}");
    }
}

#[test]
fn no_packet_is_lost_for_one_that_has_no_room_then_either() {
    // Beside the 1000 bytes that are being sent 500 are free, however many are lost.
    for own_queue in [false, true] {
        let (a, b) = head_drop(Direction::default().queue_bytes(1500), own_queue, 1);
        [1000, 100, 200].iter().for_each(|len| send(&a, at(0), &udp4(len - 28)));
        let sent = a.xmit(0, at(0), Skb::from_slice(&udp4(600)));
        assert_eq!(matches!(sent, Xmit::Busy(_)), own_queue, "{sent:?}");
        let f = a.fate();
        assert_eq!((f.sent, f.overflowed), if own_queue { (3, 0) } else { (4, 1) });
        // One that fits takes no more than the room that it needs.
        let sent = a.xmit(0, at(0), Skb::from_slice(&udp4(250 - 28)));
        assert_eq!(matches!(sent, Xmit::Congested), own_queue, "{sent:?}");
        assert_eq!(a.fate().overflowed, if own_queue { 1 } else { 2 });
        assert_eq!(arrivals(&b).iter().map(|a| a.1.len()).collect::<Vec<_>>(), [1000, 200, 250]);
    }
}

#[test]
fn a_queue_that_begins_to_drop_its_head_drops_what_was_sent_before() {
    let (a, b) = link(Direction::default().rate(8_000_000).queue_packets(4).reorder(0.3).jitter(MS));
    (0..5).for_each(|i| send(&a, at(0), &numbered(i)));
    a.set_direction(Direction::default().rate(8_000_000).queue_packets(4).head_drop(true)).unwrap();
    (5..7).for_each(|i| send(&a, at(0), &numbered(i)));
    let mut n = numbers(&arrivals(&b));
    n.sort();
    assert_eq!(n, [0, 3, 5, 6]);
    assert_eq!(a.fate().overflowed, 3);
}

#[test]
fn all_segments_of_a_super_packet_enter_the_senders_queue_or_none() {
    let direction = Direction { rate: 8_000_000, queue_packets: 1, ..Direction::default() };
    let (a, b) = pair(["a", "b"], &LinkConfig { own_queue: true, ..LinkConfig::both(direction) }, 1).unwrap();
    let mut skb = Skb::from_slice(&tcp4(4000, 0x10));
    (skb.gso_type, skb.gso_size) = (GsoType::TcpV4, 1000);
    skb.csum = Csum::Partial { start: 20, offset: 16 };
    assert!(matches!(a.xmit(0, at(0), skb), Xmit::Sent));
    assert_eq!(arrivals(&b).len(), 4);
}

fn fate_of(seed: u64) -> (Vec<(Instant, Vec<u8>)>, Fate) {
    let misfortune = Direction {
        rate: 100_000_000,
        delay: 5 * MS,
        jitter: MS,
        loss: 0.02,
        reorder: 0.02,
        duplicate: 0.01,
        corrupt: 0.01,
        ..Direction::default()
    };
    let (a, b) = pair(["a", "b"], &LinkConfig::both(misfortune), seed).unwrap();
    for i in 0..10_000 {
        send(&a, at(0), &numbered(i));
    }
    (arrivals(&b), a.fate())
}

#[test]
fn the_same_seed_gives_the_same_packets_at_the_same_times_and_another_does_not() {
    let (first, fate) = fate_of(42);
    assert_eq!(fate_of(42), (first.clone(), fate));
    assert_ne!(fate_of(43).0, first);
}

#[test]
fn impairments_occur_at_the_configured_rates_and_the_counters_add_up() {
    let (arrived, f) = fate_of(42);
    assert_eq!((f.sent, f.received), (10_000, arrived.len() as u64));
    assert_eq!(f.received, f.sent - f.lost + f.duplicated);
    // Four standard deviations of a binomial distribution.
    for (got, want) in [(f.lost, 200.0), (f.reordered, 196.0), (f.duplicated, 98.0), (f.corrupted, 98.0)] {
        let off: f64 = got as f64 - want;
        assert!(off.abs() < 4.0 * f64::sqrt(want), "{got} for {want}");
    }
}

#[test]
fn jitter_alone_keeps_the_order_and_reordering_does_not() {
    let (a, b) = link(Direction { delay: 5 * MS, jitter: 5 * MS, ..Direction::default() });
    (0..200).for_each(|i| send(&a, Instant::from_micros(u64::from(i) * 100), &numbered(i)));
    assert!(numbers(&arrivals(&b)).is_sorted());
    let (a, b) = link(Direction { delay: 5 * MS, reorder: 0.1, ..Direction::default() });
    (0..200).for_each(|i| send(&a, Instant::from_micros(u64::from(i) * 100), &numbered(i)));
    let mut n = numbers(&arrivals(&b));
    assert!(!n.is_sorted());
    n.sort();
    assert_eq!(n, (0..200).collect::<Vec<_>>());
}

#[test]
fn corruption_flips_one_bit_and_leaves_the_checksum_to_find_it() {
    let (a, b) = link(Direction { corrupt: 1.0, ..Direction::default() });
    let good = tcp4(1000, 0x10);
    for _ in 0..50 {
        let mut skb = Skb::from_slice(&good);
        skb.csum = Csum::Partial { start: 20, offset: 16 };
        // The partial checksum: the sum of the pseudo-header alone.
        edit_front(&mut skb, 38, |h| {
            let pseudo = checksum::sum(&good[12..20], 6 + 1020);
            h[36..38].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        });
        assert!(matches!(a.xmit(0, at(0), skb), Xmit::Sent));
        b.recv(0, at(0), 1, &mut |s| {
            assert_eq!(s.csum, Csum::None);
            let bits: u32 = s.to_vec().iter().zip(&good).map(|(x, y)| (x ^ y).count_ones()).sum();
            assert_eq!(bits, 1);
        })
        .unwrap();
    }
}

#[test]
fn ce_is_set_on_ect_packets_only_and_their_checksums_stay_right() {
    let rows: [(&str, Vec<u8>, usize, u8, u8); 4] = [
        ("v4 ECT(0)", tcp4(500, 0x10), 1, 0x02, 0x03),
        ("v4 not capable", tcp4(500, 0x10), 1, 0x00, 0x00),
        ("v6 ECT(1)", tcp6(500), 1, 0x10, 0x30),
        ("v6 not capable", tcp6(500), 1, 0x00, 0x00),
    ];
    for (case, mut p, field, tos, want) in rows {
        p[field] = p[field] & !0x33 | tos;
        if p[0] == 0x45 {
            p[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&p[..20], 0));
            p[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let (a, b) = link(Direction { rate: 8_000_000, ecn_threshold: 400, ..Direction::default() });
        send(&a, at(0), &p);
        send(&a, at(0), &p);
        let got = arrivals(&b);
        assert_eq!(got[0].1, p, "{case}: below the threshold");
        let mask = if p[0] == 0x45 { 3 } else { 0x30 };
        assert_eq!(got[1].1[1] & mask, want, "{case}");
        assert_eq!(a.fate().marked, u64::from(want != 0), "{case}");
        if p[0] == 0x45 {
            assert!(checksum::is_valid(checksum::sum(&got[1].1[..20], 0)), "{case}");
        }
    }
}

#[test]
fn with_offload_a_super_packet_crosses_whole_and_without_it_is_cut_and_summed() {
    for offload in [false, true] {
        let (a, b) = pair(["a", "b"], &LinkConfig { offload, ..LinkConfig::default() }, 1).unwrap();
        let mut skb = Skb::from_slice(&tcp4(4000, 0x10));
        (skb.gso_type, skb.gso_size) = (GsoType::TcpV4, 1000);
        skb.csum = Csum::Partial { start: 20, offset: 16 };
        assert!(matches!(a.xmit(0, at(0), skb), Xmit::Sent));
        let mut got = vec![];
        b.recv(0, at(0), 64, &mut |s| got.push((s.len(), s.csum))).unwrap();
        match offload {
            true => assert_eq!(got, [(4040, Csum::Unnecessary)]),
            false => assert_eq!(got, [(1040, Csum::None); 4]),
        }
    }
}

#[test]
fn an_invalid_link_configuration_is_refused() {
    let corrupt = Direction { corrupt: 0.1, ..Direction::default() };
    for (case, config) in [
        ("unseen corruption", LinkConfig { offload: true, ..LinkConfig::both(corrupt) }),
        ("probability", LinkConfig::both(Direction { loss: 1.5, ..Direction::default() })),
        ("not a number", LinkConfig::both(Direction { loss: f64::NAN, ..Direction::default() })),
        ("mtu", LinkConfig { mtu: 20, ..LinkConfig::default() }),
    ] {
        assert_eq!(pair(["a", "b"], &config, 1).unwrap_err(), Error::Inval, "{case}");
    }
    let (a, _) = link(Direction::default());
    let Xmit::Dropped(e) = a.xmit(0, at(0), Skb::from_slice(&tcp4(1461, 0x10))) else { panic!("longer than the MTU") };
    assert_eq!(e.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn ethernet_ends_have_addresses_of_their_own_and_frames_their_header() {
    let (a, b) = pair(["a", "b"], &LinkConfig { ethernet: true, ..LinkConfig::default() }, 1).unwrap();
    let (LinkType::Ethernet(ma), LinkType::Ethernet(mb)) = (a.caps().link, b.caps().link) else {
        panic!("not Ethernet")
    };
    assert!(ma.is_unicast() && mb.is_unicast() && ma != mb);
    let mut frame = [0xff; 6].to_vec();
    frame.extend(ma.0);
    frame.extend([8, 0]);
    frame.extend(tcp4(1460, 0x10));
    send(&a, at(0), &frame);
    b.recv(0, at(0), 1, &mut |s| {
        assert!(s.link_multicast);
        assert_eq!(s.to_vec(), frame);
    })
    .unwrap();
}
