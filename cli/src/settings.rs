//! `usersock sysctl`: the settings of a stack, printed as sysctl(8) prints the kernel's: those of a stack of this
//! command's own, made from a configuration, or of a running one.

use crate::instance::Peer;
use crate::{Failure, OnOrRunning, out};
use serde_json::Value;
use std::io::{self, Write};
use usersock::stack::Stack;
use usersock::sysctl::{Listing, Mode, Support};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock sysctl -ad                    every setting, explained, with its default
  usersock sysctl -r net.ipv4.tcp_sack   that of the only running instance
  usersock sysctl -N web net.ipv4.tcp_congestion_control=reno
                                         changes the running instance `web`")]
pub struct Args {
    #[command(flatten)]
    stack: OnOrRunning,
    /// All settings
    #[arg(short, long, conflicts_with = "names", required_unless_present = "names")]
    all: bool,
    /// Also what each governs, its default, and whether it does anything yet
    #[arg(short, long)]
    describe: bool,
    /// A setting to print, or to set and print. Without -r and -N it is set in this command's own stack: to see whether
    /// a value is taken
    #[arg(value_name = "NAME[=VALUE]")]
    names: Vec<String>,
}

/// Prints, after setting.
pub fn run(args: &Args) -> Result<(), Failure> {
    if let Some(peer) = args.stack.peer()? {
        return running(args, peer);
    }
    let stack = args.stack.on.stack()?;
    let mut names = Vec::new();
    for word in &args.names {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n.trim(), Some(v.trim())));
        let name = find(&stack, name)?;
        if let Some(value) = value {
            set(&stack, &name, value)?;
        }
        names.push(name);
    }
    let all = stack.sysctl.list();
    let named = names.iter().filter_map(|name| all.iter().find(|l| l.name == *name));
    let mut chosen = all.iter().filter(|_| args.all).chain(named);
    out::print(|out| chosen.try_for_each(|listing| print(out, &Shown::of(listing), args.describe)))
}

/// The same, of a running stack.
fn running(args: &Args, mut peer: Peer) -> Result<(), Failure> {
    let mut lines = Vec::new();
    if args.all {
        lines.extend(peer.ask("sysctl")?);
    }
    for word in &args.names {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
        let set = value.map_or_else(String::new, |v| format!("={v}"));
        lines.extend(peer.ask(&format!("sysctl {}{set}", dotted(name.trim())))?);
    }
    out::print(|out| lines.iter().try_for_each(|(_, v)| print(out, &Shown::from_json(v), args.describe)))
}

fn dotted(name: &str) -> String {
    name.strip_prefix("/proc/sys/").unwrap_or(name).replace('/', ".")
}

/// What is printed of a setting.
struct Shown<'a> {
    name: &'a str,
    value: &'a str,
    default: &'a str,
    help: &'a str,
    support: Support,
    read_only: bool,
}

impl Shown<'_> {
    fn of(l: &Listing) -> Shown<'_> {
        let Listing { name, value, default, help, support, mode, .. } = l;
        Shown { name, value, default, help, support: *support, read_only: *mode == Mode::Ro }
    }

    fn from_json(v: &Value) -> Shown<'_> {
        let text = |key: &str| v[key].as_str().unwrap_or_default();
        let support = match text("support") {
            "legacy" => Support::Legacy,
            "moot" => Support::Moot,
            _ => Support::Live,
        };
        let (name, value, default, help) = (text("name"), text("value"), text("default"), text("help"));
        Shown { name, value, default, help, support, read_only: v["read_only"] == true }
    }
}

/// The name with dots, of a setting that exists.
fn find(stack: &Stack, name: &str) -> Result<String, Failure> {
    let dotted = dotted(name);
    match stack.sysctl.id(&dotted) {
        Ok(_) => Ok(dotted),
        Err(e) => Err(Failure::Usage(format!("{name}: {}", stack.sysctl.refusal(&dotted, "", e)))),
    }
}

fn set(stack: &Stack, name: &str, value: &str) -> Result<(), Failure> {
    let why = |e| Failure::Usage(format!("{name}: {}", stack.sysctl.refusal(name, value, e)));
    stack.sysctl.set(name, value).map_err(why)
}

fn print(out: &mut impl Write, l: &Shown<'_>, describe: bool) -> io::Result<()> {
    writeln!(out, "{} = {}", l.name, l.value)?;
    if describe {
        let state = match l.support {
            Support::Live => "",
            Support::Legacy => "; without effect, as on Linux",
            Support::Moot => "; without effect here",
        };
        let mode = if l.read_only { "; read-only" } else { "" };
        writeln!(out, "    {} Default: {}{state}{mode}.", l.help, l.default)?;
    }
    Ok(())
}
