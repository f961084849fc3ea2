//! `--outside`: pasta(1), which has a socket of the host's for each connection that leaves the namespace. Above:
//! `keeper`.

use super::Refusal;
use super::instance::Instance;
use nix::unistd::Pid;
use std::path::{Path, PathBuf};

/// Where pasta is.
pub(crate) fn find() -> Result<PathBuf, Refusal> {
    super::elf::find("pasta".as_ref()).map_err(|_| {
        Refusal::broken("--outside: pasta is not installed (Debian, Ubuntu, Fedora: package passt)".to_owned())
    })
}

/// Joins this process's network namespace to the host's network.
pub(super) fn join(pasta: &Path, _instance: &Instance) -> Result<Pid, Refusal> {
    Err(Refusal::broken(format!("--outside: {} cannot be joined to the namespace yet", pasta.display())))
}
