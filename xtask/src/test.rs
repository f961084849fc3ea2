//! `cargo xtask test`: everything that continuous integration checks, on this machine.
//!
//! The tests run inside a network namespace of their own (made by root, or rootless in a user namespace), so whatever
//! they send stays there and they may make devices and further namespaces. A test that cannot run where it is prints a
//! line that begins with `SKIP` and returns; such lines, and tests marked as ignored, are repeated and counted at the
//! end. Random sequences of socket calls and of packets follow, compared with the kernel's (`differential`), and counts
//! of instructions (`instructions`). That the headers in `include/` are current, and the C programs, are tests of the
//! workspace like all others. With `--fresh` all this happens in a clone of HEAD with nothing built and nothing
//! downloaded: `fresh`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::differential::{self, Half};
use crate::{Failure, Outcome, cargo, fresh, instructions, netns, setup};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run .ci/run of a clone of HEAD instead, in a temporary directory (TMPDIR), with an empty CARGO_HOME and nothing
    /// built. The directory is removed at the end, but kept and named when something failed
    #[arg(long)]
    fresh: bool,
}

/// The steps before the tests, by name, with cargo's arguments.
const STEPS: [(&str, &[&str]); 6] = [
    // The tests run without a network, and some call cargo: cbindgen's `cargo metadata` wants the crates of all
    // platforms, of which a build downloads this one's only.
    ("fetch", &["fetch", "--locked"]),
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    // Warnings are errors here, too: see RUSTDOCFLAGS below.
    ("doc", &["doc", "--workspace", "--no-deps"]),
    // Built separately, so that a build failure is distinguished from a test failure.
    ("build", &["test", "--workspace", "--no-run"]),
    // What programs load: no test target builds the shim.
    ("shim", &["build", "--package", "usersock-preload"]),
];

/// Sums over the `test result:` lines, and the tests that did not run.
#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skips: Vec<String>,
}

impl Tally {
    /// Takes one line of what `cargo test -- --show-output` prints.
    fn line(&mut self, line: &str) {
        let text = line.trim();
        // With one thread the runner prints the test's name before the test's output.
        let text = text.split_once(" ... SKIP ").map_or(text, |(before, _)| &text[before.len() + " ... ".len()..]);
        if let Some(rest) = text.strip_prefix("test result: ") {
            for part in rest.split(['.', ';']).map(str::trim) {
                match part.split_once(' ') {
                    Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                    Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                    _ => {}
                }
            }
        } else if let Some((test, why)) = text.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored")) {
            self.skips.push(format!("SKIP {test}{why}"));
        } else if text.starts_with("SKIP") {
            self.skips.push(text.to_string());
        }
    }
}

/// Runs every step even if one fails, so that one run shows all failures.
///
/// # Errors
/// A step could not be started.
pub fn run(args: &Args) -> Outcome {
    if args.fresh {
        return fresh::run();
    }
    let begin = Instant::now();
    setup::tools();
    setup::rust_components();
    let mut report = Vec::new();
    for (name, args) in STEPS {
        println!("== {name}: cargo {}", args.join(" "));
        let mut command = cargo::cargo();
        command.args(args).env("RUSTDOCFLAGS", "-D warnings").current_dir(cargo::root()).stdin(Stdio::null());
        let status = command.status()?;
        report.push((name, status.success()));
    }
    let mut tally = Tally::default();
    report.push(("tests", tests(&mut tally)?));
    for half in [Half::Calls, Half::Packets] {
        println!("== differential: random {}, on the kernel and on usersock", half.what());
        match differential::test(half)? {
            Ok(good) => report.push((half.name(), good)),
            Err(reason) => tally.skips.push(format!("SKIP differential: {}", reason.replace('\n', "; "))),
        }
    }
    println!("== instructions of a connection, an exchange and a message");
    match instructions::test()? {
        Ok(good) => report.push(("instructions", good)),
        Err(reason) => tally.skips.push(format!("SKIP instructions: {reason}")),
    }

    println!("== summary after {} s", begin.elapsed().as_secs());
    for (name, good) in &report {
        println!("{name}: {}", if *good { "ok" } else { "FAILED" });
    }
    for skip in &tally.skips {
        println!("{skip}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skips.len());
    Ok(report.iter().all(|(_, good)| *good) && tally.failed == 0)
}

/// `cargo test` in a namespace if one can be made; prints which.
fn tests(tally: &mut Tally) -> Result<bool, Failure> {
    let args = ["test", "--workspace", "--no-fail-fast", "--", "--show-output"];
    let how = netns::How::available();
    let possible = netns::myself(&["netns-run", "--how", how.arg(), "--", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?
        .success();
    let (mut command, place) = if possible {
        let mut command = netns::myself(&["netns-run", "--how", how.arg(), "--"]);
        command.arg(cargo::cargo().get_program());
        let place = if how == netns::How::Root { "a network namespace" } else { "a user and network namespace" };
        (command, place)
    } else {
        (cargo::cargo(), "no namespace, since none can be made here: what needs one skips itself")
    };
    println!("== tests: cargo {}; in {place}", args.join(" "));
    command
        .args(args)
        .current_dir(cargo::root())
        .env("PATH", setup::system_path())
        .env("CARGO_NET_OFFLINE", "true")
        .stdin(Stdio::null());
    stream(&mut command, tally)
}

/// Runs `command`, passes its output on line by line and tallies it.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<bool, Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.line(&line);
        }
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_every_platform_are_fetched_before_the_tests_leave_the_network() {
        let (_, fetch) = STEPS.iter().find(|(name, _)| *name == "fetch").expect("a step of its own, which is reported");
        assert_eq!(*fetch, ["fetch", "--locked"], "with --target it would fetch this platform's");
    }

    #[test]
    fn results_are_summed_and_each_test_that_did_not_run_is_named() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test wheel::tests::cancel ... ok",
            "test device::tun ... ignored, needs a device",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "SKIP curl_downloads: no /dev/net/tun",
            "test oracle::udp ... SKIP oracle udp: no namespace",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.line(line);
        }
        let skips = [
            "SKIP device::tun, needs a device",
            "SKIP curl_downloads: no /dev/net/tun",
            "SKIP oracle udp: no namespace",
        ]
        .map(str::to_string);
        assert_eq!(tally, Tally { passed: 15, failed: 2, skips: skips.to_vec() });
    }
}
