//! The socket's file: who may open it, what becomes of a stale one, and its removal at the end, of the stack or of the
//! process. Above: `serve`. Below: `sys::unix`.

use super::ServeError;
use crate::base::error::Error;
use crate::sys::fd::Fd;
use crate::sys::fork::PerProcess;
use crate::sys::lock::Mutex;
use crate::sys::poll::{PollFd, poll};
use crate::sys::unix;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long a server may take to greet before it is taken for dead: its listener was inherited by something that does
/// not serve.
const GREETING: Duration = Duration::from_millis(500);

/// The files of this process that exist. A child of fork has none.
static FILES: PerProcess<Mutex<Vec<Owned>>> = PerProcess::new(Mutex::default);

/// A file that this process made: its name, device and inode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned(PathBuf, u64, u64);

impl Owned {
    /// Removes the file, unless another one has its name now.
    fn remove(&self) {
        if fs::symlink_metadata(&self.0).is_ok_and(|m| (m.dev(), m.ino()) == (self.1, self.2)) {
            // It may have been removed meanwhile.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// exit(3) removes the files of stacks that are never dropped, as the default stack.
extern "C" fn remove_all() {
    if let Some(files) = FILES.get().try_lock() {
        files.iter().for_each(Owned::remove);
    }
}

/// The file of a listener, removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(Owned);

impl Drop for SocketFile {
    fn drop(&mut self) {
        FILES.get().lock().retain(|f| *f != self.0);
        self.0.remove();
    }
}

fn refused(path: &Path, why: impl std::fmt::Display, errno: i32) -> ServeError {
    ServeError { message: format!("{}: {why}", path.display()), error: Error::from_errno(errno) }
}

fn failed(path: &Path, what: &str, e: &io::Error) -> ServeError {
    refused(path, format_args!("{what}: {e}"), e.raw_os_error().unwrap_or(libc::EIO))
}

/// The directory of a socket, if it exists.
fn parent(path: &Path) -> Result<&Path, ServeError> {
    path.parent().ok_or_else(|| refused(path, "not the name of a file", libc::EINVAL))
}

/// A directory must be this user's alone: whoever can write to it could put a socket of his own there.
fn check_directory(path: &Path, dir: &Path) -> Result<(), ServeError> {
    let shown = dir.display();
    let meta = fs::metadata(dir).map_err(|e| failed(path, &format!("the directory {shown}"), &e))?;
    if !meta.is_dir() {
        return Err(refused(path, format_args!("{shown} is not a directory"), libc::ENOTDIR));
    }
    if meta.uid() != unix::euid() {
        return Err(refused(path, format_args!("the directory {shown} is another user's"), libc::EACCES));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let why = format_args!("the directory {shown} is open to others (mode {mode:04o}); it must have mode 0700");
        return Err(refused(path, why, libc::EACCES));
    }
    Ok(())
}

/// Whether a control socket could be made under `path`, as far as its directory decides; makes nothing.
pub(super) fn check(path: &Path) -> Result<(), ServeError> {
    let path = &*std::path::absolute(path).map_err(|e| failed(path, "the name", &e))?;
    let dir = parent(path)?;
    match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let above = dir.parent().unwrap_or(dir);
            let there = fs::metadata(above);
            there.map(drop).map_err(|e| failed(path, &format!("the directory {}", above.display()), &e))
        }
        _ => check_directory(path, dir),
    }
}

/// The directory, which is made if it does not exist.
fn directory(path: &Path) -> Result<&Path, ServeError> {
    let dir = parent(path)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            return Err(failed(path, &format!("the directory {} cannot be made", dir.display()), &e));
        }
        _ => {}
    }
    check_directory(path, dir).map(|()| dir)
}

/// Whether somebody serves under this name: takes connections and greets.
fn is_served(path: &Path) -> bool {
    let Ok(fd) = unix::connect(path) else { return false };
    let mut fds = [PollFd::new(fd.raw(), libc::POLLIN)];
    poll(&mut fds, Some(GREETING)).is_ok_and(|n| n > 0) && fd.read(&mut [0; 1]).is_ok_and(|n| n > 0)
}

/// Listens under `path`. The socket of a process that has ended is replaced; EADDRINUSE: a server is there, or a file
/// that is no socket.
pub(super) fn listen(path: &Path) -> Result<(Fd, SocketFile), ServeError> {
    let path = &*std::path::absolute(path).map_err(|e| failed(path, "the name", &e))?;
    let dir = directory(path)?;
    // Between finding a stale socket and replacing it, nobody else may do the same.
    let _locked = unix::lock_dir(dir).map_err(|e| failed(path, "the directory", &e))?;
    let listener = match unix::listen(path) {
        Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) => {
            let is_socket = fs::symlink_metadata(path).is_ok_and(|m: Metadata| m.file_type().is_socket());
            if !is_socket {
                return Err(refused(path, "a file that is no socket", libc::EADDRINUSE));
            }
            if is_served(path) {
                return Err(refused(path, "another stack's control socket is there", libc::EADDRINUSE));
            }
            fs::remove_file(path).map_err(|e| failed(path, "a stale socket cannot be removed", &e))?;
            unix::listen(path)
        }
        Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => {
            return Err(refused(path, "longer than the 107 bytes of a socket's name", libc::ENAMETOOLONG));
        }
        other => other,
    };
    let listener = listener.map_err(|e| failed(path, "no socket can be made there", &e))?;
    let meta = fs::symlink_metadata(path).map_err(|e| failed(path, "the socket", &e))?;
    let owned = Owned(path.to_owned(), meta.dev(), meta.ino());
    static HOOKED: OnceLock<()> = OnceLock::new();
    HOOKED.get_or_init(|| unix::at_exit(remove_all));
    FILES.get().lock().push(owned.clone());
    Ok((listener, SocketFile(owned)))
}
