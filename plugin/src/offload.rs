//! Super-packets: what a protocol does for packets that stand for several of its own, sent and received. Sending:
//! [`set_gso`](crate::sock::OwnedSock::set_gso), and [`segment`](crate::proto::ProtoMore::segment) for devices that
//! cannot carry one whole. Receiving: [`gso_size`](crate::skb::Packet::gso_size), and
//! [`merge`](crate::proto::ProtoMore::merge).

pub use crate::abi::offload::{Merge, Piece};

/// What [`merge`](crate::proto::ProtoMore::merge) returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Merged {
    /// The packet does not continue the other.
    No = 0,
    /// It does, and `header` is that of both.
    Yes = 1,
    /// It does, and nothing may follow.
    Last = 2,
}
