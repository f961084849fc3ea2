//! connect(2) of a stream: the state of the socket as a whole, which is separate from the connection's, and the wait
//! for the handshake. Above: `inet` (connect), and protocols whose sendmsg(2) connects (MSG_FASTOPEN). Below:
//! `Proto::connect`. Process context, owned. Linux: __inet_stream_connect, inet_wait_for_connect.

use crate::base::error::{Error, Result};
use crate::sock::addr::{AF_INET, SIN6_LEN_RFC2133, unmap};
use crate::sock::msg::OddName;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{Sock, SockGuard, ip_flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of the socket as a whole (socket_state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SocketState {
    #[default]
    Unconnected,
    Connecting,
    Connected,
    /// shutdown(2) came before the handshake was over.
    Disconnecting,
}

/// A sendmsg(2) that connects: sends the SYN that `Proto::connect` has left to it.
pub(crate) type SendSyn<'f> = dyn FnMut(&mut SockGuard<'_>) -> Result<()> + 'f;

/// EINVAL: too few bytes for the socket's family; EAFNOSUPPORT: of another one (tcp_v4_connect, tcp_v6_connect).
pub(crate) fn refuses(sock: &Sock, odd: OddName) -> Error {
    let whole = if sock.family != AF_INET { SIN6_LEN_RFC2133 } else { size_of::<libc::sockaddr_in>() };
    if odd.family != sock.family && odd.len >= whole { Error::AfNoSupport } else { Error::Inval }
}

/// The address to connect to: family checked, unmapped. `::` becomes the loopback address of the family that the socket
/// is bound in (tcp_v6_connect, ip6_datagram_connect); the route lookup resolves 0.0.0.0.
pub(crate) fn destination(g: &SockGuard<'_>, addr: SocketAddr) -> Result<SocketAddr> {
    if addr.is_ipv6() != (g.sock.family != AF_INET) {
        return Err(Error::AfNoSupport);
    }
    let a = unmap(addr);
    Ok(match a.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() && g.common.rcv_saddr.is_ipv4() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), a.port())
        }
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), a.port()),
        _ => a,
    })
}

/// connect(2) of a stream; `addr` None is of family AF_UNSPEC (dissolve the association), an error is returned where
/// the address would be looked at. `send_syn`: the call is a sendmsg(2). Errors: EISCONN, EALREADY, EINPROGRESS, EINTR,
/// those of the protocol, and that of the connection.
pub(crate) fn connect_stream(
    g: &mut SockGuard<'_>,
    addr: Result<Option<SocketAddr>>,
    nonblock: bool,
    send_syn: Option<&mut SendSyn<'_>>,
) -> Result<()> {
    let sock = g.sock;
    let proto = sock.proto();
    if addr == Ok(None) {
        proto.disconnect(g)?;
        g.common.socket_state = SocketState::Unconnected;
        return Ok(());
    }
    let pending = match g.common.socket_state {
        SocketState::Connected => return Err(Error::IsConn),
        // The SYN is left to the first write(2), and this call is it, or another connect(2).
        SocketState::Connecting if g.common.ip_flags & ip_flag::DEFER_CONNECT != 0 => match send_syn {
            Some(_) => Error::InProgress,
            None => Error::IsConn,
        },
        SocketState::Connecting => Error::Already,
        SocketState::Disconnecting => return Err(Error::Inval),
        SocketState::Unconnected => {
            if sock.state() != State::Close {
                return Err(Error::IsConn);
            }
            let addr = destination(g, addr?.ok_or(Error::Inval)?)?;
            proto.pre_connect(g, addr)?;
            proto.connect(g, addr)?;
            if let Some(send_syn) = send_syn {
                send_syn(g)?;
            }
            g.common.socket_state = SocketState::Connecting;
            if g.common.ip_flags & ip_flag::DEFER_CONNECT != 0 {
                return Ok(());
            }
            Error::InProgress
        }
    };
    wait_for_connect(g, pending, nonblock)?;
    if sock.state() == State::Close {
        g.common.socket_state = SocketState::Unconnected;
        let err = sock.take_error().err().unwrap_or(Error::ConnAborted);
        // If disconnect fails there is nothing to undo: the connection is closed already.
        let _ = proto.disconnect(g);
        return Err(err);
    }
    g.common.socket_state = SocketState::Connected;
    Ok(())
}

fn wait_for_connect(g: &mut SockGuard<'_>, pending: Error, nonblock: bool) -> Result<()> {
    let sock = g.sock;
    // A sock_ops hook may have broken the sock while the SYN was built.
    if sock.is_broken() {
        return Err(Error::Io);
    }
    let waiting = |s: State| matches!(s, State::SynSent | State::SynRecv);
    if !waiting(sock.state()) {
        return Ok(());
    }
    if nonblock {
        return Err(pending);
    }
    let deadline = g.common.sndtimeo.get().map(|t| g.now() + t);
    while waiting(sock.state()) {
        match g.sleep(Events::OUT | Events::IN, false, deadline) {
            Ok(()) => {}
            Err(Error::Again) => return Err(pending),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
