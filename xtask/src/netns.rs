//! Network namespaces: entering one, as root or without privileges (a user namespace), and the `ip` calls that
//! configure it. Everything the project sends on a network it sends inside one of these; it disappears with its last
//! process.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::{Failure, Outcome, broken, setup};

/// How a namespace is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum How {
    /// By root: new network and mount namespaces.
    Root,
    /// By anybody: a user namespace in which the caller is root, then the same two.
    User,
}

impl How {
    /// The way that this process can use.
    pub fn available() -> How {
        if nix::unistd::geteuid().is_root() { How::Root } else { How::User }
    }

    /// The argument that names it on xtask's command line.
    pub fn arg(self) -> &'static str {
        match self {
            How::Root => "root",
            How::User => "user",
        }
    }
}

/// Moves this process into new network and mount namespaces, sets the loopback device up and gives `/run` a private
/// tmpfs (for `ip netns`). Call it before any thread exists.
///
/// # Errors
/// A message that names the refused step: no privilege, user namespaces forbidden, `ip` missing.
pub fn enter(how: How) -> Result<(), Failure> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if how == How::User {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|error| refused(how, error))?;
    if how == How::User {
        // The kernel wants setgroups denied before an unprivileged process may write its gid map: user_namespaces(7).
        for (file, text) in
            [("setgroups", "deny".to_string()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
        {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| broken(format!("cannot become root of a user namespace: {file}: {error}")))?;
        }
    }
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| broken(format!("cannot make mounts private: {error}")))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)
        .map_err(|error| broken(format!("cannot mount a private /run: {error}")))?;
    linux_buffers();
    ip(&["link set lo up"])
}

/// A namespace begins with the sizes of TCP's buffers that the machine has, which may have been tuned; tests compare
/// with Linux's own. Where /proc/sys is mounted read-only, they stay.
fn linux_buffers() {
    for (name, sizes) in [("tcp_rmem", "4096 131072 33554432"), ("tcp_wmem", "4096 16384 4194304")] {
        let _ = fs::write(format!("/proc/sys/net/ipv4/{name}"), sizes);
    }
}

/// The reason why there is no namespace, with a hint what to check: user_namespaces(7), unshare(2).
fn refused(how: How, error: Errno) -> Failure {
    broken(match (how, error) {
        (How::User, Errno::ENOSPC) => "no user namespace may be made here (user.max_user_namespaces: ENOSPC)".into(),
        (How::User, error) => format!("no user namespace may be made here ({error})"),
        (How::Root, error) => format!("cannot make a network namespace ({error})"),
    })
}

/// Binds directory `from` over `to`, visible to this process's mount namespace only.
///
/// # Errors
/// The kernel's, with both names.
pub fn bind(from: &Path, to: &Path) -> Result<(), Failure> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .map_err(|error| broken(format!("cannot bind {} over {}: {error}", from.display(), to.display())))
}

/// Runs `ip` once with all of `lines` (as `ip -batch` takes them); the first that fails ends it.
///
/// # Errors
/// `ip` is missing, or its error message.
pub fn ip(lines: &[impl AsRef<str>]) -> Result<(), Failure> {
    let program = setup::find("ip", None).ok_or_else(|| broken("ip (package iproute2) is not installed"))?;
    let mut child = Command::new(program)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| broken(format!("ip (package iproute2): {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        for line in lines {
            writeln!(stdin, "{}", line.as_ref())?;
        }
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Its last line only tells the number of the line that failed.
    let said: Vec<_> = said.lines().filter(|line| !line.starts_with("Command failed")).collect();
    Err(broken(format!("ip: {}", said.join(" "))))
}

/// Replaces this process by `command`.
///
/// # Errors
/// Only when the program cannot be started.
pub fn exec(command: &[String]) -> Outcome {
    let [program, args @ ..] = command else { return Err(Failure::Usage("no command given".into())) };
    Err(broken(format!("{program}: {}", Command::new(program).args(args).exec())))
}

/// The running executable, also when its file has been replaced by a build since it was started.
pub const MYSELF: &str = "/proc/self/exe";

/// This executable again, with `args`.
pub fn myself(args: &[&str]) -> Command {
    let mut command = Command::new(MYSELF);
    command.args(args);
    command
}
