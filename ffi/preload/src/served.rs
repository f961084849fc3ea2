//! Reading and writing where a stack server has the sockets. The kernel does it, on AF_UNIX; here is what a TCP socket
//! says otherwise. A call that succeeds costs nothing more, but where it has a name, control data or a flag that
//! AF_UNIX takes for something else. Above: `data`. Beside: `spliced`, `several`, `urgent`. Below:
//! `usersock_spliced::client`, `peek`.

use crate::data::real;
use crate::real::kernel;
use crate::spliced::{self, find, has};
use crate::urgent;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_uint, c_void};
use std::time::Instant;
use usersock::error::Error;
use usersock_ffi::boundary::{errno, set_errno};
use usersock_ffi::{probe, ptr};
use usersock_spliced::peek::Arrivals;
use usersock_spliced::{client, sys};

/// What a read with these flags returns, `r` being what the kernel did.
#[inline]
pub(crate) fn received(fd: c_int, r: isize, flags: c_int) -> isize {
    if r == -1 && matches!(errno(), libc::EINVAL | libc::ECONNRESET) {
        not_received(fd, flags);
    }
    r
}

/// A read was refused: of a socket without a connection (EINVAL), or since it has failed, which TCP says how. That
/// there is no urgent byte TCP says (EINVAL) before it looks for a connection, but of a listener.
#[cold]
fn not_received(fd: c_int, flags: c_int) {
    let kernels = errno();
    let error = find(fd).and_then(|(server, ours)| match kernels {
        libc::ECONNRESET => client::failure(server, fd, &ours, Error::ConnReset),
        _ if client::is_connected(fd) => None,
        _ if flags & libc::MSG_OOB != 0 && !client::listens(fd) => None,
        _ => Some(Error::NotConn),
    });
    set_errno(error.map_or(kernels, |error| error.errno()));
}

/// readv(2).
/// # Safety
/// As readv(2).
pub(crate) unsafe fn readv(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize {
    // SAFETY: passed on.
    let r = unsafe { real::readv(fd, iov, count) };
    // SAFETY: the program vouches for the parts.
    match r == -1 && errno() == libc::EINVAL && unsafe { room_in(iov, count as usize) }.is_none() {
        true => r,
        false => received(fd, r, 0),
    }
}

/// What sendfile(2) or splice(2) of so many bytes returns, `r` being what the kernel did.
pub(crate) fn transferred(from: c_int, to: c_int, len: usize, r: isize) -> isize {
    match errno() {
        _ if r != -1 => {}
        libc::ENOTCONN | libc::EPIPE => return wrote(to, r),
        libc::ECONNRESET => return received(from, r, 0),
        // A socket is read into a pipe alone.
        libc::EINVAL if isize::try_from(len).is_ok() => {
            let into_pipe = sys::is_pipe(to);
            set_errno(libc::EINVAL);
            if into_pipe {
                return received(from, r, 0);
            }
        }
        _ => {}
    }
    r
}

/// splice(2).
/// # Safety
/// As splice(2).
pub(crate) unsafe fn splice(
    from: c_int,
    off_in: *mut i64,
    to: c_int,
    off_out: *mut i64,
    len: usize,
    flags: c_uint,
) -> isize {
    const KNOWN: c_uint = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;
    // SAFETY: passed on.
    let r = unsafe { real::splice(from, off_in, to, off_out, len, flags) };
    // A socket has no offsets.
    let understood = flags & !KNOWN == 0 && off_in.is_null() && off_out.is_null();
    if understood { transferred(from, to, len, r) } else { r }
}

/// What a write returns, `r` being what the kernel did, by a call without flags: its EPIPE has come with SIGPIPE.
#[inline]
pub(crate) fn wrote(fd: c_int, r: isize) -> isize {
    if r == -1 && matches!(errno(), libc::ENOTCONN | libc::EPIPE) {
        not_sent(fd, errno() == libc::ENOTCONN);
    }
    r
}

/// What a send with these flags returns, `r` being what the kernel did with [`quiet`] ones.
#[inline]
pub(crate) fn sent(fd: c_int, r: isize, flags: c_int) -> isize {
    if r == -1 && matches!(errno(), libc::ENOTCONN | libc::EPIPE) {
        not_sent(fd, flags & libc::MSG_NOSIGNAL == 0);
    }
    r
}

/// The flags that the kernel is given: SIGPIPE is for here to raise, since an error that TCP tells first has none.
pub(crate) const fn quiet(flags: c_int) -> c_int {
    flags | libc::MSG_NOSIGNAL
}

/// A write was refused: of a socket without a connection (EPIPE of TCP, ENOTCONN of AF_UNIX), or of one that has
/// failed, which is told once (`sk_stream_error`). EPIPE raises SIGPIPE if it `signals`.
#[cold]
fn not_sent(fd: c_int, signals: bool) {
    let kernels = errno();
    let (error, raises) = match find(fd) {
        Some((server, ours)) if kernels == libc::EPIPE => {
            let error = client::failure(server, fd, &ours, Error::Pipe);
            (error.map_or(kernels, |error| error.errno()), true)
        }
        Some(_) => (libc::EPIPE, true),
        // A socket of the kernel's: a stream's EPIPE has it.
        None => (kernels, kernels == libc::EPIPE && sys::option(fd, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)),
    };
    if signals && raises && error == libc::EPIPE {
        raise_pipe();
    }
    set_errno(error);
}

/// A siginfo_t of SIGPIPE as the kernel sends it: as if by this process.
#[repr(C)]
struct Sender {
    signal: c_int,
    errno: c_int,
    code: c_int,
    _pad: c_int,
    process: c_int,
    user: c_uint,
    rest: [u64; 13],
}

const _: () = assert!(size_of::<Sender>() == size_of::<libc::siginfo_t>());

fn raise_pipe() {
    // SAFETY: no arguments; a signal to this thread, with a siginfo_t of this frame.
    unsafe {
        let (process, thread): (c_int, c_int) = (kernel!(SYS_getpid), kernel!(SYS_gettid));
        let user: c_int = kernel!(SYS_getuid);
        let (signal, code) = (libc::SIGPIPE, libc::SI_USER);
        let info = Sender { signal, errno: 0, code, _pad: 0, process, user: user as c_uint, rest: [0; 13] };
        let _: c_int = kernel!(SYS_rt_tgsigqueueinfo, process, thread, signal, &raw const info);
    }
}

/// MSG_FASTOPEN, with a name: connects. The SYN has no data, as one for which there is no cookie.
/// # Safety
/// `addr` is null or readable for `len` bytes.
unsafe fn connects(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> bool {
    if addr.is_null() {
        set_errno(if client::is_connected(fd) { libc::EISCONN } else { libc::EINVAL });
        return false;
    }
    // SAFETY: as the caller says.
    let family = unsafe { spliced::name(addr, len) }.ok().and_then(|bytes| bytes.first_chunk().copied());
    if family.map(u16::from_ne_bytes) == Some(libc::AF_UNSPEC as u16) {
        set_errno(libc::EOPNOTSUPP);
        return false;
    }
    // SAFETY: as the caller says.
    unsafe { spliced::connect(fd, addr, len) == 0 }
}

/// Flags of a write that AF_UNIX does not know, or does otherwise.
const SPECIAL: c_int = libc::MSG_FASTOPEN | libc::MSG_OOB;

/// send(2).
/// # Safety
/// `buf` is readable for `len` bytes.
pub(crate) unsafe fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
    if flags & SPECIAL != 0 {
        // SAFETY: passed on.
        return unsafe { sendto(fd, buf, len, flags, std::ptr::null(), 0) };
    }
    // SAFETY: passed on.
    sent(fd, unsafe { real::send(fd, buf, len, quiet(flags)) }, flags)
}

/// sendto(2), whose name a stream ignores.
/// # Safety
/// `buf` is readable for `len` bytes, `addr` for `alen`.
pub(crate) unsafe fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    addr: *const libc::sockaddr,
    alen: libc::socklen_t,
) -> isize {
    let special = !addr.is_null() || flags & SPECIAL != 0;
    if !(special && has(fd)) {
        // SAFETY: passed on.
        return sent(fd, unsafe { real::sendto(fd, buf, len, quiet(flags), addr, alen) }, flags);
    }
    // SAFETY: the program vouches for it.
    if let Err(e) = unsafe { spliced::name(addr, if addr.is_null() { 0 } else { alen }) } {
        set_errno(e.errno());
        return -1;
    }
    // SAFETY: as above.
    if flags & libc::MSG_FASTOPEN != 0 && !unsafe { connects(fd, addr, alen) } {
        return -1;
    }
    let plain = flags & !libc::MSG_FASTOPEN;
    if flags & libc::MSG_OOB != 0 {
        // SAFETY: passed on.
        return unsafe { urgent::send(fd, buf, len, plain) };
    }
    // SAFETY: passed on.
    sent(fd, unsafe { real::send(fd, buf, len, quiet(plain)) }, flags)
}

/// Whether a message has more than bytes.
/// # Safety
/// `hdr` is null or a msghdr.
pub(crate) unsafe fn is_more(hdr: *const libc::msghdr) -> bool {
    probe::readable(hdr as usize, size_of::<libc::msghdr>())
        // SAFETY: it can be read.
        && unsafe { !(*hdr).msg_name.is_null() || (*hdr).msg_controllen > 0 }
}

/// sendmsg(2). Its name and what TCP takes of its control data are left out.
/// # Safety
/// As sendmsg(2).
pub(crate) unsafe fn sendmsg(fd: c_int, hdr: *const libc::msghdr, flags: c_int) -> isize {
    let connecting = flags & libc::MSG_FASTOPEN != 0;
    let special = flags & SPECIAL != 0 && probe::readable(hdr as usize, size_of::<libc::msghdr>());
    // SAFETY: as the caller says.
    if !(special || unsafe { is_more(hdr) }) || !has(fd) {
        // SAFETY: passed on.
        return sent(fd, unsafe { real::sendmsg(fd, hdr, quiet(flags)) }, flags);
    }
    // SAFETY: it can be read.
    let mut plain = unsafe { *hdr };
    let room = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let len = if plain.msg_name.is_null() { 0 } else { plain.msg_namelen };
    // What cannot be a name is left: the kernel says so.
    // SAFETY: the program vouches for the name.
    if len as c_int >= 0 && unsafe { ptr::bytes(plain.msg_name, len.min(room) as usize) }.is_ok() {
        // SAFETY: as above.
        if connecting && !unsafe { connects(fd, plain.msg_name.cast(), len) } {
            return -1;
        }
        (plain.msg_name, plain.msg_namelen) = (std::ptr::null_mut(), 0);
    }
    // SAFETY: the program vouches for the control data.
    match unsafe { ptr::bytes(plain.msg_control, plain.msg_controllen) } {
        Ok(control) if client::tcp_takes(control) => {
            (plain.msg_control, plain.msg_controllen) = (std::ptr::null_mut(), 0);
        }
        Ok(_) => return refused(fd, &plain, flags),
        // The kernel says so.
        // SAFETY: passed on.
        Err(_) => return unsafe { real::sendmsg(fd, &plain, quiet(flags)) },
    }
    if flags & libc::MSG_OOB != 0 {
        // SAFETY: the program's message without its name.
        return unsafe { urgent::sendmsg(fd, &plain, flags & !libc::MSG_FASTOPEN) };
    }
    // SAFETY: as above.
    sent(fd, unsafe { real::sendmsg(fd, &plain, quiet(flags & !libc::MSG_FASTOPEN)) }, flags)
}

/// Control data that TCP refuses (EINVAL): of a socket that cannot send it says before why that is, and what is wrong
/// with the message before that (EMSGSIZE, EFAULT, EINVAL).
fn refused(fd: c_int, message: &libc::msghdr, flags: c_int) -> isize {
    // SAFETY: no bytes.
    let unable = || unsafe { real::send(fd, std::ptr::null(), 0, quiet(flags & libc::MSG_DONTWAIT)) } == -1;
    // SAFETY: the program vouches for the parts.
    if unsafe { room_in(message.msg_iov, message.msg_iovlen) }.is_none() {
        // SAFETY: passed on.
        return unsafe { real::sendmsg(fd, message, quiet(flags)) };
    }
    if unable() {
        return sent(fd, -1, flags);
    }
    if sys::hung_up(fd) {
        set_errno(libc::EPIPE);
        return sent(fd, -1, flags);
    }
    set_errno(libc::EINVAL);
    -1
}

/// Messages of one sendmmsg(2), and parts of one, at most (UIO_MAXIOV).
pub(crate) const MAX_MESSAGES: c_uint = 1024;

/// Flags of a read that AF_UNIX does not know, or takes for something else.
fn is_otherwise(flags: c_int) -> bool {
    const ALL: c_int = libc::MSG_PEEK | libc::MSG_WAITALL;
    flags & (libc::MSG_ERRQUEUE | libc::MSG_TRUNC) != 0 || flags & ALL == ALL
}

/// What a read of the error queue says: nothing comes there, since options that bring something are refused. AF_UNIX
/// would take the stream's bytes.
pub(crate) fn no_errors() -> isize {
    set_errno(libc::EAGAIN);
    -1
}

/// Memory that bytes are written to which nobody wants.
struct Sink(UnsafeCell<[u8; Sink::LEN]>);

// SAFETY: the kernel alone writes to it, in whatever order, and nobody reads it.
unsafe impl Sync for Sink {}

impl Sink {
    const LEN: usize = 64 << 10;
}

static SINK: Sink = Sink(UnsafeCell::new([0; Sink::LEN]));

/// A read of at most `len` bytes that are not copied (MSG_TRUNC).
/// # Safety
/// As recv(2).
unsafe fn discard(fd: c_int, len: usize, flags: c_int) -> isize {
    let mut left = len;
    let mut parts = [libc::iovec { iov_base: SINK.0.get().cast(), iov_len: 0 }; 64];
    for part in &mut parts {
        part.iov_len = left.min(Sink::LEN);
        left -= part.iov_len;
    }
    // SAFETY: an all-zero msghdr has no name, no data, no control.
    let mut hdr: libc::msghdr = unsafe { std::mem::zeroed() };
    (hdr.msg_iov, hdr.msg_iovlen) = (parts.as_mut_ptr(), parts.len());
    // SAFETY: the parts are of the sink, which lives as long as the process.
    unsafe { real::recvmsg(fd, &mut hdr, flags & !libc::MSG_TRUNC) }
}

/// A read with flags of [`is_otherwise`] of at most `len` bytes by `read`, which is given the flags.
fn read_otherwise(fd: c_int, len: usize, flags: c_int, read: impl Fn(c_int) -> isize) -> isize {
    if flags & libc::MSG_ERRQUEUE != 0 {
        return no_errors();
    }
    let read = |flags: c_int| match flags & libc::MSG_TRUNC {
        0 => read(flags),
        // SAFETY: the sink has room for what is read.
        _ => unsafe { discard(fd, len, flags) },
    };
    let waits = flags & libc::MSG_PEEK != 0 && flags & (libc::MSG_WAITALL | libc::MSG_DONTWAIT) == libc::MSG_WAITALL;
    let since = Instant::now();
    let mut n = received(fd, read(flags), flags);
    // Where peeks begin behind what was peeked at, the next does not begin with the same bytes.
    if !waits || n <= 0 || sys::nonblocking(fd) != Ok(false) || sys::option(fd, libc::SO_PEEK_OFF) != Ok(-1) {
        return n;
    }
    let before = errno();
    let Ok(arrivals) = Arrivals::new(fd, since) else { return n };
    while (n as usize) < len {
        // What is there already, and was not seen, is behind an urgent byte.
        let seen = sys::queued(fd).is_ok_and(|queued| queued <= n as usize);
        let more = !seen || arrivals.wait();
        let now = read(flags | libc::MSG_DONTWAIT);
        if now <= 0 || !seen && now == n {
            // Another has read the bytes meanwhile; or a look ends there.
            break;
        }
        n = now;
        if !more {
            break;
        }
    }
    set_errno(before);
    n
}

/// recv(2).
/// # Safety
/// `buf` is writable for `len` bytes.
pub(crate) unsafe fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    // SAFETY: passed on.
    let read = |flags| unsafe { real::recv(fd, buf, len, flags) };
    if (is_otherwise(flags) || len == 0) && has(fd) {
        if len == 0 && is_over_at_once(fd, flags) {
            return 0;
        }
        return of_nothing(fd, read_otherwise(fd, len, of_few(len, flags), read), len, flags);
    }
    received(fd, read(flags), flags)
}

/// Whether a read of no bytes has nothing to wait for, because there are some. AF_UNIX would wait where an urgent byte
/// is next, or where peeks begin behind all that is there.
fn is_over_at_once(fd: c_int, flags: c_int) -> bool {
    flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) == 0 && !looks_on(fd, flags) && has_bytes(fd)
}

/// Whether there are bytes that no read has passed, an urgent one among them that was read by MSG_OOB. FIONREAD does
/// not count that, and goes on to count an urgent byte that a read has passed (seen with Linux 6.18).
fn has_bytes(fd: c_int) -> bool {
    sys::queued(fd).is_ok_and(|queued| queued > 0 && sys::is_readable(fd) || sys::at_mark(fd))
}

/// Whether a read is a peek that may begin behind what is there (SO_PEEK_OFF).
fn looks_on(fd: c_int, flags: c_int) -> bool {
    flags & libc::MSG_PEEK != 0 && sys::option(fd, libc::SO_PEEK_OFF) != Ok(-1)
}

/// The flags of a read of `len` bytes. One of no bytes is a look, since AF_UNIX drops an urgent byte that is next.
fn of_few(len: usize, flags: c_int) -> c_int {
    if len == 0 && flags & libc::MSG_OOB == 0 { flags | libc::MSG_PEEK } else { flags }
}

/// What a read of `len` bytes says that gave `n`. One of no bytes waits for the first of them, until its time is over
/// or a signal comes: TCP has read what was asked for then. Where an urgent byte is next AF_UNIX does not say that
/// there is one.
fn of_nothing(fd: c_int, n: isize, len: usize, flags: c_int) -> isize {
    if n != -1 || len > 0 || flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) != 0 {
        return n;
    }
    let why = errno();
    let waited = || flags & libc::MSG_DONTWAIT == 0 && sys::nonblocking(fd) == Ok(false);
    let has_some = || why == libc::EAGAIN && has_bytes(fd) && !looks_on(fd, flags);
    let is_read = matches!(why, libc::EAGAIN | libc::EINTR) && has(fd) && (waited() || has_some());
    set_errno(why);
    if is_read { 0 } else { n }
}

/// recvfrom(2). A stream has no name to give.
/// # Safety
/// `buf` is writable for `len` bytes; `addr` and `alen` are as recvfrom(2) has them.
pub(crate) unsafe fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    addr: *mut libc::sockaddr,
    alen: *mut libc::socklen_t,
) -> isize {
    if addr.is_null() {
        // SAFETY: passed on.
        return unsafe { recv(fd, buf, len, flags) };
    }
    // SAFETY: the program vouches for it. What the kernel refuses, it refuses of a name of AF_UNIX, too.
    let given = unsafe { ptr::value_mut(alen) }.ok().filter(|given| **given as c_int >= 0 && has(fd));
    let Some(given) = given else {
        if flags & libc::MSG_ERRQUEUE != 0 && has(fd) {
            return no_errors();
        }
        // SAFETY: passed on.
        return received(fd, unsafe { real::recvfrom(fd, buf, len, flags, addr, alen) }, flags);
    };
    // SAFETY: passed on.
    let n = unsafe { recv(fd, buf, len, flags) };
    if n >= 0 {
        *given = 0;
    }
    n
}

/// The bytes that parts have room for. None: the kernel is to say what is wrong with them.
/// # Safety
/// The program vouches for the parts.
pub(crate) unsafe fn room_in(iov: *const libc::iovec, count: usize) -> Option<usize> {
    if count > MAX_MESSAGES as usize {
        return None;
    }
    // SAFETY: as the caller says.
    let bytes = unsafe { ptr::bytes(iov.cast(), count * size_of::<libc::iovec>()) }.ok()?;
    bytes.chunks_exact(size_of::<libc::iovec>()).try_fold(0usize, |sum, part| {
        // SAFETY: as many bytes as an iovec has.
        let len = unsafe { part.as_ptr().cast::<libc::iovec>().read_unaligned() }.iov_len;
        (isize::try_from(len).is_ok()).then_some(sum.saturating_add(len))
    })
}

/// The bytes that a message has room for. None: the kernel is to say what is wrong with it.
/// # Safety
/// `hdr` is one whose parts the program vouches for.
unsafe fn room_of(hdr: &libc::msghdr) -> Option<usize> {
    if !hdr.msg_name.is_null() && (hdr.msg_namelen as c_int) < 0 {
        return None;
    }
    // SAFETY: as the caller says.
    unsafe { room_in(hdr.msg_iov, hdr.msg_iovlen) }
}

/// Whether a message has parts, all of which can be read, and room for no byte. Looks no further than at the first part
/// that has some.
/// # Safety
/// As [`room_of`].
pub(crate) unsafe fn is_without_room(hdr: &libc::msghdr) -> bool {
    let first = hdr.msg_iov;
    let has_room = hdr.msg_iovlen > 0
        && probe::readable(first as usize, size_of::<libc::iovec>())
        // SAFETY: it can be read.
        && unsafe { first.read_unaligned() }.iov_len > 0;
    // SAFETY: as the caller says.
    !has_room && unsafe { room_of(hdr) } == Some(0)
}

/// Takes the room for a name out of a message, so that the kernel writes none; gives what it was. What the kernel
/// refuses (less than 0) stays.
pub(crate) fn take_room(hdr: &mut libc::msghdr) -> libc::socklen_t {
    let room = hdr.msg_namelen;
    if !hdr.msg_name.is_null() {
        hdr.msg_namelen = (room as c_int).min(0) as libc::socklen_t;
    }
    room
}

/// Afterwards: a message of a stream has a name of no bytes, one that was not received its room.
pub(crate) fn give_room(hdr: &mut libc::msghdr, room: libc::socklen_t, received: bool) {
    hdr.msg_namelen = if received && !hdr.msg_name.is_null() { 0 } else { room };
}

/// recvmsg(2). A stream has no name to give.
/// # Safety
/// As recvmsg(2).
pub(crate) unsafe fn recvmsg(fd: c_int, hdr: *mut libc::msghdr, flags: c_int) -> isize {
    let readable = || probe::readable(hdr as usize, size_of::<libc::msghdr>());
    // SAFETY: it can be read.
    let of_it = |hdr: &libc::msghdr| !hdr.msg_name.is_null() || unsafe { is_without_room(hdr) };
    // SAFETY: as above.
    let special = is_otherwise(flags) || readable() && of_it(unsafe { &*hdr });
    if !(special && has(fd) && readable()) {
        // SAFETY: passed on.
        let r = unsafe { real::recvmsg(fd, hdr, flags) };
        // SAFETY: it can be read where the kernel could.
        let room = || readable().then(|| unsafe { room_of(&*hdr) }).flatten();
        return match (r == -1).then(errno) {
            Some(libc::EINVAL) if readable() && room().is_none() => r,
            Some(libc::EAGAIN | libc::EINTR) => {
                let n = of_nothing(fd, r, room().unwrap_or(1), flags);
                if n == 0 {
                    // SAFETY: the kernel has read it, and the program vouches that it can be written.
                    unsafe { ((*hdr).msg_controllen, (*hdr).msg_flags) = (0, 0) };
                }
                n
            }
            _ => received(fd, r, flags),
        };
    }
    // SAFETY: it can be read, and the program vouches that it can be written.
    let hdr = unsafe { &mut *hdr };
    let room = take_room(hdr);
    let asked = *hdr;
    let at = &raw mut *hdr;
    // SAFETY: the program's message, as it was given.
    let read = |flags| unsafe {
        *at = asked;
        real::recvmsg(fd, at, flags)
    };
    // SAFETY: as above.
    let n = match unsafe { room_of(&asked) } {
        None => read(flags),
        Some(len) if is_otherwise(flags) || len == 0 => {
            let n = match len == 0 && is_over_at_once(fd, flags) {
                true => 0,
                false => of_nothing(fd, read_otherwise(fd, len, of_few(len, flags), read), len, flags),
            };
            if n == 0 || n > 0 && flags & libc::MSG_TRUNC != 0 {
                // SAFETY: as above.
                unsafe { ((*at).msg_controllen, (*at).msg_flags) = (0, 0) };
            }
            n
        }
        Some(_) => received(fd, read(flags), flags),
    };
    // SAFETY: as above.
    give_room(unsafe { &mut *at }, room, n >= 0);
    n
}
