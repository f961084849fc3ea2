//! The few rtnetlink messages that prepare a network namespace: a link up, its MTU and queue, an address, a veth pair.
//! Above: `namespace`. So nothing has to be installed for it. Linux: rtnetlink(7), netlink(7); veth(4).

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use usersock::wire::addr::Cidr;

/// Bytes of struct nlmsghdr.
const HEADER_LEN: usize = 16;
/// VETH_INFO_PEER of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;
/// IFLA_INET6_ADDR_GEN_MODE of linux/if_link.h, and its value for "no link-local address".
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// IFA_F_NODAD of linux/if_addr.h: the address is used without duplicate address detection.
const IFA_F_NODAD: u32 = 2;

/// A message in the making: header, fixed part, attributes.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Message(bytes)
    }

    /// Adds struct rtattr with its value, padded to four bytes.
    fn attr(mut self, kind: u16, value: &[u8]) -> Message {
        self.0.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute whose value is what `fill` adds.
    fn nested(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        let mut filled = fill(self);
        let len = (filled.0.len() - at) as u16;
        filled.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        filled.0[at + 2..at + 4].copy_from_slice(&kind.to_ne_bytes());
        filled
    }

    fn bytes(mut self, more: &[u8]) -> Message {
        self.0.extend_from_slice(more);
        self
    }
}

/// struct ifinfomsg, for a link that is named by an attribute: `flags` are set where `change` has ones.
fn ifinfomsg(flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// An interface's name with its NUL, as attributes hold it.
fn with_nul(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A socket to the kernel's configuration of this thread's network namespace.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Errors of socket(2).
    pub(crate) fn open() -> io::Result<Netlink> {
        let protocol = SockProtocol::NetlinkRoute;
        Ok(Netlink(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    fn send(&self, mut message: Message) -> io::Result<()> {
        let len = message.0.len() as u32;
        message.0[..4].copy_from_slice(&len.to_ne_bytes());
        Ok(nix::unistd::write(&self.0, &message.0).map(drop)?)
    }

    /// Sends one message and waits for its acknowledgement, which is the kernel's error.
    fn request(&self, message: Message) -> io::Result<()> {
        self.send(message)?;
        let mut answer = [0; 4096];
        let n = nix::unistd::read(&self.0, &mut answer)?;
        // struct nlmsghdr of type NLMSG_ERROR, then the error, negative, as an int.
        let word = |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
        let kind = i32::from(u16::from_ne_bytes([answer[4], answer[5]]));
        match (kind, word(HEADER_LEN)) {
            (libc::NLMSG_ERROR, 0) if n >= HEADER_LEN + 4 => Ok(()),
            (libc::NLMSG_ERROR, error) if n >= HEADER_LEN + 4 => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Brings a link up, with this MTU if one is given. ENODEV, EINVAL: the MTU is out of the driver's range.
    pub(crate) fn up(&self, name: &str, mtu: Option<u32>) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let named = |m: Message| m.attr(libc::IFLA_IFNAME, &with_nul(name));
        if let Some(mtu) = mtu {
            let message = named(Message::new(libc::RTM_NEWLINK, 0, &ifinfomsg(0, 0)));
            self.request(message.attr(libc::IFLA_MTU, &mtu.to_ne_bytes()))?;
        }
        self.request(named(Message::new(libc::RTM_NEWLINK, 0, &ifinfomsg(up, up))))
    }

    /// Sets how many packets may wait for a link's driver (txqueuelen).
    pub(crate) fn queue(&self, name: &str, packets: u32) -> io::Result<()> {
        let message = Message::new(libc::RTM_NEWLINK, 0, &ifinfomsg(0, 0)).attr(libc::IFLA_IFNAME, &with_nul(name));
        self.request(message.attr(libc::IFLA_TXQLEN, &packets.to_ne_bytes()))
    }

    /// Makes two Ethernet interfaces joined by a wire. EPERM; EOPNOTSUPP: this kernel has no veth.
    pub(crate) fn add_veth(&self, names: [&str; 2]) -> io::Result<()> {
        let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let [a, b] = names.map(with_nul);
        let message = Message::new(libc::RTM_NEWLINK, create, &ifinfomsg(0, 0)).attr(libc::IFLA_IFNAME, &a);
        self.request(message.nested(libc::IFLA_LINKINFO, |m| {
            m.attr(libc::IFLA_INFO_KIND, b"veth").nested(libc::IFLA_INFO_DATA, |m| {
                m.nested(VETH_INFO_PEER, |m| m.bytes(&ifinfomsg(0, 0)).attr(libc::IFLA_IFNAME, &b))
            })
        }))
    }

    /// Keeps the kernel from giving a link an IPv6 address of its own accord. EAFNOSUPPORT and others: this kernel has
    /// no IPv6, and nothing is to be kept from.
    pub(crate) fn without_link_local(&self, name: &str) -> io::Result<()> {
        let message = Message::new(libc::RTM_NEWLINK, 0, &ifinfomsg(0, 0)).attr(libc::IFLA_IFNAME, &with_nul(name));
        self.request(message.nested(libc::IFLA_AF_SPEC, |m| {
            m.nested(libc::AF_INET6 as u16, |m| m.attr(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]))
        }))
    }

    /// Gives a link an address, usable at once. EEXIST; of IPv6 EACCES, EOPNOTSUPP: it is off here.
    pub(crate) fn add_address(&self, name: &str, address: Cidr) -> io::Result<()> {
        let index = nix::net::if_::if_nametoindex(name)?;
        let (family, bytes) = match address.addr() {
            IpAddr::V4(a) => (libc::AF_INET, a.octets().to_vec()),
            IpAddr::V6(a) => (libc::AF_INET6, a.octets().to_vec()),
        };
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let mut fixed = [family as u8, address.prefix(), 0, 0, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed);
        let message = message.attr(libc::IFA_LOCAL, &bytes).attr(libc::IFA_ADDRESS, &bytes);
        self.request(message.attr(libc::IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_lengths_counted() {
        let m = Message::new(16, 0, &[]).nested(18, |m| m.attr(1, b"veth\0").attr(2, &[7]));
        assert_eq!(
            m.0[HEADER_LEN..],
            [24, 0, 18, 0, 9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0, 5, 0, 2, 0, 7, 0, 0, 0]
        );
    }

    #[test]
    fn the_kernel_s_refusal_is_an_error() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.up("usk-no-such-if", None).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
