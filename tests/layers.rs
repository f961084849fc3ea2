//! Each layer names only what stands below it: the map is in src/lib.rs. Reads the paths that begin with `crate` or
//! `super` in `use` and in code under src/ and ffi/src/, test code left out, and holds them against `LAYERS`. A layer's
//! own files may name each other, as Linux's tcp_*.c do; src/lib.rs and ffi/src/lib.rs name all, and ffi may name all
//! of the library. Within the layers that have an order of their own, files that name each other in a circle are
//! `CIRCLES`, and those of the other crates `OTHER_CIRCLES`.

use std::collections::{BTreeMap, BTreeSet};
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

/// Layers whose files are one large circle: TCP's, as Linux's are.
const WHOLE: &[&str] = &["tcp"];

/// In the others, files that name each other in a circle. There is one, of the core, and it is what these types are:
/// - A stack has devices, device kinds, protocols and orphaned socks, and each of those is handed its stack.
/// - A packet knows the sock that it is charged to, and whom to tell of its end (`zerocopy`, `tstamp`): its destructor
///   does that. It also knows how the protocol cuts it (`offload`), whose functions take packets.
/// - A protocol's operations take socks and packets and name a sock's SO_REUSEPORT group, which lists socks.
/// - A stack's own device is the loopback, which `netdev` calls without the detour by `Device`; `gso` cuts packets for
///   devices on behalf of `netdev`.
const CIRCLES: &[&str] =
    &["device device/gso device/loopback device/netdev device/types sock sock/offload sock/orphan sock/proto \
     sock/registry sock/reuseport sock/skb sock/tstamp sock/zerocopy stack"];

/// Of the other crates: where their files are, below which folder they are looked at, and the circles. Of the shim:
/// `load` asks `spliced` whether a stack server has the sockets, which waits for that server by the functions that
/// `control`, `ready` and `descriptors` put in front of the C library's, and those load what is not loaded yet;
/// `served` and `urgent` are what `data` does where a server has the socket, by the real functions that `data` has
/// found. Of the crate for plug-ins only the side that speaks C: the traits beside it are in its signatures, and the
/// other way round.
const OTHER_CIRCLES: &[(&str, &str, &[&str])] = &[
    ("ffi/src", "", &[]),
    ("ffi/spliced/src", "", &[]),
    ("ffi/preload/src", "", &["control descriptors load ready spliced", "data served several urgent"]),
    ("plugin/src", "abi", &[]),
    ("cli/src", "", &[]),
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

/// The names that `path` leads to, each as a path from the crate's root: `a::{b, c::{d, e}}` is a/b, a/c/d and a/c/e.
/// Returns how much of `path` it has read.
fn leaves(path: &str, at: &[&str], out: &mut BTreeSet<String>) -> usize {
    let name = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
    let (inner, rest) = (&[at, &[name]].concat()[..], &path[name.len()..]);
    if let Some(more) = rest.strip_prefix("::") {
        return name.len() + 2 + leaves(more, inner, out);
    }
    if !name.is_empty() || !path.starts_with('{') {
        out.insert(if matches!(name, "" | "self") { at.join("/") } else { inner.join("/") });
        return name.len();
    }
    let mut read = 1;
    loop {
        read += path[read..].len() - path[read..].trim_start_matches([' ', ',']).len();
        match &path[read..] {
            "" => return read,
            list if list.starts_with('}') => return read + 1,
            list => read += leaves(list, at, out).max(1),
        }
    }
}

/// Whether it has only test code.
fn is_test(modules: &[&str]) -> bool {
    modules.iter().any(|m| ["tests", "testing", "lib"].contains(m) || m.ends_with("_test"))
}

/// Adds to `found` what `dir` names upward, as (file, layer).
fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
        let modules = name.split_once("src/").unwrap().1.trim_end_matches(".rs").trim_end_matches("/mod");
        let modules: Vec<&str> = modules.split('/').collect();
        if is_test(&modules) {
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

/// Adds the files of `dir` with their code: by their path from src/, without its ending.
fn files(src: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(src).unwrap().to_str().unwrap().trim_end_matches(".rs").trim_end_matches("/mod");
        if is_test(&name.split('/').collect::<Vec<_>>()) {
            continue;
        }
        if path.is_dir() {
            files(src, &path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.insert(name.to_string(), code(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Which files the file `name` names: by `crate::`, or by `super::` once or more.
fn names(name: &str, text: &str, files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let modules: Vec<&str> = name.split('/').collect();
    let mut found = BTreeSet::new();
    for head in ["crate::", "super::"] {
        for (i, _) in text.match_indices(head) {
            if text[..i].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c)) {
                continue;
            }
            let (mut at, mut path) = (if head == "crate::" { &[][..] } else { &modules[..] }, &text[i..]);
            path = path.strip_prefix("crate::").unwrap_or(path);
            while let Some(rest) = path.strip_prefix("super::") {
                (at, path) = (&at[..at.len().saturating_sub(1)], rest);
            }
            leaves(path, at, &mut found);
        }
    }
    let file = |path: &String| {
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        ends.filter_map(|end| files.get_key_value(&path[..end])).next_back().map(|(file, _)| file.clone())
    };
    found.iter().filter_map(file).filter(|file| file != name).collect()
}

/// The files that `from` leads to.
fn reach(from: &str, graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_string()]);
    while let Some(file) = left.pop() {
        left.extend(graph[&file].iter().filter(|to| seen.insert(to.to_string())).cloned());
    }
    seen
}

/// The circles of files below `dir`, whose crate's root is `src`: each with its files by their path from there.
fn circles(src: &Path, dir: &Path, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let mut texts = BTreeMap::new();
    files(src, dir, &mut texts);
    let graph: BTreeMap<_, _> = texts.iter().map(|(f, text)| (f.clone(), names(f, text, &texts))).collect();
    let reached: BTreeMap<_, _> = graph.keys().map(|f| (f.clone(), reach(f, &graph))).collect();
    let mut circles = BTreeSet::new();
    for (file, all) in reached.iter().filter(|(file, all)| all.contains(*file)) {
        if counts(file) {
            let circle = all.iter().filter(|to| reached[*to].contains(file)).map(String::as_str);
            circles.insert(circle.collect::<Vec<_>>().join(" "));
        }
    }
    circles.into_iter().collect()
}

#[test]
fn within_a_layer_the_only_circles_of_files_are_the_known_ones() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_ordered = |file: &str| !WHOLE.contains(&layer(file.split('/').next().unwrap()).unwrap().0);
    assert_eq!(circles(&src, &src, is_ordered), CIRCLES);
}

#[test]
fn in_the_other_crates_the_only_circles_of_files_are_the_known_ones() {
    for (src, below, known) in OTHER_CIRCLES {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(src);
        assert_eq!(circles(&src, &src.join(below), |_| true), *known, "{}", src.display());
    }
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
    let mut named = BTreeSet::new();
    leaves("a::{self, b, c::{d, E}}, rest", &["m"], &mut named);
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["m/a", "m/a/b", "m/a/c/E", "m/a/c/d"]);
    assert!(code.contains("fn f()") && !code.contains("crate::g") && !code.contains("crate::h"));
}
