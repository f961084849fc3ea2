//! Interface ioctls, netdevice(7), on sockets of ours: they tell of the devices of the socket's stack. Above: `fcntl`.
//! Below: `device::netdev`. A struct ifreq is 16 bytes of name, then a union of 24. Linux: net/core/dev_ioctl.c,
//! devinet_ioctl in net/ipv4/devinet.c. Not here: requests that set something, which an administrator does by usk_init.

use crate::ptr::{self, sockaddr_bytes};
use std::ffi::{c_int, c_ulong, c_void};
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use usersock::device::LinkType;
use usersock::device::netdev::NetDev;
use usersock::error::{Error, Result};
use usersock::internal::sock::AF_INET;
use usersock::net::Socket;
use usersock::stack::Stack;
use usersock::wire::addr::Cidr;

/// Bytes of an interface name with its final zero.
pub(crate) const IFNAMSIZ: usize = libc::IFNAMSIZ;
const IFREQ: usize = 40;

/// Answers `request` if it is one of an interface. ENODEV, EADDRNOTAVAIL: no such interface, no address there; ENOTTY:
/// addresses of IPv4, asked of an AF_INET6 socket.
/// # Safety
/// `arg` is what the request says: a struct ifreq, or a struct ifconf.
pub(crate) unsafe fn ioctl(s: &Socket, request: c_ulong, arg: *mut c_void) -> Option<Result<()>> {
    Some(match request {
        libc::SIOCGIFCONF => {
            // SAFETY: the caller vouches for the struct ifconf.
            unsafe { conf(s.stack(), arg.cast()) }
        }
        libc::SIOCGIFADDR | libc::SIOCGIFDSTADDR | libc::SIOCGIFBRDADDR | libc::SIOCGIFNETMASK
            if s.sock().family != AF_INET =>
        {
            Err(Error::NoTty)
        }
        libc::SIOCGIFNAME
        | libc::SIOCGIFINDEX
        | libc::SIOCGIFFLAGS
        | libc::SIOCGIFMTU
        | libc::SIOCGIFMETRIC
        | libc::SIOCGIFHWADDR
        | libc::SIOCGIFTXQLEN
        | libc::SIOCGIFADDR
        | libc::SIOCGIFDSTADDR
        | libc::SIOCGIFBRDADDR
        | libc::SIOCGIFNETMASK => {
            // SAFETY: the caller vouches for the struct ifreq.
            unsafe { req(s.stack(), request, arg.cast()) }
        }
        _ => return None,
    })
}

/// # Safety
/// `arg` is null or a struct ifreq.
unsafe fn req(stack: &Arc<Stack>, request: c_ulong, arg: *mut [u8; IFREQ]) -> Result<()> {
    stack.here()?;
    // SAFETY: by the caller's word.
    let mut ifr = *unsafe { ptr::value(arg) }?;
    let (name, value) = ifr.split_at_mut(IFNAMSIZ);
    if request == libc::SIOCGIFNAME {
        let index = u32::from_ne_bytes([value[0], value[1], value[2], value[3]]);
        let dev = stack.netdevs.by_index(index).ok_or(Error::NoDev)?;
        name.copy_from_slice(&name_bytes(&dev));
    } else {
        let (dev, alias) = named(stack, name)?;
        match request {
            libc::SIOCGIFADDR | libc::SIOCGIFDSTADDR | libc::SIOCGIFBRDADDR | libc::SIOCGIFNETMASK => {
                // Addresses here have no labels of their own, such as lo:1.
                let at = if alias { None } else { address(&dev, value) }.ok_or(Error::AddrNotAvail)?;
                let ip = match request {
                    libc::SIOCGIFBRDADDR => broadcast(&dev, &at).unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
                    libc::SIOCGIFNETMASK => netmask(&at),
                    _ => at.addr(),
                };
                put(value, &sockaddr_bytes(SocketAddr::new(ip, 0)));
            }
            libc::SIOCGIFFLAGS => put(value, &(flags(&dev) as u16).to_ne_bytes()),
            libc::SIOCGIFHWADDR => {
                let (ty, mac) = hwaddr(&dev);
                put(value, &ty.to_ne_bytes());
                put(&mut value[2..], &mac);
            }
            libc::SIOCGIFINDEX => put(value, &dev.ifindex.to_ne_bytes()),
            libc::SIOCGIFMTU => put(value, &dev.caps().mtu.to_ne_bytes()),
            libc::SIOCGIFTXQLEN => put(value, &dev.tx_queue_len().to_ne_bytes()),
            // The kernel's is 0 too: nothing uses it.
            _ => put(value, &[0; 4]),
        }
    }
    // SAFETY: by the caller's word.
    *unsafe { ptr::value_mut(arg) }? = ifr;
    Ok(())
}

/// SIOCGIFCONF: an ifreq for each IPv4 address, as many as fit; without a buffer, the bytes that all of them take.
/// # Safety
/// `arg` is null or a struct ifconf.
unsafe fn conf(stack: &Arc<Stack>, arg: *mut libc::ifconf) -> Result<()> {
    stack.here()?;
    let len_at = arg.wrapping_byte_add(offset_of!(libc::ifconf, ifc_len)).cast::<c_int>();
    // SAFETY: by the caller's word.
    let (room, buf) = unsafe {
        let ifc = ptr::value(arg)?;
        (usize::try_from(ifc.ifc_len).unwrap_or(0), ifc.ifc_ifcu.ifcu_buf)
    };
    let mut all = Vec::new();
    for dev in stack.netdevs.snapshot() {
        for at in dev.addrs().iter().filter(|a| a.addr().is_ipv4()) {
            let mut ifr = [0; IFREQ];
            ifr[..IFNAMSIZ].copy_from_slice(&name_bytes(&dev));
            put(&mut ifr[IFNAMSIZ..], &sockaddr_bytes(SocketAddr::new(at.addr(), 0)));
            all.extend_from_slice(&ifr);
        }
    }
    if !buf.is_null() {
        all.truncate(room - room % IFREQ);
        // SAFETY: `ifc_len` bytes are writable by the caller's word.
        unsafe { ptr::bytes_mut(buf.cast(), all.len()) }?.copy_from_slice(&all);
    }
    // SAFETY: a member of the struct ifconf.
    *unsafe { ptr::value_mut(len_at) }? = all.len() as c_int;
    Ok(())
}

fn put(to: &mut [u8], bytes: &[u8]) {
    to[..bytes.len()].copy_from_slice(bytes);
}

/// The device of an ifr_name, and whether the name had an alias behind a colon, which it is cut at.
fn named(stack: &Stack, ifr_name: &[u8]) -> Result<(Arc<NetDev>, bool)> {
    // The last byte is taken for the zero that should be there.
    let name = ifr_name[..IFNAMSIZ - 1].split(|b| *b == 0).next().unwrap_or_default();
    let device = name.split(|b| *b == b':').next().unwrap_or_default();
    let dev = std::str::from_utf8(device).ok().and_then(|n| stack.netdevs.by_name(n)).ok_or(Error::NoDev)?;
    Ok((dev, device.len() < name.len()))
}

/// The IPv4 address that a request means: the one in its sockaddr_in if the interface has it, else the first.
fn address(dev: &NetDev, sin: &[u8]) -> Option<Cidr> {
    let addrs = dev.addrs();
    let mut v4 = addrs.iter().filter(|a| a.addr().is_ipv4());
    let wanted = IpAddr::V4(Ipv4Addr::new(sin[4], sin[5], sin[6], sin[7]));
    let given = u16::from_ne_bytes([sin[0], sin[1]]) == libc::AF_INET as u16;
    v4.clone().find(|a| given && a.addr() == wanted).or(v4.next()).copied()
}

/// The name as an ifreq has it.
pub(crate) fn name_bytes(dev: &NetDev) -> [u8; IFNAMSIZ] {
    let mut out = [0; IFNAMSIZ];
    let device = dev.device();
    let name = device.name().as_bytes();
    let n = name.len().min(IFNAMSIZ - 1);
    out[..n].copy_from_slice(&name[..n]);
    out
}

/// IFF_*, with IFF_LOWER_UP, which only a list of interfaces has room for. Of IP devices `lo` is the loopback and the
/// others are what a TUN is. Linux: dev_get_flags.
pub(crate) fn flags(dev: &NetDev) -> c_int {
    const IFF_LOWER_UP: c_int = 0x1_0000;
    let caps = dev.caps();
    let kind = match caps.link {
        _ if caps.loopback => libc::IFF_LOOPBACK,
        LinkType::Ip => libc::IFF_POINTOPOINT | libc::IFF_NOARP | libc::IFF_MULTICAST,
        LinkType::Ethernet(_) => libc::IFF_BROADCAST | libc::IFF_MULTICAST,
    };
    kind | if dev.is_up() { libc::IFF_UP | libc::IFF_RUNNING | IFF_LOWER_UP } else { 0 }
}

/// ARPHRD_* and the hardware address: of zeros on `lo`, of no bytes on other IP devices.
pub(crate) fn hwaddr(dev: &NetDev) -> (u16, Vec<u8>) {
    let caps = dev.caps();
    match caps.link {
        _ if caps.loopback => (libc::ARPHRD_LOOPBACK, vec![0; 6]),
        LinkType::Ip => (libc::ARPHRD_NONE, Vec::new()),
        LinkType::Ethernet(mac) => (libc::ARPHRD_ETHER, mac.0.to_vec()),
    }
}

/// The broadcast address that comes with an interface's address: on Ethernet, the last of its network, as SIOCSIFADDR
/// and DHCP set it (ifa_broadcast).
pub(crate) fn broadcast(dev: &NetDev, at: &Cidr) -> Option<Ipv4Addr> {
    let LinkType::Ethernet(_) = dev.caps().link else { return None };
    match (at.addr(), netmask(at)) {
        (IpAddr::V4(a), IpAddr::V4(mask)) if at.prefix() < 31 => Some(Ipv4Addr::from(u32::from(a) | !u32::from(mask))),
        _ => None,
    }
}

/// The first `prefix` bits.
pub(crate) fn netmask(at: &Cidr) -> IpAddr {
    let zeros = u32::from(at.prefix());
    match at.addr() {
        IpAddr::V4(_) => IpAddr::V4(u32::MAX.checked_shr(zeros).map_or(u32::MAX, |m| !m).into()),
        IpAddr::V6(_) => IpAddr::V6(u128::MAX.checked_shr(zeros).map_or(u128::MAX, |m| !m).into()),
    }
}
