//! What a program that a program starts needs in its environment to be on the same stack server: LD_PRELOAD and
//! USERSOCK_SERVER. Programs that give another an environment of their own (nginx to its new binary, sshd, sudo) would
//! leave it without. Above: `process`. No memory is allocated: between vfork(2) and exec(2) it is the parent's.

use crate::role::{Role, role};
use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

/// Null-terminated, as environ(7).
pub(crate) type Strings = *const *const c_char;

/// Most strings of an environment that is completed; a longer one is passed on as it is.
const MAX_STRINGS: usize = 4096;
/// Longest LD_PRELOAD that is completed.
const MAX_PRELOAD: usize = 4096;

const PRELOAD: &CStr = c"LD_PRELOAD=";
const SERVER: &CStr = c"USERSOCK_SERVER=";

/// The two strings of this process.
static OWN: OnceLock<[CString; 2]> = OnceLock::new();

/// Remembers this process's. To be called at load.
pub(crate) fn remember() {
    let own = |name: &CStr| {
        let name = name.to_bytes();
        let variable = std::str::from_utf8(&name[..name.len() - 1]).ok()?;
        let value = std::os::unix::ffi::OsStringExt::into_vec(std::env::var_os(variable)?);
        CString::new([name, &value].concat()).ok()
    };
    if let (Some(preload), Some(server)) = (own(PRELOAD), own(SERVER)) {
        OWN.get_or_init(|| [preload, server]);
    }
}

/// Whether this process has something to add.
pub(crate) fn to_complete() -> bool {
    role() == Role::Spliced && OWN.get().is_some()
}

/// Calls `exec` with `envp`, to which is added what it lacks.
/// # Safety
/// `envp` is null or ends with a null pointer, and its strings are strings.
pub(crate) unsafe fn complete<R>(envp: Strings, exec: impl FnOnce(Strings) -> R) -> R {
    let Some([preload, server]) = OWN.get() else { return exec(envp) };
    let mut strings = [std::ptr::null::<c_char>(); MAX_STRINGS + 3];
    let mut merged = [0u8; MAX_PRELOAD];
    let mut n = 0;
    let (mut has_preload, mut has_server) = (false, false);
    // SAFETY: up to the null pointer that ends it.
    while let Some(string) = (!envp.is_null()).then(|| unsafe { *envp.add(n) }).filter(|s| !s.is_null()) {
        if n == MAX_STRINGS {
            return exec(envp);
        }
        // SAFETY: a string by the caller's word.
        let text = unsafe { CStr::from_ptr(string) }.to_bytes();
        has_server |= text.starts_with(SERVER.to_bytes());
        strings[n] = string;
        if let Some(theirs) = text.strip_prefix(PRELOAD.to_bytes()) {
            has_preload = true;
            if !names(theirs, library(preload)) && merge(&mut merged, library(preload), theirs) {
                strings[n] = merged.as_ptr().cast();
            }
        }
        n += 1;
    }
    if !has_preload {
        strings[n] = preload.as_ptr();
        n += 1;
    }
    if !has_server {
        strings[n] = server.as_ptr();
    }
    exec(strings.as_ptr())
}

/// The first of the libraries that a string of LD_PRELOAD names: the one that was put in front.
fn library(preload: &CStr) -> &[u8] {
    let list = &preload.to_bytes()[PRELOAD.to_bytes().len()..];
    list.split(|b| matches!(b, b':' | b' ')).next().unwrap_or(&[])
}

fn names(list: &[u8], library: &[u8]) -> bool {
    list.split(|b| matches!(b, b':' | b' ')).any(|name| name == library)
}

/// Writes LD_PRELOAD with `library` in front of `list`; false if there is no room.
fn merge(out: &mut [u8], library: &[u8], list: &[u8]) -> bool {
    let mut at = 0;
    for part in [PRELOAD.to_bytes(), library, b":", list, b"\0"] {
        let Some(room) = out.get_mut(at..at + part.len()) else { return false };
        room.copy_from_slice(part);
        at += part.len();
    }
    true
}
