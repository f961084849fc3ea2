//! Tests: hand-written option bytes against their meaning, and emit against parse.

use super::*;
use crate::wire::seq::WindowShift;
use crate::wire::tcp::MAX_OPTIONS_LEN;
use proptest::prelude::*;

fn text(bytes: &[u8]) -> String {
    RawOptions::new(bytes).to_string()
}

#[test]
fn lengths_zero_one_and_beyond_end_the_reading_and_keep_what_was_read() {
    let mss = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
    let unknown = TcpOptions { saw_unknown: true, ..mss };
    for (case, bytes, want) in [
        ("nothing", &[][..], TcpOptions::default()),
        ("end hides the rest", &[0, 2, 4, 5, 180], TcpOptions::default()),
        ("length missing", &[2, 4, 5, 180, 3], mss),
        ("length 0", &[2, 4, 5, 180, 8, 0, 3, 3, 7], mss),
        ("length 1", &[2, 4, 5, 180, 8, 1, 3, 3, 7], mss),
        ("length one beyond", &[2, 4, 5, 180, 3, 4, 7], mss),
        ("length 255", &[2, 4, 5, 180, 99, 255, 3, 3, 7], mss),
        ("an unknown kind is noted and stepped over", &[99, 3, 1, 2, 4, 5, 180], unknown),
        ("an unknown experiment too", &[254, 4, 1, 2, 2, 4, 5, 180], unknown),
        ("a known kind of the wrong length is stepped over", &[2, 3, 9, 2, 4, 5, 180, 3, 2, 4, 3, 1], mss),
        ("mss 0 is ignored", &[2, 4, 5, 180, 2, 4, 0, 0], mss),
        ("the later of two counts", &[2, 4, 1, 1, 2, 4, 5, 180], mss),
    ] {
        assert_eq!(TcpOptions::parse(bytes), want, "{case}");
    }
}

/// As tcp_options_write of Linux has them, and as they are written here; one byte different, and they are read one by
/// one, with the same result where the byte is a value.
#[test]
fn the_options_of_most_syns_are_read_at_once() {
    let usual = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7];
    let syn = SynOptions {
        mss: Some(1460),
        timestamps: Some((1, 2)),
        sack_permitted: true,
        window_scale: Some(WindowShift::clamp(7)),
        ..SynOptions::default()
    };
    let mut written = [0; MAX_OPTIONS_LEN];
    assert_eq!((syn.emit(&mut written), &written[..20]), (20, &usual[..]));
    assert_eq!(syn.usual(), Some(usual));
    let cookie = FastOpenCookie::new(&[7; 8], false);
    let accecn = Some(AccEcn { order1: false, len: 0, fields: [0; 3] });
    for other in [
        SynOptions { mss: None, ..syn },
        SynOptions { timestamps: None, ..syn },
        SynOptions { sack_permitted: false, ..syn },
        SynOptions { window_scale: None, ..syn },
        SynOptions { auth: Some(AuthOption::Md5), ..syn },
        SynOptions { fastopen: cookie, ..syn },
        SynOptions { accecn, ..syn },
    ] {
        assert!(other != syn && other.usual().is_none(), "{other:?}");
    }
    for at in 0..usual.len() {
        for byte in 0..=255 {
            let mut options = usual;
            options[at] = byte;
            let mut slow = TcpOptions::default();
            slow.read(&options);
            assert_eq!(TcpOptions::parse(&options), slow, "{options:?}");
            let value = matches!(at, 2..4 | 8..16 | 19);
            assert_eq!(is_usual_syn(&options), value || byte == usual[at], "{options:?}");
        }
    }
    assert!(!is_usual_syn(&usual[..19]) && !is_usual_syn(&[&usual[..], &[1; 4]].concat()));
}

#[test]
fn sack_takes_one_to_four_whole_blocks() {
    let block = |n: u32| (SeqNum(n), SeqNum(n + 1));
    let body: Vec<u8> = (0..5u32).flat_map(|n| [n.to_be_bytes(), (n + 1).to_be_bytes()].concat()).collect();
    for (len, want) in [(0usize, 0u32), (7, 0), (8, 1), (9, 0), (16, 2), (24, 3), (32, 4)] {
        let mut b = vec![5, 2 + len as u8];
        b.extend(&body[..len]);
        let want: SackBlocks = (0..want).map(block).collect();
        assert_eq!(TcpOptions::parse(&b).sack, want, "{len}");
    }
}

#[test]
fn fast_open_cookies_are_empty_or_even_from_four_to_sixteen() {
    for len in 0..=20usize {
        let fine = [0, 4, 6, 8, 10, 12, 14, 16].contains(&len);
        let cookie: Vec<u8> = (1..=len as u8).collect();
        let plain = [&[34, 2 + len as u8][..], &cookie].concat();
        let exp = [&[254, 4 + len as u8, 0xf9, 0x89][..], &cookie].concat();
        for (bytes, experimental) in [(plain, false), (exp, true)] {
            let got = TcpOptions::parse(&bytes).fastopen;
            assert_eq!(got.is_some(), fine, "{len} {experimental}");
            if let Some(f) = got {
                assert_eq!((f.cookie.bytes(&bytes), f.experimental), (&cookie[..], experimental));
            }
        }
        assert_eq!(FastOpenCookie::new(&cookie, false).is_some(), fine);
    }
    assert_eq!(TcpOptions::parse(&[254, 4, 0xf9, 0x88]).fastopen, None, "another experiment");
}

#[test]
fn signatures_and_accurate_ecn_are_found_with_their_bodies() {
    let mut b = vec![1, 1, 19, 18];
    b.extend(1..=16u8);
    b.extend([29, 6, 1, 2, 3, 4, 172, 5, 7, 8, 9, 174, 2]);
    let o = TcpOptions::parse(&b);
    let body = |x: Option<OptionBody>| x.map(|x| x.bytes(&b).to_vec());
    assert_eq!(body(o.md5), Some((1..=16).collect()));
    assert_eq!(body(o.ao), Some(vec![1, 2, 3, 4]));
    assert_eq!(body(o.accecn0), Some(vec![7, 8, 9]));
    assert_eq!(body(o.accecn1), Some(vec![]));
    assert_eq!(o.md5.unwrap().bytes(&[]), [0u8; 0], "other bytes than were parsed give nothing, not a panic");
}

#[test]
fn only_the_aligned_timestamp_alone_takes_the_fast_path() {
    let ts = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(parse_timestamp_only(&ts), Some((1, 2)));
    for (case, bytes) in [
        ("empty", vec![]),
        ("more after it", [&ts[..], &[1, 1, 1, 1]].concat()),
        ("one short", ts[..11].to_vec()),
        ("other order", [&ts[2..], &[1, 1]].concat()),
        ("sack permitted for the nops", [&[4, 2], &ts[2..]].concat()),
    ] {
        assert_eq!(parse_timestamp_only(&bytes), None, "{case}");
    }
}

#[test]
fn handshake_sets_have_linuxs_order_and_padding() {
    let ts = Some((100, 0));
    let ws = Some(WindowShift::clamp(7));
    let mss = Some(1460);
    let none = SynOptions::default();
    let ask = FastOpenCookie::new(&[], false);
    let cookie = FastOpenCookie::new(&[0xab; 8], false);
    let old = FastOpenCookie::new(&[0xab; 4], true);
    for (o, want) in [
        (none, ""),
        (SynOptions { mss, ..none }, "mss 1460"),
        (
            SynOptions { mss, timestamps: ts, sack_permitted: true, window_scale: ws, ..none },
            "mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7",
        ),
        (
            SynOptions { mss, timestamps: ts, window_scale: ws, ..none },
            "mss 1460,nop,nop,TS val 100 ecr 0,nop,wscale 7",
        ),
        (SynOptions { mss, sack_permitted: true, window_scale: ws, ..none }, "mss 1460,nop,nop,sackOK,nop,wscale 7"),
        (SynOptions { mss, fastopen: ask, ..none }, "mss 1460,kind 34,nop,nop"),
        (SynOptions { mss, fastopen: cookie, ..none }, "mss 1460,kind 34 abababababababab,nop,nop"),
        (SynOptions { fastopen: old, ..none }, "kind 254 f989abababab"),
        (
            SynOptions { auth: Some(AuthOption::Md5), mss, ..none },
            "nop,nop,kind 19 00000000000000000000000000000000,mss 1460",
        ),
    ] {
        let mut b = [0xee; 64];
        let n = o.emit(&mut b);
        assert_eq!((text(&b[..n]).as_str(), n), (want, o.len()));
        assert!(n % 4 == 0 && b[n..].iter().all(|x| *x == 0xee), "{want}");
    }
}

#[test]
fn data_sets_have_linuxs_order_and_as_many_sack_blocks_as_fit() {
    let sack: SackBlocks = (0..4).map(|n| (SeqNum(n * 10), SeqNum(n * 10 + 5))).collect();
    let md5 = Some(AuthOption::Md5);
    let timestamps = Some((1, 2));
    for (auth, timestamps, room, len) in
        [(None, None, 4, 36), (None, timestamps, 3, 40), (md5, None, 2, 40), (md5, timestamps, 0, 32)]
    {
        let o = EstablishedOptions { auth, timestamps, sack, accecn: None };
        assert_eq!((o.sack_room(), o.len()), (room, len));
        let mut b = [0; 40];
        let n = o.emit(&mut b);
        assert_eq!(n, len);
        let back = TcpOptions::parse(&b[..n]);
        assert_eq!(back.sack.as_slice(), &sack.as_slice()[..room]);
        assert_eq!((back.timestamps, back.md5.is_some()), (timestamps, auth.is_some()));
    }
    let mut b = [0; 40];
    let sack = [(SeqNum(1), SeqNum(2))].into_iter().collect();
    let one = EstablishedOptions { sack, timestamps, ..Default::default() };
    let n = one.emit(&mut b);
    assert_eq!(text(&b[..n]), "nop,nop,TS val 1 ecr 2,nop,nop,sack 1:2");
    let (mut alone, mut b) = ([0xff; 12], [0; 40]);
    let n = EstablishedOptions { timestamps, ..Default::default() }.emit(&mut b);
    assert_eq!((emit_timestamp_only(&mut alone, (1, 2)), &alone[..]), (n, &b[..n]));
    assert!(EstablishedOptions::default().len() == 0);
}

/// RFC 9768 §3.2.3: the counters of an AccECN option, and the NOPs of other options in whose place its end stands.
#[test]
fn the_end_of_an_accecn_option_takes_the_place_of_nops() {
    let accecn = |len| Some(AccEcn { order1: true, len, fields: [0x010203, 0x040506, 0x070809] });
    let blocks = |n| (0..n).map(|n| (SeqNum(n * 10), SeqNum(n * 10 + 5))).collect();
    for (len, sacks, want) in [
        (3, 0, &[174, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1][..]),
        (2, 0, &[174, 8, 1, 2, 3, 4, 5, 6]),
        (1, 0, &[174, 5, 1, 2, 3, 1, 1, 1]),
        (0, 0, &[174, 2, 1, 1]),
        (3, 1, &[174, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 1, 1, 5, 10]),
        (2, 1, &[174, 8, 1, 2, 3, 4, 5, 6, 1, 1, 5, 10]),
        (1, 1, &[174, 5, 1, 2, 3, 1, 5, 10]),
        (0, 1, &[174, 2, 5, 10]),
    ] {
        let o = EstablishedOptions { sack: blocks(sacks), accecn: accecn(len), ..Default::default() };
        let mut b = [0; 40];
        let n = o.emit(&mut b);
        assert_eq!(n, o.len(), "{len} {sacks}");
        assert_eq!(&b[..want.len()], want, "{len} {sacks}");
        let back = TcpOptions::parse(&b[..n]);
        let read = back.accecn(&b[..n]).unwrap();
        assert_eq!(
            (read.len, read.fields[..usize::from(len)].to_vec()),
            (len, o.accecn.unwrap().fields[..usize::from(len)].to_vec())
        );
        assert_eq!(back.sack.len(), sacks as usize);
    }
}

/// RFC 9768 §3.2.3.2.5: what is no whole counter is padding; of two options the last counts.
#[test]
fn an_accecn_option_of_odd_length_has_the_counters_that_are_whole() {
    for (bytes, want) in [
        (&[172, 2][..], Some((false, 0, [0; 3]))),
        (&[174, 4, 9, 9], Some((true, 0, [0; 3]))),
        (&[174, 5, 1, 2, 3], Some((true, 1, [0x010203, 0, 0]))),
        (&[172, 9, 1, 2, 3, 4, 5, 6, 7], Some((false, 2, [0x010203, 0x040506, 0]))),
        (&[174, 14, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4], Some((true, 3, [1, 2, 3]))),
        (&[174, 2, 172, 5, 0, 0, 7], Some((false, 1, [7, 0, 0]))),
        (&[172, 5, 0, 0, 7, 174, 2], Some((true, 0, [0; 3]))),
        (&[174, 9, 1], None),
        (&[1, 1], None),
    ] {
        let o = TcpOptions::parse(bytes);
        let want = want.map(|(order1, len, fields)| AccEcn { order1, len, fields });
        assert_eq!(o.accecn(bytes), want, "{bytes:?}");
        assert!(!o.saw_unknown, "{bytes:?}");
    }
}

#[test]
fn a_fifth_sack_block_is_refused() {
    let mut s = SackBlocks::new();
    for n in 0..5 {
        assert_eq!(s.push(SeqNum(n), SeqNum(n + 1)), n < 4);
    }
    s.truncate(1);
    assert_eq!(s.as_slice(), [(SeqNum(0), SeqNum(1))]);
}

/// Bytes that resemble options often enough to reach every branch.
fn optionish() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 8, 19, 29, 34, 172, 174, 254]);
    let one = (kinds, any::<u8>(), prop::collection::vec(any::<u8>(), 0..12), any::<bool>()).prop_map(
        |(kind, len, body, right)| {
            let mut o = vec![kind, if right { body.len() as u8 + 2 } else { len }];
            o.extend(body);
            o
        },
    );
    prop::collection::vec(one, 0..8).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(crate::base::cases::cases())]

    #[test]
    fn any_bytes_never_panic_and_end(bytes in prop_oneof![optionish(), prop::collection::vec(any::<u8>(), 0..64)]) {
        let walked: usize = RawOptions::new(&bytes)
            .map(|o| if o.kind == kind::NOP { 1 } else { 2 + o.data.len() })
            .sum();
        prop_assert!(walked <= bytes.len());
        let o = TcpOptions::parse(&bytes);
        let _ = format!("{} {o:?}", text(&bytes));
        for body in [o.md5, o.ao, o.accecn0, o.accecn1, o.fastopen.map(|f| f.cookie)].into_iter().flatten() {
            prop_assert_eq!(body.bytes(&bytes).len(), body.len());
        }
    }

    #[test]
    fn the_fast_path_agrees_with_the_slow_one(val: u32, ecr: u32) {
        let mut b = [0; 12];
        EstablishedOptions { timestamps: Some((val, ecr)), ..Default::default() }.emit(&mut b);
        let mut slow = TcpOptions::default();
        slow.read(&b);
        prop_assert_eq!(TcpOptions::parse(&b), slow);
        prop_assert_eq!(slow.timestamps, Some((val, ecr)));
    }

    #[test]
    fn a_handshake_set_reads_back_as_written(
        mss in prop::option::of(1u16..), timestamps: Option<(u32, u32)>, sack_permitted: bool,
        shift in prop::option::of(0u8..=14), md5: bool, cookie: [u8; 16], half in 0usize..=8, exp: bool,
        counters in prop::option::of((0u8..=3, any::<[u32; 3]>())),
    ) {
        let fastopen = FastOpenCookie::new(&cookie[..half * 2], exp);
        let window_scale = shift.map(WindowShift::clamp);
        let accecn = counters.map(|(len, f)| {
            let fields = std::array::from_fn(|i| if i < usize::from(len) { f[i] >> 8 } else { 0 });
            AccEcn { order1: true, len, fields }
        });
        let auth = md5.then_some(AuthOption::Md5);
        let o = SynOptions { auth, mss, timestamps, sack_permitted, window_scale, fastopen, accecn };
        let mut b = [0; 80];
        let n = o.emit(&mut b);
        prop_assert_eq!(n, o.len());
        let back = TcpOptions::parse(&b[..n]);
        prop_assert_eq!(back.mss, mss);
        prop_assert_eq!(back.accecn(&b[..n]), accecn);
        prop_assert_eq!(back.timestamps, timestamps);
        prop_assert_eq!(back.sack_permitted, sack_permitted);
        prop_assert_eq!(back.window_scale, shift);
        prop_assert_eq!(back.md5.map(|m| m.bytes(&b).to_vec()), md5.then(|| vec![0; 16]));
        prop_assert_eq!(
            back.fastopen.map(|f| (f.cookie.bytes(&b).to_vec(), f.experimental)),
            fastopen.map(|f| (f.bytes().to_vec(), f.experimental))
        );
    }
}
