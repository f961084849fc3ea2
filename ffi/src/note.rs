//! The line that usk_config_error gives: why this thread's last configuration, stack or registration was refused.
//! Above: all that refuse one, of programs and of plug-ins.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use usersock::config::ConfigError;
use usersock::error::Error;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps a line for usk_config_error. Line breaks and other control characters, which a plug-in's text may have, are
/// blanks in it.
pub(crate) fn note(line: &str) {
    let text = CString::new(line.replace(char::is_control, " ").trim_end()).unwrap_or_default();
    LAST_ERROR.with(|l| *l.borrow_mut() = text);
}

/// The line as a C string; valid until the thread's next [`note`].
pub(crate) fn last() -> *const c_char {
    LAST_ERROR.with(|l| l.borrow().as_ptr())
}

/// The line kept last.
pub(crate) fn noted_line() -> String {
    LAST_ERROR.with(|l| l.borrow().to_string_lossy().into_owned())
}

/// Keeps the error's line, and returns its errno.
pub(crate) fn noted(e: ConfigError) -> Error {
    note(&e.message);
    e.error
}

/// Keeps the line for a refused table, and returns its errno.
pub(crate) fn refused(line: String) -> Error {
    note(&line);
    Error::Inval
}
