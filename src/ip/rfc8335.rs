//! PROBE: extended echo requests, which ask whether an interface of this host is up. Above: `icmp`, `icmpv6`, which
//! receive and answer them where `icmp_echo_enable_probe` is set. Below: `netdev`. Linux: icmp_build_probe. RFC
//! 8335.

use crate::device::netdev::NetDev;
use crate::stack::Stack;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The question is about an interface of the host that it is sent to: this bit beside the sequence number. No other
/// host is asked for anybody.
const LOCAL: u8 = 1;
/// Codes of replies.
const MALFORMED: u8 = 1;
const NO_INTERFACE: u8 = 2;
/// Bits of the reply in the place of `LOCAL`.
const ACTIVE: u8 = 1 << 2;
const IPV4: u8 = 1 << 1;
const IPV6: u8 = 1;
/// What an interface identification object names it by.
const BY_NAME: u8 = 1;
const BY_INDEX: u8 = 2;
const BY_ADDRESS: u8 = 3;
/// Address families of [`BY_ADDRESS`].
const AFI_IP: u16 = 1;
const AFI_IP6: u16 = 2;
/// The header of an extension, and of an object in it, bytes.
const HEADER: usize = 4;
/// Least length of a name that is too long (IFNAMSIZ).
const NAME_SIZE: usize = 16;
/// An object is no longer than its header with an address of IPv6 and what stands before that.
const OBJECT_MAX: usize = HEADER + 4 + 16;

/// Bytes of a request behind its header that are looked at.
pub(super) const LEN: usize = HEADER + OBJECT_MAX;

/// The code of the answer to a request with this `code` and these `rest` four bytes behind its checksum, whose
/// extension is `data`, and the answer's four. None: it is not answered.
pub(super) fn answer(stack: &Stack, code: u8, rest: [u8; 4], data: &[u8]) -> Option<(u8, [u8; 4])> {
    if !stack.sysctl.icmp_echo_enable_probe() || rest[3] & LOCAL == 0 {
        return None;
    }
    let (code, state) = match interface(stack, data) {
        Err(Malformed) => (MALFORMED, 0),
        Ok(None) => (NO_INTERFACE, 0),
        Ok(Some(dev)) => (code, state(&dev)),
    };
    Some((code, [rest[0], rest[1], rest[2], state]))
}

fn state(dev: &NetDev) -> u8 {
    let addrs = dev.addrs();
    let has = |v4: bool| addrs.iter().any(|a| a.addr().is_ipv4() == v4);
    [(dev.is_up(), ACTIVE), (has(true), IPV4), (has(false), IPV6)].iter().map(|(on, bit)| u8::from(*on) * bit).sum()
}

/// The request does not name an interface in a way that is known.
struct Malformed;

/// The interface that the first object of an extension names.
fn interface(stack: &Stack, data: &[u8]) -> Result<Option<Arc<NetDev>>, Malformed> {
    let object = data.get(HEADER..).ok_or(Malformed)?;
    let head: [u8; HEADER] = *object.first_chunk().ok_or(Malformed)?;
    let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
    if len <= HEADER || len > OBJECT_MAX {
        return Err(Malformed);
    }
    let named = object.get(HEADER..len).ok_or(Malformed)?;
    match head[3] {
        BY_NAME if named.len() < NAME_SIZE => {
            let name = named.split(|b| *b == 0).next().unwrap_or_default();
            Ok(std::str::from_utf8(name).ok().and_then(|name| stack.netdevs.by_name(name)))
        }
        BY_INDEX => match named.try_into() {
            Ok(index) => Ok(stack.netdevs.by_index(u32::from_be_bytes(index))),
            Err(_) => Err(Malformed),
        },
        BY_ADDRESS => {
            let addr = address(named).ok_or(Malformed)?;
            let mut devs = stack.netdevs.iter();
            Ok(devs.find(|d| d.addrs().iter().any(|a| a.addr() == addr)).cloned())
        }
        _ => Err(Malformed),
    }
}

/// The address of an object: its family, length and a reserved byte, and then itself.
fn address(named: &[u8]) -> Option<IpAddr> {
    let (&[f0, f1, len, _], bytes) = named.split_first_chunk()?;
    match (u16::from_be_bytes([f0, f1]), bytes.len() == usize::from(len)) {
        (AFI_IP, true) => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        (AFI_IP6, true) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
