//! What a segment costs with much in flight or out of order: an acknowledgement in a window of 10^3 and of 10^5 packets
//! of which one in a hundred is lost, and one-byte segments that fill a receive buffer of 32 MiB in several orders,
//! beside in-order ones. A stack in virtual time, and a peer made by hand.

use crate::figure::Panel;
use crate::measure::Bench;
use crate::report::{Report, Row, Target, Unit};
use crate::wire::{self, HERE, ISS, PORT, Wire};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use usersock::driver::Parked;
use usersock::env::{Instant, SeededEntropy, VirtualClock};
use usersock::internal::wire::tcp::TcpFlags;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::skb::Skb;
use usersock::stack::{Stack, StackConfig};

const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The least MSS that the stack accepts.
const MSS: u32 = 48;

/// An accepted connection of a stack with one device, and its peer.
struct Peer {
    stack: Arc<Stack>,
    clock: Arc<VirtualClock>,
    wire: Arc<Wire>,
    socket: Socket,
    /// The stack's first data sequence number.
    first: u32,
    now: Instant,
}

impl Peer {
    fn new() -> Peer {
        let clock = Arc::new(VirtualClock::new());
        let now = Instant::from_secs(100);
        clock.set(now);
        let config = StackConfig::new(clock.clone(), Arc::new(SeededEntropy::new(1)), Arc::new(Parked::default()));
        let stack = usersock::standard::stack(config).expect("a stack");
        for (name, value) in [
            ("net.core.wmem_max", "1000000000"),
            ("net.core.rmem_max", "1000000000"),
            ("net.ipv4.tcp_mem", "10000000 10000000 10000000"),
            ("net.ipv4.tcp_congestion_control", "reno"),
        ] {
            stack.sysctl.set(name, value).expect(name);
        }
        let wire = Arc::new(Wire::new(1, |_, _| 0));
        let dev = stack.add_device(wire.clone()).expect("a device");
        usersock::ip::route::add_address(&stack, &dev, "10.0.0.1/24".parse().expect("an address")).expect("added");
        let listener = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
        let set = |name, value: i32| listener.setsockopt(libc::SOL_SOCKET, name, &value.to_ne_bytes()).expect("set");
        set(libc::SO_SNDBUF, 500_000_000);
        set(libc::SO_RCVBUF, 16 << 20);
        listener.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).expect("set");
        listener.bind(SocketAddr::from((HERE, PORT))).expect("bind");
        listener.listen(1).expect("listen");
        listener.set_nonblocking(true);
        let options = [2, 4, 0, MSS as u8, 1, 1, 4, 2, 1, 3, 3, 14];
        let send = |seq, ack, flags, options: &[u8]| {
            wire.put([segment(seq, ack, flags, options, &[])], &stack, || now);
        };
        send(ISS, 0, TcpFlags::SYN, &options);
        let first = wire.sent_to(0);
        send(ISS.wrapping_add(1), first, TcpFlags::ACK, &[]);
        let (socket, _) = listener.accept().expect("a connection");
        socket.set_nonblocking(true);
        Peer { stack, clock, wire, socket, first, now }
    }

    /// Gives the stack a segment, and returns the processor time that it took.
    fn put(&self, skb: Skb) -> Duration {
        self.wire.put([skb], &self.stack, || self.now)
    }

    fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.clock.set(self.now);
    }

    /// Writes `n` segments, each of which leaves as a packet of its own.
    fn send(&self, n: u32) {
        let data = [7; MSS as usize];
        for _ in 0..n {
            let sent = self.socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(&data)], libc::MSG_DONTWAIT));
            assert_eq!(sent.ok(), Some(data.len()));
        }
    }

    fn read(&self) {
        let mut room = [0; 4096];
        while let Ok(1..) =
            self.socket.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut room)], libc::MSG_DONTWAIT))
        {}
    }
}

/// A segment of the peer's.
fn segment(seq: u32, ack: u32, flags: TcpFlags, options: &[u8], data: &[u8]) -> Skb {
    wire::segment((THERE, 4000), (seq, ack), flags, options, data)
}

/// Nanoseconds of an acknowledgement with SACK blocks in a window of `n` packets, of which each hundredth is lost: the
/// mean over the second half of the window.
fn acknowledgement(n: u32) -> f64 {
    let mut p = Peer::new();
    let (peer_seq, mut una, mut cwnd) = (ISS.wrapping_add(1), p.first, 10);
    // Slow start, up to a window of all.
    while cwnd < n {
        p.send(cwnd);
        p.advance(10);
        una = una.wrapping_add(cwnd * MSS);
        p.put(segment(peer_seq, una, TcpFlags::ACK, &[], &[]));
        cwnd *= 2;
    }
    p.send(n);
    assert_eq!(p.wire.sent_to(0), una.wrapping_add(n * MSS), "all are in flight");
    p.advance(10);
    let at = |i: u32| una.wrapping_add(i * MSS);
    let (mut holes, mut start, mut sum) = (VecDeque::new(), 1, Duration::ZERO);
    for i in 1..n {
        if i % 100 == 0 {
            holes.push_front((at(start), at(i)));
            holes.truncate(2);
            start = i + 1;
            continue;
        }
        let mut options = vec![1, 1, 5, 2 + 8 * (1 + holes.len() as u8)];
        for (from, to) in std::iter::once((at(start), at(i + 1))).chain(holes.iter().copied()) {
            options.extend(from.to_be_bytes());
            options.extend(to.to_be_bytes());
        }
        let took = p.put(segment(peer_seq, una, TcpFlags::ACK, &options, &[]));
        if i >= n / 2 {
            sum += took;
        }
    }
    sum.as_nanos() as f64 / f64::from(n - n / 2)
}

/// An order of one-byte segments: where the i-th of n goes; in order, if there is none.
type Order = fn(u32, u32) -> u32;

/// Nanoseconds of a segment of one byte, the mean over a third of twice as many as the buffer holds.
fn arrival(order: Option<Order>) -> f64 {
    let p = Peer::new();
    // As many as fill 32 MiB twice, at the least memory that one is charged.
    let n = 2 * (32 << 20) / 768;
    let mut sum = Duration::ZERO;
    // Opens the window.
    let mut seq = ISS.wrapping_add(1);
    for _ in 0..20_000 {
        p.put(segment(seq, p.first, TcpFlags::ACK, &[], &[7; 1400]));
        seq = seq.wrapping_add(1400);
        p.read();
    }
    for i in 0..n {
        let place = order.map_or(i, |place| 1 + 2 * place(i, n));
        let took = p.put(segment(seq.wrapping_add(place), p.first, TcpFlags::ACK, &[], &[1]));
        if order.is_none() {
            p.read();
        }
        if i >= n - n / 3 {
            sum += took;
        }
    }
    sum.as_nanos() as f64 / f64::from(n / 3)
}

/// All of them.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let measure = |id: &str, f: &dyn Fn() -> f64| bench.wants(&format!("windows/{id}")).then(f);
    let [few, middle, many] = [1_000, 10_000, 100_000].map(|n| measure(&format!("ack_{n}"), &|| acknowledgement(n)));
    for (n, ns) in [(1e3, few), (1e4, middle), (1e5, many)] {
        report.point(Panel::Window, "usersock", n, ns);
    }
    let mut line = |what: &str, ours, target| {
        report.row(Row { what: what.into(), unit: Unit::Nanos, ours, kernel: None, peer: None, target });
    };
    line("an ACK with SACK blocks, 10^3 packets in flight, 1 % lost", few, Target::None);
    line("the same with 10^5", many, few.map_or(Target::None, |ns| Target::AtMost(2.0 * ns)));
    let in_order = measure("in_order", &|| arrival(None));
    line("a segment of one byte, in order", in_order, Target::None);
    let orders: [(&str, &str, Order); 5] = [
        ("ascending", "with a hole before each, ascending, 32 MiB full", |i, _| i),
        ("descending", "the same, descending", |i, n| n - i),
        ("random", "the same, at random", |i, n| (u64::from(i) * 2_654_435_761 % u64::from(n)) as u32),
        ("alternating", "the same, every second and then those between", |i, n| {
            if i < n / 2 { 2 * i } else { 2 * (i - n / 2) + 1 }
        }),
        ("duplicates", "the same, each twice", |i, _| i / 2),
    ];
    for (id, what, order) in orders {
        let ns = measure(id, &|| arrival(Some(order)));
        line(what, ns, in_order.map_or(Target::None, |ns| Target::AtMost(3.0 * ns)));
    }
}
