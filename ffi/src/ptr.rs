//! Checked pointers: from what a C program passes to slices, addresses and values. Bad ones are EFAULT, as far as
//! `probe` detects them.

use crate::probe;
use smallvec::SmallVec;
use std::ffi::{CStr, c_char, c_void};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr::NonNull;
use usersock::error::{Error, Result};
use usersock::internal::sock::{AF_INET6, SIN6_LEN_RFC2133};
use usersock::net::Socket;
use usersock::sock::msg::{OddName, SendMsg};

/// Most bytes one call transfers (MAX_RW_COUNT).
pub(crate) const MAX_RW_COUNT: usize = 0x7fff_f000;

/// Bytes to read from. A bad pointer with a length is EFAULT; a length above MAX_RW_COUNT is cut to it, as the kernel
/// does.
/// # Safety
/// `buf` is null or readable for `len` bytes while `'a` lasts.
pub unsafe fn bytes<'a>(buf: *const c_void, len: usize) -> Result<&'a [u8]> {
    let len = len.min(MAX_RW_COUNT);
    if len == 0 {
        return Ok(&[]);
    }
    if !probe::readable(buf as usize, len) {
        return Err(Error::Fault);
    }
    // SAFETY: not null, readable for `len` bytes as the caller guarantees, and `len` is below isize::MAX.
    Ok(unsafe { std::slice::from_raw_parts(buf.cast(), len) })
}

/// Bytes to write to.
/// # Safety
/// `buf` is null or writable for `len` bytes while `'a` lasts, and nobody else uses them.
pub unsafe fn bytes_mut<'a>(buf: *mut c_void, len: usize) -> Result<&'a mut [u8]> {
    let len = len.min(MAX_RW_COUNT);
    if len == 0 {
        return Ok(&mut []);
    }
    if !probe::writable(buf as usize, len) {
        return Err(Error::Fault);
    }
    // SAFETY: as in `bytes`, and exclusively ours as the caller guarantees.
    Ok(unsafe { std::slice::from_raw_parts_mut(buf.cast(), len) })
}

/// An option's value, as much of `len` bytes as can be read, but at least an int: what no option needs the kernel does
/// not read. EFAULT.
/// # Safety
/// `value` is null or readable for `len` bytes while `'a` lasts, as far as `probe` says so.
pub unsafe fn option_value<'a>(value: *const c_void, len: usize) -> Result<&'a [u8]> {
    let there = probe::readable_bytes(value as usize, len);
    if there < len.min(size_of::<i32>()) {
        return Err(Error::Fault);
    }
    // SAFETY: readable for so many.
    unsafe { bytes(value, there) }
}

/// A value behind a pointer.
/// # Safety
/// `p` is null or points to a `T` that lives for `'a`.
pub unsafe fn value<'a, T>(p: *const T) -> Result<&'a T> {
    if !probe::readable(p as usize, size_of::<T>()) {
        return Err(Error::Fault);
    }
    // SAFETY: the caller vouches for the object; null is refused.
    unsafe { p.as_ref() }.ok_or(Error::Fault)
}

/// A value behind a pointer, to be changed.
/// # Safety
/// As `value`, and nobody else uses it.
pub unsafe fn value_mut<'a, T>(p: *mut T) -> Result<&'a mut T> {
    if !probe::writable(p as usize, size_of::<T>()) {
        return Err(Error::Fault);
    }
    // SAFETY: as in `value`.
    unsafe { p.as_mut() }.ok_or(Error::Fault)
}

/// A C string as UTF-8; EFAULT for null, EINVAL for other bytes.
/// # Safety
/// `p` is null or a NUL-terminated string.
pub unsafe fn string<'a>(p: *const c_char) -> Result<&'a str> {
    if !probe::readable(p as usize, 1) {
        return Err(Error::Fault);
    }
    // SAFETY: NUL-terminated as the caller guarantees.
    unsafe { CStr::from_ptr(p) }.to_str().map_err(|_| Error::Inval)
}

/// Checks an iovec array: EINVAL for a bad count (the message calls return EMSGSIZE instead) or a length above
/// SSIZE_MAX.
unsafe fn check_iovecs<'a>(iov: *const libc::iovec, count: usize) -> Result<&'a [libc::iovec]> {
    if count > 1024 {
        return Err(Error::Inval);
    }
    if count == 0 {
        return Ok(&[]);
    }
    if !probe::readable(iov as usize, count * size_of::<libc::iovec>()) {
        return Err(Error::Fault);
    }
    // SAFETY: `count` iovecs are readable as the caller guarantees.
    let list = unsafe { std::slice::from_raw_parts(iov, count) };
    let mut total = 0usize;
    for v in list {
        if v.iov_len > isize::MAX as usize {
            return Err(Error::Inval);
        }
        total = total.checked_add(v.iov_len).ok_or(Error::Inval)?;
    }
    Ok(list)
}

/// The buffer of a send, which is probed when bytes are copied (`SendMsg::probed`). EFAULT for an address outside user
/// space; null, of which no slice can be made, becomes another address that fails the probe.
/// # Safety
/// `buf` is readable for `len` bytes while `'a` lasts, as far as `probe` says so.
pub unsafe fn to_read<'a>(buf: *const c_void, len: usize) -> Result<&'a [u8]> {
    let len = len.min(MAX_RW_COUNT);
    if probe::foreign(buf as usize, len) {
        return Err(Error::Fault);
    }
    let buf = if buf.is_null() { NonNull::dangling().as_ptr() } else { buf.cast_mut().cast::<u8>() };
    // SAFETY: not null, and read only where `probe` finds it good.
    Ok(unsafe { std::slice::from_raw_parts(buf, len) })
}

/// The buffer of a receive, as [`to_read`] (`RecvMsg::probed`).
/// # Safety
/// `buf` is writable for `len` bytes while `'a` lasts, as far as `probe` says so, and nobody else uses them.
pub unsafe fn to_write<'a>(buf: *mut c_void, len: usize) -> Result<&'a mut [u8]> {
    let len = len.min(MAX_RW_COUNT);
    if probe::foreign(buf as usize, len) {
        return Err(Error::Fault);
    }
    let buf = if buf.is_null() { NonNull::dangling().as_ptr() } else { buf.cast::<u8>() };
    // SAFETY: not null, and written only where `probe` finds it good; exclusively ours as the caller guarantees.
    Ok(unsafe { std::slice::from_raw_parts_mut(buf, len) })
}

/// Buffers to read from, as [`to_read`].
/// # Safety
/// `iov` is null or `count` iovecs, each as for [`to_read`].
pub unsafe fn io_slices<'a>(iov: *const libc::iovec, count: usize) -> Result<SmallVec<[IoSlice<'a>; 8]>> {
    // SAFETY: passed on.
    let list = unsafe { check_iovecs(iov, count) }?;
    // SAFETY: as the caller guarantees.
    list.iter().map(|v| unsafe { to_read(v.iov_base, v.iov_len) }.map(IoSlice::new)).collect()
}

/// Buffers to write to, as [`to_write`].
/// # Safety
/// `iov` is null or `count` iovecs, each as for [`to_write`] and not overlapping.
pub unsafe fn io_slices_mut<'a>(iov: *const libc::iovec, count: usize) -> Result<SmallVec<[IoSliceMut<'a>; 8]>> {
    // SAFETY: passed on.
    let list = unsafe { check_iovecs(iov, count) }?;
    // SAFETY: as the caller guarantees.
    list.iter().map(|v| unsafe { to_write(v.iov_base, v.iov_len) }.map(IoSliceMut::new)).collect()
}

/// A socket address from C; None for AF_UNSPEC. EINVAL for a short one, EAFNOSUPPORT for another family, EFAULT for
/// null.
/// # Safety
/// `addr` is null or readable for `len` bytes.
pub unsafe fn sockaddr(addr: *const libc::sockaddr, len: libc::socklen_t) -> Result<Option<SocketAddr>> {
    let len = len as usize;
    if len > size_of::<libc::sockaddr_storage>() {
        return Err(Error::Inval);
    }
    if !probe::readable(addr as usize, len.max(1)) {
        return Err(if len == 0 { Error::Inval } else { Error::Fault });
    }
    if !(2..=size_of::<libc::sockaddr_storage>()).contains(&len) {
        return Err(Error::Inval);
    }
    // SAFETY: at least two bytes are readable.
    let b: &[u8] = unsafe { std::slice::from_raw_parts(addr.cast(), len) };
    let be16 = |i: usize| u16::from_be_bytes([b[i], b[i + 1]]);
    match u16::from_ne_bytes([b[0], b[1]]) as i32 {
        libc::AF_UNSPEC => Ok(None),
        libc::AF_INET => {
            if len < size_of::<libc::sockaddr_in>() {
                return Err(Error::Inval);
            }
            Ok(Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(b[4], b[5], b[6], b[7]), be16(2)))))
        }
        libc::AF_INET6 => {
            // SIN6_LEN_RFC2133: a structure without scope is accepted.
            if len < SIN6_LEN_RFC2133 {
                return Err(Error::Inval);
            }
            let mut ip = [0u8; 16];
            ip.copy_from_slice(&b[8..24]);
            let flow = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
            let scope = b.get(24..28).map_or(0, |s| u32::from_ne_bytes([s[0], s[1], s[2], s[3]]));
            Ok(Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), be16(2), flow, scope))))
        }
        _ => Err(Error::AfNoSupport),
    }
}

/// Least length of a name of AF_INET6 for a socket: a whole structure for a ping socket (ping_check_bind_addr,
/// ping_v6_sendmsg), one without scope for others.
pub fn least_v6(s: &Socket) -> usize {
    match (i32::from(s.sock().ty), i32::from(s.sock().protocol)) {
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6) => size_of::<libc::sockaddr_in6>(),
        _ => SIN6_LEN_RFC2133,
    }
}

/// A name that a program gives: an address, or what the protocol makes of other bytes. Of AF_INET6 at least `least_v6`
/// bytes make an address. EINVAL: longer than any name; EFAULT: not readable.
/// # Safety
/// As [`sockaddr`].
pub unsafe fn name(
    addr: *const libc::sockaddr,
    len: libc::socklen_t,
    least_v6: usize,
) -> Result<std::result::Result<SocketAddr, OddName>> {
    let n = len as usize;
    if n > size_of::<libc::sockaddr_storage>() {
        return Err(Error::Inval);
    }
    // SAFETY: the caller vouches for `addr` and `len`.
    let b = unsafe { bytes(addr.cast(), n) }?;
    // SAFETY: as above.
    if n > 0
        && let Ok(Some(a)) = unsafe { sockaddr(addr, len) }
        && (a.is_ipv4() || n >= least_v6)
    {
        return Ok(Ok(a));
    }
    Ok(Err(odd(b)))
}

/// The bytes of a name as they may be read.
pub(crate) fn odd(b: &[u8]) -> OddName {
    let mut whole = [0; size_of::<libc::sockaddr_in6>()];
    let n = b.len().min(whole.len());
    whole[..n].copy_from_slice(&b[..n]);
    let (family, port) = (u16::from_ne_bytes([whole[0], whole[1]]), u16::from_be_bytes([whole[2], whole[3]]));
    let word = |i: usize| [whole[i], whole[i + 1], whole[i + 2], whole[i + 3]];
    let mut ip6 = [0; 16];
    ip6.copy_from_slice(&whole[8..24]);
    let inet6 = SocketAddrV6::new(ip6.into(), port, u32::from_be_bytes(word(4)), u32::from_ne_bytes(word(24)));
    OddName { family, len: b.len(), inet: SocketAddrV4::new(word(4).into(), port), inet6 }
}

/// The name to bind `s` to. EINVAL for too few bytes, EAFNOSUPPORT for another family, EFAULT.
/// # Safety
/// As [`sockaddr`].
pub unsafe fn bind_name(s: &Socket, addr: *const libc::sockaddr, len: libc::socklen_t) -> Result<SocketAddr> {
    let (family, least) = match s.sock().family == AF_INET6 {
        true => (libc::AF_INET6, least_v6(s)),
        false => (libc::AF_INET, size_of::<libc::sockaddr_in>()),
    };
    // SAFETY: the caller vouches for `addr` and `len`.
    Ok(match unsafe { name(addr, len, least) }? {
        _ if (len as usize) < least => return Err(Error::Inval),
        // Raw sockets of IPv4 do not look at the family (raw_bind); those of IPv6 have EINVAL for another.
        name if s.sock().ty == libc::SOCK_RAW as u16 => match (name, family) {
            (Ok(SocketAddr::V6(a)), libc::AF_INET) => odd(&sockaddr_bytes(a.into())).inet.into(),
            (Err(odd), libc::AF_INET) => odd.inet.into(),
            (Ok(a), _) if a.is_ipv6() == (family == libc::AF_INET6) => a,
            _ => return Err(Error::Inval),
        },
        Ok(a) => a,
        // AF_UNSPEC with the IPv4 wildcard counts as AF_INET, for old programs (as in Linux).
        Err(odd)
            if family == libc::AF_INET
                && i32::from(odd.family) == libc::AF_UNSPEC
                && odd.inet.ip().is_unspecified() =>
        {
            odd.inet.into()
        }
        Err(_) => return Err(Error::AfNoSupport),
    })
}

/// The name to connect `s` to; None is AF_UNSPEC. EINVAL, EFAULT; what is no address the socket refuses in its turn.
/// # Safety
/// As [`sockaddr`].
pub unsafe fn connect_name(
    s: &Socket,
    addr: *const libc::sockaddr,
    len: libc::socklen_t,
) -> Result<std::result::Result<Option<SocketAddr>, OddName>> {
    // As most are: of IPv4, for a socket of it.
    const SIN_LEN: usize = size_of::<libc::sockaddr_in>();
    if i32::from(s.sock().family) == libc::AF_INET
        && (SIN_LEN..=size_of::<libc::sockaddr_storage>()).contains(&(len as usize))
        // SAFETY: the caller vouches for `addr` and `len`.
        && let Ok([f0, f1, p0, p1, a, b, c, d, ..]) = unsafe { bytes(addr.cast(), len as usize) }
        && i32::from(u16::from_ne_bytes([*f0, *f1])) == libc::AF_INET
    {
        let (ip, port) = (Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*p0, *p1]));
        return Ok(Ok(Some(SocketAddrV4::new(ip, port).into())));
    }
    // SAFETY: the caller vouches for `addr` and `len`.
    Ok(match unsafe { name(addr, len, SIN6_LEN_RFC2133) }? {
        _ if len < 2 => return Err(Error::Inval),
        // IPv4's name is too short for a stream of IPv6 before it is of another family (tcp_v6_connect).
        Ok(SocketAddr::V4(inet)) if s.sock().family == AF_INET6 && s.sock().proto().is_stream() => {
            Err(OddName { len: len as usize, ..odd(&sockaddr_bytes(inet.into())) })
        }
        Ok(a) => Ok(Some(a)),
        Err(odd) if i32::from(odd.family) == libc::AF_UNSPEC => Ok(None),
        Err(odd) => Err(odd),
    })
}

/// The destination of a send (msg_name), as [`name`]. No bytes are no name.
/// # Safety
/// As [`sockaddr`].
pub unsafe fn destination(
    addr: *const libc::sockaddr,
    len: libc::socklen_t,
    s: &Socket,
    msg: &mut SendMsg<'_>,
) -> Result<()> {
    let sock = s.sock();
    let ping = sock.protocol == libc::IPPROTO_ICMPV6 as u16;
    let v6_only = sock.family == AF_INET6 && (sock.ty == libc::SOCK_RAW as u16 || ping);
    // SAFETY: the caller's promises.
    match unsafe { name(addr, len, least_v6(s)) }? {
        // A raw or ping socket of IPv6 sees of it that it is too short, or else of another family.
        Ok(a) if v6_only && a.is_ipv4() => {
            msg.odd_name = Some(OddName { len: len as usize, ..odd(&sockaddr_bytes(a)) });
        }
        Ok(a) => msg.name = Some(a),
        Err(odd) => msg.odd_name = Some(odd),
    }
    Ok(())
}

/// An address as C bytes (sockaddr_in or sockaddr_in6).
pub fn sockaddr_bytes(a: SocketAddr) -> Vec<u8> {
    match a {
        SocketAddr::V4(v4) => {
            let mut b = vec![0u8; size_of::<libc::sockaddr_in>()];
            b[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            b[2..4].copy_from_slice(&v4.port().to_be_bytes());
            b[4..8].copy_from_slice(&v4.ip().octets());
            b
        }
        SocketAddr::V6(v6) => {
            let mut b = vec![0u8; size_of::<libc::sockaddr_in6>()];
            b[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            b[2..4].copy_from_slice(&v6.port().to_be_bytes());
            b[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            b[8..24].copy_from_slice(&v6.ip().octets());
            b[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            b
        }
    }
}

/// Writes an address back, unless `addr` is null.
/// # Safety
/// As [`put_name`].
pub unsafe fn put_sockaddr(a: Option<SocketAddr>, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> Result<()> {
    if addr.is_null() {
        return Ok(());
    }
    // SAFETY: passed on.
    unsafe { put_name(a, addr, len) }
}

/// Writes an address back: as much as fits, and the true length. With `*len` 0 `addr` is not used.
/// # Safety
/// `addr` is null or writable for `*len` bytes; `len` is null or points to a socklen_t.
pub unsafe fn put_name(a: Option<SocketAddr>, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> Result<()> {
    // SAFETY: the caller vouches for `len`.
    let len = unsafe { value_mut(len) }?;
    if *len as i32 <= -1 {
        return Err(Error::Inval);
    }
    let b = a.map(sockaddr_bytes).unwrap_or_default();
    let n = b.len().min(*len as usize);
    // SAFETY: `addr` is writable for `*len` bytes, and `n` is no more.
    unsafe { bytes_mut(addr.cast(), n) }?.copy_from_slice(&b[..n]);
    *len = b.len() as libc::socklen_t;
    Ok(())
}
