//! Tables in the documents, each between two marks.

use std::path::Path;

/// Puts a table between its marks in a file of the repository.
pub fn replace(file: &str, marks: (&str, &str), table: &str) -> Result<(), String> {
    let path = &Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file);
    let old = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (begin, rest) = old.split_once(marks.0).ok_or_else(|| format!("{}: no {}", path.display(), marks.0))?;
    let (_, end) = rest.split_once(marks.1).ok_or_else(|| format!("{}: no {}", path.display(), marks.1))?;
    let text: String = table.lines().map(|line| filled(line) + "\n").collect();
    let new = format!("{begin}{}\n{text}{}{end}", marks.0, marks.1);
    std::fs::write(path, new).map_err(|e| format!("{}: {e}", path.display()))
}

/// A line of text in lines of at most 120 characters; a row of a table as it is.
fn filled(line: &str) -> String {
    if line.starts_with('|') {
        return line.to_owned();
    }
    let (mut out, mut width) = (String::new(), 0);
    for word in line.split(' ') {
        let len = word.chars().count();
        if width > 0 {
            let breaks = width + 1 + len > 120;
            out.push(if breaks { '\n' } else { ' ' });
            width = if breaks { 0 } else { width + 1 };
        }
        out.push_str(word);
        width += len;
    }
    out
}
