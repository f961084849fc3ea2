//! `usersock link`: a simulated link between two TUN devices. Below: `device::bridge`.

use crate::{Failure, out};
use std::io::{self, Write};
use std::sync::Arc;
use usersock::device::bridge;
use usersock::device::tun::Tun;

/// Which devices, and what is between them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock link left right delay=20ms,loss=1%,rate=10mbit,queue=100kb &
  ip link set right netns $PID

The devices are opened, or made, in this network namespace; a line is printed when both are there. They may then be
given addresses, and moved to other namespaces. What one sends, the other receives after the link's delay, loss and so
on. The settings are those of link= (usersock(7)): out. is from the first device to the second.")]
pub struct Args {
    /// A TUN device
    first: String,
    /// Another
    second: String,
    /// As delay=20ms,loss=1%,rate=100mbit,queue=100kb,seed=7
    #[arg(default_value = "")]
    settings: String,
}

/// Passes packets until a signal ends the process.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (link, seed) =
        usersock::config::link(&args.settings.replace(',', " ")).map_err(|e| Failure::Usage(e.message))?;
    if args.first == args.second {
        return Err(Failure::Usage(format!("{} is both ends: a link joins two devices", args.first)));
    }
    let open = |name: &str| {
        let broken = |e: io::Error| Failure::Broken(format!("{name}: {e}"));
        Tun::open(name, 1, true).map(Arc::new).map_err(broken)
    };
    let (first, second) = (open(&args.first)?, open(&args.second)?);
    out::print(|out| writeln!(out, "{} {}", args.first, args.second))?;
    bridge::join(first, second, &link, seed.unwrap_or(1)).map_err(|e| Failure::Broken(format!("link: {e}")))
}
