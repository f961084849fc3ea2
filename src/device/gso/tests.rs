use super::*;
use crate::wire::ip::Ipv4Header;
use proptest::prelude::*;

fn body(n: usize) -> impl Iterator<Item = u8> {
    (0..n).map(|i| ((i * 31) >> 3) as u8)
}

fn v4(proto: u8, len: usize) -> Vec<u8> {
    let mut p = vec![0x45, 0x08, 0, 0, 0x12, 0xfe, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    p[2..4].copy_from_slice(&((20 + len) as u16).to_be_bytes());
    let sum = checksum::finish(checksum::sum(&p, 0));
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p
}

fn tcp_header(flags: u8) -> [u8; 20] {
    [0x30, 0x39, 0, 80, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 7, 0x50, flags, 1, 0, 0, 0, 0, 0]
}

fn seal(p: &mut [u8]) {
    let l = Layout::find(p, 0).unwrap();
    let field = l.th + l.csum_offset();
    p[field..field + 2].fill(0);
    let sum = checksum::add(l.pseudo(p, l.end - l.th), checksum::sum(&p[l.th..l.end], 0));
    let sum = nonzero(l.csum_offset(), checksum::finish(sum));
    p[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

/// A TCP segment over IPv4 with DF, checksums complete.
pub(crate) fn tcp4(payload: usize, flags: u8) -> Vec<u8> {
    let mut p = v4(6, 20 + payload);
    p.extend(tcp_header(flags));
    p.extend(body(payload));
    seal(&mut p);
    p
}

/// The same over IPv6.
pub(crate) fn tcp6(payload: usize) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 1, 0, 0, 6, 64];
    p[4..6].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
    p.extend([0xfd; 16]);
    p.extend([0xfe; 16]);
    p.extend(tcp_header(0x10));
    p.extend(body(payload));
    seal(&mut p);
    p
}

/// A UDP datagram over IPv4.
pub(crate) fn udp4(payload: usize) -> Vec<u8> {
    let mut p = v4(17, 8 + payload);
    p.extend([0, 53, 0, 54]);
    p.extend(((8 + payload) as u16).to_be_bytes());
    p.extend([0, 0]);
    p.extend(body(payload));
    seal(&mut p);
    p
}

/// A packet as the stack sends it: headers in the head, the sum of the pseudo-header in the checksum field.
fn open(bytes: &[u8], gso_type: GsoType, mss: u16) -> Skb {
    let l = Layout::find(bytes, 0).unwrap();
    let mut skb = Skb::from_slice(&bytes[l.payload..]);
    let h = skb.push(l.payload).unwrap();
    h.copy_from_slice(&bytes[..l.payload]);
    let field = l.th + l.csum_offset();
    h[field..field + 2].copy_from_slice(&checksum::fold(l.pseudo(bytes, l.end - l.th)).to_be_bytes());
    skb.csum = Csum::Partial { start: l.th as u16, offset: l.csum_offset() as u16 };
    (skb.gso_type, skb.gso_size) = (gso_type, mss);
    skb
}

fn valid(p: &[u8]) -> bool {
    let l = Layout::find(p, 0).unwrap();
    let ip = l.v6 || checksum::is_valid(checksum::sum(&p[..l.th], 0));
    ip && l.end == p.len() && checksum::is_valid(checksum::add(l.pseudo(p, l.end - l.th), checksum::sum(&p[l.th..], 0)))
}

#[test]
fn segments_have_right_lengths_ids_sequence_numbers_flags_and_checksums() {
    let plain = Caps::ip(1500);
    for (bytes, gso) in
        [(tcp4(5001, CWR | PSH | FIN | 0x10), GsoType::TcpV4), (tcp6(5001), GsoType::TcpV6), (udp4(5001), GsoType::Udp)]
    {
        let skb = open(&bytes, gso, 1400);
        assert!(needed(&plain, &skb));
        let l = Layout::find(&bytes, 0).unwrap();
        let segs: Vec<Vec<u8>> = segment(skb, &plain).map(|s| s.to_vec()).collect();
        assert_eq!(segs.iter().map(|s| s.len() - l.payload).collect::<Vec<_>>(), [1400, 1400, 1400, 801]);
        let joined: Vec<u8> = segs.iter().flat_map(|s| s[l.payload..].to_vec()).collect();
        assert_eq!(joined, bytes[l.payload..]);
        for (i, s) in segs.iter().enumerate() {
            assert!(valid(s), "{gso:?} {i}");
            if !l.v6 {
                assert_eq!(Ipv4Header::parse(s).unwrap().id(), 0x12fe + i as u16);
            }
            if gso == GsoType::TcpV4 {
                let seq = u32::from_be_bytes([s[24], s[25], s[26], s[27]]);
                assert_eq!(seq, 0xffff_f000u32.wrapping_add(1400 * i as u32));
                let want = [0x10 | CWR, 0x10, 0x10, 0x10 | PSH | FIN];
                assert_eq!(s[33], want[i]);
            }
        }
    }
}

/// RFC 9768 §3.2.2: of a counter in the flags each segment has all bits, and a device that would clear one in later
/// segments does not cut.
#[test]
fn cwr_of_a_counter_is_in_each_segment() {
    let tso = Caps { tso: true, tx_csum: true, ..Caps::ip(1500) };
    for (every_cwr, want) in [(false, [true, false, false, false]), (true, [true; 4])] {
        let mut skb = open(&tcp4(5001, CWR | 0x10), GsoType::TcpV4, 1400);
        skb.every_cwr = every_cwr;
        assert_eq!(needed(&tso, &skb), every_cwr);
        assert!(!needed(&Caps { every_cwr: true, ..tso }, &skb));
        let segs: Vec<Vec<u8>> = segment(skb, &Caps::ip(1500)).map(|s| s.to_vec()).collect();
        assert_eq!(segs.iter().map(|s| s[33] & CWR != 0).collect::<Vec<_>>(), want);
        assert!(segs.iter().all(|s| valid(s)));
    }
}

#[test]
fn the_urgent_pointer_counts_from_each_segment_and_ends_where_nothing_urgent_lies_ahead() {
    let (pointer, ptr_at) = (2900u16, 20 + 18);
    let mut bytes = tcp4(5001, 0x10 | URG);
    bytes[ptr_at..ptr_at + 2].copy_from_slice(&pointer.to_be_bytes());
    let segs: Vec<Vec<u8>> = segment(open(&bytes, GsoType::TcpV4, 1400), &Caps::ip(1500)).map(|s| s.to_vec()).collect();
    let seen: Vec<_> = segs.iter().map(|s| (s[33] & URG != 0, u16::from_be_bytes([s[38], s[39]]))).collect();
    assert_eq!(seen, [(true, 2900), (true, 1500), (true, 100), (false, 0)]);
    assert!(segs.iter().all(|s| valid(s)));
}

#[test]
fn a_device_that_sums_but_does_not_cut_gets_open_checksums_of_the_new_length() {
    let caps = Caps { tx_csum: true, ..Caps::ip(1500) };
    let bytes = tcp4(3000, 0x10);
    let segs: Vec<Skb> = segment(open(&bytes, GsoType::TcpV4, 1400), &caps).collect();
    assert_eq!(segs.len(), 3);
    for mut s in segs {
        assert_eq!(s.csum, Csum::Partial { start: 20, offset: 16 });
        assert!(complete_checksum(&mut s));
        assert!(valid(&s.to_vec()));
    }
}

#[test]
fn a_packet_that_the_device_can_take_is_not_changed() {
    let bytes = tcp4(5000, 0x10);
    let able = Caps { tx_csum: true, tso: true, ..Caps::ip(1500) };
    assert!(!needed(&able, &open(&bytes, GsoType::TcpV4, 1400)));
    assert!(needed(&Caps { gso_max_size: 4000, ..able }, &open(&bytes, GsoType::TcpV4, 1400)));
    assert!(needed(&Caps { gso_max_segs: 3, ..able }, &open(&bytes, GsoType::TcpV4, 1400)));
    assert!(needed(&able, &open(&udp4(5000), GsoType::Udp, 1400)), "no USO");
    assert!(needed(&Caps { scatter_gather: false, ..able }, &open(&tcp4(5, 0x10), GsoType::None, 0)));
    assert!(!needed(&Caps::ip(1500), &Skb::from_slice(&tcp4(5, 0x10))));
}

#[test]
fn a_device_without_gather_gets_one_slice() {
    let caps = Caps { scatter_gather: false, ..Caps::ip(1500) };
    let bytes = tcp4(3000, 0x10);
    for s in segment(open(&bytes, GsoType::TcpV4, 1400), &caps) {
        assert_eq!(s.slices().count(), 1);
        assert!(valid(&s.to_vec()));
    }
    let one: Vec<Skb> = segment(open(&tcp4(100, 0x10), GsoType::None, 0), &caps).collect();
    assert_eq!(one[0].slices().count(), 1);
    assert!(valid(&one[0].to_vec()));
}

#[test]
fn completing_a_checksum_works_in_pages_too_and_refuses_fields_outside() {
    let bytes = udp4(301);
    for in_page in [false, true] {
        let mut skb = open(&bytes, GsoType::None, 0);
        if in_page {
            let csum = skb.csum;
            skb = Skb::from_slice(&skb.to_vec());
            skb.csum = csum;
        }
        assert!(complete_checksum(&mut skb));
        assert_eq!(skb.to_vec(), bytes);
        assert!(!complete_checksum(&mut skb), "done already");
        skb.csum = Csum::Partial { start: 320, offset: 16 };
        assert!(!complete_checksum(&mut skb));
    }
}

#[test]
fn a_capture_sees_single_segments_with_complete_checksums() {
    let bytes = tcp4(3000, 0x18);
    let mut skb = open(&bytes, GsoType::TcpV4, 1000);
    let before = skb.to_vec();
    let mut seen = vec![];
    wire_frames(&skb, 0, &mut |f| seen.push(f.to_vec()));
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|f| valid(f)));
    skb.csum = Csum::Unnecessary;
    skb.gso_size = 0;
    seen.clear();
    wire_frames(&skb, 0, &mut |f| seen.push(f.to_vec()));
    assert_eq!(seen, [bytes]);
    assert_eq!(skb.to_vec(), before);
}

/// `n` consecutive segments of `mss` bytes; `tweak` changes one of them before its checksum is computed.
fn train(n: usize, mss: usize, tweak: impl Fn(usize, &mut Vec<u8>)) -> Vec<Vec<u8>> {
    let bytes = tcp4(n * mss, 0x10);
    let mut v: Vec<Vec<u8>> =
        segment(open(&bytes, GsoType::TcpV4, mss as u16), &Caps::ip(1500)).map(|s| s.to_vec()).collect();
    for (i, p) in v.iter_mut().enumerate() {
        let before = p.clone();
        tweak(i, p);
        if *p != before {
            p[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(&p[..20], 0));
            p[10..12].copy_from_slice(&sum.to_be_bytes());
            seal(p);
        }
    }
    v
}

fn coalesce(packets: &[Vec<u8>]) -> Vec<Skb> {
    let mut gro = Gro::default();
    let mut out = vec![];
    for p in packets {
        gro.receive(Skb::from_slice(p), &|_| None, &mut |s| out.push(s));
    }
    gro.flush(&mut |s| out.push(s));
    out
}

#[test]
fn a_train_of_segments_becomes_the_packet_it_was_cut_from() {
    let out = coalesce(&train(5, 1000, |_, _| {}));
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].rx_segs, out[0].gso_size, out[0].gso_type), (5, 1000, GsoType::TcpV4));
    assert_eq!(out[0].csum, Csum::Unnecessary);
    let (mut got, want) = (out[0].to_vec(), tcp4(5000, 0x10));
    got[36..38].copy_from_slice(&want[36..38]); // the TCP checksum is marked as verified, not recomputed
    assert_eq!(got, want);
}

#[test]
fn coalescing_stops_where_linux_stops() {
    type Tweak = fn(usize, &mut Vec<u8>);
    let rows: [(&str, Tweak, &[u16]); 14] = [
        ("PSH ends a packet", |i, p| p[33] |= if i == 1 { PSH } else { 0 }, &[2, 3]),
        ("FIN ends a packet", |i, p| p[33] |= if i == 2 { FIN } else { 0 }, &[3, 2]),
        ("SYN is alone", |i, p| p[33] |= if i == 2 { 2 } else { 0 }, &[2, 1, 2]),
        ("RST is alone", |i, p| p[33] |= if i == 2 { 4 } else { 0 }, &[2, 1, 2]),
        ("URG is alone", |i, p| p[33] |= if i == 2 { 0x20 } else { 0 }, &[2, 1, 2]),
        ("CWR of one", |i, p| p[33] |= if i == 2 { CWR } else { 0 }, &[2, 1, 2]),
        ("CWR of all, as of a counter that stands", |_, p| p[33] |= CWR, &[5]),
        ("AE of one", |i, p| p[32] |= (i == 2) as u8, &[2, 1, 2]),
        ("another acknowledgement", |i, p| p[31] += (i >= 3) as u8, &[3, 2]),
        ("another window", |i, p| p[35] += (i >= 3) as u8, &[3, 2]),
        ("another TOS (a CE mark)", |i, p| p[1] |= if i == 2 { 3 } else { 0 }, &[2, 1, 2]),
        ("another TTL", |i, p| p[8] -= (i >= 1) as u8, &[1, 4]),
        ("a hole", |i, p| p[24] = p[24].wrapping_add((i >= 3) as u8 * 9), &[3, 2]),
        ("another port", |i, p| p[21] += (i >= 3) as u8, &[3, 2]),
    ];
    for (case, tweak, want) in rows {
        let out = coalesce(&train(5, 1000, tweak));
        assert_eq!(out.iter().map(|s| s.rx_segs).collect::<Vec<_>>(), want, "{case}");
        let bytes: usize = out.iter().map(|s| s.len() - 40).sum();
        assert_eq!(bytes, 5000, "{case}");
        let cwr = |s: &Skb| s.linear()[33] & CWR != 0;
        assert!(out.iter().all(|s| s.every_cwr == (s.rx_segs > 1 && cwr(s))), "{case}");
    }
}

#[test]
fn ids_count_only_without_df() {
    let ids = |i: usize, p: &mut Vec<u8>| p[5] = (i * 3) as u8;
    assert_eq!(coalesce(&train(4, 1000, ids)).len(), 1);
    let no_df = |i: usize, p: &mut Vec<u8>| {
        p[6] = 0;
        ids(i, p);
    };
    assert_eq!(coalesce(&train(4, 1000, no_df)).len(), 4);
    assert_eq!(coalesce(&train(4, 1000, |_, p| p[6] = 0)).len(), 1);
}

#[test]
fn a_short_segment_ends_a_packet_and_a_wrong_checksum_is_passed_on_alone() {
    let mut t = train(5, 1000, |_, _| {});
    t[2] = {
        let mut p = t[2][..540].to_vec();
        p[2..4].copy_from_slice(&540u16.to_be_bytes());
        p[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&p[..20], 0));
        p[10..12].copy_from_slice(&sum.to_be_bytes());
        seal(&mut p);
        p
    };
    assert_eq!(coalesce(&t).iter().map(|s| s.rx_segs).collect::<Vec<_>>(), [3, 2]);
    let mut t = train(5, 1000, |_, _| {});
    t[2][500] ^= 1;
    let out = coalesce(&t);
    assert_eq!(out.iter().map(|s| (s.rx_segs, s.csum)).collect::<Vec<_>>()[1], (1, Csum::None));
    assert_eq!(out.len(), 3);
}

#[test]
fn acknowledgements_pass_behind_the_data_of_their_flow_and_link_padding_goes() {
    let mut t = train(2, 1000, |_, _| {});
    let mut ack = tcp4(0, 0x10);
    ack.resize(46, 0);
    t.push(ack);
    let out = coalesce(&t);
    assert_eq!(out.iter().map(|s| s.len()).collect::<Vec<_>>(), [2040, 40]);
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]
    #[test]
    fn any_bytes_pass_through_coalescing_without_panic_or_loss(
        mut packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..6), v6: bool,
    ) {
        for p in packets.iter_mut() {
            if p.len() > 9 {
                p[0] = if v6 { 0x60 } else { 0x45 };
                p[if v6 { 6 } else { 9 }] = 6;
            }
        }
        prop_assert_eq!(coalesce(&packets).len(), packets.len());
    }

    #[test]
    fn cutting_and_coalescing_are_inverse(payload in 1usize..60_000, mss in 536u16..9000) {
        let bytes = tcp4(payload, 0x10);
        let pieces = segment(open(&bytes, GsoType::TcpV4, mss), &Caps::ip(1500));
        let cut: Vec<Vec<u8>> = pieces.map(|s| s.to_vec()).collect();
        prop_assert_eq!(cut.len(), payload.div_ceil(usize::from(mss)));
        for p in &cut {
            prop_assert!(valid(p));
        }
        let out = coalesce(&cut);
        prop_assert_eq!(out.len(), 1);
        let mut got = out[0].to_vec();
        got[36..38].copy_from_slice(&bytes[36..38]);
        prop_assert_eq!(got, bytes);
    }
}
