//! Interfaces of the default stack, by name, by number and as a list. Below: `ifreq`, for what an interface is. Linux's
//! side, as the C library shows it: net/core/rtnetlink.c, inet_dump_ifaddr, inet6_dump_addr.

use crate::boundary::{CValue, boundary};
use crate::ifreq::{self, IFNAMSIZ};
use crate::ptr::{self, sockaddr_bytes};
use crate::stacks::default_stack;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ptr::null_mut;
use usersock::device::netdev::NetDev;
use usersock::error::{Error, Result};
use usersock::wire::addr::{Cidr, is_link_local_v6};

/// if_nametoindex(3): 0 is its failure.
impl CValue for c_uint {
    const FAILED: c_uint = 0;
}

/// As if_nametoindex(3), of the default stack. A device attached to an interface of the kernel's has its number.
/// Returns 0 with errno ENODEV.
/// # Safety
/// `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_if_nametoindex(name: *const c_char) -> c_uint {
    boundary(|| {
        // SAFETY: a string by the caller's word; the first byte is looked at before.
        let name = unsafe { ptr::string(name) }.map_err(|e| if e == Error::Inval { Error::NoDev } else { e })?;
        // The kernel is asked by an ioctl, which cuts an alias off.
        let device = name.split(':').next().filter(|_| name.len() < IFNAMSIZ).unwrap_or_default();
        default_stack()?.netdevs.by_name(device).map(|d| d.ifindex).ok_or(Error::NoDev)
    })
}

/// As if_indextoname(3), of the default stack. Returns null with errno ENXIO.
/// # Safety
/// `name` is writable for IF_NAMESIZE (16) bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_if_indextoname(index: c_uint, name: *mut c_char) -> *mut c_char {
    boundary(|| {
        let dev = default_stack()?.netdevs.by_index(index).ok_or(Error::NxIo)?;
        // SAFETY: writable by the caller's word.
        *unsafe { ptr::value_mut(name.cast::<[u8; IFNAMSIZ]>()) }? = ifreq::name_bytes(&dev);
        Ok(name)
    })
}

/// Bytes of a struct rtnl_link_stats: 24 numbers, of which these are ours.
const STATS: usize = 24;
/// Room for any address here.
const ADDR: usize = size_of::<libc::sockaddr_in6>();

/// An entry of the list and all that it points to.
#[repr(C)]
struct Entry {
    ifa: libc::ifaddrs,
    name: [u8; IFNAMSIZ],
    addr: Place,
    netmask: Place,
    ifu: Place,
    stats: [u32; STATS],
}

/// A sockaddr, aligned as one.
#[repr(C, align(8))]
struct Place([u8; ADDR]);

impl Place {
    const EMPTY: Place = Place([0; ADDR]);

    /// Fills it; what an ifaddrs then points to.
    fn put(&mut self, bytes: &[u8]) -> *mut libc::sockaddr {
        let n = bytes.len().min(ADDR);
        self.0[..n].copy_from_slice(&bytes[..n]);
        self.0.as_mut_ptr().cast()
    }
}

/// An entry without an address.
fn entry(dev: &NetDev) -> Box<Entry> {
    let mut e = Box::new(Entry {
        ifa: libc::ifaddrs {
            ifa_next: null_mut(),
            ifa_name: null_mut(),
            ifa_flags: ifreq::flags(dev) as c_uint,
            ifa_addr: null_mut(),
            ifa_netmask: null_mut(),
            ifa_ifu: null_mut(),
            ifa_data: null_mut(),
        },
        name: ifreq::name_bytes(dev),
        addr: Place::EMPTY,
        netmask: Place::EMPTY,
        ifu: Place::EMPTY,
        stats: [0; STATS],
    });
    e.ifa.ifa_name = e.name.as_mut_ptr().cast();
    e
}

/// The interface itself, AF_PACKET: hardware address and statistics.
fn link_entry(dev: &NetDev) -> Box<Entry> {
    let mut e = entry(dev);
    let (ty, mac) = ifreq::hwaddr(dev);
    let ll = |station: &[u8]| {
        let mut ll = [0u8; size_of::<libc::sockaddr_ll>()];
        ll[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
        ll[4..8].copy_from_slice(&dev.ifindex.to_ne_bytes());
        ll[8..10].copy_from_slice(&ty.to_ne_bytes());
        ll[11] = station.len() as u8;
        ll[12..12 + station.len()].copy_from_slice(station);
        ll
    };
    if !mac.is_empty() {
        let everyone = if ty == libc::ARPHRD_ETHER { [0xff; 6] } else { [0; 6] };
        e.ifa.ifa_addr = e.addr.put(&ll(&mac));
        e.ifa.ifa_ifu = e.ifu.put(&ll(&everyone));
    }
    let s = dev.device().stats();
    // rx_packets, tx_packets, rx_bytes, tx_bytes, two of errors, rx_dropped, tx_dropped; 32 bits of each.
    let numbers = [s.rx_packets, s.tx_packets, s.rx_bytes, s.tx_bytes, 0, 0, s.rx_dropped, s.tx_dropped];
    e.stats.iter_mut().zip(numbers).for_each(|(to, n)| *to = n as u32);
    e.ifa.ifa_data = e.stats.as_mut_ptr().cast::<c_void>();
    e
}

fn address_entry(dev: &NetDev, at: &Cidr) -> Box<Entry> {
    let mut e = entry(dev);
    let name = match at.addr() {
        IpAddr::V6(a) if is_link_local_v6(a) => SocketAddr::V6(SocketAddrV6::new(a, 0, 0, dev.ifindex)),
        ip => SocketAddr::new(ip, 0),
    };
    e.ifa.ifa_addr = e.addr.put(&sockaddr_bytes(name));
    e.ifa.ifa_netmask = e.netmask.put(&sockaddr_bytes(SocketAddr::new(ifreq::netmask(at), 0)));
    if at.addr().is_ipv4() {
        // Where there is no broadcast address, the kernel names the address itself as that of the other end.
        let ifu = ifreq::broadcast(dev, at).map_or(at.addr(), IpAddr::V4);
        e.ifa.ifa_ifu = e.ifu.put(&sockaddr_bytes(SocketAddr::new(ifu, 0)));
    }
    e
}

/// All entries in order, each boxed and given away.
fn list() -> Result<Vec<*mut Entry>> {
    let devs = default_stack()?.netdevs.snapshot();
    let addresses = |v4: bool| {
        let of = move |d: &NetDev| d.addrs().into_iter().filter(move |a| a.addr().is_ipv4() == v4).collect::<Vec<_>>();
        devs.iter().flat_map(move |d| of(d).into_iter().map(|a| address_entry(d, &a)))
    };
    let all = devs.iter().map(|d| link_entry(d)).chain(addresses(true)).chain(addresses(false));
    Ok(all.map(Box::into_raw).collect())
}

/// As getifaddrs(3), of the default stack: an AF_PACKET entry for each interface, then the addresses of IPv4, then
/// those of IPv6. The list is given back to usk_freeifaddrs. Returns 0, or -1 with errno EFAULT.
/// # Safety
/// `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_getifaddrs(out: *mut *mut libc::ifaddrs) -> c_int {
    boundary(|| {
        // SAFETY: writable by the caller's word.
        let out = unsafe { ptr::value_mut(out) }?;
        let mut next = null_mut();
        for e in list()?.into_iter().rev() {
            // SAFETY: just made, and nobody else's.
            unsafe { (*e).ifa.ifa_next = next };
            next = e.cast::<libc::ifaddrs>();
        }
        *out = next;
        Ok(0)
    })
}

/// As freeifaddrs(3).
/// # Safety
/// `list` is null or from usk_getifaddrs, and not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_freeifaddrs(mut list: *mut libc::ifaddrs) {
    let _: c_int = boundary(|| {
        while !list.is_null() {
            // SAFETY: each is the first member of an Entry that usk_getifaddrs gave away.
            let entry = unsafe { Box::from_raw(list.cast::<Entry>()) };
            list = entry.ifa.ifa_next;
        }
        Ok(0)
    });
}
