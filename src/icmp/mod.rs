mod table;
use crate::ip::*;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use std::sync::Arc;
pub use table::Table;
pub(crate) fn error(_stack: &Arc<Stack>, _e: &IcmpError<'_>) {}
pub(crate) fn receive(_stack: &Arc<Stack>, _skb: Skb, _i: &PacketInfo) -> bool {
    false
}
