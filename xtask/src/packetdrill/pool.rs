//! Runs packetdrill many times, several at a time, each in a process group that is killed at the time limit.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::world::Variant;
use super::{DIR_VARIABLE, RunResult, Script, Setting, stand_in};
use crate::{Failure, broken, netns};

/// All results, in the order of the scripts. The variants of a script run one after another: scripts name files in
/// /tmp.
pub fn run_all(setting: &Setting, scripts: Vec<Script>, jobs: usize, verbose: bool) -> Vec<RunResult> {
    let queue = Mutex::new(scripts.into_iter().enumerate().collect::<VecDeque<_>>());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some((index, script)) = next else { return };
                    for &variant in &script.variants {
                        let result = run_one(setting, &script, variant, index);
                        report(&result, verbose);
                        if let Ok(mut results) = results.lock() {
                            results.push((index, result));
                        }
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// One line a run, and with `verbose` what a failing one wrote; with [`super::say`].
fn report(result: &RunResult, verbose: bool) {
    let RunResult { path: _, name, variant, pass, seconds, error, output } = result;
    let begin = format!("{name} ({}) {seconds:.1}s", variant.name());
    let text = match (pass, verbose) {
        (true, _) => format!("ok   {begin}\n"),
        (false, false) => format!("FAIL {begin}: {error}\n"),
        (false, true) => format!("FAIL {begin}: {error}\n    {}\n", output.trim_end().replace('\n', "\n    ")),
    };
    super::say(&text);
}

fn run_one(setting: &Setting, script: &Script, variant: Variant, index: usize) -> RunResult {
    let dir = setting.scratch.join(format!("{index}-{}", variant.name()));
    let begin = Instant::now();
    let (pass, output, error) = match start_and_wait(setting, script, variant, &dir) {
        Ok((Some(status), output)) if status.success() => (true, output, String::new()),
        Ok((Some(status), output)) => {
            let error = telling_line(&output).map_or_else(|| format!("no output; {status}"), str::to_string);
            (false, output, error)
        }
        Ok((None, output)) => (false, output, format!("killed after {} s", setting.limit.as_secs())),
        Err(Failure::Usage(message) | Failure::Broken(message)) => (false, String::new(), message),
    };
    // A file that a killed child still writes may remain; the whole scratch directory goes at the end.
    let _ = fs::remove_dir_all(&dir);
    let seconds = begin.elapsed().as_secs_f64();
    RunResult { path: script.path.clone(), name: script.name.clone(), variant, pass, seconds, error, output }
}

/// The line of a failed run's output to show: the last failed assertion of the script's python code, else the last line
/// with an error (a packet that differs is printed after it), else the last line.
fn telling_line(output: &str) -> Option<&str> {
    let last = |wanted: fn(&str) -> bool| output.lines().map(str::trim).rev().find(|line| wanted(line));
    last(|line| line.starts_with("AssertionError"))
        .or_else(|| last(|line| line.contains("error")))
        .or_else(|| last(|line| !line.is_empty()))
}

/// The exit status (`None`: killed at the time limit) and the output.
fn start_and_wait(
    setting: &Setting,
    script: &Script,
    variant: Variant,
    dir: &Path,
) -> Result<(Option<ExitStatus>, String), Failure> {
    fs::create_dir_all(dir)?;
    let log_path = dir.join("log");
    let log = File::create(&log_path)?;
    let mut command = netns::myself(&["packetdrill-inside", "--how", setting.how.arg(), "--variant", variant.name()]);
    command.arg("--bin").arg(&setting.bin);
    stand_in::install(dir, &setting.scratch, setting.plugin.is_none())?;
    command.env(DIR_VARIABLE, dir);
    if let Some(plugin) = &setting.plugin {
        command.arg("--plugin").arg(plugin);
    }
    command.arg(&script.path);
    if let Some(parent) = script.path.parent() {
        command.current_dir(parent);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| broken(format!("cannot start a run: {error}")))?;
    let status = wait(&mut child, setting.limit)?;
    Ok((status, String::from_utf8_lossy(&fs::read(&log_path)?).into_owned()))
}

/// Waits at most `limit`; then kills the process group, and whatever a finished run left in its group.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, Failure> {
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(|_| broken("pid out of range"))?);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // ESRCH, the usual result, means that nothing is left.
    let _ = killpg(group, Signal::SIGKILL);
    if status.is_none() {
        child.wait()?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_line_is_the_one_that_tells_most() {
        for (output, want) in [
            ("", None),
            ("\n", None),
            ("Segmentation fault\n", Some("Segmentation fault")),
            (
                "a.pkt:9: error handling packet: bad\nscript packet: x\nactual packet: y\n",
                Some("a.pkt:9: error handling packet: bad"),
            ),
            ("Traceback\nAssertionError: 7\na.pkt: error executing code: status 1\n", Some("AssertionError: 7")),
        ] {
            assert_eq!(telling_line(output), want, "{output}");
        }
    }

    #[test]
    fn run_that_takes_too_long_is_killed_with_its_children() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "(sleep 60; echo survived) & wait"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        assert_eq!(wait(&mut child, Duration::ZERO).unwrap(), None);
        // The pipe ends when its last holder has ended.
        let left = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        assert_eq!(left, "");
    }
}
