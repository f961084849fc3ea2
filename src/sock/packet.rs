//! What IP tells a protocol of a packet that arrived: its addresses and header fields, or the ICMP error that quotes
//! one of ours. Above: `IpHandler`, packets in a receive queue. Filled by: `ip::input`, `ip::icmp`. Linux: the
//! arguments of net_protocol.handler and net_protocol.err_handler, struct inet_skb_parm.

use crate::base::env::Instant;
use crate::base::error::Error;
use std::net::IpAddr;

/// Header fields of a received datagram, for the protocol that receives it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PacketInfo {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number (the upper layer's, after extension headers).
    pub protocol: u8,
    /// TOS or traffic class; ECN in the low two bits.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Interface it arrived on.
    pub ifindex: u32,
    /// The destination is a broadcast or multicast address, or the frame was link-layer broadcast or multicast.
    pub not_unicast: bool,
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Time of the softirq run.
    pub now: Instant,
}

impl PacketInfo {
    /// An IP header made from what IP passes on, in front of `len` bytes. Identification, flags and options are zero.
    pub(crate) fn header(&self, len: usize) -> Vec<u8> {
        let mut v = Vec::with_capacity(40);
        match (self.src, self.dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                v.extend_from_slice(&[0x45, self.tos]);
                v.extend_from_slice(&((len + 20) as u16).to_be_bytes());
                v.extend_from_slice(&[0, 0, 0, 0, self.ttl, self.protocol, 0, 0]);
                v.extend_from_slice(&s.octets());
                v.extend_from_slice(&d.octets());
                let sum = crate::wire::checksum::finish(crate::wire::checksum::sum(&v, 0));
                v[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let word = 6 << 28 | u32::from(self.tos) << 20 | (self.flow_label & 0xf_ffff);
                v.extend_from_slice(&word.to_be_bytes());
                v.extend_from_slice(&(len as u16).to_be_bytes());
                v.extend_from_slice(&[self.protocol, self.ttl]);
                v.extend_from_slice(&s.octets());
                v.extend_from_slice(&d.octets());
            }
            _ => {}
        }
        v
    }
}

/// An ICMP error that quotes a packet of ours.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct IcmpError<'p> {
    /// Source of the ICMP message.
    pub reporter: IpAddr,
    /// Source of the quoted packet (ours).
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// IP protocol number quoted.
    pub protocol: u8,
    /// ICMP type as on the wire, of the family of `src`.
    pub ty: u8,
    /// ICMP code.
    pub code: u8,
    /// MTU of fragmentation-needed and packet-too-big; pointer of parameter-problem; else 0.
    pub info: u32,
    /// The errno of the ICMP error (icmp_err_convert).
    pub errno: Error,
    /// Whether it is a hard error, which a connected socket gets even without IP_RECVERR.
    pub fatal: bool,
    /// Transport header and the bytes after it, as far as quoted: at least 8 bytes.
    pub quoted: &'p [u8],
    /// Where in `quoted` the message's extension begins (RFC 4884 §7); 0: it has none.
    pub(crate) extension: usize,
    /// Traffic class and flow label of the quoted packet; 0 over IPv4.
    pub(crate) flowinfo: u32,
    /// Flow label of the ICMP message; 0 over IPv4.
    pub(crate) flow_label: u32,
    /// Interface the ICMP message arrived on.
    pub ifindex: u32,
    /// TTL or hop limit of the ICMP message.
    pub ttl: u8,
    /// Its TOS or traffic class.
    pub tos: u8,
    /// Time of the softirq run.
    pub now: Instant,
}
