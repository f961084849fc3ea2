//! `cargo xtask compare-cc`: what congestion control carries over a bad path, the kernel's TCP beside ours. The same
//! program (`bulk`) sends from one namespace to a kernel in another, on the kernel's sockets and then on usersock under
//! the preload shim; between the two is `usersock link`, with the same delay, loss, rate and queue for both. The same
//! seed loses the same packets, counted from the first, so the flows of a seed are compared in pairs.

pub mod bulk;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Condvar, Mutex};

use crate::{Failure, Outcome, broken, cargo, netns, setup};

/// Arguments of `cargo xtask compare-cc`.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds that each flow sends; a fifth of it is not counted, for slow start
    #[arg(long, default_value_t = 12)]
    seconds: u32,
    /// Pairs of flows of a cell, each with another seed of the link, before the ratio is looked at
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Pairs at most: a cell whose ratio is not known to 2 percent gets more up to here
    #[arg(long, default_value_t = 24)]
    most: usize,
    /// Flows at the same time
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// Mbit/s at most of all links in use; more than the processors carry makes all flows slower
    #[arg(long, default_value_t = 300)]
    rate: u32,
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
/// Standard error of a ratio that is good enough.
const PRECISION: f64 = 0.02;

/// One flow.
struct Flow {
    cell: usize,
    seed: usize,
    ours: bool,
    mbit: u32,
    settings: String,
    algorithm: &'static str,
}

/// A path and an algorithm: Mbit/s of the kernel's flow and of ours, a pair a seed.
struct Cell {
    path: Route,
    algorithm: &'static str,
    flows: Vec<[f64; 2]>,
}

impl Cell {
    /// Mean of one kind: 0 the kernel's, 1 ours.
    fn mean(&self, kind: usize) -> f64 {
        self.flows.iter().map(|f| f[kind]).sum::<f64>() / self.flows.len().max(1) as f64
    }

    fn ratio(&self) -> f64 {
        self.mean(1) / self.mean(0)
    }

    fn agrees(&self) -> bool {
        (self.ratio() - 1.0).abs() <= TOLERANCE
    }

    /// Standard error of the ratio of the means: by what the pairs differ from it.
    fn error(&self) -> f64 {
        let (n, ratio) = (self.flows.len() as f64, self.ratio());
        let squares = self.flows.iter().map(|[kernel, ours]| (ours - ratio * kernel).powi(2)).sum::<f64>();
        (squares / (n - 1.0).max(f64::MIN_POSITIVE) / n).sqrt() / self.mean(0)
    }

    /// Whether more flows are to tell what the ratio is.
    fn wants_more(&self, args: &Args) -> bool {
        self.flows.len() < args.runs.max(2) || (self.flows.len() < args.most && self.error() > PRECISION)
    }
}

/// Inside a namespace of its own, as root there. $U: the command, $X: this one; $SHIM: the preload library, empty for
/// the kernel's sockets. Everything ends with the shell.
///
/// The algorithm is that of the kernel's route, and of our stack's sysctl, so that no other one has begun the
/// connection: where a kernel's default is BBR, CUBIC that is chosen afterwards would be paced.
const SCRIPT: &str = r#"
set -e
# Packets are not to wait for other programs of this machine, where we may say so: a millisecond is a burst.
FIRST=(chrt -f 10)
"${FIRST[@]}" true 2>/dev/null || FIRST=()
trap 'kill $(jobs -p) 2>/dev/null' EXIT
unshare -n sleep 600 & A=$!
unshare -n sleep 600 & B=$!
coproc LINK { exec "${FIRST[@]}" "$U" link left right "$SETTINGS"; }
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
in_a ip route replace 10.1.0.0/24 dev left src 10.1.0.1 congctl "$ALGORITHM"
exec {SINK}< <(exec nsenter -t $B -n "${FIRST[@]}" "$X" bulk-sink 10.1.0.2:5201 "$SECONDS_" "$OMIT")
trap 'kill $(jobs -p) '$!' 2>/dev/null' EXIT
read -r _ <&"$SINK"
# For the sender alone: a program before it would have the device.
PRELOAD=()
CONFIG=tun=us0,addr=10.9.0.2/24,gw=10.9.0.1,sysctl.net.ipv4.tcp_congestion_control=$ALGORITHM
[ -z "$SHIM" ] || PRELOAD=(LD_PRELOAD="$SHIM" USERSOCK_CONFIG="$CONFIG")
nsenter -t $A -n "${FIRST[@]}" env "${PRELOAD[@]}" "$X" bulk-send 10.1.0.2:5201 "$SECONDS_" &
read -t "$LIMIT" -r GOODPUT <&"$SINK"
echo "$GOODPUT"
"#;

fn run_flow(flow: &Flow, args: &Args, myself: &Path, command: &Path, shim: &Path) -> Result<f64, Failure> {
    let output = netns::myself(&["netns-run", "--how", netns::How::available().arg(), "--", "bash", "-c", SCRIPT])
        .env("PATH", setup::system_path())
        .env("U", command)
        .env("X", myself)
        .env("SHIM", if flow.ours { shim.as_os_str() } else { "".as_ref() })
        .env("SETTINGS", &flow.settings)
        .env("ALGORITHM", flow.algorithm)
        .env("SECONDS_", args.seconds.to_string())
        .env("OMIT", (args.seconds / 5).to_string())
        .env("LIMIT", (args.seconds + 10).to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse::<f64>() {
        Ok(mbit) if mbit > 0.0 => Ok(mbit),
        _ => Err(broken(format!(
            "{} {} over {}: {} {}",
            flow.algorithm,
            if flow.ours { "ours" } else { "kernel" },
            flow.settings,
            said.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// Flows that wait, and those under way.
struct Turns {
    queue: VecDeque<Flow>,
    /// Mbit/s of the links in use.
    rate: u32,
    done: Vec<(Flow, f64)>,
    failed: Option<Failure>,
}

/// The first flow for which there is room; waits for it. None: no more are to run.
fn next_flow(turns: &Mutex<Turns>, freed: &Condvar, limit: u32) -> Option<Flow> {
    let mut t = turns.lock().ok()?;
    while t.failed.is_none() && !t.queue.is_empty() {
        let rate = t.rate;
        if let Some(at) = t.queue.iter().position(|f| rate == 0 || rate + f.mbit <= limit) {
            let flow = t.queue.remove(at)?;
            t.rate += flow.mbit;
            return Some(flow);
        }
        t = freed.wait(t).ok()?;
    }
    None
}

/// Runs the flows, several at a time; the kernel's and ours of a pair are neighbours in the queue.
fn run_all(
    cells: &mut [Cell],
    queue: VecDeque<Flow>,
    run: &(dyn Fn(&Flow) -> Result<f64, Failure> + Sync),
    args: &Args,
) -> Result<(), Failure> {
    let all = queue.len();
    let turns = Mutex::new(Turns { queue, rate: 0, done: Vec::new(), failed: None });
    let freed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(flow) = next_flow(&turns, &freed, args.rate) {
                    let result = run(&flow).or_else(|e| {
                        eprintln!("\r{e:?}; once more");
                        run(&flow)
                    });
                    let Ok(mut t) = turns.lock() else { return };
                    t.rate -= flow.mbit;
                    match result {
                        Ok(mbit) => t.done.push((flow, mbit)),
                        Err(e) => drop(t.failed.get_or_insert(e)),
                    }
                    eprint!("\r{} of {all} flows ", t.done.len());
                    freed.notify_all();
                }
            });
        }
    });
    eprintln!();
    let turns = turns.into_inner().map_err(|_| broken("a flow's thread ended"))?;
    if let Some(e) = turns.failed {
        return Err(e);
    }
    for (flow, mbit) in turns.done {
        let pairs = &mut cells[flow.cell].flows;
        if pairs.len() < flow.seed {
            pairs.resize(flow.seed, [f64::NAN; 2]);
        }
        pairs[flow.seed - 1][usize::from(flow.ours)] = mbit;
    }
    Ok(())
}

/// The flows that the cells want now.
fn wanted(cells: &[Cell], args: &Args) -> VecDeque<Flow> {
    let mut flows = VecDeque::new();
    for (cell, c) in cells.iter().enumerate().filter(|(_, c)| c.wants_more(args)) {
        for seed in c.flows.len() + 1..=c.flows.len() + args.runs {
            for ours in [false, true] {
                // What it takes of the processors goes by what it carries.
                let mbit = if c.flows.is_empty() { c.path.mbit } else { c.mean(0).max(c.mean(1)).ceil() as u32 };
                let settings = c.path.settings(seed as u64);
                flows.push_back(Flow { cell, seed, ours, mbit, settings, algorithm: c.algorithm });
            }
        }
    }
    flows
}

/// The table, in Markdown.
fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| round trip | loss | rate | queue | algorithm | kernel, Mbit/s | usersock, Mbit/s | ratio | ± | pairs |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for c in cells {
        let (p, mark) = (&c.path, if c.agrees() { "" } else { " *" });
        let _ = writeln!(
            text,
            "| {} ms | {} % | {} Mbit/s | {} products | {} | {:.2} | {:.2} | {:.3}{mark} | {:.1} % | {} |",
            p.delay_ms,
            p.loss,
            p.mbit,
            p.bdp,
            c.algorithm,
            c.mean(0),
            c.mean(1),
            c.ratio(),
            c.error() * 100.0,
            c.flows.len()
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
         `cargo xtask compare-cc` sends from one namespace to a kernel in another over a simulated link, on the\n\
         kernel's sockets and on usersock. The link has its delay half each way, its loss on the way of the data,\n\
         and a queue of so many bandwidth-delay products. Goodput is what arrives in {} seconds after the first\n\
         byte, less their first fifth.\n\n\
         The link loses the same packets, by their number, of both flows of a pair; each pair has another seed. ±\n\
         is the standard error of the ratio, from what the pairs differ by. A cell has {} pairs, and more, up to\n\
         {}, until that is below {:.0} %. A star: more than {:.0} % from the kernel's.\n\n\
         The algorithm of the kernel's flows is that of their route, of ours that of the stack's sysctl. A kernel\n\
         whose default is BBR paces what began with it, also when the program then chooses CUBIC, as iperf3 -C\n\
         does: such a flow makes no bursts that overflow a short queue, and is no measure for one that never\n\
         paced. Link and programs have real-time priority where that is permitted: a packet that waits a\n\
         millisecond for a processor is such a burst, too.\n\n\
         ![goodput of usersock over the kernel's](images/compare-cc.svg)\n\n{}{}",
        args.seconds,
        args.runs,
        args.most,
        PRECISION * 100.0,
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
    let myself = std::env::current_exe()?;
    let mut cells: Vec<Cell> = paths()
        .into_iter()
        .filter(|path| path.name().contains(&args.only))
        .flat_map(|path| ALGORITHMS.map(|algorithm| Cell { path: path.clone(), algorithm, flows: Vec::new() }))
        .collect();
    if cells.is_empty() {
        return Err(Failure::Usage(format!("no path is called {:?}; one is {}", args.only, paths()[0].name())));
    }
    loop {
        let flows = wanted(&cells, args);
        if flows.is_empty() {
            break;
        }
        run_all(&mut cells, flows, &|flow| run_flow(flow, args, &myself, &command, &shim), args)?;
    }
    print!("{}", table(&cells));
    let agree = cells.iter().filter(|c| c.agrees()).count();
    println!("{agree} of {} within {:.0} % of the kernel", cells.len(), TOLERANCE * 100.0);
    if args.write {
        write(&cells, args)?;
    }
    Ok(agree == cells.len())
}
