//! TIME-WAIT.
/// A connection in TIME-WAIT or orphaned FIN-WAIT-2.
#[derive(Debug)]
pub struct TimeWait;
