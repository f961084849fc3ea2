//! What a protocol brings beside its operations: counters and sysctls of its own, and the stack's clock and randomness.

use super::cproto::Registration;
use super::kernel;
use super::proto::usk_proto_t;
use super::skb::{self, slice_mut, usk_skb_t};
use std::ffi::{c_int, c_void};
use usersock::counters::DropReason;
use usersock::error::Error;

/// Counts `n` in counter `index` of the table's mib_names. An index beyond them is -EINVAL.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_count(proto: *mut usk_proto_t, index: u32, n: u64) -> c_int {
    kernel(|| {
        // SAFETY: registered by the caller's word.
        unsafe { Registration::of(proto) }?.lists.count(index, n).map(|()| 0)
    })
}

/// The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_sysctl(proto: *mut usk_proto_t, index: u32) -> i64 {
    kernel(|| {
        // SAFETY: registered by the caller's word.
        let reg = unsafe { Registration::of(proto) }?;
        Ok(reg.sysctl(index).unwrap_or(0))
    })
}

/// What was given to usk_proto_register.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_user(proto: *mut usk_proto_t) -> *mut c_void {
    // SAFETY: registered by the caller's word.
    kernel(|| unsafe { Registration::of(proto) }.map(|r| r.user()))
}

/// Nanoseconds of the stack's clock: monotonic, virtual where time is.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_now(proto: *mut usk_proto_t) -> u64 {
    // SAFETY: registered by the caller's word.
    kernel(|| Ok(unsafe { Registration::of(proto) }?.stack()?.now().as_nanos()))
}

/// Fills memory with the stack's random bytes: unpredictable, or repeatable where the stack is seeded.
/// # Safety
/// `proto` is registered; `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_random(proto: *mut usk_proto_t, to: *mut c_void, len: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (reg, to) = unsafe { (Registration::of(proto)?, slice_mut(to, len)?) };
        reg.stack()?.entropy.fill(to);
        Ok(0)
    })
}

/// Why a packet is dropped, for usk_drop: too short or malformed.
pub const USK_DROP_HEADER: c_int = 1;
/// Wrong checksum.
pub const USK_DROP_CSUM: c_int = 2;
/// No sock for it.
pub const USK_DROP_NO_SOCKET: c_int = 3;
/// The sock refuses it in its state, or it is a repetition.
pub const USK_DROP_STATE: c_int = 4;

/// Frees a packet and counts why among the stack's drop reasons (kfree_skb_reason). Takes `skb`, always.
/// # Safety
/// `proto` is registered; `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_drop(proto: *mut usk_proto_t, skb: *mut usk_skb_t, reason: c_int) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb) }?;
        let reason = match reason {
            USK_DROP_HEADER => DropReason::PktTooSmall,
            USK_DROP_CSUM => DropReason::PluginCsum,
            USK_DROP_NO_SOCKET => DropReason::NoSocket,
            USK_DROP_STATE => DropReason::PluginRefused,
            _ => return Err(Error::Inval),
        };
        // SAFETY: registered by the caller's word.
        unsafe { Registration::of(proto) }?.stack()?.mib.drop(reason);
        drop(skb);
        Ok(0)
    })
}
