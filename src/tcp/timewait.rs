//! TIME-WAIT.
/// A connection in TIME-WAIT or orphaned FIN-WAIT-2.
#[derive(Debug)]
pub struct TimeWait;
/// Time wait.
pub fn time_wait(cx: &mut super::tcb::Cx<'_>, _s: super::state::State, _t: std::time::Duration) {
    super::close::done(cx);
}
