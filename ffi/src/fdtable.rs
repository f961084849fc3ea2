//! Which descriptors are ours. A socket's number is that of a real descriptor of the kernel, a duplicate of one
//! unconnected AF_UNIX socket that only keeps the number (and answers S_ISSOCK): it is the lowest free one, below
//! FD_SETSIZE as long as the program's are, and no other `open` can get it meanwhile. The table is sharded: no lock is
//! shared by all descriptors.
//!
//! A child of fork(2) begins with an empty table, and knows of the numbers it inherited only that they were its
//! parent's.

use crate::boundary::os;
use crate::eventpoll::{Epoll, Pollable};
use crate::held;
use std::collections::HashMap;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::internal::sys::fd::Fd;
use usersock::internal::sys::fork::{self, PerProcess};
use usersock::internal::sys::lock::{Mutex, RwLock};
use usersock::internal::sys::numbers::Numbers;
use usersock::net::Socket;

const SHARDS: usize = 64;

/// An open description of ours; shared by duplicates of a descriptor.
#[derive(Clone)]
pub enum Desc {
    /// A socket.
    Socket(Arc<Socket>),
    /// An epoll set; its descriptor is a real epoll of the kernel.
    Epoll(Arc<Epoll>),
    /// What was the parent's when this process was forked off it, under this number here. It can be closed and
    /// duplicated, has POLLERR and POLLHUP, and is ENETDOWN to everything else.
    Inherited(RawFd),
}

impl Desc {
    /// As something to wait for. ENETDOWN for what is inherited.
    pub(crate) fn pollable(&self) -> Result<Pollable> {
        match self {
            Desc::Socket(s) => Ok(Pollable::Socket(s.clone())),
            Desc::Epoll(e) => Ok(Pollable::Epoll(e.clone())),
            Desc::Inherited(_) => Err(Error::NetDown),
        }
    }
}

type Shard = RwLock<HashMap<RawFd, Desc>>;

static TABLE: PerProcess<Vec<Shard>> = PerProcess::new(|| (0..SHARDS).map(|_| RwLock::default()).collect());
/// Every number in the table; in a child of fork also those that were in its parent's.
static OURS: Numbers = Numbers::new();
static NUMBER_KEEPER: PerProcess<Mutex<Option<Fd>>> = PerProcess::new(Mutex::default);

fn shard(fd: RawFd) -> &'static Shard {
    &TABLE.get()[fd as usize % SHARDS]
}

fn insert(fd: RawFd, desc: Desc) -> Option<Desc> {
    let old = match desc {
        Desc::Inherited(_) => shard(fd).write().remove(&fd),
        _ => shard(fd).write().insert(fd, desc),
    };
    OURS.insert(fd);
    old
}

fn remove(fd: RawFd) -> Option<Desc> {
    OURS.remove(fd);
    shard(fd).write().remove(&fd)
}

/// The lowest number that a descriptor of our own gets, where the limit allows it: the low ones are the program's.
const OUT_OF_THE_WAY: RawFd = 512;

/// Moves a descriptor of our own out of the program's way. Under a limit that does not reach so far it stays where it
/// is.
pub(crate) fn out_of_the_way(low: Fd) -> Fd {
    // SAFETY: duplicates a descriptor we own.
    let high = unsafe { libc::fcntl(low.raw(), libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) };
    Fd::own(high).unwrap_or(low)
}

/// The descriptor duplicates are made of.
fn number_keeper() -> Result<RawFd> {
    let mut keeper = NUMBER_KEEPER.get().lock();
    if let Some(fd) = &*keeper {
        return Ok(fd.raw());
    }
    // SAFETY: a plain system call; the result is owned at once.
    let low = os(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) } as isize)?;
    Ok(keeper.insert(out_of_the_way(Fd::own(low as RawFd)?)).raw())
}

/// What the number of a description is a duplicate of.
fn base(desc: &Desc) -> Result<RawFd> {
    match desc {
        Desc::Socket(_) => number_keeper(),
        Desc::Epoll(e) => Ok(e.kernel_fd()),
        Desc::Inherited(fd) => Ok(*fd),
    }
}

/// A number that is taken and leads nowhere yet: whoever must not fail for want of a descriptor once it has something
/// to lose takes the number first. Given back when dropped; a child of fork does not have it. Linux:
/// get_unused_fd_flags, put_unused_fd.
pub struct Number(Fd);

impl Number {
    /// Takes the lowest free number for a socket. EMFILE when there is none.
    pub fn reserve(cloexec: bool) -> Result<Number> {
        Number::duplicate(number_keeper()?, cloexec, 0)
    }

    fn duplicate(base: RawFd, cloexec: bool, at_least: RawFd) -> Result<Number> {
        let cmd = if cloexec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
        // SAFETY: duplicates a descriptor we own.
        let fd = os(unsafe { libc::fcntl(base, cmd, at_least) } as isize)?;
        Ok(Number(Fd::own(fd as RawFd)?))
    }

    /// Puts the description under the number; cannot fail. Linux: fd_install.
    pub fn install(self, desc: Desc) -> RawFd {
        let fd = self.0.into_raw();
        insert(fd, desc);
        fd
    }
}

/// Puts a description under the lowest free number. EMFILE when there is none.
pub fn install(desc: Desc, cloexec: bool, at_least: RawFd) -> Result<RawFd> {
    Ok(Number::duplicate(base(&desc)?, cloexec, at_least)?.install(desc))
}

/// The description behind a descriptor, if it is ours.
#[inline]
pub fn get(fd: RawFd) -> Option<Desc> {
    if fd < 0 {
        return None;
    }
    let desc = shard(fd).read().get(&fd).cloned();
    match desc {
        None if fork::generation() != 0 && OURS.contains(fd) => inherited(fd),
        desc => desc,
    }
}

/// What a number that was the parent's leads to now. Children close everything before they begin their own work, and
/// not all by usk_close: the number may be a file's since.
#[cold]
fn inherited(fd: RawFd) -> Option<Desc> {
    // SAFETY: an all-zero stat is valid, and fstat fills it.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is writable.
    let open = unsafe { libc::fstat(fd, &mut st) } == 0;
    let (mut family, mut len) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    // An epoll set has no type of file; a socket's number is a socket's of AF_UNIX.
    let ours = open
        && match st.st_mode & libc::S_IFMT {
            0 => true,
            libc::S_IFSOCK => {
                let (level, name) = (libc::SOL_SOCKET, libc::SO_DOMAIN);
                // SAFETY: `family` and `len` are writable.
                let r = unsafe { libc::getsockopt(fd, level, name, (&raw mut family).cast(), &raw mut len) };
                r == 0 && family == libc::AF_UNIX
            }
            _ => false,
        };
    if !ours {
        OURS.remove(fd);
    }
    ours.then_some(Desc::Inherited(fd))
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
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
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
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
        Some(Desc::Socket(_)) => Err(Error::Inval),
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
    let desc = if fd >= 0 { remove(fd) } else { None };
    // SAFETY: the program asks to close this very number.
    os(unsafe { libc::close(fd) } as isize)?;
    drop(desc);
    Ok(())
}

/// Puts `desc` under the number `to`, closing what was there (dup2).
pub fn install_at(desc: Desc, to: RawFd, cloexec: bool) -> Result<RawFd> {
    let base = base(&desc)?;
    // SAFETY: `base` is ours; the program asks to replace `to`.
    os(unsafe { libc::dup3(base, to, if cloexec { libc::O_CLOEXEC } else { 0 }) } as isize)?;
    drop(insert(to, desc));
    Ok(to)
}

/// Forgets whatever of ours was under `to` (a kernel descriptor was put there by dup2).
pub fn forget(to: RawFd) {
    if to >= 0 {
        drop(remove(to));
    }
}
