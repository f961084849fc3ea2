//! No line is wider than 120 characters: Rust, C and Markdown, code and comments. Free are rows of tables (in Markdown
//! and in comments), which cannot be broken, what a reader of Markdown types, and lines whose one word is that long.

use std::path::{Path, PathBuf};

const WIDTH: usize = 120;

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true if name == "target" || name.starts_with('.') => {}
            true => files(&path, found),
            false if [".rs", ".c", ".h", ".md"].iter().any(|end| name.ends_with(end)) => found.push(path),
            false => {}
        }
    }
}

/// Whether a line may be as long as it is.
fn is_free(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches(['/', '!', '*']).trim_start();
    text.starts_with('|') || !text.contains(' ')
}

#[test]
fn no_line_is_wider_than_120_characters() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(root, &mut all);
    assert!(all.len() > 400, "only {} files", all.len());
    let mut wide = Vec::new();
    for file in &all {
        let text = std::fs::read_to_string(file).unwrap();
        let (prose, mut fenced) = (file.extension().is_some_and(|e| e == "md"), false);
        for (at, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            fenced ^= prose && line.starts_with("```");
            let typed = fenced || prose && line.starts_with("    ");
            if columns > WIDTH && !typed && !is_free(line) {
                wide.push(format!("{}:{} has {columns}", file.strip_prefix(root).unwrap().display(), at + 1));
            }
        }
    }
    assert!(wide.is_empty(), "lines too wide:\n{}", wide.join("\n"));
}

#[test]
fn what_is_free() {
    assert!(is_free("//! | `key` | value |") && is_free("| a | b |") && is_free("    /// <https://example.org/>"));
    assert!(!is_free("//! a | b") && !is_free("let a = b | c;") && !is_free("a text of words"));
}
