//! What `usersock new-plugin` makes: each kind in each language is built as its author would build it, from an
//! installed prefix, and its own test passes; so does a stack that the command loads it into.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;

use harness::ours::{build, library};
use harness::{compiler_name, skip};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A folder of this run's own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The command, once built.
fn usersock() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("usersock-cli").join("usersock"))
}

/// Lays out what `cargo xtask install` lays out, by links.
fn install(prefix: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tree");
    for dir in ["lib", "bin", "share/usersock"] {
        fs::create_dir_all(prefix.join(dir)).expect("a folder");
    }
    for (from, to) in [
        (root.join("include"), "include"),
        (library().join("libusersock.so"), "lib/libusersock.so"),
        (root.join("plugin"), "share/usersock/plugin"),
    ] {
        symlink(from, prefix.join(to)).expect("a link");
    }
    // Not a copy: what another thread's child has open for writing cannot be executed (ETXTBSY).
    fs::hard_link(usersock(), prefix.join("bin/usersock")).expect("a link");
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn works(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}", said(&out));
    said(&out)
}

/// A program that is ended after twenty minutes: some build a crate, beside whatever else the machine does.
fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["1200", program]);
    command
}

const KINDS: [&str; 5] = ["proto", "cong", "hook", "ulp", "device"];

/// A stack that the command loads `so` into has what this kind of plug-in adds.
fn is_loaded(kind: &str, name: &str, so: &Path) {
    let config = format!("plugin={}", so.display());
    let device = format!("{config},device={name}:{0}.a:{0}.b", so.display());
    let (args, want): (&[&str], _) = match kind {
        "proto" => (&["protocols", "--config", &config], name.to_uppercase()),
        "cong" => (&["sysctl", "--config", &config, "net.ipv4.tcp_available_congestion_control"], name.to_owned()),
        "device" => (&["check-config", &device], String::new()),
        _ => (&["sysctl", "--config", &config, "-a"], format!("net.{name}.")),
    };
    let listed = works(Command::new(usersock()).args(args).env_remove("USERSOCK_CONFIG"));
    assert!(listed.contains(&want), "{listed}");
}

#[test]
fn the_skeletons_in_c_build_and_pass_their_tests() {
    let dir = Folder::new("new-plugin-c");
    let prefix = dir.0.join("prefix");
    install(&prefix);
    for kind in KINDS {
        let name = format!("my_{kind}");
        let mut command = Command::new(usersock());
        command.args(["new-plugin", &name, "--kind", kind, "--usersock"]).arg(&prefix).current_dir(&dir.0);
        assert_eq!(works(&mut command), format!("./{name} is made; next: make -C {name} test\n"));
        let mut make = limited("make");
        make.args(["--silent", "-C", &name, "test", "CFLAGS=-O1 -Werror"]).arg(format!("CC={}", compiler_name()));
        let printed = works(make.current_dir(&dir.0).env_remove("USERSOCK_CONFIG").env_remove("USERSOCK"));
        assert_eq!(printed, format!("{name}: ok\n"));
        is_loaded(kind, &name, &dir.0.join(&name).join(format!("{name}.so")));
        // The conformance kit, by the command of the same prefix.
        let checked = works(limited("make").args(["--silent", "-C", &name, "check"]).current_dir(&dir.0));
        assert!(checked.contains(" 0 failed, "), "{checked}");
    }
}

#[test]
fn without_a_path_a_skeleton_in_c_asks_pkg_config() {
    if Command::new("pkg-config").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("new-plugin by pkg-config", "pkg-config is not installed");
    }
    let dir = Folder::new("new-plugin-pc");
    let prefix = dir.0.join("prefix");
    install(&prefix);
    let pc = format!(
        "prefix={0}\nlibdir={0}/lib\nName: usersock\nDescription: -\nVersion: 1\nCflags: -I{0}/include\n\
         Libs: -L{0}/lib -lusersock\n",
        prefix.display()
    );
    fs::write(dir.0.join("usersock.pc"), pc).expect("written");
    works(Command::new(usersock()).args(["new-plugin", "mine", "--kind", "cong"]).current_dir(&dir.0));
    let mut make = limited("make");
    make.args(["--silent", "-C", "mine", "test"]).arg(format!("CC={}", compiler_name())).current_dir(&dir.0);
    assert_eq!(works(make.env("PKG_CONFIG_PATH", &dir.0).env_remove("USERSOCK")), "mine: ok\n");
}

#[test]
fn the_skeletons_in_rust_build_and_pass_their_tests() {
    let dir = Folder::new("new-plugin-rust");
    let prefix = dir.0.join("prefix");
    install(&prefix);
    for kind in KINDS {
        let name = format!("my_{kind}");
        // The command finds the crate in the prefix that it stands in.
        let mut command = Command::new(prefix.join("bin/usersock"));
        command.args(["new-plugin", &name, "--kind", kind, "--lang", "rust"]).current_dir(&dir.0);
        assert_eq!(works(&mut command), format!("./{name} is made; next: (cd {name} && cargo test)\n"));
        // One target folder for all; the flags of this test's own build are not an author's.
        let cargo = |verb: &str| {
            let mut cargo = limited(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
            cargo.args([verb, "--quiet", "--offline", "--target-dir"]).arg(dir.0.join("target"));
            for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "USERSOCK", "USERSOCK_CONFIG"] {
                cargo.env_remove(name);
            }
            works(cargo.current_dir(dir.0.join(&name)))
        };
        let printed = cargo("test");
        assert!(printed.matches("test result: ok.").count() >= 1 && !printed.contains("warning"), "{printed}");
        assert!(printed.contains("running 2 tests"), "{printed}");
        assert_eq!(cargo("build"), "");
        let so = dir.0.join(format!("target/debug/libmy_{kind}.so"));
        is_loaded(kind, &name, &so);
        let checked = works(Command::new(usersock()).arg("check-plugin").arg(&so));
        assert!(checked.contains(" 0 failed, "), "{checked}");
        // As cargo fmt finds it.
        let rustfmt = std::env::var("RUSTFMT").unwrap_or_else(|_| "rustfmt".to_owned());
        if Command::new(&rustfmt).arg("--version").stdout(Stdio::null()).status().is_ok() {
            let mut rustfmt = Command::new(rustfmt);
            rustfmt.args(["--check", "--edition", "2024", "--config", "max_width=120,use_small_heuristics=Max"]);
            // Not build.rs: the path in it may be of any length.
            let files = ["src/lib.rs".to_owned(), format!("tests/{name}.rs")];
            works(rustfmt.args(files).current_dir(dir.0.join(&name)));
        }
    }
}

#[test]
fn what_is_there_is_not_written_over() {
    let dir = Folder::new("new-plugin-there");
    let make = || {
        let mut command = Command::new(usersock());
        command.args(["new-plugin", "mine", "--kind", "proto"]).current_dir(&dir.0);
        command.stdin(Stdio::null()).output().expect("it starts")
    };
    assert!(make().status.success());
    fs::write(dir.0.join("mine/mine.c"), "precious").expect("written");
    let out = make();
    assert_eq!((out.status.code(), &*said(&out)), (Some(2), "usersock: new-plugin mine: ./mine exists already\n"));
    assert_eq!(fs::read_to_string(dir.0.join("mine/mine.c")).expect("readable"), "precious");
}
