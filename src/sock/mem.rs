//! Memory accounting: what a sock's packets cost, charged to the sock (`forward_alloc`) and in pages to its protocol
//! (`tcp_mem`, `udp_mem`). Above: send and receive paths. Linux: __sk_mem_raise_allocated, sk_rmem_schedule,
//! sk_wmem_schedule, sk_mem_reclaim, sk_stream_moderate_sndbuf.

use super::proto::ProtoAccounts;
use super::{Sock, SockCommon, flag};
use crate::stack::Stack;
use std::sync::atomic::Ordering;

/// Unit of the protocol's account (SK_MEM_QUANTUM), bytes.
pub const QUANTUM: i32 = 4096;

/// Least send buffer in bytes (SOCK_MIN_SNDBUF).
pub const SOCK_MIN_SNDBUF: i32 = 4608;
/// Least receive buffer in bytes (SOCK_MIN_RCVBUF).
pub const SOCK_MIN_RCVBUF: i32 = 2304;

/// What the memory is for: it selects the minimum that is always granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Received packets.
    Recv,
    /// Packets to send.
    Send,
}

fn raise(stack: &Stack, sock: &Sock, sk: &SockCommon, pages: i32, kind: Kind) -> bool {
    let acc = sock.accounts();
    acc.pages.add(pages.into());
    let proto = sock.proto();
    let Some([low, mid, high]) = proto.sysctl_mem(stack) else { return true };
    if !acc.pages.exceeds(low) {
        if acc.pressure.load(Ordering::Relaxed) {
            proto.leave_memory_pressure(stack, acc);
        }
        return true;
    }
    let total = acc.pages.sum();
    if total > mid && !acc.pressure.load(Ordering::Relaxed) {
        proto.enter_memory_pressure(stack, acc);
    }
    let granted = total <= high && {
        let min = match kind {
            Kind::Recv => sock.rmem_alloc.load(Ordering::Relaxed) < proto.sysctl_rmem(stack)[0],
            Kind::Send => sk.wmem_queued < proto.sysctl_wmem(stack)[0],
        };
        if min || !acc.pressure.load(Ordering::Relaxed) {
            true
        } else {
            // Under pressure a sock may still use its fair share of the limit.
            let used = sk.wmem_queued as i64 + sock.rmem_alloc.load(Ordering::Relaxed) as i64 + sk.forward_alloc as i64;
            high > acc.sockets.sum() * (used / QUANTUM as i64 + 1)
        }
    };
    if !granted {
        acc.pages.add(-i64::from(pages));
    }
    granted
}

/// Reserves `size` bytes for charging; false: the protocol's limit does not allow it (sk_mem_schedule).
#[inline]
pub fn schedule(stack: &Stack, sock: &Sock, sk: &mut SockCommon, size: i32, kind: Kind) -> bool {
    if size <= sk.forward_alloc {
        return true;
    }
    let pages = (size - sk.forward_alloc + QUANTUM - 1) / QUANTUM;
    if !raise(stack, sock, sk, pages, kind) {
        return false;
    }
    sk.forward_alloc += pages * QUANTUM;
    true
}

/// Reserves `size` bytes even above the limit, for packets that must not fail, such as FIN (sk_forced_mem_schedule).
pub fn force(sock: &Sock, sk: &mut SockCommon, size: i32) {
    if size > sk.forward_alloc {
        let pages = (size - sk.forward_alloc + QUANTUM - 1) / QUANTUM;
        sk.forward_alloc += pages * QUANTUM;
        sock.accounts().pages.add(pages.into());
    }
}

/// Uses reserved bytes (sk_mem_charge).
#[inline]
pub fn charge(sk: &mut SockCommon, size: i32) {
    sk.forward_alloc -= size;
}

/// Returns bytes to the reserve, which keeps at most 1 MiB (sk_mem_uncharge, sk_mem_reclaim).
#[inline]
pub fn uncharge(sock: &Sock, sk: &mut SockCommon, size: i32) {
    sk.forward_alloc += size;
    if sk.forward_alloc >= 1 << 20 {
        reclaim(sock, sk);
    }
}

/// Returns whole unused pages to the protocol's account; memory pressure ends when that falls below its first limit
/// (__sk_mem_reduce_allocated).
#[inline]
pub fn reclaim(sock: &Sock, sk: &mut SockCommon) {
    if sk.forward_alloc >= QUANTUM {
        give_back(sock, sk);
    }
}

#[inline(never)]
fn give_back(sock: &Sock, sk: &mut SockCommon) {
    let pages = sk.forward_alloc / QUANTUM;
    if pages > 0 {
        sk.forward_alloc -= pages * QUANTUM;
        let acc = sock.accounts();
        acc.pages.add(-i64::from(pages));
        if acc.pressure.load(Ordering::Relaxed)
            && let Some(stack) = sock.stack().upgrade()
        {
            let proto = sock.proto();
            if proto.sysctl_mem(&stack).is_some_and(|[low, ..]| acc.pages.sum() < low) {
                proto.leave_memory_pressure(&stack, acc);
            }
        }
    }
}

/// The sock is freed: returns everything still charged.
pub(super) fn release_all(sk: &mut SockCommon, acc: &ProtoAccounts) {
    let queued = sk.wmem_queued + sk.receive_queue.iter().map(|s| s.truesize as i32).sum::<i32>();
    let pages = (sk.forward_alloc + queued) / QUANTUM;
    if pages != 0 {
        acc.pages.add(-i64::from(pages));
    }
    sk.forward_alloc = 0;
    sk.wmem_queued = 0;
}

/// Charges a packet to the receive queue it joins (skb_set_owner_r).
#[inline]
pub fn charge_rmem(sock: &Sock, sk: &mut SockCommon, truesize: u32) {
    sock.rmem_alloc.fetch_add(truesize as i32, Ordering::Relaxed);
    charge(sk, truesize as i32);
}

/// Uncharges a packet that leaves the receive queue (sock_rfree).
#[inline]
pub fn uncharge_rmem(sock: &Sock, sk: &mut SockCommon, truesize: u32) {
    sock.rmem_alloc.fetch_sub(truesize as i32, Ordering::Relaxed);
    uncharge(sock, sk, truesize as i32);
}

/// Shrinks the send buffer of a sock under memory pressure, unless the program set its size
/// (sk_stream_moderate_sndbuf).
pub fn moderate_sndbuf(sock: &Sock, sk: &SockCommon) {
    if !sk.flag(flag::SNDBUF_LOCK) {
        let val = sock.sndbuf.load(Ordering::Relaxed).min(sk.wmem_queued >> 1).max(SOCK_MIN_SNDBUF);
        sock.sndbuf.store(val, Ordering::Relaxed);
    }
}
