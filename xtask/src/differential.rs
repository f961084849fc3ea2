//! `cargo xtask differential`, and a step of `cargo xtask test`: random sequences, each on the kernel and on usersock,
//! their traces compared line by line. There are two halves: socket calls, and packets to a host with sockets in every
//! state. Socket calls have a second peer beside the kernel, a program of a stack server (`served`). The program of
//! each is C (`c-tests/differential/`, `c-tests/differential/packets/`); this part builds it, compares, makes a found
//! difference small, and holds the differences against the list of those that are known (`known.txt` of each, whose
//! reasons are in `docs/limits.md`; `served.txt`, in `docs/server.md`).
//!
//! | file | what it is |
//! |---|---|
//! | `half` | what distinguishes the halves |
//! | `trace` | running the program, and what it printed |
//! | `known` | the list |
//! | `sockets` | what the sockets of a trace are, and what has become of them |
//! | `minimise` | fewer calls and plainer arguments with the same difference, as a C program |

mod half;
mod known;
mod minimise;
mod sockets;
mod trace;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Failure, Outcome, broken, cargo};
pub use half::Half;
use known::Known;
use trace::{Difference, Program, Sequence};

/// Sequences that are run and compared at a time.
const STRETCH: u64 = 500;
/// Different differences after which a run ends: more are for after these are mended.
const ENOUGH: usize = 400;

/// Milliseconds between the calls of a sequence that is repeated.
const SETTLE: [u32; 3] = [0, 2, 45];
/// Times that a kind of difference is repeated in vain.
const UNSTEADY: u64 = 4;

/// Arguments of `cargo xtask differential`.
#[derive(clap::Args)]
pub struct Args {
    /// Run this half alone
    #[arg(long, value_enum)]
    only: Option<Half>,
    /// What runs socket calls beside the kernel
    #[arg(long, value_enum, default_value_t = Peer::Process)]
    peer: Peer,
    /// Go on with fresh seeds for this long, of which 0 is 500 seeds; without it the fixed seeds of the tests are run
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// The first seed; without it the time of day chooses one, which is printed
    #[arg(long, requires = "minutes")]
    seed: Option<u64>,
    /// Name what is found, and do not make it small: that takes some hundred runs of each
    #[arg(long)]
    brief: bool,
}

/// Whose sockets those beside the kernel's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    /// A stack in the program's process, by the C library
    Process,
    /// A stack server, by the shim
    Server,
}

/// What a run has seen.
#[derive(Default)]
struct Seen {
    sequences: u64,
    calls: u64,
    /// Calls that answered as the kernel's, of `calls`.
    listed: BTreeMap<usize, u64>,
    /// Differences that did not come again when the sequence was repeated: time decided. By kind.
    unsteady: BTreeMap<String, u64>,
    /// The rest, the first of each kind.
    found: BTreeMap<String, Found>,
}

struct Found {
    seed: u64,
    difference: Difference,
    times: u64,
}

/// Runs `cargo xtask differential`. With `--minutes` each half gets that long.
///
/// # Errors
/// A program could not be built or run.
pub fn run(args: &Args) -> Outcome {
    let halves = match (args.peer, args.only) {
        (Peer::Process, None) => vec![Half::Calls, Half::Packets],
        (Peer::Process, Some(half)) => vec![half],
        (Peer::Server, None | Some(Half::Calls)) => vec![Half::Served],
        (Peer::Server, Some(_)) => return Err(Failure::Usage("--peer server is of socket calls".into())),
    };
    let mut good = true;
    for half in halves {
        let program = build(half)?;
        let known = Known::read(half)?;
        let mut seen = Seen::default();
        match args.minutes {
            None => fixed_seeds(&program, &known, &mut seen)?,
            Some(minutes) => fresh_seeds(&program, &known, minutes, args.seed, &mut seen)?,
        }
        good &= report(&program, &known, &seen, args.minutes.is_none(), args.brief)?.is_empty();
    }
    Ok(good)
}

/// The step of `cargo xtask test` for a half: its faults, a line each. Err: it cannot run here, with the reason.
///
/// # Errors
/// The program could not be built or run.
pub fn test(half: Half) -> Result<Result<Vec<String>, String>, Failure> {
    let program = build(half)?;
    if let Some(reason) = program.refused()? {
        return Ok(Err(reason));
    }
    let known = Known::read(half)?;
    let mut seen = Seen::default();
    fixed_seeds(&program, &known, &mut seen)?;
    report(&program, &known, &seen, true, false).map(Ok)
}

fn fixed_seeds(program: &Program, known: &Known, seen: &mut Seen) -> Result<(), Failure> {
    let (mut seed, fixed) = (1, program.half.fixed());
    while seed <= fixed {
        stretch(program, known, seed, STRETCH.min(fixed + 1 - seed), seen)?;
        seed += STRETCH;
    }
    Ok(())
}

fn fresh_seeds(
    program: &Program,
    known: &Known,
    minutes: u64,
    first: Option<u64>,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut seed = first.unwrap_or(clock.as_secs() << 20);
    println!("from seed {seed}");
    loop {
        stretch(program, known, seed, STRETCH, seen)?;
        seed += STRETCH;
        if begin.elapsed() >= Duration::from_secs(60 * minutes) || seen.found.len() >= ENOUGH {
            break;
        }
    }
    Ok(())
}

/// Runs `count` seeds from `first` on both sides and notes what differs.
fn stretch(program: &Program, known: &Known, first: u64, count: u64, seen: &mut Seen) -> Result<(), Failure> {
    let (kernel, usersock) = program.seeds(first, count, 0)?;
    if kernel.len() != usersock.len() || kernel.len() as u64 != count {
        return Err(broken(format!(
            "of {count} sequences the kernel ran {}, usersock {}",
            kernel.len(),
            usersock.len()
        )));
    }
    for (seed, (kernel, usersock)) in (first..).zip(kernel.iter().zip(&usersock)) {
        seen.sequences += 1;
        let Some(difference) = compare(known, kernel, usersock, seen) else { continue };
        let kind = difference.kind();
        if let Some(found) = seen.found.get_mut(&kind) {
            found.times += 1;
            continue;
        }
        // A program that died or hung is a finding even where it does so once in a while.
        if difference.field != "died" && !is_steady(program, known, seed, &kind, seen)? {
            *seen.unsteady.entry(kind).or_default() += 1;
            continue;
        }
        seen.found.insert(kind, Found { seed, difference, times: 1 });
    }
    Ok(())
}

/// Whether a difference comes again when its sequence is repeated: at once, and with time between the calls for
/// everything to settle, delayed acknowledgements too. What was found to depend on time often enough is believed to.
fn is_steady(program: &Program, known: &Known, seed: u64, kind: &str, seen: &Seen) -> Result<bool, Failure> {
    if seen.unsteady.get(kind).is_some_and(|times| *times >= UNSTEADY) {
        return Ok(false);
    }
    for settle in SETTLE {
        let (kernel, usersock) = program.seeds(seed, 1, settle)?;
        let again = compare(known, &kernel[0], &usersock[0], &mut Seen::default());
        if again.is_none_or(|again| again.kind() != kind) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first difference that is not listed. A listed one ends the comparison, too, unless the list says that what
/// follows is not touched by it.
fn compare(known: &Known, kernel: &Sequence, usersock: &Sequence, seen: &mut Seen) -> Option<Difference> {
    let mut at = 0;
    loop {
        let difference = trace::first_difference(kernel, usersock, at);
        let end = difference.as_ref().map_or(kernel.lines.len(), |d| d.line);
        seen.calls += (end - at) as u64;
        let difference = difference?;
        let Some(row) = known.row_of(&difference) else { return Some(difference) };
        *seen.listed.entry(row).or_default() += 1;
        if !known.goes_on(row) {
            return None;
        }
        at = difference.line + 1;
    }
}

/// Prints the sums, and each difference that is not listed in its smallest form. `fixed`: a row of the list that none
/// of the seeds met is a fault, too. `brief`: they are named only. Gives the faults, a line each.
fn report(program: &Program, known: &Known, seen: &Seen, fixed: bool, brief: bool) -> Result<Vec<String>, Failure> {
    let listed: u64 = seen.listed.values().sum();
    let mut faults = Vec::new();
    for (kind, found) in &seen.found {
        let line = format!("seed {} ({} times): {kind}", found.seed, found.times);
        println!("-- {line}");
        faults.push(line);
        if !brief {
            minimise::print(program, known, found.seed, &found.difference)?;
        }
    }
    for (_, row) in known.met_by_fixed().filter(|(row, _)| fixed && !seen.listed.contains_key(row)) {
        faults.push(format!("no longer seen, to be taken off the list: {row}"));
        println!("{}", faults[faults.len() - 1]);
    }
    for (kind, times) in &seen.unsteady {
        println!("unsteady, {times} times: {kind}");
    }
    println!(
        "{}: {} sequences, {} lines compared, {} listed differences ({} of {} rows), {} unsteady, \
         {} kinds not listed",
        program.half.name(),
        seen.sequences,
        seen.calls,
        listed,
        seen.listed.len(),
        known.len(),
        seen.unsteady.values().sum::<u64>(),
        seen.found.len()
    );
    Ok(faults)
}

/// Builds the C library as the tests do, and the half's program against it.
fn build(half: Half) -> Result<Program, Failure> {
    let library = cargo::build_dev(&cargo::c_library_package()?)?;
    let archive = library.with_extension("a")?;
    let directory = archive.parent().ok_or_else(|| broken("the library has no folder"))?.join("differential");
    std::fs::create_dir_all(&directory)?;
    let program = directory.join(half.name());
    let server = match half {
        Half::Served => Some([
            cargo::build_dev("usersock-cli")?.with_extension("")?.clone(),
            cargo::build_dev("usersock-preload")?.with_extension("so")?.clone(),
        ]),
        _ => None,
    };
    let status = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"])
        .arg(cargo::root().join("include"))
        .arg("-o")
        .arg(&program)
        .args(half.sources()?)
        .arg(archive)
        .args(["-ldl", "-lm", "-lrt", "-lutil", "-lgcc_s"])
        .status()
        .map_err(|error| broken(format!("the C compiler: {error}")))?;
    if status.success() {
        Ok(Program::new(half, program, directory, server))
    } else {
        Err(broken(format!("{}: does not build", half.folder().display())))
    }
}
