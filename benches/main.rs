//! The performance of usersock compared with the kernel's TCP and with smoltcp, measured in one run and printed as one
//! table.
//!
//! `cargo bench` measures everything in a few minutes; `cargo bench -- FILTER` only what has FILTER in its name;
//! `cargo bench -- --readme` also puts the table into docs/benchmarks.md, and a part of it into README.md. All of it
//! happens in a network namespace of its own, which needs root or user namespaces, and for TUN a readable /dev/net/tun;
//! what cannot be measured is listed below the table. Unmodified programs on usersock are measured by
//! `programs/main.rs`.

mod alloc;
mod bulk;
mod cores;
mod datapath;
mod figure;
mod locks;
mod measure;
mod memory;
mod net;
mod plugins;
mod readme;
mod report;
mod requests;
mod rpc;
mod scale;
mod search;
mod served;
mod smol;
mod space;
mod tables;
mod waits;
mod windows;
mod wire;

use bulk::Stream;
use measure::{Bench, NOW, note_panics};
use net::{Kernel, Net, Ours, pair};
use report::{Report, Row, Target, Unit};
use std::time::{Duration, Instant};

/// The whole run is aborted after this time.
const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    requests::serve_if_asked();
    if let Err(e) = space::enter() {
        // Nothing may be sent in the namespace of the caller.
        println!("SKIP benchmarks: {e}");
        return;
    }
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        let now = NOW.lock().map_or(String::new(), |n| n.clone());
        eprintln!("given up after {} s, while measuring {now}", LIMIT.as_secs());
        std::process::exit(1);
    });
    note_panics();
    let begin = Instant::now();
    let mut bench = Bench::new();
    let mut report = Report::default();
    loopback(&mut bench, &mut report);
    if let Err(e) = tun(&mut bench, &mut report) {
        report.note(format!("SKIP across TUN: {e}"));
    }
    memory::idle(&mut bench, &mut report);
    scale::run(&mut bench, &mut report);
    served::run(&mut bench, &mut report);
    search::run(&mut bench, &mut report);
    locks::lock(&mut bench, &mut report);
    locks::timers(&mut bench, &mut report);
    tables::run(&mut bench, &mut report);
    plugins::run(&mut bench, &mut report);
    datapath::run(&mut bench, &mut report);
    windows::run(&mut bench, &mut report);
    cores::run(&mut bench, &mut report);
    waits::run(&mut bench, &mut report);
    let readme = bench.readme;
    bench.finish();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The state follows the name's closing parenthesis; nice is the 16th field behind it: proc_pid_stat(5).
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let nice = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(16)).unwrap_or("0");
    report.note(format!(
        "Measured in {:.0} s on {cores} cores, Linux {}, load average {}, nice {nice}.",
        begin.elapsed().as_secs_f64(),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    ));
    println!("\n{}", report.markdown());
    if readme && let Err(e) = report.write_readme().and_then(|()| figure::write(report.points())) {
        eprintln!("{e}");
        std::process::exit(1);
    }
    if !report.all_worked() {
        std::process::exit(1);
    }
}

/// Ports of all stacks: enough beside those in TIME-WAIT.
const PORTS: &str = "1024 65535";
/// The kernel's address on the TUN device of [`tun`].
const TUN_PEER: &str = "10.99.2.1";

/// Bulk and small exchanges in memory, beside the kernel's loopback.
fn loopback(bench: &mut Bench, report: &mut Report) {
    if let Err(e) = std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", PORTS) {
        report.note(format!("The kernel keeps its own port range: {e}."));
    }
    let ours = Ours::loopback();
    ours.0.sysctl.set("net.ipv4.ip_local_port_range", PORTS).expect("a valid range");
    let ip = "127.0.0.1";

    let group = "loopback_bulk";
    let kernel = bench.attempt(report, "loopback_bulk/kernel", |bench| {
        let (a, b) = pair(&Kernel, &Kernel, ip);
        bulk::run(bench, group, "kernel", true, Stream::new(a), Stream::new(b))
    });
    let mine = bench.attempt(report, "loopback_bulk/usersock", |bench| {
        let (a, b) = pair(&ours, &ours, ip);
        bulk::run(bench, group, "usersock", true, Stream::new(a), Stream::new(b))
    });
    report.row(Row {
        what: "loopback, bulk, one connection, 128 KiB writes".into(),
        unit: Unit::Throughput,
        ours: mine,
        kernel,
        peer: None,
        target: Target::KernelAtLeast(1.0),
    });

    let kernel = bench.attempt(report, "loopback_rtt/kernel", |bench| {
        let (a, b) = pair(&Kernel, &Kernel, ip);
        rpc::latency(bench, "loopback_rtt", "kernel", a, b)
    });
    let mine = bench.attempt(report, "loopback_rtt/usersock", |bench| {
        let (a, b) = pair(&ours, &ours, ip);
        rpc::latency(bench, "loopback_rtt", "usersock", a, b)
    });
    report.row(Row {
        what: "loopback, 1 byte there and back, median".into(),
        unit: Unit::Nanos,
        ours: mine,
        kernel,
        peer: None,
        target: Target::None,
    });

    let group = "loopback_connect";
    let kernel =
        bench.attempt(report, "loopback_connect/kernel", |b| rpc::connections(b, group, "kernel", &Kernel, ip));
    let mine =
        bench.attempt(report, "loopback_connect/usersock", |b| rpc::connections(b, group, "usersock", &ours, ip));
    report.row(Row {
        what: "loopback, connect, 1 byte each way, close, both ends in one thread".into(),
        unit: Unit::Rate,
        ours: mine,
        kernel,
        peer: None,
        target: Target::KernelAtLeast(5.0),
    });

    let group = "loopback_connect_two";
    let kernel = bench
        .attempt(report, "loopback_connect_two/kernel", |b| rpc::connections_by_two(b, group, "kernel", &Kernel, ip));
    let mine = bench
        .attempt(report, "loopback_connect_two/usersock", |b| rpc::connections_by_two(b, group, "usersock", &ours, ip));
    report.row(Row {
        what: "the same, client and server in two threads".into(),
        unit: Unit::Rate,
        ours: mine,
        kernel,
        peer: None,
        target: Target::None,
    });
}

/// Across TUN to the kernel, beside smoltcp across TUN and the kernel with itself across veth.
fn tun(bench: &mut Bench, report: &mut Report) -> Result<(), String> {
    let groups = ["tun_bulk_out", "tun_bulk_in", "tun_rtt"].map(String::from);
    let groups = groups.into_iter().chain(waits::TUN_GROUPS.map(String::from)).chain(requests::groups());
    let mut names = groups.flat_map(|group| ["kernel_veth", "smoltcp", "usersock"].map(|id| format!("{group}/{id}")));
    if !names.any(|name| bench.wants(&name)) {
        return Ok(());
    }
    let ours = Ours(usersock::config::build("tun=usk0,addr=10.99.2.2/24").map_err(|e| e.to_string())?);
    // A connection's port is in TIME-WAIT afterwards: as many as the kernel has, see `loopback`.
    ours.0.sysctl.set("net.ipv4.ip_local_port_range", PORTS).map_err(|e| e.to_string())?;
    space::ip(&format!("addr add {TUN_PEER}/24 dev usk0"))?;
    space::ip("tuntap add name smol0 mode tun")?;
    space::ip("addr add 10.99.3.1/24 dev smol0")?;
    space::ip("link set smol0 up")?;
    space::use_cubic()?;
    let far = space::Peer::new()?;
    let veth = || {
        let listener = far.run(|| Kernel.listen(space::VETH.1).0);
        let near = Kernel.connect(listener.local_addr().expect("address"));
        (near, Kernel.accept(&listener))
    };
    let smol = || {
        let (listener, addr) = Kernel.listen("10.99.3.1");
        let smol = smol::Smol::connect("smol0", [10, 99, 3, 2], ([10, 99, 3, 1], addr.port())).expect("smoltcp");
        (smol, Kernel.accept(&listener))
    };

    for (group, what, out) in [
        ("tun_bulk_out", "across TUN to the kernel, bulk, sending (kernel: veth)", true),
        ("tun_bulk_in", "across TUN from the kernel, bulk, receiving (kernel: veth)", false),
    ] {
        let kernel = bench.attempt(report, &format!("{group}/kernel_veth"), |bench| {
            let (a, b) = veth();
            bulk::run(bench, group, "kernel_veth", out, Stream::new(a), Stream::new(b))
        });
        let peer = bench.attempt(report, &format!("{group}/smoltcp"), |bench| {
            let (a, b) = smol();
            bulk::run(bench, group, "smoltcp", out, a, Stream::new(b))
        });
        let mine = bench.attempt(report, &format!("{group}/usersock"), |bench| {
            let (a, b) = pair(&ours, &Kernel, TUN_PEER);
            bulk::run(bench, group, "usersock", out, Stream::new(a), Stream::new(b))
        });
        report.row(Row {
            what: what.into(),
            unit: Unit::Throughput,
            ours: mine,
            kernel,
            peer,
            target: Target::PeerAtLeast(3.0),
        });
    }

    let kernel = bench.attempt(report, "tun_rtt/kernel_veth", |bench| {
        let (a, b) = veth();
        rpc::latency(bench, "tun_rtt", "kernel_veth", a, b)
    });
    let mine = bench.attempt(report, "tun_rtt/usersock", |bench| {
        let (a, b) = pair(&ours, &Kernel, TUN_PEER);
        rpc::latency(bench, "tun_rtt", "usersock", a, b)
    });
    report.row(Row {
        what: "across TUN, 1 byte there and back, median (kernel: veth)".into(),
        unit: Unit::Nanos,
        ours: mine,
        kernel,
        peer: None,
        target: Target::KernelAtMost(1.2),
    });
    waits::tun(bench, report, &ours, &far);
    requests::run(bench, report, &far);
    Ok(())
}
