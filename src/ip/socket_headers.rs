//! Extension headers of a socket of IPv6, RFC 3542: the options and control messages that put them on what it sends,
//! and those that tell it of the ones received. Above: `sockopt`, `plan` and TCP, which send with them. Below:
//! `output`, which sends a [`Chain`]. Linux: ipv6_set_opt_hdr, ip6_datagram_send_ctl, ip6_datagram_recv_specific_ctl,
//! ipv6_push_nfrag_opts. Hop-by-hop and destination options need CAP_NET_RAW, which the owner of the stack has. A
//! routing header of type 2 may be sent, as on a Linux with CONFIG_IPV6_MIP6. IPV6_2292PKTOPTIONS is in `pktoptions`.

use crate::base::error::{Error, Result};
use crate::sock::ip_more::{TxHeaders, rx};
use crate::sock::msg::Control;
use crate::sock::sockopt::{int, put};
use crate::sock::{SockCommon, SockGuard, ip_flag};
use crate::stack::Stack;
use crate::wire::{ipv6, proto};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

const IPV6_2292HOPOPTS: i32 = 3;
const IPV6_2292DSTOPTS: i32 = 4;
const IPV6_2292RTHDR: i32 = 5;
pub(super) const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_RECVHOPOPTS: i32 = 53;
const IPV6_HOPOPTS: i32 = 54;
const IPV6_RTHDRDSTOPTS: i32 = 55;
const IPV6_RECVRTHDR: i32 = 56;
const IPV6_RTHDR: i32 = 57;
const IPV6_RECVDSTOPTS: i32 = 58;
const IPV6_DSTOPTS: i32 = 59;

/// Most bytes of one sticky header.
const MAX_HEADER: usize = 8 * 255;

/// Types of routing headers that may be sent: of Mobile IPv6 (RFC 6275), and segment routing (RFC 8754).
const ROUTING_MOBILE: u8 = 2;
const ROUTING_SEGMENTS: u8 = 4;

/// The bit of a flag option.
fn rx_bit(name: i32) -> Option<u8> {
    Some(match name {
        IPV6_RECVHOPOPTS => rx::HOPOPTS,
        IPV6_RECVDSTOPTS => rx::DSTOPTS,
        IPV6_RECVRTHDR => rx::RTHDR,
        IPV6_2292HOPOPTS => rx::OLD_HOPOPTS,
        IPV6_2292DSTOPTS => rx::OLD_DSTOPTS,
        IPV6_2292RTHDR => rx::OLD_RTHDR,
        _ => return None,
    })
}

/// The header that a sticky option is about.
fn slot(h: &mut TxHeaders, name: i32) -> Option<&mut Vec<u8>> {
    Some(match name {
        IPV6_HOPOPTS => &mut h.hop,
        IPV6_RTHDRDSTOPTS => &mut h.dst0,
        IPV6_RTHDR => &mut h.routing,
        IPV6_DSTOPTS => &mut h.dst1,
        _ => return None,
    })
}

/// setsockopt(2) of these options. None: it is another one. Errors: EINVAL, EPERM.
pub(super) fn set(g: &mut SockGuard<'_>, name: i32, value: &[u8]) -> Option<Result<()>> {
    if let Some(bit) = rx_bit(name) {
        return Some(int(value).map(|on| set_told(&mut g.common, bit, on != 0)));
    }
    let mut tx = sticky(&g.common).cloned().unwrap_or_default();
    let header = slot(&mut tx, name)?;
    if name != IPV6_RTHDR && !g.stack.net_raw() {
        return Some(Err(Error::Perm));
    }
    if let Err(e) = check_sticky(name, value) {
        return Some(Err(e));
    }
    *header = value.to_vec();
    update(&mut g.common, tx);
    Some(Ok(()))
}

fn set_told(c: &mut SockCommon, bit: u8, on: bool) {
    let told = &mut c.ip_more_mut().rx_headers;
    *told = *told & !bit | if on { bit } else { 0 };
    let any = *told != 0;
    c.ip_flags = c.ip_flags & !ip_flag::HEADERS6 | if any { ip_flag::HEADERS6 } else { 0 };
}

/// These headers are sent from now on; a routing header changes the way (ipv6_update_options).
pub(super) fn update(c: &mut SockCommon, tx: TxHeaders) {
    c.ip_more_mut().headers = (!tx.is_empty()).then(|| Arc::new(tx));
    c.dst = None;
}

/// The headers that a socket sends with each packet.
fn sticky(c: &SockCommon) -> Option<&TxHeaders> {
    c.ip_more.as_ref()?.headers.as_deref()
}

/// Whether setsockopt of `name` may change how much room the headers of a packet take.
pub(crate) fn changes_room(level: i32, name: i32) -> bool {
    level == libc::SOL_IPV6
        && matches!(name, IPV6_HOPOPTS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR | IPV6_DSTOPTS | IPV6_2292PKTOPTIONS)
}

/// getsockopt(2) of these options.
pub(super) fn get(g: &SockGuard<'_>, name: i32, value: &mut [u8]) -> Option<Result<usize>> {
    if let Some(bit) = rx_bit(name) {
        let on = g.common.ip_more.as_ref().is_some_and(|m| m.rx_headers & bit != 0);
        return Some(Ok(put(value, &i32::from(on).to_ne_bytes())));
    }
    let mut tx = sticky(&g.common).cloned().unwrap_or_default();
    slot(&mut tx, name).map(|header| Ok(put(value, header)))
}

/// Bytes of a header, by its second byte.
fn header_len(h: &[u8]) -> usize {
    (usize::from(h.get(1).copied().unwrap_or(0)) + 1) * 8
}

/// EINVAL: not the bytes of a header, or a routing header of a type that hosts do not send (RFC 5095). No bytes remove
/// a header.
fn check_sticky(name: i32, h: &[u8]) -> Result<()> {
    if h.is_empty() {
        return Ok(());
    }
    let fits = h.len() >= 8 && h.len().is_multiple_of(8) && h.len() <= MAX_HEADER && header_len(h) <= h.len();
    let routing = || match h[2] {
        ROUTING_SEGMENTS => segments_ok(h),
        ROUTING_MOBILE => h[1] == 2 && h[3] == 1,
        _ => false,
    };
    if fits && (name != IPV6_RTHDR || routing()) { Ok(()) } else { Err(Error::Inval) }
}

/// Whether a segment routing header is whole: its entries lie within it, and so does the next segment; what follows
/// them are objects of a type, a length and as many bytes (seg6_validate_srh, which knows no Pad1).
fn segments_ok(h: &[u8]) -> bool {
    let (len, left, last) = (header_len(h), usize::from(h[3]), usize::from(h[4]));
    let entries = 8 + 16 * (last + 1);
    if len != h.len() || left > last || entries > len {
        return false;
    }
    let mut rest = &h[entries..];
    while let [_, n, behind @ ..] = rest {
        let Some(next) = behind.get(usize::from(*n)..) else { return false };
        rest = next;
    }
    rest.is_empty()
}

/// What the control messages of one call put in front of its packet; None: none of them, and the sticky ones are sent.
/// EPERM; EINVAL: a header that is too short, too long or there already, or a routing header of another type than 2.
pub(super) fn of_call(stack: &Stack, control: &[Control]) -> Result<Option<Arc<TxHeaders>>> {
    let mut tx = TxHeaders::default();
    for item in control {
        let Control::Other { level: libc::SOL_IPV6, ty, data } = item else { continue };
        let name = match *ty {
            IPV6_2292HOPOPTS => IPV6_HOPOPTS,
            IPV6_2292DSTOPTS => IPV6_DSTOPTS,
            IPV6_2292RTHDR => IPV6_RTHDR,
            name => name,
        };
        let Some(header) = slot(&mut tx, name) else { continue };
        let len = header_len(data);
        let twice = !header.is_empty() && (name == IPV6_HOPOPTS || *ty == IPV6_2292DSTOPTS);
        if data.len() < len || data.len() < 2 || twice {
            return Err(Error::Inval);
        }
        if name == IPV6_RTHDR && (data[2] != ROUTING_MOBILE || data[1] != 2 || data[3] != 1) {
            return Err(Error::Inval);
        }
        if name != IPV6_RTHDR && !stack.net_raw() {
            return Err(Error::Perm);
        }
        *header = data[..len].to_vec();
        if *ty == IPV6_2292RTHDR && !tx.dst1.is_empty() {
            tx.dst0 = std::mem::take(&mut tx.dst1);
        }
    }
    Ok((!tx.is_empty()).then(|| Arc::new(tx)))
}

/// Whether a control message to send is one of [`of_call`]'s.
pub(super) fn is_header(level: i32, ty: i32) -> bool {
    level == libc::SOL_IPV6
        && matches!(
            ty,
            IPV6_HOPOPTS
                | IPV6_DSTOPTS
                | IPV6_RTHDRDSTOPTS
                | IPV6_RTHDR
                | IPV6_2292HOPOPTS
                | IPV6_2292DSTOPTS
                | IPV6_2292RTHDR
        )
}

/// Where a packet to `to` goes first: with a routing header to its next segment.
pub(super) fn first_hop(tx: Option<&TxHeaders>, to: IpAddr) -> IpAddr {
    let Some(h) = tx.map(|t| &t.routing).filter(|h| h.len() >= 24 && to.is_ipv6()) else { return to };
    let at = if h[2] == ROUTING_SEGMENTS { 8 + 16 * usize::from(h[3]) } else { 8 };
    h.get(at..).and_then(|b| b.first_chunk::<16>()).map_or(to, |b| Ipv6Addr::from(*b).into())
}

/// Headers as they are sent, in front of one packet.
pub(crate) struct Chain {
    /// Number of the first header.
    pub(super) first: u8,
    /// The headers, each with its next one's number.
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes are in front of every fragment. Those behind a routing header are not; without one, also
    /// destination options are, as Linux has it (ip6_find_1stfragopt).
    unfragmentable: usize,
    /// Where in these the last one's next header number is.
    last: usize,
    /// The protocol behind the headers.
    pub(super) protocol: u8,
    /// Where the packet goes in the end, and whether that is in a routing header.
    pub(super) to: Ipv6Addr,
    /// See `to`.
    pub(super) is_routed: bool,
}

/// Bytes that these headers take.
pub(super) fn len(tx: &TxHeaders) -> usize {
    let dst0 = if tx.routing.is_empty() { 0 } else { tx.dst0.len() };
    tx.hop.len() + dst0 + tx.routing.len() + tx.dst1.len()
}

/// The headers of a stream's segments to `peer`.
pub(crate) fn of_stream(c: &SockCommon, peer: IpAddr) -> Option<Chain> {
    match (sticky(c), peer) {
        (Some(tx), IpAddr::V6(to)) => Some(Chain::new(tx, to, proto::TCP)),
        _ => None,
    }
}

impl Chain {
    /// The headers of a packet of `protocol` to `to`, which a routing header takes in: the packet itself then goes to
    /// [`first_hop`].
    pub(super) fn new(tx: &TxHeaders, to: Ipv6Addr, protocol: u8) -> Chain {
        let mut routing = tx.routing.clone();
        // The final destination is the first entry of a segment list, and the only one of type 2.
        if let Some(entry) = routing.get_mut(8..24) {
            entry.copy_from_slice(&to.octets());
        }
        let dst0 = if routing.is_empty() { &[][..] } else { &tx.dst0 };
        let is_routed = !routing.is_empty();
        let bytes = Vec::with_capacity(len(tx));
        let mut chain = Chain { first: protocol, bytes, unfragmentable: 0, last: 0, protocol, to, is_routed };
        let mut named_at = None;
        let parts = [(proto::HOPOPTS, &tx.hop[..]), (proto::DSTOPTS, dst0), (proto::ROUTING, &routing)];
        for (number, header) in parts.into_iter().chain([(proto::DSTOPTS, &tx.dst1[..])]) {
            if header.is_empty() {
                continue;
            }
            match named_at.replace(chain.bytes.len()) {
                Some(at) => chain.bytes[at] = number,
                None => chain.first = number,
            }
            chain.bytes.extend_from_slice(header);
            if number == proto::ROUTING || routing.is_empty() {
                (chain.unfragmentable, chain.last) = (chain.bytes.len(), chain.bytes.len() - header.len());
            }
        }
        if let Some(at) = named_at {
            chain.bytes[at] = protocol;
        }
        chain
    }

    /// The headers of each fragment, of which the last one names the fragment header; the number of the first header
    /// behind that; and the headers that are cut with the packet.
    pub(super) fn parts(&self) -> (Vec<u8>, u8, &[u8]) {
        let (front, rest) = self.bytes.split_at(self.unfragmentable);
        let mut front = front.to_vec();
        let next = std::mem::replace(&mut front[self.last], proto::FRAGMENT);
        (front, next, rest)
    }
}

/// Bytes of the extension headers in front of what a stream sends, as [`settle_room`] found them.
#[inline]
pub(crate) fn room_of(c: &SockCommon) -> u32 {
    c.ip_more.as_ref().map_or(0, |m| m.ext_hdr_len.into())
}

/// A stream's connection begins: its segments have the headers that are set by now.
pub(crate) fn settle_room(c: &mut SockCommon) {
    if let Some(m) = c.ip_more_if_any() {
        // Those that go with a routing header count without one, too.
        let all = |h: &TxHeaders| h.hop.len() + h.dst0.len() + h.routing.len() + h.dst1.len();
        m.ext_hdr_len = m.headers.as_deref().map_or(0, all) as u16;
    }
}

/// Its headers have changed. When the last one is taken away, the room stays, as on Linux (ipv6_update_options).
pub(crate) fn resettle_room(c: &mut SockCommon) {
    if sticky(c).is_some() {
        settle_room(c);
    }
}

/// Where the way of a socket's packets to `peer` begins: the peer, or the first hop of its routing header.
pub(crate) fn way_to(c: &SockCommon, peer: IpAddr) -> IpAddr {
    first_hop(sticky(c), peer)
}

/// The extension headers of a received packet, as a receiver is told of them.
pub(super) struct Received<'p> {
    headers: Vec<(u8, &'p [u8])>,
}

impl<'p> Received<'p> {
    /// `packet`: its bytes up to the upper layer.
    pub(super) fn of(packet: &'p [u8]) -> Received<'p> {
        Received { headers: walk(packet) }
    }

    fn last(&self, number: u8) -> Option<usize> {
        self.headers.iter().rposition(|h| h.0 == number)
    }

    /// Whether there is a header that a socket with these bits of [`rx`] is told of (ipv6_opt_accepted).
    pub(super) fn wanted(&self, bits: u8) -> bool {
        self.headers.iter().any(|(number, _)| match *number {
            proto::HOPOPTS => bits & (rx::HOPOPTS | rx::OLD_HOPOPTS) != 0,
            proto::DSTOPTS => bits & (rx::DSTOPTS | rx::OLD_DSTOPTS) != 0,
            proto::ROUTING => bits & (rx::RTHDR | rx::OLD_RTHDR) != 0,
            _ => false,
        })
    }

    /// The options of RFC 3542: each header, in the packet's order.
    pub(super) fn tell(&self, bits: u8, mut say: impl FnMut(i32, &[u8])) {
        for (number, h) in &self.headers {
            match *number {
                proto::HOPOPTS if bits & rx::HOPOPTS != 0 => say(IPV6_HOPOPTS, h),
                proto::DSTOPTS if bits & rx::DSTOPTS != 0 => say(IPV6_DSTOPTS, h),
                proto::ROUTING if bits & rx::RTHDR != 0 => say(IPV6_RTHDR, h),
                _ => {}
            }
        }
    }

    /// Those of RFC 2292: of each kind the last, where destination options before and behind the routing header are
    /// two.
    pub(super) fn tell_old(&self, bits: u8, mut say: impl FnMut(i32, &[u8])) {
        let routing = self.last(proto::ROUTING);
        let (before, behind) = self.headers.split_at(routing.unwrap_or(0));
        let dstopts = |part: &[(u8, &'p [u8])]| {
            part.iter().rev().find(|h| h.0 == proto::DSTOPTS && bits & rx::OLD_DSTOPTS != 0).map(|h| h.1)
        };
        if bits & rx::OLD_HOPOPTS != 0
            && let Some(at) = self.last(proto::HOPOPTS)
        {
            say(IPV6_2292HOPOPTS, self.headers[at].1);
        }
        if let Some(h) = dstopts(before) {
            say(IPV6_2292DSTOPTS, h);
        }
        if bits & rx::OLD_RTHDR != 0
            && let Some(at) = routing
        {
            say(IPV6_2292RTHDR, self.headers[at].1);
        }
        if let Some(h) = dstopts(behind) {
            say(IPV6_2292DSTOPTS, h);
        }
    }
}

/// The extension headers of a packet, each with its number. Input has checked that they fit; a hop-by-hop header stands
/// first.
fn walk(packet: &[u8]) -> Vec<(u8, &[u8])> {
    let mut out = Vec::new();
    let (mut next, mut at) = (packet.get(6).copied().unwrap_or(proto::NO_NEXT), ipv6::HEADER_LEN);
    while let Some(h) = packet.get(at..).filter(|h| h.len() >= 8) {
        let len = if next == proto::FRAGMENT { ipv6::FRAGMENT_HEADER_LEN } else { header_len(h) };
        let Some(whole) = h.get(..len) else { break };
        out.push((next, whole));
        (next, at) = (h[0], at + len);
    }
    out
}

#[cfg(test)]
mod tests;
