//! Control messages of sent datagrams. Above: `plan`, which decides by what they ask. Linux: ip_cmsg_send,
//! ip6_datagram_send_ctl, udp_cmsg_send, sock_cmsg_send.

use super::kind::{any_source, is_udp, scope_of};
use super::{bind, options, route, rxcontrol, socket_headers};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::addr::AF_INET;
use crate::sock::ip_more::TxHeaders;
use crate::sock::msg::Control;
use crate::sock::tstamp::Cookie;
use crate::sock::{SockCommon, SockGuard};
use crate::wire::ipv6::FLOWINFO;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The priority that goes with a TOS (rt_tos2priority; the table is that of tc-prio(8)).
pub(super) fn tos_priority(tos: u8) -> u32 {
    const BAND: [u32; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
    BAND[usize::from(tos >> 1 & 15)]
}

/// The interface that IPV6_PKTINFO has set for what is sent over IPv6; 0: none. The address that it has set chooses no
/// source on Linux, and is only told by IPV6_2292PKTOPTIONS.
pub(super) fn sticky_if(c: &SockCommon) -> u32 {
    c.ip_more.as_ref().and_then(|m| m.sticky_pktinfo).map_or(0, |p| p.0)
}

/// What control messages ask of one datagram.
pub(super) struct Asked {
    pub src: Option<IpAddr>,
    /// The route's source, not the socket's: IP_PKTINFO without an address.
    pub by_route: bool,
    /// Interface index; 0: none.
    pub oif: u32,
    pub ttl: Option<u8>,
    pub tos: Option<u8>,
    pub flowinfo: u32,
    pub dont_frag: Option<bool>,
    pub headers: Option<Arc<TxHeaders>>,
    pub segment: Option<u16>,
    pub stamps: Cookie,
    pub tx_time: Instant,
    pub mark: u32,
    pub priority: u32,
    pub options: Option<Box<[u8]>>,
}

impl Asked {
    /// IP_PKTINFO or IPV6_PKTINFO asks for an interface, a source address, or both: each is 0 where it does not. The
    /// name says the interface `scope`.
    fn leave_from(&mut self, g: &SockGuard<'_>, v4: bool, scope: u32, (ifindex, addr): (u32, IpAddr)) -> Result<()> {
        let (stack, c) = (g.stack, &g.common);
        let of_socket = || if c.bound_dev_if != 0 { c.bound_dev_if } else { sticky_if(c) };
        if ifindex != 0 {
            // What the destination names comes before what the socket does.
            let known = if scope != 0 { scope } else { of_socket() };
            if !v4 && known != 0 && known != ifindex {
                return Err(Error::Inval);
            }
            self.oif = ifindex;
        }
        let device = match self.oif {
            0 if !v4 && scope != 0 => scope,
            0 if !v4 => of_socket(),
            _ => ifindex,
        };
        if device != 0 {
            stack.netdevs.by_index(device).ok_or(Error::NoDev)?;
        }
        let addr = match addr {
            IpAddr::V6(a) if v4 => IpAddr::V4(a.to_ipv4_mapped().ok_or(Error::Inval)?),
            addr => addr,
        };
        if addr.is_unspecified() {
            if v4 {
                (self.src, self.by_route) = (None, true);
            }
            return Ok(());
        }
        let free = if v4 { any_source(c) } else { bind::may_be_foreign(g, addr) };
        if !free && !route::is_local(stack, addr) {
            let bad = !v4 || addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST);
            return Err(if bad { Error::Inval } else { Error::NetUnreach });
        }
        (self.src, self.by_route) = (Some(addr), false);
        Ok(())
    }
}

/// Reads control messages for a datagram over IPv4 (`v4`) or IPv6: those of the other family's level do not count, but
/// for IPV6_PKTINFO with a v4-mapped address (ip_cmsg_send, ip6_datagram_send_ctl, udp_cmsg_send). The name says
/// `flowinfo` (or the association does) and the interface `scope`. Errors: EINVAL; over IPv4 ENODEV and ENETUNREACH for
/// an interface and a source that are not here.
pub(super) fn asked_for(
    g: &SockGuard<'_>,
    v4: bool,
    (flowinfo, scope): (u32, u32),
    control: &[Control],
) -> Result<Asked> {
    let (stack, c, stamps) = (g.stack, &g.common, Cookie::of(g.sock));
    let mut asked = Asked {
        src: None,
        by_route: false,
        oif: 0,
        ttl: None,
        tos: None,
        flowinfo,
        dont_frag: None,
        headers: if v4 { None } else { socket_headers::of_call(stack, control)? },
        segment: None,
        stamps,
        tx_time: Instant::ZERO,
        mark: c.mark,
        priority: c.priority,
        options: None,
    };
    let udp = is_udp(g.sock);
    let own_level = if v4 { libc::SOL_IP } else { libc::SOL_IPV6 };
    for item in control {
        match item {
            Control::PktInfo { addr: IpAddr::V4(_), .. } if !v4 => {}
            Control::PktInfo { addr: IpAddr::V6(_), .. } if v4 && g.sock.family == AF_INET => {}
            Control::PktInfo { addr: IpAddr::V6(a), .. } if v4 && a.to_ipv4_mapped().is_none() => {
                return Err(Error::Inval);
            }
            Control::PktInfo { ifindex, addr, .. } => asked.leave_from(g, v4, scope, (*ifindex, *addr))?,
            Control::Ttl(n) if v4 && (1..=255).contains(n) => asked.ttl = Some(*n as u8),
            Control::HopLimit(n) if !v4 && (-1..=255).contains(n) => asked.ttl = u8::try_from(*n).ok(),
            Control::Tos(n) if v4 && (0..=255).contains(n) => {
                (asked.tos, asked.priority) = (Some(*n as u8), tos_priority(*n as u8));
            }
            Control::Tclass(n) if !v4 && (-1..=255).contains(n) => asked.tos = u8::try_from(*n).ok(),
            Control::DontFrag(on) if !v4 => asked.dont_frag = Some(*on),
            Control::Ttl(_) | Control::Tos(_) if !v4 => {}
            Control::HopLimit(_) | Control::Tclass(_) | Control::DontFrag(_) if v4 => {}
            Control::UdpSegment(n) if udp => asked.segment = Some(*n),
            Control::UdpSegment(_) => {}
            Control::TxTime(0) if c.txtime.is_some() => {}
            Control::TxTime(nanos) if c.txtime.is_some() => asked.tx_time = stack.clock.at_monotonic(*nanos),
            Control::Mark(mark) => asked.mark = *mark,
            Control::Priority(priority) => asked.priority = *priority,
            Control::Other { level: libc::SOL_SOCKET, ty, data } if asked.stamps.read(g.sock, *ty, data)? => {}
            Control::Other { level: libc::SOL_SOCKET, ty: libc::SCM_RIGHTS | libc::SCM_CREDENTIALS, .. } => {}
            Control::Other { level: libc::SOL_IP, ty: libc::IP_RETOPTS, data } if v4 => {
                asked.options = Some(options::given(data)?);
            }
            Control::Other { level: libc::SOL_IPV6, ty: rxcontrol::IPV6_FLOWINFO, data } if !v4 => {
                asked.flowinfo = flowinfo_of(data, asked.flowinfo)?;
            }
            Control::Other { level: libc::SOL_IPV6, ty: libc::IPV6_PKTINFO, .. } if g.sock.family != AF_INET => {
                return Err(Error::Inval);
            }
            Control::Other { level, ty, .. } if !v4 && socket_headers::is_header(*level, *ty) => {}
            Control::Other { level, .. } if *level == libc::SOL_UDP && !udp => {}
            Control::Other { level, .. } if ![libc::SOL_SOCKET, libc::SOL_UDP, own_level].contains(level) => {}
            _ => return Err(Error::Inval),
        }
    }
    Ok(asked)
}

/// The flow information of a control message. EINVAL: it is too short, or has bits of the version where the name has
/// flow information, too (ip6_datagram_send_ctl).
fn flowinfo_of(data: &[u8], of_name: u32) -> Result<u32> {
    let word = u32::from_be_bytes(*data.first_chunk().ok_or(Error::Inval)?);
    if of_name != 0 && word & !FLOWINFO != 0 { Err(Error::Inval) } else { Ok(word & FLOWINFO) }
}

/// The extension headers in control messages of IPv6, all of which are checked as those of a call
/// (ip6_datagram_send_ctl).
pub(super) fn headers_of(g: &SockGuard<'_>, control: &[Control]) -> Result<Option<Arc<TxHeaders>>> {
    asked_for(g, false, (0, 0), control).map(|asked| asked.headers)
}

/// Checks the control messages of a call that names `to`, before anything else of the way is looked at.
pub(crate) fn check_control_to(g: &SockGuard<'_>, v4: bool, to: SocketAddr, control: &[Control]) -> Result<()> {
    asked_for(g, v4, (0, scope_of(to)), control).map(drop)
}

/// Checks the control messages of a call for a datagram over IPv4 (`v4`) or IPv6, as `plan` does. Of a `stream` only
/// those of SOL_SOCKET are looked at, as TCP does (sock_cmsg_send).
pub fn check_control(g: &SockGuard<'_>, v4: bool, stream: bool, control: &[Control]) -> Result<()> {
    if !stream {
        return asked_for(g, v4, (0, 0), control).map(drop);
    }
    let of_socket = |c: &&Control| match c {
        Control::Other { level, .. } => *level == libc::SOL_SOCKET,
        Control::Mark(_) | Control::Priority(_) | Control::TxTime(_) | Control::Malformed => true,
        _ => false,
    };
    asked_for(g, v4, (0, 0), &control.iter().filter(of_socket).cloned().collect::<Vec<_>>()).map(drop)
}
