//! connect(2): of a datagram socket here, of a stream in `sock::connect`. Above: `Socket`. Below: `Proto::connect`.
//! Linux: inet_stream_connect, inet_dgram_connect.

use super::Socket;
use crate::base::error::{Error, Result};
use crate::sock::addr::AF_INET;
use crate::sock::msg::OddName;
use crate::sock::{connect, flag};
use std::net::SocketAddr;

impl Socket {
    /// connect(2); None is an address of family AF_UNSPEC (dissolve the association). Errors: EISCONN, EALREADY,
    /// EINPROGRESS, EAFNOSUPPORT, ENETUNREACH, EADDRNOTAVAIL, ECONNREFUSED, ETIMEDOUT, EINTR (the attempt goes on).
    pub fn connect(&self, addr: Option<SocketAddr>) -> Result<()> {
        self.connect_to(Ok(addr))
    }

    /// As [`Socket::connect`], with bytes that may be no address: what they are refused with is returned where the
    /// address would be looked at, behind the checks of the socket's state.
    pub fn connect_to(&self, addr: std::result::Result<Option<SocketAddr>, OddName>) -> Result<()> {
        self.usable()?;
        let addr = addr.map_err(|odd| self.refuses(odd));
        let r = if self.sock.proto().is_stream() || self.sock.ty == libc::SOCK_SEQPACKET as u16 {
            self.restarting(
                |c| c.sndtimeo.get(),
                || {
                    let mut g = self.sock.lock(&self.stack);
                    connect::connect_stream(&mut g, addr, self.nonblocking(), None)
                },
            )
        } else {
            self.connect_dgram(addr)
        };
        self.done(r)
    }

    /// EINVAL: too few bytes for the socket's family; EAFNOSUPPORT: of another one. Which comes first is each
    /// protocol's own (__ip6_datagram_connect, ip6_datagram_connect_v6_only, __ip4_datagram_connect).
    fn refuses(&self, odd: OddName) -> Error {
        let (sock, family) = (&self.sock, i32::from(odd.family));
        let v6 = sock.family != AF_INET;
        let datagrams = v6 && !sock.proto().is_stream();
        let udp = sock.ty == libc::SOCK_DGRAM as u16 && sock.protocol == libc::IPPROTO_UDP as u16;
        let family_first = datagrams && (!udp || family == libc::AF_INET && self.is_v6only());
        match odd.family != sock.family && family_first {
            true => Error::AfNoSupport,
            false => connect::refuses(sock, odd),
        }
    }

    fn is_v6only(&self) -> bool {
        self.sock.lock(&self.stack).common.flag(flag::V6ONLY)
    }

    /// A socket without a port gets one also where the address is refused (inet_dgram_connect).
    fn connect_dgram(&self, addr: Result<Option<SocketAddr>>) -> Result<()> {
        let proto = self.sock.proto();
        let mut g = self.sock.lock(&self.stack);
        if addr == Ok(None) {
            return proto.disconnect(&mut g);
        }
        // A datagram socket of IPv6 takes a plain IPv4 name, too.
        let raw = self.sock.ty == libc::SOCK_RAW as u16;
        let v4_too = self.sock.family != AF_INET && !raw && !g.common.flag(flag::V6ONLY);
        let addr = addr.and_then(|addr| match addr {
            Some(addr) if addr.is_ipv4() && v4_too => Ok(addr),
            Some(addr) => connect::destination(&g, addr),
            None => Err(Error::Inval),
        });
        if let Ok(addr) = addr {
            proto.pre_connect(&mut g, addr)?;
        }
        if g.common.sport == 0 && !raw {
            proto.get_port(&mut g, 0).map_err(|_| Error::Again)?;
        }
        proto.connect(&mut g, addr?)
    }
}
