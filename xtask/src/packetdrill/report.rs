//! What a play of many scripts comes to: the table by folder, the runs that are not as `known` says, and both for
//! docs/packetdrill.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::known::{KNOWN, Known, Verdict, verdict};
use super::{RunResult, count};
use crate::{Failure, broken, cargo};

/// Around what is written to docs/packetdrill.md.
const MARKS: (&str, &str) = ("<!-- cargo xtask packetdrill: begin -->", "<!-- cargo xtask packetdrill: end -->");

/// The table by folder, and a line for each run that is not as is known.
pub fn summary(results: &[RunResult]) -> String {
    let news: Vec<_> = results.iter().filter_map(|result| line(result, &verdict(result))).collect();
    let (passed, failed) = count(results);
    format!("{}{}{passed} passed, {failed} failed\n", folders(results), news.concat())
}

/// Whether each run is as is known.
pub fn as_known(results: &[RunResult]) -> bool {
    results.iter().all(|result| verdict(result) == Verdict::Expected)
}

fn line(result: &RunResult, verdict: &Verdict) -> Option<String> {
    let what = match verdict {
        Verdict::Expected => return None,
        Verdict::Fails => "fails and should pass",
        Verdict::FailsOtherwise => "is known to fail, but otherwise",
        Verdict::Passes => "passes, which is not known",
    };
    Some(format!("news: {} ({}) {what}\n", result.name, result.variant.name()))
}

/// Runs, and those that pass, by the folder below the one that the user gave.
fn folders(results: &[RunResult]) -> String {
    let mut rows = BTreeMap::<&str, (usize, usize)>::new();
    for result in results {
        let mut parts = result.name.split('/');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let row = rows.entry(if parts.next().is_some() { second } else { first }).or_default();
        *row = (row.0 + 1, row.1 + usize::from(result.pass));
    }
    let mut text = String::from("| folder | runs | pass | fail |\n|---|--:|--:|--:|\n");
    for (folder, (runs, pass)) in rows {
        let _ = writeln!(text, "| {folder} | {runs} | {pass} | {} |", runs - pass);
    }
    text
}

/// Writes docs/packetdrill.md anew between its marks.
///
/// # Errors
/// A run is not as is known, or one that is known was not played: the text would not be true.
pub fn write(results: &[RunResult]) -> Result<(), Failure> {
    let all: usize = KNOWN.iter().map(|known| known.scripts.len() * known.variants.len()).sum();
    let (passed, failed) = count(results);
    if !as_known(results) || failed != all {
        return Err(broken(format!("docs/packetdrill.md: not written: {failed} runs failed, {all} are known")));
    }
    let path = cargo::root().join("docs/packetdrill.md");
    let old = std::fs::read_to_string(&path)?;
    let text = format!("{passed} of {} runs pass.\n\n{}\n{}", passed + failed, folders(results), reasons());
    std::fs::write(&path, between_marks(&old, &text).ok_or_else(|| broken("docs/packetdrill.md: no marks"))?)?;
    Ok(())
}

fn between_marks(old: &str, text: &str) -> Option<String> {
    let (begin, rest) = old.split_once(MARKS.0)?;
    let (_, end) = rest.split_once(MARKS.1)?;
    Some(format!("{begin}{}\n{text}{}{end}", MARKS.0, MARKS.1))
}

/// A row for each reason.
fn reasons() -> String {
    let mut text = String::from("| runs | failing run | reason |\n|--:|---|---|\n");
    for Known { scripts, variants, reason } in KNOWN {
        let names: Vec<_> = scripts.iter().map(|(name, ..)| format!("`{name}`")).collect();
        let versions = if variants.len() == 1 { ", over IPv6" } else { "" };
        let _ = writeln!(text, "| {} | {}{versions} | {reason} |", names.len() * variants.len(), names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::world::Variant;
    use super::*;

    fn result(name: &str, error: Option<&str>) -> RunResult {
        RunResult {
            path: name.into(),
            name: name.into(),
            variant: Variant::Ipv4,
            pass: error.is_none(),
            seconds: 0.1,
            error: error.unwrap_or_default().into(),
            output: String::new(),
        }
    }

    #[test]
    fn the_summary_counts_by_folder_and_names_what_is_new() {
        let known = result("tcp/cubic/cubic-bulk-166k.pkt", Some("AssertionError: 36"));
        let rest = [result("tcp/cubic/other.pkt", None), result("tcp/fastopen/server/a.pkt", Some("a.pkt:1: error"))];
        assert!(as_known(std::slice::from_ref(&known)) && !as_known(&rest));
        let results: Vec<_> = std::iter::once(known).chain(rest).collect();
        let want = "| folder | runs | pass | fail |\n|---|--:|--:|--:|\n| cubic | 2 | 1 | 1 |\n\
                    | fastopen | 1 | 0 | 1 |\nnews: tcp/fastopen/server/a.pkt (ipv4) fails and should pass\n\
                    1 passed, 2 failed\n";
        assert_eq!(summary(&results), want);
        assert!(write(&results).is_err(), "a table that is not true is not written");
    }

    #[test]
    fn only_what_is_between_the_marks_is_written() {
        let old = format!("a\n{}\nold\n{}\nb\n", MARKS.0, MARKS.1);
        let new = between_marks(&old, "new\n").unwrap();
        assert_eq!(new, old.replace("old", "new"));
        assert_eq!(between_marks("no marks", "new\n"), None);
    }

    /// The table is `reasons`', so that a change of `known` without a new play shows.
    #[test]
    fn docs_have_the_reasons() {
        let docs = std::fs::read_to_string(cargo::root().join("docs/packetdrill.md")).unwrap();
        assert!(docs.contains(&reasons()), "cargo xtask packetdrill --write");
    }
}
