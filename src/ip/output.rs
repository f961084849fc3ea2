//! IP output: from a transport's segment to the device. Above: `tcp::output`, UDP, ICMP, raw. Below: `neigh`, `netdev`.

use super::Dst;
use crate::error::Result;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use std::net::IpAddr;
use std::sync::Arc;

/// What the IP header needs to know.
#[derive(Debug, Clone, Copy)]
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
    /// Don't fragment: set DF (IPv4) and answer EMSGSIZE above the path MTU instead of cutting.
    pub df: bool,
    /// IPv6 flow label.
    pub flow_label: u32,
}

/// Puts the IP header in front and sends. `skb` starts with the transport header; its checksum is complete or
/// `Csum::Partial` with `start` relative to the transport header (made relative to the network header here). Super-packets
/// are cut in software where the device cannot. Errors: ENOBUFS local congestion (the device's queue is full), EMSGSIZE.
pub fn xmit(_stack: &Arc<Stack>, _dst: &Arc<Dst>, _tx: &IpTx, _skb: Skb) -> Result<()> {
    Ok(())
}
