//! Calls to cargo: builds whose artefacts are found by cargo's own messages, so that no target directory is guessed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{Failure, broken};

/// The cargo that runs us, or the one in PATH.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Root directory of the workspace.
pub fn root() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}

/// Name of the workspace's package that builds the C library (the one with a `staticlib` target).
///
/// # Errors
/// cargo failed, or there is none.
pub fn c_library_package() -> Result<String, Failure> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let has_staticlib = |package: &Value| {
        list(&package["targets"]).iter().flat_map(|target| list(&target["crate_types"])).any(|kind| kind == "staticlib")
    };
    list(&metadata["packages"])
        .iter()
        .find(|package| has_staticlib(package))
        .and_then(|package| package["name"].as_str())
        .map(str::to_string)
        .ok_or_else(|| broken("no package of the workspace builds a static C library"))
}

/// What a build made.
pub struct Built {
    files: Vec<PathBuf>,
    /// Linker flags a program needs beside the static library (`-lpthread ...`), when the build was asked to print
    /// them.
    pub native_libs: Option<String>,
}

impl Built {
    /// The artefact with this file name extension (`so`, `a`; `""` for an executable).
    ///
    /// # Errors
    /// The build made no such file.
    pub fn with_extension(&self, extension: &str) -> Result<&PathBuf, Failure> {
        let matches = |file: &&PathBuf| file.extension().map_or(extension.is_empty(), |found| found == extension);
        self.files.iter().find(matches).ok_or_else(|| broken(format!("the build made no .{extension} file")))
    }
}

/// Builds `package` in release mode. `extra` is given to rustc for that package alone.
///
/// # Errors
/// The build failed; the compiler's report has gone to stderr.
pub fn build_release(package: &str, extra: &[&str]) -> Result<Built, Failure> {
    build(package, &["--release"], extra)
}

/// Builds `package` in the profile of the tests.
///
/// # Errors
/// As `build_release`.
pub fn build_dev(package: &str) -> Result<Built, Failure> {
    build(package, &[], &[])
}

fn build(package: &str, profile: &[&str], extra: &[&str]) -> Result<Built, Failure> {
    let mut command = cargo();
    command.arg(if extra.is_empty() { "build" } else { "rustc" });
    command.args(profile).args(["--package", package, "--message-format=json"]);
    if !extra.is_empty() {
        command.args(["--lib", "--"]).args(extra);
    }
    let output = command.current_dir(root()).stderr(Stdio::inherit()).output()?;
    let mut built = Built { files: Vec::new(), native_libs: None };
    let mut id = None;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        match message["reason"].as_str() {
            Some("compiler-artifact") => {
                let files = list(&message["filenames"]).iter().filter_map(Value::as_str).map(PathBuf::from);
                // Artefacts arrive in build order, so the package asked for is the last to report; a package may report
                // a library and then an executable.
                if id.as_ref() != Some(&message["package_id"]) {
                    built.files.clear();
                    id = Some(message["package_id"].clone());
                }
                built.files.extend(files);
            }
            Some("compiler-message") => {
                let text = message["message"]["message"].as_str().unwrap_or_default();
                if let Some(libs) = text.strip_prefix("native-static-libs: ") {
                    built.native_libs = Some(libs.to_string());
                } else if text.starts_with("link against the following native artifacts") {
                    // The heading of the line above, which we requested: not shown to the user.
                } else if let Some(rendered) = message["message"]["rendered"].as_str() {
                    eprint!("{rendered}");
                }
            }
            _ => {}
        }
    }
    if output.status.success() { Ok(built) } else { Err(broken(format!("building {package} failed"))) }
}

/// The C library with the flags a static link needs.
///
/// # Errors
/// As `build_release`; or rustc did not print the flags.
pub fn build_c_library() -> Result<Built, Failure> {
    let built = build_release(&c_library_package()?, &["--print", "native-static-libs"])?;
    if built.native_libs.is_none() {
        return Err(broken("rustc did not tell which libraries the static library needs"));
    }
    Ok(built)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
