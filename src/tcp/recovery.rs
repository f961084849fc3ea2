//! Recovery.
use super::tcb::{CaState, Cx};
/// Local congestion.
pub fn enter_cwr(cx: &mut Cx<'_>) {
    cx.tp.ca_state = CaState::Cwr;
}
/// Timeout.
pub fn enter_loss(cx: &mut Cx<'_>) {
    cx.tp.ca_state = CaState::Loss;
}
/// Smaller MTU.
pub fn simple_retransmit(cx: &mut Cx<'_>) {
    super::output::xmit_retransmit_queue(cx);
}
/// RACK timer.
pub fn rack_reo_timeout(cx: &mut Cx<'_>) {
    super::timer::rearm_rto(cx);
}
