//! Receive buffer.
use super::tcb::Cx;
/// Write space.
pub fn check_space(_cx: &mut Cx<'_>) {}
/// Peer's MSS estimate.
pub fn initialize_rcv_mss(cx: &mut Cx<'_>) {
    cx.tp.ack.rcv_mss = cx.tp.advmss.min(536);
}
/// The program has read.
pub fn rcv_space_adjust(_cx: &mut Cx<'_>) {}
