//! The list of known differences: `known.txt` of each half, `served.txt` of the peer that is a server. A row is
//!
//! ```text
//! call | socket | field | kernel | usersock | go or stop | heading of docs/limits.md
//! ```
//!
//! (of a server's also a heading of docs/server.md, or the first column of a row of its table)
//!
//! in which `*` stands for any text, and `+` for any number but 0 where an answer is one. A socket is what it was made
//! as and what has become of it (`sockets`). After a row with "go" the comparison goes on behind the call; "stop" ends
//! it for the sequence, since what follows depends on what differed. A row that the fixed seeds no longer meet fails
//! the test, but for one with "rare" behind that word, which fresh seeds alone have met; and so does one whose heading
//! is not in that page: the list only shrinks, and each row has its reason.

use std::path::Path;

use super::half::Half;
use super::trace::Difference;
use crate::{Failure, broken, cargo};

struct Row {
    text: String,
    call: String,
    socket: String,
    field: String,
    kernel: String,
    usersock: String,
    goes_on: bool,
    is_rare: bool,
}

/// The rows.
pub struct Known(Vec<Row>);

impl Known {
    /// Reads the list, and holds its headings against docs/limits.md.
    ///
    /// # Errors
    /// A file is missing; a row that is none, or whose heading is not there.
    pub fn read(half: Half) -> Result<Known, Failure> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| broken(format!("{}: {e}", path.display())));
        let (list, pages) = half.list();
        let mut reasons = String::new();
        for page in pages {
            reasons.push_str(&read(&cargo::root().join(page))?);
        }
        Known::parse(&read(&list)?, &reasons).map_err(|e| broken(format!("{}: {e}", list.display())))
    }

    fn parse(list: &str, reasons: &str) -> Result<Known, String> {
        let headings: Vec<&str> = reasons.lines().filter_map(reason).collect();
        let mut rows = Vec::new();
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let [call, socket, field, kernel, usersock, after, heading] = parts[..] else {
                return Err(format!("not seven columns: {line}"));
            };
            let (after, is_rare) = match after.strip_suffix(", rare") {
                Some(after) => (after, true),
                None => (after, false),
            };
            if !matches!(after, "go" | "stop") {
                return Err(format!("neither go nor stop: {line}"));
            }
            if !headings.contains(&heading) {
                return Err(format!("no such heading: {heading:?}"));
            }
            rows.push(Row {
                text: line.to_string(),
                call: call.to_string(),
                socket: socket.to_string(),
                field: field.to_string(),
                kernel: kernel.to_string(),
                usersock: usersock.to_string(),
                goes_on: after == "go",
                is_rare,
            });
        }
        Ok(Known(rows))
    }

    /// The first row that a difference is of.
    pub fn row_of(&self, d: &Difference) -> Option<usize> {
        self.0.iter().position(|row| {
            glob(&row.call, &d.call)
                && glob(&row.socket, &d.socket)
                && glob(&row.field, &d.field)
                && answers(&row.kernel, &d.kernel)
                && answers(&row.usersock, &d.usersock)
        })
    }

    pub fn goes_on(&self, row: usize) -> bool {
        self.0[row].goes_on
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The rows that the fixed seeds meet, as they are written, numbered.
    pub fn met_by_fixed(&self) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().enumerate().filter(|(_, row)| !row.is_rare).map(|(at, row)| (at, row.text.as_str()))
    }
}

/// What a line of a page is about, if others may name it: a heading, or a row of a table.
fn reason(line: &str) -> Option<&str> {
    match line.strip_prefix('#') {
        Some(heading) => Some(heading.trim_start_matches('#').trim()),
        None => Some(line.strip_prefix("| ")?.split(" | ").next()?.trim()),
    }
}

/// Whether an answer is as a row has it.
fn answers(pattern: &str, text: &str) -> bool {
    match pattern {
        "+" => text.parse().is_ok_and(|number: u64| number > 0),
        _ => glob(pattern, text),
    }
}

/// Whether `text` is as `pattern` says, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_any_text_and_the_rest_for_itself() {
        for (pattern, text, want) in [
            ("call_bind(*)", "call_bind(0, 1)", true),
            ("call_bind(*)", "call_bind(0, 1);", false),
            ("*", "", true),
            ("", "x", false),
            ("-1 EINVAL", "-1 EINVAL", true),
            ("*SO_MARK*, 4*", "call(0, SOL_SOCKET, SO_MARK, \"i1\", 4);", true),
            ("*SO_MARK*", "call(0, SOL_SOCKET, SO_RCVBUF);", false),
            ("a*b*a", "aba", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn plus_is_a_number_that_is_not_0() {
        for (text, want) in [("1", true), ("69000", true), ("0", false), ("-1 EAGAIN", false), ("(nothing)", false)] {
            assert_eq!(answers("+", text), want, "{text}");
        }
        assert!(answers("*", "0") && answers("0|OUT*", "0|OUT|HUP"));
    }

    #[test]
    fn row_without_its_reason_is_refused() {
        let row = "call_bind(* | * | result | 0 | -1 EINVAL | go | Binding";
        assert_eq!(Known::parse(row, "# Limits\n## Binding\n").map(|k| k.len()), Ok(1));
        assert!(Known::parse(row, "# Limits\nBinding\n").is_err());
        assert!(Known::parse("call_bind(* | * | result | 0 | go | Binding", "# Binding").is_err());
        let table = "| what | how |\n|---|---|\n| Binding | later |\n";
        assert_eq!(Known::parse(row, table).map(|k| k.len()), Ok(1));
        let rare = Known::parse(&row.replace("| go |", "| go, rare |"), "# Binding").unwrap();
        assert_eq!((rare.goes_on(0), rare.met_by_fixed().count()), (true, 0));
    }
}
