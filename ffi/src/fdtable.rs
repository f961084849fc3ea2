//! Which descriptors are ours. A socket's number is that of a real descriptor of the kernel, a duplicate of one
//! unconnected AF_UNIX socket that only reserves the number (and is S_ISSOCK to fstat): it is the lowest free one,
//! below FD_SETSIZE as long as the program's are, and no other `open` can get it. The table is sharded: no lock is
//! shared by all descriptors.
//!
//! A child of fork(2) begins with an empty table; of inherited numbers it knows only that they were its parent's.

use crate::eventpoll::{Epoll, Pollable};
use crate::held;
use crate::kernel;
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
    /// A description of the parent, inherited by fork under this number. It can be closed and duplicated, polls as
    /// POLLERR and POLLHUP, and is ENETDOWN in all other calls.
    Inherited(RawFd),
}

impl Desc {
    /// The description as a [`Pollable`]. ENETDOWN if it is inherited.
    pub(crate) fn pollable(&self) -> Result<Pollable> {
        match self {
            Desc::Socket(s) => Ok(Pollable::Socket(s.clone())),
            Desc::Epoll(e) => Ok(Pollable::Epoll(e.clone())),
            Desc::Inherited(_) => Err(Error::NetDown),
        }
    }
}

/// The descriptions of every [`SHARDS`]th number, as far as the highest that was used: 16 bytes each, so that a number
/// near RLIMIT_NOFILE costs 1/32 of the kernel's own table up to it, which is 8 bytes a number (alloc_fdtable).
type Shard = RwLock<Vec<Option<Desc>>>;

static TABLE: PerProcess<Vec<Shard>> = PerProcess::new(|| (0..SHARDS).map(|_| RwLock::default()).collect());
/// Every number in the table; in a child of fork also those that were in its parent's.
static OURS: Numbers = Numbers::new();
static NUMBER_KEEPER: PerProcess<Mutex<Option<Fd>>> = PerProcess::new(Mutex::default);
/// Held while a number changes owner, in the kernel and in this table together, so that it has one owner at every
/// moment. It contains the numbers that are reserved and not yet installed. Linux: files_struct.file_lock, open_fds.
static RESERVED: PerProcess<Mutex<Vec<RawFd>>> = PerProcess::new(Mutex::default);

/// The shard of a number that is not negative, and the number's place in it.
fn shard(fd: RawFd) -> (&'static Shard, usize) {
    let fd = fd as usize;
    (&TABLE.get()[fd % SHARDS], fd / SHARDS)
}

fn insert(fd: RawFd, desc: Desc) -> Option<Desc> {
    let old = match desc {
        Desc::Inherited(_) => take(fd),
        _ => {
            let (shard, at) = shard(fd);
            let mut list = shard.write();
            if list.len() <= at {
                list.resize(at + 1, None);
            }
            list[at].replace(desc)
        }
    };
    OURS.insert(fd);
    old
}

fn take(fd: RawFd) -> Option<Desc> {
    let (shard, at) = shard(fd);
    shard.write().get_mut(at)?.take()
}

fn remove(fd: RawFd) -> Option<Desc> {
    OURS.remove(fd);
    take(fd)
}

/// The descriptor duplicates are made of.
fn number_keeper() -> Result<RawFd> {
    let mut keeper = NUMBER_KEEPER.get().lock();
    if let Some(fd) = &*keeper {
        return Ok(fd.raw());
    }
    usersock::control::set_descriptors(descriptors);
    let low = kernel::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)?;
    Ok(keeper.insert(Fd::own(low)?.out_of_the_way()).raw())
}

/// The sockets in the table, as usk_sock_list numbers them, each with its descriptors: for the control socket.
fn descriptors() -> Vec<(u64, RawFd)> {
    let id = |desc: &Desc| match desc {
        Desc::Socket(s) => Some(Arc::as_ptr(s.sock()) as u64),
        Desc::Epoll(_) | Desc::Inherited(_) => None,
    };
    let of_shard = |(first, shard): (usize, &Shard)| {
        let list = shard.read();
        let described = list.iter().enumerate().filter_map(|(at, desc)| Some((at, desc.as_ref()?)));
        described.filter_map(|(at, d)| Some((id(d)?, (first + at * SHARDS) as RawFd))).collect::<Vec<_>>()
    };
    TABLE.get().iter().enumerate().flat_map(of_shard).collect()
}

/// The descriptor that a description's numbers are duplicates of.
fn base(desc: &Desc) -> Result<RawFd> {
    match desc {
        Desc::Socket(_) => number_keeper(),
        Desc::Epoll(e) => Ok(e.kernel_fd()),
        Desc::Inherited(fd) => Ok(*fd),
    }
}

/// Takes the lowest free number from `at_least` on in the kernel. EMFILE when there is none.
fn duplicate(base: RawFd, cloexec: bool, at_least: RawFd) -> Result<RawFd> {
    let cmd = if cloexec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    kernel::fcntl(base, cmd, at_least)
}

/// A reserved number that is not yet installed: accept, for example, reserves it first, so that it cannot fail for lack
/// of descriptors after it has dequeued a connection. Freed when dropped; a child of fork does not have it. Linux:
/// get_unused_fd_flags, put_unused_fd.
pub struct Number(Option<Fd>);

impl Number {
    /// Reserves the lowest free number for a socket. EMFILE when there is none.
    pub fn reserve(cloexec: bool) -> Result<Number> {
        let base = number_keeper()?;
        let mut reserved = RESERVED.get().lock();
        let fd = Fd::own(duplicate(base, cloexec, 0)?)?;
        reserved.push(fd.raw());
        Ok(Number(Some(fd)))
    }

    /// Installs the description under the number; cannot fail. Linux: fd_install.
    pub fn install(mut self, desc: Desc) -> RawFd {
        let fd = self.0.take().map_or(-1, Fd::into_raw);
        let mut reserved = RESERVED.get().lock();
        insert(fd, desc);
        reserved.retain(|n| *n != fd);
        fd
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            let mut reserved = RESERVED.get().lock();
            reserved.retain(|n| *n != fd.raw());
            drop(fd);
        }
    }
}

/// Installs a description under the lowest free number. EMFILE when there is none.
pub fn install(desc: Desc, cloexec: bool, at_least: RawFd) -> Result<RawFd> {
    let base = base(&desc)?;
    let _reserved = RESERVED.get().lock();
    let fd = duplicate(base, cloexec, at_least)?;
    insert(fd, desc);
    Ok(fd)
}

/// Every number in the table, for a shim that must know quickly what is not ours. In a child of fork(2) it also has the
/// numbers of its parent's, of which the program may have closed some by other calls; [`get`] tells.
#[inline]
pub fn numbers() -> &'static Numbers {
    &OURS
}

/// The description behind a descriptor, if it is ours.
#[inline]
pub fn get(fd: RawFd) -> Option<Desc> {
    if fd < 0 {
        return None;
    }
    let (shard, at) = shard(fd);
    let desc = shard.read().get(at).cloned().flatten();
    match desc {
        None if fork::generation() != 0 && OURS.contains(fd) => inherited(fd),
        desc => desc,
    }
}

/// What an inherited number refers to now. Children often close all descriptors first, and not always by usk_close: the
/// number may be another file's now.
#[cold]
fn inherited(fd: RawFd) -> Option<Desc> {
    // SAFETY: an all-zero stat is valid, and fstat fills it.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `st` is writable.
    let open = unsafe { libc::fstat(fd, &mut st) } == 0;
    // An epoll descriptor has no file type; the number of a socket is an AF_UNIX socket.
    let ours = open
        && match st.st_mode & libc::S_IFMT {
            0 => true,
            libc::S_IFSOCK => kernel::domain(fd) == Ok(libc::AF_UNIX),
            _ => false,
        };
    if !ours {
        OURS.remove(fd);
    }
    ours.then_some(Desc::Inherited(fd))
}

/// Whether the descriptor is open in the kernel.
fn is_open(fd: RawFd) -> bool {
    kernel::fcntl(fd, libc::F_GETFD, 0).is_ok()
}

/// The description behind a descriptor, or None for a descriptor of the kernel's. EBADF if it is not open.
pub fn opened(fd: RawFd) -> Result<Option<Desc>> {
    match get(fd) {
        None if !is_open(fd) => Err(Error::BadF),
        desc => Ok(desc),
    }
}

/// The socket among descriptions. ENOTSOCK for any other.
pub fn as_socket(desc: Option<Desc>) -> Result<Arc<Socket>> {
    match desc {
        // A plug-in that owns the sock would deadlock.
        Some(Desc::Socket(s)) if held::would_deadlock(s.sock()) => Err(Error::Deadlk),
        Some(Desc::Socket(s)) => Ok(s),
        Some(Desc::Inherited(_)) => Err(Error::NetDown),
        Some(Desc::Epoll(_)) | None => Err(Error::NotSock),
    }
}

/// The socket of ours behind a descriptor; None for others, which are left to the kernel, closed ones included.
/// ENETDOWN if it is inherited.
#[inline(always)]
pub fn socket(fd: RawFd) -> Result<Option<Arc<Socket>>> {
    if fd >= 0 {
        let (shard, at) = shard(fd);
        if let Some(Some(Desc::Socket(s))) = shard.read().get(at) {
            return if held::would_deadlock(s.sock()) { Err(Error::Deadlk) } else { Ok(Some(s.clone())) };
        }
    }
    other(fd)
}

/// The same where it is no socket.
#[cold]
fn other(fd: RawFd) -> Result<Option<Arc<Socket>>> {
    match get(fd) {
        None | Some(Desc::Epoll(_)) => Ok(None),
        desc => as_socket(desc).map(Some),
    }
}

/// The socket of ours behind a descriptor, for calls that the kernel does not have. EBADF, ENETDOWN; ENOTSOCK for
/// anything else.
pub fn ours(fd: RawFd) -> Result<Arc<Socket>> {
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

/// Closes a descriptor, ours or the kernel's. The description remains while duplicates or running calls hold it.
pub fn close(fd: RawFd) -> Result<()> {
    if held::any()
        && let Some(Desc::Socket(s)) = get(fd)
        && held::would_deadlock(s.sock())
    {
        return Err(Error::Deadlk);
    }
    let desc = {
        let reserved = RESERVED.get().lock();
        if reserved.contains(&fd) {
            return Err(Error::BadF);
        }
        match if fd >= 0 { remove(fd) } else { None } {
            // Closing the descriptor that reserves the number does not wait.
            Some(desc) => kernel::close(fd).map(|()| desc)?,
            None => {
                drop(reserved);
                return close_kernels(fd);
            }
        }
    };
    drop(desc);
    Ok(())
}

/// Closes a descriptor of the kernel, which may block.
fn close_kernels(fd: RawFd) -> Result<()> {
    let closed = kernel::close(fd);
    let described = |(shard, at): (&Shard, usize)| shard.read().get(at).is_some_and(Option::is_some);
    if fd >= 0 && described(shard(fd)) {
        // Another thread may have installed one of ours there meanwhile, which may be the one that was closed.
        let reserved = RESERVED.get().lock();
        let gone = kernel::domain(fd) != Ok(libc::AF_UNIX) && !matches!(get(fd), Some(Desc::Epoll(_)));
        let desc = if gone { remove(fd) } else { None };
        drop(reserved);
        drop(desc);
    }
    closed
}

/// Installs `desc` under the number `to`, closing what was there (dup2). EBUSY for a number that another thread has
/// reserved.
pub fn install_at(desc: Desc, to: RawFd, cloexec: bool) -> Result<RawFd> {
    let base = base(&desc)?;
    replace(base, to, cloexec, Some(desc))
}

/// Installs a duplicate of the kernel's descriptor `from` under the number `to`, closing what was there (dup2, dup3).
/// EBUSY as for [`install_at`].
pub fn duplicate_at(from: RawFd, to: RawFd, cloexec: bool) -> Result<RawFd> {
    replace(from, to, cloexec, None)
}

fn replace(from: RawFd, to: RawFd, cloexec: bool, desc: Option<Desc>) -> Result<RawFd> {
    let reserved = RESERVED.get().lock();
    if reserved.contains(&to) {
        return Err(Error::Busy);
    }
    kernel::dup3(from, to, if cloexec { libc::O_CLOEXEC } else { 0 })?;
    let old = match desc {
        Some(desc) => insert(to, desc),
        None => remove(to),
    };
    drop(reserved);
    // The last descriptor of a socket may linger.
    drop(old);
    Ok(to)
}
