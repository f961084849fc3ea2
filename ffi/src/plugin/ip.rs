//! IP for a protocol written in C: routes, output, options of the IP levels, checksums. Linux: ip_route_output,
//! ip_queue_xmit, ip_setsockopt, csum_partial.

use super::addr::usk_addr_t;
use super::call::{asked, asks};
use super::gate::{kernel, obj, obj_mut};
use super::gate::{slice, slice_mut};
use super::guard::{guard, usk_owned_t};
use super::info::peer;
use super::ports;
use super::private::{living, parts};
use super::proto::{ProtoReg, usk_icmp_error_t, usk_packet_info_t};
use super::registration::usk_reg_t;
use super::skb::{self, usk_skb_t};
use crate::handle::{Handle, usk_sock_t};
use std::ffi::{c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use usersock::error::{Error, Result};
use usersock::internal::wire::{ip, ipv6};
use usersock::ip::icmp::{self, TransportError};
use usersock::ip::output::{self, IpTx};
use usersock::ip::plan::{self, Plan};
use usersock::ip::source::LastSource;
use usersock::ip::{datagram, errors, exception, kind, route, sockopt, source};
use usersock::sock::msg::Control;
use usersock::sock::packet::{IcmpError, PacketInfo};
use usersock::sock::skb::Skb;
use usersock::sock::{SockGuard, flag};
use usersock::wire::checksum;

/// Routes the sock to `to`, and sets the peer and, if it is not bound to one, the source address. The state becomes
/// TCP_ESTABLISHED (1), as for a connected datagram socket; the caller may set another one afterwards. For the connect
/// operation. -ENETUNREACH, -EACCES (broadcast), -EINVAL ...
/// # Safety
/// `o` is owned; `to` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_route_connect(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, to) = unsafe { (guard(o)?, obj(to)?) };
        living(g)?;
        datagram::connect(g, to.to_socket_addr()?).map(|()| 0)
    })
}

/// Disconnects the sock: no peer, state TCP_CLOSE (7). It keeps a port that bind(2) named; an automatically chosen one
/// is released, and the sock is not bound any more (__udp_disconnect).
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_route_disconnect(o: *mut usk_owned_t) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        parts(g)?;
        datagram::disconnect(g);
        // A raw socket's "port" is its protocol number.
        if !g.common.flag(flag::BINDPORT_LOCK) && i32::from(g.sock.ty) != libc::SOCK_RAW {
            ports::unhash(g)?;
            g.common.sport = 0;
        }
        Ok(0)
    })
}

/// The source of packets to `to`: the sock's own address, or the preferred one of the route, and its port.
/// In a sendmsg operation also as the call's control messages say (IP_PKTINFO). Of the peer, and of the destination of
/// the last call, the source is known and no route is looked up. -ENETUNREACH, -EACCES, -EINVAL ...
/// # Safety
/// `o` is owned; `to` is readable; `from` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_source(o: *mut usk_owned_t, to: *const usk_addr_t, from: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (g, to, from) = unsafe { (guard(o)?, obj(to)?, obj_mut(from)?) };
        let to = to.to_socket_addr()?;
        *from = usk_addr_t::of(source_of(g, to)?, g.common.sport);
        Ok(0)
    })
}

fn source_of(g: &mut SockGuard<'_>, to: SocketAddr) -> Result<IpAddr> {
    if asks(g.sock) {
        return Ok(plan(g, to, None)?.src);
    }
    let last = parts(g).ok().and_then(|p| p.private.last_source);
    if let Some(src) = source::known(g, to, last.as_ref()) {
        return Ok(src);
    }
    let plan = plan::plan(g, to, &[], 0)?;
    let last = LastSource::of(g, to, &plan);
    if let Ok(p) = parts(g) {
        p.private.last_source = last;
    }
    Ok(plan.src)
}

/// Bytes of transport header and payload that fit in one IP packet to the peer: the path MTU without the IP header.
/// -ENOTCONN without a peer; -ENETUNREACH.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_path_mtu(o: *mut usk_owned_t) -> c_int {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let peer = peer(g)?;
        let plan = plan::plan(g, peer, &[], 0)?;
        Ok(plan.dst.mtu as c_int - ip_header(peer.is_ipv4()) as c_int)
    })
}

/// Updates the path MTU to `mtu`, as a router reported it (inet_csk_update_pmtu): only for an ICMP error whose quoted
/// packet is known to be the sock's. Returns the new usk_path_mtu.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_update_pmtu(o: *mut usk_owned_t, mtu: u32) -> c_int {
    let updated = kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        let peer = peer(g)?;
        exception::update_pmtu(g.stack, peer.ip(), mtu, g.now());
        g.common.dst = None;
        Ok(0)
    });
    // SAFETY: the same promise.
    if updated < 0 { updated } else { unsafe { usk_path_mtu(o) } }
}

pub(super) fn ip_header(v4: bool) -> usize {
    if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN }
}

/// Sends a packet to `to`, or to the peer if `to` is null: looks up the route, adds the IP header, fragments if the
/// socket allows it, and passes it to the device (ip_queue_xmit). In a sendmsg operation the packet is as the call's
/// control messages ask (IP_TTL, IP_TOS, IP_PKTINFO ...). It begins with the protocol's header, its checksum complete,
/// or left open (usk_skb_csum_partial). The sock is charged until the device has completed it. Always consumes `skb`.
/// Returns 0; -ENOTCONN, -ENETUNREACH, -EMSGSIZE (larger than the path MTU, and fragmentation is not allowed; a
/// super-packet that IP's length field has no room for, or whose packets are larger than the path MTU), -ENOBUFS (the
/// device's queue is full: treat it as a loss), -EAFNOSUPPORT, -EOPNOTSUPP (the protocol's number is above 255: no IP
/// header has room for it).
/// # Safety
/// `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_xmit(o: *mut usk_owned_t, skb: *mut usk_skb_t, to: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and vouches for the rest.
        let (skb, g, to) = unsafe { (skb::take(skb, "usk_xmit")?, guard(o)?, to.as_ref()) };
        let to = to.map_or_else(|| peer(g), |to| to.to_socket_addr())?;
        send(g, skb, to, None).map(|()| 0)
    })
}

/// How a packet of the sock leaves: by the socket's options, the control messages of the send call that runs, and `tx`.
fn plan(g: &mut SockGuard<'_>, to: SocketAddr, tx: Option<&usk_tx_info_t>) -> Result<Plan> {
    let (mut control, flags) = asked(g.sock);
    if let Some(tx) = tx {
        tx.ask(to.is_ipv4(), &mut control)?;
    }
    plan::plan(g, to, &control, flags)
}

fn send(g: &mut SockGuard<'_>, mut skb: Skb, to: SocketAddr, tx: Option<&usk_tx_info_t>) -> Result<()> {
    skb::outgoing(&mut skb);
    let number = u8::try_from(g.sock.protocol).map_err(|_| Error::OpNotSupp)?;
    let mut plan = plan(g, to, tx)?;
    let headers = ip_header(to.is_ipv4()) + plan.headers_len();
    let uncut = tx.is_some_and(|tx| tx.flags & USK_TX_DF != 0);
    let mut len = headers + skb.len();
    let mut most = plan.dst.mtu as usize;
    if let Some(pieces) = &skb.pieces {
        // IP's length field has no room for more; the packets that it stands for are not fragmented.
        if len + plan.options_len(g) > usize::from(u16::MAX) {
            return Err(Error::MsgSize);
        }
        len = headers + usize::from(pieces.header) + usize::from(skb.gso_size);
        most -= plan.options_len(g).min(most);
    }
    if (uncut || skb.pieces.is_some()) && len > most {
        return Err(Error::MsgSize);
    }
    let df = plan.fit(g, len)? || uncut;
    let flow_label = match tx.and_then(usk_tx_info_t::label) {
        Some(label) => label,
        None if to.is_ipv4() => 0,
        None => sockopt::flow_label(g.stack, &g.common, || 0),
    };
    plan.xmit(g, skb, number, flow_label, df)
}

/// usk_tx_info_t.flags: `src` is the source address.
pub const USK_TX_SRC: u32 = 1;
/// usk_tx_info_t.flags: the packet leaves by `ifindex`.
pub const USK_TX_IFINDEX: u32 = 2;
/// usk_tx_info_t.flags: `tos` is the TOS or traffic class.
pub const USK_TX_TOS: u32 = 4;
/// usk_tx_info_t.flags: `ttl` is the TTL or hop limit.
pub const USK_TX_TTL: u32 = 8;
/// usk_tx_info_t.flags: `flow_label` is the flow label (IPv6).
pub const USK_TX_FLOW_LABEL: u32 = 16;
/// usk_tx_info_t.flags: the packet is not fragmented, here or on its way: -EMSGSIZE if it is larger than the path MTU.
pub const USK_TX_DF: u32 = 32;

/// What a protocol decides for one packet: the members whose bits `flags` has. Members and bits that it does not have
/// are the socket's (IP_TOS, IP_TTL ...), or those of the control messages of the send call that runs.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct usk_tx_info_t {
    /// USK_TX_*.
    pub flags: u32,
    /// Interface.
    pub ifindex: u32,
    /// Source address, one of this host's; its port is not used.
    pub src: usk_addr_t,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// TOS or traffic class, with ECN in the low two bits: also of a stream, for which IP_TOS does not set these.
    pub tos: u8,
    /// TTL or hop limit, 1 to 255.
    pub ttl: u8,
    /// 0.
    pub reserved: u16,
}
const _: () = assert!(size_of::<usk_tx_info_t>() == 16 + size_of::<usk_addr_t>());

impl usk_tx_info_t {
    /// Adds what it says, as control messages say it. EINVAL: unknown flags, a value that is none.
    pub(super) fn ask(&self, v4: bool, control: &mut Vec<Control>) -> Result<()> {
        const ALL: u32 = USK_TX_SRC | USK_TX_IFINDEX | USK_TX_TOS | USK_TX_TTL | USK_TX_FLOW_LABEL | USK_TX_DF;
        let has = |bit| self.flags & bit != 0;
        if self.flags & !ALL != 0 || self.reserved != 0 || has(USK_TX_TTL) && self.ttl == 0 {
            return Err(Error::Inval);
        }
        if has(USK_TX_FLOW_LABEL) && (v4 || self.flow_label > 0xf_ffff) {
            return Err(Error::Inval);
        }
        if has(USK_TX_SRC) || has(USK_TX_IFINDEX) {
            let any = if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            let addr = if has(USK_TX_SRC) { self.src.to_socket_addr()?.ip() } else { any };
            if addr.is_ipv4() != v4 {
                return Err(Error::Inval);
            }
            let ifindex = if has(USK_TX_IFINDEX) { self.ifindex } else { 0 };
            control.push(Control::PktInfo { ifindex, addr, spec_dst: None });
        }
        let (tos, ttl) = (self.tos.into(), self.ttl.into());
        if has(USK_TX_TOS) {
            control.push(if v4 { Control::Tos(tos) } else { Control::Tclass(tos) });
        }
        if has(USK_TX_TTL) {
            control.push(if v4 { Control::Ttl(ttl) } else { Control::HopLimit(ttl) });
        }
        Ok(())
    }

    pub(super) fn label(&self) -> Option<u32> {
        (self.flags & USK_TX_FLOW_LABEL != 0).then_some(self.flow_label)
    }

    /// Reads one of a caller whose struct has `size` bytes. EINVAL: it is shorter than the first version, or longer
    /// than this one with something in it.
    /// # Safety
    /// `tx` is null or readable for `size` bytes.
    pub(super) unsafe fn read(tx: *const usk_tx_info_t, size: usize) -> Result<usk_tx_info_t> {
        // SAFETY: readable, as the caller guarantees.
        let bytes = unsafe { slice(tx.cast(), size) }?;
        let newer = bytes.get(size_of::<usk_tx_info_t>()..).ok_or(Error::Inval)?;
        // SAFETY: it has as many bytes, of which every value is valid.
        if newer.iter().any(|b| *b != 0) { Err(Error::Inval) } else { Ok(unsafe { tx.read_unaligned() }) }
    }
}

/// As usk_xmit, with what the protocol decides for this packet alone. `size` is sizeof(usk_tx_info_t). Always consumes
/// `skb`. -EINVAL: an unknown flag, a TTL of 0, a flow label over IPv4, a source that is not this host's.
/// # Safety
/// `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable; `tx` is readable for `size`
/// bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_xmit_info(
    o: *mut usk_owned_t,
    skb: *mut usk_skb_t,
    to: *const usk_addr_t,
    tx: *const usk_tx_info_t,
    size: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and vouches for the rest.
        let (skb, g, to) = unsafe { (skb::take(skb, "usk_xmit_info")?, guard(o)?, to.as_ref()) };
        // SAFETY: readable, as the caller guarantees.
        let tx = unsafe { usk_tx_info_t::read(tx, size) }?;
        let to = to.map_or_else(|| peer(g), |to| to.to_socket_addr())?;
        send(g, skb, to, Some(&tx)).map(|()| 0)
    })
}

/// Sets the ECN bits of the sock's packets (RFC 3168): 0 not ECT, 2 ECT(0), 1 ECT(1) (INET_ECN_xmit,
/// INET_ECN_dontxmit). For a protocol that answers marks; IP_TOS and IPV6_TCLASS of a stream leave these bits alone.
/// -EINVAL: another value.
/// # Safety
/// `o` is owned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_set_ecn(o: *mut usk_owned_t, ecn: c_int) -> c_int {
    kernel(|| {
        let ecn = u8::try_from(ecn).ok().filter(|ecn| *ecn < 3).ok_or(Error::Inval)?;
        // SAFETY: owned, as the caller guarantees.
        let c = &mut unsafe { guard(o) }?.common;
        (c.tos, c.tclass) = (c.tos & !3 | ecn, c.tclass & !3 | ecn);
        Ok(0)
    })
}

pub(super) fn addr_of(ip: IpAddr, ifindex: u32) -> usk_addr_t {
    kind::name_of(ip, 0, ifindex).into()
}

pub(super) fn packet_info(info: &PacketInfo) -> usk_packet_info_t {
    usk_packet_info_t {
        src: addr_of(info.src, info.ifindex),
        dst: addr_of(info.dst, info.ifindex),
        ifindex: info.ifindex,
        protocol: info.protocol,
        tos: info.tos,
        ttl: info.ttl,
        not_unicast: info.not_unicast.into(),
        now: info.now.as_nanos(),
    }
}

/// Fills `*info` with what rcv was told of a received packet, for backlog_rcv; of a datagram to a UDP port without the
/// ports. -ENOENT: the packet was not received, or has been sent since.
/// # Safety
/// `skb` is a packet; `info` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_skb_info(skb: *mut usk_skb_t, info: *mut usk_packet_info_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (skb, info) = unsafe { (skb::get(skb, "usk_skb_info")?, obj_mut(info)?) };
        *info = packet_info(skb.rx.as_ref().ok_or(Error::NoEnt)?);
        Ok(0)
    })
}

pub(super) fn icmp_error(e: &IcmpError<'_>) -> usk_icmp_error_t {
    usk_icmp_error_t {
        src: addr_of(e.src, e.ifindex),
        dst: addr_of(e.dst, e.ifindex),
        reporter: addr_of(e.reporter, e.ifindex),
        icmp_type: e.ty,
        code: e.code,
        fatal: e.fatal.into(),
        error: e.errno.errno(),
        info: e.info,
        ifindex: e.ifindex,
        quoted: e.quoted.as_ptr().cast(),
        quoted_len: e.quoted.len(),
    }
}

/// The argument of an err operation, and what it was made from.
#[repr(C)]
pub(super) struct Reported {
    pub(super) about: usk_icmp_error_t,
    /// An `IcmpError`.
    pub(super) original: *const c_void,
}

/// Tells a sock of an ICMP error, in the err operation: with IP_RECVERR it is queued for recvmsg(MSG_ERRQUEUE), and it
/// becomes SO_ERROR if it is queued, or if it is a hard one and the sock is connected. While a system call owns the
/// sock a hard one becomes SO_ERROR and none is queued. Learns path MTUs. `port`: that of the packet's destination, 0
/// without ports; `header`: bytes of the protocol's header, which are in front of the payload that is quoted. For an
/// error of which the protocol believes that the sock's packet caused it (ip_icmp_error, __udp4_lib_err). Packet
/// context.
/// # Safety
/// `sk` is valid; `error` is err's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_icmp_report(
    sk: *mut usk_sock_t,
    error: *const usk_icmp_error_t,
    port: u16,
    header: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both; err's argument is the beginning of a `Reported`.
        let (h, reported) = unsafe { (Handle::new(sk)?, obj(error.cast::<Reported>())?) };
        // SAFETY: what err was called for, while it runs.
        let e = unsafe { obj(reported.original.cast::<IcmpError<'_>>()) }?;
        errors::report(h.stack(), h.sock(), e, move |g, e| {
            let payload = e.quoted.get(header..).unwrap_or_default();
            errors::icmp_error(g, e, kind::name_of(e.dst, port, e.ifindex), payload);
        });
        Ok(0)
    })
}

/// For usk_icmp_send: no sock on this port (ICMP 3/3, ICMPv6 1/4).
pub const USK_ICMP_PORT_UNREACH: c_int = 1;
/// For usk_icmp_send: what the packet is for is not served here (ICMP 3/2; ICMPv6 4/1, with where the packet names the
/// protocol).
pub const USK_ICMP_PROT_UNREACH: c_int = 2;
/// For usk_icmp_send: a filter refuses it (ICMP 3/13, ICMPv6 1/1).
pub const USK_ICMP_PROHIBITED: c_int = 3;
/// For usk_icmp_send: it cannot be passed on in one piece; `mtu` is carried (ICMP 3/4, ICMPv6 2/0).
pub const USK_ICMP_TOO_BIG: c_int = 4;

/// Sends an ICMP error about a received packet, which begins with the protocol's header, as rcv got it (icmp_send,
/// icmpv6_send). `error` is USK_ICMP_*, `mtu` the MTU of USK_ICMP_TOO_BIG, else 0. The error quotes the packet as it
/// was received, IP header included. None is sent about an ICMP error, a fragment other than the first, a packet from
/// or to a group or a broadcast address (over IPv6 TOO_BIG is), or above the rate limits (net.ipv4.icmp_ratelimit,
/// icmp_ratemask, icmp_msgs_per_sec, net.ipv6.icmp.ratelimit); the counters say what was sent. `skb` stays the
/// caller's, as it was: it is then dropped, or freed. Packet context. Returns 0, whether it was sent or not; -EINVAL:
/// no such error, or an MTU that is none; -ENOENT: the packet was not received, or has been sent since.
/// # Safety
/// `reg` is registered; `skb` is a packet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_icmp_send(reg: *mut usk_reg_t, skb: *mut usk_skb_t, error: c_int, mtu: u32) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (reg, skb) = unsafe { (ProtoReg::of(reg)?, skb::get(skb, "usk_icmp_send")?) };
        let info = skb.rx.ok_or(Error::NoEnt)?;
        let fits = |mtu: u32| mtu != 0 && (info.dst.is_ipv6() || mtu <= u16::MAX.into());
        let error = match error {
            USK_ICMP_TOO_BIG if fits(mtu) => TransportError::TooBig(mtu),
            _ if mtu != 0 => return Err(Error::Inval),
            USK_ICMP_PORT_UNREACH => TransportError::PortUnreachable,
            USK_ICMP_PROT_UNREACH => TransportError::ProtocolUnreachable,
            USK_ICMP_PROHIBITED => TransportError::Prohibited,
            _ => return Err(Error::Inval),
        };
        icmp::send(&reg.stack()?, skb, &info, error);
        Ok(0)
    })
}

/// Replies to a packet without a sock: sends `skb`, which begins with the protocol's header, to the source of the
/// packet that `info` describes, from its destination address (ip_send_unicast_reply). Always consumes `skb`. Packet
/// context. -EINVAL: it is a super-packet, or the packet was no unicast; -EOPNOTSUPP: the protocol's number is above
/// 255.
/// # Safety
/// `reg` is a registered protocol; `info` is readable; `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_reply(reg: *mut usk_reg_t, info: *const usk_packet_info_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and vouches for the rest.
        let (mut skb, reg, info) = unsafe { (skb::take(skb, "usk_reply")?, ProtoReg::of(reg)?, obj(info)?) };
        skb::outgoing(&mut skb);
        if skb.pieces.is_some() {
            return Err(Error::Inval);
        }
        let stack = reg.stack()?;
        let (to, from) = (info.src.to_socket_addr()?.ip(), info.dst.to_socket_addr()?.ip());
        if info.not_unicast != 0 || to.is_multicast() || to.is_unspecified() {
            return Err(Error::Inval);
        }
        let scope = info.src.scope_id;
        let dst = route::lookup(&stack, to, Some(from), scope)?;
        let ttl = output::default_ttl(&stack, &dst, to.is_ipv4());
        let tx = IpTx::new(from, to, reg.number()?, ttl, stack.now());
        output::xmit(&stack, &dst, &tx, skb).map(|_| 0)
    })
}

/// setsockopt(2) of the IP levels (IPPROTO_IP, IPPROTO_IPV6), for the setsockopt operation. -ENOPROTOOPT for another.
/// # Safety
/// `o` is owned; `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ip_setsockopt(
    o: *mut usk_owned_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, value) = unsafe { (guard(o)?, slice(value, len)?) };
        sockopt::set(g, level, name, value).map(|()| 0)
    })
}

/// getsockopt(2) of the IP levels: writes at most `len` bytes, returns how many. -ENOPROTOOPT for another.
/// # Safety
/// `o` is owned; `value` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_ip_getsockopt(
    o: *mut usk_owned_t,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: usize,
) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (g, value) = unsafe { (guard(o)?, slice_mut(value, len)?) };
        Ok(sockopt::get(g, level, name, value)? as isize)
    })
}

/// The ones-complement sum (RFC 1071) of bytes, added to `sum`: for usk_csum_fold. Pieces of even length can be summed
/// one after the other (csum_partial).
/// # Safety
/// `data` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_csum(data: *const c_void, len: usize, sum: u32) -> u32 {
    // SAFETY: the caller vouches for it.
    kernel(|| unsafe { slice(data, len) }.map(|d| checksum::sum(d, sum)))
}

/// The sum of the pseudo-header of a packet of `len` bytes between two addresses of one family (csum_tcpudp_nofold).
/// # Safety
/// Both addresses are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_csum_pseudo(
    src: *const usk_addr_t,
    dst: *const usk_addr_t,
    protocol: u8,
    len: u32,
) -> u32 {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (src, dst) = unsafe { (obj(src)?, obj(dst)?) };
        Ok(checksum::pseudo_header(src.to_socket_addr()?.ip(), dst.to_socket_addr()?.ip(), protocol, len))
    })
}

/// The 16 bits for a checksum field, to be stored high byte first. The checksum of a received packet is correct if its
/// sum, field included, folds to 0 (csum_fold).
#[unsafe(no_mangle)]
pub extern "C" fn usk_csum_fold(sum: u32) -> u32 {
    kernel(|| Ok(u32::from(checksum::finish(sum))))
}
