//! Opening TUN devices and AF_PACKET sockets, and settings of interfaces. Above: `device::tun`, `device::packet`.
//! Kernel structures are built and read as byte arrays at their documented offsets (struct ifreq: 16 bytes of name,
//! then a union of 24). Linux: drivers/net/tun.c, net/packet/af_packet.c, netdevice(7), packet(7).

use super::fd::Fd;
use super::raw::syscall;
use super::retry;
use std::io;
use std::os::fd::RawFd;

/// Bytes of struct virtio_net_hdr, the header before each packet of both device kinds.
pub(crate) const VNET_HDR_LEN: usize = 10;
/// Length of an interface name with its final NUL (IFNAMSIZ).
const IFNAMSIZ: usize = 16;

const TUNSETIFF: u64 = 0x4004_54ca;
const TUNGETIFF: u64 = 0x8004_54d2;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
const TUNSETSTEERINGEBPF: u64 = 0x8004_54e0;
const TUN_F_CSUM: u64 = 0x01;
const TUN_F_TSO4: u64 = 0x02;
const TUN_F_TSO6: u64 = 0x04;
const TUN_F_TSO_ECN: u64 = 0x08;
const TUN_F_USO4: u64 = 0x20;
const TUN_F_USO6: u64 = 0x40;

/// struct ifreq.
struct IfReq([u8; 40]);

impl IfReq {
    /// EINVAL: the name is empty, too long, or contains a NUL.
    fn new(name: &str) -> io::Result<IfReq> {
        if name.len() >= IFNAMSIZ || name.bytes().any(|b| b == 0 || b == b'/') {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut b = [0; 40];
        b[..name.len()].copy_from_slice(name.as_bytes());
        Ok(IfReq(b))
    }
    fn name(&self) -> String {
        let end = self.0[..IFNAMSIZ].iter().position(|&b| b == 0).unwrap_or(IFNAMSIZ);
        String::from_utf8_lossy(&self.0[..end]).into_owned()
    }
    fn value<const N: usize>(&self) -> [u8; N] {
        let mut v = [0; N];
        v.copy_from_slice(&self.0[IFNAMSIZ..IFNAMSIZ + N]);
        v
    }
    fn set(&mut self, v: &[u8]) {
        self.0[IFNAMSIZ..].fill(0);
        self.0[IFNAMSIZ..IFNAMSIZ + v.len()].copy_from_slice(v);
    }
    fn ioctl(&mut self, fd: RawFd, request: u64) -> io::Result<()> {
        // SAFETY: the requests of this file read and write at most the 40 bytes of a struct ifreq.
        retry(|| unsafe { syscall!(libc::SYS_ioctl, fd, request, self.0.as_mut_ptr()) }).map(drop)
    }
}

/// One queue of a TUN device and what the kernel granted.
#[derive(Debug)]
pub(crate) struct TunQueue {
    /// The queue's descriptor, non-blocking.
    pub fd: Fd,
    /// The device's name, as the kernel chose it if the requested name had a `%d`.
    pub name: String,
    /// Whether the device takes further queues.
    pub multi_queue: bool,
    /// Whether UDP segmentation is supported (Linux 6.2).
    pub uso: bool,
}

/// Opens a queue of TUN device `name`, creating the device if it does not exist: datagrams without a protocol word,
/// after a virtio-net header of [`VNET_HDR_LEN`] bytes, with checksum and segmentation offload in both directions.
/// `name` may be empty or contain `%d`. An existing device without multi-queue (`ip tuntap add` without multi_queue) is
/// opened without it. Errors: EPERM, EACCES without CAP_NET_ADMIN; EBUSY: another process has it; EINVAL: not a TUN
/// device.
pub(crate) fn open_tun(name: &str, multi_queue: bool) -> io::Result<TunQueue> {
    let base = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    let attach = |flags: i16| -> io::Result<(Fd, IfReq)> {
        let fd = Fd::open(c"/dev/net/tun", libc::O_NONBLOCK)?.out_of_the_way();
        let mut req = IfReq::new(name)?;
        req.set(&flags.to_ne_bytes());
        req.ioctl(fd.raw(), TUNSETIFF)?;
        Ok((fd, req))
    };
    let mq = libc::IFF_MULTI_QUEUE as i16;
    let (fd, mut req) = match attach(if multi_queue { base | mq } else { base }) {
        // The multi-queue flag must match that of an existing device; try the other value.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => attach(if multi_queue { base } else { base | mq })?,
        other => other?,
    };
    let name = req.name();
    req.ioctl(fd.raw(), TUNGETIFF)?;
    let flags = i16::from_ne_bytes(req.value());
    let size = VNET_HDR_LEN as i32;
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    retry(|| unsafe { syscall!(libc::SYS_ioctl, fd.raw(), TUNSETVNETHDRSZ, &raw const size) })?;
    // SAFETY: TUNSETOFFLOAD takes a number, no pointer.
    let offload = |bits: u64| retry(|| unsafe { syscall!(libc::SYS_ioctl, fd.raw(), TUNSETOFFLOAD, bits) });
    let tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    let uso = offload(tso | TUN_F_USO4 | TUN_F_USO6).is_ok();
    if !uso {
        offload(tso)?;
    }
    Ok(TunQueue { fd, name, multi_queue: flags & mq != 0, uso })
}

/// Has a program of bpf(2) choose the queue of each packet that comes from the TUN device whose queue `fd` is; None:
/// the kernel chooses again. EINVAL, ENOTTY before Linux 4.16.
pub(crate) fn set_steering(fd: &Fd, program: Option<&Fd>) -> io::Result<()> {
    let program = program.map_or(-1, Fd::raw);
    // SAFETY: TUNSETSTEERINGEBPF reads an int.
    retry(|| unsafe { syscall!(libc::SYS_ioctl, fd.raw(), TUNSETSTEERINGEBPF, &raw const program) }).map(drop)
}

/// A socket for interface ioctls.
fn control() -> io::Result<Fd> {
    // SAFETY: socket takes three numbers.
    let fd = retry(|| unsafe { syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    Fd::own(fd as RawFd)
}

fn get<const N: usize>(name: &str, request: u64) -> io::Result<[u8; N]> {
    let mut req = IfReq::new(name)?;
    req.ioctl(control()?.raw(), request)?;
    Ok(req.value())
}

/// MTU of an interface, bytes. ENODEV: no interface has that name.
pub fn mtu(name: &str) -> io::Result<u32> {
    get(name, libc::SIOCGIFMTU).map(|v| i32::from_ne_bytes(v).max(0) as u32)
}

/// Sets the MTU of an interface. EPERM, EINVAL (out of the driver's range), ENODEV.
pub(crate) fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut req = IfReq::new(name)?;
    req.set(&(mtu.min(i32::MAX as u32) as i32).to_ne_bytes());
    req.ioctl(control()?.raw(), libc::SIOCSIFMTU)
}

/// Brings an interface up; one that is up needs no privilege. EPERM, ENODEV.
pub(crate) fn set_up(name: &str) -> io::Result<()> {
    let mut req = IfReq::new(name)?;
    let fd = control()?;
    req.ioctl(fd.raw(), libc::SIOCGIFFLAGS)?;
    let flags = i16::from_ne_bytes(req.value());
    if flags & libc::IFF_UP as i16 != 0 {
        return Ok(());
    }
    let flags = flags | libc::IFF_UP as i16;
    req.set(&flags.to_ne_bytes());
    req.ioctl(fd.raw(), libc::SIOCSIFFLAGS)
}

/// Has the kernel act upon a change of an interface's carrier now. It notices in a work queue that a TUN device which
/// was up has got its first queue, and until then drops what it sends by the device: the answer to our first packet.
/// Asked for the link's state it does that first (linkwatch_sync_dev, in ETHTOOL_GLINK since Linux 6.8). No privilege
/// is needed. ENODEV, EOPNOTSUPP.
pub(crate) fn settle_carrier(name: &str) -> io::Result<()> {
    const ETHTOOL_GLINK: u32 = 0xa;
    // struct ethtool_value: command, answer.
    let mut value = [ETHTOOL_GLINK, 0];
    let mut req = IfReq::new(name)?;
    req.set(&value.as_mut_ptr().expose_provenance().to_ne_bytes());
    let (fd, request) = (control()?, libc::SIOCETHTOOL);
    // SAFETY: the kernel reads a struct ifreq, and behind its pointer reads and writes a struct ethtool_value; both
    // outlive the call.
    retry(|| unsafe { syscall!(libc::SYS_ioctl, fd.raw(), request, req.0.as_mut_ptr()) }).map(drop)
}

/// Index of an interface. ENODEV.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    get(name, libc::SIOCGIFINDEX).map(|v| i32::from_ne_bytes(v).max(0) as u32)
}

/// Hardware address of an interface. EINVAL: not an Ethernet interface. ENODEV.
pub fn hwaddr(name: &str) -> io::Result<[u8; 6]> {
    let v: [u8; 8] = get(name, libc::SIOCGIFHWADDR)?;
    let [f0, f1, mac @ ..] = v;
    if u16::from_ne_bytes([f0, f1]) != libc::ARPHRD_ETHER {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(mac)
}

fn setsockopt(fd: &Fd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let (p, n) = (value.as_ptr(), value.len());
    // SAFETY: the kernel reads `n` bytes of a slice of that length.
    retry(|| unsafe { syscall!(libc::SYS_setsockopt, fd.raw(), level, option, p, n) }).map(drop)
}

/// An AF_PACKET socket on an Ethernet interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    /// The descriptor, non-blocking.
    pub fd: Fd,
    /// Whether each frame has a virtio-net header of [`VNET_HDR_LEN`] bytes in front (PACKET_VNET_HDR).
    pub vnet_hdr: bool,
}

/// Restricts the socket to frames for station `mac` or a group address, without a VLAN tag (the kernel removes the tag
/// from the frame, which would then look untagged; a VLAN is an interface of its own). Classic BPF, see packet(7).
fn attach_filter(fd: &Fd, mac: [u8; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = mac;
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
    let load = libc::BPF_LD | libc::BPF_ABS;
    let jump = |cond: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: (libc::BPF_JMP | cond) as u16, jt, jf, k };
    let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [
        op(load | libc::BPF_W, (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32),
        jump(libc::BPF_JEQ, 0, 0, 7),
        op(load | libc::BPF_W, 0),
        jump(libc::BPF_JEQ, high, 0, 2),
        op(load | libc::BPF_H, 4),
        jump(libc::BPF_JEQ, low, 2, 0),
        op(load | libc::BPF_B, 0),
        jump(libc::BPF_JSET, 1, 0, 1),
        op(libc::BPF_RET, u32::MAX),
        op(libc::BPF_RET, 0),
    ];
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: `fprog` is a sock_fprog whose filter points to `len` instructions; both outlive the call, which copies
    // them.
    retry(|| unsafe { syscall!(libc::SYS_setsockopt, fd.raw(), level, option, &raw const fprog, size) }).map(drop)
}

/// Opens an AF_PACKET socket for the frames of interface `name` that are for station `mac` or a group address; its own
/// transmissions are not received. `promiscuous`: `mac` is not the interface's own. Errors: EPERM without CAP_NET_RAW,
/// ENODEV, ENETDOWN.
pub(crate) fn open_packet(name: &str, mac: [u8; 6], promiscuous: bool) -> io::Result<PacketSocket> {
    let ifindex = index(name)? as i32;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing is received before bind sets protocol and interface.
    // SAFETY: socket takes three numbers.
    let fd = retry(|| unsafe { syscall!(libc::SYS_socket, libc::AF_PACKET, kind, 0) })?;
    let fd = Fd::own(fd as RawFd)?.out_of_the_way();
    let vnet_hdr = setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32.to_ne_bytes()).is_ok();
    attach_filter(&fd, mac)?;
    // Linux 4.20. Without it we receive our own multicast frames, which would disturb duplicate address detection.
    let _ = setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32.to_ne_bytes());
    // Room for bursts; the kernel limits it to net.core.rmem_max.
    let _ = setsockopt(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &(8i32 << 20).to_ne_bytes());
    let _ = setsockopt(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &(8i32 << 20).to_ne_bytes());
    // struct packet_mreq: ifindex, type, address length, address.
    let mut mreq = [0u8; 16];
    mreq[..4].copy_from_slice(&ifindex.to_ne_bytes());
    let ty = if promiscuous { libc::PACKET_MR_PROMISC } else { libc::PACKET_MR_ALLMULTI };
    mreq[4..6].copy_from_slice(&(ty as u16).to_ne_bytes());
    setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &mreq)?;
    // struct sockaddr_ll: family, protocol (network order), ifindex; bind ignores the rest.
    let mut addr = [0u8; 20];
    addr[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
    addr[2..4].copy_from_slice(&(libc::ETH_P_ALL as u16).to_be_bytes());
    addr[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    // SAFETY: the kernel reads 20 bytes of an array of that length.
    retry(|| unsafe { syscall!(libc::SYS_bind, fd.raw(), addr.as_ptr(), addr.len()) })?;
    Ok(PacketSocket { fd, vnet_hdr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_the_kernel_could_not_hold_is_refused_before_it_is_asked() {
        for name in ["sixteen-letters-", "a/b", "nul\0"] {
            assert_eq!(mtu(name).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{name}");
        }
    }

    #[test]
    fn the_loopback_interface_has_an_index_and_an_mtu_but_no_ethernet_address() {
        assert!(index("lo").unwrap() > 0);
        assert!(mtu("lo").unwrap() >= 1500);
        assert_eq!(hwaddr("lo").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(index("no-such-if").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
