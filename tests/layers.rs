//! Each layer names only what stands below it: the map is in src/lib.rs. Reads the paths that begin with `crate` or
//! `super` in `use` and in code under src/ and ffi/src/, test code left out, and holds them against `LAYERS`. A layer's
//! own files may name each other, as Linux's tcp_*.c do; src/lib.rs and ffi/src/lib.rs name all, and ffi may name all
//! of the library.

use std::collections::BTreeSet;
use std::path::Path;

/// A layer, the modules at the crate's root that are it, and the layers that it may name.
const LAYERS: &[(&str, &str, &str)] = &[
    ("sys", "sys", ""),
    ("base", "base", "sys"),
    ("wire", "wire", "trace base sys"),
    ("trace", "trace", "base sys"),
    ("counters", "counters", "trace base sys"),
    ("sysctl", "sysctl", "counters trace base sys"),
    ("core", "stack sock device driver", "wire sysctl counters trace base sys"),
    ("ip", "ip", "core wire sysctl counters trace base sys"),
    ("tcp", "tcp", "ip core wire sysctl counters trace base sys"),
    ("udp", "udp", "ip core wire sysctl counters trace base sys"),
    ("ping", "ping", "ip core wire sysctl counters trace base sys"),
    ("raw", "raw", "ip core wire sysctl counters trace base sys"),
    ("inet", "inet", "ip core wire sysctl counters trace base sys"),
    ("standard", "standard", "tcp udp ping raw ip core wire sysctl counters trace base sys"),
    ("control", "control", "tcp ip core wire sysctl counters trace base sys"),
    ("config", "config", "control standard inet tcp udp ping raw ip core wire sysctl counters trace base sys"),
    ("net", "net", "config control standard inet tcp udp ping raw ip core wire sysctl counters trace base sys"),
    ("sim", "sim", "config net control standard inet tcp udp ping raw ip core wire sysctl counters trace base sys"),
    // Items that our other crates need, re-exported.
    ("internal", "internal", "standard inet tcp udp ping raw ip core wire sysctl counters trace base sys"),
    // The C ABI: the common base, the calls for programs, the simulator, and the calls for plug-ins, which do not name
    // each other.
    ("ffi-edge", "boundary cancel flowlabel handle held kernel library loader note probe ptr stacks", ""),
    (
        "ffi-posix",
        "admin cookie epoll eventpoll fcntl fdtable ifaddrs ifreq io poll positioned select sigio socket socklist \
         stdio transfer",
        "ffi-edge",
    ),
    ("ffi-sim", "sim_link sim_thread sim_world", "ffi-edge"),
    ("ffi-plugin", "plugin", "ffi-edge"),
];

/// The layer of a module at the root, and the layers that it may name.
fn layer(module: &str) -> Option<(&'static str, &'static str)> {
    let found = LAYERS.iter().find(|(_, modules, _)| modules.split(' ').any(|m| m == module));
    found.map(|&(layer, _, may)| (layer, may))
}

/// Without comments and without the items under `#[cfg(test)]`, which end where rustfmt ends them: at their own
/// indentation.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut test = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or("");
        let indent = line.len() - line.trim_start().len();
        match test {
            _ if line.trim().starts_with("#[cfg(test)]") => test = Some(indent),
            Some(at) if indent > at || line.trim_start().starts_with("#[") => {}
            Some(_) if line.ends_with(['}', ';', ',']) => test = None,
            Some(_) => {}
            None => out.extend([line.trim(), " "]),
        }
    }
    out
}

/// The modules at the crate's root that `path` names, as seen from the module `at`: `a::{b, c::{d}}` is a tree of them.
fn roots(path: &str, at: &[&str], out: &mut BTreeSet<String>) {
    let (at, path) = match (path.strip_prefix("super::"), path.strip_prefix("self::")) {
        (Some(rest), _) => return roots(rest, &at[..at.len().saturating_sub(1)], out),
        (_, Some(rest)) => (at, rest),
        _ => (at, path),
    };
    if let Some(list) = path.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (i, c) in list.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth < 0 || depth == 0 && c == ',' {
                roots(list[start..i].trim(), at, out);
                start = i + 1;
            }
            if depth < 0 {
                return;
            }
        }
    } else if at.is_empty() {
        let name = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        out.extend((!name.is_empty()).then(|| name.to_string()));
    }
}

/// Adds to `found` what `dir` names upward, as (file, layer).
fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
        let modules = name.split_once("src/").unwrap().1.trim_end_matches(".rs").trim_end_matches("/mod");
        let modules: Vec<&str> = modules.split('/').collect();
        if modules.iter().any(|m| ["tests", "testing", "lib"].contains(m) || m.ends_with("_test")) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
            continue;
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = code(&std::fs::read_to_string(&path).unwrap());
        let mut named = BTreeSet::new();
        for (head, at) in [("crate::", &[][..]), ("super::", &modules[..modules.len() - 1])] {
            for (i, _) in text.match_indices(head) {
                if !text[..i].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
                    roots(&text[i + head.len()..], at, &mut named);
                }
            }
        }
        let (own, may) = layer(modules[0]).unwrap_or_else(|| panic!("{name} stands in no layer: add it to LAYERS"));
        // A name that is in no layer is an item that an inline module names by `super::item`.
        for (to, _) in named.iter().filter_map(|m| layer(m)) {
            if to != own && !may.split(' ').any(|m| m == to) {
                found.insert((name.clone(), to.to_string()));
            }
        }
    }
}

#[test]
fn every_layer_names_only_what_stands_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    walk(root, &root.join("src"), &mut found);
    walk(root, &root.join("ffi/src"), &mut found);
    let upward: Vec<_> = found.iter().map(|(file, to)| format!("{file} names {to}")).collect();
    assert!(upward.is_empty(), "a layer names one that does not stand below it:\n{}", upward.join("\n"));
}

#[test]
fn paths_are_read_through_braces_and_super_and_test_code_is_not() {
    let test = "#[cfg(test)]\nmod tests {\n    use crate::g;\n}\n";
    let text = format!("use crate::{{a::{{b, c}}, super_d, e::F}};\n{test}fn f() {{}} // crate::h");
    let code = code(&text);
    let mut named = BTreeSet::new();
    roots(code.strip_prefix("use crate::").unwrap(), &[], &mut named);
    roots("super::x::Y", &["m"], &mut named);
    roots("super::z", &["m", "n"], &mut named);
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["a", "e", "super_d", "x"]);
    assert!(code.contains("fn f()") && !code.contains("crate::g") && !code.contains("crate::h"));
}
