//! `cargo xtask instructions`, and a step of `cargo xtask test`: what a small message costs a program, in instructions.
//! `benches/instructions.c` runs N and 2 N operations against libusersock.so under callgrind, and the difference is
//! what N operations cost. Unlike times, the counts hardly depend on the machine and on what else it does. Each has a
//! bound a quarter above what it was when the bound was set.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, Outcome, broken, cargo, setup};

/// An operation of the program.
struct Operation {
    name: &'static str,
    what: &'static str,
    /// How often it is done in the shorter run.
    times: u64,
    /// Most instructions.
    most: u64,
}

const OPERATIONS: [Operation; 5] = [
    Operation { name: "connection", what: "connect, a byte each way, close", times: 150, most: 55_900 },
    Operation { name: "exchange", what: "a byte each way", times: 1000, most: 12_730 },
    Operation { name: "message", what: "100 bytes one way, and their ACK", times: 1000, most: 8_420 },
    Operation { name: "datagram", what: "a datagram of 64 bytes", times: 1024, most: 7_190 },
    Operation { name: "batch", what: "the same of 32 by sendmmsg and recvmmsg", times: 1024, most: 5_440 },
];

/// Runs `cargo xtask instructions`.
///
/// # Errors
/// The library or the program could not be built or run.
pub fn run() -> Outcome {
    test()?.map(|many| many.is_empty()).map_err(broken)
}

/// The step of `cargo xtask test`: the lines of those above their bounds. Err: it cannot run here, with the reason.
///
/// # Errors
/// As [`run`].
pub fn test() -> Result<Result<Vec<String>, String>, Failure> {
    if setup::find("valgrind", None).is_none() {
        return Ok(Err("valgrind is not installed".into()));
    }
    let program = build()?;
    // All runs at once: most of the time is a processor's.
    let runs =
        OPERATIONS.iter().map(|op| Ok([start(&program, op.name, op.times)?, start(&program, op.name, 2 * op.times)?]));
    let runs = runs.collect::<Result<Vec<_>, Failure>>()?;
    let mut many = Vec::new();
    for (op, [once, twice]) in OPERATIONS.iter().zip(runs) {
        let (once, twice) = (once.collected()?, twice.collected()?);
        let cost = twice.saturating_sub(once) / op.times;
        let line = format!("{}: {cost} instructions, at most {}", op.what, op.most);
        if cost <= op.most {
            println!("{line}");
        } else {
            println!("{line}: TOO MANY");
            many.push(line);
        }
    }
    Ok(Ok(many))
}

/// A run of the program under callgrind.
struct Counted {
    child: std::process::Child,
}

fn start(program: &Path, operation: &str, times: u64) -> Result<Counted, Failure> {
    let child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([operation, &times.to_string()])
        // A stack in memory, whatever the caller uses.
        .env_remove("USERSOCK_CONFIG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Counted { child })
}

impl Counted {
    /// The number of instructions, when the program has ended.
    fn collected(self) -> Result<u64, Failure> {
        let output = self.child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
        count.filter(|_| output.status.success()).ok_or_else(|| broken(format!("valgrind: {}", said.trim_end())))
    }
}

/// Builds libusersock.so as it is installed, and the program against it.
fn build() -> Result<PathBuf, Failure> {
    let library = cargo::build_c_library()?;
    let library = library.with_extension("so")?;
    let directory = library.parent().ok_or_else(|| broken("the library has no folder"))?;
    let program = directory.join("instructions");
    let status = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(cargo::root().join("include"))
        .arg("-o")
        .arg(&program)
        .arg(cargo::root().join("benches/instructions.c"))
        .arg(library)
        .arg(format!("-Wl,-rpath,{}", directory.display()))
        .status()
        .map_err(|error| broken(format!("the C compiler: {error}")))?;
    if status.success() { Ok(program) } else { Err(broken("benches/instructions.c does not build")) }
}
