//! Memory accounting of a sock: charges to its receive and send buffers, and through them to the protocol's limits.
//! Above: `owned`, and protocols with queues of their own. Below: `usersock::sock::mem`. Linux: sk_rmem_schedule,
//! skb_set_owner_r, sk_wmem_queued_add, sk_mem_charge, sk_mem_uncharge.

use super::gate::{kernel, obj_mut};
use super::guard::{guard, usk_owned_t};
use super::msg::{self, usk_sendmsg_t};
use super::skb::{self, usk_skb_t};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use usersock::error::{Error, Result};
use usersock::sock::SockGuard;
use usersock::sock::mem::{self, Kind};
use usersock::sock::skb::{Skb, SkbInner};

/// A direction, for usk_charge, usk_uncharge, usk_charged and usk_timeo: receiving (SO_RCVBUF, SO_RCVTIMEO).
pub const USK_RECV: c_int = 0;
/// The other direction: sending (SO_SNDBUF, SO_SNDTIMEO).
pub const USK_SEND: c_int = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dir {
    Recv,
    Send,
}

impl Dir {
    /// EINVAL: no direction.
    pub(super) fn of(dir: c_int) -> Result<Dir> {
        match dir {
            USK_RECV => Ok(Dir::Recv),
            USK_SEND => Ok(Dir::Send),
            _ => Err(Error::Inval),
        }
    }
    /// Bytes charged in this direction.
    fn charged(self, g: &SockGuard<'_>) -> i32 {
        match self {
            Dir::Recv => g.sock.rmem_alloc.load(Ordering::Relaxed),
            Dir::Send => g.common.wmem_queued,
        }
    }
}

/// Charges the sock, and its protocol's memory, for a packet (its truesize; `skb` null: none) that enters a queue of
/// the protocol's own, and for `bytes` that are in no packet. `dir` is USK_RECV for a receive queue (sk_rmem_schedule,
/// skb_set_owner_r; usk_receive_push charges for the sock's own queue): when more than half of SO_RCVBUF is charged, a
/// packet whose bytes occupy a larger page is first copied to a smaller one. `dir` is USK_SEND for a send queue
/// (sk_wmem_schedule, sk_wmem_queued_add). Returns 0; -ENOBUFS: the protocol's memory limit is reached, and nothing is
/// charged: drop the packet, or wait for memory. The caller itself checks that SO_RCVBUF or SO_SNDBUF has room
/// (usk_charged), and uncharges with usk_uncharge, at the latest in destroy.
/// # Safety
/// `o` is owned; `skb` is null or a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_charge(o: *mut usk_owned_t, dir: c_int, skb: *mut usk_skb_t, bytes: usize) -> c_int {
    kernel(|| {
        let dir = Dir::of(dir)?;
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, packet(skb, "usk_charge")?) };
        charge(g, dir, skb, bytes).map(|()| 0)
    })
}

fn charge(g: &mut SockGuard<'_>, dir: Dir, mut skb: Option<&mut SkbInner>, bytes: usize) -> Result<()> {
    if dir == Dir::Recv && dir.charged(g) > g.sock.rcvbuf.load(Ordering::Relaxed) / 2 {
        skb.iter_mut().for_each(|skb| skb.shrink());
    }
    let size = size_of_both(skb.as_deref(), bytes)?;
    // The account is an int, as in Linux.
    dir.charged(g).checked_add(size).ok_or(Error::NoBufs)?;
    let (stack, sock) = (g.stack, g.sock);
    let kind = if dir == Dir::Recv { Kind::Recv } else { Kind::Send };
    if !mem::schedule(stack, sock, &mut g.common, size, kind) {
        return Err(Error::NoBufs);
    }
    match dir {
        Dir::Recv => mem::charge_rmem(sock, &mut g.common, size as u32),
        Dir::Send => {
            mem::charge(&mut g.common, size);
            g.common.wmem_queued += size;
        }
    }
    Ok(())
}

/// A new packet with up to `len` bytes of a message, charged to the send buffer: what usk_skb_from_msg and usk_charge
/// with USK_SEND do, but the message's bytes are consumed only if all of it succeeds, so that a stream loses none when
/// there is no memory. Stores the packet in `*skb`, or null on failure. -ENOBUFS: the protocol's memory limit is
/// reached: wait for memory, or return what was sent before; -EFAULT: bytes of the program cannot be read
/// (sk_stream_alloc_skb).
/// # Safety
/// `o` is owned; `msg` is sendmsg's argument; `skb` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_send_alloc(
    o: *mut usk_owned_t,
    msg: *mut usk_sendmsg_t,
    len: usize,
    skb: *mut *mut usk_skb_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (g, msg, out) = unsafe { (guard(o)?, msg::send(msg)?, obj_mut(skb)?) };
        *out = std::ptr::null_mut();
        let before = msg.mark();
        let mut new = Skb::new();
        msg::append(&mut new, msg, len);
        let charged = if msg.faulted() { Err(Error::Fault) } else { charge(g, Dir::Send, Some(&mut new), 0) };
        if let Err(e) = charged {
            msg.revert(before);
            return Err(e);
        }
        *out = skb::give(new);
        Ok(0)
    })
}

/// Undoes usk_charge with the same arguments, when the packet leaves the queue: its truesize must be that at usk_charge
/// (nothing appended meanwhile). Never uncharges more than is charged. Returns 0; -EINVAL: no such direction.
/// # Safety
/// `o` is owned; `skb` is null, or a packet that was charged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_uncharge(o: *mut usk_owned_t, dir: c_int, skb: *mut usk_skb_t, bytes: usize) -> c_int {
    kernel(|| {
        let dir = Dir::of(dir)?;
        // SAFETY: the caller vouches for both.
        let (g, skb) = unsafe { (guard(o)?, packet(skb, "usk_uncharge")?) };
        uncharge(g, dir, size_of_both(skb.as_deref(), bytes).unwrap_or(i32::MAX));
        Ok(0)
    })
}

/// Bytes that are charged in a direction (sk_rmem_alloc, sk_wmem_queued): the truesize of packets, and the other bytes
/// of usk_charge. `*limit`, unless null, gets the buffer's size, SO_RCVBUF or SO_SNDBUF: there is room while the result
/// is less. -EINVAL: no such direction.
/// # Safety
/// `o` is owned; `limit` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_charged(o: *mut usk_owned_t, dir: c_int, limit: *mut c_int) -> c_int {
    kernel(|| {
        let dir = Dir::of(dir)?;
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        if !limit.is_null() {
            let size = if dir == Dir::Recv { &g.sock.rcvbuf } else { &g.sock.sndbuf };
            // SAFETY: writable, as the caller guarantees.
            *unsafe { obj_mut(limit) }? = size.load(Ordering::Relaxed);
        }
        Ok(dir.charged(g))
    })
}

/// # Safety
/// `skb` is null or a packet, and used by nobody else meanwhile.
unsafe fn packet<'a>(skb: *mut usk_skb_t, call: &str) -> Result<Option<&'a mut SkbInner>> {
    if skb.is_null() {
        return Ok(None);
    }
    // SAFETY: a packet, as the caller guarantees.
    unsafe { skb::get(skb, call) }.map(Some)
}

/// ENOBUFS: the sum does not fit in an int.
fn size_of_both(skb: Option<&SkbInner>, bytes: usize) -> Result<i32> {
    let packet = skb.map_or(0, |skb| skb.truesize as usize);
    packet.checked_add(bytes).and_then(|n| i32::try_from(n).ok()).ok_or(Error::NoBufs)
}

fn uncharge(g: &mut SockGuard<'_>, dir: Dir, size: i32) {
    // At most what is charged, in case the packet has grown meanwhile.
    let size = size.min(dir.charged(g)).max(0);
    let sock = g.sock;
    match dir {
        Dir::Recv => mem::uncharge_rmem(sock, &mut g.common, size as u32),
        Dir::Send => {
            g.common.wmem_queued -= size;
            mem::uncharge(sock, &mut g.common, size);
        }
    }
}

/// Uncharges a packet that has left a receive queue.
pub(super) fn uncharge_rmem(g: &mut SockGuard<'_>, skb: &SkbInner) {
    uncharge(g, Dir::Recv, skb.truesize as i32);
}
