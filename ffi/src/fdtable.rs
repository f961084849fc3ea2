//! Which descriptors are ours. A socket's number is that of a real descriptor of the kernel, a duplicate of one unconnected
//! AF_UNIX socket that only keeps the number (and answers S_ISSOCK): it is the lowest free one, below FD_SETSIZE as long as
//! the program's are, and no other `open` can get it meanwhile. The table is sharded: no lock is shared by all descriptors.

use crate::boundary::{last_os, os};
use crate::epoll::Epoll;
use crate::plugin::held;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use usersock::error::{Error, Result};
use usersock::inet::Socket;

const SHARDS: usize = 64;

/// An open description of ours; shared by duplicates of a descriptor.
#[derive(Clone)]
pub enum Desc {
    /// A socket.
    Socket(Arc<Socket>),
    /// An epoll set; its descriptor is a real epoll of the kernel.
    Epoll(Arc<Epoll>),
}

struct Table {
    shards: Vec<RwLock<HashMap<RawFd, Desc>>>,
}

static TABLE: OnceLock<Table> = OnceLock::new();
static NUMBER_KEEPER: OnceLock<OwnedFd> = OnceLock::new();

fn table() -> &'static Table {
    TABLE.get_or_init(|| Table { shards: (0..SHARDS).map(|_| RwLock::default()).collect() })
}

fn shard(fd: RawFd) -> &'static RwLock<HashMap<RawFd, Desc>> {
    &table().shards[fd as usize % SHARDS]
}

/// The lowest number that a descriptor of our own gets, where the limit allows it: the low ones are the program's.
const OUT_OF_THE_WAY: RawFd = 512;

/// Moves a descriptor of our own out of the program's way. Under a limit that does not reach so far it stays where it is.
pub(crate) fn out_of_the_way(low: OwnedFd) -> OwnedFd {
    // SAFETY: duplicates a descriptor we own.
    let high = unsafe { libc::fcntl(low.as_raw_fd(), libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) };
    // SAFETY: `high` was just opened.
    if high >= 0 { unsafe { OwnedFd::from_raw_fd(high) } } else { low }
}

/// The descriptor duplicates are made of.
fn number_keeper() -> Result<RawFd> {
    if let Some(fd) = NUMBER_KEEPER.get() {
        return Ok(fd.as_raw_fd());
    }
    // SAFETY: plain system calls; the results are owned at once.
    let low = os(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) } as isize)? as RawFd;
    // SAFETY: `low` was just opened and belongs to nobody else.
    let fd = out_of_the_way(unsafe { OwnedFd::from_raw_fd(low) });
    Ok(NUMBER_KEEPER.get_or_init(|| fd).as_raw_fd())
}

/// A number that is taken and leads nowhere yet: whoever must not fail for want of a descriptor once it has something to lose
/// takes the number first. Given back when dropped. Linux: get_unused_fd_flags, put_unused_fd.
pub struct Number(RawFd);

impl Number {
    /// Takes the lowest free number for a socket. EMFILE when there is none.
    pub fn reserve(cloexec: bool) -> Result<Number> {
        Number::duplicate(number_keeper()?, cloexec, 0)
    }

    fn duplicate(base: RawFd, cloexec: bool, at_least: RawFd) -> Result<Number> {
        let cmd = if cloexec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
        // SAFETY: duplicates a descriptor we own.
        let fd = unsafe { libc::fcntl(base, cmd, at_least) };
        if fd < 0 { Err(last_os()) } else { Ok(Number(fd)) }
    }

    /// Puts the description under the number; cannot fail. Linux: fd_install.
    pub fn install(self, desc: Desc) -> RawFd {
        let fd = self.0;
        std::mem::forget(self);
        shard(fd).write().insert(fd, desc);
        fd
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: the number was reserved here, and no program has been told of it.
        unsafe { libc::close(self.0) };
    }
}

/// Puts a description under the lowest free number. EMFILE when there is none.
pub fn install(desc: Desc, cloexec: bool, at_least: RawFd) -> Result<RawFd> {
    let base = match &desc {
        Desc::Socket(_) => number_keeper()?,
        Desc::Epoll(e) => e.kernel_fd(),
    };
    Ok(Number::duplicate(base, cloexec, at_least)?.install(desc))
}

/// The description behind a descriptor, if it is ours.
#[inline]
pub fn get(fd: RawFd) -> Option<Desc> {
    if fd < 0 {
        return None;
    }
    shard(fd).read().get(&fd).cloned()
}

/// Whether the kernel knows the descriptor.
fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD only reads flags.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// The description behind a descriptor, or None for a descriptor of the kernel's. EBADF where nothing is open.
pub fn opened(fd: RawFd) -> Result<Option<Desc>> {
    match get(fd) {
        None if !is_open(fd) => Err(Error::BadF),
        desc => Ok(desc),
    }
}

/// The socket among descriptions. ENOTSOCK for any other.
pub fn as_socket(desc: Option<Desc>) -> Result<Arc<Socket>> {
    match desc {
        // A plug-in that owns the sock would wait for itself.
        Some(Desc::Socket(s)) if held::owns(s.sock()) => Err(Error::Deadlk),
        Some(Desc::Socket(s)) => Ok(s),
        Some(Desc::Epoll(_)) | None => Err(Error::NotSock),
    }
}

/// A socket of ours. EBADF for a closed descriptor, ENOTSOCK for any other.
#[inline]
pub fn socket(fd: RawFd) -> Result<Arc<Socket>> {
    as_socket(opened(fd)?)
}

/// An epoll set of ours. EBADF, or EINVAL for what is no epoll set.
pub fn epoll(fd: RawFd) -> Result<Arc<Epoll>> {
    match get(fd) {
        Some(Desc::Epoll(e)) => Ok(e),
        Some(_) => Err(Error::Inval),
        None if is_open(fd) => Err(Error::Inval),
        None => Err(Error::BadF),
    }
}

/// Closes a descriptor, ours or the kernel's. The description lives on while duplicates or running calls hold it.
pub fn close(fd: RawFd) -> Result<()> {
    if held::any()
        && let Some(Desc::Socket(s)) = get(fd)
        && held::owns(s.sock())
    {
        return Err(Error::Deadlk);
    }
    // Out of the table first: once the kernel has the number back, another thread may get it.
    let desc = if fd >= 0 { shard(fd).write().remove(&fd) } else { None };
    // SAFETY: the program asks to close this very number.
    os(unsafe { libc::close(fd) } as isize)?;
    drop(desc);
    Ok(())
}

/// Puts `desc` under the number `to`, closing what was there (dup2).
pub fn install_at(desc: Desc, to: RawFd, cloexec: bool) -> Result<RawFd> {
    let base = match &desc {
        Desc::Socket(_) => number_keeper()?,
        Desc::Epoll(e) => e.kernel_fd(),
    };
    // SAFETY: `base` is ours; the program asks to replace `to`.
    os(unsafe { libc::dup3(base, to, if cloexec { libc::O_CLOEXEC } else { 0 }) } as isize)?;
    let old = shard(to).write().insert(to, desc);
    drop(old);
    Ok(to)
}

/// Forgets whatever of ours was under `to` (a kernel descriptor was put there by dup2).
pub fn forget(to: RawFd) {
    if to >= 0 {
        let old = shard(to).write().remove(&to);
        drop(old);
    }
}
