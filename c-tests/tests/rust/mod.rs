//! The plug-ins of plugin/examples: built by Cargo, as those of others are, and loaded as those in C.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Builds them once, in this test's own folder, as NAME.so; gives the folder.
pub fn examples() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--offline", "-p", "usersock-plugin", "--examples"]);
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().expect("cargo starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let test = std::env::current_exe().expect("this test's file");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugins-rust-{}", std::process::id()));
        std::fs::create_dir_all(&out).expect("a folder");
        for entry in std::fs::read_dir(target.join("debug/examples")).expect("the examples") {
            let path = entry.expect("entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if let Some(name) = name.strip_prefix("lib").filter(|n| n.ends_with(".so") && !n.contains('-')) {
                std::fs::copy(&path, out.join(name)).expect("copied");
            }
        }
        out
    })
}
