//! Closing.
use super::tcb::Cx;
use super::{set_state, state::State};
use std::time::Duration;
/// Ends.
pub fn done(cx: &mut Cx<'_>) {
    set_state(cx, State::Close);
    super::timer::clear_xmit_timers(cx);
}
/// Orphans.
pub fn check_oom(_cx: &Cx<'_>, _shift: u32) -> bool {
    false
}
/// FIN_WAIT2 time.
pub fn fin_time(cx: &Cx<'_>) -> Duration {
    cx.stack.sysctl.tcp_fin_timeout()
}
