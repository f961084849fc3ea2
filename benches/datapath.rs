//! The steps that every packet takes, alone: reading headers, checksums, finding the sock, writing headers.

use crate::measure::{Bench, throughput};
use crate::net::Ours;
use crate::report::{Report, Row, Target, Unit};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use usersock::hash::Tuple;
use usersock::internal::tcp::{Entry, TcpTables, tuple_of_sock};
use usersock::internal::wire::ip::{Ipv4Header, Ipv4Repr};
use usersock::internal::wire::tcp::{TcpFlags, TcpHeader, TcpRepr, fill_checksum};
use usersock::net::Socket;
use usersock::wire::seq::{RawWindow, SeqNum};
use usersock::wire::{checksum, proto};

const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Timestamps with their padding: what data segments carry.
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
/// Connections in the table that is searched.
const CONNECTIONS: u32 = 100_000;

fn build(buf: &mut [u8], payload_len: usize) -> usize {
    let tcp = TcpRepr {
        src_port: 1234,
        dst_port: 80,
        seq: SeqNum(1),
        ack: SeqNum(2),
        flags: TcpFlags::ACK,
        window: RawWindow(512),
        urgent: 0,
        options_len: OPTIONS.len(),
    };
    let ip =
        Ipv4Repr { id: 7, dont_fragment: true, ..Ipv4Repr::new(SRC, DST, proto::TCP, tcp.header_len() + payload_len) };
    let n = ip.emit(buf);
    let t = tcp.emit(&mut buf[n..]);
    buf[n + 20..n + t].copy_from_slice(&OPTIONS);
    n + t
}

/// All of them.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let mut line = |what: &str, ours| {
        report.row(Row { what: what.into(), unit: Unit::Nanos, ours, kernel: None, peer: None, target: Target::None });
    };
    let mut packet = vec![0x5a; 1500];
    let headers = build(&mut packet, 1448);
    fill_checksum(&mut packet[20..], IpAddr::V4(SRC), IpAddr::V4(DST));

    line(
        "parse IPv4 and TCP headers with timestamps",
        bench.simple("datapath", "parse", 0, || {
            let ip = Ipv4Header::parse(black_box(&packet)).expect("IPv4");
            let tcp = TcpHeader::parse(ip.payload()).expect("TCP");
            let o = tcp.parse_options();
            (ip.src(), ip.dst(), tcp.seq(), tcp.ack(), tcp.flags(), tcp.window(), o)
        }),
    );
    line("build IPv4 and TCP headers", bench.simple("datapath", "build", 0, || build(black_box(&mut packet), 1448)));
    assert_eq!(headers, 52);
    for (what, id, len) in
        [("checksum of 1448 B", "checksum_1448", 1448), ("checksum of 64 KiB", "checksum_65536", 65_536)]
    {
        let data = vec![0x5a; len];
        let ns = bench.simple("datapath", id, len as u64, || checksum::sum(black_box(&data), 0));
        line(what, ns);
        if let Some(rate) = throughput(len as u64, ns) {
            println!("{what}: {:.1} GB/s", rate / 1e9);
        }
    }
    if let Some(ns) = lookup(bench) {
        line("find a connection among 100,000", Some(ns));
    }
}

/// A lookup that hits, in random order.
fn lookup(bench: &mut Bench) -> Option<f64> {
    let stack = Ours::loopback().0;
    // The table's values may be any sock.
    let socket = Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).ok()?;
    socket.connect(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)))).ok()?;
    let base = tuple_of_sock(&socket.sock().lock(&stack).common);
    let tables = TcpTables::default();
    let tuple = |i: u32| Tuple { dport: i as u16, daddr: base.daddr.wrapping_add(u128::from(i >> 16)), ..base };
    for i in 0..CONNECTIONS {
        assert!(tables.insert(stack.keys.ehash64(&tuple(i)), Entry::Sock(socket.sock().clone(), 0), |_| false));
    }
    let mut i = 1u32;
    let ns = bench.simple("datapath", "ehash_lookup", 0, || {
        i = i.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tables.established(&stack, &tuple((i >> 8) % CONNECTIONS)).is_some()
    });
    for i in 0..CONNECTIONS {
        tables.remove(stack.keys.ehash64(&tuple(i)), |_| true);
    }
    ns
}
