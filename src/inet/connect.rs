//! connect(2): the state of the socket, which is separate from the connection's, and the wait for the handshake. Above:
//! `Socket`. Below: `Proto::connect`. Linux: __inet_stream_connect, inet_dgram_connect, inet_wait_for_connect.

use super::{Socket, SocketState};
use crate::base::error::{Error, Result};
use crate::sock::addr::{AF_INET, SIN6_LEN_RFC2133};
use crate::sock::msg::OddName;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{SockGuard, flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

impl Socket {
    /// connect(2); None is an address of family AF_UNSPEC (dissolve the association). Errors: EISCONN, EALREADY,
    /// EINPROGRESS, EAFNOSUPPORT, ENETUNREACH, EADDRNOTAVAIL, ECONNREFUSED, ETIMEDOUT, EINTR (the attempt goes on).
    pub fn connect(&self, addr: Option<SocketAddr>) -> Result<()> {
        self.connect_to(Ok(addr))
    }

    /// As [`Socket::connect`], with bytes that may be no address: what they are refused with is returned where the
    /// address would be looked at, behind the checks of the socket's state.
    pub fn connect_to(&self, addr: std::result::Result<Option<SocketAddr>, OddName>) -> Result<()> {
        self.whole()?;
        let addr = addr.map_err(|odd| self.refuses(odd));
        let r = if self.sock.proto().is_stream() || self.sock.ty == libc::SOCK_SEQPACKET as u16 {
            self.restarting(|c| c.sndtimeo, || self.connect_stream(addr))
        } else {
            self.connect_dgram(addr)
        };
        self.done(r)
    }

    /// EINVAL: too few bytes for the socket's family; EAFNOSUPPORT: of another one. Which comes first is each
    /// protocol's own (tcp_v6_connect, __ip6_datagram_connect, ip6_datagram_connect_v6_only, __ip4_datagram_connect).
    fn refuses(&self, odd: OddName) -> Error {
        let (sock, family) = (&self.sock, i32::from(odd.family));
        let v6 = sock.family != AF_INET;
        let other = odd.family != sock.family;
        let whole = if v6 { SIN6_LEN_RFC2133 } else { size_of::<libc::sockaddr_in>() };
        let datagrams = v6 && !sock.proto().is_stream();
        let udp = sock.ty == libc::SOCK_DGRAM as u16 && sock.protocol == libc::IPPROTO_UDP as u16;
        let family_first = datagrams && (!udp || family == libc::AF_INET && self.is_v6only());
        match other {
            true if family_first => Error::AfNoSupport,
            true if odd.len >= whole => Error::AfNoSupport,
            _ => Error::Inval,
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
            Some(addr) => self.destination(&g, addr),
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

    /// The address to connect to: family checked, unmapped. `::` becomes the loopback address of the family that the
    /// socket is bound in (tcp_v6_connect, ip6_datagram_connect); the route lookup resolves 0.0.0.0.
    fn destination(&self, g: &SockGuard<'_>, addr: SocketAddr) -> Result<SocketAddr> {
        if self.sock.family == AF_INET && addr.is_ipv6() {
            return Err(Error::AfNoSupport);
        }
        if self.sock.family != AF_INET && addr.is_ipv4() {
            return Err(Error::AfNoSupport);
        }
        let a = super::unmap(addr);
        Ok(match a.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() && g.common.rcv_saddr.is_ipv4() => {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), a.port())
            }
            IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), a.port()),
            _ => a,
        })
    }

    fn connect_stream(&self, addr: Result<Option<SocketAddr>>) -> Result<()> {
        let proto = self.sock.proto();
        let mut g = self.sock.lock(&self.stack);
        if addr == Ok(None) {
            proto.disconnect(&mut g)?;
            *self.state.lock() = SocketState::Unconnected;
            // Who waits for a listener's events sees that it is none any more (tcp_disconnect's sk_error_report).
            self.sock.wait.wake(Events::ERR);
            return Ok(());
        }
        let state = *self.state.lock();
        let pending = match state {
            SocketState::Connected => return Err(Error::IsConn),
            SocketState::Connecting => Error::Already,
            SocketState::Disconnecting => return Err(Error::Inval),
            SocketState::Unconnected => {
                if self.sock.state() != State::Close {
                    return Err(Error::IsConn);
                }
                let addr = self.destination(&g, addr?.ok_or(Error::Inval)?)?;
                proto.pre_connect(&mut g, addr)?;
                proto.connect(&mut g, addr)?;
                *self.state.lock() = SocketState::Connecting;
                Error::InProgress
            }
        };
        self.wait_for_connect(&mut g, pending)?;
        if self.sock.state() == State::Close {
            *self.state.lock() = SocketState::Unconnected;
            let err = self.sock.take_error().err().unwrap_or(Error::ConnAborted);
            // If disconnect fails there is nothing to undo: the connection is closed already.
            let _ = proto.disconnect(&mut g);
            return Err(err);
        }
        *self.state.lock() = SocketState::Connected;
        Ok(())
    }

    fn wait_for_connect(&self, g: &mut SockGuard<'_>, pending: Error) -> Result<()> {
        // A sock_ops hook may have broken the sock while the SYN was built.
        self.whole()?;
        let waiting = |s: State| matches!(s, State::SynSent | State::SynRecv);
        if !waiting(self.sock.state()) {
            return Ok(());
        }
        if self.nonblocking() {
            return Err(pending);
        }
        let deadline = g.common.sndtimeo.map(|t| g.now() + t);
        while waiting(self.sock.state()) {
            match g.sleep(Events::OUT | Events::IN, false, deadline) {
                Ok(()) => {}
                Err(Error::Again) => return Err(pending),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
