//! Joining an instance: its user namespace first, which gives the privilege over the others, then those, by a process
//! of one thread. Above: `run`. setns(2).

use super::Refusal;
use super::instance::Info;
use crate::sys;
use nix::sched::{CloneFlags, setns};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Enters the namespaces of process `keeper`. Whether a user namespace is among them.
pub(crate) fn enter(name: &str, keeper: i32) -> Result<bool, Refusal> {
    let refuse = |what: &str, why: &dyn std::fmt::Display| {
        Refusal::broken(format!("{name}: its {what} namespace cannot be joined: {why}"))
    };
    let same = |file: &str| {
        let id = |process: &str| fs::metadata(format!("/proc/{process}/ns/{file}")).map(|m| (m.dev(), m.ino())).ok();
        id("self") == id(&keeper.to_string())
    };
    // All are opened before the first is entered, where /proc may be another one.
    let mut wanted = Vec::new();
    let all =
        [("user", CloneFlags::CLONE_NEWUSER), ("net", CloneFlags::CLONE_NEWNET), ("mnt", CloneFlags::CLONE_NEWNS)];
    for (what, flag) in all {
        if !same(what) {
            let file = File::open(format!("/proc/{keeper}/ns/{what}")).map_err(|e| refuse(what, &e))?;
            wanted.push((what, flag, file));
        }
    }
    let directory = std::env::current_dir();
    for (what, flag, file) in &wanted {
        setns(file, *flag).map_err(|e| match e {
            nix::Error::EPERM => refuse(what, &"it is another user's (EPERM)"),
            e => refuse(what, &e),
        })?;
    }
    // A mount namespace is entered at its root.
    if let Ok(directory) = directory {
        let _ = std::env::set_current_dir(directory);
    }
    Ok(wanted.iter().any(|(what, ..)| *what == "user"))
}

/// Executes the command; returns why it could not.
pub(crate) fn become_command(
    user: bool,
    name: &str,
    (info, instances): (&Info, &Path),
    program: &Path,
    argv: &[OsString],
) -> Result<Refusal, Refusal> {
    if user {
        let caps = [sys::CAP_NET_BIND_SERVICE, sys::CAP_NET_ADMIN, sys::CAP_NET_RAW];
        sys::keep_capabilities(&caps).map_err(|e| Refusal::broken(format!("capabilities: {e}")))?;
    }
    let mut command = Command::new(program);
    let [called, args @ ..] = argv else { return Err(Refusal::usage("no command".to_owned())) };
    command.arg0(called).args(args).env("USERSOCK_INSTANCE", name).env("USERSOCK_DIR", instances);
    command.env_remove("USERSOCK_OWNER");
    if info.mode == "shell" {
        command.env("USERSOCK_CONFIG", &info.config);
    }
    sys::with_the_callers_signals(&mut command);
    let e = command.exec();
    Ok(Refusal { status: 126, message: format!("{}: {e}", program.display()) })
}
