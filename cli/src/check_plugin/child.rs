//! A check's process. The parent starts this command again with `--part TABLE/CHECK`, and waits for it as long as the
//! limit says; what it found is the last line of its standard output that begins with `MARK`. A check that dies, or
//! ends without such a line, has failed, and the last line on its standard error says more. Linux: wait(2).

use super::list::{self, CHECKS};
use super::part::{Finding, Part, TRACE};
use crate::Failure;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::any::Any;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use usersock_ffi::loader::{Loaded, TableKind};

/// The part that says what the file registers.
pub(super) const DESCRIBE: &str = "describe";
/// Begins the lines that are for the parent: the plug-in may print, too.
const MARK: &str = "usersock-check: ";

/// The kinds in words, between the processes.
const KIND_NAMES: &[(TableKind, &str)] = &[
    (TableKind::Protocol, "protocol"),
    (TableKind::Congestion, "congestion control"),
    (TableKind::Hooks, "hooks"),
    (TableKind::Tcp, "TCP"),
    (TableKind::Layer, "layer"),
    (TableKind::Device, "device"),
];

fn kind_name(kind: TableKind) -> &'static str {
    KIND_NAMES.iter().find(|(k, _)| *k == kind).map_or("", |(_, name)| name)
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Fail(String),
    Unchecked(String),
}

impl Verdict {
    /// A word for JSON, and why.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Verdict::Ok => ("ok", ""),
            Verdict::Fail(why) => ("fail", why),
            Verdict::Unchecked(why) => ("unchecked", why),
        }
    }
}

/// A table that the file registers.
pub(super) struct Table {
    pub kind: TableKind,
    pub name: String,
    /// Of a protocol, what socket(2) takes: type and protocol.
    keys: Vec<(i32, i32)>,
}

impl Table {
    pub(super) fn is_socket(&self, ty: i32, protocol: i32) -> bool {
        self.keys.iter().any(|k| k.0 == ty && (protocol == 0 || k.1 == protocol))
    }
}

/// What a process of ours has left behind.
struct Ended {
    /// None: it was ended, because its time was over.
    status: Option<ExitStatus>,
    out: String,
    err: String,
}

impl Ended {
    /// What it said to its parent.
    fn told(&self) -> Option<Value> {
        self.out.lines().filter_map(|l| l.strip_prefix(MARK)).next_back().and_then(|l| serde_json::from_str(l).ok())
    }

    fn traced(&self) -> Vec<&str> {
        self.out.lines().filter_map(|l| l.strip_prefix(TRACE)).collect()
    }

    /// Its end in a line, where it told nothing.
    fn line(&self, limit: u64) -> String {
        let last = self.err.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
        let end = match self.status {
            None => format!("it did not end within {limit} s"),
            Some(s) => match s.signal() {
                Some(signal) => format!("died of {}", signal_name(signal)),
                None => format!("ended the process, status {}", s.code().unwrap_or_default()),
            },
        };
        if last.is_empty() { end } else { format!("{end}: {last}") }
    }
}

fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned())
}

impl Part {
    /// Runs it in a process of its own.
    fn start(&self) -> std::io::Result<Ended> {
        // This program, also where another one has taken its place in the file system.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("usersock").arg("check-plugin").arg(&self.file).args(["--seed", &self.seed.to_string()]);
        command.args(["--timeout", &self.timeout.to_string()]);
        command.args(["--part", &format!("{}/{}", self.table, self.check)]);
        if let (Some(device), Some(peer)) = (&self.device, &self.peer) {
            command.args(["--device", device, "--peer", peer]);
        }
        command.env_remove("USERSOCK_CONFIG").env("USERSOCK_DEBUG", "skb");
        if !list::find(&self.check).is_some_and(|c| c.watched) {
            command.env_remove("USERSOCK_DEBUG");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = (thread::spawn(move || text(out)), thread::spawn(move || text(err)));
        let end = Instant::now() + Duration::from_secs(self.timeout);
        let pid = Pid::from_raw(child.id() as i32);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let in_time = loop {
            match waitid(Id::Pid(pid), flags)? {
                WaitStatus::StillAlive if Instant::now() >= end => break false,
                WaitStatus::StillAlive => thread::sleep(Duration::from_millis(2)),
                _ => break true,
            }
        };
        // With what it has forked, which would keep the pipes open. It is not waited for yet: the number is still its.
        let _ = killpg(pid, Signal::SIGKILL);
        let status = child.wait()?;
        Ok(Ended {
            status: in_time.then_some(status),
            out: out.join().unwrap_or_default(),
            err: err.join().unwrap_or_default(),
        })
    }

    fn run_once(&self) -> (Verdict, Vec<String>) {
        let ended = match self.start() {
            Ok(ended) => ended,
            Err(e) => return (Verdict::Fail(format!("the check cannot be started: {e}")), Vec::new()),
        };
        let verdict = match ended.told() {
            // It may have died after its last word, in the end of the process.
            Some(_) if !ended.status.is_some_and(|s| s.success()) => Verdict::Fail(ended.line(self.timeout)),
            Some(told) => {
                let why = told["why"].as_str().unwrap_or_default().to_owned();
                match told["result"].as_str() {
                    Some("ok") => Verdict::Ok,
                    Some("unchecked") => Verdict::Unchecked(why),
                    _ => Verdict::Fail(why),
                }
            }
            None => Verdict::Fail(ended.line(self.timeout)),
        };
        (verdict, ended.traced().into_iter().map(str::to_owned).collect())
    }

    /// Runs it; `twice`, it must also leave the same trace both times.
    pub(super) fn verdict(&self, twice: bool) -> Verdict {
        let (verdict, first) = self.run_once();
        if !twice || verdict != Verdict::Ok {
            return verdict;
        }
        let (verdict, second) = self.run_once();
        if verdict != Verdict::Ok {
            return verdict;
        }
        let both = first.iter().zip(&second).enumerate();
        let differing = both.filter(|(_, (a, b))| a != b).map(|(i, (a, b))| (i, a.as_str(), b.as_str())).next();
        match differing {
            Some((i, a, b)) => Verdict::Fail(format!("with the same seed, packet {i} was {a}, and then {b}")),
            None if first.len() != second.len() => {
                Verdict::Fail(format!("with the same seed, {} packets, and then {}", first.len(), second.len()))
            }
            None => Verdict::Ok,
        }
    }

    /// What the file registers; a file that does not load is the caller's mistake.
    pub(super) fn describe(&self) -> Result<Vec<Table>, Failure> {
        let ended = self.start().map_err(|e| Failure::Broken(format!("the check cannot be started: {e}")))?;
        let Some(told) = ended.told() else {
            let line = ended.line(self.timeout);
            return Err(Failure::Usage(format!("plugin={}: loading it {line}", self.file.display())));
        };
        if let Some(why) = told["refused"].as_str() {
            return Err(Failure::Usage(why.to_owned()));
        }
        let kind = |name: &Value| KIND_NAMES.iter().find(|(_, n)| name == n).map(|(k, _)| *k);
        let keys = |t: &Value| {
            let pairs = t["keys"].as_array().cloned().unwrap_or_default();
            let number = |v: &Value| v.as_i64().unwrap_or_default() as i32;
            pairs.iter().map(|p| (number(&p[0]), number(&p[1]))).collect()
        };
        let tables = told["tables"].as_array().cloned().unwrap_or_default();
        let table = |t: &Value| {
            let name = t["name"].as_str().unwrap_or_default().to_owned();
            Some(Table { kind: kind(&t["kind"])?, name, keys: keys(t) })
        };
        Ok(tables.iter().filter_map(table).collect())
    }

    /// In the check's own process.
    pub(super) fn play(&self) -> Result<(), Failure> {
        if self.check == DESCRIBE {
            return self.tell_tables();
        }
        let Some(check) = CHECKS.iter().find(|c| c.name == self.check && c.fits(self)) else {
            return Err(Failure::Usage(format!("--part {}: there is no such check", self.check)));
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| (check.run)(self)));
        let outcome = outcome.unwrap_or_else(|panic| Err(Finding::Wrong(format!("panic: {}", panic_text(&*panic)))));
        tell(&match outcome {
            Ok(()) => json!({ "result": "ok" }),
            Err(Finding::Unchecked(why)) => json!({ "result": "unchecked", "why": why }),
            Err(Finding::Wrong(why)) => json!({ "result": "fail", "why": why.replace('\n', " ") }),
        })
    }

    /// Told before the stack ends: what happens then is a check's.
    fn tell_tables(&self) -> Result<(), Failure> {
        let stack = match usersock::config::build("") {
            Ok(stack) => stack,
            Err(e) => return tell(&json!({ "refused": e.message })),
        };
        let loaded = match Loaded::open(&stack, &self.file) {
            Ok(loaded) => loaded,
            Err(e) => return tell(&json!({ "refused": e.message })),
        };
        let listed = stack.registry.list();
        let keys = |name: &str| -> Vec<[i32; 2]> {
            let keys = listed.iter().filter(|l| l.name == name).flat_map(|l| &l.keys);
            keys.map(|&(_, ty, protocol)| [ty, protocol]).collect()
        };
        let tables = loaded.tables().into_iter().map(|(kind, name)| {
            let keys = if kind == TableKind::Protocol { keys(&name) } else { Vec::new() };
            json!({ "kind": kind_name(kind), "name": name, "keys": keys })
        });
        tell(&json!({ "tables": tables.collect::<Vec<_>>() }))
    }
}

/// A line for the parent. It begins on a line of its own, whatever the plug-in has printed.
fn tell(told: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    write!(out, "\n{MARK}{told}\n").and_then(|()| out.flush()).map_err(|e| Failure::Broken(format!("stdout: {e}")))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}

/// All that comes from a pipe; what is no text is shown as such.
fn text(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What has been read before an error is kept.
    let _ = from.map(|mut from| from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
