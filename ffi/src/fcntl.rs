//! fcntl and ioctl, for any descriptor. Below: `fdtable` (duplicates), `sigio` (owners and signals), the protocols'
//! ioctls.

use crate::boundary::boundary;
use crate::cancel::blocking;
use crate::fdtable::{self, Desc};
use crate::sigio::{self, Owner};
use crate::{ifreq, kernel, ptr};
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::net::Socket;

const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;
const F_OWNER_TID: c_int = 0;
const F_OWNER_PID: c_int = 1;
const F_OWNER_PGRP: c_int = 2;
const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;
const FIOGETOWN: c_ulong = 0x8903;
const SIOCGPGRP: c_ulong = 0x8904;

/// struct f_owner_ex.
#[repr(C)]
struct OwnerEx {
    ty: c_int,
    pid: c_int,
}

/// As fcntl(2), for any descriptor; `arg` is the integer or pointer of the command, absent where it takes none. On
/// sockets of usersock: F_GETFL, F_SETFL (O_NONBLOCK, O_APPEND, O_ASYNC), F_GETFD, F_SETFD, F_DUPFD, F_DUPFD_CLOEXEC,
/// F_GETOWN, F_SETOWN, F_GETOWN_EX, F_SETOWN_EX, F_GETSIG, F_SETSIG; EINVAL for others.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_fcntl(fd: c_int, cmd: c_int, arg: c_long) -> c_int {
    blocking(|| {
        let args = [fd as c_long, cmd as c_long, arg];
        // F_SETLKW and F_OFD_SETLKW wait.
        // SAFETY: passes the program's own arguments to the kernel.
        let kernel = || unsafe { kernel::wait(libc::SYS_fcntl, args) }.map(|r| r as c_int);
        match (fdtable::get(fd), cmd) {
            (Some(desc), libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) => {
                fdtable::install(desc, cmd == libc::F_DUPFD_CLOEXEC, arg as c_int)
            }
            (_, libc::F_GETFD | libc::F_SETFD) => kernel(),
            (Some(Desc::Socket(s)), _) => of_socket(&s, fd, cmd, arg),
            (Some(Desc::Inherited(_)), _) => Err(Error::NetDown),
            (Some(Desc::Epoll(_)) | None, libc::F_GETOWN) => owner_of_kernels(fd),
            (Some(Desc::Epoll(_)) | None, _) => kernel(),
        }
    })
}

/// F_GETOWN of a descriptor of the kernel's: by F_GETOWN_EX, since a small process group, which is a negative answer,
/// looks like an error number in the system call's result.
fn owner_of_kernels(fd: c_int) -> Result<c_int> {
    let mut owner = OwnerEx { ty: 0, pid: 0 };
    let args = [fd as c_long, F_GETOWN_EX as c_long, &raw mut owner as c_long];
    // SAFETY: the command writes a struct f_owner_ex.
    unsafe { kernel::call(libc::SYS_fcntl, args) }?;
    Ok(if owner.ty == F_OWNER_PGRP { -owner.pid } else { owner.pid })
}

fn of_socket(s: &Arc<Socket>, fd: c_int, cmd: c_int, arg: c_long) -> Result<c_int> {
    let n = arg as c_int;
    match cmd {
        libc::F_GETFL => {
            let nonblock = if s.nonblocking() { libc::O_NONBLOCK } else { 0 };
            let append = if s.appends() { libc::O_APPEND } else { 0 };
            Ok(libc::O_RDWR | append | nonblock | if sigio::is_async(s) { libc::O_ASYNC } else { 0 })
        }
        libc::F_SETFL => {
            sigio::set_async(s, fd, n & libc::O_ASYNC != 0);
            s.set_nonblocking(n & libc::O_NONBLOCK != 0);
            s.set_append(n & libc::O_APPEND != 0);
            Ok(0)
        }
        libc::F_GETOWN => Ok(sigio::owner(s).number()),
        libc::F_SETOWN => sigio::set_owner(s, Owner::from_number(n)?).map(|()| 0),
        F_GETOWN_EX => {
            let (ty, pid) = match sigio::owner(s) {
                Owner::None => (F_OWNER_TID, 0),
                Owner::Thread(id) => (F_OWNER_TID, id),
                Owner::Process(id) => (F_OWNER_PID, id),
                Owner::Group(id) => (F_OWNER_PGRP, id),
            };
            // SAFETY: the command's argument is a pointer to a struct f_owner_ex.
            *unsafe { ptr::value_mut(arg as *mut OwnerEx) }? = OwnerEx { ty, pid };
            Ok(0)
        }
        F_SETOWN_EX => {
            // SAFETY: as above.
            let &OwnerEx { ty, pid } = unsafe { ptr::value(arg as *const OwnerEx) }?;
            let owner = match ty {
                F_OWNER_TID | F_OWNER_PID | F_OWNER_PGRP if pid == 0 => Owner::None,
                F_OWNER_TID => Owner::Thread(pid),
                F_OWNER_PID => Owner::Process(pid),
                F_OWNER_PGRP => Owner::Group(pid),
                _ => return Err(Error::Inval),
            };
            sigio::set_owner(s, owner).map(|()| 0)
        }
        F_GETSIG => Ok(sigio::signal(s)),
        F_SETSIG => sigio::set_signal(s, n).map(|()| 0),
        _ => Err(Error::Inval),
    }
}

/// As ioctl(2), for any descriptor. On sockets of usersock: FIONBIO, FIOASYNC, FIOSETOWN (SIOCSPGRP), FIOGETOWN
/// (SIOCGPGRP), FIONREAD (SIOCINQ), SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, FIOCLEX, FIONCLEX, and of the stack's interfaces
/// SIOCGIFNAME, SIOCGIFINDEX, SIOCGIFFLAGS, SIOCGIFMTU, SIOCGIFMETRIC, SIOCGIFTXQLEN, SIOCGIFHWADDR, SIOCGIFADDR,
/// SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFCONF; ENOTTY for others.
/// # Safety
/// `arg` is what the request says: an int pointer, a struct ifreq or a struct ifconf.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    boundary(|| {
        let s = match fdtable::get(fd) {
            Some(Desc::Socket(s)) => s,
            Some(Desc::Inherited(_)) if request != libc::FIOCLEX && request != libc::FIONCLEX => {
                return Err(Error::NetDown);
            }
            _ => {
                let args = [fd as c_long, request as c_long, arg as c_long];
                // SAFETY: passes the program's own arguments to the kernel.
                return unsafe { kernel::call(libc::SYS_ioctl, args) }.map(|r| r as c_int);
            }
        };
        // SAFETY: the argument of these requests is an int as the caller guarantees.
        let int = || unsafe { ptr::value(arg.cast::<c_int>()) }.copied();
        let answer = match request {
            libc::FIONBIO => {
                s.set_nonblocking(int()? != 0);
                return Ok(0);
            }
            libc::FIOASYNC => {
                sigio::set_async(&s, fd, int()? != 0);
                return Ok(0);
            }
            FIOSETOWN | SIOCSPGRP => return sigio::set_owner(&s, Owner::from_number(int()?)?).map(|()| 0),
            libc::FIOCLEX => return kernel::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC),
            libc::FIONCLEX => return kernel::fcntl(fd, libc::F_SETFD, 0),
            FIOGETOWN | SIOCGPGRP => sigio::owner(&s).number(),
            // SAFETY: the argument is the request's, by the caller's word.
            _ => match unsafe { ifreq::ioctl(&s, request, arg) } {
                Some(r) => return r.map(|()| 0),
                None => s.ioctl(request)?,
            },
        };
        // SAFETY: the requests that answer an int take an int pointer.
        *unsafe { ptr::value_mut(arg.cast::<c_int>()) }? = answer;
        Ok(0)
    })
}
