//! The properties of a sock: `usk_sock_info` returns all in one struct; usk_ends returns the two addresses, which
//! protocols need for each packet. Above: `ip`, plug-ins. Linux: struct sock, struct inet_sock.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj, obj_mut};
use super::guard::{guard, usk_owned_t};
use super::private::living;
use super::table::{Info, fill};
use std::ffi::c_int;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use usersock::error::{Error, Result};
use usersock::internal::sock::{AF_INET, unmap};
use usersock::ip::kind;
use usersock::sock::{SockGuard, flag};

/// usk_sock_info_t.flags: no program has the sock, because its last descriptor is closed (SOCK_DEAD).
pub const USK_FLAG_DEAD: u32 = 1;
/// usk_sock_info_t.flags: SO_KEEPALIVE.
pub const USK_FLAG_KEEPOPEN: u32 = 2;
/// usk_sock_info_t.flags: SO_LINGER.
pub const USK_FLAG_LINGER: u32 = 4;
/// usk_sock_info_t.flags: SO_BROADCAST.
pub const USK_FLAG_BROADCAST: u32 = 8;
/// usk_sock_info_t.flags: SO_REUSEADDR.
pub const USK_FLAG_REUSE: u32 = 16;
/// usk_sock_info_t.flags: SO_REUSEPORT.
pub const USK_FLAG_REUSEPORT: u32 = 32;
/// usk_sock_info_t.flags: this is packet or timer context, where nothing may sleep (in_softirq).
pub const USK_FLAG_SOFTIRQ: u32 = 64;

/// The properties of a sock: what usk_sock_info fills in.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_sock_info_t {
    /// The local end: the source address of packets, or the address bound to; port 0: not bound.
    pub local: usk_addr_t,
    /// The peer; family 0: there is none.
    pub peer: usk_addr_t,
    /// AF_INET or AF_INET6, as passed to socket(2).
    pub family: u32,
    /// SOCK_STREAM ..., as passed to socket(2).
    pub ty: u32,
    /// IP protocol number.
    pub protocol: u32,
    /// State by Linux's numbers: TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10 (sk_state).
    pub state: u32,
    /// Shut down directions: bit 0 receiving, bit 1 sending (sk_shutdown).
    pub shutdown: u32,
    /// USK_FLAG_*.
    pub flags: u32,
    /// The pending error as a positive errno; 0: none (sk_err). Reading it here does not clear it; usk_sock_error does.
    pub error: c_int,
    /// Interface the sock is bound to (SO_BINDTODEVICE); 0: none.
    pub ifindex: u32,
    /// SO_RCVBUF, bytes of truesize.
    pub rcvbuf: c_int,
    /// SO_SNDBUF, bytes of truesize.
    pub sndbuf: c_int,
    /// Bytes charged to the receive buffer (sk_rmem_alloc): usk_charged.
    pub rmem: c_int,
    /// Bytes charged to the send buffer (sk_wmem_queued): usk_charged.
    pub wmem: c_int,
    /// Packets in the receive queue.
    pub receive_len: u32,
    /// For a listener: connections that wait for accept(2).
    pub ack_backlog: u32,
    /// For a listener: the backlog of listen(2); the queue is full when ack_backlog is above it.
    pub max_ack_backlog: u32,
    /// SO_RCVLOWAT, bytes.
    pub rcvlowat: c_int,
    /// The time of SO_LINGER, nanoseconds; -1: not set.
    pub linger: i64,
    /// Time of the event being processed, nanoseconds of the stack's clock: usk_owned_now.
    pub now: u64,
}

// SAFETY: it has no padding: each member is aligned where the previous one ends.
unsafe impl Info for usk_sock_info_t {}
const _: () = assert!(size_of::<usk_sock_info_t>() == 2 * size_of::<usk_addr_t>() + 16 * 4 + 2 * 8);

/// The peer of a sock; for a protocol without ports, with port 0. ENOTCONN.
pub(super) fn peer(g: &SockGuard<'_>) -> Result<SocketAddr> {
    let c = &g.common;
    if c.daddr.is_unspecified() { Err(Error::NotConn) } else { Ok(SocketAddr::new(c.daddr, c.dport)) }
}

fn local_addr(g: &SockGuard<'_>) -> usk_addr_t {
    let c = &g.common;
    usk_addr_t::of(if c.saddr.is_unspecified() { c.rcv_saddr } else { c.saddr }, c.sport)
}

fn peer_addr(g: &SockGuard<'_>) -> Result<usk_addr_t> {
    let peer = peer(g)?;
    Ok(kind::name_of(peer.ip(), peer.port(), g.common.bound_dev_if).into())
}

fn flags(g: &SockGuard<'_>) -> u32 {
    let c = &g.common;
    [
        (USK_FLAG_DEAD, c.flag(flag::DEAD)),
        (USK_FLAG_KEEPOPEN, c.flag(flag::KEEPOPEN)),
        (USK_FLAG_LINGER, c.flag(flag::LINGER)),
        (USK_FLAG_BROADCAST, c.flag(flag::BROADCAST)),
        (USK_FLAG_REUSE, c.flag(flag::REUSE)),
        (USK_FLAG_REUSEPORT, c.flag(flag::REUSEPORT)),
        (USK_FLAG_SOFTIRQ, g.in_softirq()),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .fold(0, |all, (bit, _)| all | bit)
}

/// Fills `*info` with the sock's properties. `size` is sizeof(usk_sock_info_t): a plug-in that was compiled against an
/// older header gets the members it knows, and members that the library does not know are zero. Returns how many bytes
/// the library filled. For a sock that is not owned use usk_sock_state and usk_sock_shutdown.
/// # Safety
/// `o` is owned; `info` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_info(o: *mut usk_owned_t, info: *mut usk_sock_info_t, size: usize) -> isize {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let (sock, c) = (g.sock, &g.common);
        let value = usk_sock_info_t {
            local: local_addr(g),
            peer: peer_addr(g).unwrap_or_default(),
            family: sock.family.into(),
            ty: sock.ty as u32,
            protocol: sock.protocol as u32,
            state: u32::from(sock.state() as u8),
            shutdown: sock.shutdown.load(Ordering::Relaxed).into(),
            flags: flags(g),
            error: sock.err.load(Ordering::Relaxed),
            ifindex: c.bound_dev_if,
            rcvbuf: sock.rcvbuf.load(Ordering::Relaxed),
            sndbuf: sock.sndbuf.load(Ordering::Relaxed),
            rmem: sock.rmem_alloc.load(Ordering::Relaxed),
            wmem: c.wmem_queued,
            receive_len: u32::try_from(c.receive_queue.len()).unwrap_or(u32::MAX),
            ack_backlog: c.ack_backlog,
            max_ack_backlog: c.max_ack_backlog,
            rcvlowat: c.rcvlowat,
            linger: match c.flag(flag::LINGER) {
                true => c.linger.get().and_then(|t| i64::try_from(t.as_nanos()).ok()).unwrap_or(i64::MAX),
                false => -1,
            },
            now: g.now().as_nanos(),
        };
        // SAFETY: writable, as the caller guarantees.
        unsafe { fill(info, size, &value) }.map(|n| n as isize)
    })
}

/// Both ends, as in usk_sock_info, for a packet's checksum. Either pointer may be null. Returns 0; -ENOTCONN: `peer` is
/// not null, and there is no peer.
/// # Safety
/// `o` is owned; `local` and `peer` are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ends(o: *mut usk_owned_t, local: *mut usk_addr_t, peer: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        if !local.is_null() {
            // SAFETY: writable, as the caller guarantees.
            *unsafe { obj_mut(local) }? = local_addr(g);
        }
        if !peer.is_null() {
            // SAFETY: as above.
            *unsafe { obj_mut(peer) }? = peer_addr(g)?;
        }
        Ok(0)
    })
}

/// Sets both ends of a sock that a packet made (a child): `local` is the packet's destination and `peer` its source.
/// -EINVAL: the two are of different families, the peer has no port though the protocol has ports, or the sock is in
/// the table under another port; -EAFNOSUPPORT: an IPv6 address for an AF_INET sock.
/// # Safety
/// `o` is owned; both addresses are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_ends(o: *mut usk_owned_t, local: *const usk_addr_t, peer: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (g, local, peer) = unsafe { (guard(o)?, obj(local)?, obj(peer)?) };
        let (local, peer) = (unmap(local.to_socket_addr()?), unmap(peer.to_socket_addr()?));
        let p = living(g)?.private;
        let elsewhere = p.bound.or(p.adopted.map(|(port, _)| port)).is_some_and(|port| port != local.port());
        if local.is_ipv4() != peer.is_ipv4() || elsewhere || (peer.port() == 0 && p.registration().has_ports()) {
            return Err(Error::Inval);
        }
        if g.sock.family == AF_INET && local.is_ipv6() {
            return Err(Error::AfNoSupport);
        }
        let c = &mut g.common;
        (c.saddr, c.rcv_saddr, c.sport) = (local.ip(), local.ip(), local.port());
        (c.daddr, c.dport) = (peer.ip(), peer.port());
        c.dst = None;
        if let SocketAddr::V6(a) = peer {
            c.bound_dev_if = if c.bound_dev_if == 0 { a.scope_id() } else { c.bound_dev_if };
        }
        Ok(0)
    })
}
