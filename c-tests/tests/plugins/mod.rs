//! Plug-ins in C, and one in Rust: what is in `plugins/` is built by the Makefile beside it, as out-of-tree ones are;
//! each `plugin_cases/*.c` is a program that loads and uses them, plain and under AddressSanitizer (the C of them, and
//! the program). It gets the folder of the built plug-ins as its argument.

use crate::harness::ours::{library, link_shared};
use crate::harness::{Sanitizer, cc_of, compile, compiler_name, judge, out_dir, sanitizer_env, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds all plug-ins with the Makefile; gives the folder they are in.
fn plugins(sanitizer: Sanitizer) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let out = out_dir().join(format!("plugins-{}", sanitizer.suffix()));
    std::fs::create_dir_all(&out).expect("output folder is made");
    let flags = format!("-O1 -g -fno-omit-frame-pointer {}", sanitizer.flag().unwrap_or_default());
    let mut make = Command::new("make");
    make.arg("--silent").arg("-C").arg(here().join("plugins")).arg(format!("OUT={}", out.display()));
    make.arg(format!("CC={}", compiler_name())).arg(format!("CFLAGS={flags}"));
    make.arg(concat!("RUSTC=", env!("USERSOCK_RUSTC"))).env_remove("RUSTFLAGS");
    let built = make.stdin(Stdio::null()).output().expect("make starts");
    assert!(built.status.success(), "the plug-ins do not build:\n{}", String::from_utf8_lossy(&built.stderr));
    out
}

fn run(name: &str, sanitizer: Sanitizer) {
    if !sanitizer.works() {
        return skip(&format!("plug-in case {name} ({})", sanitizer.suffix()), "the compiler has no such sanitizer");
    }
    let plugins = plugins(sanitizer);
    let exe = out_dir().join(format!("plugin-{}-{name}", sanitizer.suffix()));
    let mut cc = cc_of(&here().join("plugin_cases").join(format!("{name}.c")), sanitizer, &exe);
    cc.arg("-I").arg(here().join("../include"));
    link_shared(&mut cc, library());
    compile(cc, name, &exe);
    let mut command = Command::new(exe);
    // Panics of a plug-in in Rust are wanted here: a line of each is enough.
    command.arg(plugins).env_remove("USERSOCK_CONFIG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    sanitizer_env(&mut command);
    judge(name, command.output());
}

macro_rules! plugin_cases {
    ($($case:ident),* $(,)?) => {
        const CASES: &[&str] = &[$(stringify!($case)),*];
        mod plain {
            $(#[test]
            fn $case() { super::run(stringify!($case), super::Sanitizer::None); })*
        }
        mod asan {
            $(#[test]
            fn $case() { super::run(stringify!($case), super::Sanitizer::Address); })*
        }
    };
}

plugin_cases! {
    binding,
    breaks,
    cong,
    cong_packets,
    cong_replace,
    control,
    copies,
    device,
    ecn,
    encap,
    encap_options,
    ether,
    expopt,
    fork,
    fragile,
    frame,
    hooks_chosen,
    hostile,
    inner,
    loading,
    misuse,
    misuse_children,
    offload,
    orphans,
    packets,
    poll_sends,
    quick,
    proto_calls,
    proto_ports,
    rdp,
    rec_ulp,
    rec_ulp_hostile,
    sim,
    sim_misuse,
    sock_ops,
    tcp_stack,
    tcp_stack_hostile,
    tiny,
    udplite,
}

#[test]
fn every_plugin_case_is_registered() {
    let mut found: Vec<String> = std::fs::read_dir(here().join("plugin_cases"))
        .expect("plugin_cases/ is readable")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .map(|path| path.file_stem().expect("stem").to_string_lossy().into_owned())
        .collect();
    let mut known: Vec<String> = CASES.iter().map(ToString::to_string).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

/// Copies the files of a folder that `wanted` says, by their extensions.
fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a readable folder") {
        let from = entry.expect("entry").path();
        if from.is_file() && wanted(from.extension().and_then(|e| e.to_str()).unwrap_or_default()) {
            std::fs::copy(&from, to.join(from.file_name().expect("a name"))).expect("copied");
        }
    }
}

/// The folder copied out of the tree builds with no more than an installed usersock.pc, and again when a header of
/// usersock changes.
#[test]
fn a_copied_folder_builds_by_pkg_config() {
    if Command::new("pkg-config").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("plug-ins by pkg-config", "pkg-config is not installed");
    }
    let _ = std::fs::remove_dir_all(out_dir().join("copied"));
    let (copy, include) = (out_dir().join("copied/plugins"), out_dir().join("copied/prefix/include"));
    // What is built in the tree is not part of it.
    copy_files(&here().join("plugins"), &copy, |extension| extension != "so" && extension != "rs");
    copy_files(&here().join("../include"), &include, |extension| extension == "h");
    copy_files(&here().join("../include/usersock"), &include.join("usersock"), |extension| extension == "h");
    let pc = format!("Name: usersock\nDescription: -\nVersion: 1\nCflags: -I{}\nLibs: -lusersock\n", include.display());
    std::fs::write(copy.join("usersock.pc"), pc).expect("written");
    let make = |args: &[&str]| {
        let mut make = Command::new("make");
        make.arg("--silent").arg("-C").arg(&copy).args(args).env("PKG_CONFIG_PATH", &copy);
        make.env_remove("USERSOCK_CFLAGS").stdin(Stdio::null()).output().expect("make starts")
    };
    let built = make(&[]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for name in ["tiny", "rdp", "westwood", "udpdev"] {
        assert!(copy.join(format!("{name}.so")).exists(), "{name}.so");
    }
    let question = |name: &str| make(&["--question", &format!("./{name}.so")]).status.code();
    assert_eq!(question("tiny"), Some(0), "built again for nothing");
    let header = std::fs::File::options().append(true).open(include.join("usersock/core.h")).expect("core.h");
    header.set_modified(std::time::SystemTime::now()).expect("a new time");
    for name in ["tiny", "rdp"] {
        assert_eq!(question(name), Some(1), "{name}.so is older than a header and not built again");
    }
}

/// What docs/plugins.md shows of a file of plugins/, plugin_cases/ or examples/c/, in blocks that begin with "```c
/// FILE" or "```rust FILE", stands in that file.
#[test]
fn the_guide_shows_the_code_as_it_is() {
    let guide = std::fs::read_to_string(here().join("../docs/plugins.md")).expect("the guide");
    let mut shown = 0;
    for block in ["\n```c ", "\n```rust "].iter().flat_map(|begin| guide.split(begin).skip(1)) {
        let (file, rest) = block.split_once('\n').expect("a block has lines");
        let code = rest.split("\n```").next().expect("a block ends");
        let places = ["plugins", "plugin_cases", "../examples/c"].map(|dir| here().join(dir).join(file));
        let source = places.iter().find_map(|p| std::fs::read_to_string(p).ok()).expect("the file it names");
        assert!(source.contains(code), "{file} has no\n{code}");
        shown += 1;
    }
    assert!(shown >= 10, "only {shown} blocks found");
}
