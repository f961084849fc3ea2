//! Runs a case, built without a line of ours, under the preload shim: the kernel's oracle build, whose system calls the
//! shim sees as syscall(2), and a build that calls the C library's functions, with and without their checked variants.
//! In a namespace whose loopback is down, so that a socket of the kernel's would fail. Beside: `mod.rs`.

use super::ours::build;
use super::{cases_dir, cc_of, compile, judge, out_dir, sanitizer_env, succeeds};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// How the case makes its calls.
#[derive(Clone, Copy)]
pub enum Calls {
    /// By syscall(2): kernel.h.
    Numbers,
    /// By the C library's functions: libc.h.
    Functions,
    /// The same, built with _FORTIFY_SOURCE.
    Checked,
}

impl Calls {
    /// The name of the way, and how a case is built for it.
    pub fn flags(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Calls::Numbers => ("numbers", &["-DKERNEL_SOCKETS"]),
            // The C library's headers warn of the bad arguments that cases pass on purpose.
            Calls::Functions => ("functions", &["-DLIBC_SOCKETS", "-w"]),
            Calls::Checked => ("checked", &["-DLIBC_SOCKETS", "-O2", "-D_FORTIFY_SOURCE=2", "-w"]),
        }
    }
}

/// The shim, built once into the folder of the tests.
pub fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("usersock-preload").join("libusersock_preload.so"))
}

/// The prefix that runs a command in a network namespace where nothing is up; empty where there can be none.
fn nowhere() -> &'static [&'static str] {
    static FOUND: OnceLock<&[&str]> = OnceLock::new();
    const WAYS: [&[&str]; 2] = [&["unshare", "-n"], &["unshare", "-Urn"]];
    FOUND.get_or_init(|| {
        WAYS.into_iter().find(|way| succeeds(Command::new(way[0]).args(&way[1..]).arg("true"))).unwrap_or(&[])
    })
}

/// A command that is to run under the shim, with a configuration or only the in-memory loopback.
pub fn preloaded(prefix: &[&str], config: Option<&str>) -> Command {
    let mut words: Vec<String> = prefix.iter().map(|w| (*w).to_owned()).collect();
    words.extend(["env", "-u", "USERSOCK_OWNER", "-u", "USERSOCK_CONFIG"].map(str::to_owned));
    words.push(format!("LD_PRELOAD={}", shim().display()));
    words.extend(config.map(|text| format!("USERSOCK_CONFIG={text}")));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Runs case `name` under the shim.
pub fn run_under_preload(name: &str, calls: Calls) {
    let (way, flags) = calls.flags();
    let exe = out_dir().join(format!("preload-{way}-{name}"));
    let mut cc = cc_of(&cases_dir().join(format!("{name}.c")), super::Sanitizer::None, &exe);
    cc.arg("-DPRELOADED").args(flags);
    compile(cc, name, &exe);
    // The cases that ping may.
    let mut command = preloaded(nowhere(), Some("sysctl.net.ipv4.ping_group_range=0 4294967294"));
    command.arg(exe);
    sanitizer_env(&mut command);
    judge(name, command.output());
}
