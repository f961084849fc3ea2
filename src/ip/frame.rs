//! The link header of a packet whose hardware address is known. Above: `neigh`, which finds that address, and what
//! sends to a group. Below: `device::netdev`. Linux: dev_hard_header, eth_header.

use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::device::LinkType;
use crate::device::netdev::{NetDev, NetXmit};
use crate::sock::skb::{L3, Skb};
use crate::stack::Stack;
use crate::wire::ether::{self, MacAddr, ethertype};

/// Puts the Ethernet header in front of a packet and transmits it.
pub(super) fn frame(
    stack: &Stack,
    dev: &NetDev,
    own: MacAddr,
    to: MacAddr,
    mut skb: Skb,
    now: Instant,
) -> Result<NetXmit> {
    let ty = if skb.l3 == L3::V4 { ethertype::IPV4 } else { ethertype::IPV6 };
    let Some(h) = skb.push(ether::HEADER_LEN) else { return Err(Error::NoBufs) };
    ether::emit(h, to, own, ty);
    dev.xmit(stack, now, skb)
}

/// Sends a packet to a hardware address that is known; on a link without such addresses as it is.
pub(super) fn send_frame(stack: &Stack, dev: &NetDev, to: MacAddr, skb: Skb, now: Instant) -> Result<NetXmit> {
    match dev.caps().link {
        LinkType::Ip => dev.xmit(stack, now, skb),
        LinkType::Ethernet(own) => frame(stack, dev, own, to, skb, now),
    }
}
