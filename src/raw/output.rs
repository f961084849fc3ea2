//! Raw output: the program's bytes behind an IP header of the stack's, or with one of the program's own. Above:
//! `sendmsg`. Below: `ip::output`. Linux: raw_sendmsg, raw_send_hdrinc, rawv6_sendmsg, rawv6_send_hdrinc.

use super::private;
use crate::base::error::{Error, Result};
use crate::ip::cork::Cork;
use crate::ip::net;
use crate::ip::output::xmit_with_header;
use crate::ip::plan::{self, Plan};
use crate::ip::txcontrol;
use crate::ip::{datagram, errors};
use crate::sock::addr::{AF_UNSPEC, SIN6_LEN_RFC2133, unmap};
use crate::sock::msg::{Control, MSG_PROBE, SendMsg};
use crate::sock::skb::{L3, Skb, TxOwner};
use crate::sock::state::State;
use crate::sock::{SockGuard, flag};
use crate::wire::{checksum, ip, ipv6, proto};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What MSG_MORE holds back: the way of the first call, and the bytes so far.
pub(super) struct Pending {
    plan: Plan,
    protocol: u8,
    bytes: Vec<u8>,
    /// Its memory, which is charged to the socket while it waits.
    cork: Cork,
}

/// Takes what waits, and its charge off the socket.
pub(super) fn take(g: &mut SockGuard<'_>) -> Result<Option<Pending>> {
    let pending = private(g)?.pending.take();
    if let Some(p) = &pending {
        p.cork.uncharge(g.sock);
    }
    Ok(pending)
}

/// sendmsg(2): returns the length, which is always taken whole. Errors: EOPNOTSUPP (MSG_OOB), EMSGSIZE, EDESTADDRREQ,
/// EINVAL, EAFNOSUPPORT, EACCES, EFAULT, ENOBUFS, and those of the route lookup; with the program's own header also
/// EAGAIN, EINTR, EPIPE and the pending error.
pub(super) fn sendmsg(g: &mut SockGuard<'_>, v4: bool, msg: &mut SendMsg<'_>) -> Result<usize> {
    let len = msg.remaining();
    if v4 && len > 0xffff {
        return Err(Error::MsgSize);
    }
    if msg.flags & libc::MSG_OOB != 0 {
        return Err(Error::OpNotSupp);
    }
    let (to, protocol) = if v4 { name_v4(g, msg)? } else { name_v6(g, msg)? };
    let header_included = g.common.flag(flag::HDRINCL);
    txcontrol::check_control_to(g, v4, to, &msg.control)?;
    // IP options have no place behind a header of the program's. Said before there is a look for a route (raw_sendmsg).
    if header_included && v4 && has_options(g, &msg.control) {
        return Err(Error::Inval);
    }
    if !header_included && matches!((v4, protocol), (true, proto::ICMP) | (false, proto::ICMPV6)) {
        // The type is looked at for the route lookup (raw_probe_proto_opt).
        if len < 2 {
            return Err(Error::Fault);
        }
        msg.begins(2)?;
    }
    // A v4-mapped peer has no route over IPv6.
    if to.is_ipv4() != v4 {
        return Err(Error::NetUnreach);
    }
    let plan = plan::plan(g, to, &msg.control, msg.flags)?;
    match header_included {
        true => send_with_header(g, v4, &plan, msg)?,
        false => append(g, v4, plan, protocol, msg)?,
    }
    Ok(len)
}

/// Whether the socket has IP options, or the call names some, be they none.
fn has_options(g: &SockGuard<'_>, control: &[Control]) -> bool {
    let of_call = |c: &Control| matches!(c, Control::Other { level: libc::SOL_IP, ty: libc::IP_RETOPTS, .. });
    g.common.ip_more.as_ref().is_some_and(|m| !m.options.is_empty()) || control.iter().any(of_call)
}

/// Where to: the name of AF_INET (or of AF_UNSPEC, which counts as that), or the peer; and the protocol number.
fn name_v4(g: &SockGuard<'_>, msg: &SendMsg<'_>) -> Result<(SocketAddr, u8)> {
    let name = match (msg.name, msg.odd_name) {
        (Some(SocketAddr::V6(_)), _) => return Err(Error::AfNoSupport),
        (_, Some(odd)) if odd.len == 0 => None,
        (_, Some(odd)) if odd.len < size_of::<libc::sockaddr_in>() => return Err(Error::Inval),
        (_, Some(odd)) if odd.family == AF_UNSPEC => Some(odd.inet.into()),
        (_, Some(_)) => return Err(Error::AfNoSupport),
        (name, None) => name,
    };
    Ok((datagram::destination(g, name, true)?, g.sock.protocol as u8))
}

/// As [`name_v4`]; the port of a name is the protocol number, which IPPROTO_RAW leaves to it.
fn name_v6(g: &SockGuard<'_>, msg: &SendMsg<'_>) -> Result<(SocketAddr, u8)> {
    let number = g.sock.protocol;
    let name = match (msg.name, msg.odd_name) {
        // It is shorter than one of AF_INET6.
        (Some(SocketAddr::V4(_)), _) => return Err(Error::Inval),
        (_, Some(odd)) if odd.len < SIN6_LEN_RFC2133 => return Err(Error::Inval),
        (_, Some(odd)) if odd.family == AF_UNSPEC => Some(odd.inet6.into()),
        (_, Some(_)) => return Err(Error::AfNoSupport),
        (name, None) => name,
    };
    if name.is_none() && g.sock.state() != State::Established {
        return Err(Error::DestAddrReq);
    }
    let protocol = match name.map_or(0, |to: SocketAddr| to.port()) {
        0 => number,
        port if port != number && number != libc::IPPROTO_RAW as u16 => return Err(Error::Inval),
        port => port,
    };
    let protocol = u8::try_from(protocol).map_err(|_| Error::Inval)?;
    let mut to = match name.map(unmap) {
        Some(to) => to,
        None => datagram::destination(g, None, false)?,
    };
    if to.ip().is_unspecified() {
        to.set_ip(Ipv6Addr::LOCALHOST.into());
    }
    Ok((to, protocol))
}

/// Adds bytes to the packet that waits, or begins one, and sends it unless MSG_MORE is set (ip_append_data,
/// ip_push_pending_frames). A failure loses what waits. No room in the send buffer is no reason to wait here.
fn append(g: &mut SockGuard<'_>, v4: bool, plan: Plan, protocol: u8, msg: &mut SendMsg<'_>) -> Result<()> {
    let (src, to) = (plan.src, plan.to);
    let waits = take(g)?;
    let empty = waits.is_none();
    let cork = Cork::new(g, &plan, false);
    let mut packet = waits.unwrap_or(Pending { plan, protocol, bytes: Vec::new(), cork });
    let header = if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
    if msg.flags & MSG_PROBE == 0 {
        let (len, before) = (msg.remaining(), packet.bytes.len());
        let headers = packet.plan.headers_len();
        let most = if v4 { 0xffff - header } else { 0xffff - packet.plan.headers_share() };
        if before + len > most {
            errors::local_too_long(g, to, packet.plan.dst.mtu);
            return Err(Error::MsgSize);
        }
        packet.plan.fit(g, header + headers + before + len)?;
        packet.cork.append(g, len, 0)?;
        msg.readable()?;
        packet.bytes.resize(before + len, 0);
        if msg.copy_to(&mut packet.bytes[before..]) < len {
            return Err(Error::Fault);
        }
    } else if empty {
        return Ok(());
    }
    if msg.flags & libc::MSG_MORE != 0 {
        packet.cork.charge(g.sock);
        private(g)?.pending = Some(packet);
        return Ok(());
    }
    if v4 {
        // The last call says where the packet goes, the first by which way.
        (packet.plan.src, packet.plan.to) = (src, to);
    } else {
        fill_checksum(g, &mut packet)?;
    }
    send(g, v4, packet)
}

fn send(g: &mut SockGuard<'_>, v4: bool, packet: Pending) -> Result<()> {
    let Pending { mut plan, protocol, bytes, cork: _ } = packet;
    let header = if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN };
    let df = plan.fit(g, header + plan.headers_len() + bytes.len())?;
    let flow_label = plan.flow_label_of(g, protocol);
    plan.xmit(g, Skb::from_slice(&bytes), protocol, flow_label, df)
}

/// IPV6_CHECKSUM. EINVAL: its place is behind the end of the bytes (rawv6_push_pending_frames).
fn fill_checksum(g: &mut SockGuard<'_>, packet: &mut Pending) -> Result<()> {
    let Some(at) = private(g)?.checksum else { return Ok(()) };
    let (at, n) = (at as usize, packet.bytes.len() as u32);
    let field = packet.bytes.get_mut(at..at.saturating_add(2)).ok_or(Error::Inval)?;
    field.fill(0);
    let (src, dst) = (packet.plan.src, packet.plan.to.ip());
    let pseudo = checksum::pseudo_header(src, dst, packet.protocol, n);
    let sum = checksum::finish(checksum::sum(&packet.bytes, pseudo));
    let sum = if sum == 0 { 0xffff } else { sum };
    packet.bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// A packet with the program's own header is never fragmented.
fn send_with_header(g: &mut SockGuard<'_>, v4: bool, plan: &Plan, msg: &mut SendMsg<'_>) -> Result<()> {
    let (len, mtu) = (msg.remaining(), plan.dst.dev.caps().mtu);
    if len > mtu as usize {
        errors::local_too_long(g, plan.to, mtu);
        return Err(Error::MsgSize);
    }
    if len < if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN } {
        return Err(Error::Inval);
    }
    if msg.flags & MSG_PROBE != 0 {
        return Ok(());
    }
    datagram::wait_for_room(g, v4, msg.dontwait())?;
    msg.readable()?;
    let mut bytes = vec![0; len];
    if msg.copy_to(&mut bytes) < len {
        return Err(Error::Fault);
    }
    if v4 {
        complete_header(g, &mut bytes, plan.src, plan.to.ip())?;
    }
    let mut skb = Skb::from_slice(&bytes);
    skb.l3 = if v4 { L3::V4 } else { L3::V6 };
    skb.owner = Some(TxOwner::new(g.sock, skb.truesize));
    (skb.tx_stamp, skb.tx_time) = (plan.stamps.stamp(g.sock), plan.tx_time);
    (skb.mark, skb.priority) = (plan.mark, plan.priority);
    xmit_with_header(g.stack, &plan.dst, plan.to.ip(), skb, plan.looped).map(drop)
}

/// Completes the IP header that a program wrote, as in raw(7): total length and checksum always, source and
/// identification if they are 0. EINVAL: the header's length is none.
fn complete_header(g: &SockGuard<'_>, bytes: &mut [u8], src: IpAddr, to: IpAddr) -> Result<()> {
    let header_len = usize::from(bytes.first().ok_or(Error::Inval)? & 15) * 4;
    if header_len > bytes.len() || header_len < ip::HEADER_LEN {
        return Err(Error::Inval);
    }
    let total = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    if let (IpAddr::V4(own), [0, 0, 0, 0]) = (src, [bytes[12], bytes[13], bytes[14], bytes[15]]) {
        bytes[12..16].copy_from_slice(&own.octets());
    }
    if bytes[4..6] == [0, 0] {
        let id = net(g.stack).idents.next(g.stack, src, to, bytes[9], g.now()) as u16;
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
    }
    ip::fill_checksum(&mut bytes[..header_len]);
    Ok(())
}
