//! Options that raw sockets have beside those of IP: filters of ICMP types, the checksum's place, and whether the
//! program writes the IPv6 header. Linux: do_raw_setsockopt, rawv6_setsockopt, and the others of get.

use super::private;
use crate::base::error::{Error, Result};
use crate::ip::sockopt;
use crate::sock::sockopt::{int, put, put_int};
use crate::sock::{SockGuard, flag};
use crate::wire::proto;

pub(super) const ICMP_FILTER: i32 = 1;
const ICMPV6_FILTER: i32 = 1;
pub(super) const IPV6_CHECKSUM: i32 = 7;
const IPV6_HDRINCL: i32 = 36;

/// Which of the raw sockets' options a level and name are.
enum Raw {
    Filter,
    Filter6,
    Checksum,
    HdrIncl,
    /// None of them: IP's.
    Ip,
}

fn which(g: &SockGuard<'_>, v4: bool, level: i32, name: i32) -> Result<Raw> {
    let number = g.sock.protocol as u8;
    Ok(match (v4, level, name) {
        (true, libc::SOL_RAW, ICMP_FILTER) if number == proto::ICMP => Raw::Filter,
        (true, libc::SOL_RAW, ICMP_FILTER) => return Err(Error::OpNotSupp),
        (false, libc::SOL_ICMPV6, _) if number != proto::ICMPV6 => return Err(Error::OpNotSupp),
        (false, libc::SOL_ICMPV6, ICMPV6_FILTER) => Raw::Filter6,
        (false, libc::SOL_RAW | libc::SOL_IPV6, IPV6_CHECKSUM) => Raw::Checksum,
        (false, libc::SOL_RAW | libc::SOL_IPV6, IPV6_HDRINCL) => Raw::HdrIncl,
        (_, libc::SOL_RAW, _) | (false, libc::SOL_ICMPV6, _) => return Err(Error::NoProtoOpt),
        _ => Raw::Ip,
    })
}

/// Copies the bytes that are given over the first ones of what there is.
fn overwrite(words: &mut [u32], value: &[u8]) {
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let n = value.len().min(bytes.len());
    bytes[..n].copy_from_slice(&value[..n]);
    for (word, b) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*b);
    }
}

pub(super) fn set(g: &mut SockGuard<'_>, v4: bool, level: i32, name: i32, value: &[u8]) -> Result<()> {
    if !v4 && level == libc::SOL_RAW {
        // Whatever the option is, its value is an int.
        int(value)?;
    }
    match which(g, v4, level, name)? {
        Raw::Filter => overwrite(std::slice::from_mut(&mut private(g)?.filter), value),
        Raw::Filter6 => overwrite(&mut private(g)?.filter6, value),
        Raw::Checksum => {
            let val = int(value)?;
            // ICMPv6's the stack computes in any case (RFC 3542 §3.1); at SOL_RAW Linux allows it all the same.
            let fixed = g.sock.protocol == u16::from(proto::ICMPV6) && level == libc::SOL_IPV6;
            if fixed || val > 0 && val & 1 != 0 {
                return Err(Error::Inval);
            }
            private(g)?.checksum = u32::try_from(val).ok();
        }
        Raw::HdrIncl => {
            let on = int(value)? != 0;
            g.common.set_flag(flag::HDRINCL, on);
        }
        Raw::Ip => return sockopt::set(g, level, name, value),
    }
    Ok(())
}

pub(super) fn get(g: &mut SockGuard<'_>, v4: bool, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
    Ok(match which(g, v4, level, name)? {
        Raw::Filter => put_int(value, private(g)?.filter as i32),
        Raw::Filter6 => {
            let bytes: Vec<u8> = private(g)?.filter6.iter().flat_map(|w| w.to_ne_bytes()).collect();
            put(value, &bytes)
        }
        Raw::Checksum => put_int(value, private(g)?.checksum.map_or(-1, |at| at as i32)),
        Raw::HdrIncl => put_int(value, i32::from(g.common.flag(flag::HDRINCL))),
        Raw::Ip => return sockopt::get(g, level, name, value),
    })
}
