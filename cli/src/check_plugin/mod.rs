//! `usersock check-plugin`: what every plug-in must do, tried on one. The command finds out what the file registers,
//! and runs the checks of each kind of table. Each check is a process of its own, this command again with `--part`, so
//! that a crash or a hang of the plug-in is a finding like any other, and none disturbs the next. Most are worlds in
//! virtual time; signals, threads and devices need real time. Below: `usersock::sim`, `usersock::net`, the plug-in's
//! loader.
//!
//! | file | what |
//! |---|---|
//! | `part` | what a check is given, and how it ends |
//! | `child` | a check in its process: started, waited for, what it prints |
//! | `list` | all checks, and which kind of table each is for |
//! | `scene` | a world of two hosts with the plug-in, and sockets in it; what must be left at the end |
//! | `flow` | bytes and messages both ways, each compared |
//! | `states` | protocols: what each call returns in each state; names; closing |
//! | `calls` | protocols: waiting, readiness, time limits, options, messages |
//! | `network` | protocols: bad links, hostile packets, ICMP errors, repeatability |
//! | `process` | protocols: signals, fork, threads; loading and unloading of any plug-in |
//! | `tcp` | a connection of TCP in a world, for those that follow |
//! | `cong`, `hook`, `stack`, `layer`, `device` | the other kinds |

mod calls;
mod child;
mod cong;
mod device;
mod flow;
mod hook;
mod layer;
mod list;
mod network;
mod part;
mod process;
mod scene;
mod stack;
mod states;
mod tcp;

use crate::{Failure, out, pipe};
use child::{Table, Verdict};
use list::{CHECKS, Check};
use part::Part;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;
use usersock_ffi::loader::TableKind;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock check-plugin ./tiny.so
  usersock check-plugin ./tiny.so --only bad-link --seed 7   # one check, with another history
  usersock check-plugin --list                               # what is checked
  usersock check-plugin ./udpdev.so --device 127.0.0.1:7001/127.0.0.1:7002 --peer 127.0.0.1:7002/127.0.0.1:7001

A line a check: `ok`, `FAIL` and what was wrong, or `not checked` and why. Each check runs in a process of its own, with
USERSOCK_DEBUG=skb, so that misuse of a packet ends it with a line. One that takes longer than --timeout has failed.
Exit status: 0, all that was checked is well; 1, something failed; 2, wrong arguments, or a file that does not load.")]
pub(crate) struct Args {
    /// The plug-in, a shared object
    #[arg(value_name = "FILE.so", required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Run these checks alone, as TINY/bad-link, or bad-link of every table, or all of TINY; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Do not run the checks but list them: those of the file, or all
    #[arg(long)]
    list: bool,
    /// Of the links' chances, of what is sent, and of how packets are mutated
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A line of JSON a check
    #[arg(long)]
    json: bool,
    /// Of the protocols, check only the one of this socket type and IP protocol number
    #[arg(long, value_name = "TYPE:PROTOCOL")]
    socket: Option<pipe::Kind>,
    /// What `device=TYPE:` takes, of a device to check; without it no device is opened
    #[arg(long, value_name = "ARG", requires = "peer")]
    device: Option<String>,
    /// The same of a second device, which the first one reaches
    #[arg(long, value_name = "ARG", requires = "device")]
    peer: Option<String>,
    /// Seconds of real time that a check may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Checks that run at the same time; without it as many as there are processors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// This process is one check.
    #[arg(long, hide = true)]
    part: Option<String>,
}

/// A check of one of the file's tables.
struct Planned {
    check: &'static Check,
    /// The table's name; empty: the plug-in as a whole.
    table: String,
}

impl Planned {
    fn name(&self) -> String {
        let table = if self.table.is_empty() { "plugin" } else { &self.table };
        format!("{table}/{}", self.check.name)
    }

    fn is_wanted(&self, only: &[String]) -> bool {
        let name = self.name();
        let table = name.rsplit_once('/').map_or("", |(table, _)| table);
        only.is_empty() || only.iter().any(|o| *o == name || *o == self.check.name || o == table)
    }
}

/// What is to be run, in the order of the list.
fn plan(args: &Args, tables: &[Table]) -> Vec<Planned> {
    let mut all = Vec::new();
    let of_plugin = CHECKS.iter().filter(|c| c.kind.is_none());
    all.extend(of_plugin.map(|check| Planned { check, table: String::new() }));
    for table in tables {
        let selected =
            args.socket.is_none_or(|s| table.kind != TableKind::Protocol || table.is_socket(s.ty, s.protocol));
        let checks = CHECKS.iter().filter(|c| selected && c.kind == Some(table.kind));
        all.extend(checks.map(|check| Planned { check, table: table.name.clone() }));
    }
    all
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Some(file) = &args.file else { return list_all() };
    if file.as_os_str().as_encoded_bytes().contains(&b',') {
        return Err(Failure::Usage(format!("check-plugin {}: a name with a comma", file.display())));
    }
    let part = |check: &str, table: &str| Part {
        check: check.to_owned(),
        table: table.to_owned(),
        kind: list::find(check).and_then(|c| c.kind),
        file: file.clone(),
        seed: args.seed,
        device: args.device.clone(),
        peer: args.peer.clone(),
        timeout: args.timeout,
    };
    if let Some(text) = &args.part {
        let (table, check) = text.rsplit_once('/').unwrap_or(("", text));
        return part(check, table).play();
    }
    let tables = part(child::DESCRIBE, "").describe()?;
    let planned = plan(args, &tables);
    let unknown = args.only.iter().find(|o| !planned.iter().any(|p| p.is_wanted(std::slice::from_ref(o))));
    if let Some(name) = unknown {
        return Err(Failure::Usage(format!("--only {name}: there is no such check (--list lists them)")));
    }
    let wanted: Vec<Planned> = planned.into_iter().filter(|p| p.is_wanted(&args.only)).collect();
    if args.list {
        return out::print(|out| wanted.iter().try_for_each(|p| writeln!(out, "{:<28} {}", p.name(), p.check.about)));
    }
    if wanted.is_empty() {
        return Err(Failure::Usage("the file registers nothing that --socket names".to_owned()));
    }
    let jobs = args.jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let mut sum = Sum::default();
    let check = |p: &Planned| part(p.check.name, &p.table).verdict(p.check.twice);
    in_order(&wanted, jobs, check, |p, verdict| sum.line(args, p, &verdict))?;
    sum.print(args)
}

/// Starts `jobs` threads that do `work` for each of `all`; `then` gets the results in the order of `all`, each as soon
/// as it and those before it are there. Its first error is returned.
fn in_order<T: Sync, R: Send>(
    all: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut then: impl FnMut(&T, R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let todo = Mutex::new(0..all.len());
    let (tx, rx) = mpsc::channel();
    let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|s| {
        for _ in 0..jobs.min(all.len()) {
            let (tx, next, work) = (tx.clone(), &next, &work);
            s.spawn(move || {
                while let Some(i) = next() {
                    if tx.send((i, work(&all[i]))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tx);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (i, result) in rx {
            early.insert(i, result);
            while let Some(result) = early.remove(&due) {
                then(&all[due], result)?;
                due += 1;
            }
        }
        Ok(())
    })
}

/// How many checks ended how.
#[derive(Default)]
struct Sum {
    ok: usize,
    failed: usize,
    unchecked: usize,
}

impl Sum {
    /// Prints a check's line, and counts it.
    fn line(&mut self, args: &Args, p: &Planned, verdict: &Verdict) -> Result<(), Failure> {
        match verdict {
            Verdict::Ok => self.ok += 1,
            Verdict::Fail(_) => self.failed += 1,
            Verdict::Unchecked(_) => self.unchecked += 1,
        }
        let (name, (word, why)) = (p.name(), verdict.parts());
        out::print(|out| match verdict {
            _ if args.json => {
                writeln!(out, "{}", json!({ "check": name, "result": word, "why": why, "about": p.check.about }))
            }
            Verdict::Ok => writeln!(out, "{name}: ok"),
            Verdict::Fail(why) => writeln!(out, "{name}: FAIL {why}"),
            Verdict::Unchecked(why) => writeln!(out, "{name}: not checked: {why}"),
        })
    }

    /// Prints the sum; a failure is one of the command, too.
    fn print(&self, args: &Args) -> Result<(), Failure> {
        let Sum { ok, failed, unchecked } = self;
        let checks = ok + failed + unchecked;
        out::print(|out| match args.json {
            true => {
                let sum = json!({ "checks": checks, "ok": ok, "failed": failed, "unchecked": unchecked });
                writeln!(out, "{sum}")
            }
            false => {
                let seed = args.seed;
                writeln!(out, "{checks} checks: {ok} ok, {failed} failed, {unchecked} not checked; seed {seed}")
            }
        })?;
        match failed {
            0 => Ok(()),
            1 => Err(Failure::Broken("1 check failed".to_owned())),
            n => Err(Failure::Broken(format!("{n} checks failed"))),
        }
    }
}

/// `--list` without a file.
fn list_all() -> Result<(), Failure> {
    out::print(|out| {
        for (kind, title) in list::KINDS {
            writeln!(out, "{title}")?;
            for check in CHECKS.iter().filter(|c| c.kind == *kind) {
                writeln!(out, "  {:<18} {}", check.name, check.about)?;
            }
        }
        Ok(())
    })
}
