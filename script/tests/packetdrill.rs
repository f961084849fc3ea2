//! Every packet script of `tests/packetdrill/`, in each of the three address variants, as a test of its own in virtual
//! time. `cargo test --test packetdrill recovery` plays the scripts with `recovery` in their names.
//! `PACKETDRILL_SCRIPTS` names another folder or file to play instead, as seen from the project's root;
//! `PACKETDRILL_SEED` the seed of what is random (default 1); `PACKETDRILL_LOG` shows all that happened.
//! At the end of those that `counters.txt` names the counters of TCP are what they were on Linux.
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use usersock_script::on_stack::OnStack;
use usersock_script::{Setup, Variant, parse, run};

fn scripts(under: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if under.is_file() {
        found.push(under.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(under)? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|ext| ext == "pkt") {
            scripts(&path, found)?;
        }
    }
    Ok(())
}

/// Counters that are not compared: how the packets of a device lie in memory decides them.
const NOT_COMPARED: [&str; 3] = ["TCPHPHits", "TCPRcvCoalesce", "TCPRcvCollapsed"];

type Counters = BTreeMap<String, u64>;

/// By script, the counters of TcpExt that were not 0 at its end on Linux.
fn counters_of_linux(text: &str) -> Result<BTreeMap<String, Counters>, String> {
    let mut all: BTreeMap<String, Counters> = BTreeMap::new();
    let mut script = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        for word in line.split_whitespace() {
            if let Some(name) = word.strip_suffix(':') {
                script = name.to_owned();
                all.entry(script.clone()).or_default();
                continue;
            }
            let value = word.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
            let (name, value) = value.ok_or_else(|| format!("counters.txt: {word}"))?;
            all.entry(script.clone()).or_default().insert(name, value);
        }
    }
    Ok(all)
}

/// Err: the counters of this stack that differ.
fn compare(stack: &OnStack, linux: &Counters) -> Result<(), String> {
    let here = stack.stack().mib.iter().filter_map(|(name, value)| Some((name.strip_prefix("TcpExt")?, value)));
    let differ: Vec<String> = here
        .filter(|(name, _)| !NOT_COMPARED.contains(name))
        .map(|(name, value)| (name, linux.get(name).copied().unwrap_or(0), value))
        .filter(|(_, linux, here)| linux != here)
        .map(|(name, linux, here)| format!("TcpExt{name}: {here}, on Linux {linux}"))
        .collect();
    if differ.is_empty() { Ok(()) } else { Err(differ.join("\n    ")) }
}

fn play(path: &Path, variant: Variant, seed: u64, linux: Option<&Counters>) -> Result<(), Failed> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)?;
    let script = parse(&text, variant.defines()).map_err(|error| format!("{shown}:{error}"))?;
    let setup = Setup::for_script(variant, &script).map_err(|error| format!("{shown}:{error}"))?;
    let mut stack = OnStack::new(&setup, seed).map_err(|error| format!("{shown}: no stack: {error:?}"))?;
    let beside = path.parent().unwrap_or(Path::new("."));
    let log = std::env::var_os("PACKETDRILL_LOG").is_some();
    match run(&script, &setup, beside, &mut stack) {
        Ok(report) => {
            if log {
                println!("{shown} ({variant})\n    {}", report.log.join("\n    "));
            }
            linux.map_or(Ok(()), |linux| compare(&stack, linux).map_err(|e| format!("{shown}: {e}").into()))
        }
        Err(failure) => Err(format!("{shown}:{failure}\n  ({variant}, seed {seed})").into()),
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let root = project.join(std::env::var_os("PACKETDRILL_SCRIPTS").unwrap_or("tests/packetdrill".into()));
    let seed = std::env::var("PACKETDRILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut found = Vec::new();
    if let Err(error) = scripts(&root, &mut found) {
        eprintln!("{}: {error}", root.display());
        std::process::exit(1);
    }
    found.sort();
    let text = std::fs::read_to_string(root.join("counters.txt")).unwrap_or_default();
    let counters = match counters_of_linux(&text) {
        Ok(counters) => counters,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    let mut trials = Vec::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap_or(&path).with_extension("").display().to_string();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for variant in Variant::ALL.into_iter().filter(|variant| variant.plays(&file)) {
            let path = path.clone();
            let linux = counters.get(&name).filter(|_| variant == Variant::Ipv4).cloned();
            trials.push(Trial::test(format!("{name} ({variant})"), move || play(&path, variant, seed, linux.as_ref())));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
