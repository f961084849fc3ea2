//! SOL_SOCKET options, for every protocol. Above: `inet::Socket`. Values are the C structures' bytes in host order.
//! Linux: net/core/sock.c sk_setsockopt, sk_getsockopt, with the same ranges and clamps.

use super::addr::{AF_INET, AF_INET6, to_family};
use super::mem::{SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF};
use super::proto::SockRef;
use super::{Sock, SockCommon, SockGuard, flag, more, tstamp};
use super::{filter, reuseport};
use crate::base::env::WaitLimit;
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::wire::addr::is_link_local_v6;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Reads an int option value; EINVAL when shorter than an int.
pub fn int(value: &[u8]) -> Result<i32> {
    let b: [u8; 4] = value.get(..4).and_then(|b| b.try_into().ok()).ok_or(Error::Inval)?;
    Ok(i32::from_ne_bytes(b))
}

/// The value of an option that has a range. EINVAL: it is outside.
pub(crate) fn within(val: i32, range: RangeInclusive<i32>) -> Result<i32> {
    if range.contains(&val) { Ok(val) } else { Err(Error::Inval) }
}

/// Writes bytes as getsockopt does: at most as many as fit; returns how many.
pub fn put(value: &mut [u8], bytes: &[u8]) -> usize {
    let n = bytes.len().min(value.len());
    value[..n].copy_from_slice(&bytes[..n]);
    n
}

/// Writes an int.
pub fn put_int(value: &mut [u8], n: i32) -> usize {
    put(value, &n.to_ne_bytes())
}

/// Converts a struct timeval to a timeout: None for zero (wait for ever). EDOM outside 0..1000000 microseconds. A
/// negative time means no wait.
fn timeout(value: &[u8]) -> Result<Option<Duration>> {
    let b = value.get(..16).ok_or(Error::Inval)?;
    let word = |i: usize| i64::from_ne_bytes(b[i..i + 8].try_into().unwrap_or_default());
    let (sec, usec) = (word(0), word(8));
    if !(0..1_000_000).contains(&usec) {
        return Err(Error::Dom);
    }
    if sec < 0 {
        return Ok(Some(Duration::ZERO));
    }
    Ok(match (sec, usec) {
        (0, 0) => None,
        (s, u) => Some(Duration::new(s as u64, u as u32 * 1000)),
    })
}

fn put_timeout(value: &mut [u8], t: Option<Duration>) -> usize {
    let t = t.unwrap_or_default();
    let mut b = [0u8; 16];
    b[..8].copy_from_slice(&(t.as_secs() as i64).to_ne_bytes());
    b[8..].copy_from_slice(&(t.subsec_micros() as i64).to_ne_bytes());
    put(value, &b)
}

const SO_BUSY_POLL: i32 = 46;
const SO_MAX_PACING_RATE: i32 = 47;
const SO_INCOMING_CPU: i32 = 49;
const SO_MEMINFO: i32 = 55;
const SO_COOKIE: i32 = 57;
const SO_ZEROCOPY: i32 = 60;
const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;
const SO_TXTIME: i32 = 61;
const SO_ATTACH_BPF: i32 = 50;
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_ATTACH_REUSEPORT_EBPF: i32 = 52;
const SO_DETACH_REUSEPORT_BPF: i32 = 68;
pub(super) const SO_TIMESTAMP_NEW: i32 = 63;
pub(super) const SO_TIMESTAMPNS_NEW: i32 = 64;
const SO_PEERNAME: i32 = 28;
const SO_WIFI_STATUS: i32 = 41;
const SO_NOFCS: i32 = 43;
const SO_SELECT_ERR_QUEUE: i32 = 45;
const SO_BPF_EXTENSIONS: i32 = 48;
const SO_INCOMING_NAPI_ID: i32 = 56;
const SO_PEERGROUPS: i32 = 59;
const SO_BINDTOIFINDEX: i32 = 62;
const SO_PREFER_BUSY_POLL: i32 = 69;
const SO_BUSY_POLL_BUDGET: i32 = 70;
const SO_NETNS_COOKIE: i32 = 71;
const SO_BUF_LOCK: i32 = 72;
const SO_RESERVE_MEM: i32 = 73;
const SO_CNX_ADVICE: i32 = 53;
const SO_TXREHASH: i32 = 74;
const SO_RCVMARK: i32 = 75;
const SO_PASSPIDFD: i32 = 76;
const SO_PEERPIDFD: i32 = 77;
const SO_RCVPRIORITY: i32 = 82;
const SO_PASSRIGHTS: i32 = 83;
/// Bits of SO_BUF_LOCK: SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK.
const BUF_LOCK_SNDBUF: i32 = 1;
const BUF_LOCK_RCVBUF: i32 = 2;
/// How many loads from `AD_OFF` on a filter has (SKF_AD_MAX).
const SKF_AD_MAX: i32 = 64;
const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;
/// How SO_REUSEADDR reads of a socket in repair mode.
const SK_FORCE_REUSE: i32 = 2;
/// How SO_LINGER reads when its time is without limit: MAX_SCHEDULE_TIMEOUT / HZ as an int, with 250 ticks a second.
const LINGER_FOREVER: i32 = (i64::MAX / 250) as i32;

/// setsockopt(fd, SOL_SOCKET, ...). Errors: EINVAL (length, range), EDOM (timeval), ENOPROTOOPT (unknown, or read
/// only).
pub(crate) fn set(sk: SockRef<'_>, name: i32, value: &[u8]) -> Result<()> {
    if let Some(done) = set_struct(sk, name, value) {
        return done;
    }
    let val = int(value)?;
    if let Some(error) = refused(sk.sock, name, val) {
        return Err(error);
    }
    let on = val != 0;
    let mut g = sk.lock();
    let sysctl = &sk.stack.sysctl;
    match name {
        libc::SO_DEBUG => g.common.set_flag(flag::DEBUG, on),
        libc::SO_REUSEADDR => {
            g.common.set_flag(flag::REUSE, on);
            g.common.force_reuse = false;
            sk.sock.proto().rehash(&mut g);
        }
        libc::SO_REUSEPORT => {
            g.common.set_flag(flag::REUSEPORT, on);
            sk.sock.proto().rehash(&mut g);
        }
        libc::SO_DONTROUTE => {
            g.common.set_flag(flag::LOCALROUTE, on);
            g.common.dst = None;
        }
        libc::SO_BROADCAST => g.common.set_flag(flag::BROADCAST, on),
        libc::SO_SNDBUF => set_sndbuf(&mut g, (val as u32).min(sysctl.wmem_max() as u32) as i32),
        SO_SNDBUFFORCE => set_sndbuf(&mut g, val.max(0)),
        libc::SO_RCVBUF => set_rcvbuf(&mut g, (val as u32).min(sysctl.rmem_max() as u32) as i32),
        SO_RCVBUFFORCE => set_rcvbuf(&mut g, val.max(0)),
        libc::SO_KEEPALIVE => {
            sk.sock.proto().keepalive(&mut g, on);
            g.common.set_flag(flag::KEEPOPEN, on)
        }
        libc::SO_OOBINLINE => g.common.set_flag(flag::URGINLINE, on),
        libc::SO_NO_CHECK => g.common.set_flag(flag::NO_CHECK_TX, on),
        libc::SO_PRIORITY => g.common.cold_mut().priority = val as u32,
        libc::SO_LINGER => set_linger(&mut g, on, value)?,
        libc::SO_TIMESTAMP | SO_TIMESTAMP_NEW | libc::SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW => {
            set_timestamp(&mut g, name, on);
        }
        libc::SO_RCVLOWAT => {
            let val = if val < 0 { i32::MAX } else { val.max(1) };
            sk.sock.proto().set_rcvlowat(&mut g, val);
        }
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => g.common.cold_mut().rcvtimeo = WaitLimit::new(timeout(value)?),
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => g.common.cold_mut().sndtimeo = WaitLimit::new(timeout(value)?),
        libc::SO_MARK => set_mark(&mut g, val as u32),
        libc::SO_PEEK_OFF => g.common.cold_mut().peek_off = val,
        libc::SO_RXQ_OVFL => g.common.set_flag(flag::RXQ_OVFL, on),
        libc::SO_DETACH_FILTER => filter::detach(&mut g.common)?,
        libc::SO_LOCK_FILTER => filter::lock(&mut g.common, on)?,
        SO_DETACH_REUSEPORT_BPF => {
            let of = sk.sock.proto().reuseport(&g);
            reuseport::detach(&mut g.common, of)?;
        }
        SO_CNX_ADVICE if val == 1 => sk.sock.proto().negative_advice(&mut g),
        SO_CNX_ADVICE => {}
        SO_MAX_PACING_RATE => g.common.cold_mut().max_pacing_rate = pacing_rate(val, value),
        SO_TXREHASH => set_txrehash(&mut g, val)?,
        SO_INCOMING_CPU => g.sock.set_incoming_cpu(val),
        SO_BUSY_POLL => g.common.cold_mut().busy_poll_us = val as u32,
        SO_BINDTOIFINDEX => bind_to_index(&mut g, val as u32),
        SO_BUF_LOCK => set_buf_lock(&mut g, val)?,
        // Accepted without effect since Linux 2.5.
        libc::SO_BSDCOMPAT => {}
        // It is a hint for polling in interrupt context, which no device here does.
        SO_BUSY_POLL_BUDGET => {}
        SO_ZEROCOPY => g.common.zerocopy = on,
        _ => {
            // Read only: Linux returns ENOPROTOOPT when they are set, as for unknown options.
            let bit = more_bit(name).ok_or(Error::NoProtoOpt)?;
            g.common.more = g.common.more & !bit | if on { bit } else { 0 };
        }
    }
    Ok(())
}

/// Why a value of an option, or the option of this kind of socket, is refused, as far as that needs no lock.
fn refused(sock: &Sock, name: i32, val: i32) -> Option<Error> {
    let is_refused = match name {
        libc::SO_PEEK_OFF => !peeks_at_offset(sock),
        SO_ZEROCOPY if sends_zerocopy(sock) => return (!matches!(val, 0 | 1)).then_some(Error::Inval),
        SO_BUSY_POLL | SO_BINDTOIFINDEX => return (val < 0).then_some(Error::Inval),
        SO_BUSY_POLL_BUDGET => return (!(0..=i32::from(u16::MAX)).contains(&val)).then_some(Error::Inval),
        // Memory is reserved of a memory cgroup, and there is none (sock_reserve_memory).
        SO_RESERVE_MEM if val < 0 => return Some(Error::Inval),
        // Those of AF_UNIX.
        libc::SO_PASSCRED | libc::SO_PASSSEC | SO_PASSPIDFD | SO_PASSRIGHTS | SO_ZEROCOPY | SO_RESERVE_MEM => true,
        _ => false,
    };
    is_refused.then_some(Error::OpNotSupp)
}

/// Options whose value is no int. None: another one.
fn set_struct(sk: SockRef<'_>, name: i32, value: &[u8]) -> Option<Result<()>> {
    Some(match name {
        libc::SO_BINDTODEVICE => bind_to_device(sk, value),
        // struct so_timestamping, or its flags alone.
        tstamp::TIMESTAMPING_OLD | tstamp::TIMESTAMPING_NEW => {
            int(value).and_then(|flags| tstamp::set(sk, flags as u32, name == tstamp::TIMESTAMPING_NEW))
        }
        libc::SO_ATTACH_FILTER => filter::attach(&mut sk.lock().common, value),
        SO_ATTACH_BPF | SO_ATTACH_REUSEPORT_EBPF => filter::attach_fd(&sk.lock().common, value),
        SO_ATTACH_REUSEPORT_CBPF => {
            let mut g = sk.lock();
            let of = sk.sock.proto().reuseport(&g);
            filter::attach_reuseport(&mut g.common, of, value)
        }
        SO_TXTIME => set_txtime(&mut sk.lock(), value),
        _ => return None,
    })
}

/// SO_LINGER: struct linger, whose first int `on` is.
fn set_linger(g: &mut SockGuard<'_>, on: bool, value: &[u8]) -> Result<()> {
    let secs = int(value.get(4..).ok_or(Error::Inval)?)?;
    g.common.set_flag(flag::LINGER, on);
    if on {
        // A negative time is a very long one, as it is unsigned in Linux.
        g.common.cold_mut().linger = WaitLimit::new(u64::try_from(secs).ok().map(Duration::from_secs));
    }
    Ok(())
}

/// SO_TIMESTAMP, SO_TIMESTAMPNS, and both with 64-bit times (sock_set_timestamp).
fn set_timestamp(g: &mut SockGuard<'_>, name: i32, on: bool) {
    let nanos = matches!(name, libc::SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW);
    g.common.set_flag(flag::TIMESTAMP, on && !nanos);
    g.common.set_flag(flag::TIMESTAMPNS, on && nanos);
    g.common.tstamp_new = on && matches!(name, SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW);
    if on {
        // From now on packets have the time when they came (sock_enable_timestamp).
        g.stack.netstamp_needed.store(true, Ordering::Relaxed);
    }
}

/// SO_MARK: by it the route may be another one (sock_set_mark).
fn set_mark(g: &mut SockGuard<'_>, mark: u32) {
    if g.common.mark != mark {
        g.common.cold_mut().mark = mark;
        g.common.dst = None;
    }
}

/// SO_TXREHASH: -1 is the sysctl's.
fn set_txrehash(g: &mut SockGuard<'_>, val: i32) -> Result<()> {
    g.common.txrehash = match val {
        _ if !is_tcp(g.sock) => return Err(Error::OpNotSupp),
        -1 => g.stack.sysctl.txrehash() != 0,
        0 | 1 => val != 0,
        _ => return Err(Error::Inval),
    };
    Ok(())
}

/// SO_BUF_LOCK: which buffer's size does not grow by itself.
fn set_buf_lock(g: &mut SockGuard<'_>, val: i32) -> Result<()> {
    if val & !(BUF_LOCK_SNDBUF | BUF_LOCK_RCVBUF) != 0 {
        return Err(Error::Inval);
    }
    g.common.set_flag(flag::SNDBUF_LOCK, val & BUF_LOCK_SNDBUF != 0);
    g.common.set_flag(flag::RCVBUF_LOCK, val & BUF_LOCK_RCVBUF != 0);
    Ok(())
}

/// The bit of an option that is one of [`more`].
fn more_bit(name: i32) -> Option<u16> {
    Some(match name {
        SO_SELECT_ERR_QUEUE => more::SELECT_ERR_QUEUE,
        SO_RCVMARK => more::RCVMARK,
        SO_RCVPRIORITY => more::RCVPRIORITY,
        SO_WIFI_STATUS => more::WIFI_STATUS,
        SO_NOFCS => more::NOFCS,
        SO_PREFER_BUSY_POLL => more::PREFER_BUSY_POLL,
        _ => return None,
    })
}

/// Whether it is a TCP socket (sk_is_tcp).
fn is_tcp(sock: &Sock) -> bool {
    sock.ty == libc::SOCK_STREAM as u16 && sock.protocol == libc::IPPROTO_TCP as u16
}

/// SO_TXTIME: struct sock_txtime. EINVAL: another length, or an unknown flag. EPERM: a clock other than
/// CLOCK_MONOTONIC, which needs a privilege.
fn set_txtime(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    /// SOF_TXTIME_DEADLINE_MODE, SOF_TXTIME_REPORT_ERRORS: for a queue that drops what is late; there is none here.
    const FLAGS: u32 = 3;
    let (&[a, b, c, d, e, f, h, i], []) = value.split_first_chunk::<8>().ok_or(Error::Inval)? else {
        return Err(Error::Inval);
    };
    let (clock, flags) = (i32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, h, i]));
    if flags & !FLAGS != 0 {
        return Err(Error::Inval);
    }
    if clock != libc::CLOCK_MONOTONIC {
        return Err(Error::Perm);
    }
    g.common.cold_mut().txtime = Some(flags);
    Ok(())
}

/// Whether the socket has SO_PEEK_OFF: streams and UDP do, raw and ping sockets do not (proto_ops.set_peek_off).
fn peeks_at_offset(sock: &Sock) -> bool {
    sock.proto().is_stream() || sock.ty == libc::SOCK_DGRAM as u16 && sock.protocol == libc::IPPROTO_UDP as u16
}

/// Whether the socket has SO_ZEROCOPY: of TCP and UDP, and no other.
fn sends_zerocopy(sock: &Sock) -> bool {
    match i32::from(sock.ty) {
        libc::SOCK_STREAM => i32::from(sock.protocol) == libc::IPPROTO_TCP,
        libc::SOCK_DGRAM => i32::from(sock.protocol) == libc::IPPROTO_UDP,
        _ => false,
    }
}

/// SO_MAX_PACING_RATE, bytes a second, of 64 or 32 bits; in 32 bits, all ones means no limit.
fn pacing_rate(val: i32, value: &[u8]) -> u64 {
    match value.get(..8).and_then(|b| b.try_into().ok()) {
        Some(b) => u64::from_ne_bytes(b),
        None if val == -1 => u64::MAX,
        None => u64::from(val as u32),
    }
}

fn set_sndbuf(g: &mut SockGuard<'_>, val: i32) {
    g.common.set_flag(flag::SNDBUF_LOCK, true);
    let val = val.min(i32::MAX / 2);
    g.sock.sndbuf.store((val * 2).max(SOCK_MIN_SNDBUF), Ordering::Relaxed);
    g.sock.wait.wake(super::wait::Events::OUT);
}

fn set_rcvbuf(g: &mut SockGuard<'_>, val: i32) {
    g.common.set_flag(flag::RCVBUF_LOCK, true);
    let val = val.min(i32::MAX / 2);
    g.sock.rcvbuf.store((val * 2).max(SOCK_MIN_RCVBUF), Ordering::Relaxed);
}

fn bind_to_device(sk: SockRef<'_>, value: &[u8]) -> Result<()> {
    let name = value.split(|&b| b == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(&name[..name.len().min(15)]).map_err(|_| Error::NoDev)?;
    let ifindex = match name {
        "" => 0,
        n => sk.stack.netdevs.by_name(n).ok_or(Error::NoDev)?.ifindex,
    };
    bind_to_index(&mut sk.lock(), ifindex);
    Ok(())
}

/// Packets pass by one device alone; by any with 0 (sock_bindtoindex_locked).
fn bind_to_index(g: &mut SockGuard<'_>, ifindex: u32) {
    g.common.bound_dev_if = ifindex;
    g.common.dst = None;
    g.sock.proto().rehash(g);
}

/// SO_PEERNAME: the peer's name, or its first bytes. ENOTCONN; EINVAL, `value` is longer than the name.
fn peer_name(sock: &Sock, c: &SockCommon, value: &mut [u8]) -> Result<usize> {
    let peer = c.peer().ok_or(Error::NotConn)?;
    let mut peer = c.shown_peer(to_family(peer, sock.family));
    if let SocketAddr::V6(a) = &mut peer
        && is_link_local_v6(*a.ip())
    {
        a.set_scope_id(c.bound_dev_if);
    }
    let bytes = name_bytes(peer);
    if bytes.len() < value.len() {
        return Err(Error::Inval);
    }
    Ok(put(value, &bytes))
}

/// struct sockaddr_in or sockaddr_in6.
pub(crate) fn name_bytes(a: SocketAddr) -> Vec<u8> {
    let port = a.port().to_be_bytes();
    match a {
        SocketAddr::V4(a) => [&AF_INET.to_ne_bytes()[..], &port, &a.ip().octets(), &[0; 8]].concat(),
        SocketAddr::V6(a) => {
            let (flowinfo, scope) = (a.flowinfo().to_be_bytes(), a.scope_id().to_ne_bytes());
            [&AF_INET6.to_ne_bytes()[..], &port, &flowinfo, &a.ip().octets(), &scope].concat()
        }
    }
}
/// Options whose value is not an int; None: any other option.
fn get_bytes(sk: SockRef<'_>, c: &SockCommon, name: i32, value: &mut [u8]) -> Option<Result<usize>> {
    let sock = sk.sock;
    Some(Ok(match name {
        libc::SO_LINGER => {
            let mut b = [0u8; 8];
            b[..4].copy_from_slice(&i32::from(c.flag(flag::LINGER)).to_ne_bytes());
            let secs = c.linger.get().map_or(LINGER_FOREVER, |t| t.as_secs() as i32);
            b[4..].copy_from_slice(&secs.to_ne_bytes());
            put(value, &b)
        }
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => put_timeout(value, c.rcvtimeo.get()),
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => put_timeout(value, c.sndtimeo.get()),
        libc::SO_BINDTODEVICE if c.bound_dev_if == 0 => 0,
        // There must be room for the longest name.
        libc::SO_BINDTODEVICE if value.len() < libc::IFNAMSIZ => return Some(Err(Error::Inval)),
        libc::SO_BINDTODEVICE => match sk.stack.netdevs.by_index(c.bound_dev_if) {
            None => return Some(Err(Error::NoDev)),
            Some(dev) => {
                let mut bytes = dev.device().name().as_bytes().to_vec();
                bytes.push(0);
                put(value, &bytes)
            }
        },
        // With less room it is returned as an int.
        SO_MAX_PACING_RATE if value.len() >= 8 => put(value, &c.max_pacing_rate.to_ne_bytes()),
        // struct so_timestamping; no clock of a device can be bound to.
        tstamp::TIMESTAMPING_OLD | tstamp::TIMESTAMPING_NEW => {
            let shown = name == tstamp::TIMESTAMPING_OLD || c.tstamp_new;
            let flags = if shown { sock.tsflags() } else { 0 };
            put(value, &[flags, 0].map(u32::to_ne_bytes).concat())
        }
        libc::SO_GET_FILTER => return Some(filter::get(c, value)),
        SO_TXTIME => {
            let clock = if c.txtime.is_some() { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME };
            put(value, &[clock as u32, c.txtime.unwrap_or(0)].map(u32::to_ne_bytes).concat())
        }
        SO_MEMINFO => put(value, &meminfo(sock, c).map(u32::to_ne_bytes).concat()),
        // struct ucred of nobody: inet sockets have no peer's credentials.
        libc::SO_PEERCRED => put(value, &[0, u32::MAX, u32::MAX].map(u32::to_ne_bytes).concat()),
        SO_PEERNAME => return Some(peer_name(sock, c, value)),
        SO_PEERGROUPS | SO_PEERPIDFD => return Some(Err(Error::NoData)),
        SO_NETNS_COOKIE if value.len() != 8 => return Some(Err(Error::Inval)),
        SO_NETNS_COOKIE => put(value, &netns_cookie(sk.stack).to_ne_bytes()),
        SO_COOKIE => {
            if value.len() < 8 {
                return Some(Err(Error::Inval));
            }
            put(value, &cookie(sk.stack, sock).to_ne_bytes())
        }
        _ => return None,
    }))
}

/// What SO_MEMINFO returns: SK_MEMINFO_*, in the order of linux/sock_diag.h (sk_get_meminfo).
pub(crate) fn meminfo(sock: &Sock, c: &SockCommon) -> [u32; 9] {
    [
        sock.rmem_alloc.load(Ordering::Relaxed) as u32,
        sock.rcvbuf.load(Ordering::Relaxed) as u32,
        sock.wmem_alloc.load(Ordering::Relaxed),
        sock.sndbuf.load(Ordering::Relaxed) as u32,
        c.forward_alloc as u32,
        c.wmem_queued as u32,
        sock.omem() as u32,
        sock.lock.backlog_bytes(),
        sock.drops.load(Ordering::Relaxed),
    ]
}

/// What SO_COOKIE returns: a number that is unique while the sock lives. It is derived from the sock's address, so that
/// the program cannot recover the address (sock_gen_cookie).
pub(crate) fn cookie(stack: &Stack, sock: &Arc<Sock>) -> u64 {
    let addr = (Arc::as_ptr(sock) as usize as u64).to_ne_bytes();
    let (lo, hi) = (stack.keys.table_hash(0, &addr), stack.keys.table_hash(1, &addr));
    u64::from(hi) << 32 | u64::from(lo)
}

/// What SO_NETNS_COOKIE returns: a number of the stack's own.
fn netns_cookie(stack: &Stack) -> u64 {
    let half = |salt| u64::from(stack.keys.table_hash(salt, b"netns"));
    half(2) << 32 | half(3)
}

/// getsockopt(fd, SOL_SOCKET, ...). Returns the length written. ENOPROTOOPT for options that Linux does not know.
pub(crate) fn get(sk: SockRef<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
    let g = sk.lock();
    let c = &g.common;
    if let Some(done) = get_bytes(sk, c, name, value) {
        return done;
    }
    let sock = sk.sock;
    let bit = |b: u32| c.flag(b) as i32;
    let n = match name {
        libc::SO_DEBUG => bit(flag::DEBUG),
        libc::SO_LOCK_FILTER => filter::is_locked(c).into(),
        libc::SO_DONTROUTE => bit(flag::LOCALROUTE),
        libc::SO_BROADCAST => bit(flag::BROADCAST),
        libc::SO_SNDBUF => sock.sndbuf.load(Ordering::Relaxed),
        libc::SO_RCVBUF => sock.rcvbuf.load(Ordering::Relaxed),
        libc::SO_REUSEADDR if c.force_reuse => SK_FORCE_REUSE,
        libc::SO_REUSEADDR => bit(flag::REUSE),
        libc::SO_REUSEPORT => bit(flag::REUSEPORT),
        libc::SO_KEEPALIVE => bit(flag::KEEPOPEN),
        libc::SO_TYPE => sock.ty as i32,
        libc::SO_PROTOCOL => sock.protocol as i32,
        libc::SO_DOMAIN => sock.family as i32,
        libc::SO_ERROR => match sock.err.swap(0, Ordering::Relaxed) {
            0 => {
                drop(g);
                let mut g = sk.lock();
                std::mem::take(&mut g.common.err_soft)
            }
            e => e,
        },
        libc::SO_OOBINLINE => bit(flag::URGINLINE),
        libc::SO_NO_CHECK => bit(flag::NO_CHECK_TX),
        libc::SO_PRIORITY => c.priority as i32,
        libc::SO_TIMESTAMP => i32::from(c.flag(flag::TIMESTAMP) && !c.tstamp_new),
        libc::SO_TIMESTAMPNS => i32::from(c.flag(flag::TIMESTAMPNS) && !c.tstamp_new),
        // Unlike its older number it also says yes to nanoseconds.
        SO_TIMESTAMP_NEW => i32::from(c.flags & (flag::TIMESTAMP | flag::TIMESTAMPNS) != 0 && c.tstamp_new),
        SO_TIMESTAMPNS_NEW => i32::from(c.flag(flag::TIMESTAMPNS) && c.tstamp_new),
        libc::SO_RCVLOWAT => c.rcvlowat,
        libc::SO_SNDLOWAT => 1,
        libc::SO_ACCEPTCONN => (sock.state() == super::state::State::Listen) as i32,
        libc::SO_MARK => c.mark as i32,
        libc::SO_RXQ_OVFL => bit(flag::RXQ_OVFL),
        SO_TXREHASH if !is_tcp(sock) => return Err(Error::OpNotSupp),
        SO_TXREHASH => i32::from(c.txrehash),
        SO_MAX_PACING_RATE => c.max_pacing_rate.min(u32::MAX as u64) as u32 as i32,
        SO_INCOMING_CPU => sock.incoming_cpu(),
        SO_BUSY_POLL => c.busy_poll_us as i32,
        SO_ZEROCOPY => i32::from(c.zerocopy),
        libc::SO_BSDCOMPAT | SO_RESERVE_MEM => 0,
        SO_BINDTOIFINDEX => c.bound_dev_if as i32,
        SO_BUF_LOCK => {
            let bits = [(flag::SNDBUF_LOCK, BUF_LOCK_SNDBUF), (flag::RCVBUF_LOCK, BUF_LOCK_RCVBUF)];
            bits.iter().map(|&(b, value)| if c.flag(b) { value } else { 0 }).sum()
        }
        SO_BPF_EXTENSIONS => SKF_AD_MAX,
        // Loopback, TUN and AF_PACKET have no NAPI context whose number could be told.
        SO_INCOMING_NAPI_ID => 0,
        libc::SO_PASSCRED | libc::SO_PASSSEC | SO_PASSPIDFD | SO_PASSRIGHTS => return Err(Error::OpNotSupp),
        _ if more_bit(name).is_some() => i32::from(more_bit(name).is_some_and(|b| c.more & b != 0)),
        libc::SO_PEEK_OFF if peeks_at_offset(sock) => c.peek_off,
        libc::SO_PEEK_OFF => return Err(Error::OpNotSupp),
        _ => return Err(Error::NoProtoOpt),
    };
    Ok(put_int(value, n))
}
