//! All lookup tables of a stack's transports.

/// Lookup tables of connections, listeners and ports.
#[derive(Default)]
pub struct Tables {}

impl Tables {
    /// Empty tables.
    pub fn new() -> Tables {
        Tables::default()
    }
}
