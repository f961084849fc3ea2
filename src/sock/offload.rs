//! What a protocol that is plugged in does for packets that stand for several of its own: the headers of the pieces
//! where a device cannot carry one whole, and the joining of received ones. Above: `device::gso`, which cuts and joins,
//! and does the IP headers and the checksums. Below: the protocol. Linux: struct net_offload (gso_segment,
//! gro_receive).

use crate::base::error::Result;
use crate::sock::Sock;
use crate::sock::skb::Skb;
use std::fmt::{Debug, Formatter};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// A protocol's part in segmentation and coalescing. Both are called in any context, with any sock owned or none: they
/// only compute.
pub trait Offload: Send + Sync {
    /// Makes the header of a piece (`gso_segment`). An error loses the piece and those behind it.
    fn segment(&self, piece: &mut Piece<'_>) -> Result<()>;

    /// Whether `skb`, which begins with the protocol's header and whose checksum it verifies, may be held for others to
    /// be joined to it: the length of its header. None: it is passed on as it is (`gro_receive`). Default: none may.
    fn may_hold(&self, skb: &mut Skb, ends: (IpAddr, IpAddr)) -> Option<usize> {
        let _ = (skb, ends);
        None
    }

    /// Whether `next`, which may be held itself, continues a held packet: then `header` becomes that of both
    /// (`gro_receive`). Default: none does.
    fn join(&self, header: &mut [u8], held: usize, next: &mut Skb, ends: (IpAddr, IpAddr)) -> Join {
        let _ = (header, held, next, ends);
        Join::No
    }
}

impl Debug for dyn Offload {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offload")
    }
}

/// What becomes of a packet beside a held one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// It is not joined.
    No,
    /// It is joined.
    Joined,
    /// It is joined, and nothing comes behind it.
    Last,
}

/// A piece of a super-packet, whose header is made.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The protocol's header, as the super-packet has it.
    pub header: &'a mut [u8],
    /// Its number, from 0.
    pub index: u16,
    /// Payload bytes of the pieces before it.
    pub offset: usize,
    /// Its own payload bytes.
    pub len: usize,
    /// No piece follows.
    pub last: bool,
    /// Source and destination address.
    pub ends: (IpAddr, IpAddr),
    /// What the checksum begins with, of a super-packet whose checksum is open: the sum of the piece's pseudo-header,
    /// unless the protocol changes it.
    pub sum: u32,
    /// The sock that sent it, as long as the super-packet is charged to it.
    pub sock: Option<&'a Arc<Sock>>,
}

/// How a super-packet of a protocol that is plugged in is cut.
#[derive(Debug, Clone)]
pub struct Pieces {
    /// Bytes of the protocol's header in front of the payload, at most [`MAX_HEADER`].
    pub header: u16,
    /// Where the pieces' checksum begins, counted from the protocol's header, and the field, counted from there. None:
    /// the stack computes none.
    pub csum: Option<(u16, u16)>,
    /// The protocol. It is not kept: a packet of its sock keeps that, and a received one may be the protocol's to keep.
    pub offload: Weak<dyn Offload>,
}

/// Longest header of a super-packet: a packet's head without what IP and the link need.
pub const MAX_HEADER: usize = 52;
