//! All lookup tables of a stack's transports.

use crate::tcp::lookup::TcpTables;

/// Lookup tables of connections, listeners and ports.
#[derive(Default)]
pub struct Tables {
    /// TCP's.
    pub tcp: TcpTables,
}

impl Tables {
    /// Empty tables.
    pub fn new() -> Tables {
        Tables::default()
    }
}
