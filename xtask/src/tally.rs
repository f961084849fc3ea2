//! What `cargo xtask test` remembers of what it passes on, for the end of its output: the sums, the tests that did not
//! run, and what failed, each with the last lines of its own output. Logs are often kept in part: the end must say why.
//!
//! Read is what `cargo test -- --show-output` prints: on stdout libtest's lines and those of libtest-mimic, on stderr
//! cargo's own, which name the test program and tell of one that ended without a result.

use std::collections::VecDeque;

/// Lines kept of one output.
const EACH: usize = 15;
/// Lines of outputs that are repeated in all.
const ALL: usize = 120;
/// Of a line.
const COLUMNS: usize = 300;

/// Something that failed.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The test program, as cargo names it; the step's kind otherwise.
    pub place: String,
    pub name: String,
    pub output: Output,
}

/// The end of an output, without backtraces; and where it panicked last, however much followed.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Output {
    last: VecDeque<String>,
    /// The line of the last panic, when it is among the last no more.
    panic: Option<String>,
    backtrace: bool,
}

impl Output {
    /// Takes a line.
    pub fn line(&mut self, line: &str) {
        let text = line.trim();
        if self.backtrace {
            // Its end: what std says after it, or anything that is neither a frame nor its place.
            let frame = text.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
            self.backtrace = frame || text.starts_with("at ");
        }
        self.backtrace |= text == "stack backtrace:";
        if self.backtrace || text.is_empty() || text.starts_with("note: ") && text.contains("RUST_BACKTRACE") {
            return;
        }
        self.last.push_back(line.chars().take(COLUMNS).collect());
        if self.last.len() > EACH {
            self.panic = self.last.pop_front().filter(|line| line.contains("panicked at ")).or(self.panic.take());
        }
    }

    /// The last lines, at most so many.
    fn tail(&self, most: usize) -> Vec<&str> {
        let skipped = self.last.len().saturating_sub(most);
        let hidden = self.last.iter().take(skipped).rfind(|line| line.contains("panicked at "));
        let rest = self.last.iter().skip(skipped).map(String::as_str);
        hidden.or(self.panic.as_ref()).map(String::as_str).into_iter().chain(rest).collect()
    }
}

/// In which part of a test program's output a line stands.
#[derive(Default, Debug, PartialEq, Eq)]
enum Part {
    #[default]
    Tests,
    /// After "failures:": outputs, each below a line with its test's name, of `failures` by its index.
    Outputs(Option<usize>),
    /// After the second "failures:".
    Names,
    /// After "successes:".
    Successes,
}

/// Sums over the `test result:` lines, and the tests that did not run or failed.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skips: Vec<String>,
    pub failures: Vec<Failed>,
    /// The test program that is running, and the first of its `failures`.
    place: String,
    since: usize,
    part: Part,
    /// The end of what the running program has printed so far, in case it ends without a result.
    recent: Output,
    /// cargo has said that a program failed, and may say next how it ended.
    ended: bool,
}

impl Tally {
    /// Takes one line of what `cargo test -- --show-output` prints on stderr.
    pub fn said(&mut self, line: &str) {
        let text = line.trim();
        let place = text.strip_prefix("Running ").or_else(|| text.starts_with("Doc-tests ").then_some(text));
        if let Some(place) = place.filter(|_| line.starts_with("   ")) {
            self.place = place.split_once(" (").map_or(place, |(source, _)| source).to_owned();
            (self.since, self.recent, self.ended) = (self.failures.len(), Output::default(), false);
        } else if let Some((_, rest)) =
            line.split_once("test failed, to rerun pass ").filter(|(e, _)| e.starts_with("error: "))
        {
            // It names the package, too, of which the source's path says nothing.
            self.place = rest.trim_matches('`').to_owned();
            self.failures[self.since..].iter_mut().for_each(|failed| failed.place.clone_from(&self.place));
            self.ended = true;
        } else if self.ended && text.starts_with("process didn't exit successfully: `") {
            // A program whose tests failed exits with 101, of which cargo says nothing here.
            let how = text.rsplit_once("` ").map_or(text, |(_, how)| how);
            let output = std::mem::take(&mut self.recent);
            let name = format!("the test program ended {how}");
            self.failures.push(Failed { place: self.place.clone(), name, output });
            self.failed += 1;
            self.ended = false;
        } else if !(self.ended && text == "Caused by:") {
            self.recent.line(line);
        }
    }

    /// Takes one line of what it prints on stdout.
    pub fn line(&mut self, line: &str) {
        self.recent.line(line);
        let heading = line.trim_end().strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----"));
        match (&self.part, line.trim_end()) {
            (_, "successes:") => self.part = Part::Successes,
            (Part::Tests | Part::Successes, "failures:") => self.part = Part::Outputs(None),
            (Part::Outputs(_), "failures:") => self.part = Part::Names,
            // A test may show what a test program printed, amid its own output.
            (Part::Tests | Part::Outputs(_) | Part::Names, _) if heading.is_some() => {
                let name = heading.unwrap_or_default();
                self.part = Part::Outputs(Some(self.failure(name.strip_suffix(" stdout").unwrap_or(name))));
            }
            (Part::Outputs(Some(test)), _) => self.failures[*test].output.line(line),
            (Part::Names, _) if line.starts_with("    ") => {
                self.failure(line.trim());
            }
            (Part::Outputs(None) | Part::Names, text) if text.starts_with("test result: ") => self.part = Part::Tests,
            _ => {}
        }
        self.count(line);
    }

    fn count(&mut self, line: &str) {
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
        } else if let Some(test) = text.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failure(test.strip_suffix(" - should panic").unwrap_or(test));
        } else if text.starts_with("SKIP") {
            self.skips.push(text.to_string());
        }
    }

    /// The failure of a test of the running program, noted now if it was not.
    fn failure(&mut self, name: &str) -> usize {
        let known = self.failures.iter().position(|failed| failed.name == name && failed.place == self.place);
        known.unwrap_or_else(|| {
            self.failures.push(Failed { place: self.place.clone(), name: name.to_owned(), output: Output::default() });
            self.failures.len() - 1
        })
    }

    /// What is to be printed last but one: the ends of the outputs, then the names, in as few lines as say it.
    pub fn failures(&self) -> Vec<String> {
        let each = ALL.checked_div(self.failures.len()).unwrap_or(0);
        let mut lines = Vec::new();
        // What is left over of the bound is nobody's.
        for failed in self.failures.iter().filter(|failed| each >= 3 && !failed.output.last.is_empty()) {
            lines.push(format!("---- {} ----", failed.name));
            lines.extend(failed.output.tail(EACH.min(each - 2)).into_iter().map(str::to_owned));
        }
        let names = self.failures.iter().take(ALL / 2);
        lines.extend(names.map(|failed| format!("FAILED {}: {}", failed.place, failed.name)));
        if let more @ 1.. = self.failures.len().saturating_sub(ALL / 2) {
            lines.push(format!("FAILED and {more} more"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            match line.strip_prefix("2> ") {
                Some(line) => tally.said(line),
                None => tally.line(line),
            }
        }
        tally
    }

    #[test]
    fn results_are_summed_and_each_test_that_did_not_run_is_named() {
        let tally = tally(&[
            "running 3 tests",
            "test wheel::tests::cancel ... ok",
            "test device::tun ... ignored, needs a device",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "SKIP curl_downloads: no /dev/net/tun",
            "test oracle::udp ... SKIP oracle udp: no namespace",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ]);
        let skips = [
            "SKIP device::tun, needs a device",
            "SKIP curl_downloads: no /dev/net/tun",
            "SKIP oracle udp: no namespace",
        ];
        assert_eq!((tally.passed, tally.failed), (15, 2));
        assert_eq!(tally.skips, skips);
    }

    #[test]
    fn each_failed_test_is_named_with_its_program_and_the_end_of_its_own_output() {
        let tally = tally(&[
            "2>      Running unittests src/lib.rs (target/debug/deps/usersock-1)",
            "running 1 test",
            "successes:",
            "---- good stdout ----",
            "test result: ok. 1 passed; 0 failed; 0 ignored",
            "2>      Running tests/cases.rs (target/debug/deps/cases-1)",
            "running 3 tests",
            "test one ... ok",
            "test plain::rdp ... FAILED",
            "test bare ... FAILED",
            "successes:",
            "---- one stdout ----",
            "of no interest",
            "successes:",
            "    one",
            "failures:",
            "",
            "---- plain::rdp stdout ----",
            "",
            "thread 'plain::rdp' (7) panicked at c-tests/tests/harness/mod.rs:9:5:",
            "rdp: exit status: 1",
            "--- stderr",
            "rdp.c:40: 3 is not 4",
            "stack backtrace:",
            "   0: __rustc::rust_begin_unwind",
            "             at /rustc/1/library/std/src/panicking.rs:689:5",
            "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.",
            "",
            "failures:",
            "    plain::rdp",
            "    bare",
            "",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "2> error: test failed, to rerun pass `-p usersock-c-tests --test cases`",
            "2>      Running tests/packetdrill.rs (target/debug/deps/packetdrill-1)",
            "failures:",
            "---- close/rst (ipv6) ----",
            "rst.pkt:9: a packet is missing",
            "failures:",
            "    close/rst (ipv6)",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored",
            "2> error: test failed, to rerun pass `-p usersock-script --test packetdrill`",
            "2>    Doc-tests usersock",
            "running 1 test",
            "test result: ok. 1 passed; 0 failed; 0 ignored",
        ]);
        let want = [
            "---- plain::rdp ----",
            "thread 'plain::rdp' (7) panicked at c-tests/tests/harness/mod.rs:9:5:",
            "rdp: exit status: 1",
            "--- stderr",
            "rdp.c:40: 3 is not 4",
            "---- close/rst (ipv6) ----",
            "rst.pkt:9: a packet is missing",
            "FAILED -p usersock-c-tests --test cases: plain::rdp",
            "FAILED -p usersock-c-tests --test cases: bare",
            "FAILED -p usersock-script --test packetdrill: close/rst (ipv6)",
        ];
        assert_eq!(tally.failures(), want);
        assert_eq!((tally.passed, tally.failed), (3, 3));
    }

    #[test]
    fn a_test_program_within_a_failed_test_does_not_hide_why() {
        let tally = tally(&[
            "2>      Running tests/plugin_world.rs (target/debug/deps/plugin_world-1)",
            "test over_tun ... FAILED",
            "failures:",
            "---- over_tun stdout ----",
            "running 1 test",
            "failures:",
            "---- over_tun stdout ----",
            "message 7",
            "failures:",
            "    over_tun",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored",
            "thread 'over_tun' (8) panicked at c-tests/tests/plugin_world.rs:445:13:",
            "---- other stdout ----",
            "its reason",
            "failures:",
            "    other",
            "    over_tun",
            "test result: FAILED. 0 passed; 2 failed; 0 ignored",
            "failures:",
            "---- next stdout ----",
            "and its",
        ]);
        let why: Vec<_> = tally.failures.iter().map(|failed| (failed.name.as_str(), failed.output.tail(1))).collect();
        assert_eq!(why, [("over_tun", vec!["message 7"]), ("other", vec!["its reason"]), ("next", vec!["and its"])]);
    }

    #[test]
    fn a_program_that_ends_without_a_result_is_a_failure_with_what_it_said_last() {
        let tally = tally(&[
            "2>      Running tests/fork.rs (target/debug/deps/fork-1)",
            "running 2 tests",
            "test first ... ok",
            "2> free(): invalid pointer",
            "2> error: test failed, to rerun pass `-p usersock-c-tests --test fork`",
            "2> ",
            "2> Caused by:",
            "2>   process didn't exit successfully: `/t/fork-1 --show-output` (signal: 6, SIGABRT)",
        ]);
        let [failed] = &tally.failures[..] else { panic!("{:?}", tally.failures) };
        assert_eq!(failed.place, "-p usersock-c-tests --test fork");
        assert_eq!(failed.name, "the test program ended (signal: 6, SIGABRT)");
        assert_eq!(failed.output.tail(2)[..2], ["test first ... ok", "free(): invalid pointer"]);
        assert_eq!(tally.failed, 1);
    }

    #[test]
    fn long_outputs_and_many_failures_are_bounded_and_the_panic_stays() {
        let mut long = Output::default();
        long.line("thread 'x' panicked at a.rs:1:2:");
        (0..100).for_each(|n| long.line(&format!("{n}")));
        let tail = long.tail(EACH);
        assert_eq!((tail[0], tail[1], tail[EACH]), ("thread 'x' panicked at a.rs:1:2:", "85", "99"));
        assert_eq!(long.tail(1), ["thread 'x' panicked at a.rs:1:2:", "99"]);
        for count in [1, 5, 20, 50, 500] {
            let mut tally = Tally::default();
            for n in 0..count {
                let at = tally.failure(&format!("test{n}"));
                (0..100).for_each(|n| tally.failures[at].output.line(&format!("line {n}")));
            }
            let lines = tally.failures();
            assert!(lines.len() <= ALL + ALL / 2 + 1, "{count}: {}", lines.len());
            assert!(lines.iter().filter(|line| line.starts_with("FAILED ")).count() == count.min(ALL / 2 + 1));
        }
    }
}
