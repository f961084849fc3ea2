//! Requests of one byte to a server with one thread, which waits in epoll_wait, poll or recv, beside the kernel's
//! server across veth: requests a second, and what one costs the server in system calls and processor time. The client
//! is the kernel's in every case, and the server a process of its own, so that all its threads can be counted.

use crate::measure::Bench;
use crate::report::{Report, Row, Target, Unit};
use crate::space::{self, Peer, VETH};
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// The argument that makes this program the server.
const SERVE: &str = "--serve";
/// The TUN device of the servers on ours, its address and that of the kernel's side.
const TUN: (&str, &str, &str) = ("usk1", "10.99.4.2", "10.99.4.1");
/// How a server waits, and connections.
const CASES: [(&str, usize); 4] = [("epoll", 1), ("epoll", 50), ("poll", 1), ("recv", 1)];
/// Rounds of requests in which the system calls are counted.
const COUNTED: u64 = 2000;

#[allow(unsafe_code)]
mod server {
    use super::{CString, c_char, c_int};

    unsafe extern "C" {
        fn serve_requests_ours(how: *const c_char, ip: *const c_char) -> c_int;
        fn serve_requests_kernel(how: *const c_char, ip: *const c_char) -> c_int;
    }

    /// Serves until standard input ends; returns the exit status.
    pub(super) fn run(ours: bool, how: &CString, ip: &CString) -> c_int {
        let (how, ip) = (how.as_ptr(), ip.as_ptr());
        match ours {
            // SAFETY: both are strings that outlive the call.
            true => unsafe { serve_requests_ours(how, ip) },
            // SAFETY: as above.
            false => unsafe { serve_requests_kernel(how, ip) },
        }
    }
}

/// Serves and ends, if this process was started as a server.
pub fn serve_if_asked() {
    let args: Vec<CString> = std::env::args().filter_map(|a| CString::new(a).ok()).collect();
    if let [_, serve, whose, how, ip] = &args[..]
        && serve.to_bytes() == SERVE.as_bytes()
    {
        // The symbols that the server calls are linked for this reference.
        let _exports = usersock_ffi::loader::load as *const ();
        std::process::exit(server::run(whose.to_bytes() == b"ours", how, ip));
    }
}

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(ours: bool, how: &str, ip: &str) -> Result<Server, String> {
        let exe = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut process = Command::new(exe)
            .args([SERVE, if ours { "ours" } else { "kernel" }, how, ip])
            .env("USERSOCK_CONFIG", format!("tun={},addr={}/24", TUN.0, TUN.1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the server does not start: {e}"))?;
        let mut line = String::new();
        let out = process.stdout.take().ok_or("no standard output")?;
        BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        let port = line.trim().parse().map_err(|_| format!("the server printed {line:?} and no port"))?;
        Ok(Server { process, port })
    }

    /// Processor time of all its threads that exist.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).into_iter().flatten().flatten();
        let first = |text: String| text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
        let times = tasks.filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok().and_then(first));
        Duration::from_nanos(times.sum())
    }

    /// The system calls by kind that all its threads make while `f` runs. None without strace.
    fn calls(&self, f: impl FnOnce()) -> Option<BTreeMap<String, u64>> {
        let pid = self.process.id();
        let summary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("calls-{pid}"));
        let mut strace = Command::new("strace")
            .args(["-q", "-f", "-c", "-U", "calls,name", "-o"])
            .arg(&summary)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let traced = || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let mut status = tasks.filter_map(|t| fs::read_to_string(t.path().join("status")).ok());
            status.all(|s| !s.contains("TracerPid:\t0\n"))
        };
        let begin = Instant::now();
        while !traced() {
            if begin.elapsed() > Duration::from_secs(5) || strace.try_wait().ok()?.is_some() {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
        f();
        let id = i32::try_from(strace.id()).ok()?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGINT).ok()?;
        strace.wait().ok()?;
        let text = fs::read_to_string(&summary).ok()?;
        let _ = fs::remove_file(&summary);
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.to_string()))
        };
        let rows = text.lines().filter_map(row).filter(|(_, name)| name != "total");
        Some(rows.map(|(n, name): (u64, String)| (name, n)).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One request on every connection, and the answers.
fn round(connections: &mut [TcpStream]) {
    let mut byte = [7];
    for c in connections.iter_mut() {
        c.write_all(&byte).expect("write");
    }
    for c in connections.iter_mut() {
        c.read_exact(&mut byte).expect("read");
    }
}

/// What one request costs.
#[derive(Default)]
struct Cost {
    rate: Option<f64>,
    calls: Option<f64>,
    note: String,
}

fn measure(bench: &mut Bench, group: &str, id: &str, server: &Server, mut connections: Vec<TcpStream>) -> Cost {
    let each = connections.len() as f64;
    let (mut rounds, mut cpu) = (0, Duration::ZERO);
    let median = bench.custom(group, id, 0, |n| {
        let (begin, used) = (Instant::now(), server.cpu());
        (0..n).for_each(|_| round(&mut connections));
        let elapsed = begin.elapsed();
        (rounds, cpu) = (rounds + n, cpu + server.cpu().saturating_sub(used));
        elapsed
    });
    let Some(median) = median else { return Cost::default() };
    let mut note =
        format!("{group}/{id}: {:.1} µs of the server's processor", cpu.as_secs_f64() * 1e6 / rounds as f64 / each);
    let calls = server.calls(|| (0..COUNTED).for_each(|_| round(&mut connections))).map(|calls| {
        let requests = COUNTED as f64 * each;
        for (name, n) in calls.iter().filter(|c| *c.1 * 100 > COUNTED) {
            note += &format!(", {name} {:.2}", *n as f64 / requests);
        }
        calls.values().sum::<u64>() as f64 / requests
    });
    Cost { rate: Some(each * 1e9 / median), calls, note }
}

fn group((how, connections): (&str, usize)) -> String {
    format!("tun_requests_{how}_{connections}")
}

/// The names of the cases.
pub fn groups() -> impl Iterator<Item = String> {
    CASES.into_iter().map(group)
}

/// Runs all cases. `far`: the namespace behind the veth pair.
pub fn run(bench: &mut Bench, report: &mut Report, far: &Peer) {
    for (how, connections) in CASES {
        let group = group((how, connections));
        let connect = |ip: &str, port: u16| -> Vec<TcpStream> {
            let open = |_| {
                let c = TcpStream::connect((ip, port)).expect("connect");
                c.set_nodelay(true).and_then(|()| c.set_read_timeout(Some(crate::net::PATIENCE))).expect("options");
                c
            };
            (0..connections).map(open).collect()
        };
        let mut cost = |id: &str, start: &dyn Fn() -> Result<(Server, &'static str), String>| {
            let mut cost = Cost::default();
            bench.attempt(report, &format!("{group}/{id}"), |bench| {
                let (server, ip) = start().expect("server");
                cost = measure(bench, &group, id, &server, connect(ip, server.port));
                cost.rate
            });
            if !cost.note.is_empty() {
                report.note(&cost.note);
            }
            cost
        };
        let kernel = cost("kernel_veth", &|| far.run(move || Server::start(false, how, VETH.1)).map(|s| (s, VETH.1)));
        let ours = cost("usersock", &|| {
            let server = Server::start(true, how, TUN.1)?;
            space::ip(&format!("addr add {}/24 dev {}", TUN.2, TUN.0))?;
            space::use_cubic()?;
            Ok((server, TUN.1))
        });
        let server = format!("across TUN, {how} server, connections: {connections} (kernel: veth)");
        let row = |what: String, unit, ours, kernel| Row { what, unit, ours, kernel, peer: None, target: Target::None };
        report.row(row(format!("{server}: requests"), Unit::Rate, ours.rate, kernel.rate));
        report.row(row(format!("{server}: system calls a request"), Unit::Count, ours.calls, kernel.calls));
    }
}
