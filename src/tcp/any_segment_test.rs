//! Any segment in any state, with a hook that does whatever it can or without: no panic, and what `invariants` says
//! holds at each release, which debug builds check.

use super::peer_test::{ACK, Conn, Host, ISS, SYN, SYN_OPTIONS, Seg, sack};
use super::sock_ops::tests::Restless;
use crate::base::cases::so_many;
use crate::base::env::Duration;
use crate::device::capture_test::Bench;
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Act {
    /// A segment near the connection's own numbers.
    Near {
        seq: i32,
        ack: i32,
        flags: u8,
        window: u16,
        urgent: u16,
        options: Vec<u8>,
        len: usize,
    },
    /// A well-formed selective acknowledgement, of bytes sent or not.
    Sack {
        ack: i32,
        blocks: Vec<(i32, i32)>,
    },
    /// A segment with one byte changed after its checksum was made.
    Broken {
        at: usize,
        value: u8,
    },
    /// Bytes behind an IPv4 header.
    Bytes(Vec<u8>),
    /// For the listener.
    Syn {
        port: u16,
        flags: u8,
        options: Vec<u8>,
    },
    Wait(u64),
    Send(usize),
    Recv(usize),
    Shutdown(i32),
}

/// Differences that matter: at the edges of segments and windows, and anything.
fn near() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => prop::sample::select(vec![0, 0, 0, 1, -1, 100, 536, 1460, 2920, 14_600]),
        2 => -2000..70_000i32,
        1 => any::<i32>(),
    ]
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(SYN_OPTIONS.to_vec()),
        1 => any::<[u8; 8]>().prop_map(|b| [&[1, 1, 8, 10][..], &b].concat()),
    ]
}

fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        6 => Just(ACK),
        2 => Just(ACK | 8),
        1 => Just(ACK | 1),
        1 => Just(ACK | 32),
        1 => any::<u8>().prop_map(|f| f & !4),
        1 => any::<u8>(),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let segment = (near(), near(), flags(), any::<u16>(), any::<u16>(), options(), 0..1500usize);
    prop_oneof![
        10 => segment.prop_map(|(seq, ack, flags, window, urgent, options, len)| {
            Act::Near { seq, ack, flags, window, urgent, options, len }
        }),
        4 => (near(), prop::collection::vec((near(), near()), 1..4))
            .prop_map(|(ack, blocks)| Act::Sack { ack, blocks }),
        1 => (0..100usize, any::<u8>()).prop_map(|(at, value)| Act::Broken { at, value }),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Act::Bytes),
        1 => (any::<u16>(), flags(), options()).prop_map(|(port, flags, options)| Act::Syn { port, flags, options }),
        3 => prop_oneof![0..5u64, 0..2000u64, 0..200_000u64].prop_map(Act::Wait),
        4 => (1..20_000usize).prop_map(Act::Send),
        2 => (1..20_000usize).prop_map(Act::Recv),
        1 => (0..3i32).prop_map(Act::Shutdown),
    ]
}

/// The connection's present numbers: what the stack expects next, and its first unacknowledged.
fn numbers(c: &Conn) -> (u32, u32) {
    c.tcb(|tp| (tp.rcv_nxt.0, tp.snd_una.0))
}

fn play(host: &Host, c: &Conn, act: &Act) {
    let (rcv_nxt, una) = numbers(c);
    let plus = |n: u32, d: i32| n.wrapping_add_signed(d);
    match act {
        Act::Near { seq, ack, flags, window, urgent, options, len } => {
            let (seq, ack) = (plus(rcv_nxt, *seq), plus(una, *ack));
            let (window, urgent, options, data) = (*window, *urgent, options.clone(), vec![7; *len]);
            host.put(&Seg { window, urgent, options, data, ..Seg::new(c.port, *flags, seq, ack) });
        }
        Act::Sack { ack, blocks } => {
            let blocks: Vec<_> = blocks.iter().map(|(a, b)| (plus(una, *a), plus(una, *b))).collect();
            let options = sack(&blocks);
            host.put(&Seg { options, ..Seg::new(c.port, ACK, rcv_nxt, plus(una, *ack)) });
        }
        Act::Broken { at, value } => {
            let data = vec![1; 50];
            let mut b = Seg { data, ..Seg::new(c.port, ACK, rcv_nxt, una) }.bytes();
            b[*at % 90] = *value;
            host.bench.inject(&b);
        }
        Act::Bytes(bytes) => {
            let mut b = Seg { data: Vec::new(), ..Seg::new(c.port, ACK, 0, 0) }.bytes();
            b.truncate(20);
            b.extend(bytes);
            let len = (b.len() as u16).to_be_bytes();
            b[2..4].copy_from_slice(&len);
            crate::wire::ip::fill_checksum(&mut b[..20]);
            host.bench.inject(&b);
        }
        Act::Syn { port, flags, options } => {
            host.put(&Seg { options: options.clone(), ..Seg::new(*port, SYN | flags, ISS, una) });
        }
        Act::Wait(ms) => drop(host.wait(Duration::from_millis(*ms))),
        // What a call answers depends on what came before; here it is enough that it answers.
        Act::Send(n) => drop(c.send(*n)),
        Act::Recv(n) => drop(c.recv(*n)),
        Act::Shutdown(how) => drop(c.socket.shutdown(*how)),
    }
    host.sent();
}

proptest! {
    #![proptest_config(so_many(96))]

    #[test]
    fn any_segments_leave_every_connection_consistent(
        acts in prop::collection::vec(act(), 1..60),
        syn in prop::sample::select(vec![SYN_OPTIONS, &[], &[2, 4, 0, 1], &[2, 4, 2, 24, 4, 2, 0, 0]]),
        restless: bool,
    ) {
        let bench = Bench::on_ip();
        if restless {
            crate::tcp::sock_ops::register(&bench.stack, Arc::new(Restless::default())).unwrap();
        }
        let host = Host::on(bench, 5);
        let c = host.connect(4000, syn);
        for a in &acts {
            play(&host, &c, a);
        }
        drop(c);
        host.wait(Duration::from_secs(2000));
        while let Ok((s, _)) = host.listener.accept() {
            drop(s);
        }
        host.wait(Duration::from_secs(2000));
        prop_assert_eq!(host.accounts(), (1, 0), "sockets and pages of memory");
    }
}
