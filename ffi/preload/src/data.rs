//! Reading and writing.

use crate::real::{interpose, kernel};
use crate::role::say;
use crate::whose::ours;
use crate::{served, several};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::io::*;
use usersock_ffi::positioned::*;
use usersock_ffi::transfer::*;

type Addr = *mut libc::sockaddr;
type Len = *mut libc::socklen_t;

unsafe extern "C" {
    /// Ends the process: a buffer is smaller than the bytes that are asked for (_FORTIFY_SOURCE).
    fn __chk_fail() -> !;
}

/// `len`, or the end of the process where the buffer has only `room` bytes.
fn fits(len: usize, room: usize) -> usize {
    if len > room {
        // SAFETY: what the C library's function does in the same case.
        unsafe { __chk_fail() }
    }
    len
}

/// Whether a message to a socket of the kernel's has control data: descriptors of ours may be among it, which
/// usk_sendmsg refuses to pass on.
/// # Safety
/// `hdr` is null or a msghdr.
unsafe fn with_control(hdr: *const libc::msghdr) -> bool {
    // SAFETY: as the caller says, where it can be read.
    usersock_ffi::probe::readable(hdr as usize, size_of::<libc::msghdr>()) && unsafe { (*hdr).msg_controllen } > 0
}

/// As [`with_control`], of any of `count`.
/// # Safety
/// `vec` is `count` mmsghdrs.
unsafe fn any_with_control(vec: *mut libc::mmsghdr, count: c_uint) -> bool {
    // SAFETY: as the caller says.
    (0..count.min(1024) as usize).any(|i| unsafe { with_control((&raw const (*vec.wrapping_add(i)).msg_hdr).cast()) })
}

/// The result of a message that may have been refused since it passes a socket on; the first time one line says so,
/// because programs that share their work in this way (a cluster of node) may stand still without a word.
/// # Safety
/// As usk_sendmsg's.
unsafe fn said(hdr: *const libc::msghdr, sent: isize) -> isize {
    static SAID: AtomicBool = AtomicBool::new(false);
    // SAFETY: as the caller says.
    if sent == -1 && errno() == libc::EINVAL && unsafe { passes_ours_on(hdr) }.is_err() {
        if !SAID.swap(true, Ordering::Relaxed) {
            say("a socket goes to no other process (SCM_RIGHTS), the stack is in this one; usersock run -- PROGRAM \
                 passes them on");
        }
        set_errno(libc::EINVAL);
    }
    sent
}

interpose! {
    /// read(2).
    fn read(fd: c_int, buf: *mut c_void, len: usize) -> isize,
    served served::received(fd, real::read(fd, buf, len), 0),
    ours ours(fd) => usk_read(fd, buf, len), else kernel!(SYS_read, fd, buf, len);

    /// read(2) by its older name.
    fn __read(fd: c_int, buf: *mut c_void, len: usize) -> isize,
    served served::received(fd, real::__read(fd, buf, len), 0),
    ours ours(fd) => usk_read(fd, buf, len), else kernel!(SYS_read, fd, buf, len);

    /// read(2) with the size of the buffer.
    fn __read_chk(fd: c_int, buf: *mut c_void, len: usize, room: usize) -> isize,
    served served::received(fd, real::__read_chk(fd, buf, len, room), 0),
    ours ours(fd) => usk_read(fd, buf, fits(len, room)), else kernel!(SYS_read, fd, buf, fits(len, room));

    /// write(2).
    fn write(fd: c_int, buf: *const c_void, len: usize) -> isize,
    served served::wrote(fd, real::write(fd, buf, len)),
    ours ours(fd) => usk_write(fd, buf, len), else kernel!(SYS_write, fd, buf, len);

    /// write(2) by its older name.
    fn __write(fd: c_int, buf: *const c_void, len: usize) -> isize,
    served served::wrote(fd, real::__write(fd, buf, len)),
    ours ours(fd) => usk_write(fd, buf, len), else kernel!(SYS_write, fd, buf, len);

    /// readv(2).
    fn readv(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize,
    served served::readv(fd, iov, count),
    ours ours(fd) => usk_readv(fd, iov, count), else kernel!(SYS_readv, fd, iov, count);

    /// writev(2).
    fn writev(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize,
    served served::wrote(fd, real::writev(fd, iov, count)),
    ours ours(fd) => usk_writev(fd, iov, count), else kernel!(SYS_writev, fd, iov, count);

    /// send(2).
    fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize,
    served served::send(fd, buf, len, flags),
    ours ours(fd) => usk_send(fd, buf, len, flags), else kernel!(SYS_sendto, fd, buf, len, flags, 0, 0);

    /// send(2) by its older name.
    fn __send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize,
    served served::send(fd, buf, len, flags),
    ours ours(fd) => usk_send(fd, buf, len, flags), else kernel!(SYS_sendto, fd, buf, len, flags, 0, 0);

    /// sendto(2).
    fn sendto(fd: c_int, buf: *const c_void, len: usize, flags: c_int, addr: *const libc::sockaddr,
              alen: libc::socklen_t) -> isize,
    served served::sendto(fd, buf, len, flags, addr, alen),
    ours ours(fd) => usk_sendto(fd, buf, len, flags, addr, alen),
    else kernel!(SYS_sendto, fd, buf, len, flags, addr, alen);

    /// sendmsg(2).
    fn sendmsg(fd: c_int, hdr: *const libc::msghdr, flags: c_int) -> isize,
    served served::sendmsg(fd, hdr, flags),
    ours ours(fd) || with_control(hdr) => said(hdr, usk_sendmsg(fd, hdr, flags)),
    else kernel!(SYS_sendmsg, fd, hdr, flags);

    /// sendmmsg(2).
    fn sendmmsg(fd: c_int, vec: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int,
    served several::sendmmsg(fd, vec, count, flags),
    ours ours(fd) || any_with_control(vec, count) => {
        let n = usk_sendmmsg(fd, vec, count, flags);
        // The first message is the one that was refused.
        said(&raw const (*vec).msg_hdr, n as isize);
        n
    },
    else kernel!(SYS_sendmmsg, fd, vec, count, flags);

    /// recv(2).
    fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize,
    served served::recv(fd, buf, len, flags),
    ours ours(fd) => usk_recv(fd, buf, len, flags),
    else kernel!(SYS_recvfrom, fd, buf, len, flags, 0, 0);

    /// recv(2) with the size of the buffer.
    fn __recv_chk(fd: c_int, buf: *mut c_void, len: usize, room: usize, flags: c_int) -> isize,
    served served::recv(fd, buf, fits(len, room), flags),
    ours ours(fd) => usk_recv(fd, buf, fits(len, room), flags),
    else kernel!(SYS_recvfrom, fd, buf, fits(len, room), flags, 0, 0);

    /// recvfrom(2).
    fn recvfrom(fd: c_int, buf: *mut c_void, len: usize, flags: c_int, addr: Addr, alen: Len) -> isize,
    served served::recvfrom(fd, buf, len, flags, addr, alen),
    ours ours(fd) => usk_recvfrom(fd, buf, len, flags, addr, alen),
    else kernel!(SYS_recvfrom, fd, buf, len, flags, addr, alen);

    /// recvfrom(2) with the size of the buffer.
    fn __recvfrom_chk(fd: c_int, buf: *mut c_void, len: usize, room: usize, flags: c_int, addr: Addr,
                      alen: Len) -> isize,
    served served::recvfrom(fd, buf, fits(len, room), flags, addr, alen),
    ours ours(fd) => usk_recvfrom(fd, buf, fits(len, room), flags, addr, alen),
    else kernel!(SYS_recvfrom, fd, buf, fits(len, room), flags, addr, alen);

    /// recvmsg(2).
    fn recvmsg(fd: c_int, hdr: *mut libc::msghdr, flags: c_int) -> isize,
    served served::recvmsg(fd, hdr, flags),
    ours ours(fd) => usk_recvmsg(fd, hdr, flags),
    else kernel!(SYS_recvmsg, fd, hdr, flags);

    /// recvmmsg(2).
    fn recvmmsg(fd: c_int, vec: *mut libc::mmsghdr, count: c_uint, flags: c_int,
                timeout: *mut libc::timespec) -> c_int,
    served several::recvmmsg(fd, vec, count, flags, timeout),
    ours ours(fd) => usk_recvmmsg(fd, vec, count, flags, timeout),
    else kernel!(SYS_recvmmsg, fd, vec, count, flags, timeout);

    /// pread(2).
    fn pread(fd: c_int, buf: *mut c_void, len: usize, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pread(fd, buf, len, offset), else kernel!(SYS_pread64, fd, buf, len, offset);

    /// pread(2).
    fn pread64(fd: c_int, buf: *mut c_void, len: usize, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pread(fd, buf, len, offset), else kernel!(SYS_pread64, fd, buf, len, offset);

    /// pread(2) by its older name.
    fn __pread64(fd: c_int, buf: *mut c_void, len: usize, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pread(fd, buf, len, offset), else kernel!(SYS_pread64, fd, buf, len, offset);

    /// pread(2) with the size of the buffer.
    fn __pread_chk(fd: c_int, buf: *mut c_void, len: usize, offset: libc::off_t, room: usize) -> isize,
    ours ours(fd) => usk_pread(fd, buf, fits(len, room), offset),
    else kernel!(SYS_pread64, fd, buf, fits(len, room), offset);

    /// pread(2) with the size of the buffer.
    fn __pread64_chk(fd: c_int, buf: *mut c_void, len: usize, offset: libc::off_t, room: usize) -> isize,
    ours ours(fd) => usk_pread(fd, buf, fits(len, room), offset),
    else kernel!(SYS_pread64, fd, buf, fits(len, room), offset);

    /// pwrite(2).
    fn pwrite(fd: c_int, buf: *const c_void, len: usize, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pwrite(fd, buf, len, offset), else kernel!(SYS_pwrite64, fd, buf, len, offset);

    /// pwrite(2).
    fn pwrite64(fd: c_int, buf: *const c_void, len: usize, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pwrite(fd, buf, len, offset), else kernel!(SYS_pwrite64, fd, buf, len, offset);

    /// pwrite(2) by its older name.
    fn __pwrite64(fd: c_int, buf: *const c_void, len: usize, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pwrite(fd, buf, len, offset), else kernel!(SYS_pwrite64, fd, buf, len, offset);

    /// preadv(2).
    fn preadv(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_preadv(fd, iov, count, offset), else kernel!(SYS_preadv, fd, iov, count, offset);

    /// preadv(2).
    fn preadv64(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_preadv(fd, iov, count, offset), else kernel!(SYS_preadv, fd, iov, count, offset);

    /// preadv2(2).
    fn preadv2(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t, flags: c_int) -> isize,
    ours ours(fd) => usk_preadv2(fd, iov, count, offset, flags),
    else kernel!(SYS_preadv2, fd, iov, count, offset, 0, flags);

    /// preadv2(2).
    fn preadv64v2(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t, flags: c_int) -> isize,
    ours ours(fd) => usk_preadv2(fd, iov, count, offset, flags),
    else kernel!(SYS_preadv2, fd, iov, count, offset, 0, flags);

    /// pwritev(2).
    fn pwritev(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pwritev(fd, iov, count, offset), else kernel!(SYS_pwritev, fd, iov, count, offset);

    /// pwritev(2).
    fn pwritev64(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t) -> isize,
    ours ours(fd) => usk_pwritev(fd, iov, count, offset), else kernel!(SYS_pwritev, fd, iov, count, offset);

    /// pwritev2(2).
    fn pwritev2(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t, flags: c_int) -> isize,
    ours ours(fd) => usk_pwritev2(fd, iov, count, offset, flags),
    else kernel!(SYS_pwritev2, fd, iov, count, offset, 0, flags);

    /// pwritev2(2).
    fn pwritev64v2(fd: c_int, iov: *const libc::iovec, count: c_int, offset: libc::off_t, flags: c_int) -> isize,
    ours ours(fd) => usk_pwritev2(fd, iov, count, offset, flags),
    else kernel!(SYS_pwritev2, fd, iov, count, offset, 0, flags);

    /// sendfile(2).
    fn sendfile(to: c_int, from: c_int, offset: *mut libc::off_t, count: usize) -> isize,
    served served::transferred(from, to, count, real::sendfile(to, from, offset, count)),
    ours ours(to) || ours(from) => usk_sendfile(to, from, offset, count),
    else kernel!(SYS_sendfile, to, from, offset, count);

    /// sendfile(2).
    fn sendfile64(to: c_int, from: c_int, offset: *mut libc::off_t, count: usize) -> isize,
    served served::transferred(from, to, count, real::sendfile64(to, from, offset, count)),
    ours ours(to) || ours(from) => usk_sendfile(to, from, offset, count),
    else kernel!(SYS_sendfile, to, from, offset, count);

    /// splice(2).
    fn splice(from: c_int, off_in: *mut i64, to: c_int, off_out: *mut i64, len: usize, flags: c_uint) -> isize,
    served served::splice(from, off_in, to, off_out, len, flags),
    ours ours(from) || ours(to) => usk_splice(from, off_in, to, off_out, len, flags),
    else kernel!(SYS_splice, from, off_in, to, off_out, len, flags);
}
