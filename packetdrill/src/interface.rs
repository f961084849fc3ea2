//! What packetdrill calls: its `packetdrill_interface`, a table of functions in the order of packetdrill's C header,
//! and `packetdrill_interface_init`, which fills the table. The socket calls are those of the C ABI, on the stack of
//! `Instance`; time and packets are `time`'s and `device`'s. Above: packetdrill.

use crate::{Instance, instance};
use std::ffi::{CStr, c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void};
use std::ptr::null_mut;
use std::time::Duration;
use usersock_ffi::{boundary, epoll, fcntl, io, poll, ptr, socket, transfer};

type Addr = *const libc::sockaddr;
type AddrMut = *mut libc::sockaddr;
type Len = *mut libc::socklen_t;

/// Declares the table as packetdrill lays it out, and the functions that fill it, each around its body: `call` for what
/// a program would call and for packets, `clock` for time. `userdata` is not needed: a process has one stack under
/// test.
macro_rules! interface {
    ($($(#[$doc:meta])* $kind:ident fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty $body:block)*) => {
        /// packetdrill's `struct packetdrill_interface`.
        #[repr(C)]
        pub struct PacketdrillInterface {
            userdata: *mut c_void,
            free: unsafe extern "C" fn(*mut c_void),
            $($(#[$doc])* $name: unsafe extern "C" fn(*mut c_void, $($ty),*) -> $ret,)*
        }

        $($(#[$doc])* unsafe extern "C" fn $name(_: *mut c_void, $($arg: $ty),*) -> $ret {
            let Some(us) = instance() else {
                boundary::set_errno(libc::ENOSYS);
                return -1;
            };
            #[allow(unused_unsafe, reason = "some calls take no pointer")]
            // SAFETY: packetdrill passes on what a program would pass to the system call of this name.
            us.$kind(|| unsafe { $body })
        })*

        const TABLE: PacketdrillInterface = PacketdrillInterface { userdata: null_mut(), free, $($name,)* };
    };
}

/// The end of the run. The stack lives on: packetdrill may still close descriptors.
unsafe extern "C" fn free(_: *mut c_void) {}

interface! {
    call fn socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int { socket::usk_socket(domain, ty, protocol) }
    call fn bind(fd: c_int, addr: Addr, len: libc::socklen_t) -> c_int { socket::usk_bind(fd, addr, len) }
    call fn listen(fd: c_int, backlog: c_int) -> c_int { socket::usk_listen(fd, backlog) }
    call fn accept(fd: c_int, addr: AddrMut, len: Len) -> c_int { socket::usk_accept(fd, addr, len) }
    call fn connect(fd: c_int, addr: Addr, len: libc::socklen_t) -> c_int { socket::usk_connect(fd, addr, len) }
    call fn read(fd: c_int, buf: *mut c_void, len: usize) -> isize { io::usk_read(fd, buf, len) }
    call fn readv(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize { io::usk_readv(fd, iov, count) }
    call fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize { io::usk_recv(fd, buf, len, flags) }
    call fn recvfrom(fd: c_int, buf: *mut c_void, len: usize, flags: c_int, addr: AddrMut, alen: Len) -> isize {
        io::usk_recvfrom(fd, buf, len, flags, addr, alen)
    }
    call fn recvmsg(fd: c_int, msg: *mut libc::msghdr, flags: c_int) -> isize { io::usk_recvmsg(fd, msg, flags) }
    call fn write(fd: c_int, buf: *const c_void, len: usize) -> isize { io::usk_write(fd, buf, len) }
    call fn writev(fd: c_int, iov: *const libc::iovec, count: c_int) -> isize { io::usk_writev(fd, iov, count) }
    call fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize { io::usk_send(fd, buf, len, flags) }
    call fn sendto(
        fd: c_int, buf: *const c_void, len: usize, flags: c_int, addr: Addr, alen: libc::socklen_t
    ) -> isize {
        io::usk_sendto(fd, buf, len, flags, addr, alen)
    }
    call fn sendmsg(fd: c_int, msg: *const libc::msghdr, flags: c_int) -> isize { io::usk_sendmsg(fd, msg, flags) }
    /// Variadic in C. On Linux's calling conventions a variable integer or pointer is passed as a fixed one would be.
    call fn fcntl(fd: c_int, cmd: c_int, arg: c_long) -> c_int { fcntl::usk_fcntl(fd, cmd, arg) }
    /// As `fcntl`.
    call fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int { fcntl::usk_ioctl(fd, request, arg) }
    call fn close(fd: c_int) -> c_int { socket::usk_close(fd) }
    call fn shutdown(fd: c_int, how: c_int) -> c_int { socket::usk_shutdown(fd, how) }
    call fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: Len) -> c_int {
        socket::usk_getsockopt(fd, level, name, value, len)
    }
    call fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: libc::socklen_t) -> c_int {
        socket::usk_setsockopt(fd, level, name, value, len)
    }
    call fn poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
        poll::usk_poll(fds, count, timeout)
    }
    /// Injects a packet. 0, or -1 for what is no IP datagram.
    call fn netdev_send(datagram: *const c_void, len: usize) -> c_int { inject(datagram, len) }
    /// Sniffs the next packet that leaves the stack, moving time until one does. A count of 0 means that none will.
    call fn netdev_receive(buf: *mut c_void, len: *mut usize, time: *mut c_longlong) -> c_int {
        sniff(buf, len, time)
    }
    /// Moves time by that many microseconds.
    clock fn usleep(microseconds: c_uint) -> c_int { sleep_for(microseconds) }
    /// The wall clock of virtual time. When the main thread polls it, it moves by a microsecond each time.
    clock fn gettimeofday(time: *mut libc::timeval, _zone: *mut c_void) -> c_int { read_clock(time) }
    call fn epoll_create(size: c_int) -> c_int { epoll_create_sized(size) }
    call fn epoll_ctl(set: c_int, op: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int {
        epoll::usk_epoll_ctl(set, op, fd, event)
    }
    call fn epoll_wait(set: c_int, events: *mut libc::epoll_event, max: c_int, timeout: c_int) -> c_int {
        epoll::usk_epoll_wait(set, events, max, timeout)
    }
    /// The kernel's own pipes: they only carry what is spliced.
    call fn pipe(fds: *mut c_int) -> c_int { libc::pipe(fds) }
    call fn splice(
        from: c_int,
        off_in: *mut libc::loff_t,
        to: c_int,
        off_out: *mut libc::loff_t,
        len: usize,
        flags: c_uint
    ) -> isize {
        splice_at(from, off_in, to, off_out, len, flags)
    }
}

/// packetdrill's entry: makes the stack and fills the table. `flags` (`--so_flags`) is null, empty or `mss=N`, which
/// stands for packetdrill's own `--mss=N`: it does not pass that on. Ends the process with a message on failure.
///
/// # Safety
/// `interface` is writable; `flags` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, interface: *mut PacketdrillInterface) {
    // SAFETY: null or a string by the caller's word.
    let flags = if flags.is_null() { c"" } else { unsafe { CStr::from_ptr(flags) } };
    if let Err(message) = parse_flags(&flags.to_string_lossy()).and_then(Instance::start) {
        eprintln!("usersock: {message}");
        std::process::exit(1);
    }
    // SAFETY: writable by the caller's word.
    unsafe { interface.write(TABLE) };
}

/// The segment size of `mss=N`, zero without it.
fn parse_flags(flags: &str) -> Result<u16, String> {
    match flags.strip_prefix("mss=").map(str::parse) {
        None if flags.is_empty() => Ok(0),
        Some(Ok(mss)) if mss > 0 => Ok(mss),
        _ => Err(format!("--so_flags={flags}: only mss=N is known")),
    }
}

/// # Safety
/// `datagram` is null or readable for `len` bytes.
unsafe fn inject(datagram: *const c_void, len: usize) -> c_int {
    let Some(us) = instance() else { return -1 };
    // SAFETY: the caller's own promise.
    match unsafe { ptr::bytes(datagram, len) } {
        Ok(datagram) if us.inject(datagram) => 0,
        _ => -1,
    }
}

/// # Safety
/// `buf` is writable for `*len` bytes; `len` and `time` are null or point to what they say.
unsafe fn sniff(buf: *mut c_void, len: *mut usize, time: *mut c_longlong) -> c_int {
    // SAFETY: the caller's own promises.
    let (len, time) = unsafe { (ptr::value_mut(len), ptr::value_mut(time)) };
    let (Some(us), Ok(len), Ok(time)) = (instance(), len, time) else { return -1 };
    // SAFETY: writable for as many bytes by the caller's word.
    let Ok(buf) = (unsafe { ptr::bytes_mut(buf, *len) }) else { return -1 };
    *len = 0;
    match us.sniff() {
        Ok((micros, datagram)) => {
            // A packet longer than packetdrill's buffer is cut, as a read from a packet socket cuts it.
            let n = datagram.len().min(buf.len());
            buf[..n].copy_from_slice(&datagram[..n]);
            (*len, *time) = (n, micros);
        }
        // Not -1, with which packetdrill would retry forever. It treats an empty packet as an error.
        Err(message) => eprintln!("usersock: {message}"),
    }
    0
}

fn sleep_for(microseconds: c_uint) -> c_int {
    let Some(us) = instance() else { return -1 };
    us.sleep(Duration::from_micros(microseconds.into()));
    0
}

/// # Safety
/// `time` is null or points to a timeval.
unsafe fn read_clock(time: *mut libc::timeval) -> c_int {
    // SAFETY: the caller's own promise.
    let (Some(us), Ok(time)) = (instance(), unsafe { ptr::value_mut(time) }) else { return -1 };
    let micros = us.tell();
    *time = libc::timeval { tv_sec: micros / 1_000_000, tv_usec: micros % 1_000_000 };
    0
}

fn epoll_create_sized(size: c_int) -> c_int {
    if size <= 0 {
        boundary::set_errno(libc::EINVAL);
        return -1;
    }
    epoll::usk_epoll_create1(0)
}

/// packetdrill keeps the script's two pointers in variables of its own and passes those variables' addresses: the value
/// there is the pointer that the script wrote. Only null is valid; any other pointer is EFAULT.
///
/// # Safety
/// The offsets are null or point to loff_t.
unsafe fn splice_at(
    from: c_int,
    off_in: *mut libc::loff_t,
    to: c_int,
    off_out: *mut libc::loff_t,
    len: usize,
    flags: c_uint,
) -> isize {
    for offset in [off_in, off_out] {
        // SAFETY: the caller's own promise.
        if unsafe { offset.as_ref() }.is_some_and(|&pointer| pointer != 0) {
            boundary::set_errno(libc::EFAULT);
            return -1;
        }
    }
    // SAFETY: no pointers are passed.
    unsafe { transfer::usk_splice(from, null_mut(), to, null_mut(), len, flags) }
}

#[cfg(test)]
mod tests {
    use super::parse_flags;

    #[test]
    fn flags_are_a_segment_size_or_an_error() {
        assert_eq!((parse_flags(""), parse_flags("mss=1000")), (Ok(0), Ok(1000)));
        for flags in ["mss", "mss=", "mss=0", "mss=70000", "mtu=1500"] {
            assert!(parse_flags(flags).is_err(), "{flags}");
        }
    }
}
