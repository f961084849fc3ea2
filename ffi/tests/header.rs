//! include/usersock.h is what cbindgen makes of the source now; every export is declared there, documented, and goes through
//! `boundary`. `USERSOCK_WRITE_HEADER=1` writes the file instead of comparing.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = [src.clone(), src.join("plugin")]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).expect("the source is readable"))
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .collect();
    files.sort();
    files.iter().map(|p| std::fs::read_to_string(p).expect("a source file")).collect()
}

/// Each export with the text from its attribute to its end.
fn exports(source: &str) -> Vec<(String, String)> {
    source
        .split("#[unsafe(no_mangle)]")
        .skip(1)
        .map(|part| {
            let body = part.split("\n}\n").next().unwrap_or(part).to_owned();
            let name = body.split("fn ").nth(1).and_then(|s| s.split('(').next()).expect("an export's name");
            (name.to_owned(), body)
        })
        .collect()
}

fn generated() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(dir.join("cbindgen.toml")).expect("cbindgen.toml parses");
    let mut out = Vec::new();
    cbindgen::Builder::new().with_crate(dir).with_config(config).generate().expect("cbindgen").write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_checked_in_header_is_current() {
    let path = root().join("include/usersock.h");
    let fresh = generated();
    if std::env::var_os("USERSOCK_WRITE_HEADER").is_some() {
        std::fs::write(&path, &fresh).expect("include/ is writable");
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == fresh, "include/usersock.h is stale: run `cargo xtask header`");
}

#[test]
fn every_export_is_declared_and_documented() {
    let header = generated();
    let source = sources();
    let all = exports(&source);
    assert!(all.len() > 40, "only {} exports found", all.len());
    for (name, _) in all {
        assert!(name.starts_with("usk_"), "{name}");
        let at = header.find(&format!("{name}(")).unwrap_or_else(|| panic!("{name} is not declared"));
        let line = header[..at].rfind("\n\n").unwrap_or(0);
        assert!(header[line..at].contains("*/"), "{name} is not documented");
    }
}

#[test]
fn no_export_skips_its_gate() {
    for (name, body) in exports(&sources()) {
        // A call that is another with fixed arguments goes through the other's; a getter of a pointer cannot fail.
        let delegates = ["usk_accept", "usk_epoll_wait", "usk_queue_push", "usk_queue_pop"].contains(&name.as_str());
        let infallible = ["usk_config_error"].contains(&name.as_str());
        // Programs' calls go through `boundary`, those of plug-ins through `kernel`; an operation lent to tables is called by
        // either, and contains itself.
        let gated = ["boundary(", "kernel(", "contain("].iter().any(|gate| body.contains(gate));
        assert!(delegates || infallible || gated, "{name} does not go through a gate");
    }
}
