//! IP for a protocol written in C: routes, output, options of the IP levels, checksums. Linux: ip_route_output,
//! ip_queue_xmit, ip_setsockopt, csum_partial.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj, obj_mut};
use super::gate::{slice, slice_mut};
use super::guard::{guard, usk_owned_t};
use super::info::peer;
use super::ports;
use super::private::{living, parts};
use super::proto::{ProtoReg, usk_packet_info_t};
use super::registration::usk_reg_t;
use super::skb::{self, usk_skb_t};
use std::ffi::{c_int, c_void};
use usersock::error::{Error, Result};
use usersock::internal::wire::{ip, ipv6};
use usersock::ip::output::{self, IpTx};
use usersock::ip::{datagram, route, sockopt};
use usersock::sock::skb::{Csum, GsoType, Skb, TxOwner};
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
/// -ENETUNREACH, -EACCES ...
/// # Safety
/// `o` is owned; `to` is readable; `from` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_source(o: *mut usk_owned_t, to: *const usk_addr_t, from: *mut usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for all three.
        let (g, to, from) = unsafe { (guard(o)?, obj(to)?, obj_mut(from)?) };
        let plan = datagram::plan(g, to.to_socket_addr()?, &[], 0)?;
        *from = usk_addr_t::of(plan.src, g.common.sport);
        Ok(0)
    })
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
        let plan = datagram::plan(g, peer, &[], 0)?;
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
        route::update_pmtu(g.stack, peer.ip(), mtu, g.now());
        g.common.dst = None;
        Ok(0)
    });
    // SAFETY: the same promise.
    if updated < 0 { updated } else { unsafe { usk_path_mtu(o) } }
}

fn ip_header(v4: bool) -> usize {
    if v4 { ip::HEADER_LEN } else { ipv6::HEADER_LEN }
}

/// Sends a packet to `to`, or to the peer if `to` is null: looks up the route, adds the IP header, fragments if the
/// socket allows it, and passes it to the device (ip_queue_xmit). The packet begins with the protocol's header, its
/// checksum complete. The sock is charged until the device has completed it. Always consumes `skb`. Returns 0;
/// -ENOTCONN, -ENETUNREACH, -EMSGSIZE (larger than the path MTU, and fragmentation is not allowed), -ENOBUFS (the
/// device's queue is full: treat it as a loss), -EAFNOSUPPORT.
/// # Safety
/// `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_xmit(o: *mut usk_owned_t, skb: *mut usk_skb_t, to: *const usk_addr_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and vouches for the rest.
        let (skb, g, to) = unsafe { (skb::take(skb, "usk_xmit")?, guard(o)?, to.as_ref()) };
        let to = to.map_or_else(|| peer(g), |to| to.to_socket_addr())?;
        send(g, skb, to).map(|()| 0)
    })
}

/// Makes a packet ready to send: if it was received from a device, its receive metadata is cleared.
fn outgoing(skb: &mut Skb) {
    (skb.csum, skb.gso_size, skb.gso_type, skb.rx) = (Csum::None, 0, GsoType::None, None);
}

fn send(g: &mut SockGuard<'_>, mut skb: Skb, to: std::net::SocketAddr) -> Result<()> {
    outgoing(&mut skb);
    let mut plan = datagram::plan(g, to, &[], 0)?;
    let df = plan.fit(g, ip_header(to.is_ipv4()) + skb.len())?;
    skb.owner = Some(TxOwner::new(g.sock, skb.truesize));
    let protocol = g.sock.protocol as u8;
    let flow_label = if to.is_ipv4() { 0 } else { sockopt::flow_label(g.stack, &g.common, || 0) };
    let mut tx = IpTx::new(plan.src, to.ip(), protocol, plan.ttl, g.now());
    (tx.tos, tx.df, tx.flow_label) = (plan.tos, df, flow_label);
    match to.ip().is_multicast() {
        true => output::xmit_multicast(g.stack, &plan.dst, &tx, skb, plan.looped),
        false => output::xmit(g.stack, &plan.dst, &tx, skb),
    }
}

/// Replies to a packet without a sock: sends `skb`, which begins with the protocol's header, to the source of the
/// packet that `info` describes, from its destination address (ip_send_unicast_reply). Always consumes `skb`. Packet
/// context.
/// # Safety
/// `reg` is a registered protocol; `info` is readable; `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_reply(reg: *mut usk_reg_t, info: *const usk_packet_info_t, skb: *mut usk_skb_t) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up, and vouches for the rest.
        let (mut skb, reg, info) = unsafe { (skb::take(skb, "usk_reply")?, ProtoReg::of(reg)?, obj(info)?) };
        outgoing(&mut skb);
        let stack = reg.stack()?;
        let (to, from) = (info.src.to_socket_addr()?.ip(), info.dst.to_socket_addr()?.ip());
        if info.not_unicast != 0 || to.is_multicast() || to.is_unspecified() {
            return Err(Error::Inval);
        }
        let scope = info.src.scope_id;
        let dst = route::lookup(&stack, to, Some(from), scope)?;
        let ttl = output::default_ttl(&stack, &dst, to.is_ipv4());
        let tx = IpTx::new(from, to, reg.number(), ttl, stack.now());
        output::xmit(&stack, &dst, &tx, skb).map(|()| 0)
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
