//! Set-up: the programs of the system that tests and demo need. As root with apt they are installed; otherwise one line
//! says what to install. If nothing is missing, nothing is changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program the project calls, and where it comes from.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Debian's package names.
const TOOLS: &[Tool] = &[
    Tool { program: "cc", package: "gcc" },
    Tool { program: "git", package: "git" },
    Tool { program: "readelf", package: "binutils" },
    Tool { program: "ar", package: "binutils" },
    Tool { program: "nm", package: "binutils" },
    Tool { program: "make", package: "make" },
    Tool { program: "pkg-config", package: "pkg-config" },
    Tool { program: "curl", package: "curl" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "pasta", package: "passt" },
    Tool { program: "tc", package: "iproute2" },
    Tool { program: "ss", package: "iproute2" },
    Tool { program: "ethtool", package: "ethtool" },
    Tool { program: "unshare", package: "util-linux" },
    Tool { program: "nsenter", package: "util-linux" },
    Tool { program: "strace", package: "strace" },
    Tool { program: "valgrind", package: "valgrind" },
    Tool { program: "setpriv", package: "util-linux" },
    Tool { program: "chrt", package: "util-linux" },
    Tool { program: "sysctl", package: "procps" },
    Tool { program: "ps", package: "procps" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "tshark", package: "tshark" },
    Tool { program: "sha256sum", package: "coreutils" },
    Tool { program: "timeout", package: "coreutils" },
    // Unmodified programs under the preload shim.
    Tool { program: "bash", package: "bash" },
    Tool { program: "gawk", package: "gawk" },
    Tool { program: "wget", package: "wget" },
    Tool { program: "nc", package: "netcat-openbsd" },
    Tool { program: "iperf3", package: "iperf3" },
    Tool { program: "redis-server", package: "redis-server" },
    Tool { program: "redis-benchmark", package: "redis-tools" },
    Tool { program: "memcached", package: "memcached" },
    Tool { program: "nginx", package: "nginx-light" },
    Tool { program: "wrk", package: "wrk" },
    Tool { program: "node", package: "nodejs" },
    // And on a stack server.
    Tool { program: "haproxy", package: "haproxy" },
    Tool { program: "ab", package: "apache2-utils" },
    Tool { program: "gunicorn", package: "gunicorn" },
    Tool { program: "initdb", package: "postgresql" },
    Tool { program: "pgbench", package: "postgresql" },
    Tool { program: "sshd", package: "openssh-server" },
    Tool { program: "ssh", package: "openssh-client" },
    Tool { program: "scp", package: "openssh-client" },
    Tool { program: "ssh-keygen", package: "openssh-client" },
];

/// Absolute path of `program`: the first in PATH, then in the directories of system tools, which PATH often lacks for
/// users other than root, then where Debian has PostgreSQL's. `skip` is a directory to leave out.
pub fn find(program: &str, skip: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let postgres = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(postgres.map(|version| version.path().join("bin")))
        .filter(|dir| Some(dir.as_path()) != skip)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Puts the directories of system tools at the end of a PATH, so that child processes find `ip` and `sysctl`.
pub fn system_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Packages whose programs are missing, each once, of those that `wanted` accepts.
fn missing(wanted: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    let absent = |tool: &&Tool| wanted(tool.program) && find(tool.program, None).is_none();
    let mut packages: Vec<_> = TOOLS.iter().filter(absent).map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing of all programs; the caller goes on either way, and tests that need a missing program are
/// skipped.
pub fn tools() {
    provide(&|_| true);
}

/// Installs what is missing of these programs; returns whether all are there now.
pub fn programs<'a>(names: impl Iterator<Item = &'a &'a str> + Clone) -> bool {
    provide(&|program| names.clone().any(|name| *name == program))
}

/// Installs missing programs if possible, and otherwise prints one line. Returns whether all are there now.
fn provide(wanted: &dyn Fn(&str) -> bool) -> bool {
    let packages = missing(wanted);
    if packages.is_empty() {
        return true;
    }
    if nix::unistd::geteuid().is_root() && find("apt-get", None).is_some() {
        println!("set-up: installing {}", packages.join(" "));
        apt(&["update"]);
        let mut install = vec!["install", "--yes", "--no-install-recommends"];
        install.extend(&packages);
        apt(&install);
    }
    let left = missing(wanted);
    if !left.is_empty() {
        println!("set-up: please install: {}", left.join(" "));
    }
    left.is_empty()
}

/// rustfmt and clippy, which rustup's minimal profile leaves out.
pub fn rust_components() {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let present = crate::cargo::cargo()
            .args([subcommand, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !present {
            println!("set-up: rustup component add {component}");
            retry(Command::new("rustup").args(["component", "add", component]));
        }
    }
}

/// apt-get without questions.
fn apt(args: &[&str]) {
    retry(
        Command::new("apt-get")
            .args(["--quiet", "--option", "Acquire::Retries=3", "--option", "DPkg::Lock::Timeout=120"])
            .args(args)
            // Servers among the packages are for tests, not to be started: runlevel 1 has none.
            .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]),
    );
}

/// Three tries, because mirrors and locks fail temporarily. What is still missing is detected when the program is
/// searched for.
fn retry(command: &mut Command) {
    for attempt in 1..=3 {
        match command.stdin(Stdio::null()).status() {
            Ok(status) if status.success() => return,
            Ok(status) => println!("set-up: {:?} ended with {status} (try {attempt} of 3)", command.get_program()),
            Err(error) => return println!("set-up: {:?}: {error}", command.get_program()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Programs that are always there: dpkg's essential packages, rustup, and apt itself.
    const ALWAYS_THERE: [&str; 7] = ["sh", "env", "cargo", "rustc", "rustup", "apt-get", "/proc/self/exe"];

    /// Adds the programs that the Rust files below `dir` call by name.
    fn called(dir: &Path, programs: &mut Vec<(String, PathBuf)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                called(&path, programs);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                // Cut here, so that this file does not find the pattern itself.
                for rest in source.split(concat!("Command::", "new(\"")).skip(1) {
                    let program = rest.split('"').next().unwrap().to_string();
                    programs.push((program, path.clone()));
                }
            }
        }
    }

    #[test]
    fn what_the_demo_wants_is_known_and_nothing_else_is_looked_for() {
        for program in crate::demo::programs() {
            assert!(TOOLS.iter().any(|tool| tool.program == *program), "{program}");
        }
        assert_eq!(missing(&|_| false), Vec::<&str>::new());
    }

    #[test]
    fn set_up_provides_every_program_that_is_called_by_name() {
        let mut programs = Vec::new();
        for dir in ["src", "tests", "benches", "c-tests", "cli", "ffi", "packetdrill", "xtask"] {
            called(&crate::cargo::root().join(dir), &mut programs);
        }
        assert!(programs.len() > 10, "{programs:?}");
        for (program, file) in programs {
            let known = TOOLS.iter().any(|tool| tool.program == program) || ALWAYS_THERE.contains(&program.as_str());
            assert!(known, "{} calls {program}, which set-up does not install", file.display());
        }
    }
}
