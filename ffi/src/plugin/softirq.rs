//! What a protocol does for all its socks, or without one: packets to groups, iteration, timers of its own, deferred
//! work. Linux: __udp4_lib_mcast_deliver, sk_for_each, timer_setup, queue_work.

use super::addr::usk_addr_t;
use super::deferred::Run;
use super::gate::{kernel, obj};
use super::owned;
use super::proto::ProtoReg;
use super::registration::usk_reg_t;
use super::skb::{self, usk_skb_t};
use crate::handle::{self, usk_sock_t};
use crate::held::contain;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Weak};
use usersock::env::Instant;
use usersock::error::Error;
use usersock::ip::datagram;

/// What usk_for_each_sock calls for each sock: `sk` is held until it returns. A value other than 0 ends the iteration.
#[allow(non_camel_case_types)]
pub type usk_sock_each_t = Option<unsafe extern "C-unwind" fn(arg: *mut c_void, sk: *mut usk_sock_t) -> c_int>;

/// Gives a packet to every sock that it is for, as usk_deliver, in rcv. Of a packet to a group or a broadcast address
/// these are all socks bound to `local`'s port whose address, peer, interface (SO_BINDTODEVICE), memberships, source
/// filters and IP_MULTICAST_ALL admit it, as UDP finds its own (__udp4_lib_mcast_deliver, __udp6_lib_mcast_deliver); of
/// a packet to one host the one that usk_proto_lookup finds. `local` is the packet's destination and port, `remote` its
/// source and port. Each sock gets a packet of its own, which shares the payload and has the same control block; `skb`
/// stays the caller's. Returns how many socks there are, 0: none, and the caller may send an error (usk_icmp_send); one
/// whose backlog was full counts, and so does its drop. -ENOENT: the packet was not received; -EINVAL.
/// # Safety
/// `reg` is a registered protocol; `skb` is a packet; both addresses are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_deliver_all(
    reg: *mut usk_reg_t,
    skb: *mut usk_skb_t,
    local: *const usk_addr_t,
    remote: *const usk_addr_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all of them.
        let (reg, skb) = unsafe { (ProtoReg::of(reg)?, skb::get(skb, "usk_deliver_all")?) };
        // SAFETY: the same.
        let (local, remote) = unsafe { (obj(local)?.to_socket_addr()?, obj(remote)?.to_socket_addr()?) };
        let (stack, ports) = (reg.stack()?, reg.own.ports());
        let info = skb.rx.ok_or(Error::NoEnt)?;
        let (to, from) = ((local.ip(), local.port()), (remote.ip(), remote.port()));
        let socks = if datagram::is_for_many(&stack, &info) {
            ports.find_all(to.0, to.1, from, info.ifindex)
        } else {
            Vec::from_iter(ports.find(&stack, to, from, info.ifindex))
        };
        let n = socks.len();
        for sock in socks {
            let mut copy = skb.share();
            copy.cb = skb.cb;
            // What a full backlog drops is counted there.
            sock.deliver(&stack, copy, info.now);
            // It may have left the table meanwhile.
            owned::put(&stack, sock);
        }
        Ok(c_int::try_from(n).unwrap_or(c_int::MAX))
    })
}

/// Calls `each` with `arg` for each sock in the library's port table: bound, connected and accepted ones of this
/// registration. The list is made before the first call; each sock is held while `each` runs, and may have been closed
/// or finished meanwhile. `each` may lock it in process context, and in any context call usk_defer, usk_deliver and
/// usk_error_report. The caller owns no sock that `each` locks. Returns 0, or what `each` returned other than 0;
/// -EINVAL.
/// # Safety
/// `reg` is a registered protocol; `each` may be called with `arg`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_for_each_sock(reg: *mut usk_reg_t, each: usk_sock_each_t, arg: *mut c_void) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { ProtoReg::of(reg) }?;
        let (each, stack) = (each.ok_or(Error::Fault)?, reg.stack()?);
        let mut end = Ok(0);
        for sock in reg.socks() {
            if end == Ok(0) {
                // SAFETY: the caller's function, with its argument; a sock that it leaves locked is released here.
                end = contain(|| unsafe { each(arg, handle::lend(&sock)) });
            }
            // It may have left the table since the list was made, even if `each` was not called for it.
            owned::put(&stack, sock);
        }
        end
    })
}

/// The protocol, to be run when its time has come.
fn run(reg: &Arc<ProtoReg>) -> Weak<dyn Run> {
    let of: Weak<ProtoReg> = Arc::downgrade(reg);
    of
}

/// Arms timer `index` (0 to 31) of the protocol, which belongs to no sock, or changes its time: at `at`, nanoseconds of
/// the stack's clock, the operation `timer` is called with `index`. Any context. The timers end with the registration.
/// -EINVAL: no such index, the table has no operation `timer`, or the registration has ended.
/// # Safety
/// `reg` is a registered protocol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_reg_timer_arm(reg: *mut usk_reg_t, index: u32, at: u64) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { ProtoReg::of(reg) }?;
        reg.table.timer.ok_or(Error::Inval)?;
        reg.own.deferred.arm(&reg.stack()?, run(&reg), index, Instant::from_nanos(at)).map(|()| 0)
    })
}

/// Disarms timer `index` of the protocol. Returns 1 if it was armed, and then it does not fire; 0: it was not, or the
/// operation runs already.
/// # Safety
/// `reg` is a registered protocol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_reg_timer_cancel(reg: *mut usk_reg_t, index: u32) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { ProtoReg::of(reg) }?;
        Ok(reg.own.deferred.cancel(&*reg.stack()?, index).into())
    })
}

/// When timer `index` of the protocol fires, nanoseconds of the stack's clock; 0: it is not armed.
/// # Safety
/// `reg` is a registered protocol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_reg_timer_at(reg: *mut usk_reg_t, index: u32) -> u64 {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| Ok(unsafe { ProtoReg::of(reg) }?.own.deferred.at(index).map_or(0, Instant::as_nanos)))
}

/// Asks for the operation `work` with these bits, soon, in softirq context, with no sock owned: for what must not be
/// done where it is found to be due. Bits that are asked for before it runs come in one call. Any context, a sock may
/// be owned. -EINVAL: the table has no operation `work`, or the registration has ended.
/// # Safety
/// `reg` is a registered protocol.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_reg_defer(reg: *mut usk_reg_t, bits: u32) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { ProtoReg::of(reg) }?;
        reg.table.work.ok_or(Error::Inval)?;
        reg.own.deferred.ask(&reg.stack()?, run(&reg), bits).map(|()| 0)
    })
}
