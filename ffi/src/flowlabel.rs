//! Leases of any IPv6 flow label (IPV6_FLOWLABEL_MGR with label 0): the one setsockopt(2) that writes into its value,
//! the label that was chosen. It is chosen here, for sockets of this process and of a stack server. Above: `socket`,
//! the preload shim. Linux: ipv6_flowlabel_get.

use crate::ptr;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use usersock::env::Entropy;
use usersock::error::{Error, Result};

const IPV6_FLOWLABEL_MGR: c_int = 32;
/// Members of struct in6_flowlabel_req, and its length.
const LABEL: Range<usize> = 16..20;
const ACTION: usize = 20;
const FLAGS: Range<usize> = 22..24;
const REQUEST_LEN: usize = 32;
const IPV6_FL_A_GET: u8 = 0;
const IPV6_FL_F_EXCL: u16 = 2;
const IPV6_FL_F_REFLECT: u16 = 4;
/// The half of the labels that is not for those of hashes (`flowlabel_state_ranges`).
const LEASED: u32 = 0x7_ffff;

fn flags(request: &[u8]) -> u16 {
    request[FLAGS].try_into().map_or(0, u16::from_ne_bytes)
}

/// Whether it is a request for a lease of any label.
pub fn wants_any(level: c_int, name: c_int, request: &[u8]) -> bool {
    (level, name) == (libc::SOL_IPV6, IPV6_FLOWLABEL_MGR)
        && request.len() >= REQUEST_LEN
        && request[ACTION] == IPV6_FL_A_GET
        && request[LABEL] == [0; 4]
        && flags(request) & IPV6_FL_F_REFLECT == 0
}

/// Leases a label that nobody has, by `set`, which is setsockopt(2) of such a request.
pub fn lease_any(entropy: &dyn Entropy, request: &[u8], set: impl Fn(&[u8]) -> Result<()>) -> Result<u32> {
    let mut request = request.to_vec();
    let flags = flags(&request) | IPV6_FL_F_EXCL;
    request[FLAGS].copy_from_slice(&flags.to_ne_bytes());
    loop {
        let label = entropy.next_u32() & LEASED;
        if label == 0 {
            continue;
        }
        request[LABEL].copy_from_slice(&label.to_be_bytes());
        match set(&request) {
            Err(Error::Exist) => {}
            done => return done.map(|()| label),
        }
    }
}

/// Writes the label into the program's request; where that cannot be, the lease is kept all the same.
/// # Safety
/// `request` is null or points to `len` bytes, which nobody else uses.
pub unsafe fn tell(request: *const c_void, len: libc::socklen_t, label: u32) {
    // SAFETY: the caller vouches for it; whether it can be written to is probed.
    if let Ok(bytes) = unsafe { ptr::bytes_mut(request.cast_mut(), len as usize) } {
        bytes[LABEL].copy_from_slice(&label.to_be_bytes());
    }
}
