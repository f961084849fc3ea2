//! The part of a run inside its namespace: configures the namespace as packetdrill does in kernel mode, then executes
//! packetdrill.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DIR_VARIABLE, Variant, stand_in};
use crate::{Failure, Outcome, broken, netns, setup};

/// Where the kernel shows CUBIC's module parameters; scripts write there.
const CUBIC: &str = "/sys/module/tcp_cubic/parameters";

/// The default congestion control; see [`private_congestion_control`].
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

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
    let mut path = setup::system_path();
    let mut command = match &args.plugin {
        None => Command::new(&args.bin),
        Some(plugin) => {
            let dir = std::env::var_os(DIR_VARIABLE).map(PathBuf::from);
            let dir = dir.ok_or_else(|| Failure::Usage(format!("{DIR_VARIABLE} is not set")))?;
            furnish(args.variant)?;
            private_cubic(&dir)?;
            private_congestion_control(&dir)?;
            path = joined(stand_in::bin(&dir).as_os_str(), ":", &path);
            let mut command = with_plugin(&args.bin, plugin);
            command.arg(joined("--so_filename=".as_ref(), "", plugin.as_os_str()));
            command
        }
    };
    command.args(args.variant.arguments()).env("PATH", path);
    // run_all.py gives the base name with the script's directory as working directory; error messages begin with it.
    command.arg(args.script.file_name().unwrap_or(args.script.as_os_str()));
    Err(broken(format!("{}: {}", args.bin.display(), command.exec())))
}

/// packetdrill with the plug-in preloaded, and (where setpriv is installed) without the right to real-time priority,
/// which packetdrill would use to keep time and virtual time does not need.
fn with_plugin(bin: &Path, plugin: &Path) -> Command {
    let preload = joined("LD_PRELOAD=".as_ref(), "", plugin.as_os_str());
    // `env` sets the variable, so that the plug-in is loaded only into packetdrill.
    let mut command = match setup::find("setpriv", None) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--bounding-set=-sys_nice", "--", "env"]);
            command
        }
        None => Command::new("env"),
    };
    command.arg(preload).arg(bin);
    command
}

/// `a`, `separator`, `b` in one string.
fn joined(a: &OsStr, separator: &str, b: &OsStr) -> OsString {
    let mut string = a.to_os_string();
    string.push(separator);
    string.push(b);
    string
}

/// A `tun0` with address, MTU and route as packetdrill would have made them. No process holds the device.
fn furnish(variant: Variant) -> Result<(), Failure> {
    let network = variant.network();
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

/// A plain file in the place of the sysctl. In any namespace but the first the kernel takes only algorithms that it
/// lets everyone use, often reno alone, and begins with what the machine has; the stack under test has its own list,
/// and begins with cubic, Linux's default.
fn private_congestion_control(dir: &Path) -> Result<(), Failure> {
    let copy = dir.join("tcp_congestion_control");
    fs::write(&copy, "cubic\n")?;
    netns::bind(&copy, Path::new(CONGESTION_CONTROL))
}
