//! Tables in the README, each between two marks.

use std::path::Path;

/// Puts a table between its marks.
pub fn replace(marks: (&str, &str), table: &str) -> Result<(), String> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"));
    let old = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (begin, rest) = old.split_once(marks.0).ok_or_else(|| format!("{}: no {}", path.display(), marks.0))?;
    let (_, end) = rest.split_once(marks.1).ok_or_else(|| format!("{}: no {}", path.display(), marks.1))?;
    let new = format!("{begin}{}\n{table}{}{end}", marks.0, marks.1);
    std::fs::write(path, new).map_err(|e| format!("{}: {e}", path.display()))
}
