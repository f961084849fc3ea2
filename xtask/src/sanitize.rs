//! The stack server and the shim built with a sanitizer. Stable Rust has none: the nightly toolchain builds them, with
//! the standard library as it is. The shim finds the sanitizer's run-time library in the program that it is loaded into
//! only when that is loaded first: gcc's shared one, in front of it in LD_PRELOAD.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Failure, broken, cargo};

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Sanitizer {
    /// Memory that is not the program's
    Address,
    /// Races of threads
    Thread,
}

impl Sanitizer {
    /// rustc's name.
    fn name(self) -> &'static str {
        match self {
            Sanitizer::Address => "address",
            Sanitizer::Thread => "thread",
        }
    }
}

/// What a build made.
pub struct Built {
    /// Where the command and the shim are.
    dir: PathBuf,
    /// gcc's run-time library.
    runtime: PathBuf,
}

impl Built {
    /// Tells the ladder what to run, and how a report ends a program.
    pub fn set(&self, command: &mut Command) {
        command.env("USERSOCK_LADDER_BIN", &self.dir).env("USERSOCK_LADDER_RUNTIME", &self.runtime);
    }
}

/// Builds the command and the shim, below `target/SANITIZER`.
///
/// # Errors
/// There is no nightly toolchain, or no run-time library of gcc's, or the build failed.
pub fn build(sanitizer: Sanitizer) -> Result<Built, Failure> {
    let target = host()?;
    let folder = cargo::root().join("target").join(sanitizer.name());
    println!("building the stack server and the shim with -Zsanitizer={}", sanitizer.name());
    let status = Command::new("rustup")
        .args(["run", "nightly", "cargo", "build", "--package", "usersock-cli", "--package", "usersock-preload"])
        .args(["--target", &target, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", format!("-Zsanitizer={}", sanitizer.name()))
        // The cargo that runs this is of another toolchain.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .current_dir(cargo::root())
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(broken("the build with a sanitizer failed; it needs `rustup toolchain install nightly`"));
    }
    Ok(Built { dir: folder.join(target).join("debug"), runtime: runtime(sanitizer)? })
}

/// The target that rustc builds for without being told. A sanitizer's build names it, so that build scripts and
/// procedural macros, which rustc itself loads, are built without.
fn host() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| broken("rustc -vV names no host"))
}

/// Where gcc has the shared run-time library.
fn runtime(sanitizer: Sanitizer) -> Result<PathBuf, Failure> {
    let name = match sanitizer {
        Sanitizer::Address => "libasan.so",
        Sanitizer::Thread => "libtsan.so",
    };
    let output = Command::new("cc").arg(format!("-print-file-name={name}")).output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    // cc repeats the name of a file that it does not have.
    let found = path.is_absolute().then(|| path.canonicalize().ok()).flatten();
    found.ok_or_else(|| broken(format!("gcc has no {name}")))
}
