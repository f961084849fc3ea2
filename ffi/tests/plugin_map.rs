//! The map in `src/plugin/mod.rs` lists every file of the folder, in an order in which each names only those before it.

use std::path::Path;

/// The files that the map lists, in its order.
fn listed(map: &str) -> Vec<&str> {
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | `")?.split_once(" |"));
    rows.flat_map(|(files, _)| files.split('`').filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn a_file_names_only_files_above_it_in_the_map() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plugin");
    let read = |name: &str| std::fs::read_to_string(dir.join(name).with_extension("rs")).expect("a source file");
    let map = read("mod");
    let order = listed(&map);
    let mut there: Vec<_> = std::fs::read_dir(&dir)
        .expect("the folder is readable")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("mod.rs"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    there.sort();
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(sorted, there, "the map in mod.rs");
    for (place, name) in order.iter().enumerate() {
        let text = read(name);
        let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
        let code: String = code.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect();
        for (at, head) in ["super::", "crate::plugin::"].iter().flat_map(|head| code.match_indices(head)) {
            let rest = &code[at + head.len()..];
            let named = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            assert!(order[..place].contains(&named), "{name} names {named:?}, which is not above it");
        }
    }
}
