//! Runs a case on usersock: builds the library once, links it as a user's program would, gives each case its own
//! process and so its own in-memory loopback. Compiled only when `include/usersock.h` exists. Beside: `mod.rs`.

use super::{Sanitizer, cc_base, compile, judge, namespace, out_dir, sanitizer_env, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The profile folder (`target/debug`, `target/release`) this test itself runs from, found from its own path.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("own path");
    let deps = exe.parent().expect("folder of the test");
    deps.parent().expect("profile folder").to_path_buf()
}

/// Builds a package of the workspace into the same target folder and profile; gives the folder.
pub fn build(package: &str) -> PathBuf {
    let profile = profile_dir();
    let target = profile.parent().expect("target folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", package, "--target-dir"]).arg(target);
    // Profile `dev` lives in `debug`; every other one in a folder of its own name.
    match profile.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().expect("cargo starts");
    assert!(built.status.success(), "{package} does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    profile
}

/// Builds `libusersock.a` and `.so`, once; gives the folder.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = build("usersock-c");
        assert!(profile.join("libusersock.a").exists(), "no libusersock.a in {}", profile.display());
        profile
    })
}

/// Builds `name` against `usersock.h` and the library, and gives the program.
///
/// Plain and address-checked programs take the archive. Under the thread sanitizer the shared object is linked
/// instead: the runtime can leave out what it sees of a module that was not built with it, but not of a part of
/// the program itself, and the library's own locks are invisible to it.
pub fn build_for_usersock(name: &str, sanitizer: Sanitizer) -> PathBuf {
    let lib = library();
    let exe = out_dir().join(format!("usersock-{}-{name}", sanitizer.suffix()));
    let mut cc = cc_base(name, sanitizer, &exe);
    cc.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../include"));
    if sanitizer == Sanitizer::Thread {
        link_shared(&mut cc, lib);
    } else {
        cc.arg(lib.join("libusersock.a")).args(["-ldl", "-lm", "-lrt", "-lutil", "-lgcc_s"]);
    }
    compile(cc, name, &exe);
    exe
}

/// Links the shared object in `lib`.
pub fn link_shared(cc: &mut Command, lib: &Path) {
    cc.arg("-L").arg(lib).arg("-l:libusersock.so").arg(format!("-Wl,-rpath,{}", lib.display()));
}

/// Runs `name` on usersock's in-memory loopback.
pub fn run_on_usersock(name: &str, sanitizer: Sanitizer) {
    if !sanitizer.works() {
        return skip(&format!("usersock {name} ({})", sanitizer.suffix()), "the compiler has no such sanitizer");
    }
    if sanitizer == Sanitizer::Thread && !library().join("libusersock.so").exists() {
        return skip(&format!("usersock {name} (tsan)"), "there is no shared library to link");
    }
    let mut command = Command::new(build_for_usersock(name, sanitizer));
    command.env_remove("USERSOCK_CONFIG").stdin(Stdio::null());
    sanitizer_env(&mut command);
    judge(name, command.output());
}

/// Runs `name`, which makes TUN devices, in a network namespace of its own.
pub fn run_in_namespace(name: &str, sanitizer: Sanitizer) {
    let what = format!("usersock {name} ({})", sanitizer.suffix());
    if !sanitizer.works() {
        return skip(&what, "the compiler has no such sanitizer");
    }
    let Some(prefix) = namespace() else {
        return skip(&what, "no network namespace can be made");
    };
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return skip(&what, &format!("/dev/net/tun: {error}"));
    }
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(build_for_usersock(name, sanitizer)).stdin(Stdio::null());
    sanitizer_env(&mut command);
    judge(name, command.output());
}
