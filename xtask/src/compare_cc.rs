//! `cargo xtask compare-cc`: what congestion control carries over a bad path, the kernel's TCP beside ours. The same
//! program (iperf3) sends from one namespace to a kernel in another, on the kernel's sockets and then on usersock under
//! the preload shim; between the two is `usersock link`, with the same delay, loss, rate and queue for both.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

use serde_json::Value;

use crate::{Failure, Outcome, broken, cargo, netns, setup};

/// Arguments of `cargo xtask compare-cc`.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds that each flow sends; a fifth of it is not counted, for slow start
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Flows of a cell, each with another seed of the link; the table has their mean
    #[arg(long, default_value_t = 3)]
    runs: u64,
    /// Flows at the same time; more than the processors carry makes all of them slower
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Only paths whose name contains this, as "10ms 1%"
    #[arg(long, default_value = "")]
    only: String,
    /// Write docs/compare-cc.md and docs/images/compare-cc.svg
    #[arg(long)]
    write: bool,
}

/// A path between sender and receiver.
#[derive(Clone)]
struct Route {
    delay_ms: u32,
    loss: f64,
    mbit: u32,
    /// Of the queue, in bandwidth-delay products.
    bdp: f64,
}

impl Route {
    fn name(&self) -> String {
        let queue = if self.bdp < 1.0 { "shallow" } else { "deep" };
        format!("{}ms {}% {}mbit {queue}", self.delay_ms, self.loss, self.mbit)
    }

    /// For `usersock link`. Half of the delay each way; loss and the narrow queue are on the way of the data. A queue
    /// of ten packets at least.
    fn settings(&self, seed: u64) -> String {
        let product = f64::from(self.mbit) * 125.0 * f64::from(self.delay_ms);
        let queue = (product * self.bdp).max(15_000.0);
        format!(
            "delay={}us,out.loss={}%,rate={}mbit,out.queue={queue:.0}b,seed={seed}",
            self.delay_ms * 500,
            self.loss,
            self.mbit
        )
    }
}

fn paths() -> Vec<Route> {
    let mut all = Vec::new();
    for delay_ms in [10, 50, 200] {
        for loss in [0.0, 0.1, 1.0] {
            for mbit in [10, 100] {
                for bdp in [0.5, 4.0] {
                    all.push(Route { delay_ms, loss, mbit, bdp });
                }
            }
        }
    }
    all
}

const ALGORITHMS: [&str; 2] = ["cubic", "bbr"];
/// Ours may differ from the kernel's by this share.
const TOLERANCE: f64 = 0.05;

/// One flow.
struct Flow {
    cell: usize,
    ours: bool,
    settings: String,
    algorithm: &'static str,
}

/// A path and an algorithm: Mbit/s of each flow.
struct Cell {
    path: Route,
    algorithm: &'static str,
    kernel: Vec<f64>,
    ours: Vec<f64>,
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

impl Cell {
    fn ratio(&self) -> f64 {
        mean(&self.ours) / mean(&self.kernel)
    }

    fn agrees(&self) -> bool {
        (self.ratio() - 1.0).abs() <= TOLERANCE
    }

    /// Greatest distance of a flow from the mean of its kind, as a share.
    fn spread(&self) -> f64 {
        [&self.kernel, &self.ours]
            .into_iter()
            .flat_map(|flows| flows.iter().map(|f| (f / mean(flows) - 1.0).abs()))
            .fold(0.0, f64::max)
    }
}

/// Inside a namespace of its own, as root there. $U: the command; $SHIM: the preload library, empty for the kernel's
/// sockets. Everything ends with the shell.
const SCRIPT: &str = r#"
set -e
trap 'kill $(jobs -p) 2>/dev/null' EXIT
unshare -n sleep 600 & A=$!
unshare -n sleep 600 & B=$!
coproc LINK { exec "$U" link left right "$SETTINGS"; }
read -r _ <&"${LINK[0]}"
in_a() { nsenter -t $A -n "$@"; }
in_b() { nsenter -t $B -n "$@"; }
until [ "$(readlink /proc/$A/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
until [ "$(readlink /proc/$B/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
ip link set left netns $A
ip link set right netns $B
in_a ip -batch - <<END
addr add 10.1.0.1/24 dev left
link set left up
link set lo up
tuntap add us0 mode tun
addr add 10.9.0.1/24 dev us0
link set us0 up
END
in_b ip -batch - <<END
addr add 10.1.0.2/24 dev right
link set right up
link set lo up
route add 10.9.0.0/24 via 10.1.0.1
END
in_a sysctl -q net.ipv4.ip_forward=1
# Not by in_b, whose process would be a shell and leave iperf3 behind when it is killed. The server seldom ends by
# itself: the link goes before the client's farewell arrives.
nsenter -t $B -n iperf3 -s -1 -p 5201 >/dev/null &
for i in $(seq 100); do in_b ss -Hltn 'sport = 5201' | grep -q . && break; sleep .02; done
# For iperf3 alone: a program before it would have the device.
PRELOAD=()
[ -z "$SHIM" ] || PRELOAD=(LD_PRELOAD="$SHIM" USERSOCK_CONFIG=tun=us0,addr=10.9.0.2/24,gw=10.9.0.1)
in_a timeout "$LIMIT" env "${PRELOAD[@]}" iperf3 -c 10.1.0.2 -p 5201 -J -t "$SECONDS_" -O "$OMIT" -C "$ALGORITHM"
"#;

fn run_flow(flow: &Flow, args: &Args, command: &Path, shim: &Path) -> Result<f64, Failure> {
    let output = netns::myself(&["netns-run", "--how", netns::How::available().arg(), "--", "bash", "-c", SCRIPT])
        .env("PATH", setup::system_path())
        .env("U", command)
        .env("SHIM", if flow.ours { shim.as_os_str() } else { "".as_ref() })
        .env("SETTINGS", &flow.settings)
        .env("ALGORITHM", flow.algorithm)
        .env("SECONDS_", args.seconds.to_string())
        .env("OMIT", (args.seconds / 5).to_string())
        .env("LIMIT", (2 * args.seconds + 30).to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    report["end"]["sum_received"]["bits_per_second"].as_f64().map(|bits| bits / 1e6).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = report["error"].as_str().unwrap_or(said.trim());
        broken(format!(
            "{} {} over {}: {error}",
            flow.algorithm,
            if flow.ours { "ours" } else { "kernel" },
            flow.settings
        ))
    })
}

/// Runs all flows, several at a time; the kernel's and ours of a cell are neighbours in the queue.
fn run_all(cells: &mut [Cell], args: &Args, command: &Path, shim: &Path) -> Result<(), Failure> {
    let mut flows = VecDeque::new();
    for (cell, c) in cells.iter().enumerate() {
        for seed in 1..=args.runs {
            for ours in [false, true] {
                flows.push_back(Flow { cell, ours, settings: c.path.settings(seed), algorithm: c.algorithm });
            }
        }
    }
    let (all, queue) = (flows.len(), Mutex::new(flows));
    let done = Mutex::new((Vec::new(), None));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(flow) = queue.lock().ok().and_then(|mut q| q.pop_front()) {
                    let result = run_flow(&flow, args, command, shim);
                    let Ok(mut done) = done.lock() else { return };
                    match result {
                        Ok(mbit) => done.0.push((flow.cell, flow.ours, mbit)),
                        Err(e) => {
                            done.1.get_or_insert(e);
                            return;
                        }
                    }
                    eprint!("\r{} of {all} flows", done.0.len());
                }
            });
        }
    });
    eprintln!();
    let (results, failed) = done.into_inner().map_err(|_| broken("a flow's thread ended"))?;
    if let Some(e) = failed {
        return Err(e);
    }
    for (cell, ours, mbit) in results {
        let list = if ours { &mut cells[cell].ours } else { &mut cells[cell].kernel };
        list.push(mbit);
    }
    Ok(())
}

/// The table, in Markdown.
fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| round trip | loss | rate | queue | algorithm | kernel, Mbit/s | usersock, Mbit/s | ratio | spread |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for c in cells {
        let (p, mark) = (&c.path, if c.agrees() { "" } else { " *" });
        let _ = writeln!(
            text,
            "| {} ms | {} % | {} Mbit/s | {} products | {} | {:.2} | {:.2} | {:.3}{mark} | {:.0} % |",
            p.delay_ms,
            p.loss,
            p.mbit,
            p.bdp,
            c.algorithm,
            mean(&c.kernel),
            mean(&c.ours),
            c.ratio(),
            c.spread() * 100.0
        );
    }
    text
}

/// The ratios as a picture: a dot a cell, in the table's order, between half and twice the kernel's.
fn picture(cells: &[Cell]) -> String {
    let (left, top, step, height) = (60.0, 20.0, 12.0, 300.0);
    let width = left + step * cells.len() as f64 + 20.0;
    let y = |ratio: f64| top + height * (0.5 - 0.5 * ratio.clamp(0.5, 2.0).log2());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        top + height + 40.0
    );
    for ratio in [0.5, 0.95, 1.0, 1.05, 2.0] {
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#bbb\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{ratio}</text>",
            width - 20.0,
            left - 6.0,
            y(ratio) + 4.0,
            y = y(ratio)
        );
    }
    for (i, c) in cells.iter().enumerate() {
        let fill = if c.algorithm == "cubic" { "#1f77b4" } else { "#d62728" };
        let _ = writeln!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"3.5\" fill=\"{fill}\"><title>{} {}: {:.3}</title></circle>",
            left + step * (i as f64 + 0.5),
            y(c.ratio()),
            c.algorithm,
            c.path.name(),
            c.ratio()
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\">goodput of usersock over the kernel's, a dot a path: <tspan \
         fill=\"#1f77b4\">cubic</tspan>, <tspan fill=\"#d62728\">bbr</tspan></text>\n</svg>",
        top + height + 25.0
    );
    svg
}

fn write(cells: &[Cell], args: &Args) -> Result<(), Failure> {
    let docs = cargo::root().join("docs");
    let text = format!(
        "# Congestion control beside the kernel's\n\n\
         `cargo xtask compare-cc` sends with iperf3 to a kernel over a simulated link, first on the kernel's \
         sockets and then on\nusersock. The link has its delay half each way, its loss on the way of the data, and a \
         queue of so many\nbandwidth-delay products. Goodput is the receiver's; the spread is the greatest distance \
         of one of {} flows from the\nmean of its kind. A star: more than {:.0} % from the kernel's.\n\n\
         ![goodput of usersock over the kernel's](images/compare-cc.svg)\n\n{}{}",
        args.runs,
        TOLERANCE * 100.0,
        match args.only.as_str() {
            "" => String::new(),
            only => format!("Only paths with \"{only}\" were measured.\n\n"),
        },
        table(cells)
    );
    std::fs::write(docs.join("compare-cc.md"), text)?;
    std::fs::write(docs.join("images/compare-cc.svg"), picture(cells))?;
    Ok(())
}

/// The command.
pub fn run(args: &Args) -> Outcome {
    setup::tools();
    let command: PathBuf = cargo::build_release("usersock-cli", &[])?.with_extension("")?.clone();
    let shim: PathBuf = cargo::build_release("usersock-preload", &[])?.with_extension("so")?.clone();
    let mut cells: Vec<Cell> = paths()
        .into_iter()
        .filter(|path| path.name().contains(&args.only))
        .flat_map(|path| {
            ALGORITHMS.map(|algorithm| Cell { path: path.clone(), algorithm, kernel: Vec::new(), ours: Vec::new() })
        })
        .collect();
    if cells.is_empty() {
        return Err(Failure::Usage(format!("no path is called {:?}; one is {}", args.only, paths()[0].name())));
    }
    run_all(&mut cells, args, &command, &shim)?;
    print!("{}", table(&cells));
    let agree = cells.iter().filter(|c| c.agrees()).count();
    println!("{agree} of {} within {:.0} % of the kernel", cells.len(), TOLERANCE * 100.0);
    if args.write {
        write(&cells, args)?;
    }
    Ok(agree == cells.len())
}
