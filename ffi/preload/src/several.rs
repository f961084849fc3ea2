//! sendmmsg(2) and recvmmsg(2) where a stack server has the sockets: the kernel's calls, or, where AF_UNIX would treat
//! a message otherwise than TCP, one message after the other, as the kernel does. Above: `data`. Below: `served`.

use crate::data::real;
use crate::served::{
    MAX_MESSAGES, give_room, is_more, is_without_room, no_errors, quiet, received, recvmsg, sendmsg, sent, take_room,
};
use crate::spliced::has;
use std::ffi::{c_int, c_uint};
use std::time::{Duration, Instant};
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::{probe, ptr};
use usersock_spliced::sys;

/// Bytes that the kernel takes of one, at most (MAX_RW_COUNT).
const MAX_BYTES: usize = 0x7fff_f000;

/// sendmmsg(2). Where one has a name or control data they are sent one by one, as the kernel does. It ends at the first
/// that is refused or was not taken wholly, so that no bytes are left out of the stream.
/// # Safety
/// As sendmmsg(2).
pub(crate) unsafe fn sendmmsg(fd: c_int, vec: *mut libc::mmsghdr, count: c_uint, flags: c_int) -> c_int {
    // SAFETY: the program vouches for `count` of them.
    let special = |i: usize| unsafe { is_more(&raw const (*vec.wrapping_add(i)).msg_hdr) };
    let special = flags & libc::MSG_OOB != 0 || (0..count.min(MAX_MESSAGES) as usize).any(special);
    if !(special && has(fd)) {
        // SAFETY: passed on.
        return sent(fd, unsafe { real::sendmmsg(fd, vec, count, quiet(flags)) } as isize, flags) as c_int;
    }
    let mut done = 0;
    let before = errno();
    // An error is told of the first alone.
    let ended = |done| match done {
        0 => -1,
        n => {
            set_errno(before);
            n
        }
    };
    for i in 0..count.min(MAX_MESSAGES) as usize {
        // SAFETY: the program vouches for `count` of them.
        let Ok(m) = (unsafe { ptr::value_mut(vec.wrapping_add(i)) }) else {
            set_errno(libc::EFAULT);
            return ended(done);
        };
        // SAFETY: it can be read.
        let n = unsafe { sendmsg(fd, &m.msg_hdr, flags) };
        if n == -1 {
            return ended(done);
        }
        m.msg_len = n as c_uint;
        done += 1;
        let parts = 0..m.msg_hdr.msg_iovlen;
        // SAFETY: the kernel has just read them.
        let len = parts.map(|i| unsafe { (*m.msg_hdr.msg_iov.add(i)).iov_len }).fold(0, usize::wrapping_add);
        if (n as usize) < len.min(MAX_BYTES) {
            break;
        }
    }
    done
}

/// recvmmsg(2). Where a message asks for a name, without it. Where one has no room they are received one by one, as the
/// kernel does: AF_UNIX drops an urgent byte that is next, or waits at it.
/// # Safety
/// As recvmmsg(2).
pub(crate) unsafe fn recvmmsg(
    fd: c_int,
    vec: *mut libc::mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    let (mut named, mut roomless) = (false, false);
    for i in 0..count.min(MAX_MESSAGES) as usize {
        let m = vec.wrapping_add(i);
        if probe::readable(m as usize, size_of::<libc::mmsghdr>()) {
            // SAFETY: it can be read, and the program vouches for the parts.
            let hdr = unsafe { &(*m).msg_hdr };
            named |= !hdr.msg_name.is_null();
            // SAFETY: as above.
            roomless |= unsafe { is_without_room(hdr) };
        }
    }
    let special = flags & libc::MSG_ERRQUEUE != 0 || named || roomless;
    if !(special && has(fd)) {
        // SAFETY: passed on.
        return received(fd, unsafe { real::recvmmsg(fd, vec, count, flags, timeout) } as isize, flags) as c_int;
    }
    if flags & libc::MSG_ERRQUEUE != 0 && count > 0 {
        return no_errors() as c_int;
    }
    if roomless {
        // SAFETY: passed on.
        return unsafe { receive_each(fd, vec, count.min(MAX_MESSAGES) as usize, flags, timeout) };
    }
    let mut rooms = [0; MAX_MESSAGES as usize];
    // SAFETY: the program vouches for `count` of them; the kernel says so of one that cannot be written.
    let message = |i| unsafe { ptr::value_mut(vec.wrapping_add(i)) };
    let mut known = 0;
    for room in rooms.iter_mut().take(count as usize) {
        let Ok(m) = message(known) else { break };
        *room = take_room(&mut m.msg_hdr);
        known += 1;
    }
    // SAFETY: the program's messages.
    let n = received(fd, unsafe { real::recvmmsg(fd, vec, count, flags, timeout) } as isize, flags) as c_int;
    for (i, room) in rooms.iter().enumerate().take(known) {
        if let Ok(m) = message(i) {
            give_room(&mut m.msg_hdr, *room, (i as c_int) < n);
        }
    }
    n
}

/// Receives messages one by one (do_recvmmsg).
/// # Safety
/// As recvmmsg(2).
unsafe fn receive_each(
    fd: c_int,
    vec: *mut libc::mmsghdr,
    count: usize,
    mut flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    let since = Instant::now();
    // The kernel looks at the timeout first; of no messages it looks at nothing more.
    // SAFETY: passed on.
    if received(fd, unsafe { real::recvmmsg(fd, vec, 0, flags, timeout) } as isize, flags) == -1 {
        return -1;
    }
    let (before, mut done) = (errno(), 0);
    // SAFETY: the kernel has read it, and the program vouches that it can be written.
    let timeout = unsafe { timeout.as_mut() };
    let asked = timeout.as_deref().map(|t| Duration::new(t.tv_sec as u64, t.tv_nsec as u32));
    let mut left = asked;
    while done < count {
        // What an earlier message has room for is told now, and the error behind it by the next call.
        if done > 0 && sys::queued(fd) == Ok(0) && sys::has_failed(fd) {
            break;
        }
        // SAFETY: the program vouches for `count` of them.
        let Ok(m) = (unsafe { ptr::value_mut(vec.wrapping_add(done)) }) else {
            set_errno(libc::EFAULT);
            break;
        };
        // SAFETY: it can be read and written.
        let n = unsafe { recvmsg(fd, &mut m.msg_hdr, flags & !libc::MSG_WAITFORONE) };
        if n == -1 {
            break;
        }
        m.msg_len = n as c_uint;
        done += 1;
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        left = asked.map(|asked| asked.saturating_sub(since.elapsed()));
        if left == Some(Duration::ZERO) || m.msg_hdr.msg_flags & libc::MSG_OOB != 0 {
            break;
        }
    }
    if done == 0 {
        return if count == 0 { 0 } else { -1 };
    }
    set_errno(before);
    if let (Some(timeout), Some(left)) = (timeout, left) {
        *timeout = libc::timespec { tv_sec: left.as_secs() as libc::time_t, tv_nsec: left.subsec_nanos().into() };
    }
    done as c_int
}
