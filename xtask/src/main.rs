//! `cargo xtask`: set-up, tests, demo, installation and the packetdrill runner. It stands beside the stack, never
//! inside it: everything here is done through the files and programs that a user would use, too.
//!
//! A command returns `Ok(true)` (all well: exit status 0), `Ok(false)` (it ran and found failures: 1) or an error. An
//! error of usage is one line on stderr and exit status 2, any other error is one line and 1.

mod cargo;
mod compare_cc;
mod demo;
mod differential;
mod fresh;
mod install;
mod instructions;
mod netns;
mod packetdrill;
mod programs;
mod sanitize;
mod setup;
mod tally;
mod test;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The arguments are wrong or incomplete: exit status 2.
    Usage(String),
    /// Something outside failed: exit status 1.
    Broken(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Broken(error.to_string())
    }
}

/// What each command returns; see the module.
pub type Outcome = Result<bool, Failure>;

/// An error that is not the caller's fault, with a message.
pub fn broken(message: impl Into<String>) -> Failure {
    Failure::Broken(message.into())
}

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, tests and demo of usersock",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, then check format and lints and run every test of the workspace
    Test(test::Args),
    /// Write the headers in include/ anew from the C ABI's source
    Header,
    /// Write docs/options.md anew from c-tests/options/options.txt
    Options,
    /// Draw the pictures of docs/plugins.md anew: plug-ins on bad links, and Westwood+ against CUBIC
    Plot,
    /// Show usersock at work: C programs, then nginx, curl and wrk unmodified, looked into and drawn while they run
    Demo(demo::Args),
    /// Build in release mode and install libusersock, its headers, its pkg-config file and the usersock command
    Install {
        /// Where to install: DIR/lib, DIR/include, DIR/lib/pkgconfig, DIR/bin
        #[arg(long, value_name = "DIR")]
        prefix: PathBuf,
    },
    /// Run random sequences of socket calls and of packets on the kernel and on usersock and compare them
    Differential(differential::Args),
    /// Send over simulated links with the kernel's congestion control and with ours, and compare what arrives
    #[command(name = "compare-cc")]
    CompareCc(compare_cc::Args),
    /// Count the instructions of a connection, of an exchange and of a message
    Instructions,
    /// Run the whole ladder of unmodified programs, with usersock on either side and on both, with and without loss
    Programs(programs::Args),
    /// Run packetdrill scripts against usersock, each variant in a network namespace of its own
    Packetdrill(packetdrill::Args),
    /// Say which kind of network a namespace here can have, tun or packet (the demo asks itself)
    #[command(name = "netns-probe", hide = true)]
    Probe {
        /// How to enter the namespace
        #[arg(long)]
        how: netns::How,
        /// The one kind that is asked for
        #[arg(long, value_enum)]
        via: Option<demo::Via>,
    },
    /// The part of the demo that runs inside the namespace
    #[command(name = "demo-inside", hide = true)]
    DemoInside(demo::InsideArgs),
    /// The part of a packetdrill run that runs inside the namespace
    #[command(name = "packetdrill-inside", hide = true)]
    PacketdrillInside(packetdrill::inside::Args),
    /// The sender of compare-cc
    #[command(name = "bulk-send", hide = true)]
    BulkSend(compare_cc::bulk::Args),
    /// The receiver of compare-cc
    #[command(name = "bulk-sink", hide = true)]
    BulkSink(compare_cc::bulk::Args),
    /// Run a command in a network namespace with nothing but the loopback device in it
    #[command(name = "netns-run", hide = true)]
    NetnsRun {
        /// How to enter the namespace
        #[arg(long)]
        how: netns::How,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    // Called by the name of a tool (a symbolic link the packetdrill runner put first in PATH): be that tool's stand-in.
    if let Some(status) = packetdrill::stand_in::dispatch() {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp) => {
            // A reader that closes the pipe early, such as head(1), is no error.
            let _ = write!(std::io::stdout(), "{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return usage_error(&one_line(&error)),
    };
    let outcome = match cli.command {
        Command::Test(args) => test::run(&args),
        Command::Header => header(),
        Command::Options => options(),
        Command::Plot => plot(),
        Command::Demo(args) => demo::run(&args),
        Command::Install { prefix } => install::run(&prefix),
        Command::Differential(args) => differential::run(&args),
        Command::CompareCc(args) => compare_cc::run(&args),
        Command::Instructions => instructions::run(),
        Command::Programs(args) => programs::run(&args),
        Command::Packetdrill(args) => packetdrill::run(&args),
        Command::Probe { how, via } => demo::probe(how, via),
        Command::DemoInside(args) => demo::inside(&args),
        Command::PacketdrillInside(args) => packetdrill::inside::run(&args),
        Command::BulkSend(args) => compare_cc::bulk::send(&args),
        Command::BulkSink(args) => compare_cc::bulk::sink(&args),
        Command::NetnsRun { how, command } => netns::enter(how).and_then(|()| netns::exec(&command)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Usage(message)) => usage_error(&message),
        Err(Failure::Broken(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The test that compares the headers writes them when it is told to.
fn header() -> Result<bool, Failure> {
    let status = cargo::cargo()
        .args(["test", "--quiet", "--package", "usersock-ffi", "--test", "header"])
        .env("USERSOCK_WRITE_HEADER", "1")
        .status()
        .map_err(|e| Failure::Broken(format!("cannot run cargo: {e}")))?;
    Ok(status.success())
}

/// The test that compares the page with the table writes it when it is told to.
fn options() -> Result<bool, Failure> {
    let status = cargo::cargo()
        .args(["test", "--quiet", "--package", "usersock-c-tests", "--test", "options", "the_document_is_current"])
        .env("USERSOCK_WRITE_OPTIONS", "1")
        .status()
        .map_err(|e| Failure::Broken(format!("cannot run cargo: {e}")))?;
    Ok(status.success())
}

/// The tests that compare the pictures write them when they are told to.
fn plot() -> Result<bool, Failure> {
    let status = cargo::cargo()
        .args(["test", "--quiet", "--package", "usersock-c-tests", "--test", "westwood", "--test", "examples"])
        .args(["--", "the_picture_is_current", "the_pictures_are_current"])
        .env("USERSOCK_WRITE_PLOT", "1")
        .status()
        .map_err(|e| Failure::Broken(format!("cannot run cargo: {e}")))?;
    Ok(status.success())
}

/// One line on stderr, exit status 2.
fn usage_error(message: &str) -> ExitCode {
    eprintln!("xtask: {message}");
    ExitCode::from(2)
}

/// clap's report without its usage and hint paragraphs: the first paragraph, joined to one line.
fn one_line(error: &clap::Error) -> String {
    if matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        return "which command? test, programs, demo, install or packetdrill (cargo xtask --help lists them)".into();
    }
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    first.join(" ").trim_start_matches("error: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_errors_are_one_line_that_names_the_argument() {
        for (args, word) in [
            (&["xtask"][..], "which command?"),
            (&["xtask", "dmeo"], "dmeo"),
            (&["xtask", "test", "--fast"], "--fast"),
            (&["xtask", "test", "--fresh", "HEAD"], "HEAD"),
            (&["xtask", "test", "--fresh=yes"], "--fresh"),
            (&["xtask", "install"], "--prefix"),
            (&["xtask", "packetdrill", "--jobs", "many", "d"], "many"),
            (&["xtask", "packetdrill", "--jobs", "0", "d"], "--jobs"),
            (&["xtask", "demo", "--via", "pigeon"], "pigeon"),
            (&["xtask", "programs", "--form", "U-X"], "U-X"),
            (&["xtask", "programs", "--loss", "51"], "51"),
            (&["xtask", "differential", "--seed", "1"], "--minutes"),
        ] {
            let Err(error) = Cli::try_parse_from(args) else { panic!("{args:?} was accepted") };
            let line = one_line(&error);
            assert!(line.contains(word), "{args:?}: {line}");
            assert!(!line.contains('\n'), "{args:?}: {line}");
        }
    }

    #[test]
    fn command_line_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
