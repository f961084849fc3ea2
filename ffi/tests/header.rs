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

/// The words of a mode: a standard, and the features that a program asks the system's headers for.
fn modes() -> Vec<Vec<&'static str>> {
    let features: [&[&str]; 6] = [
        &[],
        &["-D_POSIX_C_SOURCE=200809L"],
        &["-D_POSIX_C_SOURCE=200112L"],
        &["-D_XOPEN_SOURCE=700"],
        &["-D_DEFAULT_SOURCE"],
        &["-D_GNU_SOURCE", "-DCOMPLETE_MMSGHDR"],
    ];
    let standards = ["-std=c99", "-std=c11", "-std=c17", "-std=gnu99", "-std=gnu11", "-std=gnu17"];
    standards.iter().flat_map(|s| features.iter().map(|f| [&[*s], *f].concat())).collect()
}

/// A program that includes nothing else and needs every type that the header takes from the system.
const PROGRAM: &str = r#"
#include "usersock.h"
int program(int fd);
int program(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char b[4] = {0};
    struct iovec iov = {0};
    struct msghdr m = {0};
    struct pollfd p = {0};
    struct epoll_event ev = {0};
    struct timespec ts = {0};
    struct timeval tv = {0};
    static fd_set set;
    static sigset_t mask;
    int64_t at = 0;
    off_t from = 0;
    uint64_t count = 0;
    ssize_t n = usk_recv(fd, b, (size_t)1, MSG_PEEK) + usk_writev(fd, &iov, 1) + usk_sendmsg(fd, &m, 0);
    n += usk_splice(fd, &at, fd, &at, 1, 0) + usk_sendfile(fd, fd, &from, 1);
    n += usk_ppoll(&p, 1, &ts, &mask) + usk_select(1, &set, &set, &set, &tv) + usk_epoll_pwait(fd, &ev, 1, 0, &mask);
    n += usk_sendmmsg(fd, (struct mmsghdr *)0, 0, 0) + usk_accept(fd, (struct sockaddr *)&a, &len);
    n += usk_mib_read((usk_stack_t *)0, "TcpInSegs", &count);
#ifdef COMPLETE_MMSGHDR
    struct mmsghdr mm = {0};
    n += usk_recvmmsg(fd, &mm, 1, 0, &ts);
#endif
    return (int)n + usk_socket(AF_INET, SOCK_STREAM, 0);
}
"#;

/// Compiles [`PROGRAM`] with each of `modes`. False where there is no such compiler.
fn compiles(compiler: &str, name: &str, modes: &[Vec<&str>]) -> bool {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = dir.join(name);
    std::fs::write(&source, PROGRAM).expect("the source is written");
    for mode in modes {
        let mut cc = std::process::Command::new(compiler);
        cc.args(mode).args(["-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]);
        cc.args(["-fsyntax-only", "-I"]).arg(root().join("include")).arg(&source);
        let Ok(out) = cc.output() else { return false };
        assert!(out.status.success(), "{compiler} {mode:?}:\n{}", String::from_utf8_lossy(&out.stderr));
    }
    true
}

/// Past the test runner's capture, where `cargo xtask test` counts it.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "SKIP usersock.h in all modes: {why}");
}

#[test]
fn the_header_compiles_by_itself_in_every_mode_of_c() {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if !compiles(&cc, "header.c", &modes()) {
        skip("there is no C compiler");
    }
}

#[test]
fn the_header_compiles_by_itself_in_every_mode_of_cxx() {
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let modes: Vec<_> = ["-std=c++11", "-std=c++17", "-std=c++20", "-std=gnu++17"].map(|s| vec![s]).into();
    if !compiles(&cxx, "header.cc", &modes) {
        skip("there is no C++ compiler");
    }
}
