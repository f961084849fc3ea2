//! Reading and writing at an offset, which a socket has not: ESPIPE. With flags and offset -1, preadv2 and pwritev2 are
//! readv and writev. Linux: do_preadv, kiocb_set_rw_flags, sock_read_iter.

use crate::cancel::blocking;
use crate::io::{recv_slices, send_slices};
use crate::{fdtable, kernel, ptr};
use std::ffi::{c_int, c_long, c_void};
use usersock::error::{Error, Result};

/// Flags of preadv2(2) that a socket takes: what is for disks (HIPRI, DSYNC, SYNC, APPEND, NOAPPEND) changes nothing.
const RWF_DISK: c_int = libc::RWF_HIPRI | libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_APPEND | 0x20;
const RWF_NOSIGNAL: c_int = 0x100;

/// What a socket says of an offset: it has none.
fn no_offset<T>(offset: libc::off_t) -> Result<T> {
    Err(if offset < 0 { Error::Inval } else { Error::SPipe })
}

/// The flags of recv(2) and send(2) that RWF_* stand for.
fn message_flags(rwf: c_int) -> Result<c_int> {
    if rwf & !(RWF_DISK | libc::RWF_NOWAIT | RWF_NOSIGNAL) != 0 {
        return Err(Error::OpNotSupp);
    }
    if rwf & libc::RWF_APPEND != 0 && rwf & 0x20 != 0 {
        return Err(Error::Inval);
    }
    let nowait = if rwf & libc::RWF_NOWAIT != 0 { libc::MSG_DONTWAIT } else { 0 };
    Ok(nowait | if rwf & RWF_NOSIGNAL != 0 { libc::MSG_NOSIGNAL } else { 0 })
}

/// As pread(2), for any descriptor. ESPIPE on sockets of usersock.
/// # Safety
/// `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_pread(fd: c_int, buf: *mut c_void, len: usize, offset: libc::off_t) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(_) => no_offset(offset),
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_pread64, [fd as c_long, buf as c_long, len as c_long, offset]) },
    })
}

/// As pwrite(2), for any descriptor. ESPIPE on sockets of usersock.
/// # Safety
/// `buf` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_pwrite(fd: c_int, buf: *const c_void, len: usize, offset: libc::off_t) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(_) => no_offset(offset),
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_pwrite64, [fd as c_long, buf as c_long, len as c_long, offset]) },
    })
}

/// As preadv(2), for any descriptor. ESPIPE on sockets of usersock.
/// # Safety
/// `iov` is `count` iovecs, each writable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_preadv(
    fd: c_int,
    iov: *const libc::iovec,
    count: c_int,
    offset: libc::off_t,
) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(_) => no_offset(offset),
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_preadv, [fd as c_long, iov as c_long, count as c_long, offset, 0]) },
    })
}

/// As pwritev(2), for any descriptor. ESPIPE on sockets of usersock.
/// # Safety
/// `iov` is `count` iovecs, each readable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_pwritev(
    fd: c_int,
    iov: *const libc::iovec,
    count: c_int,
    offset: libc::off_t,
) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(_) => no_offset(offset),
        // SAFETY: passes the program's own arguments to the kernel.
        None => unsafe { kernel::wait(libc::SYS_pwritev, [fd as c_long, iov as c_long, count as c_long, offset, 0]) },
    })
}

/// As preadv2(2), for any descriptor. On sockets of usersock `offset` is -1, which is readv(2); RWF_NOWAIT is
/// MSG_DONTWAIT. ESPIPE for another offset, EOPNOTSUPP for RWF_ATOMIC and RWF_DONTCACHE.
/// # Safety
/// `iov` is `count` iovecs, each writable, none overlapping.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_preadv2(
    fd: c_int,
    iov: *const libc::iovec,
    count: c_int,
    offset: libc::off_t,
    flags: c_int,
) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(_) if offset != -1 => no_offset(offset),
        Some(s) => {
            let count = usize::try_from(count).map_err(|_| Error::Inval)?;
            // SAFETY: the caller vouches for the iovecs.
            let mut iov = unsafe { ptr::io_slices_mut(iov, count) }?;
            if iov.iter().all(|v| v.is_empty()) {
                return Ok(0);
            }
            recv_slices(&s, &mut iov, message_flags(flags)?)
        }
        None => {
            let args = [fd as c_long, iov as c_long, count as c_long, offset, 0, flags as c_long];
            // SAFETY: passes the program's own arguments to the kernel.
            unsafe { kernel::wait(libc::SYS_preadv2, args) }
        }
    })
}

/// As pwritev2(2), for any descriptor; as usk_preadv2. RWF_NOSIGNAL is MSG_NOSIGNAL.
/// # Safety
/// `iov` is `count` iovecs, each readable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_pwritev2(
    fd: c_int,
    iov: *const libc::iovec,
    count: c_int,
    offset: libc::off_t,
    flags: c_int,
) -> isize {
    blocking(|| match fdtable::socket(fd)? {
        Some(_) if offset != -1 => no_offset(offset),
        Some(s) => {
            let count = usize::try_from(count).map_err(|_| Error::Inval)?;
            // SAFETY: the caller vouches for the iovecs.
            let iov = unsafe { ptr::io_slices(iov, count) }?;
            if iov.iter().all(|v| v.is_empty()) {
                return Ok(0);
            }
            send_slices(&s, &iov, message_flags(flags)?)
        }
        None => {
            let args = [fd as c_long, iov as c_long, count as c_long, offset, 0, flags as c_long];
            // SAFETY: passes the program's own arguments to the kernel.
            unsafe { kernel::wait(libc::SYS_pwritev2, args) }
        }
    })
}
