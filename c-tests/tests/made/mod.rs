//! A plug-in of `plugins/`, built with the Makefile beside it in a folder of its own, for tests that load it into their
//! own process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds NAME.so; gives it.
pub fn plugin(name: &str) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugins-{name}"));
    std::fs::create_dir_all(&out).expect("output folder is made");
    let so = out.join(format!("{name}.so"));
    let made = Command::new("make")
        .args(["--silent", "-C", concat!(env!("CARGO_MANIFEST_DIR"), "/plugins")])
        .arg(format!("OUT={}", out.display()))
        .arg(&so)
        .stdin(Stdio::null())
        .output()
        .expect("make starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    so
}
