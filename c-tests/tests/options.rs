//! Honest options: every socket option and MSG_ flag of the system's headers has a row in `options/options.txt`, which
//! says what becomes of it here. The same program (`options/walk.c`) asks each on every kind of socket, of the kernel
//! and of usersock, and errno, length and value are compared; what acts names the test that observes it. A header with
//! a new option, an option that begins to answer otherwise, and a stale `docs/options.md` fail here.
//! `cargo xtask options` writes that document. Below: `harness`.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "the cases use the rest of it")]
mod harness;

use harness::ours::{library, link_shared};
use harness::{Sanitizer, cc_of, compile, namespace, out_dir, skip};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What becomes of an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It answers as the kernel's and has its effect, which the named tests observe.
    Acts,
    /// It answers as the kernel's, which is all there is: a value that is only read or kept, on Linux too.
    Value,
    /// It is refused as the kernel refuses it.
    Refused,
    /// It acts, and some of its answers to the walk are others; which is said.
    Differs,
    /// Linux has it and usersock does not: ENOPROTOOPT.
    Absent,
}

impl State {
    fn named(word: &str) -> Option<State> {
        Some(match word {
            "acts" => State::Acts,
            "value" => State::Value,
            "refused" => State::Refused,
            "differs" => State::Differs,
            "absent" => State::Absent,
            _ => return None,
        })
    }

    /// Whether its answers are to be the kernel's.
    fn answers_as_linux(self) -> bool {
        !matches!(self, State::Differs | State::Absent)
    }

    fn text(self) -> &'static str {
        match self {
            State::Acts => "acts",
            State::Value => "value only, as on Linux",
            State::Refused => "refused as Linux refuses it",
            State::Differs => "acts, with differences",
            State::Absent => "not here",
        }
    }
}

/// A row of `options/options.txt`.
struct Row {
    level: String,
    number: i64,
    name: String,
    state: State,
    /// The tests that observe it, or the reason.
    note: String,
}

impl Row {
    /// Its name with its level: SOL_RAW has options of SOL_IPV6 under the same names.
    fn key(&self) -> String {
        format!("{}/{}", self.level, self.name)
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows, and by level the names of the headers that are no options.
fn table() -> (Vec<Row>, BTreeSet<String>) {
    let text = std::fs::read_to_string(here().join("options/options.txt")).expect("the table");
    let (mut rows, mut constants) = (Vec::new(), BTreeSet::new());
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (head, note) = line.split_once('|').unwrap_or((line, ""));
        let words: Vec<&str> = head.split_whitespace().collect();
        if words[0] == "no-option" {
            constants.extend(words[1..].iter().map(|w| w.to_string()));
            continue;
        }
        let &[level, number, name, state] = &words[..] else { panic!("options.txt: {line}") };
        let state = State::named(state).unwrap_or_else(|| panic!("options.txt: {line}"));
        let number = number.parse().unwrap_or_else(|_| panic!("options.txt: {line}"));
        rows.push(Row { level: level.into(), number, name: name.into(), state, note: note.trim().into() });
    }
    (rows, constants)
}

/// Levels of options: name, number, and the headers with the prefixes of their options.
const LEVELS: &[(&str, i32, &str, &[&str])] = &[
    ("SOL_SOCKET", libc::SOL_SOCKET, "sys/socket.h", &["SO_"]),
    ("SOL_TCP", libc::SOL_TCP, "linux/tcp.h", &["TCP_"]),
    ("SOL_UDP", libc::SOL_UDP, "linux/udp.h", &["UDP_"]),
    ("SOL_IP", libc::SOL_IP, "linux/in.h", &["IP_", "MCAST_"]),
    ("SOL_IPV6", libc::SOL_IPV6, "linux/in6.h", &["IPV6_"]),
    ("SOL_RAW", libc::SOL_RAW, "linux/icmp.h", &["ICMP_FILTER"]),
    ("SOL_ICMPV6", libc::SOL_ICMPV6, "linux/icmpv6.h", &["ICMPV6_FILTER"]),
    ("MSG", 0, "sys/socket.h", &["MSG_"]),
];

/// Names and values of a header's macros that begin with a prefix. linux/in6.h goes with linux/in.h.
fn header_macros(header: &str, prefixes: &[&str]) -> BTreeMap<String, i64> {
    let include = format!("#define _GNU_SOURCE\n#include <{header}>\n");
    let mut cpp = Command::new(harness::compiler_name());
    cpp.args(["-E", "-dM", "-x", "c", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = cpp.spawn().expect("the C compiler starts");
    child.stdin.take().expect("stdin").write_all(include.as_bytes()).expect("source is passed");
    let listed = String::from_utf8(child.wait_with_output().expect("preprocessed").stdout).expect("text");
    let names = listed.lines().filter_map(|l| l.strip_prefix("#define ")?.split_whitespace().next());
    let wanted = names.filter(|n| !n.contains('(') && prefixes.iter().any(|p| n.starts_with(p)));
    let wanted: Vec<&str> = wanted.collect();
    let mut source = format!("{include}#include <sys/time.h>\n#include <stdio.h>\nint main(void)\n{{\n");
    for name in &wanted {
        let _ = writeln!(source, "    printf(\"{name} %lld\\n\", (long long)({name}));");
    }
    source.push_str("}\n");
    let stem = format!("macros-{}-{}", header.replace('/', "-"), prefixes[0]);
    let (file, exe) = (out_dir().join(format!("{stem}.c")), out_dir().join(stem));
    std::fs::write(&file, source).expect("source is written");
    compile(cc_of(&file, Sanitizer::None, &exe), header, &exe);
    let out = Command::new(&exe).output().expect("the program starts").stdout;
    let pair = |l: &str| l.split_once(' ').map(|(n, v)| (n.to_owned(), v.parse().expect("a number")));
    String::from_utf8(out).expect("text").lines().filter_map(pair).collect()
}

#[test]
fn every_option_of_the_system_s_headers_has_a_row() {
    let (rows, constants) = table();
    let mut wrong = String::new();
    for (level, _, header, prefixes) in LEVELS {
        for (name, value) in header_macros(header, prefixes) {
            // A name for another one's number, such as SO_GET_FILTER's, is that row.
            let known = rows.iter().any(|r| r.level == *level && r.number == value);
            let same = rows.iter().find(|r| r.level == *level && r.name == name).is_none_or(|r| r.number == value);
            if !(constants.contains(&name) || known && same) {
                let _ = writeln!(wrong, "{level} {value} {name}");
            }
        }
    }
    assert!(wrong.is_empty(), "options/options.txt has no row, or another number, for these of {wrong}");
}

#[test]
fn what_acts_names_tests_that_mention_it() {
    for row in table().0 {
        match row.state {
            State::Acts | State::Differs => {
                let (tests, why) = row.note.split_once(';').unwrap_or((&row.note, ""));
                assert!(!tests.is_empty(), "{}: observed nowhere", row.name);
                assert!(row.state == State::Acts || !why.is_empty(), "{}: what differs, behind a `;`", row.name);
                for test in tests.split_whitespace() {
                    let file = here().join("..").join(test);
                    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{test}: {e}"));
                    let bare = row.name.split_once('_').map_or("", |(_, n)| n);
                    let found = text.contains(&row.name) || text.contains(&format!("opt::{bare}"));
                    assert!(found, "{test} does not mention {}", row.name);
                }
            }
            State::Refused | State::Absent | State::Value => {
                assert!(!row.note.is_empty(), "{}: a reason is missing", row.name);
            }
        }
    }
}

/// Builds a program of `options/` on the kernel's sockets or on ours, and gives it.
fn build(stem: &str, ours: bool) -> PathBuf {
    let exe = out_dir().join(format!("{}-{stem}", if ours { "usersock" } else { "kernel" }));
    let mut cc = cc_of(&here().join(format!("options/{stem}.c")), Sanitizer::None, &exe);
    if ours {
        cc.arg("-I").arg(here().join("../include"));
        link_shared(&mut cc, library());
    } else {
        cc.arg("-DKERNEL_SOCKETS");
    }
    compile(cc, stem, &exe);
    exe
}

/// What a program of `options/` answers for the rows: by option, its lines.
fn answers(program: &str, ours: bool, rows: &[&Row]) -> BTreeMap<String, Vec<String>> {
    let exe = build(program, ours);
    let prefix = namespace().expect("a namespace");
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(exe).env_remove("USERSOCK_CONFIG");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the walk starts");
    let mut stdin = child.stdin.take().expect("stdin");
    for row in rows {
        let level = LEVELS.iter().find(|l| l.0 == row.level).expect("a level").1;
        writeln!(stdin, "{level} {} {}", row.number, row.key()).expect("a row is passed");
    }
    drop(stdin);
    let out = child.wait_with_output().expect("the walk ends");
    let text = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success(), "{program} (ours: {ours}): {}\n{text}", out.status);
    let mut by_name = BTreeMap::<String, Vec<String>>::new();
    for line in text.lines() {
        let (name, rest) = line.split_once(' ').expect("a name");
        by_name.entry(name.into()).or_default().push(rest.into());
    }
    by_name
}

/// Bytes that two stacks do not have in common: of these options only the lengths are compared.
const OWN_BYTES: &[&str] = &["SO_COOKIE", "SO_NETNS_COOKIE", "SO_MEMINFO", "TCP_INFO", "TCP_TIMESTAMP"];

/// The lines without the bytes of values.
fn lengths(lines: &[String]) -> Vec<String> {
    let cut = |word: &str| word.split_once(':').filter(|(n, _)| n.parse::<u32>().is_ok()).map(|(n, _)| n.to_owned());
    let words = |l: &String| l.split(' ').map(|w| cut(w).unwrap_or(w.into())).collect::<Vec<_>>().join(" ");
    lines.iter().map(words).collect()
}

/// Compares a program's answers on both stacks with what the rows say.
fn compare(program: &str, rows: &[&Row]) {
    if namespace().is_none() {
        return skip(&format!("options {program}"), "no network namespace can be made");
    }
    let (kernel, ours) = (answers(program, false, rows), answers(program, true, rows));
    let mut wrong = String::new();
    for row in rows {
        let (mut want, mut have) = (kernel[&row.key()].clone(), ours[&row.key()].clone());
        if OWN_BYTES.contains(&&*row.name) {
            (want, have) = (lengths(&want), lengths(&have));
        }
        if (want == have) != row.state.answers_as_linux() {
            let _ = writeln!(wrong, "{} is {:?} in options.txt; on the kernel and here:", row.name, row.state);
            for (k, u) in want.iter().zip(&have).filter(|(k, u)| k != u) {
                let _ = writeln!(wrong, "  K {k}\n  U {u}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_option_answers_as_the_kernel_s_or_as_decided() {
    let (rows, _) = table();
    compare("walk", &rows.iter().filter(|r| r.level != "MSG").collect::<Vec<_>>());
}

#[test]
fn every_flag_of_a_message_answers_as_the_kernel_s_or_as_decided() {
    let (rows, _) = table();
    compare("flags", &rows.iter().filter(|r| r.level == "MSG").collect::<Vec<_>>());
}

/// The document: a table a level, made of the rows.
fn document() -> String {
    let (rows, _) = table();
    let mut text = String::from(
        "# Socket options and message flags\n\n\
         Every option and MSG_ flag of Linux's headers, and what becomes of it. `cargo xtask options` writes this\n\
         page from `c-tests/options/options.txt`. `cargo test -p usersock-c-tests --test options` asks each of\n\
         sockets of the kernel and of usersock and compares errno, length and value. An option that acts has the\n\
         tests that observe its effect.\n\n",
    );
    for (level, ..) in LEVELS {
        let of: Vec<&Row> = rows.iter().filter(|r| r.level == *level).collect();
        let count = |s: State| of.iter().filter(|r| r.state == s).count();
        let title = if *level == "MSG" { "Flags of send and recv" } else { level };
        let _ = writeln!(text, "## {title}\n");
        let _ = writeln!(
            text,
            "{} rows: {} act, {} act with differences, {} are values only, {} are refused as Linux does, {} are not \
             here.\n",
            of.len(),
            count(State::Acts),
            count(State::Differs),
            count(State::Value),
            count(State::Refused),
            count(State::Absent)
        );
        text.push_str("| | number | | observed by, or why |\n|---|---|---|---|\n");
        for r in of {
            let _ = writeln!(text, "| {} | {} | {} | {} |", r.name, r.number, r.state.text(), note(r));
        }
        text.push('\n');
    }
    text
}

/// A row's note as the document has it: paths as code.
fn note(row: &Row) -> String {
    if !matches!(row.state, State::Acts | State::Differs) {
        return row.note.clone();
    }
    let (tests, why) = row.note.split_once(';').unwrap_or((&row.note, ""));
    let tests: Vec<String> = tests.split_whitespace().map(|t| format!("`{t}`")).collect();
    format!("{}{}{}", tests.join(", "), if why.is_empty() { "" } else { ";" }, why)
}

#[test]
fn the_document_is_current() {
    let file: PathBuf = here().join("../docs/options.md");
    let want = document();
    if std::env::var_os("USERSOCK_WRITE_OPTIONS").is_some() {
        std::fs::write(&file, &want).expect("docs/options.md is written");
    }
    let have = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(have == want, "docs/options.md is stale: run `cargo xtask options`");
}
