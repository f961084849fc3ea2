//! What a connection costs when there are many: bytes an end and time a packet with 10^2 to 10^6 established
//! connections in one process, both ends in one stack, and what the end of a time-wait record costs. The largest number
//! is measured only when it is asked for (`cargo bench -- scale`, or with `--readme`): its ends take more than 2 GB.

use crate::alloc;
use crate::figure::Panel;
use crate::measure::{Bench, cpu_time};
use crate::net::{Net, Ours};
use crate::report::{Report, Row, Target, Unit};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use usersock::error::Error;
use usersock::net::{Socket, TcpStream};
use usersock::sim::World;
use usersock::stack::Stack;

/// Numbers of connections.
const SIZES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
/// From here on a number is measured only when it is asked for.
const LARGE: usize = 1_000_000;
/// Connections of a listening port: a client address has less than 65536 ports, and the last ones are hard to find.
const OF_LISTENER: usize = 20_000;
/// Connections that are chosen at a time.
const CHOSEN: usize = 32;
/// Exchanges that are timed.
const EXCHANGES: usize = 20_000;
/// An exchange over one of many costs at most so many times one of 1000.
const GROWTH: f64 = 1.5;
/// Time-wait records.
const RECORDS: usize = 95_000;

/// The rows.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let mut of_thousand: Option<f64> = None;
    let most = if bench.readme || bench.asks("scale") { LARGE } else { LARGE - 1 };
    for n in SIZES.into_iter().filter(|n| *n <= most) {
        let mut bytes = None;
        let nanos = bench.attempt(report, &format!("scale/{n}"), |_| {
            let (end, packet) = measure(n);
            bytes = Some(end);
            Some(packet)
        });
        if n == 1_000 {
            of_thousand = nanos;
        }
        report.point(Panel::Connections, "usersock", n as f64, nanos);
        let (kernel, peer) = (None, None);
        let what = format!("{n} connections, one end");
        report.row(Row { what, unit: Unit::Bytes, ours: bytes, kernel, peer, target: Target::None });
        let what = format!("{n} connections, a byte there and back over one at random");
        let most = of_thousand.filter(|_| n > 1_000).map(|before| GROWTH * before);
        let target = most.map_or(Target::None, Target::AtMost);
        report.row(Row { what, unit: Unit::Nanos, ours: nanos, kernel, peer, target });
        if let (Some(now), Some(before)) = (nanos, of_thousand) {
            let times = now / before;
            report.note(format!("An exchange over one of {n} connections costs {times:.2} times one of 1000."));
        }
    }
    let mut steps = None;
    let ours = bench.attempt(report, "scale/timewait", |_| {
        let (nanos, n) = expiry();
        steps = Some(n);
        Some(nanos)
    });
    let (kernel, peer) = (None, None);
    let what = format!("the end of a time-wait record ({RECORDS} records)");
    report.row(Row { what, unit: Unit::Nanos, ours, kernel, peer, target: Target::AtMost(1000.0) });
    let what = format!("wake-ups for the end of {RECORDS} time-wait records");
    report.row(Row { what, unit: Unit::Count, ours: steps, kernel, peer, target: Target::None });
}

/// Bytes of an end, and CPU nanoseconds of an exchange.
fn measure(n: usize) -> (f64, f64) {
    let net = Ours::loopback();
    net.0.sysctl.set("net.ipv4.ip_local_port_range", "1024 65535").expect("a valid range");
    let listeners: Vec<_> = (0..n.div_ceil(OF_LISTENER)).map(|_| net.listen("127.0.0.1")).collect();
    let mut pairs = Vec::with_capacity(n);
    let ((), bytes, _) = alloc::counted(|| {
        pairs.extend((0..n).map(|i| {
            let (listener, addr) = &listeners[i % listeners.len()];
            let a = net.connect(*addr);
            let mut pair = (a, net.accept(listener));
            exchange(&mut pair);
            pair
        }));
    });
    // A full period of every number below 2^31, in an order that no cache foresees (Knuth, TAOCP 3.2.1).
    let mut at = 1_u32;
    let mut next = || {
        at = at.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
        (at >> 4) as usize % n
    };
    let mut turn = |times: usize| {
        let mut used = Duration::ZERO;
        for _ in 0..times / CHOSEN {
            let chosen: [usize; CHOSEN] = std::array::from_fn(|_| next());
            // Where a program keeps its connections is its own affair, and not measured: their handles are in the cache
            // now, and nothing that they lead to.
            for (a, b) in chosen.map(|i| &pairs[i]) {
                black_box([a, b].map(|end| Arc::as_ptr(end.socket())));
            }
            let start = cpu_time();
            chosen.into_iter().for_each(|i| exchange(&mut pairs[i]));
            used += cpu_time() - start;
        }
        used.as_nanos() as f64 / (times / CHOSEN * CHOSEN) as f64
    };
    turn(1_000);
    let best = (0..5).map(|_| turn(EXCHANGES / 5)).fold(f64::INFINITY, f64::min);
    (bytes as f64 / (2 * n) as f64, best)
}

fn exchange((a, b): &mut (TcpStream, TcpStream)) {
    let mut byte = [7];
    a.write_all(&byte).expect("write");
    b.read_exact(&mut byte).expect("read");
    b.write_all(&byte).expect("write");
    a.read_exact(&mut byte).expect("read");
}

/// CPU nanoseconds of the end of a record, and times at which records ended.
fn expiry() -> (f64, f64) {
    let world = World::new(1);
    let stack = world.stack().expect("a stack");
    stack.sysctl.set("net.ipv4.tcp_max_tw_buckets", "1000000").expect("a valid number");
    stack.sysctl.set("net.ipv4.ip_local_port_range", "1024 65535").expect("a valid range");
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let listeners: Vec<_> = (1..=RECORDS.div_ceil(OF_LISTENER) as u16)
        .map(|port| {
            let l = socket(&stack);
            l.bind(at(port)).expect("a free port");
            l.listen(16).expect("listen");
            (l, at(port))
        })
        .collect();
    for i in 0..RECORDS {
        let (listener, addr) = &listeners[i % listeners.len()];
        let client = socket(&stack);
        assert_eq!(client.connect(Some(*addr)), Err(Error::InProgress));
        world.run_for(Duration::from_micros(5));
        let (server, _) = listener.accept().expect("the handshake is over");
        drop(client);
        world.run_for(Duration::from_micros(5));
        drop(server);
        world.run_for(Duration::from_micros(10));
    }
    let (begin, limit) = (cpu_time(), world.now() + Duration::from_secs(62));
    let mut steps = 0;
    while world.now() < limit {
        world.step(limit);
        steps += 1;
    }
    ((cpu_time() - begin).as_nanos() as f64 / RECORDS as f64, f64::from(steps))
}

fn socket(stack: &Arc<Stack>) -> Socket {
    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).expect("socket");
    s.set_nonblocking(true);
    s
}
