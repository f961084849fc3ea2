//! The plug-ins that are measured, with the exports they find in the benchmark, and the C parts of
//! requests.rs and waits.rs, each compiled for the kernel's sockets and for ours.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=self_table.c");
    println!("cargo::rerun-if-changed=request_server.c");
    println!("cargo::rerun-if-changed=waits_calls.c");
    println!("cargo::rerun-if-changed=../include");
    println!("cargo::rustc-link-arg-benches=-Wl,--export-dynamic");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("self_table.so");
    let compiler = cc::Build::new().include("../include").opt_level(2).pic(true).get_compiler();
    let built = compiler
        .to_command()
        .args(["-fno-plt", "-Wall", "-Wextra", "-Werror", "-shared", "self_table.c", "-o"])
        .arg(&out)
        .status();
    assert!(built.is_ok_and(|s| s.success()), "self_table.c does not compile");
    println!("cargo::rustc-env=SELF_TABLE={}", out.display());
    for name in ["tiny", "flow"] {
        let source = format!("../c-tests/plugins/{name}.c");
        println!("cargo::rerun-if-changed={source}");
        let so = out.with_file_name(format!("{name}.so"));
        let flags = ["-fno-plt", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared"];
        let built = compiler.to_command().args(flags).arg(&source).arg("-o").arg(&so).status();
        assert!(built.is_ok_and(|s| s.success()), "{name}.c does not compile");
        println!("cargo::rustc-env={}_PLUGIN={}", name.to_uppercase(), so.display());
    }
    for name in ["request_server", "waits_calls"] {
        let calls = || {
            let mut build = cc::Build::new();
            build
                .file(format!("{name}.c"))
                .include("../include")
                .opt_level(2)
                .extra_warnings(true)
                .flag("-U_FORTIFY_SOURCE");
            build
        };
        calls().compile(&format!("{name}_kernel"));
        calls().define("USERSOCK", None).compile(&format!("{name}_ours"));
    }
}
