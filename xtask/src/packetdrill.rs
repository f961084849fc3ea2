//! `cargo xtask packetdrill`: Google's packetdrill, given by `--bin`, runs scripts against usersock through the plug-in
//! `libusersock_packetdrill.so` (or, with `--kernel`, against the kernel). Each script runs in the variants and with
//! the arguments that packetdrill's own `run_all.py` gives it, but for the options that the script itself has; each run
//! has a network namespace of its own and a private directory. `world` has the variants and the arguments, `inside` is
//! the part in the namespace, `stand_in` the tools that must act on the stack under test, `known` the runs that fail
//! and why, `report` what all of it comes to.
//!
//! # Contract between the runner, the plug-in and the stand-ins
//!
//! The runner starts packetdrill with `--so_filename=PLUGIN`, `LD_PRELOAD=PLUGIN` and `USERSOCK_PD_DIR=DIR`, an
//! absolute path of a directory that belongs to this run alone. For a script with `--mss=N` it adds `--so_flags=mss=N`,
//! because packetdrill gives that option to its own device only. The commands of a script are run by packetdrill
//! through system(3), in the same process as the plug-in, which therefore interposes `system`:
//!
//! - **Once, when it is loaded**, it removes `LD_PRELOAD` from the environment: shells and tools must not carry it.
//! - **Before** each call it writes to `DIR` (to a temporary name, then renamed):
//!   - `mib`: every counter of the stack, a line each, `Name value`, with nstat's names (`TcpExtOutOfWindowIcmps 1`).
//!   - `net_tcp`, `net_tcp6`: the stack's sockets as `/proc/net/tcp` and `/proc/net/tcp6` would show them.
//! - **After** each call it reads again:
//!   - the sysctls, from `/proc/sys/net/ipv4/*`, `/proc/sys/net/ipv6/*` and `/proc/sys/net/core/*` of its namespace;
//!   - the parameters of CUBIC, from `/sys/module/tcp_cubic/parameters/*` (in the run's mount namespace these are
//!     private copies with the kernel's values, so a script that writes them does not change the machine);
//!   - the MTU and the offloads of `tun0`: without what `ethtool -k` calls tcp-segmentation-offload, super-packets are
//!     cut before they are sniffed, as the kernel cuts them before its packet sockets see them. The plug-in offers the
//!     offloads on `tun0` at its start, as packetdrill does on its own;
//!   - the routes to the remote address with their metrics (netlink, or the text of `ip route`; `ip -j route` leaves
//!     out that an mtu is locked): `mtu` and its lock, `advmss`, `initcwnd`, `initrwnd`, `quickack`, `rto_min`,
//!     `congctl`, `features ecn`, `fastopen_no_cookie`;
//!   - `DIR/qdisc`, one line, the root queueing discipline of `tun0`: `pfifo` (as when the file is missing),
//!     `pfifo limit N` (0: each transmit is a local drop, NET_XMIT_DROP) or `fq` (paced by the qdisc);
//!   - `DIR/requests`, a line each, obeyed in order and then deleted: `tcp_metrics flush` (forget what is cached by
//!     destination: Fast Open cookies, ssthresh, RTT).
//!
//! Before packetdrill starts, the namespace has `lo` up and a `tun0` with the address, prefix, MTU and route that
//! packetdrill gives its own device in kernel mode. Nothing reads or writes that device: packets go through the
//! plug-in.
//!
//! # What the scripts call, and what implements it
//!
//! From all scripts below google/packetdrill's gtests/net/tcp:
//!
//! | command | implemented by |
//! |---|---|
//! | `common/defaults.sh`: `ip tcp_metrics flush all` | stand-in `ip`: a line in `requests` |
//! | `common/defaults.sh`, scripts: `sysctl -q net.ipv4.tcp_...=...` | the real one, in the namespace; a name that the kernel lacks fails as it always does |
//! | `sysctl -q net.ipv4.tcp_congestion_control=cubic`, `tcp_ecn=3` | the real one, on private plain files that are bound there (`inside::PRIVATE_SYSCTLS`), because the kernel of the machine may refuse what the stack takes. They are in `DIR/sysctl` by their names; what the stack refuses, the plug-in overwrites with the stack's value |
//! | `common/set_sysctls.py /proc/sys/net/ipv4/...=...`, `/tmp/sysctl_restore_$PPID.sh` | the real files of the namespace |
//! | `tc qdisc add\|replace\|change\|delete dev tun0 root pfifo [limit N]\|fq` | stand-in `tc`: `DIR/qdisc`, whether or not the kernel has that qdisc |
//! | `ip route change ...`, `ip -6 route change ... advmss N mtu lock N initcwnd N` | the real `ip` (through the stand-in), on the namespace's routes |
//! | `ethtool -K tun0 gso off tso off` | the real one, on the namespace's `tun0` |
//! | `nstat`, piped to `grep TcpExtOutOfWindowIcmps` | stand-in `nstat`: differences of `DIR/mib` since its last call |
//! | `grep " 0A " /proc/net/tcp /proc/net/tcp6` | stand-in `grep`: reads `net_tcp` and `net_tcp6` for these two, then is the real one |
//! | `echo 3 > /sys/module/tcp_cubic/parameters/hystart_detect` | the private copies above |
//! | `/bin/dd`, `/bin/rm` of `/tmp/testfile` | the real ones; the variants of one script run one after another, because they share that name |
//! | python code (`%{ ... }%`) | python3 by packetdrill, without the site's packages, over the `tcp_info` that the preloaded `getsockopt` gave it |
//!
//! With `--kernel` there are no copies and no `tun0` but packetdrill's own, and one stand-in: `ip` gives the routes
//! CUBIC, which scripts ask for by a sysctl that the kernel does not let a namespace change. In both modes `/bin/sh` is
//! bash.

pub mod inside;
mod known;
mod pool;
mod report;
pub mod stand_in;
mod world;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::{Failure, Outcome, broken, cargo, netns, setup};
use world::{Own, Variant};

/// Environment variable: the run's private directory.
pub const DIR_VARIABLE: &str = "USERSOCK_PD_DIR";
/// Environment variable, set in runs on the kernel.
const KERNEL_VARIABLE: &str = "USERSOCK_PD_KERNEL";

/// What runs and their scripts call.
const TOOLS: [&str; 6] = ["bash", "ip", "tc", "ethtool", "sysctl", "python3"];

/// Arguments of `cargo xtask packetdrill`.
#[derive(clap::Args)]
pub struct Args {
    /// The packetdrill executable (required: none comes with usersock)
    #[arg(long, value_name = "PACKETDRILL")]
    bin: Option<PathBuf>,
    /// Scripts run at a time [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Write each result (script, variant, pass, seconds, last line of the error) to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only what has this in "script (variant)"
    #[arg(long, value_name = "SUBSTR", default_value = "", hide_default_value = true)]
    filter: String,
    /// Run against the kernel's TCP instead, for comparison
    #[arg(long)]
    kernel: bool,
    /// Use this plug-in instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    plugin: Option<PathBuf>,
    /// Print the output of each failing run
    #[arg(long)]
    verbose: bool,
    /// Write the tables of docs/packetdrill.md anew, from a play of all of google/packetdrill's gtests/net/tcp
    #[arg(long, conflicts_with_all = ["kernel", "filter"])]
    write: bool,
    /// Directories (every *.pkt below them) or scripts
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
}

/// A script and the variants of it to run.
struct Script {
    path: PathBuf,
    /// From the name of the directory given by the user on: `tcp/close/close-local.pkt`.
    name: String,
    variants: Vec<Variant>,
}

/// Fixed for all runs.
struct Setting {
    bin: PathBuf,
    plugin: Option<PathBuf>,
    how: netns::How,
    /// Longest time a run may take before it is killed and counts as failed.
    limit: Duration,
    /// Parent of the runs' private directories.
    scratch: PathBuf,
}

/// The result of one run.
struct RunResult {
    path: PathBuf,
    name: String,
    variant: Variant,
    pass: bool,
    seconds: f64,
    /// The most informative line of the output, or why there is none. Empty if it passed.
    error: String,
    output: String,
}

/// Finds the scripts, builds the plug-in, runs everything, reports. True if each run is as `known` says.
///
/// # Errors
/// Usage: no packetdrill, no script found. Otherwise: the build failed, or the results cannot be written.
pub fn run(args: &Args) -> Outcome {
    let Some(bin) = &args.bin else {
        return Err(Failure::Usage(
            "no packetdrill given: point --bin at a packetdrill binary (built from github.com/google/packetdrill)"
                .into(),
        ));
    };
    let bin = bin.canonicalize().map_err(|error| Failure::Usage(format!("--bin {}: {error}", bin.display())))?;
    let scripts = collect(&args.dirs, &args.filter)?;
    if let Some(file) = &args.json {
        // An error is detected now and not after the last run.
        fs::write(file, "").map_err(|error| Failure::Usage(format!("--json {}: {error}", file.display())))?;
    }
    setup::programs(TOOLS.iter());
    let plugin = match &args.plugin {
        _ if args.kernel => None,
        Some(file) => {
            Some(file.canonicalize().map_err(|error| Failure::Usage(format!("--plugin {}: {error}", file.display())))?)
        }
        None => Some(cargo::build_release("usersock-packetdrill", &[])?.with_extension("so")?.clone()),
    };
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let scratch = std::env::temp_dir().join(format!("usersock-packetdrill-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    stand_in::prepare(&scratch)?;
    if args.kernel {
        note_congestion_control();
    }
    let setting =
        Setting { bin, plugin, how: netns::How::available(), limit: Duration::from_secs(30), scratch: scratch.clone() };
    let results = pool::run_all(&setting, scripts, jobs, args.verbose);
    // Leftovers of a killed run (a file still being written) do not make the result wrong.
    let _ = fs::remove_dir_all(scratch);
    if let Some(file) = &args.json {
        fs::write(file, format!("{:#}\n", to_json(&results)))?;
    }
    say(&report::summary(&results));
    if args.write {
        report::write(&results)?;
    }
    Ok(report::as_known(&results))
}

/// Prints in one call, so that parallel runs do not mix. A reader that went away (`| head`) does not end the runs: the
/// results may still go to a file, and the exit status tells the rest.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Warns if the kernel cannot give a route CUBIC, which the scripts expect.
fn note_congestion_control() {
    // If it cannot be read, there is no warning.
    let names = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    if !names.is_empty() && !names.split_whitespace().any(|name| name == "cubic") {
        say("note: the kernel has no cubic, which the scripts expect: no route can be made\n");
    }
}

fn count(results: &[RunResult]) -> (usize, usize) {
    let passed = results.iter().filter(|result| result.pass).count();
    (passed, results.len() - passed)
}

fn to_json(results: &[RunResult]) -> serde_json::Value {
    let (passed, failed) = count(results);
    let rows: Vec<_> = results
        .iter()
        .map(|result| {
            json!({
                "script": result.name,
                "variant": result.variant.name(),
                "pass": result.pass,
                "seconds": (result.seconds * 1000.0).round() / 1000.0,
                "error": result.error,
            })
        })
        .collect();
    json!({ "passed": passed, "failed": failed, "results": rows })
}

/// Every script below `dirs` with its variants, sorted by name, that match `filter`.
fn collect(dirs: &[PathBuf], filter: &str) -> Result<Vec<Script>, Failure> {
    let mut scripts = Vec::new();
    for dir in dirs {
        let path = dir.canonicalize().map_err(|error| Failure::Usage(format!("{}: {error}", dir.display())))?;
        let base = path.parent().unwrap_or(&path).to_path_buf();
        walk(&path, &base, &mut scripts).map_err(|error| broken(format!("{}: {error}", dir.display())))?;
    }
    for script in &mut scripts {
        let Script { name, variants, .. } = script;
        variants.retain(|variant| format!("{name} ({})", variant.name()).contains(filter));
    }
    scripts.retain(|script| !script.variants.is_empty());
    scripts.sort_by(|a, b| a.path.cmp(&b.path));
    scripts.dedup_by(|a, b| a.path == b.path);
    if scripts.is_empty() { Err(Failure::Usage("no script found".into())) } else { Ok(scripts) }
}

/// Adds `path`, a script or a directory of them. Symbolic links to directories are not followed.
fn walk(path: &Path, base: &Path, scripts: &mut Vec<Script>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() || entry.path().extension().is_some_and(|extension| extension == "pkt") {
                walk(&entry.path(), base, scripts)?;
            }
        }
        return Ok(());
    }
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
    let own = Own::of_file(path)?;
    scripts.push(Script { path: path.to_path_buf(), name, variants: Variant::of(&file_name, &own) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_selects_by_script_and_by_variant() {
        let dir = std::env::temp_dir().join(format!("usersock-pkt-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/sub")).unwrap();
        for file in ["a/one.pkt", "a/sub/two.pkt", "a/sub/notes.txt"] {
            fs::write(dir.join(file), "").unwrap();
        }
        let names = |filter: &str| -> Option<Vec<String>> {
            let scripts = collect(&[dir.join("a"), dir.join("a/sub")], filter).ok()?;
            let row =
                |script: &Script| script.variants.iter().map(|v| format!("{} {}", script.name, v.name())).collect();
            Some(scripts.iter().flat_map::<Vec<String>, _>(row).collect())
        };
        let (all, two, none) = (names(""), names("two.pkt (ipv6)"), names("three"));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(all.map(|names| names.len()), Some(6), "a script found twice is run once");
        assert_eq!(two, Some(vec!["a/sub/two.pkt ipv6".to_string()]));
        assert_eq!(none, None, "nothing to run is an error");
    }
}
