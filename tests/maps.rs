//! Maps and walks name only what exists. A module's map, the table at its head, has each of the module's files once and
//! nothing else; a module with submodules and no table names each of them in its text; the walks of src/lib.rs name
//! files that exist; and a path such as `ip::output` in the text at a file's head exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

fn all() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&src(), &mut found);
    found.sort();
    found
}

/// The text at a file's head.
fn head(text: &str) -> Vec<&str> {
    text.lines().take_while(|l| l.starts_with("//!")).collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Modules that a file declares, those of tests left out.
fn declared(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut test = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [.., "mod", name] if name.ends_with(';') && !line.starts_with(' ') => {
                if !test {
                    found.insert(name.trim_end_matches(';'));
                }
                test = false;
            }
            _ => test = line == "#[cfg(test)]",
        }
    }
    found
}

/// The names in the first column of the table at a file's head, as often as they stand there.
fn map(head: &[&str]) -> Vec<String> {
    let rows = head.iter().filter_map(|l| l.strip_prefix("//! | "));
    let first = rows.filter_map(|row| row.split(" | ").next());
    first.flat_map(quoted).map(|n| n.trim_start_matches("[`").to_owned()).collect()
}

#[test]
fn a_map_has_each_file_once_and_nothing_else() {
    let mut maps = 0;
    for path in all() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, declared) = (head(&text), declared(&text));
        if declared.is_empty() || path == src().join("lib.rs") {
            continue;
        }
        let file = path.strip_prefix(src()).unwrap().display();
        // Another table may stand before it, of keys for instance.
        let begins = head.iter().position(|l| l.starts_with("//! | file |")).unwrap_or(head.len());
        let mapped = map(&head[begins..]);
        if mapped.is_empty() {
            assert!(declared.len() <= 2, "{file}: {} modules want a map", declared.len());
            let text = head.join("\n");
            let named: BTreeSet<&str> = quoted(&text).collect();
            let missing: Vec<_> = declared.difference(&named).collect();
            assert!(missing.is_empty(), "{file}: the text at its head does not name {missing:?}");
            continue;
        }
        maps += 1;
        let once: BTreeSet<&str> = mapped.iter().map(String::as_str).collect();
        assert_eq!(mapped.len(), once.len(), "{file}: a name stands twice in {mapped:?}");
        assert_eq!(once, declared, "{file}: the map and the modules");
    }
    assert!(maps >= 10, "{maps} maps");
}

#[test]
fn the_crates_map_has_each_module() {
    let text = std::fs::read_to_string(src().join("lib.rs")).unwrap();
    // Before it stands a table of where to begin, which names some of them.
    let head = head(&text);
    let layers = head.iter().position(|l| *l == "//! # Layers").unwrap();
    let mapped = map(&head[layers..]);
    let once: BTreeSet<&str> = mapped.iter().map(String::as_str).collect();
    assert_eq!(once, declared(&text));
}

#[test]
fn the_walks_name_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(src().join("lib.rs")).unwrap();
    let head = head(&text).join("\n");
    let (_, walks) = head.split_once("# The two walks").unwrap();
    let (walks, _) = walks.split_once("\n//! #").unwrap();
    let stops: Vec<&str> = quoted(walks).filter(|n| n.ends_with(".rs")).collect();
    assert!(stops.len() > 25, "{} stops", stops.len());
    for stop in stops {
        assert!(root.join("src").join(stop).is_file() || root.join(stop).is_file(), "{stop}");
    }
}

/// Whether `name` is an item of the module in `file`.
fn has_item(file: &Path, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let kinds = ["fn", "mod", "struct", "enum", "trait", "const", "static", "type", "macro_rules!"];
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let exported = |l: &str| l.contains("pub use ") && l.contains(name);
    let mut defines = code.map(|l| exported(l) || kinds.iter().any(|k| l.contains(&format!("{k} {name}"))));
    defines.any(|d| d)
}

#[test]
fn a_path_at_a_files_head_leads_somewhere() {
    let modules = declared_at_root();
    let mut paths = 0;
    for path in all() {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in quoted(&head(&text).join(" ")) {
            let parts: Vec<&str> = name.split("::").collect();
            let plain = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if parts.len() < 2 || !parts.iter().all(plain) || !modules.contains(parts[0]) {
                continue;
            }
            paths += 1;
            // The longest prefix that is a file; the rest must be an item of it.
            let leads = (1..=parts.len()).rev().any(|n| {
                let base = src().join(parts[..n].join("/"));
                [base.with_extension("rs"), base.join("mod.rs")]
                    .iter()
                    .any(|f| f.is_file() && parts.get(n).is_none_or(|item| has_item(f, item)))
            });
            assert!(leads, "{}: `{name}` leads nowhere", path.strip_prefix(src()).unwrap().display());
        }
    }
    assert!(paths > 50, "{paths} paths");
}

fn declared_at_root() -> BTreeSet<String> {
    let text = std::fs::read_to_string(src().join("lib.rs")).unwrap();
    declared(&text).into_iter().map(str::to_owned).collect()
}
