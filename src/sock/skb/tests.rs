use super::*;
use crate::wire::seq::SeqNum;

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7) as u8).collect()
}

#[test]
fn headers_go_in_front_and_come_off_again() {
    let mut s = Skb::from_slice(&bytes(100));
    s.push(20).unwrap().copy_from_slice(&[1; 20]);
    s.push(8).unwrap().copy_from_slice(&[2; 8]);
    assert_eq!((s.len(), s.linear().len()), (128, 28));
    assert!(s.push(HEAD).is_none());
    assert!(s.pull(28));
    assert_eq!(s.to_vec(), bytes(100));
    assert!(!s.pull(101));
}

/// What SO_MEMINFO of the kernel says for segments without options over TUN.
#[test]
fn a_received_packet_is_charged_as_on_linux() {
    let mut s = Skb::new();
    for (payload, want) in [
        (1, 832),
        (150, 832),
        (160, 1_280),
        (600, 1_280),
        (601, 2_304),
        (1_624, 2_304),
        (1_625, 4_352),
        (3_672, 4_352),
        (3_673, 8_448),
        (7_768, 8_448),
        (7_769, 12_544),
        (12_000, 16_640),
        (60_000, 61_696),
    ] {
        s.charge_received(40 + payload);
        assert_eq!(s.truesize, want, "{payload}");
    }
}

#[test]
fn a_recycled_packet_keeps_nothing_of_its_earlier_use() {
    let mut s = Skb::from_slice(&bytes(100));
    s.push(HEAD).unwrap().fill(7);
    (s.ifindex, s.gso_size, s.tcp.seq, s.cb[5]) = (3, 1448, SeqNum(9), 1);
    let address: *const SkbInner = &*s;
    drop(s);
    let mut s = Skb::new();
    assert!(std::ptr::eq(address, &*s), "it is the same");
    assert_eq!(format!("{:?}", *s), format!("{:?}", SkbInner::empty()));
    assert!(s.unpull(HEAD) && s.linear().iter().all(|b| *b == 0));
}

#[test]
fn a_split_keeps_every_byte_at_every_place() {
    let data = bytes(70_000);
    for at in [0, 1, 255, 256, 65_535, 67_584, 67_585, 69_999, 70_000] {
        let mut a = Skb::from_slice(&data);
        let b = a.split_off(at);
        assert_eq!((a.len(), b.len()), (at, data.len() - at), "{at}");
        assert_eq!([a.to_vec(), b.to_vec()].concat(), data, "{at}");
    }
}

#[test]
fn append_fills_the_last_page_only_while_nobody_shares_it() {
    let mut s = Skb::new();
    s.append(&bytes(10), 10);
    s.append(&bytes(10), 10);
    assert_eq!(s.frags().len(), 1);
    let shared = s.share();
    s.append(&bytes(10), 10);
    assert_eq!(s.frags().len(), 2);
    assert_eq!(shared.to_vec(), [bytes(10), bytes(10)].concat());
    assert_eq!(s.len(), 30);
}

#[test]
fn a_header_across_fragments_becomes_linear() {
    let mut s = Skb::new();
    for f in [&[1u8, 2, 3][..], &[4, 5][..], &[6, 7, 8, 9][..]] {
        s.push_frag(Frag::from_slice(f).next().unwrap());
    }
    assert!(s.may_pull(6));
    assert_eq!(s.linear(), &[1, 2, 3, 4, 5, 6]);
    assert_eq!(s.to_vec(), vec![1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(!s.may_pull(10));
}

#[test]
fn trim_and_shrink_keep_the_front() {
    let mut s = Skb::from_slice(&bytes(60_000));
    s.trim(100);
    assert_eq!(s.to_vec(), bytes(100));
    s.shrink();
    assert_eq!((s.to_vec(), s.truesize), (bytes(100), SKB_OVERHEAD + 256));
}
