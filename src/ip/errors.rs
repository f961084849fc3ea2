//! Errors that sockets are told of: those that ICMP brings, and a datagram too long for its path. Above: UDP, ping,
//! raw, plug-ins, and TCP's recvmsg (MSG_ERRQUEUE). Below: `rxcontrol`, `exception`. Linux: ip_icmp_error,
//! ip_local_error, ip_recv_error.

use super::kind::is_udp;
use super::{exception, flowlabel, rfc4884, rxcontrol, sockopt};
use crate::base::error::{Error, Result};
use crate::sock::addr::AF_INET;
use crate::sock::exterr::{ErrEntry, IpPacket, origin};
use crate::sock::msg::{Control, RecvMsg, SockExtendedErr};
use crate::sock::packet::IcmpError;
use crate::sock::state::State;
use crate::sock::tstamp::{self, sof};
use crate::sock::{Sock, SockCommon, SockGuard, ip_flag};
use crate::stack::Stack;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Type of the control message with TCP's measurements.
const SCM_TIMESTAMPING_OPT_STATS: i32 = 54;

/// recvmsg with MSG_ERRQUEUE, of any protocol: never waits. EAGAIN when nothing is queued. Linux: ip_recv_error,
/// ipv6_recv_error.
pub fn recv_error(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let mut e = g.sock.next_error()?;
    let n = msg.put(&e.payload);
    if msg.faulted() {
        return Err(Error::Fault);
    }
    if n < e.payload.len() {
        msg.out_flags |= libc::MSG_TRUNC;
    }
    msg.out_flags |= libc::MSG_ERRQUEUE;
    msg.name = e.addr.map(|to| flowlabel::of_name(&g.common, to));
    let before = msg.control.len();
    tstamp::received(
        g,
        e.came.unwrap_or_else(|| g.stack.now()),
        e.err.origin == origin::TIMESTAMPING,
        &mut msg.control,
    );
    if e.opt_stats && msg.control.len() > before {
        let (level, ty) = (libc::SOL_SOCKET, SCM_TIMESTAMPING_OPT_STATS);
        msg.control.push(Control::Other { level, ty, data: std::mem::take(&mut e.payload) });
    }
    // Of a packet with a timestamp a socket of IPv4 is told only if it asks for that (ipv4_datagram_support_cmsg).
    let cmsg = g.sock.tsflags() & sof::OPT_CMSG != 0;
    if e.err.origin == origin::TIMESTAMPING && g.sock.family == AF_INET && !cmsg {
        (e.packet, e.err.offender) = (None, None);
    }
    if let Some(p) = e.packet {
        rxcontrol::ip_control(&g.common, p.dst, (p.ifindex, p.spec_dst), (p.ttl, p.tos), &mut msg.control);
        rxcontrol::of_error(&g.common, &p, &e, &mut msg.control);
    }
    msg.control.push(Control::RecvErr(e.err));
    Ok(n)
}

/// What an ICMP error does to the socket that sent the packet: it is queued where the socket asks for that
/// (IP_RECVERR), and becomes SO_ERROR if it is queued, or is hard and the socket connected. `to`: where the packet
/// went; `payload`: what is left of its data. Learns path MTUs. Linux: __udp4_lib_err, ping_err, raw_err.
pub fn icmp_error(g: &mut SockGuard<'_>, e: &IcmpError<'_>, to: SocketAddr, payload: &[u8]) {
    let v4 = e.src.is_ipv4();
    let mut fatal = e.fatal;
    learn_path(g, e);
    if e.errno == Error::MsgSize {
        if i32::from(g.common.pmtudisc) == libc::IP_PMTUDISC_DONT {
            return;
        }
        fatal = true;
    }
    if sockopt::wants_errors(g, v4) {
        let err = SockExtendedErr {
            errno: e.errno.errno() as u32,
            origin: if v4 { origin::ICMP } else { origin::ICMP6 },
            ty: e.ty,
            code: e.code,
            info: e.info,
            data: if wants_extension(&g.common, v4) { rfc4884::ee_data(e, payload) } else { 0 },
            offender: Some(e.reporter),
        };
        let spec_dst = Ipv4Addr::UNSPECIFIED;
        let packet = Some(IpPacket {
            dst: e.src,
            spec_dst,
            ifindex: e.ifindex,
            ttl: e.ttl,
            tos: e.tos,
            flow_label: e.flow_label,
        });
        let (payload, came) = (payload.to_vec(), Some(e.now));
        let to = with_flowinfo(to, e.flowinfo);
        let entry = ErrEntry { addr: Some(to), err, payload, packet, came, opt_stats: false };
        g.sock.queue_error(entry);
    } else if !fatal || g.sock.state() != State::Established {
        return;
    }
    g.sock.report_error(e.errno);
}

/// Learns the path's MTU from an ICMP error of that kind.
pub(crate) fn learn_path(g: &mut SockGuard<'_>, e: &IcmpError<'_>) {
    if e.errno == Error::MsgSize {
        exception::update_pmtu(g.stack, e.dst, e.info, e.now);
        g.common.dst = None;
    }
}

/// The name of a packet's destination with the flow information that the packet had (ipv6_recv_error).
fn with_flowinfo(mut to: SocketAddr, flowinfo: u32) -> SocketAddr {
    if let SocketAddr::V6(to) = &mut to {
        to.set_flowinfo(flowinfo);
    }
    to
}

/// IP_RECVERR_RFC4884, IPV6_RECVERR_RFC4884.
fn wants_extension(c: &SockCommon, v4: bool) -> bool {
    c.ip_flags & if v4 { ip_flag::RECVERR_RFC4884 } else { ip_flag::RECVERR6_RFC4884 } != 0
}

/// Tells a sock of an ICMP error by `tell`, which calls [`icmp_error`]: now, or when the system call that owns the sock
/// releases it. Linux queues errors without owning the sock; one that comes in the middle of a call is as one that
/// comes just behind it.
pub fn report(
    stack: &Arc<Stack>,
    sock: &Arc<Sock>,
    e: &IcmpError<'_>,
    tell: impl Fn(&mut SockGuard<'_>, &IcmpError<'_>) + Send + 'static,
) {
    if sock.try_own(stack, e.now, |g| tell(g, e)).is_none() {
        let (quoted, e) = (e.quoted.to_vec(), IcmpError { quoted: &[], ..*e });
        sock.own_or_leave(stack, e.now, move |g| tell(g, &IcmpError { quoted: &quoted, ..e }));
    }
}

/// A datagram was too long for its path: queued with the MTU where the socket asks for it (ip_local_error).
pub fn local_too_long(g: &mut SockGuard<'_>, to: SocketAddr, mtu: u32) {
    if !sockopt::wants_errors(g, to.is_ipv4()) {
        return;
    }
    // Over IPv4 the port is the peer's, whatever the name's was; over IPv6 only UDP has ports.
    let port = match to.is_ipv4() {
        true => g.common.dport,
        false if is_udp(g.sock) => to.port(),
        false => 0,
    };
    let mut to = to;
    to.set_port(port);
    let errno = Error::MsgSize.errno() as u32;
    let err = SockExtendedErr { errno, origin: origin::LOCAL, ty: 0, code: 0, info: mtu, data: 0, offender: None };
    let (payload, packet, came) = (Vec::new(), None, None);
    let entry = ErrEntry { addr: Some(to), err, payload, packet, came, opt_stats: false };
    g.sock.queue_error(entry);
}
