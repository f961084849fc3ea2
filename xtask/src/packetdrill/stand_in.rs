//! Stand-ins for tools that scripts call and that must act on the stack under test. They are symbolic links to this
//! executable, first in the PATH of a run; the contract is in the parent module. Calls that a stand-in does not handle
//! go to the real tool of the same name.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::{DIR_VARIABLE, KERNEL_VARIABLE};
use crate::{Failure, broken, netns, setup};

/// The names of the stand-ins.
const NAMES: [&str; 4] = ["grep", "ip", "nstat", "tc"];

/// The interpreter of scripts' code, and of `common/set_sysctls.py`.
const PYTHON: &str = "python3";

/// Where the links of a run's directory are.
pub fn bin(dir: &Path) -> PathBuf {
    dir.join("bin")
}

/// Copies this executable to where the links of all runs lead. A copy, because a build may replace the file meanwhile.
/// Beside it a link to the Python interpreter: what PATH has under its name may be a script that looks for it, which
/// takes longer than most runs.
///
/// # Errors
/// The directory cannot be written.
pub fn prepare(scratch: &Path) -> Result<(), Failure> {
    fs::copy(netns::MYSELF, scratch.join("xtask"))?;
    let asked = Command::new("python3").args(["-I", "-S", "-c", "import sys; print(sys.executable)"]).output();
    // Without an answer, runs use what PATH has.
    let answer = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default();
    if Path::new(&answer).is_absolute() {
        symlink(answer, scratch.join(PYTHON))?;
    }
    Ok(())
}

/// Makes the links of the run in `dir`: of all stand-ins, or of `ip` alone for a run on the kernel.
///
/// # Errors
/// The directory cannot be written.
pub fn install(dir: &Path, scratch: &Path, kernel: bool) -> Result<(), Failure> {
    fs::create_dir_all(bin(dir))?;
    for name in NAMES.into_iter().filter(|name| !kernel || *name == "ip") {
        symlink(scratch.join("xtask"), bin(dir).join(name))?;
    }
    if let Ok(python) = fs::read_link(scratch.join(PYTHON)) {
        symlink(python, bin(dir).join(PYTHON))?;
    }
    Ok(())
}

/// What a stand-in decides to do.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Run the real tool with these arguments.
    Real(Vec<String>),
    /// Print, and exit with status 0.
    Print(String),
    /// Append a line for the plug-in.
    Request(&'static str),
    /// Set the root queueing discipline (`None`: back to the default).
    Qdisc(Option<String>),
    /// Exit as the tool does on an error: message and exit status.
    Error(String, u8),
}

/// Runs the stand-in this executable was called as; `None` when it was called by its own name.
pub fn dispatch() -> Option<ExitCode> {
    let dir = PathBuf::from(std::env::var_os(DIR_VARIABLE)?);
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let called = args.next()?;
    let name = Path::new(&called).file_name()?.to_str()?.to_string();
    let name = NAMES.into_iter().find(|known| **known == name)?;
    let args: Vec<String> = args.collect();
    let status = match perform(name, answer(name, &args, &dir), &dir) {
        Ok(status) => status,
        Err(Failure::Usage(message) | Failure::Broken(message)) => {
            eprintln!("{name} (stand-in): {message}");
            ExitCode::FAILURE
        }
    };
    Some(status)
}

fn answer(name: &str, args: &[String], dir: &Path) -> Answer {
    match name {
        "grep" => Answer::Real(args.iter().map(|arg| socket_table(arg, dir)).collect()),
        "ip" if std::env::var_os(KERNEL_VARIABLE).is_some() => ip_with_cubic(args),
        "ip" => ip(args),
        "tc" => tc(args, fs::read_to_string(dir.join("qdisc")).ok().as_deref()),
        _ => nstat(args, dir),
    }
}

fn perform(name: &str, answer: Answer, dir: &Path) -> Result<ExitCode, Failure> {
    match answer {
        Answer::Real(args) => {
            let real = setup::find(name, Some(&bin(dir))).ok_or_else(|| broken("the real one is not installed"))?;
            return Err(broken(format!("{}: {}", real.display(), Command::new(&real).args(args).exec())));
        }
        Answer::Print(text) => std::io::stdout().write_all(text.as_bytes())?,
        Answer::Request(line) => {
            let mut file = OpenOptions::new().create(true).append(true).open(dir.join("requests"))?;
            writeln!(file, "{line}")?;
        }
        Answer::Qdisc(Some(kind)) => fs::write(dir.join("qdisc"), format!("{kind}\n"))?,
        Answer::Qdisc(None) => fs::remove_file(dir.join("qdisc"))?,
        Answer::Error(message, status) => {
            eprintln!("{message}");
            return Ok(ExitCode::from(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of the stack's socket table for that of the kernel's.
fn socket_table(arg: &str, dir: &Path) -> String {
    let file = match arg {
        "/proc/net/tcp" => "net_tcp",
        "/proc/net/tcp6" => "net_tcp6",
        _ => return arg.to_string(),
    };
    dir.join(file).to_string_lossy().into_owned()
}

/// `ip tcp_metrics flush` is for the stack's cache; the rest is for the namespace.
fn ip(args: &[String]) -> Answer {
    let mut words = args.iter().map(String::as_str).skip_while(|arg| arg.starts_with('-'));
    match (words.next(), words.next(), words.next()) {
        (Some("tcp_metrics" | "tcpmetrics"), Some("flush"), None | Some("all")) => Answer::Request("tcp_metrics flush"),
        (Some("tcp_metrics" | "tcpmetrics"), ..) => {
            Answer::Error("ip tcp_metrics: of the stack under test, only \"flush all\" can be asked here".into(), 255)
        }
        _ => Answer::Real(args.to_vec()),
    }
}

/// For the kernel: routes have CUBIC as their congestion control where they name none, as packetdrill's do.
fn ip_with_cubic(args: &[String]) -> Answer {
    let has = |words: &[&str]| args.iter().any(|arg| words.contains(&arg.as_str()));
    let mut args = args.to_vec();
    if has(&["route"]) && has(&["add", "change", "replace"]) && !has(&["congctl"]) {
        args.extend(["congctl".to_string(), "cubic".to_string()]);
    }
    Answer::Real(args)
}

/// `tc qdisc add|replace|change|delete dev tun0 root pfifo [limit N]|fq`; `current` is the discipline set before.
/// Messages and exit status 2 are as tc passes them on from the kernel.
fn tc(args: &[String], current: Option<&str>) -> Answer {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (verb, kind) = match words.as_slice() {
        ["qdisc", verb, "dev", "tun0", "root", kind @ ..] => (*verb, kind),
        _ => return Answer::Real(args.to_vec()),
    };
    let kind = match kind {
        [] => None,
        ["pfifo" | "fq"] => Some(kind[0].to_string()),
        ["pfifo", "limit", packets] if packets.parse::<u32>().is_ok() => Some(kind.join(" ")),
        _ => return Answer::Real(args.to_vec()),
    };
    match (verb, kind, current) {
        ("add", Some(_), Some(_)) => Answer::Error("Error: Exclusivity flag on, cannot modify.".into(), 2),
        ("add" | "replace", Some(kind), _) => Answer::Qdisc(Some(kind)),
        ("change", Some(kind), Some(current)) if kind.split(' ').next() == current.split_whitespace().next() => {
            Answer::Qdisc(Some(kind))
        }
        ("change", Some(_), _) => Answer::Error("Error: Invalid qdisc name.".into(), 2),
        ("delete" | "del", _, Some(_)) => Answer::Qdisc(None),
        ("delete" | "del", _, None) => Answer::Error("Error: Cannot delete qdisc with handle of zero.".into(), 2),
        _ => Answer::Real(args.to_vec()),
    }
}

/// Counters of the stack that changed since the last call. Options: `-a` totals, `-z` zeros too, `-s` do not remember
/// this call, `-r` forget earlier calls, `-n` print nothing. Patterns are names with `*` at the end at most.
fn nstat(args: &[String], dir: &Path) -> Answer {
    let (mut options, mut patterns) = (String::new(), Vec::new());
    for arg in args {
        match arg.as_str() {
            "--ignore" => options.push('a'),
            "--zeros" => options.push('z'),
            "--noupdate" => options.push('s'),
            "--reset" => options.push('r'),
            "--nooutput" => options.push('n'),
            flags if flags.starts_with('-') && !flags.starts_with("--") && flags.len() > 1 => {
                options.push_str(&flags[1..])
            }
            long if long.starts_with('-') => return Answer::Error(format!("nstat: unrecognized option '{long}'"), 255),
            pattern => patterns.push(pattern.to_string()),
        }
    }
    if let Some(unknown) = options.chars().find(|option| !"azsrn".contains(*option)) {
        return Answer::Error(format!("nstat: invalid option -- '{unknown}'"), 255);
    }
    let Ok(mib) = fs::read_to_string(dir.join("mib")) else {
        return Answer::Error("nstat: the stack under test has written no counters".into(), 1);
    };
    let history = dir.join("nstat.history");
    let before = if options.contains(['a', 'r']) { None } else { fs::read_to_string(&history).ok() };
    let written = if options.contains('s') { Ok(()) } else { fs::write(&history, &mib) };
    if let Err(error) = written {
        return Answer::Error(format!("nstat: {}: {error}", history.display()), 1);
    }
    if options.contains('n') {
        return Answer::Print(String::new());
    }
    Answer::Print(nstat_text(&counters(&mib), &counters(&before.unwrap_or_default()), options.contains('z'), &patterns))
}

fn counters(text: &str) -> BTreeMap<&str, u64> {
    let row = |line| {
        let (name, value) = str::trim(line).split_once(char::is_whitespace)?;
        Some((name, value.trim().parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// As nstat lays it out: name, increase, and a rate that is 0.0 without a daemon.
fn nstat_text(now: &BTreeMap<&str, u64>, before: &BTreeMap<&str, u64>, zeros: bool, patterns: &[String]) -> String {
    let wanted = |name: &str| {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        patterns.is_empty() || patterns.iter().any(fits)
    };
    let mut text = String::from("#kernel\n");
    for (name, value) in now {
        let increase = value.wrapping_sub(before.get(name).copied().unwrap_or(0));
        if wanted(name) && (zeros || increase != 0) {
            text.push_str(&format!("{name:<32}{increase:<16}0.0\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn nstat_prints_the_increase_since_its_last_call() {
        let dir = std::env::temp_dir().join(format!("usersock-nstat-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let set = |text: &str| fs::write(dir.join("mib"), text).unwrap();
        let call = |args: &str| match nstat(&words(args), &dir) {
            Answer::Print(text) => text.lines().skip(1).map(|l| words(l)[..2].join("=")).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        };
        let mut got = vec![call("")];
        set("TcpActiveOpens 3\nTcpExtOutOfWindowIcmps 0\n");
        got.extend([call("-s"), call(""), call("")]);
        set("TcpActiveOpens 5\nTcpExtOutOfWindowIcmps 1\n");
        got.extend([call("-sz Tcp*"), call("TcpExt*"), call(""), call("-as TcpActiveOpens"), call("-q")]);
        fs::remove_dir_all(&dir).unwrap();
        let want = [
            "Error(\"nstat: the stack under test has written no counters\", 1)",
            "TcpActiveOpens=3",
            "TcpActiveOpens=3",
            "",
            "TcpActiveOpens=2 TcpExtOutOfWindowIcmps=1",
            "TcpExtOutOfWindowIcmps=1",
            "",
            "TcpActiveOpens=5",
            "Error(\"nstat: invalid option -- 'q'\", 255)",
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn tc_keeps_the_root_discipline_of_tun0_and_leaves_the_rest_to_the_real_one() {
        let qdisc = |kind: &str| Answer::Qdisc(Some(kind.to_string()));
        for (line, current, want) in [
            ("qdisc add dev tun0 root pfifo", None, qdisc("pfifo")),
            ("qdisc replace dev tun0 root fq", Some("pfifo\n"), qdisc("fq")),
            ("qdisc replace dev tun0 root pfifo limit 0", Some("fq\n"), qdisc("pfifo limit 0")),
            ("qdisc change dev tun0 root pfifo limit 9", Some("pfifo\n"), qdisc("pfifo limit 9")),
            ("qdisc delete dev tun0 root", Some("pfifo\n"), Answer::Qdisc(None)),
        ] {
            assert_eq!(tc(&words(line), current), want, "{line}");
        }
        for (line, current) in [
            ("qdisc add dev tun0 root pfifo", Some("pfifo\n")),
            ("qdisc change dev tun0 root fq", Some("pfifo\n")),
            ("qdisc delete dev tun0 root", None),
        ] {
            assert!(matches!(tc(&words(line), current), Answer::Error(_, 2)), "{line}");
        }
        for line in ["qdisc show", "qdisc add dev tun0 root netem loss 1%", "qdisc add dev tun0 root pfifo limit many"]
        {
            assert_eq!(tc(&words(line), None), Answer::Real(words(line)), "{line}");
        }
    }

    #[test]
    fn ip_keeps_only_tcp_metrics() {
        assert_eq!(ip(&words("tcp_metrics flush all")), Answer::Request("tcp_metrics flush"));
        assert!(matches!(ip(&words("tcp_metrics show")), Answer::Error(..)));
        let route = words("-6 route change ::1 via ::2 dev tun0 advmss 600 mtu lock 660");
        assert_eq!(ip(&route), Answer::Real(route.clone()));
    }

    #[test]
    fn routes_of_the_kernel_have_cubic_unless_they_name_another() {
        for (line, want) in [
            ("-4 route add 192.0.2.1 dev tun0 via 192.168.0.1", " congctl cubic"),
            ("route change 192.0.2.1 dev tun0 advmss 600", " congctl cubic"),
            ("route add 192.0.2.1 dev tun0 congctl reno", ""),
            ("-6 route del fd3d:fa7b:d17d::1", ""),
            ("tcp_metrics flush all", ""),
        ] {
            assert_eq!(ip_with_cubic(&words(line)), Answer::Real(words(&format!("{line}{want}"))), "{line}");
        }
    }

    #[test]
    fn grep_reads_the_stacks_socket_tables() {
        let answer = answer("grep", &[" 0A ".into(), "/proc/net/tcp".into(), "/proc/net/tcp6".into()], Path::new("/d"));
        assert_eq!(answer, Answer::Real(vec![" 0A ".into(), "/d/net_tcp".into(), "/d/net_tcp6".into()]));
    }
}
