//! One definition per Linux function: no two functions of `src/tcp` claim to be the same one. A function claims it by
//! the last parenthesis of a sentence, `(tcp_name)` or `(RFC 9293 §3.1; tcp_name)`, or by `Linux: tcp_name.`; a mere
//! mention of a name ("the start of tcp_collapse", "tcp_v4_do_rcv's LISTEN") is no claim.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let test = name == "tests.rs" || name == "tests" || name == "testing.rs" || name.ends_with("_test.rs");
        match path.is_dir() {
            _ if test => {}
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// `name`, if all of `text` is the name of a function of Linux's TCP.
fn linux_name(text: &str) -> Option<&str> {
    let name = text.trim().trim_matches('`').trim_end_matches("()");
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    (plain && name.trim_start_matches('_').starts_with("tcp_")).then_some(name)
}

/// The functions of Linux that this comment claims for its function.
fn cited(doc: &str) -> Vec<&str> {
    let in_brackets = doc.split('(').skip(1).filter_map(|part| part.split_once(')')).map(|(inside, _)| inside);
    let by_bracket = in_brackets.flat_map(|inside| inside.rsplit(';').next());
    let after_linux = doc.split("Linux: ").skip(1).flat_map(|rest| rest.split('.').next());
    by_bracket.chain(after_linux).flat_map(|list| list.split(',')).filter_map(linux_name).collect()
}

/// `name` of a line that begins a function.
fn function(line: &str) -> Option<&str> {
    let mut words = line.trim().split(' ').skip_while(|w| w.starts_with("pub") || matches!(*w, "const" | "unsafe"));
    (words.next() == Some("fn")).then(|| words.next()?.split(['(', '<']).next()).flatten()
}

#[test]
fn no_two_functions_are_the_same_function_of_linux() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src/tcp"), &mut files);
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let mut doc = String::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(more) = line.strip_prefix("///") {
                doc.push_str(more);
            } else if !line.starts_with("#[") {
                if let Some(name) = function(line) {
                    let place = format!("{}:{} {name}", file.strip_prefix(root).unwrap().display(), at + 1);
                    for linux in cited(&doc) {
                        by_name.entry(linux.to_owned()).or_default().push(place.clone());
                    }
                }
                doc.clear();
            }
        }
    }
    assert!(by_name.len() > 150, "only {} names: does the test still read the comments?", by_name.len());
    let twice: Vec<String> = by_name
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(linux, places)| format!("{linux}: {}", places.join(", ")))
        .collect();
    assert!(twice.is_empty(), "written twice:\n{}", twice.join("\n"));
}

#[test]
fn what_counts_as_saying_so() {
    assert_eq!(cited(" Grows it (tcp_grow_window). More (see tcp_x's list)."), ["tcp_grow_window"]);
    assert_eq!(cited(" Both (RFC 9293 §3.1; `__tcp_select_window`)."), ["__tcp_select_window"]);
    assert_eq!(cited(" Text. Linux: tcp_a, tcp_v4_b's LISTEN, tcp_c."), ["tcp_a", "tcp_c"]);
    assert_eq!(function("pub(super) const fn span(&self) {"), Some("span"));
    assert_eq!(function("let f = 1;"), None);
}
