//! What a check is given, and how it ends. Above: all checks, and `child`, which runs one in a process of its own.

use std::io::Write;
use std::path::PathBuf;
use usersock_ffi::loader::TableKind;

/// Begins a line that both runs of a check must have.
pub(super) const TRACE: &str = "usersock-trace: ";

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Finding {
    Wrong(String),
    /// It does not apply to this plug-in.
    Unchecked(String),
}

pub(super) type Outcome<T = ()> = Result<T, Finding>;

/// Ends a check with a line unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err($crate::check_plugin::part::Finding::Wrong(format!($($why)*)));
        }
    };
}
pub(super) use ensure;

/// A failure that the check did not look for: a call that must succeed.
pub(super) trait Must<T> {
    fn must(self, what: &str) -> Outcome<T>;
}

impl<T> Must<T> for usersock::error::Result<T> {
    fn must(self, what: &str) -> Outcome<T> {
        self.map_err(|e| Finding::Wrong(format!("{what}: {}", e.name())))
    }
}

impl<T> Must<T> for Result<T, usersock::config::ConfigError> {
    fn must(self, what: &str) -> Outcome<T> {
        self.map_err(|e| Finding::Wrong(format!("{what}: {}", e.message)))
    }
}

/// One check of one table, and what it is given.
pub(super) struct Part {
    pub check: String,
    /// Empty: the plug-in as a whole.
    pub table: String,
    /// What the check is for; None: the plug-in as a whole.
    pub kind: Option<TableKind>,
    pub file: PathBuf,
    pub seed: u64,
    pub device: Option<String>,
    pub peer: Option<String>,
    /// Seconds.
    pub timeout: u64,
}

/// A line that both runs of a check must have.
pub(super) fn trace(line: &str) {
    let _ = writeln!(std::io::stdout(), "{TRACE}{line}");
}
