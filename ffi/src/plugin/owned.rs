//! What only the owner of a sock may touch: private memory, state, addresses, queues, memory accounts, timers; and its
//! end.

use super::addr::usk_addr_t;
use super::call::broken;
use super::gate::{kernel, obj, obj_mut};
use super::guard::{Owned, guard, usk_owned_t};
use super::msg::{self, usk_recvmsg_t};
use super::ports;
use super::private::{living, parts, private};
use super::skb::{self, usk_skb_t};
use crate::handle::{lend, usk_sock_t};
use std::ffi::c_int;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::internal::sock::{AF_INET, unmap};
use usersock::ip::datagram;
use usersock::sock::mem::{self, Kind};
use usersock::sock::msg::RecvMsg;
use usersock::sock::skb::{Skb, SkbInner};
use usersock::sock::state::{CLOSE, LISTEN};
use usersock::sock::{SockGuard, flag};

/// EINVAL where the receive queue is TCP's: of a sock under a layer, the only other that a plug-in owns. On the data
/// path, so by number and not as [`parts`] does it.
#[inline]
fn own_queue(g: &SockGuard<'_>) -> Result<()> {
    if i32::from(g.sock.protocol) == libc::IPPROTO_TCP { Err(Error::Inval) } else { Ok(()) }
}

/// Whom a sock is connected to; of a protocol without ports, with port 0. ENOTCONN.
pub(super) fn peer(g: &SockGuard<'_>) -> Result<SocketAddr> {
    let c = &g.common;
    if c.daddr.is_unspecified() { Err(Error::NotConn) } else { Ok(SocketAddr::new(c.daddr, c.dport)) }
}

/// The sock of an owned one, to hand on; valid as long as the ownership.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_sock(o: *mut usk_owned_t) -> *mut usk_sock_t {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| lend(g.sock)))
}

/// Time of the event being processed, nanoseconds of the stack's clock.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_owned_now(o: *mut usk_owned_t) -> u64 {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.now().as_nanos()))
}

/// Whether this is packet or timer context, where nothing may sleep.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_in_softirq(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.in_softirq().into()))
}

/// Runs the backlog now, in the middle of a long call (sk_flush_backlog). 1: there was something.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_flush_backlog(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.flush_backlog().into()))
}

/// Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
/// and has succeeded unless it is then TCP_CLOSE (7); accept(2) wants TCP_LISTEN (10). -EINVAL: no such state;
/// connections wait for accept(2) (usk_listen_stop closes them); or the sock is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_state(o: *mut usk_owned_t, state: c_int) -> c_int {
    kernel(|| {
        let state = u8::try_from(state).ok().filter(|s| (1..=12).contains(s)).ok_or(Error::Inval)?;
        // SAFETY: owned by the caller's word.
        let p = living(unsafe { guard(o) }?)?;
        if state != LISTEN {
            if p.private.accept.as_ref().is_some_and(|q| !q.is_empty()) {
                return Err(Error::Inval);
            }
            p.private.accept = None;
        }
        p.sock.state.store(state, Ordering::Release);
        Ok(0)
    })
}

/// Adds to what shutdown(2) has ended: bit 0 receiving (the peer's end), bit 1 sending.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_shutdown(o: *mut usk_owned_t, bits: c_int) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.sock.shutdown.fetch_or(bits as u8 & 3, Ordering::Relaxed)).map(|_| 0))
}

/// Boolean options of SOL_SOCKET, for usk_sock_flag.
pub const USK_FLAG_DEAD: c_int = 0;
/// SO_KEEPALIVE.
pub const USK_FLAG_KEEPOPEN: c_int = 1;
/// SO_LINGER.
pub const USK_FLAG_LINGER: c_int = 2;
/// SO_BROADCAST.
pub const USK_FLAG_BROADCAST: c_int = 3;
/// SO_REUSEADDR.
pub const USK_FLAG_REUSE: c_int = 4;
/// SO_REUSEPORT.
pub const USK_FLAG_REUSEPORT: c_int = 5;

/// Whether an option or state of USK_FLAG_* is set (sock_flag).
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sock_flag(o: *mut usk_owned_t, which: c_int) -> c_int {
    kernel(|| {
        let bit = match which {
            USK_FLAG_DEAD => flag::DEAD,
            USK_FLAG_KEEPOPEN => flag::KEEPOPEN,
            USK_FLAG_LINGER => flag::LINGER,
            USK_FLAG_BROADCAST => flag::BROADCAST,
            USK_FLAG_REUSE => flag::REUSE,
            USK_FLAG_REUSEPORT => flag::REUSEPORT,
            _ => return Err(Error::Inval),
        };
        // SAFETY: owned by the caller's word.
        Ok(unsafe { guard(o) }?.common.flag(bit).into())
    })
}

/// SO_LINGER's time in nanoseconds, if it is set; -1 otherwise.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_linger(o: *mut usk_owned_t) -> i64 {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let c = &unsafe { guard(o) }?.common;
        Ok(if c.flag(flag::LINGER) { i64::try_from(c.linger.as_nanos()).unwrap_or(i64::MAX) } else { -1 })
    })
}

/// The local end: the address packets leave from, or the one bound to; port 0: not bound.
/// # Safety
/// `o` is owned; `addr` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_local(o: *mut usk_owned_t, addr: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, to) = unsafe { (guard(o)?, obj_mut(addr)?) };
        let ip = if g.common.saddr.is_unspecified() { g.common.rcv_saddr } else { g.common.saddr };
        *to = usk_addr_t::of(ip, g.common.sport);
        Ok(0)
    })
}

/// The peer. -ENOTCONN without one.
/// # Safety
/// `o` is owned; `addr` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_peer(o: *mut usk_owned_t, addr: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, to) = unsafe { (guard(o)?, obj_mut(addr)?) };
        let peer = peer(g)?;
        *to = datagram::name_of(peer.ip(), peer.port(), g.common.bound_dev_if).into();
        Ok(0)
    })
}

/// Sets both ends of a sock that a packet made (a child): `local` and `peer` as the packet's destination and source
/// were. -EINVAL: the two are of different families, the peer has no port though the protocol has ports, or the sock is
/// in the table under another port; -EAFNOSUPPORT: an AF_INET sock has no IPv6 ends.
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

/// SO_RCVBUF, bytes of truesize.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_rcvbuf(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.sock.rcvbuf.load(Ordering::Relaxed)))
}

/// SO_SNDBUF, bytes of truesize.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sndbuf(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.sock.sndbuf.load(Ordering::Relaxed)))
}

/// Bytes of truesize in the receive queue (sk_rmem_alloc).
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_rmem(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.sock.rmem_alloc.load(Ordering::Relaxed)))
}

/// Bytes of truesize in the send queues (sk_wmem_queued), as usk_wmem_charge and usk_wmem_uncharge count them.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_wmem(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.common.wmem_queued))
}

/// Puts a packet at the end of the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Takes
/// `skb`, always. Returns 0, or -ENOBUFS when the buffer is full, memory is out or the socket closed: the packet is
/// then dropped and counted.
/// # Safety
/// `o` is owned; `skb` is a packet of the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_push(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and owns the sock.
        let (skb, g) = unsafe { (skb::take(skb)?, guard(o)?) };
        own_queue(g)?;
        datagram::queue(g, skb).map(|()| 0).map_err(|reason| {
            g.stack.mib.drop(reason);
            Error::NoBufs
        })
    })
}

/// The next packet of the receive queue, which stays there; null: none.
/// # Safety
/// `o` is owned; the packet is used while it is, and before the queue changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_peek(o: *mut usk_owned_t) -> *mut usk_skb_t {
    // SAFETY: owned by the caller's word.
    kernel(|| {
        let g = unsafe { guard(o) }?;
        own_queue(g)?;
        Ok(g.common.receive_queue.front_mut().map_or(std::ptr::null_mut(), skb::lend))
    })
}

/// Takes the next packet of the receive queue off it, uncharged: the caller's to free. Null: none.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_pop(o: *mut usk_owned_t) -> *mut usk_skb_t {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let g = unsafe { guard(o) }?;
        own_queue(g)?;
        let Some(skb) = g.common.receive_queue.pop_front() else { return Ok(std::ptr::null_mut()) };
        uncharge_rmem(g, &skb);
        Ok(skb::give(skb))
    })
}

/// Uncharges what leaves a receive queue: not more than is charged, where somebody made it grow meanwhile.
fn uncharge_rmem(g: &mut SockGuard<'_>, skb: &SkbInner) {
    let sock = g.sock;
    let held = u32::try_from(sock.rmem_alloc.load(Ordering::Relaxed)).unwrap_or(0);
    mem::uncharge_rmem(sock, &mut g.common, skb.truesize.min(held));
}

/// recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (what is before
/// is the protocol's header), takes it off unless MSG_PEEK is set, says MSG_TRUNC when there is no room for all, and
/// answers what recvmsg does: the bytes copied, or with MSG_TRUNC given those there are. -EAGAIN: the queue is empty.
/// # Safety
/// `o` is owned; `msg` is recvmsg's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_msg(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t, offset: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, msg) = unsafe { (guard(o)?, msg::recv(msg)?) };
        own_queue(g)?;
        let peek = msg.flags & libc::MSG_PEEK != 0;
        let copy = |skb: &Skb, msg: &mut RecvMsg<'_, '_>| {
            datagram::copy(skb, offset, skb.len().saturating_sub(offset), msg) as isize
        };
        if peek {
            return g.common.receive_queue.front().map(|skb| copy(skb, msg)).ok_or(Error::Again);
        }
        let skb = g.common.receive_queue.pop_front().ok_or(Error::Again)?;
        let n = copy(&skb, msg);
        uncharge_rmem(g, &skb);
        Ok(n)
    })
}

/// Packets in the receive queue.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_receive_len(o: *mut usk_owned_t) -> usize {
    // SAFETY: owned by the caller's word.
    kernel(|| unsafe { guard(o) }.map(|g| g.common.receive_queue.len()))
}

/// Charges a packet that enters a receive queue of the protocol's own, as usk_receive_push does with the sock's
/// (sk_rmem_schedule, skb_set_owner_r). Past half of SO_RCVBUF a packet whose bytes sit in a larger page is copied to a
/// smaller one first. -ENOBUFS: the protocol's limit refuses. SO_RCVBUF is the caller's to look at (usk_rmem,
/// usk_rcvbuf).
/// # Safety
/// `o` is owned; `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_rmem_charge(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, skb::get(skb)?) };
        let (stack, sock) = (g.stack, g.sock);
        if sock.rmem_alloc.load(Ordering::Relaxed) > sock.rcvbuf.load(Ordering::Relaxed) / 2 {
            skb.shrink();
        }
        if !mem::schedule(stack, sock, &mut g.common, skb.truesize as i32, Kind::Recv) {
            return Err(Error::NoBufs);
        }
        mem::charge_rmem(sock, &mut g.common, skb.truesize);
        Ok(0)
    })
}

/// The packet leaves that queue. Give it with the truesize it was charged with: not grown meanwhile. By destroy at the
/// latest.
/// # Safety
/// `o` is owned; `skb` is a packet that was charged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_rmem_uncharge(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, skb::get(skb)?) };
        uncharge_rmem(g, skb);
        Ok(0)
    })
}

/// Charges a packet that enters a send queue to the sock and to the protocol's memory (sk_wmem_schedule,
/// sk_wmem_queued_add). -ENOBUFS: the protocol's limit refuses; wait for memory, or drop. SO_SNDBUF is the caller's to
/// look at (usk_wmem, usk_sndbuf).
/// # Safety
/// `o` is owned; `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_wmem_charge(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, skb::get(skb)?) };
        let (stack, sock, size) = (g.stack, g.sock, skb.truesize as i32);
        if !mem::schedule(stack, sock, &mut g.common, size, Kind::Send) {
            return Err(Error::NoBufs);
        }
        mem::charge(&mut g.common, size);
        g.common.wmem_queued += size;
        Ok(0)
    })
}

/// The packet leaves the send queue. Give it with the truesize it was charged with: not grown meanwhile.
/// # Safety
/// `o` is owned; `skb` is a packet that was charged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_wmem_uncharge(o: *mut usk_owned_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, skb::get(skb)?) };
        let size = (skb.truesize as i32).min(g.common.wmem_queued);
        g.common.wmem_queued -= size;
        let sock = g.sock;
        mem::uncharge(sock, &mut g.common, size);
        Ok(0)
    })
}

/// Charges `size` bytes that are not in a packet to the protocol's memory (sk_mem_charge); negative gives them back.
/// -ENOBUFS.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_mem_charge(o: *mut usk_owned_t, size: c_int) -> c_int {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let p = parts(unsafe { guard(o) }?)?;
        p.private.charge(p.stack, p.sock, p.common, size).map(|()| 0)
    })
}

/// Arms, or moves, timer `index` (0 to 31) of the sock: at `at`, nanoseconds of the stack's clock, release_cb gets bit
/// `index`, or as soon as the owner lets go. -EINVAL: no such index, or the sock is finished.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_arm(o: *mut usk_owned_t, index: u32, at: u64) -> c_int {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let p = living(unsafe { guard(o) }?)?;
        let slot = p.private.timer(index).ok_or(Error::Inval)?;
        p.stack.arm_sock(slot, p.sock, 1 << index, Instant::from_nanos(at));
        Ok(0)
    })
}

/// Disarms timer `index`. 1: it was pending. One that has fired while the sock was owned is still told to release_cb:
/// compare the time there.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_cancel(o: *mut usk_owned_t, index: u32) -> c_int {
    kernel(|| {
        // SAFETY: owned by the caller's word.
        let p = parts(unsafe { guard(o) }?)?;
        let slot = p.private.timer(index).ok_or(Error::Inval)?;
        Ok(p.stack.timers.cancel(slot).into())
    })
}

/// When timer `index` fires, nanoseconds of the stack's clock; 0: not armed, or it has fired.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_timer_at(o: *mut usk_owned_t, index: u32) -> u64 {
    // SAFETY: owned by the caller's word.
    kernel(|| Ok(unsafe { private(o) }?.timer(index).and_then(|t| t.at()).map_or(0, |t| t.as_nanos())))
}

/// The sock is finished: it has left the tables, nothing more is queued. Cancels its timers, empties the receive queue,
/// resets connections nobody accepted (through close), runs destroy, once, and wakes everybody (inet_csk_destroy_sock).
/// Its memory goes with the last handle. No operation of the sock begins any more: packets that still come are dropped
/// and counted. -EBUSY: a program has the sock (neither is USK_FLAG_DEAD set, nor is it a child that nobody has
/// accepted), which would go on to use what destroy frees: set its state, and finish it in close. -EINVAL: the sock is
/// another protocol's.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_done(o: *mut usk_owned_t) -> c_int {
    // SAFETY: owned by the caller's word.
    kernel(|| {
        let g = unsafe { guard(o) }?;
        let dead = g.common.flag(flag::DEAD);
        let p = parts(g)?.private;
        if !dead && !p.orphan && !p.is_done() {
            return Err(Error::Busy);
        }
        finish(g);
        Ok(0)
    })
}

/// See usk_done.
pub(super) fn finish(g: &mut SockGuard<'_>) {
    // Out of the tables, whether the protocol keeps its own or not.
    g.sock.proto().unhash(g);
    if g.common.sport != 0 {
        g.sock.proto().put_port(g);
    }
    let _ = ports::unhash(g);
    let Ok(p) = parts(g) else { return };
    let (stack, sock) = (p.stack, p.sock);
    if !p.private.end(stack, sock, p.common) {
        return;
    }
    let (reg, orphans) = (p.private.registration().clone(), p.private.accept.take());
    p.common.ack_backlog = 0;
    sock.state.store(CLOSE, Ordering::Release);
    if let Some(f) = reg.table.destroy {
        // SAFETY: the table's function, called as it says.
        if Owned::lend(g, |o| unsafe { f(o) }).is_err() {
            broken(g.sock);
        }
    }
    datagram::close(g);
    ports::close_all(stack, orphans);
}
