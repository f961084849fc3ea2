//! Compiles src/variadic.c: functions whose arguments end with `...`, which stable Rust cannot define.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/variadic.c");
    cc::Build::new()
        .file("src/variadic.c")
        .flags(["-fexceptions", "-fasynchronous-unwind-tables"])
        .warnings(true)
        .extra_warnings(true)
        .compile("usersock_preload_variadic");
}
