//! MSG_OOB of a write where a stack server has the sockets: the last byte goes with what says that it is urgent.
//! AF_UNIX has urgent bytes, too, by which the server passes on what comes, but the server looks at what a program
//! writes from where it looked last (SO_PEEK_OFF), and so reads past them. Above: `served`. Below:
//! `usersock_spliced::client`.

use crate::data::real;
use crate::ready;
use crate::served::{quiet, room_in, sent};
use std::ffi::{c_int, c_void};
use usersock::error::Error;
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::{probe, ptr};
use usersock_spliced::{client, sys};

/// send(2) with MSG_OOB.
/// # Safety
/// `buf` is readable for `len` bytes.
pub(crate) unsafe fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
    let plain = flags & !libc::MSG_OOB;
    let before = len.saturating_sub(1);
    // Where there is no last byte, nothing is urgent.
    if before > 0 || len == 0 {
        // SAFETY: passed on.
        let n = sent(fd, unsafe { real::send(fd, buf, before, quiet(plain)) }, flags);
        if len == 0 || n < before as isize {
            return n;
        }
    }
    // SAFETY: the last of the bytes.
    unsafe { send_last(fd, before, buf.cast::<u8>().wrapping_add(before), plain) }
}

/// sendmsg(2) with MSG_OOB.
/// # Safety
/// As sendmsg(2); the message can be read.
pub(crate) unsafe fn sendmsg(fd: c_int, hdr: &libc::msghdr, flags: c_int) -> isize {
    let plain = flags & !libc::MSG_OOB;
    // SAFETY: the program vouches for the parts.
    let parts = if unsafe { room_in(hdr.msg_iov, hdr.msg_iovlen) }.is_some() { hdr.msg_iovlen } else { 0 };
    // SAFETY: the program vouches for the parts.
    let part = |i: usize| unsafe { part(hdr, i) };
    let Some((at, last)) = (0..parts).rev().find_map(|i| Some((i, part(i).filter(|part| part.iov_len > 0)?))) else {
        // There is no last byte, or the kernel says what is wrong.
        // SAFETY: passed on.
        return sent(fd, unsafe { real::sendmsg(fd, hdr, quiet(plain)) }, flags);
    };
    let before = (0..at).filter_map(part).map(|part| part.iov_len).fold(0, usize::saturating_add);
    if before > 0 {
        let head = libc::msghdr { msg_iovlen: at, ..*hdr };
        // SAFETY: the program's message without its last part.
        let n = sent(fd, unsafe { real::sendmsg(fd, &head, quiet(plain)) }, flags);
        if usize::try_from(n) != Ok(before) {
            return n;
        }
    }
    // SAFETY: the last part.
    match unsafe { send(fd, last.iov_base, last.iov_len, flags) } {
        -1 if before > 0 => before as isize,
        -1 => -1,
        n => before as isize + n,
    }
}

/// One of the parts of a message, if it can be read.
/// # Safety
/// The program vouches for the parts.
unsafe fn part(hdr: &libc::msghdr, i: usize) -> Option<libc::iovec> {
    let at = hdr.msg_iov.wrapping_add(i);
    // SAFETY: it can be read.
    probe::readable(at as usize, size_of::<libc::iovec>()).then(|| unsafe { at.read_unaligned() })
}

/// Sends the last byte of a call, behind the `before` that were taken; returns how many there are now.
/// # Safety
/// `byte` is readable.
unsafe fn send_last(fd: c_int, before: usize, byte: *const u8, flags: c_int) -> isize {
    let kernels = errno();
    // SAFETY: the program vouches for it.
    let r = match unsafe { ptr::bytes(byte.cast(), 1) } {
        Ok(&[last]) => loop {
            match client::send_urgent(fd, last) {
                Ok(()) => break 1,
                Err(Error::Again) if flags & libc::MSG_DONTWAIT == 0 && sys::nonblocking(fd) == Ok(false) => {
                    if !waited(fd) {
                        break -1;
                    }
                }
                Err(e) => {
                    set_errno(e.errno());
                    break sent(fd, -1, flags);
                }
            }
        },
        _ => {
            set_errno(libc::EFAULT);
            -1
        }
    };
    if r == -1 && before == 0 {
        return -1;
    }
    set_errno(kernels);
    before as isize + r.max(0)
}

/// Waits for room, as long as SO_SNDTIMEO says. If not, errno says why.
fn waited(fd: c_int) -> bool {
    let mut room = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd.
    match unsafe { ready::real::poll(&mut room, 1, client::connect_timeout(fd)) } {
        0 => set_errno(libc::EAGAIN),
        -1 => {}
        _ => return true,
    }
    false
}
