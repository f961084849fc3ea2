//! Says whether the C ABI exists yet: the runs against usersock are registered only when its header is there. The
//! oracle runs (the same programs on the kernel's sockets) need nothing of ours. Below: `tests/cases.rs`.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_usersock)");
    // A folder is watched rather than the file, since a missing file would make Cargo run this at every build.
    println!("cargo::rerun-if-changed=../include");
    println!("cargo::rerun-if-changed=build.rs");
    if std::path::Path::new("../include/usersock.h").exists() {
        println!("cargo::rustc-cfg=has_usersock");
    }
    // One plug-in is in Rust: a test builds it, with the compiler that this is built with.
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    println!("cargo::rustc-env=USERSOCK_RUSTC={rustc}");
    println!("cargo::rerun-if-env-changed=RUSTC");
    // Plug-ins that a test loads into its own process find the calls of the C ABI in it.
    println!("cargo::rustc-link-arg-tests=-Wl,--export-dynamic");
}
