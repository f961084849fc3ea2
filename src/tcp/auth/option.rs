//! TCP_MD5SIG and TCP_MD5SIG_EXT: setsockopt(2) alone, as on Linux. Above: `sockopt`. Ranges and errors are those of
//! Linux 6.18, as observed. Linux: tcp_v4_parse_md5_keys, tcp_v6_parse_md5_keys.

use super::md5::KEY_SIZE;
use crate::base::error::{Error, Result};
use crate::tcp::sockopt::opt;
use crate::tcp::tcb::Cx;
use crate::wire::addr::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

/// Bytes of a struct sockaddr_storage, with which the options' structs begin.
pub(super) const STORAGE: usize = 128;
/// Bytes of struct tcp_md5sig, and of the secret in it (TCP_MD5SIG_MAXKEYLEN).
const MD5SIG_SIZE: usize = 216;
const MAXKEYLEN: usize = 80;
/// Bits of tcpm_flags.
const FLAG_PREFIX: u8 = 1;
const FLAG_IFINDEX: u8 = 2;

/// A peer's address in a struct sockaddr_storage. An IPv4-mapped address is one of IPv4. EINVAL: not of the sock's
/// family.
pub(super) fn peer(family: u16, bytes: &[u8]) -> Result<IpAddr> {
    let word = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    if word(0) != Some(family) {
        return Err(Error::Inval);
    }
    if i32::from(family) == libc::AF_INET {
        let b: [u8; 4] = bytes.get(4..8).and_then(|b| b.try_into().ok()).ok_or(Error::Inval)?;
        return Ok(IpAddr::V4(Ipv4Addr::from(b)));
    }
    let b: [u8; 16] = bytes.get(8..24).and_then(|b| b.try_into().ok()).ok_or(Error::Inval)?;
    Ok(IpAddr::V6(Ipv6Addr::from(b)).to_canonical())
}

/// Adds, changes or deletes a key. EINVAL: too short, another family, a prefix or a secret too long, an interface that
/// is no L3 master device; ENOENT: no such key to delete; EKEYREJECTED: the peer must have TCP-AO; ENOMEM: above
/// net.core.optmem_max.
pub(in crate::tcp) fn set_md5(cx: &mut Cx<'_>, name: i32, value: &[u8]) -> Result<()> {
    let sig: &[u8; MD5SIG_SIZE] = value.get(..MD5SIG_SIZE).and_then(|v| v.try_into().ok()).ok_or(Error::Inval)?;
    let addr = peer(cx.sock.family, &sig[..STORAGE])?;
    let (flags, prefixlen) = (sig[STORAGE], sig[STORAGE + 1]);
    let keylen = usize::from(u16::from_ne_bytes([sig[STORAGE + 2], sig[STORAGE + 3]]));
    let ifindex = i32::from_ne_bytes([sig[STORAGE + 4], sig[STORAGE + 5], sig[STORAGE + 6], sig[STORAGE + 7]]);
    let extended = name == opt::MD5SIG_EXT;
    let peers = match extended && flags & FLAG_PREFIX != 0 {
        true => Cidr::new(addr, prefixlen).ok_or(Error::Inval)?,
        false => Cidr::host(addr),
    };
    let of_interface = flags & FLAG_IFINDEX != 0;
    if extended && of_interface && ifindex != 0 {
        return Err(Error::Inval);
    }
    if keylen == 0 {
        let keys = cx.tp.auth_mut().map(|a| &mut a.md5).ok_or(Error::NoEnt)?;
        keys.del(peers, of_interface)?;
        cx.sock.unowned().omem_alloc.fetch_sub(KEY_SIZE, Ordering::Relaxed);
        return Ok(());
    }
    if cx.tp.auth.as_ref().is_some_and(|a| keylen <= MAXKEYLEN && a.ao_required(Cidr::host(addr))) {
        return Err(Error::KeyRejected);
    }
    let secret = sig[STORAGE + 8..].get(..keylen).ok_or(Error::Inval)?;
    if !cx.tp.auth.as_ref().is_some_and(|a| a.md5.has(peers, of_interface)) {
        charge(cx, KEY_SIZE)?;
    }
    cx.tp.cold_mut().auth.get_or_insert_default().md5.add(peers, of_interface, secret);
    Ok(())
}

/// Memory of options is bounded a sock. ENOMEM (sock_kmalloc).
pub(super) fn charge(cx: &Cx<'_>, size: i32) -> Result<()> {
    let held = cx.sock.omem();
    if held.saturating_add(size) >= cx.stack.sysctl.optmem_max() {
        return Err(Error::NoMem);
    }
    cx.sock.unowned().omem_alloc.fetch_add(size, Ordering::Relaxed);
    Ok(())
}
