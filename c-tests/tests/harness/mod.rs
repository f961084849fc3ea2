//! Compiles a C case with the system's compiler, runs it, and reads its verdict. Above: `cases.rs`.
//! A skip (no compiler support for a sanitizer, no right to make a network namespace) is printed past the test
//! runner's capture, where `cargo xtask test` counts it, so that a green run which checked less says so.

#[cfg(has_usersock)]
pub mod ours;
#[cfg(has_usersock)]
pub mod preload;
#[cfg(has_usersock)]
pub mod server;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

/// What the compiler is asked to check at run time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sanitizer {
    /// Nothing: the plain program.
    None,
    /// `-fsanitize=address`, with leaks.
    Address,
    /// `-fsanitize=thread`.
    Thread,
}

impl Sanitizer {
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Sanitizer::None => None,
            Sanitizer::Address => Some("-fsanitize=address"),
            Sanitizer::Thread => Some("-fsanitize=thread"),
        }
    }

    pub fn suffix(self) -> &'static str {
        match self {
            Sanitizer::None => "plain",
            Sanitizer::Address => "asan",
            Sanitizer::Thread => "tsan",
        }
    }

    /// This one where it works, else none: for programs whose own memory is worth checking on the way.
    pub fn or_none(self) -> Sanitizer {
        if self.works() { self } else { Sanitizer::None }
    }

    /// Whether a program built with it also runs here: found out once by building and running an empty one.
    pub fn works(self) -> bool {
        static ADDRESS: OnceLock<bool> = OnceLock::new();
        static THREAD: OnceLock<bool> = OnceLock::new();
        let cell = match self {
            Sanitizer::None => return true,
            Sanitizer::Address => &ADDRESS,
            Sanitizer::Thread => &THREAD,
        };
        *cell.get_or_init(|| {
            let source = out_dir().join(format!("probe-{}.c", self.suffix()));
            let exe = out_dir().join(format!("probe-{}", self.suffix()));
            std::fs::write(&source, "int main(void) { return 0; }\n").expect("probe source is written");
            let mut cc = compiler();
            cc.args(self.flag()).arg(&source).arg("-o").arg(&exe);
            succeeds(&mut cc) && succeeds(&mut Command::new(&exe))
        })
    }
}

/// Where the C sources are.
pub fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// Where the built programs go.
pub fn out_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-cases");
    std::fs::create_dir_all(&dir).expect("output folder is made");
    dir
}

/// The C compiler's name.
pub fn compiler_name() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".into())
}

fn compiler() -> Command {
    Command::new(compiler_name())
}

/// Exit status only; what it prints is dropped.
fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Says that a test checked nothing, by a line that begins with SKIP, which `cargo xtask test` counts. Written to
/// stdout itself: a passing test's captured output is not shown, and a skip must be.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(std::io::stdout(), "SKIP {what}: {why}");
}

/// The command with every warning an error and the flags that all builds share.
fn cc_base(name: &str, sanitizer: Sanitizer, exe: &Path) -> Command {
    cc_of(&cases_dir().join(format!("{name}.c")), sanitizer, exe)
}

/// As `cc_base`, of a file anywhere.
pub fn cc_of(source: &Path, sanitizer: Sanitizer, exe: &Path) -> Command {
    let mut cc = compiler();
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread"]);
    cc.args(sanitizer.flag());
    cc.arg("-o").arg(exe).arg(source);
    cc
}

/// Runs the compiler. Tests that need the same program take turns, so that none runs a file half written.
pub fn compile(mut cc: Command, name: &str, exe: &Path) {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut built_before = BUILT.lock().unwrap_or_else(|e| e.into_inner());
    if built_before.contains(exe) {
        return;
    }
    let built = cc.output().expect("the C compiler starts");
    assert!(built.status.success(), "{name} does not compile:\n{}", String::from_utf8_lossy(&built.stderr));
    built_before.insert(exe.to_path_buf());
}

/// Builds `name` on the kernel's sockets and gives the program.
pub fn build_for_kernel(name: &str, sanitizer: Sanitizer) -> PathBuf {
    let exe = out_dir().join(format!("kernel-{}-{name}", sanitizer.suffix()));
    let mut cc = cc_base(name, sanitizer, &exe);
    cc.arg("-DKERNEL_SOCKETS");
    compile(cc, name, &exe);
    exe
}

/// The prefix that runs a command in a fresh network namespace with loopback up, or `None` where that is not allowed.
pub fn namespace() -> Option<&'static [&'static str]> {
    // It begins with the sizes of TCP's buffers that the machine has, which may have been tuned, and keeps them where
    // /proc/sys is mounted read-only.
    const SCRIPT: &str = "ip link set lo up || exit; (cd /proc/sys/net/ipv4; \
        echo 4096 131072 33554432 > tcp_rmem; echo 4096 16384 4194304 > tcp_wmem) 2> /dev/null; exec \"$@\"";
    const AS_ROOT: &[&str] = &["unshare", "-n", "sh", "-c", SCRIPT, "sh"];
    const ROOTLESS: &[&str] = &["unshare", "-Urn", "sh", "-c", SCRIPT, "sh"];
    static FOUND: OnceLock<Option<&'static [&'static str]>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        [AS_ROOT, ROOTLESS].into_iter().find(|p| succeeds(Command::new(p[0]).args(&p[1..]).arg("true")))
    })
}

/// A sanitizer's report must fail the case; a data race inside code that was not built with it must not be guessed at.
pub fn sanitizer_env(command: &mut Command) {
    command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99");
    command.env("TSAN_OPTIONS", "exitcode=99:ignore_noninstrumented_modules=1");
}

/// Fails the test unless the program said that all is well.
pub fn judge(name: &str, run: std::io::Result<Output>) {
    let run = run.expect("the case starts");
    let out = String::from_utf8_lossy(&run.stdout);
    let verdict = out.lines().any(|l| l == format!("ok {name}"));
    assert!(
        run.status.success() && verdict,
        "{name}: {}\n--- stdout\n{out}--- stderr\n{}",
        run.status,
        String::from_utf8_lossy(&run.stderr)
    );
}

/// Runs `name` on the kernel's sockets in a network namespace of its own.
pub fn run_on_kernel(name: &str, sanitizer: Sanitizer) {
    let what = format!("kernel oracle {name} ({})", sanitizer.suffix());
    if !sanitizer.works() {
        return skip(&what, "the compiler has no such sanitizer");
    }
    let Some(prefix) = namespace() else {
        return skip(&what, "no network namespace can be made");
    };
    let exe = build_for_kernel(name, sanitizer);
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(exe).stdin(Stdio::null());
    sanitizer_env(&mut command);
    judge(name, command.output());
}
