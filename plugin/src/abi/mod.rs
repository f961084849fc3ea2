//! The layer in which this crate meets C: here, and in `sys`, is all that is `unsafe`.
//!
//! | file | what |
//! |---|---|
//! | `contain` | where a panic ends |
//! | `home`, `slot` | the value of a registration; the data of a sock or a connection |
//! | `addr`, `reg` | addresses; registrations, and the texts of a table |
//! | `skb`, `msg`, `owned` | packets, messages, owned socks |
//! | `info`, `csum` | what is said of packets, ICMP errors and socks; checksums |
//! | `offload` | what super-packets are cut into, and made of |
//! | `sock`, `proto` | socks of a protocol, `struct usk_proto` |
//! | `udp`, `inner` | UDP ports of a protocol, `struct usk_udp_ops`; inner socks, `struct usk_inner_ops` |
//! | `borrow` | congestion control borrowed by a protocol |
//! | `cong`, `hook` | `struct usk_cong_ops`, `struct usk_sock_ops` |
//! | `tcp` | `struct usk_tcp_ops` |
//! | `ulp`, `device` | `struct usk_ulp_ops`, `struct usk_device_ops` |
//! | `plugin` | the entry points |
//! | `testing` | the calls for programs, for tests |
#![allow(unsafe_code)]

pub(crate) mod addr;
pub(crate) mod borrow;
pub(crate) mod cong;
pub(crate) mod contain;
pub(crate) mod csum;
pub(crate) mod device;
pub(crate) mod home;
pub(crate) mod hook;
pub(crate) mod info;
pub(crate) mod inner;
pub(crate) mod msg;
pub(crate) mod offload;
pub(crate) mod owned;
pub(crate) mod plugin;
pub(crate) mod proto;
pub(crate) mod reg;
pub(crate) mod skb;
pub(crate) mod slot;
pub(crate) mod sock;
pub(crate) mod tcp;
pub(crate) mod testing;
pub(crate) mod udp;
pub(crate) mod ulp;

use std::ffi::c_void;

/// # Safety
/// `from` is readable for `len` bytes; null with a length of 0.
unsafe fn bytes<'a>(from: *const c_void, len: usize) -> &'a [u8] {
    if from.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts(from.cast(), len) }
}

/// # Safety
/// `to` is writable for `len` bytes, and initialized; null with a length of 0.
unsafe fn bytes_mut<'a>(to: *mut c_void, len: usize) -> &'a mut [u8] {
    if to.is_null() || len == 0 {
        return &mut [];
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts_mut(to.cast(), len) }
}
