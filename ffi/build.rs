//! Compiles src/cancel.c where the C library is glibc, whose functions it calls.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cancel.c");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        // A cancellation unwinds from anywhere in the function to its own frame.
        cc::Build::new()
            .file("src/cancel.c")
            .flags(["-fexceptions", "-fasynchronous-unwind-tables"])
            .warnings(true)
            .extra_warnings(true)
            .compile("usersock_cancel");
    }
}
