//! Listener.
/// Listener's queues.
#[derive(Debug, Default)]
pub struct Listener;
