//! `--outside`: pasta(1) joins the namespace to the host's network. It has a socket of the host's for each connection
//! that leaves, and needs no privilege but /dev/net/tun; the namespace's kernel forwards between pasta's interface and
//! the stack's. Above: `keeper`. pasta runs in the host's namespaces, so it is forked before those of the instance are
//! made.

use super::Refusal;
use super::instance::Instance;
use crate::sys::{self, Side};
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The name server that programs of the namespace ask, whom pasta stands for: it asks the host's.
const NAME_SERVER: &str = "169.254.1.53";
/// How long pasta may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where pasta is.
pub(crate) fn find() -> Result<PathBuf, Refusal> {
    super::elf::find("pasta".as_ref()).map_err(|_| {
        Refusal::broken("--outside: pasta is not installed (Debian, Ubuntu, Fedora: package passt)".to_owned())
    })
}

/// A process that will be pasta.
pub(super) struct Outside {
    pub(super) pid: Pid,
    go: OwnedFd,
    /// What it says on standard error.
    said: PathBuf,
}

fn system(what: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |e| Refusal::broken(format!("--outside: {what}: {e}"))
}

impl Outside {
    /// Forks it, in the host's namespaces.
    pub(super) fn prepare(pasta: &Path, instance: &Instance) -> Result<Outside, Refusal> {
        let keeper = getpid();
        let said = instance.dir.join("pasta");
        let (wait, go) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| system("pipe")(e.into()))?;
        match sys::fork().map_err(system("fork"))? {
            Side::Parent(pid) => Ok(Outside { pid, go, said }),
            Side::Child => {
                drop(go);
                let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
                if matches!(nix::unistd::read(&wait, &mut [0]), Ok(1)) {
                    become_pasta(pasta, keeper, &said);
                }
                exit(1)
            }
        }
    }

    /// Lets it join this process's namespaces, and waits until there is a route.
    pub(super) fn join(&self, instance: &Instance) -> Result<(), Refusal> {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(system("/proc/sys/net/ipv4/ip_forward"))?;
        // A kernel without IPv6 forwards none.
        let _ = fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        resolver(instance)?;
        nix::unistd::write(&self.go, b"g").map_err(|e| system("pasta")(e.into()))?;
        let begin = Instant::now();
        while !routed() {
            if !matches!(waitpid(self.pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
                let said = fs::read_to_string(&self.said).unwrap_or_default();
                let mut lines = said.lines().filter(|line| !line.contains("syslog"));
                let last = lines.next_back().unwrap_or("it ended without a word").to_owned();
                return Err(Refusal::broken(format!("--outside: pasta: {last} (it needs /dev/net/tun, and a route)")));
            }
            if begin.elapsed() > PATIENCE {
                return Err(Refusal::broken("--outside: pasta made no route within 10 s".to_owned()));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Whether this network namespace has a default route.
fn routed() -> bool {
    let default = |file: &str, column: usize, zeros: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.nth(column) == Some(zeros) && line.split_whitespace().last() != Some("lo")
        })
    };
    default("/proc/self/net/route", 1, "00000000")
        || default("/proc/self/net/ipv6_route", 0, &"0".repeat(32)) && !Path::new("/proc/self/net/route").exists()
}

/// Replaces what tells the C library's resolver whom to ask, in this process's mount namespace.
fn resolver(instance: &Instance) -> Result<(), Refusal> {
    let ours = instance.dir.join("resolv.conf");
    fs::write(&ours, format!("nameserver {NAME_SERVER}\n")).map_err(system("resolv.conf"))?;
    // A link, as systemd-resolved makes it, is followed; where there is no file nothing can be put over it.
    let Ok(theirs) = fs::canonicalize("/etc/resolv.conf") else { return Ok(()) };
    let none: Option<&str> = None;
    mount(Some(&ours), &theirs, none, MsFlags::MS_BIND, none).map_err(|e| system("/etc/resolv.conf")(e.into()))
}

/// Executes pasta for the namespaces of process `keeper`: no port of the host is forwarded to them, none of theirs to
/// the host.
fn become_pasta(pasta: &Path, keeper: Pid, said: &Path) {
    let Ok(file) = File::create(said) else { return };
    let mut command = Command::new(pasta);
    command.args(["--foreground", "--quiet", "--stderr", "--config-net", "--dns-forward", NAME_SERVER]);
    command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    if nix::unistd::geteuid().is_root() {
        // It would change to nobody, who may not join namespaces of root's.
        command.args(["--runas", "0:0"]);
    }
    command.arg(keeper.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let _ = command.exec();
}
