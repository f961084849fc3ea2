//! The stack server and the shim, built with a sanitizer. Stable Rust has none: the nightly toolchain builds them. The
//! server has the sanitizer's run-time library in it. The shim, which is loaded into programs that have none, needs a
//! shared one beside it in LD_PRELOAD.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
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
    /// The shim and the shared run-time library, as LD_PRELOAD has them.
    preload: OsString,
}

impl Built {
    /// Tells the ladder what to run.
    pub fn set(&self, command: &mut Command) {
        command.env("USERSOCK_LADDER_BIN", &self.dir).env("USERSOCK_LADDER_PRELOAD", &self.preload);
    }
}

/// Builds the command and the shim, below `target/SANITIZER`.
///
/// # Errors
/// There is no nightly toolchain, or no run-time library, or the build failed.
pub fn build(sanitizer: Sanitizer) -> Result<Built, Failure> {
    let name = sanitizer.name();
    let (host, library) = (nightly(&["-vV"])?, nightly(&["--print", "target-libdir"])?);
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| broken("rustc -vV names no host"))?;
    let folder = cargo::root().join("target").join(name);
    println!("building the stack server and the shim with -Zsanitizer={name}, in {}", folder.display());
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "build", "--package", "usersock-cli", "--package", "usersock-preload"]);
    // A target that is named leaves build scripts and procedural macros, which rustc loads, without the sanitizer.
    command.args(["--target", host, "--target-dir"]).arg(&folder);
    if sanitizer == Sanitizer::Thread {
        // What the standard library does with atomics must be seen: the fence of `Arc`, of which the sanitizer knows
        // nothing, is another operation there when it is built for it. It needs the component rust-src.
        command.arg("-Zbuild-std");
    }
    command.env("RUSTFLAGS", format!("-Zsanitizer={name}"));
    if !as_outside(&mut command).status()?.success() {
        return Err(broken("the build failed; it needs: rustup toolchain install nightly --component rust-src"));
    }
    let dir = folder.join(host).join("debug");
    let shim = dir.join("libusersock_preload.so");
    let preload = match sanitizer {
        // It ends programs in which it is not the first.
        Sanitizer::Address => vec![shared(Path::new(library.trim()), &folder)?, shim],
        // Calls come to the first one. Were it the sanitizer, then its read(2), and all else that may block, would call
        // the shim's as they would the kernel, with atomics unseen but not memory (tsan_interceptors_posix.cpp,
        // BlockingCall): what our locks had ordered there would be reported as a race later.
        Sanitizer::Thread => [vec![shim], of_clang(&folder)?].concat(),
    };
    let preload = preload.iter().map(|library| library.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"));
    Ok(Built { dir, preload })
}

/// Without what the cargo that runs this, of another toolchain, has set.
fn as_outside(command: &mut Command) -> &mut Command {
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    command.current_dir(cargo::root()).stdin(Stdio::null())
}

/// What the nightly rustc says.
fn nightly(args: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc"]).args(args);
    let output = as_outside(&mut command).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(broken("there is no nightly toolchain; it is had by: rustup toolchain install nightly --component rust-src"))
}

/// Makes a shared library of the toolchain's archive and the ladder's options. gcc's would do, but for wget, which
/// waits for ever under it even without the shim.
fn shared(library: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let (archive, made) = (folder.join("runtime.a"), folder.join("librustc_asan.so"));
    std::fs::copy(library.join("librustc-nightly_rt.asan.a"), &archive)?;
    // This part runs before all constructors, which only an executable's can.
    let mut trim = Command::new("ar");
    trim.arg("d").arg(&archive).arg("asan_preinit.cpp.o");
    let mut link = Command::new("cc");
    link.args(["-shared", "-fPIC", "-o"]).arg(&made).arg(cargo::root().join("c-tests/ladder/asan.c"));
    link.arg("-Wl,--whole-archive").arg(&archive).arg("-Wl,--no-whole-archive");
    link.args(["-lpthread", "-ldl", "-lm", "-lrt"]);
    for command in [&mut trim, &mut link] {
        if !command.status()?.success() {
            return Err(broken("no shared library can be made of librustc-nightly_rt.asan.a"));
        }
    }
    Ok(made)
}

/// The toolchain's archive of the thread sanitizer cannot become a shared library; clang's package has one, in front of
/// which come the ladder's options. gcc's would not do: curl waits for ever under it even without the shim.
fn of_clang(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let name = format!("libclang_rt.tsan-{}.so", std::env::consts::ARCH);
    let of = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    };
    let llvm = of("/usr/lib".into()).filter_map(|dir| {
        let release: u32 = dir.file_name()?.to_str()?.strip_prefix("llvm-")?.parse().ok()?;
        Some((release, dir))
    });
    let found = llvm.flat_map(|(release, dir)| of(dir.join("lib/clang")).map(move |dir| (release, dir)));
    let found = found.map(|(release, dir)| (release, dir.join("lib/linux").join(&name)));
    let Some((_, library)) = found.filter(|(_, library)| library.is_file()).max() else {
        return Err(broken(format!("there is no {name}; it is had by: apt-get install libclang-rt-19-dev")));
    };
    let options = folder.join("tsan.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&options).arg(cargo::root().join("c-tests/ladder/tsan.c"));
    if !cc.status()?.success() {
        return Err(broken("c-tests/ladder/tsan.c does not compile"));
    }
    Ok(vec![options, library])
}
