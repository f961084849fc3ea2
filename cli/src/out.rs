//! What the command prints. Writing never panics: a reader of standard output that has seen enough, as head(1), ends
//! the command quietly, and standard error is written when it can be.

use crate::Failure;
use std::fmt::Display;
use std::io::{self, StdoutLock, Write};

/// Runs `write` on standard output.
pub(crate) fn print(write: impl FnOnce(&mut StdoutLock<'static>) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Failure::Broken(format!("standard output: {e}"))),
    }
}

/// Runs `write` on standard output, for what goes on: false when nobody reads it any more.
pub(crate) fn follow(write: impl FnOnce(&mut StdoutLock<'static>) -> io::Result<()>) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).map_err(|e| Failure::Broken(format!("standard output: {e}"))),
    }
}

/// A line on standard error. That nobody reads it must not change how the command ends.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
