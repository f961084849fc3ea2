//! The part of a run inside its namespace: configures the namespace as packetdrill does in kernel mode, then executes
//! packetdrill.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{self, Network, Own, Variant};
use super::{DIR_VARIABLE, KERNEL_VARIABLE, stand_in};
use crate::{Failure, Outcome, broken, netns, setup};

/// Where the kernel shows CUBIC's module parameters; scripts write there.
const CUBIC: &str = "/sys/module/tcp_cubic/parameters";

/// Sysctls whose values the kernel does not take where a stack may: of each, what a run begins with (`None`: what the
/// kernel has). The congestion control: in any namespace but the first, the kernel takes only those that it lets
/// everyone use, often reno alone, and begins with what the machine has; the stack begins with Linux's default.
/// Accurate ECN: a kernel without it takes no mode above 2, and no option. The key: a file of the kernel does not tell
/// a key of zeros from none; a plain one has a time of change.
const PRIVATE_SYSCTLS: [(&str, Option<&str>); 5] = [
    ("net.ipv4.tcp_congestion_control", Some("cubic")),
    ("net.ipv4.tcp_ecn", None),
    ("net.ipv4.tcp_ecn_option", None),
    ("net.ipv4.tcp_ecn_option_beacon", None),
    ("net.ipv4.tcp_fastopen_key", None),
];

/// Arguments of the hidden command.
#[derive(clap::Args)]
pub struct Args {
    /// How to enter the namespace
    #[arg(long)]
    how: netns::How,
    /// Address families
    #[arg(long)]
    variant: Variant,
    /// packetdrill
    #[arg(long)]
    bin: PathBuf,
    /// The plug-in; without it the kernel is tested
    #[arg(long)]
    plugin: Option<PathBuf>,
    /// The script, in the current directory
    script: PathBuf,
}

/// Enters the namespace and executes packetdrill; returns only on failure.
///
/// # Errors
/// The namespace cannot be made or furnished, or packetdrill cannot be executed.
pub fn run(args: &Args) -> Outcome {
    netns::enter(args.how)?;
    let own = Own::of_file(&args.script)?;
    let network = Network::of(args.variant, &own)?;
    bash_for_sh()?;
    let dir = std::env::var_os(DIR_VARIABLE).map(PathBuf::from);
    let dir = dir.ok_or_else(|| Failure::Usage(format!("{DIR_VARIABLE} is not set")))?;
    let path = joined(stand_in::bin(&dir).as_os_str(), ":", &setup::system_path());
    let mut command = Command::new(&args.bin);
    match &args.plugin {
        None => {
            command.env(KERNEL_VARIABLE, "1");
        }
        Some(plugin) => {
            furnish(&network)?;
            private_cubic(&dir)?;
            private_sysctls(&dir)?;
            command.env("LD_PRELOAD", plugin).arg(joined("--so_filename=".as_ref(), "", plugin.as_os_str()));
            if let Some(mss) = own.parse::<u16>("mss")? {
                command.arg(format!("--so_flags=mss={mss}"));
            }
        }
    }
    command.args(world::arguments(args.variant, &network)).env("PATH", path);
    // run_all.py gives the base name with the script's directory as working directory; error messages begin with it.
    command.arg(args.script.file_name().unwrap_or(args.script.as_os_str()));
    Err(broken(format!("{}: {}", args.bin.display(), command.exec())))
}

/// `a`, `separator`, `b` in one string.
fn joined(a: &OsStr, separator: &str, b: &OsStr) -> OsString {
    let mut string = a.to_os_string();
    string.push(separator);
    string.push(b);
    string
}

/// A `tun0` with address, MTU and route as packetdrill would have made them. No process holds the device.
fn furnish(network: &Network) -> Result<(), Failure> {
    netns::ip(&[
        "tuntap add dev tun0 mode tun vnet_hdr".to_string(),
        format!("link set tun0 mtu {} up", network.mtu),
        format!("addr add {}/{} dev tun0", network.local, network.prefix_len),
        format!("route add {} dev tun0 via {}", network.remote, network.gateway),
    ])
}

/// Private, writable copies of CUBIC's parameters in the place of the machine's. A kernel without the module has none.
fn private_cubic(dir: &Path) -> Result<(), Failure> {
    if !Path::new(CUBIC).is_dir() {
        return Ok(());
    }
    let copies = dir.join("tcp_cubic");
    fs::create_dir_all(&copies)?;
    for entry in fs::read_dir(CUBIC)? {
        let entry = entry?;
        // Some parameters are not readable by everyone; a script could not read them either.
        if let Ok(value) = fs::read(entry.path()) {
            fs::write(copies.join(entry.file_name()), value)?;
        }
    }
    netns::bind(&copies, Path::new(CUBIC))
}

/// bash in the place of a `/bin/sh` that is another shell: system(3) runs the commands of scripts by that name, and
/// they are written for bash (`cmd &> /dev/null || other` runs `other` never in a POSIX shell, which reads it as two
/// commands).
fn bash_for_sh() -> Result<(), Failure> {
    let sh = fs::canonicalize("/bin/sh")?;
    match setup::find("bash", None).map(fs::canonicalize).transpose()? {
        Some(bash) if bash != sh => netns::bind(&bash, &sh),
        _ => Ok(()),
    }
}

/// Plain files in the place of [`PRIVATE_SYSCTLS`]: they take any value, which the plug-in gives to the stack. A name
/// that the kernel lacks cannot be there.
fn private_sysctls(dir: &Path) -> Result<(), Failure> {
    let copies = dir.join("sysctl");
    fs::create_dir_all(&copies)?;
    for (name, begin) in PRIVATE_SYSCTLS {
        let place = PathBuf::from(format!("/proc/sys/{}", name.replace('.', "/")));
        let Ok(value) = fs::read_to_string(&place) else { continue };
        let copy = copies.join(name);
        fs::write(&copy, begin.map_or(value, |begin| format!("{begin}\n")))?;
        netns::bind(&copy, &place)?;
    }
    Ok(())
}
