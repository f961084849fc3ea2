//! Segments of a connection.
use super::tcb::Cx;
use crate::counters::DropReason;
use crate::sock::skb::Skb;
/// What became of it.
pub enum Verdict {
    /// Done.
    Ok,
    /// The caller resets the sender.
    Reset(DropReason),
}
/// Fast path.
pub fn rcv_established(_cx: &mut Cx<'_>, _skb: Skb) {}
/// Any state.
pub fn rcv_state_process(_cx: &mut Cx<'_>, _skb: Skb) -> Verdict {
    Verdict::Reset(DropReason::TcpClose)
}
/// Header prediction.
pub fn fast_path_check(_cx: &mut Cx<'_>) {}
