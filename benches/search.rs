//! A connection whose local port is far to seek: all ports of the parity that a search looks at first are in TIME-WAIT
//! towards the same listener, and `tcp_tw_reuse` does not allow to take one. That is where a client that closes first
//! is after half a minute.

use crate::PORTS;
use crate::measure::{Bench, cpu_time};
use crate::net::{Kernel, Net, Ours};
use crate::report::{Report, Row, Target, Unit};
use crate::rpc::{self, First};
use std::time::Duration;

/// Ports of one parity in [`PORTS`].
const HALF: usize = (65_535 - 1024) / 2;
const SYSCTL: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
const GROUP: &str = "search_half_taken";

/// Nanoseconds of this thread in connect.
fn measure<N: Net>(bench: &mut Bench, id: &str, net: &N) -> Option<f64> {
    let (listener, addr) = net.listen("127.0.0.1");
    for _ in 0..HALF {
        let client = net.connect(addr);
        rpc::close(client, net.accept(&listener), First::Client);
    }
    bench.custom(GROUP, id, 0, |n| {
        let mut spent = Duration::ZERO;
        for _ in 0..n {
            let begin = cpu_time();
            let client = net.connect(addr);
            spent += cpu_time() - begin;
            // The other half stays free.
            rpc::close(client, net.accept(&listener), First::Server);
        }
        spent
    })
}

/// Both stacks' loopback.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let kernel = bench.attempt(report, &format!("{GROUP}/kernel"), |bench| {
        let before = std::fs::read_to_string(SYSCTL).expect("a setting of the kernel's");
        std::fs::write(SYSCTL, "0").expect("a namespace of its own");
        let spent = measure(bench, "kernel", &Kernel);
        std::fs::write(SYSCTL, before).expect("as it was");
        spent
    });
    let ours = bench.attempt(report, &format!("{GROUP}/usersock"), |bench| {
        let ours = Ours::loopback();
        for (name, value) in [("net.ipv4.ip_local_port_range", PORTS), ("net.ipv4.tcp_tw_reuse", "0")] {
            ours.0.sysctl.set(name, value).expect("a valid setting");
        }
        measure(bench, "usersock", &ours)
    });
    let what = "loopback, connect where one half of the local ports is in TIME-WAIT".into();
    report.row(Row { what, unit: Unit::Nanos, ours, kernel, peer: None, target: Target::KernelAtMost(1.0) });
    if let (Some(ours), Some(kernel)) = (ours, kernel) {
        let each = |ns: f64| ns / HALF as f64;
        report.note(format!(
            "A port in TIME-WAIT that connect passes over: {:.0} ns, in the kernel {:.0} ns.",
            each(ours),
            each(kernel)
        ));
    }
}
