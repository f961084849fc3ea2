//! The kernel's configuration of this namespace, read by rtnetlink and ethtool ioctls: the MTU and offloads of an
//! interface, its addresses, the routes by it with their metrics. Above: `namespace`. Linux: rtnetlink(7), ip-route(8).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use usersock::wire::addr::Cidr;

/// Bytes of a netlink message header.
const NLMSG_HDRLEN: usize = 16;
/// Largest datagram the kernel sends in a dump.
const DUMP_BUFFER: usize = 32 * 1024;

/// ETHTOOL_GTSO of linux/ethtool.h: TCP segmentation offload.
const ETHTOOL_GTSO: u32 = 0x1e;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// RTAX_* of linux/rtnetlink.h.
mod rtax {
    pub const LOCK: u16 = 1;
    pub const MTU: u16 = 2;
    pub const WINDOW: u16 = 3;
    pub const RTT: u16 = 4;
    pub const RTTVAR: u16 = 5;
    pub const SSTHRESH: u16 = 6;
    pub const CWND: u16 = 7;
    pub const ADVMSS: u16 = 8;
    pub const REORDERING: u16 = 9;
    pub const HOPLIMIT: u16 = 10;
    pub const INITCWND: u16 = 11;
    pub const FEATURES: u16 = 12;
    pub const RTO_MIN: u16 = 13;
    pub const INITRWND: u16 = 14;
    pub const QUICKACK: u16 = 15;
    pub const FASTOPEN_NO_COOKIE: u16 = 17;
    pub const CC_ALGO: u16 = 16;
}

/// The metrics of a route, zero where not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Bit n: metric n is locked.
    pub lock: u32,
    /// Bytes.
    pub mtu: u32,
    /// Bytes.
    pub window: u32,
    /// In units of 1/8 ms.
    pub rtt: u32,
    /// In units of 1/4 ms.
    pub rttvar: u32,
    /// Segments.
    pub ssthresh: u32,
    /// Segments.
    pub cwnd: u32,
    /// Bytes.
    pub advmss: u32,
    /// Segments.
    pub reordering: u32,
    /// Hops.
    pub hoplimit: u32,
    /// Segments.
    pub initcwnd: u32,
    /// RTAX_FEATURE_* bits; 1: ECN.
    pub features: u32,
    /// Milliseconds.
    pub rto_min: u32,
    /// Segments.
    pub initrwnd: u32,
    /// Not zero: quick ACKs.
    pub quickack: u32,
    /// Not zero: data in a SYN needs no cookie.
    pub fastopen_no_cookie: u32,
    /// Congestion control.
    pub cc_algo: Option<String>,
}

impl Metrics {
    /// Whether the MTU is locked.
    pub fn mtu_locked(&self) -> bool {
        self.lock & 1 << rtax::MTU != 0
    }

    fn parse(nested: &[u8]) -> Metrics {
        let mut m = Metrics::default();
        for (kind, value) in Attributes(nested) {
            let number = value.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
            match kind {
                rtax::LOCK => m.lock = number,
                rtax::MTU => m.mtu = number,
                rtax::WINDOW => m.window = number,
                rtax::RTT => m.rtt = number,
                rtax::RTTVAR => m.rttvar = number,
                rtax::SSTHRESH => m.ssthresh = number,
                rtax::CWND => m.cwnd = number,
                rtax::ADVMSS => m.advmss = number,
                rtax::REORDERING => m.reordering = number,
                rtax::HOPLIMIT => m.hoplimit = number,
                rtax::INITCWND => m.initcwnd = number,
                rtax::FEATURES => m.features = number,
                rtax::RTO_MIN => m.rto_min = number,
                rtax::INITRWND => m.initrwnd = number,
                rtax::QUICKACK => m.quickack = number,
                rtax::FASTOPEN_NO_COOKIE => m.fastopen_no_cookie = number,
                rtax::CC_ALGO => {
                    let name = value.split(|&b| b == 0).next().unwrap_or_default();
                    m.cc_algo = Some(String::from_utf8_lossy(name).into_owned());
                }
                _ => {}
            }
        }
        m
    }
}

/// A unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Prefix.
    pub dst: Cidr,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Preferred source.
    pub src: Option<IpAddr>,
    /// Interface index in the namespace.
    pub oif: u32,
    /// Metric.
    pub priority: u32,
    /// TCP's and the path's attributes.
    pub metrics: Metrics,
}

/// Type and value of each attribute in a run of `struct rtattr`; ends at the first that does not fit.
struct Attributes<'b>(&'b [u8]);

impl<'b> Iterator for Attributes<'b> {
    type Item = (u16, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.get(..4)?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        // The two high bits say "nested" and "network byte order".
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// The address of an RTM_NEWADDR payload (`struct ifaddrmsg` and attributes) of this interface.
fn parse_address(payload: &[u8], ifindex: u32) -> Option<Cidr> {
    if number(payload.get(4..8)?) != ifindex {
        return None;
    }
    let find = |wanted| Attributes(payload.get(8..)?).find(|a| a.0 == wanted).and_then(|a| address(a.1));
    // IFA_LOCAL is the interface's own where IFA_ADDRESS is a peer's.
    Cidr::new(find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?, payload[1])
}

/// The route of an RTM_NEWROUTE payload (`struct rtmsg` and attributes), if it is a unicast one of the main table.
fn parse_route(payload: &[u8]) -> Option<Route> {
    let head = payload.get(..12)?;
    let (family, prefix, table, kind) = (i32::from(head[0]), head[1], head[4], head[7]);
    if table != libc::RT_TABLE_MAIN || kind != libc::RTN_UNICAST {
        return None;
    }
    let unspecified =
        if family == libc::AF_INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let (mut dst, mut gateway, mut src, mut oif, mut priority) = (unspecified, None, None, 0, 0);
    let mut metrics = Metrics::default();
    for (kind, value) in Attributes(&payload[12..]) {
        match kind {
            libc::RTA_DST => dst = address(value)?,
            libc::RTA_GATEWAY => gateway = address(value),
            libc::RTA_PREFSRC => src = address(value),
            libc::RTA_OIF => oif = number(value),
            libc::RTA_PRIORITY => priority = number(value),
            libc::RTA_METRICS => metrics = Metrics::parse(value),
            _ => {}
        }
    }
    Some(Route { dst: Cidr::new(dst, prefix)?, gateway, src, oif, priority, metrics })
}

/// The addresses of an interface, IPv4 and IPv6. Errors of the netlink socket.
pub fn addresses(ifindex: u32) -> io::Result<Vec<Cidr>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump(libc::RTM_GETADDR, family, libc::RTM_NEWADDR, |payload| all.extend(parse_address(payload, ifindex)))?;
    }
    Ok(all)
}

/// The unicast routes of the main table by an interface. Errors of the netlink socket.
pub fn routes(ifindex: u32) -> io::Result<Vec<Route>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let keep = |payload: &[u8]| all.extend(parse_route(payload).filter(|r| r.oif == ifindex));
        dump(libc::RTM_GETROUTE, family, libc::RTM_NEWROUTE, keep)?;
    }
    Ok(all)
}

/// Sends one dump request and passes the payload of each reply of type `wanted` to `each`.
fn dump(request: u16, family: i32, wanted: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    // SAFETY: a plain system call; the result is owned below.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // struct nlmsghdr and a zeroed struct rtmsg, which is at least as long as struct ifaddrmsg; both begin with the
    // family.
    let mut message = [0u8; NLMSG_HDRLEN + 12];
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&request.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[NLMSG_HDRLEN] = family as u8;
    // SAFETY: `message` is readable for its length. An unbound netlink socket sends to the kernel.
    if unsafe { libc::send(fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut buffer = vec![0u8; DUMP_BUFFER];
    loop {
        // SAFETY: `buffer` is writable for its length.
        let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        let mut rest = &buffer[..n];
        while let Some(header) = rest.get(..NLMSG_HDRLEN) {
            let len = number(header) as usize;
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let Some(payload) = rest.get(NLMSG_HDRLEN..len) else {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            };
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let errno = -(number(payload) as i32);
                    return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
                }
                _ if kind == wanted => each(payload),
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Offers on the TUN device `name` the offloads that packetdrill offers on its own in kernel mode, so that `ethtool -K`
/// can turn them off. They stay when the descriptor is closed; without this call a device without an owner has none.
/// EBUSY: another process holds the device.
pub fn offer_offloads(name: &str) -> io::Result<()> {
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut attach = Interface::open(name)?;
    attach.request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF takes a struct ifreq, which lives for the call.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut attach.request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    // SAFETY: TUNSETOFFLOAD takes a number.
    match unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD as _, offloads as libc::c_ulong) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// ioctl requests on an interface.
pub struct Interface {
    fd: OwnedFd,
    request: libc::ifreq,
}

impl Interface {
    /// By name. EINVAL for a name that is too long; a name that does not exist is ENODEV at the first request.
    pub fn open(name: &str) -> io::Result<Interface> {
        // SAFETY: ifreq is plain bytes; all zero is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: a plain system call; the result is owned below.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Interface { fd: unsafe { OwnedFd::from_raw_fd(fd) }, request })
    }

    fn ioctl(&mut self, request: libc::c_ulong) -> io::Result<()> {
        // SAFETY: the request is one that takes a struct ifreq, which lives for the call.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request as _, &raw mut self.request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its index in the namespace.
    pub fn index(&mut self) -> io::Result<u32> {
        self.ioctl(libc::SIOCGIFINDEX as libc::c_ulong)?;
        // SAFETY: SIOCGIFINDEX has just written this member.
        Ok(unsafe { self.request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// Its MTU in bytes.
    pub fn mtu(&mut self) -> io::Result<u32> {
        self.ioctl(libc::SIOCGIFMTU as libc::c_ulong)?;
        // SAFETY: SIOCGIFMTU has just written this member.
        Ok(unsafe { self.request.ifr_ifru.ifru_mtu } as u32)
    }

    /// Whether TCP segmentation offload is on. Without it TCP builds super-packets all the same (Linux 4.17 and later),
    /// which are cut before the device.
    pub fn tso(&mut self) -> io::Result<bool> {
        // struct ethtool_value: command, data.
        let mut value = [ETHTOOL_GTSO, 0u32];
        self.request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
        self.ioctl(SIOCETHTOOL)?;
        Ok(value[1] != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(((value.len() + 4) as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_route_with_metrics_is_understood() {
        let mut nested = attribute(rtax::LOCK, &4u32.to_ne_bytes());
        nested.extend(attribute(rtax::MTU, &1400u32.to_ne_bytes()));
        nested.extend(attribute(rtax::CC_ALGO, b"reno\0"));
        let mut payload = vec![libc::AF_INET as u8, 32, 0, 0, libc::RT_TABLE_MAIN, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        payload.extend(attribute(libc::RTA_DST, &[192, 0, 2, 1]));
        payload.extend(attribute(libc::RTA_OIF, &7u32.to_ne_bytes()));
        // As the kernel sends it: with the flag for nested attributes.
        payload.extend(attribute(libc::RTA_METRICS | 0x8000, &nested));
        let route = parse_route(&payload).unwrap();
        assert_eq!((route.dst, route.oif), (Cidr::host(IpAddr::from([192, 0, 2, 1])), 7));
        assert!(route.metrics.mtu_locked() && route.metrics.lock & 1 << rtax::CWND == 0);
        assert_eq!((route.metrics.mtu, route.metrics.cc_algo.as_deref()), (1400, Some("reno")));
    }

    #[test]
    fn cut_attributes_end_the_list() {
        let whole = attribute(libc::RTA_OIF, &7u32.to_ne_bytes());
        for len in 0..whole.len() {
            assert_eq!(Attributes(&whole[..len]).count(), 0, "{len}");
        }
        assert_eq!(Attributes(&[0, 0, 0, 0, 1]).count(), 0, "a length below the header's");
    }

    #[test]
    fn offloads_that_were_offered_are_those_that_ethtool_turns_off() {
        let test = "offloads_that_were_offered_are_those_that_ethtool_turns_off";
        // A test runs in a thread of its own, and only this thread and its children move. The device goes with them.
        // SAFETY: takes a number; affects this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("SKIP {test}: no network namespace: {}", io::Error::last_os_error());
            return;
        }
        let call = |line: &str| {
            let mut words = line.split(' ');
            Command::new(words.next().unwrap()).args(words).status().is_ok_and(|status| status.success())
        };
        if !call("ip tuntap add dev tun0 mode tun vnet_hdr") || !call("ethtool --version") {
            println!("SKIP {test}: no TUN device or no ethtool");
            return;
        }
        let mut tun = Interface::open("tun0").unwrap();
        assert!(!tun.tso().unwrap(), "nobody has offered any");
        offer_offloads("tun0").unwrap();
        assert!(tun.tso().unwrap(), "offered");
        assert!(call("ethtool -K tun0 tso off"));
        assert!(!tun.tso().unwrap(), "turned off");
    }

    #[test]
    fn the_loopback_of_this_namespace_answers() {
        let mut lo = Interface::open("lo").unwrap();
        let index = lo.index().unwrap();
        assert!(lo.mtu().unwrap() > 0);
        lo.tso().unwrap();
        // A namespace whose lo is down has no addresses on it; the dump must end nevertheless.
        addresses(index).unwrap();
        routes(index).unwrap();
    }
}
