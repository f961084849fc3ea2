//! `usersock sysctl`: the settings of a stack, printed as sysctl(8) prints the kernel's.

use crate::{Failure, On, out};
use std::io::{self, Write};
use usersock::stack::Stack;
use usersock::sysctl::{Listing, Mode, Support};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    on: On,
    /// All settings
    #[arg(short, long, conflicts_with = "names", required_unless_present = "names")]
    all: bool,
    /// Also what each governs, its default, and whether it does anything yet
    #[arg(short, long)]
    describe: bool,
    /// A setting to print, or to set and print. It is set in this command's own stack: to see whether a value is taken
    #[arg(value_name = "NAME[=VALUE]")]
    names: Vec<String>,
}

/// Prints, after setting.
pub fn run(args: &Args) -> Result<(), Failure> {
    let stack = args.on.stack()?;
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
    out::print(|out| chosen.try_for_each(|listing| print(out, listing, args.describe)))
}

/// The name with dots, of a setting that exists.
fn find(stack: &Stack, name: &str) -> Result<String, Failure> {
    let dotted = name.strip_prefix("/proc/sys/").unwrap_or(name).replace('/', ".");
    match stack.sysctl.id(&dotted) {
        Ok(_) => Ok(dotted),
        Err(e) => Err(Failure::Usage(format!("{name}: {}", stack.sysctl.refusal(&dotted, "", e)))),
    }
}

fn set(stack: &Stack, name: &str, value: &str) -> Result<(), Failure> {
    let why = |e| Failure::Usage(format!("{name}: {}", stack.sysctl.refusal(name, value, e)));
    stack.sysctl.set(name, value).map_err(why)
}

fn print(out: &mut impl Write, l: &Listing, describe: bool) -> io::Result<()> {
    writeln!(out, "{} = {}", l.name, l.value)?;
    if describe {
        let state = match l.support {
            Support::Live => "",
            Support::Planned => "; not implemented yet, takes its default or what does without it",
            Support::Legacy => "; without effect, as on Linux",
        };
        let mode = if l.mode == Mode::Ro { "; read-only" } else { "" };
        writeln!(out, "    {} Default: {}{state}{mode}.", l.help, l.default)?;
    }
    Ok(())
}
