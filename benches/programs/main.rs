//! Unmodified programs on usersock beside the same programs on the kernel's TCP: throughput of iperf3, requests a
//! second of redis, nginx and memcached. In every case the program that is named is the server, and its peer is on the
//! kernel's TCP: across a veth pair to a server on the kernel, across the device of `usersock run` to one on usersock.
//! The three ways take turns within one run, so that what else the machine does meets all of them.
//!
//! `cargo bench --bench programs` prints the table; `-- FILTER` only the rows that have FILTER in their name; `--
//! --turns N` takes more turns; `-- --sysctl NAME=VALUE` sets it in the stacks, as `net.core.busy_poll=50`; `--
//! --machine-cc` leaves the kernel's connections the machine's congestion control, which is CUBIC otherwise; `--
//! --fifo` runs everything in the class SCHED_FIFO, where other work of the machine has to wait and a thread that is
//! woken does not take the processor from the one that woke it; `-- --readme` also puts the table into README.md.
//! Everything is in network namespaces of its own.

mod load;
mod memcached;
mod place;
#[path = "../readme.rs"]
mod readme;
#[path = "../space.rs"]
mod space;

use load::{LOADS, Load};
use place::{Place, Site};
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

/// The whole run is aborted after this time.
const LIMIT: Duration = Duration::from_secs(1200);
/// Lines between which the README keeps the table.
const MARKS: (&str, &str) = ("<!-- cargo bench programs: begin -->", "<!-- cargo bench programs: end -->");
/// The arguments, for those who give wrong ones.
const USAGE: &str = "usage: cargo bench --bench programs -- [--readme] [--turns N] [--sysctl NAME=VALUE]... \
                     [--machine-cc] [--fifo] [FILTER]";

/// What was asked for.
struct Args {
    readme: bool,
    turns: usize,
    fifo: bool,
    /// What `usersock run` has beside the program.
    settings: Vec<String>,
    filter: String,
}

impl Args {
    /// Anything unknown ends the program with status 2.
    fn parse() -> Args {
        let mut args = Args { readme: false, turns: 3, fifo: false, settings: Vec::new(), filter: String::new() };
        let wrong = |word: &str| -> ! {
            eprintln!("{word}: unknown; {USAGE}");
            exit(2)
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                // cargo adds it.
                "--bench" => {}
                "--readme" => args.readme = true,
                "--machine-cc" => space::machine_cc(),
                "--fifo" => args.fifo = true,
                "--turns" => match words.next().and_then(|n| n.parse().ok()).filter(|n| (1..=99).contains(n)) {
                    Some(n) => args.turns = n,
                    None => wrong("--turns without a number from 1 to 99"),
                },
                "--sysctl" => match words.next().filter(|setting| setting.contains('=')) {
                    Some(setting) => args.settings.extend([word.clone(), setting]),
                    None => wrong("--sysctl without NAME=VALUE"),
                },
                w if w.starts_with('-') || !args.filter.is_empty() => wrong(w),
                w => w.clone_into(&mut args.filter),
            }
        }
        args
    }
}

fn main() {
    memcached::ask_if_told();
    place::help_if_told();
    let args = Args::parse();
    let loads: Vec<&Load> = LOADS.iter().filter(|load| load.name.contains(&args.filter)).collect();
    if loads.is_empty() {
        return;
    }
    if let Err(why) = measure(&args, &loads) {
        println!("SKIP programs: {why}");
        exit(i32::from(args.readme));
    }
}

/// Puts this thread, and what it starts from now on, into the class SCHED_FIFO.
fn to_fifo() -> Result<(), String> {
    let me = std::process::id().to_string();
    let set = Command::new("chrt").args(["-f", "-p", "10", &me]).status();
    match set {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("this user may not use SCHED_FIFO".to_owned()),
        Err(e) => Err(format!("chrt: {e}")),
    }
}

/// What was measured of one load: for each turn, the value at each place.
type Turns = Vec<[Option<f64>; 3]>;

/// Measures and prints. An error: nothing could be measured.
fn measure(args: &Args, loads: &[&Load]) -> Result<(), String> {
    load::check_installed(loads)?;
    let usersock = place::build()?;
    space::enter()?;
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        eprintln!("given up after {} s", LIMIT.as_secs());
        exit(1);
    });
    if args.fifo {
        to_fifo()?;
    }
    let site = Site::new(usersock, args.settings.clone())?;
    let (begin, before) = (Instant::now(), load_average());
    let mut results: Vec<Turns> = loads.iter().map(|_| Turns::new()).collect();
    let mut failures = Vec::new();
    for turn in 0..args.turns {
        for (load, turns) in loads.iter().zip(&mut results) {
            let mut values = [None; 3];
            for i in 0..Place::ALL.len() {
                // Each begins one turn in three.
                let at = (turn + i) % Place::ALL.len();
                let place = Place::ALL[at];
                match site.measure(place, load) {
                    Ok(value) => values[at] = Some(value),
                    Err(why) => failures.push(format!("FAILED {}, {}: {why}", load.name, place.name())),
                }
            }
            let shown = values.map(|v| v.map_or("-".to_owned(), |v| load.unit.show(v)));
            eprintln!("{}, turn {} of {}: {}", load.name, turn + 1, args.turns, shown.join(", "));
            turns.push(values);
        }
    }
    let mut text = table(loads, &results);
    let _ = write!(text, "\n{}\n", how(args, begin.elapsed(), &before));
    failures.dedup();
    for failure in &failures {
        let _ = write!(text, "\n{failure}\n");
    }
    println!("\n{text}");
    if args.readme {
        readme::replace("README.md", MARKS, &text)?;
    }
    drop(site);
    if !failures.is_empty() {
        exit(1);
    }
    Ok(())
}

/// The geometric mean, the least and the greatest.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mean = (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp();
    let least = values.iter().copied().reduce(f64::min)?;
    Some((mean, least, values.iter().copied().reduce(f64::max)?))
}

fn table(loads: &[&Load], results: &[Turns]) -> String {
    let mut text = String::from("| program |");
    for place in Place::ALL {
        let _ = write!(text, " {} |", place.name());
    }
    text += " server, of kernel | in process, of kernel |\n|---|---|---|---|---|---|\n";
    for (load, turns) in loads.iter().zip(results) {
        let _ = write!(text, "| {} |", load.name);
        for at in 0..3 {
            let values: Vec<f64> = turns.iter().filter_map(|turn| turn[at]).collect();
            let cell = spread(&values).map_or(String::new(), |(mean, ..)| load.unit.show(mean));
            let _ = write!(text, " {cell} |");
        }
        for at in [1, 2] {
            let ratios: Vec<f64> = turns.iter().filter_map(|turn| Some(turn[at]? / turn[0]?)).collect();
            let cell = spread(&ratios).map_or(String::new(), |(mean, least, most)| match ratios.len() {
                1 => format!("{mean:.2}"),
                _ => format!("{mean:.2} ({least:.2}-{most:.2})"),
            });
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What the kernel's connections use.
fn congestion_control() -> String {
    match space::has_machine_cc() {
        true => fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default().trim().to_owned(),
        false => "CUBIC".to_owned(),
    }
}

/// How the numbers came about, in lines that the README can have.
fn how(args: &Args, took: Duration, before: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let device = if place::has_tun() { "a TUN device" } else { "a veth pair and a raw socket" };
    let class = if args.fifo { ", and all programs the class SCHED_FIFO" } else { "" };
    format!(
        "Geometric means of the turns, of which each row has {}; in brackets the least and the greatest ratio \
         within a turn.\nusersock is on {device}, the kernel's connections use {}{class}.\nMeasured in {:.0} s on \
         {cores} cores, Linux {}, load average {before} before.",
        args.turns,
        congestion_control(),
        took.as_secs_f64(),
        kernel.trim()
    )
}
