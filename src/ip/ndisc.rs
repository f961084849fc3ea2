//! Sends the messages of neighbour discovery. What they say is decided by `neigh` (solicitations and advertisements)
//! and `autoconf` (router solicitations, duplicate address detection); what arrives goes to those from `icmpv6`. Below:
//! `frame`. Linux: net/ipv6/ndisc.c. RFC 4861.

use super::frame::send_frame;
use super::icmp_mib;
use crate::base::env::Instant;
use crate::counters::Mib;
use crate::device::netdev::NetDev;
use crate::sock::skb::{L3, Skb};
use crate::stack::Stack;
use crate::wire::ether::MacAddr;
use crate::wire::icmpv6::{self, Message};
use crate::wire::ipv6::{self, Ipv6Repr};
use crate::wire::proto;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Sends a message from `src` to `dst`, whose hardware address is `to`: with hop limit 255, which shows the receiver
/// that no router has passed it on, and without asking the route tables (ndisc_send_skb).
pub(super) fn send(
    stack: &Arc<Stack>,
    dev: &Arc<NetDev>,
    msg: &Message<'_>,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    to: MacAddr,
    now: Instant,
) {
    if stack.sysctl.ip6_disable_ipv6() {
        return;
    }
    let mut bytes = vec![0; msg.len()];
    msg.emit(&mut bytes, src, dst);
    let ty = bytes[0];
    let mut skb = Skb::from_slice(&bytes);
    let Some(h) = skb.push(ipv6::HEADER_LEN) else { return };
    let repr = Ipv6Repr { hop_limit: icmpv6::ND_HOP_LIMIT, ..Ipv6Repr::new(src, dst, proto::ICMPV6, bytes.len()) };
    repr.emit(h);
    skb.l3 = L3::V6;
    stack.mib.inc(Mib::Ip6OutRequests);
    stack.mib.add(Mib::Ip6OutOctets, (ipv6::HEADER_LEN + bytes.len()) as u64);
    icmp_mib::count_out_v6(stack, ty);
    // If a full device drops it, the solicitation is repeated.
    let _ = send_frame(stack, dev, to, skb, now);
}
