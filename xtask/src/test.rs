//! `cargo xtask test`: everything that continuous integration checks, on this machine.
//!
//! The tests run inside a network namespace of their own (made by root, or rootless in a user namespace), so whatever
//! they send stays there and they may make devices and further namespaces. A test that cannot run where it is prints a
//! line that begins with `SKIP` and returns; such lines, and tests marked as ignored, are repeated and counted at the
//! end, and so is what failed, with the last lines of its output (`tally`). Counts of instructions follow
//! (`instructions`), and random sequences of socket calls, also of a stack server's programs, and of packets, compared
//! with the kernel's (`differential`). That the headers in `include/` are current, and the C programs, are tests of the
//! workspace like all others. With `--fresh` all this happens in a clone of HEAD with nothing built and nothing
//! downloaded: `fresh`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::differential::{self, Half};
use crate::tally::{Failed, Output, Tally};
use crate::{Failure, Outcome, broken, cargo, fresh, instructions, netns, setup};

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
    let (mut report, mut tally) = (Vec::new(), Tally::default());
    for (name, args) in STEPS {
        println!("== {name}: cargo {}", args.join(" "));
        let mut command = cargo::cargo();
        command.args(args).env("RUSTDOCFLAGS", "-D warnings").current_dir(cargo::root()).stdin(Stdio::null());
        let mut output = Output::default();
        let good = stream(&mut command, |_, line| output.line(line))?;
        if !good {
            tally.failures.push(Failed { place: "step".into(), name: name.into(), output });
        }
        report.push((name, good));
    }
    report.push(("tests", tests(&mut tally)?));
    println!("== instructions of a connection, an exchange and a message");
    report.extend(verdict("instructions", instructions::test(), &mut tally));
    for half in [Half::Calls, Half::Packets, Half::Served] {
        println!("== differential: random {}, on the kernel and on usersock", half.what());
        report.extend(verdict(half.name(), differential::test(half), &mut tally));
    }

    println!("== summary after {} s", begin.elapsed().as_secs());
    for (name, good) in &report {
        println!("{name}: {}", if *good { "ok" } else { "FAILED" });
    }
    for line in tally.skips.iter().chain(&tally.failures()) {
        println!("{line}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skips.len());
    Ok(report.iter().all(|(_, good)| *good) && tally.failed == 0)
}

/// What is reported of a step of our own: it gives its faults, or why it cannot run here.
fn verdict(
    name: &'static str,
    outcome: Result<Result<Vec<String>, String>, Failure>,
    tally: &mut Tally,
) -> Option<(&'static str, bool)> {
    let faults = match outcome {
        Ok(Ok(faults)) => faults,
        Ok(Err(reason)) => {
            tally.skips.push(format!("SKIP {name}: {}", reason.replace('\n', "; ")));
            return None;
        }
        // What was found before is to be told all the same.
        Err(Failure::Broken(said) | Failure::Usage(said)) => said.lines().map(str::to_owned).collect(),
    };
    let good = faults.is_empty();
    if !good {
        let mut output = Output::default();
        faults.iter().for_each(|fault| output.line(fault));
        tally.failures.push(Failed { place: "step".into(), name: name.into(), output });
    }
    Some((name, good))
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
    stream(&mut command, |stream, line| match stream {
        Stream::Stdout => tally.line(line),
        Stream::Stderr => tally.said(line),
    })
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs `command`, passes its output on line by line, as it arrives, and gives each line to `take`.
fn stream(command: &mut Command, mut take: impl FnMut(Stream, &str)) -> Result<bool, Failure> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (send, lines) = mpsc::channel();
    let stdout = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
    let stderr = child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
    for (stream, out) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
        let (send, out) = (send.clone(), out.ok_or_else(|| broken("no pipe"))?);
        std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                if send.send((stream, String::from_utf8_lossy(&line).into_owned())).is_err() {
                    break;
                }
            }
        });
    }
    drop(send);
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok((stream, line)) => {
                match stream {
                    Stream::Stdout => println!("{line}"),
                    Stream::Stderr => eprintln!("{line}"),
                }
                take(stream, &line);
            }
            // What a test has left behind may have the pipes and not end.
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => {}
            Err(_) => return Ok(child.wait()?.success()),
        }
    }
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
    fn both_streams_are_taken_and_what_is_left_behind_is_not_awaited() {
        let script = "echo one; echo two >&2; printf three; sleep 300 & echo $! >&2; exit 3";
        let mut taken = [Vec::new(), Vec::new()];
        let good = stream(Command::new("sh").args(["-c", script]), |stream, line| {
            taken[stream as usize].push(line.to_owned())
        });
        let [stdout, stderr] = taken;
        let pid = nix::unistd::Pid::from_raw(stderr[1].parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!((good.ok(), stdout[0].as_str(), stderr[0].as_str()), (Some(false), "one", "two"));
    }
}
