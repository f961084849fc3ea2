//! Memory of an idle established connection: everything that is allocated for it, by the stack, the tables, the timers
//! and the handle, divided by the number of its ends. Both ends are in one stack.

use crate::alloc;
use crate::measure::Bench;
use crate::net::{Net, Ours};
use crate::report::{Report, Row, Target, Unit};
use std::io::{Read, Write};

/// Connections.
const CONNECTIONS: usize = 100_000;
/// Listening ports they are spread over: a client address has less than 65536 ports.
const LISTENERS: usize = 8;

/// Opens the connections, each of which carries a byte each way before it idles.
pub fn idle(bench: &mut Bench, report: &mut Report) {
    let ours = bench.attempt(report, "memory/idle_connection", |_| Some(measure()));
    report.row(Row {
        what: format!("memory of an idle connection, one end ({CONNECTIONS} connections)"),
        unit: Unit::Bytes,
        ours,
        kernel: None,
        peer: None,
        target: Target::AtMost(1024.0),
    });
}

/// Bytes of an end.
fn measure() -> f64 {
    let net = Ours::loopback();
    net.0.sysctl.set("net.ipv4.ip_local_port_range", "1024 65535").expect("a valid range");
    let listeners: Vec<_> = (0..LISTENERS).map(|_| net.listen("127.0.0.1")).collect();
    let mut ends = Vec::with_capacity(2 * CONNECTIONS);
    let ((), bytes, _) = alloc::counted(|| {
        for i in 0..CONNECTIONS {
            let (listener, addr) = &listeners[i % LISTENERS];
            let mut a = net.connect(*addr);
            let mut b = net.accept(listener);
            let mut byte = [7];
            a.write_all(&byte).expect("write");
            b.read_exact(&mut byte).expect("read");
            b.write_all(&byte).expect("write");
            a.read_exact(&mut byte).expect("read");
            ends.push(a);
            ends.push(b);
        }
    });
    bytes as f64 / (2 * CONNECTIONS) as f64
}
