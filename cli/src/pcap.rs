//! `usersock pcap`: captures of a running stack, begun and ended from outside.

use crate::instance::{Which, absolute};
use crate::{Failure, out};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock pcap start conn.pcap          capture the device of the only instance
  usersock pcap stop                     the file is complete now: tshark -r conn.pcap
  usersock pcap start -d lo lo.pcap      capture its loopback")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Begin to capture to a file, which the stack's process makes; one that exists is emptied
    #[command(after_help = "\
Examples:
  usersock pcap start conn.pcap
  usersock pcap start -N web -d lo lo.pcap       # the loopback of the instance `web`")]
    Start {
        #[command(flatten)]
        which: Which,
        /// The device; without it the one of the configuration
        #[arg(short, long, value_name = "NAME")]
        device: Option<String>,
        /// The file
        file: PathBuf,
    },
    /// End the capture; the file is complete when this returns
    #[command(after_help = "\
Examples:
  usersock pcap stop
  usersock pcap stop -N web -d lo")]
    Stop {
        #[command(flatten)]
        which: Which,
        /// The device; without it the one of the configuration
        #[arg(short, long, value_name = "NAME")]
        device: Option<String>,
    },
}

fn device(name: &Option<String>) -> Result<&str, Failure> {
    match name.as_deref() {
        None => Ok("-"),
        Some(name) if name.is_empty() || name.contains(char::is_whitespace) => {
            Err(Failure::Usage(format!("--device {name:?}: not the name of a device")))
        }
        Some(name) => Ok(name),
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (which, request, word) = match &args.what {
        What::Start { which, device: d, file } => {
            (which, format!("pcap start {} {}", device(d)?, absolute(file)?), "captures")
        }
        What::Stop { which, device: d } => (which, format!("pcap stop {}", device(d)?), "no longer captures"),
    };
    let mut peer = which.open()?;
    let answer = peer.ask(&request)?;
    let Some((_, v)) = answer.first() else { return Ok(()) };
    let (dev, file) = (v["device"].as_str().unwrap_or_default(), v["file"].as_str());
    let to = file.map_or_else(String::new, |file| format!(" to {file}"));
    out::print(|out| writeln!(out, "{} (pid {}) {word} {dev}{to}", peer.program, peer.pid))
}
