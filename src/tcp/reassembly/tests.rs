use super::*;
use crate::sock::msg::RecvMsg;
use crate::tcp::input::rcv_established;
use crate::tcp::peer_test::{ACK, Host, PSH, SYN_OPTIONS, Seg};
use crate::tcp::testing::Bench;
use crate::wire::seq::RawWindow;
use crate::wire::tcp::{TcpFlags, TcpRepr};
use std::io::IoSliceMut;

const BASE: u32 = 5000;

/// Bytes `from..to` of the stream, byte n being n % 251, counted from the first byte expected.
pub(in crate::tcp) fn data(b: &Bench, from: u32, to: u32, flags: TcpFlags) {
    labelled(b, from, to, flags, 0);
}

/// The same with a flow label of IPv6.
fn labelled(b: &Bench, from: u32, to: u32, flags: TcpFlags, flow_label: u32) {
    b.with(|cx| {
        let mut bytes = vec![0; 20];
        let ack = cx.tp.snd_una;
        TcpRepr {
            src_port: 2000,
            dst_port: 1000,
            seq: SeqNum(BASE) + from,
            ack,
            flags: TcpFlags::ACK | flags,
            window: RawWindow(8192),
            urgent: 0,
            options_len: 0,
        }
        .emit(&mut bytes);
        bytes.extend((from..to).map(|n| (n % 251) as u8));
        let mut skb = Skb::from_slice(&bytes);
        crate::tcp::rcv::fill_cb(&mut skb, 0, 64, cx.now).unwrap();
        skb.tcp.flow_label = flow_label;
        rcv_established(cx, skb);
    });
}

pub(in crate::tcp) fn receiver() -> Bench {
    let b = Bench::established();
    b.with(|cx| {
        cx.tp.rcv_wnd = 60_000;
        cx.tp.rcv_ssthresh = 60_000;
        cx.tp.window_clamp = 65_535;
        cx.tp.advmss = 1460;
    });
    b
}

/// Everything that can be read, each byte once.
fn stream(b: &Bench) -> Vec<u8> {
    b.with(|cx| {
        let mut out = Vec::new();
        for s in cx.sk.receive_queue.iter() {
            let have = BASE + out.len() as u32;
            let skip = SeqNum(have).since(s.tcp.seq) as usize;
            out.extend(s.to_vec().into_iter().skip(skip));
        }
        out
    })
}

fn expected(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

fn charged(b: &Bench) -> bool {
    b.with(|cx| {
        let queued: i64 = cx.sk.receive_queue.iter().chain(cx.tp.ooo_queue.iter()).map(|s| s.truesize as i64).sum();
        queued == cx.sock.rmem_alloc.load(Ordering::Relaxed) as i64
    })
}

/// Counts of Linux 6.18 for the same segments.
#[test]
fn data_that_comes_again_another_way_changes_the_way_of_acknowledgements() {
    let b = receiver();
    b.with(|cx| {
        cx.sk.daddr = std::net::Ipv6Addr::LOCALHOST.into();
        (cx.tp.txhash, cx.sk.txrehash) = (7, true);
    });
    for (case, from, to, label, count) in [
        ("new", 0, 1000, 0x11, 0),
        ("again, the same way", 0, 1000, 0x11, 0),
        ("another way", 0, 1000, 0x22, 1),
        ("that way again", 0, 1000, 0x22, 1),
        ("new data, a third way", 1000, 2000, 0x33, 1),
        ("it again", 1000, 2000, 0x33, 1),
        ("partly new", 1000, 3000, 0x34, 1),
    ] {
        labelled(&b, from, to, TcpFlags::PSH, label);
        assert_eq!(b.stack.mib.get(Mib::TcpExtTcpDuplicateDataRehash), count, "{case}");
    }
    assert_ne!(b.with(|cx| cx.tp.txhash), 7);
    // Not after a timeout of our own, and not against SO_TXREHASH.
    b.with(|cx| cx.tp.ca_state = CaState::Loss);
    labelled(&b, 0, 1000, TcpFlags::PSH, 0x44);
    b.with(|cx| (cx.tp.ca_state, cx.sk.txrehash) = (CaState::Open, false));
    labelled(&b, 0, 1000, TcpFlags::PSH, 0x55);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTcpDuplicateDataRehash), 1);
}

#[test]
fn any_order_of_overlapping_pieces_gives_each_byte_once_and_charges_what_is_queued() {
    for pieces in [
        &[(0, 100), (100, 200), (200, 300)][..],
        &[(200, 300), (100, 200), (0, 100)],
        &[(50, 150), (140, 300), (100, 120), (0, 60)],
        &[(100, 200), (100, 200), (50, 250), (0, 300)],
        &[(10, 20), (30, 40), (50, 60), (5, 100), (90, 300), (0, 10)],
        &[(0, 150), (100, 300), (0, 300)],
        &[(299, 300), (1, 299), (0, 1)],
    ] {
        let b = receiver();
        for &(from, to) in pieces {
            data(&b, from, to, TcpFlags::NONE);
            assert!(charged(&b), "{pieces:?} at {from}");
        }
        assert_eq!(b.with(|cx| cx.tp.rcv_nxt), SeqNum(BASE + 300), "{pieces:?}");
        assert_eq!(stream(&b), expected(300), "{pieces:?}");
        assert_eq!(b.with(|cx| (cx.tp.ooo_queue.len(), cx.tp.num_sacks)), (0, 0), "{pieces:?}");
    }
}

#[test]
fn a_hole_draws_an_acknowledgement_at_once_that_names_the_block() {
    let b = receiver();
    data(&b, 1000, 2000, TcpFlags::NONE);
    let out = b.sent();
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].ack, out[0].options.as_str()), (BASE, "nop,nop,sack 6000:7000"));
    data(&b, 1000, 2000, TcpFlags::NONE);
    let out = b.sent();
    assert_eq!(out[0].options, "nop,nop,sack 6000:7000 6000:7000");
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPDSACKOfoSent), 1);
    data(&b, 0, 1000, TcpFlags::NONE);
    let out = b.sent();
    assert_eq!((out[0].ack, out[0].options.as_str()), (BASE + 2000, ""));
}

#[test]
fn a_fin_closes_the_receiving_half_once_everything_before_it_has_come() {
    let b = receiver();
    data(&b, 100, 200, TcpFlags::FIN);
    assert_eq!(b.with(|cx| cx.state()), State::Established);
    data(&b, 0, 100, TcpFlags::NONE);
    b.with(|cx| {
        assert_eq!(cx.state(), State::CloseWait);
        assert!(cx.sock.rcv_shutdown());
        assert_eq!(cx.tp.rcv_nxt, SeqNum(BASE + 201));
    });
    assert_eq!(stream(&b), expected(200));
}

#[test]
fn tiny_out_of_order_segments_cannot_hold_more_than_the_buffer() {
    let b = receiver();
    b.with(|cx| cx.sk.set_flag(flag::RCVBUF_LOCK, true));
    for i in 0..3000u32 {
        let at = 10 + (i * 7919 % 10_000) * 4;
        data(&b, at, at + 1, TcpFlags::NONE);
    }
    b.with(|cx| {
        let (used, limit) = (cx.sock.rmem_alloc.load(Ordering::Relaxed), cx.sock.rcvbuf.load(Ordering::Relaxed));
        assert!(used <= limit + 4096, "{used} of {limit}");
        assert!(cx.stack.mib.get(Mib::TcpExtOfoPruned) > 0);
    });
    assert!(charged(&b));
}

#[test]
fn a_piece_is_dropped_that_the_second_of_two_overlapping_ones_covers() {
    let b = receiver();
    for (from, to) in [(2920, 3510), (1760, 2922), (2921, 3475)] {
        data(&b, from, to, TcpFlags::NONE);
    }
    assert_eq!(b.with(|cx| cx.tp.ooo_queue.len()), 2);
    assert_eq!(b.stack.mib.get(Mib::TcpExtTCPOFOMerge), 1);
    data(&b, 0, 1760, TcpFlags::NONE);
    assert_eq!(stream(&b), expected(3510));
    assert!(charged(&b));
}

#[test]
fn receive_time_is_shown_of_packets_that_came_after_it_was_wanted() {
    let host = Host::new(8);
    let c = host.connect(4000, SYN_OPTIONS);
    let put = |at: u32| host.put(&Seg { data: vec![b'x'], seq: c.seq.wrapping_add(at), ..c.seg(ACK | PSH) });
    let times = || {
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        let mut msg = RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
        assert_eq!(c.socket.recvmsg(&mut msg), Ok(1));
        msg.control.len()
    };
    let want = |on: i32| c.socket.setsockopt(libc::SOL_SOCKET, libc::SO_TIMESTAMP, &on.to_ne_bytes()).unwrap();
    put(0);
    want(1);
    assert_eq!(times(), 0, "came before");
    // The first of these waits out of order.
    put(2);
    put(1);
    assert_eq!((times(), times()), (1, 1));
    want(0);
    put(3);
    assert_eq!(times(), 0);
}
