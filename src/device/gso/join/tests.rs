use super::super::Gro;
use super::super::tests::tcp4;
use super::*;
use crate::base::error::{Error, Result};
use crate::device::Caps;
use crate::device::gso::segment;
use crate::sock::offload::Piece;
use proptest::prelude::*;
use std::sync::LazyLock;

const NUMBER: u8 = 253;

/// A protocol whose header is a byte that is the same in all of a flow, a byte of check and two of offset. The check is
/// right while it is 7.
struct Train;

impl Offload for Train {
    fn segment(&self, piece: &mut Piece<'_>) -> Result<()> {
        let at = u16::from_be_bytes([piece.header[2], piece.header[3]]) + piece.offset as u16;
        piece.header[2..].copy_from_slice(&at.to_be_bytes());
        if piece.index == 9 { Err(Error::Io) } else { Ok(()) }
    }

    fn may_hold(&self, skb: &mut Skb, _: (IpAddr, IpAddr)) -> Option<usize> {
        // Of a flow all bytes are read in one piece, which moves them where they are in two.
        if skb.linear().first() == Some(&2) {
            let n = skb.len();
            skb.may_pull(n);
        }
        let mut h = [0; 4];
        (skb.copy_out(0, &mut h) == 4 && h[1] == 7).then_some(4)
    }

    fn join(&self, header: &mut [u8], held: usize, next: &mut Skb, _: (IpAddr, IpAddr)) -> Join {
        let mut h = [0; 4];
        next.copy_out(0, &mut h);
        let at = |h: &[u8]| usize::from(u16::from_be_bytes([h[2], h[3]]));
        match h[0] == header[0] && at(&h) == at(header) + held {
            true if h[0] == 99 => Join::Last,
            true => Join::Joined,
            false => Join::No,
        }
    }
}

/// A packet over IPv4, with its bytes from `at` on in the stream.
fn packet(flow: u8, at: u16, len: usize) -> Vec<u8> {
    let mut p = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, NUMBER, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, flow, 7];
    p.extend(at.to_be_bytes());
    p.extend((0..len).map(|i| (usize::from(at) + i) as u8));
    seal(&mut p);
    p
}

fn packet6(at: u16, len: usize) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 1, 0, 0, NUMBER, 64];
    p.extend([0xfd; 16]);
    p.extend([0xfe; 16]);
    p.extend([1, 7]);
    p.extend(at.to_be_bytes());
    p.extend((0..len).map(|i| (usize::from(at) + i) as u8));
    p[4..6].copy_from_slice(&((4 + len) as u16).to_be_bytes());
    p
}

fn seal(p: &mut [u8]) {
    let (len, header) = (p.len() as u16, usize::from(p[0] & 15) * 4);
    p[2..4].copy_from_slice(&len.to_be_bytes());
    p[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(&p[..header], 0));
    p[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn receive(packets: impl IntoIterator<Item = Skb>) -> Vec<Skb> {
    // A super-packet does not keep its protocol.
    static REGISTERED: LazyLock<Arc<Train>> = LazyLock::new(|| Arc::new(Train));
    let (mut gro, mut out) = (Gro::default(), Vec::new());
    let find = |n| (n == NUMBER).then(|| REGISTERED.clone() as Arc<dyn Offload>);
    for skb in packets {
        gro.receive(skb, &find, &mut |s| out.push(s));
    }
    gro.flush(&mut |s| out.push(s));
    out
}

/// How many packets each one stands for, in order.
fn joined(packets: &[Vec<u8>]) -> Vec<u16> {
    receive(packets.iter().map(|p| Skb::from_slice(p))).iter().map(|s| s.rx_segs).collect()
}

#[test]
fn a_train_becomes_one_packet_with_the_first_ones_header() {
    let train: Vec<_> = (0..5).map(|i| packet(1, i * 100, 100)).collect();
    let out = receive(train.iter().map(|p| Skb::from_slice(p)));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].to_vec(), packet(1, 0, 500));
    let skb = &out[0];
    assert_eq!((skb.rx_segs, skb.gso_size, skb.gso_type), (5, 100, GsoType::Protocol));
    assert_eq!(skb.csum, Csum::Unnecessary);
    // And is cut into the same again.
    let pieces: Vec<_> = segment(skb.share(), &Caps::ip(1500)).map(|s| s.to_vec()).collect();
    let mut want = train.clone();
    for (i, p) in want.iter_mut().enumerate() {
        p[5] = i as u8; // identifications, which count
        seal(p);
    }
    assert_eq!(pieces, want);
    let six: Vec<_> = (0..5).map(|i| Skb::from_slice(&packet6(i * 100, 100))).collect();
    assert_eq!(receive(six)[0].to_vec(), packet6(0, 500));
}

#[test]
fn what_does_not_continue_is_not_joined_and_nothing_is_passed() {
    let tweaked = |i: usize, at: usize, value: u8| {
        let mut train: Vec<_> = (0..4).map(|i| packet(1, i * 100, 100)).collect();
        train[i][at] = value;
        seal(&mut train[i]);
        train
    };
    let mut short: Vec<_> = (0..2).map(|i| packet(1, i * 100, 100)).collect();
    short.push(packet(1, 200, 50));
    short.push(packet(1, 250, 50));
    let mut longer = vec![packet(1, 0, 50)];
    longer.push(packet(1, 50, 100));
    let mut wrong_ip = tweaked(2, 1, 0);
    wrong_ip[2][10] ^= 1;
    let mut with_options = vec![packet(1, 0, 100), packet(1, 100, 100), packet(1, 200, 100)];
    with_options[1].splice(20..20, [1, 1, 1, 1]);
    with_options[1][0] = 0x46;
    seal(&mut with_options[1]);
    type Row<'a> = (&'a str, Vec<Vec<u8>>, &'a [u16]);
    let rows: [Row<'_>; 16] = [
        ("all", tweaked(0, 1, 0), &[4]),
        ("TOS", tweaked(2, 1, 3), &[2, 1, 1]),
        ("TTL", tweaked(2, 8, 63), &[2, 1, 1]),
        ("no DF, one of them", tweaked(2, 6, 0), &[2, 1, 1]),
        ("a source", tweaked(2, 15, 9), &[2, 1, 1]),
        ("a protocol", tweaked(2, 9, 252), &[1, 2, 1]),
        ("a flow of the same hosts", tweaked(2, 20, 2), &[2, 1, 1]),
        ("a wrong check", tweaked(2, 21, 8), &[2, 1, 1]),
        ("a wrong IP checksum", wrong_ip, &[2, 1, 1]),
        ("a gap", vec![packet(1, 0, 100), packet(1, 200, 100), packet(1, 300, 100)], &[1, 2]),
        ("twice", vec![packet(1, 0, 100), packet(1, 0, 100)], &[1, 1]),
        ("a short one ends it", short, &[3, 1]),
        ("a longer one is another", longer, &[1, 1]),
        ("a fragment", tweaked(2, 6, 0x20), &[2, 1, 1]),
        ("IP options", with_options, &[1, 1, 1]),
        ("the last", vec![packet(99, 0, 9), packet(99, 9, 9), packet(99, 18, 9)], &[2, 1]),
    ];
    for (case, packets, want) in rows {
        assert_eq!(joined(&packets), want, "{case}");
    }
}

#[test]
fn packets_of_many_hosts_are_held_side_by_side() {
    let of = |host: u8, i: u16| {
        let mut p = packet(1, i * 10, 10);
        p[15] = host;
        seal(&mut p);
        p
    };
    let trains: Vec<_> = (0..30).map(|n| of(n % 3, u16::from(n / 3))).collect();
    assert_eq!(joined(&trains), [10, 10, 10]);
    // More than are held: the oldest gives way.
    let many: Vec<_> =
        (0..2 * HELD as u8 + 2).map(|n| of(n % (HELD as u8 + 1), u16::from(n / (HELD as u8 + 1)))).collect();
    assert_eq!(joined(&many).iter().sum::<u16>(), 2 * HELD as u16 + 2);
    // TCP has its own rules, and place.
    let tcp = tcp4(10, 0x10);
    assert_eq!(joined(&[packet(1, 0, 10), tcp, packet(1, 10, 10)]), [1, 2]);
}

#[test]
fn a_packet_is_no_longer_than_ip_can_say() {
    let train: Vec<_> = (0..66).map(|i| packet(1, (i * 1000) as u16, 1000)).collect();
    let got = joined(&train);
    assert_eq!(got.iter().sum::<u16>(), 66);
    assert_eq!(got[0], 65);
}

#[test]
fn a_refused_piece_ends_the_packet() {
    let mut whole = receive((0..12).map(|i| Skb::from_slice(&packet(1, i * 10, 10))));
    let mut pieces = segment(whole.remove(0), &Caps::ip(1500));
    assert_eq!(pieces.by_ref().count(), 9);
    assert!(pieces.failed());
    let mut whole = receive((0..9).map(|i| Skb::from_slice(&packet(1, i * 10, 10))));
    let mut pieces = segment(whole.remove(0), &Caps::ip(1500));
    assert_eq!(pieces.by_ref().count(), 9);
    assert!(!pieces.failed());
}

#[test]
fn a_packet_whose_protocol_has_gone_is_lost_and_told() {
    let protocol = Arc::new(Train);
    let (mut gro, mut out) = (Gro::default(), Vec::new());
    for i in 0..3 {
        gro.receive(Skb::from_slice(&packet(1, i * 10, 10)), &|_| Some(protocol.clone()), &mut |s| out.push(s));
    }
    gro.flush(&mut |s| out.push(s));
    drop(protocol);
    let mut pieces = segment(out.remove(0), &Caps::ip(1500));
    assert_eq!((pieces.by_ref().count(), pieces.failed()), (0, true));
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]
    #[test]
    fn no_byte_is_lost_whatever_comes(
        packets in proptest::collection::vec((0u8..3, 0u16..40, 0usize..30, any::<bool>(), any::<u8>()), 0..40),
    ) {
        let made: Vec<_> = packets.iter().map(|&(flow, at, len, v6, noise)| {
            let mut p = if v6 { packet6(at, len) } else { packet(flow, at, len) };
            if noise < 60 {
                let at = usize::from(noise) % p.len();
                p[at] ^= 0x10;
            }
            p
        }).collect();
        // In two fragments each, as a device may deliver them.
        let skbs = made.iter().map(|p| {
            let (a, b) = p.split_at(p.len() / 3);
            let mut skb = Skb::from_slice(a);
            skb.append_frags(&mut Skb::from_slice(b));
            skb
        });
        let out = receive(skbs);
        prop_assert_eq!(out.iter().map(|s| usize::from(s.rx_segs)).sum::<usize>(), made.len());
        prop_assert!(out.iter().all(|s| s.rx_segs > 1 || made.iter().any(|p| p.starts_with(&s.to_vec()))));
    }
}
