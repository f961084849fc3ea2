//! IP output: from a transport's segment to the device. Above: `tcp::segment`, UDP, ICMP, raw. Below: `neigh`,
//! `netdev`. Linux: net/ipv4/ip_output.c, net/ipv6/ip6_output.c. RFC 791, RFC 8200, RFC 6864 (identification).

use super::net;
use super::socket_headers::Chain;
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, Mib};
use crate::device::netdev::{LOOPBACK_IFINDEX, NetXmit};
use crate::device::{Caps, gso};
use crate::sock::Sock;
use crate::sock::dst::{Dst, DstKind};
use crate::sock::skb::{Csum, GsoType, L3, Looped, Skb, TxOwner};
use crate::sock::tstamp::TxStamp;
use crate::stack::Stack;
use crate::wire::ip::{self, Ipv4Repr};
use crate::wire::ipv6::{self, FragmentHeader, Ipv6Repr};
use crate::wire::proto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The fields of the IP header that the transport decides.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct IpTx {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Don't fragment: sets DF (IPv4), and a packet above the path MTU is EMSGSIZE and not fragmented.
    pub df: bool,
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Time of the sending; the caller has read the clock already.
    pub now: Instant,
}

impl IpTx {
    /// A header of TOS 0 and flow label 0, whose packet may be cut. `protocol` is the IP protocol number; `ttl` is
    /// often [`default_ttl`]'s.
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8, ttl: u8, now: Instant) -> IpTx {
        IpTx { src, dst, protocol, tos: 0, ttl, df: false, flow_label: 0, now }
    }
}

/// The TTL or hop limit of packets to `dst` whose socket names none: the route's, else the sysctl's (ip4_dst_hoplimit).
pub fn default_ttl(stack: &Stack, dst: &Dst, v4: bool) -> u8 {
    match dst.metrics.hoplimit {
        0 if v4 => stack.sysctl.ip_default_ttl() as u8,
        0 => stack.sysctl.ip6_hop_limit() as u8,
        h => h,
    }
}

/// Puts the IP header in front and sends. `skb` starts with the transport header; its checksum is complete or
/// `Csum::Partial` with `start` relative to the transport header (made relative to the network header here).
/// Super-packets are cut in software where the device cannot. A broadcast is also delivered here. Errors: ENOBUFS local
/// congestion (the device's queue is full), EMSGSIZE, ENETDOWN, EAFNOSUPPORT for addresses of two families.
pub fn xmit(stack: &Arc<Stack>, dst: &Arc<Dst>, tx: &IpTx, skb: Skb) -> Result<NetXmit> {
    send(stack, dst, tx, skb, dst.kind == DstKind::Broadcast)
}

/// Whether [`xmit_looped`] takes a packet to be sent with DF.
#[inline]
pub(crate) fn is_looped(dst: &Dst, skb: &Skb) -> bool {
    let most = ip::MAX_DATAGRAM.min(dst.mtu as usize);
    dst.kind == DstKind::Local
        && dst.dev.loops_as_is()
        && dst.dev.takes_as_is(skb)
        && ip::HEADER_LEN + skb.len() <= most
}

/// As [`xmit`], of what a socket of this stack or TCP for it sends to this stack, by a device that loops it: the packet
/// says so ([`SkbInner::looped`](crate::sock::skb::SkbInner)). `sock`: whom it is charged to, if it has no owner yet.
#[inline(always)]
pub(crate) fn xmit_looped(
    stack: &Arc<Stack>,
    dst: &Arc<Dst>,
    repr: &Ipv4Repr,
    mut skb: Skb,
    now: Instant,
    sock: Option<&Arc<Sock>>,
) -> Result<NetXmit> {
    let len = ip::HEADER_LEN + skb.len();
    let mib = stack.mib.here();
    mib.inc(Mib::IpOutRequests);
    let Some(h) = skb.push_stale(ip::HEADER_LEN) else { return Err(Error::NoBufs) };
    repr.emit(h);
    shift_checksum(&mut skb, ip::HEADER_LEN);
    (skb.l3, skb.nh_len, skb.looped) = (L3::V4, ip::HEADER_LEN as u16, Looped::Headers);
    mib.add(Mib::IpExtOutOctets, len as u64);
    mib.inc(Mib::IpOutTransmits);
    let sent = if skb.owner.is_none() && skb.tx_stamp.is_none() {
        dst.dev.xmit_looped(stack, now, skb, sock)
    } else {
        skb.owner = skb.owner.take().or_else(|| sock.map(|sock| TxOwner::new(sock, skb.truesize)));
        dst.dev.xmit(stack, now, skb)
    };
    if sent.is_err() {
        mib.inc(Mib::IpOutDiscards);
    }
    sent
}

/// As [`xmit`] to a group; `looped`: a copy is delivered here (IP_MULTICAST_LOOP). Errors as there. With TTL 0 nothing
/// leaves the machine.
pub fn xmit_multicast(stack: &Arc<Stack>, dst: &Arc<Dst>, tx: &IpTx, skb: Skb, looped: bool) -> Result<NetXmit> {
    send(stack, dst, tx, skb, looped)
}

/// As [`xmit`], with options in the IPv4 header: at most 40 bytes, a multiple of 4. `looped`: as [`xmit_multicast`].
pub(crate) fn xmit_with_options(
    stack: &Arc<Stack>,
    dst: &Arc<Dst>,
    tx: &IpTx,
    options: &[u8],
    skb: Skb,
    looped: bool,
) -> Result<NetXmit> {
    let looped = looped || dst.kind == DstKind::Broadcast;
    let way = Way { stack, dst, to: tx.dst, ttl: tx.ttl, looped, now: tx.now };
    match (tx.src, tx.dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => send_v4(&way, tx, (s, d), options, skb),
        _ => xmit(stack, dst, tx, skb),
    }
}

/// As [`xmit`], with extension headers; `tx.dst` is the first hop of a routing header. Super-packets are cut here where
/// the headers have no room in the head, or say another destination than the checksum's.
pub(crate) fn xmit_with_headers(
    stack: &Arc<Stack>,
    dst: &Arc<Dst>,
    tx: &IpTx,
    chain: &Chain,
    mut skb: Skb,
    looped: bool,
) -> Result<NetXmit> {
    let (IpAddr::V6(src), IpAddr::V6(to)) = (tx.src, tx.dst) else { return Err(Error::AfNoSupport) };
    let way = Way { stack, dst, to: tx.dst, ttl: tx.ttl, looped, now: tx.now };
    let tx = IpTx { protocol: chain.first, ..*tx };
    let len = ipv6::HEADER_LEN + chain.bytes.len() + skb.len();
    let too_long = skb.gso_size == 0 && len > dst.mtu as usize;
    let whole = skb.gso_size == 0 || !chain.is_routed;
    if !too_long && whole && skb.headroom() >= ROOM + chain.bytes.len() {
        if let Some(h) = skb.push(chain.bytes.len()) {
            h.copy_from_slice(&chain.bytes);
        }
        shift_checksum(&mut skb, chain.bytes.len());
        return send_v6(&way, &tx, (src, to), skb);
    }
    if too_long || skb.gso_size == 0 {
        gso::complete_checksum(&mut skb);
        let bytes = skb.to_vec();
        return match too_long {
            false => send_v6(&way, &tx, (src, to), replaced(skb, &[&chain.bytes, &bytes])),
            true => {
                let (front, next, rest) = chain.parts();
                stack.mib.inc(Mib::Ip6OutRequests);
                if tx.df || len - ipv6::HEADER_LEN > ip::MAX_DATAGRAM {
                    stack.mib.inc(Mib::Ip6FragFails);
                    return Err(Error::MsgSize);
                }
                let repr = repr_v6(&tx, (src, to), 0);
                fragment_v6(&way, repr, (&front, next), replaced(skb, &[rest, &bytes]))
            }
        };
    }
    // Cut as it is, its pieces get the headers one by one.
    let Some(h) = skb.push(ipv6::HEADER_LEN) else { return Err(Error::NoBufs) };
    repr_v6(&IpTx { protocol: chain.protocol, ..tx }, (src, chain.to), len).emit(h);
    shift_checksum(&mut skb, ipv6::HEADER_LEN);
    skb.l3 = L3::V6;
    let caps = Caps { tso: false, uso: false, gso_software: false, tx_csum: false, ..dst.dev.caps() };
    send_each(gso::segment(skb, &caps), |mut piece| {
        piece.pull(ipv6::HEADER_LEN);
        let bytes = piece.to_vec();
        send_v6(&way, &tx, (src, to), replaced(piece, &[&chain.bytes, &bytes]))
    })
}

/// Room in the head for the headers of IPv6 and of Ethernet.
const ROOM: usize = ipv6::HEADER_LEN + 16;

/// A packet of other bytes, with complete checksums, in the place of `skb`.
fn replaced(mut skb: Skb, parts: &[&[u8]]) -> Skb {
    let mut out = Skb::from_slice(&parts.concat());
    (out.owner, out.tx_stamp) = (skb.owner.take(), skb.tx_stamp.take());
    (out.tx_time, out.hash) = (skb.tx_time, skb.hash);
    (out.mark, out.priority) = (skb.mark, skb.priority);
    out
}

fn repr_v6(tx: &IpTx, (src, dst): (Ipv6Addr, Ipv6Addr), payload_len: usize) -> Ipv6Repr {
    Ipv6Repr {
        src,
        dst,
        next_header: tx.protocol,
        hop_limit: tx.ttl,
        traffic_class: tx.tos,
        flow_label: tx.flow_label,
        payload_len,
    }
}

/// A packet's way out, as each step of this file hands it to the next.
#[derive(Clone, Copy)]
struct Way<'a> {
    stack: &'a Arc<Stack>,
    dst: &'a Arc<Dst>,
    to: IpAddr,
    ttl: u8,
    /// A copy is delivered here.
    looped: bool,
    now: Instant,
}

#[inline]
fn send(stack: &Arc<Stack>, dst: &Arc<Dst>, tx: &IpTx, skb: Skb, looped: bool) -> Result<NetXmit> {
    let way = Way { stack, dst, to: tx.dst, ttl: tx.ttl, looped, now: tx.now };
    match (tx.src, tx.dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => send_v4(&way, tx, (s, d), &[], skb),
        (IpAddr::V6(s), IpAddr::V6(d)) => send_v6(&way, tx, (s, d), skb),
        _ => Err(Error::AfNoSupport),
    }
}

fn shift_checksum(skb: &mut Skb, by: usize) {
    if let Csum::Partial { start, offset } = skb.csum {
        skb.csum = Csum::Partial { start: start + by as u16, offset };
    }
}

#[inline]
fn send_v4(way: &Way<'_>, tx: &IpTx, (src, to): (Ipv4Addr, Ipv4Addr), options: &[u8], mut skb: Skb) -> Result<NetXmit> {
    let Way { stack, dst, .. } = *way;
    let header_len = ip::HEADER_LEN + options.len();
    let len = header_len + skb.len();
    let mib = stack.mib.here();
    mib.inc(Mib::IpOutRequests);
    let too_long = skb.gso_size == 0 && len > dst.mtu as usize;
    if (too_long && tx.df) || (len > ip::MAX_DATAGRAM && skb.gso_size == 0) {
        stack.mib.inc(Mib::IpFragFails);
        return Err(Error::MsgSize);
    }
    let segs = if skb.gso_size == 0 { 1 } else { skb.len().div_ceil(skb.gso_size.into()) as u32 };
    let next = || net(stack).idents.next_of(segs, stack, (tx.src, tx.dst), tx.protocol, tx.now) as u16;
    let id = if tx.df { 0 } else { next() };
    let repr = Ipv4Repr {
        src,
        dst: to,
        protocol: tx.protocol,
        ttl: tx.ttl,
        tos: tx.tos,
        id,
        dont_fragment: tx.df,
        more_fragments: false,
        frag_offset: 0,
        payload_len: skb.len(),
    };
    if too_long {
        return fragment_v4(way, repr, options, skb);
    }
    let Some(h) = skb.push_stale(header_len) else { return Err(Error::NoBufs) };
    repr.emit_with_options(h, options);
    shift_checksum(&mut skb, header_len);
    skb.l3 = L3::V4;
    skb.nh_len = header_len as u16;
    mib.add(Mib::IpExtOutOctets, len as u64);
    transmit(way, skb)
}

fn send_v6(way: &Way<'_>, tx: &IpTx, (src, to): (Ipv6Addr, Ipv6Addr), mut skb: Skb) -> Result<NetXmit> {
    let Way { stack, dst, .. } = *way;
    let len = ipv6::HEADER_LEN + skb.len();
    let mib = stack.mib.here();
    mib.inc(Mib::Ip6OutRequests);
    let too_long = skb.gso_size == 0 && len > dst.mtu as usize;
    if (too_long && tx.df) || (skb.len() > ip::MAX_DATAGRAM && skb.gso_size == 0) {
        stack.mib.inc(Mib::Ip6FragFails);
        return Err(Error::MsgSize);
    }
    let repr = repr_v6(tx, (src, to), skb.len());
    if too_long {
        return fragment_v6(way, Ipv6Repr { next_header: proto::FRAGMENT, ..repr }, (&[], tx.protocol), skb);
    }
    let Some(h) = skb.push(ipv6::HEADER_LEN) else { return Err(Error::NoBufs) };
    repr.emit(h);
    shift_checksum(&mut skb, ipv6::HEADER_LEN);
    skb.l3 = L3::V6;
    skb.nh_len = ipv6::HEADER_LEN as u16;
    mib.add(Mib::Ip6OutOctets, len as u64);
    transmit(way, skb)
}

/// Sends a datagram whose IP header the program wrote (IP_HDRINCL), already completed by `raw`. `looped`: as
/// [`xmit_multicast`].
pub(crate) fn xmit_with_header(
    stack: &Arc<Stack>,
    dst: &Arc<Dst>,
    to: IpAddr,
    skb: Skb,
    looped: bool,
) -> Result<NetXmit> {
    stack.mib.inc(if to.is_ipv4() { Mib::IpOutRequests } else { Mib::Ip6OutRequests });
    let looped = looped || dst.kind == DstKind::Broadcast;
    // The TTL in the program's header is not read: a packet to a group leaves even if it is 0.
    transmit(&Way { stack, dst, to, ttl: 1, looped, now: stack.now() }, skb)
}

/// A packet that is complete but for its link header: copies for this stack, then the device.
fn transmit(way: &Way<'_>, skb: Skb) -> Result<NetXmit> {
    let Way { stack, dst, to, ttl, looped, now } = *way;
    if dst.kind != DstKind::Unicast && dst.kind != DstKind::Local {
        let v4 = to.is_ipv4();
        let n = skb.len() as u64;
        match (dst.kind, v4) {
            (DstKind::Broadcast, _) => {
                stack.mib.inc(Mib::IpExtOutBcastPkts);
                stack.mib.add(Mib::IpExtOutBcastOctets, n);
            }
            (_, true) => {
                stack.mib.inc(Mib::IpExtOutMcastPkts);
                stack.mib.add(Mib::IpExtOutMcastOctets, n);
            }
            (_, false) => {
                stack.mib.inc(Mib::Ip6OutMcastPkts);
                stack.mib.add(Mib::Ip6OutMcastOctets, n);
            }
        }
        if looped
            && !dst.dev.is_loopback()
            && let Some(lo) = stack.netdevs.by_index(LOOPBACK_IFINDEX)
        {
            // Linux: ip_dev_loopback_xmit. If the copy is dropped, the send still succeeds.
            let mut copy = skb.share();
            copy.tx_stamp = None;
            (copy.ifindex, copy.link_multicast) = (dst.dev.ifindex, true);
            let _ = lo.xmit(stack, now, copy);
        }
        if dst.kind == DstKind::Multicast && ttl == 0 {
            return Ok(NetXmit::Success);
        }
    }
    to_device(stack, dst, dst.gateway.unwrap_or(to), skb, now)
}

/// Sends the pieces of a super-packet. If one is on its way, so is the super-packet: the others, if they are dropped,
/// are lost on the path. A sender that took it for unsent would refuse the acknowledgement of what did arrive, for
/// ever.
fn send_each(pieces: impl Iterator<Item = Skb>, send: impl FnMut(Skb) -> Result<NetXmit>) -> Result<NetXmit> {
    let of_both = |a: Result<NetXmit>, b: Result<NetXmit>| match (a, b) {
        (Ok(a), Ok(b)) => Ok(a.max(b)),
        (a, b) => a.or(b),
    };
    pieces.map(send).reduce(of_both).unwrap_or(Ok(NetXmit::Success))
}

/// Does segmentation and checksums in software where the device does not, resolves the neighbour, transmits.
#[inline]
fn to_device(stack: &Arc<Stack>, dst: &Arc<Dst>, next_hop: IpAddr, skb: Skb, now: Instant) -> Result<NetXmit> {
    let (mib, v4) = match skb.l3 {
        L3::V4 => (Mib::IpOutTransmits, true),
        L3::V6 => (Mib::Ip6OutTransmits, false),
    };
    stack.mib.inc(mib);
    let r =
        if dst.dev.takes_as_is(&skb) { dst.dev.xmit(stack, now, skb) } else { prepare(stack, dst, next_hop, skb, now) };
    if r.is_err() {
        stack.mib.inc(if v4 { Mib::IpOutDiscards } else { Mib::Ip6OutDiscards });
    }
    r
}

/// What [`to_device`] does with a packet that a device may not take as it is.
fn prepare(stack: &Arc<Stack>, dst: &Arc<Dst>, next_hop: IpAddr, skb: Skb, now: Instant) -> Result<NetXmit> {
    let caps = dst.dev.caps();
    if gso::needed(&caps, &skb) {
        let mut pieces = gso::segment(skb, &caps);
        let sent = send_each(&mut pieces, |s| super::neigh::output(stack, &dst.dev, next_hop, s, &caps, now));
        if pieces.failed() {
            // It has no headers that segmentation can use, which only a raw socket's packet can lack; or its protocol
            // refused.
            stack.mib.drop(DropReason::SkbGsoSeg);
        }
        sent
    } else {
        super::neigh::output(stack, &dst.dev, next_hop, skb, &caps, now)
    }
}

/// Fragments a datagram to the path MTU. The payload is copied: each fragment has pages of its own.
///
/// Of record route and timestamp, which are what `options` has, there is one in the first fragment alone; the others
/// have as many NOPs (ip_options_fragment).
fn fragment_v4(way: &Way<'_>, repr: Ipv4Repr, options: &[u8], mut skb: Skb) -> Result<NetXmit> {
    let Way { stack, dst, .. } = *way;
    let header_len = ip::HEADER_LEN + options.len();
    let room = (dst.mtu as usize).saturating_sub(header_len) & !7;
    let nops = vec![ip::option::NOP; options.len()];
    if room == 0 {
        stack.mib.inc(Mib::IpFragFails);
        return Err(Error::MsgSize);
    }
    gso::complete_checksum(&mut skb);
    let (owner, stamp) = (skb.owner.take(), skb.tx_stamp.take());
    let bytes = skb.to_vec();
    let mut offset = 0;
    let mut pieces: Vec<Skb> = Vec::new();
    for piece in bytes.chunks(room) {
        let last = offset + piece.len() == bytes.len();
        let mut f = Skb::from_slice(piece);
        let Some(h) = f.push(header_len) else { return Err(Error::NoBufs) };
        let repr = Ipv4Repr { more_fragments: !last, frag_offset: offset, payload_len: piece.len(), ..repr };
        repr.emit_with_options(h, if offset == 0 { options } else { &nops });
        f.l3 = L3::V4;
        f.nh_len = header_len as u16;
        f.hash = skb.hash;
        (f.mark, f.priority) = (skb.mark, skb.priority);
        pieces.push(f);
        offset += piece.len();
    }
    send_pieces(way, pieces, owner, stamp)
}

/// `front`: the extension headers that each fragment has, the last of which names the fragment header; `next`: the
/// first header of what is cut.
fn fragment_v6(way: &Way<'_>, repr: Ipv6Repr, (front, next): (&[u8], u8), mut skb: Skb) -> Result<NetXmit> {
    let Way { stack, dst, .. } = *way;
    let headers = ipv6::HEADER_LEN + front.len() + ipv6::FRAGMENT_HEADER_LEN;
    let room = (dst.mtu as usize).saturating_sub(headers) & !7;
    if room == 0 {
        stack.mib.inc(Mib::Ip6FragFails);
        return Err(Error::MsgSize);
    }
    gso::complete_checksum(&mut skb);
    let (owner, stamp) = (skb.owner.take(), skb.tx_stamp.take());
    let bytes = skb.to_vec();
    // RFC 7739 §5: unpredictable. Never 0, which some middleboxes treat as unset.
    let id = net(stack).idents.next(stack, repr.src.into(), repr.dst.into(), next, way.now).max(1);
    let mut offset = 0;
    let mut pieces: Vec<Skb> = Vec::new();
    for piece in bytes.chunks(room) {
        let more = offset + piece.len() < bytes.len();
        let mut fragment = [0; ipv6::FRAGMENT_HEADER_LEN];
        FragmentHeader { next_header: next, offset, more, id }.emit(&mut fragment);
        let mut f = Skb::from_slice(&[front, &fragment, piece].concat());
        let payload_len = f.len();
        let Some(h) = f.push(ipv6::HEADER_LEN) else { return Err(Error::NoBufs) };
        Ipv6Repr { payload_len, ..repr }.emit(h);
        f.l3 = L3::V6;
        f.nh_len = ipv6::HEADER_LEN as u16;
        f.hash = skb.hash;
        (f.mark, f.priority) = (skb.mark, skb.priority);
        pieces.push(f);
        offset += piece.len();
    }
    send_pieces(way, pieces, owner, stamp)
}

/// The charge to the sender moves to the last piece, so that it ends when the device has completed all; the first one
/// is that whose timestamps are reported. Behind a piece that is dropped, or that meets a congested queue, no other
/// leaves (ip_do_fragment, ip6_fragment).
fn send_pieces(way: &Way<'_>, mut pieces: Vec<Skb>, owner: Option<TxOwner>, stamp: Option<TxStamp>) -> Result<NetXmit> {
    if let Some(first) = pieces.first_mut() {
        first.tx_stamp = stamp;
    }
    if let Some(last) = pieces.last_mut() {
        last.owner = owner;
        last.gso_type = GsoType::None;
    }
    let [octets, creates, oks, fails] = match way.to.is_ipv4() {
        true => [Mib::IpExtOutOctets, Mib::IpFragCreates, Mib::IpFragOKs, Mib::IpFragFails],
        false => [Mib::Ip6OutOctets, Mib::Ip6FragCreates, Mib::Ip6FragOKs, Mib::Ip6FragFails],
    };
    for f in pieces {
        way.stack.mib.add(octets, f.len() as u64);
        let sent = transmit(way, f);
        if sent != Ok(NetXmit::Success) {
            way.stack.mib.inc(fails);
            return sent;
        }
        way.stack.mib.inc(creates);
    }
    way.stack.mib.inc(oks);
    Ok(NetXmit::Success)
}

#[cfg(test)]
mod tests;
